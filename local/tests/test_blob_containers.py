"""Containers at the local blob service: those that were deleted, and what is told of those that are there."""

from typing import Any

from local.azure import LocalAzure

from .blob_calls import ACCOUNT, BOX, KEEP, client, setting


def test_deleted_containers_are_listed_and_come_back(azure: LocalAzure, box: Any) -> None:
    setting(azure, containerDeleteRetentionPolicy=KEEP)
    service = client(azure)
    etag = box.upload_blob("a", "x", metadata={"k": "v"}).get_blob_properties().etag
    box.delete_container()
    assert [item.name for item in service.list_containers()] == []
    (gone,) = service.list_containers(include_deleted=True)
    assert (gone.name, gone.deleted) == (BOX, True)
    assert gone.version
    service.undelete_container(gone.name, gone.version)
    found = box.get_blob_client("a").get_blob_properties()
    assert (found.etag, found.metadata) == (etag, {"k": "v"})
    assert [item.deleted for item in service.list_containers(include_deleted=True)] == [None]


def test_versions_come_back_with_their_container(azure: LocalAzure, box: Any) -> None:
    setting(azure, containerDeleteRetentionPolicy=KEEP, isVersioningEnabled=True)
    first = box.get_blob_client("a").upload_blob("one")["version_id"]
    box.upload_blob("a", "two", overwrite=True)
    box.delete_container()
    (gone,) = client(azure).list_containers(include_deleted=True)
    client(azure).undelete_container(gone.name, gone.version)
    assert box.get_blob_client("a", version_id=first).download_blob().readall() == b"one"
    assert [bool(item.is_current_version) for item in box.list_blobs(include=["versions"])] == [False, True]


def test_a_new_container_knows_nothing_of_the_old(azure: LocalAzure, box: Any) -> None:
    setting(azure, isVersioningEnabled=True)
    for text in ("one", "two"):
        box.upload_blob("a", text, overwrite=True)
    box.delete_container()
    box.create_container()
    assert list(box.list_blobs(include=["versions", "deletedwithversions"])) == []


def test_holds_of_a_container_are_told(azure: LocalAzure, box: Any) -> None:
    assert box.get_container_properties().has_legal_hold is False
    azure.arm.holds[ACCOUNT, BOX] = {"case17": "2026-11-25T00:00:00.0000000Z"}
    assert box.get_container_properties().has_legal_hold is True
    assert [item.has_legal_hold for item in client(azure).list_containers()] == [True]


def test_metadata_of_containers_is_told_when_asked_for(azure: LocalAzure, box: Any) -> None:
    box.set_container_metadata({"Team": "blue"})
    service = client(azure)
    assert [item.metadata for item in service.list_containers()] == [None]
    assert [item.metadata for item in service.list_containers(include_metadata=True)] == [{"Team": "blue"}]
