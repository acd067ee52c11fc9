"""Texts, values and answers as nobody wrote them, made from good ones."""

import json
import random
import re
from typing import Any

import requests

from .in_process import Answer, by_a_proxy

# What stands where a text, a number or an object should.
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1.5, 10**30, float("inf"), float("nan"), "", " ", "x" * 3000, "\0", "\ud800", "None", "null",
    "2026-99-99T99:99:99Z", "0001-01-01T00:00:00Z", "9" * 400, "-1", "%00%2e%2e%2f", "../..", "https://evil.example/?sig=x",
    [], [None], [[]], [{}], [1, "a"], {}, {"": None}, {"value": None}, {"id": 5}, {"properties": []},
)  # fmt: skip
# What is put into texts, or stands in their place.
PIECES = (
    "", " ", "\t", "\n", "\r\n", "\0", "\x7f", "\x85", "\u2028", "\u202e", "\ud800", "é", "İ", "ß", "\u0661", "²", "🔒", "%", "%%", "%2", "%2F",
    "%252e", "%zz", "/", "//", "/../", "/./", "..", ".", "\\", "?", "#", "&", "=", ";", ",", "@", ":", ":99999", "[", "]", "{", "}",
    "[[[[", '{"a":', '"', "'", "`", "<", ">", "<!DOCTYPE a>", "&amp;", "&#0;", "-1", "0", "1e999", "NaN", "9" * 25, "9" * 5000, "0x10",
    "null", "true", "None", "$web", "*", "http://", "https://", "abfss://", "wasbs://", "https://[::1", "https://a@b/", "/subscriptions/",
    "sig=", "sv=", "SharedAccessSignature=", "AccountKey=", "[" * 3000, "T24:00:00Z", "9999-12-31T23:59:59+23:59", "-", "--", "0.0.0.0/0",
    "10.0.0.1", "::1", "256.1.1.1", "1.1.1.1/33", "none", "ago", "d", "99999d", "99999 days ago",
)  # fmt: skip
STATUSES = (
    100,
    200,
    201,
    202,
    204,
    206,
    301,
    304,
    307,
    400,
    401,
    403,
    404,
    405,
    408,
    409,
    412,
    416,
    429,
    500,
    501,
    503,
    599,
    999,
)
HEADERS = (
    "Content-Length", "Content-Range", "Content-MD5", "Content-Type", "ETag", "Last-Modified", "Retry-After", "Location",
    "Azure-AsyncOperation", "WWW-Authenticate", "x-ms-error-code", "x-ms-request-id", "x-ms-version", "x-ms-lease-id", "x-ms-lease-time",
    "x-ms-snapshot", "x-ms-version-id", "x-ms-copy-id", "x-ms-copy-status", "x-ms-copy-progress", "x-ms-blob-type", "x-ms-meta-a",
    "x-ms-creation-time", "x-ms-tag-count", "x-ms-legal-hold", "x-ms-content-crc64", "x-ms-immutability-policy-until-date", "Date",
)  # fmt: skip
FAILURES = (
    requests.ConnectionError("reset"),
    requests.ReadTimeout("slow"),
    requests.ConnectTimeout("slow"),
    requests.exceptions.SSLError("self-signed certificate"),
    requests.exceptions.ChunkedEncodingError("cut"),
    requests.exceptions.ProxyError("proxy"),
    OSError("broken pipe"),
)


def text(rng: random.Random, good: str) -> str:
    """A good text with one to three mistakes in it."""
    for _ in range(rng.randint(1, 3)):
        start = rng.randint(0, len(good))
        end = min(len(good), start + rng.choice((0, 1, 1, 2, 8, 1000)))
        good = good[:start] + rng.choice((rng.choice(PIECES), good[start:end] * 2)) + good[end:]
    return good


def value(rng: random.Random, good: Any) -> Any:
    """A JSON value in which one place holds something else, or nothing."""
    keys = list(good) if isinstance(good, dict) else list(range(len(good))) if isinstance(good, list) else []
    if not keys or rng.random() < 0.1:
        return rng.choice(VALUES)
    key, copy = rng.choice(keys), good.copy()
    if rng.random() < 0.15:
        del copy[key]
    else:
        copy[key] = value(rng, copy[key])
    return copy


def document(rng: random.Random, body: bytes) -> bytes:
    """The body of an answer with one to three places of its JSON or XML changed."""
    try:
        found = json.loads(body)
    except ValueError:
        return element(rng, body.decode(errors="replace")).encode(errors="replace")
    for _ in range(rng.randint(1, 3)):
        found = value(rng, found)
    return json.dumps(found).encode()


def element(rng: random.Random, good: str) -> str:
    """XML in which the text of an element, or a whole element, is something else."""
    found = list(re.finditer(r">([^<]*)</|<(\w+)/?>", good))
    if not found:
        return text(rng, good)
    place = rng.choice(found)
    group = 1 if place[1] is not None else 2
    return good[: place.start(group)] + rng.choice(PIECES) + good[place.end(group) :]


def headers(rng: random.Random, answer: Answer) -> dict[str, str]:
    """Headers of which one is missing, or says something else."""
    name = rng.choice((*HEADERS, *answer.headers))
    found = {key: told for key, told in answer.headers.items() if key.lower() != name.lower()}
    odd = rng.choice((*PIECES, *(str(item) for item in VALUES))).replace("\r", "").replace("\n", "")
    return found if rng.random() < 0.3 else {**found, name: odd.encode(errors="replace").decode("latin-1")}


def answer(rng: random.Random, good: Answer) -> Answer:
    """An answer that is not what it should be in one or more ways."""
    kind = rng.randrange(8)
    if kind == 0:
        return good._replace(status=rng.choice(STATUSES))
    if kind == 1:
        return by_a_proxy(b"<html><title>Sign in to the network</title></html>", rng.choice(STATUSES))
    if kind == 2:
        return good._replace(error=rng.choice(FAILURES))
    if kind == 3:
        return good._replace(body=text(rng, good.body.decode(errors="replace")).encode(errors="replace"))
    if kind == 4:
        return good._replace(headers=headers(rng, good))
    if kind == 5:
        return good._replace(status=rng.choice(STATUSES), headers=headers(rng, good), body=document(rng, good.body))
    return good._replace(body=document(rng, good.body))
