"""An Azure that answers as test_data recorded it, and that holds what is written to it.

Every operation answers with its documented status code, so that a command that reads back what it changed finds it.
"""

import base64
import hashlib
import json
import re
import urllib.parse
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import requests_mock as rm

import AzureStorage as az

TEST_DATA = Path(__file__).resolve().parent.parent.parent / "test_data"
SUBSCRIPTION, GROUP, ACCOUNT = "0b1f6471-1bf0-4dda-aec3-cb9272f09590", "rg-finance", "contosobackups"
ARM, BLOBS = "https://management.azure.com", f"https://{ACCOUNT}.blob.core.windows.net"
VERSION, SNAPSHOT = "2026-11-20T08:15:30.1234567Z", "2026-11-19T00:00:00.0000000Z"
LEASE_ID = "11111111-2222-4333-8444-555555555555"
CONTENT = b"payroll"

IN_SUBSCRIPTION = f"/subscriptions/{SUBSCRIPTION}"
ACCOUNTS = f"{IN_SUBSCRIPTION}/resourceGroups/{GROUP}/providers/Microsoft.Storage/storageAccounts"
THE_ACCOUNT = f"{ACCOUNTS}/{ACCOUNT}"
SERVICE = f"{THE_ACCOUNT}/blobServices/default"
CONTAINERS = f"{SERVICE}/containers"
POLICY = f"{CONTAINERS}/evidence/immutabilityPolicies/default"
LOCKS = f"{THE_ACCOUNT}/providers/Microsoft.Authorization/locks"
ASSIGNMENTS = f"{THE_ACCOUNT}/providers/Microsoft.Authorization/roleAssignments"
ASSIGNMENT = f"{ASSIGNMENTS}/5a0c1e2d-3b4f-4a6b-8c7d-9e0f1a2b3c4d"
LOGGING = f"{SERVICE}/providers/Microsoft.Insights/diagnosticSettings"

# Resources that commands change: where they are, and their recording.
RESOURCES = {
    IN_SUBSCRIPTION: "subscription",
    THE_ACCOUNT: "account",
    f"{ACCOUNTS}/contosolegacy": "account_minimal",
    SERVICE: "blob_service",
    f"{CONTAINERS}/evidence": "container",
    POLICY: "immutability",
    ASSIGNMENT: "role_assignment",
    f"{THE_ACCOUNT}/providers/Microsoft.Security/defenderForStorageSettings/current": "defender",
    f"{LOGGING}/to-workspace": "logging_setting",
    f"{THE_ACCOUNT}/managementPolicies/default": "lifecycle",
}
# Collections: by path, and by the token of a page where there are several.
LISTS = {
    ("/subscriptions", ""): "subscriptions",
    (f"{IN_SUBSCRIPTION}/resourcegroups", ""): "resource_groups",
    (f"{IN_SUBSCRIPTION}/providers/Microsoft.Storage/storageAccounts", ""): "accounts_page1",
    (f"{IN_SUBSCRIPTION}/providers/Microsoft.Storage/storageAccounts", "Y29udG9zb2xvZ3M"): "accounts_page2",
    (CONTAINERS, ""): "containers_page1",
    (f"{THE_ACCOUNT}/objectReplicationPolicies", ""): "replication",
    (f"{THE_ACCOUNT}/providers/Microsoft.Authorization/roleDefinitions", ""): "role_definitions",
    (CONTAINERS, f"/{ACCOUNT}/reports"): "containers_page2",
    (f"{IN_SUBSCRIPTION}/providers/Microsoft.Insights/eventtypes/management/values", ""): "activity",
}
# What the signed-in identity may not read.
REFUSED = {
    THE_ACCOUNT + az.DEEP_SOURCES[name].path
    for name in az.DEEP_SOURCES
    if name not in ("locks", "service", "website", "containers", "logs", "lifecycle", "defender", "replication")
}
# A container that only exists soft-deleted until it is restored.
# Objects that a write replaces as a whole.
REPLACED = ("tags", "metadata", "logs")

Answer = tuple[int, Any]


def recorded(name: str) -> Any:
    return json.loads((TEST_DATA / "arm" / f"{name}.json").read_text())


def merge(old: Any, new: Any) -> Any:
    """A resource after a write of some of its settings; what Azure computes stays."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return new
    return {**old, **{key: new[key] if key in REPLACED else merge(old.get(key), new[key]) for key in new}}


class RecordedArm:
    """Resource Manager."""

    def __init__(self) -> None:
        self.resources: dict[str, Any] = {path: recorded(name) for path, name in RESOURCES.items()}
        own, self.inherited_lock = recorded("locks")["value"]
        self.resources[f"{LOCKS}/keep"] = own
        self.actions: dict[str, Callable[[str, Any], Answer]] = {
            "resources": lambda path, body: (200, recorded("graph")),
            "logs": lambda path, body: (200, recorded("logs")),
            "listKeys": lambda path, body: (200, recorded("keys")),
            "regenerateKey": self.regenerate_key,
            "revokeUserDelegationKeys": lambda path, body: (200, None),
            "restoreBlobRanges": lambda path, body: (200, self.restore_status()),
            "setLegalHold": self.set_hold,
            "clearLegalHold": self.clear_hold,
            "lease": self.lease,
            "lock": self.lock_policy,
        }

    def answer(self, request: Any, context: Any) -> Any:
        parts = urllib.parse.urlsplit(request.url)
        query = dict(urllib.parse.parse_qsl(parts.query))
        path = urllib.parse.unquote(parts.path)
        body = request.json() if request.body else {}
        context.status_code, found = getattr(self, request.method.lower())(path, query, body)
        return found

    def get(self, path: str, query: dict[str, str], body: Any) -> Answer:
        token = query.get("$skiptoken") or query.get("$skipToken") or ""
        if path in REFUSED:
            return 403, recorded("errors/AuthorizationFailed")
        if (path, token) in LISTS:
            return 200, recorded(LISTS[path, token])
        if path in (LOCKS, LOGGING, ASSIGNMENTS):
            own = [found for place, found in self.resources.items() if place.startswith(f"{path}/")]
            return 200, {"value": [*own, *([self.inherited_lock] if path == LOCKS else [])]}
        if path not in self.resources:
            kind = "ContainerNotFound" if path.startswith(f"{CONTAINERS}/") else "ResourceNotFound"
            kind = "ResourceNotFound" if path.endswith("/immutabilityPolicies/default") else kind
            return 404, recorded(f"errors/{kind}")
        if query.get("$expand") == "blobRestoreStatus":
            return 200, merge(self.resources[path], {"properties": {"blobRestoreStatus": self.restore_status()}})
        return 200, deepcopy(self.resources[path])

    def put(self, path: str, query: dict[str, str], body: Any) -> Answer:
        """A new lock, role assignment or container begins as the recorded one."""
        old = self.resources.get(path)
        if old is None:
            kinds = {LOCKS: "lock", ASSIGNMENTS: "role_assignment"}
            old = recorded(kinds.get(path.rpartition("/")[0], "container"))
            old = {**old, "id": path, "name": path.rpartition("/")[2]}
        created = path not in self.resources
        self.resources[path] = merge(old, body)
        return 201 if created else 200, deepcopy(self.resources[path])

    def patch(self, path: str, query: dict[str, str], body: Any) -> Answer:
        return self.put(path, query, body)

    def delete(self, path: str, query: dict[str, str], body: Any) -> Answer:
        if path == POLICY:  # a policy is always there; of 0 days where there is none
            return self.put(path, query, {"etag": "", "properties": {"immutabilityPeriodSinceCreationInDays": 0}})
        found = self.resources.pop(path, None)
        return (200 if found else 204), None

    def post(self, path: str, query: dict[str, str], body: Any) -> Answer:
        target, _, action = path.rpartition("/")
        return self.actions[action](target, body)

    @staticmethod
    def restore_status() -> Any:
        return recorded("account_restored")["properties"]["blobRestoreStatus"]

    def regenerate_key(self, path: str, body: Any) -> Answer:
        self.resources[path]["properties"]["keyCreationTime"][body["keyName"]] = "2026-11-23T12:00:00.0000000Z"
        return 200, recorded("keys")

    def hold(self, path: str, tags: list[Any]) -> Answer:
        hold = {"hasLegalHold": bool(tags), "tags": tags}
        self.resources[path] = merge(self.resources[path], {"properties": {"hasLegalHold": bool(tags)}})
        self.resources[path]["properties"]["legalHold"] |= hold
        return 200, {"hasLegalHold": bool(tags), "tags": [row["tag"] for row in tags]}

    def set_hold(self, path: str, body: Any) -> Answer:
        old = self.resources[path]["properties"]["legalHold"]["tags"]
        return self.hold(path, [*old, *({**old[0], "tag": tag} for tag in body["tags"])])

    def clear_hold(self, path: str, body: Any) -> Answer:
        old = self.resources[path]["properties"]["legalHold"]["tags"]
        return self.hold(path, [row for row in old if row["tag"] not in body["tags"]])

    def lease(self, path: str, body: Any) -> Answer:
        acquired = body["action"] == "Acquire"
        state = {"leaseState": "Leased", "leaseStatus": "Locked"} if acquired else {"leaseState": "Broken"}
        self.resources[path] = merge(self.resources[path], {"properties": state})
        return 200, {"leaseId": LEASE_ID} if acquired else {"leaseTimeSeconds": "0"}

    def lock_policy(self, path: str, body: Any) -> Answer:
        return self.put(path, {}, {"properties": {"state": "Locked"}})


class Blob(NamedTuple):
    """A blob: its headers, its tags as XML, its content."""

    headers: dict[str, str]
    tags: bytes
    content: bytes


class Reply(NamedTuple):
    status: int
    headers: Mapping[str, str] = MappingProxyType({})
    content: bytes = b""


def payroll() -> Blob:
    """The recorded blob, with a length and an MD5 that fit its content."""
    headers = json.loads((TEST_DATA / "blob/properties.json").read_text())
    digest = base64.b64encode(hashlib.md5(CONTENT, usedforsecurity=False).digest()).decode()
    own = {"Content-Length": str(len(CONTENT)), "Content-MD5": digest}
    return Blob({**headers, **own}, (TEST_DATA / "blob/tags.xml").read_bytes(), CONTENT)


def given(headers: Any, *starts: str) -> dict[str, str]:
    return {name: headers[name] for name in headers if name.lower().startswith(starts)}


# Operations that answer with a document: its recording.
DOCUMENTS = {
    ("GET", "/evidence", "list"): "list.xml",
    ("GET", "/", "blobs"): "find.xml",
    ("POST", "/", "userdelegationkey"): "delegation_key.xml",
}
LEASED = {"acquire": "leased", "break": "broken"}


class RecordedBlobs:
    """The blob service. A blob is kept for each version and snapshot, under its path and time."""

    def __init__(self, arm: RecordedArm) -> None:
        self.arm = arm
        self.acl = (TEST_DATA / "blob/acl.xml").read_bytes()
        places = [("/evidence/2026/payroll.xlsx", time) for time in ("", VERSION, SNAPSHOT)]
        self.blobs = {place: payroll() for place in [*places, ("/evidence/a", "")]}
        self.operations: dict[tuple[str, str], Callable[[Any, tuple[str, str], Blob], Reply]] = {
            ("HEAD", ""): lambda request, place, blob: Reply(200, blob.headers),
            ("GET", ""): self.read,
            ("DELETE", ""): self.remove,
            ("GET", "tags"): lambda request, place, blob: Reply(200, {}, blob.tags),
            ("PUT", "tags"): self.set_tags,
            ("PUT", "properties"): self.set_properties,
            ("PUT", "metadata"): self.set_metadata,
            ("PUT", "tier"): self.set_tier,
            ("PUT", "legalhold"): self.set_hold,
            ("PUT", "lease"): self.lease,
            ("PUT", "snapshot"): self.snapshot,
        }

    def answer(self, request: Any, context: Any) -> bytes:
        parts = urllib.parse.urlsplit(request.url)
        query = dict(urllib.parse.parse_qsl(parts.query))
        path = urllib.parse.unquote(parts.path)
        reply = self.reply(request, path, query)
        context.status_code = reply.status
        context.headers.update(reply.headers)
        return reply.content

    def reply(self, request: Any, path: str, query: dict[str, str]) -> Reply:
        operation = query.get("comp", "")
        if "Authorization" not in request.headers and "sig" not in query:
            return Reply(409, {"x-ms-error-code": "PublicAccessNotPermitted"})
        if (request.method, path, operation) in DOCUMENTS:
            return Reply(200, {}, (TEST_DATA / "blob" / DOCUMENTS[request.method, path, operation]).read_bytes())
        if query.get("restype") == "container":
            return self.container(request, path, operation)
        place = (path, query.get("versionid") or query.get("snapshot") or "")
        if request.method == "PUT" and not operation:
            return self.write(request, place)
        if operation == "undelete":
            self.blobs.setdefault(place, payroll())
            return Reply(200)
        if place not in self.blobs:
            return Reply(404, {"x-ms-error-code": "BlobNotFound"})
        return self.operations[request.method, operation](request, place, self.blobs[place])

    def container(self, request: Any, path: str, operation: str) -> Reply:
        if operation == "undelete":
            self.arm.put(CONTAINERS + path, {}, {})
            return Reply(201)
        if request.method == "PUT":
            self.acl = request.body
            return Reply(200)
        return Reply(200, {}, self.acl)

    def hold(self, place: tuple[str, str], blob: Blob, headers: dict[str, str], status: int) -> Reply:
        """Keep a blob with new headers. The answer tells its ETag and version."""
        self.blobs[place] = blob._replace(headers=headers)
        told = ("ETag", "Last-Modified", "x-ms-version-id")
        return Reply(status, {name: headers[name] for name in told if name in headers})

    def changed(self, place: tuple[str, str], blob: Blob, *, without: tuple[str, ...] = (), **more: str) -> Reply:
        """Keep a blob with some headers taken away and others set; underscores stand for hyphens."""
        kept = {name: value for name, value in blob.headers.items() if not name.lower().startswith(without)}
        return self.hold(place, blob, {**kept, **{name.replace("_", "-"): value for name, value in more.items()}}, 200)

    def read(self, request: Any, place: tuple[str, str], blob: Blob) -> Reply:
        first, last = map(int, re.findall(r"\d+", request.headers["x-ms-range"]))
        content = blob.content[first : last + 1]
        span = f"bytes {first}-{first + len(content) - 1}/{len(blob.content)}"
        # The MD5 of a whole blob has a header of its own where a range is answered.
        whole = {name: value for name, value in blob.headers.items() if name != "Content-MD5"}
        whole |= {"x-ms-blob-content-md5": blob.headers["Content-MD5"]} if "Content-MD5" in blob.headers else {}
        return Reply(206, {**whole, "Content-Length": str(len(content)), "Content-Range": span}, content)

    def remove(self, request: Any, place: tuple[str, str], blob: Blob) -> Reply:
        del self.blobs[place]
        return Reply(202)

    def write(self, request: Any, place: tuple[str, str]) -> Reply:
        """A copy within the account, or an upload."""
        source = request.headers.get("x-ms-copy-source")
        old = payroll()
        if source:
            parts = urllib.parse.urlsplit(source)
            time = dict(urllib.parse.parse_qsl(parts.query))
            old = self.blobs[urllib.parse.unquote(parts.path), time.get("versionid") or time.get("snapshot") or ""]
        content = old.content if source else request.body
        digest = base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()
        headers = {**old.headers, **given(request.headers, "x-ms-meta-", "x-ms-access-tier")}
        headers |= {"ETag": '"0x8DE28020000000A"', "Content-Length": str(len(content)), "Content-MD5": digest}
        status = 202 if source else 201
        reply = self.hold(place, Blob({}, old.tags, content), headers, status)
        copy = {"x-ms-copy-id": headers["x-ms-copy-id"]} if source else {}
        return reply._replace(headers={**reply.headers, **copy})

    def set_tags(self, request: Any, place: tuple[str, str], blob: Blob) -> Reply:
        ElementTree.fromstring(request.body)  # noqa: S314 - our own document
        self.blobs[place] = blob._replace(tags=request.body)
        return Reply(204)

    def set_properties(self, request: Any, place: tuple[str, str], blob: Blob) -> Reply:
        names = ("Content-Type", "Content-Encoding", "Content-Language", "Content-Disposition", "Cache-Control")
        wanted = {name: request.headers.get(f"x-ms-blob-{name.lower()}") for name in (*names, "Content-MD5")}
        headers = {name: value for name, value in {**blob.headers, **wanted}.items() if value}
        return self.hold(place, blob, headers, 200)

    def set_metadata(self, request: Any, place: tuple[str, str], blob: Blob) -> Reply:
        kept = {name: value for name, value in blob.headers.items() if not name.startswith("x-ms-meta-")}
        return self.hold(place, blob, {**kept, **given(request.headers, "x-ms-meta-")}, 200)

    def set_tier(self, request: Any, place: tuple[str, str], blob: Blob) -> Reply:
        tier = request.headers["x-ms-access-tier"]
        return self.changed(place, blob, without=("x-ms-access-tier-inferred",), x_ms_access_tier=tier)

    def set_hold(self, request: Any, place: tuple[str, str], blob: Blob) -> Reply:
        return self.changed(place, blob, x_ms_legal_hold=request.headers["x-ms-legal-hold"])

    def lease(self, request: Any, place: tuple[str, str], blob: Blob) -> Reply:
        action = request.headers["x-ms-lease-action"]
        self.changed(place, blob, x_ms_lease_state=LEASED[action])
        if action == "break":
            return Reply(202, {"x-ms-lease-time": "0"})
        return Reply(201, {"x-ms-lease-id": LEASE_ID})

    def snapshot(self, request: Any, place: tuple[str, str], blob: Blob) -> Reply:
        time = "2026-11-23T12:00:00.0000000Z"
        self.blobs[place[0], time] = blob
        return Reply(201, {"x-ms-snapshot": time})


def answer(mock: rm.Mocker) -> None:
    """The sign-in service, Resource Manager and the blob service of one account."""
    mock.post(
        "https://login.microsoftonline.com/organizations/oauth2/v2.0/devicecode",
        json={
            "user_code": "ABC",
            "device_code": "marker-device",
            "verification_uri": "https://a.example",
            "expires_in": 900,
        },
    )
    arm = RecordedArm()
    mock.register_uri(rm.ANY, re.compile(re.escape(ARM)), text=json_text(arm.answer))
    mock.register_uri(rm.ANY, re.compile(re.escape(BLOBS)), content=RecordedBlobs(arm).answer)
    website = re.compile(rf"https://{ACCOUNT}\.(z\d+\.)?web\.")
    mock.head(website, status_code=404, headers={"x-ms-error-code": "WebContentNotFound"})


def json_text(answer_of: Callable[[Any, Any], Any]) -> Callable[[Any, Any], str]:
    """An answer as JSON; None has no body."""

    def text(request: Any, context: Any) -> str:
        found = answer_of(request, context)
        return "" if found is None else json.dumps(found)

    return text
