"""The table of routes: method and path, who answers, the api-versions that are known, the permission it takes."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

from ..front import Reply
from . import (
    accounts,
    activity_log,
    containers,
    defender,
    diagnostics,
    encryption_scopes,
    failover,
    keys,
    local_users,
    locks,
    log_queries,
    management_policies,
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
from .call import Call
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


class Route(NamedTuple):
    """What is answered by whom, in which api-versions, and what a role must hold for it."""

    method: str
    template: str
    handle: Handle
    versions: tuple[str, ...]
    permission: str


STORAGE_ROWS: tuple[tuple[str, str, Handle, str], ...] = (
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
    ("POST", ACCOUNT + "/failover", failover.start, f"{AT_ACCOUNTS}/failover/action"),
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
)


# What an account has by name: its kind, the name in the path, who lists it, and what can be done with one of it.
PARTS: tuple[tuple[str, str, Handle | None, dict[str, Handle]], ...] = (
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
)
RIGHTS = {"GET": "read", "PUT": "write", "PATCH": "write", "DELETE": "delete"}


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
    found: list[tuple[str, str, Handle, str]] = []
    for kind, name, lister, handles in PARTS:
        found += [("GET", f"{ACCOUNT}/{kind}", lister, f"{AT_ACCOUNTS}/{kind}/read")] if lister else []
        for method, handle in handles.items():
            found.append((method, f"{ACCOUNT}/{kind}/{name}", handle, f"{AT_ACCOUNTS}/{kind}/{RIGHTS[method]}"))
    return found


def storage_routes() -> list[Route]:
    rows = (*STORAGE_ROWS, *other_service_routes(), *part_routes())
    return [Route(method, path, handle, versions.STORAGE, permission) for method, path, handle, permission in rows]


def sharing_routes() -> list[Route]:
    found = []
    for kind, known in sharing.KINDS.items():
        one, right = f"{ACCOUNT}/{kind}/{{name}}", f"{AT_ACCOUNTS}/{kind}"
        found += [
            Route("GET", f"{ACCOUNT}/{kind}", partial(sharing.list_sharing, kind=kind), known, f"{right}/read"),
            Route("GET", one, partial(sharing.get_sharing, kind=kind), known, f"{right}/read"),
            Route("DELETE", one, partial(sharing.delete_sharing, kind=kind), known, f"{right}/delete"),
        ]
    task = f"{ACCOUNT}/storageTaskAssignments/{{name}}"
    write = f"{AT_ACCOUNTS}/storageTaskAssignments/write"
    return [*found, Route("PATCH", task, sharing.patch_task, versions.TASKS, write)]


SUBJECTS: tuple[Route, ...] = (
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
    Route("HEAD", GROUP, subscriptions.has_group, versions.RESOURCES, f"{RESOURCES}/resourceGroups/read"),
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
        log_queries.PERMISSION,
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


def show_provider(arm: Arm, call: Call) -> Reply:
    """The kinds of resources of a namespace, with the api-versions that are known for them."""
    subscriptions.named(arm, call["sub"])
    known: dict[str, tuple[str, ...]] = {}
    for route in SUBJECTS:
        namespace, *kinds = route.permission.split("/")[: -2 if route.method == "POST" else -1]
        if namespace.lower() == call["namespace"].lower():
            known.setdefault("/".join(kinds), route.versions)
    if not known:
        message = f"The resource namespace '{call['namespace']}' is invalid."
        raise ArmError(404, "InvalidResourceNamespace", message)
    kinds_told = [
        {"resourceType": kind, "apiVersions": list(reversed(offered)), "locations": list(arm.modes.regions)}
        for kind, offered in known.items()
    ]
    state = {"registrationState": "Registered", "registrationPolicy": "RegistrationRequired"}
    provider_id = f"/subscriptions/{call['sub']}/providers/{call['namespace']}"
    return answer({"id": provider_id, "namespace": call["namespace"], **state, "resourceTypes": kinds_told})


ROUTES: tuple[Route, ...] = (
    *SUBJECTS,
    Route("GET", SUB + "/providers/{namespace}", show_provider, versions.RESOURCES, f"{RESOURCES}/providers/read"),
)
MATCHERS = tuple((route, matcher(route.template)) for route in ROUTES)
# The fixed words of paths, as Microsoft writes them. Clients write them in any case; locks and logs compare them.
WORDS = {word.lower(): word for route in ROUTES for word in route.template.split("/") if word and "{" not in word}


def canonical(path: str) -> str:
    """The path with its fixed words as Microsoft writes them. Its command line sends empty segments, which ARM skips."""
    return "/" + "/".join(WORDS.get(word.lower(), word) for word in path.split("/") if word)
