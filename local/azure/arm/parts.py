"""What an account has by name and ARM only keeps: the common ways to list, read, keep and delete it."""

from ..front import Reply
from . import accounts
from .answers import ArmError, answer, empty
from .call import Call
from .store import Arm, Json


def parts_of(arm: Arm, call: Call, kind: str) -> dict[str, Json]:
    """The parts of the kind, such as encryptionScopes, that the account of a call has, by name."""
    return arm.parts[accounts.of(arm, call)["name"], kind]


def add_part(arm: Arm, account: Json, kind: str, name: str, properties: Json) -> Json:
    part = {
        "id": f"{account['id']}/{kind}/{name}",
        "name": name,
        "type": f"Microsoft.Storage/storageAccounts/{kind}",
        "properties": properties,
    }
    arm.parts[account["name"], kind][name] = part
    return part


def listed(arm: Arm, call: Call, kind: str) -> Reply:
    return call.page(arm, list(parts_of(arm, call, kind).values()), int(call.query.get("$maxpagesize") or 0) or None)


def one(arm: Arm, call: Call, kind: str, name: str, code: str = "ResourceNotFound") -> Json:
    found = parts_of(arm, call, kind).get(name)
    if not found:
        raise ArmError(404, code, f"The Resource 'Microsoft.Storage/storageAccounts/{kind}/{name}' was not found.")
    return found


def read(arm: Arm, call: Call, kind: str, name: str, code: str = "ResourceNotFound") -> Reply:
    return answer(one(arm, call, kind, name, code))


def dropped(arm: Arm, call: Call, kind: str, name: str) -> Reply:
    return empty(200 if parts_of(arm, call, kind).pop(name, None) else 204)
