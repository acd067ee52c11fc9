"""Containers that are deleted and come back.

https://learn.microsoft.com/azure/storage/blobs/soft-delete-container-overview
"""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field

from ..arm import now
from ..front import Reply
from .azurite import CUPBOARD
from .call import Call, Place, Refusal, done, ticks
from .desk import Desk
from .operations import Operation

GONE = "gone-"


@dataclass
class KeptContainer:
    """A deleted container: where Azurite has it, and when it was deleted, as ARM writes times."""

    place: Place
    kept: str
    time: str = ""

    @property
    def live(self) -> Place:
        return Place(GONE + self.place.account, self.kept)

    @property
    def cupboard(self) -> Place:
        return Place(GONE + CUPBOARD + self.place.account, self.kept)


@dataclass
class DeletedContainers:
    """The containers that soft delete keeps."""

    desk: Desk
    _kept: list[KeptContainer] = field(default_factory=list)

    def clear(self) -> None:
        for kept in self._kept:
            for place in (kept.live, kept.cupboard):
                self.desk.azurite.do("dropContainer", account=place.account, container=place.container)
        self._kept.clear()

    def names(self, account: str) -> set[str]:
        return {kept.place.container for kept in self._kept if kept.place.account == account}

    @contextlib.contextmanager
    def deleting(self, account: str, container: str) -> Iterator[None]:
        """Around the deletion of a container: if it succeeds, what was in it is kept or forgotten."""
        place = Place(account, container)
        with self.desk.history.lock:
            kept = self._take(place)
            try:
                yield
            except BaseException:
                if kept:
                    self._drop(kept.live)
                raise
            self._is_gone(place, kept)

    def _take(self, place: Place) -> KeptContainer | None:
        if not self.desk.accounts.setting(place.account, "containerDeleteRetentionPolicy"):
            return None
        kept = KeptContainer(place, ticks(self.desk.history.moment()))
        return kept if self._copy(place, kept.live) else None

    def _copy(self, place: Place, target: Place) -> bool:
        words = {"account": place.account, "container": place.container}
        found = self.desk.azurite.do("copyContainer", **words, toAccount=target.account, toContainer=target.container)
        return bool(found["found"])

    def _drop(self, place: Place) -> None:
        self.desk.azurite.do("dropContainer", account=place.account, container=place.container)

    def _is_gone(self, place: Place, kept: KeptContainer | None) -> None:
        cupboard = place._replace(account=CUPBOARD + place.account)
        if kept:
            self._copy(cupboard, kept.cupboard)
            self.desk.history.move_container(place, kept.live)
            kept.time = now()
            self._kept.append(kept)
        else:
            for old in self.desk.history.of_container(place):
                self.desk.history.drop(old)
            self.desk.history.forget(place)
        self._drop(cupboard)

    # Requests

    def delete(self, desk: Desk, call: Call, operation: Operation) -> Reply:
        """ARM lists what the data plane deletes, too. Its lock comes first, as where ARM itself deletes."""
        place = call.place
        with desk.accounts.lock():
            self._check(place)
            item = desk.accounts.live_container(place.account, place.container)
            with contextlib.suppress(NotDone), self.deleting(*place[:2]):
                reply = desk.azurite.pass_on(call)
                if reply.status != 202:
                    raise NotDone
            if reply.status == 202:
                desk.accounts.container_was_deleted(place.account, item)
        return reply

    def _check(self, place: Place) -> None:
        """Refusal for a container that a hold or a policy keeps."""
        held = self.desk.accounts.held_container(*place[:2])
        if held or self.desk.accounts.container_policy(*place[:2]):
            text = "The container is protected from deletion due to an immutability policy or legal hold."
            raise Refusal(409, "ContainerProtectedFromDeletion", text)

    def restore(self, desk: Desk, call: Call, operation: Operation) -> Reply:
        name, version = call.header("x-ms-deleted-container-name"), call.header("x-ms-deleted-container-version")
        place = call.place
        with desk.accounts.lock(), desk.history.lock:
            listed = desk.accounts.deleted_containers(place.account)
            items = (i for i in listed if i["name"] == name and i["properties"]["version"] == version)
            item = next(items, None)
            kept = self._kept_as(Place(place.account, name), str(item["properties"]["deletedTime"])) if item else None
            if not item or not kept:
                raise Refusal(404, "ContainerNotFound", "The specified container does not exist.")
            if desk.accounts.live_container(place.account, place.container):
                raise Refusal(409, "ContainerAlreadyExists", "The specified container already exists.")
            self._bring_back(kept, place)
            listed.remove(item)
        return done(201)

    def _kept_as(self, place: Place, deleted: str) -> KeptContainer | None:
        """What ARM's entry stands for: the last one kept before ARM wrote the entry, right after the deletion."""
        found = [kept for kept in self._kept if kept.place == place and kept.time <= deleted]
        return max(found, key=lambda kept: kept.time, default=None)

    def _bring_back(self, kept: KeptContainer, place: Place) -> None:
        self._copy(kept.live, place)
        self._copy(kept.cupboard, place._replace(account=CUPBOARD + place.account))
        self.desk.history.move_container(kept.live, place)
        for old in (kept.live, kept.cupboard):
            self._drop(old)
        self._kept.remove(kept)


class NotDone(Exception):
    """Azurite refused a deletion."""
