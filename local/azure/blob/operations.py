"""The operations of the blob service: how each is recognised, logged, and what a SAS needs to be permitted it.

https://learn.microsoft.com/rest/api/storageservices/operations-on-blobs
"""

from typing import NamedTuple

from .call import Call, Refusal, bad_query

READ, WRITE, DELETE = "StorageRead", "StorageWrite", "StorageDelete"


class Operation(NamedTuple):
    """One operation.

    name, category: as StorageBlobLogs has them. letters: any of these permissions of a SAS suffices; none means that no
    SAS permits it. anonymous: the access level of a container from which on everybody may. data_action: the right that
    a token's holder needs, below Microsoft.Storage/storageAccounts/blobServices/.
    """

    name: str
    category: str
    letters: str
    data_action: str
    anonymous: str = ""


BLOBS = "containers/blobs/"
READ_BLOB, WRITE_BLOB = BLOBS + "read", BLOBS + "write"


def blob_read(name: str) -> Operation:
    return Operation(name, READ, "r", READ_BLOB, "blob")


def blob_write(name: str, letters: str = "w", action: str = "write") -> Operation:
    return Operation(name, WRITE, letters, BLOBS + action)


def box(name: str, category: str, letters: str, action: str, anonymous: str = "") -> Operation:
    return Operation(name, category, letters, action, anonymous)


LIST = box("ListBlobs", READ, "l", READ_BLOB, "container")
FIND = box("FindBlobsByTags", READ, "f", BLOBS + "filter/action")
BATCH = box("SubmitBatch", WRITE, "rwdlacuptxfi", "containers/write")
ACCOUNT_INFO = box("GetAccountInformation", READ, "rwdlacuptxfi", "getInfo/action")
BOX_FACTS = box("GetContainerProperties", READ, "r", "containers/read", "container")
BOX_METADATA = box("GetContainerMetadata", READ, "r", "containers/read", "container")
BOX_ACL = box("GetContainerACL", READ, "", "containers/getAcl/action")
PREFLIGHT = Operation("BlobPreflightRequest", READ, "", "")
FACTS, METADATA, TAGS = (blob_read(f"GetBlob{part}") for part in ("Properties", "Metadata", "Tags"))

# (method, level, comp) -> operation. Those that also depend on a header are told apart in operation_of.
OPERATIONS: dict[tuple[str, str, str], Operation] = {
    ("GET", "account", "list"): box("ListContainers", READ, "l", "containers/read"),
    ("GET", "account", "properties"): box("GetBlobServiceProperties", READ, "r", "read"),
    ("PUT", "account", "properties"): box("SetBlobServiceProperties", WRITE, "w", "write"),
    ("GET", "account", "stats"): box("GetBlobServiceStats", READ, "r", "read"),
    ("POST", "account", "userdelegationkey"): box("GetUserDelegationKey", READ, "", "generateUserDelegationKey/action"),
    ("GET", "account", "blobs"): FIND,
    ("POST", "account", "batch"): BATCH,
    ("GET", "container", ""): BOX_FACTS,
    ("HEAD", "container", ""): BOX_FACTS,
    ("PUT", "container", ""): box("CreateContainer", WRITE, "cw", "containers/write"),
    ("DELETE", "container", ""): box("DeleteContainer", DELETE, "d", "containers/delete"),
    ("GET", "container", "metadata"): BOX_METADATA,
    ("HEAD", "container", "metadata"): BOX_METADATA,
    ("PUT", "container", "metadata"): box("SetContainerMetadata", WRITE, "w", "containers/write"),
    ("GET", "container", "acl"): BOX_ACL,
    ("HEAD", "container", "acl"): BOX_ACL,
    ("PUT", "container", "acl"): box("SetContainerACL", WRITE, "", "containers/setAcl/action"),
    ("PUT", "container", "lease"): box("LeaseContainer", WRITE, "w", "containers/write"),
    ("PUT", "container", "undelete"): box("RestoreContainer", WRITE, "w", "containers/write"),
    ("GET", "container", "list"): LIST,
    ("GET", "container", "blobs"): FIND,
    ("POST", "container", "batch"): BATCH,
    ("GET", "blob", ""): blob_read("GetBlob"),
    ("HEAD", "blob", ""): FACTS,
    ("GET", "blob", "metadata"): METADATA,
    ("HEAD", "blob", "metadata"): METADATA,
    ("GET", "blob", "blocklist"): blob_read("GetBlockList"),
    ("GET", "blob", "pagelist"): blob_read("GetPageRegions"),
    ("GET", "blob", "tags"): TAGS._replace(letters="t", data_action=BLOBS + "tags/read", anonymous=""),
    ("PUT", "blob", ""): blob_write("PutBlob", "wc"),
    ("PUT", "blob", "block"): blob_write("PutBlock"),
    ("PUT", "blob", "blocklist"): blob_write("PutBlockList", "wc"),
    ("PUT", "blob", "page"): blob_write("PutPage"),
    ("PUT", "blob", "appendblock"): blob_write("AppendBlock", "wa"),
    ("PUT", "blob", "seal"): blob_write("AppendBlobSeal"),
    ("PUT", "blob", "properties"): blob_write("SetBlobProperties"),
    ("PUT", "blob", "metadata"): blob_write("SetBlobMetadata"),
    ("PUT", "blob", "tags"): blob_write("SetBlobTags", "t", "tags/write"),
    ("PUT", "blob", "tier"): blob_write("SetBlobTier"),
    ("PUT", "blob", "lease"): blob_write("LeaseBlob"),
    ("PUT", "blob", "snapshot"): blob_write("SnapshotBlob", "wc"),
    ("PUT", "blob", "copy"): blob_write("AbortCopyBlob"),
    ("PUT", "blob", "undelete"): box("UndeleteBlob", WRITE, "w", "containers/write"),
    ("PUT", "blob", "legalhold"): box("SetBlobLegalHold", WRITE, "i", "containers/write"),
    ("PUT", "blob", "immutabilitypolicies"): blob_write(
        "SetBlobImmutabilityPolicy", "i", "immutableStorage/runAsSuperUser/action"
    ),
    ("DELETE", "blob", "immutabilitypolicies"): Operation(
        "DeleteBlobImmutabilityPolicy", DELETE, "i", BLOBS + "immutableStorage/runAsSuperUser/action"
    ),
    ("DELETE", "blob", ""): Operation("DeleteBlob", DELETE, "d", BLOBS + "delete"),
}
LEASES = {"acquire": "Acquire", "renew": "Renew", "release": "Release", "change": "Change", "break": "Break"}
DELETE_VERSION = Operation("DeleteBlob", DELETE, "x", BLOBS + "deleteBlobVersion/action")
DELETE_FOR_GOOD = Operation("DeleteBlob", DELETE, "y", BLOBS + "permanentDelete/action")
# What changes a blob that is there; a hold on it forbids that.
CHANGES = frozenset(
    (
        *("PutBlob", "PutBlockList", "PutBlockFromURL", "PutPage", "AppendBlock", "AppendBlobSeal", "CopyBlob"),
        *("CopyBlobFromURL", "PutBlobFromURL", "SetBlobProperties", "SetBlobMetadata"),
    )
)
# What replaces a blob as a whole: what was there is kept where a version or soft delete asks for it.
REPLACES = frozenset({"PutBlob", "PutBlockList", "CopyBlob", "CopyBlobFromURL", "PutBlobFromURL"})


# What a request needs besides its operation: the letter of a SAS, and the right of a token's holder.
READ_TAGS, WRITE_TAGS = ("t", BLOBS + "tags/read"), ("t", BLOBS + "tags/write")


def also_needed(call: Call, operation: Operation) -> list[tuple[str, str]]:
    found = []
    if operation.name == "ListBlobs" and "tags" in call.query.get("include", "").lower().split(","):
        found.append(READ_TAGS)
    if operation.name in REPLACES and call.header("x-ms-tags"):
        found.append(WRITE_TAGS)
    return found


def operation_of(call: Call) -> Operation:
    """Refusal if the service knows no such operation."""
    if call.query.get("restype", "").lower() == "account" and call.comp == "properties":
        return ACCOUNT_INFO
    found = OPERATIONS.get((call.method, call.level, call.comp))
    if not found:
        if call.comp:
            raise bad_query("comp", call.comp)
        raise Refusal(405, "UnsupportedHttpVerb", "The resource doesn't support specified Http Verb.")
    if call.comp == "lease":
        return found._replace(
            name=LEASES.get(call.header("x-ms-lease-action").lower(), "Lease") + found.name[5:] + "Lease"
        )
    if found.name == "DeleteBlob" and "deletetype" in call.query:
        if call.query["deletetype"].lower() != "permanent":
            raise bad_query("deletetype", call.query["deletetype"])
        return DELETE_FOR_GOOD
    if found.name == "DeleteBlob" and "versionid" in call.query:
        return DELETE_VERSION
    return copying(call, found) if call.header("x-ms-copy-source") else found


def copying(call: Call, found: Operation) -> Operation:
    if found.name == "PutBlock":
        return found._replace(name="PutBlockFromURL")
    if found.name != "PutBlob":
        return found
    if call.header("x-ms-blob-type"):
        return found._replace(name="PutBlobFromURL")
    return found._replace(name="CopyBlobFromURL" if call.header("x-ms-requires-sync").lower() == "true" else "CopyBlob")
