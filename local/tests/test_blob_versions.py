"""Versions of blobs in the local Azure, driven by Microsoft's client."""

import urllib.parse
from datetime import timedelta
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError

from local.azure import LocalAzure

from .blob_calls import BOX, KEEP, names, refusal, sas, send, setting, token


@pytest.fixture(autouse=True)
def versioning(azure: LocalAzure, box: Any) -> None:
    setting(azure, isVersioningEnabled=True)


def write(box: Any, name: str, *texts: str) -> list[str]:
    """Writes one text after the other; the ids of the versions."""
    return [box.upload_blob(name, text, overwrite=True).get_blob_properties().version_id for text in texts]


def listed(box: Any, *include: str) -> list[tuple[str, str | None, bool]]:
    found = box.list_blobs(include=["versions", *include])
    return [(item.name, item.version_id, bool(item.is_current_version)) for item in found]


def test_overwriting_makes_a_version_that_is_listed_and_read(box: Any) -> None:
    first, second, third = write(box, "a", "one", "two", "three")
    assert sorted({first, second, third}) == [first, second, third]
    assert listed(box) == [("a", first, False), ("a", second, False), ("a", third, True)]
    assert [item.name for item in box.list_blobs()] == ["a"]
    for version, text in ((first, b"one"), (second, b"two"), (third, b"three")):
        assert box.get_blob_client("a", version_id=version).download_blob().readall() == text
    former = box.get_blob_client("a", version_id=first).get_blob_properties()
    assert (former.version_id, former.is_current_version, former.size) == (first, None, 3)
    assert box.get_blob_client("a").get_blob_properties().is_current_version is True


def test_a_version_keeps_what_it_was(box: Any) -> None:
    blob = box.get_blob_client("a")
    blob.upload_blob("one", metadata={"Case": "17"}, tags={"t": "1"})
    before = blob.get_blob_properties()
    blob.set_blob_metadata({"Case": "18"})
    version = box.get_blob_client("a", version_id=before.version_id)
    after = version.get_blob_properties()
    assert (after.metadata, after.etag, after.last_modified) == ({"Case": "17"}, before.etag, before.last_modified)
    assert version.get_blob_tags() == {"t": "1"}
    assert blob.get_blob_properties().metadata == {"Case": "18"}


def test_tags_and_tier_of_a_version_are_its_own(box: Any) -> None:
    first, _ = write(box, "a", "one", "two")
    former = box.get_blob_client("a", version_id=first)
    former.set_blob_tags({"old": "yes"})
    former.set_standard_blob_tier("Cool", version_id=first)
    assert former.get_blob_tags() == {"old": "yes"}
    assert former.get_blob_properties().blob_tier == "Cool"
    assert box.get_blob_client("a").get_blob_tags() == {}
    assert box.get_blob_client("a").get_blob_properties().blob_tier == "Hot"


def test_the_query_names_a_version_in_any_case(azure: LocalAzure, box: Any) -> None:
    first, _ = write(box, "a", "one", "two")
    for name in ("versionid", "versionId", "VersionID"):
        answer = send(azure, "GET", f"/{BOX}/a?{name}={first}", token(azure))
        assert (answer.text, answer.headers["x-ms-version-id"]) == ("one", first)
    ranged = send(azure, "GET", f"/{BOX}/a?versionid={first}", token(azure), Range="bytes=1-1")
    assert (ranged.status_code, ranged.text, ranged.headers["Content-Range"]) == (206, "n", "bytes 1-1/3")
    missing = send(azure, "GET", f"/{BOX}/a?versionid=2020-01-01T00:00:00.0000000Z", token(azure))
    assert refusal(missing) == (404, "BlobNotFound")
    write_to = send(azure, "PUT", f"/{BOX}/a?comp=metadata&versionid={first}", token(azure), x_ms_meta_k="v")
    assert refusal(write_to) == (400, "InvalidQueryParameterValue")


def test_deleting_leaves_versions_only(box: Any) -> None:
    first, second = write(box, "a", "one", "two")
    box.delete_blob("a")
    with pytest.raises(ResourceNotFoundError):
        box.get_blob_client("a").get_blob_properties()
    assert listed(box) == [("a", first, False), ("a", second, False)]
    assert [item.name for item in box.list_blobs()] == []
    only = [(item.name, item.has_versions_only) for item in box.list_blobs(include=["deletedwithversions"])]
    assert only == [("a", True)]


def test_a_version_is_promoted_by_copying_it(box: Any) -> None:
    first, _ = write(box, "a", "one", "two")
    box.delete_blob("a")
    blob = box.get_blob_client("a")
    source = f"{blob.url}?versionid={first}"
    blob.start_copy_from_url(source)
    found = blob.get_blob_properties()
    assert blob.download_blob().readall() == b"one"
    assert urllib.parse.unquote(found.copy.source) == source
    assert "kept-" not in found.copy.source
    assert len(listed(box)) == 3
    assert listed(box)[-1] == ("a", found.version_id, True)


def test_deleting_a_version(azure: LocalAzure, box: Any) -> None:
    first, second = write(box, "a", "one", "two")
    with pytest.raises(HttpResponseError) as refused:
        box.get_blob_client("a", version_id=second).delete_blob()
    assert (refused.value.status_code, refused.value.error_code) == (403, "OperationNotAllowedOnRootBlob")
    with_letter_d = send(azure, "DELETE", f"/{BOX}/a?versionid={first}", sas(azure, "d"))
    assert refusal(with_letter_d) == (403, "AuthorizationPermissionMismatch")
    assert send(azure, "DELETE", f"/{BOX}/a?versionid={first}", sas(azure, "x")).status_code == 202
    assert listed(box) == [("a", second, True)]


def test_undelete_brings_back_versions_and_never_the_current_one(azure: LocalAzure, box: Any) -> None:
    setting(azure, deleteRetentionPolicy=KEEP)
    first, second = write(box, "a", "one", "two")
    box.delete_blob("a")
    for version in (first, second):
        answer = send(azure, "DELETE", f"/{BOX}/a?versionid={version}", token(azure))
        assert answer.headers["x-ms-delete-type-permanent"] == "false"
    assert listed(box) == []
    assert [item.deleted for item in box.list_blobs(include=["versions", "deleted"])] == [True, True]
    box.get_blob_client("a").undelete_blob()
    assert listed(box) == [("a", first, False), ("a", second, False)]
    with pytest.raises(ResourceNotFoundError):
        box.get_blob_client("a").get_blob_properties()


def test_deleted_versions_are_gone_after_their_days(azure: LocalAzure, box: Any) -> None:
    setting(azure, deleteRetentionPolicy=KEEP)
    first, _ = write(box, "a", "one", "two")
    send(azure, "DELETE", f"/{BOX}/a?versionid={first}", token(azure))
    azure.blobs.age(timedelta(days=8))
    assert len(list(box.list_blobs(include=["versions", "deleted"]))) == 1


def test_pages_of_versions_hold_each_once(box: Any) -> None:
    ids = write(box, "a", *"12345") + write(box, "b/1", *"12")
    pages = box.list_blobs(include=["versions"], results_per_page=2).by_page()
    assert [item.version_id for page in pages for item in page] == ids
    walked = box.walk_blobs(include=["versions"], delimiter="/")
    assert sorted(item.name for item in walked) == ["a"] * 5 + ["b/"]


def test_versions_of_a_blob_from_before_versioning(azure: LocalAzure, box: Any) -> None:
    setting(azure, isVersioningEnabled=False)
    box.upload_blob("a", "one")
    assert box.get_blob_client("a").get_blob_properties().version_id is None
    setting(azure, isVersioningEnabled=True)
    (second,) = write(box, "a", "two")
    old = next(version for _, version, current in listed(box) if not current)
    assert box.get_blob_client("a", version_id=old).download_blob().readall() == b"one"
    assert listed(box)[-1] == ("a", second, True)
    assert names(azure, BOX) == ["a"]
