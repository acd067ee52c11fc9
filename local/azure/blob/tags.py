"""Blob index tags: which filters the service takes, and where there are none.

https://learn.microsoft.com/rest/api/storageservices/find-blobs-by-tags
"""

import re

from ..front import Reply
from .call import Call, bad_query
from .desk import Desk
from .operations import Operation
from .writes import versioned

CHARACTERS = r"[A-Za-z0-9 +\-./:=_]"
KEY = rf'"(?P<quoted>{CHARACTERS}{{1,128}})"|(?P<plain>[A-Za-z_]\w*)|(?P<container>@container)'
CONDITION = re.compile(rf"\s*(?:{KEY})\s*(?P<operator>>=|<=|=|>|<)\s*'(?P<value>[^']*)'", re.ASCII)
AND = re.compile(r"\s+AND(?=[\s\"@])", re.IGNORECASE)
MOST_CONDITIONS = 10


def check_where(text: str, in_container: bool) -> None:
    """Refusal for a filter that the service does not take: OR, other operators, unquoted values, foreign characters."""
    position, conditions = 0, 0
    while True:
        found = CONDITION.match(text, position)
        if not found or not is_good(found, in_container):
            raise bad_query("where", text)
        conditions += 1
        position = found.end()
        if not text[position:].strip():
            break
        joined = AND.match(text, position)
        if not joined or conditions >= MOST_CONDITIONS:
            raise bad_query("where", text)
        position = joined.end()


def is_good(found: "re.Match[str]", in_container: bool) -> bool:
    if found["container"]:
        return found["operator"] == "=" and not in_container
    return bool(re.fullmatch(rf"{CHARACTERS}{{0,256}}", found["value"], re.ASCII))


def find(desk: Desk, call: Call, operation: Operation) -> Reply:
    check_supported(desk, call)
    check_where(call.query.get("where", ""), call.level == "container")
    return desk.azurite.pass_on(call)


def tags(desk: Desk, call: Call, operation: Operation) -> Reply:
    check_supported(desk, call)
    if call.query.get("versionid"):
        return versioned(desk, call)
    return desk.azurite.pass_on(call)


def check_supported(desk: Desk, call: Call) -> None:
    """Accounts with a hierarchical namespace have no tags."""
    if desk.accounts.is_hierarchical(call.place.account):
        raise bad_query("comp", call.comp)
