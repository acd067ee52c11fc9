"""The settings of the blob, file, queue and table service."""

from typing import Any

import pytest
from azure.mgmt.storage import StorageManagementClient

from local.azure import LocalAzure
from local.azure.arm.accounts import add_account

from .clients import (
    ACCOUNT,
    GROUP,
    NEWEST,
    STORAGE,
    SUBSCRIPTION,
    account_id,
    code_of,
    management,
    send,
    service_id,
)

pytestmark = pytest.mark.usefixtures("kept_store")


COMPLETE: dict[str, Any] = {
    "isVersioningEnabled": True,
    "changeFeed": {"enabled": True},
    "deleteRetentionPolicy": {"enabled": True, "days": 8},
    "restorePolicy": {"enabled": True, "days": 7},
}


def put(azure: LocalAzure, properties: dict[str, Any], account: str = ACCOUNT, version: str = STORAGE) -> Any:
    return send(azure, "PUT", service_id(azure, account), version, {"properties": properties})


@pytest.mark.parametrize(
    "changes",
    [
        {"isVersioningEnabled": False},
        {"changeFeed": {"enabled": False}},
        {"deleteRetentionPolicy": {"enabled": False}},
        {"deleteRetentionPolicy": {"enabled": True, "days": 7}},
    ],
)
def test_point_in_time_restore_needs_what_it_stands_on(azure: LocalAzure, changes: dict[str, Any]) -> None:
    """Versions, the change feed, and soft delete of blobs for more days."""
    assert code_of(put(azure, {**COMPLETE, **changes})) == (400, "InvalidValuesForRequestParameters")
    assert put(azure, COMPLETE).status_code == 200


def test_permanent_deletion_excludes_point_in_time_restore(azure: LocalAzure) -> None:
    deletes = {"deleteRetentionPolicy": {"enabled": True, "days": 8, "allowPermanentDelete": True}}
    assert code_of(put(azure, {**COMPLETE, **deletes})) == (409, "ConflictFeatureEnabled")
    assert put(azure, deletes).status_code == 200
    assert code_of(put(azure, {**COMPLETE, **deletes})) == (409, "ConflictFeatureEnabled")
    assert put(azure, COMPLETE).status_code == 200


def test_a_restore_reaches_back_to_when_it_was_turned_on(azure: LocalAzure) -> None:
    first = put(azure, COMPLETE).json()["properties"]["restorePolicy"]
    again = put(azure, {**COMPLETE, "restorePolicy": {"enabled": True, "days": 3}}).json()["properties"]
    assert again["restorePolicy"] == {**first, "days": 3}
    put(azure, {**COMPLETE, "restorePolicy": {"enabled": False}})
    assert put(azure, COMPLETE).json()["properties"]["restorePolicy"]["minRestoreTime"] > first["minRestoreTime"]


@pytest.mark.parametrize("properties", [{"isVersioningEnabled": True}, {"changeFeed": {"enabled": True}}, {**COMPLETE}])
def test_a_hierarchical_account_lacks_features(azure: LocalAzure, properties: dict[str, Any]) -> None:
    add_account(azure.arm, SUBSCRIPTION, GROUP, "lakeaccount", {"properties": {"isHnsEnabled": True}})
    assert code_of(put(azure, properties, "lakeaccount")) == (409, "FeatureNotSupportedForAccount")
    retention = {"deleteRetentionPolicy": {"enabled": True, "days": 3}}
    assert put(azure, retention, "lakeaccount").status_code == 200


CORS = {
    "allowedOrigins": ["*"],
    "allowedMethods": ["GET"],
    "allowedHeaders": [],
    "exposedHeaders": [],
    "maxAgeInSeconds": 5,
}


@pytest.mark.parametrize(
    ("rules", "status"),
    [
        ([CORS], 200),
        ([{name: value for name, value in CORS.items() if name != "maxAgeInSeconds"}], 400),
        ([CORS] * 6, 400),
        ([{**CORS, "allowedMethods": ["READ"]}], 400),
        ([{"allowedOrigins": ["*"]}], 400),
    ],
)
def test_cors_rules(azure: LocalAzure, rules: list[dict[str, Any]], status: int) -> None:
    assert put(azure, {"cors": {"corsRules": rules}}).status_code == status
    read = send(azure, "GET", service_id(azure), STORAGE).json()["properties"]["cors"]["corsRules"]
    assert read == (rules if status == 200 else [])


def test_the_static_website_needs_the_newest_version(azure: LocalAzure) -> None:
    website = {"staticWebsite": {"enabled": True, "indexDocument": "index.html"}}
    assert "staticWebsite" not in put(azure, website).json()["properties"], "dropped, and no error"
    assert "staticWebsite" not in send(azure, "GET", service_id(azure), NEWEST).json()["properties"]
    assert put(azure, website, version=NEWEST).json()["properties"]["staticWebsite"]["enabled"] is True
    assert "staticWebsite" not in send(azure, "GET", service_id(azure), STORAGE).json()["properties"]


@pytest.mark.parametrize("days", [0, 366, "7", None])
def test_days_that_are_none(azure: LocalAzure, days: Any) -> None:
    for policy in ("deleteRetentionPolicy", "containerDeleteRetentionPolicy"):
        assert put(azure, {policy: {"enabled": True, "days": days}}).status_code == 400


def test_the_other_services_are_kept_each_for_itself(azure: LocalAzure, sdk: StorageManagementClient) -> None:
    usual = sdk.file_services.get_service_properties(GROUP, ACCOUNT)
    assert usual.share_delete_retention_policy is not None
    assert usual.share_delete_retention_policy.days == 7
    shares = {"shareDeleteRetentionPolicy": {"enabled": True, "days": 30}}
    assert sdk.file_services.set_service_properties(GROUP, ACCOUNT, {"properties": shares}).name == "default"
    rules = {"properties": {"cors": {"corsRules": [CORS]}}}
    for service in ("queue", "table"):
        path = f"{account_id(azure)}/{service}Services/default"
        assert send(azure, "PUT", path, STORAGE, rules).json()["type"].endswith(f"{service}Services")
        assert len(send(azure, "GET", path.lower(), STORAGE).json()["properties"]["cors"]["corsRules"]) == 1
    kept_shares = sdk.file_services.get_service_properties(GROUP, ACCOUNT).share_delete_retention_policy
    assert kept_shares is not None
    assert kept_shares.days == 30


@pytest.mark.parametrize(
    ("kind", "sku", "lacks"),
    [
        ("BlockBlobStorage", "Premium_LRS", ("file", "queue", "table")),
        ("FileStorage", "Premium_LRS", ("blob", "queue")),
    ],
)
def test_a_kind_of_account_has_not_every_service(
    azure: LocalAzure, kind: str, sku: str, lacks: tuple[str, ...]
) -> None:
    add_account(azure.arm, SUBSCRIPTION, GROUP, "premiumaccount", {"kind": kind, "sku": {"name": sku}})
    for service in lacks:
        answer = send(azure, "GET", f"{account_id(azure, 'premiumaccount')}/{service}Services/default", STORAGE)
        assert code_of(answer) == (409, "FeatureNotSupportedForAccount")


def test_microsofts_newest_client_reads_the_website(azure: LocalAzure) -> None:
    put(azure, {"staticWebsite": {"enabled": True}}, version=NEWEST)
    with management(azure, NEWEST) as newest:
        found = newest.blob_services.get_service_properties(GROUP, ACCOUNT)
    assert found.static_website is not None
    assert found.static_website.enabled is True
