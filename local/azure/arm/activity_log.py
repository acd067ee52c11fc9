"""The activity log: who changed what, with what right, and whether it was done.

https://learn.microsoft.com/azure/azure-monitor/platform/activity-log-schema
"""

import re
import uuid
from datetime import datetime, timedelta, timezone

from ..front import Reply
from ..times import NEVER, moment, now, written
from . import roles, subscriptions
from .answers import ArmError, bad_request
from .call import Call
from .paths import scope_of
from .store import Arm, Json

KEPT_FOR = timedelta(days=90, minutes=5)
CLAIMS = {
    "oid": "http://schemas.microsoft.com/identity/claims/objectidentifier",
    "tid": "http://schemas.microsoft.com/identity/claims/tenantid",
    "upn": "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/upn",
    "scp": "http://schemas.microsoft.com/identity/claims/scope",
}
# Answers that are secrets: they are not in the log.
SECRET_ANSWERS = ("listKeys/action", "regenerateKey/action", "regeneratePassword/action")
# The fields that a filter may compare, and what they are in an event. Microsoft's command line does not quote times.
CONDITION = re.compile(r"(\w+)\s+(eq|ge|le)\s+(?:'((?:[^']|'')*)'|([^\s']+))", re.IGNORECASE)
FIELDS: dict[str, tuple[str, ...]] = {
    "resourcegroupname": ("resourceGroupName",),
    "resourceuri": ("resourceId",),
    "resourceid": ("resourceId",),  # not documented, but what Microsoft's command line sends
    "resourceprovider": ("resourceProviderName", "value"),
    "correlationid": ("correlationId",),
    "caller": ("caller",),
    "status": ("status", "value"),
    "eventchannels": ("channels",),
    "levels": ("level",),
}
# At most one of these in a filter.
PLACES = {"resourcegroupname", "resourceuri", "resourceid", "resourceprovider", "correlationid"}


def valued(value: str, text: str = "") -> Json:
    return {"value": value, "localizedValue": text or value}


def record(arm: Arm, call: Call, reply: Reply) -> None:
    """Logs what changes something, done or refused. What only reads is not logged, nor what nobody was let in for."""
    if not call.permission.endswith("/read") and reply.status not in (401, 429):
        arm.activity.append(event(arm, call, reply))


def age(arm: Arm, by: timedelta) -> None:
    """All events so far happened so much earlier."""
    for row in arm.activity:
        for name in ("eventTimestamp", "submissionTimestamp"):
            row[name] = written(moment(row[name]) - by)


def event(arm: Arm, call: Call, reply: Reply) -> Json:
    scope = scope_of(call.path)
    parts = scope.split("/")
    good = reply.status < 400
    return {
        "id": f"{scope}/events/{uuid.uuid4()}/ticks/0",
        "eventDataId": str(uuid.uuid4()),
        "eventTimestamp": now(),
        "submissionTimestamp": now(),
        "channels": "Operation",
        "operationName": valued(call.permission),
        "operationId": reply.headers.get("x-ms-correlation-request-id", ""),
        "status": valued("Succeeded" if good else "Failed"),
        "subStatus": valued(str(reply.status), f"HTTP Status Code: {reply.status}"),
        "caller": call.caller.name,
        "claims": claims(call),
        "httpRequest": {
            "clientRequestId": call.header("x-ms-client-request-id"),
            "clientIpAddress": call.header("x-local-client-address") or arm.client_address,
            "method": call.method,
            "uri": arm.url + call.request.target,
        },
        "authorization": {"action": call.permission, "scope": scope, **roles.evidence(arm, call, scope)},
        "resourceId": scope,
        "resourceGroupName": parts[4] if len(parts) > 4 and parts[3] == "resourceGroups" else "",
        "resourceProviderName": valued(call.permission.split("/")[0]),
        "resourceType": valued(call.permission.rpartition("/")[0]),
        "category": valued("Administrative"),
        "level": "Informational" if good else "Error",
        "correlationId": reply.headers.get("x-ms-correlation-request-id", ""),
        "subscriptionId": parts[2] if len(parts) > 2 and parts[1] == "subscriptions" else "",
        "tenantId": arm.tenant,
        "properties": bodies(call, reply),
    }


def claims(call: Call) -> Json:
    """The token's claims under the names that the log has for them."""
    known = {**call.caller.claims, "appid": call.caller.app, "oid": call.caller.object_id}
    return {CLAIMS.get(name, name): str(value) for name, value in known.items() if value}


def bodies(call: Call, reply: Reply) -> Json:
    secret = call.permission.endswith(SECRET_ANSWERS)
    text = reply.body.decode() if isinstance(reply.body, bytes) and not secret else ""
    return {
        "statusCode": str(reply.status),
        "serviceRequestId": reply.headers.get("x-ms-request-id", ""),
        "requestbody": call.request.body.decode(errors="replace"),
        "responseBody": text,
        "eventCategory": "Administrative",
        "entity": scope_of(call.path),
        "message": call.permission,
        "hierarchy": "",
    }


# The query


def list_events(arm: Arm, call: Call) -> Reply:
    """Newest first. ArmError for a filter that the log does not know."""
    subscriptions.named(arm, call["sub"])
    start, end, wanted = conditions(call.query.get("$filter", ""))
    here = call["sub"].lower()
    rows = [
        row
        for row in reversed(arm.activity)
        if row["subscriptionId"].lower() == here
        and start <= moment(row["eventTimestamp"]) <= end
        and all(field_of(row, name).lower() == value.lower() for name, value in wanted.items())
    ]
    if fields := [name.strip() for name in call.query.get("$select", "").split(",") if name.strip()]:
        rows = [{name: row.get(name) for name in fields} for row in rows]
    return call.page(arm, rows)


def field_of(row: Json, name: str) -> str:
    found: object = row
    for key in FIELDS[name]:
        found = found.get(key) if isinstance(found, dict) else None
    return str(found or "")


def conditions(text: str) -> tuple[datetime, datetime, dict[str, str]]:
    """The times and the fields that a filter asks for."""
    found = [(name.lower(), how.lower(), quoted or plain) for name, how, quoted, plain in CONDITION.findall(text)]
    rest = CONDITION.sub("", text)
    if re.sub(r"\band\b", "", rest, flags=re.IGNORECASE).strip():
        raise refused(text)
    times = {how: value for name, how, value in found if name == "eventtimestamp"}
    wanted = {name: value.replace("''", "'") for name, how, value in found if name != "eventtimestamp" and how == "eq"}
    if len(times) + len(wanted) < len(found) or set(wanted) - set(FIELDS) or len(PLACES & set(wanted)) > 1:
        raise refused(text)
    if "ge" not in times:
        raise bad_request("The filter has to name the time from which events are wanted: eventTimestamp ge.")
    try:
        start, end = moment(times["ge"]), moment(times["le"]) if "le" in times else NEVER
    except ValueError:
        raise refused(text) from None
    if start < datetime.now(timezone.utc) - KEPT_FOR:
        raise bad_request("The start time cannot be more than 90 days in the past.")
    whole_second = "le" in times and "." not in times["le"]  # a time without a fraction stands for its whole second
    return start, end + timedelta(seconds=1) if whole_second else end, wanted


def refused(text: str) -> ArmError:
    return bad_request(f"The filter '{text}' is not supported.")
