"""Lifecycle and inventory policies."""

from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError
from azure.mgmt.storage import StorageManagementClient

from local.azure import LocalAzure

from .clients import ACCOUNT, GROUP, STORAGE, account_id, code_of, refused, send

pytestmark = pytest.mark.usefixtures("kept_store")


def rule(name: str = "old", **changes: Any) -> dict[str, Any]:
    actions = {"baseBlob": {"delete": {"daysAfterModificationGreaterThan": 30}}}
    definition = {"actions": actions, "filters": {"blobTypes": ["blockBlob"], "prefixMatch": ["logs/"]}, **changes}
    return {"enabled": True, "name": name, "type": "Lifecycle", "definition": definition}


def test_a_lifecycle_policy_from_making_to_deletion(azure: LocalAzure, sdk: StorageManagementClient) -> None:
    where = (GROUP, ACCOUNT, "default")
    with pytest.raises(HttpResponseError) as error:
        sdk.management_policies.get(*where)
    assert refused(error) == (404, "ManagementPolicyNotFound")
    made = sdk.management_policies.create_or_update(*where, {"properties": {"policy": {"rules": [rule()]}}})
    assert made.name == "DefaultManagementPolicy"
    found = sdk.management_policies.get(*where)
    assert found.policy is not None
    assert [item.name for item in found.policy.rules] == ["old"]
    assert found.last_modified_time is not None
    sdk.management_policies.delete(*where)
    path = f"{account_id(azure)}/managementPolicies/default"
    assert send(azure, "DELETE", path, STORAGE).status_code == 204


@pytest.mark.parametrize(
    ("rules", "code"),
    [
        ([], "InvalidValuesForRequestParameters"),
        ([rule(), rule()], "InvalidValuesForRequestParameters"),
        ([rule(actions={})], "InvalidValuesForRequestParameters"),
        ([rule(filters={"blobTypes": ["pageBlob"]})], "InvalidValuesForRequestParameters"),
        (
            [rule(actions={"baseBlob": {"tierToCool": {"daysAfterLastAccessTimeGreaterThan": 3}}})],
            "InvalidRequestPropertyValue",
        ),
    ],
)
def test_rules_that_azure_refuses(azure: LocalAzure, rules: list[dict[str, Any]], code: str) -> None:
    path = f"{account_id(azure)}/managementPolicies/default"
    assert code_of(send(azure, "PUT", path, STORAGE, {"properties": {"policy": {"rules": rules}}})) == (400, code)
    assert send(azure, "GET", path, STORAGE).status_code == 404


def test_last_access_counts_once_it_is_tracked(azure: LocalAzure, sdk: StorageManagementClient) -> None:
    tracking = {"properties": {"lastAccessTimeTrackingPolicy": {"enable": True}}}
    sdk.blob_services.set_service_properties(GROUP, ACCOUNT, tracking)
    by_access = rule(actions={"baseBlob": {"tierToCool": {"daysAfterLastAccessTimeGreaterThan": 3}}})
    body = {"properties": {"policy": {"rules": [by_access]}}}
    assert send(azure, "PUT", f"{account_id(azure)}/managementPolicies/default", STORAGE, body).status_code == 200


def test_an_inventory_policy(azure: LocalAzure, sdk: StorageManagementClient) -> None:
    definition = {"format": "Csv", "schedule": "Daily", "objectType": "Blob", "schemaFields": ["Name"]}
    rules = [{"name": "all", "destination": "reports", "enabled": True, "definition": definition}]
    policy = {"enabled": True, "type": "Inventory", "rules": rules}
    sdk.blob_inventory_policies.create_or_update(GROUP, ACCOUNT, "default", {"properties": {"policy": policy}})
    assert [item.name for item in sdk.blob_inventory_policies.list(GROUP, ACCOUNT)] == ["default"]
    sdk.blob_inventory_policies.delete(GROUP, ACCOUNT, "default")
    path = f"{account_id(azure)}/inventoryPolicies/default"
    assert code_of(send(azure, "GET", path, STORAGE)) == (404, "BlobInventoryPolicyNotFound")
