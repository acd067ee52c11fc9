"""Role definitions and role assignments. https://learn.microsoft.com/azure/role-based-access-control/"""

import fnmatch
import re
import uuid
from collections.abc import Iterator

from ..front import Reply
from ..times import now
from . import scopes
from .answers import ArmError, answer, bad_request, empty
from .call import Call
from .paths import ASSIGNMENTS, DEFINITIONS
from .store import Arm, Json

BLOBS = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs"
CONTAINERS = "Microsoft.Storage/storageAccounts/blobServices/containers"
ACCOUNTS = "Microsoft.Storage/storageAccounts"
COMMON = ("Microsoft.Authorization/*/read", "Microsoft.Resources/subscriptions/resourceGroups/read")
DELEGATE = f"{ACCOUNTS}/blobServices/generateUserDelegationKey/action"
# Built-in roles by id: name, actions, actions taken away, data actions.
BUILT_IN: dict[str, tuple[str, tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = {
    "8e3af657-a8ff-443c-a75c-2fe8c4bcb635": ("Owner", ("*",), (), ()),
    "b24988ac-6180-42a0-ab88-20f7382dd24c": (
        "Contributor",
        ("*",),
        (
            "Microsoft.Authorization/*/Delete",
            "Microsoft.Authorization/*/Write",
            "Microsoft.Authorization/elevateAccess/Action",
        ),
        (),
    ),
    "acdd72a7-3385-48ef-bd42-f606fba81ae7": ("Reader", ("*/read",), (), ()),
    "18d7d88d-d35e-4fb5-a5c3-7773c20a72d9": (
        "User Access Administrator",
        ("*/read", "Microsoft.Authorization/*"),
        (),
        (),
    ),
    "17d1049b-9a84-46fb-8f53-869881c3d3ab": (
        "Storage Account Contributor",
        (*COMMON, "Microsoft.Insights/diagnosticSettings/*", f"{ACCOUNTS}/*"),
        (),
        (),
    ),
    "81a9662b-bebf-436f-a333-f67b29880f12": (
        "Storage Account Key Operator Service Role",
        (f"{ACCOUNTS}/listkeys/action", f"{ACCOUNTS}/regeneratekey/action"),
        (),
        (),
    ),
    "c12c1c16-33a1-487b-954d-41c89c60f349": (
        "Reader and Data Access",
        (f"{ACCOUNTS}/listKeys/action", f"{ACCOUNTS}/ListAccountSas/action", f"{ACCOUNTS}/read"),
        (),
        (),
    ),
    "e5e2a7ff-d759-4cd2-bb51-3152d37e2eb1": (
        "Storage Account Backup Contributor Role",
        (
            *COMMON,
            "Microsoft.Authorization/locks/*",
            f"{ACCOUNTS}/blobServices/*",
            f"{ACCOUNTS}/objectReplicationPolicies/*",
            f"{ACCOUNTS}/read",
            f"{ACCOUNTS}/restoreBlobRanges/action",
        ),
        (),
        (),
    ),
    "b7e6dc6d-f1e8-4753-8033-0f276bb0955b": (
        "Storage Blob Data Owner",
        (f"{CONTAINERS}/*", DELEGATE),
        (),
        (f"{BLOBS}/*",),
    ),
    "ba92f5b4-2d11-453d-a403-e96b0029c9fe": (
        "Storage Blob Data Contributor",
        (f"{CONTAINERS}/delete", f"{CONTAINERS}/read", f"{CONTAINERS}/write", DELEGATE),
        (),
        tuple(f"{BLOBS}/{right}" for right in ("delete", "read", "write", "move/action", "add/action")),
    ),
    "2a2b9908-6ea1-4ae2-8e65-a410df84e7d1": (
        "Storage Blob Data Reader",
        (f"{CONTAINERS}/read", DELEGATE),
        (),
        (f"{BLOBS}/read",),
    ),
    "db58b8e5-c6ad-4a2a-8342-4190687cbf4a": ("Storage Blob Delegator", (DELEGATE,), (), ()),
}
PRINCIPALS = ("User", "Group", "ServicePrincipal", "ForeignGroup", "Device")
GUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)
AT_SCOPE = re.compile(r"atScope\(\)", re.IGNORECASE)
OF_PRINCIPAL = re.compile(r"(?:principalId eq '([^']+)'|assignedTo\('([^']+)'\))", re.IGNORECASE)
ROLE_FILTER = re.compile(r"(roleName|type) eq '((?:[^']|'')*)'", re.IGNORECASE)
FIXED = ("roleDefinitionId", "principalId")


# What the owner of the machine sets up


def add_built_in(arm: Arm) -> None:
    for role, (name, actions, without, data) in BUILT_IN.items():
        rights = {"actions": actions, "notActions": without, "dataActions": data, "notDataActions": ()}
        properties = {
            "roleName": name,
            "type": "BuiltInRole",
            "description": name,
            "assignableScopes": ["/"],
            "permissions": [{kind: list(values) for kind, values in rights.items()}],
        }
        keep_definition(arm, "", role, properties)


def assign(arm: Arm, scope: str, role_name: str, principal: str, kind: str = "User", **more: str) -> Json:
    """A role assignment that is there from the start."""
    role = next(item for item in arm.definitions.values() if item["properties"]["roleName"] == role_name)
    properties = {"roleDefinitionId": role["id"], "principalId": principal, "principalType": kind, **more}
    return keep_assignment(arm, scope, str(uuid.uuid4()), properties, "")


def keep_definition(arm: Arm, scope: str, role: str, properties: Json) -> Json:
    role_id = f"{scope.rstrip('/')}{DEFINITIONS}/{role}"
    found = {"id": role_id, "name": role, "type": "Microsoft.Authorization/roleDefinitions", "properties": properties}
    arm.definitions[role.lower()] = found
    return found


def keep_assignment(arm: Arm, scope: str, name: str, properties: Json, author: str) -> Json:
    assignment_id = f"{scope.rstrip('/')}{ASSIGNMENTS}/{name}"
    before = arm.assignments.get(assignment_id.lower(), {}).get("properties", {})
    stamps = {"createdOn": before.get("createdOn", now()), "createdBy": before.get("createdBy", author)}
    optional: Json = {"condition": None, "conditionVersion": None, "description": None}
    found = {
        "id": assignment_id,
        "name": name,
        "type": "Microsoft.Authorization/roleAssignments",
        "properties": {
            **optional,
            **properties,
            "scope": scope,
            **stamps,
            "updatedOn": now(),
            "updatedBy": author,
            "delegatedManagedIdentityResourceId": None,
        },
    }
    arm.assignments[assignment_id.lower()] = found
    return found


# Who may do what


def allows(definition: Json, action: str, *, data: bool = False) -> bool:
    """Whether a role's actions, or its data actions, hold the action and nothing takes it away."""

    def named(patterns: list[str]) -> bool:
        return any(fnmatch.fnmatchcase(action.lower(), pattern.lower()) for pattern in patterns)

    given, taken = ("dataActions", "notDataActions") if data else ("actions", "notActions")
    return any(named(row[given]) and not named(row[taken]) for row in definition["properties"]["permissions"])


def assigned(arm: Arm, principal: str, scope: str) -> Iterator[tuple[Json, Json]]:
    """The assignments that a principal has at or above a scope, each with its role's definition."""
    for assignment in arm.assignments.values():
        found = assignment["properties"]
        definition = arm.definitions.get(found["roleDefinitionId"].rpartition("/")[2].lower())
        mine = found["principalId"].lower() == principal.lower()
        if definition and mine and scopes.covers(arm, found["scope"], scope):
            yield assignment, definition


def evidence(arm: Arm, call: Call, scope: str) -> Json:
    """The assignment that let the caller do it, as the log tells; {} without one."""
    for assignment, definition in assigned(arm, call.caller.object_id, scope):
        if not allows(definition, call.permission):
            continue
        role, found = definition["properties"]["roleName"], assignment["properties"]
        told = {
            "role": role,
            "roleAssignmentScope": found["scope"],
            "roleAssignmentId": assignment["name"].replace("-", ""),
            "roleDefinitionId": definition["name"].replace("-", ""),
            "principalId": found["principalId"].replace("-", ""),
            "principalType": found["principalType"],
        }
        return {"role": role, "evidence": told}
    return {}


# Assignments


def list_assignments(arm: Arm, call: Call) -> Reply:
    """Without a filter: at, above and below the scope. With atScope(): at and above it, so that what is assigned on a
    container is missing where the account is asked. With a principal: that one's, at, above and below."""
    scope, text = scopes.resolve(arm, call["scope"]), call.query.get("$filter", "")
    principal = OF_PRINCIPAL.search(text)
    rest = OF_PRINCIPAL.sub("", AT_SCOPE.sub("", text))
    if re.sub(r"\band\b", "", rest, flags=re.IGNORECASE).strip():
        raise bad_request(f"The filter '{text}' is not supported.", "InvalidFilter")
    below = not AT_SCOPE.search(text)
    wanted = (principal[1] or principal[2]).lower() if principal else ""
    found = [
        item
        for item in arm.assignments.values()
        if scopes.covers(arm, item["properties"]["scope"], scope)
        or (below and scopes.covers(arm, scope, item["properties"]["scope"]))
    ]
    return call.page(arm, [item for item in found if wanted in ("", item["properties"]["principalId"].lower())])


def assignment_id(arm: Arm, call: Call) -> str:
    return f"{scopes.resolve(arm, call['scope']).rstrip('/')}{ASSIGNMENTS}/{call['assignment']}".lower()


def get_assignment(arm: Arm, call: Call) -> Reply:
    found = arm.assignments.get(assignment_id(arm, call))
    if not found:
        raise ArmError(404, "RoleAssignmentNotFound", f"The role assignment '{call['assignment']}' is not found.")
    return answer(found)


def put_assignment(arm: Arm, call: Call) -> Reply:
    scope, name = scopes.resolve(arm, call["scope"]), call["assignment"]
    properties = checked_assignment(arm, call)
    before = arm.assignments.get(assignment_id(arm, call))
    if before and any(before["properties"][key].lower() != properties[key].lower() for key in FIXED):
        message = "Tenant ID, application ID, principal ID, and scope are not allowed to be updated."
        raise bad_request(message, "RoleAssignmentUpdateNotPermitted")
    for other in arm.assignments.values():
        same = all(other["properties"][key].lower() == properties[key].lower() for key in FIXED)
        if same and other is not before and scopes.same(other["properties"]["scope"], scope):
            raise ArmError(409, "RoleAssignmentExists", "The role assignment already exists.")
    found = keep_assignment(arm, scope, name, properties, call.caller.object_id)
    return answer(found, 200 if before else 201)


def checked_assignment(arm: Arm, call: Call) -> Json:
    properties, name = call.properties, call["assignment"]
    if not GUID.fullmatch(name):
        message = f"The role assignment ID '{name}' is not valid. The role assignment ID must be a GUID."
        raise bad_request(message, "InvalidRoleAssignmentId")
    role = str(properties.get("roleDefinitionId") or "").rpartition("/")[2]
    if role.lower() not in arm.definitions:
        message = f"The specified role definition with ID '{role}' does not exist."
        raise bad_request(message, "RoleDefinitionDoesNotExist")
    if not GUID.fullmatch(str(properties.get("principalId"))):
        raise bad_request("The request was incorrectly formatted: principalId.", "BadRequestFormat")
    kind = properties.get("principalType", PRINCIPALS[0])
    if kind not in PRINCIPALS:
        raise bad_request("The request was incorrectly formatted: principalType.", "BadRequestFormat")
    kept = ("condition", "conditionVersion", "description")
    more = {key: properties[key] for key in kept if properties.get(key)}
    full_id = f"{'/'.join(call['scope'].split('/')[:3])}{DEFINITIONS}/{role}"
    return {"roleDefinitionId": full_id, "principalId": properties["principalId"], "principalType": kind, **more}


def delete_assignment(arm: Arm, call: Call) -> Reply:
    found = arm.assignments.pop(assignment_id(arm, call), None)
    return answer(found) if found else empty(204)


# Definitions


def list_definitions(arm: Arm, call: Call) -> Reply:
    """Built-in roles, and those that can be assigned at the scope."""
    scope = scopes.resolve(arm, call["scope"])
    found = [item for item in arm.definitions.values() if assignable(arm, item, scope)]
    for key, value in ROLE_FILTER.findall(call.query.get("$filter", "")):
        field = "roleName" if key.lower() == "rolename" else "type"
        found = [item for item in found if item["properties"][field].lower() == value.replace("''", "'").lower()]
    return call.page(arm, found)


def assignable(arm: Arm, definition: Json, scope: str) -> bool:
    return any(scopes.covers(arm, upper, scope) for upper in definition["properties"]["assignableScopes"])


def get_definition(arm: Arm, call: Call) -> Reply:
    scope = scopes.resolve(arm, call["scope"])
    found = arm.definitions.get(call["role"].lower())
    if not found or not assignable(arm, found, scope):
        message = f"The specified role definition with ID '{call['role']}' does not exist."
        raise ArmError(404, "RoleDefinitionDoesNotExist", message)
    return answer(found)


def put_definition(arm: Arm, call: Call) -> Reply:
    """A custom role; the built-in ones are Azure's."""
    scope, properties = scopes.resolve(arm, call["scope"]), call.properties
    if call["role"].lower() in BUILT_IN:
        raise ArmError(403, "RoleDefinitionCannotBeChanged", "A built-in role cannot be changed.")
    if not GUID.fullmatch(call["role"]) or not properties.get("roleName") or not properties.get("assignableScopes"):
        raise bad_request("The request was incorrectly formatted.", "BadRequestFormat")
    rights = ("actions", "notActions", "dataActions", "notDataActions")
    rows = [{kind: row.get(kind) or [] for kind in rights} for row in properties.get("permissions") or []]
    made = {**properties, "type": "CustomRole", "permissions": rows, "createdOn": now(), "updatedOn": now()}
    return answer(keep_definition(arm, scope, call["role"], made), 201)


def delete_definition(arm: Arm, call: Call) -> Reply:
    role = call["role"].lower()
    if role in BUILT_IN:
        raise ArmError(403, "RoleDefinitionCannotBeChanged", "A built-in role cannot be deleted.")
    if any(item["properties"]["roleDefinitionId"].lower().endswith(f"/{role}") for item in arm.assignments.values()):
        raise bad_request("There are existing role assignments referencing role.", "RoleDefinitionHasAssignments")
    found = arm.definitions.pop(role, None)
    return answer(found) if found else empty(204)
