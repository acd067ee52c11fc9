"""What the store answers about parts of accounts beyond the usual: searches, restores, settings, and posture's reads."""

import copy
import re
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any

from .front import Reply, Request
from .response import SETTINGS, SUB, ArmError, Json, Response, answer

# The clauses of the Kusto query language that the store understands, and what each keeps.
TEXT = r"'((?:[^'\\]|\\.)*)'"
CLAUSES: tuple[tuple[str, Callable[..., Callable[[Json], bool]]], ...] = (
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


def unescaped(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text)


def strings(text: str) -> set[str]:
    return {unescaped(found).lower() for found in re.findall(TEXT, text)}


# The columns of Resource Graph's table; a query that names another is refused there, too.
COLUMNS = (
    *("id", "name", "type", "tenantId", "kind", "location", "resourceGroup", "subscriptionId", "managedBy"),
    *("sku", "plan", "properties", "tags", "identity", "zones", "extendedLocation"),
)
LEASE_ACTIONS = ("Acquire", "Renew", "Change", "Release", "Break")
LOG_CATEGORIES = ("StorageRead", "StorageWrite", "StorageDelete")
LOG_GROUPS = ("audit", "allLogs")


def bad_request(message: str, code: str = "BadRequest") -> ArmError:
    return ArmError(400, code, message)


def bad_values(names: str) -> ArmError:
    return bad_request(f"Values for request parameters are invalid: {names}.", "InvalidValuesForRequestParameters")


def moment(text: Any) -> datetime:
    """A time of ARM's, which has seven digits after the seconds."""
    plain = re.sub(r"(\.\d{1,6})\d*", lambda found: found[1].ljust(7, "0"), str(text)).replace("Z", "+00:00")
    try:
        found = datetime.fromisoformat(plain)
    except ValueError:
        raise bad_values("timeToRestore") from None
    return found if found.tzinfo else found.replace(tzinfo=timezone.utc)


class Parts(Response):
    """graph_lag: names of accounts that Resource Graph has not heard of yet.

    files, replication, scopes, local_users, defender: what posture reads, by account; lists for what is listed. An
    account that is not in them has what a new one has.
    """

    def start_response(self) -> None:
        super().start_response()
        self.graph_lag: set[str] = set()
        self.files: dict[str, Json] = {}
        self.replication: dict[str, list[Json]] = {}
        self.scopes: dict[str, list[Json]] = {}
        self.local_users: dict[str, list[Json]] = {}
        self.defender: dict[str, Json] = {}

    def clear_response(self) -> None:
        super().clear_response()
        self.graph_lag.clear()
        for part in (self.files, self.replication, self.scopes, self.local_users, self.defender):
            part.clear()

    def response_routes(self) -> list[tuple[str, str, Callable[..., Reply]]]:
        results = SUB + r"/providers/Microsoft\.Storage/locations/[^/]+/operationResults/(?P<restore>[^/]+)"
        return [
            ("POST", r"/providers/Microsoft\.ResourceGraph/resources", self.search),
            ("GET", results, self.restore_result),
            ("GET", SETTINGS + "/(?P<name>[^/]+)", self.get_setting),
            *super().response_routes(),
        ]

    def forget(self, account: str) -> None:
        """Nothing of a deleted account is left to the next one of its name."""
        for kept in (self.revoked, self.restores, self.files, self.replication, self.scopes):
            kept.pop(account, None)
        for kept in (self.local_users, self.defender):
            kept.pop(account, None)
        for of_containers in (self.holds, self.policies):
            for key in [key for key in of_containers if key[0] == account]:
                del of_containers[key]
        for setting in [key for key in self.settings if f"/storageaccounts/{account}/" in key]:
            del self.settings[setting]

    # Resource Graph

    def search(self, request: Request) -> Reply:
        body = request.json()
        rows = self._found(body)
        options = body.get("options") or {}
        if options.get("resultFormat", "objectArray") != "objectArray":
            raise bad_request("The store answers with resultFormat objectArray only.")
        size, start = self._window(options)
        page = rows[start : start + size]
        more = {"$skipToken": str(start + size)} if start + size < len(rows) else {}
        found = {"totalRecords": len(rows), "count": len(page), "resultTruncated": "false", "data": page, **more}
        return answer(found, 200, **{"x-ms-user-quota-remaining": "14", "x-ms-user-quota-resets-after": "00:00:05"})

    def _window(self, options: Json) -> tuple[int, int]:
        top, token = options.get("$top", self.graph_page_size), str(options.get("$skipToken") or "0")
        if not isinstance(top, int) or not 1 <= top <= 1000:
            raise bad_request("$top has to be from 1 to 1000.")
        if not token.isdigit():
            raise bad_request("The $skipToken is not valid.")
        return min(top, self.graph_page_size), int(token)

    def _found(self, body: Json) -> list[Json]:
        lines = [line.strip() for line in str(body.get("query", "")).splitlines() if line.strip()]
        if not lines or lines.pop(0) != "resources":
            raise bad_request("The query is not valid: it has to begin with a table.")
        wanted = {str(sub).lower() for sub in body.get("subscriptions") or self.subscriptions}
        rows = [self._graph_row(item) for name, item in self.accounts.items() if name not in self.graph_lag]
        rows = sorted((row for row in rows if row["subscriptionId"].lower() in wanted), key=lambda row: str(row["id"]))
        for line in lines:
            if columns := re.fullmatch(r"\| project ([\w, ]+)", line):
                rows = self._projected(rows, [name.strip() for name in columns[1].split(",")])
            else:
                keep = self._clause(line)
                rows = [row for row in rows if keep(row)]
        return rows

    def _graph_row(self, account: Json) -> Json:
        parts = account["id"].split("/")
        place = {"subscriptionId": parts[2], "resourceGroup": parts[4].lower(), "tenantId": self.tenant}
        return {
            **copy.deepcopy(account),
            "type": "microsoft.storage/storageaccounts",
            "tags": account.get("tags") or {},
            **place,
        }

    @staticmethod
    def _projected(rows: list[Json], names: list[str]) -> list[Json]:
        if unknown := [name for name in names if name not in COLUMNS]:
            raise bad_request(f"The query is not valid: no column {', '.join(unknown)}.")
        return [{name: row.get(name) for name in names} for row in rows]

    @staticmethod
    def _clause(line: str) -> Callable[[Json], bool]:
        for pattern, make in CLAUSES:
            if found := re.fullmatch(r"\| " + pattern, line):
                return make(*found.groups())
        raise bad_request(f"The query is not valid: {line}")

    # Containers

    def lease(self, request: Request, sub: str, group: str, account: str, container: str) -> Reply:
        """Checked before Azurite sees it, which takes a missing word for something else."""
        wanted = request.json()
        action, seconds = wanted.get("action"), wanted.get("leaseDuration")
        needs = {"Acquire": "leaseDuration", "Renew": "leaseId", "Release": "leaseId", "Change": "leaseId"}.get(
            action, ""
        )
        if action not in LEASE_ACTIONS:
            raise bad_values("action")
        if needs and wanted.get(needs) is None:
            raise bad_values(needs)
        if action == "Acquire" and seconds != -1 and not 15 <= seconds <= 60:
            raise bad_values("leaseDuration")
        if action == "Change" and not wanted.get("proposedLeaseId"):
            raise bad_values("proposedLeaseId")
        return super().lease(request, sub, group, account, container)

    # Point-in-time restore

    def restore(self, request: Request, sub: str, group: str, account: str) -> Reply:
        found = self._account(sub, group, account)
        policy = self.services[found["name"]].get("restorePolicy") or {}
        if policy.get("enabled"):
            self._check_restore(request.json(), policy)
        reply = super().restore(request, sub, group, account)
        self._point_to(reply, found, str(self.restores[found["name"]][1]["restoreId"]))
        return reply

    @staticmethod
    def _check_restore(body: Json, policy: Json) -> None:
        when, current = moment(body.get("timeToRestore")), datetime.now(timezone.utc)
        earliest = current - timedelta(days=policy.get("days") or 1)
        if policy.get("minRestoreTime"):
            earliest = max(earliest, moment(policy["minRestoreTime"]))
        if not earliest <= when < current:
            raise bad_values("timeToRestore")
        for span in body.get("blobRanges") or []:
            if span.get("endRange") and not str(span.get("startRange", "")) < str(span["endRange"]):
                raise bad_values("blobRanges")

    def _point_to(self, reply: Reply, account: Json, restore: str) -> None:
        """The address where the restore is watched, as the header of an answer."""
        subscription = "/".join(account["id"].split("/")[:3])
        path = f"{subscription}/providers/Microsoft.Storage/locations/{account['location']}/operationResults/{restore}"
        reply.headers |= {"Location": f"{self.url}{path}?api-version=2025-08-01", "Retry-After": "1"}

    def restore_result(self, request: Request, sub: str, restore: str) -> Reply:
        for name, (_, status) in self.restores.items():
            account = self.accounts.get(name)
            if not account or status["restoreId"] != restore or f"/{sub}/".lower() not in account["id"].lower():
                continue
            found = self.restore_status(name, step=True)
            reply = answer(found, 202 if found["status"] == "InProgress" else 200)
            if reply.status == 202:
                self._point_to(reply, account, restore)
            return reply
        raise ArmError(404, "OperationNotFound", "The operation was not found.")

    def restore_status(self, account: str, step: bool = False) -> Json:
        """A restore that cannot bring the blobs back has failed, and says why; it does not fail the one who looks."""
        try:
            return super().restore_status(account, step)
        except Exception as error:
            status: Json = self.restores[account][1]
            status |= {"status": "Failed", "failureReason": str(error)}
            return status

    # Diagnostic settings

    def get_setting(self, request: Request, sub: str, group: str, account: str, name: str) -> Reply:
        base = self._account(sub, group, account)["id"]
        key = f"{base}/blobServices/default/providers/Microsoft.Insights/diagnosticSettings/{name}".lower()
        if key not in self.settings:
            raise ArmError(404, "ResourceNotFound", f"The diagnostic setting '{name}' doesn't exist.")
        return answer(self.settings[key])

    def put_setting(self, request: Request, sub: str, group: str, account: str, name: str) -> Reply:
        for log in (request.json().get("properties") or {}).get("logs") or []:
            category, group_name = log.get("category"), log.get("categoryGroup")
            if (category or group_name) not in (*LOG_CATEGORIES, *LOG_GROUPS) or (category and group_name):
                raise bad_request(f"Category '{category or group_name}' is not supported.")
        return super().put_setting(request, sub, group, account, name)

    # What posture reads

    def read_part(self, request: Request, sub: str, group: str, account: str, part: str) -> Reply:
        name = self._account(sub, group, account)["name"]
        lists = {
            "objectReplicationPolicies": self.replication,
            "encryptionScopes": self.scopes,
            "localUsers": self.local_users,
        }
        objects = {"fileServices/default": self.files}
        if name in lists.get(part, {}):
            return self._page(request, lists[part][name])
        state = objects.get(part, self.defender if part.endswith("/current") else {})
        if name in state:
            return answer({"id": request.path, "name": part.rpartition("/")[2], **state[name]})
        return super().read_part(request, sub, group, account, part)
