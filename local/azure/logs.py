"""The resource logs of the blob service: a record for every request that was served, as Azure keeps it.

A record goes where the diagnostic settings of that moment send it: to workspaces, where log queries find it as a row of
StorageBlobLogs, and to storage accounts, where it is a line of PT1H.json.
https://learn.microsoft.com/azure/azure-monitor/reference/tables/storagebloblogs
"""

import base64
import hashlib
import json
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from .times import moment, now, written

Json = dict[str, Any]
TABLE = "StorageBlobLogs"
WORKSPACE, ARCHIVE = "workspaceId", "storageAccountId"
CATEGORIES = {"GET": "StorageRead", "HEAD": "StorageRead", "DELETE": "StorageDelete"}
TEXTS = (
    *("AccessTier", "AccountName", "AuthenticationHash", "AuthenticationType", "CallerIpAddress", "Category"),
    *("ClientRequestId", "ConditionsUsed", "CorrelationId", "DestinationUri", "Etag", "LastModifiedTime", "Location"),
    *("MetricResponseType", "ObjectKey", "OperationName", "OperationVersion", "Protocol", "ReferrerHeader"),
    *("RehydratePriority", "RequesterAppId", "RequesterAudience", "RequesterObjectId", "RequesterTenantId"),
    *("RequesterTokenIssuer", "RequesterUpn", "RequestMd5", "ResponseMd5", "SasExpiryStatus", "SchemaVersion"),
    *("ServiceType", "SourceAccessTier", "SourceSystem", "SourceUri", "StatusCode", "StatusText", "TenantId"),
    *("TlsVersion", "Type", "Uri", "UserAgentHeader", "_ResourceId", "_SubscriptionId", "_IsBillable"),
)
NUMBERS = (
    *("ContentLengthHeader", "OperationCount", "RequestBodySize", "RequestHeaderSize", "ResponseBodySize"),
    "ResponseHeaderSize",
)
REALS = ("DurationMs", "ServerLatencyMs", "_BilledSize")
COLUMNS: dict[str, str] = dict(
    sorted(
        {
            **dict.fromkeys(TEXTS, "string"),
            **dict.fromkeys(NUMBERS, "long"),
            **dict.fromkeys(REALS, "real"),
            "AuthorizationDetails": "dynamic",
            "TimeGenerated": "datetime",
        }.items()
    )
)
QUOTED = ("Etag", "ObjectKey", "UserAgentHeader")
# Where a line of PT1H.json has the columns.
LINE = {
    "category": "Category",
    "operationName": "OperationName",
    "operationVersion": "OperationVersion",
    "schemaVersion": "SchemaVersion",
    "statusText": "StatusText",
    "durationMs": "DurationMs",
    "callerIpAddress": "CallerIpAddress",
    "correlationId": "CorrelationId",
    "location": "Location",
    "uri": "Uri",
    "protocol": "Protocol",
}
LINE_REQUESTER = {
    "appId": "RequesterAppId",
    "audience": "RequesterAudience",
    "objectId": "RequesterObjectId",
    "tenantId": "RequesterTenantId",
    "tokenIssuer": "RequesterTokenIssuer",
    "upn": "RequesterUpn",
}
LINE_PROPERTIES = {
    "accountName": "AccountName",
    "userAgentHeader": "UserAgentHeader",
    "referrerHeader": "ReferrerHeader",
    "clientRequestId": "ClientRequestId",
    "etag": "Etag",
    "serverLatencyMs": "ServerLatencyMs",
    "serviceType": "ServiceType",
    "objectKey": "ObjectKey",
    "operationCount": "OperationCount",
    "requestHeaderSize": "RequestHeaderSize",
    "requestBodySize": "RequestBodySize",
    "responseHeaderSize": "ResponseHeaderSize",
    "responseBodySize": "ResponseBodySize",
    "contentLengthHeader": "ContentLengthHeader",
    "requestMd5": "RequestMd5",
    "serverMd5": "ResponseMd5",
    "lastModifiedTime": "LastModifiedTime",
    "conditionsUsed": "ConditionsUsed",
    "metricResponseType": "MetricResponseType",
    "tlsVersion": "TlsVersion",
}
# Kinds of credentials that lines name otherwise than the table does; both ways have been seen in lines.
LINE_TYPES = {"DelegationSas": "SAS Key", "SAS": "SAS Key", "AccountKey": "Account Key"}


# Credentials, as the logs tell one from another without giving it away


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest().upper()


def key_hash(key_name: str, key: str) -> str:
    """AuthenticationHash of a request that was signed with an account key."""
    return f"{key_name}({sha256(base64.b64decode(key))})"


def sas_hash(key_name: str, key: str, signature: str) -> str:
    """AuthenticationHash of a SAS that an account key signed; `signature` is the sig of the URL, decoded."""
    return f"{key_hash(key_name, key)},SasSignature({sha256(signature.encode())})"


def delegation_hash(delegation_key: str, signature: str) -> str:
    """AuthenticationHash of a SAS that a user delegation key signed."""
    return f"user-delegation({sha256(base64.b64decode(delegation_key))}),SasSignature({sha256(signature.encode())})"


def token_hash(token: str) -> str:
    """AuthenticationHash of a bearer token."""
    return sha256(token.encode())


def category_of(method: str) -> str:
    """The category of a request by its method. A POST that only reads has to be told apart by the caller."""
    return CATEGORIES.get(method, "StorageWrite")


@dataclass
class Record:
    """A request that was served: all columns, and where it was sent, ids by the kind of place."""

    columns: Json
    sinks: dict[str, list[str]] = field(default_factory=dict)


Sinks = Callable[[str, str], dict[str, list[str]]]


class RequestLog:
    """The records, in the order in which they came.

    account_id: the ARM id of an account by its name. sinks: where a category of a service's logs goes at the moment.
    partial: log queries answer with a part of the rows and say so. table_known: whether the table is there at all.
    unreadable: lower-case ids of workspaces that the caller of a query may not read.
    """

    def __init__(self, account_id: Callable[[str], str], sinks: Sinks) -> None:
        self.partial, self.table_known = False, True
        self.unreadable: set[str] = set()
        self._account_id, self._sinks = account_id, sinks
        self._records: list[Record] = []
        self._lock = threading.Lock()

    def record(self, **columns: Any) -> Record:
        """Keeps a request that was served. AccountName, Category and OperationName are needed; what else is not given
        has Azure's usual value. TypeError for a column that the table does not have."""
        if unknown := set(columns) - set(COLUMNS):
            raise TypeError(f"StorageBlobLogs has no column {', '.join(sorted(unknown))}")
        if missing := {"AccountName", "Category", "OperationName"} - set(columns):
            raise TypeError(f"a record needs {', '.join(sorted(missing))}")
        account_id = self._account_id(columns["AccountName"])
        found = Record(filled(columns, account_id))
        found.sinks = self._sinks(f"{account_id}/blobServices/default", columns["Category"])
        with self._lock:
            self._records.append(found)
        return found

    def records(self) -> list[Record]:
        with self._lock:
            return list(self._records)

    def clear(self) -> None:
        """Forgets all records, and that queries were partial, forbidden or without a table."""
        with self._lock:
            self._records.clear()
        self.partial, self.table_known = False, True
        self.unreadable.clear()

    def age(self, by: timedelta) -> None:
        """All requests so far were served so much earlier."""
        for record in self.records():
            record.columns["TimeGenerated"] = written(moment(record.columns["TimeGenerated"]) - by)

    def rows(self, account_id: str) -> list[Json]:
        """The account's rows in the workspaces that may be read; one row where several got the same record."""
        here = account_id.lower()
        return [
            {**record.columns, "TenantId": workspace_guid(readable[0])}
            for record in self.records()
            if record.columns["_ResourceId"] == here and (readable := self._readable(record))
        ]

    def _readable(self, record: Record) -> list[str]:
        return [one for one in record.sinks.get(WORKSPACE, []) if one.lower() not in self.unreadable]

    def workspaces(self, account_id: str) -> list[str]:
        """The workspaces that have rows of the account or get them now."""
        found = [
            one for name in ("StorageRead", "StorageWrite", "StorageDelete") for one in self._now(account_id, name)
        ]
        here = account_id.lower()
        for record in self.records():
            if record.columns["_ResourceId"] == here:
                found += record.sinks.get(WORKSPACE, [])
        return list(dict.fromkeys(found))

    def _now(self, account_id: str, category: str) -> list[str]:
        return self._sinks(f"{account_id}/blobServices/default", category).get(WORKSPACE, [])


def workspace_guid(workspace: str) -> str:
    """A workspace's own id, which the rows have as TenantId."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, workspace.lower()))


def filled(columns: Json, account_id: str) -> Json:
    """All columns of a row; quotes stand around those that Azure quotes."""
    usual: Json = {
        "TimeGenerated": now(),
        "Type": TABLE,
        "SourceSystem": "Azure",
        "SchemaVersion": "1.0",
        "ServiceType": "blob",
        "Protocol": "HTTPS",
        "TlsVersion": "TLS 1.3",
        "OperationCount": 0,
        "CorrelationId": str(uuid.uuid4()),
        "MetricResponseType": "Success",
        "StatusCode": "200",
        "StatusText": "Success",
        "_ResourceId": account_id.lower(),
        "_SubscriptionId": account_id.split("/")[2] if account_id.count("/") > 1 else "",
        "_IsBillable": "True",
        "_BilledSize": 1024.0,
    }
    blank = {name: "" if kind == "string" else None for name, kind in COLUMNS.items()}
    row = {**blank, **usual, **columns}
    row["StatusCode"] = str(row["StatusCode"])
    for name in QUOTED:
        row[name] = f'"{str(row[name]).strip(chr(34))}"' if row[name] else ""
    return row


# Archives


def line_of(record: Record, account_id: str) -> str:
    """The record as a line of PT1H.json, which leaves out what is empty."""
    row = record.columns

    def told(names: dict[str, str]) -> Json:
        return {key: row[column] for key, column in names.items() if row[column] not in ("", None)}

    kind = row["AuthenticationType"]
    identity: Json = {"type": LINE_TYPES.get(kind, kind)}
    if row["AuthenticationHash"]:
        identity["tokenHash"] = row["AuthenticationHash"]
    if row["AuthorizationDetails"]:
        identity["authorization"] = row["AuthorizationDetails"]
    if requester := told(LINE_REQUESTER):
        identity["requester"] = requester
    return json.dumps(
        {
            "time": row["TimeGenerated"],
            "resourceId": f"{account_id}/blobServices/default",
            **told(LINE),
            "statusCode": int(row["StatusCode"]),
            "identity": identity,
            "properties": told(LINE_PROPERTIES),
            "resourceType": "Microsoft.Storage/storageAccounts/blobServices",
        }
    )


def archive_of(record: Record, account_id: str) -> tuple[str, str]:
    """The container and the blob that the record's line belongs into."""
    row = record.columns
    time = str(row["TimeGenerated"])
    hour = f"y={time[:4]}/m={time[5:7]}/d={time[8:10]}/h={time[11:13]}/m=00"
    return f"insights-logs-{row['Category'].lower()}", f"resourceId={account_id}/blobServices/default/{hour}/PT1H.json"
