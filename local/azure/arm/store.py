"""What the local Resource Manager holds: one object, and the ways in which a test may bend it.

The subjects' files have functions over it. Names of accounts are lower case; ids are kept as Azure writes them and
looked up in lower case.
"""

import threading
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from ..logs import RequestLog

Json = dict[str, Any]
LOCATIONS = ("westeurope", "northeurope", "eastus", "eastus2", "westus", "westus2", "uksouth", "germanywestcentral")


class BlobSide(Protocol):
    """What the store needs of the blob service."""

    def endpoint(self, account: str) -> str: ...
    def accounts_changed(self, keys: dict[str, list[str]]) -> None: ...
    def containers(self, account: str, key: str) -> list[Json]: ...
    def create(self, account: str, key: str, name: str, properties: Json) -> bool: ...
    def update(self, account: str, key: str, name: str, properties: Json) -> None: ...
    def delete(self, account: str, key: str, name: str) -> None: ...
    def lease(self, account: str, key: str, name: str, wanted: Json) -> Json: ...


class Restorer(Protocol):
    """Who brings blobs back when a point-in-time restore is done."""

    def __call__(self, account: str, body: Json) -> None: ...


@dataclass
class Modes:
    """How this Azure differs from a healthy worldwide one in which everybody may do everything.

    newest_api: the newest api-version that any provider knows, as of an Azure Stack Hub or another cloud; empty for all.
    regions: where accounts can be; the first one is where they are made unless a location is named.
    no_role: nobody has a role in Resource Manager, as for an identity with nothing but data roles.
    enforce_roles: role assignments decide what a caller may do. Without it, everybody may do everything.
    throttle_after: so many more requests are answered, then each with 429 and a Retry-After of `retry_after` seconds.
    """

    newest_api: str = ""
    regions: tuple[str, ...] = LOCATIONS
    no_role: bool = False
    enforce_roles: bool = False
    throttle_after: int | None = None
    retry_after: int = 1

    def clear(self) -> None:
        """Back to the healthy worldwide Azure."""
        vars(self).update(vars(Modes()))


@dataclass
class Arm:
    """The store.

    page_size, graph_page_size: items a page holds. polls: how often a creation or a restore is answered with 202 before
    it is done. forbidden: methods and patterns of paths that nobody is permitted. lock: held while a request is served.
    client_address: where requests seem to come from, unless their header x-local-client-address says otherwise.
    """

    tenant: str
    blobs: BlobSide
    url: str = ""  # set once the front listens
    authority_url: str = ""
    modes: Modes = field(default_factory=Modes)
    page_size: int = 100
    graph_page_size: int = 1000
    polls: int = 1
    client_address: str = "203.0.113.7"
    lock: threading.RLock = field(default_factory=threading.RLock)

    # Scopes
    management_groups: dict[str, Json] = field(default_factory=dict)
    parents: dict[str, str] = field(default_factory=dict)  # id of a subscription or management group -> the group above
    subscriptions: dict[str, Json] = field(default_factory=dict)
    groups: dict[tuple[str, str], Json] = field(default_factory=dict)

    # Accounts, by name
    accounts: dict[str, Json] = field(default_factory=dict)
    keys: dict[str, list[str]] = field(default_factory=dict)
    services: dict[str, Json] = field(default_factory=dict)  # the blob service's settings
    other_services: dict[tuple[str, str], Json] = field(default_factory=dict)  # by account and file, queue or table
    parts: defaultdict[tuple[str, str], dict[str, Json]] = field(default_factory=lambda: defaultdict(dict))
    defender: dict[str, Json] = field(default_factory=dict)
    revoked: dict[str, list[str]] = field(default_factory=dict)  # when delegation keys were revoked
    restores: dict[str, "Restore"] = field(default_factory=dict)
    operations: dict[str, "Operation"] = field(default_factory=dict)
    on_restore: Restorer | None = None

    # Containers, by account and container
    deleted: dict[str, list[Json]] = field(default_factory=dict)
    container_settings: dict[tuple[str, str], Json] = field(default_factory=dict)  # what the blob service does not keep
    holds: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)  # tag -> time
    policies: dict[tuple[str, str], Json] = field(default_factory=dict)

    # What lies across, by lower-case id
    locks: dict[str, Json] = field(default_factory=dict)
    settings: dict[str, Json] = field(default_factory=dict)  # diagnostic settings
    assignments: dict[str, Json] = field(default_factory=dict)
    definitions: dict[str, Json] = field(default_factory=dict)

    # Logs and refusals
    activity: list[Json] = field(default_factory=list)
    request_log: RequestLog | None = None
    graph_lag: set[str] = field(default_factory=set)  # accounts that Resource Graph has not heard of yet
    forbidden: list[tuple[str, str]] = field(default_factory=list)
    writes_left: int = 1200

    def clear(self) -> None:
        """Forgets all that was locked, held, restored, set aside, logged and forbidden; accounts and roles stay."""
        for part in (
            *(self.locks, self.revoked, self.holds, self.policies, self.restores, self.activity, self.settings),
            *(self.forbidden, self.graph_lag, self.other_services, self.parts, self.defender, self.deleted),
        ):
            part.clear()


@dataclass
class Operation:
    """Something that takes its time: the looks that are left until it is done, what it then returns, and what is then
    done."""

    rounds: int
    result: Json
    finish: Callable[[], None] | None = None


@dataclass
class Restore:
    """A point-in-time restore: the looks that are left until it is done, and its status as ARM tells it."""

    rounds: int
    status: Json
