"""Point-in-time restore of ranges of blobs. https://learn.microsoft.com/azure/storage/blobs/point-in-time-restore-overview"""

import uuid
from datetime import datetime, timedelta, timezone

from ..front import Reply
from ..times import moment
from . import accounts, services
from .answers import ArmError, answer, bad_values, not_supported
from .call import Call
from .store import Arm, Json, Restore

MOST_RANGES = 10


def progress(arm: Arm, account: str) -> Json:
    """The status of the account's last restore; each look brings it on.

    A restore that cannot bring the blobs back has failed, and says why; it does not fail the one who looks.
    """
    restore = arm.restores[account]
    if restore.status["status"] != "InProgress":
        return restore.status
    restore.rounds -= 1
    if restore.rounds >= 0:
        return restore.status
    try:
        if arm.on_restore:
            arm.on_restore(account, restore.status["parameters"])
        restore.status["status"] = "Complete"
    except Exception as error:
        restore.status |= {"status": "Failed", "failureReason": str(error)}
    return restore.status


def check(arm: Arm, account: Json, body: Json) -> None:
    settings = arm.services[account["name"]]
    if accounts.is_hierarchical(account):
        raise not_supported("Point-in-time restore")
    if not services.is_on(settings, "restorePolicy"):
        raise ArmError(409, "RestorePolicyNotEnabled", "Point-in-time restore is not enabled for the account.")
    if problem := services.restore_problem(settings):
        raise ArmError(409, "RestorePrerequisiteMissing", f"Point-in-time restore needs another {problem}.")
    ranges = body.get("blobRanges") or []
    if not 1 <= len(ranges) <= MOST_RANGES:
        raise bad_values("blobRanges")
    for span in ranges:
        if span.get("endRange") and not str(span.get("startRange", "")) < str(span["endRange"]):
            raise bad_values("blobRanges")
    check_time(body.get("timeToRestore"), settings["restorePolicy"])


def check_time(wanted: object, policy: Json) -> None:
    current = datetime.now(timezone.utc)
    earliest = current - timedelta(days=policy.get("days") or 1)
    if policy.get("minRestoreTime"):
        earliest = max(earliest, moment(policy["minRestoreTime"]))
    try:
        good = earliest <= moment(wanted) < current
    except ValueError:
        good = False
    if not good:
        raise bad_values("timeToRestore")


def start_restore(arm: Arm, call: Call) -> Reply:
    account = accounts.of(arm, call)
    check(arm, account, call.body)
    running = arm.restores.get(account["name"])
    if running and running.status["status"] == "InProgress":
        raise ArmError(409, "RestoreAlreadyInProgress", "Another restore is in progress.")
    status = {"status": "InProgress", "restoreId": str(uuid.uuid4()), "parameters": call.body}
    arm.restores[account["name"]] = Restore(arm.polls, status)
    return watched(arm, account, status)


def watched(arm: Arm, account: Json, status: Json) -> Reply:
    """An answer that names the address where the restore can be followed."""
    subscription = "/".join(account["id"].split("/")[:3])
    place = f"{subscription}/providers/Microsoft.Storage/locations/{account['location']}/operationResults"
    location = f"{arm.url}{place}/{status['restoreId']}?api-version=2025-08-01"
    return answer(status, 202, Location=location, **{"Retry-After": "1"})


def restore_result(arm: Arm, call: Call) -> Reply:
    for name, restore in arm.restores.items():
        account = arm.accounts.get(name)
        if not account or restore.status["restoreId"] != call["restore"]:
            continue
        if f"/{call['sub']}/".lower() not in account["id"].lower():
            continue
        status = progress(arm, name)
        return watched(arm, account, status) if status["status"] == "InProgress" else answer(status)
    raise ArmError(404, "OperationNotFound", "The operation was not found.")
