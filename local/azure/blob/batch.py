"""Several requests in one. Each part is served as if it had come alone.

https://learn.microsoft.com/rest/api/storageservices/blob-batch
"""

import email.message
import email.parser
import re
import uuid
from collections.abc import Callable
from http import HTTPStatus

from ..front import Reply, Request
from .call import Call, Refusal, bad_header, whole

MOST_PARTS = 256
LINE = re.compile(rb"(DELETE|PUT) (\S+) HTTP/1\.1\r?\n")


def serve_batch(call: Call, serve: Callable[[Request], Reply]) -> Reply:
    boundary = re.search(r'boundary="?([^";]+)', call.header("content-type"))
    if not boundary:
        raise bad_header("Content-Type", call.header("content-type"))
    parts = read_parts(call, boundary[1].encode())
    if not 0 < len(parts) <= MOST_PARTS:
        raise Refusal(400, "InvalidInput", "One of the request inputs is not valid: a batch has 1 to 256 parts.")
    mark = f"batchresponse_{uuid.uuid4()}"
    body = b"".join(write_part(mark, number, serve(request)) for number, request in parts)
    headers = {"Content-Type": f"multipart/mixed; boundary={mark}"}
    return Reply(202, headers, body + f"--{mark}--\r\n".encode())


def read_parts(call: Call, boundary: bytes) -> list[tuple[str, Request]]:
    found: list[tuple[str, Request]] = []
    for piece in call.request.body.split(b"--" + boundary):
        line = LINE.search(piece)
        if not line:
            continue
        outer = headers_of(piece[: line.start()])
        inner = headers_of(piece[line.end() :])
        sent = {"Host": call.header("host"), **dict(inner.items())}
        target = re.sub(r"^https?://[^/]+", "", line[2].decode())
        request = Request("blob", line[1].decode(), target, sent, b"")
        found.append((outer.get("Content-ID", str(len(found))), request))
    return found


def headers_of(text: bytes) -> "email.message.Message[str, str]":
    head = text.strip(b"\r\n").replace(b"\r\n", b"\n").partition(b"\n\n")[0]
    return email.parser.Parser().parsestr(head.decode("latin-1"), headersonly=True)


def write_part(mark: str, number: str, reply: Reply) -> bytes:
    body = whole(reply)
    phrase = HTTPStatus(reply.status).phrase
    lines = [
        *(f"--{mark}", "Content-Type: application/http", f"Content-ID: {number}", ""),
        f"HTTP/1.1 {reply.status} {phrase}",
        *(f"{name}: {value}" for name, value in reply.headers.items()),
        *([f"Content-Length: {len(body)}"] if body else []),
        *("", ""),
    ]
    return "\r\n".join(lines).encode() + body + b"\r\n"
