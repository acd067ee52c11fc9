"""Access tiers. https://learn.microsoft.com/rest/api/storageservices/set-blob-tier

A blob comes out of the archive in 15 hours, or in one with high priority, which are Microsoft's longest times for blobs
of up to 10 GB. Until then it stays archived and says where it goes. Not modelled: archived versions and snapshots, which
Azure rehydrates only by copies of them, and such copies, which here are done at once.
"""

from datetime import datetime, timedelta

from ..front import Reply
from .azurite import CUPBOARD
from .call import Call, Place, Refusal, bad_header, done, no_blob
from .desk import Desk
from .history import Rehydration
from .operations import Operation

TIERS = ("Hot", "Cool", "Cold", "Archive")
BLOCK = "BlockBlob"
ARCHIVE = "Archive"
HOURS = {"Standard": 15, "High": 1}


def set_tier(desk: Desk, call: Call, operation: Operation) -> Reply:
    wanted = call.header("x-ms-access-tier")
    if wanted not in TIERS:
        raise bad_header("x-ms-access-tier", wanted)
    account, snapshot = call.place.account, call.query.get("snapshot", "")
    if version := call.query.get("versionid"):
        account, snapshot = where_is(desk, call, version)
    facts = desk.azurite.facts(call.place._replace(account=account), snapshot)
    if not facts:
        raise no_blob()
    if facts["x-ms-blob-type"] != BLOCK:
        raise Refusal(409, "InvalidBlobType", "The blob type is invalid for this operation.")
    if not snapshot:
        bring_on(desk, call.place, call.time)
        return rehydrate(desk, call, facts) or desk.azurite.pass_on(call)
    desk.azurite.do(
        "tier", account=account, container=call.place.container, blob=call.place.blob, snapshot=snapshot, tier=wanted
    )
    return done(200)


def rehydrate(desk: Desk, call: Call, facts: dict[str, str]) -> Reply | None:
    """The answer where the blob is in the archive and shall leave it, or is on its way already; else None."""
    wanted, current = call.header("x-ms-access-tier"), desk.history.current(call.place)
    priority = call.header("x-ms-rehydrate-priority").capitalize() or "Standard"
    if priority not in HOURS:
        raise bad_header("x-ms-rehydrate-priority", priority)
    known = current.rehydration
    if known and (wanted != known.tier or priority != "High"):
        raise being_rehydrated()
    if not known and (facts.get("x-ms-access-tier") != ARCHIVE or wanted == ARCHIVE):
        return None
    current.rehydration = Rehydration(wanted, priority, call.time + timedelta(hours=HOURS[priority]))
    return done(202)


def being_rehydrated() -> Refusal:
    text = "This operation is not permitted because the blob is being rehydrated."
    return Refusal(409, "BlobBeingRehydrated", text)


def bring_on(desk: Desk, place: Place, now: datetime) -> None:
    """A blob whose time has come is in its tier."""
    current = desk.history.known(place)
    if current.rehydration and current.rehydration.due <= now:
        desk.azurite.do("tier", **place._asdict(), snapshot="", tier=current.rehydration.tier)
        current.rehydration = None


def status(desk: Desk, place: Place) -> dict[str, str]:
    """What tells of a blob on its way, as the elements of a listing."""
    known = desk.history.known(place).rehydration
    if not known:
        return {}
    return {"ArchiveStatus": f"rehydrate-pending-to-{known.tier.lower()}", "RehydratePriority": known.priority}


def where_is(desk: Desk, call: Call, version: str) -> tuple[str, str]:
    """The account and snapshot by which Azurite knows a version."""
    if desk.history.current(call.place).version == version:
        return call.place.account, ""
    kept = desk.history.version(call.place, version)
    if not kept or kept.deleted:
        raise no_blob()
    return CUPBOARD + call.place.account, kept.key
