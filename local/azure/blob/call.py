"""A request to the blob service, read once: which account, container and blob, and the words of its query."""

import re
import urllib.parse
import uuid
from dataclasses import dataclass, field
from datetime import datetime, timezone
from email.utils import format_datetime
from functools import cached_property
from typing import NamedTuple
from xml.sax.saxutils import escape

from .. import times
from ..front import Reply, Request

NEWEST = "2026-10-06"  # the newest version that the service knows
OLDEST = "2009-09-19"  # of a request that names none, unless the account has another default
OLDEST_TOKEN = "2017-11-09"  # noqa: S105 - a version; older ones take no token
HOST = re.compile(r"([a-z0-9-]+)\.(blob|web)\.localhost(?::\d+)?", re.IGNORECASE)
WEBSITE = "$web"


class Place(NamedTuple):
    """An account, a container of it, a blob of that; empty for what is not named."""

    account: str
    container: str = ""
    blob: str = ""

    @property
    def box(self) -> "Place":
        return Place(self.account, self.container)

    @property
    def path(self) -> str:
        """The path on Azurite, quoted."""
        quoted = (urllib.parse.quote(part, safe="/") for part in self if part)
        return "/" + "/".join(quoted)


@dataclass
class Call:
    """A request on its way: what it names, and what is found out about it.

    wire: the path as it came, which signatures cover. place: what it names. client, port: where the caller is.
    to_website: it came to the endpoint of the account's static website. usual_version: for a request that names none; empty for the
    account's default.
    """

    request: Request
    place: Place
    wire: str
    client: str = "127.0.0.1"
    port: int = 49152
    to_website: bool = False
    usual_version: str = ""
    id: str = field(default_factory=lambda: str(uuid.uuid4()))
    time: datetime = field(default_factory=lambda: datetime.now(timezone.utc))

    @property
    def method(self) -> str:
        return self.request.method

    @cached_property
    def pairs(self) -> list[tuple[str, str]]:
        return urllib.parse.parse_qsl(urllib.parse.urlsplit(self.request.target).query, keep_blank_values=True)

    @cached_property
    def query(self) -> dict[str, str]:
        """The first value of each name; names are lower case, since the service takes them in any."""
        return {name.lower(): value for name, value in reversed(self.pairs)}

    @cached_property
    def headers(self) -> dict[str, str]:
        return {name.lower(): value for name, value in self.request.headers.items()}

    def header(self, name: str) -> str:
        return self.headers.get(name, "")

    @property
    def comp(self) -> str:
        return self.query.get("comp", "").lower()

    @property
    def level(self) -> str:
        """account, container or blob: what the request is about."""
        if self.place.blob:
            return "blob"
        return "container" if self.place.container else "account"

    @property
    def version(self) -> str:
        return self.header("x-ms-version") or self.query.get("sv", "") or self.usual_version or OLDEST


def read_call(request: Request, client: str) -> Call:
    """Both forms of address: https://ACCOUNT.blob.localhost:PORT/CONTAINER/BLOB and https://HOST:PORT/ACCOUNT/...

    A path of one name is that of a blob in $root, unless the query says that it is a container's. The endpoint of a
    website, https://ACCOUNT.web.localhost:PORT/PAGE, has the blobs of $web.
    """
    raw = re.sub(r"^https?://[^/?]+", "", request.target).partition("?")[0]
    host = HOST.fullmatch(next((v for k, v in request.headers.items() if k.lower() == "host"), ""))
    if host and host[2].lower() == "web":
        page = Place(host[1].lower(), WEBSITE, urllib.parse.unquote(raw.lstrip("/")))
        return Call(request, page, raw, client, to_website=True)
    full = f"/{host[1].lower()}{raw}" if host else raw
    parts = (urllib.parse.unquote(part) for part in full.lstrip("/").split("/", 2))
    call = Call(request, Place(*parts), raw, client)
    if call.level == "container" and call.query.get("restype", "").lower() not in ("container", "account"):
        call.place = Place(call.place.account, "$root", call.place.container)
    return call


class Refusal(Exception):
    """An answer of the service that is an error. `extra`: further elements of its XML, in their order."""

    def __init__(self, status: int, code: str, message: str, **extra: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.extra = status, code, message, extra

    def reply(self, call: Call) -> Reply:
        lines = f"{self.message}\nRequestId:{call.id}\nTime:{times.written(call.time)}"
        parts = {"Code": self.code, "Message": lines, **self.extra}
        xml = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in parts.items())
        body = f'\N{ZERO WIDTH NO-BREAK SPACE}<?xml version="1.0" encoding="utf-8"?><Error>{xml}</Error>'.encode()
        headers = {"x-ms-error-code": self.code, "Content-Type": "application/xml"}
        return Reply(self.status, headers, b"" if call.method == "HEAD" else body)


def bad_header(name: str, value: str) -> Refusal:
    text = "The value for one of the HTTP headers is not in the correct format."
    return Refusal(400, "InvalidHeaderValue", text, HeaderName=name, HeaderValue=value)


def bad_query(name: str, value: str) -> Refusal:
    text = "Value for one of the query parameters specified in the request URI is invalid."
    return Refusal(400, "InvalidQueryParameterValue", text, QueryParameterName=name, QueryParameterValue=value)


def no_blob() -> Refusal:
    return Refusal(404, "BlobNotFound", "The specified blob does not exist.")


def done(status: int, **headers: str) -> Reply:
    """An answer without a body; the service adds what every answer carries. Underscores stand for hyphens."""
    return Reply(status, {name.replace("_", "-"): value for name, value in headers.items()})


def whole(reply: Reply) -> bytes:
    """The body in one piece; the reply no longer knows its length, which may change."""
    body = reply.body if isinstance(reply.body, bytes) else b"".join(reply.body)
    close(reply)
    reply.headers = {name: value for name, value in reply.headers.items() if name.lower() != "content-length"}
    reply.body = body
    return body


def close(reply: Reply) -> None:
    if not isinstance(reply.body, bytes):
        reply.body.close()  # type: ignore[attr-defined] # it came from `forward`


def http_date(moment: datetime) -> str:
    return format_datetime(moment, usegmt=True)
