"""The fix of every posture check, against a Resource Manager that keeps what it is sent."""

import json
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import requests_mock as rm

import AzureStorage as az

from .test_posture import CHECKS, ID, NOW, NUMBERS, SUBSCRIPTION, TABLE, TENANT, Json, account, container, logs, props

ARM = "https://management.azure.com"
FIX = "azure-storage-posture-fix"
OURS = {
    "key_vaults": "kv-contoso",
    "own_subscriptions": SUBSCRIPTION,
    "evidence_containers": "evidence",
    "account_name": ID,
}
# Checks of which the table's bad case leaves something to a person, before or instead of any request.
DECIDED = {11: False, 21: True, 22: True, 23: False, 24: True, 43: True, 44: True, 45: True}
PARAMS = {
    "auth_type": "Client Credentials",
    "app_id": SUBSCRIPTION,
    "tenant_id": SUBSCRIPTION,
    "credentials": {"password": "marker-secret"},
}


COLLECTIONS = {ID + source.path for source in az.DEEP_SOURCES.values()}


class Store:
    """Objects by path, as Resource Manager keeps them."""

    def __init__(self, mock: rm.Mocker, number: int, data: Any) -> None:
        self.objects: dict[str, Json] = {}
        self.writes: list[tuple[str, str, Any]] = []
        self.versions: dict[tuple[str, str], str] = {}
        source = CHECKS[number].source
        changes = dict(data) if source == "account" else {}
        sku = {"sku": {"name": changes.pop("sku")}} if "sku" in changes else {}
        whole = self.keep(ID, account(changes, location="westeurope", **sku))
        for connection in whole["properties"].get("privateEndpointConnections") or []:
            self.objects[connection["id"].lower()] = connection
        if source != "account":
            self.fill(ID + az.DEEP_SOURCES[source].path, data)
        mock.register_uri(rm.ANY, rm.ANY, json=self.answer)

    def fill(self, path: str, data: Any) -> None:
        if isinstance(data, dict):
            self.keep(path, data)
            return
        for place, item in enumerate(data):
            name = str(item.get("name") or item["properties"].get("policyId") or f"item{place}")
            self.keep(f"{path}/{name}", {**item, "name": name})

    def keep(self, path: str, item: Json) -> Json:
        """The object at a path, which stays the same one when it is replaced."""
        kept = self.objects.setdefault(path.lower(), {})
        kept.clear()
        kept.update(json.loads(json.dumps({"id": path, "name": path.rpartition("/")[2], **item})))
        return kept

    def answer(self, request: Any, context: Any) -> Json:
        context.headers["x-ms-request-id"] = "r-1"
        self.versions[request.method, unquote(urlsplit(request.url).path)] = request.qs["api-version"][0]
        path = unquote(urlsplit(request.url).path)
        if request.method == "GET":
            return self.read(path, context)
        body = request.json() if request.body else {}
        self.writes.append((request.method, path, body))
        return self.write(request.method, path, body)

    def read(self, path: str, context: Any) -> Json:
        if path.lower() in self.objects:
            return self.objects[path.lower()]
        if f"/subscriptions/{SUBSCRIPTION}" == path:
            return {"id": path, "tenantId": TENANT}
        if path.endswith(("/default", "/current")) or path not in COLLECTIONS:
            context.status_code = 404
            return {"error": {"code": "ResourceNotFound", "message": "none"}}
        inside = [item for key, item in self.objects.items() if key.rpartition("/")[0] == path.lower()]
        return {"value": inside}

    def write(self, method: str, path: str, body: Json) -> Json:
        if method == "DELETE":
            self.objects.pop(path.lower())
            return {}
        if method == "PUT":
            return self.keep(path, body)
        if method == "PATCH":
            item = self.objects[path.lower()]
            item["properties"] |= body.get("properties", {})
            item.update({key: value for key, value in body.items() if key != "properties"})
            return item
        return self.post(path, body)

    def post(self, path: str, body: Json) -> Json:
        holder, _, action = path.rpartition("/")
        properties = self.objects[holder.lower()]["properties"]
        if action == "regenerateKey":
            properties.setdefault("keyCreationTime", {})[body["keyName"]] = az.iso_time(NOW)
            return {"keys": [{"keyName": name, "value": f"marker-{name}"} for name in ("key1", "key2")]}
        properties.update(hasLegalHold=True, legalHold={"tags": [{"tag": tag} for tag in body["tags"]]})
        return body


@pytest.fixture
def azure(monkeypatch: pytest.MonkeyPatch) -> Iterator[az.Azure]:
    monkeypatch.setattr(az.MicrosoftAuth, "token", lambda self, *args, **options: "marker-token")
    monkeypatch.setattr(az.Clock, "now", lambda: NOW)
    yield az.Azure(az.read_settings(PARAMS), in_memory=True)


def fix(azure: az.Azure, number: int, **args: str) -> Any:
    return az.COMMANDS[FIX].call(azure, {**OURS, "check": CHECKS[number].name, "confirm": "contosobackups", **args})


def row_of(result: Any) -> Json:
    found: Json = result.outputs[az.POSTURE_VIEW.context]
    return found


@pytest.mark.parametrize("number", NUMBERS)
def test_a_fix_makes_its_check_pass_or_says_what_a_person_decides(
    azure: az.Azure, requests_mock: rm.Mocker, number: int
) -> None:
    store = Store(requests_mock, number, TABLE[number].bad)
    dry = fix(azure, number, dry_run="true")
    assert store.writes == [], "a dry run only reads"
    assert row_of(dry)["result"] in az.TO_SEE
    result = fix(azure, number)
    change = result.outputs["AzureStorage.Change"]
    if DECIDED.get(number):
        assert "A person has to decide" in result.readable_output
        assert (store.writes, change["changed"]) == ([], False)
        return
    assert store.writes
    assert change["changed"] is True
    assert result.entry_type is None or number not in DECIDED, result.readable_output
    if number not in DECIDED:
        assert row_of(result)["result"] == "pass", result.readable_output
        assert "Failed" not in result.readable_output
    again = fix(azure, number)
    assert again.outputs["AzureStorage.Change"]["changed"] is False


@pytest.mark.parametrize("number", NUMBERS)
def test_a_check_that_passes_is_left_alone(azure: az.Azure, requests_mock: rm.Mocker, number: int) -> None:
    store = Store(requests_mock, number, TABLE[number].good)
    assert "The check passes" in fix(azure, number).readable_output
    assert store.writes == []


def test_what_can_cut_somebody_off_has_to_be_confirmed(azure: az.Azure, requests_mock: rm.Mocker) -> None:
    store = Store(requests_mock, 7, {"networkAcls.defaultAction": "Allow"})
    with pytest.raises(az.UsageError, match=r"Every network that no rule allows.*confirm=contosobackups"):
        fix(azure, 7, confirm="")
    assert store.writes == []
    result = fix(azure, 7)
    assert "network_ruleset_default_action=Allow" in result.outputs["AzureStorage.Change"]["undo"]
    assert set(az.FIX_RISKS) <= {check.name for check in az.CHECKS}


def test_a_service_keeps_what_the_check_does_not_name(azure: az.Azure, requests_mock: rm.Mocker) -> None:
    old = props({"isVersioningEnabled": True, "deleteRetentionPolicy.enabled": False, "cors.corsRules": [{"a": 1}]})
    store = Store(requests_mock, 27, old)
    result = fix(azure, 27)
    ((method, _, body),) = store.writes
    policy = {"enabled": True, "days": 14}
    assert (method, body["properties"]) == ("PUT", {**old["properties"], "deleteRetentionPolicy": policy})
    assert "delete_retention_policy_enabled=false" in result.outputs["AzureStorage.Change"]["undo"]


def test_several_containers_are_closed_one_by_one(azure: az.Azure, requests_mock: rm.Mocker) -> None:
    boxes = [container(name, publicAccess="Blob") for name in ("one", "two")]
    store = Store(requests_mock, 34, [*boxes, container("three", publicAccess="None")])
    result = fix(azure, 34)
    change = result.outputs["AzureStorage.Change"]
    assert [path.rpartition("/")[2] for _, path, _ in store.writes] == ["one", "two"]
    assert len(change["after"]) == len(change["undo"].splitlines()) == 2
    assert row_of(result)["result"] == "pass"


def test_one_of_several_steps_that_fails_is_told_with_the_other(azure: az.Azure, requests_mock: rm.Mocker) -> None:
    Store(requests_mock, 34, [container(name, publicAccess="Blob") for name in ("one", "two")])
    locked = {"error": {"code": "ScopeLocked", "message": "locked"}}
    path = f"{ARM}{ID}/blobServices/default/containers/two"
    requests_mock.patch(path, status_code=409, json=locked)
    result = fix(azure, 34)
    assert result.entry_type == az.EntryType.ERROR
    steps = result.outputs["AzureStorage.Change"]["steps"]
    assert [step["result"] for step in steps] == ["done", "failed"]
    assert row_of(result)["result"] == "fail"


def test_a_deleted_policy_stays_in_the_context(azure: az.Azure, requests_mock: rm.Mocker) -> None:
    Store(requests_mock, 36, TABLE[36].bad)
    result = fix(azure, 36)
    change = result.outputs["AzureStorage.Change"]
    assert change["before"]["settings"] == TABLE[36].bad[0]["properties"]
    assert "No command undoes this change" in result.readable_output


def test_logs_that_azure_adds_to_a_setting_are_no_failure(azure: az.Azure, requests_mock: rm.Mocker) -> None:
    store = Store(requests_mock, 39, [logs("StorageRead")])
    answer = store.answer

    def more(request: Any, context: Any) -> Json:
        found = answer(request, context)
        if request.method == "PUT":
            found["properties"]["logs"] = [
                {**row, "retentionPolicy": {"enabled": False, "days": 0}} for row in found["properties"]["logs"]
            ] + [{"category": "StorageRead", "enabled": False}]
        return found

    requests_mock.register_uri(rm.ANY, rm.ANY, json=more)
    assert "Failed" not in fix(azure, 39).readable_output


def test_policies_with_other_tenants_are_for_a_person_first(azure: az.Azure, requests_mock: rm.Mocker) -> None:
    store = Store(requests_mock, 12, {"allowCrossTenantReplication": True})
    store.fill(f"{ID}/objectReplicationPolicies", TABLE[36].bad)
    text = fix(azure, 12).readable_output
    assert "A person has to decide: Delete the object replication policies with other tenants first" in text
    assert store.writes == []


def test_a_check_that_may_not_be_read_says_which_permission(azure: az.Azure, requests_mock: rm.Mocker) -> None:
    Store(requests_mock, 25, [])
    forbidden = {"error": {"code": "AuthorizationFailed", "message": "no"}}
    requests_mock.get(f"{ARM}{ID}/providers/Microsoft.Authorization/locks", status_code=403, json=forbidden)
    text = fix(azure, 25).readable_output
    assert "Microsoft.Authorization/locks/read" in text


def test_a_setting_is_sent_with_the_version_that_knows_it(azure: az.Azure, requests_mock: rm.Mocker) -> None:
    Store(requests_mock, 18, TABLE[18].bad)
    fix(azure, 18)
    versions = [request.qs["api-version"] for request in requests_mock.request_history if request.method == "PATCH"]
    assert versions == [[az.NEWEST_STORAGE_API]]


def test_a_sas_policy_is_written_with_the_version_that_knows_all_of_it(
    azure: az.Azure, requests_mock: rm.Mocker
) -> None:
    """An older version would drop what binds delegation SAS to a user."""
    bound = {"requireUserBoundUserDelegationSas": True, "requireUserBoundUserDelegationSasAction": "Block"}
    policy = {"sasExpirationPeriod": "1.00:00:00", "expirationAction": "Log", **bound}
    store = Store(requests_mock, 17, {"sasPolicy": policy})
    fix(azure, 17)
    ((method, path, body),) = store.writes
    assert body["properties"]["sasPolicy"] == {**policy, "expirationAction": "Block"}
    assert store.versions[method, path] == az.NEWEST_STORAGE_API


def test_a_cloud_without_the_newest_version_is_fixed_with_an_older_one(
    azure: az.Azure, requests_mock: rm.Mocker
) -> None:
    store = Store(requests_mock, 4, TABLE[4].bad)

    def older(request: Any, context: Any) -> Json:
        if request.qs["api-version"] != [az.NEWEST_STORAGE_API]:
            return store.answer(request, context)
        context.status_code = 400
        return {"error": {"code": "NoRegisteredProviderFound", "message": "older ones only"}}

    requests_mock.register_uri(rm.ANY, rm.ANY, json=older)
    result = fix(azure, 4)
    assert row_of(result)["result"] == "pass"
    assert store.writes == [("PATCH", ID, {"properties": {"allowSharedKeyAccess": False}})]
    assert row_of(fix(azure, 13))["result"] == "unknown"


def test_a_storage_task_that_azure_changes_later_is_no_broken_answer(azure: az.Azure, requests_mock: rm.Mocker) -> None:
    """Its PATCH is documented to answer 202, without a body."""
    store = Store(requests_mock, 46, TABLE[46].bad)

    def accepted(request: Any, context: Any) -> Json | None:
        found = store.answer(request, context)
        context.status_code = 202 if request.method == "PATCH" else 200
        return None if request.method == "PATCH" else found

    requests_mock.register_uri(rm.ANY, rm.ANY, json=accepted)
    result = fix(azure, 46)
    assert row_of(result)["result"] == "pass", result.readable_output


def test_an_undo_names_what_it_leaves(azure: az.Azure, requests_mock: rm.Mocker) -> None:
    policy = {"enabled": False, "days": 7, "allowPermanentDelete": True}
    Store(requests_mock, 27, props({"deleteRetentionPolicy": policy}))
    result = fix(azure, 27)
    assert "delete_retention_policy_enabled=false" in result.outputs["AzureStorage.Change"]["undo"]
    assert "The undo leaves as they are: deleteRetentionPolicy.allowPermanentDelete." in result.readable_output
