"""account_name= alone reaches the blob service, with every way of signing in."""

from typing import Any

import pytest

from local.azure import LocalAzure
from local.xsoar.server import Run, Server

from .blob_calls import ACCOUNT, BOX, sas
from .conftest import items, sign_in_device, succeed

HERE = {"account_name": ACCOUNT, "container_name": BOX}


def run(server: Server, instance: str, name: str, **args: str) -> Run:
    return succeed(server.run(instance, f"azure-storage-{name}", {**HERE, **args}, follow=True, interval=0))


@pytest.fixture(autouse=True)
def content(box: Any) -> None:
    box.upload_blob("a", "content")


@pytest.mark.parametrize("credential", ["sas", "key"])
def test_an_account_sas_or_key_needs_no_address(azure: LocalAzure, server: Server, credential: str) -> None:
    secret = azure.arm.keys[ACCOUNT][0] if credential == "key" else sas(azure, "rwdlac")
    params = azure.instance("Device Code", storage_credentials={"identifier": ACCOUNT, "password": secret})
    server.instances.save("credential", params)
    azure.requests.clear()
    assert [row["name"] for row in items(run(server, "credential", "blob-list"), "Blob")] == ["a"]
    assert run(server, "credential", "blob-get", blob_name="a").files[0].read_text() == "content"
    assert {request.service for request in azure.requests} == {"blob"}
    hosts = {request.headers["Host"] for request in azure.requests}
    assert hosts == {f"{ACCOUNT}.blob.{azure.storage_suffix}"}


@pytest.mark.parametrize("instance", ["app", "certificate", "identity"])
def test_without_a_person(server: Server, instance: str) -> None:
    assert [row["name"] for row in items(run(server, instance, "blob-list"), "Blob")] == ["a"]


def test_with_a_person(azure: LocalAzure, server: Server) -> None:
    sign_in_device(azure, server)
    assert [row["name"] for row in items(run(server, "device", "blob-list"), "Blob")] == ["a"]


def test_the_address_that_azure_gives_is_taken_back(azure: LocalAzure, server: Server) -> None:
    listed = items(run(server, "app", "blob-list"), "Blob")[0]
    assert listed["id"] == f"https://{ACCOUNT}.blob.{azure.storage_suffix}/{BOX}/a"
    found = succeed(server.run("app", "azure-storage-blob-get", {"blob_url": listed["id"]}))
    assert found.files[0].read_text() == "content"
