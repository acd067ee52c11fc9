"""Defender for Storage: its settings, its scans, and the network rule that it gives itself."""

import uuid

from ..front import Reply
from ..times import now
from . import accounts
from .answers import ArmError, answer
from .call import Call
from .store import Arm, Json

OFF: Json = {
    "isEnabled": False,
    "malwareScanning": {"onUpload": {"isEnabled": False, "capGBPerMonth": -1}},
    "sensitiveDataDiscovery": {"isEnabled": False},
    "overrideSubscriptionLevelSettings": False,
}
SCANNER = "/providers/Microsoft.Security/datascanners/storageDataScanner"


def described(call: Call, properties: Json) -> Json:
    return {
        "id": call.path,
        "name": "current",
        "type": "Microsoft.Security/defenderForStorageSettings",
        "properties": properties,
    }


def scans_uploads(properties: Json) -> bool:
    on_upload = (properties.get("malwareScanning") or {}).get("onUpload") or {}
    return properties.get("isEnabled") is True and on_upload.get("isEnabled") is True


def get_settings(arm: Arm, call: Call) -> Reply:
    account = accounts.of(arm, call)
    return answer(described(call, arm.defender.get(account["name"], OFF)))


def put_settings(arm: Arm, call: Call) -> Reply:
    account = accounts.of(arm, call)
    properties = accounts.deep_merge(OFF, call.properties)
    arm.defender[account["name"]] = properties
    let_scanner_in(arm, account, scans_uploads(properties))
    return answer(described(call, properties))


def let_scanner_in(arm: Arm, account: Json, wanted: bool) -> None:
    """Defender reads what is uploaded as a resource instance that the account's network rules trust."""
    subscription = "/".join(account["id"].split("/")[:3])
    rule = {"tenantId": arm.tenant, "resourceId": subscription + SCANNER}
    rules = account["properties"]["networkAcls"].setdefault("resourceAccessRules", [])
    rules[:] = [one for one in rules if one["resourceId"] != rule["resourceId"]] + ([rule] if wanted else [])


def start_scan(arm: Arm, call: Call) -> Reply:
    account = accounts.of(arm, call)
    if not scans_uploads(arm.defender.get(account["name"], OFF)):
        raise ArmError(409, "MalwareScanningIsNotEnabled", "Malware scanning is not enabled for the account.")
    scan_id = str(uuid.uuid4())
    return answer({"scanId": scan_id, "scanStatus": "InProgress", "scanStartTime": now()})
