"""The newer ways in which data leaves an account or is worked on: connectors, data shares, access points, storage tasks."""

from ..front import Reply
from . import versions
from .answers import empty
from .call import Call
from .parts import dropped, listed, one, read
from .store import Arm

# The kinds, and the versions that know them.
KINDS = {
    "connectors": versions.SHARING,
    "dataShares": versions.SHARING,
    "blobAccessPointConfigurations": versions.ACCESS_POINTS,
    "storageTaskAssignments": versions.TASKS,
}


def list_sharing(arm: Arm, call: Call, kind: str) -> Reply:
    return listed(arm, call, kind)


def get_sharing(arm: Arm, call: Call, kind: str) -> Reply:
    return read(arm, call, kind, call["name"])


def delete_sharing(arm: Arm, call: Call, kind: str) -> Reply:
    return dropped(arm, call, kind, call["name"])


def patch_task(arm: Arm, call: Call) -> Reply:
    """Azure accepts the change without a body, and carries it out afterwards; here it is there at once."""
    found = one(arm, call, "storageTaskAssignments", call["name"])
    found["properties"] |= call.properties
    return empty(202)
