"""Point-in-time restore: the block blobs of some ranges are set back to what they were.

https://learn.microsoft.com/azure/storage/blobs/point-in-time-restore-overview
"""

from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime

from ..arm import Json
from .call import Place
from .containers import DeletedContainers
from .desk import Desk
from .history import BLOB, LONG_AGO, VERSION, Kept
from .sas import read_time
from .writes import settle

BLOCK = "BlockBlob"


class NotRestored(Exception):
    """Why a restore failed as a whole."""


@dataclass(frozen=True)
class Range:
    """Names of the form container/blob from `start` on and before `end`; without an end, all that follow."""

    start: str
    end: str

    def __contains__(self, place: Place) -> bool:
        name = order(f"{place.container}/{place.blob}")
        return order(self.start) <= name and (not self.end or name < order(self.end))


def order(name: str) -> bytes:
    return name.encode("utf-16-be", "surrogatepass")


def restore_ranges(desk: Desk, deleted: DeletedContainers, account: str, body: Json) -> None:
    """What ARM's restoreBlobRanges asks for. NotRestored leaves everything as it was."""
    moment = read_time(str(body.get("timeToRestore")))
    ranges = [Range(str(r.get("startRange") or ""), str(r.get("endRange") or "")) for r in body.get("blobRanges") or []]
    with desk.history.lock:
        check_containers(deleted, account, ranges)
        places = [place for place in known_places(desk, account) if any(place in one for one in ranges)]
        check_leases(desk, places)
        for place in places:
            set_back(desk, place, moment)


def check_containers(deleted: DeletedContainers, account: str, ranges: list[Range]) -> None:
    """A range that names a deleted container cannot be restored; one that spans it leaves it alone."""
    gone = deleted.names(account)
    for one in ranges:
        container = one.start.partition("/")[0]
        if container in gone and not deleted.desk.azurite.has_container(Place(account, container)):
            raise NotRestored(f"The container {container} of a range has been deleted.")


def known_places(desk: Desk, account: str) -> list[Place]:
    """Every block blob that is or was in the containers that are there."""
    found: dict[Place, None] = {}
    for container in desk.azurite.container_names(account):
        box = Place(account, container)
        for row in desk.azurite.rows(box, include="metadata"):
            if row.findtext("Properties/BlobType") == BLOCK:
                found[box._replace(blob=row.findtext("Name") or "")] = None
        for kept in desk.history.of_container(box):
            if kept.kind in (VERSION, BLOB) and kept.blob_type == BLOCK:
                found[kept.place] = None
    return list(found)


def check_leases(desk: Desk, places: list[Place]) -> None:
    for place in places:
        facts = desk.azurite.facts(place)
        if facts and facts.get("x-ms-lease-status") == "locked":
            raise NotRestored(f"The blob {place.container}/{place.blob} has a lease.")


def set_back(desk: Desk, place: Place, moment: datetime) -> None:
    facts = desk.azurite.facts(place)
    if facts and since(desk, place, facts) <= moment:
        return
    former = next((kept for kept in reversed(desk.history.of(place)) if was_current(kept, moment)), None)
    if not former and not facts:
        return
    versioned = desk.is_versioned(place)
    taken = desk.history.take(place) if facts else None
    settle(desk, place, taken, versioned)
    if former:
        desk.history.bring_back(former)
        desk.history.written(place, versioned)
    else:
        desk.azurite.do("remove", **place._asdict())
        desk.history.gone(place)


def since(desk: Desk, place: Place, facts: dict[str, str]) -> datetime:
    """Since when the blob is what it is."""
    written = desk.history.current(place).written
    return written if written > LONG_AGO else parsedate_to_datetime(facts["last-modified"])


def was_current(kept: Kept, moment: datetime) -> bool:
    return kept.kind in (VERSION, BLOB) and kept.written <= moment < kept.ended
