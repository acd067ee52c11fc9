"""The local Azure itself: Microsoft's own clients must be satisfied, and faults must strike as asked."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import requests
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError, ResourceNotFoundError
from azure.mgmt.storage import StorageManagementClient
from azure.storage.blob import BlobServiceClient

from local.azure import LocalAzure
from local.xsoar.server import ROOT

from .clients import ACCOUNT, GROUP, SUBSCRIPTION, Credential, call


def blobs(azure: LocalAzure, account: str = ACCOUNT) -> BlobServiceClient:
    url = f"https://{azure.blob_host}/{account}"
    return BlobServiceClient(
        url, credential=Credential(azure), api_version="2025-11-05", connection_verify=str(azure.ca_file)
    )


def test_an_account_from_creation_to_deletion(azure: LocalAzure, sdk: StorageManagementClient) -> None:
    azure.arm.polls = 2
    body = {"sku": {"name": "Standard_LRS"}, "kind": "StorageV2", "location": "westeurope", "tags": {"a": "1"}}
    created = sdk.storage_accounts.begin_create(GROUP, "sdkaccount", body).result()
    assert (created.name, created.kind, created.tags) == ("sdkaccount", "StorageV2", {"a": "1"})
    assert "sdkaccount" in [account.name for account in sdk.storage_accounts.list()]
    assert (
        sdk.storage_accounts.check_name_availability(
            {"name": "sdkaccount", "type": "Microsoft.Storage/storageAccounts"}
        ).reason
        == "AlreadyExists"
    )
    updated = sdk.storage_accounts.update(GROUP, "sdkaccount", {"properties": {"allowSharedKeyAccess": False}})
    assert updated.allow_shared_key_access is False
    assert updated.minimum_tls_version == "TLS1_2", "what was not named stays"
    sdk.storage_accounts.delete(GROUP, "sdkaccount")
    with pytest.raises(ResourceNotFoundError) as missing:
        sdk.storage_accounts.get_properties(GROUP, "sdkaccount")
    assert missing.value.error.code == "ResourceNotFound"


@pytest.mark.parametrize(
    ("name", "body", "code"),
    [
        ("UPPER", {}, "AccountNameInvalid"),
        ("goodname", {"sku": {"name": "Gold"}}, "InvalidValuesForRequestParameters"),
        ("goodname", {"kind": "Tape"}, "InvalidValuesForRequestParameters"),
        ("goodname", {"location": "atlantis"}, "LocationNotAvailableForResourceType"),
        ("contosoweb", {}, "StorageAccountAlreadyTaken"),
    ],
)
def test_a_creation_that_azure_refuses(
    sdk: StorageManagementClient, name: str, body: dict[str, Any], code: str
) -> None:
    whole = {"sku": {"name": "Standard_LRS"}, "kind": "StorageV2", "location": "westeurope", **body}
    with pytest.raises(HttpResponseError) as refused:
        sdk.storage_accounts.begin_create(GROUP, name, whole)
    assert refused.value.error is not None
    assert refused.value.error.code == code


def test_keys_are_listed_and_replaced(azure: LocalAzure, sdk: StorageManagementClient) -> None:
    before = {key["keyName"]: key["value"] for key in sdk.storage_accounts.list_keys(GROUP, ACCOUNT)["keys"]}
    renewed = sdk.storage_accounts.regenerate_key(GROUP, ACCOUNT, {"keyName": "key1"})
    after = {key["keyName"]: key["value"] for key in renewed["keys"]}
    assert before["key1"] != after["key1"]
    assert before["key2"] == after["key2"]
    for value, works in ((after["key1"], True), (before["key1"], False)):
        credential = {"account_name": ACCOUNT, "account_key": str(value)}
        client = BlobServiceClient(
            f"https://{azure.blob_host}/{ACCOUNT}",
            credential=credential,
            api_version="2025-11-05",
            connection_verify=str(azure.ca_file),
            retry_total=0,
        )
        if works:
            list(client.list_containers())
        else:
            with pytest.raises(ClientAuthenticationError):
                list(client.list_containers())


def test_a_put_of_the_blob_service_replaces_everything(sdk: StorageManagementClient) -> None:
    sdk.blob_services.set_service_properties(GROUP, ACCOUNT, {"properties": {"isVersioningEnabled": True}})
    sdk.blob_services.set_service_properties(
        GROUP, ACCOUNT, {"properties": {"deleteRetentionPolicy": {"enabled": True, "days": 5}}}
    )
    found = sdk.blob_services.get_service_properties(GROUP, ACCOUNT)
    assert found.is_versioning_enabled is None
    assert found.delete_retention_policy is not None
    assert found.delete_retention_policy.days == 5
    assert len(list(sdk.blob_services.list(GROUP, ACCOUNT))) == 1


def test_containers_are_the_same_on_both_sides(azure: LocalAzure, sdk: StorageManagementClient) -> None:
    sdk.blob_containers.create(GROUP, ACCOUNT, "from-arm", {})
    client = blobs(azure)
    assert "from-arm" in [item.name for item in client.list_containers()]
    client.create_container("from-blobs", metadata={"case": "1"})
    found = sdk.blob_containers.get(GROUP, ACCOUNT, "from-blobs")
    assert found.metadata == {"case": "1"}
    assert found.public_access == "None"
    sdk.storage_accounts.update(GROUP, ACCOUNT, {"properties": {"allowBlobPublicAccess": True}})
    sdk.blob_containers.update(GROUP, ACCOUNT, "from-blobs", {"properties": {"publicAccess": "Blob"}})
    assert sdk.blob_containers.get(GROUP, ACCOUNT, "from-blobs").public_access == "Blob"
    sdk.storage_accounts.update(GROUP, ACCOUNT, {"properties": {"allowBlobPublicAccess": False}})
    for name in ("from-arm", "from-blobs"):
        sdk.blob_containers.delete(GROUP, ACCOUNT, name)
    assert not [item.name for item in client.list_containers() if str(item.name).startswith("from-")]


def test_pages_and_deleted_containers(azure: LocalAzure, sdk: StorageManagementClient) -> None:
    retention = {"properties": {"containerDeleteRetentionPolicy": {"enabled": True, "days": 7}}}
    sdk.blob_services.set_service_properties(GROUP, ACCOUNT, retention)
    names = [f"page-{n}" for n in range(5)]
    for name in names:
        sdk.blob_containers.create(GROUP, ACCOUNT, name, {})
    azure.arm.page_size = 2
    assert [item.name for item in sdk.blob_containers.list(GROUP, ACCOUNT, filter="page-")] == names
    sdk.blob_containers.delete(GROUP, ACCOUNT, "page-4")
    listed = sdk.blob_containers.list(GROUP, ACCOUNT, include="deleted", filter="page-")
    deleted = [item for item in listed if item.deleted]
    assert [(item.name, item.remaining_retention_days) for item in deleted] == [("page-4", 7)]
    for name in names[:4]:
        sdk.blob_containers.delete(GROUP, ACCOUNT, name)


@pytest.mark.parametrize(
    ("authorization", "code"), [("", "InvalidAuthenticationToken"), ("Bearer a.b.c", "InvalidAuthenticationToken")]
)
def test_a_bad_token_is_refused(azure: LocalAzure, authorization: str, code: str) -> None:
    headers = {"Authorization": authorization} if authorization else {}
    answer = call(azure, "GET", f"{azure.arm_url}/subscriptions?api-version=2022-12-01", headers=headers)
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == code
    assert "Bearer" in answer.headers["WWW-Authenticate"]


def test_a_token_for_another_resource_is_refused(azure: LocalAzure) -> None:
    token = Credential(azure).get_token("https://storage.azure.com/.default").token
    headers = {"Authorization": f"Bearer {token}"}
    assert (
        call(azure, "GET", f"{azure.arm_url}/subscriptions?api-version=2022-12-01", headers=headers).status_code == 401
    )


@pytest.mark.parametrize(
    ("target", "status", "code"),
    [
        ("/subscriptions", 400, "MissingApiVersionParameter"),
        ("/subscriptions?api-version=new", 400, "InvalidApiVersionParameter"),
        ("/subscriptions/none?api-version=2022-12-01", 404, "SubscriptionNotFound"),
        (f"/subscriptions/{SUBSCRIPTION}/resourcegroups/none?api-version=2022-12-01", 404, "ResourceGroupNotFound"),
        ("/elsewhere?api-version=2022-12-01", 404, "InvalidResourceType"),
    ],
)
def test_arm_errors(azure: LocalAzure, target: str, status: int, code: str) -> None:
    token = Credential(azure).get_token(f"{azure.arm_url}/.default").token
    answer = call(azure, "GET", azure.arm_url + target, headers={"Authorization": f"Bearer {token}"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert answer.headers["x-ms-correlation-request-id"]
    assert int(answer.headers["x-ms-ratelimit-remaining-subscription-reads"]) > 0


def test_faults_strike_as_asked(azure: LocalAzure) -> None:
    url = f"{azure.arm_url}/subscriptions?api-version=2022-12-01"
    azure.faults.add(
        service="arm", path="/subscriptions", status=503, headers={"Retry-After": "1"}, body="busy", skip=1
    )
    assert [call(azure, "GET", url).status_code for _ in range(3)] == [401, 503, 401]
    azure.faults.add(service="arm", cut=0)
    with pytest.raises(requests.ConnectionError):
        call(azure, "GET", url)
    azure.faults.add(service="arm", cut=5)
    with pytest.raises((requests.ConnectionError, requests.exceptions.ChunkedEncodingError)):
        call(azure, "GET", url)
    assert azure.faults.struck == 3
    assert [request.service for request in azure.requests] == ["arm"] * 5


def alive(marker: str) -> list[int]:
    """The processes whose command line or folder names the marker."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            words = (folder / "cmdline").read_bytes().decode(errors="replace")
        except OSError:
            continue
        if marker in words:
            found.append(int(folder.name))
    return found


def test_no_process_outlives_its_azure(tmp_path: Path) -> None:
    with LocalAzure(tmp_path / "machine-a"):
        assert alive(str(tmp_path / "machine-a"))
    assert not alive(str(tmp_path / "machine-a"))


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_process_outlives_its_parent(tmp_path: Path, how: signal.Signals) -> None:
    """However the process that started it ends."""
    home = tmp_path / f"machine-{how.name}"
    script = (
        "import signal, threading; from pathlib import Path; from local.azure import LocalAzure\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # ignored where the tests run in the background
        f"with LocalAzure(Path({str(home)!r})):\n print('up', flush=True); threading.Event().wait()"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        (sys.executable, "-c", script), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
    ) as parent:
        assert parent.stdout
        assert parent.stdout.readline() == b"up\n"
        assert alive(str(home / "blobs"))
        parent.send_signal(how)
        parent.wait(10)
    deadline = time.monotonic() + 10
    while alive(str(home / "blobs")) and time.monotonic() < deadline:
        pass
    assert not alive(str(home / "blobs"))
