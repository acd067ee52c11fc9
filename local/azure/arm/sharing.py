"""The newer ways in which data leaves an account: connectors, data shares, blob access points."""

from ..front import Reply
from . import versions
from .call import Call
from .parts import dropped, listed, read
from .store import Arm

# The kinds, and the versions that know them.
KINDS = {
    "connectors": versions.SHARING,
    "dataShares": versions.SHARING,
    "blobAccessPointConfigurations": versions.ACCESS_POINTS,
}


def list_sharing(arm: Arm, call: Call, kind: str) -> Reply:
    return listed(arm, call, kind)


def get_sharing(arm: Arm, call: Call, kind: str) -> Reply:
    return read(arm, call, kind, call["name"])


def delete_sharing(arm: Arm, call: Call, kind: str) -> Reply:
    return dropped(arm, call, kind, call["name"])
