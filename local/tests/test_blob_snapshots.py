"""Soft-deleted snapshots in the local Azure, driven by Microsoft's client."""

from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError

from local.azure import LocalAzure

from .blob_calls import BOX, KEEP, setting


@pytest.fixture(autouse=True)
def soft_delete(azure: LocalAzure, box: Any) -> None:
    setting(azure, deleteRetentionPolicy=KEEP)


def snapshots(box: Any, *include: str) -> list[tuple[str | None, bool]]:
    found = box.list_blobs(include=["snapshots", *include])
    return [(item.snapshot, bool(item.deleted)) for item in found if item.snapshot]


def test_an_overwritten_blob_comes_back_as_a_snapshot(box: Any) -> None:
    blob = box.get_blob_client("a")
    blob.upload_blob("old", metadata={"k": "v"})
    blob.upload_blob("new", overwrite=True)
    assert snapshots(box) == []
    ((time, deleted),) = snapshots(box, "deleted")
    assert deleted
    assert not any(item.deleted for item in box.list_blobs(include=["deleted"]))
    blob.undelete_blob()
    assert snapshots(box) == [(time, False)]
    assert box.get_blob_client("a", snapshot=time).download_blob().readall() == b"old"
    assert blob.download_blob().readall() == b"new"
    blob.start_copy_from_url(f"{blob.url}?snapshot={time}")
    assert (blob.download_blob().readall(), blob.get_blob_properties().metadata) == (b"old", {"k": "v"})


def test_a_blob_comes_back_with_its_snapshots(box: Any) -> None:
    blob = box.get_blob_client("a")
    blob.upload_blob("one")
    taken = blob.create_snapshot()["snapshot"]
    with pytest.raises(HttpResponseError) as refused:
        blob.delete_blob()
    assert refused.value.error_code == "SnapshotsPresent"
    blob.delete_blob(delete_snapshots="include")
    assert snapshots(box) == []
    blob.undelete_blob()
    assert snapshots(box) == [(taken, False)]
    assert blob.download_blob().readall() == b"one"


def test_snapshots_alone_are_deleted_and_come_back(box: Any) -> None:
    blob = box.get_blob_client("a")
    blob.upload_blob("one")
    first, second = (blob.create_snapshot()["snapshot"] for _ in range(2))
    box.get_blob_client("a", snapshot=first).delete_blob()
    assert snapshots(box) == [(second, False)]
    blob.delete_blob(delete_snapshots="only")
    assert snapshots(box, "deleted") == [(first, True), (second, True)]
    blob.undelete_blob()
    assert snapshots(box) == [(first, False), (second, False)]


def test_a_new_blob_makes_the_deleted_one_a_snapshot(box: Any) -> None:
    blob = box.get_blob_client("a")
    blob.upload_blob("old")
    blob.delete_blob()
    blob.upload_blob("new")
    assert [item.deleted for item in box.list_blobs(include=["deleted"])] == [None]
    ((time, _),) = snapshots(box, "deleted")
    blob.undelete_blob()
    assert blob.download_blob().readall() == b"new"
    assert box.get_blob_client("a", snapshot=time).download_blob().readall() == b"old"


def test_metadata_and_refused_writes_leave_nothing_behind(box: Any) -> None:
    blob = box.get_blob_client("a")
    blob.upload_blob("one")
    blob.set_blob_metadata({"k": "v"})
    with pytest.raises(HttpResponseError):
        blob.upload_blob("two", overwrite=False)
    with pytest.raises(HttpResponseError):
        blob.upload_blob("two", overwrite=True, etag='"0x0"', match_condition=match())
    assert snapshots(box, "deleted") == []
    assert blob.container_name == BOX


def match() -> Any:
    from azure.core import MatchConditions

    return MatchConditions.IfNotModified


def test_pages_of_snapshots_hold_each_once(box: Any) -> None:
    blob = box.get_blob_client("a")
    blob.upload_blob("one")
    taken = [blob.create_snapshot()["snapshot"] for _ in range(5)]
    pages = box.list_blobs(include=["snapshots"], results_per_page=2).by_page()
    assert [item.snapshot for page in pages for item in page] == [*taken, None]
