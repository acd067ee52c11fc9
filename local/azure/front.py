"""What every service of the local Azure is reached through: TLS, a log of what came in, and faults on demand."""

import contextlib
import json
import re
import ssl
import sys
import threading
import urllib.parse
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPResponse, HTTPSConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

HOP_BY_HOP = frozenset(
    {"connection", "keep-alive", "transfer-encoding", "te", "trailer", "upgrade", "proxy-connection"}
)
CHUNK = 1 << 20


@dataclass
class Request:
    """A request as it arrived. `query` has the first value of each name; `path` is decoded, `target` as sent."""

    service: str
    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def path(self) -> str:
        return urllib.parse.unquote(urllib.parse.urlsplit(self.target).path)

    @property
    def query(self) -> dict[str, str]:
        pairs = urllib.parse.parse_qsl(urllib.parse.urlsplit(self.target).query, keep_blank_values=True)
        return dict(reversed(pairs))

    def json(self) -> Any:
        return json.loads(self.body) if self.body else {}


@dataclass
class Reply:
    """An answer; `body` may come in pieces."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | Iterable[bytes] = b""
    cookies: list[str] = field(default_factory=list)


@dataclass
class Fault:
    """What goes wrong with the requests that match, instead of or before the real answer.

    status, headers, body: answer this. delay: seconds to hold the answer back. cut: bytes of the real answer's body to
    send before the connection breaks (0: break at once). skip: let so many pass first; times: then strike so often.
    """

    service: str = ""
    method: str = ""
    path: str = ""
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    body: str = ""
    delay: float = 0
    cut: int | None = None
    times: int = 1
    skip: int = 0

    def matches(self, request: Request) -> bool:
        return (
            self.service in ("", request.service)
            and self.method in ("", request.method)
            and bool(re.search(self.path, request.target, re.IGNORECASE))
        )


# What a gateway answers in Azure's place: a good status, a page, and none of the service's own headers.
PROXY_PAGE = (
    "<!DOCTYPE html><html><head><title>Sign in to continue</title></head>"
    "<body><h1>Network access</h1><p>Your organization asks you to sign in first.</p></body></html>"
)
ALWAYS = 1_000_000_000


class FaultPlan:
    """The faults to come. Thread-safe; `struck` counts those that happened."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._lock = threading.Lock()
        self.struck = 0

    def add(self, **fields: Any) -> Fault:
        fault = Fault(**fields)
        with self._lock:
            self._faults.append(fault)
        return fault

    def proxy(self, service: str = "", method: str = "", path: str = "", times: int = ALWAYS) -> Fault:
        """A proxy's page in place of what matches, from now on or so many times."""
        headers = {"Content-Type": "text/html; charset=utf-8"}
        where = {"service": service, "method": method, "path": path}
        return self.add(**where, status=200, headers=headers, body=PROXY_PAGE, times=times)

    def clear(self) -> None:
        with self._lock:
            self._faults.clear()
            self.struck = 0

    def strike(self, request: Request) -> Fault | None:
        """The fault that this request meets, if any."""
        with self._lock:
            for fault in self._faults:
                if fault.times <= 0 or not fault.matches(request):
                    continue
                if fault.skip > 0:
                    fault.skip -= 1
                    continue
                fault.times -= 1
                self.struck += 1
                return fault
        return None


Application = Callable[[Request], Reply]


class Handler(BaseHTTPRequestHandler):
    """One connection. The server it belongs to knows the application, the faults and the log."""

    protocol_version = "HTTP/1.1"
    # Headers and body leave in one packet: otherwise the other side's delayed acknowledgement costs 40 ms an answer.
    wbufsize = 1 << 16
    disable_nagle_algorithm = True
    server: "Front"

    def log_message(self, format: str, *args: Any) -> None:
        """Silent: the log of requests is for tests, and nothing goes to the terminal."""

    def _serve(self) -> None:
        request = Request(self.server.service, self.command, self.path, dict(self.headers.items()), self._read_body())
        self.server.log.append(request)
        fault = self.server.faults.strike(request)
        if fault and fault.delay:
            threading.Event().wait(fault.delay)
        if fault and fault.status:
            self._answer(Reply(fault.status, dict(fault.headers), fault.body.encode()))
            return
        if fault and fault.cut == 0:
            self.close_connection = True
            self.connection.close()
            return
        reply = self.server.application(request)
        try:
            self._answer(reply, None if fault is None else fault.cut)
        finally:
            if isinstance(reply.body, Pieces):
                reply.body.close()

    do_GET = do_HEAD = do_PUT = do_POST = do_PATCH = do_DELETE = do_OPTIONS = _serve

    def _read_body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            pieces = []
            while size := int(self.rfile.readline().split(b";")[0], 16):
                pieces.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(pieces)
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _answer(self, reply: Reply, cut: int | None = None) -> None:
        pieces: Iterable[bytes] = [reply.body] if isinstance(reply.body, bytes) else reply.body
        self.send_response(reply.status)
        names = {name.lower() for name in reply.headers}
        if isinstance(reply.body, bytes) and "content-length" not in names:
            self.send_header("Content-Length", str(len(reply.body)))
        chunked = "content-length" not in names and not isinstance(reply.body, bytes)
        if chunked and self.command != "HEAD":
            self.send_header("Transfer-Encoding", "chunked")
        for name, value in reply.headers.items():
            self.send_header(name, value)
        for cookie in reply.cookies:
            self.send_header("Set-Cookie", cookie)
        self.end_headers()
        if self.command == "HEAD":
            return
        for piece in pieces:
            if cut is not None:
                self.wfile.write(piece[:cut])
                self.wfile.flush()
                self.close_connection = True
                self.connection.close()
                return
            self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n" if chunked else piece)
        if chunked:
            self.wfile.write(b"0\r\n\r\n")


class Front(ThreadingHTTPServer):
    """A service on a loopback port of its own, in threads of this process."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(
        self,
        service: str,
        application: Application,
        faults: FaultPlan,
        log: "deque[Request]",
        tls: ssl.SSLContext | None,
        port: int = 0,
    ) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.service, self.application, self.faults, self.log, self.tls = service, application, faults, log, tls
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.address}"

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        if self._thread.is_alive():
            self.shutdown()
        self.server_close()

    def finish_request(self, request: Any, client_address: Any) -> None:
        """TLS is spoken in the connection's own thread, so that a slow handshake holds up nobody else."""
        with contextlib.suppress(OSError):  # the other side went away
            connection = self.tls.wrap_socket(request, server_side=True) if self.tls else request
            with connection:
                super().finish_request(connection, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], OSError | ValueError):
            super().handle_error(request, client_address)


def forward(request: Request, port: int, headers: dict[str, str], tls: ssl.SSLContext | None = None) -> Reply:
    """Pass a request on to a server on this machine and its answer back, in pieces as they come."""
    connection = HTTPSConnection("127.0.0.1", port, context=tls) if tls else HTTPConnection("127.0.0.1", port)
    sent = {name: value for name, value in request.headers.items() if name.lower() not in HOP_BY_HOP} | headers
    sent = {name: value for name, value in sent.items() if name.lower() != "content-length"}
    needs_length = request.body or request.method in ("PUT", "POST", "PATCH")
    connection.putrequest(request.method, request.target, skip_host=True, skip_accept_encoding=True)
    for name, value in sent.items():
        connection.putheader(name, value)
    if needs_length:
        connection.putheader("Content-Length", str(len(request.body)))
    connection.endheaders(request.body or None)
    answer = connection.getresponse()
    kept = {name: value for name, value in answer.getheaders() if name.lower() not in HOP_BY_HOP | {"set-cookie"}}
    return Reply(answer.status, kept, Pieces(answer, connection), answer.headers.get_all("Set-Cookie") or [])


class Pieces:
    """The body of a forwarded answer, piece by piece; closing it also ends the connection it comes from."""

    def __init__(self, answer: HTTPResponse, connection: HTTPConnection) -> None:
        self.answer, self.connection = answer, connection

    def __iter__(self) -> Iterator[bytes]:
        while piece := self.answer.read(CHUNK):
            yield piece

    def close(self) -> None:
        self.answer.close()
        self.connection.close()
