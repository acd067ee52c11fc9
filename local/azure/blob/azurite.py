"""Azurite, which keeps the blobs: asked with Microsoft's own client, or sent requests that were permitted already."""

import contextlib
import json
import subprocess
import threading
import urllib.parse
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from typing import Any

from ..arm import ArmError
from ..front import Reply, Request, forward
from .call import Call, Place, http_date, whole
from .signing import signature, string_to_sign

Json = dict[str, Any]
VERSION = "2025-11-05"  # what Microsoft's client is told to speak
SPOKEN = "2026-06-06"  # the newest version that Azurite knows
CUPBOARD = "kept-"
ACCESS = {"Container": "container", "Blob": "blob", "None": None}
# Headers of the caller's that are not for Azurite: it is asked in our own name.
OURS = frozenset(
    (
        *("authorization", "host", "x-ms-date", "date", "x-ms-version", "content-length", "accept-encoding"),
        *("x-ms-encryption-key", "x-ms-encryption-key-sha256", "x-ms-encryption-algorithm", "x-ms-undelete-source"),
        *("x-local-client-address", "transfer-encoding", "connection", "expect", "origin"),
    )
)
NOT_QUERY = frozenset(
    (
        *("sv", "ss", "srt", "sp", "st", "se", "sip", "spr", "sig", "sr", "si", "skoid", "sktid", "skt", "ske", "sks"),
        *("skv", "saoid", "suoid", "scid", "skdutid", "sduoid", "ses", "sdd", "srh", "srq", "versionid", "deletionid"),
        *("rscc", "rscd", "rsce", "rscl", "rsct"),
    )
)
RESPONSE_HEADERS = {
    "rscc": "Cache-Control",
    "rscd": "Content-Disposition",
    "rsce": "Content-Encoding",
    "rscl": "Content-Language",
    "rsct": "Content-Type",
}


class Azurite:
    """A running Azurite. `suffix`: what follows the account and `.blob.` in the addresses that clients are given."""

    def __init__(self, process: "subprocess.Popen[str]", port: int, suffix: str) -> None:
        self.process, self.port, self.suffix = process, port, suffix
        # Stands around the deletion of a container: soft delete puts itself here.
        self.deleting: Callable[[str, str], contextlib.AbstractContextManager[None]]
        self.deleting = lambda account, name: contextlib.nullcontext()
        self._keys: dict[str, list[str]] = {}
        self._lock = threading.Lock()

    def endpoint(self, account: str) -> str:
        return f"https://{account}.blob.{self.suffix}/"

    # Its own store

    def do(self, name: str, **fields: Any) -> Json:
        """One of the operations of azurite.mjs."""
        assert self.process.stdin and self.process.stdout  # noqa: S101 - it was started with pipes
        with self._lock:
            self.process.stdin.write(json.dumps({"do": name, **fields}) + "\n")
            self.process.stdin.flush()
            while not (line := self.process.stdout.readline()).startswith("done "):
                if self.process.poll() is not None:
                    raise RuntimeError("Azurite has ended")
        answer: Json = json.loads(line.removeprefix("done "))
        if "error" in answer:
            raise RuntimeError(f"Azurite could not {name}: {answer['error']}")
        return answer

    def accounts_changed(self, keys: dict[str, list[str]]) -> None:
        """Returns when Azurite knows the accounts and keys."""
        self._keys = {name: list(pair) for name, pair in keys.items()}
        self.do("accounts", keys=keys)

    # Requests that were permitted

    def ask(
        self, method: str, place: Place, query: dict[str, str], headers: dict[str, str] | None = None, body: bytes = b""
    ) -> Reply:
        """Azurite's answer to a request in our own name. `place.account` may be the cupboard of an account."""
        full = urllib.parse.urlencode(query, quote_via=urllib.parse.quote)
        sent = {
            **(headers or {}),
            "x-ms-version": SPOKEN,
            "x-ms-date": http_date(datetime.now(timezone.utc)),
            "Host": f"127.0.0.1:{self.port}",
        }
        signed = {name.lower(): value for name, value in sent.items()}
        if body or method in ("PUT", "POST", "PATCH"):
            signed["content-length"] = str(len(body))
        path = place.path + ("/" if not place.container else "")
        text = string_to_sign(method, place.account, path, full, signed)
        key = self._keys[place.account.removeprefix(CUPBOARD)][0]
        sent["Authorization"] = f"SharedKey {place.account}:{signature(key, text)}"
        return forward(Request("blob", method, f"{path}?{full}" if full else path, sent, body), self.port, {})

    def pass_on(self, call: Call, place: Place | None = None, query: dict[str, str] | None = None) -> Reply:
        """Azurite's answer to a caller's request, of another place or with more in its query where so wanted."""
        words = {name: value for name, value in call.query.items() if name not in NOT_QUERY} | (query or {})
        headers = {name: value for name, value in call.request.headers.items() if name.lower() not in OURS}
        reply = self.ask(call.method, place or call.place, words, headers, call.request.body)
        for asked, name in RESPONSE_HEADERS.items():
            if asked in call.query and reply.status in (200, 206):
                reply.headers = {k: v for k, v in reply.headers.items() if k.lower() != name.lower()}
                reply.headers[name] = call.query[asked]
        return reply

    def rows(self, place: Place, account: str = "", **query: str) -> Iterator[ET.Element]:
        """The rows of a listing of a container, of all names that begin with the place's blob."""
        words = {"restype": "container", "comp": "list", "include": "metadata,tags,snapshots,copy", **query}
        where, marker = Place(account or place.account, place.container), ""
        while True:
            reply = self.ask("GET", where, {**words, "prefix": place.blob, "marker": marker})
            body = whole(reply)
            page = ET.fromstring(body) if reply.status == 200 else ET.Element("Nothing")  # noqa: S314 - Azurite's
            yield from page.iterfind("Blobs/Blob")
            marker = page.findtext("NextMarker") or ""
            if not marker:
                return

    def facts(self, place: Place, snapshot: str = "") -> dict[str, str] | None:
        """The headers of a blob by lower-case name; None without such a blob."""
        reply = self.ask("HEAD", place, {"snapshot": snapshot} if snapshot else {})
        found = {name.lower(): value for name, value in reply.headers.items()}
        whole(reply)
        return found if reply.status == 200 else None

    def has_container(self, place: Place) -> bool:
        reply = self.ask("GET", place.box, {"restype": "container"})
        whole(reply)
        return reply.status == 200

    def container_names(self, account: str) -> list[str]:
        return [item["name"] for item in self.containers(account, self._keys[account][0])]

    def append_line(self, place: Place, line: str) -> None:
        """Adds a line to an append blob, which is made with its container if it is not there."""
        for attempt in range(2):
            body = (line + "\n").encode()
            reply = self.ask("PUT", place, {"comp": "appendblock"}, body=body)
            whole(reply)
            if reply.status == 201 or attempt:
                return
            whole(self.ask("PUT", place.box, {"restype": "container"}))
            whole(self.ask("PUT", place, {}, {"x-ms-blob-type": "AppendBlob"}))

    # What Resource Manager asks

    def _service(self, account: str, key: str) -> Any:
        from azure.storage.blob import BlobServiceClient

        url = f"http://127.0.0.1:{self.port}/{account}"
        credential = {"account_name": account, "account_key": key}
        return BlobServiceClient(url, credential=credential, api_version=VERSION, retry_total=0)

    def containers(self, account: str, key: str) -> list[Json]:
        return [self._read(item) for item in self._service(account, key).list_containers(include_metadata=True)]

    @staticmethod
    def _read(item: Any) -> Json:
        access = {value: name for name, value in ACCESS.items()}
        return {
            "name": item.name,
            "etag": f'"{str(item.etag).strip(chr(34))}"',
            "properties": {
                "publicAccess": access[item.public_access],
                "leaseStatus": str(item.lease.status).capitalize(),
                "leaseState": str(item.lease.state).capitalize(),
                "lastModifiedTime": item.last_modified.strftime("%Y-%m-%dT%H:%M:%S.0000000Z"),
                "hasImmutabilityPolicy": bool(item.has_immutability_policy),
                "hasLegalHold": bool(item.has_legal_hold),
                **({"metadata": dict(item.metadata)} if item.metadata else {}),
            },
        }

    def create(self, account: str, key: str, name: str, properties: Json) -> bool:
        """Whether it was not there before."""
        from azure.core.exceptions import ResourceExistsError

        access = ACCESS[properties.get("publicAccess", "None")]
        try:
            self._service(account, key).create_container(
                name, metadata=properties.get("metadata"), public_access=access
            )
        except ResourceExistsError:
            self.update(account, key, name, properties)
            return False
        return True

    def update(self, account: str, key: str, name: str, properties: Json) -> None:
        container = self._service(account, key).get_container_client(name)
        if "publicAccess" in properties:
            container.set_container_access_policy(
                signed_identifiers={}, public_access=ACCESS[properties["publicAccess"]]
            )
        if "metadata" in properties:
            container.set_container_metadata(properties["metadata"])

    def delete(self, account: str, key: str, name: str) -> None:
        from azure.core.exceptions import HttpResponseError

        with self.deleting(account, name):
            try:
                self._service(account, key).delete_container(name)
            except HttpResponseError as error:
                raise ArmError(error.status_code or 409, str(error.error_code), str(error.reason)) from None

    def lease(self, account: str, key: str, name: str, wanted: Json) -> Json:
        """Do to the lease of a container what ARM's body says. Returns what ARM answers; ArmError as Azurite refuses."""
        from azure.core.exceptions import HttpResponseError
        from azure.storage.blob import BlobLeaseClient

        container = self._service(account, key).get_container_client(name)
        lease = BlobLeaseClient(container, lease_id=wanted.get("leaseId"))
        try:
            if wanted["action"] == "Acquire":
                proposed = wanted.get("proposedLeaseId")
                lease = container.acquire_lease(wanted["leaseDuration"], **({"lease_id": proposed} if proposed else {}))
            elif wanted["action"] == "Renew":
                lease.renew()
            elif wanted["action"] == "Change":
                lease.change(wanted["proposedLeaseId"])
            elif wanted["action"] == "Release":
                lease.release()
            else:
                return {"leaseTimeSeconds": str(lease.break_lease(wanted.get("breakPeriod")))}
        except HttpResponseError as error:
            raise ArmError(error.status_code or 409, str(error.error_code), str(error.reason)) from None
        return {"leaseId": lease.id} if wanted["action"] != "Release" else {}
