"""Local users, who sign in to SFTP with a password or an SSH key that no identity and no account key stands behind."""

import secrets

from ..front import Reply
from . import accounts, keys
from .answers import answer, bad_values, not_supported
from .call import Call
from .parts import add_part, dropped, listed, one, parts_of, read
from .store import Arm, Json

KIND = "localUsers"
SERVICES = ("blob", "file")
SECRETS = ("sharedKey", "sshPassword", "sshAuthorizedKeys")


def visible(properties: Json) -> Json:
    return {name: value for name, value in properties.items() if name not in SECRETS}


def list_users(arm: Arm, call: Call) -> Reply:
    return listed(arm, call, KIND)


def get_user(arm: Arm, call: Call) -> Reply:
    return read(arm, call, KIND, call["name"])


def put_user(arm: Arm, call: Call) -> Reply:
    account, properties = accounts.of(arm, call), call.properties
    if not accounts.is_hierarchical(account):
        raise not_supported("Local user")
    for scope in properties.get("permissionScopes") or []:
        if scope.get("service") not in SERVICES or not scope.get("permissions") or not scope.get("resourceName"):
            raise bad_values("permissionScopes")
    before = parts_of(arm, call, KIND).get(call["name"], {}).get("properties", {})
    number = before.get("userId", 1000 + len(parts_of(arm, call, KIND)))
    made = {
        "hasSharedKey": False,
        "hasSshKey": bool(properties.get("sshAuthorizedKeys")),
        "hasSshPassword": False,
        **visible(before),
        **visible(properties),
        "sid": f"S-1-2-0-{number}",
        "userId": number,
    }
    part = add_part(arm, account, KIND, call["name"], made)
    return answer({**part, "properties": {**made, "sshAuthorizedKeys": properties.get("sshAuthorizedKeys")}})


def delete_user(arm: Arm, call: Call) -> Reply:
    return dropped(arm, call, KIND, call["name"])


def list_user_keys(arm: Arm, call: Call) -> Reply:
    one(arm, call, KIND, call["name"])
    return answer({"sshAuthorizedKeys": [], "sharedKey": keys.new_key()})


def regenerate_password(arm: Arm, call: Call) -> Reply:
    """A new password; the user's SSH keys stay as they are."""
    one(arm, call, KIND, call["name"])["properties"]["hasSshPassword"] = True
    return answer({"sshPassword": secrets.token_urlsafe(24)})
