"""Geo-redundant accounts: what is told of their second copy, and their failover to it."""

from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError
from azure.mgmt.storage import StorageManagementClient

from local.azure import LocalAzure
from local.azure.arm.locks import add_lock

from .clients import ACCOUNT, GROUP, STORAGE, account_id, code_of, refused, send

pytestmark = pytest.mark.usefixtures("kept_store")


def read(sdk: StorageManagementClient, expand: Any = None) -> Any:
    return sdk.storage_accounts.get_properties(GROUP, ACCOUNT, expand=expand)


def to_sku(sdk: StorageManagementClient, name: str) -> None:
    sdk.storage_accounts.update(GROUP, ACCOUNT, {"sku": {"name": name}})


def test_a_second_copy_is_told_where_there_is_one(sdk: StorageManagementClient) -> None:
    assert read(sdk, "geoReplicationStats").geo_replication_stats is None
    assert read(sdk).secondary_location is None
    to_sku(sdk, "Standard_RAGRS")
    found = read(sdk, "geoReplicationStats")
    assert (found.primary_location, found.secondary_location) == ("westeurope", "northeurope")
    assert f"{ACCOUNT}-secondary.blob." in found.secondary_endpoints.blob
    stats = found.geo_replication_stats
    assert (stats.status, stats.can_failover, stats.post_failover_redundancy) == ("Live", True, "Standard_LRS")
    assert read(sdk).geo_replication_stats is None, "only where it is asked for"
    to_sku(sdk, "Standard_LRS")
    assert read(sdk).secondary_endpoints is None


@pytest.mark.parametrize(
    ("before", "kind", "after"),
    [
        ("Standard_RAGRS", None, "Standard_LRS"),
        ("Standard_GZRS", None, "Standard_LRS"),
        ("Standard_GRS", "Planned", "Standard_GRS"),
        ("Standard_RAGZRS", "Planned", "Standard_RAGRS"),
    ],
)
def test_an_account_fails_over(
    azure: LocalAzure, sdk: StorageManagementClient, before: str, kind: Any, after: str
) -> None:
    to_sku(sdk, before)
    azure.arm.services[ACCOUNT]["restorePolicy"] = {
        "enabled": True,
        "days": 7,
        "minRestoreTime": "2026-01-01T00:00:00Z",
    }
    azure.arm.polls = 2
    poller = sdk.storage_accounts.begin_failover(GROUP, ACCOUNT, failover_type=kind)
    assert read(sdk).failover_in_progress is True
    with pytest.raises(HttpResponseError) as again:
        sdk.storage_accounts.begin_failover(GROUP, ACCOUNT, failover_type=kind)
    assert again.value.status_code == 409
    poller.result()
    found = read(sdk)
    assert (found.sku.name, found.primary_location, found.location) == (after, "northeurope", "westeurope")
    assert found.secondary_location == ("westeurope" if kind else None)
    assert found.last_geo_failover_time is not None
    assert not found.failover_in_progress
    assert azure.arm.services[ACCOUNT]["restorePolicy"]["minRestoreTime"] > "2026-01-02"


def test_what_does_not_fail_over(azure: LocalAzure, sdk: StorageManagementClient) -> None:
    with pytest.raises(HttpResponseError) as error:
        sdk.storage_accounts.begin_failover(GROUP, ACCOUNT)
    assert error.value.status_code == 409
    to_sku(sdk, "Standard_GRS")
    odd = send(azure, "POST", f"{account_id(azure)}/failover?failoverType=Soon", STORAGE)
    assert code_of(odd) == (400, "InvalidValuesForRequestParameters")
    add_lock(azure.arm, account_id(azure), "keep", "ReadOnly")
    with pytest.raises(HttpResponseError) as locked:
        sdk.storage_accounts.begin_failover(GROUP, ACCOUNT)
    assert refused(locked) == (409, "ScopeLocked")
