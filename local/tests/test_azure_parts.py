"""What an account has by name: private endpoints, replication, encryption scopes, local users, sharing, Defender."""

from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError
from azure.mgmt.storage import StorageManagementClient

from local.azure import LocalAzure
from local.azure.arm.accounts import add_account
from local.azure.arm.parts import add_part
from local.azure.arm.private_endpoints import add_connection

from .clients import ACCOUNT, GROUP, NEWEST, STORAGE, SUBSCRIPTION, account_id, code_of, management, refused, send

ENDPOINT = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}/providers/Microsoft.Network/privateEndpoints/pe1"
FOREIGN = "/subscriptions/99999999-0000-4000-8000-000000000000/resourceGroups/x/providers/Microsoft.Storage/storageAccounts/thief"
SCANNER = f"/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Security/datascanners/storageDataScanner"


pytestmark = pytest.mark.usefixtures("kept_store")


def patch(azure: LocalAzure, account: str = ACCOUNT, version: str = STORAGE, **properties: Any) -> Any:
    return send(azure, "PATCH", account_id(azure, account), version, {"properties": properties})


# Private endpoints


def test_a_private_endpoint_is_approved_rejected_and_dropped(azure: LocalAzure, sdk: StorageManagementClient) -> None:
    client, where = sdk.private_endpoint_connections, (GROUP, ACCOUNT, "pe1.1")
    add_connection(azure.arm.accounts[ACCOUNT], "pe1.1", ENDPOINT)
    found = client.get(*where)
    assert (found.private_endpoint.id, found.private_link_service_connection_state.status) == (ENDPOINT, "Pending")
    for status in ("Approved", "Rejected"):
        state = {"privateLinkServiceConnectionState": {"status": status, "description": "by me"}}
        assert client.put(*where, {"properties": state}).private_link_service_connection_state.status == status
    shown = sdk.storage_accounts.get_properties(GROUP, ACCOUNT).private_endpoint_connections
    assert [item.private_link_service_connection_state.status for item in shown] == ["Rejected"]
    approve = {"properties": {"privateLinkServiceConnectionState": {"status": "Approved"}}}
    with pytest.raises(HttpResponseError) as error:
        client.put(*where, approve)
    assert error.value.status_code == 409
    client.delete(*where)
    assert list(client.list(GROUP, ACCOUNT)) == []
    assert send(azure, "DELETE", f"{account_id(azure)}/privateEndpointConnections/pe1.1", STORAGE).status_code == 204
    with pytest.raises(HttpResponseError) as error:
        client.put(GROUP, ACCOUNT, "new", approve)
    assert refused(error) == (404, "PrivateEndpointConnectionNotFound")
    assert "blob" in [item.name for item in sdk.private_link_resources.list_by_storage_account(GROUP, ACCOUNT).value]


# Object replication


def policy(**changes: Any) -> dict[str, Any]:
    ends = {"sourceAccount": ACCOUNT, "destinationAccount": "contosoweb"}
    rules = [{"sourceContainer": "from", "destinationContainer": "to"}]
    return {"properties": {**ends, "rules": rules, **changes}}


def test_replication_is_set_up_on_both_sides(azure: LocalAzure, sdk: StorageManagementClient) -> None:
    client = sdk.object_replication_policies
    for name in (ACCOUNT, "contosoweb"):
        azure.arm.services[name] |= {"isVersioningEnabled": True, "changeFeed": {"enabled": True}}
    made = client.create_or_update("rg-web", "contosoweb", "default", policy())
    assert made.policy_id
    assert made.rules
    assert made.rules[0].rule_id
    with pytest.raises(HttpResponseError) as error:
        client.create_or_update(GROUP, ACCOUNT, made.policy_id, policy())
    assert error.value.status_code == 400, "the source's side needs the rules' ids"
    rules = [{"ruleId": rule.rule_id, "sourceContainer": "from", "destinationContainer": "to"} for rule in made.rules]
    source = client.create_or_update(GROUP, ACCOUNT, made.policy_id, policy(rules=rules))
    assert source.policy_id == made.policy_id
    assert [item.name for item in client.list(GROUP, ACCOUNT)] == [made.policy_id]
    client.delete(GROUP, ACCOUNT, made.policy_id)
    with pytest.raises(HttpResponseError) as error:
        client.get(GROUP, ACCOUNT, made.policy_id)
    assert refused(error) == (404, "ObjectReplicationPolicyNotFound")


def test_replication_that_azure_refuses(azure: LocalAzure) -> None:
    path = f"{account_id(azure)}/objectReplicationPolicies/default"
    assert code_of(send(azure, "PUT", path, STORAGE, policy())) == (409, "FeatureNotEnabled")
    azure.arm.services[ACCOUNT] |= {"isVersioningEnabled": True}
    assert code_of(send(azure, "PUT", path, STORAGE, policy())) == (409, "FeatureNotEnabled")
    azure.arm.services[ACCOUNT] |= {"changeFeed": {"enabled": True}}
    for wrong in (policy(rules=[]), policy(sourceAccount="contosoweb"), policy(destinationAccount="")):
        assert send(azure, "PUT", path, STORAGE, wrong).status_code == 400
    assert patch(azure, allowCrossTenantReplication=False).status_code == 200
    assert send(azure, "PUT", path, STORAGE, policy()).status_code == 400, "names are not enough"
    whole = policy(sourceAccount=account_id(azure), destinationAccount=account_id(azure, "contosoweb"))
    assert send(azure, "PUT", path, STORAGE, whole).status_code == 200
    foreign = policy(sourceAccount=account_id(azure), destinationAccount=FOREIGN)
    outside = send(azure, "PUT", path, STORAGE, foreign)
    assert code_of(outside) == (409, "CrossTenantReplicationNotAllowed")
    assert patch(azure, allowCrossTenantReplication=True).status_code == 200
    assert send(azure, "PUT", path, STORAGE, policy(destinationAccount=FOREIGN)).status_code == 200


def test_cross_tenant_replication_is_not_forbidden_while_there_is_some(azure: LocalAzure) -> None:
    """The policy has to go first; one inside the tenant may stay."""
    account = azure.arm.accounts[ACCOUNT]
    add_part(azure.arm, account, "objectReplicationPolicies", "own", policy()["properties"])
    add_part(
        azure.arm, account, "objectReplicationPolicies", "foreign", policy(destinationAccount=FOREIGN)["properties"]
    )
    assert patch(azure, allowCrossTenantReplication=False).status_code == 409
    path = f"{account_id(azure)}/objectReplicationPolicies/foreign"
    assert send(azure, "DELETE", path, STORAGE).status_code == 200
    assert patch(azure, allowCrossTenantReplication=False).json()["properties"]["allowCrossTenantReplication"] is False


# Encryption scopes and local users


def test_an_encryption_scope_is_disabled_and_never_deleted(azure: LocalAzure, sdk: StorageManagementClient) -> None:
    client, path = sdk.encryption_scopes, f"{account_id(azure)}/encryptionScopes/scope1"
    assert [send(azure, "PUT", path, STORAGE, {"properties": {}}).status_code for _ in range(2)] == [201, 200]
    assert client.get(GROUP, ACCOUNT, "scope1").state == "Enabled"
    assert client.patch(GROUP, ACCOUNT, "scope1", {"properties": {"state": "Disabled"}}).state == "Disabled"
    assert [(item.name, item.state) for item in client.list(GROUP, ACCOUNT)] == [("scope1", "Disabled")]
    vault = {"properties": {"source": "Microsoft.KeyVault"}}
    refusals = [
        send(azure, "PATCH", path, STORAGE, {"properties": {"state": "Gone"}}),
        send(azure, "PUT", path, STORAGE, vault),
        send(azure, "DELETE", path, STORAGE),
        send(azure, "GET", path + "x", STORAGE),
    ]
    assert [answer.status_code for answer in refusals] == [400, 400, 405, 404]


def test_local_users_have_secrets_that_are_shown_once(azure: LocalAzure, sdk: StorageManagementClient) -> None:
    with pytest.raises(HttpResponseError) as error:
        sdk.local_users.create_or_update(GROUP, ACCOUNT, "eve", {"properties": {}})
    assert refused(error) == (409, "FeatureNotSupportedForAccount")
    add_account(azure.arm, SUBSCRIPTION, GROUP, "sftpaccount", {"properties": {"isHnsEnabled": True}})
    where = (GROUP, "sftpaccount", "eve")
    scope = {"permissions": "rl", "service": "blob", "resourceName": "in"}
    ssh = [{"description": "laptop", "key": "ssh-rsa AAAA"}]
    sdk.local_users.create_or_update(*where, {"properties": {"permissionScopes": [scope], "sshAuthorizedKeys": ssh}})
    found = sdk.local_users.get(*where)
    assert (found.has_ssh_key, found.has_ssh_password, found.ssh_authorized_keys) == (True, False, None)
    assert sdk.local_users.regenerate_password(*where).ssh_password
    after = sdk.local_users.get(*where)
    assert (after.has_ssh_key, after.has_ssh_password) == (True, True), "a new password leaves the keys"
    assert sdk.local_users.list_keys(*where).shared_key
    assert [item.name for item in sdk.local_users.list(GROUP, "sftpaccount")] == ["eve"]
    sdk.local_users.delete(*where)
    with pytest.raises(HttpResponseError) as error:
        sdk.local_users.get(*where)
    assert error.value.status_code == 404


# Sharing


@pytest.mark.parametrize(
    ("kind", "version"),
    [("connectors", STORAGE), ("dataShares", STORAGE), ("blobAccessPointConfigurations", NEWEST)],
)
def test_ways_of_sharing_are_listed_and_dropped(azure: LocalAzure, kind: str, version: str) -> None:
    add_part(azure.arm, azure.arm.accounts[ACCOUNT], kind, "one", {"state": "Active"})
    path = f"{account_id(azure)}/{kind}"
    assert [item["name"] for item in send(azure, "GET", path.lower(), version).json()["value"]] == ["one"]
    older = send(azure, "GET", path, "2023-05-01")
    assert code_of(older) == (400, "NoRegisteredProviderFound")
    assert send(azure, "DELETE", f"{path}/one", version).status_code == 200
    assert send(azure, "GET", path, version).json()["value"] == []


def test_a_storage_task_is_turned_off(azure: LocalAzure) -> None:
    add_part(
        azure.arm, azure.arm.accounts[ACCOUNT], "storageTaskAssignments", "nightly", {"enabled": True, "taskId": "t"}
    )
    path = f"{account_id(azure)}/storageTaskAssignments/nightly"
    changed = send(azure, "PATCH", path, STORAGE, {"properties": {"enabled": False}})
    assert (changed.status_code, changed.text) == (202, "")
    assert send(azure, "GET", path, STORAGE).json()["properties"] == {"enabled": False, "taskId": "t"}
    assert code_of(send(azure, "GET", path, "2023-01-01")) == (400, "NoRegisteredProviderFound")
    assert send(azure, "PATCH", f"{path}2", STORAGE, {}).status_code == 404


# Defender


def test_defender_lets_its_scanner_in(azure: LocalAzure) -> None:
    """Upload scanning reads through a resource rule of its own, which goes when it is turned off."""
    path = f"{account_id(azure)}/providers/Microsoft.Security/defenderForStorageSettings/current"
    assert send(azure, "GET", path.lower(), "2025-06-01").json()["properties"]["isEnabled"] is False
    scan = f"{path}/startMalwareScan"
    assert send(azure, "POST", scan, "2025-09-01-preview").status_code == 409
    on = {"properties": {"isEnabled": True, "malwareScanning": {"onUpload": {"isEnabled": True}}}}
    found = send(azure, "PUT", path, "2025-06-01", on).json()["properties"]
    assert found["malwareScanning"]["onUpload"] == {"isEnabled": True, "capGBPerMonth": -1}
    rules = azure.arm.accounts[ACCOUNT]["properties"]["networkAcls"]["resourceAccessRules"]
    assert rules == [{"tenantId": azure.tenant_id, "resourceId": SCANNER}]
    assert send(azure, "POST", scan, "2025-09-01-preview").json()["scanId"]
    send(azure, "PUT", path, "2025-06-01", {"properties": {"isEnabled": False}})
    assert azure.arm.accounts[ACCOUNT]["properties"]["networkAcls"]["resourceAccessRules"] == []


def test_the_newest_client_lists_what_is_new(azure: LocalAzure) -> None:
    add_part(azure.arm, azure.arm.accounts[ACCOUNT], "connectors", "one", {})
    with management(azure, NEWEST) as newest:
        assert [item.name for item in newest.connectors.list_by_storage_account(GROUP, ACCOUNT)] == ["one"]
