"""Requests from other origins, as a browser sends them."""

from typing import Any

import pytest
import requests

from local.azure import LocalAzure

from .blob_calls import BOX, of_account, refusal, sas, send, setting

RULE: dict[str, Any] = {
    "allowedOrigins": ["https://a.example", "https://*.b.example"],
    "allowedMethods": ["GET", "PUT"],
    "allowedHeaders": ["x-ms-*", "content-type"],
    "exposedHeaders": ["x-ms-meta-*", "etag"],
    "maxAgeInSeconds": 60,
}
ALL = {**RULE, "allowedOrigins": ["*"], "allowedMethods": ["DELETE"], "allowedHeaders": ["*"]}


@pytest.fixture(autouse=True)
def rules(azure: LocalAzure, box: Any) -> None:
    box.upload_blob("a", "content", metadata={"k": "v"})
    setting(azure, cors={"corsRules": [RULE, ALL]})


def preflight(azure: LocalAzure, origin: str, method: str = "PUT", headers: str = "") -> requests.Response:
    names: dict[str, Any] = {"Access_Control_Request_Headers": headers} if headers else {}
    return send(azure, "OPTIONS", f"/{BOX}/new", Origin=origin, Access_Control_Request_Method=method, **names)


@pytest.mark.parametrize("origin", ["https://a.example", "https://web.b.example"])
def test_a_preflight_that_a_rule_fits(azure: LocalAzure, origin: str) -> None:
    answer = preflight(azure, origin, headers="x-ms-blob-type, Content-Type")
    assert answer.status_code == 200
    told = {name.removeprefix("Access-Control-"): answer.headers[name] for name in answer.headers if "Access" in name}
    assert told == {
        "Allow-Origin": origin,
        "Allow-Methods": "PUT",
        "Allow-Headers": "x-ms-blob-type, Content-Type",
        "Max-Age": "60",
        "Allow-Credentials": "true",
    }


@pytest.mark.parametrize(
    ("origin", "method", "headers"),
    [
        ("https://A.example", "PUT", ""),
        ("http://a.example", "PUT", ""),
        ("https://b.example", "PUT", ""),
        ("https://a.example.evil", "PUT", ""),
        ("https://a.example", "POST", ""),
        ("https://a.example", "PUT", "x-ms-blob-type,authorization"),
    ],
)
def test_a_preflight_that_no_rule_fits(azure: LocalAzure, origin: str, method: str, headers: str) -> None:
    assert refusal(preflight(azure, origin, method, headers)) == (403, "CorsPreflightFailure")


def test_the_first_rule_that_fits_counts(azure: LocalAzure) -> None:
    answer = preflight(azure, "https://c.example", "DELETE", "anything")
    assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (200, "*")
    strict = {**RULE, "allowedHeaders": []}
    setting(azure, cors={"corsRules": [strict, {**RULE, "maxAgeInSeconds": 5}]})
    assert preflight(azure, "https://a.example").headers["Access-Control-Max-Age"] == "60"
    assert preflight(azure, "https://a.example", headers="x-ms-date").headers["Access-Control-Max-Age"] == "5"


def test_a_preflight_needs_its_headers_and_an_account(azure: LocalAzure) -> None:
    assert refusal(send(azure, "OPTIONS", f"/{BOX}/a", Origin="https://a.example")) == (400, "InvalidHeaderValue")
    assert refusal(send(azure, "OPTIONS", "/")) == (400, "InvalidHeaderValue")
    setting(azure, cors={"corsRules": []})
    assert refusal(preflight(azure, "https://a.example")) == (403, "CorsPreflightFailure")
    nowhere = send(azure, "OPTIONS", "/x", account="nosuchaccount", Origin="https://a.example")
    assert refusal(nowhere) == (404, "ResourceNotFound")


def test_what_an_answer_tells_a_browser(azure: LocalAzure) -> None:
    def read(method: str = "GET", **headers: Any) -> requests.Response:
        return send(azure, method, f"/{BOX}/a", sas(azure, "rd"), **headers)

    fits = read(Origin="https://a.example")
    assert fits.headers["Access-Control-Allow-Origin"] == "https://a.example"
    assert fits.headers["Access-Control-Allow-Credentials"] == "true"
    assert {name.lower() for name in fits.headers["Access-Control-Expose-Headers"].split(",")} == {
        "x-ms-meta-k",
        "etag",
    }
    for answer in (read(Origin="https://c.example"), read()):
        assert (answer.status_code, answer.headers["Vary"]) == (200, "Origin"), (
            "rules permit nothing and forbid nothing"
        )
        assert "Access-Control-Allow-Origin" not in answer.headers
    gone = read("DELETE", Origin="https://c.example")
    assert (gone.status_code, gone.headers["Access-Control-Allow-Origin"]) == (202, "*")
    assert not {"Vary", "Access-Control-Allow-Credentials"} & set(gone.headers)


def test_a_refusal_is_shown_to_the_browser_too(azure: LocalAzure) -> None:
    denied = send(azure, "GET", f"/{BOX}/a", Origin="https://a.example")
    assert denied.status_code == 409
    assert denied.headers["Access-Control-Allow-Origin"] == "https://a.example"
    of_account(azure, networkAcls={"defaultAction": "Deny"})
    assert refusal(preflight(azure, "https://a.example")) == (403, "AuthorizationFailure")
