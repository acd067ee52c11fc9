"""Legal holds and immutability policies of containers."""

from collections.abc import Callable

import pytest
from azure.core import MatchConditions
from azure.core.exceptions import HttpResponseError
from azure.mgmt.storage import StorageManagementClient

from local.azure import LocalAzure

from .clients import (
    ACCOUNT,
    GROUP,
    SECRET_APP,
    STORAGE,
    account_id,
    code_of,
    refused,
    send,
    service_id,
)

CONTAINER = "cloud-holds"
IF_MATCH = MatchConditions.IfNotModified


pytestmark = pytest.mark.usefixtures("kept_store")


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


@pytest.mark.parametrize("protocol", ["isSftpEnabled", "isNfsV3Enabled"])
def test_accounts_with_files_protocols_take_no_hold_and_no_policy(azure: LocalAzure, protocol: str) -> None:
    azure.arm.accounts[ACCOUNT]["properties"] |= {"isHnsEnabled": True, protocol: True}
    path = f"{service_id(azure)}/containers/{CONTAINER}"
    hold = send(azure, "POST", f"{path}/setLegalHold", STORAGE, {"tags": ["case1"]})
    period = {"properties": {"immutabilityPeriodSinceCreationInDays": 3}}
    policy = send(azure, "PUT", f"{path}/immutabilityPolicies/default", STORAGE, period)
    assert [code_of(answer) for answer in (hold, policy)] == [(409, "FeatureNotSupportedForAccount")] * 2
    assert not azure.arm.holds.get((ACCOUNT, CONTAINER))


RESTORE = {
    "isVersioningEnabled": True,
    "changeFeed": {"enabled": True},
    "deleteRetentionPolicy": {"enabled": True, "days": 8},
    "restorePolicy": {"enabled": True, "days": 7},
}
TRACKING = {"lastAccessTimeTrackingPolicy": {"enable": True}}


def refusal_of(act: Callable[..., object], *args: object, **options: object) -> tuple[int | None, str | None]:
    with pytest.raises(HttpResponseError) as error:
        act(*args, **options)
    return refused(error)


@pytest.mark.parametrize("settings", [RESTORE, TRACKING])
def test_holds_and_policies_exclude_restores_and_access_times(
    azure: LocalAzure, sdk: StorageManagementClient, settings: dict[str, object]
) -> None:
    """Whichever was there first."""
    where, conflict = (GROUP, ACCOUNT, CONTAINER), (409, "ConflictFeatureEnabled")
    containers, service = sdk.blob_containers, sdk.blob_services.set_service_properties
    period = {"properties": {"immutabilityPeriodSinceCreationInDays": 3}}
    by_version = {"properties": {"immutableStorageWithVersioning": {"enabled": True}}}
    service(GROUP, ACCOUNT, {"properties": settings})
    assert refusal_of(containers.set_legal_hold, *where, {"tags": ["case1"]}) == conflict
    policy = containers.create_or_update_immutability_policy
    assert refusal_of(policy, *where, parameters=period) == conflict
    assert refusal_of(containers.update, *where, by_version) == conflict
    assert refusal_of(containers.create, GROUP, ACCOUNT, "by-version", by_version) == conflict
    service(GROUP, ACCOUNT, {"properties": {}})
    containers.set_legal_hold(*where, {"tags": ["case1"]})
    assert refusal_of(service, GROUP, ACCOUNT, {"properties": settings}) == conflict
    containers.clear_legal_hold(*where, {"tags": ["case1"]})
    made = policy(*where, parameters=period)
    assert refusal_of(service, GROUP, ACCOUNT, {"properties": settings}) == conflict
    containers.delete_immutability_policy(*where, etag=str(made.etag), match_condition=IF_MATCH)
    service(GROUP, ACCOUNT, {"properties": settings})


def test_version_level_immutability_excludes_them_too(azure: LocalAzure, sdk: StorageManagementClient) -> None:
    by_version = {"properties": {"immutableStorageWithVersioning": {"enabled": True}}}
    sdk.blob_containers.update(GROUP, ACCOUNT, CONTAINER, by_version)
    service = sdk.blob_services.set_service_properties
    assert refusal_of(service, GROUP, ACCOUNT, {"properties": RESTORE}) == (409, "ConflictFeatureEnabled")
    azure.arm.accounts[ACCOUNT]["properties"]["isHnsEnabled"] = True
    lake = refusal_of(sdk.blob_containers.update, GROUP, ACCOUNT, CONTAINER, by_version)
    assert lake == (409, "FeatureNotSupportedForAccount")


def test_version_level_immutability_takes_holds_blob_by_blob(azure: LocalAzure) -> None:
    azure.arm.container_settings[ACCOUNT, CONTAINER] = {"immutableStorageWithVersioning": {"enabled": True}}
    path = f"{service_id(azure)}/containers/{CONTAINER}"
    hold = send(azure, "POST", f"{path}/setLegalHold", STORAGE, {"tags": ["case1"]})
    assert code_of(hold) == (409, "FeatureNotSupportedForAccount")


def test_a_policy_is_extended_five_times_and_says_who_did_it(azure: LocalAzure, sdk: StorageManagementClient) -> None:
    path = f"{service_id(azure)}/containers/{CONTAINER}/immutabilityPolicies/default"
    days = "immutabilityPeriodSinceCreationInDays"
    etag = send(azure, "PUT", path, STORAGE, {"properties": {days: 1}}).headers["ETag"]
    etag = send(azure, "POST", f"{path}/lock", STORAGE, **{"If-Match": etag}).headers["ETag"]
    for number in range(2, 8):
        body = {"properties": {days: number}}
        answer = send(azure, "POST", f"{path}/extend", STORAGE, body, **{"If-Match": etag})
        etag = answer.headers.get("ETag", "")
    assert code_of(answer) == (409, "ImmutabilityPolicyExtendNotAllowed")
    shown = sdk.blob_containers.get(GROUP, ACCOUNT, CONTAINER).immutability_policy
    assert shown is not None
    assert [entry["update"] for entry in shown.update_history] == ["put", "lock", *["extend"] * 5]
    assert {entry.object_identifier for entry in shown.update_history} == {SECRET_APP}
    azure.arm.policies.clear()  # nothing else unlocks it


def test_tags_are_needed_to_hold(azure: LocalAzure) -> None:
    path = f"{service_id(azure)}/containers/{CONTAINER}/setLegalHold"
    for tags in ([], ["ab"], ["a" * 24], ["case 1"]):
        assert code_of(send(azure, "POST", path, STORAGE, {"tags": tags})) == (400, "InvalidLegalHoldTag")
    missing = send(azure, "POST", path.replace(CONTAINER, "nothing"), STORAGE, {"tags": ["case1"]})
    assert code_of(missing) == (404, "ContainerNotFound")
