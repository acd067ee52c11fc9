"""The endpoint of a static website, and the settings that the data plane and Resource Manager share."""

from typing import Any

import pytest
import requests
from azure.core.exceptions import HttpResponseError
from azure.mgmt.storage import StorageManagementClient
from azure.storage.blob import CorsRule, RetentionPolicy, StaticWebsite

from local.azure import LocalAzure
from local.xsoar.server import Server

from .blob_calls import ACCOUNT, client, of_account, refusal, send, setting
from .clients import GROUP, NEWEST, call, management
from .conftest import items, succeed

pytestmark = pytest.mark.usefixtures("box")
ON = {"enabled": True, "indexDocument": "index.html"}


def web(azure: LocalAzure, path: str = "", method: str = "GET", **headers: str) -> requests.Response:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    address = azure.arm.accounts[ACCOUNT]["properties"]["primaryEndpoints"]["web"]
    return call(azure, method, f"{address}{path}", headers=sent)


def pages(azure: LocalAzure, **texts: str) -> None:
    """Blobs of $web; underscores in names stand for slashes."""
    azure.azurite.create(ACCOUNT, azure.arm.keys[ACCOUNT][0], "$web", {})
    for name, text in texts.items():
        box = client(azure).get_container_client("$web")
        box.upload_blob(name.replace("_", "/") + ".html", text, overwrite=True)


@pytest.mark.parametrize("settings", [{}, {"enabled": False}, {"enabled": True}, ON])
def test_a_website_that_is_off_or_empty_answers_with_a_page_of_404(azure: LocalAzure, settings: Any) -> None:
    setting(azure, staticWebsite=settings)
    answer = web(azure)
    assert refusal(answer) == (404, "WebContentNotFound")
    assert answer.headers["Content-Type"] == "text/html"
    assert "<h1>The requested content does not exist.</h1>" in answer.text
    assert answer.headers["x-ms-request-id"] in answer.text
    head = web(azure, method="HEAD")
    assert (refusal(head), head.text) == ((404, "WebContentNotFound"), "")


def test_everybody_reads_a_website_by_its_own_endpoint_only(azure: LocalAzure) -> None:
    pages(azure, index="hello", docs_index="folder", docs_page="page")
    setting(azure, staticWebsite=ON)
    assert (web(azure).text, web(azure, "docs/").text, web(azure, "docs/page.html").text) == ("hello", "folder", "page")
    assert web(azure, "index.html", Range="bytes=1-2").text == "el"
    head = web(azure, method="HEAD")
    assert (head.status_code, head.headers["Content-Length"]) == (200, "5")
    assert refusal(web(azure, "docs/none.html")) == (404, "WebContentNotFound")
    assert refusal(send(azure, "GET", "/$web/index.html")) == (409, "PublicAccessNotPermitted")
    of_account(azure, allowBlobPublicAccess=True)
    assert refusal(send(azure, "GET", "/$web/index.html")) == (404, "ResourceNotFound"), "the container is private"
    azure.azurite.update(ACCOUNT, azure.arm.keys[ACCOUNT][0], "$web", {"publicAccess": "Blob"})
    assert send(azure, "GET", "/$web/index.html").text == "hello"
    of_account(azure, networkAcls={"defaultAction": "Deny"})
    blocked = web(azure)
    assert (refusal(blocked), "<h1>" in blocked.text) == ((403, "AuthorizationFailure"), True)


@pytest.mark.parametrize("method", ["PUT", "DELETE", "POST", "OPTIONS"])
def test_a_website_is_for_reading(azure: LocalAzure, method: str) -> None:
    pages(azure, index="hello")
    setting(azure, staticWebsite=ON)
    assert refusal(web(azure, "index.html", method)) == (405, "UnsupportedHttpVerb")
    assert web(azure).text == "hello"


def test_the_documents_of_a_website(azure: LocalAzure) -> None:
    pages(azure, sorry="not here", app_start="start")
    setting(azure, staticWebsite={**ON, "errorDocument404Path": "sorry.html"})
    answer = web(azure, "none.html")
    assert (refusal(answer), answer.text) == ((404, "WebContentNotFound"), "not here")
    assert web(azure, "none.html", Range="bytes=0-2").text == "not here", "it is not what was asked for"
    setting(azure, staticWebsite={"enabled": True, "defaultIndexDocumentPath": "app/start.html"})
    assert web(azure).text == web(azure, "any/folder/").text == "start"
    setting(azure, staticWebsite={**ON, "errorDocument404Path": "none.html"})
    assert refusal(web(azure)) == (404, "WebContentNotFound")


def test_the_logs_tell_who_read_a_page(azure: LocalAzure) -> None:
    pages(azure, index="hello")
    setting(azure, staticWebsite=ON)
    web(azure)
    columns = azure.log.records()[-1].columns
    assert (columns["OperationName"], columns["AuthenticationType"]) == ("GetWebContent", "Anonymous")
    assert columns["Uri"] == f"https://{ACCOUNT}.web.core.windows.net:443/"


def test_both_planes_see_one_website(azure: LocalAzure) -> None:
    service = client(azure)
    service.set_service_properties(static_website=StaticWebsite(enabled=True, index_document="index.html"))
    assert "$web" in [item.name for item in service.list_containers()], "it is made with the website"
    pages(azure, index="hello")
    assert web(azure).text == "hello"
    with management(azure, NEWEST) as newest:
        found = newest.blob_services.get_service_properties(GROUP, ACCOUNT)
        assert found.static_website is not None
        assert (found.static_website.enabled, found.static_website.index_document) == (True, "index.html")
        off = {"properties": {"staticWebsite": {"enabled": False}}}
        newest.blob_services.set_service_properties(GROUP, ACCOUNT, off)
    assert service.get_service_properties()["static_website"].enabled is False
    assert web(azure).status_code == 404


def test_a_version_that_knows_no_website_leaves_it(azure: LocalAzure, sdk: StorageManagementClient) -> None:
    setting(azure, staticWebsite=ON)
    sdk.blob_services.set_service_properties(GROUP, ACCOUNT, {"properties": {"isVersioningEnabled": True}})
    assert azure.arm.services[ACCOUNT]["staticWebsite"] == ON


def test_both_planes_see_one_retention_and_the_same_cors_rules(azure: LocalAzure, sdk: StorageManagementClient) -> None:
    setting(azure, isVersioningEnabled=True)
    rule = CorsRule(["https://a.example"], ["GET", "PUT"], allowed_headers=["x-ms-*"], max_age_in_seconds=60)
    keep = RetentionPolicy(enabled=True, days=9)
    client(azure).set_service_properties(cors=[rule], delete_retention_policy=keep)
    found = sdk.blob_services.get_service_properties(GROUP, ACCOUNT)
    assert found.delete_retention_policy is not None
    assert found.delete_retention_policy.days == 9
    assert found.is_versioning_enabled is True, "what the data plane does not have stays"
    assert azure.arm.services[ACCOUNT]["cors"]["corsRules"] == [
        {
            "allowedOrigins": ["https://a.example"],
            "allowedMethods": ["GET", "PUT"],
            "allowedHeaders": ["x-ms-*"],
            "exposedHeaders": [],
            "maxAgeInSeconds": 60,
        }
    ]
    read = client(azure).get_service_properties()
    assert (read["delete_retention_policy"].days, read["cors"][0].allowed_methods) == (9, "GET,PUT")


def test_the_data_plane_takes_no_more_than_resource_manager(azure: LocalAzure) -> None:
    rule = CorsRule(["*"], ["READ"], max_age_in_seconds=60)
    with pytest.raises(HttpResponseError) as refused:
        client(azure).set_service_properties(cors=[rule])
    assert refused.value.status_code == 400
    assert azure.arm.services[ACCOUNT]["cors"]["corsRules"] == []


@pytest.mark.parametrize(("settings", "state"), [(ON, "open"), ({"enabled": False}, "unknown")])
def test_the_product_probes_a_website(azure: LocalAzure, server: Server, settings: Any, state: str) -> None:
    pages(azure, index="hello")
    setting(azure, staticWebsite=settings)
    found = succeed(server.run("app", "azure-storage-exposure-probe", {"account_name": ACCOUNT}))
    (row,) = (row for row in items(found, "Exposure") if row["target"] == "static website")
    assert row["state"] == state
