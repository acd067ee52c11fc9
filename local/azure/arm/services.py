"""The blob, file, queue and table service of an account: their settings."""

import copy

from ..front import Reply
from ..times import now
from . import accounts, policies_and_holds
from .answers import answer, bad_values, conflict, not_supported
from .call import Call
from .store import Arm, Json
from .versions import as_told, unseen

RETENTIONS = (
    *("deleteRetentionPolicy", "containerDeleteRetentionPolicy", "restorePolicy"),
    "shareDeleteRetentionPolicy",
)
LONGEST_RETENTION = 365
MOST_CORS_RULES = 5
CORS_METHODS = {"DELETE", "GET", "HEAD", "MERGE", "POST", "OPTIONS", "PUT", "PATCH", "CONNECT", "TRACE"}
CORS_LISTS = ("allowedOrigins", "allowedMethods", "exposedHeaders", "allowedHeaders")
# Which services a kind of account has.
SERVICES = {
    "Storage": ("blob", "file", "queue", "table"),
    "StorageV2": ("blob", "file", "queue", "table"),
    "BlobStorage": ("blob",),
    "BlockBlobStorage": ("blob",),
    "FileStorage": ("file",),
}
# The settings of a service that nobody has changed.
BLOB: Json = {
    "deleteRetentionPolicy": {"allowPermanentDelete": False, "enabled": False},
    "cors": {"corsRules": []},
}
USUAL: dict[str, Json] = {
    "file": {
        "shareDeleteRetentionPolicy": {"enabled": True, "days": 7},
        "protocolSettings": {"smb": {}},
        "cors": {"corsRules": []},
    },
    "queue": {"cors": {"corsRules": []}},
    "table": {"cors": {"corsRules": []}},
}


def check_has(account: Json, service: str) -> None:
    if service not in SERVICES[account["kind"]]:
        raise not_supported(service.capitalize())


def described(account: Json, service: str, properties: Json) -> Json:
    return {
        "sku": account["sku"],
        "id": f"{account['id']}/{service}Services/default",
        "name": "default",
        "type": f"Microsoft.Storage/storageAccounts/{service}Services",
        "properties": properties,
    }


# The blob service


def blob_service(arm: Arm, call: Call) -> Json:
    account = accounts.of(arm, call)
    check_has(account, "blob")
    return as_told("blob service", described(account, "blob", arm.services[account["name"]]), call.version)


def list_blob_services(arm: Arm, call: Call) -> Reply:
    return answer({"value": [blob_service(arm, call)]})


def get_blob_service(arm: Arm, call: Call) -> Reply:
    return answer(blob_service(arm, call))


def put_blob_service(arm: Arm, call: Call) -> Reply:
    """Replaces everything that the version knows: what of it is not in the body is gone."""
    account = accounts.of(arm, call)
    check_has(account, "blob")
    properties: Json = as_told("blob service", call.body, call.version).get("properties") or {}
    kept = unseen("blob service", arm.services[account["name"]], call.version)
    settle(arm, account, copy.deepcopy(BLOB) | kept | properties)
    return answer(blob_service(arm, call))


def settle(arm: Arm, account: Json, properties: Json) -> None:
    """Makes these the settings of the blob service. ArmError for what it does not take."""
    name = account["name"]
    check_retentions(properties)
    check_features(account, properties)
    check_conflicts(arm, account, properties)
    check_cors(properties)
    keep_restore_times(arm.services[name], properties)
    arm.services[name] = properties
    if is_on(properties, "staticWebsite"):
        arm.blobs.create(name, arm.keys[name][0], "$web", {})


def is_on(properties: Json, policy: str) -> bool:
    return (properties.get(policy) or {}).get("enabled") is True


def check_retentions(properties: Json) -> None:
    for policy in RETENTIONS:
        days = (properties.get(policy) or {}).get("days")
        if is_on(properties, policy) and not (isinstance(days, int) and 1 <= days <= LONGEST_RETENTION):
            raise bad_values(f"{policy}.days")


def restore_problem(properties: Json) -> str:
    """The prerequisite of point-in-time restore that the settings lack; empty where none is missing."""
    deletes, restores = properties.get("deleteRetentionPolicy") or {}, properties.get("restorePolicy") or {}
    if not properties.get("isVersioningEnabled"):
        return "isVersioningEnabled"
    if not is_on(properties, "changeFeed"):
        return "changeFeed.enabled"
    if not deletes.get("enabled"):
        return "deleteRetentionPolicy.enabled"
    return "restorePolicy.days" if restores.get("days", 0) >= deletes.get("days", 0) else ""


def check_features(account: Json, properties: Json) -> None:
    """What a hierarchical account lacks, and what point-in-time restore stands on."""
    hierarchical = accounts.is_hierarchical(account)
    for name, wanted in (
        ("Blob versioning", properties.get("isVersioningEnabled")),
        ("Change feed", is_on(properties, "changeFeed")),
        ("Point-in-time restore", is_on(properties, "restorePolicy")),
    ):
        if wanted and hierarchical:
            raise not_supported(f"{name} with a hierarchical namespace")
    if is_on(properties, "restorePolicy") and (problem := restore_problem(properties)):
        raise bad_values("restorePolicy", problem)


def check_conflicts(arm: Arm, account: Json, properties: Json) -> None:
    """Features that exclude each other. Which one was there first does not matter.

    https://github.com/Azure/azure-rest-api-specs/issues/11237 has the words for permanent deletion.
    https://learn.microsoft.com/azure/storage/blobs/immutable-storage-overview says that holds and immutability are
    incompatible with point-in-time restore and last access tracking. Another of its pages speaks of restores that leave
    immutable blobs as they are; here, the two never meet.
    """
    if is_on(properties, "restorePolicy") and (properties.get("deleteRetentionPolicy") or {}).get(
        "allowPermanentDelete"
    ):
        raise conflict("restorePolicy")
    if immutability_problem(properties) and policies_and_holds.has_any(arm, account["name"]):
        raise conflict("immutability")


def immutability_problem(properties: Json) -> str:
    """The feature that excludes holds and immutability policies; empty where there is none."""
    if is_on(properties, "restorePolicy"):
        return "restorePolicy"
    tracking = (properties.get("lastAccessTimeTrackingPolicy") or {}).get("enable") is True
    return "lastAccessTimeTrackingPolicy" if tracking else ""


def check_cors(properties: Json) -> None:
    rules = (properties.get("cors") or {}).get("corsRules") or []
    if len(rules) > MOST_CORS_RULES:
        raise bad_values("cors.corsRules")
    for rule in rules:
        if any(not isinstance(rule.get(name), list) for name in CORS_LISTS) or "maxAgeInSeconds" not in rule:
            raise bad_values("cors.corsRules")
        if not rule["allowedOrigins"] or not set(rule["allowedMethods"]) <= CORS_METHODS or not rule["allowedMethods"]:
            raise bad_values("cors.corsRules")


def keep_restore_times(before: Json, properties: Json) -> None:
    """Point-in-time restore reaches back to when it was turned on, and no further."""
    if not is_on(properties, "restorePolicy"):
        return
    old = before.get("restorePolicy") or {}
    was_on = is_on(before, "restorePolicy")
    policy = properties["restorePolicy"]
    policy["lastEnabledTime"] = old.get("lastEnabledTime") if was_on else now()
    policy["minRestoreTime"] = old.get("minRestoreTime") if was_on else now()


# The other services


def other(arm: Arm, call: Call, service: str) -> Json:
    account = accounts.of(arm, call)
    check_has(account, service)
    return described(account, service, arm.other_services.get((account["name"], service), USUAL[service]))


def list_others(arm: Arm, call: Call, service: str) -> Reply:
    return answer({"value": [other(arm, call, service)]})


def get_other(arm: Arm, call: Call, service: str) -> Reply:
    return answer(other(arm, call, service))


def put_other(arm: Arm, call: Call, service: str) -> Reply:
    account = accounts.of(arm, call)
    check_has(account, service)
    check_cors(call.properties)
    check_retentions(call.properties)
    arm.other_services[account["name"], service] = {"cors": {"corsRules": []}, **call.properties}
    return answer(other(arm, call, service))
