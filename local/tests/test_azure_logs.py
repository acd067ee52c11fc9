"""The logs of the blob service: records, their hashes and lines, and queries about them through Resource Manager."""

import base64
import hashlib
import json
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from local.azure import LocalAzure
from local.azure.arm import kql
from local.azure.logs import (
    COLUMNS,
    archive_of,
    category_of,
    delegation_hash,
    key_hash,
    line_of,
    sas_hash,
    token_hash,
)

from .clients import ACCOUNT, DIAGNOSTICS, SUBSCRIPTION, account_id, code_of, send, service_id

LOGS = "2018-03-01-preview"
WORKSPACES = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg-soc/providers/Microsoft.OperationalInsights/workspaces"
ARCHIVE = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg-soc/providers/Microsoft.Storage/storageAccounts/archive"


pytestmark = pytest.mark.usefixtures("kept_store")


def log_to(azure: LocalAzure, name: str = "soc", *categories: str, account: str = ACCOUNT, **sinks: str) -> None:
    """A diagnostic setting that sends these categories, or all, to a workspace of its name or to what is given."""
    kinds = categories or ("StorageRead", "StorageWrite", "StorageDelete")
    logs = [{"category": category, "enabled": True} for category in kinds]
    properties = {"logs": logs, **(sinks or {"workspaceId": f"{WORKSPACES}/{name}"})}
    path = f"{service_id(azure, account)}/providers/Microsoft.Insights/diagnosticSettings/{name}"
    assert send(azure, "PUT", path, DIAGNOSTICS, {"properties": properties}).status_code == 200


def request(azure: LocalAzure, **columns: Any) -> Any:
    usual = {
        "AccountName": ACCOUNT,
        "Category": "StorageRead",
        "OperationName": "GetBlob",
        "AuthenticationType": "SAS",
        "CallerIpAddress": "198.51.100.7:50123",
        "Uri": f"https://{ACCOUNT}.blob.core.windows.net:443/private/a.csv?sv=2025-11-05",
        "ResponseBodySize": 100,
    }
    return azure.log.record(**{**usual, **columns})


def ask(azure: LocalAzure, query: str, timespan: str = "", **headers: str) -> Any:
    body = {"query": query, **({"timespan": timespan} if timespan else {})}
    return send(azure, "POST", f"{account_id(azure)}/providers/microsoft.insights/logs", LOGS, body, **headers)


def rows(azure: LocalAzure, query: str, timespan: str = "") -> list[list[Any]]:
    found: list[list[Any]] = ask(azure, query, timespan).json()["tables"][0]["rows"]
    return found


# Where a record goes


def test_what_is_not_logged_is_not_found(azure: LocalAzure) -> None:
    """A record goes where the settings of its moment send it, category by category."""
    request(azure, OperationName="Before")
    log_to(azure, "soc", "StorageRead")
    request(azure, OperationName="GetBlob")
    request(azure, OperationName="PutBlob", Category="StorageWrite")
    request(azure, OperationName="GetBlob", AccountName="contosoweb")
    assert rows(azure, "StorageBlobLogs | project OperationName, AccountName") == [["GetBlob", ACCOUNT]]


def test_a_record_has_every_column(azure: LocalAzure) -> None:
    log_to(azure)
    request(azure, Etag="0x8DC", UserAgentHeader="curl/8", StatusCode=206)
    answer = ask(azure, "StorageBlobLogs | take 1").json()
    (table,) = answer["tables"]
    assert table["name"] == "PrimaryResult"
    assert {column["name"]: column["type"] for column in table["columns"]} == COLUMNS
    row = dict(zip([column["name"] for column in table["columns"]], table["rows"][0], strict=True))
    assert (row["Etag"], row["UserAgentHeader"], row["StatusCode"]) == ('"0x8DC"', '"curl/8"', "206")
    assert (row["_ResourceId"], row["Type"]) == (account_id(azure).lower(), "StorageBlobLogs")
    assert row["TenantId"] not in ("", azure.tenant_id), "the workspace's own id, not Entra's"


def test_requests_are_moved_into_the_past(azure: LocalAzure) -> None:
    log_to(azure)
    request(azure)
    azure.log.age(timedelta(days=1))
    request(azure)
    assert rows(azure, "StorageBlobLogs | where TimeGenerated between (ago(25h) .. ago(23h)) | count") == [[1]]
    assert rows(azure, "StorageBlobLogs | where TimeGenerated > ago(1h) | count") == [[1]]


@pytest.mark.parametrize("columns", [{"Colour": "red"}, {"Category": None, "AccountName": None}])
def test_a_record_takes_known_columns_and_needs_three(azure: LocalAzure, columns: dict[str, Any]) -> None:
    given = {"AccountName": ACCOUNT, "Category": "StorageRead", "OperationName": "GetBlob", **columns}
    with pytest.raises(TypeError):
        azure.log.record(**{name: value for name, value in given.items() if value is not None})


def test_credentials_are_hashed_as_azure_documents_it() -> None:
    key, signature = base64.b64encode(b"k" * 64).decode(), "a+b/c="
    of_key = hashlib.sha256(b"k" * 64).hexdigest().upper()
    of_signature = hashlib.sha256(b"a+b/c=").hexdigest().upper()
    assert key_hash("key1", key) == f"key1({of_key})"
    assert sas_hash("key2", key, signature) == f"key2({of_key}),SasSignature({of_signature})"
    assert delegation_hash(key, signature) == f"user-delegation({of_key}),SasSignature({of_signature})"
    assert token_hash("a.b.c") == hashlib.sha256(b"a.b.c").hexdigest().upper()
    assert [category_of(method) for method in ("GET", "HEAD", "PUT", "POST", "DELETE")] == [
        *("StorageRead", "StorageRead", "StorageWrite", "StorageWrite", "StorageDelete")
    ]


def test_a_record_as_a_line_of_an_archive(azure: LocalAzure) -> None:
    log_to(azure, "soc", storageAccountId=ARCHIVE)
    record = request(
        azure,
        TimeGenerated="2026-11-25T07:08:09.1234567Z",
        AuthenticationHash="key1(AB),SasSignature(CD)",
        RequesterObjectId="o",
        StatusCode=200,
    )
    assert record.sinks["storageAccountId"] == [ARCHIVE]
    assert rows(azure, "StorageBlobLogs") == [], "no workspace"
    line = json.loads(line_of(record, account_id(azure)))
    assert line["identity"] == {
        "type": "SAS Key",
        "tokenHash": "key1(AB),SasSignature(CD)",
        "requester": {"objectId": "o"},
    }
    assert (line["statusCode"], line["category"], line["operationName"]) == (200, "StorageRead", "GetBlob")
    assert (line["properties"]["accountName"], line["properties"]["responseBodySize"]) == (ACCOUNT, 100)
    assert line["resourceId"] == service_id(azure)
    assert archive_of(record, account_id(azure)) == (
        "insights-logs-storageread",
        f"resourceId={service_id(azure)}/y=2026/m=11/d=25/h=07/m=00/PT1H.json",
    )


# Queries


@pytest.fixture
def traffic(azure: LocalAzure) -> None:
    """Three requests of one SAS from outside, an upload with a key, and a deletion two days ago."""
    log_to(azure)
    now = datetime.now(timezone.utc)

    def ago(**span: float) -> str:
        return (now - timedelta(**span)).strftime("%Y-%m-%dT%H:%M:%S.%f0Z")

    for minute, size in ((3, 10), (2, 20), (1, 30)):
        request(azure, TimeGenerated=ago(minutes=minute), AuthenticationHash="key1(AB)", ResponseBodySize=size)
    request(
        azure,
        TimeGenerated=ago(minutes=5),
        OperationName="PutBlob",
        Category="StorageWrite",
        AuthenticationType="AccountKey",
        CallerIpAddress="203.0.113.9:1",
        ResponseBodySize=None,
        StatusCode=201,
    )
    request(azure, TimeGenerated=ago(days=2), OperationName="DeleteBlob", Category="StorageDelete", StatusCode=202)


@pytest.mark.usefixtures("traffic")
@pytest.mark.parametrize(
    ("where", "count"),
    [
        ("OperationName == 'GetBlob'", 3),
        ("OperationName == 'getblob'", 0),
        ("OperationName =~ 'getblob'", 3),
        ("OperationName != 'GetBlob'", 2),
        ("OperationName in ('PutBlob', 'DeleteBlob')", 2),
        ("OperationName in ('putblob')", 0),
        ("OperationName in~ ('putblob', \"deleteblob\")", 2),
        ("OperationName !in ('PutBlob')", 4),
        ("Uri has 'private'", 5),
        ("Uri has 'privat'", 0),
        ("Uri contains 'PRIVAT'", 5),
        ("Uri !contains 'private'", 0),
        ("CallerIpAddress startswith '198.51.100.7:'", 4),
        ("Uri endswith '2025-11-05'", 5),
        ("TimeGenerated >= ago(1h)", 4),
        ("TimeGenerated <= ago(1d)", 1),
        ("TimeGenerated between (ago(3d) .. ago(1d))", 1),
        ("TimeGenerated between (datetime(2020-01-01) .. datetime(2020-02-01T00:00:00Z))", 0),
        ("TimeGenerated > now() - 1h", 4),
        ("ResponseBodySize > 15 and ResponseBodySize < 1000", 3),
        ("ResponseBodySize >= 20 or OperationName == 'PutBlob'", 4),
        ("not(OperationName == 'GetBlob') and Category == 'StorageWrite'", 1),
        ("(OperationName == 'GetBlob' or OperationName == 'PutBlob') and AuthenticationType == 'SAS'", 3),
        ("isempty(AuthenticationHash)", 2),
        ("OperationName has_any ('putblob', 'DELETEBLOB', 'other')", 2),
        ("split(CallerIpAddress, ':')[0] == '203.0.113.9'", 1),
        ("tostring(split(CallerIpAddress, ':')[7]) == ''", 5),
        ("strlen(OperationName) > 7", 1),
        ("StatusCode == '201'", 1),
        ("toint(StatusCode) >= 201", 2),
        ("AuthenticationHash has 'AB' // a comment\n", 3),
        (r"Uri == 'it\'s' or Uri == @'c:\x'", 0),
    ],
)
def test_what_where_keeps(azure: LocalAzure, where: str, count: int) -> None:
    assert rows(azure, f"StorageBlobLogs | where {where} | count") == [[count]]


@pytest.mark.usefixtures("traffic")
def test_rows_are_counted_ordered_and_cut(azure: LocalAzure) -> None:
    by_address = (
        "StorageBlobLogs\n| where TimeGenerated > ago(7d)\n| extend Ip = tostring(CallerIpAddress)\n"
        "| summarize Requests = count(), Bytes = sum(ResponseBodySize), dcount(OperationName), "
        "First = min(TimeGenerated), max(ResponseBodySize) by Ip\n| order by Requests desc, Ip asc"
    )
    answer = ask(azure, by_address).json()["tables"][0]
    assert [(column["name"], column["type"]) for column in answer["columns"]] == [
        ("Ip", "string"),
        ("Requests", "long"),
        ("Bytes", "long"),
        ("dcount_OperationName", "long"),
        ("First", "datetime"),
        ("max_ResponseBodySize", "long"),
    ]
    assert [(row[0], *row[1:4], row[5]) for row in answer["rows"]] == [
        ("198.51.100.7:50123", 4, 160, 2, 100),
        ("203.0.113.9:1", 1, 0, 0 + 1, None),
    ]
    ordered = "StorageBlobLogs | order by TimeGenerated | project Op = OperationName, Size = ResponseBodySize"
    assert rows(azure, f"{ordered} | take 2") == [["GetBlob", 30], ["GetBlob", 20]]
    rising = "StorageBlobLogs | sort by ResponseBodySize asc | project ResponseBodySize | limit 2"
    assert rows(azure, rising) == [[None], [10]]
    top = "StorageBlobLogs | where ResponseBodySize < 100 | top 1 by ResponseBodySize | project ResponseBodySize"
    assert rows(azure, top) == [[30]]
    assert rows(azure, "StorageBlobLogs | summarize count()") == [[5]]
    assert rows(azure, "StorageBlobLogs | where false | summarize count(), max(ResponseBodySize)") == [[0, None]]
    assert len(rows(azure, "StorageBlobLogs | distinct OperationName")) == 3
    bins = rows(azure, "StorageBlobLogs | summarize count() by bin(TimeGenerated, 1d)")
    assert sum(row[1] for row in bins) == 5


@pytest.mark.usefixtures("traffic")
@pytest.mark.parametrize(
    ("timespan", "count"), [("PT1H", 4), ("P7D", 5), ("P1DT1H", 4), ("2020-01-01T00:00:00Z/2020-01-02T00:00:00Z", 0)]
)
def test_a_timespan_cuts_before_the_query(azure: LocalAzure, timespan: str, count: int) -> None:
    assert rows(azure, "StorageBlobLogs | count", timespan) == [[count]]
    assert ask(azure, "StorageBlobLogs", "a day").status_code == 400


@pytest.mark.parametrize(
    ("query", "code", "word"),
    [
        ("StorageBlobLog | take 1", "SemanticError", "'StorageBlobLog'"),
        ("StorageBlobLogs | where Colour == 'red'", "SemanticError", "'Colour'"),
        ("StorageBlobLogs | join (StorageBlobLogs) on Uri", "SemanticError", "'join'"),
        ("StorageBlobLogs | project-away Uri", "SemanticError", "'project-away'"),
        ("StorageBlobLogs | where Uri matches regex 'x'", "SemanticError", "'matches'"),
        ("StorageBlobLogs | extend a = parse_url(Uri)", "SemanticError", "'parse_url'"),
        ("StorageBlobLogs | summarize percentile(DurationMs, 95)", "SemanticError", "'percentile'"),
        ("StorageBlobLogs | where StatusCode == 200", "SemanticError", "string and long"),
        ("StorageBlobLogs | where TimeGenerated > '2026-01-01'", "SemanticError", "datetime and string"),
        ("StorageBlobLogs | where ResponseBodySize in ('1')", "SemanticError", "long and string"),
        ("StorageBlobLogs | where TimeGenerated > datetime(soon)", "SemanticError", "datetime(soon)"),
        ("StorageBlobLogs | where Uri == 'open", "SyntaxError", "'open"),
        ("StorageBlobLogs | where (Uri == 'a'", "SyntaxError", "end of query"),
        ("StorageBlobLogs | take many", "SyntaxError", "'many'"),
        ("StorageBlobLogs where Uri == 'a'", "SyntaxError", "'where'"),
        ("", "SyntaxError", "end of query"),
    ],
)
def test_what_is_not_known_is_refused_by_name(azure: LocalAzure, query: str, code: str, word: str) -> None:
    log_to(azure)
    request(azure)
    answer = ask(azure, query)
    assert code_of(answer) == (400, "BadArgumentError")
    inner = answer.json()["error"]["innererror"]
    assert inner["code"] == code
    assert word in inner["innererror"]["message"]


def test_a_literal_is_not_code(azure: LocalAzure) -> None:
    log_to(azure)
    odd = "x' or 1==1 | take 5 //"
    request(azure, UserAgentHeader=odd)
    quoted = odd.replace("'", "\\'")
    assert rows(azure, f"StorageBlobLogs | where UserAgentHeader contains '{quoted}' | count") == [[1]]
    assert kql.unquoted('"a\\n\\"b\\\\"') == 'a\n"b\\'


# What goes wrong


def test_a_part_of_the_rows_says_so(azure: LocalAzure) -> None:
    log_to(azure)
    for _ in range(4):
        request(azure)
    azure.log.partial = True
    answer = ask(azure, "StorageBlobLogs")
    assert (answer.status_code, answer.json()["error"]["code"]) == (200, "PartialError")
    assert len(answer.json()["tables"][0]["rows"]) == 2


def test_rows_of_a_workspace_that_may_not_be_read_are_left_out_silently(azure: LocalAzure) -> None:
    for name in ("soc", "audit"):
        log_to(azure, name)
    request(azure)
    azure.log.unreadable = {f"{WORKSPACES}/soc".lower()}
    assert rows(azure, "StorageBlobLogs | count") == [[1]], "the other workspace has it, too"
    azure.log.unreadable.add(f"{WORKSPACES}/audit".lower())
    answer = ask(azure, "StorageBlobLogs | count", Prefer="include-permissions=true").json()
    assert answer["tables"][0]["rows"] == [[0]]
    found = answer["permissions"]
    assert set(found["resources"][0]["dataSources"]) == {f"{WORKSPACES}/soc", f"{WORKSPACES}/audit"}
    assert [source["denyTables"] for source in found["dataSources"]] == [["StorageBlobLogs"]] * 2
    assert "permissions" not in ask(azure, "StorageBlobLogs | count").json()


def test_without_logs_there_are_no_rows_or_no_table(azure: LocalAzure) -> None:
    assert rows(azure, "StorageBlobLogs") == []
    azure.log.table_known = False
    answer = ask(azure, "StorageBlobLogs")
    assert answer.json()["error"]["innererror"]["innererror"]["code"] == "SEM0100"


def test_a_query_needs_an_account_and_the_right(azure: LocalAzure) -> None:
    missing = f"{account_id(azure)}x/providers/microsoft.insights/logs"
    assert code_of(send(azure, "POST", missing, LOGS, {"query": "StorageBlobLogs"})) == (404, "ResourceNotFoundError")
    azure.arm.forbidden.append(("POST", ".*/logs"))
    answer = ask(azure, "StorageBlobLogs")
    assert code_of(answer) == (403, "InsufficientAccessError")
    inner = answer.json()["error"]["innererror"]
    assert inner["code"] == "AuthorizationFailedError"
    assert "Microsoft.Insights/logs/StorageBlobLogs/read" in inner["message"]
    assert not azure.arm.activity, "reading is not logged"
