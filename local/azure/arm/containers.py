"""Containers: kept by the blob service, so that what is made on one side is seen on the other."""

import copy
import re
import secrets
import uuid

from ..front import Reply
from ..times import now
from . import accounts, policies_and_holds
from .answers import ArmError, answer, bad_request, bad_values, chosen, empty, not_supported
from .call import Call
from .store import Arm, Json

NAME = re.compile(r"(?!.*--)[a-z0-9][a-z0-9-]{1,61}[a-z0-9]|\$root|\$web|\$logs")
# What ARM remembers of a container and the blob service does not.
SETTINGS = ("defaultEncryptionScope", "denyEncryptionScopeOverride", "immutableStorageWithVersioning")
LEASE_NEEDS = {"Acquire": "leaseDuration", "Renew": "leaseId", "Release": "leaseId", "Change": "leaseId", "Break": ""}


def described(arm: Arm, account: Json, item: Json) -> Json:
    """A container of the blob service as ARM shows it."""
    key = (account["name"], item["name"])
    properties = {
        "deleted": False,
        "remainingRetentionDays": 0,
        "defaultEncryptionScope": "$account-encryption-key",
        "denyEncryptionScopeOverride": False,
        **item["properties"],
        **arm.container_settings.get(key, {}),
        **policies_and_holds.shown(arm, *key),
    }
    return {
        "id": f"{account['id']}/blobServices/default/containers/{item['name']}",
        "name": item["name"],
        "type": "Microsoft.Storage/storageAccounts/blobServices/containers",
        "etag": item["etag"],
        "properties": properties,
    }


def live(arm: Arm, account: Json) -> list[Json]:
    """The containers that are there now."""
    name = account["name"]
    return [described(arm, account, item) for item in arm.blobs.containers(name, arm.keys[name][0])]


def named(arm: Arm, account: Json, container: str) -> Json:
    for item in live(arm, account):
        if item["name"] == container:
            return item
    message = f"The specified container does not exist.\nRequestId:{uuid.uuid4()}\nTime:{now()}"
    raise ArmError(404, "ContainerNotFound", message)


def has_version_immutability(arm: Arm, account: str, container: str = "") -> bool:
    """Whether blobs of the container, or of any, take holds and policies of their own."""
    of_account = arm.accounts[account]["properties"].get("immutableStorageWithVersioning")
    setting = arm.container_settings.get((account, container), {}).get("immutableStorageWithVersioning") or of_account
    return bool((setting or {}).get("enabled"))


def mark_deleted(arm: Arm, account: Json, item: Json) -> None:
    """What ARM lists of a container that was deleted, where the account keeps those."""
    retention = arm.services[account["name"]].get("containerDeleteRetentionPolicy") or {}
    if not retention.get("enabled"):
        return
    gone = copy.deepcopy(item)
    gone["properties"] |= {
        "deleted": True,
        "deletedTime": now(),
        "remainingRetentionDays": retention["days"],
        "version": secrets.token_hex(8).upper(),
    }
    arm.deleted.setdefault(account["name"], []).append(gone)


# Routes


def list_containers(arm: Arm, call: Call) -> Reply:
    found = accounts.of(arm, call)
    items = live(arm, found)
    if call.query.get("$include") == "deleted":
        items = sorted(items + arm.deleted.get(found["name"], []), key=lambda item: str(item["name"]))
    prefix = call.query.get("$filter", "")
    items = [item for item in items if item["name"].startswith(prefix)]
    return call.page(arm, items, int(call.query.get("$maxpagesize") or 0) or None)


def get_container(arm: Arm, call: Call) -> Reply:
    return answer(named(arm, accounts.of(arm, call), call["container"]))


def put_container(arm: Arm, call: Call) -> Reply:
    found, name = accounts.of(arm, call), call["container"]
    if not NAME.fullmatch(name):
        raise bad_request("The specified resource name contains invalid characters.", "ContainerOperationFailure")
    properties = call.properties
    check_public(found, properties)
    check_immutability(arm, found, properties)
    created = arm.blobs.create(found["name"], arm.keys[found["name"]][0], name, properties)
    keep_settings(arm, found["name"], name, properties)
    body = named(arm, found, name)
    return answer({key: body[key] for key in ("id", "name", "type", "properties")}, 201 if created else 200)


def patch_container(arm: Arm, call: Call) -> Reply:
    found, name = accounts.of(arm, call), call["container"]
    named(arm, found, name)
    properties = call.properties
    check_public(found, properties)
    check_immutability(arm, found, properties)
    arm.blobs.update(found["name"], arm.keys[found["name"]][0], name, properties)
    keep_settings(arm, found["name"], name, properties)
    return answer(named(arm, found, name))


def check_public(account: Json, properties: Json) -> None:
    """ArmError for an access that is none or that the account forbids; the word is then as Azure writes it."""
    access = chosen(properties.get("publicAccess", "None"), ("None", "Blob", "Container"))
    if not access:
        raise bad_values("publicAccess")
    if "publicAccess" in properties:
        properties["publicAccess"] = access
    if access != "None" and not account["properties"].get("allowBlobPublicAccess"):
        raise ArmError(409, "PublicAccessNotPermitted", "Public access is not permitted on this storage account.")


def check_immutability(arm: Arm, account: Json, properties: Json) -> None:
    """ArmError where blobs shall take holds and policies of their own, and the account has what excludes that."""
    if (properties.get("immutableStorageWithVersioning") or {}).get("enabled"):
        if accounts.is_hierarchical(account):
            raise not_supported("Version-level immutability with a hierarchical namespace")
        policies_and_holds.check_account(arm, account, "Version-level immutability")


def keep_settings(arm: Arm, account: str, container: str, properties: Json) -> None:
    given = {name: properties[name] for name in SETTINGS if name in properties}
    arm.container_settings.setdefault((account, container), {}).update(given)


def delete_container(arm: Arm, call: Call) -> Reply:
    found, name = accounts.of(arm, call), call["container"]
    try:
        item = named(arm, found, name)
    except ArmError:
        return empty(204)
    policies_and_holds.refuse_protected(arm, found["name"], name)
    arm.blobs.delete(found["name"], arm.keys[found["name"]][0], name)
    arm.container_settings.pop((found["name"], name), None)
    mark_deleted(arm, found, item)
    return empty(200)


def lease(arm: Arm, call: Call) -> Reply:
    """Checked before the blob service sees it, which takes a missing word for something else."""
    found, wanted = accounts.of(arm, call), call.body
    action = str(wanted.get("action"))
    if action not in LEASE_NEEDS:
        raise bad_values("action")
    needs = LEASE_NEEDS[action]
    if needs and wanted.get(needs) is None:
        raise bad_values(needs)
    seconds = wanted.get("leaseDuration")
    if action == "Acquire" and seconds != -1 and not (isinstance(seconds, int) and 15 <= seconds <= 60):
        raise bad_values("leaseDuration")
    if action == "Change" and not wanted.get("proposedLeaseId"):
        raise bad_values("proposedLeaseId")
    named(arm, found, call["container"])
    return answer(arm.blobs.lease(found["name"], arm.keys[found["name"]][0], call["container"], wanted))
