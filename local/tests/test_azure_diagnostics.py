"""Diagnostic settings."""

from collections.abc import Iterator

import pytest

from local.azure import LocalAzure

from .clients import (
    account_id,
    kept,
    send,
)


@pytest.fixture(autouse=True)
def clean(azure: LocalAzure) -> Iterator[None]:
    with kept(azure):
        yield


def test_diagnostic_settings_need_a_place_to_go(azure: LocalAzure) -> None:
    path = f"{account_id(azure)}/blobServices/default/providers/Microsoft.Insights/diagnosticSettings"
    logs = [{"category": "StorageRead", "enabled": True}]
    assert send(azure, "PUT", f"{path}/x", "2021-05-01-preview", {"properties": {"logs": logs}}).status_code == 400
    body = {"properties": {"workspaceId": "/w", "logs": logs}}
    assert send(azure, "PUT", f"{path}/x", "2021-05-01-preview", body).status_code == 200
    assert (
        send(azure, "PUT", f"{path}/x", "2021-05-01-preview", {"properties": {"workspaceId": "/w"}}).status_code == 400
    )
    odd = {"properties": {"workspaceId": "/w", "logs": [{"category": "StorageRaed", "enabled": True}]}}
    assert send(azure, "PUT", f"{path}/x", "2021-05-01-preview", odd).status_code == 400
    assert len(send(azure, "GET", path, "2021-05-01-preview").json()["value"]) == 1
    assert send(azure, "GET", f"{path}/X", "2021-05-01-preview").json()["properties"] == body["properties"]
    assert send(azure, "GET", f"{path}/y", "2021-05-01-preview").json()["error"]["code"] == "ResourceNotFound"
    assert send(azure, "DELETE", f"{path}/x", "2021-05-01-preview").status_code == 200
