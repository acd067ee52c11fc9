"""Storage accounts: what a change keeps, what Azure refuses, what a deletion leaves."""

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
    NEWEST,
    STORAGE,
    SUBSCRIPTION,
    Credential,
    account_id,
    call,
    code_of,
    send,
)

pytestmark = pytest.mark.usefixtures("kept_store")


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


def patch(azure: LocalAzure, version: str = STORAGE, **properties: Any) -> Any:
    return send(azure, "PATCH", account_id(azure), version, {"properties": properties})


@pytest.mark.parametrize(
    "properties",
    [
        {"allowCrossTenantDelegationSas": False},
        {"allowSharedKeyAccessForServices": {"blob": {"enabled": False}}},
        {"dataCollaborationPolicyProperties": {"allowStorageConnectors": False}},
    ],
)
def test_what_a_version_does_not_know_is_dropped_without_a_word(azure: LocalAzure, properties: dict[str, Any]) -> None:
    (name,) = properties
    assert name not in patch(azure, **properties).json()["properties"]
    assert name not in send(azure, "GET", account_id(azure), NEWEST).json()["properties"]
    assert patch(azure, NEWEST, **properties).json()["properties"][name] == properties[name]
    assert name not in send(azure, "GET", account_id(azure), STORAGE).json()["properties"]
    assert send(azure, "GET", account_id(azure), NEWEST).json()["properties"][name] == properties[name]


def test_parts_of_settings_are_dropped_too(azure: LocalAzure) -> None:
    policy = {
        "sasExpirationPeriod": "1.00:00:00",
        "expirationAction": "Block",
        "requireUserBoundUserDelegationSas": True,
    }
    assert "requireUserBoundUserDelegationSas" not in patch(azure, sasPolicy=policy).json()["properties"]["sasPolicy"]
    assert patch(azure, NEWEST, sasPolicy=policy).json()["properties"]["sasPolicy"] == policy
    six = {"defaultAction": "Deny", "ipv6Rules": [{"value": "2001:db8::/64", "action": "Allow"}]}
    assert "ipv6Rules" not in patch(azure, "2025-06-01", networkAcls=six).json()["properties"]["networkAcls"]
    assert patch(azure, networkAcls=six).json()["properties"]["networkAcls"] == six


@pytest.mark.parametrize(
    "properties",
    [
        {"minimumTlsVersion": "TLS1.2"},
        {"publicNetworkAccess": "Off"},
        {"allowedCopyScope": "Everywhere"},
        {"sasPolicy": {"sasExpirationPeriod": "1.00:00:00", "expirationAction": "Warn"}},
        {"sasPolicy": {"sasExpirationPeriod": "1 day", "expirationAction": "Log"}},
        {"sasPolicy": {"expirationAction": "Log"}},
        {"keyPolicy": {"keyExpirationPeriodInDays": "90"}},
        {"networkAcls": {"defaultAction": "Refuse"}},
        {"networkAcls": {"bypass": "AzureServices, Friends"}},
        {"networkAcls": {"ipRules": [{"value": "10.1.2.3"}]}},
        {"networkAcls": {"ipRules": [{"value": "203.0.113.0/31"}]}},
        {"networkAcls": {"ipRules": [{"value": "203.0.113.7/32"}]}},
        {"networkAcls": {"ipRules": [{"value": "2001:db8::1"}]}},
        {"networkAcls": {"ipRules": [{"value": "office"}]}},
        {"networkAcls": {"resourceAccessRules": [{"tenantId": "t", "resourceId": "/r"}]}},
        {"isSftpEnabled": True},
    ],
)
def test_a_change_that_azure_refuses(azure: LocalAzure, properties: dict[str, Any]) -> None:
    before = dict(azure.arm.accounts[ACCOUNT]["properties"])
    assert code_of(patch(azure, **properties)) == (400, "InvalidValuesForRequestParameters")
    assert azure.arm.accounts[ACCOUNT]["properties"] == before


def test_good_rules_are_taken(azure: LocalAzure) -> None:
    rules = {
        "bypass": "Logging, AzureServices",
        "ipRules": [{"value": "203.0.113.0/24"}, {"value": "198.51.100.7"}],
        "resourceAccessRules": [{"tenantId": azure.tenant_id, "resourceId": "/subscriptions/x/workflows/*"}],
    }
    assert patch(azure, networkAcls=rules).json()["properties"]["networkAcls"] == rules


def test_words_are_taken_in_any_case(azure: LocalAzure) -> None:
    found = patch(azure, publicNetworkAccess="disabled", minimumTlsVersion="tls1_2").json()["properties"]
    assert (found["publicNetworkAccess"], found["minimumTlsVersion"]) == ("Disabled", "TLS1_2")


def test_what_was_read_can_be_sent_back(azure: LocalAzure) -> None:
    """As `az resource update` does: all of it, with what only Azure sets, and one change."""
    read = send(azure, "GET", account_id(azure), STORAGE).json()
    made = read["properties"]["creationTime"]
    read["properties"] |= {
        "allowBlobPublicAccess": True,
        "creationTime": "2001-01-01T00:00:00Z",
        "primaryEndpoints": {},
    }
    answer = send(azure, "PUT", account_id(azure), STORAGE, read)
    assert (answer.status_code, answer.json()["properties"]["allowBlobPublicAccess"]) == (200, True)
    assert answer.json()["properties"]["creationTime"] == made
    assert answer.json()["properties"]["primaryEndpoints"]["blob"]


def test_what_is_set_once_stays(azure: LocalAzure) -> None:
    for name in ("isHnsEnabled", "isNfsV3Enabled"):
        assert code_of(patch(azure, STORAGE, **{name: True})) == (400, "AccountPropertyCannotBeUpdated")
    azure.arm.accounts[ACCOUNT]["sku"] = {"name": "Standard_ZRS", "tier": "Standard"}
    other = send(azure, "PATCH", account_id(azure), STORAGE, {"sku": {"name": "Standard_GRS"}})
    assert other.status_code == 400
    body = {"sku": {"name": "Standard_ZRS"}, "kind": "StorageV2", "location": "eastus"}
    assert code_of(send(azure, "PUT", account_id(azure), STORAGE, body)) == (409, "InvalidResourceLocation")


@pytest.mark.parametrize("properties", [{"isNfsV3Enabled": True}, {"isSftpEnabled": True}])
def test_files_protocols_need_a_hierarchy(azure: LocalAzure, properties: dict[str, Any]) -> None:
    path = account_id(azure).replace(ACCOUNT, "lakeaccount")
    body = {"sku": {"name": "Standard_LRS"}, "kind": "StorageV2", "location": "westeurope", "properties": properties}
    assert send(azure, "PUT", path, STORAGE, body).status_code == 400
    body["properties"] = {**properties, "isHnsEnabled": True}
    assert send(azure, "PUT", path, STORAGE, body).status_code == 202


@pytest.mark.parametrize(
    ("text", "code"),
    [
        (b"{", "InvalidRequestContent"),
        (b"[1]", "InvalidRequestContent"),
        (b'{"properties": 7}', "InvalidRequestContent"),
        (b'{"properties": {"networkAcls": {"ipRules": [7]}, "policy": 7}}', "InvalidRequestContent"),
    ],
)
def test_a_body_that_is_none(azure: LocalAzure, text: bytes, code: str) -> None:
    token = Credential(azure).get_token(f"{azure.arm_url}/.default").token
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    for method, path in (("PATCH", ""), ("PUT", "/managementPolicies/default")):
        url = f"{azure.arm_url}{account_id(azure)}{path}?api-version={STORAGE}"
        assert code_of(call(azure, method, url, data=text, headers=headers)) == (400, code)
    plain = {**headers, "Content-Type": "text/plain"}
    url = f"{azure.arm_url}{account_id(azure)}?api-version={STORAGE}"
    assert code_of(call(azure, "PATCH", url, data=b"{}", headers=plain)) == (400, "UnsupportedMediaType")
