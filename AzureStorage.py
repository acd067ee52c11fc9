"""Azure Storage for Cortex XSOAR: sign in to Microsoft Entra ID, manage Azure Storage through Azure Resource Manager.

The file reads from top to bottom, every name defined before it is used:

    constants      clouds, API versions, limits
    errors         one tree, hint tables, the parser of ARM's error bodies
    secrets        a value that never prints, one redactor
    names          resource ids, accounts, containers: parsed once, at the edge
    settings       instance parameters -> one validated object
    arguments      argument strings -> typed values, and the groups of arguments that commands share
    results        plain data -> tables for people and context for playbooks
    network        one exchange: timeouts, retries, back-off
    sign-in        the Microsoft auth client over msal, and its store in the integration context
    HTTP           one authorised send: host check, 401 and claims challenge, errors
    ARM            one short method per endpoint
    blobs          the same for the blob service, and transfers
    plan           what a change would do: merge, differences, before and after
    posture        a table of checks and what judges them
    commands       grouped by noun, registered by name
    main           parameters, dispatch, the one error boundary

To add a command: write one function under its noun, decorated with @command (name, the Azure permissions it needs);
its keyword parameters are its arguments. Describe it in AzureStorage.yml. Run `make docs`.
The tests say what was forgotten.
"""

import demistomock as demisto
from CommonServerPython import *

import base64
import binascii
import csv
import email.utils
import hashlib
import hmac
import html
import inspect
import io
import ipaddress
import itertools
import json
import logging
import mimetypes
import random
import re
import shlex
import threading
import time
import traceback
import urllib.parse
import uuid
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar, get_args, get_origin

from xml.parsers import expat

import requests
from requests.exceptions import BaseHTTPError  # type: ignore[attr-defined]

T = TypeVar("T")
R = TypeVar("R")
Json = dict[str, Any]


# --- constants ---------------------------------------------------------------------------------------------------------

# Every containment call exists in this version, and sovereign clouds tend to lag behind the newest (2026-09-01).
STORAGE_API = "2025-08-01"
SUBSCRIPTIONS_API = "2022-12-01"
RESOURCE_GROUPS_API = "2024-11-01"
GRAPH_API = "2024-04-01"
LOCKS_API = "2020-05-01"
ACTIVITY_API = "2015-04-01"
DIAGNOSTICS_API = "2021-05-01-preview"
GRAPH_PAGE = 1000  # rows that Resource Graph answers at most

# Nothing here needs a newer one, and an undeployed version is refused; Entra tokens need 2017-11-09.
BLOB_API = "2025-11-05"
BLOCK_SIZE = 4 << 20  # bytes; a few of them in memory at a time keep a transfer under 100 MB
PARALLEL = 4
USER_AGENT = "AzureStorage-XSOAR"
SYNC_COPY_SIZE = 256 << 20  # bytes that Azure copies before it answers
SAS_VERSION = "2022-11-02"  # the newest whose string to sign every cloud knows
BATCH_LIMIT = 256  # deletions in a batch request

STORAGE_AUDIENCE = "https://storage.azure.com"  # the same in every cloud
CORTEX_APP_ID = "55f9764e-300a-474a-a2bb-549cece85439"
# What a person without a web server of their own registers: the browser fails to open it, the address bar holds the code.
DEFAULT_REDIRECT_URI = "https://localhost/myapp"

CONNECT_TIMEOUT, READ_TIMEOUT = 10, 60  # seconds
MAX_TRIES = 5
MAX_WAIT = 60.0  # seconds a command may spend waiting between tries before it gives up and says how long to wait
TOKEN_MARGIN = 120  # seconds: a token that ends sooner is not used any more
TURN_SECONDS = 90  # how long one command may hold the right to refresh before others take it over
DEFAULT_LIMIT = 50
SNIPPET = 200  # characters of an answer that is not what it should be


class Cloud(NamedTuple):
    """The hosts of one Azure. https://learn.microsoft.com/azure/developer/python/sdk/authentication/multi-cloud

    audience is what an ARM token is asked for; discovery tells whether the sign-in endpoints have to be asked for
    or follow Entra's fixed layout.
    """

    name: str
    authority: str
    resource_manager: str
    audience: str
    storage_suffix: str
    discovery: bool = False


CLOUDS = {
    cloud.name: cloud
    for cloud in (
        Cloud(
            "Worldwide",
            "https://login.microsoftonline.com",
            "https://management.azure.com",
            "https://management.azure.com",
            "core.windows.net",
        ),
        Cloud(
            "US Government",
            "https://login.microsoftonline.us",
            "https://management.usgovcloudapi.net",
            "https://management.usgovcloudapi.net",
            "core.usgovcloudapi.net",
        ),
        Cloud(
            "China",
            "https://login.partner.microsoftonline.cn",
            "https://management.chinacloudapi.cn",
            "https://management.chinacloudapi.cn",
            "core.chinacloudapi.cn",
        ),
    )
}
CUSTOM_CLOUD = "Custom"

AUTHORIZATION_CODE = "Authorization Code"
DEVICE_CODE = "Device Code"
CLIENT_CREDENTIALS = "Client Credentials"
MANAGED_IDENTITY = "Azure Managed Identities"
USER_FLOWS = (AUTHORIZATION_CODE, DEVICE_CODE)

# Permissions and the built-in roles that have them: https://learn.microsoft.com/azure/role-based-access-control/permissions/storage
STORAGE_ACCOUNTS = "Microsoft.Storage/storageAccounts"
READ_ACCOUNT, WRITE_ACCOUNT = f"{STORAGE_ACCOUNTS}/read", f"{STORAGE_ACCOUNTS}/write"
DELETE_ACCOUNT = f"{STORAGE_ACCOUNTS}/delete"
LIST_KEYS, REGENERATE_KEY = f"{STORAGE_ACCOUNTS}/listkeys/action", f"{STORAGE_ACCOUNTS}/regeneratekey/action"
REVOKE_DELEGATION_KEYS = f"{STORAGE_ACCOUNTS}/revokeUserDelegationKeys/action"
RESTORE_RANGES = f"{STORAGE_ACCOUNTS}/restoreBlobRanges/action"
READ_SERVICE, WRITE_SERVICE = f"{STORAGE_ACCOUNTS}/blobServices/read", f"{STORAGE_ACCOUNTS}/blobServices/write"
CONTAINERS = f"{STORAGE_ACCOUNTS}/blobServices/containers"
READ_CONTAINER, WRITE_CONTAINER, DELETE_CONTAINER = f"{CONTAINERS}/read", f"{CONTAINERS}/write", f"{CONTAINERS}/delete"
LEASE_CONTAINER = f"{CONTAINERS}/lease/action"
SET_HOLD, CLEAR_HOLD = f"{CONTAINERS}/setLegalHold/action", f"{CONTAINERS}/clearLegalHold/action"
IMMUTABILITY = f"{CONTAINERS}/immutabilityPolicies"
READ_ACL, WRITE_ACL = f"{CONTAINERS}/getAcl/action", f"{CONTAINERS}/setAcl/action"
READ_BLOB, WRITE_BLOB, DELETE_BLOB = (
    f"{CONTAINERS}/blobs/read",
    f"{CONTAINERS}/blobs/write",
    f"{CONTAINERS}/blobs/delete",
)
ADD_BLOB, FIND_BLOBS = f"{CONTAINERS}/blobs/add/action", f"{CONTAINERS}/blobs/filter/action"
READ_TAGS, WRITE_TAGS = f"{CONTAINERS}/blobs/tags/read", f"{CONTAINERS}/blobs/tags/write"
HOLD_BLOB = f"{CONTAINERS}/blobs/immutableStorage/runAsSuperUser/action"
READ_LOCKS, WRITE_LOCKS, DELETE_LOCKS = (
    f"Microsoft.Authorization/locks/{verb}" for verb in ("read", "write", "delete")
)
READ_LOGGING, WRITE_LOGGING = (f"Microsoft.Insights/diagnosticSettings/{verb}" for verb in ("read", "write"))
READ_ACTIVITY = "Microsoft.Insights/eventtypes/management/values/read"
# the roles for accounts and containers, and those for blobs
ACCOUNT_CONTRIBUTOR, MONITORING, LOCKS_ROLE = (
    "Storage Account Contributor",
    "Monitoring Contributor",
    "User Access Administrator",
)
READER, CONTRIBUTOR, OWNER = "Storage Blob Data Reader", "Storage Blob Data Contributor", "Storage Blob Data Owner"


# --- errors ------------------------------------------------------------------------------------------------------------


class AzureStorageError(Exception):
    """Anything this integration refuses or fails to do, in words for the person who ran the command.

    AzureStorageError
      UsageError          an argument or an instance parameter is wrong; nothing was sent
      SignInError         Entra ID refused, or nobody has signed in yet
        SignInPending     the person has not finished in the browser; not a failure
      NetworkError        no usable answer: name, connection, TLS, proxy, time-out, not the service's words
      ServiceError        Azure answered with an error

    `next_step` says what to do about it; it is empty where the message already does.
    """

    def __init__(self, message: str, next_step: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.next_step = next_step

    def __str__(self) -> str:
        return f"{self.message}\nWhat to do: {self.next_step}" if self.next_step else self.message


class UsageError(AzureStorageError):
    """An argument or an instance parameter is wrong; nothing was sent."""


class SignInError(AzureStorageError):
    """Entra ID refused, or nobody has signed in yet. `code` is OAuth's error name."""

    def __init__(self, message: str, next_step: str = "", code: str = "") -> None:
        super().__init__(message, next_step)
        self.code = code


class SignInPending(SignInError):
    """The person has not finished in the browser; the same command can be repeated."""


class NetworkError(AzureStorageError):
    """No usable answer came back."""


class ServiceError(AzureStorageError):
    """Azure answered with an error.

    Holds what was tried (`action`), the HTTP `status`, the service's `code` and `detail`, and the `request_id` that
    Microsoft support asks for.
    """

    def __init__(self, action: str, status: int, code: str, detail: str, request_id: str = "", hint: str = "") -> None:
        words = f"Could not {action}: {status} {code}".rstrip()
        super().__init__(f"{words}. {detail}".rstrip(), hint or ARM_HINTS.get(code, STATUS_HINTS.get(status, "")))
        self.action, self.status, self.code, self.detail, self.request_id = action, status, code, detail, request_id

    def __str__(self) -> str:
        return super().__str__() + (f"\nRequest id: {self.request_id}" if self.request_id else "")


SIGN_IN_AGAIN = "run !azure-storage-auth-start to sign in again; the instance needs no change."
ASK_ADMIN = "ask an administrator of the tenant to look at the sign-in log with the correlation id below."
OTHER_FLOW = (
    "use the Authorization Code flow from a managed device, or Client Credentials with a self-deployed application; "
    "device code sign-in is often blocked by Conditional Access."
)

# OAuth's own error names come first: Microsoft says that the AADSTS numbers may change.
# https://learn.microsoft.com/entra/identity-platform/reference-error-codes
OAUTH_HINTS = {
    "authorization_pending": "finish the sign-in in the browser, then run !azure-storage-auth-complete again.",
    "slow_down": "wait a few seconds, then run !azure-storage-auth-complete again.",
    "authorization_declined": "the sign-in was declined in the browser; run !azure-storage-auth-start again.",
    "access_denied": "the sign-in was declined in the browser; run !azure-storage-auth-start again.",
    "expired_token": "the device code has expired (it lives 15 minutes); run !azure-storage-auth-start for a new one.",
    "bad_verification_code": "the device code is not known any more; run !azure-storage-auth-start for a new one.",
    "temporarily_unavailable": "Entra ID is busy; run the command again in a minute.",
    "invalid_scope": "the sign-in service does not know the resource; check the cloud of the instance.",
}
# For these names the number tells more than the name does.
OAUTH_FALLBACK_HINTS = {
    "invalid_grant": SIGN_IN_AGAIN,
    "invalid_client": "check the client secret or certificate and the application id of the instance.",
    "unauthorized_client": "check the application id, and that the application allows this way of signing in.",
    "interaction_required": SIGN_IN_AGAIN,
    "invalid_request": "check the application id, tenant id and redirect URI of the instance.",
}
AADSTS_HINTS: dict[int, str] = {
    **dict.fromkeys(
        (90119, 90120), "the code was not accepted in the browser; run !azure-storage-auth-start for a new one."
    ),
    50058: "sign in to Microsoft in that browser profile first, then open the address again.",
    **dict.fromkeys(
        (50059, 50128, 90019), "set the Tenant ID of the instance; the application does not tell the tenant."
    ),
    90002: "the tenant was not found: check the Tenant ID and the cloud of the instance.",
    **dict.fromkeys(
        (700016, 700011),
        "the application is not known in this tenant: check the Application ID and Tenant ID, or ask an administrator to add the application.",
    ),
    **dict.fromkeys(
        (50194, 9001023, 90130),
        "the application is for one tenant only: set the Tenant ID of the instance to that tenant.",
    ),
    **dict.fromkeys((50020, 50034, 90072), "sign in with a member or guest account of the tenant."),
    50126: "the user name or password was wrong; sign in again.",
    **dict.fromkeys(
        (50053, 50055, 50057), "the account is locked, disabled or its password has expired; ask an administrator."
    ),
    **dict.fromkeys(
        (50072, 50074, 50076, 50078, 50079, 50158),
        "multi-factor authentication is asked for: run !azure-storage-auth-start and sign in interactively. For automation use Client Credentials, which are exempt.",
    ),
    **dict.fromkeys((53000, 53001, 530003), "a managed or compliant device is required: " + OTHER_FLOW),
    **dict.fromkeys((53003, 530032, 530035), "a Conditional Access policy blocked the sign-in: " + OTHER_FLOW),
    **dict.fromkeys(
        (65001, 90094, 65004),
        "the application lacks consent: sign in as someone who may consent, or ask an administrator to grant the permissions named in the README.",
    ),
    **dict.fromkeys(
        (650056, 650057, 500011),
        "add the delegated permissions Azure Service Management (user_impersonation) and Azure Storage (user_impersonation) to the application, then consent.",
    ),
    54005: "the authorization code was already used: run !azure-storage-generate-login-url and paste the new code.",
    **dict.fromkeys((70008,), "the code or the session has expired: sign in again with !azure-storage-auth-start."),
    **dict.fromkeys((70000, 700082, 70043, 50173, 50089), "the session is over or was revoked: " + SIGN_IN_AGAIN),
    700005: "the code was issued by another tenant: set the Tenant ID of the instance to the tenant you sign in to.",
    **dict.fromkeys(
        (501481, 50147),
        "the code belongs to another login URL: run !azure-storage-generate-login-url and use that one.",
    ),
    **dict.fromkeys(
        (50011, 70004, 900971),
        "the redirect URI of the instance must be one of the application's redirect URIs, letter by letter.",
    ),
    **dict.fromkeys(
        (70011, 28002, 700022), "the resource is not known in this cloud: check the cloud of the instance."
    ),
    7000215: "paste the secret's value, not its id, as the Client Secret.",
    7000222: "the client secret has expired: create a new one and paste its value.",
    70002: "check the Client Secret of the instance.",
    7000218: "the application is confidential: give its Client Secret, or turn on 'Allow public client flows' for it.",
    700025: "the application is public: remove the Client Secret from the instance.",
    **dict.fromkeys(
        (700027, 700030),
        "the certificate was refused: check its thumbprint, key and that it is uploaded to the application.",
    ),
    **dict.fromkeys((7000112, 70001), "the application is disabled in this tenant; ask an administrator."),
    **dict.fromkeys(
        (90014, 900144), "a field is missing: check that Application ID, Tenant ID and redirect URI are filled in."
    ),
    50105: "the user is not assigned to the application; ask an administrator.",
    50196: "too many sign-in requests in a row; wait a few minutes.",
    **dict.fromkeys(
        (90033, 90006, 90012, 50033, 50087, 90024, 90055), "Entra ID is busy; run the command again in a minute."
    ),
}
# Numbers that say the refresh token itself is dead; any other refusal leaves it usable for another resource.
DEAD_GRANTS = frozenset((70000, 70008, 700082, 700084, 70043, 50173, 50089, 50132, 50133))

# https://learn.microsoft.com/rest/api/storagerp/srp_error_codes_reference and ARM's common error codes
ARM_HINTS = {
    "TooManyRequests": "wait a little and run the command again; Azure throttles per subscription.",
    "StorageAccountBeingCreated": "the account is still being created; run the command again in a minute.",
    "StorageAccountIsNotProvisioned": "the account is not ready yet; run the command again in a minute.",
    "StorageAccountOperationInProgress": "another operation holds the account; run the command again in a minute.",
    "StorageAccountAlreadyExists": "the name is taken in this subscription; see !azure-storage-account-list.",
    "StorageAccountAlreadyTaken": "account names are unique in all of Azure; choose another name.",
    "AccountNameInvalid": "an account name has 3 to 24 lower-case letters and digits.",
    "ContainerBeingDeleted": "the name is locked for about half a minute after a deletion; try again then.",
    "ContainerNotFound": (
        "check the name with !azure-storage-blob-containers-list; include_deleted=true shows soft-deleted containers."
    ),
    "ScopeLocked": "a resource lock stands in the way; see !azure-storage-account-lock-list, and remove it with !azure-storage-account-lock-remove.",
    "AccountProtectedFromDeletion": "a legal hold or a locked immutability policy protects the account.",
    "AuthorizationFailed": "give the signed-in identity a role that allows the action named above on that scope; new roles take minutes.",
    "LinkedAuthorizationFailed": "the identity also needs a role on the linked resource named above.",
    "RequestDisallowedByPolicy": "an Azure Policy forbids this; the policy is named above.",
    "RequestDisallowedByAzure": "Azure does not allow this in the region; choose another location.",
    "InvalidAuthenticationToken": SIGN_IN_AGAIN,
    "ExpiredAuthenticationToken": SIGN_IN_AGAIN,
    "InvalidAuthenticationTokenTenant": "the subscription belongs to another tenant; set the Tenant ID of the instance.",
    "SubscriptionNotFound": "check the subscription id, and that the identity may see it, with !azure-storage-subscriptions-list.",
    "ResourceGroupNotFound": "check the group with !azure-storage-resource-group-list.",
    "ResourceNotFound": (
        "check the name, the resource group and the subscription with !azure-storage-account-list; a missing role looks the same."
    ),
    "InvalidApiVersionParameter": "this cloud does not know the API version yet; the versions it knows are named above.",
    "NoRegisteredProviderFound": "this cloud does not offer the API version or location; what it offers is named above.",
    "MissingSubscriptionRegistration": "register the resource provider Microsoft.Storage in the subscription.",
    "FeatureNotSupportedForAccount": "this kind of account does not have that feature.",
}
# https://learn.microsoft.com/rest/api/storageservices/blob-service-error-codes
BLOB_HINTS = {
    "AuthorizationFailure": "usually the account's firewall: allow this engine's address, or use a network that has access.",
    "AuthorizationPermissionMismatch": (
        "the identity lacks a data role: give it Storage Blob Data Reader to read, Storage Blob Data Contributor to write; new roles take minutes."
    ),
    "InsufficientAccountPermissions": "the SAS or role does not allow this; use one that does.",
    "KeyBasedAuthenticationNotPermitted": "shared keys are turned off for the account; leave Storage Account Credentials empty and sign in.",
    "AuthenticationFailed": "the key or SAS is wrong or has ended, or the clock is off; sign in again or paste a new one.",
    "InvalidAuthenticationInfo": SIGN_IN_AGAIN,
    "PublicAccessNotPermitted": "the account does not allow public access.",
    "ContainerNotFound": "check the name with !azure-storage-blob-containers-list; include_deleted=true shows soft-deleted containers.",
    "BlobNotFound": "check the name with !azure-storage-blob-list; include=deleted shows soft-deleted blobs, !azure-storage-blob-undelete restores them.",
    "ResourceNotFound": "check the account name; the account may be gone.",
    "BlobAlreadyExists": "choose another name, or give overwrite=true.",
    "ConditionNotMet": "the blob has changed since it was read; look at it again before you go on.",
    "SnapshotsPresent": "give delete_snapshots=include to delete the snapshots as well, or only to keep the blob.",
    "BlobArchived": "the blob is archived: bring it back with !azure-storage-blob-tier-set tier=Hot, which takes hours.",
    "BlobBeingRehydrated": "the blob is on its way out of the archive; try again in some hours.",
    "BlobImmutableDueToPolicy": "an immutability policy or a legal hold protects the blob.",
    "LeaseIdMissing": "the blob has a lease: give its lease_id, or break the lease with !azure-storage-blob-lease action=break.",
    "LeaseIdMismatchWithBlobOperation": "the lease_id is not that of the blob's lease.",
    "LeaseAlreadyPresent": "somebody holds a lease already; break it first if you may.",
    "LeaseNotPresentWithBlobOperation": "there is no lease; leave lease_id out.",
    "LeaseNotPresentWithLeaseOperation": "there is no lease to work on.",
    "PendingCopyOperation": "a copy to this blob is going on; wait for it or abort it.",
    "NoPendingCopyOperation": "the copy has ended already.",
    "CannotVerifyCopySource": "Azure cannot read the source: it needs a role or SAS of its own, and its firewall must let the copy pass.",
    "ServerBusy": "the service is busy; run the command again in a minute.",
    "OperationTimedOut": "the service was slow; run the command again.",
    "InvalidHeaderValue": "the service does not take a value; the header is named above.",
    "InvalidQueryParameterValue": "the service does not take a value; the parameter is named above.",
    "Md5Mismatch": "the content was damaged on its way; run the command again.",
    "ContainerBeingDeleted": "the container is being deleted; the name is free again in about half a minute.",
    "FeatureNotSupportedForAccount": "this kind of account does not have that feature.",
    "AccountIsDisabled": "the account is disabled.",
}
STATUS_HINTS = {
    401: SIGN_IN_AGAIN,
    403: "the identity lacks a permission.",
    408: "the service was slow; run the command again.",
    409: "the resource is in a state that does not allow this now.",
    429: "wait a little and run the command again; Azure throttles per subscription.",
    500: "the service failed; run the command again, and give the request id to Microsoft support if it stays.",
    503: "the service is busy; run the command again in a minute.",
}


class ErrorBody(NamedTuple):
    """What an ARM error body says: its code, its message, and the lines of its details."""

    code: str
    message: str


def parse_arm_error(text: str) -> ErrorBody:
    """Read an ARM error body in any of the shapes ARM has been seen to use.

    {"error": {...}} or the bare object; the message may itself be such a document; `details` and the policy names in
    `additionalInfo` are added to the message. Anything else gives its first characters.
    https://learn.microsoft.com/azure/azure-resource-manager/troubleshooting/common-deployment-errors
    """
    error = json_object(text)
    error = error.get("error", error)
    if not isinstance(error, dict) or not (error.get("code") or error.get("message")):
        return ErrorBody("", snippet(text))
    message = str(error.get("message") or "")
    if json_object(message):
        inner = parse_arm_error(message)
        return ErrorBody(inner.code or str(error.get("code") or ""), inner.message)
    parts = [message]
    parts += [f"{d.get('code', '')}: {d.get('message', '')}" for d in dicts(error.get("details"))]
    parts += [f"Policy: {name}" for name in policy_names(error)]
    return ErrorBody(str(error.get("code") or ""), " ".join(part.strip() for part in parts if part.strip(" :")))


def policy_names(error: Json) -> list[str]:
    """The names of the Azure policies that an ARM error's additionalInfo blames."""
    infos = [info.get("info") for info in dicts(error.get("additionalInfo"))]
    named = [info.get("policyDefinitionDisplayName") or info.get("policyDefinitionName") for info in dicts(infos)]
    return [str(name) for name in named if name]


def json_object(text: str) -> Json:
    """The JSON object in a text, or {} where there is none."""
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def dicts(value: Any) -> list[Json]:
    """The objects in a list from a service; nothing for whatever else may stand there."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def snippet(text: str) -> str:
    """The start of an unexpected answer, on one line and without secrets."""
    line = " ".join(redact(text).split())
    return line[:SNIPPET] + ("..." if len(line) > SNIPPET else "")


def parse_xml(text: str) -> Json:
    """A small XML document as nested dictionaries: elements by name, lists where a name repeats, text at the leaves.

    ValueError for anything malformed, or with a document type, which no Azure answer has.
    """
    root: Json = {}
    stack: list[tuple[Json, str]] = [(root, "")]
    words: list[str] = []

    def start(name: str, attributes: Json) -> None:
        words.clear()
        stack.append(({}, name))

    def end(name: str) -> None:
        children, _ = stack.pop()
        value: Any = children or "".join(words).strip()
        words.clear()
        parent = stack[-1][0]
        if name in parent:
            parent[name] = [*parent[name], value] if isinstance(parent[name], list) else [parent[name], value]
        else:
            parent[name] = value

    feed_xml(start, end, words.append, [text.encode()])
    return root


def feed_xml(
    start: Callable[..., None], end: Callable[..., None], data: Callable[..., None], pieces: Iterable[bytes]
) -> None:
    """Parse XML as it arrives. ValueError if it is malformed or declares a document type."""
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = start, end, data

    def refuse(*_: Any) -> None:
        raise ValueError("XML with a document type is not read")

    parser.StartDoctypeDeclHandler = refuse
    try:
        for piece in pieces:
            parser.Parse(piece, False)
        parser.Parse(b"", True)
    except expat.ExpatError as error:
        raise ValueError(f"malformed XML: {error}") from None


def blob_error(response: requests.Response, action: str) -> ServiceError:
    """The blob service's refusal. The code stands in a header first: an answer to HEAD has no body."""
    text = text_of(response)
    try:
        error = parse_xml(text).get("Error") or {}
    except ValueError:
        error = json_object(text).get("error") or {}
    error = error if isinstance(error, dict) else {}
    code = response.headers.get("x-ms-error-code") or str(error.get("Code") or error.get("code") or "")
    words = str(error.get("Message") or error.get("message") or "").splitlines()[:1]
    words += [f"{key}: {value}." for key, value in error.items() if key in BLOB_ERROR_DETAILS]
    hint = BLOB_HINTS.get(code) or STATUS_HINTS.get(response.status_code, "")
    request_id = response.headers.get("x-ms-request-id", "")
    return ServiceError(action, response.status_code, code, " ".join(words) or snippet(text), request_id, hint)


BLOB_ERROR_DETAILS = (
    "HeaderName",
    "HeaderValue",
    "QueryParameterName",
    "QueryParameterValue",
    "Reason",
    "AuthenticationErrorDetail",
)


# --- secrets -----------------------------------------------------------------------------------------------------------

HIDDEN = "<hidden>"
_known_secrets: set[str] = set()

_SECRET_PATTERNS = (
    # in a query string or a form
    (
        re.compile(
            r"(?i)\b(sig|client_secret|refresh_token|access_token|id_token|assertion|client_assertion|device_code|code_verifier)"
            r"=[^&\s\"'<>]+"
        ),
        rf"\1={HIDDEN}",
    ),
    # an authorization code, but not the number of an error
    (re.compile(r"(?i)\b(code)=(?!\d{1,8}\b)[^&\s\"'<>]+"), rf"\1={HIDDEN}"),
    # in JSON
    (
        re.compile(
            r'(?i)("(?:sig|code_verifier|client_secret|refresh_token|access_token|id_token|assertion|client_assertion|device_code|accountKey)"\s*:\s*)"[^"]*"'
        ),
        rf'\1"{HIDDEN}"',
    ),
    (re.compile(r"(?i)\b(bearer|sharedkey)\s+[\w.~+/=:-]{8,}"), rf"\1 {HIDDEN}"),
    (re.compile(r"\beyJ[\w-]{8,}\.[\w-]+(?:\.[\w-]*)?"), HIDDEN),  # a JSON web token
    (re.compile(r"[A-Za-z0-9+/]{86}=="), HIDDEN),  # an account key
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL), HIDDEN),
)


class Secret:
    """A value that never prints. `reveal()` is the only way to it; the redactor knows it from the start."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value
        remember_secret(value)

    def reveal(self) -> str:
        return self._value

    def __bool__(self) -> bool:
        return bool(self._value)

    def __repr__(self) -> str:
        return f"Secret({HIDDEN})" if self._value else "Secret()"


def remember_secret(value: str) -> None:
    """Hide this value from now on: in our own texts, and in the platform's log when the instance runs in debug mode."""
    if len(value) < 6 or value in _known_secrets:  # hiding something so short would only garble texts
        return
    _known_secrets.add(value)
    LOG.add_replace_strs(value)


def redact(text: str) -> str:
    """The text without tokens, keys, signatures, codes and every value held as a Secret."""
    for value in sorted(_known_secrets, key=len, reverse=True):
        text = text.replace(value, HIDDEN)
    for pattern, replacement in _SECRET_PATTERNS:
        text = pattern.sub(replacement, text)
    return text


# --- names -------------------------------------------------------------------------------------------------------------

GUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
ACCOUNT_NAME = re.compile(r"[a-z0-9]{3,24}")
CONTAINER_NAME = re.compile(r"(?!.*--)[a-z0-9][a-z0-9-]{1,61}[a-z0-9]|\$(?:root|web|logs|blobchangefeed)")
# https://learn.microsoft.com/azure/azure-resource-manager/management/resource-name-rules
GROUP_NAME = re.compile(r"[\w().-]{0,89}[\w()-]")
SUBNET_ID = re.compile(
    r"(?i)/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft\.(?:Classic)?Network/virtualNetworks/[^/]+/subnets/[^/]+"
)


class ResourceId(NamedTuple):
    """The parts of an ARM id that this integration uses; a part that is not there is empty."""

    subscription: str
    group: str = ""
    account: str = ""
    container: str = ""


def parse_resource_id(text: str) -> ResourceId:
    """Split an ARM id, whatever the case of its keywords. https://learn.microsoft.com/rest/api/resources

    ValueError if it is not one.
    """
    segments = [urllib.parse.unquote(segment) for segment in text.strip().strip("/").split("/")]
    pairs = dict(zip((segment.lower() for segment in segments), segments[1:], strict=False))
    if segments[0].lower() != "subscriptions" or len(segments) < 2:
        raise ValueError
    return ResourceId(
        segments[1], pairs.get("resourcegroups", ""), pairs.get("storageaccounts", ""), pairs.get("containers", "")
    )


def resource_id(item: Json) -> ResourceId:
    """The parsed id of an ARM object; empty parts where the object has none."""
    try:
        return parse_resource_id(str(item.get("id") or ""))
    except ValueError:
        return ResourceId("")


@dataclass(frozen=True)
class AccountClue:
    """What an account argument told: always a name; subscription and group when a whole id was pasted."""

    name: str
    subscription: str = ""
    group: str = ""


@dataclass(frozen=True)
class AccountRef:
    """One storage account, fully named."""

    subscription: str
    group: str
    name: str

    @property
    def arguments(self) -> dict[str, str]:
        """The arguments that name it to another command."""
        return {
            "account_name": self.name,
            "resource_group_name": self.group,
            "subscription_id": self.subscription,
        }

    @property
    def id(self) -> str:
        return f"{group_path(self.subscription, self.group)}/providers/Microsoft.Storage/storageAccounts/{segment(self.name)}"

    def __str__(self) -> str:
        return self.name


class ContainerRef(NamedTuple):
    """One container of an account, as ARM knows it."""

    account: AccountRef
    name: str

    @property
    def path(self) -> str:
        return container_path(self.account, self.name)

    @property
    def arguments(self) -> dict[str, str]:
        return {**self.account.arguments, "container_name": self.name}

    def __str__(self) -> str:
        return f"{self.name} of {self.account}"


def segment(text: str) -> str:
    """One path segment of a URL; nothing in it can reach another path, host or query."""
    return urllib.parse.quote(text, safe="")


def subscription_path(subscription: str) -> str:
    return f"/subscriptions/{segment(subscription)}"


def group_path(subscription: str, group: str) -> str:
    return f"{subscription_path(subscription)}/resourceGroups/{segment(group)}"


def container_path(account: AccountRef, container: str) -> str:
    return f"{account.id}/blobServices/default/containers/{segment(container)}"


def unquoted(text: str) -> str:
    """A pasted name without the quotes, blanks and trailing slash that came along."""
    return text.strip().strip("\"'`").strip().rstrip("/")


def matching(pattern: re.Pattern[str], text: str) -> str:
    """The text if it matches the pattern from end to end; ValueError otherwise."""
    if not pattern.fullmatch(text):
        raise ValueError
    return text


def parse_subscription(text: str) -> str:
    text = unquoted(text)
    return matching(GUID, parse_resource_id(text).subscription if text.startswith("/") else text).lower()


def parse_group(text: str) -> str:
    text = unquoted(text)
    return matching(GROUP_NAME, parse_resource_id(text).group if text.startswith("/") else text)


def parse_account(text: str) -> AccountClue:
    """An account from what people paste: its name in any case, an ARM id, or a URL of anything in it."""
    text = unquoted(text)
    if text.lower().startswith("/subscriptions/"):
        found = parse_resource_id(text)
        name = matching(ACCOUNT_NAME, found.account.lower())
        return AccountClue(name, parse_subscription(found.subscription), parse_group(found.group))
    account = account_and_path(urllib.parse.urlsplit(text))[0] if "://" in text else text.split(".")[0].lower()
    return AccountClue(matching(ACCOUNT_NAME, account))


def account_and_path(url: urllib.parse.SplitResult) -> tuple[str, str]:
    """The account that an address names, and the rest of its path: the host's first label, or the first segment of the
    path where the host is a bare address."""
    host, path = url.hostname or "", url.path.lstrip("/")
    if re.fullmatch(r"[\d.]+|localhost", host):
        account, _, path = path.partition("/")
        return account, path
    return host.split(".")[0].lower(), path


def parse_container(text: str) -> str:
    return matching(CONTAINER_NAME, unquoted(text).lower())


def host_of(url: str) -> str:
    """Host and port of a URL, lower case; empty unless it is https without user information."""
    parts = urllib.parse.urlsplit(url)
    return parts.netloc.lower() if parts.scheme == "https" and "@" not in parts.netloc else ""


class BlobAddress(NamedTuple):
    """What a blob URL names; parts that it does not reach are empty. A SAS in it is dropped."""

    host: str
    account: str
    container: str = ""
    blob: str = ""
    version: str = ""
    snapshot: str = ""


def parse_blob_url(text: str) -> BlobAddress:
    """A URL of an account, a container or a blob; the account is the host's first label, or the first path segment of a
    host that has none (an address). ValueError for anything else. https://learn.microsoft.com/rest/api/storageservices/naming-and-referencing-containers--blobs--and-metadata
    """
    parts = urllib.parse.urlsplit(text.strip().strip("\"'`"))
    if parts.scheme != "https" or not parts.hostname or "@" in parts.netloc:
        raise ValueError
    account, path = account_and_path(parts)
    matching(ACCOUNT_NAME, account)
    container, _, blob = path.partition("/")
    query = dict(urllib.parse.parse_qsl(parts.query))
    version, snapshot = query.get("versionid", ""), query.get("snapshot", "")
    name = parse_blob_name(urllib.parse.unquote(blob)) if blob else ""
    found = parse_container(urllib.parse.unquote(container)) if container else ""
    return BlobAddress(parts.netloc.lower(), account, found, name, version, snapshot)


def parse_blob_name(text: str) -> str:
    """Any name that Azure can hold and a URL can reach: 1 to 1,024 characters, no control characters, no . or .. segment."""
    if not 1 <= len(text) <= 1024 or re.search(r"[\x00-\x1f\x7f]", text):
        raise ValueError
    if {".", ".."} & set(text.split("/")):
        raise ValueError("a segment of only dots cannot be reached by a URL")
    return text


def blob_path(container: str, blob: str = "") -> str:
    """The path of a container or blob in a URL; slashes in a blob's name stay, everything else is quoted."""
    return f"/{segment(container)}" + (f"/{urllib.parse.quote(blob, safe='/~')}" if blob else "")


def safe_file_name(name: str) -> str:
    """A blob's name as a local file name that leads nowhere else."""
    return re.sub(r"[^\w.() +=@-]", "_", name.rsplit("/", 1)[-1]).lstrip(".")[:200] or "blob"


# --- settings ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class StorageCredential:
    """An account SAS or account key of the instance: the way to the blobs of one account without Entra ID.

    https://learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key
    """

    account: str  # empty: any account
    sas: Secret
    key: Secret

    def sign(self, method: str, url: str, headers: Json, length: int) -> tuple[str, Json]:
        """URL and headers of a request whose body has that many bytes, with what authorises it."""
        if self.sas:
            return f"{url}{'&' if '?' in url else '?'}{self.sas.reveal()}", headers
        signature = hmac_sha256(self.key.reveal(), string_to_sign(method, url, headers, length, self.account))
        return url, {**headers, "Authorization": f"SharedKey {self.account}:{signature}"}


def hmac_sha256(key: str, text: str) -> str:
    """The signature that storage keys and delegation keys make; key and result are base64."""
    return base64.b64encode(hmac.new(base64.b64decode(key), text.encode(), hashlib.sha256).digest()).decode()


def string_to_sign(method: str, url: str, headers: Json, length: int, account: str) -> str:
    """What a shared key signs: the standard headers, the x-ms- headers and the resource, each in its order."""
    lower = {name.lower(): str(value) for name, value in headers.items()}
    lines = [method, *(lower.get(name, "") for name in ("content-encoding", "content-language"))]
    lines.append(str(length or ""))
    names = (
        "content-md5",
        "content-type",
        "date",
        "if-modified-since",
        "if-match",
        "if-none-match",
        "if-unmodified-since",
        "range",
    )
    lines += [lower.get(name, "") for name in names]
    lines += [f"{name}:{' '.join(lower[name].split())}" for name in sorted(lower) if name.startswith("x-ms-")]
    parts = urllib.parse.urlsplit(url)
    resource = [f"/{account}{parts.path or '/'}"]
    for name, value in sorted(urllib.parse.parse_qsl(parts.query, keep_blank_values=True)):
        resource.append(f"{name.lower()}:{value}")
    return "\n".join([*lines, *resource])


def read_storage_credential(value: Any) -> StorageCredential | None:
    """The account SAS or key of the instance; None without one. UsageError for what is neither."""
    text = password_param(value).lstrip("?")
    if not text:
        return None
    account = str(value.get("identifier") or "").strip().lower() if isinstance(value, dict) else ""
    if "sig=" in text:
        return StorageCredential(account, Secret(text), Secret(""))
    if re.fullmatch(r"[A-Za-z0-9+/]{86}==", text) and ACCOUNT_NAME.fullmatch(account):
        return StorageCredential(account, Secret(""), Secret(text))
    raise UsageError(
        "Storage Account Name: with an account key, or an account SAS (sv=...&sig=...), give the name of its account."
    )


@dataclass(frozen=True)
class Settings:
    """The instance's parameters, checked once. Empty strings stand for what was not given."""

    auth_type: str
    cloud: Cloud
    app_id: str
    tenant: str
    client_secret: Secret
    certificate_thumbprint: str
    certificate_key: Secret
    redirect_uri: str
    authorization_code: Secret
    identity_client_id: str
    subscription: str
    group: str
    verify: bool
    storage_credential: StorageCredential | None = None
    own_addresses: tuple[Json, ...] = ()

    def storage_credential_for(self, account: str) -> StorageCredential | None:
        """The instance's SAS or key, if it has one that is for this account."""
        found = self.storage_credential
        return found if found and found.account in ("", account) else None

    @property
    def identity_key(self) -> str:
        """Names the identity: a token is only ever used by an instance with the same fingerprint.

        The secret counts for client credentials, where it is the identity; a person's session outlives a new secret.
        """
        parts = [
            self.auth_type,
            self.app_id,
            self.tenant,
            self.cloud.authority,
            self.cloud.audience,
            self.identity_client_id,
        ]
        if self.auth_type == CLIENT_CREDENTIALS:
            parts += [self.client_secret.reveal(), self.certificate_thumbprint, self.certificate_key.reveal()]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def read_settings(params: Mapping[str, Any]) -> Settings:
    """Turn demisto.params() into Settings. UsageError names the field as the form shows it."""
    auth_type = str(params.get("auth_type") or DEVICE_CODE)
    if auth_type not in (*USER_FLOWS, CLIENT_CREDENTIALS, MANAGED_IDENTITY):
        raise UsageError(f"Authentication Type: {auth_type!r} is not one of the choices.")
    # A field that the form hides keeps what it held, so only the ways in that use a certificate look at it.
    with_certificate = auth_type in (AUTHORIZATION_CODE, CLIENT_CREDENTIALS)
    thumbprint, key = certificate_param(params.get("certificate")) if with_certificate else ("", "")
    settings = Settings(
        auth_type=auth_type,
        cloud=read_cloud(params),
        app_id=str(params.get("app_id") or "").strip() or CORTEX_APP_ID,
        tenant=str(params.get("tenant_id") or "").strip().strip("/"),
        client_secret=Secret(password_param(params.get("credentials"))),
        certificate_thumbprint=thumbprint,
        certificate_key=Secret(key),
        redirect_uri=str(params.get("redirect_uri") or "").strip() or DEFAULT_REDIRECT_URI,
        authorization_code=Secret(password_param(params.get("auth_code"))),
        identity_client_id=password_param(params.get("managed_identities_client_id")),
        subscription=checked_param(params, "subscription_id", "Default Subscription ID", parse_subscription, ""),
        group=checked_param(params, "resource_group_name", "Default Resource Group Name", parse_group, ""),
        verify=not is_true(params.get("insecure")),
        storage_credential=read_storage_credential(params.get("storage_credentials")),
        own_addresses=checked_param(
            params, "own_ip_addresses", "Own Public IP Addresses", lambda text: tuple(read_ip_rules(text)), ()
        ),
    )
    check_identity(settings)
    return settings


def check_identity(settings: Settings) -> None:
    """Refuse combinations that Entra ID would refuse later in less helpful words."""
    if settings.auth_type == MANAGED_IDENTITY:
        return
    if not GUID.fullmatch(settings.app_id):
        raise UsageError("Application ID: give the application (client) id, a GUID such as " + CORTEX_APP_ID + ".")
    if not re.fullmatch(r"[\w.-]*", settings.tenant):
        raise UsageError("Tenant ID: give the directory (tenant) id, a GUID, or a domain of the tenant.")
    check_credential(settings)
    if settings.auth_type != CLIENT_CREDENTIALS:
        return
    if not settings.tenant:
        raise UsageError("Tenant ID: Client Credentials need the tenant of the application.")
    if settings.app_id == CORTEX_APP_ID:
        raise UsageError(
            "Application ID: Client Credentials need a self-deployed application, not the Cortex XSOAR one."
        )
    if not settings.client_secret and not settings.certificate_key:
        raise UsageError(
            "Client Credentials need a Client Secret, or a Certificate Thumbprint and Certificate Private Key."
        )


def check_credential(settings: Settings) -> None:
    """A secret or a certificate, and a whole one."""
    if settings.certificate_key and settings.client_secret and settings.auth_type != DEVICE_CODE:
        raise UsageError(
            "Client Secret: the instance has a Certificate Private Key as well; give one of the two and clear the other."
        )
    if settings.certificate_key and not re.fullmatch(r"[0-9A-F]{40}", settings.certificate_thumbprint):
        raise UsageError("Certificate Thumbprint: give the 40 hexadecimal digits that the Azure portal shows.")


def read_cloud(params: Mapping[str, Any]) -> Cloud:
    """The chosen cloud; a custom one is made of the endpoints given. UsageError if one is missing or not https."""
    name = str(params.get("cloud") or "Worldwide")
    if name in CLOUDS:
        return CLOUDS[name]
    if name != CUSTOM_CLOUD:
        raise UsageError(f"Cloud: {name!r} is not one of {', '.join((*CLOUDS, CUSTOM_CLOUD))}.")
    authority = https_param(params, "custom_authority_url", "Sign-in Authority URL")
    resource_manager = https_param(params, "custom_resource_manager_url", "Resource Manager URL")
    audience = str(params.get("custom_resource_manager_audience") or "").strip() or resource_manager
    suffix = str(params.get("custom_storage_suffix") or "").strip().strip("./").lower()
    if not re.fullmatch(r"[\w.-]+(?::\d+)?", suffix):
        raise UsageError("Storage Endpoint Suffix: the Custom cloud needs it, for example local.azurestack.external.")
    return Cloud(CUSTOM_CLOUD, authority, resource_manager, audience, suffix, discovery=True)


def https_param(params: Mapping[str, Any], name: str, display: str) -> str:
    url = str(params.get(name) or "").strip().rstrip("/")
    if not host_of(url) or urllib.parse.urlsplit(url).query:
        raise UsageError(f"{display}: the Custom cloud needs it, an address that begins with https://.")
    return url


def checked_param(params: Mapping[str, Any], name: str, display: str, parse: Callable[[str], T], unset: T) -> T:
    text = str(params.get(name) or "").strip()
    try:
        return parse(text) if text else unset
    except ValueError:
        raise UsageError(f"{display}: {redact(text)!r} is not valid.") from None


def password_param(value: Any) -> str:
    """The hidden half of a credentials parameter."""
    return str(value.get("password") or "").strip() if isinstance(value, dict) else str(value or "").strip()


def certificate_param(value: Any) -> tuple[str, str]:
    """Thumbprint (hexadecimal, no separators) and private key (PEM) of the certificate parameter.

    A form field loses the line ends of a PEM document, so they are put back; a key from the credentials store stands in
    its sshkey field.
    """
    if not isinstance(value, dict):
        return "", ""
    stored = value.get("credentials")
    key = str(value.get("password") or (stored.get("sshkey") if isinstance(stored, dict) else "") or "").strip()
    thumbprint = re.sub(r"[\s:]", "", str(value.get("identifier") or "")).upper()
    found = re.search(r"-----BEGIN ([A-Z ]+)-----(.*?)-----END \1-----", key, re.DOTALL)
    if key and not found:
        raise UsageError("Certificate Private Key: give the whole PEM text, from -----BEGIN to -----END.")
    if not found:
        return thumbprint, ""
    remember_secret(found[2].strip())
    body = "\n".join(found[2].split())
    return thumbprint, f"-----BEGIN {found[1]}-----\n{body}\n-----END {found[1]}-----\n"


def is_true(value: Any) -> bool:
    return value is True or str(value).strip().lower() in ("true", "yes", "1")


# --- arguments ---------------------------------------------------------------------------------------------------------


class Reader(NamedTuple):
    """Turns one argument's string into a value. `read` raises ValueError; `accepts` finishes "... accepts ..."."""

    accepts: str
    read: Callable[[str], Any]
    choices: tuple[str, ...] = ()
    secret: bool = False  # the value itself never appears in a message


class Argument(NamedTuple):
    """One argument of a command as the manifest must show it; `default` is inspect.Parameter.empty when required."""

    reader: Reader
    default: Any

    @property
    def required(self) -> bool:
        return self.default is inspect.Parameter.empty


class Group(NamedTuple):
    """Several arguments that make one value together, such as the three that name an account.

    `build` gets the Azure at hand and the values by name, with None for what was not given and has no default.
    """

    arguments: Mapping[str, Argument]
    build: Callable[[Any, dict[str, Any]], Any]


def read_number(low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not re.fullmatch(r"-?\d{1,12}", text) or not low <= int(text) <= high:
            raise ValueError
        return int(text)

    return read


def number(low: int, high: int) -> Reader:
    return Reader(f"a whole number from {low} to {high}", read_number(low, high))


def read_flag(text: str) -> bool:
    if text.lower() in ("true", "yes", "1"):
        return True
    if text.lower() in ("false", "no", "0"):
        return False
    raise ValueError


def choice(*choices: str, free: bool = False) -> Reader:
    """One of the choices, in any case. `free`: the manifest offers no list, as the existing pack does not."""
    by_lower = {item.lower(): item for item in choices}

    def read(text: str) -> str:
        if text.lower() not in by_lower:
            raise ValueError
        return by_lower[text.lower()]

    return Reader("one of " + ", ".join(choices), read, () if free else choices)


def listed(item: Reader) -> Reader:
    """A comma list or a JSON array of items."""

    def read(text: str) -> list[Any]:
        return [item.read(part) for part in split_list(text)]

    return Reader(f"a list: {item.accepts}", read, item.choices)


def split_list(text: str) -> list[str]:
    """The strings in a comma list or a JSON array; ValueError for a malformed array."""
    if text.startswith("["):
        values = json.loads(text)
        if not all(isinstance(value, str | int) for value in values):
            raise ValueError
        return [str(value).strip() for value in values]
    return [part.strip() for part in text.split(",") if part.strip()]


def read_json_object(text: str) -> Json:
    found = json_object(text)
    if not found:
        raise ValueError
    return found


def read_tags(text: str) -> dict[str, str]:
    """Tags from a JSON object, key=value pairs, or a bare comma list, which becomes tag1..tagN as the existing pack has it.

    https://learn.microsoft.com/azure/azure-resource-manager/management/tag-resources
    """
    if text.startswith("{"):
        tags = {str(key): str(value) for key, value in read_json_object(text).items()}
    else:
        parts = split_list(text)
        pairs = [part.partition("=") for part in parts]
        if all(sign for _, sign, _ in pairs):
            tags = {key.strip(): value.strip() for key, _, value in pairs}
        elif any(sign for _, sign, _ in pairs):
            raise ValueError("some items have no =")
        else:
            tags = {f"tag{count}": part for count, part in enumerate(parts, 1)}
    if not tags or len(tags) > 50 or any(not 1 <= len(k) <= 128 or len(v) > 256 for k, v in tags.items()):
        raise ValueError
    if any(set(key) & set("<>%&\\?/") for key in tags):
        raise ValueError("a name holds one of < > % & \\ ? /")
    return tags


def read_tag_filter(text: str) -> tuple[str, str]:
    """One tag as {"name": "value"} or name=value."""
    tags = read_tags(text) if text.startswith("{") or "=" in text else {}
    if len(tags) != 1:
        raise ValueError
    return next(iter(tags.items()))


def read_location(text: str) -> str:
    """A region by its name or its display name: "West Europe" is westeurope."""
    return matching(re.compile(r"[a-z0-9]{3,40}"), re.sub(r"[\s-]", "", text).lower())


PRIVATE_NETWORKS = tuple(map(ipaddress.IPv4Network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")))


def read_ip_rule(text: str) -> str:
    """An IPv4 address or network as ARM takes it: public, /1 to /30, and a single address without /32.

    https://learn.microsoft.com/azure/storage/common/storage-network-security#restrictions-for-ip-network-rules
    """
    network = ipaddress.IPv4Network(text.strip(), strict=False)
    if any(network.subnet_of(private) for private in PRIVATE_NETWORKS):
        raise ValueError("private addresses cannot be used in a storage firewall")
    if network.prefixlen == 31:
        raise ValueError("a /31 is not possible; give its two addresses")
    return str(network.network_address) if network.prefixlen == 32 else str(network)


def read_ip_rules(text: str) -> list[Json]:
    """IP rules from a comma list of addresses and networks, or a JSON array of them or of ARM's own objects."""
    return [
        {"value": read_ip_rule(value), "action": "Allow"} for value in rule_values(text, "value", "IPAddressOrRange")
    ]


def read_subnet_rules(text: str) -> list[Json]:
    """Virtual network rules from a comma list of subnet ids, or a JSON array of them or of ARM's own objects."""
    return [{"id": matching(SUBNET_ID, value), "action": "Allow"} for value in rule_values(text, "id", "id")]


def rule_values(text: str, *keys: str) -> list[str]:
    """The values of a rule list in any of its forms; a single JSON object counts as a list of one."""
    if not text.startswith(("[", "{")):
        return split_list(text)
    found = json.loads(text)
    items = found if isinstance(found, list) else [found]
    return [
        next(str(item[key]) for key in (*keys, "") if key in item) if isinstance(item, dict) else str(item)
        for item in items
    ]


def read_token(text: str) -> Json:
    """The place in a listing that an earlier call handed out; see Listing."""
    try:
        place = json.loads(base64.urlsafe_b64decode(text.encode() + b"=="))
        return {"url": str(place["u"]), "skip": int(place["s"])}
    except (ValueError, KeyError, TypeError, binascii.Error):
        raise ValueError from None


def read_operation(text: str) -> str:
    if not host_of(text):
        raise ValueError
    return text


Flag = Annotated[bool, Reader("true or false", read_flag, ("true", "false"))]
Text = Annotated[str, Reader("text", str)]
Texts = Annotated[list[str], listed(Reader("names", str))]
SecretText = Annotated[Secret, Reader("text", Secret, secret=True)]
Days = Annotated[int, number(1, 365)]
Count = Annotated[int, number(1, 1_000_000)]
Seconds = Annotated[int, number(1, 86_400)]
Subscription = Annotated[str, Reader("a subscription id (GUID)", parse_subscription)]
GroupName = Annotated[str, Reader("a resource group name of at most 90 characters", parse_group)]
Account = Annotated[
    AccountClue,
    Reader("a storage account name (3 to 24 lower-case letters and digits), its ARM id or a URL in it", parse_account),
]
Container = Annotated[
    str,
    Reader(
        "a container name (3 to 63 lower-case letters, digits and single hyphens), or $root, $web, $logs",
        parse_container,
    ),
]
Tags = Annotated[
    dict[str, str],
    Reader(
        'name=value pairs separated by commas, or a JSON object such as {"case":"1234"}, of at most 50 tags', read_tags
    ),
]
TagFilter = Annotated[tuple[str, str], Reader('one tag as name=value or {"name":"value"}', read_tag_filter)]
PageToken = Annotated[Json, Reader("the next_token that an earlier call returned", read_token)]
Operation = Annotated[str, Reader("the address of a running operation", read_operation, secret=True)]


def reader_of(annotation: Any) -> Reader | Group | None:
    """What turns strings into a parameter of this annotation: the Reader or Group in its Annotated, optional or not."""
    for candidate in (annotation, *get_args(annotation)):
        if get_origin(candidate) is Annotated:
            return next((meta for meta in get_args(candidate)[1:] if isinstance(meta, Reader | Group)), None)
    return None


def optional(annotation: Any, default: Any = None) -> Argument:
    reader = reader_of(annotation)
    assert isinstance(reader, Reader), annotation  # noqa: S101 - a slip of ours, seen by every test
    return Argument(reader, default)


def required(annotation: Any) -> Argument:
    return optional(annotation, inspect.Parameter.empty)


def as_text(value: Any) -> str:
    """An argument as the string a person would have typed: playbooks also hand over booleans, numbers, lists and objects."""
    if isinstance(value, str):
        return value.strip()
    if value is None:
        return ""
    return json.dumps(value) if isinstance(value, list | dict | bool) else str(value)


def read_argument(name: str, argument: Argument, text: str) -> Any:
    """The typed value of one argument; an empty string counts as not given. UsageError names what is accepted."""
    if not text:
        if argument.required:
            raise UsageError(f"Argument {name} is missing: it accepts {argument.reader.accepts}.")
        return argument.default
    try:
        return argument.reader.read(text)
    except (ValueError, TypeError, KeyError, StopIteration) as error:
        given = "a value that is not" if argument.reader.secret else repr(redact(text)[:SNIPPET]) + " is not"
        reason = (
            f" ({error})" if type(error) is ValueError and str(error).isascii() and 0 < len(str(error)) < 80 else ""
        )
        raise UsageError(f"Argument {name}: {given} accepted{reason}; it accepts {argument.reader.accepts}.") from None


# The groups of arguments that commands share. `azure` is the Azure of the section below.


class Paging(NamedTuple):
    """How much of a listing is wanted, and from where on."""

    limit: int = DEFAULT_LIMIT
    all_results: bool = False
    start: Json | None = None


PAGING_ARGUMENTS = {
    "limit": optional(Count, DEFAULT_LIMIT),
    "all_results": optional(Flag, False),
    "next_token": optional(PageToken),
}
SCOPE_ARGUMENTS = {"resource_group_name": optional(GroupName), "subscription_id": optional(Subscription)}


def build_paging(azure: Any, given: dict[str, Any]) -> Paging:
    return Paging(given["limit"], given["all_results"], given["next_token"])


def build_account(azure: "Azure", given: dict[str, Any]) -> AccountRef:
    """The account that the arguments and the instance name together. UsageError says what is missing."""
    clue: AccountClue = given["account_name"]
    for name, found in (("subscription_id", clue.subscription), ("resource_group_name", clue.group)):
        if found and given[name] and found.lower() != given[name].lower():
            raise UsageError(f"Argument {name}: {given[name]!r} contradicts the id given as account_name.")
    return azure.account(
        clue.name, clue.subscription or given["subscription_id"] or "", clue.group or given["resource_group_name"] or ""
    )


def clue_of(given: dict[str, Any]) -> AccountClue:
    """The account that account_name or blob_url names. UsageError if neither does, or they contradict each other."""
    clue: AccountClue | None = given["account_name"]
    url: BlobAddress | None = given["blob_url"]
    if clue and url and clue.name != url.account:
        raise UsageError(f"Argument blob_url: it is in account {url.account}, not in {clue.name} as account_name says.")
    found = clue or (AccountClue(url.account) if url else None)
    if not found:
        raise UsageError("Argument account_name is missing: give it, or a blob_url.")
    return found


def build_target(azure: "Azure", given: dict[str, Any]) -> AccountRef:
    return build_account(azure, {**given, "account_name": clue_of(given)})


PagingArgs = Annotated[Paging, Group(PAGING_ARGUMENTS, build_paging)]
AccountArgs = Annotated[AccountRef, Group({"account_name": required(Account), **SCOPE_ARGUMENTS}, build_account)]


class BodyField(NamedTuple):
    """An argument that becomes one property of an ARM body, at a dotted path."""

    argument: Argument
    path: str


def body_group(fields: Mapping[str, BodyField]) -> Group:
    """The arguments of an ARM body: only what was given is in it, and it is nested as ARM nests it."""

    def build(azure: Any, given: dict[str, Any]) -> Json:
        body: Json = {}
        for name, value in given.items():
            if value is not None:
                put_path(body, fields[name].path, value)
        return body

    return Group({name: entry.argument for name, entry in fields.items()}, build)


def put_path(body: Json, path: str, value: Any) -> None:
    *parents, last = path.split(".")
    for parent in parents:
        body = body.setdefault(parent, {})
    body[last] = value


def at_path(value: Any, path: str) -> Any:
    """What stands at a dotted path; None where it ends early."""
    for key in path.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value


def without(value: Json, paths: Iterable[str]) -> Json:
    """A copy without what stands at the dotted paths."""
    copy = deepcopy(value)
    for path in paths:
        parent, _, last = path.rpartition(".")
        holder = at_path(copy, parent) if parent else copy
        if isinstance(holder, dict):
            holder.pop(last, None)
    return copy


def body_fields(*rows: tuple[str, Any, str]) -> dict[str, BodyField]:
    return {name: BodyField(optional(annotation), path) for name, annotation, path in rows}


Sku = Annotated[
    str,
    choice(
        "Premium_LRS",
        "Premium_ZRS",
        "Standard_GRS",
        "Standard_GZRS",
        "Standard_LRS",
        "Standard_RAGRS",
        "Standard_RAGZRS",
        "Standard_ZRS",
    ),
]
Kind = Annotated[str, choice("Storage", "StorageV2", "BlobStorage", "FileStorage", "BlockBlobStorage")]
Bypass = Annotated[list[str], listed(choice("AzureServices", "Logging", "Metrics", "None"))]

# https://learn.microsoft.com/rest/api/storagerp/storage-accounts/create
ACCOUNT_FIELDS = body_fields(
    ("sku", Sku, "sku.name"),
    ("kind", Kind, "kind"),
    ("location", Annotated[str, Reader("an Azure region such as westeurope", read_location)], "location"),
    ("tags", Tags, "tags"),
    ("custom_domain_name", Text, "properties.customDomain.name"),
    ("use_sub_domain_name", Flag, "properties.customDomain.useSubDomainName"),
    (
        "enc_key_source",
        Annotated[str, choice("Microsoft.Storage", "Microsoft.Keyvault")],
        "properties.encryption.keySource",
    ),
    ("enc_require_infrastructure_encryption", Flag, "properties.encryption.requireInfrastructureEncryption"),
    ("enc_keyvault_key_name", Text, "properties.encryption.keyvaultproperties.keyname"),
    ("enc_keyvault_key_version", Text, "properties.encryption.keyvaultproperties.keyversion"),
    ("enc_keyvault_uri", Text, "properties.encryption.keyvaultproperties.keyvaulturi"),
    ("access_tier", Annotated[str, choice("Hot", "Cool", "Cold", "Premium")], "properties.accessTier"),
    ("supports_https_traffic_only", Flag, "properties.supportsHttpsTrafficOnly"),
    ("is_hns_enabled", Flag, "properties.isHnsEnabled"),
    ("large_file_shares_state", Annotated[str, choice("Disabled", "Enabled")], "properties.largeFileSharesState"),
    ("allow_blob_public_access", Flag, "properties.allowBlobPublicAccess"),
    ("allow_shared_key_access", Flag, "properties.allowSharedKeyAccess"),
    (
        "public_network_access",
        Annotated[str, choice("Enabled", "Disabled", "SecuredByPerimeter")],
        "properties.publicNetworkAccess",
    ),
    (
        "minimum_tls_version",
        Annotated[str, choice("TLS1_0", "TLS1_1", "TLS1_2")],
        "properties.minimumTlsVersion",
    ),
    ("network_ruleset_bypass", Bypass, "properties.networkAcls.bypass"),
    (
        "network_ruleset_default_action",
        Annotated[str, choice("Allow", "Deny", free=True)],
        "properties.networkAcls.defaultAction",
    ),
    (
        "network_ruleset_ip_rules",
        Annotated[
            list[Json],
            Reader(
                'public IPv4 addresses or networks separated by commas, or a JSON array such as [{"value":"203.0.113.7"}]',
                read_ip_rules,
            ),
        ],
        "properties.networkAcls.ipRules",
    ),
    (
        "virtual_network_rules",
        Annotated[
            list[Json],
            Reader(
                'subnet ids separated by commas, or a JSON array such as [{"id":"/subscriptions/.../subnets/..."}]',
                read_subnet_rules,
            ),
        ],
        "properties.networkAcls.virtualNetworkRules",
    ),
)
AccountBody = Annotated[Json, body_group(ACCOUNT_FIELDS)]
Location = Annotated[str, Reader("an Azure region such as westeurope", read_location)]

# https://learn.microsoft.com/rest/api/storagerp/storage-accounts/update
UPDATE_FIELDS = {
    name: ACCOUNT_FIELDS[name]
    for name in (
        "sku",
        "tags",
        "access_tier",
        "allow_blob_public_access",
        "allow_shared_key_access",
        "public_network_access",
        "supports_https_traffic_only",
        "minimum_tls_version",
        "network_ruleset_bypass",
    )
} | body_fields(
    ("network_ruleset_default_action", Annotated[str, choice("Allow", "Deny")], "properties.networkAcls.defaultAction"),
    ("is_sftp_enabled", Flag, "properties.isSftpEnabled"),
    ("is_local_user_enabled", Flag, "properties.isLocalUserEnabled"),
    ("allow_cross_tenant_replication", Flag, "properties.allowCrossTenantReplication"),
    ("allow_cross_tenant_delegation_sas", Flag, "properties.allowCrossTenantDelegationSas"),
    ("allowed_copy_scope", Annotated[str, choice("AAD", "PrivateLink")], "properties.allowedCopyScope"),
    ("default_to_oauth_authentication", Flag, "properties.defaultToOAuthAuthentication"),
    (
        "sas_expiration_period",
        Annotated[
            str,
            Reader(
                "a period as days.hours:minutes:seconds, such as 7.00:00:00",
                lambda text: matching(re.compile(r"\d{1,5}\.[0-2]\d:[0-5]\d:[0-5]\d"), text),
            ),
        ],
        "properties.sasPolicy.sasExpirationPeriod",
    ),
    ("sas_expiration_action", Annotated[str, choice("Log", "Block")], "properties.sasPolicy.expirationAction"),
    ("key_expiration_period_in_days", Days, "properties.keyPolicy.keyExpirationPeriodInDays"),
)
AccountUpdate = Annotated[Json, body_group(UPDATE_FIELDS)]

# https://learn.microsoft.com/rest/api/storagerp/blob-services/set-service-properties
BLOB_SERVICE_FIELDS = body_fields(
    ("change_feed_enabled", Flag, "changeFeed.enabled"),
    ("change_feed_retention_days", Annotated[int, number(1, 146_000)], "changeFeed.retentionInDays"),
    ("container_delete_retention_policy_enabled", Flag, "containerDeleteRetentionPolicy.enabled"),
    ("container_delete_retention_policy_days", Days, "containerDeleteRetentionPolicy.days"),
    ("delete_retention_policy_enabled", Flag, "deleteRetentionPolicy.enabled"),
    ("delete_retention_policy_days", Days, "deleteRetentionPolicy.days"),
    ("versioning", Flag, "isVersioningEnabled"),
    ("last_access_time_tracking_policy_enabled", Flag, "lastAccessTimeTrackingPolicy.enable"),
    (
        "last_access_time_tracking_policy_blob_types",
        Annotated[list[str], listed(choice("blockBlob", free=True))],
        "lastAccessTimeTrackingPolicy.blobType",
    ),
    ("last_access_time_tracking_policy_days", Count, "lastAccessTimeTrackingPolicy.trackingGranularityInDays"),
    ("restore_policy_enabled", Flag, "restorePolicy.enabled"),
    ("restore_policy_min_restore_time", Text, "restorePolicy.minRestoreTime"),
    ("restore_policy_days", Annotated[int, number(1, 364)], "restorePolicy.days"),
)
BlobServiceBody = Annotated[Json, body_group(BLOB_SERVICE_FIELDS)]

# https://learn.microsoft.com/rest/api/storagerp/blob-containers/create
CONTAINER_FIELDS = body_fields(
    ("default_encryption_scope", Text, "defaultEncryptionScope"),
    ("deny_encryption_scope_override", Flag, "denyEncryptionScopeOverride"),
    ("public_access", Annotated[str, choice("Blob", "Container", "None")], "publicAccess"),
)
ContainerBody = Annotated[Json, body_group(CONTAINER_FIELDS)]


BlobName = Annotated[str, Reader("a blob name of 1 to 1,024 characters", parse_blob_name)]
BlobUrl = Annotated[
    BlobAddress, Reader("the https address of an account, a container or a blob", parse_blob_url, secret=True)
]
BlobNames = Annotated[list[str], Reader("blob names, one a line or as a JSON array", lambda text: read_names(text))]
Size = Annotated[int, number(0, 1 << 48)]
IsoTime = Annotated[
    datetime,
    Reader(
        "a time such as 2026-11-23T12:00:00Z, or a span back from now such as 2 hours or 7d",
        lambda text: read_time(text),
    ),
]
Metadata = Annotated[
    dict[str, str],
    Reader(
        "name=value pairs separated by commas, or a JSON object; a name is a C# identifier",
        lambda text: read_metadata(text),
    ),
]
BlobTags = Annotated[
    dict[str, str],
    Reader(
        "at most 10 name=value pairs separated by commas, or a JSON object, of letters, digits, blanks and + - . : = _ /",
        lambda text: read_blob_tags(text),
    ),
]
Tier = Annotated[str, choice("Hot", "Cool", "Cold", "Archive")]
LeaseId = Annotated[str, Reader("a lease id (GUID)", lambda text: matching(GUID, text))]


class Lease(NamedTuple):
    """What to do with a lease. https://learn.microsoft.com/rest/api/storageservices/lease-blob"""

    action: str
    lease_id: str | None
    proposed_lease_id: str | None
    duration: int
    break_period: int | None


LEASE_STATES = {"acquire": "leased", "renew": "leased", "change": "leased", "release": "available", "break": "broken"}
LEASE_ARGUMENTS = {
    "action": required(Annotated[str, choice(*LEASE_STATES)]),
    "lease_id": optional(LeaseId),
    "proposed_lease_id": optional(LeaseId),
    "duration": optional(
        Annotated[
            int, Reader("15 to 60 seconds, or -1 for a lease without end", lambda text: read_lease_seconds(text))
        ],
        -1,
    ),
    "break_period": optional(Annotated[int, number(0, 60)]),
}


def read_lease_seconds(text: str) -> int:
    return -1 if text == "-1" else read_number(15, 60)(text)


def build_lease(azure: Any, given: dict[str, Any]) -> Lease:
    lease = Lease(**given)
    if lease.action in ("renew", "change", "release") and not lease.lease_id:
        raise UsageError(f"Argument lease_id is missing: {lease.action} needs the id of the lease.")
    if lease.action == "change" and not lease.proposed_lease_id:
        raise UsageError("Argument proposed_lease_id is missing: change needs the new id.")
    return lease


LeaseArgs = Annotated[Lease, Group(LEASE_ARGUMENTS, build_lease)]
STORAGE_SCOPE = {"account_name": optional(Account), "blob_url": optional(BlobUrl), **SCOPE_ARGUMENTS}


def read_names(text: str) -> list[str]:
    """Blob names may hold commas, so only lines and JSON arrays separate them."""
    found = json.loads(text) if text.startswith("[") else text.splitlines()
    return [parse_blob_name(name if text.startswith("[") else name.strip()) for name in found if name]


def read_time(text: str) -> datetime:
    """A time in ISO form (UTC unless it says otherwise), or a span back from now."""
    span = re.fullmatch(r"(\d{1,5})\s*(m|h|d|min|minutes?|hours?|days?)(?:\s+ago)?", text.strip().lower())
    if span:
        seconds = int(span[1]) * {"m": 60, "h": 3600, "d": 86_400}[span[2][0]]
        return datetime.fromtimestamp(Clock.now() - seconds, timezone.utc)
    found = datetime.fromisoformat(re.sub(r"[zZ]$", "+00:00", text.strip()))
    return found if found.tzinfo else found.replace(tzinfo=timezone.utc)


def read_metadata(text: str) -> dict[str, str]:
    """https://learn.microsoft.com/rest/api/storageservices/setting-and-retrieving-properties-and-metadata-for-blob-resources"""
    found = (
        read_json_object(text) if text.startswith("{") else dict(part.partition("=")[::2] for part in split_list(text))
    )
    metadata = {str(name).strip(): str(value).strip() for name, value in found.items()}
    if not all(re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII) and value.isascii() for name, value in metadata.items()):
        raise ValueError("a name is no identifier, or a value is not ASCII")
    if sum(len(name) + len(value) for name, value in metadata.items()) > 8192:
        raise ValueError("more than 8 KiB")
    return metadata


def read_blob_tags(text: str) -> dict[str, str]:
    """https://learn.microsoft.com/rest/api/storageservices/set-blob-tags"""
    found = (
        read_json_object(text) if text.startswith("{") else dict(part.partition("=")[::2] for part in split_list(text))
    )
    tags = {str(name).strip(): str(value).strip() for name, value in found.items()}
    allowed = re.compile(r"[A-Za-z0-9 +\-.:=_/]*")
    if len(tags) > 10 or not all(1 <= len(name) <= 128 and len(value) <= 256 for name, value in tags.items()):
        raise ValueError
    if not all(allowed.fullmatch(name) and allowed.fullmatch(value) for name, value in tags.items()):
        raise ValueError("a character that tags cannot have")
    return tags


def build_service(azure: "Azure", given: dict[str, Any]) -> Any:
    """The blob service that account_name or blob_url name. UsageError if neither does, or they contradict each other."""
    clue, url = clue_of(given), given["blob_url"]
    subscription = clue.subscription or given["subscription_id"] or azure.settings.subscription
    group = clue.group or given["resource_group_name"] or azure.settings.group
    return azure.blobs(clue.name, subscription, group, url.host if url else "")


def named(given: dict[str, Any], argument: str, part: str) -> str:
    """A container or blob that an argument or the blob_url names; UsageError without one, or with two."""
    url: BlobAddress | None = given["blob_url"]
    told, found = given[argument] or "", getattr(url, part) if url else ""
    if told and found and told != found:
        raise UsageError(f"Argument {argument}: {told!r} contradicts the blob_url, which names {found!r}.")
    if not told and not found:
        raise UsageError(f"Argument {argument} is missing: give it, or a blob_url that holds it.")
    return told or found


def build_container(azure: "Azure", given: dict[str, Any]) -> tuple[Any, str]:
    container = named(given, "container_name", "container")
    return build_service(azure, given), container


def build_blob(azure: "Azure", given: dict[str, Any]) -> Any:
    """The blob that the arguments name. A version or snapshot comes from them, or from the blob_url."""
    container, name = named(given, "container_name", "container"), named(given, "blob_name", "blob")
    url = given["blob_url"]
    version = given.get("version_id") or (url.version if url else "")
    snapshot = given.get("snapshot") or (url.snapshot if url else "")
    if version and snapshot:
        raise UsageError("Argument snapshot: a blob has either a version_id or a snapshot; give one.")
    return BlobRef(build_service(azure, given), container, name, version, snapshot)


def build_container_target(azure: "Azure", given: dict[str, Any]) -> ContainerRef:
    return ContainerRef(build_target(azure, given), named(given, "container_name", "container"))


CONTAINER_ARGUMENTS = {"container_name": optional(Container), **STORAGE_SCOPE}
BLOB_ARGUMENTS = {"blob_name": optional(BlobName), **CONTAINER_ARGUMENTS}
VERSION_ARGUMENTS = {"version_id": optional(Text), "snapshot": optional(Text)}
VERSIONED_BLOBS = {**BLOB_ARGUMENTS, **VERSION_ARGUMENTS, "blob_names": optional(BlobNames)}
ServiceArgs = Annotated[Any, Group(STORAGE_SCOPE, build_service)]
ContainerArgs = Annotated[tuple[Any, str], Group(CONTAINER_ARGUMENTS, build_container)]
BlobArgs = Annotated[Any, Group(BLOB_ARGUMENTS, build_blob)]
TargetArgs = Annotated[AccountRef, Group(STORAGE_SCOPE, build_target)]
ContainerTarget = Annotated[Any, Group(CONTAINER_ARGUMENTS, build_container_target)]
VersionArgs = Annotated[Any, Group({**BLOB_ARGUMENTS, **VERSION_ARGUMENTS}, build_blob)]


# --- results -----------------------------------------------------------------------------------------------------------


class View(NamedTuple):
    """How one kind of object is shown: its name in context, the title of its table, and where each column comes from."""

    name: str
    title: str
    columns: Mapping[str, str | Callable[[Json], Any]]
    key: str = "id"

    @property
    def context(self) -> str:
        return f"AzureStorage.{self.name}(val.{self.key} && val.{self.key} == obj.{self.key})"

    def row(self, item: Json) -> Json:
        return {
            header: at_path(item, source) if isinstance(source, str) else source(item)
            for header, source in self.columns.items()
        }


class Listing(NamedTuple):
    """Part of a collection; `token` is empty at its end, else where to go on: a page and how much of it was shown."""

    items: list[Json]
    token: str = ""


def table(view: View, items: list[Json], title: str = "", note: str = "") -> str:
    text = str(tableToMarkdown(title or view.title, [view.row(item) for item in items], headers=list(view.columns)))
    return f"{text}\n{note}\n" if note else text


def show(view: View, item: Json, *, title: str = "", note: str = "") -> CommandResults:
    """One object: its row for people, all of it for playbooks."""
    return CommandResults(
        outputs={view.context: item}, readable_output=table(view, [item], title, note), raw_response=item
    )


def show_list(view: View, listing: Listing) -> CommandResults:
    """A listing, and in context the token that the next call takes; an empty token overwrites that of an earlier page."""
    note = (
        f"More are there: repeat the command with `next_token={listing.token}` or `all_results=true`."
        if listing.token
        else ""
    )
    return CommandResults(
        outputs={view.context: listing.items, "AzureStorage(true)": {f"{view.name}NextToken": listing.token}},
        readable_output=table(view, listing.items, note=note),
        raw_response=listing.items,
    )


def poll_again(command: str, args: Json, message: str, interval: int, timeout: int) -> CommandResults:
    """Ask the server to run a command again later; no worker is held while it waits. Times in seconds.

    https://xsoar.pan.dev/docs/integrations/scheduled-commands
    """
    schedule = ScheduledCommand(
        command=command, next_run_in_seconds=interval, args={**args, "polling": "true"}, timeout_in_seconds=timeout
    )
    return CommandResults(readable_output=message, scheduled_command=schedule)


def iso_time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def moment(text: Any) -> float | None:
    """Seconds since 1970 of a time as ARM writes it; None if it is not one."""
    try:
        found = datetime.fromisoformat(re.sub(r"\.\d+", "", str(text)).replace("Z", "+00:00"))
    except ValueError:
        return None
    return (found if found.tzinfo else found.replace(tzinfo=timezone.utc)).timestamp()


def account_of(item: Json) -> str:
    return resource_id(item).account


def subscription_of(item: Json) -> str:
    return resource_id(item).subscription


def group_of(item: Json) -> str:
    return resource_id(item).group


PARENTS: dict[str, str | Callable[[Json], Any]] = {
    "Account Name": account_of,
    "Subscription ID": subscription_of,
    "Resource Group": group_of,
}
ACCOUNT_VIEW = View(
    "StorageAccount",
    "Azure Storage Account",
    {
        **PARENTS,
        "Kind": "kind",
        "Status Primary": "properties.statusOfPrimary",
        "Status Secondary": "properties.statusOfSecondary",
        "Location": "location",
    },
)
ACCOUNTS_VIEW = ACCOUNT_VIEW._replace(title="Azure Storage Account List")
BLOB_SERVICE_VIEW = View(
    "BlobServiceProperties",
    "Azure Storage Blob Service Properties",
    {
        "Name": "name",
        **PARENTS,
        "Change Feed": "properties.changeFeed.enabled",
        "Delete Retention Policy": "properties.deleteRetentionPolicy.enabled",
        "Versioning": "properties.isVersioningEnabled",
    },
)
CONTAINER_VIEW = View("BlobContainer", "Azure Storage Blob Containers Properties", {"Name": "name", **PARENTS})
UPDATED_CONTAINER_VIEW = CONTAINER_VIEW._replace(
    columns={**CONTAINER_VIEW.columns, "Public Access": "properties.publicAccess"}
)
CONTAINERS_VIEW = View(
    "BlobContainer",
    "Azure Storage Blob Containers list",
    {
        "Container Name": "name",
        **PARENTS,
        "Public Access": "properties.publicAccess",
        "Lease State": "properties.leaseState",
        "Last Modified Time": "properties.lastModifiedTime",
    },
)
DELETED_CONTAINERS_VIEW = CONTAINERS_VIEW._replace(
    columns={
        **CONTAINERS_VIEW.columns,
        "Deleted Time": "properties.deletedTime",
        "Remaining Retention Days": "properties.remainingRetentionDays",
        "Version": "properties.version",
    }
)
SUBSCRIPTIONS_VIEW = View(
    "Subscription",
    "Azure Storage Subscriptions list",
    {name: name for name in ("subscriptionId", "tenantId", "displayName", "state")},
)
GROUPS_VIEW = View(
    "ResourceGroup",
    "Resource Groups List",
    {"name": "name", "location": "location", "tags": "tags", "provisioning state": "properties.provisioningState"},
)
SIGN_IN_VIEW = View(
    "SignIn",
    "Azure Storage sign-in",
    {
        "Signed in as": "identity",
        "Kind": "kind",
        "Authentication Type": "authType",
        "Tenant ID": "tenantId",
        "Application ID": "appId",
        "Cloud": "cloud",
    },
    key="identity",
)
RESOURCES_VIEW = View(
    "SignIn", "Tokens", {"Resource": "resource", "Usable": "usable", "Until": "expiresOn", "Message": "message"}
)
BLOB_VIEW = View(
    "Blob",
    "Azure Storage Blob",
    {
        "Name": "name",
        "Container": "container",
        "Account": "account",
        "Type": "type",
        "Size": "size",
        "Tier": "tier",
        "Content Type": "contentType",
        "Last Modified": "lastModified",
        "ETag": "etag",
        "MD5": "md5",
    },
)
BLOBS_VIEW = View(
    "Blob",
    "Azure Storage Blob List",
    {
        "Name": "name",
        "Type": "type",
        "Size": "size",
        "Tier": "tier",
        "Last Modified": "lastModified",
        "MD5": "md5",
        "Version": "versionId",
        "Snapshot": "snapshot",
        "Deleted": "deleted",
        "Days Left": "remainingRetentionDays",
    },
)
FOUND_BLOBS_VIEW = BLOBS_VIEW._replace(
    title="Azure Storage Blobs found by tags", columns={"Name": "name", "Container": "container", "Tags": "tags"}
)
BLOB_TAGS_VIEW = BLOB_VIEW._replace(
    title="Azure Storage Blob tags", columns={"Name": "name", "Container": "container", "Tags": "tags"}
)


# --- network -----------------------------------------------------------------------------------------------------------


class Clock:
    """Time, in one place, so that tests can do without waiting. `wait` gives way to nothing else: the command just waits."""

    @staticmethod
    def now() -> float:
        return time.time()

    @staticmethod
    def wait(seconds: float) -> None:
        threading.Event().wait(seconds)


class Pace:
    """Keeps requests inside a budget: `burst` at once, then `rate` a second. Threads share it."""

    def __init__(self, burst: int, rate: float) -> None:
        self._spare, self._step = burst / rate, 1 / rate  # seconds
        self._due = 0.0
        self._lock = threading.Lock()

    def take(self) -> None:
        """Returns when the next request may leave."""
        with self._lock:
            now = Clock.now()
            self._due = max(self._due, now - self._spare) + self._step
            delay = self._due - now
        if delay > 0:
            Clock.wait(delay)


# 501 and 505 say that asking again is of no use.
RETRY_STATUSES = frozenset({408, 429, *range(500, 600)} - {501, 505})


def retry_delay(status: int, retry_after: str, attempt: int, now: float) -> float | None:
    """Seconds to wait before the next try, None if another try makes no sense.

    status 0 stands for a connection that broke. Retry-After may be seconds or a date; without one the wait doubles from
    half a second, with jitter so that parallel commands do not march in step. attempt counts from 0.
    """
    if status and status not in RETRY_STATUSES:
        return None
    asked = parse_retry_after(retry_after, now)
    return asked if asked is not None else 0.5 * 2**attempt * random.uniform(0.75, 1.25)  # noqa: S311 - jitter, not a secret


def parse_retry_after(text: str, now: float) -> float | None:
    """https://www.rfc-editor.org/rfc/rfc9110#field.retry-after"""
    if re.fullmatch(r"\d{1,6}", text.strip()):
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - now)
    except (TypeError, ValueError):
        return None


class Network:
    """One exchange with a server, tried again where that is safe. It knows neither tokens nor Azure."""

    def __init__(
        self,
        verify: bool,
        *,
        use_environment: bool = True,
        connect_timeout: float = CONNECT_TIMEOUT,
        tries: int = MAX_TRIES,
    ) -> None:
        self.verify, self.timeout, self.tries = verify, (connect_timeout, READ_TIMEOUT), tries
        self._use_environment = use_environment
        self._routes: dict[str, Json] = {}
        self._local = threading.local()  # a session is for one thread; its open connections are worth keeping

    @property
    def session(self) -> requests.Session:
        if not hasattr(self._local, "session"):
            self._local.session = requests.Session()
            self._local.session.trust_env = self._use_environment
        found: requests.Session = self._local.session
        return found

    def exchange(self, method: str, url: str, *, action: str, replayable: bool, **options: Any) -> requests.Response:
        """The final answer, whatever its status.

        `replayable` tells whether a request that may have arrived can be sent again; one that never left, or was
        answered with 429, always can. NetworkError if no answer came.
        """
        waited = 0.0
        for attempt in itertools.count():
            answer = self._try(method, url, options)
            status = answer.status_code if isinstance(answer, requests.Response) else 0
            safe = replayable or status == 429 or (not status and never_left(answer))
            retry_after = answer.headers.get("Retry-After", "") if isinstance(answer, requests.Response) else ""
            more = safe and attempt + 1 < self.tries
            delay = retry_delay(status, retry_after, attempt, Clock.now()) if more else None
            if delay is None or waited + delay > MAX_WAIT:
                return self._final(answer, action, url, delay)
            demisto.debug(
                f"{method} {host_of(url)}: try {attempt + 1} ended with {status or type(answer).__name__}, next in {delay:.1f} s"
            )
            if isinstance(answer, requests.Response):
                answer.close()
            Clock.wait(delay)
            waited += delay
        raise AssertionError  # pragma: no cover - count() does not end

    def _try(self, method: str, url: str, options: Json) -> requests.Response | requests.RequestException:
        """One request, prepared here: requests would read the environment for each, which costs as much as a small blob."""
        try:
            fields = {name: value for name, value in options.items() if name != "stream"}
            prepared = requests.Request(method, url, **fields).prepare()
            prepared.headers.setdefault("User-Agent", USER_AGENT)
            return self.session.send(
                prepared,
                stream=options.get("stream", False),
                timeout=self.timeout,
                allow_redirects=False,
                **self._route(prepared.url or url),
            )
        except requests.RequestException as error:
            return error

    def _route(self, url: str) -> Json:
        """Proxies and trust for a host, as the environment has them; they do not change while a command runs.

        verify goes with the request: on the session, requests lets REQUESTS_CA_BUNDLE win over verify=False.
        """
        host = urllib.parse.urlsplit(url).netloc
        if host not in self._routes:
            found = self.session.merge_environment_settings(url, {}, True, self.verify, None)
            self._routes[host] = {name: found[name] for name in ("proxies", "verify", "cert")}
        return self._routes[host]

    @staticmethod
    def _final(
        answer: requests.Response | requests.RequestException, action: str, url: str, delay: float | None
    ) -> requests.Response:
        if isinstance(answer, requests.RequestException):
            raise network_error(answer, action, url) from None
        if delay is not None:
            raise ServiceError(
                action,
                answer.status_code,
                "TooManyRequests" if answer.status_code == 429 else "",
                "The service asks to wait longer than a command may.",
                answer.headers.get("x-ms-request-id", ""),
                f"run the command again in {round(delay)} seconds.",
            )
        return answer


def never_left(error: object) -> bool:
    """Whether a failure came before the request reached the server."""
    return isinstance(error, requests.exceptions.ConnectTimeout) or "NewConnectionError" in repr(error)


def network_error(error: requests.RequestException, action: str, url: str) -> NetworkError:
    """The failure in words. The exception's own text is not shown: it may hold a URL with a signature."""
    host = host_of(url) or "the address"
    text = repr(error)
    for sign, words, step in NETWORK_HINTS:
        if sign in text:
            return NetworkError(f"Could not {action}: {words.format(host=host)}", step)
    return NetworkError(f"Could not {action}: the connection to {host} failed ({type(error).__name__}).", CHECK_NETWORK)


CHECK_NETWORK = "check that the engine or server reaches the address, through a proxy if it needs one."
# Found in the text of a requests exception, which names what urllib3 met; the first that fits counts.
NETWORK_HINTS = (
    (
        "ProxyError",
        "the proxy on the way to {host} refused or is not there.",
        "check 'Use system proxy settings' and the proxy of the engine.",
    ),
    (
        "SSLError",
        "the certificate of {host} is not trusted.",
        "a proxy may inspect TLS: add its certificate authority to the server, or as a last resort tick 'Trust any certificate'.",
    ),
    (
        "NameResolutionError",
        "the name {host} is not known.",
        "the account may be deleted, in another cloud, or only known to a private DNS zone; check the name and the cloud of the instance.",
    ),
    ("ConnectTimeout", "{host} did not answer within " + str(CONNECT_TIMEOUT) + " seconds.", CHECK_NETWORK),
    ("ReadTimeout", "{host} took longer than " + str(READ_TIMEOUT) + " seconds to answer.", "run the command again."),
    ("NewConnectionError", "{host} refuses connections.", CHECK_NETWORK),
)


def text_of(response: requests.Response) -> str:
    """The body as UTF-8, which Azure always sends, without a byte order mark; requests would guess."""
    return response.content.decode("utf-8-sig", errors="replace")


def xml_of(response: requests.Response, action: str) -> Json:
    """The XML document of an answer; NetworkError shows the start of anything else."""
    try:
        return parse_xml(text_of(response))
    except ValueError:
        raise not_the_service(response, action, "XML") from None


def not_the_service(response: requests.Response, action: str, wanted: str) -> NetworkError:
    return NetworkError(
        f"Could not {action}: {host_of(response.url)} answered with something that is not {wanted}: {snippet(text_of(response))}",
        "a proxy or a TLS inspection may have answered in its place.",
    )


def body_of(response: requests.Response, action: str) -> Json:
    """The JSON object an answer holds; {} if it has no body. NetworkError shows the start of anything else."""
    if not response.content:
        return {}
    text = text_of(response)
    found = json_object(text)
    if not found and text.strip() not in ("{}", "null"):
        raise not_the_service(response, action, "JSON")
    return found


# --- sign-in -----------------------------------------------------------------------------------------------------------

Session = Json  # what the store keeps for one identity; the fields are described at SessionStore
WAIT = object()


class SessionStore:
    """Our part of the integration context: one JSON document under one key, so that nothing else in there is touched.

    A session holds, each only while there is one:
      tokens       resource -> {"token", "expires_at"}
      cache        msal's token cache without access tokens: the refresh token and the account
      username     who signed in
      device_flow  a device code sign-in that has not been finished; login: the same for the authorization code
      claims       what a claims challenge asked for and only a person can give
      codes        digests of the authorization codes that were tried, for a code works once
      endpoints    account -> its blob endpoint, as ARM told it
      turn         which command may talk to the sign-in service now, and until when
    """

    KEY = "azure_storage_sign_in"
    VERSION = 1
    ATTEMPTS = 40

    def __init__(self, fingerprint: str, *, in_memory: bool = False) -> None:
        self.fingerprint = fingerprint
        self.unreadable = False  # what was stored could not be read
        self._memory: Json | None = {} if in_memory else None

    def read(self) -> Session:
        return self.update(deepcopy)

    def update(self, change: Callable[[Session], T], *, forget_others: bool = False) -> T:
        """Apply `change` to the session and save the outcome; again from the start if another command saved in between.

        `change` edits the session in place and may run more than once. Returns what it returns. Nothing is written when
        nothing was edited. `forget_others` drops the sessions of what the instance was configured to before.
        """
        for _ in range(self.ATTEMPTS):
            context, version = self._load()
            sessions = self._sessions(context)
            session = sessions.get(self.fingerprint, {})
            edited = deepcopy(session)
            result = change(edited)
            if edited == session:
                return result
            kept = {} if forget_others else sessions
            document = {"version": self.VERSION, "sessions": {**kept, self.fingerprint: edited}}
            if self._save({**context, self.KEY: json.dumps(document)}, version):
                return result
            Clock.wait(random.uniform(0.01, 0.1))  # noqa: S311 - spreads colliding commands
        raise SignInError(
            "The sign-in could not be saved: other commands keep changing the integration context.",
            "run the command again.",
        )

    def clear(self) -> bool:
        """Remove all that is ours, and nothing else. Tells whether there was anything."""
        for _ in range(self.ATTEMPTS):
            context, version = self._load()
            kept = {key: value for key, value in context.items() if not key.startswith(self.KEY)}
            if kept == context or self._save(kept, version):
                return kept != context
        raise SignInError(
            "The sign-in could not be removed: other commands keep changing it.", "run the command again."
        )

    def _load(self) -> tuple[Json, int]:
        if self._memory is not None:
            return dict(self._memory), -1
        context, version = get_integration_context_with_version()
        return dict(context) if isinstance(context, dict) else {}, version

    def _save(self, context: Json, version: int) -> bool:
        """False if another command saved since the version was read."""
        if self._memory is not None:
            self._memory = context
            return True
        try:
            set_integration_context(context, version=version)
        except ValueError:
            return False
        return True

    def _sessions(self, context: Json) -> dict[str, Session]:
        """The sessions in the context. What cannot be read is set aside, where auth-reset still finds it, and said so."""
        stored = context.get(self.KEY)
        if not stored:
            return {}
        document = json_object(stored) if isinstance(stored, str) else {}
        sessions = document.get("sessions")
        whole = isinstance(sessions, dict) and all(isinstance(session, dict) for session in sessions.values())
        if document.get("version") == self.VERSION and whole:
            return dict(sessions or {})
        context[self.KEY + "_unreadable"] = context.pop(self.KEY)
        self.unreadable = True
        demisto.info("Azure Storage: the stored sign-in could not be read and was set aside; sign in again.")
        return {}


class CannedResponse(NamedTuple):
    """As much of a requests.Response as msal looks at."""

    status_code: int
    text: str
    headers: Mapping[str, str]


class TokenHttp:
    """What msal talks through: our network, guarded to one host, and the endpoints of Microsoft's clouds from constants.

    msal itself has no time-outs, logs answers it cannot parse, and hides the body of a 5xx: all of that is settled here
    before it sees an answer.
    """

    def __init__(self, network: Network, authority: str = "", tenant: str = "", *, discovery: bool = True) -> None:
        self.network, self.authority, self.tenant, self.discovery = network, authority, tenant, discovery

    def get(
        self, url: str, params: Json | None = None, headers: Json | None = None, **_: Any
    ) -> requests.Response | CannedResponse:
        if not self.discovery and url.endswith("/.well-known/openid-configuration"):
            base = f"{self.authority}/{self.tenant}"
            endpoints = {
                "issuer": f"{base}/v2.0",
                "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
                "token_endpoint": f"{base}/oauth2/v2.0/token",
                "device_authorization_endpoint": f"{base}/oauth2/v2.0/devicecode",
            }
            return CannedResponse(200, json.dumps(endpoints), {})
        return self._exchange("GET", url, True, params=params, headers=headers)

    def post(
        self, url: str, params: Json | None = None, data: Any = None, headers: Json | None = None, **_: Any
    ) -> requests.Response | CannedResponse:
        grant = str(data.get("grant_type", "")) if isinstance(data, dict) else ""
        # A code is good for one try: sending it again may revoke what the first try brought.
        replayable = not grant.endswith(("authorization_code", "device_code"))
        return self._exchange("POST", url, replayable, params=params, data=data, headers=headers)

    def close(self) -> None:
        """Part of what msal expects; the network is not ours to close."""

    def _exchange(self, method: str, url: str, replayable: bool, **options: Any) -> requests.Response:
        if self.authority and host_of(url) != host_of(self.authority):
            raise SignInError(
                f"The sign-in service points to {host_of(url) or 'an unsafe address'}, which is not the chosen one."
            )
        response = self.network.exchange(method, url, action="sign in", replayable=replayable, **options)
        answer = json_object(text_of(response))
        if response.status_code >= 500 or not answer:
            raise SignInError(
                f"Could not sign in: {host_of(url) or 'the identity endpoint'} answered {response.status_code}: {snippet(text_of(response))}",
                "run the command again in a minute."
                if response.status_code >= 500
                else "check the Tenant ID and the cloud of the instance; a proxy may also have answered in Microsoft's place.",
            )
        return response


def sign_in_error(result: Json, action: str = "sign in") -> SignInError:
    """Entra ID's refusal with the next step: OAuth's error name first, the AADSTS number second."""
    code = str(result.get("error") or "unknown_error")
    text = str(result.get("error_description") or "")
    numbers = aadsts_numbers(result)
    hint = OAUTH_HINTS.get(code) or next((AADSTS_HINTS[n] for n in numbers if n in AADSTS_HINTS), "")
    hint = hint or OAUTH_FALLBACK_HINTS.get(code, ASK_ADMIN)
    lines = [f"Could not {action}: {code}. {text.splitlines()[0] if text else ''}".rstrip()]
    correlation = str(result.get("correlation_id") or "")
    if correlation:
        lines.append(f"Correlation id: {correlation}")
    if numbers:
        lines.append(f"More about it: https://login.microsoftonline.com/error?code={numbers[0]}")
    return SignInError("\n".join(lines), hint, code)


def aadsts_numbers(result: Json) -> list[int]:
    """The AADSTS numbers of a refusal, from its list or else from its text."""
    listed_codes = result.get("error_codes")
    if isinstance(listed_codes, list) and listed_codes:
        return [int(code) for code in listed_codes if str(code).isdigit()]
    return [int(code) for code in re.findall(r"AADSTS(\d+)", str(result.get("error_description") or ""))]


def grant_is_dead(result: Json) -> bool:
    """Whether a refusal is about the refresh token itself, and not about consent or MFA for one resource."""
    if result.get("error") != "invalid_grant" or result.get("claims"):
        return False
    numbers = aadsts_numbers(result)
    return result.get("suberror") in (None, "", "bad_token", "token_expired") and (
        not numbers or not DEAD_GRANTS.isdisjoint(numbers)
    )


def not_signed_in(unreadable: bool = False) -> SignInError:
    why = " The stored sign-in could not be read and was set aside." if unreadable else ""
    return SignInError(
        "Nobody is signed in on this instance." + why,
        "run !azure-storage-auth-start and follow what it says.",
        "login_required",
    )


def usable_token(session: Session, resource: str, stale: str) -> str | None:
    """The stored token for a resource, unless it ends soon or is the one that was just refused."""
    entry = session.get("tokens", {}).get(resource)
    if not entry or entry["token"] == stale or entry["expires_at"] - Clock.now() < TOKEN_MARGIN:
        return None
    return str(entry["token"])


def code_digest(code: str) -> str:
    return hashlib.sha256(code.encode()).hexdigest()[:32]


def read_pasted_code(text: str) -> tuple[str, str]:
    """Code and state from what a person pastes: the bare code, or the whole address the browser ended at.

    SignInError if the address tells of a refusal or holds no code.
    """
    text = unquoted(text)
    if "?" not in text and "code=" not in text:
        return text, ""
    query = urllib.parse.parse_qs(urllib.parse.urlsplit(text).query or text)
    if "error" in query:
        raise sign_in_error({key: values[0] for key, values in query.items()})
    if "code" not in query:
        raise SignInError(
            "The pasted address holds no code.",
            "copy the whole address the browser ended at, from https:// to the end, after signing in.",
        )
    return query["code"][0], query.get("state", [""])[0]


NEW_CODE = "run !azure-storage-generate-login-url, sign in there, and give the new address or code to !azure-storage-auth-complete code=..."


class MicrosoftAuth:
    """Tokens for one instance: authorization code, device code, client credentials and managed identity, all over msal.

    One refresh token serves every resource; each resource has an access token of its own. All methods raise SignInError
    with the next step when Entra ID refuses. https://learn.microsoft.com/entra/msal/python/
    """

    def __init__(self, settings: Settings, network: Network, store: SessionStore) -> None:
        self.settings, self.network, self.store = settings, network, store
        self._me = uuid.uuid4().hex
        self._lock = threading.Lock()

    # Tokens

    def token(self, resource: str, *, stale: str = "", claims: str = "") -> str:
        """An access token for a resource (such as https://storage.azure.com).

        `stale` is a token the service has just refused; `claims` the JSON its claims challenge asked for. Of several
        commands that need a new token one refreshes and the others take its result, since a refresh token that rotates
        works once.
        """
        with self._lock:
            self._redeem_instance_code()
            found: str | None = self._take_turn(lambda session: usable_token(session, resource, stale))
            if found is None:
                try:
                    found = self._acquire(resource, claims)
                finally:
                    self._end_turn()
        remember_secret(found)
        return found

    def _acquire(self, resource: str, claims: str) -> str:
        if self.settings.auth_type == MANAGED_IDENTITY:
            result, cache = self._ask_identity(resource), ""
        elif self.settings.auth_type == CLIENT_CREDENTIALS:
            result, cache = self._ask_as_application(resource, claims), ""
        else:
            result, cache = self._ask_with_refresh_token(resource, claims)
        return self._save_token(result, resource, cache)

    def _ask_as_application(self, resource: str, claims: str) -> Json:
        app = self._app(None)
        try:
            result: Json = app.acquire_token_for_client([f"{resource}/.default"], claims_challenge=claims or None)
        except AzureStorageError:
            raise
        except Exception as error:  # the libraries that sign with the key each have errors of their own
            if not self.settings.certificate_key:
                raise
            raise SignInError(
                f"The certificate's private key cannot be read ({type(error).__name__}).",
                "paste an unencrypted RSA key in PEM form, from -----BEGIN to -----END.",
            ) from None
        return result

    def _ask_with_refresh_token(self, resource: str, claims: str) -> tuple[Json, str]:
        """msal's answer and its cache after it. Drops the session if its refresh token turns out dead."""
        stored = str(self.store.read().get("cache") or "")
        cache = self._cache(stored)
        app = self._app(cache)
        accounts = app.get_accounts() if stored else []
        if not accounts:
            raise not_signed_in(self.store.unreadable)
        result = app.acquire_token_silent_with_error(
            [f"{resource}/.default"], accounts[0], force_refresh=True, claims_challenge=claims or None
        )
        if not result:
            raise not_signed_in(self.store.unreadable)
        if "access_token" in result:
            return result, self._cache_text(cache)
        wanted = result.get("claims") or claims

        def remember_refusal(session: Session) -> None:
            if grant_is_dead(result) and session.get("cache") == stored:
                for name in ("cache", "tokens", "username"):
                    session.pop(name, None)
            elif wanted:
                session["claims"] = wanted

        self.store.update(remember_refusal)
        raise sign_in_error(result, f"get a token for {resource}")

    def _ask_identity(self, resource: str) -> Json:
        """https://learn.microsoft.com/entra/identity/managed-identities-azure-resources/how-to-use-vm-token"""
        msal = load_msal()
        client_id = self.settings.identity_client_id
        identity = (
            msal.UserAssignedManagedIdentity(client_id=client_id) if client_id else msal.SystemAssignedManagedIdentity()
        )
        # A link-local address: no proxy can reach it, and where there is no identity nothing answers at all.
        local = Network(self.settings.verify, use_environment=False, connect_timeout=2, tries=3)
        client = msal.ManagedIdentityClient(identity, http_client=TokenHttp(local))
        try:
            result: Json = client.acquire_token_for_client(resource=resource)
        except NetworkError as error:
            raise SignInError(
                f"No managed identity answers here. {error.message}",
                "run the instance on an Azure machine (or engine) that has a managed identity, or choose another Authentication Type.",
            ) from error
        return result

    def _save_token(self, result: Json, resource: str, cache: str, **extra: Any) -> str:
        """Keep an answer of the token endpoint, before anything is done with the token. Returns the token."""
        if "access_token" not in result:
            raise sign_in_error(result, f"get a token for {resource}")
        token = str(result["access_token"])
        entry = {"token": token, "expires_at": int(Clock.now()) + int(result.get("expires_in") or 0)}

        def change(session: Session) -> None:
            session.setdefault("tokens", {})[resource] = entry
            session.update({key: value for key, value in {"cache": cache, **extra}.items() if value})

        self.store.update(change)
        return token

    # Signing in, step by step

    def start_device_flow(self) -> Json:
        """Begin a device code sign-in. The answer has user_code, verification_uri and expires_at.

        What is signed in stays so until the new sign-in is complete.
        """
        claims = self.store.read().get("claims")
        flow: Json = self._app(self._cache("")).initiate_device_flow([self._first_scope], claims_challenge=claims)
        if "user_code" not in flow:
            raise sign_in_error(flow, "start the sign-in")

        def change(session: Session) -> None:
            session["device_flow"] = flow

        self.store.update(change)
        return flow

    def start_login(self) -> str:
        """Begin an authorization code sign-in with state and PKCE. Returns the address to open in a browser."""
        claims = self.store.read().get("claims")
        with quiet_warnings():
            flow: Json = self._app(self._cache("")).initiate_auth_code_flow(
                [self._first_scope],
                redirect_uri=self.settings.redirect_uri,
                prompt="select_account",
                claims_challenge=claims,
            )

        def change(session: Session) -> None:
            session["login"] = flow

        self.store.update(change)
        return str(flow["auth_uri"])

    def complete_device_flow(self) -> None:
        """Ask once whether the person has signed in. SignInPending if not yet; the call can be repeated."""
        with self._lock:
            self._take_turn(lambda session: None)
            try:
                self._poll_device_flow()
            finally:
                self._end_turn()

    def _poll_device_flow(self) -> None:
        session = self.store.read()
        flow = session.get("device_flow")
        if not flow:
            if session.get("cache"):  # another command has just completed it
                return
            raise SignInError("No sign-in is waiting to be completed.", "run !azure-storage-auth-start first.")
        remember_secret(str(flow.get("device_code", "")))
        cache = self._cache("")
        if flow["expires_at"] <= Clock.now():
            result: Json = {"error": "expired_token"}
        else:
            with quiet_warnings():  # msal warns of polling faster than the interval; the service says so itself
                result = self._app(cache).acquire_token_by_device_flow(
                    flow, exit_condition=lambda _: True, claims_challenge=session.get("claims")
                )
        error = result.get("error")
        pending = error in ("authorization_pending", "slow_down")

        def change(current: Session) -> None:
            # A redeemed code must never be sent again: replaying it revokes the whole sign-in.
            if pending:
                current["device_flow"] = flow
            else:
                current.pop("device_flow", None)

        if pending:
            self.store.update(change)
            raise SignInPending(
                f"The sign-in is not finished yet: open {flow['verification_uri']} and enter the code {flow['user_code']}.",
                OAUTH_HINTS["authorization_pending"],
                "authorization_pending",
            )
        if error:
            self.store.update(change)
            raise sign_in_error(result, "complete the sign-in")
        self._save_sign_in(result, cache, "device_flow")

    def complete_login(self, pasted: str) -> None:
        """Redeem an authorization code: bare, or in the whole redirect address, whose state is then verified."""
        with self._lock:
            self._redeem(pasted)

    def _redeem_instance_code(self) -> None:
        """A code pasted into the instance that was never tried wins over whatever session there is."""
        pasted = self.settings.authorization_code
        if self.settings.auth_type != AUTHORIZATION_CODE or not pasted:
            return
        session = self.store.read()
        if code_digest(pasted.reveal()) not in session.get("codes", []):
            self._redeem(pasted.reveal(), from_instance=True)
        elif not session.get("cache"):
            raise SignInError(
                "The authorization code in the instance was used before, and nobody is signed in.",
                "run !azure-storage-generate-login-url, sign in, and give the new code to !azure-storage-auth-complete code=...",
            )

    def _redeem(self, pasted: str, *, from_instance: bool = False) -> None:
        code, state = read_pasted_code(pasted)
        remember_secret(code)
        self._take_turn(lambda session: None)
        try:
            session = self.store.read()
            login = session.get("login") or {}
            if code_digest(code) in session.get("codes", []):
                if from_instance:  # another command was quicker
                    return
                raise SignInError("This authorization code was used before; a code works once.", NEW_CODE)
            if state and state != login.get("state"):
                raise SignInError(
                    "The address belongs to another login URL than the last one made on this instance (state mismatch).",
                    NEW_CODE,
                )
            self._redeem_code(code, pasted, login)
        finally:
            self._end_turn()

    def _redeem_code(self, code: str, pasted: str, login: Json) -> None:
        cache = self._cache("")
        app = self._app(cache)
        try:
            with quiet_warnings():
                result: Json = (
                    app.acquire_token_by_auth_code_flow(login, {"code": code, "state": login["state"]})
                    if login
                    else app.acquire_token_by_authorization_code(
                        code, [self._first_scope], redirect_uri=self.settings.redirect_uri
                    )
                )
        except (RuntimeError, ValueError):  # msal found an id token that is not for this application or this login
            result = {"error": "invalid_grant", "error_description": "The answer does not belong to this login."}
        tried = sorted({code_digest(text) for text in (code, pasted, self.settings.authorization_code.reveal())})

        def mark_tried(session: Session) -> None:
            session["codes"] = [*(digest for digest in session.get("codes", []) if digest not in tried), *tried][-12:]

        self.store.update(mark_tried)
        if "access_token" in result:
            self._save_sign_in(result, cache, "login")
            return
        error = sign_in_error(result, "redeem the authorization code")
        if error.code == "invalid_grant" and error.next_step == SIGN_IN_AGAIN:
            error.next_step = (
                "the code was used before, is older than ten minutes or belongs to another login URL: " + NEW_CODE
            )
        raise error

    def _save_sign_in(self, result: Json, cache: Any, flow: str) -> None:
        """Replace the session by a new one, in one write with the removal of the flow that brought it."""
        if "access_token" not in result:
            raise sign_in_error(result)
        token = str(result["access_token"])
        remember_secret(token)
        entry = {"token": token, "expires_at": int(Clock.now()) + int(result.get("expires_in") or 0)}
        claims = result.get("id_token_claims") or {}

        def change(session: Session) -> None:
            for name in (flow, "claims"):
                session.pop(name, None)
            session["tokens"] = {self.settings.cloud.audience: entry}
            session["cache"] = self._cache_text(cache)
            session["username"] = str(claims.get("preferred_username") or "")

        self.store.update(change, forget_others=True)

    # What is known

    def identity(self) -> Json:
        """Who is signed in, from the stored session and the claims of the ARM token, which are shown and never trusted."""
        session = self.store.read()
        entry = session.get("tokens", {}).get(self.settings.cloud.audience, {})
        claims = token_claims(str(entry.get("token", "")))
        person = self.settings.auth_type in USER_FLOWS
        name = session.get("username") or claims.get("upn") or claims.get("unique_name") if person else ""
        return {
            "identity": name
            or claims.get("app_displayname")
            or claims.get("appid")
            or claims.get("oid")
            or self.settings.app_id,
            "kind": "user" if person else "application",
            "authType": self.settings.auth_type,
            "tenantId": claims.get("tid") or self.settings.tenant,
            "appId": claims.get("appid")
            or ("" if self.settings.auth_type == MANAGED_IDENTITY else self.settings.app_id),
            "cloud": self.settings.cloud.name,
        }

    def expires_at(self, resource: str) -> float:
        return float(self.store.read().get("tokens", {}).get(resource, {}).get("expires_at", 0))

    # Turns, and msal

    def _take_turn(self, found: Callable[[Session], str | None]) -> str | None:
        """Wait until this command alone may talk to the sign-in service; or return what `found` sees meanwhile."""

        def change(session: Session) -> Any:
            value = found(session)
            if value is not None:
                return value
            turn = session.get("turn")
            if turn and turn["by"] != self._me and turn["until"] > Clock.now():
                return WAIT
            session["turn"] = {"by": self._me, "until": Clock.now() + TURN_SECONDS}
            return None

        while (outcome := self.store.update(change)) is WAIT:
            Clock.wait(0.25)
        return outcome if isinstance(outcome, str) else None

    def _end_turn(self) -> None:
        def change(session: Session) -> None:
            if session.get("turn", {}).get("by") == self._me:
                session.pop("turn")

        self.store.update(change)

    @property
    def _first_scope(self) -> str:
        return f"{self.settings.cloud.audience}/.default"

    def _app(self, cache: Any) -> Any:
        """msal's application object. Building it asks a custom authority for its endpoints, so it is made only when needed."""
        msal, settings = load_msal(), self.settings
        tenant = settings.tenant or "organizations"
        http = TokenHttp(self.network, settings.cloud.authority, tenant, discovery=settings.cloud.discovery)
        options = {
            "authority": f"{settings.cloud.authority}/{tenant}",
            "token_cache": cache,
            "http_client": http,
            "instance_discovery": False,  # otherwise an empty cache makes msal ask a host that nobody chose
        }
        credential: Any = settings.client_secret.reveal() or None
        if settings.certificate_key:
            credential = {
                "thumbprint": settings.certificate_thumbprint,
                "private_key": settings.certificate_key.reveal(),
            }
        try:
            if credential and settings.auth_type in (AUTHORIZATION_CODE, CLIENT_CREDENTIALS):
                return msal.ConfidentialClientApplication(settings.app_id, client_credential=credential, **options)
            return msal.PublicClientApplication(settings.app_id, **options)
        except ValueError:
            raise SignInError(
                f"The tenant {tenant!r} is not known at {host_of(settings.cloud.authority)}.", AADSTS_HINTS[90002]
            ) from None

    @staticmethod
    def _cache(text: str) -> Any:
        cache = load_msal().SerializableTokenCache()
        if text:
            cache.deserialize(text)
        return cache

    @staticmethod
    def _cache_text(cache: Any) -> str:
        """msal's cache without access tokens, which the session holds itself so that msal is not imported to read one."""
        kept = json.loads(cache.serialize())
        kept.pop("AccessToken", None)
        for entry in kept.get("RefreshToken", {}).values():
            remember_secret(str(entry.get("secret", "")))
        return json.dumps(kept)


def load_msal() -> Any:
    """msal, imported when a token is really needed: with a stored token a command does without, and a missing package
    becomes a clean message. Its loggers are muted, since they print codes and unparsable token answers."""
    try:
        import msal
    except ImportError:
        raise SignInError(
            "The Python package msal is missing in the Docker image.",
            "use the image that the integration's YAML names.",
        ) from None
    logger = logging.getLogger("msal")
    logger.setLevel(logging.CRITICAL + 1)
    logger.propagate = False
    return msal


@contextmanager
def quiet_warnings() -> Iterator[None]:
    """Mutes msal's advice, such as form_post instead of a code in the address bar, where a code to be pasted has to be."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def token_claims(token: str) -> Json:
    """The payload of a JSON web token, unverified; {} for an opaque one."""
    parts = token.split(".")
    try:
        return json_object(base64.urlsafe_b64decode(parts[1] + "==").decode()) if len(parts) == 3 else {}
    except (ValueError, binascii.Error):
        return {}


# --- HTTP --------------------------------------------------------------------------------------------------------------


class Http:
    """One authorised request: the only place where a token meets a URL."""

    def __init__(self, settings: Settings, auth: MicrosoftAuth, network: Network) -> None:
        self.settings, self.auth, self.network = settings, auth, network

    def send(
        self, method: str, url: str, *, action: str, replayable: bool | None = None, **options: Any
    ) -> requests.Response:
        """The answer to a request to the resource manager, with status 2xx.

        Requests other than POST count as replayable unless told. `action` completes "Could not ...". ServiceError, NetworkError or SignInError.
        """
        self.guard(url, action)
        safe = method != "POST" if replayable is None else replayable

        def exchange(token: str) -> requests.Response:
            return self._authorised(method, url, token, action, safe, options)

        response = self.with_token(self.settings.cloud.audience, exchange)
        if response.status_code >= 400:
            raise arm_error(response, action)
        if response.status_code >= 300:
            raise NetworkError(
                f"Could not {action}: {host_of(url)} wants to redirect the request, which is not followed."
            )
        return response

    def with_token(self, resource: str, exchange: Callable[[str], requests.Response]) -> requests.Response:
        """The answer to a request with a token; after a 401 it is sent once more, with what the challenge asks for."""
        token = self.auth.token(resource)
        response = exchange(token)
        if response.status_code != 401:
            return response
        return exchange(self.auth.token(resource, stale=token, claims=claims_of(response)))

    def _authorised(
        self, method: str, url: str, token: str, action: str, replayable: bool, options: Json
    ) -> requests.Response:
        headers = {
            "Authorization": f"Bearer {token}",
            "Accept": "application/json",
            "Accept-Encoding": "gzip, deflate",
            "x-ms-client-request-id": str(uuid.uuid4()),
            **options.get("headers", {}),
        }
        sent = {**options, "headers": headers}
        return self.network.exchange(method, url, action=action, replayable=replayable, **sent)

    def guard(self, url: str, action: str) -> None:
        """A token only goes to the chosen cloud, wherever a nextLink or a Location points."""
        if host_of(url) != host_of(self.settings.cloud.resource_manager):
            raise NetworkError(
                f"Could not {action}: Azure points to {host_of(url) or 'an unsafe address'}, which is not in the chosen cloud; nothing was sent.",
                "check the cloud of the instance.",
            )


class BlobHttp:
    """Requests to the blob service of one account: by token, or by the SAS or key that the instance has for it."""

    def __init__(self, http: Http, account: str, endpoint: str) -> None:
        self.http, self.account, self.endpoint = http, account, endpoint.rstrip("/")

    def send(
        self,
        method: str,
        path: str,
        *,
        action: str,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, Any] | None = None,
        data: bytes | None = None,
        replayable: bool = True,
        stream: bool = False,
    ) -> requests.Response:
        """The answer, with status 2xx. `path` is quoted already; what is None in query and headers is left out."""
        options: Json = {"data": data, "stream": stream} if data is not None else {"stream": stream}

        def exchange(token: str) -> requests.Response:
            url, signed = self.authorised(method, path, query or {}, headers or {}, len(data or b""), token)
            return self.http.network.exchange(
                method, url, action=action, replayable=replayable, headers=signed, **options
            )

        return self._checked(exchange, action)

    def send_batch(self, path: str, action: str, parts: list[tuple[str, str, Json, Json]]) -> requests.Response:
        """The answer to several small requests (method, path, query, headers) in one; each is authorised by itself.

        https://learn.microsoft.com/rest/api/storageservices/blob-batch
        """
        boundary = f"batch_{uuid.uuid4()}"

        def exchange(token: str) -> requests.Response:
            lines: list[str] = []
            for number, part in enumerate(parts):
                lines += [f"--{boundary}", "Content-Type: application/http", "Content-Transfer-Encoding: binary"]
                lines += [f"Content-ID: {number}", "", *self._part(part, token), ""]
            body = "\r\n".join([*lines, f"--{boundary}--", ""]).encode()
            kind = {"Content-Type": f"multipart/mixed; boundary={boundary}"}
            url, signed = self.authorised("POST", path, {"comp": "batch"}, kind, len(body), token)
            return self.http.network.exchange("POST", url, action=action, replayable=True, headers=signed, data=body)

        return self._checked(exchange, action)

    def _part(self, part: tuple[str, str, Json, Json], token: str) -> list[str]:
        method, path, query, headers = part
        url, signed = self.authorised(method, path, query, headers, 0, token)
        target = urllib.parse.urlsplit(url)._replace(scheme="", netloc="").geturl()
        return [
            f"{method} {target} HTTP/1.1",
            *(f"{name}: {value}" for name, value in signed.items()),
            "Content-Length: 0",
            "",
        ]

    def authorised(
        self, method: str, path: str, query: Mapping[str, Any], headers: Mapping[str, Any], length: int, token: str
    ) -> tuple[str, Json]:
        """URL and headers of a request, with the token, or with the SAS or signature of the instance's credential."""
        pairs = given_only(dict(query))
        url = (
            self.endpoint + path + ("?" + urllib.parse.urlencode(pairs, quote_via=urllib.parse.quote) if pairs else "")
        )
        sent: Json = {"x-ms-version": BLOB_API, "x-ms-client-request-id": str(uuid.uuid4())}
        sent |= {name: str(value) for name, value in given_only(dict(headers)).items()}
        credential = self.http.settings.storage_credential_for(self.account)
        if not credential:
            return url, {**sent, "Authorization": f"Bearer {token}"}
        sent["x-ms-date"] = email.utils.formatdate(Clock.now(), usegmt=True)
        return credential.sign(method, url, sent, length)

    def _checked(self, exchange: Callable[[str], requests.Response], action: str) -> requests.Response:
        with_key = self.http.settings.storage_credential_for(self.account)
        response = exchange("") if with_key else self.http.with_token(STORAGE_AUDIENCE, exchange)
        if response.status_code >= 300:
            raise blob_error(response, action)
        return response


def claims_of(response: requests.Response) -> str:
    """The claims that a 401 asks for, as JSON; empty without a challenge.

    https://learn.microsoft.com/entra/identity-platform/claims-challenge
    """
    found = re.search(r'claims="([^"]+)"', response.headers.get("WWW-Authenticate", ""))
    if not found:
        return ""
    try:
        claims = base64.b64decode(found[1] + "==", altchars=b"-_" if set(found[1]) & set("-_") else None).decode()
    except (ValueError, binascii.Error):
        return ""
    return claims if json_object(claims) else ""


def arm_error(response: requests.Response, action: str) -> ServiceError:
    error = parse_arm_error(text_of(response))
    request_id = response.headers.get("x-ms-correlation-request-id") or response.headers.get("x-ms-request-id", "")
    return ServiceError(action, response.status_code, error.code, error.message, request_id)


# --- ARM ---------------------------------------------------------------------------------------------------------------


class ResourceManager:
    """Azure Resource Manager: one short method per endpoint, plain data in and out.

    https://learn.microsoft.com/rest/api/storagerp/
    """

    def __init__(self, http: Http, host: str) -> None:
        self.http, self.host = http, host

    # What every endpoint shares

    def call(
        self,
        method: str,
        path: str,
        action: str,
        *,
        version: str = STORAGE_API,
        body: Json | None = None,
        headers: Json | None = None,
        replayable: bool | None = None,
        **params: Any,
    ) -> requests.Response:
        query = {"api-version": version, **given_only(params)}
        options: Json = {"json": body} if body is not None else {}
        options |= {"headers": given_only(headers)} if headers else {}
        options["replayable"] = replayable
        return self.http.send(method, self.host + path, action=action, params=query, **options)

    def read(self, path: str, action: str, *, version: str = STORAGE_API, **params: Any) -> Json:
        return body_of(self.call("GET", path, action, version=version, **params), action)

    def read_if_there(self, path: str, action: str, missing_code: str) -> Json | None:
        """The object, or None if ARM says by that code that it is not there; what it is in must be there."""
        try:
            return self.read(path, action)
        except ServiceError as error:
            if error.status == 404 and error.code == missing_code:
                return None
            raise

    def pages(self, path: str, url: str, action: str) -> Iterator[tuple[list[Json], str, str]]:
        """The pages of a collection from an address (path and query) on, each with its own address and the next one's.

        Wherever that or ARM's nextLink points, it has to be the same collection.
        """
        seen: set[str] = set()
        while url and url not in seen:
            seen.add(url)
            self._same_collection(url, path)
            page = body_of(self.http.send("GET", self.host + url, action=action), action)
            here, url = url, self._local_part(str(page.get("nextLink") or ""), action)
            yield dicts(page.get("value")), here, url

    def _local_part(self, link: str, action: str) -> str:
        """Path and query of a nextLink. NetworkError if it leads out of the chosen cloud."""
        if not link:
            return ""
        self.http.guard(link, action)
        parts = urllib.parse.urlsplit(link)
        return f"{parts.path}?{parts.query}"

    @staticmethod
    def _same_collection(url: str, path: str) -> None:
        found = urllib.parse.unquote(urllib.parse.urlsplit(url).path).rstrip("/").lower()
        if not re.match(r"/(?!/)", url) or found != urllib.parse.unquote(path).rstrip("/").lower():
            raise UsageError("Argument next_token: it belongs to another listing; repeat the command without it.")

    def listing(
        self,
        path: str,
        action: str,
        paging: Paging,
        *,
        version: str = STORAGE_API,
        params: Json | None = None,
        keep: Callable[[Json], bool] | None = None,
    ) -> Listing:
        """As much of a collection as `paging` asks for; of the items only those that `keep` wants."""
        query = {"api-version": version, **given_only(params or {})}
        first = paging.start["url"] if paging.start else f"{path}?" + urllib.parse.urlencode(query, safe="$'/,")
        return collect(self.pages(path, first, action), paging, keep)

    # Subscriptions and resource groups

    def subscriptions(self, paging: Paging) -> Listing:
        return self.listing("/subscriptions", "list subscriptions", paging, version=SUBSCRIPTIONS_API)

    def resource_groups(self, subscription: str, paging: Paging, tag: tuple[str, str] | None) -> Listing:
        path, condition = f"{subscription_path(subscription)}/resourcegroups", None
        if tag:
            condition = " and ".join(
                f"{name} eq '{quoted}'"
                for name, quoted in zip(("tagName", "tagValue"), (t.replace("'", "''") for t in tag), strict=True)
            )
        params: Json = {"$filter": condition, "$top": None if paging.all_results else min(paging.limit, 1000)}
        return self.listing(path, "list resource groups", paging, version=RESOURCE_GROUPS_API, params=params)

    # Finding

    def search(self, query: str, paging: Paging) -> Listing:
        """Rows of Azure Resource Graph, over every subscription the identity may read. It lags a little behind ARM.

        https://learn.microsoft.com/rest/api/azureresourcegraph/resourcegraph/resources/resources
        """
        action, path = "search all subscriptions", "/providers/Microsoft.ResourceGraph/resources"
        items: list[Json] = []
        token = paging.start["url"] if paging.start else ""
        while True:
            size = GRAPH_PAGE if paging.all_results else min(GRAPH_PAGE, paging.limit - len(items))
            options = given_only({"resultFormat": "objectArray", "$top": size, "$skipToken": token or None})
            body = {"query": query, "options": options}
            page = body_of(self.call("POST", path, action, version=GRAPH_API, body=body, replayable=True), action)
            items += dicts(page.get("data"))
            token = str(page.get("$skipToken") or "")
            if not token or (not paging.all_results and len(items) >= paging.limit):
                return Listing(items, place_token(token, 0) if token else "")

    # Storage accounts

    def accounts(self, subscription: str, group: str, paging: Paging) -> Listing:
        """The accounts of a resource group, or with an empty group of the whole subscription."""
        scope = group_path(subscription, group) if group else subscription_path(subscription)
        return self.listing(f"{scope}/providers/Microsoft.Storage/storageAccounts", "list storage accounts", paging)

    def account(self, account: AccountRef, expand: str | None = None) -> Json:
        params: Json = {"$expand": expand}
        return self.read(account.id, f"read storage account {account}", **params)

    def account_if_there(self, account: AccountRef) -> Json | None:
        return self.read_if_there(account.id, f"read storage account {account}", "ResourceNotFound")

    def create_account(self, account: AccountRef, body: Json) -> tuple[Json | None, str]:
        """The account, or None and the address of the operation that is still creating it."""
        return self.outcome(
            self.call("PUT", account.id, f"create storage account {account}", body=body),
            f"create storage account {account}",
        )

    def account_operation(self, url: str, account: AccountRef) -> tuple[Json | None, str]:
        """The same, for an operation that an earlier call began."""
        action = f"create storage account {account}"
        done, location = self.outcome(self.http.send("GET", url, action=action), action)
        return done, location or url

    def update_account(self, account: AccountRef, patch: Json) -> Json:
        action = f"update storage account {account}"
        return body_of(self.call("PATCH", account.id, action, body=patch), action)

    def delete_account(self, account: AccountRef) -> None:
        self.call("DELETE", account.id, f"delete storage account {account}")

    def keys(self, account: AccountRef) -> list[Json]:
        """Both keys with their values, which the redactor knows from here on."""
        action = f"list the keys of {account}"
        return self._known_keys(self.call("POST", f"{account.id}/listKeys", action, replayable=True), action)

    def regenerate_key(self, account: AccountRef, key: str) -> str:
        """Make a new key1 or key2. Returns the time of its creation; the values in the answer are dropped."""
        action = f"rotate {key} of {account}"
        answer = self.call("POST", f"{account.id}/regenerateKey", action, body={"keyName": key})
        return next(
            (
                str(item.get("creationTime") or "")
                for item in self._known_keys(answer, action)
                if item.get("keyName") == key
            ),
            "",
        )

    @staticmethod
    def _known_keys(answer: requests.Response, action: str) -> list[Json]:
        keys = dicts(body_of(answer, action).get("keys"))
        for key in keys:
            remember_secret(str(key.get("value") or ""))
        return keys

    def revoke_delegation_keys(self, account: AccountRef) -> None:
        action = f"revoke the user delegation keys of {account}"
        self.call("POST", f"{account.id}/revokeUserDelegationKeys", action, replayable=True)

    def subscription(self, subscription: str) -> Json:
        return self.read(subscription_path(subscription), "read the subscription", version=SUBSCRIPTIONS_API)

    # Locks: https://learn.microsoft.com/rest/api/resources/management-locks

    def locks(self, account: AccountRef) -> list[Json]:
        """The locks of the account, with those that it inherits from its group and subscription."""
        path = f"{account.id}/providers/Microsoft.Authorization/locks"
        return self.listing(path, f"list the locks of {account}", Paging(all_results=True), version=LOCKS_API).items

    def set_lock(self, account: AccountRef, name: str, properties: Json) -> Json:
        path, action = lock_path(account, name), f"lock {account}"
        return body_of(self.call("PUT", path, action, version=LOCKS_API, body={"properties": properties}), action)

    def delete_lock(self, lock_id: str) -> None:
        path = "/".join(segment(urllib.parse.unquote(part)) for part in lock_id.split("/"))
        self.call("DELETE", path, "remove the lock", version=LOCKS_API)

    # Logs

    def activity(
        self, account: AccountRef, since: str, until: str, paging: Paging, keep: Callable[[Json], bool]
    ) -> Listing:
        """Events of the activity log, newest first. https://learn.microsoft.com/rest/api/monitor/activity-logs/list

        The log is asked for the whole resource group: asked for the account, it leaves out what happened to its parts.
        """
        path = f"{subscription_path(account.subscription)}/providers/Microsoft.Insights/eventtypes/management/values"
        times = f"eventTimestamp ge '{since}' and eventTimestamp le '{until}'"
        params = {"$filter": f"{times} and resourceGroupName eq '{account.group}'"}
        action = f"read the activity log of {account}"
        return self.listing(path, action, paging, version=ACTIVITY_API, params=params, keep=keep)

    def logging(self, account: AccountRef) -> list[Json]:
        """The diagnostic settings of the blob service. https://learn.microsoft.com/rest/api/monitor/diagnostic-settings"""
        action = f"read the diagnostic settings of {account}"
        return dicts(self.read(logging_path(account), action, version=DIAGNOSTICS_API).get("value"))

    def set_logging(self, account: AccountRef, name: str, properties: Json) -> Json:
        action, path = f"change the diagnostic settings of {account}", logging_path(account, name)
        return body_of(self.call("PUT", path, action, version=DIAGNOSTICS_API, body={"properties": properties}), action)

    # Restoring: https://learn.microsoft.com/azure/storage/blobs/point-in-time-restore-overview

    def restore_ranges(self, account: AccountRef, body: Json) -> str:
        """Begin a restore. Returns its id; empty where the service does not tell."""
        action = f"restore blobs of {account}"
        return str(
            body_of(self.call("POST", f"{account.id}/restoreBlobRanges", action, body=body), action).get("restoreId")
            or ""
        )

    def restore_status(self, account: AccountRef) -> Json:
        """The status of the last restore; {} if there was none."""
        return restore_status_of(self.account(account, "blobRestoreStatus"))

    # Blob service

    def blob_service(self, account: AccountRef) -> Json:
        return self.read(f"{account.id}/blobServices/default", f"read the blob service of {account}")

    def set_blob_service(self, account: AccountRef, properties: Json) -> Json:
        """Replaces the whole object: what is not in `properties` is lost."""
        action = f"change the blob service of {account}"
        return body_of(
            self.call("PUT", f"{account.id}/blobServices/default", action, body={"properties": properties}), action
        )

    # Containers

    def containers(
        self, account: AccountRef, paging: Paging, page_size: int | None, deleted: bool, prefix: str | None = None
    ) -> Listing:
        return self.listing(
            f"{account.id}/blobServices/default/containers",
            f"list the containers of {account}",
            paging,
            params={"$maxpagesize": page_size, "$include": "deleted" if deleted else None, "$filter": prefix},
        )

    def container(self, account: AccountRef, name: str) -> Json:
        return self.read(container_path(account, name), f"read container {name} of {account}")

    def container_if_there(self, account: AccountRef, name: str) -> Json | None:
        return self.read_if_there(
            container_path(account, name), f"read container {name} of {account}", "ContainerNotFound"
        )

    def create_container(self, account: AccountRef, name: str, properties: Json) -> Json:
        return self._write_container("PUT", "create", account, name, properties)

    def update_container(self, account: AccountRef, name: str, properties: Json) -> Json:
        return self._write_container("PATCH", "update", account, name, properties)

    def _write_container(self, method: str, verb: str, account: AccountRef, name: str, properties: Json) -> Json:
        action = f"{verb} container {name} of {account}"
        return body_of(
            self.call(method, container_path(account, name), action, body={"properties": properties}), action
        )

    def delete_container(self, account: AccountRef, name: str) -> bool:
        """Whether there was one: ARM answers 204, and some clouds 404, where there was none."""
        try:
            return (
                self.call("DELETE", container_path(account, name), f"delete container {name} of {account}").status_code
                != 204
            )
        except ServiceError as error:
            if error.code == "ContainerNotFound":
                return False
            raise

    def change_hold(self, container: ContainerRef, verb: str, tags: list[str]) -> None:
        """verb: set or clear. https://learn.microsoft.com/rest/api/storagerp/blob-containers/set-legal-hold"""
        action = f"{verb} the legal hold of container {container}"
        self.call("POST", f"{container.path}/{verb}LegalHold", action, body={"tags": tags}, replayable=True)

    def immutability(self, container: ContainerRef) -> Json:
        """The policy with its etag; without days where there is none.

        https://learn.microsoft.com/rest/api/storagerp/blob-containers/get-immutability-policy
        """
        try:
            return self.read(policy_path(container), f"read the immutability policy of container {container}")
        except ServiceError as error:
            if error.status == 404 and error.code not in (*MISPLACED, "ContainerNotFound"):
                return {}
            raise

    def change_immutability(self, container: ContainerRef, how: str, etag: str, properties: Json | None = None) -> Json:
        """how: set, extend, lock or delete. The etag keeps the change from falling upon another policy."""
        action = f"{how} the immutability policy of container {container}"
        method, suffix = IMMUTABILITY_CALLS[how]
        body = {"properties": properties} if properties else None
        headers = {"If-Match": f'"{etag}"' if etag else None}
        path = policy_path(container) + suffix
        return body_of(self.call(method, path, action, body=body, headers=headers, replayable=True), action)

    def lease_container(self, container: ContainerRef, body: Json) -> Json:
        action = f"{body['action'].lower()} the lease of container {container}"
        return body_of(self.call("POST", f"{container.path}/lease", action, body=body), action)

    # Long operations

    @staticmethod
    def outcome(response: requests.Response, action: str) -> tuple[Json | None, str]:
        """The object an operation made, or None and the address that tells how it goes on.

        https://learn.microsoft.com/azure/azure-resource-manager/management/async-operations
        """
        if response.status_code != 202:
            return body_of(response, action), ""
        return None, response.headers.get("Location") or response.headers.get("Azure-AsyncOperation", "")


def restore_status_of(account: Json) -> Json:
    return dict(at_path(account, "properties.blobRestoreStatus") or {})


def lock_path(account: AccountRef, name: str) -> str:
    return f"{account.id}/providers/Microsoft.Authorization/locks/{segment(name)}"


def logging_path(account: AccountRef, name: str = "") -> str:
    path = f"{account.id}/blobServices/default/providers/Microsoft.Insights/diagnosticSettings"
    return f"{path}/{segment(name)}" if name else path


def policy_path(container: ContainerRef) -> str:
    return f"{container.path}/immutabilityPolicies/default"


IMMUTABILITY_CALLS = {
    "set": ("PUT", ""),
    "extend": ("POST", "/extend"),
    "lock": ("POST", "/lock"),
    "delete": ("DELETE", ""),
}


def accounts_query(
    names: Iterable[str] = (),
    tag: tuple[str, str] | None = None,
    location: str = "",
    group: str = "",
    subscription: str = "",
) -> str:
    """The Resource Graph query for storage accounts; what is empty does not matter."""
    tests = {
        "name in~ ({})": ", ".join(map(kql, names)),
        "subscriptionId =~ {}": subscription and kql(subscription),
        "resourceGroup =~ {}": group and kql(group),
        "location =~ {}": location and kql(location),
        "tags[{}] =~ {}": tag and (kql(tag[0]), kql(tag[1])),
    }
    lines = ["resources", "| where type =~ 'microsoft.storage/storageaccounts'"]
    for test, value in tests.items():
        if value:
            lines.append("| where " + test.format(*(value if isinstance(value, tuple) else (value,))))
    fields = "id, name, type, location, tenantId, subscriptionId, resourceGroup, sku, kind, tags, properties"
    return "\n".join([*lines, f"| project {fields}", "| order by id asc"])


def kql(text: str) -> str:
    """A text as a string of the Kusto query language, in which nothing of it can end the string."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def collect(
    pages: Iterable[tuple[list[Json], str, str]], paging: Paging, keep: Callable[[Json], bool] | None = None
) -> Listing:
    """As much of a collection as `paging` asks for, of the items only those that `keep` wants, filtered page by page.

    Each page comes with the place that it was read from and that of the next one, empty at the end.
    """
    items: list[Json] = []
    skip = paging.start["skip"] if paging.start else 0
    for page, here, following in pages:
        for position, item in enumerate(page[skip:], skip):
            if not paging.all_results and len(items) == paging.limit:
                return Listing(items, place_token(here, position))
            if keep is None or keep(item):
                items.append(item)
        if following and not paging.all_results and len(items) == paging.limit:
            return Listing(items, place_token(following, 0))
        skip = 0
    return Listing(items)


def given_only(values: Json) -> Json:
    return {key: value for key, value in values.items() if value is not None}


def place_token(url: str, skip: int) -> str:
    """A place in a listing as a next_token: a page's path and query, never its host, and the items of it already shown."""
    return base64.urlsafe_b64encode(json.dumps({"u": url, "s": skip}).encode()).decode().rstrip("=")


# --- blob operations ---------------------------------------------------------------------------------------------------

# Properties of a blob: their name in a listing, in a header, in context, and how they are read.
# https://learn.microsoft.com/rest/api/storageservices/list-blobs
BLOB_PROPERTIES: tuple[tuple[str, str, str, Callable[[str], Any]], ...] = (
    ("Creation-Time", "x-ms-creation-time", "created", lambda text: http_date(text)),
    ("Last-Modified", "Last-Modified", "lastModified", lambda text: http_date(text)),
    ("Etag", "ETag", "etag", lambda text: text.strip('"')),
    ("Content-Length", "Content-Length", "size", int),
    ("Content-Type", "Content-Type", "contentType", str),
    ("Content-Encoding", "Content-Encoding", "contentEncoding", str),
    ("Content-Language", "Content-Language", "contentLanguage", str),
    ("Content-Disposition", "Content-Disposition", "contentDisposition", str),
    ("Cache-Control", "Cache-Control", "cacheControl", str),
    ("Content-MD5", "Content-MD5", "md5", lambda text: md5_hex(text)),
    ("BlobType", "x-ms-blob-type", "type", str),
    ("AccessTier", "x-ms-access-tier", "tier", str),
    ("AccessTierInferred", "x-ms-access-tier-inferred", "tierInferred", lambda text: text == "true"),
    ("ArchiveStatus", "x-ms-archive-status", "archiveStatus", str),
    ("LeaseStatus", "x-ms-lease-status", "leaseStatus", str),
    ("LeaseState", "x-ms-lease-state", "leaseState", str),
    ("LeaseDuration", "x-ms-lease-duration", "leaseDuration", str),
    ("CopyId", "x-ms-copy-id", "copyId", str),
    ("CopyStatus", "x-ms-copy-status", "copyStatus", str),
    ("CopyProgress", "x-ms-copy-progress", "copyProgress", str),
    ("CopyStatusDescription", "x-ms-copy-status-description", "copyStatusDescription", str),
    ("ServerEncrypted", "x-ms-server-encrypted", "serverEncrypted", lambda text: text == "true"),
    ("EncryptionScope", "x-ms-encryption-scope", "encryptionScope", str),
    ("DeletedTime", "", "deletedTime", lambda text: http_date(text)),
    ("RemainingRetentionDays", "", "remainingRetentionDays", int),
    ("TagCount", "x-ms-tag-count", "tagCount", int),
    ("LegalHold", "x-ms-legal-hold", "legalHold", lambda text: text == "true"),
    (
        "ImmutabilityPolicyUntilDate",
        "x-ms-immutability-policy-until-date",
        "immutableUntil",
        lambda text: http_date(text),
    ),
    ("ImmutabilityPolicyMode", "x-ms-immutability-policy-mode", "immutabilityMode", str),
)
LISTED_PROPERTIES = {listed_name: (name, read) for listed_name, _, name, read in BLOB_PROPERTIES}


def http_date(text: str) -> str:
    """An HTTP date in ISO form; the text itself where it is none."""
    try:
        return email.utils.parsedate_to_datetime(text).astimezone(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (TypeError, ValueError):
        return text


def md5_hex(text: str) -> str:
    """A Content-MD5 as people and threat feeds write it."""
    try:
        return base64.b64decode(text).hex()
    except (ValueError, binascii.Error):
        return text


class BlobPage:
    """A page of a listing, read as it arrives: rows with the names that context has, and where the next page begins."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self.rows: list[Json] = []
        self.marker = ""
        self._row: Json | None = None
        self._path: list[str] = []
        self._words: list[str] = []
        self._encoded = False
        self._tag = ""
        feed_xml(self._start, self._end, self._words.append, pieces)

    def _start(self, name: str, attributes: Json) -> None:
        if name in ("Blob", "BlobPrefix") and self._path[-1:] == ["Blobs"]:
            self._row = {"isPrefix": True} if name == "BlobPrefix" else {}
        self._path.append(name)
        self._words.clear()
        self._encoded = attributes.get("Encoded") == "true"

    def _end(self, name: str) -> None:
        self._path.pop()
        text = "".join(self._words)
        self._words.clear()
        parent = self._path[-1] if self._path else ""
        if self._row is None:
            if name == "NextMarker":
                self.marker = text.strip()
        elif name in ("Blob", "BlobPrefix") and parent == "Blobs":
            self.rows.append(self._row)
            self._row = None
        else:
            self._field(self._row, parent, name, text)

    def _field(self, row: Json, parent: str, name: str, text: str) -> None:
        if parent == "Properties":
            if text and name in LISTED_PROPERTIES:
                key, read = LISTED_PROPERTIES[name]
                row[key] = read(text)
        elif parent in ("Metadata", "OrMetadata"):
            row.setdefault("metadata" if parent == "Metadata" else "replication", {})[name] = text
        elif parent == "Tag":
            if name == "Key":
                self._tag = text
            else:
                row.setdefault("tags", {})[self._tag] = text
        elif parent in ("Blob", "BlobPrefix"):
            self._own(row, name, text)

    def _own(self, row: Json, name: str, text: str) -> None:
        if name == "Name":
            row["name"] = urllib.parse.unquote(text) if self._encoded else text
        elif name == "ContainerName":
            row["container"] = text
        elif name in ("Deleted", "IsCurrentVersion", "HasVersionsOnly"):
            row[name[0].lower() + name[1:]] = text.strip() == "true"
        elif name in ("Snapshot", "VersionId") and text:
            row[name[0].lower() + name[1:]] = text.strip()


class BlobRef(NamedTuple):
    """One blob, or one version or snapshot of it, and the service that holds it."""

    service: "BlobService"
    container: str
    name: str
    version: str = ""
    snapshot: str = ""

    @property
    def path(self) -> str:
        return blob_path(self.container, self.name)

    @property
    def query(self) -> Json:
        return {"versionid": self.version or None, "snapshot": self.snapshot or None}

    @property
    def id(self) -> str:
        """The blob's URL, which names it in context."""
        return self.service.blob_id(self.container, self.name, self.version, self.snapshot)

    @property
    def current(self) -> "BlobRef":
        """The blob itself, whatever version or snapshot of it this is."""
        return self._replace(version="", snapshot="")

    def __str__(self) -> str:
        return f"{self.container}/{self.name}"

    def identity(self) -> Json:
        """The fields by which context names a blob."""
        found = {"id": self.id, "account": self.service.account, "container": self.container, "name": self.name}
        return found | {
            key: value for key, value in (("versionId", self.version), ("snapshot", self.snapshot)) if value
        }


class AccessPolicy(NamedTuple):
    """A stored access policy of a container; what it does not say is empty."""

    name: str
    permissions: str = ""
    start: str = ""
    expiry: str = ""


class Acl(NamedTuple):
    """What a container keeps about access: policies, public access (None: private), and when it last changed."""

    policies: list[AccessPolicy]
    public_access: str | None
    last_modified: str | None


def access_policy(row: Json) -> AccessPolicy:
    policy = row.get("AccessPolicy") or {}
    fields = policy if isinstance(policy, dict) else {}
    return AccessPolicy(
        str(row.get("Id", "")), *(str(fields.get(name) or "") for name in ("Permission", "Start", "Expiry"))
    )


def acl_xml(policies: list[AccessPolicy]) -> bytes:
    rows = ""
    for policy in policies:
        fields = (("Start", policy.start), ("Expiry", policy.expiry), ("Permission", policy.permissions))
        inner = "".join(f"<{name}>{escape_xml(value)}</{name}>" for name, value in fields if value)
        rows += f"<SignedIdentifier><Id>{escape_xml(policy.name)}</Id><AccessPolicy>{inner}</AccessPolicy></SignedIdentifier>"
    return f'<?xml version="1.0" encoding="utf-8"?><SignedIdentifiers>{rows}</SignedIdentifiers>'.encode()


class BlobService:
    """The blob service of one account: one short method per endpoint, plain data in and out.

    https://learn.microsoft.com/rest/api/storageservices/blob-service-rest-api
    """

    def __init__(self, http: BlobHttp) -> None:
        self.http, self.account = http, http.account

    def blob_id(self, container: str, name: str, version: str = "", snapshot: str = "") -> str:
        query = f"?versionid={version}" if version else f"?snapshot={snapshot}" if snapshot else ""
        return self.http.endpoint + blob_path(container, name) + query

    # Listing

    def page(self, container: str, query: Json) -> BlobPage:
        """A page of a container's blobs."""
        full = {"restype": "container", "comp": "list", **query}
        return self._page(blob_path(container), f"list the blobs of {container}", full)

    def _page(self, path: str, action: str, query: Json) -> BlobPage:
        """Read as it arrives; NetworkError if it is no listing, or breaks off."""
        with self.http.send("GET", path, action=action, query=query, stream=True) as answer:
            try:
                return BlobPage(answer.iter_content(1 << 16))
            except (ValueError, requests.RequestException):
                raise NetworkError(
                    f"Could not {action}: {self.http.endpoint} did not answer with a whole listing.",
                    "run the command again.",
                ) from None

    def rows(self, container: str, query: Json, marker: str = "") -> Iterator[tuple[list[Json], str, str]]:
        """Page after page, each with the marker it was read from and the one of the next."""
        while True:
            page = self.page(container, {**query, "marker": marker or None})
            for row in page.rows:
                row.update(
                    id=self.blob_id(container, row["name"], row.get("versionId", ""), row.get("snapshot", "")),
                    account=self.account,
                    container=container,
                )
            yield page.rows, marker, page.marker
            if not page.marker or page.marker == marker:
                return
            marker = page.marker

    def find(self, where: str, container: str, marker: str, size: int) -> tuple[list[Json], str]:
        """The blobs whose tags fit an expression, in one container or, with an empty one, in the account."""
        query = {
            "comp": "blobs",
            "where": where,
            "marker": marker or None,
            "maxresults": size,
            "restype": "container" if container else None,
        }
        path = blob_path(container) if container else "/"
        page = self._page(path, "find blobs by tags", query)
        for row in page.rows:
            row.setdefault("container", container)
            row.update(id=self.blob_id(row["container"], row["name"]), account=self.account)
        return page.rows, page.marker

    # Reading

    def open(self, blob: BlobRef, headers: Json) -> requests.Response:
        """The content as a stream, which the caller closes."""
        return self.http.send(
            "GET", blob.path, action=f"read blob {blob}", query=blob.query, headers=headers, stream=True
        )

    def properties(self, blob: BlobRef) -> Json:
        answer = self.http.send("HEAD", blob.path, action=f"read the properties of blob {blob}", query=blob.query)
        return {**blob.identity(), **properties_of(answer)}

    def tags(self, blob: BlobRef) -> dict[str, str]:
        answer = self.http.send(
            "GET", blob.path, action=f"read the tags of blob {blob}", query={**blob.query, "comp": "tags"}
        )
        found = xml_of(answer, f"read the tags of blob {blob}").get("Tags") or {}
        tags = (found.get("TagSet") or {}).get("Tag", []) if isinstance(found, dict) and found.get("TagSet") else []
        return {tag["Key"]: tag.get("Value", "") for tag in (tags if isinstance(tags, list) else [tags])}

    # Writing

    def put(self, blob: BlobRef, data: bytes, headers: Json) -> Json:
        full = {"x-ms-blob-type": "BlockBlob", **headers}
        answer = self.http.send("PUT", blob.path, action=f"write blob {blob}", headers=full, data=data)
        return written(answer)

    def put_block(self, blob: BlobRef, block_id: str, data: bytes) -> None:
        query = {"comp": "block", "blockid": block_id}
        self.http.send("PUT", blob.path, action=f"write a block of blob {blob}", query=query, data=data)

    def put_block_list(self, blob: BlobRef, block_ids: Iterable[str], headers: Json) -> Json:
        body = "".join(f"<Latest>{block_id}</Latest>" for block_id in block_ids)
        data = f'<?xml version="1.0" encoding="utf-8"?><BlockList>{body}</BlockList>'.encode()
        answer = self.http.send(
            "PUT", blob.path, action=f"write blob {blob}", query={"comp": "blocklist"}, headers=headers, data=data
        )
        return written(answer)

    def set_properties(self, blob: BlobRef, headers: Json) -> Json:
        """Replaces all content headers: one that is not given is cleared."""
        action = f"change the properties of blob {blob}"
        return written(
            self.http.send("PUT", blob.path, action=action, query={"comp": "properties"}, headers=headers, data=b"")
        )

    def set_metadata(self, blob: BlobRef, metadata: Mapping[str, str], headers: Json) -> Json:
        full = {**headers, **{f"x-ms-meta-{name}": value for name, value in metadata.items()}}
        action = f"change the metadata of blob {blob}"
        return written(
            self.http.send("PUT", blob.path, action=action, query={"comp": "metadata"}, headers=full, data=b"")
        )

    def set_tags(self, blob: BlobRef, tags: Mapping[str, str]) -> None:
        query = {**blob.query, "comp": "tags"}
        self.http.send(
            "PUT",
            blob.path,
            action=f"change the tags of blob {blob}",
            query=query,
            headers={"Content-Type": "application/xml"},
            data=tags_xml(tags),
        )

    def snapshot(self, blob: BlobRef, headers: Json) -> Json:
        action = f"take a snapshot of blob {blob}"
        answer = self.http.send(
            "PUT", blob.path, action=action, query={"comp": "snapshot"}, headers=headers, data=b"", replayable=False
        )
        return {**written(answer), "snapshot": answer.headers.get("x-ms-snapshot", "")}

    def set_tier(self, blob: BlobRef, tier: str, headers: Json) -> bool:
        """Whether the blob is only on its way: out of the archive takes hours."""
        query = {**blob.query, "comp": "tier"}
        answer = self.http.send(
            "PUT",
            blob.path,
            action=f"change the tier of blob {blob}",
            query=query,
            headers={"x-ms-access-tier": tier, **headers},
            data=b"",
        )
        return answer.status_code == 202

    def lease(self, blob: BlobRef, action: str, headers: Json) -> Json:
        full = {"x-ms-lease-action": action, **headers}
        answer = self.http.send(
            "PUT",
            blob.path,
            action=f"{action} the lease of blob {blob}",
            query={"comp": "lease"},
            headers=full,
            data=b"",
            replayable=False,
        )
        seconds = answer.headers.get("x-ms-lease-time")
        return {
            **({"leaseId": answer.headers["x-ms-lease-id"]} if "x-ms-lease-id" in answer.headers else {}),
            **({"leaseSecondsLeft": int(seconds)} if seconds else {}),
        }

    def set_legal_hold(self, blob: BlobRef, hold: bool) -> None:
        query = {**blob.query, "comp": "legalhold"}
        self.http.send(
            "PUT",
            blob.path,
            action=f"change the legal hold of blob {blob}",
            query=query,
            headers={"x-ms-legal-hold": str(hold).lower()},
            data=b"",
        )

    # Deleting and restoring

    def delete(self, blob: BlobRef, headers: Json) -> None:
        self.http.send("DELETE", blob.path, action=f"delete blob {blob}", query=blob.query, headers=headers)

    def undelete(self, blob: BlobRef) -> None:
        self.http.send("PUT", blob.path, action=f"restore blob {blob}", query={"comp": "undelete"}, data=b"")

    def delete_many(self, blobs: list[BlobRef], headers: Json) -> list[ServiceError | None]:
        """What became of each of at most 256 blobs: None where it was deleted.

        https://learn.microsoft.com/rest/api/storageservices/blob-batch
        """
        parts = [("DELETE", blob.path, blob.query, headers) for blob in blobs]
        answer = self.http.send_batch("/", f"delete {len(blobs)} blobs", parts)
        return batch_results(text_of(answer), answer.headers.get("Content-Type", ""), blobs)

    # Containers

    def access_policies(self, container: str) -> Acl:
        """https://learn.microsoft.com/rest/api/storageservices/get-container-acl"""
        query = {"restype": "container", "comp": "acl"}
        answer = self.http.send(
            "GET", blob_path(container), action=f"read the policies of container {container}", query=query
        )
        found = xml_of(answer, f"read the policies of container {container}").get("SignedIdentifiers") or {}
        rows = found.get("SignedIdentifier", []) if isinstance(found, dict) else []
        policies = [access_policy(row) for row in dicts(rows if isinstance(rows, list) else [rows])]
        return Acl(policies, answer.headers.get("x-ms-blob-public-access"), answer.headers.get("Last-Modified"))

    def set_access_policies(self, container: str, acl: Acl) -> None:
        """Replaces the whole list; the public access goes along, since leaving it out would change it."""
        headers = {"x-ms-blob-public-access": acl.public_access, "If-Unmodified-Since": acl.last_modified}
        try:
            self._write_acl(container, acl, headers)
        except ServiceError as error:
            if error.code != "PublicAccessNotPermitted":
                raise
            # The account allows no public access any more, so that the container has lost its own already.
            self._write_acl(container, acl, {**headers, "x-ms-blob-public-access": None})

    def _write_acl(self, container: str, acl: Acl, headers: Json) -> None:
        self.http.send(
            "PUT",
            blob_path(container),
            action=f"change the policies of container {container}",
            query={"restype": "container", "comp": "acl"},
            headers={"Content-Type": "application/xml", **headers},
            data=acl_xml(acl.policies),
        )

    def restore_container(self, container: str, version: str) -> None:
        """https://learn.microsoft.com/rest/api/storageservices/restore-container"""
        headers = {"x-ms-deleted-container-name": container, "x-ms-deleted-container-version": version}
        query = {"restype": "container", "comp": "undelete"}
        self.http.send(
            "PUT", blob_path(container), action=f"restore container {container}", query=query, headers=headers, data=b""
        )

    # Copying

    def copy(self, target: BlobRef, source: str, headers: Json, *, wait: bool) -> Json:
        """Begin a server-side copy from a URL; `wait` for Azure to finish it, which it does up to 256 MiB."""
        full = {"x-ms-copy-source": source, "x-ms-requires-sync": "true" if wait else None, **headers}
        answer = self.http.send(
            "PUT", target.path, action=f"copy to blob {target}", headers=full, data=b"", replayable=False
        )
        return {
            **written(answer),
            "copyId": answer.headers.get("x-ms-copy-id", ""),
            "copyStatus": answer.headers.get("x-ms-copy-status", ""),
        }

    def abort_copy(self, target: BlobRef, copy_id: str, headers: Json) -> None:
        full = {"x-ms-copy-action": "abort", **headers}
        self.http.send(
            "PUT",
            target.path,
            action=f"abort the copy to blob {target}",
            query={"comp": "copy", "copyid": copy_id},
            headers=full,
            data=b"",
        )

    def delegation_key(self, start: str, expiry: str) -> Json:
        """https://learn.microsoft.com/rest/api/storageservices/get-user-delegation-key"""
        body = (
            f'<?xml version="1.0" encoding="utf-8"?><KeyInfo><Start>{start}</Start><Expiry>{expiry}</Expiry></KeyInfo>'
        )
        query = {"restype": "service", "comp": "userdelegationkey"}
        answer = self.http.send("POST", "/", action="get a user delegation key", query=query, data=body.encode())
        found = xml_of(answer, "get a user delegation key").get("UserDelegationKey") or {}
        remember_secret(str(found.get("Value") or ""))
        return dict(found)


def properties_of(answer: requests.Response) -> Json:
    """The properties, metadata and size that an answer's headers tell."""
    headers = answer.headers
    found = {name: read(headers[header]) for _, header, name, read in BLOB_PROPERTIES if header and headers.get(header)}
    metadata = {name[10:]: value for name, value in headers.items() if name.lower().startswith("x-ms-meta-")}
    extra = {
        "versionId": headers.get("x-ms-version-id"),
        "isCurrentVersion": True if headers.get("x-ms-is-current-version") == "true" else None,
    }
    return {**found, **given_only(extra), "metadata": metadata}


def written(answer: requests.Response) -> Json:
    """What a write tells of the blob after it."""
    found = {
        "etag": answer.headers.get("ETag", "").strip('"') or None,
        "lastModified": http_date(answer.headers["Last-Modified"]) if "Last-Modified" in answer.headers else None,
        "versionId": answer.headers.get("x-ms-version-id"),
    }
    return given_only(found)


def tags_xml(tags: Mapping[str, str]) -> bytes:
    rows = "".join(
        f"<Tag><Key>{escape_xml(key)}</Key><Value>{escape_xml(value)}</Value></Tag>" for key, value in tags.items()
    )
    return f'<?xml version="1.0" encoding="utf-8"?><Tags><TagSet>{rows}</TagSet></Tags>'.encode()


def escape_xml(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def batch_results(text: str, content_type: str, blobs: list[BlobRef]) -> list[ServiceError | None]:
    """The outcome of each part of a batch, in the order of the blobs. A part that is missing counts as failed."""
    boundary = content_type.partition("boundary=")[2].strip('"')
    results: list[ServiceError | None] = [
        ServiceError(f"delete blob {blob}", 0, "NoAnswer", "The batch holds no answer for it.") for blob in blobs
    ]
    for part in text.split(f"--{boundary}"):
        number = re.search(r"Content-ID:\s*(\d+)", part, re.IGNORECASE)
        status = re.search(r"HTTP/1\.1 (\d{3})", part)
        if not number or not status or int(number[1]) >= len(blobs):
            continue
        code = re.search(r"x-ms-error-code:\s*(\S+)", part, re.IGNORECASE)
        failed = int(status[1]) >= 300
        name = code[1] if code else ""
        error = ServiceError(
            f"delete blob {blobs[int(number[1])]}", int(status[1]), name, "", "", BLOB_HINTS.get(name, "")
        )
        results[int(number[1])] = error if failed else None
    return results


class Download(NamedTuple):
    """A blob that was read to a file: what was counted on the way, and whether the service's own figures agree."""

    path: str
    size: int
    sha256: str
    md5: str
    properties: Json
    md5_of_service: str

    @property
    def verified(self) -> str:
        if not self.md5_of_service:
            return "size only: the service holds no MD5 for this blob"
        return "size and MD5" if self.md5_of_service == self.md5 else "MD5 DIFFERS from the one the service holds"


class Digests:
    """SHA-256, MD5 and size of what passes, each hash in a thread of its own: hashing costs as much as the transfer."""

    def __init__(self) -> None:
        self.sha256, self.md5, self.size = hashlib.sha256(), hashlib.md5(usedforsecurity=False), 0
        self._pool: ThreadPoolExecutor | None = None  # a small blob does without
        self._running: list[Any] = []

    def update(self, data: bytes) -> None:
        """Waits only for what was given before, so that little is held."""
        self.size += len(data)
        if self._pool is None and len(data) < 1 << 20:
            self.sha256.update(data)
            self.md5.update(data)
            return
        self._pool = self._pool or ThreadPoolExecutor(2)
        self._wait()
        self._running = [self._pool.submit(digest.update, data) for digest in (self.sha256, self.md5)]

    def _wait(self) -> None:
        for future in self._running:
            future.result()

    def __enter__(self) -> "Digests":
        return self

    def __exit__(self, *_: object) -> None:
        if self._pool:
            self._pool.shutdown()

    def facts(self) -> Json:
        return {"size": self.size, "sha256": self.sha256.hexdigest(), "md5": self.md5.hexdigest()}


class Downloader:
    """Reads one blob to a file, in parallel ranges above one block, hashing in order.

    The first answer's ETag pins all others, so that two contents never mix; a connection that breaks is resumed where it
    broke. https://learn.microsoft.com/rest/api/storageservices/get-blob
    """

    def __init__(self, blob: BlobRef, start: int = 0, end: int | None = None, *, parallel: bool = True) -> None:
        self.blob, self.start, self.end, self.parallel = blob, start, end, parallel
        self.etag = ""

    def run(self, path: str, max_size: int) -> Download:
        """UsageError if it is larger than max_size bytes; NetworkError if what came is not what was announced."""
        first, properties, total = self._first(max_size)
        with Digests() as digests, open(path, "wb") as file:  # noqa: PTH123 - a plain file in the platform's folder
            for piece in itertools.chain([first], self._rest(len(first), total)):
                digests.update(piece)
                file.write(piece)
        if digests.size != total:
            raise NetworkError(
                f"Could not read blob {self.blob}: {digests.size} of {total} bytes came.", "run the command again."
            )
        whole = self.start == 0 and self.end is None
        return Download(
            path, **digests.facts(), properties=properties, md5_of_service=properties.get("md5", "") if whole else ""
        )

    def _first(self, max_size: int) -> tuple[bytes, Json, int]:
        """The first block, the blob's properties and how many bytes are wanted."""
        last = self.start + BLOCK_SIZE - 1 if self.end is None else min(self.end, self.start + BLOCK_SIZE - 1)
        try:
            answer = self.blob.service.open(self.blob, {"x-ms-range": f"bytes={self.start}-{last}"})
        except ServiceError as error:
            if error.status != 416 or self.start:  # an empty blob has no range
                raise
            answer = self.blob.service.open(self.blob, {})
        with answer:
            span = re.fullmatch(r"bytes \d+-\d+/(\d+)", answer.headers.get("Content-Range", ""))
            length = int(span[1]) if span else int(answer.headers.get("Content-Length", "0"))
            end = length - 1 if self.end is None else min(self.end, length - 1)
            total = max(0, end - self.start + 1) if span else length
            if total > max_size:
                raise UsageError(
                    f"Blob {self.blob} has {total} bytes, more than max_size={max_size}; raise it, or copy the blob server-side."
                )
            self.etag = answer.headers.get("ETag", "")
            properties = properties_of(answer) | {"size": length}
            if answer.headers.get("x-ms-blob-content-md5"):
                properties["md5"] = md5_hex(answer.headers["x-ms-blob-content-md5"])
            data = self._read(answer, self.start, min(total, last - self.start + 1) if span else total)
        return data, properties, total

    def _rest(self, done: int, total: int) -> Iterator[bytes]:
        """The other blocks in their order, a few of them on their way at a time."""
        ranges = [
            (self.start + at, min(self.start + at + BLOCK_SIZE, self.start + total))
            for at in range(done, total, BLOCK_SIZE)
        ]
        yield from in_order(self._block, ranges) if self.parallel else map(self._block, ranges)

    def _block(self, span: tuple[int, int]) -> bytes:
        return self._range(*span)

    def _range(self, start: int, stop: int) -> bytes:
        headers = {"x-ms-range": f"bytes={start}-{stop - 1}", "If-Match": self.etag}
        with self.blob.service.open(self.blob, headers) as answer:
            return self._read(answer, start, stop - start)

    def _read(self, answer: requests.Response, start: int, wanted: int) -> bytes:
        """The body, as stored (never decompressed); what a broken connection left out is asked for again."""
        pieces: list[bytes] = []
        got = 0
        try:
            while got < wanted and (piece := answer.raw.read(min(1 << 20, wanted - got), decode_content=False)):
                pieces.append(piece)
                got += len(piece)
        except (requests.RequestException, OSError, BaseHTTPError):
            demisto.debug(f"a download broke after {got} of {wanted} bytes")
        if got < wanted:
            if not got:
                raise NetworkError(f"Could not read blob {self.blob}: the connection broke.", "run the command again.")
            pieces.append(self._range(start + got, start + wanted))
        return b"".join(pieces)


def in_order(work: Callable[[T], R], items: list[T], parallel: int = PARALLEL) -> Iterator[R]:
    """The results of work on each item, in the order of the items, some at a time and never more in memory."""
    if len(items) < 2:
        yield from map(work, items)
        return
    todo = iter(items)
    with ThreadPoolExecutor(parallel) as pool:
        waiting = deque(pool.submit(work, item) for item in itertools.islice(todo, parallel))
        try:
            while waiting:
                yield waiting.popleft().result()
                waiting.extend(pool.submit(work, item) for item in itertools.islice(todo, 1))
        finally:
            for future in waiting:
                future.cancel()


def upload(blob: BlobRef, path: str, headers: Json) -> Json:
    """Write a file as a blob: one request up to a block, blocks in parallel above. The old blob stays until the end.

    Returns what the service tells of the new blob, with the size, SHA-256 and MD5 that were counted.
    """
    with open(path, "rb") as file:  # noqa: PTH123 - a path of the platform's
        data = file.read(BLOCK_SIZE + 1)
        if len(data) <= BLOCK_SIZE:
            return upload_at_once(blob, data, headers)
        file.seek(0)
        session = uuid.uuid4().hex[:8]
        block_ids: list[str] = []
        with Digests() as digests, ThreadPoolExecutor(PARALLEL) as pool:
            running: deque[Any] = deque()
            while data := file.read(BLOCK_SIZE):
                block_ids.append(base64.b64encode(f"{session}-{len(block_ids):05d}".encode()).decode())
                if len(running) == PARALLEL:
                    running.popleft().result()
                running.append(pool.submit(blob.service.put_block, blob, block_ids[-1], data))
                digests.update(data)
            for future in running:
                future.result()
    content_md5 = base64.b64encode(digests.md5.digest()).decode()
    found = blob.service.put_block_list(blob, block_ids, {**headers, "x-ms-blob-content-md5": content_md5})
    return {**found, **digests.facts()}


def upload_at_once(blob: BlobRef, data: bytes, headers: Json) -> Json:
    digest = hashlib.md5(data, usedforsecurity=False).digest()
    md5 = base64.b64encode(digest).decode()
    found = blob.service.put(blob, data, {**headers, "Content-MD5": md5, "x-ms-blob-content-md5": md5})
    return {**found, "size": len(data), "sha256": hashlib.sha256(data).hexdigest(), "md5": digest.hex()}


class Azure:
    """What a command works with: the instance's settings, the sign-in and the operations."""

    def __init__(self, settings: Settings, *, in_memory: bool = False) -> None:
        network = Network(settings.verify)
        self.settings, self.command = settings, ""
        self._assumed: AccountRef | None = None
        self._found: dict[str, AccountRef] = {}
        self.store = SessionStore(settings.identity_key, in_memory=in_memory)
        self.auth = MicrosoftAuth(settings, network, self.store)
        self.http = Http(settings, self.auth, network)
        self.arm = ResourceManager(self.http, settings.cloud.resource_manager)

    def _known_account(self, account: str, subscription: str, group: str) -> Json:
        """The account object; {} where the identity has no role to see it, which blobs do not need."""
        try:
            if subscription and group:
                return self.arm.account(AccountRef(subscription, group, account))
        except ServiceError as error:
            if error.status != 404:
                return {}
        try:
            return next(iter(self.arm.search(accounts_query([account]), Paging(limit=1)).items), {})
        except ServiceError:
            return {}

    def account(self, name: str, subscription: str, group: str) -> AccountRef:
        """The account of that name: where the arguments or else the instance's defaults say, else wherever it is found.

        UsageError if nothing tells where it is.
        """
        if name in self._found:
            return self._found[name]
        told = bool(subscription and group)
        subscription, group = subscription or self.settings.subscription, group or self.settings.group
        if subscription and group:
            ref = AccountRef(subscription, group, name)
            self._assumed = self._assumed if told else ref
            return ref
        found = self.find_account(name)
        if not found:
            raise UsageError(
                f"No subscription that the signed-in identity can read has a storage account {name}.",
                "check the name; if it is right, the identity lacks the role Reader there, or the account was deleted or is in another tenant. "
                "For an account that is new, give resource_group_name and subscription_id.",
            )
        return found

    def find_account(self, name: str) -> AccountRef | None:
        rows = self.arm.search(accounts_query(names=[name]), Paging(limit=1)).items
        found = resource_id(rows[0]) if rows else ResourceId("")
        return AccountRef(found.subscription.lower(), found.group, found.account) if found.account else None

    def look_elsewhere(self, error: ServiceError) -> bool:
        """Whether an account that is not where the instance's defaults say was found in another place.

        A command starts with reading, so that after this the whole of it can be run again.
        """
        assumed, self._assumed = self._assumed, None
        if assumed is None or error.status != 404 or error.code not in MISPLACED:
            return False
        try:
            found = self.find_account(assumed.name)
        except AzureStorageError as failure:
            demisto.debug(f"looking for {assumed.name} elsewhere failed: {redact(str(failure))}")
            return False
        if not found or found.id.lower() == assumed.id.lower():
            return False
        self._found[assumed.name] = found
        return True

    def subscription(self, given: str | None) -> str:
        """The subscription named, or else the instance's. UsageError without either."""
        return given or self.settings.subscription or missing("subscription_id", "Default Subscription ID")

    def blobs(self, account: str, subscription: str, group: str, host: str = "") -> BlobService:
        """The blob service of an account. `host` is where a pasted URL points; it has to be the account's own.

        The endpoint comes from ARM once and is remembered; where ARM cannot tell, it is the cloud's usual one.
        """
        suffix = self.settings.cloud.storage_suffix
        usual = f"https://{account}.blob.{suffix}"
        remembered = self.store.read().get("endpoints", {}).get(account)
        endpoint = remembered or self._endpoint(account, subscription, group) or usual
        if host and host not in (host_of(endpoint), host_of(usual), suffix):
            raise UsageError(
                f"Argument blob_url: {host} is not the blob service of {account} in the chosen cloud; nothing was sent."
            )
        if host == suffix and not remembered and endpoint == usual:
            endpoint = f"https://{host}/{account}"
        return BlobService(BlobHttp(self.http, account, endpoint))

    def _endpoint(self, account: str, subscription: str, group: str) -> str:
        """What ARM says, or Resource Graph where nothing tells the account's place; empty where they cannot tell.

        Neither is asked for an account of which the instance has a SAS or key.
        """
        if self.settings.storage_credential_for(account):
            return ""
        item = self._known_account(account, subscription, group)
        found = str(at_path(item, "properties.primaryEndpoints.blob") or "")

        def remember(session: Session) -> None:
            session.setdefault("endpoints", {})[account] = found

        if host_of(found):
            self.store.update(remember)
        return found if host_of(found) else ""


# What ARM says of an account that is not in the group or subscription where it was looked for.
MISPLACED = frozenset({"ResourceNotFound", "ParentResourceNotFound", "ResourceGroupNotFound", "SubscriptionNotFound"})


def missing(argument: str, parameter: str) -> str:
    raise UsageError(f"Argument {argument} is missing, and the instance has no {parameter}: give one of the two.")


# --- plan --------------------------------------------------------------------------------------------------------------

# Objects that a change replaces as a whole instead of merging into them.
REPLACED_WHOLE = frozenset({"tags"})
# Fields that ARM computes; they are not sent back.
READ_ONLY = frozenset(
    {
        "lastEnabledTime",
        "minRestoreTime",
        "currentVersionedKeyIdentifier",
        "currentVersionedKeyExpirationTimestamp",
        "lastKeyRotationTimestamp",
        "protectedAppendWritesHistory",
        "state",  # of a virtual network rule
    }
)


class Change(NamedTuple):
    """What a command did, or with dry_run would do, to one resource: only the settings that differ, before and after.

    undo: the command line that takes it back; empty where nothing does.
    """

    target: str
    before: Json
    after: Json
    dry_run: bool = False
    undo: str = ""

    @property
    def needed(self) -> bool:
        return self.before != self.after

    def context(self, command_name: str) -> Json:
        return {
            "id": self.target,
            "command": command_name,
            "changed": self.needed and not self.dry_run,
            "dryRun": self.dry_run,
            "before": self.before,
            "after": self.after,
            "undo": self.undo if self.needed and not self.dry_run else "",
        }

    def words(self) -> str:
        if not self.needed:
            return "Nothing to change: it is so already."
        lines = [f"* {path}: {shown(old)} -> {shown(new)}" for path, old, new in leaves(self.before, self.after)]
        undo = [f"\nTo undo it: {code(self.undo)}"] if self.undo and not self.dry_run else []
        return "\n".join(
            ["Dry run, nothing was changed. It would change:" if self.dry_run else "Changed:", *lines, *undo]
        )


def differences(current: Json, wanted: Json) -> tuple[Json, Json]:
    """The settings of `wanted` that differ from `current`: as they are (None where unset), and as wanted."""
    before: Json = {}
    after: Json = {}
    for key, value in wanted.items():
        now = current.get(key)
        if isinstance(value, dict) and key not in REPLACED_WHOLE:
            old, new = differences(now if isinstance(now, dict) else {}, value)
            if new:
                before[key], after[key] = old, new
        elif not same(now, value):
            before[key], after[key] = now, value
    return before, after


def same(left: Any, right: Any) -> bool:
    """Whether ARM would see no difference: not in the order of a list, in a missing empty list, or in what it computes."""
    if isinstance(left, list | None) and isinstance(right, list):
        return sorted(map(canonical, left or [])) == sorted(map(canonical, right))
    return canonical(left) == canonical(right)


def canonical(value: Any) -> str:
    """A text that is the same for values that mean the same to ARM: "Logging, Metrics" is "metrics,logging"."""
    if isinstance(value, str):
        return json.dumps(sorted(part.strip().rstrip("/").lower() for part in value.split(",")))
    if isinstance(value, dict):
        return json.dumps({key: canonical(item) for key, item in sorted(value.items()) if key not in READ_ONLY})
    return json.dumps(value)


def merged(current: Json, wanted: Json) -> Json:
    """`current` with the settings of `wanted` put in, and without what ARM computes itself."""
    result = {
        key: merged(value, {}) if isinstance(value, dict) else value
        for key, value in current.items()
        if key not in READ_ONLY
    }
    for key, value in wanted.items():
        old = result.get(key)
        deep = isinstance(value, dict) and isinstance(old, dict) and key not in REPLACED_WHOLE
        result[key] = merged(old or {}, value) if deep else value
    return result


def leaves(before: Json, after: Json, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Each changed setting with its dotted path, without the word properties that says nothing to people."""
    for key, new in after.items():
        old = before.get(key) if isinstance(before, dict) else None
        here = path if key == "properties" and not path else f"{path}.{key}".lstrip(".")
        if isinstance(new, dict) and key not in REPLACED_WHOLE:
            yield from leaves(old or {}, new, here)
        else:
            yield here, old, new


def code(text: str) -> str:
    """A text as Markdown shows code; one with backticks in it needs two around it."""
    return f"`` {text} ``" if "`" in text else f"`{text}`"


def shown(value: Any) -> str:
    return "unset" if value is None else value if isinstance(value, str) else json.dumps(value)


# https://learn.microsoft.com/rest/api/storagerp/storage-accounts/update says what an update can do.
CREATION_ONLY = ("location", "properties.isHnsEnabled", "properties.encryption.requireInfrastructureEncryption")


def account_patch(current: Json, wanted: Json) -> tuple[Json, Json, Json]:
    """The PATCH that turns an account into what is wanted, with before and after; an empty one if it is so already.

    Only properties that change are sent; objects that ARM replaces as a unit (networkAcls, encryption) are sent whole, so
    that what was not named stays. UsageError for what only creation can set.
    """
    for path in CREATION_ONLY:
        value = at_path(wanted, path)
        if value is not None and not same(at_path(current, path) or False, value):
            names = {entry.path: name for name, entry in ACCOUNT_FIELDS.items()}
            raise UsageError(
                f"Argument {names[path]}: {shown(value)!r} cannot be set after creation; the account has {shown(at_path(current, path))!r}."
            )
    wanted = without(wanted, CREATION_ONLY)
    domain = at_path(wanted, "properties.customDomain.name")
    if domain and same(at_path(current, "properties.customDomain.name"), domain):
        wanted = without(wanted, ["properties.customDomain.useSubDomainName"])  # ARM takes it and never returns it
    before, after = differences(current, wanted)
    patch = {key: wanted[key] for key in after if key != "properties"}
    if "properties" in after:
        whole = merged(current.get("properties", {}), wanted["properties"])
        patch["properties"] = {key: whole[key] for key in after["properties"]}
    return patch, before, after


# --- posture -----------------------------------------------------------------------------------------------------------

# What a check can come to. unset: the service does not say, and that may be unsafe; unknown: we could not find out.
PASS, FAIL, UNSET, UNKNOWN, NOT_APPLICABLE = "pass", "fail", "unset", "unknown", "not_applicable"
WORST_FIRST = (FAIL, UNKNOWN, UNSET, PASS)
SEVERITIES = ("High", "Medium", "Low")

# Where data sharing, per-service keys, the static website and user-bound SAS appear; read and written with it alone.
SHARING_API = "2026-09-01"
DEFENDER_API = "2025-06-01"


class DeepSource(NamedTuple):
    """One GET per account: the path under the account's id, the api-version, and the permission it needs."""

    path: str
    api: str
    permission: str


# An older api-version does not return all settings, and what it does not return looks unset.
ACCOUNT_SOURCE = DeepSource("", SHARING_API, READ_ACCOUNT)
DEEP_SOURCES = {
    "locks": DeepSource("/providers/Microsoft.Authorization/locks", LOCKS_API, READ_LOCKS),
    "service": DeepSource("/blobServices/default", STORAGE_API, READ_SERVICE),
    "containers": DeepSource("/blobServices/default/containers", STORAGE_API, READ_CONTAINER),
    "files": DeepSource("/fileServices/default", STORAGE_API, f"{STORAGE_ACCOUNTS}/fileServices/read"),
    "replication": DeepSource(
        "/objectReplicationPolicies", STORAGE_API, f"{STORAGE_ACCOUNTS}/objectReplicationPolicies/read"
    ),
    "scopes": DeepSource("/encryptionScopes", STORAGE_API, f"{STORAGE_ACCOUNTS}/encryptionScopes/read"),
    "local_users": DeepSource("/localUsers", STORAGE_API, f"{STORAGE_ACCOUNTS}/localUsers/read"),
    "defender": DeepSource(
        "/providers/Microsoft.Security/defenderForStorageSettings/current",
        DEFENDER_API,
        "Microsoft.Security/defenderForStorageSettings/read",
    ),
    "logs": DeepSource(
        "/blobServices/default/providers/Microsoft.Insights/diagnosticSettings",
        DIAGNOSTICS_API,
        READ_LOGGING,
    ),
    "connectors": DeepSource("/connectors", SHARING_API, f"{STORAGE_ACCOUNTS}/connectors/read"),
    "data_shares": DeepSource("/dataShares", SHARING_API, f"{STORAGE_ACCOUNTS}/dataShares/read"),
    "access_points": DeepSource(
        "/blobAccessPointConfigurations", SHARING_API, f"{STORAGE_ACCOUNTS}/blobAccessPointConfigurations/read"
    ),
}
SHARING_SOURCES = ("connectors", "data_shares", "access_points")
# Elsewhere "not found" says that the account does not have the feature; here, that there is none of it.
EMPTY_WHEN_MISSING: dict[str, Any] = {"local_users": [], "defender": {}, **{name: [] for name in SHARING_SOURCES}}
UNSUPPORTED_CODES = frozenset(
    {
        "FeatureNotSupportedForAccount",
        "InvalidResourceType",
        "NoRegisteredProviderFound",
        "OperationNotSupportedOnAccount",
        "ResourceTypeNotSupported",
    }
)
# A 404 that is about something else than the feature.
GONE_CODES = frozenset({"ResourceGroupNotFound", "SubscriptionNotFound", "InvalidSubscriptionId"})


class PostureOptions(NamedTuple):
    """What is ours, against which the checks hold what they find; an empty one is not known.

    now is in seconds since 1970; key_vaults holds names or addresses; subscriptions holds ids.
    """

    now: float
    tenant_id: str = ""
    key_vaults: tuple[str, ...] = ()
    subscriptions: tuple[str, ...] = ()
    evidence_containers: tuple[str, ...] = ()
    max_key_age_days: int = 90


class Finding(NamedTuple):
    """What a judge says. values fill {value} of the check's fix; steps, if any, replace the fix: templates with values."""

    result: str
    evidence: str
    values: tuple[str, ...] = ()
    steps: tuple[tuple[str, tuple[str, ...]], ...] = ()


class Case(NamedTuple):
    """What a judge gets: the account, what the check's source holds, the other sources, and what is ours."""

    account: Json
    data: Any
    facts: Mapping[str, Any]
    options: PostureOptions

    def items(self) -> list[Json]:
        """The objects of a collection."""
        return listed_items(self.data)


Judge = Callable[[Case], Finding]
Rule = Callable[[Json], str]


class Check(NamedTuple):
    """One row of the table. fix is a template with {account}, {group}, {subscription}, and {value} where a judge gives it.

    property is where ARM keeps it, as Microsoft writes it; source is "account" or a deep source; exempt are the rules
    that say why the check is of no use for an account.
    """

    number: int
    name: str
    title: str
    severity: str
    cis: str
    property: str
    source: str
    judge: Judge
    fix: str
    exempt: tuple[Rule, ...] = ()


# Which accounts a check does not fit


def kind_is(*kinds: str) -> Rule:
    def rule(account: Json) -> str:
        kind = account.get("kind")
        return f"{kind} accounts do not have it" if kind in kinds else ""

    return rule


def setting_is(path: str, value: Any, words: str) -> Rule:
    def rule(account: Json) -> str:
        found = at_path(account, path)
        return words if found is not None and found == value else ""

    return rule


def is_premium(account: Json) -> str:
    sku = str(at_path(account, "sku.name") or "")
    return f"{sku} accounts do not have it" if sku.startswith("Premium") else ""


NO_BLOBS = kind_is("FileStorage")
NO_FILES = kind_is("BlobStorage", "BlockBlobStorage")
GENERAL_V1 = kind_is("Storage")
HIERARCHICAL = setting_is("properties.isHnsEnabled", True, "accounts with a hierarchical namespace do not have it")
KEYS_REFUSED = setting_is(
    "properties.allowSharedKeyAccess", False, "shared keys are refused, so their age does not matter"
)


# Judges: each builder takes where to look and what is good, and what it means when nothing is there


def unset_means(words: str, safe: bool = False) -> Finding:
    return Finding(PASS if safe else UNSET, f"unset, which {words}")


def one_of(path: str, good: tuple[Any, ...], unset: str, safe: bool = False) -> Judge:
    """Passes when the value is one of the good ones; text in any case. safe: an unset value is as good."""
    wanted = [canonical_value(item) for item in good]

    def judge(case: Case) -> Finding:
        value = at_path(case.data, path)
        if value is None:
            return unset_means(unset, safe)
        name = path.removeprefix("properties.")
        return Finding(PASS if canonical_value(value) in wanted else FAIL, f"{name} is {shown(value)}")

    return judge


def canonical_value(value: Any) -> str:
    """A key for comparison in which true, 1 and "true" stay apart."""
    return json.dumps(value.lower() if isinstance(value, str) else value, sort_keys=True, default=str)


def flag_is(wanted: bool, path: str, unset: str, safe: bool = False) -> Judge:
    return one_of(path, (wanted,), unset, safe)


def within(path: str, low: int, high: Callable[[PostureOptions], int], unset: str) -> Judge:
    """Passes for a whole number from low to high."""

    def judge(case: Case) -> Finding:
        value = at_path(case.data, path)
        if value is None:
            return unset_means(unset)
        number = isinstance(value, int) and not isinstance(value, bool)
        good = number and low <= value <= high(case.options)
        name = path.removeprefix("properties.")
        return Finding(PASS if good else FAIL, f"{name} is {shown(value)}, wanted {low} to {high(case.options)}")

    return judge


def only_these(path: str, good: str, unset: str) -> Judge:
    """Passes when a semicolon list, as Azure Files has them, holds the good entry and nothing else."""

    def judge(case: Case) -> Finding:
        value = at_path(case.data, path)
        if value is None:
            return unset_means(unset)
        found = {part.strip().upper() for part in str(value).split(";") if part.strip()}
        name = path.removeprefix("properties.")
        return Finding(PASS if found == {good.upper()} else FAIL, f"{name} is {shown(value)}")

    return judge


def absent(path: str, unwanted: Callable[[Json], bool], words: str, fix: str) -> Judge:
    """Passes when no object of a list is unwanted; fix gets the places of those that are, the last first."""

    def judge(case: Case) -> Finding:
        rows = dicts(at_path(case.data, path))
        places = [place for place, row in enumerate(rows) if unwanted(row)]
        if not places:
            return Finding(PASS, f"{len(rows)} rules, none of that kind" if rows else "no rule, so nothing is let in")
        steps = tuple((fix, (str(place),)) for place in reversed(places))
        return Finding(FAIL, f"{words} in {len(places)} of {len(rows)} rules", steps=steps)

    return judge


def all_of(*judges: Judge) -> Judge:
    """The worst of several findings, with the evidence of all that are not good."""

    def judge(case: Case) -> Finding:
        return worst([part(case) for part in judges])

    return judge


# The step that stands for the fix of the check itself.
OWN_FIX: tuple[str, tuple[str, ...]] = ("", ())


def worst(findings: list[Finding]) -> Finding:
    """One finding out of several: failed before unknown before unset before passed; with what helps against all of them."""
    result = next(result for result in WORST_FIRST if any(result == found.result for found in findings))
    telling = [found for found in findings if result == PASS or found.result != PASS]
    helped = [found for found in telling if found.result in (FAIL, UNSET, result)]
    steps = (found.steps or ((OWN_FIX,) if found.result in (FAIL, UNSET) else ()) for found in helped)
    return Finding(
        result,
        "; ".join(dict.fromkeys(found.evidence for found in telling)),
        next((found.values for found in telling if found.values), ()),
        tuple(dict.fromkeys(step for part in steps for step in part)),
    )


def valued(judge: Judge, pick: Callable[[Case], str]) -> Judge:
    """A judge whose fix takes a value that depends on the account."""
    return lambda case: judge(case)._replace(values=(pick(case),))


def any_limit(limit: int) -> Callable[[PostureOptions], int]:
    return lambda options: limit


def days_kept(path: str) -> Callable[[Case], str]:
    """The retention to set: what is there if that is 7 days or more, else 14."""

    def pick(case: Case) -> str:
        days = at_path(case.data, path)
        return str(days) if isinstance(days, int) and not isinstance(days, bool) and 7 <= days <= 365 else "14"

    return pick


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def listed_items(data: Any) -> list[Json]:
    return dicts(data.get("value") if isinstance(data, dict) else data)


# Fixes: ours where there is a command for it, else the Azure CLI's

WHERE = "account_name={account} resource_group_name={group} subscription_id={subscription}"
ACCOUNT_ID = (
    "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.Storage/storageAccounts/{account}"
)
CLI_WHERE = "--account-name {account} --resource-group {group} --subscription {subscription}"


def ours(name: str, arguments: str) -> str:
    return f"!azure-storage-{name} {WHERE} {arguments}"


def cli_send(method: str, path: str, api: str, body: Json) -> str:
    """`az rest` with a JSON body; the text "{value}" in it is filled, all other braces stay."""
    text = json.dumps(body, separators=(",", ":")).replace("{", "{{").replace("}", "}}")
    text = text.replace("{{value}}", "{value}")
    return f"az rest --method {method} --url {ACCOUNT_ID}{path} --url-parameters api-version={api} --body '{text}'"


def cli_patch(properties: Json) -> str:
    return cli_send("patch", "", SHARING_API, {"properties": properties})


REJECT_ENDPOINT = "az storage account private-endpoint-connection reject --id {value} --description 'Not expected'"
REMOVE_IP_RULES = ours("account-network-rule-remove", "ip_rules={value}")
REMOVE_IPV6_RULE = f"az resource update --ids {ACCOUNT_ID} --api-version {SHARING_API} --remove properties.networkAcls.ipv6Rules {{value}}"
REMOVE_CORS_RULE = f"az resource update --ids {ACCOUNT_ID}/blobServices/default --api-version {STORAGE_API} --remove properties.cors.corsRules {{value}}"
NO_PERMANENT_DELETE = f"az resource update --ids {ACCOUNT_ID}/blobServices/default --api-version {STORAGE_API} --set properties.deleteRetentionPolicy.allowPermanentDelete=false"
GRANT_READ = f"az role assignment create --assignee <object-id-of-the-identity> --role Reader --scope {ACCOUNT_ID}"
OWN_KEYS = (
    "az storage account update --name {account} --resource-group {group} --subscription {subscription}"
    " --encryption-key-source Microsoft.Storage"
)
VAULT_KEYS = (
    "az storage account update --name {account} --resource-group {group} --subscription {subscription}"
    " --encryption-key-source Microsoft.Keyvault --encryption-key-vault {value} --encryption-key-name <key-name>"
)
SET_SKU = (
    "az storage account update --name {account} --resource-group {group} --subscription {subscription} --sku {value}"
)
DELETE_ITEM = f"az resource delete --ids {{value}} --api-version {SHARING_API}"
SHUT_SHARING = cli_patch(
    {
        "dataCollaborationPolicyProperties": {
            "allowStorageConnectors": False,
            "allowBlobAccessPoints": False,
            "allowStorageDataShares": False,
            "allowCrossTenantDataSharing": False,
        }
    }
)
SAY_WHAT_IS_OURS = "Name what is yours in the arguments of the check, then run it again."
RUN_AGAIN = "Run the check again."


def fill(template: str, where: Mapping[str, str], values: tuple[str, ...]) -> str:
    """A fix with its names put in, quoted as the war room or a shell wants them; words get them as they are."""
    if template.startswith("az "):
        return template.format(**{key: shlex.quote(name) for key, name in where.items()}, value=shlex.join(values))
    quote = war_room_quote if template.startswith("!") else str
    return template.format(**{key: quote(name) for key, name in where.items()}, value=quote(",".join(values)))


def war_room_quote(text: str) -> str:
    """A value as a person types it: in quotes where it has blanks, in backticks where it has quotes, too."""
    text = text.replace("`", "")
    if not re.search(r'[\s"=]', text):
        return text
    return f"`{text}`" if '"' in text else f'"{text}"'


# Judges of what does not fit into one value

# Since then Azure creates accounts with it off: https://learn.microsoft.com/azure/storage/blobs/object-replication-prevent-cross-tenant-policies
CROSS_TENANT_SAFE_SINCE = datetime(2023, 12, 15, tzinfo=timezone.utc).timestamp()
# Networks as wide as these hold strangers: prefix lengths by IP version.
TOO_WIDE = {4: 8, 6: 32}
KEY_SERVICES = ("blob", "file", "table", "queue")
BLOB_LOGS = ("StorageRead", "StorageWrite", "StorageDelete")
LOG_GROUPS = frozenset({"alllogs", "audit"})
LOG_SINKS = ("workspaceId", "storageAccountId", "eventHubAuthorizationRuleId", "marketplacePartnerId")
GEO_SKUS = {"Standard_ZRS": "Standard_GZRS", "StandardV2_LRS": "StandardV2_GRS", "StandardV2_ZRS": "StandardV2_GZRS"}
SAS_PERIOD = re.compile(r"\d{1,5}\.\d\d:\d\d:\d\d")


def few_of(items: Iterable[str], limit: int = 5) -> str:
    """The first few of many names."""
    names = [str(item) for item in items]
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def judge_anonymous(case: Case) -> Finding:
    found = flag_is(
        False,
        "properties.allowBlobPublicAccess",
        "refuses anonymous reading on new accounts and allows it on older ones: look at the containers",
    )(case)
    rows = case.facts.get("containers")
    if found.result != UNSET or rows is None or isinstance(rows, Exception):
        return found
    public = [str(row.get("name")) for row in listed_items(rows) if is_public(row)]
    return found._replace(evidence=f"{found.evidence}; {len(public)} of them public")


def is_public(container: Json) -> bool:
    return str(at_path(container, "properties.publicAccess") or "None").lower() != "none"


def judge_service_keys(case: Case) -> Finding:
    """Each service follows the account's switch until it is set by itself."""
    base = "properties.allowSharedKeyAccessForServices"
    state = {name: at_path(case.data, f"{base}.{name}.enabled") for name in KEY_SERVICES}
    on = [name for name, value in state.items() if value not in (None, False)]
    unset = [name for name, value in state.items() if value is None]
    if on:
        return Finding(FAIL, f"allowed for {few_of(on)}")
    if not unset:
        return Finding(PASS, "refused for every service")
    if at_path(case.data, "properties.allowSharedKeyAccess") is False:
        return Finding(PASS, f"unset for {few_of(unset)}, which follow the account, and it refuses shared keys")
    return Finding(UNSET, f"unset for {few_of(unset)}, which leaves them open to shared keys")


def judge_bypass(case: Case) -> Finding:
    value = at_path(case.data, "properties.networkAcls.bypass")
    parts = [part.strip() for part in str(value or "").split(",") if part.strip().lower() not in ("", "none")]
    values = (",".join(parts if "AzureServices" in parts else [*parts, "AzureServices"]),)
    if value is None:
        return unset_means("lets trusted services in by Azure's default")._replace(values=values)
    good = "azureservices" in (part.lower() for part in parts)
    return Finding(PASS if good else FAIL, f"networkAcls.bypass is {value}", values)


def judge_ip_rules(case: Case) -> Finding:
    return worst([judge_ip_kind(case, "ipRules", 4), judge_ip_kind(case, "ipv6Rules", 6)])


def judge_ip_kind(case: Case, kind: str, version: int) -> Finding:
    values = [str(rule.get("value")) for rule in dicts(at_path(case.data, f"properties.networkAcls.{kind}"))]
    widths = [prefix_length(value) for value in values]
    wide = [place for place, width in enumerate(widths) if width is not None and width <= TOO_WIDE[version]]
    if wide and version == 4:
        rules = tuple(values[place] for place in wide)
        return Finding(FAIL, f"too wide: {few_of(rules)}", steps=((REMOVE_IP_RULES, rules),))
    if wide:
        steps = tuple((REMOVE_IPV6_RULE, (str(place),)) for place in reversed(wide))
        return Finding(FAIL, f"too wide: {few_of(values[place] for place in wide)}", steps=steps)
    unread = [value for value, width in zip(values, widths, strict=True) if width is None]
    if unread:
        return Finding(UNKNOWN, f"not understood: {few_of(unread)}")
    return Finding(PASS, f"{len(values)} {kind}, none too wide" if values else f"no {kind}, so none is too wide")


def prefix_length(text: str) -> int | None:
    """How many leading bits a rule fixes; None if it is no address or network."""
    try:
        return ipaddress.ip_network(text.strip(), strict=False).prefixlen
    except ValueError:
        return None


def judge_resource_rules(case: Case) -> Finding:
    own = case.options.tenant_id.lower()
    rules = dicts(at_path(case.data, "properties.networkAcls.resourceAccessRules"))
    if not rules:
        return Finding(PASS, "no resource instance is let in")
    if not own:
        return Finding(
            UNKNOWN, f"{len(rules)} resource instances, own tenant not known", steps=((SAY_WHAT_IS_OURS, ()),)
        )
    foreign = [rule for rule in rules if str(rule.get("tenantId") or "").lower() not in ("", own)]
    unset = [rule for rule in rules if not rule.get("tenantId")]
    values = tuple(str(rule.get("resourceId")) for rule in foreign or unset)
    if foreign:
        tenants = sorted({str(rule.get("tenantId")) for rule in foreign})
        return Finding(FAIL, f"{len(foreign)} resource instances of other tenants: {few_of(tenants)}", values)
    if unset:
        return Finding(UNSET, f"{len(unset)} resource instances with the tenant unset, which may be anybody's", values)
    return Finding(PASS, f"{len(rules)} resource instances, all of the own tenant")


def judge_endpoints(case: Case) -> Finding:
    rows = at_path(case.data, "properties.privateEndpointConnections")
    if rows is None:
        return unset_means("means that there is no private endpoint")
    found = [judge_endpoint(case, row) for row in dicts(rows)]
    if not any(endpoint_state(row) == "approved" for row in dicts(rows)):
        found.append(Finding(FAIL, "no approved private endpoint"))
    return worst(found)


def endpoint_state(connection: Json) -> str:
    return str(at_path(connection, "properties.privateLinkServiceConnectionState.status") or "").lower()


def judge_endpoint(case: Case, connection: Json) -> Finding:
    """One private endpoint connection: rejected ones are harmless, pending ones ask to be let in."""
    name, state = str(connection.get("name")), endpoint_state(connection)
    steps = ((REJECT_ENDPOINT, (str(connection.get("id")),)),)
    if state in ("rejected", "disconnected"):
        return Finding(PASS, f"{name} is {state}")
    if state != "approved":
        return Finding(FAIL if state else UNSET, f"{name} is {state or 'in no known state'}", steps=steps)
    target = str(at_path(connection, "properties.privateEndpoint.id") or "")
    return judge_owner(case, target, f"{name} leads to", steps)


def judge_owner(case: Case, target: str, words: str, steps: tuple[tuple[str, tuple[str, ...]], ...]) -> Finding:
    """Whether a resource, by its id, is in a subscription of ours: this account's or one that was named."""
    subscription = resource_id({"id": target}).subscription.lower()
    own = {resource_id(case.account).subscription.lower(), *(item.lower() for item in case.options.subscriptions)}
    if subscription and subscription in own:
        return Finding(PASS, f"{words} own subscription {subscription}")
    if subscription and case.options.subscriptions:
        return Finding(FAIL, f"{words} foreign subscription {subscription}", steps=steps)
    place = f"subscription {subscription}" if subscription else f"{target or 'a place that is not named'}"
    return Finding(UNKNOWN, f"{words} {place}, which may not be yours", steps=((SAY_WHAT_IS_OURS, ()),))


def judge_cross_tenant_replication(case: Case) -> Finding:
    found = flag_is(
        False,
        "properties.allowCrossTenantReplication",
        "allows it on accounts made before 15 December 2023 or at an unknown time",
    )(case)
    created = moment(at_path(case.data, "properties.creationTime"))
    if found.result == UNSET and created is not None and created > CROSS_TENANT_SAFE_SINCE:
        return unset_means("refuses it on accounts made after 15 December 2023", safe=True)
    return found


def judge_key_age(case: Case) -> Finding:
    limit = case.options.max_key_age_days
    times = {name: moment(at_path(case.data, f"properties.keyCreationTime.{name}")) for name in ("key1", "key2")}
    ages = {name: int((case.options.now - made) // 86_400) for name, made in times.items() if made is not None}
    words = ", ".join(f"{name} is {age} days old" for name, age in ages.items())
    unset = [name for name in times if name not in ages]
    due = [name for name in times if name in unset or ages[name] > limit]
    values = ("both" if len(due) == 2 else due[0],) if due else ()
    no_time = f"creation time unset of {few_of(unset)}, which means not rotated for years"
    if any(age > limit for age in ages.values()):
        return Finding(FAIL, "; ".join([words, no_time] if unset else [words]), values)
    return Finding(UNSET, no_time, values) if unset else Finding(PASS, words)


def sas_period(case: Case) -> str:
    value = str(at_path(case.data, "properties.sasPolicy.sasExpirationPeriod") or "")
    return value if SAS_PERIOD.fullmatch(value) else "7.00:00:00"


def judge_sas_period(case: Case) -> Finding:
    value = at_path(case.data, "properties.sasPolicy.sasExpirationPeriod")
    if value is None:
        return unset_means("lets a SAS live for ever")
    return Finding(PASS if SAS_PERIOD.fullmatch(str(value)) else FAIL, f"sasExpirationPeriod is {shown(value)}")


def judge_local_users(case: Case) -> Finding:
    """Local users count as off where nobody is there to sign in; where nobody tells, an unset switch is not off."""
    found = flag_is(False, "properties.isLocalUserEnabled", "leaves local users enabled on some accounts")(case)
    listing = source_data(case.facts, "local_users")
    if found.result != UNSET or listing is None:
        return found
    if isinstance(listing, Exception):
        return failed_read(listing, DEEP_SOURCES["local_users"])
    users = [str(user.get("name")) for user in listed_items(listing)]
    words = f"there are local users: {few_of(users)}" if users else "there is no local user"
    return Finding(FAIL if users else PASS, f"isLocalUserEnabled is unset; {words}")


def vault_host(text: Any) -> str:
    return re.sub(r"^https?://", "", str(text or "").strip().lower()).split("/")[0].split(":")[0]


def is_own_vault(address: Any, options: PostureOptions) -> bool:
    """Whether a key vault's address is one of those expected, which may be plain names."""
    host = vault_host(address)
    return bool(host) and any(item in (host, host.split(".")[0]) for item in map(vault_host, options.key_vaults))


def judge_keys_source(case: Case) -> Finding:
    source = at_path(case.data, "properties.encryption.keySource")
    vault = at_path(case.data, "properties.encryption.keyvaultproperties.keyvaulturi")
    expected = case.options.key_vaults
    if str(source or "Microsoft.Storage").lower() == "microsoft.storage":
        words = "Microsoft's keys" if source else "unset, which means Microsoft's keys"
        result = (FAIL if source else UNSET) if expected else PASS
        return Finding(result, words, steps=((VAULT_KEYS, (vault_address(expected[0]),)),) if expected else ())
    if is_own_vault(vault, case.options):
        return Finding(PASS, f"the expected key vault {vault}")
    if expected:
        return Finding(FAIL, f"key vault {vault} is not expected: it may be a ransomware's", steps=((OWN_KEYS, ()),))
    return Finding(UNKNOWN, f"key vault {vault}, none is known to be yours", steps=((SAY_WHAT_IS_OURS, ()),))


def vault_address(text: str) -> str:
    host = vault_host(text)
    return f"https://{host}" if "." in host else f"https://{host}.vault.azure.net"


def judge_geo(case: Case) -> Finding:
    sku = at_path(case.data, "sku.name")
    wanted = GEO_SKUS.get(str(sku), "Standard_GRS")
    steps = ((SET_SKU, (wanted,)),) if wanted.startswith("StandardV2") else ()
    if sku is None:
        return unset_means("does not tell whether there is a second region")._replace(values=(wanted,))
    good = str(sku).upper().endswith(("GRS", "GZRS"))
    return Finding(PASS if good else FAIL, f"sku is {sku}", (wanted,), () if good else steps)


def judge_lock(levels: tuple[str, ...], words: str) -> Judge:
    """Passes when a lock of one of the levels is on the account or above it."""

    def judge(case: Case) -> Finding:
        locks = [lock for lock in case.items() if covers(lock, str(case.account.get("id") or ""))]
        held = [lock for lock in locks if at_path(lock, "properties.level") in levels]
        if held:
            names = few_of(f"{lock.get('name')} ({at_path(lock, 'properties.level')})" for lock in held)
            return Finding(PASS, f"locked by {names}")
        unset = [str(lock.get("name")) for lock in locks if at_path(lock, "properties.level") is None]
        return (
            Finding(UNSET, f"level unset of {few_of(unset)}, which may protect nothing")
            if unset
            else Finding(FAIL, words)
        )

    return judge


def covers(lock: Json, account_id: str) -> bool:
    """Whether a lock is on the account or above it, and not only on something in it."""
    scope, found, _ = str(lock.get("id") or "").lower().rpartition("/providers/microsoft.authorization/locks/")
    return not found or f"{account_id.lower()}/".startswith(f"{scope}/")


def judge_permanent_delete(case: Case) -> Finding:
    """Unset is off here, and said so by Microsoft; an account that has it on loses what soft delete keeps."""
    found = flag_is(
        False,
        "properties.deleteRetentionPolicy.allowPermanentDelete",
        "keeps what was deleted until its time is over",
        safe=True,
    )(case)
    return found._replace(steps=((NO_PERMANENT_DELETE, ()),)) if found.result == FAIL else found


def soft_delete(policy: str, argument: str) -> tuple[Judge, str]:
    """The judge of one retention policy of the blob service, and its fix."""
    judge = all_of(
        flag_is(True, f"properties.{policy}.enabled", "means off"),
        within(f"properties.{policy}.days", 7, any_limit(365), "means that no time is kept"),
    )
    fix = ours("blob-service-properties-set", f"{argument}_enabled=true {argument}_days={{value}}")
    return valued(judge, days_kept(f"properties.{policy}.days")), fix


BLOB_RETENTION, BLOB_RETENTION_FIX = soft_delete("deleteRetentionPolicy", "delete_retention_policy")
CONTAINER_RETENTION, CONTAINER_RETENTION_FIX = soft_delete(
    "containerDeleteRetentionPolicy", "container_delete_retention_policy"
)


def judge_blob_retention(case: Case) -> Finding:
    """Soft delete by itself, and that nobody may go around it; each has its own fix."""
    kept, permanent = BLOB_RETENTION(case), judge_permanent_delete(case)
    fix = () if kept.result == PASS else ((BLOB_RETENTION_FIX, kept.values),)
    return worst([kept._replace(steps=fix), permanent])


def judge_website(case: Case) -> Finding:
    """Older API versions do not tell; a site cannot serve anything without its container, though."""
    found = flag_is(
        False, "properties.staticWebsite.enabled", "this API version does not tell: there may be a website"
    )(case)
    rows = case.facts.get("containers")
    if found.result != UNSET or rows is None or isinstance(rows, Exception):
        return found
    if any(row.get("name") == "$web" for row in listed_items(rows)):
        return found._replace(evidence="unset in this API version, but there is a container $web")
    return Finding(PASS, "unset in this API version, and without a container $web nothing is served")


def judge_containers(case: Case) -> Finding:
    rows = [row for row in case.items() if not at_path(row, "properties.deleted")]
    public = [str(row.get("name")) for row in rows if is_public(row)]
    unset = [str(row.get("name")) for row in rows if at_path(row, "properties.publicAccess") is None]
    fix = ours("blob-containers-update", "container_name={value} public_access=None")
    steps = tuple((fix, (name,)) for name in public or unset)
    if public:
        refused = at_path(case.account, "properties.allowBlobPublicAccess") is False
        note = "; the account's switch overrides it for now" if refused else ""
        return Finding(FAIL, f"{len(public)} of {len(rows)} containers: {few_of(public)}{note}", steps=steps)
    if unset:
        return Finding(UNSET, f"unset, which does not tell, in {len(unset)} containers: {few_of(unset)}", steps=steps)
    return Finding(PASS, f"none of {len(rows)} containers is public")


def judge_holds(case: Case) -> Finding:
    wanted = {name.lower() for name in case.options.evidence_containers}
    rows = [row for row in case.items() if str(row.get("name")).lower() in wanted]
    if not rows:
        words = "none of the evidence containers is here" if wanted else "no evidence container was named"
        return Finding(NOT_APPLICABLE, words)
    return worst([judge_hold(row) for row in rows])


def judge_hold(container: Json) -> Finding:
    """One container of evidence: a legal hold or a locked policy keeps it."""
    name, hold = str(container.get("name")), at_path(container, "properties.hasLegalHold")
    state = str(at_path(container, "properties.immutabilityPolicy.properties.state") or "")
    steps = ((ours("container-legal-hold-set", "container_name={value} tags=evidence"), (name,)),)
    if hold is True or state.lower() == "locked":
        return Finding(PASS, f"{name} is held")
    if state or at_path(container, "properties.hasImmutabilityPolicy") is True:
        return Finding(FAIL, f"{name} has a policy that is not locked", steps=steps)
    if hold is None:
        return Finding(UNSET, f"{name}: unset, which means that it may not be held", steps=steps)
    return Finding(FAIL, f"{name} is not held", steps=steps)


def judge_replication(case: Case) -> Finding:
    return worst([judge_policy(case, row) for row in case.items()] or [Finding(PASS, "no replication policy")])


def judge_policy(case: Case, policy: Json) -> Finding:
    """One replication policy: where it sends the blobs."""
    name = str(at_path(policy, "properties.policyId") or policy.get("name"))
    target = at_path(policy, "properties.destinationAccount")
    steps = ((f"az storage account or-policy delete {CLI_WHERE} --policy-id {{value}}", (name,)),)
    if target is None:
        return Finding(UNSET, f"policy {name} has its destination unset, which may be anywhere", steps=steps)
    here = (str(case.account.get("id")).lower(), str(case.account.get("name")).lower())
    if str(target).lower() in here:
        return Finding(PASS, f"policy {name} copies into this account")
    return judge_owner(case, str(target), f"policy {name} copies to", steps)


def judge_scopes(case: Case) -> Finding:
    return worst([judge_scope(case, row) for row in case.items()] or [Finding(PASS, "no encryption scope")])


def judge_scope(case: Case, scope: Json) -> Finding:
    """One encryption scope: with whose key it encrypts."""
    name, source = str(scope.get("name")), at_path(scope, "properties.source")
    address = at_path(scope, "properties.keyVaultProperties.keyUri")
    steps = ((f"az storage account encryption-scope update {CLI_WHERE} --name {{value}} --state Disabled", (name,)),)
    if str(at_path(scope, "properties.state")).lower() == "disabled":
        return Finding(PASS, f"{name} is disabled")
    if source is None:
        return Finding(UNSET, f"{name}: unset whose key it uses, which may be a stranger's", steps=steps)
    if str(source).lower() == "microsoft.storage":
        return Finding(PASS, f"{name} uses Microsoft's keys")
    if is_own_vault(address, case.options):
        return Finding(PASS, f"{name} uses the expected {vault_host(address)}")
    if case.options.key_vaults:
        return Finding(FAIL, f"{name} uses {vault_host(address) or 'no known vault'}, not expected", steps=steps)
    return Finding(UNKNOWN, f"{name} uses {vault_host(address)}, none is known", steps=((SAY_WHAT_IS_OURS, ()),))


def judge_malware_scan(case: Case) -> Finding:
    """Only blobs are scanned when they arrive."""
    if NO_BLOBS(case.account):
        return Finding(PASS, "files are not scanned on upload")
    path = "properties.malwareScanning.onUpload.isEnabled"
    return flag_is(True, path, "means that uploads are not scanned")(case)


def not_logged(names: Iterable[str]) -> list[str]:
    """The blob logs that are off where these categories and groups are on."""
    on = {name.lower() for name in names}
    return [] if on & LOG_GROUPS else [name for name in BLOB_LOGS if name.lower() not in on]


def judge_logs(case: Case) -> Finding:
    settings = dicts([row.get("properties") for row in case.items()])
    settings = [row for row in settings if any(row.get(sink) for sink in LOG_SINKS)]
    if settings and all(row.get("logs") is None for row in settings):
        return unset_means("means that nothing is logged")
    on = {
        str(log.get("category") or log.get("categoryGroup"))
        for row in settings
        for log in dicts(row.get("logs"))
        if log.get("enabled") is True
    }
    lacking = not_logged(on)
    return (
        Finding(FAIL, f"not logged: {few_of(lacking)}") if lacking else Finding(PASS, "reads, writes, deletions logged")
    )


def judge_sharing(case: Case) -> Finding:
    """The switches, and what exists; an unset switch is good only where all lists were read and are empty."""
    base = "properties.dataCollaborationPolicyProperties"
    names = ("allowStorageConnectors", "allowBlobAccessPoints", "allowStorageDataShares", "allowCrossTenantDataSharing")
    state = {name: at_path(case.data, f"{base}.{name}") for name in names}
    on = [name for name, value in state.items() if value not in (None, False)]
    unset = [name for name, value in state.items() if value is None]
    lists = [judge_shared_list(case, source) for source in SHARING_SOURCES]
    read = all(found is not None and found.result == PASS for found in lists)
    found = [entry for entry in lists if entry is not None]
    if on:
        found.append(Finding(FAIL, f"{few_of(on)} on", steps=((SHUT_SHARING, ()),)))
    if unset:
        words = "and nothing is shared" if read else "which may allow sharing"
        found.append(Finding(PASS if read else UNSET, f"unset: {few_of(unset)}, {words}", steps=((SHUT_SHARING, ()),)))
    return worst(found or [Finding(PASS, "all off")])


def judge_shared_list(case: Case, source: str) -> Finding | None:
    """What is there of one way to share; None where nobody asked."""
    data = source_data(case.facts, source)
    if data is None:
        return None
    if isinstance(data, Exception):
        return failed_read(data, DEEP_SOURCES[source])
    items = listed_items(data)
    steps = tuple((DELETE_ITEM, (str(item.get("id")),)) for item in items)
    words = source.replace("_", " ")
    if items:
        return Finding(FAIL, f"{words}: {few_of(str(item.get('name')) for item in items)}", steps=steps)
    return Finding(PASS, f"no {words}")


# The table. CIS ids are those of the CIS Microsoft Azure Foundations Benchmark 6.0.0.

UPDATE = "account-update"
SERVICE_SET = "blob-service-properties-set"
CHECKS: tuple[Check, ...] = (
    Check(
        1,
        "https-only",
        "Requests without TLS are refused",
        "High",
        "9.3.4",
        "supportsHttpsTrafficOnly",
        "account",
        flag_is(True, "properties.supportsHttpsTrafficOnly", "lets plain HTTP in on accounts made long ago"),
        ours(UPDATE, "supports_https_traffic_only=true"),
    ),
    Check(
        2,
        "minimum-tls",
        "Clients need TLS 1.2 or newer",
        "Medium",
        "9.3.6",
        "minimumTlsVersion",
        "account",
        one_of("properties.minimumTlsVersion", ("TLS1_2", "TLS1_3"), "allows TLS 1.0"),
        ours(UPDATE, "minimum_tls_version=TLS1_2"),
    ),
    Check(
        3,
        "no-anonymous-blobs",
        "Nobody reads blobs without signing in",
        "High",
        "9.3.8",
        "allowBlobPublicAccess",
        "account",
        judge_anonymous,
        ours(UPDATE, "allow_blob_public_access=false"),
        (NO_BLOBS,),
    ),
    Check(
        4,
        "no-shared-key",
        "Account keys open nothing",
        "High",
        "9.3.1.3",
        "allowSharedKeyAccess",
        "account",
        flag_is(False, "properties.allowSharedKeyAccess", "allows shared keys"),
        ours(UPDATE, "allow_shared_key_access=false"),
    ),
    Check(
        5,
        "no-shared-key-per-service",
        "Account keys open none of the four services",
        "Medium",
        "",
        "allowSharedKeyAccessForServices.{blob,file,table,queue}.enabled",
        "account",
        judge_service_keys,
        cli_patch({"allowSharedKeyAccessForServices": {name: {"enabled": False} for name in KEY_SERVICES}}),
    ),
    Check(
        6,
        "no-public-network",
        "The public endpoint is closed",
        "High",
        "9.3.2.2",
        "publicNetworkAccess",
        "account",
        one_of("properties.publicNetworkAccess", ("Disabled", "SecuredByPerimeter"), "means enabled"),
        ours(UPDATE, "public_network_access=Disabled"),
    ),
    Check(
        7,
        "default-deny",
        "Networks that no rule names stay out",
        "High",
        "9.3.2.3",
        "networkAcls.defaultAction",
        "account",
        one_of("properties.networkAcls.defaultAction", ("Deny",), "lets every network in"),
        ours(UPDATE, "network_ruleset_default_action=Deny"),
    ),
    Check(
        8,
        "trusted-services",
        "Azure's trusted services pass the firewall",
        "Medium",
        "9.3.5",
        "networkAcls.bypass",
        "account",
        judge_bypass,
        ours(UPDATE, "network_ruleset_bypass={value}"),
    ),
    Check(
        9,
        "narrow-ip-rules",
        "No IP rule lets a large part of the Internet in",
        "High",
        "",
        "networkAcls.ipRules[].value",
        "account",
        judge_ip_rules,
        REMOVE_IP_RULES,
    ),
    Check(
        10,
        "own-resource-instances",
        "Resource instances that pass the firewall belong to this tenant",
        "High",
        "",
        "networkAcls.resourceAccessRules[].tenantId",
        "account",
        judge_resource_rules,
        ours("account-network-rule-remove", "resource_ids={value}"),
    ),
    Check(
        11,
        "private-endpoints",
        "Private endpoints are in use, and all are known",
        "Medium",
        "9.3.2.1",
        "privateEndpointConnections[]",
        "account",
        judge_endpoints,
        "az network private-endpoint create --name {account}-blob --resource-group {group} --subscription {subscription}"
        " --vnet-name <vnet> --subnet <subnet> --connection-name {account}-blob --group-id blob"
        f" --private-connection-resource-id {ACCOUNT_ID}",
    ),
    Check(
        12,
        "no-cross-tenant-replication",
        "Blobs do not replicate into other tenants",
        "High",
        "9.3.7",
        "allowCrossTenantReplication",
        "account",
        judge_cross_tenant_replication,
        ours(UPDATE, "allow_cross_tenant_replication=false"),
        (NO_BLOBS,),
    ),
    Check(
        13,
        "no-cross-tenant-delegation-sas",
        "Identities of other tenants get no delegation SAS",
        "Medium",
        "",
        "allowCrossTenantDelegationSas",
        "account",
        flag_is(False, "properties.allowCrossTenantDelegationSas", "Azure reads as refused", safe=True),
        ours(UPDATE, "allow_cross_tenant_delegation_sas=false"),
    ),
    Check(
        14,
        "entra-default",
        "The portal signs in with Entra ID, not with a key",
        "Medium",
        "9.3.3.1",
        "defaultToOAuthAuthentication",
        "account",
        flag_is(True, "properties.defaultToOAuthAuthentication", "makes the portal use the account's key"),
        ours(UPDATE, "default_to_oauth_authentication=true"),
    ),
    Check(
        15,
        "key-reminder",
        "Somebody is reminded to rotate the keys",
        "Medium",
        "9.3.1.1",
        "keyPolicy.keyExpirationPeriodInDays",
        "account",
        within(
            "properties.keyPolicy.keyExpirationPeriodInDays",
            1,
            lambda options: options.max_key_age_days,
            "reminds nobody",
        ),
        ours(UPDATE, "key_expiration_period_in_days=90"),
        (KEYS_REFUSED,),
    ),
    Check(
        16,
        "young-keys",
        "The keys were rotated lately",
        "Medium",
        "9.3.1.2",
        "keyCreationTime.{key1,key2}",
        "account",
        judge_key_age,
        ours("account-key-rotate", "key={value}"),
        (KEYS_REFUSED,),
    ),
    Check(
        17,
        "sas-lifetime",
        "A SAS that lives too long is refused",
        "High",
        "",
        "sasPolicy.{sasExpirationPeriod,expirationAction}",
        "account",
        valued(
            all_of(
                judge_sas_period,
                one_of("properties.sasPolicy.expirationAction", ("Block",), "blocks no SAS"),
            ),
            sas_period,
        ),
        ours(UPDATE, "sas_expiration_period={value} sas_expiration_action=Block"),
    ),
    Check(
        18,
        "user-bound-delegation-sas",
        "A delegation SAS works for one user only",
        "Low",
        "",
        "sasPolicy.requireUserBoundUserDelegationSas(+Action)",
        "account",
        valued(
            all_of(
                flag_is(
                    True,
                    "properties.sasPolicy.requireUserBoundUserDelegationSas",
                    "lets anybody who has one use it",
                ),
                one_of("properties.sasPolicy.requireUserBoundUserDelegationSasAction", ("Block",), "refuses no SAS"),
            ),
            sas_period,
        ),
        cli_patch(
            {
                "sasPolicy": {
                    "sasExpirationPeriod": "{value}",
                    "expirationAction": "Block",
                    "requireUserBoundUserDelegationSas": True,
                    "requireUserBoundUserDelegationSasAction": "Block",
                }
            }
        ),
    ),
    Check(
        19,
        "copy-scope",
        "Copies come from this tenant or over private links only",
        "Medium",
        "",
        "allowedCopyScope",
        "account",
        one_of("properties.allowedCopyScope", ("AAD", "PrivateLink"), "allows copies from any account"),
        ours(UPDATE, "allowed_copy_scope=AAD"),
    ),
    Check(
        20,
        "no-sftp",
        "SFTP and local users are off",
        "High",
        "",
        "isSftpEnabled, isLocalUserEnabled",
        "account",
        all_of(
            flag_is(False, "properties.isSftpEnabled", "means that SFTP is off, as Azure starts it", safe=True),
            judge_local_users,
        ),
        ours(UPDATE, "is_sftp_enabled=false is_local_user_enabled=false"),
    ),
    Check(
        21,
        "no-nfs",
        "NFS 3.0, which knows no users, is off",
        "Medium",
        "",
        "isNfsV3Enabled",
        "account",
        flag_is(False, "properties.isNfsV3Enabled", "means off: only creation turns it on", safe=True),
        "Only creation sets it: create an account without NFS 3.0, copy the data over, then delete {account}.",
    ),
    Check(
        22,
        "infrastructure-encryption",
        "Data is encrypted twice",
        "Low",
        "",
        "encryption.requireInfrastructureEncryption",
        "account",
        flag_is(True, "properties.encryption.requireInfrastructureEncryption", "means encrypted once"),
        "Only creation sets it: create an account with infrastructure encryption and copy the data of {account} over.",
        (kind_is("Storage", "BlobStorage"),),
    ),
    Check(
        23,
        "expected-encryption-keys",
        "The encryption key lies where it should",
        "High",
        "",
        "encryption.{keySource,keyvaultproperties}",
        "account",
        judge_keys_source,
        OWN_KEYS,
    ),
    Check(
        24,
        "geo-redundancy",
        "A second region holds a copy",
        "Low",
        "9.3.11",
        "sku.name",
        "account",
        judge_geo,
        ours(UPDATE, "sku={value}"),
        (is_premium,),
    ),
    Check(
        25,
        "delete-lock",
        "A lock keeps the account from being deleted",
        "Medium",
        "9.3.9",
        "Microsoft.Authorization/locks[].properties.level",
        "locks",
        judge_lock(("CanNotDelete", "ReadOnly"), "no lock on the account or above it"),
        ours("account-lock-set", "level=CanNotDelete"),
    ),
    Check(
        26,
        "read-only-lock",
        "A ReadOnly lock is on, where nothing needs the keys",
        "Low",
        "9.3.10",
        "Microsoft.Authorization/locks[].properties.level",
        "locks",
        judge_lock(("ReadOnly",), "no ReadOnly lock; it would stop clients of files and tables, and key listing"),
        ours("account-lock-set", "level=ReadOnly"),
    ),
    Check(
        27,
        "blob-soft-delete",
        "Deleted blobs can be brought back for a week or more",
        "High",
        "9.2.1",
        "deleteRetentionPolicy.{enabled,days,allowPermanentDelete}",
        "service",
        judge_blob_retention,
        BLOB_RETENTION_FIX,
        (NO_BLOBS,),
    ),
    Check(
        28,
        "container-soft-delete",
        "Deleted containers can be brought back for a week or more",
        "High",
        "9.2.2",
        "containerDeleteRetentionPolicy.{enabled,days}",
        "service",
        CONTAINER_RETENTION,
        CONTAINER_RETENTION_FIX,
        (NO_BLOBS,),
    ),
    Check(
        29,
        "versioning",
        "What is overwritten is kept as a version",
        "Medium",
        "9.2.3",
        "isVersioningEnabled",
        "service",
        flag_is(True, "properties.isVersioningEnabled", "means off"),
        ours(SERVICE_SET, "versioning=true"),
        (NO_BLOBS, GENERAL_V1, HIERARCHICAL),
    ),
    Check(
        30,
        "change-feed",
        "A record of all changes of blobs is kept",
        "Medium",
        "",
        "changeFeed.enabled",
        "service",
        flag_is(True, "properties.changeFeed.enabled", "means off"),
        ours(SERVICE_SET, "change_feed_enabled=true"),
        (NO_BLOBS, GENERAL_V1, HIERARCHICAL),
    ),
    Check(
        31,
        "point-in-time-restore",
        "Blobs can be set back to an earlier time",
        "Medium",
        "",
        "restorePolicy.enabled",
        "service",
        valued(
            flag_is(True, "properties.restorePolicy.enabled", "means off"),
            days_kept("properties.deleteRetentionPolicy.days"),
        ),
        ours(
            SERVICE_SET,
            "delete_retention_policy_enabled=true delete_retention_policy_days={value} versioning=true"
            " change_feed_enabled=true restore_policy_enabled=true restore_policy_days=6",
        ),
        (kind_is("Storage", "BlobStorage", "BlockBlobStorage", "FileStorage"), HIERARCHICAL, is_premium),
    ),
    Check(
        32,
        "no-static-website",
        "No website is served from the account",
        "Medium",
        "",
        "staticWebsite.enabled",
        "service",
        judge_website,
        "az storage blob service-properties update --account-name {account} --subscription {subscription}"
        " --static-website false --auth-mode login",
        (NO_BLOBS, GENERAL_V1, kind_is("BlobStorage")),
    ),
    Check(
        33,
        "no-wildcard-cors",
        "Web pages of strangers cannot read blobs in a browser",
        "Medium",
        "",
        "cors.corsRules[].allowedOrigins",
        "service",
        absent(
            "properties.cors.corsRules",
            lambda rule: canonical_value("*") in map(canonical_value, as_list(rule.get("allowedOrigins"))),
            "any origin is allowed",
            REMOVE_CORS_RULE,
        ),
        REMOVE_CORS_RULE,
        (NO_BLOBS,),
    ),
    Check(
        34,
        "no-public-containers",
        "No container is open to everybody",
        "High",
        "",
        "containers[].properties.publicAccess",
        "containers",
        judge_containers,
        ours("blob-containers-update", "container_name={value} public_access=None"),
        (NO_BLOBS,),
    ),
    Check(
        35,
        "evidence-held",
        "Containers with evidence or backups are held",
        "Medium",
        "",
        "containers[].properties.{hasLegalHold,hasImmutabilityPolicy,immutabilityPolicy}",
        "containers",
        judge_holds,
        ours("container-legal-hold-set", "container_name={value} tags=evidence"),
        (NO_BLOBS,),
    ),
    Check(
        36,
        "known-replication",
        "Replication goes to own accounts only",
        "High",
        "",
        "objectReplicationPolicies[].properties.destinationAccount",
        "replication",
        judge_replication,
        f"az storage account or-policy delete {CLI_WHERE} --policy-id {{value}}",
        (NO_BLOBS,),
    ),
    Check(
        37,
        "known-encryption-scopes",
        "No encryption scope uses a stranger's key",
        "Medium",
        "",
        "encryptionScopes[].properties.{source,keyVaultProperties}",
        "scopes",
        judge_scopes,
        f"az storage account encryption-scope update {CLI_WHERE} --name {{value}} --state Disabled",
        (NO_BLOBS,),
    ),
    Check(
        38,
        "defender",
        "Defender watches the account and scans uploads",
        "Medium",
        "sec. 8",
        "defenderForStorageSettings.{isEnabled,malwareScanning.onUpload.isEnabled}",
        "defender",
        all_of(flag_is(True, "properties.isEnabled", "means that Defender is off"), judge_malware_scan),
        cli_send(
            "put",
            DEEP_SOURCES["defender"].path,
            DEFENDER_API,
            {
                "properties": {
                    "isEnabled": True,
                    "overrideSubscriptionLevelSettings": True,
                    "malwareScanning": {"onUpload": {"isEnabled": True, "capGBPerMonth": 10000}},
                    "sensitiveDataDiscovery": {"isEnabled": True},
                }
            },
        ),
    ),
    Check(
        39,
        "data-logs",
        "Reads, writes and deletions of blobs are logged",
        "Medium",
        "sec. 6",
        "diagnosticSettings[].properties.logs",
        "logs",
        judge_logs,
        ours("account-logging-set", "workspace_id=<log-analytics-workspace-id>"),
        (NO_BLOBS,),
    ),
    Check(
        40,
        "file-shares",
        "File shares can be brought back, and SMB is of the newest and strongest kind",
        "Medium",
        "9.1.1-9.1.3",
        "shareDeleteRetentionPolicy, protocolSettings.smb.{versions,channelEncryption}",
        "files",
        valued(
            all_of(
                flag_is(True, "properties.shareDeleteRetentionPolicy.enabled", "does not say that soft delete is on"),
                within("properties.shareDeleteRetentionPolicy.days", 1, any_limit(365), "means that no time is kept"),
                only_these("properties.protocolSettings.smb.versions", "SMB3.1.1", "allows every version of SMB"),
                only_these(
                    "properties.protocolSettings.smb.channelEncryption", "AES-256-GCM", "allows every SMB encryption"
                ),
            ),
            days_kept("properties.shareDeleteRetentionPolicy.days"),
        ),
        f"az storage account file-service-properties update {CLI_WHERE} --enable-delete-retention true"
        " --delete-retention-days {value} --versions SMB3.1.1 --channel-encryption AES-256-GCM",
        (NO_FILES,),
    ),
    Check(
        41,
        "no-data-sharing",
        "Connectors, access points and data shares are shut",
        "High",
        "",
        "dataCollaborationPolicyProperties, connectors, dataShares, blobAccessPointConfigurations",
        "account",
        judge_sharing,
        SHUT_SHARING,
    ),
)


# The evaluator


def source_data(facts: Mapping[str, Any], source: str) -> Any:
    """What was read from a deep source: JSON, an error, or None where nobody asked; missing is empty where it means that."""
    data = facts.get(source)
    return EMPTY_WHEN_MISSING[source] if source in EMPTY_WHEN_MISSING and is_missing(data) else data


def is_missing(data: Any) -> bool:
    """Whether an error says that the account does not have the feature."""
    if not isinstance(data, ServiceError) or data.code in GONE_CODES:
        return False
    return data.status == 404 or data.code in UNSUPPORTED_CODES


def failed_read(error: Exception, source: DeepSource) -> Finding:
    """Unknown, with the service's code; for a refusal also the permission that lacks, and the role that has it."""
    if not isinstance(error, ServiceError):
        words = error.message if isinstance(error, AzureStorageError) else type(error).__name__
        return Finding(UNKNOWN, f"could not be read: {words}", steps=((RUN_AGAIN, ()),))
    words = f"could not be read: {error.status} {error.code}".rstrip()
    if error.status not in (401, 403):
        return Finding(UNKNOWN, words, steps=((RUN_AGAIN, ()),))
    return Finding(UNKNOWN, f"{words}; it needs {source.permission}", steps=((GRANT_READ, ()),))


def judged(check: Check, account: Json, facts: Mapping[str, Any], options: PostureOptions) -> Finding | None:
    """The finding of one check; None when its source was not asked."""
    here = check.source == "account"
    data = facts.get("account", account) if here else source_data(facts, check.source)
    if data is None:
        return None
    reason = next(filter(None, (rule(account) for rule in check.exempt)), "")
    if reason:
        return Finding(NOT_APPLICABLE, reason)
    if is_missing(data) and not here:
        return Finding(NOT_APPLICABLE, f"the account does not have it: {data.status} {data.code}".rstrip())
    if isinstance(data, Exception):
        return failed_read(data, ACCOUNT_SOURCE if here else DEEP_SOURCES[check.source])
    return check.judge(Case(account, data, facts, options))


def assess(account: Json, facts: Mapping[str, Any], options: PostureOptions) -> list[Json]:
    """One row for each check that can be made of an account, by number.

    account: as ARM has it; facts: by name of a deep source its JSON (for a collection its list of items) or the error
    that came instead. A source that is missing leaves its checks out. facts["account"] may hold the error that came
    instead of the account, of which then the id and name are enough.
    """
    parts = resource_id(account)
    place = {"account": parts.account, "group": parts.group, "subscription": parts.subscription}
    rows = []
    for check in CHECKS:
        finding = judged(check, account, facts, options)
        if finding is not None:
            rows.append(posture_row(check, finding, account, place))
    return rows


def posture_row(check: Check, finding: Finding, account: Json, place: Mapping[str, str]) -> Json:
    account_id = str(account.get("id") or "")
    return {
        "id": f"{account_id}#{check.name}",
        "account": place["account"],
        "accountId": account_id,
        "subscriptionId": place["subscription"],
        "resourceGroup": place["group"],
        "number": check.number,
        "check": check.name,
        "title": check.title,
        "severity": check.severity,
        "cis": check.cis,
        "property": check.property,
        "result": finding.result,
        "evidence": finding.evidence,
        "fix": fix_of(check, finding, place),
    }


def fix_of(check: Check, finding: Finding, place: Mapping[str, str]) -> str:
    """The commands, one a line, that make the check pass; empty where there is nothing to do."""
    if finding.result in (PASS, NOT_APPLICABLE):
        return ""
    steps = finding.steps or ((RUN_AGAIN, ()) if finding.result == UNKNOWN else OWN_FIX,)
    chosen = [(check.fix, finding.values) if step == OWN_FIX else step for step in steps]
    return "\n".join(fill(template, place, values) for template, values in chosen)


def summary(rows: Iterable[Json]) -> list[Json]:
    """For each account how many checks failed, are unset or unknown, by severity, and how many passed; the worst first."""
    empty = {f"{result}{severity}": 0 for severity in SEVERITIES for result in (FAIL, UNSET, UNKNOWN)}
    accounts: dict[str, Json] = {}
    for row in rows:
        names = ("account", "accountId", "subscriptionId", "resourceGroup")
        start = {name: row[name] for name in names} | empty | {"pass": 0, "notApplicable": 0}
        counts = accounts.setdefault(str(row["accountId"]).lower(), start)
        plain = {PASS: "pass", NOT_APPLICABLE: "notApplicable"}
        counts[plain.get(row["result"]) or f"{row['result']}{row['severity']}"] += 1
    return sorted(accounts.values(), key=lambda counts: ([-counts[name] for name in empty], counts["accountId"]))


# Reports

REPORT_COLUMNS = {
    "account": "Account",
    "resourceGroup": "Resource group",
    "subscriptionId": "Subscription",
    "number": "No.",
    "title": "Check",
    "severity": "Severity",
    "cis": "CIS 6.0",
    "result": "Result",
    "evidence": "Evidence",
    "property": "Property",
    "fix": "Fix",
}
SUMMARY_COLUMNS = {
    "account": "Account",
    **{
        f"{result}{severity}": f"{result.capitalize()}, {severity.lower()}"
        for severity in SEVERITIES
        for result in (FAIL, UNSET, UNKNOWN)
    },
    "pass": "Pass",
    "notApplicable": "Not applicable",
}
CSV_COLUMNS = ("id", "accountId", "check", *REPORT_COLUMNS)
REPORT_STYLE = (
    "body{font:1rem/1.5 sans-serif;margin:1rem}"
    "table{border-collapse:collapse;margin-bottom:2rem}"
    "caption{text-align:left;font-weight:bold;padding:.5rem 0}"
    "th,td{border:1px solid #767676;padding:.3rem .5rem;text-align:left;vertical-align:top}"
    "code{white-space:pre-wrap;overflow-wrap:anywhere}"
)


def as_csv(rows: Iterable[Json]) -> str:
    """The rows as CSV with a header; no cell starts as a spreadsheet's formula does."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(CSV_COLUMNS)
    writer.writerows([guarded(row.get(name)) for name in CSV_COLUMNS] for row in rows)
    return out.getvalue()


def guarded(value: Any) -> str:
    """A cell that a spreadsheet shows and never runs. https://owasp.org/www-community/attacks/CSV_Injection"""
    text = "" if value is None else str(value)
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) else text


def as_html(rows: Iterable[Json], title: str) -> str:
    """One page that needs nothing else: the summary and all rows."""
    found = list(rows)
    name = html.escape(title)
    return "\n".join(
        [
            "<!DOCTYPE html>",
            f'<html lang="en"><head><meta charset="utf-8"><title>{name}</title>',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<style>{REPORT_STYLE}</style></head>",
            f"<body><main><h1>{name}</h1>",
            html_table("Results by account, the worst first", SUMMARY_COLUMNS, summary(found)),
            html_table("Results by check", REPORT_COLUMNS, found),
            "</main></body></html>",
            "",
        ]
    )


def html_table(caption: str, columns: Mapping[str, str], rows: Iterable[Json]) -> str:
    """A table whose first column names its rows."""
    head = "".join(f'<th scope="col">{html.escape(header)}</th>' for header in columns.values())
    lines = [f"<table><caption>{html.escape(caption)}</caption>", f"<thead><tr>{head}</tr></thead>", "<tbody>"]
    for row in rows:
        first, *rest = (html_cell(name, row.get(name)) for name in columns)
        lines.append(f'<tr><th scope="row">{first}</th>' + "".join(f"<td>{cell}</td>" for cell in rest) + "</tr>")
    return "\n".join([*lines, "</tbody></table>"])


def html_cell(name: str, value: Any) -> str:
    text = html.escape("" if value is None else str(value))
    if name == "fix":
        return f"<code>{text}</code>" if text else ""
    return text.replace("_", " ") if name == "result" else text


# --- commands ----------------------------------------------------------------------------------------------------------


class Command(NamedTuple):
    """A command as the registry holds it.

    needs: the Azure permissions, for the 403 hint and the manifest; role: the built-in role that has them;
    changes: it changes something, so it has dry_run; hurts: it can do harm, so the server asks before it runs it;
    aliases: other spellings of its arguments.
    """

    name: str
    run: Callable[..., Any]
    needs: tuple[str, ...] = ()
    role: str = ""
    changes: bool = False
    hurts: bool = False
    aliases: Mapping[str, str] = {}

    def parameters(self) -> Iterator[tuple[str, Argument | Group]]:
        """What the function takes after `azure`."""
        for parameter in list(inspect.signature(self.run).parameters.values())[1:]:
            reader = reader_of(parameter.annotation)
            assert reader is not None, (self.name, parameter.name)  # noqa: S101 - a slip of ours, seen by every test
            yield parameter.name, reader if isinstance(reader, Group) else Argument(reader, parameter.default)

    def own_arguments(self) -> dict[str, Argument]:
        found: dict[str, Argument] = {}
        for name, entry in self.parameters():
            found.update(entry.arguments if isinstance(entry, Group) else {name: entry})
        return found

    def arguments(self) -> dict[str, Argument]:
        """All arguments as a person may give them, aliases included."""
        found = self.own_arguments()
        return found | {alias: found[name]._replace(default=None) for alias, name in self.aliases.items()}

    def call(self, azure: Azure, args: Mapping[str, Any]) -> Any:
        """Run with the strings a person gave. Every one is read before anything else happens."""
        given = self._given(args)
        read = {key: read_argument(key, argument, given.get(key, "")) for key, argument in self.own_arguments().items()}
        azure.command = self.name
        try:
            return self.run(azure, **self._values(azure, read))
        except ServiceError as error:
            if not azure.look_elsewhere(error):
                raise
        return self.run(azure, **self._values(azure, read))

    def _values(self, azure: Azure, read: Mapping[str, Any]) -> Json:
        """What the function takes: groups are built last, when every argument is known to be good."""
        return {
            name: entry.build(azure, {key: read[key] for key in entry.arguments})
            if isinstance(entry, Group)
            else read[name]
            for name, entry in self.parameters()
        }

    def _given(self, args: Mapping[str, Any]) -> dict[str, str]:
        """The arguments as text, aliases resolved. UsageError for an unknown one, or two spellings that contradict."""
        known = self.arguments()
        given: dict[str, str] = {}
        for name, value in args.items():
            text = as_text(value)
            if name not in known:
                raise UsageError(
                    f"Argument {name} is not known to {self.name}; it has: {', '.join(sorted(known)) or 'none'}."
                )
            right = self.aliases.get(name, name)
            if text and given.get(right, text) != text:
                raise UsageError(f"Arguments {right} and its other spelling contradict each other; give one.")
            given[right] = text or given.get(right, "")
        return given


COMMANDS: dict[str, Command] = {}
Handler = TypeVar("Handler", bound=Callable[..., Any])


def command(
    name: str,
    *,
    needs: tuple[str, ...] = (),
    role: str = "",
    changes: bool = False,
    hurts: bool = False,
    aliases: Mapping[str, str] | None = None,
) -> Callable[[Handler], Handler]:
    """Registers a function as a command; see Command."""

    def register(run: Handler) -> Handler:
        COMMANDS[name] = Command(name, run, needs, role, changes or hurts, hurts, aliases or {})
        return run

    return register


def show_change(azure: Azure, view: View, item: Json | None, change: Change, note: str = "") -> CommandResults:
    """A changed object with what was changed. Each change is an entry of its own in context, so that it can be undone."""
    return show_changes(azure, view, item, change, note)


def show_changes(
    azure: Azure, view: View, items: Json | list[Json] | None, change: Change, note: str = ""
) -> CommandResults:
    """The same for a change that concerns several objects, or leaves none."""
    record = change.context(azure.command)
    outputs = {"AzureStorage.Change": record, **({view.context: items} if items else {})}
    words = f"{change.words()}\n\n{note}".strip()
    rows = items if isinstance(items, list) else [items] if items else []
    text = table(view, rows[:DEFAULT_LIMIT], note=words) if rows else f"### {view.title}\n{words}\n"
    return CommandResults(outputs=outputs, readable_output=text, raw_response=items or record)


# Sign-in


@command("test-module")
def test_module(azure: Azure) -> str:
    """The test button. It has no integration context: a person's sign-in can be neither made nor seen here."""
    settings = azure.settings
    if settings.auth_type == DEVICE_CODE:
        raise UsageError(
            "The settings are well-formed. Save the instance, run !azure-storage-auth-start in the war room and follow it, "
            "then !azure-storage-auth-test: with Device Code the sign-in happens there, and this button cannot see it."
        )
    if settings.auth_type == AUTHORIZATION_CODE:
        raise UsageError(
            "The settings are well-formed. Save the instance, run !azure-storage-generate-login-url in the war room, sign in there, "
            "give the address the browser ends at to !azure-storage-auth-complete code=..., then run !azure-storage-auth-test: "
            "with Authorization Code the sign-in happens there, and this button cannot see it."
        )
    first = Paging(limit=1)
    if settings.subscription:
        azure.arm.accounts(settings.subscription, settings.group, first)
    else:
        azure.arm.subscriptions(first)
    return "ok"


@command("azure-storage-auth-start")
def auth_start(
    azure: Azure, polling: Flag = False, interval_in_seconds: Seconds = 10, timeout_in_seconds: Seconds = 900
) -> CommandResults:
    settings = azure.settings
    if settings.auth_type == AUTHORIZATION_CODE:
        return login_url(azure)
    if settings.auth_type not in USER_FLOWS:
        return CommandResults(
            readable_output=f"{settings.auth_type} sign in by themselves: nothing to start. Run !azure-storage-auth-test to see whether it works."
        )
    flow = azure.auth.start_device_flow()
    lines = [
        "### Sign in to Azure Storage",
        f"1. Open [{flow['verification_uri']}]({flow['verification_uri']})",
        f"2. Enter the code **{flow['user_code']}** before {iso_time(flow['expires_at'])}",
    ]
    if polling:
        lines.append("3. This command ends by itself when you have signed in.")
        return poll_again(
            "azure-storage-auth-complete",
            {"interval_in_seconds": str(interval_in_seconds), "timeout_in_seconds": str(timeout_in_seconds)},
            "\n".join(lines),
            interval_in_seconds,
            timeout_in_seconds,
        )
    lines.append("3. Then run `!azure-storage-auth-complete`")
    return CommandResults(readable_output="\n".join(lines))


@command("azure-storage-generate-login-url")
def generate_login_url(azure: Azure) -> CommandResults:
    if azure.settings.auth_type != AUTHORIZATION_CODE:
        raise UsageError(
            f"A login URL belongs to the Authorization Code flow; this instance uses {azure.settings.auth_type}: run !azure-storage-auth-start."
        )
    return login_url(azure)


def login_url(azure: Azure) -> CommandResults:
    url = azure.auth.start_login()
    lines = [
        "### Sign in to Azure Storage",
        f"1. Open the [login URL]({url}) and sign in",
        f"2. The browser ends at {azure.settings.redirect_uri} (a page that does not open is fine): copy the whole address, at once, as its code lives ten minutes",
        "3. Run `!azure-storage-auth-complete code=<the address>`, or paste it as the Authorization code of the instance and save",
    ]
    return CommandResults(readable_output="\n".join(lines), raw_response={"login_url": url})


@command("azure-storage-auth-complete")
def auth_complete(
    azure: Azure,
    code: SecretText | None = None,
    polling: Flag = False,
    interval_in_seconds: Seconds = 10,
    timeout_in_seconds: Seconds = 900,
) -> CommandResults:
    settings = azure.settings
    if settings.auth_type not in USER_FLOWS:
        raise UsageError(
            f"{settings.auth_type} sign in by themselves: nothing to complete. Run !azure-storage-auth-test."
        )
    try:
        if settings.auth_type == DEVICE_CODE:
            if code:
                raise UsageError("Argument code belongs to the Authorization Code flow; with Device Code leave it out.")
            azure.auth.complete_device_flow()
        elif code:
            azure.auth.complete_login(code.reveal())
        else:
            azure.auth.token(settings.cloud.audience)  # redeems a code pasted into the instance
    except SignInPending:
        if not polling:
            raise
        args = {"interval_in_seconds": str(interval_in_seconds), "timeout_in_seconds": str(timeout_in_seconds)}
        return poll_again("azure-storage-auth-complete", args, "", interval_in_seconds, timeout_in_seconds)
    who = azure.auth.identity()
    note = "Signed in. Run `!azure-storage-auth-test` to see what this identity can reach."
    return show(SIGN_IN_VIEW, who, note=note)


@command("azure-storage-auth-test")
def auth_test(azure: Azure) -> CommandResults:
    """Who is signed in, and for which resources a token can be had. Fails when none can."""
    rows, failures = [], []
    for name, resource in (
        ("Azure Resource Manager", azure.settings.cloud.audience),
        ("Azure Storage", STORAGE_AUDIENCE),
    ):
        row = {"resource": name, "usable": True, "expiresOn": "", "message": ""}
        try:
            azure.auth.token(resource)
            row["expiresOn"] = iso_time(azure.auth.expires_at(resource))
        except SignInError as error:
            row |= {"usable": False, "message": redact(str(error))}
            failures.append(error)
        rows.append(row)
    if len(failures) == len(rows):
        raise failures[0]
    if rows[0]["usable"]:
        azure.arm.subscriptions(Paging(limit=1))  # a token alone does not say that Azure accepts it
    who = azure.auth.identity()
    text = table(SIGN_IN_VIEW, [who]) + table(RESOURCES_VIEW, rows)
    outputs = {SIGN_IN_VIEW.context: {**who, "resources": rows}}
    return CommandResults(outputs=outputs, readable_output=text, raw_response=outputs)


@command("azure-storage-auth-reset")
def auth_reset(azure: Azure) -> CommandResults:
    removed = azure.store.clear()
    text = "The stored sign-in was removed." if removed else "There was no stored sign-in."
    return CommandResults(readable_output=f"{text} Run !azure-storage-auth-start to sign in again.")


# Scope


@command("azure-storage-subscriptions-list", needs=("Microsoft.Resources/subscriptions/read",), role="Reader")
def subscriptions_list(azure: Azure, paging: PagingArgs) -> CommandResults:
    return show_list(SUBSCRIPTIONS_VIEW, azure.arm.subscriptions(paging))


@command(
    "azure-storage-resource-group-list", needs=("Microsoft.Resources/subscriptions/resourceGroups/read",), role="Reader"
)
def resource_group_list(
    azure: Azure, paging: PagingArgs, subscription_id: Subscription | None = None, tag: TagFilter | None = None
) -> CommandResults:
    return show_list(GROUPS_VIEW, azure.arm.resource_groups(azure.subscription(subscription_id), paging, tag))


# Accounts


@command("azure-storage-account-list", needs=(READ_ACCOUNT,), role="Reader")
def account_list(
    azure: Azure,
    paging: PagingArgs,
    account_name: Account | None = None,
    resource_group_name: GroupName | None = None,
    subscription_id: Subscription | None = None,
) -> CommandResults:
    if account_name:
        scope = {
            "account_name": account_name,
            "resource_group_name": resource_group_name,
            "subscription_id": subscription_id,
        }
        return show(ACCOUNTS_VIEW, azure.arm.account(build_account(azure, scope)))
    subscription = azure.subscription(subscription_id)
    group = resource_group_name or (azure.settings.group if subscription == azure.settings.subscription else "")
    return show_list(ACCOUNTS_VIEW, azure.arm.accounts(subscription, group, paging))


AccountClues = Annotated[
    list[AccountClue],
    Reader(
        "a list: storage account names, ARM ids, or addresses in them",
        lambda text: [parse_account(part) for part in split_list(text)],
        secret=True,
    ),
]
FOUND_ACCOUNTS_VIEW = View(
    "StorageAccount",
    "Azure Storage Accounts found",
    {
        "Account Name": "name",
        "Subscription ID": "subscriptionId",
        "Resource Group": "resourceGroup",
        "Location": "location",
        "Kind": "kind",
        "Public Blob Access": "properties.allowBlobPublicAccess",
        "Shared Key": "properties.allowSharedKeyAccess",
        "Public Network": "properties.publicNetworkAccess",
        "Network Default": "properties.networkAcls.defaultAction",
        "Tags": "tags",
    },
)


class AccountSearch(NamedTuple):
    """The accounts that are meant: the names among the clues, and the query that finds them or all that fit."""

    names: list[str]
    query: str

    def lost(self, found: list[Json]) -> list[str]:
        """The names of which no account was found."""
        return sorted(set(self.names) - {account["name"] for account in found})


SEARCH_ARGUMENTS = {
    "account_name": optional(AccountClues),
    "blob_url": optional(
        Annotated[AccountClue, Reader("the https address of anything in an account", parse_account, secret=True)]
    ),
    "tag": optional(TagFilter),
    "location": optional(Location),
    **SCOPE_ARGUMENTS,
}


def build_search(azure: Azure, given: dict[str, Any]) -> AccountSearch:
    names = [clue.name for clue in (*(given["account_name"] or ()), given["blob_url"]) if clue]
    scope = [given[name] or "" for name in ("location", "resource_group_name", "subscription_id")]
    return AccountSearch(names, accounts_query(names, given["tag"], *scope))


SearchArgs = Annotated[AccountSearch, Group(SEARCH_ARGUMENTS, build_search)]


@command("azure-storage-account-find", needs=(READ_ACCOUNT,), role="Reader")
def account_find(azure: Azure, paging: PagingArgs, search: SearchArgs) -> CommandResults:
    """Every subscription in one query. A name that is not found is named, since an alert may speak of a deleted account."""
    listing = azure.arm.search(search.query, paging)
    rows = [found_account(row) for row in listing.items]
    result = show_list(FOUND_ACCOUNTS_VIEW, Listing(rows, listing.token))
    lost = [] if listing.token else search.lost(rows)
    if lost:
        result.readable_output = (
            f"{result.readable_output}\nNot found: {', '.join(lost)}. Such an account is deleted, in another tenant or cloud, too new for Resource Graph, "
            "or the signed-in identity lacks the role Reader there.\n"
        )
    return result


def found_account(row: Json) -> Json:
    """A row of Resource Graph as ARM shows the account. The graph writes groups in lower case; the id has their case."""
    return {**row, "resourceGroup": resource_id(row).group or row.get("resourceGroup")}


@command(
    "azure-storage-account-create-update",
    needs=(READ_ACCOUNT, WRITE_ACCOUNT),
    role=ACCOUNT_CONTRIBUTOR,
    changes=True,
    aliases={
        "enc_requireInfrastructureEncryption": "enc_require_infrastructure_encryption",
        "network_ruleset_ipRules": "network_ruleset_ip_rules",
    },
)
def account_create_update(
    azure: Azure,
    account: AccountArgs,
    body: AccountBody,
    dry_run: Flag = False,
    polling: Flag = True,
    interval_in_seconds: Seconds = 10,
    timeout_in_seconds: Seconds = 600,
    operation_url: Operation | None = None,
) -> CommandResults:
    """Creates the account, or changes what is given of one that is there."""
    if operation_url:
        done, location = azure.arm.account_operation(operation_url, account)
    else:
        check_account_body(body)
        current = azure.arm.account_if_there(account)
        if current is not None:
            return update_account(azure, account, current, body, dry_run)
        check_creation(account, body)
        change = Change(account.id, {}, body, dry_run)
        if dry_run:
            return show_change(azure, ACCOUNT_VIEW, None, change)
        done, location = azure.arm.create_account(account, body)
    if done is None and polling and location:
        return keep_creating(azure, account, location, interval_in_seconds, timeout_in_seconds, first=not operation_url)
    if done is None:
        text = f"Storage account {account} is being created: run `!azure-storage-account-list account_name={account}` in a minute."
        return CommandResults(readable_output=text)
    created = azure.arm.account(account)
    return show_change(azure, ACCOUNT_VIEW, created, Change(account.id, {}, created_settings(created)))


def keep_creating(
    azure: Azure, account: AccountRef, location: str, interval: int, timeout: int, *, first: bool
) -> CommandResults:
    args = {
        "account_name": account.name,
        "resource_group_name": account.group,
        "subscription_id": account.subscription,
        "operation_url": location,
        "interval_in_seconds": str(interval),
        "timeout_in_seconds": str(timeout),
    }
    text = f"Azure is creating storage account {account}; this command ends when it is done." if first else ""
    return poll_again(azure.command, args, text, interval, timeout)


def created_settings(account: Json) -> Json:
    """What stands for "after" once an account was created: what a person would name it by."""
    return {key: account.get(key) for key in ("name", "location", "kind", "sku")}


def update_account(azure: Azure, account: AccountRef, current: Json, body: Json, dry_run: bool) -> CommandResults:
    patch, before, after = account_patch(current, body)
    where = {**account.arguments, **({"replace_tags": "true"} if before.get("tags") else {})}
    undo = undo_line("account-update", where, UPDATE_FIELDS, before)
    change = Change(account.id, before, after, dry_run, undo)
    updated = azure.arm.update_account(account, patch) if patch and not dry_run else current
    return show_change(azure, ACCOUNT_VIEW, updated, change, caveats(after))


def check_account_body(body: Json) -> None:
    """Refuse combinations that ARM would refuse in less helpful words, and put the bypass list into ARM's form."""
    domain = at_path(body, "properties.customDomain") or {}
    if "useSubDomainName" in domain and "name" not in domain:
        raise UsageError("Argument use_sub_domain_name: it goes together with custom_domain_name, which is missing.")
    rules = at_path(body, "properties.networkAcls") or {}
    if "bypass" in rules:
        if "None" in rules["bypass"] and len(rules["bypass"]) > 1:
            raise UsageError(
                "Argument network_ruleset_bypass: None stands alone; it accepts None, or a list of the others."
            )
        rules["bypass"] = ", ".join(rules["bypass"])
    encryption = at_path(body, "properties.encryption") or {}
    vault = encryption.get("keyvaultproperties") or {}
    if encryption.get("keySource") == "Microsoft.Keyvault" and not {"keyname", "keyvaulturi"} <= set(vault):
        raise UsageError(
            "Argument enc_key_source: Microsoft.Keyvault needs enc_keyvault_key_name and enc_keyvault_uri as well."
        )


def check_creation(account: AccountRef, body: Json) -> None:
    """A new account needs three things, and firewall rules a default action."""
    lacking = [name for name in ("sku", "kind", "location") if name not in body]
    if lacking:
        raise UsageError(
            f"Storage account {account} is not in resource group {account.group}; to create it, give {', '.join(lacking)} as well."
        )
    rules = at_path(body, "properties.networkAcls")
    if rules and "defaultAction" not in rules:
        raise UsageError(
            "Argument network_ruleset_default_action is missing: a new account's network rules need Allow or Deny."
        )


@command(
    "azure-storage-account-update",
    needs=(READ_ACCOUNT, WRITE_ACCOUNT),
    role=ACCOUNT_CONTRIBUTOR,
    changes=True,
)
def account_update(
    azure: Azure, account: TargetArgs, body: AccountUpdate, replace_tags: Flag = False, dry_run: Flag = False
) -> CommandResults:
    """Changes what is given and nothing else; never creates. Tags are added to those that are there, unless told to replace."""
    if not body:
        raise UsageError(
            "Nothing was given to change; give one of the settings, such as allow_shared_key_access=false."
        )
    check_account_body(body)
    current = azure.arm.account(account)
    policy = at_path(body, "properties.sasPolicy")
    if policy and not merged(at_path(current, "properties.sasPolicy") or {}, policy).get("sasExpirationPeriod"):
        raise UsageError(
            "Argument sas_expiration_period is missing: an action needs the period after which it is taken."
        )
    if policy and not at_path(current, "properties.sasPolicy"):
        policy.setdefault("expirationAction", "Log")  # ARM wants both
    if "tags" in body and not replace_tags:
        body["tags"] = {**(current.get("tags") or {}), **body["tags"]}
    return update_account(azure, account, current, body, dry_run)


# What a setting does not stop, and what it breaks: said whenever it is set.
CAVEATS: Mapping[str, tuple[Any, str]] = {
    "allowBlobPublicAccess": (False, "Keys, shared access signatures and signed-in identities keep working."),
    "allowSharedKeyAccess": (
        False,
        "User delegation SAS (!azure-storage-account-delegation-keys-revoke) and signed-in identities keep working; Azure Files and whatever signs in with a key stop.",
    ),
    "publicNetworkAccess": (
        "Disabled",
        "Private endpoints and Azure Resource Manager keep working; our own blob commands are cut off unless they come through a private endpoint.",
    ),
    "networkAcls.defaultAction": (
        "Deny",
        "Listed addresses and subnets, private endpoints, resource instances and the services in the bypass keep working; blob commands need this engine's address in the rules (!azure-storage-account-network-rule-add).",
    ),
    "isSftpEnabled": (False, "Local users and their keys stay; they work again when SFTP is turned on."),
    "isLocalUserEnabled": (False, "Local users stay; they work again when they are enabled."),
    "sasPolicy.expirationAction": ("Log", "A SAS that lives longer is only logged; Block refuses it."),
    "allowCrossTenantReplication": (False, "Replication policies that exist stay; they have to be deleted."),
}


def caveats(after: Json) -> str:
    """What was not stopped by the settings of an account that were changed."""
    properties = after.get("properties") or {}
    words = [text for path, (value, text) in CAVEATS.items() if at_path(properties, path) == value]
    return "\n".join(f"Not stopped by it: {text}" for text in words)


def undo_line(name: str, where: Mapping[str, str], fields: Mapping[str, BodyField], before: Json) -> str:
    """The command that sets what was before; empty if it was unset, which no command can set again."""
    old = {key: at_path(before, entry.path) for key, entry in fields.items()}
    given = {key: value for key, value in old.items() if value is not None and value != {}}
    return command_line(name, where, given) if given else ""


def command_line(name: str, *arguments: Mapping[str, Any]) -> str:
    """A command as a person types it."""
    pairs = itertools.chain.from_iterable(part.items() for part in arguments)
    words = [f"!azure-storage-{name}", *(f"{key}={war_room_quote(as_text(value))}" for key, value in pairs)]
    return " ".join(words)


DELETED_ACCOUNT_VIEW = ACCOUNT_VIEW._replace(title="Azure Storage Account delete")


@command("azure-storage-account-delete", needs=(READ_ACCOUNT, DELETE_ACCOUNT), role=ACCOUNT_CONTRIBUTOR, hurts=True)
def account_delete(
    azure: Azure, account: TargetArgs, confirm: Text | None = None, dry_run: Flag = False
) -> CommandResults:
    """Deletes the account with all that is in it. `confirm` repeats its name, since nothing of ours brings it back."""
    current = azure.arm.account_if_there(account)
    if current is None:
        account = azure.find_account(account.name) or account
        current = azure.arm.account_if_there(account)
    gone = current is None
    before = {} if gone else created_settings(current or {})
    change = Change(account.id, before, dict.fromkeys(before), dry_run)
    if gone or dry_run:
        note = (
            f"There is no storage account {account}."
            if gone
            else f"Storage account {account} would be deleted with all its blobs."
        )
        return show_change(azure, DELETED_ACCOUNT_VIEW, current, change, note)
    confirmed(confirm, account.name, "Deleting an account deletes everything in it")
    azure.arm.delete_account(account)
    note = "Within 14 days Azure may bring it back in the portal (Storage accounts, Restore), if its group and name are free."
    return show_change(azure, DELETED_ACCOUNT_VIEW, None, change, f"Storage account {account} was deleted. {note}")


def confirmed(given: str | None, wanted: str, why: str) -> None:
    """What cannot be undone is confirmed by typing a name."""
    if given != wanted:
        raise UsageError(f"Argument confirm: {why}, and nothing undoes it; to go on, give confirm={wanted}.")


# Keys

KEYS_VIEW = View(
    "StorageAccountKey",
    "Azure Storage Account Keys",
    {"Account Name": "account", "Key": "keyName", "Created": "creationTime", "Age in Days": "ageInDays"},
)
VALUES_VIEW = KEYS_VIEW._replace(columns={**KEYS_VIEW.columns, "Value": "value"})
Key = Annotated[str, choice("key1", "key2", "both")]


def key_rows(account: AccountRef, current: Json) -> list[Json]:
    """The keys by name, with their age. A key that was never rotated may have no time."""
    times = at_path(current, "properties.keyCreationTime") or {}
    return [
        {
            "id": f"{account.id}#{name}",
            "account": account.name,
            "keyName": name,
            "creationTime": times.get(name),
            "ageInDays": None if made is None else int((Clock.now() - made) // 86_400),
        }
        for name, made in ((name, moment(times.get(name))) for name in ("key1", "key2"))
    ]


@command("azure-storage-account-key-list", needs=(READ_ACCOUNT, LIST_KEYS), role=ACCOUNT_CONTRIBUTOR)
def account_key_list(azure: Azure, account: TargetArgs, show_values: Flag = False) -> CommandResults:
    """When the keys were made. Without show_values no key is asked for, so that the role Reader is enough and none can leak."""
    rows = key_rows(account, azure.arm.account(account))
    if not show_values:
        return CommandResults(
            outputs={KEYS_VIEW.context: rows}, readable_output=table(KEYS_VIEW, rows), raw_response=rows
        )
    values = {key.get("keyName"): key.get("value") for key in azure.arm.keys(account)}
    rows = [{**row, "value": values.get(row["keyName"])} for row in rows]
    note = "The values are secrets: whoever has one controls the account. They are now in this investigation; rotate them when you are done."
    return CommandResults(
        outputs={VALUES_VIEW.context: rows},
        readable_output=table(VALUES_VIEW, rows, note=note),
        raw_response=rows,
        tags=["sensitive"],
    )


@command("azure-storage-account-key-rotate", needs=(READ_ACCOUNT, REGENERATE_KEY), role=ACCOUNT_CONTRIBUTOR, hurts=True)
def account_key_rotate(
    azure: Azure, account: TargetArgs, key: Key, created_before: IsoTime | None = None, dry_run: Flag = False
) -> CommandResults:
    """Makes new keys; shows no value. With created_before a key that is newer is left, so that a playbook can run twice."""
    rows = key_rows(account, azure.arm.account(account))
    due = [
        row["keyName"]
        for row in rows
        if key in ("both", row["keyName"])
        and not (created_before and (moment(row["creationTime"]) or 0) >= created_before.timestamp())
    ]
    before = {row["keyName"]: row["creationTime"] for row in rows if row["keyName"] in due}
    change = Change(account.id, before, dict.fromkeys(due, "new"), dry_run)
    failed = ""
    if due and not dry_run:
        done, failed = rotate_keys(azure, account, due)
        change = change._replace(before={name: before[name] for name in done}, after=done)
        rows = key_rows(account, azure.arm.account(account))
    note = "Whatever was signed with a rotated key has stopped working." if due and not dry_run else ""
    if due:
        note += "\nNot stopped by it: user delegation SAS, signed-in identities" + (
            ", and the other key." if len(due) == 1 else "."
        )
    result = show_changes(azure, KEYS_VIEW, rows, change, f"{failed}\n\n{note}".strip())
    result.entry_type = EntryType.WARNING if failed else result.entry_type
    return result


def rotate_keys(azure: Azure, account: AccountRef, names: list[str]) -> tuple[dict[str, str], str]:
    """The times of the new keys, and what failed once one was made: repeating blindly would rotate that one again."""
    done: dict[str, str] = {}
    for name in names:
        try:
            done[name] = azure.arm.regenerate_key(account, name)
        except ServiceError as error:
            if not done:
                raise
            return done, f"NOT rotated: {name} ({error.status} {error.code}). Rotate it alone with key={name}."
    return done, ""


DELEGATION_VIEW = View("StorageAccount", "Azure Storage user delegation keys", {"Account Name": "name", **PARENTS})


@command(
    "azure-storage-account-delegation-keys-revoke",
    needs=(READ_ACCOUNT, REVOKE_DELEGATION_KEYS),
    role=ACCOUNT_CONTRIBUTOR,
    hurts=True,
)
def account_delegation_keys_revoke(azure: Azure, account: TargetArgs, dry_run: Flag = False) -> CommandResults:
    """Ends every user delegation SAS of the account. Azure does not tell which there are, so this is always a change."""
    current = azure.arm.account(account)
    change = Change(account.id, {"userDelegationKeys": "valid"}, {"userDelegationKeys": "revoked"}, dry_run)
    if not dry_run:
        azure.arm.revoke_delegation_keys(account)
    note = (
        "Azure caches keys and roles, so it can take some minutes; add a network deny when it is urgent.\n"
        "Not stopped by it: the identity that signed can ask for a new key as long as it has its role; account keys and what they signed."
    )
    return show_change(azure, DELEGATION_VIEW, current, change, note)


# Network rules

NETWORK_VIEW = View(
    "StorageAccount",
    "Azure Storage Account network rules",
    {
        "Account Name": "name",
        "Public Network": "properties.publicNetworkAccess",
        "Default Action": "properties.networkAcls.defaultAction",
        "Bypass": "properties.networkAcls.bypass",
        "IP Rules": lambda item: rule_list(item, "ipRules", "value"),
        "Subnets": lambda item: rule_list(item, "virtualNetworkRules", "id"),
        "Resource Instances": lambda item: rule_list(item, "resourceAccessRules", "resourceId"),
    },
)


def rule_list(item: Json, kind: str, key: str) -> str:
    return ", ".join(str(rule.get(key)) for rule in dicts(at_path(item, f"properties.networkAcls.{kind}")))


def read_resource_rules(text: str) -> list[Json]:
    """Resource instances by their ARM ids; the tenant is filled in later."""
    return [{"resourceId": matching(RESOURCE_ID, value)} for value in rule_values(text, "resourceId", "id")]


RESOURCE_ID = re.compile(r"(?i)/subscriptions/[^/]+(?:/resourceGroups/[^/]+)?/providers/[\w.]+/.+")
# argument -> (the list in networkAcls, what names a rule in it)
RULES = {
    "ip_rules": ("ipRules", "value"),
    "subnet_ids": ("virtualNetworkRules", "id"),
    "resource_ids": ("resourceAccessRules", "resourceId"),
}
RULE_ARGUMENTS = {
    "ip_rules": ACCOUNT_FIELDS["network_ruleset_ip_rules"].argument,
    "subnet_ids": ACCOUNT_FIELDS["virtual_network_rules"].argument,
    "resource_ids": optional(
        Annotated[list[Json], Reader("ARM ids of resources, separated by commas", read_resource_rules)]
    ),
}


def build_rules(azure: Any, given: dict[str, Any]) -> dict[str, list[Json]]:
    rules = {RULES[name][0]: value for name, value in given.items() if value}
    if not rules:
        raise UsageError("Argument ip_rules is missing: give ip_rules, subnet_ids or resource_ids.")
    return rules


RuleArgs = Annotated[dict[str, list[Json]], Group(RULE_ARGUMENTS, build_rules)]


@command(
    "azure-storage-account-network-rule-add",
    needs=(READ_ACCOUNT, WRITE_ACCOUNT),
    role=ACCOUNT_CONTRIBUTOR,
    changes=True,
)
def account_network_rule_add(
    azure: Azure, account: TargetArgs, rules: RuleArgs, tenant_id: Text | None = None, dry_run: Flag = False
) -> CommandResults:
    """Adds to the rules that are there. Rules count only while the default action is Deny."""
    for rule in rules.get("resourceAccessRules", []):
        rule["tenantId"] = tenant_id or azure.arm.subscription(account.subscription).get("tenantId")
    current = azure.arm.account(account)
    new = {kind: [rule for rule in once(given) if not is_there(current, kind, rule)] for kind, given in rules.items()}
    wanted = {kind: [*rules_of(current, kind), *given] for kind, given in new.items()}
    denied = at_path(current, "properties.networkAcls.defaultAction") == "Deny"
    note = "" if denied else "The rules have no effect until the default action is Deny: all networks may come in now."
    return write_rules(azure, account, current, wanted, ("remove", new), dry_run, note)


@command(
    "azure-storage-account-network-rule-remove",
    needs=(READ_ACCOUNT, WRITE_ACCOUNT),
    role=ACCOUNT_CONTRIBUTOR,
    changes=True,
)
def account_network_rule_remove(
    azure: Azure, account: TargetArgs, rules: RuleArgs, dry_run: Flag = False
) -> CommandResults:
    """Removes the rules that are given; one that is not there counts as removed."""
    current = azure.arm.account(account)
    gone = {kind: [rule for rule in given if is_there(current, kind, rule)] for kind, given in rules.items()}
    key = dict(RULES.values())
    wanted = {
        kind: [rule for rule in rules_of(current, kind) if not same_rule(rule, given, key[kind])]
        for kind, given in gone.items()
    }
    return write_rules(azure, account, current, wanted, ("add", gone), dry_run)


def rules_of(current: Json, kind: str) -> list[Json]:
    return dicts(at_path(current, f"properties.networkAcls.{kind}"))


def same_rule(rule: Json, others: list[Json], key: str) -> bool:
    return canonical(rule.get(key)) in {canonical(other.get(key)) for other in others}


def is_there(current: Json, kind: str, rule: Json) -> bool:
    return same_rule(rule, rules_of(current, kind), dict(RULES.values())[kind])


def write_rules(
    azure: Azure,
    account: AccountRef,
    current: Json,
    wanted: dict[str, list[Json]],
    inverse: tuple[str, dict[str, list[Json]]],
    dry_run: bool,
    note: str = "",
) -> CommandResults:
    patch, before, after = account_patch(current, {"properties": {"networkAcls": wanted}})
    verb, rules = inverse
    named = {
        name: ",".join(str(rule[key]) for rule in rules[kind]) for name, (kind, key) in RULES.items() if rules.get(kind)
    }
    undo = command_line(f"account-network-rule-{verb}", account.arguments, named)
    updated = azure.arm.update_account(account, patch) if patch and not dry_run else current
    return show_change(azure, NETWORK_VIEW, updated, Change(account.id, before, after, dry_run, undo), note)


# Locks

LOCKS_VIEW = View(
    "Lock",
    "Azure resource locks",
    {
        "Name": "name",
        "Level": "properties.level",
        "Scope": lambda item: str(item.get("id", "")).rpartition("/providers/Microsoft.Authorization/")[0],
        "Notes": "properties.notes",
    },
)
LOCK_NAME = Annotated[
    str, Reader("a lock name of at most 90 characters", lambda text: matching(re.compile(r"[^<>%&:\\?/]{1,90}"), text))
]
READ_ONLY_WARNING = (
    "ReadOnly stops every change through Azure Resource Manager and the listing and rotating of keys, also ours, until it is removed; "
    "Azure Files and tools that list keys stop working. It does not protect blobs: they can still be read, written and deleted."
)
DELETE_WARNING = "CanNotDelete keeps the account and its containers from being deleted through Azure Resource Manager; blobs can still be deleted."


@command("azure-storage-account-lock-list", needs=(READ_LOCKS,), role="Reader")
def account_lock_list(azure: Azure, account: TargetArgs) -> CommandResults:
    """Also those that the account inherits from its group and subscription."""
    return show_list(LOCKS_VIEW, Listing(azure.arm.locks(account)))


@command("azure-storage-account-lock-set", needs=(READ_LOCKS, WRITE_LOCKS), role=LOCKS_ROLE, changes=True)
def account_lock_set(
    azure: Azure,
    account: TargetArgs,
    level: Annotated[str, choice("CanNotDelete", "ReadOnly")] = "CanNotDelete",
    lock_name: LOCK_NAME = "cortex-xsoar",
    notes: Text | None = None,
    dry_run: Flag = False,
) -> CommandResults:
    locks = {str(lock.get("name")).lower(): lock for lock in azure.arm.locks(account) if is_own_lock(account, lock)}
    current = locks.get(lock_name.lower(), {}).get("properties") or {}
    before, after = differences(current, given_only({"level": level, "notes": notes}))
    undo = command_line("account-lock-remove", account.arguments, {"lock_name": lock_name})
    if current:
        undo = command_line("account-lock-set", account.arguments, {"lock_name": lock_name}, given_only(before))
    change = Change(lock_path(account, lock_name), before, after, dry_run, undo)
    found = locks.get(lock_name.lower())
    if change.needed and not dry_run:
        found = azure.arm.set_lock(account, lock_name, merged(current, given_only({"level": level, "notes": notes})))
    return show_change(azure, LOCKS_VIEW, found, change, READ_ONLY_WARNING if level == "ReadOnly" else DELETE_WARNING)


def is_own_lock(account: AccountRef, lock: Json) -> bool:
    return plain_id(lock.get("id")).startswith(f"{plain_id(account.id)}/providers/microsoft.authorization/")


@command("azure-storage-account-lock-remove", needs=(READ_LOCKS, DELETE_LOCKS), role=LOCKS_ROLE, hurts=True)
def account_lock_remove(
    azure: Azure, account: TargetArgs, lock_name: LOCK_NAME, dry_run: Flag = False
) -> CommandResults:
    """Also one that the account inherits: then it ends for everything in that group or subscription, and the result says so."""
    locks = [lock for lock in azure.arm.locks(account) if str(lock.get("name")).lower() == lock_name.lower()]
    found = min(locks, key=lambda lock: not is_own_lock(account, lock), default=None)
    if not found:
        change = Change(lock_path(account, lock_name), {}, {}, dry_run)
        return show_change(azure, LOCKS_VIEW, None, change, f"There is no lock {lock_name} on {account}.")
    own = is_own_lock(account, found)
    settings = given_only({key: at_path(found, f"properties.{key}") for key in ("level", "notes")})
    undo = command_line("account-lock-set", account.arguments, {"lock_name": lock_name}, settings) if own else ""
    change = Change(str(found["id"]), settings, dict.fromkeys(settings), dry_run, undo)
    if not dry_run:
        azure.arm.delete_lock(str(found["id"]))
    note = "" if own else f"It was inherited: it protected everything in {LOCKS_VIEW.row(found)['Scope']}."
    return show_change(azure, LOCKS_VIEW, found, change, note)


# Containment

ISOLATION_VIEW = View(
    "Isolation", "Azure Storage Account isolation", {"Step": "step", "Result": "result", "Details": "detail"}
)
# What an isolation can take back, and what counts as its value where it is unset.
RESTORABLE: Mapping[str, Any] = {
    "allowBlobPublicAccess": False,
    "networkAcls": {"defaultAction": "Allow", "bypass": "AzureServices", "ipRules": [], "virtualNetworkRules": []},
    "isSftpEnabled": False,
    "allowSharedKeyAccess": True,
}


def read_own_addresses(text: str) -> list[Json]:
    """The addresses by which Azure sees us; the word none accepts being locked out."""
    return [] if text.lower() == "none" else read_ip_rules(text)


def once(rules: list[Json]) -> list[Json]:
    """The rules without those that are there twice."""
    return list({canonical(rule): rule for rule in rules}.values())


class Isolation(NamedTuple):
    """Which parts of an isolation are wanted, and who may still come in through the network."""

    public_access: bool
    network: bool
    sftp: bool
    shared_key: bool
    delegation_keys: bool
    rotate_keys: bool
    rules: Json

    def settings(self) -> list[tuple[str, Json]]:
        """The settings to change, each a step of its own, so that one that fails leaves the others.

        What needs no credential comes first. None of them stops ours: we sign in with Entra ID, and the network keeps our address.
        """
        steps = (
            ("public_access", {"allowBlobPublicAccess": False}),
            ("network", {"networkAcls": self.rules}),
            ("sftp", {"isSftpEnabled": False}),
            ("shared_key", {"allowSharedKeyAccess": False}),
        )
        return [(name, {"properties": wanted}) for name, wanted in steps if getattr(self, name)]


PARTS = ("public_access", "network", "sftp", "shared_key", "delegation_keys", "rotate_keys")
ISOLATION_ARGUMENTS = {
    **{part: optional(Flag, True) for part in PARTS},
    "own_ip": optional(
        Annotated[
            list[Json],
            Reader("public IPv4 addresses or networks separated by commas, or none", read_own_addresses),
        ]
    ),
    "keep_ip_rules": RULE_ARGUMENTS["ip_rules"],
    "keep_subnet_ids": RULE_ARGUMENTS["subnet_ids"],
    "keep_existing_rules": optional(Flag, False),
}


def build_isolation(azure: Azure, given: dict[str, Any]) -> tuple[Isolation, bool]:
    """The isolation, and whether the rules that are there stay. UsageError where we would lock ourselves out unasked."""
    own = given["own_ip"] if given["own_ip"] is not None else azure.settings.own_addresses
    if given["network"] and not own and given["own_ip"] is None:
        raise UsageError(
            "Argument own_ip is missing: a network deny would also cut off our own blob commands. Give the public address of this engine, "
            "set it in the instance (Own Public IP Addresses), give own_ip=none to accept that, or network=false."
        )
    rules = {
        "defaultAction": "Deny",
        "ipRules": once([*own, *(given["keep_ip_rules"] or [])]),
        "virtualNetworkRules": given["keep_subnet_ids"] or [],
    }
    return Isolation(rules=rules, **{part: given[part] for part in PARTS}), given["keep_existing_rules"]


IsolationArgs = Annotated[tuple[Isolation, bool], Group(ISOLATION_ARGUMENTS, build_isolation)]


@command(
    "azure-storage-account-isolate",
    needs=(READ_ACCOUNT, WRITE_ACCOUNT, REVOKE_DELEGATION_KEYS, REGENERATE_KEY),
    role=ACCOUNT_CONTRIBUTOR,
    hurts=True,
)
def account_isolate(
    azure: Azure, account: TargetArgs, isolation: IsolationArgs, dry_run: Flag = False
) -> CommandResults:
    """Cuts access to an account in one go. A step that fails does not keep the next from being done.

    What was before is kept in the integration context before the first step, and returned.
    """
    wanted, keep_existing = isolation
    current = azure.arm.account(account)
    wanted = wanted._replace(rules=isolation_rules(wanted.rules, current, keep_existing))
    if at_path(current, "properties.isSftpEnabled") is None:
        wanted = wanted._replace(sftp=False)  # it was never turned on
    plan = [(name, account_patch(current, body)) for name, body in wanted.settings()]
    old = {
        key: deepcopy(at_path(current, f"properties.{key}"))
        for _, (patch, _, _) in plan
        for key in patch.get("properties", {})
    }
    record: Json = {"account": account.id, "time": iso_time(Clock.now()), "settings": old}
    if not dry_run:
        record = keep_record(azure, record)
    steps = [(name, bool(patch), setting_step(azure, account, patch)) for name, (patch, _, _) in plan]
    if wanted.delegation_keys:
        steps.append(("delegation_keys", True, lambda: azure.arm.revoke_delegation_keys(account)))
    for key in ("key2", "key1") if wanted.rotate_keys else ():
        steps.append((f"rotate {key}", True, rotation(azure, account, key)))
    rows, failures = take_steps(steps, dry_run)
    if failures and not any(row["result"] == "done" for row in rows):
        raise failures[0]
    if not dry_run:
        look_again(azure, account, wanted, rows)
    before, after = isolation_change(plan, rows)
    undo = command_line("account-restore-settings", account.arguments)
    change = Change(account.id, before, after, dry_run, undo)
    return show_isolation(azure, account, rows, record, change)


def isolation_rules(rules: Json, current: Json, keep_existing: bool) -> Json:
    """The network rules of an isolated account: only the exceptions, or also those that are there."""
    there = at_path(current, "properties.networkAcls") or {}
    kinds = {key: kind for kind, key in RULES.values()}
    newer: Json = {"ipv6Rules": []} if there.get("ipv6Rules") and not keep_existing else {}
    result = {**rules, "resourceAccessRules": [], **newer}
    for key, kind in kinds.items() if keep_existing else ():
        there_now = [rule for rule in rules_of(current, kind) if not same_rule(rule, result[kind], key)]
        result[kind] = [*there_now, *result[kind]]
    return result


def setting_step(azure: Azure, account: AccountRef, patch: Json) -> Callable[[], object]:
    return lambda: azure.arm.update_account(account, patch)


def rotation(azure: Azure, account: AccountRef, key: str) -> Callable[[], object]:
    return lambda: azure.arm.regenerate_key(account, key)


def take_steps(
    steps: list[tuple[str, bool, Callable[[], object]]], dry_run: bool
) -> tuple[list[Json], list[AzureStorageError]]:
    """A row for each step (its name, whether it is needed, and how it is done), and what failed."""
    rows: list[Json] = []
    failures: list[AzureStorageError] = []
    for name, needed, act in steps:
        row = {"step": name, "result": "would be done" if dry_run else "done", "detail": STEP_WORDS.get(name, "")}
        if not needed:
            row["result"] = "was so already"
        elif not dry_run:
            try:
                act()
            except AzureStorageError as error:
                failures.append(error)
                row.update(result="failed", detail=redact(error.message))
        rows.append(row)
    return rows, failures


STEP_WORDS = {
    "public_access": "No blob can be read without signing in.",
    "network": "Only the listed addresses, subnets, private endpoints and the Azure services in the bypass reach the account.",
    "sftp": "SFTP is off.",
    "shared_key": "Account keys and every SAS signed with one are refused.",
    "delegation_keys": "User delegation SAS are void; it can take some minutes.",
    "rotate key1": "key1 is new; what it signed stays void when shared keys are turned on again.",
    "rotate key2": "key2 is new; what it signed stays void when shared keys are turned on again.",
}


def look_again(azure: Azure, account: AccountRef, wanted: Isolation, rows: list[Json]) -> None:
    """Marks a step as failed whose setting is not there afterwards; a policy or another hand may have put it back."""
    try:
        current = azure.arm.account(account)
    except AzureStorageError as error:
        demisto.debug(f"reading back failed: {redact(error.message)}")
        return
    lacking = {name for name, body in wanted.settings() if account_patch(current, body)[0]}
    for row in rows:
        if row["result"] == "done" and row["step"] in lacking:
            row.update(result="failed", detail="Azure took the setting, but it is not there any more.")


def isolation_change(plan: list[tuple[str, tuple[Json, Json, Json]]], rows: list[Json]) -> tuple[Json, Json]:
    """Before and after of the settings that were changed, and the other steps that were done."""
    done = [row["step"] for row in rows if row["result"] in ("done", "would be done")]
    changed = {name: (old, new) for name, (_, old, new) in plan if name in done and new}
    before: Json = {key: value for old, _ in changed.values() for key, value in old["properties"].items()}
    after: Json = {key: value for _, new in changed.values() for key, value in new["properties"].items()}
    others = [step for step in done if step not in changed]
    before = {**({"properties": before} if before else {}), **dict.fromkeys(others)}
    return before, {**({"properties": after} if after else {}), **dict.fromkeys(others, "done")}


def keep_record(azure: Azure, record: Json) -> Json:
    """Remember what was before, in the integration context. What an earlier isolation remembered is older, and wins."""
    result, name = deepcopy(record), parse_account(str(record["account"])).name

    def remember(session: Session) -> None:
        kept = session.setdefault("isolations", {})
        earlier = kept.get(name, {})
        older = earlier.get("settings", {})
        # A setting that is open again was taken back meanwhile, so what it is now counts; still isolated, the older one.
        isolated = at_path(record, "settings.networkAcls.defaultAction") == "Deny" and "networkAcls" in older
        result["settings"] = {
            **older,
            **record["settings"],
            **({"networkAcls": older["networkAcls"]} if isolated else {}),
        }
        if result["settings"]:
            kept[name] = result

    azure.store.update(remember)
    return result


def show_isolation(azure: Azure, account: AccountRef, rows: list[Json], record: Json, change: Change) -> CommandResults:
    failed = [row["step"] for row in rows if row["result"] == "failed"]
    item = {
        "id": account.id,
        "account": account.name,
        "time": record["time"],
        "complete": not failed and not change.dry_run,
        "steps": rows,
        "restore": record,
    }
    notes = ["Dry run, nothing was changed." if change.dry_run else ""]
    if failed:
        notes.append(f"NOT done: {', '.join(failed)}; run the command again when the reason is gone.")
    notes.append(
        "Not stopped by it: identities with a role on the account; take roles away with your access management."
    )
    if azure.settings.storage_credential_for(account.name):
        notes.append(
            "This instance has a key or SAS for the account, which is refused now: leave Storage Account Name empty to sign in."
        )
    if change.undo and not change.dry_run:
        notes.append(f"To undo the settings (not the keys and revocations): {code(change.undo)}")
    outputs = {"AzureStorage.Change": change.context(azure.command), ISOLATION_VIEW.context: item}
    text = table(ISOLATION_VIEW, rows, f"Isolation of storage account {account}", "\n\n".join(filter(None, notes)))
    kind = EntryType.WARNING if failed else None
    return CommandResults(outputs=outputs, readable_output=text, raw_response=item, entry_type=kind)


def read_record(text: str) -> Json:
    """The restore record of an isolation: the account's id, and settings that an isolation changes."""
    record = read_json_object(text)
    parse_account(str(record["account"]))
    if not isinstance(record.get("settings"), dict) or not record["settings"].keys() <= RESTORABLE.keys():
        raise ValueError
    return record


@command(
    "azure-storage-account-restore-settings",
    needs=(READ_ACCOUNT, WRITE_ACCOUNT),
    role=ACCOUNT_CONTRIBUTOR,
    changes=True,
)
def account_restore_settings(
    azure: Azure,
    account_name: Account | None = None,
    record: Annotated[
        Json, Reader("the restore record that an isolation returned, as JSON", lambda text: read_record(text))
    ]
    | None = None,
    resource_group_name: GroupName | None = None,
    subscription_id: Subscription | None = None,
    dry_run: Flag = False,
) -> CommandResults:
    """Takes an isolation back: from its record, or from what the instance remembers of it. Keys stay rotated."""
    clue = account_name or (parse_account(str(record["account"])) if record else None)
    if not clue:
        raise UsageError("Argument account_name is missing: give it, or the record of an isolation.")
    kept = azure.store.read().get("isolations", {}).get(clue.name)
    record = record or kept
    if not record:
        raise UsageError(
            f"Nothing is remembered of an isolation of {clue.name}.",
            "give record=, from AzureStorage.Isolation.restore of the isolation.",
        )
    place = parse_account(str(record["account"]))
    if place.name != clue.name:
        raise UsageError(f"Argument account_name: the record is of {place.name}, not of {clue.name}.")
    scope = {"resource_group_name": resource_group_name, "subscription_id": subscription_id}
    account = build_account(azure, {**scope, "account_name": place if place.group else clue})
    current = azure.arm.account(account)
    wanted = {key: RESTORABLE[key] if value is None else value for key, value in record["settings"].items()}
    patch, before, after = account_patch(current, {"properties": wanted})
    updated = azure.arm.update_account(account, patch) if patch and not dry_run else current
    if kept and not dry_run:
        azure.store.update(lambda session: session.get("isolations", {}).pop(account.name, None) and None)
    unset = sorted(key for key, value in record["settings"].items() if value is None)
    note = "Rotated keys and revoked signatures stay so."
    if unset:
        note += f" Unset before, and now set to what that meant: {', '.join(unset)}."
    return show_change(azure, NETWORK_VIEW, updated, Change(account.id, before, after, dry_run), note)


# Logs

ACTIVITY_VIEW = View(
    "Activity",
    "Azure activity log of a storage account",
    {
        "Time": "time",
        "Operation": "operation",
        "Status": "status",
        "Caller": "caller",
        "IP": "ip",
        "Resource": "resource",
    },
)
# Where the fields of an event come from. https://learn.microsoft.com/azure/azure-monitor/platform/activity-log-schema
EVENT_FIELDS = {
    "id": "eventDataId",
    "time": "eventTimestamp",
    "operation": "operationName.value",
    "operationName": "operationName.localizedValue",
    "status": "status.value",
    "subStatus": "subStatus.value",
    "caller": "caller",
    "ip": "httpRequest.clientIpAddress",
    "resourceId": "resourceId",
    "category": "category.value",
    "level": "level",
    "correlationId": "correlationId",
}


def event_row(event: Json, account: AccountRef) -> Json:
    row = {name: at_path(event, path) for name, path in EVENT_FIELDS.items()}
    return {**row, "account": account.name, "resource": part_of(row["resourceId"], account)}


def part_of(resource_id: Any, account: AccountRef) -> str:
    """What follows the account in an id; the account's name where nothing does."""
    return urllib.parse.unquote(str(resource_id or ""))[len(plain_id(account.id)) :] or account.name


def plain_id(text: Any) -> str:
    """An ARM id for comparison: ours is quoted, ARM's is not, and its case varies."""
    return urllib.parse.unquote(str(text or "")).rstrip("/").lower()


@command("azure-storage-account-activity-list", needs=(READ_ACTIVITY,), role="Reader")
def account_activity_list(
    azure: Azure,
    account: TargetArgs,
    paging: PagingArgs,
    since: IsoTime | None = None,
    until: IsoTime | None = None,
    operation: Text | None = None,
    caller: Text | None = None,
    status: Text | None = None,
) -> CommandResults:
    """Who read keys, changed rules or deleted things, newest first; Azure keeps it for 90 days. Filters look for parts of words."""
    now = Clock.now()
    start = since.timestamp() if since else now - 86_400
    wanted = given_only({"operation": operation, "caller": caller, "status": status})

    azure.arm.account(account)  # an account that is elsewhere is found there
    here = plain_id(account.id)

    def keep(event: Json) -> bool:
        row = event_row(event, account)
        inside = f"{plain_id(row['resourceId'])}/".startswith(f"{here}/")
        return inside and all(part.lower() in str(row[name] or "").lower() for name, part in wanted.items())

    end = iso_time(until.timestamp() if until else now)
    listing = azure.arm.activity(account, iso_time(start), end, paging, keep)
    return show_list(ACTIVITY_VIEW, Listing([event_row(event, account) for event in listing.items], listing.token))


LOGGING_VIEW = View(
    "LoggingSettings",
    "Azure Storage blob logging",
    {
        "Name": "name",
        "Logs": lambda item: ", ".join(logged(item)),
        "Workspace": "properties.workspaceId",
        "Storage Account": "properties.storageAccountId",
        "Event Hub Rule": "properties.eventHubAuthorizationRuleId",
    },
)


def logged(setting: Json) -> list[str]:
    """The categories, or groups of categories, that a diagnostic setting has turned on."""
    rows = dicts(at_path(setting, "properties.logs"))
    return [str(row.get("category") or row.get("categoryGroup")) for row in rows if row.get("enabled")]


@command("azure-storage-account-logging-get", needs=(READ_LOGGING,), role="Reader")
def account_logging_get(azure: Azure, account: TargetArgs) -> CommandResults:
    """Where the blob service's logs go. They are off unless somebody turned them on."""
    items = azure.arm.logging(account)
    result = show_list(LOGGING_VIEW, Listing(items))
    lacking = not_logged(name for item in items for name in logged(item))
    if lacking:
        words = f"Not logged: {', '.join(lacking)}. Nobody can tell afterwards who did it."
        result.readable_output = f"{result.readable_output}\n{words}\n"
    return result


ArmId = Annotated[str, Reader("an ARM id", lambda text: matching(RESOURCE_ID, text))]
# https://learn.microsoft.com/azure/storage/blobs/blob-storage-monitoring-scenarios
SINKS = body_fields(
    ("workspace_id", ArmId, "workspaceId"),
    ("storage_account_id", ArmId, "storageAccountId"),
    ("event_hub_rule_id", ArmId, "eventHubAuthorizationRuleId"),
    ("event_hub_name", Text, "eventHubName"),
)
SinkArgs = Annotated[Json, body_group(SINKS)]


def refuse_groups(setting_name: str, enabled: bool) -> None:
    """A setting has either categories or groups of them; a group that is on covers all we could turn on."""
    if not enabled:
        raise UsageError(
            f"Argument setting_name: {setting_name!r} logs groups of categories, beside which Azure takes no single ones; give another setting_name."
        )


@command("azure-storage-account-logging-set", needs=(READ_LOGGING, WRITE_LOGGING), role=MONITORING, changes=True)
def account_logging_set(
    azure: Azure,
    account: TargetArgs,
    sinks: SinkArgs,
    setting_name: LOCK_NAME = "cortex-xsoar",
    categories: Annotated[list[str], listed(choice(*BLOB_LOGS))] | None = None,
    enabled: Flag = True,
    dry_run: Flag = False,
) -> CommandResults:
    """Turns logs of the blob service on or off in one diagnostic setting; other categories and settings stay."""
    found = next(
        (item for item in azure.arm.logging(account) if str(item.get("name")).lower() == setting_name.lower()), {}
    )
    current = found.get("properties") or {}
    if not sinks and not any(current.get(entry.path) for entry in SINKS.values()):
        raise UsageError(
            "Argument workspace_id is missing: give workspace_id, storage_account_id or event_hub_rule_id."
        )
    state = {str(row.get("category") or row.get("categoryGroup")): row for row in dicts(current.get("logs"))}
    chosen = categories or BLOB_LOGS
    old = {name: bool(state.get(name, {}).get("enabled")) for name in chosen}
    before, after = differences({**current, "logs": old}, {**sinks, "logs": dict.fromkeys(chosen, enabled)})
    if any(row.get("categoryGroup") and row.get("enabled") for row in state.values()):
        refuse_groups(setting_name, enabled)
        return show_change(azure, LOGGING_VIEW, found, Change(logging_path(account, setting_name), {}, {}, dry_run))
    flipped = {"setting_name": setting_name, "enabled": not enabled, "categories": ",".join(before.get("logs", {}))}
    undo = (
        command_line("account-logging-set", account.arguments, flipped) if before.keys() == {"logs"} and current else ""
    )
    change = Change(logging_path(account, setting_name), before, after, dry_run, undo)
    if change.needed and not dry_run:
        logs = [
            *(row for name, row in state.items() if name not in chosen and not row.get("categoryGroup")),
            *({"category": name, "enabled": enabled} for name in chosen),
        ]
        found = azure.arm.set_logging(account, setting_name, {**current, **sinks, "logs": logs})
    return show_change(azure, LOGGING_VIEW, found or None, change)


# Posture

DEEP_ACCOUNTS = 50  # up to so many accounts the deep checks are made without being asked for
DEEP_PARALLEL = 8
# The newest fields of an account appear in the newest version only.
WHOLE_ACCOUNT = ACCOUNT_SOURCE._replace(api=SHARING_API)
PROGRESS_STEP = 25  # accounts between two words of progress
POSTURE_VIEW = View(
    "Posture",
    "What to mend",
    {
        "Account": "account",
        "Severity": "severity",
        "Check": "title",
        "Result": "result",
        "Evidence": "evidence",
        "Fix": "fix",
    },
)
POSTURE_SUMMARY_VIEW = View(
    "PostureSummary",
    "Azure Storage posture",
    {header: name for name, header in SUMMARY_COLUMNS.items()},
    key="accountId",
)
# What a check looks at beside its own source.
ALSO_ASKED: Mapping[str, tuple[str, ...]] = {
    "no-anonymous-blobs": ("containers",),
    "no-sftp": ("local_users",),
    "no-static-website": ("containers",),
    "no-data-sharing": SHARING_SOURCES,
}


@command(
    "azure-storage-account-posture",
    needs=(READ_ACCOUNT, *dict.fromkeys(source.permission for source in DEEP_SOURCES.values())),
    role="Reader",
)
def account_posture(
    azure: Azure,
    search: SearchArgs,
    deep: Flag | None = None,
    checks: Annotated[
        list[str], listed(Reader("names or numbers of checks, such as https-only", lambda text: read_check(text)))
    ]
    | None = None,
    key_vaults: Texts | None = None,
    own_subscriptions: Annotated[list[str], listed(Reader("subscription ids", parse_subscription))] | None = None,
    evidence_containers: Texts | None = None,
    max_key_age_days: Annotated[int, number(1, 3650)] = 90,
    report: Annotated[str, choice("csv", "html")] | None = None,
) -> list[Any]:
    """What the account objects tell comes from one query for all; the deep checks cost some requests for each account."""
    found = [found_account(row) for row in azure.arm.search(search.query, Paging(all_results=True)).items]
    if not found:
        raise AzureStorageError(
            "No storage account was found.",
            "look with !azure-storage-account-find; the identity needs the role Reader.",
        )
    options = PostureOptions(
        Clock.now(),
        str(found[0].get("tenantId") or ""),
        tuple(key_vaults or ()),
        tuple(own_subscriptions or ()),
        tuple(evidence_containers or ()),
        max_key_age_days,
    )
    wanted: set[str] = set()
    for check in CHECKS:
        if not checks or check.name in checks:
            wanted |= {check.source, *ALSO_ASKED.get(check.name, ())}
    deep = len(found) <= DEEP_ACCOUNTS if deep is None else deep
    facts = deep_facts(azure, found, wanted if deep else set())
    rows = [
        row
        for account, known in zip(found, facts, strict=True)
        for row in assess(account, known, options)
        if not checks or row["check"] in checks
    ]
    lost = search.lost(found)
    notes = [
        f"Not found: {', '.join(lost)}." if lost else "",
        "" if deep else f"{len(found)} accounts: only what the account tells was checked; give deep=true for the rest.",
    ]
    return posture_results(rows, "\n".join(filter(None, notes)), report)


def posture_results(rows: list[Json], note: str, report: str | None) -> list[Any]:
    """All rows for playbooks; for people the accounts and the worst of what is to be mended; a file when one is asked for."""
    bad = [row for row in rows if row["result"] in (FAIL, UNSET, UNKNOWN)]
    bad.sort(key=lambda row: (SEVERITIES.index(row["severity"]), row["account"], row["number"]))
    more = f"{len(bad) - DEFAULT_LIMIT} more are in context." if len(bad) > DEFAULT_LIMIT else ""
    counts = [{"id": row["accountId"], **row} for row in summary(rows)]
    text = table(POSTURE_SUMMARY_VIEW, counts[:DEFAULT_LIMIT], note=note) + table(
        POSTURE_VIEW, bad[:DEFAULT_LIMIT], note=more
    )
    outputs = {POSTURE_VIEW.context: rows, POSTURE_SUMMARY_VIEW.context: counts}
    results: list[Any] = [CommandResults(outputs=outputs, readable_output=text, raw_response=rows)]
    if report:
        content = as_csv(rows) if report == "csv" else as_html(rows, "Azure Storage posture")
        results.append(fileResult(f"azure-storage-posture.{report}", content))
    return results


def deep_facts(azure: Azure, accounts: list[Json], sources: set[str]) -> Iterator[dict[str, Any]]:
    """For each account what its deep sources hold, or the errors that came instead; says how far it is."""
    names = [name for name in (*DEEP_SOURCES, "account") if name in sources]
    jobs = [(account, name) for account in accounts for name in names]
    budget = ReadBudget()
    support_multithreading()
    answers = in_order(lambda job: read_source(azure, budget, *job), jobs, DEEP_PARALLEL)
    for count, _ in enumerate(accounts, 1):
        known = {name: next(answers) for name in names}
        if isinstance(known.get("account"), AzureStorageError):
            del known["account"]  # what the query told of it is older, and enough
        yield known
        if names and count % PROGRESS_STEP == 0 and count < len(accounts):
            return_results(f"Posture: {count} of {len(accounts)} accounts were checked.")


class ReadBudget:
    """What ARM allows one identity in a subscription, and its storage provider in a region of it; beyond, it refuses.

    https://learn.microsoft.com/azure/azure-resource-manager/management/request-limits-and-throttling
    """

    def __init__(self) -> None:
        self._all: dict[str, Pace] = {}
        self._storage: dict[tuple[str, str], Pace] = {}
        self._lock = threading.Lock()

    def take(self, account: Json, path: str) -> None:
        subscription, region = subscription_of(account), str(account.get("location"))
        with self._lock:
            paces = [self._all.setdefault(subscription, Pace(250, 25))]
            if "/Microsoft.Storage/" in path and path.count("/providers/") == 1:
                paces.append(self._storage.setdefault((subscription, region), Pace(800, 800 / 300)))
        for pace in paces:
            pace.take()


def read_source(azure: Azure, budget: ReadBudget, account: Json, name: str) -> Any:
    """The JSON of a deep source, the items of a collection, or the error that came instead."""
    source = DEEP_SOURCES.get(name, WHOLE_ACCOUNT)
    budget.take(account, str(account["id"]) + source.path)
    path, action = str(account["id"]) + source.path, f"read {name.replace('_', ' ')} of {account['name']}"
    try:
        if not source.path or source.path.endswith(("/default", "/current")):
            return azure.arm.read(path, action, version=source.api)
        return azure.arm.listing(path, action, Paging(all_results=True), version=source.api).items
    except AzureStorageError as error:
        return error


def read_check(text: str) -> str:
    return next(check.name for check in CHECKS if text.lower() in (check.name, str(check.number)))


# Blob service


@command(
    "azure-storage-blob-service-properties-get",
    needs=(READ_SERVICE,),
    role="Reader",
)
def blob_service_properties_get(azure: Azure, account: AccountArgs) -> CommandResults:
    return show(BLOB_SERVICE_VIEW, azure.arm.blob_service(account))


@command(
    "azure-storage-blob-service-properties-set",
    needs=(READ_SERVICE, WRITE_SERVICE),
    role=ACCOUNT_CONTRIBUTOR,
    changes=True,
    aliases={
        "container_delete_rentention_policy_enabled": "container_delete_retention_policy_enabled",
        "container_delete_rentention_policy_days": "container_delete_retention_policy_days",
        "delete_rentention_policy_enabled": "delete_retention_policy_enabled",
        "delete_rentention_policy_days": "delete_retention_policy_days",
    },
)
def blob_service_properties_set(
    azure: Azure, account: AccountArgs, wanted: BlobServiceBody, dry_run: Flag = False
) -> CommandResults:
    """Reads, merges and writes: the service replaces the whole object, so what was set before goes along."""
    ignored = wanted.get("restorePolicy", {}).pop("minRestoreTime", None)
    current = azure.arm.blob_service(account)
    properties = current.get("properties", {})
    before, after = differences(properties, wanted)
    whole = merged(properties, wanted)
    check_retention(whole)
    undo = undo_line("blob-service-properties-set", account.arguments, BLOB_SERVICE_FIELDS, before)
    change = Change(f"{account.id}/blobServices/default", before, after, dry_run, undo)
    updated = azure.arm.set_blob_service(account, whole) if change.needed and not dry_run else current
    note = "restore_policy_min_restore_time was not sent: Azure computes that time itself." if ignored else ""
    return show_change(azure, BLOB_SERVICE_VIEW, updated, change, note=note)


def check_retention(properties: Json) -> None:
    """A policy that is on needs its days; ARM's own refusal does not name the argument."""
    for policy, argument in (
        ("deleteRetentionPolicy", "delete_retention_policy_days"),
        ("containerDeleteRetentionPolicy", "container_delete_retention_policy_days"),
        ("restorePolicy", "restore_policy_days"),
    ):
        settings = properties.get(policy) or {}
        if settings.get("enabled") and not settings.get("days"):
            raise UsageError(
                f"Argument {argument} is missing: the policy cannot be turned on without a number of days."
            )


# Point-in-time restore

RESTORE_VIEW = View(
    "BlobRestore",
    "Azure Storage point-in-time restore",
    {
        "Account Name": "account",
        "Status": "status",
        "Restored to": "timeToRestore",
        "Ranges": "blobRanges",
        "Failure": "failureReason",
    },
)


def read_ranges(text: str) -> list[Json]:
    """Ranges of container/blob names: start..end separated by commas, or a JSON array of {"startRange", "endRange"}."""
    if text.startswith("["):
        found = [{key: str(item[key]) for key in ("startRange", "endRange")} for item in json.loads(text)]
    else:
        parts = [part.partition("..") for part in split_list(text)]
        found = [{"startRange": start.strip(), "endRange": end.strip()} for start, dots, end in parts if dots]
        if len(found) != len(parts):
            raise ValueError
    if not 1 <= len(found) <= 10:
        raise ValueError("1 to 10 ranges")
    return found


STARTED = "started"  # stands for the id of a restore that the service did not tell
RANGE_ARGUMENTS = {
    **STORAGE_SCOPE,
    "container_name": optional(Container),
    "prefix": optional(Text),
    "ranges": optional(
        Annotated[
            list[Json],
            Reader('ranges such as box/a..box/b, or [{"startRange":"box/a","endRange":"box/b"}]', read_ranges),
        ]
    ),
    "confirm_all": optional(Flag, False),
}


def build_ranges(azure: Azure, given: dict[str, Any]) -> tuple[AccountRef, list[Json]]:
    """The account and the ranges: those given, a container (or what in it has a prefix), or with confirm_all everything."""
    url: BlobAddress | None = given["blob_url"]
    container = given["container_name"] or (url.container if url else "")
    prefix, ranges = given["prefix"] or "", given["ranges"]
    blob = url.blob if url and not prefix else ""
    if prefix and not container:
        raise UsageError("Argument prefix: it goes with a container_name.")
    if sum(map(bool, (container, ranges, given["confirm_all"]))) != 1:
        raise UsageError("Argument container_name, ranges or confirm_all=true: give one of the three.")
    if container:
        # Both ends lie in the container, whether Azure compares whole names or containers first.
        start = f"{container}/{blob or prefix}"
        ranges = [{"startRange": start, "endRange": start + ("\x00" if blob else "\uffff")}]
    return build_target(azure, given), ranges or [{"startRange": "", "endRange": ""}]


RangeArgs = Annotated[tuple[AccountRef, list[Json]], Group(RANGE_ARGUMENTS, build_ranges)]


@command(
    "azure-storage-blob-ranges-restore",
    needs=(READ_ACCOUNT, READ_SERVICE, RESTORE_RANGES),
    role=ACCOUNT_CONTRIBUTOR,
    hurts=True,
)
def blob_ranges_restore(
    azure: Azure,
    target: RangeArgs,
    time_to_restore: IsoTime,
    dry_run: Flag = False,
    polling: Flag = True,
    interval_in_seconds: Seconds = 30,
    timeout_in_seconds: Seconds = 21_600,
    restore_id: Text | None = None,
) -> CommandResults:
    """Brings block blobs back to an earlier time. Azure blocks the ranges meanwhile, and it cannot be stopped."""
    account, ranges = target
    first = not restore_id
    body = {"timeToRestore": iso_time(time_to_restore.timestamp()), "blobRanges": ranges}
    change = Change(account.id, {"timeToRestore": None}, body, dry_run)
    if not restore_id:
        check_restore(azure, account, time_to_restore)
        if dry_run:
            return show_change(azure, RESTORE_VIEW, None, change)
        restore_id = azure.arm.restore_ranges(account, body) or STARTED
    status = azure.arm.restore_status(account)
    if restore_id not in (STARTED, status.get("restoreId")):
        status = {"status": "InProgress", "restoreId": restore_id}  # what is shown is still an earlier one
    item = {
        "id": account.id,
        "account": account.name,
        **body,
        **given_only({key: status.get(key) for key in ("restoreId", "status", "failureReason")}),
    }
    if status.get("status") == "InProgress" and polling:
        args = {
            **account.arguments,
            "ranges": json.dumps(ranges),
            "time_to_restore": body["timeToRestore"],
            "restore_id": restore_id,
        }
        args |= {"interval_in_seconds": str(interval_in_seconds), "timeout_in_seconds": str(timeout_in_seconds)}
        text = f"Azure is restoring blobs of {account}; this command ends when it is done." if first else ""
        return poll_again(azure.command, args, text, interval_in_seconds, timeout_in_seconds)
    if status.get("status") == "Failed":
        raise AzureStorageError(
            f"The restore of {account} failed: {status.get('failureReason', '')}",
            "read the reason, then start it again.",
        )
    return show_change(azure, RESTORE_VIEW, item, change)


def check_restore(azure: Azure, account: AccountRef, wanted: datetime) -> None:
    """Refuse with the reason what Azure would refuse later in fewer words."""
    current = azure.arm.account(account, "blobRestoreStatus")
    policy = at_path(azure.arm.blob_service(account), "properties.restorePolicy") or {}
    running = restore_status_of(current).get("status") == "InProgress"
    earliest = policy.get("minRestoreTime")
    problems = (
        (
            current.get("kind") != "StorageV2" or str(at_path(current, "sku.name")).startswith("Premium"),
            "only standard general-purpose v2 accounts have it",
        ),
        (bool(at_path(current, "properties.isHnsEnabled")), "accounts with a hierarchical namespace do not have it"),
        (
            not policy.get("enabled"),
            "its policy is off, and it only reaches back to when it was turned on; try !azure-storage-blob-undelete",
        ),
        (
            wanted.timestamp() < (moment(earliest) or 0),
            f"the earliest time is {earliest}",
        ),
        (wanted.timestamp() > Clock.now(), "the time is in the future"),
        (running, "another restore is running; it cannot be stopped, and the next has to wait for it"),
    )
    for broken, reason in problems:
        if broken:
            raise UsageError(f"Point-in-time restore of {account} is not possible: {reason}.")


# Containers


@command(
    "azure-storage-blob-containers-create",
    needs=(READ_CONTAINER, WRITE_CONTAINER),
    role=ACCOUNT_CONTRIBUTOR,
    changes=True,
)
def blob_containers_create(
    azure: Azure, account: AccountArgs, container_name: Container, properties: ContainerBody, dry_run: Flag = False
) -> CommandResults:
    """Creates the container; one that is there only gets the given settings, never an empty body that would reset it."""
    current = azure.arm.container_if_there(account, container_name)
    if current is not None:
        return change_container(azure, CONTAINER_VIEW, account, container_name, current, properties, dry_run)
    change = Change(container_path(account, container_name), {}, {"name": container_name, **properties}, dry_run)
    created = None if dry_run else azure.arm.create_container(account, container_name, properties)
    return show_change(azure, CONTAINER_VIEW, created, change)


@command(
    "azure-storage-blob-containers-update",
    needs=(READ_CONTAINER, WRITE_CONTAINER),
    role=ACCOUNT_CONTRIBUTOR,
    changes=True,
)
def blob_containers_update(
    azure: Azure, account: AccountArgs, container_name: Container, properties: ContainerBody, dry_run: Flag = False
) -> CommandResults:
    current = azure.arm.container(account, container_name)
    return change_container(azure, UPDATED_CONTAINER_VIEW, account, container_name, current, properties, dry_run)


def change_container(
    azure: Azure, view: View, account: AccountRef, container: str, current: Json, wanted: Json, dry_run: bool
) -> CommandResults:
    before, after = differences(current.get("properties", {}), wanted)
    where = {**account.arguments, "container_name": container}
    undo = undo_line("blob-containers-update", where, CONTAINER_FIELDS, before)
    change = Change(container_path(account, container), before, after, dry_run, undo)
    if not change.needed or dry_run:
        return show_change(azure, view, current, change)
    azure.arm.update_container(account, container, after)
    return show_change(azure, view, azure.arm.container(account, container), change)


@command("azure-storage-blob-containers-list", needs=(READ_CONTAINER,), role="Reader")
def blob_containers_list(
    azure: Azure,
    account: AccountArgs,
    container_name: Container | None = None,
    include_deleted: Flag = False,
    maxpagesize: Annotated[int, number(1, 5000)] | None = None,
    limit: Count | None = None,
    all_results: Flag = False,
    next_token: PageToken | None = None,
) -> CommandResults:
    """`maxpagesize` alone also says how many are wanted, as it does in playbooks made for the existing pack."""
    if container_name and not include_deleted:
        return show(CONTAINERS_VIEW, azure.arm.container(account, container_name))
    paging = Paging(limit or maxpagesize or DEFAULT_LIMIT, all_results or bool(container_name), next_token)
    listing = azure.arm.containers(account, paging, maxpagesize, include_deleted, container_name)
    if container_name:
        listing = Listing([item for item in listing.items if item.get("name") == container_name])
    return show_list(DELETED_CONTAINERS_VIEW if include_deleted else CONTAINERS_VIEW, listing)


@command(
    "azure-storage-blob-container-delete",
    needs=(READ_CONTAINER, DELETE_CONTAINER),
    role=ACCOUNT_CONTRIBUTOR,
    hurts=True,
)
def blob_container_delete(
    azure: Azure, account: AccountArgs, container_name: Container, dry_run: Flag = False
) -> CommandResults:
    title = "Azure Storage Blob Container delete"
    current = azure.arm.container_if_there(account, container_name)
    gone = current is None or (not dry_run and not azure.arm.delete_container(account, container_name))
    path = container_path(account, container_name)
    change = Change(path, {} if gone else {"name": container_name}, {} if gone else {"name": None}, dry_run)
    words = (
        f"There is no container {container_name} in {account}."
        if gone
        else f"Dry run: container {container_name} of {account} would be deleted."
        if dry_run
        else f"Container {container_name} of {account} was deleted."
    )
    return CommandResults(
        outputs={"AzureStorage.Change": change.context(azure.command)},
        readable_output=f"### {title}\n{words}\n",
        raw_response=words,
    )


# Freezing a container

HOLD_VIEW = View(
    "BlobContainer",
    "Azure Storage container legal hold",
    {
        "Name": "name",
        "Account Name": account_of,
        "Legal Hold": "properties.hasLegalHold",
        "Tags": lambda item: ", ".join(hold_tags(item)),
    },
)
HoldTags = Annotated[
    list[str],
    listed(
        Reader("tags of 3 to 23 letters and digits", lambda text: matching(re.compile(r"[a-z0-9]{3,23}"), text.lower()))
    ),
]


def hold_tags(container: Json) -> list[str]:
    return [str(tag.get("tag")) for tag in dicts(at_path(container, "properties.legalHold.tags"))]


def change_hold(azure: Azure, container: ContainerRef, verb: str, tags: list[str], dry_run: bool) -> CommandResults:
    """Put tags on the hold or take them off; only those that are not so already are sent."""
    current = azure.arm.container(container.account, container.name)
    old = hold_tags(current)
    due = [tag for tag in tags if (tag in old) is (verb == "clear")]
    new = sorted({*old, *due} if verb == "set" else {*old} - {*due})
    inverse = "clear" if verb == "set" else "set"
    undo = command_line(f"container-legal-hold-{inverse}", container.arguments, {"tags": ",".join(due)})
    change = Change(container.path, {"tags": sorted(old)} if due else {}, {"tags": new} if due else {}, dry_run, undo)
    if due and not dry_run:
        azure.arm.change_hold(container, verb, due)
        current = azure.arm.container(container.account, container.name)
    note = (
        "It takes up to half a minute. Blobs can still be read and added; none can be changed or deleted."
        if verb == "set"
        else ""
    )
    return show_change(azure, HOLD_VIEW, current, change, note)


@command(
    "azure-storage-container-legal-hold-set", needs=(READ_CONTAINER, SET_HOLD), role=ACCOUNT_CONTRIBUTOR, changes=True
)
def container_legal_hold_set(
    azure: Azure, container: ContainerTarget, tags: HoldTags, dry_run: Flag = False
) -> CommandResults:
    """Adds tags to the legal hold; as long as there is one, no blob in the container can be changed or deleted."""
    return change_hold(azure, container, "set", tags, dry_run)


@command(
    "azure-storage-container-legal-hold-clear", needs=(READ_CONTAINER, CLEAR_HOLD), role=ACCOUNT_CONTRIBUTOR, hurts=True
)
def container_legal_hold_clear(
    azure: Azure, container: ContainerTarget, tags: HoldTags, dry_run: Flag = False
) -> CommandResults:
    """Takes tags off; the hold ends with the last one."""
    return change_hold(azure, container, "clear", tags, dry_run)


IMMUTABILITY_VIEW = View(
    "ImmutabilityPolicy",
    "Azure Storage container immutability policy",
    {
        "Container": "container",
        "Account Name": "account",
        "Days": "days",
        "State": "state",
        "Protected Appends": "allowProtectedAppendWrites",
    },
)


def policy_row(container: ContainerRef, policy: Json) -> Json:
    """A policy for context; state None where there is none."""
    properties = policy.get("properties") or {}
    days = properties.get("immutabilityPeriodSinceCreationInDays") or 0
    return {
        "id": policy_path(container),
        "account": container.account.name,
        "container": container.name,
        "days": days,
        "state": properties.get("state") if days else None,
        "allowProtectedAppendWrites": properties.get("allowProtectedAppendWrites"),
        "etag": str(policy.get("etag") or "").strip('"'),
    }


@command("azure-storage-container-immutability-get", needs=(f"{IMMUTABILITY}/read",), role="Reader")
def container_immutability_get(azure: Azure, container: ContainerTarget) -> CommandResults:
    return show(IMMUTABILITY_VIEW, policy_row(container, azure.arm.immutability(container)))


@command(
    "azure-storage-container-immutability-set",
    needs=(f"{IMMUTABILITY}/read", f"{IMMUTABILITY}/write", f"{IMMUTABILITY}/extend/action"),
    role=ACCOUNT_CONTRIBUTOR,
    changes=True,
)
def container_immutability_set(
    azure: Azure,
    container: ContainerTarget,
    days: Annotated[int, number(1, 146_000)],
    allow_protected_append_writes: Flag | None = None,
    dry_run: Flag = False,
) -> CommandResults:
    """Nothing in the container can be changed or deleted for so many days after it was made. A locked policy can only grow."""
    policy = azure.arm.immutability(container)
    row = policy_row(container, policy)
    locked = row["state"] == "Locked"
    wanted = given_only({"days": days, "allowProtectedAppendWrites": allow_protected_append_writes})
    if locked and (days < row["days"] or differences(row, without(wanted, ["days"]))[1]):
        raise UsageError(f"Argument days: the policy is locked at {row['days']} days and can only be extended.")
    before, after = differences(row, wanted)
    undo = command_line("container-immutability-delete", container.arguments) if not row["state"] else ""
    if row["state"] and not locked:
        appends = {"allow_protected_append_writes": before.get("allowProtectedAppendWrites")}
        undo = command_line(
            "container-immutability-set", container.arguments, {"days": row["days"]}, given_only(appends)
        )
    change = Change(row["id"], before, after, dry_run, undo)
    if change.needed and not dry_run:
        how, etag = ("extend" if locked else "set"), (row["etag"] if row["state"] else "")
        azure.arm.change_immutability(
            container, how, etag, immutability_body(policy, days, allow_protected_append_writes)
        )
        row = policy_row(container, azure.arm.immutability(container))
    note = (
        ""
        if locked
        else "It is not locked: whoever may write policies can remove it. !azure-storage-container-immutability-lock makes it final."
    )
    return show_change(azure, IMMUTABILITY_VIEW, row, change, note)


def immutability_body(policy: Json, days: int, appends: bool | None) -> Json:
    """The whole policy, as the service replaces it: what it allows now goes along, unless it is given."""
    kept = {
        name: at_path(policy, f"properties.{name}")
        for name in ("allowProtectedAppendWrites", "allowProtectedAppendWritesAll")
    }
    if appends is not None:
        kept = {"allowProtectedAppendWrites": appends}
    return {"immutabilityPeriodSinceCreationInDays": days, **given_only(kept)}


@command(
    "azure-storage-container-immutability-lock",
    needs=(f"{IMMUTABILITY}/read", f"{IMMUTABILITY}/lock/action"),
    role=ACCOUNT_CONTRIBUTOR,
    hurts=True,
)
def container_immutability_lock(
    azure: Azure, container: ContainerTarget, confirm: Text | None = None, dry_run: Flag = False
) -> CommandResults:
    """Makes the policy final: nobody, not even Microsoft, can shorten or remove it. `confirm` repeats the container's name."""
    row = policy_row(container, azure.arm.immutability(container))
    if not row["state"]:
        raise UsageError(
            f"Container {container} has no immutability policy to lock.",
            "make one with !azure-storage-container-immutability-set.",
        )
    before, after = differences(row, {"state": "Locked"})
    change = Change(row["id"], before, after, dry_run)
    if change.needed and not dry_run:
        confirmed(
            confirm,
            container.name,
            f"A locked policy keeps every blob for {row['days']} days, and the container and account with them",
        )
        azure.arm.change_immutability(container, "lock", row["etag"])
        row = policy_row(container, azure.arm.immutability(container))
    return show_change(
        azure, IMMUTABILITY_VIEW, row, change, "A locked policy can be extended five times and never removed."
    )


@command(
    "azure-storage-container-immutability-delete",
    needs=(f"{IMMUTABILITY}/read", f"{IMMUTABILITY}/delete"),
    role=ACCOUNT_CONTRIBUTOR,
    hurts=True,
)
def container_immutability_delete(azure: Azure, container: ContainerTarget, dry_run: Flag = False) -> CommandResults:
    row = policy_row(container, azure.arm.immutability(container))
    if row["state"] == "Locked":
        raise UsageError(f"The immutability policy of container {container} is locked; it cannot be removed.")
    undo = command_line("container-immutability-set", container.arguments, {"days": row["days"]})
    had = bool(row["state"])
    change = Change(row["id"], {"days": row["days"]} if had else {}, {"days": 0} if had else {}, dry_run, undo)
    if had and not dry_run:
        azure.arm.change_immutability(container, "delete", row["etag"])
        row = policy_row(container, azure.arm.immutability(container))
    return show_change(azure, IMMUTABILITY_VIEW, row, change)


LEASE_VIEW = View(
    "BlobContainer",
    "Azure Storage container lease",
    {
        "Name": "name",
        "Account Name": account_of,
        "Lease State": "properties.leaseState",
        "Lease Duration": "properties.leaseDuration",
        "Lease ID": "leaseId",
    },
)


@command(
    "azure-storage-container-lease", needs=(READ_CONTAINER, LEASE_CONTAINER), role=ACCOUNT_CONTRIBUTOR, changes=True
)
def container_lease(
    azure: Azure, container: ContainerTarget, lease: LeaseArgs, dry_run: Flag = False
) -> CommandResults:
    """A lease keeps the container from being deleted; blobs in it are not protected."""
    current = azure.arm.container(container.account, container.name)
    old = at_path(current, "properties.leaseState")
    change = Change(container.path, {"leaseState": old}, {"leaseState": LEASE_STATES[lease.action]}, dry_run)
    if dry_run:
        return show_change(azure, LEASE_VIEW, current, change)
    body = given_only(
        {
            "action": lease.action.capitalize(),
            "leaseId": lease.lease_id,
            "proposedLeaseId": lease.proposed_lease_id,
            "leaseDuration": lease.duration if lease.action == "acquire" else None,
            "breakPeriod": lease.break_period if lease.action == "break" else None,
        }
    )
    lease_id = azure.arm.lease_container(container, body).get("leaseId")
    current = {**azure.arm.container(container.account, container.name), **given_only({"leaseId": lease_id})}
    undo = (
        command_line("container-lease", container.arguments, {"action": "release", "lease_id": lease_id})
        if lease_id
        else ""
    )
    after = given_only({"leaseState": at_path(current, "properties.leaseState"), "leaseId": lease_id})
    undo = undo if lease.action == "acquire" else ""
    return show_change(azure, LEASE_VIEW, current, change._replace(after=after, undo=undo))


# Stored access policies

POLICIES_VIEW = View(
    "AccessPolicy",
    "Azure Storage stored access policies",
    {"Container": "container", "Policy": "policy", "Permissions": "permissions", "Starts": "start", "Ends": "expiry"},
)


def policy_rows(service: BlobService, container: str, policies: list[AccessPolicy]) -> list[Json]:
    where = service.http.endpoint + blob_path(container)
    return [
        {
            "id": f"{where}#{policy.name}",
            "account": service.account,
            "container": container,
            "policy": policy.name,
            "permissions": ", ".join(PERMISSIONS.get(letter, letter) for letter in policy.permissions),
            "start": policy.start,
            "expiry": policy.expiry,
        }
        for policy in policies
    ]


@command("azure-storage-container-policy-list", needs=(READ_ACL,), role=OWNER)
def container_policy_list(azure: Azure, container: ContainerArgs) -> CommandResults:
    """Policies that SAS refer to: changing or removing one is the only way to end a single service SAS."""
    service, name = container
    return show_list(POLICIES_VIEW, Listing(policy_rows(service, name, service.access_policies(name).policies)))


@command("azure-storage-container-policy-revoke", needs=(READ_ACL, WRITE_ACL), role=OWNER, hurts=True)
def container_policy_revoke(
    azure: Azure,
    container: ContainerArgs,
    policy: Annotated[list[str], listed(Reader("names of stored access policies", str))] | None = None,
    all_policies: Flag = False,
    dry_run: Flag = False,
) -> CommandResults:
    """Removes policies, and with them what was signed by their names; the other policies and the public access stay."""
    if bool(policy) is all_policies:
        raise UsageError("Argument policy or all_policies=true: give one of the two.")
    service, name = container
    found = service.access_policies(name)
    kept = [] if all_policies else [entry for entry in found.policies if entry.name not in (policy or [])]
    gone = [entry for entry in found.policies if entry not in kept]
    old, new = ([entry._asdict() for entry in entries] for entries in (found.policies, kept))
    target = service.http.endpoint + blob_path(name)
    change = Change(target, {"policies": old} if gone else {}, {"policies": new} if gone else {}, dry_run)
    if gone and not dry_run:
        service.set_access_policies(name, found._replace(policies=kept))
        kept = service.access_policies(name).policies
    lost = sorted(set(policy or []) - {entry.name for entry in gone})
    notes = [f"There was no policy {', '.join(lost)}." if lost else ""]
    notes.append(
        "It takes up to half a minute. A policy of the same name would make those SAS work again." if gone else ""
    )
    return show_changes(azure, POLICIES_VIEW, policy_rows(service, name, kept), change, "\n".join(filter(None, notes)))


RESTORED_VIEW = CONTAINERS_VIEW._replace(title="Azure Storage container restore")


@command(
    "azure-storage-container-restore",
    needs=(READ_CONTAINER, WRITE_CONTAINER),
    role=f"{ACCOUNT_CONTRIBUTOR} with {CONTRIBUTOR}",
    changes=True,
)
def container_restore(
    azure: Azure, container: ContainerTarget, version: Text | None = None, dry_run: Flag = False
) -> CommandResults:
    """Brings back a soft-deleted container with its blobs: the last one of that name that was deleted, or the version given."""
    account, name = container.account, container.name
    current = azure.arm.container_if_there(account, name)
    if current is not None:
        return show_change(
            azure, RESTORED_VIEW, current, Change(container.path, {}, {}, dry_run), "The container is there."
        )
    everything = azure.arm.containers(account, Paging(all_results=True), None, True, name).items
    deleted = [item for item in everything if item.get("name") == name and at_path(item, "properties.deleted")]
    chosen = [item for item in deleted if version in (None, at_path(item, "properties.version"))]
    if not chosen:
        known = ", ".join(str(at_path(item, "properties.version")) for item in deleted)
        raise UsageError(
            f"There is no soft-deleted container {container}"
            + (f" of version {version}; there is {known}." if known else "."),
            "soft delete must have been on when it was deleted; !azure-storage-blob-containers-list include_deleted=true shows what can be restored.",
        )
    last = max(chosen, key=lambda item: str(at_path(item, "properties.deletedTime")))
    found = str(at_path(last, "properties.version"))
    undo = command_line("blob-container-delete", container.arguments)
    change = Change(container.path, {"deleted": True}, {"deleted": False, "version": found}, dry_run, undo)
    if dry_run:
        return show_change(azure, RESTORED_VIEW, last, change)
    azure.blobs(account.name, account.subscription, account.group).restore_container(name, found)
    return show_change(azure, RESTORED_VIEW, azure.arm.container(account, name), change)


# Blobs

INCLUDES = (
    "metadata",
    "tags",
    "versions",
    "snapshots",
    "deleted",
    "uncommittedblobs",
    "copy",
    "legalhold",
    "immutabilitypolicy",
)


class BlobFilter(NamedTuple):
    """Which blobs of a listing are wanted; what is None does not matter."""

    modified_since: datetime | None
    modified_until: datetime | None
    min_size: int | None
    max_size: int | None
    blob_type: str | None
    tier: str | None
    md5: str | None

    def fits(self, row: Json) -> bool:
        modified = str(row.get("lastModified", ""))
        size = row.get("size", 0)
        return (
            (self.modified_since is None or modified >= iso_time(self.modified_since.timestamp()))
            and (self.modified_until is None or modified <= iso_time(self.modified_until.timestamp()))
            and (self.min_size is None or size >= self.min_size)
            and (self.max_size is None or size <= self.max_size)
            and (self.blob_type is None or row.get("type") == self.blob_type)
            and (self.tier is None or row.get("tier") == self.tier)
            and (self.md5 is None or row.get("md5") == self.md5)
        )


def read_md5(text: str) -> str:
    """An MD5 in hexadecimal, as threat feeds have it, or in base64, as Azure has it."""
    return (
        text.lower() if re.fullmatch(r"[0-9a-fA-F]{32}", text) else matching(re.compile("[0-9a-f]{32}"), md5_hex(text))
    )


def build_filter(azure: Any, given: dict[str, Any]) -> BlobFilter:
    return BlobFilter(**given)


FilterArgs = Annotated[
    BlobFilter,
    Group(
        {
            "modified_since": optional(IsoTime),
            "modified_until": optional(IsoTime),
            "min_size": optional(Size),
            "max_size": optional(Size),
            "blob_type": optional(Annotated[str, choice("BlockBlob", "AppendBlob", "PageBlob")]),
            "tier": optional(Tier),
            "md5": optional(Annotated[str, Reader("an MD5 in hexadecimal or base64", read_md5)]),
        },
        build_filter,
    ),
]


@command("azure-storage-blob-list", needs=(READ_BLOB,), role=READER)
def blob_list(
    azure: Azure,
    container: ContainerArgs,
    wanted: FilterArgs,
    paging: PagingArgs,
    prefix: Text | None = None,
    delimiter: Text | None = None,
    include: Annotated[list[str], listed(choice(*INCLUDES))] | None = None,
) -> CommandResults:
    """Filters while it pages, so that only what is wanted is ever held."""
    service, name = container
    everything = not any(value is not None for value in wanted)
    size = min(paging.limit, 5000) if everything and not paging.all_results and not paging.start else 5000
    query = {
        "prefix": prefix,
        "delimiter": delimiter,
        "include": ",".join(include) if include else None,
        "maxresults": size,
    }
    pages = service.rows(name, query, paging.start["url"] if paging.start else "")
    listing = collect(pages, paging, None if everything else lambda row: row.get("isPrefix") or wanted.fits(row))
    result, items = show_list(BLOBS_VIEW, listing), listing.items
    blobs = [item for item in items if not item.get("isPrefix")]
    folders = len(items) - len(blobs)
    total = (
        f"{len(blobs)} blobs"
        + (f" and {folders} folders" if folders else "")
        + f", {sum(item.get('size', 0) for item in blobs)} bytes."
    )
    result.readable_output = f"{result.readable_output}\n{total}\n"
    return result


@command("azure-storage-blob-get", needs=(READ_BLOB,), role=READER)
def blob_get(
    azure: Azure,
    blob: Annotated[
        Any,
        Group(
            VERSIONED_BLOBS,
            lambda azure, given: build_blobs(azure, given),
        ),
    ],
    range: Annotated[tuple[int, int | None], Reader("bytes such as 0-1023 or 4096-", lambda text: read_range(text))]
    | None = None,
    max_size: Size = 1 << 30,
) -> list[Any]:
    """Each blob becomes a file entry; hashes are computed while it is read, never from a copy in memory."""
    if range and len(blob) > 1:
        raise UsageError("Argument range: it goes with one blob, not with several.")
    support_multithreading()
    start, end = range or (0, None)
    jobs = [(each, f"download_{demisto.uniqueFile()}") for each in blob]

    def read(job: tuple[BlobRef, str]) -> Download:
        return Downloader(job[0], start, end, parallel=len(blob) == 1).run(job[1], max_size)

    results: list[Any] = []
    rows = []
    for each, found in zip(blob, in_order(read, jobs), strict=True):
        entry = file_result_existing_file(found.path, safe_file_name(each.name))
        facts = {
            "sha256": found.sha256,
            "md5": found.md5,
            "size": found.size,
            "verified": found.verified,
            "fileName": entry["File"],
        }
        rows.append({**each.identity(), **found.properties, **facts})
        results.append(entry)
    columns = {**BLOB_VIEW.columns, "SHA-256": "sha256", "Verified": "verified"}
    view = BLOB_VIEW._replace(columns=columns)
    return [
        CommandResults(
            outputs={view.context: rows},
            readable_output=table(view, rows[:DEFAULT_LIMIT], note=f"{len(rows)} blobs read."),
            raw_response=rows,
        ),
        *results,
    ]


def read_range(text: str) -> tuple[int, int | None]:
    found = re.fullmatch(r"(?:bytes=)?(\d{1,15})-(\d{0,15})", text.replace(" ", ""))
    if not found or (found[2] and int(found[2]) < int(found[1])):
        raise ValueError
    return int(found[1]), int(found[2]) if found[2] else None


def build_blobs(azure: Azure, given: dict[str, Any]) -> list[BlobRef]:
    """One blob, or those that blob_names lists."""
    names = given.pop("blob_names")
    if not names:
        return [build_blob(azure, given)]
    if given["blob_name"] or given["version_id"] or given["snapshot"]:
        raise UsageError("Argument blob_names: it stands in place of blob_name, version_id and snapshot.")
    service, container = build_container(azure, given)
    return [BlobRef(service, container, name) for name in names]


class Upload(NamedTuple):
    """A blob to be written from a file, or from a text."""

    blob: BlobRef
    path: str
    text: str | None = None


def build_uploads(azure: Azure, given: dict[str, Any]) -> list[Upload]:
    """One blob from a file or a text, or several files, each under its own name in the folder that blob_name names."""
    entry, entries, text = (given.pop(name) for name in ("file_entry_id", "file_entry_ids", "text"))
    if sum((entry is not None, bool(entries), text is not None)) != 1:
        raise UsageError("Argument file_entry_id, file_entry_ids or text: give one of the three.")
    if not entries:
        return [Upload(build_blob(azure, given), entry_file(entry)["path"] if entry else "", text)]
    service, container = build_container(azure, given)
    folder = f"{given['blob_name'].rstrip('/')}/" if given["blob_name"] else ""
    files = [entry_file(each) for each in entries]
    return [Upload(BlobRef(service, container, folder + parse_blob_name(file["name"])), file["path"]) for file in files]


def entry_file(entry_id: str) -> dict[str, str]:
    """Path and name of a war-room file. UsageError for an unknown entry."""
    try:
        return dict(demisto.getFilePath(entry_id))
    except ValueError:
        raise UsageError(f"Argument file_entry_id: {entry_id!r} is not a file of this investigation.") from None


UPLOAD_ARGUMENTS = {
    "file_entry_id": optional(Text),
    "file_entry_ids": optional(Annotated[list[str], listed(Reader("entry ids of war-room files", str))]),
    "text": optional(Text),
}
UploadArgs = Annotated[list[Upload], Group({**BLOB_ARGUMENTS, **UPLOAD_ARGUMENTS}, build_uploads)]


@command("azure-storage-blob-put", needs=(WRITE_BLOB, ADD_BLOB), role=CONTRIBUTOR, changes=True)
def blob_put(
    azure: Azure,
    uploads: UploadArgs,
    content_type: Text | None = None,
    metadata: Metadata | None = None,
    tags: BlobTags | None = None,
    tier: Tier | None = None,
    overwrite: Flag = False,
    dry_run: Flag = False,
) -> CommandResults:
    """The old blob stays whole until the new one is complete. Tags need the role Storage Blob Data Owner."""
    one = uploads[0].blob if len(uploads) == 1 else None
    before = blob_if_there(one) if one else None
    if before and not overwrite and not dry_run:
        raise UsageError(f"Blob {one} is there already: choose another name, or give overwrite=true.")
    target = one.id if one else container_id(uploads[0].blob)
    change = Change(target, {"etag": before.get("etag") if before else None}, {"etag": "new"}, dry_run)
    if dry_run:
        return show_change(azure, BLOB_VIEW, before, change)
    headers = {
        "x-ms-access-tier": tier,
        "x-ms-tags": urllib.parse.urlencode(tags, quote_via=urllib.parse.quote) if tags else None,
        "If-None-Match": None if overwrite else "*",
        **{f"x-ms-meta-{key}": value for key, value in (metadata or {}).items()},
    }
    facts = given_only({"tier": tier, "metadata": metadata, "tags": tags})
    support_multithreading()
    rows = [{**row, **facts} for row in in_order(lambda each: write_blob(each, content_type, headers), uploads)]
    if one:
        change = change._replace(after={"etag": rows[0].get("etag"), "sha256": rows[0]["sha256"]})
        return show_change(azure, BLOB_VIEW, rows[0], change)
    outputs = {
        BLOB_VIEW.context: rows,
        "AzureStorage.Change": change._replace(after={"blobs": len(rows)}).context(azure.command),
    }
    return CommandResults(
        outputs=outputs,
        readable_output=table(BLOB_VIEW, rows[:DEFAULT_LIMIT], note=f"{len(rows)} blobs written."),
        raw_response=rows,
    )


def container_id(blob: BlobRef) -> str:
    return blob.service.http.endpoint + blob_path(blob.container)


def write_blob(job: Upload, content_type: str | None, headers: Json) -> Json:
    """Write one blob. Returns its row for context."""
    usual = "text/plain; charset=utf-8" if job.text is not None else "application/octet-stream"
    kind = content_type or mimetypes.guess_type(job.blob.name)[0] or usual
    path = job.path
    if job.text is not None:
        path = f"upload_{uuid.uuid4()}"
        Path(path).write_bytes(job.text.encode())
    try:
        facts = upload(job.blob, path, {**headers, "x-ms-blob-content-type": kind})
    finally:
        if job.text is not None:
            Path(path).unlink()
    return {**job.blob.identity(), "contentType": kind, "type": "BlockBlob", **facts}


def blob_if_there(blob: BlobRef) -> Json | None:
    try:
        return blob.service.properties(blob)
    except ServiceError as error:
        if error.status == 404 and error.code in ("BlobNotFound", ""):
            return None
        raise


DeleteArgs = Annotated[
    Any,
    Group(
        {
            **BLOB_ARGUMENTS,
            **VERSION_ARGUMENTS,
            "blob_names": optional(BlobNames),
            "prefix": optional(Text),
            "confirm_all": optional(Flag, False),
        },
        lambda azure, given: build_deletion(azure, given),
    ),
]


def build_deletion(azure: Azure, given: dict[str, Any]) -> list[BlobRef] | tuple[BlobService, str, str]:
    """The blobs that are named, or a service, a container and a prefix. An empty prefix means all and must be confirmed."""
    prefix, confirmed = given.pop("prefix"), given.pop("confirm_all")
    if prefix is None and not confirmed:
        return build_blobs(azure, given)
    if given["blob_name"] or given["blob_names"]:
        raise UsageError("Argument prefix: it stands in place of blob_name and blob_names.")
    service, container = build_container(azure, given)
    return service, container, prefix or ""


@command("azure-storage-blob-delete", needs=(DELETE_BLOB, READ_BLOB), role=CONTRIBUTOR, hurts=True)
def blob_delete(
    azure: Azure,
    blobs: DeleteArgs,
    delete_snapshots: Annotated[str, choice("include", "only")] | None = None,
    lease_id: LeaseId | None = None,
    dry_run: Flag = False,
) -> CommandResults:
    """One blob, several, or all with a prefix; with confirm_all=true and no prefix, all of the container."""
    headers = given_only({"x-ms-delete-snapshots": delete_snapshots, "x-ms-lease-id": lease_id})
    if isinstance(blobs, tuple):
        service, container, prefix = blobs
        pages = service.rows(container, {"prefix": prefix or None, "maxresults": 5000})
        blobs = [BlobRef(service, container, row["name"]) for rows, _, _ in pages for row in rows]
    rows: list[Json] = []
    for start in range(0, len(blobs), BATCH_LIMIT):
        batch = blobs[start : start + BATCH_LIMIT]
        outcomes: list[ServiceError | None] = [None] * len(batch) if dry_run else delete_batch(batch, headers)
        for blob, error in zip(batch, outcomes, strict=True):
            missed = error is not None and error.status == 404
            words = (
                "would be deleted"
                if dry_run
                else "was not there"
                if missed
                else f"{error.status} {error.code}"
                if error
                else "deleted"
            )
            rows.append({**blob.identity(), "result": words, "deleted": error is None and not dry_run})
    failed = [row for row in rows if not row["deleted"] and row["result"] not in ("would be deleted", "was not there")]
    if rows and len(failed) == len(rows) and len(rows) == 1:
        raise outcomes[0] or AzureStorageError("the deletion failed")
    gone = sum(row["deleted"] for row in rows)
    target = rows[0]["id"] if len(rows) == 1 else ""
    change = Change(target, {"blobs": len(rows)} if gone else {}, {"blobs": len(rows) - gone} if gone else {}, dry_run)
    counts = f"{gone} deleted, {len(failed)} failed, {len(rows)} in all." + (
        " Dry run: nothing was deleted." if dry_run else ""
    )
    view = View("Blob", "Azure Storage Blobs deleted", {"Name": "name", "Container": "container", "Result": "result"})
    outputs = {view.context: rows, "AzureStorage.Change": change.context(azure.command)}
    return CommandResults(
        outputs=outputs, readable_output=table(view, rows[:DEFAULT_LIMIT], note=counts), raw_response=rows
    )


def delete_batch(batch: list[BlobRef], headers: Json) -> list[ServiceError | None]:
    """A batch takes one request; a single blob does not need one, and keeps its own error's words."""
    if len(batch) > 1:
        return batch[0].service.delete_many(batch, headers)
    try:
        batch[0].service.delete(batch[0], headers)
    except ServiceError as error:
        return [error]
    return [None]


UNDELETE_VIEW = View(
    "Blob", "Azure Storage Blobs restored", {"Name": "name", "Container": "container", "Result": "result"}
)


@command("azure-storage-blob-undelete", needs=(WRITE_BLOB, READ_BLOB), role=CONTRIBUTOR, changes=True)
def blob_undelete(azure: Azure, blobs: DeleteArgs, dry_run: Flag = False) -> CommandResults:
    """One blob, several, or all deleted ones with a prefix; with confirm_all=true and no prefix, all of the container."""
    if isinstance(blobs, list) and len(blobs) == 1:
        item, before, after = restore_blob(blobs[0], dry_run)
        return show_change(azure, BLOB_VIEW, item, Change(blobs[0].current.id, before, after, dry_run))
    if isinstance(blobs, tuple):
        service, container, prefix = blobs
        pages = service.rows(container, {"prefix": prefix or None, "include": "deleted,deletedwithversions"})
        gone = [row for rows, _, _ in pages for row in rows if row.get("deleted") or row.get("hasVersionsOnly")]
        blobs = [BlobRef(service, container, name) for name in dict.fromkeys(row["name"] for row in gone)]
        target = service.http.endpoint + blob_path(container)
    else:
        target = container_id(blobs[0])
    support_multithreading()
    rows = list(in_order(lambda blob: restored_row(blob, dry_run), blobs))
    count = sum(row["result"] in ("restored", "would be restored") for row in rows)
    change = Change(target, {"restored": 0} if count else {}, {"restored": count} if count else {}, dry_run)
    failed = sum(row["result"] not in ("restored", "would be restored", "was there") for row in rows)
    note = f"{count} of {len(rows)} blobs, {failed} failed." if rows else "There is no deleted blob to restore."
    return show_changes(azure, UNDELETE_VIEW, rows, change, note)


def restored_row(blob: BlobRef, dry_run: bool) -> Json:
    """What became of one blob among several."""
    try:
        _, _, after = restore_blob(blob, dry_run)
    except ServiceError as error:
        return {**blob.identity(), "result": f"{error.status} {error.code}"}
    return {**blob.identity(), "result": "was there" if not after else "would be restored" if dry_run else "restored"}


def restore_blob(blob: BlobRef, dry_run: bool) -> tuple[Json | None, Json, Json]:
    """Restores a soft-deleted blob with its snapshots; where the account keeps versions, copies the newest or the given
    version over the blob, which is how a version is promoted. Returns the blob if it is there, before and after."""
    live = blob.current
    found = blob_if_there(live)
    if found and not blob.version:
        return found, {}, {}
    version = blob.version or newest_version(live)
    if not dry_run and version:
        live.service.copy(live, blob.service.blob_id(blob.container, blob.name, version), {}, wait=False)
    elif not dry_run:
        live.service.undelete(live)
    after = {"exists": True, **({"fromVersion": version} if version else {})}
    return found if dry_run else live.service.properties(live), {"exists": found is not None}, after


def newest_version(blob: BlobRef) -> str:
    """The newest version of a blob that is gone; empty where the account keeps none."""
    pages = blob.service.rows(blob.container, {"prefix": blob.name, "include": "versions,deletedwithversions"})
    versions = [
        row["versionId"] for rows, _, _ in pages for row in rows if row["name"] == blob.name and row.get("versionId")
    ]
    return max(versions, default="")


@command("azure-storage-blob-properties-get", needs=(READ_BLOB,), role=READER)
def blob_properties_get(azure: Azure, blob: VersionArgs) -> CommandResults:
    return show(BLOB_VIEW, blob.service.properties(blob), title="Azure Storage Blob properties")


CONTENT_HEADERS = {
    "content_type": ("contentType", "x-ms-blob-content-type"),
    "content_encoding": ("contentEncoding", "x-ms-blob-content-encoding"),
    "content_language": ("contentLanguage", "x-ms-blob-content-language"),
    "content_disposition": ("contentDisposition", "x-ms-blob-content-disposition"),
    "cache_control": ("cacheControl", "x-ms-blob-cache-control"),
    "content_md5": ("md5", "x-ms-blob-content-md5"),
}


def build_headers(azure: Any, given: dict[str, Any]) -> Json:
    return {CONTENT_HEADERS[name][0]: value for name, value in given.items() if value is not None}


HeaderArgs = Annotated[
    Json,
    Group(
        {
            name: optional(
                Annotated[str, Reader("an MD5 in hexadecimal or base64", read_md5)] if name == "content_md5" else Text
            )
            for name in CONTENT_HEADERS
        },
        build_headers,
    ),
]


@command("azure-storage-blob-properties-set", needs=(READ_BLOB, WRITE_BLOB), role=CONTRIBUTOR, changes=True)
def blob_properties_set(
    azure: Azure, blob: BlobArgs, wanted: HeaderArgs, lease_id: LeaseId | None = None, dry_run: Flag = False
) -> CommandResults:
    """Keeps what is not given, which the service would clear."""
    current = blob.service.properties(blob)
    before = {name: current.get(name) for name in wanted if current.get(name) != wanted[name]}
    change = Change(blob.id, before, {name: wanted[name] for name in before}, dry_run)
    if change.needed and not dry_run:
        whole = {header: wanted.get(name, current.get(name)) for name, header in CONTENT_HEADERS.values()}
        if whole["x-ms-blob-content-md5"]:
            whole["x-ms-blob-content-md5"] = base64.b64encode(bytes.fromhex(whole["x-ms-blob-content-md5"])).decode()
        blob.service.set_properties(blob, {**whole, "x-ms-lease-id": lease_id, "If-Match": f'"{current["etag"]}"'})
        current = blob.service.properties(blob)
    return show_change(azure, BLOB_VIEW, current, change)


@command("azure-storage-blob-metadata-set", needs=(READ_BLOB, WRITE_BLOB), role=CONTRIBUTOR, changes=True)
def blob_metadata_set(
    azure: Azure,
    blob: BlobArgs,
    metadata: Metadata,
    replace: Flag = False,
    lease_id: LeaseId | None = None,
    dry_run: Flag = False,
) -> CommandResults:
    """Adds to the metadata, or replaces it."""
    current = blob.service.properties(blob)
    old = current["metadata"]
    new = metadata if replace else {**old, **metadata}
    change = Change(blob.id, {"metadata": old}, {"metadata": new}, dry_run)
    if change.needed and not dry_run:
        blob.service.set_metadata(blob, new, {"x-ms-lease-id": lease_id, "If-Match": f'"{current["etag"]}"'})
        current = blob.service.properties(blob)
    return show_change(azure, BLOB_VIEW, current, change)


@command("azure-storage-blob-tags-get", needs=(READ_TAGS,), role=OWNER)
def blob_tags_get(azure: Azure, blob: VersionArgs) -> CommandResults:
    return show(BLOB_TAGS_VIEW, {**blob.identity(), "tags": blob.service.tags(blob)})


@command("azure-storage-blob-tags-set", needs=(READ_TAGS, WRITE_TAGS), role=OWNER, changes=True)
def blob_tags_set(
    azure: Azure, blob: VersionArgs, tags: BlobTags, replace: Flag = False, dry_run: Flag = False
) -> CommandResults:
    """Adds to the tags, or replaces them."""
    old = blob.service.tags(blob)
    new = tags if replace else {**old, **tags}
    if len(new) > 10:
        raise UsageError(
            f"Argument tags: the blob would have {len(new)} tags, and 10 are possible; give replace=true or fewer."
        )
    change = Change(blob.id, {"tags": old}, {"tags": new}, dry_run)
    if change.needed and not dry_run:
        blob.service.set_tags(blob, new)
    shown_tags = old if dry_run else new
    return show_change(azure, BLOB_TAGS_VIEW, {**blob.identity(), "tags": shown_tags}, change)


@command("azure-storage-blob-find", needs=(FIND_BLOBS,), role=OWNER)
def blob_find(
    azure: Azure,
    service: ServiceArgs,
    paging: PagingArgs,
    expression: Text | None = None,
    tag: TagFilter | None = None,
    container_name: Container | None = None,
) -> CommandResults:
    """By an expression such as "case"='1234', or by one tag, whose quoting is done here."""
    if (expression is None) == (tag is None):
        raise UsageError("Argument expression or tag: give one of the two.")
    where = expression or "\"{}\"='{}'".format(*tag)  # type: ignore[misc]
    items: list[Json] = []
    marker = paging.start["url"] if paging.start else ""
    while True:
        size = 5000 if paging.all_results else min(5000, paging.limit - len(items))
        rows, marker = service.find(where, container_name or "", marker, size)
        items += rows
        if not marker or (not paging.all_results and len(items) >= paging.limit):
            return show_list(FOUND_BLOBS_VIEW, Listing(items, place_token(marker, 0) if marker else ""))


@command("azure-storage-blob-snapshot-create", needs=(READ_BLOB, WRITE_BLOB), role=CONTRIBUTOR, changes=True)
def blob_snapshot_create(
    azure: Azure,
    blob: BlobArgs,
    metadata: Metadata | None = None,
    lease_id: LeaseId | None = None,
    dry_run: Flag = False,
) -> CommandResults:
    current = blob.service.properties(blob)
    change = Change(blob.id, {"snapshot": None}, {"snapshot": "new"}, dry_run)
    if dry_run:
        return show_change(azure, BLOB_VIEW, current, change)
    headers = {
        "x-ms-lease-id": lease_id,
        "If-Match": f'"{current["etag"]}"',
        **{f"x-ms-meta-{key}": value for key, value in (metadata or {}).items()},
    }
    taken = blob.service.snapshot(blob, headers)["snapshot"]
    found = blob._replace(snapshot=taken)
    view = BLOB_VIEW._replace(columns={**BLOB_VIEW.columns, "Snapshot": "snapshot"})
    return show_change(
        azure,
        view,
        {**current, **found.identity()},
        change._replace(after={"snapshot": taken}),
    )


@command("azure-storage-blob-tier-set", needs=(READ_BLOB, WRITE_BLOB), role=CONTRIBUTOR, changes=True)
def blob_tier_set(
    azure: Azure,
    blob: VersionArgs,
    tier: Tier,
    rehydrate_priority: Annotated[str, choice("Standard", "High")] | None = None,
    dry_run: Flag = False,
) -> CommandResults:
    current = blob.service.properties(blob)
    same_tier = current.get("tier") == tier and not current.get("tierInferred")
    change = Change(
        blob.id, {} if same_tier else {"tier": current.get("tier")}, {} if same_tier else {"tier": tier}, dry_run
    )
    pending = (
        change.needed
        and not dry_run
        and blob.service.set_tier(blob, tier, {"x-ms-rehydrate-priority": rehydrate_priority})
    )
    note = (
        "The blob is on its way out of the archive, which takes hours; archiveStatus tells when it is there."
        if pending
        else ""
    )
    if change.needed and not dry_run:
        current = blob.service.properties(blob)
    return show_change(azure, BLOB_VIEW, current, change, note)


@command("azure-storage-blob-lease", needs=(READ_BLOB, WRITE_BLOB), role=CONTRIBUTOR, changes=True)
def blob_lease(azure: Azure, blob: BlobArgs, lease: LeaseArgs, dry_run: Flag = False) -> CommandResults:
    """A lease keeps everybody else from writing or deleting the blob."""
    current = blob.service.properties(blob)
    old, planned = current.get("leaseState"), LEASE_STATES[lease.action]
    change = Change(blob.id, {"leaseState": old}, {"leaseState": planned}, dry_run)
    found: Json = {}
    if not dry_run:
        headers = {
            "x-ms-lease-id": lease.lease_id,
            "x-ms-proposed-lease-id": lease.proposed_lease_id,
            "x-ms-lease-duration": lease.duration if lease.action == "acquire" else None,
            "x-ms-lease-break-period": lease.break_period if lease.action == "break" else None,
        }
        found = blob.service.lease(blob, lease.action, headers)
        current = blob.service.properties(blob)
        change = change._replace(after={"leaseState": current.get("leaseState"), **found})
    columns = {"Name": "name", "Container": "container", "Lease State": "leaseState", "Lease ID": "leaseId"}
    return show_change(azure, BLOB_VIEW._replace(columns=columns), {**current, **found}, change)


@command(
    "azure-storage-blob-legal-hold-set",
    needs=(READ_BLOB, HOLD_BLOB),
    role=OWNER,
    changes=True,
)
def blob_legal_hold_set(azure: Azure, blob: VersionArgs, legal_hold: Flag, dry_run: Flag = False) -> CommandResults:
    """Only in containers with version-level immutability; others take a hold on the whole container."""
    current = blob.service.properties(blob)
    old = bool(current.get("legalHold"))
    change = Change(
        blob.id,
        {} if old == legal_hold else {"legalHold": old},
        {} if old == legal_hold else {"legalHold": legal_hold},
        dry_run,
    )
    if change.needed and not dry_run:
        blob.service.set_legal_hold(blob, legal_hold)
        current = blob.service.properties(blob)
    view = BLOB_VIEW._replace(columns={"Name": "name", "Container": "container", "Legal Hold": "legalHold"})
    return show_change(azure, view, current, change)


class CopySource(NamedTuple):
    """Where a copy comes from: a blob that we can look at, or a URL that may carry a SAS."""

    blob: BlobRef | None
    url: Secret


COPY_SOURCE_ARGUMENTS = {
    "source_url": optional(
        Annotated[
            Secret,
            Reader(
                "the https address of a blob, with a SAS if it needs one",
                lambda text: read_source_url(text),
                secret=True,
            ),
        ]
    ),
    "source_account_name": optional(Account),
    "source_container_name": optional(Container),
    "source_blob_name": optional(BlobName),
    "source_version_id": optional(Text),
    "source_snapshot": optional(Text),
}


def read_source_url(text: str) -> Secret:
    text = text.strip().strip("\"'`")
    if not parse_blob_url(text).blob:
        raise ValueError
    for pair in urllib.parse.urlsplit(text).query.split("&"):
        if pair.startswith("sig="):
            remember_secret(pair[4:])
            remember_secret(urllib.parse.unquote(pair[4:]))
    return Secret(text)


def build_copy(azure: Azure, given: dict[str, Any]) -> tuple[BlobRef, CopySource]:
    """The target, and the source by names (the target's account unless told otherwise) or by URL."""
    own = {name[7:]: given.pop(name) for name in list(given) if name.startswith("source_")}
    target = build_blob(azure, given)
    if own["url"]:
        if own["blob_name"] or own["container_name"]:
            raise UsageError("Argument source_url: it stands in place of source_container_name and source_blob_name.")
        return target, CopySource(None, own["url"])
    if not own["blob_name"]:
        raise UsageError("Argument source_blob_name is missing: give it, or a source_url.")
    account = own["account_name"] or AccountClue(target.service.account)
    scope = {name: given[name] for name in SCOPE_ARGUMENTS}
    names = {
        "container_name": own["container_name"] or target.container,
        "blob_name": own["blob_name"],
        "version_id": own["version_id"],
        "snapshot": own["snapshot"],
    }
    return target, CopySource(
        build_blob(azure, {**names, **scope, "account_name": account, "blob_url": None}), Secret("")
    )


CopyArgs = Annotated[Any, Group({**BLOB_ARGUMENTS, **COPY_SOURCE_ARGUMENTS}, build_copy)]


@command("azure-storage-blob-copy", needs=(READ_BLOB, WRITE_BLOB, ADD_BLOB), role=CONTRIBUTOR, changes=True)
def blob_copy(
    azure: Azure,
    blobs: CopyArgs,
    tier: Tier | None = None,
    metadata: Metadata | None = None,
    overwrite: Flag = False,
    abort_copy_id: Text | None = None,
    dry_run: Flag = False,
    polling: Flag = True,
    interval_in_seconds: Seconds = 15,
    timeout_in_seconds: Seconds = 3600,
    copy_id: Text | None = None,
) -> CommandResults:
    """A server-side copy: no byte passes through here. The source's ETag is pinned, so that it cannot change underway."""
    target, source = blobs
    if abort_copy_id:
        return abort_copy(azure, target, abort_copy_id, dry_run)
    if not copy_id:
        before = blob_if_there(target)
        if before and not overwrite:
            raise UsageError(f"Blob {target} is there already: choose another name, or give overwrite=true.")
        change = Change(target.id, {"etag": before.get("etag") if before else None}, {"etag": "new"}, dry_run)
        if dry_run:
            return show_change(azure, BLOB_VIEW, before, change)
        start_copy(target, source, tier, metadata or {}, overwrite)
    current = target.service.properties(target)
    status = current.get("copyStatus", "success")
    if status == "pending" and polling:
        return keep_copying(azure, target, source, current, interval_in_seconds, timeout_in_seconds, first=not copy_id)
    if status not in ("success", "pending"):
        raise AzureStorageError(
            f"The copy to blob {target} ended with {status}: {current.get('copyStatusDescription', '')}",
            "look at the source and copy again.",
        )
    view = BLOB_VIEW._replace(columns={**BLOB_VIEW.columns, "Copy Status": "copyStatus", "Copy ID": "copyId"})
    return show_change(azure, view, current, Change(target.id, {"etag": None}, {"etag": current.get("etag")}))


def start_copy(
    target: BlobRef,
    source: CopySource,
    tier: str | None,
    metadata: Mapping[str, str],
    overwrite: bool,
    found: Json | None = None,
) -> None:
    """found: the properties of the source, where the caller has read them; their ETag is what is copied."""
    headers: Json = {
        "x-ms-access-tier": tier,
        "If-None-Match": None if overwrite else "*",
        **{f"x-ms-meta-{key}": value for key, value in metadata.items()},
    }
    if not source.blob:
        target.service.copy(target, source.url.reveal(), headers, wait=False)
        return
    found = found or source.blob.service.properties(source.blob)
    headers["x-ms-source-if-match"] = f'"{found["etag"]}"'
    address, small = source.blob.id, found["size"] <= SYNC_COPY_SIZE
    if source.blob.service.account == target.service.account:
        target.service.copy(target, address, headers, wait=False)
        return
    # Another account cannot use our token: it gets a short read-only SAS, which is shown to nobody.
    # The SAS of a blob does not reach its versions and snapshots; that of the container does.
    name = source.blob.name if source.blob == source.blob.current else ""
    sas = delegation_sas(source.blob.service, source.blob.container, name, "r", Clock.now() + 86_400)
    target.service.copy(target, f"{address}{'&' if '?' in address else '?'}{sas}", headers, wait=small)


def keep_copying(
    azure: Azure, target: BlobRef, source: CopySource, current: Json, interval: int, timeout: int, *, first: bool
) -> CommandResults:
    args = {
        "account_name": target.service.account,
        "container_name": target.container,
        "blob_name": target.name,
        "source_blob_name": source.blob.name if source.blob else target.name,
        "copy_id": current["copyId"],
        "interval_in_seconds": str(interval),
        "timeout_in_seconds": str(timeout),
    }
    text = (
        f"Azure is copying to {target} ({current.get('copyProgress', '')} bytes); this command ends when it is done."
        if first
        else ""
    )
    return poll_again(azure.command, args, text, interval, timeout)


def abort_copy(azure: Azure, target: BlobRef, copy_id: str, dry_run: bool) -> CommandResults:
    current = target.service.properties(target)
    change = Change(target.id, {"copyStatus": current.get("copyStatus")}, {"copyStatus": "aborted"}, dry_run)
    if not dry_run:
        target.service.abort_copy(target, copy_id, {})
        current = target.service.properties(target)
    return show_change(azure, BLOB_VIEW, current, change, "An aborted copy leaves an empty blob.")


# Quarantine

QUARANTINE_VIEW = View(
    "Quarantine",
    "Azure Storage blob quarantine",
    {
        "Blob": "source.name",
        "Result": "result",
        "Evidence": "evidence.id",
        "Size": "source.size",
        "SHA-256": "evidence.sha256",
        "Verified": "verified",
        "Protected by": "protection",
        "Source deleted": "sourceDeleted",
    },
)
HASH_LIMIT = 1 << 30  # bytes; a larger evidence copy is not read back for its SHA-256
CaseId = Annotated[
    str, Reader("1 to 64 letters, digits and - . _", lambda text: matching(re.compile(r"[\w.-]{1,64}", re.ASCII), text))
]
QUARANTINE_ARGUMENTS = {
    **VERSIONED_BLOBS,
    "evidence_container_name": required(Container),
    "evidence_account_name": optional(Account),
}


class QuarantineJob(NamedTuple):
    """The blobs to be secured, and the container that takes the copies."""

    blobs: list[BlobRef]
    evidence: BlobService
    container: str


def build_quarantine(azure: Azure, given: dict[str, Any]) -> QuarantineJob:
    container, account = given.pop("evidence_container_name"), given.pop("evidence_account_name")
    blobs = build_blobs(azure, given)
    service = blobs[0].service
    if account and account.name != service.account:
        scope = {"subscription_id": account.subscription or None, "resource_group_name": account.group or None}
        service = build_service(azure, {**given, **scope, "account_name": account, "blob_url": None})
    if service.account == blobs[0].service.account and container == blobs[0].container:
        raise UsageError("Argument evidence_container_name: it is the container of the blob; choose another.")
    return QuarantineJob(blobs, service, container)


@command(
    "azure-storage-blob-quarantine",
    needs=(READ_BLOB, WRITE_BLOB, ADD_BLOB, DELETE_BLOB, WRITE_TAGS, HOLD_BLOB),
    role=OWNER,
    hurts=True,
)
def blob_quarantine(
    azure: Azure,
    job: Annotated[QuarantineJob, Group(QUARANTINE_ARGUMENTS, build_quarantine)],
    case_id: CaseId,
    delete_source: Flag = False,
    legal_hold: Flag = True,
    sha256: Flag = True,
    dry_run: Flag = False,
    polling: Flag = True,
    interval_in_seconds: Seconds = 15,
    timeout_in_seconds: Seconds = 7200,
    later_round: Flag = False,
) -> CommandResults:
    """Secures blobs as evidence: copy, verify, tag, hold, and only then, when asked, delete the source.

    All that a later round has to know is on the evidence blob itself, so that the command can be run again at any time.
    """
    work = Quarantine(azure, job, case_id, delete_source, legal_hold, sha256)
    rows = [work.rehearse(blob) if dry_run else work.secure(blob) for blob in job.blobs]
    if any(row["result"] == "copying" for row in rows) and polling:
        args = quarantine_arguments(job, case_id, delete_source, legal_hold, sha256)
        args |= {"interval_in_seconds": str(interval_in_seconds), "timeout_in_seconds": str(timeout_in_seconds)}
        text = (
            ""
            if later_round
            else f"Azure is copying {len(rows)} blobs to {job.container}; this command ends when it is done."
        )
        return poll_again(azure.command, args, text, interval_in_seconds, timeout_in_seconds)
    failed = [row for row in rows if row["result"] == "failed"]
    done = {row["source"]["id"]: row["result"] for row in rows if row["changed"]}
    change = Change(job.evidence.http.endpoint + blob_path(job.container), dict.fromkeys(done), done, dry_run)
    note = f"{len(failed)} failed: look at their events." if failed else ""
    result = show_changes(azure, QUARANTINE_VIEW, rows, change, note)
    if failed:
        result.entry_type = EntryType.WARNING
    if len(failed) == len(rows):  # an error for the playbook, whose record goes into context all the same
        result.entry_type, result.raw_response = EntryType.ERROR, explain(work.failures[0], azure.command)
    return result


def quarantine_arguments(job: QuarantineJob, case_id: str, delete_source: bool, legal_hold: bool, sha256: bool) -> Json:
    first = job.blobs[0]
    one = {"blob_name": first.name, "version_id": first.version, "snapshot": first.snapshot}
    return {
        "account_name": first.service.account,
        "container_name": first.container,
        **(one if len(job.blobs) == 1 else {"blob_names": json.dumps([blob.name for blob in job.blobs])}),
        "evidence_account_name": job.evidence.account,
        "evidence_container_name": job.container,
        "case_id": case_id,
        "delete_source": as_text(delete_source),
        "legal_hold": as_text(legal_hold),
        "sha256": as_text(sha256),
        "later_round": "true",
    }


# What the evidence blob remembers of its source, as metadata.
PINNED = {
    "etag": "quarantine_source_etag",
    "size": "quarantine_source_size",
    "md5": "quarantine_source_md5",
    "lastModified": "quarantine_source_modified",
}


FALSE_MD5 = "the MD5 that the uploader stored does not fit the content"


class Quarantine:
    """Secures one blob after the other, and writes down what happened to each."""

    def __init__(
        self, azure: Azure, job: QuarantineJob, case_id: str, delete_source: bool, legal_hold: bool, sha256: bool
    ) -> None:
        self.azure, self.job, self.case_id = azure, job, case_id
        self.delete_source, self.legal_hold, self.sha256 = delete_source, legal_hold, sha256
        self.failures: list[AzureStorageError] = []
        for blob in job.blobs:
            self.evidence_of(blob)  # a name that cannot be is told before anything is done
        self.actor = str(azure.auth.identity().get("identity") or "") or azure.settings.app_id

    def evidence_of(self, blob: BlobRef) -> BlobRef:
        """Where the copy goes: case, account, container and name, so that copies of different sources never meet."""
        suffix = f"@{blob.version or blob.snapshot}" if blob.version or blob.snapshot else ""
        name = f"{self.case_id}/{blob.service.account}/{blob.container}/{blob.name}{suffix}"
        if len(name) > 1024:
            raise UsageError(
                f"Argument blob_name: the evidence of {blob} would have a name of more than 1,024 characters."
            )
        return BlobRef(self.job.evidence, self.job.container, parse_blob_name(name))

    def rehearse(self, blob: BlobRef) -> Json:
        row = self._row(blob, blob.service.properties(blob))
        return {**row, "result": "would be secured", "changed": True}

    def secure(self, blob: BlobRef) -> Json:
        """One row of the custody record. A failure is written down and does not stop the others."""
        row = self._row(blob, {})
        try:
            self._secure(blob, row)
        except AzureStorageError as error:
            self.failures.append(error)
            self._event(row, "failed", redact(error.message))
            row["result"] = "failed"
        return row

    def _row(self, blob: BlobRef, properties: Json) -> Json:
        evidence = self.evidence_of(blob)
        return {
            "id": evidence.id,
            "case": self.case_id,
            "source": {**blob.identity(), **{key: properties[key] for key in PINNED if key in properties}},
            "evidence": evidence.identity(),
            "result": "",
            "verified": "",
            "protection": "",
            "sourceDeleted": False,
            "changed": False,
            "events": [],
        }

    def _event(self, row: Json, action: str, detail: str) -> None:
        row["events"].append({"time": iso_time(Clock.now()), "actor": self.actor, "action": action, "detail": detail})

    def _secure(self, blob: BlobRef, row: Json) -> None:
        evidence = self.evidence_of(blob)
        copy = blob_if_there(evidence)
        if copy is None:
            copy = self._copy(blob, evidence, row)
        else:
            self._same_source(blob, copy)
        pinned = {key: copy["metadata"][name] for key, name in PINNED.items() if name in copy["metadata"]}
        if "etag" not in pinned:
            raise AzureStorageError(
                f"Blob {evidence} is there already and is no copy of a quarantine.",
                "choose another case_id or container.",
            )
        row["source"] |= {**pinned, "size": int(pinned["size"])}
        if copy.get("copyStatus", "success") == "pending":
            row["result"] = "copying"
            return
        self._verify(evidence, copy, row)
        self._protect(evidence, copy, row)
        self._delete(blob, pinned["etag"], row)
        row["result"] = "secured" if row["changed"] else "was secured already"

    @staticmethod
    def _same_source(blob: BlobRef, copy: Json) -> None:
        """The evidence that is there must be of what the source is now, or the source must be gone."""
        source, pinned = blob_if_there(blob), copy["metadata"].get(PINNED["etag"])
        if source and pinned and source.get("etag") != pinned:
            raise AzureStorageError(
                f"Blob {blob} has changed since it was secured for this case; the new content is not secured.",
                "secure it under another case_id.",
            )

    def _copy(self, blob: BlobRef, evidence: BlobRef, row: Json) -> Json:
        """Begin the copy of exactly what is there now; the source's own metadata goes along."""
        source = blob.service.properties(blob)
        facts = {name: str(source[key]) for key, name in PINNED.items() if key in source}
        start_copy(
            evidence,
            CopySource(blob, Secret("")),
            None,
            {**source["metadata"], **facts, "quarantine_case": self.case_id},
            False,
            source,
        )
        row["changed"] = True
        self._event(row, "copied", f"{blob.id} of ETag {source['etag']} to {evidence.id}, by the service")
        return evidence.service.properties(evidence)

    def _verify(self, evidence: BlobRef, copy: Json, row: Json) -> None:
        """Compare what arrived with what was read of the source before. Raises if it differs; then nothing is deleted."""
        source = row["source"]
        if copy.get("copyStatus", "success") != "success":
            raise AzureStorageError(
                f"The copy to {evidence} ended with {copy['copyStatus']}: {copy.get('copyStatusDescription', '')}"
            )
        row["evidence"] |= {key: copy[key] for key in ("etag", "size", "md5", "lastModified") if key in copy}
        if copy["size"] != source["size"] or (source.get("md5") and copy.get("md5") != source["md5"]):
            raise AzureStorageError(
                f"The copy {evidence} differs from its source in length or MD5.", "delete it and secure the blob again."
            )
        row["verified"] = (
            "length and stored MD5" if source.get("md5") else "length; the service holds no MD5 of the source"
        )
        if self.sha256 and copy["size"] <= HASH_LIMIT:
            self._hash(evidence, row)
        self._event(row, "verified", row["verified"])

    def _hash(self, evidence: BlobRef, row: Json) -> None:
        path = Path(f"quarantine_{uuid.uuid4()}")
        try:
            found = Downloader(evidence).run(str(path), HASH_LIMIT)
        finally:
            path.unlink(missing_ok=True)
        row["evidence"] |= {"sha256": found.sha256, "md5": found.md5}
        if row["source"].get("md5", found.md5) != found.md5:
            # Whoever uploads a blob chooses the MD5 that is stored with it, and a copy takes that along.
            row["verified"] = f"length; {FALSE_MD5}"
        elif "md5" in row["source"]:
            row["verified"] = "length and MD5"

    def _protect(self, evidence: BlobRef, copy: Json, row: Json) -> None:
        """Tags for the case, and a legal hold; where the container takes none, a snapshot. What fails is written down."""
        tags = {"case": self.case_id, **({"sha256": row["evidence"]["sha256"]} if "sha256" in row["evidence"] else {})}
        try:
            old = evidence.service.tags(evidence)
            if not tags.items() <= old.items():
                evidence.service.set_tags(evidence, {**old, **tags})
                row["changed"] = True
                self._event(row, "tagged", ", ".join(f"{key}={value}" for key, value in tags.items()))
        except ServiceError as error:
            self._event(row, "not tagged", f"{error.status} {error.code}")
        if not self.legal_hold:
            return
        if copy.get("legalHold"):
            row["protection"] = "legal hold"
            return
        try:
            evidence.service.set_legal_hold(evidence, True)
            row.update(protection="legal hold", changed=True)
            self._event(row, "held", "legal hold")
        except ServiceError as error:
            self._event(row, "not held", f"{error.status} {error.code}: no legal hold is possible here")
            self._snapshot(evidence, row)

    def _snapshot(self, evidence: BlobRef, row: Json) -> None:
        """Once is enough: the listing tells whether the evidence has a snapshot."""
        rows = evidence.service.rows(evidence.container, {"prefix": evidence.name, "include": "snapshots"})
        taken = [
            item["snapshot"]
            for page, _, _ in rows
            for item in page
            if item["name"] == evidence.name and item.get("snapshot")
        ]
        if not taken:
            taken = [evidence.service.snapshot(evidence, {})["snapshot"]]
            row["changed"] = True
            self._event(row, "snapshot taken", taken[0])
        row["protection"] = f"snapshot {taken[0]}"

    def _delete(self, blob: BlobRef, etag: str, row: Json) -> None:
        """Only after the copy was verified, only when asked, and only if the source is still what was copied."""
        if not self.delete_source:
            return
        if FALSE_MD5 in row["verified"]:
            self._event(row, "source kept", FALSE_MD5)
            return
        there = blob_if_there(blob)
        row["sourceDeleted"] = True
        if there is None:
            return
        row["sourceDeleted"] = False
        pinned = {} if blob.version or blob.snapshot else {"If-Match": f'"{etag}"'}
        blob.service.delete(blob, pinned)
        row.update(sourceDeleted=True, changed=True)
        self._event(row, "source deleted", f"{blob.id} of ETag {etag}")


# Shared access signatures

# https://learn.microsoft.com/rest/api/storageservices/create-user-delegation-sas
PERMISSIONS = {
    "r": "read",
    "a": "add",
    "c": "create",
    "w": "write",
    "d": "delete",
    "x": "delete versions",
    "y": "delete permanently",
    "l": "list",
    "t": "tags",
    "f": "find by tags",
    "u": "update",
    "p": "process or change permissions",
    "m": "move",
    "e": "execute",
    "o": "change the owner",
    "i": "set immutability",
}
SAS_ORDER = "racwdxyltmeopi"
MAX_SAS_SECONDS = 7 * 86_400


def read_permissions(text: str) -> str:
    """Permission letters in the order that Azure wants, each once."""
    letters = set(text.lower())
    if not letters or not letters <= set(SAS_ORDER) or len(letters) != len(text):
        raise ValueError
    return "".join(letter for letter in SAS_ORDER if letter in letters)


def read_sas_ip(text: str) -> str:
    """An address or a range first-last."""
    parts = [str(ipaddress.IPv4Address(part.strip())) for part in text.split("-")]
    if len(parts) > 2:
        raise ValueError
    return "-".join(parts)


def read_hours(text: str) -> float:
    """Hours as a number, or a span such as 30m, 12h or 7d."""
    span = re.fullmatch(r"(\d{1,5}(?:\.\d+)?)\s*([mhd]?)", text.strip().lower())
    if not span:
        raise ValueError
    hours = float(span[1]) * {"m": 1 / 60, "h": 1, "d": 24, "": 1}[span[2]]
    if not 0 < hours * 3600 <= MAX_SAS_SECONDS:
        raise ValueError("at most 7 days")
    return hours


def delegation_sas(
    service: BlobService, container: str, blob: str, permissions: str, expiry: float, **more: str
) -> str:
    """A SAS signed with a key that Entra ID lends the signed-in identity; it can do no more than that identity.

    expiry in seconds since 1970, at most 7 days away. more: start, ip (both may be empty).
    """
    start, end = iso_time(Clock.now() - 300), iso_time(expiry)
    key = service.delegation_key(more.get("start") or start, end)
    fields = sas_fields(container, blob, permissions, more.get("start", ""), end, more.get("ip", ""))
    lent = {
        "skoid": key["SignedOid"],
        "sktid": key["SignedTid"],
        "skt": key["SignedStart"],
        "ske": key["SignedExpiry"],
        "sks": key["SignedService"],
        "skv": key["SignedVersion"],
    }
    lines = [
        fields["sp"],
        fields["st"],
        fields["se"],
        canonical_resource(service.account, container, blob),
        *lent.values(),
        "",
        "",
        "",
    ]
    lines += [fields["sip"], fields["spr"], fields["sv"], fields["sr"], *[""] * 7]
    return sas_query({**fields, **lent}, hmac_sha256(str(key["Value"]), "\n".join(lines)))


def key_sas(
    service: BlobService, key: str, container: str, blob: str, permissions: str, expiry: float, **more: str
) -> str:
    """A SAS signed with an account key. https://learn.microsoft.com/rest/api/storageservices/create-service-sas"""
    fields = sas_fields(container, blob, permissions, more.get("start", ""), iso_time(expiry), more.get("ip", ""))
    lines = [fields["sp"], fields["st"], fields["se"], canonical_resource(service.account, container, blob), ""]
    lines += [fields["sip"], fields["spr"], fields["sv"], fields["sr"], *[""] * 7]
    return sas_query(fields, hmac_sha256(key, "\n".join(lines)))


def sas_fields(container: str, blob: str, permissions: str, start: str, end: str, ip: str) -> dict[str, str]:
    return {
        "sv": SAS_VERSION,
        "sr": "b" if blob else "c",
        "sp": permissions,
        "st": start,
        "se": end,
        "sip": ip,
        "spr": "https",
    }


def canonical_resource(account: str, container: str, blob: str) -> str:
    return f"/blob/{account}/{container}" + (f"/{blob}" if blob else "")


def sas_query(fields: Mapping[str, str], signature: str) -> str:
    pairs = {name: value for name, value in fields.items() if value}
    return urllib.parse.urlencode({**pairs, "sig": signature}, quote_via=urllib.parse.quote)


SasTarget = Annotated[
    Any,
    Group(
        {**CONTAINER_ARGUMENTS, "blob_name": optional(BlobName)}, lambda azure, given: build_sas_target(azure, given)
    ),
]


def build_sas_target(azure: Azure, given: dict[str, Any]) -> tuple[BlobService, Callable[[], AccountRef], str, str]:
    """Service, what finds the account in ARM when that is needed, container, and blob or an empty name."""
    service, container = build_container(azure, given)
    url: BlobAddress | None = given["blob_url"]
    blob = given["blob_name"] or (url.blob if url else "")
    return service, lambda: build_target(azure, given), container, blob


def signing_key(azure: Azure, account: AccountRef) -> str:
    """The value of key1; it is shown to nobody."""
    return next(str(key["value"]) for key in azure.arm.keys(account) if key.get("keyName") == "key1")


SAS_VIEW = View(
    "Sas",
    "Azure Storage shared access signature",
    {
        "Resource": "resource",
        "Permissions": "permissions",
        "Starts": "start",
        "Ends": "expiry",
        "IP": "ip",
        "Signed by": "signedBy",
    },
    key="sha256",
)


@command(
    "azure-storage-sas-create",
    needs=("Microsoft.Storage/storageAccounts/blobServices/generateUserDelegationKey/action",),
    role="Storage Blob Delegator",
)
def sas_create(
    azure: Azure,
    target: SasTarget,
    permissions: Annotated[str, Reader(f"letters out of {SAS_ORDER}, each once", read_permissions)] = "r",
    expires_in: Annotated[float, Reader("a span such as 30m, 12h or 7d, at most 7 days", read_hours)] = 1,
    start: IsoTime | None = None,
    ip: Annotated[str, Reader("an IPv4 address, or a range such as 203.0.113.0-203.0.113.9", read_sas_ip)]
    | None = None,
    signed_by: Annotated[str, choice("user_delegation", "account_key")] = "user_delegation",
) -> CommandResults:
    """A link for others, over https only. It is the one result that holds a signature, since that is what it is for."""
    service, account, container, blob = target
    expiry = (start.timestamp() if start else Clock.now()) + expires_in * 3600
    more = {"start": iso_time(start.timestamp()) if start else "", "ip": ip or ""}
    if signed_by == "account_key":
        sas = key_sas(service, signing_key(azure, account()), container, blob, permissions, expiry, **more)
        revoke = "rotate key1 of the account, or turn shared keys off: a single SAS cannot be revoked."
    else:
        sas = delegation_sas(service, container, blob, permissions, expiry, **more)
        revoke = "revoke the account's user delegation keys, or take the role from the identity that signed it."
    facts = inspect_sas(sas)
    row = {
        **facts,
        "signedBy": signed_by,
        "url": f"{service.blob_id(container, blob) if blob else service.http.endpoint + blob_path(container)}?{sas}",
    }
    return show(SAS_VIEW, row, note=f"{row['url']}\n\nIt ends at {facts['expiry']}. To revoke it earlier: {revoke}")


INSPECT_VIEW = View(
    "Sas",
    "Shared access signature",
    {
        "Kind": "kind",
        "Resource": "resource",
        "Permissions": "permissions",
        "Starts": "start",
        "Ends": "expiry",
        "Ended": "expired",
        "IP": "ip",
        "Policy": "policy",
        "SHA-256": "sha256",
    },
    key="sha256",
)


@command("azure-storage-sas-inspect")
def sas_inspect(
    azure: Azure,
    sas: Annotated[
        Secret, Reader("a SAS token, or an address that holds one", lambda text: read_sas(text), secret=True)
    ],
) -> CommandResults:
    """What a leaked SAS can do and how to revoke it, and its hash as the storage logs show it. Nothing is sent anywhere."""
    facts = inspect_sas(sas.reveal())
    note = f"To revoke it: {facts['revokedBy']} To hunt for its use: AuthenticationHash in StorageBlobLogs holds its SHA-256."
    return show(INSPECT_VIEW, facts, note=note)


def read_sas(text: str) -> Secret:
    """The token of a SAS, without the address in front."""
    text = text.strip().strip("\"'`")
    token = text.partition("?")[2] if "?" in text else text
    fields = dict(urllib.parse.parse_qsl(token))
    if "sig" not in fields or "sv" not in fields:
        raise ValueError
    remember_secret(fields["sig"])
    return Secret(token)


RESOURCES = {"b": "blob", "c": "container", "bs": "blob snapshot", "bv": "blob version", "d": "directory"}
SERVICES = {"b": "blob", "f": "file", "q": "queue", "t": "table"}


def inspect_sas(token: str) -> Json:
    """The fields of a SAS in words, and the SHA-256 of the URL-decoded token; never the signature."""
    fields = dict(urllib.parse.parse_qsl(token))
    if "skoid" in fields:
        kind, revoked = (
            "user delegation SAS",
            "revoke the account's user delegation keys, or take the role from the delegating identity.",
        )
    elif "ss" in fields:
        kind, revoked = (
            "account SAS",
            "rotate the account key that signed it (both, if unknown), or turn shared keys off.",
        )
    elif "si" in fields:
        kind, revoked = (
            "service SAS with a stored policy",
            "delete or change the stored access policy, or rotate the account key.",
        )
    else:
        kind, revoked = (
            "service SAS",
            "rotate the account key that signed it (both, if unknown), or turn shared keys off.",
        )
    resource = RESOURCES.get(fields.get("sr", ""), "") or ", ".join(
        SERVICES.get(letter, letter) for letter in fields.get("ss", "")
    )
    expiry = fields.get("se", "")
    return {
        "kind": kind,
        "resource": resource,
        "permissions": ", ".join(PERMISSIONS.get(letter, letter) for letter in fields.get("sp", "")),
        "start": fields.get("st", ""),
        "expiry": expiry,
        "expired": bool(expiry) and expiry < iso_time(Clock.now()),
        "ip": fields.get("sip", ""),
        "protocol": fields.get("spr", "https and http"),
        "policy": fields.get("si", ""),
        "version": fields.get("sv", ""),
        "delegatingObjectId": fields.get("skoid", ""),
        "delegatingTenantId": fields.get("sktid", ""),
        "sha256": hashlib.sha256(urllib.parse.unquote(token).encode()).hexdigest(),
        "revokedBy": revoked[:1].upper() + revoked[1:],
    }


# --- main --------------------------------------------------------------------------------------------------------------


def run(name: str, params: Mapping[str, Any], args: Mapping[str, Any]) -> Any:
    """The result of one command. Raises AzureStorageError for all that can be foreseen."""
    found = COMMANDS.get(name)
    if not found:
        raise UsageError(f"There is no command {name} in this integration.")
    azure = Azure(read_settings(params), in_memory=name == "test-module")
    return found.call(azure, args)


def explain(error: Exception, name: str) -> str:
    """What the war room shows of a failure: never a secret, and for a missing permission which one it is."""
    if not isinstance(error, AzureStorageError):
        demisto.debug(redact(traceback.format_exc()))
        return redact(f"{name} failed in a way nobody foresaw: {type(error).__name__}: {error}")
    text = str(error)
    if isinstance(error, ServiceError) and error.status == 403 and name in COMMANDS and COMMANDS[name].needs:
        found = COMMANDS[name]
        text += f"\n{name} needs {', '.join(found.needs)}; the built-in role {found.role} has it."
    return redact(text)


def main() -> None:
    name = demisto.command()
    try:
        handle_proxy()
        return_results(run(name, demisto.params(), demisto.args()))
    except Exception as error:
        return_error(explain(error, name))


if __name__ in ("__main__", "__builtin__", "builtins"):
    main()
