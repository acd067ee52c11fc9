"""The local Azure, once for all end-to-end tests, and a server whose instances sign in there."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from azure.mgmt.storage import StorageManagementClient

from local.azure import LocalAzure
from local.xsoar.loop import find_local_names
from local.xsoar.server import Run, Server
from local.xsoar.sign_in import address_and_code, sign_in_device

from .blob_calls import ACCOUNT, BOX, client
from .clients import kept, management

__all__ = ["address_and_code", "sign_in_device"]
find_local_names()
CLIENT = "203.0.113.7"  # where requests to the blob service come from, unless a test says otherwise


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalAzure]:
    with LocalAzure(tmp_path_factory.mktemp("azure")) as found:
        yield found


@pytest.fixture
def azure(machine: LocalAzure) -> Iterator[LocalAzure]:
    """The local Azure without the faults, the modes and the logs of the test before."""
    machine.faults.clear()
    machine.modes.clear()
    machine.requests.clear()
    machine.entra.reset()
    machine.log.clear()
    machine.arm.page_size, machine.arm.polls = 100, 1
    machine.client_address = CLIENT
    yield machine
    machine.faults.clear()
    machine.modes.clear()


@pytest.fixture
def sdk(azure: LocalAzure) -> Iterator[StorageManagementClient]:
    """Microsoft's client of the storage part of Resource Manager."""
    with management(azure) as client:
        yield client


@pytest.fixture
def kept_store(azure: LocalAzure, request: pytest.FixtureRequest) -> Iterator[None]:
    """The store is afterwards what it was; a module that names a CONTAINER has it for the time."""
    with kept(azure, getattr(request.module, "CONTAINER", "")):
        yield


@pytest.fixture
def box(azure: LocalAzure) -> Iterator[Any]:
    """Microsoft's client for a container of its own. The account's settings are afterwards what they were."""
    arm, key = azure.arm, azure.arm.keys[ACCOUNT][0]
    before = copy.deepcopy((arm.services[ACCOUNT], arm.accounts[ACCOUNT]))
    azure.azurite.create(ACCOUNT, key, BOX, {})
    yield client(azure).get_container_client(BOX)
    arm.services[ACCOUNT], arm.accounts[ACCOUNT] = before
    arm.clear()
    azure.blobs.clear()
    for name in azure.azurite.container_names(ACCOUNT):
        azure.azurite.delete(ACCOUNT, key, name)


@pytest.fixture
def server(azure: LocalAzure, tmp_path: Path) -> Server:
    """A server with an instance for each way to sign in."""
    found = Server(tmp_path / "server")
    found.environment = azure.environment()
    found.instances.save("device", azure.instance("Device Code"))
    found.instances.save("browser", azure.instance("Authorization Code"))
    found.instances.save("app", azure.instance("Client Credentials"))
    found.instances.save("certificate", azure.instance("Client Credentials", certificate=True))
    found.instances.save("identity", azure.instance("Azure Managed Identities"))
    return found


def succeed(run: Run) -> Run:
    assert not run.error, run.error
    assert not run.stray, run.stray
    return run


def partly(run: Run) -> Run:
    """A run that failed for some of what it was given, and says so in an error with context."""
    assert run.error and run.context, run
    assert not run.stray, run.stray
    return run


def items(found: Run, kind: str) -> list[Any]:
    """What a command put into context under one of our names."""
    value = next(value for key, value in found.context.items() if key.startswith(f"AzureStorage.{kind}("))
    return value if isinstance(value, list) else [value]


def change(found: Run) -> dict[str, Any]:
    value: dict[str, Any] = found.context["AzureStorage.Change"]
    return value
