"""How the local Azure is made to differ from a healthy one, and what it answers before anybody has signed in."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import requests
from azure.core.exceptions import HttpResponseError
from azure.mgmt.storage import StorageManagementClient

from local.azure import LocalAzure, Modes
from local.azure.arm import roles
from local.xsoar.server import ROOT

from .clients import (
    ACCOUNT,
    GROUP,
    NEWEST,
    SECRET_APP,
    STORAGE,
    SUBSCRIPTION,
    account_id,
    call,
    code_of,
    refused,
    send,
)

GRAPH = "/providers/Microsoft.ResourceGraph/resources"
QUERY = {"query": "resources"}


pytestmark = pytest.mark.usefixtures("kept_store")


# A proxy


@pytest.mark.parametrize(("service", "path"), [("arm", "/storageAccounts"), ("arm", ""), ("blob", ""), ("entra", "")])
def test_a_proxy_answers_in_azures_place(azure: LocalAzure, service: str, path: str) -> None:
    urls = {"arm": azure.arm_url + account_id(azure), "blob": f"https://{azure.blob_host}/{ACCOUNT}"}
    urls["entra"] = f"{azure.authority_url}/{azure.tenant_id}/v2.0/jwks"
    azure.faults.proxy(service, path=path)
    for _ in range(3):
        answer = call(azure, "GET", urls[service])
        assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
        assert "<html>" in answer.text
        assert not [name for name in answer.headers if name.lower().startswith("x-ms-")]
    azure.faults.clear()
    assert "<html>" not in call(azure, "GET", urls[service]).text


def test_a_proxy_for_one_answer(azure: LocalAzure) -> None:
    azure.faults.proxy("arm", "POST", "listKeys", times=1)
    path = f"{account_id(azure)}/listKeys"
    kinds = [send(azure, "POST", path, STORAGE).headers["Content-Type"].partition(";")[0] for _ in range(2)]
    assert kinds == ["text/html", "application/json"]


# API versions


@pytest.mark.parametrize("version", [STORAGE, "2021-01-01", NEWEST])
def test_an_old_resource_manager_names_the_versions_that_it_knows(azure: LocalAzure, version: str) -> None:
    azure.modes.newest_api = "2019-06-01"
    answer = send(azure, "GET", account_id(azure), version)
    assert code_of(answer) == (400, "NoRegisteredProviderFound")
    message = answer.json()["error"]["message"]
    assert f"API version '{version}' for type 'storageAccounts'" in message
    assert "The supported api-versions are '2019-06-01'." in message
    assert send(azure, "GET", account_id(azure), "2019-06-01").json()["name"] == ACCOUNT


@pytest.mark.parametrize(
    ("method", "path", "version"),
    [
        ("GET", "", "2025-12-31"),
        ("GET", "/blobServices/default", "2031-01-01"),
        ("GET", "/providers/Microsoft.Authorization/locks", STORAGE),
        ("POST", "/providers/microsoft.insights/logs", "2015-04-01"),
        ("GET", "/providers/Microsoft.Security/defenderForStorageSettings/current", "2020-01-01"),
    ],
)
def test_a_version_of_another_provider_is_none(azure: LocalAzure, method: str, path: str, version: str) -> None:
    answer = send(azure, method, account_id(azure) + path, version)
    assert code_of(answer) == (400, "NoRegisteredProviderFound")


# Regions


def test_another_region(azure: LocalAzure, sdk: StorageManagementClient) -> None:
    azure.modes.regions = ("chinanorth3", "chinaeast2")
    body = {"sku": {"name": "Standard_LRS"}, "kind": "StorageV2", "location": "westeurope"}
    with pytest.raises(HttpResponseError) as error:
        sdk.storage_accounts.begin_create(GROUP, "eastern", body)
    assert refused(error) == (400, "LocationNotAvailableForResourceType")
    made = sdk.storage_accounts.begin_create(GROUP, "eastern", {**body, "location": "chinaeast2"}).result()
    assert made.location == "chinaeast2"
    assert {item.locations[0] for item in sdk.skus.list()} == {"chinanorth3", "chinaeast2"}
    (usage,) = sdk.usages.list_by_location("chinaeast2")
    assert (usage.name.value, usage.current_value, usage.limit) == ("StorageAccounts", 1, 250)
    assert send(azure, "GET", f"/subscriptions/{SUBSCRIPTION}/locations", "2022-12-01").json()["value"][0]["name"] == (
        "chinanorth3"
    )


# Roles


@pytest.mark.parametrize(
    ("method", "path"), [("GET", ""), ("POST", "/listKeys"), ("GET", "/providers/Microsoft.Authorization/locks")]
)
def test_nobody_has_a_role(azure: LocalAzure, method: str, path: str) -> None:
    """As it is for an identity with nothing but data roles: every scope is closed, and there is nothing to be found."""
    azure.modes.no_role = True
    version = "2020-05-01" if "locks" in path else STORAGE
    assert code_of(send(azure, method, account_id(azure) + path, version)) == (403, "AuthorizationFailed")
    assert send(azure, "GET", "/subscriptions", "2022-12-01").json()["value"] == []
    assert send(azure, "POST", GRAPH, "2024-04-01", QUERY).json()["data"] == []
    azure.modes.no_role = False
    assert send(azure, "POST", GRAPH, "2024-04-01", QUERY).json()["count"] == len(azure.arm.accounts)


@pytest.mark.parametrize(
    ("role", "at", "allowed"),
    [
        ("Reader", "", {"read"}),
        ("Reader", "/blobServices/default/containers/any", set()),
        ("Storage Account Key Operator Service Role", "", {"keys"}),
        ("Storage Account Contributor", "", {"read", "keys", "change"}),
        ("Storage Blob Data Owner", "", set()),
    ],
)
def test_roles_decide_once_they_are_told_to(azure: LocalAzure, role: str, at: str, allowed: set[str]) -> None:
    azure.arm.assignments.clear()
    roles.assign(azure.arm, account_id(azure) + at, role, SECRET_APP, "ServicePrincipal")
    azure.modes.enforce_roles = True
    tried = {
        "read": send(azure, "GET", account_id(azure), STORAGE),
        "keys": send(azure, "POST", f"{account_id(azure)}/listKeys", STORAGE),
        "change": send(azure, "PATCH", account_id(azure), STORAGE, {"tags": {}}),
    }
    assert {name for name, answer in tried.items() if answer.ok} == allowed
    assert {answer.status_code for answer in tried.values()} <= {200, 403}


# Throttling


def test_throttling_after_so_many_requests(azure: LocalAzure) -> None:
    azure.modes.throttle_after, azure.modes.retry_after = 2, 7
    answers = [send(azure, "GET", account_id(azure), STORAGE) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 429, 429]
    assert code_of(answers[2]) == (429, "TooManyRequests")
    assert answers[2].headers["Retry-After"] == "7"
    azure.modes.clear()
    assert azure.modes == Modes()
    assert send(azure, "GET", account_id(azure), STORAGE).status_code == 200


# Every answer, and what needs no token


@pytest.mark.parametrize(
    ("method", "path", "version"),
    [
        ("GET", "/subscriptions", "2022-12-01"),
        ("GET", "/nowhere", "2022-12-01"),
        ("GET", "/subscriptions", "soon"),
        ("PATCH", "/subscriptions", "2022-12-01"),
        ("POST", GRAPH, "2024-04-01"),
        ("GET", "/metadata/endpoints", "2022-09-01"),
    ],
)
def test_every_answer_has_the_ids_of_its_request(azure: LocalAzure, method: str, path: str, version: str) -> None:
    answers = [send(azure, method, path, version), call(azure, method, f"{azure.arm_url}{path}?api-version={version}")]
    azure.modes.throttle_after = 0
    answers.append(send(azure, method, path, version))
    ids = [answer.headers[name] for answer in answers for name in ("x-ms-request-id", "x-ms-correlation-request-id")]
    assert len(set(ids)) == 6


def test_a_cloud_describes_itself_to_anybody(azure: LocalAzure) -> None:
    """What `az cloud register` reads; it asks before anybody has signed in."""
    found: dict[str, Any] = call(azure, "GET", f"{azure.arm_url}/metadata/endpoints?api-version=2022-09-01").json()
    assert found["authentication"]["loginEndpoint"] == azure.authority_url
    assert (found["authentication"]["audiences"], found["authentication"]["tenant"]) == (
        [azure.arm_url],
        azure.tenant_id,
    )
    assert (found["resourceManager"], found["suffixes"]["storage"]) == (azure.arm_url, azure.blob_host)


def test_a_provider_tells_its_kinds_and_versions(azure: LocalAzure) -> None:
    """What `az resource` asks before it knows which api-version to send."""
    path = f"/subscriptions/{SUBSCRIPTION}/providers/microsoft.storage"
    kinds = {row["resourceType"]: row for row in send(azure, "GET", path, "2022-12-01").json()["resourceTypes"]}
    assert kinds["storageAccounts"]["apiVersions"][0] == NEWEST
    assert "storageAccounts/encryptionScopes" in kinds
    assert code_of(send(azure, "GET", path + "x", "2022-12-01")) == (404, "InvalidResourceNamespace")
    listed = f"/subscriptions/{SUBSCRIPTION}/resources?$filter=name eq '{ACCOUNT}'"
    assert [item["id"] for item in send(azure, "GET", listed, "2022-12-01").json()["value"]] == [account_id(azure)]
    assert send(azure, "GET", "/tenants", "2022-12-01").json()["value"][0]["tenantId"] == azure.tenant_id


def test_a_group_is_there_or_not(azure: LocalAzure) -> None:
    """What `az group exists` asks."""
    groups = f"/subscriptions/{SUBSCRIPTION}/resourceGroups"
    found = [send(azure, "HEAD", f"{groups}/{name}", "2024-11-01").status_code for name in (GROUP.upper(), "none")]
    assert found == [204, 404]


def test_it_is_started_by_hand_with_its_modes(tmp_path: Path) -> None:
    command = (
        sys.executable,
        "-m",
        "local.azure",
        "--home",
        str(tmp_path / "a"),
        "--throttle-after",
        "0",
        "--proxy",
        "blob",
    )
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout
        lines = [process.stdout.readline()]
        while lines[-1].rstrip() not in ("}", ""):
            lines.append(process.stdout.readline())
        told = json.loads("".join(lines))
        ca_file = told["environment"]["REQUESTS_CA_BUNDLE"]
        blob = requests.get(f"https://{told['params']['custom_storage_suffix']}/", verify=ca_file, timeout=20)
        process.send_signal(2)
        assert process.wait(20) == 0
    assert "<html>" in blob.text
