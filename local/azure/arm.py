"""Azure Resource Manager as far as the integration calls it: a store in memory behind a table of routes.

Containers are not kept here but in the blob service, so that what is made on one side is seen on the other.
azure-mgmt-storage drives it in the tests. https://learn.microsoft.com/rest/api/storagerp/
"""

import base64
import copy
import re
import secrets
import threading
import uuid
from collections.abc import Callable
from typing import Any, Protocol

from .arm_parts import Parts
from .arm_rules import Rules, canonical
from .front import Reply, Request
from .response import ArmError, answer, empty, now

Json = dict[str, Any]
STORAGE = r"/providers/Microsoft\.Storage"
SUB = r"/subscriptions/(?P<sub>[^/]+)"
GROUP = SUB + r"/resourceGroups/(?P<group>[^/]+)"
ACCOUNT = GROUP + STORAGE + r"/storageAccounts/(?P<account>[^/]+)"
SERVICE = ACCOUNT + r"/blobServices/default"
CONTAINERS = SERVICE + r"/containers"
CONTAINER = CONTAINERS + r"/(?P<container>[^/]+)"
SKUS = (
    "Premium_LRS",
    "Premium_ZRS",
    "Standard_GRS",
    "Standard_GZRS",
    "Standard_LRS",
    "Standard_RAGRS",
    "Standard_RAGZRS",
    "Standard_ZRS",
)
KINDS = ("Storage", "StorageV2", "BlobStorage", "FileStorage", "BlockBlobStorage")
LOCATIONS = ("westeurope", "northeurope", "eastus", "eastus2", "westus", "westus2", "uksouth", "germanywestcentral")
# Properties of an account that ARM replaces as a unit.
WHOLE = ("networkAcls", "customDomain", "sasPolicy", "keyPolicy")


class BlobSide(Protocol):
    """What the store needs of the blob service."""

    def endpoint(self, account: str) -> str: ...
    def accounts_changed(self, keys: dict[str, list[str]]) -> None: ...
    def containers(self, account: str, key: str) -> list[Json]: ...
    def create(self, account: str, key: str, name: str, properties: Json) -> bool: ...
    def update(self, account: str, key: str, name: str, properties: Json) -> None: ...
    def delete(self, account: str, key: str, name: str) -> None: ...
    def lease(self, account: str, key: str, name: str, wanted: Json) -> Json: ...


Route = tuple[str, re.Pattern[str], Callable[..., Reply]]


def new_key() -> str:
    return base64.b64encode(secrets.token_bytes(64)).decode()


def deep_merge(old: Json, new: Json, whole: tuple[str, ...] = ()) -> Json:
    merged = dict(old)
    for key, value in new.items():
        deep = isinstance(value, dict) and isinstance(old.get(key), dict) and key not in whole
        merged[key] = deep_merge(old[key], value) if deep else value
    return merged


class Arm(Rules, Parts):
    """The store and its routes.

    page_size: items a page holds. polls: how often a creation is answered with 202 before it is done.
    `check_token(authorization)` returns an error message for a token that is not good, or "".
    """

    def __init__(self, tenant: str, blobs: BlobSide, check_token: Callable[[str], str]) -> None:
        self.tenant, self.blobs, self.check_token = tenant, blobs, check_token
        self.url = ""  # set once the front listens
        self.page_size, self.polls = 100, 1
        self.subscriptions: dict[str, Json] = {}
        self.groups: dict[tuple[str, str], Json] = {}
        self.accounts: dict[str, Json] = {}
        self.keys: dict[str, list[str]] = {}
        self.services: dict[str, Json] = {}
        self.deleted: dict[str, list[Json]] = {}
        self.extra: dict[tuple[str, str], Json] = {}  # container properties that the blob service does not keep
        self.operations: dict[str, list[Any]] = {}
        self.writes_left = 1200
        self.start_response()
        self._lock = threading.RLock()
        self._routes = self._make_routes()

    # What the owner of the machine sets up

    def add_subscription(self, subscription: str, name: str) -> None:
        self.subscriptions[subscription] = {
            "id": f"/subscriptions/{subscription}",
            "authorizationSource": "RoleBased",
            "managedByTenants": [],
            "subscriptionId": subscription,
            "tenantId": self.tenant,
            "displayName": name,
            "state": "Enabled",
            "subscriptionPolicies": {
                "locationPlacementId": "Public_2014-09-01",
                "quotaId": "PayAsYouGo_2014-09-01",
                "spendingLimit": "Off",
            },
        }

    def add_group(self, subscription: str, name: str, location: str = "westeurope", **tags: str) -> None:
        self.groups[subscription, name.lower()] = {
            "id": f"/subscriptions/{subscription}/resourceGroups/{name}",
            "name": name,
            "type": "Microsoft.Resources/resourceGroups",
            "location": location,
            "tags": tags,
            "properties": {"provisioningState": "Succeeded"},
        }

    def add_account(self, subscription: str, group: str, name: str, body: Json | None = None) -> Json:
        """An account that is there from the start, with the given settings over a new account's."""
        wanted = {"sku": {"name": "Standard_LRS"}, "kind": "StorageV2", "location": "westeurope", **(body or {})}
        account = self._new_account(subscription, group, name, wanted)
        self._keep(account)
        return account

    # A request

    def __call__(self, request: Request) -> Reply:
        request = canonical(request)
        ids = {"x-ms-request-id": str(uuid.uuid4()), "x-ms-correlation-request-id": str(uuid.uuid4())}
        try:
            reply = self._route(request)
        except ArmError as error:
            reply = answer({"error": {"code": error.code, "message": error.message}}, error.status)
            if error.status == 401:
                reply.headers["WWW-Authenticate"] = (
                    f'Bearer authorization_uri="{self.url}", error="invalid_token", error_description="{error.message}"'
                )
        reply.headers |= ids
        self.record(request, reply)
        if request.method == "GET":
            reply.headers["x-ms-ratelimit-remaining-subscription-reads"] = "11999"
        else:
            self.writes_left -= 1
            reply.headers["x-ms-ratelimit-remaining-subscription-writes"] = str(self.writes_left)
        return reply

    def _route(self, request: Request) -> Reply:
        if problem := self.check_token(request.headers.get("Authorization", "")):
            raise ArmError(
                401, "InvalidAuthenticationToken" if "expired" not in problem else "ExpiredAuthenticationToken", problem
            )
        if not (version := request.query.get("api-version", "")):
            raise ArmError(
                400,
                "MissingApiVersionParameter",
                "The api-version query parameter (?api-version=) is required for all requests.",
            )
        if not re.fullmatch(r"20\d\d-\d\d-\d\d(-preview)?", version):
            raise ArmError(400, "InvalidApiVersionParameter", f"The api-version '{version}' is invalid.")
        self.check_response(request)
        allowed = False
        for method, pattern, handle in self._routes:
            if not (found := pattern.fullmatch(request.path.rstrip("/"))):
                continue
            if method == request.method:
                with self._lock:
                    return handle(request, **found.groupdict())
            allowed = True
        if allowed:
            raise ArmError(405, "MethodNotAllowed", f"The method '{request.method}' is not allowed on this resource.")
        raise ArmError(404, "InvalidResourceType", f"The resource type could not be found: {request.path}")

    def _make_routes(self) -> list[Route]:
        rows: tuple[tuple[str, str, Callable[..., Reply]], ...] = (
            ("GET", "/subscriptions", self.list_subscriptions),
            ("GET", SUB, self.get_subscription),
            ("GET", SUB + "/resourceGroups", self.list_groups),
            ("GET", GROUP, self.get_group),
            ("GET", SUB + STORAGE + "/storageAccounts", self.list_accounts),
            ("POST", SUB + STORAGE + "/checkNameAvailability", self.check_name),
            ("GET", SUB + STORAGE + r"/locations/[^/]+/asyncoperations/(?P<operation>[^/]+)", self.get_operation),
            ("GET", GROUP + STORAGE + "/storageAccounts", self.list_accounts),
            ("PUT", ACCOUNT, self.put_account),
            ("GET", ACCOUNT, self.get_account),
            ("PATCH", ACCOUNT, self.patch_account),
            ("DELETE", ACCOUNT, self.delete_account),
            ("POST", ACCOUNT + "/listKeys", self.list_keys),
            ("POST", ACCOUNT + "/regenerateKey", self.regenerate_key),
            ("GET", ACCOUNT + "/blobServices", self.list_services),
            ("GET", SERVICE, self.get_service),
            ("PUT", SERVICE, self.put_service),
            ("GET", CONTAINERS, self.list_containers),
            ("GET", CONTAINER, self.get_container),
            ("PUT", CONTAINER, self.put_container),
            ("PATCH", CONTAINER, self.patch_container),
            ("DELETE", CONTAINER, self.delete_container),
            *self.response_routes(),
        )
        return [(method, re.compile(pattern, re.IGNORECASE), handle) for method, pattern, handle in rows]

    def _page(self, request: Request, items: list[Json], size: int | None = None) -> Reply:
        """Part of a collection; the link to the rest carries a $skipToken, as ARM's does."""
        start = int(request.query.get("$skipToken") or 0)
        end = start + min(size or self.page_size, self.page_size)
        page: Json = {"value": items[start:end]}
        if end < len(items):
            kept = "&".join(part for part in request.target.partition("?")[2].split("&") if "skipToken" not in part)
            page["nextLink"] = f"{self.url}{request.target.partition('?')[0]}?{kept}&$skipToken={end}"
        return answer(page)

    # Subscriptions and groups

    def _subscription(self, sub: str) -> Json:
        if sub.lower() not in self.subscriptions:
            raise ArmError(404, "SubscriptionNotFound", f"The subscription '{sub}' could not be found.")
        return self.subscriptions[sub.lower()]

    def _group(self, sub: str, group: str) -> Json:
        self._subscription(sub)
        if (sub.lower(), group.lower()) not in self.groups:
            raise ArmError(404, "ResourceGroupNotFound", f"Resource group '{group}' could not be found.")
        return self.groups[sub.lower(), group.lower()]

    def list_subscriptions(self, request: Request) -> Reply:
        return self._page(request, list(self.subscriptions.values()))

    def get_subscription(self, request: Request, sub: str) -> Reply:
        return answer(self._subscription(sub))

    def list_groups(self, request: Request, sub: str) -> Reply:
        self._subscription(sub)
        found = [group for (owner, _), group in self.groups.items() if owner == sub.lower()]
        wanted = re.fullmatch(r"tagName eq '(.*?)' and tagValue eq '(.*)'", request.query.get("$filter", ""))
        if wanted:
            name, value = (part.replace("''", "'") for part in wanted.groups())
            found = [group for group in found if group["tags"].get(name) == value]
        return self._page(request, found, int(request.query.get("$top") or 0) or None)

    def get_group(self, request: Request, sub: str, group: str) -> Reply:
        return answer(self._group(sub, group))

    # Accounts

    def _account(self, sub: str, group: str, account: str) -> Json:
        self._group(sub, group)
        found = self.accounts.get(account.lower())
        if not found or f"/{sub}/resourceGroups/{group}/".lower() not in found["id"].lower():
            raise ArmError(
                404,
                "ResourceNotFound",
                f"The Resource 'Microsoft.Storage/storageAccounts/{account}' under resource group '{group}' was not found.",
            )
        return found

    def _keep(self, account: Json) -> None:
        name = account["name"]
        self.accounts[name] = account
        self.keys.setdefault(name, [new_key(), new_key()])
        self.services.setdefault(
            name,
            {"deleteRetentionPolicy": {"allowPermanentDelete": False, "enabled": False}, "cors": {"corsRules": []}},
        )
        self.blobs.accounts_changed(self.keys)

    def _new_account(self, sub: str, group: str, name: str, body: Json) -> Json:
        created = now()
        services = {
            kind: {"keyType": "Account", "enabled": True, "lastEnabledTime": created} for kind in ("file", "blob")
        }
        properties: Json = {
            "keyCreationTime": {"key1": created, "key2": created},
            "privateEndpointConnections": [],
            "minimumTlsVersion": "TLS1_2",
            "allowBlobPublicAccess": False,
            "networkAcls": {
                "resourceAccessRules": [],
                "bypass": "AzureServices",
                "virtualNetworkRules": [],
                "ipRules": [],
                "defaultAction": "Allow",
            },
            "supportsHttpsTrafficOnly": True,
            "encryption": {"services": services, "keySource": "Microsoft.Storage"},
            "accessTier": "Hot",
            "provisioningState": "Succeeded",
            "creationTime": created,
            "primaryEndpoints": {"blob": self.blobs.endpoint(name)},
            "primaryLocation": body["location"],
            "statusOfPrimary": "available",
        }
        return {
            "sku": {"name": body["sku"]["name"], "tier": body["sku"]["name"].split("_")[0]},
            "kind": body["kind"],
            "id": f"{self._group(sub, group)['id']}/providers/Microsoft.Storage/storageAccounts/{name}",
            "name": name,
            "type": "Microsoft.Storage/storageAccounts",
            "location": body["location"],
            "tags": body.get("tags") or {},
            "properties": deep_merge(properties, body.get("properties") or {}),
        }

    @staticmethod
    def _check_new(name: str, body: Json) -> None:
        if not re.fullmatch(r"[a-z0-9]{3,24}", name):
            raise ArmError(
                400,
                "AccountNameInvalid",
                f"{name} is not a valid storage account name. Storage account name must be between 3 and 24 characters in "
                "length and use numbers and lower-case letters only.",
            )
        if (body.get("sku") or {}).get("name") not in SKUS:
            raise ArmError(400, "InvalidValuesForRequestParameters", "Values for request parameters are invalid: sku.")
        if body.get("kind") not in KINDS:
            raise ArmError(400, "InvalidValuesForRequestParameters", "Values for request parameters are invalid: kind.")
        if body.get("location") not in LOCATIONS:
            known = ",".join(LOCATIONS)
            raise ArmError(
                400,
                "LocationNotAvailableForResourceType",
                f"The provided location '{body.get('location')}' is not available for resource type "
                f"'Microsoft.Storage/storageAccounts'. List of available regions for the resource type is '{known}'.",
            )

    def list_accounts(self, request: Request, sub: str, group: str = "") -> Reply:
        scope = (self._group(sub, group) if group else self._subscription(sub))["id"].lower() + "/"
        return self._page(request, [item for item in self.accounts.values() if item["id"].lower().startswith(scope)])

    def check_name(self, request: Request, sub: str) -> Reply:
        name = request.json().get("name", "")
        taken = name in self.accounts
        reason = {"reason": "AlreadyExists", "message": f"The storage account named {name} is already taken."}
        return answer({"nameAvailable": not taken, **(reason if taken else {})})

    def put_account(self, request: Request, sub: str, group: str, account: str) -> Reply:
        self._group(sub, group)
        body = request.json()
        self._check_new(account, body)
        if account in self.accounts:
            try:
                existing = self._account(sub, group, account)
            except ArmError:
                raise ArmError(
                    409, "StorageAccountAlreadyTaken", f"The storage account named {account} is already taken."
                ) from None
            return answer(self._patched(existing, {key: value for key, value in body.items() if key != "location"}))
        created = self._new_account(sub, group, account, body)
        self._keep(created)
        operation = str(uuid.uuid4())
        self.operations[operation] = [self.polls, created]
        path = f"/subscriptions/{sub}/providers/Microsoft.Storage/locations/{created['location']}/asyncoperations/{operation}"
        location = f"{self.url}{path}?monitor=true&api-version={request.query['api-version']}"
        return empty(202, Location=location, **{"Retry-After": "1"})

    def get_operation(self, request: Request, sub: str, operation: str) -> Reply:
        if operation not in self.operations:
            raise ArmError(404, "OperationNotFound", "The operation was not found.")
        entry = self.operations[operation]
        if entry[0] > 0:
            entry[0] -= 1
            return empty(202, Location=self.url + request.target, **{"Retry-After": "1"})
        return answer(entry[1])

    def get_account(self, request: Request, sub: str, group: str, account: str) -> Reply:
        found = self._account(sub, group, account)
        status = (
            self.restore_status(found["name"], step=True)
            if "blobRestoreStatus" in request.query.get("$expand", "")
            else {}
        )
        extra = {"blobRestoreStatus": status} if status else {}
        return answer({**found, "properties": {**found["properties"], **extra}})

    def patch_account(self, request: Request, sub: str, group: str, account: str) -> Reply:
        return answer(self._patched(self._account(sub, group, account), request.json()))

    @staticmethod
    def _patched(account: Json, patch: Json) -> Json:
        """As ARM does it: tags and some properties are replaced as a unit, the rest is merged."""
        if (patch.get("sku") or {}).get("name", SKUS[0]) not in SKUS:
            raise ArmError(400, "InvalidValuesForRequestParameters", "Values for request parameters are invalid: sku.")
        for key in ("tags", "sku", "kind"):
            if patch.get(key) is not None:
                account[key] = patch[key]
        if "tier" not in account["sku"]:
            account["sku"]["tier"] = account["sku"]["name"].split("_")[0]
        account["properties"] = deep_merge(account["properties"], patch.get("properties") or {}, WHOLE)
        return account

    def delete_account(self, request: Request, sub: str, group: str, account: str) -> Reply:
        try:
            found = self._account(sub, group, account)
        except ArmError as error:
            if error.code == "ResourceNotFound":
                return empty(204)
            raise
        self.refuse_protected(found["name"])
        for part in (self.accounts, self.keys, self.services, self.deleted):
            part.pop(found["name"], None)
        self.forget(found["name"])
        self.blobs.accounts_changed(self.keys)
        return empty(200)

    def _keys(self, account: Json) -> Json:
        times = account["properties"]["keyCreationTime"]
        pairs = zip(("key1", "key2"), self.keys[account["name"]], strict=True)
        return {
            "keys": [
                {"creationTime": times[k], "keyName": k, "value": value, "permissions": "FULL"} for k, value in pairs
            ]
        }

    def list_keys(self, request: Request, sub: str, group: str, account: str) -> Reply:
        return answer(self._keys(self._account(sub, group, account)))

    def regenerate_key(self, request: Request, sub: str, group: str, account: str) -> Reply:
        found = self._account(sub, group, account)
        name = request.json().get("keyName")
        if name not in ("key1", "key2"):
            raise ArmError(400, "InvalidKeyName", f"The key name '{name}' is not valid.")
        self.keys[found["name"]][int(name[-1]) - 1] = new_key()
        found["properties"]["keyCreationTime"][name] = now()
        self.blobs.accounts_changed(self.keys)
        return answer(self._keys(found))

    # Blob service

    def _service(self, account: Json) -> Json:
        return {
            "sku": account["sku"],
            "id": f"{account['id']}/blobServices/default",
            "name": "default",
            "type": "Microsoft.Storage/storageAccounts/blobServices",
            "properties": self.services[account["name"]],
        }

    def list_services(self, request: Request, sub: str, group: str, account: str) -> Reply:
        return answer({"value": [self._service(self._account(sub, group, account))]})

    def get_service(self, request: Request, sub: str, group: str, account: str) -> Reply:
        return answer(self._service(self._account(sub, group, account)))

    def put_service(self, request: Request, sub: str, group: str, account: str) -> Reply:
        """Replaces everything: what is not in the body is gone."""
        found = self._account(sub, group, account)
        properties = request.json().get("properties") or {}
        for policy in ("deleteRetentionPolicy", "containerDeleteRetentionPolicy", "restorePolicy"):
            settings = properties.get(policy) or {}
            if settings.get("enabled") and not isinstance(settings.get("days"), int):
                raise ArmError(
                    400,
                    "InvalidValuesForRequestParameters",
                    f"Values for request parameters are invalid: {policy}.days.",
                )
        properties.setdefault("cors", {"corsRules": []})
        properties.setdefault("deleteRetentionPolicy", {"allowPermanentDelete": False, "enabled": False})
        restore = properties.get("restorePolicy") or {}
        if restore.get("enabled"):
            restore.setdefault("lastEnabledTime", now())
            restore["minRestoreTime"] = now()
        self.services[found["name"]] = properties
        return answer(self._service(found))

    # Containers

    def _container(self, account: Json, item: Json) -> Json:
        name = item["name"]
        properties = {
            "deleted": False,
            "remainingRetentionDays": 0,
            "defaultEncryptionScope": "$account-encryption-key",
            "denyEncryptionScopeOverride": False,
            **item["properties"],
            **self.extra.get((account["name"], name), {}),
            **self.container_extra(account["name"], name),
        }
        return {
            "id": f"{account['id']}/blobServices/default/containers/{name}",
            "name": name,
            "type": "Microsoft.Storage/storageAccounts/blobServices/containers",
            "etag": item["etag"],
            "properties": properties,
        }

    def _live(self, account: Json) -> list[Json]:
        name = account["name"]
        return [self._container(account, item) for item in self.blobs.containers(name, self.keys[name][0])]

    def _find(self, account: Json, container: str) -> Json:
        for item in self._live(account):
            if item["name"] == container:
                return item
        raise ArmError(
            404, "ContainerNotFound", f"The specified container does not exist.\nRequestId:{uuid.uuid4()}\nTime:{now()}"
        )

    def list_containers(self, request: Request, sub: str, group: str, account: str) -> Reply:
        found = self._account(sub, group, account)
        items = self._live(found)
        if request.query.get("$include") == "deleted":
            items = sorted(items + self.deleted.get(found["name"], []), key=lambda item: item["name"])
        prefix = request.query.get("$filter", "")
        items = [item for item in items if item["name"].startswith(prefix)]
        return self._page(request, items, int(request.query.get("$maxpagesize") or 0) or None)

    def get_container(self, request: Request, sub: str, group: str, account: str, container: str) -> Reply:
        return answer(self._find(self._account(sub, group, account), container))

    def put_container(self, request: Request, sub: str, group: str, account: str, container: str) -> Reply:
        found = self._account(sub, group, account)
        if not re.fullmatch(r"(?!.*--)[a-z0-9][a-z0-9-]{1,61}[a-z0-9]|\$root|\$web|\$logs", container):
            raise ArmError(400, "ContainerOperationFailure", "The specified resource name contains invalid characters.")
        properties = request.json().get("properties") or {}
        self._check_public(found, properties)
        created = self.blobs.create(found["name"], self.keys[found["name"]][0], container, properties)
        self._keep_extra(found["name"], container, properties)
        body = self._find(found, container)
        return answer(
            {key: body[key] for key in ("id", "name", "type")} | {"properties": body["properties"]},
            201 if created else 200,
        )

    def patch_container(self, request: Request, sub: str, group: str, account: str, container: str) -> Reply:
        found = self._account(sub, group, account)
        self._find(found, container)
        properties = request.json().get("properties") or {}
        self._check_public(found, properties)
        self.blobs.update(found["name"], self.keys[found["name"]][0], container, properties)
        self._keep_extra(found["name"], container, properties)
        return answer(self._find(found, container))

    @staticmethod
    def _check_public(account: Json, properties: Json) -> None:
        if properties.get("publicAccess", "None") != "None" and not account["properties"].get("allowBlobPublicAccess"):
            raise ArmError(409, "PublicAccessNotPermitted", "Public access is not permitted on this storage account.")

    def _keep_extra(self, account: str, container: str, properties: Json) -> None:
        names = ("defaultEncryptionScope", "denyEncryptionScopeOverride")
        self.extra.setdefault((account, container), {}).update({n: properties[n] for n in names if n in properties})

    def delete_container(self, request: Request, sub: str, group: str, account: str, container: str) -> Reply:
        found = self._account(sub, group, account)
        try:
            item = copy.deepcopy(self._find(found, container))
        except ArmError:
            return empty(204)
        self.refuse_protected(found["name"], container)
        self.blobs.delete(found["name"], self.keys[found["name"]][0], container)
        self.extra.pop((found["name"], container), None)
        retention = self.services[found["name"]].get("containerDeleteRetentionPolicy") or {}
        if retention.get("enabled"):
            deleted = {
                "deleted": True,
                "deletedTime": now(),
                "remainingRetentionDays": retention["days"],
                "version": f"{secrets.token_hex(8).upper()}",
            }
            item["properties"] |= deleted
            self.deleted.setdefault(found["name"], []).append(item)
        return empty(200)
