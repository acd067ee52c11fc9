"""What happens to the old blob when one is written: it becomes a version, or a soft-deleted snapshot, or is gone.

https://learn.microsoft.com/azure/storage/blobs/versioning-overview
https://learn.microsoft.com/azure/storage/blobs/soft-delete-blob-overview
"""

from collections.abc import Callable

from .. import times
from ..front import Reply
from .call import Call, Place, Refusal, bad_query, done, no_blob, whole
from .desk import Desk
from .history import BLOB, SNAPSHOT, VERSION, Current, Kept
from .operations import DELETE_FOR_GOOD, REPLACES, Operation

# Besides replacing a blob, these make a version of it.
MAKE_VERSIONS = REPLACES | {"SetBlobMetadata", "SnapshotBlob"}


def write(desk: Desk, call: Call, operation: Operation, send: Callable[[], Reply] | None = None) -> Reply:
    """A request that replaces or changes a blob, and what becomes of the one before."""
    place = call.place
    versioned, kept = desk.is_versioned(place), None
    with desk.history.lock:
        if versioned or (operation.name in REPLACES and overwrites_are_kept(desk, place)):
            kept = desk.history.take(place)
        reply = send() if send else desk.azurite.pass_on(call)
        if reply.status >= 300:
            desk.history.drop(kept)
            return reply
        settle(desk, place, kept, versioned)
        current = noted(desk, call, operation, versioned)
    if versioned:
        reply.headers["x-ms-version-id"] = current.version
    if call.header("x-ms-encryption-key-sha256"):
        reply.headers["x-ms-encryption-key-sha256"] = current.key_sha256
    return reply


def noted(desk: Desk, call: Call, operation: Operation, versioned: bool) -> Current:
    """What is known of the blob from now on: of another content nothing, except what the request tells."""
    before = desk.history.current(call.place)
    if operation.name not in REPLACES and not versioned:
        return before
    current = desk.history.written(call.place, versioned)
    if operation.name in REPLACES:
        current.key_sha256 = call.header("x-ms-encryption-key-sha256")
    else:
        current.key_sha256, current.read = before.key_sha256, before.read
    return current


def overwrites_are_kept(desk: Desk, place: Place) -> bool:
    return bool(desk.retention(place.account)) and not desk.accounts.is_hierarchical(place.account)


def settle(desk: Desk, place: Place, kept: Kept | None, versioned: bool) -> None:
    """The blob before, and a soft-deleted one of the name, take their places in the history."""
    now = desk.history.moment()
    for old in desk.history.of(place):
        if old.kind == BLOB and not desk.accounts.is_hierarchical(place.account):
            old.kind, old.snapshot = SNAPSHOT, times.written(old.deleted or now)
    if not kept:
        return
    kept.ended = now
    if versioned:
        kept.kind = VERSION
    else:
        kept.kind, kept.snapshot = SNAPSHOT, times.written(now)
        kept.delete(now, desk.days(place.account))
    desk.history.shelve(kept)


# Deleting


def delete(desk: Desk, call: Call, operation: Operation) -> Reply:
    if operation is DELETE_FOR_GOOD:
        return delete_for_good(desk, call)
    if call.query.get("versionid"):
        return delete_version(desk, call)
    with desk.history.lock:
        taken = taken_by_deletion(desk, call)
        reply = desk.azurite.pass_on(call)
        if reply.status >= 300:
            for kept in taken:
                desk.history.drop(kept)
            return reply
        soft = bool(desk.retention(call.place.account))
        for kept in taken:
            shelve_deleted(desk, kept, soft)
        if not call.query.get("snapshot") and call.header("x-ms-delete-snapshots").lower() != "only":
            desk.history.gone(call.place)
    reply.headers["x-ms-delete-type-permanent"] = str(not soft).lower()
    return reply


def taken_by_deletion(desk: Desk, call: Call) -> list[Kept]:
    """Copies of what the request deletes if it succeeds."""
    history, place = desk.history, call.place
    if snapshot := call.query.get("snapshot"):
        found = [history.take(place, snapshot)]
    else:
        which = call.header("x-ms-delete-snapshots").lower()
        snapshots = desk.azurite.do("snapshots", **place._asdict())["snapshots"] if which else []
        found = [history.take(place, time) for time in sorted(snapshots)]
        if which != "only":
            found.append(history.take(place))
    return [kept for kept in found if kept]


def shelve_deleted(desk: Desk, kept: Kept, soft: bool) -> None:
    """Where versions are kept, a deleted blob is one of them; else it is soft-deleted, or gone."""
    kept.ended = desk.history.moment()
    if kept.kind == BLOB and desk.is_versioned(kept.place):
        kept.kind = VERSION
    elif soft:
        kept.delete(kept.ended, desk.days(kept.place.account))
    else:
        desk.history.drop(kept)
        return
    desk.history.shelve(kept)


def delete_version(desk: Desk, call: Call) -> Reply:
    place = call.place
    soft = bool(desk.retention(place.account))
    with desk.history.lock:
        kept = former_version(desk, call)
        if kept.deleted:
            raise no_blob()
        if soft:
            kept.delete(desk.history.moment(), desk.days(place.account))
        else:
            desk.history.drop(kept)
    return done(202, x_ms_delete_type_permanent=str(not soft).lower())


def former_version(desk: Desk, call: Call) -> Kept:
    """The version that a request names, which may be soft-deleted. Refusal for the current one."""
    place, wanted = call.place, call.query["versionid"]
    kept = desk.history.version(place, wanted)
    if not kept and desk.history.current(place).version == wanted and desk.azurite.facts(place):
        raise Refusal(403, "OperationNotAllowedOnRootBlob", "The operation is not allowed on the root blob.")
    if not kept:
        raise no_blob()
    return kept


def delete_for_good(desk: Desk, call: Call) -> Reply:
    """A soft-deleted version or snapshot goes before its time.

    Microsoft documents 409 for what is refused, and users measured BlobSnapshotNotSoftDeleted. The code where the account
    does not permit it, or where neither a version nor a snapshot is named, is a guess.
    """
    place, snapshot = call.place, call.query.get("snapshot", "")
    if not desk.retention(place.account).get("allowPermanentDelete"):
        raise Refusal(409, "PermanentDeleteNotEnabled", "Permanent delete is not enabled for this account.")
    with desk.history.lock:
        if call.query.get("versionid"):
            kept: Kept | None = former_version(desk, call)
        else:
            kept = desk.history.snapshot(place, snapshot)
            if not kept and not desk.azurite.facts(place, snapshot):
                raise no_blob()
        if not kept or not kept.deleted:
            raise Refusal(409, "BlobSnapshotNotSoftDeleted", "The specified version or snapshot is not soft-deleted.")
        desk.history.drop(kept)
    return done(202, x_ms_delete_type_permanent="true")


# Bringing back


def undelete(desk: Desk, call: Call, operation: Operation) -> Reply:
    place = call.place
    with desk.history.lock:
        there = desk.azurite.facts(place) is not None
        kept = desk.history.of(place)
        versions = [item for item in kept if item.kind == VERSION]
        if not there and not versions and not any(item.kind == BLOB for item in kept):
            raise no_blob()
        for item in kept:
            if item.deleted:
                bring_back(desk, item, there)
    return done(200)


def bring_back(desk: Desk, kept: Kept, there: bool) -> None:
    """A version is one again, and never the current one; a snapshot is one again, and a blob unless there is one."""
    if kept.kind == VERSION:
        kept.deleted = None
        return
    if kept.kind == BLOB and there:
        return
    desk.history.bring_back(kept, kept.snapshot if kept.kind == SNAPSHOT else "")
    if kept.kind == BLOB:
        current = desk.history.written(kept.place, desk.is_versioned(kept.place))
        current.key_sha256, current.protection = kept.key_sha256, kept.protection
    desk.history.drop(kept)


# Reading and changing one version


def versioned(desk: Desk, call: Call) -> Reply:
    """A request about the version that it names: the current one, or one of the history."""
    place, wanted = call.place, call.query["versionid"]
    if desk.accounts.is_hierarchical(place.account):
        raise bad_query("versionid", wanted)
    if desk.history.current(place).version == wanted:
        return desk.azurite.pass_on(call)
    kept = desk.history.version(place, wanted)
    if not kept or kept.deleted:
        raise no_blob()
    reply = desk.azurite.pass_on(call, kept.cupboard, {"snapshot": kept.key})
    if reply.status < 300 or reply.status == 304:
        reply.headers["x-ms-version-id"] = kept.key
        reply.headers = {
            k: v
            for k, v in reply.headers.items()
            if k.lower() not in ("x-ms-snapshot", "x-ms-lease-state", "x-ms-lease-status")
        }
    elif reply.status == 404:
        whole(reply)
        raise no_blob()
    return reply
