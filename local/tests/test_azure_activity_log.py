"""The activity log: who did what, with which right."""

from collections.abc import Iterator

import pytest
from azure.core.exceptions import HttpResponseError
from azure.mgmt.storage import StorageManagementClient

from local.azure import LocalAzure
from local.azure.arm.call import Caller
from local.azure.arm.paths import scope_of
from local.azure.arm.routes import MATCHERS

from .clients import (
    ACCOUNT,
    GROUP,
    SECRET_APP,
    SUBSCRIPTION,
    account_id,
    days_ago,
    kept,
    refused,
    send,
)

CONTAINER = "cloud-activity"


@pytest.fixture(autouse=True)
def clean(azure: LocalAzure) -> Iterator[None]:
    with kept(azure, CONTAINER):
        yield


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
