"""What an account has by name: private endpoints, replication, encryption scopes, local users, sharing."""

from collections.abc import Iterator

import pytest
from azure.mgmt.storage import StorageManagementClient

from local.azure import LocalAzure
from local.azure.arm.parts import add_part

from .clients import (
    ACCOUNT,
    GROUP,
    account_id,
    kept,
    send,
)


@pytest.fixture(autouse=True)
def clean(azure: LocalAzure) -> Iterator[None]:
    with kept(azure):
        yield


def test_what_posture_reads(azure: LocalAzure, sdk: StorageManagementClient) -> None:
    assert sdk.file_services.get_service_properties(GROUP, ACCOUNT).share_delete_retention_policy is not None
    assert list(sdk.object_replication_policies.list(GROUP, ACCOUNT)) == []
    assert list(sdk.encryption_scopes.list(GROUP, ACCOUNT)) == []
    assert list(sdk.local_users.list(GROUP, ACCOUNT)) == []
    add_part(azure.arm, azure.arm.accounts[ACCOUNT], "encryptionScopes", "odd", {})
    assert [scope.name for scope in sdk.encryption_scopes.list(GROUP, ACCOUNT)] == ["odd"]
    defender = f"{account_id(azure)}/providers/Microsoft.Security/defenderForStorageSettings/current"
    assert send(azure, "GET", defender, "2025-06-01").json()["properties"]["isEnabled"] is False
    azure.arm.defender[ACCOUNT] = {"isEnabled": True}
    assert send(azure, "GET", defender.lower(), "2025-06-01").json()["properties"]["isEnabled"] is True
    azure.arm.other_services[ACCOUNT, "file"] = {"shareDeleteRetentionPolicy": {"enabled": False}}
    policy = sdk.file_services.get_service_properties(GROUP, ACCOUNT).share_delete_retention_policy
    assert policy is not None
    assert policy.enabled is False
