"""Signatures with an account's key. https://learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key"""

import base64
import hashlib
import hmac
import urllib.parse
from collections.abc import Mapping

SIGNED = (
    *("content-encoding", "content-language", "content-length", "content-md5", "content-type", "date"),
    *("if-modified-since", "if-match", "if-none-match", "if-unmodified-since", "range"),
)
SIGNED_LITE = ("content-md5", "content-type", "date")


def signature(key: str, text: str) -> str:
    return base64.b64encode(hmac.new(base64.b64decode(key), text.encode(), hashlib.sha256).digest()).decode()


def equal(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())


def string_to_sign(method: str, account: str, path: str, query: str, headers: Mapping[str, str]) -> str:
    """`headers` by lower-case name; `path` and `query` as they are sent."""
    values = signed_values(headers, SIGNED)
    values["content-length"] = values["content-length"] if values["content-length"] != "0" else ""
    lines = [method, *values.values(), *own_headers(headers)]
    return "\n".join(lines) + "\n" + canonical_resource(account, path, query)


def lite_string_to_sign(method: str, account: str, path: str, query: str, headers: Mapping[str, str]) -> str:
    """That of Shared Key Lite, which covers fewer headers, and of the query only `comp`."""
    lines = [method, *signed_values(headers, SIGNED_LITE).values(), *own_headers(headers)]
    comp = urllib.parse.parse_qs(query).get("comp", [""])[0]
    return "\n".join(lines) + f"\n/{account}{path or '/'}" + (f"?comp={comp}" if comp else "")


def signed_values(headers: Mapping[str, str], names: tuple[str, ...]) -> dict[str, str]:
    """The values of some headers. The date is empty where x-ms-date, which is signed as well, stands for it."""
    values = {name: headers.get(name, "") for name in names}
    if "x-ms-date" in headers:
        values["date"] = ""
    return values


def own_headers(headers: Mapping[str, str]) -> list[str]:
    own = sorted((name, " ".join(value.split())) for name, value in headers.items() if name.startswith("x-ms-"))
    return [f"{name}:{value}" for name, value in own]


def canonical_resource(account: str, path: str, query: str) -> str:
    found: dict[str, list[str]] = {}
    for name, value in urllib.parse.parse_qsl(query, keep_blank_values=True):
        found.setdefault(name.lower(), []).append(value)
    lines = (f"\n{name}:{','.join(sorted(values))}" for name, values in sorted(found.items()))
    return f"/{account}{path or '/'}" + "".join(lines)
