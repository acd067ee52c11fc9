"""What the blob service knows of Resource Manager: the settings of accounts and containers, read from the ARM store.

Everything that the blob service reads there or writes goes through here.
"""

import contextlib
import copy
import secrets
from datetime import datetime
from typing import Any

from ..arm import Arm
from ..arm_parts import moment
from ..response import now

Json = dict[str, Any]


class Accounts:
    """A view of the ARM store. An account that is not in it does not exist."""

    def __init__(self, arm: Arm) -> None:
        self.arm = arm

    def __contains__(self, account: str) -> bool:
        return account in self.arm.keys

    def lock(self) -> contextlib.AbstractContextManager[bool]:
        """Held by whoever changes what ARM keeps. It comes before the blob service's own lock."""
        return self.arm._lock

    def keys(self, account: str) -> list[str]:
        return self.arm.keys[account]

    def id(self, account: str) -> str:
        return str(self.arm.accounts[account]["id"])

    def location(self, account: str) -> str:
        return str(self.arm.accounts[account].get("location", ""))

    def facts(self, account: str) -> Json:
        """The account itself: kind, sku and properties."""
        return self.arm.accounts[account]

    def properties(self, account: str) -> Json:
        found: Json = self.arm.accounts[account]["properties"]
        return found

    def setting(self, account: str, name: str) -> Json:
        """A policy of the blob service, such as deleteRetentionPolicy; empty where it is off."""
        policy: Json = self.arm.services.get(account, {}).get(name) or {}
        return policy if policy.get("enabled") or policy.get("enable") else {}

    def is_versioned(self, account: str) -> bool:
        return bool(self.arm.services.get(account, {}).get("isVersioningEnabled"))

    def is_hierarchical(self, account: str) -> bool:
        return bool(self.properties(account).get("isHnsEnabled"))

    def permits_public(self, account: str) -> bool:
        return bool(self.properties(account).get("allowBlobPublicAccess"))

    def keys_revoked(self, account: str) -> datetime | None:
        times = self.arm.revoked.get(account)
        return moment(times[-1]) if times else None

    # Containers

    def protects_versions(self, account: str, container: str) -> bool:
        """Whether blobs of the container take holds and policies of their own."""
        extra = self.arm.extra.get((account, container), {})
        of_account = self.properties(account).get("immutableStorageWithVersioning") or {}
        return bool((extra.get("immutableStorageWithVersioning") or of_account).get("enabled"))

    def held_container(self, account: str, container: str) -> bool:
        return bool(self.arm.holds.get((account, container)))

    def container_policy(self, account: str, container: str) -> Json:
        """The properties of the container's own immutability policy; empty without one."""
        found: Json = self.arm.policies.get((account, container), {}).get("properties", {})
        return found

    def live_container(self, account: str, container: str) -> Json | None:
        """What ARM lists of a container."""
        listed = self.arm._live(self.arm.accounts[account])
        return next((item for item in listed if item["name"] == container), None)

    def deleted_containers(self, account: str) -> list[Json]:
        return self.arm.deleted.setdefault(account, [])

    def container_was_deleted(self, account: str, item: Json | None) -> None:
        """ARM lists what the data plane deletes, too."""
        policy = self.setting(account, "containerDeleteRetentionPolicy")
        if not policy or not item:
            return
        item = copy.deepcopy(item)
        item["properties"] |= {
            "deleted": True,
            "deletedTime": now(),
            "remainingRetentionDays": policy["days"],
            "version": secrets.token_hex(8).upper(),
        }
        self.deleted_containers(account).append(item)

    # Logs

    def log_sinks(self, account: str, category: str) -> list[str]:
        """The accounts into which the account's diagnostic settings have requests of a category written."""
        here = f"{self.id(account)}/blobServices/".lower()
        found = []
        for key, setting in self.arm.settings.items():
            properties = setting["properties"]
            if key.startswith(here) and properties.get("storageAccountId") and logs(properties, category):
                found.append(str(properties["storageAccountId"]).rpartition("/")[2].lower())
        return [name for name in found if name in self]


def logs(properties: Json, category: str) -> bool:
    rows = [row for row in properties.get("logs") or [] if row.get("enabled", True)]
    return any(row.get("category") == category or row.get("categoryGroup") in ("allLogs", "audit") for row in rows)
