"""The blob service: every request, from the caller to Azurite and back.

https://learn.microsoft.com/rest/api/storageservices/blob-service-rest-api
"""

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from datetime import timedelta

from ..arm import Arm, Json
from ..front import Reply, Request
from ..logs import RequestLog
from . import (
    batch,
    containers,
    copies,
    cors,
    hierarchy,
    holds,
    listing,
    restore,
    service_properties,
    tags,
    tiers,
    website,
    writes,
)
from .accounts import Accounts
from .authorize import ANONYMOUS, Authorizer, Caller
from .azurite import Azurite
from .call import NEWEST, Call, Place, Refusal, bad_header, bad_query, done, http_date, read_call, whole
from .containers import DeletedContainers
from .delegation import DelegationKeys
from .desk import Desk
from .history import History
from .network import check_network
from .operations import CHANGES, PREFLIGHT, REPLACES, Operation, operation_of
from .pending import PendingCopies
from .request_log import Recorder, columns_of
from .sas import StoredPolicy

AUDIENCE = "https://storage.azure.com"
Handler = Callable[[Desk, Call, Operation], Reply]
# What the front says of itself, and Azurite of itself.
DROPPED = frozenset(
    (
        *("server", "date", "connection", "keep-alive", "x-powered-by"),
        *("x-ms-request-id", "x-ms-version", "x-ms-client-request-id"),
    )
)
HANDLERS: dict[str, Handler] = {
    **dict.fromkeys(("PutBlob", "PutBlockList", "SetBlobMetadata", "SnapshotBlob"), writes.write),
    **dict.fromkeys(("CreateContainer", "SetContainerACL"), containers.set_access),
    "GetBlobServiceProperties": service_properties.get,
    "SetBlobServiceProperties": service_properties.set_properties,
    "ListContainers": containers.list_containers,
    "GetContainerProperties": containers.properties,
    "AbortCopyBlob": copies.abort,
    "DeleteBlob": writes.delete,
    "UndeleteBlob": writes.undelete,
    "ListBlobs": listing.list_blobs,
    "FindBlobsByTags": tags.find,
    "GetBlobTags": tags.tags,
    "SetBlobTags": tags.tags,
    "SetBlobTier": tiers.set_tier,
    "SetBlobLegalHold": holds.set_legal_hold,
    "SetBlobImmutabilityPolicy": holds.set_policy,
    "DeleteBlobImmutabilityPolicy": holds.delete_policy,
}
# In accounts with a hierarchical namespace.
OF_HIERARCHIES: dict[str, Handler] = {
    **dict.fromkeys(("PutBlob", "PutBlockList"), hierarchy.write),
    "DeleteBlob": hierarchy.delete,
    "UndeleteBlob": hierarchy.undelete,
}
READS = frozenset({"GetBlob", "GetBlobProperties", "GetBlobMetadata", "GetBlockList", "GetPageRegions"})
COPIES = frozenset({"CopyBlob", "CopyBlobFromURL", "PutBlobFromURL", "PutBlockFromURL"})
# Operations that take a version; to all others, versionid is an error.
OF_VERSIONS = (
    READS
    | {"DeleteBlob", "GetBlobTags", "SetBlobTags", "SetBlobTier"}
    | {
        "SetBlobLegalHold",
        "SetBlobImmutabilityPolicy",
        "DeleteBlobImmutabilityPolicy",
    }
)
# Writes that fit one type of blob only.
TYPES = {"PutBlock": "BlockBlob", "PutPage": "PageBlob", "AppendBlock": "AppendBlob", "AppendBlobSeal": "AppendBlob"}


class BlobService:
    """An application for the blob front.

    claims: the claims of a token that is good for Azure Storage, else None. client_address: where requests come from,
    unless their header x-local-client-address says otherwise. authority: where tokens are asked for.
    """

    def __init__(self, arm: Arm, azurite: Azurite, log: RequestLog, claims: Callable[[str], Json | None]) -> None:
        accounts, history, keys = Accounts(arm), History(azurite), DelegationKeys()
        self.authorize = Authorizer(accounts, keys, claims, self._access)
        self.desk = Desk(accounts, azurite, history, keys, self.authorize)
        self.deleted_containers = DeletedContainers(self.desk)
        self.client_address = "203.0.113.7"
        self.authority = "https://login.microsoftonline.com/common"
        self._record = Recorder(log, accounts, azurite)
        azurite.deleting = self.deleted_containers.deleting
        self._handlers: dict[str, Handler] = HANDLERS | {
            "DeleteContainer": self.deleted_containers.delete,
            "RestoreContainer": self.deleted_containers.restore,
        }

    @property
    def pending_copies(self) -> PendingCopies:
        return self.desk.pending

    @property
    def immutable_containers(self) -> set[tuple[str, str]]:
        return self.desk.immutable_containers

    def clear(self) -> None:
        """Forgets all that is kept, all holds and which containers take holds."""
        self.deleted_containers.clear()
        self.desk.history.clear()
        self.desk.immutable_containers.clear()
        self.desk.copy_sources.clear()
        self.desk.pending.clear()

    def age(self, by: timedelta) -> None:
        """All that has happened to blobs so far happened so much earlier: for retention, and restores in time."""
        self.desk.history.age(by)

    def restore_ranges(self, account: str, body: Json) -> None:
        """What ARM's restore of blob ranges does here; an exception tells why it failed."""
        restore.restore_ranges(self.desk, self.deleted_containers, account, body)

    # A request

    def __call__(self, request: Request) -> Reply:
        client = next((v for k, v in request.headers.items() if k.lower() == "x-local-client-address"), "")
        return self._serve(read_call(request, client or self.client_address))

    def _serve(self, call: Call) -> Reply:
        operation: Operation | None = None
        caller: Caller | None = None
        try:
            self._check(call)
            if call.to_website:
                operation, caller = website.operation_of(call), ANONYMOUS
                reply = website.serve(self.desk, call)
            elif call.method == "OPTIONS":
                operation, caller = PREFLIGHT, ANONYMOUS
                reply = cors.preflight(self.desk, call)
            else:
                operation = operation_of(call)
                caller = self.authorize(call, operation)
                reply = self._answer(call, operation, caller)
        except Refusal as refused:
            reply = website.page_of(refused, call) if call.to_website else refused.reply(call)
            if refused.status == 401:
                where = f"{self.authority}/oauth2/authorize"
                reply.headers["WWW-Authenticate"] = f"Bearer authorization_uri={where} resource_id={AUDIENCE}"
        self._finish(call, reply)
        if call.place.account in self.desk.accounts:
            self._record(columns_of(call, operation, caller, reply))
        return reply

    def _check(self, call: Call) -> None:
        """What is wrong with a request whoever sends it."""
        if call.place.account not in self.desk.accounts:
            raise Refusal(404, "ResourceNotFound", "The specified resource does not exist.")
        settings = self.desk.accounts.service_settings(call.place.account)
        call.usual_version = call.usual_version or str(settings.get("defaultServiceVersion") or "")
        version = call.version
        if not re.fullmatch(r"20\d\d-\d\d-\d\d", version) or version > NEWEST:
            raise bad_header("x-ms-version", version)
        check_network(self.desk.accounts.properties(call.place.account), call.client)

    def _answer(self, call: Call, operation: Operation, caller: Caller) -> Reply:
        name = operation.name
        if name == "GetUserDelegationKey":
            return self.desk.keys.issue(call, caller.claims)
        if name == "GetAccountInformation":
            return self._account_information(call)
        if name == "SubmitBatch":
            return batch.serve_batch(call, lambda part: self._part(call, part))
        if call.query.get("versionid") and name not in OF_VERSIONS:
            raise bad_query("versionid", call.query["versionid"])
        if call.level == "blob":
            self._check_blob(call, operation, caller)
        if name in READS:
            return self._read(call, operation)
        reply = self._handle(call, operation, caller)
        if name in REPLACES and reply.status < 300 and self.desk.protects_versions(call.place):
            holds.protect_new(self.desk, call)
        return reply

    def _handle(self, call: Call, operation: Operation, caller: Caller) -> Reply:
        hierarchical = self.desk.accounts.is_hierarchical(call.place.account)
        if operation.name in COPIES:
            reply = copies.copy(self.desk, call, operation, caller)
            if hierarchical and reply.status < 300:
                hierarchy.make_parents(self.desk, call.place)
            return reply
        handler = self._handlers.get(operation.name)
        if hierarchical:
            handler = OF_HIERARCHIES.get(operation.name, handler)
        return handler(self.desk, call, operation) if handler else self.desk.azurite.pass_on(call)

    def _part(self, call: Call, request: Request) -> Reply:
        part = read_call(request, call.client)
        if part.place.account != call.place.account or (call.place.container and part.place.box != call.place.box):
            raise Refusal(400, "InvalidInput", "One of the request inputs is not valid.")
        part.usual_version = call.version
        return self._serve(part)

    def _check_blob(self, call: Call, operation: Operation, caller: Caller) -> None:
        """What the blob that is there does not allow: to be overwritten, changed, or changed in this way."""
        creates = caller.sas is not None and "c" in operation.letters and not set("w") & set(caller.permissions)
        wanted = TYPES.get(operation.name)
        if creates or wanted:
            facts = self.desk.azurite.facts(call.place)
            if facts and creates:
                text = "This request is not authorized to perform blob overwrites."
                raise Refusal(403, "UnauthorizedBlobOverwrite", text)
            if facts and facts["x-ms-blob-type"] != wanted:
                raise Refusal(409, "InvalidBlobType", "The blob type is invalid for this operation.")
        holds.check_protection(self.desk, call, operation)
        of_current = not call.query.get("versionid") and not call.query.get("snapshot")
        if of_current and (operation.name in CHANGES or operation.name == "DeleteBlob"):
            self.desk.pending.refuse(call.place)

    # Reading

    def _read(self, call: Call, operation: Operation) -> Reply:
        self._check_key(call)
        if not call.query.get("versionid") and not call.query.get("snapshot"):
            self.desk.pending.look(self.desk.azurite, call.place)
            tiers.bring_on(self.desk, call.place, call.time)
            if operation.name == "GetBlob" and tiers.status(self.desk, call.place):
                raise tiers.being_rehydrated()
        reply = writes.versioned(self.desk, call) if call.query.get("versionid") else self.desk.azurite.pass_on(call)
        if reply.status not in (200, 206):
            return reply
        check_range(reply)
        holds.add_headers(self.desk, call, reply)
        if not call.query.get("snapshot"):
            self._add_current(call, operation, reply)
        return reply

    def _add_current(self, call: Call, operation: Operation, reply: Reply) -> None:
        current, place = self.desk.history.current(call.place), call.place
        if current.version and call.query.get("versionid", current.version) == current.version:
            reply.headers["x-ms-version-id"] = current.version
            reply.headers["x-ms-is-current-version"] = "true"
        if self.desk.accounts.setting(place.account, "lastAccessTimeTrackingPolicy"):
            self._track(call, operation, reply)
        if told := tiers.status(self.desk, place):
            reply.headers["x-ms-archive-status"] = told["ArchiveStatus"]
            reply.headers["x-ms-rehydrate-priority"] = told["RehydratePriority"]
        if source := self.desk.copy_sources.get(place):
            names = [name for name in reply.headers if name.lower() == "x-ms-copy-source"]
            reply.headers |= dict.fromkeys(names, source)
        if self.desk.accounts.is_hierarchical(place.account):
            facts = {name.lower(): value for name, value in reply.headers.items()}
            reply.headers["x-ms-resource-type"] = hierarchy.resource_type(facts)

    def _track(self, call: Call, operation: Operation, reply: Reply) -> None:
        """The content was read; the answer tells of the time before that, as properties do."""
        current = self.desk.history.current(call.place)
        if current.read:
            reply.headers["x-ms-last-access-time"] = http_date(current.read)
        if operation.name == "GetBlob":
            current.read = call.time

    def _check_key(self, call: Call) -> None:
        """Refusal for a blob that is encrypted with a key of the caller's, which the request does not bring."""
        digest = self._key_of(call)
        given = call.header("x-ms-encryption-key-sha256")
        if digest and digest != given:
            text = "The blob is encrypted with customer specified encryption, but it was not provided in the request."
            raise Refusal(409, "BlobUsesCustomerSpecifiedEncryption", text)

    def _key_of(self, call: Call) -> str:
        version = call.query.get("versionid", "")
        current = self.desk.history.current(call.place)
        if not version or version == current.version:
            return current.key_sha256
        kept = self.desk.history.version(call.place, version)
        return kept.key_sha256 if kept else ""

    # Accounts and containers

    def _account_information(self, call: Call) -> Reply:
        account = self.desk.accounts.facts(call.place.account)
        hierarchical = str(self.desk.accounts.is_hierarchical(call.place.account)).lower()
        return done(
            200,
            x_ms_sku_name=str(account["sku"]["name"]),
            x_ms_account_kind=str(account["kind"]),
            x_ms_is_hns_enabled=hierarchical,
        )

    def _access(self, account: str, container: str) -> tuple[str, dict[str, StoredPolicy]] | None:
        """The public access level and the stored policies of a container; None without such a container."""
        reply = self.desk.azurite.ask("GET", Place(account, container), {"restype": "container", "comp": "acl"})
        body = whole(reply)
        if reply.status != 200:
            return None
        headers = {name.lower(): value for name, value in reply.headers.items()}
        policies = {}
        for row in ET.fromstring(body).iterfind("SignedIdentifier"):  # noqa: S314 - Azurite's
            names = ("Permission", "Start", "Expiry")
            fields = (row.findtext(f"AccessPolicy/{name}") or "" for name in names)
            policies[row.findtext("Id") or ""] = StoredPolicy(*fields)
        return headers.get("x-ms-blob-public-access", ""), policies

    # What every answer carries

    def _finish(self, call: Call, reply: Reply) -> None:
        headers = {name.lower(): value for name, value in reply.headers.items()}
        if reply.status >= 400 and "x-ms-request-id" in headers:
            reply.body = whole(reply).replace(headers["x-ms-request-id"].encode(), call.id.encode())
        reply.headers = {name: value for name, value in reply.headers.items() if name.lower() not in DROPPED}
        reply.headers |= {"x-ms-request-id": call.id, "x-ms-version": call.version}
        if given := call.header("x-ms-client-request-id"):
            reply.headers["x-ms-client-request-id"] = given
        if call.place.account in self.desk.accounts and not call.to_website and call.method != "OPTIONS":
            cors.add_headers(self.desk, call, reply)


def check_range(reply: Reply) -> None:
    """Refusal for a range that begins behind the end, which Azurite answers with nothing."""
    text = next((value for name, value in reply.headers.items() if name.lower() == "content-range"), "")
    found = re.fullmatch(r"bytes (\d+)-\d*-?\d*/(\d+)", text)
    if found and int(found[1]) >= int(found[2]):
        whole(reply)
        raise Refusal(416, "InvalidRange", "The range specified is invalid for the current size of the resource.")
