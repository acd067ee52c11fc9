"""Point-in-time restore."""

from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from azure.mgmt.storage import StorageManagementClient

from local.azure import LocalAzure

from .clients import (
    ACCOUNT,
    GROUP,
    STORAGE,
    account_id,
    code_of,
    send,
)

pytestmark = pytest.mark.usefixtures("kept_store")


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


@pytest.mark.parametrize(
    "changes",
    [
        {"isVersioningEnabled": False},
        {"changeFeed": {"enabled": False}},
        {"deleteRetentionPolicy": {"enabled": False}},
        {"deleteRetentionPolicy": {"enabled": True, "days": 7}},
    ],
)
def test_a_restore_needs_what_the_policy_stands_on(azure: LocalAzure, changes: dict[str, Any]) -> None:
    azure.arm.services[ACCOUNT] = {**RESTORABLE, **changes}
    answer = send(azure, "POST", f"{account_id(azure)}/restoreBlobRanges", STORAGE, restore_body(minutes=5))
    assert answer.status_code == 409
    assert ACCOUNT not in azure.arm.restores


def test_a_hierarchical_account_is_never_restored(azure: LocalAzure) -> None:
    azure.arm.services[ACCOUNT] = RESTORABLE
    azure.arm.accounts[ACCOUNT]["properties"]["isHnsEnabled"] = True
    answer = send(azure, "POST", f"{account_id(azure)}/restoreBlobRanges", STORAGE, restore_body(minutes=5))
    assert code_of(answer) == (409, "FeatureNotSupportedForAccount")


@pytest.mark.parametrize("ranges", [0, 11])
def test_a_restore_takes_one_to_ten_ranges(azure: LocalAzure, ranges: int) -> None:
    azure.arm.services[ACCOUNT] = RESTORABLE
    body = {**restore_body(minutes=5), "blobRanges": [{"startRange": "a", "endRange": "b"}] * ranges}
    answer = send(azure, "POST", f"{account_id(azure)}/restoreBlobRanges", STORAGE, body)
    assert code_of(answer) == (400, "InvalidValuesForRequestParameters")
