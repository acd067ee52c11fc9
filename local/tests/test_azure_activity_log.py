"""The activity log: who did what, with which right."""

import json
from datetime import timedelta
from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError
from azure.mgmt.storage import StorageManagementClient

from local.azure import LocalAzure
from local.azure.arm import activity_log
from local.azure.arm.call import Caller
from local.azure.arm.locks import add_lock
from local.azure.arm.paths import scope_of
from local.azure.arm.routes import MATCHERS

from .clients import (
    ACCOUNT,
    GROUP,
    LOCKS,
    SECRET_APP,
    STORAGE,
    SUBSCRIPTION,
    account_id,
    code_of,
    days_ago,
    refused,
    send,
)

CONTAINER = "cloud-activity"


pytestmark = pytest.mark.usefixtures("kept_store")


def test_what_was_done_is_in_the_activity_log(azure: LocalAzure, sdk: StorageManagementClient) -> None:
    azure.arm.activity.clear()
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
    send(azure, "POST", "/providers/Microsoft.ResourceGraph/resources", "2024-04-01", {"query": "resources"})
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


EVENTS = f"/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Insights/eventtypes/management/values"


def logged(azure: LocalAzure, text: str, select: str = "") -> Any:
    more = f"&$select={select}" if select else ""
    return send(azure, "GET", f"{EVENTS}?$filter={text}{more}", "2015-04-01")


def test_the_filters_of_microsofts_command_line(azure: LocalAzure) -> None:
    """It sends times without quotes and without a zone, and asks for one account by resourceId."""
    here = account_id(azure)
    for account in (here, account_id(azure, "contosoweb")):
        send(azure, "POST", f"{account}/listKeys", STORAGE)
    correlation = azure.arm.activity[0]["correlationId"]
    times = f"eventTimestamp ge {days_ago(1).strip('Z')}.250000 and eventTimestamp le {days_ago(-1).strip('Z')}.250000"
    counts = {
        times: 2,
        f"{times} and resourceGroupName eq '{GROUP.upper()}'": 1,
        f"{times} and resourceGroupName eq {GROUP}": 1,
        f"{times} and resourceId eq '{here}'": 1,
        f"{times} and resourceUri eq '{here.lower()}'": 1,
        f"{times} and resourceProvider eq 'Microsoft.Storage'": 2,
        f"{times} and correlationId eq '{correlation}'": 1,
        f"{times} and resourceProvider eq Microsoft.Storage and caller eq {SECRET_APP}": 2,
        f"{times} and resourceProvider eq Microsoft.Storage and status eq Failed": 0,
        f"eventTimestamp ge '{days_ago(1)}' and eventChannels eq 'Admin, Operation'": 0,
    }
    assert {text: len(logged(azure, text).json()["value"]) for text in counts} == counts


@pytest.mark.parametrize(
    "text",
    [
        "",
        "resourceGroupName eq 'rg-finance'",
        "eventTimestamp ge 'yesterday'",
        "eventTimestamp ge '{new}' or caller eq 'x'",
        "eventTimestamp ge '{new}' and operationName eq 'x'",
        "eventTimestamp ge '{new}' and contains(caller, 'x')",
        "eventTimestamp ge '{new}' and resourceGroupName eq 'a' and resourceUri eq '/b'",
        "eventTimestamp ge '{old}'",
    ],
)
def test_filters_that_the_log_does_not_know(azure: LocalAzure, text: str) -> None:
    assert code_of(logged(azure, text.format(new=days_ago(1), old=days_ago(91)))) == (400, "BadRequest")


def test_an_event_tells_who_with_what_right_and_what_was_sent(azure: LocalAzure) -> None:
    body = {"properties": {"allowBlobPublicAccess": True}}
    send(azure, "PATCH", account_id(azure), STORAGE, body)
    (event,) = logged(azure, f"eventTimestamp ge '{days_ago(1)}'").json()["value"]
    claims = event["claims"]
    assert claims["http://schemas.microsoft.com/identity/claims/objectidentifier"] == SECRET_APP
    assert (claims["appid"], event["caller"]) == (SECRET_APP, SECRET_APP)
    given = event["authorization"]
    assert (given["role"], given["action"], given["scope"]) == (
        "Owner",
        "Microsoft.Storage/storageAccounts/write",
        account_id(azure),
    )
    assert given["evidence"]["roleAssignmentScope"] == f"/subscriptions/{SUBSCRIPTION}"
    sent = event["properties"]
    assert json.loads(sent["requestbody"]) == body
    assert json.loads(sent["responseBody"])["properties"]["allowBlobPublicAccess"] is True
    assert (sent["statusCode"], event["subStatus"]["value"]) == ("200", "200")


def test_secrets_are_not_in_the_log(azure: LocalAzure) -> None:
    send(azure, "POST", f"{account_id(azure)}/listKeys", STORAGE)
    send(azure, "POST", f"{account_id(azure)}/regenerateKey", STORAGE, {"keyName": "key2"})
    text = json.dumps(azure.arm.activity)
    assert not [key for key in azure.arm.keys[ACCOUNT] if key in text]
    assert "listKeys/action" in text


def test_what_a_lock_or_a_missing_right_stopped_is_logged_as_failed(azure: LocalAzure) -> None:
    add_lock(azure.arm, account_id(azure), "frozen", "ReadOnly")
    send(azure, "POST", f"{account_id(azure)}/listKeys", STORAGE)
    send(azure, "PUT", f"{account_id(azure)}/providers/Microsoft.Authorization/locks/x", LOCKS, {"properties": {}})
    rows = logged(azure, f"eventTimestamp ge '{days_ago(1)}'", "status,subStatus,caller").json()["value"]
    assert [(row["status"]["value"], row["subStatus"]["value"]) for row in rows] == [
        ("Failed", "400"),
        ("Failed", "409"),
    ]
    assert {tuple(row) for row in rows} == {("status", "subStatus", "caller")}


def test_events_of_the_past_and_from_elsewhere(azure: LocalAzure) -> None:
    """What a scenario is made of: the address of each caller, and when it was."""
    stolen = {"x-local-client-address": "198.51.100.66"}
    send(azure, "PATCH", account_id(azure), STORAGE, {"tags": {"a": "1"}}, **stolen)
    activity_log.age(azure.arm, timedelta(days=1))
    send(azure, "PATCH", account_id(azure), STORAGE, {"tags": {"a": "2"}})
    rows = logged(azure, f"eventTimestamp ge '{days_ago(2)}'").json()["value"]
    assert [row["httpRequest"]["clientIpAddress"] for row in rows] == ["203.0.113.7", "198.51.100.66"]
    before = logged(azure, f"eventTimestamp ge '{days_ago(2)}' and eventTimestamp le '{days_ago(0.5)}'").json()["value"]
    assert [json.loads(row["properties"]["requestbody"]) for row in before] == [{"tags": {"a": "1"}}]
