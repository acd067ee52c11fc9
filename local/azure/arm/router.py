"""Resource Manager as an application: the table of its routes, and what it does with every request.

azure-mgmt-storage and azure-mgmt-authorization drive it in the tests. https://learn.microsoft.com/rest/api/
"""

import re
import uuid
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from ..front import Reply, Request
from . import (
    accounts,
    activity_log,
    containers,
    defender,
    diagnostics,
    encryption_scopes,
    keys,
    local_users,
    locks,
    log_queries,
    management_policies,
    metadata,
    object_replication,
    policies_and_holds,
    private_endpoints,
    resource_graph,
    restore,
    roles,
    services,
    sharing,
    subscriptions,
    versions,
)
from .answers import ArmError, answer
from .call import Call, Caller
from .paths import (
    ACCOUNT,
    ASSIGNMENTS,
    CONTAINER,
    CONTAINERS,
    DEFENDER,
    DEFINITIONS,
    DIAGNOSED,
    DIAGNOSTICS,
    EVENTS,
    GROUP,
    IMMUTABILITY,
    LOCKS,
    SCOPE,
    SERVICE,
    STORAGE,
    SUB,
    matcher,
    scope_of,
)
from .store import Arm

Handle = Callable[[Arm, Call], Reply]
AT_ACCOUNTS = "Microsoft.Storage/storageAccounts"
AT_CONTAINERS = f"{AT_ACCOUNTS}/blobServices/containers"
AT_POLICIES = f"{AT_CONTAINERS}/immutabilityPolicies"
AUTHORIZATION = "Microsoft.Authorization"
SETTINGS = "Microsoft.Insights/diagnosticSettings"
DEFENDER_SETTINGS = "Microsoft.Security/defenderForStorageSettings"
RESOURCES = "Microsoft.Resources/subscriptions"
VERSION = re.compile(r"20\d\d-\d\d-\d\d(-preview)?")
METADATA = "/metadata/endpoints"


class Route(NamedTuple):
    """What is answered by whom, in which api-versions, and what a role must hold for it."""

    method: str
    template: str
    handle: Handle
    versions: tuple[str, ...]
    permission: str


def storage_routes() -> list[Route]:
    found: list[tuple[str, str, Handle, str]] = [
        ("GET", SUB + STORAGE + "/storageAccounts", accounts.list_accounts, f"{AT_ACCOUNTS}/read"),
        ("GET", GROUP + STORAGE + "/storageAccounts", accounts.list_accounts, f"{AT_ACCOUNTS}/read"),
        (
            "POST",
            SUB + STORAGE + "/checkNameAvailability",
            accounts.check_name,
            "Microsoft.Storage/checkNameAvailability/read",
        ),
        ("GET", SUB + STORAGE + "/skus", subscriptions.list_skus, "Microsoft.Storage/skus/read"),
        (
            "GET",
            SUB + STORAGE + "/locations/{location}/usages",
            subscriptions.list_usages,
            "Microsoft.Storage/locations/usages/read",
        ),
        (
            "GET",
            SUB + STORAGE + "/locations/{location}/asyncoperations/{operation}",
            accounts.get_operation,
            "Microsoft.Storage/locations/asyncoperations/read",
        ),
        (
            "GET",
            SUB + STORAGE + "/locations/{location}/operationResults/{restore}",
            restore.restore_result,
            "Microsoft.Storage/locations/operationResults/read",
        ),
        ("PUT", ACCOUNT, accounts.put_account, f"{AT_ACCOUNTS}/write"),
        ("GET", ACCOUNT, accounts.get_account, f"{AT_ACCOUNTS}/read"),
        ("PATCH", ACCOUNT, accounts.patch_account, f"{AT_ACCOUNTS}/write"),
        ("DELETE", ACCOUNT, accounts.delete_account, f"{AT_ACCOUNTS}/delete"),
        ("POST", ACCOUNT + "/listKeys", keys.list_keys, f"{AT_ACCOUNTS}/listKeys/action"),
        ("POST", ACCOUNT + "/regenerateKey", keys.regenerate_key, f"{AT_ACCOUNTS}/regenerateKey/action"),
        (
            "POST",
            ACCOUNT + "/revokeUserDelegationKeys",
            keys.revoke_delegation_keys,
            f"{AT_ACCOUNTS}/revokeUserDelegationKeys/action",
        ),
        ("POST", ACCOUNT + "/restoreBlobRanges", restore.start_restore, f"{AT_ACCOUNTS}/restoreBlobRanges/action"),
        ("GET", ACCOUNT + "/blobServices", services.list_blob_services, f"{AT_ACCOUNTS}/blobServices/read"),
        ("GET", SERVICE, services.get_blob_service, f"{AT_ACCOUNTS}/blobServices/read"),
        ("PUT", SERVICE, services.put_blob_service, f"{AT_ACCOUNTS}/blobServices/write"),
        ("GET", CONTAINERS, containers.list_containers, f"{AT_CONTAINERS}/read"),
        ("GET", CONTAINER, containers.get_container, f"{AT_CONTAINERS}/read"),
        ("PUT", CONTAINER, containers.put_container, f"{AT_CONTAINERS}/write"),
        ("PATCH", CONTAINER, containers.patch_container, f"{AT_CONTAINERS}/write"),
        ("DELETE", CONTAINER, containers.delete_container, f"{AT_CONTAINERS}/delete"),
        ("POST", CONTAINER + "/lease", containers.lease, f"{AT_CONTAINERS}/lease/action"),
        ("POST", CONTAINER + "/setLegalHold", policies_and_holds.set_hold, f"{AT_CONTAINERS}/setLegalHold/action"),
        (
            "POST",
            CONTAINER + "/clearLegalHold",
            policies_and_holds.clear_hold,
            f"{AT_CONTAINERS}/clearLegalHold/action",
        ),
        ("GET", IMMUTABILITY, policies_and_holds.get_policy, f"{AT_POLICIES}/read"),
        ("PUT", IMMUTABILITY, policies_and_holds.put_policy, f"{AT_POLICIES}/write"),
        ("DELETE", IMMUTABILITY, policies_and_holds.delete_policy, f"{AT_POLICIES}/delete"),
        ("POST", IMMUTABILITY + "/lock", policies_and_holds.lock_policy, f"{AT_POLICIES}/lock/action"),
        ("POST", IMMUTABILITY + "/extend", policies_and_holds.extend_policy, f"{AT_POLICIES}/extend/action"),
        ("GET", ACCOUNT + "/privateLinkResources", private_endpoints.list_link_resources, f"{AT_ACCOUNTS}/read"),
        (
            "POST",
            ACCOUNT + "/localUsers/{name}/listKeys",
            local_users.list_user_keys,
            f"{AT_ACCOUNTS}/localUsers/listKeys/action",
        ),
        (
            "POST",
            ACCOUNT + "/localUsers/{name}/regeneratePassword",
            local_users.regenerate_password,
            f"{AT_ACCOUNTS}/localUsers/regeneratePassword/action",
        ),
        *other_service_routes(),
        *part_routes(),
    ]
    return [Route(method, path, handle, versions.STORAGE, permission) for method, path, handle, permission in found]


def other_service_routes() -> list[tuple[str, str, Handle, str]]:
    found: list[tuple[str, str, Handle, str]] = []
    for service in services.USUAL:
        base, right = f"{ACCOUNT}/{service}Services", f"{AT_ACCOUNTS}/{service}Services"
        found += [
            ("GET", base, partial(services.list_others, service=service), f"{right}/read"),
            ("GET", f"{base}/default", partial(services.get_other, service=service), f"{right}/read"),
            ("PUT", f"{base}/default", partial(services.put_other, service=service), f"{right}/write"),
        ]
    return found


def part_routes() -> list[tuple[str, str, Handle, str]]:
    """What an account has by name: list it, and do something with one of it."""
    rights = {"GET": "read", "PUT": "write", "PATCH": "write", "DELETE": "delete"}
    kinds: list[tuple[str, str, Handle | None, dict[str, Handle]]] = [
        (
            "managementPolicies",
            "{policy}",
            None,
            {
                "GET": management_policies.get_lifecycle,
                "PUT": management_policies.put_lifecycle,
                "DELETE": management_policies.delete_lifecycle,
            },
        ),
        (
            "inventoryPolicies",
            "{policy}",
            management_policies.list_inventory,
            {
                "GET": management_policies.get_inventory,
                "PUT": management_policies.put_inventory,
                "DELETE": management_policies.delete_inventory,
            },
        ),
        (
            "privateEndpointConnections",
            "{connection}",
            private_endpoints.list_connections,
            {
                "GET": private_endpoints.get_connection,
                "PUT": private_endpoints.put_connection,
                "DELETE": private_endpoints.delete_connection,
            },
        ),
        (
            "objectReplicationPolicies",
            "{policy}",
            object_replication.list_policies,
            {
                "GET": object_replication.get_policy,
                "PUT": object_replication.put_policy,
                "DELETE": object_replication.delete_policy,
            },
        ),
        (
            "encryptionScopes",
            "{name}",
            encryption_scopes.list_scopes,
            {
                "GET": encryption_scopes.get_scope,
                "PUT": encryption_scopes.put_scope,
                "PATCH": encryption_scopes.patch_scope,
            },
        ),
        (
            "localUsers",
            "{name}",
            local_users.list_users,
            {"GET": local_users.get_user, "PUT": local_users.put_user, "DELETE": local_users.delete_user},
        ),
    ]
    found: list[tuple[str, str, Handle, str]] = []
    for kind, name, lister, handles in kinds:
        found += [("GET", f"{ACCOUNT}/{kind}", lister, f"{AT_ACCOUNTS}/{kind}/read")] if lister else []
        for method, handle in handles.items():
            found.append((method, f"{ACCOUNT}/{kind}/{name}", handle, f"{AT_ACCOUNTS}/{kind}/{rights[method]}"))
    return found


def sharing_routes() -> list[Route]:
    found = []
    for kind, known in sharing.KINDS.items():
        one, right = f"{ACCOUNT}/{kind}/{{name}}", f"{AT_ACCOUNTS}/{kind}"
        found += [
            Route("GET", f"{ACCOUNT}/{kind}", partial(sharing.list_sharing, kind=kind), known, f"{right}/read"),
            Route("GET", one, partial(sharing.get_sharing, kind=kind), known, f"{right}/read"),
            Route("DELETE", one, partial(sharing.delete_sharing, kind=kind), known, f"{right}/delete"),
        ]
    return found


ROUTES: tuple[Route, ...] = (
    Route("GET", "/tenants", subscriptions.list_tenants, versions.RESOURCES, "Microsoft.Resources/tenants/read"),
    Route("GET", "/subscriptions", subscriptions.list_subscriptions, versions.RESOURCES, f"{RESOURCES}/read"),
    Route("GET", SUB, subscriptions.get_subscription, versions.RESOURCES, f"{RESOURCES}/read"),
    Route("GET", SUB + "/locations", subscriptions.list_locations, versions.RESOURCES, f"{RESOURCES}/locations/read"),
    Route("GET", SUB + "/resources", subscriptions.list_resources, versions.RESOURCES, f"{RESOURCES}/resources/read"),
    Route(
        "GET",
        SUB + "/resourceGroups",
        subscriptions.list_groups,
        versions.RESOURCES,
        f"{RESOURCES}/resourceGroups/read",
    ),
    Route("GET", GROUP, subscriptions.get_group, versions.RESOURCES, f"{RESOURCES}/resourceGroups/read"),
    *storage_routes(),
    Route(
        "POST",
        "/providers/Microsoft.ResourceGraph/resources",
        resource_graph.search,
        versions.GRAPH,
        "Microsoft.ResourceGraph/resources/read",
    ),
    Route(
        "GET",
        EVENTS,
        activity_log.list_events,
        versions.ACTIVITY,
        "Microsoft.Insights/eventtypes/management/values/read",
    ),
    Route(
        "POST",
        ACCOUNT + "/providers/Microsoft.Insights/logs",
        log_queries.query,
        versions.LOG_QUERIES,
        "Microsoft.Insights/logs/StorageBlobLogs/read",
    ),
    Route("GET", DIAGNOSED + DIAGNOSTICS, diagnostics.list_settings, versions.DIAGNOSTICS, f"{SETTINGS}/read"),
    Route(
        "GET", DIAGNOSED + DIAGNOSTICS + "/{name}", diagnostics.get_setting, versions.DIAGNOSTICS, f"{SETTINGS}/read"
    ),
    Route(
        "PUT", DIAGNOSED + DIAGNOSTICS + "/{name}", diagnostics.put_setting, versions.DIAGNOSTICS, f"{SETTINGS}/write"
    ),
    Route(
        "DELETE",
        DIAGNOSED + DIAGNOSTICS + "/{name}",
        diagnostics.delete_setting,
        versions.DIAGNOSTICS,
        f"{SETTINGS}/delete",
    ),
    Route(
        "GET",
        DIAGNOSED + DIAGNOSTICS + "Categories",
        diagnostics.list_categories,
        versions.DIAGNOSTICS,
        "Microsoft.Insights/diagnosticSettingsCategories/read",
    ),
    Route("GET", DEFENDER, defender.get_settings, versions.DEFENDER, f"{DEFENDER_SETTINGS}/read"),
    Route("PUT", DEFENDER, defender.put_settings, versions.DEFENDER, f"{DEFENDER_SETTINGS}/write"),
    Route(
        "POST",
        DEFENDER + "/startMalwareScan",
        defender.start_scan,
        versions.SCANS,
        f"{DEFENDER_SETTINGS}/startMalwareScan/action",
    ),
    Route("GET", SCOPE + LOCKS, locks.list_locks, versions.LOCKS, f"{AUTHORIZATION}/locks/read"),
    Route("GET", SCOPE + LOCKS + "/{lock}", locks.get_lock, versions.LOCKS, f"{AUTHORIZATION}/locks/read"),
    Route("PUT", SCOPE + LOCKS + "/{lock}", locks.put_lock, versions.LOCKS, f"{AUTHORIZATION}/locks/write"),
    Route("DELETE", SCOPE + LOCKS + "/{lock}", locks.delete_lock, versions.LOCKS, f"{AUTHORIZATION}/locks/delete"),
    Route("GET", SCOPE + ASSIGNMENTS, roles.list_assignments, versions.ROLES, f"{AUTHORIZATION}/roleAssignments/read"),
    *(
        Route(method, SCOPE + ASSIGNMENTS + "/{assignment}", handle, versions.ROLES, f"{AUTHORIZATION}/{right}")
        for method, handle, right in (
            ("GET", roles.get_assignment, "roleAssignments/read"),
            ("PUT", roles.put_assignment, "roleAssignments/write"),
            ("DELETE", roles.delete_assignment, "roleAssignments/delete"),
        )
    ),
    Route("GET", SCOPE + DEFINITIONS, roles.list_definitions, versions.ROLES, f"{AUTHORIZATION}/roleDefinitions/read"),
    *(
        Route(method, SCOPE + DEFINITIONS + "/{role}", handle, versions.ROLES, f"{AUTHORIZATION}/{right}")
        for method, handle, right in (
            ("GET", roles.get_definition, "roleDefinitions/read"),
            ("PUT", roles.put_definition, "roleDefinitions/write"),
            ("DELETE", roles.delete_definition, "roleDefinitions/delete"),
        )
    ),
    *sharing_routes(),
)
MATCHERS = tuple((route, matcher(route.template)) for route in ROUTES)
# The fixed words of paths, as Microsoft writes them. Clients write them in any case; locks and logs compare them.
WORDS = {word.lower(): word for route in ROUTES for word in route.template.split("/") if word and "{" not in word}


def canonical(path: str) -> str:
    """The path with its fixed words as Microsoft writes them. Its command line sends empty segments, which ARM skips."""
    return "/" + "/".join(WORDS.get(word.lower(), word) for word in path.split("/") if word)


class ResourceManager:
    """An application for the ARM front.

    `claims_of(authorization)` returns the content of a good token, or an error message for one that is not good.
    """

    def __init__(self, arm: Arm, claims_of: Callable[[str], dict[str, object] | str]) -> None:
        self.arm, self._claims_of = arm, claims_of

    def __call__(self, request: Request) -> Reply:
        ids = {"x-ms-request-id": str(uuid.uuid4()), "x-ms-correlation-request-id": str(uuid.uuid4())}
        reply = self._answered(request, canonical(request.path), ids)
        reply.headers |= ids
        self._tell_quota(request, reply)
        return reply

    def _answered(self, request: Request, path: str, ids: dict[str, str]) -> Reply:
        if path == METADATA:
            return answer(metadata.endpoints(self.arm))
        try:
            route, call = self._read(request, path)
        except ArmError as error:
            return self._refusal(error)
        reply = self._served(route, call)
        reply.headers |= ids
        activity_log.record(self.arm, call, reply)
        return reply

    def _refusal(self, error: ArmError) -> Reply:
        reply = answer({"error": {"code": error.code, "message": error.message}}, error.status)
        if error.status == 401:
            reply.headers["WWW-Authenticate"] = (
                f'Bearer authorization_uri="{self.arm.authority_url}", error="invalid_token", '
                f'error_description="{error.message}"'
            )
        if error.status == 429:
            reply.headers["Retry-After"] = str(self.arm.modes.retry_after)
        return reply

    def _tell_quota(self, request: Request, reply: Reply) -> None:
        if request.method in ("GET", "HEAD"):
            reply.headers["x-ms-ratelimit-remaining-subscription-reads"] = "11999"
            return
        self.arm.writes_left -= 1
        reply.headers["x-ms-ratelimit-remaining-subscription-writes"] = str(self.arm.writes_left)

    # What every request goes through, in Azure's order

    def _read(self, request: Request, path: str) -> tuple[Route, Call]:
        """The request with its route. ArmError for a bad token, no version, a path that nobody answers."""
        caller = self._caller(request.headers.get("Authorization", ""))
        self._throttle()
        check_version(request.query.get("api-version", ""))
        found = [(route, match) for route, pattern in MATCHERS if (match := pattern.fullmatch(path))]
        for route, match in found:
            if route.method == request.method:
                call = Call(request, path, match.groupdict(), route.permission, caller)
                versions.check_known(self.arm, call.version, route.versions, route.permission.split("/")[-2])
                return route, call
        if found:
            raise ArmError(405, "MethodNotAllowed", f"The method '{request.method}' is not allowed on this resource.")
        raise ArmError(404, "InvalidResourceType", f"The resource type could not be found: {path}")

    def _caller(self, authorization: str) -> Caller:
        claims = self._claims_of(authorization)
        if isinstance(claims, str):
            expired = "expired" in claims
            raise ArmError(401, "ExpiredAuthenticationToken" if expired else "InvalidAuthenticationToken", claims)
        return Caller(claims)

    def _throttle(self) -> None:
        modes = self.arm.modes
        self.arm.requests_served += 1
        if modes.throttle_after is not None and self.arm.requests_served > modes.throttle_after:
            message = f"Number of requests exceeded the limit. Please try again after '{modes.retry_after}' seconds."
            raise ArmError(429, "TooManyRequests", message)

    def _served(self, route: Route, call: Call) -> Reply:
        """The answer of the route; its errors come back as answers, so that they are logged."""
        try:
            check_permission(self.arm, call)
            locks.refuse_locked(self.arm, call)
            with self.arm.lock:
                return route.handle(self.arm, call)
        except ArmError as error:
            return self._refusal(error)


def check_version(version: str) -> None:
    if not version:
        message = "The api-version query parameter (?api-version=) is required for all requests."
        raise ArmError(400, "MissingApiVersionParameter", message)
    if not VERSION.fullmatch(version):
        raise ArmError(400, "InvalidApiVersionParameter", f"The api-version '{version}' is invalid.")


def check_permission(arm: Arm, call: Call) -> None:
    """ArmError for what the caller has no right to. What is asked of no scope is answered with what may be seen."""
    barred = any(
        call.method == verb and re.fullmatch(pattern, call.path, re.IGNORECASE) for verb, pattern in arm.forbidden
    )
    of_a_scope = "sub" in call.names or "scope" in call.names
    if not barred and not (arm.modes.no_role and of_a_scope):
        return
    raise ArmError(
        403,
        "AuthorizationFailed",
        f"The client '{call.caller.name}' with object id '{call.caller.object_id}' does not have authorization to "
        f"perform action '{call.permission}' over scope '{scope_of(call.path)}' or the scope is invalid. "
        "If access was recently granted, please refresh your credentials.",
    )
