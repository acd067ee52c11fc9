"""Role assignments and definitions, driven by Microsoft's client."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError
from azure.mgmt.authorization import AuthorizationManagementClient

from local.azure import LocalAzure
from local.azure.arm import roles
from local.azure.entra import PERSON_ID
from local.azure.machine import MANAGEMENT_GROUP

from .clients import (
    ACCOUNT,
    GROUP,
    LOCKS,
    ROLES,
    SECRET_APP,
    STORAGE,
    SUBSCRIPTION,
    Credential,
    account_id,
    code_of,
    refused,
    send,
    service_id,
)

CONTAINER = "cloud-roles"
ASSIGNMENTS = "/providers/Microsoft.Authorization/roleAssignments"
DEFINITIONS = "/providers/Microsoft.Authorization/roleDefinitions"
READER = "2a2b9908-6ea1-4ae2-8e65-a410df84e7d1"
STRANGER = "11111111-2222-4333-8444-555555555555"


pytestmark = pytest.mark.usefixtures("kept_store")


@pytest.fixture
def authorization(azure: LocalAzure) -> Iterator[AuthorizationManagementClient]:
    with AuthorizationManagementClient(
        Credential(azure),
        SUBSCRIPTION,
        api_version=ROLES,
        base_url=azure.arm_url,
        credential_scopes=[f"{azure.arm_url}/.default"],
        connection_verify=str(azure.ca_file),
        retry_total=0,
    ) as client:
        yield client


def at(azure: LocalAzure, level: str) -> str:
    """The scopes that a container is in, from the outermost to its own."""
    return {
        "management group": f"/providers/Microsoft.Management/managementGroups/{MANAGEMENT_GROUP}",
        "subscription": f"/subscriptions/{SUBSCRIPTION}",
        "group": f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}",
        "account": account_id(azure),
        "container": f"{service_id(azure)}/containers/{CONTAINER}",
    }[level]


def body(principal: str = STRANGER, role: str = READER, **more: Any) -> dict[str, Any]:
    role_id = f"/subscriptions/{SUBSCRIPTION}{DEFINITIONS}/{role}"
    return {"properties": {"roleDefinitionId": role_id, "principalId": principal, **more}}


def test_an_assignment_from_making_to_deletion(azure: LocalAzure, authorization: AuthorizationManagementClient) -> None:
    name, scope = str(uuid.uuid4()), at(azure, "account")
    condition = "@Resource[Microsoft.Storage/storageAccounts/blobServices/containers:name] StringEquals 'x'"
    given = body(principalType="User", description="case 7", condition=condition, conditionVersion="2.0")
    made = authorization.role_assignments.create(scope, name, given)
    assert (made.scope, made.principal_id, made.principal_type) == (scope, STRANGER, "User")
    assert (made.description, made.condition, made.condition_version) == ("case 7", condition, "2.0")
    assert (made.created_by, made.role_definition_id.rpartition("/")[2]) == (SECRET_APP, READER)
    assert authorization.role_assignments.get(scope, name).id == made.id
    assert authorization.role_assignments.delete(scope, name).id == made.id
    with pytest.raises(HttpResponseError) as error:
        authorization.role_assignments.get(scope, name)
    assert refused(error) == (404, "RoleAssignmentNotFound")
    assert authorization.role_assignments.delete(scope, name) is None


@pytest.mark.parametrize(
    ("asked", "wanted", "at_scope"),
    [
        ("account", {"management group", "subscription", "group", "account", "container"}, False),
        ("account", {"management group", "subscription", "group", "account"}, True),
        ("group", {"management group", "subscription", "group"}, True),
        ("container", {"management group", "subscription", "group", "account", "container"}, True),
        ("management group", {"management group"}, True),
        ("management group", {"management group", "subscription", "group", "account", "container"}, False),
    ],
)
def test_what_is_at_above_and_below_a_scope(
    azure: LocalAzure, authorization: AuthorizationManagementClient, asked: str, wanted: set[str], at_scope: bool
) -> None:
    """atScope() leaves out what is assigned below: a container's are missing where the account is asked."""
    levels = ("management group", "subscription", "group", "account", "container")
    for level in levels:
        roles.assign(azure.arm, at(azure, level), "Storage Blob Data Reader", STRANGER, description=level)
    text = f"atScope() and principalId eq '{STRANGER}'" if at_scope else f"principalId eq '{STRANGER}'"
    found = authorization.role_assignments.list_for_scope(at(azure, asked), filter=text)
    assert {item.description for item in found} == wanted


def test_everybody_is_listed_without_a_filter(azure: LocalAzure, authorization: AuthorizationManagementClient) -> None:
    azure.arm.page_size = 2
    roles.assign(azure.arm, at(azure, "container"), "Reader", STRANGER)
    found = {item.principal_id for item in authorization.role_assignments.list_for_scope(at(azure, "account"))}
    assert {STRANGER, PERSON_ID, SECRET_APP} <= found
    odd = send(azure, "GET", f"{at(azure, 'account')}{ASSIGNMENTS}?$filter=roleName eq 'x'", ROLES)
    assert code_of(odd) == (400, "InvalidFilter")


def test_assignments_that_azure_refuses(azure: LocalAzure) -> None:
    here = f"{at(azure, 'account')}{ASSIGNMENTS}"
    name = str(uuid.uuid4())
    assert send(azure, "PUT", f"{here}/{name}", ROLES, body()).status_code == 201
    assert send(azure, "PUT", f"{here}/{name}", ROLES, body(description="again")).status_code == 200
    refusals = {
        "RoleAssignmentExists": send(azure, "PUT", f"{here}/{uuid.uuid4()}", ROLES, body()),
        "RoleAssignmentUpdateNotPermitted": send(azure, "PUT", f"{here}/{name}", ROLES, body(PERSON_ID)),
        "InvalidRoleAssignmentId": send(azure, "PUT", f"{here}/mine", ROLES, body()),
        "RoleDefinitionDoesNotExist": send(azure, "PUT", f"{here}/{uuid.uuid4()}", ROLES, body(role=STRANGER)),
        "BadRequestFormat": send(azure, "PUT", f"{here}/{uuid.uuid4()}", ROLES, body("ann")),
    }
    assert [code_of(answer) for answer in refusals.values()] == [
        (409 if code == "RoleAssignmentExists" else 400, code) for code in refusals
    ]
    assert code_of(send(azure, "GET", f"/subscriptions/none{ASSIGNMENTS}", ROLES)) == (404, "SubscriptionNotFound")


def test_a_read_only_lock_stops_assignments_at_the_account(azure: LocalAzure) -> None:
    lock = f"{account_id(azure)}/providers/Microsoft.Authorization/locks/mine"
    send(azure, "PUT", lock, LOCKS, {"properties": {"level": "ReadOnly"}})
    path = f"{account_id(azure)}{ASSIGNMENTS}/{uuid.uuid4()}"
    assert code_of(send(azure, "PUT", path, ROLES, body())) == (409, "ScopeLocked")
    assert send(azure, "GET", f"{account_id(azure)}{ASSIGNMENTS}", ROLES).status_code == 200


def test_definitions_have_rights_and_where_they_can_be_assigned(
    azure: LocalAzure, authorization: AuthorizationManagementClient
) -> None:
    found = {item.role_name: item for item in authorization.role_definitions.list(at(azure, "account"))}
    owner = found["Storage Blob Data Owner"]
    assert owner.permissions[0].data_actions == [f"{roles.BLOBS}/*"]
    assert {"Owner", "Storage Account Contributor", "Reader and Data Access"} <= set(found)
    text = "roleName eq 'Storage Blob Data Reader'"
    (reader,) = authorization.role_definitions.list(at(azure, "subscription"), filter=text)
    assert (reader.name, reader.role_type, reader.assignable_scopes) == (READER, "BuiltInRole", ["/"])
    custom = str(uuid.uuid4())
    rights = [{"actions": ["Microsoft.Storage/storageAccounts/read"]}]
    properties = {"roleName": "Auditor", "permissions": rights, "assignableScopes": [at(azure, "group")]}
    path = f"{at(azure, 'group')}{DEFINITIONS}"
    assert send(azure, "PUT", f"{path}/{custom}", ROLES, {"properties": properties}).status_code == 201
    assert code_of(send(azure, "PUT", f"{path}/{READER}", ROLES, {"properties": properties}))[0] == 403
    assert authorization.role_definitions.get(at(azure, "account"), custom).role_type == "CustomRole"
    elsewhere = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg-web{DEFINITIONS}/{custom}"
    assert code_of(send(azure, "GET", elsewhere, ROLES)) == (404, "RoleDefinitionDoesNotExist")
    roles.assign(azure.arm, at(azure, "account"), "Auditor", STRANGER)
    in_use = send(azure, "DELETE", f"{path}/{custom}", ROLES)
    assert code_of(in_use) == (400, "RoleDefinitionHasAssignments")


@pytest.mark.parametrize(
    ("role", "action", "may"),
    [
        ("Owner", "Microsoft.Storage/storageAccounts/listKeys/action", True),
        ("Contributor", "Microsoft.Storage/storageAccounts/listKeys/action", True),
        ("Contributor", "Microsoft.Authorization/roleAssignments/write", False),
        ("Reader", "Microsoft.Storage/storageAccounts/listKeys/action", False),
        ("Storage Account Key Operator Service Role", "Microsoft.Storage/storageAccounts/listKeys/action", True),
        ("Storage Blob Data Owner", "Microsoft.Storage/storageAccounts/read", False),
        ("Storage Blob Data Owner", f"{roles.BLOBS}/tags/write", True),
        ("Storage Blob Data Contributor", f"{roles.BLOBS}/tags/write", False),
        ("Storage Blob Data Reader", f"{roles.BLOBS}/read", True),
        ("Owner", f"{roles.BLOBS}/read", False),
    ],
)
def test_actions_are_compared_with_wildcards_and_in_any_case(
    azure: LocalAzure, role: str, action: str, may: bool
) -> None:
    """What concerns blobs themselves is a data action, which Owner does not have."""
    (found,) = [item for item in azure.arm.definitions.values() if item["properties"]["roleName"] == role]
    assert roles.allows(found, action, data=action.startswith(roles.BLOBS)) is may


def test_assignments_go_with_their_account(azure: LocalAzure) -> None:
    path = f"{at(azure, 'group')}/providers/Microsoft.Storage/storageAccounts/shortlived"
    settings = {"sku": {"name": "Standard_LRS"}, "kind": "StorageV2", "location": "westeurope"}
    assert send(azure, "PUT", path, STORAGE, settings).status_code == 202
    roles.assign(azure.arm, path, "Reader", STRANGER)
    send(azure, "DELETE", path, STORAGE)
    assert not [key for key in azure.arm.assignments if "shortlived" in key]
    assert ACCOUNT in azure.arm.accounts
