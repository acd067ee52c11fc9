"""The settings of the blob service, as the data plane reads and writes them. What ARM has, too, is kept there alone.

https://learn.microsoft.com/rest/api/storageservices/set-blob-service-properties

Azurite keeps what only the data plane has, which are the settings of classic logging and metrics.
"""

import xml.etree.ElementTree as ET
from collections.abc import Callable
from typing import Any

from ..arm import ArmError, Json
from ..front import Reply
from .call import Call, Refusal, whole
from .desk import Desk
from .operations import Operation

# Of an element, what each part is called by ARM.
RETENTION = {"Enabled": "enabled", "Days": "days", "AllowPermanentDelete": "allowPermanentDelete"}
WEBSITE = {
    "Enabled": "enabled",
    "IndexDocument": "indexDocument",
    "DefaultIndexDocumentPath": "defaultIndexDocumentPath",
    "ErrorDocument404Path": "errorDocument404Path",
}
# element -> the setting of ARM's, and its parts
SHARED = {"DeleteRetentionPolicy": ("deleteRetentionPolicy", RETENTION), "StaticWebsite": ("staticWebsite", WEBSITE)}
RULE = {
    "AllowedOrigins": "allowedOrigins",
    "AllowedMethods": "allowedMethods",
    "AllowedHeaders": "allowedHeaders",
    "ExposedHeaders": "exposedHeaders",
    "MaxAgeInSeconds": "maxAgeInSeconds",
}
VERSION = "DefaultServiceVersion"


def listed(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


# How a part is read that is no plain text.
READ: dict[str, Callable[[str], Any]] = {
    **dict.fromkeys(("Enabled", "AllowPermanentDelete"), lambda text: text == "true"),
    **dict.fromkeys(("Days", "MaxAgeInSeconds"), int),
    **dict.fromkeys(("AllowedOrigins", "AllowedMethods", "AllowedHeaders", "ExposedHeaders"), listed),
}


def get(desk: Desk, call: Call, operation: Operation) -> Reply:
    reply = desk.azurite.pass_on(call)
    if reply.status != 200:
        return reply
    page = ET.fromstring(whole(reply))  # noqa: S314 - Azurite's
    for name in ("Cors", VERSION, *SHARED):
        for old in page.findall(name):
            page.remove(old)
    settings = desk.accounts.service_settings(call.place.account)
    rules = ET.SubElement(page, "Cors")
    for rule in desk.accounts.cors_rules(call.place.account):
        add(rules, "CorsRule", RULE, rule)
    if settings.get("defaultServiceVersion"):
        ET.SubElement(page, VERSION).text = settings["defaultServiceVersion"]
    for name, (setting, parts) in SHARED.items():
        add(page, name, parts, {"enabled": False, **(settings.get(setting) or {})})
    reply.body = ET.tostring(page, encoding="utf-8", xml_declaration=True)
    return reply


def add(parent: ET.Element, name: str, parts: dict[str, str], values: Json) -> None:
    element = ET.SubElement(parent, name)
    for tag, key in parts.items():
        if values.get(key) is not None:
            ET.SubElement(element, tag).text = written(values[key])


def written(value: object) -> str:
    if isinstance(value, list):
        return ",".join(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def set_properties(desk: Desk, call: Call, operation: Operation) -> Reply:
    """What the request does not name stays as it is."""
    reply = desk.azurite.pass_on(call)
    if reply.status != 202:
        return reply
    page = ET.fromstring(call.request.body)  # noqa: S314 - expat expands no external entities
    changes: Json = {}
    if (cors := page.find("Cors")) is not None:
        changes["cors"] = {"corsRules": [read(rule, RULE) for rule in cors]}
    if page.findtext(VERSION):
        changes["defaultServiceVersion"] = page.findtext(VERSION)
    for name, (setting, parts) in SHARED.items():
        if (found := page.find(name)) is not None:
            changes[setting] = read(found, parts)
    try:
        desk.accounts.change_service(call.place.account, changes)
    except ArmError as error:
        whole(reply)
        raise Refusal(error.status, error.code, error.message) from None
    return reply


def read(element: ET.Element, parts: dict[str, str]) -> Json:
    texts = {tag: element.findtext(tag) or "" for tag in parts}
    return {parts[tag]: READ.get(tag, str)(text) for tag, text in texts.items() if text or tag.endswith("Headers")}
