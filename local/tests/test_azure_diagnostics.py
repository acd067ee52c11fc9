"""Diagnostic settings."""

from typing import Any

import pytest

from local.azure import LocalAzure

from .clients import (
    DIAGNOSTICS,
    account_id,
    code_of,
    send,
    service_id,
)

pytestmark = pytest.mark.usefixtures("kept_store")


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


SETTINGS = "/providers/Microsoft.Insights/diagnosticSettings"


def setting(*names: str, workspace: str = "/w", kind: str = "category") -> dict[str, Any]:
    logs = [{kind: name, "enabled": True} for name in names]
    return {"properties": {"workspaceId": workspace, "logs": logs}}


@pytest.mark.parametrize("service", ["blob", "file", "queue", "table"])
def test_every_service_has_settings_of_its_own(azure: LocalAzure, service: str) -> None:
    here = f"{account_id(azure)}/{service}Services/default{SETTINGS}"
    assert send(azure, "PUT", f"{here}/soc", DIAGNOSTICS, setting("StorageRead")).status_code == 200
    assert [item["name"] for item in send(azure, "GET", here.lower(), DIAGNOSTICS).json()["value"]] == ["soc"]
    others = {"blob", "file", "queue", "table"} - {service}
    for other in others:
        path = f"{account_id(azure)}/{other}Services/default{SETTINGS}"
        assert send(azure, "GET", path, DIAGNOSTICS).json()["value"] == []
    names = [item["name"] for item in send(azure, "GET", f"{here}Categories", DIAGNOSTICS).json()["value"]]
    assert names == ["StorageRead", "StorageWrite", "StorageDelete", "Transaction", "Capacity"]


def test_two_settings_do_not_share_a_sink_for_a_category(azure: LocalAzure) -> None:
    here = f"{service_id(azure)}{SETTINGS}"
    assert send(azure, "PUT", f"{here}/one", DIAGNOSTICS, setting("StorageRead")).status_code == 200
    assert code_of(send(azure, "PUT", f"{here}/two", DIAGNOSTICS, setting("StorageRead"))) == (409, "Conflict")
    assert send(azure, "PUT", f"{here}/one", DIAGNOSTICS, setting("StorageRead", "StorageWrite")).status_code == 200
    for name in ("two", "three", "four", "five"):
        assert send(azure, "PUT", f"{here}/{name}", DIAGNOSTICS, setting("StorageRead", workspace=name)).ok
    sixth = send(azure, "PUT", f"{here}/six", DIAGNOSTICS, setting("StorageRead", workspace="six"))
    assert code_of(sixth) == (409, "Conflict")


def test_categories_and_groups_do_not_mix(azure: LocalAzure) -> None:
    here = f"{service_id(azure)}{SETTINGS}/soc"
    mixed = setting("StorageRead")
    mixed["properties"]["logs"].append({"categoryGroup": "audit", "enabled": True})
    assert code_of(send(azure, "PUT", here, DIAGNOSTICS, mixed)) == (400, "BadRequest")
    assert send(azure, "PUT", here, DIAGNOSTICS, setting("audit", kind="categoryGroup")).status_code == 200
    metric = {"properties": {"workspaceId": "/w", "metrics": [{"category": "Weather", "enabled": True}]}}
    assert code_of(send(azure, "PUT", here, DIAGNOSTICS, metric)) == (400, "BadRequest")
