"""Diagnostic settings of the blob, file, queue and table service: what is logged, and to where."""

from ..front import Reply
from . import accounts, services
from .answers import ArmError, answer, bad_request, empty
from .call import Call
from .paths import DIAGNOSTICS
from .store import Arm, Json

LOGS = ("StorageRead", "StorageWrite", "StorageDelete")
GROUPS = ("audit", "allLogs")
METRICS = ("Transaction", "Capacity", "AllMetrics")
SINKS = ("workspaceId", "storageAccountId", "eventHubAuthorizationRuleId", "marketplacePartnerId")
MOST_SETTINGS = 5


def service_id(arm: Arm, call: Call) -> str:
    account, service = accounts.of(arm, call), call["service"].lower()
    services.check_has(account, service)
    return f"{account['id']}/{service}Services/default"


def settings_at(arm: Arm, resource: str) -> list[Json]:
    here = f"{resource}{DIAGNOSTICS}/".lower()
    return [item for key, item in arm.settings.items() if key.startswith(here)]


def sinks_of(arm: Arm, resource: str, category: str) -> dict[str, list[str]]:
    """Where a category of a service's logs goes: ids by the name of the sink."""
    found: dict[str, list[str]] = {sink: [] for sink in SINKS}
    for setting in settings_at(arm, resource):
        properties = setting["properties"]
        kinds = [log for log in properties.get("logs") or [] if log.get("enabled")]
        if any(log.get("category") == category or log.get("categoryGroup") in GROUPS for log in kinds):
            for sink in SINKS:
                found[sink] += [properties[sink]] if properties.get(sink) else []
    return found


def list_settings(arm: Arm, call: Call) -> Reply:
    return answer({"value": settings_at(arm, service_id(arm, call))})


def get_setting(arm: Arm, call: Call) -> Reply:
    key = f"{service_id(arm, call)}{DIAGNOSTICS}/{call['name']}".lower()
    if key not in arm.settings:
        raise ArmError(404, "ResourceNotFound", f"The diagnostic setting '{call['name']}' doesn't exist.")
    return answer(arm.settings[key])


def put_setting(arm: Arm, call: Call) -> Reply:
    resource, properties = service_id(arm, call), call.properties
    setting_id = f"{resource}{DIAGNOSTICS}/{call['name']}"
    check(properties)
    others = [item for item in settings_at(arm, resource) if item["id"].lower() != setting_id.lower()]
    if len(others) >= MOST_SETTINGS:
        raise ArmError(409, "Conflict", "A resource has at most five diagnostic settings.")
    refuse_shared_sink(properties, others)
    kind = "Microsoft.Insights/diagnosticSettings"
    item = {"id": setting_id, "name": call["name"], "type": kind, "properties": properties}
    arm.settings[setting_id.lower()] = item
    return answer(item)


def check(properties: Json) -> None:
    logs, metrics = properties.get("logs") or [], properties.get("metrics") or []
    if not any(properties.get(sink) for sink in SINKS) or not (logs or metrics):
        raise bad_request("A diagnostic setting needs a destination, and a log or metric.")
    for log in logs:
        category, group = log.get("category"), log.get("categoryGroup")
        if (category and group) or (category not in LOGS and group not in GROUPS):
            raise bad_request(f"Category '{category or group}' is not supported.")
    if any(log.get("category") for log in logs) and any(log.get("categoryGroup") for log in logs):
        raise bad_request("Categories and category groups cannot be mixed in one setting.")
    for metric in metrics:
        if metric.get("category") not in METRICS:
            raise bad_request(f"Metric category '{metric.get('category')}' is not supported.")


def refuse_shared_sink(properties: Json, others: list[Json]) -> None:
    """Two settings cannot send one category to the same place."""
    wanted = {str(log.get("category") or log.get("categoryGroup")) for log in properties.get("logs") or []}
    for other in others:
        used = {str(log.get("category") or log.get("categoryGroup")) for log in other["properties"].get("logs") or []}
        places = [properties[sink] for sink in SINKS if properties.get(sink)]
        same = [place for place in places if place in other["properties"].values()]
        if same and wanted & used:
            raise ArmError(
                409,
                "Conflict",
                f"Data sink '{same[0]}' is already used in diagnostic setting '{other['name']}' for category "
                f"'{sorted(wanted & used)[0]}'. Data sinks can't be reused in different settings on the same category "
                "for the same resource.",
            )


def delete_setting(arm: Arm, call: Call) -> Reply:
    key = f"{service_id(arm, call)}{DIAGNOSTICS}/{call['name']}".lower()
    return empty(200 if arm.settings.pop(key, None) else 204)


def list_categories(arm: Arm, call: Call) -> Reply:
    resource = service_id(arm, call)
    kinds = [(name, "Logs", list(GROUPS)) for name in LOGS] + [(name, "Metrics", []) for name in METRICS[:2]]
    found = [
        {
            "id": f"{resource}{DIAGNOSTICS}Categories/{name}",
            "name": name,
            "type": "Microsoft.Insights/diagnosticSettingsCategories",
            "properties": {"categoryType": kind, "categoryGroups": groups},
        }
        for name, kind, groups in kinds
    ]
    return answer({"value": found})
