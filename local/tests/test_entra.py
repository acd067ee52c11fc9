"""The local Entra ID behaves as Entra does where oidc-provider does not, and can be told to refuse."""

import json
import re
import time
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import msal
import pytest
import requests
from msal import managed_identity

from local.azure import LocalAzure
from local.azure.entra import (
    APP_SECRET,
    COMMAND_LINE,
    DEVICE_CODE,
    NO_STORAGE_APP,
    OWN_PUBLIC_APP,
    PERSON,
    PUBLIC_APP,
    REDIRECT_URI,
    SECRET_APP,
    STORAGE_AUDIENCE,
    TENANT,
)
from local.xsoar.server import Server

from .conftest import sign_in_device, succeed
from .test_sign_in import forget_access_tokens, forms

Json = dict[str, Any]


@pytest.fixture
def browser(azure: LocalAzure) -> Iterator[requests.Session]:
    """A client that trusts the local certificates and sends JSON-loving requests."""
    with requests.Session() as session:
        session.trust_env = False
        session.verify = str(azure.ca_file)
        yield session


class Client:
    """An application that talks to the token endpoint by itself."""

    def __init__(self, azure: LocalAzure, session: requests.Session, app: str = PUBLIC_APP) -> None:
        self.azure, self.session, self.app = azure, session, app
        self.base = f"{azure.authority_url}/{TENANT}/v2.0"

    def token(self, grant: str, **fields: str) -> requests.Response:
        form = {"client_id": self.app, "grant_type": grant, **fields}
        return self.session.post(f"{self.base}/token", data=form, headers={"client-request-id": "cid-1"}, timeout=10)

    def device_code(self) -> Json:
        form = {"client_id": self.app, "scope": f"{self.azure.arm_url}/.default offline_access openid"}
        found: Json = self.session.post(f"{self.base}/device/auth", data=form, timeout=10).json()
        return found

    def signed_in(self) -> Json:
        started = self.device_code()
        self.azure.person().sign_in_device(started["verification_uri"], started["user_code"])
        found: Json = self.token(DEVICE_CODE, device_code=started["device_code"]).json()
        return found

    def refresh(self, token: str, resource: str = "") -> requests.Response:
        scope = f"{resource or self.azure.arm_url}/.default"
        return self.token("refresh_token", refresh_token=token, scope=scope)


@pytest.fixture
def client(azure: LocalAzure, browser: requests.Session) -> Client:
    return Client(azure, browser)


def test_a_used_refresh_token_goes_on_working(client: Client) -> None:
    first = client.signed_in()["refresh_token"]
    second, third = client.refresh(first).json(), client.refresh(first).json()
    assert len({first, second["refresh_token"], third["refresh_token"]}) == 3
    for token in (second["refresh_token"], third["refresh_token"], first):
        assert client.refresh(token).status_code == 200


def test_refresh_tokens_can_be_made_to_work_once(azure: LocalAzure, client: Client) -> None:
    azure.entra.single_use_refresh_tokens = True
    first = client.signed_in()["refresh_token"]
    second = client.refresh(first).json()["refresh_token"]
    assert client.refresh(first).json()["error"] == "invalid_grant"
    assert client.refresh(second).json()["error"] == "invalid_grant", "the second use ends the whole sign-in"


def test_one_refresh_token_serves_every_resource(client: Client) -> None:
    first = client.signed_in()["refresh_token"]
    assert client.refresh(first, STORAGE_AUDIENCE).status_code == 200
    assert client.refresh(first).status_code == 200


@pytest.mark.parametrize("app", [PUBLIC_APP, OWN_PUBLIC_APP])
def test_public_applications(azure: LocalAzure, server: Server, app: str) -> None:
    server.instances.save("device", azure.instance("Device Code", app_id=app))
    sign_in_device(azure, server)
    assert "| Azure Storage | true |" in succeed(server.run("device", "azure-storage-auth-test")).text


def test_a_public_application_of_the_tenant_with_a_code(azure: LocalAzure, server: Server) -> None:
    server.instances.save("browser", azure.instance("Authorization Code", app_id=OWN_PUBLIC_APP))
    url = succeed(server.run("browser", "azure-storage-generate-login-url")).entries[0]["Contents"]["login_url"]
    end = azure.person().sign_in_code(url)
    succeed(server.run("browser", "azure-storage-auth-complete", {"code": end}))
    succeed(server.run("browser", "azure-storage-subscriptions-list"))
    assert "client_secret=" not in forms(azure)[0]


def test_a_confidential_application_needs_its_secret(azure: LocalAzure, browser: requests.Session) -> None:
    client = Client(azure, browser, SECRET_APP)
    scope = f"{azure.arm_url}/.default"
    assert client.token("client_credentials", scope=scope, client_secret=APP_SECRET).status_code == 200
    answer = client.token("client_credentials", scope=scope, client_secret="wrong")
    assert (answer.status_code, answer.json()["error_codes"]) == (401, [7000215])


def test_an_application_without_consent_for_storage(azure: LocalAzure, browser: requests.Session) -> None:
    client = Client(azure, browser, NO_STORAGE_APP)
    token = client.signed_in()["refresh_token"]
    assert client.refresh(token).status_code == 200
    answer = client.refresh(token, STORAGE_AUDIENCE)
    found = answer.json()
    assert (answer.status_code, found["error"], found["error_codes"]) == (400, "invalid_grant", [65001])
    assert found["error_description"].startswith("AADSTS65001: ")
    assert found["suberror"] == "consent_required"


def test_without_consent_for_storage_resource_manager_still_works(azure: LocalAzure, server: Server) -> None:
    server.instances.save("device", azure.instance("Device Code", app_id=NO_STORAGE_APP))
    sign_in_device(azure, server)
    succeed(server.run("device", "azure-storage-account-list"))
    error = server.run(
        "device", "azure-storage-blob-list", {"account_name": "contosobackups", "container_name": "box"}
    ).error
    assert "65001" in error


def test_a_poll_that_is_told_to_slow_down(azure: LocalAzure, client: Client) -> None:
    started = client.device_code()
    azure.entra.slow_down(times=2)
    answers = [client.token(DEVICE_CODE, device_code=started["device_code"]).json() for _ in range(3)]
    assert [answer["error"] for answer in answers] == ["slow_down", "slow_down", "authorization_pending"]
    assert answers[2]["error_codes"] == [70016]


def test_a_refusal_on_request(azure: LocalAzure, client: Client) -> None:
    token = client.signed_in()["refresh_token"]
    azure.entra.refuse(50173, grant_type="refresh_token")
    azure.entra.refuse(12345, "server_error", "Something else.", suberror="basic_action", grant_type="nothing")
    answer = client.refresh(token)
    found = answer.json()
    assert (answer.status_code, found["error"], found["error_codes"]) == (400, "invalid_grant", [50173])
    text = r"AADSTS50173: .* Trace ID: [\w-]{36} Correlation ID: cid-1 Timestamp: \d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ"
    assert re.fullmatch(text, found["error_description"])
    assert (found["correlation_id"], "suberror" in found) == ("cid-1", False)
    assert client.refresh(token).status_code == 200, "one refusal was asked for"
    with pytest.raises(KeyError):
        azure.entra.refuse(12345)


def test_a_refusal_reaches_the_integration(azure: LocalAzure, server: Server) -> None:
    sign_in_device(azure, server)
    forget_access_tokens(server, "device")
    azure.entra.refuse(53003, suberror="message_only")
    error = server.run("device", "azure-storage-subscriptions-list").error
    assert "53003" in error


@pytest.mark.parametrize(
    ("fields", "error", "number"),
    [
        ({"grant_type": "refresh_token", "refresh_token": "none", "scope": "x"}, "invalid_grant", 70000),
        ({"grant_type": DEVICE_CODE, "device_code": "none"}, "bad_verification_code", None),
        (
            {"grant_type": "authorization_code", "code": "none", "redirect_uri": REDIRECT_URI},
            "invalid_grant",
            9002313,
        ),
        ({"client_id": "11111111-2222-4333-8444-555555555555"}, "unauthorized_client", 700016),
    ],
)
def test_what_the_provider_refuses_is_told_as_entra_tells_it(
    client: Client, fields: dict[str, str], error: str, number: int | None
) -> None:
    form = {"client_id": PUBLIC_APP, "grant_type": DEVICE_CODE, "device_code": "x", **fields}
    answer = client.session.post(f"{client.base}/token", data=form, timeout=10)
    assert (answer.status_code, answer.json()["error"]) == (400, error)
    assert answer.json()["error_codes"] == ([number] if number else [])


def test_a_code_that_was_redeemed_and_one_of_another_verifier(azure: LocalAzure, client: Client) -> None:
    query = {"client_id": PUBLIC_APP, "response_type": "code", "redirect_uri": REDIRECT_URI, "scope": "openid"}
    verifier = "v" * 43
    pkce = {"code_challenge": verifier, "code_challenge_method": "S256"}
    grant = {"redirect_uri": REDIRECT_URI}
    end = azure.person().sign_in_code(f"{client.base}/auth?{urllib.parse.urlencode(query | pkce)}")
    code = urllib.parse.parse_qs(urllib.parse.urlsplit(end).query)["code"][0]
    answer = client.token("authorization_code", code=code, code_verifier=verifier, **grant).json()
    assert answer["error_codes"] == [501481]
    end = azure.person().sign_in_code(f"{client.base}/auth?{urllib.parse.urlencode(query)}")
    code = urllib.parse.parse_qs(urllib.parse.urlsplit(end).query)["code"][0]
    assert client.token("authorization_code", code=code, **grant).status_code == 200
    assert client.token("authorization_code", code=code, **grant).json()["error_codes"] == [54005]


def test_a_declined_device_code(azure: LocalAzure, client: Client) -> None:
    started = client.device_code()
    azure.person().sign_in_device(started["verification_uri"], started["user_code"], deny=True)
    assert client.token(DEVICE_CODE, device_code=started["device_code"]).json()["error"] == "authorization_declined"


def test_the_start_of_a_device_code_flow_is_as_entras(client: Client) -> None:
    started = client.device_code()
    assert set(started) == {"device_code", "user_code", "verification_uri", "expires_in", "interval", "message"}
    assert started["message"].startswith(
        f"To sign in, use a web browser to open the page {started['verification_uri']} "
    )


def test_microsofts_command_line_signs_in_and_keeps_its_tokens_apart(
    azure: LocalAzure, browser: requests.Session
) -> None:
    """Microsoft's library takes a token from its cache if the answer that brought it told the scope."""
    app = msal.PublicClientApplication(
        COMMAND_LINE, authority=f"{azure.authority_url}/{TENANT}", instance_discovery=False, http_client=browser
    )
    flow = app.initiate_device_flow([f"{azure.arm_url}/.default"])
    azure.person().sign_in_device(flow["verification_uri"], flow["user_code"])
    found = app.acquire_token_by_device_flow(flow)
    (account,) = app.get_accounts()
    audiences = {
        resource: app.acquire_token_silent([f"{resource}/.default"], account)["access_token"]
        for resource in (azure.arm_url, STORAGE_AUDIENCE, f"{STORAGE_AUDIENCE}/")
    }
    assert audiences.pop(azure.arm_url) == found["access_token"], "from the cache"
    for token in audiences.values():
        assert jwt.decode(token, options={"verify_signature": False})["aud"] == STORAGE_AUDIENCE


def test_the_pages_ask_no_other_host_and_say_who_signs_in(azure: LocalAzure, browser: requests.Session) -> None:
    pages: list[str] = []
    browser.hooks["response"].append(lambda answer, **_: pages.append(answer.text))
    person = azure.person()
    person.session = browser
    client = Client(azure, browser)
    started = client.device_code()
    person.sign_in_device(started["verification_uri"], started["user_code"])
    query = {"client_id": PUBLIC_APP, "response_type": "code", "redirect_uri": REDIRECT_URI, "scope": "openid"}
    page = browser.get(f"{client.base}/auth", params=query | {"prompt": "login"}, timeout=10)
    assert f"Sign in as <b>{PERSON}</b> with any password." in page.text
    html = [page for page in pages if "<html" in page]
    assert len(html) >= 4
    loaded = re.compile(r"(?:@import|url\(|src=|<link)[^>;]*?(https?://[^\s\"')>]+)")
    assert [host for page in html for host in loaded.findall(page) if "127.0.0.1" not in host] == []


def arc(azure: LocalAzure, session: requests.Session) -> Json:
    client = msal.ManagedIdentityClient(msal.SystemAssignedManagedIdentity(), http_client=session)
    found: Json = client.acquire_token_for_client(resource=azure.arm_url)
    return found


def test_a_managed_identity_of_azure_arc(
    azure: LocalAzure, browser: requests.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """msal reads the key file that the first answer names; a key works once."""
    for name, value in azure.arc_environment().items():
        monkeypatch.setenv(name, value)
    folder = str(azure.arc_agent.folder)
    monkeypatch.setattr(managed_identity, "_supported_arc_platforms_and_their_prefixes", {"linux": folder})
    monkeypatch.setattr(managed_identity.sys, "platform", "linux")
    found = arc(azure, browser)
    assert isinstance(azure._claims_of(f"Bearer {found['access_token']}"), dict)
    first, second = [request for request in list(azure.requests) if request.service == "arc"]
    assert "Authorization" not in first.headers
    url = f"{azure.arc_front.url}{second.target}"
    again = browser.get(url, headers=dict(second.headers), timeout=10)
    assert again.status_code == 401
    assert re.fullmatch(r"Basic realm=/.*\.key", again.headers["WWW-Authenticate"])
    assert browser.get(url, timeout=10).status_code == 400, "without the Metadata header"


def test_azure_arc_where_its_folder_is_missing(
    azure: LocalAzure, browser: requests.Session, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in azure.arc_environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(
        managed_identity, "_supported_arc_platforms_and_their_prefixes", {"linux": str(tmp_path / "none")}
    )
    monkeypatch.setattr(managed_identity.sys, "platform", "linux")
    with pytest.raises(FileNotFoundError):
        arc(azure, browser)


def test_tokens_are_for_one_resource_and_name_the_person(client: Client) -> None:
    import jwt

    token = client.signed_in()
    claims = jwt.decode(token["access_token"], options={"verify_signature": False})
    assert (claims["aud"], claims["upn"], claims["appid"], claims["tid"]) == (
        client.azure.arm_url,
        PERSON,
        PUBLIC_APP,
        TENANT,
    )
    assert claims["exp"] > time.time()
    assert json.dumps(claims).count(STORAGE_AUDIENCE) <= 1
