"""Encryption scopes. They can be disabled and never deleted."""

from ..front import Reply
from ..times import now
from . import accounts
from .answers import answer, bad_values
from .call import Call
from .parts import add_part, listed, one, parts_of, read
from .store import Arm, Json

KIND = "encryptionScopes"
SOURCES = ("Microsoft.Storage", "Microsoft.KeyVault")
STATES = ("Enabled", "Disabled")


def check(properties: Json) -> None:
    wrong = [
        name for name, known in (("source", SOURCES), ("state", STATES)) if properties.get(name, known[0]) not in known
    ]
    if properties.get("source") == SOURCES[1] and not (properties.get("keyVaultProperties") or {}).get("keyUri"):
        wrong.append("keyVaultProperties.keyUri")
    if wrong:
        raise bad_values(*wrong)


def list_scopes(arm: Arm, call: Call) -> Reply:
    return listed(arm, call, KIND)


def get_scope(arm: Arm, call: Call) -> Reply:
    return read(arm, call, KIND, call["name"], "EncryptionScopeNotFound")


def put_scope(arm: Arm, call: Call) -> Reply:
    check(call.properties)
    account, known = accounts.of(arm, call), call["name"] in parts_of(arm, call, KIND)
    start = {"source": SOURCES[0], "state": STATES[0], "creationTime": now(), "lastModifiedTime": now()}
    part = add_part(arm, account, KIND, call["name"], {**start, **call.properties})
    return answer(part, 200 if known else 201)


def patch_scope(arm: Arm, call: Call) -> Reply:
    check(call.properties)
    found = one(arm, call, KIND, call["name"], "EncryptionScopeNotFound")
    found["properties"] |= {**call.properties, "lastModifiedTime": now()}
    return answer(found)
