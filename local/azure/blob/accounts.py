"""What the blob service knows of Resource Manager: the settings of accounts and containers, read from the ARM store.

Everything that the blob service reads there or writes goes through here.
"""

import contextlib
from datetime import datetime

from ..arm import Arm, Json, accounts, containers, roles, services
from ..times import moment

BLOB_SERVICE = "Microsoft.Storage/storageAccounts/blobServices/"


class Accounts:
    """A view of the ARM store. An account that is not in it does not exist."""

    def __init__(self, arm: Arm) -> None:
        self.arm = arm

    def __contains__(self, account: str) -> bool:
        return account in self.arm.keys

    def lock(self) -> contextlib.AbstractContextManager[bool]:
        """Held by whoever changes what ARM keeps. It comes before the blob service's own lock."""
        return self.arm.lock

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
        policy: Json = self.service_settings(account).get(name) or {}
        return policy if policy.get("enabled") or policy.get("enable") else {}

    def service_settings(self, account: str) -> Json:
        """All settings of the blob service."""
        found: Json = self.arm.services.get(account, {})
        return found

    def change_service(self, account: str, changes: Json) -> None:
        """Settings of the blob service that the data plane changes. ArmError for what it does not take."""
        with self.arm.lock:
            services.settle(self.arm, self.arm.accounts[account], {**self.service_settings(account), **changes})

    def cors_rules(self, account: str) -> list[Json]:
        found: list[Json] = (self.service_settings(account).get("cors") or {}).get("corsRules") or []
        return found

    def is_versioned(self, account: str) -> bool:
        return bool(self.service_settings(account).get("isVersioningEnabled"))

    def is_hierarchical(self, account: str) -> bool:
        return accounts.is_hierarchical(self.arm.accounts[account])

    def permits_public(self, account: str) -> bool:
        return bool(self.properties(account).get("allowBlobPublicAccess"))

    def keys_revoked(self, account: str) -> datetime | None:
        times = self.arm.revoked.get(account)
        return moment(times[-1]) if times else None

    # Containers

    def protects_versions(self, account: str, container: str) -> bool:
        """Whether blobs of the container take holds and policies of their own."""
        return containers.has_version_immutability(self.arm, account, container)

    def held_container(self, account: str, container: str) -> bool:
        return bool(self.arm.holds.get((account, container)))

    def container_policy(self, account: str, container: str) -> Json:
        """The properties of the container's own immutability policy; empty without one."""
        found: Json = self.arm.policies.get((account, container), {}).get("properties", {})
        return found

    def live_container(self, account: str, container: str) -> Json | None:
        """What ARM lists of a container."""
        listed = containers.live(self.arm, self.arm.accounts[account])
        return next((item for item in listed if item["name"] == container), None)

    def deleted_containers(self, account: str) -> list[Json]:
        return self.arm.deleted.setdefault(account, [])

    def container_was_deleted(self, account: str, item: Json | None) -> None:
        """ARM lists what the data plane deletes, too."""
        if item:
            containers.mark_deleted(self.arm, self.arm.accounts[account], item)

    # Roles

    def permits(self, account: str, container: str, principal: str, data_action: str) -> bool:
        """Whether a principal may do this to the data. Everybody may everything unless roles are enforced."""
        return not self.arm.modes.enforce_roles or bool(self.granted(account, container, principal, data_action))

    def granted(self, account: str, container: str, principal: str, data_action: str) -> list[Json]:
        """The role that permits it, as the logs tell; empty without one."""
        scope = f"{self.id(account)}/blobServices/default/containers/{container}" if container else self.id(account)
        action, data = BLOB_SERVICE + data_action, "/blobs/" in data_action  # the others are plain actions of ARM's
        for assignment, definition in roles.assigned(self.arm, principal, scope):
            if roles.allows(definition, action, data=data):
                found = assignment["properties"]
                row = {"action": action, "roleAssignmentId": assignment["id"], "roleDefinitionId": definition["id"]}
                return [{**row, "principals": [{"id": principal, "type": found["principalType"]}]}]
        return []
