"""The endpoint of a static website, https://ACCOUNT.web.localhost: the blobs of $web as pages, for everybody.

https://learn.microsoft.com/azure/storage/blobs/storage-blob-static-website

It is open whatever the account and the container say of anonymous access; only the firewall stops it, or turning the
website off. It is no way to the blob endpoint: https://ACCOUNT.blob.localhost/$web/PAGE is as public as the container.
That a website which is off answers like one without the page is what its visitors report, not Microsoft's word.
Not modelled: the secondary endpoint, custom domains, the 30 seconds until a change takes effect.
"""

from xml.sax.saxutils import escape

from .. import times
from ..arm import Json
from ..front import Reply
from .call import Call, Refusal, whole
from .desk import Desk
from .operations import READ, Operation

CONDITIONS = ("range", "if-match", "if-none-match", "if-modified-since", "if-unmodified-since")
# As the logs and metrics name them.
CONTENT = Operation("GetWebContent", READ, "", "")
PROPERTIES = Operation("GetWebContentProperties", READ, "", "")


def operation_of(call: Call) -> Operation:
    if call.method not in ("GET", "HEAD"):
        raise Refusal(405, "UnsupportedHttpVerb", "The resource doesn't support specified Http Verb.")
    return PROPERTIES if call.method == "HEAD" else CONTENT


def serve(desk: Desk, call: Call) -> Reply:
    settings = desk.accounts.setting(call.place.account, "staticWebsite")
    if not settings:
        raise not_found()
    reply = page(desk, call, document_of(call, settings))
    if reply.status != 404:
        return reply
    whole(reply)
    reply = page(desk, call, str(settings.get("errorDocument404Path") or "").lstrip("/"), ())
    if reply.status == 404:
        whole(reply)
        raise not_found()
    reply.status = 404
    reply.headers["x-ms-error-code"] = not_found().code
    return reply


def document_of(call: Call, settings: Json) -> str:
    """The blob that a path stands for: in a folder, its index document, or the one for all of them."""
    path = call.place.blob
    if path and not path.endswith("/"):
        return path
    usual = str(settings.get("defaultIndexDocumentPath") or "").lstrip("/")
    return usual or path + str(settings.get("indexDocument") or "")


def page(desk: Desk, call: Call, document: str, conditions: tuple[str, ...] = CONDITIONS) -> Reply:
    if not document or document.endswith("/"):
        raise not_found()
    asked = {name: call.header(name) for name in conditions if call.header(name)}
    return desk.azurite.ask(call.method, call.place._replace(blob=document), {}, asked)


def not_found() -> Refusal:
    return Refusal(404, "WebContentNotFound", "The requested content does not exist.")


def page_of(refused: Refusal, call: Call) -> Reply:
    """A refusal as a browser is shown it."""
    facts = {
        "HttpStatusCode": str(refused.status),
        "ErrorCode": refused.code,
        "RequestId ": call.id,
        "TimeStamp ": times.written(call.time),
    }
    lines = "".join(f"<li>{name}: {escape(value)}</li>" for name, value in facts.items())
    head = f"<head><title>{refused.code}</title></head>"
    body = f"<!DOCTYPE html><html>{head}<body><h1>{escape(refused.message)}</h1><p><ul>{lines}</ul></p></body></html>"
    headers = {"x-ms-error-code": refused.code, "Content-Type": "text/html"}
    return Reply(refused.status, headers, b"" if call.method == "HEAD" else body.encode())
