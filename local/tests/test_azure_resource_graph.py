"""Resource Graph: one look for accounts over all subscriptions."""

from typing import Any

import pytest
import requests

from AzureStorage import SUBSCRIPTION_NAMES
from local.azure import LocalAzure
from local.azure.machine import OTHER_SUBSCRIPTION

from .clients import (
    ACCOUNT,
    GROUP,
    SUBSCRIPTION,
    account_id,
    send,
)

pytestmark = pytest.mark.usefixtures("kept_store")


def search(azure: LocalAzure, *lines: str, **body: Any) -> requests.Response:
    query = "\n| ".join(("resources", "where type =~ 'microsoft.storage/storageaccounts'", *lines))
    return send(azure, "POST", "/providers/Microsoft.ResourceGraph/resources", "2024-04-01", {"query": query, **body})


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


def test_resource_graph_counts_accounts_and_names_their_subscriptions(azure: LocalAzure) -> None:
    (row,) = search(azure, "summarize accounts = count() by subscriptionId").json()["data"]
    assert row == {"subscriptionId": SUBSCRIPTION, "accounts": len(azure.arm.accounts)}
    names = SUBSCRIPTION_NAMES.removeprefix("| ")
    found = search(azure, names, f"where name in~ ('{ACCOUNT}')", "project name, subscriptionName").json()["data"]
    assert found == [{"name": ACCOUNT, "subscriptionName": azure.arm.subscriptions[SUBSCRIPTION]["displayName"]}]
    assert search(azure, "project subscriptionName").status_code == 400
