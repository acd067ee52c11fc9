"""Listings of blobs: Azurite's rows, with the versions and soft-deleted blobs among them, a page at a time.

https://learn.microsoft.com/rest/api/storageservices/list-blobs
"""

import base64
import copy
import json
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from dataclasses import dataclass

from ..front import Reply
from . import tiers
from .azurite import CUPBOARD
from .call import Call, Place, Refusal, bad_query, http_date, whole
from .desk import Desk
from .history import BLOB, SNAPSHOT, VERSION, Kept, Protection
from .operations import Operation

MOST_ROWS = 5000
INCLUDE = frozenset(
    (
        *("copy", "deleted", "metadata", "snapshots", "uncommittedblobs", "versions", "tags", "immutabilitypolicy"),
        *("legalhold", "deletedwithversions", "permissions"),
    )
)
KNOWN_TO_AZURITE = ("copy", "metadata", "snapshots", "uncommittedblobs", "tags")
OWN_MARKER = "2!"
COPY_FACTS = ("CopyId", "CopyStatus", "CopySource", "CopyProgress", "CopyCompletionTime", "IncrementalCopy")
LAST = "~"  # after every time: the blob itself comes after its snapshots and versions
# The elements that stand between a row's name and its properties, in their order.
HEAD = ("Name", "Snapshot", "VersionId", "IsCurrentVersion", "Deleted", "HasVersionsOnly", "DeletionId")


@dataclass
class Wanted:
    """What a listing asks for."""

    include: frozenset[str]
    prefix: str
    delimiter: str
    marker: str
    size: int
    only_deleted: bool

    def shows(self, kept: Kept) -> bool:
        deleted = bool(self.include & {"deleted", "deletedwithversions"}) or self.only_deleted
        if self.only_deleted and not kept.deleted:
            return False
        if kept.kind == VERSION:
            return "versions" in self.include and (deleted or not kept.deleted)
        return deleted and (kept.kind == BLOB or "snapshots" in self.include)


def read_wanted(call: Call) -> Wanted:
    include = frozenset(word.strip().lower() for word in call.query.get("include", "").split(",") if word.strip())
    if include - INCLUDE:
        raise bad_query("include", call.query["include"])
    if include >= {"versions", "snapshots"} and call.version < "2019-12-12":
        raise bad_query("include", call.query["include"])
    text = call.query.get("maxresults") or str(MOST_ROWS)
    if not text.isdigit() or int(text) < 1:
        message = "One of the query parameters specified in the request URI is outside the permissible range."
        raise Refusal(400, "OutOfRangeQueryParameterValue", message, QueryParameterName="maxresults")
    prefix, delimiter, marker = (call.query.get(name, "") for name in ("prefix", "delimiter", "marker"))
    only = call.query.get("showonly", "").lower() == "deleted"
    return Wanted(include, prefix, delimiter, marker, min(int(text), MOST_ROWS), only)


def list_blobs(desk: Desk, call: Call, operation: Operation) -> Reply:
    wanted, box = read_wanted(call), call.place.box
    for place in desk.history.rehydrating(box):
        tiers.bring_on(desk, place, call.time)
    kept = [item for item in desk.history.of_container(box) if wanted.shows(item)]
    # Azurite loses snapshots of one name that fall on two pages.
    own = bool(wanted.include & {"deletedwithversions", "snapshots"}) or wanted.only_deleted
    own = own or wanted.marker.startswith(OWN_MARKER)
    hierarchical = desk.accounts.is_hierarchical(box.account)
    known = [word for word in KNOWN_TO_AZURITE if word in wanted.include or (hierarchical and word == "metadata")]
    words = {"include": ",".join(known), "maxresults": str(wanted.size)}
    if kept or own:
        words |= {"maxresults": "1", "marker": ""}
    reply = desk.azurite.pass_on(call, None, words)
    if reply.status != 200:
        return reply
    page = ET.fromstring(whole(reply))  # noqa: S314 - Azurite's
    if kept or own:
        fill(page, Rows(desk, wanted, box).all(kept), wanted)
    blobs = part(page, "Blobs")
    blobs[:] = sorted(blobs, key=position)
    for row in blobs.iterfind("Blob"):
        complete(desk, box, row, wanted)
    page.set("ServiceEndpoint", desk.azurite.endpoint(box.account))
    reply.body = ET.tostring(page, encoding="utf-8", xml_declaration=True)
    return reply


@dataclass
class Rows:
    """The rows of a container, those of Azurite's and those of the history."""

    desk: Desk
    wanted: Wanted
    box: Place

    def all(self, kept: list[Kept]) -> list[ET.Element]:
        where = self.box._replace(blob=self.wanted.prefix)
        snapshots = "snapshots" in self.wanted.include
        uncommitted = ",uncommittedblobs" if "uncommittedblobs" in self.wanted.include else ""
        include = "metadata,tags,copy" + (",snapshots" if snapshots else "") + uncommitted
        live = [] if self.wanted.only_deleted else list(self.desk.azurite.rows(where, include=include))
        stored = self._stored(where)
        former = [former_row(item, stored[name]) for item in kept if (name := (item.place.blob, item.key)) in stored]
        only = self._versions_only(live, stored) if "deletedwithversions" in self.wanted.include else []
        return sorted([*live, *former, *only], key=position)

    def _stored(self, where: Place) -> dict[tuple[str, str], ET.Element]:
        """The rows of what is in the cupboard, by name and key."""
        found = self.desk.azurite.rows(where, CUPBOARD + where.account)
        return {(row.findtext("Name") or "", row.findtext("Snapshot") or ""): row for row in found}

    def _versions_only(self, live: list[ET.Element], stored: dict[tuple[str, str], ET.Element]) -> list[ET.Element]:
        """A row for each blob that is gone and has versions, with what is known of the newest."""
        there = {row.findtext("Name") for row in live}
        newest: dict[str, ET.Element] = {}
        for kept in sorted(self.desk.history.of_container(self.box), key=lambda kept: kept.key):
            name = kept.place.blob, kept.key
            if kept.kind == VERSION and name[0] not in there and name in stored:
                newest[name[0]] = row = copy.deepcopy(stored[name])
                row[:] = [child for child in row if child.tag != "Snapshot"]
                put(row, "HasVersionsOnly", "true")
        return list(newest.values())


def former_row(kept: Kept, stored: ET.Element) -> ET.Element:
    row = copy.deepcopy(stored)
    for name in ("Snapshot", "Deleted"):
        for old in row.findall(name):
            row.remove(old)
    properties = row.find("Properties")
    facts = {
        "Snapshot": kept.snapshot if kept.kind == SNAPSHOT else "",
        "VersionId": kept.key if kept.kind == VERSION else "",
    }
    if kept.deleted and properties is not None:
        facts["Deleted"] = "true"
        ET.SubElement(properties, "DeletedTime").text = http_date(kept.deleted)
        ET.SubElement(properties, "RemainingRetentionDays").text = str(kept.days_left)
    if properties is not None:
        for name in ("LeaseStatus", "LeaseState"):
            for old in properties.findall(name):
                properties.remove(old)
        if kept.key_sha256:
            ET.SubElement(properties, "CustomerProvidedKeySha256").text = kept.key_sha256
    row.set("deletion", kept.deletion)
    for name, text in facts.items():
        if text:
            put(row, name, text)
    return row


def put(row: ET.Element, name: str, text: str) -> None:
    """Adds an element to the head of a row, in its place."""
    element = ET.Element(name)
    element.text = text
    before = sum(1 for child in row if child.tag in HEAD and HEAD.index(child.tag) < HEAD.index(name))
    row.insert(before, element)


def position(row: ET.Element) -> tuple[bytes, str]:
    """Azurite sorts by UTF-16 units, as JavaScript compares."""
    name = (row.findtext("Name") or "").encode("utf-16-be", "surrogatepass")
    return name, row.findtext("VersionId") or row.findtext("Snapshot") or LAST


# Pages


def fill(page: ET.Element, rows: list[ET.Element], wanted: Wanted) -> None:
    """Puts the rows of this page into it, folders where there is a delimiter, and the marker of the next."""
    after = read_marker(wanted.marker)
    folded = [row for row in fold(rows, wanted) if position(row) > after]
    shown, rest = folded[: wanted.size], folded[wanted.size :]
    blobs, marker, size = (part(page, name) for name in ("Blobs", "NextMarker", "MaxResults"))
    size.text = str(wanted.size)
    blobs[:] = shown
    marker.text = write_marker(shown[-1]) if rest else None


def part(page: ET.Element, name: str) -> ET.Element:
    found = page.find(name)
    return ET.SubElement(page, name) if found is None else found


def fold(rows: Iterable[ET.Element], wanted: Wanted) -> list[ET.Element]:
    if not wanted.delimiter:
        return list(rows)
    folders: dict[str, ET.Element] = {}
    found = []
    for row in rows:
        name = row.findtext("Name") or ""
        inner, mark, _ = name[len(wanted.prefix) :].partition(wanted.delimiter)
        if not mark:
            found.append(row)
            continue
        folder = wanted.prefix + inner + mark
        if folder not in folders:
            folders[folder] = ET.Element("BlobPrefix")
            ET.SubElement(folders[folder], "Name").text = folder
    return sorted([*found, *folders.values()], key=position)


def write_marker(row: ET.Element) -> str:
    name, moment = position(row)
    text = json.dumps([name.hex(), moment])
    return OWN_MARKER + base64.urlsafe_b64encode(text.encode()).decode()


def read_marker(marker: str) -> tuple[bytes, str]:
    if not marker:
        return b"", ""
    if not marker.startswith(OWN_MARKER):
        return marker.encode("utf-16-be", "surrogatepass"), LAST
    try:
        name, moment = json.loads(base64.urlsafe_b64decode(marker[len(OWN_MARKER) :]))
        return bytes.fromhex(name), str(moment)
    except ValueError:
        raise bad_query("marker", marker) from None


# Rows


def complete(desk: Desk, box: Place, row: ET.Element, wanted: Wanted) -> None:
    """What Azurite does not tell of a row, and nothing that was not asked for."""
    properties = row.find("Properties")
    deletion = row.attrib.pop("deletion", "")
    if properties is None:
        return
    if row.find("HasVersionsOnly") is not None:
        leave_out(row, properties, wanted)
        return
    place = box._replace(blob=row.findtext("Name") or "")
    if desk.accounts.is_hierarchical(box.account):
        folder = (row.findtext("Metadata/hdi_isfolder") or "").lower() == "true"
        ET.SubElement(properties, "ResourceType").text = "directory" if folder else "file"
        if row.find("Deleted") is not None:
            put(row, "DeletionId", deletion)
    if all(row.find(name) is None for name in ("Snapshot", "VersionId", "Deleted")):
        complete_current(desk, place, row, properties, wanted)
    else:
        complete_former(desk, place, row, properties, wanted)
    leave_out(row, properties, wanted)
    source = properties.find("CopySource")
    if source is not None:
        source.text = desk.copy_sources.get(place, source.text)


def leave_out(row: ET.Element, properties: ET.Element, wanted: Wanted) -> None:
    for name in ("Metadata", "Tags"):
        extra = row.find(name)
        if extra is not None and name.lower() not in wanted.include:
            row.remove(extra)
    if "copy" in wanted.include:
        return
    for name in COPY_FACTS:
        for old in properties.findall(name):
            properties.remove(old)


def complete_current(desk: Desk, place: Place, row: ET.Element, properties: ET.Element, wanted: Wanted) -> None:
    current = desk.history.known(place)
    if "versions" in wanted.include and current.version:
        put(row, "VersionId", current.version)
        put(row, "IsCurrentVersion", "true")
    if current.key_sha256:
        ET.SubElement(properties, "CustomerProvidedKeySha256").text = current.key_sha256
    for name, text in tiers.status(desk, place).items():
        ET.SubElement(properties, name).text = text
    if desk.accounts.setting(place.account, "lastAccessTimeTrackingPolicy") and current.read:
        ET.SubElement(properties, "LastAccessTime").text = http_date(current.read)
    complete_protection(properties, current.protection, wanted)


def complete_former(desk: Desk, place: Place, row: ET.Element, properties: ET.Element, wanted: Wanted) -> None:
    kept = desk.history.version(place, row.findtext("VersionId") or "")
    if kept:
        complete_protection(properties, kept.protection, wanted)


def complete_protection(properties: ET.Element, known: Protection, wanted: Wanted) -> None:
    if "legalhold" in wanted.include and known.legal_hold:
        ET.SubElement(properties, "LegalHold").text = "true"
    if "immutabilitypolicy" in wanted.include and known.until:
        ET.SubElement(properties, "ImmutabilityPolicyUntilDate").text = http_date(known.until)
        ET.SubElement(properties, "ImmutabilityPolicyMode").text = known.mode
