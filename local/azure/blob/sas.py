"""Shared access signatures: what one says, and whether it is well formed, signed and permits what is asked.

https://learn.microsoft.com/rest/api/storageservices/create-service-sas and its neighbours
"""

import ipaddress
import re
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from .call import Call, Refusal
from .signing import equal, signature

ACCOUNT, SERVICE, DELEGATION = "account", "service", "delegation"
ORDER = {ACCOUNT: "rwdxylacuptfi", SERVICE: "racwdxyltfmeopi", DELEGATION: "racwdxyltfmeopi"}
TIME = re.compile(r"(\d{4}-\d\d-\d\d)(?:T(\d\d:\d\d)(:\d\d(?:\.\d{1,7})?)?(Z|[+-]\d\d:\d\d))?")
# From which version on a string to sign has a part.
SIGNED_RESOURCE, KEY_USERS, SCOPES = "2018-11-09", "2020-02-10", "2020-12-06"
BOUND_USERS, SIGNED_REQUESTS = "2025-07-05", "2026-02-06"
RESOURCES = {"b": "blob", "bs": "blob", "bv": "blob", "c": "container", "d": "blob"}


class Malformed(Exception):
    """What the service tells in AuthenticationErrorDetail."""


def read_time(text: str) -> datetime:
    """Every form that the service takes. https://learn.microsoft.com/rest/api/storageservices/formatting-datetime-values"""
    found = TIME.fullmatch(text)
    if not found:
        raise Malformed(f"{text} is not a valid time.")
    date, minutes, seconds, zone = found.groups()
    seconds = re.sub(r"(\.\d{1,6})\d*", lambda part: part[1].ljust(7, "0"), seconds or ":00")
    offset = (zone or "Z").replace("Z", "+00:00")
    return datetime.fromisoformat(f"{date}T{minutes or '00:00'}{seconds}{offset}").astimezone(timezone.utc)


@dataclass(frozen=True)
class StoredPolicy:
    """A policy that is stored with a container."""

    permissions: str = ""
    start: str = ""
    expiry: str = ""


@dataclass(frozen=True)
class Sas:
    """The fields of a SAS as they came, and its kind."""

    fields: dict[str, str]
    policy: StoredPolicy = StoredPolicy()

    def __getitem__(self, name: str) -> str:
        return self.fields.get(name, "")

    @property
    def kind(self) -> str:
        if "ss" in self.fields or "srt" in self.fields:
            return ACCOUNT
        return DELEGATION if "skoid" in self.fields else SERVICE

    @property
    def permissions(self) -> str:
        return self["sp"] or self.policy.permissions

    @property
    def start(self) -> datetime | None:
        text = self["st"] or self.policy.start
        return read_time(text) if text else None

    @property
    def expiry(self) -> datetime:
        text = self["se"] or self.policy.expiry
        if not text:
            raise Malformed("se is mandatory. Cannot be empty")
        return read_time(text)

    @property
    def resource(self) -> str:
        return "account" if self.kind == ACCOUNT else RESOURCES.get(self["sr"], "")


def check_form(sas: Sas) -> None:
    """Malformed for what cannot be a SAS, whoever signed it."""
    if not re.fullmatch(r"20\d\d-\d\d-\d\d", sas["sv"]):
        raise Malformed("sv is mandatory. Cannot be empty")
    if sas.kind == SERVICE and sas["si"]:
        if any(sas[name] and getattr(sas.policy, part) for name, part in POLICY_FIELDS):
            raise Malformed("A field is given in the signature and in the stored access policy.")
    elif not sas["sp"]:
        raise Malformed("sp is mandatory. Cannot be empty")
    order = ORDER[sas.kind]
    places = [order.find(letter) for letter in sas.permissions]
    if -1 in places or places != sorted(set(places)):
        raise Malformed("Signature fields not well formed.")
    if sas.kind != ACCOUNT and not sas.resource:
        raise Malformed("sr is mandatory. Cannot be empty")
    _ = sas.start, sas.expiry


POLICY_FIELDS = (("sp", "permissions"), ("st", "start"), ("se", "expiry"))


def check_time(sas: Sas, now: datetime) -> None:
    start, expiry = sas.start, sas.expiry
    if (start and now < start) or now >= expiry:
        shown = [f"{moment:%a, %d %b %Y %H:%M:%S} GMT" if moment else "" for moment in (start, expiry, now)]
        raise Malformed(
            f"Signature not valid in the specified time frame: Start [{shown[0]}] - Expiry [{shown[1]}] - "
            f"Current [{shown[2]}]"
        )


def resource_path(call: Call, sas: Sas) -> str:
    """The resource that a service or delegation SAS is signed for."""
    account, container, blob = call.place
    if sas["sr"] == "c":
        return f"/blob/{account}/{container}"
    if sas["sr"] == "d":
        depth = int(sas["sdd"]) if sas["sdd"].isdigit() else 0
        blob = "/".join(blob.split("/")[:depth])
    return f"/blob/{account}/{container}/{blob}".rstrip("/")


def strings_to_sign(call: Call, sas: Sas) -> list[str]:
    """What may have been signed: one text, or two where Microsoft does not say since when a part belongs to it."""
    if sas.kind == ACCOUNT:
        names = ["sp", "ss", "srt", "st", "se", "sip", "spr", "sv", *(["ses"] if sas["sv"] >= SCOPES else [])]
        return ["\n".join([call.place.account, *(sas[name] for name in names), ""])]
    head = [sas["sp"], sas["st"], sas["se"], resource_path(call, sas)]
    who = key_fields(sas) if sas.kind == DELEGATION else [sas["si"]]
    what: list[str] = []
    if sas["sv"] >= SIGNED_RESOURCE:
        moment = {"bs": "snapshot", "bv": "versionid"}.get(sas["sr"], "")
        what = [sas["sr"], call.query.get(moment, "")]
    if sas["sv"] >= SCOPES:
        what.append(sas["ses"])
    answer = [sas[name] for name in ("rscc", "rscd", "rsce", "rscl", "rsct")]
    base = [*head, *who, sas["sip"], sas["spr"], sas["sv"], *what]
    plain = "\n".join([*base, *answer])
    if sas.kind == DELEGATION and sas["sv"] >= SIGNED_REQUESTS:
        return [plain, "\n".join([*base, "", "", *answer])]
    return [plain]


def key_fields(sas: Sas) -> list[str]:
    names = ["skoid", "sktid", "skt", "ske", "sks", "skv"]
    names += ["saoid", "suoid", "scid"] if sas["sv"] >= KEY_USERS else []
    names += ["skdutid", "sduoid"] if sas["sv"] >= BOUND_USERS else []
    return [sas[name] for name in names]


def check_signature(call: Call, sas: Sas, keys: dict[str, str]) -> str:
    """The name of the key that signed it. Malformed if none did."""
    texts = strings_to_sign(call, sas)
    for name, key in keys.items():
        if any(equal(signature(key, text), sas["sig"]) for text in texts):
            return name
    raise Malformed(f"Signature did not match. String to sign used was {texts[0]}")


def check_reach(call: Call, sas: Sas) -> None:
    """Refusal for a SAS that is good, but not for this caller, protocol, service or kind of resource."""
    if sas["sip"] and not inside(call.client, sas["sip"]):
        text = f"This request is not authorized to perform this operation using this source IP {call.client}."
        raise Refusal(403, "AuthorizationSourceIPMismatch", text, SourceIP=call.client)
    if sas["spr"] and "https" not in sas["spr"].split(","):
        raise mismatch("AuthorizationProtocolMismatch", "protocol")
    if sas.kind == ACCOUNT and "b" not in sas["ss"]:
        raise mismatch("AuthorizationServiceMismatch", "service")
    if sas.kind == ACCOUNT and {"account": "s", "container": "c", "blob": "o"}[call.level] not in sas["srt"]:
        raise mismatch("AuthorizationResourceTypeMismatch", "resource type")


def mismatch(code: str, what: str) -> Refusal:
    return Refusal(403, code, f"This request is not authorized to perform this operation using this {what}.")


def inside(client: str, span: str) -> bool:
    first, _, last = span.partition("-")
    try:
        found = ipaddress.ip_address(client)
        return int(ipaddress.ip_address(first)) <= int(found) <= int(ipaddress.ip_address(last or first))
    except ValueError:
        return False


def life(sas: Sas, now: datetime) -> timedelta:
    return sas.expiry - (sas.start or now)
