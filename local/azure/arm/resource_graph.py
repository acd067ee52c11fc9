"""Azure Resource Graph, as much of its query language as looking for accounts and counting them takes."""

import copy
import re
from collections import Counter
from collections.abc import Callable

from ..front import Reply
from .answers import answer, bad_request
from .call import Call
from .store import Arm, Json

Keep = Callable[[Json], bool]
TEXT = r"'((?:[^'\\]|\\.)*)'"
# The clauses that are understood, and what each keeps.
CLAUSES: tuple[tuple[re.Pattern[str], Callable[..., Keep]], ...] = tuple(
    (re.compile(rf"\| {pattern}"), make)
    for pattern, make in (
        (r"where (id|subscriptionId) in~ \((.*)\)", lambda key, texts: lambda row: row[key].lower() in strings(texts)),
        (rf"where type =~ {TEXT}", lambda kind: lambda row: row["type"].lower() == kind.lower()),
        (r"where name in~ \((.*)\)", lambda names: lambda row: row["name"].lower() in strings(names)),
        (
            rf"where (subscriptionId|resourceGroup|location) =~ {TEXT}",
            lambda key, text: lambda row: row[key].lower() == unescaped(text).lower(),
        ),
        (
            rf"where tags\[{TEXT}\] =~ {TEXT}",
            lambda key, text: lambda row: str(row["tags"].get(unescaped(key), "")).lower() == unescaped(text).lower(),
        ),
        (r"order by id asc", lambda: lambda row: True),
    )
)
SUBSCRIPTIONS = (
    "| join kind=leftouter (resourcecontainers | where type =~ 'microsoft.resources/subscriptions' "
    "| project subscriptionId, subscriptionName = name) on subscriptionId"
)
SUMMARIZE = re.compile(r"\| summarize (\w+) = count\(\) by ([\w, ]+)")
PROJECT = re.compile(r"\| project ([\w, ]+)")
COLUMNS = (
    *("id", "name", "type", "tenantId", "kind", "location", "resourceGroup", "subscriptionId", "managedBy"),
    *("sku", "plan", "properties", "tags", "identity", "zones", "extendedLocation"),
)
LARGEST_PAGE = 1000
QUOTA = {"x-ms-user-quota-remaining": "14", "x-ms-user-quota-resets-after": "00:00:05"}


def unescaped(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)


def strings(text: str) -> set[str]:
    return {unescaped(found).lower() for found in re.findall(TEXT, text)}


def search(arm: Arm, call: Call) -> Reply:
    """What the caller may not read is not there: no error."""
    rows = [] if arm.modes.no_role else found_rows(arm, call.body)
    options = call.body.get("options") or {}
    if options.get("resultFormat", "objectArray") != "objectArray":
        raise bad_request("Only resultFormat objectArray is answered here.")
    size, start = window(arm, options)
    part = rows[start : start + size]
    more = {"$skipToken": str(start + size)} if start + size < len(rows) else {}
    body = {"totalRecords": len(rows), "count": len(part), "resultTruncated": "false", "data": part, **more}
    return answer(body, 200, **QUOTA)


def window(arm: Arm, options: Json) -> tuple[int, int]:
    top, token = options.get("$top", arm.graph_page_size), str(options.get("$skipToken") or "0")
    if not isinstance(top, int) or not 1 <= top <= LARGEST_PAGE:
        raise bad_request("$top has to be from 1 to 1000.")
    if not token.isdigit():
        raise bad_request("The $skipToken is not valid.")
    return min(top, arm.graph_page_size), int(token)


def found_rows(arm: Arm, body: Json) -> list[Json]:
    lines = [line.strip() for line in str(body.get("query", "")).splitlines() if line.strip()]
    if not lines or lines.pop(0) != "resources":
        raise bad_request("The query is not valid: it has to begin with a table.")
    wanted = {str(sub).lower() for sub in body.get("subscriptions") or arm.subscriptions}
    rows = [row_of(arm, item) for name, item in arm.accounts.items() if name not in arm.graph_lag]
    rows = sorted((row for row in rows if row["subscriptionId"].lower() in wanted), key=lambda row: str(row["id"]))
    columns = list(COLUMNS)
    for line in lines:
        if line == SUBSCRIPTIONS:
            columns.append("subscriptionName")
            for row in rows:
                row["subscriptionName"] = arm.subscriptions[row["subscriptionId"].lower()]["displayName"]
        elif found := PROJECT.fullmatch(line):
            columns = chosen(columns, found[1])
            rows = [{name: row.get(name) for name in columns} for row in rows]
        elif found := SUMMARIZE.fullmatch(line):
            keys = chosen(columns, found[2])
            counted = Counter(tuple(row.get(name) for name in keys) for row in rows)
            rows = [{**dict(zip(keys, values, strict=True)), found[1]: count} for values, count in counted.items()]
        else:
            rows = list(filter(clause(line), rows))
    return rows


def row_of(arm: Arm, account: Json) -> Json:
    parts = account["id"].split("/")
    return {
        **copy.deepcopy(account),
        "type": "microsoft.storage/storageaccounts",
        "tags": account.get("tags") or {},
        "subscriptionId": parts[2],
        "resourceGroup": parts[4].lower(),
        "tenantId": arm.tenant,
    }


def chosen(columns: list[str], text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if unknown := [name for name in names if name not in columns]:
        raise bad_request(f"The query is not valid: no column {', '.join(unknown)}.")
    return names


def clause(line: str) -> Keep:
    for pattern, make in CLAUSES:
        if found := pattern.fullmatch(line):
            return make(*found.groups())
    raise bad_request(f"The query is not valid: {line}")
