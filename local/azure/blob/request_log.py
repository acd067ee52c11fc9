"""What the resource logs tell of a request that was served.

https://learn.microsoft.com/azure/azure-monitor/reference/tables/storagebloblogs
"""

import re
from dataclasses import dataclass
from datetime import datetime, timezone
from http import HTTPStatus
from typing import Any

from .. import times
from ..front import Reply
from ..logs import ARCHIVE, RequestLog, archive_of, line_of
from .accounts import Accounts
from .authorize import ANONYMOUS, Caller
from .azurite import Azurite
from .call import Call, Place
from .operations import WRITE, Operation

CONDITIONS = ("if-match", "if-none-match", "if-modified-since", "if-unmodified-since", "x-ms-if-tags")


@dataclass
class Recorder:
    """Records what was served, and writes the lines that diagnostic settings send to storage accounts."""

    log: RequestLog
    accounts: Accounts
    azurite: Azurite

    def __call__(self, columns: dict[str, Any]) -> None:
        record = self.log.record(**columns)
        account_id = self.accounts.id(columns["AccountName"])
        for sink in record.sinks.get(ARCHIVE, []):
            name = sink.rpartition("/")[2].lower()
            if name in self.accounts:
                container, blob = archive_of(record, account_id)
                self.azurite.append_line(Place(name, container, blob), line_of(record, account_id))


def columns_of(call: Call, operation: Operation | None, caller: Caller | None, reply: Reply) -> dict[str, Any]:
    who = caller or ANONYMOUS
    took = (datetime.now(timezone.utc) - call.time).total_seconds() * 1000
    headers = {name.lower(): value for name, value in reply.headers.items()}
    size = int(headers.get("content-length") or (len(reply.body) if isinstance(reply.body, bytes) else 0))
    return {
        "TimeGenerated": times.written(call.time),
        "AccountName": call.place.account,
        "Category": operation.category if operation else WRITE,
        "OperationName": operation.name if operation else "Unknown",
        "OperationVersion": call.version,
        "StatusCode": str(reply.status),
        "StatusText": status_text(reply, headers),
        "DurationMs": round(took, 3),
        "ServerLatencyMs": round(took, 3),
        "CallerIpAddress": f"{call.client}:{call.port}",
        "CorrelationId": call.id,
        "Uri": uri_of(call),
        "AuthenticationType": who.kind,
        "AuthenticationHash": who.hash,
        "AuthorizationDetails": who.authorization or None,
        "ObjectKey": "/" + "/".join((call.place.account, *(part for part in call.place if part))),
        "UserAgentHeader": call.header("user-agent"),
        "ReferrerHeader": call.header("referer"),
        "ClientRequestId": call.header("x-ms-client-request-id"),
        "ConditionsUsed": ";".join(f"{name}={call.header(name)}" for name in CONDITIONS if call.header(name)),
        "Etag": headers.get("etag", ""),
        "LastModifiedTime": headers.get("last-modified", ""),
        "ContentLengthHeader": len(call.request.body),
        "RequestHeaderSize": sum(len(name) + len(value) + 4 for name, value in call.headers.items()),
        "RequestBodySize": len(call.request.body),
        "ResponseHeaderSize": sum(len(name) + len(value) + 4 for name, value in headers.items()),
        "ResponseBodySize": 0 if call.method == "HEAD" else size,
        **copied(call, operation),
        **requester(who),
    }


def status_text(reply: Reply, headers: dict[str, str]) -> str:
    if reply.status < 400:
        return "Success"
    return headers.get("x-ms-error-code", HTTPStatus(reply.status).phrase)


def copied(call: Call, operation: Operation | None) -> dict[str, Any]:
    """From where to where a copy went."""
    source = call.header("x-ms-copy-source")
    return {"SourceUri": source.partition("?")[0], "DestinationUri": uri_of(call)} if source and operation else {}


def requester(caller: Caller) -> dict[str, Any]:
    claims = caller.claims
    names = {
        "RequesterAppId": claims.get("appid") or claims.get("azp") or claims.get("client_id"),
        "RequesterAudience": claims.get("aud"),
        "RequesterObjectId": claims.get("oid"),
        "RequesterTenantId": claims.get("tid"),
        "RequesterTokenIssuer": claims.get("iss"),
        "RequesterUpn": claims.get("upn"),
    }
    return {name: str(value) for name, value in names.items() if value}


def uri_of(call: Call) -> str:
    """The address as Azure logs it: with the port, and without a signature's value."""
    host = f"{call.place.account}.{'web' if call.to_website else 'blob'}.core.windows.net:443"
    path = call.wire if call.to_website else call.place.path.removeprefix(f"/{call.place.account}") or "/"
    words = re.sub(r"(^|&)sig=[^&]*", r"\1sig=XXXXX", call.request.target.partition("?")[2], flags=re.IGNORECASE)
    return f"https://{host}{path}" + (f"?{words}" if words else "")
