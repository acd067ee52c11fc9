"""The recycle bin that Azurite lacks: soft delete of blobs and containers, and legal holds on blobs.

It stands between the front and Azurite. What is about to be deleted is read with the account's key and kept in memory;
it counts as deleted once Azurite has taken the caller's own request, so that nobody can do here what Azurite would
refuse. https://learn.microsoft.com/azure/storage/blobs/soft-delete-blob-overview
"""

import contextlib
import copy
import email.utils
import math
import re
import secrets
import threading
import urllib.parse
import uuid
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any, NamedTuple

from .arm import Arm, Json, containers, now
from .blobs import VERSION, Azurite
from .front import Reply, Request

# A condition that no blob meets: with it, a request goes through Azurite's authorisation and changes nothing.
NEVER = {"If-Match": '"0x0"'}
IMMUTABLE = ("BlobImmutableDueToPolicy", "This operation is not permitted as the blob is immutable due to a policy.")


class Place(NamedTuple):
    """What a request's path names: an account, a container of it, a blob of that; empty for what it does not name."""

    account: str
    container: str = ""
    blob: str = ""

    @staticmethod
    def of(target: str) -> "Place":
        parts = target.partition("?")[0].lstrip("/").split("/", 2)
        return Place(*(urllib.parse.unquote(part) for part in parts))


@dataclass
class Kept:
    """A blob as it was: its row of a listing, its content, and what the upload takes that brings it back."""

    row: ET.Element
    content: bytes
    upload: Json
    days: int
    deleted: datetime = field(default_factory=lambda: datetime.now(timezone.utc))

    @property
    def name(self) -> str:
        return self.row.findtext("Name") or ""

    @property
    def days_left(self) -> int:
        return math.ceil(
            (self.deleted + timedelta(days=self.days) - datetime.now(timezone.utc)).total_seconds() / 86400
        )


@dataclass
class KeptContainer:
    """A container as it was, with its blobs and those that were in the bin already. `time` is ARM's way to write it."""

    metadata: dict[str, str]
    policies: Json
    blobs: list[Kept]
    bin: dict[Place, Kept] = field(default_factory=dict)
    time: str = ""


def header(values: Request, name: str) -> str:
    return next((value for key, value in values.headers.items() if key.lower() == name), "")


def done(status: int, **headers: str) -> Reply:
    return Reply(status, {"x-ms-request-id": str(uuid.uuid4()), "x-ms-version": VERSION, **headers})


def refused(status: int, code: str, message: str) -> Reply:
    reply = done(status, **{"x-ms-error-code": code, "Content-Type": "application/xml"})
    reply.body = (
        f'<?xml version="1.0" encoding="utf-8"?><Error><Code>{code}</Code><Message>{message}</Message></Error>'.encode()
    )
    return reply


def close(reply: Reply) -> None:
    if not isinstance(reply.body, bytes):
        reply.body.close()  # type: ignore[attr-defined] # it came from `forward`


def whole(reply: Reply) -> bytes:
    """The body in one piece; the reply no longer knows its length, which may change."""
    body = reply.body if isinstance(reply.body, bytes) else b"".join(reply.body)
    close(reply)
    reply.headers = {name: value for name, value in reply.headers.items() if name.lower() != "content-length"}
    return body


def order(name: str) -> bytes:
    """Azurite sorts by UTF-16 units, as JavaScript compares."""
    return name.encode("utf-16-be", "surrogatepass")


Handle = Callable[[Request, Place], Reply]


class RecycleBin:
    """An application for the blob front. `forward` passes a request on to Azurite.

    immutable_containers: (account, container) where version-level immutability is on, so that blobs take a legal hold.
    """

    def __init__(self, arm: Arm, azurite: Azurite, forward: Callable[[Request], Reply]) -> None:
        self.arm, self.azurite, self._forward = arm, azurite, forward
        self.immutable_containers: set[tuple[str, str]] = set()
        self._blobs: dict[Place, Kept] = {}
        self._containers: dict[Place, list[KeptContainer]] = {}
        self._holds: set[Place] = set()
        self._lock = threading.Lock()  # never held while ARM's lock or Azurite is waited for
        self._routes: dict[tuple[str, str, str], Handle] = {
            ("PUT", "blob", "undelete"): self._undelete,
            ("PUT", "blob", "legalhold"): self._set_hold,
            ("PUT", "container", "undelete"): self._restore_container,
            ("DELETE", "blob", ""): self._delete,
            ("DELETE", "container", ""): self._delete_container,
            ("POST", "account", "batch"): self._batch,
            ("POST", "container", "batch"): self._batch,
            ("GET", "container", "list"): self._list,
            **{(method, "blob", ""): self._read for method in ("GET", "HEAD")},
            **{("PUT", "blob", comp): self._write for comp in ("", "blocklist", "page", "appendblock")},
        }
        azurite.deleting = self.deleting_container

    def clear(self) -> None:
        """Forgets all that is kept, all holds and which containers take holds."""
        with self._lock:
            for part in (self._blobs, self._containers, self._holds, self.immutable_containers):
                part.clear()

    def __call__(self, request: Request) -> Reply:
        place = Place.of(request.target)
        kind = "blob" if place.blob else "container" if request.query.get("restype") == "container" else "account"
        handle = self._routes.get((request.method, kind, request.query.get("comp", "")))
        return handle(request, place) if handle and place.account in self.arm.keys else self._forward(request)

    # Azurite with the account's key

    def _service(self, account: str) -> Any:
        return self.azurite._service(account, self.arm.keys[account][0])

    def _rows(self, place: Place) -> Iterator[ET.Element]:
        """The listing's rows of one blob, or of a container, with metadata and tags."""
        from azure.storage.blob import generate_account_sas

        until = datetime.now(timezone.utc) + timedelta(hours=1)
        sas = generate_account_sas(place.account, self.arm.keys[place.account][0], "c", "l", until)
        query = {"restype": "container", "comp": "list", "include": "metadata,tags", "prefix": place.blob}
        marker = ""
        while True:
            full = urllib.parse.urlencode({**query, "marker": marker}, quote_via=urllib.parse.quote)
            target = f"/{place.account}/{place.container}?{full}&{sas}"
            reply = self._forward(Request("blob", "GET", target, {"Host": "127.0.0.1", "x-ms-version": VERSION}, b""))
            body = whole(reply)
            page = ET.fromstring(body) if reply.status == 200 else ET.Element("Nothing")  # noqa: S314 - Azurite's
            for row in page.iterfind("Blobs/Blob"):
                if place.blob in ("", row.findtext("Name")):
                    yield row
            marker = page.findtext("NextMarker") or ""
            if not marker or place.blob:
                return

    def _read_blob(self, place: Place, row: ET.Element, days: int) -> Kept:
        from azure.storage.blob import ContentSettings, StandardBlobTier

        client = self._service(place.account).get_blob_client(place.container, row.findtext("Name"))
        download = client.download_blob()
        found = download.properties
        tier = row.findtext("Properties/AccessTier") if row.find("Properties/AccessTierInferred") is None else None
        upload = {
            "blob_type": found.blob_type,
            "metadata": {item.tag: item.text or "" for item in row.iterfind("Metadata/*")} or None,
            "content_settings": ContentSettings(**dict(found.content_settings)),
        }
        tags = {tag.findtext("Key"): tag.findtext("Value") or "" for tag in row.iterfind("Tags/TagSet/Tag")}
        if tags:
            upload["tags"] = tags
        if tier and str(found.blob_type) == "BlobType.BLOCKBLOB":
            upload["standard_blob_tier"] = StandardBlobTier(tier)
        return Kept(row, download.readall(), upload, days)

    def _take(self, place: Place) -> Kept | None:
        """The blob as it is; None where it is not there, or is in the archive and cannot be read."""
        from azure.core.exceptions import AzureError

        policy = self._policy(place.account, "deleteRetentionPolicy")
        row = next(self._rows(place), None) if policy else None
        try:
            return None if row is None else self._read_blob(place, row, policy.get("days", 7))
        except AzureError:
            return None

    def _write_back(self, place: Place, kept: Kept) -> None:
        """Unless there is such a blob again, which then stays."""
        from azure.core.exceptions import ResourceExistsError

        client = self._service(place.account).get_blob_client(place.container, kept.name)
        with contextlib.suppress(ResourceExistsError):
            client.upload_blob(kept.content, overwrite=False, **kept.upload)

    def _policy(self, account: str, name: str) -> Json:
        """The account's setting for what is deleted; empty where that is off."""
        policy: Json = self.arm.services.get(account, {}).get(name) or {}
        return policy if policy.get("enabled") else {}

    # Who may

    def _problem(self, request: Request, place: Place, right: str) -> Reply | None:
        """The refusal of a request that Azurite has no answer for; None if the caller may have it done.

        With a token or a key, Azurite checks first and only then says that it does not know the operation. With a SAS
        it falls over before it has looked at the rights, so the SAS is tried on an operation that it knows.
        """
        if not header(request, "authorization"):
            return self._problem_of_sas(request, place, right)
        reply = self._forward(request)
        if reply.status != 501:
            return reply
        close(reply)
        return None

    def _problem_of_sas(self, request: Request, place: Place, right: str) -> Reply | None:
        """The probe sets metadata under a condition that nothing meets, or of a container that cannot be there."""
        path, _, query = request.target.partition("?")
        if not place.blob:
            path = f"/{place.account}/{secrets.token_hex(16)}"
        kept = [part for part in query.split("&") if part.partition("=")[0].lower() not in ("comp", "restype")]
        kept += ["comp=metadata", *([] if place.blob else ["restype=container"])]
        headers = {"Host": header(request, "host"), "x-ms-version": header(request, "x-ms-version") or VERSION}
        probe = self._forward(
            Request("blob", "PUT", f"{path}?{'&'.join(kept)}", headers | (NEVER if place.blob else {}), b"")
        )
        good = probe.status in (404, 412)
        if right != "w" and probe.headers.get("x-ms-error-code") == "AuthorizationPermissionMismatch":
            good = True  # the signature is, and the probe's own right is not the one that is asked for
        if not good:
            return probe
        close(probe)
        if right in request.query.get("sp", ""):
            return None
        return refused(403, "AuthorizationPermissionMismatch", "The SAS does not permit this operation.")

    # Blobs that are deleted and come back

    def _is_base(self, request: Request) -> bool:
        """Whether a DELETE is of the blob itself and not of snapshots."""
        return "snapshot" not in request.query and header(request, "x-ms-delete-snapshots").lower() != "only"

    def _delete(self, request: Request, place: Place) -> Reply:
        if not self._is_base(request):
            return self._forward(request)
        if place in self._holds:
            return self._held(request)
        kept = self._take(place)
        reply = self._forward(request)
        if kept and reply.status == 202:
            self._keep(place, kept)
            reply.headers["x-ms-delete-type-permanent"] = "false"
        return reply

    def _keep(self, place: Place, kept: Kept) -> None:
        with self._lock:
            self._blobs[place] = kept

    def _deleted(self, account: str, container: str) -> dict[Place, Kept]:
        """What is in the bin and has days left, of one container or with an empty one of all."""
        with self._lock:
            self._blobs = {place: kept for place, kept in self._blobs.items() if kept.days_left > 0}
            return {
                place: kept
                for place, kept in self._blobs.items()
                if place.account == account and container in ("", place.container)
            }

    def _undelete(self, request: Request, place: Place) -> Reply:
        if problem := self._problem(request, place, "w"):
            return problem
        if self._bring_back(place):
            return done(200)
        return refused(404, "BlobNotFound", "The specified blob does not exist.")

    def _bring_back(self, place: Place) -> bool:
        """Whether the blob is there now."""
        if self._service(place.account).get_blob_client(place.container, place.blob).exists():
            return True
        kept = self._deleted(place.account, place.container).get(place)
        if not kept:
            return False
        self._write_back(place, kept)
        with self._lock:
            if self._blobs.get(place) is kept:
                del self._blobs[place]
        return True

    def restore_ranges(self, account: str, body: Json) -> None:
        """What ARM's restore of blob ranges does here: all that is in the bin within them comes back."""
        for place in self._deleted(account, ""):
            name = order(f"{place.container}/{place.blob}")
            for part in body.get("blobRanges") or [{}]:
                start, end = part.get("startRange") or "", part.get("endRange") or ""
                if order(start) <= name and (not end or name < order(end)):
                    self._bring_back(place)

    # A batch

    def _batch(self, request: Request, place: Place) -> Reply:
        """Azurite answers it; of the answer's parts only those that a hold or the bin changes are rewritten."""
        boundary = header(request, "content-type").partition("boundary=")[2].strip('"').encode()
        pieces = request.body.split(b"--" + boundary) if boundary else [request.body]
        kept: dict[str, tuple[Place, Kept]] = {}
        held: set[str] = set()
        for index, piece in enumerate(pieces):
            number, part = self._part(piece)
            if not part or not self._is_base(part):
                continue
            target = Place.of(part.target)
            if target in self._holds:
                held.add(number)
                pieces[index] = self._never(piece)
            elif found := self._take(target):
                kept[number] = target, found
        if not kept and not held:
            return self._forward(request)
        body = (b"--" + boundary).join(pieces)
        reply = self._forward(Request(request.service, request.method, request.target, request.headers, body))
        if reply.status == 202:
            reply.body = self._batch_answer(whole(reply), kept, held)
        return reply

    @staticmethod
    def _part(piece: bytes) -> tuple[str, Request | None]:
        """The Content-ID of a part and the DELETE in it, if that is what it is."""
        text = piece.decode(errors="replace")
        number = re.search(r"^Content-ID:\s*(\S+)", text, re.IGNORECASE | re.MULTILINE)
        line = re.search(r"^DELETE (\S+)", text, re.MULTILINE)
        if not number or not line:
            return "", None
        target = re.sub(r"^https?://[^/]+", "", line[1])
        headers = dict(re.findall(r"^([\w-]+):[ \t]*(.*?)\r?$", text[line.end() :], re.MULTILINE))
        return number[1], Request("blob", "DELETE", target, headers, b"")

    @staticmethod
    def _never(piece: bytes) -> bytes:
        extra = "".join(f"{name}: {value}\r\n" for name, value in NEVER.items()).encode()
        return re.sub(rb"^(DELETE .*\n)", lambda found: found[1] + extra, piece, count=1, flags=re.MULTILINE)

    def _batch_answer(self, body: bytes, kept: dict[str, tuple[Place, Kept]], held: set[str]) -> bytes:
        boundary = body.partition(b"\r\n")[0]
        parts = body.split(boundary)
        for index, part in enumerate(parts):
            number = re.search(rb"^Content-ID:\s*(\S+)", part, re.IGNORECASE | re.MULTILINE)
            status = re.search(rb"^HTTP/1\.1 (\d{3})", part, re.MULTILINE)
            if not number or not status:
                continue
            name = number[1].decode()
            if name in kept and status[1] == b"202":
                self._keep(*kept[name])
                parts[index] = part.replace(b"delete-type-permanent: true", b"delete-type-permanent: false")
            elif name in held and status[1] == b"412":
                parts[index] = self._held_part(part[: status.start()])
        return boundary.join(parts)

    @staticmethod
    def _held_part(head: bytes) -> bytes:
        reply = refused(409, *IMMUTABLE)
        lines = ["HTTP/1.1 409 Conflict", *(f"{name}: {value}" for name, value in reply.headers.items()), "", ""]
        return head + "\r\n".join(lines).encode() + whole(reply) + b"\r\n\r\n"

    # Listings

    def _list(self, request: Request, place: Place) -> Reply:
        """Azurite's page, with what is in the bin sorted into it."""
        include = set(request.query.get("include", "").split(","))
        kept = self._deleted(*place[:2]) if "deleted" in include else {}
        held = {hold.blob for hold in self._holds.copy() if hold[:2] == place[:2]} if "legalhold" in include else set()
        reply = self._forward(request)
        if reply.status != 200 or not (kept or held):
            return reply
        page = ET.fromstring(whole(reply))  # noqa: S314 - Azurite's
        for row in page.iterfind("Blobs/Blob"):
            properties = row.find("Properties")
            if row.findtext("Name") in held and properties is not None:
                ET.SubElement(properties, "LegalHold").text = "true"
        self._merge(
            page, request.query, [item for _, item in sorted(kept.items(), key=lambda pair: order(pair[0].blob))]
        )
        reply.body = ET.tostring(page, encoding="utf-8", xml_declaration=True)
        return reply

    def _merge(self, page: ET.Element, query: dict[str, str], kept: list[Kept]) -> None:
        """Adds the rows that belong between this page's marker and the next one's."""
        rows = page.find("Blobs")
        rows = ET.SubElement(page, "Blobs") if rows is None else rows
        names = {row.findtext("Name") for row in rows}
        marker, following = query.get("marker", ""), page.findtext("NextMarker") or ""
        for item in kept:
            if not item.name.startswith(query.get("prefix", "")) or order(item.name) <= order(marker):
                continue
            if following and order(item.name) > order(following):
                break
            row = self._row(item, query)
            name = row.findtext("Name") or ""
            if name not in names and not (row.tag == "BlobPrefix" and marker.startswith(name)):
                names.add(name)
                rows.append(row)
        rows[:] = sorted(rows, key=lambda row: order(row.findtext("Name") or ""))
        self._cut(page, rows, query)

    @staticmethod
    def _cut(page: ET.Element, rows: ET.Element, query: dict[str, str]) -> None:
        """No more than were asked for; the rest comes after the new marker. Pages of folders are left as they are."""
        limit = int(query.get("maxresults") or 5000)
        if query.get("delimiter") or len(rows) <= limit:
            return
        rows[:] = rows[:limit]
        marker = page.find("NextMarker")
        marker = ET.SubElement(page, "NextMarker") if marker is None else marker
        marker.text = rows[-1].findtext("Name")

    @staticmethod
    def _row(kept: Kept, query: dict[str, str]) -> ET.Element:
        """A listing's row of a blob that is in the bin, or of the folder that it is in."""
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        folder, found, _ = kept.name[len(prefix) :].partition(delimiter) if delimiter else ("", "", "")
        if found:
            row = ET.Element("BlobPrefix")
            ET.SubElement(row, "Name").text = prefix + folder + found
            return row
        row = copy.deepcopy(kept.row)
        for name in ("Metadata", "Tags"):
            extra = row.find(name)
            if extra is not None and name.lower() not in query.get("include", ""):
                row.remove(extra)
        deleted = ET.Element("Deleted")
        deleted.text = "true"
        row.insert(1, deleted)
        properties = row.find("Properties")
        if properties is not None:
            ET.SubElement(properties, "DeletedTime").text = email.utils.format_datetime(kept.deleted, usegmt=True)
            ET.SubElement(properties, "RemainingRetentionDays").text = str(kept.days_left)
        return row

    # Legal holds

    def _set_hold(self, request: Request, place: Place) -> Reply:
        if problem := self._problem(request, place, "i"):
            return problem
        wanted = header(request, "x-ms-legal-hold").lower()
        if wanted not in ("true", "false"):
            return refused(
                400, "InvalidHeaderValue", "The value for one of the HTTP headers is not in the right format."
            )
        if place[:2] not in self.immutable_containers:
            return refused(
                409, "FeatureNotSupportedForAccount", "Version-level immutability is not on for the container."
            )
        if not self._service(place.account).get_blob_client(place.container, place.blob).exists():
            return refused(404, "BlobNotFound", "The specified blob does not exist.")
        with self._lock:
            (self._holds.add if wanted == "true" else self._holds.discard)(place)
        return done(200, **{"x-ms-legal-hold": wanted})

    def _read(self, request: Request, place: Place) -> Reply:
        reply = self._forward(request)
        if place[:2] in self.immutable_containers and reply.status in (200, 206):
            reply.headers["x-ms-legal-hold"] = str(place in self._holds).lower()
        return reply

    def _write(self, request: Request, place: Place) -> Reply:
        return self._held(request) if place in self._holds else self._forward(request)

    def _held(self, request: Request) -> Reply:
        """The refusal of a change, or Azurite's own if the caller may not even ask.

        Azurite is asked under a condition that is not met. A key's signature covers the condition, so there the refusal
        comes at once: it gives nothing away.
        """
        if header(request, "authorization").startswith("SharedKey"):
            return refused(409, *IMMUTABLE)
        headers = {name: value for name, value in request.headers.items() if not name.lower().startswith("if-")}
        reply = self._forward(Request(request.service, request.method, request.target, headers | NEVER, request.body))
        if reply.status != 412:
            return reply
        close(reply)
        return refused(409, *IMMUTABLE)

    # Containers

    @contextlib.contextmanager
    def deleting_container(self, account: str, container: str) -> Iterator[None]:
        """Around ARM's deletion of a container: if it succeeds, what was in it is kept or forgotten."""
        kept = self._take_container(Place(account, container))
        yield
        self._container_is_gone(Place(account, container), kept)

    def _container_is_gone(self, place: Place, kept: KeptContainer | None) -> None:
        with self._lock:
            inside = {key: self._blobs.pop(key) for key in list(self._blobs) if key[:2] == place[:2]}
            self._holds = {key for key in self._holds if key[:2] != place[:2]}
            if kept:
                kept.bin, kept.time = inside, now()
                self._containers.setdefault(place, []).append(kept)

    def _take_container(self, place: Place) -> KeptContainer | None:
        """The container as it is; None where it is not there or nothing is to be kept."""
        from azure.core.exceptions import AzureError, ResourceNotFoundError

        if not self._policy(place.account, "containerDeleteRetentionPolicy"):
            return None
        client = self._service(place.account).get_container_client(place.container)
        try:
            metadata, access = client.get_container_properties().metadata, client.get_container_access_policy()
        except ResourceNotFoundError:
            return None
        policies = {
            "signed_identifiers": {item.id: item.access_policy for item in access["signed_identifiers"]},
            "public_access": access["public_access"],
        }
        found = KeptContainer(dict(metadata or {}), policies, [])
        for row in self._rows(place):
            with contextlib.suppress(AzureError):
                found.blobs.append(self._read_blob(place, row, 0))
        return found

    def _delete_container(self, request: Request, place: Place) -> Reply:
        """ARM lists what the data plane deletes, too. Its lock comes first, as where ARM itself deletes."""
        with self.arm.lock:
            live = containers.live(self.arm, self.arm.accounts[place.account])
            kept = self._take_container(place)
            reply = self._forward(request)
            if reply.status == 202:
                self._container_is_gone(place, kept)
                self._tell_arm(place, next((item for item in live if item["name"] == place.container), None))
        return reply

    def _tell_arm(self, place: Place, item: Json | None) -> None:
        policy = self._policy(place.account, "containerDeleteRetentionPolicy")
        if policy and item:
            item = copy.deepcopy(item)
            item["properties"] |= {
                "deleted": True,
                "deletedTime": now(),
                "remainingRetentionDays": policy["days"],
                "version": secrets.token_hex(8).upper(),
            }
            self.arm.deleted.setdefault(place.account, []).append(item)

    def _restore_container(self, request: Request, place: Place) -> Reply:
        if problem := self._problem(request, place, "w"):
            return problem
        name, version = (
            header(request, "x-ms-deleted-container-name"),
            header(request, "x-ms-deleted-container-version"),
        )
        with self.arm.lock:
            return self._restore(place, name, version)

    def _restore(self, place: Place, name: str, version: str) -> Reply:
        from azure.core.exceptions import ResourceExistsError

        listed = self.arm.deleted.get(place.account, [])
        item = next((i for i in listed if i["name"] == name and i["properties"]["version"] == version), None)
        kept = self._kept_container(Place(place.account, name), item)
        if not item or not kept:
            return refused(404, "ContainerNotFound", "The specified container does not exist.")
        service = self._service(place.account)
        try:
            client = service.create_container(place.container, metadata=kept.metadata or None)
        except ResourceExistsError:
            return refused(409, "ContainerAlreadyExists", "The specified container already exists.")
        client.set_container_access_policy(**kept.policies)
        for blob in kept.blobs:
            self._write_back(place, blob)
        listed.remove(item)
        with self._lock:
            self._containers[Place(place.account, name)].remove(kept)
            self._blobs |= {place._replace(blob=key.blob): blob for key, blob in kept.bin.items()}
        return done(201)

    def _kept_container(self, place: Place, item: Json | None) -> KeptContainer | None:
        """What ARM's entry stands for: the last one kept before ARM wrote the entry, right after the deletion."""
        with self._lock:
            found = [
                kept
                for kept in self._containers.get(place, [])
                if item and kept.time <= item["properties"]["deletedTime"]
            ]
        return max(found, key=lambda kept: kept.time, default=None)
