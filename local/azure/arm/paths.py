"""The paths of Resource Manager, each written once, and what is read from a path."""

import re

SUB = "/subscriptions/{sub}"
GROUP = SUB + "/resourceGroups/{group}"
STORAGE = "/providers/Microsoft.Storage"
ACCOUNT = GROUP + STORAGE + "/storageAccounts/{account}"
SERVICE = ACCOUNT + "/blobServices/default"
CONTAINERS = SERVICE + "/containers"
CONTAINER = CONTAINERS + "/{container}"
IMMUTABILITY = CONTAINER + "/immutabilityPolicies/default"
MANAGEMENT_GROUP = "/providers/Microsoft.Management/managementGroups/{management_group}"
SCOPE = "{scope}"  # any id, the root's empty one included
LOCKS = "/providers/Microsoft.Authorization/locks"
ASSIGNMENTS = "/providers/Microsoft.Authorization/roleAssignments"
DEFINITIONS = "/providers/Microsoft.Authorization/roleDefinitions"
DIAGNOSTICS = "/providers/Microsoft.Insights/diagnosticSettings"
DIAGNOSED = ACCOUNT + "/{service}Services/default"
DEFENDER = ACCOUNT + "/providers/Microsoft.Security/defenderForStorageSettings/current"
EVENTS = SUB + "/providers/Microsoft.Insights/eventtypes/management/values"
# What a name in a path may be, where it is not all up to the next slash.
NAMES = {"scope": r"(?:/.+?)?", "service": r"blob|file|queue|table"}


def matcher(template: str) -> re.Pattern[str]:
    """A pattern that takes the template's paths whole, in any case."""
    parts = re.split(r"\{(\w+)\}", template)
    names = (f"(?P<{name}>{NAMES.get(name, '[^/]+')})" for name in parts[1::2])
    texts = [re.escape(text) for text in parts[::2]]
    return re.compile("".join(text + next(names, "") for text in texts), re.IGNORECASE)


def scope_of(path: str) -> str:
    """The resource that a path is about: without an action, and without the collection that is listed."""
    base, mark, tail = path.rpartition("/providers/")
    first, *names = tail.split("/") if mark else ["", *path.strip("/").split("/")]
    pairs = names[: len(names) // 2 * 2]
    return "/".join([base + mark + first, *pairs]) if pairs else base or "/"
