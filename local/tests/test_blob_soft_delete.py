"""Soft delete, undelete, restore and legal holds in the local Azure: by the integration's commands and over plain HTTP."""

import json
import re
import urllib.parse
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import jwt
import pytest
import requests

from local.azure import LocalAzure
from local.xsoar.server import Run, Server

from .blob_calls import ACCOUNT, KEEP, client, names, sas, send, token
from .conftest import partly, succeed

CONTAINER = "recycle-tests"
HERE = {"account_name": ACCOUNT, "container_name": CONTAINER}
NASTY = ["a b#c?d%e+f&g=h.txt", "ünïcödé/日本語.txt", "many//slashes///here", "%2e%20%", "<tag>&amp;", "trailing."]


@pytest.fixture(autouse=True)
def container(azure: LocalAzure) -> Iterator[None]:
    before = azure.arm.services[ACCOUNT]
    azure.arm.services[ACCOUNT] = before | {"deleteRetentionPolicy": KEEP, "containerDeleteRetentionPolicy": KEEP}
    key = azure.arm.keys[ACCOUNT][0]
    azure.azurite.create(ACCOUNT, key, CONTAINER, {})
    yield
    azure.arm.services[ACCOUNT] = before
    if CONTAINER in [item["name"] for item in azure.azurite.containers(ACCOUNT, key)]:
        azure.azurite.delete(ACCOUNT, key, CONTAINER)
    azure.arm.deleted.pop(ACCOUNT, None)
    azure.blobs.clear()


def run(server: Server, name: str, **args: str) -> Run:
    return succeed(server.run("app", f"azure-storage-{name}", {**HERE, **args}, follow=True, interval=0))


def rows(found: Run) -> list[Any]:
    value = next(value for key, value in found.context.items() if key.startswith("AzureStorage.Blob("))
    return value if isinstance(value, list) else [value]


def restore(azure: LocalAzure, name: str, version: str, auth: str) -> requests.Response:
    return send(
        azure,
        "PUT",
        f"/{name}?restype=container&comp=undelete",
        auth,
        x_ms_deleted_container_name=name,
        x_ms_deleted_container_version=version,
    )


# Blobs


def test_a_deleted_blob_is_listed_and_comes_back_as_it_was(azure: LocalAzure, server: Server) -> None:
    facts = {"content_type": "text/x-case", "metadata": "Case=17", "tags": "state=open", "tier": "Cool"}
    run(server, "blob-put", blob_name="in/a.txt", text="evidence", **facts)
    before = rows(run(server, "blob-properties-get", blob_name="in/a.txt"))[0]
    run(server, "blob-delete", blob_name="in/a.txt")
    assert rows(run(server, "blob-list")) == []
    listed = rows(run(server, "blob-list", include="deleted,metadata,tags"))[0]
    assert (listed["name"], listed["deleted"], listed["remainingRetentionDays"]) == ("in/a.txt", True, 7)
    assert (listed["size"], listed["md5"], listed["metadata"], listed["tags"]) == (
        8,
        before["md5"],
        {"Case": "17"},
        {"state": "open"},
    )
    deleted = datetime.fromisoformat(listed["deletedTime"].replace("Z", "+00:00"))
    assert abs(datetime.now(timezone.utc) - deleted) < timedelta(minutes=1)
    assert rows(run(server, "blob-undelete", blob_name="in/a.txt"))[0]["size"] == 8
    after = rows(run(server, "blob-properties-get", blob_name="in/a.txt"))[0]
    changing = ("etag", "lastModified", "created", "leaseState")
    assert {k: v for k, v in after.items() if k not in changing} == {
        k: v for k, v in before.items() if k not in changing
    }
    assert rows(run(server, "blob-tags-get", blob_name="in/a.txt"))[0]["tags"] == {"state": "open"}
    assert run(server, "blob-get", blob_name="in/a.txt").files[0].read_text() == "evidence"
    assert [row.get("deleted") for row in rows(run(server, "blob-list", include="deleted"))] == [None]


def test_a_batch_goes_to_the_bin_and_every_name_comes_back(azure: LocalAzure, server: Server) -> None:
    for name in NASTY:
        run(server, "blob-put", blob_name=name, text=f"hello {name}")
    run(server, "blob-lease", blob_name=NASTY[0], action="acquire")
    mixed = partly(server.run("app", "azure-storage-blob-delete", {**HERE, "blob_names": json.dumps(NASTY)}))
    outcome = {row["name"]: row["result"] for row in rows(mixed)}
    assert outcome == {name: "412 LeaseIdMissing" if name == NASTY[0] else "deleted" for name in NASTY}
    assert names(azure, CONTAINER) == NASTY[:1]
    assert names(azure, CONTAINER, "&include=deleted") == sorted(NASTY)
    for name in NASTY[1:]:
        run(server, "blob-undelete", blob_name=name)
    read = run(server, "blob-get", blob_names=json.dumps(NASTY))
    assert [path.read_text() for path in read.files] == [f"hello {name}" for name in NASTY]


def test_a_batch_on_a_container_and_other_kinds_of_blobs(azure: LocalAzure) -> None:
    box = client(azure).get_container_client(CONTAINER)
    page = bytes(range(256)) * 4
    box.upload_blob("page", page, blob_type="PageBlob")
    blob = box.get_blob_client("append")
    blob.create_append_blob(metadata={"k": "v"})
    blob.append_block(b"one")
    blob.append_block(b"two")
    box.upload_blob("empty", b"")
    boundary, auth = "batch_1", sas(azure, "d")
    parts = "".join(
        f"--{boundary}\r\nContent-Type: application/http\r\nContent-Transfer-Encoding: binary\r\nContent-ID: {n}\r\n\r\n"
        f"DELETE /{ACCOUNT}/{CONTAINER}/{name}?{auth} HTTP/1.1\r\nx-ms-version: 2025-11-05\r\nContent-Length: 0\r\n\r\n"
        for n, name in enumerate(("page", "append", "empty", "missing"))
    )
    url = f"https://{azure.blob_host}/{ACCOUNT}/{CONTAINER}?restype=container&comp=batch"
    with requests.Session() as session:
        session.trust_env = False
        answer = session.post(
            url,
            data=f"{parts}--{boundary}--\r\n",
            headers={
                "Authorization": token(azure),
                "Content-Type": f"multipart/mixed; boundary={boundary}",
                "x-ms-version": "2025-11-05",
            },
            verify=str(azure.ca_file),
            timeout=20,
        )
    assert answer.status_code == 202, answer.text
    assert re.findall(r"HTTP/1.1 (\d+)", answer.text) == ["202", "202", "202", "404"]
    assert names(azure, CONTAINER, "&include=deleted") == ["append", "empty", "page"]
    for name in ("append", "empty", "page"):
        assert send(azure, "PUT", f"/{CONTAINER}/{name}?comp=undelete", token(azure)).status_code == 200
    assert [box.download_blob(name).readall() for name in ("page", "append", "empty")] == [page, b"onetwo", b""]
    found = blob.get_blob_properties()
    assert (str(found.blob_type), found.metadata) == ("BlobType.APPENDBLOB", {"k": "v"})


def test_pages_and_folders_of_a_listing_hold_the_deleted_in_their_places(azure: LocalAzure) -> None:
    box = client(azure).get_container_client(CONTAINER)
    for name in ("a", "b/1", "b/2", "c", "d/1", "e"):
        box.upload_blob(name, name)
    for name in ("a", "b/1", "b/2", "d/1", "e"):
        box.delete_blob(name)
    box.upload_blob("e", "again")
    found = list(box.list_blobs(include=["deleted"], results_per_page=2))
    assert [(item.name, bool(item.deleted)) for item in found] == [
        *((name, True) for name in ("a", "b/1", "b/2")),
        ("c", False),
        ("d/1", True),
        ("e", False),
    ]
    assert all(item.deleted_time and item.remaining_retention_days == 7 for item in found if item.deleted)
    assert [item.name for item in box.list_blobs(include=["deleted"], name_starts_with="b/")] == ["b/1", "b/2"]
    assert names(azure, CONTAINER, "&include=deleted&delimiter=/") == ["a", "b/", "c", "d/", "e"]
    assert names(azure, CONTAINER, "&include=deleted&delimiter=/&prefix=b/") == ["b/1", "b/2"]
    assert names(azure, CONTAINER) == ["c", "e"]


def test_nothing_is_kept_where_soft_delete_is_off_or_the_days_are_over(azure: LocalAzure) -> None:
    box = client(azure).get_container_client(CONTAINER)
    box.upload_blob("a", "x")
    box.delete_blob("a")
    azure.blobs.age(timedelta(days=8))
    assert names(azure, CONTAINER, "&include=deleted") == []
    azure.arm.services[ACCOUNT] = azure.arm.services[ACCOUNT] | {"deleteRetentionPolicy": {"enabled": False}}
    box.upload_blob("b", "x")
    box.delete_blob("b")
    answer = send(azure, "PUT", f"/{CONTAINER}/b?comp=undelete", token(azure))
    assert (answer.status_code, answer.headers["x-ms-error-code"]) == (404, "BlobNotFound")
    box.upload_blob("b", "x")
    assert send(azure, "PUT", f"/{CONTAINER}/b?comp=undelete", token(azure)).status_code == 200


def test_only_who_may_write_may_undelete(azure: LocalAzure) -> None:
    box = client(azure).get_container_client(CONTAINER)
    box.upload_blob("a", "x")
    assert send(azure, "DELETE", f"/{CONTAINER}/a", sas(azure, "rl")).status_code == 403
    assert names(azure, CONTAINER, "&include=deleted") == ["a"]
    box.delete_blob("a")
    good, target = sas(azure, "w"), f"/{CONTAINER}/a?comp=undelete"
    forged = good[: good.rindex("sig=")] + "sig="
    wrong = [
        "",
        sas(azure, "rdl"),
        sas(azure, "w", "c"),
        forged + "AAAA",
        forged + "%25ZZ",
        "Bearer no-token",
        "Bearer " + jwt.encode({"aud": "x"}, "k" * 32, algorithm="HS256"),
    ]
    for auth in wrong:
        assert send(azure, "PUT", target, auth).status_code in (400, 401, 403, 500), auth
        assert names(azure, CONTAINER) == [], auth
    assert send(azure, "PUT", target, good).status_code == 200
    box.delete_blob("a")
    box.get_blob_client("a").undelete_blob()  # signed with the account's key
    assert names(azure, CONTAINER) == ["a"]


# Containers


@pytest.mark.parametrize("by", ["arm", "data plane"])
def test_a_deleted_container_comes_back_with_all_it_held(azure: LocalAzure, server: Server, by: str) -> None:
    service = client(azure)
    box = service.get_container_client(CONTAINER)
    box.set_container_metadata({"team": "blue"})
    box.upload_blob("a", "x", metadata={"k": "v"}, tags={"t": "1"})
    box.upload_blob("gone", "y")
    box.delete_blob("gone")
    if by == "arm":
        run(server, "blob-container-delete")
    else:
        box.delete_container()
    item = azure.arm.deleted[ACCOUNT][0]
    version = item["properties"]["version"]
    assert (item["name"], item["properties"]["deleted"]) == (CONTAINER, True)
    assert restore(azure, CONTAINER, "0" * 16, token(azure)).headers["x-ms-error-code"] == "ContainerNotFound"
    assert restore(azure, "unknown", version, token(azure)).status_code == 404
    for wrong, status in (("", 401), (sas(azure, "r"), 403), (sas(azure, "w", "o"), 403), ("Bearer x", 401)):
        assert restore(azure, CONTAINER, version, wrong).status_code == status
    service.create_container(CONTAINER)
    answer = restore(azure, CONTAINER, version, sas(azure, "w"))
    assert (answer.status_code, answer.headers["x-ms-error-code"]) == (409, "ContainerAlreadyExists")
    azure.azurite._service(ACCOUNT, azure.arm.keys[ACCOUNT][0]).delete_container(CONTAINER)
    assert restore(azure, CONTAINER, version, sas(azure, "w") if by == "arm" else token(azure)).status_code == 201
    assert azure.arm.deleted[ACCOUNT] == []
    assert box.get_container_properties().metadata == {"team": "blue"}
    assert names(azure, CONTAINER, "&include=deleted") == ["a", "gone"]
    blob = box.get_blob_client("a")
    assert (blob.download_blob().readall(), blob.get_blob_tags()) == (b"x", {"t": "1"})
    assert send(azure, "PUT", f"/{CONTAINER}/gone?comp=undelete", token(azure)).status_code == 200


def test_of_two_deleted_containers_of_one_name_the_version_tells(azure: LocalAzure) -> None:
    service = client(azure)
    box = service.get_container_client(CONTAINER)
    for text in ("first", "second"):
        box.upload_blob(text, text)
        service.delete_container(CONTAINER)
        service.create_container(CONTAINER)
    azure.azurite._service(ACCOUNT, azure.arm.keys[ACCOUNT][0]).delete_container(CONTAINER)
    first = azure.arm.deleted[ACCOUNT][0]["properties"]["version"]
    assert service.undelete_container(CONTAINER, first)  # Microsoft's client
    assert names(azure, CONTAINER) == ["first"]
    assert len(azure.arm.deleted[ACCOUNT]) == 1


def test_a_new_container_does_not_see_the_bin_of_the_old(azure: LocalAzure) -> None:
    service = client(azure)
    box = service.get_container_client(CONTAINER)
    box.upload_blob("a", "x")
    box.delete_blob("a")
    service.delete_container(CONTAINER)
    service.create_container(CONTAINER)
    assert names(azure, CONTAINER, "&include=deleted") == []
    assert send(azure, "PUT", f"/{CONTAINER}/a?comp=undelete", token(azure)).status_code == 404


# For good


def permanently(azure: LocalAzure, auth: str, **query: str) -> tuple[int, str]:
    words = urllib.parse.urlencode({"deletetype": "permanent", **query})
    answer = send(azure, "DELETE", f"/{CONTAINER}/a?{words}", auth)
    return answer.status_code, answer.headers.get("x-ms-error-code") or answer.headers["x-ms-delete-type-permanent"]


@pytest.fixture
def box_for_good(azure: LocalAzure) -> Any:
    azure.arm.services[ACCOUNT] |= {"deleteRetentionPolicy": {**KEEP, "allowPermanentDelete": True}}
    return client(azure).get_container_client(CONTAINER)


def test_a_soft_deleted_snapshot_goes_for_good(azure: LocalAzure, box_for_good: Any) -> None:
    may = sas(azure, "y")
    blob = box_for_good.get_blob_client("a")
    blob.upload_blob("x")
    taken = blob.create_snapshot()["snapshot"]
    assert permanently(azure, may, snapshot=taken) == (409, "BlobSnapshotNotSoftDeleted")
    box_for_good.get_blob_client("a", snapshot=taken).delete_blob()
    for auth in (sas(azure, "rwdx"), token(azure)):
        azure.modes.enforce_roles = True
        assert permanently(azure, auth, snapshot=taken) == (403, "AuthorizationPermissionMismatch")
    azure.modes.enforce_roles = False
    assert permanently(azure, may, snapshot=taken) == (202, "true")
    assert permanently(azure, may, snapshot=taken) == (404, "BlobNotFound")
    assert [item.snapshot for item in box_for_good.list_blobs(include=["snapshots", "deleted"])] == [None]


def test_a_soft_deleted_version_goes_for_good(azure: LocalAzure, box_for_good: Any) -> None:
    azure.arm.services[ACCOUNT]["isVersioningEnabled"] = True
    blob, may = box_for_good.get_blob_client("a"), sas(azure, "dy")
    first = blob.upload_blob("one")["version_id"]
    second = blob.upload_blob("two", overwrite=True)["version_id"]
    assert permanently(azure, may, versionid=second) == (403, "OperationNotAllowedOnRootBlob")
    assert permanently(azure, may, versionid=first) == (409, "BlobSnapshotNotSoftDeleted")
    box_for_good.get_blob_client("a", version_id=first).delete_blob()
    assert permanently(azure, may, versionid=first) == (202, "true")
    listed = [item.version_id for item in box_for_good.list_blobs(include=["versions", "deleted"])]
    assert listed == [second]
    blob.undelete_blob()
    assert permanently(azure, may, versionid=first) == (404, "BlobNotFound")


def test_what_is_not_deleted_for_good(azure: LocalAzure, box_for_good: Any) -> None:
    may = sas(azure, "dy")
    box_for_good.upload_blob("a", "x")
    assert permanently(azure, may) == (409, "BlobSnapshotNotSoftDeleted")
    assert permanently(azure, may, deletetype="soon") == (400, "InvalidQueryParameterValue")
    azure.arm.services[ACCOUNT]["deleteRetentionPolicy"] = KEEP
    assert permanently(azure, may, snapshot="2026-01-01T00:00:00.0000000Z")[0] == 409
    assert names(azure, CONTAINER) == ["a"]
