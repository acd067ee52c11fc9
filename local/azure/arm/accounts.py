"""Storage accounts: creation, settings, deletion. https://learn.microsoft.com/rest/api/storagerp/storage-accounts"""

import copy
import re
import uuid
from typing import Any

from ..front import Reply
from ..times import now
from . import account_settings, failover, keys, object_replication, policies_and_holds, restore, services, subscriptions
from .answers import ArmError, answer, bad_values, empty
from .call import Call
from .store import Arm, Json, Operation
from .versions import as_told

NAME = re.compile(r"[a-z0-9]{3,24}")
KINDS = ("Storage", "StorageV2", "BlobStorage", "FileStorage", "BlockBlobStorage")
# Properties that ARM replaces as a unit.
WHOLE = ("networkAcls", "customDomain", "sasPolicy", "keyPolicy")
# Properties that are set once, when the account is made.
FIXED = ("isHnsEnabled", "isNfsV3Enabled", "dnsEndpointType")
# Properties that only Azure sets. A client that sends back what it has read sends them, too, and nothing comes of it.
READ_ONLY = (
    *("provisioningState", "creationTime", "keyCreationTime", "privateEndpointConnections", "blobRestoreStatus"),
    *("primaryEndpoints", "primaryLocation", "statusOfPrimary", "secondaryEndpoints", "secondaryLocation"),
    *("statusOfSecondary", "lastGeoFailoverTime", "geoReplicationStats", "failoverInProgress"),
)


def deep_merge(old: Json, new: Json, whole: tuple[str, ...] = ()) -> Json:
    merged = dict(old)
    for key, value in new.items():
        deep = isinstance(value, dict) and isinstance(old.get(key), dict) and key not in whole
        merged[key] = deep_merge(old[key], value) if deep else value
    return merged


# What the owner of the machine sets up


def add_account(arm: Arm, subscription: str, group: str, name: str, body: Json | None = None) -> Json:
    """An account that is there from the start, with the given settings over a new account's."""
    wanted = {
        "sku": {"name": "Standard_LRS"},
        "kind": "StorageV2",
        "location": arm.modes.regions[0],
        **(body or {}),
    }
    account = new_account(arm, subscription, group, name, wanted)
    keep(arm, account)
    return account


# Finding


def named(arm: Arm, sub: str, group: str, account: str) -> Json:
    subscriptions.group_named(arm, sub, group)
    found = arm.accounts.get(account.lower())
    if not found or f"/{sub}/resourceGroups/{group}/".lower() not in found["id"].lower():
        raise ArmError(
            404,
            "ResourceNotFound",
            f"The Resource 'Microsoft.Storage/storageAccounts/{account}' under resource group '{group}' was not found.",
        )
    return found


def of(arm: Arm, call: Call) -> Json:
    """The account that a call's path names."""
    return named(arm, call["sub"], call["group"], call["account"])


def has_files_protocol(account: Json) -> bool:
    """Whether it is open to SFTP or NFS, which exclude legal holds and immutability policies."""
    return any(account["properties"].get(name) is True for name in ("isSftpEnabled", "isNfsV3Enabled"))


def is_hierarchical(account: Json) -> bool:
    return account["properties"].get("isHnsEnabled") is True


# Making


def keep(arm: Arm, account: Json) -> None:
    name = account["name"]
    failover.tell_secondary(arm, account)
    arm.accounts[name] = account
    arm.keys.setdefault(name, [keys.new_key(), keys.new_key()])
    arm.services.setdefault(name, copy.deepcopy(services.BLOB))
    arm.blobs.accounts_changed(arm.keys)


def new_account(arm: Arm, sub: str, group: str, name: str, body: Json) -> Json:
    created = now()
    encrypted = {kind: {"keyType": "Account", "enabled": True, "lastEnabledTime": created} for kind in ("file", "blob")}
    properties: Json = {
        "keyCreationTime": {"key1": created, "key2": created},
        "privateEndpointConnections": [],
        "minimumTlsVersion": "TLS1_2",
        "allowBlobPublicAccess": False,
        "networkAcls": {
            "resourceAccessRules": [],
            "bypass": "AzureServices",
            "virtualNetworkRules": [],
            "ipRules": [],
            "defaultAction": "Allow",
        },
        "supportsHttpsTrafficOnly": True,
        "encryption": {"services": encrypted, "keySource": "Microsoft.Storage"},
        "accessTier": "Hot",
        "provisioningState": "Succeeded",
        "creationTime": created,
        "primaryEndpoints": {
            "blob": arm.blobs.endpoint(name),
            "web": arm.blobs.endpoint(name).replace(".blob.", ".web."),
        },
        "primaryLocation": body["location"],
        "statusOfPrimary": "available",
    }
    return {
        "sku": {"name": body["sku"]["name"], "tier": body["sku"]["name"].split("_")[0]},
        "kind": body["kind"],
        "id": f"{subscriptions.group_named(arm, sub, group)['id']}/providers/Microsoft.Storage/storageAccounts/{name}",
        "name": name,
        "type": "Microsoft.Storage/storageAccounts",
        "location": body["location"],
        "tags": body.get("tags") or {},
        "properties": deep_merge(properties, body.get("properties") or {}),
    }


def settable(body: Json) -> Json:
    """The properties of a body that are not Azure's own to set."""
    return {name: value for name, value in (body.get("properties") or {}).items() if name not in READ_ONLY}


# Refusals


def check_new(arm: Arm, name: str, body: Json) -> None:
    if not NAME.fullmatch(name):
        raise ArmError(
            400,
            "AccountNameInvalid",
            f"{name} is not a valid storage account name. Storage account name must be between 3 and 24 characters in "
            "length and use numbers and lower-case letters only.",
        )
    if (body.get("sku") or {}).get("name") not in subscriptions.SKUS:
        raise bad_values("sku")
    if body.get("kind") not in KINDS:
        raise bad_values("kind")
    if body.get("location") not in arm.modes.regions:
        known = ",".join(arm.modes.regions)
        raise ArmError(
            400,
            "LocationNotAvailableForResourceType",
            f"The provided location '{body.get('location')}' is not available for resource type "
            f"'Microsoft.Storage/storageAccounts'. List of available regions for the resource type is '{known}'.",
        )
    properties = body.get("properties") or {}
    for needs_hierarchy in ("isNfsV3Enabled", "isSftpEnabled"):
        if properties.get(needs_hierarchy) and not properties.get("isHnsEnabled"):
            raise bad_values(needs_hierarchy)
    account_settings.check(arm, properties)


def check_change(arm: Arm, account: Json, patch: Json) -> None:
    """ArmError for what an account that is there does not take."""
    sku = (patch.get("sku") or {}).get("name", account["sku"]["name"])
    if sku not in subscriptions.SKUS:
        raise bad_values("sku")
    if account["sku"]["name"] == "Standard_ZRS" and sku != "Standard_ZRS":
        raise bad_values("sku")
    properties = patch.get("properties") or {}
    for name in FIXED:
        if name in properties and properties[name] != account["properties"].get(name):
            raise ArmError(
                400,
                "AccountPropertyCannotBeUpdated",
                f"The property '{name}' was specified in the input, but it cannot be updated as it is read-only. "
                "For more information, see - https://aka.ms/storageaccountupdate",
            )
    if properties.get("isSftpEnabled") and not is_hierarchical(account):
        raise bad_values("isSftpEnabled")
    if properties.get("allowCrossTenantReplication") is False:
        object_replication.refuse_foreign(arm, account)
    account_settings.check(arm, properties)


# Routes


def list_accounts(arm: Arm, call: Call) -> Reply:
    sub, group = call["sub"], call.names.get("group")
    owner = subscriptions.group_named(arm, sub, group) if group else subscriptions.named(arm, sub)
    scope = f"{owner['id']}/".lower()
    found = [item for item in arm.accounts.values() if item["id"].lower().startswith(scope)]
    return call.page(arm, [as_told("account", item, call.version) for item in found])


def check_name(arm: Arm, call: Call) -> Reply:
    subscriptions.named(arm, call["sub"])
    name = call.body.get("name", "")
    if not NAME.fullmatch(str(name)):
        reason = {"reason": "AccountNameInvalid", "message": f"{name} is not a valid storage account name."}
        return answer({"nameAvailable": False, **reason})
    taken = {"reason": "AlreadyExists", "message": f"The storage account named {name} is already taken."}
    return answer({"nameAvailable": False, **taken} if name in arm.accounts else {"nameAvailable": True})


def put_account(arm: Arm, call: Call) -> Reply:
    subscriptions.group_named(arm, call["sub"], call["group"])
    name, body = call["account"], as_told("account", call.body, call.version)
    check_new(arm, name, body)
    if name in arm.accounts:
        return update_by_put(arm, call, body)
    created = new_account(arm, call["sub"], call["group"], name, {**body, "properties": settable(body)})
    keep(arm, created)
    operation = str(uuid.uuid4())
    arm.operations[operation] = Operation(arm.polls, created)
    return empty(202, Location=operation_url(arm, created, operation, call.version), **{"Retry-After": "1"})


def operation_url(arm: Arm, account: Json, operation: str, version: str) -> str:
    """Where it is told whether an operation is done."""
    subscription = "/".join(account["id"].split("/")[:3])
    place = f"{subscription}/providers/Microsoft.Storage/locations/{account['location']}"
    return f"{arm.url}{place}/asyncoperations/{operation}?monitor=true&api-version={version}"


def update_by_put(arm: Arm, call: Call, body: Json) -> Reply:
    """A PUT on an account that is there sets what it names; it cannot move it."""
    try:
        found = of(arm, call)
    except ArmError:
        message = f"The storage account named {call['account']} is already taken."
        raise ArmError(409, "StorageAccountAlreadyTaken", message) from None
    if body["location"] != found["location"]:
        raise ArmError(
            409,
            "InvalidResourceLocation",
            f"The resource '{found['name']}' already exists in location '{found['location']}' in resource group "
            f"'{call['group']}'. A resource with the same name cannot be created in location '{body['location']}'.",
        )
    return answer(as_told("account", changed(arm, found, body), call.version))


def get_operation(arm: Arm, call: Call) -> Reply:
    operation = arm.operations.get(call["operation"])
    if not operation:
        raise ArmError(404, "OperationNotFound", "The operation was not found.")
    if operation.rounds > 0:
        operation.rounds -= 1
        return empty(202, Location=arm.url + call.request.target, **{"Retry-After": "1"})
    if operation.finish:
        operation.finish()
        operation.finish = None
    return answer(as_told("account", operation.result, call.version))


def get_account(arm: Arm, call: Call) -> Reply:
    found = of(arm, call)
    extra: Json = {}
    if "blobRestoreStatus" in call.query.get("$expand", "") and found["name"] in arm.restores:
        extra = {"blobRestoreStatus": restore.progress(arm, found["name"])}
    if "geoReplicationStats" in call.query.get("$expand", ""):
        extra |= failover.stats(found)
    return answer(as_told("account", {**found, "properties": {**found["properties"], **extra}}, call.version))


def patch_account(arm: Arm, call: Call) -> Reply:
    found = of(arm, call)
    return answer(as_told("account", changed(arm, found, as_told("account", call.body, call.version)), call.version))


def changed(arm: Arm, account: Json, patch: Json) -> Json:
    """As ARM does it: tags and some properties are replaced as a unit, the rest is merged."""
    check_change(arm, account, patch)
    for key in ("tags", "sku", "kind"):
        if patch.get(key) is not None:
            account[key] = patch[key]
    if "tier" not in account["sku"]:
        account["sku"]["tier"] = account["sku"]["name"].split("_")[0]
    account["properties"] = deep_merge(account["properties"], settable(patch), WHOLE)
    failover.tell_secondary(arm, account)
    return account


def delete_account(arm: Arm, call: Call) -> Reply:
    try:
        found = of(arm, call)
    except ArmError as error:
        if error.code == "ResourceNotFound":
            return empty(204)
        raise
    policies_and_holds.refuse_protected(arm, found["name"])
    forget(arm, found)
    arm.blobs.accounts_changed(arm.keys)
    return empty(200)


def forget(arm: Arm, account: Json) -> None:
    """Nothing of a deleted account is left to the next one of its name."""
    name, below = account["name"], f"{account['id']}/".lower()
    by_name: tuple[dict[str, Any], ...] = (arm.accounts, arm.keys, arm.services, arm.deleted, arm.revoked)
    for kept in (*by_name, arm.restores, arm.defender):
        kept.pop(name, None)
    by_pair: tuple[dict[tuple[str, str], Any], ...] = (arm.other_services, arm.parts, arm.container_settings)
    for pairs in (*by_pair, arm.holds, arm.policies):
        for pair in [pair for pair in pairs if pair[0] == name]:
            del pairs[pair]
    for by_id in (arm.settings, arm.locks, arm.assignments):
        for key in [key for key in by_id if key.startswith(below)]:
            del by_id[key]
