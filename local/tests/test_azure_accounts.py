"""Storage accounts: what a change keeps, what Azure refuses, what a deletion leaves."""

from collections.abc import Iterator
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError
from azure.mgmt.storage import StorageManagementClient

from local.azure import LocalAzure
from local.azure.arm.accounts import add_account
from local.azure.arm.parts import add_part

from .clients import (
    ACCOUNT,
    GROUP,
    SUBSCRIPTION,
    account_id,
    kept,
    send,
)


@pytest.fixture(autouse=True)
def clean(azure: LocalAzure) -> Iterator[None]:
    with kept(azure):
        yield


def test_a_patch_keeps_what_it_does_not_name(azure: LocalAzure, sdk: StorageManagementClient) -> None:
    def patched(**properties: Any) -> dict[str, Any]:
        answer = send(azure, "PATCH", account_id(azure), "2025-08-01", {"properties": properties})
        found: dict[str, Any] = answer.json()["properties"]
        return found

    before = patched(sasPolicy={"sasExpirationPeriod": "1.00:00:00", "expirationAction": "Log"}, allowedCopyScope="AAD")
    rules = {"defaultAction": "Deny", "ipRules": [{"value": "203.0.113.7", "action": "Allow"}]}
    after = patched(networkAcls=rules, publicNetworkAccess="Disabled", allowSharedKeyAccess=False, keyPolicy=None)
    assert after["networkAcls"] == rules, "replaced as a unit"
    assert after["keyPolicy"] is None
    kept = ("sasPolicy", "allowedCopyScope", "minimumTlsVersion", "encryption", "creationTime")
    assert [after[name] for name in kept] == [before[name] for name in kept]
    bad = send(azure, "PATCH", account_id(azure), "2025-08-01", {"sku": {"name": "Gold"}})
    assert bad.status_code == 400
    for name in ("key3", "kerb1", ""):
        with pytest.raises(HttpResponseError) as error:
            sdk.storage_accounts.regenerate_key(GROUP, ACCOUNT, {"keyName": name})
        assert error.value.status_code == 400


def test_delegation_keys_are_revoked(azure: LocalAzure, sdk: StorageManagementClient) -> None:
    sdk.storage_accounts.revoke_user_delegation_keys(GROUP, ACCOUNT)
    assert len(azure.arm.revoked[ACCOUNT]) == 1


def test_a_deleted_account_leaves_nothing_to_the_next_of_its_name(azure: LocalAzure) -> None:
    found = add_account(azure.arm, SUBSCRIPTION, GROUP, "shortlived")
    add_part(azure.arm, found, "encryptionScopes", "odd", {})
    path = f"{found['id']}/blobServices/default/providers/Microsoft.Insights/diagnosticSettings"
    body = {"properties": {"workspaceId": "/w", "logs": [{"category": "StorageRead", "enabled": True}]}}
    assert send(azure, "PUT", f"{path}/x", "2021-05-01-preview", body).status_code == 200
    assert send(azure, "DELETE", found["id"], "2025-08-01").status_code == 200
    assert send(azure, "GET", f"{path}/x", "2021-05-01-preview").status_code == 404
    add_account(azure.arm, SUBSCRIPTION, GROUP, "shortlived")
    assert send(azure, "GET", path, "2021-05-01-preview").json()["value"] == []
    assert send(azure, "GET", f"{found['id']}/encryptionScopes", "2025-08-01").json()["value"] == []
    assert send(azure, "DELETE", found["id"], "2025-08-01").status_code == 200
