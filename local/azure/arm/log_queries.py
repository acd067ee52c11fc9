"""Log queries about an account. https://learn.microsoft.com/azure/azure-monitor/logs/api/overview"""

import re
from datetime import datetime, timedelta, timezone

from ..front import Reply
from ..logs import COLUMNS, TABLE, RequestLog
from ..times import moment
from . import accounts, kql
from .answers import ArmError, answer
from .call import Call
from .store import Arm, Json

PERMISSION = "Microsoft.Insights/logs/StorageBlobLogs/read"
DURATION = re.compile(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?)?")


def query(arm: Arm, call: Call) -> Reply:
    account, log = account_of(arm, call), arm.request_log
    rows = log.rows(account["id"]) if log else []
    known = log.table_known if log else True
    try:
        rows = within(rows, call.body.get("timespan"))
        tables = {TABLE: kql.Table(COLUMNS, rows)} if known else {}
        found = kql.run(str(call.body.get("query") or ""), tables)
    except kql.KqlError as error:
        detail = {"code": error.number, "message": error.message}
        inner = {"code": error.code, "message": error.summary, "innererror": detail}
        raise ArmError(400, "BadArgumentError", "The request had some invalid properties", inner) from None
    columns = [{"name": name, "type": kind} for name, kind in found.columns.items()]
    values = [[row.get(name) for name in found.columns] for row in found.rows]
    body: Json = {"tables": [{"name": "PrimaryResult", "columns": columns, "rows": values}]}
    if log and log.partial:
        cut_short(body)
    if log and "include-permissions=true" in call.header("Prefer").replace(" ", "").lower():
        body["permissions"] = permissions(log, account["id"])
    return answer(body)


def within(rows: list[Json], timespan: object) -> list[Json]:
    """The rows of an ISO 8601 duration back from now, or of a start and an end."""
    if not timespan:
        return rows
    first, _, second = str(timespan).partition("/")
    now = datetime.now(timezone.utc)
    try:
        end = moment(second) if second and not second.startswith("P") else now
        start = now - duration(first) if first.startswith("P") else moment(first)
    except ValueError:
        raise kql.KqlError("SyntaxError", "SYN0002", f"The timespan '{timespan}' is not valid.") from None
    return [row for row in rows if start <= moment(row["TimeGenerated"]) <= end]


def duration(text: str) -> timedelta:
    found = DURATION.fullmatch(text)
    if not found or text in ("P", "PT"):
        raise ValueError(text)
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)


def account_of(arm: Arm, call: Call) -> Json:
    """The account that is asked about; the log service has its own word for one that is not there."""
    try:
        return accounts.of(arm, call)
    except ArmError as error:
        raise ArmError(404, "ResourceNotFoundError", error.message) from None


def insufficient_access(call: Call) -> ArmError:
    """The refusal of who may not read the logs, in the log service's words."""
    message = f"User '{call.caller.object_id}' has no authorization to perform action '{PERMISSION}' over '{call.path}'"
    inner = {"code": "AuthorizationFailedError", "message": message}
    text = "The provided credentials have insufficient access to perform the requested operation"
    return ArmError(403, "InsufficientAccessError", text, inner)


def cut_short(body: Json) -> None:
    """Half of the rows, with the error that Azure puts beside them."""
    rows = body["tables"][0]["rows"]
    body["tables"][0]["rows"] = rows[: len(rows) // 2]
    detail = {"code": "EngineError", "message": "Something went wrong processing your query on the server."}
    body["error"] = {
        "code": "PartialError",
        "message": "There were some errors when processing your query.",
        "details": [detail],
    }


def permissions(log: RequestLog, account_id: str) -> Json:
    """Which workspaces hold rows of the account, and which of those the caller may not read."""
    places = log.workspaces(account_id)
    denied = [place for place in places if place.lower() in log.unreadable]
    sources = [{"resourceId": place, "denyTables": [TABLE]} for place in denied]
    return {"resources": [{"resourceId": account_id, "dataSources": places}], "dataSources": sources}
