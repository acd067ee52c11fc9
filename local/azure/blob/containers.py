"""Containers that are deleted and come back.

https://learn.microsoft.com/azure/storage/blobs/soft-delete-container-overview
"""

import contextlib
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass, field

from .. import times
from ..front import Reply
from .azurite import CUPBOARD
from .call import Call, Place, Refusal, done, http_date, whole
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
        kept = KeptContainer(place, times.written(self.desk.history.moment()))
        return kept if self._copy(place, kept.live) else None

    def _copy(self, place: Place, target: Place) -> bool:
        words = {"account": place.account, "container": place.container}
        found = self.desk.azurite.do("copyContainer", **words, toAccount=target.account, toContainer=target.container)
        return bool(found["found"])

    def _drop(self, place: Place) -> None:
        self.desk.azurite.do("dropContainer", account=place.account, container=place.container)

    def _is_gone(self, place: Place, kept: KeptContainer | None) -> None:
        self.desk.pending.forget(place)
        cupboard = place._replace(account=CUPBOARD + place.account)
        if kept:
            self._copy(cupboard, kept.cupboard)
            self.desk.history.move_container(place, kept.live)
            kept.time = times.now()
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


# What Azurite does not refuse or tell


def set_access(desk: Desk, call: Call, operation: Operation) -> Reply:
    """A container is not made public where the account forbids that."""
    if call.header("x-ms-blob-public-access") and not desk.accounts.permits_public(call.place.account):
        text = "Public access is not permitted on this storage account."
        raise Refusal(409, "PublicAccessNotPermitted", text)
    return desk.azurite.pass_on(call)


def properties(desk: Desk, call: Call, operation: Operation) -> Reply:
    reply = desk.azurite.pass_on(call)
    if reply.status == 200:
        facts = protection(desk, call.place)
        known = {f"x-ms-{name}" for name in facts}
        reply.headers = {name: value for name, value in reply.headers.items() if name.lower() not in known}
        reply.headers |= {f"x-ms-{name}": value for name, value in facts.items()}
    return reply


def protection(desk: Desk, place: Place) -> dict[str, str]:
    facts = {
        "has-legal-hold": desk.accounts.held_container(*place[:2]),
        "has-immutability-policy": bool(desk.accounts.container_policy(*place[:2])),
        "immutable-storage-with-versioning-enabled": desk.protects_versions(place),
    }
    return {name: str(value).lower() for name, value in facts.items()}


def list_containers(desk: Desk, call: Call, operation: Operation) -> Reply:
    """Azurite's page, with the deleted containers of its span among them where they are asked for."""
    reply = desk.azurite.pass_on(
        call, None, {"include": "metadata", "maxresults": call.query.get("maxresults", "5000")}
    )
    if reply.status != 200:
        return reply
    include = {word.strip().lower() for word in call.query.get("include", "").split(",")}
    page = ET.fromstring(whole(reply))  # noqa: S314 - Azurite's
    listed = page.find("Containers")
    if listed is not None:
        for row in listed:
            complete(desk, call.place.account, row, include)
        if "deleted" in include:
            listed.extend(deleted_rows(desk, call, page.findtext("NextMarker") or ""))
            listed[:] = sorted(listed, key=lambda row: row.findtext("Name") or "")
    page.set("ServiceEndpoint", desk.azurite.endpoint(call.place.account))
    reply.body = ET.tostring(page, encoding="utf-8", xml_declaration=True)
    return reply


def complete(desk: Desk, account: str, row: ET.Element, include: set[str]) -> None:
    facts, metadata = row.find("Properties"), row.find("Metadata")
    if metadata is not None and "metadata" not in include:
        row.remove(metadata)
    if facts is None:
        return
    for name, value in protection(desk, Place(account, row.findtext("Name") or "")).items():
        tag = "".join(word.capitalize() for word in name.split("-"))
        for old in facts.findall(tag):
            facts.remove(old)
        ET.SubElement(facts, tag).text = value


def deleted_rows(desk: Desk, call: Call, following: str) -> list[ET.Element]:
    rows = []
    for item in desk.accounts.deleted_containers(call.place.account):
        name, known = item["name"], item["properties"]
        after = name > call.query.get("marker", "") and (not following or name <= following)
        if not after or not name.startswith(call.query.get("prefix", "")):
            continue
        row = ET.Element("Container")
        for tag, text in (("Name", name), ("Deleted", "true"), ("Version", known["version"])):
            ET.SubElement(row, tag).text = text
        facts = ET.SubElement(row, "Properties")
        deleted = http_date(times.moment(known["deletedTime"]))
        known_times = {"Last-Modified": deleted, "Etag": item["etag"].strip('"'), "DeletedTime": deleted}
        for tag, text in {**known_times, "RemainingRetentionDays": str(known["remainingRetentionDays"])}.items():
            ET.SubElement(facts, tag).text = text
        rows.append(row)
    return rows
