"""What the store knows of incident response: Microsoft's client drives what it can, plain requests the rest."""

import copy
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
import requests
from azure.core import MatchConditions
from azure.core.exceptions import HttpResponseError
from azure.mgmt.storage import StorageManagementClient

from local.azure import LocalAzure
from local.azure.arm.accounts import add_account
from local.azure.arm.call import Caller
from local.azure.arm.locks import add_lock
from local.azure.arm.parts import add_part
from local.azure.arm.paths import scope_of
from local.azure.arm.router import MATCHERS
from local.azure.machine import GROUP, OTHER_SUBSCRIPTION, SECRET_APP, SUBSCRIPTION

from .test_cloud import ACCOUNT, Credential, call, sdk

__all__ = ["sdk"]  # a fixture of that file, used here too
CONTAINER = "cloud-response"
IF_MATCH = MatchConditions.IfNotModified


@pytest.fixture(autouse=True)
def clean(azure: LocalAzure) -> Any:
    key = azure.arm.keys[ACCOUNT][0]
    azure.azurite.create(ACCOUNT, key, CONTAINER, {})
    before, account = dict(azure.arm.services[ACCOUNT]), copy.deepcopy(azure.arm.accounts[ACCOUNT])
    restored = azure.arm.on_restore
    yield
    azure.arm.clear()
    azure.arm.graph_page_size, azure.arm.on_restore = 1000, restored
    azure.arm.services[ACCOUNT], azure.arm.accounts[ACCOUNT] = before, account
    azure.azurite.delete(ACCOUNT, key, CONTAINER)


def send(
    azure: LocalAzure, method: str, path: str, version: str, body: Any = None, **headers: str
) -> requests.Response:
    token = Credential(azure).get_token(f"{azure.arm_url}/.default").token
    url = f"{azure.arm_url}{path}{'&' if '?' in path else '?'}api-version={version}"
    return call(azure, method, url, json=body, headers={"Authorization": f"Bearer {token}", **headers})


def account_id(azure: LocalAzure) -> str:
    found: str = azure.arm.accounts[ACCOUNT]["id"]
    return found


def refused(error: pytest.ExceptionInfo[HttpResponseError]) -> tuple[int | None, str | None]:
    return error.value.status_code, error.value.error.code if error.value.error else None


def test_resource_graph_pages_filters_and_refuses_what_it_does_not_know(azure: LocalAzure) -> None:
    azure.arm.graph_page_size = 1
    path, query = (
        "/providers/Microsoft.ResourceGraph/resources",
        "resources\n| where type =~ 'microsoft.storage/storageaccounts'",
    )
    first = send(azure, "POST", path, "2024-04-01", {"query": query}).json()
    assert (first["totalRecords"], first["count"]) == (len(azure.arm.accounts), 1)
    options = {"$skipToken": first["$skipToken"], "$top": 5}
    second = send(azure, "POST", path, "2024-04-01", {"query": query, "options": options}).json()
    assert second["data"][0]["id"] != first["data"][0]["id"]
    azure.arm.graph_page_size = 1000
    one = f"{query}\n| where name in~ ('{ACCOUNT.upper()}')\n| where tags['owner'] =~ 'Finance'\n| order by id asc"
    (row,) = send(azure, "POST", path, "2024-04-01", {"query": one}).json()["data"]
    assert (row["resourceGroup"], row["subscriptionId"]) == (GROUP.lower(), SUBSCRIPTION)
    wrong = send(azure, "POST", path, "2024-04-01", {"query": f"{query}\n| wher name =~ 'x'"})
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (400, "BadRequest")


def search(azure: LocalAzure, *lines: str, **body: Any) -> requests.Response:
    query = "\n| ".join(("resources", "where type =~ 'microsoft.storage/storageaccounts'", *lines))
    return send(azure, "POST", "/providers/Microsoft.ResourceGraph/resources", "2024-04-01", {"query": query, **body})


def test_resource_graph_knows_ids_and_columns_and_lags(azure: LocalAzure) -> None:
    ids = f"id in~ ('{account_id(azure).upper()}', '/elsewhere')"
    wanted = ("where " + ids, "where location =~ 'WestEurope'", "where resourceGroup =~ 'RG-Finance'")
    found = search(azure, *wanted, "project id, name", subscriptions=[SUBSCRIPTION])
    assert found.json()["data"] == [{"id": account_id(azure), "name": ACCOUNT}]
    assert {"x-ms-user-quota-remaining", "x-ms-user-quota-resets-after"} <= {name.lower() for name in found.headers}
    assert search(azure, f"where subscriptionId in~ ('{OTHER_SUBSCRIPTION}')").json()["count"] == 0
    assert search(azure, subscriptions=[OTHER_SUBSCRIPTION]).json()["totalRecords"] == 0
    azure.arm.graph_lag.add(ACCOUNT)
    assert search(azure, "where " + ids).json()["data"] == []
    wrong = (
        search(azure, "project id, nmae"),
        search(azure, options={"$top": 0}),
        search(azure, "project id", "limit 1"),
    )
    assert [answer.status_code for answer in wrong] == [400, 400, 400]


def test_locks_hold_and_are_inherited(azure: LocalAzure, sdk: StorageManagementClient) -> None:
    group = account_id(azure).partition("/providers")[0]
    add_lock(azure.arm, group, "all", "CanNotDelete")
    locks = f"{account_id(azure)}/providers/Microsoft.Authorization/locks"
    assert [lock["name"] for lock in send(azure, "GET", locks, "2020-05-01").json()["value"]] == ["all"]
    with pytest.raises(HttpResponseError) as error:
        sdk.storage_accounts.delete(GROUP, ACCOUNT)
    assert refused(error) == (409, "ScopeLocked")
    sdk.storage_accounts.update(GROUP, ACCOUNT, {"properties": {"accessTier": "Hot"}})
    body = {"properties": {"level": "ReadOnly"}}
    assert send(azure, "PUT", f"{locks}/mine", "2020-05-01", body).status_code == 201
    stopped: tuple[Callable[[], object], ...] = (
        lambda: sdk.storage_accounts.update(GROUP, ACCOUNT, {"properties": {"accessTier": "Hot"}}),
        lambda: sdk.storage_accounts.list_keys(GROUP, ACCOUNT),
    )
    for call_it in stopped:
        with pytest.raises(HttpResponseError) as error:
            call_it()
        assert refused(error) == (409, "ScopeLocked")
    assert send(azure, "DELETE", f"{locks}/mine", "2020-05-01").status_code == 200
    assert send(azure, "DELETE", f"{locks}/mine", "2020-05-01").status_code == 204
    assert len(sdk.storage_accounts.list_keys(GROUP, ACCOUNT).keys_property or []) == 2


def test_locks_at_every_scope_and_in_any_case(azure: LocalAzure) -> None:
    here, group = account_id(azure), account_id(azure).partition("/providers")[0]
    locks, body = "/providers/Microsoft.Authorization/locks", {"properties": {"level": "ReadOnly", "notes": "case 7"}}
    put = [send(azure, "PUT", f"{group}{locks}/all", "2020-05-01", body).status_code for _ in range(2)]
    assert put == [201, 200]
    assert send(azure, "PUT", f"{here}{locks}/bad", "2020-05-01", {"properties": {"level": "Odd"}}).status_code == 400
    send(azure, "PUT", f"{here}{locks}/own", "2020-05-01", {"properties": {"level": "CanNotDelete"}})
    names = {
        scope: sorted(lock["name"] for lock in send(azure, "GET", scope + locks + rest, "2020-05-01").json()["value"])
        for scope, rest in (
            (here, "?$filter=atScope()"),
            (group, "?$filter=atScope()"),
            (f"/subscriptions/{SUBSCRIPTION}", ""),
        )
    }
    assert list(names.values()) == [["all", "own"], ["all"], ["all", "own"]]
    one = send(azure, "GET", f"{group}{locks}/all", "2020-05-01").json()
    assert (one["properties"], one["id"]) == (body["properties"], f"{group}{locks}/all")
    assert send(azure, "GET", f"{here}{locks}/all", "2020-05-01").json()["error"]["code"] == "LockNotFound"
    stopped = [
        send(azure, "POST", f"{here}/regenerateKey".lower(), "2025-08-01", {"keyName": "key1"}),
        send(azure, "POST", f"{here}/revokeUserDelegationKeys", "2025-08-01"),
        send(azure, "DELETE", f"{here}/blobServices/default/containers/{CONTAINER}", "2025-08-01"),
    ]
    assert [(answer.status_code, answer.json()["error"]["code"]) for answer in stopped] == [(409, "ScopeLocked")] * 3
    assert f"The scope '{here}'" in stopped[1].json()["error"]["message"]
    assert f"following scope(s) are locked: '{group}'." in stopped[1].json()["error"]["message"]
    assert f"'{group}','{here}'" in stopped[2].json()["error"]["message"]
    assert send(azure, "DELETE", f"{group}{locks}/all".lower(), "2020-05-01").status_code == 200
    assert send(azure, "POST", f"{here}/revokeUserDelegationKeys", "2025-08-01").status_code == 200


def test_delegation_keys_are_revoked(azure: LocalAzure, sdk: StorageManagementClient) -> None:
    sdk.storage_accounts.revoke_user_delegation_keys(GROUP, ACCOUNT)
    assert len(azure.arm.revoked[ACCOUNT]) == 1


def test_legal_holds(azure: LocalAzure, sdk: StorageManagementClient) -> None:
    held = sdk.blob_containers.set_legal_hold(GROUP, ACCOUNT, CONTAINER, {"tags": ["Case1", "case2"]})
    assert held.tags == ["case1", "case2"]
    found = sdk.blob_containers.get(GROUP, ACCOUNT, CONTAINER)
    assert found.has_legal_hold is True
    stopped: tuple[tuple[Callable[[], object], int], ...] = (
        (lambda: sdk.blob_containers.set_legal_hold(GROUP, ACCOUNT, CONTAINER, {"tags": ["a-b"]}), 400),
        (lambda: sdk.blob_containers.delete(GROUP, ACCOUNT, CONTAINER), 409),
        (lambda: sdk.storage_accounts.delete(GROUP, ACCOUNT), 409),
    )
    for call_it, code in stopped:
        with pytest.raises(HttpResponseError) as error:
            call_it()
        assert error.value.status_code == code
    sdk.blob_containers.clear_legal_hold(GROUP, ACCOUNT, CONTAINER, {"tags": ["case1", "case2"]})
    assert sdk.blob_containers.get(GROUP, ACCOUNT, CONTAINER).has_legal_hold is False


def test_immutability_policies(azure: LocalAzure, sdk: StorageManagementClient) -> None:
    where = (GROUP, ACCOUNT, CONTAINER)
    made = sdk.blob_containers.create_or_update_immutability_policy(
        *where, parameters={"properties": {"immutabilityPeriodSinceCreationInDays": 3}}
    )
    assert made.state == "Unlocked"
    locked = sdk.blob_containers.lock_immutability_policy(*where, etag=str(made.etag), match_condition=IF_MATCH)
    assert locked.state == "Locked"
    with pytest.raises(HttpResponseError) as error:
        sdk.blob_containers.lock_immutability_policy(*where, etag='"other"', match_condition=IF_MATCH)
    assert error.value.status_code == 412
    longer = sdk.blob_containers.extend_immutability_policy(
        *where,
        {"properties": {"immutabilityPeriodSinceCreationInDays": 9}},
        etag=str(locked.etag),
        match_condition=IF_MATCH,
    )
    assert longer.immutability_period_since_creation_in_days == 9
    with pytest.raises(HttpResponseError) as error:
        sdk.blob_containers.delete_immutability_policy(*where, etag=str(longer.etag), match_condition=IF_MATCH)
    assert error.value.status_code == 409


def test_a_container_lease_is_a_real_one(azure: LocalAzure, sdk: StorageManagementClient) -> None:
    taken = sdk.blob_containers.lease(GROUP, ACCOUNT, CONTAINER, {"action": "Acquire", "leaseDuration": -1})
    assert sdk.blob_containers.get(GROUP, ACCOUNT, CONTAINER).lease_state == "Leased"
    with pytest.raises(HttpResponseError) as error:
        sdk.blob_containers.delete(GROUP, ACCOUNT, CONTAINER)
    assert error.value.status_code == 412
    sdk.blob_containers.lease(GROUP, ACCOUNT, CONTAINER, {"action": "Release", "leaseId": taken.lease_id})
    assert sdk.blob_containers.get(GROUP, ACCOUNT, CONTAINER).lease_state == "Available"


def test_policies_and_holds_protect(azure: LocalAzure, sdk: StorageManagementClient) -> None:
    path = f"{account_id(azure)}/blobServices/default/containers/{CONTAINER}"
    policy = f"{path}/immutabilityPolicies/default"
    none = send(azure, "GET", policy, "2025-08-01").json()
    assert none["properties"] == {"immutabilityPeriodSinceCreationInDays": 0, "state": "Unlocked"}
    wanted = {"immutabilityPeriodSinceCreationInDays": 3, "allowProtectedAppendWrites": True}
    made = send(azure, "PUT", policy, "2025-08-01", {"properties": wanted})
    assert (made.headers["ETag"], made.json()["properties"]) == (made.json()["etag"], {**wanted, "state": "Unlocked"})
    found = sdk.blob_containers.get(GROUP, ACCOUNT, CONTAINER)
    assert found.has_immutability_policy is True
    assert found.immutability_policy is not None
    assert found.immutability_policy.immutability_period_since_creation_in_days == 3
    refusals = [
        send(azure, "PUT", policy, "2025-08-01", {"properties": wanted}, **{"If-Match": '"old"'}),
        send(azure, "DELETE", policy, "2025-08-01", **{"If-Match": '"old"'}),
        send(azure, "POST", f"{policy}/lock", "2025-08-01"),
        send(
            azure,
            "POST",
            f"{policy}/extend",
            "2025-08-01",
            {"properties": wanted},
            **{"If-Match": made.headers["ETag"]},
        ),
        send(azure, "DELETE", path, "2025-08-01"),
    ]
    assert [answer.status_code for answer in refusals] == [412, 412, 400, 409, 409]
    send(azure, "POST", f"{policy}/lock", "2025-08-01", **{"If-Match": made.headers["ETag"]})
    gone = send(azure, "DELETE", account_id(azure), "2025-08-01")
    assert (gone.status_code, gone.json()["error"]["code"]) == (409, "AccountProtectedFromDeletion")
    tags = {"tags": [f"tag{number}" for number in range(11)]}
    assert send(azure, "POST", f"{path}/setLegalHold", "2025-08-01", tags).status_code == 400
    hold = send(azure, "POST", f"{path}/setLegalHold", "2025-08-01", {"tags": ["Case1"]}).json()
    assert hold == {"hasLegalHold": True, "tags": ["case1"]}
    (tag,) = send(azure, "GET", path, "2025-08-01").json()["properties"]["legalHold"]["tags"]
    assert (tag["tag"], bool(tag["timestamp"])) == ("case1", True)


def test_the_life_of_a_lease(azure: LocalAzure, sdk: StorageManagementClient) -> None:
    first, second = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"
    where = (GROUP, ACCOUNT, CONTAINER)
    steps: tuple[tuple[dict[str, Any], dict[str, Any]], ...] = (
        ({"action": "Acquire", "leaseDuration": 15, "proposedLeaseId": first}, {"leaseId": first}),
        ({"action": "Renew", "leaseId": first}, {"leaseId": first}),
        ({"action": "Change", "leaseId": first, "proposedLeaseId": second}, {"leaseId": second}),
        ({"action": "Break", "breakPeriod": 0}, {"leaseTimeSeconds": "0"}),
    )
    for body, expected in steps:
        assert sdk.blob_containers.lease(*where, body).as_dict() == expected
    assert sdk.blob_containers.get(*where).lease_state == "Broken"
    path = f"{account_id(azure)}/blobServices/default/containers/{CONTAINER}/lease"
    wrong: tuple[dict[str, Any], ...] = (
        {"action": "Seize"},
        {"action": "Acquire"},
        {"action": "Acquire", "leaseDuration": 5},
        {"action": "Renew"},
        {"action": "Change", "leaseId": second},
    )
    assert [send(azure, "POST", path, "2025-08-01", body).status_code for body in wrong] == [400] * len(wrong)
    assert send(azure, "POST", path, "2025-08-01", {"action": "Renew", "leaseId": first}).status_code == 409


def restore_body(start: str = "", end: str = "", **ago: float) -> dict[str, Any]:
    when = (datetime.now(timezone.utc) - timedelta(**ago)).strftime("%Y-%m-%dT%H:%M:%S.%f0Z")
    return {"timeToRestore": when, "blobRanges": [{"startRange": start, "endRange": end}]}


# What point-in-time restore stands on.
RESTORABLE: dict[str, Any] = {
    "isVersioningEnabled": True,
    "changeFeed": {"enabled": True},
    "deleteRetentionPolicy": {"enabled": True, "days": 10},
    "restorePolicy": {"enabled": True, "days": 7},
}


def test_a_restore_is_watched_and_may_fail(azure: LocalAzure) -> None:
    path = f"{account_id(azure)}/restoreBlobRanges"
    minimum = restore_body(hours=1)["timeToRestore"]
    policy = {**RESTORABLE["restorePolicy"], "minRestoreTime": minimum}
    azure.arm.services[ACCOUNT] = {**RESTORABLE, "restorePolicy": policy}
    wrong = [restore_body(hours=2), restore_body(minutes=-5), restore_body("b", "a", minutes=5), {"blobRanges": []}]
    assert [send(azure, "POST", path, "2025-08-01", body).status_code for body in wrong] == [400] * 4
    calls: list[str] = []
    azure.arm.polls, azure.arm.on_restore = 2, lambda account, body: calls.append(account)
    seen = []
    for _ in range(2):
        address = send(azure, "POST", path, "2025-08-01", restore_body("a", "b", minutes=5)).headers["Location"]
        watch = address.removeprefix(azure.arm_url).partition("?")[0]
        answers = [send(azure, "GET", watch, "2025-08-01") for _ in range(3)]
        seen.append([(answer.status_code, answer.json()["status"]) for answer in answers])
        azure.arm.on_restore = lambda account, body: [][0]
    running = [(202, "InProgress")] * 2
    assert seen == [[*running, (200, "Complete")], [*running, (200, "Failed")]]
    assert calls == [ACCOUNT]
    assert send(azure, "GET", watch + "x", "2025-08-01").status_code == 404


def test_ranges_are_restored_once_the_policy_is_on(azure: LocalAzure, sdk: StorageManagementClient) -> None:
    body = restore_body(minutes=5)
    path = f"{account_id(azure)}/restoreBlobRanges"
    assert send(azure, "POST", path, "2025-08-01", body).status_code == 409
    azure.arm.services[ACCOUNT] = RESTORABLE
    assert send(azure, "POST", path, "2025-08-01", body).status_code == 202
    assert send(azure, "POST", path, "2025-08-01", body).json()["error"]["code"] == "RestoreAlreadyInProgress"
    states = [
        sdk.storage_accounts.get_properties(GROUP, ACCOUNT, expand="blobRestoreStatus").blob_restore_status
        for _ in range(2)
    ]
    assert [state.status for state in states if state] == ["InProgress", "Complete"]


def days_ago(days: float) -> str:
    return (datetime.now(timezone.utc) - timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ")


def test_what_was_done_is_in_the_activity_log(azure: LocalAzure, sdk: StorageManagementClient) -> None:
    sdk.storage_accounts.list_keys(GROUP, ACCOUNT)
    sdk.blob_containers.update(GROUP, ACCOUNT, CONTAINER, {"properties": {"publicAccess": "None"}})
    path = f"/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Insights/eventtypes/management/values"
    times = f"eventTimestamp ge '{days_ago(2)}' and eventTimestamp le '2099-01-01T00:00:00Z'"
    found = send(azure, "GET", f"{path}?$filter={times} and resourceGroupName eq '{GROUP}'", "2015-04-01").json()[
        "value"
    ]
    assert [event["operationName"]["value"] for event in found] == [
        "Microsoft.Storage/storageAccounts/blobServices/containers/write",
        "Microsoft.Storage/storageAccounts/listKeys/action",
    ]
    assert found[1]["resourceId"].lower() == account_id(azure).lower()
    assert send(azure, "GET", path, "2015-04-01").status_code == 400


def test_the_activity_log_tells_who_and_whether(azure: LocalAzure, sdk: StorageManagementClient) -> None:
    azure.arm.forbidden.append(("POST", ".*/regenerateKey"))
    with pytest.raises(HttpResponseError) as error:
        sdk.storage_accounts.regenerate_key(GROUP, ACCOUNT, {"keyName": "key1"})
    assert refused(error) == (403, "AuthorizationFailed")
    listed = send(azure, "POST", f"{account_id(azure)}/listkeys".lower(), "2025-08-01")
    locks = f"{account_id(azure).partition('/providers')[0]}/providers/Microsoft.Authorization/locks"
    send(azure, "DELETE", f"{locks}/none", "2020-05-01")
    search(azure)
    azure.arm.activity.append({**azure.arm.activity[0], "eventTimestamp": "2020-01-01T00:00:00.0000000Z"})
    azure.arm.page_size = 1
    path = f"/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Insights/eventtypes/management/values"
    times = f"eventTimestamp ge '{days_ago(2)}' and eventTimestamp le '2099-01-01T00:00:00Z'"
    first = send(azure, "GET", f"{path}?$filter={times} and resourceUri eq '{account_id(azure)}'", "2015-04-01").json()
    following = first["nextLink"].removeprefix(azure.arm_url).replace("api-version=2015-04-01", "x=1")
    second = send(azure, "GET", following, "2015-04-01").json()
    assert "nextLink" not in second
    rows = [*first["value"], *second["value"]]
    told = [(row["authorization"]["action"].rsplit("/", 2)[1], row["status"]["value"], row["level"]) for row in rows]
    assert told == [("listKeys", "Succeeded", "Informational"), ("regenerateKey", "Failed", "Error")]
    assert {row["caller"] for row in rows} == {SECRET_APP}
    assert rows[0]["correlationId"] == listed.headers["x-ms-correlation-request-id"]
    names = [row["operationName"]["value"] for row in azure.arm.activity]
    assert names[2] == "Microsoft.Authorization/locks/delete"
    assert len(names) == 4, "a search is not a change"


def test_a_person_is_logged_by_name() -> None:
    person = Caller({"upn": "ann@contoso.example", "oid": "o", "appid": "a"})
    assert (person.name, person.object_id, person.app) == ("ann@contoso.example", "o", "a")


@pytest.mark.parametrize(
    ("method", "path", "name", "scope"),
    [
        ("GET", "/subscriptions", "Microsoft.Resources/subscriptions/read", "/"),
        (
            "GET",
            "/subscriptions/s/resourceGroups",
            "Microsoft.Resources/subscriptions/resourceGroups/read",
            "/subscriptions/s",
        ),
        (
            "GET",
            "/subscriptions/s/providers/Microsoft.Storage/storageAccounts",
            "Microsoft.Storage/storageAccounts/read",
            "/subscriptions/s",
        ),
        (
            "POST",
            "/subscriptions/s/resourceGroups/g/providers/Microsoft.Storage/storageAccounts/a/listKeys",
            "Microsoft.Storage/storageAccounts/listKeys/action",
            "/subscriptions/s/resourceGroups/g/providers/Microsoft.Storage/storageAccounts/a",
        ),
        (
            "GET",
            "/subscriptions/s/resourceGroups/g/providers/Microsoft.Storage/storageAccounts/a/providers/Microsoft.Authorization/locks",
            "Microsoft.Authorization/locks/read",
            "/subscriptions/s/resourceGroups/g/providers/Microsoft.Storage/storageAccounts/a",
        ),
    ],
)
def test_requests_are_named_as_roles_name_them(method: str, path: str, name: str, scope: str) -> None:
    found = [route.permission for route, pattern in MATCHERS if route.method == method and pattern.fullmatch(path)]
    assert (found[0], scope_of(path)) == (name, scope)


def test_a_missing_permission_names_client_action_and_scope(azure: LocalAzure) -> None:
    azure.arm.forbidden.append(("POST", ".*/listkeys"))
    answer = send(azure, "POST", f"{account_id(azure)}/listKeys", "2025-08-01")
    message = answer.json()["error"]["message"]
    assert f"The client '{SECRET_APP}' with object id '{SECRET_APP}'" in message
    assert "perform action 'Microsoft.Storage/storageAccounts/listKeys/action'" in message
    assert f"over scope '{account_id(azure)}'" in message
    assert send(azure, "GET", account_id(azure), "2025-08-01").status_code == 200


def test_a_patch_keeps_what_it_does_not_name(azure: LocalAzure, sdk: StorageManagementClient) -> None:
    def patched(**properties: Any) -> dict[str, Any]:
        answer = send(azure, "PATCH", account_id(azure), "2025-08-01", {"properties": properties})
        found: dict[str, Any] = answer.json()["properties"]
        return found

    before = patched(sasPolicy={"sasExpirationPeriod": "1.00:00:00", "expirationAction": "Log"}, allowedCopyScope="AAD")
    rules = {"defaultAction": "Deny", "ipRules": [{"value": "203.0.113.7", "action": "Allow"}]}
    after = patched(networkAcls=rules, publicNetworkAccess="Disabled", allowSharedKeyAccess=False, keyPolicy=None)
    assert after["networkAcls"] == rules, "replaced as a unit"
    assert after["keyPolicy"] is None
    kept = ("sasPolicy", "allowedCopyScope", "minimumTlsVersion", "encryption", "creationTime")
    assert [after[name] for name in kept] == [before[name] for name in kept]
    bad = send(azure, "PATCH", account_id(azure), "2025-08-01", {"sku": {"name": "Gold"}})
    assert bad.status_code == 400
    for name in ("key3", "kerb1", ""):
        with pytest.raises(HttpResponseError) as error:
            sdk.storage_accounts.regenerate_key(GROUP, ACCOUNT, {"keyName": name})
        assert error.value.status_code == 400


def test_a_deleted_account_leaves_nothing_to_the_next_of_its_name(azure: LocalAzure) -> None:
    found = add_account(azure.arm, SUBSCRIPTION, GROUP, "shortlived")
    add_part(azure.arm, found, "encryptionScopes", "odd", {})
    path = f"{found['id']}/blobServices/default/providers/Microsoft.Insights/diagnosticSettings"
    body = {"properties": {"workspaceId": "/w", "logs": [{"category": "StorageRead", "enabled": True}]}}
    assert send(azure, "PUT", f"{path}/x", "2021-05-01-preview", body).status_code == 200
    assert send(azure, "DELETE", found["id"], "2025-08-01").status_code == 200
    assert send(azure, "GET", f"{path}/x", "2021-05-01-preview").status_code == 404
    add_account(azure.arm, SUBSCRIPTION, GROUP, "shortlived")
    assert send(azure, "GET", path, "2021-05-01-preview").json()["value"] == []
    assert send(azure, "GET", f"{found['id']}/encryptionScopes", "2025-08-01").json()["value"] == []
    assert send(azure, "DELETE", found["id"], "2025-08-01").status_code == 200


def test_diagnostic_settings_need_a_place_to_go(azure: LocalAzure) -> None:
    path = f"{account_id(azure)}/blobServices/default/providers/Microsoft.Insights/diagnosticSettings"
    logs = [{"category": "StorageRead", "enabled": True}]
    assert send(azure, "PUT", f"{path}/x", "2021-05-01-preview", {"properties": {"logs": logs}}).status_code == 400
    body = {"properties": {"workspaceId": "/w", "logs": logs}}
    assert send(azure, "PUT", f"{path}/x", "2021-05-01-preview", body).status_code == 200
    assert (
        send(azure, "PUT", f"{path}/x", "2021-05-01-preview", {"properties": {"workspaceId": "/w"}}).status_code == 400
    )
    odd = {"properties": {"workspaceId": "/w", "logs": [{"category": "StorageRaed", "enabled": True}]}}
    assert send(azure, "PUT", f"{path}/x", "2021-05-01-preview", odd).status_code == 400
    assert len(send(azure, "GET", path, "2021-05-01-preview").json()["value"]) == 1
    assert send(azure, "GET", f"{path}/X", "2021-05-01-preview").json()["properties"] == body["properties"]
    assert send(azure, "GET", f"{path}/y", "2021-05-01-preview").json()["error"]["code"] == "ResourceNotFound"
    assert send(azure, "DELETE", f"{path}/x", "2021-05-01-preview").status_code == 200


def test_what_posture_reads(azure: LocalAzure, sdk: StorageManagementClient) -> None:
    assert sdk.file_services.get_service_properties(GROUP, ACCOUNT).share_delete_retention_policy is not None
    assert list(sdk.object_replication_policies.list(GROUP, ACCOUNT)) == []
    assert list(sdk.encryption_scopes.list(GROUP, ACCOUNT)) == []
    assert list(sdk.local_users.list(GROUP, ACCOUNT)) == []
    add_part(azure.arm, azure.arm.accounts[ACCOUNT], "encryptionScopes", "odd", {})
    assert [scope.name for scope in sdk.encryption_scopes.list(GROUP, ACCOUNT)] == ["odd"]
    defender = f"{account_id(azure)}/providers/Microsoft.Security/defenderForStorageSettings/current"
    assert send(azure, "GET", defender, "2025-06-01").json()["properties"]["isEnabled"] is False
    azure.arm.defender[ACCOUNT] = {"isEnabled": True}
    assert send(azure, "GET", defender.lower(), "2025-06-01").json()["properties"]["isEnabled"] is True
    azure.arm.other_services[ACCOUNT, "file"] = {"shareDeleteRetentionPolicy": {"enabled": False}}
    policy = sdk.file_services.get_service_properties(GROUP, ACCOUNT).share_delete_retention_policy
    assert policy is not None
    assert policy.enabled is False
