"""Blobs that come out of the archive tier, which takes hours."""

from datetime import timedelta
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError
from azure.storage.blob import StandardBlobTier

from local.azure import LocalAzure
from local.xsoar.server import Server

from .blob_calls import ACCOUNT, BOX, refusal, sas, send
from .conftest import change, items, succeed


@pytest.fixture
def archived(azure: LocalAzure, box: Any) -> Any:
    blob = box.get_blob_client("a")
    blob.upload_blob("content", standard_blob_tier=StandardBlobTier.ARCHIVE)
    return blob


def code_of(blob: Any, *args: Any, **options: Any) -> tuple[int | None, str]:
    with pytest.raises(HttpResponseError) as refused:
        blob.set_standard_blob_tier(*args, **options)
    assert refused.value.response is not None
    return refused.value.status_code, str(refused.value.response.headers["x-ms-error-code"])


def read(azure: LocalAzure) -> tuple[int, str]:
    return refusal(send(azure, "GET", f"/{BOX}/a", sas(azure, "r")))


@pytest.mark.parametrize(("priority", "hours"), [("Standard", 15), ("High", 1)])
def test_a_blob_stays_archived_until_its_time_has_come(
    azure: LocalAzure, box: Any, archived: Any, priority: str, hours: int
) -> None:
    assert read(azure) == (409, "BlobArchived")
    archived.set_standard_blob_tier("Cool", rehydrate_priority=priority)
    found = archived.get_blob_properties()
    assert (found.blob_tier, found.archive_status) == ("Archive", "rehydrate-pending-to-cool")
    assert read(azure) == (409, "BlobBeingRehydrated")
    (listed,) = box.list_blobs()
    assert (listed.blob_tier, listed.archive_status) == ("Archive", "rehydrate-pending-to-cool")
    assert listed.rehydrate_priority == priority
    azure.blobs.age(timedelta(hours=hours, minutes=-1))
    assert read(azure) == (409, "BlobBeingRehydrated")
    azure.blobs.age(timedelta(minutes=2))
    (listed,) = box.list_blobs()
    assert (listed.blob_tier, listed.archive_status) == ("Cool", None)
    assert archived.get_blob_properties().archive_status is None
    assert archived.download_blob().readall() == b"content"


def test_a_blob_on_its_way_can_only_be_hurried(azure: LocalAzure, archived: Any) -> None:
    archived.set_standard_blob_tier("Hot")
    assert code_of(archived, "Cool") == (409, "BlobBeingRehydrated")
    assert code_of(archived, "Hot") == (409, "BlobBeingRehydrated")
    answer = send(
        azure,
        "PUT",
        f"/{BOX}/a?comp=tier",
        sas(azure, "w"),
        x_ms_access_tier="Hot",
        x_ms_rehydrate_priority="Fast",
    )
    assert refusal(answer) == (400, "InvalidHeaderValue")
    archived.set_standard_blob_tier("Hot", rehydrate_priority="High")
    azure.blobs.age(timedelta(hours=1))
    assert archived.get_blob_properties().blob_tier == "Hot"
    archived.upload_blob("new", overwrite=True)
    archived.set_standard_blob_tier("Cool")
    assert archived.get_blob_properties().blob_tier == "Cool"


def test_a_blob_that_is_written_anew_is_on_no_way(azure: LocalAzure, archived: Any) -> None:
    archived.set_standard_blob_tier("Hot")
    archived.delete_blob()
    archived.upload_blob("new", standard_blob_tier=StandardBlobTier.COOL)
    azure.blobs.age(timedelta(hours=16))
    found = archived.get_blob_properties()
    assert (found.blob_tier, found.archive_status) == ("Cool", None)


def test_the_product_tells_of_a_blob_on_its_way(azure: LocalAzure, server: Server, archived: Any) -> None:
    here = {"account_name": ACCOUNT, "container_name": BOX, "blob_name": "a"}
    found = succeed(server.run("app", "azure-storage-blob-tier-set", {**here, "tier": "Hot"}))
    assert change(found)["changed"] is True
    assert "takes hours" in found.text
    (row,) = items(found, "Blob")
    assert (row["tier"], row["archiveStatus"]) == ("Archive", "rehydrate-pending-to-hot")
    assert "409 BlobBeingRehydrated" in server.run("app", "azure-storage-blob-get", here).error
    again = server.run("app", "azure-storage-blob-tier-set", {**here, "tier": "Hot"})
    assert "BlobBeingRehydrated" in again.error or change(again)["changed"] is False
    azure.blobs.age(timedelta(hours=15))
    assert succeed(server.run("app", "azure-storage-blob-get", here)).files[0].read_text() == "content"
