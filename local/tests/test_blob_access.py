"""Who reaches the local blob service without signing in, and from where."""

from typing import Any

import pytest

from local.azure import LocalAzure

from .blob_calls import ACCOUNT, BOX, of_account, refusal, sas, send, token


@pytest.fixture(autouse=True)
def content(box: Any) -> None:
    box.upload_blob("a", "content")


def public(azure: LocalAzure, level: str) -> None:
    azure.azurite.update(ACCOUNT, azure.arm.keys[ACCOUNT][0], BOX, {"publicAccess": level})


def test_nobody_reads_where_the_account_forbids_it(azure: LocalAzure) -> None:
    public(azure, "Container")
    assert refusal(send(azure, "GET", f"/{BOX}/a")) == (409, "PublicAccessNotPermitted")
    assert refusal(send(azure, "GET", f"/{BOX}?restype=container&comp=list")) == (409, "PublicAccessNotPermitted")


@pytest.mark.parametrize(
    ("level", "blob", "listing"), [("None", 404, 404), ("Blob", 200, 404), ("Container", 200, 200)]
)
def test_what_a_containers_level_lets_nobody_do(azure: LocalAzure, level: str, blob: int, listing: int) -> None:
    of_account(azure, allowBlobPublicAccess=True)
    public(azure, level)
    assert send(azure, "GET", f"/{BOX}/a").status_code == blob
    assert send(azure, "HEAD", f"/{BOX}/a").status_code == blob
    assert send(azure, "GET", f"/{BOX}?restype=container&comp=list").status_code == listing
    if blob == 404:
        assert refusal(send(azure, "GET", f"/{BOX}/a")) == (404, "ResourceNotFound")


def test_changing_and_tags_need_signing_in(azure: LocalAzure) -> None:
    of_account(azure, allowBlobPublicAccess=True)
    public(azure, "Container")
    for method, target in (("DELETE", f"/{BOX}/a"), ("GET", f"/{BOX}/a?comp=tags"), ("GET", "/?comp=list")):
        answer = send(azure, method, target)
        assert refusal(answer) == (401, "NoAuthenticationInformation")
        assert answer.headers["WWW-Authenticate"].startswith("Bearer authorization_uri=")


@pytest.mark.parametrize(
    ("rules", "status"),
    [
        ({"networkAcls": {"defaultAction": "Deny", "ipRules": []}}, 403),
        ({"networkAcls": {"defaultAction": "Deny", "ipRules": [{"value": "203.0.113.0/24"}]}}, 200),
        ({"networkAcls": {"defaultAction": "Deny", "ipRules": [{"value": "203.0.113.1-203.0.113.9"}]}}, 200),
        ({"networkAcls": {"defaultAction": "Deny", "ipRules": [{"value": "198.51.100.7"}]}}, 403),
        ({"networkAcls": {"defaultAction": "Allow", "ipRules": []}}, 200),
        ({"publicNetworkAccess": "Disabled"}, 403),
    ],
)
def test_the_firewall_of_an_account(azure: LocalAzure, rules: dict[str, Any], status: int) -> None:
    of_account(azure, **rules)
    for auth in (token(azure), sas(azure, "r")):
        assert send(azure, "GET", f"/{BOX}/a", auth).status_code == status
    if status == 403:
        assert refusal(send(azure, "GET", f"/{BOX}/a", token(azure))) == (403, "AuthorizationFailure")


def test_a_caller_from_elsewhere(azure: LocalAzure) -> None:
    of_account(azure, networkAcls={"defaultAction": "Deny", "ipRules": [{"value": "198.51.100.7"}]})
    azure.client_address = "198.51.100.7"
    assert send(azure, "GET", f"/{BOX}/a", token(azure)).status_code == 200
    elsewhere = send(azure, "GET", f"/{BOX}/a", token(azure), x_local_client_address="192.0.2.1")
    assert refusal(elsewhere) == (403, "AuthorizationFailure")


def test_an_account_that_does_not_exist(azure: LocalAzure) -> None:
    assert refusal(send(azure, "GET", "/x/a", token(azure), account="nosuchaccount")) == (404, "ResourceNotFound")


def test_a_container_is_not_made_public_where_the_account_forbids_it(azure: LocalAzure) -> None:
    target = f"/{BOX}?restype=container&comp=acl"
    answer = send(azure, "PUT", target, token(azure), x_ms_blob_public_access="blob")
    assert refusal(answer) == (409, "PublicAccessNotPermitted")
    new = send(azure, "PUT", "/new-box?restype=container", token(azure), x_ms_blob_public_access="container")
    assert refusal(new) == (409, "PublicAccessNotPermitted")
    of_account(azure, allowBlobPublicAccess=True)
    assert send(azure, "PUT", target, token(azure), x_ms_blob_public_access="blob").status_code == 200
    assert send(azure, "GET", f"/{BOX}/a").text == "content"
