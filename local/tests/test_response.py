"""Incident response against the local Azure: each command in a process of its own, from the alert to the undo."""

import hashlib
import json
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from azure.storage.blob import AccessPolicy

import AzureStorage as az
from local.azure import LocalAzure
from local.xsoar.server import Run, Server

from .conftest import change, items, succeed

ACCOUNT, OTHER = "contosobackups", "contosoweb"
CONTAINER, EVIDENCE = "invoices", "evidence-case"
OWN_IP = "203.0.113.7"


@pytest.fixture(autouse=True)
def clean(azure: LocalAzure) -> Iterator[None]:
    """Every account and container as it was found."""
    arm = azure.arm
    before = {name: json.loads(json.dumps(account)) for name, account in arm.accounts.items()}
    services = {name: json.loads(json.dumps(service)) for name, service in arm.services.items()}
    yield
    arm.accounts.update(before)
    arm.services.update(services)
    arm.deleted.clear()
    arm.clear()
    azure.blobs.clear()
    for name in (ACCOUNT, OTHER):
        for item in azure.azurite.containers(name, arm.keys[name][0]):
            azure.azurite.delete(name, arm.keys[name][0], item["name"])


def run(server: Server, name: str, **args: str) -> Run:
    return succeed(
        server.run("app", f"azure-storage-{name}", {"account_name": ACCOUNT, **args}, follow=True, interval=0)
    )


def fail(server: Server, name: str, **args: str) -> str:
    return server.run("app", f"azure-storage-{name}", {"account_name": ACCOUNT, **args}).error


def put(server: Server, name: str, text: str = "hello", container: str = CONTAINER) -> None:
    run(server, "blob-containers-create", container_name=container)
    run(server, "blob-put", container_name=container, blob_name=name, text=text)


def test_a_blob_url_is_all_it_takes_to_contain_and_undo(azure: LocalAzure, server: Server) -> None:
    server.instances.save("app", azure.instance("Client Credentials", subscription_id="", resource_group_name=""))
    url = f"https://{azure.blob_host}/{OTHER}/{CONTAINER}/a.html?sv=2022-11-02&sig=MARKERSIGNATURE"
    found = succeed(server.run("app", "azure-storage-account-find", {"blob_url": url}))
    assert items(found, "StorageAccount")[0]["name"] == OTHER
    before = json.loads(json.dumps(azure.arm.accounts[OTHER]["properties"]))
    keys = list(azure.arm.keys[OTHER])
    isolated = succeed(server.run("app", "azure-storage-account-isolate", {"blob_url": url, "own_ip": OWN_IP}))
    properties = azure.arm.accounts[OTHER]["properties"]
    assert properties["allowBlobPublicAccess"] is False
    assert properties["allowSharedKeyAccess"] is False
    assert properties["networkAcls"]["defaultAction"] == "Deny"
    assert set(keys).isdisjoint(azure.arm.keys[OTHER])
    assert items(isolated, "Isolation")[0]["complete"] is True
    assert not [key for key in [*keys, *azure.arm.keys[OTHER]] if key in json.dumps(isolated.context) + isolated.text]
    name, *words = change(isolated)["undo"][1:].split()
    restored = succeed(server.run("app", name, dict(word.partition("=")[::2] for word in words)))
    assert change(restored)["changed"] is True
    for key in ("allowBlobPublicAccess", "networkAcls"):
        assert azure.arm.accounts[OTHER]["properties"][key] == before[key]
    assert "MARKERSIGNATURE" not in json.dumps([run.entries for run in (found, isolated, restored)])


def test_locks_stand_in_the_way_and_say_so(azure: LocalAzure, server: Server) -> None:
    run(server, "account-lock-set", level="ReadOnly", notes="case 1234")
    assert [lock["name"] for lock in items(run(server, "account-lock-list"), "Lock")] == ["cortex-xsoar"]
    for name, args in (
        ("account-update", {"allow_shared_key_access": "false"}),
        ("account-key-rotate", {"key": "key1"}),
    ):
        error = fail(server, name, **args)
        assert "ScopeLocked" in error
        assert "account-lock-remove" in error
    run(server, "account-lock-remove", lock_name="cortex-xsoar")
    assert change(run(server, "account-update", allow_shared_key_access="false"))["changed"] is True


def test_an_isolation_under_a_lock_changes_nothing_and_is_an_error(azure: LocalAzure, server: Server) -> None:
    run(server, "account-lock-set", level="ReadOnly")
    assert "ScopeLocked" in fail(server, "account-isolate", own_ip=OWN_IP)
    run(server, "account-lock-remove", lock_name="cortex-xsoar")
    assert items(run(server, "account-isolate", own_ip=OWN_IP), "Isolation")[0]["complete"] is True


def test_keys_rules_and_logs(azure: LocalAzure, server: Server) -> None:
    old = list(azure.arm.keys[ACCOUNT])
    run(server, "account-key-rotate", key="key2")
    assert azure.arm.keys[ACCOUNT][0] == old[0]
    assert azure.arm.keys[ACCOUNT][1] != old[1]
    shown = items(run(server, "account-key-list", show_values="true"), "StorageAccountKey")
    assert [row["value"] for row in shown] == azure.arm.keys[ACCOUNT]
    run(server, "account-delegation-keys-revoke")
    assert azure.arm.revoked[ACCOUNT]
    run(server, "account-network-rule-add", ip_rules="198.51.100.0/24,192.0.2.1")
    run(server, "account-network-rule-remove", ip_rules="192.0.2.1")
    assert [rule["value"] for rule in azure.arm.accounts[ACCOUNT]["properties"]["networkAcls"]["ipRules"]] == [
        "198.51.100.0/24"
    ]
    rows = items(run(server, "account-activity-list", operation="regeneratekey"), "Activity")
    assert rows[0]["status"] == "Succeeded"
    workspace = f"{azure.arm.accounts[ACCOUNT]['id'].partition('/providers')[0]}/providers/Microsoft.OperationalInsights/workspaces/soc"
    assert "Not logged" in run(server, "account-logging-get").text
    run(server, "account-logging-set", workspace_id=workspace)
    assert "Not logged" not in run(server, "account-logging-get").text


def test_a_container_is_frozen_and_set_free(azure: LocalAzure, server: Server) -> None:
    put(server, "a.txt")
    here = {"container_name": CONTAINER}
    run(server, "container-legal-hold-set", **here, tags="case1234")
    assert change(run(server, "container-legal-hold-set", **here, tags="CASE1234"))["changed"] is False
    assert fail(server, "blob-container-delete", **here)
    run(server, "container-legal-hold-clear", **here, tags="case1234")
    run(server, "container-immutability-set", **here, days="7")
    assert items(run(server, "container-immutability-get", **here), "ImmutabilityPolicy")[0]["state"] == "Unlocked"
    run(server, "container-immutability-delete", **here)
    run(server, "container-immutability-set", **here, days="1")
    run(server, "container-immutability-lock", **here, confirm=CONTAINER)
    assert change(run(server, "container-immutability-set", **here, days="2"))["changed"] is True
    assert "is locked and can't be removed" in fail(server, "container-immutability-delete", **here)


def test_a_container_lease_keeps_it(azure: LocalAzure, server: Server) -> None:
    put(server, "a.txt")
    here = {"container_name": CONTAINER}
    leased = run(server, "container-lease", **here, action="acquire")
    lease_id = items(leased, "BlobContainer")[0]["leaseId"]
    assert fail(server, "blob-container-delete", **here)
    assert f"lease_id={lease_id}" in change(leased)["undo"]
    run(server, "container-lease", **here, action="release", lease_id=lease_id)
    run(server, "blob-container-delete", **here)


def test_stored_policies_are_revoked_one_by_one(azure: LocalAzure, server: Server) -> None:
    put(server, "a.txt")
    # Azurite takes no token for access policies, so the instance has the account's key.
    key = {"identifier": ACCOUNT, "password": azure.arm.keys[ACCOUNT][0]}
    server.instances.save("app", azure.instance("Client Credentials", storage_credentials=key))
    client = azure.azurite._service(ACCOUNT, azure.arm.keys[ACCOUNT][0]).get_container_client(CONTAINER)
    client.set_container_access_policy({name: AccessPolicy(permission="r") for name in ("partners", "leaked")})
    here = {"container_name": CONTAINER}
    assert len(items(run(server, "container-policy-list", **here), "AccessPolicy")) == 2
    run(server, "container-policy-revoke", **here, policy="leaked")
    assert [row["policy"] for row in items(run(server, "container-policy-list", **here), "AccessPolicy")] == [
        "partners"
    ]
    assert change(run(server, "container-policy-revoke", **here, policy="leaked"))["changed"] is False


def test_a_malicious_blob_is_quarantined(azure: LocalAzure, server: Server) -> None:
    put(server, "up/bad file#1.exe", "malware")
    run(server, "blob-containers-create", container_name=EVIDENCE)
    args = {
        "container_name": CONTAINER,
        "evidence_container_name": EVIDENCE,
        "case_id": "case-1",
        "delete_source": "true",
    }
    found = run(server, "blob-quarantine", **args, blob_name="up/bad file#1.exe")
    (row,) = items(found, "Quarantine")
    assert row["evidence"]["sha256"] == hashlib.sha256(b"malware").hexdigest()
    assert row["protection"].startswith("snapshot")
    assert row["sourceDeleted"] is True
    assert "BlobNotFound" in fail(server, "blob-get", container_name=CONTAINER, blob_name="up/bad file#1.exe")
    read = run(server, "blob-get", container_name=EVIDENCE, blob_name=row["evidence"]["name"])
    assert Path(read.files[0]).read_bytes() == b"malware"
    again = run(server, "blob-quarantine", **args, blob_name="up/bad file#1.exe")
    assert change(again)["changed"] is False
    azure.blobs.immutable_containers.add((ACCOUNT, EVIDENCE))
    put(server, "other.exe")
    held = run(server, "blob-quarantine", **args, blob_name="other.exe")
    assert items(held, "Quarantine")[0]["protection"] == "legal hold"


def test_blobs_are_quarantined_by_prefix_with_one_record(azure: LocalAzure, server: Server) -> None:
    for name in ("up/a.exe", "up/b.exe", "other.txt"):
        put(server, name, f"malware {name}")
    run(server, "blob-containers-create", container_name=EVIDENCE)
    args = {"container_name": CONTAINER, "evidence_container_name": EVIDENCE, "case_id": "case-1", "prefix": "up/"}
    found = run(server, "blob-quarantine", **args, delete_source="true")
    record = json.loads(found.files[0].read_text())
    assert [row["source"]["name"] for row in record["records"]] == ["up/a.exe", "up/b.exe"]
    assert all(row["sourceDeleted"] and row["evidence"]["sha256"] for row in record["records"])
    left = items(run(server, "blob-list", container_name=CONTAINER), "Blob")
    assert [row["name"] for row in left] == ["other.txt"]
    again = run(server, "blob-quarantine", **args, delete_source="true")
    assert change(again)["changed"] is False
    assert json.loads(again.files[0].read_text())["records"][0]["events"] == record["records"][0]["events"]


@pytest.mark.parametrize("versioning", ["true", "false"])
def test_a_container_comes_back_as_of_a_moment(azure: LocalAzure, server: Server, versioning: str) -> None:
    keeping = {"delete_retention_policy_enabled": "true", "delete_retention_policy_days": "14"}
    run(server, "blob-service-properties-set", **keeping, versioning=versioning)
    here = {"container_name": CONTAINER}
    for name in ("changed.txt", "deleted.txt", "kept.txt"):
        put(server, name, "good")
    good = time.time() + 1  # times of blobs are in whole seconds
    while time.time() < good + 1:
        run(server, "blob-list", **here)
    run(server, "blob-put", **here, blob_name="changed.txt", text="encrypted", overwrite="true")
    run(server, "blob-delete", **here, blob_name="deleted.txt")
    put(server, "ransom.txt", "pay")
    moment = datetime.fromtimestamp(good, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    args = {**here, "time_to_restore": moment, "delete_newer": "true"}
    planned = change(run(server, "blob-versions-restore", **args, dry_run="true"))["after"]
    assert sum(planned.values()) == 3
    run(server, "blob-versions-restore", **args, confirm=CONTAINER)
    left = items(run(server, "blob-list", **here), "Blob")
    assert [(row["name"], row["size"]) for row in left] == [("changed.txt", 4), ("deleted.txt", 4), ("kept.txt", 4)]
    again = run(server, "blob-versions-restore", **args, confirm=CONTAINER)
    assert change(again)["changed"] is False


def test_containers_are_reached_with_an_account_key_alone(azure: LocalAzure, server: Server) -> None:
    key = {"identifier": ACCOUNT, "password": azure.arm.keys[ACCOUNT][0]}
    server.instances.save("app", azure.instance("Device Code", storage_credentials=key))
    made = run(server, "blob-containers-create", container_name="made-by-key")
    assert items(made, "BlobContainer")[0]["id"].endswith("/made-by-key")
    assert not [request for request in azure.requests if request.service == "arm"]
    listed = items(run(server, "blob-containers-list", prefix="made"), "BlobContainer")
    assert [(row["name"], row["properties"]["publicAccess"]) for row in listed] == [("made-by-key", "None")]
    assert change(run(server, "blob-container-delete", container_name="made-by-key"))["changed"] is True


def test_an_emptied_container_and_a_deleted_one_come_back(azure: LocalAzure, server: Server) -> None:
    run(
        server,
        "blob-service-properties-set",
        delete_retention_policy_enabled="true",
        delete_retention_policy_days="14",
        container_delete_retention_policy_enabled="true",
        container_delete_retention_policy_days="14",
    )
    put(server, "a.txt", "one")
    here = {"container_name": CONTAINER}
    run(server, "blob-delete", **here, blob_name="a.txt")
    assert change(run(server, "blob-undelete", **here, blob_name="a.txt"))["changed"] is True
    run(server, "blob-container-delete", **here)
    restored = run(server, "container-restore", **here)
    assert change(restored)["changed"] is True
    assert Path(run(server, "blob-get", **here, blob_name="a.txt").files[0]).read_bytes() == b"one"
    assert change(run(server, "container-restore", **here))["changed"] is False


def test_blobs_go_back_in_time(azure: LocalAzure, server: Server) -> None:
    azure.arm.polls = 2
    assert "its policy is off" in fail(server, "blob-ranges-restore", container_name=CONTAINER, time_to_restore="1m")
    run(
        server,
        "blob-service-properties-set",
        delete_retention_policy_enabled="true",
        delete_retention_policy_days="14",
        versioning="true",
        change_feed_enabled="true",
        restore_policy_enabled="true",
        restore_policy_days="7",
    )
    azure.arm.services[ACCOUNT]["restorePolicy"]["minRestoreTime"] = "2020-01-01T00:00:00.0000000Z"
    put(server, "a.txt", "one")
    azure.blobs.age(timedelta(minutes=2))
    run(server, "blob-delete", container_name=CONTAINER, blob_name="a.txt")
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - 60))
    found = run(server, "blob-ranges-restore", container_name=CONTAINER, time_to_restore=stamp)
    assert items(found, "BlobRestore")[0]["status"] == "Complete"
    assert Path(run(server, "blob-get", container_name=CONTAINER, blob_name="a.txt").files[0]).read_bytes() == b"one"


def test_deleting_an_account(azure: LocalAzure, server: Server) -> None:
    new = {"account_name": "evidence9", "sku": "Standard_LRS", "kind": "StorageV2", "location": "westeurope"}
    run(server, "account-create-update", **new)
    assert "confirm=evidence9" in fail(server, "account-delete", account_name="evidence9")
    assert change(run(server, "account-delete", account_name="evidence9", confirm="evidence9"))["changed"] is True
    assert "evidence9" not in azure.arm.accounts


def test_a_missing_permission_is_named(azure: LocalAzure, server: Server) -> None:
    azure.arm.forbidden.append(("POST", ".*/regenerateKey"))
    error = fail(server, "account-key-rotate", key="key1")
    assert "AuthorizationFailed" in error
    assert "The built-in role Storage Account Contributor includes it" in error


def test_posture_of_a_whole_tenant_says_how_long_it_takes(azure: LocalAzure, server: Server) -> None:
    """More accounts than are checked in depth without being asked for: counted first, then read a few at a time."""
    arm = azure.arm
    names = [f"many{number:02}" for number in range(az.DEEP_ACCOUNTS + 5)]
    for name in names:
        arm.accounts[name] = json.loads(json.dumps(arm.accounts[OTHER]).replace(OTHER, name))
        arm.services[name] = json.loads(json.dumps(arm.services[OTHER]).replace(OTHER, name))
    try:
        args = {"deep": "true", "checks": "delete-lock,blob-soft-delete"}
        found = succeed(server.run("app", "azure-storage-account-posture", args))
    finally:
        for name in names:
            del arm.accounts[name], arm.services[name]
    rows = {row["account"]: row for row in items(found, "PostureSummary")}
    assert rows.keys() == {*names, *arm.accounts}
    assert {row["subscriptionName"] for row in rows.values()} == {"Contoso Production"}
    text = " ".join(str(entry) for entry in found.entries)
    assert f"{len(rows)} accounts; reads per account: 2" in text
    assert {row["result"] for row in items(found, "Posture") if row["check"] == "blob-soft-delete"} <= {"fail", "unset"}


def test_posture_finds_names_and_mends(azure: LocalAzure, server: Server) -> None:
    put(server, "a.txt")
    azure.arm.forbidden.append(("GET", ".*/locks"))
    first = succeed(server.run("app", "azure-storage-account-posture", {"report": "csv"}, follow=True, interval=0))
    rows = {(row["account"], row["check"]): row for row in items(first, "Posture")}
    assert {account for account, _ in rows} >= {ACCOUNT, OTHER}
    assert {row["result"] for (_, check), row in rows.items() if check.endswith("lock")} == {"unknown"}
    assert first.files[0].read_text().startswith("id,accountId,check")
    for check in (
        "no-anonymous-blobs",
        "minimum-tls",
        "default-deny",
        "blob-soft-delete",
        "sas-lifetime",
    ):
        bad = rows[OTHER, check]
        assert bad["result"] in ("fail", "unset"), check
        for line in bad["fix"].splitlines():
            name, *words = line[1:].split()
            args = dict(word.partition("=")[::2] for word in words)
            if check in az.FIX_RISKS:
                asked = server.run("app", name, args).error
                assert f"confirm={OTHER}" in asked, asked
                args["confirm"] = OTHER
            succeed(server.run("app", name, args))
    again = run(server, "account-posture", account_name=OTHER, include_passed="true")
    after = {row["check"]: row["result"] for row in items(again, "Posture")}
    assert {after["no-anonymous-blobs"], after["minimum-tls"], after["default-deny"], after["blob-soft-delete"]} == {
        "pass"
    }
    assert items(again, "PostureSummary")[0]["account"] == OTHER
