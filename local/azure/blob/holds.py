"""Legal holds and immutability policies, of containers and of single versions of blobs.

https://learn.microsoft.com/azure/storage/blobs/immutable-storage-overview
"""

from datetime import datetime, timedelta, timezone
from email.utils import parsedate_to_datetime

from ..front import Reply
from .call import Call, Place, Refusal, bad_header, done, http_date, no_blob
from .desk import Desk
from .history import Protection
from .operations import CHANGES, Operation
from .writes import MAKE_VERSIONS

MODES = ("unlocked", "locked")
APPENDS = ("AppendBlock",)


def by_policy() -> Refusal:
    text = "This operation is not permitted as the blob is immutable due to a policy."
    return Refusal(409, "BlobImmutableDueToPolicy", text)


def by_hold() -> Refusal:
    text = "This operation is not permitted as the blob is immutable due to one or more legal holds."
    return Refusal(409, "BlobImmutableDueToLegalHold", text)


def check_protection(desk: Desk, call: Call, operation: Operation) -> None:
    """Refusal for a request that would change or delete what is held, by its container or by itself."""
    deletes = operation.name == "DeleteBlob"
    if not deletes and operation.name not in CHANGES:
        return
    place = call.place
    known = protection_of(desk, call)
    version = call.query.get("versionid", "")
    makes_version = desk.is_versioned(place) and (deletes or operation.name in MAKE_VERSIONS)
    if known and (version or not makes_version):
        check_held(known, call.time)
    if desk.accounts.held_container(*place[:2]) or desk.accounts.container_policy(*place[:2]):
        facts = desk.azurite.facts(place)
        if facts:
            check_container(desk, place, facts, operation)


def check_held(known: Protection, now: datetime) -> None:
    if known.legal_hold:
        raise by_hold()
    if known.holds(now):
        raise by_policy()


def check_container(desk: Desk, place: Place, facts: dict[str, str], operation: Operation) -> None:
    policy = desk.accounts.container_policy(*place[:2])
    may_append = policy.get("allowProtectedAppendWrites") or policy.get("allowProtectedAppendWritesAll")
    if operation.name in APPENDS and may_append:
        return
    if desk.accounts.held_container(*place[:2]):
        raise by_hold()
    created = parsedate_to_datetime(facts["x-ms-creation-time"])
    days = int(policy.get("immutabilityPeriodSinceCreationInDays") or 0)
    if datetime.now(timezone.utc) < created + timedelta(days=days):
        raise by_policy()


def protection_of(desk: Desk, call: Call) -> Protection | None:
    """That of the version which the request names; None without such a blob."""
    version = call.query.get("versionid", "")
    current = desk.history.current(call.place)
    if not version or version == current.version:
        return current.protection
    kept = desk.history.version(call.place, version)
    return kept.protection if kept and not kept.deleted else None


def wanted_protection(desk: Desk, call: Call) -> Protection:
    """What is to be changed. Refusal where blobs take no protection of their own, and without such a blob."""
    if not desk.protects_versions(call.place):
        text = "Version-level immutability is not enabled for the container."
        raise Refusal(409, "FeatureNotSupportedForAccount", text)
    found = protection_of(desk, call)
    is_current = call.query.get("versionid", "") in ("", desk.history.current(call.place).version)
    if not found or (is_current and not desk.azurite.facts(call.place)):
        raise no_blob()
    return found


def set_legal_hold(desk: Desk, call: Call, operation: Operation) -> Reply:
    wanted = call.header("x-ms-legal-hold").lower()
    if wanted not in ("true", "false"):
        raise bad_header("x-ms-legal-hold", wanted)
    wanted_protection(desk, call).legal_hold = wanted == "true"
    return done(200, x_ms_legal_hold=wanted)


def protect_new(desk: Desk, call: Call) -> None:
    """A blob may be written with a hold or a policy from the start."""
    if call.header("x-ms-legal-hold"):
        wanted_protection(desk, call).legal_hold = call.header("x-ms-legal-hold").lower() == "true"
    if call.header("x-ms-immutability-policy-until-date"):
        keep_until(desk, call)


def set_policy(desk: Desk, call: Call, operation: Operation) -> Reply:
    return done(200, **policy_headers(keep_until(desk, call)))


def keep_until(desk: Desk, call: Call) -> Protection:
    """Sets the policy that the headers of a request tell."""
    text = call.header("x-ms-immutability-policy-until-date")
    mode = (call.header("x-ms-immutability-policy-mode") or "unlocked").lower()
    try:
        until = parsedate_to_datetime(text)
    except ValueError:
        raise bad_header("x-ms-immutability-policy-until-date", text) from None
    if until <= call.time:
        raise bad_header("x-ms-immutability-policy-until-date", text)
    if mode not in MODES:
        raise bad_header("x-ms-immutability-policy-mode", mode)
    known = wanted_protection(desk, call)
    if known.mode == "locked" and (mode != "locked" or (known.until and until < known.until)):
        raise by_policy()
    known.until, known.mode = until, mode
    return known


def delete_policy(desk: Desk, call: Call, operation: Operation) -> Reply:
    known = wanted_protection(desk, call)
    if known.mode == "locked":
        raise by_policy()
    known.until, known.mode = None, ""
    return done(200)


def policy_headers(known: Protection) -> dict[str, str]:
    if not known.until:
        return {}
    return {
        "x-ms-immutability-policy-until-date": http_date(known.until),
        "x-ms-immutability-policy-mode": known.mode,
    }


def add_headers(desk: Desk, call: Call, reply: Reply) -> None:
    """What reading a blob tells of its protection."""
    if not desk.protects_versions(call.place):
        return
    known = protection_of(desk, call)
    if known:
        reply.headers["x-ms-legal-hold"] = str(known.legal_hold).lower()
        reply.headers |= policy_headers(known)
