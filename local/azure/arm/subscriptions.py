"""Management groups, subscriptions, resource groups, and what Azure offers in its regions."""

import re

from ..front import Reply
from .answers import ArmError, answer, empty
from .call import Call
from .store import Arm, Json

SKUS = {
    "Premium_LRS": ("StorageV2", "BlockBlobStorage", "FileStorage"),
    "Premium_ZRS": ("BlockBlobStorage", "FileStorage"),
    "Standard_GRS": ("Storage", "StorageV2", "BlobStorage"),
    "Standard_GZRS": ("StorageV2",),
    "Standard_LRS": ("Storage", "StorageV2", "BlobStorage"),
    "Standard_RAGRS": ("Storage", "StorageV2", "BlobStorage"),
    "Standard_RAGZRS": ("StorageV2",),
    "Standard_ZRS": ("StorageV2",),
}
ACCOUNTS_PER_REGION = 250


# What the owner of the machine sets up


def add_management_group(arm: Arm, name: str, parent: str = "") -> Json:
    """A management group below another one, or below none."""
    group_id = f"/providers/Microsoft.Management/managementGroups/{name}"
    found = {"id": group_id, "name": name, "type": "Microsoft.Management/managementGroups"}
    arm.management_groups[name.lower()] = found
    if parent:
        arm.parents[group_id.lower()] = f"/providers/Microsoft.Management/managementGroups/{parent}"
    return found


def add_subscription(arm: Arm, subscription: str, name: str, management_group: str = "") -> Json:
    found: Json = {
        "id": f"/subscriptions/{subscription}",
        "authorizationSource": "RoleBased",
        "managedByTenants": [],
        "subscriptionId": subscription,
        "tenantId": arm.tenant,
        "displayName": name,
        "state": "Enabled",
        "subscriptionPolicies": {
            "locationPlacementId": "Public_2014-09-01",
            "quotaId": "PayAsYouGo_2014-09-01",
            "spendingLimit": "Off",
        },
    }
    arm.subscriptions[subscription.lower()] = found
    if management_group:
        parent = f"/providers/Microsoft.Management/managementGroups/{management_group}"
        arm.parents[str(found["id"]).lower()] = parent
    return found


def add_group(arm: Arm, subscription: str, name: str, location: str = "", **tags: str) -> Json:
    found: Json = {
        "id": f"/subscriptions/{subscription}/resourceGroups/{name}",
        "name": name,
        "type": "Microsoft.Resources/resourceGroups",
        "location": location or arm.modes.regions[0],
        "tags": tags,
        "properties": {"provisioningState": "Succeeded"},
    }
    arm.groups[subscription.lower(), name.lower()] = found
    return found


# Finding


def named(arm: Arm, sub: str) -> Json:
    if sub.lower() not in arm.subscriptions:
        raise ArmError(404, "SubscriptionNotFound", f"The subscription '{sub}' could not be found.")
    return arm.subscriptions[sub.lower()]


def group_named(arm: Arm, sub: str, group: str) -> Json:
    named(arm, sub)
    if (sub.lower(), group.lower()) not in arm.groups:
        raise ArmError(404, "ResourceGroupNotFound", f"Resource group '{group}' could not be found.")
    return arm.groups[sub.lower(), group.lower()]


# Routes


def list_tenants(arm: Arm, call: Call) -> Reply:
    return call.page(arm, [{"id": f"/tenants/{arm.tenant}", "tenantId": arm.tenant, "tenantCategory": "Home"}])


def list_subscriptions(arm: Arm, call: Call) -> Reply:
    """Those in which the caller has a role: none of them is an answer, not an error."""
    return call.page(arm, [] if arm.modes.no_role else list(arm.subscriptions.values()))


def get_subscription(arm: Arm, call: Call) -> Reply:
    return answer(named(arm, call["sub"]))


def list_groups(arm: Arm, call: Call) -> Reply:
    named(arm, call["sub"])
    found = [group for (owner, _), group in arm.groups.items() if owner == call["sub"].lower()]
    wanted = re.fullmatch(r"tagName eq '(.*?)' and tagValue eq '(.*)'", call.query.get("$filter", ""))
    if wanted:
        name, value = (part.replace("''", "'") for part in wanted.groups())
        found = [group for group in found if group["tags"].get(name) == value]
    return call.page(arm, found, int(call.query.get("$top") or 0) or None)


def get_group(arm: Arm, call: Call) -> Reply:
    return answer(group_named(arm, call["sub"], call["group"]))


def has_group(arm: Arm, call: Call) -> Reply:
    group_named(arm, call["sub"], call["group"])
    return empty(204)


def list_resources(arm: Arm, call: Call) -> Reply:
    """Every resource of the subscription as short as ARM lists them. The filter is by type or name."""
    scope = f"{named(arm, call['sub'])['id']}/".lower()
    found = [item for item in arm.accounts.values() if str(item["id"]).lower().startswith(scope)]
    for key, value in re.findall(r"(resourceType|name) eq '([^']*)'", call.query.get("$filter", "")):
        field = "type" if key == "resourceType" else key
        found = [item for item in found if str(item[field]).lower() == value.lower()]
    brief = ("id", "name", "type", "kind", "sku", "location", "tags")
    return call.page(arm, [{key: item[key] for key in brief} for item in found])


def list_locations(arm: Arm, call: Call) -> Reply:
    prefix = named(arm, call["sub"])["id"]
    found = [
        {
            "id": f"{prefix}/locations/{name}",
            "name": name,
            "type": "Region",
            "displayName": name,
            "regionalDisplayName": name,
            "metadata": {"regionType": "Physical", "regionCategory": "Recommended"},
        }
        for name in arm.modes.regions
    ]
    return call.page(arm, found)


def list_skus(arm: Arm, call: Call) -> Reply:
    named(arm, call["sub"])
    found = [
        {
            "resourceType": "storageAccounts",
            "name": sku,
            "tier": sku.partition("_")[0],
            "kind": kind,
            "locations": [location],
            "capabilities": [{"name": "supportsnetworkacls", "value": "true"}],
            "restrictions": [],
        }
        for location in arm.modes.regions
        for sku, kinds in SKUS.items()
        for kind in kinds
    ]
    return answer({"value": found})  # never in pages


def list_usages(arm: Arm, call: Call) -> Reply:
    scope, location = f"{named(arm, call['sub'])['id']}/", call["location"].lower()
    if location not in arm.modes.regions:
        raise ArmError(400, "LocationNotFound", f"The location '{location}' was not found.")
    used = [
        item
        for item in arm.accounts.values()
        if str(item["id"]).startswith(scope) and str(item["location"]).lower() == location
    ]
    name = {"value": "StorageAccounts", "localizedValue": "Storage Accounts"}
    usage = {"unit": "Count", "currentValue": len(used), "limit": ACCOUNTS_PER_REGION, "name": name}
    return answer({"value": [usage]})
