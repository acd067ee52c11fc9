"""Object replication between accounts, and why an account may not forbid that with other tenants yet.

https://learn.microsoft.com/azure/storage/blobs/object-replication-prevent-cross-tenant-policies
"""

import uuid

from ..front import Reply
from . import accounts, services
from .answers import ArmError, answer, bad_values
from .call import Call
from .parts import add_part, dropped, listed, read
from .store import Arm, Json

KIND = "objectReplicationPolicies"
ENDS = ("sourceAccount", "destinationAccount")


def account_named(arm: Arm, text: str) -> Json | None:
    """The account of this tenant that an id or a name stands for."""
    name = text.rpartition("/")[2].lower()
    found = arm.accounts.get(name)
    if not found or ("/" in text and found["id"].lower() != text.lower()):
        return None
    return found


def is_foreign(arm: Arm, properties: Json) -> bool:
    """Whether one end of a policy is not in this tenant."""
    return any(account_named(arm, str(properties.get(end))) is None for end in ENDS)


def refuse_foreign(arm: Arm, account: Json) -> None:
    """ArmError while an account that is to forbid replication across tenants still has such a policy."""
    found = arm.parts[account["name"], KIND].values()
    if any(is_foreign(arm, policy["properties"]) for policy in found):
        raise ArmError(
            409,
            "CrossTenantReplicationPolicyExists",
            "AllowCrossTenantReplication cannot be set to false while the account has an object replication policy with "
            "an account of another tenant. Delete the policy first.",
        )


def list_policies(arm: Arm, call: Call) -> Reply:
    return listed(arm, call, KIND)


def get_policy(arm: Arm, call: Call) -> Reply:
    return read(arm, call, KIND, call["policy"], "ObjectReplicationPolicyNotFound")


def put_policy(arm: Arm, call: Call) -> Reply:
    """`default` makes one, on the destination's side; its id is then put on the source's side."""
    account = accounts.of(arm, call)
    properties = {**call.properties}
    check_ends(arm, account, properties)
    is_new = call["policy"].lower() == "default"
    check_rules(properties, needs_ids=not is_new)
    name = str(uuid.uuid4()) if is_new else call["policy"]
    rules = [{"ruleId": str(uuid.uuid4()), **rule} for rule in properties["rules"]]
    return answer(add_part(arm, account, KIND, name, {**properties, "policyId": name, "rules": rules}))


def check_ends(arm: Arm, account: Json, properties: Json) -> None:
    names = [str(properties.get(end) or "").rpartition("/")[2].lower() for end in ENDS]
    if not all(names) or account["name"] not in names or names[0] == names[1]:
        raise bad_values(*ENDS)
    allowed = account["properties"].get("allowCrossTenantReplication")
    if allowed is False and not all("/" in str(properties[end]) for end in ENDS):
        raise bad_values(*ENDS)  # where other tenants are forbidden, names are not enough
    if is_foreign(arm, properties) and allowed is not True:
        raise ArmError(
            409, "CrossTenantReplicationNotAllowed", "Cross tenant replication is not allowed for the account."
        )
    settings = arm.services[account["name"]]
    is_source = names[0] == account["name"]
    if not settings.get("isVersioningEnabled"):
        raise ArmError(409, "FeatureNotEnabled", "Blob versioning is not enabled for the account.")
    if is_source and not services.is_on(settings, "changeFeed"):
        raise ArmError(409, "FeatureNotEnabled", "Change feed is not enabled for the account.")


def check_rules(properties: Json, *, needs_ids: bool) -> None:
    """Rules name two containers, and on the source's side the id that the destination's side gave them."""
    rules = properties.get("rules") or []
    needed = ("sourceContainer", "destinationContainer", *(("ruleId",) if needs_ids else ()))
    if not rules or not all(rule.get(name) for rule in rules for name in needed):
        raise bad_values("rules")


def delete_policy(arm: Arm, call: Call) -> Reply:
    return dropped(arm, call, KIND, call["policy"])
