"""Copies: whether the source may be read, and whether it is of a kind that can be copied so.

https://learn.microsoft.com/rest/api/storageservices/copy-blob
"""

import dataclasses
import urllib.parse

from ..front import Reply, Request
from .authorize import Caller
from .azurite import CUPBOARD
from .call import Call, Place, Refusal, bad_header, done, no_blob, read_call, whole
from .desk import Desk
from .operations import OPERATIONS, Operation
from .writes import write

LARGEST_AT_ONCE = 256 << 20
READ = OPERATIONS["GET", "blob", ""]
NO_SOURCE = "Could not verify the copy source within the specified time."


def copy(desk: Desk, call: Call, operation: Operation, caller: Caller) -> Reply:
    source = source_of(desk, call, operation, caller)
    if operation.name in ("PutBlobFromURL", "PutBlockFromURL"):
        return put_from(desk, call, operation, source)
    place, snapshot = known_as(desk, source)
    facts = desk.azurite.facts(place, snapshot)
    if not facts:
        raise no_blob() if source.place.account == call.place.account else cannot_verify(404)
    check_kind(facts, operation)
    target = f"http://127.0.0.1:{desk.azurite.port}{place.path}" + (f"?snapshot={snapshot}" if snapshot else "")
    sent = {name: value for name, value in call.request.headers.items() if name.lower() not in SOURCE_HEADERS}
    request = Request("blob", call.method, call.request.target, {**sent, "x-ms-copy-source": target}, b"")
    passed = dataclasses.replace(call, request=request)
    reply = write(desk, call, operation, lambda: begun(desk, passed, operation))
    if reply.status < 300:
        desk.copy_sources[call.place] = without_signature(call.header("x-ms-copy-source"))
    return reply


def begun(desk: Desk, call: Call, operation: Operation) -> Reply:
    """Azurite's answer to a copy, which it does at once."""
    reply = desk.azurite.pass_on(call)
    if reply.status == 202 and operation.name == "CopyBlob" and desk.pending.looks:
        desk.pending.begin(desk.azurite, call.place)
        reply.headers = {name: value for name, value in reply.headers.items() if name.lower() != "x-ms-copy-status"}
        reply.headers["x-ms-copy-status"] = "pending"
    return reply


def abort(desk: Desk, call: Call, operation: Operation) -> Reply:
    action = call.header("x-ms-copy-action").lower()
    if action != "abort":
        raise bad_header("x-ms-copy-action", action)
    with desk.history.lock:
        facts = desk.azurite.facts(call.place)
        if not facts:
            raise no_blob()
        check_lease(call, facts)
        desk.pending.abort(desk.azurite, call.place, facts.get("x-ms-copy-id", ""), call.query.get("copyid", ""))
    return done(204)


def check_lease(call: Call, facts: dict[str, str]) -> None:
    """Whose lease it is, Azurite does not tell."""
    if facts.get("x-ms-lease-state") == "leased" and not call.header("x-ms-lease-id"):
        text = "There is currently a lease on the blob and no lease ID was specified in the request."
        raise Refusal(412, "LeaseIdMissing", text)


SOURCE_HEADERS = frozenset({"x-ms-copy-source", "x-ms-copy-source-authorization"})


def source_of(desk: Desk, call: Call, operation: Operation, caller: Caller) -> Call:
    """The source as a request to read it. Refusal if whoever asks may not."""
    url = urllib.parse.urlsplit(call.header("x-ms-copy-source"))
    if url.scheme not in ("http", "https") or not url.netloc:
        raise bad_header("x-ms-copy-source", call.header("x-ms-copy-source"))
    headers = {"Host": url.netloc, "x-ms-version": call.version}
    if token := call.header("x-ms-copy-source-authorization"):
        if operation.name == "CopyBlob":
            raise bad_header("x-ms-copy-source-authorization", "")
        headers["Authorization"] = token
    target = url.path + (f"?{url.query}" if url.query else "")
    source = read_call(Request("blob", "GET", target, headers, b""), call.client)
    if source.place.account not in desk.accounts or not source.place.blob:
        raise cannot_verify(404)
    own = source.place.account == call.place.account
    if not (own and caller.kind in ("AccountKey", "OAuth") and "sig" not in source.query):
        try:
            desk.authorize(source, READ)
        except Refusal as refused:
            raise cannot_verify(refused.status) from None
    return source


def known_as(desk: Desk, source: Call) -> tuple[Place, str]:
    """Where Azurite has the source, and its snapshot there."""
    version = source.query.get("versionid", "")
    if not version or desk.history.current(source.place).version == version:
        return source.place, source.query.get("snapshot", "")
    kept = desk.history.version(source.place, version)
    if not kept or kept.deleted:
        raise no_blob()
    return source.place._replace(account=CUPBOARD + source.place.account), kept.key


def check_kind(facts: dict[str, str], operation: Operation) -> None:
    """A synchronous copy takes block blobs of up to 256 MiB."""
    if operation.name != "CopyBlobFromURL":
        return
    if facts["x-ms-blob-type"] != "BlockBlob":
        raise Refusal(409, "InvalidBlobType", "The blob type is invalid for this operation.")
    if int(facts["content-length"]) > LARGEST_AT_ONCE:
        raise Refusal(409, "CannotVerifyCopySource", "The source is larger than 256 MiB.")


def put_from(desk: Desk, call: Call, operation: Operation, source: Call) -> Reply:
    """Reads the source and writes it as if the caller had sent it."""
    place, snapshot = known_as(desk, source)
    headers = {"Range": call.header("x-ms-source-range")} if call.header("x-ms-source-range") else {}
    found = desk.azurite.ask("GET", place, {"snapshot": snapshot} if snapshot else {}, headers)
    body = whole(found)
    if found.status not in (200, 206):
        raise cannot_verify(found.status)
    if operation.name == "PutBlobFromURL" and found.headers.get("x-ms-blob-type") != "BlockBlob":
        raise Refusal(409, "InvalidBlobType", "The blob type is invalid for this operation.")
    sent = {n: v for n, v in call.request.headers.items() if not n.lower().startswith(("x-ms-copy-", "x-ms-source-"))}
    kind = {"x-ms-blob-content-type": found.headers.get("Content-Type", "application/octet-stream")}
    request = Request("blob", "PUT", call.request.target, kind | sent, body)
    passed = dataclasses.replace(call, request=request)
    if operation.name == "PutBlockFromURL":
        return desk.azurite.pass_on(passed)
    return write(desk, call, operation, lambda: desk.azurite.pass_on(passed))


def cannot_verify(status: int) -> Refusal:
    return Refusal(status if status in (403, 404, 409) else 403, "CannotVerifyCopySource", NO_SOURCE)


def without_signature(url: str) -> str:
    """The address of a source as the service shows it: without what gave access to it."""
    parts = urllib.parse.urlsplit(url)
    pairs = urllib.parse.parse_qsl(parts.query)
    shown = [(name, value) for name, value in pairs if name.lower() in ("snapshot", "versionid")]
    return parts._replace(query=urllib.parse.urlencode(shown)).geturl()
