"""Scopes: what lies above and below what, and whether there is anything at an id."""

import re

from . import accounts, containers, subscriptions
from .answers import ArmError
from .paths import ACCOUNT, CONTAINER, GROUP, MANAGEMENT_GROUP, SERVICE, SUB, matcher
from .store import Arm

ACCOUNT_AT, CONTAINER_AT, GROUP_AT, SUB_AT = (matcher(template) for template in (ACCOUNT, CONTAINER, GROUP, SUB))
MANAGEMENT_GROUP_AT, SERVICE_AT = matcher(MANAGEMENT_GROUP), matcher(SERVICE)


def same(one: str, other: str) -> bool:
    return one.rstrip("/").lower() == other.rstrip("/").lower()


def inside(upper: str, lower: str) -> bool:
    """Whether an id is the other one or lies below it by its text alone."""
    return f"{lower.rstrip('/')}/".lower().startswith(f"{upper.rstrip('/')}/".lower())


def covers(arm: Arm, upper: str, lower: str) -> bool:
    """Whether what is granted or locked at one scope reaches another: the root, management groups, and ids below."""
    if upper in ("", "/") or inside(upper, lower):
        return True
    found = re.match(r"/subscriptions/[^/]+", lower, re.IGNORECASE)
    above = arm.parents.get((found[0] if found else lower).lower())
    while above:
        if same(above, upper):
            return True
        above = arm.parents.get(above.lower())
    return False


def resolve(arm: Arm, scope: str) -> str:
    """The id of what is there, as Azure writes it; ArmError 404 as ARM answers where nothing is."""
    if scope in ("", "/"):
        return "/"
    if found := MANAGEMENT_GROUP_AT.fullmatch(scope):
        return str(management_group(arm, found["management_group"])["id"])
    if found := CONTAINER_AT.fullmatch(scope):
        account = accounts.named(arm, found["sub"], found["group"], found["account"])
        return str(containers.named(arm, account, found["container"])["id"])
    for pattern, tail in ((SERVICE_AT, "/blobServices/default"), (ACCOUNT_AT, "")):
        if found := pattern.fullmatch(scope):
            return f"{accounts.named(arm, found['sub'], found['group'], found['account'])['id']}{tail}"
    if found := GROUP_AT.fullmatch(scope):
        return str(subscriptions.group_named(arm, found["sub"], found["group"])["id"])
    if found := SUB_AT.fullmatch(scope):
        return str(subscriptions.named(arm, found["sub"])["id"])
    raise ArmError(404, "ResourceNotFound", f"The resource '{scope}' was not found.")


def management_group(arm: Arm, name: str) -> dict[str, object]:
    if name.lower() not in arm.management_groups:
        raise ArmError(404, "NotFound", f"The management group '{name}' could not be found.")
    return arm.management_groups[name.lower()]
