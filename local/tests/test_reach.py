"""From a leaked SAS to what was taken with it, and from a finding to its fix: against the local Azure."""

import hashlib
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from local.azure import LocalAzure
from local.azure.logs import sas_hash
from local.xsoar.server import Run, Server

from .clients import SUBSCRIPTION, account_id, call, kept, send
from .conftest import change, items, succeed

ACCOUNT, LOG_ACCOUNT = "contosobackups", "contosoweb"
SIGNATURE = "marker+signature="
LEAKED = "sv=2022-11-02&sr=b&sp=r&se=2027-01-01T00:00:00Z&sig=marker%2Bsignature%3D"
WORKSPACE = (
    f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg-soc/providers/Microsoft.OperationalInsights/workspaces/soc"
)
BLOB = {"container_name": "cases", "blob_name": "it's a.txt"}


@pytest.fixture(autouse=True)
def clean(azure: LocalAzure) -> Iterator[None]:
    with kept(azure):
        yield


def run(server: Server, name: str, **args: str) -> Run:
    return succeed(server.run("app", f"azure-storage-{name}", {"account_name": ACCOUNT, **args}))


def served(azure: LocalAzure, **columns: Any) -> None:
    """A request that the logs have."""
    usual = {
        "AccountName": ACCOUNT,
        "Category": "StorageRead",
        "OperationName": "GetBlob",
        "StatusCode": "200",
        "AuthenticationType": "SAS",
        "AuthenticationHash": sas_hash("key1", azure.arm.keys[ACCOUNT][0], SIGNATURE),
        "CallerIpAddress": "198.51.100.7:50123",
        "Uri": f"https://{ACCOUNT}.blob.core.windows.net:443/cases/it%27s%20a.txt?sv=2025-11-05",
        "ResponseBodySize": 5,
    }
    azure.log.record(**{**usual, **columns})


@pytest.mark.parametrize("source", [{}, {"source": "container", "log_account_name": LOG_ACCOUNT}])
def test_real_requests_are_found_in_both_places(
    azure: LocalAzure, server: Server, box: Any, source: dict[str, str]
) -> None:
    run(server, "account-logging-set", workspace_id=WORKSPACE)
    archive = account_id(azure).replace(ACCOUNT, LOG_ACCOUNT)
    run(server, "account-logging-set", setting_name="archive", storage_account_id=archive)
    run(server, "blob-containers-create", container_name="cases")
    run(server, "blob-put", **BLOB, text="hello")
    run(server, "blob-get", **BLOB)
    url = items(run(server, "sas-create", **BLOB, signed_by="account_key"), "Sas")[0]["url"]
    assert call(azure, "GET", url).text == "hello"
    signature = parse_qs(urlsplit(url).query)["sig"][0]
    digest = hashlib.sha256(signature.encode()).hexdigest()
    (summary,) = items(run(server, "log-search", sas=url, **source), "LogSummary")
    assert (summary["caller"], summary["key"], summary["bytesOut"]) == (f"SAS {digest}", "key1", 5)
    assert summary["address"] == azure.client_address
    found = run(server, "log-search", hunt="downloads", **BLOB, **source)
    assert {row["authorization"] for row in items(found, "LogSummary")} == {"SAS", "identity"}
    assert signature not in found.text


@pytest.mark.parametrize("filters", [{}, BLOB, {"ip": "198.51.100.7"}, {"hunt": "downloads"}, {"hunt": "sas"}])
def test_what_was_taken_with_a_leaked_sas(azure: LocalAzure, server: Server, filters: dict[str, str]) -> None:
    run(server, "account-logging-set", workspace_id=WORKSPACE)
    served(azure)
    served(azure, AuthenticationType="OAuth", AuthenticationHash="AB" * 32)
    served(azure, Uri="https://x/other", CallerIpAddress="198.51.100.70:1", OperationName="ListBlobs", Category="None")
    found = run(server, "log-search", sas=LEAKED, **filters)
    digest = hashlib.sha256(SIGNATURE.encode()).hexdigest()
    (summary,) = (row for row in items(found, "LogSummary") if row["address"] == "198.51.100.7")
    assert (summary["caller"], summary["key"], summary["bytesOut"]) == (f"SAS {digest}", "key1", 5)
    assert {row["authorization"] for row in items(found, "LogSummary")} == {"SAS"}
    assert "marker" not in found.text


def test_logs_that_are_off_or_may_not_be_read_are_told(azure: LocalAzure, server: Server) -> None:
    off = run(server, "log-search")
    assert "Not logged to a workspace at present: StorageRead, StorageWrite, StorageDelete" in off.text
    run(server, "account-logging-set", workspace_id=WORKSPACE)
    served(azure)
    azure.log.unreadable.add(WORKSPACE.lower())
    assert "lacks permission" in run(server, "log-search").text
    azure.log.unreadable.clear()
    azure.log.table_known = False
    error = server.run("app", "azure-storage-log-search", {"account_name": ACCOUNT}).error
    azure.log.table_known = True
    assert "No Log Analytics workspace" in error


def test_a_query_of_ones_own(azure: LocalAzure, server: Server) -> None:
    run(server, "account-logging-set", workspace_id=WORKSPACE)
    served(azure, OperationName="QueryOfOnesOwn")
    query = "StorageBlobLogs | where OperationName == 'QueryOfOnesOwn' | summarize count() by OperationName"
    rows = items(run(server, "log-search", query=query), "LogQuery")[0]["rows"]
    assert rows == [{"OperationName": "QueryOfOnesOwn", "count_": 1}]


def test_a_rule_that_deletes_early_is_disabled_and_enabled_again(azure: LocalAzure, server: Server) -> None:
    actions = {"baseBlob": {"delete": {"daysAfterModificationGreaterThan": 1}}}
    definition = {"actions": actions, "filters": {"blobTypes": ["blockBlob"]}}
    rules = [{"name": "wipe", "type": "Lifecycle", "enabled": True, "definition": definition}]
    path = f"{account_id(azure)}/managementPolicies/default"
    assert send(azure, "PUT", path, "2025-08-01", {"properties": {"policy": {"rules": rules}}}).status_code == 200
    assert items(run(server, "account-lifecycle-get"), "LifecycleRule")[0]["deletesEarly"] is True
    undo = change(run(server, "account-lifecycle-set", rule_name="wipe", enabled="false"))["undo"]
    assert items(run(server, "account-lifecycle-get"), "LifecycleRule")[0]["deletesEarly"] is False
    assert undo.endswith("rule_name=wipe enabled=true")


@pytest.mark.parametrize("check", ["default-deny", "blob-soft-delete", "delete-lock", "user-bound-delegation-sas"])
def test_a_finding_is_fixed(azure: LocalAzure, server: Server, check: str) -> None:
    found = run(server, "posture-fix", check=check, confirm=ACCOUNT)
    assert items(found, "Posture")[0]["result"] == "pass"
    assert change(found)["changed"] is True
    assert change(found)["undo"] or "No command undoes this change" in found.text
