"""What the store knows of incident response: Microsoft's client drives what it can, plain requests the rest."""

from collections.abc import Callable
from typing import Any

import pytest
import requests
from azure.core import MatchConditions
from azure.core.exceptions import HttpResponseError
from azure.mgmt.storage import StorageManagementClient

from local.cloud import LocalAzure
from local.cloud.machine import GROUP, SUBSCRIPTION

from .test_cloud import ACCOUNT, Credential, call, sdk

__all__ = ["sdk"]  # a fixture of that file, used here too
CONTAINER = "cloud-response"
IF_MATCH = MatchConditions.IfNotModified


@pytest.fixture(autouse=True)
def clean(azure: LocalAzure) -> Any:
    key = azure.arm.keys[ACCOUNT][0]
    azure.azurite.create(ACCOUNT, key, CONTAINER, {})
    before = dict(azure.arm.services[ACCOUNT])
    yield
    azure.arm.clear_response()
    azure.arm.services[ACCOUNT] = before
    azure.azurite.delete(ACCOUNT, key, CONTAINER)


def send(azure: LocalAzure, method: str, path: str, version: str, body: Any = None) -> requests.Response:
    token = Credential(azure).get_token(f"{azure.arm_url}/.default").token
    url = f"{azure.arm_url}{path}{'&' if '?' in path else '?'}api-version={version}"
    return call(azure, method, url, json=body, headers={"Authorization": f"Bearer {token}"})


def account_id(azure: LocalAzure) -> str:
    found: str = azure.arm.accounts[ACCOUNT]["id"]
    return found


def refused(error: pytest.ExceptionInfo[HttpResponseError]) -> tuple[int | None, str | None]:
    return error.value.status_code, error.value.error.code if error.value.error else None


def test_resource_graph_pages_filters_and_refuses_what_it_does_not_know(azure: LocalAzure) -> None:
    azure.arm.graph_page_size = 1
    path, query = (
        "/providers/Microsoft.ResourceGraph/resources",
        "resources\n| where type =~ 'microsoft.storage/storageaccounts'",
    )
    first = send(azure, "POST", path, "2024-04-01", {"query": query}).json()
    assert (first["totalRecords"], first["count"]) == (len(azure.arm.accounts), 1)
    options = {"$skipToken": first["$skipToken"], "$top": 5}
    second = send(azure, "POST", path, "2024-04-01", {"query": query, "options": options}).json()
    assert second["data"][0]["id"] != first["data"][0]["id"]
    azure.arm.graph_page_size = 1000
    one = f"{query}\n| where name in~ ('{ACCOUNT.upper()}')\n| where tags['owner'] =~ 'Finance'\n| order by id asc"
    (row,) = send(azure, "POST", path, "2024-04-01", {"query": one}).json()["data"]
    assert (row["resourceGroup"], row["subscriptionId"]) == (GROUP.lower(), SUBSCRIPTION)
    wrong = send(azure, "POST", path, "2024-04-01", {"query": f"{query}\n| wher name =~ 'x'"})
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (400, "BadRequest")


def test_locks_hold_and_are_inherited(azure: LocalAzure, sdk: StorageManagementClient) -> None:
    group = account_id(azure).partition("/providers")[0]
    azure.arm.add_lock(group, "all", "CanNotDelete")
    locks = f"{account_id(azure)}/providers/Microsoft.Authorization/locks"
    assert [lock["name"] for lock in send(azure, "GET", locks, "2020-05-01").json()["value"]] == ["all"]
    with pytest.raises(HttpResponseError) as error:
        sdk.storage_accounts.delete(GROUP, ACCOUNT)
    assert refused(error) == (409, "ScopeLocked")
    sdk.storage_accounts.update(GROUP, ACCOUNT, {"properties": {"accessTier": "Hot"}})
    body = {"properties": {"level": "ReadOnly"}}
    assert send(azure, "PUT", f"{locks}/mine", "2020-05-01", body).status_code == 201
    stopped: tuple[Callable[[], object], ...] = (
        lambda: sdk.storage_accounts.update(GROUP, ACCOUNT, {"properties": {"accessTier": "Hot"}}),
        lambda: sdk.storage_accounts.list_keys(GROUP, ACCOUNT),
    )
    for call_it in stopped:
        with pytest.raises(HttpResponseError) as error:
            call_it()
        assert refused(error) == (409, "ScopeLocked")
    assert send(azure, "DELETE", f"{locks}/mine", "2020-05-01").status_code == 200
    assert send(azure, "DELETE", f"{locks}/mine", "2020-05-01").status_code == 204
    assert len(sdk.storage_accounts.list_keys(GROUP, ACCOUNT).keys_property or []) == 2


def test_delegation_keys_are_revoked(azure: LocalAzure, sdk: StorageManagementClient) -> None:
    sdk.storage_accounts.revoke_user_delegation_keys(GROUP, ACCOUNT)
    assert len(azure.arm.revoked[ACCOUNT]) == 1


def test_legal_holds(azure: LocalAzure, sdk: StorageManagementClient) -> None:
    held = sdk.blob_containers.set_legal_hold(GROUP, ACCOUNT, CONTAINER, {"tags": ["Case1", "case2"]})
    assert held.tags == ["case1", "case2"]
    found = sdk.blob_containers.get(GROUP, ACCOUNT, CONTAINER)
    assert found.has_legal_hold is True
    stopped: tuple[tuple[Callable[[], object], int], ...] = (
        (lambda: sdk.blob_containers.set_legal_hold(GROUP, ACCOUNT, CONTAINER, {"tags": ["a-b"]}), 400),
        (lambda: sdk.blob_containers.delete(GROUP, ACCOUNT, CONTAINER), 409),
        (lambda: sdk.storage_accounts.delete(GROUP, ACCOUNT), 409),
    )
    for call_it, code in stopped:
        with pytest.raises(HttpResponseError) as error:
            call_it()
        assert error.value.status_code == code
    sdk.blob_containers.clear_legal_hold(GROUP, ACCOUNT, CONTAINER, {"tags": ["case1", "case2"]})
    assert sdk.blob_containers.get(GROUP, ACCOUNT, CONTAINER).has_legal_hold is False


def test_immutability_policies(azure: LocalAzure, sdk: StorageManagementClient) -> None:
    where = (GROUP, ACCOUNT, CONTAINER)
    made = sdk.blob_containers.create_or_update_immutability_policy(
        *where, parameters={"properties": {"immutabilityPeriodSinceCreationInDays": 3}}
    )
    assert made.state == "Unlocked"
    locked = sdk.blob_containers.lock_immutability_policy(*where, etag=str(made.etag), match_condition=IF_MATCH)
    assert locked.state == "Locked"
    with pytest.raises(HttpResponseError) as error:
        sdk.blob_containers.lock_immutability_policy(*where, etag='"other"', match_condition=IF_MATCH)
    assert error.value.status_code == 412
    longer = sdk.blob_containers.extend_immutability_policy(
        *where,
        {"properties": {"immutabilityPeriodSinceCreationInDays": 9}},
        etag=str(locked.etag),
        match_condition=IF_MATCH,
    )
    assert longer.immutability_period_since_creation_in_days == 9
    with pytest.raises(HttpResponseError) as error:
        sdk.blob_containers.delete_immutability_policy(*where, etag=str(longer.etag), match_condition=IF_MATCH)
    assert error.value.status_code == 409


def test_a_container_lease_is_a_real_one(azure: LocalAzure, sdk: StorageManagementClient) -> None:
    taken = sdk.blob_containers.lease(GROUP, ACCOUNT, CONTAINER, {"action": "Acquire", "leaseDuration": -1})
    assert sdk.blob_containers.get(GROUP, ACCOUNT, CONTAINER).lease_state == "Leased"
    with pytest.raises(HttpResponseError) as error:
        sdk.blob_containers.delete(GROUP, ACCOUNT, CONTAINER)
    assert error.value.status_code == 412
    sdk.blob_containers.lease(GROUP, ACCOUNT, CONTAINER, {"action": "Release", "leaseId": taken.lease_id})
    assert sdk.blob_containers.get(GROUP, ACCOUNT, CONTAINER).lease_state == "Available"


def test_ranges_are_restored_once_the_policy_is_on(azure: LocalAzure, sdk: StorageManagementClient) -> None:
    body = {"timeToRestore": "2026-11-23T00:00:00Z", "blobRanges": [{"startRange": "", "endRange": ""}]}
    path = f"{account_id(azure)}/restoreBlobRanges"
    assert send(azure, "POST", path, "2025-08-01", body).status_code == 409
    azure.arm.services[ACCOUNT]["restorePolicy"] = {"enabled": True, "days": 7}
    assert send(azure, "POST", path, "2025-08-01", body).status_code == 202
    assert send(azure, "POST", path, "2025-08-01", body).json()["error"]["code"] == "RestoreAlreadyInProgress"
    states = [
        sdk.storage_accounts.get_properties(GROUP, ACCOUNT, expand="blobRestoreStatus").blob_restore_status
        for _ in range(2)
    ]
    assert [state.status for state in states if state] == ["InProgress", "Complete"]


def test_what_was_done_is_in_the_activity_log(azure: LocalAzure, sdk: StorageManagementClient) -> None:
    sdk.storage_accounts.list_keys(GROUP, ACCOUNT)
    sdk.blob_containers.update(GROUP, ACCOUNT, CONTAINER, {"properties": {"publicAccess": "None"}})
    path = f"/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Insights/eventtypes/management/values"
    times = "eventTimestamp ge '2026-01-01T00:00:00Z' and eventTimestamp le '2099-01-01T00:00:00Z'"
    found = send(azure, "GET", f"{path}?$filter={times} and resourceGroupName eq '{GROUP}'", "2015-04-01").json()[
        "value"
    ]
    assert [event["operationName"]["value"] for event in found] == [
        "Microsoft.Storage/storageAccounts/blobServices/containers/write",
        "Microsoft.Storage/storageAccounts/listKeys/action",
    ]
    assert found[1]["resourceId"].lower() == account_id(azure).lower()
    assert send(azure, "GET", path, "2015-04-01").status_code == 400


def test_diagnostic_settings_need_a_place_to_go(azure: LocalAzure) -> None:
    path = f"{account_id(azure)}/blobServices/default/providers/Microsoft.Insights/diagnosticSettings"
    logs = [{"category": "StorageRead", "enabled": True}]
    assert send(azure, "PUT", f"{path}/x", "2021-05-01-preview", {"properties": {"logs": logs}}).status_code == 400
    body = {"properties": {"workspaceId": "/w", "logs": logs}}
    assert send(azure, "PUT", f"{path}/x", "2021-05-01-preview", body).status_code == 200
    assert len(send(azure, "GET", path, "2021-05-01-preview").json()["value"]) == 1
    assert send(azure, "DELETE", f"{path}/x", "2021-05-01-preview").status_code == 200


def test_what_posture_reads(azure: LocalAzure, sdk: StorageManagementClient) -> None:
    assert sdk.file_services.get_service_properties(GROUP, ACCOUNT).share_delete_retention_policy is not None
    assert list(sdk.object_replication_policies.list(GROUP, ACCOUNT)) == []
    assert list(sdk.encryption_scopes.list(GROUP, ACCOUNT)) == []
    assert list(sdk.local_users.list(GROUP, ACCOUNT)) == []
    azure.arm.reads[ACCOUNT, "encryptionScopes"] = {"value": [{"id": "/s", "name": "odd", "properties": {}}]}
    assert [scope.name for scope in sdk.encryption_scopes.list(GROUP, ACCOUNT)] == ["odd"]
    defender = f"{account_id(azure)}/providers/Microsoft.Security/defenderForStorageSettings/current"
    assert send(azure, "GET", defender, "2025-06-01").json()["properties"]["isEnabled"] is False
