"""Accounts with a hierarchical namespace: directories are entries, and a deletion has an id.

https://learn.microsoft.com/azure/storage/blobs/data-lake-storage-namespace
"""

import urllib.parse

from ..front import Reply
from .call import Call, Place, Refusal, bad_header, done, no_blob, whole
from .desk import Desk
from .history import BLOB
from .operations import REPLACES, Operation
from .writes import delete as delete_blob
from .writes import write as write_blob

FOLDER = "x-ms-meta-hdi_isfolder"


def is_folder(facts: dict[str, str]) -> bool:
    return facts.get(FOLDER, "").lower() == "true"


def write(desk: Desk, call: Call, operation: Operation) -> Reply:
    """The directories above what is written come into being."""
    if call.header("x-ms-tags"):
        raise bad_header("x-ms-tags", call.header("x-ms-tags"))
    there = desk.azurite.facts(call.place)
    if operation.name in REPLACES and there and is_folder(there) and call.header(FOLDER).lower() != "true":
        text = "The specified resource type is not the type of the resource that is there."
        raise Refusal(409, "ResourceTypeMismatch", text)
    reply = write_blob(desk, call, operation)
    if reply.status < 300:
        make_parents(desk, call.place)
    return reply


def make_parents(desk: Desk, place: Place) -> None:
    parts = place.blob.split("/")[:-1]
    for depth in range(1, len(parts) + 1):
        folder = place._replace(blob="/".join(parts[:depth]))
        if not desk.azurite.facts(folder):
            headers = {"x-ms-blob-type": "BlockBlob", FOLDER: "true"}
            whole(desk.azurite.ask("PUT", folder, {}, headers))


def delete(desk: Desk, call: Call, operation: Operation) -> Reply:
    facts = desk.azurite.facts(call.place)
    if facts and is_folder(facts):
        inside = call.place._replace(blob=call.place.blob + "/")
        if next(desk.azurite.rows(inside, maxresults="1"), None) is not None:
            text = "This operation is not permitted on a non-empty directory."
            raise Refusal(409, "DirectoryIsNotEmpty", text)
    reply = delete_blob(desk, call, operation)
    if reply.headers.get("x-ms-delete-type-permanent") == "false":
        kept = [item for item in desk.history.of(call.place) if item.deleted]
        reply.headers["x-ms-deletion-id"] = kept[-1].deletion
    return reply


def undelete(desk: Desk, call: Call, operation: Operation) -> Reply:
    """Brings back the one deleted generation that x-ms-undelete-source names."""
    given = call.header("x-ms-undelete-source")
    path, _, query = given.partition("?")
    wanted = dict(urllib.parse.parse_qsl(query)).get("deletionid", "")
    if not wanted:
        raise bad_header("x-ms-undelete-source", given)
    source = call.place._replace(blob=urllib.parse.unquote(path))
    with desk.history.lock:
        found = (item for item in desk.history.of(source) if item.kind == BLOB and item.deletion == wanted)
        kept = next(found, None)
        if not kept:
            raise no_blob()
        if desk.azurite.facts(call.place):
            raise Refusal(409, "PathAlreadyExists", "The specified path already exists.")
        desk.history.bring_back(kept)
        desk.history.drop(kept)
        desk.history.written(kept.place, False)
        make_parents(desk, kept.place)
    return done(200, x_ms_resource_type=resource_type(desk.azurite.facts(kept.place) or {}))


def resource_type(facts: dict[str, str]) -> str:
    return "directory" if is_folder(facts) else "file"
