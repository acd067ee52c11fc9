"""Lifecycle and inventory policies, each one object per account that is called `default`."""

from ..front import Reply
from ..times import now
from . import accounts
from .answers import answer, bad_request, bad_values
from .call import Call
from .parts import add_part, dropped, listed, read
from .store import Arm, Json

LIFECYCLE, INVENTORY = "managementPolicies", "inventoryPolicies"
MOST_RULES = 100
BLOB_TYPES = {"blockBlob", "appendBlob"}
SUBJECTS = ("baseBlob", "snapshot", "version")
ACCESS_CONDITION = "daysAfterLastAccessTimeGreaterThan"


def get_lifecycle(arm: Arm, call: Call) -> Reply:
    check_name(call)
    return read(arm, call, LIFECYCLE, "default", "ManagementPolicyNotFound")


def check_name(call: Call) -> None:
    if call["policy"] != "default":
        raise bad_values("managementPolicyName")


def put_lifecycle(arm: Arm, call: Call) -> Reply:
    check_name(call)
    account = accounts.of(arm, call)
    rules = rules_of(call)
    tracks = (arm.services[account["name"]].get("lastAccessTimeTrackingPolicy") or {}).get("enable") is True
    for rule in rules:
        check_rule(rule, tracks)
    properties = {"policy": call.properties["policy"], "lastModifiedTime": now()}
    return answer({**add_part(arm, account, LIFECYCLE, "default", properties), "name": "DefaultManagementPolicy"})


def rules_of(call: Call) -> list[Json]:
    rules = (call.properties.get("policy") or {}).get("rules")
    if not isinstance(rules, list) or not 1 <= len(rules) <= MOST_RULES:
        raise bad_values("policy.rules")
    names = [rule.get("name") for rule in rules]
    if len(set(names)) < len(names) or not all(names):
        raise bad_values("policy.rules.name")
    return rules


def check_rule(rule: Json, tracks_access: bool) -> None:
    """A rule says what is done, to which blobs, and when; access counts only where it is tracked."""
    definition = rule.get("definition") or {}
    actions = definition.get("actions") or {}
    if rule.get("type") != "Lifecycle" or not any(actions.get(subject) for subject in SUBJECTS):
        raise bad_values("policy.rules.definition.actions")
    types = set((definition.get("filters") or {}).get("blobTypes") or [])
    if not types or types - BLOB_TYPES:
        raise bad_values("policy.rules.definition.filters.blobTypes")
    conditions = [condition for subject in actions.values() for condition in subject.values()]
    by_access = [one for one in conditions if isinstance(one, dict) and ACCESS_CONDITION in one]
    if by_access and not tracks_access:
        raise bad_request("Last access time tracking is not enabled for the account.", "InvalidRequestPropertyValue")


def delete_lifecycle(arm: Arm, call: Call) -> Reply:
    return dropped(arm, call, LIFECYCLE, call["policy"])


def list_inventory(arm: Arm, call: Call) -> Reply:
    return listed(arm, call, INVENTORY)


def get_inventory(arm: Arm, call: Call) -> Reply:
    return read(arm, call, INVENTORY, call["policy"], "BlobInventoryPolicyNotFound")


def put_inventory(arm: Arm, call: Call) -> Reply:
    account = accounts.of(arm, call)
    rules_of(call)
    if call["policy"] != "default":
        raise bad_values("blobInventoryPolicyName")
    properties = {"policy": call.properties["policy"], "lastModifiedTime": now()}
    return answer(add_part(arm, account, INVENTORY, "default", properties))


def delete_inventory(arm: Arm, call: Call) -> Reply:
    return dropped(arm, call, INVENTORY, call["policy"])
