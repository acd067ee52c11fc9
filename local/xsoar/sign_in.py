"""A person signs in to an instance with a device code, done by script."""

import re

from ..azure import LocalAzure
from .server import Run, Server


def address_and_code(run: Run) -> tuple[str, str]:
    """What auth-start tells a person. ValueError if it tells something else."""
    address, code = re.search(r"\((https://\S+)\)", run.text), re.search(r"\*\*(\S+)\*\*", run.text)
    if not address or not code:
        raise ValueError(f"no address and code in: {run.text or run.error}")
    return address[1], code[1]


def sign_in_device(azure: LocalAzure, server: Server, instance: str = "device") -> None:
    """ValueError if the instance does not take the sign-in."""
    started = server.run(instance, "azure-storage-auth-start", {})
    azure.person().sign_in_device(*address_and_code(started))
    done = server.run(instance, "azure-storage-auth-complete", {})
    if done.error:
        raise ValueError(done.error)
