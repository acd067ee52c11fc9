"""An account with a hierarchical namespace in the local Azure, driven by Microsoft's client."""

import xml.etree.ElementTree as ET
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError

from local.azure import LocalAzure

from .blob_calls import BOX, KEEP, names, of_account, refusal, sas, send, setting, token


@pytest.fixture(autouse=True)
def hierarchy(azure: LocalAzure, box: Any) -> None:
    of_account(azure, isHnsEnabled=True)


def rows(azure: LocalAzure, query: str = "") -> list[ET.Element]:
    answer = send(azure, "GET", f"/{BOX}?restype=container&comp=list{query}", sas(azure, "l"))
    return list(ET.fromstring(answer.content).iterfind("Blobs/*"))  # noqa: S314 - the local Azure's


def undelete(azure: LocalAzure, name: str, source: str) -> tuple[int, str]:
    return refusal(send(azure, "PUT", f"/{BOX}/{name}?comp=undelete", token(azure), x_ms_undelete_source=source))


def test_directories_are_entries(azure: LocalAzure, box: Any) -> None:
    box.upload_blob("in/deep/a", "x")
    kinds = [(row.findtext("Name"), row.findtext("Properties/ResourceType")) for row in rows(azure)]
    assert kinds == [("in", "directory"), ("in/deep", "directory"), ("in/deep/a", "file")]
    folder = box.get_blob_client("in").get_blob_properties()
    assert (folder.metadata, folder.size) == ({"hdi_isfolder": "true"}, 0)
    assert send(azure, "HEAD", f"/{BOX}/in/deep/a", token(azure)).headers["x-ms-resource-type"] == "file"


def test_a_directory_is_deleted_after_its_contents(box: Any) -> None:
    box.upload_blob("in/a", "x")
    with pytest.raises(HttpResponseError) as refused:
        box.delete_blob("in")
    assert (refused.value.status_code, refused.value.error_code) == (409, "DirectoryIsNotEmpty")
    box.delete_blob("in/a")
    box.delete_blob("in")
    assert list(box.list_blobs()) == []


def test_one_of_several_deleted_generations_comes_back(azure: LocalAzure, box: Any) -> None:
    setting(azure, deleteRetentionPolicy=KEEP)
    for text in ("first", "second"):
        box.upload_blob("in/a b", text)
        box.delete_blob("in/a b")
    deleted = rows(azure, "&showonly=deleted")
    assert [row.findtext("Name") for row in deleted] == ["in/a b", "in/a b"]
    first, second = (row.findtext("DeletionId") for row in deleted)
    assert first != second
    assert undelete(azure, "in/a%20b", "") == (400, "InvalidHeaderValue")
    assert undelete(azure, "in/a%20b", "in/a%20b?deletionid=1") == (404, "BlobNotFound")
    assert undelete(azure, "in/a%20b", f"in/a%20b?deletionid={first}") == (200, "")
    assert box.download_blob("in/a b").readall() == b"first"
    assert undelete(azure, "in/a%20b", f"in/a%20b?deletionid={second}") == (409, "PathAlreadyExists")
    assert names(azure, BOX, "&include=deleted").count("in/a b") == 2


def test_what_such_an_account_does_not_have(azure: LocalAzure, box: Any) -> None:
    setting(azure, isVersioningEnabled=True)
    box.upload_blob("a", "x")
    assert box.upload_blob("a", "y", overwrite=True).get_blob_properties().version_id is None
    for target in (f"/{BOX}/a?comp=tags", "/?comp=blobs&where=%22a%22%3D%27b%27"):
        answer = send(azure, "GET", target, token(azure))
        assert refusal(answer) == (400, "InvalidQueryParameterValue")
        assert "<QueryParameterName>comp</QueryParameterName>" in answer.text
    with_tags = send(azure, "PUT", f"/{BOX}/b", token(azure), b"", x_ms_blob_type="BlockBlob", x_ms_tags="k=v")
    assert with_tags.status_code == 400
    version = send(azure, "GET", f"/{BOX}/a?versionid=2026-01-01T00:00:00.0000000Z", token(azure))
    assert refusal(version) == (400, "InvalidQueryParameterValue")
    assert send(azure, "HEAD", "/?restype=account&comp=properties", token(azure)).status_code in (200, 405)


def test_an_overwrite_is_not_kept(azure: LocalAzure, box: Any) -> None:
    setting(azure, deleteRetentionPolicy=KEEP)
    box.upload_blob("a", "x")
    box.upload_blob("a", "y", overwrite=True)
    assert rows(azure, "&showonly=deleted") == []
