"""Resource locks, and what they stop."""

from collections.abc import Callable

import pytest
from azure.core.exceptions import HttpResponseError
from azure.mgmt.storage import StorageManagementClient

from local.azure import LocalAzure
from local.azure.arm.locks import add_lock

from .clients import (
    ACCOUNT,
    GROUP,
    LOCKS,
    STORAGE,
    SUBSCRIPTION,
    account_id,
    code_of,
    refused,
    send,
)

CONTAINER = "cloud-locks"


pytestmark = pytest.mark.usefixtures("kept_store")


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


# What a ReadOnly lock stops: all that is more than reading, on the account and on its parts.
CHANGES: tuple[tuple[str, str, str], ...] = (
    ("POST", "/listKeys", STORAGE),
    ("POST", "/regenerateKey", STORAGE),
    ("POST", "/revokeUserDelegationKeys", STORAGE),
    ("POST", "/restoreBlobRanges", STORAGE),
    ("PATCH", "", STORAGE),
    ("PUT", "", STORAGE),
    ("DELETE", "", STORAGE),
    ("PUT", "/blobServices/default", STORAGE),
    ("PUT", f"/blobServices/default/containers/{CONTAINER}", STORAGE),
    ("POST", f"/blobServices/default/containers/{CONTAINER}/setLegalHold", STORAGE),
    ("POST", f"/blobServices/default/containers/{CONTAINER}/clearLegalHold", STORAGE),
    ("POST", f"/blobServices/default/containers/{CONTAINER}/lease", STORAGE),
    ("POST", f"/blobServices/default/containers/{CONTAINER}/immutabilityPolicies/default/lock", STORAGE),
    ("PUT", "/managementPolicies/default", STORAGE),
    ("PUT", "/privateEndpointConnections/pe", STORAGE),
    ("DELETE", "/localUsers/eve", STORAGE),
    ("PUT", "/providers/Microsoft.Security/defenderForStorageSettings/current", "2025-06-01"),
    ("PUT", "/blobServices/default/providers/Microsoft.Insights/diagnosticSettings/soc", "2021-05-01-preview"),
)


@pytest.mark.parametrize(("method", "path", "version"), CHANGES)
@pytest.mark.parametrize("scope", ["subscription", "group", "account"])
def test_a_read_only_lock_stops_every_change_under_it(
    azure: LocalAzure, scope: str, method: str, path: str, version: str
) -> None:
    here = account_id(azure)
    above = {
        "subscription": f"/subscriptions/{SUBSCRIPTION}",
        "group": here.partition("/providers")[0],
        "account": here,
    }
    add_lock(azure.arm, above[scope], "frozen", "ReadOnly")
    answer = send(azure, method, here + path, version, {"tags": ["case1"]} if method == "POST" else {})
    assert code_of(answer) == (409, "ScopeLocked")
    assert f"following scope(s) are locked: '{above[scope]}'" in answer.json()["error"]["message"]


def test_a_read_only_lock_lets_people_read(azure: LocalAzure) -> None:
    add_lock(azure.arm, account_id(azure), "frozen", "ReadOnly")
    reads = ("", "/blobServices/default", f"/blobServices/default/containers/{CONTAINER}", "/encryptionScopes")
    assert [send(azure, "GET", account_id(azure) + path, STORAGE).status_code for path in reads] == [200] * len(reads)
    query = {"query": "StorageBlobLogs | count"}
    logs = f"{account_id(azure)}/providers/microsoft.insights/logs"
    assert send(azure, "POST", logs, "2018-03-01-preview", query).status_code == 200
    other = account_id(azure, "contosoweb")
    assert send(azure, "POST", f"{other}/listKeys", STORAGE).status_code == 200


def test_a_lock_against_deletion_stops_deletions_only(azure: LocalAzure) -> None:
    add_lock(azure.arm, account_id(azure), "kept", "CanNotDelete")
    here = account_id(azure)
    for path in (
        f"/blobServices/default/containers/{CONTAINER}",
        "/localUsers/eve",
        "/objectReplicationPolicies/x",
        "",
    ):
        assert code_of(send(azure, "DELETE", here + path, STORAGE)) == (409, "ScopeLocked")
    assert send(azure, "POST", f"{here}/listKeys", STORAGE).status_code == 200
    assert send(azure, "PATCH", here, STORAGE, {"tags": {"a": "b"}}).status_code == 200


def test_the_doubled_slashes_of_microsofts_command_line(azure: LocalAzure) -> None:
    """`az lock create --resource NAME --resource-type ...` leaves the parent's place in the path empty."""
    doubled = account_id(azure).replace("/storageAccounts/", "//storageAccounts/")
    lock = f"{doubled}/providers/Microsoft.Authorization/locks/mine"
    made = send(azure, "PUT", lock, LOCKS, {"properties": {"level": "CanNotDelete"}})
    assert (made.status_code, made.json()["id"]) == (201, lock.replace("//", "/"))
    assert send(azure, "GET", lock, LOCKS).json()["properties"]["level"] == "CanNotDelete"
    assert send(azure, "DELETE", lock, LOCKS).status_code == 200
