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


def signature(key: str, text: str) -> str:
    return base64.b64encode(hmac.new(base64.b64decode(key), text.encode(), hashlib.sha256).digest()).decode()


def equal(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())


def string_to_sign(method: str, account: str, path: str, query: str, headers: Mapping[str, str]) -> str:
    """`headers` by lower-case name; `path` and `query` as they are sent."""
    values = {name: headers.get(name, "") for name in SIGNED}
    values["content-length"] = values["content-length"] if values["content-length"] != "0" else ""
    if "x-ms-date" in headers:
        values["date"] = ""
    own = sorted((name, " ".join(value.split())) for name, value in headers.items() if name.startswith("x-ms-"))
    lines = [method, *values.values(), *(f"{name}:{value}" for name, value in own)]
    return "\n".join(lines) + "\n" + canonical_resource(account, path, query)


def canonical_resource(account: str, path: str, query: str) -> str:
    found: dict[str, list[str]] = {}
    for name, value in urllib.parse.parse_qsl(query, keep_blank_values=True):
        found.setdefault(name.lower(), []).append(value)
    lines = (f"\n{name}:{','.join(sorted(values))}" for name, values in sorted(found.items()))
    return f"/{account}{path or '/'}" + "".join(lines)
