"""Azure Storage for Cortex XSOAR: sign in to Microsoft Entra ID, manage Azure Storage, contain and investigate incidents.

The file reads from top to bottom; every name is defined before it is used:

    constants         clouds, API versions, limits, permissions, hints
    errors            one tree
    secrets           a value that never prints, one redactor
    values            ids, names, addresses, times, tags, SAS: every parser and every quoting function
    settings          instance parameters -> one validated object
    transport         one exchange: authorization, retries, deadlines
    sign-in           Microsoft Entra ID over msal, and its store in the integration context
    Resource Manager  endpoints as rows, and one function that asks them
    blob service      the same for blobs, and transfers
    Azure             what a command gets; finding an account
    arguments         strings -> typed values, and the groups of arguments that commands share
    views             tables for people
    change            Plan, Bulk and Later: what a command wants; and the registry, which carries it out
    reports           HTML pages from one template
    commands          grouped by noun
    main              parameters, dispatch, the one error boundary

To add a command: write one function under its noun, decorated with @command; its keyword parameters are its arguments.
Describe it in local/build/texts, then run `make manifest`. The tests say what was forgotten.
"""

import demistomock as demisto
from CommonServerPython import *

import base64
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
import math
import mimetypes
import random
import re
import string
import threading
import time
import traceback
import urllib.parse
import uuid
import warnings
from collections import Counter, deque
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Generic, NamedTuple, Protocol, TextIO, TypeVar, get_args, get_origin

from xml.parsers import expat

import requests
from requests.exceptions import BaseHTTPError  # type: ignore[attr-defined]

T = TypeVar("T")
R = TypeVar("R")
Json = dict[str, Any]


# --- constants ---------------------------------------------------------------------------------------------------------

# Every containment call exists in this version, and sovereign clouds tend to lag behind the newest (2026-09-01).
STORAGE_API = "2025-08-01"
# Data sharing, per-service keys, cross-tenant delegation SAS, the static website and user-bound SAS need this one.
NEWEST_STORAGE_API = "2026-09-01"
SUBSCRIPTIONS_API = "2022-12-01"
RESOURCE_GROUPS_API = "2024-11-01"
GRAPH_API = "2024-04-01"
LOCKS_API = "2020-05-01"
ACTIVITY_API = "2015-04-01"
DIAGNOSTICS_API = "2021-05-01-preview"
DEFENDER_API = "2025-06-01"
ROLES_API = "2022-04-01"
LOGS_API = "2018-03-01-preview"
GRAPH_PAGE = 1000  # the most rows of one Resource Graph answer

# Nothing here needs a newer version, and one that is not deployed is refused; Entra tokens need 2017-11-09.
BLOB_API = "2025-11-05"
OLDER_BLOB_APIS = ("2019-07-07", "2017-11-09")  # Azure Stack Hub
BLOCK_SIZE = 4 << 20  # bytes; a few blocks in memory keep a transfer below 100 MB
PARALLEL = 4
USER_AGENT = "AzureStorage-XSOAR"
SYNC_COPY_SIZE = 256 << 20  # bytes that Azure copies before it answers
SAS_VERSION = "2022-11-02"  # the newest string to sign that every cloud accepts
USER_BOUND_SAS_VERSION = "2025-07-05"  # the first that can bind a SAS to one user
BATCH_LIMIT = 256  # deletions in a batch request

STORAGE_AUDIENCE = "https://storage.azure.com"  # the same in every cloud
CORTEX_APP_ID = "55f9764e-300a-474a-a2bb-549cece85439"
# For people without a web server: the browser fails to open it, and the address bar holds the code.
DEFAULT_REDIRECT_URI = "https://localhost/myapp"

SMALL_READ, LARGE_READ = 1 << 14, 1 << 20  # bytes: a TLS record, and what a transfer reads at once
CONNECT_TIMEOUT, READ_TIMEOUT, ANSWER_TIMEOUT = 10, 60, 180  # seconds; the last one for a whole answer
MAX_BODY = 64 << 20  # bytes of an answer that is held in memory, after decompression
MAX_LISTING = 256 << 20  # bytes of a listing, which is read as it arrives
MAX_TRIES = 5
MAX_WAIT = 60.0  # seconds a command may spend waiting between tries
TOKEN_MARGIN = 120  # seconds: a token that ends sooner is not used
TURN_PATIENCE = 8.0  # seconds without a sign of life after which another command's turn is taken over
DEFAULT_LIMIT = 50
CONTEXT_LIMIT = 5000  # rows that one entry puts into context
CONTEXT_SIZE = 900_000  # bytes of JSON of them: an entry, which holds them as context and as contents, stays below 2 MB
TABLE_SIZE = 100_000  # bytes of a table, after which it has no more rows; strangers' metadata may be long
WORK_SLICE = 60.0  # seconds of work in one polling round
SNIPPET = 200  # characters shown of an unexpected answer


class Cloud(NamedTuple):
    """The hosts of one Azure. https://learn.microsoft.com/azure/developer/python/sdk/authentication/multi-cloud

    audience is what an ARM token is asked for; zone_suffix is that of accounts with Azure DNS zone endpoints; arm_api and
    blob_api replace the versions of this module where a cloud only has older ones.
    """

    name: str
    authority: str
    resource_manager: str
    audience: str
    storage_suffix: str
    zone_suffix: str = ""
    arm_api: str = ""
    blob_api: str = ""


# fmt: off
CLOUDS = {
    cloud.name: cloud
    for cloud in (
        Cloud("Worldwide", "https://login.microsoftonline.com", "https://management.azure.com", "https://management.azure.com", "core.windows.net", "storage.azure.net"),
        Cloud("US Government", "https://login.microsoftonline.us", "https://management.usgovcloudapi.net", "https://management.usgovcloudapi.net", "core.usgovcloudapi.net"),
        Cloud("China", "https://login.partner.microsoftonline.cn", "https://management.chinacloudapi.cn", "https://management.chinacloudapi.cn", "core.chinacloudapi.cn"),
    )
}
# fmt: on
CUSTOM_CLOUD = "Custom"

AUTHORIZATION_CODE = "Authorization Code"
DEVICE_CODE = "Device Code"
CLIENT_CREDENTIALS = "Client Credentials"
MANAGED_IDENTITY = "Azure Managed Identities"
USER_FLOWS = (AUTHORIZATION_CODE, DEVICE_CODE)

# Permissions and the built-in roles that have them: https://learn.microsoft.com/azure/role-based-access-control/permissions/storage
STORAGE_ACCOUNTS = "Microsoft.Storage/storageAccounts"
READ_ACCOUNT = f"{STORAGE_ACCOUNTS}/read"
WRITE_ACCOUNT = f"{STORAGE_ACCOUNTS}/write"
DELETE_ACCOUNT = f"{STORAGE_ACCOUNTS}/delete"
LIST_KEYS = f"{STORAGE_ACCOUNTS}/listkeys/action"
REGENERATE_KEY = f"{STORAGE_ACCOUNTS}/regeneratekey/action"
REVOKE_DELEGATION_KEYS = f"{STORAGE_ACCOUNTS}/revokeUserDelegationKeys/action"
RESTORE_RANGES = f"{STORAGE_ACCOUNTS}/restoreBlobRanges/action"
READ_SERVICE = f"{STORAGE_ACCOUNTS}/blobServices/read"
WRITE_SERVICE = f"{STORAGE_ACCOUNTS}/blobServices/write"
DELEGATION_KEY = f"{STORAGE_ACCOUNTS}/blobServices/generateUserDelegationKey/action"
READ_LIFECYCLE = f"{STORAGE_ACCOUNTS}/managementPolicies/read"
WRITE_LIFECYCLE = f"{STORAGE_ACCOUNTS}/managementPolicies/write"
READ_REPLICATION = f"{STORAGE_ACCOUNTS}/objectReplicationPolicies/read"
CONTAINERS = f"{STORAGE_ACCOUNTS}/blobServices/containers"
READ_CONTAINER = f"{CONTAINERS}/read"
WRITE_CONTAINER = f"{CONTAINERS}/write"
DELETE_CONTAINER = f"{CONTAINERS}/delete"
LEASE_CONTAINER = f"{CONTAINERS}/lease/action"
SET_HOLD = f"{CONTAINERS}/setLegalHold/action"
CLEAR_HOLD = f"{CONTAINERS}/clearLegalHold/action"
IMMUTABILITY = f"{CONTAINERS}/immutabilityPolicies"
READ_ACL = f"{CONTAINERS}/getAcl/action"
WRITE_ACL = f"{CONTAINERS}/setAcl/action"
READ_BLOB = f"{CONTAINERS}/blobs/read"
WRITE_BLOB = f"{CONTAINERS}/blobs/write"
DELETE_BLOB = f"{CONTAINERS}/blobs/delete"
ADD_BLOB = f"{CONTAINERS}/blobs/add/action"
FIND_BLOBS = f"{CONTAINERS}/blobs/filter/action"
DELETE_VERSION = f"{CONTAINERS}/blobs/deleteBlobVersion/action"
READ_TAGS = f"{CONTAINERS}/blobs/tags/read"
WRITE_TAGS = f"{CONTAINERS}/blobs/tags/write"
READ_LOCKS = "Microsoft.Authorization/locks/read"
WRITE_LOCKS = "Microsoft.Authorization/locks/write"
DELETE_LOCKS = "Microsoft.Authorization/locks/delete"
READ_ROLES = "Microsoft.Authorization/roleAssignments/read"
WRITE_ROLES = "Microsoft.Authorization/roleAssignments/write"
DELETE_ROLES = "Microsoft.Authorization/roleAssignments/delete"
READ_DEFINITIONS = "Microsoft.Authorization/roleDefinitions/read"
READ_LOGGING = "Microsoft.Insights/diagnosticSettings/read"
WRITE_LOGGING = "Microsoft.Insights/diagnosticSettings/write"
DELETE_LOGGING = "Microsoft.Insights/diagnosticSettings/delete"
READ_ACTIVITY = "Microsoft.Insights/eventtypes/management/values/read"
READ_LOGS = "Microsoft.Insights/logs/StorageBlobLogs/read"
READ_DEFENDER = "Microsoft.Security/defenderForStorageSettings/read"
READ_SUBSCRIPTIONS = "Microsoft.Resources/subscriptions/read"
READ_GROUPS = "Microsoft.Resources/subscriptions/resourceGroups/read"
# Roles for accounts and containers, and roles for blobs.
ACCOUNT_CONTRIBUTOR = "Storage Account Contributor"
MONITORING = "Monitoring Contributor"
LOCKS_ROLE = "User Access Administrator"
READER = "Storage Blob Data Reader"
CONTRIBUTOR = "Storage Blob Data Contributor"
OWNER = "Storage Blob Data Owner"


# Next steps for errors: whole sentences, which name only fields that the form shows for the flow in use.

SECRET_FLOWS = (AUTHORIZATION_CODE, CLIENT_CREDENTIALS)  # the form asks for a client secret or a certificate
APPLICATION_FLOWS = (*USER_FLOWS, CLIENT_CREDENTIALS)  # the form asks for an application and its tenant

# One step for every way of signing in, or a step for each; "" stands for the ways that are not listed.
Hint = str | Mapping[str, str]
Key = TypeVar("Key", int, str)


def spread(rows: Mapping[Key | Sequence[Key], T]) -> dict[Key, T]:
    """A table by key, whose rows may name several keys at once."""
    return {key: row for keys, row in rows.items() for key in (keys if isinstance(keys, tuple) else (keys,))}


def spread_hints(rows: Mapping[Key | Sequence[Key], str | Mapping[str | Sequence[str], str]]) -> dict[Key, Hint]:
    """The same for hints; a step may also name several ways of signing in at once."""
    return {key: step if isinstance(step, str) else spread(step) for key, step in spread(rows).items()}


def hint_for(hint: Hint, flow: str) -> str:
    """The next step for a way of signing in (an Authentication Type); "" where the hint has none for it."""
    return hint if isinstance(hint, str) else hint.get(flow, hint.get("", ""))


# fmt: off
SIGN_IN_AGAIN = "Run !azure-storage-auth-start to sign in again. The instance needs no change."
CHECK_SIGN_IN = "Run !azure-storage-auth-test to check the sign-in. If a person signs in on this instance, run !azure-storage-auth-start to sign in again."
ASK_ADMIN = "Ask an administrator of the tenant to look up the correlation id in the Microsoft Entra sign-in logs."
ENTRA_BUSY = "Entra ID is temporarily unavailable. Run the command again in a minute."
NEW_LOGIN_URL = "Run !azure-storage-generate-login-url, sign in at that address, then run !azure-storage-auth-complete code=<the address> with the address that the browser ends at."
NEW_DEVICE_CODE = "Run !azure-storage-auth-start for a new one."
CHECK_IDENTITY = "Check that the machine has a managed identity. For a user-assigned identity, also check the Azure Managed Identities Client ID of the instance."
RUN_AGAIN_SOON = "Run the command again in a minute."
SLOW_DOWN = "Azure is throttling requests. Wait a minute, then run the command again."
SERVICE_FAILED = "The service had an internal error. Run the command again. If the error persists, give the request id to Microsoft support."

# OAuth's own error names come first: Microsoft says that the AADSTS numbers may change.
# https://learn.microsoft.com/entra/identity-platform/reference-error-codes
OAUTH_HINTS = {
    "authorization_pending": "Finish the sign-in in the browser, then run !azure-storage-auth-complete again.",
    "slow_down": "Wait a few seconds, then run !azure-storage-auth-complete again.",
    "authorization_declined": "The sign-in was declined in the browser. Run !azure-storage-auth-start to sign in again.",
    "expired_token": "The device code has expired. " + NEW_DEVICE_CODE,
    "bad_verification_code": "Entra ID doesn't recognize the device code. " + NEW_DEVICE_CODE,
    "temporarily_unavailable": ENTRA_BUSY,
    "server_error": ENTRA_BUSY,
}
# For these names the AADSTS number says more than the name does.
OAUTH_FALLBACK_HINTS = spread_hints({
    ("invalid_grant", "interaction_required", "login_required"): {USER_FLOWS: SIGN_IN_AGAIN, MANAGED_IDENTITY: CHECK_IDENTITY, "": ASK_ADMIN},
    "invalid_scope": {MANAGED_IDENTITY: CHECK_IDENTITY, "": "The sign-in service doesn't recognize the requested resource. Check the Cloud of the instance."},
    "consent_required": "The application hasn't been granted consent. Ask an administrator to grant it.",
    "access_denied": {USER_FLOWS: "The sign-in was declined in the browser. " + SIGN_IN_AGAIN, MANAGED_IDENTITY: CHECK_IDENTITY, "": ASK_ADMIN},
    "invalid_client": {SECRET_FLOWS: "Check the Application ID, and the Client Secret or the certificate of the instance.", DEVICE_CODE: "Check the Application ID of the instance, and that the app registration has 'Allow public client flows' set to Yes.", MANAGED_IDENTITY: CHECK_IDENTITY, "": ASK_ADMIN},
    "unauthorized_client": {APPLICATION_FLOWS: "Check the Application ID and the Tenant ID of the instance, and that the application allows this way of signing in.", MANAGED_IDENTITY: CHECK_IDENTITY, "": ASK_ADMIN},
    "unsupported_grant_type": "The sign-in service doesn't support this Authentication Type. Check the Cloud of the instance, or choose another Authentication Type.",
    "invalid_resource": "The tenant doesn't recognize the requested resource. Check the Cloud of the instance.",
    "invalid_request": {AUTHORIZATION_CODE: "Check the Application ID, Tenant ID and Application redirect URI of the instance.", (DEVICE_CODE, CLIENT_CREDENTIALS): "Check the Application ID and the Tenant ID of the instance.", MANAGED_IDENTITY: CHECK_IDENTITY, "": ASK_ADMIN},
})
# What to do when an answer, or what proves an identity, can't be used.
UNUSABLE_HINT: Hint = spread({
    USER_FLOWS: "Check the Application ID and the Tenant ID of the instance, then run !azure-storage-auth-start to sign in again.",
    CLIENT_CREDENTIALS: "Check the Application ID, the Tenant ID, and the Client Secret or the certificate of the instance.",
    MANAGED_IDENTITY: CHECK_IDENTITY + " On an Azure Arc machine, also mount its folder /var/opt/azcmagent/tokens into the container, readable.",
})
# Numbers that say the refresh token itself is dead; any other refusal leaves it usable for another resource.
DEAD_GRANTS = (70000, 70008, 700082, 700084, 70043, 50173, 50089, 50132, 50133)
# A way of signing in that a row leaves out gets the step of the OAuth name.
AADSTS_HINTS: dict[int, Hint] = spread_hints({
    # The device code and the browser
    70016: {DEVICE_CODE: "Finish the sign-in in the browser, then run !azure-storage-auth-complete again."},
    70018: {DEVICE_CODE: "A wrong code was typed in the browser. Enter the code exactly as shown, or run !azure-storage-auth-start for a new one."},
    (70019, 70020): {DEVICE_CODE: "The device code has expired. " + NEW_DEVICE_CODE},
    90119: {DEVICE_CODE: "No code was entered in the browser. Enter the code as shown, or run !azure-storage-auth-start for a new one."},
    90120: {DEVICE_CODE: "The device code was already used or declined. " + NEW_DEVICE_CODE},
    50134: {DEVICE_CODE: "The person signed in through another data center than the one that issued the device code. Run !azure-storage-auth-start for a new one, or use Authorization Code."},
    50058: {USER_FLOWS: "Nobody is signed in in that browser profile. Sign in to Microsoft there, then open the address again."},
    # The tenant and the application
    (50059, 50128, 90019): {APPLICATION_FLOWS: "Set the Tenant ID of the instance. The application doesn't identify the tenant."},
    90002: {APPLICATION_FLOWS: "The tenant was not found. Check the Tenant ID and the Cloud of the instance."},
    (90038, 900382, 900432): {APPLICATION_FLOWS: "The tenant belongs to another cloud. Check the Cloud and the Tenant ID of the instance.", "": "The tenant belongs to another cloud. Check the Cloud of the instance."},
    (700016, 700011, 70001): {APPLICATION_FLOWS: "The application doesn't exist in this tenant. Check the Application ID and the Tenant ID of the instance, or ask an administrator to add the application to the tenant."},
    7000112: "The application is disabled in this tenant. Ask an administrator to enable it.",
    (50194, 9001023, 90124, 90130): {APPLICATION_FLOWS: "The application can't sign in without a tenant. Set the Tenant ID of the instance."},
    (500021, 500022, 500212, 500213): "A tenant restriction or a cross-tenant access policy denies access to this tenant. Ask an administrator to allow it, or use an identity of the tenant.",
    # The account
    (16000, 16003, 50014, 50020, 50034, 51004, 90072): {USER_FLOWS: "The account isn't a user of this tenant. Sign in with a member or guest account of the tenant, or ask an administrator to invite the account."},
    50126: "The user name or password was wrong. Sign in again.",
    50053: "The account is locked, or the sign-in came from an IP address with malicious activity. Ask an administrator to check the Microsoft Entra sign-in logs.",
    (50055, 50144): "The password has expired. Change it, then sign in again.",
    50057: "The account is disabled. Ask an administrator.",
    50105: "The user isn't assigned to the application. Ask an administrator to assign the user in the enterprise application.",
    # Multifactor authentication and Conditional Access
    (50072, 50074, 50076, 50078, 50079, 50158): {USER_FLOWS: "Multifactor authentication is required. Run !azure-storage-auth-start and sign in interactively. Unattended instances can use Client Credentials."},
    50088: "The limit of phone calls or text messages for multifactor authentication was reached. Wait a few minutes or use another method, then sign in again.",
    53004: "The account has to register for multifactor authentication first. Register, or ask an administrator, then sign in again.",
    53011: "The account is blocked because of a risk in its home tenant. Ask an administrator of that tenant.",
    (50005, 50097, 50129, 50155, 50187, 53000, 53001, 530003): {DEVICE_CODE: "Conditional Access requires a registered or compliant device, which device code sign-in can't prove. Use Authorization Code from such a device, or Client Credentials with a self-deployed application.", AUTHORIZATION_CODE: "Conditional Access requires a registered or compliant device. Open the login URL in a browser on such a device, or use Client Credentials with a self-deployed application."},
    53002: {USER_FLOWS: "Conditional Access allows approved applications only. Ask an administrator to exclude this application from the policy, or use Client Credentials with a self-deployed application."},
    (50131, 53003, 530032): {DEVICE_CODE: "A Conditional Access or security policy blocked the sign-in. Many tenants block device code sign-in: use Authorization Code, or Client Credentials with a self-deployed application, or ask an administrator.", AUTHORIZATION_CODE: "A Conditional Access or security policy blocked the sign-in. Sign in from a device and a network that the policy allows, or ask an administrator.", "": "A Conditional Access or security policy blocked the application. Ask an administrator."},
    530035: {USER_FLOWS: "The security defaults of the tenant blocked the sign-in. Use Client Credentials with a self-deployed application, or ask an administrator."},
    # Consent and permissions
    (65001, 90008, 90094, 90095): {USER_FLOWS: "The application hasn't been granted consent. Sign in as someone who can consent, or ask an administrator to grant consent for the permissions that the README lists.", "": "The application hasn't been granted consent. Ask an administrator to grant it."},
    65004: {USER_FLOWS: "Consent was declined in the browser. Sign in again and accept the permissions, or ask an administrator to grant consent."},
    (65005, 650056, 650057): {USER_FLOWS: "Add the delegated permissions Azure Service Management (user_impersonation) and Azure Storage (user_impersonation) to the app registration, grant consent, then sign in again."},
    500011: {USER_FLOWS: "The tenant doesn't recognize the requested resource. Check the Tenant ID and the Cloud of the instance, and that the app registration has the delegated permissions Azure Service Management (user_impersonation) and Azure Storage (user_impersonation).", CLIENT_CREDENTIALS: "The tenant doesn't recognize the requested resource. Check the Tenant ID and the Cloud of the instance.", "": "The tenant doesn't recognize the requested resource. Check the Cloud of the instance."},
    650052: "The application needs a service that isn't enabled in the tenant. Ask an administrator to check the subscriptions of the tenant.",
    # Codes, sessions and redirect URIs
    54005: {AUTHORIZATION_CODE: "The authorization code was already used. " + NEW_LOGIN_URL, DEVICE_CODE: "The device code was already used. " + NEW_DEVICE_CODE},
    700005: {AUTHORIZATION_CODE: "The code was issued by another tenant. Set the Tenant ID of the instance to the tenant that the person signs in to. " + NEW_LOGIN_URL},
    501481: {AUTHORIZATION_CODE: "The code belongs to another login URL. " + NEW_LOGIN_URL},
    50147: {AUTHORIZATION_CODE: "The code challenge in the login URL has the wrong length, so part of the URL was lost. " + NEW_LOGIN_URL},
    (50011, 70004): {AUTHORIZATION_CODE: "The Application redirect URI of the instance must exactly match a redirect URI registered for the application."},
    900971: {AUTHORIZATION_CODE: "The application has no redirect URI. Register the Application redirect URI of the instance under the platform Web or Mobile and desktop applications."},
    9002327: {AUTHORIZATION_CODE: "The redirect URI is registered as single-page application. In the app registration, register it under the platform Web or Mobile and desktop applications instead, then sign in again."},
    DEAD_GRANTS: {USER_FLOWS: "The code or session has expired or was revoked. " + SIGN_IN_AGAIN},
    700084: {DEVICE_CODE: "The session has expired. " + SIGN_IN_AGAIN, AUTHORIZATION_CODE: "Sessions of a single-page application end after a day. Register the redirect URI under the platform Web or Mobile and desktop applications instead, then run !azure-storage-auth-start to sign in again."},
    (70011, 28002): "The requested scope isn't valid in this cloud. Check the Cloud of the instance.",
    700022: "The requested scope names more than one resource. Check the Cloud of the instance.",
    # Secrets and certificates
    7000215: {SECRET_FLOWS: "Enter the value of the secret, not its ID, as the Client Secret of the instance."},
    7000222: {SECRET_FLOWS: "The Client Secret has expired. Create a new one in the app registration and enter its value in the instance."},
    70002: {SECRET_FLOWS: "Check the Client Secret of the instance."},
    7000218: {DEVICE_CODE: "Device code sign-in needs a public client. In the app registration, under Authentication, set 'Allow public client flows' to Yes.", AUTHORIZATION_CODE: "Enter the Client Secret of the application in the instance, or register the redirect URI under the platform Mobile and desktop applications, which needs no secret.", CLIENT_CREDENTIALS: "Enter the Client Secret or the certificate of the application in the instance."},
    700025: {AUTHORIZATION_CODE: "The application is a public client. Remove the Client Secret and the certificate from the instance, or register the redirect URI under the platform Web.", CLIENT_CREDENTIALS: "The application is a public client. In the app registration, under Authentication, set 'Allow public client flows' to No, or use another application."},
    (50012, 700027, 700030): {SECRET_FLOWS: "Check the Certificate Thumbprint and the Certificate Private Key of the instance, and that the certificate is uploaded to the app registration and hasn't expired."},
    (90014, 900144): {DEVICE_CODE: "Check that the Application ID of the instance is filled in.", AUTHORIZATION_CODE: "Check that the Application ID and the Application redirect URI of the instance are filled in.", CLIENT_CREDENTIALS: "Check that the Application ID, the Tenant ID, and the Client Secret or the certificate of the instance are filled in."},
    # Load
    50196: "Too many sign-in requests were sent in a short time. Wait a few minutes before the next command.",
    (90033, 90006, 90012, 50033, 50087, 90024, 90055): ENTRA_BUSY,
})
# Numbers that mean a lack of consent or permission: for the Cortex XSOAR application, consent_hint says what to do.
CONSENT_NUMBERS = frozenset((65001, 65005, 650056, 650057, 500011))
# fmt: on


def aadsts_hint(number: int, flow: str) -> str:
    """The next step for an AADSTS number and a way of signing in; "" where the table has none."""
    return hint_for(AADSTS_HINTS.get(number, ""), flow)


def consent_hint(storage: bool) -> str:
    """The next step when the Cortex XSOAR application, whose permissions only its publisher can change, may not get a
    person's token for Azure Storage, or else for Resource Manager."""
    if storage:
        return (
            "The Cortex XSOAR application can't get a token for Azure Storage in this tenant. Resource Manager "
            "commands keep working. For blob commands, use a self-deployed application with the delegated permission "
            "Azure Storage user_impersonation, or enter an account SAS or account key under Storage Account Name in "
            "the instance."
        )
    return (
        "Ask an administrator to grant consent for the Cortex XSOAR application in this tenant, or use a "
        "self-deployed application with the delegated permission Azure Service Management user_impersonation."
    )


# fmt: off
ADD_ROLE = "New role assignments take several minutes to take effect."
NOT_FOR_KIND = "This kind of account or this region doesn't support the feature. No permission changes that."
CHANGED_SINCE = "The resource has changed since it was read. Check its state, then run the command again."
LIST_ACCOUNTS = "Check the account name, resource group and subscription with !azure-storage-account-list."
LIST_CONTAINERS = "Check the name with !azure-storage-blob-containers-list. With include_deleted=true it also shows soft-deleted containers, which !azure-storage-container-restore restores."

# https://learn.microsoft.com/rest/api/storagerp/srp_error_codes_common and ARM's common error codes:
# https://learn.microsoft.com/azure/azure-resource-manager/troubleshooting/common-deployment-errors
ARM_HINTS = spread({
    # Sign-in and permissions
    ("InvalidAuthenticationToken", "ExpiredAuthenticationToken", "AuthenticationFailed"): CHECK_SIGN_IN,
    "InvalidAuthenticationTokenAudience": "Check the Cloud of the instance. For a custom cloud, also check the Resource Manager Audience.",
    "InvalidAuthenticationTokenTenant": "The subscription belongs to another tenant than the identity that is signed in. Sign in to the tenant of the subscription.",
    "AuthorizationFailed": "Assign the signed-in identity a role that allows the action named above at that scope. " + ADD_ROLE,
    "LinkedAuthorizationFailed": "The identity also needs a role at the linked resource named above. " + ADD_ROLE,
    "DenyAssignmentAuthorizationFailed": "A deny assignment, such as one of a deployment stack or a managed application, blocks this operation. No role overrides it.",
    "InsufficientAccessError": "Assign the signed-in identity the role Log Analytics Reader at the workspace, and check that the workspace accepts queries from this network. " + ADD_ROLE,
    # Locks, policies and the state of the subscription
    "ScopeLocked": "A resource lock blocks this operation. See !azure-storage-account-lock-list, and remove the lock with !azure-storage-account-lock-remove.",
    "ConflictFeatureEnabled": "Holds and immutability policies exclude point-in-time restore and last access time tracking; permanent deletion excludes point-in-time restore. Disable the one that is on, then run the command again.",
    "LockNotFound": "Check the name of the lock with !azure-storage-account-lock-list.",
    "RequestDisallowedByPolicy": "An Azure Policy forbids this. Ask the owner of the policy named above for an exemption, or use values that it allows.",
    "RequestDisallowedByAzure": "Azure doesn't allow this in the region. Choose another `location`.",
    "RegionDoesNotAllowProvisioning": "The region accepts no new resources of this subscription. Choose another `location`.",
    ("SubscriptionDisabled", "ReadOnlyDisabledSubscription", "SubscriptionStateForbidden"): "The subscription is disabled, so that nothing in it can be changed. Ask its owner to enable it.",
    ("SubscriptionNotFound", "MissingSubscription"): "Check the subscription ID, and that the identity has a role in it, with !azure-storage-subscriptions-list.",
    ("MissingSubscriptionRegistration", "MissingRegistrationForLocation", "InvalidSubscriptionRegistrationState", "SubscriptionNotRegistered"): "Ask an owner of the subscription to register the resource provider named above, such as Microsoft.Storage.",
    "SubscriptionNotRegisteredForFeature": "Ask an owner of the subscription to register the feature that is named above.",
    # Not found
    "ResourceNotFound": LIST_ACCOUNTS + " The answer is the same when the identity has no role there.",
    ("StorageAccountNotFound", "ParentResourceNotFound"): LIST_ACCOUNTS,
    "ResourceGroupNotFound": "Check the resource group with !azure-storage-resource-group-list.",
    "ContainerNotFound": LIST_CONTAINERS,
    "ManagementPolicyNotFound": "The account has no lifecycle management policy. !azure-storage-account-lifecycle-set creates one.",
    "ObjectReplicationPolicyNotFound": "The account has no object replication policy with this ID; it may have been removed already.",
    "RoleAssignmentNotFound": "The role assignment doesn't exist; it may have been removed already. See !azure-storage-access-list.",
    "PathNotFoundError": "Check the workspace that is searched, and that the identity has a role in it.",
    # Busy, throttled and failed
    "TooManyRequests": SLOW_DOWN,
    ("StorageAccountBeingCreated", "StorageAccountIsNotProvisioned"): "The account isn't ready yet. " + RUN_AGAIN_SOON,
    ("StorageAccountOperationInProgress", "SubscriptionOperationInProgress", "AnotherOperationInProgress"): "Another operation is in progress. " + RUN_AGAIN_SOON,
    "PendingTransactionAlreadyExists": "A change of the account's replication is still in progress. Run the command again later.",
    "ResourceGroupBeingDeleted": "The resource group is being deleted. Choose another one.",
    "ContainerBeingDeleted": "The container is being deleted. Its name is available again after at least 30 seconds.",
    ("ServerBusy", "RetryableError", "OperationTimedOut"): "The service is busy. " + RUN_AGAIN_SOON,
    ("InternalError", "InternalServerError"): SERVICE_FAILED,
    "PreconditionFailed": CHANGED_SINCE,
    # Accounts
    ("AccountNameInvalid", "StorageAccountNameNotValid"): "An account name has 3 to 24 lowercase letters and digits.",
    "ReservedResourceName": "The name contains a word that Azure reserves. Choose another name.",
    "StorageAccountAlreadyExists": "The account already exists in this subscription. See !azure-storage-account-list.",
    "StorageAccountInAnotherResourceGroup": "The account exists in another resource group. See !azure-storage-account-list.",
    "InvalidResourceLocation": "The account already exists in another location. Omit `location`, or choose another name.",
    "StorageAccountAlreadyTaken": "Account names are unique in all of Azure. Choose another name.",
    ("MaxStorageAccountsCountPerSubscriptionExceeded", "QuotaExceeded", "ResourceQuotaExceeded"): "The quota of the subscription is used up. Delete what isn't needed, or ask Microsoft to raise the quota.",
    "LocationRequired": "Add the argument `location`.",
    ("LocationNotValid", "LocationNotAvailableForResourceType", "AccountTypeNotSupportedInLocation", "SkuNotAvailable", "DataEncryptionNotSupportedInLocation"): "Choose another `location`, or another `sku` or `kind` that the location offers.",
    "InvalidAccountType": "The value of `sku` isn't valid for this `kind` of account.",
    "InvalidAccessTier": "This kind of account doesn't have this access tier.",
    ("StorageAccountTypeConversionNotAllowed", "StorageAccountTypeConversionCannotBeChanged"): "The account can't be converted to this `sku`.",
    ("AccountPropertyCannotBeSet", "AccountPropertyCannotBeUpdated", "PropertyChangeNotAllowed"): "The property named above is read-only or can be set only when the account is created. Omit it.",
    "TooManyUpdateParametersSpecified": "Azure changes only one of these properties at a time. Run the command once for each.",
    ("TooManyTags", "MaxTagKeyLengthExceeded", "MaxTagValueLengthExceeded"): "Use at most 50 tags, with keys of at most 128 and values of at most 256 characters.",
    ("MissingEncryptionKeySource", "MissingEncryptionService", "UnknownEncryptionKeySource"): "Check the `enc_` arguments: a key of Azure Key Vault needs its name and its vault's URI.",
    ("StorageCustomDomainNameNotValid", "StorageDomainNameCouldNotVerify", "StorageDomainNameAlreadyActivated", "StorageDomainNameNotValid"): "Check `custom_domain_name`, its CNAME record, and that no other storage account uses it.",
    "StorageCustomDomainNameNotSupportedForAccountType": "Accounts with this `sku` can't have a custom domain. Omit `custom_domain_name`.",
    "CustomDomainNameAlreadySet": "The account already has a custom domain. It has to be removed before another one can be set.",
    "AccountProtectedFromDeletion": "A legal hold or a locked immutability policy protects the account. Check legal holds and immutability policies of its containers with !azure-storage-blob-containers-list and !azure-storage-container-immutability-get.",
    "AccountIsDisabled": "The account is disabled. Ask the owner of the subscription.",
    "NetworkAclsValidationFailure": "Check the subnets named above: each needs a service endpoint for Microsoft.Storage, and no change of it may be in progress.",
    ("FeatureNotSupportedForAccount", "FeatureNotSupportForAccount", "OperationNotAllowedOnKind"): NOT_FOR_KIND,
    # Containers, roles, replication and logs
    "ContainerAlreadyExists": "The container already exists. Change it with !azure-storage-blob-containers-update.",
    "RoleAssignmentExists": "The identity already has this role at this scope. See !azure-storage-access-list.",
    "RoleAssignmentUpdateNotPermitted": "A role assignment with this ID exists for another identity or role. See !azure-storage-access-list.",
    "RoleAssignmentLimitExceeded": "The subscription has no room for more role assignments. Remove some that aren't needed.",
    "PrincipalNotFound": "The identity doesn't exist in the tenant any more, or was created a moment ago. Check it in Microsoft Entra ID.",
    "RoleDefinitionDoesNotExist": "The role doesn't exist any more. Choose another role.",
    "CrossTenantReplicationNotAllowed": "Cross-tenant replication is off for one of the accounts. See allow_cross_tenant_replication of !azure-storage-account-update.",
    "BadArgumentError": "The log query isn't valid. Correct the value that is named above, and check that the workspace has the tables of storage logs.",
    # The request
    ("InvalidApiVersionParameter", "NoRegisteredProviderFound", "InvalidResourceType"): "This cloud doesn't offer the API version or the location. The versions and locations that it offers are named above.",
    ("InvalidParameter", "InvalidRequestContent", "InvalidValuesForRequestParameters", "StorageAccountPropertiesNotValid"): "Correct the value that is named above, then run the command again.",
    "LinkedInvalidPropertyId": "A resource ID above isn't complete. Enter the whole ID, which begins with /subscriptions/.",
})

RENEW_LEASE = "Acquire a new lease with action=acquire."
NO_LEASE = "Omit `lease_id`."
COPY_SOURCE = "Check that the source exists, that its network rules allow the copy, and that the SAS in its URL, or the role of the identity, allows reading it."

# https://learn.microsoft.com/rest/api/storageservices/blob-service-error-codes, sas-error-codes and
# common-rest-api-error-codes on the same site
BLOB_HINTS = spread({
    # Who may do it
    "AuthenticationFailed": "The account key or SAS is wrong, has expired or was revoked, or the clock of this machine is wrong. Without a key or SAS, run !azure-storage-auth-test to check the sign-in.",
    ("InvalidAuthenticationInfo", "NoAuthenticationInformation"): CHECK_SIGN_IN,
    "AuthorizationSourceIPMismatch": "The SAS is for other IP addresses than this engine's. Use a SAS that allows this address, or run the command on an engine that the SAS allows.",
    "AuthorizationProtocolMismatch": "The SAS doesn't allow the protocol of this request. Use a SAS that allows HTTPS.",
    "AuthorizationServiceMismatch": "The SAS is for other services of the account. Use a SAS that includes the blob service (ss=b).",
    "AuthorizationResourceTypeMismatch": "The SAS is for other resource types. Use a SAS that includes service, container and object (srt=sco) as the operation needs them.",
    "AuthorizationPermissionMismatch": "If a SAS is used, it lacks the permission for this operation. Otherwise the identity lacks a data role: Storage Blob Data Reader to read, Storage Blob Data Contributor to write, Storage Blob Data Owner for index tags (also for listing with include=tags) and for deleting versions. " + ADD_ROLE,
    "AuthorizationFailure": "Usually the account's network rules block this engine. Allow its address with !azure-storage-account-network-rule-add. If the engine runs in the account's own region, IP rules don't apply: allow its subnet with a virtual network rule or use a private endpoint. If a SAS is used, check that it covers this operation.",
    "InsufficientAccountPermissions": "The account doesn't allow this operation with these credentials, or reads or writes are turned off for it. Check the SAS, and the state of the account.",
    "UnauthorizedBlobOverwrite": "The SAS or role may create blobs but not overwrite them. Choose another name, or use a SAS or role with write permission.",
    "KeyBasedAuthenticationNotPermitted": "Shared Key access is disabled for the account, which also blocks account SAS and service SAS. Leave Storage Account Name and its key or SAS empty in the instance, and use a sign-in with a data role.",
    "PublicAccessNotPermitted": "The account doesn't allow anonymous access. Use a sign-in, an account key or a SAS. A container can't be made public until allow_blob_public_access=true is set with !azure-storage-account-update.",
    "TlsVersionNotPermitted": "The account requires a newer TLS version than this connection used. Check whether a proxy with TLS inspection uses an older one.",
    "BlobUsesCustomerSpecifiedEncryption": "The blob is encrypted with a key that its uploader provided and Azure doesn't keep. It can be read only with that key, which this integration can't send. No role or SAS helps.",
    # Not there, or there already
    "ContainerNotFound": LIST_CONTAINERS,
    "BlobNotFound": "Check the name with !azure-storage-blob-list. With include=deleted it also shows soft-deleted blobs, which !azure-storage-blob-undelete restores.",
    "ResourceNotFound": "Check the names of the account, container and blob. The answer is the same for a request without credentials to data that isn't public.",
    "PathNotFound": "Check the path with !azure-storage-blob-list.",
    "BlobAlreadyExists": "Choose another name, or add overwrite=true.",
    "ContainerAlreadyExists": "The container already exists. Change it with !azure-storage-blob-containers-update.",
    "ResourceAlreadyExists": "Choose another name.",
    "ResourceTypeMismatch": "The name belongs to something of another type, such as a directory. Check it with !azure-storage-blob-list.",
    "DirectoryIsNotEmpty": "The directory still has content. Delete the blobs and directories in it first, with !azure-storage-blob-delete prefix=<the directory>/.",
    "OperationNotSupportedOnDirectory": "The name belongs to a directory. Name the blobs in it instead.",
    # State
    "ConditionNotMet": CHANGED_SINCE,
    "SourceConditionNotMet": "The source has changed since it was read. Check it, then run the command again.",
    "TargetConditionNotMet": "The target has changed since it was read. Check it, then run the command again.",
    "SnapshotsPresent": "The blob has snapshots. Add delete_snapshots=include to delete them as well, or delete_snapshots=only to keep the blob.",
    "OperationNotAllowedOnRootBlob": "The version is the blob's current one. Omit `version_id` to delete the blob; with versioning, its content stays as a previous version.",
    "InvalidOperation": "A snapshot or version is read-only. Run the command for the blob itself.",
    "BlobImmutableDueToPolicy": "An immutability policy protects the blob until it ends. See !azure-storage-container-immutability-get and !azure-storage-blob-properties-get.",
    ("BlobImmutableDueToLegalHold", "ContainerHasLegalHold"): "A legal hold protects it. If the hold is no longer needed, clear it with !azure-storage-blob-legal-hold-set legal_hold=false, or on the container with !azure-storage-container-legal-hold-clear.",
    "ContainerImmutabilityPolicyLocked": "A locked immutability policy protects the container until its period has ended for every blob. See !azure-storage-container-immutability-get.",
    "AccountProtectedFromDeletion": ARM_HINTS["AccountProtectedFromDeletion"],
    "ContainerBeingDeleted": ARM_HINTS["ContainerBeingDeleted"],
    "ContainerDisabled": "The container is disabled. Ask the owner of the account.",
    "AccountBeingCreated": ARM_HINTS["StorageAccountBeingCreated"],
    "AccountIsDisabled": ARM_HINTS["AccountIsDisabled"],
    "SystemInUse": "Azure itself is using the blob. Run the command again later.",
    # Tiers
    "BlobArchived": "The blob is archived. Rehydrate it with !azure-storage-blob-tier-set tier=Hot, which can take hours, or copy it with !azure-storage-blob-copy tier=Hot.",
    "BlobBeingRehydrated": "The blob is being rehydrated from the archive tier. Run the command again in some hours; !azure-storage-blob-properties-get shows its state.",
    "BlobNotArchived": "The blob isn't archived. Omit `rehydrate_priority`.",
    ("InvalidBlobTier", "BlobAccessTierNotSupportedForAccountType"): "The blob or the account doesn't support this tier. Only block blobs have tiers here, and Archive needs an account with LRS, GRS or RA-GRS redundancy.",
    # Leases
    "LeaseIdMissing": "The blob or container has an active lease. Add its `lease_id`, or break the lease with !azure-storage-blob-lease action=break. A container's lease is broken with !azure-storage-container-lease action=break.",
    ("LeaseIdMismatchWithBlobOperation", "LeaseIdMismatchWithContainerOperation", "LeaseIdMismatchWithLeaseOperation"): "The `lease_id` isn't the ID of the active lease. Use the ID that the holder of the lease has, or break the lease with action=break.",
    "LeaseAlreadyPresent": "Another lease is active. Break it with action=break, or wait until it ends.",
    "LeaseAlreadyBroken": "The lease is already broken. " + RENEW_LEASE,
    "LeaseIsBreakingAndCannotBeAcquired": "The lease is being broken. Wait until its break period ends, then acquire a new one.",
    "LeaseIsBreakingAndCannotBeChanged": "The lease is being broken and can't be changed. Wait until its break period ends, then acquire a new one.",
    "LeaseIsBrokenAndCannotBeRenewed": "The lease was broken and can't be renewed. " + RENEW_LEASE,
    "LeaseLost": "The lease has expired. " + RENEW_LEASE,
    "LeaseNotPresentWithBlobOperation": "The blob has no active lease. " + NO_LEASE,
    "LeaseNotPresentWithContainerOperation": "The container has no active lease. " + NO_LEASE,
    "LeaseNotPresentWithLeaseOperation": "The blob or container has no active lease. " + RENEW_LEASE,
    "InfiniteLeaseDurationRequired": "The operation needs a lease without end. Acquire one with !azure-storage-blob-lease action=acquire duration=-1.",
    # Copies
    "PendingCopyOperation": "A copy to this blob is in progress. Wait for it, or abort it with !azure-storage-blob-copy abort_copy_id=<its copy ID>.",
    "NoPendingCopyOperation": "No copy is in progress; it has already ended. See !azure-storage-blob-properties-get.",
    "CopyIdMismatch": "The copy in progress has another ID. See !azure-storage-blob-properties-get.",
    "CannotVerifyCopySource": "Azure can't read the source of the copy. " + COPY_SOURCE,
    "InvalidSourceBlobUrl": "The URL of the source isn't valid. " + COPY_SOURCE,
    "InvalidSourceBlobType": "The source is of another type (block, append or page blob) than the target. Copy to a new name.",
    "OperationNotAllowedOnIncrementalCopyBlob": "The blob is the target of an incremental copy. Copy one of its snapshots to a new blob, and use that.",
    # Snapshots
    "SnapshotCountExceeded": "The blob has as many snapshots as Azure allows. Delete some that aren't needed.",
    "SnapshotOperationRateExceeded": "Snapshots of this blob are taken too fast. " + RUN_AGAIN_SOON,
    # What this kind of account or cloud can't do
    "FeatureNotSupportedForAccount": NOT_FOR_KIND,
    "FeatureNotEnabled": "A feature that the operation needs isn't enabled for the account or its region.",
    ("FeatureNotYetSupportedForHierarchicalNamespaceAccounts", "BlobApiNotYetSupportedForHierarchicalNamespaceAccounts"): "Accounts with a hierarchical namespace don't support this feature, such as snapshots and index tags.",
    "BlobTagsNotSupportedForAccountType": "Only general-purpose v2 accounts support index tags. No permission changes that.",
    "FeatureVersionMismatch": "The data or the stored access policy uses a feature that is newer than the API version of this cloud.",
    "BlobOperationNotSupported": "The blob was created through the Data Lake Storage API, which doesn't allow this operation. Copy it to a new name, and use that.",
    ("UnsupportedHeader", "UnsupportedQueryParameter", "UnsupportedXmlNode"): "This account or this cloud doesn't support the feature that is named above. Omit the argument that asks for it.",
    # Values
    ("InvalidHeaderValue", "OutOfRangeInput", "OutOfRangeQueryParameterValue", "InvalidInput", "MissingRequiredXmlNode"): "Correct the value that is named above, then run the command again. If none is named, check the arguments.",
    "InvalidQueryParameterValue": "Correct the value that is named above. If it is tags or snapshot, the account doesn't support that feature, for instance because it has a hierarchical namespace.",
    "InvalidXmlNodeValue": "A value in the request isn't valid. If a user delegation SAS was asked for, its time is more than 7 days away or the clock of this machine is wrong: shorten `expires_in`, or correct the clock.",
    "InvalidXmlDocument": "A value in the request isn't valid. Check the arguments, such as tags, for characters that Azure doesn't allow.",
    "InvalidResourceName": "The name has characters or a length that Azure doesn't allow. A container name has 3 to 63 lowercase letters, digits and single hyphens; a blob name has at most 1,024 characters.",
    ("InvalidUri", "RequestUrlFailedToParse"): "The address isn't valid. Check the names of the account, container and blob.",
    "InvalidMetadata": "Metadata keys begin with a letter or an underscore and hold only letters, digits and underscores. Values can't have control characters.",
    "EmptyMetadataKey": "A metadata key is empty. Give every value a key.",
    "MetadataTooLarge": "Metadata can have 8 KB in all. Shorten it or remove keys.",
    "InvalidRange": "The range begins after the end of the blob. See its size with !azure-storage-blob-properties-get.",
    "InvalidBlobType": "The blob is of another type (block, append or page blob) than the operation needs. See !azure-storage-blob-properties-get.",
    "InvalidMd5": "The value isn't an MD5 hash in Base64 (24 characters). Correct `content_md5`.",
    "Md5Mismatch": "The content was damaged in transit. Run the command again.",
    ("InvalidBlobOrBlock", "InvalidBlockId", "InvalidBlockList", "BlockCountExceedsLimit"): "Another upload to the same name may have left or replaced blocks. Upload again when it has ended, or under another name. Azure discards blocks that aren't committed after a week.",
    ("RequestBodyTooLarge", "BlockListTooLong"): "The content is larger than this account or cloud accepts for this operation.",
    # The service, the way to it
    "ServerBusy": "The service is busy or throttles requests. " + RUN_AGAIN_SOON,
    "OperationTimedOut": "The request timed out. Run the command again.",
    "InternalError": SERVICE_FAILED,
    ("InvalidHttpVerb", "UnsupportedHttpVerb", "MissingContentLengthHeader", "MissingRequiredHeader", "MissingRequiredQueryParameter", "ConditionHeadersNotSupported", "MultipleConditionHeadersNotSupported"): "The request reached the service incomplete or changed. Check whether a proxy changes requests. If the error persists, give the request id to Microsoft support.",
})
# Only what the status alone makes certain. A 403 or 409 with an unknown code gets the service's words and no guess.
STATUS_HINTS = {
    401: CHECK_SIGN_IN,
    407: "The proxy requires a sign-in. Check the proxy settings of the engine or server.",
    408: "The request timed out. Run the command again.",
    413: "The content is larger than the service, or a proxy on the way to it, accepts.",
    429: SLOW_DOWN,
    500: SERVICE_FAILED,
    502: "A gateway got no valid answer from the service. " + RUN_AGAIN_SOON,
    503: "The service is busy. " + RUN_AGAIN_SOON,
    504: "A gateway got no answer from the service in time. " + RUN_AGAIN_SOON,
}

CHECK_NETWORK = "Check that the engine or server can reach this host, through a proxy if it needs one."
# A sign in the text of a requests exception, which names what urllib3 met; what happened; the next step. The first match counts.
NETWORK_HINTS = (
    ("ProxyError", "the proxy on the way to {host} refused the connection or could not be reached.", "Check 'Use system proxy settings' in the instance and the proxy settings of the engine or server."),
    ("CERTIFICATE_VERIFY_FAILED", "the certificate of {host} is not trusted.", "If a proxy inspects TLS, add its certificate authority to the engine or server. As a last resort, select 'Trust any certificate' in the instance."),
    ("SSLError", "the TLS connection to {host} failed.", "Check whether a proxy or firewall on the way inspects or blocks TLS."),
    ("NameResolutionError", "{host} could not be resolved (DNS).", "Check the account name and the Cloud of the instance. The account may have been deleted, or its name may be known to a private DNS zone only."),
    ("ConnectTimeout", "{host} did not answer within " + str(CONNECT_TIMEOUT) + " seconds.", CHECK_NETWORK),
    ("ReadTimeout", "{host} took longer than " + str(READ_TIMEOUT) + " seconds to answer.", "Run the command again."),
    ("NewConnectionError", "{host} refused the connection.", CHECK_NETWORK),
    ("RemoteDisconnected", "{host} closed the connection without an answer.", "Run the command again. If the error persists, check whether a firewall or proxy closes the connection."),
    ("ConnectionResetError", "the connection to {host} was reset.", "Run the command again. If the error persists, check whether a firewall or proxy closes the connection."),
    ("IncompleteRead", "the answer of {host} was cut off.", "Run the command again."),
)
# fmt: on


# --- errors ------------------------------------------------------------------------------------------------------------


class AzureStorageError(Exception):
    """Anything this integration refuses or fails to do, in words for the person who ran the command.

    AzureStorageError
      UsageError          an argument or an instance parameter is wrong; nothing was sent
        UnknownAccountError  nothing tells where a storage account is
      SignInError         Entra ID refused, or this instance is not signed in
        SignInPending     the sign-in in the browser is not finished; not a failure
      NetworkError        no usable answer: DNS, connection, TLS, proxy, time-out, or not an answer of the service
      ServiceError        Azure answered with an error

    next_step says what to do about it; empty where the message already does. sent tells whether the request may have
    been carried out although no answer says so.
    """

    def __init__(self, message: str, next_step: str = "", *, sent: bool = False) -> None:
        super().__init__(message)
        self.message, self.next_step, self.sent = message, next_step, sent

    def __str__(self) -> str:
        return f"{self.message}\nNext step: {self.next_step}" if self.next_step else self.message


class UsageError(AzureStorageError):
    """An argument or an instance parameter is wrong; nothing was sent."""


class UnknownAccountError(UsageError):
    """Nothing tells where a storage account is."""


class SignInError(AzureStorageError):
    """Entra ID refused, or this instance is not signed in. `code` is OAuth's error name."""

    def __init__(self, message: str, next_step: str = "", code: str = "") -> None:
        super().__init__(message, next_step)
        self.code = code


class SignInPending(SignInError):
    """The sign-in in the browser is not finished; the same command can be repeated."""


class NetworkError(AzureStorageError):
    """No usable answer came back."""


# Answers after which another try may help, since nothing certain came of this one; 501 and 505 say that it is of no use.
RETRY_STATUSES = frozenset({408, 429, *range(500, 600)} - {501, 505})
# Refusals that a role changes.
ROLE_CODES = frozenset(
    {"AuthorizationFailed", "AuthorizationPermissionMismatch", "LinkedAuthorizationFailed", "InsufficientAccessError"}
)


class ServiceError(AzureStorageError):
    """Azure answered with an error.

    Holds what was tried (`action`), the HTTP `status`, the service's `code` and `detail`, and the `request_id` that
    Microsoft support asks for. `repeated`: this is the answer to a request that was sent again after an earlier one
    may have been carried out. `needs`: the permission of the call, where an identity made it.
    """

    def __init__(
        self,
        action: str,
        status: int,
        code: str,
        detail: str,
        request_id: str = "",
        hint: str = "",
        *,
        repeated: bool = False,
        needs: str = "",
    ) -> None:
        words = f"Could not {action}: {status} {code}".rstrip()
        super().__init__(f"{words}. {detail}".rstrip(), hint or STATUS_HINTS.get(status, ""))
        self.action, self.status, self.code, self.detail, self.request_id = action, status, code, detail, request_id
        self.repeated, self.needs = repeated, needs
        self.sent = repeated or status in RETRY_STATUSES - {429}

    def __str__(self) -> str:
        return super().__str__() + (f"\nRequest ID: {self.request_id}" if self.request_id else "")

    @property
    def permission(self) -> str:
        """The permission that is lacking; empty where a role would change nothing."""
        return (
            f"Required permission: {self.needs}."
            if self.status == 403 and self.code in ROLE_CODES and self.needs
            else ""
        )

    @property
    def brief(self) -> str:
        """Status and code, for a cell of a table."""
        return f"{self.status} {self.code}".rstrip()


# --- secrets -----------------------------------------------------------------------------------------------------------

HIDDEN = "<hidden>"
_known_secrets: set[str] = set()

# Names whose values are secret, in queries, forms, JSON (also JSON inside JSON), headers and connection strings.
_MARKED = (
    "sig|client_secret|refresh_token|access_token|id_token|assertion|client_assertion|device_code|code_verifier"
    "|accountkey|sharedaccesssignature|x-identity-header"
)
# Each pattern starts at the beginning of a run of its characters, so that a scan stays linear in the text.
_SECRET_PATTERNS = (
    (
        re.compile(
            rf"(?i)(?:(?<![a-z0-9_-])|(?<=%26)|(?<=%3f))({_MARKED})(\\*[\"']?\s*(?:=|%3d|:)\s*\\*[\"']?)[^&\s\"'\\<>;,]+"
        ),
        rf"\1\2{HIDDEN}",
    ),
    # an authorization code, but not the number of an error
    (re.compile(r"(?i)(?<![a-z0-9_-])(code)=(?!\d{1,8}\W?(?:[&\s\"'<>)]|$))[^&\s\"'<>]+"), rf"\1={HIDDEN}"),
    (re.compile(r"(?i)\b(bearer|sharedkey)\s+[\w.~+/=:-]{8,}"), rf"\1 {HIDDEN}"),
    (re.compile(r"(?<![\w-])eyJ[\w-]{8,}\.[\w-]+(?:\.[\w-]*)?"), HIDDEN),  # a JSON web token
    (re.compile(r"(?<![A-Za-z0-9+/])[A-Za-z0-9+/]{86}=="), HIDDEN),  # an account key
    (
        re.compile(
            r"-----BEGIN [A-Z ]{0,40}PRIVATE KEY-----.*?(?:-----END [A-Z ]{0,40}PRIVATE KEY-----|\Z)", re.DOTALL
        ),
        HIDDEN,
    ),
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
    """Hide this value from now on, also as it stands in a URL or a form: in our own texts, and in both logs of the
    platform, before it is sent anywhere.

    In debug mode the platform prints requests through a second logger, which only add_sensitive_log_strs reaches.
    """
    if len(value) < 6 or value in _known_secrets:  # hiding something so short would only garble texts
        return
    try:
        forms = (value, urllib.parse.quote(value, ""), urllib.parse.quote_plus(value))
    except UnicodeEncodeError:
        raise UsageError("A secret holds half of a surrogate pair, which is no character.", "Copy it again.") from None
    for form in dict.fromkeys(forms):
        _known_secrets.add(form)
        add_sensitive_log_strs(form)


def redact(text: str) -> str:
    """The text without tokens, keys, signatures, codes and every value held as a Secret."""
    for value in sorted(_known_secrets, key=len, reverse=True):
        text = text.replace(value, HIDDEN)
    for pattern, replacement in _SECRET_PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def snippet(text: str) -> str:
    """The start of an unexpected answer, on one line and without secrets."""
    line = " ".join(redact(text[: 50 * SNIPPET]).split())
    return line[:SNIPPET] + ("..." if len(line) > SNIPPET else "")


# --- values ------------------------------------------------------------------------------------------------------------

# JSON, XML and dotted paths


def json_value(text: str) -> object:
    """The JSON value in a text; ValueError where there is none, or one that is nested too deeply to be read."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("the JSON is nested too deeply") from None


def json_object(text: str) -> Json:
    """The JSON object in a text, or {} where there is none."""
    try:
        value = json_value(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def dicts(value: object) -> list[Json]:
    """The objects in a list from a service; nothing for whatever else may stand there."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def at_path(value: object, path: str) -> Any:
    """What stands at a dotted path; None where it ends early."""
    for key in path.split("."):
        value = value.get(key) if isinstance(value, dict) else None
    return value


def put_path(body: Json, path: str, value: object) -> None:
    *parents, last = path.split(".")
    for parent in parents:
        body = body.setdefault(parent, {})
    body[last] = value


def without(value: Json, paths: Iterable[str]) -> Json:
    """A copy without what stands at the dotted paths."""
    copy = deepcopy(value)
    for path in paths:
        parent, _, last = path.rpartition(".")
        holder = at_path(copy, parent) if parent else copy
        if isinstance(holder, dict):
            holder.pop(last, None)
    return copy


def given_only(values: Mapping[str, Any]) -> Json:
    return {key: value for key, value in values.items() if value is not None}


def feed_xml(
    start: Callable[[str, dict[str, str]], None],
    end: Callable[[str], None],
    data: Callable[[str], None],
    pieces: Iterable[bytes],
) -> None:
    """Parse XML as it arrives. ValueError if it is malformed or declares a document type, which no Azure answer does."""
    parser = expat.ParserCreate()
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = start, end, data

    def refuse(*_: object) -> None:
        raise ValueError("XML with a document type is not read")

    parser.StartDoctypeDeclHandler = refuse
    try:
        for piece in pieces:
            parser.Parse(piece, False)
        parser.Parse(b"", True)
    except expat.ExpatError as error:
        raise ValueError(f"malformed XML: {error}") from None


def parse_xml(text: str) -> Json:
    """A small XML document as nested dictionaries: elements by name, lists where a name repeats, text at the leaves.

    ValueError for anything malformed.
    """
    stack: list[Json] = [{}]
    words: list[str] = []

    def start(name: str, attributes: dict[str, str]) -> None:
        words.clear()
        stack.append({})

    def end(name: str) -> None:
        value: object = stack.pop() or "".join(words)
        words.clear()
        held = stack[-1].get(name)
        stack[-1][name] = value if held is None else [*(held if isinstance(held, list) else [held]), value]

    feed_xml(start, end, words.append, [text.encode()])
    return stack[0]


def many(value: object) -> list[Json]:
    """The repeated elements of an XML document as objects, whether there are none, one or several."""
    return dicts(value if isinstance(value, list) else [value])


# Quoting: one function for each place where a text from outside becomes part of something else

DOT_SEGMENTS = frozenset({".", ".."})


def segment(text: str) -> str:
    """One path segment of a URL; nothing in it can reach another path, host or query. UsageError for . and .., which
    every HTTP client folds away."""
    if text in DOT_SEGMENTS:
        raise UsageError(f"Invalid name {text!r}: a URL can't address it.")
    return urllib.parse.quote(text, safe="")


def blob_path(container: str, blob: str = "") -> str:
    """The path of a container or blob in a URL; the slashes of a blob's name stay. UsageError for a name with a segment
    of dots, which no URL reaches: clients and Azure fold it into another path."""
    if not DOT_SEGMENTS.isdisjoint(blob.split("/")):
        raise UsageError(f"Invalid blob name {blob!r}: a URL can't address a segment of only dots.")
    return f"/{segment(container)}" + (f"/{urllib.parse.quote(blob, safe='/~')}" if blob else "")


def query_string(pairs: Mapping[str, Any]) -> str:
    return urllib.parse.urlencode(given_only(pairs), quote_via=urllib.parse.quote, safe="$'/,")


def header_text(text: str) -> str:
    """A text that may become the value of a header: printable ASCII. ValueError otherwise."""
    if not text.isascii() or not text.isprintable():
        raise ValueError("only printable ASCII characters are possible")
    return text


def kql(text: str) -> str:
    """A text as a string of the Kusto query language, in which nothing of it can end the string."""
    return (
        "'"
        + "".join(f"\\u{ord(c):04x}" if ord(c) < 32 else c for c in text.replace("\\", "\\\\").replace("'", "\\'"))
        + "'"
    )


def odata(text: str) -> str:
    """A text as a string of an OData filter."""
    return "'" + text.replace("'", "''") + "'"


def tag_test(name: str, value: str) -> str:
    """The expression that finds blobs by one tag; neither part can hold a quote, see read_blob_tags."""
    return f"\"{name}\"='{value}'"


def escape_xml(text: str) -> str:
    return html.escape(text, quote=False)


def md(text: str) -> str:
    """A text as Markdown shows it, letter for letter: no link, image or HTML comes alive in it."""
    text = re.sub(r"&(?=#?\w+;)", "&amp;", text).replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([\\\[\]])", r"\\\1", text)
    return re.sub(r"(?i)\b(https?|ftp|mailto)(:)|\b(www)(\.)", lambda m: f"{m[1] or m[3]}\\{m[2] or m[4]}", text)


def unescaped(text: str) -> str:
    """The text that md() was given."""
    plain = re.sub(r"\\([\\\[\]:.])", r"\1", text)
    return plain.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")


def code(text: str) -> str:
    """A text as Markdown shows code; one with backticks in it needs more of them around it."""
    if "`" not in text:
        return f"`{text}`"
    fence = "`" * (1 + max(len(run) for run in re.findall("`+", text)))
    return f"{fence} {text} {fence}"


def war_room_quote(text: str) -> str:
    """A value as a person types it: bare where that is safe, in quotes with escapes otherwise."""
    if (
        re.fullmatch(r"[\w.,:;/@+=%&?$~*()<>#|{}-]+", text, re.ASCII)
        and not text.startswith(("{", "["))
        and "=" not in text
    ):
        return text
    if "`" not in text and ('"' in text or "\\" in text):
        return f"`{text}`"
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def as_text(value: object) -> str:
    """An argument as the string a person would have typed: playbooks also hand over booleans, numbers, lists and objects."""
    if isinstance(value, str):
        return value
    if value is None:
        return ""
    return json.dumps(value) if isinstance(value, list | dict | bool) else str(value)


def command_line(name: str, *arguments: Mapping[str, Any]) -> str:
    """A command as a person types it."""
    pairs = itertools.chain.from_iterable(part.items() for part in arguments)
    return " ".join([f"!azure-storage-{name}", *(f"{key}={war_room_quote(as_text(value))}" for key, value in pairs)])


# Times


class Clock:
    """Time, in one place, so that tests can do without waiting."""

    @staticmethod
    def now() -> float:
        return time.time()

    @staticmethod
    def wait(seconds: float) -> None:
        threading.Event().wait(seconds)


# https://learn.microsoft.com/rest/api/storageservices/formatting-datetime-values
MOMENT = re.compile(r"(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d)(?:(:\d\d)(?:\.\d{1,9})?)?\s*(?:[zZ]|([+-]\d\d):?(\d\d))?)?")


def moment(text: object) -> float | None:
    """Seconds since 1970 of a time in any form that Azure documents, UTC unless it says otherwise; None if it is none."""
    found = MOMENT.fullmatch(str(text).strip())
    if not found:
        return None
    usual = ("", "00:00", ":00", "+00", "00")
    day, clock, second, hours, minutes = (given or other for given, other in zip(found.groups(), usual, strict=True))
    try:
        seconds = datetime.fromisoformat(f"{day} {clock}{second}{hours}:{minutes}").timestamp()
        iso_time(seconds)
    except (ArithmeticError, OSError, ValueError):
        return None
    return seconds


def iso_time(seconds: float) -> str:
    """A time as Azure writes it. ValueError or OverflowError beyond the years 1 to 9999."""
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


@lru_cache(1024)  # most blobs were last modified when they were created
def http_date(text: str) -> str:
    """An HTTP date in ISO form; the text itself where it is none."""
    try:
        return iso_time(email.utils.parsedate_to_datetime(text).timestamp())
    except (ArithmeticError, TypeError, ValueError):
        return text


UNIT_SECONDS = {"m": 60, "h": 3600, "d": 86_400}


def read_span(text: str) -> float:
    """Seconds of a span such as 30m, 12 hours or 7d."""
    found = re.fullmatch(r"(\d{1,5}(?:\.\d{1,6})?)\s*(m|h|d|min|minutes?|hours?|days?)", text.strip().lower())
    if not found:
        raise ValueError("a span is a number with m, h or d")
    return float(found[1]) * UNIT_SECONDS[found[2][0]]


def read_time(text: str) -> float:
    """Seconds since 1970 of a time in ISO form, or of a span back from now."""
    seconds = moment(text)
    if seconds is not None:
        return seconds
    return Clock.now() - read_span(re.sub(r"\s*ago$", "", text.strip().lower()))


def read_expiry(text: str) -> float:
    """Seconds since 1970 of a time in ISO form, or of a span from now on; a bare number counts hours."""
    seconds = moment(text)
    if seconds is not None:
        return seconds
    return Clock.now() + read_span(f"{text}h" if re.fullmatch(r"[\d.]+", text) else text)


# Numbers, lists and pairs


def read_number(low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not re.fullmatch(r"-?\d{1,15}", text, re.ASCII) or not low <= int(text) <= high:
            raise ValueError
        return int(text)

    return read


def whole(text: object) -> int:
    """A length or count that a service wrote, 0 where it wrote none; ValueError if it is no whole number."""
    found = str(0 if text is None else text).strip()
    if not re.fullmatch(r"\d{1,18}", found, re.ASCII):
        raise ValueError(f"{snippet(found)!r} is not a whole number")
    return int(found)


def read_flag(text: str) -> bool:
    words = ("false", "no", "0", "true", "yes", "1")
    return words.index(text.lower()) >= words.index("true")


def is_true(text: str) -> bool:
    return text.lower() == "true"


def split_list(text: str) -> list[str]:
    """The strings in a comma list or a JSON array; ValueError for a malformed array."""
    if text.startswith("["):
        values = json_value(text)
        if not isinstance(values, list) or not all(isinstance(value, str | int) for value in values):
            raise ValueError
        return [str(value).strip() for value in values]
    return [part.strip() for part in text.split(",") if part.strip()]


def read_json_object(text: str) -> Json:
    found = json_object(text)
    if not found:
        raise ValueError
    return found


def read_pairs(text: str) -> dict[str, str]:
    """name=value pairs separated by commas, or a JSON object. A pair without a sign has an empty value."""
    found = json_value(text) if text.startswith("{") else dict(part.partition("=")[::2] for part in split_list(text))
    if not isinstance(found, dict):
        raise ValueError
    return {str(name).strip(): as_text(value).strip() for name, value in found.items()}


def check_sizes(tags: Mapping[str, str], most: int) -> None:
    """ValueError for more tags, or longer ones, than Azure keeps."""
    if len(tags) > most or not all(1 <= len(name) <= 128 and len(value) <= 256 for name, value in tags.items()):
        raise ValueError


def read_tags(text: str) -> dict[str, str]:
    """Tags from a JSON object, key=value pairs, or a bare comma list, which becomes tag1..tagN as in the existing pack.

    https://learn.microsoft.com/azure/azure-resource-manager/management/tag-resources
    """
    parts = [] if text.startswith("{") else split_list(text)
    signs = {"=" in part for part in parts}
    if len(signs) > 1:
        raise ValueError("some items have no =")
    tags = {f"tag{count}": part for count, part in enumerate(parts, 1)} if signs == {False} else read_pairs(text)
    if not tags:
        raise ValueError
    check_sizes(tags, 50)
    if any(set(key) & set("<>%&\\?/") for key in tags):
        raise ValueError("a name holds one of < > % & \\ ? /")
    return tags


def only_pair(read: Callable[[str], dict[str, str]]) -> Callable[[str], tuple[str, str]]:
    """A reader of one pair, as {"name": "value"} or name=value, from a reader of pairs; a bare text is no pair."""

    def read_one(text: str) -> tuple[str, str]:
        pairs = read(text) if text.startswith("{") or "=" in text else {}
        if len(pairs) != 1:
            raise ValueError
        return next(iter(pairs.items()))

    return read_one


read_tag_filter = only_pair(read_tags)
BLOB_TAG = re.compile(r"[A-Za-z0-9 +\-.:=_/]*")


def read_blob_tags(text: str) -> dict[str, str]:
    """https://learn.microsoft.com/rest/api/storageservices/set-blob-tags"""
    tags = read_pairs(text)
    check_sizes(tags, 10)
    if not all(BLOB_TAG.fullmatch(name) and BLOB_TAG.fullmatch(value) for name, value in tags.items()):
        raise ValueError("a character that blob tags can't have")
    return tags


read_blob_tag = only_pair(read_blob_tags)


def read_metadata(text: str) -> dict[str, str]:
    """https://learn.microsoft.com/rest/api/storageservices/setting-and-retrieving-properties-and-metadata-for-blob-resources"""
    metadata = read_pairs(text)
    if not all(
        re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII) and header_text(value) == value
        for name, value in metadata.items()
    ):
        raise ValueError("a name is not a C# identifier")
    if sum(len(name) + len(value) for name, value in metadata.items()) > 8192:
        raise ValueError("more than 8 KiB")
    return metadata


# Names and ids

GUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
ACCOUNT_NAME = re.compile(r"[a-z0-9]{3,24}")
CONTAINER_NAME = re.compile(r"(?!.*--)[a-z0-9][a-z0-9-]{1,61}[a-z0-9]|\$(?:root|web|logs|blobchangefeed)")
# https://learn.microsoft.com/azure/azure-resource-manager/management/resource-name-rules
GROUP_NAME = re.compile(r"(?!\.+$)[\w().-]{0,89}[\w()-]")
LOCK_NAME = re.compile(r"(?!\.+$)[^<>%&:\\?/\x00-\x1f]{1,90}")
SUBNET_ID = re.compile(
    r"(?i)/subscriptions/[^/]+/resourceGroups/[^/]+/providers/Microsoft\.(?:Classic)?Network/virtualNetworks/[^/]+/subnets/[^/]+"
)
RESOURCE_ID = re.compile(r"(?i)/subscriptions/[^/]+(?:/resourceGroups/[^/]+)?/providers/[\w.]+/.+")
VERSION = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,7})?Z")


def matching(pattern: re.Pattern[str], text: str) -> str:
    """The text if it matches the pattern from end to end; ValueError otherwise."""
    if not pattern.fullmatch(text):
        raise ValueError
    return text


def unquoted(text: str) -> str:
    """A pasted value without the blanks around it, and without one pair of quotes around the whole of it."""
    text = text.strip()
    return text[1:-1].strip() if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'`" else text


class ResourceId(NamedTuple):
    """The parts of an ARM id that this integration uses; a part that is not there is empty."""

    subscription: str
    group: str = ""
    account: str = ""
    container: str = ""


def parse_resource_id(text: str) -> ResourceId:
    """Split an ARM id, whatever the case of its keywords. ValueError if it is not one."""
    segments = [urllib.parse.unquote(part) for part in text.strip().strip("/").split("/")]
    pairs = dict(zip(map(str.lower, segments[::2]), segments[1::2], strict=False))
    if segments[0].lower() != "subscriptions" or not pairs:
        raise ValueError
    return ResourceId(
        *(pairs.get(kind, "") for kind in ("subscriptions", "resourcegroups", "storageaccounts", "containers"))
    )


def resource_id(item: object) -> ResourceId:
    """The parsed id of an ARM object; empty parts where the object has none."""
    try:
        return parse_resource_id(str(at_path(item, "id") or ""))
    except ValueError:
        return ResourceId("")


def plain_id(text: object) -> str:
    """An ARM id for comparison: ours is quoted, ARM's is not, and its case varies."""
    return urllib.parse.unquote(str(text or "")).rstrip("/").lower()


def part_of_id(text: str, part: str) -> str:
    """A part of an ARM id; any other text is the part itself."""
    text = unquoted(text)
    return str(getattr(parse_resource_id(text), part)) if text.startswith("/") else text


def parse_subscription(text: str) -> str:
    return matching(GUID, part_of_id(text, "subscription")).lower()


def parse_group(text: str) -> str:
    return matching(GROUP_NAME, part_of_id(text, "group"))


def parse_container(text: str) -> str:
    return matching(CONTAINER_NAME, unquoted(text).rstrip("/").lower())


def parse_blob_name(text: str) -> str:
    """Any name that Azure can hold and a URL can reach: 1 to 1,024 characters, no control characters, no . or .. segment."""
    if not 1 <= len(text) <= 1024 or re.search(r"[\x00-\x1f\x7f\ud800-\udfff]", text):
        raise ValueError
    if not DOT_SEGMENTS.isdisjoint(text.split("/")):
        raise ValueError("a URL can't address a segment of only dots")
    return text


def read_names(text: str) -> list[str]:
    """Blob names may hold commas and blanks, so only lines and JSON arrays separate them."""
    found = json_value(text) if text.startswith("[") else list(filter(None, text.splitlines()))
    if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
        raise ValueError
    return [parse_blob_name(name) for name in found]


def safe_file_name(name: str) -> str:
    """A blob's name as a local file name that leads nowhere else and fits into a file system (255 bytes)."""
    plain = re.sub(r"[^\w.() +=@-]", "_", name.rsplit("/", 1)[-1])
    return plain.encode()[-200:].decode(errors="ignore").lstrip(".") or "blob"


def read_location(text: str) -> str:
    """A region by its name or its display name: "West Europe" is westeurope."""
    return matching(re.compile(r"[a-z0-9]{3,40}"), re.sub(r"[\s-]", "", text).lower())


def read_md5(text: str) -> str:
    """An MD5 in hexadecimal, as threat feeds have it, or in base64, as Azure has it."""
    return (
        text.lower() if re.fullmatch(r"[0-9a-fA-F]{32}", text) else matching(re.compile("[0-9a-f]{32}"), md5_hex(text))
    )


def md5_hex(text: str) -> str:
    """A Content-MD5 as people and threat feeds write it."""
    try:
        return base64.b64decode(text).hex()
    except ValueError:
        return text


# Network addresses

# Azure never sees these as the address of a client.
UNROUTABLE = tuple(
    map(
        ipaddress.IPv4Network,
        (
            *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12"),
            *("192.168.0.0/16", "224.0.0.0/4", "240.0.0.0/4"),
        ),
    )
)
NARROWEST_OWN = 8  # prefix length: a wider network of "our own" addresses would let strangers in


def read_ip_rule(text: str) -> str:
    """An IPv4 address or network as ARM takes it: public, up to /30, and a single address without /32.

    https://learn.microsoft.com/azure/storage/common/storage-network-security#restrictions-for-ip-network-rules
    """
    network = ipaddress.IPv4Network(text.strip(), strict=False)
    if any(network.subnet_of(private) for private in UNROUTABLE[1:]):
        raise ValueError("private addresses can't be used in a storage firewall")
    if network.prefixlen == 31:
        raise ValueError("a /31 is not possible; give its two addresses")
    return str(network.network_address) if network.prefixlen == 32 else str(network)


def rule_values(text: str, *keys: str) -> list[str]:
    """The values of a rule list: a comma list, a JSON array of them or of ARM's own objects, or one such object."""
    if not text.startswith(("[", "{")):
        return split_list(text)
    found = json_value(text)
    items = found if isinstance(found, list) else [found]
    return [
        next(str(item[key]) for key in (*keys, "") if key in item) if isinstance(item, dict) else str(item)
        for item in items
    ]


def read_ip_rules(text: str) -> list[Json]:
    return [
        {"value": read_ip_rule(value), "action": "Allow"} for value in rule_values(text, "value", "IPAddressOrRange")
    ]


def read_subnet_rules(text: str) -> list[Json]:
    return [{"id": matching(SUBNET_ID, value), "action": "Allow"} for value in rule_values(text, "id")]


def read_resource_rules(text: str) -> list[Json]:
    """Resource instances by their ARM ids; the tenant is filled in later."""
    return [{"resourceId": matching(RESOURCE_ID, value)} for value in rule_values(text, "resourceId", "id")]


def read_own_addresses(text: str) -> list[Json]:
    """The addresses by which Azure sees us; the word none accepts being locked out. Neither everybody nor nobody."""
    if text.lower() == "none":
        return []
    rules = read_ip_rules(text)
    networks = [ipaddress.IPv4Network(rule["value"]) for rule in rules]
    if any(network.prefixlen < NARROWEST_OWN for network in networks):
        raise ValueError(f"a network wider than /{NARROWEST_OWN} would let strangers in")
    if any(network.subnet_of(private) for network in networks for private in UNROUTABLE):
        raise ValueError("Azure never sees such an address")
    return rules


def read_client_address(text: str) -> str:
    """One IP address, with or without a port; IPv6 may stand in brackets, as URLs and logs have it."""
    bare = re.sub(r"^(?:\[(.+)\]|(\d+\.\d+\.\d+\.\d+))(?::\d+)?$", r"\1\2", text.strip())
    return str(ipaddress.ip_address(bare))


# Addresses of accounts, containers and blobs

# Routing, secondary and dual-stack endpoints are other names of the same account.
SERVICE_HOST = re.compile(
    r"(?P<account>[a-z0-9]{3,24})(?:-(?:secondary|internetrouting|microsoftrouting|ipv6|dualstack))*"
    r"(?:\.(?P<zone>z\d{1,3})|\.privatelink)*\.(?P<service>blob|dfs|file|queue|table|web)\.(?P<suffix>[\w.-]+?)\.?"
)


def host_of(url: str) -> str:
    """Host and port of a URL, lower case, without the port of https; empty unless it is https without user information."""
    try:
        parts = urllib.parse.urlsplit(url)
        port = parts.port
    except ValueError:
        return ""
    if parts.scheme != "https" or "@" in parts.netloc or not parts.hostname:
        return ""
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return host if port in (None, 443) else f"{host}:{port}"


# A host that is no name of an account: its path begins with the account.
BARE_HOST = re.compile(r"(?:[\d.]+|localhost|\[.*\])(?::\d+)?$")


class BlobAddress(NamedTuple):
    """What an address names; parts that it does not reach are empty. A SAS in it is dropped.

    service is what the host says: blob, dfs, file, queue, table or web; zone is that of a DNS zone endpoint.
    """

    host: str
    account: str
    container: str = ""
    blob: str = ""
    version: str = ""
    snapshot: str = ""
    service: str = "blob"
    zone: str = ""
    suffix: str = ""


def account_and_path(host: str, path: str) -> tuple[BlobAddress, str]:
    """The account that host and path name, and the rest of the path: the host's first label, or the first segment of the
    path where the host is a bare address. No account for any other host."""
    name = re.sub(r":\d+$", "", host)
    found = SERVICE_HOST.fullmatch(name)
    if not found:
        account, _, rest = path.partition("/")
        return (BlobAddress(host, account), rest) if BARE_HOST.match(host) else (BlobAddress(host, ""), path)
    address = BlobAddress(host, **found.groupdict(""))
    if address.service != "web":
        return address, path
    # The zone of a usual website's host is that of its region, and no part of the account's other hosts.
    zone = address.zone if address.suffix in {cloud.zone_suffix for cloud in CLOUDS.values()} else ""
    return address._replace(zone=zone), f"$web/{path}" if path else "$web"


def parse_blob_url(text: str) -> BlobAddress:
    """An address of an account, a container or a blob in any form that alerts, logs and portals write: https to any
    endpoint of the account, or abfss and wasbs as Spark and Hadoop have it. ValueError for anything else.

    https://learn.microsoft.com/rest/api/storageservices/naming-and-referencing-containers--blobs--and-metadata
    """
    text = unquoted(text)
    hadoop = re.fullmatch(r"(?i)(?:abfss?|wasbs?)://([^@/]+)@([^/?#]+)/?([^?#]*)(.*)", text, re.DOTALL)
    if hadoop:
        text = f"https://{hadoop[2]}/{hadoop[1]}{hadoop[3] and '/'}{hadoop[3]}{hadoop[4]}"
    parts = urllib.parse.urlsplit(text)
    address, path = account_and_path(host_of(text), parts.path.lstrip("/"))
    if not ACCOUNT_NAME.fullmatch(address.account):
        raise ValueError("it is no https address of a storage account; the request was not sent")
    container, blob = (urllib.parse.unquote(part, errors="strict") for part in path.partition("/")[::2])
    if path and "/" not in path + container and address.service == "blob" and not CONTAINER_NAME.fullmatch(container):
        container, blob = "$root", container  # the root container's blobs are named without it
    query = {name.lower(): value for name, value in urllib.parse.parse_qsl(parts.query)}
    version, snapshot = (
        matching(VERSION, query[name]) if query.get(name) else "" for name in ("versionid", "snapshot")
    )
    return address._replace(
        container=parse_container(container) if container else "",
        blob=parse_blob_name(blob) if blob else "",
        version=version,
        snapshot=snapshot,
    )


class AccountClue(NamedTuple):
    """What an account argument told: always a name; subscription and group when a whole id was pasted."""

    name: str
    subscription: str = ""
    group: str = ""


def parse_account(text: str) -> AccountClue:
    """An account from what people paste: its name in any case, an ARM id, also in an address of the portal, or an address
    of anything in it."""
    text = unquoted(text).rstrip("/")
    if re.match(r"(?i)(?:abfss?|wasbs?)://", text):
        return AccountClue(parse_blob_url(text).account)
    url = re.sub(r"(?i)^http:", "https:", text) if "://" in text else f"https://{text.lower()}"
    account = account_and_path(host_of(url), urllib.parse.urlsplit(url).path.lstrip("/"))[0].account
    arm_id = re.search(r"(?i)(?:^|/)(subscriptions/[^?#]+)", urllib.parse.unquote(text))
    if account or not arm_id:
        return AccountClue(matching(ACCOUNT_NAME, account or text.lower()))
    found = parse_resource_id(arm_id[1])
    name = matching(ACCOUNT_NAME, found.account.lower())
    return AccountClue(name, parse_subscription(found.subscription), parse_group(found.group))


@dataclass(frozen=True)
class AccountRef:
    """One storage account, fully named."""

    subscription: str
    group: str
    name: str

    @property
    def arguments(self) -> dict[str, str]:
        """The arguments that name it to another command."""
        return {"account_name": self.name, "resource_group_name": self.group, "subscription_id": self.subscription}

    @property
    def id(self) -> str:
        return f"{group_path(self.subscription, self.group)}/providers/Microsoft.Storage/storageAccounts/{segment(self.name)}"

    def __str__(self) -> str:
        return self.name


class ContainerRef(NamedTuple):
    """One container of an account, as Resource Manager knows it."""

    account: AccountRef
    name: str

    @property
    def id(self) -> str:
        return f"{self.account.id}/blobServices/default/containers/{segment(self.name)}"

    @property
    def arguments(self) -> dict[str, str]:
        return {**self.account.arguments, "container_name": self.name}

    def __str__(self) -> str:
        return f"{self.name} of {self.account}"


class Scope(NamedTuple):
    """A path of Resource Manager that is no account: a subscription, a group, the tenant or a listed resource."""

    id: str
    name: str = ""

    def __str__(self) -> str:
        return self.name or self.id


def subscription_path(subscription: str) -> str:
    return f"/subscriptions/{segment(subscription)}"


def group_path(subscription: str, group: str) -> str:
    return f"{subscription_path(subscription)}/resourceGroups/{segment(group)}"


def id_path(resource: str) -> str:
    """The path of a resource whose id a service told: each segment is quoted again."""
    return "/".join(segment(urllib.parse.unquote(part)) if part else "" for part in resource.split("/"))


# Shared access signatures


class SasToken(NamedTuple):
    """A SAS: its fields, the token as it goes into a URL, and the address it came with, if any."""

    fields: Mapping[str, str]
    token: Secret
    address: BlobAddress | None = None


# Names in the query of an address that belong to its SAS; any others are of the request that it was made for.
SAS_FIELD = re.compile(r"s[a-z]{1,6}|rsc[cdelt]|tn|e[pr]k")


def read_sas(text: str) -> SasToken:
    """A SAS from a bare token, an address that holds one, or a connection string. ValueError without a signature."""
    text = unquoted(text).replace("&amp;", "&")
    parts = connection_string(text)
    token = parts.get("sharedaccesssignature", text).partition("#")[0]
    token = token.partition("?")[2] if "://" in token else token.lstrip("?")
    pairs = [pair.partition("=") for pair in token.split("&")]
    kept = [(name.lower(), value) for name, _, value in pairs if SAS_FIELD.fullmatch(name.lower())]
    fields = {name: urllib.parse.unquote(value) for name, value in kept}
    if not fields.get("sig") or "sv" not in fields or any(re.search(r"[\s\x00-\x1f]", value) for _, value in kept):
        raise ValueError
    remember_secret(fields["sig"])
    return SasToken(fields, Secret("&".join(map("=".join, kept))), sas_address(text, parts))


def connection_string(text: str) -> dict[str, str]:
    """The parts of a connection string, by their names in lower case; none for any other text."""
    pairs = (part.partition("=") for part in text.split(";"))
    parts = {name.strip().lower(): value.strip() for name, _, value in pairs}
    return parts if parts.keys() & {"accountkey", "sharedaccesssignature"} else {}


def sas_address(text: str, parts: Mapping[str, str]) -> BlobAddress | None:
    """What the address of a SAS, or the endpoint in a connection string, names; of a path that is none of a blob, such as
    that of a table's rows, only the account."""
    usual = f"https://{parts.get('accountname')}.blob.{parts['endpointsuffix']}" if "endpointsuffix" in parts else ""
    endpoints = (value for name, value in sorted(parts.items()) if name.endswith("endpoint"))
    url = re.sub(r"(?i)^http:", "https:", next(endpoints, usual) if parts else text)
    for form in (url, urllib.parse.urljoin(url, "/")):
        try:
            return parse_blob_url(form)
        except ValueError:
            continue
    return None


# --- settings ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class StorageCredential:
    """An account SAS or account key of the instance: the way to the blobs of one account without Entra ID."""

    account: str
    sas: Secret
    key: Secret
    address: BlobAddress | None = None


ACCOUNT_KEY = re.compile(r"[A-Za-z0-9+/]{86}==")


def read_storage_credential(value: object) -> StorageCredential | None:
    """The account SAS or key of the instance, also from a whole SAS URL or a connection string; None without one.

    UsageError for what is neither.
    """
    text = password_param(value)
    if not text:
        return None
    account = str(value.get("identifier") or "").strip().lower() if isinstance(value, dict) else ""
    parts = connection_string(text)
    key = parts.get("accountkey", text)
    remember_secret(key)
    try:
        by_key = ACCOUNT_KEY.fullmatch(key)
        sas = SasToken({}, Secret(""), sas_address("", parts)) if by_key else read_sas(text)
    except ValueError:
        raise UsageError(
            "Account SAS Token or Account Key: give an account SAS token (sv=...&sig=...), a SAS URL, a connection string or an account key."
        ) from None
    named = parts.get("accountname", "").lower() or (sas.address.account if sas.address else "")
    if named and account and named != account:
        raise UsageError(
            f"Storage Account Name: {account!r} isn't the account of the pasted credential, which is {named!r}."
        )
    found = account or named
    if found and not ACCOUNT_NAME.fullmatch(found):
        raise UsageError(f"Storage Account Name: {found!r} is not the name of a storage account.")
    return StorageCredential(found, sas.token, Secret(key if by_key else ""), sas.address)


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
        """The instance's SAS or key, if it has one for this account. UsageError for one whose account nothing tells: it
        would go to whatever account a URL names."""
        found = self.storage_credential
        if found and not found.account:
            words = "Storage Account Name: give the name of the account that the SAS token or account key belongs to."
            raise UsageError(words)
        return found if found and found.account == account else None

    @property
    def identity_key(self) -> str:
        """Names the identity: a token is only ever used by an instance with the same fingerprint.

        The secret counts for client credentials, where it is the identity; a person's session outlives a new secret.
        """
        cloud = self.cloud
        parts = [self.auth_type, self.app_id, self.tenant, cloud.authority, cloud.audience, self.identity_client_id]
        if self.auth_type == CLIENT_CREDENTIALS:
            parts += [self.client_secret.reveal(), self.certificate_thumbprint, self.certificate_key.reveal()]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def read_settings(params: Mapping[str, Any]) -> Settings:
    """Turn demisto.params() into Settings. UsageError names the field as the form shows it."""
    auth_type = str(params.get("auth_type") or DEVICE_CODE)
    if auth_type not in (*APPLICATION_FLOWS, MANAGED_IDENTITY):
        raise UsageError(f"Authentication Type: {snippet(auth_type)!r} is not one of the choices.")
    # A field that the form hides keeps what it held, so only the flows that use a certificate look at it.
    thumbprint, key = certificate_param(params.get("certificate")) if auth_type in SECRET_FLOWS else ("", "")
    settings = Settings(
        auth_type=auth_type,
        cloud=read_cloud(params),
        app_id=(text_param(params, "app_id") or CORTEX_APP_ID).lower(),
        tenant=text_param(params, "tenant_id").strip("/").lower(),
        client_secret=Secret(password_param(params.get("credentials"))),
        certificate_thumbprint=thumbprint,
        certificate_key=Secret(key),
        redirect_uri=text_param(params, "redirect_uri") or DEFAULT_REDIRECT_URI,
        authorization_code=Secret(password_param(params.get("auth_code"))),
        identity_client_id=password_param(params.get("managed_identities_client_id")).lower(),
        subscription=checked_param(params, "subscription_id", "Default Subscription ID", parse_subscription, ""),
        group=checked_param(params, "resource_group_name", "Default Resource Group Name", parse_group, ""),
        verify=not checked_param(params, "insecure", "Trust any certificate (not secure)", read_flag, False),
        storage_credential=read_storage_credential(params.get("storage_credentials")),
        own_addresses=tuple(
            checked_param(params, "own_ip_addresses", "Own Public IP Addresses", read_own_addresses, [])
        ),
    )
    check_identity(settings)
    return settings


TENANT_NAME = re.compile(r"[0-9a-z-]+(?:\.[0-9a-z-]+)+|common|organizations|consumers")


def check_identity(settings: Settings) -> None:
    """Refuse combinations that Entra ID would refuse later in less helpful words."""
    if settings.auth_type == MANAGED_IDENTITY:
        return
    if not GUID.fullmatch(settings.app_id):
        raise UsageError(f"Application ID: give the application (client) ID, a GUID such as {CORTEX_APP_ID}.")
    if settings.tenant and not GUID.fullmatch(settings.tenant) and not TENANT_NAME.fullmatch(settings.tenant):
        raise UsageError("Tenant ID: give the directory (tenant) ID, a GUID, or a domain of the tenant.")
    if settings.certificate_key and settings.client_secret:
        raise UsageError(
            "Client Secret: the instance has a Certificate Private Key as well. Keep one and clear the other."
        )
    if settings.certificate_key and not re.fullmatch(r"[0-9A-F]{40}", settings.certificate_thumbprint):
        raise UsageError("Certificate Thumbprint: give the 40 hexadecimal digits that the Azure portal shows.")
    if settings.auth_type != CLIENT_CREDENTIALS:
        return
    if not settings.tenant:
        raise UsageError("Tenant ID: Client Credentials need the tenant of the application.")
    if settings.app_id == CORTEX_APP_ID:
        raise UsageError(
            "Application ID: Client Credentials need a self-deployed application, not the Cortex XSOAR application."
        )
    if not settings.client_secret and not settings.certificate_key:
        raise UsageError(
            "Client Credentials need a Client Secret, or a Certificate Thumbprint and a Certificate Private Key."
        )


def read_cloud(params: Mapping[str, Any]) -> Cloud:
    """The chosen cloud; a custom one is made of the endpoints given. UsageError if one is missing or not https."""
    name = str(params.get("cloud") or "Worldwide")
    if name in CLOUDS:
        return CLOUDS[name]
    if name != CUSTOM_CLOUD:
        raise UsageError(f"Cloud: {snippet(name)!r} is not one of {', '.join((*CLOUDS, CUSTOM_CLOUD))}.")
    authority = https_param(params, "custom_authority_url", "Sign-in Authority URL")
    resource_manager = https_param(params, "custom_resource_manager_url", "Resource Manager URL")
    suffix = text_param(params, "custom_storage_suffix").strip("./").lower()
    if not re.fullmatch(r"[\w.-]+(?::\d+)?", suffix):
        raise UsageError("Storage Endpoint Suffix: the Custom cloud needs it, for example local.azurestack.external.")

    def version(text: str) -> str:
        return matching(re.compile(r"\d{4}-\d\d-\d\d(?:-preview)?"), text)

    return Cloud(
        CUSTOM_CLOUD,
        authority,
        resource_manager,
        text_param(params, "custom_resource_manager_audience") or resource_manager,
        suffix,
        arm_api=checked_param(params, "custom_storage_api_version", "Storage API Version", version, ""),
        blob_api=checked_param(params, "custom_blob_api_version", "Blob Service Version", version, ""),
    )


def text_param(params: Mapping[str, Any], name: str) -> str:
    return str(params.get(name) or "").strip()


def https_param(params: Mapping[str, Any], name: str, display: str) -> str:
    url = text_param(params, name).rstrip("/")
    if not host_of(url) or urllib.parse.urlsplit(url).query:
        raise UsageError(f"{display}: the Custom cloud needs it, a URL that begins with https://.")
    return url


def checked_param(params: Mapping[str, Any], name: str, display: str, parse: Callable[[str], T], unset: T) -> T:
    text = text_param(params, name)
    try:
        return parse(text) if text else unset
    except (LookupError, StopIteration, TypeError, ValueError):
        raise UsageError(f"{display}: {snippet(text)!r} is not valid.") from None


def password_param(value: object) -> str:
    """The hidden half of a credentials parameter."""
    return str(value.get("password") or "").strip() if isinstance(value, dict) else str(value or "").strip()


def certificate_param(value: object) -> tuple[str, str]:
    """Thumbprint (hexadecimal, no separators) and private key (PEM) of the certificate parameter.

    A form field loses the line ends of a PEM document, so they are put back; a key from the credentials store stands in
    its sshkey field.
    """
    if not isinstance(value, dict):
        return "", ""
    key = str(value.get("password") or at_path(value, "credentials.sshkey") or "").strip()
    thumbprint = re.sub(r"[\s:]", "", str(value.get("identifier") or "")).upper()
    found = re.search(r"-----BEGIN ([A-Z ]+)-----(.*?)-----END \1-----", key, re.DOTALL)
    if key and not found:
        raise UsageError("Certificate Private Key: give the whole PEM text, from -----BEGIN to -----END.")
    if not found:
        return thumbprint, ""
    remember_secret(found[2].strip())
    body = "\n".join(found[2].split())
    return thumbprint, f"-----BEGIN {found[1]}-----\n{body}\n-----END {found[1]}-----\n"


# --- transport ---------------------------------------------------------------------------------------------------------

PROXY_ANSWER = "A proxy or a TLS inspection may have answered in Azure's place. Check the network path of the engine."


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
    if re.fullmatch(r"\d{1,6}", text.strip(), re.ASCII):
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - now)
    except (ArithmeticError, TypeError, ValueError):
        return None


class Request(NamedTuple):
    """One request: `action` completes "Could not ..."; parts are those of a batch, each authorised by itself.

    replayable: it can be sent again although it may have arrived. stream: the body is left to be read piece by piece.
    """

    method: str
    url: str
    action: str
    headers: Mapping[str, str] = {}
    data: bytes | None = None
    replayable: bool = True
    stream: bool = False
    parts: tuple["Request", ...] = ()

    def with_headers(self, **headers: str) -> "Request":
        return self._replace(headers={**self.headers, **headers})


def pieces(response: requests.Response, limit: int, *, decode: bool = True) -> Iterator[bytes]:
    """The body as it arrives. NetworkError if it grows beyond limit bytes or takes longer than a whole answer may;
    requests' and urllib3's own exceptions where the connection breaks."""
    read = getattr(response.raw, "read1", None) or getattr(response.raw, "read", None)  # urllib3 1.26 has no read1
    deadline, size = Clock.now() + ANSWER_TIMEOUT, 0
    while read and (piece := read(SMALL_READ, decode_content=decode)):
        size += len(piece)
        if size > limit:
            raise NetworkError(
                f"The answer of {host_of(response.url)} is larger than {limit >> 20} MiB.", PROXY_ANSWER, sent=True
            )
        yield piece
        meet(deadline, response)


def meet(deadline: float, response: requests.Response) -> None:
    """NetworkError once an answer takes longer than a whole one may."""
    if Clock.now() > deadline:
        words = f"{host_of(response.url)} took longer than {ANSWER_TIMEOUT} seconds for one answer."
        raise NetworkError(words, "Run the command again.", sent=True)


BROKEN = (requests.RequestException, BaseHTTPError, OSError)


def read_into(response: requests.Response, room: memoryview) -> int:
    """Reads a body into room, as stored (never decompressed); how many bytes came before it ended or the connection broke.

    A body that announces exactly the length of room is read from the connection without a copy in between. It is asked
    for by the second: few calls where much arrives, and a slow answer meets its deadline.
    """
    got, amount, deadline = 0, SMALL_READ, Clock.now() + ANSWER_TIMEOUT
    direct = getattr(getattr(response.raw, "_fp", None), "readinto", None)
    try:
        if not direct or response.headers.get("Content-Length") != str(len(room)):
            for piece in pieces(response, len(room), decode=False):
                room[got : got + len(piece)] = piece
                got += len(piece)
            return got
        while got < len(room):
            asked = Clock.now()
            if not (came := direct(room[got : got + amount])):
                break
            got += came
            amount = max(SMALL_READ, min(LARGE_READ, int(came / max(Clock.now() - asked, 0.001))))
            meet(deadline, response)
        else:
            response.raw.release_conn()  # all of it was read, so that the next request may use the connection
    except BROKEN:
        demisto.debug(f"a download broke after {got} of {len(room)} bytes")
    return got


def read_body(response: requests.Response) -> None:
    """Hold the whole body in the response, within MAX_BODY."""
    if not getattr(response, "_content_consumed", True):  # requests has no public way to set a limit
        response._content = b"".join(pieces(response, MAX_BODY))
        vars(response)["_content_consumed"] = True
        response.close()


# An address that requests and urllib3 leave as it is.
PLAIN_URL = re.compile(r"https?://[\w.:\[\]-]+/[\w.~:/?@!$&'()*+,;=%-]*", re.ASCII)


def prepared(method: str, url: str, options: Json) -> requests.PreparedRequest:
    """A request as it is sent. Addresses of our own making need no further parsing, which costs as much as sending."""
    if not (PLAIN_URL.fullmatch(url) and options.keys() <= {"headers", "data"}):
        request = requests.Request(method, url, **options).prepare()
    else:
        request = requests.PreparedRequest()
        request.method, request.url = method, url
        vars(request)["_cookies"] = requests.cookies.RequestsCookieJar()  # which requests fills on a redirect
        request.prepare_headers(options.get("headers", {}))
        request.prepare_body(options.get("data"), None)
    request.headers.setdefault("User-Agent", USER_AGENT)
    return request


class Pools(requests.adapters.HTTPAdapter):
    """Finds the connections to a host once: its proxy and its trust do not change while a command runs."""

    def __init__(self) -> None:
        super().__init__()
        self._found: Json = {}

    def get_connection_with_tls_context(
        self,
        request: requests.PreparedRequest,
        verify: bool | str | None,
        proxies: Mapping[str, str] | None = None,
        cert: tuple[str, str] | str | None = None,
    ) -> Any:
        origin = (request.url or "").partition("//")[2].partition("/")[0]
        if origin not in self._found:
            self._found[origin] = super().get_connection_with_tls_context(request, verify, proxies, cert)
        return self._found[origin]


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
            self._local.session.mount("https://", Pools())
        found: requests.Session = self._local.session
        return found

    def exchange(
        self, method: str, url: str, *, action: str, replayable: bool = True, stream: bool = False, **options: Any
    ) -> requests.Response:
        """The final answer, whatever its status. Its `history` holds the earlier tries that may have been carried out.

        `replayable` tells whether a request that may have arrived can be sent again; one that never left, or was
        answered with 429, always can. NetworkError if no answer came.
        """
        waited, earlier = 0.0, list[requests.Response]()
        for attempt in itertools.count():
            answer = self._try(method, url, stream, options)
            status = answer.status_code if isinstance(answer, requests.Response) else 0
            safe = replayable or status == 429 or (not status and never_left(answer))
            retry_after = answer.headers.get("Retry-After", "") if isinstance(answer, requests.Response) else ""
            more = safe and attempt + 1 < self.tries
            delay = retry_delay(status, retry_after, attempt, Clock.now()) if more else None
            if delay is None or waited + delay > MAX_WAIT:
                return final_answer(answer, action, url, delay, earlier)
            if status != 429 and not never_left(answer):
                earlier.append(answer if isinstance(answer, requests.Response) else requests.Response())
            demisto.debug(
                f"{method} {host_of(url)}: try {attempt + 1} ended with {status or type(answer).__name__}, next in {delay:.1f} s"
            )
            if isinstance(answer, requests.Response):
                answer.close()
            Clock.wait(delay)
            waited += delay
        raise AssertionError  # pragma: no cover - count() does not end

    def _try(self, method: str, url: str, stream: bool, options: Json) -> requests.Response | Exception:
        """One request, prepared here: requests would read the environment for each, which costs as much as a small blob."""
        try:
            answer = self.session.send(
                prepared(method, url, options),
                stream=True,
                timeout=self.timeout,
                allow_redirects=False,
                **self._route(url),
            )
            if not stream:
                read_body(answer)
        except BROKEN as error:
            return error
        return answer

    def _route(self, url: str) -> Json:
        """Proxies and trust for a host, as the environment has them; they do not change while a command runs.

        verify goes with the request: on the session, requests lets REQUESTS_CA_BUNDLE win over verify=False.
        """
        host = urllib.parse.urlsplit(url).netloc
        if host not in self._routes:
            found = self.session.merge_environment_settings(url, {}, True, self.verify, None)
            self._routes[host] = {name: found[name] for name in ("proxies", "verify", "cert")}
        return self._routes[host]


def final_answer(
    answer: requests.Response | Exception, action: str, url: str, delay: float | None, earlier: list[requests.Response]
) -> requests.Response:
    if isinstance(answer, Exception):
        raise network_error(answer, action, url, bool(earlier) or not never_left(answer)) from None
    answer.history = earlier
    if delay is None:
        return answer
    raise ServiceError(
        action,
        answer.status_code,
        "TooManyRequests" if answer.status_code == 429 else "",
        "The service asks to wait longer than a command may.",
        answer.headers.get("x-ms-request-id", ""),
        f"Run the command again in {round(delay)} seconds.",
        repeated=bool(earlier),
    )


# What urllib3 and OpenSSL say of a connection that never stood: nothing was sent over it.
NO_CONNECTION = re.compile(
    "ConnectTimeout|NewConnectionError|NameResolutionError|Tunnel connection failed|CERTIFICATE_VERIFY_FAILED"
)


def never_left(error: object) -> bool:
    """Whether a failure came before the request reached the server."""
    return bool(NO_CONNECTION.search(cause(error)))


def cause(error: object) -> str:
    """What urllib3 met; not the URL before it, which can hold any name."""
    return repr(error).rpartition("(Caused by ")[2]


def network_error(error: Exception, action: str, url: str, sent: bool) -> NetworkError:
    """The failure in words. The exception's own text is not shown: it may hold a URL with a signature."""
    met, host = cause(error), host_of(url) or "the address"
    other = ("", f"the connection to {{host}} failed ({type(error).__name__}).", CHECK_NETWORK)
    _, words, step = next((row for row in NETWORK_HINTS if row[0] in met), other)
    return NetworkError(f"Could not {action}: {words.format(host=host)}", step, sent=sent)


def text_of(response: requests.Response) -> str:
    """The body as UTF-8, which Azure always sends, without a byte order mark; requests would guess."""
    try:
        read_body(response)
        return (response.content or b"").decode("utf-8-sig", errors="replace")
    except BROKEN as error:
        raise network_error(error, "read the answer", response.url, True) from None


def not_the_service(response: requests.Response, action: str, wanted: str) -> NetworkError:
    """An answer that is not the service's: its status, headers or body are not what Azure documents."""
    host, status = host_of(response.url) or "the service", response.status_code
    told = f"with something that is not {wanted}: {snippet(text_of(response))}".rstrip(": ")
    if 300 <= status < 400:
        told = "with a redirect, which is not followed"
    return NetworkError(f"Could not {action}: {host} answered {status} {told}.", PROXY_ANSWER, sent=True)


class Authorization(Protocol):
    """How requests to one service are authorised: a generator that is told each answer and may send another request."""

    def flow(self, request: Request) -> Generator[Request, requests.Response, None]: ...


def signed_parts(request: Request, sign: Callable[[Request], Request]) -> Request:
    """The request with what authorises it; a batch is composed of parts that are each authorised by themselves.

    https://learn.microsoft.com/rest/api/storageservices/blob-batch
    """
    if not request.parts:
        return sign(request)
    boundary, lines = f"batch_{uuid.uuid4()}", list[str]()
    for number, part in enumerate(request.parts):
        signed = sign(part)
        target = urllib.parse.urlsplit(signed.url)._replace(scheme="", netloc="").geturl()
        lines += [f"--{boundary}", "Content-Type: application/http", "Content-Transfer-Encoding: binary"]
        lines += [f"Content-ID: {number}", "", f"{signed.method} {target} HTTP/1.1"]
        lines += [*(f"{name}: {value}" for name, value in signed.headers.items()), "Content-Length: 0", "", ""]
    body = "\r\n".join([*lines, f"--{boundary}--", ""]).encode()
    kind = {"Content-Type": f"multipart/mixed; boundary={boundary}"}
    return sign(request._replace(data=body, headers={**request.headers, **kind}))


class SasAuthorization(NamedTuple):
    """Requests that carry a SAS in their address."""

    token: Secret

    def flow(self, request: Request) -> Generator[Request, requests.Response, None]:
        yield signed_parts(request, self._sign)

    def _sign(self, request: Request) -> Request:
        return request._replace(url=f"{request.url}{'&' if '?' in request.url else '?'}{self.token.reveal()}")


# The standard headers that a shared key signs, in their order.
SIGNED_HEADERS = (
    "content-encoding",
    "content-language",
    "content-length",
    "content-md5",
    "content-type",
    "date",
    "if-modified-since",
    "if-match",
    "if-none-match",
    "if-unmodified-since",
    "range",
)


class SharedKey(NamedTuple):
    """Requests signed with an account key. https://learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key"""

    account: str
    key: Secret

    def flow(self, request: Request) -> Generator[Request, requests.Response, None]:
        yield signed_parts(request, self._sign)

    def _sign(self, request: Request) -> Request:
        dated = request.with_headers(**{"x-ms-date": email.utils.formatdate(Clock.now(), usegmt=True)})
        signature = hmac_sha256(self.key.reveal(), string_to_sign(dated, self.account))
        remember_secret(signature)
        return dated.with_headers(Authorization=f"SharedKey {self.account}:{signature}")


def hmac_sha256(key: str, text: str) -> str:
    """The signature that storage keys and delegation keys make; key and result are base64."""
    try:
        secret = base64.b64decode(key)
    except ValueError:
        raise NetworkError("The signing key that the service returned isn't valid.", PROXY_ANSWER) from None
    return base64.b64encode(hmac.new(secret, text.encode(), hashlib.sha256).digest()).decode()


def string_to_sign(request: Request, account: str) -> str:
    """What a shared key signs: the standard headers, the x-ms- headers and the resource, each in its order."""
    lower = {name.lower(): value for name, value in request.headers.items()}
    lower["content-length"] = str(len(request.data or b"") or "")
    lines = [request.method, *(lower.get(name, "") for name in SIGNED_HEADERS)]
    lines += [f"{name}:{' '.join(lower[name].split())}" for name in sorted(lower) if name.startswith("x-ms-")]
    parts = urllib.parse.urlsplit(request.url)
    lines.append(f"/{account}{parts.path or '/'}")
    pairs = sorted(urllib.parse.parse_qsl(parts.query, keep_blank_values=True))
    return "\n".join([*lines, *(f"{name.lower()}:{value}" for name, value in pairs)])


def send(network: Network, request: Request, authorization: Authorization) -> requests.Response:
    """The final answer to an authorised request, whatever its status."""
    flow = authorization.flow(request)
    sent = next(flow)
    while True:
        how: Json = {
            "replayable": sent.replayable,
            "stream": sent.stream,
            "headers": dict(sent.headers),
            "data": sent.data,
        }
        answer = network.exchange(sent.method, sent.url, action=sent.action, **how)
        try:
            sent = flow.send(answer)
        except StopIteration:
            return answer


def claims_of(response: requests.Response) -> str:
    """The claims that a 401 asks for, as JSON; empty without a challenge.

    https://learn.microsoft.com/entra/identity-platform/claims-challenge
    """
    found = re.search(r'claims="([^"]+)"', response.headers.get("WWW-Authenticate", ""))
    text = found[1].replace("-", "+").replace("_", "/") if found else ""
    try:
        claims = base64.b64decode(text + "==").decode()
    except ValueError:
        return ""
    return claims if json_object(claims) else ""


# --- sign-in -----------------------------------------------------------------------------------------------------------

LEGACY_REFRESH_TOKEN = "current_refresh_token"  # noqa: S105 - where the existing pack keeps its session
Session = Json  # what the store keeps for one identity; the fields are described at SessionStore


class SessionStore:
    """Our part of the integration context: one JSON document under one key, so that nothing else in there is touched.

    The document holds sessions by identity, and beside them what outlives a sign-in, a reset and a new secret: isolations
    (what to put back, by account), custody (the events of a quarantine, by evidence) and handles (what polling rounds
    must not carry in clear text). A session holds, each only while there is one:
      tokens       resource -> {"token", "expires_at"}
      cache        msal's token cache without access tokens: the refresh token and the account
      username     who signed in
      device_flow  a device code sign-in that is not finished; login: the same for the authorization code
      claims       what a claims challenge asked for and only a person can give
      codes        digests of the authorization codes that were tried, since a code works once
      endpoints    account -> its blob endpoint, as Resource Manager told it
      turn         which command may talk to the sign-in service now
    """

    KEY = "azure_storage_sign_in"
    VERSION = 1
    ATTEMPTS = 400  # a token that was just rotated must not be lost to other commands that keep saving

    def __init__(self, fingerprint: str, *, in_memory: bool = False) -> None:
        self.fingerprint = fingerprint
        self.unreadable = False  # what was stored could not be read
        self._memory: Json | None = {} if in_memory else None

    def read(self) -> Session:
        return self.update(deepcopy)

    def update(self, change: Callable[[Session], T], *redeemed: str, forget_others: bool = False) -> T:
        """Apply `change` to the session and save the outcome; see edit. `forget_others` drops the sessions of what the
        instance was configured to before; `redeemed` are foreign keys of the context that the session replaces."""

        def edit(document: Json) -> T:
            sessions = document["sessions"]
            session = sessions.get(self.fingerprint, {})
            result = change(session)
            kept = {self.fingerprint: session} if session else {}
            document["sessions"] = kept if forget_others else {**sessions, **kept}
            return result

        return self.edit(edit, *redeemed)

    def edit(self, change: Callable[[Json], T], *redeemed: str) -> T:
        """Apply `change` to the document and save it; again from the start if another command saved in between.

        `change` edits in place and may run more than once. Returns what it returns. Nothing is written when nothing was
        edited.
        """
        for attempt in range(self.ATTEMPTS):
            context, version = self._load()
            document = self._document(context)
            edited = deepcopy(document)
            result = change(edited)
            if edited == document and context.keys().isdisjoint(redeemed):
                return result
            kept = {key: value for key, value in context.items() if key not in (self.KEY, *redeemed)}
            if any(edited.values()):
                kept[self.KEY] = json.dumps({"version": self.VERSION, **edited})
            if self._save(kept, version):
                return result
            Clock.wait(random.uniform(0.01, 0.02 * min(attempt + 1, 10)))  # noqa: S311 - spreads colliding commands
        raise SignInError(
            "The integration context could not be saved: other commands keep changing it.", "Run the command again."
        )

    def section(self, name: str) -> Json:
        """What stands beside the sessions under a name: isolations, custody or handles."""
        found = self.edit(lambda document: deepcopy(document.get(name)))
        return found if isinstance(found, dict) else {}

    def foreign(self, key: str) -> str:
        """A text that another integration left in the context."""
        found = self._load()[0].get(key)
        return found if isinstance(found, str) else ""

    def clear(self) -> bool:
        """Remove every sign-in, also one of the existing pack. Tells whether there was one; what is remembered of
        isolations stays."""
        legacy = bool(self.foreign(LEGACY_REFRESH_TOKEN))

        def forget(document: Json) -> bool:
            found = bool(document["sessions"]) or self.unreadable or legacy
            document["sessions"] = {}
            return found

        return self.edit(forget, self.KEY + "_unreadable", LEGACY_REFRESH_TOKEN)

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

    def _document(self, context: Json) -> Json:
        """What is stored. What cannot be read is set aside, where auth-reset still finds it."""
        stored = context.get(self.KEY)
        document = json_object(stored) if isinstance(stored, str) else {}
        sessions = document.get("sessions")
        whole = isinstance(sessions, dict) and all(isinstance(session, dict) for session in sessions.values())
        if stored and not (document.pop("version", None) == self.VERSION and whole):
            context[self.KEY + "_unreadable"] = context.pop(self.KEY)
            self.unreadable = True
            demisto.info("Azure Storage: the stored sign-in could not be read and was set aside; sign in again.")
            document = {}
        self.unreadable = self.unreadable or self.KEY + "_unreadable" in context
        return {"sessions": {}, **document}


class CannedResponse(NamedTuple):
    """As much of a requests.Response as msal looks at."""

    status_code: int
    text: str
    headers: Mapping[str, str]


# Form fields and headers of a token request that must not reach a log.
SECRET_FIELDS = frozenset(
    {
        *("client_secret", "client_assertion", "code", "code_verifier", "device_code", "refresh_token", "assertion"),
        *("x-identity-header", "secret", "authorization"),
    }
)


class TokenHttp(NamedTuple):
    """What msal talks through: our network, guarded to one host, and the endpoints of Microsoft's clouds from constants.

    msal itself has no time-outs, logs answers it cannot parse, and hides the body of a 5xx: all of that is settled here
    before it sees an answer. An empty authority stands for the identity endpoint of the machine.
    """

    network: Network
    authority: str = ""
    tenant: str = ""

    def get(self, url: str, **given: Any) -> requests.Response | CannedResponse:
        known = any(cloud.authority == self.authority for cloud in CLOUDS.values())
        if not known or not url.endswith("/.well-known/openid-configuration"):
            return self._exchange("GET", url, given)
        base = f"{self.authority}/{self.tenant}"
        endpoints = {
            "issuer": f"{base}/v2.0",
            "authorization_endpoint": f"{base}/oauth2/v2.0/authorize",
            "token_endpoint": f"{base}/oauth2/v2.0/token",
            "device_authorization_endpoint": f"{base}/oauth2/v2.0/devicecode",
        }
        return CannedResponse(200, json.dumps(endpoints), {})

    def post(self, url: str, **given: Any) -> requests.Response:
        return self._exchange("POST", url, given)

    def _exchange(self, method: str, url: str, given: Json) -> requests.Response:
        host = host_of(url)
        options: Json = {name: given.get(name) for name in ("params", "data", "headers")}
        form = options["data"] or {}
        for name, value in {**form, **(options["headers"] or {})}.items():
            if name.lower() in SECRET_FIELDS:
                remember_secret(str(value or "").removeprefix("Basic "))
        # A code is good for one try: sending it again may revoke what the first try brought.
        replayable = not str(form.get("grant_type")).endswith(("authorization_code", "device_code"))
        if self.authority and host != host_of(self.authority):
            raise SignInError(
                f"The sign-in service points to {host or 'an unsafe address'}, which is not the chosen one."
            )
        response = self.network.exchange(method, url, action="sign in", replayable=replayable, **options)
        # Azure Arc's identity endpoint first answers 401 without a body; msal reads a key file that a header names.
        challenge = not self.authority and response.status_code == 401 and "WWW-Authenticate" in response.headers
        if challenge or (response.status_code < 500 and json_object(text_of(response))):
            return response
        status, step = response.status_code, f"Check the Tenant ID and the Cloud of the instance. {PROXY_ANSWER}"
        if not self.authority:  # 404 and 410 say that the identity endpoint is being updated
            step = RUN_AGAIN_SOON if status in (404, 410) else CHECK_IDENTITY
        raise SignInError(
            f"Could not sign in: {host or 'the identity endpoint'} answered {status}: {snippet(text_of(response))}",
            RUN_AGAIN_SOON if status >= 500 else step,
        )


def sign_in_error(result: Json, action: str = "sign in", flow: str = "", consent: str = "") -> SignInError:
    """Entra ID's refusal with the next step: OAuth's error name first, the AADSTS number second.

    flow is the instance's way of signing in, so that the advice fits it; consent replaces the advice about permissions.
    """
    name, numbers = str(result.get("error") or "unknown_error"), aadsts_numbers(result)
    text, correlation = str(result.get("error_description") or ""), result.get("correlation_id")
    steps = [
        "" if CONSENT_NUMBERS.isdisjoint(numbers) else consent,
        OAUTH_HINTS.get(name),
        *(aadsts_hint(number, flow) for number in numbers),
        hint_for(OAUTH_FALLBACK_HINTS.get(name, ASK_ADMIN), flow),
    ]
    lines = [f"Could not {action}: {name}. {text.splitlines()[0] if text.strip() else ''}".rstrip()]
    if correlation:
        lines.append(f"Correlation ID: {correlation}")
    if numbers:
        lines.append(f"More information: https://login.microsoftonline.com/error?code={numbers[0]}")
    return SignInError("\n".join(lines), next(filter(None, steps), ""), name)


def aadsts_numbers(result: Json) -> list[int]:
    """The AADSTS numbers of a refusal, from its list or else from its text."""
    codes = result.get("error_codes")
    told = map(str, codes) if isinstance(codes, list) and codes else []
    found = [code for code in told if re.fullmatch(r"\d{1,9}", code, re.ASCII)]
    return list(map(int, found or re.findall(r"AADSTS(\d{1,9})", str(result.get("error_description") or ""))))


def grant_is_dead(result: Json) -> bool:
    """Whether a refusal is about the refresh token itself, and not about consent or MFA for one resource."""
    about_token = result.get("suberror") in (None, "", "bad_token", "token_expired") and not result.get("claims")
    numbers = set(aadsts_numbers(result))
    return result.get("error") == "invalid_grant" and about_token and (not numbers or bool(numbers & {*DEAD_GRANTS}))


def token_of(session: Session, resource: str, stale: str = "") -> str | None:
    """The stored token for a resource, unless it ends soon or is the one that was just refused."""
    entry = session.get("tokens", {}).get(resource, {})
    token, expires = str(entry.get("token", "")), entry.get("expires_at", 0)
    if not token or token == stale or expires - Clock.now() < TOKEN_MARGIN:
        return None
    remember_secret(token)
    return token


def code_digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def read_pasted_code(text: str) -> tuple[str, str]:
    """Code and state from what a person pastes: the bare code, the code with its tail, or the whole address.

    SignInError if the address tells of a refusal or holds no code.
    """
    text = unquoted(text)
    query = dict(urllib.parse.parse_qsl(re.sub("[?#]", "&", text)))
    if not query.keys() & {"code", "error"} and not re.search(r"://|\?", text):
        return re.split("[&#]", text)[0], ""
    if "error" in query:
        raise sign_in_error(query, flow=AUTHORIZATION_CODE)
    if "code" not in query:
        raise SignInError(
            "The pasted URL doesn't contain an authorization code.",
            "Copy the whole address the browser ended at, from https:// to the end, after signing in.",
        )
    return query["code"], query.get("state", "")


NEW_CODE = (
    "Run !azure-storage-generate-login-url, sign in there, and run !azure-storage-auth-complete code=<the address> "
    "with the address the browser ends at."
)


class MicrosoftAuth:
    """Tokens for one instance: authorization code, device code, client credentials and managed identity, all over msal.

    One refresh token serves every resource; each resource has an access token of its own. All methods raise SignInError
    with the next step when Entra ID refuses. https://learn.microsoft.com/entra/msal/python/
    """

    def __init__(self, settings: Settings, network: Network, store: SessionStore) -> None:
        self.settings, self.network, self.store = settings, network, store
        self._me, self._lock = uuid.uuid4().hex, threading.RLock()

    # Tokens

    def token(self, resource: str, *, stale: str = "", claims: str = "") -> str:
        """An access token for a resource (such as https://storage.azure.com).

        `stale` is a token the service has just refused; `claims` the JSON its claims challenge asked for. Of several
        commands that need a new token one refreshes and the others take its result.
        """
        with self._lock:
            self._redeem_instance_code()
            with self._turn(lambda session: token_of(session, resource, stale)) as found:
                found = found or self._acquire(resource, claims)
        remember_secret(found)
        return found

    def _acquire(self, resource: str, claims: str) -> str:
        ways = {MANAGED_IDENTITY: self._ask_identity, CLIENT_CREDENTIALS: self._ask_as_application}
        ask = ways.get(self.settings.auth_type, self._ask_with_refresh_token)
        action = f"get a token for {resource}"
        result, cache = ask(resource, action, claims or None)
        if "access_token" not in result:
            raise self._refusal(result, action, resource)
        entry = token_entry(result)

        def change(session: Session) -> None:
            session["tokens"] = {**session.get("tokens", {}), resource: entry}
            if cache:
                session["cache"] = cache

        self.store.update(change, *([LEGACY_REFRESH_TOKEN] if cache else []))
        return str(entry["token"])

    def _refusal(self, result: Json, action: str, resource: str = "") -> SignInError:
        cortex = self.settings.auth_type in USER_FLOWS and self.settings.app_id == CORTEX_APP_ID
        consent = consent_hint(resource == STORAGE_AUDIENCE) if cortex else ""
        return sign_in_error(result, action, self.settings.auth_type, consent)

    def _ask(self, action: str, call: Callable[[], object]) -> Json:
        """msal's answer; whatever msal and the libraries under it raise becomes a SignInError."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # msal's advice, such as form_post, does not fit a code to be pasted
                result = call()
        except AzureStorageError:
            raise
        except Exception as error:
            key = "Paste an unencrypted RSA key in PEM form, from -----BEGIN to -----END. "
            # msal's own RuntimeError says that an ID token is for another application or another login.
            cause = "answer belongs to another sign-in"
            if not isinstance(error, RuntimeError):
                cause = "answer or the credential can't be used"
            raise SignInError(
                f"Could not {action}: the {cause} ({type(error).__name__}).",
                (key if self.settings.certificate_key else "") + hint_for(UNUSABLE_HINT, self.settings.auth_type),
                "invalid_answer",
            ) from None
        return result if isinstance(result, dict) else {}

    # Each way of getting a token returns msal's answer, and its cache after it, where that is worth keeping.

    def _ask_as_application(self, resource: str, action: str, claims: str | None) -> tuple[Json, str]:
        scope = [f"{resource}/.default"]
        return self._ask(action, lambda: self._app(None).acquire_token_for_client(scope, claims_challenge=claims)), ""

    def _ask_with_refresh_token(self, resource: str, action: str, claims: str | None) -> tuple[Json, str]:
        """Drops the session if its refresh token turns out dead."""
        stored = str(self.store.read().get("cache") or "")
        cache, scope = self._cache(stored), [f"{resource}/.default"]
        app = self._app(cache)
        accounts = app.get_accounts() if stored else []
        legacy = "" if accounts else self.store.foreign(LEGACY_REFRESH_TOKEN)  # the existing pack signed in
        options = {"force_refresh": True, "claims_challenge": claims}
        result: Json = {}
        if accounts:
            result = self._ask(action, lambda: app.acquire_token_silent_with_error(scope, accounts[0], **options))
        elif legacy:
            result = self._ask(action, lambda: app.acquire_token_by_refresh_token(legacy, scope))
        if not result:
            why = " The stored sign-in could not be read and was set aside." if self.store.unreadable else ""
            step = "Run !azure-storage-auth-start and follow the instructions."
            raise SignInError("This instance isn't signed in." + why, step, "login_required")
        wanted = result.get("claims") or claims

        def remember_refusal(session: Session) -> None:
            if grant_is_dead(result) and session.get("cache") == stored:
                for name in ("cache", "tokens", "username"):
                    session.pop(name, None)
            elif wanted:
                session["claims"] = wanted

        if "access_token" not in result:
            self.store.update(remember_refusal)
        return result, self._cache_text(cache)

    def _ask_identity(self, resource: str, action: str, claims: str | None) -> tuple[Json, str]:
        """https://learn.microsoft.com/entra/identity/managed-identities-azure-resources/how-to-use-vm-token"""
        msal, client_id = load_msal(), self.settings.identity_client_id
        identity = (
            msal.UserAssignedManagedIdentity(client_id=client_id) if client_id else msal.SystemAssignedManagedIdentity()
        )
        # A link-local address: no proxy can reach it, and where there is no identity nothing answers at all.
        local = Network(self.settings.verify, use_environment=False, connect_timeout=2, tries=3)
        client = msal.ManagedIdentityClient(identity, http_client=TokenHttp(local))
        try:
            return self._ask(action, lambda: client.acquire_token_for_client(resource=resource)), ""
        except NetworkError as error:
            raise SignInError(
                f"No managed identity is available here. {error.message}",
                "Run the instance on an Azure machine (or engine) that has a managed identity, or choose another Authentication Type.",
            ) from error

    # Signing in, step by step

    def _begin(self, name: str, parts: set[str], call: Callable[[Any, Json], object]) -> Json:
        """Begin a sign-in, with the claims that an earlier challenge asked for, and keep it under a name; it has to have
        the parts. An existing session stays until the new sign-in is complete."""
        app, options = self._app(self._cache("")), {"claims_challenge": self.store.read().get("claims")}
        flow = self._ask("start the sign-in", lambda: call(app, options))
        if not parts <= flow.keys():
            raise self._refusal(flow, "start the sign-in")
        for secret in ("device_code", "code_verifier"):
            remember_secret(str(flow.get(secret) or ""))
        self.store.update(lambda session: session.__setitem__(name, flow))
        return flow

    def start_device_flow(self) -> Json:
        """Begin a device code sign-in. The answer has user_code, verification_uri and expires_at."""
        parts, scopes = {"user_code", "verification_uri", "device_code"}, [self._first_scope]
        return self._begin("device_flow", parts, lambda app, options: app.initiate_device_flow(scopes, **options))

    def start_login(self) -> str:
        """Begin an authorization code sign-in with state and PKCE. Returns the address to open in a browser."""
        more = {"redirect_uri": self.settings.redirect_uri, "prompt": "select_account", "scopes": [self._first_scope]}
        flow = self._begin("login", {"auth_uri"}, lambda app, options: app.initiate_auth_code_flow(**more, **options))
        return str(flow["auth_uri"])

    def complete_device_flow(self) -> None:
        """Ask once whether the person has signed in. SignInPending if not yet; the call can be repeated."""
        with self._lock, self._turn():
            session = self.store.read()
            if session.get("device_flow"):
                self._poll_device_flow(session["device_flow"], session.get("claims"))
            elif not session.get("cache"):  # else another command has just completed it
                raise SignInError("No sign-in is waiting to be completed.", "Run !azure-storage-auth-start first.")

    def _poll_device_flow(self, flow: Json, claims: str | None) -> None:
        cache, result = self._cache(""), {"error": "expired_token"}
        # msal's own loop, which would never end with an interval of 0, is left after the first try.
        once, options = {**flow, "interval": 1}, {"exit_condition": lambda _: True, "claims_challenge": claims}
        try:
            if flow["expires_at"] > Clock.now():
                app = self._app(cache)
                result = self._ask("complete the sign-in", lambda: app.acquire_token_by_device_flow(once, **options))
        except SignInError as error:
            # Only an answer that msal could not use says that the code was redeemed; it must not be sent again.
            if error.code == "invalid_answer":
                self.store.update(lambda session: session.pop("device_flow", None))
            raise
        if result.get("error") in ("authorization_pending", "slow_down"):
            self._keep_waiting(flow, str(result["error"]))
        if "access_token" not in result:
            self.store.update(lambda session: session.pop("device_flow", None))
            raise self._refusal(result, "complete the sign-in")
        self._save_sign_in(result, cache, "device_flow")

    def _keep_waiting(self, flow: Json, error: str) -> None:
        """RFC 8628 asks for five more seconds between polls after slow_down. https://www.rfc-editor.org/rfc/rfc8628#section-3.5"""
        longer = {**flow, "interval": flow["interval"] + (5 if error == "slow_down" else 0)}
        self.store.update(lambda session: session.__setitem__("device_flow", longer))
        raise SignInPending(
            f"The sign-in is not finished: open {flow['verification_uri']} and enter the code {flow['user_code']}.",
            OAUTH_HINTS["authorization_pending"],
            error,
        )

    def poll_interval(self) -> int:
        """Seconds that the sign-in service wants between two polls of a device code."""
        return int(at_path(self.store.read(), "device_flow.interval") or 0)

    def _redeem_instance_code(self) -> None:
        """A code pasted into the instance that was never tried wins over whatever session there is."""
        pasted = self.settings.authorization_code
        if self.settings.auth_type != AUTHORIZATION_CODE or not pasted:
            return
        session = self.store.read()
        try:
            if code_digest(pasted.reveal()) not in session.get("codes", []):
                self.complete_login(pasted.reveal(), from_instance=True)
            elif not session.get("cache"):
                words = "The authorization code in the instance was used before, and this instance isn't signed in."
                raise SignInError(words, NEW_CODE)
        except SignInError:
            if not self.store.foreign(LEGACY_REFRESH_TOKEN):  # else the existing pack used it, and its session is there
                raise

    def complete_login(self, pasted: str, *, from_instance: bool = False) -> None:
        """Redeem an authorization code: bare, with its tail, or in the whole address, whose state is then verified."""
        found, state = read_pasted_code(pasted)
        remember_secret(found)
        with self._lock, self._turn():
            session = self.store.read()
            login = session.get("login") or {}
            if code_digest(found) in session.get("codes", []):
                if from_instance:  # another command was quicker
                    return
                raise SignInError("This authorization code was used before; a code works once.", NEW_CODE)
            if state and login and state != login.get("state"):
                words = (
                    "The address belongs to another login URL than the last one made on this instance (state mismatch)."
                )
                raise SignInError(words, NEW_CODE)
            if not login and not from_instance:
                raise SignInError(
                    "No login URL was made on this instance, so that the code can't be verified (PKCE).", NEW_CODE
                )
            self._redeem_code(found, pasted, login)

    def _redeem_code(self, found: str, pasted: str, login: Json) -> None:
        """Without a login URL of ours the vendor's guide was followed: the code in the instance's own field has no PKCE."""
        cache = self._cache("")
        app, action = self._app(cache), "redeem the authorization code"
        tried = sorted({code_digest(text) for text in (found, pasted, self.settings.authorization_code.reveal())})

        def mark_tried(session: Session) -> None:
            session["codes"] = list(dict.fromkeys([*session.get("codes", []), *tried]))[-12:]

        def redeem() -> object:
            if login:
                return app.acquire_token_by_auth_code_flow(login, {"code": found, "state": login["state"]})
            uri = self.settings.redirect_uri
            return app.acquire_token_by_authorization_code(found, [self._first_scope], redirect_uri=uri)

        spent = True
        try:
            result = self._ask(action, redeem)
        except NetworkError as error:
            spent = error.sent
            raise
        finally:
            if spent:
                self.store.update(mark_tried)
        if "access_token" in result:
            self._save_sign_in(result, cache, "login")
            return
        refusal = self._refusal(result, action)
        told = [number for number in aadsts_numbers(result) if number not in DEAD_GRANTS]
        if refusal.code == "invalid_grant" and not any(aadsts_hint(number, self.settings.auth_type) for number in told):
            refusal.next_step = (
                f"The code was used before, is older than ten minutes or belongs to another login URL. {NEW_CODE}"
            )
        raise refusal

    def _save_sign_in(self, result: Json, cache: Any, flow: str) -> None:
        """Replace the session by a new one, in one write with the removal of the flow that brought it."""
        entry, text = token_entry(result), self._cache_text(cache)
        name = str(at_path(result, "id_token_claims.preferred_username") or "")

        def change(session: Session) -> None:
            for key in (flow, "claims"):
                session.pop(key, None)
            session.update(tokens={self.settings.cloud.audience: entry}, cache=text, username=name)

        self.store.update(change, LEGACY_REFRESH_TOKEN, forget_others=True)

    # What is known

    def identity(self) -> Json:
        """Who is signed in, from the stored session and the claims of the ARM token, which are shown and never trusted."""
        session, settings = self.store.read(), self.settings
        tokens = session.get("tokens", {})
        entry = tokens.get(settings.cloud.audience) or tokens.get(STORAGE_AUDIENCE) or {}
        claims = token_claims(str(entry.get("token") or ""))
        person = settings.auth_type in USER_FLOWS
        names = [session.get("username"), claims.get("upn"), claims.get("unique_name")] if person else []
        names += [*map(claims.get, ("app_displayname", "appid", "oid")), settings.app_id]
        managed = settings.auth_type == MANAGED_IDENTITY
        return {
            "identity": next(filter(None, names)),
            "kind": "user" if person else "application",
            "authType": settings.auth_type,
            "tenantId": claims.get("tid") or settings.tenant,
            "appId": claims.get("appid") or ("" if managed else settings.app_id),
            "cloud": settings.cloud.name,
        }

    def expires_at(self, resource: str) -> float:
        return float(self.store.read().get("tokens", {}).get(resource, {}).get("expires_at", 0))

    # Turns, and msal

    @contextmanager
    def _turn(self, found: Callable[[Session], str | None] = lambda session: None) -> Iterator[str | None]:
        """Hold the right to talk to the sign-in service; or get what `found` sees in the session meanwhile.

        The turn of a command that shows no sign of life is taken over after TURN_PATIENCE seconds of our own clock.
        """
        holder, waited = "", 0.0
        while True:
            value, busy = self._claim_turn(found, holder if waited >= TURN_PATIENCE else "")
            if not busy:
                break
            waited = waited + 0.25 if busy == holder else 0.0
            holder = busy
            Clock.wait(0.25)
        try:
            yield value
        finally:
            if value is None:
                self.store.update(
                    lambda session: session.pop("turn", None) if at_path(session, "turn.by") == self._me else None
                )

    def _claim_turn(self, found: Callable[[Session], str | None], dead: str) -> tuple[str | None, str]:
        """What `found` sees, or who else has the turn; neither where it is ours now."""

        def change(session: Session) -> tuple[str | None, str]:
            value, by = found(session), str(at_path(session, "turn.by") or "")
            if value is not None or by in ("", self._me, dead):
                by = ""
            if value is None and not by:
                session["turn"] = {"by": self._me}
            return value, by

        return self.store.update(change)

    @property
    def _first_scope(self) -> str:
        return f"{self.settings.cloud.audience}/.default"

    def _app(self, cache: Any) -> Any:
        """msal's application object. Building it asks a custom authority for its endpoints, so it is made only when needed."""
        msal, settings = load_msal(), self.settings
        tenant = settings.tenant or "organizations"
        options = {
            "authority": f"{settings.cloud.authority}/{tenant}",
            "token_cache": cache,
            "http_client": TokenHttp(self.network, settings.cloud.authority, tenant),
            "instance_discovery": False,  # otherwise an empty cache makes msal ask a host that nobody chose
        }
        credential: object = settings.client_secret.reveal() or None
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
            words = f"The tenant {tenant!r} is not known at {host_of(settings.cloud.authority)}."
            raise SignInError(words, aadsts_hint(90002, settings.auth_type)) from None

    @staticmethod
    def _cache(text: str) -> Any:
        cache = load_msal().SerializableTokenCache()
        remember_refresh_tokens(json_object(text))
        if text:
            cache.deserialize(text)
        return cache

    @staticmethod
    def _cache_text(cache: Any) -> str:
        """msal's cache without access tokens, which the session holds itself so that msal is not imported to read one."""
        kept = json_object(cache.serialize())
        kept.pop("AccessToken", None)
        remember_refresh_tokens(kept)
        return json.dumps(kept)


def remember_refresh_tokens(cache: Json) -> None:
    for entry in dict(cache.get("RefreshToken") or {}).values():
        remember_secret(str(entry.get("secret") or ""))


def token_entry(result: Json) -> Json:
    """A token as the session keeps it. Entra writes expires_in as a number, managed identities as a text."""
    token = str(result["access_token"])
    remember_secret(token)
    lifetime = str(result.get("expires_in") or "0")
    return {
        "token": token,
        "expires_at": int(Clock.now()) + (int(lifetime) if re.fullmatch(r"\d{1,9}", lifetime, re.ASCII) else 0),
    }


def load_msal() -> Any:
    """msal, imported when a token is really needed: with a stored token a command does without, and a missing package
    becomes a clean message. Its loggers are muted, since they print codes and unparsable token answers."""
    try:
        import msal
    except ImportError:
        words = "The Python package msal is missing in the Docker image."
        raise SignInError(words, "Use the Docker image that the integration's YAML names.") from None
    logger = logging.getLogger("msal")
    logger.setLevel(logging.CRITICAL + 1)
    logger.propagate = False
    return msal


def token_claims(token: str) -> Json:
    """The payload of a JSON web token, unverified; {} for an opaque one."""
    parts = token.split(".")
    try:
        return json_object(base64.urlsafe_b64decode(parts[1] + "==").decode()) if len(parts) == 3 else {}
    except ValueError:
        return {}


# --- Resource Manager --------------------------------------------------------------------------------------------------


class Named(Protocol):
    """What an endpoint is asked of: the path of a resource, and how the resource is called in a message."""

    @property
    def id(self) -> str: ...


Target = TypeVar("Target", bound=Named)


@dataclass(frozen=True)
class Endpoint(Generic[Target]):
    """One operation of Resource Manager, on a resource of type Target.

    path follows the resource's id, {name} in it is one segment; action completes "Could not ..."; shape is a key of
    SHAPES; codes are the documented ones; needs is the permission; replayable: see Request.
    """

    method: str
    path: str
    action: str
    needs: str = ""
    shape: str = "object"
    codes: tuple[int, ...] = (200,)
    api: str = STORAGE_API
    replayable: bool = True


LOCKS_PATH = "/providers/Microsoft.Authorization/locks"
LOGGING_PATH = "/blobServices/default/providers/Microsoft.Insights/diagnosticSettings"
ASSIGNMENTS_PATH = "/providers/Microsoft.Authorization/roleAssignments"
POLICY_PATH = "/immutabilityPolicies/default"
# fmt: off
# https://learn.microsoft.com/rest/api/resources and /rest/api/storagerp; a row is an operation's page there.
OfScope, OfAccount, OfContainer = Endpoint[Scope], Endpoint[AccountRef], Endpoint[ContainerRef]
SUBSCRIPTIONS_LIST = OfScope("GET", "/subscriptions", "list subscriptions", READ_SUBSCRIPTIONS, "list", api=SUBSCRIPTIONS_API)
SUBSCRIPTION_GET = OfScope("GET", "", "read the subscription", READ_SUBSCRIPTIONS, api=SUBSCRIPTIONS_API)
GROUPS_LIST = OfScope("GET", "/resourcegroups", "list resource groups", READ_GROUPS, "list", api=RESOURCE_GROUPS_API)
GRAPH_SEARCH = OfScope("POST", "/providers/Microsoft.ResourceGraph/resources", "search all subscriptions", READ_ACCOUNT, "rows", api=GRAPH_API)
RESOURCE_GET = OfScope("GET", "", "read {}")
RESOURCE_LIST = OfScope("GET", "", "read {}", shape="list")
RESOURCE_PUT = OfScope("PUT", "", "change {}", codes=(200, 201))
RESOURCE_DELETE = OfScope("DELETE", "", "delete {}", shape="nothing", codes=(200, 202, 204))
ACCOUNTS_LIST = OfScope("GET", "/providers/Microsoft.Storage/storageAccounts", "list storage accounts", READ_ACCOUNT, "list")
ACCOUNT_GET = OfAccount("GET", "", "read storage account {}", READ_ACCOUNT)
ACCOUNT_CREATE = OfAccount("PUT", "", "create storage account {}", WRITE_ACCOUNT, codes=(200, 202))
ACCOUNT_UPDATE = OfAccount("PATCH", "", "update storage account {}", WRITE_ACCOUNT)
ACCOUNT_DELETE = OfAccount("DELETE", "", "delete storage account {}", DELETE_ACCOUNT, "nothing", (200, 204))
KEYS_LIST = OfAccount("POST", "/listKeys", "list the keys of {}", LIST_KEYS, "keys")
KEY_REGENERATE = OfAccount("POST", "/regenerateKey", "rotate a key of {}", REGENERATE_KEY, "keys", replayable=False)
DELEGATION_KEYS_REVOKE = OfAccount("POST", "/revokeUserDelegationKeys", "revoke the user delegation keys of {}", REVOKE_DELEGATION_KEYS, "nothing", (200, 202, 204))
LOCKS_LIST = OfAccount("GET", LOCKS_PATH, "list the locks of {}", READ_LOCKS, "list", api=LOCKS_API)
LOCK_SET = OfAccount("PUT", LOCKS_PATH + "/{name}", "lock {}", WRITE_LOCKS, codes=(200, 201), api=LOCKS_API)
LOCK_DELETE = OfScope("DELETE", "", "remove the lock {}", DELETE_LOCKS, "nothing", (200, 204), LOCKS_API)
ACTIVITY_LIST = OfScope("GET", "/providers/Microsoft.Insights/eventtypes/management/values", "read the activity log of {}", READ_ACTIVITY, "list", api=ACTIVITY_API)
LOGGING_LIST = OfAccount("GET", LOGGING_PATH, "read the diagnostic settings of {}", READ_LOGGING, "list", api=DIAGNOSTICS_API)
LOGGING_SET = OfAccount("PUT", LOGGING_PATH + "/{name}", "change the diagnostic settings of {}", WRITE_LOGGING, api=DIAGNOSTICS_API)
LOGGING_DELETE = OfScope("DELETE", "", "delete the diagnostic setting {}", DELETE_LOGGING, "nothing", (200, 204), DIAGNOSTICS_API)
LOGS_QUERY = OfAccount("POST", "/providers/microsoft.insights/logs", "query the logs of {}", READ_LOGS, "tables", api=LOGS_API)
RANGES_RESTORE = OfAccount("POST", "/restoreBlobRanges", "restore blobs of {}", RESTORE_RANGES, "document", (200, 202), replayable=False)
SERVICE_GET = OfAccount("GET", "/blobServices/default", "read the blob service of {}", READ_SERVICE)
SERVICE_SET = OfAccount("PUT", "/blobServices/default", "change the blob service of {}", WRITE_SERVICE)
LIFECYCLE_GET = OfAccount("GET", "/managementPolicies/default", "read the lifecycle policy of {}", READ_LIFECYCLE)
LIFECYCLE_SET = OfAccount("PUT", "/managementPolicies/default", "change the lifecycle policy of {}", WRITE_LIFECYCLE)
REPLICATION_LIST = OfAccount("GET", "/objectReplicationPolicies", "list the replication policies of {}", READ_REPLICATION, "list")
DEFENDER_GET = OfAccount("GET", "/providers/Microsoft.Security/defenderForStorageSettings/current", "read the Defender settings of {}", READ_DEFENDER, api=DEFENDER_API)
ASSIGNMENTS_LIST = OfAccount("GET", ASSIGNMENTS_PATH, "list the role assignments of {}", READ_ROLES, "list", api=ROLES_API)
DEFINITIONS_LIST = OfAccount("GET", "/providers/Microsoft.Authorization/roleDefinitions", "list the role definitions of {}", READ_DEFINITIONS, "list", api=ROLES_API)
ASSIGNMENT_SET = OfScope("PUT", "", "restore the role assignment {}", WRITE_ROLES, codes=(200, 201), api=ROLES_API)
ASSIGNMENT_DELETE = OfScope("DELETE", "", "remove the role assignment {}", DELETE_ROLES, "nothing", (200, 204), ROLES_API)
CONTAINERS_LIST = OfAccount("GET", "/blobServices/default/containers", "list the containers of {}", READ_CONTAINER, "list")
CONTAINER_GET = OfContainer("GET", "", "read container {}", READ_CONTAINER)
CONTAINER_CREATE = OfContainer("PUT", "", "create container {}", WRITE_CONTAINER, codes=(200, 201))
CONTAINER_UPDATE = OfContainer("PATCH", "", "update container {}", WRITE_CONTAINER)
CONTAINER_DELETE = OfContainer("DELETE", "", "delete container {}", DELETE_CONTAINER, "nothing", (200, 204))
HOLD_SET = OfContainer("POST", "/setLegalHold", "set the legal hold of container {}", SET_HOLD, "document")
HOLD_CLEAR = OfContainer("POST", "/clearLegalHold", "clear the legal hold of container {}", CLEAR_HOLD, "document")
CONTAINER_LEASE = OfContainer("POST", "/lease", "change the lease of container {}", LEASE_CONTAINER, "lease", replayable=False)
IMMUTABILITY_GET = OfContainer("GET", POLICY_PATH, "read the immutability policy of container {}", f"{IMMUTABILITY}/read")
IMMUTABILITY_SET = OfContainer("PUT", POLICY_PATH, "set the immutability policy of container {}", f"{IMMUTABILITY}/write")
IMMUTABILITY_EXTEND = OfContainer("POST", POLICY_PATH + "/extend", "extend the immutability policy of container {}", f"{IMMUTABILITY}/extend/action")
IMMUTABILITY_LOCK = OfContainer("POST", POLICY_PATH + "/lock", "lock the immutability policy of container {}", f"{IMMUTABILITY}/lock/action")
IMMUTABILITY_DELETE = OfContainer("DELETE", POLICY_PATH, "delete the immutability policy of container {}", f"{IMMUTABILITY}/delete", "nothing")
# What is an object, and what is a list of objects, in whichever resource it stands; null counts as unset.
OBJECTS = frozenset((
    "actions", "authorization", "baseBlob", "blobRestoreStatus", "changeFeed", "claims", "containerDeleteRetentionPolicy", "cors",
    "customDomain", "definition", "deleteRetentionPolicy", "encryption", "filters", "identity", "immutabilityPolicy",
    "immutableStorageWithVersioning", "keyCreationTime", "keyPolicy", "keyvaultproperties", "lastAccessTimeTrackingPolicy",
    "legalHold", "networkAcls", "policy", "primaryEndpoints", "properties", "restorePolicy", "retentionPolicy", "sasPolicy",
    "services", "sku", "staticWebsite",
))
ROWS = frozenset((
    "corsRules", "ipRules", "ipv6Rules", "logs", "privateEndpointConnections", "resourceAccessRules", "rules", "updateHistory",
    "virtualNetworkRules",
))
# fmt: on


def well_formed(value: object) -> bool:
    """Whether every place in a resource that is known to hold an object, or a list of them, does."""
    if not isinstance(value, dict):
        return False
    objects = [value[key] for key in value.keys() & OBJECTS if value[key] is not None]
    lists = [value[key] for key in value.keys() & ROWS if value[key] is not None]
    return all(map(well_formed, objects)) and all(
        isinstance(rows, list) and all(map(well_formed, rows)) for rows in lists
    )


def has_list(key: str, name: str = "") -> Callable[[object], bool]:
    """A list of well-formed objects at a key; each with a text under a name, if one is given."""

    def check(body: object) -> bool:
        rows = at_path(body, key)
        return isinstance(rows, list) and all(
            well_formed(row) and (not name or isinstance(row.get(name), str)) for row in rows
        )

    return check


def is_resource(body: object) -> bool:
    """A resource has its id (or at least its name), is well formed, and has an object as its properties where it has any."""
    whole = isinstance(body, dict) and (body.get("id") or body.get("name")) and body.get("properties", {}) is not None
    return bool(whole) and well_formed(body)


# The documented shapes of bodies. Anything else was not written by Resource Manager.
SHAPES: Mapping[str, tuple[str, Callable[[object], bool]]] = {
    "object": ("the resource", is_resource),
    "list": ("a list of resources", has_list("value")),
    "rows": ("rows of Resource Graph", has_list("data")),
    "keys": ("account keys", has_list("keys", "keyName")),
    "tables": ("a table of logs", has_list("tables")),
    "document": ("a JSON object", lambda body: isinstance(body, dict) and bool(body)),
    "lease": ("a lease", lambda body: isinstance(body, dict) and body.keys() <= {"leaseId", "leaseTimeSeconds"}),
    "nothing": ("an empty answer", lambda body: body is None or isinstance(body, dict)),
}
# What Resource Manager says of an account that is not in the group or subscription where it was looked for.
MISPLACED = frozenset({"ResourceNotFound", "ParentResourceNotFound", "ResourceGroupNotFound", "SubscriptionNotFound"})
UNKNOWN_VERSION = frozenset({"InvalidApiVersionParameter", "NoRegisteredProviderFound", "InvalidResourceType"})


def parse_arm_error(text: str) -> tuple[str, str]:
    """Code and message of an ARM error body, in any of the shapes ARM has been seen to use.

    {"error": {...}} or the bare object; the message may itself be such a document; `details` and the policy names in
    `additionalInfo` are added to the message. Anything else gives its first characters.
    https://learn.microsoft.com/azure/azure-resource-manager/troubleshooting/common-deployment-errors
    """
    error = json_object(text)
    error = error.get("error", error)
    if not isinstance(error, dict) or not (error.get("code") or error.get("message")):
        return "", snippet(text)
    message, name = str(error.get("message") or ""), str(error.get("code") or "")
    if json_object(message):
        inner, words = parse_arm_error(message)
        return inner or name, words
    infos = dicts([info.get("info") for info in dicts(error.get("additionalInfo"))])
    policies = (info.get("policyDefinitionDisplayName") or info.get("policyDefinitionName") for info in infos)
    parts = [message, *(f"{part.get('code', '')}: {part.get('message', '')}" for part in dicts(error.get("details")))]
    parts += [f"Policy: {policy}" for policy in policies if policy]
    cause = at_path(error, "innererror.innererror") or error.get("innererror")
    parts.append(str(at_path(cause, "message") or ""))
    return name, " ".join(part.strip() for part in parts if part.strip(" :"))


class BearerToken:
    """Requests with a token of the signed-in identity; after a 401 once more, with what the challenge asks for."""

    def __init__(self, auth: MicrosoftAuth, resource: str) -> None:
        self.auth, self.resource = auth, resource

    def flow(self, request: Request) -> Generator[Request, requests.Response, None]:
        def signed(token: str) -> Request:
            return signed_parts(request, lambda part: part.with_headers(Authorization=f"Bearer {token}"))

        token = self.auth.token(self.resource)
        answer = yield signed(token)
        if answer.status_code == 401:
            yield signed(self.auth.token(self.resource, stale=token, claims=claims_of(answer)))


class Paging(NamedTuple):
    """How much of a listing is wanted, and from where on: a place, and how many of its items were shown.

    to_show: the items are only shown, so that those beyond what an entry holds need not be kept in memory.
    """

    limit: int = DEFAULT_LIMIT
    all_results: bool = False
    place: str = ""
    skip: int = 0
    to_show: bool = False


EVERYTHING = Paging(all_results=True)


class Listing(NamedTuple):
    """Part of a collection; `token` is empty at its end, else where to go on.

    file: all of them as JSON lines, where `items` holds only the first of `total`.
    """

    items: list[Json]
    token: str = ""
    file: str = ""
    total: int = 0


class Gathered:
    """The items of a listing while it is read: all in memory, or those that an entry holds and all of them in a file."""

    def __init__(self, to_show: bool) -> None:
        self.items: list[Json] = []
        self.count = 0
        self._size, self._to_show = 0, to_show
        self._file: TextIO | None = None  # closed, and after a failure deleted, at the end of `with`

    def add(self, item: Json) -> None:
        self.count += 1
        if not self._to_show:
            self.items.append(item)
            return
        line = json.dumps(item)
        self._size += len(line)
        if self._file is None:
            if self._size <= CONTEXT_SIZE and self.count <= CONTEXT_LIMIT:
                self.items.append(item)
                return
            self._file = Path(f"rows-{uuid.uuid4().hex}").open("w", encoding="utf-8", errors="replace")  # noqa: SIM115 - lives until close()
            self._file.writelines(f"{json.dumps(held)}\n" for held in self.items)
        self._file.write(f"{line}\n")

    def listing(self, token: str = "") -> Listing:
        return Listing(self.items, token, self._file.name if self._file else "", self.count)

    def __enter__(self) -> "Gathered":
        return self

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        if self._file:
            self._file.close()
            if failure:
                Path(self._file.name).unlink(missing_ok=True)


Page = tuple[list[Json], str, str]  # items, the place they were read from, the place of the next page


def paged(fetch: Callable[[str], tuple[list[Json], str]], place: str, action: str) -> Iterator[Page]:
    """Page after page from a place on. NetworkError if a place comes twice: a listing that goes in circles is not whole."""
    seen = {place}
    while True:
        items, following = fetch(place)
        yield items, place, following
        del items  # not held while the next page is read
        if not following:
            return
        if following in seen:
            raise NetworkError(
                f"Could not {action}: the pages of the listing repeat themselves.", "Run the command again."
            )
        seen.add(following)
        place = following


def collect(pages: Iterable[Page], paging: Paging, keep: Callable[[Json], bool] | None = None) -> Listing:
    """As much of a collection as `paging` asks for, of the items only those that `keep` wants, filtered page by page."""
    with Gathered(paging.to_show) as found:
        return found.listing(gather(pages, paging, keep, found))


def gather(pages: Iterable[Page], paging: Paging, keep: Callable[[Json], bool] | None, found: Gathered) -> str:
    """Fills `found`; returns the token of the place where the next call goes on, or nothing at the end."""
    skip, limit = paging.skip, None if paging.all_results else paging.limit
    for page, here, following in pages:
        for position, item in enumerate(page[skip:], skip):
            if found.count == limit:
                return place_token(here, position)
            if keep is None or keep(item):
                found.add(item)
        skip = max(0, skip - len(page))  # a smaller limit makes smaller pages
        if following and found.count == limit:
            return place_token(following, skip)
    if skip:
        words = "Invalid value for argument `next_token`: the listing ends before that place. Items were removed meanwhile, or the token is of another listing."
        raise UsageError(words, "Run the command without it.")
    return ""


def place_token(place: str, skip: int) -> str:
    """A place in a listing as a next_token: a page's path and query, never its host, and the items of it already shown."""
    return base64.urlsafe_b64encode(json.dumps({"u": place, "s": skip}).encode()).decode().rstrip("=")


def read_token(text: str) -> tuple[str, int]:
    """What place_token made."""
    found = json_value(base64.urlsafe_b64decode(text.encode() + b"==").decode())
    place, skip = at_path(found, "u"), at_path(found, "s")
    if not isinstance(place, str) or not isinstance(skip, int) or skip < 0 or not (place or skip):
        raise ValueError
    return place, skip


def if_there(ask: Callable[[], T], *missing_codes: str) -> T | None:
    """What is asked for, or None if the service says by one of these codes that it is not there. A refusal without a
    request id is a proxy's."""
    try:
        return ask()
    except ServiceError as error:
        if error.status == 404 and error.code in missing_codes and error.request_id:
            return None
        raise


class ResourceManager:
    """Azure Resource Manager: endpoints are rows, `ask` asks any of them. https://learn.microsoft.com/rest/api/storagerp/"""

    def __init__(self, settings: Settings, auth: MicrosoftAuth, network: Network) -> None:
        self.settings, self.network, self.host = settings, network, settings.cloud.resource_manager
        self.authorization = BearerToken(auth, settings.cloud.audience)
        self._older: dict[str, str] = dict.fromkeys((STORAGE_API, NEWEST_STORAGE_API), settings.cloud.arm_api)

    def ask(
        self,
        endpoint: Endpoint[Target],
        target: Target,
        body: Json | None = None,
        *,
        name: str = "",
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, object] | None = None,
    ) -> Json:
        """The body of the documented answer; {} where the operation has none. ServiceError, NetworkError, SignInError."""
        answer = self.call(endpoint, target, body, name=name, headers=headers, params=params)
        return self.body(answer, endpoint.action.format(target), endpoint.shape)

    def call(
        self,
        endpoint: Endpoint[Target],
        target: Target,
        body: Json | None = None,
        *,
        name: str = "",
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, object] | None = None,
    ) -> requests.Response:
        """The documented answer itself."""
        path = target.id + endpoint.path.replace("{name}", segment(name) if name else "")
        sent: dict[str, str] = {**(headers or {}), **({"Content-Type": "application/json"} if body is not None else {})}
        data = None if body is None else json.dumps(body).encode()
        while True:
            version = self._older.get(endpoint.api) or endpoint.api
            url = f"{self.host}{path}?{query_string({'api-version': version, **(params or {})})}"
            request = Request(endpoint.method, url, endpoint.action.format(target), sent, data, endpoint.replayable)
            try:
                return self.send(request, endpoint.codes, endpoint.needs)
            except ServiceError as error:
                older = self._older_version(error, version)
                if not older:
                    raise
                self._older[endpoint.api] = older

    def _older_version(self, error: ServiceError, version: str) -> str:
        """The newest version that a custom cloud offers in its refusal of a newer one; empty for any other error.

        Other clouds are not asked with older versions: what those leave out would look unset.
        """
        if self.settings.cloud.name != CUSTOM_CLOUD or error.code not in UNKNOWN_VERSION:
            return ""
        offered = re.findall(r"\b\d{4}-\d\d-\d\d(?:-preview)?\b", error.detail)
        return max((found for found in offered if found < version), default="")

    def send(self, request: Request, codes: tuple[int, ...], needs: str = "") -> requests.Response:
        """The answer to a request, with one of the documented codes."""
        self.guard(request.url, request.action)
        own = {
            "Accept": "application/json",
            "Accept-Encoding": "gzip, deflate",
            "x-ms-client-request-id": str(uuid.uuid4()),
        }
        answer = send(self.network, request._replace(headers={**own, **request.headers}), self.authorization)
        if answer.status_code >= 400:
            name, words = parse_arm_error(text_of(answer))
            request_id = answer.headers.get("x-ms-correlation-request-id") or answer.headers.get("x-ms-request-id", "")
            hint, repeated = ARM_HINTS.get(name, ""), bool(answer.history)
            raise ServiceError(
                request.action, answer.status_code, name, words, request_id, hint, repeated=repeated, needs=needs
            )
        if answer.status_code not in codes:
            raise not_the_service(answer, request.action, "a documented answer")
        return answer

    @staticmethod
    def body(answer: requests.Response, action: str, shape: str) -> Json:
        """The body, which must have the documented shape; {} where there is none. NetworkError shows anything else."""
        text = text_of(answer).strip()
        wanted, fits = SHAPES[shape]
        try:
            found = json_value(text) if text else None
        except ValueError:
            raise not_the_service(answer, action, "JSON") from None
        marked = "x-ms-request-id" in answer.headers or "x-ms-correlation-request-id" in answer.headers
        if not fits(found) or (shape == "nothing" and not marked):
            raise not_the_service(answer, action, wanted)
        return found if isinstance(found, dict) else {}

    def guard(self, url: str, action: str) -> None:
        """A token only goes to the chosen cloud, wherever a nextLink or a Location points."""
        host = host_of(url)
        if host != host_of(self.host):
            words = f"Could not {action}: Azure returned a link to {host or 'an unsafe address'}, outside the selected cloud; the request was not sent."
            raise NetworkError(words, "Check the cloud of the instance.")

    def pages(
        self, endpoint: Endpoint[Target], target: Target, place: str = "", params: Mapping[str, object] | None = None
    ) -> Iterator[Page]:
        """The pages of a collection. A place is path and query; wherever it or a nextLink points, it has to be the same
        collection."""
        path, action = target.id + endpoint.path, endpoint.action.format(target)
        version = self._older.get(endpoint.api) or endpoint.api
        first = f"{path}?{query_string({'api-version': version, **(params or {})})}"

        def elsewhere(place: str) -> bool:
            return plain_id(place.partition("?")[0]) != plain_id(path)

        def fetch(here: str) -> tuple[list[Json], str]:
            if here == first:
                answer = self.call(endpoint, target, params=params)
            else:
                answer = self.send(Request("GET", self.host + here, action), endpoint.codes, endpoint.needs)
            page = self.body(answer, action, endpoint.shape)
            link = str(page.get("nextLink") or "")
            if not link:
                return dicts(page["value"]), ""
            self.guard(link, action)
            following = urllib.parse.urlsplit(link)._replace(scheme="", netloc="").geturl()
            if elsewhere(following):
                raise NetworkError(f"Could not {action}: Azure's link to the next page leads to another listing.")
            return dicts(page["value"]), following

        if place and elsewhere(place):
            words = (
                "Invalid value for argument `next_token`: it belongs to another listing. Run the command without it."
            )
            raise UsageError(words)
        return paged(fetch, place or first, action)

    def listing(
        self,
        endpoint: Endpoint[Target],
        target: Target,
        paging: Paging = EVERYTHING,
        params: Mapping[str, object] | None = None,
    ) -> Listing:
        """As much of a collection as `paging` asks for."""
        return collect(self.pages(endpoint, target, paging.place, params), paging)

    def ask_if_there(self, endpoint: Endpoint[Target], target: Target, missing_code: str) -> Json | None:
        """The object, or None if Azure says by that code that it is not there; what it is in must be there."""
        return if_there(lambda: self.ask(endpoint, target), missing_code)

    def search_pages(self, query: str, paging: Paging = EVERYTHING) -> Iterator[Page]:
        """Rows of Azure Resource Graph, over every subscription the identity may read. It lags a little behind ARM.

        https://learn.microsoft.com/rest/api/azureresourcegraph/resourcegraph/resources/resources
        """
        size = GRAPH_PAGE if paging.all_results else min(GRAPH_PAGE, paging.limit)

        def fetch(here: str) -> tuple[list[Json], str]:
            options = given_only({"resultFormat": "objectArray", "$top": size, "$skipToken": here or None})
            page = self.ask(GRAPH_SEARCH, TENANT_SCOPE, {"query": query, "options": options})
            return dicts(page["data"]), str(page.get("$skipToken") or "")

        return paged(fetch, paging.place, GRAPH_SEARCH.action)

    def search(self, query: str, paging: Paging, keep: Callable[[Json], bool] | None = None) -> Listing:
        return collect(self.search_pages(query, paging), paging, keep)

    def keys(self, account: AccountRef, rotate: str = "") -> list[Json]:
        """Both keys with their values, which the redactor knows from here on; `rotate` names one to make anew first."""
        found = self.ask(KEY_REGENERATE, account, {"keyName": rotate}) if rotate else self.ask(KEYS_LIST, account)
        for key in found["keys"]:
            remember_secret(str(key.get("value") or ""))
        return dicts(found["keys"])


TENANT_SCOPE = Scope("")


# Adds the name of the subscription to each row, in the same question.
SUBSCRIPTION_NAMES = (
    "| join kind=leftouter (resourcecontainers | where type =~ 'microsoft.resources/subscriptions' "
    "| project subscriptionId, subscriptionName = name) on subscriptionId"
)


def accounts_query(
    names: Iterable[str] = (),
    tag: tuple[str, str] | None = None,
    location: str = "",
    group: str = "",
    subscription: str = "",
) -> str:
    """The Resource Graph query for storage accounts; what is empty does not matter."""
    wanted = {"subscriptionId": subscription, "resourceGroup": group, "location": location}
    equal = [(column, value) for column, value in wanted.items() if value]
    equal += [(f"tags[{kql(tag[0])}]", tag[1])] if tag else []
    listed_names = ", ".join(map(kql, names))
    lines = ["resources", "| where type =~ 'microsoft.storage/storageaccounts'"]
    lines += [f"| where name in~ ({listed_names})"] if listed_names else []
    lines += [f"| where {column} =~ {kql(value)}" for column, value in equal]
    fields = "id, name, type, location, tenantId, subscriptionId, subscriptionName, resourceGroup, sku, kind, tags, properties"
    return "\n".join([*lines, SUBSCRIPTION_NAMES, f"| project {fields}", "| order by id asc"])


# --- blob service ------------------------------------------------------------------------------------------------------


Property = tuple[str, str, str, Callable[[str], Any]]  # its name in a listing, in a header, in context; how it is read

# fmt: off
# Properties of a blob.
# https://learn.microsoft.com/rest/api/storageservices/list-blobs
BLOB_PROPERTIES: tuple[Property, ...] = (
    ("Creation-Time", "x-ms-creation-time", "created", http_date),
    ("Last-Modified", "Last-Modified", "lastModified", http_date),
    ("LastAccessTime", "x-ms-last-access-time", "lastAccessed", http_date),
    ("Etag", "ETag", "etag", lambda text: text.strip('"')),
    ("Content-Length", "Content-Length", "size", whole),
    ("Content-Type", "Content-Type", "contentType", str),
    ("Content-Encoding", "Content-Encoding", "contentEncoding", str),
    ("Content-Language", "Content-Language", "contentLanguage", str),
    ("Content-Disposition", "Content-Disposition", "contentDisposition", str),
    ("Cache-Control", "Cache-Control", "cacheControl", str),
    ("Content-MD5", "Content-MD5", "md5", md5_hex),
    ("BlobType", "x-ms-blob-type", "type", str),
    ("AccessTier", "x-ms-access-tier", "tier", str),
    ("AccessTierInferred", "x-ms-access-tier-inferred", "tierInferred", is_true),
    ("AccessTierChangeTime", "x-ms-access-tier-change-time", "tierChanged", http_date),
    ("ArchiveStatus", "x-ms-archive-status", "archiveStatus", str),
    ("RehydratePriority", "x-ms-rehydrate-priority", "rehydratePriority", str),
    ("LeaseStatus", "x-ms-lease-status", "leaseStatus", str),
    ("LeaseState", "x-ms-lease-state", "leaseState", str),
    ("LeaseDuration", "x-ms-lease-duration", "leaseDuration", str),
    ("CopyId", "x-ms-copy-id", "copyId", str),
    ("CopyStatus", "x-ms-copy-status", "copyStatus", str),
    ("CopySource", "x-ms-copy-source", "copySource", lambda text: text.partition("?")[0]),  # the query may hold a SAS
    ("CopyProgress", "x-ms-copy-progress", "copyProgress", str),
    ("CopyStatusDescription", "x-ms-copy-status-description", "copyStatusDescription", str),
    ("ServerEncrypted", "x-ms-server-encrypted", "serverEncrypted", is_true),
    ("CustomerProvidedKeySha256", "x-ms-encryption-key-sha256", "customerProvidedKeySha256", str),
    ("EncryptionScope", "x-ms-encryption-scope", "encryptionScope", str),
    ("DeletedTime", "", "deletedTime", http_date),
    ("RemainingRetentionDays", "", "remainingRetentionDays", whole),
    ("TagCount", "x-ms-tag-count", "tagCount", whole),
    ("Sealed", "x-ms-blob-sealed", "sealed", is_true),
    ("ResourceType", "x-ms-resource-type", "resourceType", str),
    ("LegalHold", "x-ms-legal-hold", "legalHold", is_true),
    ("ImmutabilityPolicyUntilDate", "x-ms-immutability-policy-until-date", "immutableUntil", http_date),
    ("ImmutabilityPolicyMode", "x-ms-immutability-policy-mode", "immutabilityMode", str),
)
# The same of a container, at the paths and in the words of Resource Manager.
# https://learn.microsoft.com/rest/api/storageservices/list-containers2
CONTAINER_PROPERTIES: tuple[Property, ...] = (
    ("Last-Modified", "Last-Modified", "properties.lastModifiedTime", http_date),
    ("Etag", "ETag", "etag", str),
    ("LeaseStatus", "x-ms-lease-status", "properties.leaseStatus", str.capitalize),
    ("LeaseState", "x-ms-lease-state", "properties.leaseState", str.capitalize),
    ("LeaseDuration", "x-ms-lease-duration", "properties.leaseDuration", str.capitalize),
    ("PublicAccess", "x-ms-blob-public-access", "properties.publicAccess", str.capitalize),
    ("HasImmutabilityPolicy", "x-ms-has-immutability-policy", "properties.hasImmutabilityPolicy", is_true),
    ("HasLegalHold", "x-ms-has-legal-hold", "properties.hasLegalHold", is_true),
    ("DefaultEncryptionScope", "x-ms-default-encryption-scope", "properties.defaultEncryptionScope", str),
    ("DenyEncryptionScopeOverride", "x-ms-deny-encryption-scope-override", "properties.denyEncryptionScopeOverride", is_true),
    ("ImmutableStorageWithVersioningEnabled", "x-ms-immutable-storage-with-versioning-enabled", "properties.immutableStorageWithVersioning.enabled", is_true),
    ("DeletedTime", "", "properties.deletedTime", http_date),
    ("RemainingRetentionDays", "", "properties.remainingRetentionDays", whole),
)
# fmt: on
# The elements that are rows of a listing: what they stand in, and what is read of their properties.
# What stands beside the properties of a row.
LISTED_PARTS: dict[str, tuple[str, Callable[[str], Any]]] = {
    "Name": ("name", str),
    "ContainerName": ("container", str),
    **{name: (name[0].lower() + name[1:], is_true) for name in ("Deleted", "IsCurrentVersion", "HasVersionsOnly")},
    **{name: (name[0].lower() + name[1:], str.strip) for name in ("Snapshot", "Version", "VersionId", "DeletionId")},
}
LISTED_BLOB = ("Blobs", LISTED_PARTS | {listed: (name, read) for listed, _, name, read in BLOB_PROPERTIES})
LISTED_ROWS = {
    "Blob": LISTED_BLOB,
    "BlobPrefix": LISTED_BLOB,
    "Container": (
        "Containers",
        LISTED_PARTS | {listed: (name, read) for listed, _, name, read in CONTAINER_PROPERTIES},
    ),
}


class ListedPage:
    """A page of a listing of blobs or containers, read as it arrives: rows with the names that context has, and where the
    next page begins.

    ValueError for a document that is not a listing.
    """

    def __init__(self, arriving: Iterable[bytes]) -> None:
        self.rows: list[Json] = []
        self.marker = ""
        self._row: Json | None = None
        self._path: list[str] = []
        self._words: list[str] = []
        self._encoded = False
        self._tag = ""
        self._known = LISTED_BLOB[1]
        feed_xml(self._start, self._end, self._words.append, arriving)

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if not self._path and name != "EnumerationResults":
            raise ValueError(f"<{name}> is not a listing")
        if name in LISTED_ROWS and self._path[-1:] == [LISTED_ROWS[name][0]]:
            self._row = {"isPrefix": True} if name == "BlobPrefix" else {}
            self._known = LISTED_ROWS[name][1]
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
        elif name in LISTED_ROWS and parent == LISTED_ROWS[name][0]:
            if not self._row.get("name"):
                raise ValueError("a row without a name")
            self.rows.append(self._row)
            self._row = None
        else:
            self._field(self._row, parent, name, text)

    def _field(self, row: Json, parent: str, name: str, text: str) -> None:
        if parent == "Properties" or parent in LISTED_ROWS:
            if text and name in self._known:
                path, read = self._known[name]
                put_path(row, path, read(urllib.parse.unquote(text) if self._encoded else text))
        elif parent in ("Metadata", "OrMetadata"):
            row.setdefault("metadata" if parent == "Metadata" else "replication", {})[name] = text
        elif parent == "Tag" and name == "Key":
            self._tag = text
        elif parent == "Tag":
            row.setdefault("tags", {})[self._tag] = text


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

    def moment(self, version_name: str) -> dict[str, str]:
        """The version or snapshot, under the name that a version has there."""
        parts = {version_name: self.version, "snapshot": self.snapshot}
        return {name: value for name, value in parts.items() if value}

    @property
    def query(self) -> dict[str, str]:
        return self.moment("versionid")

    @property
    def id(self) -> str:
        """The blob's URL, which names it in context."""
        return self.service.blob_id(self.container, self.name, self.version, self.snapshot)

    @property
    def current(self) -> "BlobRef":
        """The blob itself, whatever version or snapshot of it this is."""
        return self._replace(version="", snapshot="")

    @property
    def arguments(self) -> dict[str, str]:
        """The arguments that name it to another command."""
        where = {"account_name": self.service.account, "container_name": self.container, "blob_name": self.name}
        return where | self.moment("version_id")

    def __str__(self) -> str:
        return f"{self.container}/{self.name}"

    def identity(self) -> Json:
        """The fields by which context names a blob."""
        found = {"id": self.id, "account": self.service.account, "container": self.container, "name": self.name}
        return found | self.moment("versionId")


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


def acl_xml(policies: list[AccessPolicy]) -> bytes:
    rows = ""
    for policy in policies:
        fields = (("Start", policy.start), ("Expiry", policy.expiry), ("Permission", policy.permissions))
        inner = "".join(f"<{name}>{escape_xml(value)}</{name}>" for name, value in fields if value)
        rows += f"<SignedIdentifier><Id>{escape_xml(policy.name)}</Id><AccessPolicy>{inner}</AccessPolicy></SignedIdentifier>"
    return f'<?xml version="1.0" encoding="utf-8"?><SignedIdentifiers>{rows}</SignedIdentifiers>'.encode()


class Operation(NamedTuple):
    """One operation of the blob service: method, what completes "Could not ...", permission, documented codes, query."""

    method: str
    action: str
    needs: str = ""
    codes: tuple[int, ...] = (200,)
    query: Mapping[str, str] = {}
    replayable: bool = True


# fmt: off
IN_CONTAINER = {"restype": "container"}
# https://learn.microsoft.com/rest/api/storageservices/blob-service-rest-api; a row is an operation's page there.
CONTAINERS_READ = Operation("GET", "list the containers of {}", READ_CONTAINER, query={"comp": "list"})
SERVICE_PROPERTIES = Operation("GET", "read the blob service of {}", READ_SERVICE, query={"restype": "service", "comp": "properties"})
BLOBS_FIND = Operation("GET", "find blobs by tags", FIND_BLOBS, query={"comp": "blobs"})
BLOBS_LIST = Operation("GET", "list the blobs of {}", READ_BLOB, query={**IN_CONTAINER, "comp": "list"})
KEY_LEND = Operation("POST", "get a user delegation key", DELEGATION_KEY, query={"restype": "service", "comp": "userdelegationkey"})
BATCH = Operation("POST", "delete {} blobs", DELETE_BLOB, (200, 202), {"comp": "batch"})
CONTAINER_HEAD = Operation("HEAD", "read container {}", READ_CONTAINER, query=IN_CONTAINER)
CONTAINER_MAKE = Operation("PUT", "create container {}", WRITE_CONTAINER, (201,), IN_CONTAINER)
CONTAINER_REMOVE = Operation("DELETE", "delete container {}", DELETE_CONTAINER, (202,), IN_CONTAINER)
CONTAINER_UNDELETE = Operation("PUT", "restore container {}", WRITE_CONTAINER, (201,), {**IN_CONTAINER, "comp": "undelete"})
ACL_GET = Operation("GET", "read the policies of container {}", READ_ACL, query={**IN_CONTAINER, "comp": "acl"})
ACL_SET = Operation("PUT", "change the policies of container {}", WRITE_ACL, query={**IN_CONTAINER, "comp": "acl"})
BLOB_GET = Operation("GET", "read blob {}", READ_BLOB, (200, 206))
BLOB_HEAD = Operation("HEAD", "read the properties of blob {}", READ_BLOB)
BLOB_PUT = Operation("PUT", "write blob {}", WRITE_BLOB, (201,))
BLOCK_PUT = Operation("PUT", "write a block of blob {}", WRITE_BLOB, (201,), {"comp": "block"})
BLOCKS_COMMIT = Operation("PUT", "write blob {}", WRITE_BLOB, (201,), {"comp": "blocklist"})
BLOB_DELETE = Operation("DELETE", "delete blob {}", DELETE_BLOB, (202,))
VERSION_DELETE = Operation("DELETE", "delete a version of blob {}", DELETE_VERSION, (202,))
BLOB_UNDELETE = Operation("PUT", "restore blob {}", WRITE_CONTAINER, query={"comp": "undelete"})
PROPERTIES_SET = Operation("PUT", "change the properties of blob {}", WRITE_BLOB, query={"comp": "properties"})
METADATA_SET = Operation("PUT", "change the metadata of blob {}", WRITE_BLOB, query={"comp": "metadata"})
TAGS_GET = Operation("GET", "read the tags of blob {}", READ_TAGS, query={"comp": "tags"})
TAGS_SET = Operation("PUT", "change the tags of blob {}", WRITE_TAGS, (204,), {"comp": "tags"})
SNAPSHOT_TAKE = Operation("PUT", "take a snapshot of blob {}", WRITE_BLOB, (201,), {"comp": "snapshot"}, replayable=False)
TIER_SET = Operation("PUT", "change the tier of blob {}", WRITE_BLOB, (200, 202), {"comp": "tier"})
BLOB_LEASE = Operation("PUT", "change the lease of blob {}", WRITE_BLOB, (200, 201, 202), {"comp": "lease"}, replayable=False)
BLOB_HOLD = Operation("PUT", "change the legal hold of blob {}", WRITE_CONTAINER, query={"comp": "legalhold"})
BLOB_COPY = Operation("PUT", "copy to blob {}", WRITE_BLOB, (202,), replayable=False)
COPY_ABORT = Operation("PUT", "abort the copy to blob {}", WRITE_BLOB, (204,), {"comp": "copy"})
# fmt: on
BLOB_ERROR_DETAILS = (
    "HeaderName",
    "HeaderValue",
    "QueryParameterName",
    "QueryParameterValue",
    "Reason",
    "AuthenticationErrorDetail",
)


def blob_error(response: requests.Response, action: str, needs: str = "") -> ServiceError:
    """The blob service's refusal. The code stands in a header first: an answer to HEAD has no body."""
    text = text_of(response)
    try:
        error: object = parse_xml(text).get("Error")
    except ValueError:
        error = json_object(text).get("error")
    fields = {str(key): value for key, value in error.items()} if isinstance(error, dict) else {}
    name = response.headers.get("x-ms-error-code") or str(fields.get("Code") or fields.get("code") or "")
    words = str(fields.get("Message") or fields.get("message") or "").splitlines()[:1]
    words += [f"{key}: {value}." for key, value in fields.items() if key in BLOB_ERROR_DETAILS]
    return ServiceError(
        action,
        response.status_code,
        name,
        " ".join(words) or snippet(text),
        response.headers.get("x-ms-request-id", ""),
        BLOB_HINTS.get(name, ""),
        repeated=bool(response.history),
        needs=needs,
    )


class BlobHttp:
    """Requests to the blob service of one account, authorised by a token, or by the SAS or key that the instance has."""

    def __init__(
        self, manager: ResourceManager, account: str, endpoint: str, authorization: Authorization | None = None
    ) -> None:
        self.manager, self.account, self.endpoint = manager, account, endpoint.rstrip("/")
        self.authorization = authorization
        self.version = manager.settings.cloud.blob_api if manager else ""

    def send(
        self,
        operation: Operation,
        path: str,
        action: str,
        query: Mapping[str, Any],
        headers: Mapping[str, Any],
        data: bytes | None = None,
        *,
        stream: bool = False,
        parts: tuple[Request, ...] = (),
    ) -> requests.Response:
        """The answer, with a documented code and the headers of the service. What is None in query and headers is left out."""
        request = self.request(operation.method, path, {**operation.query, **query}, headers)
        full = request._replace(action=action, data=data, replayable=operation.replayable, stream=stream, parts=parts)
        assert self.authorization is not None  # noqa: S101 - only a service that is never asked has none
        answer = send(self.manager.network, full, self.authorization)
        if answer.status_code >= 300:
            needs = "" if isinstance(self.authorization, SasAuthorization | SharedKey) else operation.needs
            error = blob_error(answer, action, needs)
            if not self._older_version(error):
                raise error
            return self.send(operation, path, action, query, headers, data, stream=stream, parts=parts)
        if answer.status_code not in operation.codes or not {"x-ms-request-id", "x-ms-version"} <= {
            name.lower() for name in answer.headers
        }:
            raise not_the_service(answer, action, "an answer of the blob service")
        return answer

    def request(self, method: str, path: str, query: Mapping[str, Any], headers: Mapping[str, Any]) -> Request:
        pairs = query_string(query)
        own = {"x-ms-version": self.version or BLOB_API, "x-ms-client-request-id": str(uuid.uuid4())}
        sent = {**own, **{name: str(value) for name, value in given_only(headers).items()}}
        return Request(method, f"{self.endpoint}{path}{'?' + pairs if pairs else ''}", "", sent)

    def _older_version(self, error: ServiceError) -> bool:
        """Whether a custom cloud refused the service version, and there is an older one to try."""
        refused = error.code == "InvalidHeaderValue" and "x-ms-version" in error.detail
        older = [version for version in OLDER_BLOB_APIS if version < (self.version or BLOB_API)]
        if not refused or not older or self.manager.settings.cloud.name != CUSTOM_CLOUD:
            return False
        self.version = older[0]
        return True


def told_by(headers: Mapping[str, str], properties: Iterable[Property]) -> Json:
    """The properties that the headers of an answer tell."""
    found, told = Json(), {name.lower(): value for name, value in headers.items()}
    for _, header, path, read in properties:
        if value := told.get(header.lower()):
            put_path(found, path, read(value))
    return found


def metadata_of(headers: Mapping[str, str]) -> dict[str, str]:
    return {name[10:]: value for name, value in headers.items() if name.lower().startswith("x-ms-meta-")}


class BlobService:
    """The blob service of one account: operations are rows, `ask` asks any of them."""

    def __init__(self, http: BlobHttp, sas_policy: Callable[[], Json] = dict) -> None:
        self.http, self.account, self.sas_policy = http, http.account, sas_policy

    def blob_id(self, container: str, name: str, version: str = "", snapshot: str = "") -> str:
        """The URL of a blob; of one that no URL reaches, how it would be written."""
        query = f"?versionid={version}" if version else f"?snapshot={snapshot}" if snapshot else ""
        return f"{self.http.endpoint}/{segment(container)}/{urllib.parse.quote(name, safe='/~')}{query}"

    def container_id(self, container: str) -> str:
        return self.http.endpoint + blob_path(container)

    def ask(
        self,
        operation: Operation,
        target: "BlobRef | str" = "",
        *,
        query: Mapping[str, Any] | None = None,
        headers: Mapping[str, Any] | None = None,
        data: bytes | None = None,
        stream: bool = False,
    ) -> requests.Response:
        """The documented answer of an operation on a blob, a container by its name, or (empty) the account."""
        blob = isinstance(target, BlobRef)
        path = target.path if isinstance(target, BlobRef) else blob_path(target) if target else "/"
        own = dict(target.query) if isinstance(target, BlobRef) else {}
        body = b"" if data is None and operation.method in ("PUT", "POST") else data
        action = operation.action.format(target if blob or target else self.account)
        return self.http.send(operation, path, action, {**own, **(query or {})}, headers or {}, body, stream=stream)

    # Listing

    def _pages(
        self, operation: Operation, target: str, query: Json, place: str, finish: Callable[[Json], Json]
    ) -> Iterator[Page]:
        """Page after page, read as it arrives, each with the marker it was read from and that of the next. NetworkError if
        one is no listing, or breaks off."""
        action = operation.action.format(target or self.account)

        def fetch(marker: str) -> tuple[list[Json], str]:
            with self.ask(operation, target, query={**query, "marker": marker or None}, stream=True) as answer:
                try:
                    page = ListedPage(pieces(answer, MAX_LISTING))
                except (ValueError, *BROKEN):
                    words = f"Could not {action}: {self.http.endpoint} did not answer with a whole listing."
                    raise NetworkError(words, f"Run the command again. {PROXY_ANSWER}") from None
            return [finish(row) for row in page.rows], page.marker

        return paged(fetch, place, action)

    def _blob_item(self, row: Json, container: str) -> Json:
        """A row of a listing with what names the blob."""
        container = row.setdefault("container", container)
        address = self.blob_id(container, row["name"], row.get("versionId", ""), row.get("snapshot", ""))
        row.update(id=address, account=self.account)
        return row

    def rows(self, container: str, query: Json, place: str = "") -> Iterator[Page]:
        """The blobs of a container."""
        return self._pages(BLOBS_LIST, container, query, place, lambda row: self._blob_item(row, container))

    def find(self, where: str, container: str, size: int, place: str = "") -> Iterator[Page]:
        """The blobs whose tags fit an expression, in one container or, with an empty one, in the account."""
        query = {"where": where, "maxresults": size, **(IN_CONTAINER if container else {})}
        return self._pages(BLOBS_FIND, container, query, place, lambda row: self._blob_item(row, container))

    def containers(self, query: Json, place: str = "") -> Iterator[Page]:
        """The containers of the account, as Resource Manager would show them."""

        def finish(row: Json) -> Json:
            told = {key: row.pop(key) for key in ("metadata", "deleted", "version") if key in row}
            return self.container_item(row["name"], {**row, "properties": {**row.get("properties", {}), **told}})

        return self._pages(CONTAINERS_READ, "", query, place, finish)

    def container_item(self, name: str, found: Json) -> Json:
        """A container by its URL, since the blob service does not tell its ARM ID; without a level it is private."""
        properties = {"publicAccess": "None", **found.get("properties", {})}
        return {**found, "id": self.container_id(name), "account": self.account, "name": name, "properties": properties}

    # Reading

    def container(self, name: str) -> Json | None:
        """A container as Resource Manager would show it, or None."""
        answer = if_there(lambda: self.ask(CONTAINER_HEAD, name), "ContainerNotFound", "")
        if answer is None:
            return None
        found = told_by(answer.headers, CONTAINER_PROPERTIES)
        put_path(found, "properties.metadata", metadata_of(answer.headers))
        return self.container_item(name, found)

    def open(self, blob: BlobRef, headers: Json) -> requests.Response:
        """The content as a stream, which the caller closes."""
        return self.ask(BLOB_GET, blob, headers=headers, stream=True)

    def properties(self, blob: BlobRef) -> Json:
        answer = self.ask(BLOB_HEAD, blob)
        return {**blob.identity(), **properties_of(answer, f"read the properties of blob {blob}")}

    def properties_if_there(self, blob: BlobRef) -> Json | None:
        return if_there(lambda: self.properties(blob), "BlobNotFound", "")

    def document(
        self, operation: Operation, target: "BlobRef | str", root: str, **options: Any
    ) -> tuple[Json, requests.Response]:
        """The children of the documented root element of an answer, and the answer. NetworkError for anything else."""
        answer = self.ask(operation, target, **options)
        try:
            found = parse_xml(text_of(answer))
        except ValueError:
            found = {}
        if root not in found:
            raise not_the_service(answer, operation.action.format(target), f"<{root}>")
        return found[root] if isinstance(found[root], dict) else {}, answer

    def tags(self, blob: BlobRef) -> dict[str, str]:
        found, _ = self.document(TAGS_GET, blob, "Tags")
        return {str(tag.get("Key")): str(tag.get("Value") or "") for tag in many(at_path(found, "TagSet.Tag"))}

    def access_policies(self, container: str) -> Acl:
        """https://learn.microsoft.com/rest/api/storageservices/get-container-acl"""
        found, answer = self.document(ACL_GET, container, "SignedIdentifiers")
        policies = [
            AccessPolicy(
                str(row.get("Id", "")),
                *(str(at_path(row, f"AccessPolicy.{name}") or "") for name in ("Permission", "Start", "Expiry")),
            )
            for row in many(found.get("SignedIdentifier"))
        ]
        return Acl(policies, answer.headers.get("x-ms-blob-public-access"), answer.headers.get("Last-Modified"))

    # Writing

    def set_access_policies(self, container: str, acl: Acl) -> None:
        """Replaces the whole list; the public access goes along, since leaving it out would change it."""
        data, public = acl_xml(acl.policies), {"x-ms-blob-public-access": acl.public_access}
        headers = {"Content-Type": "application/xml", "If-Unmodified-Since": acl.last_modified}
        try:
            self.ask(ACL_SET, container, headers=headers | public, data=data)
        except ServiceError as error:
            if error.code != "PublicAccessNotPermitted":
                raise
            # The account allows no public access, so that a level can't be sent along: the container loses its own.
            self.ask(ACL_SET, container, headers=headers, data=data)

    def set_tags(self, blob: BlobRef, tags: Mapping[str, str]) -> None:
        rows = "".join(
            f"<Tag><Key>{escape_xml(key)}</Key><Value>{escape_xml(value)}</Value></Tag>" for key, value in tags.items()
        )
        data = f'<?xml version="1.0" encoding="utf-8"?><Tags><TagSet>{rows}</TagSet></Tags>'.encode()
        self.ask(TAGS_SET, blob, headers={"Content-Type": "application/xml"}, data=data)

    def delete_many(self, blobs: Sequence[BlobRef], headers: Json) -> list[AzureStorageError | None]:
        """What became of each of at most 256 blobs: None where it was deleted."""
        fine = [DOT_SEGMENTS.isdisjoint(blob.name.split("/")) for blob in blobs]
        reachable = list(itertools.compress(blobs, fine))
        parts = tuple(self.http.request("DELETE", blob.path, blob.query, headers) for blob in reachable)
        found: Iterator[AzureStorageError | None] = iter(())
        if parts:
            answer = self.http.send(BATCH, "/", BATCH.action.format(len(parts)), {}, {}, parts=parts)
            found = iter(batch_results(answer, reachable))
        unreachable = ServiceError("delete a blob", 0, "InvalidName", "A URL can't address its name.")
        return [next(found) if each else unreachable for each in fine]

    def delegation_key(self, start: str, expiry: str) -> Json:
        """https://learn.microsoft.com/rest/api/storageservices/get-user-delegation-key"""
        body = (
            f'<?xml version="1.0" encoding="utf-8"?><KeyInfo><Start>{start}</Start><Expiry>{expiry}</Expiry></KeyInfo>'
        )
        found, answer = self.document(KEY_LEND, "", "UserDelegationKey", data=body.encode())
        if not all(isinstance(found.get(name), str) for name in LENT_KEY.values()) or not found.get("Value"):
            raise not_the_service(answer, KEY_LEND.action, "a user delegation key")
        remember_secret(str(found["Value"]))
        return found


# The fields of a delegation SAS that name the key, and where a key has them; in the order of the string to sign.
LENT_KEY = {
    "skoid": "SignedOid",
    "sktid": "SignedTid",
    "skt": "SignedStart",
    "ske": "SignedExpiry",
    "sks": "SignedService",
    "skv": "SignedVersion",
}


def properties_of(answer: requests.Response, action: str) -> Json:
    """The properties, metadata and size that an answer's headers tell."""
    headers = answer.headers
    try:
        found = told_by(headers, BLOB_PROPERTIES)
    except ValueError:
        raise not_the_service(answer, action, "properties of a blob") from None
    current = True if headers.get("x-ms-is-current-version") == "true" else None
    return {
        **found,
        **given_only({"versionId": headers.get("x-ms-version-id"), "isCurrentVersion": current}),
        "metadata": metadata_of(headers),
    }


def written(answer: requests.Response) -> Json:
    """What a write tells of the blob after it."""
    headers = answer.headers
    found = {
        "etag": headers.get("ETag", "").strip('"') or None,
        "lastModified": http_date(headers["Last-Modified"]) if "Last-Modified" in headers else None,
        "versionId": headers.get("x-ms-version-id"),
    }
    return given_only(found)


def batch_results(answer: requests.Response, blobs: Sequence[BlobRef]) -> list[AzureStorageError | None]:
    """The outcome of each part of a batch, in the order of the blobs. Of a part that is missing nothing is known; one of a
    batch that was repeated, and finds nothing, says that the earlier one deleted it.

    https://learn.microsoft.com/rest/api/storageservices/blob-batch
    """
    boundary = re.search(r'boundary="?([^";]+)', answer.headers.get("Content-Type", ""))
    by_identity = isinstance(blobs[0].service.http.authorization, BearerToken)
    results: list[AzureStorageError | None] = [
        NetworkError(f"Could not delete blob {blob}: the answer to the batch leaves it out.", sent=True)
        for blob in blobs
    ]
    for part in text_of(answer).split(f"--{boundary[1]}") if boundary else ():
        number = re.search(r"Content-ID:\s*(\d{1,6})", part, re.IGNORECASE)
        status = re.search(r"HTTP/1\.1 (\d{3})", part)
        if not number or not status or int(number[1]) >= len(blobs):
            continue
        place, code_of_part = int(number[1]), re.search(r"x-ms-error-code:\s*(\S+)", part, re.IGNORECASE)
        name, blob = code_of_part[1] if code_of_part else "", blobs[place]
        needs = (DELETE_VERSION if blob.version else DELETE_BLOB) if by_identity else ""
        error = ServiceError(
            f"delete blob {blob}", int(status[1]), name, "", hint=BLOB_HINTS.get(name, ""), needs=needs
        )
        gone = error.status < 300 or (error.status == 404 and answer.history)
        results[place] = None if gone else error
    return results


# Transfers


class Download(NamedTuple):
    """A blob that was read to a file: what was counted on the way, and whether the service's own figures agree.

    md5 is empty where it was not counted.
    """

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
    """Size, SHA-256 and MD5 of what passes. MD5 costs more than the rest of a transfer: it is left out where nothing is
    compared with it."""

    def __init__(self, *, with_md5: bool = True) -> None:
        self.sha256, self.size = hashlib.sha256(), 0
        self.md5 = hashlib.md5(usedforsecurity=False) if with_md5 else None

    def update(self, data: bytes | memoryview) -> None:
        self.size += len(data)
        self.sha256.update(data)
        if self.md5:
            self.md5.update(data)

    def facts(self) -> Json:
        """Size, SHA-256 and MD5 in hexadecimal; the MD5 is empty without one."""
        md5 = self.md5.hexdigest() if self.md5 else ""
        return {"size": self.size, "sha256": self.sha256.hexdigest(), "md5": md5}


def in_order(work: Callable[[T], R], items: Sequence[T], parallel: int = PARALLEL) -> Iterator[R]:
    """The results of work on each item, in the order of the items, some at a time and never more in memory."""
    if len(items) < 2:
        yield from map(work, items)
        return
    todo = iter(items)
    with ThreadPoolExecutor(parallel) as pool:
        waiting = deque(pool.submit(work, item) for item in itertools.islice(todo, parallel))
        try:
            while waiting:
                found = waiting.popleft().result()
                waiting.extend(pool.submit(work, item) for item in itertools.islice(todo, 1))
                yield found
        finally:
            for future in waiting:
                future.cancel()


class Downloader:
    """Reads one blob to a file, in parallel ranges above one block, hashing in order.

    Every answer must be 206 with exactly the range asked for. The first answer's ETag pins all others, so that two
    contents never mix; an append blob may grow meanwhile, of which the length announced first is read. A connection that
    breaks is resumed where it broke. https://learn.microsoft.com/rest/api/storageservices/get-blob
    """

    RESUMES = 8  # tries of one range that bring no or only part of it

    def __init__(
        self, blob: BlobRef, start: int = 0, end: int | None = None, *, parallel: bool = True, with_md5: bool = False
    ) -> None:
        """with_md5: the MD5 is counted also where the service holds none."""
        self.blob, self.start, self.end, self.parallel, self.with_md5 = blob, start, end, parallel, with_md5
        self.etag, self.created, self.grows = "", "", False
        self._rooms: list[memoryview] = []  # used again: fresh memory costs nearly as much as a hash

    def run(self, path: str, max_size: int) -> Download:
        """UsageError if it is larger than max_size bytes; NetworkError if what came is not what was announced. Nothing is
        left in the file's place then."""
        try:
            return self._run(path, max_size)
        except OSError as error:
            Path(path).unlink(missing_ok=True)
            raise AzureStorageError(
                f"Could not write blob {self.blob} to a file: {error.strerror}.", "Free space on the engine."
            ) from None
        except AzureStorageError:
            Path(path).unlink(missing_ok=True)
            raise

    def _run(self, path: str, max_size: int) -> Download:
        first, properties, total = self._first(max_size)
        spans = [
            (self.start + at, self.start + min(at + BLOCK_SIZE, total)) for at in range(len(first), total, BLOCK_SIZE)
        ]
        entire = self.start == 0 and self.end is None
        md5 = properties.get("md5", "") if entire else ""
        digests = Digests(with_md5=self.with_md5 or bool(md5))

        def save(span: tuple[int, int]) -> memoryview:
            found = self._range(span)
            with open(path, "r+b") as file:  # noqa: PTH123 - as below
                file.seek(span[0] - self.start)
                file.write(found)
            return found

        with open(path, "wb") as file:  # noqa: PTH123 - a plain file in the platform's folder
            file.write(first)
        rest = in_order(save, spans) if self.parallel else map(save, spans)
        for part in itertools.chain([first], rest):
            digests.update(part)
            self._rooms.append(part)
        return Download(path, **digests.facts(), properties=properties, md5_of_service=md5)

    def _room(self, size: int) -> memoryview:
        room = self._rooms.pop() if self._rooms else memoryview(b"")
        return room[:size] if len(room) >= size and not room.readonly else memoryview(bytearray(size))

    def _first(self, max_size: int) -> tuple[memoryview, Json, int]:
        """The first block, the blob's properties and how many bytes are wanted."""
        last = self.start + BLOCK_SIZE - 1 if self.end is None else min(self.end, self.start + BLOCK_SIZE - 1)
        action = f"read blob {self.blob}"
        try:
            answer = self.blob.service.open(self.blob, {"x-ms-range": f"bytes={self.start}-{last}"})
        except ServiceError as error:
            if error.status != 416 or self.start:  # an empty blob has no range
                raise
            return self._empty()
        with answer:
            length = self._length(answer, self.start, last)
            self.etag, self.created = answer.headers.get("ETag", ""), answer.headers.get("x-ms-creation-time", "")
            self.grows = answer.headers.get("x-ms-blob-type") == "AppendBlob"
            if not self.etag:
                raise not_the_service(answer, action, "a blob with an ETag")
            end = length - 1 if self.end is None else min(self.end, length - 1)
            total = end - self.start + 1
            if total > max_size:
                words = f"Blob {self.blob} has {total} bytes, more than max_size={max_size}. Raise max_size, or copy the blob server-side."
                raise UsageError(words)
            properties = properties_of(answer, action) | {"size": length}
            properties.pop("md5", None)  # of a range, if at all
            if answer.headers.get("x-ms-blob-content-md5"):
                properties["md5"] = md5_hex(answer.headers["x-ms-blob-content-md5"])
            found = self._room(min(total, last - self.start + 1))
            got = read_into(answer, found)
        if got < len(found):
            found[got:] = self._range((self.start + got, self.start + len(found)))
        return found, properties, total

    def _empty(self) -> tuple[memoryview, Json, int]:
        with self.blob.service.open(self.blob, {}) as answer:
            properties = properties_of(answer, f"read blob {self.blob}")
            if properties.get("size") != 0:
                raise NetworkError(f"Could not read blob {self.blob}: it changed meanwhile.", "Run the command again.")
        return memoryview(b""), properties, 0

    def _length(self, answer: requests.Response, start: int, last: int) -> int:
        """The length of the blob, out of an answer that holds exactly the range asked for."""
        span = re.fullmatch(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})", answer.headers.get("Content-Range", ""))
        if (
            answer.status_code != 206
            or not span
            or (int(span[1]), int(span[2])) != (start, min(last, int(span[3]) - 1))
        ):
            raise NetworkError(
                f"Could not read blob {self.blob}: another range came than bytes {start} to {last}.", PROXY_ANSWER
            )
        return int(span[3])

    def _range(self, span: tuple[int, int]) -> memoryview:
        """The bytes from start to before stop, asked for again where a connection broke."""
        start, stop = span
        found, got = self._room(stop - start), 0
        for _ in range(self.RESUMES):
            headers = {"x-ms-range": f"bytes={start + got}-{stop - 1}", "If-Match": None if self.grows else self.etag}
            with self.blob.service.open(self.blob, headers) as answer:
                self._length(answer, start + got, stop - 1)
                other = (
                    answer.headers.get("x-ms-creation-time", "") != self.created
                    if self.grows
                    else answer.headers.get("ETag") != self.etag
                )
                if other:
                    raise NetworkError(
                        f"Could not read blob {self.blob}: it was replaced meanwhile.", "Run the command again."
                    )
                got += read_into(answer, found[got:])
            if got == len(found):
                return found
        raise NetworkError(
            f"Could not read blob {self.blob}: the connection broke {self.RESUMES} times.", "Run the command again."
        )


def put_blocks(blob: BlobRef, file: BinaryIO, digests: Digests) -> list[str]:
    """Stages the blocks of a file, several at a time, and counts its digests; returns their ids in order."""
    session, block_ids = uuid.uuid4().hex[:8], list[str]()
    running: deque[Future[requests.Response]] = deque()
    with ThreadPoolExecutor(PARALLEL) as pool:
        while data := file.read(BLOCK_SIZE):
            block_ids.append(base64.b64encode(f"{session}-{len(block_ids):05d}".encode()).decode())
            if len(running) == PARALLEL:
                running.popleft().result()
            query = {"blockid": block_ids[-1]}
            running.append(pool.submit(blob.service.ask, BLOCK_PUT, blob, query=query, data=data))
            digests.update(data)
        for future in running:
            future.result()
    return block_ids


def upload(blob: BlobRef, path: str, headers: Json) -> Json:
    """Write a file as a blob: one request up to a block, blocks in parallel above. The old blob stays until the end.

    Returns what the service tells of the new blob, with the size, SHA-256 and MD5 that were counted.
    """
    with open(path, "rb") as file:  # noqa: PTH123 - a path of the platform's
        data = file.read(BLOCK_SIZE + 1)
        if len(data) <= BLOCK_SIZE:
            return upload_at_once(blob, data, headers)
        file.seek(0)
        digests = Digests()
        block_ids = put_blocks(blob, file, digests)
    content_md5 = base64.b64encode(bytes.fromhex(digests.facts()["md5"])).decode()
    body = "".join(f"<Latest>{block_id}</Latest>" for block_id in block_ids)
    data = f'<?xml version="1.0" encoding="utf-8"?><BlockList>{body}</BlockList>'.encode()
    answer = blob.service.ask(BLOCKS_COMMIT, blob, headers={**headers, "x-ms-blob-content-md5": content_md5}, data=data)
    return {**written(answer), **digests.facts()}


def upload_at_once(blob: BlobRef, data: bytes, headers: Json) -> Json:
    digest = hashlib.md5(data, usedforsecurity=False).digest()
    md5 = base64.b64encode(digest).decode()
    own = {"x-ms-blob-type": "BlockBlob", "Content-MD5": md5, "x-ms-blob-content-md5": md5}
    found = written(blob.service.ask(BLOB_PUT, blob, headers={**headers, **own}, data=data))
    return {**found, "size": len(data), "sha256": hashlib.sha256(data).hexdigest(), "md5": digest.hex()}


# --- Azure -------------------------------------------------------------------------------------------------------------


class Azure:
    """What a command works with: the instance's settings, the sign-in and the operations."""

    def __init__(self, settings: Settings, *, in_memory: bool = False) -> None:
        self.settings, self.network = settings, Network(settings.verify)
        self.store = SessionStore(settings.identity_key, in_memory=in_memory)
        self.auth = MicrosoftAuth(settings, self.network, self.store)
        self.arm = ResourceManager(settings, self.auth, self.network)
        self._assumed: AccountRef | None = None
        self._found: dict[str, AccountRef] = {}
        self._told: dict[str, tuple[str, str]] = {}  # subscription and group as the arguments name them
        self._threads = False

    def use_threads(self) -> None:
        """Lets threads talk to the platform; a second call in one command would block it for ever."""
        if not self._threads:
            self._threads = True
            support_multithreading()

    def keep(self, value: str) -> str:
        """A handle to a value that polling arguments, which the server keeps in clear text, must not hold."""
        remember_secret(value)

        def remember(document: Json) -> str:
            handles = document.get("handles") or {}
            handle = next((handle for handle, held in handles.items() if held == value), uuid.uuid4().hex)
            others = [pair for pair in handles.items() if pair[0] != handle]
            document["handles"] = dict([*others, (handle, value)][-20:])
            return handle

        return self.store.edit(remember)

    def kept(self, handle: str) -> str:
        """What a handle stands for. UsageError if it is not known any more."""
        found = self.store.section("handles").get(handle)
        if not isinstance(found, str):
            raise UsageError(
                "The running operation is not known any more.",
                "Run the command again without the arguments of a polling round.",
            )
        remember_secret(found)
        return found

    def subscription(self, given: str | None) -> str:
        """The subscription named, or else the instance's. UsageError without either."""
        found = given or self.settings.subscription
        if not found:
            raise UsageError(
                "Missing required argument `subscription_id`: the instance has no Default Subscription ID."
            )
        return found

    def account(self, name: str, subscription: str, group: str) -> AccountRef:
        """The account of that name: where the arguments or else the instance's defaults say, else wherever it is found.

        UsageError if nothing tells where it is.
        """
        if name in self._found:
            return self._found[name]
        told = bool(subscription and group)
        self._told[name] = subscription, group
        subscription, group = subscription or self.settings.subscription, group or self.settings.group
        if subscription and group:
            ref = AccountRef(subscription, group, name)
            self._assumed = self._assumed if told else ref
            return ref
        found = self.find_account(name)
        if not found:
            raise UnknownAccountError(
                f"No subscription that the signed-in identity can read has a storage account {name!r}.",
                "Check the name. If it is right, the identity lacks the role Reader there, or the account was deleted or is in "
                "another tenant. For a new account, give resource_group_name and subscription_id.",
            )
        return found

    def find_account(self, name: str) -> AccountRef | None:
        """Where Resource Graph knows an account of exactly that name. UsageError if the arguments name another place."""
        found = resource_id(self._searched(name))
        if not found.account:
            return None
        for told, is_in in zip(self._told.get(name, ()), (found.subscription, found.group), strict=False):
            if told and told.lower() != is_in.lower():
                words = f"Storage account {name!r} is in {group_path(found.subscription, found.group)}, not in {told}."
                raise UsageError(words, "Correct `subscription_id` and `resource_group_name`, or leave them out.")
        return AccountRef(found.subscription.lower(), found.group, found.account)

    def _searched(self, name: str) -> Json:
        rows = self.arm.search(accounts_query([name]), Paging(limit=1)).items
        return next((row for row in rows if resource_id(row).account.lower() == name), {})

    def look_elsewhere(self, error: ServiceError) -> bool:
        """Whether an account that is not where the instance's defaults say was found in another place."""
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

    def blobs(
        self, account: str, subscription: str = "", group: str = "", address: BlobAddress | None = None
    ) -> BlobService:
        """The blob service of an account. `address` is what a pasted URL says; it has to be the account's own.

        The endpoint comes from Resource Manager once and is remembered; where that cannot tell, it is the address of the
        DNS zone in a pasted URL, or the cloud's usual one. Neither is asked for an account whose SAS or key the instance has.
        """
        credential = self.settings.storage_credential_for(account)
        usual = f"https://{account}.blob.{self.settings.cloud.storage_suffix}"
        told = "" if credential else self._told_endpoint(account, subscription, group)
        if credential and credential.address and credential.address.account == account:
            told = service_endpoint(credential.address)
        own = address if address and self._is_own(address) else None
        endpoint = told or (service_endpoint(own) if own else usual)
        if address and not own and address.host not in (host_of(endpoint), host_of(usual)):
            words = f"Invalid value for argument `blob_url`: {address.host} is not the blob service of {account} in the selected cloud; the request was not sent."
            raise UsageError(words)

        def sas_policy() -> Json:
            """As the version tells it that knows SAS bound to a user, or as a cloud without that version does."""
            newest = self._known_account(account, subscription, group, NEWEST_STORAGE_API)
            known = newest or self._known_account(account, subscription, group)
            return dict(at_path(known, "properties.sasPolicy") or {})

        return BlobService(BlobHttp(self.arm, account, endpoint, self._authorization(credential)), sas_policy)

    def _is_own(self, address: BlobAddress) -> bool:
        """Whether a host is one of Azure's own names for the account, in the chosen cloud: of another service, a routing
        preference, the secondary region or a DNS zone; or the cloud's only one, where accounts are paths."""
        cloud, suffix = self.settings.cloud, f"{address.suffix}{port_of(address.host)}"
        names = (cloud.storage_suffix, cloud.zone_suffix if address.zone else "")
        named = address.service in ("blob", "dfs", "web") and bool(address.suffix)
        return address.host == cloud.storage_suffix or (named and suffix in names)

    def _authorization(self, credential: StorageCredential | None) -> Authorization:
        if not credential:
            return BearerToken(self.auth, STORAGE_AUDIENCE)
        return SasAuthorization(credential.sas) if credential.sas else SharedKey(credential.account, credential.key)

    def _told_endpoint(self, account: str, subscription: str, group: str) -> str:
        """What Resource Manager says, or Resource Graph where nothing tells the account's place; empty where they cannot."""
        remembered = str(at_path(self.store.read(), f"endpoints.{account}") or "")
        if host_of(remembered):
            return remembered
        known = self._known_account(account, subscription, group)
        found = str(at_path(known, "properties.primaryEndpoints.blob") or "")
        if not host_of(found):
            return ""
        self.store.update(lambda session: put_path(session, f"endpoints.{account}", found))
        return found

    def _known_account(self, account: str, subscription: str, group: str, api: str = STORAGE_API) -> Json:
        """The account object; {} where the identity has no role to see it, which blobs do not need."""
        try:
            if subscription and group:
                return self.arm.ask(replace(ACCOUNT_GET, api=api), AccountRef(subscription, group, account))
        except ServiceError as error:
            if error.status != 404:
                return {}
        try:
            return self._searched(account)
        except ServiceError:
            return {}


def port_of(host: str) -> str:
    """The port of a host with the colon before it; empty without one."""
    found = re.search(r":\d+$", host)
    return found[0] if found else ""


def service_endpoint(address: BlobAddress) -> str:
    """The blob endpoint that an address of any service of an account belongs to."""
    if not address.suffix:
        in_path = re.match(r"[\d.]+(:|$)|localhost|\[", address.host)
        return f"https://{address.host}/{address.account}" if in_path else f"https://{address.host}"
    zone = f".{address.zone}" if address.zone else ""
    return f"https://{address.account}{zone}.blob.{address.suffix}{port_of(address.host)}"


# --- arguments ---------------------------------------------------------------------------------------------------------

Given = Json  # the values of a group's arguments by name, None for what was not given and has no default


class Reader(NamedTuple):
    """Turns one argument's text into a value. `read` raises ValueError; `accepts` completes "Expected: ...".

    many: it is a list, which the server hands over whole. secret: the value never appears in a message. verbatim: blanks
    at its ends belong to it.
    """

    accepts: str
    read: Callable[[str], Any]
    choices: tuple[str, ...] = ()
    secret: bool = False
    many: bool = False
    verbatim: bool = False


class Argument(NamedTuple):
    """One argument of a command as the manifest shows it; `default` is inspect.Parameter.empty when required.

    hidden: only a later polling round is given it.
    """

    reader: Reader
    default: Any
    hidden: bool = False

    @property
    def required(self) -> bool:
        return self.default is inspect.Parameter.empty


class Group(NamedTuple):
    """Several arguments that make one value together, such as the three that name an account."""

    arguments: Mapping[str, Argument]
    build: Callable[[Azure, Given], Any]


def number(low: int, high: int) -> Reader:
    return Reader(f"a whole number from {low} to {high}", read_number(low, high))


def choice(*choices: str, free: bool = False) -> Reader:
    """One of the choices, in any case. `free`: the manifest offers no list, as the existing pack does not."""
    by_lower = {item.lower(): item for item in choices}
    return Reader("one of " + ", ".join(choices), lambda text: by_lower[text.lower()], () if free else choices)


def listed(item: Reader) -> Reader:
    """A comma list or a JSON array of items."""
    return Reader(
        f"a list: {item.accepts}", lambda text: [item.read(part) for part in split_list(text)], item.choices, many=True
    )


def pattern(accepts: str, regex: str) -> Reader:
    return Reader(accepts, lambda text: matching(re.compile(regex, re.ASCII), text))


# fmt: off
Flag = Annotated[bool, Reader("true or false", read_flag, ("true", "false"))]
Text = Annotated[str, Reader("text", str)]
ExactText = Annotated[str, Reader("text", str, verbatim=True)]
HeaderText = Annotated[str, Reader("text of printable ASCII characters", header_text)]
Texts = Annotated[list[str], listed(Reader("names", str))]
SecretText = Annotated[Secret, Reader("text", Secret, secret=True)]
Days = Annotated[int, number(1, 365)]
Count = Annotated[int, number(1, 1_000_000)]
Seconds = Annotated[int, number(1, 86_400)]
Size = Annotated[int, number(0, 1 << 48)]
Subscription = Annotated[str, Reader("a subscription ID (GUID)", parse_subscription)]
GroupName = Annotated[str, Reader("a resource group name of at most 90 characters", parse_group)]
Account = Annotated[AccountClue, Reader("a storage account name (3 to 24 lower-case letters and digits), its ARM ID or a URL in it", parse_account)]
Container = Annotated[str, Reader("a container name (3 to 63 lower-case letters, digits and single hyphens), or $root, $web, $logs", parse_container)]
BlobName = Annotated[str, Reader("a blob name of 1 to 1,024 characters", parse_blob_name, verbatim=True)]
BlobNames = Annotated[list[str], Reader("blob names, one a line or as a JSON array", read_names, many=True, verbatim=True)]
BlobUrl = Annotated[BlobAddress, Reader("the URL of an account, a container or a blob", parse_blob_url, secret=True)]
Version = Annotated[str, Reader("a version ID or snapshot time such as 2026-11-23T12:00:00.1234567Z", lambda text: matching(VERSION, text))]
Tags = Annotated[dict[str, str], Reader('name=value pairs separated by commas, or a JSON object such as {"case":"1234"}, of at most 50 tags', read_tags, many=True)]
TagFilter = Annotated[tuple[str, str], Reader('one tag as name=value or {"name":"value"}', read_tag_filter)]
BlobTag = Annotated[tuple[str, str], Reader('one blob tag as name=value or {"name":"value"}', read_blob_tag)]
BlobTags = Annotated[dict[str, str], Reader("at most 10 name=value pairs separated by commas, or a JSON object, of letters, digits, blanks and + - . : = _ /", read_blob_tags, many=True)]
Metadata = Annotated[dict[str, str], Reader("name=value pairs separated by commas, or a JSON object; names are C# identifiers, values printable ASCII", read_metadata)]
PageToken = Annotated[tuple[str, int], Reader("the next_token that an earlier call returned", read_token)]
Moment = Annotated[float, Reader("a time such as 2026-11-23T12:00:00Z, or a span back from now such as 2 hours or 7d", read_time)]
Location = Annotated[str, Reader("an Azure region such as westeurope", read_location)]
Tier = Annotated[str, choice("Hot", "Cool", "Cold", "Archive")]
LeaseId = Annotated[str, Reader("a lease ID (GUID)", lambda text: matching(GUID, text))]
LockName = Annotated[str, Reader("a name of at most 90 characters", lambda text: matching(LOCK_NAME, text))]
ArmId = Annotated[str, Reader("an ARM ID", lambda text: matching(RESOURCE_ID, text))]
Md5 = Annotated[str, Reader("an MD5 in hexadecimal or base64", read_md5)]
Sas = Annotated[SasToken, Reader("a SAS token, a URL that holds one, or a connection string", read_sas, secret=True)]
# fmt: on


def reader_of(annotation: object) -> Reader | Group | None:
    """What turns text into a parameter of this annotation: the Reader or Group in its Annotated, optional or not. A
    Reader stands for itself."""
    if isinstance(annotation, Reader):
        return annotation
    for candidate in (annotation, *get_args(annotation)):
        if get_origin(candidate) is Annotated:
            return next((meta for meta in get_args(candidate)[1:] if isinstance(meta, Reader | Group)), None)
    return None


def optional(annotation: object, default: object = None, *, hidden: bool = False) -> Argument:
    reader = reader_of(annotation)
    assert isinstance(reader, Reader), annotation  # noqa: S101 - a slip of ours, seen by every test
    return Argument(reader, default, hidden)


def required(annotation: object) -> Argument:
    return optional(annotation, inspect.Parameter.empty)


def read_argument(name: str, argument: Argument, text: str) -> Any:
    """The typed value of one argument; an empty text counts as not given. UsageError names what is accepted."""
    reader = argument.reader
    text = text if reader.verbatim else text.strip()
    if not text:
        if argument.required:
            raise UsageError(f"Missing required argument `{name}`. Expected: {reader.accepts}.")
        return argument.default
    try:
        text.encode()  # half of a surrogate pair is no character, and nothing can be sent with it
        return reader.read(text)
    except UsageError:
        raise
    except (ArithmeticError, LookupError, RecursionError, StopIteration, TypeError, ValueError) as error:
        given = "" if reader.secret else f" {redact(text)[:SNIPPET]!r}"
        told = type(error) is ValueError and str(error).isascii() and 0 < len(str(error)) < 80
        reason = f" ({error})" if told else ""
        raise UsageError(f"Invalid value{given} for argument `{name}`{reason}. Expected: {reader.accepts}.") from None


def missing(name: str, words: str) -> UsageError:
    return UsageError(f"Missing required argument `{name}`. Expected: {words}.")


def invalid(name: str, words: str, next_step: str = "") -> UsageError:
    return UsageError(f"Invalid value for argument `{name}`: {words}", next_step)


def exclusive(name: str, *others: str) -> UsageError:
    listed_names = " or ".join(f"`{other}`" for other in others)
    return UsageError(f"`{name}` can't be combined with {listed_names}.")


def one_of_these(*names: str) -> UsageError:
    return UsageError(f"Give exactly one of these arguments: {', '.join(f'`{name}`' for name in names)}.")


# Groups of arguments that commands share

PAGING_ARGUMENTS = {
    "limit": optional(Count, DEFAULT_LIMIT),
    "all_results": optional(Flag, False),
    "next_token": optional(PageToken),
}
SCOPE_ARGUMENTS = {"resource_group_name": optional(GroupName), "subscription_id": optional(Subscription)}


def build_paging(azure: Azure, given: Given) -> Paging:
    place, skip = given["next_token"] or ("", 0)
    return Paging(given["limit"], given["all_results"], place, skip, to_show=True)


def account_in(azure: Azure, given: Given, clue: AccountClue) -> AccountRef:
    """The account that a clue, the scope arguments and the instance name together. UsageError says what contradicts."""
    for name, found in (("subscription_id", clue.subscription), ("resource_group_name", clue.group)):
        if found and given[name] and found.lower() != given[name].lower():
            raise invalid(name, f"{given[name]!r} contradicts the ID given as `account_name`.")
    subscription, group = clue.subscription or given["subscription_id"], clue.group or given["resource_group_name"]
    return azure.account(clue.name, subscription or "", group or "")


def clue_of(given: Given) -> AccountClue:
    """The account that account_name or blob_url names. UsageError if neither does, or they contradict each other."""
    clue: AccountClue | None = given["account_name"]
    url: BlobAddress | None = given["blob_url"]
    if clue and url and clue.name != url.account:
        raise invalid("blob_url", f"it is in account {url.account}, not in {clue.name} as `account_name` says.")
    found = clue or (AccountClue(url.account) if url else None)
    if not found:
        raise missing("account_name", "a storage account name, or a blob_url")
    return found


def unused(given: Given, *parts: str) -> None:
    """Refuse what a blob_url names and the command does not use: a part that is ignored would widen what is meant."""
    url: BlobAddress | None = given.get("blob_url")
    for part in parts:
        if url and getattr(url, part):
            raise invalid(
                "blob_url",
                f"it names a {part}, which this command or its other arguments don't use. Remove it from the URL.",
            )


def check_named(given: Given, *arguments: str) -> None:
    """Refuse at once all that is missing: the account, and what else the arguments or the blob_url have to name."""
    url: BlobAddress | None = given["blob_url"]
    lacking = [
        f"`{name}`"
        for name in ("account_name", *arguments)
        if not given[name] and not (url and getattr(url, name.removesuffix("_name")))
    ]
    if len(lacking) > 1:
        raise UsageError(f"Missing required arguments: {', '.join(lacking)}, or a `blob_url` that holds them.")


def told(given: Given, argument: str, part: str) -> str:
    """What an argument or the blob_url names; empty without either, UsageError with two that differ."""
    url: BlobAddress | None = given["blob_url"]
    text, found = given.get(argument) or "", getattr(url, part) if url else ""
    if text and found and text != found:
        raise invalid(argument, f"{text!r} contradicts the blob_url, which names {found!r}.")
    return str(text or found)


def named(given: Given, argument: str, part: str) -> str:
    """A container or blob that an argument or the blob_url names; UsageError without one, or with two."""
    found = told(given, argument, part)
    if not found:
        raise missing(argument, f"the name of a {part}, or a blob_url that holds it")
    return found


def service_in(azure: Azure, given: Given) -> BlobService:
    clue = clue_of(given)
    subscription = clue.subscription or given["subscription_id"] or azure.settings.subscription
    group = clue.group or given["resource_group_name"] or azure.settings.group
    return azure.blobs(clue.name, subscription, group, given["blob_url"])


def build_account(azure: Azure, given: Given) -> AccountRef:
    return account_in(azure, given, given["account_name"])


def build_target(azure: Azure, given: Given) -> AccountRef:
    """The account of account_name or blob_url; whatever in it the URL names is where an alert came from."""
    return account_in(azure, given, clue_of(given))


def build_service(azure: Azure, given: Given) -> BlobService:
    unused(given, "container", "blob")
    return service_in(azure, given)


class ContainerPlace(NamedTuple):
    """A container of a blob service."""

    service: BlobService
    name: str

    @property
    def id(self) -> str:
        return self.service.container_id(self.name)

    @property
    def arguments(self) -> dict[str, str]:
        return {"account_name": self.service.account, "container_name": self.name}

    def blob(self, name: str) -> BlobRef:
        return BlobRef(self.service, self.name, name)

    def __str__(self) -> str:
        return f"{self.name} of {self.service.account}"


def container_in(given: Given) -> str:
    """The container that the arguments name, and nothing in it."""
    unused(given, "blob", "version", "snapshot")
    check_named(given, "container_name")
    return named(given, "container_name", "container")


def build_container(azure: Azure, given: Given) -> ContainerPlace:
    name = container_in(given)
    return ContainerPlace(service_in(azure, given), name)


def build_container_target(azure: Azure, given: Given) -> ContainerRef:
    name = container_in(given)
    return ContainerRef(build_target(azure, given), name)


def build_blob(azure: Azure, given: Given) -> BlobRef:
    """The blob that the arguments name, always the current one: a URL of a version or snapshot is refused."""
    unused(given, "version", "snapshot")
    return build_version(azure, given)


def build_version(azure: Azure, given: Given) -> BlobRef:
    """The blob, or the version or snapshot of it, that the arguments or the blob_url name."""
    check_named(given, "container_name", "blob_name")
    container, name = named(given, "container_name", "container"), named(given, "blob_name", "blob")
    version, snapshot = told(given, "version_id", "version"), told(given, "snapshot", "snapshot")
    if version and snapshot:
        raise exclusive("snapshot", "version_id")
    return BlobRef(service_in(azure, given), container, name, version, snapshot)


def build_blobs(azure: Azure, given: Given) -> list[BlobRef]:
    """One blob, or those that blob_names lists."""
    names = given["blob_names"]
    if not names:
        return [build_version(azure, given)]
    if given["blob_name"] or given["version_id"] or given["snapshot"]:
        raise exclusive("blob_names", "blob_name", "version_id", "snapshot")
    place = build_container(azure, given)
    return [place.blob(name) for name in names]


class Prefix(NamedTuple):
    """All blobs of a container whose names begin with a text; an empty one means all, which was asked for by name."""

    place: ContainerPlace
    text: str


def build_selection(azure: Azure, given: Given) -> list[BlobRef] | Prefix:
    """The blobs that are named, or a container and a prefix. Only confirm_all=true stands for the whole container."""
    prefix, everything = given["prefix"] or "", given["confirm_all"]
    if not prefix and not everything:
        return build_blobs(azure, given)
    for name in ("blob_name", "blob_names", "version_id", "snapshot"):
        if given[name]:
            raise exclusive("prefix" if prefix else "confirm_all", name)
    return Prefix(build_container(azure, given), prefix)


STORAGE_SCOPE = {"account_name": optional(Account), "blob_url": optional(BlobUrl), **SCOPE_ARGUMENTS}
CONTAINER_ARGUMENTS = {"container_name": optional(Container), **STORAGE_SCOPE}
BLOB_ARGUMENTS = {"blob_name": optional(BlobName), **CONTAINER_ARGUMENTS}
VERSION_ARGUMENTS = {**BLOB_ARGUMENTS, "version_id": optional(Version), "snapshot": optional(Version)}
BLOBS_ARGUMENTS = {**VERSION_ARGUMENTS, "blob_names": optional(BlobNames)}
SELECTION_ARGUMENTS = {**BLOBS_ARGUMENTS, "prefix": optional(ExactText), "confirm_all": optional(Flag, False)}
PagingArgs = Annotated[Paging, Group(PAGING_ARGUMENTS, build_paging)]
AccountArgs = Annotated[AccountRef, Group({"account_name": required(Account), **SCOPE_ARGUMENTS}, build_account)]
TargetArgs = Annotated[AccountRef, Group(STORAGE_SCOPE, build_target)]
ServiceArgs = Annotated[BlobService, Group(STORAGE_SCOPE, build_service)]
ContainerArgs = Annotated[ContainerPlace, Group(CONTAINER_ARGUMENTS, build_container)]
ContainerTarget = Annotated[ContainerRef, Group(CONTAINER_ARGUMENTS, build_container_target)]
BlobArgs = Annotated[BlobRef, Group(BLOB_ARGUMENTS, build_blob)]
VersionArgs = Annotated[BlobRef, Group(VERSION_ARGUMENTS, build_version)]
SelectionArgs = Annotated["list[BlobRef] | Prefix", Group(SELECTION_ARGUMENTS, build_selection)]


# Arguments that become the body of a request


class BodyField(NamedTuple):
    """An argument that becomes one property of an ARM body, at a dotted path.

    unset: what it means for Azure when the property is not set; None where that depends on the account's age.
    """

    argument: Argument
    path: str
    unset: object = None


def body_group(fields: Mapping[str, BodyField]) -> Group:
    """The arguments of an ARM body: only what was given is in it, and it is nested as ARM nests it."""

    def build(azure: Azure, given: Given) -> Json:
        body: Json = {}
        for name, value in given_only(given).items():
            put_path(body, fields[name].path, value)
        return body

    return Group({name: entry.argument for name, entry in fields.items()}, build)


def body_fields(*rows: tuple[Any, ...]) -> dict[str, BodyField]:
    return {row[0]: BodyField(optional(row[1]), *row[2:]) for row in rows}


# fmt: off
SKUS = ("Premium_LRS", "Premium_ZRS", "Standard_GRS", "Standard_GZRS", "Standard_LRS", "Standard_RAGRS", "Standard_RAGZRS", "Standard_ZRS")
IP_RULES = Reader('public IPv4 addresses or networks separated by commas, or a JSON array such as [{"value":"203.0.113.7"}]', read_ip_rules)
SUBNET_RULES = Reader('subnet IDs separated by commas, or a JSON array such as [{"id":"/subscriptions/.../subnets/..."}]', read_subnet_rules)
# https://learn.microsoft.com/rest/api/storagerp/storage-accounts/create
ACCOUNT_FIELDS = body_fields(
    ("sku", choice(*SKUS), "sku.name"),
    ("kind", choice("Storage", "StorageV2", "BlobStorage", "FileStorage", "BlockBlobStorage"), "kind"),
    ("location", Location, "location"),
    ("tags", Tags, "tags"),
    ("custom_domain_name", Text, "properties.customDomain.name"),
    ("use_sub_domain_name", Flag, "properties.customDomain.useSubDomainName", False),
    ("enc_key_source", choice("Microsoft.Storage", "Microsoft.Keyvault"), "properties.encryption.keySource", "Microsoft.Storage"),
    ("enc_require_infrastructure_encryption", Flag, "properties.encryption.requireInfrastructureEncryption", False),
    ("enc_keyvault_key_name", Text, "properties.encryption.keyvaultproperties.keyname"),
    ("enc_keyvault_key_version", Text, "properties.encryption.keyvaultproperties.keyversion"),
    ("enc_keyvault_uri", Text, "properties.encryption.keyvaultproperties.keyvaulturi"),
    ("access_tier", choice("Hot", "Cool", "Cold", "Premium"), "properties.accessTier"),
    ("supports_https_traffic_only", Flag, "properties.supportsHttpsTrafficOnly"),
    ("is_hns_enabled", Flag, "properties.isHnsEnabled", False),
    ("large_file_shares_state", choice("Disabled", "Enabled"), "properties.largeFileSharesState", "Disabled"),
    ("allow_blob_public_access", Flag, "properties.allowBlobPublicAccess"),
    ("allow_shared_key_access", Flag, "properties.allowSharedKeyAccess", True),
    ("public_network_access", choice("Enabled", "Disabled", "SecuredByPerimeter"), "properties.publicNetworkAccess", "Enabled"),
    ("minimum_tls_version", choice("TLS1_0", "TLS1_1", "TLS1_2"), "properties.minimumTlsVersion", "TLS1_0"),
    ("network_ruleset_bypass", listed(choice("AzureServices", "Logging", "Metrics", "None")), "properties.networkAcls.bypass", "AzureServices"),
    ("network_ruleset_default_action", choice("Allow", "Deny", free=True), "properties.networkAcls.defaultAction", "Allow"),
    ("network_ruleset_ip_rules", IP_RULES, "properties.networkAcls.ipRules"),
    ("virtual_network_rules", SUBNET_RULES, "properties.networkAcls.virtualNetworkRules"),
)
UPDATABLE = (
    "sku", "tags", "access_tier", "allow_blob_public_access", "allow_shared_key_access", "public_network_access",
    "supports_https_traffic_only", "minimum_tls_version", "network_ruleset_bypass",
)
# https://learn.microsoft.com/rest/api/storagerp/storage-accounts/update
UPDATE_FIELDS = {name: ACCOUNT_FIELDS[name] for name in UPDATABLE} | body_fields(
    ("network_ruleset_default_action", choice("Allow", "Deny"), "properties.networkAcls.defaultAction", "Allow"),
    ("is_sftp_enabled", Flag, "properties.isSftpEnabled", False),
    ("is_local_user_enabled", Flag, "properties.isLocalUserEnabled", True),
    ("allow_cross_tenant_replication", Flag, "properties.allowCrossTenantReplication"),
    ("allow_cross_tenant_delegation_sas", Flag, "properties.allowCrossTenantDelegationSas", False),
    ("allowed_copy_scope", choice("AAD", "PrivateLink"), "properties.allowedCopyScope"),
    ("default_to_oauth_authentication", Flag, "properties.defaultToOAuthAuthentication", False),
    ("sas_expiration_period", pattern("a period as days.hours:minutes:seconds, such as 7.00:00:00", r"\d{1,5}\.[0-2]\d:[0-5]\d:[0-5]\d"), "properties.sasPolicy.sasExpirationPeriod"),
    ("sas_expiration_action", choice("Log", "Block"), "properties.sasPolicy.expirationAction"),
    ("key_expiration_period_in_days", Days, "properties.keyPolicy.keyExpirationPeriodInDays"),
)
# https://learn.microsoft.com/rest/api/storagerp/blob-services/set-service-properties
BLOB_SERVICE_FIELDS = body_fields(
    ("change_feed_enabled", Flag, "changeFeed.enabled", False),
    ("change_feed_retention_days", number(1, 146_000), "changeFeed.retentionInDays"),
    ("container_delete_retention_policy_enabled", Flag, "containerDeleteRetentionPolicy.enabled", False),
    ("container_delete_retention_policy_days", Days, "containerDeleteRetentionPolicy.days"),
    ("delete_retention_policy_enabled", Flag, "deleteRetentionPolicy.enabled", False),
    ("delete_retention_policy_days", Days, "deleteRetentionPolicy.days"),
    ("versioning", Flag, "isVersioningEnabled", False),
    ("last_access_time_tracking_policy_enabled", Flag, "lastAccessTimeTrackingPolicy.enable", False),
    ("last_access_time_tracking_policy_blob_types", listed(choice("blockBlob", free=True)), "lastAccessTimeTrackingPolicy.blobType"),
    ("last_access_time_tracking_policy_days", Count, "lastAccessTimeTrackingPolicy.trackingGranularityInDays"),
    ("restore_policy_enabled", Flag, "restorePolicy.enabled", False),
    ("restore_policy_min_restore_time", Text, "restorePolicy.minRestoreTime"),
    ("restore_policy_days", number(1, 364), "restorePolicy.days"),
)
# https://learn.microsoft.com/rest/api/storagerp/blob-containers/create
CONTAINER_FIELDS = body_fields(
    ("default_encryption_scope", Text, "defaultEncryptionScope"),
    ("deny_encryption_scope_override", Flag, "denyEncryptionScopeOverride", False),
    ("public_access", choice("Blob", "Container", "None"), "publicAccess", "None"),
)
# fmt: on
AccountBody = Annotated[Json, body_group(ACCOUNT_FIELDS)]
AccountUpdate = Annotated[Json, body_group(UPDATE_FIELDS)]
BlobServiceBody = Annotated[Json, body_group(BLOB_SERVICE_FIELDS)]
ContainerBody = Annotated[Json, body_group(CONTAINER_FIELDS)]


# --- views -------------------------------------------------------------------------------------------------------------

Column = str | Callable[[Json], Any]


def shown(value: object) -> str:
    """A value in a sentence, on one line; a tuple holds several acceptable ones."""
    if value is None:
        return "not set"
    if isinstance(value, tuple):
        return " or ".join(map(shown, value))
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return " ".join(text.splitlines())


def cell(value: object) -> object:
    """A value as a cell of a table: objects as name: value lines, lists by commas, texts of strangers escaped."""
    if isinstance(value, dict):
        return "\n".join(f"{md(str(name))}: {cell(item)}" for name, item in value.items())
    if isinstance(value, list):
        return ", ".join(str(cell(item)) for item in value)
    return md(value) if isinstance(value, str) else value


class View(NamedTuple):
    """How one kind of object is shown: its name in context, the title of its table, and where each column comes from.

    compact leaves out columns that are empty in all rows; tables that the existing pack has keep theirs.
    """

    name: str
    title: str
    columns: Mapping[str, Column]
    key: str = "id"
    compact: bool = True

    @property
    def context(self) -> str:
        return f"AzureStorage.{self.name}(val.{self.key} && val.{self.key} == obj.{self.key})"

    def with_columns(self, columns: Mapping[str, Column]) -> "View":
        return self._replace(columns={**self.columns, **columns})

    def row(self, item: Json) -> Json:
        """The values of an object under the headers of their columns, as they are."""
        return {
            header: at_path(item, source) if isinstance(source, str) else source(item)
            for header, source in self.columns.items()
        }


def table(view: View, items: Sequence[Json], title: str = "", note: str = "", count: int = 0) -> str:
    """The first rows as a table, as many as an entry has room for, and how many there are where that is not all."""
    rows, room = list[Json](), TABLE_SIZE
    for item in items[:DEFAULT_LIMIT]:
        rows.append({header: cell(value) for header, value in view.row(item).items()})
        room -= len(json.dumps(rows[-1], default=str))
        if room < 0:
            break
    text = str(tableToMarkdown(title or view.title, rows, headers=list(view.columns), removeNull=view.compact))
    count = count or len(items)
    more = f"The first {len(rows)} of {count:,} rows are shown." if count > len(rows) else ""
    words = "\n\n".join(filter(None, (more, note)))
    return f"{text}\n{words}\n" if words else text


def show(view: View, item: Json, *, title: str = "", note: str = "") -> CommandResults:
    """One object: its row for people, all of it for playbooks."""
    return CommandResults(
        outputs={view.context: item}, readable_output=table(view, [item], title, note), raw_response=item
    )


def show_rest(listing: Listing, view: View) -> str:
    """Puts the file with all rows into the war room, and says that it is there."""
    name = f"{view.name}-list.jsonl"
    return_results(file_result_existing_file(listing.file, name))
    return (
        f"Context holds the first {len(listing.items):,} of {listing.total:,} rows; the file {name} holds all of them."
    )


def show_list(view: View, listing: Listing, note: str = "") -> CommandResults:
    """A listing, and in context the token that the next call takes; an empty token overwrites that of an earlier page.

    Rows beyond what an entry may hold are in a file of their own, which holds all of them.
    """
    more = (
        f"More results are available. For the next page, add `next_token={listing.token}`, or set `all_results=true`."
    )
    rest = show_rest(listing, view) if listing.file else ""
    note = "\n\n".join(filter(None, (note, more if listing.token else "", rest)))
    return CommandResults(
        outputs={view.context: listing.items, "AzureStorage(true)": {f"{view.name}NextToken": listing.token}},
        readable_output=table(view, listing.items, note=note, count=listing.total),
        raw_response=listing.items,
    )


def guarded(value: object) -> str:
    """A cell that a spreadsheet shows and never runs. https://owasp.org/www-community/attacks/CSV_Injection"""
    text = "" if value is None else str(value)
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) else text


def csv_file(name: str, columns: Mapping[str, str], rows: Iterable[Json]) -> Json:
    """Rows as a CSV file of the war room: each column and the dotted path that it comes from."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(columns)
    writer.writerows([guarded(at_path(row, path)) for path in columns.values()] for row in rows)
    return dict(fileResult(name, out.getvalue()))


def account_of(item: Json) -> str:
    return resource_id(item).account or str(item.get("account") or "")


def subscription_of(item: Json) -> str:
    return resource_id(item).subscription


def rule_list(kind: str, key: str) -> Callable[[Json], str]:
    return lambda item: ", ".join(str(rule.get(key)) for rule in dicts(at_path(item, f"properties.networkAcls.{kind}")))


def or_default(path: str, default: str) -> Callable[[Json], object]:
    """A setting, or what it means for Azure when it is not set."""

    def read(item: Json) -> object:
        value = at_path(item, path)
        return f"{default} (default)" if value is None else value

    return read


def short_time(path: str) -> Callable[[Json], str]:
    """A time without fractions of a second."""
    return lambda item: re.sub(r"\.\d+(?=Z|[+-]\d\d:?\d\d|$)", "", str(at_path(item, path) or ""))


def in_units(path: str) -> Callable[[Json], object]:
    """A number of bytes as people read it: 512 bytes, 1.5 MiB."""

    def read(item: Json) -> object:
        value = at_path(item, path)
        if not isinstance(value, int):
            return value
        power = max(0, value.bit_length() - 1) // 10
        return f"{value / 1024**power:.1f} {'KMGTPE'[power - 1]}iB" if power else f"{value} bytes"

    return read


def told_blobs(item: Json) -> str:
    """The blobs that were not simply restored, as far as a cell can show them."""
    return "\n".join(f"{row['name']}: {row['result']}" for row in item["blobs"][:20])


# fmt: off
IN_CONTAINER_COLUMNS: dict[str, Column] = {"Name": "name", "Container": "container"}
PARENTS: dict[str, Column] = {"Account Name": account_of, "Subscription ID": subscription_of, "Resource Group": lambda item: resource_id(item).group}
ACCOUNT_VIEW = View("StorageAccount", "Azure Storage Account", {**PARENTS, "Kind": "kind", "Status Primary": "properties.statusOfPrimary", "Status Secondary": "properties.statusOfSecondary", "Location": "location"}, compact=False)
ACCOUNTS_VIEW = ACCOUNT_VIEW._replace(title="Azure Storage Account List")
DELETED_ACCOUNT_VIEW = ACCOUNT_VIEW._replace(title="Azure Storage Account delete")
FOUND_ACCOUNTS_VIEW = View("StorageAccount", "Azure Storage Accounts found", {"Account Name": "name", "Subscription": "subscriptionName", "Subscription ID": "subscriptionId", "Resource Group": "resourceGroup", "Location": "location", "Kind": "kind", "Public Blob Access": or_default("properties.allowBlobPublicAccess", "not set"), "Shared Key": or_default("properties.allowSharedKeyAccess", "allowed"), "Public Network": or_default("properties.publicNetworkAccess", "Enabled"), "Network Default": or_default("properties.networkAcls.defaultAction", "Allow"), "Tags": "tags"})
BLOB_SERVICE_VIEW = View("BlobServiceProperties", "Azure Storage Blob Service Properties", {"Name": "name", **PARENTS, "Change Feed": "properties.changeFeed.enabled", "Delete Retention Policy": "properties.deleteRetentionPolicy.enabled", "Versioning": "properties.isVersioningEnabled"}, compact=False)
CONTAINER_VIEW = View("BlobContainer", "Azure Storage Blob Containers Properties", {"Name": "name", **PARENTS}, compact=False)
UPDATED_CONTAINER_VIEW = CONTAINER_VIEW.with_columns({"Public Access": "properties.publicAccess"})
DELETED_CONTAINER_VIEW = CONTAINER_VIEW._replace(title="Azure Storage Blob Container delete")
CONTAINERS_VIEW = View("BlobContainer", "Azure Storage Blob Containers list", {"Container Name": "name", **PARENTS, "Public Access": "properties.publicAccess", "Lease State": "properties.leaseState", "Last Modified Time": "properties.lastModifiedTime"}, compact=False)
DELETED_CONTAINERS_VIEW = CONTAINERS_VIEW.with_columns({"Deleted Time": "properties.deletedTime", "Remaining Retention Days": "properties.remainingRetentionDays", "Version": "properties.version"})
RESTORED_VIEW = CONTAINERS_VIEW._replace(title="Azure Storage container restore")
SUBSCRIPTIONS_VIEW = View("Subscription", "Azure Storage Subscriptions list", {name: name for name in ("subscriptionId", "tenantId", "displayName", "state")}, compact=False)
GROUPS_VIEW = View("ResourceGroup", "Resource Groups List", {"name": "name", "location": "location", "tags": "tags", "provisioning state": "properties.provisioningState"}, compact=False)
SIGN_IN_VIEW = View("SignIn", "Azure Storage sign-in", {"Signed in as": "identity", "Kind": "kind", "Authentication Type": "authType", "Tenant ID": "tenantId", "Application ID": "appId", "Cloud": "cloud"}, key="identity")
RESOURCES_VIEW = View("SignIn", "Tokens", {"Resource": "resource", "Usable": "usable", "Until": "expiresOn", "Message": "message"})
KEYS_VIEW = View("StorageAccountKey", "Azure Storage Account Keys", {"Account Name": "account", "Key": "keyName", "Created": "creationTime", "Age in Days": "ageInDays"})
VALUES_VIEW = KEYS_VIEW.with_columns({"Value": "value"})
DELEGATION_VIEW = View("StorageAccount", "Azure Storage user delegation keys", {"Account Name": "name", **PARENTS})
NETWORK_VIEW = View("StorageAccount", "Azure Storage Account network rules", {"Account Name": "name", "Public Network": or_default("properties.publicNetworkAccess", "Enabled"), "Default Action": or_default("properties.networkAcls.defaultAction", "Allow"), "Bypass": or_default("properties.networkAcls.bypass", "AzureServices"), "IP Rules": rule_list("ipRules", "value"), "IPv6 Rules": rule_list("ipv6Rules", "value"), "Subnets": rule_list("virtualNetworkRules", "id"), "Resource Instances": rule_list("resourceAccessRules", "resourceId")})
LOCKS_VIEW = View("Lock", "Azure resource locks", {"Name": "name", "Level": "properties.level", "Scope": lambda item: re.split(r"(?i)/providers/Microsoft\.Authorization/", str(item.get("id", "")))[0], "Notes": "properties.notes"})
ISOLATION_VIEW = View("Isolation", "Azure Storage Account isolation", {"Step": "step", "Result": "result", "Details": "detail"})
ACTIVITY_VIEW = View("Activity", "Azure activity log of a storage account", {"Time": short_time("time"), "Operation": "operation", "Status": "status", "Caller": "caller", "IP": "ip", "Resource": "resource"})
LOGGING_VIEW = View("LoggingSettings", "Azure Storage blob logging", {"Name": "name", "Logs": lambda item: ", ".join(logged(item)), "Workspace": "properties.workspaceId", "Storage Account": "properties.storageAccountId", "Event Hub Rule": "properties.eventHubAuthorizationRuleId"})
RESTORE_VIEW = View("BlobRestore", "Azure Storage point-in-time restore", {"Account Name": "account", "Status": "status", "Restored to": "timeToRestore", "Ranges": "blobRanges", "Failure": "failureReason"})
HOLD_VIEW = View("BlobContainer", "Azure Storage container legal hold", {"Name": "name", "Account Name": account_of, "Legal Hold": "properties.hasLegalHold", "Tags": lambda item: ", ".join(hold_tags(item))})
IMMUTABILITY_VIEW = View("ImmutabilityPolicy", "Azure Storage container immutability policy", {"Container": "container", "Account Name": "account", "Days": "days", "State": "state", "Protected Appends": "allowProtectedAppendWrites"})
CONTAINER_LEASE_VIEW = View("BlobContainer", "Azure Storage container lease", {"Name": "name", "Account Name": account_of, "Lease State": "properties.leaseState", "Lease Duration": "properties.leaseDuration", "Lease ID": "leaseId"})
POLICIES_VIEW = View("AccessPolicy", "Azure Storage stored access policies", {"Container": "container", "Policy": "policy", "Permissions": "permissions", "Starts": "start", "Ends": "expiry"})
BLOB_VIEW = View("Blob", "Azure Storage Blob", {**IN_CONTAINER_COLUMNS, "Account": "account", "Type": "type", "Size": in_units("size"), "Tier": "tier", "Content Type": "contentType", "Last Modified": "lastModified", "ETag": "etag", "MD5": "md5", "SHA-256": "sha256", "Metadata": "metadata", "Tags": "tags"})
READ_VIEW = BLOB_VIEW.with_columns({"Verified": "verified", "Result": "result"})
BLOBS_VIEW = View("Blob", "Azure Storage Blob List", {"Name": "name", "Type": "type", "Size": in_units("size"), "Tier": "tier", "Last Modified": "lastModified", "MD5": "md5", "Version": "versionId", "Snapshot": "snapshot", "Deleted": "deleted", "Days Left": "remainingRetentionDays", "Metadata": "metadata", "Tags": "tags", "Customer Key": "customerProvidedKeySha256"})
FOUND_BLOBS_VIEW = View("Blob", "Azure Storage Blobs found by tags", {**IN_CONTAINER_COLUMNS, "Tags": "tags"})
BLOB_TAGS_VIEW = FOUND_BLOBS_VIEW._replace(title="Azure Storage Blob tags")
BLOB_LEASE_VIEW = View("Blob", "Azure Storage Blob", {**IN_CONTAINER_COLUMNS, "Lease State": "leaseState", "Lease ID": "leaseId"})
BLOB_HOLD_VIEW = View("Blob", "Azure Storage Blob", {**IN_CONTAINER_COLUMNS, "Legal Hold": "legalHold"})
COPY_VIEW = BLOB_VIEW.with_columns({"Copy Status": "copyStatus", "Copy ID": "copyId"})
SNAPSHOT_VIEW = BLOB_VIEW.with_columns({"Snapshot": "snapshot"})
WRITTEN_VIEW = BLOB_VIEW.with_columns({"Result": "result"})
DELETED_VIEW = View("Blob", "Azure Storage Blobs deleted", {**IN_CONTAINER_COLUMNS, "Version": "versionId", "Snapshot": "snapshot", "Result": "result"})
UNDELETE_VIEW = DELETED_VIEW._replace(title="Azure Storage Blobs restored")
VERSIONS_VIEW = View("BlobVersionsRestore", "Azure Storage restore of blob versions", {"Container": "container", "Prefix": "prefix", "Restored to": "timeToRestore", "Restored": "restored", "Undeleted": "undeleted", "Unchanged": "same", "Newer": "newer", "Deleted": "deleted", "Not kept": "notKept", "Unaddressable": "unaddressable", "Failed": "failed", "Blobs": told_blobs})
QUARANTINE_VIEW = View("Quarantine", "Azure Storage blob quarantine", {"Blob": "source.name", "Result": "result", "Evidence": "evidence.id", "Size": in_units("source.size"), "SHA-256": "evidence.sha256", "Verified": "verified", "Protected by": "protection", "Source deleted": "sourceDeleted"})
SAS_VIEW = View("Sas", "Azure Storage shared access signature", {"Resource": "resource", "Permissions": "permissions", "Starts": "start", "Ends": "expiry", "IP": "ip", "Signed by": "signedBy"}, key="sha256")
INSPECT_VIEW = View("Sas", "Shared access signature", {"Kind": "kind", "Account": "account", "Services": "services", "Resource": "resource", "Permissions": "permissions", "Starts": "start", "Ends": "expiry", "Expired": "expired", "IP": "ip", "Protocol": "protocol", "Policy": "policy", "Signed by": "signer", "Bound to": "boundTo", "SHA-256": "sha256"}, key="sha256")
# fmt: on


def logged(setting: Json) -> list[str]:
    """The categories, or groups of categories, that a diagnostic setting has turned on."""
    rows = dicts(at_path(setting, "properties.logs"))
    return [str(row.get("category") or row.get("categoryGroup")) for row in rows if row.get("enabled") is True]


def hold_tags(container: Json) -> list[str]:
    return [str(tag.get("tag")) for tag in dicts(at_path(container, "properties.legalHold.tags"))]


# --- change ------------------------------------------------------------------------------------------------------------

# Objects that a change replaces as a whole instead of merging into them.
REPLACED_WHOLE = frozenset({"tags", "metadata"})
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
NEW = "(new)"  # a wanted value that the service chooses
DONE, FAILED, UNSURE, ALREADY, PLANNED = "done", "failed", "unknown", "already set", "planned"
FINE = (DONE, ALREADY)


def canonical(value: object) -> str:
    """A text that is the same for values that mean the same to ARM: "Logging, Metrics" is "metrics,logging"."""
    if isinstance(value, str):
        return json.dumps(sorted(part.strip().rstrip("/").lower() for part in value.split(",")))
    if isinstance(value, dict):
        kept = {key: item for key, item in sorted(value.items()) if key not in READ_ONLY and item not in (None, [])}
        return json.dumps({key: canonical(item) for key, item in kept.items()})
    if isinstance(value, list | tuple):
        return json.dumps(sorted(map(canonical, value)))
    return json.dumps(value)


def same(left: object, right: object) -> bool:
    """Whether ARM would see no difference: not in the order of a list, in a missing empty list, or in what it computes."""
    if isinstance(right, list) and left is None:
        return not right
    return canonical(left) == canonical(right)


def uncompared(left: object, right: object) -> bool:
    """For objects in which Azure fills in and reorders: whatever is read back is fine."""
    return True


def exactly(left: object, right: object) -> bool:
    """Whether two values of a blob are the same, letter for letter."""
    return left == right


Sameness = Callable[[object, object], bool]


def acceptable(now: object, wanted: object, equal: Sameness) -> bool:
    """Whether a setting is as wanted. A tuple holds several values that would do; an object, such as tags, is one that is
    replaced as a whole, and its texts are people's."""
    if isinstance(wanted, dict) and equal is same:
        return (now or {}) == wanted
    return any(equal(now, one) for one in wanted) if isinstance(wanted, tuple) else equal(now, wanted)


def leaves(before: object, after: Json, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any, Any]]:
    """Each setting of `after` with its path, as it is in `before` (None where not set) and in `after`."""
    for key, new in after.items():
        old = before.get(key) if isinstance(before, dict) else None
        if isinstance(new, dict) and key not in REPLACED_WHOLE:
            yield from leaves(old, new, (*path, key))
        else:
            yield (*path, key), old, new


def nested(settings: Iterable[tuple[tuple[str, ...], object]]) -> Json:
    """The object that has these settings at these paths."""
    result: Json = {}
    for (*parents, last), value in settings:
        holder = result
        for parent in parents:
            holder = holder.setdefault(parent, {})
        holder[last] = value
    return result


def differences(current: Json, wanted: Json, equal: Sameness = same) -> tuple[Json, Json]:
    """The settings of `wanted` that differ from `current`: as they are (None where not set), and as wanted."""
    found = [leaf for leaf in leaves(current, wanted) if not acceptable(leaf[1], leaf[2], equal)]
    return nested((path, now) for path, now, _ in found), nested((path, value) for path, _, value in found)


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


def setting_name(path: tuple[str, ...]) -> str:
    """A path in words, without the word properties, which says nothing to people."""
    return ".".join(path[path[:1] == ("properties",) and len(path) > 1 :])


class Step(NamedTuple):
    """One request of a change.

    name: what it does, in the imperative. act: does it; it returns ALREADY where there was nothing to do. look: given the
    error when it is not known whether the request was carried out, tells whether what it wanted is there (None: cannot be
    told), or returns it, in place of the answer that was lost. detail: what is true once it is done. vital: its failure ends the change. hidden: it is not part of what people
    asked for. tentative: where it fails, the steps behind it do the same one by one, so that only their results count.
    """

    name: str
    act: Callable[[], object]
    look: Callable[[AzureStorageError], bool | Json | None] | None = None
    detail: str = ""
    vital: bool = True
    hidden: bool = False
    tentative: bool = False


class Outcome(NamedTuple):
    """What became of a step: its result (done, already set, failed, unknown), what it returned, and the error."""

    step: Step
    result: str
    answer: Any = None
    error: AzureStorageError | None = None

    def row(self) -> Json:
        """For context and for people; never a secret."""
        detail = redact(self.error.message) if self.error and self.result not in FINE else self.step.detail
        return {"step": self.step.name, "result": self.result, "detail": detail}


Steps = Iterable[Step] | Generator[Step, Outcome, None]


class Later(NamedTuple):
    """A polling command goes on: what people read now, and what the next round is given. Never a secret.

    interval: seconds, where the service asks for more than the command does. command: another one that goes on. failure:
    what is raised where nobody polls; instead: what is returned then, in place of the text alone.
    """

    text: str
    arguments: Mapping[str, str]
    interval: int = 0
    command: str = ""
    failure: AzureStorageError | None = None
    instead: CommandResults | None = None


@dataclass
class Plan:
    """What a changing command found and wants. The registry carries it out, or with dry_run only shows it.

    target: the id of what is changed. before and after: the settings that differ, as they are and as wanted; NEW stands
    for a value that the service chooses. steps: what gets there, in order; a generator is told the outcome of each step
    before it yields the next, and `planned` names its steps beforehand. item: what is shown of the object now; read_back:
    the object after the steps (from their answers where these hold it), of which `state` picks what compares with after.
    equal: what counts as the same value. undo: the command line that takes the change back, made from what was really
    changed; empty where nothing does. note: always said; done: said once it is done. confirm: what has to be typed, and
    why. later: what a polling round goes on with; files: entries that follow the result. carried_out: an earlier round did the steps. missed and tidy: what
    is said and done when there is nothing to change.
    """

    target: str
    before: Json
    after: Json
    view: View
    steps: Steps = ()
    item: Json | list[Json] | None = None
    read_back: Callable[[list[Outcome]], Any] = lambda outcomes: None
    state: Callable[[Any], Json] = lambda item: item if isinstance(item, dict) else {}
    equal: Sameness = same
    undo: Callable[[Json, Json], str] = lambda before, after: ""
    note: str = ""
    done: str = ""
    missed: str = "No changes needed: the settings already have these values."
    confirm: tuple[str, str] | None = None
    later: Callable[[list[Outcome]], Later | None] = lambda outcomes: None
    planned: Sequence[str] = ()
    carried_out: bool = False
    tell_steps: bool = False
    more_context: Callable[[list[Outcome], Json], Json] = lambda outcomes, record: {}
    files: Callable[[], list[Json]] = list
    tidy: Callable[[], None] = lambda: None

    @property
    def needed(self) -> bool:
        return self.before != self.after


class Row(NamedTuple):
    """What became of one of many blobs. ok is None where it is not known."""

    item: Json
    result: str
    ok: bool | None
    changed: bool = True
    error: AzureStorageError | None = None


@dataclass
class Bulk:
    """A change of many blobs: batches, read lazily, and what does one batch with an outcome for each of its blobs.

    verb: what is done to a blob, as "3 deleted" has it. undo: the command line that takes it back, made from the rows of
    context, so that it names only what was really done.
    """

    target: str
    view: View
    verb: str
    batches: Iterable[Sequence[Any]]
    act: Callable[[Sequence[Any]], Iterable[Row]]
    rehearse: Callable[[Any], Row]
    undo: Callable[[list[Json]], str] = lambda rows: ""
    note: str = ""
    confirm: tuple[str, str] | None = None


def foreseen(error: Exception) -> AzureStorageError:
    """Any exception as an AzureStorageError, so that the outcomes before it are kept. An unexpected exception may have
    been raised after the request was carried out."""
    if isinstance(error, AzureStorageError):
        return error
    demisto.debug(redact(traceback.format_exc()))
    return NetworkError(redact(f"Unexpected error: {type(error).__name__}: {error}."), sent=True)


def take(step: Step) -> Outcome:
    """Do one step. Where it is not known whether it was carried out, the target is looked at before anything is said."""
    try:
        answer = step.act()
        return Outcome(step, ALREADY if answer == ALREADY else DONE, answer)
    except Exception as error:
        failure = foreseen(error)
    if not failure.sent:
        return Outcome(step, FAILED, error=failure)
    try:
        landed = step.look(failure) if step.look else None
    except Exception as error:
        demisto.debug(f"looking for what became of a step failed: {redact(str(error))}")
        landed = None
    if landed:
        return Outcome(step, DONE, None if landed is True else landed, failure)
    certain = landed is False and isinstance(failure, ServiceError) and failure.status not in RETRY_STATUSES
    return Outcome(step, FAILED if certain else UNSURE, error=failure)


def take_all(steps: Steps) -> list[Outcome]:
    """Do the steps in order, until a vital one was not done. A tentative one that failed is left out."""
    outcomes: list[Outcome] = []
    flow = iter(steps)
    try:
        step = next(flow)
        while True:
            outcomes.append(take(step))
            if outcomes[-1].result not in FINE and step.vital:
                break
            step = flow.send(outcomes[-1]) if isinstance(flow, Generator) else next(flow)
    except StopIteration:
        pass
    except Exception as error:  # of what is read between two steps
        outcomes.append(Outcome(Step("read what the next step needs", lambda: None), FAILED, error=foreseen(error)))
    return [outcome for outcome in outcomes if not (outcome.step.tentative and outcome.result == FAILED)]


def astray(after: Json, now: Json, equal: Sameness) -> list[str]:
    """The settings that are not what was wanted, in words."""
    return [
        f"{setting_name(path)} is {shown(is_now)}, not {shown(wanted)}"
        for path, is_now, wanted in leaves(now, after)
        if wanted != NEW and not acceptable(is_now, wanted, equal)
    ]


@dataclass
class Report:
    """What a change came to, ready to be shown."""

    plan: Plan
    command: str
    dry_run: bool
    item: Any
    before: Json
    after: Json
    outcomes: Sequence[Outcome] = ()
    problems: Sequence[str] = ()
    undo: str = ""

    @property
    def told(self) -> list[Outcome]:
        return [outcome for outcome in self.outcomes if not outcome.step.hidden]

    @property
    def changed(self) -> bool:
        done = self.plan.carried_out or any(outcome.result == DONE for outcome in self.told)
        return done and not self.dry_run

    def record(self) -> Json:
        steps = [outcome.row() for outcome in self.told]
        return {
            "id": self.plan.target,
            "command": self.command,
            "changed": self.changed,
            "dryRun": self.dry_run,
            "before": self.before,
            "after": self.after,
            "undo": self.undo if self.changed else "",
            **({"steps": steps} if steps and (self.plan.tell_steps or self.problems) else {}),
        }

    def words(self) -> str:
        changes = leaves(self.before, self.after)
        lines = [f"* {md(f'{setting_name(path)}: {shown(old)}')} -> {md(shown(new))}" for path, old, new in changes]
        if not self.plan.needed or not (self.dry_run or self.changed or self.problems):
            parts = [self.plan.missed]
        elif self.dry_run:
            parts = ["\n".join(["Dry run: no changes made. This command would change:", *lines])]
            if self.plan.planned:
                parts.append("\n".join(["Steps:", *(f"* {name}" for name in self.plan.planned)]))
        else:
            parts = ["\n".join(["Changed:", *lines])] if self.changed and lines else []
        parts += [f"Failed: {md(problem)}" for problem in self.problems]
        if self.changed and self.undo:
            parts.append(f"To undo this change, run: {code(self.undo)}")
        return "\n\n".join([*parts, *filter(None, (self.plan.note, self.plan.done if self.changed else ""))])

    def result(self) -> CommandResults:
        plan, record = self.plan, self.record()
        rows = self.item if isinstance(self.item, list) else [self.item] if self.item else []
        words = self.words()
        outputs = {"AzureStorage.Change": record, **({plan.view.context: self.item} if rows else {})}
        outputs |= plan.more_context(list(self.outcomes), record)
        title = plan.view.title + (f": {md(plan.target.rpartition('/')[2])}" if plan.view.compact else "")
        text = table(plan.view, rows, title, words) if rows else f"### {title}\n{words}\n"
        if self.problems:
            return CommandResults(outputs=outputs, readable_output=text, raw_response=words, entry_type=EntryType.ERROR)
        return CommandResults(outputs=outputs, readable_output=text, raw_response=self.item or record)


def check_confirm(confirm: tuple[str, str] | None, typed: str | None) -> None:
    if confirm and typed != confirm[0]:
        raise invalid("confirm", f"{confirm[1]} To go on, give `confirm={confirm[0]}`.")


def carry_out(
    plan: Plan, command: str, dry_run: bool, typed: str | None
) -> CommandResults | list[CommandResults | Json] | Later:
    """Show the plan with dry_run; else do its steps, read back, compare, and say what happened. Raises the error of a
    single step that failed; with several steps, what was done is in the result whatever became of the others."""
    report = Report(plan, command, dry_run, plan.item, plan.before, plan.after)
    if dry_run or not plan.needed:
        if not dry_run:
            plan.tidy()
        return report.result()
    if not plan.carried_out:
        check_confirm(plan.confirm, typed)
        report.outcomes = take_all(plan.steps)
    told, missed = report.told, [outcome for outcome in report.outcomes if outcome.error and outcome.result not in FINE]
    if len(missed) == 1 and not any(outcome.result in FINE for outcome in told) and not plan.tell_steps:
        raise error_of(missed[0])
    problems = [f"{outcome.step.name}: {whole_words(error_of(outcome))}" for outcome in missed]
    later, now, unread = seen(report)
    if later:
        return later
    if now is not None and not problems:
        problems = [f"Azure accepted the change, but {words}." for words in astray(plan.after, now, plan.equal)]
        report.plan = replace(plan, done="") if problems else plan
    if told and all(outcome.result == ALREADY for outcome in told):
        report.plan, report.before, report.after = replace(plan, before={}, after={}), {}, {}
    elif now is not None:
        report.before, report.after = changed_settings(plan, now)
    report.problems = [*problems, *unread]
    report.undo = plan.undo(report.before, report.after) if report.changed else ""
    if problems and now is None:  # the steps tell what was done; nothing tells which settings that reached
        report.before, report.after = {}, {}
    files, result = plan.files(), report.result()
    return [result, *files] if files else result


def error_of(outcome: Outcome) -> AzureStorageError:
    """Why a step was not done, or is not known to be."""
    error = outcome.error or AzureStorageError(outcome.step.name)
    return not_known(error) if outcome.result == UNSURE else error


def whole_words(error: AzureStorageError) -> str:
    """A failure among several, on one line: what failed, the permission that it needs, the next step."""
    needs = f" {error.permission}" if isinstance(error, ServiceError) and error.permission else ""
    step = f" Next step: {error.next_step}" if error.next_step else ""
    return f"{redact(error.message)}{needs}{step}"


def not_known(error: AzureStorageError) -> AzureStorageError:
    """The error of a request of which nobody can tell whether it was carried out."""
    error.message += " It is unknown whether Azure carried it out."
    error.next_step = f"Look at the target before you run the command again. {error.next_step}".rstrip()
    return error


def take_or_raise(step: Step) -> None:
    """Do a step that belongs to a larger one, which ends where this one was not carried out for sure."""
    outcome = take(step)
    if outcome.error and outcome.result != DONE:
        raise error_of(outcome)


def seen(report: Report) -> tuple[Later | None, Json | None, list[str]]:
    """What a later round goes on with, also where a step failed; or what of the object after the steps compares with the
    wanted settings, and what is said where it could not be read. The report is told the object."""
    plan, outcomes = report.plan, list(report.outcomes)
    try:
        later = plan.later(outcomes)
        item = None if later else plan.read_back(outcomes)
        now = None if item is None else plan.state(item)
    except Exception as error:
        return None, None, [f"The result could not be read back: {whole_words(foreseen(error))}"]
    report.item = report.item if item is None else item
    return later, now, []


def changed_settings(plan: Plan, now: Json) -> tuple[Json, Json]:
    """Before and after of what really changed, by what was read back."""
    equal = same if plan.equal is uncompared else plan.equal
    actual = nested((path, value) for path, value, _ in leaves(now, plan.after))
    after = differences(plan.before, actual, equal)[1]
    return nested((path, value) for path, value, _ in leaves(plan.before, after)), after


class Tally:
    """What became of many objects: counts, the rows that an entry holds, and all of them in a file where they are more."""

    def __init__(self) -> None:
        self.rows, self.done, self.failed, self.unknown = Gathered(to_show=True), 0, 0, 0
        self.failure: AzureStorageError | None = None  # the first

    def add(self, row: Row) -> None:
        self.rows.add({**row.item, "result": row.result})
        self.done += bool(row.ok and row.changed)
        self.failed += row.ok is False
        self.unknown += row.ok is None
        if not row.ok and row.error and self.failure is None:
            self.failure = not_known(row.error) if row.ok is None else row.error

    def counts(self, verb: str, *, dry_run: bool) -> str:
        unknown = f" {self.unknown:,} unknown," if self.unknown else ""
        done = 0 if dry_run else self.done
        return f"{done:,} {verb}, {self.failed:,} failed,{unknown} {self.rows.count:,} in all."

    def file(self, view: View) -> str:
        """Puts the file into the war room, and says so; nothing where the entry holds all rows."""
        listing = self.rows.listing()
        return show_rest(listing, view) if listing.file else ""


def bulk_rows(bulk: Bulk, dry_run: bool) -> Iterator[Row]:
    """What becomes of the blobs, batch after batch."""
    for batch in bulk.batches:
        if dry_run:
            yield from map(bulk.rehearse, batch)
            continue
        try:
            yield from bulk.act(batch)
        except Exception as error:
            failure = foreseen(error)
            raise (not_known(failure) if failure.sent else failure) from None


def carry_out_bulk(bulk: Bulk, command: str, dry_run: bool, typed: str | None) -> CommandResults:
    """Do batch after batch; what was done stays in the result whatever stops the rest."""
    if not dry_run:
        check_confirm(bulk.confirm, typed)
    tally = Tally()
    stopped: AzureStorageError | None = None
    with tally.rows:
        try:
            for row in bulk_rows(bulk, dry_run):
                tally.add(row)
        except Exception as error:
            if not tally.rows.count:
                raise
            stopped = foreseen(error)
    if tally.rows.count == 1 and tally.failure and not stopped:
        raise tally.failure
    notes = [tally.counts(bulk.verb, dry_run=dry_run), bulk.note, tally.file(bulk.view)]
    missed = f"{tally.failed + tally.unknown} of {tally.rows.count} blobs"
    problems = [f"{missed}: {whole_words(tally.failure)}"] if tally.failure else []
    problems += [f"The rest was not tried: {whole_words(stopped)}"] if stopped else []
    before, after = ({bulk.verb: 0}, {bulk.verb: tally.done}) if tally.done else ({}, {})
    note = "\n\n".join(filter(None, notes))
    plan = Plan(bulk.target, before, after, bulk.view, note=note, missed="", carried_out=bool(tally.done))
    undo = bulk.undo(tally.rows.items) if tally.done and not dry_run else ""
    return Report(plan, command, dry_run, tally.rows.items, before, after, (), problems, undo).result()


# The registry


Handler = TypeVar("Handler", bound=Callable[..., Any])


class Polling(NamedTuple):
    """How a command waits: by default every `interval` seconds for at most `timeout` seconds."""

    interval: int
    timeout: int
    default: bool = True


@dataclass(eq=False)
class Command:
    """A command as the registry holds it, and the decorator that puts it there.

    needs: the Azure permissions, for the manifest; role: the built-in role that has them; changes: it returns a Plan or a
    Bulk, so it has dry_run; execution: it can open, cut off, overwrite, destroy or hand out, so the server asks before it
    runs; confirm: something has to be typed; polling: it may return Later; aliases: other spellings of its arguments.
    """

    name: str
    run: Callable[..., Any] = lambda azure: None
    needs: tuple[str, ...] = ()
    role: str = ""
    changes: bool = False
    execution: bool = False
    confirm: bool = False
    polling: Polling | None = None
    aliases: Mapping[str, str] = field(default_factory=dict)

    def __call__(self, run: Handler) -> Handler:
        """Registers a function as the command. Its keyword-only parameters are those of later polling rounds."""
        returned = run.__annotations__["return"]
        self.changes = not {Plan, Bulk}.isdisjoint((returned, *get_args(returned)))
        self.run, COMMANDS[self.name] = run, self
        return run

    def parameters(self) -> Iterator[tuple[str, Argument | Group]]:
        """What the function takes after `azure`."""
        for parameter in list(inspect.signature(self.run).parameters.values())[1:]:
            reader = reader_of(parameter.annotation)
            assert reader is not None, (self.name, parameter.name)  # noqa: S101 - a slip of ours, seen by every test
            hidden = parameter.kind is inspect.Parameter.KEYWORD_ONLY
            yield parameter.name, reader if isinstance(reader, Group) else Argument(reader, parameter.default, hidden)

    def own_arguments(self) -> dict[str, Argument]:
        """The arguments without other spellings; those that every changing or polling command has come last."""
        found: dict[str, Argument] = {}
        for name, entry in self.parameters():
            found.update(entry.arguments if isinstance(entry, Group) else {name: entry})
        if self.confirm:
            found["confirm"] = optional(Text)
        if self.changes:
            found["dry_run"] = optional(Flag, False)
        if self.polling:
            found["polling"] = optional(Flag, self.polling.default)
            found["interval_in_seconds"] = optional(Seconds, self.polling.interval)
            found["timeout_in_seconds"] = optional(Seconds, self.polling.timeout)
        return found

    def arguments(self) -> dict[str, Argument]:
        """All arguments as a person may give them, other spellings included."""
        found = self.own_arguments()
        return found | {alias: found[name]._replace(default=None) for alias, name in self.aliases.items()}

    def call(self, azure: Azure, args: Mapping[str, Any]) -> Any:
        """Run with the texts a person gave. Every one is read before anything else happens."""
        given = self._given(args)
        read = self._read(given)
        dry_run = bool(read.get("dry_run"))
        try:
            found = self.run(azure, **self._values(azure, read))
        except ServiceError as error:
            # Planning only reads, so that it can be done again where the account was found; carrying out is done once.
            if not azure.look_elsewhere(error):
                raise
            found = self.run(azure, **self._values(azure, read))
        if isinstance(found, Plan):
            found = carry_out(found, self.name, dry_run, read.get("confirm"))
        elif isinstance(found, Bulk):
            found = carry_out_bulk(found, self.name, dry_run, read.get("confirm"))
        return self._again(found, given, read) if isinstance(found, Later) else found

    def _read(self, given: Mapping[str, str]) -> Json:
        """The typed value of every argument. UsageError names all that are missing at once."""
        own = self.own_arguments()
        lacking = [
            f"`{name}` ({entry.reader.accepts})"
            for name, entry in own.items()
            if entry.required and not given.get(name, "").strip()
        ]
        if len(lacking) > 1:
            raise UsageError(f"Missing required arguments: {'; '.join(lacking)}.")
        return {name: read_argument(name, entry, given.get(name, "")) for name, entry in own.items()}

    def _values(self, azure: Azure, read: Json) -> Json:
        """What the function takes: groups are built last, when every argument is known to be good."""
        return {
            name: entry.build(azure, {key: read[key] for key in entry.arguments})
            if isinstance(entry, Group)
            else read[name]
            for name, entry in self.parameters()
        }

    def _given(self, args: Mapping[str, Any]) -> dict[str, str]:
        """The arguments as text, other spellings resolved. UsageError for an unknown one, or two that contradict."""
        known = self.arguments()
        given: dict[str, str] = {}
        for name, value in args.items():
            text = as_text(value)
            if name not in known:
                names = ", ".join(sorted(name for name, entry in known.items() if not entry.hidden))
                raise UsageError(f"Unknown argument `{name}`. {self.name} accepts: {names or 'none'}.")
            right = self.aliases.get(name, name)
            if text and given.get(right, text) != text:
                raise UsageError(f"Arguments `{right}` and its other spelling contradict each other. Give one of them.")
            given[right] = text or given.get(right, "")
        return given

    def _again(self, later: Later, given: Mapping[str, str], read: Json) -> CommandResults:
        """Ask the server to run the command again later; no worker is held while it waits.

        https://xsoar.pan.dev/docs/integrations/scheduled-commands
        """
        own = self.own_arguments()
        kept = {name: text for name, text in given.items() if text and not own[name].reader.secret}
        if not read["polling"]:
            if later.failure:
                raise later.failure
            return later.instead or CommandResults(readable_output=later.text)
        interval, timeout = max(read["interval_in_seconds"], later.interval), read["timeout_in_seconds"]
        waits = {"polling": "true", "interval_in_seconds": str(interval), "timeout_in_seconds": str(timeout)}
        schedule = ScheduledCommand(
            command=later.command or self.name,
            next_run_in_seconds=interval,
            args={**kept, **later.arguments, **waits},
            timeout_in_seconds=timeout,
        )
        return CommandResults(readable_output=later.text, scheduled_command=schedule)


COMMANDS: dict[str, Command] = {}
command = Command


def written_back(fields: Mapping[str, BodyField], before: Json, after: Json) -> dict[str, object]:
    """The arguments that set changed settings back; None for one that was not set before and cannot be made so again."""
    changed = {".".join(path): old for path, old, _ in leaves(before, after)}
    return {
        name: entry.unset if changed[entry.path] in (None, {}, []) else changed[entry.path]
        for name, entry in fields.items()
        if entry.path in changed
    }


def undo_with(name: str, where: Mapping[str, str], fields: Mapping[str, BodyField]) -> Callable[[Json, Json], str]:
    """The undo of settings that come from arguments: the command that sets each of them back, also those that were not
    set, to what that means for Azure. Empty where none of them can be written."""

    def undo(before: Json, after: Json) -> str:
        given = given_only(written_back(fields, before, after))
        return command_line(name, where, given) if given else ""

    return undo


def cannot_undo(before: Json, fields: Mapping[str, BodyField], after: Json) -> str:
    """What is said of settings that were not set before and cannot be made so again."""
    names = [name for name, value in written_back(fields, before, after).items() if value is None]
    return f"The undo leaves as they are: {', '.join(names)}, which were not set before." if names else ""


# --- reports -----------------------------------------------------------------------------------------------------------

# A report is one HTML page that loads nothing: facts, sometimes a timeline, a filter, and sections with tables or lines.
REPORT_STYLE = """
:root{color-scheme:light dark;--text:#1b1b1b;--soft:#5c5c5c;--back:#fff;--line:#c9c9c9;--high:#b3261e;--medium:#9a5b00;--low:#31688e;--good:#2e7d32}
@media (prefers-color-scheme:dark){:root{--text:#ececec;--soft:#b3b3b3;--back:#161616;--line:#4a4a4a;--high:#ff8a80;--medium:#ffb74d;--low:#80c7ff;--good:#81c784}}
body{font:1rem/1.45 system-ui,sans-serif;color:var(--text);background:var(--back);margin:0 auto;padding:1rem;max-width:80rem;box-sizing:border-box}
h1{font-size:1.6rem;line-height:1.2;overflow-wrap:anywhere}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.2rem 1rem;margin:0 0 1rem}dt{color:var(--soft)}dd{margin:0;overflow-wrap:anywhere}
form{display:flex;flex-wrap:wrap;gap:.5rem;margin-bottom:1rem}input,select{font:inherit;padding:.3rem;max-width:100%;box-sizing:border-box}
details{border-top:1px solid var(--line);padding:.5rem 0}details details{border:0}summary{cursor:pointer;font-weight:600;overflow-wrap:anywhere}
summary span{font-weight:400;color:var(--soft)}svg{display:block;width:100%;height:.5rem;margin:.4rem 0}
figure{margin:0 0 1rem}figure svg{height:4rem;margin:0;border-bottom:1px solid var(--soft)}figcaption{display:flex;flex-wrap:wrap;justify-content:space-between;gap:0 1rem;color:var(--soft);font-size:.875rem}
.high,.failed,.not-done{color:var(--high);fill:var(--high)}.medium,.unknown,.waiting,.copying{color:var(--medium);fill:var(--medium)}
.low,.succeeded,.done{color:var(--low);fill:var(--low)}.pass,.secured,.already-secured{color:var(--good);fill:var(--good)}
table{border-collapse:collapse;width:100%;font-size:.8125rem}caption{text-align:left;color:var(--soft)}caption::first-letter{text-transform:uppercase}
th,td{border-bottom:1px solid var(--line);padding:.3rem .5rem;text-align:left;vertical-align:top}
td[data-label=Severity],td[data-label=Result]{font-weight:600}td[data-label=Time],td[data-label=First],td[data-label=Last]{white-space:nowrap}td.long{overflow-wrap:anywhere;min-width:9em}td[data-label=Check],td[data-label=Evidence],td[data-label=Detail]{min-width:14em}td[data-label=Fix]{min-width:28em}td code{font-size:.92em}
li{overflow-wrap:anywhere;margin:.2rem 0}code{user-select:all;overflow-wrap:anywhere}
button{font:inherit;font-size:.8em;cursor:pointer;margin-left:.4em;padding:0 .4em}button::after{content:"Copy"}button.copied::after{content:"Copied"}
@media (max-width:48rem){table,tbody,tr,td,caption{display:block}thead{display:none}td{border:0;padding:.1rem 0;min-width:0!important;overflow-wrap:anywhere}td::before{content:attr(data-label) " ";color:var(--soft);font-weight:400}td:empty{display:none}tr{border-bottom:1px solid var(--line);padding:.4rem 0}}
@page{size:A4;margin:1cm}
@media print{body{font-size:7pt;line-height:1.25;max-width:none;padding:0}h1{font-size:14pt;margin:0}form,button{display:none}table{font-size:7pt}dl{grid-template-columns:repeat(2,max-content 1fr)}td,th{padding:1pt 3pt}td[data-label=Fix]{min-width:20em}tr,figure{break-inside:avoid}}
[hidden]{display:none!important}
"""
REPORT_SCRIPT = """
const text=document.getElementById("text"),severity=document.getElementById("severity");
function filter(){const words=text.value.toLowerCase(),level=severity?severity.value:"";
for(const section of document.querySelectorAll("details.section")){let shown=0;const name=section.dataset.name.toLowerCase();
for(const row of section.querySelectorAll("tbody tr,li")){
const fits=(!level||row.dataset.severity===level)&&(name+" "+row.textContent.toLowerCase()).includes(words);row.hidden=!fits;shown+=fits}
section.hidden=!shown&&Boolean(words||level)}}
text.addEventListener("input",filter);severity?.addEventListener("input",filter);
function select(code){getSelection().selectAllChildren(code);document.execCommand("copy")}
for(const code of document.querySelectorAll("code")){const button=document.createElement("button");button.type="button";button.ariaLabel="Copy the command";
button.addEventListener("click",async()=>{try{await navigator.clipboard.writeText(code.textContent)}catch{select(code)}button.className="copied"});code.after(button)}
"""
REPORT_PAGE = string.Template("""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>$title</title><style>$style</style></head>
<body><main><h1>$title</h1>
<dl>$facts</dl>
$timeline
<form onsubmit="return false"><label>Filter <input id="text" type="search"></label>$levels</form>
""")
REPORT_END = f"</main><script>{REPORT_SCRIPT}</script></body></html>\n"
LONG_WORD = re.compile(r"\S{25}")  # it may be broken in a cell


HtmlReport = Annotated[str, choice("html")] | None


class Html(str):
    """Text that is HTML already; every other text is escaped."""


def element(name: str, *content: object, **attributes: str) -> Html:
    """An element around its content. Of attributes, class_ is class and data_name data-name; empty ones are left out."""
    inner = "".join(part if isinstance(part, Html) else html.escape(str(part)) for part in content)
    given = (f'{key.strip("_").replace("_", "-")}="{html.escape(value)}"' for key, value in attributes.items() if value)
    return Html(f"<{' '.join((name, *given))}>{inner}</{name}>")


def html_report(
    title: str, facts: Mapping[str, object], sections: Iterable[str], levels: Iterable[str] = (), timeline: str = ""
) -> Iterator[str]:
    """A page in pieces: what it is about, a timeline, a filter (by severity, if there are levels), and html_sections."""
    known = [element("dt", name) + element("dd", as_text(value)) for name, value in facts.items()]
    choices = [element("option", name) for name in levels]
    select = element("select", Html('<option value="">All</option>' + "".join(choices)), id="severity")
    yield REPORT_PAGE.substitute(
        title=html.escape(title),
        style=REPORT_STYLE,
        facts="".join(known),
        timeline=timeline,
        levels=element("label", "Severity ", select) if choices else "",
    )
    yield from sections
    yield REPORT_END


def report_facts(azure: Azure, scope: str) -> Json:
    """When, for whom and of what a report is."""
    return {"Date": iso_time(Clock.now()), "Scope": scope, "Requested by": azure.auth.identity().get("identity")}


def class_name(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower())


def html_section(title: str, *parts: Html, bar: Mapping[str, int] | None = None, opened: bool = True) -> Html:
    """One part of a report: a heading, a bar of amounts by class, and what is in it."""
    amounts = {name: count for name, count in (bar or {}).items() if count}
    words = ", ".join(f"{count:,} {name}" for name, count in amounts.items())
    starts = itertools.accumulate(amounts.values(), initial=0)
    pieces = [
        element("rect", class_=class_name(name), x=str(start), width=str(count), height="1")
        for start, (name, count) in zip(starts, amounts.items(), strict=False)
    ]
    box = f"0 0 {sum(amounts.values())} 1"
    drawn = element("svg", *pieces, role="img", aria_label=words, viewBox=box, preserveAspectRatio="none")
    inner = [element("summary", title, " ", element("span", words)), drawn if pieces else Html(), *parts]
    return element("details", *inner, class_="section", data_name=title, open="open" if opened else "")


def html_table(view: View, rows: Sequence[Json], caption: str, folded: bool = False) -> Html:
    """Rows as a table without its empty columns, or nothing. The filter looks at the severity of a row."""
    values = [view.row(row) for row in rows]
    headers = [name for name in view.columns if any(row[name] not in (None, "", [], {}) for row in values)]
    if not headers:
        return Html()
    head = element("tr", *(element("th", header, scope="col") for header in headers))
    lines = [
        element("tr", *(html_cell(name, cells[name]) for name in headers), data_severity=row.get("severity", ""))
        for row, cells in zip(rows, values, strict=True)
    ]
    inner = element("table", element("caption", caption), element("thead", head), element("tbody", *lines))
    return element("details", element("summary", f"{len(rows):,} ", caption), inner) if folded else inner


def html_cell(header: str, value: object) -> Html:
    text = f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else as_text(value)
    kind = "long" if LONG_WORD.search(text) else ""
    if header in ("Severity", "Result"):
        kind, text = class_name(text), text.replace("_", " ")
    inner = element("code", text) if header == "Fix" and text else text
    return element("td", inner, class_=kind, data_label=header)


LINE_MARKS = re.compile(r"\*\*(?P<bold>.+?)\*\*|(?P<fence>`+) ?(?P<code>.+?) ?(?P=fence)")
# The class of a state that a line names in bold, as in **Anonymous: open.**
STATE_CLASSES = {"open": "high", "all networks": "high", "unknown": "unknown", "off": "medium", "closed": "pass"}


def html_line(line: str) -> Html:
    """A line of the war room: bold and code stay that, and what was escaped for Markdown is as it was."""
    parts, done = [], 0
    for mark in LINE_MARKS.finditer(line):
        parts.append(html.escape(unescaped(line[done : mark.start()])))
        done = mark.end()
        text = unescaped(mark["bold"] or "")
        state = STATE_CLASSES.get(text.rstrip(".").rpartition(": ")[2], "")
        parts.append(element("code", mark["code"]) if mark["code"] else element("b", text, class_=state))
    return Html("".join([*parts, html.escape(unescaped(line[done:]))]))


def html_list(name: str, items: Iterable[Html]) -> Html:
    lines = [element("li", item) for item in items]
    return element(name, *lines) if lines else Html()


class Timeline:
    """How many events of each kind fell into each part of a time range, drawn as bars; its size does not grow with them."""

    BARS = 96

    def __init__(self, since: float, until: float) -> None:
        self.since, self.until = since, max(until, since + 1)
        self._counts = Counter[tuple[int, str]]()

    def add(self, when: float | None, kind: str) -> None:
        if when is not None:
            place = int((when - self.since) / (self.until - self.since) * self.BARS)
            self._counts[min(max(place, 0), self.BARS - 1), kind] += 1

    def html(self) -> Html:
        bars, kinds = Counter[int](), Counter[str]()
        for (place, kind), count in self._counts.items():
            bars[place] += count
            kinds[kind] += count
        if not bars:
            return Html()
        highest, filled, drawn = max(bars.values()), Counter[int](), []
        for (place, kind), count in sorted(self._counts.items()):
            filled[place] += count
            start = self.since + place * (self.until - self.since) / self.BARS
            top, title = str(highest - filled[place]), element("title", f"{iso_time(start)}: {count:,} {kind.lower()}")
            size = {"x": str(place), "y": top, "width": ".9", "height": str(count), "class_": class_name(kind)}
            drawn.append(element("rect", title, **size))
        words = ", ".join(f"{count:,} {kind.lower()}" for kind, count in sorted(kinds.items()))
        box = f"0 0 {self.BARS} {highest}"
        chart = element("svg", *drawn, role="img", aria_label=words, viewBox=box, preserveAspectRatio="none")
        ends = [element("span", text) for text in (iso_time(self.since), words, iso_time(self.until))]
        return element("figure", chart, element("figcaption", *ends))


# --- commands: sign-in -------------------------------------------------------------------------------------------------


@command("test-module")
def test_module(azure: Azure) -> str:
    """The test button. It has no integration context: a person's sign-in can be neither made nor seen here."""
    settings = azure.settings
    steps = {
        DEVICE_CODE: "run !azure-storage-auth-start in the war room and follow the instructions",
        AUTHORIZATION_CODE: "run !azure-storage-generate-login-url in the war room, sign in there, and run !azure-storage-auth-complete code=<the address> with the address the browser ends at",
    }
    credential, step = settings.storage_credential, steps.get(settings.auth_type)
    if step and not credential:
        raise UsageError(
            f"The settings are valid. Save the instance, {step}, then run !azure-storage-auth-test. "
            f"With {settings.auth_type} the sign-in happens there, and this button can't see it."
        )
    if not step and settings.subscription:
        group, subscription = settings.group, settings.subscription
        path = group_path(subscription, group) if group else subscription_path(subscription)
        azure.arm.listing(ACCOUNTS_LIST, Scope(path), Paging(limit=1))
    elif not step:
        azure.arm.listing(SUBSCRIPTIONS_LIST, TENANT_SCOPE, Paging(limit=1))
    if credential:
        test_credential(azure, credential)
    return "ok"


# What a SAS is told that lacks nothing but the right to list containers.
NARROW_SAS = ("AuthorizationPermissionMismatch", "AuthorizationResourceTypeMismatch")


def test_credential(azure: Azure, credential: StorageCredential) -> None:
    """Whether the instance's SAS or key reaches the blobs of its account. A SAS without the right to list is accepted, too."""
    try:
        azure.blobs(credential.account).ask(CONTAINERS_READ, query={"maxresults": 1})
    except ServiceError as error:
        if error.code not in NARROW_SAS:
            raise


def unattended(settings: Settings) -> str:
    return f"{settings.auth_type} needs no interactive sign-in. Run !azure-storage-auth-test to check the connection."


@command("azure-storage-auth-start", polling=Polling(10, 900, default=False))
def auth_start(azure: Azure) -> CommandResults | Later:
    """With polling the command goes on as auth-complete does; starting again never ends an existing session."""
    settings = azure.settings
    if settings.auth_type == AUTHORIZATION_CODE:
        return login_url(azure)
    if settings.auth_type not in USER_FLOWS:
        return CommandResults(readable_output=unattended(settings))
    flow = azure.auth.start_device_flow()
    lines = [
        "### Sign in to Azure Storage",
        f"1. Open [{flow['verification_uri']}]({flow['verification_uri']})",
        f"2. Enter the code **{flow['user_code']}** before {iso_time(flow['expires_at'])}",
        "3. Then run `!azure-storage-auth-complete`. With polling, this command ends when you have signed in.",
    ]
    return Later("\n".join(lines), {}, azure.auth.poll_interval(), "azure-storage-auth-complete")


@command("azure-storage-generate-login-url")
def generate_login_url(azure: Azure) -> CommandResults:
    if azure.settings.auth_type != AUTHORIZATION_CODE:
        words = f"A login URL is for Authorization Code; this instance uses {azure.settings.auth_type}."
        raise UsageError(words, "Run !azure-storage-auth-start.")
    return login_url(azure)


def login_url(azure: Azure) -> CommandResults:
    url = azure.auth.start_login()
    lines = [
        "### Sign in to Azure Storage",
        f"1. Open the [login URL]({url}) and sign in.",
        f"2. The browser ends at {azure.settings.redirect_uri} (a page that does not open is fine). Copy the whole address within ten minutes.",
        "3. Run `!azure-storage-auth-complete code=<the address>`, or paste it as the Authorization code of the instance and save.",
    ]
    return CommandResults(readable_output="\n".join(lines), raw_response={"login_url": url})


@command("azure-storage-auth-complete", polling=Polling(10, 900, default=False))
def auth_complete(azure: Azure, code: SecretText | None = None) -> CommandResults | Later:
    settings = azure.settings
    if settings.auth_type not in USER_FLOWS:
        raise UsageError(unattended(settings))
    if settings.auth_type == DEVICE_CODE and code:
        raise UsageError("`code` is for Authorization Code. With Device Code, leave it out.")
    try:
        if settings.auth_type == DEVICE_CODE:
            azure.auth.complete_device_flow()
        elif code:
            azure.auth.complete_login(code.reveal())
        else:
            azure.auth.token(settings.cloud.audience)  # redeems a code pasted into the instance
    except SignInPending as pending:
        return Later("", {}, azure.auth.poll_interval(), failure=pending)
    return show(
        SIGN_IN_VIEW,
        azure.auth.identity(),
        note="Signed in. Run `!azure-storage-auth-test` to see what this identity can reach.",
    )


@command("azure-storage-auth-test")
def auth_test(azure: Azure) -> CommandResults:
    """Who is signed in, and for which resources a token can be had. Fails when none can."""
    credential, cloud = azure.settings.storage_credential, azure.settings.cloud
    resources = {"Azure Resource Manager": cloud.audience, "Azure Storage": STORAGE_AUDIENCE}
    rows, failures = list[Json](), list[AzureStorageError]()
    for name, resource in resources.items():
        expiry = message = ""
        try:
            azure.auth.token(resource)
            expiry = iso_time(azure.auth.expires_at(resource))
        except SignInError as error:
            message = redact(str(error))
            failures.append(error)
        rows.append({"resource": name, "usable": not message, "expiresOn": expiry, "message": message})
    if rows[0]["usable"]:  # a token alone does not say that Azure accepts it
        azure.arm.listing(SUBSCRIPTIONS_LIST, TENANT_SCOPE, Paging(limit=1))
    if credential:
        test_credential(azure, credential)
        kind = "Account SAS" if credential.sas else "Account key"
        rows.append({"resource": f"{kind} of {credential.account}", "usable": True, "expiresOn": "", "message": ""})
    elif len(failures) == len(rows):
        raise failures[0]
    who = azure.auth.identity()
    outputs = {SIGN_IN_VIEW.context: {**who, "resources": rows}}
    return CommandResults(
        outputs=outputs, readable_output=table(SIGN_IN_VIEW, [who]) + table(RESOURCES_VIEW, rows), raw_response=outputs
    )


@command("azure-storage-auth-reset")
def auth_reset(azure: Azure) -> CommandResults:
    """What is remembered of isolations stays, so that they can be undone after the next sign-in."""
    text = "The stored sign-in was removed." if azure.store.clear() else "There was no stored sign-in."
    return CommandResults(readable_output=f"{text} Run !azure-storage-auth-start to sign in again.")


# --- commands: scope ---------------------------------------------------------------------------------------------------


@command("azure-storage-subscriptions-list", needs=(READ_SUBSCRIPTIONS,), role="Reader")
def subscriptions_list(azure: Azure, paging: PagingArgs) -> CommandResults:
    return show_list(SUBSCRIPTIONS_VIEW, azure.arm.listing(SUBSCRIPTIONS_LIST, TENANT_SCOPE, paging))


@command("azure-storage-resource-group-list", needs=(READ_GROUPS,), role="Reader")
def resource_group_list(
    azure: Azure, paging: PagingArgs, subscription_id: Subscription | None = None, tag: TagFilter | None = None
) -> CommandResults:
    scope = Scope(subscription_path(azure.subscription(subscription_id)))
    condition = f"tagName eq {odata(tag[0])} and tagValue eq {odata(tag[1])}" if tag else None
    size = None if paging.all_results else min(paging.limit, 1000)
    return show_list(
        GROUPS_VIEW, azure.arm.listing(GROUPS_LIST, scope, paging, params={"$filter": condition, "$top": size})
    )


# --- commands: accounts ------------------------------------------------------------------------------------------------

# A command that opens, cuts off, overwrites or destroys: a change that the server asks about before.
ANY_GROUP = "*"
GroupOrAny = Annotated[
    str,
    Reader(
        "a resource group name of at most 90 characters, or * for all of the subscription",
        lambda text: text if text == ANY_GROUP else parse_group(text),
    ),
]


@command("azure-storage-account-list", needs=(READ_ACCOUNT,), role="Reader")
def account_list(
    azure: Azure,
    paging: PagingArgs,
    account_name: Account | None = None,
    resource_group_name: GroupOrAny | None = None,
    subscription_id: Subscription | None = None,
) -> CommandResults:
    """The accounts of the resource group that is given or that the instance has; of the subscription with *."""
    if account_name:
        group = None if resource_group_name == ANY_GROUP else resource_group_name
        given = {"resource_group_name": group, "subscription_id": subscription_id}
        return show(ACCOUNTS_VIEW, azure.arm.ask(ACCOUNT_GET, account_in(azure, given, account_name)))
    subscription = azure.subscription(subscription_id)
    default = azure.settings.group if subscription == azure.settings.subscription else ""
    group = "" if resource_group_name == ANY_GROUP else resource_group_name or default
    scope = Scope(group_path(subscription, group) if group else subscription_path(subscription))
    words = f"Only resource group {group}, the default of the instance, is listed. For the whole subscription, set `resource_group_name=*`."
    return show_list(
        ACCOUNTS_VIEW,
        azure.arm.listing(ACCOUNTS_LIST, scope, paging),
        words if group and not resource_group_name else "",
    )


class AccountSearch(NamedTuple):
    """The accounts that are meant: the names among the clues, and the query that finds them or all that fit."""

    names: list[str]
    query: str

    def lost(self, found: Iterable[Json]) -> list[str]:
        """The names of which no account was found."""
        return sorted(set(self.names) - {str(account.get("name")) for account in found})


def read_clues(text: str) -> list[AccountClue]:
    return [parse_account(part) for part in split_list(text)]


SEARCH_ARGUMENTS = {
    "account_name": optional(
        Annotated[
            list[AccountClue],
            Reader("a list: storage account names, ARM IDs, or URLs in them", read_clues, secret=True, many=True),
        ]
    ),
    "blob_url": optional(
        Annotated[AccountClue, Reader("the URL of anything in an account", parse_account, secret=True)]
    ),
    "tag": optional(TagFilter),
    "location": optional(Location),
    **SCOPE_ARGUMENTS,
}


def build_search(azure: Azure, given: Given) -> AccountSearch:
    names = [clue.name for clue in (*(given["account_name"] or ()), given["blob_url"]) if clue]
    scope = [given[name] or "" for name in ("location", "resource_group_name", "subscription_id")]
    return AccountSearch(names, accounts_query(names, given["tag"], *scope))


SearchArgs = Annotated[AccountSearch, Group(SEARCH_ARGUMENTS, build_search)]


@command("azure-storage-account-find", needs=(READ_ACCOUNT,), role="Reader")
def account_find(azure: Azure, paging: PagingArgs, search: SearchArgs) -> CommandResults:
    """Every subscription in one query. A name that is not found is named, since an alert may be about a deleted account."""
    seen: list[Json] = []

    def keep(row: Json) -> bool:
        row.update(found_account(row))
        seen.extend([{"name": row.get("name")}] if search.names else [])
        return True

    listing = azure.arm.search(search.query, paging, keep)
    partly = listing.token or paging.place or paging.skip  # the other names may be on another page
    lost = [] if partly else search.lost(seen)
    words = (
        f"Not found: {', '.join(lost)}. The account may be deleted, in another tenant or cloud, too new for Resource Graph, or "
        "not fit the other arguments, or the signed-in identity lacks the role Reader there."
    )
    return show_list(FOUND_ACCOUNTS_VIEW, listing, words if lost else "")


def found_account(row: Json) -> Json:
    """A row of Resource Graph as ARM shows the account. The graph writes groups in lower case; the id has their case."""
    return {**row, "resourceGroup": resource_id(row).group or row.get("resourceGroup")}


def account_now(azure: Azure, account: AccountRef) -> Json:
    return azure.arm.ask(ACCOUNT_GET, account)


# What only creation can set: https://learn.microsoft.com/rest/api/storagerp/storage-accounts/update
CREATION_ONLY = ("location", "properties.isHnsEnabled", "properties.encryption.requireInfrastructureEncryption")
# Properties that STORAGE_API does not know; it would drop them without an error.
NEWEST_PROPERTIES = frozenset(
    {
        "allowCrossTenantDelegationSas",
        "allowSharedKeyAccessForServices",
        "dataCollaborationPolicyProperties",
        "requireUserBoundUserDelegationSas",
        "staticWebsite",
    }
)


def account_patch(current: Json, wanted: Json) -> tuple[Json, Json, Json]:
    """The PATCH that turns an account into what is wanted, with before and after; an empty one if nothing differs.

    Only properties that change are sent; objects that ARM replaces as a unit (networkAcls, encryption) are sent whole, so
    that what was not named stays. UsageError for what only creation can set.
    """
    for path in CREATION_ONLY:
        value = at_path(wanted, path)
        if value is not None and not same(at_path(current, path) or False, value):
            names = {entry.path: name for name, entry in ACCOUNT_FIELDS.items()}
            raise invalid(
                names[path],
                f"{shown(value)!r} can't be set after creation; the account has {shown(at_path(current, path))!r}.",
            )
    wanted = without(wanted, CREATION_ONLY)
    domain = at_path(wanted, "properties.customDomain.name")
    if domain and same(at_path(current, "properties.customDomain.name"), domain):
        wanted = without(wanted, ["properties.customDomain.useSubDomainName"])  # ARM takes it and never returns it
    before, after = differences(current, wanted)
    patch = {key: wanted[key] for key in after if key != "properties"}
    if "properties" in after:
        whole = merged(at_path(current, "properties") or {}, wanted["properties"])
        patch["properties"] = {key: whole[key] for key in after["properties"]}
    return patch, before, after


def api_for(endpoint: Endpoint[AccountRef], body: Json) -> Endpoint[AccountRef]:
    """The endpoint with the version that knows every property of a body."""
    names = {*(at_path(body, "properties") or {}), *(at_path(body, "properties.sasPolicy") or {})}
    newest = not NEWEST_PROPERTIES.isdisjoint(names)
    return replace(endpoint, api=NEWEST_STORAGE_API) if newest else endpoint


def patch_step(azure: Azure, account: AccountRef, patch: Json, name: str) -> Step:
    """One PATCH of an account, which answers with the account; the account tells whether a lost one was carried out."""
    update, read = api_for(ACCOUNT_UPDATE, patch), api_for(ACCOUNT_GET, patch)
    return Step(
        name,
        lambda: azure.arm.ask(update, account, patch),
        lambda error: not account_patch(azure.arm.ask(read, account), patch)[0],
        vital=False,
    )


def last_answer(azure: Azure, endpoint: Endpoint[Target], target: Target) -> Callable[[list[Outcome]], Json]:
    """Reads an object back: from the answer of the last step where it holds the object, else by asking for it."""
    return lambda outcomes: (
        next((o.answer for o in reversed(outcomes) if isinstance(o.answer, dict) and not o.step.hidden), None)
        or azure.arm.ask(endpoint, target)
    )


def removal(azure: Azure, endpoint: Endpoint[Target], target: Target, missing_code: str) -> Callable[[], object]:
    """Deletes something. ALREADY where Azure says, by a 204 or that code, that it was not there any more."""

    def act() -> object:
        try:
            answer = azure.arm.call(endpoint, target)
        except ServiceError as error:
            if error.status == 404 and error.code == missing_code and not error.repeated:
                return ALREADY
            raise
        azure.arm.body(answer, endpoint.action.format(target), endpoint.shape)
        return ALREADY if answer.status_code == 204 and not answer.history else None

    return act


def one_request(
    target: str,
    view: View,
    item: Any,
    differing: tuple[Json, Json],
    name: str,
    act: Callable[[], object],
    read: Callable[[], Any],
    look: Callable[[AzureStorageError], Json | bool | None] | None = None,
    **more: Any,
) -> Plan:
    """A change by one request, of an object that is read again afterwards, also where the answer was lost.

    differing: what is and what is wanted. look: whether a request whose answer was lost was carried out; by default,
    whether the object is as wanted. more: other fields of the Plan.
    """
    before, after = differing
    plan = Plan(target, before, after, view, item=item, **{"read_back": lambda outcomes: read(), **more})
    landed = look or (lambda error: not astray(after, plan.state(read()), plan.equal))
    return replace(plan, steps=[Step(name, act, landed)])


def settings_plan(
    target: str,
    view: View,
    found: Json | None,
    wanted: Json,
    state: Callable[[Any], Json],
    step: str,
    write: Callable[[], Json | None],
    read: Callable[[], Json | None],
    equal: Sameness = same,
) -> Plan:
    """One request that gives an object the settings that are wanted. The object tells whether a lost one was carried out;
    it is read where the answer does not hold it."""
    return one_request(
        target,
        view,
        found,
        differences(state(found), wanted, equal),
        step,
        write,
        read,
        lambda error: not differences(state(read()), wanted, equal)[1],
        read_back=lambda outcomes: outcomes[-1].answer or read() or [],
        state=state,
        equal=equal,
    )


def removal_plan(
    target: str,
    view: View,
    found: Json | None,
    state: Callable[[Any], Json],
    step: str,
    remove: Callable[[], object],
    there: Callable[[], Json | None],
) -> Plan:
    """One request that removes an object. Whether it is gone is looked at, and not taken from the answer."""
    settings = state(found) if found else {}
    return one_request(
        target,
        view,
        found,
        (settings, dict.fromkeys(settings)),
        step,
        remove,
        there,
        lambda error: there() is None,
        read_back=lambda outcomes: there() or [],
        state=state,
    )


def update_plan(azure: Azure, account: AccountRef, current: Json, body: Json) -> Plan:
    """What turns an account into what is wanted, in one PATCH."""
    patch, before, after = account_patch(current, body)
    where = {**account.arguments, **({"replace_tags": "true"} if "tags" in before else {})}
    return Plan(
        account.id,
        before,
        after,
        ACCOUNT_VIEW,
        [patch_step(azure, account, patch, "update the account")],
        item=current,
        read_back=last_answer(azure, api_for(ACCOUNT_GET, patch), account),
        undo=undo_with("account-update", where, UPDATE_FIELDS),
        note=caveats(after),
        done=cannot_undo(before, UPDATE_FIELDS, after),
    )


@command(
    "azure-storage-account-create-update",
    needs=(READ_ACCOUNT, WRITE_ACCOUNT),
    role=ACCOUNT_CONTRIBUTOR,
    polling=Polling(10, 600),
    aliases={
        "enc_requireInfrastructureEncryption": "enc_require_infrastructure_encryption",
        "network_ruleset_ipRules": "network_ruleset_ip_rules",
    },
    execution=True,
)
def account_create_update(
    azure: Azure,
    account: AccountArgs,
    body: AccountBody,
    *,
    operation_url: Annotated[str, pattern("the ID of a running operation", "[0-9a-f]{32}")] | None = None,
) -> Plan | Later:
    """Creates the account, or changes what is given of one that is there."""
    line = command_line("account-delete", account.arguments)
    plan = Plan(account.id, {}, body, ACCOUNT_VIEW, undo=lambda before, after: line)
    if operation_url:
        request = Request("GET", azure.kept(operation_url), ACCOUNT_CREATE.action.format(account))
        later = creating(azure, account, azure.arm.send(request, (200, 201, 202), WRITE_ACCOUNT))
        created = {} if later else account_now(azure, account)
        return later or replace(plan, after=created_settings(created), item=created, carried_out=True)
    check_account_body(body)
    current = azure.arm.ask_if_there(ACCOUNT_GET, account, "ResourceNotFound")
    if current is not None:
        return update_plan(azure, account, current, body)
    check_creation(account, body)
    create = Step(
        "create the account",
        lambda: azure.arm.call(ACCOUNT_CREATE, account, body),
        lambda error: azure.arm.ask_if_there(ACCOUNT_GET, account, "ResourceNotFound") is not None,
    )
    text = f"Azure is creating storage account {account}. Run `!azure-storage-account-list account_name={account}` to look at it."
    return replace(
        plan,
        steps=[create],
        read_back=lambda outcomes: account_now(azure, account),
        equal=uncompared,
        later=lambda outcomes: creating(azure, account, outcomes[0].answer, text),
    )


def creating(azure: Azure, account: AccountRef, answer: requests.Response | None, text: str = "") -> Later | None:
    """What a polling round goes on with while Azure is still creating the account. The address of the operation carries a
    signature, so that the round gets a handle to it.

    https://learn.microsoft.com/azure/azure-resource-manager/management/async-operations
    """
    if answer is None:
        return None
    state = str(json_object(text_of(answer)).get("status") or "").lower()
    if state in ("failed", "canceled"):
        raise AzureStorageError(
            f"Azure could not create storage account {account}: {parse_arm_error(text_of(answer))[1] or state}."
        )
    if answer.status_code != 202 and state in ("", "succeeded"):
        return None
    location = answer.headers.get("Location") or answer.headers.get("Azure-AsyncOperation") or answer.url
    return Later(text, {**account.arguments, "operation_url": azure.keep(location)})


def created_settings(account: object) -> Json:
    """What stands for an account that was created or is deleted: what a person would name it by."""
    return {key: at_path(account, key) for key in ("name", "location", "kind", "sku")}


def check_account_body(body: Json) -> None:
    """Refuse combinations that ARM would refuse in less helpful words, and put the bypass list into ARM's form."""
    domain = at_path(body, "properties.customDomain") or {}
    if "useSubDomainName" in domain and "name" not in domain:
        raise missing("custom_domain_name", "a domain name, which `use_sub_domain_name` goes with")
    rules = at_path(body, "properties.networkAcls") or {}
    if "bypass" in rules:
        rules["bypass"] = bypass_text(rules["bypass"])
    encryption = at_path(body, "properties.encryption") or {}
    vault = encryption.get("keyvaultproperties") or {}
    if encryption.get("keySource") == "Microsoft.Keyvault" and not {"keyname", "keyvaulturi"} <= set(vault):
        raise invalid(
            "enc_key_source", "Microsoft.Keyvault needs `enc_keyvault_key_name` and `enc_keyvault_uri` as well."
        )


def bypass_text(values: list[str]) -> str:
    if "None" in values and len(values) > 1:
        raise invalid("network_ruleset_bypass", "`None` can't be combined with other values.")
    return ", ".join(values)


def check_creation(account: AccountRef, body: Json) -> None:
    """A new account needs three things, and firewall rules a default action."""
    lacking = [f"`{name}`" for name in ("sku", "kind", "location") if name not in body]
    if lacking:
        raise UsageError(
            f"Storage account {account} is not in resource group {account.group}. To create it, also give {', '.join(lacking)}."
        )
    rules = at_path(body, "properties.networkAcls")
    if rules and "defaultAction" not in rules:
        raise missing("network_ruleset_default_action", "Allow or Deny, which the network rules of a new account need")


@command("azure-storage-account-update", needs=(READ_ACCOUNT, WRITE_ACCOUNT), role=ACCOUNT_CONTRIBUTOR, execution=True)
def account_update(azure: Azure, account: TargetArgs, body: AccountUpdate, replace_tags: Flag = False) -> Plan:
    """Changes what is given and nothing else; never creates. Tags are added to those that are there, unless told to replace."""
    if not body:
        raise UsageError(
            "Missing required argument: give at least one of the settings, such as `allow_shared_key_access=false`."
        )
    check_account_body(body)
    current = azure.arm.ask(api_for(ACCOUNT_GET, body), account)
    policy = at_path(body, "properties.sasPolicy")
    if policy and not merged(at_path(current, "properties.sasPolicy") or {}, policy).get("sasExpirationPeriod"):
        raise missing("sas_expiration_period", "the period after which `sas_expiration_action` is taken")
    if policy and not at_path(current, "properties.sasPolicy"):
        policy.setdefault("expirationAction", "Log")  # ARM wants both
    if "tags" in body and not replace_tags:
        body["tags"] = {**(current.get("tags") or {}), **body["tags"]}
    return update_plan(azure, account, current, body)


# What a setting leaves possible, and what it breaks: said whenever it is set.
# fmt: off
CAVEATS: Mapping[str, tuple[object, str]] = {
    "allowBlobPublicAccess": (False, "keys, shared access signatures and signed-in identities. A static website ($web) also stays public: only turning it off or a network deny closes it."),
    "allowSharedKeyAccess": (False, "user delegation SAS (!azure-storage-account-delegation-keys-revoke), signed-in identities, anonymous access to public containers and SFTP local users. Azure Files and every client that signs in with a key stop working."),
    "publicNetworkAccess": ("Disabled", "private endpoints, Azure Resource Manager, resource instances and the trusted services exception. Our own blob commands are cut off unless they use a private endpoint. The default network action stays as it is."),
    "networkAcls.defaultAction": ("Deny", "listed addresses and subnets, private endpoints, resource instances and the services in the bypass. Blob commands need the address of this engine in the rules (!azure-storage-account-network-rule-add). Address rules have no effect on clients in the account's own region."),
    "isSftpEnabled": (False, "local users and their keys are kept; they work again when SFTP is turned on."),
    "isLocalUserEnabled": (False, "local users are kept; they work again when they are enabled."),
    "sasPolicy.expirationAction": ("Log", "a SAS with a longer lifetime, which is only logged; Block refuses it."),
    "allowCrossTenantReplication": (False, "replication policies that exist. Azure refuses the setting while one of them replicates to another tenant: delete it first."),
}
# fmt: on


def caveats(after: Json) -> str:
    """What stays possible with the settings of an account that were changed."""
    properties = after.get("properties") or {}
    words = [text for path, (value, text) in CAVEATS.items() if at_path(properties, path) == value]
    return "\n".join(f"Still allowed: {text}" for text in words)


@command(
    "azure-storage-account-delete",
    needs=(READ_ACCOUNT, DELETE_ACCOUNT),
    role=ACCOUNT_CONTRIBUTOR,
    confirm=True,
    execution=True,
)
def account_delete(azure: Azure, account: TargetArgs) -> Plan:
    """Deletes the account with all that is in it. `confirm` repeats its name, since nothing of ours brings it back."""

    def there() -> Json | None:
        return azure.arm.ask_if_there(ACCOUNT_GET, account, "ResourceNotFound")

    try:
        current: Json | None = account_now(azure, account)
    except ServiceError as error:
        if (error.status, error.code) != (404, "ResourceNotFound"):
            raise
        if azure.look_elsewhere(error):
            return account_delete(azure, azure.account(account.name, "", ""))
        current = None
    plan = removal_plan(
        account.id,
        DELETED_ACCOUNT_VIEW,
        current,
        created_settings,
        "delete the account",
        removal(azure, ACCOUNT_DELETE, account, "ResourceNotFound"),
        there,
    )
    return replace(
        plan,
        missed=f"There is no storage account {account} in resource group {account.group}.",
        note=f"The account {account} with everything in it." if current else "",
        done="Deleted. For 14 days Azure may be able to restore it in the portal (Storage accounts, Restore), if its name is free.",
        confirm=(account.name, "This deletes the account with everything in it, and nothing undoes it."),
    )


# --- commands: keys ----------------------------------------------------------------------------------------------------


def key_rows(account: AccountRef, current: Json) -> list[Json]:
    """The keys by name, with their age. A key that was never rotated may have no time."""
    times = at_path(current, "properties.keyCreationTime") or {}
    made = {name: moment(times.get(name)) for name in ("key1", "key2")}
    return [
        {
            "id": f"{account.id}#{name}",
            "account": account.name,
            "keyName": name,
            "creationTime": times.get(name),
            "ageInDays": None if since is None else int((Clock.now() - since) // 86_400),
        }
        for name, since in made.items()
    ]


@command("azure-storage-account-key-list", needs=(READ_ACCOUNT, LIST_KEYS), role=ACCOUNT_CONTRIBUTOR, execution=True)
def account_key_list(azure: Azure, account: TargetArgs, show_values: Flag = False) -> CommandResults:
    """When the keys were made. Without show_values no key is asked for, so that the role Reader is enough and none can leak."""
    view, rows, note = KEYS_VIEW, key_rows(account, account_now(azure, account)), ""
    if show_values:
        values = {key.get("keyName"): key.get("value") for key in azure.arm.keys(account)}
        view, rows = VALUES_VIEW, [{**row, "value": values.get(row["keyName"])} for row in rows]
        note = "The values are secrets: whoever has one controls the account. They are now in this investigation. Rotate them when you are done."
    return CommandResults(
        outputs={view.context: rows},
        readable_output=table(view, rows, note=note),
        raw_response=rows,
        tags=["sensitive"] if show_values else None,
    )


@command(
    "azure-storage-account-key-rotate", needs=(READ_ACCOUNT, REGENERATE_KEY), role=ACCOUNT_CONTRIBUTOR, execution=True
)
def account_key_rotate(
    azure: Azure,
    account: TargetArgs,
    key: Annotated[str, choice("key1", "key2", "both")],
    created_before: Moment | None = None,
) -> Plan:
    """Makes new keys; shows no value. With created_before a key that is newer is left, so that a playbook can run twice."""
    current = account_now(azure, account)
    times = {row["keyName"]: row["creationTime"] for row in key_rows(account, current)}
    chosen = [name for name in times if key in ("both", name)]
    due = [name for name in chosen if not created_before or (moment(times[name]) or 0) < created_before]
    others = "user delegation SAS, signed-in identities" + (" and the other key." if len(due) == 1 else ".")
    return Plan(
        account.id,
        {name: times[name] for name in due},
        dict.fromkeys(due, NEW),
        KEYS_VIEW,
        [rotation(azure, account, name, times[name]) for name in due],
        item=key_rows(account, current),
        read_back=lambda outcomes: key_rows(account, account_now(azure, account)),
        state=lambda rows: {row["keyName"]: row["creationTime"] for row in rows},
        missed="No changes needed: the keys are newer than created_before.",
        note=f"Nothing undoes a rotation. Still allowed: {others}" if due else "",
        done="Every SAS and connection that was signed with a rotated key has stopped working.",
        tell_steps=len(due) > 1,
    )


def rotation(azure: Azure, account: AccountRef, key: str, made: str | None) -> Step:
    """A new key. A lost answer is not believed: repeating it blindly would rotate the key again."""

    def look(error: AzureStorageError) -> bool:
        return at_path(account_now(azure, account), f"properties.keyCreationTime.{key}") not in (None, made)

    rotate, detail = (
        partial(azure.arm.keys, account, key),
        f"{key} is new. Whatever was signed with the old one is void.",
    )
    return Step(f"rotate {key}", lambda: bool(rotate()), look, detail, vital=False)


REVOKED = "User delegation SAS are void. It can take some minutes, since Azure caches keys and roles."


@command(
    "azure-storage-account-delegation-keys-revoke",
    needs=(READ_ACCOUNT, REVOKE_DELEGATION_KEYS),
    role=ACCOUNT_CONTRIBUTOR,
    execution=True,
)
def account_delegation_keys_revoke(azure: Azure, account: TargetArgs) -> Plan:
    """Ends every user delegation SAS of the account. Azure does not tell which there are, so this is always a change."""
    return Plan(
        account.id,
        {"userDelegationKeys": "valid"},
        {"userDelegationKeys": "revoked"},
        DELEGATION_VIEW,
        [revocation(azure, account)],
        item=account_now(azure, account),
        note="Nothing undoes it. In urgent cases, also deny the network.\n"
        "Still allowed: the identity that signed can request a new key as long as it has its role; account keys and SAS signed with them.",
        done=REVOKED,
    )


def revocation(azure: Azure, account: AccountRef) -> Step:
    """Revoking twice does no harm, so that the transport may repeat it; nothing tells whether a lost one was carried out."""
    revoke = partial(azure.arm.ask, DELEGATION_KEYS_REVOKE, account)
    return Step("delegation_keys", revoke, detail=REVOKED, vital=False)


# --- commands: network rules -------------------------------------------------------------------------------------------

# argument -> (the list in networkAcls, what names a rule in it)
RULES = {
    "ip_rules": ("ipRules", "value"),
    "subnet_ids": ("virtualNetworkRules", "id"),
    "resource_ids": ("resourceAccessRules", "resourceId"),
}
RULE_KEYS = dict(RULES.values())
RULE_ARGUMENTS = {
    "ip_rules": optional(Annotated[list[Json], IP_RULES._replace(many=True)]),
    "subnet_ids": optional(Annotated[list[Json], SUBNET_RULES._replace(many=True)]),
    "resource_ids": optional(
        Annotated[list[Json], Reader("ARM IDs of resources, separated by commas", read_resource_rules, many=True)]
    ),
}
Rules = dict[str, list[Json]]


def build_rules(azure: Azure, given: Given) -> Rules:
    rules = {RULES[name][0]: once(value) for name, value in given.items() if value}
    if not rules:
        raise missing("ip_rules", "addresses to allow; or subnet_ids, or resource_ids")
    return rules


RuleArgs = Annotated[Rules, Group(RULE_ARGUMENTS, build_rules)]


def once(rules: list[Json]) -> list[Json]:
    """The rules without those that are there twice."""
    return list({canonical(rule): rule for rule in rules}.values())


def rules_of(current: object, kind: str) -> list[Json]:
    return dicts(at_path(current, f"properties.networkAcls.{kind}"))


def other_rules(rules: list[Json], known: list[Json], kind: str) -> list[Json]:
    """The rules that are not among the known ones, by what names a rule of that kind."""
    key = RULE_KEYS[kind]
    names = {canonical(rule.get(key)) for rule in known}
    return [rule for rule in rules if canonical(rule.get(key)) not in names]


@command(
    "azure-storage-account-network-rule-add",
    needs=(READ_ACCOUNT, WRITE_ACCOUNT),
    role=ACCOUNT_CONTRIBUTOR,
    execution=True,
)
def account_network_rule_add(azure: Azure, account: TargetArgs, rules: RuleArgs, tenant_id: Text | None = None) -> Plan:
    """Adds to the rules that are there. Rules count only while the default action is Deny."""
    instances = rules.get("resourceAccessRules", [])
    if tenant_id and not instances:
        raise missing("resource_ids", "the resource instances, which `tenant_id` goes with")
    if instances and not tenant_id:
        tenant_id = azure.arm.ask(SUBSCRIPTION_GET, Scope(subscription_path(account.subscription))).get("tenantId")
    for rule in instances:
        rule["tenantId"] = tenant_id
    current = account_now(azure, account)
    there = {kind: rules_of(current, kind) for kind in rules}
    new = {kind: other_rules(given, there[kind], kind) for kind, given in rules.items()}
    plan = rules_plan(azure, account, current, {kind: there[kind] + new[kind] for kind in rules}, "remove", new)
    return replace(plan, note=idle_rules(current))


def idle_rules(current: Json) -> str:
    """Why rules have no effect at present; empty where they have."""
    public = at_path(current, "properties.publicNetworkAccess") or "Enabled"
    if public != "Enabled":
        return f"Public network access is {public}: rules for addresses and subnets have no effect."
    if at_path(current, "properties.networkAcls.defaultAction") == "Deny":
        return ""
    return "The rules have no effect until the default network action is Deny: all networks are allowed now."


@command(
    "azure-storage-account-network-rule-remove",
    needs=(READ_ACCOUNT, WRITE_ACCOUNT),
    role=ACCOUNT_CONTRIBUTOR,
    execution=True,
)
def account_network_rule_remove(azure: Azure, account: TargetArgs, rules: RuleArgs) -> Plan:
    """Removes the rules that are given; one that is not there counts as removed."""
    current = account_now(azure, account)
    kept = {kind: other_rules(rules_of(current, kind), given, kind) for kind, given in rules.items()}
    gone = {kind: [rule for rule in rules_of(current, kind) if rule not in others] for kind, others in kept.items()}
    return rules_plan(azure, account, current, kept, "add", gone)


def rules_plan(azure: Azure, account: AccountRef, current: Json, wanted: Rules, back: str, rules: Rules) -> Plan:
    """A change of the rules, and how it is taken back: these are added or removed again."""
    plan = update_plan(azure, account, current, {"properties": {"networkAcls": wanted}})
    names = {
        name: ",".join(str(rule[key]) for rule in rules[kind]) for name, (kind, key) in RULES.items() if rules.get(kind)
    }
    tenants = {rule.get("tenantId") for rule in rules.get("resourceAccessRules", []) if back == "add"}
    extra = {"tenant_id": tenants.pop()} if len(tenants) == 1 else {}
    line = command_line(f"account-network-rule-{back}", account.arguments, names, given_only(extra))
    return replace(plan, view=NETWORK_VIEW, done="", undo=lambda before, after: line)


# --- commands: locks ---------------------------------------------------------------------------------------------------

READ_ONLY_WARNING = (
    "ReadOnly blocks every change through Azure Resource Manager, and listing and rotating keys, revoking delegation keys, legal holds and "
    "restores, also ours, until it is removed; so set it last. Azure Files and tools that list keys stop working. It does not protect blobs: "
    "they can still be read, written and deleted. Keys that were listed before keep working."
)
DELETE_WARNING = "CanNotDelete prevents the account and its containers from being deleted through Azure Resource Manager. Blobs can still be deleted."


def is_below(scope: object, other: object) -> bool:
    """Whether the first ARM ID is the second one, or of something in it."""
    return f"{plain_id(scope)}/".startswith(f"{plain_id(other)}/")


def scope_of_lock(lock: Json | None) -> str:
    return str(LOCKS_VIEW.row(lock)["Scope"]) if lock else ""


def named_lock(azure: Azure, account: AccountRef, name: str) -> Json | None:
    """The lock of that name, in any case: one of the account itself before one that it inherits or that is on a part of it."""
    locks = azure.arm.listing(LOCKS_LIST, account).items
    found = [lock for lock in locks if str(lock.get("name")).lower() == name.lower()]
    return min(found, key=lambda lock: not is_own_lock(account, lock), default=None)


def is_own_lock(account: AccountRef, lock: Json | None) -> bool:
    return plain_id(scope_of_lock(lock)) == plain_id(account.id)


@command("azure-storage-account-lock-list", needs=(READ_LOCKS,), role="Reader")
def account_lock_list(azure: Azure, account: TargetArgs) -> CommandResults:
    """Also those that the account inherits from its group and subscription."""
    return show_list(LOCKS_VIEW, azure.arm.listing(LOCKS_LIST, account))


def lock_state(lock: object) -> Json:
    """The settings of a lock that are there."""
    return given_only({name: at_path(lock, f"properties.{name}") for name in ("level", "notes")})


@command("azure-storage-account-lock-set", needs=(READ_LOCKS, WRITE_LOCKS), role=LOCKS_ROLE, execution=True)
def account_lock_set(
    azure: Azure,
    account: TargetArgs,
    level: Annotated[str, choice("CanNotDelete", "ReadOnly")] = "CanNotDelete",
    lock_name: LockName = "cortex-xsoar",
    notes: Text | None = None,
) -> Plan:
    def own_lock() -> Json | None:
        lock = named_lock(azure, account, lock_name)
        return lock if is_own_lock(account, lock) else None

    found, wanted = own_lock(), given_only({"level": level, "notes": notes})
    old: Json = at_path(found, "properties") or {}
    where = {**account.arguments, "lock_name": lock_name}
    line = (
        command_line("account-lock-set", where, lock_state(found))
        if found
        else command_line("account-lock-remove", where)
    )
    plan = settings_plan(
        f"{account.id}{LOCKS_PATH}/{segment(lock_name)}",
        LOCKS_VIEW,
        found,
        wanted,
        lock_state,
        "set the lock",
        lambda: azure.arm.ask(LOCK_SET, account, {"properties": {**old, **wanted}}, name=lock_name),
        own_lock,
    )
    return replace(
        plan,
        undo=lambda before, after: line,
        note=READ_ONLY_WARNING if level == "ReadOnly" else DELETE_WARNING,
        done="The undo leaves the notes as they are." if found and notes and not old.get("notes") else "",
    )


@command(
    "azure-storage-account-lock-remove", needs=(READ_LOCKS, DELETE_LOCKS), role=LOCKS_ROLE, confirm=True, execution=True
)
def account_lock_remove(azure: Azure, account: TargetArgs, lock_name: LockName) -> Plan:
    """An inherited lock protects everything in its group or subscription: removing it needs `confirm`. So does one of a
    part of the account, which nothing of ours sets again."""
    found = named_lock(azure, account, lock_name)
    scope, own = scope_of_lock(found), is_own_lock(account, found)
    target = str(at_path(found, "id") or f"{account.id}{LOCKS_PATH}/{segment(lock_name)}")
    lock = Scope(id_path(target), lock_name)

    def there() -> Json | None:
        now = named_lock(azure, account, lock_name)
        return now if plain_id(at_path(now, "id")) == plain_id(at_path(found, "id")) else None

    plan = removal_plan(
        target,
        LOCKS_VIEW,
        found,
        lock_state,
        "remove the lock",
        removal(azure, LOCK_DELETE, lock, "LockNotFound"),
        there,
    )
    line = command_line("account-lock-set", account.arguments, {"lock_name": lock_name}, plan.before) if own else ""
    wide = (
        "is inherited: it protects everything in"
        if is_below(account.id, scope)
        else "protects only a part of the account:"
    )
    words = f"The lock {wide} {scope}." if found and not own else ""
    return replace(
        plan,
        undo=lambda before, after: line,
        note=words,
        missed=f"There is no lock {lock_name} on {account}.",
        confirm=(scope.rpartition("/")[2], f"{words} Nothing undoes it.") if words else None,
    )


# --- commands: access --------------------------------------------------------------------------------------------------


class Right(NamedTuple):
    """What a role can allow on an account: any of the operations is enough. Below the account only `data` counts, and
    granting access."""

    name: str
    words: str
    operations: tuple[str, ...]
    data: bool = False


# Rotating a key returns it, and an account or service SAS is signed with one.
KEY_OPERATIONS = (
    LIST_KEYS,
    REGENERATE_KEY,
    *(f"{STORAGE_ACCOUNTS}/{name}/action" for name in ("listAccountSas", "listServiceSas")),
)
RIGHTS = (
    Right("readBlobs", "read blobs", (READ_BLOB,), data=True),
    Right("writeBlobs", "write blobs", (WRITE_BLOB, ADD_BLOB, DELETE_BLOB), data=True),
    Right("listKeys", "list keys", KEY_OPERATIONS),
    Right("changeAccount", "change the account", (WRITE_ACCOUNT, DELETE_ACCOUNT)),
    Right("grantAccess", "grant access", (WRITE_ROLES,)),
)
DATA_RIGHTS = tuple(right.name for right in RIGHTS if right.data)
ASSIGNMENT_ID = re.compile(rf"(?i)(?:/[^?#]*)?/providers/Microsoft\.Authorization/roleAssignments/{GUID.pattern}")
MANAGEMENT_GROUP = "/providers/microsoft.management/managementgroups/"
AT_SCOPE = {"$filter": "atScope()"}
NOT_LISTED = (
    "Not included: members of groups, eligible assignments of Privileged Identity Management, deny assignments, classic administrators, "
    "delegations of Azure Lighthouse, access control lists (ACLs) of a hierarchical namespace, SFTP local users, and SAS that were handed out."
)
BY_KEY = "Shared Key access is allowed: a role that lists keys counts as access to all data."
NO_KEYS = "Shared Key access is disabled: keys give no data. A role that also changes the account can enable Shared Key access."
ROLE_DELAY = "Azure caches role assignments: it can take up to 10 minutes until the change applies everywhere."


def listed_in(patterns: object, operation: str) -> bool:
    """Whether a list of operations with wildcards holds an operation; Azure compares without case."""
    return isinstance(patterns, list) and any(
        re.fullmatch(re.escape(str(pattern)).replace(r"\*", ".*"), operation, re.IGNORECASE) for pattern in patterns
    )


def permits(definition: Json, right: Right) -> bool:
    """Whether a role has a right: one of its permissions allows an operation and does not take it out again."""
    allowed, excluded = ("dataActions", "notDataActions") if right.data else ("actions", "notActions")
    return any(
        listed_in(permission.get(allowed), operation) and not listed_in(permission.get(excluded), operation)
        for permission in dicts(at_path(definition, "properties.permissions"))
        for operation in right.operations
    )


def scope_kind(account: AccountRef, scope: str) -> str:
    """What a scope is, seen from an account that an assignment at it reaches."""
    plain = plain_id(scope)
    if is_below(scope, account.id):
        below = plain.removeprefix(plain_id(account.id))
        parts = {"": "account", "/blobservices/default": "blob service"}
        return parts.get(below) or ("container" if "/containers/" in below else "other service")
    if plain.startswith(MANAGEMENT_GROUP):
        return "management group"
    return "resource group" if "/resourcegroups/" in plain else "subscription" if plain else "tenant root"


WIDER = frozenset({"resource group", "subscription", "management group", "tenant root"})


def allowed_here(definition: Json, kind: str, shared_key: bool) -> Json:
    """Each right of a role, by its name, at a scope of a kind; dataByKeys: data is reached only with a key."""
    reaches = {
        right.name: permits(definition, right)
        and kind != "other service"
        and (kind not in ("container", "blob service") or right.data or right.name == "grantAccess")
        for right in RIGHTS
    }
    own = all(reaches[name] for name in DATA_RIGHTS)
    by_keys = reaches["listKeys"] and shared_key and not own
    return {**reaches, **(dict.fromkeys(DATA_RIGHTS, True) if by_keys else {}), "dataByKeys": by_keys}


def in_text(value: object) -> str:
    """A value in a text for people, without a live link or image."""
    return md(shown(value))


def role_guid(definition: object) -> str:
    return plain_id(definition).rpartition("/")[2]


def assignment_row(
    assignment: Json, account: AccountRef, definitions: Mapping[str, Json] | None, shared_key: bool
) -> Json:
    """A role assignment as context has it. A role whose definition could not be read has no rights in it: they are not
    known."""
    properties = at_path(assignment, "properties") or {}
    kind = scope_kind(account, str(properties.get("scope") or ""))
    role = (definitions or {}).get(role_guid(properties.get("roleDefinitionId")))
    rights = allowed_here(role, kind, shared_key) if role else {}
    words = [right.words for right in RIGHTS if rights.get(right.name)]
    return {
        "id": assignment.get("id"),
        "name": assignment.get("name"),
        "account": account.name,
        **properties,
        "role": at_path(role, "properties.roleName") or role_guid(properties.get("roleDefinitionId")),
        "scopeType": kind,
        "inherited": kind in WIDER,
        **rights,
        "allows": (words or ["nothing on blobs, keys or the account"]) if role else ["unknown"],
    }


def merged_assignments(*lists: Iterable[Json]) -> list[Json]:
    """Assignments of several lists, each once."""
    return list({plain_id(item.get("id")): item for item in itertools.chain(*lists)}.values())


def role_assignments(azure: Azure, account: AccountRef) -> list[Json]:
    """All that reach the account: at and above it, and (without the filter) below it, on its containers."""
    lists = (azure.arm.listing(ASSIGNMENTS_LIST, account, params=params).items for params in (AT_SCOPE, None))
    return merged_assignments(*lists)


def assignment_rows(azure: Azure, account: AccountRef) -> tuple[list[Json], bool]:
    """The rows of all assignments, and whether Shared Key access is allowed."""
    shared_key = at_path(account_now(azure, account), "properties.allowSharedKeyAccess") is not False
    found = role_assignments(azure, account)
    definitions = by_guid(azure.arm.listing(DEFINITIONS_LIST, account).items)
    return [assignment_row(item, account, definitions, shared_key) for item in found], shared_key


def by_guid(definitions: Iterable[Json]) -> dict[str, Json]:
    return {role_guid(item.get("id")): item for item in definitions}


def allows_words(row: Json) -> str:
    return ", ".join(row.get("allows") or []) + (" (data by account key)" if row.get("dataByKeys") else "")


# fmt: off
ACCESS_VIEW = View("RoleAssignment", "Role assignments that reach a storage account", {"Principal": "principalId", "Type": "principalType", "Role": "role", "Allows": allows_words, "Scope": "scope", "Inherited": "inherited", "Condition": "condition", "Created by": "createdBy", "Created": short_time("createdOn"), "Assignment": "name"})
# fmt: on
REMOVED = ACCESS_VIEW._replace(name="RemovedRoleAssignment").context
REMEMBERED = (
    *("id", "name", "account", "scope", "role", "roleDefinitionId", "principalId", "principalType"),
    *("condition", "conditionVersion", "description"),
)
Principal = Annotated[str, Reader("an object ID (GUID)", lambda text: matching(GUID, text).lower())]


@command("azure-storage-access-list", needs=(READ_ACCOUNT, READ_ROLES, READ_DEFINITIONS), role="Reader")
def access_list(azure: Azure, account: TargetArgs, principal_id: Principal | None = None) -> CommandResults:
    """Who has a role on the account, from wherever it is assigned, and what the role allows here."""
    rows, shared_key = assignment_rows(azure, account)
    kept = [row for row in rows if principal_id in (None, str(row.get("principalId")).lower())]
    narrowed = "Conditions are shown and not evaluated: they can narrow what a role allows."
    parts = (BY_KEY if shared_key else NO_KEYS, narrowed if any(row.get("condition") for row in kept) else "")
    text = table(ACCESS_VIEW, kept, note=" ".join(filter(None, (*parts, NOT_LISTED))))
    return CommandResults(outputs={ACCESS_VIEW.context: kept}, readable_output=text, raw_response=kept)


def assignment_pattern(words: str, regex: str) -> Reader:
    return Reader(words, lambda text: matching(re.compile(regex), unquoted(text).rstrip("/")))


AssignmentId = Annotated[str, assignment_pattern("the ARM ID of a role assignment", ASSIGNMENT_ID.pattern)]
AssignmentName = Annotated[
    str,
    assignment_pattern("the ARM ID or the name (GUID) of a role assignment", f"{ASSIGNMENT_ID.pattern}|{GUID.pattern}"),
]
RoleId = Annotated[str, pattern("the ARM ID of a role definition", rf"/[^?#]*/{GUID.pattern}")]
PrincipalType = Annotated[str, choice("User", "Group", "ServicePrincipal", "ForeignGroup", "Device")]
# What a restored assignment is made of.
ASSIGNMENT_FIELDS = {
    "role_definition_id": BodyField(required(RoleId), "roleDefinitionId"),
    "principal_id": BodyField(required(Principal), "principalId"),
    **body_fields(
        ("principal_type", PrincipalType, "principalType"),
        ("condition", Text, "condition"),
        ("condition_version", Text, "conditionVersion"),
        ("description", Text, "description"),
        ("delegated_identity_id", ArmId, "delegatedManagedIdentityResourceId"),
    ),
}
AssignmentBody = Annotated[Json, body_group(ASSIGNMENT_FIELDS)]


def assignment_state(item: object) -> Json:
    """What makes an assignment, of one as Azure or as context has it."""
    found = item["properties"] if isinstance(item, dict) and "properties" in item else item
    return given_only({field.path: at_path(found, field.path) for field in ASSIGNMENT_FIELDS.values()})


def wide_name(account: AccountRef, scope: str) -> str:
    """The name of a scope above the account; empty for any other."""
    name = urllib.parse.unquote(scope).rstrip("/").rpartition("/")[2] or "root"
    return name if scope_kind(account, scope) in WIDER else ""


def wide_confirm(account: AccountRef, scope: str, verb: str) -> tuple[str, str] | None:
    """What has to be typed for an assignment that reaches more than the account."""
    name = wide_name(account, scope)
    words = f"The role assignment is {verb} for everything in the {scope_kind(account, scope)} {name}."
    return (name, words) if name else None


def restore_line(account: AccountRef, row: Json) -> str:
    """The command that puts an assignment back as it was."""
    what = {name: row.get(field.path) for name, field in ASSIGNMENT_FIELDS.items()}
    wide = wide_name(account, str(row.get("scope") or "")) or None
    return command_line(
        "access-restore", account.arguments, given_only({"assignment_id": row.get("id"), **what, "confirm": wide})
    )


def with_id(items: Iterable[Json], wanted: str) -> Json | None:
    return next((item for item in items if plain_id(item.get("id")) == plain_id(wanted)), None)


def chosen_assignment(rows: list[Json], wanted: str) -> Json | None:
    """The row with an ARM ID, or with a name that only one has."""
    found = [row for row in rows if plain_id(wanted) in (plain_id(row.get("id")), plain_id(row.get("name")))]
    if len(found) > 1:
        raise invalid("assignment_id", "several role assignments have this name. Give the ARM ID of one.")
    return found[0] if found else None


def other_roles(rows: list[Json], chosen: Json) -> str:
    """What a principal keeps when one of its assignments is removed."""
    others = (row for row in rows if row is not chosen and row.get("principalId") == chosen.get("principalId"))
    names = ", ".join(str(row["role"]) for row in others)
    return f"Still allowed: the other roles of this principal: {in_text(names)}." if names else ""


def check_own_access(azure: Azure, rows: list[Json], chosen: Json, accepted: bool) -> None:
    """The last assignment of the identity that this instance works with is not removed unasked."""
    own = str(token_claims(azure.auth.token(azure.settings.cloud.audience)).get("oid") or "").lower()
    ours = [row for row in rows if own and str(row.get("principalId")).lower() == own]
    if ours == [chosen] and not accepted:
        words = "true, since this is the last role assignment of the identity that this instance works with"
        raise missing("accept_lockout", words)


@command(
    "azure-storage-access-remove",
    needs=(READ_ACCOUNT, READ_ROLES, READ_DEFINITIONS, DELETE_ROLES),
    role=LOCKS_ROLE,
    confirm=True,
    execution=True,
)
def access_remove(
    azure: Azure, account: TargetArgs, assignment_id: AssignmentName, accept_lockout: Flag = False
) -> Plan:
    """Only one that reaches the account. One above it is gone for everything there, so `confirm` is asked for."""
    rows, _ = assignment_rows(azure, account)
    row, missed = chosen_assignment(rows, assignment_id), f"No role assignment {assignment_id} reaches {account}."
    if row is None:
        return Plan(assignment_id, {}, {}, ACCESS_VIEW, missed=missed)
    check_own_access(azure, rows, row, accept_lockout)
    line, target = restore_line(account, row), Scope(id_path(str(row["id"])), str(row["name"]))
    confirm = wide_confirm(account, str(row.get("scope") or ""), "removed")
    notes = (confirm and confirm[1], other_roles(rows, row))

    def removed(outcomes: list[Outcome], change: Json) -> Json:
        kept = {key: row.get(key) for key in REMEMBERED}
        return {REMOVED: {**kept, "restore": line}} if change["changed"] else {}

    plan = removal_plan(
        str(row["id"]),
        ACCESS_VIEW,
        row,
        assignment_state,
        "remove the role",
        removal(azure, ASSIGNMENT_DELETE, target, "RoleAssignmentNotFound"),
        lambda: row if with_id(role_assignments(azure, account), target.id) else None,
    )
    return replace(
        plan,
        undo=lambda before, after: line,
        note=" ".join(filter(None, notes)),
        done=ROLE_DELAY,
        missed=missed,
        confirm=confirm,
        more_context=removed,
    )


def same_part(left: object, right: object) -> bool:
    """Whether two values of an assignment mean the same; the ID of a role comes with its subscription and without."""
    is_role = "/roledefinitions/" in plain_id(right)
    return role_guid(left) == role_guid(right) if is_role else same(left, right)


def same_grant(item: Json, scope: str, wanted: Json) -> bool:
    """Whether an assignment gives the same principal the same role at the same scope; Azure takes no second one."""
    has = at_path(item, "properties") or {}
    return (
        plain_id(has.get("scope")) == plain_id(scope)
        and str(has.get("principalId")).lower() == wanted["principalId"]
        and role_guid(has.get("roleDefinitionId")) == role_guid(wanted["roleDefinitionId"])
    )


def reaching_scope(account: AccountRef, assignment: str) -> str:
    """The scope of an assignment by its ID. UsageError for one that has nothing to do with the account; whether a
    management group holds the account is not told."""
    scope = re.split(r"(?i)/providers/Microsoft\.Authorization/roleAssignments/", assignment)[0]
    related = is_below(account.id, scope) or is_below(scope, account.id)
    if not related and not plain_id(scope).startswith(MANAGEMENT_GROUP):
        raise invalid("assignment_id", f"its scope doesn't reach {account}.")
    return scope


@command("azure-storage-access-restore", needs=(READ_ROLES, WRITE_ROLES), role=LOCKS_ROLE, confirm=True, execution=True)
def access_restore(azure: Azure, account: TargetArgs, assignment_id: AssignmentId, wanted: AssignmentBody) -> Plan:
    """Puts a removed role assignment back, with its own ID. Only one that reaches the account."""
    scope = reaching_scope(account, assignment_id)
    target = Scope(id_path(assignment_id), f"of {wanted['principalId']}")
    confirm = wide_confirm(account, scope, "given")
    where = given_only({"assignment_id": assignment_id, "confirm": confirm and confirm[0]})

    def row_of(items: Iterable[Json]) -> Json | None:
        item = with_id(items, assignment_id)
        return without(assignment_row(item, account, None, False), ["allows"]) if item else None  # no role was read

    items = role_assignments(azure, account)
    found = row_of(items)
    plan = settings_plan(
        assignment_id,
        ACCESS_VIEW,
        found,
        wanted,
        assignment_state,
        "restore the role",
        lambda: row_of([azure.arm.ask(ASSIGNMENT_SET, target, {"properties": wanted})]),
        lambda: row_of(role_assignments(azure, account)),
        same_part,
    )
    if not found and any(same_grant(item, scope, wanted) for item in items):
        plan = replace(plan, before={}, after={})
    line = restore_line(account, found) if found else command_line("access-remove", account.arguments, where)
    return replace(
        plan,
        undo=lambda before, after: line,
        note=confirm[1] if confirm else "",
        missed="No changes needed: the principal has this role at this scope already.",
        done=ROLE_DELAY,
        confirm=confirm,
    )


# --- commands: containment ---------------------------------------------------------------------------------------------

# What an isolation can take back, and what counts as its value where it is not set.
RESTORABLE: Json = {
    "allowBlobPublicAccess": False,
    "networkAcls": {"defaultAction": "Allow", "bypass": "AzureServices", "ipRules": [], "virtualNetworkRules": []},
    "isSftpEnabled": False,
    "allowSharedKeyAccess": True,
}
# The settings of an isolation in the order of their steps: what needs no credential comes first.
SETTINGS_OF = {
    "public_access": "allowBlobPublicAccess",
    "network": "networkAcls",
    "sftp": "isSftpEnabled",
    "shared_key": "allowSharedKeyAccess",
}
PARTS = (*SETTINGS_OF, "delegation_keys", "rotate_keys")
PART_WORDS = {
    "public_access": "Anonymous access to blobs is refused, except to a static website.",
    "network": "Only the listed addresses, subnets, private endpoints and the Azure services in the bypass reach the account.",
    "sftp": "SFTP is off.",
    "shared_key": "Account keys and every SAS signed with one are refused.",
}
DEFENDER_RULE = re.compile(r"(?i)/subscriptions/[^/]+/providers/Microsoft\.Security/datascanners/.+")


class Isolation(NamedTuple):
    """Which parts of an isolation are wanted, who may still come in through the network, and what goes along with it."""

    parts: Mapping[str, bool]
    rules: Json
    keep_existing: bool
    lockout: bool


ISOLATION_ARGUMENTS = {
    **{part: optional(Flag, True) for part in PARTS},
    "own_ip": optional(
        Annotated[
            list[Json],
            Reader("public IPv4 addresses or networks separated by commas, or none", read_own_addresses, many=True),
        ]
    ),
    "keep_ip_rules": RULE_ARGUMENTS["ip_rules"],
    "keep_subnet_ids": RULE_ARGUMENTS["subnet_ids"],
    "keep_existing_rules": optional(Flag, False),
    "network_ruleset_bypass": ACCOUNT_FIELDS["network_ruleset_bypass"].argument,
    "accept_lockout": optional(Flag, False),
}


def build_isolation(azure: Azure, given: Given) -> Isolation:
    """UsageError where we would lock ourselves out unasked, or where the rules that are given would be ignored."""
    own = given["own_ip"] if given["own_ip"] is not None else azure.settings.own_addresses
    if given["network"] and not own and given["own_ip"] is None:
        raise missing(
            "own_ip",
            "the public address of this engine, since a network deny would also cut off our own blob commands. Alternatively set Own Public IP "
            "Addresses in the instance, or own_ip=none to accept that, or network=false",
        )
    bypass, addresses, subnets = (
        given[name] for name in ("network_ruleset_bypass", "keep_ip_rules", "keep_subnet_ids")
    )
    if not given["network"] and (bypass or addresses or subnets or given["keep_existing_rules"]):
        others = ("keep_ip_rules", "keep_subnet_ids", "keep_existing_rules", "network_ruleset_bypass")
        raise exclusive("network=false", *others)
    rules = {
        "defaultAction": "Deny",
        "ipRules": once([*own, *(addresses or [])]),
        "virtualNetworkRules": once(subnets or []),
        **({"bypass": bypass_text(bypass)} if bypass else {}),
    }
    return Isolation(
        {part: given[part] for part in PARTS}, rules, given["keep_existing_rules"], given["accept_lockout"]
    )


IsolationArgs = Annotated[Isolation, Group(ISOLATION_ARGUMENTS, build_isolation)]


@command(
    "azure-storage-account-isolate",
    needs=(READ_ACCOUNT, WRITE_ACCOUNT, REVOKE_DELEGATION_KEYS, REGENERATE_KEY),
    role=ACCOUNT_CONTRIBUTOR,
    execution=True,
)
def account_isolate(azure: Azure, account: TargetArgs, isolation: IsolationArgs) -> Plan:
    """Cuts access to an account in one go. What was before is remembered before the first step, and returned.

    All settings go in one PATCH; only where Azure refuses it, each is sent by itself, so that one that fails leaves the
    others.
    """
    check_own_credential(azure, account, isolation)
    current = account_now(azure, account)
    wanted = isolation_settings(isolation, current)
    patches = {part: account_patch(current, body) for part, body in wanted.items()}
    due = {part: patch for part, (patch, _, _) in patches.items() if patch}
    whole, before, after = (joined_properties(patches[part][side] for part in due) for side in range(3))
    wrote = whole.get("properties", {})
    old = {key: at_path(current, f"properties.{key}") for key in wrote}
    record: Json = {"account": account.id, "time": iso_time(Clock.now()), "settings": old, "wrote": wrote}
    remember = Step("remember the settings", lambda: keep_record(azure, account, record, current), hidden=True)
    others = credential_steps(azure, account, current, isolation)
    names = [step.name for step in others]
    now: Json = {}  # the account afterwards, and a row for each part
    return Plan(
        account.id,
        {**before, **dict.fromkeys(names)},
        {**after, **dict.fromkeys(names, DONE)},
        ISOLATION_VIEW,
        isolation_steps(azure, account, due, remember, others),
        read_back=lambda outcomes: isolation_rows(azure, account, wanted, due, outcomes, now),
        state=lambda rows: {**now, **{row["step"]: DONE for row in rows if row["result"] == DONE}},
        undo=lambda _, new: command_line("account-restore-settings", account.arguments) if "properties" in new else "",
        note=still_open(current, wanted, isolation.parts),
        planned=[*due, *names],
        tell_steps=True,
        item=[part_row(part, PLANNED if part in due else ALREADY, PART_WORDS[part]) for part in wanted]
        + [part_row(name, PLANNED, "") for name in names],
        more_context=lambda outcomes, change: isolation_context(account, record, change, now.get("rows") or []),
    )


def credential_steps(azure: Azure, account: AccountRef, current: Json, isolation: Isolation) -> list[Step]:
    """The steps of an isolation that aren't settings, in their order. Azure refuses two at a time on one account."""
    keys = ("key2", "key1") if isolation.parts["rotate_keys"] else ()
    rotations = (rotation(azure, account, key, at_path(current, f"properties.keyCreationTime.{key}")) for key in keys)
    return [*([revocation(azure, account)] if isolation.parts["delegation_keys"] else []), *rotations]


def joined_properties(bodies: Iterable[Json]) -> Json:
    """One body with the properties of all; {} where there is none."""
    properties = {key: value for body in bodies for key, value in body["properties"].items()}
    return {"properties": properties} if properties else {}


def part_row(step: str, result: str, detail: str) -> Json:
    return {"step": step, "result": result, "detail": detail}


def check_own_credential(azure: Azure, account: AccountRef, isolation: Isolation) -> None:
    """The key or SAS that this instance works with would be refused afterwards; that is asked before, as the address is."""
    credential = azure.settings.storage_credential_for(account.name)
    parts = [part for part in ("shared_key", "rotate_keys", "delegation_keys") if isolation.parts[part]]
    if credential and parts and not isolation.lockout:
        raise missing(
            "accept_lockout",
            f"true, since {', '.join(parts)} would shut out the account key or SAS that this instance uses for {account}. Alternatively clear it "
            "in the instance, so that blob commands sign in, or set these arguments to false",
        )


def isolation_settings(isolation: Isolation, current: Json) -> dict[str, Json]:
    """What each part sets: the exceptions alone, or also the rules that are there; Defender's own rule always stays."""
    instances = rules_of(current, "resourceAccessRules")
    defender = [rule for rule in instances if DEFENDER_RULE.fullmatch(str(rule.get("resourceId")))]
    rules = {**isolation.rules, "resourceAccessRules": defender}
    if isolation.keep_existing:
        for kind in RULE_KEYS:
            rules[kind] = [*other_rules(rules_of(current, kind), rules[kind], kind), *rules[kind]]
    elif rules_of(current, "ipv6Rules"):
        rules["ipv6Rules"] = []
    values = {"public_access": False, "network": rules, "sftp": False, "shared_key": False}
    if at_path(current, "properties.isSftpEnabled") is None:
        del values["sftp"]
    return {part: {"properties": {SETTINGS_OF[part]: value}} for part, value in values.items() if isolation.parts[part]}


def isolation_steps(
    azure: Azure, account: AccountRef, due: Mapping[str, Json], first: Step, others: list[Step]
) -> Generator[Step, Outcome, None]:
    """What Azure refused is forgotten again: whoever sets it by hand later doesn't want it undone with the rest."""
    kept, refused = (yield first), []
    if due:
        whole = patch_step(azure, account, joined_properties(due.values()), ", ".join(due))
        outcome = yield whole._replace(tentative=len(due) > 1)
        refused = [*due] if outcome.result == FAILED else []
        for part in refused if outcome.step.tentative else ():
            outcome = yield patch_step(azure, account, due[part], part)
            refused = [each for each in refused if each != part or outcome.result == FAILED]
    if refused:
        keys = [SETTINGS_OF[part] for part in refused]
        yield Step("forget what was refused", lambda: forget_settings(azure, account, kept.answer, keys), hidden=True)
    for step in others:  # noqa: UP028 - a list takes no outcomes
        yield step


def isolation_rows(
    azure: Azure,
    account: AccountRef,
    wanted: Mapping[str, Json],
    due: Mapping[str, Json],
    outcomes: list[Outcome],
    now: Json,
) -> list[Json]:
    """A row for each part, by what the account says afterwards; a policy or another hand may have put a setting back.
    `now` is filled with the account and the rows."""
    now.update(account_now(azure, account))
    told = {part: outcome for outcome in outcomes for part in outcome.step.name.split(", ")}
    rows = now["rows"] = []
    for part, body in wanted.items():
        there, failure = not account_patch(now, body)[0], told[part].error if part in told else None
        lacking = redact(failure.message) if failure else "Azure accepted the setting, but it is not there any more."
        result = FAILED if not there else DONE if part in due else ALREADY
        rows.append(part_row(part, result, PART_WORDS[part] if there else lacking))
    rows += [o.row() for o in outcomes if not (o.step.hidden or wanted.keys() & o.step.name.split(", "))]
    return rows


def isolation_context(account: AccountRef, record: Json, change: Json, rows: list[Json]) -> Json:
    """rows: what became of each part; empty where nothing was done, or where it could not be read back."""
    steps = rows or change.get("steps", [])
    item = {
        "id": account.id,
        "account": account.name,
        "time": record["time"],
        "complete": change["changed"] and all(row["result"] in (DONE, ALREADY) for row in steps),
        "steps": steps,
        "restore": record,
    }
    return {ISOLATION_VIEW.context: item}


def still_open(current: Json, wanted: Mapping[str, Json], parts: Mapping[str, bool]) -> str:
    """What an isolation leaves open, as far as the account itself tells."""
    network, setting = wanted.get("network"), partial(at_path, current.get("properties"))
    instances = [str(rule.get("resourceId")) for rule in rules_of(network, "resourceAccessRules")]
    approved = [
        str(row.get("name"))
        for row in dicts(setting("privateEndpointConnections"))
        if str(at_path(row, "properties.privateLinkServiceConnectionState.status")).lower() == "approved"
    ]
    bypass = at_path(network, "properties.networkAcls.bypass") or setting("networkAcls.bypass") or "AzureServices"
    services = f"Azure services in the bypass: {bypass} (network_ruleset_bypass=None closes it)"
    region = f"clients in the account's region {current.get('location') or ''}, to which address rules don't apply, where a subnet or the bypass lets them in"
    left = (
        (network and approved, f"private endpoints: {in_text(', '.join(approved))}"),
        (instances, f"resource instances: {in_text(', '.join(instances))}"),
        (network and bypass.lower() != "none", services),
        (network, region),
        (setting("publicNetworkAccess") == "SecuredByPerimeter", "what the network security perimeter allows"),
        (not network, "every network, so that a static website ($web) stays public"),
        (not parts["public_access"], "anonymous access to public containers"),
        (not parts["sftp"] and setting("isSftpEnabled") is True, "SFTP local users"),
        (setting("isNfsV3Enabled") is True, "NFS 3.0 clients in allowed networks"),
        (setting("allowCrossTenantReplication") is not False, "object replication policies, also to other tenants"),
        (True, "identities with a role on the account (!azure-storage-access-list)"),
        (not parts["delegation_keys"], "user delegation SAS (!azure-storage-account-delegation-keys-revoke)"),
        (not parts["shared_key"], "stored access policies and SAS (!azure-storage-container-policy-list)"),
    )
    return "\n".join(f"Still allowed: {words}." for open_still, words in left if open_still)


def keep_record(azure: Azure, account: AccountRef, record: Json, current: Json) -> tuple[Json, Json]:
    """Remember what was before, beside the sessions. A setting that still is what an earlier isolation wrote keeps the
    older value; one that somebody else has changed since counts as it is now. Returns the record and the earlier one."""

    def remember(document: Json) -> tuple[Json, Json]:
        isolations = document["isolations"] = document.get("isolations") or {}
        earlier = isolations.get(account.name) or {}
        wrote, older = earlier.get("wrote") or {}, earlier.get("settings") or {}
        valid = [key for key in older if key in wrote and same(at_path(current, f"properties.{key}"), wrote[key])]
        settings = {**record["settings"], **{key: older[key] for key in valid}}
        merged = {**record, "settings": settings, "wrote": {**{key: wrote[key] for key in valid}, **record["wrote"]}}
        if settings:
            isolations[account.name] = merged
        return merged, earlier

    merged, earlier = azure.store.edit(remember)  # which may try more than once, so that record is changed behind it
    record.update(merged)
    return record, earlier


def forget_settings(azure: Azure, account: AccountRef, kept: tuple[Json, Json], keys: Sequence[str]) -> None:
    """Take settings out of a record, or back to what an earlier one says of them."""
    record, earlier = kept

    def forget(document: Json) -> None:
        isolations = document.get("isolations") or {}
        for found in (record, isolations.get(account.name) or {}):
            for side in ("settings", "wrote"):
                old = earlier.get(side) or {}
                back = {key: old[key] for key in keys if key in old}
                found[side] = {**without(found.get(side) or {}, keys), **back}
        if not at_path(isolations.get(account.name), "settings"):
            isolations.pop(account.name, None)

    azure.store.edit(forget)


def read_record(text: str) -> Json:
    """The restore record of an isolation: the account's id, and settings that an isolation changes."""
    record = read_json_object(text)
    parse_account(str(record["account"]))
    settings, wrote = dict(record.get("settings") or {}), dict(record.get("wrote") or {})
    if not settings or not {*settings, *wrote} <= RESTORABLE.keys():
        raise ValueError
    return {**record, "settings": settings, "wrote": wrote}


@command(
    "azure-storage-account-restore-settings",
    needs=(READ_ACCOUNT, WRITE_ACCOUNT),
    role=ACCOUNT_CONTRIBUTOR,
    execution=True,
)
def account_restore_settings(
    azure: Azure,
    account_name: Account | None = None,
    record: Annotated[Json, Reader("the restore record that an isolation returned, as JSON", read_record)]
    | None = None,
    resource_group_name: GroupName | None = None,
    subscription_id: Subscription | None = None,
) -> Plan:
    """Takes an isolation back: from its record, or from what the instance remembers of it. Keys stay rotated."""
    place, found = isolation_record(azure, account_name, record)
    scope = {"resource_group_name": resource_group_name, "subscription_id": subscription_id}
    account = account_in(azure, scope, place)
    current = account_now(azure, account)
    settings = {key: RESTORABLE[key] if value is None else value for key, value in found["settings"].items()}
    # What somebody else has changed since is not ours to open again.
    known = [(key, (value, settings[key])) for key, value in (found.get("wrote") or {}).items() if key in settings]
    foreign = sorted(
        key for key, values in known if not acceptable(at_path(current, f"properties.{key}"), values, same)
    )
    wanted = without(settings, foreign)
    unset = sorted(key for key in wanted if found["settings"][key] is None)
    notes = (
        "Rotated keys and revoked SAS stay so.",
        f"Not set before, and now set to what that meant: {', '.join(unset)}." if unset else "",
        f"Left as they are, since somebody changed them after the isolation: {', '.join(foreign)}." if foreign else "",
    )

    def undo(before: Json, after: Json) -> str:
        old = {key: at_path(current, f"properties.{key}") for key in after.get("properties", {})}
        again = {"record": {"account": account.id, "settings": old}}
        return command_line("account-restore-settings", account.arguments, again) if old else ""

    plan = update_plan(azure, account, current, {"properties": wanted})
    forget = partial(forget_record, azure, account, found)
    if not foreign:
        plan = replace(plan, tidy=forget)
    steps = restoring(plan.steps, {"properties": wanted}, forget)
    return replace(plan, view=NETWORK_VIEW, steps=steps, note=" ".join(filter(None, notes)), done="", undo=undo)


def forget_record(azure: Azure, account: AccountRef, used: Json) -> None:
    """Drop a record that was used up; that of another isolation stays."""

    def forget(document: Json) -> None:
        kept = document.get("isolations") or {}
        if at_path(kept.get(account.name), "time") == used.get("time"):
            kept.pop(account.name, None)

    azure.store.edit(forget)


def restoring(steps: Steps, wanted: Json, forget: Callable[[], None]) -> Generator[Step, Outcome, None]:
    """The steps, and behind them one that forgets the record, once the account says that everything is back."""
    for step in steps:
        outcome = yield step
        if outcome.result == DONE and not account_patch(outcome.answer or wanted, wanted)[0]:
            yield Step("forget the record", forget, hidden=True)


def isolation_record(azure: Azure, clue: AccountClue | None, record: Json | None) -> tuple[AccountClue, Json]:
    """The account and its restore record, which is given or was saved by the isolation."""
    clue = clue or (parse_account(str(record["account"])) if record else None)
    if not clue:
        raise missing("account_name", "a storage account name, or the record of an isolation")
    found = record or azure.store.section("isolations").get(clue.name)
    if not isinstance(found, dict):
        raise UsageError(
            f"No saved isolation record for {clue.name}.",
            "Give `record`, from AzureStorage.Isolation.restore of the isolation.",
        )
    place = parse_account(str(found["account"]))
    if place.name != clue.name:
        raise invalid("account_name", f"the record is for {place.name}, not for {clue.name}.")
    return (clue if clue.group or not place.group else place), found


# --- commands: logs ----------------------------------------------------------------------------------------------------

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
    "callerObjectId": "claims.http://schemas\0microsoft\0com/identity/claims/objectidentifier",
    "callerAppId": "claims.appid",
    "role": "authorization.evidence.role",
    "scope": "authorization.scope",
    "requestBody": "properties.requestbody",
    "responseCode": "properties.statusCode",
}


def time_range(since: float | None, until: float | None, ahead: float = 0) -> tuple[float, float]:
    """The times between which is searched: by default the last day. ahead: seconds that events may be later than now."""
    now = until or Clock.now()
    found = since or now - 86_400, until or now + ahead
    if found[0] >= found[1]:
        raise invalid("until", "it has to be later than `since`.")
    return found


def event_row(event: Json, account: AccountRef) -> Json:
    """An event with the names that context has. Claims are named by addresses with dots, which a path cannot have."""
    claims = {str(name).replace(".", "\0"): value for name, value in (at_path(event, "claims") or {}).items()}
    row = {name: at_path({**event, "claims": claims}, path) for name, path in EVENT_FIELDS.items()}
    part = urllib.parse.unquote(str(row["resourceId"] or ""))[len(plain_id(account.id)) :]
    return {**given_only(row), "account": account.name, "resource": part or account.name}


@command("azure-storage-account-activity-list", needs=(READ_ACTIVITY,), role="Reader")
def account_activity_list(
    azure: Azure,
    account: TargetArgs,
    paging: PagingArgs,
    since: Moment | None = None,
    until: Moment | None = None,
    operation: Text | None = None,
    caller: Text | None = None,
    status: Text | None = None,
) -> CommandResults:
    """Who read keys, changed rules or deleted things, newest first; Azure keeps it for 90 days. Filters look for parts of words."""
    times = time_range(since, until)
    account_now(azure, account)  # an account that is elsewhere is found there
    wanted = given_only({"operation": operation, "caller": caller, "status": status})
    pages = activity_pages(azure, account, *times, paging.place)

    def keep(row: Json) -> bool:
        fits = (part.lower() in str(row.get(name) or "").lower() for name, part in wanted.items())
        return is_about(row, account) and all(fits)

    return show_list(ACTIVITY_VIEW, collect(pages, paging, keep))


def is_about(row: Json, account: AccountRef) -> bool:
    """Whether an event of the group is about the account or a part of it."""
    return is_below(row.get("resourceId"), account.id)


def activity_pages(azure: Azure, account: AccountRef, since: float, until: float, place: str = "") -> Iterator[Page]:
    """Events of the activity log as context has them, newest first.

    The log is asked for the whole resource group: asked for the account, it leaves out what happened to its parts.
    https://learn.microsoft.com/rest/api/monitor/activity-logs/list
    """
    times = f"eventTimestamp ge {odata(iso_time(since))} and eventTimestamp le {odata(iso_time(until))}"
    params = {"$filter": f"{times} and resourceGroupName eq {odata(account.group)}"}
    scope = Scope(subscription_path(account.subscription), account.name)
    for page, here, following in azure.arm.pages(ACTIVITY_LIST, scope, place, params):
        yield [event_row(event, account) for event in page], here, following


BLOB_LOGS = ("StorageRead", "StorageWrite", "StorageDelete")


def not_logged(names: Iterable[str]) -> list[str]:
    """The blob logs that are off where these categories and groups are on. Only the group allLogs is known to hold all."""
    on = {name.lower() for name in names}
    return [] if "alllogs" in on else [name for name in BLOB_LOGS if name.lower() not in on]


@command("azure-storage-account-logging-get", needs=(READ_LOGGING,), role="Reader")
def account_logging_get(azure: Azure, account: TargetArgs) -> CommandResults:
    """Where the blob service's logs go. They are off unless somebody turned them on."""
    items = azure.arm.listing(LOGGING_LIST, account).items
    lacking = not_logged(name for item in items for name in logged(item))
    words = f"Not logged: {', '.join(lacking)}. Such requests can't be traced afterwards. NFS 3.0 requests are never logged."
    return show_list(LOGGING_VIEW, Listing(items), words if lacking else "")


# https://learn.microsoft.com/azure/storage/blobs/blob-storage-monitoring-scenarios
SINKS = body_fields(
    ("workspace_id", ArmId, "workspaceId"),
    ("storage_account_id", ArmId, "storageAccountId"),
    ("event_hub_rule_id", ArmId, "eventHubAuthorizationRuleId"),
    ("event_hub_name", Text, "eventHubName"),
)
SinkArgs = Annotated[Json, body_group(SINKS)]


def logging_setting(azure: Azure, account: AccountRef, name: str) -> Json | None:
    """The diagnostic setting of a name."""
    items = azure.arm.listing(LOGGING_LIST, account).items
    return next((item for item in items if str(item.get("name")).lower() == name.lower()), None)


def logging_state(categories: Iterable[str], setting: Json | None) -> Json:
    """The properties of a diagnostic setting, with whether each of the categories is on in place of the logs."""
    off = not_logged(logged(setting or {}))
    return {**(at_path(setting, "properties") or {}), "logs": {name: name not in off for name in categories}}


def changed_logs(setting: Json | None, chosen: Collection[str], enabled: bool) -> list[Json]:
    """The logs of a diagnostic setting with the categories on or off; others stay. Azure takes no single categories beside
    groups: where a group holds them they stay as they are, else UsageError."""
    rows = dicts(at_path(setting, "properties.logs"))
    if not any(row.get("categoryGroup") and row.get("enabled") for row in rows):
        others = [row for row in rows if row.get("category") not in (None, *chosen)]
        return [*others, *({"category": name, "enabled": enabled} for name in chosen)]
    if enabled and all(logging_state(chosen, setting)["logs"].values()):
        return rows
    words = "it logs category groups, beside which Azure takes no single categories. Give another setting_name."
    raise invalid("setting_name", words)


def undo_logging(where: Mapping[str, str], enabled: bool, old: Json) -> str:
    """The command that sets the changed categories and destinations back."""
    changed = [name for name, on in (old.get("logs") or {}).items() if on is not enabled]
    flipped = {"enabled": not enabled, "categories": ",".join(changed)} if changed else {"enabled": enabled}
    sinks = {name: old.get(entry.path) or None for name, entry in SINKS.items()}
    return command_line("account-logging-set", where, flipped, given_only(sinks))


@command(
    "azure-storage-account-logging-set",
    needs=(READ_LOGGING, WRITE_LOGGING, DELETE_LOGGING),
    role=MONITORING,
    execution=True,
)
def account_logging_set(
    azure: Azure,
    account: TargetArgs,
    sinks: SinkArgs,
    setting_name: LockName = "cortex-xsoar",
    categories: Annotated[list[str], listed(choice(*BLOB_LOGS))] | None = None,
    enabled: Flag = True,
    delete_empty: Flag = False,
) -> Plan:
    """Turns logs of the blob service on or off in one diagnostic setting; other categories and settings stay. One that
    logs nothing any more is deleted if that is asked for."""
    found, chosen = logging_setting(azure, account, setting_name), categories or BLOB_LOGS
    logs, current = changed_logs(found, chosen, enabled), dict(at_path(found, "properties") or {})
    where = {**account.arguments, "setting_name": setting_name, **({} if found else {"delete_empty": "true"})}
    target = Scope(f"{account.id}{LOGGING_PATH}/{segment(setting_name)}", setting_name)
    state, read = partial(logging_state, chosen), partial(logging_setting, azure, account, setting_name)
    if delete_empty and not any(row.get("enabled") for row in (*logs, *dicts(current.get("metrics")))):
        remove = removal(azure, LOGGING_DELETE, target, "ResourceNotFound")
        plan = removal_plan(target.id, LOGGING_VIEW, found, state, "delete the diagnostic setting", remove, read)
    elif not any({**current, **sinks}.get(entry.path) for entry in SINKS.values()):
        raise missing("workspace_id", "where the logs go: workspace_id, storage_account_id or event_hub_rule_id")
    else:
        wanted, body = {**sinks, "logs": dict.fromkeys(chosen, enabled)}, {**current, **sinks, "logs": logs}
        change = partial(azure.arm.ask, LOGGING_SET, account, {"properties": body}, name=setting_name)
        plan = settings_plan(
            target.id, LOGGING_VIEW, found, wanted, state, "change the diagnostic setting", change, read
        )
    lost = cannot_undo(plan.before, SINKS, plan.after) if found else ""
    done = lost if enabled else "Requests from now on can't be traced afterwards."
    return replace(plan, undo=lambda old, new: undo_logging(where, enabled, old), done=done)


# --- commands: log search ----------------------------------------------------------------------------------------------

LOG_TABLE = "StorageBlobLogs"
LOG_ROWS = 50_000  # the most rows of one query: its answer is held in memory
KEPT_GROUPS, KEPT_BLOBS = 5_000, 200_000  # callers that are told apart, and names of blobs that are counted
LONGEST_LINE = 1 << 20  # bytes
CLOCK_SKEW = 60  # seconds that Azure's clock may be ahead of ours
LOG_CONTEXT = CONTEXT_SIZE // 2  # bytes: an entry holds a summary and rows

# What is shown of a request: the column, and where a line of PT1H.json has it.
# https://learn.microsoft.com/azure/azure-monitor/reference/tables/storagebloblogs
# https://learn.microsoft.com/azure/storage/blobs/monitor-blob-storage-reference#resource-logs
LOG_FIELDS = {
    "TimeGenerated": "time",
    "Category": "category",
    "OperationName": "operationName",
    "StatusCode": "statusCode",
    "StatusText": "statusText",
    "CallerIpAddress": "callerIpAddress",
    "AuthenticationType": "identity.type",
    "AuthenticationHash": "identity.tokenHash",
    "RequesterObjectId": "identity.requester.objectId",
    "RequesterUpn": "identity.requester.upn",
    "RequesterAppId": "identity.requester.appId",
    "RequesterTenantId": "identity.requester.tenantId",
    "Uri": "uri",
    "ObjectKey": "properties.objectKey",
    "UserAgentHeader": "properties.userAgentHeader",
    "ResponseBodySize": "properties.responseBodySize",
    "CorrelationId": "correlationId",
}


def address_of(text: str) -> str:
    """An address of the logs without its port."""
    found = re.fullmatch(r"\[([0-9A-Fa-f:.]+)\](?::\d+)?|(\d+\.\d+\.\d+\.\d+)(?::\d+)?", text.strip())
    return (found[1] or found[2]) if found else text.strip()


# How a request was authorized, by what the type of authentication has in it: tables and lines write it differently.
LOG_WAYS = (
    ("anonymous", "anonymous"),
    ("sas", "SAS"),
    ("accountkey", "account key"),
    ("sharedkey", "account key"),
    ("oauth", "identity"),
    ("kerberos", "identity"),
)


class LogRow(dict[str, str]):
    """A request to the blob service: the columns of LOG_FIELDS."""

    @classmethod
    def read(cls, value_of: Callable[[str], object]) -> "LogRow":
        """A row out of the values of its columns; some of them come in quotes."""
        found = ((name, value_of(name)) for name in LOG_FIELDS)
        return cls({name: "" if value is None else str(value).strip('"') for name, value in found})

    @property
    def path(self) -> str:
        """The container and the blob, decoded, as container/blob."""
        try:
            parts = urllib.parse.urlsplit(self["Uri"])
        except ValueError:
            parts = urllib.parse.urlsplit("")
        if not parts.netloc:
            return self["ObjectKey"].lstrip("/").partition("/")[2]
        path = account_and_path(parts.netloc.lower(), parts.path.lstrip("/"))[1]
        of_root = path and "/" not in path and not re.search("restype=|resource=", parts.query.lower())
        return urllib.parse.unquote(f"$root/{path}" if of_root else path)

    @property
    def way(self) -> str:
        kind = self["AuthenticationType"].lower().replace(" ", "")
        return next((way for part, way in LOG_WAYS if part in kind), self["AuthenticationType"])

    @property
    def sas_hash(self) -> str:
        found = re.search(r"(?i)SasSignature\(([0-9a-f]+)\)", self["AuthenticationHash"])
        return found[1].lower() if found else ""

    @property
    def key(self) -> str:
        """The key that authorized the request or signed its SAS: key1, key2 or user-delegation."""
        found = re.search(r"(?i)\b(key[12]|user-delegation)\(", self["AuthenticationHash"])
        return found[1].lower() if found else ""

    @property
    def caller(self) -> str:
        if self.way == "SAS" and self.sas_hash:
            return f"SAS {self.sas_hash}"
        return self["RequesterUpn"] or self["RequesterObjectId"] or self.key or self.way

    @property
    def size(self) -> int:
        return int(self["ResponseBodySize"]) if re.fullmatch(r"\d{1,18}", self["ResponseBodySize"], re.ASCII) else 0

    @property
    def failed(self) -> bool:
        return self["StatusCode"][:1] in ("4", "5")

    def item(self) -> Json:
        """For context. A copy is logged as several requests of one correlation ID."""
        key = "/".join((self["CorrelationId"], self["OperationName"], self.path))
        return {"id": key, **self, "Uri": redact(self["Uri"]), "ResponseBodySize": self.size}


class LogTest(NamedTuple):
    """A comparison of a column with a text, without case: in a query, and here."""

    column: str
    operator: str
    value: str

    def __str__(self) -> str:
        return f"{self.column} {self.operator} {kql(self.value)}"

    def fits(self, row: LogRow) -> bool:
        text, value = row[self.column].lower(), self.value.lower()
        if self.operator == "=~":
            return text == value
        return text.startswith(value) if self.operator == "startswith" else value in text


# One of the comparisons has to be true; no comparison means every request.
HUNTS: Mapping[str, tuple[LogTest, ...]] = {
    "timeline": (),
    "sas": (LogTest("AuthenticationType", "contains", "sas"),),
    "anonymous": (LogTest("AuthenticationType", "startswith", "anonymous"),),
    "account_key": tuple(LogTest("AuthenticationType", "startswith", way) for way in ("account", "sharedkey")),
    "identity": tuple(LogTest("AuthenticationType", "startswith", way) for way in ("oauth", "kerberos")),
    "deletions": (LogTest("Category", "=~", "StorageDelete"),),
    "downloads": tuple(
        LogTest("OperationName", "=~", name)
        for name in ("GetBlob", "ReadFile", "CopyBlobSource", "QueryBlobContents", "SftpRead", "GetWebContent")
    ),
    "address": (),
}
# A SAS is no request of those, so that its hash would find nothing there, whatever it was used for.
WITHOUT_SAS = ("anonymous", "account_key", "identity")


class LogSearch(NamedTuple):
    """Which requests are wanted, and where they are looked for: in workspaces, or in the containers of `archive`."""

    account: AccountRef
    since: float
    until: float
    hunt: str
    sas_hash: str
    ip: str
    container: str
    blob: str
    prefix: str
    archive: BlobService | None
    query: str

    @property
    def tests(self) -> list[tuple[LogTest, ...]]:
        """All of them have to hold; they leave too much in rather than too little, see `matcher`."""
        found = [HUNTS[self.hunt]]
        if self.sas_hash:
            found.append((LogTest("AuthenticationHash", "contains", f"SasSignature({self.sas_hash})"),))
        if self.ip:
            with_port = f"[{self.ip}]" if ":" in self.ip else f"{self.ip}:"
            found.append(
                (LogTest("CallerIpAddress", "=~", self.ip), LogTest("CallerIpAddress", "startswith", with_port))
            )
        # Clients encode names as they like; letters, digits and _ . - are the same in all of them.
        plain = max(re.findall(r"[\w.-]+", self.blob or self.prefix, re.ASCII), key=len, default="")
        # A website's address does not name $web, nor that of a blob in $root the container; others have %24 in place of $.
        place = "" if self.container in ("", "$root") else f"/{self.container}".replace("/$", "")
        for text in filter(None, (place, plain)):
            found.append((LogTest("Uri", "contains", text), LogTest("ObjectKey", "contains", text)))
        return [tests for tests in found if tests]

    def words(self) -> list[str]:
        """What is looked for, for people."""
        given = {
            name.replace("_", " "): getattr(self, name)
            for name in ("hunt", "sas_hash", "ip", "container", "blob", "prefix")
        }
        times = f"{iso_time(self.since)} to {iso_time(self.until)}"
        return [self.account.id, times, *(f"{name} {value}" for name, value in given.items() if value)]

    def kusto(self) -> str:
        """The query: the newest rows, one more than are read, so that it is known whether there are more."""
        start, end = (f"datetime({iso_time(time)})" for time in (self.since, self.until))
        wheres = [f"TimeGenerated >= {start} and TimeGenerated <= {end}"]
        wheres += [" or ".join(map(str, tests)) for tests in self.tests]
        steps = [LOG_TABLE, *(f"where {where}" for where in wheres), f"project {', '.join(LOG_FIELDS)}"]
        return "\n| ".join([*steps, "order by TimeGenerated desc", f"take {LOG_ROWS + 1}"])

    def matcher(self) -> Callable[[LogRow], bool]:
        """Tells whether a row is wanted, letter for letter."""
        all_tests = self.tests

        def fits(row: LogRow) -> bool:
            if not all(any(test.fits(row) for test in tests) for tests in all_tests):
                return False
            if self.archive and not self.since <= (moment(row["TimeGenerated"]) or 0) <= self.until:
                return False
            container, _, blob = row.path.partition("/")
            return self.container in ("", container) and self.blob in ("", blob) and blob.startswith(self.prefix)

        return fits


def read_sas_hash(text: str) -> str:
    """The SHA-256 of a signature, bare or as the logs have it."""
    found = re.search(r"(?i)SasSignature\(([0-9a-f]{64})\)|^([0-9a-f]{64})$", text.strip())
    if not found:
        raise ValueError
    return (found[1] or found[2]).lower()


LOG_SEARCH_ARGUMENTS = {
    **BLOB_ARGUMENTS,
    "hunt": optional(Annotated[str, choice(*HUNTS)], "timeline"),
    "sas": optional(Sas),
    "sas_hash": optional(Annotated[str, Reader("a SHA-256 of 64 hexadecimal digits", read_sas_hash)]),
    "ip": optional(Annotated[str, Reader("an IP address", read_client_address)]),
    "prefix": optional(ExactText),
    "since": optional(Moment),
    "until": optional(Moment),
    "source": optional(Annotated[str, choice("workspace", "container")], "workspace"),
    "log_account_name": optional(Account),
    "query": optional(Text),
}


def check_log_search(given: Given) -> None:
    """UsageError for arguments that contradict each other; one that was ignored would make an empty answer look like proof."""
    filters = [name for name in ("sas", "sas_hash", "ip", "prefix", "blob_name", "container_name") if given[name]]
    if given["query"] and (filters or given["hunt"] != "timeline" or given["source"] != "workspace"):
        raise exclusive("query", "hunt", "source", "sas", "sas_hash", "ip", "container_name", "blob_name", "prefix")
    if given["sas"] and given["sas_hash"]:
        raise exclusive("sas", "sas_hash")
    if given["hunt"] in WITHOUT_SAS and (given["sas"] or given["sas_hash"]):
        raise invalid("hunt", f"requests of the hunt {given['hunt']} use no SAS. Expected: sas, or another hunt.")
    if given["hunt"] == "address" and not given["ip"]:
        raise missing("ip", "the IP address that the hunt looks for")
    if given["source"] == "container" and not given["log_account_name"]:
        raise missing("log_account_name", "the storage account that receives the logs")
    if given["source"] == "workspace" and given["log_account_name"]:
        raise invalid("log_account_name", "it is used only with `source=container`.")


def named_if_any(given: Given, part: str) -> str:
    """A container or blob that an argument or the blob_url names, if one does."""
    argument, url = f"{part}_name", given["blob_url"]
    return named(given, argument, part) if given[argument] or (url and getattr(url, part)) else ""


def build_log_search(azure: Azure, given: Given) -> LogSearch:
    """The search that the arguments describe. A SAS that came with an address tells the account, and no more."""
    check_log_search(given)
    unused(given, "version", "snapshot", *(("container", "blob") if given["query"] else ()))
    sas: SasToken | None = given["sas"]
    if sas and sas.address and not (given["account_name"] or given["blob_url"]):
        given = {**given, "account_name": AccountClue(sas.address.account)}
    clue, container, blob = clue_of(given), named_if_any(given, "container"), named_if_any(given, "blob")
    if sas and sas.address and sas.address.account != clue.name:
        raise invalid("sas", f"it belongs to account {sas.address.account}, not to {clue.name}.")
    if (blob or given["prefix"]) and not container:
        raise missing("container_name", "the container of the blobs")
    if blob and given["prefix"]:
        raise exclusive("prefix", "blob_name")
    times = time_range(given["since"], given["until"], CLOCK_SKEW)
    digest = hashlib.sha256(sas.fields["sig"].encode()).hexdigest() if sas else given["sas_hash"] or ""
    account, log_clue, archive = account_in(azure, given, clue), given["log_account_name"], None
    if log_clue:
        scope = {"subscription_id": account.subscription, "resource_group_name": account.group}
        archive = service_in(azure, {**scope, "account_name": log_clue, "blob_url": None})
    words = (given["hunt"], digest, given["ip"] or "", container, blob, given["prefix"] or "")
    return LogSearch(account, *times, *words, archive, given["query"] or "")


class LogAnswer(NamedTuple):
    """The table that a query found, and what has to be said about it."""

    columns: list[str]
    rows: list[list[object]]
    notes: list[str]


def ask_logs(azure: Azure, search: LogSearch) -> LogAnswer:
    """Query the logs of an account in every workspace that has them.

    https://learn.microsoft.com/azure/azure-monitor/logs/api/azure-resource-queries
    """
    body = {
        "query": search.query or search.kusto(),
        "timespan": f"{iso_time(search.since)}/{iso_time(search.until)}",
    }
    found = azure.arm.ask(LOGS_QUERY, search.account, body, headers={"Prefer": "include-permissions=true"})
    first = next(iter(dicts(found["tables"])), {})
    columns = [str(column.get("name")) for column in dicts(first.get("columns"))]
    rows = [row for row in first.get("rows") or [] if isinstance(row, list) and len(row) == len(columns)]
    if not columns or len(rows) != len(first.get("rows") or []):
        words = f"Could not {LOGS_QUERY.action.format(search.account)}: the answer holds no table."
        raise NetworkError(words, PROXY_ANSWER)
    return LogAnswer(columns, rows, answer_notes(found, search.account))


def answer_notes(found: Json, account: AccountRef) -> list[str]:
    """What an answer of the logs leaves out: rows that failed, and workspaces that may not be read."""
    notes = []
    error = found.get("error")
    if isinstance(error, dict):
        words = " ".join(str(part.get("message") or part.get("code")) for part in dicts(error.get("details")))
        notes.append(f"The answer is incomplete ({shown(error.get('code'))}): {md(redact(words)) or 'no reason given'}")
    if not isinstance(found.get("permissions"), dict):
        return [*notes, "Azure did not report which workspaces were read."]
    mine = plain_id(account.id)
    own = [row for row in dicts(at_path(found, "permissions.resources")) if plain_id(row.get("resourceId")) == mine]
    places, closed = [], []
    for row in (*own, *dicts(at_path(found, "permissions.dataSources"))):
        of_account = list(map(str, row.get("dataSources") or []))
        places += of_account
        if LOG_TABLE.lower() in (str(table).lower() for table in row.get("denyTables") or []):
            closed += of_account or [str(row.get("resourceId"))]
    if not places:
        notes.append("No readable workspace has logs of this account.")
    if closed:
        notes.append(f"Not read, because the identity lacks permission: {', '.join(map(md, dict.fromkeys(closed)))}.")
    return notes


def workspace_rows(azure: Azure, search: LogSearch, notes: list[str]) -> Iterator[LogRow]:
    """The rows of Log Analytics, newest first."""
    try:
        answer = ask_logs(azure, search)
    except ServiceError as error:
        if LOG_TABLE not in error.detail:
            raise
        demisto.debug(f"log query refused: {redact(str(error))}")
        words = f"No Log Analytics workspace that this identity can read has logs of {search.account} ({error.brief})."
        raise AzureStorageError(
            words, "Check the diagnostic settings with !azure-storage-account-logging-get."
        ) from None
    notes += answer.notes
    if len(answer.rows) > LOG_ROWS:
        notes.append(f"Only the newest {LOG_ROWS} requests were read. Narrow the time range or the filters.")
    for row in answer.rows[:LOG_ROWS]:
        yield LogRow.read(dict(zip(answer.columns, row, strict=True)).get)


# Logs in containers: https://learn.microsoft.com/azure/azure-monitor/platform/resource-logs#send-to-azure-storage


def listed_blobs(service: BlobService, container: str, query: Json) -> Iterator[tuple[str, bool]]:
    """The names in a container, and whether each is a folder."""
    for rows, _, _ in service.rows(container, query):
        yield from ((str(row["name"]), row.get("isPrefix") is True) for row in rows)


def log_folders(service: BlobService, container: str, account: AccountRef) -> list[str]:
    """The folders of an account's logs. They are looked for level by level, since the case of the id in them varies."""
    found = [""]
    for part in ["resourceid=", *plain_id(account.id).strip("/").split("/"), "blobservices", "default"]:
        levels = (listed_blobs(service, container, {"prefix": name or None, "delimiter": "/"}) for name in found)
        folders = [name for name, is_prefix in itertools.chain.from_iterable(levels) if is_prefix]
        found = [name for name in folders if name.split("/")[-2].lower() == part]
    return found


LOG_HOUR = re.compile(r".*/y=(\d{4})/m=(\d\d)/d=(\d\d)/h=(\d\d)/m=\d\d/PT1H\.json", re.DOTALL)


def log_hours(search: LogSearch, service: BlobService, container: str) -> Iterator[tuple[float, BlobRef]]:
    """The blobs of the time range with their hours; what arrived late is in the hour after."""
    folders = log_folders(service, container, search.account)
    for name, _ in itertools.chain.from_iterable(
        listed_blobs(service, container, {"prefix": folder}) for folder in folders
    ):
        found = LOG_HOUR.fullmatch(name)
        hour = moment("{}-{}-{}T{}:00:00Z".format(*found.groups())) if found else None
        if hour is not None and search.since - 3600 < hour <= search.until + 3600:
            yield hour, BlobRef(service, container, name)


def line_row(line: bytes) -> LogRow | None:
    """The request that a line tells of; None if it tells of none."""
    try:
        event = json_value(line.decode("utf-8-sig"))
    except ValueError:
        return None
    if not isinstance(event, dict) or moment(event.get("time")) is None:
        return None
    return LogRow.read(lambda name: at_path(event, LOG_FIELDS[name]))


def log_lines(blob: BlobRef, junk: Counter[str]) -> Iterator[LogRow]:
    """The requests in a blob, however large it is and while it grows, by way of a file that is removed again.

    junk counts the lines that tell of no request.
    """
    path = Path(f"log-{uuid.uuid4().hex}")
    try:
        Downloader(blob).run(str(path), 1 << 48)
        with path.open("rb") as file:
            for line in filter(bytes.strip, iter(lambda: file.readline(LONGEST_LINE), b"")):
                row = line_row(line)
                junk["lines"] += row is None
                yield from [row] if row else []
    finally:
        path.unlink(missing_ok=True)


def archived_rows(search: LogSearch, service: BlobService, notes: list[str]) -> Iterator[LogRow]:
    """The lines of the log containers, hour by hour. What could not be read is told at the end."""
    hours: list[tuple[float, BlobRef]] = []
    for name in BLOB_LOGS:
        container = f"insights-logs-{name.lower()}"
        try:
            hours += log_hours(search, service, container)
        except ServiceError as error:
            if error.code != "ContainerNotFound":
                raise
            notes.append(f"{service.account} has no container {container}: {name} was never logged there.")
    junk, failures = Counter[str](), list[AzureStorageError]()
    for _, blob in sorted(hours, key=lambda entry: entry[0]):
        try:
            yield from log_lines(blob, junk)
        except AzureStorageError as error:
            failures.append(error)
    if failures and len(failures) == len(hours):
        raise failures[0]
    notes.append(f"Log files of {service.account} that were read: {len(hours) - len(failures)}.")
    notes += (
        [f"Log files that could not be read: {len(failures)}. {md(redact(failures[0].message))}"] if failures else []
    )
    notes += [f"Lines that are no log records: {junk['lines']}."] if junk["lines"] else []


# What was found


class Worst:
    """The worst of many rows, in memory that does not grow with them."""

    def __init__(self, rank: Callable[[Json], tuple[int, ...]], limit: int) -> None:
        self.count, self._rank, self._limit = 0, rank, limit
        self._rows: list[Json] = []

    def add(self, row: Json) -> None:
        self.count += 1
        self._rows.append(row)
        if len(self._rows) == 2 * self._limit:
            self._rows = sorted(self._rows, key=self._rank)[: self._limit]

    def rows(self, size: int) -> list[Json]:
        """The worst first, as many as fit into so many bytes of JSON."""
        ordered = sorted(self._rows, key=self._rank)[: self._limit]
        sizes = itertools.accumulate(len(json.dumps(row)) for row in ordered)
        return [row for row, total in zip(ordered, sizes, strict=True) if total <= size]


@dataclass
class LogGroup:
    """The requests that one caller made from one address in one way."""

    caller: str
    address: str
    way: str
    key: str
    object_id: str
    sas_hash: str
    first: str
    last: str
    requests: int = 0
    failed: int = 0
    size: int = 0
    operations: Counter[str] = field(default_factory=Counter)
    blobs: set[int] = field(default_factory=set)

    def add(self, row: LogRow, *, count_blob: bool) -> None:
        self.requests, self.failed, self.size = self.requests + 1, self.failed + row.failed, self.size + row.size
        self.operations[row["OperationName"]] += 1
        self.first, self.last = min(self.first, row["TimeGenerated"]), max(self.last, row["TimeGenerated"])
        if count_blob and "/" in row.path:
            self.blobs.add(hash(row.path))

    def item(self, account: AccountRef) -> Json:
        return {
            "id": f"{account.id}#{self.caller}#{self.address}#{self.way}#{self.key}",
            "account": account.name,
            "caller": self.caller,
            "callerObjectId": self.object_id,
            "address": self.address,
            "authorization": self.way,
            "key": self.key,
            "sasHash": self.sas_hash,
            "requests": self.requests,
            "failed": self.failed,
            "operations": [{"name": name, "count": count} for name, count in sorted(self.operations.items())],
            "blobs": len(self.blobs),
            "bytesOut": self.size,
            "first": self.first,
            "last": self.last,
        }


# fmt: off
LOG_SUMMARY_VIEW = View("LogSummary", "Azure Storage requests by caller", {"Caller": "caller", "Address": "address", "Authorization": "authorization", "Key": "key", "Requests": "requests", "Failed": "failed", "Operations": lambda item: ", ".join(f"{row['name']} {row['count']}" for row in item["operations"]), "Blobs": "blobs", "Bytes Out": "bytesOut", "First": short_time("first"), "Last": short_time("last")})
LOG_VIEW = View("LogRow", "Azure Storage requests, newest first", {"Time": short_time("TimeGenerated"), "Operation": "OperationName", "Status": "StatusCode", "Address": lambda item: address_of(item["CallerIpAddress"]), "Authorization": "AuthenticationType", "User": lambda item: item["RequesterUpn"] or item["RequesterObjectId"], "URL": "Uri", "Bytes Out": "ResponseBodySize", "User Agent": "UserAgentHeader"})
# fmt: on


@contextmanager
def csv_rows(columns: Iterable[str]) -> Iterator[tuple[Path, Callable[[Iterable[object]], object]]]:
    """A CSV file, and what writes a row into it. The file is left only if nothing failed."""
    path = Path(f"log-search-{uuid.uuid4().hex}")
    try:
        with path.open("w", encoding="utf-8", errors="replace", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(map(guarded, columns))
            yield path, lambda row: rows.writerow(map(guarded, row))
    except BaseException:
        path.unlink()
        raise


class LogReport:
    """Counts rows by who made them, keeps the newest, and writes all of them while they are read."""

    def __init__(self, account: AccountRef, limit: int, write: Callable[[Iterable[object]], object]) -> None:
        self.account, self.groups, self.write = account, dict[tuple[str, ...], LogGroup](), write
        self.newest = Worst(lambda item: (-int(moment(item["TimeGenerated"]) or 0),), limit)
        self.blobs = 0

    def add(self, row: LogRow) -> None:
        item = row.item()
        self.newest.add(item)
        self.write(item[name] for name in LOG_FIELDS)
        address = address_of(row["CallerIpAddress"])
        key, who = (row.caller, address, row.way, row.key), (row["RequesterObjectId"], row.sas_hash)
        if key not in self.groups and len(self.groups) >= KEPT_GROUPS:
            key, who = ("others", "", row.way, ""), ("", "")
        group = self.groups.get(key) or LogGroup(*key, *who, row["TimeGenerated"], row["TimeGenerated"])
        before = len(group.blobs)
        group.add(row, count_blob=self.blobs < KEPT_BLOBS)
        self.blobs += len(group.blobs) - before
        self.groups[key] = group

    def summary(self) -> Worst:
        """Who took most comes first."""
        found = Worst(lambda item: (-item["bytesOut"], -item["requests"]), CONTEXT_LIMIT)
        for group in self.groups.values():
            found.add(group.item(self.account))
        return found

    def notes(self, kept: int, callers: int) -> list[str]:
        count = self.newest.count
        if not count:
            return [
                "No matching requests were found. This doesn't prove that there were none: only what was logged, kept and can be read is found, and logs arrive some minutes late."
            ]
        words = f"Matching requests: {count:,}. The newest {min(kept, DEFAULT_LIMIT)} are shown, the newest {kept:,} are in context, and all are in the CSV file."
        capped = f"Only the first {KEPT_BLOBS:,} blob names were counted." if self.blobs >= KEPT_BLOBS else ""
        cut = f"Context holds {callers:,} of {len(self.groups):,} callers." if callers < len(self.groups) else ""
        return list(filter(None, (words, capped, cut)))


def log_sink(setting: Json) -> str:
    """The storage account that a diagnostic setting sends logs to."""
    return resource_id({"id": at_path(setting, "properties.storageAccountId")}).account.lower()


def logging_notes(azure: Azure, search: LogSearch) -> list[str]:
    """What is not logged at present to where the search looks, and where else the logs go."""
    try:
        items = azure.arm.listing(LOGGING_LIST, search.account).items
    except ServiceError as error:
        if error.status != 403:
            raise
        return ["It is unknown whether logging is enabled: the identity can't read the diagnostic settings."]
    name, found = search.archive.account if search.archive else "", []
    here = [item for item in items if (log_sink(item) == name if name else at_path(item, "properties.workspaceId"))]
    lacking, archives = not_logged(kind for item in here for kind in logged(item)), {*map(log_sink, items)} - {""}
    if lacking:
        place = {"storage_account_id" if name else "workspace_id": "<ARM ID>"}
        line = command_line("account-logging-set", {"account_name": search.account.name}, place)
        where = f"storage account {name}" if name else "a workspace"
        found.append(
            f"Not logged to {where} at present: {', '.join(lacking)}. Requests made while logging was disabled can't be found. To enable it for the future, run: {code(line)}"
        )
    if archives and not search.archive:
        names = ", ".join(sorted(archives))
        found.append(
            f"Logs also go to storage account {md(names)}. To search there, set source=container and log_account_name."
        )
    return found


@command(
    "azure-storage-log-search",
    needs=(READ_LOGS, READ_LOGGING, READ_BLOB),
    role=f"Reader with {READER}",
)
def log_search(
    azure: Azure,
    search: Annotated[LogSearch, Group(LOG_SEARCH_ARGUMENTS, build_log_search)],
    limit: Annotated[int, number(1, CONTEXT_LIMIT)] = 200,
    report: HtmlReport = None,
) -> list[CommandResults | Json]:
    """Who made which requests, by the storage logs: one query, or the log files of the time range. An answer without rows
    never says that something was not used."""
    if search.query and report:
        raise exclusive("query", "report")
    notes = logging_notes(azure, search)
    if search.query:
        return query_result(ask_logs(azure, search), search, notes, limit)
    azure.use_threads()
    rows = archived_rows(search, search.archive, notes) if search.archive else workspace_rows(azure, search, notes)
    timeline = Timeline(search.since, search.until)
    with csv_rows(LOG_FIELDS) as (path, write):
        found = LogReport(search.account, limit, write)
        for row in filter(search.matcher(), rows):
            found.add(row)
            timeline.add(moment(row["TimeGenerated"]), "Failed" if row.failed else "Succeeded")
    newest, summary = found.newest.rows(LOG_CONTEXT), found.summary().rows(LOG_CONTEXT)
    told = found.notes(len(newest), len(summary))
    words = "\n\n".join([*told, *notes])
    title = f"Azure Storage log search: {search.hunt} of {search.account}, {iso_time(search.since)} to {iso_time(search.until)}"
    parts = [table(LOG_SUMMARY_VIEW, summary), table(LOG_VIEW, newest[:DEFAULT_LIMIT])] if newest else []
    result = CommandResults(
        outputs={LOG_SUMMARY_VIEW.context: summary, LOG_VIEW.context: newest},
        readable_output="\n".join([f"### {title}\n{words}\n", *parts]),
        raw_response={"summary": summary, "rows": newest},
    )
    name = f"log-search-{search.account}"
    files = [file_result_existing_file(str(path), f"{name}.csv")] if found.newest.count else []
    if not files:
        path.unlink()
    if report:
        facts = report_facts(azure, ", ".join(search.words()))
        page = log_page(facts, found, newest, [*told[bool(newest) :], *notes], timeline.html())
        files.append(fileResult(f"{name}.html", "".join(page)))
    return [result, *files]


def log_page(facts: Json, found: LogReport, newest: list[Json], notes: list[str], timeline: Html) -> Iterator[str]:
    """The search as a page: who took most comes first, and the requests are folded away."""
    groups, count = found.groups.values(), found.newest.count
    failed, size = (sum(getattr(group, name) for group in groups) for name in ("failed", "size"))
    totals = {
        "Requests": f"{count:,}",
        "Failed": f"{failed:,}",
        "Callers": f"{len(groups):,}",
        "Bytes out": f"{size:,}",
    }
    parts = [
        html_list("ul", map(html_line, notes)),
        html_table(LOG_SUMMARY_VIEW, found.summary().rows(LOG_CONTEXT), "callers"),
        html_table(LOG_VIEW, newest, "newest requests", folded=True),
    ]
    section = html_section(found.account.name, *parts, bar={"Failed": failed, "Succeeded": count - failed})
    return html_report(f"Azure Storage log search of {found.account}", facts | totals, [section], (), timeline)


def query_result(answer: LogAnswer, search: LogSearch, notes: list[str], limit: int) -> list[CommandResults | Json]:
    """The table of an expert's own query."""
    kept = Worst(lambda item: (), limit)
    with csv_rows(answer.columns) as (path, write):
        for row in answer.rows:
            values = [redact(value) if isinstance(value, str) else value for value in row]
            write(map(as_text, values))
            kept.add(dict(zip(answer.columns, values, strict=True)))
    rows = kept.rows(LOG_CONTEXT)
    lines = [{name: cell(value) for name, value in row.items()} for row in rows[:DEFAULT_LIMIT]]
    words = f"Rows: {kept.count:,}. The first {len(lines)} are shown, the first {len(rows)} are in context, and all are in the CSV file."
    text = tableToMarkdown(f"Azure Storage log query of {search.account}", lines, headers=answer.columns)
    found = {"id": search.account.id, "account": search.account.name, "query": search.query, "rows": rows}
    return [
        CommandResults(
            outputs={"AzureStorage.LogQuery(val.id && val.id == obj.id)": found},
            readable_output="\n\n".join([f"{text}\n{words}", *answer.notes, *notes]),
            raw_response=found,
        ),
        file_result_existing_file(str(path), f"log-query-{search.account}.csv"),
    ]


# --- commands: blob service --------------------------------------------------------------------------------------------


@command("azure-storage-blob-service-properties-get", needs=(READ_SERVICE,), role="Reader")
def blob_service_properties_get(azure: Azure, account: AccountArgs) -> CommandResults:
    return show(BLOB_SERVICE_VIEW, azure.arm.ask(SERVICE_GET, account))


@command(
    "azure-storage-blob-service-properties-set",
    needs=(READ_SERVICE, WRITE_SERVICE),
    role=ACCOUNT_CONTRIBUTOR,
    aliases={
        "container_delete_rentention_policy_enabled": "container_delete_retention_policy_enabled",
        "container_delete_rentention_policy_days": "container_delete_retention_policy_days",
        "delete_rentention_policy_enabled": "delete_retention_policy_enabled",
        "delete_rentention_policy_days": "delete_retention_policy_days",
    },
    execution=True,
)
def blob_service_properties_set(azure: Azure, account: AccountArgs, wanted: BlobServiceBody) -> Plan:
    """Reads, merges and writes: the service replaces the whole object, so what was set before goes along."""
    policy = wanted.get("restorePolicy", {})
    ignored = policy.pop("minRestoreTime", None)
    if ignored and not policy:
        del wanted["restorePolicy"]
    current = azure.arm.ask(SERVICE_GET, account)
    properties: Json = at_path(current, "properties") or {}
    whole = merged(properties, wanted)
    check_retention(whole)
    plan = settings_plan(
        f"{account.id}/blobServices/default",
        BLOB_SERVICE_VIEW,
        current,
        wanted,
        lambda item: at_path(item, "properties") or {},
        "change the blob service",
        partial(azure.arm.ask, SERVICE_SET, account, {"properties": whole}),
        partial(azure.arm.ask, SERVICE_GET, account),
    )
    line = undo_with("blob-service-properties-set", account.arguments, BLOB_SERVICE_FIELDS)

    def undo(before: Json, after: Json) -> str:
        """A policy that was on goes back whole, since Azure drops the days of one that is off."""
        off = [key for key, policy in before.items() if isinstance(policy, dict) and True in policy.values()]
        old = {**before, **{key: merged(properties[key], {}) for key in off}}
        return line(old, merged(old, after))

    return replace(
        plan,
        undo=undo,
        note="restore_policy_min_restore_time was not sent: Azure computes that time itself." if ignored else "",
        done=cannot_undo(plan.before, BLOB_SERVICE_FIELDS, plan.after),
    )


def check_retention(properties: Json) -> None:
    """A policy that is on needs its days; ARM's own refusal does not name the argument."""
    for policy, argument in (
        ("deleteRetentionPolicy", "delete_retention_policy_days"),
        ("containerDeleteRetentionPolicy", "container_delete_retention_policy_days"),
        ("restorePolicy", "restore_policy_days"),
    ):
        settings = properties.get(policy) or {}
        if settings.get("enabled") and not settings.get("days"):
            raise missing(argument, "a number of days, without which the policy can't be turned on")


# --- commands: lifecycle -----------------------------------------------------------------------------------------------

EARLY_DAYS = 7  # a rule that deletes sooner may be how somebody destroys data without a single deletion: MITRE T1485


def rule_actions(rule: Json) -> list[Json]:
    """What a lifecycle rule does to blobs, snapshots and versions, and after how many days since what.

    https://learn.microsoft.com/azure/storage/blobs/lifecycle-management-policy-structure
    """
    actions = at_path(rule, "definition.actions") or {}
    return [
        {"target": target, "action": name, "condition": condition, "days": days}
        for target, steps in actions.items()
        if isinstance(steps, dict)
        for name, conditions in steps.items()
        if isinstance(conditions, dict)
        for condition, days in conditions.items()
    ]


def deletes_after(rule: Json) -> float | None:
    """After how many days a rule deletes at the earliest; None if it deletes nothing."""
    rows = [row for row in rule_actions(rule) if row["action"] == "delete"]
    return min((row["days"] for row in rows if isinstance(row["days"], int | float)), default=None)


def lifecycle_row(account: AccountRef, policy: Json, rule: Json) -> Json:
    days, enabled = deletes_after(rule), rule.get("enabled") is not False
    filters = at_path(rule, "definition.filters") or {}
    return {
        "id": f"{account.id}{LIFECYCLE_GET.path}#{rule.get('name')}",
        "account": account.name,
        "name": rule.get("name"),
        "enabled": enabled,
        "actions": rule_actions(rule),
        "blobTypes": filters.get("blobTypes") or [],
        "prefixes": filters.get("prefixMatch") or [],
        "tags": dicts(filters.get("blobIndexMatch")),
        "deletesAfterDays": days,
        "deletesEarly": enabled and days is not None and days < EARLY_DAYS,
        "policyModified": at_path(policy, "properties.lastModifiedTime"),
    }


def actions_text(item: Json) -> str:
    return "\n".join(f"{row['target']}: {row['action']}, {row['condition']} {row['days']}" for row in item["actions"])


def tags_text(item: Json) -> str:
    return ", ".join(f"{tag.get('name')} {tag.get('op')} {tag.get('value')}" for tag in item["tags"])


LIFECYCLE_VIEW = View(
    "LifecycleRule",
    "Azure Storage lifecycle rules",
    {
        "Rule": "name",
        "Enabled": "enabled",
        "Actions": actions_text,
        "Prefixes": "prefixes",
        "Tags": tags_text,
        "Blob Types": "blobTypes",
        "Deletes Early": "deletesEarly",
    },
)


def lifecycle_rules(policy: Json | None) -> list[Json]:
    return dicts(at_path(policy, "properties.policy.rules"))


def lifecycle_policy(azure: Azure, account: AccountRef) -> Json | None:
    return azure.arm.ask_if_there(LIFECYCLE_GET, account, "ManagementPolicyNotFound")


@command("azure-storage-account-lifecycle-get", needs=(READ_LIFECYCLE,), role="Reader")
def account_lifecycle_get(azure: Azure, account: TargetArgs) -> CommandResults:
    """The lifecycle rules of an account, and which of them delete early."""
    policy = lifecycle_policy(azure, account) or {}
    rows = [lifecycle_row(account, policy, rule) for rule in lifecycle_rules(policy)]
    early = [md(str(row["name"])) for row in rows if row["deletesEarly"]]
    words = (
        f"Enabled rules that delete blobs within {EARLY_DAYS} days: {', '.join(early)}. To disable one, run !azure-storage-account-lifecycle-set."
        if early
        else ""
    )
    return show_list(LIFECYCLE_VIEW, Listing(rows), words or ("" if rows else "The account has no lifecycle rules."))


@command(
    "azure-storage-account-lifecycle-set",
    needs=(READ_LIFECYCLE, WRITE_LIFECYCLE),
    role=ACCOUNT_CONTRIBUTOR,
    execution=True,
)
def account_lifecycle_set(azure: Azure, account: TargetArgs, rule_name: Text, enabled: Flag) -> Plan:
    """Enables or disables one rule. Azure replaces the whole policy, so all other rules go along as they are."""
    policy = lifecycle_policy(azure, account) or {}
    rules = lifecycle_rules(policy)

    def row_of(found: Json | None) -> Json:
        """The rule in a policy. UsageError if it is not there."""
        others = lifecycle_rules(found)
        rule = next((rule for rule in others if rule.get("name") == rule_name), None)
        if rule is None:
            names = ", ".join(repr(rule.get("name")) for rule in others)
            raise invalid("rule_name", f"{account} has no lifecycle rule {rule_name!r}. Its rules: {names or 'none'}.")
        return lifecycle_row(account, found or {}, rule)

    row = row_of(policy)
    changed = [{**rule, "enabled": enabled} if rule.get("name") == rule_name else rule for rule in rules]
    body = {"properties": {"policy": {**policy["properties"]["policy"], "rules": changed}}}
    line = command_line("account-lifecycle-set", account.arguments, {"rule_name": rule_name, "enabled": not enabled})
    plan = settings_plan(
        row["id"],
        LIFECYCLE_VIEW,
        row,
        {"enabled": enabled},
        dict,
        f"{'enable' if enabled else 'disable'} the lifecycle rule",
        lambda: row_of(azure.arm.ask(LIFECYCLE_SET, account, body)),
        lambda: row_of(lifecycle_policy(azure, account)),
    )
    done = "Azure applies the change within 24 hours. A run that is in progress continues."
    return replace(plan, undo=lambda before, after: line, done=done)


# --- commands: point-in-time restore -----------------------------------------------------------------------------------


def after_prefix(text: str) -> str:
    """The first text behind all that begin with this one, as the end of a range, which is not part of it."""
    head = text.rstrip("\U0010ffff")
    return head[:-1] + ("\ue000" if head[-1] == "\ud7ff" else chr(ord(head[-1]) + 1))


def read_ranges(text: str) -> list[Json]:
    """Ranges of container/blob names: start..end separated by commas, or a JSON array of {"startRange", "endRange"}."""
    if text.startswith("["):
        items = json_value(text)
        pairs = [(str(item["startRange"]), str(item["endRange"])) for item in items] if isinstance(items, list) else []
    else:
        parts = (part.partition("..") for part in split_list(text))
        pairs = [(start.strip(), end.strip()) for start, _, end in parts]
    if not 1 <= len(pairs) <= 10:
        raise ValueError("1 to 10 ranges, each with a start and an end")
    if any(start.find("/") < 1 or start >= end for start, end in pairs):
        raise ValueError("a range begins with container/ and ends behind that")
    return [{"startRange": start, "endRange": end} for start, end in pairs]


class Ranges(NamedTuple):
    """What of an account is restored."""

    account: AccountRef
    ranges: list[Json]


WHOLE_ACCOUNT = [{"startRange": "", "endRange": ""}]
RANGE_ARGUMENTS = {
    **STORAGE_SCOPE,
    "container_name": optional(Container),
    "prefix": optional(ExactText),
    "ranges": optional(
        Annotated[
            list[Json],
            Reader(
                'ranges such as box/a..box/b, or [{"startRange":"box/a","endRange":"box/b"}]', read_ranges, many=True
            ),
        ]
    ),
    "confirm_all": optional(Flag, False),
}


def build_ranges(azure: Azure, given: Given) -> Ranges:
    """The account and the ranges: those given, a container (or what in it has a prefix), or with confirm_all everything."""
    url: BlobAddress | None = given["blob_url"]
    unused(given, "version", "snapshot")
    ranges, prefix, everything = given["ranges"], given["prefix"] or "", given["confirm_all"]
    blob, container = url.blob if url else "", named_if_any(given, "container")
    if prefix and (blob or not container):
        raise (
            exclusive("prefix", "a blob_url of one blob")
            if blob
            else missing("container_name", "the container that the prefix is in")
        )
    if sum(map(bool, (container, ranges, everything))) != 1:
        raise one_of_these("container_name", "ranges", "confirm_all")
    if container:
        # The container's name with 0, which follows the slash, bounds it; a blank follows a blob's own name.
        end = f"{container}/{blob} " if blob else after_prefix(f"{container}/{prefix}")
        ranges = [{"startRange": f"{container}/{blob or prefix}", "endRange": end}]
    return Ranges(build_target(azure, given), ranges or WHOLE_ACCOUNT)


def read_restore_time(text: str) -> str:
    """A time, to the fraction of a second that was given."""
    seconds = read_time(text)
    return text if VERSION.fullmatch(text) else iso_time(seconds)


RestoreTime = Annotated[
    str, Reader("a time such as 2026-11-23T12:00:00Z, or a span back from now such as 2 hours or 7d", read_restore_time)
]


@command(
    "azure-storage-blob-ranges-restore",
    needs=(READ_ACCOUNT, READ_SERVICE, RESTORE_RANGES),
    role=ACCOUNT_CONTRIBUTOR,
    confirm=True,
    polling=Polling(30, 21_600),
    execution=True,
)
def blob_ranges_restore(
    azure: Azure,
    target: Annotated[Ranges, Group(RANGE_ARGUMENTS, build_ranges)],
    time_to_restore: RestoreTime,
    *,
    restore_id: Text | None = None,
) -> Plan | Later:
    """Brings block blobs back to an earlier time. Azure blocks the ranges meanwhile, and it cannot be stopped."""
    account, body = target.account, {"timeToRestore": time_to_restore, "blobRanges": target.ranges}
    read = partial(restore_status, azure, account)
    plan = Plan(account.id, {"timeToRestore": None}, body, RESTORE_VIEW, note="Nothing undoes a restore.")
    if restore_id:
        status = read()
        ended = replace(plan, item=restore_item(account, body, status), carried_out=True)
        return restore_later(account, body, restore_id, status) or ended
    last = check_restore(azure, account, time_to_restore).get("restoreId")

    def start() -> str:
        return str(azure.arm.ask(RANGES_RESTORE, account, body).get("restoreId") or "")

    def later(outcomes: list[Outcome]) -> Later | None:
        text = f"Azure is restoring blobs of {account}. This command ends when it is done."
        return restore_later(account, body, outcomes[0].answer or f"not {last or ''}", read(), text)

    return replace(
        plan,
        steps=[Step("start the restore", start, lambda error: read().get("restoreId") not in (None, last))],
        later=later,
        read_back=lambda outcomes: restore_item(account, body, read()),
        equal=uncompared,
        confirm=(account.name, "This restores the whole account.") if target.ranges == WHOLE_ACCOUNT else None,
    )


def restore_status(azure: Azure, account: AccountRef) -> Json:
    """The status of the last restore; {} if there was none."""
    current = azure.arm.ask(ACCOUNT_GET, account, params={"$expand": "blobRestoreStatus"})
    return dict(at_path(current, "properties.blobRestoreStatus") or {})


def restore_item(account: AccountRef, body: Json, status: Json) -> Json:
    told = given_only({key: status.get(key) for key in ("restoreId", "status", "failureReason")})
    return {"id": account.id, "account": account.name, **body, **told}


def restore_later(account: AccountRef, body: Json, restore_id: str, status: Json, text: str = "") -> Later | None:
    """What a polling round goes on with; None where the restore has ended. Raises where it failed. An answer without an ID
    is followed by whatever restore is not the earlier one, which the words "not" and its ID stand for."""
    found, earlier = str(status.get("restoreId") or ""), restore_id.removeprefix("not ")
    ours = found == restore_id if earlier == restore_id else found not in ("", earlier)
    if ours and status.get("status") == "Failed":
        words = f"The restore of {account} failed: {status.get('failureReason') or 'Azure gives no reason'}"
        raise AzureStorageError(words, "Read the reason, then start the restore again.")
    if ours and status.get("status") != "InProgress":
        return None
    everything = body["blobRanges"] == WHOLE_ACCOUNT
    ranges = {"ranges": "" if everything else json.dumps(body["blobRanges"]), "confirm_all": as_text(everything)}
    time = {"time_to_restore": body["timeToRestore"], "restore_id": found if ours else restore_id}
    return Later(text, {**account.arguments, **ranges, **time, "container_name": "", "prefix": ""})


def check_restore(azure: Azure, account: AccountRef, wanted: str) -> Json:
    """Refuse with the reason what Azure would refuse later in fewer words. Returns the status of the last restore.

    https://learn.microsoft.com/azure/storage/blobs/point-in-time-restore-overview
    """
    current = azure.arm.ask(ACCOUNT_GET, account, params={"$expand": "blobRestoreStatus"})
    service, setting = azure.arm.ask(SERVICE_GET, account), partial(at_path, current.get("properties"))
    last, earliest = (
        dict(setting("blobRestoreStatus") or {}),
        at_path(service, "properties.restorePolicy.minRestoreTime"),
    )
    standard = current.get("kind") == "StorageV2" and not str(at_path(current, "sku.name")).startswith("Premium")
    problems = (
        (not standard, "only standard general-purpose v2 accounts support it"),
        (setting("isHnsEnabled"), "accounts with a hierarchical namespace don't support it"),
        (setting("dnsEndpointType") == "AzureDnsZone", "accounts with DNS zone endpoints don't support it"),
        (
            not at_path(service, "properties.restorePolicy.enabled"),
            "its policy is off, and it only reaches back to when that was turned on. Try !azure-storage-blob-undelete",
        ),
        (
            at_path(service, "properties.deleteRetentionPolicy.allowPermanentDelete"),
            "permanent deletion is allowed in the account, which excludes it",
        ),
        ((moment(wanted) or 0) < (moment(earliest) or 0), f"the earliest time is {earliest}"),
        ((moment(wanted) or 0) > Clock.now(), "the time is in the future"),
        (
            last.get("status") == "InProgress",
            "another restore is running. It can't be stopped, and the next has to wait for it",
        ),
    )
    for broken, reason in problems:
        if broken:
            raise UsageError(f"Point-in-time restore of {account} is not possible: {reason}.")
    return last


# --- commands: containers ----------------------------------------------------------------------------------------------


class Containers:
    """The containers of one account: through Resource Manager or, where that can't be used, through the blob service.

    The blob service takes over once nobody is signed in, the identity has no role in Resource Manager, or nothing tells
    where the account is. What it can't do either is told in Resource Manager's words.
    """

    def __init__(self, azure: Azure, given: Given) -> None:
        self.azure, self._given = azure, {"blob_url": None, **given}
        clue = clue_of(self._given)
        self.name = clue.name
        self.account: AccountRef | None = None
        self._refusal: AzureStorageError | None = None
        try:
            self.account = account_in(azure, given, clue)
        except (ServiceError, SignInError, UnknownAccountError) as error:
            self._refused(error)

    def _refused(self, error: AzureStorageError) -> None:
        """Remember why Resource Manager can't be used; any other error is raised."""
        if isinstance(error, ServiceError) and error.code != "AuthorizationFailed":
            own = self.azure.settings.storage_credential_for(self.name)
            if not own or error.code not in MISPLACED:
                raise error
        self._refusal = error

    def either(self, by_arm: Callable[[AccountRef], T], by_blobs: Callable[[BlobService], T]) -> T:
        """What Resource Manager answers, or the blob service in its place."""
        if self.account and not self._refusal:
            try:
                return by_arm(self.account)
            except (ServiceError, SignInError) as error:
                self._refused(error)
        try:
            return by_blobs(self.service)
        except (NetworkError, ServiceError, SignInError) as error:
            denied = not isinstance(error, ServiceError) or error.status == 403
            if denied and self._refusal and not self.azure.settings.storage_credential_for(self.name):
                raise self._refusal from None
            raise

    @cached_property
    def service(self) -> BlobService:
        return service_in(self.azure, self._given)

    def place(self, name: str) -> ContainerRef | ContainerPlace:
        """A container, named as the way that is in use names it."""
        if self.account and not self._refusal:
            return ContainerRef(self.account, name)
        return ContainerPlace(self.service, name)

    def read(self, name: str) -> Json | None:
        return self.either(
            lambda account: self.azure.arm.ask_if_there(
                CONTAINER_GET, ContainerRef(account, name), "ContainerNotFound"
            ),
            lambda service: service.container(name),
        )

    def existing(self, name: str) -> Json:
        """A container that has to be there."""
        found = self.read(name)
        if found is None:
            words = f"The account {self.name} has no container of this name."
            action = CONTAINER_HEAD.action.format(name)
            raise ServiceError(action, 404, "ContainerNotFound", words, "", LIST_CONTAINERS)
        return found

    def listing(
        self, paging: Paging, page_size: int | None = None, deleted: bool = False, prefix: str | None = None
    ) -> Listing:
        if paging.place and not paging.place.startswith("/subscriptions/"):
            self.account = None  # the earlier page was one of the blob service
        params = {"$maxpagesize": page_size, "$include": "deleted" if deleted else None, "$filter": prefix}
        include = "metadata,deleted" if deleted else "metadata"
        size = page_size or (5000 if paging.all_results else min(5000, paging.limit))
        query = {"prefix": prefix, "include": include, "maxresults": size}
        return self.either(
            lambda account: self.azure.arm.listing(CONTAINERS_LIST, account, paging, params=params),
            lambda service: collect(service.containers(query, paging.place), paging),
        )

    def create(self, name: str, properties: Json) -> Json | None:
        """The container, where the answer holds it."""
        headers = {
            "x-ms-blob-public-access": access_header(properties.get("publicAccess")),
            "x-ms-default-encryption-scope": properties.get("defaultEncryptionScope"),
            "x-ms-deny-encryption-scope-override": as_text(properties.get("denyEncryptionScopeOverride")) or None,
        }
        body = {"properties": properties}

        def make(service: BlobService) -> Json | None:
            service.ask(CONTAINER_MAKE, name, headers=headers)
            return None

        return self.either(
            lambda account: self.azure.arm.ask(CONTAINER_CREATE, ContainerRef(account, name), body), make
        )

    def update(self, name: str, properties: Json) -> None:
        """The blob service keeps the stored access policies, which are set together with the access level."""

        def set_access(service: BlobService) -> Json | None:
            fixed = [key for key in properties if key != "publicAccess"]
            if fixed:
                words = f"Could not update container {name}: the blob service sets {', '.join(fixed)} only when a container is created."
                raise UsageError(words, f"Sign in with an identity that has the role {ACCOUNT_CONTRIBUTOR}.")
            access = access_header(properties["publicAccess"])
            service.set_access_policies(name, service.access_policies(name)._replace(public_access=access))
            return None

        body = {"properties": properties}
        self.either(lambda account: self.azure.arm.ask(CONTAINER_UPDATE, ContainerRef(account, name), body), set_access)

    def delete(self, name: str) -> object:
        """ALREADY where Azure says that it was not there any more."""

        return self.either(
            lambda account: removal(self.azure, CONTAINER_DELETE, ContainerRef(account, name), "ContainerNotFound")(),
            lambda service: service.ask(CONTAINER_REMOVE, name),
        )


def access_header(level: object) -> str | None:
    """The access level as the blob service writes it; None where it is private."""
    return None if level in (None, "None") else str(level).lower()


ContainersArgs = Annotated[Containers, Group({"account_name": required(Account), **SCOPE_ARGUMENTS}, Containers)]


def build_one_container(azure: Azure, given: Given) -> tuple[Containers, str]:
    """A container, and how its account is reached."""
    unused(given, "blob", "version", "snapshot")
    check_named(given, "container_name")
    return Containers(azure, given), named(given, "container_name", "container")


OneContainerArgs = Annotated[tuple[Containers, str], Group(CONTAINER_ARGUMENTS, build_one_container)]


@command(
    "azure-storage-blob-containers-create",
    needs=(READ_CONTAINER, WRITE_CONTAINER),
    role=ACCOUNT_CONTRIBUTOR,
)
def blob_containers_create(
    azure: Azure, account: ContainersArgs, container_name: Container, properties: ContainerBody
) -> Plan:
    """Creates the container; one that is there only gets the given settings, never an empty body that would reset it."""
    current = account.read(container_name)
    if current is not None:
        return container_plan(account, CONTAINER_VIEW, container_name, current, properties)
    place = account.place(container_name)
    create = Step(
        "create the container",
        lambda: account.create(container_name, properties),
        lambda error: account.read(container_name) is not None,
    )
    return Plan(
        place.id,
        {},
        {"name": container_name, **properties},
        CONTAINER_VIEW,
        [create],
        read_back=lambda outcomes: outcomes[-1].answer or account.existing(container_name),
        equal=uncompared,
        undo=lambda before, after: command_line("blob-container-delete", place.arguments),
    )


@command(
    "azure-storage-blob-containers-update",
    needs=(READ_CONTAINER, WRITE_CONTAINER),
    role=ACCOUNT_CONTRIBUTOR,
    execution=True,
)
def blob_containers_update(
    azure: Azure, account: ContainersArgs, container_name: Container, properties: ContainerBody
) -> Plan:
    current = account.existing(container_name)
    return container_plan(account, UPDATED_CONTAINER_VIEW, container_name, current, properties)


def container_plan(account: Containers, view: View, name: str, current: Json, wanted: Json) -> Plan:
    before, after = differences(at_path(current, "properties") or {}, wanted)
    place = account.place(name)
    website = "Still allowed: a static website serves $web to everybody whatever its access level is."
    return one_request(
        place.id,
        view,
        current,
        (before, after),
        "update the container",
        lambda: account.update(name, after),
        lambda: account.existing(name),
        state=lambda item: at_path(item, "properties") or {},
        undo=undo_with("blob-containers-update", place.arguments, CONTAINER_FIELDS),
        note=website if name == "$web" and after.get("publicAccess") == "None" else "",
        done=cannot_undo(before, CONTAINER_FIELDS, after),
    )


@command("azure-storage-blob-containers-list", needs=(READ_CONTAINER,), role="Reader")
def blob_containers_list(
    azure: Azure,
    account: ContainersArgs,
    container_name: Container | None = None,
    prefix: Annotated[str, pattern("the start of a container name", r"[a-z0-9$][a-z0-9-]{0,62}")] | None = None,
    include_deleted: Flag = False,
    maxpagesize: Annotated[int, number(1, 5000)] | None = None,
    limit: Count | None = None,
    all_results: Flag = False,
    next_token: PageToken | None = None,
) -> CommandResults:
    """`maxpagesize` alone also says how many are wanted, as it does in playbooks made for the existing pack."""
    if container_name and prefix:
        raise exclusive("prefix", "container_name")
    if container_name and not include_deleted:
        return show(CONTAINERS_VIEW, account.existing(container_name))
    paging = Paging(limit or maxpagesize or DEFAULT_LIMIT, all_results or bool(container_name), *(next_token or ()))
    listing = account.listing(paging, maxpagesize, include_deleted, prefix or container_name)
    if container_name:
        listing = Listing([item for item in listing.items if item.get("name") == container_name])
    return show_list(DELETED_CONTAINERS_VIEW if include_deleted else CONTAINERS_VIEW, listing)


@command(
    "azure-storage-blob-container-delete",
    needs=(READ_CONTAINER, DELETE_CONTAINER),
    role=ACCOUNT_CONTRIBUTOR,
    execution=True,
)
def blob_container_delete(azure: Azure, account: ContainersArgs, container_name: Container) -> Plan:
    current = account.read(container_name)
    place, name = account.place(container_name), {"name": container_name} if current else {}
    step = Step(
        "delete the container",
        lambda: account.delete(container_name),
        lambda error: account.read(container_name) is None,
    )
    return Plan(
        place.id,
        name,
        dict.fromkeys(name),
        DELETED_CONTAINER_VIEW,
        [step],
        undo=lambda before, after: command_line("container-restore", place.arguments),
        missed=f"There is no container {place}.",
        done=f"Container {place} was deleted. The undo works while container soft delete keeps it.",
    )


# --- commands: legal holds and immutability ----------------------------------------------------------------------------

HoldTags = Annotated[
    list[str],
    listed(
        Reader("tags of 3 to 23 letters and digits", lambda text: matching(re.compile(r"[a-z0-9]{3,23}"), text.lower()))
    ),
]


def hold_plan(azure: Azure, container: ContainerRef, tags: list[str], *, held: bool) -> Plan:
    """Put tags on the hold or take them off; only those that are not so already are sent."""
    current = azure.arm.ask(CONTAINER_GET, container)
    old = sorted(hold_tags(current))
    due = [tag for tag in tags if (tag in old) is not held]
    endpoint, verb, inverse = (HOLD_SET, "set", "clear") if held else (HOLD_CLEAR, "clear", "set")
    return one_request(
        container.id,
        HOLD_VIEW,
        current,
        ({"tags": old}, {"tags": sorted({*old} ^ {*due})}),
        f"{verb} the legal hold",
        lambda: azure.arm.ask(endpoint, container, {"tags": due}),
        lambda: azure.arm.ask(CONTAINER_GET, container),
        state=lambda item: {"tags": sorted(hold_tags(item))},
        undo=lambda before, after: command_line(
            f"container-legal-hold-{inverse}", container.arguments, {"tags": ",".join(due)}
        ),
        note="It takes up to half a minute. Blobs can still be read and added; none can be changed or deleted."
        if held
        else "",
    )


@command("azure-storage-container-legal-hold-set", needs=(READ_CONTAINER, SET_HOLD), role=ACCOUNT_CONTRIBUTOR)
def container_legal_hold_set(azure: Azure, container: ContainerTarget, tags: HoldTags) -> Plan:
    """Adds tags to the legal hold; while there is one, no blob in the container can be changed or deleted. Accounts with
    SFTP or NFS 3.0 don't support it, and a ReadOnly lock blocks it."""
    return hold_plan(azure, container, tags, held=True)


@command(
    "azure-storage-container-legal-hold-clear",
    needs=(READ_CONTAINER, CLEAR_HOLD),
    role=ACCOUNT_CONTRIBUTOR,
    execution=True,
)
def container_legal_hold_clear(azure: Azure, container: ContainerTarget, tags: HoldTags) -> Plan:
    """Takes tags off; the hold ends with the last one."""
    return hold_plan(azure, container, tags, held=False)


def policy_row(container: ContainerRef, policy: Json) -> Json:
    """A policy for context; state None where there is none."""
    properties = policy.get("properties") or {}
    days = properties.get("immutabilityPeriodSinceCreationInDays") or 0
    return {
        "id": container.id + POLICY_PATH,
        "account": container.account.name,
        "container": container.name,
        "days": days,
        "state": properties.get("state") if days else None,
        "allowProtectedAppendWrites": properties.get("allowProtectedAppendWrites"),
        "etag": str(policy.get("etag") or "").strip('"'),
    }


def immutability(azure: Azure, container: ContainerRef) -> Json:
    """The policy with its etag; {} where there is none."""
    try:
        return azure.arm.ask(IMMUTABILITY_GET, container)
    except ServiceError as error:
        if error.status == 404 and error.code not in (*MISPLACED, "ContainerNotFound"):
            return {}
        raise


@command("azure-storage-container-immutability-get", needs=(f"{IMMUTABILITY}/read",), role="Reader")
def container_immutability_get(azure: Azure, container: ContainerTarget) -> CommandResults:
    return show(IMMUTABILITY_VIEW, policy_row(container, immutability(azure, container)))


def immutability_plan(
    azure: Azure,
    container: ContainerRef,
    row: Json,
    endpoint: Endpoint[ContainerRef],
    wanted: Json,
    body: Json | None = None,
    undo: str = "",
) -> Plan:
    """A change of the policy that was read: its etag keeps the change from falling upon another one."""
    headers = {"If-Match": f'"{row["etag"]}"'} if row["etag"] and row["state"] else {}
    return one_request(
        row["id"],
        IMMUTABILITY_VIEW,
        row,
        differences(row, wanted),
        endpoint.action.format(container),
        lambda: azure.arm.ask(endpoint, container, body and {"properties": body}, headers=headers),
        lambda: policy_row(container, immutability(azure, container)),
        undo=lambda old, new: undo,
    )


# What a policy allows although it is in effect; the second, which no argument sets, takes the place of the first.
APPENDS = ("allowProtectedAppendWrites", "allowProtectedAppendWritesAll")
UNDO_OF_APPENDS = f"The undo doesn't restore {APPENDS[1]}, which this integration can't set."


@command(
    "azure-storage-container-immutability-set",
    needs=(f"{IMMUTABILITY}/read", f"{IMMUTABILITY}/write", f"{IMMUTABILITY}/extend/action"),
    role=ACCOUNT_CONTRIBUTOR,
    execution=True,
)
def container_immutability_set(
    azure: Azure,
    container: ContainerTarget,
    days: Annotated[int, number(1, 146_000)],
    allow_protected_append_writes: Flag | None = None,
) -> Plan:
    """No blob in the container can be changed or deleted for so many days after it was made. A locked policy can only grow."""
    policy = immutability(azure, container)
    row = policy_row(container, policy)
    locked = row["state"] == "Locked"
    # The service replaces the whole policy: what it allows now goes along, unless it is given.
    allowed = given_only({name: at_path(policy, f"properties.{name}") for name in APPENDS})
    was, asked = allowed.get(APPENDS[0], False), allow_protected_append_writes
    appends = {} if asked is None or (asked == was and not allowed.get(APPENDS[1])) else {APPENDS[0]: asked}
    if locked and (days < row["days"] or appends):
        raise invalid("days", f"the policy is locked at {row['days']} days and can only be extended.")
    undo = command_line("container-immutability-delete", container.arguments)
    if row["state"]:
        old = {"days": row["days"]} | ({"allow_protected_append_writes": was} if appends else {})
        undo = "" if locked else command_line("container-immutability-set", container.arguments, old)
    body = {"immutabilityPeriodSinceCreationInDays": days, **(appends or allowed)}
    endpoint = IMMUTABILITY_EXTEND if locked else IMMUTABILITY_SET
    plan = immutability_plan(azure, container, row, endpoint, {"days": days, **appends}, body, undo)
    note = "It is not locked: whoever may write policies can remove it. !azure-storage-container-immutability-lock makes it final."
    done = UNDO_OF_APPENDS if appends and allowed.get(APPENDS[1]) else ""
    return replace(plan, note="" if locked else note, done=done)


@command(
    "azure-storage-container-immutability-lock",
    needs=(f"{IMMUTABILITY}/read", f"{IMMUTABILITY}/lock/action"),
    role=ACCOUNT_CONTRIBUTOR,
    execution=True,
    confirm=True,
)
def container_immutability_lock(azure: Azure, container: ContainerTarget) -> Plan:
    """Makes the policy final: nobody, not even Microsoft, can shorten or remove it. `confirm` repeats the container's name."""
    row = policy_row(container, immutability(azure, container))
    if not row["state"]:
        raise UsageError(
            f"Container {container} has no immutability policy to lock.",
            "Create one with !azure-storage-container-immutability-set.",
        )
    plan = immutability_plan(azure, container, row, IMMUTABILITY_LOCK, {"state": "Locked"})
    words = f"A locked policy keeps every blob for {row['days']} days, and the container and account with them. Nothing undoes it."
    note = "A locked policy can be extended five times and never removed."
    return replace(plan, note=note, confirm=(container.name, words))


@command(
    "azure-storage-container-immutability-delete",
    needs=(f"{IMMUTABILITY}/read", f"{IMMUTABILITY}/delete"),
    role=ACCOUNT_CONTRIBUTOR,
    execution=True,
)
def container_immutability_delete(azure: Azure, container: ContainerTarget) -> Plan:
    policy = immutability(azure, container)
    row = policy_row(container, policy)
    if row["state"] == "Locked":
        raise UsageError(f"The immutability policy of container {container} is locked and can't be removed.")
    appends = given_only({"allow_protected_append_writes": row["allowProtectedAppendWrites"]})
    undo = command_line("container-immutability-set", container.arguments, {"days": row["days"]}, appends)
    plan = immutability_plan(
        azure, container, row, IMMUTABILITY_DELETE, {"days": 0} if row["state"] else {}, None, undo
    )
    done = UNDO_OF_APPENDS if at_path(policy, f"properties.{APPENDS[1]}") else ""
    return replace(plan, missed=f"Container {container} has no immutability policy.", done=done)


# --- commands: leases --------------------------------------------------------------------------------------------------

# What a lease is in after each action; a broken one may have to run out first.
LEASE_STATES: Mapping[str, tuple[str, ...]] = {
    "acquire": ("leased",),
    "renew": ("leased",),
    "change": ("leased",),
    "release": ("available",),
    "break": ("broken", "breaking"),
}
# The actions that make use of an argument.
LEASE_ACTIONS = {
    "lease_id": ("renew", "change", "release", "break"),
    "proposed_lease_id": ("acquire", "change"),
    "break_period": ("break",),
}


class Lease(NamedTuple):
    """What to do with a lease. https://learn.microsoft.com/rest/api/storageservices/lease-blob"""

    action: str
    lease_id: str | None
    proposed_lease_id: str | None
    duration: int
    break_period: int | None


LEASE_ARGUMENTS = {
    "action": required(Annotated[str, choice(*LEASE_STATES)]),
    "lease_id": optional(LeaseId),
    "proposed_lease_id": optional(LeaseId),
    "duration": optional(
        Annotated[
            int,
            Reader(
                "15 to 60 seconds, or -1 for a lease without end",
                lambda text: -1 if text == "-1" else read_number(15, 60)(text),
            ),
        ],
        -1,
    ),
    "break_period": optional(Annotated[int, number(0, 60)]),
}


def build_lease(azure: Azure, given: Given) -> Lease:
    lease = Lease(**given)
    if lease.action in ("renew", "change", "release") and not lease.lease_id:
        raise missing("lease_id", f"the ID of the lease, which {lease.action} needs")
    if lease.action == "change" and not lease.proposed_lease_id:
        raise missing("proposed_lease_id", "the new ID, which change needs")
    for name, actions in LEASE_ACTIONS.items():
        if getattr(lease, name) is not None and lease.action not in actions:
            raise UsageError(f"`{name}` can't be combined with `action={lease.action}`.")
    return lease


LeaseArgs = Annotated[Lease, Group(LEASE_ARGUMENTS, build_lease)]
Lent = tuple[object, object]  # lease id and seconds left, as the service answers


def leased(item: object, name: str) -> str:
    """The state or duration of a lease, which Resource Manager writes Leased and the blob service leased."""
    return str(at_path(item, name) or at_path(item, f"properties.{name}") or "")


def lease_plan(
    target: BlobRef | ContainerRef, view: View, lease: Lease, read: Callable[[], Json], act: Callable[[], Lent]
) -> Plan:
    """The lease of a blob or container: what happened comes from the service's answer, the state is read back.

    A lease that is renewed or changed is leased before and after; what is asked for is done all the same.
    """
    current, wanted = read(), LEASE_STATES[lease.action]
    state = leased(current, "leaseState")
    held = lease.lease_id if lease.action != "acquire" else None
    lent_after = {"lease": None if lease.action in ("release", "break") else NEW}

    def read_back(outcomes: list[Outcome]) -> Json:
        lent, seconds = outcomes[-1].answer or ("", "")
        left = int(seconds) if str(seconds).isdigit() else None
        return {**read(), **given_only({"leaseId": lent or None, "leaseSecondsLeft": left})}

    def look(error: AzureStorageError) -> bool | None:
        """Nothing tells whose lease it is that is there."""
        return None if "leased" in wanted else leased(read(), "leaseState").lower() in {*wanted} - {state.lower()}

    return Plan(
        target.id,
        given_only({"leaseState": state, "lease": held}),
        {"leaseState": wanted} | (lent_after if held or lent_after["lease"] else {}),
        view,
        [Step(f"{lease.action} the lease", act, look)],
        item=current,
        read_back=read_back,
        state=lambda item: {"leaseState": leased(item, "leaseState"), "lease": at_path(item, "leaseId")},
        equal=lambda now, asked: asked in (None, NEW) or str(now).lower() == str(asked).lower(),
        undo=lambda old, new: undo_lease(target, lease, current, str(new.get("lease") or "")),
        note="Renewing a lease changes nothing that could be undone." if lease.action == "renew" else "",
    )


def undo_lease(target: BlobRef | ContainerRef, lease: Lease, current: Json, held: str) -> str:
    """The command that takes a lease back; held: the lease id that the service answered. One that was there before it
    was acquired once more stays; one that would have ended by itself ends again."""
    ends = {"duration": 60} if leased(current, "leaseDuration").lower() == "fixed" else {}
    lines: dict[str, Json] = {
        "change": {"action": "change", "lease_id": held, "proposed_lease_id": lease.lease_id},
        "release": {"action": "acquire", "proposed_lease_id": lease.lease_id, **ends},
    }
    if leased(current, "leaseState").lower() != "leased":
        lines["acquire"] = {"action": "release", "lease_id": held}
    known = lease.action in lines and (held or lease.action == "release")
    name = "blob-lease" if isinstance(target, BlobRef) else "container-lease"
    return command_line(name, target.arguments, lines[lease.action]) if known else ""


@command(
    "azure-storage-container-lease",
    needs=(READ_CONTAINER, LEASE_CONTAINER),
    role=ACCOUNT_CONTRIBUTOR,
    execution=True,
)
def container_lease(azure: Azure, container: ContainerTarget, lease: LeaseArgs) -> Plan:
    """A lease keeps the container from being deleted; blobs in it are not protected."""
    body = given_only(
        {
            "action": lease.action.capitalize(),
            "leaseId": lease.lease_id,
            "proposedLeaseId": lease.proposed_lease_id,
            "leaseDuration": lease.duration if lease.action == "acquire" else None,
            "breakPeriod": lease.break_period,
        }
    )

    def act() -> Lent:
        answer = azure.arm.ask(CONTAINER_LEASE, container, body)
        return answer.get("leaseId"), answer.get("leaseTimeSeconds")

    return lease_plan(container, CONTAINER_LEASE_VIEW, lease, lambda: azure.arm.ask(CONTAINER_GET, container), act)


# --- commands: stored access policies ----------------------------------------------------------------------------------

# What the letters of a SAS allow: https://learn.microsoft.com/rest/api/storageservices/create-user-delegation-sas
PERMISSIONS = {
    "r": "read", "a": "add", "c": "create", "w": "write", "d": "delete", "x": "delete versions", "y": "delete permanently", "l": "list",
    "t": "tags", "f": "find by tags", "u": "update", "p": "change permissions", "m": "move", "e": "execute", "o": "change the owner",
    "i": "set immutability",
}  # fmt: skip


def in_words(letters: str, words: Mapping[str, str] = PERMISSIONS) -> str:
    """What the letters of a SAS stand for."""
    return ", ".join(words.get(letter, letter) for letter in letters)


def policy_rows(place: ContainerPlace, acl: Acl) -> list[Json]:
    return [
        {
            "id": f"{place.id}#{policy.name}",
            "account": place.service.account,
            "container": place.name,
            "policy": policy.name,
            "permissions": in_words(policy.permissions),
            "start": policy.start,
            "expiry": policy.expiry,
        }
        for policy in acl.policies
    ]


@command("azure-storage-container-policy-list", needs=(READ_ACL,), role=OWNER)
def container_policy_list(azure: Azure, container: ContainerArgs) -> CommandResults:
    """Policies that SAS refer to: changing or removing one is the only way to end a single service SAS."""
    return show_list(POLICIES_VIEW, Listing(policy_rows(container, container.service.access_policies(container.name))))


@command("azure-storage-container-policy-revoke", needs=(READ_ACL, WRITE_ACL), role=OWNER, execution=True)
def container_policy_revoke(
    azure: Azure,
    container: ContainerArgs,
    policy: Annotated[list[str], listed(Reader("names of stored access policies", str))] | None = None,
    all_policies: Flag = False,
) -> Plan:
    """Removes policies, and with them what was signed by their names; the other policies and the public access stay."""
    if bool(policy) is all_policies:
        raise one_of_these("policy", "all_policies=true")
    service = container.service
    found = service.access_policies(container.name)
    kept = [entry for entry in found.policies if not all_policies and entry.name not in (policy or [])]
    old, new = ([entry._asdict() for entry in entries] for entries in (found.policies, kept))
    lost = sorted(set(policy or []) - {entry.name for entry in found.policies})
    dormant = (
        f"Where the account forbids public access, the level {found.public_access} of the container goes, too."
        if found.public_access
        else ""
    )
    return one_request(
        container.id,
        POLICIES_VIEW,
        policy_rows(container, found),
        ({"policies": old}, {"policies": new}),
        "remove the policies",
        lambda: service.set_access_policies(container.name, found._replace(policies=kept)),
        lambda: policy_rows(container, service.access_policies(container.name)),
        state=lambda rows: {"policies": [entry for entry in old if entry["name"] in {row["policy"] for row in rows}]},
        missed="No changes needed: there is no such policy.",
        note=" ".join(filter(None, (f"There is no policy {md(', '.join(lost))}." if lost else "", dormant))),
        done="It takes up to half a minute. Nothing of ours undoes it: a policy of the same name would make those SAS work again.",
    )


@command(
    "azure-storage-container-restore",
    needs=(READ_CONTAINER, WRITE_CONTAINER),
    role=f"{ACCOUNT_CONTRIBUTOR} with {CONTRIBUTOR}",
)
def container_restore(azure: Azure, container: OneContainerArgs, version: Text | None = None) -> Plan:
    """Brings back a soft-deleted container with its blobs: the last one of that name that was deleted, or the version given."""
    account, name = container
    current, place = account.read(name), account.place(name)
    if current is not None:
        return Plan(
            place.id, {}, {}, RESTORED_VIEW, item=current, missed=f"No changes needed: there is a container {name}."
        )
    everything = account.listing(Paging(all_results=True), None, True, name).items
    deleted = {
        str(at_path(item, "properties.version")): item
        for item in everything
        if item.get("name") == name and at_path(item, "properties.deleted")
    }
    if not deleted or version not in (None, *deleted):
        known = f" of version {version}; there is {', '.join(deleted)}" if deleted else ""
        step = "Soft delete must have been on when it was deleted. !azure-storage-blob-containers-list include_deleted=true shows what can be restored."
        raise UsageError(f"There is no soft-deleted container {place}{known}.", step)
    found = version or max(deleted, key=lambda each: str(at_path(deleted[each], "properties.deletedTime")))
    headers = {"x-ms-deleted-container-name": name, "x-ms-deleted-container-version": found}
    return one_request(
        place.id,
        RESTORED_VIEW,
        deleted[found],
        ({"deleted": True}, {"deleted": False, "version": found}),
        "restore the container",
        lambda: account.service.ask(CONTAINER_UNDELETE, name, headers=headers),
        lambda: account.read(name) or {},
        state=lambda item: {"deleted": not item, "version": found},
        undo=lambda before, after: command_line("blob-container-delete", place.arguments),
    )


# --- commands: shared access signatures --------------------------------------------------------------------------------

SAS_ORDER = "racwdxyltmeopi"  # the order that Azure wants
MAX_SAS_SECONDS = 7 * 86_400
CLOCK_MARGIN = 60  # seconds by which our clock may be ahead of the service's
START_MARGIN = 300  # seconds before now, at which what shall work at once begins


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


class SasWish(NamedTuple):
    """What a SAS shall allow: a container or (with a name) one blob of it. Times in seconds since 1970.

    user: the object id of the one person who may use it.
    """

    container: str
    blob: str
    permissions: str
    expiry: float
    start: float
    ip: str = ""
    user: str = ""

    def signed(self, account: str, key: str, signer: Sequence[str], more: Mapping[str, str]) -> str:
        """The token; its signature is known as a secret before it is sent anywhere.

        signer: what the string to sign has between the resource and the addresses; more: what else the token has.
        """
        what = {"sp": self.permissions, "st": iso_time(self.start), "se": iso_time(self.expiry)}
        version = USER_BOUND_SAS_VERSION if self.user else SAS_VERSION
        how = {"sip": self.ip, "spr": "https", "sv": version, "sr": "b" if self.blob else "c"}
        resource = "/".join(filter(None, ("/blob", account, self.container, self.blob)))
        lines = [*what.values(), resource, *signer, *how.values(), *[""] * 7]
        signature = hmac_sha256(key, "\n".join(lines))
        for value in (signature, urllib.parse.quote(signature, safe="")):
            remember_secret(value)
        pairs = {name: value for name, value in {**what, **how, **more, "sig": signature}.items() if value}
        return urllib.parse.urlencode(pairs, quote_via=urllib.parse.quote)


def delegation_sas(service: BlobService, wish: SasWish) -> str:
    """A SAS signed with a key that Entra ID lends the signed-in identity; it can do no more than that identity.

    https://learn.microsoft.com/rest/api/storageservices/create-user-delegation-sas
    """
    policy = service.sas_policy()
    required = policy.get("requireUserBoundUserDelegationSas")
    if required and policy.get("requireUserBoundUserDelegationSasAction") == "Block" and not wish.user:
        raise missing(
            "user_object_id", "the object ID of the user, since the account only allows SAS that are bound to one user"
        )
    wish = within_policy(policy, wish)
    # The service takes no start of a key that is more than seven days ago.
    key = service.delegation_key(iso_time(Clock.now() - START_MARGIN), iso_time(wish.expiry))
    lent = {name: str(key[source]) for name, source in LENT_KEY.items()}
    bound = ["", wish.user] if wish.user else []
    signer = [*lent.values(), "", "", "", *bound]
    return wish.signed(service.account, str(key["Value"]), signer, {**lent, "sduoid": wish.user})


def within_policy(policy: Json, wish: SasWish) -> SasWish:
    """A SAS that lives as long as the account's SAS policy lets it work."""
    period = re.fullmatch(r"(\d{1,5})\.(\d\d):(\d\d):(\d\d)", str(policy.get("sasExpirationPeriod") or ""))
    if not period or policy.get("expirationAction") != "Block":
        return wish
    longest = sum(int(part) * unit for part, unit in zip(period.groups(), (86_400, 3600, 60, 1), strict=True))
    if wish.start + longest <= Clock.now():
        raise invalid("start", "by the account's SAS policy, a SAS that starts then has expired already.")
    return wish._replace(expiry=min(wish.expiry, wish.start + longest))


def own_key_sas(service: BlobService, wish: SasWish) -> str:
    """A SAS signed with the key of the account that the instance works with; nobody has to be signed in. Empty where it
    works with something else."""
    own = service.http.authorization
    return wish.signed(service.account, own.key.reveal(), [""], {}) if isinstance(own, SharedKey) else ""


class SasTarget(NamedTuple):
    """A container or (with a name) a blob, and what finds the account in Resource Manager when that is needed."""

    place: ContainerPlace
    blob: str
    find: Callable[[], AccountRef]


def build_sas_target(azure: Azure, given: Given) -> SasTarget:
    unused(given, "version", "snapshot")
    url: BlobAddress | None = given["blob_url"]
    names = given["blob_name"] or (url and url.blob)
    blob = named(given, "blob_name", "blob") if names else ""
    place = ContainerPlace(service_in(azure, given), named(given, "container_name", "container"))
    return SasTarget(place, blob, lambda: build_target(azure, given))


def key_sas(azure: Azure, target: SasTarget, wish: SasWish) -> str:
    """A SAS signed with key1. https://learn.microsoft.com/rest/api/storageservices/create-service-sas"""
    service = target.place.service
    keys = {key.get("keyName"): str(key.get("value") or "") for key in azure.arm.keys(target.find())}
    if not keys.get("key1"):
        raise AzureStorageError(f"Azure returned no value for key1 of {service.account}.")
    return within_policy(service.sas_policy(), wish).signed(service.account, keys["key1"], [""], {})


REVOKE_BY_KEY = "Rotate the account key that signed it, or disable Shared Key access: a single SAS can't be revoked."
REVOKE_DELEGATION = "Revoke the user delegation keys of the account, or remove the role of the identity that signed it."


@command("azure-storage-sas-create", needs=(DELEGATION_KEY,), role="Storage Blob Delegator", execution=True)
def sas_create(
    azure: Azure,
    target: Annotated[SasTarget, Group(BLOB_ARGUMENTS, build_sas_target)],
    permissions: Annotated[str, Reader(f"letters out of {SAS_ORDER}, each once", read_permissions)] = "r",
    expires_in: Annotated[
        str,
        Reader(
            "a span such as 30m, 12h or 7d, or a time such as 2026-11-23T12:00:00Z; at most 7 days from now",
            lambda text: read_expiry(text) and text,
        ),
    ] = "1h",
    start: Moment | None = None,
    ip: Annotated[str, Reader("an IPv4 address, or a range such as 203.0.113.0-203.0.113.9", read_sas_ip)]
    | None = None,
    user_object_id: Annotated[str, Reader("an object ID (GUID)", lambda text: matching(GUID, text).lower())]
    | None = None,
    signed_by: Annotated[str, choice("user_delegation", "account_key")] | None = None,
) -> CommandResults:
    """A link for others, over https only. It is the one result that holds a signature, since that is what it is for.

    An instance that works with an account key signs with it unless told otherwise.
    """
    place, service = target.place, target.place.service
    usual = "account_key" if isinstance(service.http.authorization, SharedKey) else "user_delegation"
    signer = signed_by or usual
    by_key = signer == "account_key"
    if by_key and user_object_id:
        raise exclusive("user_object_id", "signed_by=account_key")
    begin, end = sas_times(expires_in, start, own=by_key)
    wish = SasWish(place.name, target.blob, permissions, end, begin, ip or "", user_object_id or "")
    signed = own_key_sas(service, wish) or key_sas(azure, target, wish) if by_key else delegation_sas(service, wish)
    url = f"{service.blob_id(place.name, target.blob) if target.blob else place.id}?{signed}"
    facts = inspect_sas(read_sas(url))
    note = f"{url}\n\nIt expires at {facts['expiry']}. To revoke it earlier: {facts['revokedBy']}"
    return show(SAS_VIEW, {**facts, "signedBy": signer, "url": url}, note=note)


def sas_times(expires_in: str, start: float | None, *, own: bool) -> tuple[float, float]:
    """Start and end. UsageError for an end that no SAS of the kind can have, by the name of the argument."""
    now = Clock.now()
    begin = start if start is not None else now - START_MARGIN
    end = read_expiry(expires_in) + (max(0.0, begin - now) if moment(expires_in) is None else 0)
    if end <= max(begin, now):
        raise invalid("expires_in", "the SAS would expire before it starts.")
    if not own and end > now + MAX_SAS_SECONDS + 1:
        raise invalid("expires_in", "a user delegation SAS can end at most 7 days from now, also when it starts later.")
    # The service counts the seven days by its own clock, which may be a little behind.
    end = end if own else min(end, now + MAX_SAS_SECONDS - CLOCK_MARGIN)
    try:
        iso_time(end)
    except (ArithmeticError, OSError, ValueError):
        raise invalid("expires_in", "the SAS would end after the year 9999.") from None
    return begin, end


@command("azure-storage-sas-inspect")
def sas_inspect(azure: Azure, sas: Sas) -> CommandResults:
    """What a leaked SAS can do and how to revoke it, and its hash as the storage logs show it. Nothing is sent anywhere."""
    facts = inspect_sas(sas)
    hunt = "To hunt for its use: AuthenticationHash in StorageBlobLogs holds this SHA-256 as SasSignature (!azure-storage-log-search)."
    return show(INSPECT_VIEW, facts, note=f"To revoke it: {md(facts['revokedBy'])} {hunt}")


RESOURCES = {
    "b": "blob",
    "c": "container",
    "bs": "blob snapshot",
    "bv": "blob version",
    "d": "directory",
    "f": "file",
    "s": "file share",
}
SERVICES = {"b": "blob", "f": "file", "q": "queue", "t": "table"}
RESOURCE_TYPES = {"s": "service", "c": "container", "o": "object"}
# Fields of a SAS that context has as they are.
SAS_FIELDS = {
    "ip": "sip", "policy": "si", "version": "sv", "delegatingObjectId": "skoid", "delegatingTenantId": "sktid",
    "boundTenantId": "skdutid", "encryptionScope": "ses",
}  # fmt: skip


def sas_kind(fields: Mapping[str, str], service: str) -> tuple[str, str]:
    """What kind of SAS it is, and how it is revoked."""
    if "skoid" in fields:
        return "user delegation SAS", REVOKE_DELEGATION
    if "ss" in fields:
        return "account SAS", REVOKE_BY_KEY
    kind = "service SAS" if service in ("", "blob", "dfs") else f"{service} service SAS"
    if "si" in fields:
        return (
            f"{kind} with a stored policy",
            f"Remove or change the stored access policy {fields['si']!r} (!azure-storage-container-policy-revoke), or rotate the account key.",
        )
    return kind, REVOKE_BY_KEY


def sas_lifetime(fields: Mapping[str, str]) -> tuple[float | None, float | None]:
    """Start and end; a delegation SAS lives no longer than the key that signed it."""
    starts = [time for time in map(moment, (fields.get("st"), fields.get("skt"))) if time is not None]
    ends = [time for time in map(moment, (fields.get("se"), fields.get("ske"))) if time is not None]
    return max(starts, default=None), min(ends, default=None)


def inspect_sas(sas: SasToken) -> Json:
    """The fields of a SAS in words, and the SHA-256 of its decoded signature, as the logs have it; never the signature."""
    fields, address = sas.fields, sas.address
    service = "table" if "tn" in fields else address.service if address else ""
    kind, revoked = sas_kind(fields, service)
    start, end = sas_lifetime(fields)
    types = in_words(fields.get("srt", ""), RESOURCE_TYPES)
    resource = RESOURCES.get(fields.get("sr", ""), "") or (f"table {fields['tn']}" if "tn" in fields else types)
    queue = {"p": "process"} if service == "queue" or fields.get("ss") == "q" else {}
    facts = {
        "kind": kind,
        "account": address.account if address else "",
        "services": in_words(fields.get("ss", ""), SERVICES) or service,
        "resource": resource,
        "path": "/".join(filter(None, (address.container, address.blob))) if address else "",
        "permissions": in_words(fields.get("sp", ""), PERMISSIONS | queue),
        "start": fields.get("st", "") if start is None else iso_time(start),
        "expiry": fields.get("se", "") if end is None else iso_time(end),
        "expired": end is not None and end < Clock.now(),
        "protocol": fields.get("spr", "https,http"),
        "signer": f"object ID {fields['skoid']}" if "skoid" in fields else "account key",
        "boundTo": fields.get("sduoid") or fields.get("suoid") or fields.get("saoid") or "",
        "sha256": hashlib.sha256(fields["sig"].encode()).hexdigest(),
        "revokedBy": revoked,
        **{name: fields.get(field, "") for name, field in SAS_FIELDS.items()},
    }
    always = ("start", "expiry", "ip", "policy")
    return {name: value for name, value in facts.items() if value not in ("", None) or name in always}


# --- commands: blobs ---------------------------------------------------------------------------------------------------

INCLUDES = (
    "metadata",
    "tags",
    "versions",
    "snapshots",
    "deleted",
    "deletedwithversions",
    "uncommittedblobs",
    "copy",
    "legalhold",
    "immutabilitypolicy",
)


def is_folder(row: Json) -> bool:
    """Whether a listed blob is a directory of an account with a hierarchical namespace."""
    return row.get("resourceType") == "directory" or (row.get("metadata") or {}).get("hdi_isfolder") == "true"


BlobType = Annotated[str, choice("BlockBlob", "AppendBlob", "PageBlob")]
# Arguments that say which blobs of a listing are wanted, and how a row compares with them.
FILTERS: Mapping[str, tuple[object, Callable[..., bool]]] = {
    "modified_since": (Moment, lambda row, since: (moment(row.get("lastModified")) or 0) >= since),
    "modified_until": (Moment, lambda row, until: (moment(row.get("lastModified")) or 0) <= until),
    "min_size": (Size, lambda row, least: row.get("size", 0) >= least),
    "max_size": (Size, lambda row, most: row.get("size", 0) <= most),
    "blob_type": (BlobType, lambda row, kind: row.get("type") == kind),
    "tier": (Tier, lambda row, tier: row.get("tier") == tier),
    "md5": (Md5, lambda row, md5: row.get("md5") == md5),
}
FILTER_GROUP = Group(
    {name: optional(annotation) for name, (annotation, _) in FILTERS.items()}, lambda azure, given: given_only(given)
)


@command("azure-storage-blob-list", needs=(READ_BLOB,), role=READER)
def blob_list(
    azure: Azure,
    container: ContainerArgs,
    wanted: Annotated[Json, FILTER_GROUP],
    paging: PagingArgs,
    prefix: ExactText | None = None,
    delimiter: Text | None = None,
    include: Annotated[list[str], listed(choice(*INCLUDES))] | None = None,
) -> CommandResults:
    """Filters while it pages, so that only what is wanted is ever held."""
    size = 5000 if wanted or paging.all_results else min(paging.limit, 5000)
    totals = Counter[str]()

    def keep(row: Json) -> bool:
        kind = "folders" if row.get("isPrefix") else "blobs"
        if kind == "blobs" and not all(FILTERS[name][1](row, value) for name, value in wanted.items()):
            return False
        totals.update({kind: 1, "bytes": row.get("size", 0)})
        return True

    included = ",".join(include) if include else None
    query = {"prefix": prefix, "delimiter": delimiter, "include": included, "maxresults": size}
    listing = collect(container.service.rows(container.name, query, paging.place), paging, keep)
    folders = f" and {totals['folders']:,} folders" if totals["folders"] else ""
    total = f"{totals['blobs']:,} blobs{folders}, {totals['bytes']:,} bytes."
    return show_list(BLOBS_VIEW, listing, total)


def read_range(text: str) -> tuple[int, int | None]:
    found = re.fullmatch(r"(?:bytes=)?(\d{1,15})-(\d{0,15})", text.replace(" ", ""), re.ASCII)
    if not found or (found[2] and int(found[2]) < int(found[1])):
        raise ValueError
    return int(found[1]), int(found[2]) if found[2] else None


class Collected(NamedTuple):
    """Blobs to be collected: those that are named, or the first that a selection finds. more: it finds others, too."""

    service: BlobService
    blobs: list[BlobRef]
    selection: str = ""
    more: bool = False

    def note(self, done: str) -> str:
        return (
            f"Only the first {len(self.blobs)} blobs were {done}; there are more. Raise `limit`." if self.more else ""
        )

    def nothing_found(self) -> UsageError:
        step = "Check it with !azure-storage-blob-list or !azure-storage-blob-find."
        return UsageError("No blob was found by this `prefix` or `tag`.", step)


COLLECT_ARGUMENTS = {
    **BLOBS_ARGUMENTS,
    "prefix": optional(ExactText),
    "tag": optional(BlobTag),
    "limit": optional(Annotated[int, number(1, 200)], DEFAULT_LIMIT),
}


def build_collected(azure: Azure, given: Given) -> Collected:
    """The blobs that are named, or at most `limit` that a prefix, or a tag in a container or the account, finds."""
    prefix, tag = given["prefix"], given["tag"]
    if not prefix and not tag:
        named_blobs = build_blobs(azure, given)
        return Collected(named_blobs[0].service, named_blobs)
    for name in ("blob_name", "blob_names", "version_id", "snapshot", *(["tag"] if prefix else [])):
        if given[name]:
            raise exclusive("prefix" if prefix else "tag", name)
    url: BlobAddress | None = given["blob_url"]
    if prefix or given["container_name"] or (url and url.container):
        place = build_container(azure, given)
        service, container = place.service, place.name
    else:
        service, container = service_in(azure, given), ""
    pages = (
        service.rows(container, {"prefix": prefix, "include": "metadata"})
        if prefix
        else service.find(tag_test(*tag), container, min(5000, given["limit"] + 1))
    )
    # Anybody can call a blob a folder; one that holds something is evidence all the same.
    listing = collect(pages, Paging(given["limit"]), lambda row: not is_folder(row) or row.get("size", 0) > 0)
    blobs = [BlobRef(service, row["container"], row["name"]) for row in listing.items]
    return Collected(service, blobs, json.dumps([container, prefix, tag]), bool(listing.token))


# The columns of the manifest, and where each comes from.
# fmt: off
MANIFEST = {
    "account": "account", "container": "container", "name": "name", "version": "versionId", "snapshot": "snapshot", "size": "size",
    "etag": "etag", "md5": "md5", "sha256": "sha256", "last modified": "lastModified", "time": "readAt", "file": "fileName",
    "verified": "verified", "result": "result",
}
# fmt: on


@command("azure-storage-blob-get", needs=(READ_BLOB,), role=READER)
def blob_get(
    azure: Azure,
    blob: Annotated[Collected, Group(COLLECT_ARGUMENTS, build_collected)],
    range: Annotated[tuple[int, int | None], Reader("bytes such as 0-1023 or 4096-", read_range)] | None = None,
    max_size: Size = 1 << 30,
) -> list[CommandResults | Json]:
    """Each blob becomes a file entry; hashes are computed while it is read. One that cannot be read leaves the others.

    Blobs that a prefix or tag finds come with a manifest.
    """
    blobs = blob.blobs
    if not blobs:
        raise blob.nothing_found()
    if range and (blob.selection or len(blobs) > 1):
        raise exclusive("range", "blob_names", "prefix", "tag")
    azure.use_threads()
    start, end = range or (0, None)

    def read(each: BlobRef) -> tuple[Json, Download | AzureStorageError]:
        try:
            found = Downloader(each, start, end, parallel=len(blobs) == 1).run(f"download_{uuid.uuid4()}", max_size)
        except AzureStorageError as error:
            return read_row(each, error), error
        return read_row(each, found), found

    outcomes = list(in_order(read, blobs))
    rows = [row for row, _ in outcomes]
    failures = [found for _, found in outcomes if isinstance(found, AzureStorageError)]
    if failures and len(blobs) == 1:
        raise failures[0]
    files = [
        file_result_existing_file(found.path, row["fileName"]) for row, found in outcomes if isinstance(found, Download)
    ]
    if blob.selection:
        files.append(csv_file("manifest.csv", MANIFEST, ({**row, "result": row.get("result", "read")} for row in rows)))
    note = f"{len(blobs) - len(failures)} of {len(blobs)} blobs read, {len(failures)} failed. {blob.note('read')}"
    text = table(READ_VIEW, rows, note=note.rstrip())
    failed = {"raw_response": text, "entry_type": EntryType.ERROR} if failures else {"raw_response": rows}
    return [CommandResults(outputs={READ_VIEW.context: rows}, readable_output=text, **failed), *files]


def read_row(blob: BlobRef, found: Download | AzureStorageError) -> Json:
    """What context tells of a blob that was read, or could not be."""
    told = {**blob.identity(), "readAt": iso_time(Clock.now())}
    if isinstance(found, AzureStorageError):
        return {**told, "result": f"failed: {redact(found.message)}"}
    facts = {"sha256": found.sha256, "size": found.size, "verified": found.verified}
    md5 = {"md5": found.md5} if found.md5 else {}
    return {**told, **found.properties, **facts, **md5, "fileName": safe_file_name(blob.name)}


class Upload(NamedTuple):
    """A blob to be written from a file, or from a text."""

    blob: BlobRef
    path: str
    text: str | None = None


def entry_file(entry_id: str) -> dict[str, str]:
    """Path and name of a war-room file. UsageError for an unknown entry."""
    try:
        return dict(demisto.getFilePath(entry_id))
    except ValueError:
        raise invalid("file_entry_id", f"{entry_id!r} is not a file of this investigation.") from None


def build_uploads(azure: Azure, given: Given) -> list[Upload]:
    """One blob from a file or a text, or several files, each under its own name in the folder that blob_name names."""
    entry, entries, text = given["file_entry_id"], given["file_entry_ids"], given["text"]
    if sum((entry is not None, bool(entries), text is not None)) != 1:
        raise one_of_these("file_entry_id", "file_entry_ids", "text")
    if not entries:
        return [Upload(build_blob(azure, given), entry_file(entry)["path"] if entry else "", text)]
    unused(given, "blob")
    place = build_container(azure, given)
    folder = f"{given['blob_name'].rstrip('/')}/" if given["blob_name"] else ""
    files = [entry_file(each) for each in entries]
    try:
        names = [folder + parse_blob_name(file["name"]) for file in files]
    except ValueError:
        raise invalid(
            "file_entry_ids", "a file has a name that no blob can have. Upload it alone with blob_name."
        ) from None
    if len(set(names)) < len(names):
        raise invalid("file_entry_ids", "two files have the same name. Upload one of them alone with blob_name.")
    return [Upload(place.blob(name), file["path"]) for name, file in zip(names, files, strict=True)]


UPLOAD_ARGUMENTS = {
    **BLOB_ARGUMENTS,
    "file_entry_id": optional(Text),
    "file_entry_ids": optional(Annotated[list[str], listed(Reader("entry IDs of war-room files", str))]),
    "text": optional(ExactText),
}


def metadata_headers(metadata: Mapping[str, str] | None) -> dict[str, str]:
    return {f"x-ms-meta-{name}": value for name, value in (metadata or {}).items()}


def write_headers(tier: str | None, metadata: Mapping[str, str] | None, overwrite: bool) -> Json:
    """What a new blob shall have, and that none is replaced unless that is asked for."""
    only_new = None if overwrite else "*"
    return {"x-ms-access-tier": tier, "If-None-Match": only_new, **metadata_headers(metadata)}


def undo_write(blob: BlobRef, before: Json | None) -> str:
    """The command that takes a written blob back: to the version it had, or away where there was none."""
    if before is None:
        return command_line("blob-delete", blob.arguments)
    version = before.get("versionId")
    return (
        command_line("blob-undelete", {**blob.arguments, "version_id": version, "overwrite": "true"}) if version else ""
    )


@command("azure-storage-blob-put", needs=(WRITE_BLOB, ADD_BLOB), role=CONTRIBUTOR)
def blob_put(
    azure: Azure,
    uploads: Annotated[list[Upload], Group(UPLOAD_ARGUMENTS, build_uploads)],
    content_type: HeaderText | None = None,
    metadata: Metadata | None = None,
    tags: BlobTags | None = None,
    tier: Tier | None = None,
    overwrite: Flag = False,
) -> Plan | Bulk:
    """The old blob stays whole until the new one is complete. Tags need the role Storage Blob Data Owner."""
    headers = write_headers(tier, metadata, overwrite)
    headers["x-ms-tags"] = urllib.parse.urlencode(tags, quote_via=urllib.parse.quote) if tags else None
    facts = given_only({"tier": tier, "metadata": metadata, "tags": tags})

    def write(job: Upload) -> Json:
        return {**write_blob(job, content_type, headers), **facts}

    azure.use_threads()
    if len(uploads) > 1:
        place = uploads[0].blob.service.container_id(uploads[0].blob.container)
        return Bulk(
            place,
            WRITTEN_VIEW,
            "written",
            [uploads],
            lambda jobs: in_order(lambda job: upload_row(job, write), jobs),
            lambda job: Row(job.blob.identity(), PLANNED, True),
        )
    return write_plan(uploads[0], write, replaceable(uploads[0].blob, overwrite))


def replaceable(blob: BlobRef, overwrite: bool) -> Json | None:
    """The properties of the blob that is there, None where none is; UsageError if it is and must not be replaced."""
    found = blob.service.properties_if_there(blob)
    if found and not overwrite:
        raise UsageError(f"Blob {blob} already exists.", "Choose another name, or set `overwrite=true`.")
    return found


def write_plan(job: Upload, write: Callable[[Upload], Json], before: Json | None) -> Plan:
    return Plan(
        job.blob.id,
        {"etag": before.get("etag") if before else None},
        {"etag": NEW, "sha256": NEW},
        BLOB_VIEW,
        [Step("write the blob", lambda: write(job), lambda error: is_written(job, before))],
        item=before,
        read_back=lambda outcomes: (
            outcomes[-1].answer or {**job.blob.service.properties(job.blob), "sha256": file_digests(job)["sha256"]}
        ),
        undo=lambda old, new: undo_write(job.blob, before),
        done=""
        if not before or before.get("versionId")
        else "No version holds the old content. Where soft delete is on, it is a soft-deleted snapshot, which !azure-storage-blob-undelete brings back.",
    )


def upload_row(job: Upload, write: Callable[[Upload], Json]) -> Row:
    """What became of one file among several."""
    outcome = take(Step("write the blob", lambda: write(job), lambda error: is_written(job)))
    if outcome.error and outcome.result != DONE:
        words = f"{outcome.result}: {redact(outcome.error.message)}"
        return Row(job.blob.identity(), words, None if outcome.result == UNSURE else False, error=outcome.error)
    return Row(outcome.answer or job.blob.identity(), "written", True)


def file_digests(job: Upload) -> Json:
    digests = Digests()
    with io.BytesIO(job.text.encode()) if job.text is not None else Path(job.path).open("rb") as file:
        for data in iter(lambda: file.read(BLOCK_SIZE), b""):
            digests.update(data)
    return digests.facts()


def is_written(job: Upload, before: Json | None = None) -> bool | None:
    """Whether the blob is what was to be written, by the MD5 that we send along, and no longer what was there before."""
    found = job.blob.service.properties_if_there(job.blob)
    if found is None or (before and before.get("etag") == found.get("etag")):
        return None
    return bool(found.get("md5") == file_digests(job)["md5"])


def write_blob(job: Upload, content_type: str | None, headers: Json) -> Json:
    """Write one blob. Returns its row for context."""
    usual = "text/plain; charset=utf-8" if job.text is not None else "application/octet-stream"
    kind = content_type or mimetypes.guess_type(job.blob.name)[0] or usual
    full = {**headers, "x-ms-blob-content-type": kind}
    try:
        facts = (
            upload_at_once(job.blob, job.text.encode(), full)
            if job.text is not None
            else upload(job.blob, job.path, full)
        )
    except OSError as error:
        raise AzureStorageError(f"Could not read the file for blob {job.blob}: {error.strerror}.") from None
    return {**job.blob.identity(), "contentType": kind, "type": "BlockBlob", **facts}


# Deleting and restoring


def slices(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """So many items at a time, read as they are needed."""
    rest = iter(items)
    while found := list(itertools.islice(rest, size)):
        yield found


def batches_of(selection: list[BlobRef] | Prefix) -> Iterator[list[BlobRef]]:
    """The blobs that are meant, at most BATCH_LIMIT at a time, listed as they are needed. Directories of a hierarchical
    account follow what is in them, the deepest first."""
    if not isinstance(selection, Prefix):
        yield from slices(selection, BATCH_LIMIT)
        return
    place, folders = selection.place, list[BlobRef]()
    query = {"prefix": selection.text or None, "maxresults": 5000, "include": "metadata"}

    def files() -> Iterator[BlobRef]:
        for row in itertools.chain.from_iterable(rows for rows, _, _ in place.service.rows(place.name, query)):
            if not is_folder(row):
                yield place.blob(row["name"])
            else:
                folders.append(place.blob(row["name"]))

    yield from slices(files(), BATCH_LIMIT)
    # Each level by itself: the parts of a batch have no order.
    for _, level in itertools.groupby(sorted(folders, key=depth, reverse=True), key=depth):
        yield from slices(level, BATCH_LIMIT)


def depth(blob: BlobRef) -> int:
    return blob.name.rstrip("/").count("/")


def place_of(blobs: list[BlobRef] | Prefix) -> ContainerPlace:
    return blobs.place if isinstance(blobs, Prefix) else ContainerPlace(blobs[0].service, blobs[0].container)


def failed_row(item: Json, error: AzureStorageError) -> Row:
    """The row of a blob of which something failed, or of which it isn't known whether it did."""
    return Row(
        item, f"unknown: {brief(error)}" if error.sent else brief(error), None if error.sent else False, error=error
    )


def brief(error: AzureStorageError) -> str:
    """A failure in a cell of a table."""
    return error.brief if isinstance(error, ServiceError) else redact(error.message)


@command(
    "azure-storage-blob-delete",
    needs=(DELETE_BLOB, READ_BLOB, DELETE_VERSION),
    role=CONTRIBUTOR,
    execution=True,
    confirm=True,
)
def blob_delete(
    azure: Azure,
    blobs: SelectionArgs,
    delete_snapshots: Annotated[str, choice("include", "only")] | None = None,
    lease_id: LeaseId | None = None,
) -> Bulk:
    """One blob, several, or all with a prefix; with confirm_all=true, all of the container, which `confirm` has to name.

    Deleting a version needs the role Storage Blob Data Owner.
    """
    headers = given_only({"x-ms-delete-snapshots": delete_snapshots, "x-ms-lease-id": lease_id})
    place, listed_ones = place_of(blobs), blobs if isinstance(blobs, list) else []
    verb = "cleared of snapshots" if delete_snapshots == "only" else "deleted"
    moments = any(blob.version or blob.snapshot for blob in listed_ones)
    wider = "" if listed_ones else " It also brings back what was deleted there before."
    whole = isinstance(blobs, Prefix) and not blobs.text
    return Bulk(
        listed_ones[0].id if len(listed_ones) == 1 else place.id,
        DELETED_VIEW,
        verb,
        batches_of(blobs),
        lambda batch: delete_batch(batch, headers, verb),
        lambda blob: Row(blob.identity(), PLANNED, True),
        lambda rows: "" if moments else undo_delete(place, blobs, [row for row in rows if row["result"] != verb]),
        "Nothing undoes the deletion of a version or snapshot."
        if moments
        else f"The undo works while soft delete or versions keep the blobs.{wider}",
        (place.name, f"This deletes every blob of container {place}.") if whole else None,
    )


def undo_delete(place: ContainerPlace, blobs: list[BlobRef] | Prefix, failed: list[Json]) -> str:
    """The command line that brings back what was deleted, but not what by its row was not."""
    if isinstance(blobs, Prefix):
        given: Json = {"prefix": blobs.text} if blobs.text else {"confirm_all": "true"}
    else:
        kept = {row["name"] for row in failed}
        names = [blob.name for blob in blobs if blob.name not in kept]
        given = {"blob_name": names[0]} if len(names) == 1 else {"blob_names": names}
    return command_line("blob-undelete", place.arguments, given)


def delete_batch(batch: Sequence[BlobRef], headers: Json, verb: str) -> Iterator[Row]:
    """A batch takes one request; a single blob does not need one, and keeps its own error's words. Where the answer to a
    batch is lost, nothing is known of any of its blobs, and the rest is left alone."""
    lost: AzureStorageError | None = None
    if len(batch) > 1:
        try:
            outcomes: Sequence[AzureStorageError | None] = batch[0].service.delete_many(batch, headers)
        except AzureStorageError as error:
            if not error.sent:
                raise
            lost, outcomes = error, [error] * len(batch)
    else:
        outcome = take(delete_step(batch[0], headers))
        outcomes = [None if outcome.result == DONE else outcome.error]
    for blob, failure in zip(batch, outcomes, strict=True):
        yield deleted_row(blob, failure, verb)
    if lost:
        raise lost


def delete_step(blob: BlobRef, headers: Json) -> Step:
    """Where a repeated request finds nothing, an earlier one did it."""
    operation = VERSION_DELETE if blob.version else BLOB_DELETE
    return Step(
        "delete the blob",
        lambda: blob.service.ask(operation, blob, headers=headers),
        lambda error: not_there(error) or blob.service.properties_if_there(blob) is None,
    )


def not_there(error: AzureStorageError) -> bool:
    return isinstance(error, ServiceError) and error.status == 404


def deleted_row(blob: BlobRef, error: AzureStorageError | None, verb: str) -> Row:
    if error and not_there(error) and not error.sent:
        return Row({**blob.identity(), "deleted": False}, "not found", True, changed=False)
    done = error is None or not_there(error)
    item = {**blob.identity(), "deleted": done and verb == "deleted"}
    return Row(item, verb, True) if done or error is None else failed_row(item, error)


@command(
    "azure-storage-blob-undelete",
    needs=(WRITE_BLOB, READ_BLOB, WRITE_CONTAINER),
    role=CONTRIBUTOR,
    execution=True,
)
def blob_undelete(azure: Azure, blobs: SelectionArgs, overwrite: Flag = False) -> Bulk:
    """One blob, several, or all deleted ones with a prefix; with confirm_all=true, all of the container.

    Brings back what Azure can bring back: a deleted blob with its snapshots, the deleted snapshots of a blob that is
    there (which hold what was overwritten), and where the account keeps versions the newest one. A version that is named
    replaces a blob that is there only with overwrite=true.
    """
    azure.use_threads()
    return Bulk(
        blobs[0].current.id if isinstance(blobs, list) and len(blobs) == 1 else place_of(blobs).id,
        UNDELETE_VIEW,
        "restored",
        [blobs] if isinstance(blobs, list) else deleted_names(blobs),
        lambda batch: in_order(lambda blob: undeleted_row(blob, overwrite, dry_run=False), batch),
        lambda blob: undeleted_row(blob, overwrite, dry_run=True),
        note=undelete_note(blobs),
    )


def undelete_note(blobs: list[BlobRef] | Prefix) -> str:
    if isinstance(blobs, Prefix):
        return "Only what soft delete or versions still keep can be restored."
    copied = any(blob.version or blob.snapshot for blob in blobs)
    return "A version or snapshot comes back without its index tags and tier." if copied else ""


def deleted_names(selection: Prefix) -> Iterator[list[BlobRef]]:
    """The blobs with a prefix of which something is deleted, each once, folders before what is in them."""
    place, before = selection.place, set[str]()
    for rows, _, _ in place.service.rows(place.name, {"prefix": selection.text or None, "include": DELETED_TOO}):
        names = {row["name"] for row in rows if row.get("deleted") or row.get("hasVersionsOnly")} - before
        if names:
            before = names  # the rows of the last one may go on on the next page
            yield [place.blob(name) for name in sorted(names, key=lambda name: (name.count("/"), name))]


def undeleted_row(blob: BlobRef, overwrite: bool, *, dry_run: bool) -> Row:
    """What became of one blob, or with dry_run would."""
    try:
        return restore_blob(blob, overwrite, dry_run)
    except AzureStorageError as error:
        return failed_row(blob.identity(), error)


DELETED_TOO = "deleted,deletedwithversions,snapshots,versions"


def rows_named(blob: BlobRef, include: str) -> Iterator[Json]:
    """What a listing has under a blob's name."""
    pages = blob.service.rows(blob.container, {"prefix": blob.name, "include": include})
    return (row for page, _, _ in pages for row in page if row["name"] == blob.name)


def restore_blob(blob: BlobRef, overwrite: bool, dry_run: bool) -> Row:
    """Brings back one blob. https://learn.microsoft.com/azure/storage/blobs/soft-delete-blob-overview"""
    live, service = blob.current, blob.service
    found = service.properties_if_there(live)
    if blob != live:
        return promote(blob, found, overwrite, dry_run)
    rows = list(rows_named(blob, DELETED_TOO))
    gone = [row for row in rows if row.get("deleted")]
    versions = [str(row["versionId"]) for row in rows if row.get("versionId")]
    if found and not gone:
        return Row(found, "already there", True, changed=False)
    if dry_run and not gone and not versions:
        raise AzureStorageError(f"Nothing of blob {blob} is kept that could be restored.")
    if dry_run:
        return Row(live.identity(), PLANNED, True)
    asked = bool(gone) or not versions
    if asked:
        deletion = max((str(row["deletionId"]) for row in gone if row.get("deletionId")), default="")
        source = f"{urllib.parse.quote(blob.name, safe='/')}?deletionid={deletion}" if deletion else None
        service.ask(BLOB_UNDELETE, live, headers={"x-ms-undelete-source": source})
    if found:
        return Row(found, "deleted snapshots restored", True)
    back = service.properties_if_there(live) if asked else None
    if back:
        return Row(back, "restored", True)
    # With versions, undelete brings versions back and never the current blob: the newest one is promoted.
    if not versions:
        raise AzureStorageError(f"Blob {blob} is still not there after the request to restore it.")
    return promote(live._replace(version=max(versions)), None, False, False)


def source_address(blob: BlobRef) -> str:
    """The address of a source of a copy, with the instance's SAS where that authorises requests: it does so for the
    target only. https://learn.microsoft.com/rest/api/storageservices/copy-blob"""
    own = blob.service.http.authorization
    sas = own.token.reveal() if isinstance(own, SasAuthorization) else ""
    return f"{blob.id}{'&' if '?' in blob.id else '?'}{sas}" if sas else blob.id


def promote(source: BlobRef, found: Json | None, overwrite: bool, dry_run: bool) -> Row:
    """Copy a version or snapshot over the blob, which is how its content becomes the current one."""
    name = f"version {source.version}" if source.version else f"snapshot {source.snapshot}"
    if found and not overwrite:
        words = f"Blob {source.current} is there: restoring the {name} would replace it."
        raise UsageError(words, "Set `overwrite=true` to replace it.")
    if dry_run:
        return Row(source.current.identity(), PLANNED, True)
    copy_over(source, unchanged_since(found))
    return Row(source.service.properties(source.current), f"restored from {name}", True)


def copy_over(source: BlobRef, condition: Json) -> None:
    """Copy a version or snapshot over its blob, which Azure does at once, as a rule."""
    headers = {"x-ms-copy-source": source_address(source), **condition}
    status = source.service.ask(BLOB_COPY, source.current, headers=headers).headers.get("x-ms-copy-status", "success")
    if status != "success":
        words = f"The copy over blob {source.current} has the status {status}."
        raise NetworkError(words, "copyStatus of the blob tells when it has ended.", sent=True)


def unchanged_since(current: Json | None, lease_id: str | None = None) -> Json:
    """The condition that the blob is still what was read, or still not there."""
    if current is None:
        return {"If-None-Match": "*"}
    return {"x-ms-lease-id": lease_id, "If-Match": f'"{current["etag"]}"' if current.get("etag") else None}


# Properties, metadata and tags


@command("azure-storage-blob-properties-get", needs=(READ_BLOB,), role=READER)
def blob_properties_get(azure: Azure, blob: VersionArgs) -> CommandResults:
    return show(BLOB_VIEW, blob.service.properties(blob), title="Azure Storage Blob properties")


# Arguments that set a property, and its name in context; its header is x-ms-blob- and the argument.
CONTENT = {
    "content_type": "contentType", "content_encoding": "contentEncoding", "content_language": "contentLanguage",
    "content_disposition": "contentDisposition", "cache_control": "cacheControl", "content_md5": "md5",
}  # fmt: skip
HEADER_ARGUMENTS = {name: optional(Md5 if name == "content_md5" else HeaderText) for name in CONTENT}
HEADER_ARGUMENTS["clear"] = optional(Annotated[list[str], listed(choice(*CONTENT))])


def build_headers(azure: Azure, given: Given) -> Json:
    """The content properties to set, by their names in context; None for one that is cleared."""
    cleared = given["clear"] or ()
    twice = [name for name in cleared if given[name] is not None]
    if twice:
        raise exclusive("clear", *twice)
    wanted = {known: given[name] for name, known in CONTENT.items() if given[name] is not None or name in cleared}
    if not wanted:
        raise UsageError("Missing required argument: give at least one property, such as `content_type`, or `clear`.")
    return wanted


def blob_plan(
    blob: BlobRef,
    current: Json,
    wanted: Json,
    operation: Operation,
    headers: Json,
    undo: Callable[[Json, Json], str],
    done: str = "",
    state: Callable[[Json], Json] = dict,
) -> Plan:
    """A change of properties of one blob, which is read back afterwards."""
    before, after = differences(state(current), wanted, exactly)
    # What was not there and shall not be is no difference.
    after = {key: value for key, value in after.items() if value is not None or current.get(key) is not None}
    return one_request(
        blob.id,
        BLOB_VIEW,
        current,
        ({key: before[key] for key in after}, after),
        operation.action.removesuffix(" of blob {}"),
        lambda: blob.service.ask(operation, blob, headers=headers),
        lambda: blob.service.properties(blob),
        equal=exactly,
        undo=undo,
        done=done,
        state=state,
    )


@command("azure-storage-blob-properties-set", needs=(READ_BLOB, WRITE_BLOB), role=CONTRIBUTOR)
def blob_properties_set(
    azure: Azure,
    blob: BlobArgs,
    wanted: Annotated[Json, Group(HEADER_ARGUMENTS, build_headers)],
    lease_id: LeaseId | None = None,
) -> Plan:
    """Keeps what is not given, which the service would clear."""
    current = blob.service.properties(blob)
    whole = {
        f"x-ms-blob-{name.replace('_', '-')}": wanted.get(known, current.get(known)) for name, known in CONTENT.items()
    }
    if whole["x-ms-blob-content-md5"]:
        whole["x-ms-blob-content-md5"] = base64.b64encode(bytes.fromhex(whole["x-ms-blob-content-md5"])).decode()
    headers = {**whole, **unchanged_since(current, lease_id)}

    def undo(old: Json, new: Json) -> str:
        kept = given_only({name: old.get(known) for name, known in CONTENT.items()})
        cleared = [name for name, known in CONTENT.items() if known in old and name not in kept]
        clear = {"clear": ",".join(cleared)} if cleared else {}
        return command_line("blob-properties-set", blob.arguments, kept, clear)

    return blob_plan(blob, current, wanted, PROPERTIES_SET, headers, undo)


@command("azure-storage-blob-metadata-set", needs=(READ_BLOB, WRITE_BLOB), role=CONTRIBUTOR)
def blob_metadata_set(
    azure: Azure, blob: BlobArgs, metadata: Metadata, replace: Flag = False, lease_id: LeaseId | None = None
) -> Plan:
    """Adds to the metadata, or replaces it."""
    current = blob.service.properties(blob)
    old = current["metadata"]
    # The service keeps the case of names and does not tell them apart by it.
    names = {name.lower(): name for name in old}
    new = metadata if replace else {**old, **{names.get(name.lower(), name): value for name, value in metadata.items()}}
    headers = {**unchanged_since(current, lease_id), **metadata_headers(new)}

    undo = command_line("blob-metadata-set", blob.arguments, {"metadata": old, "replace": "true"})
    return blob_plan(blob, current, {"metadata": new}, METADATA_SET, headers, lambda before, after: undo)


@command("azure-storage-blob-tags-get", needs=(READ_TAGS,), role=OWNER)
def blob_tags_get(azure: Azure, blob: VersionArgs) -> CommandResults:
    return show(BLOB_TAGS_VIEW, {**blob.identity(), "tags": blob.service.tags(blob)})


@command("azure-storage-blob-tags-set", needs=(READ_TAGS, WRITE_TAGS), role=OWNER)
def blob_tags_set(azure: Azure, blob: VersionArgs, tags: BlobTags, replace: Flag = False) -> Plan:
    """Adds to the tags, or replaces them."""
    old = blob.service.tags(blob)
    new = tags if replace else {**old, **tags}
    if len(new) > 10:
        raise invalid(
            "tags", f"the blob would have {len(new)} tags, and 10 are possible. Set `replace=true`, or give fewer."
        )
    return one_request(
        blob.id,
        BLOB_TAGS_VIEW,
        {**blob.identity(), "tags": old},
        ({"tags": old}, {"tags": new}),
        "change the tags",
        lambda: blob.service.set_tags(blob, new),
        lambda: {**blob.identity(), "tags": blob.service.tags(blob)},
        equal=exactly,
        undo=lambda before, after: command_line("blob-tags-set", blob.arguments, {"tags": old, "replace": "true"}),
    )


@command("azure-storage-blob-find", needs=(FIND_BLOBS,), role=OWNER)
def blob_find(
    azure: Azure,
    service: ServiceArgs,
    paging: PagingArgs,
    expression: Text | None = None,
    tag: BlobTag | None = None,
    container_name: Container | None = None,
) -> CommandResults:
    """By an expression such as "case"='1234', or by one tag, whose quoting is done here. Accounts with a hierarchical
    namespace have no tags."""
    if (expression is None) == (tag is None):
        raise one_of_these("expression", "tag")
    where = expression or tag_test(*(tag or ("", "")))
    size = 5000 if paging.all_results else min(5000, paging.limit)
    return show_list(FOUND_BLOBS_VIEW, collect(service.find(where, container_name or "", size, paging.place), paging))


# Snapshots, tiers, leases, holds


@command("azure-storage-blob-snapshot-create", needs=(READ_BLOB, WRITE_BLOB), role=CONTRIBUTOR)
def blob_snapshot_create(
    azure: Azure, blob: BlobArgs, metadata: Metadata | None = None, lease_id: LeaseId | None = None
) -> Plan:
    current = blob.service.properties(blob)
    headers = {**unchanged_since(current, lease_id), **metadata_headers(metadata)}
    return Plan(
        blob.id,
        {"snapshot": None},
        {"snapshot": NEW},
        SNAPSHOT_VIEW,
        [Step("take the snapshot", lambda: take_snapshot(blob, headers))],
        item=current,
        # Metadata that is given takes the place of the blob's own.
        read_back=lambda outcomes: {**current, **given_only({"metadata": metadata}), **outcomes[-1].answer},
        undo=lambda old, new: command_line("blob-delete", {**blob.arguments, "snapshot": new["snapshot"]}),
    )


def take_snapshot(blob: BlobRef, headers: Json) -> Json:
    """The identity and ETag of the new snapshot."""
    answer = blob.service.ask(SNAPSHOT_TAKE, blob, headers=headers)
    moment_of = answer.headers.get("x-ms-snapshot")
    if not moment_of:
        raise not_the_service(answer, SNAPSHOT_TAKE.action.format(blob), "the time of a snapshot")
    etag = {key: value for key, value in written(answer).items() if key == "etag"}
    return {**blob._replace(snapshot=moment_of).identity(), **etag}


@command("azure-storage-blob-tier-set", needs=(READ_BLOB, WRITE_BLOB), role=CONTRIBUTOR)
def blob_tier_set(
    azure: Azure,
    blob: VersionArgs,
    tier: Tier,
    rehydrate_priority: Annotated[str, choice("Standard", "High")] | None = None,
) -> Plan:
    """A blob that comes out of the archive is on its way for hours, in which its tier and archiveStatus tell so."""
    current = blob.service.properties(blob)
    wanted: Json = {"tier": tier}
    if current.get("tierInferred") and current.get("tier") == tier:
        wanted["tierInferred"] = None
    leaving = current.get("tier") == "Archive" and tier != "Archive"
    pending = f"Archive, rehydrate-pending-to-{tier.lower()}"

    def state(item: Json) -> Json:
        on_its_way = item.get("archiveStatus") if item.get("tier") == "Archive" else None
        return {**item, "tier": f"Archive, {on_its_way}" if on_its_way else item.get("tier")}

    if leaving:
        urgent = rehydrate_priority and state(current)["tier"] == pending
        wanted = {"rehydratePriority": rehydrate_priority} if urgent else {"tier": (pending, tier)}
    headers = {"x-ms-access-tier": tier, "x-ms-rehydrate-priority": rehydrate_priority}
    done = "Coming out of the archive takes hours and can't be canceled. archiveStatus tells when the blob is there."
    undo = command_line("blob-tier-set", blob.arguments, {"tier": current.get("tier") or "Hot"})
    return blob_plan(
        blob, current, wanted, TIER_SET, headers, lambda before, after: undo, done if leaving else "", state
    )


@command("azure-storage-blob-lease", needs=(READ_BLOB, WRITE_BLOB), role=CONTRIBUTOR, execution=True)
def blob_lease(azure: Azure, blob: BlobArgs, lease: LeaseArgs) -> Plan:
    """A lease keeps everybody else from writing or deleting the blob."""
    headers = {
        "x-ms-lease-action": lease.action,
        "x-ms-lease-id": lease.lease_id,
        "x-ms-proposed-lease-id": lease.proposed_lease_id,
        "x-ms-lease-duration": lease.duration if lease.action == "acquire" else None,
        "x-ms-lease-break-period": lease.break_period,
    }

    def act() -> Lent:
        answer = blob.service.ask(BLOB_LEASE, blob, headers=headers)
        return answer.headers.get("x-ms-lease-id"), answer.headers.get("x-ms-lease-time")

    return lease_plan(blob, BLOB_LEASE_VIEW, lease, lambda: blob.service.properties(blob), act)


@command("azure-storage-blob-legal-hold-set", needs=(READ_BLOB, WRITE_CONTAINER), role=OWNER, execution=True)
def blob_legal_hold_set(azure: Azure, blob: VersionArgs, legal_hold: Flag) -> Plan:
    """Only in containers with version-level immutability; others take a hold on the whole container."""

    def read() -> Json:
        return {"legalHold": False, **blob.service.properties(blob)}

    current, headers = read(), {"x-ms-legal-hold": as_text(legal_hold)}
    return one_request(
        blob.id,
        BLOB_HOLD_VIEW,
        current,
        differences(current, {"legalHold": legal_hold}),
        "change the legal hold",
        lambda: blob.service.ask(BLOB_HOLD, blob, headers=headers),
        read,
        undo=lambda old, new: command_line("blob-legal-hold-set", blob.arguments, {"legal_hold": not legal_hold}),
    )


# Copying


def read_source_url(text: str) -> Secret:
    """The address of a blob as it goes into a header: letters that are not ASCII are quoted."""
    text = unquoted(text)
    if not parse_blob_url(text).blob:
        raise ValueError
    if "sig=" in text:
        read_sas(text)  # makes the signature known as a secret
    return Secret(urllib.parse.quote(text, safe="%/:?&=#+,;@!$'()*~[]"))


COPY_ARGUMENTS = {
    **BLOB_ARGUMENTS,
    "source_url": optional(
        Annotated[Secret, Reader("the https URL of a blob, with a SAS if it needs one", read_source_url, secret=True)]
    ),
    "source_account_name": optional(Account),
    "source_container_name": optional(Container),
    "source_blob_name": optional(BlobName),
    "source_version_id": optional(Version),
    "source_snapshot": optional(Version),
    "abort_copy_id": optional(Text),
}
COPY_NAMES = tuple(name for name in COPY_ARGUMENTS if name.startswith("source_") and name != "source_url")


class Copy(NamedTuple):
    """The target of a copy, and its source by names (in the target's account unless told otherwise), or by a URL that may
    carry a SAS."""

    target: BlobRef
    source: BlobRef | Secret | None
    abort: str = ""


def build_copy(azure: Azure, given: Given) -> Copy:
    target = build_blob(azure, given)
    named_source = [name for name in COPY_NAMES if given[name]]
    if given["abort_copy_id"]:
        if named_source or given["source_url"]:
            raise exclusive("abort_copy_id", *(named_source or ["source_url"]))
        return Copy(target, None, given["abort_copy_id"])
    if given["source_url"]:
        if named_source:
            raise exclusive("source_url", *named_source)
        return Copy(target, given["source_url"])
    if not given["source_blob_name"]:
        raise missing("source_blob_name", "the name of the blob to copy, or a source_url")
    names = {name: given[name] for name in SCOPE_ARGUMENTS} | {"blob_url": None}
    names |= {name.removeprefix("source_"): given[name] for name in COPY_NAMES}
    names["account_name"] = names["account_name"] or AccountClue(target.service.account)
    names["container_name"] = names["container_name"] or target.container
    return Copy(target, build_version(azure, names))


@command(
    "azure-storage-blob-copy",
    needs=(READ_BLOB, WRITE_BLOB, ADD_BLOB),
    role=CONTRIBUTOR,
    polling=Polling(15, 3600),
)
def blob_copy(
    azure: Azure,
    blobs: Annotated[Copy, Group(COPY_ARGUMENTS, build_copy)],
    tier: Tier | None = None,
    metadata: Metadata | None = None,
    overwrite: Flag = False,
    *,
    copy_id: Text | None = None,
) -> Plan | Later:
    """A server-side copy: no byte passes through here. The source's ETag is pinned, so that it cannot change underway."""
    target = blobs.target
    if blobs.source is None:
        return abort_plan(target, blobs.abort)
    if copy_id:
        undo = "" if overwrite else undo_write(target, None)  # what was there before is known to the first round only
        return copied(target, target.service.properties(target), copy_id, undo)
    before, source, latest = replaceable(target, overwrite), blobs.source, Json()

    def later(outcomes: list[Outcome]) -> Later | None:
        latest.update(target.service.properties(target))
        found = copied(target, latest, str(outcomes[0].answer or ""))
        return found if isinstance(found, Later) else None

    def look(error: AzureStorageError) -> bool:
        found = target.service.properties_if_there(target)
        return found is not None and found.get("etag") != (before or {}).get("etag")

    return Plan(
        target.id,
        {"etag": before.get("etag") if before else None},
        {"etag": NEW},
        COPY_VIEW,
        [Step("copy the blob", lambda: start_copy(target, source, write_headers(tier, metadata, overwrite)), look)],
        item=before,
        read_back=lambda outcomes: latest,
        undo=lambda old, new: undo_write(target, before),
        later=later,
    )


def copied(target: BlobRef, current: Json, copy_id: str, undo: str = "") -> Plan | Later:
    """The end of a copy, or what the next round goes on with. Raises where it failed, or where another copy is there."""
    status = current.get("copyStatus", "success")
    if copy_id and current.get("copyId", copy_id) != copy_id:
        raise AzureStorageError(
            f"The copy to blob {target} was replaced by another one.", "Look at the blob, then copy again."
        )
    if status == "pending":
        text = f"Azure is copying to {md(str(target))} ({current.get('copyProgress', '')} bytes). This command ends when it is done."
        told = {"source_blob_name": target.name, "copy_id": current.get("copyId") or copy_id}
        return Later(text, {**target.arguments, **told})
    if status != "success":
        words = f"The copy to blob {target} ended with {status}: {current.get('copyStatusDescription', '')}"
        raise AzureStorageError(words, "Check that Azure can read the source, then copy again.")
    return Plan(
        target.id,
        {"etag": None},
        {"etag": current.get("etag")},
        COPY_VIEW,
        item=current,
        carried_out=True,
        undo=lambda old, new: undo,
    )


def start_copy(target: BlobRef, source: BlobRef | Secret, headers: Json, found: Json | None = None) -> str:
    """Begin a copy. found: the properties of the source, where the caller has read them; their ETag is what is copied.

    Returns the id of the copy.
    """
    if isinstance(source, Secret):
        address, pinned = source.reveal(), {}
    else:
        found = found or source.service.properties(source)
        address, pinned = source_address(source), {"x-ms-source-if-match": unchanged_since(found)["If-Match"]}
        if source.service.account != target.service.account:
            if address == source.id:
                address += f"{'&' if '?' in address else '?'}{lent_sas(source)}"
            # Azure finishes block blobs up to this size before it answers; others are copied later.
            small = found.get("size", SYNC_COPY_SIZE + 1) <= SYNC_COPY_SIZE and found.get("type") == "BlockBlob"
            pinned["x-ms-requires-sync"] = "true" if small else None
    answer = target.service.ask(BLOB_COPY, target, headers={**headers, **pinned, "x-ms-copy-source": address})
    return answer.headers.get("x-ms-copy-id", "")


def lent_sas(blob: BlobRef) -> str:
    """A read-only SAS of a day for another account, which cannot use our token; it is shown to nobody. The SAS of a blob
    does not reach its versions and snapshots; that of the container does."""
    name, now = blob.name if blob == blob.current else "", Clock.now()
    wish = SasWish(blob.container, name, "r", now + 86_400, now - START_MARGIN)
    return own_key_sas(blob.service, wish) or delegation_sas(blob.service, wish)


def abort_plan(target: BlobRef, copy_id: str) -> Plan:
    current, headers = target.service.properties(target), {"x-ms-copy-action": "abort"}
    status = current.get("copyStatus")
    if status not in ("pending", "aborted"):
        words = f"There is no pending copy to blob {target}: its copyStatus is {shown(status)}."
        raise UsageError(words, "Only a pending copy can be aborted.")
    return one_request(
        target.id,
        COPY_VIEW,
        current,
        ({"copyStatus": status}, {"copyStatus": "aborted"}),
        "abort the copy",
        lambda: target.service.ask(COPY_ABORT, target, query={"copyid": copy_id}, headers=headers),
        lambda: target.service.properties(target),
        missed="No changes needed: the copy is aborted.",
        note="An aborted copy leaves an empty blob.",
    )


# --- commands: restore versions ----------------------------------------------------------------------------------------

RESTORE_BATCH = 32  # blobs between two looks at the clock
TOLD_BLOBS = 100  # blobs that the result names, of those that were not simply restored
EVERYTHING_KEPT = "versions,deleted,deletedwithversions,snapshots,metadata"
# What becomes of a blob, in the order in which a result tells it, and whether the result names such blobs.
RESTORE_RESULTS = {
    "restored": False, "undeleted": False, "same": False, "newer": True, "deleted": True, "notKept": True, "unaddressable": True, "failed": True,
}  # fmt: skip
RESTORE_CHANGES = ("restored", "undeleted", "deleted")


class Protection(NamedTuple):
    """What keeps content of an account that is replaced or deleted; neither where the identity may not read it."""

    versioning: bool = False
    soft_delete: bool = False

    @property
    def words(self) -> str:
        """Where neither does, a snapshot is taken before a blob is replaced."""
        kind = "a version" if self.versioning else "a soft-deleted snapshot" if self.soft_delete else "a snapshot"
        return f"The former content of each blob that was replaced is kept as {kind}. !azure-storage-blob-undelete brings deleted blobs back."


def protection_of(account: Containers, *, needed: bool) -> Protection:
    """UsageError for an account with a hierarchical namespace, where Resource Manager tells; and where it is needed, for
    one in which nothing keeps what is deleted."""

    def by_arm(ref: AccountRef) -> Protection:
        arm = account.azure.arm
        if at_path(arm.ask(ACCOUNT_GET, ref), "properties.isHnsEnabled"):
            raise no_versions(ref.name)
        found = at_path(arm.ask(SERVICE_GET, ref), "properties")
        kept = at_path(found, "deleteRetentionPolicy.enabled") is True
        return Protection(at_path(found, "isVersioningEnabled") is True, kept)

    def by_blobs(service: BlobService) -> Protection:
        found, _ = service.document(SERVICE_PROPERTIES, "", "StorageServiceProperties")
        return Protection(soft_delete=is_true(at_path(found, "DeleteRetentionPolicy.Enabled")))

    try:
        found = account.either(by_arm, by_blobs)
    except ServiceError as error:
        if error.status != 403:
            raise
        found = Protection()
    if needed and not any(found):
        words = "neither versioning nor soft delete is on, as far as the identity can read, so that deleted blobs couldn't be brought back."
        step = "Turn on soft delete with !azure-storage-blob-service-properties-set, or omit `delete_newer`."
        raise invalid("delete_newer", words, step)
    return found


def no_versions(account: str) -> UsageError:
    words = f"Account {account} has a hierarchical namespace, which has no blob versions to restore."
    return UsageError(words, "Restore soft-deleted blobs with !azure-storage-blob-undelete.")


class Kept(NamedTuple):
    """All that Azure keeps of one blob, and the marker of the page of the listing where that begins."""

    name: str
    marker: str
    rows: list[Json]

    @property
    def current(self) -> Json | None:
        live = (row for row in self.rows if not any(map(row.get, ("deleted", "snapshot", "hasVersionsOnly"))))
        return next((row for row in live if row.get("isCurrentVersion") or not row.get("versionId")), None)

    def at(self, when: float) -> Json | None:
        """What was current at a moment, as far as it is kept. When a version ceased to be current is not recorded."""
        known = (row for row in self.rows if was_there(row, when))

        def order(row: Json) -> tuple[str, str, bool]:
            return row["lastModified"], row.get("versionId", ""), not row.get("snapshot")

        return max(known, key=order, default=None)

    def existed(self, when: float) -> bool:
        """Whether there was a blob of this name at a moment, also where what it held is not kept."""
        return any(
            (moment(row.get("created")) or when + 1) <= when and (moment(row.get("deletedTime")) or when + 1) > when
            for row in self.rows
        )


def was_there(row: Json, when: float) -> bool:
    """Whether a blob, version or snapshot had been written by a moment and not been deleted. A version ID is more exact
    than the time of the last change, which is in whole seconds."""
    version, modified, deleted = row.get("versionId"), moment(row.get("lastModified")), moment(row.get("deletedTime"))
    if modified is None or (deleted is not None and deleted <= when) or (row.get("hasVersionsOnly") and not version):
        return False
    return modified < when or (version <= f"{iso_time(when)[:-1]}.0000000Z" if version else modified <= when)


def kept_blobs(place: ContainerPlace, prefix: str, marker: str = "", done: str = "") -> Iterator[Kept]:
    """What is kept of each blob, by name, from a page of the listing on and behind the blob that was done last."""
    pages = place.service.rows(place.name, {"prefix": prefix or None, "include": EVERYTHING_KEPT}, marker)
    rows = ((row, here) for page, here, _ in pages for row in page)
    for name, group in itertools.groupby(rows, lambda pair: str(pair[0]["name"])):
        found = list(group)
        if any(row.get("resourceType") == "directory" for row, _ in found):
            raise no_versions(place.service.account)
        if name == done:
            done = ""
        elif not done or name > done:
            done = ""
            yield Kept(name, found[0][1], [row for row, _ in found])


def read_progress(text: str) -> Json:
    found = json_value(text)
    counts = at_path(found, "counts")
    if not isinstance(found, dict) or not isinstance(counts, dict) or not isinstance(found.get("blobs"), list):
        raise ValueError
    return {**found, "counts": {key: whole(counts.get(key)) for key in RESTORE_RESULTS}}


NO_PROGRESS: Json = {"marker": "", "done": "", "counts": dict.fromkeys(RESTORE_RESULTS, 0), "blobs": []}


@dataclass
class VersionsRestore:
    """Brings blobs back to what they were at a moment, slice by slice; `progress` is what the next slice goes on with."""

    place: ContainerPlace
    prefix: str
    when: float
    protection: Protection
    delete_newer: bool
    progress: Json
    finished: bool = False
    broken: AzureStorageError | None = None

    def rehearse(self) -> Later | None:
        self.run(rehearse=True)
        self.check()
        return self.later()

    def run(self, *, rehearse: bool = False) -> object:
        """A slice of bounded time. What breaks it is raised by check, since what was done before counts."""
        start = Clock.now()
        blobs = kept_blobs(self.place, self.prefix, self.progress["marker"], self.progress["done"])
        try:
            for batch in slices(blobs, RESTORE_BATCH):
                results = in_order(lambda kept: self._result(kept, rehearse), batch)
                for kept, (result, words) in zip(batch, results, strict=True):
                    self._note(kept, result, words)
                if Clock.now() - start >= WORK_SLICE:
                    break
            else:
                self.finished = True
        except AzureStorageError as error:
            self.broken = error
        return {} if any(self.progress["counts"][key] for key in RESTORE_CHANGES) else ALREADY

    def _note(self, kept: Kept, result: str, words: str) -> None:
        told: list[Json] = self.progress["blobs"]
        if result:
            self.progress["counts"][result] += 1
        if RESTORE_RESULTS.get(result) and len(told) < TOLD_BLOBS * (2 if result == "failed" else 1):
            told.append({"name": kept.name, "result": words or result})
        self.progress |= {"marker": kept.marker, "done": kept.name}

    def check(self) -> object:
        """Raises what broke the slice, or at the end what failed."""
        if self.broken:
            raise self.broken
        count = self.progress["counts"]["failed"]
        if self.finished and count:
            results = (str(row["result"]) for row in self.progress["blobs"])
            first = next((result for result in results if result.startswith("failed")), "")
            step = "Fix the cause, then run the command again. Blobs that are restored are left as they are."
            raise AzureStorageError(f"{count} blobs could not be restored; the first {first}", step)
        return ALREADY

    def later(self) -> Later | None:
        if self.finished:
            return None
        text = f"{sum(self.progress['counts'].values())} blobs of {self.place} were handled so far; more are left. With polling, this command goes on by itself. Without, run it again."
        told = {"time_to_restore": iso_time(self.when), "progress": json.dumps(self.progress)}
        return Later("" if self.progress.get("rounds") else text, {**self.place.arguments, **told})

    @property
    def item(self) -> Json:
        where = {"account": self.place.service.account, "container": self.place.name, "prefix": self.prefix}
        told = {"timeToRestore": iso_time(self.when), **self.progress["counts"], "blobs": self.progress["blobs"]}
        return {"id": self.place.id, **where, **told}

    def _result(self, kept: Kept, rehearse: bool) -> tuple[str, str]:
        """What became of a blob, or would, and words for people; empty where there is nothing to say."""
        wanted, current = kept.at(self.when), kept.current
        result = self._decide(kept, wanted, current)
        if rehearse or result not in RESTORE_CHANGES:
            return result, ""
        outcome = take(Step(result, lambda: self._act(kept, wanted, current), lambda error: self._landed(kept, wanted)))
        if not outcome.error or outcome.result == DONE:
            return result, ""
        unknown = "; it is unknown whether Azure carried it out" if outcome.result == UNSURE else ""
        return "failed", f"failed: {brief(outcome.error)}{unknown}"

    def _decide(self, kept: Kept, wanted: Json | None, current: Json | None) -> str:
        if not DOT_SEGMENTS.isdisjoint(kept.name.split("/")):
            return "unaddressable"
        if wanted is None:
            if kept.existed(self.when):
                return "notKept"
            return ("deleted" if self.delete_newer else "newer") if current else ""
        if current is not None and (wanted is current or same_content(wanted, current)):
            return "same"
        base = wanted.get("deleted") and not (wanted.get("versionId") or wanted.get("snapshot"))
        return "undeleted" if base else "restored"

    def _landed(self, kept: Kept, wanted: Json | None) -> bool | None:
        """Whether a change of which the answer was lost is there; None where nothing tells."""
        found = self.place.service.properties_if_there(self.place.blob(kept.name))
        if wanted is None or found is None:
            return found is None and wanted is None
        return found.get("md5") == wanted["md5"] if wanted.get("md5") else None

    def _act(self, kept: Kept, wanted: Json | None, current: Json | None) -> None:
        blob = self.place.blob(kept.name)
        unchanged = unchanged_since(current)
        if wanted is None:
            if self.protection.soft_delete and any(row.get("snapshot") for row in kept.rows):
                unchanged["x-ms-delete-snapshots"] = "include"
            blob.service.ask(BLOB_DELETE, blob, headers=unchanged)
            return
        source = blob._replace(version=wanted.get("versionId", ""), snapshot=wanted.get("snapshot", ""))
        if wanted.get("deleted"):
            blob.service.ask(BLOB_UNDELETE, blob)
            if source == blob:
                return
            found = None if current else blob.service.properties_if_there(blob)
            unchanged = unchanged_since(found) if found else unchanged
        if current and not any(self.protection):
            take_snapshot(blob, unchanged)
        copy_over(source, unchanged)


def same_content(wanted: Json, current: Json) -> bool:
    """Whether two rows hold the same, so that nothing has to be restored."""
    parts = ("md5", "size", "contentType", "contentEncoding", "metadata")
    return bool(wanted.get("md5")) and all(wanted.get(part) == current.get(part) for part in parts)


Progress = Annotated[Json, Reader("the progress of an earlier round", read_progress)]


@command(
    "azure-storage-blob-versions-restore",
    needs=(READ_ACCOUNT, READ_SERVICE, READ_BLOB, WRITE_BLOB, DELETE_BLOB, WRITE_CONTAINER),
    role=f"{CONTRIBUTOR} with Reader",
    execution=True,
    confirm=True,
    polling=Polling(10, 43_200),
)
def blob_versions_restore(
    azure: Azure,
    container: OneContainerArgs,
    time_to_restore: Moment,
    prefix: ExactText | None = None,
    delete_newer: Flag = False,
    dry_run: Flag = False,
    *,
    progress: Progress | None = None,
) -> Plan | Later:
    """A container, or what in it has a prefix, as of a moment: from versions, soft-deleted blobs and snapshots."""
    if time_to_restore > Clock.now():
        raise invalid("time_to_restore", "it is in the future.")
    account, name = container
    place, protection = ContainerPlace(account.service, name), protection_of(account, needed=delete_newer)
    azure.use_threads()
    begun = {**deepcopy(NO_PROGRESS), **(progress or {}), "rounds": bool(progress)}
    work = VersionsRestore(place, prefix or "", float(int(time_to_restore)), protection, delete_newer, begun)
    later = work.rehearse() if dry_run else None
    if later:
        return later
    counts = {key: count if dry_run else NEW for key, count in work.progress["counts"].items()}
    after = {key: counts[key] for key in RESTORE_CHANGES if counts[key]}
    return Plan(
        place.id,
        dict.fromkeys(after, 0),
        after,
        VERSIONS_VIEW,
        [Step("restore the blobs", work.run), Step("restore every blob", work.check)],
        item=work.item,
        read_back=lambda outcomes: work.item,
        state=lambda item: {key: item[key] for key in RESTORE_CHANGES},
        later=lambda outcomes: work.later() if outcomes[-1].result in FINE else None,
        tell_steps=True,
        note="A blob that was deleted before that time comes back too where the account keeps versions: Azure doesn't record when a version ceased to be current.",
        done=protection.words,
        missed="No changes needed: no blob has to be restored or deleted. Blobs that are newer or whose content isn't kept are counted.",
        confirm=None if prefix else (place.name, f"This restores every blob of container {place}."),
    )


# --- commands: quarantine ----------------------------------------------------------------------------------------------

HASH_LIMIT = 1 << 30  # bytes; a larger evidence copy is not read back for its SHA-256
LONGEST_NAME, MOST_SEGMENTS = 1024, 254  # of a blob's name
CUSTODY_LIMIT = 200  # blobs whose events are kept
CaseId = Annotated[str, pattern("1 to 64 letters, digits and - . _", r"(?!\.+$)[\w.-]{1,64}")]


def read_sources(text: str) -> list[tuple[str, str, str, str]]:
    """What an earlier round wrote: container, name, version and snapshot of each blob."""
    rows = json_value(text)
    if not isinstance(rows, list) or not rows or not all(isinstance(part, str) for row in rows for part in row):
        raise ValueError
    found = [(container, name, version, snapshot) for container, name, version, snapshot in rows]
    for moment_of in filter(None, (part for row in found for part in row[2:])):
        matching(VERSION, moment_of)
    return found


QUARANTINE_ARGUMENTS = {
    **COLLECT_ARGUMENTS,
    "evidence_container_name": required(Container),
    "evidence_account_name": optional(Account),
    "sources": optional(Annotated[list[tuple[str, str, str, str]], Reader("blobs", read_sources)], hidden=True),
}


class QuarantineJob(NamedTuple):
    """The blobs to be secured, and the container that takes the copies."""

    collected: Collected
    evidence: ContainerPlace


def build_quarantine(azure: Azure, given: Given) -> QuarantineJob:
    """Evidence that a tag finds is left out: it is secured already."""
    container, account = given["evidence_container_name"], given["evidence_account_name"]
    if given["sources"]:
        source = service_in(azure, given)
        found = Collected(source, [BlobRef(source, *parts) for parts in given["sources"]])
    else:
        found = build_collected(azure, given)
    service = found.service
    if account and account.name != service.account:
        scope = {"subscription_id": account.subscription or None, "resource_group_name": account.group or None}
        service = service_in(azure, {**given, **scope, "account_name": account, "blob_url": None})
    others = [blob for blob in found.blobs if (blob.service.account, blob.container) != (service.account, container)]
    if len(others) < len(found.blobs) and not given["tag"]:
        raise invalid("evidence_container_name", "it is the container of the blob. Choose another one.")
    if len(others) > CUSTODY_LIMIT:
        raise invalid("blob_names", f"at most {CUSTODY_LIMIT} blobs can be secured at a time.")
    return QuarantineJob(found._replace(blobs=others), ContainerPlace(service, container))


QuarantineArgs = Annotated[QuarantineJob, Group(QUARANTINE_ARGUMENTS, build_quarantine)]


# What the evidence blob remembers of its source, as metadata; the source's own metadata never stands for it.
PINNED = {
    "etag": "quarantine_source_etag",
    "size": "quarantine_source_size",
    "md5": "quarantine_source_md5",
    "lastModified": "quarantine_source_modified",
}
METADATA_ROOM = 8192  # bytes of names and values
FALSE_MD5 = "the MD5 that the uploader stored does not match the content"
COPYING, WAITING, SECURED, AS_BEFORE = "copying", "waiting", "secured", "already secured"
# What a row of the custody record keeps from one round to the next.
ROW_STATE = ("evidence", "result", "verified", "protection", "sourceDeleted", "changed")


def proof(found: Json) -> Json:
    """What an event tells of a blob's content."""
    return {key: found.get(key) for key in ("etag", "size", "md5", "sha256")}


EVENT_KINDS = ("Not done", "Done")


def event_kind(event: Json) -> str:
    """Whether an event says that something was done."""
    return EVENT_KINDS[event["action"] != "failed" and not event["action"].startswith("not ")]


CUSTODY_ORDER = (FAILED, WAITING, COPYING, PLANNED, SECURED, AS_BEFORE)
CUSTODY_VIEW = View(
    "Custody",
    "Chain of custody",
    {
        "Time": short_time("time"),
        "Result": event_kind,
        "Action": "action",
        "Detail": "detail",
        "Actor": "actor",
        "SHA-256": "sha256",
    },
)


def has_event(row: Json, action: str) -> bool:
    return any(event["action"] == action for event in row["events"])


class Treatment(NamedTuple):
    """What is done to a blob besides copying and verifying it."""

    delete_source: bool = False
    legal_hold: bool = True
    sha256: bool = True


class Quarantine:
    """Secures one blob after the other, and writes down what happened to each.

    The events of a blob are kept beside the sessions under the id of its evidence, so that later rounds and repeated runs
    add to them. Each is written down as soon as it happened, and what can't be taken back also before.
    """

    def __init__(self, azure: Azure, job: QuarantineJob, case_id: str, run: str, treatment: Treatment) -> None:
        self.azure, self.job, self.case_id, self.treatment = azure, job, case_id, treatment
        self.first_round, self.run = not run, run or uuid.uuid4().hex
        self.rows: list[Json] = []
        self.deadline = Clock.now() + WORK_SLICE
        self.custody = azure.store.section("custody")
        self.blobs = self._blobs()

    def _blobs(self) -> list[BlobRef]:
        """The blobs of the job, and those that an earlier run of the same selection secured: they may be gone by now."""
        found = self.job.collected
        here = f"{self.job.evidence.id}/{self.case_id}/{found.service.account}/"
        kept = (dict(entry) for name, entry in self.custody.items() if name.startswith(here))
        earlier = [entry["source"] for entry in kept if found.selection and entry.get("selection") == found.selection]
        refs = [
            BlobRef(found.service, row["container"], row["name"], row.get("versionId", ""), row.get("snapshot", ""))
            for row in earlier
        ]
        blobs = list(dict.fromkeys([*refs, *found.blobs]))
        if not blobs:
            raise found.nothing_found()
        return blobs[-CUSTODY_LIMIT:]

    def later(self) -> Later | None:
        left = sum(row["result"] in (COPYING, WAITING) for row in self.rows)
        if not left:
            return None
        text = f"{left} of {len(self.rows)} blobs are still being copied to {self.job.evidence.name}. This command ends when it is done."
        rows = table(QUARANTINE_VIEW, self.rows, note=text)
        told = CommandResults(
            outputs={QUARANTINE_VIEW.context: self.rows}, readable_output=rows, raw_response=self.rows
        )
        # In place of what found the blobs, since they may not be there any more.
        replaced = ("container_name", "blob_name", "blob_names", "version_id", "snapshot", "prefix", "tag")
        again = {
            **dict.fromkeys(replaced, ""),
            "account_name": self.job.collected.service.account,
            "evidence_account_name": self.job.evidence.service.account,
            "evidence_container_name": self.job.evidence.name,
            "sources": json.dumps([blob[1:] for blob in self.blobs]),
            "run_id": self.run,
        }
        return Later(text if self.first_round else "", again, instead=told)

    def record(self, report: bool) -> list[Json]:
        """The custody record of all blobs, as a file; with report also as a page."""
        document = {"case": self.case_id, "written": iso_time(Clock.now()), "records": self.rows}
        files = {"json": json.dumps(document, indent=2, ensure_ascii=False)}
        if report:
            files["html"] = "".join(self.page())
        return [dict(fileResult(f"quarantine_{self.case_id}.{kind}", text)) for kind, text in files.items()]

    def page(self) -> Iterator[str]:
        """The custody record as a page: what failed comes first, and blobs without an event in this run are folded."""
        rows = sorted(self.rows, key=lambda row: CUSTODY_ORDER.index(row["result"]))
        events = [(moment(event["time"]), event_kind(event)) for row in rows for event in row["events"]]
        times = [when for when, _ in events if when is not None] or [Clock.now()]
        timeline = Timeline(min(times), max(times))
        for when, kind in events:
            timeline.add(when, kind)
        totals = {name.capitalize(): count for name, count in Counter(row["result"] for row in rows).items()}
        facts = {"Case": self.case_id, "Evidence": self.job.evidence.id, "Blobs": len(rows), **totals}
        about = report_facts(self.azure, self.job.collected.service.account)
        sections = (
            html_section(
                f"{row['source']['container']}/{row['source']['name']}",
                html_table(QUARANTINE_VIEW, [row], "evidence"),
                html_table(CUSTODY_VIEW, row["events"], "chain of custody"),
                bar={kind: sum(event_kind(event) == kind for event in row["events"]) for kind in EVENT_KINDS},
                opened=row["result"] != AS_BEFORE and place < DEFAULT_LIMIT,
            )
            for place, row in enumerate(rows)
        )
        return html_report(f"Chain of custody: {self.case_id}", about | facts, sections, timeline=timeline.html())

    def evidence_of(self, blob: BlobRef) -> BlobRef:
        """Where the copy goes: case, account, container and name, so that copies of different sources never meet. Versions
        and snapshots have a folder of their own, and so have names that would become too long."""
        moment_of = blob.version or blob.snapshot
        kind = "versions/" if blob.version else "snapshots/" if blob.snapshot else "blobs/"
        start = f"{self.case_id}/{blob.service.account}/{blob.container}/"
        name = f"{start}{kind}{moment_of + '/' if moment_of else ''}{blob.name}"
        if len(name) > LONGEST_NAME or name.count("/") >= MOST_SEGMENTS:
            start += f"hashed/{hashlib.sha256(blob.id.encode()).hexdigest()}/"
            name = start + blob.name.replace("/", "_")[: LONGEST_NAME - len(start)]
        return self.job.evidence.blob(name)

    def actor(self, service: BlobService) -> str:
        """Whoever is authorised at a service: a key or SAS of the instance, or the signed-in identity."""
        credential = self.azure.settings.storage_credential_for(service.account)
        if credential:
            return f"{'account SAS' if credential.sas else 'account key'} of {credential.account} in the instance"
        return str(self.azure.auth.identity().get("identity") or self.azure.settings.app_id)

    def row(self, blob: BlobRef, result: str = "") -> Json:
        """The row of a blob in the custody record, with what earlier rounds and runs wrote down."""
        evidence = self.evidence_of(blob)
        kept = dict(self.custody.get(evidence.id) or {})
        row = {
            "id": evidence.id,
            "case": self.case_id,
            "source": {**dict(kept.get("source") or {}), **blob.identity()},
            "evidence": evidence.identity(),
            "result": result,
            "verified": "",
            "protection": "",
            "sourceDeleted": False,
            "changed": False,
            "events": list(kept.get("events") or []),
        }
        return {**row, **dict(kept.get("state") or {})} if kept.get("run") == self.run and not result else row

    def secure(self, blob: BlobRef) -> object:
        """Makes one row of the custody record. A failure is written down there before it is raised."""
        row = self.row(blob)
        self.rows.append(row)
        if row["result"] == FAILED:  # in an earlier round
            raise AzureStorageError(row["events"][-1]["detail"], "Run the command again.")
        if row["result"] not in (SECURED, AS_BEFORE) and Clock.now() >= self.deadline:
            row["result"] = WAITING
        elif row["result"] not in (SECURED, AS_BEFORE):
            try:
                self._secure(blob, row)
            except AzureStorageError as error:
                row["result"] = FAILED
                self._event(row, "failed", redact(error.message))
                raise
            self._save(row)
        return row if row["changed"] else ALREADY

    def _event(self, row: Json, action: str, detail: str, facts: Json | None = None, *, once: bool = False) -> None:
        """Write an event down, in the row and where the next round finds it. once: only if there is none of the kind.

        What happens to a source is the act of whoever is authorised there."""
        if once and has_event(row, action):
            return
        at_source = action == "failed" or action.startswith("source")
        service = (self.job.collected if at_source else self.job.evidence).service
        known = {"time": iso_time(Clock.now()), "actor": "", "action": action, "detail": detail}
        told = known | given_only(facts or {})
        row["events"].append(told)
        try:
            told["actor"] = self.actor(service)
        except Exception as error:  # the platform may raise anything; the event counts all the same
            told["actor"] = f"unknown ({type(error).__name__})"
        self._save(row)

    def _save(self, row: Json) -> None:
        """Keep the row for later rounds and runs. A failure is told in the row and loses nothing of it."""

        def remember(document: Json) -> list[Json]:
            custody = dict(document.get("custody") or {})
            old = dict(custody.pop(row["id"], None) or {})
            known = list(old.get("events") or [])
            events = known + [event for event in row["events"] if event not in known]
            state = {key: row[key] for key in ROW_STATE}
            selection = self.job.collected.selection or old.get("selection", "")
            kept = {"run": self.run, "selection": selection, "source": row["source"], "state": state, "events": events}
            custody[row["id"]] = kept
            document["custody"] = dict(list(custody.items())[-CUSTODY_LIMIT:])
            return events

        try:
            row["events"] = deepcopy(self.azure.store.edit(remember))
            row.pop("unsaved", None)
        except Exception as error:  # the platform may raise anything
            demisto.error(f"the custody record could not be saved: {redact(str(error))}")
            row["unsaved"] = True

    def _secure(self, blob: BlobRef, row: Json) -> None:
        evidence = self.evidence_of(blob)
        copy, source = in_order(lambda each: each.service.properties_if_there(each), [evidence, blob])
        copy = copy or self._copy(blob, source, evidence, row)
        told = self._claims(copy, row)
        status = copy.get("copyStatus", "success")
        if status == "pending":
            row["result"] = COPYING
            return
        if status != "success":
            words = f"The copy to {evidence} ended with {status}: {copy.get('copyStatusDescription', '')}"
            raise AzureStorageError(words, "Delete the copy and secure the blob again.")
        self._source(blob, source, row, told)
        how = "" if has_event(row, "copy requested") else ", found in place: the events of its copying are not known"
        detail = f"{blob.id} of ETag {told['etag']} to {evidence.id}, by the service{how}"
        copied_facts = {**proof(copy), "copyId": copy.get("copyId")}
        self._event(row, "copied", detail, copied_facts, once=True)
        self._verify(evidence, copy, row)
        self._protect(evidence, copy, row)
        if self.treatment.delete_source:
            self._delete(blob, source, row)
        row["result"] = SECURED if row["changed"] else AS_BEFORE

    def _claims(self, copy: Json, row: Json) -> Json:
        """What the evidence says of its source. Raises if it is no copy of this quarantine, whatever was written down."""
        metadata = {name.lower(): value for name, value in copy["metadata"].items()}
        told = {key: metadata[name] for key, name in PINNED.items() if name in metadata}
        kept = row["source"].get("etag", told.get("etag"))
        if metadata.get("quarantine_case") != self.case_id or not kept or told.get("etag") != kept:
            words = f"Blob {row['evidence']['name']} exists and is not a copy of this quarantine."
            raise AzureStorageError(words, "Choose another case_id or container.")
        return {**told, "size": whole(told.get("size"))}

    @staticmethod
    def _source(blob: BlobRef, source: Json | None, row: Json, told: Json) -> None:
        """Write down what the source is. The evidence must be of that; where it is not there, what was written down
        before counts, and at last what the evidence says of it."""
        if source and source.get("etag") != told["etag"]:
            words = f"Blob {blob} has changed since it was secured for this case; the new content is not secured."
            raise AzureStorageError(words, "Secure it under another case_id.")
        if source:
            kept = {key: value for key, value in row["source"].items() if key not in PINNED}
            row["source"] = {**kept, **{key: source[key] for key in PINNED if key in source}}
        elif "etag" not in row["source"]:
            row["source"] |= told

    def _copy(self, blob: BlobRef, found: Json | None, evidence: BlobRef, row: Json) -> Json:
        """Begin the copy of exactly what was found. The source's own metadata goes along as far as a request can carry
        it, never under names that the quarantine uses itself."""
        source = found or blob.service.properties(blob)  # which says that it is not there
        pinned = {key: source[key] for key in PINNED if key in source}
        facts = {PINNED[key]: str(value) for key, value in pinned.items()} | {"quarantine_case": self.case_id}
        own = {name: value for name, value in source["metadata"].items() if not name.lower().startswith("quarantine_")}
        plain = all(part.isascii() and part.isprintable() for pair in own.items() for part in pair)
        fits = sum(len(part) for pair in (*own.items(), *facts.items()) for part in pair) <= METADATA_ROOM
        row["source"] |= {**pinned, "metadata": source["metadata"]}
        left = "" if plain and fits else "; its metadata is only in this record, since it does not fit"
        self._event(row, "copy requested", f"{blob.id} to {evidence.id}{left}", proof(source))
        metadata = {**(own if plain and fits else {}), **facts}

        def is_there(error: AzureStorageError) -> bool:
            found = evidence.service.properties_if_there(evidence)
            return found is not None and self._claims(found, row)["etag"] == source.get("etag")

        headers = write_headers(None, metadata, overwrite=False)
        take_or_raise(Step("copy", lambda: start_copy(evidence, blob, headers, source), is_there))
        row["changed"] = True
        return evidence.service.properties(evidence)

    def _verify(self, evidence: BlobRef, copy: Json, row: Json) -> None:
        """Compare what arrived with what was read of the source before. Raises if it differs; then nothing is deleted."""
        source = row["source"]
        row["evidence"] |= {key: copy[key] for key in ("etag", "size", "md5", "lastModified") if key in copy}
        if copy.get("size") != source.get("size") or (source.get("md5") and copy.get("md5") != source["md5"]):
            words = f"The copy {evidence} differs from its source in length or MD5."
            raise AzureStorageError(words, "Delete it and secure the blob again.")
        row["verified"] = (
            "length and stored MD5" if source.get("md5") else "length; the service holds no MD5 of the source"
        )
        if self.treatment.sha256 and copy.get("size", 0) <= HASH_LIMIT:
            self._hash(evidence, row)
        found = row["evidence"].get("sha256")
        earlier = [event["sha256"] for event in row["events"] if event["action"] == "verified" and event.get("sha256")]
        if found and earlier and earlier[-1] != found:
            raise AzureStorageError(
                f"The evidence {evidence} has changed since it was verified.", "Look at its events."
            )
        if not has_event(row, "verified") or (found and not earlier):
            self._event(row, "verified", row["verified"], proof(row["evidence"]))

    def _hash(self, evidence: BlobRef, row: Json) -> None:
        path = f"quarantine_{uuid.uuid4()}"
        try:
            found = Downloader(evidence, with_md5=True).run(path, HASH_LIMIT)
        finally:
            Path(path).unlink(missing_ok=True)
        row["evidence"] |= {"sha256": found.sha256, "md5": found.md5}
        if row["source"].get("md5", found.md5) != found.md5:
            # Whoever uploads a blob chooses the MD5 that is stored with it, and a copy takes that along.
            row["verified"] = f"length; {FALSE_MD5}"
        elif "md5" in row["source"]:
            row["verified"] = "length and MD5"

    def _protect(self, evidence: BlobRef, copy: Json, row: Json) -> None:
        """Tags for the case, and a legal hold; where the container takes none, a snapshot. What fails is written down."""
        service, content = evidence.service, proof(row["evidence"])
        tags = {"case": self.case_id} | given_only({"sha256": content["sha256"]})
        try:
            old = service.tags(evidence)
            if not tags.items() <= old.items():
                service.set_tags(evidence, {**old, **tags})
                row["changed"] = True
                self._event(row, "tagged", ", ".join(map("=".join, tags.items())), content)
        except AzureStorageError as error:
            self._event(row, "not tagged", redact(error.message), once=True)
        if self.treatment.legal_hold:
            row["protection"] = self._hold(evidence, bool(copy.get("legalHold")), row, content)

    def _hold(self, evidence: BlobRef, held: bool, row: Json, content: Json) -> str:
        """What protects the evidence afterwards. One snapshot is enough: the listing tells whether there is one."""
        if held:
            self._event(row, "held", "legal hold, found in place", content, once=True)
            return "legal hold"
        try:
            evidence.service.ask(BLOB_HOLD, evidence, headers={"x-ms-legal-hold": "true"})
            row["changed"] = True
            self._event(row, "held", "legal hold", content)
            return "legal hold"
        except AzureStorageError as error:
            self._event(row, "not held", f"{brief(error)}: no legal hold is possible here", once=True)
        try:
            taken = next((item["snapshot"] for item in rows_named(evidence, "snapshots") if item.get("snapshot")), "")
            if not taken:
                taken = take_snapshot(evidence, {})["snapshot"]
                row["changed"] = True
                self._event(row, "snapshot taken", taken, content)
            return f"snapshot {taken}"
        except AzureStorageError as error:
            self._event(row, "not protected", redact(error.message), once=True)
            return "none"

    def _delete(self, blob: BlobRef, source: Json | None, row: Json) -> None:
        """Only after the copy was verified, and only if the source is still what was copied."""
        only_length = "md5" not in row["source"] and not has_event(row, "copy requested")
        reasons = {
            FALSE_MD5: any(FALSE_MD5 in event["detail"] for event in row["events"]),
            "only the length of a copy that was found in place could be verified": only_length,
            "the custody record could not be saved": "unsaved" in row,
        }
        kept = next((words for words, stands in reasons.items() if stands), "")
        content = proof(row["source"])
        what = f"{blob.id} of ETag {content['etag']}"
        if source and kept:
            self._event(row, "source kept", kept, content)
        elif source:
            self._event(row, "source deletion requested", what, content)
            self._delete_source(blob, content["etag"])
            row.update(changed=True, sourceDeleted=True)
            self._event(row, "source deleted", what, content)
        elif has_event(row, "source deletion requested"):
            row["sourceDeleted"] = True
            self._event(row, "source deleted", "The source is gone, as was requested before.", content, once=True)
        else:
            self._event(row, "source missing", "The source is gone; this quarantine did not delete it.", once=True)

    @staticmethod
    def _delete_source(blob: BlobRef, etag: str) -> None:
        take_or_raise(delete_step(blob, {} if blob.version or blob.snapshot else {"If-Match": f'"{etag}"'}))


@command(
    "azure-storage-blob-quarantine",
    needs=(
        READ_BLOB,
        WRITE_BLOB,
        ADD_BLOB,
        DELETE_BLOB,
        DELETE_VERSION,
        READ_TAGS,
        WRITE_TAGS,
        FIND_BLOBS,
        WRITE_CONTAINER,
    ),
    role=OWNER,
    execution=True,
    polling=Polling(15, 7200),
)
def blob_quarantine(
    azure: Azure,
    job: QuarantineArgs,
    case_id: CaseId,
    delete_source: Flag = False,
    legal_hold: Flag = True,
    sha256: Flag = True,
    report: HtmlReport = None,
    *,
    run_id: Text | None = None,
) -> Plan | Later:
    """Secures blobs as evidence: copy, verify, tag, hold, and only then, when asked, delete the source.

    What a later round has to know is remembered beside the sessions, so that the command can be run again at any time.
    """
    azure.use_threads()
    work = Quarantine(azure, job, case_id, run_id or "", Treatment(delete_source, legal_hold, sha256))
    secured = {blob.id: SECURED for blob in work.blobs}
    undo = "The undo of a deleted source is !azure-storage-blob-undelete, while soft delete or versions keep it."
    return Plan(
        job.evidence.id,
        dict.fromkeys(secured),
        secured,
        QUARANTINE_VIEW,
        [Step(f"secure {blob}", partial(work.secure, blob), vital=False) for blob in work.blobs],
        item=[work.row(blob, PLANNED) for blob in work.blobs],
        read_back=lambda outcomes: work.rows,
        state=lambda found: {row["source"]["id"]: SECURED for row in found if row["result"] in (SECURED, AS_BEFORE)},
        later=lambda outcomes: work.later(),
        planned=[f"secure {md(str(blob))}" for blob in work.blobs],
        tell_steps=True,
        note="\n\n".join(filter(None, (undo if delete_source else "", job.collected.note("secured")))),
        missed="No changes needed: the blobs are already secured.",
        files=lambda: work.record(bool(report)),
    )


# --- commands: posture -------------------------------------------------------------------------------------------------

# What a check can come to. unset: the service returns no value, and the default may be unsafe; unknown: it could not be read.
PASS, FAIL, UNSET, UNKNOWN, NOT_APPLICABLE = "pass", "fail", "unset", "unknown", "not_applicable"
WORST_FIRST = (FAIL, UNKNOWN, UNSET, PASS, NOT_APPLICABLE)
TO_FIX, TO_SEE = (FAIL, UNSET), (FAIL, UNSET, UNKNOWN)
SEVERITIES = ("High", "Medium", "Low")
POSTURE_COUNTS = tuple(result + severity for severity in SEVERITIES for result in TO_SEE)

Facts = Mapping[str, object]


def right_to(path: str, verb: str) -> str:
    """The permission to read, write or delete what is at a path of Resource Manager."""
    provider, *parts = path.rpartition("/providers/")[2].split("/")
    return "/".join([provider, *parts[::2], verb])


class DeepSource(NamedTuple):
    """One GET per account: the path under the account's id, and the api-version."""

    path: str
    api: str = STORAGE_API

    @property
    def permission(self) -> str:
        return right_to(f"/providers/{STORAGE_ACCOUNTS}/account{self.path}", "read")


ACCOUNT_SOURCE = DeepSource("", NEWEST_STORAGE_API)
SETTINGS_PATH = "Services/default/providers/Microsoft.Insights/diagnosticSettings"
DEEP_SOURCES = {
    "locks": DeepSource(LOCKS_PATH, LOCKS_API),
    "service": DeepSource(SERVICE_GET.path),
    "website": DeepSource(SERVICE_GET.path, NEWEST_STORAGE_API),
    "containers": DeepSource(CONTAINERS_LIST.path),
    "files": DeepSource("/fileServices/default"),
    "replication": DeepSource(REPLICATION_LIST.path),
    "scopes": DeepSource("/encryptionScopes"),
    "local_users": DeepSource("/localUsers"),
    "defender": DeepSource(DEFENDER_GET.path, DEFENDER_API),
    "logs": DeepSource("/blob" + SETTINGS_PATH, DIAGNOSTICS_API),
    "queue_logs": DeepSource("/queue" + SETTINGS_PATH, DIAGNOSTICS_API),
    "table_logs": DeepSource("/table" + SETTINGS_PATH, DIAGNOSTICS_API),
    "file_logs": DeepSource("/file" + SETTINGS_PATH, DIAGNOSTICS_API),
    "lifecycle": DeepSource(LIFECYCLE_GET.path),
    "storage_tasks": DeepSource("/storageTaskAssignments"),
    "connectors": DeepSource("/connectors", NEWEST_STORAGE_API),
    "data_shares": DeepSource("/dataShares", NEWEST_STORAGE_API),
    "access_points": DeepSource("/blobAccessPointConfigurations", NEWEST_STORAGE_API),
}
BLOB_SOURCES = ("service", "website", "containers", "replication", "scopes", "logs", "lifecycle", "storage_tasks")
SOURCES = {"account": ACCOUNT_SOURCE, **DEEP_SOURCES, "endpoints": DeepSource("/privateEndpointConnections")}
SHARING_SOURCES = ("connectors", "data_shares", "access_points")
LOG_SOURCES = ("logs", "queue_logs", "table_logs", "file_logs")
# Elsewhere "not found" says that the account does not have the feature; here, that there is none of it.
EMPTY_WHEN_MISSING = frozenset({"local_users", "defender", "lifecycle", "storage_tasks", *SHARING_SOURCES})
UNSUPPORTED_CODES = frozenset(
    {"FeatureNotSupportedForAccount", "OperationNotSupportedOnAccount", "ResourceTypeNotSupported"}
)
# A 404 that is about something else than the feature: the account is gone, or the cloud lacks the api-version.
GONE_CODES = UNKNOWN_VERSION | {
    *("ParentResourceNotFound", "ResourceGroupNotFound", "SubscriptionNotFound", "InvalidSubscriptionId")
}


class PostureOptions(NamedTuple):
    """What is yours, against which the checks hold what they find; an empty one is not known.

    now is in seconds since 1970; key_vaults holds names or addresses; subscriptions holds ids.
    """

    now: float
    tenant_id: str = ""
    key_vaults: Collection[str] = ()
    subscriptions: Collection[str] = ()
    evidence_containers: Collection[str] = ()
    max_key_age_days: int = 90


class Send(NamedTuple):
    """A request to Resource Manager, with its path below the account. merge: the body holds only the settings to change."""

    method: str
    path: str
    api: str
    body: Json
    merge: bool = False


class Delegate(NamedTuple):
    """A command of this integration, without the arguments that name the account."""

    command: str
    arguments: Mapping[str, str]


class Decide(NamedTuple):
    """What only a person can decide or do."""

    text: str


Action = Send | Delegate | Decide


class Finding(NamedTuple):
    """The result of a check. actions replace the action of its row where the account decides what is to be done."""

    result: str
    evidence: str
    actions: tuple[Action, ...] = ()

    def fixed_by(self, *actions: Action) -> "Finding":
        """The same finding with what is to be done about it, if anything is."""
        return self._replace(actions=actions) if self.result in TO_FIX else self


class Case(NamedTuple):
    """What a judge gets: the account, what the check's source holds, all sources, what is yours, and the check's path."""

    account: Json
    data: object
    facts: Facts
    options: PostureOptions
    path: str
    source: str

    def value(self, path: str = "") -> object:
        """A property of the source, by default the one that the check is about."""
        found: object = at_path(self.data, "properties." + (path or self.path))
        return found

    def rows(self) -> list[Json]:
        return listed_items(self.data)

    def listed(self, source: str) -> list[Json] | None:
        """The items of another source; None where it was not read."""
        data = source_data(self.facts, source)
        return None if data is None or isinstance(data, Exception) else listed_items(data)


Judge = Callable[[Case], Finding]


class Exempt(NamedTuple):
    """Accounts to which a check does not apply: those with one of these values."""

    path: str
    values: tuple[object, ...]
    words: str


class Check(NamedTuple):
    """One row of the table.

    property is its path in Resource Manager; source is "account" or a deep source, and `also` names those it looks at
    besides; `exempt` says why it does not apply to an account; `newest` is a property that only NEWEST_STORAGE_API returns;
    action is what fixes it where the judge's findings don't tell.
    """

    number: int
    name: str
    title: str
    severity: str
    cis: str
    property: str
    judge: Judge
    source: str = "account"
    exempt: tuple[Exempt, ...] = ()
    also: tuple[str, ...] = ()
    newest: str = ""
    action: Action | None = None


def listed_items(data: object) -> list[Json]:
    """The objects of a collection, with or without the envelope in which Resource Manager returns it."""
    return dicts(data.get("value") if isinstance(data, dict) else data)


def source_data(facts: Facts, source: str) -> object:
    """What was read from a deep source: JSON, an error, or None where nobody asked; missing is empty where it means that."""
    data = facts.get(source)
    return {} if source in EMPTY_WHEN_MISSING and is_missing(data) else data


def is_missing(data: object) -> bool:
    """Whether an error says that the account does not have the feature."""
    if not isinstance(data, ServiceError) or data.code in GONE_CODES:
        return False
    return data.status == 404 or data.code in UNSUPPORTED_CODES


def few_of(items: Iterable[str], limit: int = 5, between: str = ", ") -> str:
    """The first few of many names."""
    names = list(items)
    return between.join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


# Posture actions


def settings_of(values: Mapping[str, object]) -> Json:
    """A body from values by dotted path below properties."""
    body: Json = {}
    for path, value in values.items():
        put_path(body, "properties." + path, value)
    return body


def change(source: str, values: Mapping[str, object]) -> Send:
    """Sets values by their paths below properties: a PATCH of the account, or the PUT that replaces a source as a whole."""
    place = SOURCES[source]
    return Send("PATCH" if source == "account" else "PUT", place.path, place.api, settings_of(values), merge=True)


def one_of(source: str, name: object, method: str, values: Mapping[str, object]) -> Send:
    """Changes or deletes one item of a collection; a name cannot lead out of it."""
    place = SOURCES[source]
    path = f"{place.path}/{urllib.parse.quote(str(name), safe='')}"
    return Send(method, path, place.api, settings_of(values), merge=True)


SMB = {"protocolSettings.smb.versions": "SMB3.1.1;", "protocolSettings.smb.channelEncryption": "AES-256-GCM;"}
SHARING = "dataCollaborationPolicyProperties"
SHARING_SWITCHES = tuple(
    f"{SHARING}.allow{what}"
    for what in ("StorageConnectors", "BlobAccessPoints", "StorageDataShares", "CrossTenantDataSharing")
)
WEBSITE_OFF = change("website", {"staticWebsite.enabled": False})
CREATE_ANEW = Decide("This can only be set at creation: create an account with the setting and copy the data over.")
OTHER_SKU = Decide(
    "Azure does not update this SKU to a geo-redundant one: create an account with one and copy the data."
)
CREATE_ENDPOINT = Decide(
    "Create a private endpoint for the blob service in the virtual network of the clients, and its private DNS zone."
)
MOVE_EVIDENCE = Decide("Accounts with SFTP or NFS 3.0 support no legal holds: copy the evidence to another account.")
CHOOSE_LOG_SINK = Decide(
    "Choose a destination for the logs: a Log Analytics workspace, a storage account or an event hub; "
    "then add a diagnostic setting (blob service: !azure-storage-account-logging-set)."
)


# Which accounts a check does not apply to

NOT_OF_KIND, NOT_OF_SKU = "not supported by accounts of this kind", "not supported by premium accounts"
NO_BLOBS = Exempt("kind", ("FileStorage",), NOT_OF_KIND)
NO_FILES = Exempt("kind", ("BlobStorage", "BlockBlobStorage"), NOT_OF_KIND)
NO_QUEUES = Exempt("kind", ("FileStorage", "BlobStorage", "BlockBlobStorage"), NOT_OF_KIND)
OLD_KINDS = Exempt("kind", ("Storage", "BlobStorage"), NOT_OF_KIND)
ONLY_V2 = Exempt("kind", ("Storage", "BlobStorage", "BlockBlobStorage", "FileStorage"), NOT_OF_KIND)
GENERAL_V1 = Exempt("kind", ("Storage",), NOT_OF_KIND)
PREMIUM = Exempt("sku.name", ("Premium_LRS", "Premium_ZRS", "PremiumV2_LRS", "PremiumV2_ZRS"), NOT_OF_SKU)
HIERARCHICAL = Exempt("properties.isHnsEnabled", (True,), "not supported with a hierarchical namespace")
KEYS_REFUSED = Exempt("properties.allowSharedKeyAccess", (False,), "Shared Key access is disabled")


# Judges that many checks share


def value_is(good: object, unset: str, *, safe: bool = False, note: str = "", path: str = "") -> Judge:
    """Passes for the good value, or one of a tuple, of which a fix sets the first; text in any case. safe: so does a value
    that is not set."""
    values = good if isinstance(good, tuple) else (good,)
    wanted = {comparable(value) for value in values}

    def judge(case: Case) -> Finding:
        name, value = path or case.path, case.value(path)
        result, words = (PASS, "") if comparable(value) in wanted else (FAIL, note)
        found = Finding(result, f"{name} is {shown(value)}{words}")
        if value is None:
            found = Finding(PASS if safe else UNSET, f"{name} is not set ({unset})")
        return found.fixed_by(change(case.source, {name: values[0]}))

    return judge


def comparable(value: object) -> str:
    """A key in which true, 1 and "true" differ, and the semicolon at the end of a list of Azure Files does not matter."""
    text = value.strip().rstrip(";").lower() if isinstance(value, str) else value
    return json.dumps(text, sort_keys=True, default=str)


def days_within(case: Case, low: int, high: int, unset: str, path: str) -> Finding:
    """Passes for a whole number from low to high."""
    value = case.value(path)
    if value is None:
        return Finding(UNSET, f"{path} is not set ({unset})")
    good = isinstance(value, int) and not isinstance(value, bool) and low <= value <= high
    words = f"{path} is {shown(value)}"
    return Finding(PASS, words) if good else Finding(FAIL, f"{words}; expected {low} to {high}")


IS_ON = value_is(True, "default: off")
IS_OFF = value_is(False, "default: off", safe=True)


def all_of(*judges: Judge) -> Judge:
    return lambda case: worst([judge(case) for judge in judges])


def each(judge: Callable[[Case, Json], Finding], none: str) -> Judge:
    """The worst finding about the items of a collection."""
    return lambda case: worst([judge(case, row) for row in case.rows()] or [Finding(PASS, none)])


def worst(findings: list[Finding]) -> Finding:
    """Several findings as one: the worst result, the evidence of all that are not good, and what helps against them."""
    result = min((found.result for found in findings), key=WORST_FIRST.index)
    telling = [found for found in findings if result == PASS or found.result != PASS]
    actions: list[Action] = []
    for found in telling:
        if found.result in (*TO_FIX, result):
            actions += [action for action in found.actions if action not in actions]
    return Finding(result, few_of(dict.fromkeys(found.evidence for found in telling), between="; "), tuple(actions))


def keeps_deleted(policy: str, low: int, *others: Judge) -> Judge:
    """Soft delete of a service is on for at least `low` days; its action never shortens what is kept."""
    enabled, days = policy + ".enabled", policy + ".days"
    is_on = value_is(True, "default: off", path=enabled)

    def soft_delete(case: Case) -> Finding:
        found = worst([is_on(case), days_within(case, low, 365, "no retention period", days)])
        return found.fixed_by(change(case.source, {enabled: True, days: days_kept(case, policy)}))

    return all_of(soft_delete, *others)


def days_kept(case: Case, policy: str) -> int:
    """The retention to set: the current one if it is a week or more, else 14 days."""
    days = case.value(policy + ".days")
    return days if isinstance(days, int) and not isinstance(days, bool) and 7 <= days <= 365 else 14


def judge_owner(case: Case, target: str, words: str, *actions: Action) -> Finding:
    """Whether a resource, by its id, is in a subscription of yours: the account's or one of own_subscriptions."""
    subscription = resource_id({"id": target}).subscription.lower()
    own = {subscription_of(case.account).lower(), *(item.lower() for item in case.options.subscriptions)}
    if subscription and subscription in own:
        return Finding(PASS, f"{words} own subscription {subscription}")
    if subscription and case.options.subscriptions:
        return Finding(FAIL, f"{words} subscription {subscription}, not one of own_subscriptions", actions)
    place = f"subscription {subscription}" if subscription else target or "an unnamed resource"
    return Finding(UNKNOWN, f"{words} {place}; list your subscriptions in own_subscriptions")


# Judges: network and anonymous access

DEFENDER_SCANNER = re.compile(r"(?i)/subscriptions/[^/]+/providers/Microsoft\.Security/datascanners/storageDataScanner")
CLOSED = ("Disabled", "SecuredByPerimeter")
# Networks as wide as these hold strangers: prefix lengths by kind of rule.
TOO_WIDE = {"ipRules": 8, "ipv6Rules": 32}


def is_closed(account: object) -> bool:
    """Whether public network access is disabled, whatever the default network action says."""
    return at_path(account, "properties.publicNetworkAccess") in CLOSED


def judge_public_network(case: Case) -> Finding:
    """Disabled leaves two ways in: https://learn.microsoft.com/azure/storage/common/storage-network-security-limitations"""
    found = value_is(CLOSED, "default: Enabled")(case)
    rules = len(dicts(case.value("networkAcls.resourceAccessRules")))
    trusted = "azureservices" in str(case.value("networkAcls.bypass") or "").lower()
    still = ["trusted Azure services"] * trusted + [f"{rules} resource instances"] * bool(rules)
    if found.result != PASS or not still:
        return found
    return found._replace(evidence=f"{found.evidence}; still allowed: {', '.join(still)}")


def judge_default_action(case: Case) -> Finding:
    found = value_is("Deny", "default: Allow")(case)
    if found.result == PASS or not is_closed(case.data):
        return found
    words = "no effect while public network access is disabled, but applies as soon as it is enabled"
    return found._replace(evidence=f"{found.evidence}; {words}")


def judge_bypass(case: Case) -> Finding:
    value = case.value()
    parts = [part.strip() for part in str(value or "").split(",") if part.strip().lower() not in ("", "none")]
    words = "not set (default: AzureServices)" if value is None else f"{case.path} is {shown(value)}"
    if "azureservices" in map(str.lower, parts):
        return Finding(PASS, words)
    add = change(case.source, {case.path: ", ".join([*parts, "AzureServices"])})
    return Finding(UNSET if value is None else FAIL, words, (add,))


def judge_ip_rules(case: Case) -> Finding:
    return worst([judge_ip_kind(case, kind, length) for kind, length in TOO_WIDE.items()])


def judge_ip_kind(case: Case, kind: str, length: int) -> Finding:
    rules = {str(rule.get("value")): rule for rule in dicts(case.value("networkAcls." + kind))}
    widths = {value: prefix_length(value) for value in rules}
    wide = [value for value, width in widths.items() if width is not None and width <= length]
    unread = [value for value, width in widths.items() if width is None]
    if wide:
        rest = [rule for value, rule in rules.items() if value not in wide]
        remove: Action = Delegate("account-network-rule-remove", {"ip_rules": ",".join(wide)})
        if kind != "ipRules":
            remove = change("account", {"networkAcls." + kind: rest})
        return Finding(FAIL, f"too wide: {few_of(wide)}", (remove,))
    if unread:
        return Finding(UNKNOWN, f"not an address or a network: {few_of(unread)}")
    return Finding(PASS, f"{len(rules)} {kind}, none too wide" if rules else f"no {kind}")


def prefix_length(text: str) -> int | None:
    """How many leading bits a rule fixes; None if it is no address or network."""
    try:
        return ipaddress.ip_network(text.strip(), strict=False).prefixlen
    except ValueError:
        return None


def judge_instances(case: Case) -> Finding:
    rules = dicts(case.value("networkAcls.resourceAccessRules"))
    found = [(judge_instance(case, rule), str(rule.get("resourceId"))) for rule in rules]
    total = worst([finding for finding, _ in found] or [Finding(PASS, "no resource instance rules")])
    bad = [target for finding, target in found if finding.result == total.result]
    return total.fixed_by(Delegate("account-network-rule-remove", {"resource_ids": json.dumps(bad)}))


def judge_instance(case: Case, rule: Json) -> Finding:
    """Azure takes instances of the account's own tenant only, so the signs are wildcards and other subscriptions."""
    target, tenant = str(rule.get("resourceId") or ""), str(rule.get("tenantId") or "").lower()
    own = str(case.account.get("tenantId") or case.options.tenant_id).lower()
    if own and tenant and tenant != own:
        return Finding(FAIL, f"resource instance of tenant {tenant}")
    if DEFENDER_SCANNER.fullmatch(target):
        return Finding(PASS, "malware scanner of Defender for Storage")
    if "*" in target:
        return Finding(FAIL, f"wildcard in resource instance {target}")
    if not tenant:
        return Finding(UNSET, f"tenant not set for resource instance {target}")
    if not own:
        return Finding(UNKNOWN, "the tenant of the account is not known")
    return judge_owner(case, target, "resource instance in")


def judge_endpoints(case: Case) -> Finding:
    if case.value() is None:
        return Finding(UNSET, "not set (no private endpoints)", (CREATE_ENDPOINT,))
    rows = dicts(case.value())
    found = [judge_endpoint(case, row) for row in rows]
    if not any(endpoint_state(row) == "approved" for row in rows):
        found.append(Finding(FAIL, "no approved private endpoint", (CREATE_ENDPOINT,)))
    return worst(found)


def endpoint_state(connection: Json) -> str:
    return str(at_path(connection, "properties.privateLinkServiceConnectionState.status") or "").lower()


def judge_endpoint(case: Case, connection: Json) -> Finding:
    """One private endpoint connection: rejected ones are harmless, pending ones wait for approval."""
    name, state = str(connection.get("name")), endpoint_state(connection)
    rejected = {"privateLinkServiceConnectionState": {"status": "Rejected", "description": "Not expected"}}
    reject = one_of("endpoints", name, "PUT", rejected)
    if state in ("rejected", "disconnected"):
        return Finding(PASS, f"{name} is {state}")
    if state != "approved":
        return Finding(FAIL if state else UNSET, f"{name} is {state or 'not set (state)'}", (reject,))
    target = str(at_path(connection, "properties.privateEndpoint.id") or "")
    return judge_owner(case, target, f"{name} leads to", reject)


def website(case: Case) -> list[Finding]:
    """A static website is public whatever the account and its containers say; only a closed network stops it."""
    enabled = at_path(case.facts.get("website"), "properties.staticWebsite.enabled") is True
    denied = is_closed(case.account) or at_path(case.account, "properties.networkAcls.defaultAction") == "Deny"
    words = "the static website is enabled: its container $web is public whatever this setting says"
    return [Finding(FAIL, words, (WEBSITE_OFF,))] if enabled and not denied else []


def judge_anonymous(case: Case) -> Finding:
    rows = case.listed("containers")
    public = [row for row in rows or [] if is_public(row)]
    seen = "the containers were not read" if rows is None else f"{len(public)} of {len(rows)} containers are public"
    unset = f"the effect depends on the age of the account; {seen}"
    return worst([value_is(False, unset)(case), *website(case)])


def is_public(container: Json) -> bool:
    return str(at_path(container, "properties.publicAccess") or "None").lower() != "none"


def judge_containers(case: Case) -> Finding:
    rows = [row for row in case.rows() if not at_path(row, "properties.deleted")]
    public = [str(row.get("name")) for row in rows if is_public(row)]
    unset = [str(row.get("name")) for row in rows if at_path(row, "properties.publicAccess") is None]
    close = tuple(
        Delegate("blob-containers-update", {"container_name": name, "public_access": "None"})
        for name in public or unset
    )
    found = Finding(PASS, f"none of {len(rows)} containers is public")
    if public:
        refused = at_path(case.account, "properties.allowBlobPublicAccess") is False
        note = "; currently overridden by the account, which refuses anonymous access" if refused else ""
        found = Finding(FAIL, f"{len(public)} of {len(rows)} containers: {few_of(public)}{note}", close)
    elif unset:
        found = Finding(UNSET, f"not set for {len(unset)} of {len(rows)} containers: {few_of(unset)}", close)
    return worst([found, *website(case)])


def judge_website(case: Case) -> Finding:
    """Older API versions do not return it; a site cannot serve anything without its container, though."""
    rows = case.listed("containers")
    none = rows is not None and not any(row.get("name") == "$web" for row in rows)
    words = "there is no container $web" if none else "the container $web was found or not looked for"
    return value_is(False, words, safe=none)(case)


def judge_restore(case: Case) -> Finding:
    """Point-in-time restore needs all of versioning, the change feed and soft delete, and no permanent deletion."""
    policy = "deleteRetentionPolicy"
    on = ("isVersioningEnabled", "changeFeed.enabled", policy + ".enabled", "restorePolicy.enabled")
    days = {policy + ".days": days_kept(case, policy), "restorePolicy.days": 6}
    wanted = {**dict.fromkeys(on, True), **days, policy + ".allowPermanentDelete": False}
    return IS_ON(case).fixed_by(change(case.source, wanted))


def judge_cors(case: Case) -> Finding:
    rules = dicts(case.value())
    any_origin = [
        rule for rule in rules if isinstance(rule.get("allowedOrigins"), list) and "*" in rule["allowedOrigins"]
    ]
    if not any_origin:
        return Finding(PASS, f"{len(rules)} CORS rules, none for any origin" if rules else "no CORS rules")
    rest = change(case.source, {case.path: [rule for rule in rules if rule not in any_origin]})
    return Finding(FAIL, f"{len(any_origin)} of {len(rules)} CORS rules allow any origin", (rest,))


# Judges: keys, identities and encryption

# Since then Azure creates accounts with it off: https://learn.microsoft.com/azure/storage/blobs/object-replication-prevent-cross-tenant-policies
CROSS_TENANT_SAFE_SINCE = datetime(2023, 12, 15, tzinfo=timezone.utc).timestamp()
KEYS_OF_SERVICES = "allowSharedKeyAccessForServices"
SERVICE_KEYS = tuple(f"{KEYS_OF_SERVICES}.{name}.enabled" for name in ("blob", "file", "table", "queue"))
SAS_PERIOD = re.compile(r"\d{1,5}\.\d\d:\d\d:\d\d")
GEO_SKUS = {"Standard_LRS": "Standard_GRS", "StandardV2_LRS": "StandardV2_GRS", "StandardV2_ZRS": "StandardV2_GZRS"}


def judge_service_keys(case: Case) -> Finding:
    """Each service follows the account's switch until it is set by itself."""
    refused = case.value("allowSharedKeyAccess") is False
    words = "default: as the account, which refuses it" if refused else "default: as the account, which allows it"
    return worst([value_is(False, words, safe=refused, path=path)(case) for path in SERVICE_KEYS])


def judge_cross_tenant_replication(case: Case) -> Finding:
    """Azure refuses to turn it off while a policy crosses tenants, so that such policies have to go first."""
    created = moment(case.value("creationTime"))
    safe = created is not None and created > CROSS_TENANT_SAFE_SINCE
    unset = "default: off" if safe else "default for accounts made before 15 December 2023: on"
    found = value_is(False, unset, safe=safe)(case)
    policies = [(str(row.get("name")), judge_policy(case, row)) for row in case.listed("replication") or []]
    others = few_of(name for name, policy in policies if policy.result != PASS)
    words = "Delete the object replication policies with other tenants first (check known-replication), one of: "
    return found.fixed_by(*[Decide(f"{words}{others}.")] * bool(others), *found.actions)


def judge_reminder(case: Case) -> Finding:
    """Azure takes no reminder before each key was rotated once, which is what gives it a time.

    https://learn.microsoft.com/azure/storage/common/storage-account-keys-manage
    """
    limit = case.options.max_key_age_days
    never = [name for name, made in key_times(case).items() if made is None]
    rotate = Decide(f"Rotate {' and '.join(never)} first: Azure sets no reminder before each key was rotated once.")
    found = days_within(case, 1, limit, "no reminder", case.path)
    return found.fixed_by(*[rotate] * bool(never), change(case.source, {case.path: limit}))


def key_times(case: Case) -> dict[str, float | None]:
    return {name: moment(case.value(f"keyCreationTime.{name}")) for name in ("key1", "key2")}


def judge_key_age(case: Case) -> Finding:
    times = key_times(case)
    ages = {name: int((case.options.now - made) // 86_400) for name, made in times.items() if made is not None}
    words = [f"{name} is {age} days old" for name, age in ages.items()]
    unset = [name for name in times if name not in ages]
    if unset:
        words.append(f"creation time not set for {few_of(unset)} (not rotated for years)")
    old = [name for name, age in ages.items() if age > case.options.max_key_age_days]
    due = [*unset, *old]
    rotate = Delegate("account-key-rotate", {"key": "both" if len(due) == 2 else "".join(due)})
    result = FAIL if old else UNSET if unset else PASS
    return Finding(result, "; ".join(words)).fixed_by(rotate)


def judge_sas_period(case: Case) -> Finding:
    value = case.value("sasPolicy.sasExpirationPeriod")
    if value is None:
        return Finding(UNSET, "sasExpirationPeriod is not set (default: no limit)")
    return Finding(PASS if SAS_PERIOD.fullmatch(str(value)) else FAIL, f"sasExpirationPeriod is {shown(value)}")


def blocks_sas(*judges: Judge, **settings: bool | str) -> Judge:
    """A SAS policy that blocks; the action keeps the period that is set, and Azure wants one."""
    judge = all_of(*judges)

    def policy(case: Case) -> Finding:
        period = str(case.value("sasPolicy.sasExpirationPeriod"))
        wanted = {"sasExpirationPeriod": period if SAS_PERIOD.fullmatch(period) else "7.00:00:00", **settings}
        values = {"sasPolicy." + name: value for name, value in {**wanted, "expirationAction": "Block"}.items()}
        return judge(case).fixed_by(change(case.source, values))

    return policy


def judge_local_users(case: Case) -> Finding:
    """Not set means enabled, which matters where there is a local user."""
    found = value_is(False, "default: enabled", path="isLocalUserEnabled")(case)
    data = source_data(case.facts, "local_users")
    if found.result != UNSET or data is None:
        return found
    if isinstance(data, Exception):
        return failed_read(data, "local_users")
    users = [str(user.get("name")) for user in listed_items(data)]
    words = f"local users: {few_of(users)}" if users else "there are no local users"
    return Finding(FAIL if users else PASS, f"isLocalUserEnabled is not set (default: enabled); {words}")


def vault_host(text: object) -> str:
    return re.sub(r"^https?://", "", str(text or "").strip().lower()).split("/")[0].split(":")[0]


def judge_vault(case: Case, address: object, words: str, *actions: Action) -> Finding:
    """Whether a key vault, by its address, is one of those expected, which may be plain names."""
    host, expected = vault_host(address), [vault_host(item) for item in case.options.key_vaults]
    words = f"{words} key vault {host or 'unknown'}"
    if host and (host in expected or host.split(".")[0] in expected):
        return Finding(PASS, words)
    if expected:
        return Finding(FAIL, words + ", not one of key_vaults: it may belong to an attacker", actions)
    return Finding(UNKNOWN, words + "; list your key vaults in key_vaults")


def judge_keys_source(case: Case) -> Finding:
    source, expected = case.value("encryption.keySource"), few_of(case.options.key_vaults)
    if str(source or "Microsoft.Storage").lower() != "microsoft.storage":
        back = change(case.source, {"encryption.keySource": "Microsoft.Storage", "encryption.keyvaultproperties": None})
        return judge_vault(case, case.value("encryption.keyvaultproperties.keyvaulturi"), "keys in", back)
    words = "Microsoft-managed keys" if source else "encryption.keySource is not set (default: Microsoft-managed keys)"
    if not expected:
        return Finding(PASS, words)
    choose = Decide(f"Choose a key in {expected}, give the account's identity access to it, and set it.")
    return Finding(FAIL if source else UNSET, f"{words}; expected a key in {expected}", (choose,))


def judge_scope(case: Case, scope: Json) -> Finding:
    """One encryption scope: whose key it encrypts with."""
    name, source = str(scope.get("name")), at_path(scope, "properties.source")
    disable = one_of("scopes", name, "PATCH", {"state": "Disabled"})
    if str(at_path(scope, "properties.state")).lower() == "disabled":
        return Finding(PASS, f"{name} is disabled")
    if source is None:
        return Finding(UNSET, f"{name}: source of its key not set", (disable,))
    if str(source).lower() == "microsoft.storage":
        return Finding(PASS, f"{name} uses Microsoft-managed keys")
    return judge_vault(case, at_path(scope, "properties.keyVaultProperties.keyUri"), f"{name} uses", disable)


def judge_geo(case: Case) -> Finding:
    sku = at_path(case.data, "sku.name")
    if str(sku).upper().endswith(("GRS", "GZRS")):
        return Finding(PASS, f"sku.name is {sku}")
    wanted = GEO_SKUS.get(str(sku))
    action: Action = change(case.source, {})._replace(body={"sku": {"name": wanted}}) if wanted else OTHER_SKU
    return Finding(FAIL if sku else UNSET, f"sku.name is {sku}" if sku else "not set (sku.name)", (action,))


# Judges: locks, replication, monitoring and recovery

AUDIT_GROUP, EVERY_LOG = "audit", {"categoryGroup": "allLogs", "enabled": True}
LOG_SINKS = ("workspaceId", "storageAccountId", "eventHubAuthorizationRuleId", "marketplacePartnerId")


def judge_lock(levels: tuple[str, ...], words: str) -> Judge:
    """Passes when a lock of one of the levels is on the account or above it."""

    def judge(case: Case) -> Finding:
        locks = [lock for lock in case.rows() if covers(lock, str(case.account.get("id") or ""))]
        levels_of = [(str(lock.get("name")), at_path(lock, "properties.level")) for lock in locks]
        held = [f"{name} ({level})" for name, level in levels_of if level in levels]
        unset = [name for name, level in levels_of if level is None]
        if held:
            return Finding(PASS, f"locked by {few_of(held)}")
        return Finding(UNSET, f"level not set for {few_of(unset)}") if unset else Finding(FAIL, words)

    return judge


def covers(lock: Json, account_id: str) -> bool:
    """Whether a lock is on the account or above it, and not only on something in it."""
    scope, found, _ = str(lock.get("id") or "").lower().rpartition("/providers/microsoft.authorization/locks/")
    return not found or f"{account_id.lower()}/".startswith(f"{scope}/")


def judge_holds(case: Case) -> Finding:
    wanted = {name.lower() for name in case.options.evidence_containers}
    rows = [row for row in case.rows() if str(row.get("name")).lower() in wanted]
    if not rows:
        words = "no evidence container in this account" if wanted else "no evidence_containers were given"
        return Finding(NOT_APPLICABLE, words)
    return worst([judge_hold(case, row) for row in rows])


def judge_hold(case: Case, container: Json) -> Finding:
    """One container of evidence: a legal hold or a locked policy keeps it, which accounts with SFTP or NFS 3.0 cannot have."""
    name, hold = str(container.get("name")), at_path(container, "properties.hasLegalHold")
    state = str(at_path(container, "properties.immutabilityPolicy.properties.state") or "")
    add: Action = Delegate("container-legal-hold-set", {"container_name": name, "tags": "evidence"})
    if True in (at_path(case.account, f"properties.{flag}") for flag in ("isSftpEnabled", "isNfsV3Enabled")):
        add = MOVE_EVIDENCE
    if hold is True or state.lower() == "locked":
        return Finding(PASS, f"{name} is held")
    if state:
        return Finding(FAIL, f"{name}: the immutability policy is not locked", (add,))
    if at_path(container, "properties.hasImmutabilityPolicy") is True:
        line = command_line("container-immutability-get", {"container_name": name})
        return Finding(
            UNKNOWN, f"{name} has an immutability policy, of which the list doesn't tell the state: see {line}"
        )
    words = f"{name}: legal hold not set" if hold is None else f"{name} has no legal hold"
    return Finding(UNSET if hold is None else FAIL, words, (add,))


def judge_policy(case: Case, policy: Json) -> Finding:
    """One replication policy: where it sends the blobs."""
    name = str(at_path(policy, "properties.policyId") or policy.get("name"))
    target = at_path(policy, "properties.destinationAccount")
    delete = one_of("replication", name, "DELETE", {})
    if target is None:
        return Finding(UNSET, f"policy {name}: destination not set", (delete,))
    if str(target).lower() in (str(case.account.get("id")).lower(), str(case.account.get("name")).lower()):
        return Finding(PASS, f"policy {name} copies into this account")
    return judge_owner(case, str(target), f"policy {name} copies to", delete)


def judge_defender(case: Case) -> Finding:
    """Only blobs are scanned when they arrive. The action keeps the monthly limit of the scans, which cost by the GB."""
    scan = "malwareScanning.onUpload."
    on: Json = {"isEnabled": True, "overrideSubscriptionLevelSettings": True}
    found = [IS_ON(case)]
    if case.account.get("kind") not in NO_BLOBS.values:
        found.append(value_is(True, "default: off", path=scan + "isEnabled")(case))
        on |= {scan + "isEnabled": True, scan + "capGBPerMonth": case.value(scan + "capGBPerMonth") or 10_000}
    return worst(found).fixed_by(change(case.source, on))


def judge_logs(case: Case) -> Finding:
    settings = [row for row in map(sink_of, case.rows()) if row]
    logs = [log for row in settings for log in dicts(row.get("logs")) if log.get("enabled") is True]
    on = [str(log.get("category") or log.get("categoryGroup")) for log in logs]
    lacking = not_logged(on)
    if not lacking:
        nfs = at_path(case.account, "properties.isNfsV3Enabled") is True and case.source == "logs"
        note = "; Azure does not log NFS 3.0 requests" if nfs else ""
        return Finding(PASS, "read, write and delete requests are logged" + note)
    action = enable_logs(case)
    if AUDIT_GROUP in map(str.lower, on):
        return Finding(
            UNKNOWN, "audit is enabled, which is not documented to hold reads, writes and deletes", (action,)
        )
    if settings and all(row.get("logs") is None for row in settings):
        return Finding(UNSET, "logs not set (default: off)", (action,))
    return Finding(FAIL, f"not logged: {few_of(lacking)}", (action,))


def sink_of(setting: Json) -> Json:
    """The properties of a diagnostic setting that sends its logs somewhere; else nothing."""
    found = setting.get("properties")
    return found if isinstance(found, dict) and any(found.get(name) for name in LOG_SINKS) else {}


def enable_logs(case: Case) -> Action:
    """Logs everything in the setting that the service has, or in a new one to where another service of the account logs."""
    others = (row for name in LOG_SOURCES for row in case.listed(name) or [])
    model = next(filter(sink_of, [*case.rows(), *others]), None)
    if model is None:
        return CHOOSE_LOG_SINK
    name = model.get("name") if model in case.rows() else "cortex-xsoar"
    return one_of(case.source, name, "PUT", {**sink_of(model), "logs": [EVERY_LOG]})


def judge_sharing(case: Case) -> Finding:
    """The switches, and what exists; a switch that is not set is good only where all lists were read and are empty."""
    lists = [judge_shared_list(case, source) for source in SHARING_SOURCES if case.facts.get(source) is not None]
    none = len(lists) == len(SHARING_SOURCES) and all(found.result == PASS for found in lists)
    words = "nothing is shared" if none else "default not documented"
    state = [value_is(False, words, safe=none, path=path)(case) for path in SHARING_SWITCHES]
    found = worst([*lists, *state])
    return found._replace(evidence=found.evidence.replace(SHARING + ".", ""))


def judge_shared_list(case: Case, source: str) -> Finding:
    """What is there of one way to share."""
    data, words = source_data(case.facts, source), source.replace("_", " ")
    if isinstance(data, Exception):
        return failed_read(data, source)
    names = [str(item.get("name")) for item in listed_items(data)]
    delete = tuple(one_of(source, name, "DELETE", {}) for name in names)
    return Finding(FAIL, f"{words}: {few_of(names)}", delete) if names else Finding(PASS, f"no {words}")


def judge_lifecycle(case: Case) -> Finding:
    """A rule that deletes all blobs after a day is how data is destroyed without a single delete request."""
    rules = dicts(case.value())
    early = {str(rule.get("name")): days for rule in rules if (days := first_deletion(rule)) < EARLY_DAYS}
    if not early:
        return Finding(PASS, f"{len(rules)} rules, none deletes early" if rules else "no lifecycle rules")
    kept = [{**rule, "enabled": str(rule.get("name")) not in early and rule.get("enabled", True)} for rule in rules]
    disable = change(case.source, {case.path: kept})
    return Finding(FAIL, few_of(f"{name} deletes after {days:g} days" for name, days in early.items()), (disable,))


def first_deletion(rule: Json) -> float:
    """After how many days a lifecycle rule deletes at the earliest; infinity if it is off or deletes nothing."""
    days = deletes_after(rule)
    return math.inf if days is None or rule.get("enabled") is False else days


def judge_task(case: Case, assignment: Json) -> Finding:
    """One storage task that works on the account's blobs, and may delete them."""
    name, task = str(assignment.get("name")), str(at_path(assignment, "properties.taskId") or "")
    disable = one_of("storage_tasks", name, "PATCH", {"enabled": False})
    if at_path(assignment, "properties.enabled") is False:
        return Finding(PASS, f"{name} is disabled")
    return judge_owner(case, task, f"{name} runs a task in", disable)


# The checks. CIS ids are those of the CIS Microsoft Azure Foundations Benchmark 6.0.0.

# fmt: off
CHECKS: tuple[Check, ...] = (
    Check(1, "https-only", "Secure transfer required", "High", "9.3.4", "supportsHttpsTrafficOnly", value_is(True, "default for old accounts: off")),
    Check(2, "minimum-tls", "Minimum TLS version is 1.2", "Medium", "9.3.6", "minimumTlsVersion", value_is(("TLS1_2", "TLS1_3"), "default: TLS 1.0; compliance only, since Blob Storage refuses TLS 1.0 and 1.1", note=" (compliance only: Blob Storage refuses TLS 1.0 and 1.1)")),
    Check(3, "no-anonymous-blobs", "Anonymous access to blobs is disabled", "High", "9.3.8", "allowBlobPublicAccess", judge_anonymous, exempt=(NO_BLOBS,), also=("containers", "website")),
    Check(4, "no-shared-key", "Shared Key access is disabled", "High", "9.3.1.3", "allowSharedKeyAccess", value_is(False, "default: allowed")),
    Check(5, "no-shared-key-per-service", "Shared Key access is disabled for each service", "Medium", "", "allowSharedKeyAccessForServices.{blob,file,table,queue}.enabled", judge_service_keys, newest=KEYS_OF_SERVICES),
    Check(6, "no-public-network", "Public network access is disabled", "High", "9.3.2.2", "publicNetworkAccess", judge_public_network),
    Check(7, "default-deny", "Default network action is Deny", "High", "9.3.2.3", "networkAcls.defaultAction", judge_default_action),
    Check(8, "trusted-services", "Trusted Azure services can access the account", "Medium", "9.3.5", "networkAcls.bypass", judge_bypass),
    Check(9, "narrow-ip-rules", "IP rules do not allow wide networks", "High", "", "networkAcls.{ipRules,ipv6Rules}[].value", judge_ip_rules),
    Check(10, "own-resource-instances", "Resource instance rules name own resources", "High", "", "networkAcls.resourceAccessRules[]", judge_instances),
    Check(11, "private-endpoints", "Private endpoints are used and all are known", "Medium", "9.3.2.1", "privateEndpointConnections", judge_endpoints),
    Check(12, "no-cross-tenant-replication", "Cross-tenant replication is disabled", "High", "9.3.7", "allowCrossTenantReplication", judge_cross_tenant_replication, exempt=(NO_BLOBS,), also=("replication",)),
    Check(13, "no-cross-tenant-delegation-sas", "Cross-tenant user delegation SAS is disabled", "Medium", "", "allowCrossTenantDelegationSas", IS_OFF, newest="allowCrossTenantDelegationSas"),
    Check(14, "entra-default", "Microsoft Entra authorization is the default in the Azure portal", "Medium", "9.3.3.1", "defaultToOAuthAuthentication", IS_ON),
    Check(15, "key-reminder", "Key rotation reminders are enabled", "Medium", "9.3.1.1", "keyPolicy.keyExpirationPeriodInDays", judge_reminder, exempt=(KEYS_REFUSED,)),
    Check(16, "young-keys", "Access keys are rotated periodically", "Medium", "9.3.1.2", "keyCreationTime.{key1,key2}", judge_key_age, exempt=(KEYS_REFUSED,)),
    Check(17, "sas-lifetime", "SAS expiration policy blocks long-lived SAS", "High", "", "sasPolicy.{sasExpirationPeriod,expirationAction}", blocks_sas(judge_sas_period, value_is("Block", "default: only logged", path="sasPolicy.expirationAction"))),
    Check(18, "user-bound-delegation-sas", "User delegation SAS is bound to a user", "Low", "", "sasPolicy.requireUserBoundUserDelegationSas(+Action)", blocks_sas(value_is(True, "default: off", path="sasPolicy.requireUserBoundUserDelegationSas"), value_is("Block", "default: not blocked", path="sasPolicy.requireUserBoundUserDelegationSasAction"), requireUserBoundUserDelegationSas=True, requireUserBoundUserDelegationSasAction="Block"), newest="sasPolicy.requireUserBoundUserDelegationSas"),
    Check(19, "copy-scope", "Permitted scope for copy operations is restricted", "Medium", "", "allowedCopyScope", value_is(("AAD", "PrivateLink"), "default: from any storage account")),
    Check(20, "no-sftp", "SFTP and local users are disabled", "High", "", "isSftpEnabled, isLocalUserEnabled", all_of(value_is(False, "default: off", safe=True, path="isSftpEnabled"), judge_local_users), also=("local_users",), action=change("account", {"isSftpEnabled": False, "isLocalUserEnabled": False})),
    Check(21, "no-nfs", "NFS 3.0 is disabled", "Medium", "", "isNfsV3Enabled", IS_OFF, action=CREATE_ANEW),
    Check(22, "infrastructure-encryption", "Infrastructure encryption is enabled", "Low", "", "encryption.requireInfrastructureEncryption", IS_ON, exempt=(OLD_KINDS,), action=CREATE_ANEW),
    Check(23, "expected-encryption-keys", "Encryption key is in an expected place", "High", "", "encryption.{keySource,keyvaultproperties}", judge_keys_source),
    Check(24, "geo-redundancy", "Geo-redundant storage is enabled", "Low", "9.3.11", "sku.name", judge_geo, exempt=(PREMIUM,)),
    Check(25, "delete-lock", "CanNotDelete or ReadOnly lock is set", "Medium", "9.3.9", "Microsoft.Authorization/locks[].properties.level", judge_lock(("CanNotDelete", "ReadOnly"), "no lock on the account or above it"), "locks", action=Delegate("account-lock-set", {"level": "CanNotDelete"})),
    Check(26, "read-only-lock", "ReadOnly lock is set", "Low", "9.3.10", "Microsoft.Authorization/locks[].properties.level", judge_lock(("ReadOnly",), "no ReadOnly lock (it blocks listing and rotating keys, and every change to the account)"), "locks", action=Delegate("account-lock-set", {"level": "ReadOnly"})),
    Check(27, "blob-soft-delete", "Blob soft delete is enabled for at least 7 days", "High", "9.2.1", "deleteRetentionPolicy.{enabled,days,allowPermanentDelete}", keeps_deleted("deleteRetentionPolicy", 7, value_is(False, "default: off", safe=True, path="deleteRetentionPolicy.allowPermanentDelete")), "service"),
    Check(28, "container-soft-delete", "Container soft delete is enabled for at least 7 days", "High", "9.2.2", "containerDeleteRetentionPolicy.{enabled,days}", keeps_deleted("containerDeleteRetentionPolicy", 7), "service"),
    Check(29, "versioning", "Blob versioning is enabled", "Medium", "9.2.3", "isVersioningEnabled", IS_ON, "service", exempt=(GENERAL_V1, HIERARCHICAL)),
    Check(30, "change-feed", "Blob change feed is enabled", "Medium", "", "changeFeed.enabled", IS_ON, "service", exempt=(GENERAL_V1, HIERARCHICAL)),
    Check(31, "point-in-time-restore", "Point-in-time restore is enabled", "Medium", "", "restorePolicy.enabled", judge_restore, "service", exempt=(ONLY_V2, HIERARCHICAL, PREMIUM)),
    Check(32, "no-static-website", "Static website is disabled", "Medium", "", "staticWebsite.enabled", judge_website, "website", exempt=(OLD_KINDS,), also=("containers",)),
    Check(33, "no-wildcard-cors", "CORS rules do not allow any origin", "Medium", "", "cors.corsRules", judge_cors, "service"),
    Check(34, "no-public-containers", "No container allows anonymous access", "High", "", "containers[].properties.publicAccess", judge_containers, "containers", also=("website",)),
    Check(35, "evidence-held", "Evidence and backup containers have a legal hold or a locked immutability policy", "Medium", "", "containers[].properties.{hasLegalHold,hasImmutabilityPolicy,immutabilityPolicy}", judge_holds, "containers"),
    Check(36, "known-replication", "Object replication goes to own accounts only", "High", "", "objectReplicationPolicies[].properties.destinationAccount", each(judge_policy, "no object replication policies"), "replication"),
    Check(37, "known-encryption-scopes", "Encryption scopes use expected keys", "Medium", "", "encryptionScopes[].properties.{source,keyVaultProperties}", each(judge_scope, "no encryption scopes"), "scopes"),
    Check(38, "defender", "Microsoft Defender for Storage with malware scanning is enabled", "Medium", "sec. 8", "isEnabled", judge_defender, "defender"),
    Check(39, "data-logs", "Diagnostic logging is enabled for the blob service", "Medium", "sec. 6", "diagnosticSettings[].properties.logs", judge_logs, "logs"),
    Check(40, "file-shares", "File share soft delete is enabled; SMB is limited to 3.1.1 with AES-256-GCM", "Medium", "9.1.1-9.1.3", "shareDeleteRetentionPolicy, protocolSettings.smb.{versions,channelEncryption}", keeps_deleted("shareDeleteRetentionPolicy", 1, *(value_is(value, "default: all versions and ciphers", path=path) for path, value in SMB.items())), "files", exempt=(NO_FILES,)),
    Check(41, "no-data-sharing", "Storage connectors, access points and data shares are disabled", "High", "", "dataCollaborationPolicyProperties, connectors, dataShares, blobAccessPointConfigurations", judge_sharing, also=SHARING_SOURCES, newest=SHARING),
    Check(42, "no-early-deletion", "Lifecycle rules do not delete data within 7 days", "High", "", "policy.rules", judge_lifecycle, "lifecycle"),
    Check(43, "queue-logs", "Diagnostic logging is enabled for the queue service", "Low", "", "diagnosticSettings[].properties.logs", judge_logs, "queue_logs", exempt=(NO_QUEUES, PREMIUM), also=LOG_SOURCES),
    Check(44, "table-logs", "Diagnostic logging is enabled for the table service", "Low", "", "diagnosticSettings[].properties.logs", judge_logs, "table_logs", exempt=(NO_QUEUES, PREMIUM), also=LOG_SOURCES),
    Check(45, "file-logs", "Diagnostic logging is enabled for the file service", "Low", "", "diagnosticSettings[].properties.logs", judge_logs, "file_logs", exempt=(NO_FILES,), also=LOG_SOURCES),
    Check(46, "known-storage-tasks", "Storage tasks are in own subscriptions", "High", "", "storageTaskAssignments[].properties.taskId", each(judge_task, "no storage task assignments"), "storage_tasks"),
)
# fmt: on


# The evaluator


def failed_read(error: Exception, source: str) -> Finding:
    """Unknown, with the service's code; for a refusal also the permission that is missing."""
    if not isinstance(error, ServiceError):
        words = error.message if isinstance(error, AzureStorageError) else type(error).__name__
        return Finding(UNKNOWN, f"could not be read: {words}")
    words = f"could not be read: {error.status} {error.code}".rstrip()
    if error.status not in (401, 403):
        return Finding(UNKNOWN, words)
    permission = SOURCES[source].permission
    grant = f"Assign a role with {permission}, such as Reader, to the signed-in identity."
    return Finding(UNKNOWN, f"{words}; requires {permission}", (Decide(grant),))


def judged(check: Check, account: Json, facts: Facts, options: PostureOptions) -> Finding | None:
    """The finding of one check; None when its source was not read."""
    newest = facts.get("account")
    whole = {**account, **newest} if isinstance(newest, dict) else account
    told = check.source == "account" and (newest is None or "properties" in whole)
    data = whole if told else source_data(facts, check.source)
    if data is None:
        return None
    for rule in (*[NO_BLOBS] * (check.source in BLOB_SOURCES), *check.exempt):
        if at_path(whole, rule.path) in rule.values:
            return Finding(NOT_APPLICABLE, rule.words)
    if isinstance(data, ServiceError) and is_missing(data) and check.source != "account":
        return Finding(NOT_APPLICABLE, f"not supported by this account: {data.status} {data.code}".rstrip())
    if isinstance(data, Exception):
        return failed_read(data, check.source)
    case = Case(whole, data, facts, options, check.property, check.source)
    if check.newest and not isinstance(newest, dict) and case.value(check.newest) is None:
        if isinstance(newest, Exception):
            return failed_read(newest, check.source)
        return Finding(UNKNOWN, "not returned by Resource Graph; set deep=true to read it")
    return check.judge(case)


def assess(account: Json, facts: Facts, options: PostureOptions, checks: tuple[Check, ...] = CHECKS) -> list[Json]:
    """One row for each check that can be made of an account, by number.

    account: as Resource Graph has it; facts: by name of a deep source its JSON (for a collection its list of items) or
    the error that came instead. A source that is missing leaves its checks out. facts["account"] holds the account as
    NEWEST_STORAGE_API returns it, or the error that came instead, for which the id and name are enough.
    """
    findings = ((check, judged(check, account, facts, options)) for check in checks)
    return [posture_row(check, finding, account) for check, finding in findings if finding is not None]


FIX_COMMANDS = dict.fromkeys(TO_FIX, "!azure-storage-posture-fix account_name={} check={}")
FIX_COMMANDS[UNKNOWN] = "!azure-storage-account-posture account_name={} checks={}"


def posture_row(check: Check, finding: Finding, account: Json) -> Json:
    account_id, name = str(account.get("id") or ""), resource_id(account).account
    return {
        "id": f"{account_id}#{check.name}",
        "accountId": account_id,
        "check": check.name,
        "account": name,
        **{name: getattr(check, name) for name in ("number", "title", "severity", "cis")},
        "result": finding.result,
        "evidence": finding.evidence,
        "fix": FIX_COMMANDS.get(finding.result, "").format(war_room_quote(name), check.name),
    }


def posture_fix_steps(check: Check, finding: Finding) -> tuple[Action, ...]:
    """What the finding needs, in order: requests below the account, commands, and decisions."""
    if finding.result not in TO_SEE:
        return ()
    found = (check.action,) if check.action and finding.result in TO_FIX else finding.actions
    return found or (Decide(f"Check by hand: {finding.evidence}."),)


def posture_counts(account: Json, rows: list[Json]) -> Json:
    """How many checks of an account failed, are unset or unknown, by severity, and how many passed or do not apply."""
    parts, account_id = resource_id(account), str(account.get("id") or "")
    counts = Counter(row["result"] + (row["severity"] if row["result"] in TO_SEE else "") for row in rows)
    return {
        "id": account_id,
        "account": parts.account,
        "accountId": account_id,
        "subscriptionId": parts.subscription,
        "subscriptionName": account.get("subscriptionName"),
        "resourceGroup": parts.group,
        **{name: counts[name] for name in POSTURE_COUNTS},
        "pass": counts[PASS],
        "notApplicable": counts[NOT_APPLICABLE],
    }


# The command

DEEP_ACCOUNTS = 50  # up to so many accounts the deep checks are made without being asked for
DEEP_PARALLEL = 8
PROGRESS_STEP = 25  # accounts between two messages of progress
# How many reads in how many seconds one identity has in a subscription, and of its storage provider in a region of it.
# https://learn.microsoft.com/azure/azure-resource-manager/management/request-limits-and-throttling
ARM_READS, ARM_SECONDS = 250, 10
STORAGE_READS, STORAGE_SECONDS = 800, 300
DEEP_SECONDS = 240  # of deep checks of many accounts in one run: a server ends a command after five minutes
CONTEXT_ROWS, CONTEXT_ACCOUNTS = 5000, 1000
# Of an entry, in bytes of JSON: together they stay below 2 MB.
FINDINGS_SIZE, ACCOUNTS_SIZE = 1_200_000, 600_000
POSTURE_TITLE = "Azure Storage posture"
POSTURE_VIEW = View(
    "Posture",
    "Findings",
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
    POSTURE_TITLE,
    {
        "Account": "account",
        "Subscription": lambda row: row["subscriptionName"] or row["subscriptionId"],
        **{re.sub("([A-Z])", r", \1", name).capitalize(): name for name in POSTURE_COUNTS},
        "Pass": "pass",
        "Not applicable": "notApplicable",
    },
    key="accountId",
)
REPORT_TABLES = {"to be fixed": TO_SEE, "passed": (PASS,), "not applicable": (NOT_APPLICABLE,)}
REPORT_VIEW = POSTURE_VIEW._replace(
    columns={header: source for header, source in POSTURE_VIEW.columns.items() if header != "Account"}
)


def row_rank(row: Json) -> tuple[int, ...]:
    """Smaller is worse: what needs no action comes last, then by severity, then by result."""
    return row["result"] not in TO_SEE, SEVERITIES.index(row["severity"]), WORST_FIRST.index(row["result"])


def account_rank(counts: Json) -> tuple[int, ...]:
    return tuple(-counts[name] for name in POSTURE_COUNTS)


class PostureFile:
    """Every row in a file that is written while accounts are checked: CSV, or a page with the worst account first."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._file = Path(f"posture-{uuid.uuid4().hex}").open("w+", encoding="utf-8", errors="replace", newline="")  # noqa: SIM115 - lives until close()
        self._sections: list[tuple[tuple[int, ...], int, int]] = []  # rank, place and length

    def add(self, counts: Json, rows: list[Json]) -> None:
        if self.kind == "csv":
            head = [list(rows[0])] if rows and not self._file.tell() else []
            csv.writer(self._file).writerows([*head, *([guarded(value) for value in row.values()] for row in rows)])
            return
        bar = {name: sum(counts[result + name] for result in TO_SEE) for name in SEVERITIES} | {"Pass": counts["pass"]}
        rows = sorted(rows, key=row_rank)
        parts = [
            html_table(REPORT_VIEW, [row for row in rows if row["result"] in results], name, folded=results != TO_SEE)
            for name, results in REPORT_TABLES.items()
        ]
        text = html_section(counts["account"], *parts, bar=bar, opened=len(self._sections) < DEFAULT_LIMIT)
        self._sections.append((account_rank(counts), self._file.tell(), len(text)))
        self._file.write(text)

    def entry(self, facts: Mapping[str, object]) -> Json:
        """The file as an entry of the war room."""
        path = self._file.name
        if self.kind == "html":
            path += ".html"
            with Path(path).open("w", encoding="utf-8", errors="replace") as page:
                page.writelines(
                    html_report(POSTURE_TITLE, facts, map(self._section, sorted(self._sections)), SEVERITIES)
                )
        self._file.close()
        found: Json = file_result_existing_file(path, f"azure-storage-posture.{self.kind}")
        return found

    def _section(self, place: tuple[tuple[int, ...], int, int]) -> str:
        self._file.seek(place[1])
        return self._file.read(place[2])

    def close(self) -> None:
        """Leaves nothing behind, whatever happened."""
        self._file.close()
        Path(self._file.name).unlink(missing_ok=True)


class PostureResult:
    """What was found in the accounts so far, in memory that does not grow with their number."""

    def __init__(self, include_passed: bool, file: PostureFile | None) -> None:
        self.findings, self.accounts = Worst(row_rank, CONTEXT_ROWS), Worst(account_rank, CONTEXT_ACCOUNTS)
        self.totals = Counter[str]()
        self._include_passed, self._file = include_passed, file

    def add(self, account: Json, rows: list[Json]) -> None:
        counts = posture_counts(account, rows)
        self.accounts.add(counts)
        self.totals.update({name: counts[name] for name in (*POSTURE_COUNTS, "pass", "notApplicable")})
        for row in rows:
            if self._include_passed or row["result"] in TO_SEE:
                self.findings.add(row)
        if self._file:
            self._file.add(counts, rows)

    def entries(self, notes: list[str], about: Json) -> list[CommandResults | Json]:
        """Context for playbooks, cut where it gets large; for people the worst accounts and findings; the file."""
        rows, accounts = self.findings.rows(FINDINGS_SIZE), self.accounts.rows(ACCOUNTS_SIZE)
        if len(rows) < self.findings.count or len(accounts) < self.accounts.count:
            words = "Context was cut to {:,} of {:,} rows and {:,} of {:,} accounts. For all of them, set report=csv."
            notes.append(words.format(len(rows), self.findings.count, len(accounts), self.accounts.count))
        first, bad = accounts[:DEFAULT_LIMIT], [row for row in rows if row["result"] in TO_SEE][:DEFAULT_LIMIT]
        notes.append(f"Showing {len(first):,} of {self.accounts.count:,} accounts.")
        found = {name + " severity": sum(self.totals[result + name] for result in TO_SEE) for name in SEVERITIES}
        shown_of = f"Showing {len(bad):,} of {sum(found.values()):,} findings."
        text = table(POSTURE_SUMMARY_VIEW, first, note="\n".join(filter(None, notes)))
        text += table(POSTURE_VIEW, bad, note=shown_of)
        outputs = {POSTURE_VIEW.context: rows, POSTURE_SUMMARY_VIEW.context: accounts}
        result = CommandResults(outputs=outputs, readable_output=text, raw_response=dict(self.totals))
        facts = {**about, "Accounts": self.accounts.count, **found, "Passed": self.totals["pass"]}
        return [result, self._file.entry(facts)] if self._file else [result]


def read_check(text: str) -> Check:
    return next(check for check in CHECKS if text.lower() in (check.name, str(check.number)))


OneCheck = Annotated[Check, Reader("the name or number of a check, such as https-only", read_check)]
ManyChecks = Annotated[list[Check], listed(Reader("names or numbers of checks, such as https-only", read_check))]
OPTION_ARGUMENTS = {
    "key_vaults": optional(Texts),
    "own_subscriptions": optional(Annotated[list[str], listed(Reader("subscription ids", parse_subscription))]),
    "evidence_containers": optional(Texts),
    "max_key_age_days": optional(Annotated[int, number(1, 3650)], 90),
}


def build_options(azure: Azure, given: Given) -> PostureOptions:
    known = {name: given[name] for name in ("key_vaults", "evidence_containers", "max_key_age_days") if given[name]}
    return PostureOptions(Clock.now(), subscriptions=given["own_subscriptions"] or (), **known)


OptionsArgs = Annotated[PostureOptions, Group(OPTION_ARGUMENTS, build_options)]


@command(
    "azure-storage-account-posture",
    needs=(READ_ACCOUNT, *dict.fromkeys(source.permission for source in DEEP_SOURCES.values())),
    role="Reader",
    polling=Polling(STORAGE_SECONDS, 86_400, default=False),
)
def account_posture(
    azure: Azure,
    search: SearchArgs,
    options: OptionsArgs,
    deep: Flag | None = None,
    checks: ManyChecks | None = None,
    include_passed: Flag = False,
    report: Annotated[str, choice("csv", "html")] | None = None,
    start_after: Text | None = None,
) -> list[CommandResults | Json] | Later:
    """What the account objects tell comes from one query for all; the deep checks cost some requests for each account."""
    accounts = posture_accounts(azure, search, start_after)
    first = list(itertools.islice(accounts, DEEP_ACCOUNTS + 1))
    if not first:
        words = f"No storage account was found{' after that of start_after' if start_after else ''}."
        raise AzureStorageError(words, "run !azure-storage-account-find; the signed-in identity needs the role Reader.")
    many, lost = len(first) > DEEP_ACCOUNTS, set(search.names)
    chosen = tuple(check for check in CHECKS if not checks or check in checks)
    reading = DeepReading(azure, chosen if deep or (deep is None and not many) else (), 0 if many else len(first))
    if many and reading.names:
        return_results(forecast(azure, search, reading.names))
    file = PostureFile(report) if report else None
    result = PostureResult(include_passed, file)
    try:
        for account, facts in reading.facts(itertools.chain(first, accounts)):
            result.add(account, assess(account, facts, options, chosen))
            lost.discard(str(account.get("name")))
        missing = "" if start_after or reading.stopped else few_of(sorted(lost), DEFAULT_LIMIT)
        shallow = f"Account-level checks only ({result.accounts.count:,} accounts). Set deep=true for all checks."
        notes = [f"Not found: {missing}." if missing else "", "" if reading.names else shallow, reading.stopped]
        entries = result.entries(notes, posture_scope(azure, search))
    finally:
        if file:
            file.close()
    if not reading.stopped:
        return entries
    return_results(entries)
    again = {"account_name": ",".join(search.names), "start_after": reading.last}
    return Later(reading.stopped, {name: text for name, text in again.items() if text})


def posture_scope(azure: Azure, search: AccountSearch) -> Json:
    """What the report is about."""
    conditions = [line.removeprefix("| where ") for line in search.query.splitlines() if line.startswith("| where ")]
    scope = few_of(search.names) or " and ".join(conditions[1:]) or "all storage accounts the identity can read"
    return report_facts(azure, scope)


def posture_accounts(azure: Azure, search: AccountSearch, after: str | None) -> Iterator[Json]:
    """The accounts that are meant, by id, as they are read; after: the id of the last one that was checked before."""
    pages = map(lambda page: page[0], azure.arm.search_pages(search.query))  # noqa: C417 - a generator would hold a page while the next is read
    accounts = map(found_account, itertools.chain.from_iterable(pages))
    if after and not any(str(account.get("id")).lower() == after.lower() for account in accounts):
        raise invalid("start_after", "it is the ID of none of these accounts. Use the ID of an earlier message.")
    return accounts


def forecast(azure: Azure, search: AccountSearch, names: Collection[str]) -> str:
    """How long the deep checks of many accounts take at Azure's limits. Subscriptions come one after the other."""
    query = f"{search.query}\n| summarize accounts = count() by subscriptionId, location"
    answer = azure.arm.ask(GRAPH_SEARCH, TENANT_SCOPE, {"query": query, "options": {"resultFormat": "objectArray"}})
    regions: dict[str, list[int]] = {}
    for row in dicts(answer["data"]):
        regions.setdefault(str(row.get("subscriptionId")), []).append(whole(row.get("accounts")))
    stored = sum("/providers/" not in SOURCES[name].path for name in names)
    seconds = sum(
        max(
            (max(counts) * stored - 1) // STORAGE_READS * STORAGE_SECONDS,
            (sum(counts) * len(names) - 1) // ARM_READS * ARM_SECONDS,
        )
        for counts in regions.values()
    )
    total, minutes = sum(map(sum, regions.values())), seconds // 60 + 1
    time = f"{minutes} minutes" if minutes < 120 else f"{minutes / 60:.0f} hours"
    return (
        f"Posture: {total:,} accounts; reads per account: {len(names)}. With Azure's limits, this takes about {time}."
    )


class DeepReading:
    """The sources of some checks, read of many accounts, a few at a time.

    known: how many accounts there are; 0 if there are too many for one run, which then ends when Azure's limits or the
    time are used up. stopped: why it ended before the last account, and how to go on; last: the account before that.
    """

    def __init__(self, azure: Azure, checks: Collection[Check], known: int) -> None:
        sources = {name for check in checks for name in (check.source, *check.also)}
        self.azure, self.names, self.known = azure, [name for name in SOURCES if name in sources], known
        self.budget = ReadBudget(math.inf if known else Clock.now() + DEEP_SECONDS)
        self.last = self.stopped = ""

    def facts(self, accounts: Iterator[Json]) -> Iterator[tuple[Json, dict[str, object]]]:
        """Each account with what its deep sources hold, or the errors that came instead; says how far it is."""
        self.azure.use_threads()
        done = 0
        try:
            for batch in slices(accounts, PROGRESS_STEP):
                for account, facts in self._read(batch):
                    yield account, facts
                    done, self.last = done + 1, str(account["id"])
                if self.names and len(batch) == PROGRESS_STEP:
                    return_results(
                        f"Posture: {done}{f' of {self.known}' * bool(self.known)} accounts checked. {self._go_on()}"
                    )
        except AzureStorageError as error:
            if not done:
                raise
            self.stopped = f"Stopped after {done:,} accounts: {error.message} {self._go_on()}"

    def _read(self, batch: list[Json]) -> Iterator[tuple[Json, dict[str, object]]]:
        jobs = [(account, name) for account in batch for name in self.names]
        answers = in_order(lambda job: read_source(self.azure, self.budget, *job), jobs, DEEP_PARALLEL)
        for account in batch:
            facts = {name: next(answers) for name in self.names}
            for error in facts.values():
                if isinstance(error, ServiceError) and error.status == 429:
                    raise error
            yield account, facts

    def _go_on(self) -> str:
        return f"To continue here: start_after={war_room_quote(self.last)}"


class ReadBudget:
    """Keeps reads inside what Azure allows one identity. Threads share it."""

    def __init__(self, deadline: float = math.inf) -> None:
        self._deadline = deadline
        self._sent: dict[tuple[str, ...], deque[float]] = {}
        self._lock = threading.Lock()

    def take(self, account: Json, path: str) -> None:
        """Returns when the next read may leave. AzureStorageError if that is after the deadline."""
        subscription, region = subscription_of(account), str(account.get("location"))
        limits: dict[tuple[str, ...], tuple[int, int]] = {(subscription,): (ARM_READS, ARM_SECONDS)}
        if "/providers/" not in path:
            limits[subscription, region] = STORAGE_READS, STORAGE_SECONDS
        with self._lock:
            now = due = Clock.now()
            for key, (most, seconds) in limits.items():
                sent = self._sent.setdefault(key, deque(maxlen=most))
                due = max(due, sent[0] + seconds) if len(sent) == most else due
            if due > self._deadline:
                raise AzureStorageError("the time or Azure's read limit for one run is used up. Wait for five minutes.")
            for key in limits:
                self._sent[key].append(due)
        if due > now:
            Clock.wait(due - now)


def read_source(azure: Azure, budget: ReadBudget, account: Json, name: str) -> object:
    """The JSON of a deep source, the items of a collection, or the error that came instead."""
    source = SOURCES[name]
    target = Scope(id_path(str(account["id"])) + source.path, f"{name.replace('_', ' ')} of {account['name']}")
    budget.take(account, source.path)
    row = RESOURCE_GET if not source.path or source.path.endswith(("/default", "/current")) else RESOURCE_LIST
    endpoint = replace(row, api=source.api, needs=source.permission)
    try:
        if row is RESOURCE_GET:
            return azure.arm.ask(endpoint, target)
        items: list[Json] = []
        for page, _, following in azure.arm.pages(endpoint, target):
            items += page
            if following:
                budget.take(account, source.path)
        return items
    except (ServiceError, NetworkError) as error:
        return error


# --- commands: posture fix ---------------------------------------------------------------------------------------------

# Checks whose fix can cut somebody off, or can't be taken back, and what is said before it is carried out.
FIX_RISKS: Mapping[str, str] = {
    "https-only": "Clients that use HTTP lose access.",
    "no-anonymous-blobs": "Everybody who reads blobs without signing in loses access.",
    "no-shared-key": "Everybody who uses an account key, or a SAS signed with one, loses access.",
    "no-shared-key-per-service": "Everybody who uses an account key, or a SAS signed with one, loses access.",
    "no-public-network": "Everybody loses access who doesn't use a private endpoint, this engine included.",
    "default-deny": "Every network that no rule allows loses access, that of this engine included.",
    "narrow-ip-rules": "The addresses of the removed rules lose access.",
    "own-resource-instances": "The removed resource instances lose access.",
    "private-endpoints": "Clients behind the rejected private endpoints lose access.",
    "no-cross-tenant-replication": "Replication to other tenants ends.",
    "no-cross-tenant-delegation-sas": "User delegation SAS of other tenants stop working.",
    "young-keys": "Everybody who uses the old keys, or a SAS signed with them, loses access. Nothing undoes it.",
    "sas-lifetime": "SAS that live longer than the policy allows stop working.",
    "user-bound-delegation-sas": "User delegation SAS that are not bound to a user stop working.",
    "copy-scope": "Copies from storage accounts of other tenants are refused.",
    "no-sftp": "SFTP clients lose access.",
    "expected-encryption-keys": "The account is encrypted with Microsoft-managed keys from now on.",
    "read-only-lock": "Nobody can change the account, or list or rotate its keys, until the lock is removed.",
    "no-static-website": "Visitors of the static website lose access.",
    "no-wildcard-cors": "Web pages of the removed origins lose access.",
    "no-public-containers": "Everybody who reads blobs without signing in loses access.",
    "known-replication": "Replication to the other account ends, and its policy is deleted.",
    "known-encryption-scopes": "Blobs in the disabled encryption scopes can't be read until the scopes are enabled again.",
    "file-shares": "SMB clients without SMB 3.1.1 and AES-256-GCM lose access.",
    "no-data-sharing": "Connectors, access points and data shares are deleted. Nothing undoes it.",
}


def holds(now: object, wanted: object) -> bool:
    """Whether a setting is at least what was wanted: Azure adds its own fields, and what is off, to lists of objects."""
    if isinstance(wanted, dict):
        return isinstance(now, dict) and all(holds(now.get(key), value) for key, value in wanted.items())
    if not isinstance(wanted, list) or not dicts(wanted):
        return same(now, wanted)
    rows = dicts(now)
    extra = [row for row in rows if row.get("enabled") is not False and not any(holds(row, item) for item in wanted)]
    return not extra and all(any(holds(row, item) for row in rows) for item in wanted)


def subscription_scope(account: AccountRef) -> Scope:
    return Scope(subscription_path(account.subscription), account.subscription)


# The settings of the blob service with their paths in the whole object.
SERVICE_PATHS = {name: entry._replace(path=f"properties.{entry.path}") for name, entry in BLOB_SERVICE_FIELDS.items()}


def setting_plan(azure: Azure, account: AccountRef, send: Send) -> Plan:
    """One request of a check's action, on something below the account."""
    deletes = send.method == "DELETE"
    target = Scope(id_path(send.path), send.path.rpartition("/providers/")[2])
    read = replace(RESOURCE_GET, api=send.api, needs=right_to(send.path, "read"))
    row, verb = (RESOURCE_DELETE, "delete") if deletes else (RESOURCE_PUT, "write")
    codes = (200, 201, 202, 204)  # 202: a storage task assignment changes later, and its answer has no body
    needs = right_to(send.path, verb)
    sent = replace(row, method=send.method, shape="nothing", codes=codes, api=send.api, needs=needs)

    def state() -> Json:
        try:
            found = azure.arm.ask(read, target)
        except ServiceError as error:
            if error.status != 404 or error.code in GONE_CODES:
                raise
            found = {}
        return {"exists": bool(found), "settings": found.get("properties")} if deletes else found

    now, wanted = state(), {"exists": False, "settings": None} if deletes else send.body
    before, after = differences(now, wanted, holds)
    whole = merged(dict(now.get("properties") or {}), dict(send.body.get("properties") or {}))
    body = None if deletes else {"properties": whole} if send.method == "PUT" and send.merge else send.body
    step = Step(
        row.action.format(target),
        lambda: azure.arm.ask(sent, target, body),
        lambda error: not differences(state(), wanted, holds)[1],
    )
    fields = SERVICE_PATHS if send.path.endswith(SERVICE_GET.path) else {}
    return Plan(
        target.id,
        before,
        after,
        POSTURE_VIEW,
        [step],
        read_back=lambda outcomes: state(),
        equal=holds,
        undo=undo_with("blob-service-properties-set", account.arguments, fields),
    )


def part_plan(azure: Azure, account: AccountRef, current: Json, action: Send | Delegate) -> Plan:
    """What another command would do with these arguments, or one request; it tells what its undo leaves out."""
    if isinstance(action, Delegate):
        other = COMMANDS[f"azure-storage-{action.command}"]
        read = other._read(other._given({**account.arguments, **action.arguments}))
        found = other.run(azure, **other._values(azure, read))
        assert isinstance(found, Plan), action.command  # noqa: S101 - a slip of ours in the table of checks
        return found
    if not action.path:
        plan, fields = update_plan(azure, account, current, action.body), UPDATE_FIELDS
    else:
        plan, fields = setting_plan(azure, account, action._replace(path=account.id + action.path)), SERVICE_PATHS
    known = {entry.path.removeprefix("properties.") for entry in fields.values()}
    changed = (".".join(path).removeprefix("properties.") for path, _, _ in leaves(plan.before, plan.after))
    left = ", ".join(path for path in changed if path not in known)
    if not left or not plan.undo(plan.before, plan.after):
        return plan
    return replace(plan, done=lines_of(plan.done, f"The undo leaves as they are: {left}."))


def lines_of(*texts: str) -> str:
    """Different texts, each on a line of its own."""
    return "\n".join(filter(None, dict.fromkeys(texts)))


def united(actions: Iterable[Send | Delegate]) -> list[Send | Delegate]:
    """The same actions, with the settings of one object in one request."""
    found: list[Send | Delegate] = []
    for action in actions:
        last = found[-1] if found else None
        if isinstance(action, Send) and isinstance(last, Send) and action.merge and action[:2] == last[:2]:
            found[-1] = last._replace(body=merged(last.body, action.body), api=max(last.api, action.api))
        else:
            found.append(action)
    return found


def combined(account: AccountRef, parts: list[Plan]) -> Plan:
    """Several plans as one: the steps of all, in order, and each part's settings under its own name."""
    parts = [part for part in parts if part.needed] or parts[:1]
    if len(parts) == 1:
        return parts[0]
    names = [part.target[len(account.id) :].lstrip("/") or "account" for part in parts]
    steps = [list(part.steps) for part in parts]

    def read_back(outcomes: list[Outcome]) -> Json:
        now, rest = dict[str, Json](), iter(outcomes)
        for name, part, own in zip(names, parts, steps, strict=True):
            done = list(itertools.islice(rest, len(own)))
            found = part.read_back(done) if done else None
            now[name] = part.before if found is None else part.state(found)
        return now

    def undo(before: Json, after: Json) -> str:
        changed = [(part, name) for part, name in zip(parts, names, strict=True) if after.get(name)]
        return lines_of(*(part.undo(before[name], after[name]) for part, name in changed))

    return Plan(
        account.id,
        {name: part.before for name, part in zip(names, parts, strict=True)},
        {name: part.after for name, part in zip(names, parts, strict=True)},
        POSTURE_VIEW,
        list(itertools.chain.from_iterable(steps)),
        read_back=read_back,
        equal=holds,
        undo=undo,
        note=lines_of(*(part.note for part in parts)),
        done=lines_of(*(part.done for part in parts)),
        tell_steps=True,
    )


class PostureFix(NamedTuple):
    """A check of an account, and what it is held against."""

    azure: Azure
    account: AccountRef
    check: Check
    options: PostureOptions

    def judge(self) -> tuple[Json, Finding]:
        """The account as it is now, and what the check finds in it."""
        bare, names = {"id": self.account.id, "name": self.account.name}, (self.check.source, *self.check.also)
        facts = {name: read_source(self.azure, ReadBudget(), bare, name) for name in dict.fromkeys(("account", *names))}
        current = facts["account"]
        if isinstance(current, ServiceError) and current.code in UNKNOWN_VERSION:
            current = self.azure.arm.ask(ACCOUNT_GET, self.account)
        if not isinstance(current, dict):
            assert isinstance(current, Exception)  # noqa: S101 - what read_source returns of an account
            raise current
        finding = judged(self.check, current, facts, self.options)
        assert finding is not None, self.check.name  # noqa: S101 - every source of the check was read
        return current, finding

    def plan(self, whole: Plan, row: Json, decisions: str) -> Plan:
        """The plan of the actions, which ends with the check being judged again."""
        found: list[Json] = []
        risk = FIX_RISKS.get(self.check.name)

        def read_back(outcomes: list[Outcome]) -> Json:
            item = whole.read_back(outcomes)
            found.append(whole.before if item is None else whole.state(item))
            current, finding = self.judge()
            return posture_row(self.check, finding, current)

        left = f"Then a person has to decide: {decisions}" if decisions else ""
        undone = bool(whole.undo(whole.before, whole.after))
        lasting = "" if undone else "No command undoes this change. The context keeps the previous settings."
        return replace(
            whole,
            view=POSTURE_VIEW,
            item=row,
            read_back=read_back,
            state=lambda item: found[-1],
            note=lines_of(whole.note, left),
            done=lines_of(whole.done, lasting),
            confirm=(self.account.name, risk) if risk else None,
        )


FIX_WRITES = (
    *(WRITE_ACCOUNT, WRITE_SERVICE, WRITE_CONTAINER, WRITE_LOCKS, WRITE_LOGGING, WRITE_LIFECYCLE),
    *(REGENERATE_KEY, SET_HOLD, "Microsoft.Security/defenderForStorageSettings/write"),
    *(
        f"{STORAGE_ACCOUNTS}/{kind}/write"
        for kind in ("fileServices", "encryptionScopes", "storageTaskAssignments", "privateEndpointConnections")
    ),
    *(
        f"{STORAGE_ACCOUNTS}/{kind}/delete"
        for kind in ("objectReplicationPolicies", "connectors", "dataShares", "blobAccessPointConfigurations")
    ),
)


@command(
    "azure-storage-posture-fix",
    needs=(READ_ACCOUNT, *dict.fromkeys(source.permission for source in DEEP_SOURCES.values()), *FIX_WRITES),
    role="Owner",
    execution=True,
    confirm=True,
)
def posture_fix(azure: Azure, account: TargetArgs, check: OneCheck, options: OptionsArgs) -> Plan:
    """Carries out what one check asks for, or says what a person has to decide first."""
    if check.name == "own-resource-instances":
        tenant = azure.arm.ask(SUBSCRIPTION_GET, subscription_scope(account)).get("tenantId")
        options = options._replace(tenant_id=str(tenant or ""))
    fix = PostureFix(azure, account, check, options)
    current, finding = fix.judge()
    row, actions = posture_row(check, finding, current), posture_fix_steps(check, finding)
    decisions = " ".join(md(action.text) for action in actions if isinstance(action, Decide))
    before = itertools.takewhile(lambda action: not isinstance(action, Decide), actions)
    doable = [action for action in before if not isinstance(action, Decide)]
    if doable:
        parts = [part_plan(azure, account, current, action) for action in united(doable)]
        return fix.plan(combined(account, parts), row, decisions)
    words = f"A person has to decide: {decisions}" if decisions else f"The check passes: {md(finding.evidence)}."
    return Plan(account.id, {}, {}, POSTURE_VIEW, item=row, missed=words)


# --- commands: exposure ------------------------------------------------------------------------------------------------


class Anonymous:
    """Requests without any credential."""

    def flow(self, request: Request) -> Generator[Request, requests.Response, None]:
        yield request


class Question(NamedTuple):
    """What a probe asks: its name, the request, and what an answer of the service holds: the root element of its body, or
    a header where the body is not XML."""

    name: str
    request: Request
    holds: str


class Probe(NamedTuple):
    """Where a probe asks: the blob service, what is named in it, and the website endpoint (empty: nothing tells it)."""

    service: BlobService
    container: str
    blob: BlobRef | None
    website: str


def build_probe(azure: Azure, given: Given) -> Probe:
    url: BlobAddress | None = given["blob_url"]
    service = service_in(azure, given)
    blob = named(given, "blob_name", "blob") if given["blob_name"] or (url and url.blob) else ""
    container = (
        named(given, "container_name", "container")
        if blob or given["container_name"] or (url and url.container)
        else ""
    )
    ref = BlobRef(service, container, blob, url.version if url else "", url.snapshot if url else "") if blob else None
    website = f"https://{url.host}" if url and url.service == "web" else told_website(azure, given)
    return Probe(service, container, ref, website)


def told_website(azure: Azure, given: Given) -> str:
    """The website endpoint that Resource Manager tells; empty where it can't: a probe needs no role."""
    try:
        account = azure.arm.ask(ACCOUNT_GET, build_target(azure, given))
    except AzureStorageError as error:
        if isinstance(error, ServiceError) and azure.look_elsewhere(error):
            return told_website(azure, given)
        return ""
    found = str(at_path(account, "properties.primaryEndpoints.web") or "").rstrip("/")
    suffixes = filter(None, (azure.settings.cloud.storage_suffix, azure.settings.cloud.zone_suffix))
    return found if any(host_of(found).endswith(f".{suffix}") for suffix in suffixes) else ""


ProbeArgs = Annotated[Probe, Group(BLOB_ARGUMENTS, build_probe)]
IS_OPEN, IS_CLOSED = "open", "closed"
# Codes of refusals, and what they say of the way in. https://learn.microsoft.com/rest/api/storageservices/common-rest-api-error-codes
# fmt: off
REFUSALS = {
    "PublicAccessNotPermitted": "Anonymous access is disabled on the account.",
    "ResourceNotFound": "Private, or it doesn't exist: Azure answers both alike without a credential.",
    "NoAuthenticationInformation": "The service requires a credential.",
    "AuthorizationFailure": "The network rules of the account, or the SAS, don't allow this request.",
    "AuthenticationFailed": "The SAS is invalid, expired or revoked.",
    "KeyBasedAuthenticationNotPermitted": "Shared Key access is disabled, so the SAS is refused.",
    "AuthorizationSourceIPMismatch": "The SAS is for other IP addresses than that of this engine.",
    "AuthorizationProtocolMismatch": "The SAS is for another protocol.",
    "AuthorizationPermissionMismatch": "The SAS doesn't have this permission.",
    "AuthorizationServiceMismatch": "The SAS is for another service.",
    "AuthorizationResourceTypeMismatch": "The SAS is for other kinds of resources.",
    "AccountIsDisabled": "The account is disabled.",
}
# fmt: on
LET_IN = frozenset({"BlobNotFound", "ContainerNotFound"})
NOT_AZURE = "The answer isn't from Azure Storage. A proxy may have answered in its place."


def questions(probe: Probe, *, with_sas: bool) -> list[Question]:
    """What is asked, each once. A website takes no SAS."""
    http = probe.service.http
    listing = {"comp": "list", "maxresults": 1}
    wanted: list[tuple[str, str, str, Mapping[str, object], str]] = []
    if probe.blob:
        wanted.append(("blob", "HEAD", probe.blob.path, probe.blob.query, "x-ms-blob-type"))
    if probe.container:
        query = {**IN_CONTAINER, **listing}
        wanted.append(("container listing", "GET", blob_path(probe.container), query, "EnumerationResults"))
    wanted.append(("account containers", "GET", "/", listing, "EnumerationResults"))
    wanted.append(("account properties", "GET", "/", SERVICE_PROPERTIES.query, "StorageServiceProperties"))
    found = [
        Question(name, http.request(method, path, asked, {}), holds) for name, method, path, asked, holds in wanted
    ]
    if probe.website and not with_sas:
        page = probe.blob.name if probe.blob and probe.container == "$web" else ""
        address = f"{probe.website}/{urllib.parse.quote(page, safe='/~')}"
        found.append(Question("static website", Request("HEAD", address, ""), "x-ms-request-id"))
    return [each._replace(request=each.request._replace(action=f"probe the {each.name}")) for each in found]


def verdict(question: Question, answer: requests.Response) -> tuple[str, str]:
    """Open, closed or unknown, and why. Only an answer of the service tells anything."""
    status, name = answer.status_code, answer.headers.get("x-ms-error-code", "")
    if "x-ms-request-id" not in answer.headers:
        return UNKNOWN, NOT_AZURE
    if status == 200:
        there = question.holds in answer.headers or f"<{question.holds}" in text_of(answer)[:SNIPPET]
        return (IS_OPEN, "The request was answered.") if there else (UNKNOWN, NOT_AZURE)
    if name in LET_IN:
        return IS_OPEN, "The request was let in, but there is nothing to read at this address."
    if name in REFUSALS:
        return IS_CLOSED, REFUSALS[name]
    if status in (401, 403) and name:
        return IS_CLOSED, "The service refused the request."
    if question.name == "static website" and status == 404:
        return UNKNOWN, "The endpoint has no page at this address: the static website is off, or empty."
    return UNKNOWN, "The answer tells neither that access is open nor that it is closed."


def probed(network: Network, question: Question, authorization: Authorization, account: str) -> Json:
    """What became of one question. A failure to get an answer is unknown, never closed."""
    url, way = question.request.url, "none" if isinstance(authorization, Anonymous) else "SAS"
    row: Json = {"id": f"{url}#{way}", "account": account, "target": question.name, "url": url, "credential": way}
    try:
        answer = send(network, question.request, authorization)
        state, reason = verdict(question, answer)
    except AzureStorageError as error:
        return {**row, "state": UNKNOWN, "reason": snippet(error.message), "time": iso_time(Clock.now())}
    told = {"status": answer.status_code, "code": answer.headers.get("x-ms-error-code", "")}
    return {**row, "state": state, "reason": reason, **told, "time": iso_time(Clock.now())}


# fmt: off
EXPOSURE_VIEW = View("Exposure", "Exposure of a storage account", {"Target": "target", "State": "state", "Reason": "reason", "Status": "status", "Code": "code", "Address": "url"})
# fmt: on


@command("azure-storage-exposure-probe", needs=(READ_ACCOUNT,), role="Reader")
def exposure_probe(azure: Azure, probe: ProbeArgs, sas: Sas | None = None) -> CommandResults:
    """Asks as a stranger does: without a credential, or with the given SAS only. No token goes to the storage service."""
    service = probe.service
    if sas and sas.address and sas.address.account != service.account:
        raise invalid("sas", f"it is for account {sas.address.account}, not for {service.account}.")
    network = Network(azure.settings.verify, tries=2)
    authorization = SasAuthorization(sas.token) if sas else Anonymous()
    azure.use_threads()
    asked = questions(probe, with_sas=sas is not None)
    rows = list(in_order(lambda each: probed(network, each, authorization, service.account), asked))
    own = ", ".join(str(rule["value"]) for rule in azure.settings.own_addresses)
    where = f"by its settings {own}" if own else "whose public address isn't set in the instance"
    no_website = not sas and not probe.website
    notes = (
        f"Asked {'with the given SAS only' if sas else 'without a credential'} from this engine ({where}). Network rules may let other addresses in.",
        "Not probed: the static website, whose address could not be read." if no_website else "",
    )
    text = table(EXPOSURE_VIEW, rows, note=" ".join(filter(None, notes)))
    return CommandResults(outputs={EXPOSURE_VIEW.context: rows}, readable_output=text, raw_response=rows)


# Triage: one look at all that matters in the first minutes

TRIAGE_DAYS = 7
TRIAGE_EVENTS = 50
TRIAGE_PARALLEL = 8
SHOWN_EVENTS = 10


class Alert(NamedTuple):
    """What an alert is about: the account, what its URL names in it, and the facts of the SAS in the URL."""

    account: AccountRef
    container: str = ""
    blob: str = ""
    sas: Json | None = None


def read_alert_url(text: str) -> tuple[BlobAddress, SasToken | None]:
    """An address, and the SAS in it, which is decoded and never used."""
    address = parse_blob_url(text)
    try:
        return address, read_sas(text)
    except ValueError:
        return address, None


ALERT_ARGUMENTS = {
    **STORAGE_SCOPE,
    "blob_url": optional(
        Annotated[
            tuple[BlobAddress, SasToken | None],
            Reader("the URL of an account, a container or a blob, also with a SAS", read_alert_url, secret=True),
        ]
    ),
}


def build_alert(azure: Azure, given: Given) -> Alert:
    address, sas = given["blob_url"] or (None, None)
    account = build_target(azure, {**given, "blob_url": address})
    facts = inspect_sas(sas) if sas else None
    if not address or address.service in ("file", "queue", "table"):  # what their addresses name is no container
        return Alert(account, sas=facts)
    return Alert(account, address.container, address.blob, facts)


AlertArgs = Annotated[Alert, Group(ALERT_ARGUMENTS, build_alert)]


class Reading(NamedTuple):
    """One part of a triage: an object, or the items of a list (more: not all of them), or why neither is known."""

    body: Json | None = None
    items: list[Json] | None = None
    more: bool = False
    error: ServiceError | NetworkError | None = None

    @property
    def reason(self) -> str:
        """Why it is not known."""
        if isinstance(self.error, ServiceError):
            needs = self.error.needs if self.error.status == 403 else ""
            return self.error.brief + (f", required permission: {needs}" if needs else "")
        return snippet(self.error.message) if self.error else ""


Readings = Mapping[str, Reading]


def attempt(read: Callable[[], Reading]) -> Reading:
    try:
        return read()
    except (ServiceError, NetworkError) as error:
        return Reading(error=error)


def first_pages(pages: Iterator[Page], most: int = 1, keep: Callable[[Json], bool] = bool) -> Reading:
    """The items on the first pages of a list: a triage asks a bounded number of times."""
    read = list(itertools.islice(pages, most))
    found = [item for page, _, _ in read for item in page if keep(item)]
    return Reading(items=found, more=bool(read and read[-1][2]))


def read_account(azure: Azure, account: AccountRef) -> tuple[Reading, bool]:
    """The account by the newest version, and whether the cloud has that version. ServiceError where it is not there."""
    newest = attempt(lambda: Reading(azure.arm.ask(replace(ACCOUNT_GET, api=NEWEST_STORAGE_API), account)))
    if isinstance(newest.error, ServiceError):
        if newest.error.status == 404 and newest.error.code in MISPLACED:
            raise newest.error
        if newest.error.code in UNKNOWN_VERSION:
            return attempt(lambda: Reading(azure.arm.ask(ACCOUNT_GET, account))), False
    return newest, True


def read_parts(azure: Azure, alert: Alert, *, newest: bool) -> Readings:
    """Everything else, some at a time; the slowest first."""
    arm, account, now = azure.arm, alert.account, Clock.now()
    service = replace(SERVICE_GET, api=NEWEST_STORAGE_API if newest else STORAGE_API)
    reads: dict[str, Callable[[], Reading]] = {
        "subscription": lambda: Reading(arm.ask(SUBSCRIPTION_GET, subscription_scope(account))),
        "activity log": lambda: first_pages(
            activity_pages(azure, account, now - TRIAGE_DAYS * 86_400, now),
            2 if newest else 1,
            lambda row: is_about(row, account),
        ),
        "role definitions": lambda: first_pages(arm.pages(DEFINITIONS_LIST, account)),
        "role assignments": lambda: first_pages(arm.pages(ASSIGNMENTS_LIST, account, params=AT_SCOPE)),
        "role assignments below": lambda: first_pages(arm.pages(ASSIGNMENTS_LIST, account)),
        "containers": lambda: first_pages(arm.pages(CONTAINERS_LIST, account)),
        "blob service": lambda: Reading(arm.ask(service, account)),
        "locks": lambda: first_pages(arm.pages(LOCKS_LIST, account)),
        "logging": lambda: first_pages(arm.pages(LOGGING_LIST, account)),
        "Defender": lambda: Reading(arm.ask(DEFENDER_GET, account)),
        "replication policies": lambda: first_pages(arm.pages(REPLICATION_LIST, account)),
    }
    azure.use_threads()
    return dict(zip(reads, in_order(attempt, list(reads.values()), TRIAGE_PARALLEL), strict=True))


class Section(NamedTuple):
    """A part of the triage: what context holds of it, and its lines for people."""

    title: str
    facts: Json
    lines: list[str]


def words_of(pairs: Iterable[tuple[str, object]]) -> str:
    """Settings in a line; what is not set is left out."""
    return ", ".join(f"{name} {in_text(value)}" for name, value in pairs if value not in (None, "", [], {}))


def with_container(azure: Azure, alert: Alert, found: Readings) -> Readings:
    """The same with the container in the URL, which is asked for where the first page of the list doesn't hold it."""
    listing, container = found["containers"], ContainerRef(alert.account, alert.container)
    if not (alert.container and listing.more) or any(row.get("name") == alert.container for row in listing.items or []):
        return found
    single = attempt(lambda: Reading(azure.arm.ask_if_there(CONTAINER_GET, container, "ContainerNotFound") or {}))
    rows = [*(listing.items or []), *([single.body] if single.body else [])]
    return {**found, "container": single, "containers": listing._replace(items=rows)}


def named_container(alert: Alert, found: Readings) -> Json | None:
    """The properties of the container in the URL. None where the URL names none, or it isn't known; {} where it is gone."""
    rows, single = found["containers"].items, found.get("container", Reading({}))
    if not alert.container or rows is None or single.body is None:
        return None
    return next((at_path(row, "properties") or {} for row in rows if row.get("name") == alert.container), {})


def summary(alert: Alert, found: Readings) -> Section:
    """What the account is, and what the URL names in it."""
    account, properties = found["account"].body or {}, at_path(found["account"].body, "properties") or {}
    container = named_container(alert, found)
    kinds = {"hierarchical namespace": "isHnsEnabled", "SFTP": "isSftpEnabled", "NFS 3.0": "isNfsV3Enabled"}
    flags = ", ".join(name for name, key in kinds.items() if properties.get(key) is True)
    subscription = at_path(found["subscription"].body, "displayName")
    named = f"{subscription} ({alert.account.subscription})" if subscription else alert.account.subscription
    where = [("resource group", alert.account.group), ("subscription", named)]
    lines = [words_of([("Account", alert.account.name), *where])]
    if account:
        created = short_time("creationTime")(properties)
        about = [("created", created), ("tags", account.get("tags")), ("with", flags)]
        lines.append(words_of([("Kind", account.get("kind")), ("in", account.get("location")), *about]))
    if alert.container:
        level, changed = at_path(container, "publicAccess"), short_time("lastModifiedTime")(container or {})
        state = [("blob", alert.blob), ("public access", level), ("last modified", changed)]
        gone = ". The container doesn't exist or was deleted" if container == {} else ""
        lines.append(words_of([("Container", alert.container), *state]) + gone)
    facts = {
        "account": alert.account.name,
        "subscriptionId": alert.account.subscription,
        "subscriptionName": subscription,
        "resourceGroup": alert.account.group,
        "container": alert.container,
        "blob": alert.blob,
        **{key: account.get(key) for key in ("kind", "location", "tags")},
        "created": properties.get("creationTime"),
    }
    return Section("What it is", given_only(facts), lines)


PUBLIC, LISTED_NETWORKS, NO_NETWORK, PERIMETER = (
    "all networks",
    "listed networks",
    "no public network",
    "a network security perimeter",
)


def network_reach(properties: Json) -> str:
    """From where the account is reached, by its public network access and default action."""
    access = str(properties.get("publicNetworkAccess") or "Enabled").lower()
    if access != "enabled":
        return PERIMETER if access == "securedbyperimeter" else NO_NETWORK
    action = str(at_path(properties, "networkAcls.defaultAction") or "Allow")
    return PUBLIC if action.lower() == "allow" else LISTED_NETWORKS


def website_on(found: Readings) -> bool | None:
    """Whether the static website is on, which is public whatever the account says of anonymous access. None: not known."""
    account, told = found["account"].body, at_path(found["blob service"].body, "properties.staticWebsite.enabled")
    if isinstance(told, bool):
        return told
    if account and account.get("kind") not in ("StorageV2", "BlockBlobStorage"):
        return False
    listing = found["containers"]
    listed = listing.items is not None and not listing.more
    return False if listed and not any(row.get("name") == "$web" for row in listing.items or []) else None


def anonymous_reach(found: Readings) -> Json:
    """Whether anybody reads without a credential: open, open from listed networks, closed or unknown."""
    properties, listing = at_path(found["account"].body, "properties"), found["containers"]
    rows = filter(is_public, listing.items or [])
    public = [{"name": row.get("name"), "publicAccess": at_path(row, "properties.publicAccess")} for row in rows]
    website, allowed = website_on(found), at_path(properties, "allowBlobPublicAccess")
    unread = properties is None or ((listing.error or listing.more) and not public)
    blobs = False if allowed is False else None if unread else bool(public)
    network = network_reach(properties) if properties is not None else ""
    if network == NO_NETWORK:
        state = IS_CLOSED
    elif True in (blobs, website):
        state = {PUBLIC: IS_OPEN, LISTED_NETWORKS: "open from listed networks"}.get(network, UNKNOWN)
    else:
        state = UNKNOWN if None in (blobs, website) else IS_CLOSED
    return {"state": state, "publicContainers": public, "publicAccessAllowed": allowed, "staticWebsite": website}


def anonymous_words(facts: Json) -> str:
    names = few_of((f"{row['name']} ({row['publicAccess']})" for row in facts["publicContainers"]), DEFAULT_LIMIT)
    setting = {True: "allowed", False: "disabled"}.get(facts["publicAccessAllowed"], "not set or unknown")
    website = {True: "on, and always public", False: "off"}.get(facts["staticWebsite"], "unknown")
    containers = f"public containers: {in_text(names or 'none found')}"
    return f"**Anonymous: {facts['state']}.** Anonymous access {setting}; {containers}; static website {website}."


def network_words(properties: Json) -> tuple[Json, str]:
    kinds = {**RULE_KEYS, "ipv6Rules": "value"}
    rules = {
        kind: [str(rule.get(key)) for rule in dicts(at_path(properties, f"networkAcls.{kind}"))]
        for kind, key in kinds.items()
    }
    endpoints = len(dicts(properties.get("privateEndpointConnections")))
    bypass = at_path(properties, "networkAcls.bypass") or "AzureServices"
    facts = {"reach": network_reach(properties), "bypass": bypass, **rules, "privateEndpoints": endpoints}
    told = [("bypass", bypass), *((kind, ", ".join(found)) for kind, found in rules.items())]
    return facts, f"**Network: {facts['reach']}.** {words_of([*told, ('private endpoints', endpoints or None)])}."


def key_words(alert: Alert, properties: Json) -> tuple[Json, str]:
    rows = key_rows(alert.account, {"properties": properties})
    allowed = properties.get("allowSharedKeyAccess") is not False
    ages = {f"{row['keyName']}AgeInDays": row["ageInDays"] for row in rows}
    period, action = (at_path(properties, f"sasPolicy.{name}") for name in ("sasExpirationPeriod", "expirationAction"))
    facts = {"sharedKey": allowed, **ages, "sasExpirationPeriod": period, "sasExpirationAction": action}
    old = words_of(
        (f"{row['keyName']} made", f"{row['ageInDays']} days ago") for row in rows if row["ageInDays"] is not None
    )
    policy = f"SAS policy {in_text(period)} ({in_text(action)})" if period else "no SAS policy"
    refusing = [path.split(".")[1] for path in SERVICE_KEYS if at_path(properties, path) is False]
    words = f"accepted, except by: {', '.join(refusing)}" if refusing else "accepted"
    words = words if allowed else "refused (Shared Key access is disabled)"
    ages_known = old or "The age of the keys is not known"
    return facts, f"**Account keys and SAS signed with them: {words}.** {ages_known}; {policy}."


def sas_words(sas: Json, properties: Json | None) -> str:
    """The SAS in the URL, and why Azure refuses it, as far as that can be told."""
    by_key, starts = sas["signer"] == "account key", moment(sas.get("start"))
    reasons = (
        (sas.get("expired"), "It has expired."),
        (starts is not None and starts > Clock.now(), "It isn't valid yet."),
        (
            by_key and at_path(properties, "allowSharedKeyAccess") is False,
            "It is refused while Shared Key access is disabled.",
        ),
    )
    state = "".join(f" {words}" for true, words in reasons if true)
    names = {"of": "resource", "with": "permissions", "from": "start", "to": "expiry", "for": "ip"}
    parts = words_of((word, sas.get(name)) for word, name in names.items())
    return f"**SAS in the URL: {in_text(sas['kind'])}** {parts}.{state} To revoke it: {in_text(sas['revokedBy'])}"


def identities(alert: Alert, found: Readings) -> Json | None:
    """How many principals have which right. None where no assignment is known; rights are left out without definitions."""
    lists = [found[name].items for name in ("role assignments", "role assignments below")]
    if all(items is None for items in lists):
        return None
    definitions, properties = found["role definitions"].items, at_path(found["account"].body, "properties")
    shared_key = at_path(properties, "allowSharedKeyAccess") is not False
    known = by_guid(definitions) if definitions is not None else None
    assignments = merged_assignments(*(items or [] for items in lists))
    rows = [assignment_row(item, alert.account, known, shared_key) for item in assignments]

    def count(name: str, value: object = True) -> int:
        return len({row.get("principalId") for row in rows if row.get(name) == value})

    facts: Json = {
        "assignments": len(rows),
        "principals": len({row.get("principalId") for row in rows}),
        "groups": count("principalType", "Group"),
        "unknownRoles": count("allows", ["unknown"]),
    }
    return facts | ({right.name: count(right.name) for right in RIGHTS} if known is not None else {})


def identity_words(facts: Json, found: Readings) -> str:
    rights = ", ".join(f"{facts[right.name]} can {right.words}" for right in RIGHTS if right.name in facts)
    partly = any(found[part].error or found[part].more for part in ("role assignments", "role assignments below"))
    total = f"**Identities: {'at least ' if partly else ''}{facts['principals']}.**"
    groups = f" Groups among them, whose members aren't counted: {facts['groups']}." if facts["groups"] else ""
    unknown = (
        f" Principals whose roles could not be read: {facts['unknownRoles']}."
        if facts["unknownRoles"] and rights
        else ""
    )
    return f"{total} {rights or 'What they can do is unknown'}.{unknown}{groups}"


def reach(alert: Alert, found: Readings) -> Section:
    """Who can reach the account."""
    properties, facts, lines = at_path(found["account"].body, "properties"), Json(), list[str]()
    facts["anonymous"] = anonymous_reach(found)
    lines.append(anonymous_words(facts["anonymous"]))
    if properties is not None:
        facts["network"], network_line = network_words(properties)
        facts["keys"], key_line = key_words(alert, properties)
        lines += [network_line, key_line]
    else:
        lines += ["**Network: unknown.**", "**Account keys and SAS: unknown.**"]
    if alert.sas:
        facts["sas"] = alert.sas["sha256"]
        lines.append(sas_words(alert.sas, properties))
    facts["identities"] = identities(alert, found)
    lines.append(identity_words(facts["identities"], found) if facts["identities"] else "**Identities: unknown.**")
    if at_path(properties, "isSftpEnabled") is True:
        lines.append("**SFTP: on.** Local users sign in with their own passwords and keys.")
    policies = found["replication policies"].items or []
    facts["replication"] = [
        given_only({"id": row.get("id"), "destination": at_path(row, "properties.destinationAccount")})
        for row in policies
    ]
    if policies:
        lines.append(
            f"**Object replication:** to {', '.join(in_text(row.get('destination')) for row in facts['replication'])}."
        )
    return Section("Who can reach it", facts, lines)


# What is told of an operation in the activity log, by the end of its name.
TOLD_CHANGES = {
    "/storageaccounts/write": "account changed",
    "/storageaccounts/delete": "account deleted",
    "/listkeys/action": "keys listed",
    "/regeneratekey/action": "key rotated",
    "/listaccountsas/action": "account SAS issued",
    "/listservicesas/action": "service SAS issued",
    "/containers/write": "container created or changed",
    "/containers/delete": "container deleted",
    "/blobservices/write": "blob service changed",
    "/roleassignments/write": "role assigned",
    "/roleassignments/delete": "role removed",
    "/diagnosticsettings/write": "logging changed",
    "/diagnosticsettings/delete": "logging removed",
    "/locks/write": "lock set",
    "/locks/delete": "lock removed",
    "/objectreplicationpolicies/write": "replication changed",
    "/managementpolicies/write": "lifecycle changed",
    "/localusers/write": "local user changed",
}
EXPOSING = (
    "networkAcls",
    "publicNetworkAccess",
    "allowBlobPublicAccess",
    "publicAccess",
    "allowSharedKeyAccess",
    "isSftpEnabled",
)


def change_row(row: Json) -> Json | None:
    """An event of the activity log as a change; None for one that tells nothing, or only that something began. settings:
    those in the request that affect who can reach the account; left out where the log doesn't hold the request."""
    operation, status = str(row.get("operation") or "").lower(), str(row.get("status") or "")
    what = next((words for end, words in TOLD_CHANGES.items() if operation.endswith(end)), "")
    if not what or status.lower() in ("started", "accepted"):
        return None
    body = row.get("requestBody")
    settings = None if body is None else [name for name in EXPOSING if f'"{name}"' in str(body)]
    kept = {name: row.get(name) for name in ("time", "caller", "ip", "operation", "resource", "correlationId")}
    return given_only({**kept, "what": what, "settings": settings, "status": status})


def change_words(row: Json) -> str:
    settings = f" ({', '.join(row['settings'])})" if row.get("settings") else ""
    caller, address = row.get("caller") or "an unknown caller", row.get("ip") or "an unknown address"
    status = "" if row["status"].lower() == "succeeded" else f" ({in_text(row['status'])})"
    return f"{short_time('time')(row)}: {row['what']}{settings} by {in_text(caller)} from {in_text(address)}{status}"


def changes_in(log: Reading) -> list[Json]:
    """The changes in the activity log, newest first."""
    changes = (change for row in log.items or [] if (change := change_row(row)))
    return sorted(changes, key=lambda row: str(row.get("time")), reverse=True)


def worth_telling(changes: list[Json], most: int) -> list[Json]:
    """The newest changes, and behind them the older ones that affect who can reach the account: at most as many again."""
    return changes[:most] + [row for row in changes[most:] if row.get("settings")][:most]


def history(log: Reading, changes: list[Json]) -> Section:
    """Since when and by whom: the last changes, newest first."""
    kept, told = (worth_telling(changes, most) for most in (TRIAGE_EVENTS, SHOWN_EVENTS))
    lines = [change_words(row) for row in told]
    if len(kept) > len(told):
        lines.append(f"{len(kept) - len(told)} more changes are in context.")
    if any("settings" not in row and row["what"].endswith("changed") for row in changes):
        lines.append("The log doesn't tell for every change which settings it set.")
    elif log.items is not None and not log.more and not any(row.get("settings") for row in changes):
        lines.append(
            f"The activity log of the last {TRIAGE_DAYS} days holds no change of public access, network rules, Shared Key "
            "or SFTP. It lags by some minutes, and never holds what was changed through the blob service itself: the "
            "access level of a container, or the static website."
        )
    return Section("Since when and by whom", {"changes": kept}, lines or ["Unknown."])


def logging_since(found: Readings, changes: list[Json]) -> str:
    """Since when the logging is as it is; Azure keeps no time in the setting."""
    done = (row for row in changes if row["status"].lower() != "failed")
    last_change = next((row for row in done if row["what"].startswith("logging")), None)
    if last_change:
        return f"changed at {short_time('time')(last_change)}"
    log = found["activity log"]
    return (
        f"unchanged for at least {TRIAGE_DAYS} days"
        if log.items is not None and not log.more
        else "since when is unknown"
    )


ON_OFF = {True: "on", False: "off"}


def evidence(alert: Alert, found: Readings, changes: list[Json]) -> Section:
    """What evidence there is."""
    facts, lines = Json(), list[str]()
    settings, locks, defender = found["logging"].items, found["locks"].items, found["Defender"].body
    if settings is not None:
        lacking = not_logged(name for row in settings for name in logged(row))
        since = logging_since(found, changes)
        facts["logging"] = {"notLogged": lacking, "since": since, "settings": [row.get("name") for row in settings]}
        state = "on" if not lacking else "off" if len(lacking) == len(BLOB_LOGS) else "partly on"
        untold = f" Not logged: {', '.join(lacking)}. Such requests can't be traced." if lacking else ""
        lines.append(f"**Blob logging: {state}** ({since}).{untold}")
    if defender is not None:
        facts["defender"] = at_path(defender, "properties.isEnabled") is True
        lines.append(f"**Defender for Storage: {ON_OFF[facts['defender']]}.**")
    if locks is not None:
        facts["locks"] = [
            {"id": row.get("id"), "name": row.get("name"), "level": at_path(row, "properties.level")}
            for row in locks
            if covers(row, alert.account.id)  # Azure also lists the locks of what is in the account
        ]
        names = ", ".join(f"{in_text(row['name'])} ({in_text(row['level'])})" for row in facts["locks"])
        lines.append(f"**Locks:** {names or 'none'}.")
    if container := named_container(alert, found):
        held, fixed = (container.get(key) is True for key in ("hasLegalHold", "hasImmutabilityPolicy"))
        facts |= {"legalHold": held, "immutabilityPolicy": fixed}
        lines.append(
            f"**Container {alert.container}:** legal hold {ON_OFF[held]}, immutability policy {ON_OFF[fixed]}."
        )
    return Section("Evidence", facts, lines or ["Unknown."])


# What keeps deleted things for days: its name, its key in context, and its policy in the blob service.
RETENTIONS = (
    ("Deleted blobs", "softDeleteDays", "deleteRetentionPolicy"),
    ("Deleted containers", "containerSoftDeleteDays", "containerDeleteRetentionPolicy"),
    ("Point-in-time restore", "restoreDays", "restorePolicy"),
)


def recovery(found: Readings) -> Section:
    """What can still be recovered."""
    facts, properties = Json(), at_path(found["blob service"].body, "properties")
    if properties is None:
        return Section("What can be recovered", facts, ["Unknown."])
    for _, key, policy in RETENTIONS:
        on = at_path(properties, f"{policy}.enabled") is True
        facts[key] = at_path(properties, f"{policy}.days") if on else 0
    facts["versioning"] = properties.get("isVersioningEnabled") is True
    facts["changeFeed"] = at_path(properties, "changeFeed.enabled") is True
    lines = [f"{name}: {f'{facts[key]} days' if facts[key] else 'off'}" for name, key, _ in RETENTIONS]
    lines += [f"Versioning: {ON_OFF[facts['versioning']]}", f"Change feed: {ON_OFF[facts['changeFeed']]}"]
    return Section("What can be recovered", facts, lines)


KEEP_DELETED = {
    "delete_retention_policy_enabled": "true",
    "delete_retention_policy_days": "30",
    "container_delete_retention_policy_enabled": "true",
    "container_delete_retention_policy_days": "30",
}


def containment(azure: Azure, alert: Alert, found: Readings, proof: Json) -> list[str]:
    """The commands to contain it: evidence first, the lock last. proof: the facts of the evidence."""
    properties = at_path(found["account"].body, "properties") or {}
    gone, own = named_container(alert, found) == {}, {"container_name": alert.container}
    holds = alert.container[:1] not in ("", "$") and not any(
        properties.get(key) for key in ("isSftpEnabled", "isNfsV3Enabled")
    )
    frozen = [lock["name"] for lock in proof.get("locks", []) if lock["level"] == "ReadOnly"]
    soft = at_path(found["blob service"].body, "properties.deleteRetentionPolicy.enabled")
    policy = str((alert.sas or {}).get("policy") or "")
    address = {} if azure.settings.own_addresses else {"own_ip": "PUBLIC_ADDRESS_OF_THIS_ENGINE"}
    rows: list[tuple[object, str, Json]] = [
        (True, "account-activity-list", {"since": "90d", "all_results": "true"}),
        *((True, "account-lock-remove", {"lock_name": name}) for name in frozen),
        (at_path(proof, "logging.notLogged"), "account-logging-set", {"workspace_id": "ARM_ID_OF_A_WORKSPACE"}),
        (holds and not gone, "container-legal-hold-set", {**own, "tags": "incident"}),
        (gone, "container-restore", own),
        (found["blob service"].body and soft is not True, "blob-service-properties-set", KEEP_DELETED),
        (policy.isprintable() and policy and alert.container, "container-policy-revoke", {**own, "policy": policy}),
        (True, "account-isolate", address),
        (True, "access-list", {}),
        (True, "exposure-probe", {**own, "blob_name": alert.blob}),
        (True, "account-lock-set", {"level": "CanNotDelete"}),
    ]
    where = alert.account.arguments
    given = ((name, {key: value for key, value in args.items() if value}) for wanted, name, args in rows if wanted)
    return [command_line(name, where, args) for name, args in given]


TRIAGE_VIEW = View("Triage", "Triage of a storage account", {})


@command(
    "azure-storage-triage",
    needs=(
        READ_ACCOUNT,
        READ_CONTAINER,
        READ_SERVICE,
        READ_LOCKS,
        READ_LOGGING,
        READ_DEFENDER,
        READ_ROLES,
        READ_DEFINITIONS,
        READ_REPLICATION,
        READ_ACTIVITY,
    ),
    role="Reader",
)
def triage(azure: Azure, alert: AlertArgs, report: HtmlReport = None) -> CommandResults:
    """The whole picture in one entry: what could not be read is named as unknown with the reason, never as safe."""
    account, newest = read_account(azure, alert.account)
    found = with_container(azure, alert, {"account": account, **read_parts(azure, alert, newest=newest)})
    if account.error and all(reading.error for reading in found.values()):
        raise account.error
    changes = changes_in(found["activity log"])
    proof = evidence(alert, found, changes)
    past = history(found["activity log"], changes)
    sections = [summary(alert, found), reach(alert, found), past, proof, recovery(found)]
    unknown = [
        {"part": name, "reason": reading.reason or "only the first page was read"}
        for name, reading in found.items()
        if reading.more or (reading.error and name != "subscription")  # whose id is known
    ]
    commands = containment(azure, alert, found, proof.facts)
    facts: Json = {"id": alert.account.id, "time": iso_time(Clock.now()), "unknown": unknown, "commands": commands}
    for section in sections:
        facts |= section.facts
    if unknown:
        sections.append(Section("Unknown", {}, [f"{row['part']}: {in_text(row['reason'])}" for row in unknown]))
    if report:
        timeline = Timeline(Clock.now() - TRIAGE_DAYS * 86_400, Clock.now())
        for row in facts["changes"]:
            timeline.add(moment(row.get("time")), row["status"])
        page = triage_page(alert, report_facts(azure, alert.account.id), sections, commands, timeline.html())
        return_results(fileResult(f"triage-{alert.account}.html", "".join(page)))
    return CommandResults(
        outputs={TRIAGE_VIEW.context: facts} | ({INSPECT_VIEW.context: alert.sas} if alert.sas else {}),
        readable_output=triage_text(alert, sections, commands),
        raw_response=facts,
    )


def triage_page(
    alert: Alert, facts: Json, sections: list[Section], commands: list[str], timeline: Html
) -> Iterator[str]:
    """The triage as a page: a section for each part, and at last the commands to contain it."""
    parts = [html_section(section.title, html_list("ul", map(html_line, section.lines))) for section in sections]
    steps = html_list("ol", (element("code", line) for line in commands))
    note = element("p", f"Replace values in capital letters. {NOT_LISTED}")
    last = html_section("Containment, in this order", steps, note)
    return html_report(f"Triage of {alert.account}", facts, [*parts, last], timeline=timeline)


def triage_text(alert: Alert, sections: list[Section], commands: list[str]) -> str:
    """Short sections, each with a line for a fact."""
    text = [f"### Triage of {alert.account}"]
    for section in sections:
        text += [f"#### {section.title}", "\n".join(f"* {line}" for line in section.lines)]
    steps = "\n".join(f"{number}. {code(line)}" for number, line in enumerate(commands, 1))
    note = f"Replace values in capital letters. {NOT_LISTED}"
    return "\n".join([*text, "#### Containment, in this order", steps, "", note, ""])


# --- main --------------------------------------------------------------------------------------------------------------


def run(name: str, params: Mapping[str, Any], args: Mapping[str, Any]) -> Any:
    """The result of one command. Raises AzureStorageError for all that can be foreseen, NotImplementedError for an
    unknown command."""
    found = COMMANDS.get(name)
    if not found:
        raise NotImplementedError(f"There is no command {name} in this integration.")
    azure = Azure(read_settings(params), in_memory=name == "test-module")
    return found.call(azure, args)


def explain(error: Exception, name: str) -> str:
    """What the war room shows of a failure: never a secret, and for a missing permission which one the call needs."""
    if isinstance(error, NotImplementedError):
        return str(error)
    if not isinstance(error, AzureStorageError):
        demisto.debug(redact(traceback.format_exc()))
        return redact(f"Unexpected error in {name}: {type(error).__name__}: {error}")
    text = str(error)
    if isinstance(error, ServiceError) and error.permission:
        role = COMMANDS[name].role if name in COMMANDS else ""
        text += f"\n{error.permission}" + (f" The built-in role {role} includes it." if role else "")
    return redact(text)


def main() -> None:
    name, failure = demisto.command(), ""
    try:
        handle_proxy()
        return_results(run(name, demisto.params(), demisto.args()))
    except Exception as error:
        failure = explain(error, name)
    if failure:  # outside the except block: the platform logs the traceback of an exception that is being handled
        return_error(failure)


if __name__ in ("__main__", "__builtin__", "builtins"):
    main()
