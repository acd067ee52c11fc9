"""Who can reach an account: probed as a stranger, and told by triage, against the local Azure."""

from typing import Any

from local.azure import LocalAzure
from local.azure.arm import roles
from local.xsoar.lines import parse_line
from local.xsoar.server import Run, Server

from .conftest import change, items, succeed

ACCOUNT, CONTAINER = "contosoweb", "leaflets"
MALLORY = "0d15ea5e-1111-4222-8333-444455556666"


def run(server: Server, name: str, **args: str) -> Run:
    return succeed(server.run("app", f"azure-storage-{name}", {"account_name": ACCOUNT, **args}))


def put_public(server: Server) -> None:
    run(server, "account-update", allow_blob_public_access="true")
    run(server, "blob-containers-create", container_name=CONTAINER, public_access="Container")
    run(server, "blob-put", container_name=CONTAINER, blob_name="a.txt", text="hello", overwrite="true")


def states(found: Run) -> dict[str, str]:
    return {row["target"]: row["state"] for row in items(found, "Exposure")}


def test_a_probe_before_and_after_containment(azure: LocalAzure, server: Server) -> None:
    put_public(server)
    azure.requests.clear()
    before = run(server, "exposure-probe", container_name=CONTAINER, blob_name="a.txt")
    assert states(before)["blob"] == "open"
    assert states(before)["container listing"] == "open"
    assert states(before)["account containers"] == "closed"
    run(server, "blob-containers-update", container_name=CONTAINER, public_access="None")
    after = run(server, "exposure-probe", container_name=CONTAINER, blob_name="a.txt")
    assert {"open"}.isdisjoint(states(after).values())
    assert states(after)["blob"] == "closed"
    sas = run(server, "sas-create", container_name=CONTAINER, permissions="rl", signed_by="account_key")
    url = items(sas, "Sas")[0]["url"]
    with_sas = run(server, "exposure-probe", container_name=CONTAINER, blob_name="a.txt", sas=url)
    assert states(with_sas)["blob"] == "open"
    assert url.partition("sig=")[2] not in with_sas.text


def test_a_triage_from_the_url_of_an_alert(azure: LocalAzure, server: Server) -> None:
    put_public(server)
    url = f"https://{azure.blob_host}/{ACCOUNT}/{CONTAINER}/a.txt?sv=2022-11-02&sr=b&sp=r&sig=MARKERSIGNATURE"
    found = succeed(server.run("app", "azure-storage-triage", {"blob_url": url}))
    facts: dict[str, Any] = items(found, "Triage")[0]
    assert (facts["account"], facts["container"], facts["blob"]) == (ACCOUNT, CONTAINER, "a.txt")
    assert facts["anonymous"]["state"] == "open"
    assert items(found, "Sas")[0]["kind"] == "service SAS"
    assert any(row["what"] == "container created or changed" for row in facts["changes"])
    assert facts["commands"][-1].startswith("!azure-storage-account-lock-set")
    assert "MARKERSIGNATURE" not in found.text
    assert facts["unknown"] == [], facts["unknown"]
    assert facts["identities"]["grantAccess"] >= 1


def test_a_role_is_found_removed_and_put_back(azure: LocalAzure, server: Server) -> None:
    account = azure.arm.accounts[ACCOUNT]["id"]
    run(server, "blob-containers-create", container_name="ledgers")
    inside = f"{account}/blobServices/default/containers/ledgers"
    kept = roles.assign(azure.arm, inside, "Storage Blob Data Reader", MALLORY, description='for "the" team')
    wide = roles.assign(azure.arm, account.partition("/providers/")[0], "Storage Account Contributor", MALLORY)
    rows = {row["id"]: row for row in items(run(server, "access-list", principal_id=MALLORY), "RoleAssignment")}
    assert rows[kept["id"]]["allows"] == ["read blobs"]
    assert rows[wide["id"]]["allows"] == ["read blobs", "write blobs", "list keys", "change the account"]
    assert (rows[wide["id"]]["inherited"], rows[wide["id"]]["dataByKeys"]) == (True, True)
    refused = server.run("app", "azure-storage-access-remove", {"account_name": ACCOUNT, "assignment_id": wide["id"]})
    assert "resource group" in refused.error
    removed = run(server, "access-remove", assignment_id=kept["name"])
    assert kept["id"].lower() not in azure.arm.assignments
    name, arguments = parse_line(change(removed)["undo"])
    restored = succeed(server.run("app", name, arguments))
    assert change(restored)["changed"] is True
    again = azure.arm.assignments[kept["id"].lower()]["properties"]
    same = ("principalId", "principalType", "description", "scope")
    assert {key: again[key] for key in same} == {key: kept["properties"][key] for key in same}
