"""Azure Resource Manager on this machine: a store, one file of functions per subject, and a table of routes."""

from .answers import ArmError, moment, now
from .router import ResourceManager
from .store import Arm, Json, Modes

__all__ = ["Arm", "ArmError", "Json", "Modes", "ResourceManager", "moment", "now"]
