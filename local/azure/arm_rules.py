"""What Resource Manager does with every request, whatever it asks for: permissions, locks, the activity log.

It knows a request only by its method and path, so it turns those into the operation's name and its scope.
"""

import dataclasses
import re
import uuid
from collections.abc import Callable
from typing import Any

import jwt

from .front import Reply, Request
from .response import LOCKS, SUB, ArmError, Json, Response, answer, now

SCOPE = SUB + r"(/resourceGroups/(?P<group>[^/]+)(/providers/Microsoft\.Storage/storageAccounts/(?P<account>[^/]+))?)?"
LOCKS_PATH = "/providers/Microsoft.Authorization/locks"
LEVELS = ("CanNotDelete", "ReadOnly")
# The fixed words of paths. Clients write them in any case; locks and the log compare them.
WORDS = {
    word.lower(): word
    for word in (
        "subscriptions",
        "resourceGroups",
        "providers",
        "Microsoft.Storage",
        "Microsoft.Authorization",
        "Microsoft.Insights",
        "Microsoft.Security",
        "storageAccounts",
        "blobServices",
        "fileServices",
        "immutabilityPolicies",
        "diagnosticSettings",
        "defenderForStorageSettings",
        "objectReplicationPolicies",
        "encryptionScopes",
        "localUsers",
        "listKeys",
        "regenerateKey",
        "revokeUserDelegationKeys",
        "restoreBlobRanges",
        "setLegalHold",
        "clearLegalHold",
    )
}
VERBS = {"GET": "read", "HEAD": "read", "PUT": "write", "PATCH": "write", "DELETE": "delete", "POST": "action"}
# Operations whose names do not follow from their paths.
ODD = {
    "Microsoft.Insights/eventtypes/values/read": "Microsoft.Insights/eventtypes/management/values/read",
    "Microsoft.ResourceGraph/resources/action": "Microsoft.ResourceGraph/resources/read",
    "Microsoft.Storage/checkNameAvailability/action": "Microsoft.Storage/checkNameAvailability/read",
}


def canonical(request: Request) -> Request:
    """The request with the fixed words of its path as Microsoft writes them."""
    path, mark, query = request.target.partition("?")
    words = (WORDS.get(word.lower(), word) for word in path.rstrip("/").split("/"))
    return dataclasses.replace(request, target="/".join(words) + mark + query)


def operation(method: str, path: str) -> str:
    """The name a role or the log has for the request, such as Microsoft.Storage/storageAccounts/listKeys/action."""
    if "/providers/" not in path:
        kinds = ["Microsoft.Resources", *path.strip("/").split("/")[::2]]
        return "/".join([*kinds, VERBS[method]])
    namespace, *parts = path.rpartition("/providers/")[2].split("/")
    action = [parts.pop()] if method == "POST" else []
    name = "/".join([namespace, *parts[::2], *action, VERBS[method]])
    return ODD.get(name, name)


def scope_of(path: str) -> str:
    """The resource that the request is about: without an action, and without the collection that is listed."""
    base, mark, tail = path.rpartition("/providers/")
    first, *names = tail.split("/") if mark else ["", *path.strip("/").split("/")]
    pairs = names[: len(names) // 2 * 2]
    return "/".join([base + mark + first, *pairs]) if pairs else base or "/"


def claims_of(request: Request) -> Json:
    """What the token tells, which was checked before."""
    try:
        found: Json = jwt.decode(
            request.headers.get("Authorization", "").partition(" ")[2], options={"verify_signature": False}
        )
    except jwt.PyJWTError:
        return {}
    return found


def caller_of(request: Request) -> tuple[str, str]:
    """The name and the object id that Azure logs: a person's, else the application's."""
    claims = claims_of(request)
    app = str(claims.get("appid") or claims.get("client_id") or "")
    return str(claims.get("upn") or app), str(claims.get("oid") or app)


class Rules(Response):
    """Locks at every scope, refusals as Azure words them, and a log that tells who called."""

    _subscription: Callable[[str], Json]
    _group: Callable[[str, str], Json]

    def response_routes(self) -> list[tuple[str, str, Callable[..., Reply]]]:
        one = SCOPE + LOCKS + "/(?P<lock>[^/]+)"
        return [
            ("GET", SCOPE + LOCKS, self.locks_at),
            ("GET", one, self.get_lock),
            ("PUT", one, self.put_lock_at),
            *super().response_routes(),
        ]

    # Before the request

    def check_response(self, request: Request) -> None:
        self._check_permission(request)
        self._check_locks(request)

    def _check_permission(self, request: Request) -> None:
        method, path = request.method, request.path
        if not any(method == verb and re.fullmatch(pattern, path, re.IGNORECASE) for verb, pattern in self.forbidden):
            return
        name, oid = caller_of(request)
        raise ArmError(
            403,
            "AuthorizationFailed",
            f"The client '{name}' with object id '{oid}' does not have authorization to perform action "
            f"'{operation(method, path)}' over scope '{scope_of(path)}' or the scope is invalid. "
            "If access was recently granted, please refresh your credentials.",
        )

    def _check_locks(self, request: Request) -> None:
        """Locks bind what is done to accounts. They do not bind locks, or nobody could lift one."""
        path = request.path
        if VERBS.get(request.method) == "read" or f"{LOCKS_PATH}/" in f"{path}/":
            return
        if "/storageAccounts/" not in path:
            return
        deletes = request.method == "DELETE"
        stops = {
            self._lock_scope(lock): None
            for lock in self.locks.values()
            if (deletes or lock["properties"]["level"] == "ReadOnly") and self._at_or_above(lock, path)
        }
        if stops:
            raise ArmError(
                409,
                "ScopeLocked",
                f"The scope '{scope_of(path)}' cannot perform {'delete' if deletes else 'write'} operation "
                f"because following scope(s) are locked: {','.join(repr(scope) for scope in stops)}. "
                "Please remove the lock and try again.",
            )

    # Locks

    @staticmethod
    def _lock_scope(lock: Json) -> str:
        return str(lock["id"]).rpartition(f"{LOCKS_PATH}/")[0]

    def _at_or_above(self, lock: Json, scope: str) -> bool:
        return f"{scope}/".lower().startswith(f"{self._lock_scope(lock)}/".lower())

    def _scope(self, sub: str, group: str | None, account: str | None) -> str:
        """The id of what is there under these names; 404 as ARM answers."""
        if account:
            return str(self._account(sub, str(group), account)["id"])
        return str((self._group(sub, group) if group else self._subscription(sub))["id"])

    def locks_at(self, request: Request, sub: str, group: str | None = None, account: str | None = None) -> Reply:
        """The scope's own locks and those it inherits; without atScope() those below it, too."""
        scope = self._scope(sub, group, account)
        inside = "atscope()" not in request.query.get("$filter", "").lower()
        found = [
            lock
            for lock in self.locks.values()
            if self._at_or_above(lock, scope)
            or (inside and f"{self._lock_scope(lock)}/".lower().startswith(f"{scope}/".lower()))
        ]
        return self._page(request, found)

    def get_lock(
        self, request: Request, sub: str, lock: str, group: str | None = None, account: str | None = None
    ) -> Reply:
        lock_id = f"{self._scope(sub, group, account)}{LOCKS_PATH}/{lock}"
        if lock_id.lower() not in self.locks:
            raise ArmError(404, "LockNotFound", f"The lock '{lock}' could not be found.")
        return answer(self.locks[lock_id.lower()])

    def put_lock_at(
        self, request: Request, sub: str, lock: str, group: str | None = None, account: str | None = None
    ) -> Reply:
        scope = self._scope(sub, group, account)
        properties = request.json().get("properties") or {}
        if properties.get("level") not in LEVELS:
            raise ArmError(400, "InvalidLockLevel", f"The lock level '{properties.get('level')}' is not valid.")
        known = f"{scope}{LOCKS_PATH}/{lock}".lower() in self.locks
        return answer(self.add_lock(scope, lock, properties["level"], properties.get("notes")), 200 if known else 201)

    # After the request

    def record(self, request: Request, reply: Reply) -> None:
        """What changes something is logged, done or refused. What only reads is not, nor what nobody was let in for."""
        name = operation(request.method, request.path)
        if name.endswith("/read") or reply.status == 401:
            return
        self.activity.append(self._event(request, reply, name))

    def _event(self, request: Request, reply: Reply, name: str) -> Json:
        scope = scope_of(request.path)
        parts = scope.split("/")
        good = reply.status < 400
        status = "Succeeded" if good else "Failed"
        caller, oid = caller_of(request)
        return {
            "eventDataId": str(uuid.uuid4()),
            "eventTimestamp": now(),
            "operationName": valued(name),
            "status": valued(status),
            "subStatus": valued(str(reply.status), f"HTTP Status Code: {reply.status}"),
            "caller": caller,
            "claims": {"appid": str(claims_of(request).get("appid") or ""), "oid": oid},
            "httpRequest": {
                "clientIpAddress": "203.0.113.7",
                "method": request.method,
                "uri": self.url + request.target,
            },
            "authorization": {"action": name, "scope": scope},
            "resourceId": scope,
            "resourceGroupName": parts[4] if len(parts) > 4 and parts[3] == "resourceGroups" else "",
            "resourceProviderName": valued(name.split("/")[0]),
            "category": valued("Administrative"),
            "level": "Informational" if good else "Error",
            "correlationId": reply.headers.get("x-ms-correlation-request-id", ""),
            "subscriptionId": parts[2] if len(parts) > 2 else "",
            "tenantId": self.tenant,
        }


def valued(value: str, text: str = "") -> dict[str, Any]:
    return {"value": value, "localizedValue": text or value}
