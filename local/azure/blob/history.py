"""What was replaced or deleted and is still there: versions, soft-deleted blobs and soft-deleted snapshots.

The blobs themselves lie in Azurite's cupboard (azurite.mjs); here is what the service knows of them.
"""

import math
import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone

from .. import times
from .azurite import CUPBOARD, Azurite
from .call import Place

LONG_AGO = datetime.fromtimestamp(0, timezone.utc)  # of blobs that were not seen being written
VERSION, BLOB, SNAPSHOT = "version", "blob", "snapshot"


@dataclass
class Protection:
    """What keeps one version of a blob from being changed. mode: Unlocked or Locked, where there is a time."""

    legal_hold: bool = False
    until: datetime | None = None
    mode: str = ""

    def holds(self, now: datetime) -> bool:
        return self.legal_hold or bool(self.until and now < self.until)


@dataclass
class Kept:
    """One blob of former times.

    key: where it lies in the cupboard, which is the version's id for a version. snapshot: the time it is known by as a
    snapshot. written, ended: between these it was the blob that everybody saw. deleted: since when it is soft-deleted,
    for `days`. deletion: the DeletionId of hierarchical accounts.
    """

    place: Place
    key: str
    kind: str
    written: datetime
    ended: datetime
    snapshot: str = ""
    deleted: datetime | None = None
    days: int = 0
    protection: Protection = field(default_factory=Protection)
    key_sha256: str = ""
    blob_type: str = "BlockBlob"
    deletion: str = field(default_factory=lambda: str(uuid.uuid4().int)[:18])

    @property
    def cupboard(self) -> Place:
        return self.place._replace(account=CUPBOARD + self.place.account)

    @property
    def days_left(self) -> int:
        if not self.deleted:
            return 0
        left = self.deleted + timedelta(days=self.days) - datetime.now(timezone.utc)
        return math.ceil(left.total_seconds() / 86400)

    def delete(self, now: datetime, days: int) -> None:
        self.deleted, self.days = now, days


@dataclass
class Rehydration:
    """A blob on its way out of the archive tier: where to, how fast, and when it is there."""

    tier: str
    priority: str
    due: datetime


@dataclass
class Current:
    """What the service knows of the blob that everybody sees."""

    written: datetime
    version: str = ""
    protection: Protection = field(default_factory=Protection)
    key_sha256: str = ""
    read: datetime | None = None
    rehydration: Rehydration | None = None


class History:
    """All that is kept. `lock` is held around everything that changes a blob."""

    def __init__(self, azurite: Azurite) -> None:
        self.azurite = azurite
        self.lock = threading.RLock()
        self._kept: dict[Place, list[Kept]] = {}
        self._current: dict[Place, Current] = {}
        self._last = datetime.now(timezone.utc)

    def clear(self) -> None:
        with self.lock:
            for kept in [kept for items in self._kept.values() for kept in items]:
                self.drop(kept)
            self._kept.clear()
            self._current.clear()

    def moment(self) -> datetime:
        """Now, and later than every moment given out before, so that it can name a version."""
        with self.lock:
            self._last = max(datetime.now(timezone.utc), self._last + timedelta(microseconds=1))
            return self._last

    def age(self, by: timedelta) -> None:
        """All that has happened to blobs happened so much earlier."""
        with self.lock:
            for current in self._current.values():
                current.written -= by
                current.version = times.written(current.written) if current.version else ""
                if current.rehydration:
                    current.rehydration.due -= by
            for kept in [kept for items in self._kept.values() for kept in items]:
                kept.written, kept.ended = kept.written - by, kept.ended - by
                kept.deleted = kept.deleted - by if kept.deleted else None

    # The blob that everybody sees

    def current(self, place: Place) -> Current:
        """What is known of a blob that is there."""
        with self.lock:
            if place not in self._current:
                self._current[place] = Current(LONG_AGO)
            return self._current[place]

    def known(self, place: Place) -> Current:
        """As `current`, for whoever only reads it."""
        return self._current.get(place) or Current(LONG_AGO)

    def written(self, place: Place, versioned: bool) -> Current:
        """Notes that a blob has been written; in a versioned account, that made a version."""
        now = self.moment()
        with self.lock:
            self._current[place] = Current(now, times.written(now) if versioned else "")
            return self._current[place]

    def gone(self, place: Place) -> None:
        with self.lock:
            self._current.pop(place, None)

    def rehydrating(self, container: Place) -> list[Place]:
        """The blobs of a container that are on their way out of the archive tier."""
        with self.lock:
            return [place for place, known in self._current.items() if known.rehydration and place.box == container]

    def forget(self, container: Place) -> None:
        """Nothing is known of the blobs of a container any more."""
        with self.lock:
            for place in [place for place in self._current if place.box == container]:
                del self._current[place]

    # What is kept

    def take(self, place: Place, snapshot: str = "") -> Kept | None:
        """A copy of a blob or snapshot as it is, which the caller shelves or drops; None if it is not there."""
        now = self.moment()
        known = self._current.get(place)
        key = known.version if known and known.version and not snapshot else times.written(now)
        found = self.azurite.do("keep", **place._asdict(), snapshot=snapshot, key=key)
        if not found["found"]:
            return None
        modified = datetime.fromisoformat(found["lastModified"].replace("Z", "+00:00"))
        kept = Kept(place, key, SNAPSHOT if snapshot else BLOB, modified, now, snapshot)
        kept.blob_type = found["blobType"]
        if known and not snapshot:
            kept.written = known.written if known.written > LONG_AGO else modified
            kept.protection, kept.key_sha256 = known.protection, known.key_sha256
        return kept

    def shelve(self, kept: Kept) -> None:
        with self.lock:
            self._kept.setdefault(kept.place, []).append(kept)

    def drop(self, kept: Kept | None) -> None:
        """Forgets it for good."""
        if not kept:
            return
        self.azurite.do("drop", **kept.place._asdict(), key=kept.key)
        with self.lock:
            items = self._kept.get(kept.place, [])
            items[:] = [item for item in items if item is not kept]

    def bring_back(self, kept: Kept, snapshot: str = "") -> None:
        """It is again what it was; as a snapshot of the blob where one is named."""
        self.azurite.do("bring", **kept.place._asdict(), snapshot=snapshot, key=kept.key)

    def of(self, place: Place) -> list[Kept]:
        """What is kept of a blob, oldest first."""
        return sorted(self._living(lambda other: other == place), key=lambda kept: kept.key)

    def of_container(self, place: Place) -> list[Kept]:
        return list(self._living(lambda other: other.box == place.box))

    def of_account(self, account: str) -> list[Kept]:
        return list(self._living(lambda other: other.account == account))

    def versions(self, place: Place) -> list[Kept]:
        return [kept for kept in self.of(place) if kept.kind == VERSION]

    def version(self, place: Place, key: str) -> Kept | None:
        return next((kept for kept in self.versions(place) if same_moment(kept.key, key)), None)

    def snapshot(self, place: Place, moment: str) -> Kept | None:
        """A soft-deleted snapshot."""
        found = (kept for kept in self.of(place) if kept.kind == SNAPSHOT and same_moment(kept.snapshot, moment))
        return next(found, None)

    def _living(self, wanted: Callable[[Place], bool]) -> Iterator[Kept]:
        with self.lock:
            found = [kept for place, items in self._kept.items() if wanted(place) for kept in items]
            for kept in found:
                if kept.deleted and kept.days_left <= 0:
                    self.drop(kept)
        return iter([kept for kept in found if not kept.deleted or kept.days_left > 0])

    def move_container(self, place: Place, target: Place) -> None:
        """What is known of the blobs of one container belongs to another from now on."""
        with self.lock:
            for known in (self._kept, self._current):
                for old in [old for old in known if old.box == place]:
                    known[target._replace(blob=old.blob)] = known.pop(old)  # type: ignore[assignment]
            for items in self._kept.values():
                for kept in items:
                    if kept.place.box == place:
                        kept.place = target._replace(blob=kept.place.blob)


def same_moment(one: str, other: str) -> bool:
    try:
        return times.moment(one) == times.moment(other)
    except ValueError:
        return False
