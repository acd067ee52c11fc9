"""What every answer of the local blob service carries, and its statuses for ranges and conditions."""

import urllib.parse
import uuid
from email.utils import parsedate_to_datetime
from typing import Any

import pytest

from local.azure import LocalAzure

from .blob_calls import ACCOUNT, BOX, client, names, refusal, sas, send, setting, token
from .clients import call

TEN = b"0123456789"


@pytest.fixture(autouse=True)
def blob(box: Any) -> Any:
    found = box.get_blob_client("a")
    found.upload_blob(TEN)
    return found


@pytest.mark.parametrize(
    ("method", "target", "status"),
    [
        ("GET", f"/{BOX}/a", 200),
        ("HEAD", f"/{BOX}/a", 200),
        ("GET", f"/{BOX}?restype=container&comp=list", 200),
        ("GET", "/?comp=list", 200),
        ("PUT", f"/{BOX}/a?comp=snapshot", 201),
        ("PUT", f"/{BOX}/a?comp=undelete", 200),
        ("DELETE", f"/{BOX}/a", 202),
        ("GET", f"/{BOX}/none", 404),
        ("GET", f"/{BOX}/a?comp=nonsense", 400),
        ("PUT", "/Bad_Name?restype=container", 400),
        ("GET", "/missing-box?restype=container&comp=list", 404),
    ],
)
def test_headers_of_every_answer(azure: LocalAzure, method: str, target: str, status: int) -> None:
    mine = str(uuid.uuid4())
    answer = send(azure, method, target, token(azure), x_ms_client_request_id=mine)
    assert answer.status_code == status, answer.text
    assert uuid.UUID(answer.headers["x-ms-request-id"])
    assert (answer.headers["x-ms-version"], answer.headers["x-ms-client-request-id"]) == ("2025-11-05", mine)
    assert parsedate_to_datetime(answer.headers["Date"])
    assert answer.headers["Date"].count("GMT") == 1
    if status >= 400 and method != "HEAD":
        assert answer.headers["x-ms-error-code"] in answer.text
        assert answer.headers["x-ms-request-id"] in answer.text


def test_no_client_request_id_no_echo(azure: LocalAzure) -> None:
    assert "x-ms-client-request-id" not in send(azure, "GET", f"/{BOX}/a", token(azure)).headers


def test_a_request_without_a_version(azure: LocalAzure) -> None:
    """A token needs one of its own days; anonymous requests get the account's default, or the oldest."""
    url, bearer = f"{azure.azurite.endpoint(ACCOUNT)}{BOX}/a", {"Authorization": token(azure)}
    by_token = call(azure, "GET", url, headers=bearer)
    assert refusal(by_token) == (403, "AuthenticationFailed")
    assert "Authentication scheme Bearer is not supported in this version." in by_token.text
    signed = sas(azure, "r")
    version = urllib.parse.parse_qs(signed)["sv"][0]
    assert call(azure, "GET", f"{url}?{signed}").headers["x-ms-version"] == version
    assert call(azure, "GET", url).headers["x-ms-version"] == "2009-09-19"
    setting(azure, defaultServiceVersion="2021-12-02")
    assert call(azure, "GET", url).headers["x-ms-version"] == "2021-12-02"
    assert call(azure, "GET", url, headers=bearer).status_code == 200


@pytest.mark.parametrize("version", ["2099-01-01", "latest", "2027-01-01"])
def test_a_version_that_is_not_known(azure: LocalAzure, version: str) -> None:
    answer = send(azure, "GET", f"/{BOX}/a", token(azure), x_ms_version=version)
    assert refusal(answer) == (400, "InvalidHeaderValue")
    assert "<HeaderName>x-ms-version</HeaderName>" in answer.text


@pytest.mark.parametrize(
    ("asked", "status", "body", "content_range"),
    [
        ("bytes=0-3", 206, b"0123", "bytes 0-3/10"),
        ("bytes=7-", 206, b"789", "bytes 7-9/10"),
        ("bytes=8-100", 206, b"89", "bytes 8-9/10"),
    ],
)
def test_ranges(azure: LocalAzure, asked: str, status: int, body: bytes, content_range: str) -> None:
    by = token(azure)
    for answer in (
        send(azure, "GET", f"/{BOX}/a", by, Range=asked),
        send(azure, "GET", f"/{BOX}/a", by, x_ms_range=asked),
    ):
        assert (answer.status_code, answer.content) == (status, body)
        assert (answer.headers["Content-Range"], answer.headers["Content-Length"]) == (content_range, str(len(body)))


def test_a_range_beyond_the_end(azure: LocalAzure) -> None:
    answer = send(azure, "GET", f"/{BOX}/a", token(azure), Range="bytes=10-20")
    assert refusal(answer) == (416, "InvalidRange")


def test_conditions(azure: LocalAzure, blob: Any) -> None:
    etag = str(blob.get_blob_properties().etag)
    assert send(azure, "GET", f"/{BOX}/a", token(azure), If_None_Match=etag).status_code == 304
    assert refusal(send(azure, "GET", f"/{BOX}/a", token(azure), If_Match='"0x0"')) == (412, "ConditionNotMet")
    write = send(azure, "PUT", f"/{BOX}/a", token(azure), b"x", x_ms_blob_type="BlockBlob", If_None_Match="*")
    assert refusal(write) == (409, "BlobAlreadyExists")
    assert refusal(send(azure, "DELETE", f"/{BOX}/a", token(azure), If_Match='"0x0"')) == (412, "ConditionNotMet")
    assert send(azure, "DELETE", f"/{BOX}/a", token(azure), If_Match=etag).status_code == 202


@pytest.mark.parametrize("query", ["&maxresults=0", "&maxresults=x", "&include=everything"])
def test_listings_that_are_refused(azure: LocalAzure, query: str) -> None:
    answer = send(azure, "GET", f"/{BOX}?restype=container&comp=list{query}", token(azure))
    assert answer.status_code == 400


def test_query_names_in_any_case(azure: LocalAzure) -> None:
    answer = send(azure, "GET", f"/{BOX}?ResType=container&COMP=list&Prefix=a", token(azure))
    assert (answer.status_code, "<Name>a</Name>" in answer.text) == (200, True)


def test_both_forms_of_an_address(azure: LocalAzure) -> None:
    import requests

    url = f"https://{azure.blob_host}/{ACCOUNT}/{BOX}/a?{sas(azure, 'r')}"
    with requests.Session() as session:
        session.trust_env = False
        assert session.get(url, verify=str(azure.ca_file), timeout=10).content == TEN


def test_last_access_times(azure: LocalAzure, blob: Any) -> None:
    blob.download_blob().readall()
    assert blob.get_blob_properties().last_accessed_on is None
    setting(azure, lastAccessTimeTrackingPolicy={"enable": True})
    blob.download_blob().readall()
    assert blob.get_blob_properties().last_accessed_on is not None
    listed = next(iter(client(azure).get_container_client(BOX).list_blobs()))
    assert listed.last_accessed_on == blob.get_blob_properties().last_accessed_on


def test_what_an_account_tells_of_itself(azure: LocalAzure) -> None:
    found = client(azure).get_account_information()
    assert (found["sku_name"], found["account_kind"], found["is_hns_enabled"]) == ("Standard_LRS", "StorageV2", False)


def test_dots_in_a_name_lead_nowhere(azure: LocalAzure, box: Any) -> None:
    """Sent as it is, which Microsoft's client does not do."""
    import http.client
    import ssl

    other = client(azure).create_container("other-box")
    other.upload_blob("x", "other")
    host, port = azure.storage_suffix.split(":")
    context = ssl.create_default_context(cafile=str(azure.ca_file))
    connection = http.client.HTTPSConnection(host, int(port), context=context)
    headers = {"x-ms-version": "2025-11-05", "x-ms-blob-type": "BlockBlob", "Authorization": token(azure)}
    try:
        for path, status in ((f"/{ACCOUNT}/{BOX}/../other-box/x", 201), (f"/{ACCOUNT}/{BOX}/..%2Fother-box%2Fx", 201)):
            connection.request("PUT", path, b"mine", headers)
            answer = connection.getresponse()
            assert (answer.status, answer.read()) == (status, b"")
    finally:
        connection.close()
    assert other.download_blob("x").readall() == b"other"
    assert names(azure, BOX) == ["../other-box/x", "a"]
