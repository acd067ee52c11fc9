"""What the local blob service records of the requests it served, for log queries and in PT1H.json."""

import hashlib
import json
from typing import Any

import jwt
import pytest

from local.azure import LocalAzure

from .blob_calls import ACCOUNT, BOX, KEEP, access_token, client, sas, send, setting, token

ARCHIVE = "contosoweb"


@pytest.fixture(autouse=True)
def blob(azure: LocalAzure, box: Any) -> Any:
    found = box.get_blob_client("in/a b.txt")
    found.upload_blob("content")
    azure.log.clear()
    return found


def last(azure: LocalAzure) -> dict[str, Any]:
    return azure.log.records()[-1].columns


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest().upper()


def test_a_read_by_token(azure: LocalAzure) -> None:
    bearer = access_token(azure)
    answer = send(
        azure, "GET", f"/{BOX}/in/a%20b.txt", f"Bearer {bearer}", User_Agent="probe/1", x_ms_client_request_id="m"
    )
    row = last(azure)
    claims = jwt.decode(bearer, options={"verify_signature": False})
    assert (row["OperationName"], row["Category"], row["StatusCode"]) == ("GetBlob", "StorageRead", "200")
    assert (row["AuthenticationType"], row["AuthenticationHash"]) == ("OAuth", sha256(bearer.encode()))
    assert row["RequesterTenantId"] == str(claims.get("tid") or "")
    assert row["Uri"] == f"https://{ACCOUNT}.blob.core.windows.net:443/{BOX}/in/a%20b.txt"
    assert row["ObjectKey"] == f'"/{ACCOUNT}/{ACCOUNT}/{BOX}/in/a b.txt"'
    assert row["CallerIpAddress"].rpartition(":")[0] == azure.client_address
    assert (row["ResponseBodySize"], row["ClientRequestId"], row["UserAgentHeader"]) == (7, "m", '"probe/1"')
    assert row["CorrelationId"] == answer.headers["x-ms-request-id"]


def test_who_asked_is_told_by_hashes(azure: LocalAzure, blob: Any) -> None:
    import base64
    import urllib.parse

    key = azure.arm.keys[ACCOUNT][0]
    key_hash = f"key1({sha256(base64.b64decode(key))})"
    blob.download_blob().readall()
    assert (last(azure)["AuthenticationType"], last(azure)["AuthenticationHash"]) == ("AccountKey", key_hash)
    signed = sas(azure, "r")
    send(azure, "GET", f"/{BOX}/in/a%20b.txt", signed)
    value = dict(urllib.parse.parse_qsl(signed))["sig"]
    assert last(azure)["AuthenticationHash"] == f"{key_hash},SasSignature({sha256(value.encode())})"
    assert value not in json.dumps(last(azure))
    assert urllib.parse.quote(value, safe="") not in json.dumps(last(azure))
    send(azure, "GET", f"/{BOX}/in/a%20b.txt")
    assert (last(azure)["AuthenticationType"], last(azure)["StatusText"]) == ("Anonymous", "PublicAccessNotPermitted")


def test_names_and_categories_of_operations(azure: LocalAzure, box: Any, blob: Any) -> None:
    setting(azure, deleteRetentionPolicy=KEEP)
    blob.create_snapshot()
    blob.set_blob_metadata({"k": "v"})
    blob.acquire_lease().release()
    box.get_blob_client("copy").start_copy_from_url(blob.url)
    blob.delete_blob(delete_snapshots="include")
    blob.undelete_blob()
    list(box.list_blobs())
    rows = [(record.columns["OperationName"], record.columns["Category"]) for record in azure.log.records()]
    assert rows == [
        ("SnapshotBlob", "StorageWrite"),
        ("SetBlobMetadata", "StorageWrite"),
        ("AcquireBlobLease", "StorageWrite"),
        ("ReleaseBlobLease", "StorageWrite"),
        ("CopyBlob", "StorageWrite"),
        ("DeleteBlob", "StorageDelete"),
        ("UndeleteBlob", "StorageWrite"),
        ("ListBlobs", "StorageRead"),
    ]
    copied = azure.log.records()[4].columns
    assert copied["SourceUri"].endswith(f"/{BOX}/in/a%20b.txt")
    assert copied["DestinationUri"].endswith(f"/{BOX}/copy")


def test_a_refused_request_is_recorded(azure: LocalAzure) -> None:
    send(azure, "DELETE", f"/{BOX}/in/a%20b.txt", sas(azure, "r"))
    row = last(azure)
    assert (row["OperationName"], row["StatusCode"]) == ("DeleteBlob", "403")
    assert row["StatusText"] == "AuthorizationPermissionMismatch"


def test_each_part_of_a_batch_is_recorded(azure: LocalAzure, box: Any) -> None:
    box.upload_blob("x", "1")
    azure.log.clear()
    box.delete_blobs("x", "in/a b.txt")
    assert [record.columns["OperationName"] for record in azure.log.records()] == [
        "DeleteBlob",
        "DeleteBlob",
        "SubmitBatch",
    ]


def test_lines_go_to_the_account_of_a_diagnostic_setting(azure: LocalAzure) -> None:
    for name in azure.azurite.container_names(ARCHIVE):
        azure.azurite.delete(ARCHIVE, azure.arm.keys[ARCHIVE][0], name)
    account, archive = azure.arm.accounts[ACCOUNT]["id"], azure.arm.accounts[ARCHIVE]["id"]
    base = f"{account}/blobServices/default/providers/Microsoft.Insights/diagnosticSettings/all"
    logs = [{"category": "StorageRead", "enabled": True}, {"category": "StorageDelete", "enabled": True}]
    azure.arm.settings[base.lower()] = {"id": base, "properties": {"storageAccountId": archive, "logs": logs}}
    for auth in (token(azure), sas(azure, "r")):
        send(azure, "GET", f"/{BOX}/in/a%20b.txt", auth)
    send(azure, "PUT", f"/{BOX}/b", token(azure), b"x", x_ms_blob_type="BlockBlob")
    send(azure, "DELETE", f"/{BOX}/in/a%20b.txt", token(azure))
    service = client(azure, ARCHIVE)
    try:
        assert [item.name for item in service.list_containers()] == [
            "insights-logs-storagedelete",
            "insights-logs-storageread",
        ]
        reads = service.get_container_client("insights-logs-storageread")
        (item,) = reads.list_blobs()
        assert item.blob_type == "AppendBlob"
        assert item.name.startswith(f"resourceId={account}/blobServices/default/y=20")
        assert item.name.endswith("/m=00/PT1H.json")
        lines = [json.loads(line) for line in reads.download_blob(item.name).readall().splitlines()]
        assert [line["operationName"] for line in lines] == ["GetBlob", "GetBlob"]
        assert [line["identity"]["type"] for line in lines] == ["OAuth", "SAS Key"]
        assert lines[0]["statusCode"] == 200
    finally:
        for container in service.list_containers():
            service.delete_container(container.name)
