"""Microsoft's clients and plain requests against the local Azure, for the tests of the Azure itself."""

import copy
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
import requests
from azure.core.credentials import AccessToken
from azure.core.exceptions import HttpResponseError
from azure.mgmt.storage import StorageManagementClient

from local.azure import LocalAzure
from local.azure.entra import APP_SECRET, SECRET_APP
from local.azure.machine import GROUP, SUBSCRIPTION

__all__ = ["GROUP", "SECRET_APP", "SUBSCRIPTION"]
ACCOUNT = "contosobackups"
STORAGE = "2025-08-01"
LOCKS = "2020-05-01"
ROLES = "2022-04-01"
DIAGNOSTICS = "2021-05-01-preview"
NEWEST = "2026-09-01"


class Credential:
    """Tokens of the local Entra for Microsoft's clients."""

    def __init__(self, azure: LocalAzure) -> None:
        self.azure = azure

    def get_token(self, *scopes: str, **_: Any) -> AccessToken:
        form = {
            "grant_type": "client_credentials",
            "client_id": SECRET_APP,
            "client_secret": APP_SECRET,
            "scope": scopes[0],
            "resource": scopes[0].removesuffix("/.default"),
        }
        url = f"{self.azure.authority_url}/{self.azure.tenant_id}/v2.0/token"
        answer = call(self.azure, "POST", url, data=form).json()
        return AccessToken(answer["access_token"], int(time.time()) + answer["expires_in"])


def call(azure: LocalAzure, method: str, url: str, **options: Any) -> requests.Response:
    with requests.Session() as session:
        session.trust_env = False
        return session.request(method, url, verify=str(azure.ca_file), timeout=20, **options)


def send(
    azure: LocalAzure, method: str, path: str, version: str, body: Any = None, **headers: str
) -> requests.Response:
    """A request to Resource Manager with the application's token."""
    token = Credential(azure).get_token(f"{azure.arm_url}/.default").token
    url = f"{azure.arm_url}{path}{'&' if '?' in path else '?'}api-version={version}"
    return call(azure, method, url, json=body, headers={"Authorization": f"Bearer {token}", **headers})


def code_of(answer: requests.Response) -> tuple[int, str]:
    """The status of a refusal, and the code in its body."""
    return answer.status_code, str(answer.json()["error"]["code"])


def refused(error: pytest.ExceptionInfo[HttpResponseError]) -> tuple[int | None, str | None]:
    return error.value.status_code, error.value.error.code if error.value.error else None


def account_id(azure: LocalAzure, account: str = ACCOUNT) -> str:
    found: str = azure.arm.accounts[account]["id"]
    return found


def service_id(azure: LocalAzure, account: str = ACCOUNT) -> str:
    return f"{account_id(azure, account)}/blobServices/default"


def days_ago(days: float) -> str:
    return (datetime.now(timezone.utc) - timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ")


@contextmanager
def management(azure: LocalAzure, version: str = STORAGE) -> Iterator[StorageManagementClient]:
    with StorageManagementClient(
        Credential(azure),
        SUBSCRIPTION,
        base_url=azure.arm_url,
        credential_scopes=[f"{azure.arm_url}/.default"],
        connection_verify=str(azure.ca_file),
        polling_interval=0,
        retry_total=0,
        api_version=version,
    ) as client:
        yield client


@contextmanager
def kept(azure: LocalAzure, container: str = "") -> Iterator[None]:
    """Whatever is done to the store is undone; a container is made for the time, and removed with what it has."""
    arm, restored = azure.arm, azure.arm.on_restore
    accounts, services, keys = copy.deepcopy((arm.accounts, arm.services, arm.keys))
    assignments, definitions = dict(arm.assignments), dict(arm.definitions)
    if container:
        azure.azurite.create(ACCOUNT, arm.keys[ACCOUNT][0], container, {})
    try:
        yield
    finally:
        arm.clear()
        arm.container_settings.clear()
        if container:
            azure.azurite.delete(ACCOUNT, arm.keys[ACCOUNT][0], container)
        arm.accounts, arm.services = accounts, services
        arm.keys = {name: arm.keys.get(name, key) for name, key in keys.items()}
        arm.assignments, arm.definitions = assignments, definitions
        arm.graph_page_size, arm.on_restore = 1000, restored
        arm.blobs.accounts_changed(arm.keys)
