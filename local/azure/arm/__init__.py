"""Azure Resource Manager on this machine: a store, one file of functions per subject, and a table of routes."""

from ..times import moment, now
from .answers import ArmError
from .router import ResourceManager
from .store import Arm, Json, Modes

__all__ = ["Arm", "ArmError", "Json", "Modes", "ResourceManager", "moment", "now"]
