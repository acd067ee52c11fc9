"""Point-in-time restore in the local Azure: block blobs are what they were, and nothing else changes."""

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from local.azure import LocalAzure

from .blob_calls import ACCOUNT, BOX, KEEP, client, names, setting

HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def prerequisites(azure: LocalAzure, box: Any) -> None:
    setting(azure, isVersioningEnabled=True, deleteRetentionPolicy=KEEP, changeFeed={"enabled": True})


def restore(azure: LocalAzure, start: str = "", end: str = "", ago: timedelta = HOUR / 2) -> None:
    moment = (datetime.now(timezone.utc) - ago).isoformat()
    azure.blobs.restore_ranges(
        ACCOUNT, {"timeToRestore": moment, "blobRanges": [{"startRange": start, "endRange": end}]}
    )


def contents(box: Any) -> dict[str, bytes]:
    return {item.name: box.download_blob(item.name).readall() for item in box.list_blobs()}


def test_blobs_are_what_they_were(azure: LocalAzure, box: Any) -> None:
    for name in ("same", "changed", "deleted"):
        box.upload_blob(name, "old", metadata={"k": "v"})
    azure.blobs.age(HOUR)
    box.upload_blob("changed", "new", overwrite=True)
    box.delete_blob("deleted")
    box.upload_blob("added", "new")
    restore(azure)
    assert contents(box) == {"same": b"old", "changed": b"old", "deleted": b"old"}
    assert box.get_blob_client("changed").get_blob_properties().metadata == {"k": "v"}
    kept = [item.name for item in box.list_blobs(include=["versions"]) if not item.is_current_version]
    assert {"changed", "deleted", "added"} <= set(kept)


def test_only_the_ranges_are_touched(azure: LocalAzure, box: Any) -> None:
    for name in ("a", "b", "c"):
        box.upload_blob(name, "old")
    azure.blobs.age(HOUR)
    for name in ("a", "b", "c"):
        box.upload_blob(name, "new", overwrite=True)
    restore(azure, f"{BOX}/b", f"{BOX}/c")
    assert contents(box) == {"a": b"new", "b": b"old", "c": b"new"}
    restore(azure, BOX + "/", BOX + "0")
    assert contents(box) == {"a": b"old", "b": b"old", "c": b"old"}


def test_append_and_page_blobs_stay(azure: LocalAzure, box: Any) -> None:
    box.upload_blob("page", b"\0" * 512, blob_type="PageBlob")
    azure.blobs.age(HOUR)
    box.upload_blob("page", b"1" * 512, blob_type="PageBlob", overwrite=True)
    box.get_blob_client("log").create_append_blob()
    restore(azure)
    assert contents(box) == {"page": b"1" * 512, "log": b""}


def test_a_leased_blob_fails_the_whole_restore(azure: LocalAzure, box: Any) -> None:
    for name in ("a", "b"):
        box.upload_blob(name, "old")
    azure.blobs.age(HOUR)
    for name in ("a", "b"):
        box.upload_blob(name, "new", overwrite=True)
    lease = box.get_blob_client("b").acquire_lease()
    with pytest.raises(Exception, match="has a lease"):
        restore(azure)
    assert contents(box) == {"a": b"new", "b": b"new"}
    lease.release()
    restore(azure)
    assert contents(box) == {"a": b"old", "b": b"old"}


def test_containers_that_were_deleted_stay_deleted(azure: LocalAzure, box: Any) -> None:
    setting(azure, containerDeleteRetentionPolicy=KEEP)
    other = client(azure).create_container("restore-gone")
    other.upload_blob("a", "old")
    azure.blobs.age(HOUR)
    other.delete_container()
    box.upload_blob("new", "x")
    restore(azure)
    assert names(azure, BOX) == []
    assert "restore-gone" not in azure.azurite.container_names(ACCOUNT)
    with pytest.raises(Exception, match="has been deleted"):
        restore(azure, "restore-gone/a", "restore-gone0")


def test_a_restore_can_be_undone_by_another(azure: LocalAzure, box: Any) -> None:
    box.upload_blob("a", "one")
    azure.blobs.age(HOUR)
    box.upload_blob("a", "two", overwrite=True)
    azure.blobs.age(HOUR)
    restore(azure, ago=HOUR * 3 / 2)
    assert contents(box) == {"a": b"one"}
    azure.blobs.age(HOUR)
    restore(azure, ago=HOUR * 3 / 2)
    assert contents(box) == {"a": b"two"}
