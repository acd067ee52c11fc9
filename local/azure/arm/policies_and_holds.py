"""Legal holds and immutability policies of containers.

https://learn.microsoft.com/azure/storage/blobs/immutable-storage-overview
"""

import re
import uuid

from ..front import Reply
from ..times import now
from . import accounts, containers, services
from .answers import ArmError, answer, bad_request, bad_values, conflict, not_supported
from .call import Call
from .paths import IMMUTABILITY, matcher
from .store import Arm, Json

TAG = re.compile(r"[a-z0-9]{3,23}")
MOST_TAGS = 10
LONGEST_PERIOD = 146_000
MOST_EXTENSIONS = 5
PERIOD = "immutabilityPeriodSinceCreationInDays"
POLICY_AT = matcher(IMMUTABILITY)


def shown(arm: Arm, account: str, container: str) -> Json:
    """What a container's properties tell of its hold and policy."""
    tags, policy = arm.holds.get((account, container), {}), arm.policies.get((account, container))
    held = [{"tag": tag, "timestamp": time, "tenantId": arm.tenant} for tag, time in tags.items()]
    found: Json = {"hasLegalHold": bool(held), "hasImmutabilityPolicy": policy is not None}
    if held:
        found["legalHold"] = {"hasLegalHold": True, "tags": held}
    if policy:
        found["immutabilityPolicy"] = {
            "etag": policy["etag"],
            "properties": policy["properties"],
            "updateHistory": policy["updateHistory"],
        }
    return found


def refuse_protected(arm: Arm, account: str, container: str = "") -> None:
    """A container that is held or under a policy cannot be deleted, nor the account that has one."""
    pairs = {pair for pair in (*arm.holds, *arm.policies) if pair[0] == account and container in ("", pair[1])}
    held = [pair for pair in pairs if arm.holds.get(pair)]
    locked = [pair for pair in pairs if arm.policies.get(pair, {}).get("properties", {}).get("state") == "Locked"]
    if not container and (held or locked):
        message = f"The storage account {account} holds protected containers."
        raise ArmError(409, "AccountProtectedFromDeletion", message)
    if container and pairs & {*held, *arm.policies}:
        code = "LegalHoldExists" if held else "ContainerProtectedFromDeletion"
        message = f"The container {container} is protected from deletion due to an immutability policy or legal hold."
        raise ArmError(409, code, message)


def has_any(arm: Arm, account: str) -> bool:
    """Whether a container of the account is held or under a policy, or takes holds and policies of its blobs' own."""
    held = {pair for pair, tags in arm.holds.items() if tags}
    by_version = {pair for pair in arm.container_settings if containers.has_version_immutability(arm, *pair)}
    found = any(pair[0] == account for pair in {*held, *arm.policies, *by_version})
    return found or containers.has_version_immutability(arm, account)


def check_account(arm: Arm, account: Json, feature: str) -> None:
    """ArmError where the account has what excludes holds and immutability policies."""
    if accounts.has_files_protocol(account):
        raise not_supported(feature)
    if problem := services.immutability_problem(arm.services[account["name"]]):
        raise conflict(problem)


# Legal holds


def set_hold(arm: Arm, call: Call) -> Reply:
    return change_hold(arm, call, sets=True)


def clear_hold(arm: Arm, call: Call) -> Reply:
    return change_hold(arm, call, sets=False)


def change_hold(arm: Arm, call: Call, *, sets: bool) -> Reply:
    account = accounts.of(arm, call)
    if sets:
        check_account(arm, account, "Legal hold")
    key = (account["name"], containers.named(arm, account, call["container"])["name"])
    if containers.has_version_immutability(arm, *key):
        raise not_supported("A legal hold on a container with version-level immutability")
    given = [str(tag).lower() for tag in call.body.get("tags") or []]
    held = arm.holds.setdefault(key, {})
    if not given or not all(TAG.fullmatch(tag) for tag in given) or len({*held, *given}) > MOST_TAGS:
        raise bad_request(
            "A legal hold tag has 3 to 23 letters and digits; a container has at most 10.", "InvalidLegalHoldTag"
        )
    for tag in given:
        if sets:
            held.setdefault(tag, now())
        else:
            held.pop(tag, None)
    return answer({"hasLegalHold": bool(held), "tags": list(held)})


# Immutability policies


def new_etag() -> str:
    return f'"{uuid.uuid4().hex[:15]}"'


def blank(state: str = "Unlocked") -> Json:
    return {"etag": '""', "properties": {PERIOD: 0, "state": state}, "updateHistory": []}


def policy_at(arm: Arm, call: Call, *, needs_etag: bool = False) -> tuple[tuple[str, str], Json]:
    """Where the policy is kept, and the policy; If-Match has to be its etag."""
    account = accounts.of(arm, call)
    key = (account["name"], containers.named(arm, account, call["container"])["name"])
    wanted = call.header("If-Match")
    if needs_etag and not wanted:
        raise bad_request("If-Match is required.", "MissingRequiredHeader")
    found = arm.policies.get(key) or blank()
    if wanted and wanted.strip('"') not in ("*", found["etag"].strip('"')):
        raise ArmError(412, "PreconditionFailed", "The etag of the immutability policy is another one.")
    return key, found


def told(call: Call, policy: Json) -> Reply:
    where = POLICY_AT.match(call.path)
    kind = "Microsoft.Storage/storageAccounts/blobServices/containers/immutabilityPolicies"
    body = {"id": where[0] if where else call.path, "name": "default", "type": kind, "etag": policy["etag"]}
    return answer({**body, "properties": policy["properties"]}, ETag=policy["etag"])


def keep_history(policy: Json, call: Call, update: str) -> None:
    policy["updateHistory"].append(
        {
            "update": update,
            PERIOD: policy["properties"][PERIOD],
            "timestamp": now(),
            "objectIdentifier": call.caller.object_id,
            "tenantId": str(call.caller.claims.get("tid") or ""),
            **({"upn": call.caller.claims["upn"]} if call.caller.claims.get("upn") else {}),
        }
    )


def get_policy(arm: Arm, call: Call) -> Reply:
    return told(call, policy_at(arm, call)[1])


def put_policy(arm: Arm, call: Call) -> Reply:
    check_account(arm, accounts.of(arm, call), "An immutability policy")
    key, found = policy_at(arm, call)
    if found["properties"]["state"] == "Locked":
        raise ArmError(409, "ImmutabilityPolicyLocked", "A locked immutability policy cannot be changed.")
    properties = {**call.properties, "state": "Unlocked"}
    if not 1 <= int(properties.get(PERIOD) or 0) <= LONGEST_PERIOD:
        raise bad_request("The period has to be from 1 to 146000 days.", "InvalidImmutabilityPeriod")
    if properties.get("allowProtectedAppendWrites") and properties.get("allowProtectedAppendWritesAll"):
        raise bad_values("allowProtectedAppendWrites", "allowProtectedAppendWritesAll")
    policy = {"etag": new_etag(), "properties": properties, "updateHistory": found["updateHistory"]}
    keep_history(policy, call, "put")
    arm.policies[key] = policy
    return told(call, policy)


def delete_policy(arm: Arm, call: Call) -> Reply:
    key, found = policy_at(arm, call, needs_etag=True)
    if found["properties"]["state"] == "Locked":
        raise ArmError(409, "ImmutabilityPolicyLocked", "A locked immutability policy cannot be deleted.")
    arm.policies.pop(key, None)
    return told(call, blank("Deleted"))


def existing(arm: Arm, call: Call) -> Json:
    key, found = policy_at(arm, call, needs_etag=True)
    if key not in arm.policies:
        raise ArmError(404, "ContainerImmutabilityPolicyNotFound", "The container has no immutability policy.")
    return found


def lock_policy(arm: Arm, call: Call) -> Reply:
    policy = existing(arm, call)
    policy["properties"]["state"] = "Locked"
    policy["etag"] = new_etag()
    keep_history(policy, call, "lock")
    return told(call, policy)


def extend_policy(arm: Arm, call: Call) -> Reply:
    policy = existing(arm, call)
    properties, days = policy["properties"], int(call.properties.get(PERIOD) or 0)
    extended = sum(entry["update"] == "extend" for entry in policy["updateHistory"])
    if properties["state"] != "Locked" or days <= properties[PERIOD] or extended >= MOST_EXTENSIONS:
        message = "Only a locked policy can be extended, only be made longer, and at most five times."
        raise ArmError(409, "ImmutabilityPolicyExtendNotAllowed", message)
    properties[PERIOD], policy["etag"] = days, new_etag()
    keep_history(policy, call, "extend")
    return told(call, policy)
