"""What incident response asks of Resource Manager: Resource Graph, locks, holds, policies, restores, logs, posture.

A part of the store of arm.py, which adds these routes to its own. https://learn.microsoft.com/rest/api/storagerp/
"""

import json
import re
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

from .front import Reply, Request

Json = dict[str, Any]
SUB = r"/subscriptions/(?P<sub>[^/]+)"
ACCOUNT = SUB + r"/resourceGroups/(?P<group>[^/]+)/providers/Microsoft\.Storage/storageAccounts/(?P<account>[^/]+)"
CONTAINER = ACCOUNT + r"/blobServices/default/containers/(?P<container>[^/]+)"
LOCKS = r"/providers/Microsoft\.Authorization/locks"
SETTINGS = ACCOUNT + r"/blobServices/default/providers/Microsoft\.Insights/diagnosticSettings"
SINKS = ("workspaceId", "storageAccountId", "eventHubAuthorizationRuleId", "marketplacePartnerId")


class ArmError(Exception):
    """An answer of ARM's that is an error."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


def now() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f0Z")


def answer(body: Any, status: int = 200, **headers: str) -> Reply:
    text = json.dumps(body).encode()
    return Reply(status, {"Content-Type": "application/json; charset=utf-8", **headers}, text)


def empty(status: int, **headers: str) -> Reply:
    return Reply(status, {"Content-Type": "text/plain; charset=utf-8", **headers})


# What posture reads of an account of which nobody changed it.
USUAL_PARTS: dict[str, Any] = {
    "fileServices/default": {
        "properties": {"shareDeleteRetentionPolicy": {"enabled": True, "days": 7}, "protocolSettings": {"smb": {}}}
    },
    "providers/Microsoft.Security/defenderForStorageSettings/current": {"properties": {"isEnabled": False}},
}


class Response:
    """The state and the routes; Arm has the accounts, the containers and the rest that this needs."""

    accounts: dict[str, Json]
    services: dict[str, Json]
    subscriptions: dict[str, Json]
    keys: dict[str, list[str]]
    polls: int
    url: str
    tenant: str
    blobs: Any
    _account: Callable[[str, str, str], Json]
    _find: Callable[[Json, str], Json]
    _page: Callable[..., Reply]

    def start_response(self) -> None:
        self.graph_page_size = 1000
        self.locks: dict[str, Json] = {}  # by the lower-case id of the lock
        self.revoked: dict[str, list[str]] = {}
        self.holds: dict[tuple[str, str], dict[str, str]] = {}  # tag -> time, by account and container
        self.policies: dict[tuple[str, str], Json] = {}
        self.restores: dict[str, list[Any]] = {}  # rounds left, and the status
        self.on_restore: Callable[[str, Json], None] | None = None
        self.activity: list[Json] = []
        self.settings: dict[str, Json] = {}  # diagnostic settings by lower-case id
        self.forbidden: list[tuple[str, str]] = []

    def clear_response(self) -> None:
        """Forget all that was locked, held, restored, logged and forbidden."""
        for part in (
            self.locks,
            self.revoked,
            self.holds,
            self.policies,
            self.restores,
            self.activity,
            self.settings,
            self.forbidden,
        ):
            part.clear()

    def response_routes(self) -> list[tuple[str, str, Callable[..., Reply]]]:
        policy = CONTAINER + "/immutabilityPolicies/default"
        return [
            ("DELETE", r"(?P<scope>/subscriptions/.*)" + LOCKS + "/(?P<lock>[^/]+)", self.delete_lock),
            ("POST", ACCOUNT + "/revokeUserDelegationKeys", self.revoke),
            ("POST", CONTAINER + "/(?P<verb>set|clear)LegalHold", self.change_hold),
            ("GET", policy, self.get_policy),
            ("PUT", policy, self.put_policy),
            ("DELETE", policy, self.delete_policy),
            ("POST", policy + "/(?P<how>lock|extend)", self.change_policy),
            ("POST", CONTAINER + "/lease", self.lease),
            ("POST", ACCOUNT + "/restoreBlobRanges", self.restore),
            ("GET", SUB + r"/providers/Microsoft\.Insights/eventtypes/management/values", self.list_activity),
            ("GET", SETTINGS, self.list_settings),
            ("PUT", SETTINGS + "/(?P<name>[^/]+)", self.put_setting),
            ("DELETE", SETTINGS + "/(?P<name>[^/]+)", self.delete_setting),
            (
                "GET",
                ACCOUNT + r"/(?P<part>fileServices/default|objectReplicationPolicies|encryptionScopes|localUsers"
                r"|providers/Microsoft\.Security/defenderForStorageSettings/current)",
                self.read_part,
            ),
        ]

    # Locks

    def add_lock(self, scope: str, name: str, level: str, notes: str | None = None) -> Json:
        """A lock on an account, a group or a subscription."""
        lock_id = f"{scope}/providers/Microsoft.Authorization/locks/{name}"
        properties = {"level": level, **({"notes": notes} if notes else {})}
        found = {"id": lock_id, "name": name, "type": "Microsoft.Authorization/locks", "properties": properties}
        self.locks[lock_id.lower()] = found
        return found

    def delete_lock(self, request: Request, scope: str, lock: str) -> Reply:
        found = self.locks.pop(f"{scope}/providers/Microsoft.Authorization/locks/{lock}".lower(), None)
        return empty(200 if found else 204)

    def revoke(self, request: Request, sub: str, group: str, account: str) -> Reply:
        self.revoked.setdefault(self._account(sub, group, account)["name"], []).append(now())
        return empty(200)

    # Holds and policies of containers

    def container_extra(self, account: str, container: str) -> Json:
        """What a container's properties tell of its hold and policy."""
        tags, policy = self.holds.get((account, container), {}), self.policies.get((account, container))
        held = [{"tag": tag, "timestamp": time, "tenantId": self.tenant} for tag, time in tags.items()]
        found: Json = {"hasLegalHold": bool(held), "hasImmutabilityPolicy": policy is not None}
        if held:
            found["legalHold"] = {"hasLegalHold": True, "tags": held}
        if policy:
            found["immutabilityPolicy"] = {
                "etag": policy["etag"],
                "properties": policy["properties"],
                "updateHistory": [],
            }
        return found

    def refuse_protected(self, account: str, container: str = "") -> None:
        """A held container cannot be deleted, nor the account that has one."""
        names = [name for owner, name in (*self.holds, *self.policies) if owner == account and container in ("", name)]
        kept = [
            n
            for n in names
            if self.holds.get((account, n))
            or self.policies.get((account, n), {}).get("properties", {}).get("state") == "Locked"
            or (container and (account, n) in self.policies)
        ]
        if not kept:
            return
        if not container:
            raise ArmError(
                409, "AccountProtectedFromDeletion", f"The storage account {account} holds protected containers."
            )
        code = "ContainerProtectedFromDeletion" if not self.holds.get((account, container)) else "LegalHoldExists"
        raise ArmError(
            409,
            code,
            f"The container {container} is protected from deletion due to an immutability policy or legal hold.",
        )

    def change_hold(self, request: Request, sub: str, group: str, account: str, container: str, verb: str) -> Reply:
        self._find(self._account(sub, group, account), container)
        given = [str(tag).lower() for tag in request.json().get("tags") or []]
        held = self.holds.setdefault((account.lower(), container), {})
        if not all(re.fullmatch(r"[a-z0-9]{3,23}", tag) for tag in given) or len({*held, *given}) > 10:
            raise ArmError(
                400,
                "InvalidLegalHoldTag",
                "A legal hold tag has 3 to 23 letters and digits; a container has at most 10.",
            )
        for tag in given:
            if verb.lower() == "set":
                held.setdefault(tag, now())
            else:
                held.pop(tag, None)
        return answer({"hasLegalHold": bool(held), "tags": list(held)})

    def _policy(
        self, request: Request, sub: str, group: str, account: str, container: str
    ) -> tuple[tuple[str, str], Json]:
        """Where the policy is kept, and the policy; If-Match has to be its etag."""
        self._find(self._account(sub, group, account), container)
        key = (account.lower(), container)
        found = self.policies.get(key) or {
            "etag": '""',
            "properties": {"immutabilityPeriodSinceCreationInDays": 0, "state": "Unlocked"},
        }
        wanted = request.headers.get("If-Match", "")
        if wanted and wanted.strip('"') not in ("*", found["etag"].strip('"')):
            raise ArmError(412, "PreconditionFailed", "The etag of the immutability policy is another one.")
        return key, found

    def _policy_answer(self, request: Request, policy: Json) -> Reply:
        path = re.sub(r"/(lock|extend)$", "", request.path, flags=re.IGNORECASE)
        named = {
            "id": path,
            "name": "default",
            "type": "Microsoft.Storage/storageAccounts/blobServices/containers/immutabilityPolicies",
        }
        return answer({**named, **policy}, ETag=policy["etag"])

    def get_policy(self, request: Request, **where: str) -> Reply:
        return self._policy_answer(request, self._policy(request, **where)[1])

    def put_policy(self, request: Request, **where: str) -> Reply:
        key, found = self._policy(request, **where)
        if found["properties"]["state"] == "Locked":
            raise ArmError(409, "ImmutabilityPolicyLocked", "A locked immutability policy cannot be changed.")
        properties = {**(request.json().get("properties") or {}), "state": "Unlocked"}
        if not 1 <= int(properties.get("immutabilityPeriodSinceCreationInDays") or 0) <= 146_000:
            raise ArmError(400, "InvalidImmutabilityPeriod", "The period has to be from 1 to 146000 days.")
        self.policies[key] = {"etag": f'"{uuid.uuid4().hex[:15]}"', "properties": properties}
        return self._policy_answer(request, self.policies[key])

    def delete_policy(self, request: Request, **where: str) -> Reply:
        if not request.headers.get("If-Match"):
            raise ArmError(400, "MissingRequiredHeader", "If-Match is required.")
        key, found = self._policy(request, **where)
        if found["properties"]["state"] == "Locked":
            raise ArmError(409, "ImmutabilityPolicyLocked", "A locked immutability policy cannot be deleted.")
        self.policies.pop(key, None)
        return self._policy_answer(
            request, {"etag": '""', "properties": {"immutabilityPeriodSinceCreationInDays": 0, "state": "Deleted"}}
        )

    def change_policy(self, request: Request, how: str, **where: str) -> Reply:
        if not request.headers.get("If-Match"):
            raise ArmError(400, "MissingRequiredHeader", "If-Match is required.")
        key, found = self._policy(request, **where)
        if key not in self.policies:
            raise ArmError(404, "ContainerImmutabilityPolicyNotFound", "The container has no immutability policy.")
        properties = found["properties"]
        if how.lower() == "lock":
            properties["state"] = "Locked"
        else:
            days = int((request.json().get("properties") or {}).get("immutabilityPeriodSinceCreationInDays") or 0)
            if properties["state"] != "Locked" or days <= properties["immutabilityPeriodSinceCreationInDays"]:
                raise ArmError(
                    409,
                    "ImmutabilityPolicyExtendNotAllowed",
                    "Only a locked policy can be extended, and only be made longer.",
                )
            properties["immutabilityPeriodSinceCreationInDays"] = days
        found["etag"] = f'"{uuid.uuid4().hex[:15]}"'
        return self._policy_answer(request, found)

    def lease(self, request: Request, sub: str, group: str, account: str, container: str) -> Reply:
        found = self._account(sub, group, account)
        self._find(found, container)
        return answer(self.blobs.lease(found["name"], self.keys[found["name"]][0], container, request.json()))

    # Point-in-time restore

    def restore(self, request: Request, sub: str, group: str, account: str) -> Reply:
        found = self._account(sub, group, account)
        body = request.json()
        policy = self.services[found["name"]].get("restorePolicy") or {}
        if not policy.get("enabled"):
            raise ArmError(409, "RestorePolicyNotEnabled", "Point-in-time restore is not enabled for the account.")
        if not body.get("timeToRestore") or not 1 <= len(body.get("blobRanges") or []) <= 10:
            raise ArmError(400, "InvalidValuesForRequestParameters", "Values for request parameters are invalid.")
        if self.restore_status(found["name"]).get("status") == "InProgress":
            raise ArmError(409, "RestoreAlreadyInProgress", "Another restore is in progress.")
        status = {"status": "InProgress", "restoreId": str(uuid.uuid4()), "parameters": body}
        self.restores[found["name"]] = [self.polls, status]
        return answer(status, 202, Location=f"{self.url}{found['id']}?api-version=2025-08-01&$expand=blobRestoreStatus")

    def restore_status(self, account: str, step: bool = False) -> Json:
        """The status of the last restore, {} without one; each look with `step` brings it on."""
        if account not in self.restores:
            return {}
        entry = self.restores[account]
        if step and entry[1]["status"] == "InProgress":
            entry[0] -= 1
            if entry[0] < 0:
                entry[1]["status"] = "Complete"
                if self.on_restore:
                    self.on_restore(account, entry[1]["parameters"])
        found: Json = entry[1]
        return found

    # Logs, and what posture reads

    def list_activity(self, request: Request, sub: str) -> Reply:
        words = dict(re.findall(r"(\w+ (?:eq|ge|le)) '([^']*)'", request.query.get("$filter", "")))
        if "eventTimestamp ge" not in words:
            raise ArmError(400, "BadRequest", "The filter has to name a time.")
        group, resource = words.get("resourceGroupName eq", "").lower(), words.get("resourceUri eq", "").lower()
        end = words.get("eventTimestamp le", "9999")
        # a time without a fraction stands for its whole second
        end = (
            (datetime.fromisoformat(end.replace("Z", "+00:00")) + timedelta(seconds=1)).isoformat()
            if end != "9999"
            else end
        )
        rows = [
            event
            for event in reversed(self.activity)
            if words["eventTimestamp ge"] <= event["eventTimestamp"] <= end
            and group in ("", str(event.get("resourceGroupName", "")).lower())
            and resource in ("", event["resourceId"].lower())
        ]
        return self._page(request, rows)

    def list_settings(self, request: Request, sub: str, group: str, account: str) -> Reply:
        here = f"{self._account(sub, group, account)['id']}/blobServices/".lower()
        return answer({"value": [item for key, item in self.settings.items() if key.startswith(here)]})

    def put_setting(self, request: Request, sub: str, group: str, account: str, name: str) -> Reply:
        found = self._account(sub, group, account)
        properties = request.json().get("properties") or {}
        if not any(properties.get(sink) for sink in SINKS) or not (properties.get("logs") or properties.get("metrics")):
            raise ArmError(400, "BadRequest", "A diagnostic setting needs a destination, and a log or metric.")
        setting_id = f"{found['id']}/blobServices/default/providers/Microsoft.Insights/diagnosticSettings/{name}"
        item = {
            "id": setting_id,
            "name": name,
            "type": "Microsoft.Insights/diagnosticSettings",
            "properties": properties,
        }
        self.settings[setting_id.lower()] = item
        return answer(item)

    def delete_setting(self, request: Request, sub: str, group: str, account: str, name: str) -> Reply:
        found = self._account(sub, group, account)
        key = f"{found['id']}/blobServices/default/providers/Microsoft.Insights/diagnosticSettings/{name}".lower()
        return empty(200 if self.settings.pop(key, None) else 204)

    def read_part(self, request: Request, sub: str, group: str, account: str, part: str) -> Reply:
        self._account(sub, group, account)
        body = USUAL_PARTS.get(part, {"value": []})
        return answer({"id": request.path, **body} if "properties" in body else body)
