"""API versions: which ones a provider knows, and which properties came with which.

A property that a version does not have is dropped from what is written, without an error, and left out of what is read.
"""

import copy

from .answers import ArmError
from .store import Arm, Json

STORAGE = (
    *("2019-06-01", "2021-01-01", "2021-04-01", "2021-06-01", "2021-08-01", "2021-09-01", "2022-05-01", "2022-09-01"),
    *("2023-01-01", "2023-04-01", "2023-05-01", "2024-01-01", "2025-01-01", "2025-06-01", "2025-08-01"),
    *("2026-04-01", "2026-06-01", "2026-09-01"),
)
SHARING = tuple(version for version in STORAGE if version >= "2025-08-01")
TASKS = tuple(version for version in STORAGE if version >= "2023-05-01")
ACCESS_POINTS = ("2026-09-01",)
RESOURCES = (
    *("2016-06-01", "2019-05-01", "2019-06-01", "2019-11-01", "2020-01-01", "2020-10-01", "2021-01-01", "2021-04-01"),
    *("2022-09-01", "2022-12-01", "2024-03-01", "2024-07-01", "2024-11-01"),
)
LOCKS = ("2015-01-01", "2016-09-01", "2017-04-01", "2020-05-01")
ROLES = ("2015-07-01", "2018-01-01-preview", "2020-04-01-preview", "2022-04-01", "2022-05-01-preview")
GRAPH = ("2018-09-01-preview", "2019-04-01", "2021-03-01", "2022-10-01", "2024-04-01")
ACTIVITY = ("2014-04-01", "2015-04-01", "2017-03-01-preview")
DIAGNOSTICS = ("2017-05-01-preview", "2021-05-01-preview")
LOG_QUERIES = ("2018-03-01-preview",)
DEFENDER = ("2022-12-01-preview", "2024-10-01-preview", "2025-01-01", "2025-06-01", "2025-09-01-preview")
SCANS = ("2024-10-01-preview", "2025-09-01-preview")
ANY: tuple[str, ...] = ()

# Properties of an object by the version that they came with, each as the names that lead to it.
SINCE: dict[str, dict[tuple[str, ...], str]] = {
    "account": {
        ("allowCrossTenantDelegationSas",): "2026-09-01",
        ("allowSharedKeyAccessForServices",): "2026-09-01",
        ("dataCollaborationPolicyProperties",): "2026-09-01",
        ("sasPolicy", "requireUserBoundUserDelegationSas"): "2026-09-01",
        ("sasPolicy", "requireUserBoundUserDelegationSasAction"): "2026-09-01",
        ("networkAcls", "ipv6Rules"): "2025-08-01",
    },
    "blob service": {("staticWebsite",): "2026-09-01"},
}


def check_known(arm: Arm, version: str, known: tuple[str, ...], kind: str) -> None:
    """ArmError for a version that a provider does not know, with those that it does."""
    newest = arm.modes.newest_api
    offered = [one for one in known if not newest or one[:10] <= newest]
    if version in offered or (not known and (not newest or version[:10] <= newest)):
        return
    raise ArmError(
        400,
        "NoRegisteredProviderFound",
        f"No registered resource provider found for location '{arm.modes.regions[0]}' and API version '{version}' for "
        f"type '{kind}'. The supported api-versions are '{', '.join(offered)}'. "
        f"The supported locations are '{', '.join(arm.modes.regions)}'.",
    )


def unseen(kind: str, item: Json, version: str) -> Json:
    """The properties of an object that a version does not know. It does not remove them either."""
    names = [name for (name, *inner), since in SINCE[kind].items() if not inner and version[:10] < since]
    return {name: item[name] for name in names if name in item}


def as_told(kind: str, item: Json, version: str) -> Json:
    """What a version knows of an object, on the way in and on the way out."""
    found = copy.deepcopy(item)
    for (*parents, last), since in SINCE[kind].items():
        if version[:10] >= since:
            continue
        inner = found.get("properties")
        for name in parents:
            inner = inner.get(name) if isinstance(inner, dict) else None
        if isinstance(inner, dict):
            inner.pop(last, None)
    return found
