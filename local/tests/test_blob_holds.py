"""Legal holds and immutability policies in the local Azure: of containers, and of single blobs and versions."""

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError, ResourceExistsError
from azure.storage.blob import ImmutabilityPolicy

from local.azure import LocalAzure
from local.xsoar.server import Run, Server

from .blob_calls import ACCOUNT, BOX, names, refusal, sas, send, setting, token
from .conftest import change, items, partly, succeed

HERE = {"account_name": ACCOUNT, "container_name": BOX}


@pytest.fixture(autouse=True)
def version_level(azure: LocalAzure, box: Any) -> None:
    azure.blobs.immutable_containers.add((ACCOUNT, BOX))


def run(server: Server, name: str, **args: str) -> Run:
    return succeed(server.run("app", f"azure-storage-{name}", {**HERE, **args}, follow=True, interval=0))


def rows(found: Run) -> list[Any]:
    return items(found, "Blob")


def test_a_hold_keeps_a_blob_from_being_deleted_or_overwritten(azure: LocalAzure, server: Server) -> None:
    run(server, "blob-put", blob_name="a", text="kept")
    run(server, "blob-put", blob_name="b", text="free")
    assert rows(run(server, "blob-legal-hold-set", blob_name="a", legal_hold="true"))[0]["legalHold"] is True
    assert rows(run(server, "blob-properties-get", blob_name="a"))[0]["legalHold"] is True
    listed = {row["name"]: row.get("legalHold") for row in rows(run(server, "blob-list", include="legalhold"))}
    assert listed == {"a": True, "b": None}
    for name, args in (("blob-delete", {}), ("blob-put", {"text": "new", "overwrite": "true"})):
        error = server.run("app", f"azure-storage-{name}", {**HERE, "blob_name": "a", **args}).error
        assert "409 BlobImmutableDueToLegalHold" in error
    copied = {"source_blob_name": "b", "blob_name": "a", "overwrite": "true"}
    assert "BlobImmutableDueToLegalHold" in server.run("app", "azure-storage-blob-copy", {**HERE, **copied}).error
    mixed = partly(server.run("app", "azure-storage-blob-delete", {**HERE, "blob_names": '["a", "b"]'}))
    outcome = {row["name"]: row["result"] for row in rows(mixed)}
    assert outcome == {"a": "409 BlobImmutableDueToLegalHold", "b": "deleted"}
    assert change(mixed)["undo"].endswith("blob_name=b"), "what was not deleted is not undeleted"
    assert send(azure, "DELETE", f"/{BOX}/a").status_code == 401
    assert run(server, "blob-get", blob_name="a").files[0].read_text() == "kept"
    run(server, "blob-legal-hold-set", blob_name="a", legal_hold="false")
    run(server, "blob-delete", blob_name="a")
    assert names(azure, BOX) == []


def test_a_hold_needs_the_container_the_right_and_the_blob(azure: LocalAzure, box: Any) -> None:
    azure.blobs.immutable_containers.clear()
    box.upload_blob("a", "x")

    def hold(name: str, auth: str, value: str = "true") -> tuple[int, str]:
        answer = send(azure, "PUT", f"/{BOX}/{name}?comp=legalhold", auth, x_ms_legal_hold=value)
        return answer.status_code, answer.headers.get("x-ms-error-code", "")

    assert hold("a", token(azure)) == (409, "FeatureNotSupportedForAccount")
    azure.blobs.immutable_containers.add((ACCOUNT, BOX))
    assert hold("a", token(azure), "perhaps")[0] == 400
    assert hold("a", sas(azure, "i"), "perhaps") == (400, "InvalidHeaderValue")
    assert hold("none", token(azure)) == (404, "BlobNotFound")
    assert hold("a", sas(azure, "rw")) == (403, "AuthorizationPermissionMismatch")
    assert hold("a", sas(azure, "i").replace("sig=", "sig=A"))[0] == 403
    assert hold("a", "")[0] == 401
    assert not box.get_blob_client("a").get_blob_properties().has_legal_hold
    assert hold("a", sas(azure, "i")) == (200, "")
    assert box.get_blob_client("a").get_blob_properties().has_legal_hold is True
    with pytest.raises(ResourceExistsError) as refused:
        box.delete_blob("a")
    assert refused.value.error_code == "BlobImmutableDueToLegalHold"
    box.get_blob_client("a").set_legal_hold(False)
    box.delete_blob("a")
    assert names(azure, BOX) == []


def locked_until(days: int, mode: str = "Unlocked") -> ImmutabilityPolicy:
    return ImmutabilityPolicy(expiry_time=datetime.now(timezone.utc) + timedelta(days=days), policy_mode=mode)


def code_of(act: Any, *args: Any, **options: Any) -> str:
    with pytest.raises(HttpResponseError) as refused:
        act(*args, **options)
    return str(refused.value.response.headers["x-ms-error-code"])


def test_a_policy_of_a_blob_is_shortened_or_lifted_only_while_unlocked(box: Any) -> None:
    blob = box.get_blob_client("a")
    blob.upload_blob("kept")
    blob.set_immutability_policy(locked_until(2))
    assert blob.get_blob_properties().immutability_policy.policy_mode == "unlocked"
    assert code_of(blob.delete_blob) == "BlobImmutableDueToPolicy"
    assert code_of(blob.set_blob_metadata, {"k": "v"}) == "BlobImmutableDueToPolicy"
    blob.delete_immutability_policy()
    blob.set_immutability_policy(locked_until(2, "Locked"))
    assert code_of(blob.delete_immutability_policy) == "BlobImmutableDueToPolicy"
    assert code_of(blob.set_immutability_policy, locked_until(1, "Locked")) == "BlobImmutableDueToPolicy"
    blob.set_immutability_policy(locked_until(3, "Locked"))
    listed = next(iter(box.list_blobs(include=["immutabilitypolicy", "legalhold"])))
    assert listed.immutability_policy.policy_mode == "locked"


def test_a_time_that_has_passed_is_no_policy(azure: LocalAzure, box: Any) -> None:
    box.upload_blob("a", "x")
    target = f"/{BOX}/a?comp=immutabilityPolicies"
    answer = send(
        azure, "PUT", target, token(azure), x_ms_immutability_policy_until_date="Mon, 05 Jan 2026 00:00:00 GMT"
    )
    assert refusal(answer) == (400, "InvalidHeaderValue")


def test_a_held_version_stays_and_a_new_one_may_come(azure: LocalAzure, box: Any) -> None:
    setting(azure, isVersioningEnabled=True)
    blob = box.get_blob_client("a")
    held = blob.upload_blob("one")["version_id"]
    blob.set_legal_hold(True)
    blob.upload_blob("two", overwrite=True)
    blob.delete_blob()
    former = box.get_blob_client("a", version_id=held)
    assert former.get_blob_properties().has_legal_hold is True
    assert code_of(former.delete_blob) == "BlobImmutableDueToLegalHold"
    listed = [
        (item.version_id == held, bool(item.has_legal_hold))
        for item in box.list_blobs(include=["versions", "legalhold"])
    ]
    assert listed == [(True, True), (False, False)]
    former.set_legal_hold(False, version_id=held)
    former.delete_blob()
    assert len(list(box.list_blobs(include=["versions"]))) == 1


def test_a_held_container_takes_new_blobs_and_keeps_the_old(azure: LocalAzure, box: Any) -> None:
    box.upload_blob("a", "old")
    azure.arm.holds[ACCOUNT, BOX] = {"case17": "2026-11-25T00:00:00.0000000Z"}
    box.upload_blob("b", "new")
    for act, args in ((box.delete_blob, ("a",)), (box.get_blob_client("a").set_blob_metadata, ({"k": "v"},))):
        assert code_of(act, *args) == "BlobImmutableDueToLegalHold"
    assert code_of(box.upload_blob, "a", "x", overwrite=True) == "BlobImmutableDueToLegalHold"
    box.get_blob_client("a").set_blob_tags({"verdict": "malicious"})
    assert code_of(box.delete_container) == "ContainerProtectedFromDeletion"
    azure.arm.holds.clear()
    box.delete_blob("a")


def test_a_containers_policy_binds_by_the_blobs_age(azure: LocalAzure, box: Any) -> None:
    blob = box.get_blob_client("log")
    blob.create_append_blob()
    policy = {"immutabilityPeriodSinceCreationInDays": 3, "state": "Unlocked"}
    azure.arm.policies[ACCOUNT, BOX] = {"etag": '"1"', "properties": policy}
    assert code_of(blob.append_block, b"x") == "BlobImmutableDueToPolicy"
    policy["allowProtectedAppendWrites"] = True
    blob.append_block(b"x")
    assert code_of(blob.delete_blob) == "BlobImmutableDueToPolicy"
