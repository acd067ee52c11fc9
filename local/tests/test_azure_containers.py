"""Containers and their leases, through Resource Manager."""

from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError
from azure.mgmt.storage import StorageManagementClient

from local.azure import LocalAzure

from .clients import (
    ACCOUNT,
    GROUP,
    STORAGE,
    account_id,
    code_of,
    send,
    service_id,
)

CONTAINER = "cloud-containers"


pytestmark = pytest.mark.usefixtures("kept_store")


def test_a_container_lease_is_a_real_one(azure: LocalAzure, sdk: StorageManagementClient) -> None:
    taken = sdk.blob_containers.lease(GROUP, ACCOUNT, CONTAINER, {"action": "Acquire", "leaseDuration": -1})
    assert sdk.blob_containers.get(GROUP, ACCOUNT, CONTAINER).lease_state == "Leased"
    with pytest.raises(HttpResponseError) as error:
        sdk.blob_containers.delete(GROUP, ACCOUNT, CONTAINER)
    assert error.value.status_code == 412
    sdk.blob_containers.lease(GROUP, ACCOUNT, CONTAINER, {"action": "Release", "leaseId": taken.lease_id})
    assert sdk.blob_containers.get(GROUP, ACCOUNT, CONTAINER).lease_state == "Available"


def test_the_life_of_a_lease(azure: LocalAzure, sdk: StorageManagementClient) -> None:
    first, second = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"
    where = (GROUP, ACCOUNT, CONTAINER)
    steps: tuple[tuple[dict[str, Any], dict[str, Any]], ...] = (
        ({"action": "Acquire", "leaseDuration": 15, "proposedLeaseId": first}, {"leaseId": first}),
        ({"action": "Renew", "leaseId": first}, {"leaseId": first}),
        ({"action": "Change", "leaseId": first, "proposedLeaseId": second}, {"leaseId": second}),
        ({"action": "Break", "breakPeriod": 0}, {"leaseTimeSeconds": "0"}),
    )
    for body, expected in steps:
        assert sdk.blob_containers.lease(*where, body).as_dict() == expected
    assert sdk.blob_containers.get(*where).lease_state == "Broken"
    path = f"{account_id(azure)}/blobServices/default/containers/{CONTAINER}/lease"
    wrong: tuple[dict[str, Any], ...] = (
        {"action": "Seize"},
        {"action": "Acquire"},
        {"action": "Acquire", "leaseDuration": 5},
        {"action": "Renew"},
        {"action": "Change", "leaseId": second},
    )
    assert [send(azure, "POST", path, "2025-08-01", body).status_code for body in wrong] == [400] * len(wrong)
    assert send(azure, "POST", path, "2025-08-01", {"action": "Renew", "leaseId": first}).status_code == 409


def container(azure: LocalAzure, method: str, body: Any = None, name: str = CONTAINER) -> Any:
    return send(azure, method, f"{service_id(azure)}/containers/{name}", STORAGE, body)


def test_public_access_needs_the_accounts_leave(azure: LocalAzure) -> None:
    public = {"properties": {"publicAccess": "Blob"}}
    assert code_of(container(azure, "PATCH", public)) == (409, "PublicAccessNotPermitted")
    odd = {"properties": {"publicAccess": "Everybody"}}
    assert code_of(container(azure, "PATCH", odd)) == (400, "InvalidValuesForRequestParameters")
    azure.arm.accounts[ACCOUNT]["properties"]["allowBlobPublicAccess"] = True
    for access in ("Blob", "blob"):  # the second is how Microsoft's command line sends it
        body = {"properties": {"publicAccess": access}}
        assert container(azure, "PATCH", body).json()["properties"]["publicAccess"] == "Blob"


@pytest.mark.parametrize("name", ["ab", "Upper", "two--dashes", "-first", "last-", "under_score"])
def test_a_name_that_no_container_has(azure: LocalAzure, name: str) -> None:
    assert code_of(container(azure, "PUT", {}, name)) == (400, "ContainerOperationFailure")


def test_a_container_is_made_once(azure: LocalAzure) -> None:
    made = [container(azure, "PUT", {"properties": {}}, "cloud-twice").status_code for _ in range(2)]
    assert made == [201, 200]
    gone = [container(azure, "DELETE", None, "cloud-twice").status_code for _ in range(2)]
    assert gone == [200, 204]
    assert code_of(container(azure, "GET", None, "cloud-twice")) == (404, "ContainerNotFound")


def test_what_the_blob_service_does_not_keep_is_kept(azure: LocalAzure) -> None:
    body = {"properties": {"defaultEncryptionScope": "scope1", "denyEncryptionScopeOverride": True}}
    assert container(azure, "PATCH", body).json()["properties"]["defaultEncryptionScope"] == "scope1"
    assert container(azure, "GET").json()["properties"]["denyEncryptionScopeOverride"] is True
