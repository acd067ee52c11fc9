"""Log queries about an account. https://learn.microsoft.com/azure/azure-monitor/logs/api/overview"""

import re
import uuid
from datetime import datetime, timedelta, timezone

from ..front import Reply
from ..logs import COLUMNS, TABLE
from . import accounts, kql
from .answers import answer, moment
from .call import Call
from .store import Arm, Json, RequestLog

DURATION = re.compile(r"P(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?)?")


def query(arm: Arm, call: Call) -> Reply:
    account, log = accounts.of(arm, call), arm.request_log
    rows = log.rows(account["id"]) if log else []
    known = log.table_known if log else True
    try:
        rows = within(rows, call.body.get("timespan"))
        tables = {TABLE: kql.Table(COLUMNS, rows)} if known else {}
        found = kql.run(str(call.body.get("query") or ""), tables)
    except kql.KqlError as error:
        return answer({"error": told(error)}, 400)
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
        raise kql.KqlError("BadArgumentError", "TimespanError", f"The timespan '{timespan}' is not valid.") from None
    return [row for row in rows if start <= moment(row["TimeGenerated"]) <= end]


def duration(text: str) -> timedelta:
    found = DURATION.fullmatch(text)
    if not found or text in ("P", "PT"):
        raise ValueError(text)
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)


def told(error: kql.KqlError) -> Json:
    inner = {"code": error.number, "message": error.message}
    return {
        "message": "The request had some invalid properties",
        "code": "BadArgumentError",
        "correlationId": str(uuid.uuid4()),
        "innererror": {"code": error.code, "message": error.summary, "innererror": inner},
    }


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
