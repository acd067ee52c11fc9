"""Asynchronous copies that take their time: what is seen of them, what they forbid, and how they end."""

import hashlib
from collections.abc import Callable
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError

from local.azure import LocalAzure
from local.xsoar.server import Server

from .blob_calls import ACCOUNT, BOX, names, refusal, sas, send, setting
from .conftest import change, items, succeed

HERE = {"account_name": ACCOUNT, "container_name": BOX}
COPY = {**HERE, "blob_name": "copy", "source_blob_name": "a"}


@pytest.fixture(autouse=True)
def source(azure: LocalAzure, box: Any) -> Any:
    box.upload_blob("a", b"content", metadata={"case": "17"})
    azure.blobs.pending_copies.looks = 2
    return box.get_blob_client("a")


def started(box: Any, name: str = "copy") -> tuple[Any, dict[str, Any]]:
    target = box.get_blob_client(name)
    return target, target.start_copy_from_url(box.get_blob_client("a").url)


def code_of(act: Callable[..., object], *args: object, **options: object) -> tuple[int | None, str]:
    with pytest.raises(HttpResponseError) as refused:
        act(*args, **options)
    assert refused.value.response is not None
    return refused.value.status_code, str(refused.value.response.headers["x-ms-error-code"])


def test_a_copy_is_pending_for_some_looks_and_then_done(box: Any) -> None:
    target, begun = started(box)
    assert begun["copy_status"] == "pending"
    (listed,) = (item for item in box.list_blobs(include=["copy"]) if item.name == "copy")
    assert (listed.copy.status, listed.copy.progress, listed.size) == ("pending", "0/7", 0), "a listing is no look"
    found = target.get_blob_properties()
    assert (found.copy.status, found.copy.id, found.size) == ("pending", begun["copy_id"], 0)
    assert found.metadata == {"case": "17"}
    assert target.download_blob().readall() == b""
    done = target.get_blob_properties()
    assert (done.copy.status, done.copy.progress, done.copy.id, done.size) == ("success", "7/7", begun["copy_id"], 7)
    assert done.etag != found.etag
    assert target.download_blob().readall() == b"content"
    assert hashlib.md5(b"content").digest() == bytes(done.content_settings.content_md5)  # noqa: S324


def test_the_target_of_a_pending_copy_cannot_be_changed(azure: LocalAzure, box: Any) -> None:
    target, begun = started(box)
    pending = (409, "PendingCopyOperation")
    assert code_of(target.upload_blob, b"x", overwrite=True) == pending
    assert code_of(target.set_blob_metadata, {"k": "v"}) == pending
    assert code_of(target.delete_blob) == pending
    assert code_of(target.start_copy_from_url, box.get_blob_client("a").url) == pending
    assert refusal(send(azure, "DELETE", f"/{BOX}/copy", sas(azure, "d"))) == pending
    target.abort_copy(begun["copy_id"])
    target.delete_blob()


def test_an_aborted_copy_leaves_an_empty_blob(box: Any) -> None:
    target, begun = started(box)
    assert code_of(target.abort_copy, "00000000-0000-0000-0000-000000000000") == (409, "CopyIdMismatch")
    target.abort_copy(begun["copy_id"])
    found = target.get_blob_properties()
    assert (found.copy.status, found.size, found.metadata) == ("aborted", 0, {"case": "17"})
    assert code_of(target.abort_copy, begun["copy_id"]) == (409, "NoPendingCopyOperation")
    target.upload_blob(b"new", overwrite=True)
    assert code_of(target.abort_copy, begun["copy_id"]) == (409, "NoPendingCopyOperation")


@pytest.mark.parametrize(
    ("name", "query", "headers", "code"),
    [
        ("copy", "", {"x_ms_copy_action": "stop"}, (400, "InvalidHeaderValue")),
        ("copy", "", {}, (400, "InvalidHeaderValue")),
        ("copy", "", {"x_ms_copy_action": "abort"}, (409, "CopyIdMismatch")),
        ("none", "&copyid=x", {"x_ms_copy_action": "abort"}, (404, "BlobNotFound")),
        ("a", "&copyid=x", {"x_ms_copy_action": "abort"}, (409, "NoPendingCopyOperation")),
    ],
)
def test_what_does_not_abort_a_copy(
    azure: LocalAzure, box: Any, name: str, query: str, headers: dict[str, Any], code: tuple[int, str]
) -> None:
    started(box)
    target = f"/{BOX}/{name}?comp=copy{query}"
    assert refusal(send(azure, "PUT", target, sas(azure, "w"), **headers)) == code


def test_a_leased_target_is_aborted_with_its_lease(azure: LocalAzure, box: Any) -> None:
    target, begun = started(box)
    lease = target.acquire_lease(-1)
    assert code_of(target.abort_copy, begun["copy_id"]) == (412, "LeaseIdMissing")
    target.abort_copy(begun["copy_id"], lease=lease)
    assert target.get_blob_properties().lease.state == "leased"


def test_a_copy_may_fail(azure: LocalAzure, box: Any) -> None:
    azure.blobs.pending_copies.failure = "404 BlobNotFound The source is gone."
    azure.blobs.pending_copies.looks = 1
    target, _ = started(box)
    target.get_blob_properties()
    found = target.get_blob_properties()
    assert (found.copy.status, found.size) == ("failed", 0)
    assert found.copy.status_description == "404 BlobNotFound The source is gone."


@pytest.mark.parametrize("kind", ["page", "append"])
def test_pending_copies_of_other_blobs(box: Any, kind: str) -> None:
    source = box.get_blob_client("a")
    source.delete_blob()
    if kind == "page":
        source.create_page_blob(512)
        source.upload_page(b"p" * 512, 0, 512)
    else:
        source.create_append_blob()
        source.append_block(b"p" * 512)
    target, _ = started(box)
    size = 512 if kind == "page" else 0
    assert target.get_blob_properties().size == size
    assert target.download_blob().readall() == bytes(size), "zeros, or nothing"
    assert target.download_blob().readall() == b"p" * 512


def test_a_copy_in_a_versioned_account(azure: LocalAzure, box: Any) -> None:
    setting(azure, isVersioningEnabled=True)
    first = box.upload_blob("copy", b"before").version_id or ""
    target, begun = started(box)
    assert begun["version_id"]
    versions = {item.version_id: item.size for item in box.list_blobs("copy", include=["versions"])}
    assert versions.pop(begun["version_id"]) == 0
    assert list(versions.values()) == [6], first
    for _ in range(3):
        found = target.get_blob_properties()
    assert (found.size, found.version_id) == (7, begun["version_id"])


def test_a_container_that_goes_takes_its_copies_along(azure: LocalAzure, box: Any) -> None:
    started(box)
    box.delete_container()
    box.create_container()
    box.upload_blob("copy", b"new")
    assert names(azure, BOX) == ["copy"]


def test_the_product_waits_for_a_copy(azure: LocalAzure, server: Server) -> None:
    found = succeed(server.run("app", "azure-storage-blob-copy", COPY, follow=True, interval=0))
    (row,) = items(found, "Blob")
    assert (row["copyStatus"], row["size"]) == ("success", 7)


def test_the_product_tells_of_a_copy_that_failed(azure: LocalAzure, server: Server) -> None:
    azure.blobs.pending_copies.failure = "404 BlobNotFound The source is gone."
    error = server.run("app", "azure-storage-blob-copy", COPY, follow=True, interval=0).error
    assert "ended with failed: 404 BlobNotFound The source is gone." in error


def test_the_product_aborts_a_copy(azure: LocalAzure, server: Server, box: Any) -> None:
    _, begun = started(box)
    busy = server.run("app", "azure-storage-blob-delete", {**HERE, "blob_name": "copy"}).error
    assert "409 PendingCopyOperation" in busy
    args = {**HERE, "blob_name": "copy", "abort_copy_id": begun["copy_id"]}
    found = succeed(server.run("app", "azure-storage-blob-copy", args))
    assert change(found)["changed"] is True
    assert items(found, "Blob")[0]["copyStatus"] == "aborted"
