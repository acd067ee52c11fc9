"""An Azure on this machine; see machine.py."""

from .arm import Modes
from .front import Fault, FaultPlan, Reply, Request
from .machine import LocalAzure
from .person import Person

__all__ = ["Fault", "FaultPlan", "LocalAzure", "Modes", "Person", "Reply", "Request"]
