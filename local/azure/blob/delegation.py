"""User delegation keys. https://learn.microsoft.com/rest/api/storageservices/get-user-delegation-key"""

import base64
import hashlib
import hmac
import secrets
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from .. import times
from ..front import Reply
from .call import Call, Refusal
from .sas import Malformed, Sas, read_time

LONGEST = timedelta(days=7)
FIELDS = ("skoid", "sktid", "skt", "ske", "sks", "skv")


class DelegationKeys:
    """Issues keys, and finds the key that a SAS says it is signed with."""

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)
        self._issued: dict[tuple[str, ...], datetime] = {}

    def _value(self, name: tuple[str, ...]) -> str:
        return base64.b64encode(hmac.new(self._secret, "\n".join(name).encode(), hashlib.sha256).digest()).decode()

    def issue(self, call: Call, claims: Mapping[str, Any]) -> Reply:
        start, expiry = wanted_times(call)
        oid = str(claims.get("oid") or claims.get("sub") or "")
        name = (call.place.account, oid, str(claims.get("tid", "")), start, expiry, "b", call.version)
        self._issued[name] = call.time
        names = ("SignedOid", "SignedTid", "SignedStart", "SignedExpiry", "SignedService", "SignedVersion")
        root = ET.Element("UserDelegationKey")
        for tag, value in (*zip(names, name[1:], strict=True), ("Value", self._value(name))):
            ET.SubElement(root, tag).text = value
        return Reply(200, {"Content-Type": "application/xml"}, ET.tostring(root, "utf-8", xml_declaration=True))

    def key_of(self, account: str, sas: Sas, now: datetime, revoked: datetime | None) -> str:
        """Malformed if there is no such key, it is revoked, or it is not valid at this time."""
        name = (account, *(sas[field] for field in FIELDS))
        issued = self._issued.get(name)
        if not issued or (revoked and issued <= revoked):
            raise Malformed("Signature did not match. The user delegation key is unknown or has been revoked.")
        if not read_time(sas["skt"]) <= now < read_time(sas["ske"]):
            raise Malformed("The user delegation key is not valid in the specified time frame.")
        return self._value(name)


def wanted_times(call: Call) -> tuple[str, str]:
    """Start and expiry that a request asks for. Refusal unless the key can be used from now on, seven days at most."""
    try:
        body = ET.fromstring(call.request.body)  # noqa: S314 - expat expands no external entities
        texts = [body.findtext("Start") or times.written(call.time)[:19] + "Z", body.findtext("Expiry") or ""]
        start, expiry = (read_time(text) for text in texts)
    except (ET.ParseError, Malformed):
        raise bad_node("Expiry", "") from None
    if start > call.time:
        raise bad_node("Start", texts[0])
    if not start < expiry or not call.time < expiry <= call.time + LONGEST:
        raise bad_node("Expiry", texts[1])
    return texts[0], texts[1]


def bad_node(name: str, value: str) -> Refusal:
    text = "The value for one of the XML nodes is not in the correct format."
    return Refusal(400, "InvalidXmlNodeValue", text, XmlNodeName=name, XmlNodeValue=value)
