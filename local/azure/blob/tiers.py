"""Access tiers. https://learn.microsoft.com/rest/api/storageservices/set-blob-tier"""

from ..front import Reply
from .azurite import CUPBOARD
from .call import Call, Refusal, bad_header, done, no_blob
from .desk import Desk
from .operations import Operation

TIERS = ("Hot", "Cool", "Cold", "Archive")
BLOCK = "BlockBlob"


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
        return desk.azurite.pass_on(call)
    desk.azurite.do(
        "tier", account=account, container=call.place.container, blob=call.place.blob, snapshot=snapshot, tier=wanted
    )
    return done(200)


def where_is(desk: Desk, call: Call, version: str) -> tuple[str, str]:
    """The account and snapshot by which Azurite knows a version."""
    if desk.history.current(call.place).version == version:
        return call.place.account, ""
    kept = desk.history.version(call.place, version)
    if not kept or kept.deleted:
        raise no_blob()
    return CUPBOARD + call.place.account, kept.key
