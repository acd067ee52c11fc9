"""Resource locks at every scope. https://learn.microsoft.com/azure/azure-resource-manager/management/lock-resources"""

from ..front import Reply
from . import scopes
from .answers import ArmError, answer, empty
from .call import Call
from .paths import LOCKS, scope_of
from .store import Arm, Json

LEVELS = ("CanNotDelete", "ReadOnly")


def add_lock(arm: Arm, scope: str, name: str, level: str, notes: str | None = None) -> Json:
    lock_id = f"{scope.rstrip('/')}{LOCKS}/{name}"
    properties = {"level": level, **({"notes": notes} if notes else {})}
    found = {"id": lock_id, "name": name, "type": "Microsoft.Authorization/locks", "properties": properties}
    arm.locks[lock_id.lower()] = found
    return found


def scope_of_lock(lock: Json) -> str:
    return str(lock["id"]).rpartition(f"{LOCKS}/")[0]


def refuse_locked(arm: Arm, call: Call) -> None:
    """ArmError where a lock at or above what the call is about forbids it.

    CanNotDelete stops DELETE, ReadOnly all that is more than reading, the POST that only reads secrets included. Locks
    do not bind locks, or nobody could lift one.
    """
    if call.permission.endswith("/read") or "/locks/" in call.permission:
        return
    deletes = call.method == "DELETE"
    stops = {
        scope_of_lock(lock): None
        for lock in arm.locks.values()
        if (deletes or lock["properties"]["level"] == "ReadOnly") and scopes.covers(arm, scope_of_lock(lock), call.path)
    }
    if stops:
        raise ArmError(
            409,
            "ScopeLocked",
            f"The scope '{scope_of(call.path)}' cannot perform {'delete' if deletes else 'write'} operation "
            f"because following scope(s) are locked: {','.join(repr(scope) for scope in stops)}. "
            "Please remove the lock and try again.",
        )


# Routes


def list_locks(arm: Arm, call: Call) -> Reply:
    """The scope's own locks and those it inherits; without atScope() those below it, too."""
    scope = scopes.resolve(arm, call["scope"])
    below = "atscope()" not in call.query.get("$filter", "").lower()
    found = [
        lock
        for lock in arm.locks.values()
        if scopes.covers(arm, scope_of_lock(lock), scope) or (below and scopes.covers(arm, scope, scope_of_lock(lock)))
    ]
    return call.page(arm, found)


def lock_id(arm: Arm, call: Call) -> str:
    return f"{scopes.resolve(arm, call['scope'])}{LOCKS}/{call['lock']}".lower()


def get_lock(arm: Arm, call: Call) -> Reply:
    found = arm.locks.get(lock_id(arm, call))
    if not found:
        raise ArmError(404, "LockNotFound", f"The lock '{call['lock']}' could not be found.")
    return answer(found)


def put_lock(arm: Arm, call: Call) -> Reply:
    known, level = lock_id(arm, call) in arm.locks, call.properties.get("level")
    if level not in LEVELS:
        raise ArmError(400, "InvalidLockLevel", f"The lock level '{level}' is not valid.")
    scope = scopes.resolve(arm, call["scope"])
    lock = add_lock(arm, scope, call["lock"], str(level), call.properties.get("notes"))
    return answer(lock, 200 if known else 201)


def delete_lock(arm: Arm, call: Call) -> Reply:
    return empty(200 if arm.locks.pop(lock_id(arm, call), None) else 204)
