"""Account keys and delegation keys."""

import base64
import secrets

from ..front import Reply
from ..times import now
from . import accounts
from .answers import ArmError, answer, empty
from .call import Call
from .store import Arm, Json


def new_key() -> str:
    return base64.b64encode(secrets.token_bytes(64)).decode()


def listed(arm: Arm, account: Json) -> Json:
    times = account["properties"]["keyCreationTime"]
    pairs = zip(("key1", "key2"), arm.keys[account["name"]], strict=True)
    return {
        "keys": [{"creationTime": times[k], "keyName": k, "value": value, "permissions": "FULL"} for k, value in pairs]
    }


def list_keys(arm: Arm, call: Call) -> Reply:
    return answer(listed(arm, accounts.of(arm, call)))


def regenerate_key(arm: Arm, call: Call) -> Reply:
    found = accounts.of(arm, call)
    name = call.body.get("keyName")
    if name not in ("key1", "key2"):
        raise ArmError(400, "InvalidKeyName", f"The key name '{name}' is not valid.")
    arm.keys[found["name"]][int(name[-1]) - 1] = new_key()
    found["properties"]["keyCreationTime"][name] = now()
    arm.blobs.accounts_changed(arm.keys)
    return answer(listed(arm, found))


def revoke_delegation_keys(arm: Arm, call: Call) -> Reply:
    arm.revoked.setdefault(accounts.of(arm, call)["name"], []).append(now())
    return empty(200)
