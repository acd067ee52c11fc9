"""The commands against the local Azure, in processes of their own, and the faults of a network in between."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from local.azure import LocalAzure
from local.xsoar.server import Run, Server

from .conftest import change, items, succeed

ACCOUNT = "contosobackups"
PREFIX = "azure-storage-"


def run(server: Server, name: str, **args: str) -> Run:
    return succeed(server.run("app", PREFIX + name, args, follow=True, interval=0))


def sent(azure: LocalAzure, method: str) -> list[Any]:
    return [request for request in list(azure.requests) if request.service == "arm" and request.method == method]


@pytest.fixture(autouse=True)
def clean(azure: LocalAzure) -> Iterator[None]:
    """Leaves the account as it was found."""
    yield
    azure.arm.services[ACCOUNT] = {
        "deleteRetentionPolicy": {"allowPermanentDelete": False, "enabled": False},
        "cors": {"corsRules": []},
    }
    azure.arm.deleted.clear()
    azure.arm.accounts[ACCOUNT]["properties"]["allowBlobPublicAccess"] = False
    for item in azure.azurite.containers(ACCOUNT, azure.arm.keys[ACCOUNT][0]):
        azure.azurite.delete(ACCOUNT, azure.arm.keys[ACCOUNT][0], item["name"])
    for name in [name for name in azure.arm.accounts if name.startswith("evidence")]:
        azure.arm.accounts.pop(name)


def test_an_account_is_created_followed_and_updated(azure: LocalAzure, server: Server) -> None:
    azure.arm.polls = 2
    new = {"account_name": "evidence1", "sku": "Standard_LRS", "kind": "StorageV2", "location": "westeurope"}
    created = run(server, "account-create-update", **new, tags="case=1234")
    assert items(created, "StorageAccount")[0]["tags"] == {"case": "1234"}
    assert change(created)["changed"] is True
    assert len([r for r in azure.requests if "asyncoperations" in r.path]) == 3
    azure.requests.clear()
    updated = run(
        server,
        "account-create-update",
        account_name="evidence1",
        allow_blob_public_access="false",
        network_ruleset_ipRules="8.8.8.8",
    )
    assert [r.json() for r in sent(azure, "PATCH")] == [
        {
            "properties": {
                "networkAcls": {
                    "resourceAccessRules": [],
                    "bypass": "AzureServices",
                    "virtualNetworkRules": [],
                    "ipRules": [{"value": "8.8.8.8", "action": "Allow"}],
                    "defaultAction": "Allow",
                }
            }
        }
    ]
    assert items(updated, "StorageAccount")[0]["tags"] == {"case": "1234"}
    again = run(server, "account-create-update", account_name="evidence1", network_ruleset_ipRules="8.8.8.8")
    assert change(again)["changed"] is False


def test_accounts_of_a_group_a_subscription_and_by_id(azure: LocalAzure, server: Server) -> None:
    azure.arm.page_size = 1
    assert [item["name"] for item in items(run(server, "account-list"), "StorageAccount")] == [ACCOUNT]
    server.instances.save("app", azure.instance("Client Credentials", resource_group_name=""))
    every = items(run(server, "account-list"), "StorageAccount")
    assert {item["name"] for item in every} >= {ACCOUNT, "contosoweb"}
    one = items(
        run(server, "account-list", account_name=azure.arm.accounts["contosoweb"]["id"].upper()), "StorageAccount"
    )
    assert one[0]["name"] == "contosoweb"
    first = run(server, "account-list", limit="1")
    token = first.context["AzureStorage(true)"]["StorageAccountNextToken"]
    rest = items(run(server, "account-list", next_token=token), "StorageAccount")
    assert len(rest) == len(every) - 1


def test_the_blob_service_keeps_what_was_set(server: Server, azure: LocalAzure) -> None:
    run(server, "blob-service-properties-set", account_name=ACCOUNT, versioning="true", change_feed_enabled="true")
    changed = run(
        server,
        "blob-service-properties-set",
        account_name=ACCOUNT,
        delete_rentention_policy_enabled="true",
        delete_rentention_policy_days="9",
    )
    assert "* deleteRetentionPolicy.days: not set -> 9" in changed.text
    properties = items(run(server, "blob-service-properties-get", account_name=ACCOUNT), "BlobServiceProperties")[0][
        "properties"
    ]
    assert properties["isVersioningEnabled"] is True
    assert properties["changeFeed"] == {"enabled": True}
    assert properties["deleteRetentionPolicy"] == {"enabled": True, "days": 9, "allowPermanentDelete": False}


def test_containers_from_creation_to_the_bin(server: Server, azure: LocalAzure) -> None:
    named = {"account_name": ACCOUNT, "container_name": "case-1"}
    run(
        server,
        "blob-service-properties-set",
        account_name=ACCOUNT,
        container_delete_retention_policy_enabled="true",
        container_delete_retention_policy_days="7",
    )
    assert change(run(server, "blob-containers-create", **named))["changed"] is True
    assert change(run(server, "blob-containers-create", **named))["changed"] is False
    refused = server.run("app", PREFIX + "blob-containers-update", {**named, "public_access": "Blob"})
    assert "PublicAccessNotPermitted" in refused.error
    run(server, "account-create-update", account_name=ACCOUNT, allow_blob_public_access="true")
    assert change(run(server, "blob-containers-update", **named, public_access="Blob"))["before"] == {
        "publicAccess": "None"
    }
    assert "was deleted" in run(server, "blob-container-delete", **named).text
    assert "There is no container" in run(server, "blob-container-delete", **named).text
    bin_ = items(run(server, "blob-containers-list", account_name=ACCOUNT, include_deleted="true"), "BlobContainer")
    assert [(item["name"], item["properties"]["remainingRetentionDays"]) for item in bin_] == [("case-1", 7)]
    missing = server.run("app", PREFIX + "blob-containers-list", named)
    assert "ContainerNotFound" in missing.error
    assert "include_deleted=true" in missing.error


def test_groups_and_subscriptions(server: Server, azure: LocalAzure) -> None:
    azure.arm.page_size = 1
    groups = items(run(server, "resource-group-list", tag="Owner=finance"), "ResourceGroup")
    assert [group["name"] for group in groups] == ["rg-finance"]
    assert len(items(run(server, "resource-group-list"), "ResourceGroup")) == 2
    assert len(items(run(server, "subscriptions-list"), "Subscription")) == 2


@pytest.mark.parametrize(
    ("fault", "calls"),
    [
        ({"status": 429, "headers": {"Retry-After": "0"}, "times": 2}, 3),
        ({"status": 503, "body": "busy"}, 2),
        ({"status": 500, "body": "{}"}, 2),
        ({"cut": 0}, 2),
        ({"cut": 20}, 2),
    ],
)
def test_a_passing_fault_is_not_noticed(azure: LocalAzure, server: Server, fault: dict[str, Any], calls: int) -> None:
    azure.faults.add(service="arm", path="/subscriptions", **fault)
    assert len(items(run(server, "subscriptions-list"), "Subscription")) == 2
    assert len(sent(azure, "GET")) == calls


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"status": 429, "headers": {"Retry-After": "900"}}, "again in 900 seconds"),
        ({"status": 200, "body": "<html>Proxy login</html>"}, "not JSON: <html>Proxy login"),
        ({"status": 307, "headers": {"Location": "https://evil.example/"}}, "redirect"),
        (
            {"status": 403, "body": json.dumps({"error": {"code": "AuthorizationFailed", "message": "No role."}})},
            "The built-in role Reader includes it",
        ),
    ],
)
def test_a_lasting_fault_is_explained(azure: LocalAzure, server: Server, fault: dict[str, Any], words: str) -> None:
    azure.faults.add(service="arm", path="/subscriptions", times=9, **fault)
    assert words in server.run("app", PREFIX + "subscriptions-list").error


def test_tls_that_is_not_trusted_says_so(azure: LocalAzure, server: Server) -> None:
    server.environment = {"REQUESTS_CA_BUNDLE": "", "CURL_CA_BUNDLE": ""}
    error = server.run("app", PREFIX + "subscriptions-list").error
    assert "is not trusted" in error
    assert "Trust any certificate" in error
    server.instances.save("app", azure.instance("Client Credentials", insecure=True))
    assert len(items(run(server, "subscriptions-list"), "Subscription")) == 2
