"""Unit tests of AzureStorage.py: every command through its own main() and the real HTTP layer, with canned answers.

No network, no server, no waiting: the clock is a list, answers come from requests-mock.
"""

import base64
import dataclasses
import email.utils
import hashlib
import json
import re
import threading
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import demistomock as demisto
import pytest
import requests
import requests_mock as rm

import AzureStorage as az

SUBSCRIPTION = "0b1f6471-1bf0-4dda-aec3-cb9272f09590"
GROUP = "rg-finance"
ACCOUNT = "contosobackups"
ARM = "https://management.azure.com"
GROUP_PATH = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}"
ACCOUNTS_PATH = f"{GROUP_PATH}/providers/Microsoft.Storage/storageAccounts"
ACCOUNT_PATH = f"{ACCOUNTS_PATH}/{ACCOUNT}"
SERVICE_PATH = f"{ACCOUNT_PATH}/blobServices/default"
CONTAINERS_PATH = f"{SERVICE_PATH}/containers"
GRAPH = f"{ARM}/providers/Microsoft.ResourceGraph/resources"
ENTRA = "https://login.microsoftonline.com/organizations/oauth2/v2.0"
TENANT = "72f988bf-86f1-41af-91ab-2d7cd011db47"
TENANT_ENTRA = f"https://login.microsoftonline.com/{TENANT}/oauth2/v2.0"
APP = "3f2a1c0e-7d55-4a53-9a44-0d1b7f6f2b11"
DEVICE_PARAMS = {"auth_type": "Device Code", "subscription_id": SUBSCRIPTION, "resource_group_name": GROUP}
CODE_PARAMS = {**DEVICE_PARAMS, "auth_type": "Authorization Code"}
SECRET_PARAMS = {
    **DEVICE_PARAMS,
    "auth_type": "Client Credentials",
    "app_id": APP,
    "tenant_id": TENANT,
    "credentials": {"identifier": "", "password": "marker-client-secret"},
}
ASSIGNMENT = "b0a1c2d3-1111-4222-8333-444455556666"
IDENTITY_PARAMS = {**DEVICE_PARAMS, "auth_type": "Azure Managed Identities"}
PASTED_SAS = "sv=2022-11-02&ss=b&srt=sco&sp=rl&se=2099-01-01T00:00:00Z&sig=MARKER%2F0123456789"


class FakeClock:
    """Time that passes only when somebody waits."""

    def __init__(self) -> None:
        self.time = 1_800_000_000.0
        self.waits: list[float] = []

    def now(self) -> float:
        return self.time

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.time += seconds


class WarRoom:
    """Runs commands as the server does and keeps what they return."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, clock: FakeClock) -> None:
        self.monkeypatch, self.clock = monkeypatch, clock
        self.params: dict[str, Any] = dict(DEVICE_PARAMS)
        self.entries: list[dict[str, Any]] = []
        self.log: list[str] = []
        self.nonce = ""
        monkeypatch.setattr(demisto, "results", self._keep)
        for level in ("debug", "info", "error"):
            monkeypatch.setattr(demisto, level, lambda *words: self.log.append(" ".join(map(str, words))))

    def _keep(self, result: Any) -> None:
        self.entries.extend(result if isinstance(result, list) else [result])

    def run(self, name: str, **args: Any) -> SimpleNamespace:
        """The last entry of a command that is no file: its text, context, error and schedule."""
        self.entries = []
        self.monkeypatch.setattr(demisto, "command", lambda: name)
        self.monkeypatch.setattr(demisto, "params", lambda: self.params)
        self.monkeypatch.setattr(demisto, "args", lambda: args)
        try:
            az.main()
        except SystemExit:
            pass
        told = [entry for entry in self.entries if not (isinstance(entry, dict) and entry.get("File"))]
        entry = (told or self.entries)[-1]  # files that a command leaves come behind what it says
        if not isinstance(entry, dict):
            return SimpleNamespace(text=str(entry), context={}, error="", entry=entry, raw=entry)
        failed = entry.get("Type") == 4
        return SimpleNamespace(
            text="" if failed else entry.get("HumanReadable") or "",
            context=entry.get("EntryContext") or {},
            error=entry["Contents"] if failed else "",
            entry=entry,
            raw=entry.get("Contents"),
        )

    def sign_in(self, token: str = "marker-arm-token") -> None:
        """As if somebody had signed in: a session with tokens for both resources."""
        settings = az.read_settings(self.params)
        expires = int(self.clock.time) + 3600
        resources = (settings.cloud.audience, az.STORAGE_AUDIENCE)
        session = {
            "tokens": {resource: {"token": token, "expires_at": expires} for resource in resources},
            "cache": msal_cache("marker-refresh-token"),
            "username": "ann@contoso.com",
        }
        document = {"version": 1, "sessions": {settings.identity_key: session}}
        demisto.setIntegrationContext({**demisto.getIntegrationContext(), az.SessionStore.KEY: json.dumps(document)})

    def session(self) -> dict[str, Any]:
        document = json.loads(demisto.getIntegrationContext()[az.SessionStore.KEY])
        found: dict[str, Any] = document["sessions"].get(az.read_settings(self.params).identity_key, {})
        return found


def encoded(value: Any) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def jwt(**claims: Any) -> str:
    return f"{encoded({'alg': 'none'})}.{encoded(claims)}.c2ln"


def token_answer(name: str = "arm", **extra: Any) -> dict[str, Any]:
    """What Entra's token endpoint answers to a person's sign-in."""
    claims = {"preferred_username": "ann@contoso.com", "aud": az.CORTEX_APP_ID, "iss": "x", "sub": "s", "iat": 1}
    return {
        "token_type": "Bearer",
        "expires_in": 3600,
        "access_token": jwt(tid=TENANT, appid=az.CORTEX_APP_ID, upn="ann@contoso.com", jti=name),
        "refresh_token": f"marker-refresh-token-{name}",
        "id_token": jwt(**claims, exp=4_000_000_000),
        "client_info": encoded({"uid": "u", "utid": "t"}),
        **extra,
    }


def msal_cache(refresh_token: str) -> str:
    """The part of msal's cache that a session keeps, made by msal itself from a canned answer."""
    import msal

    cache = msal.SerializableTokenCache()
    event = {
        "client_id": az.CORTEX_APP_ID,
        "scope": ["https://management.azure.com/.default"],
        "token_endpoint": f"{ENTRA}/token",
        "grant_type": "device_code",
        "response": token_answer() | {"refresh_token": refresh_token},
    }
    cache.add(event)
    return az.MicrosoftAuth._cache_text(cache)


def entra_error(error: str, number: int = 0, **extra: Any) -> dict[str, Any]:
    codes = (
        {"error_codes": [number], "error_description": f"AADSTS{number}: What happened.\r\nTrace ID: t"}
        if number
        else {}
    )
    return {"error": error, "correlation_id": "5f3c-correlation", **codes, **extra}


def device_answer(**extra: Any) -> dict[str, Any]:
    answer = {
        "user_code": "ABCD1234",
        "device_code": "marker-device-code",
        "verification_uri": "https://microsoft.com/devicelogin",
        "expires_in": 900,
        "interval": 5,
    }
    return {**answer, **extra}


def account_body(**properties: Any) -> dict[str, Any]:
    return {
        "id": ACCOUNT_PATH,
        "name": ACCOUNT,
        "kind": "StorageV2",
        "location": "westeurope",
        "sku": {"name": "Standard_LRS", "tier": "Standard"},
        "tags": {"owner": "finance"},
        "properties": {"statusOfPrimary": "available", "provisioningState": "Succeeded", **properties},
    }


def arm_failure(code: str, message: str = "What went wrong.") -> dict[str, Any]:
    return {"error": {"code": code, "message": message}}


def last(mock: rm.Mocker) -> Any:
    return mock.request_history[-1]


def query(request: Any) -> dict[str, str]:
    return {key: values[0] for key, values in parse_qs(urlsplit(request.url).query).items()}


def form(request: Any) -> dict[str, str]:
    return {key: values[0] for key, values in parse_qs(request.text).items()}


def requests_to(mock: rm.Mocker, part: str) -> list[Any]:
    return [request for request in mock.request_history if part in request.url]


@pytest.fixture(autouse=True)
def _a_folder_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Where a command leaves its files, as the container that it runs in has one."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    fake = FakeClock()
    monkeypatch.setattr(az.Clock, "now", fake.now)
    monkeypatch.setattr(az.Clock, "wait", fake.wait)
    monkeypatch.setattr("time.time", fake.now)  # msal and its flows look at the real one
    return fake


@pytest.fixture
def war_room(monkeypatch: pytest.MonkeyPatch, clock: FakeClock) -> WarRoom:
    demisto.setIntegrationContext({})
    az._known_secrets.clear()
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    return WarRoom(monkeypatch, clock)


@pytest.fixture
def signed_in(war_room: WarRoom, requests_mock: rm.Mocker) -> WarRoom:
    """Somebody is signed in, and Resource Graph knows no account: what is not where the instance says is nowhere."""
    war_room.sign_in()
    requests_mock.post(GRAPH, json={"data": []})
    return war_room


# --- names and arguments -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pasted", "expected"),
    [
        ("contosobackups", az.AccountClue("contosobackups")),
        (' "ContosoBackups/" ', az.AccountClue("contosobackups")),
        ("https://contosobackups.blob.core.windows.net", az.AccountClue("contosobackups")),
        ("https://contosobackups.blob.core.windows.net/c/b.txt?sv=1&sig=x%2F", az.AccountClue("contosobackups")),
        ("contosobackups.z13.web.core.windows.net", az.AccountClue("contosobackups")),
        (ACCOUNT_PATH, az.AccountClue(ACCOUNT, SUBSCRIPTION, GROUP)),
        (ACCOUNT_PATH.upper() + "/", az.AccountClue(ACCOUNT, SUBSCRIPTION, GROUP.upper())),
    ],
)
def test_an_account_is_found_in_what_people_paste(pasted: str, expected: az.AccountClue) -> None:
    assert az.parse_account(pasted) == expected


@pytest.mark.parametrize("wrong", ["ab", "a" * 25, "under_score", "../x", "https://", "/subscriptions/x", "acct?x=1"])
def test_what_is_no_account_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError):
        az.parse_account(wrong)


@pytest.mark.parametrize("good", ["abc", "a-b-c", "$root", "$web", "$logs", "x" * 63, "1ab", " 'Logs-2026/' "])
def test_container_names_that_azure_takes(good: str) -> None:
    assert az.parse_container(good) == good.strip().strip("'").rstrip("/").lower()


@pytest.mark.parametrize("wrong", ["ab", "a--b", "-ab", "ab-", "x" * 64, "a_b", "a/b", "$other", "..", "a?b", "a%2fb"])
def test_container_names_that_azure_refuses(wrong: str) -> None:
    with pytest.raises(ValueError):
        az.parse_container(wrong)


def test_a_resource_id_is_split_whatever_its_case() -> None:
    path = f"{CONTAINERS_PATH}/logs"
    wanted = az.ResourceId(SUBSCRIPTION, GROUP, ACCOUNT, "logs")
    assert az.parse_resource_id(path) == wanted
    lowered = path.replace("resourceGroups", "resourcegroups").replace("storageAccounts", "STORAGEACCOUNTS")
    assert az.parse_resource_id(lowered) == wanted
    assert az.resource_id({"id": None}) == az.ResourceId("")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("case=123,owner=ir team", {"case": "123", "owner": "ir team"}),
        ("a=b=c", {"a": "b=c"}),
        ('{"case": 123}', {"case": "123"}),
        ("urgent, evidence", {"tag1": "urgent", "tag2": "evidence"}),
        ('["x","y"]', {"tag1": "x", "tag2": "y"}),
        ("empty=", {"empty": ""}),
    ],
)
def test_tags_are_taken_exactly(text: str, expected: dict[str, str]) -> None:
    assert az.read_tags(text) == expected


@pytest.mark.parametrize("wrong", ["a=1,b", "{", "{}", "[1", "=x", "<a>=1", "k" * 129 + "=v", "k=" + "v" * 257])
def test_tags_that_azure_would_refuse(wrong: str) -> None:
    with pytest.raises(ValueError):
        az.read_tags(wrong)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("203.0.113.7, 198.51.100.0/24", ["203.0.113.7", "198.51.100.0/24"]),
        ("192.168.4.0/24", None),
        ("8.8.8.8,9.9.0.0/16", ["8.8.8.8", "9.9.0.0/16"]),
        ("8.8.8.8/32", ["8.8.8.8"]),
        ('["8.8.8.8"]', ["8.8.8.8"]),
        ('[{"value":"8.8.8.8","action":"Allow"}]', ["8.8.8.8"]),
        ('{"value":"8.8.8.8"}', ["8.8.8.8"]),
        ("10.0.0.1", None),
        ("8.8.8.0/31", None),
        ("2001:db8::1", None),
        ('[{"address":"8.8.8.8"}]', None),
        ("[8.8", None),
    ],
)
def test_ip_rules_in_every_form(text: str, values: list[str] | None) -> None:
    if values is None:
        with pytest.raises((ValueError, StopIteration)):
            az.read_ip_rules(text)
    else:
        assert az.read_ip_rules(text) == [{"value": value, "action": "Allow"} for value in values]


WRONG_ARGUMENTS = [
    ("azure-storage-account-list", {"limit": "many"}, "limit", "a whole number"),
    ("azure-storage-account-list", {"limit": "0"}, "limit", "a whole number"),
    ("azure-storage-account-list", {"all_results": "maybe"}, "all_results", "true or false"),
    ("azure-storage-account-list", {"next_token": "?"}, "next_token", "earlier call"),
    ("azure-storage-account-list", {"subscription_id": "main"}, "subscription_id", "GUID"),
    ("azure-storage-account-list", {"resource_group_name": "a/b"}, "resource_group_name", "90 characters"),
    ("azure-storage-account-list", {"account_name": "UNDER_SCORE"}, "account_name", "3 to 24"),
    ("azure-storage-blob-containers-list", {"account_name": ACCOUNT, "maxpagesize": "9999"}, "maxpagesize", "5000"),
    (
        "azure-storage-blob-containers-create",
        {"account_name": ACCOUNT, "container_name": "a--b"},
        "container_name",
        "3 to 63",
    ),
    ("azure-storage-blob-containers-create", {"account_name": ACCOUNT}, "container_name", "Missing required argument"),
    (
        "azure-storage-blob-containers-update",
        {"account_name": ACCOUNT, "container_name": "abc", "public_access": "Everyone"},
        "public_access",
        "Blob, Container, None",
    ),
    ("azure-storage-resource-group-list", {"tag": "a=1,b=2"}, "tag", "one tag"),
    ("azure-storage-resource-group-list", {"tag": "justaname"}, "tag", "one tag"),
    ("azure-storage-account-create-update", {"account_name": ACCOUNT, "sku": "Gold"}, "sku", "Standard_LRS"),
    ("azure-storage-account-create-update", {"account_name": ACCOUNT, "tags": "a=1,b"}, "tags", "no ="),
    (
        "azure-storage-account-create-update",
        {"account_name": ACCOUNT, "network_ruleset_ipRules": "[{"},
        "ip_rules",
        "IPv4",
    ),
    (
        "azure-storage-account-create-update",
        {"account_name": ACCOUNT, "network_ruleset_ipRules": "10.1.1.1"},
        "ip_rules",
        "private",
    ),
    (
        "azure-storage-account-create-update",
        {"account_name": ACCOUNT, "virtual_network_rules": "subnet1"},
        "virtual_network_rules",
        "subnet IDs",
    ),
    (
        "azure-storage-account-create-update",
        {"account_name": ACCOUNT, "network_ruleset_default_action": "Block"},
        "default_action",
        "Allow, Deny",
    ),
    (
        "azure-storage-account-create-update",
        {"account_name": ACCOUNT, "network_ruleset_bypass": "None,Metrics"},
        "bypass",
        "can't be combined with other values",
    ),
    (
        "azure-storage-account-create-update",
        {"account_name": ACCOUNT, "use_sub_domain_name": "true"},
        "use_sub_domain_name",
        "custom_domain_name",
    ),
    (
        "azure-storage-account-create-update",
        {"account_name": ACCOUNT, "enc_key_source": "Microsoft.Keyvault"},
        "enc_key_source",
        "enc_keyvault_uri",
    ),
    (
        "azure-storage-account-create-update",
        {"account_name": ACCOUNT, "operation_url": "http://x/y"},
        "operation_url",
        "running operation",
    ),
    (
        "azure-storage-blob-service-properties-set",
        {"account_name": ACCOUNT, "delete_retention_policy_days": "400"},
        "delete_retention_policy_days",
        "1 to 365",
    ),
    (
        "azure-storage-blob-service-properties-set",
        {"account_name": ACCOUNT, "delete_retention_policy_days": "7", "delete_rentention_policy_days": "8"},
        "delete_retention_policy_days",
        "contradict",
    ),
    ("azure-storage-account-list", {"acount_name": "x"}, "acount_name", "account_name"),
    (
        "azure-storage-account-list",
        {"account_name": ACCOUNT_PATH, "resource_group_name": "other"},
        "resource_group_name",
        "contradicts",
    ),
]


@pytest.mark.parametrize(("name", "args", "argument", "accepted"), WRONG_ARGUMENTS)
def test_a_wrong_argument_is_named_before_any_request(
    signed_in: WarRoom, requests_mock: rm.Mocker, name: str, args: dict[str, str], argument: str, accepted: str
) -> None:
    result = signed_in.run(name, **args)
    assert argument in result.error
    assert accepted in result.error
    assert len(result.error.splitlines()) == 1
    assert requests_mock.call_count == 0


def test_without_scope_the_message_names_argument_and_parameter(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    signed_in.params = {"auth_type": "Device Code"}
    result = signed_in.run("azure-storage-resource-group-list")
    assert "Missing required argument `subscription_id`" in result.error
    assert "Default Subscription ID" in result.error
    assert requests_mock.call_count == 0


def test_empty_strings_and_playbook_values_count_as_a_person_would_expect(
    signed_in: WarRoom, requests_mock: rm.Mocker
) -> None:
    requests_mock.get(f"{ARM}{GROUP_PATH}", json={})
    requests_mock.get(ARM + ACCOUNTS_PATH, json={"value": [account_body(), account_body()]})
    result = signed_in.run(
        "azure-storage-account-list", account_name="", limit=1, all_results=True, resource_group_name=None
    )
    assert not result.error
    assert len(next(iter(result.context.values()))) == 2


# --- settings ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"auth_type": "Kerberos"}, "Authentication Type"),
        ({"cloud": "Germany"}, "Cloud"),
        ({"cloud": "Custom"}, "Sign-in Authority URL"),
        ({"cloud": "Custom", "custom_authority_url": "http://adfs.local"}, "Sign-in Authority URL"),
        (
            {"cloud": "Custom", "custom_authority_url": "https://a", "custom_resource_manager_url": "ftp://b"},
            "Resource Manager URL",
        ),
        (
            {"cloud": "Custom", "custom_authority_url": "https://a", "custom_resource_manager_url": "https://b"},
            "Storage Endpoint Suffix",
        ),
        ({"app_id": "my app"}, "Application ID"),
        ({"tenant_id": "a b/c"}, "Tenant ID"),
        ({"subscription_id": "main"}, "Default Subscription ID"),
        ({"resource_group_name": "a/b"}, "Default Resource Group Name"),
        ({"auth_type": "Client Credentials", "tenant_id": ""}, "Tenant ID"),
        ({"auth_type": "Client Credentials", "tenant_id": TENANT}, "self-deployed"),
        (
            {"auth_type": "Client Credentials", "tenant_id": TENANT, "app_id": APP},
            "need a Client Secret, or a Certificate",
        ),
        (
            {
                **SECRET_PARAMS,
                "certificate": {
                    "identifier": "A1" * 20,
                    "password": "-----BEGIN PRIVATE KEY----- abc -----END PRIVATE KEY-----",
                },
            },
            "Keep one and clear the other",
        ),
        (
            {
                "auth_type": "Client Credentials",
                "tenant_id": TENANT,
                "app_id": APP,
                "certificate": {
                    "identifier": "12",
                    "password": "-----BEGIN PRIVATE KEY----- abc -----END PRIVATE KEY-----",
                },
            },
            "Certificate Thumbprint",
        ),
        ({"auth_type": "Client Credentials", "certificate": {"identifier": "12", "password": "abc"}}, "whole PEM"),
    ],
)
def test_a_wrong_parameter_is_named_as_the_form_shows_it(war_room: WarRoom, change: dict[str, Any], words: str) -> None:
    war_room.params = {**DEVICE_PARAMS, **change}
    result = war_room.run("azure-storage-auth-test")
    assert words in result.error


def test_a_pem_key_that_lost_its_line_ends_is_mended() -> None:
    flat = "-----BEGIN PRIVATE KEY----- MIIB AAAA -----END PRIVATE KEY-----"
    thumbprint, key = az.certificate_param({"identifier": "ab:cd 12", "password": flat})
    assert thumbprint == "ABCD12"
    assert key == "-----BEGIN PRIVATE KEY-----\nMIIB\nAAAA\n-----END PRIVATE KEY-----\n"
    assert az.certificate_param({"identifier": "1", "credentials": {"sshkey": flat}})[1] == key


@pytest.mark.parametrize(
    ("cloud", "host", "authority"),
    [
        ("US Government", "https://management.usgovcloudapi.net", "https://login.microsoftonline.us"),
        ("China", "https://management.chinacloudapi.cn", "https://login.partner.microsoftonline.cn"),
    ],
)
def test_a_sovereign_cloud_is_the_only_place_asked(
    war_room: WarRoom, requests_mock: rm.Mocker, cloud: str, host: str, authority: str
) -> None:
    war_room.params = {**SECRET_PARAMS, "cloud": cloud}
    requests_mock.post(
        f"{authority}/{TENANT}/oauth2/v2.0/token", json={"access_token": "marker-token", "expires_in": 3600}
    )
    requests_mock.get(f"{host}/subscriptions", json={"value": []})
    assert not war_room.run("azure-storage-subscriptions-list").error
    assert form(requests_mock.request_history[0])["scope"] == f"{host}/.default"
    assert {urlsplit(r.url).netloc for r in requests_mock.request_history} == {
        urlsplit(host).netloc,
        urlsplit(authority).netloc,
    }


def test_a_custom_cloud_is_asked_for_its_endpoints(war_room: WarRoom, requests_mock: rm.Mocker) -> None:
    war_room.params = {
        **SECRET_PARAMS,
        "cloud": "Custom",
        "custom_authority_url": "https://login.hub.local/",
        "custom_resource_manager_url": "https://management.hub.local",
        "custom_resource_manager_audience": "https://management.hub.onmicrosoft.com/1",
        "custom_storage_suffix": ".hub.local",
    }
    base = f"https://login.hub.local/{TENANT}"
    requests_mock.get(
        f"{base}/v2.0/.well-known/openid-configuration",
        json={"authorization_endpoint": f"{base}/a", "token_endpoint": f"{base}/t", "issuer": base},
    )
    requests_mock.post(f"{base}/t", json={"access_token": "marker-token", "expires_in": 3600})
    requests_mock.get("https://management.hub.local/subscriptions", json={"value": []})
    assert not war_room.run("azure-storage-subscriptions-list").error
    assert form(requests_to(requests_mock, "/t")[-1])["scope"] == "https://management.hub.onmicrosoft.com/1/.default"


def test_a_custom_authority_cannot_send_us_elsewhere(war_room: WarRoom, requests_mock: rm.Mocker) -> None:
    war_room.params = {
        **SECRET_PARAMS,
        "cloud": "Custom",
        "custom_authority_url": "https://login.hub.local",
        "custom_resource_manager_url": "https://management.hub.local",
        "custom_storage_suffix": "hub.local",
    }
    requests_mock.get(
        f"https://login.hub.local/{TENANT}/v2.0/.well-known/openid-configuration",
        json={
            "authorization_endpoint": "https://evil/a",
            "token_endpoint": "https://evil/x/t",
            "issuer": "https://evil",
        },
    )
    assert "not the chosen one" in war_room.run("azure-storage-subscriptions-list").error
    assert not requests_to(requests_mock, "evil")


# --- secrets -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "https://a.blob.core.windows.net/c/b?sv=2025&sig=MARKER%2Fx%3D&se=1",
        "code=MARKER&state=1",
        '{"refresh_token": "MARKER"}',
        "Authorization: Bearer MARKER-0123456789",
        "Authorization: SharedKey acct:MARKER0123456789=",
        f"token {jwt(marker='MARKER')}",
        "key " + "MARKER" + "A" * 80 + "==",
        "-----BEGIN RSA PRIVATE KEY-----\nMARKER\n-----END RSA PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----\nMARKER cut off",
    ],
)
def test_redaction_of_every_known_form(text: str) -> None:
    assert "MARKER" not in az.redact(text)
    assert encoded({"marker": "MARKER"}) not in az.redact(text)
    assert az.HIDDEN in az.redact(text)


def test_a_secret_never_prints(war_room: WarRoom) -> None:
    secret = az.Secret("marker-value")
    assert "marker" not in repr(secret) + str(secret) + f"{secret}"
    assert az.redact("the marker-value is here") == f"the {az.HIDDEN} is here"
    assert secret.reveal() == "marker-value"
    assert not az.Secret("")


# --- errors ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "code", "words"),
    [
        (json.dumps(arm_failure("ScopeLocked", "The scope is locked.")), "ScopeLocked", "The scope is locked."),
        ('{"code": "Bare", "message": "m"}', "Bare", "m"),
        (json.dumps(arm_failure("Outer", json.dumps(arm_failure("Inner", "deep")))), "Inner", "deep"),
        ('{"error":{"code":"A","message":"m","details":[{"code":"B","message":"n"}]}}', "A", "m B: n"),
        (
            '{"error":{"code":"RequestDisallowedByPolicy","message":"No.","additionalInfo":'
            '[{"type":"PolicyViolation","info":{"policyDefinitionDisplayName":"Deny public access"}}]}}',
            "RequestDisallowedByPolicy",
            "No. Policy: Deny public access",
        ),
        ("<html>proxy</html>", "", "<html>proxy</html>"),
        ("", "", ""),
        ('{"error": "text"}', "", '{"error": "text"}'),
    ],
)
def test_arm_errors_in_every_shape(body: str, code: str, words: str) -> None:
    assert az.parse_arm_error(body) == (code, words)


def test_an_error_says_what_was_tried_why_and_what_to_do(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    requests_mock.get(
        ARM + ACCOUNT_PATH,
        status_code=403,
        json=arm_failure("AuthorizationFailed", "The client does not have authorization to perform action 'x'."),
        headers={"x-ms-correlation-request-id": "c0rrelation"},
    )
    error = signed_in.run("azure-storage-account-list", account_name=ACCOUNT).error
    assert error.splitlines()[0].startswith(
        f"Could not read storage account {ACCOUNT}: 403 AuthorizationFailed. The client"
    )
    assert "Next step: Assign the signed-in identity a role" in error
    assert "Request ID: c0rrelation" in error
    assert "Required permission: Microsoft.Storage/storageAccounts/read. The built-in role Reader includes it." in error


def test_every_arm_hint_reaches_the_person(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    for code, step in az.ARM_HINTS.items():
        requests_mock.get(ARM + ACCOUNT_PATH, status_code=409, json=arm_failure(code))
        error = signed_in.run("azure-storage-account-list", account_name=ACCOUNT).error
        assert f"409 {code}" in error
        assert f"Next step: {step}" in error


def test_an_unforeseen_failure_is_named_and_redacted(signed_in: WarRoom, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(arm: az.ResourceManager, *_: Any) -> None:
        arm.authorization.auth.token(ARM)
        raise RuntimeError("token marker-arm-token leaked at https://x/?sig=MARKER")

    monkeypatch.setattr(az.ResourceManager, "listing", fail)
    error = signed_in.run("azure-storage-subscriptions-list").error
    assert "RuntimeError" in error
    assert "marker" not in (error + " ".join(signed_in.log)).lower()


# --- network -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "retry_after", "attempt", "low", "high"),
    [
        (429, "7", 0, 7, 7),
        (503, "", 0, 0.375, 0.625),
        (500, "", 3, 3, 5),
        (0, "", 1, 0.75, 1.25),
        (408, "soon", 0, 0.375, 0.625),
        (429, email.utils.formatdate(1_800_000_010, usegmt=True), 0, 10, 10),
        (429, email.utils.formatdate(1_700_000_000, usegmt=True), 0, 0, 0),
    ],
)
def test_how_long_to_wait(status: int, retry_after: str, attempt: int, low: float, high: float) -> None:
    delay = az.retry_delay(status, retry_after, attempt, 1_800_000_000)
    assert delay is not None
    assert low <= delay <= high


@pytest.mark.parametrize("status", [200, 202, 304, 400, 401, 403, 404, 409, 412, 501, 505])
def test_when_another_try_makes_no_sense(status: int) -> None:
    assert az.retry_delay(status, "1", 0, 0) is None


def test_throttling_is_waited_out(signed_in: WarRoom, requests_mock: rm.Mocker, clock: FakeClock) -> None:
    slow = {"status_code": 429, "headers": {"Retry-After": "17"}, "json": arm_failure("TooManyRequests")}
    requests_mock.get(f"{ARM}/subscriptions", [slow, slow, {"json": {"value": []}}])
    assert not signed_in.run("azure-storage-subscriptions-list").error
    assert clock.waits == [17, 17]


def test_too_long_a_wait_is_told_not_taken(signed_in: WarRoom, requests_mock: rm.Mocker, clock: FakeClock) -> None:
    requests_mock.get(f"{ARM}/subscriptions", status_code=429, headers={"Retry-After": "300"}, json={})
    error = signed_in.run("azure-storage-subscriptions-list").error
    assert "429 TooManyRequests" in error
    assert "again in 300 seconds" in error
    assert clock.waits == []


@pytest.mark.parametrize(
    "fault", [500, 502, 503, 504, 408, requests.exceptions.ConnectionError("Connection aborted, reset")]
)
def test_a_passing_fault_is_tried_again(signed_in: WarRoom, requests_mock: rm.Mocker, fault: Any) -> None:
    first = {"status_code": fault} if isinstance(fault, int) else {"exc": fault}
    requests_mock.get(f"{ARM}/subscriptions", [first, {"json": {"value": []}}])
    assert not signed_in.run("azure-storage-subscriptions-list").error
    assert requests_mock.call_count == 2


def test_a_lasting_fault_ends_after_five_tries(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    requests_mock.get(f"{ARM}/subscriptions", status_code=503, json=arm_failure("ServerBusy", "Busy."))
    assert "503 ServerBusy. Busy." in signed_in.run("azure-storage-subscriptions-list").error
    assert requests_mock.call_count == 5


@pytest.mark.parametrize(
    "url",
    [
        "https://x.example/y",
        "https://x.example:8443/a/b%20c/%E2%98%83?comp=list&marker=a%2Fb%3D&sig=ab%2Bc%3D",
        "http://127.0.0.1:80/metadata?api-version=2018-02-01",
        "https://[::1]:10000/devaccount/c",
        "https://x.example/a b",  # these two are left to requests
        "https://b\u00fccher.example/y",
    ],
)
def test_a_request_leaves_as_requests_would_send_it(url: str) -> None:
    headers, data = {"x-ms-version": "2025-11-05", "Content-Type": "text/plain"}, b"four"
    own = az.prepared("PUT", url, {"headers": headers, "data": data})
    usual = requests.Request("PUT", url, headers={**headers, "User-Agent": az.USER_AGENT}, data=data).prepare()
    assert (own.method, own.url, own.headers, own.body) == (usual.method, usual.url, usual.headers, usual.body)
    assert az.prepared("PUT", url, {"data": b""}).headers.get("Content-Length") == "0"
    assert "Content-Length" not in az.prepared("GET", url, {"headers": headers}).headers


def test_a_header_cannot_bring_another_one_along(requests_mock: rm.Mocker) -> None:
    requests_mock.get("https://x.example/y")
    with pytest.raises(az.NetworkError):
        az.Network(True).exchange("GET", "https://x.example/y", action="try", headers={"x-ms-meta-a": "b\r\nc: d"})
    assert not requests_mock.called


def test_a_post_that_may_have_arrived_is_not_sent_again(clock: FakeClock, requests_mock: rm.Mocker) -> None:
    requests_mock.post("https://x.example/y", status_code=500)
    network = az.Network(True)
    assert network.exchange("POST", "https://x.example/y", action="try", replayable=False).status_code == 500
    requests_mock.post("https://x.example/y", exc=requests.exceptions.ReadTimeout)
    with pytest.raises(az.NetworkError):
        network.exchange("POST", "https://x.example/y", action="try", replayable=False)
    assert requests_mock.call_count == 2
    requests_mock.post("https://x.example/y", exc=requests.exceptions.ConnectTimeout)
    with pytest.raises(az.NetworkError):
        network.exchange("POST", "https://x.example/y", action="try", replayable=False)
    assert requests_mock.call_count == 2 + az.MAX_TRIES


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (requests.exceptions.SSLError("CERTIFICATE_VERIFY_FAILED"), "not trusted"),
        (requests.exceptions.ProxyError("tunnel failed"), "proxy"),
        (requests.exceptions.ConnectTimeout(), "within 10 seconds"),
        (requests.exceptions.ReadTimeout(), "longer than 60 seconds"),
        (
            requests.exceptions.ConnectionError("NameResolutionError: https://x/?sig=MARKER"),
            "could not be resolved (DNS)",
        ),
        (requests.exceptions.ConnectionError("NewConnectionError: refused"), "refused the connection"),
        (requests.exceptions.ChunkedEncodingError("cut"), "ChunkedEncodingError"),
    ],
)
def test_a_failed_connection_in_words(
    signed_in: WarRoom, requests_mock: rm.Mocker, fault: Exception, words: str
) -> None:
    requests_mock.get(f"{ARM}/subscriptions", exc=fault)
    error = signed_in.run("azure-storage-subscriptions-list").error
    assert error.startswith("Could not list subscriptions: ")
    assert words in error
    assert "Next step: " in error
    assert "MARKER" not in error


@pytest.mark.parametrize("body", ["<html>Proxy login</html>", "[1, 2]", "{cut"])
def test_an_answer_that_is_not_json_is_shown_shortly(signed_in: WarRoom, requests_mock: rm.Mocker, body: str) -> None:
    requests_mock.get(f"{ARM}/subscriptions", text=body + " sig=MARKER" + "x" * 5000)
    error = signed_in.run("azure-storage-subscriptions-list").error
    assert "not JSON" in error
    assert body[:6] in error
    assert "MARKER" not in error
    assert len(error) < 600


def test_a_byte_order_mark_does_no_harm(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    requests_mock.get(
        f"{ARM}/subscriptions",
        content=b'\xef\xbb\xbf{"value": [{"id": "/subscriptions/1", "displayName": "Z\xc3\xbcrich"}]}',
    )
    assert "Zürich" in signed_in.run("azure-storage-subscriptions-list").text


def test_a_redirect_is_not_followed(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    requests_mock.get(f"{ARM}/subscriptions", status_code=302, headers={"Location": "https://evil.example/"})
    assert "answered 302 with a redirect" in signed_in.run("azure-storage-subscriptions-list").error
    assert requests_mock.call_count == 1


@pytest.mark.parametrize(
    "host", ["https://evil.example", "http://management.azure.com", "https://user@management.azure.com"]
)
def test_a_next_link_out_of_the_cloud_gets_no_token(signed_in: WarRoom, requests_mock: rm.Mocker, host: str) -> None:
    requests_mock.get(f"{ARM}/subscriptions", json={"value": [], "nextLink": f"{host}/subscriptions?x=1"})
    error = signed_in.run("azure-storage-subscriptions-list").error
    assert "outside the selected cloud; the request was not sent" in error
    assert requests_mock.call_count == 1


def test_verification_is_asked_per_request(
    signed_in: WarRoom, requests_mock: rm.Mocker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/elsewhere.pem")
    requests_mock.get(f"{ARM}/subscriptions", json={"value": []})
    signed_in.params = {**DEVICE_PARAMS, "insecure": True}
    signed_in.run("azure-storage-subscriptions-list")
    assert last(requests_mock).verify is False
    assert last(requests_mock).timeout == (10, 60)


# --- HTTP --------------------------------------------------------------------------------------------------------------


def test_a_refused_token_is_refreshed_once_and_saved_before_use(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    seen: list[dict[str, Any]] = []

    def answer(request: Any, context: Any) -> dict[str, Any]:
        seen.append(signed_in.session())
        if request.headers["Authorization"] == "Bearer marker-arm-token":
            context.status_code = 401
            return arm_failure("ExpiredAuthenticationToken")
        return {"value": []}

    requests_mock.get(f"{ARM}/subscriptions", json=answer)
    requests_mock.post(f"{ENTRA}/token", json=token_answer("renewed"))
    assert not signed_in.run("azure-storage-subscriptions-list").error
    body = form(requests_to(requests_mock, "/token")[0])
    assert (body["grant_type"], body["refresh_token"]) == ("refresh_token", "marker-refresh-token")
    assert "marker-refresh-token-renewed" in seen[1]["cache"]
    assert "turn" not in signed_in.session()


def test_a_second_401_is_final(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    requests_mock.get(f"{ARM}/subscriptions", status_code=401, json=arm_failure("InvalidAuthenticationToken"))
    requests_mock.post(f"{ENTRA}/token", json=token_answer())
    error = signed_in.run("azure-storage-subscriptions-list").error
    assert "401 InvalidAuthenticationToken" in error
    assert "auth-start" in error
    assert len(requests_to(requests_mock, "/subscriptions")) == 2


CLAIMS = '{"access_token":{"acrs":{"essential":true,"value":"c1"}}}'
CHALLENGE = {
    "WWW-Authenticate": 'Bearer realm="", error="insufficient_claims", claims="'
    + base64.b64encode(CLAIMS.encode()).decode()
    + '"'
}


def test_a_claims_challenge_is_answered(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    requests_mock.get(f"{ARM}/subscriptions", [{"status_code": 401, "headers": CHALLENGE}, {"json": {"value": []}}])
    requests_mock.post(f"{ENTRA}/token", json=token_answer("stepped-up"))
    assert not signed_in.run("azure-storage-subscriptions-list").error
    assert json.loads(form(requests_to(requests_mock, "/token")[0])["claims"]) == json.loads(CLAIMS)


def test_claims_that_need_a_person_are_kept_for_the_next_sign_in(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    requests_mock.get(f"{ARM}/subscriptions", status_code=401, headers=CHALLENGE)
    requests_mock.post(f"{ENTRA}/token", status_code=400, json=entra_error("interaction_required", 50076))
    error = signed_in.run("azure-storage-subscriptions-list").error
    assert "Multifactor authentication is required" in error
    assert "marker-refresh-token" in signed_in.session()["cache"], "the session itself is not dead"
    requests_mock.post(f"{ENTRA}/devicecode", json=device_answer())
    signed_in.run("azure-storage-auth-start")
    assert json.loads(form(last(requests_mock))["claims"]) == json.loads(CLAIMS)


@pytest.mark.parametrize("header", ["", "Bearer", 'Bearer claims="%%%"', 'Bearer claims="bm90IGpzb24="'])
def test_a_401_without_usable_claims(header: str) -> None:
    response = requests.Response()
    response.headers["WWW-Authenticate"] = header
    assert az.claims_of(response) == ""


# --- sign-in: device code ----------------------------------------------------------------------------------------------


def start_device(war_room: WarRoom, requests_mock: rm.Mocker, **args: str) -> SimpleNamespace:
    requests_mock.post(f"{ENTRA}/devicecode", json=device_answer())
    return war_room.run("azure-storage-auth-start", **args)


def test_a_device_code_sign_in_starts_with_what_to_do(war_room: WarRoom, requests_mock: rm.Mocker) -> None:
    text = start_device(war_room, requests_mock).text
    for part in (
        "https://microsoft.com/devicelogin",
        "ABCD1234",
        "2027-01-15T08:15:00Z",
        "!azure-storage-auth-complete",
    ):
        assert part in text
    started = form(last(requests_mock))
    assert started["client_id"] == az.CORTEX_APP_ID
    assert set(started["scope"].split()) == {
        "https://management.azure.com/.default",
        "offline_access",
        "openid",
        "profile",
    }


@pytest.mark.parametrize("part", ["user_code", "verification_uri", "device_code"])
def test_half_a_device_code_is_refused(war_room: WarRoom, requests_mock: rm.Mocker, part: str) -> None:
    requests_mock.post(f"{ENTRA}/devicecode", json={k: v for k, v in device_answer().items() if k != part})
    assert "Could not start the sign-in" in war_room.run("azure-storage-auth-start").error


def test_a_device_code_is_redeemed_once_the_person_has_signed_in(war_room: WarRoom, requests_mock: rm.Mocker) -> None:
    start_device(war_room, requests_mock)
    requests_mock.post(f"{ENTRA}/token", status_code=400, json=entra_error("authorization_pending", 70016))
    early = war_room.run("azure-storage-auth-complete")
    assert "is not finished" in early.error
    assert "device_flow" in war_room.session()

    requests_mock.post(f"{ENTRA}/token", json=token_answer("arm"))
    done = war_room.run("azure-storage-auth-complete")
    assert "ann@contoso.com" in done.text
    assert "device_flow" not in war_room.session(), "a redeemed code must never be sent again"


def test_one_sign_in_serves_both_resources(war_room: WarRoom, requests_mock: rm.Mocker) -> None:
    start_device(war_room, requests_mock)
    requests_mock.post(f"{ENTRA}/token", json=token_answer("arm"))
    war_room.run("azure-storage-auth-complete")
    requests_mock.post(f"{ENTRA}/token", json=token_answer("storage"))
    requests_mock.get(f"{ARM}/subscriptions", json={"value": []})
    test = war_room.run("azure-storage-auth-test")
    assert "| Azure Storage | true |" in test.text
    signed = next(value for key, value in test.context.items() if key.startswith("AzureStorage.SignIn"))
    assert signed["identity"] == "ann@contoso.com"
    assert signed["tenantId"] == TENANT
    assert [row["usable"] for row in signed["resources"]] == [True, True]
    refresh = form(requests_to(requests_mock, "/token")[-1])
    assert refresh["refresh_token"] == "marker-refresh-token-arm"
    assert "https://storage.azure.com/.default" in refresh["scope"]
    assert "marker-refresh-token-storage" in war_room.session()["cache"], "a rotated refresh token is kept"


def test_only_the_chosen_hosts_are_asked(war_room: WarRoom, requests_mock: rm.Mocker) -> None:
    start_device(war_room, requests_mock)
    requests_mock.post(f"{ENTRA}/token", json=token_answer())
    war_room.run("azure-storage-auth-complete")
    assert {request.hostname for request in requests_mock.request_history} == {"login.microsoftonline.com"}
    assert {request.method for request in requests_mock.request_history} == {"POST"}, "no discovery call"


def test_a_single_tenant_application_signs_in_at_its_tenant(war_room: WarRoom, requests_mock: rm.Mocker) -> None:
    war_room.params = {**DEVICE_PARAMS, "tenant_id": TENANT, "app_id": APP}
    requests_mock.post(f"{TENANT_ENTRA}/devicecode", json=device_answer())
    assert "ABCD1234" in war_room.run("azure-storage-auth-start").text
    assert form(last(requests_mock))["client_id"] == APP


@pytest.mark.parametrize(
    ("error", "number", "words"),
    [
        ("expired_token", 70019, "has expired"),
        ("authorization_declined", 0, "declined"),
        ("access_denied", 0, "declined"),
        ("bad_verification_code", 70018, "auth-start"),
        ("invalid_grant", 70000, "auth-start"),
    ],
)
def test_a_device_sign_in_that_ended_says_what_to_do(
    war_room: WarRoom, requests_mock: rm.Mocker, error: str, number: int, words: str
) -> None:
    start_device(war_room, requests_mock)
    requests_mock.post(f"{ENTRA}/token", status_code=400, json=entra_error(error, number))
    result = war_room.run("azure-storage-auth-complete")
    assert error in result.error
    assert words in result.error
    assert "5f3c-correlation" in result.error
    assert "No sign-in is waiting" in war_room.run("azure-storage-auth-complete").error
    assert len(requests_to(requests_mock, "/token")) == 1


def test_a_device_code_past_its_time_is_not_sent(war_room: WarRoom, requests_mock: rm.Mocker, clock: FakeClock) -> None:
    start_device(war_room, requests_mock)
    clock.time += 901
    assert "has expired" in war_room.run("azure-storage-auth-complete").error
    assert not requests_to(requests_mock, "/token")


def test_slow_down_is_remembered(war_room: WarRoom, requests_mock: rm.Mocker) -> None:
    start_device(war_room, requests_mock)
    requests_mock.post(f"{ENTRA}/token", status_code=400, json=entra_error("slow_down"))
    assert "is not finished" in war_room.run("azure-storage-auth-complete").error
    assert war_room.session()["device_flow"]["interval"] == 10, "five more, and not twice five"


def test_a_device_code_is_asked_for_once_whatever_the_interval(war_room: WarRoom, requests_mock: rm.Mocker) -> None:
    """msal's own loop has no end where the service names an interval of 0."""
    requests_mock.post(f"{ENTRA}/devicecode", json=device_answer(interval=0))
    war_room.run("azure-storage-auth-start")
    pending = {"status_code": 400, "json": entra_error("authorization_pending", 70016)}
    requests_mock.post(f"{ENTRA}/token", [pending, {"exc": requests.exceptions.ReadTimeout}])
    assert "is not finished" in war_room.run("azure-storage-auth-complete").error
    assert len(requests_to(requests_mock, "/token")) == 1


def test_starting_again_leaves_the_working_session_until_the_new_one_is_there(
    signed_in: WarRoom, requests_mock: rm.Mocker
) -> None:
    start_device(signed_in, requests_mock)
    requests_mock.get(f"{ARM}/subscriptions", json={"value": []})
    assert not signed_in.run("azure-storage-subscriptions-list").error
    requests_mock.post(f"{ENTRA}/token", status_code=400, json=entra_error("access_denied"))
    assert "declined" in signed_in.run("azure-storage-auth-complete").error
    assert not signed_in.run("azure-storage-subscriptions-list").error


def test_polling_ends_by_itself(war_room: WarRoom, requests_mock: rm.Mocker) -> None:
    started = start_device(war_room, requests_mock, polling="true")
    assert started.entry["PollingCommand"] == "azure-storage-auth-complete"
    assert "ABCD1234" in started.text
    assert "this command ends when you have signed in" in started.text
    next_args = started.entry["PollingArgs"]
    requests_mock.post(f"{ENTRA}/token", status_code=400, json=entra_error("authorization_pending"))
    waiting = war_room.run("azure-storage-auth-complete", **next_args)
    assert waiting.entry["PollingArgs"] == next_args
    requests_mock.post(f"{ENTRA}/token", json=token_answer())
    ended = war_room.run("azure-storage-auth-complete", **next_args)
    assert "PollingCommand" not in ended.entry
    assert "ann@contoso.com" in ended.text


# --- sign-in: authorization code ---------------------------------------------------------------------------------------


def login_parameters(war_room: WarRoom) -> dict[str, str]:
    result = war_room.run("azure-storage-generate-login-url")
    parameters = {key: values[0] for key, values in parse_qs(urlsplit(result.raw["login_url"]).query).items()}
    war_room.nonce = parameters["nonce"]
    return parameters


@pytest.fixture
def code_room(war_room: WarRoom, requests_mock: rm.Mocker) -> WarRoom:
    """An instance for the authorization code flow, and an Entra that knows who opened the login URL last."""

    def answer(request: Any, _: Any) -> dict[str, Any]:
        claims = {"preferred_username": "ann@contoso.com", "aud": form(request)["client_id"], "iss": "x", "sub": "s"}
        identity = jwt(**claims, iat=1, exp=4_000_000_000, nonce=war_room.nonce)
        return token_answer(id_token=identity)

    war_room.params = dict(CODE_PARAMS)
    requests_mock.post(f"{ENTRA}/token", json=answer)
    return war_room


def test_the_login_url_carries_state_and_pkce(code_room: WarRoom) -> None:
    parameters = login_parameters(code_room)
    assert parameters["client_id"] == az.CORTEX_APP_ID
    assert parameters["redirect_uri"] == az.DEFAULT_REDIRECT_URI
    assert parameters["response_type"] == "code"
    assert parameters["code_challenge_method"] == "S256"
    assert parameters["state"]
    assert "offline_access" in parameters["scope"]
    assert "code_verifier" not in parameters


def test_auth_start_gives_the_login_url_too(code_room: WarRoom) -> None:
    assert "code_challenge=" in code_room.run("azure-storage-auth-start").text


@pytest.mark.parametrize("whole", [True, False])
def test_a_pasted_code_or_address_signs_in(code_room: WarRoom, requests_mock: rm.Mocker, whole: bool) -> None:
    state = login_parameters(code_room)["state"]
    pasted = f"{az.DEFAULT_REDIRECT_URI}?code=marker-code-1&state={state}&session_state=x" if whole else "marker-code-1"
    result = code_room.run("azure-storage-auth-complete", code=pasted)
    assert "ann@contoso.com" in result.text
    body = form(last(requests_mock))
    assert body["code"] == "marker-code-1"
    assert body["redirect_uri"] == az.DEFAULT_REDIRECT_URI
    assert len(body["code_verifier"]) >= 43
    assert "client_secret" not in body
    assert "login" not in code_room.session()


def test_a_confidential_application_sends_its_secret(code_room: WarRoom, requests_mock: rm.Mocker) -> None:
    code_room.params |= {
        "app_id": APP,
        "credentials": {"password": "marker-client-secret"},
        "redirect_uri": "https://x/y",
    }
    login_parameters(code_room)
    assert not code_room.run("azure-storage-auth-complete", code="marker-code-1").error
    body = form(last(requests_mock))
    assert (body["client_secret"], body["redirect_uri"]) == ("marker-client-secret", "https://x/y")
    assert body["code_verifier"]


def test_an_address_with_another_state_is_refused(code_room: WarRoom, requests_mock: rm.Mocker) -> None:
    login_parameters(code_room)
    error = code_room.run(
        "azure-storage-auth-complete", code="https://localhost/myapp?code=marker-code-1&state=other"
    ).error
    assert "state mismatch" in error
    assert not requests_to(requests_mock, "/token")


@pytest.mark.parametrize(
    ("pasted", "words"),
    [
        ("https://localhost/myapp?error=access_denied&error_description=AADSTS65004: declined", "declined"),
        ("https://localhost/myapp?state=1", "doesn't contain an authorization code"),
        ("https://localhost/myapp", "doesn't contain an authorization code"),
    ],
)
def test_an_address_that_tells_of_a_refusal(
    code_room: WarRoom, requests_mock: rm.Mocker, pasted: str, words: str
) -> None:
    assert words in code_room.run("azure-storage-auth-complete", code=pasted).error
    assert requests_mock.call_count == 0


@pytest.mark.parametrize("sign", ["?", "#", "/?x=1&", "?#"])
def test_the_code_is_found_wherever_the_address_has_it(code_room: WarRoom, requests_mock: rm.Mocker, sign: str) -> None:
    state = login_parameters(code_room)["state"]
    pasted = f"{az.DEFAULT_REDIRECT_URI}{sign}code=marker-code-1&state={state}"
    assert not code_room.run("azure-storage-auth-complete", code=pasted).error
    assert form(last(requests_mock))["code"] == "marker-code-1"


@pytest.mark.parametrize(
    ("fault", "sent"), [(requests.exceptions.ConnectTimeout, False), (requests.exceptions.ReadTimeout, True)]
)
def test_a_code_that_was_never_sent_can_be_tried_again(
    code_room: WarRoom, requests_mock: rm.Mocker, fault: type[Exception], sent: bool
) -> None:
    login_parameters(code_room)
    requests_mock.post(f"{ENTRA}/token", exc=fault)
    assert "login.microsoftonline.com" in code_room.run("azure-storage-auth-complete", code="marker-code-1").error
    requests_mock.post(f"{ENTRA}/token", status_code=400, json=entra_error("invalid_grant", 54005))
    error = code_room.run("azure-storage-auth-complete", code="marker-code-1").error
    assert ("used before" in error) is sent
    assert ("AADSTS54005" in error) is not sent


def test_a_used_code_says_so_and_is_never_sent_twice(code_room: WarRoom, requests_mock: rm.Mocker) -> None:
    login_parameters(code_room)
    assert not code_room.run("azure-storage-auth-complete", code="marker-code-1").error
    assert "used before" in code_room.run("azure-storage-auth-complete", code="marker-code-1").error
    assert len(requests_to(requests_mock, "/token")) == 1


def test_an_answer_for_another_login_is_refused(code_room: WarRoom) -> None:
    login_parameters(code_room)
    code_room.nonce = "of another login"
    error = code_room.run("azure-storage-auth-complete", code="marker-code-1").error
    assert "the answer belongs to another sign-in" in error
    assert "cache" not in code_room.session()


def test_a_code_that_entra_knows_as_used(code_room: WarRoom, requests_mock: rm.Mocker) -> None:
    login_parameters(code_room)
    requests_mock.post(f"{ENTRA}/token", status_code=400, json=entra_error("invalid_grant", 54005))
    error = code_room.run("azure-storage-auth-complete", code="marker-code-1").error
    assert "already used" in error
    assert "generate-login-url" in error


def test_a_newly_pasted_instance_code_wins_over_the_session(code_room: WarRoom, requests_mock: rm.Mocker) -> None:
    code_room.sign_in("marker-old-token")
    requests_mock.get(f"{ARM}/subscriptions", json={"value": []})
    code_room.params["auth_code"] = {"identifier": "", "password": "marker-code-2"}
    assert not code_room.run("azure-storage-subscriptions-list").error
    assert form(requests_to(requests_mock, "/token")[0])["code"] == "marker-code-2"
    assert last(requests_mock).headers["Authorization"] != "Bearer marker-old-token"
    assert not code_room.run("azure-storage-subscriptions-list").error
    assert len(requests_to(requests_mock, "/token")) == 1, "the same code is not redeemed again"


def test_a_bad_instance_code_fails_once_and_leaves_the_session(code_room: WarRoom, requests_mock: rm.Mocker) -> None:
    code_room.sign_in()
    requests_mock.get(f"{ARM}/subscriptions", json={"value": []})
    requests_mock.post(f"{ENTRA}/token", status_code=400, json=entra_error("invalid_grant", 70008))
    code_room.params["auth_code"] = {"password": "marker-code-3"}
    assert "older than ten minutes" in code_room.run("azure-storage-subscriptions-list").error
    assert not code_room.run("azure-storage-subscriptions-list").error


def test_a_used_instance_code_without_a_session_says_what_to_do(code_room: WarRoom, requests_mock: rm.Mocker) -> None:
    requests_mock.post(f"{ENTRA}/token", status_code=400, json=entra_error("invalid_grant", 70008))
    code_room.params["auth_code"] = {"password": "marker-code-3"}
    code_room.run("azure-storage-subscriptions-list")
    assert "used before" in code_room.run("azure-storage-subscriptions-list").error
    assert len(requests_to(requests_mock, "/token")) == 1


def test_a_code_that_the_existing_pack_used_leaves_its_session_to_be_taken_over(
    code_room: WarRoom, requests_mock: rm.Mocker
) -> None:
    """Its instances still hold the code that they were signed in with."""
    demisto.setIntegrationContext({"current_refresh_token": "marker-legacy-token"})
    code_room.params["auth_code"] = {"identifier": "", "password": "marker-code-5"}

    def answer(request: Any, context: Any) -> dict[str, Any]:
        if form(request)["grant_type"] == "refresh_token":
            return token_answer()
        context.status_code = 400
        return entra_error("invalid_grant", 70008)

    requests_mock.post(f"{ENTRA}/token", json=answer)
    requests_mock.get(f"{ARM}/subscriptions", json={"value": []})
    for _ in range(2):
        assert not code_room.run("azure-storage-subscriptions-list").error
    sent = [form(request) for request in requests_to(requests_mock, "/token")]
    assert [body["grant_type"] for body in sent] == ["authorization_code", "refresh_token"]
    assert sent[1]["refresh_token"] == "marker-legacy-token"
    assert "current_refresh_token" not in demisto.getIntegrationContext()


def test_auth_complete_takes_the_code_of_the_instance(code_room: WarRoom, requests_mock: rm.Mocker) -> None:
    state = login_parameters(code_room)["state"]
    code_room.params["auth_code"] = {"password": f"https://localhost/myapp?code=marker-code-4&state={state}"}
    assert "ann@contoso.com" in code_room.run("azure-storage-auth-complete").text
    assert form(requests_to(requests_mock, "/token")[0])["code"] == "marker-code-4"


def test_commands_of_the_other_flow_say_so(war_room: WarRoom, requests_mock: rm.Mocker) -> None:
    assert "Device Code" in war_room.run("azure-storage-generate-login-url").error
    assert "Authorization Code" in war_room.run("azure-storage-auth-complete", code="x").error
    war_room.params = dict(SECRET_PARAMS)
    assert "needs no interactive sign-in" in war_room.run("azure-storage-auth-start").text
    assert "needs no interactive sign-in" in war_room.run("azure-storage-auth-complete").error
    assert requests_mock.call_count == 0


# --- sign-in: unattended -----------------------------------------------------------------------------------------------


def test_a_client_secret_signs_in_and_is_asked_once(war_room: WarRoom, requests_mock: rm.Mocker) -> None:
    war_room.params = dict(SECRET_PARAMS)
    requests_mock.post(f"{TENANT_ENTRA}/token", json={"access_token": "marker-app-token", "expires_in": 3600})
    requests_mock.get(f"{ARM}/subscriptions", json={"value": []})
    for _ in range(2):
        assert not war_room.run("azure-storage-subscriptions-list").error
    asked = requests_to(requests_mock, "/token")
    assert len(asked) == 1
    body = form(asked[0])
    assert (body["grant_type"], body["client_id"], body["client_secret"]) == (
        "client_credentials",
        APP,
        "marker-client-secret",
    )


@pytest.mark.parametrize(
    "change",
    [
        {"app_id": TENANT},
        {"tenant_id": APP},
        {"credentials": {"password": "marker-new-secret"}},
        {"cloud": "US Government"},
    ],
)
def test_a_changed_instance_never_uses_the_old_token(
    war_room: WarRoom, requests_mock: rm.Mocker, change: dict[str, Any]
) -> None:
    war_room.params = dict(SECRET_PARAMS)
    requests_mock.post(re.compile("/token$"), json={"access_token": "marker-old-token", "expires_in": 3600})
    requests_mock.get(re.compile("/subscriptions"), json={"value": []})
    war_room.run("azure-storage-subscriptions-list")
    requests_mock.post(re.compile("/token$"), json={"access_token": "marker-new-token", "expires_in": 3600})
    war_room.params |= change
    assert not war_room.run("azure-storage-subscriptions-list").error
    assert last(requests_mock).headers["Authorization"] == "Bearer marker-new-token"


def test_a_token_about_to_end_is_replaced(war_room: WarRoom, requests_mock: rm.Mocker, clock: FakeClock) -> None:
    war_room.params = dict(SECRET_PARAMS)
    requests_mock.post(f"{TENANT_ENTRA}/token", json={"access_token": "marker-app-token", "expires_in": 3600})
    requests_mock.get(f"{ARM}/subscriptions", json={"value": []})
    war_room.run("azure-storage-subscriptions-list")
    clock.time += 3600 - az.TOKEN_MARGIN + 1
    war_room.run("azure-storage-subscriptions-list")
    assert len(requests_to(requests_mock, "/token")) == 2


@pytest.fixture(scope="module")
def private_key() -> str:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import rsa

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    form_of = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form_of, serialization.NoEncryption()).decode()


def test_a_certificate_signs_in(war_room: WarRoom, requests_mock: rm.Mocker, private_key: str) -> None:
    thumbprint = "A1" * 20
    flat = " ".join(private_key.split("\n"))
    war_room.params = {
        **SECRET_PARAMS,
        "credentials": None,
        "certificate": {"identifier": thumbprint, "password": flat},
    }
    requests_mock.post(f"{TENANT_ENTRA}/token", json={"access_token": "marker-app-token", "expires_in": 3600})
    requests_mock.get(f"{ARM}/subscriptions", json={"value": []})
    assert not war_room.run("azure-storage-subscriptions-list").error
    assertion = form(requests_mock.request_history[0])["client_assertion"]
    header = json.loads(base64.urlsafe_b64decode(assertion.split(".")[0] + "=="))
    assert header["alg"] == "RS256"
    assert base64.urlsafe_b64decode(header["x5t"] + "==").hex().upper() == thumbprint


def test_a_private_key_that_is_none(war_room: WarRoom, requests_mock: rm.Mocker) -> None:
    bad = "-----BEGIN PRIVATE KEY-----\nTUFSS0VS\n-----END PRIVATE KEY-----"
    war_room.params = {**SECRET_PARAMS, "credentials": None, "certificate": {"identifier": "A1" * 20, "password": bad}}
    error = war_room.run("azure-storage-subscriptions-list").error
    assert "the credential can't be used" in error
    assert "TUFSS0VS" not in error
    assert requests_mock.call_count == 0


@pytest.mark.parametrize("client_id", ["", APP])
def test_a_managed_identity_signs_in(war_room: WarRoom, requests_mock: rm.Mocker, client_id: str) -> None:
    war_room.params = {**IDENTITY_PARAMS, "managed_identities_client_id": {"password": client_id}}
    imds = "http://169.254.169.254/metadata/identity/oauth2/token"
    requests_mock.get(imds, json={"access_token": "marker-identity-token", "expires_in": "3600", "resource": ARM})
    requests_mock.get(f"{ARM}/subscriptions", json={"value": []})
    assert not war_room.run("azure-storage-subscriptions-list").error
    asked = query(requests_mock.request_history[0])
    assert asked["resource"] == ARM
    assert asked.get("client_id", "") == client_id
    assert requests_mock.request_history[0].headers["Metadata"] == "true"
    assert not requests_mock.request_history[0].proxies


def test_without_a_managed_identity_the_message_is_clear(war_room: WarRoom, requests_mock: rm.Mocker) -> None:
    war_room.params = dict(IDENTITY_PARAMS)
    requests_mock.get(re.compile("169.254"), exc=requests.exceptions.ConnectTimeout)
    error = war_room.run("azure-storage-subscriptions-list").error
    assert "No managed identity is available here" in error
    assert requests_mock.call_count == 3


APP_SERVICE = {"IDENTITY_ENDPOINT": "http://127.0.0.1:41000/token", "IDENTITY_HEADER": "marker-identity-header"}


@pytest.mark.parametrize(
    ("environment", "answer", "step"),
    [
        ({}, {"status_code": 400, "json": {"error": "invalid_request", "error_description": "Identity not found"}}, ""),
        ({}, {"status_code": 403, "text": "<html>forbidden</html>"}, ""),
        ({}, {"status_code": 200, "json": {"access_token": "marker-t", "expires_in": "soon"}}, ""),
        ({}, {"status_code": 410, "text": "gone"}, az.RUN_AGAIN_SOON),
        (APP_SERVICE, {"status_code": 400, "json": {"statusCode": 400, "message": "No identity was found"}}, ""),
        (APP_SERVICE, {"json": {"access_token": "marker-t", "expires_on": "11/25/2026 10:00:00 +00:00"}}, ""),
    ],
)
def test_a_refusal_of_a_managed_identity_advises_what_its_form_has(
    war_room: WarRoom,
    requests_mock: rm.Mocker,
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    answer: dict[str, Any],
    step: str,
) -> None:
    war_room.params = dict(IDENTITY_PARAMS)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    requests_mock.get(re.compile("169.254|127.0.0.1"), **answer)
    error = war_room.run("azure-storage-subscriptions-list").error
    assert (step or az.CHECK_IDENTITY) in error
    for field in ("Application ID", "Tenant ID", "Cloud", "auth-start", "marker"):
        assert field not in error


def test_azure_arc_where_its_folder_is_not_in_the_container(
    war_room: WarRoom, requests_mock: rm.Mocker, monkeypatch: pytest.MonkeyPatch
) -> None:
    war_room.params = dict(IDENTITY_PARAMS)
    for name in ("IDENTITY_ENDPOINT", "IMDS_ENDPOINT"):
        monkeypatch.setenv(name, "http://127.0.0.1:40342/metadata/identity/oauth2/token")
    challenge = {"WWW-Authenticate": "Basic realm=/var/opt/azcmagent/tokens/marker.key"}
    requests_mock.get(re.compile("127.0.0.1"), status_code=401, headers=challenge)
    error = war_room.run("azure-storage-subscriptions-list").error
    assert "mount its folder /var/opt/azcmagent/tokens into the container" in error
    assert "auth-start" not in error


# --- sign-in: refusals -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [7000215, 700016, 90033])
def test_an_aadsts_number_gives_its_next_step(war_room: WarRoom, requests_mock: rm.Mocker, number: int) -> None:
    war_room.params = dict(SECRET_PARAMS)
    requests_mock.post(f"{TENANT_ENTRA}/token", status_code=400, json=entra_error("invalid_request", number))
    error = war_room.run("azure-storage-subscriptions-list").error
    assert f"AADSTS{number}: What happened." in error
    assert "Trace ID" not in error
    assert f"Next step: {az.aadsts_hint(number, az.CLIENT_CREDENTIALS)}" in error
    assert "Correlation ID: 5f3c-correlation" in error
    assert f"https://login.microsoftonline.com/error?code={number}" in error


FLOWS = (*az.USER_FLOWS, az.CLIENT_CREDENTIALS, az.MANAGED_IDENTITY)


@pytest.mark.parametrize("flow", FLOWS)
def test_every_aadsts_number_gives_the_step_of_the_flow(flow: str) -> None:
    for number in az.AADSTS_HINTS:
        step = az.sign_in_error(entra_error("invalid_request", number), flow=flow).next_step
        assert step == (az.aadsts_hint(number, flow) or az.hint_for(az.OAUTH_FALLBACK_HINTS["invalid_request"], flow))


@pytest.mark.parametrize("code", sorted(az.OAUTH_HINTS))
def test_the_oauth_name_comes_before_the_number(code: str) -> None:
    error = az.sign_in_error(entra_error(code, 65001))
    assert error.next_step == az.OAUTH_HINTS[code]


@pytest.mark.parametrize("flow", FLOWS)
def test_an_unknown_number_falls_back_to_the_name(flow: str) -> None:
    for code, hint in az.OAUTH_FALLBACK_HINTS.items():
        assert az.sign_in_error(entra_error(code, 99999), flow=flow).next_step == az.hint_for(hint, flow)
    assert az.sign_in_error({"error": "strange"}, flow=flow).next_step == az.ASK_ADMIN


@pytest.mark.parametrize("number", [70000, 70008, 700082, 50173, 0])
def test_a_dead_refresh_token_is_dropped(
    signed_in: WarRoom, requests_mock: rm.Mocker, clock: FakeClock, number: int
) -> None:
    clock.time += 3600
    requests_mock.post(f"{ENTRA}/token", status_code=400, json=entra_error("invalid_grant", number))
    assert "auth-start" in signed_in.run("azure-storage-subscriptions-list").error
    assert "cache" not in signed_in.session()
    assert "This instance isn't signed in" in signed_in.run("azure-storage-subscriptions-list").error
    assert len(requests_to(requests_mock, "/token")) == 1


def test_a_missing_consent_for_one_resource_leaves_the_other(
    signed_in: WarRoom, requests_mock: rm.Mocker, clock: FakeClock
) -> None:
    session = signed_in.session()
    session["tokens"].pop(az.STORAGE_AUDIENCE)
    document = {"version": 1, "sessions": {az.read_settings(signed_in.params).identity_key: session}}
    demisto.setIntegrationContext({az.SessionStore.KEY: json.dumps(document)})
    refusal = entra_error("invalid_grant", 65001, suberror="consent_required")
    requests_mock.post(f"{ENTRA}/token", status_code=400, json=refusal)
    requests_mock.get(f"{ARM}/subscriptions", json={"value": []})
    result = signed_in.run("azure-storage-auth-test")
    assert "| Azure Resource Manager | true |" in result.text
    assert "| Azure Storage | false |" in result.text
    assert "can't get a token for Azure Storage in this tenant" in result.text


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ({"status_code": 503, "text": "<html>busy</html>"}, "answered 503"),
        ({"status_code": 200, "text": "<html>marker-proxy-page</html>"}, "proxy or a TLS inspection may have answered"),
        ({"status_code": 404, "text": ""}, "answered 404"),
        ({"exc": requests.exceptions.SSLError("x")}, "the TLS connection to login.microsoftonline.com failed"),
        ({"exc": requests.exceptions.SSLError("CERTIFICATE_VERIFY_FAILED")}, "not trusted"),
    ],
)
def test_a_sign_in_service_that_does_not_answer_as_one(
    war_room: WarRoom, requests_mock: rm.Mocker, answer: dict[str, Any], words: str
) -> None:
    war_room.params = dict(SECRET_PARAMS)
    requests_mock.post(f"{TENANT_ENTRA}/token", **answer)
    assert words in war_room.run("azure-storage-subscriptions-list").error


def test_a_busy_sign_in_service_is_asked_again_but_a_code_is_sent_once(
    code_room: WarRoom, requests_mock: rm.Mocker
) -> None:
    login_parameters(code_room)
    requests_mock.post(f"{ENTRA}/token", status_code=503, text="busy")
    code_room.run("azure-storage-auth-complete", code="marker-code-1")
    assert len(requests_to(requests_mock, "/token")) == 1
    code_room.params = dict(SECRET_PARAMS)
    requests_mock.post(
        f"{TENANT_ENTRA}/token", [{"status_code": 503}, {"json": {"access_token": "marker-t-1", "expires_in": 1000}}]
    )
    requests_mock.get(f"{ARM}/subscriptions", json={"value": []})
    assert not code_room.run("azure-storage-subscriptions-list").error


def test_a_missing_msal_is_a_clean_message(war_room: WarRoom, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "msal", None)
    assert "msal is missing" in war_room.run("azure-storage-auth-start").error


def test_with_a_stored_token_msal_is_not_imported(
    signed_in: WarRoom, requests_mock: rm.Mocker, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests_mock.get(f"{ARM}/subscriptions", json={"value": []})
    monkeypatch.setitem(__import__("sys").modules, "msal", None)
    assert not signed_in.run("azure-storage-subscriptions-list").error


# --- sign-in: the store ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "stored", ["{not json", "[]", '{"version": 99, "sessions": {}}', '{"version": 1, "sessions": {"x": 1}}', 7]
)
def test_an_unreadable_store_is_set_aside_and_said_so(war_room: WarRoom, requests_mock: rm.Mocker, stored: Any) -> None:
    demisto.setIntegrationContext({az.SessionStore.KEY: stored, "other": "kept"})
    assert "set aside" in war_room.run("azure-storage-subscriptions-list").error
    start_device(war_room, requests_mock)
    requests_mock.post(f"{ENTRA}/token", json=token_answer())
    assert not war_room.run("azure-storage-auth-complete").error
    context = demisto.getIntegrationContext()
    assert context["other"] == "kept"
    assert context[az.SessionStore.KEY + "_unreadable"] == stored


def test_reset_removes_only_what_is_ours(signed_in: WarRoom) -> None:
    demisto.setIntegrationContext(
        {**demisto.getIntegrationContext(), "other": "kept", az.SessionStore.KEY + "_unreadable": "x"}
    )
    assert "was removed" in signed_in.run("azure-storage-auth-reset").text
    assert demisto.getIntegrationContext() == {"other": "kept"}
    assert "There was no" in signed_in.run("azure-storage-auth-reset").text
    assert "This instance isn't signed in" in signed_in.run("azure-storage-auth-test").error


def test_reset_also_ends_a_session_of_the_existing_pack(war_room: WarRoom, requests_mock: rm.Mocker) -> None:
    demisto.setIntegrationContext({"current_refresh_token": "marker-legacy-token", "other": "kept"})
    assert "was removed" in war_room.run("azure-storage-auth-reset").text
    assert demisto.getIntegrationContext() == {"other": "kept"}
    assert "This instance isn't signed in" in war_room.run("azure-storage-auth-test").error
    assert requests_mock.call_count == 0


def test_a_sign_in_forgets_the_sessions_of_earlier_settings(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    old = az.read_settings(signed_in.params).identity_key
    signed_in.params = {**DEVICE_PARAMS, "tenant_id": TENANT}
    requests_mock.post(f"{TENANT_ENTRA}/devicecode", json=device_answer())
    requests_mock.post(f"{TENANT_ENTRA}/token", json=token_answer())
    signed_in.run("azure-storage-auth-start")
    assert old in demisto.getIntegrationContext()[az.SessionStore.KEY], "until the new sign-in is there"
    signed_in.run("azure-storage-auth-complete")
    assert old not in demisto.getIntegrationContext()[az.SessionStore.KEY]


def test_while_one_command_refreshes_the_other_waits_and_takes_its_result(
    signed_in: WarRoom, requests_mock: rm.Mocker, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock.time += 3600
    store = az.SessionStore(az.read_settings(signed_in.params).identity_key)
    store.update(lambda session: session.update(turn={"by": "another"}))
    fresh = {"token": "marker-theirs", "expires_at": int(clock.time) + 3600}

    def others_finish(seconds: float) -> None:
        clock.time += seconds
        if len(clock.waits) == 3:
            store.update(lambda session: session["tokens"].update({ARM: fresh}))
        clock.waits.append(seconds)

    monkeypatch.setattr(az.Clock, "wait", others_finish)
    requests_mock.get(f"{ARM}/subscriptions", json={"value": []})
    assert not signed_in.run("azure-storage-subscriptions-list").error
    assert last(requests_mock).headers["Authorization"] == "Bearer marker-theirs"
    assert requests_mock.call_count == 1, "no refresh of its own"


def test_a_turn_whose_holder_died_is_taken_over(signed_in: WarRoom, requests_mock: rm.Mocker, clock: FakeClock) -> None:
    clock.time += 3600
    store = az.SessionStore(az.read_settings(signed_in.params).identity_key)
    store.update(lambda session: session.update(turn={"by": "dead"}))
    requests_mock.post(f"{ENTRA}/token", json=token_answer())
    requests_mock.get(f"{ARM}/subscriptions", json={"value": []})
    assert not signed_in.run("azure-storage-subscriptions-list").error
    assert az.TURN_PATIENCE <= sum(clock.waits) <= az.TURN_PATIENCE + 1


def test_a_lost_race_for_the_context_is_run_again(war_room: WarRoom, monkeypatch: pytest.MonkeyPatch) -> None:
    store = az.SessionStore("me")
    lost = iter([True, True, False])
    save = store._save
    monkeypatch.setattr(store, "_save", lambda context, version: False if next(lost) else save(context, version))
    assert store.update(lambda session: session.update(a=1) or "done") == "done"
    assert store.read() == {"a": 1}
    monkeypatch.setattr(store, "_save", lambda context, version: False)
    with pytest.raises(az.SignInError, match="could not be saved"):
        store.update(lambda session: session.update(a=2))


# --- the test button ---------------------------------------------------------------------------------------------------


def test_the_button_signs_in_and_reads_something_real(war_room: WarRoom, requests_mock: rm.Mocker) -> None:
    war_room.params = dict(SECRET_PARAMS)
    requests_mock.post(f"{TENANT_ENTRA}/token", json={"access_token": "marker-app-token", "expires_in": 3600})
    requests_mock.get(ARM + ACCOUNTS_PATH, json={"value": []})
    assert war_room.run("test-module").text == "ok"
    assert demisto.getIntegrationContext() == {}
    requests_mock.get(ARM + ACCOUNTS_PATH, status_code=403, json=arm_failure("AuthorizationFailed", "No role."))
    assert "No role." in war_room.run("test-module").error


@pytest.mark.parametrize(("params", "command"), [(DEVICE_PARAMS, "auth-start"), (CODE_PARAMS, "generate-login-url")])
def test_the_button_names_the_next_command_for_a_persons_sign_in(
    war_room: WarRoom, requests_mock: rm.Mocker, monkeypatch: pytest.MonkeyPatch, params: dict[str, Any], command: str
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("the test button has no integration context")

    monkeypatch.setattr(az, "get_integration_context_with_version", refuse)
    war_room.params = params
    assert f"!azure-storage-{command}" in war_room.run("test-module").error
    assert requests_mock.call_count == 0


@pytest.mark.parametrize(
    ("status", "code", "ok"),
    [
        (403, "AuthorizationPermissionMismatch", True),
        (403, "AuthorizationResourceTypeMismatch", True),
        (403, "AuthenticationFailed", False),
        (403, "AuthorizationFailure", False),
        (403, "AuthorizationSourceIPMismatch", False),
        (403, "AuthorizationServiceMismatch", False),
        (403, "KeyBasedAuthenticationNotPermitted", False),
    ],
)
@pytest.mark.parametrize("params", [DEVICE_PARAMS, SECRET_PARAMS])
def test_the_button_is_not_content_with_a_sas_that_reaches_nothing(
    war_room: WarRoom, requests_mock: rm.Mocker, params: dict[str, Any], status: int, code: str, ok: bool
) -> None:
    war_room.params = {**params, "storage_credentials": {"identifier": ACCOUNT, "password": PASTED_SAS}}
    requests_mock.post(f"{TENANT_ENTRA}/token", json={"access_token": "marker-app-token", "expires_in": 3600})
    requests_mock.get(ARM + ACCOUNTS_PATH, json={"value": []})
    requests_mock.get(f"{BLOB_HOST}/", status_code=status, headers={"x-ms-error-code": code})
    result = war_room.run("test-module")
    assert (result.text == "ok") is ok, result
    assert ok or code in result.error


# --- commands: listings ------------------------------------------------------------------------------------------------


def paged(mock: rm.Mocker, path: str, pages: list[list[Any]], version: str) -> None:
    """A collection in pages linked by $skipToken, as ARM serves one."""

    def answer(request: Any, context: Any) -> dict[str, Any]:
        assert query(request)["api-version"] == version
        number = int(query(request).get("$skipToken", "0"))
        following = f"{ARM}{path}?api-version={version}&%24skipToken={number + 1}"
        return {"value": pages[number], **({"nextLink": following} if number + 1 < len(pages) else {})}

    mock.get(ARM + path, json=answer)


def names(result: SimpleNamespace) -> list[str]:
    return [item["name"] for key, value in result.context.items() if "val.id" in key for item in value]


LISTINGS = [
    ("azure-storage-account-list", {}, ACCOUNTS_PATH, az.STORAGE_API, "StorageAccount"),
    ("azure-storage-blob-containers-list", {"account_name": ACCOUNT}, CONTAINERS_PATH, az.STORAGE_API, "BlobContainer"),
    ("azure-storage-subscriptions-list", {}, "/subscriptions", az.SUBSCRIPTIONS_API, "Subscription"),
    (
        "azure-storage-resource-group-list",
        {},
        f"/subscriptions/{SUBSCRIPTION}/resourcegroups",
        az.RESOURCE_GROUPS_API,
        "ResourceGroup",
    ),
]


@pytest.mark.parametrize(("name", "args", "path", "version", "kind"), LISTINGS)
def test_a_listing_in_slices_is_the_whole_listing(
    signed_in: WarRoom, requests_mock: rm.Mocker, name: str, args: dict[str, str], path: str, version: str, kind: str
) -> None:
    items = [{"id": f"/x/{n}", "name": f"n{n}"} for n in range(11)]
    paged(requests_mock, path, [items[:4], [], items[4:8], items[8:]], version)
    everything = [item["name"] for item in items]
    assert names(signed_in.run(name, **args, all_results="true")) == everything
    for size in (1, 3, 4, 5, 11, 50):
        found: list[str] = []
        token = ""
        for _ in range(12):
            result = signed_in.run(name, **args, limit=str(size), next_token=token)
            assert not result.error
            found += names(result)
            token = result.context["AzureStorage(true)"][f"{kind}NextToken"]
            assert (token in result.text) if token else ("next_token" not in result.text)
            if not token:
                break
        assert found == everything, size


def test_a_token_of_another_listing_is_refused(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    for url in (
        f"{ACCOUNTS_PATH}?x=1",
        "//evil.example/subscriptions",
        "https://evil.example/subscriptions",
        "/subscriptions/../x",
    ):
        error = signed_in.run("azure-storage-subscriptions-list", next_token=az.place_token(url, 0)).error
        assert "another listing" in error
    assert requests_mock.call_count == 0


def test_a_next_link_that_leads_back_is_no_whole_listing(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    again = f"{ARM}/subscriptions?api-version={az.SUBSCRIPTIONS_API}"
    requests_mock.get(again, json={"value": [{"id": "/s/1", "name": "n"}], "nextLink": again})
    error = signed_in.run("azure-storage-subscriptions-list", all_results="true").error
    assert "the pages of the listing repeat themselves" in error
    assert requests_mock.call_count == 1


def test_a_next_link_to_another_listing_is_not_blamed_on_next_token(
    signed_in: WarRoom, requests_mock: rm.Mocker
) -> None:
    requests_mock.get(f"{ARM}/subscriptions", json={"value": [], "nextLink": f"{ARM}/providers?x=1"})
    error = signed_in.run("azure-storage-subscriptions-list", all_results="true").error
    assert "Azure's link to the next page leads to another listing" in error
    assert requests_mock.call_count == 1


def test_a_listing_of_a_custom_cloud_is_asked_with_an_older_version_too(
    signed_in: WarRoom, requests_mock: rm.Mocker
) -> None:
    cloud = az.Cloud(az.CUSTOM_CLOUD, ENTRA, ARM, ARM, "hub.local")

    def answer(request: Any, context: Any) -> dict[str, Any]:
        if query(request)["api-version"] == "2019-06-01":
            following = f"{ARM}{CONTAINERS_PATH}?api-version=2019-06-01&$skipToken=1"
            return {"value": [container_body()], **({} if "$skipToken" in request.url else {"nextLink": following})}
        context.status_code = 400
        return arm_failure("NoRegisteredProviderFound", "The supported versions are '2019-06-01, 2018-02-01'.")

    requests_mock.get(ARM + CONTAINERS_PATH, json=answer)
    settings = dataclasses.replace(az.read_settings(signed_in.params), cloud=cloud)
    azure = az.Azure(settings)
    azure.arm.authorization.auth = SimpleNamespace(token=lambda resource: "marker-token")  # type: ignore[assignment]
    found = azure.arm.listing(az.CONTAINERS_LIST, az.AccountRef(SUBSCRIPTION, GROUP, ACCOUNT))
    assert len(found.items) == 2
    assert requests_mock.call_count == 3


def test_accounts_of_a_group_of_the_instance_or_of_a_subscription(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    requests_mock.get(re.compile("storageAccounts"), json={"value": []})
    other = TENANT
    wanted = {
        (): ACCOUNTS_PATH,
        (("resource_group_name", "rg2"),): ACCOUNTS_PATH.replace(GROUP, "rg2"),
        (("subscription_id", other),): f"/subscriptions/{other}/providers/Microsoft.Storage/storageAccounts",
        (("subscription_id", other), ("resource_group_name", "rg 2")): f"/subscriptions/{other}/resourceGroups/rg%202"
        "/providers/Microsoft.Storage/storageAccounts",
    }
    for args, path in wanted.items():
        result = signed_in.run("azure-storage-account-list", **dict(args))
        if "rg 2" in dict(args).values():
            assert "90 characters" in result.error
            continue
        assert not result.error
        assert urlsplit(last(requests_mock).url).path.lower() == path.lower()
    signed_in.params["resource_group_name"] = ""
    signed_in.sign_in()
    signed_in.run("azure-storage-account-list")
    assert "/resourcegroups/" not in last(requests_mock).url.lower()


def test_one_account_with_the_table_of_the_existing_pack(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    requests_mock.get(ARM + ACCOUNT_PATH, json=account_body())
    result = signed_in.run("azure-storage-account-list", account_name=ACCOUNT)
    assert result.text == (
        "### Azure Storage Account List\n"
        "|Account Name|Subscription ID|Resource Group|Kind|Status Primary|Status Secondary|Location|\n"
        "|---|---|---|---|---|---|---|\n"
        f"| {ACCOUNT} | {SUBSCRIPTION} | {GROUP} | StorageV2 | available |  | westeurope |\n"
    )
    assert result.context == {"AzureStorage.StorageAccount(val.id && val.id == obj.id)": account_body()}
    assert query(last(requests_mock)) == {"api-version": az.STORAGE_API}


@pytest.mark.parametrize("tag", ['{"Owner":"O\'Neil"}', "Owner=O'Neil"])
def test_groups_by_tag(signed_in: WarRoom, requests_mock: rm.Mocker, tag: str) -> None:
    requests_mock.get(re.compile("resourcegroups"), json={"value": []})
    result = signed_in.run("azure-storage-resource-group-list", tag=tag, limit="7")
    assert "Resource Groups List" in result.text
    asked = query(last(requests_mock))
    assert asked["$filter"] == "tagName eq 'Owner' and tagValue eq 'O''Neil'"
    assert asked["$top"] == "7"


def test_containers_with_page_size_and_deleted_ones(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    container = {
        "id": f"{CONTAINERS_PATH}/logs",
        "name": "logs",
        "properties": {"deleted": True, "remainingRetentionDays": 3},
    }
    requests_mock.get(ARM + CONTAINERS_PATH, json={"value": [container]})
    result = signed_in.run(
        "azure-storage-blob-containers-list", account_name=ACCOUNT, maxpagesize="2", include_deleted="true"
    )
    asked = query(last(requests_mock))
    assert (asked["$maxpagesize"], asked["$include"]) == ("2", "deleted")
    assert "|Remaining Retention Days|" in result.text
    named = signed_in.run(
        "azure-storage-blob-containers-list", account_name=ACCOUNT, container_name="other", include_deleted="true"
    )
    assert names(named) == []


def test_page_size_alone_says_how_many_as_in_the_existing_pack(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    items = [{"id": f"/c/{n}", "name": f"c{n}"} for n in range(120)]
    requests_mock.get(ARM + CONTAINERS_PATH, json={"value": items})
    listed = signed_in.run("azure-storage-blob-containers-list", account_name=ACCOUNT, maxpagesize="100")
    assert len(names(listed)) == 100
    assert len(names(signed_in.run("azure-storage-blob-containers-list", account_name=ACCOUNT))) == 50


def test_one_container(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    container = {
        "id": f"{CONTAINERS_PATH}/logs",
        "name": "logs",
        "properties": {"publicAccess": "Blob", "leaseState": "Available"},
    }
    requests_mock.get(f"{ARM}{CONTAINERS_PATH}/logs", json=container)
    result = signed_in.run("azure-storage-blob-containers-list", account_name=ACCOUNT, container_name="LOGS")
    assert "### Azure Storage Blob Containers list\n|Container Name|Account Name|" in result.text
    assert f"| logs | {ACCOUNT} | {SUBSCRIPTION} | {GROUP} | Blob | Available |  |" in result.text


# --- commands: changes -------------------------------------------------------------------------------------------------


def change_of(result: SimpleNamespace) -> dict[str, Any]:
    found: dict[str, Any] = result.context["AzureStorage.Change"]
    return found


UNDO = f"resource_group_name={GROUP} subscription_id={SUBSCRIPTION}"


def writes(mock: rm.Mocker) -> list[str]:
    """The methods of the requests that may have changed something; a search of Resource Graph is a POST, too."""
    sent = (request for request in mock.request_history if "ResourceGraph" not in request.url)
    return [request.method for request in sent if request.method not in ("GET", "HEAD")]


NEW_ACCOUNT = {"account_name": ACCOUNT, "sku": "Standard_LRS", "kind": "StorageV2", "location": "West Europe"}


CREATE = "azure-storage-account-create-update"
SUBNET = f"{GROUP_PATH}/providers/Microsoft.Network/virtualNetworks/v/subnets/s"
ALL_SETTINGS = {
    "tags": "case=1234",
    "custom_domain_name": "files.contoso.com",
    "enc_key_source": "Microsoft.Keyvault",
    "enc_keyvault_key_name": "k",
    "enc_keyvault_key_version": "1",
    "enc_keyvault_uri": "https://v.vault.azure.net",
    "enc_requireInfrastructureEncryption": "true",
    "allow_blob_public_access": "false",
    "network_ruleset_bypass": "Logging,Metrics",
    "network_ruleset_default_action": "deny",
    "network_ruleset_ipRules": "8.8.8.8",
    "virtual_network_rules": f'[{{"id":"{SUBNET}"}}]',
}
ALL_SETTINGS_SENT = {
    "sku": {"name": "Standard_LRS"},
    "kind": "StorageV2",
    "location": "westeurope",
    "tags": {"case": "1234"},
    "properties": {
        "customDomain": {"name": "files.contoso.com"},
        "encryption": {
            "keySource": "Microsoft.Keyvault",
            "requireInfrastructureEncryption": True,
            "keyvaultproperties": {"keyname": "k", "keyversion": "1", "keyvaulturi": "https://v.vault.azure.net"},
        },
        "allowBlobPublicAccess": False,
        "networkAcls": {
            "bypass": "Logging, Metrics",
            "defaultAction": "Deny",
            "ipRules": [{"value": "8.8.8.8", "action": "Allow"}],
            "virtualNetworkRules": [{"id": SUBNET, "action": "Allow"}],
        },
    },
}


def creation_room(mock: rm.Mocker) -> str:
    """An account that is being created. Returns the address of the operation, which a person never sees."""
    operation = f"{ARM}/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Storage/locations/westeurope/asyncoperations/1?t=MARKER"
    missing = {"status_code": 404, "json": arm_failure("ResourceNotFound")}
    mock.get(ARM + ACCOUNT_PATH, [missing, {"json": account_body()}])
    mock.put(ARM + ACCOUNT_PATH, status_code=202, headers={"Location": operation})
    return operation


def test_an_account_is_created_with_every_setting(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    creation_room(requests_mock)
    signed_in.run(CREATE, **NEW_ACCOUNT, **ALL_SETTINGS)
    assert last(requests_mock).json() == ALL_SETTINGS_SENT
    assert query(last(requests_mock)) == {"api-version": "2025-08-01"}


def test_a_creation_is_followed_to_its_end(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    operation = creation_room(requests_mock)
    first = signed_in.run(CREATE, **NEW_ACCOUNT)
    assert first.entry["PollingCommand"] == CREATE
    again = first.entry["PollingArgs"]
    assert "MARKER" not in json.dumps(first.entry), "the address of the operation stays in the store"
    requests_mock.get(operation, [{"status_code": 202}, {"json": account_body()}])
    waiting = signed_in.run(CREATE, **again)
    assert waiting.entry["PollingArgs"] == again, "one handle for one operation"
    assert not waiting.text
    done = signed_in.run(CREATE, **again)
    assert "PollingCommand" not in done.entry
    assert done.context["AzureStorage.StorageAccount(val.id && val.id == obj.id)"] == account_body()
    assert change_of(done)["changed"] is True
    assert change_of(done)["undo"].startswith("!azure-storage-account-delete ")
    assert writes(requests_mock) == ["PUT"]


def test_a_creation_that_fails_says_why(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    operation = creation_room(requests_mock)
    again = signed_in.run(CREATE, **NEW_ACCOUNT).entry["PollingArgs"]
    requests_mock.get(operation, json={"status": "Failed", **arm_failure("X", "No room in this region.")})
    assert "No room in this region." in signed_in.run(CREATE, **again).error


def test_what_was_created_at_once_is_what_azure_says(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    missing = {"status_code": 404, "json": arm_failure("ResourceNotFound")}
    requests_mock.get(ARM + ACCOUNT_PATH, [missing, {"json": account_body(minimumTlsVersion="TLS1_2")}])
    requests_mock.put(ARM + ACCOUNT_PATH, json=account_body())
    result = signed_in.run(CREATE, **NEW_ACCOUNT, minimum_tls_version="TLS1_2")
    assert change_of(result)["before"]["kind"] is None
    assert change_of(result)["after"] == {
        "sku": {"name": "Standard_LRS"},
        "kind": "StorageV2",
        "location": "westeurope",
        "properties": {"minimumTlsVersion": "TLS1_2"},
    }


def test_a_creation_that_ends_at_once_or_is_not_followed(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    missing = {"status_code": 404, "json": arm_failure("ResourceNotFound")}
    requests_mock.get(ARM + ACCOUNT_PATH, [missing, {"json": account_body()}, missing])
    requests_mock.put(
        ARM + ACCOUNT_PATH, [{"json": account_body()}, {"status_code": 202, "headers": {"Location": f"{ARM}/op"}}]
    )
    assert "Azure Storage Account" in signed_in.run("azure-storage-account-create-update", **NEW_ACCOUNT).text
    left = signed_in.run("azure-storage-account-create-update", **NEW_ACCOUNT, polling="false")
    assert "Azure is creating storage account" in left.text
    assert "PollingCommand" not in left.entry


def test_an_operation_elsewhere_gets_no_token(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    create = "azure-storage-account-create-update"
    error = signed_in.run(create, account_name=ACCOUNT, operation_url="https://evil.example/op").error
    assert "the ID of a running operation" in error
    assert "not known any more" in signed_in.run(create, account_name=ACCOUNT, operation_url="0" * 32).error
    assert requests_mock.call_count == 0
    requests_mock.get(ARM + ACCOUNT_PATH, status_code=404, json=arm_failure("ResourceNotFound"))
    requests_mock.put(ARM + ACCOUNT_PATH, status_code=202, headers={"Location": "https://evil.example/op"})
    again = signed_in.run(create, **NEW_ACCOUNT).entry["PollingArgs"]
    assert "outside the selected cloud; the request was not sent" in signed_in.run(create, **again).error
    assert not requests_to(requests_mock, "evil.example")


def test_a_creation_says_what_it_needs(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    requests_mock.get(ARM + ACCOUNT_PATH, status_code=404, json=arm_failure("ResourceNotFound"))
    error = signed_in.run("azure-storage-account-create-update", account_name=ACCOUNT, kind="StorageV2").error
    assert "also give `sku`, `location`" in error
    more = signed_in.run("azure-storage-account-create-update", **NEW_ACCOUNT, network_ruleset_ipRules="8.8.8.8").error
    assert "Missing required argument `network_ruleset_default_action`" in more
    requests_mock.get(ARM + ACCOUNT_PATH, status_code=404, json=arm_failure("ResourceGroupNotFound"))
    assert "ResourceGroupNotFound" in signed_in.run("azure-storage-account-create-update", **NEW_ACCOUNT).error
    assert not writes(requests_mock)


OPEN_RULES = {
    "bypass": "AzureServices",
    "defaultAction": "Allow",
    "ipRules": [{"value": "9.9.9.9", "action": "Allow"}],
    "virtualNetworkRules": [{"id": "/v", "action": "Allow"}],
    "resourceAccessRules": [{"tenantId": TENANT, "resourceId": "/r"}],
}
BEFORE_UPDATE: dict[str, Any] = {
    "networkAcls": OPEN_RULES,
    "encryption": {
        "keySource": "Microsoft.Storage",
        "services": {"blob": {"enabled": True, "keyType": "Account", "lastEnabledTime": "2026-01-01T00:00:00Z"}},
    },
    "minimumTlsVersion": "TLS1_0",
    "supportsHttpsTrafficOnly": True,
}
UPDATE = {
    "tags": '{"owner":"finance"}',
    "minimum_tls_version": "TLS1_2",
    "supports_https_traffic_only": "true",
    "network_ruleset_default_action": "Deny",
    "network_ruleset_bypass": "AzureServices",
    "is_hns_enabled": "false",
}


def test_an_update_sends_the_difference_and_keeps_the_rest(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    live_account(requests_mock, **BEFORE_UPDATE)
    result = signed_in.run(CREATE, **NEW_ACCOUNT, **UPDATE)
    assert last(requests_mock).json() == {
        "properties": {"minimumTlsVersion": "TLS1_2", "networkAcls": {**OPEN_RULES, "defaultAction": "Deny"}}
    }
    assert change_of(result) == {
        "id": ACCOUNT_PATH,
        "command": CREATE,
        "changed": True,
        "dryRun": False,
        "before": {"properties": {"minimumTlsVersion": "TLS1_0", "networkAcls": {"defaultAction": "Allow"}}},
        "after": {"properties": {"minimumTlsVersion": "TLS1_2", "networkAcls": {"defaultAction": "Deny"}}},
        "undo": f"!azure-storage-account-update account_name={ACCOUNT} {UNDO} minimum_tls_version=TLS1_0 "
        "network_ruleset_default_action=Allow",
    }
    assert "* networkAcls.defaultAction: Allow -> Deny" in result.text


def test_an_update_that_azure_does_not_keep_is_a_failure(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    requests_mock.get(ARM + ACCOUNT_PATH, json=account_body(minimumTlsVersion="TLS1_0"))
    requests_mock.patch(ARM + ACCOUNT_PATH, json=account_body(minimumTlsVersion="TLS1_0"))
    result = signed_in.run("azure-storage-account-update", account_name=ACCOUNT, minimum_tls_version="TLS1_2")
    assert result.entry["Type"] == 4
    assert "Azure accepted the change, but minimumTlsVersion is TLS1_0, not TLS1_2" in result.error
    assert change_of(result)["after"] == {}


def test_an_encryption_update_keeps_its_services_and_sends_nothing_computed(
    signed_in: WarRoom, requests_mock: rm.Mocker
) -> None:
    services = {"blob": {"enabled": True, "keyType": "Account", "lastEnabledTime": "2026-01-01T00:00:00Z"}}
    requests_mock.get(
        ARM + ACCOUNT_PATH, json=account_body(encryption={"keySource": "Microsoft.Storage", "services": services})
    )
    requests_mock.patch(ARM + ACCOUNT_PATH, json=account_body())
    signed_in.run(
        "azure-storage-account-create-update",
        account_name=ACCOUNT,
        enc_key_source="Microsoft.Keyvault",
        enc_keyvault_key_name="k",
        enc_keyvault_uri="https://v.vault.azure.net",
    )
    assert last(requests_mock).json()["properties"]["encryption"] == {
        "keySource": "Microsoft.Keyvault",
        "keyvaultproperties": {"keyname": "k", "keyvaulturi": "https://v.vault.azure.net"},
        "services": {"blob": {"enabled": True, "keyType": "Account"}},
    }


@pytest.mark.parametrize(
    ("args", "argument"),
    [
        ({"location": "eastus"}, "location"),
        ({"is_hns_enabled": "true"}, "is_hns_enabled"),
        ({"enc_require_infrastructure_encryption": "true"}, "enc_require_infrastructure_encryption"),
    ],
)
def test_what_only_creation_can_set_is_refused(
    signed_in: WarRoom, requests_mock: rm.Mocker, args: dict[str, str], argument: str
) -> None:
    requests_mock.get(ARM + ACCOUNT_PATH, json=account_body(isHnsEnabled=False))
    error = signed_in.run("azure-storage-account-create-update", account_name=ACCOUNT, **args).error
    assert f"Invalid value for argument `{argument}`: " in error
    assert "after creation" in error
    assert not writes(requests_mock)


FULL_SERVICE: dict[str, Any] = {
    "cors": {"corsRules": [{"allowedOrigins": ["https://a"], "allowedMethods": ["GET"], "maxAgeInSeconds": 1}]},
    "deleteRetentionPolicy": {"enabled": True, "days": 14, "allowPermanentDelete": False},
    "containerDeleteRetentionPolicy": {"enabled": True, "days": 7},
    "isVersioningEnabled": True,
    "changeFeed": {"enabled": True, "retentionInDays": 90},
    "restorePolicy": {
        "enabled": True,
        "days": 6,
        "minRestoreTime": "2026-01-01T00:00:00Z",
        "lastEnabledTime": "2026-01-01T00:00:00Z",
    },
    "lastAccessTimeTrackingPolicy": {
        "enable": False,
        "name": "AccessTimeTracking",
        "trackingGranularityInDays": 1,
        "blobType": ["blockBlob"],
    },
    "defaultServiceVersion": "2017-07-29",
}


def blob_service(mock: rm.Mocker, properties: dict[str, Any]) -> None:
    body = {"id": SERVICE_PATH, "name": "default", "type": "Microsoft.Storage/storageAccounts/blobServices"}
    mock.get(ARM + SERVICE_PATH, json={**body, "properties": properties})
    mock.put(ARM + SERVICE_PATH, json=lambda request, _: {**body, **request.json()})


def test_setting_one_blob_service_property_loses_none(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    blob_service(requests_mock, FULL_SERVICE)
    result = signed_in.run(
        "azure-storage-blob-service-properties-set",
        account_name=ACCOUNT,
        delete_rentention_policy_days="30",
        last_access_time_tracking_policy_enabled="true",
        restore_policy_min_restore_time="2026-01-01",
    )
    sent = last(requests_mock).json()["properties"]
    assert sent == {
        **FULL_SERVICE,
        "deleteRetentionPolicy": {"enabled": True, "days": 30, "allowPermanentDelete": False},
        "restorePolicy": {"enabled": True, "days": 6},
        "lastAccessTimeTrackingPolicy": {**FULL_SERVICE["lastAccessTimeTrackingPolicy"], "enable": True},
    }
    assert isinstance(sent["deleteRetentionPolicy"]["days"], int)
    assert "min_restore_time was not sent" in result.text


def test_a_blob_service_property_that_changes_is_shown(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    blob_service(requests_mock, FULL_SERVICE)
    settings = {"delete_rentention_policy_days": "30", "last_access_time_tracking_policy_enabled": "true"}
    result = signed_in.run("azure-storage-blob-service-properties-set", account_name=ACCOUNT, **settings)
    assert "* deleteRetentionPolicy.days: 14 -> 30" in result.text
    assert (
        "|Name|Account Name|Subscription ID|Resource Group|Change Feed|Delete Retention Policy|Versioning|"
        in result.text
    )
    assert change_of(result)["before"] == {
        "deleteRetentionPolicy": {"days": 14},
        "lastAccessTimeTrackingPolicy": {"enable": False},
    }
    assert change_of(result)["after"] == {
        "deleteRetentionPolicy": {"days": 30},
        "lastAccessTimeTrackingPolicy": {"enable": True},
    }
    assert change_of(result)["undo"].endswith(
        "delete_retention_policy_days=14 last_access_time_tracking_policy_enabled=false"
    )


def test_nothing_is_written_when_it_is_so_already(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    blob_service(requests_mock, FULL_SERVICE)
    result = signed_in.run(
        "azure-storage-blob-service-properties-set",
        account_name=ACCOUNT,
        versioning="true",
        change_feed_retention_days="90",
    )
    assert not writes(requests_mock)
    assert change_of(result)["changed"] is False
    assert "No changes needed" in result.text


@pytest.mark.parametrize("policy", ["delete_retention_policy", "container_delete_retention_policy", "restore_policy"])
def test_a_policy_cannot_be_turned_on_without_days(signed_in: WarRoom, requests_mock: rm.Mocker, policy: str) -> None:
    blob_service(requests_mock, {})
    args = {f"{policy}_enabled": "true"}
    error = signed_in.run("azure-storage-blob-service-properties-set", account_name=ACCOUNT, **args).error
    assert f"Missing required argument `{policy}_days`" in error
    assert not writes(requests_mock)


def test_a_restore_time_that_is_not_sent_makes_no_policy(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    blob_service(requests_mock, {})
    args = {"account_name": ACCOUNT, "versioning": "true", "restore_policy_min_restore_time": "2026-01-01"}
    assert not signed_in.run("azure-storage-blob-service-properties-set", **args).error
    assert last(requests_mock).json() == {"properties": {"isVersioningEnabled": True}}


def test_a_policy_that_was_on_goes_back_with_its_days(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    """Azure keeps no days of a policy that is off."""
    body = {"id": SERVICE_PATH, "name": "default", "properties": deepcopy(FULL_SERVICE)}

    def write(request: Any, context: Any) -> dict[str, Any]:
        body["properties"] = {
            key: {"enabled": False} if isinstance(value, dict) and value.get("enabled") is False else value
            for key, value in request.json()["properties"].items()
        }
        return body

    requests_mock.get(ARM + SERVICE_PATH, json=lambda request, context: body)
    requests_mock.put(ARM + SERVICE_PATH, json=write)
    names = ("delete_retention_policy_enabled", "change_feed_enabled", "restore_policy_enabled")
    off = dict.fromkeys(names, "false")
    result = signed_in.run("azure-storage-blob-service-properties-set", account_name=ACCOUNT, **off)
    undo, values = typed(change_of(result)["undo"])
    assert not signed_in.run(*undo, **values).error
    back: Any = body["properties"]
    assert (back["deleteRetentionPolicy"]["days"], back["changeFeed"]["retentionInDays"]) == (14, 90)
    assert back["restorePolicy"] == {"enabled": True, "days": 6}


def test_blob_service_properties_get(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    blob_service(requests_mock, FULL_SERVICE)
    result = signed_in.run("azure-storage-blob-service-properties-get", account_name=ACCOUNT)
    assert f"| default | {ACCOUNT} | {SUBSCRIPTION} | {GROUP} | true | true | true |" in result.text
    assert next(iter(result.context.values()))["properties"] == FULL_SERVICE


def container_body(**properties: Any) -> dict[str, Any]:
    return {"id": f"{CONTAINERS_PATH}/logs", "name": "logs", "properties": properties}


LOGS = {"account_name": ACCOUNT, "container_name": "logs"}


@pytest.mark.parametrize("status", [200, 201])
def test_a_container_is_created(signed_in: WarRoom, requests_mock: rm.Mocker, status: int) -> None:
    requests_mock.get(f"{ARM}{CONTAINERS_PATH}/logs", status_code=404, json=arm_failure("ContainerNotFound"))
    requests_mock.put(f"{ARM}{CONTAINERS_PATH}/logs", status_code=status, json=container_body())
    result = signed_in.run(
        "azure-storage-blob-containers-create",
        **LOGS,
        public_access="none",
        default_encryption_scope="scope1",
        deny_encryption_scope_override="false",
    )
    assert last(requests_mock).json() == {
        "properties": {"publicAccess": "None", "defaultEncryptionScope": "scope1", "denyEncryptionScopeOverride": False}
    }
    assert (
        "### Azure Storage Blob Containers Properties\n|Name|Account Name|Subscription ID|Resource Group|"
        in result.text
    )
    assert change_of(result)["changed"] is True


def test_creating_a_container_that_is_there_resets_nothing(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    requests_mock.get(f"{ARM}{CONTAINERS_PATH}/logs", json=container_body(publicAccess="Blob"))
    result = signed_in.run("azure-storage-blob-containers-create", **LOGS)
    assert not writes(requests_mock)
    assert change_of(result)["changed"] is False


def test_creating_in_an_account_that_is_not_there(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    requests_mock.get(
        f"{ARM}{CONTAINERS_PATH}/logs", status_code=404, json=arm_failure("ResourceNotFound", "No account.")
    )
    assert "No account." in signed_in.run("azure-storage-blob-containers-create", **LOGS).error
    assert not writes(requests_mock)


def test_a_container_is_updated(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    states = [{"json": container_body(publicAccess="Blob")}, {"json": container_body(publicAccess="None")}]
    requests_mock.get(f"{ARM}{CONTAINERS_PATH}/logs", states)
    requests_mock.patch(f"{ARM}{CONTAINERS_PATH}/logs", json=container_body())
    result = signed_in.run("azure-storage-blob-containers-update", **LOGS, public_access="None")
    patch = next(request for request in requests_mock.request_history if request.method == "PATCH")
    assert patch.json() == {"properties": {"publicAccess": "None"}}
    assert f"| logs | {ACCOUNT} | {SUBSCRIPTION} | {GROUP} | None |" in result.text
    assert "* publicAccess: Blob -> None" in result.text
    assert change_of(result)["before"] == {"publicAccess": "Blob"}


@pytest.mark.parametrize(
    ("answer", "words", "changed"),
    [
        ({"status_code": 200}, "was deleted", True),
        ({"status_code": 204}, "There is no container", False),
        ({"status_code": 404, "json": arm_failure("ContainerNotFound")}, "There is no container", False),
    ],
)
def test_a_container_is_deleted_or_was_not_there(
    signed_in: WarRoom, requests_mock: rm.Mocker, answer: dict[str, Any], words: str, changed: bool
) -> None:
    requests_mock.get(f"{ARM}{CONTAINERS_PATH}/logs", json=container_body())
    requests_mock.delete(f"{ARM}{CONTAINERS_PATH}/logs", **answer)
    result = signed_in.run("azure-storage-blob-container-delete", **LOGS)
    assert words in result.text
    assert change_of(result)["changed"] is changed


def test_a_container_that_is_not_there_is_said_as_such(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    requests_mock.get(f"{ARM}{CONTAINERS_PATH}/logs", status_code=404, json=arm_failure("ContainerNotFound"))
    assert "There is no container logs" in signed_in.run("azure-storage-blob-container-delete", **LOGS).text
    assert not writes(requests_mock)


BLOB_HOST = f"https://{ACCOUNT}.blob.core.windows.net"
BLOB = {"account_name": ACCOUNT, "container_name": "evidence", "blob_name": "a.txt"}
BLOB_HEADERS = {
    "ETag": '"0x8D1"',
    "Content-Length": "7",
    "Content-Type": "text/plain",
    "Content-Language": "en",
    "x-ms-blob-type": "BlockBlob",
    "x-ms-access-tier": "Hot",
    "x-ms-lease-state": "available",
    "x-ms-meta-case": "1",
}
DRY_RUNS = [
    ("azure-storage-account-create-update", {**NEW_ACCOUNT, "minimum_tls_version": "TLS1_2"}),
    ("azure-storage-blob-service-properties-set", {"account_name": ACCOUNT, "versioning": "false"}),
    ("azure-storage-blob-containers-create", {**LOGS, "public_access": "None"}),
    ("azure-storage-blob-containers-update", {**LOGS, "public_access": "None"}),
    ("azure-storage-blob-container-delete", LOGS),
    ("azure-storage-blob-put", {**BLOB, "text": "x", "overwrite": "true"}),
    ("azure-storage-blob-delete", BLOB),
    ("azure-storage-blob-undelete", {**BLOB, "version_id": "v1"}),
    ("azure-storage-blob-properties-set", {**BLOB, "cache_control": "private"}),
    ("azure-storage-blob-metadata-set", {**BLOB, "metadata": "case=2"}),
    ("azure-storage-blob-tags-set", {**BLOB, "tags": "case=2"}),
    ("azure-storage-blob-snapshot-create", BLOB),
    ("azure-storage-blob-tier-set", {**BLOB, "tier": "Cool"}),
    ("azure-storage-blob-lease", {**BLOB, "action": "acquire"}),
    ("azure-storage-blob-legal-hold-set", {**BLOB, "legal_hold": "true"}),
    ("azure-storage-blob-copy", {**BLOB, "source_blob_name": "other", "overwrite": "true"}),
    ("azure-storage-account-update", {"account_name": ACCOUNT, "minimum_tls_version": "TLS1_2"}),
    ("azure-storage-account-delete", {"account_name": ACCOUNT, "confirm": ACCOUNT}),
    ("azure-storage-account-key-rotate", {"account_name": ACCOUNT, "key": "both"}),
    ("azure-storage-account-delegation-keys-revoke", {"account_name": ACCOUNT}),
    ("azure-storage-account-network-rule-add", {"account_name": ACCOUNT, "ip_rules": "203.0.113.7"}),
    ("azure-storage-account-network-rule-remove", {"account_name": ACCOUNT, "ip_rules": "9.9.9.9"}),
    ("azure-storage-account-lock-set", {"account_name": ACCOUNT}),
    ("azure-storage-account-lock-remove", {"account_name": ACCOUNT, "lock_name": "keep"}),
    ("azure-storage-account-isolate", {"account_name": ACCOUNT, "own_ip": "203.0.113.7"}),
    (
        "azure-storage-account-restore-settings",
        {"record": json.dumps({"account": ACCOUNT_PATH, "settings": {"isSftpEnabled": True}})},
    ),
    ("azure-storage-account-logging-set", {"account_name": ACCOUNT, "workspace_id": f"{GROUP_PATH}/providers/a.B/c/d"}),
    ("azure-storage-container-legal-hold-set", {**LOGS, "tags": "case1"}),
    ("azure-storage-container-legal-hold-clear", {**LOGS, "tags": "old"}),
    ("azure-storage-container-immutability-set", {**LOGS, "days": "7"}),
    ("azure-storage-container-immutability-lock", {**LOGS, "confirm": "logs"}),
    ("azure-storage-container-immutability-delete", LOGS),
    ("azure-storage-container-lease", {**LOGS, "action": "acquire"}),
    ("azure-storage-container-policy-revoke", {**LOGS, "all_policies": "true"}),
    ("azure-storage-container-restore", {**LOGS, "container_name": "gone"}),
    ("azure-storage-blob-ranges-restore", {**LOGS, "time_to_restore": "1 hour"}),
    ("azure-storage-blob-quarantine", {**BLOB, "evidence_container_name": "secured", "case_id": "c"}),
    ("azure-storage-account-lifecycle-set", {"account_name": ACCOUNT, "rule_name": "wipe", "enabled": "false"}),
    ("azure-storage-posture-fix", {"account_name": ACCOUNT, "check": "no-anonymous-blobs"}),
    ("azure-storage-access-remove", {"account_name": ACCOUNT, "assignment_id": ASSIGNMENT}),
    (
        "azure-storage-access-restore",
        {
            "account_name": ACCOUNT,
            "assignment_id": f"{ACCOUNT_PATH}{az.ASSIGNMENTS_PATH}/{ASSIGNMENT}",
            "role_definition_id": f"{az.DEFINITIONS_LIST.path}/{ASSIGNMENT}",
            "principal_id": TENANT,
        },
    ),
    ("azure-storage-blob-versions-restore", {**LOGS, "time_to_restore": "1 hour", "prefix": "a"}),
]
BINNED = "<Blob><Name>a</Name><Deleted>true</Deleted><Properties><Last-Modified>Mon, 23 Nov 2020 12:00:00 GMT</Last-Modified></Properties></Blob>"


def dry_room(mock: rm.Mocker, there: bool) -> None:
    """Everything that a changing command may read, which is there or not."""
    blob_service(mock, FULL_SERVICE)
    mock.head(f"{BLOB_HOST}/evidence/a.txt", [{"headers": BLOB_HEADERS} if there else BLOB_GONE])
    mock.get(f"{BLOB_HOST}/evidence/a.txt?comp=tags", text="<Tags><TagSet/></Tags>")
    mock.get(f"{BLOB_HOST}/logs?restype=container&comp=acl", text=ACL)
    listing = f"<EnumerationResults><Blobs>{BINNED}</Blobs></EnumerationResults>"
    mock.get(f"{BLOB_HOST}/logs?restype=container&comp=list", text=listing)
    access_room(mock, [assignment(ASSIGNMENT, "reader")] if there else [])
    lock_there = lock(ACCOUNT_PATH, "keep", "CanNotDelete")
    mock.get(ARM + LOCKS, json={"value": [lock_there] if there else []})
    mock.get(ARM + SETTINGS, json={"value": []})
    mock.get(f"{ARM}{CONTAINERS_PATH}/logs/immutabilityPolicies/default", json=policy_body(30 if there else 0))
    mock.get(f"{ARM}{CONTAINERS_PATH}/gone", status_code=404, json=arm_failure("ContainerNotFound"))
    binned = {**container_body(deleted=True, version="V1", deletedTime="2027-01-01T00:00:00Z"), "name": "gone"}
    mock.get(f"{ARM}{CONTAINERS_PATH}", json={"value": [binned] if there else []})
    if there:
        Lifecycle(mock, lifecycle_rule("wipe", 1))
        rules = {"defaultAction": "Allow", "ipRules": [{"value": "9.9.9.9", "action": "Allow"}]}
        mock.get(ARM + ACCOUNT_PATH, json=account_body(networkAcls=rules))
        hold = {"hasLegalHold": True, "tags": [{"tag": "old"}]}
        mock.get(f"{ARM}{CONTAINERS_PATH}/logs", json=container_body(publicAccess="Blob", legalHold=hold))
    else:
        missing = arm_failure("ManagementPolicyNotFound")
        mock.get(f"{ARM}{ACCOUNT_PATH}/managementPolicies/default", status_code=404, json=missing)
        mock.get(ARM + ACCOUNT_PATH, status_code=404, json=arm_failure("ResourceNotFound"))
        mock.get(f"{ARM}{CONTAINERS_PATH}/logs", status_code=404, json=arm_failure("ContainerNotFound"))


@pytest.mark.parametrize(("name", "args"), DRY_RUNS)
@pytest.mark.parametrize("there", [True, False])
def test_a_dry_run_tells_and_does_nothing(
    signed_in: WarRoom, requests_mock: rm.Mocker, name: str, args: dict[str, str], there: bool
) -> None:
    dry_room(requests_mock, there)
    result = signed_in.run(name, **args, dry_run="true")
    assert not writes(requests_mock)
    quiet = ("There is no", "No changes needed", "has no immutability policy")
    if not result.error and not any(words in result.text for words in quiet):
        assert "ry run" in result.text
        assert change_of(result)["dryRun"] is True
        assert change_of(result)["changed"] is False
        assert change_of(result)["after"] or name == "azure-storage-blob-delete"


def test_every_changing_command_is_in_the_dry_run_test() -> None:
    assert {name for name, _ in DRY_RUNS} == {name for name, found in az.COMMANDS.items() if found.changes}


# --- blobs -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://acct.blob.core.windows.net", ("acct", "", "")),
        ("https://ACCT.blob.core.windows.net/Logs/", ("acct", "logs", "")),
        ("https://acct.blob.core.windows.net/c-1/a%20b%23c/d?sv=1&sig=MARKER", ("acct", "c-1", "a b#c/d")),
        ("https://127.0.0.1:10000/acct/cont/b", ("acct", "cont", "b")),
        ("https://acct.z01.blob.storage.azure.net/$web/index.html", ("acct", "$web", "index.html")),
    ],
)
def test_a_blob_url_is_taken_apart(url: str, expected: tuple[str, str, str]) -> None:
    found = az.parse_blob_url(url)
    assert (found.account, found.container, found.blob) == expected
    assert "MARKER" not in repr(found)


@pytest.mark.parametrize(
    "url", ["http://acct.blob.core.windows.net/c/b", "acct/c/b", "https://u@acct.x/", "https://a_b.x/c"]
)
def test_what_is_no_blob_url(url: str) -> None:
    with pytest.raises(ValueError):
        az.parse_blob_url(url)


@pytest.mark.parametrize("name", ["", "x" * 1025, "a\nb", "a/../b", "./a", ".."])
def test_blob_names_that_no_url_reaches(name: str) -> None:
    with pytest.raises(ValueError):
        az.parse_blob_name(name)


@pytest.mark.parametrize(
    ("name", "local"),
    [
        ("a/b/c.txt", "c.txt"),
        ("../../etc/passwd", "passwd"),
        (".hidden", "hidden"),
        ("a\\b:c", "a_b_c"),
        ("/", "blob"),
        ("...", "blob"),
    ],
)
def test_a_local_file_name_leads_nowhere_else(name: str, local: str) -> None:
    assert az.safe_file_name(name) == local


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-23T12:00:00Z", 1795435200),
        ("2026-11-23T12:00:00", 1795435200),
        ("2026-11-23T13:00:00+01:00", 1795435200),
        ("2 hours", 1_800_000_000 - 7200),
        ("7d ago", 1_800_000_000 - 604_800),
    ],
)
def test_times_as_people_give_them(clock: FakeClock, text: str, expected: int) -> None:
    assert az.read_time(text) == expected


def test_metadata_and_tags_are_checked_first() -> None:
    assert az.read_metadata("a=1,b=x=y") == {"a": "1", "b": "x=y"}
    assert az.read_blob_tags('["a=1", "b=2"]') == {"a": "1", "b": "2"}
    for wrong in ("1a=x", "a-b=x", '{"a":"\u00fc"}', "a=" + "x" * 9000):
        with pytest.raises(ValueError):
            az.read_metadata(wrong)
    for wrong in ("a=b!", "=x", ",".join(f"t{n}=1" for n in range(11)), "k" * 129 + "=1"):
        with pytest.raises(ValueError):
            az.read_blob_tags(wrong)


@pytest.mark.parametrize("text", ["<!DOCTYPE x [<!ENTITY e 'x'>]><a>&e;</a>", "<a><b></a>", "", "no xml"])
def test_xml_with_a_document_type_or_none_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        az.parse_xml(text)


def test_xml_as_dictionaries() -> None:
    text = "\ufeff<A><B>1</B><B> 2 </B><C x='1'><D>&lt;</D></C><E/></A>"
    assert az.parse_xml(text) == {"A": {"B": ["1", " 2 "], "C": {"D": "<"}, "E": ""}}


@pytest.mark.parametrize("cut", [1, 7, 100, 100_000])
def test_a_listing_is_read_in_pieces_of_any_size(cut: int) -> None:
    data = (Path(__file__).parent / "test_data/blob/list.xml").read_bytes()
    page = az.ListedPage(data[at : at + cut] for at in range(0, len(data), cut))
    assert [row["name"] for row in page.rows] == ["2026/payroll.xlsx", "2026/odd\ufffename.bin", "2026/invoices/"]
    first, second, folder = page.rows
    assert (first["size"], first["md5"]) == (48213, "b10a8db164f0754105b7a99be72e3fe5")
    assert first["tags"] == {"Malware Scanning scan result": "Malicious"}
    assert first["lastModified"] == "2026-11-20T08:15:30Z"
    assert (second["deleted"], second["remainingRetentionDays"]) == (True, 6)
    assert folder["isPrefix"] is True
    assert page.marker == ""


def blob_xml(names: list[str], marker: str = "") -> str:
    rows = "".join(
        f"<Blob><Name>{name}</Name><Properties><Content-Length>{len(name)}</Content-Length></Properties></Blob>"
        for name in names
    )
    return f"<EnumerationResults><Blobs>{rows}</Blobs><NextMarker>{marker}</NextMarker></EnumerationResults>"


EVIDENCE = {"account_name": ACCOUNT, "container_name": "evidence"}


@pytest.fixture
def blob_room(signed_in: WarRoom, requests_mock: rm.Mocker) -> WarRoom:
    """Somebody signed in, whose account ARM does not tell: blobs are found at the cloud's usual host."""
    requests_mock.register_uri(rm.ANY, re.compile("management"), status_code=404, json=arm_failure("ResourceNotFound"))
    return signed_in


def test_blobs_in_slices_with_a_filter_are_the_whole_listing(blob_room: WarRoom, requests_mock: rm.Mocker) -> None:
    """Contract: markers are opaque, pages may be empty, the filter works while it pages."""
    pages = {"": (["a", "bb", "ccc"], "m/1=+"), "m/1=+": ([], "m2"), "m2": (["dd", "e", "ff", "ggg"], "")}

    def answer(request: Any, _: Any) -> str:
        return blob_xml(*pages[query(request).get("marker", "")])

    requests_mock.get(f"{BLOB_HOST}/evidence", text=answer)
    for size in (1, 2, 3, 10):
        found: list[str] = []
        token = ""
        while True:
            result = blob_room.run(
                "azure-storage-blob-list", **EVIDENCE, min_size="2", limit=str(size), next_token=token
            )
            assert not result.error, result.error
            found += names(result)
            token = result.context["AzureStorage(true)"]["BlobNextToken"]
            if not token:
                break
        assert found == ["bb", "ccc", "dd", "ff", "ggg"], size
    assert last(requests_mock).headers["x-ms-version"] == az.BLOB_API
    assert query(last(requests_mock))["restype"] == "container"


def test_blobs_that_are_deleted_while_they_are_listed_hide_no_other(
    blob_room: WarRoom, requests_mock: rm.Mocker
) -> None:
    there = [f"n{number:02}" for number in range(20)]

    def answer(request: Any, _: Any) -> str:
        found = [name for name in there if name >= query(request).get("marker", "")]
        size = int(query(request)["maxresults"])
        return blob_xml(found[:size], (found[size:] or [""])[0])

    requests_mock.get(f"{BLOB_HOST}/evidence", text=answer)
    found: list[str] = []
    token = ""
    for _ in range(8):
        result = blob_room.run("azure-storage-blob-list", **EVIDENCE, limit="3", next_token=token)
        found += names(result)
        there = [name for name in there if name not in found]
        token = result.context["AzureStorage(true)"]["BlobNextToken"]
        if not token:
            break
    assert found == [f"n{number:02}" for number in range(20)]


def test_long_metadata_of_strangers_does_not_make_an_entry_too_large(
    blob_room: WarRoom, requests_mock: rm.Mocker
) -> None:
    rows = "".join(
        f"<Blob><Name>n{number}</Name><Metadata><a>{'&lt;' * 8000}</a></Metadata></Blob>" for number in range(200)
    )
    page = f"<EnumerationResults><Blobs>{rows}</Blobs><NextMarker/></EnumerationResults>"
    requests_mock.get(f"{BLOB_HOST}/evidence", text=page)
    result = blob_room.run("azure-storage-blob-list", **EVIDENCE, include="metadata", all_results="true")
    assert "of 200 rows are shown." in result.text
    assert "n0 " in result.text
    assert len(json.dumps(result.entry)) < 2_000_000


@pytest.mark.parametrize("code", sorted(az.BLOB_HINTS))
def test_every_blob_hint_reaches_the_person(blob_room: WarRoom, requests_mock: rm.Mocker, code: str) -> None:
    text = f"<Error><Code>{code}</Code><Message>What.\nRequestId:x</Message></Error>"
    requests_mock.get(f"{BLOB_HOST}/evidence", status_code=409, text=text)
    error = blob_room.run("azure-storage-blob-list", **EVIDENCE).error
    assert f"409 {code}. What." in error
    assert "RequestId:x" not in error
    assert az.BLOB_HINTS[code] in error


def test_a_head_has_its_error_in_a_header(blob_room: WarRoom, requests_mock: rm.Mocker) -> None:
    headers = {"x-ms-error-code": "AuthorizationPermissionMismatch", "x-ms-request-id": "r1"}
    requests_mock.head(f"{BLOB_HOST}/evidence/a.txt", status_code=403, headers=headers)
    error = blob_room.run("azure-storage-blob-properties-get", **BLOB).error
    assert "Storage Blob Data Reader" in error
    assert "Request ID: r1" in error


def test_tags_need_the_owner_role_and_the_error_says_so(blob_room: WarRoom, requests_mock: rm.Mocker) -> None:
    headers = {"x-ms-error-code": "AuthorizationPermissionMismatch"}
    requests_mock.get(f"{BLOB_HOST}/evidence/a.txt", status_code=403, headers=headers)
    assert (
        "The built-in role Storage Blob Data Owner includes it"
        in blob_room.run("azure-storage-blob-tags-get", **BLOB).error
    )


def test_the_endpoint_comes_from_arm_once_and_is_remembered(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    endpoint = "https://contosobackups.z01.blob.storage.azure.net/"
    requests_mock.get(ARM + ACCOUNT_PATH, json=account_body(primaryEndpoints={"blob": endpoint}))
    requests_mock.get(f"{endpoint}evidence", text=blob_xml([]))
    for _ in range(2):
        assert not signed_in.run("azure-storage-blob-list", **EVIDENCE).error
    assert len(requests_to(requests_mock, "management.azure.com")) == 1
    assert not signed_in.run("azure-storage-blob-list", blob_url=f"{endpoint}evidence?sig=x").error


@pytest.mark.parametrize(
    "url", ["https://contosobackups.evil.example/evidence", "https://evil1.example/contosobackups"]
)
def test_a_url_elsewhere_gets_no_token(blob_room: WarRoom, requests_mock: rm.Mocker, url: str) -> None:
    assert "the request was not sent" in blob_room.run("azure-storage-blob-list", blob_url=url, container_name="").error
    assert not [request for request in requests_mock.request_history if request.hostname.endswith(".example")]


@pytest.mark.parametrize(
    ("name", "args", "words"),
    [
        ("blob-list", {"account_name": ACCOUNT}, "Missing required argument `container_name`"),
        ("blob-list", {"container_name": "abc"}, "Missing required argument `account_name`"),
        ("blob-list", {"account_name": "other", "blob_url": f"{BLOB_HOST}/c-1"}, "is in account contosobackups"),
        ("blob-list", {}, "Missing required arguments: `account_name`, `container_name`, or a `blob_url`"),
        ("blob-get", {}, "Missing required arguments: `account_name`, `container_name`, `blob_name`, or a `blob_url`"),
        ("blob-get", {"blob_url": BLOB_HOST}, "Missing required arguments: `container_name`, `blob_name`"),
        ("container-lease", {"action": "break"}, "Missing required arguments: `account_name`, `container_name`"),
        ("blob-get", {**BLOB, "blob_url": f"{BLOB_HOST}/evidence/b"}, "contradicts the blob_url"),
        (
            "blob-get",
            {**BLOB, "version_id": "2026-11-23T12:00:00.1234567Z", "snapshot": "2026-11-23T12:00:00.1234567Z"},
            "`snapshot` can't be combined with `version_id`",
        ),
        ("blob-get", {**BLOB, "version_id": "v"}, "a version ID or snapshot time"),
        ("blob-get", {**BLOB, "blob_names": "x"}, "can't be combined with `blob_name`"),
        ("blob-get", {**BLOB, "range": "9-1"}, "bytes such as"),
        ("blob-put", BLOB, "Give exactly one of these arguments: `file_entry_id`, `file_entry_ids`, `text`."),
        ("blob-delete", EVIDENCE, "Missing required argument `blob_name`"),
        ("blob-delete", {**EVIDENCE, "prefix": ""}, "Missing required argument `blob_name`"),
        ("blob-find", {"account_name": ACCOUNT}, "Give exactly one of these arguments: `expression`, `tag`."),
        ("blob-lease", {**BLOB, "action": "renew"}, "Missing required argument `lease_id`"),
        ("blob-lease", {**BLOB, "action": "acquire", "duration": "5"}, "15 to 60"),
        ("blob-copy", BLOB, "Missing required argument `source_blob_name`"),
        ("sas-create", {**BLOB, "expires_in": "8d"}, "at most 7 days"),
        ("sas-create", {**BLOB, "permissions": "rz"}, "letters out of"),
        ("sas-create", {**BLOB, "ip": "somewhere"}, "IPv4"),
        ("sas-inspect", {"sas": "https://x/y"}, "a SAS token"),
    ],
)
def test_wrong_arguments_of_blob_commands(
    blob_room: WarRoom, requests_mock: rm.Mocker, name: str, args: dict[str, str], words: str
) -> None:
    assert words in blob_room.run(f"azure-storage-{name}", **args).error
    assert not requests_to(requests_mock, "blob.core.windows.net")


BLOB_GONE: dict[str, Any] = {"status_code": 404, "headers": {"x-ms-error-code": "BlobNotFound"}}


@pytest.mark.parametrize("known", [True, False])
def test_a_sas_obeys_the_policy_of_the_account_in_every_cloud(
    signed_in: WarRoom, requests_mock: rm.Mocker, known: bool
) -> None:
    """Only the newest version tells that a SAS has to be bound to a user; a cloud that lacks it tells the rest."""
    policy = {"sasExpirationPeriod": "0.00:30:00", "expirationAction": "Block"}
    bound = {"requireUserBoundUserDelegationSas": True, "requireUserBoundUserDelegationSasAction": "Block"}

    def account(request: Any, context: Any) -> dict[str, Any]:
        newest = query(request)["api-version"] == az.NEWEST_STORAGE_API
        if newest and not known:
            context.status_code = 400
            return arm_failure("InvalidApiVersionParameter")
        endpoints = {"primaryEndpoints": {"blob": f"{BLOB_HOST}/"}}
        return account_body(sasPolicy={**policy, **(bound if newest else {})}, **endpoints)

    requests_mock.get(ARM + ACCOUNT_PATH, json=account)
    fields = {**dict.fromkeys(az.LENT_KEY.values(), "x"), "Value": base64.b64encode(b"k" * 32).decode()}
    inner = "".join(f"<{name}>{value}</{name}>" for name, value in fields.items())
    requests_mock.post(re.compile("comp=userdelegationkey"), text=f"<UserDelegationKey>{inner}</UserDelegationKey>")
    result = signed_in.run("azure-storage-sas-create", **BLOB, expires_in="2h")
    if known:
        assert "Missing required argument `user_object_id`" in result.error
        return
    shown = result.context["AzureStorage.Sas(val.sha256 && val.sha256 == obj.sha256)"]
    assert shown["expiry"] == az.iso_time((az.moment(shown["start"]) or 0) + 1800)


def test_contract_a_deleted_blob_is_restored(blob_room: WarRoom, requests_mock: rm.Mocker) -> None:
    """Azurite has neither soft delete nor versions: from the documented requests and answers."""
    requests_mock.head(f"{BLOB_HOST}/evidence/a.txt", [BLOB_GONE, {"headers": BLOB_HEADERS}])
    requests_mock.get(f"{BLOB_HOST}/evidence", text=blob_xml([]))
    requests_mock.put(f"{BLOB_HOST}/evidence/a.txt?comp=undelete")
    result = blob_room.run("azure-storage-blob-undelete", **BLOB)
    assert change_of(result)["changed"] is True
    assert (result.raw[0]["size"], result.raw[0]["result"]) == (7, "restored")
    assert query(requests_to(requests_mock, "comp=undelete")[0]) == {"comp": "undelete"}


def test_contract_all_deleted_blobs_with_a_prefix_are_restored(blob_room: WarRoom, requests_mock: rm.Mocker) -> None:
    listing = blob_xml(["2026/a", "2026/b"]).replace("<Blob>", "<Blob><Deleted>true</Deleted>", 1)
    requests_mock.get(f"{BLOB_HOST}/evidence?restype=container&comp=list", text=listing)
    requests_mock.get(
        f"{BLOB_HOST}/evidence?restype=container&comp=list&include=versions,deletedwithversions", text=blob_xml([])
    )
    requests_mock.head(f"{BLOB_HOST}/evidence/2026/a", [BLOB_GONE, {"headers": BLOB_HEADERS}])
    requests_mock.put(f"{BLOB_HOST}/evidence/2026/a?comp=undelete", status_code=200)
    result = blob_room.run("azure-storage-blob-undelete", **EVIDENCE, prefix="2026/")
    assert [(row["name"], row["result"]) for row in result.raw] == [("2026/a", "restored")]
    assert query(requests_mock.request_history[-5])["prefix"] == "2026/"
    assert change_of(result)["after"] == {"restored": 1}
    requests_mock.head(f"{BLOB_HOST}/evidence/2026/a", [BLOB_GONE])
    requests_mock.put(f"{BLOB_HOST}/evidence/2026/a?comp=undelete", status_code=403)
    failed = blob_room.run("azure-storage-blob-undelete", **EVIDENCE, confirm_all="true")
    assert "Could not restore blob evidence/2026/a: 403" in failed.error
    assert "`blob_name`" in blob_room.run("azure-storage-blob-undelete", **EVIDENCE).error


def test_contract_the_newest_version_is_promoted_by_a_copy(blob_room: WarRoom, requests_mock: rm.Mocker) -> None:
    requests_mock.head(f"{BLOB_HOST}/evidence/a.txt", [BLOB_GONE, {"headers": BLOB_HEADERS}])
    versions = "".join(f"<Blob><Name>a.txt</Name><VersionId>2026-0{n}</VersionId></Blob>" for n in (1, 3, 2))
    listing = f"<EnumerationResults><Blobs>{versions}</Blobs><NextMarker/></EnumerationResults>"
    requests_mock.get(f"{BLOB_HOST}/evidence", text=listing)
    requests_mock.put(f"{BLOB_HOST}/evidence/a.txt", status_code=202, headers={"x-ms-copy-status": "success"})
    result = blob_room.run("azure-storage-blob-undelete", **BLOB)
    put = next(request for request in requests_mock.request_history if request.method == "PUT")
    assert put.headers["x-ms-copy-source"] == f"{BLOB_HOST}/evidence/a.txt?versionid=2026-03"
    assert (result.raw[0]["size"], result.raw[0]["result"]) == (7, "restored from version 2026-03")
    assert change_of(result)["after"] == {"restored": 1}


def test_a_version_whose_copy_has_not_ended_is_not_called_restored(
    blob_room: WarRoom, requests_mock: rm.Mocker
) -> None:
    requests_mock.head(f"{BLOB_HOST}/evidence/a.txt", headers=BLOB_HEADERS)
    pending = {"x-ms-copy-status": "pending", "x-ms-copy-id": "1"}
    requests_mock.put(f"{BLOB_HOST}/evidence/a.txt", status_code=202, headers=pending)
    args = {**BLOB, "version_id": "2026-11-23T12:00:00.1234567Z", "overwrite": "true"}
    error = blob_room.run("azure-storage-blob-undelete", **args).error
    assert "has the status pending" in error
    assert "copyStatus of the blob tells when it has ended" in error


def test_a_snapshot_that_is_named_is_what_comes_back(blob_room: WarRoom, requests_mock: rm.Mocker) -> None:
    requests_mock.head(f"{BLOB_HOST}/evidence/a.txt", headers=BLOB_HEADERS)
    requests_mock.put(f"{BLOB_HOST}/evidence/a.txt", status_code=202, headers={"x-ms-copy-status": "success"})
    args = {**BLOB, "snapshot": "2026-11-23T12:00:00.1234567Z"}
    assert "would replace it" in blob_room.run("azure-storage-blob-undelete", **args).error
    assert not writes(requests_mock)
    result = blob_room.run("azure-storage-blob-undelete", **args, overwrite="true")
    assert result.raw[0]["result"] == "restored from snapshot 2026-11-23T12:00:00.1234567Z"
    source = last_write(requests_mock).headers["x-ms-copy-source"]
    assert unquote(source).endswith("/evidence/a.txt?snapshot=2026-11-23T12:00:00.1234567Z")


def last_write(mock: rm.Mocker) -> Any:
    return [request for request in mock.request_history if request.method == "PUT"][-1]


def test_a_dry_run_promises_nothing_of_which_nothing_is_kept(blob_room: WarRoom, requests_mock: rm.Mocker) -> None:
    requests_mock.head(f"{BLOB_HOST}/evidence/a.txt", **BLOB_GONE)
    requests_mock.get(f"{BLOB_HOST}/evidence", text=blob_xml([]))
    assert "Nothing of blob" in blob_room.run("azure-storage-blob-undelete", **BLOB, dry_run="true").error


def test_a_deleted_blob_whose_rows_are_on_several_pages_is_restored_once(
    blob_room: WarRoom, requests_mock: rm.Mocker
) -> None:
    row = "<Blob><Name>a.txt</Name><VersionId>2026-0%d</VersionId><Deleted>true</Deleted><Properties/></Blob>"
    page = "<EnumerationResults><Blobs>%s</Blobs><NextMarker>%s</NextMarker></EnumerationResults>"
    pages = {"": page % (row % 1, "2"), "2": page % (row % 2, "3"), "3": page % (row % 3, "")}
    requests_mock.get(f"{BLOB_HOST}/evidence", text=lambda request, context: pages[query(request).get("marker", "")])
    requests_mock.head(f"{BLOB_HOST}/evidence/a.txt", [BLOB_GONE, {"headers": BLOB_HEADERS}])
    sent = requests_mock.put(f"{BLOB_HOST}/evidence/a.txt?comp=undelete")
    result = blob_room.run("azure-storage-blob-undelete", **EVIDENCE, prefix="a")
    assert [item["result"] for item in result.raw] == ["restored"]
    assert sent.call_count == 1


def test_a_snapshot_has_the_metadata_that_it_was_given(blob_room: WarRoom, requests_mock: rm.Mocker) -> None:
    requests_mock.head(f"{BLOB_HOST}/evidence/a.txt", headers=BLOB_HEADERS)
    taken = {"x-ms-snapshot": "2026-11-23T12:00:00.0000000Z", "ETag": '"0xS"'}
    requests_mock.put(f"{BLOB_HOST}/evidence/a.txt?comp=snapshot", status_code=201, headers=taken)
    result = blob_room.run("azure-storage-blob-snapshot-create", **BLOB, metadata="why=hold")
    assert (result.raw["metadata"], result.raw["etag"]) == ({"why": "hold"}, "0xS")
    own = blob_room.run("azure-storage-blob-snapshot-create", **BLOB)
    assert own.raw["metadata"] == {"case": "1"}


@pytest.mark.parametrize("lost", [False, True])
def test_a_blob_on_its_way_out_of_the_archive_is_pending(
    blob_room: WarRoom, requests_mock: rm.Mocker, lost: bool
) -> None:
    headers = {**BLOB_HEADERS, "x-ms-access-tier": "Archive"}
    requests_mock.head(f"{BLOB_HOST}/evidence/a.txt", headers=headers)

    def set_tier(request: Any, context: Any) -> str:
        if "x-ms-archive-status" in headers:
            context.status_code, context.headers["x-ms-error-code"] = 409, "BlobBeingRehydrated"
            return ""
        headers["x-ms-archive-status"] = "rehydrate-pending-to-hot"
        headers["x-ms-rehydrate-priority"] = request.headers.get("x-ms-rehydrate-priority", "Standard")
        if lost:
            raise requests.exceptions.ReadTimeout
        context.status_code = 202
        return ""

    requests_mock.put(f"{BLOB_HOST}/evidence/a.txt?comp=tier", text=set_tier)
    result = blob_room.run("azure-storage-blob-tier-set", **BLOB, tier="Hot")
    assert not result.error
    assert change_of(result)["after"] == {"tier": "Archive, rehydrate-pending-to-hot"}
    assert result.raw["tier"] == "Archive"
    assert "takes hours and can't be canceled" in result.text
    again = blob_room.run("azure-storage-blob-tier-set", **BLOB, tier="Hot")
    assert change_of(again)["changed"] is False
    sooner = blob_room.run("azure-storage-blob-tier-set", **BLOB, tier="Hot", rehydrate_priority="High", dry_run="true")
    assert change_of(sooner)["after"] == {"rehydratePriority": "High"}


def test_a_blob_that_is_out_of_the_archive_at_once_is_not_called_pending(
    blob_room: WarRoom, requests_mock: rm.Mocker
) -> None:
    there = [{"headers": {**BLOB_HEADERS, "x-ms-access-tier": tier}} for tier in ("Archive", "Hot")]
    requests_mock.head(f"{BLOB_HOST}/evidence/a.txt", there)
    requests_mock.put(f"{BLOB_HOST}/evidence/a.txt?comp=tier")
    result = blob_room.run("azure-storage-blob-tier-set", **BLOB, tier="Hot")
    assert change_of(result)["after"] == {"tier": "Hot"}


def test_the_name_of_a_blob_that_is_being_copied_is_no_live_link(blob_room: WarRoom, requests_mock: rm.Mocker) -> None:
    name = "[x](https://evil.example)"
    pending = {**BLOB_HEADERS, "x-ms-copy-id": "c-1", "x-ms-copy-status": "pending"}
    requests_mock.head(re.compile("evil"), [BLOB_GONE, {"headers": BLOB_HEADERS}, {"headers": pending}])
    requests_mock.put(re.compile("evil"), status_code=202, headers={"x-ms-copy-id": "c-1"})
    result = blob_room.run(
        "azure-storage-blob-copy", **{**BLOB, "blob_name": name}, source_container_name="src", source_blob_name=name
    )
    assert "\\[x\\](https\\://evil.example)" in result.text


def test_contract_a_legal_hold_of_a_blob(blob_room: WarRoom, requests_mock: rm.Mocker) -> None:
    held = {"headers": {**BLOB_HEADERS, "x-ms-legal-hold": "true"}}
    requests_mock.head(f"{BLOB_HOST}/evidence/a.txt", [{"headers": BLOB_HEADERS}, held, held])
    requests_mock.put(f"{BLOB_HOST}/evidence/a.txt?comp=legalhold")
    hold = {**BLOB, "legal_hold": "true"}
    assert change_of(blob_room.run("azure-storage-blob-legal-hold-set", **hold))["before"] == {"legalHold": False}
    assert requests_to(requests_mock, "legalhold")[0].headers["x-ms-legal-hold"] == "true"
    assert change_of(blob_room.run("azure-storage-blob-legal-hold-set", **hold))["changed"] is False


FROM_OTHER = {"source_account_name": "otheracct", "source_container_name": "src-1", "source_blob_name": "s.bin"}


def copy_room(mock: rm.Mocker) -> None:
    """A large blob of another account, whose copy is pending twice and then done."""
    other = "https://otheracct.blob.core.windows.net"
    key = (Path(__file__).parent / "test_data/blob/delegation_key.xml").read_text()
    mock.post(f"{other}/?comp=userdelegationkey", text=key)
    mock.head(f"{other}/src-1/s.bin", headers={**BLOB_HEADERS, "Content-Length": str(300 << 20)})
    pending = {**BLOB_HEADERS, "x-ms-copy-id": "c-1", "x-ms-copy-status": "pending", "x-ms-copy-progress": "5/300"}
    done = {**pending, "x-ms-copy-status": "success"}
    states = [BLOB_GONE, {"headers": pending}, {"headers": pending}, {"headers": done}]
    mock.head(f"{BLOB_HOST}/evidence/a.txt", states)
    started = {"x-ms-copy-id": "c-1", "x-ms-copy-status": "pending"}
    mock.put(f"{BLOB_HOST}/evidence/a.txt", status_code=202, headers=started)


def test_contract_a_copy_between_accounts_uses_a_hidden_sas(blob_room: WarRoom, requests_mock: rm.Mocker) -> None:
    copy_room(requests_mock)
    blob_room.run("azure-storage-blob-copy", **BLOB, **FROM_OTHER)
    (put,) = sent_to(requests_mock, "PUT", "/evidence/a.txt")
    assert put.headers["x-ms-source-if-match"] == '"0x8D1"'
    assert put.headers["If-None-Match"] == "*"
    assert "x-ms-requires-sync" not in put.headers
    sas = {name: values[0] for name, values in parse_qs(urlsplit(put.headers["x-ms-copy-source"]).query).items()}
    assert (sas["sp"], sas["sr"], sas["spr"]) == ("r", "b", "https")
    assert sas["skoid"] == "0d9c8b7a-6f5e-4d3c-8b2a-190817263544"
    assert sas["sig"] not in json.dumps(blob_room.entries)


def test_contract_a_copy_is_followed_to_its_end(blob_room: WarRoom, requests_mock: rm.Mocker) -> None:
    copy_room(requests_mock)
    first = blob_room.run("azure-storage-blob-copy", **BLOB, **FROM_OTHER)
    again = first.entry["PollingArgs"]
    assert "5/300" in first.text
    assert blob_room.run("azure-storage-blob-copy", **again).entry["PollingArgs"] == again
    assert "success" in blob_room.run("azure-storage-blob-copy", **again).text
    assert writes(requests_mock) == ["POST", "PUT"], "polling sends neither"


def test_the_undo_of_a_copy_that_was_followed_is_told_too(blob_room: WarRoom, requests_mock: rm.Mocker) -> None:
    copy_room(requests_mock)
    again = blob_room.run("azure-storage-blob-copy", **BLOB, **FROM_OTHER).entry["PollingArgs"]
    blob_room.run("azure-storage-blob-copy", **again)
    undo = change_of(blob_room.run("azure-storage-blob-copy", **again))["undo"]
    assert undo == f"!azure-storage-blob-delete account_name={ACCOUNT} container_name=evidence blob_name=a.txt"


def test_a_copy_that_was_begun_is_told_although_it_cannot_be_looked_at(
    blob_room: WarRoom, requests_mock: rm.Mocker
) -> None:
    requests_mock.head(f"{BLOB_HOST}/evidence/s", headers=BLOB_HEADERS)
    forbidden = {"status_code": 403, "headers": {"x-ms-error-code": "AuthorizationFailure"}}
    requests_mock.head(f"{BLOB_HOST}/evidence/a.txt", [BLOB_GONE, forbidden])
    requests_mock.put(f"{BLOB_HOST}/evidence/a.txt", status_code=202, headers={"x-ms-copy-id": "c-1"})
    result = blob_room.run("azure-storage-blob-copy", **BLOB, source_blob_name="s")
    assert result.entry["Type"] == 4
    assert (
        "The result could not be read back: Could not read the properties of blob evidence/a.txt: 403" in result.error
    )
    assert change_of(result)["changed"] is True
    assert "blob-delete" in change_of(result)["undo"]


def test_a_failed_copy_says_why(blob_room: WarRoom, requests_mock: rm.Mocker) -> None:
    failed = {"x-ms-copy-id": "c", "x-ms-copy-status": "failed", "x-ms-copy-status-description": "404 BlobNotFound"}
    requests_mock.head(f"{BLOB_HOST}/evidence/a.txt", headers={**BLOB_HEADERS, **failed})
    error = blob_room.run("azure-storage-blob-copy", **BLOB, source_blob_name="s", copy_id="c").error
    assert "failed: 404 BlobNotFound" in error


def test_the_instance_can_have_a_sas_or_a_key_of_one_account(war_room: WarRoom, requests_mock: rm.Mocker) -> None:
    key = base64.b64encode(b"k" * 64).decode()
    requests_mock.get(f"{BLOB_HOST}/evidence", text=blob_xml([]))
    war_room.params["storage_credentials"] = {
        "identifier": ACCOUNT,
        "password": "?sv=2025&ss=b&sig=MARKER%2F0123456789",
    }
    assert not war_room.run("azure-storage-blob-list", **EVIDENCE).error
    assert parse_qs(last(requests_mock).query)["sig"] == ["marker/0123456789"]
    assert "Authorization" not in last(requests_mock).headers
    war_room.params["storage_credentials"] = {"identifier": ACCOUNT, "password": key}
    assert not war_room.run("azure-storage-blob-list", **EVIDENCE).error
    assert last(requests_mock).headers["Authorization"].startswith(f"SharedKey {ACCOUNT}:")
    war_room.params["storage_credentials"] = {"identifier": "", "password": key}
    assert "Storage Account Name" in war_room.run("azure-storage-blob-list", **EVIDENCE).error
    war_room.params["storage_credentials"] = {"identifier": "other", "password": key}
    assert "This instance isn't signed in" in war_room.run("azure-storage-blob-list", **EVIDENCE).error


@pytest.mark.parametrize(
    "pasted",
    [
        f"https://{ACCOUNT}.blob.core.windows.net/evidence?restype=container&comp=list&{PASTED_SAS}&prefix=x#top",
        f"https://{ACCOUNT}.blob.core.windows.net/evidence/a.txt?snapshot=2026-01-01T00:00:00.0000000Z&{PASTED_SAS}",
        f"http://{ACCOUNT}.blob.core.windows.net/?{PASTED_SAS}",
        f"BlobEndpoint=https://{ACCOUNT}.blob.core.windows.net/;SharedAccessSignature={PASTED_SAS}",
        f"AccountName={ACCOUNT};SharedAccessSignature=?{PASTED_SAS};EndpointSuffix=core.windows.net",
        f"accountname={ACCOUNT};sharedaccesssignature={PASTED_SAS}",
        f"https://{ACCOUNT}.blob.core.windows.net/?{PASTED_SAS.replace('sv=', 'SV=').replace('sig=', 'SIG=')}",
    ],
)
def test_only_the_sas_itself_goes_with_a_request_however_it_was_pasted(
    war_room: WarRoom, requests_mock: rm.Mocker, pasted: str
) -> None:
    requests_mock.get(f"{BLOB_HOST}/evidence", text=blob_xml([]))
    war_room.params["storage_credentials"] = {"identifier": "", "password": pasted}
    assert not war_room.run("azure-storage-blob-list", **EVIDENCE).error
    sent = set(urlsplit(last(requests_mock).url).query.split("&"))
    assert sent > set(PASTED_SAS.split("&"))
    assert not {name.partition("=")[0] for name in sent} & {"prefix", "snapshot"}
    assert sum(name.startswith("comp=") for name in sent) == 1


@pytest.mark.parametrize("named", [f"BlobEndpoint=https://{ACCOUNT}.z01.blob.storage.azure.net/", "EndpointSuffix="])
def test_a_connection_string_with_a_key_names_its_endpoint(
    war_room: WarRoom, requests_mock: rm.Mocker, named: str
) -> None:
    host = urlsplit(named.partition("=")[2]).netloc or urlsplit(BLOB_HOST).netloc
    requests_mock.get(f"https://{host}/evidence", text=blob_xml([]))
    key = base64.b64encode(b"k" * 64).decode()
    text = f"DefaultEndpointsProtocol=https;AccountName={ACCOUNT};AccountKey={key};{named}"
    war_room.params["storage_credentials"] = {"identifier": "", "password": text}
    assert not war_room.run("azure-storage-blob-list", **EVIDENCE).error
    assert last(requests_mock).headers["Authorization"].startswith(f"SharedKey {ACCOUNT}:")


@pytest.mark.parametrize(
    ("address", "account", "path"),
    [
        ("http://acct1.blob.core.windows.net/box-1/a.txt", "acct1", "box-1/a.txt"),
        ("https://acct1.table.core.windows.net/Orders(PartitionKey='a',RowKey='b')", "acct1", None),
        ("https://cdn.contoso.com/box-1/a.txt", None, None),
    ],
)
def test_the_account_of_a_leaked_sas_is_told_and_never_guessed(
    war_room: WarRoom, address: str, account: str | None, path: str | None
) -> None:
    result = war_room.run("azure-storage-sas-inspect", sas=f"{address}?{PASTED_SAS}")
    found = next(iter(result.context.values()))
    assert (found.get("account"), found.get("path")) == (account, path)


def test_what_a_shared_key_signs() -> None:
    """Headers in their order, the resource with its sorted query, as the documentation has it."""
    headers = {"x-ms-version": "2025-11-05", "x-ms-date": "Mon, 23 Nov 2026 12:00:00 GMT", "Content-Type": "text/plain"}
    url = "https://a.blob.core.windows.net/c/b%20c?comp=block&blockid=x%3D"
    assert az.string_to_sign(az.Request("PUT", url, "", headers, b"12345"), "a") == (
        "PUT\n\n\n5\n\ntext/plain\n\n\n\n\n\n\nx-ms-date:Mon, 23 Nov 2026 12:00:00 GMT\nx-ms-version:2025-11-05\n"
        "/a/c/b%20c\nblockid:x=\ncomp:block"
    )


@pytest.mark.parametrize(
    ("token", "kind", "revoked"),
    [
        (
            "sv=2022&sr=b&sp=rl&se=2026-01-01T00:00:00Z&skoid=o-1&sktid=t-1&sig=MARKER",
            "user delegation SAS",
            "delegation keys",
        ),
        (
            "sv=2022&ss=bf&srt=sco&sp=rwdl&se=2099-01-01T00:00:00Z&sip=8.8.8.8&sig=MARKER",
            "account SAS",
            "rotate the account key",
        ),
        ("sv=2022&sr=c&si=policy1&sig=MARKER", "service SAS with a stored policy", "stored access policy"),
        ("sv=2022&sr=b&sp=r&se=2099-01-01T00:00:00Z&sig=MARKER", "service SAS", "rotate the account key"),
    ],
)
def test_a_leaked_sas_is_explained_and_never_shown(
    war_room: WarRoom, requests_mock: rm.Mocker, token: str, kind: str, revoked: str
) -> None:
    result = war_room.run("azure-storage-sas-inspect", sas=f"https://acct.blob.core.windows.net/c/b?{token}")
    found = next(iter(result.context.values()))
    assert found["kind"] == kind
    assert revoked in found["revokedBy"].lower()
    assert found["sha256"] == hashlib.sha256(b"MARKER").hexdigest(), "of the signature, as the logs have it"
    assert "MARKER" not in json.dumps(war_room.entries)
    assert requests_mock.call_count == 0


def test_the_policy_that_a_leaked_sas_names_is_no_live_link(war_room: WarRoom) -> None:
    token = "sv=2022&sr=c&si=%5Bx%5D(https%3A%2F%2Fevil.example)&sig=MARKER"
    text = war_room.run("azure-storage-sas-inspect", sas=f"https://acct.blob.core.windows.net/c/b?{token}").text
    assert "\\[x\\](https\\://evil.example)" in text
    assert "[x](https://evil.example)" not in text


def test_a_sas_that_began_long_ago_asks_for_a_key_that_begins_now(
    blob_room: WarRoom, requests_mock: rm.Mocker, clock: FakeClock
) -> None:
    key = (Path(__file__).parent / "test_data/blob/delegation_key.xml").read_text()
    requests_mock.post(f"{BLOB_HOST}/?comp=userdelegationkey", text=key)
    assert not blob_room.run("azure-storage-sas-create", **BLOB, start="30d").error
    asked = requests_to(requests_mock, "userdelegationkey")[0].body.decode()
    assert f"<Start>{az.iso_time(clock.time - 300)}</Start>" in asked


def test_a_copy_out_of_an_account_whose_key_the_instance_has_needs_no_delegation_key(
    signed_in: WarRoom, requests_mock: rm.Mocker
) -> None:
    signed_in.params["storage_credentials"] = {"identifier": "otheracct", "password": ACCOUNT_KEY}
    requests_mock.get(ARM + ACCOUNT_PATH, json=account_body())
    requests_mock.head("https://otheracct.blob.core.windows.net/src-1/s.bin", headers=BLOB_HEADERS)
    requests_mock.head(f"{BLOB_HOST}/evidence/a.txt", [BLOB_GONE, {"headers": BLOB_HEADERS}])
    requests_mock.put(f"{BLOB_HOST}/evidence/a.txt", status_code=202, headers={"x-ms-copy-id": "c-1"})
    assert not signed_in.run("azure-storage-blob-copy", **BLOB, **FROM_OTHER).error
    (put,) = sent_to(requests_mock, "PUT", "/evidence/a.txt")
    sas = parse_qs(urlsplit(put.headers["x-ms-copy-source"]).query)
    assert sas["sp"] == ["r"]
    assert "skoid" not in sas
    assert not requests_to(requests_mock, "userdelegationkey")


@pytest.mark.parametrize(("action", "hours"), [("Block", 2), ("Log", 24)])
def test_a_sas_of_an_account_key_keeps_to_the_policy_of_the_account(
    signed_in: WarRoom, requests_mock: rm.Mocker, clock: FakeClock, action: str, hours: int
) -> None:
    policy = {"sasExpirationPeriod": "0.02:00:00", "expirationAction": action}
    requests_mock.get(ARM + ACCOUNT_PATH, json=account_body(sasPolicy=policy))
    requests_mock.post(f"{ARM}{ACCOUNT_PATH}/listKeys", json=KEYS)
    start = az.iso_time(clock.time)
    result = signed_in.run("azure-storage-sas-create", **BLOB, signed_by="account_key", start=start, expires_in="24h")
    assert result.raw["expiry"] == az.iso_time(clock.time + hours * 3600)
    early = signed_in.run("azure-storage-sas-create", **BLOB, signed_by="account_key", start="3h")
    assert ("has expired already" in early.error) is (action == "Block")


# --- plan --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("left", "right", "equal"),
    [
        ("Logging, Metrics", "Logging,Metrics", True),
        ([1, 2], [2, 1], True),
        (None, [], True),
        (None, False, False),
        (None, "None", False),
        (False, 0, False),
        (True, "true", False),
        ("West", "west", True),
        ("AzureServices, Logging", "Logging,AzureServices", True),
        ("https://v.vault.azure.net/", "https://v.vault.azure.net", True),
        ([{"id": "/v", "action": "Allow", "state": "Succeeded"}], [{"id": "/V", "action": "Allow"}], True),
        ({"a": 1}, {"a": 2}, False),
    ],
)
def test_what_counts_as_the_same(left: Any, right: Any, equal: bool) -> None:
    assert az.same(left, right) is equal


def test_a_false_is_a_difference_and_is_sent() -> None:
    assert az.differences({}, {"a": False}) == ({"a": None}, {"a": False})
    assert az.account_patch({}, {"properties": {"allowSharedKeyAccess": False}})[0] == {
        "properties": {"allowSharedKeyAccess": False}
    }


@pytest.mark.parametrize("value", ["Finance", "finance,audit", " finance"])
def test_the_texts_of_tags_are_people_s_and_compared_letter_for_letter(value: str) -> None:
    assert az.differences({"tags": {"owner": "finance"}}, {"tags": {"owner": value}})[1] == {"tags": {"owner": value}}
    assert az.differences({"tags": {"owner": value}}, {"tags": {"owner": value}})[1] == {}
    assert az.astray({"tags": {"owner": value}}, {"tags": {"owner": "finance"}}, az.same)


def test_a_domain_that_is_so_already_is_not_sent() -> None:
    current = {"properties": {"customDomain": {"name": "files.contoso.com"}}}
    wanted = {"properties": {"customDomain": {"name": "files.contoso.com", "useSubDomainName": True}}}
    assert az.account_patch(current, wanted) == ({}, {}, {})
    assert az.account_patch({}, wanted)[0] == wanted


def test_a_certificate_of_a_hidden_field_does_no_harm(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    signed_in.params["certificate"] = {"identifier": "", "password": "no pem at all"}
    requests_mock.get(f"{ARM}/subscriptions", json={"value": []})
    assert not signed_in.run("azure-storage-subscriptions-list").error


def test_tags_are_replaced_whole() -> None:
    assert az.merged({"tags": {"a": 1}, "b": {"c": 1, "d": 2}}, {"tags": {"x": 1}, "b": {"c": 3}}) == {
        "tags": {"x": 1},
        "b": {"c": 3, "d": 2},
    }


# --- no secret anywhere ------------------------------------------------------------------------------------------------

MARKERS = ("marker-", "MARKER")
ALL_PARAMS: dict[str, dict[str, Any]] = {
    "device": DEVICE_PARAMS,
    "code": {
        **CODE_PARAMS,
        "auth_code": {"password": "marker-instance-code"},
        "credentials": {"password": "marker-client-secret"},
    },
    "secret": SECRET_PARAMS,
    "identity": IDENTITY_PARAMS,
}


SECRET_ARGUMENTS = {
    "account_name": ACCOUNT,
    "container_name": "logs",
    "code": "marker-pasted-code",
    "sku": "Standard_LRS",
    "blob_name": "b",
    "sas": "sv=1&sig=marker-sas-signature",
    "source_url": "https://x.blob.core.windows.net/c-1/b?sv=1&sig=marker-sas-signature",
}


def echo_room(mock: rm.Mocker, outcome: str, echo: str) -> None:
    """Resource Manager and Entra ID, whose answers hold what must not be shown."""
    arm, entra = re.compile("management.azure.com"), re.compile("login|169")
    if outcome == "answers":
        tokens = {**token_answer("marker-arm-token"), **device_answer(), "expires_in": "3600"}
        mock.register_uri(rm.ANY, arm, json={**account_body(), "value": [account_body()]})
        mock.register_uri(rm.ANY, entra, json=tokens)
    elif outcome == "refusals":
        refusal = {"error": "invalid_grant", "error_description": echo}
        mock.register_uri(rm.ANY, arm, status_code=400, json=arm_failure("Echo", echo))
        mock.register_uri(rm.ANY, entra, status_code=400, json=refusal)
    else:
        mock.register_uri(rm.ANY, rm.ANY, exc=requests.exceptions.ConnectionError(echo))


@pytest.mark.parametrize("way", sorted(ALL_PARAMS))
@pytest.mark.parametrize("outcome", ["answers", "refusals", "faults"])
@pytest.mark.parametrize("signed", [False, True])
def test_no_command_shows_a_secret(
    war_room: WarRoom, requests_mock: rm.Mocker, way: str, outcome: str, signed: bool
) -> None:
    """Every command with every way to sign in, with answers and errors that echo what must not be shown."""
    war_room.params = ALL_PARAMS[way]
    echo = "Bearer marker-arm-token-0123456789 https://x/?sig=MARKER code=marker-instance-code"
    echo += " marker-client-secret" if war_room.params.get("credentials") else ""
    echo_room(requests_mock, outcome, echo)
    if signed:
        war_room.sign_in("marker-arm-token-0123456789")
    for name, found in az.COMMANDS.items():
        known = set(found.arguments()) - ({"code"} if way == "device" else set())
        result = war_room.run(name, **{key: value for key, value in SECRET_ARGUMENTS.items() if key in known})
        shown = json.dumps(war_room.entries) + "\n".join(war_room.log)
        shown = shown.replace("marker-device-code", "") if "PollingArgs" not in shown else shown
        assert not [marker for marker in MARKERS if marker in unquote(shown)], (name, shown[:2000])
        assert result is not None


# --- incident response -------------------------------------------------------------------------------------------------

ONE = {"account_name": ACCOUNT}
EVIDENCE_PATH = f"{CONTAINERS_PATH}/evidence"
OWN = {"own_ip": "203.0.113.7"}
OPEN: dict[str, Any] = {
    "allowBlobPublicAccess": True,
    "allowSharedKeyAccess": None,
    "isSftpEnabled": True,
    "networkAcls": {
        "bypass": "AzureServices",
        "defaultAction": "Allow",
        "ipRules": [{"value": "198.51.100.9", "action": "Allow"}],
        "virtualNetworkRules": [],
        "resourceAccessRules": [{"tenantId": TENANT, "resourceId": "/r"}],
    },
    "keyCreationTime": {"key1": "2027-01-01T00:00:00.1234567Z", "key2": None},
}


def bodies(mock: rm.Mocker, method: str, part: str = "") -> list[Any]:
    """The bodies of the requests that left with a method and a part of the address."""
    found = [r for r in mock.request_history if r.method == method and part.lower() in r.url.lower()]
    return [r.json() if r.body else None for r in found]


def live_account(mock: rm.Mocker, path: str = ACCOUNT_PATH, **properties: Any) -> dict[str, Any]:
    """An account that keeps what is sent to it, as ARM does."""
    account = {**account_body(**json.loads(json.dumps(properties))), "id": path}

    def patched(request: Any, context: Any) -> dict[str, Any]:
        sent = request.json()
        for part in ("properties", "sku"):
            account[part] |= sent.get(part, {})
        account.update({key: value for key, value in sent.items() if key not in ("properties", "sku")})
        return account

    mock.get(ARM + path, json=lambda request, context: account)
    mock.patch(ARM + path, json=patched)
    return account


def test_find_asks_once_for_every_subscription(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    row = {**account_body(), "subscriptionId": SUBSCRIPTION, "resourceGroup": GROUP.lower()}
    requests_mock.post(GRAPH, json={"data": [row], "$skipToken": ""})
    url = "https://contosoweb.blob.core.windows.net/c/b?sv=1&sig=MARKERSIGNATURE"
    result = signed_in.run("azure-storage-account-find", account_name=f"{ACCOUNT.upper()},{ACCOUNT_PATH}", blob_url=url)
    assert not result.error
    (sent,) = bodies(requests_mock, "POST", "ResourceGraph")
    assert query(last(requests_mock)) == {"api-version": "2024-04-01"}
    assert sent["query"].splitlines()[1:3] == [
        "| where type =~ 'microsoft.storage/storageaccounts'",
        f"| where name in~ ('{ACCOUNT}', '{ACCOUNT}', 'contosoweb')",
    ]
    assert sent["options"] == {"resultFormat": "objectArray", "$top": 50}
    assert "Not found: contosoweb" in result.text
    found = result.context["AzureStorage.StorageAccount(val.id && val.id == obj.id)"]
    found = found[0] if isinstance(found, list) else found
    assert found["resourceGroup"] == GROUP
    assert "MARKERSIGNATURE" not in json.dumps(result.entry)


def test_find_does_not_call_a_name_of_an_earlier_page_not_found(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    other = {**account_body(), "id": ACCOUNT_PATH.replace(ACCOUNT, "contosoweb"), "name": "contosoweb"}
    pages = [{"data": [account_body()], "$skipToken": "more"}, {"data": [other]}]
    requests_mock.post(GRAPH, [{"json": page} for page in pages])
    args = {"account_name": f"{ACCOUNT},contosoweb", "limit": "1"}
    first = signed_in.run("azure-storage-account-find", **args)
    token = first.context["AzureStorage(true)"]["StorageAccountNextToken"]
    second = signed_in.run("azure-storage-account-find", **args, next_token=token)
    assert [row["name"] for row in second.raw] == ["contosoweb"]
    assert "Not found" not in first.text + second.text


def test_find_pages_and_quotes(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    pages = [{"data": [account_body()] * 2, "$skipToken": "more"}, {"data": [account_body()]}]
    requests_mock.post(GRAPH, [{"json": page} for page in pages])
    args = {"tag": "it's=a\\b", "location": "West Europe"}
    first = signed_in.run("azure-storage-account-find", **args, limit="2")
    token = first.context["AzureStorage(true)"]["StorageAccountNextToken"]
    rest = signed_in.run("azure-storage-account-find", **args, next_token=token)
    assert rest.context["AzureStorage(true)"]["StorageAccountNextToken"] == ""
    first_sent, rest_sent = bodies(requests_mock, "POST", "ResourceGraph")
    assert "| where tags['it\\'s'] =~ 'a\\\\b'" in first_sent["query"]
    assert "| where location =~ 'westeurope'" in first_sent["query"]
    assert (first_sent["options"]["$top"], rest_sent["options"]["$skipToken"]) == (2, "more")


def test_a_smaller_limit_goes_on_where_the_larger_one_ended(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    rows = [{"id": f"/x/{number}", "name": f"n{number}"} for number in range(30)]

    def answer(request: Any, context: Any) -> dict[str, Any]:
        """As many rows as are asked for, but few of the first page, which the service may do."""
        options = request.json()["options"]
        start = int(options.get("$skipToken", "0"))
        stop = start + (options["$top"] if start else 4)
        return {"data": rows[start:stop], **({"$skipToken": str(stop)} if stop < len(rows) else {})}

    requests_mock.post(GRAPH, json=answer)
    first = signed_in.run("azure-storage-account-find", limit="20")
    found, token = names(first), first.context["AzureStorage(true)"]["StorageAccountNextToken"]
    while token:
        result = signed_in.run("azure-storage-account-find", limit="5", next_token=token)
        found += names(result)
        token = result.context["AzureStorage(true)"]["StorageAccountNextToken"]
    assert found == [row["name"] for row in rows]


@pytest.mark.parametrize("told", [{}, {"subscription_id": SUBSCRIPTION}])
def test_an_account_is_found_by_its_name_alone(
    signed_in: WarRoom, requests_mock: rm.Mocker, told: dict[str, str]
) -> None:
    signed_in.params = {"auth_type": "Device Code"}
    signed_in.sign_in()
    requests_mock.post(GRAPH, json={"data": [account_body()]})
    requests_mock.get(f"{ARM}{SERVICE_PATH}", json={"id": SERVICE_PATH, "name": "default", "properties": {}})
    assert not signed_in.run("azure-storage-blob-service-properties-get", account_name=ACCOUNT, **told).error
    requests_mock.post(GRAPH, json={"data": []})
    error = signed_in.run("azure-storage-blob-service-properties-get", account_name=ACCOUNT).error
    assert f"has a storage account '{ACCOUNT}'" in error
    assert "role Reader" in error


@pytest.mark.parametrize("code", sorted(az.MISPLACED))
def test_an_account_that_is_not_where_the_instance_says_is_looked_for(
    signed_in: WarRoom, requests_mock: rm.Mocker, code: str
) -> None:
    other = ACCOUNT_PATH.replace(GROUP, "rg-other")
    requests_mock.get(ARM + ACCOUNT_PATH, status_code=404, json=arm_failure(code))
    live_account(requests_mock, other)
    requests_mock.post(GRAPH, json={"data": [{"id": other.upper().replace("SUBSCRIPTIONS", "subscriptions")}]})
    result = signed_in.run("azure-storage-account-update", account_name=ACCOUNT, allow_shared_key_access="false")
    assert not result.error
    assert "rg-other" in last(requests_mock).url.lower()
    told = {"resource_group_name": GROUP, "subscription_id": SUBSCRIPTION}
    assert code in signed_in.run("azure-storage-account-list", account_name=ACCOUNT, **told).error


@pytest.mark.parametrize("other", [{"subscription_id": TENANT}, {"resource_group_name": "rg-other"}])
def test_an_account_that_is_elsewhere_than_the_arguments_say_is_not_taken(
    signed_in: WarRoom, requests_mock: rm.Mocker, other: dict[str, str]
) -> None:
    signed_in.params = {"auth_type": "Device Code"}
    signed_in.sign_in()
    requests_mock.post(GRAPH, json={"data": [account_body()]})
    error = signed_in.run("azure-storage-blob-service-properties-get", account_name=ACCOUNT, **other).error
    assert f"Storage account '{ACCOUNT}' is in {GROUP_PATH}, not in {next(iter(other.values()))}." in error
    assert not writes(requests_mock)


CLOSE = {
    "allow_blob_public_access": "false",
    "allow_shared_key_access": "false",
    "minimum_tls_version": "TLS1_2",
    "network_ruleset_default_action": "Deny",
    "tags": "case=1234",
}


def test_update_sends_false_and_only_what_differs(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    live_account(requests_mock, **OPEN, minimumTlsVersion="TLS1_2")
    result = signed_in.run("azure-storage-account-update", **ONE, **CLOSE)
    (sent,) = bodies(requests_mock, "PATCH")
    assert sent == {
        "tags": {"owner": "finance", "case": "1234"},
        "properties": {
            "allowBlobPublicAccess": False,
            "allowSharedKeyAccess": False,
            "networkAcls": {**OPEN["networkAcls"], "defaultAction": "Deny"},
        },
    }
    assert change_of(result)["undo"] == (
        f'!azure-storage-account-update account_name={ACCOUNT} {UNDO} replace_tags=true tags=`{{"owner": "finance"}}` '
        "allow_blob_public_access=true allow_shared_key_access=true network_ruleset_default_action=Allow"
    )
    assert "user delegation SAS" in result.text
    assert "Still allowed: " in result.text
    again = signed_in.run("azure-storage-account-update", **ONE, allow_shared_key_access="false")
    assert change_of(again)["changed"] is False
    assert len(bodies(requests_mock, "PATCH")) == 1


def test_a_sas_action_needs_a_period(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    live_account(requests_mock)
    error = signed_in.run("azure-storage-account-update", **ONE, sas_expiration_action="Block").error
    assert "Missing required argument `sas_expiration_period`" in error
    signed_in.run(
        "azure-storage-account-update", **ONE, sas_expiration_action="Block", sas_expiration_period="7.00:00:00"
    )
    both = {"sasExpirationPeriod": "7.00:00:00", "expirationAction": "Block"}
    assert bodies(requests_mock, "PATCH") == [{"properties": {"sasPolicy": both}}]
    assert "give at least one of the settings" in signed_in.run("azure-storage-account-update", **ONE).error


def test_what_undo_says_can_be_typed(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    live_account(requests_mock, **OPEN)
    undo = change_of(signed_in.run("azure-storage-account-update", **ONE, is_sftp_enabled="false", tags="a=b c"))[
        "undo"
    ]
    name, *words = re.findall(r"(?:[^\s`]|`[^`]*`)+", undo)
    args = {key: value.strip("`") for key, _, value in (word.partition("=") for word in words)}
    assert change_of(signed_in.run(name[1:], **args))["changed"] is True
    assert bodies(requests_mock, "PATCH")[-1] == {"tags": {"owner": "finance"}, "properties": {"isSftpEnabled": True}}


def vanishing_account(mock: rm.Mocker, path: str = ACCOUNT_PATH, status: int = 200) -> None:
    """An account that is gone once it was deleted."""
    gone: list[bool] = []

    def read(request: Any, context: Any) -> dict[str, Any]:
        context.status_code = 404 if gone else 200
        return arm_failure("ResourceNotFound") if gone else {**account_body(), "id": path}

    def delete(request: Any, context: Any) -> str:
        gone.append(True)
        return ""

    mock.get(ARM + path, json=read)
    mock.delete(ARM + path, text=delete, status_code=status)


def test_deleting_an_account_needs_its_name(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    vanishing_account(requests_mock)
    assert f"confirm={ACCOUNT}" in signed_in.run("azure-storage-account-delete", **ONE, confirm="yes").error
    assert not writes(requests_mock)
    result = signed_in.run("azure-storage-account-delete", **ONE, confirm=ACCOUNT)
    assert "Deleted." in result.text
    assert writes(requests_mock) == ["DELETE"]
    assert change_of(result)["after"] == {"name": None, "location": None, "kind": None, "sku": None}
    again = signed_in.run("azure-storage-account-delete", **ONE)
    assert change_of(again)["changed"] is False
    assert f"There is no storage account {ACCOUNT}" in again.text


def test_an_account_that_goes_meanwhile_is_not_called_deleted_by_us(
    signed_in: WarRoom, requests_mock: rm.Mocker
) -> None:
    vanishing_account(requests_mock, status=204)
    result = signed_in.run("azure-storage-account-delete", **ONE, confirm=ACCOUNT)
    assert f"There is no storage account {ACCOUNT}" in result.text
    assert change_of(result)["changed"] is False


def test_an_account_that_stays_after_its_deletion_is_a_failure(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    live_account(requests_mock)
    requests_mock.delete(ARM + ACCOUNT_PATH, status_code=200)
    result = signed_in.run("azure-storage-account-delete", **ONE, confirm=ACCOUNT)
    assert result.entry["Type"] == 4
    assert f"Azure accepted the change, but name is {ACCOUNT}, not not set" in result.error


KEYS = {"keys": [{"keyName": name, "value": f"MARKER{name}".ljust(86, "x") + "=="} for name in ("key1", "key2")]}


def test_keys_are_listed_by_age_and_shown_only_when_asked(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    live_account(requests_mock, **OPEN)
    requests_mock.post(f"{ARM}{ACCOUNT_PATH}/listKeys", json=KEYS)
    result = signed_in.run("azure-storage-account-key-list", **ONE)
    assert [row["ageInDays"] for row in result.raw] == [14, None]
    assert not bodies(requests_mock, "POST")
    shown = signed_in.run("azure-storage-account-key-list", **ONE, show_values="true")
    assert shown.raw[1]["value"] == KEYS["keys"][1]["value"]
    assert shown.entry["Tags"] == ["sensitive"]


def test_rotating_keys_shows_none_and_can_be_repeated(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    account = live_account(requests_mock, **OPEN)

    def rotate(request: Any, context: Any) -> dict[str, Any]:
        account["properties"]["keyCreationTime"][request.json()["keyName"]] = "2027-01-15T08:00:00.5Z"
        return {"keys": [{**key, "creationTime": "2027-01-15T08:00:00.5Z"} for key in KEYS["keys"]]}

    requests_mock.post(f"{ARM}{ACCOUNT_PATH}/regenerateKey", json=rotate)
    args = {**ONE, "key": "both", "created_before": "2027-01-10T00:00:00Z"}
    result = signed_in.run("azure-storage-account-key-rotate", **args)
    assert bodies(requests_mock, "POST") == [{"keyName": "key1"}, {"keyName": "key2"}]
    assert "MARKER" not in json.dumps(result.entry)
    assert change_of(result)["before"] == {"key1": OPEN["keyCreationTime"]["key1"], "key2": None}
    assert "user delegation SAS" in result.text
    assert change_of(signed_in.run("azure-storage-account-key-rotate", **args))["changed"] is False
    assert len(bodies(requests_mock, "POST")) == 2
    one = signed_in.run("azure-storage-account-key-rotate", **ONE, key="key2")
    assert "the other key" in one.text


def test_a_rotation_is_never_sent_twice(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    live_account(requests_mock, **OPEN)
    requests_mock.post(f"{ARM}{ACCOUNT_PATH}/regenerateKey", exc=requests.exceptions.ReadTimeout)
    assert "took longer" in signed_in.run("azure-storage-account-key-rotate", **ONE, key="key1").error
    assert len(bodies(requests_mock, "POST")) == 1


SYNAPSE = f"{GROUP_PATH}/providers/Microsoft.Synapse/workspaces/w"
ADD_RULES = {**ONE, "ip_rules": "198.51.100.0/28,198.51.100.9/32", "resource_ids": SYNAPSE}
RULES_ADDED = {
    **OPEN["networkAcls"],
    "ipRules": [{"value": "198.51.100.9", "action": "Allow"}, {"value": "198.51.100.0/28", "action": "Allow"}],
    "resourceAccessRules": [
        *OPEN["networkAcls"]["resourceAccessRules"],
        {"resourceId": SYNAPSE, "tenantId": TENANT},
    ],
}


def rules_room(mock: rm.Mocker) -> None:
    live_account(mock, **OPEN)
    subscription = {"id": f"/subscriptions/{SUBSCRIPTION}", "tenantId": TENANT}
    mock.get(f"{ARM}/subscriptions/{SUBSCRIPTION}", json=subscription)


def test_network_rules_are_added_to_those_that_are_there(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    rules_room(requests_mock)
    result = signed_in.run("azure-storage-account-network-rule-add", **ADD_RULES)
    assert bodies(requests_mock, "PATCH") == [{"properties": {"networkAcls": RULES_ADDED}}]
    assert "no effect until the default network action is Deny" in result.text
    assert change_of(signed_in.run("azure-storage-account-network-rule-add", **ADD_RULES))["changed"] is False
    assert (
        "Missing required argument `ip_rules`" in signed_in.run("azure-storage-account-network-rule-add", **ONE).error
    )


def test_network_rules_are_removed_among_others(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    rules_room(requests_mock)
    signed_in.run("azure-storage-account-network-rule-add", **ADD_RULES)
    removed = signed_in.run("azure-storage-account-network-rule-remove", **ONE, ip_rules="198.51.100.9,192.0.2.1")
    assert bodies(requests_mock, "PATCH")[-1]["properties"]["networkAcls"]["ipRules"] == [
        {"value": "198.51.100.0/28", "action": "Allow"}
    ]
    assert change_of(removed)["undo"].startswith("!azure-storage-account-network-rule-add")
    assert change_of(removed)["undo"].endswith("ip_rules=198.51.100.9")
    two = signed_in.run("azure-storage-account-network-rule-add", **ONE, ip_rules="192.0.2.7,198.51.100.0/28")
    assert change_of(two)["undo"].endswith("ip_rules=192.0.2.7"), "what was there before stays when it is undone"


def test_a_tenant_without_a_resource_instance_is_refused(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    args = {"ip_rules": "192.0.2.7", "tenant_id": TENANT}
    error = signed_in.run("azure-storage-account-network-rule-add", **ONE, **args).error
    assert "Missing required argument `resource_ids`" in error


def test_rules_without_effect_are_told_so(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    live_account(requests_mock, networkAcls={"defaultAction": "Deny"}, publicNetworkAccess="Disabled")
    result = signed_in.run("azure-storage-account-network-rule-add", **ONE, ip_rules="192.0.2.7")
    assert "Public network access is Disabled: rules for addresses and subnets have no effect." in result.text


LOCKS = f"{ACCOUNT_PATH}/providers/Microsoft.Authorization/locks"


def lock(scope: str, name: str, level: str) -> dict[str, Any]:
    return {
        "id": f"{scope}/providers/Microsoft.Authorization/locks/{name}",
        "name": name,
        "properties": {"level": level},
    }


class Locks:
    """The locks of an account, own and inherited, as ARM keeps them."""

    def __init__(self, mock: rm.Mocker, *found: dict[str, Any], account: str = ACCOUNT_PATH) -> None:
        self.found = {str(item["id"]).lower(): item for item in found}
        sent = account.replace("(", "%28").replace(")", "%29")
        own = f"{ARM}{sent}/providers/Microsoft.Authorization/locks"
        self.account = account
        mock.get(own, json=lambda request, context: {"value": list(self.found.values())})
        mock.put(re.compile(re.escape(own) + "/"), json=self._set)
        mock.delete(re.compile("/providers/Microsoft.Authorization/locks/"), text=self._remove)

    def _set(self, request: Any, context: Any) -> dict[str, Any]:
        name = unquote(urlsplit(request.url).path.rpartition("/")[2])
        item = {**lock(self.account, name, ""), **request.json()}
        self.found[str(item["id"]).lower()] = item
        return item

    def _remove(self, request: Any, context: Any) -> str:
        context.status_code = 200 if self.found.pop(unquote(urlsplit(request.url).path).lower(), None) else 204
        return ""


INHERITED = lock(GROUP_PATH, "all", "CanNotDelete")
OWN_LOCK = lock(ACCOUNT_PATH, "cortex-xsoar", "ReadOnly")


def test_a_lock_is_set_and_stays_as_it_is(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    Locks(requests_mock, INHERITED)
    result = signed_in.run("azure-storage-account-lock-set", **ONE, level="readonly", notes="case 1")
    assert bodies(requests_mock, "PUT") == [{"properties": {"level": "ReadOnly", "notes": "case 1"}}]
    assert query(last(requests_mock)) == {"api-version": "2020-05-01"}
    assert "does not protect blobs" in result.text
    assert change_of(result)["after"] == {"level": "ReadOnly", "notes": "case 1"}
    assert "account-lock-remove" in change_of(result)["undo"]
    assert change_of(signed_in.run("azure-storage-account-lock-set", **ONE, level="ReadOnly"))["changed"] is False
    softer = signed_in.run("azure-storage-account-lock-set", **ONE, level="CanNotDelete")
    assert 'lock_name=cortex-xsoar level=ReadOnly notes="case 1"' in change_of(softer)["undo"]
    assert bodies(requests_mock, "PUT")[-1] == {"properties": {"level": "CanNotDelete", "notes": "case 1"}}


def test_an_own_lock_is_removed_by_its_name_in_any_case(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    locks = Locks(requests_mock, INHERITED, OWN_LOCK)
    removed = signed_in.run("azure-storage-account-lock-remove", **ONE, lock_name="Cortex-XSOAR")
    (sent,) = [request for request in requests_mock.request_history if request.method == "DELETE"]
    assert urlsplit(sent.url).path == OWN_LOCK["id"]
    assert list(locks.found) == [INHERITED["id"].lower()]
    assert "level=ReadOnly" in change_of(removed)["undo"]
    assert "There is no lock" in signed_in.run("azure-storage-account-lock-remove", **ONE, lock_name="x").text


def test_an_inherited_lock_is_removed_only_with_confirm(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    locks = Locks(requests_mock, INHERITED, OWN_LOCK)
    refused = signed_in.run("azure-storage-account-lock-remove", **ONE, lock_name="all").error
    assert f"it protects everything in {GROUP_PATH}" in refused
    assert f"confirm={GROUP}" in refused
    assert not writes(requests_mock)
    wide = signed_in.run("azure-storage-account-lock-remove", **ONE, lock_name="all", confirm=GROUP)
    assert f"it protects everything in {GROUP_PATH}" in wide.text
    assert change_of(wide)["undo"] == ""
    assert list(locks.found) == [OWN_LOCK["id"].lower()]


def test_a_lock_that_goes_meanwhile_is_not_called_removed(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    locks = Locks(requests_mock, OWN_LOCK)

    def gone(request: Any, context: Any) -> dict[str, Any]:
        locks.found.clear()
        return arm_failure("LockNotFound")

    requests_mock.delete(ARM + OWN_LOCK["id"], status_code=404, json=gone)
    result = signed_in.run("azure-storage-account-lock-remove", **ONE, lock_name="cortex-xsoar")
    assert "There is no lock" in result.text
    assert change_of(result)["changed"] is False


def test_another_lock_of_the_same_level_is_not_taken_for_the_one_that_was_asked_for(
    signed_in: WarRoom, requests_mock: rm.Mocker
) -> None:
    requests_mock.get(ARM + LOCKS, json={"value": [lock(ACCOUNT_PATH, "other", "ReadOnly")]})
    requests_mock.put(f"{ARM}{LOCKS}/cortex-xsoar", exc=requests.exceptions.ReadTimeout)
    error = signed_in.run("azure-storage-account-lock-set", **ONE, level="ReadOnly").error
    assert "It is unknown whether Azure carried it out." in error


def test_a_lock_of_a_part_of_the_account_is_not_called_inherited(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    part = f"{CONTAINERS_PATH}/evidence"
    locks = Locks(requests_mock, lock(part, "keep", "CanNotDelete"))
    refused = signed_in.run("azure-storage-account-lock-remove", **ONE, lock_name="keep").error
    assert f"The lock protects only a part of the account: {part}. Nothing undoes it." in refused
    removed = signed_in.run("azure-storage-account-lock-remove", **ONE, lock_name="keep", confirm="evidence")
    assert "inherited" not in removed.text
    assert not locks.found


def test_what_a_lock_holds_beside_level_and_notes_stays(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    owned = json.loads(json.dumps(OWN_LOCK))
    owned["properties"]["owners"] = [{"applicationId": APP}]
    Locks(requests_mock, owned)
    result = signed_in.run("azure-storage-account-lock-set", **ONE, level="CanNotDelete", notes="case 1")
    assert bodies(requests_mock, "PUT")[-1]["properties"]["owners"] == [{"applicationId": APP}]
    assert "The undo leaves the notes as they are." in result.text


def test_a_lock_whose_answer_was_lost_is_shown_as_it_is_now(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    locks = Locks(requests_mock, OWN_LOCK)

    def lost(request: Any, context: Any) -> dict[str, Any]:
        locks.found[str(OWN_LOCK["id"]).lower()] = lock(ACCOUNT_PATH, "cortex-xsoar", "CanNotDelete")
        raise requests.exceptions.ReadTimeout

    requests_mock.put(f"{ARM}{LOCKS}/cortex-xsoar", json=lost)
    result = signed_in.run("azure-storage-account-lock-set", **ONE, level="CanNotDelete")
    assert result.context["AzureStorage.Lock(val.id && val.id == obj.id)"]["properties"]["level"] == "CanNotDelete"
    assert change_of(result)["after"] == {"level": "CanNotDelete"}


# Isolation

STEPS = [
    ("public_access", "PATCH", "allowBlobPublicAccess"),
    ("network", "PATCH", "networkAcls"),
    ("sftp", "PATCH", "isSftpEnabled"),
    ("shared_key", "PATCH", "allowSharedKeyAccess"),
    ("delegation_keys", "POST", "revokeUserDelegationKeys"),
    ("rotate key2", "POST", "key2"),
    ("rotate key1", "POST", "key1"),
]


def isolation_room(mock: rm.Mocker, broken: str = "") -> tuple[dict[str, Any], list[str]]:
    """An open account whose every change is written down, and of which one fails."""
    account, done = account_body(**json.loads(json.dumps(OPEN))), []

    def change(request: Any, context: Any) -> dict[str, Any]:
        sent = request.json() if request.body else {}
        what = list(sent.get("properties", {})) or [sent.get("keyName") or "revokeUserDelegationKeys"]
        if broken in what:
            context.status_code = 409
            return arm_failure("ScopeLocked", "The scope is locked by keep.")
        done.extend(what)
        account["properties"] |= sent.get("properties", {})
        return account if request.method == "PATCH" else KEYS

    mock.get(ARM + ACCOUNT_PATH, json=lambda request, context: account)
    mock.patch(ARM + ACCOUNT_PATH, json=change)
    for action in ("regenerateKey", "revokeUserDelegationKeys"):
        mock.post(f"{ARM}{ACCOUNT_PATH}/{action}", json=change)
    return account, done


def isolation_of(result: SimpleNamespace) -> dict[str, Any]:
    found: dict[str, Any] = result.context["AzureStorage.Isolation(val.id && val.id == obj.id)"]
    return found


def test_an_isolation_closes_everything_in_one_patch(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    account, done = isolation_room(requests_mock)
    result = signed_in.run("azure-storage-account-isolate", **ONE, **OWN, keep_ip_rules="198.51.100.200")
    assert done == [step for _, _, step in STEPS]
    assert writes(requests_mock) == ["PATCH", "POST", "POST", "POST"]
    rules = account["properties"]["networkAcls"]
    assert [rule["value"] for rule in rules["ipRules"]] == ["203.0.113.7", "198.51.100.200"]
    assert (rules["defaultAction"], rules["bypass"], rules["resourceAccessRules"]) == ("Deny", "AzureServices", [])
    assert isolation_of(result)["complete"] is True
    assert [row["step"] for row in isolation_of(result)["steps"]] == [step for step, _, _ in STEPS]
    assert {row["result"] for row in isolation_of(result)["steps"]} == {"done"}
    assert change_of(result)["after"]["properties"]["allowBlobPublicAccess"] is False
    assert "account-restore-settings" in change_of(result)["undo"]
    assert "MARKER" not in json.dumps(result.entry)


def test_an_isolation_that_is_repeated_keeps_the_older_record(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    account, _ = isolation_room(requests_mock)
    before = json.loads(json.dumps(account["properties"]))
    signed_in.run("azure-storage-account-isolate", **ONE, **OWN)
    again = signed_in.run("azure-storage-account-isolate", **ONE, **OWN, rotate_keys="no")
    assert [row["result"] for row in isolation_of(again)["steps"]] == ["already set"] * 4 + ["done"]
    assert isolation_of(again)["complete"] is True
    assert len(bodies(requests_mock, "PATCH")) == 1
    record = isolation_of(again)["restore"]
    assert record["settings"] == {key: before[key] for key in az.RESTORABLE}, "the older record wins"


def test_an_isolation_is_taken_back_from_what_is_remembered(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    account, _ = isolation_room(requests_mock)
    before = json.loads(json.dumps(account["properties"]))
    record = isolation_of(signed_in.run("azure-storage-account-isolate", **ONE, **OWN))["restore"]
    restored = signed_in.run("azure-storage-account-restore-settings", **ONE)
    assert account["properties"]["networkAcls"] == before["networkAcls"]
    assert account["properties"] == {**before, "allowSharedKeyAccess": True}
    assert "allowSharedKeyAccess" in restored.text
    assert (
        f"No saved isolation record for {ACCOUNT}"
        in signed_in.run("azure-storage-account-restore-settings", **ONE).error
    )
    wrong = signed_in.run("azure-storage-account-restore-settings", account_name="other", record=json.dumps(record))
    assert f"the record is for {ACCOUNT}, not for other" in wrong.error
    by_record = signed_in.run("azure-storage-account-restore-settings", record=json.dumps(record))
    assert change_of(by_record)["changed"] is False


def test_what_somebody_changed_after_an_isolation_is_not_opened_again(
    signed_in: WarRoom, requests_mock: rm.Mocker
) -> None:
    account, _ = isolation_room(requests_mock)
    result = signed_in.run("azure-storage-account-isolate", **ONE, **OWN)
    assert isolation_of(result)["restore"]["wrote"]["isSftpEnabled"] is False
    theirs = {"defaultAction": "Deny", "ipRules": [{"value": "192.0.2.1", "action": "Allow"}]}
    account["properties"]["networkAcls"] = theirs
    restored = signed_in.run("azure-storage-account-restore-settings", **ONE)
    assert account["properties"]["networkAcls"] == theirs
    assert "networkAcls" in restored.text and "somebody changed them after the isolation" in restored.text


def test_what_azure_fills_into_the_rules_is_not_taken_for_a_change_of_somebody(
    signed_in: WarRoom, requests_mock: rm.Mocker
) -> None:
    account = live_account(requests_mock, networkAcls={"defaultAction": "Allow", "bypass": "AzureServices"})
    only = {**dict.fromkeys(az.PARTS, "false"), "network": "true", **OWN}
    assert not signed_in.run("azure-storage-account-isolate", **ONE, **only).error
    rules = account["properties"]["networkAcls"]
    account["properties"]["networkAcls"] = {
        **{key: value for key, value in rules.items() if value != []},
        "ipv6Rules": [],
    }
    restored = signed_in.run("azure-storage-account-restore-settings", **ONE)
    assert "somebody changed them" not in restored.text
    assert account["properties"]["networkAcls"]["defaultAction"] == "Allow"


def test_a_restore_is_taken_back(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    account, _ = isolation_room(requests_mock)
    signed_in.run("azure-storage-account-isolate", **ONE, **OWN)
    isolated = json.loads(json.dumps(account["properties"]))
    undo, values = typed(change_of(signed_in.run("azure-storage-account-restore-settings", **ONE))["undo"])
    assert account["properties"] != isolated
    back = signed_in.run(*undo, **values)
    assert account["properties"] == isolated
    undo, values = typed(change_of(back)["undo"])
    assert not signed_in.run(*undo, **values).error
    assert account["properties"]["networkAcls"] == OPEN["networkAcls"]


@pytest.mark.parametrize("given", [True, False])
def test_a_record_that_is_used_up_is_forgotten(signed_in: WarRoom, requests_mock: rm.Mocker, given: bool) -> None:
    account, _ = isolation_room(requests_mock)
    record = isolation_of(signed_in.run("azure-storage-account-isolate", **ONE, **OWN))["restore"]
    account["properties"] |= {**record["settings"], "allowSharedKeyAccess": True}
    args = {"record": json.dumps(record)} if given else ONE
    assert change_of(signed_in.run("azure-storage-account-restore-settings", **args))["changed"] is False
    error = signed_in.run("azure-storage-account-restore-settings", **ONE).error
    assert "No saved isolation record" in error


def test_a_restore_that_fails_keeps_the_record(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    isolation_room(requests_mock)
    signed_in.run("azure-storage-account-isolate", **ONE, **OWN)
    requests_mock.patch(ARM + ACCOUNT_PATH, status_code=409, json=arm_failure("ScopeLocked"))
    assert "ScopeLocked" in signed_in.run("azure-storage-account-restore-settings", **ONE).error
    again = signed_in.run("azure-storage-account-restore-settings", **ONE).error
    assert "ScopeLocked" in again and "No saved isolation record" not in again


def test_an_account_that_moved_is_restored_by_its_new_id(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    isolation_room(requests_mock)
    record = isolation_of(signed_in.run("azure-storage-account-isolate", **ONE, **OWN))["restore"]
    moved = ACCOUNT_PATH.replace(GROUP, "rg-moved")
    account = live_account(requests_mock, moved, **record["wrote"])
    assert not signed_in.run("azure-storage-account-restore-settings", account_name=moved).error
    assert account["properties"]["allowBlobPublicAccess"] is True


def test_rules_that_an_isolation_would_ignore_are_refused(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    for name, value in (("keep_ip_rules", "192.0.2.1"), ("network_ruleset_bypass", "None")):
        error = signed_in.run("azure-storage-account-isolate", **ONE, network="false", **{name: value}).error
        assert "`network=false` can't be combined with" in error
    assert requests_mock.call_count == 0


def test_an_isolation_tells_all_that_it_leaves_open(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    live_account(requests_mock, **{**OPEN, "publicNetworkAccess": "SecuredByPerimeter"})
    only = {**dict.fromkeys(az.PARTS, "false"), "network": "true", "keep_existing_rules": "true", **OWN}
    text = signed_in.run("azure-storage-account-isolate", **ONE, **only, dry_run="true").text
    instance = OPEN["networkAcls"]["resourceAccessRules"][0]["resourceId"]
    for words in (
        f"resource instances: {instance}",
        "anonymous access to public containers",
        "user delegation SAS",
        "SFTP local users",
        "what the network security perimeter allows",
    ):
        assert f"Still allowed: {words}" in text


def test_an_isolation_that_azure_does_not_keep_is_not_called_complete(
    signed_in: WarRoom, requests_mock: rm.Mocker
) -> None:
    requests_mock.get(ARM + ACCOUNT_PATH, json=account_body(**OPEN))
    requests_mock.patch(ARM + ACCOUNT_PATH, json=account_body())
    only = {**dict.fromkeys(az.PARTS, "false"), "public_access": "true", "shared_key": "true"}
    found = isolation_of(signed_in.run("azure-storage-account-isolate", **ONE, **only))
    assert found["complete"] is False
    assert {row["result"] for row in found["steps"]} == {"failed"}


def test_an_isolation_in_another_group_is_taken_back_by_name(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    other = ACCOUNT_PATH.replace(GROUP, "rg-other")
    requests_mock.get(ARM + ACCOUNT_PATH, status_code=404, json=arm_failure("ResourceNotFound"))
    requests_mock.post(GRAPH, json={"data": [{"id": other}]})
    live_account(requests_mock, other, **OPEN)
    only = {**dict.fromkeys(az.PARTS, "false"), "public_access": "true"}
    assert not signed_in.run("azure-storage-account-isolate", **ONE, **only).error
    assert not signed_in.run("azure-storage-account-restore-settings", **ONE).error
    assert bodies(requests_mock, "PATCH")[-1] == {"properties": {"allowBlobPublicAccess": True}}


@pytest.mark.parametrize(("step", "method", "broken"), STEPS)
def test_an_isolation_that_fails_at_a_step_does_all_others(
    signed_in: WarRoom, requests_mock: rm.Mocker, step: str, method: str, broken: str
) -> None:
    account, done = isolation_room(requests_mock, broken)
    result = signed_in.run("azure-storage-account-isolate", **ONE, **OWN)
    assert done == [name for _, _, name in STEPS if name != broken]
    found = isolation_of(result)
    assert found["complete"] is False
    assert [row["step"] for row in found["steps"] if row["result"] == "failed"] == [step]
    assert "locked by keep" in json.dumps(found["steps"])
    assert result.entry["Type"] == 4
    assert "Failed: " in result.error and "locked by keep" in result.error
    assert broken not in json.dumps(change_of(result)["after"])
    assert account["properties"]["networkAcls"]["ipRules"][0]["value"] == (
        "198.51.100.9" if step == "network" else "203.0.113.7"
    )
    _, later = isolation_room(requests_mock)
    signed_in.run("azure-storage-account-isolate", **ONE, **OWN)
    assert broken in later


def test_an_isolation_of_which_nothing_works_is_an_error(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    requests_mock.get(ARM + ACCOUNT_PATH, json=account_body(**OPEN))
    requests_mock.register_uri("PATCH", ARM + ACCOUNT_PATH, status_code=403, json=arm_failure("AuthorizationFailed"))
    for action in ("regenerateKey", "revokeUserDelegationKeys"):
        requests_mock.post(f"{ARM}{ACCOUNT_PATH}/{action}", status_code=403, json=arm_failure("AuthorizationFailed"))
    result = signed_in.run("azure-storage-account-isolate", **ONE, **OWN)
    assert "AuthorizationFailed" in result.error
    assert "Required permission: Microsoft.Storage/storageAccounts/revokeUserDelegationKeys/action." in result.error
    assert "Required permission: Microsoft.Storage/storageAccounts/write." in result.error
    assert isolation_of(result)["complete"] is False
    assert change_of(result)["changed"] is False


def test_what_an_isolation_could_not_set_is_not_opened_by_its_undo(
    signed_in: WarRoom, requests_mock: rm.Mocker
) -> None:
    account, _ = isolation_room(requests_mock, "networkAcls")
    found = isolation_of(signed_in.run("azure-storage-account-isolate", **ONE, **OWN))
    assert "networkAcls" not in {**found["restore"]["settings"], **found["restore"]["wrote"]}
    by_hand = {
        **account["properties"]["networkAcls"],
        "defaultAction": "Deny",
        "ipRules": az.read_own_addresses("203.0.113.7"),
    }
    account["properties"]["networkAcls"] = by_hand
    isolation_room(requests_mock)  # Azure takes everything again
    live = live_account(requests_mock, **account["properties"])
    assert not signed_in.run("azure-storage-account-restore-settings", **ONE).error
    assert live["properties"]["networkAcls"] == by_hand
    assert live["properties"]["allowBlobPublicAccess"] is True


def test_of_an_isolation_that_azure_refused_nothing_is_remembered(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    isolation_room(requests_mock)
    requests_mock.patch(ARM + ACCOUNT_PATH, status_code=409, json=arm_failure("ScopeLocked"))
    assert isolation_of(signed_in.run("azure-storage-account-isolate", **ONE, **OWN))["restore"]["settings"] == {}
    assert "No saved isolation record" in signed_in.run("azure-storage-account-restore-settings", **ONE).error


def test_a_second_isolation_that_azure_refused_keeps_the_record_of_the_first(
    signed_in: WarRoom, requests_mock: rm.Mocker
) -> None:
    account, _ = isolation_room(requests_mock)
    first = isolation_of(signed_in.run("azure-storage-account-isolate", **ONE, **OWN))["restore"]
    account["properties"]["allowSharedKeyAccess"] = True
    requests_mock.patch(ARM + ACCOUNT_PATH, status_code=409, json=arm_failure("ScopeLocked"))
    again = isolation_of(signed_in.run("azure-storage-account-isolate", **ONE, **OWN))["restore"]
    assert (again["settings"], again["wrote"]) == (first["settings"], first["wrote"])


def test_a_record_takes_nothing_from_an_earlier_one_that_is_gone_when_it_is_saved(
    signed_in: WarRoom, requests_mock: rm.Mocker, monkeypatch: pytest.MonkeyPatch
) -> None:
    account, _ = isolation_room(requests_mock)
    signed_in.run("azure-storage-account-isolate", **ONE, **OWN)
    account["properties"]["allowSharedKeyAccess"] = True
    save, tries = az.SessionStore._save, list[int]()

    def beaten(store: az.SessionStore, context: dict[str, Any], version: Any) -> bool:
        tries.append(1)
        if len(tries) == 1:  # another command uses the record up in between
            store.edit(lambda document: document.pop("isolations"))
            return False
        return save(store, context, version)

    monkeypatch.setattr(az.SessionStore, "_save", beaten)
    record = isolation_of(signed_in.run("azure-storage-account-isolate", **ONE, **OWN))["restore"]
    assert len(tries) > 2
    assert (record["settings"], record["wrote"]) == ({"allowSharedKeyAccess": True}, {"allowSharedKeyAccess": False})


def test_a_dry_run_of_a_restore_forgets_nothing(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    account, _ = isolation_room(requests_mock)
    record = isolation_of(signed_in.run("azure-storage-account-isolate", **ONE, **OWN))["restore"]
    account["properties"] |= {**record["settings"], "allowSharedKeyAccess": True}
    for _ in range(2):
        assert not signed_in.run("azure-storage-account-restore-settings", **ONE, dry_run="true").error


def test_an_isolation_never_locks_us_out_unasked(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    account, _ = isolation_room(requests_mock)
    assert "Missing required argument `own_ip`" in signed_in.run("azure-storage-account-isolate", **ONE).error
    assert requests_mock.call_count == 0
    only = dict.fromkeys(az.PARTS, "false")
    assert not signed_in.run("azure-storage-account-isolate", **ONE, **{**only, "sftp": "true"}).error
    assert account["properties"]["networkAcls"]["defaultAction"] == "Allow"
    signed_in.params = {**signed_in.params, "own_ip_addresses": "203.0.113.8, 203.0.113.16/29"}
    signed_in.run("azure-storage-account-isolate", **ONE, keep_existing_rules="true", rotate_keys="false")
    rules = account["properties"]["networkAcls"]
    assert [rule["value"] for rule in rules["ipRules"]] == ["198.51.100.9", "203.0.113.8", "203.0.113.16/29"]
    assert rules["resourceAccessRules"] == OPEN["networkAcls"]["resourceAccessRules"]
    signed_in.params = {**signed_in.params, "own_ip_addresses": "10.0.0.1"}
    assert "Own Public IP Addresses" in signed_in.run("azure-storage-account-isolate", **ONE).error


# Freezing, policies, restoring


def held_container(mock: rm.Mocker, *tags: str) -> list[str]:
    """A container that keeps the tags of its legal hold."""
    held = list(tags)

    def hold() -> dict[str, Any]:
        return {"hasLegalHold": bool(held), "tags": [{"tag": tag} for tag in held]}

    def change(request: Any, context: Any) -> dict[str, Any]:
        sent = request.json()["tags"]
        held[:] = [tag for tag in held if tag not in sent] + (sent if "setLegalHold" in request.url else [])
        return {"hasLegalHold": bool(held), "tags": list(held)}

    body = {"id": EVIDENCE_PATH, "name": "evidence"}
    mock.get(ARM + EVIDENCE_PATH, json=lambda request, context: {**body, "properties": {"legalHold": hold()}})
    for action in ("setLegalHold", "clearLegalHold"):
        mock.post(f"{ARM}{EVIDENCE_PATH}/{action}", json=change)
    return held


def test_a_legal_hold_is_set_and_cleared_tag_by_tag(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    held = held_container(requests_mock, "old")
    result = signed_in.run("azure-storage-container-legal-hold-set", **EVIDENCE, tags="Case1234,old")
    assert bodies(requests_mock, "POST", "setLegalHold") == [{"tags": ["case1234"]}]
    assert change_of(result)["after"] == {"tags": ["case1234", "old"]}
    assert "container-legal-hold-clear" in change_of(result)["undo"]
    none = signed_in.run("azure-storage-container-legal-hold-clear", **EVIDENCE, tags="gone")
    assert change_of(none)["changed"] is False
    signed_in.run("azure-storage-container-legal-hold-clear", **EVIDENCE, tags="old")
    assert bodies(requests_mock, "POST", "clearLegalHold") == [{"tags": ["old"]}]
    assert held == ["case1234"]
    assert "3 to 23" in signed_in.run("azure-storage-container-legal-hold-set", **EVIDENCE, tags="a-b").error


POLICY = f"{EVIDENCE_PATH}/immutabilityPolicies/default"
DELETE_POLICY = "azure-storage-container-immutability-delete"


def policy_body(days: int, state: str = "Unlocked", **more: Any) -> dict[str, Any]:
    properties = {"immutabilityPeriodSinceCreationInDays": days, "state": state, **more}
    return {"id": POLICY, "name": "default", "etag": '"e1"', "properties": properties}


class Immutability:
    """The immutability policy of a container, which keeps what is sent to it."""

    def __init__(self, mock: rm.Mocker, days: int = 0, state: str = "Unlocked", **more: Any) -> None:
        self.body = policy_body(days, state, **more)
        mock.get(ARM + POLICY, json=lambda request, context: self.body)
        mock.put(ARM + POLICY, json=self._set)
        mock.delete(ARM + POLICY, json=self._delete)
        mock.post(f"{ARM}{POLICY}/lock", json=self._lock)
        mock.post(f"{ARM}{POLICY}/extend", json=self._set)

    def _set(self, request: Any, context: Any) -> dict[str, Any]:
        self.body["properties"] |= request.json()["properties"]
        return self.body

    def _lock(self, request: Any, context: Any) -> dict[str, Any]:
        self.body["properties"]["state"] = "Locked"
        return self.body

    def _delete(self, request: Any, context: Any) -> dict[str, Any]:
        self.body = policy_body(0)
        return self.body


def sent_to(mock: rm.Mocker, method: str, part: str) -> list[Any]:
    return [request for request in mock.request_history if request.method == method and part in request.url]


def test_an_immutability_policy_is_made(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    Immutability(requests_mock)
    result = signed_in.run("azure-storage-container-immutability-set", **EVIDENCE, days="30")
    assert bodies(requests_mock, "PUT") == [{"properties": {"immutabilityPeriodSinceCreationInDays": 30}}]
    assert "If-Match" not in sent_to(requests_mock, "PUT", "immutabilityPolicies")[0].headers
    assert "immutability-delete" in change_of(result)["undo"]
    assert change_of(result)["after"] == {"days": 30}


def test_an_immutability_policy_is_locked_for_good_with_confirm(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    Immutability(requests_mock, 30)
    lock_policy = "azure-storage-container-immutability-lock"
    assert "confirm=evidence" in signed_in.run(lock_policy, **EVIDENCE).error
    assert not writes(requests_mock)
    result = signed_in.run(lock_policy, **EVIDENCE, confirm="evidence")
    locked = sent_to(requests_mock, "POST", "/lock")
    assert [request.headers["If-Match"] for request in locked] == ['"e1"']
    assert change_of(result)["after"] == {"state": "Locked"}
    assert change_of(result)["undo"] == ""
    again = signed_in.run(lock_policy, **EVIDENCE, confirm="evidence")
    assert change_of(again)["changed"] is False
    assert len(sent_to(requests_mock, "POST", "/lock")) == 1


def test_a_locked_policy_can_only_be_extended(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    Immutability(requests_mock, 30, "Locked")
    set_policy = "azure-storage-container-immutability-set"
    assert "only be extended" in signed_in.run(set_policy, **EVIDENCE, days="7").error
    assert "can't be removed" in signed_in.run("azure-storage-container-immutability-delete", **EVIDENCE).error
    flag = {"allow_protected_append_writes": "true"}
    assert "only be extended" in signed_in.run(set_policy, **EVIDENCE, days="60", **flag).error
    assert not writes(requests_mock)
    signed_in.run(set_policy, **EVIDENCE, days="60")
    assert requests_to(requests_mock, "/extend")[0].headers["If-Match"] == '"e1"'
    assert bodies(requests_mock, "POST", "/extend") == [{"properties": {"immutabilityPeriodSinceCreationInDays": 60}}]


def test_a_policy_that_is_changed_keeps_what_it_allows(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    Immutability(requests_mock, 30, allowProtectedAppendWritesAll=True)
    result = signed_in.run("azure-storage-container-immutability-set", **EVIDENCE, days="40")
    assert bodies(requests_mock, "PUT")[-1] == {
        "properties": {"immutabilityPeriodSinceCreationInDays": 40, "allowProtectedAppendWritesAll": True}
    }
    assert change_of(result)["undo"].endswith("days=30")


def test_appends_that_no_undo_allows_again_are_told(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    set_policy = "azure-storage-container-immutability-set"
    for name, args in ((set_policy, {"allow_protected_append_writes": "false", "days": "30"}), (DELETE_POLICY, {})):
        policy = Immutability(requests_mock, 30, allowProtectedAppendWritesAll=True)
        result = signed_in.run(name, **EVIDENCE, **args)
        assert "doesn't restore allowProtectedAppendWritesAll" in result.text
        assert policy.body["properties"]["immutabilityPeriodSinceCreationInDays"] == int(args.get("days", 0))
    Immutability(requests_mock, 30)
    unset = signed_in.run(set_policy, **EVIDENCE, days="30", allow_protected_append_writes="false")
    assert change_of(unset)["changed"] is False, "not set means off"
    Immutability(requests_mock, 30, "Locked")
    longer = signed_in.run(set_policy, **EVIDENCE, days="40", allow_protected_append_writes="false")
    assert change_of(longer)["after"] == {"days": 40}


def test_an_immutability_policy_is_deleted_or_was_never_there(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    Immutability(requests_mock, 30)
    deleted = signed_in.run("azure-storage-container-immutability-delete", **EVIDENCE)
    assert change_of(deleted)["undo"].endswith("days=30")
    assert change_of(deleted)["after"] == {"days": 0}
    requests_mock.get(ARM + POLICY, status_code=404, json=arm_failure("ContainerImmutabilityPolicyNotFound"))
    assert signed_in.run("azure-storage-container-immutability-get", **EVIDENCE).raw["state"] is None
    assert "no immutability policy" in signed_in.run("azure-storage-container-immutability-lock", **EVIDENCE).error
    none = signed_in.run("azure-storage-container-immutability-delete", **EVIDENCE)
    assert "has no immutability policy" in none.text


ACL = (
    '<?xml version="1.0" encoding="utf-8"?><SignedIdentifiers>'
    "<SignedIdentifier><Id>partners</Id><AccessPolicy><Expiry>2028-01-01T00:00:00Z</Expiry>"
    "<Permission>rl</Permission></AccessPolicy></SignedIdentifier>"
    "<SignedIdentifier><Id>leaked &amp; old</Id><AccessPolicy><Permission>racwdl</Permission></AccessPolicy></SignedIdentifier>"
    "</SignedIdentifiers>"
)


def live_acl(mock: rm.Mocker, headers: dict[str, str], refused: str = "") -> None:
    """The policies of a container as the service keeps them; one kind of request may be refused."""
    kept = [ACL]

    def write(request: Any, context: Any) -> str:
        if refused and refused in request.headers:
            context.status_code = 409
            context.headers["x-ms-error-code"] = "PublicAccessNotPermitted"
        else:
            kept.append(request.body.decode())
        return ""

    acl = f"{BLOB_HOST}/evidence?restype=container&comp=acl"
    mock.get(acl, text=lambda request, context: kept[-1], headers=headers)
    mock.put(acl, text=write)


def test_a_public_level_that_goes_with_a_policy_is_told(blob_room: WarRoom, requests_mock: rm.Mocker) -> None:
    live_acl(requests_mock, {"x-ms-blob-public-access": "container"}, "x-ms-blob-public-access")
    result = blob_room.run("azure-storage-container-policy-revoke", **EVIDENCE, all_policies="true", dry_run="true")
    assert "Where the account forbids public access, the level container of the container goes, too." in result.text


def test_contract_one_policy_goes_and_the_rest_stays(blob_room: WarRoom, requests_mock: rm.Mocker) -> None:
    acl = f"{BLOB_HOST}/evidence?restype=container&comp=acl"
    headers = {"x-ms-blob-public-access": "container", "Last-Modified": "Fri, 20 Nov 2026 08:15:30 GMT"}
    live_acl(requests_mock, headers)
    rows = blob_room.run("azure-storage-container-policy-list", **EVIDENCE).raw
    assert next((row["policy"], row["permissions"]) for row in rows) == ("partners", "read, list")
    result = blob_room.run("azure-storage-container-policy-revoke", **EVIDENCE, policy="leaked & old,none")
    (sent,) = [request for request in requests_mock.request_history if request.method == "PUT"]
    assert sent.headers["x-ms-blob-public-access"] == "container"
    assert sent.headers["If-Unmodified-Since"] == headers["Last-Modified"]
    assert sent.body == (
        b'<?xml version="1.0" encoding="utf-8"?><SignedIdentifiers><SignedIdentifier><Id>partners</Id><AccessPolicy>'
        b"<Expiry>2028-01-01T00:00:00Z</Expiry><Permission>rl</Permission></AccessPolicy></SignedIdentifier></SignedIdentifiers>"
    )
    assert "There is no policy none" in result.text
    strange = blob_room.run("azure-storage-container-policy-revoke", **EVIDENCE, policy="a [x](https://evil.example)")
    assert "There is no policy a \\[x\\](https\\://evil.example)" in strange.text
    assert [entry["name"] for entry in change_of(result)["before"]["policies"]] == ["partners", "leaked & old"]
    requests_mock.get(acl, text="<SignedIdentifiers />")
    assert (
        change_of(blob_room.run("azure-storage-container-policy-revoke", **EVIDENCE, all_policies="true"))["changed"]
        is False
    )
    assert "Give exactly one of these" in blob_room.run("azure-storage-container-policy-revoke", **EVIDENCE).error


def test_contract_the_last_deleted_container_comes_back(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    deleted = [
        {**container_body(deleted=True, deletedTime=time, version=version), "name": "evidence"}
        for time, version in (("2027-01-02T00:00:00Z", "V2"), ("2027-01-01T00:00:00Z", "V1"))
    ]
    there = {"json": container_body()}
    gone = {"status_code": 404, "json": arm_failure("ContainerNotFound")}
    requests_mock.get(ARM + EVIDENCE_PATH, [gone, there])
    requests_mock.get(f"{ARM}{CONTAINERS_PATH}", json={"value": deleted})
    requests_mock.get(ARM + ACCOUNT_PATH, json=account_body())
    requests_mock.put(f"{BLOB_HOST}/evidence?restype=container&comp=undelete", status_code=201)
    result = signed_in.run("azure-storage-container-restore", **EVIDENCE)
    (sent,) = [request for request in requests_mock.request_history if request.method == "PUT"]
    assert sent.headers["x-ms-deleted-container-version"] == "V2"
    assert sent.headers["x-ms-deleted-container-name"] == "evidence"
    (listed,) = [query(request) for request in requests_mock.request_history if "include" in request.url]
    assert (listed["$include"], listed["$filter"]) == ("deleted", "evidence")
    assert change_of(result)["after"]["version"] == "V2"
    requests_mock.get(ARM + EVIDENCE_PATH, [gone])
    assert "there is V2, V1" in signed_in.run("azure-storage-container-restore", **EVIDENCE, version="V3").error
    requests_mock.get(ARM + EVIDENCE_PATH, [there])
    assert change_of(signed_in.run("azure-storage-container-restore", **EVIDENCE))["changed"] is False


RANGES = {**EVIDENCE, "time_to_restore": "2027-01-14T00:00:00Z"}


def restore_room(mock: rm.Mocker, *statuses: str, policy: dict[str, Any] | None = None, **properties: Any) -> None:
    pitr = {"enabled": True, "days": 7, "minRestoreTime": "2027-01-10T00:00:00.1234567Z"} if policy is None else policy
    blob_service(mock, {"restorePolicy": pitr})
    account = {**account_body(**properties), "kind": "StorageV2"}
    rounds = [
        {
            **account,
            "properties": {**account["properties"], "blobRestoreStatus": {"status": status, "restoreId": ident}},
        }
        for status, _, ident in (text.partition(" ") for text in statuses)
    ]
    mock.get(ARM + ACCOUNT_PATH, json=account)
    mock.get(f"{ARM}{ACCOUNT_PATH}?$expand=blobRestoreStatus", [{"json": body} for body in rounds or [account]])
    answer = {"status": "InProgress", "restoreId": "new"}
    mock.post(f"{ARM}{ACCOUNT_PATH}/restoreBlobRanges", status_code=202, json=answer)


def test_a_restore_is_started_followed_and_ends(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    restore_room(requests_mock, "Complete old", "Complete old", "InProgress new", "Complete new")
    first = signed_in.run("azure-storage-blob-ranges-restore", **RANGES, prefix="2026/")
    assert bodies(requests_mock, "POST", "restoreBlobRanges") == [
        {
            "timeToRestore": "2027-01-14T00:00:00Z",
            "blobRanges": [{"startRange": "evidence/2026/", "endRange": "evidence/20260"}],
        }
    ]
    again = first.entry["PollingArgs"]
    second = signed_in.run("azure-storage-blob-ranges-restore", **again)
    last_round = signed_in.run("azure-storage-blob-ranges-restore", **second.entry["PollingArgs"])
    assert last_round.raw["status"] == "Complete"
    assert len(bodies(requests_mock, "POST", "restoreBlobRanges")) == 1


@pytest.mark.parametrize(
    "target",
    [
        {"container_name": "evidence"},
        {"container_name": "evidence", "prefix": "a, b/"},
        {"container_name": "", "ranges": "box-1/a..box-1/b,box-2/..box-3/"},
        {"container_name": "", "blob_url": f"{BLOB_HOST}/evidence/a.txt"},
        {"container_name": "", "confirm_all": "true", "confirm": ACCOUNT},
    ],
)
def test_a_restore_of_anything_is_followed_to_its_end(
    signed_in: WarRoom, requests_mock: rm.Mocker, target: dict[str, str]
) -> None:
    restore_room(requests_mock, "Complete old", "InProgress new", "InProgress new", "Complete new")
    found = signed_in.run("azure-storage-blob-ranges-restore", **{**RANGES, **target})
    for _ in range(2):
        assert not found.error
        found = signed_in.run("azure-storage-blob-ranges-restore", **found.entry["PollingArgs"])
    assert found.raw["status"] == "Complete"
    (sent,) = bodies(requests_mock, "POST", "restoreBlobRanges")
    assert change_of(found)["changed"] is True
    assert found.raw["blobRanges"] == sent["blobRanges"]


def test_an_earlier_restore_is_not_taken_for_this_one(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    restore_room(requests_mock, "Complete old", "Complete old")
    first = signed_in.run("azure-storage-blob-ranges-restore", **RANGES)
    assert first.entry["PollingArgs"]["restore_id"] == "new"


def test_a_restore_goes_to_the_fraction_of_a_second(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    restore_room(requests_mock, "Complete old", "InProgress new")
    time = "2027-01-14T00:00:00.1234567Z"
    first = signed_in.run("azure-storage-blob-ranges-restore", **{**RANGES, "time_to_restore": time})
    assert [sent["timeToRestore"] for sent in bodies(requests_mock, "POST", "restoreBlobRanges")] == [time]
    assert first.entry["PollingArgs"]["time_to_restore"] == time


@pytest.mark.parametrize(
    ("room", "args", "words"),
    [
        ({"policy": {}}, {}, "its policy is off"),
        ({"isHnsEnabled": True}, {}, "hierarchical namespace"),
        ({}, {"time_to_restore": "2027-01-09T00:00:00Z"}, "earliest time is 2027-01-10"),
        ({}, {"time_to_restore": "2030-01-09T00:00:00Z"}, "in the future"),
        ({}, {"ranges": "a/b..a/c"}, "Give exactly one of these arguments"),
        ({}, {"container_name": ""}, "Give exactly one of these arguments"),
        ({"status": "InProgress"}, {}, "another restore is running"),
    ],
)
def test_a_restore_that_cannot_be_says_why_first(
    signed_in: WarRoom, requests_mock: rm.Mocker, room: dict[str, Any], args: dict[str, str], words: str
) -> None:
    restore_room(requests_mock, room.pop("status", "Complete"), **room)
    assert words in signed_in.run("azure-storage-blob-ranges-restore", **{**RANGES, **args}).error
    assert not writes(requests_mock)


# Logs


def event(number: int, operation: str, resource: str = ACCOUNT_PATH, caller: str = "ann@contoso.com") -> dict[str, Any]:
    return {
        "eventDataId": str(number),
        "eventTimestamp": f"2027-01-1{number}T00:00:00Z",
        "operationName": {"value": operation},
        "status": {"value": "Succeeded"},
        "caller": caller,
        "resourceId": resource,
    }


def test_the_activity_of_an_account_and_of_its_parts(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    path = f"/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Insights/eventtypes/management/values"
    events = [
        event(4, "Microsoft.Storage/storageAccounts/listKeys/action"),
        event(3, "Microsoft.Storage/storageAccounts/blobServices/containers/delete", f"{ACCOUNT_PATH.upper()}/x"),
        event(2, "Microsoft.Storage/storageAccounts/write", f"{ACCOUNT_PATH}2"),
        event(1, "Microsoft.Storage/storageAccounts/write", caller="bob@contoso.com"),
    ]
    live_account(requests_mock)
    paged(requests_mock, path, [events[:2], events[2:]], "2015-04-01")
    rows = signed_in.run("azure-storage-account-activity-list", **ONE, since="2027-01-01").raw
    assert [row["id"] for row in rows] == ["4", "3", "1"]
    assert query(requests_to(requests_mock, "eventtypes")[0])["$filter"] == (
        f"eventTimestamp ge '2027-01-01T00:00:00Z' and eventTimestamp le '2027-01-15T08:00:00Z' and resourceGroupName eq '{GROUP}'"
    )
    found = signed_in.run("azure-storage-account-activity-list", **ONE, operation="LISTKEYS", caller="ann").raw
    assert [row["id"] for row in found] == ["4"]
    first = signed_in.run("azure-storage-account-activity-list", **ONE, limit="1")
    token = first.context["AzureStorage(true)"]["ActivityNextToken"]
    assert [row["id"] for row in signed_in.run("azure-storage-account-activity-list", **ONE, next_token=token).raw] == [
        "3",
        "1",
    ]


def test_the_activity_before_a_time_is_that_of_its_day(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    live_account(requests_mock)
    requests_mock.get(re.compile("eventtypes/management/values"), json={"value": []})
    signed_in.run("azure-storage-account-activity-list", **ONE, until="2027-01-02T00:00:00Z")
    times = "eventTimestamp ge '2027-01-01T00:00:00Z' and eventTimestamp le '2027-01-02T00:00:00Z'"
    assert query(last(requests_mock))["$filter"].startswith(times)
    args = {"since": "2027-01-02T00:00:00Z", "until": "2027-01-01T00:00:00Z"}
    error = signed_in.run("azure-storage-account-activity-list", **ONE, **args).error
    assert "it has to be later than `since`" in error


SETTINGS = f"{SERVICE_PATH}/providers/Microsoft.Insights/diagnosticSettings"
WORKSPACE = f"{GROUP_PATH}/providers/Microsoft.OperationalInsights/workspaces/soc"


def test_logging_is_turned_on_and_keeps_what_is_there(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    requests_mock.get(ARM + SETTINGS, json={"value": []})
    requests_mock.put(f"{ARM}{SETTINGS}/cortex-xsoar", json={"name": "cortex-xsoar", "properties": {}})
    assert (
        "Not logged: StorageRead, StorageWrite, StorageDelete"
        in signed_in.run("azure-storage-account-logging-get", **ONE).text
    )
    assert "Missing required argument `workspace_id`" in signed_in.run("azure-storage-account-logging-set", **ONE).error
    signed_in.run("azure-storage-account-logging-set", **ONE, workspace_id=WORKSPACE)
    logs = [{"category": name, "enabled": True} for name in az.BLOB_LOGS]
    assert bodies(requests_mock, "PUT") == [{"properties": {"workspaceId": WORKSPACE, "logs": logs}}]
    metrics = [{"category": "Transaction", "enabled": True}]
    there = {"name": "Cortex-XSOAR", "properties": {"workspaceId": WORKSPACE, "logs": logs, "metrics": metrics}}
    requests_mock.get(ARM + SETTINGS, json={"value": [there]})
    assert change_of(signed_in.run("azure-storage-account-logging-set", **ONE))["changed"] is False
    off = signed_in.run("azure-storage-account-logging-set", **ONE, categories="StorageRead", enabled="false")
    assert bodies(requests_mock, "PUT")[-1]["properties"] == {
        "workspaceId": WORKSPACE,
        "metrics": metrics,
        "logs": [*logs[1:], {"category": "StorageRead", "enabled": False}],
    }
    assert "enabled=true" in change_of(off)["undo"]


def logging_room(mock: rm.Mocker, *settings: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Diagnostic settings that are kept as Azure keeps them."""
    held = {str(item["name"]).lower(): item for item in settings}

    def change(request: Any, context: Any) -> dict[str, Any] | None:
        name = urlsplit(request.url).path.rpartition("/")[2].lower()
        if request.method == "DELETE":
            context.status_code = 200 if held.pop(name, None) else 204
            return {}
        held[name] = {"id": f"{SETTINGS}/{name}", "name": name, **request.json()}
        return held[name]

    mock.get(ARM + SETTINGS, json=lambda request, context: {"value": list(held.values())})
    for method in ("PUT", "DELETE"):
        mock.register_uri(method, re.compile(re.escape(ARM + SETTINGS) + "/"), json=change)
    return held


def test_a_new_diagnostic_setting_is_deleted_by_its_undo(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    held = logging_room(requests_mock)
    result = signed_in.run("azure-storage-account-logging-set", **ONE, workspace_id=WORKSPACE)
    undo, values = typed(change_of(result)["undo"])
    gone = signed_in.run(*undo, **values)
    assert not held
    assert change_of(gone)["changed"] is True
    assert change_of(signed_in.run(*undo, **values))["changed"] is False
    undo, values = typed(change_of(gone)["undo"])
    assert not signed_in.run(*undo, **values).error
    assert held["cortex-xsoar"]["properties"]["workspaceId"] == WORKSPACE
    assert {log["category"] for log in held["cortex-xsoar"]["properties"]["logs"] if log["enabled"]} == {*az.BLOB_LOGS}


def test_a_diagnostic_setting_that_logs_something_else_is_not_deleted(
    signed_in: WarRoom, requests_mock: rm.Mocker
) -> None:
    metrics = [{"category": "Transaction", "enabled": True}]
    properties = {"workspaceId": WORKSPACE, "logs": [{"category": "StorageRead", "enabled": True}], "metrics": metrics}
    held = logging_room(requests_mock, {"name": "cortex-xsoar", "properties": properties})
    args = {"enabled": "false", "delete_empty": "true"}
    assert not signed_in.run("azure-storage-account-logging-set", **ONE, **args).error
    assert held["cortex-xsoar"]["properties"]["metrics"] == metrics
    assert not any(log["enabled"] for log in held["cortex-xsoar"]["properties"]["logs"])


def test_a_group_without_the_blob_logs_is_not_called_enough(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    audit = {"workspaceId": WORKSPACE, "logs": [{"categoryGroup": "audit", "enabled": True}]}
    logging_room(requests_mock, {"name": "cortex-xsoar", "properties": audit})
    assert "another setting_name" in signed_in.run("azure-storage-account-logging-set", **ONE).error


def test_a_group_stays_when_a_destination_is_added(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    logs = [{"categoryGroup": "allLogs", "enabled": True}]
    held = logging_room(requests_mock, {"name": "cortex-xsoar", "properties": {"workspaceId": WORKSPACE, "logs": logs}})
    result = signed_in.run("azure-storage-account-logging-set", **ONE, storage_account_id=ACCOUNT_PATH)
    assert held["cortex-xsoar"]["properties"] == {
        "workspaceId": WORKSPACE,
        "storageAccountId": ACCOUNT_PATH,
        "logs": logs,
    }
    assert "The undo leaves as they are: storage_account_id" in result.text


def test_a_setting_whose_answer_was_lost_is_shown_as_it_is_now(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    old = {"workspaceId": WORKSPACE, "logs": [{"category": "StorageRead", "enabled": False}]}
    held = logging_room(requests_mock, {"id": "s", "name": "cortex-xsoar", "properties": old})

    def lost(request: Any, context: Any) -> dict[str, Any]:
        held["cortex-xsoar"] = {"id": "s", "name": "cortex-xsoar", **request.json()}
        raise requests.exceptions.ReadTimeout

    requests_mock.put(f"{ARM}{SETTINGS}/cortex-xsoar", json=lost)
    result = signed_in.run("azure-storage-account-logging-set", **ONE, categories="StorageRead")
    assert result.raw["properties"]["logs"] == [{"category": "StorageRead", "enabled": True}]


# Quarantine

QUARANTINE = {**BLOB, "evidence_container_name": "secured", "case_id": "case-1"}
COPY = f"{BLOB_HOST}/secured/case-1/{ACCOUNT}/evidence/blobs/a.txt"
CONTENT = b"malware"
MD5 = base64.b64encode(hashlib.md5(CONTENT, usedforsecurity=False).digest()).decode()


class Evidence:
    """A blob service with one source, whose copy appears once it was asked for."""

    def __init__(
        self, mock: rm.Mocker, copy_status: str = "success", arrives: bytes = CONTENT, hold: int = 200
    ) -> None:
        self.mock, self.status, self.arrives, self.hold = mock, copy_status, arrives, hold
        self.metadata: dict[str, str] = {}
        self.sent: list[Any] = []
        self.tags = "<Tags><TagSet/></Tags>"
        source = {**BLOB_HEADERS, "ETag": '"0xS"', "Content-Length": str(len(CONTENT)), "Content-MD5": MD5}
        mock.head(f"{BLOB_HOST}/evidence/a.txt", headers=source)
        mock.delete(f"{BLOB_HOST}/evidence/a.txt", status_code=202)
        mock.register_uri("HEAD", COPY, text=self._there)
        mock.put(COPY, text=self._put)
        mock.get(COPY, content=self._get)
        mock.get(f"{COPY}?comp=tags", text=lambda request, context: self.tags)
        mock.get(f"{BLOB_HOST}/secured?restype=container&comp=list", text=blob_xml([]))

    def _head(self) -> dict[str, str]:
        return {
            **{key: value for key, value in BLOB_HEADERS.items() if not key.startswith("x-ms-meta")},
            "ETag": '"0xC"',
            "Content-Length": str(len(self.arrives)),
            "Content-MD5": base64.b64encode(hashlib.md5(self.arrives, usedforsecurity=False).digest()).decode(),
            "x-ms-copy-status": self.status,
            **self.metadata,
        }

    def _there(self, request: Any, context: Any) -> str:
        context.status_code = 200 if self.metadata else 404
        context.headers.update(self._head() if self.metadata else {"x-ms-error-code": "BlobNotFound"})
        return ""

    def _get(self, request: Any, context: Any) -> bytes:
        context.headers.update(
            {**self._head(), "Content-Range": f"bytes 0-{len(self.arrives) - 1}/{len(self.arrives)}"}
        )
        context.status_code = 206
        return self.arrives

    def _put(self, request: Any, context: Any) -> str:
        self.sent.append(request)
        comp = query(request).get("comp")
        context.status_code = {None: 202, "tags": 204}.get(comp, 201)
        if comp is None:
            self.metadata = {key: value for key, value in request.headers.items() if key.startswith("x-ms-meta")}
            context.headers.update({"x-ms-copy-id": "1", "x-ms-copy-status": self.status})
        if comp == "legalhold":
            context.status_code = self.hold
            context.headers.update({"x-ms-error-code": "FeatureNotSupportedForAccount"} if self.hold > 299 else {})
        if comp == "snapshot":
            context.headers["x-ms-snapshot"] = "2027-01-15T00:00:00Z"
        if comp == "tags":
            self.tags = request.body.decode()
        return ""

    def deleted(self) -> list[Any]:
        return [request for request in self.mock.request_history if request.method == "DELETE"]


def test_quarantine_copies_verifies_holds_and_then_deletes(blob_room: WarRoom, requests_mock: rm.Mocker) -> None:
    room = Evidence(requests_mock)
    result = blob_room.run("azure-storage-blob-quarantine", **QUARANTINE, delete_source="true")
    (row,) = result.raw
    copy = room.sent[0]
    assert copy.headers["x-ms-source-if-match"] == '"0xS"'
    assert copy.headers["If-None-Match"] == "*"
    assert copy.headers["x-ms-meta-case"] == "1", "the source's own metadata goes along"
    assert copy.headers["x-ms-copy-source"] == f"{BLOB_HOST}/evidence/a.txt"
    assert (row["result"], row["verified"], row["protection"]) == ("secured", "length and MD5", "legal hold")
    assert row["evidence"]["sha256"] == hashlib.sha256(CONTENT).hexdigest()
    assert [event["action"] for event in row["events"]] == [
        "copy requested",
        "copied",
        "verified",
        "tagged",
        "held",
        "source deletion requested",
        "source deleted",
    ]
    assert {event["actor"] for event in row["events"]} == {"ann@contoso.com"}
    assert [request.headers["If-Match"] for request in room.deleted()] == ['"0xS"']
    order = [request.method + (query(request).get("comp") or "") for request in requests_mock.request_history]
    assert order.index("DELETE") > order.index("PUTlegalhold") > order.index("GET")


def test_quarantine_can_be_repeated(blob_room: WarRoom, requests_mock: rm.Mocker) -> None:
    room = Evidence(requests_mock)
    blob_room.run("azure-storage-blob-quarantine", **QUARANTINE)
    writes_before = len(room.sent)
    room.metadata["x-ms-legal-hold"] = "true"
    again = blob_room.run("azure-storage-blob-quarantine", **QUARANTINE)
    assert again.raw[0]["result"] == "already secured"
    assert change_of(again)["changed"] is False
    assert len(room.sent) == writes_before
    assert not room.deleted()


@pytest.mark.parametrize("arrives", [b"malwarE", b"malwar"])
def test_quarantine_deletes_nothing_when_the_copy_differs(
    blob_room: WarRoom, requests_mock: rm.Mocker, arrives: bytes
) -> None:
    room = Evidence(requests_mock, arrives=arrives)
    error = blob_room.run("azure-storage-blob-quarantine", **QUARANTINE, delete_source="true").error
    assert "differs from its source" in error
    assert not room.deleted()


def test_quarantine_keeps_a_source_that_changed_meanwhile(blob_room: WarRoom, requests_mock: rm.Mocker) -> None:
    room = Evidence(requests_mock)
    requests_mock.delete(f"{BLOB_HOST}/evidence/a.txt", status_code=412, headers={"x-ms-error-code": "ConditionNotMet"})
    error = blob_room.run("azure-storage-blob-quarantine", **QUARANTINE, delete_source="true").error
    assert "ConditionNotMet" in error
    assert room.deleted()[0].headers["If-Match"] == '"0xS"'


def test_quarantine_takes_a_snapshot_where_no_hold_is_possible(blob_room: WarRoom, requests_mock: rm.Mocker) -> None:
    Evidence(requests_mock, hold=409)
    (row,) = blob_room.run("azure-storage-blob-quarantine", **QUARANTINE, sha256="false").raw
    assert row["protection"] == "snapshot 2027-01-15T00:00:00Z"
    assert [event["action"] for event in row["events"]] == [
        "copy requested",
        "copied",
        "verified",
        "tagged",
        "not held",
        "snapshot taken",
    ]


def test_quarantine_of_a_large_blob_waits_without_a_worker(blob_room: WarRoom, requests_mock: rm.Mocker) -> None:
    room = Evidence(requests_mock, "pending")
    first = blob_room.run("azure-storage-blob-quarantine", **QUARANTINE, delete_source="true")
    again = first.entry["PollingArgs"]
    assert not room.deleted()
    room.status = "success"
    room.metadata["x-ms-copy-status"] = "success"
    result = blob_room.run("azure-storage-blob-quarantine", **again)
    assert result.raw[0]["sourceDeleted"] is True
    room.metadata.clear()
    room.status = "failed"
    error = blob_room.run("azure-storage-blob-quarantine", **QUARANTINE, delete_source="true").error
    assert "ended with failed" in error
    assert len(room.deleted()) == 1


TWO = {**{k: v for k, v in QUARANTINE.items() if k != "blob_name"}, "blob_names": '["a.txt", "gone"]'}


def test_quarantine_goes_on_with_the_others_when_one_fails(blob_room: WarRoom, requests_mock: rm.Mocker) -> None:
    room = Evidence(requests_mock, "pending")
    for blob in (f"{BLOB_HOST}/evidence/gone", COPY.replace("a.txt", "gone")):
        requests_mock.head(blob, **BLOB_GONE)
    first = blob_room.run("azure-storage-blob-quarantine", **TWO)
    room.status = "success"
    result = blob_room.run("azure-storage-blob-quarantine", **first.entry["PollingArgs"])
    rows = result.context[az.QUARANTINE_VIEW.context]
    assert [(row["source"]["name"], row["result"]) for row in rows] == [("a.txt", "secured"), ("gone", "failed")]
    assert "BlobNotFound" in result.error
    assert change_of(result)["changed"] is True


def test_quarantine_without_polling_tells_what_is_known(blob_room: WarRoom, requests_mock: rm.Mocker) -> None:
    Evidence(requests_mock, "pending")
    result = blob_room.run("azure-storage-blob-quarantine", **QUARANTINE, polling="false")
    assert "PollingCommand" not in result.entry
    (row,) = result.context[az.QUARANTINE_VIEW.context]
    assert row["result"] == "copying"
    assert [event["action"] for event in row["events"]] == ["copy requested"]


def test_quarantine_never_writes_over_another_blob(blob_room: WarRoom, requests_mock: rm.Mocker) -> None:
    room = Evidence(requests_mock)
    room.metadata = {"x-ms-meta-owner": "somebody"}
    assert (
        "exists and is not a copy of this quarantine"
        in blob_room.run("azure-storage-blob-quarantine", **QUARANTINE).error
    )
    same = {**QUARANTINE, "evidence_container_name": "evidence"}
    assert "Choose another" in blob_room.run("azure-storage-blob-quarantine", **same).error
    assert not room.sent


# Posture


def posture_room(mock: rm.Mocker, *accounts: dict[str, Any]) -> None:
    """Accounts as Resource Graph has them; whatever is asked of one is forbidden, until a test says otherwise."""
    rows = [{**account, "tenantId": TENANT} for account in accounts]

    def graph(request: Any, context: Any) -> dict[str, Any]:
        counted = [{"subscriptionId": SUBSCRIPTION, "location": "westeurope", "accounts": len(rows)}]
        return {"data": counted if "| summarize" in request.json()["query"] else rows}

    mock.post(GRAPH, json=graph)
    mock.get(re.compile(re.escape(f"{ARM}{ACCOUNTS_PATH}/")), status_code=403, json=arm_failure("AuthorizationFailed"))


def named_account(name: str, **properties: Any) -> dict[str, Any]:
    return {**account_body(**properties), "id": f"{ACCOUNTS_PATH}/{name}", "name": name}


def posture_rows(result: SimpleNamespace) -> dict[tuple[str, str], dict[str, Any]]:
    rows = next(value for key, value in result.context.items() if key.startswith("AzureStorage.Posture("))
    return {(row["account"], row["check"]): row for row in rows}


def test_posture_of_two_accounts_of_which_little_may_be_read(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    bad = named_account("contosoweb", allowBlobPublicAccess=True, allowSharedKeyAccess=None)
    posture_room(requests_mock, named_account(ACCOUNT, allowBlobPublicAccess=False), bad)
    requests_mock.get(f"{ARM}{ACCOUNTS_PATH}/{ACCOUNT}/providers/Microsoft.Authorization/locks", json={"value": []})
    result = signed_in.run(
        "azure-storage-account-posture", account_name=f"{ACCOUNT},contosoweb,gone", include_passed="true"
    )
    rows = posture_rows(result)
    assert {number for _, number in rows} == {check.name for check in az.CHECKS}
    assert rows["contosoweb", "no-anonymous-blobs"]["result"] == "fail"
    assert rows["contosoweb", "no-shared-key"]["result"] == "unset", "null is not false"
    assert rows["contosoweb", "delete-lock"]["result"] == "unknown", "a 403 is no pass"
    assert "Microsoft.Authorization/locks/read" in rows["contosoweb", "delete-lock"]["evidence"]
    assert rows[ACCOUNT, "delete-lock"]["result"] == "fail"
    fix = "!azure-storage-posture-fix account_name=contosoweb check=no-anonymous-blobs"
    assert rows["contosoweb", "no-anonymous-blobs"]["fix"] == fix
    assert "Not found: gone." in result.text
    assert result.text.index("contosoweb") < result.text.index(f"| {ACCOUNT} |"), "the worst first"
    versions = {query(request)["api-version"] for request in requests_mock.request_history if request.method == "GET"}
    assert versions == {az.STORAGE_API, az.LOCKS_API, az.DIAGNOSTICS_API, az.DEFENDER_API, az.NEWEST_STORAGE_API}


def test_posture_of_many_accounts_is_one_query(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    posture_room(requests_mock, *(named_account(f"contoso{number}") for number in range(51)))
    result = signed_in.run("azure-storage-account-posture", include_passed="true")
    assert [request.method for request in requests_mock.request_history] == ["POST"]
    assert "Set deep=true for all checks." in result.text
    assert len(posture_rows(result)) == 51 * sum(check.source == "account" for check in az.CHECKS)


def test_posture_says_how_far_it_is_and_asks_each_source_once(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    posture_room(requests_mock, *(named_account(f"contoso{number}") for number in range(30)))
    signed_in.run("azure-storage-account-posture", deep="true", checks="25,26")
    assert "25 of 30 accounts" in str(signed_in.entries[0])
    asked = [urlsplit(request.url).path for request in requests_mock.request_history if "/locks" in request.url]
    assert len(asked) == len(set(asked)) == 30


@pytest.mark.parametrize(("report", "start"), [("csv", b"id,accountId,check"), ("html", b"<!DOCTYPE html>")])
def test_posture_as_a_file(
    signed_in: WarRoom,
    requests_mock: rm.Mocker,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    report: str,
    start: bytes,
) -> None:
    posture_room(requests_mock, named_account(ACCOUNT))
    signed_in.run("azure-storage-account-posture", deep="false", report=report)
    entry = signed_in.entries[-1]
    assert entry["File"] == f"azure-storage-posture.{report}"
    (path,) = tmp_path.iterdir()
    assert path.read_bytes().startswith(start)


def test_posture_of_nothing_and_of_an_unknown_check(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    assert "No storage account was found" in signed_in.run("azure-storage-account-posture").error
    assert "names or numbers of checks" in signed_in.run("azure-storage-account-posture", checks="nonsense").error


def deep_posture(room: WarRoom, **args: str) -> SimpleNamespace:
    """A deep check of one source for every account: what the run said last, and the accounts that it counted."""
    result = room.run("azure-storage-account-posture", deep="true", checks="blob-soft-delete", **args)
    contexts = [entry["EntryContext"] for entry in room.entries if isinstance(entry, dict) and "EntryContext" in entry]
    summaries = [value for context in contexts for key, value in (context or {}).items() if "PostureSummary(" in key]
    result.accounts = [row["account"] for rows in summaries for row in rows]
    return result


def test_posture_stays_inside_the_limits_of_resource_manager(
    signed_in: WarRoom, requests_mock: rm.Mocker, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No more than 800 reads in any five minutes; the run ends there, keeps what it found, and can be continued."""
    monkeypatch.setattr(az, "DEEP_PARALLEL", 1)  # threads that wait at once would add up their waits
    names = [f"contoso{number:03}" for number in range(900)]
    posture_room(requests_mock, *map(named_account, names))
    first = deep_posture(signed_in)
    assert "900 accounts; reads per account: 1" in str(signed_in.entries[0])
    assert "about 6 minutes" in str(signed_in.entries[0])
    assert len(requests_mock.request_history) == 802, "two questions to Resource Graph"
    assert sorted(first.accounts) == names[:800]
    assert first.text.startswith("Stopped after 800 accounts")
    assert first.text.endswith(f"start_after={ACCOUNTS_PATH}/contoso799")
    assert sum(clock.waits) == pytest.approx(30), "250 reads of a subscription in ten seconds"
    clock.time += 300
    second = deep_posture(signed_in, start_after=f"{ACCOUNTS_PATH}/contoso799".upper())
    assert sorted(second.accounts) == names[800:]
    assert "Stopped" not in second.text


def test_a_small_posture_waits_for_the_limit(
    signed_in: WarRoom, requests_mock: rm.Mocker, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(az, "DEEP_PARALLEL", 1)
    monkeypatch.setattr(az, "STORAGE_READS", 20)
    posture_room(requests_mock, *(named_account(f"contoso{number}") for number in range(30)))
    assert len(deep_posture(signed_in).accounts) == 30
    assert sum(clock.waits) == pytest.approx(300), "20 at once, and the others when five minutes have passed"


def test_a_long_posture_goes_on_by_itself_with_polling(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    names = [f"contoso{number:03}" for number in range(900)]
    posture_room(requests_mock, *map(named_account, names))
    again = deep_posture(signed_in, polling="true", account_name=",".join(names)).entry["PollingArgs"]
    assert again["start_after"] == f"{ACCOUNTS_PATH}/contoso799"
    assert (again["account_name"], again["deep"]) == (",".join(names), "true")
    assert again["interval_in_seconds"] == "300"


def test_a_posture_that_azure_throttles_keeps_what_it_found(
    signed_in: WarRoom, requests_mock: rm.Mocker, clock: FakeClock
) -> None:
    posture_room(requests_mock, *(named_account(f"contoso{number}") for number in range(9)))
    throttled: dict[str, Any] = {
        "status_code": 429,
        "json": arm_failure("TooManyRequests"),
        "headers": {"Retry-After": "300"},
    }
    requests_mock.get(f"{ARM}{ACCOUNTS_PATH}/contoso5/blobServices/default", **throttled)
    found = deep_posture(signed_in)
    assert sorted(found.accounts) == [f"contoso{number}" for number in range(5)]
    assert "429" in found.text
    assert found.text.endswith(f"start_after={ACCOUNTS_PATH}/contoso4")


def test_a_posture_whose_query_breaks_keeps_what_it_found(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    page = [named_account(f"contoso{number}") for number in range(60)]
    refused: dict[str, Any] = {"status_code": 403, "json": arm_failure("Forbidden")}
    requests_mock.post(GRAPH, [{"json": {"data": page, "$skipToken": "1"}}, refused])
    result = signed_in.run("azure-storage-account-posture", checks="https-only")
    assert "Stopped after 50 accounts: Could not search all subscriptions" in result.text
    assert "start_after=" in result.text


def test_a_posture_goes_on_only_where_it_was(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    """The names that were checked before are not told as lost; an account that is gone is no end of the list."""
    posture_room(requests_mock, *(named_account(f"contoso{number}") for number in range(3)))
    args = {"account_name": "contoso0,contoso1,contoso2", "deep": "false"}
    result = signed_in.run("azure-storage-account-posture", **args, start_after=f"{ACCOUNTS_PATH}/contoso1")
    assert {account for account, _ in posture_rows(result)} == {"contoso2"}
    assert "Not found" not in result.text
    gone = signed_in.run("azure-storage-account-posture", **args, start_after=f"{ACCOUNTS_PATH}/deleted")
    assert "none of these accounts" in gone.error
    last = signed_in.run("azure-storage-account-posture", **args, start_after=f"{ACCOUNTS_PATH}/contoso2")
    assert "after that of start_after" in last.error


def test_reads_beyond_a_limit_wait_until_the_oldest_ones_are_past(clock: FakeClock) -> None:
    account, budget, start = named_account("contoso1"), az.ReadBudget(), clock.time
    for _ in range(az.ARM_READS):
        budget.take(account, az.LOCKS_PATH)
    assert clock.waits == []
    budget.take(account, az.LOCKS_PATH)
    assert clock.waits == [az.ARM_SECONDS]
    for _ in range(az.STORAGE_READS + 1):
        budget.take(account, "/localUsers")
    assert clock.time - start >= az.STORAGE_SECONDS
    clock.waits.clear()
    budget.take({**account, "location": "elsewhere"}, "/localUsers")
    assert sum(clock.waits) <= az.ARM_SECONDS, "another region has its own limit"


# What other integrations for Azure Storage get wrong, and no test above shows


def test_an_object_without_an_id_gets_no_name_of_the_one_before(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    nameless = {"name": "second", "kind": "StorageV2", "properties": {}}
    requests_mock.get(ARM + ACCOUNTS_PATH, json={"value": [account_body(), nameless]})
    text = signed_in.run("azure-storage-account-list").text
    assert text.count(f"| {GROUP} |") == 1


def test_nothing_is_left_in_the_folder(
    blob_room: WarRoom, requests_mock: rm.Mocker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    Evidence(requests_mock)
    assert not blob_room.run("azure-storage-blob-quarantine", **QUARANTINE).error
    (record,) = [entry for entry in blob_room.entries if entry.get("File")]
    requests_mock.put(f"{BLOB_HOST}/evidence/a.txt", status_code=201)
    assert not blob_room.run("azure-storage-blob-put", **BLOB, text="x", overwrite="true").error
    requests_mock.put(f"{BLOB_HOST}/evidence/a.txt", status_code=403)
    assert blob_room.run("azure-storage-blob-put", **BLOB, text="x", overwrite="true").error
    assert [path.name for path in tmp_path.iterdir()] == [f"1_{record['FileID']}"], "the record, and nothing else"


def test_no_request_carries_the_headers_of_another(blob_room: WarRoom, requests_mock: rm.Mocker) -> None:
    requests_mock.head(f"{BLOB_HOST}/evidence/a.txt", headers=BLOB_HEADERS)
    requests_mock.put(f"{BLOB_HOST}/evidence/a.txt", status_code=200)
    blob_room.run("azure-storage-blob-metadata-set", **BLOB, metadata="secretcase=1")
    blob_room.run("azure-storage-blob-properties-get", **BLOB)
    assert not [name for name in last(requests_mock).headers if name.startswith("x-ms-meta")]
    assert "If-Match" not in last(requests_mock).headers


# What a review found, and must not come back


def test_new_content_is_not_called_secured_by_old_evidence(blob_room: WarRoom, requests_mock: rm.Mocker) -> None:
    room = Evidence(requests_mock)
    blob_room.run("azure-storage-blob-quarantine", **QUARANTINE)
    changed = {**BLOB_HEADERS, "ETag": '"0xNEW"', "Content-Length": "7"}
    requests_mock.head(f"{BLOB_HOST}/evidence/a.txt", headers=changed)
    result = blob_room.run("azure-storage-blob-quarantine", **QUARANTINE, delete_source="true")
    assert "has changed since it was secured" in result.error
    assert result.context, "the record goes into context all the same"
    assert not room.deleted()


def test_a_false_md5_of_the_uploader_is_told_and_the_source_kept(blob_room: WarRoom, requests_mock: rm.Mocker) -> None:
    room = Evidence(requests_mock)
    forged = {**BLOB_HEADERS, "ETag": '"0xS"', "Content-Length": "7", "Content-MD5": "AAAAAAAAAAAAAAAAAAAAAA=="}
    requests_mock.head(f"{BLOB_HOST}/evidence/a.txt", headers=forged)
    head = room._head
    room._head = lambda: {**head(), "Content-MD5": forged["Content-MD5"]}  # type: ignore[method-assign]
    (row,) = blob_room.run("azure-storage-blob-quarantine", **QUARANTINE, delete_source="true").raw
    assert az.FALSE_MD5 in row["verified"]
    assert row["protection"] == "legal hold"
    assert row["evidence"]["md5"] == hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()
    assert not room.deleted()
    blob_room.run("azure-storage-blob-quarantine", **QUARANTINE, delete_source="true", sha256="false")
    assert not room.deleted(), "what an earlier run found counts, too"


def test_contract_a_policy_goes_even_where_public_access_is_forbidden(
    blob_room: WarRoom, requests_mock: rm.Mocker
) -> None:
    live_acl(requests_mock, {"x-ms-blob-public-access": "blob"}, refused="x-ms-blob-public-access")
    assert not blob_room.run("azure-storage-container-policy-revoke", **EVIDENCE, policy="partners").error
    sent = [request.headers for request in requests_mock.request_history if request.method == "PUT"]
    assert ["x-ms-blob-public-access" in headers for headers in sent] == [True, False]


def test_a_prefix_without_a_container_never_means_everything(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    args = {**ONE, "time_to_restore": "1 hour", "prefix": "docs/", "confirm_all": "true"}
    assert (
        "Missing required argument `container_name`" in signed_in.run("azure-storage-blob-ranges-restore", **args).error
    )
    restore_room(requests_mock, "Complete")
    url = f"{BLOB_HOST}/box-1/report"
    one = signed_in.run("azure-storage-blob-ranges-restore", blob_url=url, time_to_restore="1 hour", dry_run="true")
    assert change_of(one)["after"]["blobRanges"] == [{"startRange": "box-1/report", "endRange": "box-1/report "}]


def test_a_rotation_that_stops_half_way_says_which_key_is_new(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    account = live_account(requests_mock, **OPEN)

    def rotate(request: Any, context: Any) -> dict[str, Any]:
        if request.json() == {"keyName": "key2"}:
            context.status_code = 409
            return arm_failure("StorageAccountOperationInProgress")
        account["properties"]["keyCreationTime"]["key1"] = "2027-01-15T08:00:00.5Z"
        return KEYS

    requests_mock.post(f"{ARM}{ACCOUNT_PATH}/regenerateKey", json=rotate)
    result = signed_in.run("azure-storage-account-key-rotate", **ONE, key="both")
    assert "Failed: rotate key2: " in result.error
    assert change_of(result)["after"] == {"key1": "2027-01-15T08:00:00.5Z"}
    assert [(row["step"], row["result"]) for row in change_of(result)["steps"]] == [
        ("rotate key1", "done"),
        ("rotate key2", "failed"),
    ]
    assert result.entry["Type"] == 4


def test_a_group_with_parentheses_and_an_odd_lock_name(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    raw = ACCOUNT_PATH.replace(GROUP, "rg(1)")
    sent = raw.replace("(", "%28").replace(")", "%29")
    own = lock(raw, "case#1", "CanNotDelete")
    Locks(requests_mock, own, account=raw)
    result = signed_in.run("azure-storage-account-lock-remove", **ONE, resource_group_name="rg(1)", lock_name="case#1")
    (removal,) = [request for request in requests_mock.request_history if request.method == "DELETE"]
    assert urlsplit(removal.url).path == f"{sent}/providers/Microsoft.Authorization/locks/case%231"
    assert "account-lock-set" in change_of(result)["undo"]


def test_logging_whose_answer_is_lost_is_shown_as_it_is_now(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    kept: list[Any] = []
    requests_mock.get(ARM + SETTINGS, json=lambda request, context: {"value": kept})
    setting = {"id": f"{SETTINGS}/cortex-xsoar", "name": "cortex-xsoar"}
    lose(requests_mock, "PUT", re.compile(SETTINGS), lambda request: kept.append({**setting, **request.json()}))
    result = signed_in.run("azure-storage-account-logging-set", **ONE, workspace_id=WORKSPACE)
    shown = result.context["AzureStorage.LoggingSettings(val.id && val.id == obj.id)"]
    assert shown["properties"]["workspaceId"] == WORKSPACE


def test_logging_by_groups_of_categories_is_left_alone(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    logs = [{"categoryGroup": "allLogs", "enabled": True}]
    setting = {"name": "cortex-xsoar", "properties": {"workspaceId": WORKSPACE, "logs": logs}}
    requests_mock.get(ARM + SETTINGS, json={"value": [setting]})
    assert change_of(signed_in.run("azure-storage-account-logging-set", **ONE))["changed"] is False
    assert "another setting_name" in signed_in.run("azure-storage-account-logging-set", **ONE, enabled="false").error


def test_an_account_elsewhere_is_not_called_deleted(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    other = ACCOUNT_PATH.replace(GROUP, "rg-other")
    requests_mock.get(ARM + ACCOUNT_PATH, status_code=404, json=arm_failure("ResourceNotFound"))
    requests_mock.post(GRAPH, json={"data": [{"id": other}]})
    vanishing_account(requests_mock, other)
    assert "Deleted." in signed_in.run("azure-storage-account-delete", **ONE, confirm=ACCOUNT).text
    assert writes(requests_mock) == ["DELETE"]


def test_an_account_is_not_deleted_elsewhere_than_the_arguments_say(
    signed_in: WarRoom, requests_mock: rm.Mocker
) -> None:
    other = ACCOUNT_PATH.replace(GROUP, "rg-other")
    requests_mock.get(ARM + ACCOUNT_PATH, status_code=404, json=arm_failure("ResourceNotFound"))
    requests_mock.post(GRAPH, json={"data": [{"id": other}]})
    vanishing_account(requests_mock, other)
    place = {"resource_group_name": GROUP, "subscription_id": SUBSCRIPTION}
    result = signed_in.run("azure-storage-account-delete", **ONE, **place, confirm=ACCOUNT)
    assert f"There is no storage account {ACCOUNT} in resource group {GROUP}." in result.text
    assert not writes(requests_mock)


# Leases, and what else is asked for although before equals after

LEASE, NEXT_LEASE = "11111111-2222-4333-8444-000000000001", "11111111-2222-4333-8444-000000000002"


class LeasedBlob:
    """The lease of a blob, as the service keeps it."""

    def __init__(self, mock: rm.Mocker, state: str = "available", lease: str = "") -> None:
        self.state, self.lease, self.sent = state, lease, list[dict[str, str]]()
        self.more: dict[str, str] = {}
        mock.register_uri("HEAD", f"{BLOB_HOST}/evidence/a.txt", text=self._head)
        mock.put(f"{BLOB_HOST}/evidence/a.txt?comp=lease", text=self._put)

    def _head(self, request: Any, context: Any) -> str:
        context.headers.update({**BLOB_HEADERS, **self.more, "x-ms-lease-state": self.state})
        return ""

    def _put(self, request: Any, context: Any) -> str:
        self.sent.append({k: v for k, v in request.headers.items() if k.startswith(("x-ms-lease", "x-ms-proposed"))})
        action = request.headers["x-ms-lease-action"]
        context.status_code = {"acquire": 201, "break": 202}.get(action, 200)
        self.state = {"release": "available", "break": "breaking"}.get(action, "leased")
        self.lease = request.headers.get("x-ms-proposed-lease-id") or self.lease or LEASE
        if action != "release":
            context.headers["x-ms-lease-id"] = self.lease
        if action == "break":
            context.headers["x-ms-lease-time"] = "17"
        return ""


BLOB_LEASES = [
    (
        "acquire",
        {"duration": "15"},
        {"x-ms-lease-action": "acquire", "x-ms-lease-duration": "15"},
        f"action=release lease_id={LEASE}",
    ),
    ("renew", {"lease_id": LEASE}, {"x-ms-lease-action": "renew", "x-ms-lease-id": LEASE}, ""),
    (
        "change",
        {"lease_id": LEASE, "proposed_lease_id": NEXT_LEASE},
        {"x-ms-lease-action": "change", "x-ms-lease-id": LEASE, "x-ms-proposed-lease-id": NEXT_LEASE},
        f"action=change lease_id={NEXT_LEASE} proposed_lease_id={LEASE}",
    ),
    (
        "release",
        {"lease_id": LEASE},
        {"x-ms-lease-action": "release", "x-ms-lease-id": LEASE},
        f"action=acquire proposed_lease_id={LEASE}",
    ),
    ("break", {"break_period": "20"}, {"x-ms-lease-action": "break", "x-ms-lease-break-period": "20"}, ""),
]


@pytest.mark.parametrize(("action", "args", "sent", "undo"), BLOB_LEASES)
def test_every_lease_action_of_a_blob_is_sent(
    blob_room: WarRoom, requests_mock: rm.Mocker, action: str, args: dict[str, str], sent: dict[str, str], undo: str
) -> None:
    room = LeasedBlob(requests_mock, "available" if action == "acquire" else "leased", LEASE)
    result = blob_room.run("azure-storage-blob-lease", **BLOB, action=action, **args)
    assert room.sent == [sent]
    assert not result.error
    assert change_of(result)["changed"] is True
    assert change_of(result)["undo"].endswith(undo) if undo else change_of(result)["undo"] == ""
    if action == "break":
        assert result.raw["leaseSecondsLeft"] == 17


def test_a_lease_that_is_renewed_twice_is_sent_twice(blob_room: WarRoom, requests_mock: rm.Mocker) -> None:
    room = LeasedBlob(requests_mock, "leased", LEASE)
    for _ in range(2):
        assert not blob_room.run("azure-storage-blob-lease", **BLOB, action="renew", lease_id=LEASE).error
    assert [headers["x-ms-lease-action"] for headers in room.sent] == ["renew", "renew"]


def test_undo_of_a_lease_restores_no_more_than_there_was(blob_room: WarRoom, requests_mock: rm.Mocker) -> None:
    room = LeasedBlob(requests_mock, "leased", LEASE)
    again = blob_room.run("azure-storage-blob-lease", **BLOB, action="acquire", proposed_lease_id=LEASE)
    assert change_of(again)["undo"] == "", "the lease was there before"
    room.more = {"x-ms-lease-duration": "fixed"}
    ended = blob_room.run("azure-storage-blob-lease", **BLOB, action="release", lease_id=LEASE)
    assert change_of(ended)["undo"].endswith(f"action=acquire proposed_lease_id={LEASE} duration=60")
    error = blob_room.run("azure-storage-blob-lease", **BLOB, action="acquire", lease_id=LEASE).error
    assert "`lease_id` can't be combined with `action=acquire`" in error
    assert [headers["x-ms-lease-action"] for headers in room.sent] == ["acquire", "release"]


CONTAINER_LEASES = [
    ("acquire", {"duration": "-1"}, {"action": "Acquire", "leaseDuration": -1}),
    ("renew", {"lease_id": LEASE}, {"action": "Renew", "leaseId": LEASE}),
    (
        "change",
        {"lease_id": LEASE, "proposed_lease_id": NEXT_LEASE},
        {"action": "Change", "leaseId": LEASE, "proposedLeaseId": NEXT_LEASE},
    ),
    ("release", {"lease_id": LEASE}, {"action": "Release", "leaseId": LEASE}),
    ("break", {"break_period": "0"}, {"action": "Break", "breakPeriod": 0}),
]


@pytest.mark.parametrize(("action", "args", "sent"), CONTAINER_LEASES)
def test_every_lease_action_of_a_container_is_sent(
    signed_in: WarRoom, requests_mock: rm.Mocker, action: str, args: dict[str, str], sent: dict[str, Any]
) -> None:
    before, after = {"acquire": ("Available", "Leased"), "release": ("Leased", "Available")}.get(
        action, ("Leased", "Broken" if action == "break" else "Leased")
    )
    states = [{"json": container_body(leaseState=state)} for state in (before, after)]
    requests_mock.get(f"{ARM}{CONTAINERS_PATH}/logs", states)
    requests_mock.post(f"{ARM}{CONTAINERS_PATH}/logs/lease", json={"leaseId": LEASE, "leaseTimeSeconds": "0"})
    result = signed_in.run("azure-storage-container-lease", **LOGS, action=action, **args)
    assert bodies(requests_mock, "POST", "/lease") == [sent]
    assert not result.error
    assert change_of(result)["changed"] is True


@pytest.mark.parametrize("status", [200, 202, 204])
def test_delegation_keys_are_revoked_each_time(signed_in: WarRoom, requests_mock: rm.Mocker, status: int) -> None:
    live_account(requests_mock)
    requests_mock.post(f"{ARM}{ACCOUNT_PATH}/revokeUserDelegationKeys", status_code=status)
    shown = signed_in.run("azure-storage-account-delegation-keys-revoke", **ONE, dry_run="true")
    assert "User delegation SAS are void" not in shown.text
    assert not writes(requests_mock)
    for _ in range(2):
        result = signed_in.run("azure-storage-account-delegation-keys-revoke", **ONE)
        assert "User delegation SAS are void" in result.text
        assert change_of(result)["changed"] is True
        assert change_of(result)["undo"] == ""
    assert writes(requests_mock) == ["POST", "POST"]


def test_a_key_that_was_never_rotated_is_rotated(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    """Azure may not tell when a key was made, so that before and after look the same."""
    live_account(requests_mock)
    requests_mock.post(f"{ARM}{ACCOUNT_PATH}/regenerateKey", json=KEYS)
    result = signed_in.run("azure-storage-account-key-rotate", **ONE, key="key1")
    assert bodies(requests_mock, "POST") == [{"keyName": "key1"}]
    assert change_of(result)["changed"] is True
    assert "stopped working" in result.text


# --- change: steps -----------------------------------------------------------------------------------------------------

STEP_REFUSED = {"action": "do it", "status": 409, "code": "Conflict", "detail": "No."}


def refused(**other: Any) -> az.ServiceError:
    return az.ServiceError(**{**STEP_REFUSED, **other})


def lost() -> az.NetworkError:
    """The request left, and no answer came."""
    return az.NetworkError("Could not do it: no answer.", "Check the network.", sent=True)


def failing(error: Exception) -> Any:
    def act() -> None:
        raise error

    return act


def never(*_: Any) -> Any:
    raise AssertionError("this must not be asked")


def done(name: str = "do it", **more: Any) -> az.Step:
    return az.Step(name, lambda: "answer", **more)


def failed(name: str = "fail", error: Exception | None = None, **more: Any) -> az.Step:
    return az.Step(name, failing(error or refused()), **more)


def results(steps: Any) -> list[tuple[str, str]]:
    return [(outcome.step.name, outcome.result) for outcome in az.take_all(steps)]


def test_a_step_that_is_done_is_not_looked_at() -> None:
    outcome = az.take(done(look=never))
    assert (outcome.result, outcome.answer, outcome.error) == (az.DONE, "answer", None)


def test_a_step_that_was_refused_has_failed_and_is_not_looked_at() -> None:
    outcome = az.take(failed(look=never))
    assert outcome.result == az.FAILED
    assert outcome.row() == {"step": "fail", "result": "failed", "detail": "Could not do it: 409 Conflict. No."}


def test_a_step_that_landed_although_its_answer_was_lost_is_done() -> None:
    outcome = az.take(failed(error=lost(), look=lambda error: True, detail="It is there."))
    assert outcome.row() == {"step": "fail", "result": "done", "detail": "It is there."}
    assert outcome.result in az.FINE


@pytest.mark.parametrize("found", [False, None])
@pytest.mark.parametrize("error", [lost(), refused(status=503), refused(status=500, repeated=True)])
def test_not_there_after_a_lost_answer_is_unknown_and_never_failed(error: Exception, found: bool | None) -> None:
    assert az.take(failed(error=error, look=lambda _: found)).result == az.UNSURE


@pytest.mark.parametrize("status", [404, 409, 412])
def test_the_answer_to_a_repeated_request_is_not_believed(status: int) -> None:
    error = refused(status=status, repeated=True)
    assert az.take(failed(error=error, look=lambda _: True)).result == az.DONE
    assert az.take(failed(error=error, look=lambda _: False)).result == az.FAILED
    assert az.take(failed(error=error, look=lambda _: None)).result == az.UNSURE


@pytest.mark.parametrize("status", [400, 403, 429])
def test_no_refusal_of_a_repeated_request_says_what_became_of_the_first(status: int) -> None:
    """As where a removed role was one's own: the second request is forbidden because the first was carried out."""
    error = refused(status=status, repeated=True)
    assert az.take(failed(error=error, look=lambda _: True)).result == az.DONE
    assert az.take(failed(error=error, look=lambda _: failing(refused(status=403))())).result == az.UNSURE
    assert az.take(failed(error=error)).result == az.UNSURE


@pytest.mark.parametrize("look", [None, failing(refused()), lambda error: failing(lost())()])
def test_where_nobody_can_look_it_stays_unknown(look: Any) -> None:
    wrapped = look and (lambda error: look(error) if look.__code__.co_argcount else look())
    assert az.take(failed(error=lost(), look=wrapped)).result == az.UNSURE


def test_a_step_with_nothing_to_do_says_so() -> None:
    outcome = az.take(az.Step("remove it", lambda: az.ALREADY))
    assert outcome.row() == {"step": "remove it", "result": "already set", "detail": ""}


def test_a_vital_step_that_is_missed_ends_the_rest() -> None:
    assert results([done("a"), failed("b"), done("c")]) == [("a", "done"), ("b", "failed")]
    assert results([failed("a", lost()), done("b")]) == [("a", "unknown")]


def test_another_step_that_is_missed_leaves_the_rest() -> None:
    found = results([failed("a", vital=False), failed("b", lost(), vital=False), done("c")])
    assert found == [("a", "failed"), ("b", "unknown"), ("c", "done")]


def test_a_generator_is_told_what_became_of_each_step() -> None:
    told: list[tuple[str, Any]] = []

    def steps() -> Any:
        outcome = yield failed("a", vital=False)
        told.append((outcome.result, outcome.answer))
        outcome = yield done("never" if outcome.result in az.FINE else "b")
        told.append((outcome.result, outcome.answer))

    assert results(steps()) == [("a", "failed"), ("b", "done")]
    assert told == [("failed", None), ("done", "answer")]


def test_what_a_generator_reads_between_steps_may_fail_like_a_step() -> None:
    def steps() -> Any:
        yield done("a")
        raise lost()

    first, second = az.take_all(steps())
    assert (first.result, second.result) == ("done", "failed")
    assert "no answer" in second.row()["detail"]


def test_a_tentative_step_that_fails_leaves_its_place_to_those_behind_it() -> None:
    assert results([failed("all", vital=False, tentative=True), done("one by one")]) == [("one by one", "done")]
    assert results([done("all", tentative=True)]) == [("all", "done")]
    assert results([failed("all", lost(), vital=False, tentative=True)]) == [("all", "unknown")]


# --- change: plans -----------------------------------------------------------------------------------------------------

THING = az.View("Thing", "Thing", {"Name": "name"})


def plan(*steps: az.Step, after: Any = None, **more: Any) -> az.Plan:
    """A change of a from 1 to 2, of which nothing is read back unless a test says so."""
    wanted = {"a": 2} if after is None else after
    return az.Plan("/thing", {"a": 1}, wanted, THING, steps, **{"undo": lambda old, new: f"!undo {old} {new}", **more})


def carry_out(found: az.Plan, typed: str | None = None, dry_run: bool = False) -> Any:
    return az.carry_out(found, "azure-storage-thing", dry_run, typed)


def told(result: Any) -> dict[str, Any]:
    found: dict[str, Any] = result.outputs["AzureStorage.Change"]
    return found


def reads(**now: Any) -> Any:
    return lambda outcomes: {"name": "it", **now}


def test_a_dry_run_sends_nothing_and_says_what_would_change() -> None:
    result = carry_out(plan(az.Step("x", never), read_back=never, confirm=("it", "Really.")), dry_run=True)
    assert "Dry run: no changes made." in result.readable_output
    assert "* a: 1 -> 2" in result.readable_output
    assert (told(result)["changed"], told(result)["dryRun"], told(result)["undo"]) == (False, True, "")
    assert (told(result)["before"], told(result)["after"]) == ({"a": 1}, {"a": 2})


def test_a_dry_run_does_not_drive_a_generator() -> None:
    def steps() -> Any:
        never()
        yield done()

    found = az.Plan("/thing", {"a": 1}, {"a": 2}, THING, steps(), planned=["first", "second"])
    assert "Steps:\n* first\n* second" in carry_out(found, dry_run=True).readable_output


@pytest.mark.parametrize("dry_run", [False, True])
def test_where_nothing_is_to_be_changed_nothing_is_sent(dry_run: bool) -> None:
    result = carry_out(plan(az.Step("x", never), after={"a": 1}), dry_run=dry_run)
    assert "No changes needed" in result.readable_output
    assert told(result)["changed"] is False


@pytest.mark.parametrize("typed", [None, "", "IT", "yes"])
def test_what_has_to_be_typed_has_to_be_typed_exactly(typed: str | None) -> None:
    with pytest.raises(az.UsageError, match=r"Nothing undoes it\. To go on, give `confirm=it`"):
        carry_out(plan(az.Step("x", never), confirm=("it", "Nothing undoes it.")), typed)
    assert told(carry_out(plan(done(), confirm=("it", "Nothing undoes it.")), "it"))["changed"] is True


def test_the_error_of_a_single_step_is_raised_as_it_is() -> None:
    error = refused()
    with pytest.raises(az.ServiceError) as caught:
        carry_out(plan(failed(error=error)))
    assert caught.value is error


def test_a_single_step_of_which_nothing_is_known_says_so() -> None:
    with pytest.raises(az.NetworkError, match="unknown whether Azure carried it out") as caught:
        carry_out(plan(failed(error=lost())))
    assert caught.value.next_step == "Look at the target before you run the command again. Check the network."


def test_what_was_done_stays_in_the_result_when_a_later_step_fails() -> None:
    result = carry_out(plan(done("a"), failed("b"), done("c")))
    assert result.entry_type == 4
    assert told(result)["changed"] is True
    assert told(result)["steps"] == [
        {"step": "a", "result": "done", "detail": ""},
        {"step": "b", "result": "failed", "detail": "Could not do it: 409 Conflict. No."},
    ]
    assert (
        isinstance(result.raw_response, str) and "Failed: b: Could not do it: 409 Conflict. No." in result.raw_response
    )


def test_a_broken_connection_in_a_later_step_loses_nothing_either() -> None:
    result = carry_out(plan(done("a"), failed("b", lost())))
    assert [row["result"] for row in told(result)["steps"]] == ["done", "unknown"]
    assert "It is unknown whether Azure carried it out. Next step: Look at the target before" in result.raw_response


def test_when_all_of_several_steps_fail_the_result_still_tells_each() -> None:
    steps = [failed(name, vital=False) for name in ("a", "b")]
    result = carry_out(plan(*steps, tell_steps=True))
    assert [row["result"] for row in told(result)["steps"]] == ["failed", "failed"]
    assert (told(result)["changed"], told(result)["undo"]) == (False, "")


def test_of_several_steps_that_fail_none_hides_another() -> None:
    steps = [failed("a", lost(), vital=False), failed("b", vital=False)]
    result = carry_out(plan(*steps))
    assert result.entry_type == 4
    assert [row["result"] for row in told(result)["steps"]] == ["unknown", "failed"]
    assert "a: Could not do it: no answer. It is unknown whether Azure carried it out." in result.raw_response
    assert told(result)["changed"] is False


def test_what_a_look_finds_stands_for_the_answer_that_was_lost() -> None:
    step = failed(error=lost(), look=lambda error: {"name": "it", "a": 2})
    result = carry_out(plan(step, item={"name": "it", "a": 1}, read_back=lambda outcomes: outcomes[-1].answer))
    assert result.outputs[THING.context] == {"name": "it", "a": 2}
    assert told(result)["after"] == {"a": 2}


def test_after_a_failure_that_leaves_nothing_to_read_no_setting_is_called_changed() -> None:
    result = carry_out(plan(done("a"), failed("b", lost()), read_back=lambda outcomes: failing(lost())()))
    assert "1 -> 2" not in result.raw_response
    assert (told(result)["changed"], told(result)["before"], told(result)["after"]) == (True, {}, {})
    assert told(result)["undo"] == "!undo {'a': 1} {'a': 2}"
    assert "Failed: The result could not be read back" in result.raw_response


def test_a_lacking_permission_is_named_among_several_failures() -> None:
    lacking = refused(status=403, code="AuthorizationFailed", needs="Microsoft.Storage/x/action")
    result = carry_out(plan(done("a"), failed("b", lacking)))
    assert "Required permission: Microsoft.Storage/x/action." in result.raw_response


def test_what_nobody_foresaw_loses_nothing_that_was_done() -> None:
    def steps() -> Any:
        yield done("a")
        raise KeyError("properties")

    for found in (plan(done("a"), failed("b", KeyError("properties"))), dataclasses.replace(plan(), steps=steps())):
        result = carry_out(found)
        assert told(result)["steps"][0] == {"step": "a", "result": "done", "detail": ""}
        assert "Unexpected error: KeyError: 'properties'." in result.raw_response
    for broken in ({"read_back": failing_with(KeyError)}, {"read_back": reads(a=2), "state": failing_with(KeyError)}):
        result = carry_out(plan(done(), **broken))
        assert "The result could not be read back: Unexpected error: KeyError" in result.raw_response
        assert told(result)["changed"] is True
    landed = failed(error=KeyError("x"), look=lambda error: True)
    assert az.take(landed).result == az.DONE
    with pytest.raises(az.NetworkError, match=r"Unexpected error: KeyError: 'x'\. It is unknown whether"):
        carry_out(plan(failed(error=KeyError("x"))))


def failing_with(kind: type[Exception]) -> Any:
    def raise_it(*_: Any) -> Any:
        raise kind("x")

    return raise_it


def test_what_is_reported_as_after_is_what_azure_says() -> None:
    result = carry_out(plan(done(), read_back=reads(a=2, other=9)))
    assert (told(result)["before"], told(result)["after"]) == ({"a": 1}, {"a": 2})
    assert told(result)["undo"] == "!undo {'a': 1} {'a': 2}"
    assert result.entry_type is None or result.entry_type == 1


def test_a_difference_after_reading_back_is_a_failure_that_names_it() -> None:
    result = carry_out(plan(done(), read_back=reads(a=3)))
    assert result.entry_type == 4
    assert "Failed: Azure accepted the change, but a is 3, not 2." in result.raw_response
    assert told(result)["after"] == {"a": 3}


def test_a_setting_that_was_put_back_is_no_change_to_undo() -> None:
    result = carry_out(plan(done(), read_back=reads(a=1), done="It is done."))
    assert result.entry_type == 4
    assert "It is done." not in result.raw_response
    assert told(result)["after"] == {}


def test_a_result_that_cannot_be_read_back_is_said_and_kept() -> None:
    result = carry_out(plan(done(), read_back=lambda outcomes: failing(refused())()))
    assert "Failed: The result could not be read back: Could not do it: 409" in result.raw_response
    assert (told(result)["changed"], told(result)["after"]) == (True, {"a": 2})


@pytest.mark.parametrize("wanted", [az.NEW, ("breaking", "broken")])
def test_a_value_that_the_service_chooses_or_one_of_several_is_fine(wanted: Any) -> None:
    result = carry_out(plan(done(), after={"a": wanted}, read_back=reads(a="broken")))
    assert result.entry_type != 4
    assert told(result)["after"] == {"a": "broken"}


def test_a_hidden_step_is_no_change_and_is_not_told() -> None:
    result = carry_out(plan(done("remember", hidden=True), failed("b", vital=False), tell_steps=True))
    assert told(result)["changed"] is False
    assert [row["step"] for row in told(result)["steps"]] == ["b"]


def test_a_step_with_nothing_to_do_is_no_change() -> None:
    result = carry_out(plan(az.Step("remove it", lambda: az.ALREADY), missed="It was not there.", done="Gone."))
    assert (told(result)["changed"], told(result)["before"], told(result)["after"]) == (False, {}, {})
    assert "It was not there." in result.readable_output
    assert "Gone." not in result.readable_output


def test_a_change_that_goes_on_is_neither_read_back_nor_reported() -> None:
    later = az.Later("Wait.", {})
    assert carry_out(plan(done(), read_back=never, later=lambda outcomes: later)) is later


def test_an_earlier_round_did_the_steps() -> None:
    found = plan(az.Step("x", never), carried_out=True, confirm=("it", "Really."))
    assert told(carry_out(found))["changed"] is True


# What is undone


def test_the_undo_sets_back_also_what_was_not_set() -> None:
    before: dict[str, Any] = {
        "properties": {"allowSharedKeyAccess": None, "minimumTlsVersion": "TLS1_2", "networkAcls": {}}
    }
    after = {"properties": {"allowSharedKeyAccess": False, "minimumTlsVersion": "TLS1_0"}}
    undo = az.undo_with("account-update", {"account_name": ACCOUNT}, az.UPDATE_FIELDS)
    assert undo(before, after) == (
        f"!azure-storage-account-update account_name={ACCOUNT} allow_shared_key_access=true minimum_tls_version=TLS1_2"
    )
    assert az.cannot_undo(before, az.UPDATE_FIELDS, after) == ""


def test_what_cannot_be_unset_is_named() -> None:
    before: dict[str, Any] = {"properties": {}}
    after = {"properties": {"allowBlobPublicAccess": False, "isSftpEnabled": True}}
    undo = az.undo_with("account-update", {}, az.UPDATE_FIELDS)
    assert undo(before, after) == "!azure-storage-account-update is_sftp_enabled=false"
    assert "allow_blob_public_access, which were not set before" in az.cannot_undo(before, az.UPDATE_FIELDS, after)
    assert undo({"properties": {}}, {"properties": {"allowBlobPublicAccess": False}}) == "", "nothing could be set back"


@pytest.mark.parametrize("nothing", [None, {}, []])
def test_what_was_empty_before_is_no_less_named(nothing: Any) -> None:
    before, after = {"tags": nothing, "sku": {"name": "Standard_LRS"}}, {"tags": {"a": "1"}, "sku": {"name": "x"}}
    undo = az.undo_with("account-update", {}, az.UPDATE_FIELDS)
    assert undo(before, after) == "!azure-storage-account-update sku=Standard_LRS"
    assert "tags, which were not set before" in az.cannot_undo(before, az.UPDATE_FIELDS, after)


# --- change: many blobs ------------------------------------------------------------------------------------------------


def row(name: str, result: str = "deleted", ok: bool | None = True, **more: Any) -> az.Row:
    return az.Row({"id": name, "name": name}, result, ok, **more)


def bulk(batches: Any, act: Any, **more: Any) -> az.Bulk:
    return az.Bulk(
        "/many", THING, "deleted", batches, act, lambda name: row(name, az.PLANNED), lambda rows: "!undo", **more
    )


def carry_out_bulk(found: az.Bulk, typed: str | None = None, dry_run: bool = False) -> Any:
    return az.carry_out_bulk(found, "azure-storage-thing", dry_run, typed)


def test_batches_are_read_as_they_are_needed() -> None:
    log: list[str] = []

    def batches() -> Any:
        for batch in (["a", "b"], ["c"]):
            log.append(f"read {batch[0]}")
            yield batch

    def act(batch: Any) -> Any:
        log.append(f"do {batch[0]}")
        return [row(name) for name in batch]

    result = carry_out_bulk(bulk(batches(), act))
    assert log == ["read a", "do a", "read c", "do c"]
    assert "3 deleted, 0 failed, 3 in all." in result.readable_output
    assert (told(result)["before"], told(result)["after"]) == ({"deleted": 0}, {"deleted": 3})
    assert told(result)["undo"] == "!undo"


def test_some_of_many_that_fail_are_an_error_with_all_rows_in_context() -> None:
    rows = {
        "a": row("a"),
        "b": row("b", "409 Conflict", False, error=refused()),
        "c": row("c", "?", None, error=lost()),
    }
    result = carry_out_bulk(bulk([list("abc")], lambda batch: [rows[name] for name in batch]))
    assert result.entry_type == 4
    assert "1 deleted, 1 failed, 1 unknown, 3 in all." in result.raw_response
    assert "2 of 3 blobs: Could not do it: 409 Conflict. No." in result.raw_response
    assert [item["result"] for item in result.outputs[THING.context]] == ["deleted", "409 Conflict", "?"]
    assert told(result)["changed"] is True


def test_what_was_done_stays_when_the_listing_breaks() -> None:
    def batches() -> Any:
        yield ["a"]
        raise lost()

    result = carry_out_bulk(bulk(batches(), lambda batch: [row(name) for name in batch]))
    assert result.entry_type == 4
    assert "The rest was not tried: Could not do it: no answer. Next step: Check the network." in result.raw_response
    assert told(result)["after"] == {"deleted": 1}
    with pytest.raises(az.NetworkError):
        carry_out_bulk(bulk(failing_batches(), never))


def test_what_nobody_foresaw_in_a_batch_loses_no_other() -> None:
    def act(batch: Any) -> Any:
        yield row(batch[0])
        if batch[0] == "b":
            raise KeyError("x")

    result = carry_out_bulk(bulk([["a"], ["b", "c"], ["d"]], act))
    assert [item["name"] for item in result.outputs[THING.context]] == ["a", "b"]
    assert "Unexpected error: KeyError: 'x'. It is unknown whether Azure carried it out." in result.raw_response


def failing_batches() -> Any:
    raise lost()
    yield []


def test_a_batch_whose_answer_is_lost_may_have_been_carried_out() -> None:
    def act(batch: Any) -> Any:
        if batch == ["b"]:
            raise lost()
        return [row(name) for name in batch]

    result = carry_out_bulk(bulk([["a"], ["b"], ["c"]], act))
    assert "Could not do it: no answer. It is unknown whether Azure carried it out." in result.raw_response
    with pytest.raises(az.NetworkError, match="unknown whether"):
        carry_out_bulk(bulk([["b"]], act))


def batch_answer(*parts: tuple[int, int, str]) -> dict[str, Any]:
    """The answer to a batch: the number of each part, its status and its error code."""
    text = "".join(
        f"--b_1\r\nContent-Type: application/http\r\nContent-ID: {number}\r\n\r\n"
        f"HTTP/1.1 {status} x\r\n{f'x-ms-error-code: {code}' if code else 'x-ms-version: 1'}\r\n\r\n"
        for number, status, code in parts
    )
    kind = {"Content-Type": "multipart/mixed; boundary=b_1; charset=utf-8"}
    return {"status_code": 202, "text": f"{text}--b_1--", "headers": kind}


def deletions(room: WarRoom, *names: str) -> tuple[SimpleNamespace, list[str]]:
    result = room.run("azure-storage-blob-delete", **EVIDENCE, blob_names=json.dumps(names))
    rows = result.context["AzureStorage.Blob(val.id && val.id == obj.id)"]
    return result, [item["result"] for item in rows]


def test_a_blob_that_is_named_twice_is_deleted_once(blob_room: WarRoom, requests_mock: rm.Mocker) -> None:
    requests_mock.post(f"{BLOB_HOST}/?comp=batch", **batch_answer((0, 202, ""), (1, 404, "BlobNotFound")))
    assert deletions(blob_room, "a", "a")[1] == ["deleted", "not found"]


def test_of_a_part_that_a_batch_does_not_answer_nothing_is_known(blob_room: WarRoom, requests_mock: rm.Mocker) -> None:
    requests_mock.post(f"{BLOB_HOST}/?comp=batch", **batch_answer((0, 202, "")))
    result, rows = deletions(blob_room, "a", "b")
    assert rows[0] == "deleted"
    assert "1 deleted, 0 failed, 1 unknown, 2 in all." in result.error
    assert "It is unknown whether Azure carried it out." in result.error


def test_what_a_repeated_batch_does_not_find_was_deleted_by_the_first(
    blob_room: WarRoom, requests_mock: rm.Mocker
) -> None:
    again = batch_answer((0, 404, "BlobNotFound"), (1, 202, ""))
    requests_mock.post(f"{BLOB_HOST}/?comp=batch", [{"exc": requests.exceptions.ReadTimeout}, again])
    assert deletions(blob_room, "a", "b")[1] == ["deleted", "deleted"]


def test_a_permission_that_a_part_of_a_batch_lacks_is_named(blob_room: WarRoom, requests_mock: rm.Mocker) -> None:
    lacking = "AuthorizationPermissionMismatch"
    requests_mock.post(f"{BLOB_HOST}/?comp=batch", **batch_answer((0, 403, lacking), (1, 202, "")))
    assert f"Required permission: {az.DELETE_BLOB}." in deletions(blob_room, "a", "b")[0].error


def test_one_blob_that_fails_keeps_its_own_words() -> None:
    with pytest.raises(az.ServiceError, match="409 Conflict"):
        carry_out_bulk(bulk([["a"]], lambda batch: [row("a", "409", False, error=refused())]))
    with pytest.raises(az.NetworkError, match="unknown whether"):
        carry_out_bulk(bulk([["a"]], lambda batch: [row("a", "?", None, error=lost())]))


def test_a_blob_that_was_not_there_is_neither_a_failure_nor_a_change() -> None:
    result = carry_out_bulk(bulk([["a"]], lambda batch: [row("a", "not found", changed=False)]))
    assert "0 deleted, 0 failed, 1 in all." in result.readable_output
    assert (told(result)["changed"], told(result)["undo"]) == (False, "")


def test_a_dry_run_of_many_rehearses_each() -> None:
    result = carry_out_bulk(bulk([["a", "b"]], never, confirm=("box-1", "All of it.")), dry_run=True)
    assert "0 deleted, 0 failed, 2 in all." in result.readable_output
    assert [item["result"] for item in result.outputs[THING.context]] == ["planned", "planned"]
    assert (told(result)["changed"], told(result)["dryRun"]) == (False, True)


def test_many_need_what_has_to_be_typed() -> None:
    with pytest.raises(az.UsageError, match="give `confirm=box-1`"):
        carry_out_bulk(bulk(failing_batches(), never, confirm=("box-1", "All of it.")))


# --- the registry ------------------------------------------------------------------------------------------------------


def toy(
    azure: az.Azure,
    name: az.Text,
    count: az.Count,
    secret: az.SecretText | None = None,
    flag: az.Flag = False,
    *,
    handle: az.Text | None = None,
) -> Any:
    return {"name": name, "count": count, "secret": secret, "flag": flag, "handle": handle}


def toy_command(run: Any = toy, **more: Any) -> az.Command:
    return az.Command("azure-storage-toy", run, aliases={"nmae": "name"}, **more)


def call(found: az.Command, **args: Any) -> Any:
    return found.call(SimpleNamespace(look_elsewhere=lambda error: False), args)  # type: ignore[arg-type]


def test_all_missing_arguments_are_named_at_once() -> None:
    with pytest.raises(az.UsageError) as caught:
        call(toy_command(), name="  ", flag="true")
    assert str(caught.value) == (
        "Missing required arguments: `name` (text); `count` (a whole number from 1 to 1000000)."
    )
    with pytest.raises(az.UsageError, match=r"Missing required argument `count`\. Expected: a whole number"):
        call(toy_command(), name="x")


def test_an_unknown_argument_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(az.UsageError) as caught:
        call(toy_command(), nam="x")
    message = str(caught.value)
    assert message == "Unknown argument `nam`. azure-storage-toy accepts: count, flag, name, nmae, secret."
    assert "handle" not in message, "only a later round has it"


def test_another_spelling_is_the_same_argument() -> None:
    assert call(toy_command(), nmae="x", count="1")["name"] == "x"
    assert call(toy_command(), nmae="x", name="x", count=1)["name"] == "x"
    assert call(toy_command(), nmae="x", name="", count=1)["name"] == "x"
    with pytest.raises(az.UsageError, match="`name` and its other spelling contradict"):
        call(toy_command(), nmae="x", name="y", count="1")


@pytest.mark.parametrize(("given", "flag"), [(True, True), ("yes", True), ("NO", False), (False, False), (None, False)])
def test_values_of_playbooks_are_read_as_those_of_people(given: Any, flag: bool) -> None:
    assert call(toy_command(), name="x", count=7, flag=given)["flag"] is flag


def test_a_secret_never_appears_in_a_refusal() -> None:
    def strict(azure: az.Azure, sas: az.Sas) -> None: ...

    with pytest.raises(az.UsageError) as caught:
        call(az.Command("azure-storage-toy", strict), sas="https://x/?sig=MARKER&broken")
    assert "MARKER" not in str(caught.value)


def later_toy(later: az.Later) -> Any:
    def run(
        azure: az.Azure, name: az.Text, secret: az.SecretText | None = None, *, handle: az.Text | None = None
    ) -> Any:
        return later

    return toy_command(run, polling=az.Polling(10, 600))


def test_a_later_round_carries_no_secret_and_what_it_needs() -> None:
    found = later_toy(az.Later("Wait.", {"handle": "h1"}))
    schedule = call(found, nmae="x", secret="marker-secret").scheduled_command.to_results()
    assert schedule["PollingCommand"] == "azure-storage-toy"
    assert (schedule["NextRun"], schedule["Timeout"]) == ("10", "600")
    assert schedule["PollingArgs"] == {
        "name": "x",
        "handle": "h1",
        "polling": "true",
        "interval_in_seconds": "10",
        "timeout_in_seconds": "600",
    }


@pytest.mark.parametrize(
    ("asked", "given", "next_run"), [(0, "", "10"), (30, "", "30"), (30, "60", "60"), (5, "", "10")]
)
def test_the_interval_is_lengthened_and_never_shortened(asked: int, given: str, next_run: str) -> None:
    result = call(later_toy(az.Later("Wait.", {}, asked)), name="x", interval_in_seconds=given)
    schedule = result.scheduled_command.to_results()
    assert schedule["NextRun"] == next_run
    assert schedule["PollingArgs"]["interval_in_seconds"] == next_run


def test_without_polling_the_command_ends_with_its_words_or_its_failure() -> None:
    result = call(later_toy(az.Later("Wait.", {})), name="x", polling="false")
    assert (result.readable_output, result.scheduled_command) == ("Wait.", None)
    pending = az.SignInPending("Not yet.")
    with pytest.raises(az.SignInPending, match="Not yet"):
        call(later_toy(az.Later("Wait.", {}, failure=pending)), name="x", polling="false")


def test_planning_is_repeated_where_the_account_is_found_and_carrying_out_never() -> None:
    planned: list[str] = []
    misplaced = refused(status=404, code="ResourceNotFound")

    def run(azure: az.Azure, name: az.Text) -> az.Plan:
        planned.append(name)
        if len(planned) == 1:
            raise misplaced
        return plan(failed(error=misplaced))

    elsewhere = SimpleNamespace(look_elsewhere=lambda error: True)
    with pytest.raises(az.ServiceError, match="ResourceNotFound"):
        toy_command(run, changes=True).call(elsewhere, {"name": "x"})  # type: ignore[arg-type]
    assert planned == ["x", "x"]


def test_an_unknown_command_is_not_implemented(war_room: WarRoom) -> None:
    with pytest.raises(NotImplementedError, match="no command azure-storage-unheard-of"):
        az.run("azure-storage-unheard-of", DEVICE_PARAMS, {})
    assert "There is no command azure-storage-unheard-of" in war_room.run("azure-storage-unheard-of").error


def test_what_the_registry_gives_every_command() -> None:
    for name, found in az.COMMANDS.items():
        arguments = found.own_arguments()
        assert ("dry_run" in arguments) is found.changes, name
        assert ("confirm" in arguments) is found.confirm, name
        assert ("interval_in_seconds" in arguments) is (found.polling is not None), name
        assert set(found.aliases.values()) <= set(arguments), name
        assert not set(found.aliases) & set(arguments), name


# --- transport and answers ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("following", ["a", "", "b"])
def test_a_listing_that_goes_in_circles_ends(following: str) -> None:
    chain = {"a": "b", "b": "c", "c": following}
    if not following:
        assert [here for _, here, _ in az.paged(lambda here: ([], chain[here]), "a", "list")] == ["a", "b", "c"]
        return
    with pytest.raises(az.NetworkError, match="Could not list: the pages of the listing repeat themselves"):
        list(az.paged(lambda here: ([], chain[here]), "a", "list"))


def test_a_page_that_follows_itself_ends() -> None:
    with pytest.raises(az.NetworkError):
        list(az.paged(lambda here: ([{}], "same"), "same", "list"))


@pytest.mark.parametrize("limit", range(1, 9))
def test_slices_of_any_size_are_the_whole_collection(limit: int) -> None:
    pages: dict[str, tuple[list[int], str]] = {
        "": ([0, 1, 2], "p1"),
        "p1": ([], "p2"),
        "p2": ([3], "p3"),
        "p3": ([4, 5, 6], ""),
    }

    def fetch(here: str) -> tuple[list[Any], str]:
        return [{"n": number} for number in pages[here][0]], pages[here][1]

    found: list[int] = []
    place, skip = "", 0
    for _ in range(20):
        paging = az.Paging(limit=limit, place=place, skip=skip)
        part = az.collect(az.paged(fetch, place, "list"), paging, lambda item: item["n"] != 2)
        found += [item["n"] for item in part.items]
        if not part.token:
            break
        place, skip = az.read_token(part.token)
    assert found == [0, 1, 3, 4, 5, 6]


@pytest.mark.parametrize("items", [0, 3])
def test_a_place_beyond_the_end_is_no_empty_listing(items: int) -> None:
    pages = az.paged(lambda here: ([{}] * items, ""), "p1", "list")
    with pytest.raises(az.UsageError, match="the listing ends before that place"):
        az.collect(pages, az.Paging(place="p1", skip=4))
    again = az.paged(lambda here: ([{}] * 4, ""), "p1", "list")
    assert az.collect(again, az.Paging(place="p1", skip=4)).items == []


@pytest.mark.parametrize("token", ["", "e30", "!!!", "bnVsbA", "eyJ1IjoxLCJzIjowfQ", "eyJ1IjoiYSIsInMiOi0xfQ"])
def test_a_token_of_ours_is_told_from_anything_else(token: str) -> None:
    with pytest.raises(ValueError):
        az.read_token(token)


class Slow:
    """A body that arrives in pieces, each of which takes its time."""

    def __init__(self, clock: FakeClock, seconds: float, pieces: int, size: int = 10) -> None:
        self.clock, self.seconds, self.left, self.size = clock, seconds, pieces, size
        self.raw, self.url = self, "https://x.example/y?sig=MARKER"

    def read1(self, amount: int, decode_content: bool) -> bytes:
        self.clock.time += self.seconds
        self.left -= 1
        return b"x" * self.size if self.left >= 0 else b""


def test_an_answer_has_a_deadline_as_a_whole(clock: FakeClock) -> None:
    assert len(b"".join(az.pieces(Slow(clock, 1, 170), 1 << 20))) == 1700  # type: ignore[arg-type]
    body = Slow(clock, 30, 1000)
    with pytest.raises(az.NetworkError, match=r"x\.example took longer than 180 seconds") as caught:
        list(az.pieces(body, 1 << 20))  # type: ignore[arg-type]
    assert caught.value.sent
    assert body.left > 990, "given up in time"
    assert "MARKER" not in str(caught.value)


def test_an_answer_has_a_largest_size(clock: FakeClock) -> None:
    assert len(b"".join(az.pieces(Slow(clock, 0, 4, 1 << 20), 4 << 20))) == 4 << 20  # type: ignore[arg-type]
    with pytest.raises(az.NetworkError, match="larger than 4 MiB"):
        list(az.pieces(Slow(clock, 0, 10_000, 1 << 20), 4 << 20))  # type: ignore[arg-type]


class Connection(Slow):
    """The same, read from the connection straight into room, or by urllib3 where the length is not the announced one."""

    def __init__(self, clock: FakeClock, seconds: float, pieces: int, size: int, announced: int) -> None:
        super().__init__(clock, seconds, pieces, size)
        self._fp, self.headers, self.asked, self.released = self, {"Content-Length": str(announced)}, list[int](), False

    def readinto(self, room: memoryview) -> int:
        self.asked.append(len(room))
        came = b"".join(self.read1(self.size, False) for _ in range(-(-len(room) // self.size)))[: len(room)]
        room[: len(came)] = came
        return len(came)

    def release_conn(self) -> None:
        self.released = True


def read_into(body: Connection, size: int) -> tuple[int, bytes]:
    room = memoryview(bytearray(size))
    return az.read_into(body, room), bytes(room)  # type: ignore[arg-type]


def test_a_transfer_asks_for_more_at_once_where_much_arrives(clock: FakeClock) -> None:
    size = 3 * az.LARGE_READ
    body = Connection(clock, 0, size // az.SMALL_READ, az.SMALL_READ, size)
    assert read_into(body, size) == (size, b"x" * size)
    assert body.asked[:2] == [az.SMALL_READ, az.LARGE_READ], "a first small piece came fast"
    assert body.released, "another request may use the connection"


def test_what_is_left_of_a_broken_transfer_is_told_and_its_connection_not_used_again(clock: FakeClock) -> None:
    body = Connection(clock, 0, 1, az.SMALL_READ, 1 << 20)
    got, room = read_into(body, 1 << 20)
    assert (got, room[got:]) == (az.SMALL_READ, bytes((1 << 20) - got))
    assert not body.released


def test_a_body_of_another_length_than_announced_is_read_with_care(clock: FakeClock) -> None:
    body = Connection(clock, 0, 3, 10, 31)
    assert read_into(body, 30) == (30, b"x" * 30)
    assert not body.asked
    assert not body.released, "urllib3 knows whether it was read to its end"
    with pytest.raises(az.NetworkError, match="is larger than"):
        read_into(Connection(clock, 0, 4, 10, 40), 30)


def test_a_slow_transfer_meets_its_deadline(clock: FakeClock) -> None:
    body = Connection(clock, 30, 1000, 10, 1 << 20)
    body.readinto = lambda room: len(body.read1(10, False))  # type: ignore[method-assign]
    with pytest.raises(az.NetworkError, match="took longer than 180 seconds"):
        read_into(body, 1 << 20)
    assert body.left > 990, "given up in time"


NOT_ARM = ["", " ", "null", "{}", "[]", "true", '"text"', "<html>Sign in</html>", '{"value": null}', '{"value": {}}']


@pytest.mark.parametrize("body", [*NOT_ARM, '{"value": ["text"]}', '{"value": [null]}'])
def test_a_body_that_is_no_list_is_never_an_empty_one(signed_in: WarRoom, requests_mock: rm.Mocker, body: str) -> None:
    requests_mock.get(f"{ARM}/subscriptions", text=body)
    result = signed_in.run("azure-storage-subscriptions-list")
    assert "management.azure.com answered 200 with something that is not" in result.error
    assert "may have answered in Azure's place" in result.error
    assert not result.context


@pytest.mark.parametrize(
    "body", [*NOT_ARM, '{"id": ""}', '{"id": "x", "properties": []}', '{"id": "x", "properties": null}']
)
def test_a_body_that_is_no_account_is_never_one(signed_in: WarRoom, requests_mock: rm.Mocker, body: str) -> None:
    requests_mock.get(ARM + ACCOUNT_PATH, text=body)
    result = signed_in.run("azure-storage-account-list", account_name=ACCOUNT)
    assert "with something that is not" in result.error
    assert not result.context


@pytest.mark.parametrize("body", NOT_ARM[2:])
def test_a_change_that_a_proxy_answers_is_not_called_done(
    signed_in: WarRoom, requests_mock: rm.Mocker, body: str
) -> None:
    requests_mock.get(ARM + ACCOUNT_PATH, json=account_body(minimumTlsVersion="TLS1_0"))
    requests_mock.patch(ARM + ACCOUNT_PATH, text=body)
    error = signed_in.run("azure-storage-account-update", **ONE, minimum_tls_version="TLS1_2").error
    assert "It is unknown whether Azure carried it out." in error


@pytest.mark.parametrize(("text", "headers"), [("<html>Blocked</html>", {}), ("", {"Via": "a proxy"})])
def test_a_deletion_that_a_proxy_answers_is_not_called_done(
    signed_in: WarRoom, requests_mock: rm.Mocker, text: str, headers: dict[str, str]
) -> None:
    live_account(requests_mock)
    requests_mock.delete(ARM + ACCOUNT_PATH, text=text, headers=headers)
    error = signed_in.run("azure-storage-account-delete", **ONE, confirm=ACCOUNT).error
    assert "with something that is not" in error
    assert "It is unknown whether Azure carried it out." in error


@pytest.mark.parametrize("status", [201, 202, 203, 204, 206])
def test_an_undocumented_code_of_resource_manager_is_refused(
    signed_in: WarRoom, requests_mock: rm.Mocker, status: int
) -> None:
    requests_mock.get(ARM + ACCOUNT_PATH, status_code=status, json=account_body())
    error = signed_in.run("azure-storage-account-list", account_name=ACCOUNT).error
    assert f"answered {status} with something that is not a documented answer" in error


@pytest.mark.parametrize("status", [201, 203, 204, 206])
def test_an_undocumented_code_of_the_blob_service_is_refused(
    blob_room: WarRoom, requests_mock: rm.Mocker, status: int
) -> None:
    requests_mock.head(f"{BLOB_HOST}/evidence/a.txt", status_code=status, headers=BLOB_HEADERS)
    error = blob_room.run("azure-storage-blob-properties-get", **BLOB).error
    assert f"answered {status} with something that is not an answer of the blob service" in error


def test_a_404_of_a_proxy_does_not_say_that_a_blob_is_not_there(blob_room: WarRoom, requests_mock: rm.Mocker) -> None:
    requests_mock.head(f"{BLOB_HOST}/evidence/a.txt", status_code=404, headers={"Via": "a proxy"})
    result = blob_room.run("azure-storage-blob-put", **BLOB, text="x")
    assert "Could not read the properties of blob evidence/a.txt: 404" in result.error
    assert not writes(requests_mock)


PROXY = {"Via": "a proxy"}  # the fixture then adds none of the headers that Azure's answers have


@pytest.mark.parametrize("headers", [{}, {"x-ms-request-id": "1"}, {"x-ms-version": az.BLOB_API}])
def test_a_blob_answer_without_the_headers_of_the_service_is_refused(
    blob_room: WarRoom, requests_mock: rm.Mocker, headers: dict[str, str]
) -> None:
    requests_mock.head(f"{BLOB_HOST}/evidence/a.txt", headers={**BLOB_HEADERS, **PROXY, **headers})
    requests_mock.get(f"{BLOB_HOST}/evidence", text=blob_xml([]), headers={**PROXY, **headers})
    requests_mock.put(f"{BLOB_HOST}/evidence/a.txt", status_code=201, headers={**PROXY, **headers})
    for name, args in (
        ("properties-get", BLOB),
        ("list", EVIDENCE),
        ("put", {**BLOB, "text": "x", "overwrite": "true"}),
    ):
        error = blob_room.run(f"azure-storage-blob-{name}", **args).error
        assert "not an answer of the blob service" in error, name


@pytest.mark.parametrize("text", ["", "{}", "<html/>", "<Blobs/>", "<EnumerationResults>", "<Error/>", blob_xml([""])])
def test_a_listing_of_blobs_has_its_own_root(blob_room: WarRoom, requests_mock: rm.Mocker, text: str) -> None:
    requests_mock.get(f"{BLOB_HOST}/evidence", text=text)
    result = blob_room.run("azure-storage-blob-list", **EVIDENCE)
    assert "did not answer with a whole listing" in result.error
    assert not result.context


@pytest.mark.parametrize("text", ["", "<html/>", "<Tag/>", "null"])
def test_tags_of_a_blob_have_their_own_root(blob_room: WarRoom, requests_mock: rm.Mocker, text: str) -> None:
    requests_mock.get(f"{BLOB_HOST}/evidence/a.txt?comp=tags", text=text)
    assert "not <Tags>" in blob_room.run("azure-storage-blob-tags-get", **BLOB).error


def test_a_refusal_of_a_repeated_request_knows_that_it_is_one(clock: FakeClock, requests_mock: rm.Mocker) -> None:
    requests_mock.delete("https://x.example/y", [{"status_code": 503}, {"status_code": 404}])
    answer = az.Network(True).exchange("DELETE", "https://x.example/y", action="try")
    assert (answer.status_code, len(answer.history)) == (404, 1)
    requests_mock.delete("https://x.example/y", [{"status_code": 429}, {"status_code": 404}])
    assert az.Network(True).exchange("DELETE", "https://x.example/y", action="try").history == []


def met(words: str, path: str = "/") -> str:
    """What requests puts into an exception of a connection that did not come about, or that broke."""
    return f"HTTPSConnectionPool(host='x.example', port=443): Max retries exceeded with url: {path} (Caused by {words})"


@pytest.mark.parametrize(
    ("fault", "sent"),
    [
        (requests.exceptions.ConnectTimeout(), False),
        (requests.exceptions.ConnectionError("NewConnectionError: refused"), False),
        (requests.exceptions.ConnectionError(met("NameResolutionError('Failed to resolve')")), False),
        (requests.exceptions.ProxyError(met("ProxyError('x', OSError('Tunnel connection failed: 407 x'))")), False),
        (requests.exceptions.ProxyError(met("ProxyError('x', ConnectTimeoutError('timed out'))")), False),
        (requests.exceptions.SSLError(met("SSLError('CERTIFICATE_VERIFY_FAILED')")), False),
        (requests.exceptions.SSLError(met("SSLError('UNEXPECTED_EOF_WHILE_READING')")), True),
        (requests.exceptions.SSLError(met("SSLError('UNEXPECTED_EOF')", "/box-1/NewConnectionError")), True),
        (requests.exceptions.ReadTimeout(), True),
        (requests.exceptions.ConnectionError("ConnectionResetError"), True),
    ],
)
def test_a_network_error_tells_whether_the_request_may_have_arrived(
    clock: FakeClock, requests_mock: rm.Mocker, fault: Exception, sent: bool
) -> None:
    requests_mock.put("https://x.example/y", exc=fault)
    with pytest.raises(az.NetworkError) as caught:
        az.Network(True).exchange("PUT", "https://x.example/y", action="try", replayable=False)
    assert caught.value.sent is sent


def test_a_change_that_no_connection_carried_has_failed_and_is_not_unknown(
    signed_in: WarRoom, requests_mock: rm.Mocker
) -> None:
    requests_mock.get(ARM + ACCOUNT_PATH, json=account_body(minimumTlsVersion="TLS1_0"))
    fault = requests.exceptions.ConnectionError(met("NameResolutionError('Failed to resolve')"))
    requests_mock.patch(ARM + ACCOUNT_PATH, exc=fault)
    error = signed_in.run("azure-storage-account-update", **ONE, minimum_tls_version="TLS1_2").error
    assert "could not be resolved (DNS)" in error
    assert "unknown" not in error


@pytest.mark.parametrize(
    ("status", "repeated", "sent"),
    [
        *((status, False, True) for status in (408, 500, 502, 503, 504)),
        *((status, repeated, repeated) for status in (400, 403, 404, 409, 412, 429, 501) for repeated in (False, True)),
    ],
)
def test_an_answer_tells_whether_the_request_may_have_been_carried_out(status: int, repeated: bool, sent: bool) -> None:
    assert az.ServiceError("try", status, "", "", repeated=repeated).sent is sent


def test_a_change_that_is_throttled_after_a_lost_try_is_unknown(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    """Nobody can tell whether the first try, whose answer was lost, was carried out."""
    requests_mock.get(ARM + ACCOUNT_PATH, json=account_body(minimumTlsVersion="TLS1_0"))
    slow = {"status_code": 429, "headers": {"Retry-After": "300"}, "json": arm_failure("TooManyRequests")}
    requests_mock.patch(ARM + ACCOUNT_PATH, [{"exc": requests.exceptions.ReadTimeout}, slow])
    error = signed_in.run("azure-storage-account-update", **ONE, minimum_tls_version="TLS1_2").error
    assert "It is unknown whether Azure carried it out." in error
    assert "again in 300 seconds" in error


def test_one_value_has_one_handle_and_old_ones_go(signed_in: WarRoom) -> None:
    azure = az.Azure(az.read_settings(signed_in.params))
    first = azure.keep("https://x/operation?t=marker-operation")
    assert azure.keep("https://x/operation?t=marker-operation") == first
    assert azure.kept(first) == "https://x/operation?t=marker-operation"
    assert az.redact("see https://x/operation?t=marker-operation") == f"see {az.HIDDEN}"
    for number in range(19):
        azure.keep(f"https://x/other/{number}")
        azure.keep("https://x/operation?t=marker-operation")
    assert azure.kept(first)
    for number in range(20):
        azure.keep(f"https://x/newer/{number}")
    with pytest.raises(az.UsageError, match="not known any more"):
        azure.kept(first)


# --- values: addresses and quoting -------------------------------------------------------------------------------------

ADDRESSES = [
    ("https://acct1.blob.core.windows.net/box-1/a.txt", "acct1", "box-1", "a.txt", "blob"),
    ("https://acct1.blob.core.windows.net:443/box-1/a.txt", "acct1", "box-1", "a.txt", "blob"),
    ("https://acct1-secondary.blob.core.windows.net/box-1/a.txt", "acct1", "box-1", "a.txt", "blob"),
    ("https://acct1-internetrouting.blob.core.windows.net/box-1", "acct1", "box-1", "", "blob"),
    ("https://acct1-microsoftrouting.blob.core.windows.net/box-1", "acct1", "box-1", "", "blob"),
    ("https://acct1.privatelink.blob.core.windows.net/box-1/a.txt", "acct1", "box-1", "a.txt", "blob"),
    ("https://acct1.z01.blob.storage.azure.net/box-1/a.txt", "acct1", "box-1", "a.txt", "blob"),
    ("https://acct1.dfs.core.windows.net/box-1/dir/a.txt", "acct1", "box-1", "dir/a.txt", "dfs"),
    ("https://acct1.z13.web.core.windows.net/index.html", "acct1", "$web", "index.html", "web"),
    ("https://acct1.z13.web.core.windows.net", "acct1", "$web", "", "web"),
    ("https://acct1.blob.core.usgovcloudapi.net/box-1/a.txt", "acct1", "box-1", "a.txt", "blob"),
    ("https://acct1.blob.core.chinacloudapi.cn/box-1/a.txt", "acct1", "box-1", "a.txt", "blob"),
    ("abfss://box-1@acct1.dfs.core.windows.net/dir/a.txt", "acct1", "box-1", "dir/a.txt", "dfs"),
    ("abfs://box-1@acct1.dfs.core.windows.net/", "acct1", "box-1", "", "dfs"),
    ("wasbs://box-1@acct1.blob.core.windows.net/a.txt", "acct1", "box-1", "a.txt", "blob"),
    ("https://acct1.z01.privatelink.blob.storage.azure.net/box-1/a.txt", "acct1", "box-1", "a.txt", "blob"),
    ("https://acct1.privatelink.z01.blob.storage.azure.net/box-1/a.txt", "acct1", "box-1", "a.txt", "blob"),
    ("https://acct1.blob.core.windows.net/logo.png", "acct1", "$root", "logo.png", "blob"),
    ("https://acct1.blob.core.windows.net/Readme", "acct1", "$root", "Readme", "blob"),
    ("https://acct1.blob.core.windows.net/readme", "acct1", "readme", "", "blob"),
    ("https://10.0.0.4:10000/acct1/box-1/a.txt", "acct1", "box-1", "a.txt", "blob"),
    ("https://localhost:10000/acct1/box-1", "acct1", "box-1", "", "blob"),
    (' "https://acct1.blob.core.windows.net/box-1/a%2Bb%25.txt" ', "acct1", "box-1", "a+b%.txt", "blob"),
]


@pytest.mark.parametrize(("url", "account", "container", "blob", "service"), ADDRESSES)
def test_an_address_of_every_form_is_taken_apart(
    url: str, account: str, container: str, blob: str, service: str
) -> None:
    found = az.parse_blob_url(url)
    assert (found.account, found.container, found.blob, found.service) == (account, container, blob, service)
    assert az.parse_account(url).name == account


@pytest.mark.parametrize(
    ("url", "zone"),
    [
        ("https://acct1.z01.blob.storage.azure.net/box-1", "z01"),
        ("https://acct1.z01.web.storage.azure.net/index.html", "z01"),
        ("https://acct1.z13.web.core.windows.net/index.html", ""),
        ("https://acct1.z2.web.core.usgovcloudapi.net/index.html", ""),
    ],
)
def test_the_zone_of_a_usual_website_is_none_of_the_account(url: str, zone: str) -> None:
    assert az.parse_blob_url(url).zone == zone


def test_the_address_of_a_website_leads_to_the_blobs_of_its_account(
    blob_room: WarRoom, requests_mock: rm.Mocker
) -> None:
    requests_mock.head(f"{BLOB_HOST}/%24web/index.html", headers=BLOB_HEADERS)
    blob_room.params = {**blob_room.params, "subscription_id": ""}
    url = f"https://{ACCOUNT}.z13.web.core.windows.net/index.html"
    assert not blob_room.run("azure-storage-blob-properties-get", blob_url=url).error
    assert urlsplit(last(requests_mock).url).netloc == urlsplit(BLOB_HOST).netloc


@pytest.mark.parametrize("service", ["file", "queue", "table"])
def test_a_share_or_a_queue_is_never_taken_for_a_container(
    blob_room: WarRoom, requests_mock: rm.Mocker, service: str
) -> None:
    url = f"https://{ACCOUNT}.{service}.core.windows.net/evidence/a.txt"
    assert "is not the blob service of" in blob_room.run("azure-storage-blob-delete", blob_url=url).error
    assert not requests_to(requests_mock, "evidence")


PORTAL = "https://portal.azure.com/#@contoso.com/resource"


@pytest.mark.parametrize(
    "pasted",
    [
        f"{PORTAL}{ACCOUNT_PATH}/overview",
        f"{PORTAL}{SERVICE_PATH}/containers/box-1",
        f"https://portal.azure.com/#view/Microsoft_Azure_Storage/Blade/id/{ACCOUNT_PATH.replace('/', '%2F')}/path/box-1",
        f"https://management.azure.com{ACCOUNT_PATH}?api-version=2025-08-01",
        ACCOUNT_PATH.removeprefix("/"),
    ],
)
def test_an_address_that_holds_the_id_of_an_account_names_that_account(pasted: str) -> None:
    assert az.parse_account(pasted) == az.AccountClue(ACCOUNT, SUBSCRIPTION, GROUP)


def test_an_id_in_the_name_of_a_blob_is_not_that_of_the_account() -> None:
    """So logs name their blobs, after the account that they are about."""
    logs = "https://logsaccount.blob.core.windows.net/insights-logs-storageread/resourceId="
    assert az.parse_account(f"{logs}{ACCOUNT_PATH}/y=2026/m=11/PT1H.json") == az.AccountClue("logsaccount")


@pytest.mark.parametrize("wrong", ["contoso.com", "https://contoso.com/box-1", "https://portal.azure.com/#home"])
def test_a_host_that_is_none_of_storage_names_no_account(wrong: str) -> None:
    for parse in (az.parse_account, az.parse_blob_url):
        with pytest.raises(ValueError):
            parse(wrong)


@pytest.mark.parametrize("name", ["resourceGroups", "storageAccounts", "providers", "containers"])
def test_a_group_may_be_called_like_a_keyword_of_an_id(name: str) -> None:
    found = az.parse_resource_id(
        f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{name}/providers/X/storageAccounts/acct1"
    )
    assert found == az.ResourceId(SUBSCRIPTION, name, "acct1")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("203.0.113.7:49152", "203.0.113.7"),
        ("[2001:db8::1]:443", "2001:db8::1"),
        ("[2001:db8::1]", "2001:db8::1"),
        ("2001:db8::1", "2001:db8::1"),
    ],
)
def test_the_address_of_a_client_as_logs_write_it(text: str, address: str) -> None:
    assert az.read_client_address(text) == address


def test_an_address_names_a_version_or_a_snapshot_only_by_a_time() -> None:
    base, when = "https://acct1.blob.core.windows.net/box-1/a.txt", "2026-11-23T12:00:00.1234567Z"
    assert az.parse_blob_url(f"{base}?versionId={when}&sv=1&sig=MARKER").version == when
    assert az.parse_blob_url(f"{base}?snapshot={when}").snapshot == when
    for wrong in ("versionid=v1", "snapshot=now", "versionid=2026-11-23"):
        with pytest.raises(ValueError):
            az.parse_blob_url(f"{base}?{wrong}")


@pytest.mark.parametrize(
    "url",
    [
        "http://acct1.blob.core.windows.net/box-1",
        "https://user@acct1.blob.core.windows.net/box-1",
        "https://acct1.blob.core.windows.net/a--b/c",
        "https://acct1.blob.core.windows.net/box-1/%2e%2e/x",
        "https://acct1.blob.core.windows.net/box-1/a%00b",
        "https://acct1.blob.core.windows.net/box-1/caf%E9.txt",  # Latin-1: no name in UTF-8
        "https://acct1.blob.core.windows.net/box-1%2Fa.txt",
        "https://AC_CT.blob.core.windows.net/box-1",
        "https://acct1.blob.core.windows.net:99999/box-1",
        "ftp://acct1.blob.core.windows.net/box-1",
        "abfss://acct1.dfs.core.windows.net/box-1",
        "",
    ],
)
def test_an_address_that_could_lead_elsewhere_is_refused(url: str) -> None:
    with pytest.raises(ValueError):
        az.parse_blob_url(url)


def test_what_a_command_does_not_use_of_an_address_is_refused(blob_room: WarRoom, requests_mock: rm.Mocker) -> None:
    blob = f"{BLOB_HOST}/evidence/a.txt"
    version = f"{blob}?versionid=2026-11-23T12:00:00.1234567Z"
    for name, args, part in (
        ("blob-list", {"blob_url": blob}, "blob"),
        ("container-policy-revoke", {"blob_url": blob, "all_policies": "true"}, "blob"),
        ("container-immutability-delete", {"blob_url": blob}, "blob"),
        ("blob-delete", {"blob_url": blob, "confirm_all": "true"}, "blob"),
        ("blob-put", {"blob_url": version, "text": "x"}, "version"),
        ("blob-metadata-set", {"blob_url": version, "metadata": "a=1"}, "version"),
    ):
        assert f"it names a {part}" in blob_room.run(f"azure-storage-{name}", **args).error, name
    assert not requests_to(requests_mock, "blob.core.windows.net")


NASTY = [
    "plain",
    "two words",
    "it's",
    'say "hi"',
    "back`tick",
    "``",
    'all ` of " them \\ here',
    "\\",
    "ends in \\",
    "a=b",
    "{}",
    '{"a": [1]}',
    "[x](https://evil.example)",
    "![x](https://evil.example/p.png)",
    "<img src=https://evil.example>",
    "https://evil.example/?a=1&b=2",
    "HTTP://EVIL.example ftp://x mailto:a@b www.evil.example",
    "&lt;script&gt; & &#60; &amp;",
    "| cell | cell |",
    "%2e%2e/?#;",
    "\u00fcml\u00e4ut \u202e \U0001f600",
    "'; drop",
    "a' or '1'='1",
    "line\nbreak",
    "tab\there",
]


@pytest.mark.parametrize("text", NASTY)
def test_markdown_shows_a_text_letter_for_letter_and_nothing_in_it_lives(text: str) -> None:
    shown = az.md(text)
    letters = {"&amp;": "&", "&lt;": "<", "&gt;": ">"}
    back = re.sub(r"&(?:amp|lt|gt);|\\(.)", lambda found: found[1] or letters[found[0]], shown)
    assert back == text
    assert not re.search(r"<|(?<!\\)\]\(|(?<!\\)!\[|(?i:\b(?:https?|ftp|mailto):|\bwww\.)", shown)


def test_a_value_in_a_sentence_cannot_begin_a_line_of_its_own() -> None:
    assert az.shown("case 1\n\nTo undo this change, run: `!x`\r\n# big") == (
        "case 1  To undo this change, run: `!x` # big"
    )
    assert az.shown(("breaking", "broken")) == "breaking or broken"
    assert az.shown(None) == "not set"
    notes = {"notes": "<b>\n\n[x](https://evil.example)"}
    result = carry_out(az.Plan("/thing", notes, {"notes": None}, THING, [done()]), dry_run=True)
    assert "* notes: &lt;b&gt;  \\[x\\](https\\://evil.example) -> not set" in result.readable_output
    assert told(result)["before"] == notes, "context holds what is there"


@pytest.mark.parametrize("text", [text for text in NASTY if "\n" not in text])
def test_a_code_span_holds_a_text_letter_for_letter(text: str) -> None:
    """As CommonMark reads it: a run of backticks, and one blank at each end that belongs to the fence."""
    shown = az.code(f"!undo {text}")
    found = re.fullmatch(r"(`+)(?!`)(.*?)(?<!`)\1", shown)
    assert found, shown
    inner = found[2]
    assert (inner[1:-1] if len(found[1]) > 1 else inner) == f"!undo {text}"
    assert found[1] not in re.findall("`+", inner)


@pytest.mark.parametrize("text", NASTY)
def test_a_segment_cannot_leave_its_place(text: str) -> None:
    quoted = az.segment(text)
    assert unquote(quoted) == text
    assert not set(quoted) & set("/?#\\ \n<>\"'")
    assert urlsplit(f"https://x/{quoted}/y?z=1").path == f"/{quoted}/y"


@pytest.mark.parametrize("text", NASTY)
def test_a_text_cannot_end_its_string_in_a_query(text: str) -> None:
    assert re.fullmatch(r"'(?:[^'\\\n]|\\(?:['\\]|u[0-9a-f]{4}))*'", az.kql(text)), az.kql(text)
    assert az.odata(text)[1:-1].replace("''", "") == text.replace("'", "")


@pytest.mark.parametrize("text", ["a\nb", "a\rb", "a\x00b", "\u00e9", "a\x7f"])
def test_no_header_takes_more_than_printable_ascii(text: str) -> None:
    with pytest.raises(ValueError):
        az.header_text(text)
    with pytest.raises(ValueError):
        az.read_metadata(json.dumps({"a": text}))


# What undo says, typed as it stands, takes the change back


def typed_line(line: str) -> tuple[str, dict[str, str]]:
    """A command line as the war room reads it: bare words, and values in quotes or backticks."""
    name, _, rest = line.removeprefix("!").partition(" ")
    args = {}
    for key, tick, quoted, bare in re.findall(r'(\w+)=(?:`([^`]*)`|"((?:[^"\\]|\\.)*)"|(\S*))', rest):
        args[key] = tick or re.sub(r"\\(.)", r"\1", quoted) or bare
    return name, args


def changed_and_back(room: WarRoom, name: str, args: dict[str, str], state: Any) -> None:
    before = deepcopy(state())
    result = room.run(f"azure-storage-{name}", **args)
    assert not result.error, result.error
    assert state() != before
    undo, undo_args = typed_line(change_of(result)["undo"])
    back = room.run(undo, **undo_args)
    assert not back.error, (undo, undo_args, back.error)
    assert state() == before


ACCOUNT_CHANGES = [
    ("account-update", {"allow_shared_key_access": "false", "is_sftp_enabled": "false"}),
    ("account-update", {"network_ruleset_default_action": "Deny", "network_ruleset_bypass": "Logging,Metrics"}),
    ("account-update", {"tags": 'note=it\'s `so` and "so" \\,case=1'}),
    ("account-update", {"tags": "only=this", "replace_tags": "true", "minimum_tls_version": "TLS1_2"}),
    ("account-update", {"sku": "Standard_GRS", "access_tier": "Cool", "public_network_access": "Disabled"}),
    ("account-network-rule-add", {"ip_rules": "203.0.113.7,203.0.113.16/29"}),
    ("account-network-rule-add", {"subnet_ids": SUBNET}),
    ("account-network-rule-remove", {"ip_rules": "198.51.100.9"}),
]


@pytest.mark.parametrize(("name", "args"), ACCOUNT_CHANGES)
def test_the_undo_of_an_account_takes_it_back(
    signed_in: WarRoom, requests_mock: rm.Mocker, name: str, args: dict[str, str]
) -> None:
    known: dict[str, Any] = {
        "allowSharedKeyAccess": True,
        "minimumTlsVersion": "TLS1_0",
        "publicNetworkAccess": "Enabled",
    }
    account = live_account(requests_mock, **{**OPEN, **known, "accessTier": "Hot"})
    changed_and_back(signed_in, name, {**ONE, **args}, lambda: account)


@pytest.mark.parametrize(
    ("found", "name", "args"),
    [
        ([], "account-lock-set", {"notes": 'case "1" `x`'}),
        ([{**OWN_LOCK, "properties": {"level": "ReadOnly", "notes": "a\\b"}}], "account-lock-set", {"notes": "other"}),
        ([{**OWN_LOCK, "properties": {"level": "ReadOnly", "notes": "a b"}}], "account-lock-remove", {}),
    ],
)
def test_the_undo_of_a_lock_takes_it_back(
    signed_in: WarRoom, requests_mock: rm.Mocker, found: list[Any], name: str, args: dict[str, str]
) -> None:
    locks = Locks(requests_mock, *found)
    changed_and_back(signed_in, name, {**ONE, "lock_name": "cortex-xsoar", **args}, lambda: locks.found)


@pytest.mark.parametrize(
    ("verb", "tags"), [("set", "case1"), ("set", "case1,old"), ("clear", "old"), ("clear", "old,other,gone")]
)
def test_the_undo_of_a_legal_hold_takes_it_back(
    signed_in: WarRoom, requests_mock: rm.Mocker, verb: str, tags: str
) -> None:
    held = held_container(requests_mock, "old", "other")
    changed_and_back(signed_in, f"container-legal-hold-{verb}", {**EVIDENCE, "tags": tags}, lambda: sorted(held))


@pytest.mark.parametrize(
    ("days", "name", "args"),
    [
        (0, "set", {"days": "30"}),
        (30, "set", {"days": "10"}),
        (30, "set", {"days": "40", "allow_protected_append_writes": "true"}),
        (30, "delete", {}),
    ],
)
def test_the_undo_of_an_immutability_policy_takes_it_back(
    signed_in: WarRoom, requests_mock: rm.Mocker, days: int, name: str, args: dict[str, str]
) -> None:
    room = Immutability(requests_mock, days)

    def days_and_state() -> Any:
        properties = room.body["properties"]
        return properties["immutabilityPeriodSinceCreationInDays"], bool(properties.get("allowProtectedAppendWrites"))

    changed_and_back(signed_in, f"container-immutability-{name}", {**EVIDENCE, **args}, lambda: list(days_and_state()))


def test_the_undo_of_the_blob_service_takes_it_back(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    body = {"id": SERVICE_PATH, "name": "default", "properties": {**FULL_SERVICE, "restorePolicy": {"enabled": False}}}

    def write(request: Any, context: Any) -> dict[str, Any]:
        body["properties"] = request.json()["properties"]
        return body

    requests_mock.get(ARM + SERVICE_PATH, json=lambda request, context: body)
    requests_mock.put(ARM + SERVICE_PATH, json=write)
    settings = {
        "versioning": "false",
        "change_feed_enabled": "false",
        "delete_retention_policy_days": "30",
        "last_access_time_tracking_policy_enabled": "true",
    }
    args = {"account_name": ACCOUNT, **settings}
    changed_and_back(signed_in, "blob-service-properties-set", args, lambda: body)


BLOB_CONTENT = {
    "x-ms-blob-content-type": "Content-Type",
    "x-ms-blob-content-language": "Content-Language",
    "x-ms-blob-cache-control": "Cache-Control",
    "x-ms-blob-content-md5": "Content-MD5",
}


class LiveBlob:
    """A blob that keeps its properties, metadata, tags and tier, and changes its ETag with each write."""

    def __init__(self, mock: rm.Mocker) -> None:
        self.number, self.headers = 1, dict(BLOB_HEADERS)
        self.tags = "<Tags><TagSet><Tag><Key>a</Key><Value>1</Value></Tag></TagSet></Tags>"
        mock.register_uri("HEAD", f"{BLOB_HOST}/evidence/a.txt", text=self._head)
        mock.get(f"{BLOB_HOST}/evidence/a.txt?comp=tags", text=lambda request, context: self.tags)
        mock.put(f"{BLOB_HOST}/evidence/a.txt", text=self._put)

    def state(self) -> Any:
        kept = {key: value for key, value in self.headers.items() if value is not None and key != "ETag"}
        return {**kept, "tags": sorted(re.findall("<Key>(.*?)</Key><Value>(.*?)</Value>", self.tags))}

    def _head(self, request: Any, context: Any) -> str:
        context.headers.update({key: value for key, value in self.headers.items() if value is not None})
        return ""

    def _put(self, request: Any, context: Any) -> str:
        comp, sent = query(request)["comp"], request.headers
        assert sent.get("If-Match", self.headers["ETag"]) == self.headers["ETag"]
        context.status_code = 204 if comp == "tags" else 200
        if comp == "metadata":
            self.headers = {key: value for key, value in self.headers.items() if not key.startswith("x-ms-meta-")}
            self.headers |= {key: value for key, value in sent.items() if key.startswith("x-ms-meta-")}
        elif comp == "properties":
            self.headers |= {name: sent.get(header) for header, name in BLOB_CONTENT.items()}
        elif comp == "tags":
            self.tags = request.body.decode().partition("?>")[2]
        elif comp == "tier":
            self.headers["x-ms-access-tier"] = sent["x-ms-access-tier"]
        elif comp == "legalhold":
            self.headers["x-ms-legal-hold"] = sent["x-ms-legal-hold"]
        self.number += 1
        self.headers["ETag"] = f'"0x{self.number}"'
        return ""


BLOB_CHANGES = [
    ("metadata-set", {"metadata": "other=2"}),
    ("metadata-set", {"metadata": '{"case": "it\'s `so` and \\"so\\""}', "replace": "true"}),
    ("metadata-set", {"metadata": "CASE=3"}),
    ("properties-set", {"cache_control": "no-store", "content_type": 'text/html; charset="utf-8"'}),
    ("properties-set", {"clear": "content_language"}),
    ("properties-set", {"content_md5": "d41d8cd98f00b204e9800998ecf8427e"}),
    ("tags-set", {"tags": "b=2 3"}),
    ("tags-set", {"tags": "a=4,c=", "replace": "true"}),
    ("tier-set", {"tier": "Cool"}),
    ("legal-hold-set", {"legal_hold": "true"}),
]


@pytest.mark.parametrize(("name", "args"), BLOB_CHANGES)
def test_the_undo_of_a_blob_takes_it_back(
    blob_room: WarRoom, requests_mock: rm.Mocker, name: str, args: dict[str, str]
) -> None:
    blob = LiveBlob(requests_mock)
    blob.headers["x-ms-legal-hold"] = "false"
    changed_and_back(blob_room, f"blob-{name}", {**BLOB, **args}, blob.state)


# A write whose answer is lost: what landed is done, what did not is unknown, and nothing is done twice


def test_the_blanks_of_other_tags_stay(blob_room: WarRoom, requests_mock: rm.Mocker) -> None:
    blob = LiveBlob(requests_mock)
    blob.tags = "<Tags><TagSet>\n<Tag><Key>a </Key><Value> 1 </Value></Tag>\n</TagSet></Tags>"
    assert not blob_room.run("azure-storage-blob-tags-set", **BLOB, tags="b=2").error
    assert "<Key>a </Key><Value> 1 </Value>" in blob.tags


class LosingBlob(LiveBlob):
    """The first write is carried out (or not), and its answer is lost; later ones meet the conditions of the service."""

    def __init__(self, mock: rm.Mocker, landed: bool) -> None:
        super().__init__(mock)
        self.landed, self.tries = landed, 0
        self.headers["x-ms-legal-hold"] = "false"

    def _put(self, request: Any, context: Any) -> str:
        self.tries += 1
        if request.headers.get("If-Match", self.headers["ETag"]) != self.headers["ETag"]:
            context.status_code = 412
            context.headers["x-ms-error-code"] = "ConditionNotMet"
            return ""
        if self.tries == 1 or not self.landed:
            if self.landed:
                super()._put(request, context)
            raise requests.exceptions.ReadTimeout
        return super()._put(request, context)


@pytest.mark.parametrize(("name", "args"), BLOB_CHANGES)
def test_a_change_of_a_blob_whose_answer_is_lost_is_done_once_it_is_there(
    blob_room: WarRoom, requests_mock: rm.Mocker, name: str, args: dict[str, str]
) -> None:
    LosingBlob(requests_mock, landed=True)
    result = blob_room.run(f"azure-storage-blob-{name}", **BLOB, **args)
    assert not result.error, result.error
    assert change_of(result)["changed"] is True


@pytest.mark.parametrize(("name", "args"), BLOB_CHANGES)
def test_a_change_of_a_blob_that_never_lands_is_unknown(
    blob_room: WarRoom, requests_mock: rm.Mocker, name: str, args: dict[str, str]
) -> None:
    blob = LosingBlob(requests_mock, landed=False)
    error = blob_room.run(f"azure-storage-blob-{name}", **BLOB, **args).error
    assert "It is unknown whether Azure carried it out." in error
    assert blob.tries == az.MAX_TRIES


def lose(mock: rm.Mocker, method: str, url: Any, landed: Any) -> list[Any]:
    """Requests that are carried out by `landed`, if it is given, and never answered. Returns them."""
    sent: list[Any] = []

    def answer(request: Any, context: Any) -> str:
        sent.append(request)
        if landed:
            landed(request)
        raise requests.exceptions.ReadTimeout

    mock.register_uri(method, url, text=answer)
    return sent


@pytest.mark.parametrize("landed", [True, False])
def test_a_rotation_whose_answer_is_lost_is_judged_by_the_time_of_the_key(
    signed_in: WarRoom, requests_mock: rm.Mocker, landed: bool
) -> None:
    account = live_account(requests_mock, **OPEN)

    def rotate(request: Any) -> None:
        account["properties"]["keyCreationTime"]["key1"] = "2027-01-15T08:00:00.5Z"

    sent = lose(requests_mock, "POST", f"{ARM}{ACCOUNT_PATH}/regenerateKey", rotate if landed else None)
    result = signed_in.run("azure-storage-account-key-rotate", **ONE, key="key1")
    assert len(sent) == 1, "a rotation is never repeated"
    if landed:
        assert change_of(result)["after"] == {"key1": "2027-01-15T08:00:00.5Z"}
    else:
        assert "It is unknown whether Azure carried it out." in result.error


@pytest.mark.parametrize("landed", [True, False])
def test_an_account_update_whose_answer_is_lost(signed_in: WarRoom, requests_mock: rm.Mocker, landed: bool) -> None:
    account = live_account(requests_mock, minimumTlsVersion="TLS1_0")

    def patch(request: Any) -> None:
        account["properties"] |= request.json()["properties"]

    lose(requests_mock, "PATCH", ARM + ACCOUNT_PATH, patch if landed else None)
    result = signed_in.run("azure-storage-account-update", **ONE, minimum_tls_version="TLS1_2")
    if landed:
        assert change_of(result)["after"] == {"properties": {"minimumTlsVersion": "TLS1_2"}}
    else:
        assert "It is unknown whether Azure carried it out." in result.error


def test_a_deletion_that_is_repeated_and_finds_nothing_was_ours(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    there, missing = {"json": account_body()}, {"status_code": 404, "json": arm_failure("ResourceNotFound")}
    requests_mock.get(ARM + ACCOUNT_PATH, [there, missing])
    requests_mock.delete(ARM + ACCOUNT_PATH, [{"exc": requests.exceptions.ReadTimeout}, missing])
    result = signed_in.run("azure-storage-account-delete", **ONE, confirm=ACCOUNT)
    assert not result.error
    assert change_of(result)["changed"] is True


def test_a_blob_whose_deletion_is_repeated_and_finds_nothing_was_deleted_by_us(
    blob_room: WarRoom, requests_mock: rm.Mocker
) -> None:
    requests_mock.delete(f"{BLOB_HOST}/evidence/a.txt", [{"exc": requests.exceptions.ReadTimeout}, BLOB_GONE])
    result = blob_room.run("azure-storage-blob-delete", **BLOB)
    assert [item["result"] for item in result.raw] == ["deleted"]
    requests_mock.delete(f"{BLOB_HOST}/evidence/a.txt", **BLOB_GONE)
    result = blob_room.run("azure-storage-blob-delete", **BLOB)
    assert [item["result"] for item in result.raw] == ["not found"]


def test_blobs_whose_deletion_is_repeated_and_that_are_not_found_were_deleted_by_us(
    blob_room: WarRoom, requests_mock: rm.Mocker
) -> None:
    again = [{"exc": requests.exceptions.ReadTimeout}, batch_answer((0, 404, "BlobNotFound"), (1, 404, "BlobNotFound"))]
    requests_mock.post(f"{BLOB_HOST}/?comp=batch", again)
    result = blob_room.run("azure-storage-blob-delete", **EVIDENCE, blob_names='["a", "b"]')
    assert [item["result"] for item in result.raw] == ["deleted", "deleted"]
    assert change_of(result)["after"] == {"deleted": 2}
    requests_mock.post(f"{BLOB_HOST}/?comp=batch", [batch_answer((0, 404, "BlobNotFound"), (1, 202, ""))])
    result = blob_room.run("azure-storage-blob-delete", **EVIDENCE, blob_names='["a", "b"]')
    assert [item["result"] for item in result.raw] == ["not found", "deleted"]


def test_of_a_batch_whose_answer_is_lost_nothing_is_known_and_the_rest_is_left_alone(
    blob_room: WarRoom, requests_mock: rm.Mocker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(az, "BATCH_LIMIT", 2)
    sent = lose(requests_mock, "POST", f"{BLOB_HOST}/?comp=batch", None)
    result = blob_room.run("azure-storage-blob-delete", **EVIDENCE, blob_names='["a", "b", "c", "d"]')
    assert len(sent) == az.MAX_TRIES
    rows = result.context[az.DELETED_VIEW.context]
    assert [(row["name"], row["deleted"]) for row in rows] == [("a", False), ("b", False)]
    assert all(row["result"].startswith("unknown: Could not delete 2 blobs") for row in rows)
    assert "It is unknown whether Azure carried it out" in result.error
    assert "The rest was not tried" in result.error


def test_a_blob_that_only_loses_its_snapshots_is_not_called_deleted(
    blob_room: WarRoom, requests_mock: rm.Mocker
) -> None:
    requests_mock.delete(f"{BLOB_HOST}/evidence/a.txt", status_code=202)
    result = blob_room.run("azure-storage-blob-delete", **BLOB, delete_snapshots="only")
    assert [(item["result"], item["deleted"]) for item in result.raw] == [("cleared of snapshots", False)]
    assert "1 cleared of snapshots, 0 failed" in result.text
    assert "blob-undelete" in change_of(result)["undo"]


def test_an_upload_whose_answer_is_lost_over_the_same_content_is_unknown(
    blob_room: WarRoom, requests_mock: rm.Mocker
) -> None:
    md5 = base64.b64encode(hashlib.md5(b"x", usedforsecurity=False).digest()).decode()
    requests_mock.head(f"{BLOB_HOST}/evidence/a.txt", headers={**BLOB_HEADERS, "Content-MD5": md5})
    lose(requests_mock, "PUT", f"{BLOB_HOST}/evidence/a.txt", None)
    error = blob_room.run("azure-storage-blob-put", **BLOB, text="x", overwrite="true", tier="Cool").error
    assert "It is unknown whether Azure carried it out" in error


@pytest.mark.parametrize(("content", "known"), [(b"x", True), (b"other", False)])
def test_an_upload_whose_answer_is_lost_is_judged_by_its_md5(
    blob_room: WarRoom, requests_mock: rm.Mocker, content: bytes, known: bool
) -> None:
    md5 = base64.b64encode(hashlib.md5(content, usedforsecurity=False).digest()).decode()
    there = {"headers": {**BLOB_HEADERS, "Content-MD5": md5}}
    requests_mock.head(f"{BLOB_HOST}/evidence/a.txt", [BLOB_GONE, there])
    exists = {"status_code": 409, "headers": {"x-ms-error-code": "BlobAlreadyExists"}}
    requests_mock.put(f"{BLOB_HOST}/evidence/a.txt", [{"exc": requests.exceptions.ReadTimeout}, exists])
    result = blob_room.run("azure-storage-blob-put", **BLOB, text="x")
    if known:
        assert change_of(result)["after"]["sha256"] == hashlib.sha256(b"x").hexdigest()
    else:
        assert "409 BlobAlreadyExists" in result.error


@pytest.mark.parametrize("landed", [True, False])
def test_an_isolation_whose_answer_is_lost_goes_on_and_says_what_is_known(
    signed_in: WarRoom, requests_mock: rm.Mocker, landed: bool
) -> None:
    account, done = isolation_room(requests_mock)

    def patch(request: Any) -> None:
        account["properties"] |= request.json()["properties"]

    lose(requests_mock, "PATCH", ARM + ACCOUNT_PATH, patch if landed else None)
    result = signed_in.run("azure-storage-account-isolate", **ONE, **OWN)
    assert done == ["revokeUserDelegationKeys", "key2", "key1"], "what needs no PATCH is done all the same"
    assert isolation_of(result)["complete"] is landed
    assert bool(result.error) is not landed
    if not landed:
        assert "It is unknown whether Azure carried it out." in result.error
    record = isolation_of(result)["restore"]
    assert record["settings"]["networkAcls"] == OPEN["networkAcls"]


@pytest.mark.parametrize("action", ["acquire", "release", "break", "renew"])
def test_a_lease_whose_answer_is_lost(blob_room: WarRoom, requests_mock: rm.Mocker, action: str) -> None:
    """The state tells that a lease has ended; nothing tells whether one was renewed, or whose the one is that is there."""
    states = {"acquire": ("available", "leased"), "release": ("leased", "available"), "break": ("leased", "broken")}
    before, after = states.get(action, ("leased", "leased"))
    heads = [{"headers": {**BLOB_HEADERS, "x-ms-lease-state": state}} for state in (before, after)]
    requests_mock.head(f"{BLOB_HOST}/evidence/a.txt", heads)
    sent = lose(requests_mock, "PUT", f"{BLOB_HOST}/evidence/a.txt?comp=lease", None)
    lease = {"lease_id": LEASE} if action in ("release", "renew") else {}
    result = blob_room.run("azure-storage-blob-lease", **BLOB, action=action, **lease)
    assert len(sent) == 1
    if action in ("acquire", "renew"):
        assert "It is unknown whether Azure carried it out." in result.error
    else:
        assert change_of(result)["changed"] is True


# What is remembered, and what a sign-in takes


def test_a_bare_code_without_a_login_url_of_ours_is_refused(code_room: WarRoom, requests_mock: rm.Mocker) -> None:
    for pasted in ("marker-code-1", "marker-code-1&session_state=x", "https://localhost/myapp?code=marker-code-1"):
        error = code_room.run("azure-storage-auth-complete", code=pasted).error
        assert "No login URL was made on this instance" in error
        assert "!azure-storage-generate-login-url" in error
    assert requests_mock.call_count == 0


def test_a_code_in_the_field_of_the_instance_is_tried_and_says_who_signed_in(
    code_room: WarRoom, requests_mock: rm.Mocker
) -> None:
    code_room.params["auth_code"] = {"identifier": "", "password": "marker-code-1"}
    assert "ann@contoso.com" in code_room.run("azure-storage-auth-complete").text
    sent = form(requests_to(requests_mock, "/token")[0])
    assert (sent["code"], "code_verifier" in sent) == ("marker-code-1", False)


def test_what_is_remembered_of_an_isolation_outlives_reset_and_sign_in(
    signed_in: WarRoom, requests_mock: rm.Mocker
) -> None:
    account, _ = isolation_room(requests_mock)
    signed_in.run("azure-storage-account-isolate", **ONE, **OWN)
    signed_in.run("azure-storage-auth-reset")
    signed_in.params = {**DEVICE_PARAMS, "tenant_id": TENANT}
    requests_mock.post(f"{TENANT_ENTRA}/devicecode", json=device_answer())
    requests_mock.post(f"{TENANT_ENTRA}/token", json=token_answer())
    signed_in.run("azure-storage-auth-start")
    assert not signed_in.run("azure-storage-auth-complete").error
    assert not signed_in.run("azure-storage-account-restore-settings", **ONE).error
    assert account["properties"]["networkAcls"] == OPEN["networkAcls"]


def test_an_isolation_is_remembered_before_anything_is_sent(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    isolation_room(requests_mock)
    stored: list[dict[str, Any]] = []

    def forbidden(request: Any, context: Any) -> dict[str, Any]:
        document = json.loads(demisto.getIntegrationContext()[az.SessionStore.KEY])
        stored.append(document["isolations"][ACCOUNT])
        context.status_code = 403
        return arm_failure("AuthorizationFailed")

    requests_mock.patch(ARM + ACCOUNT_PATH, json=forbidden)
    signed_in.run("azure-storage-account-isolate", **ONE, **OWN, delegation_keys="false", rotate_keys="false")
    assert len(stored) == 5, "all at once, and then each by itself"
    assert stored[0]["settings"]["networkAcls"] == OPEN["networkAcls"]
    assert stored[0]["wrote"]["networkAcls"]["defaultAction"] == "Deny"


def test_an_isolation_that_cannot_be_remembered_is_not_begun(
    signed_in: WarRoom, requests_mock: rm.Mocker, monkeypatch: pytest.MonkeyPatch
) -> None:
    isolation_room(requests_mock)
    monkeypatch.setattr(az.SessionStore, "_save", lambda *_: False)
    result = signed_in.run("azure-storage-account-isolate", **ONE, **OWN)
    assert "other commands keep changing it" in result.error
    assert not writes(requests_mock)


def test_a_refused_patch_is_made_good_by_single_ones(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    """Azure refuses some settings only together, such as two that it changes one at a time."""
    account, _ = isolation_room(requests_mock)

    def patch(request: Any, context: Any) -> dict[str, Any]:
        sent = request.json()["properties"]
        if len(sent) > 1:
            context.status_code = 400
            return arm_failure("TooManyUpdateParametersSpecified")
        account["properties"] |= sent
        return account

    requests_mock.patch(ARM + ACCOUNT_PATH, json=patch)
    result = signed_in.run("azure-storage-account-isolate", **ONE, **OWN)
    assert not result.error
    assert isolation_of(result)["complete"] is True
    assert len(bodies(requests_mock, "PATCH")) == 5


def test_a_restore_that_azure_does_not_keep_keeps_the_record(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    account, _ = isolation_room(requests_mock)
    signed_in.run("azure-storage-account-isolate", **ONE, **OWN)
    requests_mock.patch(ARM + ACCOUNT_PATH, json=lambda request, context: account)
    result = signed_in.run("azure-storage-account-restore-settings", **ONE)
    assert "Azure accepted the change, but allowBlobPublicAccess is false, not true." in result.error
    isolation_room(requests_mock)
    assert not signed_in.run("azure-storage-account-restore-settings", **ONE).error, "it can be tried again"


# --- log search --------------------------------------------------------------------------------------------------------

LOG_QUERIES = f"{ARM}{ACCOUNT_PATH}/providers/microsoft.insights/logs"
LOG_SEARCH = "azure-storage-log-search"
OTHER_WORKSPACE = WORKSPACE.replace("/soc", "/hidden")
LEAKED = "sv=2022-11-02&sr=b&sp=r&se=2027-01-01T00:00:00Z&sig=marker%2Bsignature%3D"
LEAKED_HASH = hashlib.sha256(b"marker+signature=").hexdigest()
KEY_HASH = "AB" * 32
ALL_LOGS = [{"category": name, "enabled": True} for name in az.BLOB_LOGS]
LOG_ACCOUNT = "contosologs"
LOG_HOST = f"https://{LOG_ACCOUNT}.blob.core.windows.net"


def log_row(**columns: Any) -> dict[str, Any]:
    """A row of StorageBlobLogs, as the workspace has it."""
    return {
        "TimeGenerated": "2027-01-15T07:30:00.1234567Z",
        "Category": "StorageRead",
        "OperationName": "GetBlob",
        "StatusCode": "200",
        "StatusText": "Success",
        "CallerIpAddress": "198.51.100.9:51234",
        "AuthenticationType": "SAS",
        "AuthenticationHash": f"key1({KEY_HASH}),SasSignature({LEAKED_HASH.upper()})",
        "Uri": f"{BLOB_HOST}:443/evidence/2026/a%20b.csv?sv=2022-11-02&sig=XXXXX",
        "ObjectKey": f'"/{ACCOUNT}/evidence/2026/a b.csv"',
        "UserAgentHeader": '"azcopy/10"',
        "ResponseBodySize": 1000,
        "CorrelationId": "c-1",
        **columns,
    }


def log_answer(*rows: dict[str, Any], permissions: Any = None, **extra: Any) -> dict[str, Any]:
    columns = list(az.LOG_FIELDS)
    table = {
        "name": "PrimaryResult",
        "columns": [{"name": name, "type": "string"} for name in columns],
        "rows": [[row.get(name) for name in columns] for row in rows],
    }
    told = {"resources": [{"resourceId": ACCOUNT_PATH.lower(), "dataSources": [WORKSPACE]}], "dataSources": []}
    return {"tables": [table], "permissions": permissions or told, **extra}


def log_room(mock: rm.Mocker, *rows: dict[str, Any], logs: Any = None, **answer: Any) -> None:
    setting = {
        "id": "s",
        "name": "soc",
        "properties": {"workspaceId": WORKSPACE, "logs": ALL_LOGS if logs is None else logs},
    }
    mock.get(ARM + SETTINGS, json={"value": [setting]})
    mock.post(LOG_QUERIES, json=log_answer(*rows, **answer))


def sent_query(mock: rm.Mocker) -> str:
    return str(requests_to(mock, "insights/logs")[-1].json()["query"])


def result_of(war_room: WarRoom, **args: str) -> Any:
    """The entry of a log search that is not its file."""
    args = {**ONE, **args}
    war_room.run(LOG_SEARCH, **args)
    entry = war_room.entries[0]
    return SimpleNamespace(text=entry["HumanReadable"], context=entry["EntryContext"], raw=entry["Contents"])


@pytest.fixture
def log_war_room(signed_in: WarRoom, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> WarRoom:
    """Somebody is signed in, and files are written to a folder of the test."""
    return signed_in


def test_a_leaked_sas_is_followed_by_its_hash(log_war_room: WarRoom, requests_mock: rm.Mocker, tmp_path: Path) -> None:
    log_room(
        requests_mock,
        log_row(),
        log_row(CorrelationId="c-2", OperationName="ListBlobs", ResponseBodySize=500, CallerIpAddress="198.51.100.9:9"),
        log_row(CorrelationId="c-3", CallerIpAddress="[2001:db8::1]:443", StatusCode="403", ResponseBodySize=0),
    )
    found = result_of(log_war_room, sas=f"{BLOB_HOST}/evidence/2026/a%20b.csv?{LEAKED}")
    body = requests_to(requests_mock, "insights/logs")[0].json()
    assert f"AuthenticationHash contains 'SasSignature({LEAKED_HASH})'" in body["query"]
    assert body["timespan"] == "2027-01-14T08:00:00Z/2027-01-15T08:01:00Z"
    assert requests_to(requests_mock, "insights/logs")[0].headers["Prefer"] == "include-permissions=true"
    assert len(requests_mock.request_history) == 2, "one request for the settings, one query"
    first, second = found.raw["summary"]
    assert (first["caller"], first["key"], first["authorization"]) == (f"SAS {LEAKED_HASH}", "key1", "SAS")
    assert (first["address"], first["requests"], first["bytesOut"], first["blobs"]) == ("198.51.100.9", 2, 1500, 1)
    assert first["operations"] == [{"name": "GetBlob", "count": 1}, {"name": "ListBlobs", "count": 1}]
    assert (second["address"], second["failed"]) == ("2001:db8::1", 1)
    assert "marker" not in json.dumps(log_war_room.entries) + json.dumps(log_war_room.log) + body["query"]
    assert log_war_room.entries[1]["File"] == f"log-search-{ACCOUNT}.csv"
    (path,) = tmp_path.iterdir()
    assert len(path.read_text().splitlines()) == 4


@pytest.mark.parametrize("text", [LEAKED_HASH, LEAKED_HASH.upper(), f"key1(AA),SasSignature({LEAKED_HASH.upper()})"])
def test_a_hash_is_compared_without_case(log_war_room: WarRoom, requests_mock: rm.Mocker, text: str) -> None:
    log_room(requests_mock, log_row(), log_row(AuthenticationHash=f"SasSignature({'C' * 64})"))
    assert len(result_of(log_war_room, sas_hash=text).raw["rows"]) == 1


@pytest.mark.parametrize(
    ("hunt", "fitting"),
    [
        ("sas", [{"AuthenticationType": kind} for kind in ("SAS", "DelegationSas", "SAS Key")]),
        ("anonymous", [{"AuthenticationType": "Anonymous"}]),
        ("account_key", [{"AuthenticationType": kind} for kind in ("AccountKey", "Account Key")]),
        ("identity", [{"AuthenticationType": kind} for kind in ("OAuth", "Kerberos")]),
        ("deletions", [{"AuthenticationType": "OAuth", "Category": "StorageDelete", "OperationName": "DeleteBlob"}]),
        ("downloads", [{"OperationName": "ReadFile"}, {"OperationName": "CopyBlobSource"}]),
    ],
)
def test_every_hunt_finds_its_requests_only(
    log_war_room: WarRoom, requests_mock: rm.Mocker, hunt: str, fitting: list[dict[str, str]]
) -> None:
    other = log_row(
        AuthenticationType="OAuth" if hunt != "identity" else "SAS", AuthenticationHash="", OperationName="ListBlobs"
    )
    log_room(requests_mock, *(log_row(**row, CorrelationId=str(row)) for row in fitting), other)
    rows = result_of(log_war_room, hunt=hunt).raw["rows"]
    assert {row["CorrelationId"] for row in rows} == {str(row) for row in fitting}


def test_every_hunt_asks_for_its_requests_in_the_query(log_war_room: WarRoom, requests_mock: rm.Mocker) -> None:
    log_room(requests_mock)
    for hunt, tests in az.HUNTS.items():
        result_of(log_war_room, hunt=hunt, ip="198.51.100.9")
        query = sent_query(requests_mock)
        assert all(f"{test.column} {test.operator} '{test.value}'" in query for test in tests)
        assert "(" not in re.sub(r"datetime\([^)]*\)", "", query), "a plain query, which needs no brackets"


HOSTILE = "x' or 1==1 | project Uri //\\"


@pytest.mark.parametrize(
    "args",
    [
        {"blob_name": HOSTILE, "container_name": "evidence"},
        {"prefix": HOSTILE, "container_name": "evidence"},
        {"prefix": "\\' | take 1 \"", "container_name": "evidence"},
    ],
)
def test_no_filter_can_break_out_of_its_string(
    log_war_room: WarRoom, requests_mock: rm.Mocker, args: dict[str, str]
) -> None:
    log_room(requests_mock)
    result_of(log_war_room, **args)
    query = sent_query(requests_mock)
    assert [line.split()[0] for line in query.split("\n| ")] == [
        "StorageBlobLogs",
        *(["where"] * 3),
        "project",
        "order",
        "take",
    ]
    assert query.count("'") % 2 == 0
    assert "|" not in re.sub(r"\n\|", "", query)


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ({"container_name": "e' or 1==1"}, "container_name"),
        ({"ip": "198.51.100.9' or 1==1"}, "Invalid value"),
        ({"sas_hash": "AB' or 1==1"}, "SHA-256"),
        ({"sas": "nothing"}, "a SAS token"),
        ({"hunt": "sas' | take 1"}, "one of timeline, sas"),
        ({"since": "1h' or", "until": ""}, "since"),
        ({"blob_name": "a.txt"}, "container_name"),
        ({"prefix": "a", "blob_name": "a.txt", "container_name": "evidence"}, "can't be combined"),
        ({"hunt": "address"}, "`ip`"),
        ({"hunt": "anonymous", "sas_hash": LEAKED_HASH}, "use no SAS"),
        ({"sas": LEAKED, "sas_hash": LEAKED_HASH}, "can't be combined"),
        ({"sas": f"https://contosoother.blob.core.windows.net/?{LEAKED}"}, "belongs to account contosoother"),
        ({"query": "StorageBlobLogs", "ip": "198.51.100.9"}, "`query` can't be combined"),
        ({"query": "StorageBlobLogs", "hunt": "sas"}, "`query` can't be combined"),
        ({"query": "StorageBlobLogs", "report": "html"}, "`query` can't be combined"),
        ({"query": "StorageBlobLogs", "blob_url": f"{BLOB_HOST}/evidence"}, "names a container"),
        ({"blob_url": f"{BLOB_HOST}/evidence/a?snapshot=2026-01-01T00:00:00.0000000Z"}, "names a snapshot"),
        ({"source": "container"}, "log_account_name"),
        ({"log_account_name": LOG_ACCOUNT}, "source=container"),
        ({"since": "1h", "until": "2h"}, "later than"),
    ],
)
def test_a_search_that_would_prove_nothing_is_refused(
    log_war_room: WarRoom, requests_mock: rm.Mocker, args: dict[str, str], words: str
) -> None:
    error = log_war_room.run(LOG_SEARCH, **ONE, **args).error
    assert words in error
    assert "marker" not in error
    assert not requests_mock.request_history


@pytest.mark.parametrize(
    ("args", "found"),
    [
        ({"container_name": "evidence"}, True),
        ({"container_name": "evi"}, False),
        ({"container_name": "evidence", "blob_name": "2026/a b.csv"}, True),
        ({"container_name": "evidence", "blob_name": "2026/A b.csv"}, False),
        ({"container_name": "evidence", "prefix": "2026/a "}, True),
        ({"container_name": "evidence", "prefix": "a b"}, False),
        ({"blob_url": f"{BLOB_HOST}/evidence/2026/a%20b.csv"}, True),
        ({"ip": "198.51.100.9"}, True),
        ({"ip": "198.51.100.9:80"}, True),
        ({"ip": "198.51.100.90"}, False),
        ({"ip": "8.51.100.9"}, False),
    ],
)
def test_filters_compare_whole_names_and_addresses(
    log_war_room: WarRoom, requests_mock: rm.Mocker, args: dict[str, str], found: bool
) -> None:
    log_room(requests_mock, log_row())
    assert bool(result_of(log_war_room, **args).raw["rows"]) is found


def test_an_ipv6_address_of_the_logs_has_brackets(log_war_room: WarRoom, requests_mock: rm.Mocker) -> None:
    log_room(requests_mock)
    result_of(log_war_room, ip="2001:db8::1", hunt="address")
    assert "CallerIpAddress =~ '2001:db8::1' or CallerIpAddress startswith '[2001:db8::1]'" in sent_query(requests_mock)


def test_an_empty_answer_is_no_proof(log_war_room: WarRoom, requests_mock: rm.Mocker, tmp_path: Path) -> None:
    log_room(requests_mock)
    found = result_of(log_war_room)
    assert "This doesn't prove that there were none" in found.text
    assert len(log_war_room.entries) == 1, "no file"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (
            {
                "error": {
                    "code": "PartialError",
                    "details": [{"code": "EngineError", "message": "Out of <b>memory</b>"}],
                }
            },
            "incomplete (PartialError): Out of &lt;b&gt;memory&lt;/b&gt;",
        ),
        (
            {
                "permissions": {
                    "resources": [{"resourceId": ACCOUNT_PATH, "dataSources": [WORKSPACE, OTHER_WORKSPACE]}],
                    "dataSources": [{"resourceId": OTHER_WORKSPACE, "denyTables": ["storagebloblogs"]}],
                }
            },
            f"lacks permission: {OTHER_WORKSPACE}",
        ),
        (
            {
                "permissions": {
                    "resources": [
                        {"resourceId": ACCOUNT_PATH, "dataSources": [WORKSPACE], "denyTables": ["StorageBlobLogs"]}
                    ]
                }
            },
            f"lacks permission: {WORKSPACE}",
        ),
        ({"permissions": {"resources": [], "dataSources": []}}, "No readable workspace has logs"),
        ({"permissions": "gone"}, "did not report which workspaces"),
    ],
)
def test_what_could_not_be_read_is_told(
    log_war_room: WarRoom, requests_mock: rm.Mocker, answer: dict[str, Any], words: str
) -> None:
    log_room(requests_mock, **answer)
    assert words in result_of(log_war_room).text


def query_refusal(name: str) -> dict[str, Any]:
    """How Log Analytics refuses a query with a name that it does not know."""
    words = f"'where' operator: Failed to resolve table or column expression named '{name}'"
    inner = {"code": "SemanticError", "message": "A semantic error occurred."}
    error = {"code": "BadArgumentError", "message": "The request had some invalid properties"}
    cause = {"code": "SEM0100", "message": words}
    return {"status_code": 400, "json": {"error": {**error, "innererror": {**inner, "innererror": cause}}}}


def test_no_table_is_told_as_no_workspace(log_war_room: WarRoom, requests_mock: rm.Mocker) -> None:
    log_room(requests_mock)
    requests_mock.post(LOG_QUERIES, **query_refusal("StorageBlobLogs"))
    error = log_war_room.run(LOG_SEARCH, **ONE).error
    assert "No Log Analytics workspace that this identity can read" in error
    assert "(400 BadArgumentError)" in error
    assert "account-logging-get" in error


def test_another_refusal_of_a_query_is_not_told_as_no_workspace(
    log_war_room: WarRoom, requests_mock: rm.Mocker
) -> None:
    log_room(requests_mock)
    requests_mock.post(LOG_QUERIES, **query_refusal("RequesterUpn"))
    for args in ({}, {"query": "StorageBlobLogs | where RequesterUpn == 1"}):
        error = log_war_room.run(LOG_SEARCH, **ONE, **args).error
        assert "Failed to resolve table or column expression named 'RequesterUpn'" in error
        assert "No Log Analytics workspace" not in error


WEBSITE_ROW = {"OperationName": "GetWebContent", "Uri": f"https://{ACCOUNT}.z6.web.core.windows.net:443/a.html"}


@pytest.mark.parametrize(
    ("container", "row"),
    [
        ("$web", WEBSITE_ROW),
        ("$web", {"Uri": f"{BLOB_HOST}:443/%24web/a.html"}),
        ("$root", {"Uri": f"{BLOB_HOST}:443/a.html"}),
    ],
)
def test_containers_that_an_address_does_not_name_are_searched(
    log_war_room: WarRoom, requests_mock: rm.Mocker, container: str, row: dict[str, str]
) -> None:
    root = {"Uri": f"{BLOB_HOST}:443/evidence?restype=container&comp=list"}
    rows = [{**row, "CorrelationId": "wanted"}, {"Uri": f"{BLOB_HOST}/evidence/a.html"}, root]
    log_room(requests_mock, *(log_row(**{"ObjectKey": "", **each}) for each in rows))
    found = result_of(log_war_room, container_name=container, blob_name="a.html").raw["rows"]
    assert [each["CorrelationId"] for each in found] == ["wanted"]


def test_what_a_website_gave_away_is_a_download(log_war_room: WarRoom, requests_mock: rm.Mocker) -> None:
    log_room(requests_mock, log_row(**WEBSITE_ROW))
    assert len(result_of(log_war_room, hunt="downloads").raw["rows"]) == 1


def test_a_missing_right_to_the_logs_is_named(log_war_room: WarRoom, requests_mock: rm.Mocker) -> None:
    log_room(requests_mock)
    requests_mock.post(LOG_QUERIES, status_code=403, json=arm_failure("InsufficientAccessError"))
    assert "Microsoft.Insights/logs/StorageBlobLogs/read" in log_war_room.run(LOG_SEARCH, **ONE).error


@pytest.mark.parametrize("broken", [{"tables": []}, {"tables": [{"columns": [{"name": "Uri"}], "rows": [["a", "b"]]}]}])
def test_an_answer_without_a_table_is_no_empty_answer(
    log_war_room: WarRoom, requests_mock: rm.Mocker, broken: dict[str, Any]
) -> None:
    log_room(requests_mock)
    requests_mock.post(LOG_QUERIES, json=broken)
    assert "holds no table" in log_war_room.run(LOG_SEARCH, **ONE).error


def test_logging_that_is_off_is_told_with_what_turns_it_on(log_war_room: WarRoom, requests_mock: rm.Mocker) -> None:
    log_room(requests_mock, logs=[ALL_LOGS[0]])
    text = result_of(log_war_room).text
    assert "Not logged to a workspace at present: StorageWrite, StorageDelete." in text
    assert f"!azure-storage-account-logging-set account_name={ACCOUNT} workspace_id=" in text
    archive = {"properties": {"storageAccountId": ACCOUNT_PATH.replace(ACCOUNT, LOG_ACCOUNT), "logs": ALL_LOGS}}
    requests_mock.get(ARM + SETTINGS, json={"value": [archive]})
    text = result_of(log_war_room).text
    assert "Not logged to a workspace at present: StorageRead, StorageWrite, StorageDelete." in text
    assert f"Logs also go to storage account {LOG_ACCOUNT}" in text
    requests_mock.get(ARM + SETTINGS, status_code=403, json=arm_failure("AuthorizationFailed"))
    assert "unknown whether logging is enabled" in result_of(log_war_room).text


def test_more_rows_than_a_query_gives_are_told(
    log_war_room: WarRoom, requests_mock: rm.Mocker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(az, "LOG_ROWS", 3)
    log_room(requests_mock, *(log_row(CorrelationId=f"c-{number}") for number in range(4)))
    found = result_of(log_war_room, limit="2")
    assert "take 4" in sent_query(requests_mock)
    assert "Only the newest 3 requests were read" in found.text
    assert "Matching requests: 3." in found.text
    assert len(found.raw["rows"]) == 2


def test_a_spreadsheet_runs_nothing_of_a_stranger(
    log_war_room: WarRoom, requests_mock: rm.Mocker, tmp_path: Path
) -> None:
    log_room(requests_mock, log_row(UserAgentHeader='"=cmd|calc"', RequesterUpn="![x](https://evil.example)"))
    found = result_of(log_war_room)
    (path,) = tmp_path.iterdir()
    assert ",'=cmd|calc," in path.read_text()
    assert "https://evil" not in found.text


def test_signatures_in_logged_addresses_are_hidden(
    log_war_room: WarRoom, requests_mock: rm.Mocker, tmp_path: Path
) -> None:
    log_room(requests_mock, log_row(Uri=f"{BLOB_HOST}/evidence/a?sv=1&sig=marker-logged-signature"))
    result_of(log_war_room)
    (path,) = tmp_path.iterdir()
    assert "marker-logged" not in json.dumps(log_war_room.entries) + path.read_text()


def test_an_expert_has_a_query_of_their_own(log_war_room: WarRoom, requests_mock: rm.Mocker, tmp_path: Path) -> None:
    log_room(requests_mock)
    columns = [{"name": "Caller"}, {"name": "count_"}]
    requests_mock.post(LOG_QUERIES, json={"tables": [{"columns": columns, "rows": [["=a", 2], ["b", None]]}]})
    query = "StorageBlobLogs | summarize count() by Caller = CallerIpAddress"
    found = result_of(log_war_room, query=query, limit="1")
    assert sent_query(requests_mock) == query
    assert found.raw["rows"] == [{"Caller": "=a", "count_": 2}]
    assert "Rows: 2." in found.text
    (path,) = tmp_path.iterdir()
    assert path.read_text().splitlines() == ["Caller,count_", "'=a,2", "b,"]


def test_the_callers_that_are_told_apart_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(az, "KEPT_GROUPS", 2)
    monkeypatch.setattr(az, "KEPT_BLOBS", 3)
    written: list[list[object]] = []
    report = az.LogReport(az.AccountRef(SUBSCRIPTION, GROUP, ACCOUNT), 5, lambda row: written.append([*row]))
    for number in range(9):
        columns = log_row(CallerIpAddress=f"198.51.100.{number}:1", Uri=f"{BLOB_HOST}/evidence/{number}")
        report.add(az.LogRow.read(columns.get))
    assert len(written) == 9
    rows = sorted(report.summary().rows(1 << 20), key=lambda row: str(row["caller"]))
    assert [(row["caller"][:6], row["requests"], row["sasHash"]) for row in rows] == [
        ("SAS " + LEAKED_HASH[:2], 1, LEAKED_HASH),
        ("SAS " + LEAKED_HASH[:2], 1, LEAKED_HASH),
        ("others", 7, ""),
    ]
    assert sum(row["blobs"] for row in report.summary().rows(1 << 20)) == 3
    assert len(report.newest.rows(1 << 20)) == 5
    assert "Only the first 3 blob names" in report.notes(5, 3)[1]
    assert report.notes(5, 2)[2] == "Context holds 2 of 3 callers."


def log_line(**changes: Any) -> dict[str, Any]:
    """A line of PT1H.json."""
    return {
        "time": "2027-01-15T07:30:00.1234567Z",
        "category": "StorageRead",
        "operationName": "GetBlob",
        "statusCode": 200,
        "callerIpAddress": "198.51.100.9:51234",
        "uri": f"{BLOB_HOST}:443/evidence/a.txt",
        "correlationId": "c-1",
        "identity": {
            "type": "DelegationSas",
            "tokenHash": f"user-delegation({KEY_HASH}),SasSignature({LEAKED_HASH.upper()})",
            "requester": {"objectId": "o-1", "upn": "ann@contoso.com"},
        },
        "properties": {"userAgentHeader": '"curl"', "responseBodySize": 77},
        **changes,
    }


LOG_FOLDER = f"resourceId={ACCOUNT_PATH.upper()}/blobServices/default/"


class LogContainers:
    """The containers of a log account, which list with and without a delimiter, and hold append blobs that grow."""

    def __init__(self, mock: rm.Mocker, **containers: dict[str, bytes]) -> None:
        self.containers, self.read = containers, list[str]()
        mock.get(re.compile(f"{LOG_HOST}/"), content=self.answer)
        mock.get(f"{ARM}{ACCOUNT_PATH.replace(ACCOUNT, LOG_ACCOUNT)}", json={**account_body(), "name": LOG_ACCOUNT})
        setting = {"properties": {"storageAccountId": ACCOUNT_PATH.replace(ACCOUNT, LOG_ACCOUNT), "logs": ALL_LOGS}}
        mock.get(ARM + SETTINGS, json={"value": [setting]})

    def answer(self, request: Any, context: Any) -> bytes:
        container, _, name = unquote(urlsplit(request.url).path).lstrip("/").partition("/")
        held = self.containers.get(container.removeprefix("insights-logs-storage"))
        if held is None:
            context.status_code, context.headers["x-ms-error-code"] = 404, "ContainerNotFound"
            return b""
        if name:
            return self.blob(request, context, held, name)
        asked = {key.lower(): values[0] for key, values in parse_qs(urlsplit(request.url).query).items()}
        prefix, delimiter = asked.get("prefix", ""), asked.get("delimiter", "")
        names = [name for name in held if name.startswith(prefix)]
        if not delimiter:
            return blob_xml(names).encode()
        folders = sorted({prefix + name[len(prefix) :].partition("/")[0] + "/" for name in names})
        rows = "".join(f"<BlobPrefix><Name>{name}</Name></BlobPrefix>" for name in folders)
        return f"<EnumerationResults><Blobs>{rows}</Blobs><NextMarker/></EnumerationResults>".encode()

    def blob(self, request: Any, context: Any, held: dict[str, bytes], name: str) -> bytes:
        """What is there now; afterwards more is appended, as the hour goes on."""
        self.read.append(name.rpartition("h=")[2][:2])
        data = held[name]
        held[name] += json.dumps(log_line(correlationId="later")).encode() + b"\n"
        start, end = (int(place) for place in request.headers["x-ms-range"][6:].split("-"))
        part = data[start : end + 1]
        context.status_code = 206
        context.headers.update(
            {
                "ETag": f'"{len(data)}"',
                "x-ms-blob-type": "AppendBlob",
                "x-ms-creation-time": "Fri, 15 Jan 2027 07:00:00 GMT",
                "Content-Length": str(len(part)),
                "Content-Range": f"bytes {start}-{start + len(part) - 1}/{len(data)}",
            }
        )
        return part


def hour(number: int) -> str:
    return f"{LOG_FOLDER}y=2027/m=01/d=15/h={number:02}/m=00/PT1H.json"


def lines(*events: Any) -> bytes:
    return b"".join((event if isinstance(event, bytes) else json.dumps(event).encode()) + b"\n" for event in events)


IN_CONTAINERS = {"source": "container", "log_account_name": LOG_ACCOUNT}


def test_lines_of_containers_are_the_same_rows(log_war_room: WarRoom, requests_mock: rm.Mocker, tmp_path: Path) -> None:
    other = hour(7).replace(ACCOUNT.upper(), "CONTOSOOTHER")
    read = {
        hour(3): lines(log_line(correlationId="too early")),
        hour(7): lines(
            log_line(),
            b"no JSON",
            b"\xff\xfe",
            b"[1]",
            b'{"time": "never"}',
            b"",
            log_line(time="2027-01-15T05:00:00Z"),
        ),
        other: lines(log_line(correlationId="of another account")),
        f"{LOG_FOLDER}readme.txt": b"",
    }
    room = LogContainers(requests_mock, read=read, delete={})
    found = result_of(log_war_room, sas=LEAKED, since="2 hours", **IN_CONTAINERS)
    (row,) = found.raw["rows"]
    assert (row["CorrelationId"], row["StatusCode"], row["ResponseBodySize"]) == ("c-1", "200", 77)
    assert room.read == ["07"]
    (summary,) = found.raw["summary"]
    assert (summary["caller"], summary["key"]) == (f"SAS {LEAKED_HASH}", "user-delegation")
    assert summary["callerObjectId"] == "o-1"
    assert "Lines that are no log records: 4." in found.text
    assert "no container insights-logs-storagewrite" in found.text
    assert [path.suffix for path in tmp_path.iterdir()] != [], "the CSV file"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_log_file_that_grows_is_read_to_its_announced_length(
    log_war_room: WarRoom, requests_mock: rm.Mocker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(az, "BLOCK_SIZE", 512)
    events = [log_line(correlationId=f"c-{number}") for number in range(40)]
    LogContainers(requests_mock, read={hour(7): lines(*events)})
    found = result_of(log_war_room, **IN_CONTAINERS)
    assert {row["CorrelationId"] for row in found.raw["rows"]} == {f"c-{number}" for number in range(40)}
    assert "no log records" not in found.text


def test_logs_that_go_to_another_account_than_the_searched_one_are_told(
    log_war_room: WarRoom, requests_mock: rm.Mocker
) -> None:
    LogContainers(requests_mock, read={hour(7): lines(log_line())})
    for name, told in (("otherlogs", True), (LOG_ACCOUNT.upper(), False)):
        sink = {"storageAccountId": ACCOUNT_PATH.replace(ACCOUNT, name), "logs": ALL_LOGS}
        requests_mock.get(ARM + SETTINGS, json={"value": [{"name": "s", "properties": sink}]})
        text = result_of(log_war_room, **IN_CONTAINERS).text
        assert (f"Not logged to storage account {LOG_ACCOUNT} at present: StorageRead" in text) is told


def test_the_hour_after_holds_what_arrived_late(log_war_room: WarRoom, requests_mock: rm.Mocker) -> None:
    late = log_line(time="2027-01-15T05:59:59Z")
    room = LogContainers(requests_mock, read={hour(number): lines(late) for number in range(3, 8)})
    found = result_of(
        log_war_room, since="2027-01-15T05:10:00Z", until="2027-01-15T05:59:59Z", limit="1", **IN_CONTAINERS
    )
    assert room.read == ["05", "06"]
    assert "Matching requests: 2." in found.text


def test_one_log_file_that_fails_leaves_the_others(
    log_war_room: WarRoom, requests_mock: rm.Mocker, tmp_path: Path
) -> None:
    LogContainers(requests_mock, read={hour(6): lines(log_line()), hour(7): lines(log_line())})
    gone = {"status_code": 404, "headers": {"x-ms-error-code": "BlobNotFound"}}
    requests_mock.get(re.compile(f"{LOG_HOST}/.*h%3D06.*"), **gone)
    requests_mock.get(re.compile(f"{LOG_HOST}/.*h=06.*"), **gone)
    found = result_of(log_war_room, **IN_CONTAINERS)
    assert len(found.raw["rows"]) == 1
    assert "could not be read: 1. Could not read blob" in found.text
    requests_mock.get(re.compile(f"{LOG_HOST}/.*PT1H.*"), **gone)
    assert "BlobNotFound" in log_war_room.run(LOG_SEARCH, **ONE, **IN_CONTAINERS).error
    assert len(list(tmp_path.iterdir())) == 1, "only the file of the search that ended well"


# --- lifecycle ---------------------------------------------------------------------------------------------------------

LIFECYCLE = f"{ARM}{ACCOUNT_PATH}/managementPolicies/default"


def lifecycle_rule(name: str, days: int, *, action: str = "delete", **changes: Any) -> dict[str, Any]:
    base = {action: {"daysAfterModificationGreaterThan": days}}
    definition = {"actions": {"baseBlob": base}, "filters": {"blobTypes": ["blockBlob"], "prefixMatch": ["box/"]}}
    return {"name": name, "type": "Lifecycle", "enabled": True, "definition": definition, **changes}


class Lifecycle:
    """The policy of an account, which a PUT replaces."""

    def __init__(self, mock: rm.Mocker, *rules: dict[str, Any]) -> None:
        self.mock = mock
        mock.get(LIFECYCLE, json=lambda request, context: self.body)
        mock.put(LIFECYCLE, json=self.put)
        self.keep({"policy": {"rules": list(rules)}, "lastModifiedTime": "2027-01-14T00:00:00Z"})

    def keep(self, properties: dict[str, Any]) -> None:
        self.body = {"id": f"{ACCOUNT_PATH}/managementPolicies/default", "name": "Default", "properties": properties}

    def put(self, request: Any, context: Any) -> dict[str, Any]:
        self.keep(request.json()["properties"])
        return self.body


def test_rules_that_delete_early_are_flagged(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    Lifecycle(
        requests_mock,
        lifecycle_rule("wipe", 1),
        lifecycle_rule("wipe off", 1, enabled=False),
        lifecycle_rule("yearly", 365),
        lifecycle_rule("cool", 1, action="tierToCool"),
    )
    result = signed_in.run("azure-storage-account-lifecycle-get", **ONE)
    assert [row["deletesEarly"] for row in result.raw] == [True, False, False, False]
    assert [row["deletesAfterDays"] for row in result.raw] == [1, 1, 365, None]
    assert result.raw[0]["actions"] == [
        {"target": "baseBlob", "action": "delete", "condition": "daysAfterModificationGreaterThan", "days": 1}
    ]
    assert "within 7 days: wipe." in result.text


def test_no_lifecycle_policy_is_no_error(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    requests_mock.get(LIFECYCLE, status_code=404, json=arm_failure("ManagementPolicyNotFound"))
    assert "no lifecycle rules" in signed_in.run("azure-storage-account-lifecycle-get", **ONE).text
    error = signed_in.run("azure-storage-account-lifecycle-set", **ONE, rule_name="wipe", enabled="false").error
    assert "has no lifecycle rule 'wipe'. Its rules: none" in error


def test_one_rule_is_disabled_and_the_others_stay(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    rules = lifecycle_rule("wipe", 1), lifecycle_rule("yearly", 365, enabled=False)
    room = Lifecycle(requests_mock, *rules)
    args = {**ONE, "rule_name": "wipe", "enabled": "false"}
    dry = signed_in.run("azure-storage-account-lifecycle-set", **args, dry_run="true")
    assert change_of(dry)["after"] == {"enabled": False}
    assert not bodies(requests_mock, "PUT")
    result = signed_in.run("azure-storage-account-lifecycle-set", **args)
    assert change_of(result)["before"] == {"enabled": True}
    assert room.body["properties"]["policy"]["rules"] == [{**rules[0], "enabled": False}, rules[1]]
    assert change_of(result)["undo"].endswith("rule_name=wipe enabled=true")
    again = signed_in.run("azure-storage-account-lifecycle-set", **args)
    assert change_of(again)["changed"] is False
    assert len(bodies(requests_mock, "PUT")) == 1


def test_a_rule_that_stays_on_is_not_called_disabled(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    room = Lifecycle(requests_mock, lifecycle_rule("wipe", 1))
    requests_mock.put(LIFECYCLE, json=room.body)
    args = {**ONE, "rule_name": "wipe", "enabled": "false"}
    assert "Azure accepted the change, but" in signed_in.run("azure-storage-account-lifecycle-set", **args).error


def test_a_lost_answer_is_looked_up(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    room = Lifecycle(requests_mock, lifecycle_rule("wipe", 1))

    def lose(request: Any, context: Any) -> dict[str, Any]:
        room.put(request, context)
        raise requests.ReadTimeout

    requests_mock.put(LIFECYCLE, json=lose)
    result = signed_in.run("azure-storage-account-lifecycle-set", **ONE, rule_name="wipe", enabled="false")
    assert change_of(result)["changed"] is True


# --- access ------------------------------------------------------------------------------------------------------------

ASSIGNMENTS = f"{ACCOUNT_PATH}{az.ASSIGNMENTS_PATH}"
DEFINITIONS = f"{ACCOUNT_PATH}/providers/Microsoft.Authorization/roleDefinitions"
ANN, BOB, TEAM = (f"{number}0000000-aaaa-4bbb-8ccc-dddddddddddd" for number in (1, 2, 3))
MANAGEMENT = "/providers/Microsoft.Management/managementGroups/contoso"
BLOBS_ACTION = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs"
# Roles by a short name: actions, notActions, dataActions, notDataActions.
ROLES: dict[str, tuple[list[str], list[str], list[str], list[str]]] = {
    "owner": (["*"], [], [], []),
    "contributor": (["*"], ["Microsoft.Authorization/*/Delete", "microsoft.authorization/*/WRITE"], [], []),
    "reader": (["*/read"], [], [], []),
    "keys": (["microsoft.storage/storageaccounts/LISTKEYS/action"], [], [], []),
    "data": (
        [],
        [],
        [f"{BLOBS_ACTION}/*"],
        [f"{BLOBS_ACTION}/WRITE", f"{BLOBS_ACTION}/add/action", f"{BLOBS_ACTION}/delete"],
    ),
    "queue": ([], [], ["Microsoft.Storage/storageAccounts/queueServices/*"], []),
}


def role_id(name: str) -> str:
    number = list(ROLES).index(name)
    return f"{SUB_PATH}/providers/Microsoft.Authorization/roleDefinitions/9000000{number}-0000-4000-8000-000000000000"


SUB_PATH = f"/subscriptions/{SUBSCRIPTION}"


def definition(name: str) -> dict[str, Any]:
    keys = ("actions", "notActions", "dataActions", "notDataActions")
    permissions = [dict(zip(keys, ROLES[name], strict=True))]
    return {"id": role_id(name), "properties": {"roleName": f"The {name}", "permissions": permissions}}


def assignment(
    name: str, role: str, principal: str = ANN, scope: str = ACCOUNT_PATH, kind: str = "User", **more: str
) -> dict[str, Any]:
    properties = {"scope": scope, "roleDefinitionId": role_id(role), "principalId": principal, "principalType": kind}
    created = {"createdOn": "2026-11-01T00:00:00.123Z", "createdBy": BOB}
    return {
        "id": f"{scope.rstrip('/')}{az.ASSIGNMENTS_PATH}/{name}",
        "name": name,
        "properties": {**properties, **created, **more},
    }


def guid(number: int) -> str:
    return f"c000000{number}-0000-4000-8000-000000000000"


def access_room(mock: rm.Mocker, assignments: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Role assignments that are listed, removed and set: with the filter those at or above the account, else all."""
    held = list(assignments)

    def listing(request: Any, context: Any) -> dict[str, Any]:
        above = query(request).get("$filter") == "atScope()"
        below = f"{ACCOUNT_PATH}/"
        return {"value": [item for item in held if not above or not item["properties"]["scope"].startswith(below)]}

    def change(request: Any, context: Any) -> dict[str, Any]:
        path = unquote(urlsplit(request.url).path)
        found = [item for item in held if item["id"] == path]
        held[:] = [item for item in held if item["id"] != path]
        if request.method == "DELETE":
            context.status_code = 200 if found else 204
            return found[0] if found else {}
        scope = path.split(az.ASSIGNMENTS_PATH)[0]
        item = {
            "id": path,
            "name": path.rpartition("/")[2],
            "properties": {"scope": scope, **request.json()["properties"]},
        }
        held.append(item)
        context.status_code = 201
        return item

    mock.get(ARM + ASSIGNMENTS, json=listing)
    mock.get(ARM + DEFINITIONS, json={"value": [definition(name) for name in ROLES]})
    for method in ("PUT", "DELETE"):
        mock.register_uri(method, re.compile(f"{re.escape(ARM)}/.*roleAssignments/"), json=change)
    return held


def access_rows(result: SimpleNamespace) -> dict[str, dict[str, Any]]:
    rows = result.context["AzureStorage.RoleAssignment(val.id && val.id == obj.id)"]
    return {row["name"]: row for row in rows}


EVERYWHERE = [
    assignment(guid(0), "owner", scope=MANAGEMENT),
    assignment(guid(1), "contributor", TEAM, SUB_PATH, "Group"),
    assignment(guid(2), "reader", scope=GROUP_PATH),
    assignment(guid(3), "keys"),
    assignment(guid(4), "data", BOB, f"{CONTAINERS_PATH}/logs", "ServicePrincipal", condition="@Resource = 'x'"),
    assignment(guid(5), "owner", BOB, f"{CONTAINERS_PATH}/logs"),
    assignment(guid(6), "queue", scope=f"{ACCOUNT_PATH}/queueServices/default/queues/q"),
    assignment(guid(7), "reader", scope="/"),
]


def test_access_tells_what_every_assignment_allows_here(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    live_account(requests_mock)
    access_room(requests_mock, EVERYWHERE)
    result = signed_in.run("azure-storage-access-list", **ONE)
    rows = access_rows(result)
    rights = {
        name: "".join(right.name[0] if row[right.name] else "-" for right in az.RIGHTS) for name, row in rows.items()
    }
    assert rights == {
        guid(0): "rwlcg",
        guid(1): "rwlc-",
        guid(2): "-----",
        guid(3): "rwl--",
        guid(4): "r----",
        guid(5): "----g",
        guid(6): "-----",
        guid(7): "-----",
    }
    kinds = ["management group", "subscription", "resource group", "account", "container", "container", "other service"]
    assert [rows[guid(number)]["scopeType"] for number in range(8)] == [*kinds, "tenant root"]
    assert {name for name, row in rows.items() if row["inherited"]} == {guid(number) for number in (0, 1, 2, 7)}
    assert {name for name, row in rows.items() if row["dataByKeys"]} == {guid(number) for number in (0, 1, 3)}
    assert "groups" in result.text
    assert "deny assignments" in result.text
    assert "Conditions are shown and not evaluated" in result.text
    own = signed_in.run("azure-storage-access-list", **ONE, principal_id=BOB.upper())
    assert list(access_rows(own)) == [guid(4), guid(5)]


def test_a_role_on_the_blob_service_reaches_all_its_blobs(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    live_account(requests_mock)
    access_room(requests_mock, [assignment(guid(1), "data", scope=SERVICE_PATH)])
    result = signed_in.run("azure-storage-access-list", **ONE)
    row = access_rows(result)[guid(1)]
    assert (row["scopeType"], row["readBlobs"], row["inherited"]) == ("blob service", True, False)
    assert "access control lists (ACLs) of a hierarchical namespace" in result.text


def test_keys_give_no_data_where_shared_key_is_off(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    live_account(requests_mock, allowSharedKeyAccess=False)
    access_room(requests_mock, EVERYWHERE)
    result = signed_in.run("azure-storage-access-list", **ONE)
    assert (access_rows(result)[guid(3)]["readBlobs"], access_rows(result)[guid(3)]["listKeys"]) == (False, True)
    assert "can enable Shared Key access" in result.text


def test_a_role_that_is_not_listed_is_unknown_and_not_harmless(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    live_account(requests_mock)
    access_room(requests_mock, [assignment(guid(1), "owner")])
    requests_mock.get(ARM + DEFINITIONS, json={"value": []})
    row = access_rows(signed_in.run("azure-storage-access-list", **ONE))[guid(1)]
    assert row["allows"] == ["unknown"]
    assert "readBlobs" not in row


def test_an_assignment_is_removed_and_put_back_as_it_was(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    live_account(requests_mock)
    condition = "((@Resource[a:name] StringEquals 'logs'))"
    kept = assignment(guid(1), "data", condition=condition, conditionVersion="2.0", description='for "the" team')
    held = access_room(requests_mock, [kept, *EVERYWHERE])
    result = signed_in.run("azure-storage-access-remove", **ONE, assignment_id=kept["id"].upper())
    assert kept not in held
    assert len(held) == len(EVERYWHERE)
    change = change_of(result)
    assert (change["changed"], change["before"]["condition"], change["after"]["condition"]) == (True, condition, None)
    assert "other roles of this principal" in result.text
    removed = result.context["AzureStorage.RemovedRoleAssignment(val.id && val.id == obj.id)"]
    assert (removed["id"], removed["restore"]) == (kept["id"], change["undo"])
    back = signed_in.run(*typed(change["undo"])[0], **typed(change["undo"])[1])
    assert not back.error
    put_back = held[-1]
    assert put_back["id"] == kept["id"]
    same = ("roleDefinitionId", "principalId", "principalType", "condition", "conditionVersion", "description")
    assert {key: put_back["properties"][key] for key in same} == {key: kept["properties"][key] for key in same}
    assert change_of(back)["undo"].startswith("!azure-storage-access-remove")
    again = signed_in.run(*typed(change["undo"])[0], **typed(change["undo"])[1])
    assert change_of(again)["changed"] is False


def test_a_role_without_its_subscription_is_the_same_role(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    access_room(requests_mock, [])
    given = assignment(guid(1), "data")
    answer = {**given, "properties": {**given["properties"], "roleDefinitionId": role_id("data").upper()}}
    requests_mock.put(ARM + given["id"], status_code=201, json=answer)
    bare = role_id("data").removeprefix(SUB_PATH)
    args = {"assignment_id": given["id"], "role_definition_id": bare, "principal_id": ANN}
    result = signed_in.run("azure-storage-access-restore", **ONE, **args)
    assert not result.error
    assert change_of(result)["changed"] is True
    access_room(requests_mock, [given])
    again = signed_in.run("azure-storage-access-restore", **ONE, **args)
    assert change_of(again)["changed"] is False


def test_the_undo_of_a_changed_assignment_does_not_remove_it(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    live_account(requests_mock)
    held = access_room(requests_mock, [assignment(guid(1), "data", condition="@Resource = 'x'")])
    args = {"assignment_id": held[0]["id"], "role_definition_id": role_id("data"), "principal_id": ANN}
    result = signed_in.run("azure-storage-access-restore", **ONE, **args, condition="@Resource = 'y'")
    undo, values = typed(change_of(result)["undo"])
    assert undo == ["azure-storage-access-restore"]
    assert not signed_in.run(*undo, **values).error
    assert held[0]["properties"]["condition"] == "@Resource = 'x'"


def test_an_assignment_that_goes_meanwhile_is_not_called_removed(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    live_account(requests_mock)
    held = access_room(requests_mock, [assignment(guid(1), "reader")])

    def gone(request: Any, context: Any) -> str:
        held.clear()
        return ""

    requests_mock.delete(ARM + held[0]["id"], status_code=204, text=gone)
    result = signed_in.run("azure-storage-access-remove", **ONE, assignment_id=guid(1))
    assert change_of(result)["changed"] is False
    assert "No role assignment" in result.text


def typed(line: str) -> tuple[list[str], dict[str, str]]:
    """A command line of an undo, as the war room reads it."""
    pairs = re.findall(r'(\w+)=(?:`([^`]*)`|"((?:\\.|[^"\\])*)"|(\S+))', line)
    values = {name: tick or re.sub(r"\\(.)", r"\1", quoted) or bare for name, tick, quoted, bare in pairs}
    return [line.split()[0].lstrip("!")], values


@pytest.mark.parametrize(
    ("scope", "name", "kind"),
    [
        (GROUP_PATH, GROUP, "resource group"),
        (SUB_PATH, SUBSCRIPTION, "subscription"),
        (MANAGEMENT, "contoso", "management group"),
        ("/", "root", "tenant root"),
    ],
)
def test_an_assignment_above_the_account_needs_its_name(
    signed_in: WarRoom, requests_mock: rm.Mocker, scope: str, name: str, kind: str
) -> None:
    live_account(requests_mock)
    wide = assignment(guid(1), "owner", scope=scope)
    held = access_room(requests_mock, [wide, assignment(guid(2), "reader")])
    refused = signed_in.run("azure-storage-access-remove", **ONE, assignment_id=guid(1))
    assert f"everything in the {kind} {name}" in refused.error
    assert f"confirm={name}" in refused.error
    assert not writes(requests_mock)
    result = signed_in.run("azure-storage-access-remove", **ONE, assignment_id=guid(1), confirm=name)
    assert held == [assignment(guid(2), "reader")]
    undo, values = typed(change_of(result)["undo"])
    assert values["confirm"] == name
    assert not signed_in.run(*undo, **values).error
    assert held[-1]["id"] == wide["id"]


def test_a_removal_whose_answer_is_lost_is_looked_at(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    live_account(requests_mock)
    held = access_room(requests_mock, [assignment(guid(1), "reader")])

    def lost(request: Any, context: Any) -> dict[str, Any]:
        held.clear()
        raise requests.exceptions.ReadTimeout("lost")

    requests_mock.delete(ARM + assignment(guid(1), "reader")["id"], json=lost)
    assert change_of(signed_in.run("azure-storage-access-remove", **ONE, assignment_id=guid(1)))["changed"] is True


def test_an_assignment_that_stays_is_a_failure(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    live_account(requests_mock)
    access_room(requests_mock, [assignment(guid(1), "reader")])
    requests_mock.delete(ARM + assignment(guid(1), "reader")["id"], status_code=200, json={})
    result = signed_in.run("azure-storage-access-remove", **ONE, assignment_id=guid(1))
    assert "Azure accepted the change, but" in result.error


def test_our_own_last_assignment_is_not_removed_unasked(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    signed_in.sign_in(jwt(oid=ANN.upper()))
    live_account(requests_mock)
    held = access_room(requests_mock, [assignment(guid(1), "reader"), assignment(guid(2), "owner", BOB)])
    refused = signed_in.run("azure-storage-access-remove", **ONE, assignment_id=guid(1))
    assert "`accept_lockout`" in refused.error
    assert len(held) == 2
    assert not signed_in.run("azure-storage-access-remove", **ONE, assignment_id=guid(2)).error
    accepted = signed_in.run("azure-storage-access-remove", **ONE, assignment_id=guid(1), accept_lockout="true")
    assert change_of(accepted)["changed"] is True
    assert held == []


def test_an_assignment_elsewhere_is_neither_removed_nor_restored(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    live_account(requests_mock)
    access_room(requests_mock, EVERYWHERE)
    other = f"{GROUP_PATH}x{az.ASSIGNMENTS_PATH}/{guid(9)}"
    absent = signed_in.run("azure-storage-access-remove", **ONE, assignment_id=other)
    assert "No role assignment" in absent.text
    args = {"assignment_id": other, "role_definition_id": role_id("owner"), "principal_id": BOB}
    refused = signed_in.run("azure-storage-access-restore", **ONE, **args)
    assert f"its scope doesn't reach {ACCOUNT}" in refused.error
    twin = {**args, "assignment_id": f"{CONTAINERS_PATH}/logs{az.ASSIGNMENTS_PATH}/{guid(9)}"}
    assert "has this role at this scope already" in signed_in.run("azure-storage-access-restore", **ONE, **twin).text
    assert not writes(requests_mock)


def test_access_names_the_permission_that_is_missing(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    live_account(requests_mock)
    access_room(requests_mock, EVERYWHERE)
    requests_mock.get(ARM + ASSIGNMENTS, status_code=403, json=arm_failure("AuthorizationFailed"))
    assert "Microsoft.Authorization/roleAssignments/read" in signed_in.run("azure-storage-access-list", **ONE).error
    requests_mock.get(ARM + ASSIGNMENTS, text="<html>proxy</html>", headers={"Via": "a proxy"})
    assert "proxy" in signed_in.run("azure-storage-access-list", **ONE).error


# --- exposure ----------------------------------------------------------------------------------------------------------

WEBSITE = f"https://{ACCOUNT}.z6.web.core.windows.net/"
PROBED_URL = f"{BLOB_HOST}/logs/a.txt"
LISTED = "<?xml version='1.0'?><EnumerationResults/>"
PROXY_PAGE = {"text": "<html>Sign in to the proxy</html>", "headers": {"Via": "a proxy"}}


def refused_with(status: int, name: str) -> dict[str, Any]:
    return {"status_code": status, "headers": {"x-ms-error-code": name}}


def exposure_room(mock: rm.Mocker, answer: dict[str, Any] | None = None) -> None:
    """The endpoints of an account: all open, or all with one answer."""
    endpoints = {"primaryEndpoints": {"blob": f"{BLOB_HOST}/", "web": WEBSITE}}
    mock.get(ARM + ACCOUNT_PATH, json=account_body(**endpoints))
    mock.head(PROBED_URL, **(answer or {"headers": BLOB_HEADERS}))
    mock.get(f"{BLOB_HOST}/logs?restype=container&comp=list", **(answer or {"text": LISTED}))
    mock.get(f"{BLOB_HOST}/?comp=list", **(answer or {"text": LISTED}))
    service = {"text": "<?xml version='1.0'?><StorageServiceProperties/>"}
    mock.get(f"{BLOB_HOST}/?restype=service&comp=properties", **(answer or service))
    mock.head(WEBSITE, **(answer or {}))


def exposure_rows(result: SimpleNamespace) -> dict[str, dict[str, Any]]:
    assert not result.error
    rows = result.context["AzureStorage.Exposure(val.id && val.id == obj.id)"]
    return {row["target"]: row for row in rows}


def test_a_probe_asks_as_a_stranger_does(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    exposure_room(requests_mock)
    rows = exposure_rows(result := signed_in.run("azure-storage-exposure-probe", blob_url=PROBED_URL))
    targets = {"blob", "container listing", "account containers", "account properties", "static website"}
    assert rows.keys() == targets
    assert {row["state"] for row in rows.values()} == {"open"}
    asked = [request for request in requests_mock.request_history if ARM not in request.url]
    assert len(asked) == len(targets)
    assert not any("Authorization" in request.headers or "sig=" in request.url for request in asked)
    assert "public address isn't set in the instance" in result.text
    signed_in.params["own_ip_addresses"] = "203.0.113.7"
    assert "203.0.113.7" in signed_in.run("azure-storage-exposure-probe", blob_url=PROBED_URL).text


@pytest.mark.parametrize(
    ("answer", "state", "reason"),
    [
        (refused_with(409, "PublicAccessNotPermitted"), "closed", "disabled on the account"),
        (refused_with(404, "ResourceNotFound"), "closed", "Private, or it doesn't exist"),
        (refused_with(401, "NoAuthenticationInformation"), "closed", "requires a credential"),
        (refused_with(403, "AuthorizationFailure"), "closed", "network rules"),
        (refused_with(403, "SomethingNew"), "closed", "refused"),
        (refused_with(404, "BlobNotFound"), "open", "nothing to read"),
        (refused_with(400, "InvalidHeaderValue"), "unknown", "neither"),
        (refused_with(302, ""), "unknown", "neither"),
        ({"status_code": 403, **PROXY_PAGE}, "unknown", "proxy"),
        ({"status_code": 200, **PROXY_PAGE}, "unknown", "proxy"),
        ({"status_code": 404, **PROXY_PAGE}, "unknown", "proxy"),
        ({"exc": requests.exceptions.ConnectTimeout}, "unknown", "did not answer"),
        ({"exc": requests.exceptions.ReadTimeout}, "unknown", "longer"),
        ({"status_code": 503}, "unknown", "neither"),
    ],
)
def test_only_an_answer_of_the_service_says_closed(
    signed_in: WarRoom, requests_mock: rm.Mocker, answer: dict[str, Any], state: str, reason: str
) -> None:
    exposure_room(requests_mock, answer)
    rows = exposure_rows(signed_in.run("azure-storage-exposure-probe", blob_url=PROBED_URL))
    for name in ("blob", "container listing", "account containers", "account properties"):
        assert rows[name]["state"] == state, rows[name]
        assert reason in rows[name]["reason"]


def test_a_page_with_the_headers_of_the_service_is_no_listing(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    exposure_room(requests_mock, {"text": "<html>EnumerationResults</html>"})
    rows = exposure_rows(signed_in.run("azure-storage-exposure-probe", blob_url=PROBED_URL))
    assert rows["container listing"]["state"] == "unknown"
    assert rows["blob"]["state"] == "unknown"


def test_a_probe_never_follows_a_redirect(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    exposure_room(requests_mock, {"status_code": 302, "headers": {"Location": "https://evil.example/"}})
    rows = exposure_rows(signed_in.run("azure-storage-exposure-probe", blob_url=PROBED_URL))
    assert {row["state"] for row in rows.values()} == {"unknown"}
    assert not requests_to(requests_mock, "evil.example")


def test_a_probe_with_a_sas_sends_only_that(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    exposure_room(requests_mock)
    sas = "sv=2022-11-02&sr=c&sp=r&sig=MARKERSIGNATURE%3D"
    signed_in.params["storage_credentials"] = {"identifier": ACCOUNT, "password": "A" * 86 + "=="}
    result = signed_in.run("azure-storage-exposure-probe", account_name=ACCOUNT, container_name="logs", sas=sas)
    rows = exposure_rows(result)
    assert "static website" not in rows
    assert {row["credential"] for row in rows.values()} == {"SAS"}
    asked = [request for request in requests_mock.request_history if ARM not in request.url]
    assert len(asked) == 3
    assert all(request.url.endswith(sas) and "Authorization" not in request.headers for request in asked)
    assert "MARKERSIGNATURE" not in json.dumps(result.entry)
    assert not any("MARKERSIGNATURE" in line for line in signed_in.log)
    foreign = signed_in.run("azure-storage-exposure-probe", **ONE, sas=f"https://other.blob.core.windows.net/?{sas}")
    assert "for account other" in foreign.error


@pytest.mark.parametrize("host", ["evil.example", f"{ACCOUNT}.blob.core.windows.net.evil.example", "127.0.0.1"])
def test_a_probe_asks_only_the_storage_of_the_cloud(signed_in: WarRoom, requests_mock: rm.Mocker, host: str) -> None:
    exposure_room(requests_mock)
    result = signed_in.run("azure-storage-exposure-probe", blob_url=f"https://{host}/{ACCOUNT}/logs/a.txt")
    assert result.error
    assert not requests_to(requests_mock, host)


def test_a_website_is_probed_where_its_address_says(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    requests_mock.get(ARM + ACCOUNT_PATH, status_code=403, json=arm_failure("AuthorizationFailed"))
    requests_mock.head(f"{WEBSITE}a%20b/index.html")
    requests_mock.head(re.compile(re.escape(BLOB_HOST)), **refused_with(409, "PublicAccessNotPermitted"))
    requests_mock.get(re.compile(re.escape(BLOB_HOST)), **refused_with(409, "PublicAccessNotPermitted"))
    rows = exposure_rows(signed_in.run("azure-storage-exposure-probe", blob_url=f"{WEBSITE}a%20b/index.html"))
    assert rows["static website"]["state"] == "open"
    assert {row["state"] for name, row in rows.items() if name != "static website"} == {"closed"}
    requests_mock.head(f"{WEBSITE}a%20b/index.html", **refused_with(404, "WebContentNotFound"))
    rows = exposure_rows(signed_in.run("azure-storage-exposure-probe", blob_url=f"{WEBSITE}a%20b/index.html"))
    assert rows["static website"]["state"] == "unknown"
    nowhere = signed_in.run("azure-storage-exposure-probe", **ONE)
    assert "static website, whose address could not be read" in nowhere.text


# --- triage ------------------------------------------------------------------------------------------------------------

ACTIVITY = f"{SUB_PATH}/providers/Microsoft.Insights/eventtypes/management/values"
DEFENDER = f"{ACCOUNT_PATH}/providers/Microsoft.Security/defenderForStorageSettings/current"
REPLICATION = f"{ACCOUNT_PATH}/objectReplicationPolicies"
# The parts of a triage, and the path that tells each.
TRIAGE_PARTS = {
    "account": ACCOUNT_PATH,
    "activity log": ACTIVITY,
    "role definitions": DEFINITIONS,
    "role assignments": ASSIGNMENTS,
    "containers": CONTAINERS_PATH,
    "blob service": SERVICE_PATH,
    "locks": LOCKS,
    "logging": SETTINGS,
    "Defender": DEFENDER,
    "replication policies": REPLICATION,
}
# What must not be said of a part that was not read.
SAFE_WORDS = {
    "account": ("Anonymous: closed", "Network: no public", "refused (Shared Key"),
    "activity log": ("holds no change",),
    "role definitions": ("0 can read blobs",),
    "role assignments": ("Identities: 0",),
    "containers": ("Anonymous: closed",),
    "blob service": ("Deleted blobs",),
    "locks": ("Locks:** none",),
    "logging": ("Blob logging",),
    "Defender": ("Defender for Storage: on", "Defender for Storage: off"),
    "replication policies": ("Object replication",),
}
ALERT_URL = f"{BLOB_HOST}/logs/a.txt?sv=2022-11-02&sr=c&sp=rl&si=partners&sig=MARKERSIGNATURE%3D"


def account_events() -> list[dict[str, Any]]:
    opened = event(4, "Microsoft.Storage/storageAccounts/write")
    opened["properties"] = {"requestbody": json.dumps({"properties": {"networkAcls": {"defaultAction": "Allow"}}})}
    opened["httpRequest"] = {"clientIpAddress": "198.51.100.9"}
    begun = event(3, "Microsoft.Storage/storageAccounts/listKeys/action")
    begun["status"] = {"value": "Started"}
    keys = event(2, "Microsoft.Storage/storageAccounts/listKeys/action", caller="[mallory](https://evil.example)")
    return [opened, begun, keys, event(1, "Microsoft.Storage/storageAccounts/write", f"{ACCOUNT_PATH}2")]


def triage_room(mock: rm.Mocker, **properties: Any) -> None:
    """Everything that a triage reads, of an account that is wide open."""
    website = {"staticWebsite": {"enabled": False}}
    mock.get(ARM + ACCOUNT_PATH, json=account_body(**{"allowBlobPublicAccess": True, **properties}))
    mock.get(ARM + SUB_PATH, json={"id": SUB_PATH, "displayName": "Contoso [production]"})
    mock.get(ARM + ACTIVITY, json={"value": account_events()})
    access_room(mock, EVERYWHERE)
    logs = {**container_body(publicAccess="Blob", hasLegalHold=False)}
    mock.get(ARM + CONTAINERS_PATH, json={"value": [logs, {"name": "private", "properties": {"publicAccess": "None"}}]})
    blob_service(mock, {"deleteRetentionPolicy": {"enabled": True, "days": 7}, **website})
    mock.get(ARM + LOCKS, json={"value": [lock(ACCOUNT_PATH, "freeze", "ReadOnly")]})
    mock.get(ARM + SETTINGS, json={"value": []})
    mock.get(ARM + DEFENDER, json={"name": "current", "properties": {"isEnabled": True}})
    policy = {
        "id": f"{REPLICATION}/1",
        "properties": {"destinationAccount": "elsewhere", "metrics": {"enabled": True}, "rules": [{"ruleId": "1"}]},
    }
    mock.get(ARM + REPLICATION, json={"value": [policy]})


def triage_of(result: SimpleNamespace) -> dict[str, Any]:
    assert not result.error
    found: dict[str, Any] = result.context["AzureStorage.Triage(val.id && val.id == obj.id)"]
    return found


def test_a_share_of_an_alert_is_not_taken_for_a_container(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    triage_room(requests_mock)
    facts = triage_of(
        signed_in.run("azure-storage-triage", blob_url=f"https://{ACCOUNT}.file.core.windows.net/logs/a.txt")
    )
    assert facts["id"] == ACCOUNT_PATH
    assert not facts.get("container")


def test_a_triage_tells_the_whole_picture(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    triage_room(requests_mock)
    result = signed_in.run("azure-storage-triage", blob_url=ALERT_URL)
    facts = triage_of(result)
    assert (facts["id"], facts["container"], facts["blob"]) == (ACCOUNT_PATH, "logs", "a.txt")
    assert facts["anonymous"]["state"] == "open"
    assert facts["anonymous"]["publicContainers"] == [{"name": "logs", "publicAccess": "Blob"}]
    assert facts["network"]["reach"] == "all networks"
    assert facts["identities"] == {
        "assignments": 8,
        "principals": 3,
        "groups": 1,
        "unknownRoles": 0,
        "readBlobs": 3,
        "writeBlobs": 2,
        "listKeys": 2,
        "changeAccount": 2,
        "grantAccess": 2,
    }
    sas = result.context["AzureStorage.Sas(val.sha256 && val.sha256 == obj.sha256)"]
    assert (sas["sha256"], sas["policy"]) == (facts["sas"], "partners")
    assert "service SAS with a stored policy" in result.text
    assert [(row["what"], row.get("settings")) for row in facts["changes"]] == [
        ("account changed", ["networkAcls"]),
        ("keys listed", None),
    ]
    assert facts["logging"]["notLogged"] == list(az.BLOB_LOGS)
    assert (facts["softDeleteDays"], facts["versioning"]) == (7, False)
    assert facts["replication"][0]["destination"] == "elsewhere"
    assert facts["subscriptionName"] == "Contoso [production]"
    assert f"Contoso \\[production\\] ({SUBSCRIPTION})" in result.text
    assert facts["unknown"] == []
    assert "Unknown" not in result.text
    assert "MARKERSIGNATURE" not in json.dumps(result.entry)
    assert "](https:" not in result.text, "a caller's name is no live link"
    assert len(result.entry["HumanReadable"]) < 6000


def test_a_triage_names_the_commands_in_their_order(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    triage_room(requests_mock)
    lines = triage_of(signed_in.run("azure-storage-triage", blob_url=ALERT_URL))["commands"]
    assert [line.split()[0].removeprefix("!azure-storage-") for line in lines] == [
        "account-activity-list",
        "account-lock-remove",
        "account-logging-set",
        "container-legal-hold-set",
        "container-policy-revoke",
        "account-isolate",
        "access-list",
        "exposure-probe",
        "account-lock-set",
    ]
    assert "own_ip=" in lines[5]
    for line in lines:
        found = az.COMMANDS[line.split()[0].removeprefix("!")]
        assert set(typed(line)[1]) <= found.arguments().keys()
    signed_in.params["own_ip_addresses"] = "203.0.113.7"
    lines = triage_of(signed_in.run("azure-storage-triage", blob_url=ALERT_URL))["commands"]
    assert "own_ip" not in " ".join(lines)


@pytest.mark.parametrize("elsewhere", [False, True])
def test_a_triage_asks_a_bounded_number_of_times(signed_in: WarRoom, requests_mock: rm.Mocker, elsewhere: bool) -> None:
    triage_room(requests_mock)
    if elsewhere:
        signed_in.params |= {"resource_group_name": "rg-other"}
        signed_in.sign_in()
        wrong = f"{ARM}{ACCOUNT_PATH.replace(GROUP, 'rg-other')}"
        requests_mock.get(wrong, status_code=404, json=arm_failure("ResourceNotFound"))
        requests_mock.post(GRAPH, json={"data": [{"id": ACCOUNT_PATH}]})

    def page(request: Any, context: Any) -> dict[str, Any]:
        number = int(query(request).get("$skipToken", "0")) + 1
        return {"value": account_events(), "nextLink": f"{request.url.partition('?')[0]}?%24skipToken={number}"}

    requests_mock.get(ARM + ACTIVITY, json=page)
    requests_mock.get(
        ARM + LOCKS, json={"value": [], "nextLink": f"{ARM}{LOCKS}?api-version=2020-05-01&%24skipToken=1"}
    )
    result = signed_in.run("azure-storage-triage", **ONE)
    assert len(requests_mock.request_history) == (15 if elsewhere else 13)
    assert {row["part"] for row in triage_of(result)["unknown"]} == {"activity log", "locks"}
    assert "only the first page" in result.text


def test_a_triage_reads_at_most_eight_parts_at_once(
    signed_in: WarRoom, requests_mock: rm.Mocker, monkeypatch: pytest.MonkeyPatch
) -> None:
    triage_room(requests_mock)
    now, most, lock_of_count = 0, 0, threading.Lock()
    real = az.ResourceManager.send

    def counted(self: Any, *args: Any) -> Any:
        nonlocal now, most
        with lock_of_count:
            now, most = now + 1, max(most, now + 1)
        try:
            return real(self, *args)
        finally:
            with lock_of_count:
                now -= 1

    monkeypatch.setattr(az.ResourceManager, "send", counted)
    assert triage_of(signed_in.run("azure-storage-triage", **ONE))["unknown"] == []
    assert 1 <= most <= 8


def test_a_role_that_a_triage_does_not_know_is_counted(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    triage_room(requests_mock)
    requests_mock.get(ARM + DEFINITIONS, json={"value": [definition("reader")]})
    result = signed_in.run("azure-storage-triage", **ONE)
    assert triage_of(result)["identities"]["unknownRoles"] == 3
    assert "Principals whose roles could not be read: 3." in result.text


REFUSED: dict[str, Any] = {"status_code": 403, "json": arm_failure("AuthorizationFailed", "No.")}


@pytest.mark.parametrize("part", TRIAGE_PARTS)
@pytest.mark.parametrize(("answer", "reason"), [(REFUSED, "required permission: Microsoft."), (PROXY_PAGE, "JSON")])
def test_what_a_triage_cannot_read_is_unknown_and_never_safe(
    signed_in: WarRoom, requests_mock: rm.Mocker, part: str, answer: dict[str, Any], reason: str
) -> None:
    triage_room(requests_mock, allowBlobPublicAccess=False if part == "account" else None)
    requests_mock.get(ARM + CONTAINERS_PATH, json={"value": []})
    requests_mock.get(ARM + TRIAGE_PARTS[part], **answer)
    result = signed_in.run("azure-storage-triage", **ONE)
    unknown = {row["part"].removesuffix(" below"): row["reason"] for row in triage_of(result)["unknown"]}
    assert unknown.keys() == {part}
    assert reason in unknown[part]
    assert f"{part}" in result.text.partition("#### Unknown")[2]
    for words in SAFE_WORDS[part]:
        assert words not in result.text


def test_a_triage_that_reads_nothing_fails(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    requests_mock.get(re.compile(re.escape(ARM)), **REFUSED)
    result = signed_in.run("azure-storage-triage", **ONE)
    assert "Required permission: Microsoft.Storage/storageAccounts/read" in result.error


@pytest.mark.parametrize(
    ("properties", "containers", "website", "state"),
    [
        ({"allowBlobPublicAccess": False}, ["Blob"], False, "closed"),
        ({"allowBlobPublicAccess": False}, [], True, "open"),
        ({"allowBlobPublicAccess": False}, [], None, "closed"),
        ({"allowBlobPublicAccess": False}, ["$web"], None, "unknown"),
        ({"allowBlobPublicAccess": None}, [], False, "closed"),
        ({"allowBlobPublicAccess": None}, ["Container"], False, "open"),
        ({"networkAcls": {"defaultAction": "Deny"}}, ["Blob"], False, "open from listed networks"),
        ({"publicNetworkAccess": "Disabled"}, ["Blob"], True, "closed"),
        ({"publicNetworkAccess": "SecuredByPerimeter"}, ["Blob"], False, "unknown"),
    ],
)
def test_anonymous_access_as_far_as_it_is_known(
    signed_in: WarRoom,
    requests_mock: rm.Mocker,
    properties: dict[str, Any],
    containers: list[str],
    website: bool | None,
    state: str,
) -> None:
    triage_room(requests_mock, **properties)
    rows = [
        {"name": name.lower(), "properties": {"publicAccess": "None" if name == "$web" else name}}
        for name in containers
    ]
    requests_mock.get(ARM + CONTAINERS_PATH, json={"value": rows})
    blob_service(requests_mock, {"staticWebsite": {"enabled": website}} if website is not None else {})
    assert triage_of(signed_in.run("azure-storage-triage", **ONE))["anonymous"]["state"] == state


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ({"json": container_body(publicAccess="Container")}, "public access Container"),
        ({"status_code": 404, "json": arm_failure("ContainerNotFound")}, "doesn't exist or was deleted"),
        (REFUSED, "container: 403 AuthorizationFailed"),
    ],
)
def test_a_container_behind_the_first_page_is_asked_for(
    signed_in: WarRoom, requests_mock: rm.Mocker, answer: dict[str, Any], said: str
) -> None:
    triage_room(requests_mock)
    following = f"{ARM}{CONTAINERS_PATH}?api-version=2025-08-01&%24skipToken=1"
    requests_mock.get(ARM + CONTAINERS_PATH, json={"value": [{"name": "other"}], "nextLink": following})
    requests_mock.get(f"{ARM}{CONTAINERS_PATH}/logs", **answer)
    result = signed_in.run("azure-storage-triage", blob_url=PROBED_URL)
    assert said in result.text
    assert (triage_of(result)["anonymous"]["state"] == "open") == ("public access" in said)
    assert any("container-restore" in line for line in triage_of(result)["commands"]) == ("deleted" in said)


def test_a_triage_without_the_name_of_the_subscription_is_whole(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    triage_room(requests_mock)
    requests_mock.get(ARM + SUB_PATH, status_code=403, json=arm_failure("AuthorizationFailed"))
    result = signed_in.run("azure-storage-triage", **ONE)
    assert triage_of(result)["unknown"] == []
    assert f"subscription {SUBSCRIPTION}" in result.text


@pytest.mark.parametrize(
    ("sas", "shared_key", "said"),
    [
        ("sv=2022-11-02&sr=c&sp=r&se=2020-01-01T00:00:00Z&sig=x", True, "It has expired."),
        ("sv=2022-11-02&sr=c&sp=r&st=2090-01-01&se=2091-01-01&sig=x", True, "It isn't valid yet."),
        ("sv=2022-11-02&sr=c&sp=r&se=2091-01-01&sig=x", False, "refused while Shared Key access is disabled."),
        (f"sv=2022-11-02&sr=c&sp=r&se=2091-01-01&skoid={TENANT}&sig=x", False, ""),
        ("sv=2022-11-02&sr=c&sp=r&se=2091-01-01&sig=x", True, ""),
    ],
)
def test_a_triage_says_why_a_sas_is_refused(
    signed_in: WarRoom, requests_mock: rm.Mocker, sas: str, shared_key: bool, said: str
) -> None:
    triage_room(requests_mock, allowSharedKeyAccess=shared_key)
    text = signed_in.run("azure-storage-triage", blob_url=f"{PROBED_URL}?{sas}").text
    reasons = ("It has expired.", "It isn't valid yet.", "refused while Shared Key access is disabled.")
    assert [reason for reason in reasons if reason in text] == [said] * bool(said)


def test_keys_that_one_service_refuses_are_told(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    triage_room(requests_mock, allowSharedKeyAccessForServices={"blob": {"enabled": False}, "file": {"enabled": True}})
    assert "accepted, except by: blob." in signed_in.run("azure-storage-triage", **ONE).text


def test_a_lock_on_something_in_the_account_does_not_freeze_it(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    """Azure lists the locks of a resource and of all below it."""
    triage_room(requests_mock)
    inside = lock(f"{ACCOUNT_PATH}/blobServices/default/containers/logs", "inside", "ReadOnly")
    requests_mock.get(ARM + LOCKS, json={"value": [inside]})
    result = signed_in.run("azure-storage-triage", **ONE)
    assert "**Locks:** none." in result.text
    assert not any("lock-remove" in line for line in triage_of(result)["commands"])


def test_a_change_of_the_logging_that_failed_changed_nothing(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    triage_room(requests_mock)
    failed = event(1, "Microsoft.Insights/diagnosticSettings/write", f"{SETTINGS}/soc")
    failed["status"] = {"value": "Failed"}
    requests_mock.get(ARM + ACTIVITY, json={"value": [failed]})
    facts = triage_of(signed_in.run("azure-storage-triage", **ONE))
    assert [row["what"] for row in facts["changes"]] == ["logging changed"]
    assert facts["logging"]["since"] == "unchanged for at least 7 days"


def test_a_container_that_is_gone_is_said_so(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    triage_room(requests_mock)
    requests_mock.get(ARM + CONTAINERS_PATH, json={"value": []})
    result = signed_in.run("azure-storage-triage", blob_url=PROBED_URL)
    facts = triage_of(result)
    assert "doesn't exist or was deleted" in result.text
    assert facts["unknown"] == []
    assert any(line.startswith("!azure-storage-container-restore") for line in facts["commands"])
    assert not any("legal-hold" in line for line in facts["commands"])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ([], "holds no change of public access"),
        ([event(1, "Microsoft.Storage/storageAccounts/listKeys/action")], "holds no change of public access"),
        ([event(1, "Microsoft.Storage/storageAccounts/write")], "doesn't tell for every change"),
    ],
)
def test_a_triage_says_no_more_of_the_past_than_the_log_does(
    signed_in: WarRoom, requests_mock: rm.Mocker, changes: list[dict[str, Any]], words: str
) -> None:
    triage_room(requests_mock)
    requests_mock.get(ARM + ACTIVITY, json={"value": changes})
    assert words in (text := signed_in.run("azure-storage-triage", **ONE).text)
    assert text.count("holds no change") == words.startswith("holds no change")
    assert text.count("through the blob service itself") == words.startswith("holds no change")


def test_an_exposing_change_is_told_however_much_happened_since(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    """Neither the lines for people nor context drop who opened the account behind newer changes that open nothing."""
    triage_room(requests_mock)
    opened = event(1, "Microsoft.Storage/storageAccounts/write", caller="mallory@contoso.com")
    opened["properties"] = {"requestbody": json.dumps({"properties": {"allowBlobPublicAccess": True}})}
    since = [event(2, "Microsoft.Storage/storageAccounts/listKeys/action")] * (az.TRIAGE_EVENTS + 5)
    requests_mock.get(ARM + ACTIVITY, json={"value": [*since, opened]})
    result = signed_in.run("azure-storage-triage", **ONE)
    assert "(allowBlobPublicAccess) by mallory@contoso.com" in result.text
    assert "holds no change" not in result.text
    changes = triage_of(result)["changes"]
    assert len(changes) == az.TRIAGE_EVENTS + 1
    assert changes[-1]["settings"] == ["allowBlobPublicAccess"]


def test_a_cloud_without_the_newest_version_is_read_with_an_older_one(
    signed_in: WarRoom, requests_mock: rm.Mocker
) -> None:
    triage_room(requests_mock)

    def account(request: Any, context: Any) -> dict[str, Any]:
        if query(request)["api-version"] == az.NEWEST_STORAGE_API:
            context.status_code = 400
            return arm_failure("InvalidApiVersionParameter")
        return account_body(allowBlobPublicAccess=False)

    requests_mock.get(ARM + ACCOUNT_PATH, json=account)
    facts = triage_of(signed_in.run("azure-storage-triage", **ONE))
    assert facts["anonymous"]["publicAccessAllowed"] is False
    versions = {query(request)["api-version"] for request in requests_to(requests_mock, "blobServices/default?")}
    assert versions == {az.STORAGE_API}


# --- evidence and custody ----------------------------------------------------------------------------------------------


class FakeStore:
    """A blob service that keeps what is written: blobs of `container/name`, with metadata, tags and holds.

    refuse: (method, comp, part of the path) -> the next answers, each a status and an error code, or an exception.
    """

    def __init__(self, mock: rm.Mocker, **blobs: bytes) -> None:
        self.mock, self.counter = mock, 0
        self.blobs: dict[str, dict[str, Any]] = {}
        self.refuse: dict[tuple[str, str, str], list[Any]] = {}
        self.copy_status = "success"
        self.written: list[str] = []
        mock.register_uri(rm.ANY, re.compile(re.escape(BLOB_HOST)), content=self._answer)
        for name, content in blobs.items():
            self.put(name.replace("__", "/"), content)

    def put(self, path: str, content: bytes, **more: Any) -> dict[str, Any]:
        self.counter += 1
        self.blobs[path] = {"content": content, "etag": f'"0x{self.counter}"', "metadata": {}, "tags": {}, **more}
        return self.blobs[path]

    def _answer(self, request: Any, context: Any) -> bytes:
        parts = urlsplit(request.url)
        path, asked = unquote(parts.path).lstrip("/"), {key.lower(): value for key, value in query(request).items()}
        comp = asked.get("comp", "")
        for (method, wanted, part), answers in self.refuse.items():
            if answers and method == request.method and wanted == comp and part in path:
                answer = answers.pop(0)
                if isinstance(answer, Exception):
                    if getattr(answer, "lands", False):
                        self._do(request, context, path, comp)
                    raise answer
                context.status_code = answer[0]
                context.headers["x-ms-error-code"] = answer[1]
                return b""
        if comp in ("list", "blobs"):
            return self._list(path, asked).encode()
        if request.method in ("PUT", "DELETE"):
            self.written.append(f"{request.method} {comp} {path}".replace("  ", " "))
        return self._do(request, context, path, comp)

    def _list(self, path: str, asked: dict[str, str]) -> str:
        container = path.strip("/")
        found = [
            name
            for name, blob in sorted(self.blobs.items())
            if (not container or name.startswith(f"{container}/"))
            and name.partition("/")[2].startswith(asked.get("prefix", ""))
            and all(f"\"{key}\"='{value}'" == asked.get("where") for key, value in blob["tags"].items() or [("", "")])
            ^ (asked["comp"] == "list")
        ]
        rows = "".join(
            f"<Blob><Name>{name.partition('/')[2]}</Name><ContainerName>{name.partition('/')[0]}</ContainerName></Blob>"
            for name in found
        )
        return f"<EnumerationResults><Blobs>{rows}</Blobs><NextMarker/></EnumerationResults>"

    def _do(self, request: Any, context: Any, path: str, comp: str) -> bytes:
        blob = self.blobs.get(path)
        source = request.headers.get("x-ms-copy-source")
        if request.method == "PUT" and source:
            origin = self.blobs[unquote(urlsplit(source).path).lstrip("/")]
            metadata = {name: value for name, value in request.headers.items() if name.startswith("x-ms-meta-")}
            md5 = self._head(origin).get("Content-MD5")
            own = {"metadata": metadata, "md5": md5, "copy": self.copy_status}
            blob = self.put(path, origin.get("arrives", origin["content"]), **own)
            context.status_code, context.headers["x-ms-copy-id"] = 202, "copy-1"
            return b""
        if blob is None:
            context.status_code, context.headers["x-ms-error-code"] = 404, "BlobNotFound"
            return b""
        context.headers.update(self._head(blob))
        if request.method == "DELETE":
            del self.blobs[path]
            context.status_code = 202
        elif request.method == "PUT":
            context.status_code = {"tags": 204, "legalhold": 200}.get(comp, 201)
            if comp == "tags":
                found = re.findall("<Key>(.*?)</Key><Value>(.*?)</Value>", request.body.decode())
                blob["tags"] = dict(found)
            blob.update({"hold": True} if comp == "legalhold" else {})
        elif comp == "tags":
            rows = "".join(f"<Tag><Key>{key}</Key><Value>{value}</Value></Tag>" for key, value in blob["tags"].items())
            return f"<Tags><TagSet>{rows}</TagSet></Tags>".encode()
        elif request.method == "GET":
            size = len(blob["content"])
            context.status_code = 206
            context.headers["Content-Range"] = f"bytes 0-{size - 1}/{size}"
            return bytes(blob["content"])
        return b""

    @staticmethod
    def _head(blob: dict[str, Any]) -> dict[str, str]:
        digest = hashlib.md5(blob["content"], usedforsecurity=False).digest()
        md5 = blob.get("md5", base64.b64encode(digest).decode())
        return {
            "ETag": blob["etag"],
            "Content-Length": str(len(blob["content"])),
            "Last-Modified": "Mon, 23 Nov 2026 12:00:00 GMT",
            "x-ms-blob-type": "BlockBlob",
            **({"Content-MD5": md5, "x-ms-blob-content-md5": md5} if md5 else {}),
            **({"x-ms-legal-hold": "true"} if blob.get("hold") else {}),
            **({"x-ms-copy-status": blob["copy"], "x-ms-copy-id": "copy-1"} if "copy" in blob else {}),
            **blob["metadata"],
        }


class LostAnswer(requests.ConnectionError):
    """The request was carried out, and the answer never came."""

    lands = True


UP = {"account_name": ACCOUNT, "container_name": "uploads"}
SECURE = {**UP, "evidence_container_name": "secured", "case_id": "case-1"}
SECURED_BLOB = f"secured/case-1/{ACCOUNT}/uploads/blobs/a.txt"


@pytest.fixture
def store(blob_room: WarRoom, requests_mock: rm.Mocker, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeStore:
    return FakeStore(requests_mock, uploads__a=b"A", **{"uploads__a.txt": b"malware"})


def secure(room: WarRoom, **args: str) -> SimpleNamespace:
    """A quarantine: its result, its rows and the record that it leaves in the war room."""
    last_entry = room.run("azure-storage-blob-quarantine", **{**SECURE, "blob_name": "a.txt", **args})
    entry = last_entry.entry
    context = last_entry.context
    rows: list[Any] = next((value for key, value in context.items() if key.startswith("AzureStorage.Quarantine")), [])
    files = [found for found in room.entries if isinstance(found, dict) and found.get("File")]
    record = json.loads(next(Path().glob(f"*_{files[0]['FileID']}")).read_text()) if files else None
    failed = isinstance(entry, dict) and entry.get("Type") == 4
    return SimpleNamespace(
        rows=rows, record=record, files=files, error=entry["Contents"] if failed else "", last=last_entry
    )


def actions(row: dict[str, Any]) -> list[str]:
    return [event["action"] for event in row["events"]]


ALL_ACTIONS = ["copy requested", "copied", "verified", "tagged", "held"]
DELETED = ["source deletion requested", "source deleted"]


def test_every_event_of_custody_has_its_time_actor_etag_and_hash(blob_room: WarRoom, store: FakeStore) -> None:
    found = secure(blob_room, delete_source="true")
    (row,) = found.rows
    assert (row["result"], row["verified"], row["protection"]) == ("secured", "length and MD5", "legal hold")
    assert actions(row) == ALL_ACTIONS + DELETED
    assert all(event["actor"] == "ann@contoso.com" and event["time"] and event["etag"] for event in row["events"])
    sha256 = hashlib.sha256(b"malware").hexdigest()
    assert [event.get("sha256") for event in row["events"][2:5]] == [sha256] * 3
    assert "uploads/a.txt" not in store.blobs
    assert found.files[0]["File"] == "quarantine_case-1.json"
    assert found.record["records"] == found.rows


def test_custody_is_kept_over_repeated_runs(blob_room: WarRoom, store: FakeStore) -> None:
    first = secure(blob_room).rows[0]
    store.written.clear()
    again = secure(blob_room)
    assert again.rows[0]["result"] == "already secured"
    assert again.rows[0]["events"] == first["events"]
    assert change_of(SimpleNamespace(context=blob_room.entries[0]["EntryContext"]))["changed"] is False
    assert not store.written
    assert secure(blob_room, delete_source="true").rows[0]["events"][:5] == first["events"]


def test_custody_of_a_copy_that_takes_long(blob_room: WarRoom, store: FakeStore) -> None:
    store.copy_status = "pending"
    blob_room.run("azure-storage-blob-quarantine", **SECURE, blob_name="a.txt", delete_source="true")
    args = blob_room.entries[0]["PollingArgs"]
    assert "uploads/a.txt" in store.blobs
    store.blobs[SECURED_BLOB]["copy"] = "success"
    blob_room.run("azure-storage-blob-quarantine", **args)
    (row,) = next(value for key, value in blob_room.entries[0]["EntryContext"].items() if "Quarantine" in key)
    assert (row["result"], row["changed"], row["sourceDeleted"]) == ("secured", True, True)
    assert actions(row) == ALL_ACTIONS + DELETED


def test_the_result_comes_before_its_files_and_the_page_has_a_timeline(blob_room: WarRoom, store: FakeStore) -> None:
    found = secure(blob_room, report="html")
    assert [entry.get("File", "") for entry in blob_room.entries] == [
        "",
        "quarantine_case-1.json",
        "quarantine_case-1.html",
    ]
    page = next(Path().glob(f"*_{found.files[1]['FileID']}")).read_text()
    assert "<figcaption><span>2027-01-15T08:00:00Z</span><span>5 done</span>" in page
    heads = [request.path for request in store.mock.request_history if request.method == "HEAD"]
    assert heads.count("/uploads/a.txt") == 1, "the source is read once, with the evidence"


def test_the_names_in_a_plan_are_no_live_links(blob_room: WarRoom, store: FakeStore) -> None:
    shown = secure(blob_room, blob_name="[x](https://evil.example)", dry_run="true").last.text
    assert "* secure uploads/\\[x\\](https\\://evil.example)" in shown


def test_a_copy_that_fails_is_told_and_the_source_kept(blob_room: WarRoom, store: FakeStore) -> None:
    store.copy_status = "failed"
    found = secure(blob_room, delete_source="true")
    assert "ended with failed" in found.error
    assert found.rows[0]["result"] == "failed"
    assert "uploads/a.txt" in store.blobs
    assert found.record["records"][0]["events"][-1]["action"] == "failed"


@pytest.mark.parametrize("lost", [("PUT", "", "secured"), ("DELETE", "", "uploads")])
def test_a_lost_answer_leaves_a_correct_record(
    blob_room: WarRoom, store: FakeStore, lost: tuple[str, str, str]
) -> None:
    store.refuse[lost] = [LostAnswer()]
    found = secure(blob_room, delete_source="true")
    assert not found.error
    assert actions(found.rows[0]) == ALL_ACTIONS + DELETED


@pytest.mark.parametrize(
    ("broken", "done"),
    [
        (("PUT", "", "secured"), ["copy requested"]),
        (("GET", "", "secured"), ["copy requested", "copied"]),
        (("DELETE", "", "uploads"), [*ALL_ACTIONS, "source deletion requested"]),
    ],
)
def test_a_broken_connection_leaves_a_record_that_the_next_run_goes_on_with(
    blob_room: WarRoom, store: FakeStore, broken: tuple[str, str, str], done: list[str]
) -> None:
    store.refuse[broken] = [requests.ConnectionError()] * 10
    found = secure(blob_room, delete_source="true")
    assert found.error
    assert actions(found.rows[0]) == [*done, "failed"]
    assert "uploads/a.txt" in store.blobs
    store.refuse.clear()
    again = secure(blob_room, delete_source="true").rows[0]
    assert again["result"] == "secured"
    assert [action for action in actions(again) if action != "failed"][-2:] == DELETED
    assert again["events"][: len(done)] == found.rows[0]["events"][: len(done)]


def test_an_interruption_after_the_deletion_is_told_by_the_next_run(
    blob_room: WarRoom, store: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = az.Quarantine._delete_source

    def killed(blob: az.BlobRef, etag: str) -> None:
        real(blob, etag)
        raise KeyboardInterrupt

    monkeypatch.setattr(az.Quarantine, "_delete_source", staticmethod(killed))
    with pytest.raises(KeyboardInterrupt):
        secure(blob_room, delete_source="true")
    monkeypatch.setattr(az.Quarantine, "_delete_source", staticmethod(real))
    (row,) = secure(blob_room, delete_source="true").rows
    assert row["sourceDeleted"] is True
    assert actions(row) == ALL_ACTIONS + DELETED
    assert "as was requested before" in row["events"][-1]["detail"]


def test_a_source_that_somebody_else_deleted_is_not_claimed(blob_room: WarRoom, store: FakeStore) -> None:
    secure(blob_room)
    del store.blobs["uploads/a.txt"]
    (row,) = secure(blob_room, delete_source="true").rows
    assert row["sourceDeleted"] is False
    assert actions(row)[-1] == "source missing"


def test_metadata_of_the_source_cannot_speak_for_the_quarantine(blob_room: WarRoom, store: FakeStore) -> None:
    fake = {"x-ms-meta-Quarantine_case": "case-1", "x-ms-meta-quarantine_source_etag": "0xF", "x-ms-meta-owner": "x"}
    store.blobs["uploads/a.txt"]["metadata"] = fake
    secure(blob_room)
    names = {name.lower() for name in store.blobs[SECURED_BLOB]["metadata"]}
    assert "x-ms-meta-owner" in names
    assert store.blobs[SECURED_BLOB]["metadata"]["x-ms-meta-quarantine_source_etag"] == "0x2"
    assert sum(name == "x-ms-meta-quarantine_case" for name in names) == 1


@pytest.mark.parametrize("value", ["x" * 8180, "M\xfcnchen"])
def test_metadata_that_does_not_fit_stays_in_the_record(blob_room: WarRoom, store: FakeStore, value: str) -> None:
    store.blobs["uploads/a.txt"]["metadata"] = {"x-ms-meta-note": value}
    (row,) = secure(blob_room).rows
    assert row["result"] == "secured"
    assert row["source"]["metadata"] == {"note": value}
    assert "x-ms-meta-note" not in store.blobs[SECURED_BLOB]["metadata"]
    assert "only in this record" in row["events"][0]["detail"]


def test_a_planted_copy_is_not_taken_for_evidence(blob_room: WarRoom, store: FakeStore) -> None:
    source = store.blobs["uploads/a.txt"]
    own = {"x-ms-meta-quarantine_case": "case-1", "x-ms-meta-quarantine_source_etag": source["etag"].strip('"')}
    planted = {**own, "x-ms-meta-quarantine_source_size": "4"}
    store.put(SECURED_BLOB, b"fake", metadata=planted)
    found = secure(blob_room, delete_source="true")
    assert "differs from its source" in found.error
    assert "uploads/a.txt" in store.blobs
    store.put(SECURED_BLOB, b"malware", metadata={})
    assert "is not a copy of this quarantine" in secure(blob_room, delete_source="true").error


def test_a_copy_found_in_place_of_which_only_the_length_is_known_keeps_the_source(
    blob_room: WarRoom, store: FakeStore
) -> None:
    source = store.blobs["uploads/a.txt"]
    source["md5"] = None
    own = {"x-ms-meta-quarantine_case": "case-1", "x-ms-meta-quarantine_source_etag": source["etag"].strip('"')}
    store.put(SECURED_BLOB, b"harmles", metadata=own)
    (row,) = secure(blob_room, delete_source="true").rows
    assert row["sourceDeleted"] is False
    assert "only the length" in row["events"][-1]["detail"]
    assert "uploads/a.txt" in store.blobs


def test_evidence_that_changed_since_it_was_verified_is_told(blob_room: WarRoom, store: FakeStore) -> None:
    store.blobs["uploads/a.txt"]["md5"] = None
    secure(blob_room)
    store.blobs[SECURED_BLOB]["content"] = b"harmles"
    found = secure(blob_room, delete_source="true")
    assert "has changed since it was verified" in found.error
    assert "uploads/a.txt" in store.blobs


def test_a_custody_record_that_cannot_be_saved_loses_nothing_and_deletes_nothing(
    blob_room: WarRoom, store: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("the database is down")

    monkeypatch.setattr(az, "set_integration_context", broken)
    found = secure(blob_room, delete_source="true")
    (row,) = found.rows
    assert row["unsaved"] is True
    assert actions(row) == [*ALL_ACTIONS, "source kept"]
    assert "could not be saved" in row["events"][-1]["detail"]
    assert found.record["records"][0]["events"] == row["events"]


def test_names_of_evidence_never_meet(blob_room: WarRoom) -> None:
    azure = az.Azure(az.read_settings(blob_room.params))
    service = azure.blobs(ACCOUNT)
    collected = az.Collected(service, [az.BlobRef(service, "uploads", "a")])
    job = az.QuarantineJob(collected, az.ContainerPlace(service, "secured"))
    work = az.Quarantine(azure, job, "case-1", "", az.Treatment())
    moment = "2026-11-23T12:00:00.0000000Z"
    long = "x" * 1024
    sources = [
        az.BlobRef(service, "uploads", "a"),
        az.BlobRef(service, "uploads", "a", version=moment),
        az.BlobRef(service, "uploads", "a", snapshot=moment),
        az.BlobRef(service, "uploads", f"versions/{moment}/a"),
        az.BlobRef(service, "uploads", long),
        az.BlobRef(service, "uploads", long, version=moment),
        az.BlobRef(service, "uploads", long[:-1] + "y"),
        az.BlobRef(service, "uploads", "/".join("a" * 254)),
    ]
    names = [work.evidence_of(source).name for source in sources]
    assert len(set(names)) == len(names)
    assert all(len(name) <= 1024 and name.count("/") < 254 for name in names)


def test_one_blob_that_fails_does_not_stop_the_others(blob_room: WarRoom, store: FakeStore) -> None:
    long = "x" * 1024
    store.put(f"uploads/{long}", b"long")
    names = json.dumps(["gone.txt", long, "a.txt"])
    found = secure(blob_room, blob_name="", blob_names=names)
    assert [row["result"] for row in found.rows] == ["failed", "secured", "secured"]
    assert "gone.txt" in found.error
    assert [actions(row)[-1] for row in found.record["records"]] == ["failed", "held", "held"]


def test_blobs_are_secured_by_prefix_with_one_record(blob_room: WarRoom, store: FakeStore) -> None:
    for number in range(3):
        store.put(f"uploads/in/{number}", b"x%d" % number)
    found = secure(blob_room, blob_name="", prefix="in/", limit="2", delete_source="true")
    assert [row["source"]["name"] for row in found.rows] == ["in/0", "in/1"]
    assert len(found.files) == 1
    assert len(found.record["records"]) == 2
    assert "there are more. Raise `limit`" in blob_room.entries[0]["HumanReadable"]
    assert "uploads/in/2" in store.blobs
    assert "uploads/in/0" not in store.blobs


def test_an_interrupted_quarantine_of_many_ends_with_one_record_of_all(
    blob_room: WarRoom, store: FakeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        store.put(f"uploads/in/{number}", b"x%d" % number)
    real = az.Quarantine._delete_source

    def killed(blob: az.BlobRef, etag: str) -> None:
        real(blob, etag)
        if blob.name == "in/1":
            raise KeyboardInterrupt

    monkeypatch.setattr(az.Quarantine, "_delete_source", staticmethod(killed))
    with pytest.raises(KeyboardInterrupt):
        secure(blob_room, blob_name="", prefix="in/", delete_source="true")
    for _ in range(2):
        found = secure(blob_room, blob_name="", prefix="in/", delete_source="true")
        assert [row["source"]["name"] for row in found.record["records"]] == ["in/0", "in/1", "in/2"]
        assert all(actions(row) == ALL_ACTIONS + DELETED and row["sourceDeleted"] for row in found.rows)
    assert "No blob was found" in secure(blob_room, blob_name="", prefix="in/", case_id="case-2").last.error


def test_blobs_are_secured_by_tag_without_the_evidence_itself(blob_room: WarRoom, store: FakeStore) -> None:
    store.blobs["uploads/a.txt"]["tags"] = {"case": "case-1"}
    store.put("secured/old", b"evidence", tags={"case": "case-1"})
    found = secure(blob_room, container_name="", blob_name="", tag="case=case-1")
    assert [row["source"]["name"] for row in found.rows] == ["a.txt"]
    assert "No blob was found" in secure(blob_room, blob_name="", tag="case=other").last.error


def test_the_rounds_of_a_large_quarantine_end(
    blob_room: WarRoom, store: FakeStore, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        store.put(f"uploads/in/{number}", b"x%d" % number)
    real = az.Quarantine._secure

    def slow(self: az.Quarantine, blob: az.BlobRef, row: dict[str, Any]) -> None:
        real(self, blob, row)
        clock.time += 35

    monkeypatch.setattr(az.Quarantine, "_secure", slow)
    args: dict[str, Any] = {**SECURE, "prefix": "in/", "delete_source": "true"}
    rounds = 0
    while args:
        blob_room.run("azure-storage-blob-quarantine", **args)
        args, rounds = blob_room.entries[0].get("PollingArgs") or {}, rounds + 1
    assert rounds == 3
    context: dict[str, Any] = blob_room.entries[0]["EntryContext"]
    rows = next(value for key, value in context.items() if "Quarantine" in key)
    assert [row["result"] for row in rows] == ["secured"] * 5
    assert all(actions(row) == ALL_ACTIONS + DELETED and row["sourceDeleted"] for row in rows)
    assert sum(line.startswith("PUT legalhold") for line in store.written) == 5, "nothing is done twice"


def test_the_actor_is_whoever_was_authorised(blob_room: WarRoom, store: FakeStore) -> None:
    key = base64.b64encode(b"k" * 64).decode()
    blob_room.params["storage_credentials"] = {"identifier": ACCOUNT, "password": key}
    (row,) = secure(blob_room).rows
    assert {event["actor"] for event in row["events"]} == {f"account key of {ACCOUNT} in the instance"}


def test_a_copy_with_the_sas_of_the_instance_reads_its_source_with_it(blob_room: WarRoom, store: FakeStore) -> None:
    blob_room.params["storage_credentials"] = {"identifier": ACCOUNT, "password": ACCOUNT_SAS}
    found = secure(blob_room)
    assert not found.error
    copy = next(request for request in store.mock.request_history if "x-ms-copy-source" in request.headers)
    assert copy.headers["x-ms-copy-source"] == f"{BLOB_HOST}/uploads/a.txt?{ACCOUNT_SAS}"
    assert "bWFya2VyLXNhcw" not in json.dumps([found.record, blob_room.entries]), "the SAS is shown to nobody"


def test_a_blob_that_is_called_a_folder_is_evidence(blob_room: WarRoom, store: FakeStore) -> None:
    row = "<Blob><Name>in/hidden</Name><Properties><Content-Length>%d</Content-Length></Properties><Metadata><hdi_isfolder>true</hdi_isfolder></Metadata></Blob>"
    page = f"<EnumerationResults><Blobs>{row % 7}{row.replace('hidden', 'folder') % 0}</Blobs></EnumerationResults>"
    store.put("uploads/in/hidden", b"malware")
    store.mock.get(f"{BLOB_HOST}/uploads?restype=container&comp=list", text=page)
    assert [row["source"]["name"] for row in secure(blob_room, blob_name="", prefix="in/").rows] == ["in/hidden"]


def test_several_blobs_are_read_with_a_manifest(blob_room: WarRoom, store: FakeStore) -> None:
    store.put("uploads/in/=cmd", b"formula", metadata={})
    store.put("uploads/in/b", b"other", md5="AAAAAAAAAAAAAAAAAAAAAA==")
    store.put("uploads/in/c", b"third")
    store.refuse["GET", "", "in/c"] = [(403, "AuthorizationFailure")]
    blob_room.run("azure-storage-blob-get", **UP, prefix="in/")
    summary, *files = blob_room.entries
    assert [entry["File"] for entry in files] == ["=cmd", "b", "manifest.csv"]
    assert summary["Type"] == 4, "one of them failed"
    import csv

    text = next(Path().glob(f"*_{files[-1]['FileID']}")).read_text()
    rows = list(csv.DictReader(text.splitlines()))
    assert [row["name"] for row in rows] == ["in/=cmd", "in/b", "in/c"]
    assert [row["file"] for row in rows] == ["'=cmd", "b", ""], "no cell is a formula"
    assert rows[0]["sha256"] == hashlib.sha256(b"formula").hexdigest()
    assert rows[0]["etag"] and rows[0]["md5"] and rows[0]["time"]
    assert "DIFFERS" in rows[1]["verified"]
    assert rows[2]["result"].startswith("failed")


def test_reading_by_prefix_or_tag_is_bounded_and_exclusive(blob_room: WarRoom, store: FakeStore) -> None:
    store.put("uploads/b.txt", b"b", tags={"case": "7"})
    blob_room.run("azure-storage-blob-get", **UP, prefix="a", limit="1")
    assert "Only the first 1 blobs were read" in blob_room.entries[0]["HumanReadable"]
    blob_room.run("azure-storage-blob-get", account_name=ACCOUNT, tag="case=7")
    assert [entry["File"] for entry in blob_room.entries[1:]] == ["b.txt", "manifest.csv"]
    both = blob_room.run("azure-storage-blob-get", **UP, prefix="a", tag="case=7")
    assert "`prefix` can't be combined with `tag`" in both.error
    assert "can't be combined" in blob_room.run("azure-storage-blob-get", **UP, prefix="a", blob_name="b").error
    assert "can't be combined" in blob_room.run("azure-storage-blob-get", **UP, prefix="a", range="0-1").error


# --- restoring versions ------------------------------------------------------------------------------------------------

NOON = "2026-11-23T12:00:00Z"
BOX = f"{BLOB_HOST}/box-1"
RESTORE = {"account_name": ACCOUNT, "container_name": "box-1", "time_to_restore": NOON}
LIVE = "<IsCurrentVersion>true</IsCurrentVersion>"
GONE = "<Deleted>true</Deleted>"


def kept(
    name: str, modified: str, *marks: str, md5: str = "", created: str = "08", gone: str = "", day: str = "23"
) -> str:
    """A row of a listing that was written at an hour of the day; marks: elements beside the properties."""
    version = modified if "v" in marks else ""
    snapshot = modified if "s" in marks else ""
    own = "".join(
        (
            f"<Snapshot>2026-11-23T{snapshot}:30:00.0000000Z</Snapshot>" if snapshot else "",
            f"<VersionId>2026-11-{day}T{version}:00:00.5000000Z</VersionId>" if version else "",
            *(mark for mark in marks if mark.startswith("<")),
        )
    )
    properties = (
        f"<Creation-Time>Mon, {day} Nov 2026 {created}:00:00 GMT</Creation-Time>"
        f"<Last-Modified>Mon, {day} Nov 2026 {modified}:00:00 GMT</Last-Modified>"
        f"<Etag>&quot;0x{modified}&quot;</Etag><Content-Length>1</Content-Length>"
        + (f"<Content-MD5>{md5}</Content-MD5>" if md5 else "")
        + (f"<DeletedTime>Mon, 23 Nov 2026 {gone}:00:00 GMT</DeletedTime>" if gone else "")
    )
    return f"<Blob><Name>{name}</Name>{own}<Properties>{properties}</Properties></Blob>"


class Versions:
    """A container whose listing is given, page by page, and that takes down what is written."""

    def __init__(self, mock: rm.Mocker, *pages: list[str], versioning: bool = True, soft_delete: bool = True) -> None:
        self.pages, self.written, self.refused = pages, list[Any](), dict[str, Any]()
        self.listed: list[str] = []
        service = {
            "id": SERVICE_PATH,
            "properties": {"isVersioningEnabled": versioning, "deleteRetentionPolicy": {"enabled": soft_delete}},
        }
        mock.get(f"{ARM}{ACCOUNT_PATH}", json=account_body(isHnsEnabled=False))
        mock.get(f"{ARM}{SERVICE_PATH}", json=service)
        mock.register_uri(rm.ANY, re.compile(re.escape(BOX)), text=self._answer)

    def _answer(self, request: Any, context: Any) -> str:
        asked = query(request)
        if asked.get("comp") == "list":
            assert asked["include"] == "versions,deleted,deletedwithversions,snapshots,metadata"
            marker = asked.get("marker", "0")
            self.listed.append(marker)
            following = str(int(marker) + 1) if int(marker) + 1 < len(self.pages) else ""
            rows = "".join(self.pages[int(marker)])
            return f"<EnumerationResults><Blobs>{rows}</Blobs><NextMarker>{following}</NextMarker></EnumerationResults>"
        name = unquote(urlsplit(request.url).path).removeprefix("/box-1/")
        if request.method == "HEAD":
            context.status_code, context.headers["x-ms-error-code"] = 404, "BlobNotFound"
            return ""
        source = request.headers.get("x-ms-copy-source", "").partition("?")[2]
        condition = request.headers.get("If-Match") or request.headers.get("If-None-Match")
        self.written.append((request.method, asked.get("comp") or ("copy" if source else ""), name, source, condition))
        kind = {"undelete": 200, "snapshot": 201}.get(asked.get("comp", ""), 202)
        context.headers["x-ms-snapshot"] = "2026-11-23T14:00:00.0000000Z"
        context.status_code, context.headers["x-ms-error-code"] = self.refused.get(name, (kind, ""))
        return ""


def restored(result: SimpleNamespace) -> dict[str, Any]:
    return next(value for key, value in result.context.items() if key.startswith("AzureStorage.BlobVersionsRestore"))


def version_of(hour: str) -> str:
    return f"versionid=2026-11-23T{hour}:00:00.5000000Z"


def test_versions_that_were_current_are_promoted(blob_room: WarRoom, requests_mock: rm.Mocker) -> None:
    rows = [
        kept("changed", "09", "v"),
        kept("changed", "11", "v"),
        kept("changed", "13", "v"),
        kept("changed", "14", "v", LIVE),
        kept("deleted", "10", "v"),
        kept("kept", "10", "v", LIVE),
        kept("made-and-deleted-since", "13", "v", created="13"),
        kept("new", "13", "v", LIVE, created="13"),
        kept("purged", "13", "v", LIVE, created="07"),
        kept("soft", "10", "v", GONE, gone="15"),
        kept("../odd", "10", "v"),
    ]
    room = Versions(requests_mock, rows)
    result = blob_room.run("azure-storage-blob-versions-restore", **RESTORE, confirm="box-1")
    assert sorted(room.written) == sorted(
        [
            ("PUT", "copy", "changed", version_of("11"), '"0x14"'),
            ("PUT", "copy", "deleted", version_of("10"), "*"),
            ("PUT", "undelete", "soft", "", None),
            ("PUT", "copy", "soft", version_of("10"), "*"),
        ]
    )
    found = restored(result)
    counts = {key: found[key] for key in az.RESTORE_RESULTS if found[key]}
    assert counts == {"restored": 3, "same": 1, "newer": 1, "notKept": 1, "unaddressable": 1}
    assert {row["name"] for row in found["blobs"]} == {"new", "purged", "../odd"}
    assert change_of(result)["after"] == {"restored": 3}
    assert "kept as a version" in result.text
    assert "doesn't record when a version ceased to be current" in result.text


def test_without_versions_soft_deleted_blobs_and_snapshots_come_back(
    blob_room: WarRoom, requests_mock: rm.Mocker
) -> None:
    rows = [
        kept("deleted", "10", GONE, gone="13"),
        kept("deleted-before", "10", GONE, gone="11"),
        kept("overwritten", "10", "s", GONE, gone="13"),
        kept("overwritten", "13"),
        kept("snapshot", "10", "s"),
        kept("snapshot", "13"),
    ]
    room = Versions(requests_mock, rows, versioning=False)
    result = blob_room.run("azure-storage-blob-versions-restore", **RESTORE, confirm="box-1")
    moment = "snapshot=2026-11-23T10:30:00.0000000Z"
    assert sorted(room.written, key=lambda row: (row[2], row[1] != "undelete")) == [
        ("PUT", "undelete", "deleted", "", None),
        ("PUT", "undelete", "overwritten", "", None),
        ("PUT", "copy", "overwritten", moment, '"0x13"'),
        ("PUT", "copy", "snapshot", moment, '"0x13"'),
    ]
    assert change_of(result)["after"] == {"restored": 2, "undeleted": 1}
    assert "kept as a soft-deleted snapshot" in result.text


def test_what_nothing_keeps_gets_a_snapshot_before_it_is_replaced(blob_room: WarRoom, requests_mock: rm.Mocker) -> None:
    room = Versions(requests_mock, [kept("a", "10", "s"), kept("a", "13")], versioning=False, soft_delete=False)
    blob_room.run("azure-storage-blob-versions-restore", **RESTORE, prefix="a")
    assert [row[:3] for row in room.written] == [("PUT", "snapshot", "a"), ("PUT", "copy", "a")]
    refused = blob_room.run("azure-storage-blob-versions-restore", **RESTORE, prefix="a", delete_newer="true")
    assert "couldn't be brought back" in refused.error


def test_newer_blobs_are_deleted_only_when_asked(blob_room: WarRoom, requests_mock: rm.Mocker) -> None:
    room = Versions(requests_mock, [kept("new", "13", "v", LIVE, created="13"), kept("old", "13", "v", LIVE)])
    result = blob_room.run("azure-storage-blob-versions-restore", **RESTORE, prefix="x", delete_newer="true")
    assert room.written == [("DELETE", "", "new", "", '"0x13"')]
    assert (restored(result)["deleted"], restored(result)["notKept"]) == (1, 1)


def test_a_dry_run_counts_and_writes_nothing(blob_room: WarRoom, requests_mock: rm.Mocker) -> None:
    room = Versions(requests_mock, [kept("a", "10", "v"), kept("a", "13", "v", LIVE), kept("b", "10", "v", LIVE)])
    result = blob_room.run("azure-storage-blob-versions-restore", **RESTORE, dry_run="true")
    assert not room.written
    assert change_of(result)["after"] == {"restored": 1}
    assert "Dry run: no changes made" in result.text
    assert restored(result)["same"] == 1


def test_a_whole_container_is_confirmed(blob_room: WarRoom, requests_mock: rm.Mocker) -> None:
    room = Versions(requests_mock, [kept("a", "10", "v")])
    assert "confirm=box-1" in blob_room.run("azure-storage-blob-versions-restore", **RESTORE).error
    assert not room.written
    late = {**RESTORE, "time_to_restore": "2039-01-01"}
    assert "in the future" in blob_room.run("azure-storage-blob-versions-restore", **late, confirm="box-1").error


def test_what_was_restored_is_left_alone_by_another_run(blob_room: WarRoom, requests_mock: rm.Mocker) -> None:
    same = "AAAAAAAAAAAAAAAAAAAAAA=="
    rows = [kept("a", "10", "v", md5=same), kept("a", "13", "v"), kept("a", "14", "v", LIVE, md5=same)]
    room = Versions(requests_mock, rows)
    result = blob_room.run("azure-storage-blob-versions-restore", **RESTORE, prefix="a")
    assert not room.written
    assert change_of(result)["changed"] is False


@pytest.mark.parametrize("dry_run", ["false", "true"])
def test_a_long_restore_goes_on_where_it_was(
    blob_room: WarRoom, requests_mock: rm.Mocker, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, dry_run: str
) -> None:
    """Contract: slices end on the clock, each blob is handled once, also where its rows lie on two pages."""
    names = [f"b{number:02}" for number in range(9)]
    rows = [row for name in names for row in (kept(name, "10", "v"), kept(name, "13", "v", LIVE))]
    room = Versions(requests_mock, rows[:5], rows[5:11], rows[11:])
    monkeypatch.setattr(az, "RESTORE_BATCH", 2)
    real = az.VersionsRestore._result

    def slow(self: az.VersionsRestore, found: az.Kept, rehearse: bool) -> tuple[str, str]:
        clock.time += 20
        return real(self, found, rehearse)

    monkeypatch.setattr(az.VersionsRestore, "_result", slow)
    args: dict[str, Any] = {**RESTORE, "prefix": "b", "dry_run": dry_run}
    rounds, result = 0, SimpleNamespace()
    while args:
        result = blob_room.run("azure-storage-blob-versions-restore", **args)
        args, rounds = result.entry.get("PollingArgs") or {}, rounds + 1
    assert rounds == 3
    assert sorted(row[2] for row in room.written) == ([] if dry_run == "true" else names)
    assert restored(result)["restored"] == 9


def test_a_blob_that_fails_is_told_and_the_others_restored(blob_room: WarRoom, requests_mock: rm.Mocker) -> None:
    rows = [kept(name, "10", "v") for name in "abc"]
    room = Versions(requests_mock, rows)
    room.refused["b"] = (409, "BlobImmutableDueToPolicy")
    result = blob_room.run("azure-storage-blob-versions-restore", **RESTORE, prefix="x")
    assert "1 blobs could not be restored" in result.error
    assert "BlobImmutableDueToPolicy" in result.error
    found = restored(result)
    assert (found["restored"], found["failed"]) == (2, 1)
    assert change_of(result)["changed"] is True


def test_a_hierarchical_account_is_refused_with_the_reason(blob_room: WarRoom, requests_mock: rm.Mocker) -> None:
    room = Versions(
        requests_mock,
        [kept("dir/", "10").replace("<Content-Length>", "<ResourceType>directory</ResourceType><Content-Length>")],
    )
    assert "hierarchical namespace" in blob_room.run("azure-storage-blob-versions-restore", **RESTORE, prefix="d").error
    requests_mock.get(f"{ARM}{ACCOUNT_PATH}", json=account_body(isHnsEnabled=True))
    assert "hierarchical namespace" in blob_room.run("azure-storage-blob-versions-restore", **RESTORE, prefix="d").error
    assert not room.written


# --- containers through the blob service -------------------------------------------------------------------------------

CONTAINER_ROWS = """<?xml version="1.0" encoding="utf-8"?><EnumerationResults ServiceEndpoint="https://x/"><Containers>
<Container><Name>logs-1</Name><Properties><Last-Modified>Mon, 23 Nov 2026 12:00:00 GMT</Last-Modified><Etag>"0x1"</Etag>
<LeaseStatus>unlocked</LeaseStatus><LeaseState>available</LeaseState><PublicAccess>container</PublicAccess>
<HasImmutabilityPolicy>false</HasImmutabilityPolicy><HasLegalHold>true</HasLegalHold></Properties>
<Metadata><owner>finance</owner></Metadata></Container>
<Container><Name>logs-2</Name><Version>01D</Version><Deleted>true</Deleted><Properties><Etag>"0x2"</Etag>
<DeletedTime>Mon, 23 Nov 2026 13:00:00 GMT</DeletedTime><RemainingRetentionDays>6</RemainingRetentionDays></Properties></Container>
</Containers><NextMarker>%s</NextMarker></EnumerationResults>"""
ACCOUNT_SAS = "sv=2022-11-02&ss=b&srt=sco&sp=rwdlac&se=2030-01-01T00:00:00Z&sig=bWFya2VyLXNhcw%3D%3D"
ACCOUNT_KEY = base64.b64encode(b"k" * 64).decode()
OLD_POLICY = (
    "<SignedIdentifiers><SignedIdentifier><Id>partners</Id><AccessPolicy><Permission>r</Permission></AccessPolicy>"
    "</SignedIdentifier></SignedIdentifiers>"
)


class FakeContainers:
    """The containers of a blob service, of which each keeps its access level."""

    def __init__(self, mock: rm.Mocker, **levels: str) -> None:
        self.mock, self.levels, self.sent = (
            mock,
            {name.replace("_", "-"): level for name, level in levels.items()},
            list[Any](),
        )
        self.denied = False
        mock.register_uri(rm.ANY, re.compile(re.escape(BLOB_HOST)), text=self._answer)

    def _answer(self, request: Any, context: Any) -> str:
        asked, name = query(request), urlsplit(request.url).path.strip("/")
        self.sent.append(request)
        if self.denied:
            context.status_code, context.headers["x-ms-error-code"] = 403, "AuthorizationPermissionMismatch"
            return ""
        if asked.get("comp") == "list":
            return CONTAINER_ROWS % ("" if "marker" in asked else "m2")
        level = request.headers.get("x-ms-blob-public-access", "")
        if request.method == "PUT" and asked.get("comp") != "acl":
            self.levels[name], context.status_code = level, 201
        elif name not in self.levels:
            context.status_code, context.headers["x-ms-error-code"] = 404, "ContainerNotFound"
        elif request.method == "PUT":
            self.levels[name] = level
        elif request.method == "DELETE":
            del self.levels[name]
            context.status_code = 202
        else:
            context.headers.update({"ETag": '"0x5"', "Last-Modified": "Mon, 23 Nov 2026 12:00:00 GMT"})
            context.headers.update({"x-ms-lease-state": "available", "x-ms-has-legal-hold": "false"})
            context.headers.update({"x-ms-blob-public-access": self.levels[name]} if self.levels[name] else {})
            return OLD_POLICY if asked.get("comp") == "acl" else ""
        return ""


def to_arm(mock: rm.Mocker) -> list[Any]:
    return [request for request in mock.request_history if "management.azure.com" in request.url]


@pytest.fixture(params=["sas", "key", "data roles"])
def data_room(request: pytest.FixtureRequest, war_room: WarRoom, requests_mock: rm.Mocker) -> WarRoom:
    """A session that Resource Manager is closed to: nobody signed in but a SAS or key, or an identity with data roles."""
    if request.param == "data roles":
        war_room.sign_in()
        refused = arm_failure("AuthorizationFailed", "The client does not have authorization.")
        requests_mock.register_uri(rm.ANY, re.compile("management.azure.com"), status_code=403, json=refused)
    else:
        secret = ACCOUNT_SAS if request.param == "sas" else ACCOUNT_KEY
        war_room.params["storage_credentials"] = {"identifier": ACCOUNT, "password": secret}
    return war_room


def test_containers_are_listed_without_resource_manager(data_room: WarRoom, requests_mock: rm.Mocker) -> None:
    fake = FakeContainers(requests_mock)
    result = data_room.run(
        "azure-storage-blob-containers-list", **ONE, prefix="logs", limit="2", include_deleted="true"
    )
    first, second = result.raw
    assert (first["id"], first["account"], first["name"]) == (f"{BLOB_HOST}/logs-1", ACCOUNT, "logs-1")
    assert first["etag"] == '"0x1"'
    assert first["properties"] == {
        "publicAccess": "Container",
        "lastModifiedTime": "2026-11-23T12:00:00Z",
        "leaseStatus": "Unlocked",
        "leaseState": "Available",
        "hasImmutabilityPolicy": False,
        "hasLegalHold": True,
        "metadata": {"owner": "finance"},
    }
    assert second["properties"] == {
        "publicAccess": "None",
        "deleted": True,
        "deletedTime": "2026-11-23T13:00:00Z",
        "remainingRetentionDays": 6,
        "version": "01D",
    }
    asked = query(fake.sent[-1])
    assert (asked["prefix"], asked["include"], asked["maxresults"]) == ("logs", "metadata,deleted", "2")
    token = result.context["AzureStorage(true)"]["BlobContainerNextToken"]
    data_room.run("azure-storage-blob-containers-list", **ONE, prefix="logs", next_token=token)
    assert query(fake.sent[-1])["marker"] == "m2"
    if "storage_credentials" in data_room.params:
        assert not to_arm(requests_mock), "nobody is signed in, so that Resource Manager is not asked"


def test_a_container_is_made_closed_and_deleted_without_resource_manager(
    data_room: WarRoom, requests_mock: rm.Mocker
) -> None:
    fake = FakeContainers(requests_mock)
    here = {**ONE, "container_name": "logs-9"}
    made = data_room.run("azure-storage-blob-containers-create", **here, public_access="Container")
    assert not made.error
    assert fake.levels == {"logs-9": "container"}
    assert (
        change_of(made)["undo"] == f"!azure-storage-blob-container-delete account_name={ACCOUNT} container_name=logs-9"
    )
    closed = data_room.run("azure-storage-blob-containers-update", **here, public_access="None")
    assert fake.levels == {"logs-9": ""}
    assert change_of(closed)["before"] == {"publicAccess": "Container"}
    assert "public_access=Container" in change_of(closed)["undo"]
    put = next(request for request in reversed(fake.sent) if request.method == "PUT")
    assert b"<Id>partners</Id>" in put.body, "stored access policies stay"
    assert data_room.run("azure-storage-blob-containers-list", **here).raw["id"] == f"{BLOB_HOST}/logs-9"
    assert "was deleted" in data_room.run("azure-storage-blob-container-delete", **here).text
    assert fake.levels == {}
    assert "There is no container" in data_room.run("azure-storage-blob-container-delete", **here).text
    assert (
        "ContainerNotFound" in data_room.run("azure-storage-blob-containers-update", **here, public_access="None").error
    )


def test_what_the_blob_service_cannot_change_is_said(data_room: WarRoom, requests_mock: rm.Mocker) -> None:
    FakeContainers(requests_mock, logs_9="")
    args = {**ONE, "container_name": "logs-9", "default_encryption_scope": "finance"}
    error = data_room.run("azure-storage-blob-containers-update", **args).error
    assert "sets defaultEncryptionScope only when a container is created" in error


def test_a_reader_with_a_data_role_writes_through_the_blob_service(
    signed_in: WarRoom, requests_mock: rm.Mocker
) -> None:
    fake = FakeContainers(requests_mock, logs="blob")
    requests_mock.get(f"{ARM}{CONTAINERS_PATH}/logs", json=container_body(publicAccess="Blob"))
    denied = arm_failure("AuthorizationFailed")
    requests_mock.patch(f"{ARM}{CONTAINERS_PATH}/logs", status_code=403, json=denied)
    requests_mock.get(f"{ARM}{ACCOUNT_PATH}", json=account_body())
    result = signed_in.run("azure-storage-blob-containers-update", **ONE, container_name="logs", public_access="None")
    assert not result.error
    assert fake.levels == {"logs": ""}
    assert change_of(result)["after"] == {"publicAccess": "None"}


def test_what_neither_way_allows_is_told_in_the_words_of_resource_manager(
    signed_in: WarRoom, requests_mock: rm.Mocker
) -> None:
    fake = FakeContainers(requests_mock)
    fake.denied = True
    refused = arm_failure("AuthorizationFailed")
    requests_mock.register_uri(rm.ANY, re.compile("management.azure.com"), status_code=403, json=refused)
    error = signed_in.run("azure-storage-blob-containers-list", **ONE).error
    assert "403 AuthorizationFailed" in error
    assert "blobServices/containers/read" in error


def test_resource_manager_is_used_where_it_can_be(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    signed_in.params["storage_credentials"] = {"identifier": ACCOUNT, "password": ACCOUNT_KEY}
    requests_mock.get(f"{ARM}{CONTAINERS_PATH}", json={"value": [container_body()]})
    result = signed_in.run("azure-storage-blob-containers-list", **ONE, prefix="lo")
    assert query(last(requests_mock))["$filter"] == "lo"
    assert result.raw[0]["id"].startswith("/subscriptions/")
    requests_mock.get(f"{ARM}{CONTAINERS_PATH}", status_code=500)
    assert "500" in signed_in.run("azure-storage-blob-containers-list", **ONE).error, "a failure is no refusal"


def test_nobody_signed_in_and_no_credential_says_so(war_room: WarRoom, requests_mock: rm.Mocker) -> None:
    error = war_room.run("azure-storage-blob-containers-list", **ONE).error
    assert "isn't signed in" in error
    assert not requests_mock.request_history


def test_a_sas_is_signed_with_the_key_of_the_instance(war_room: WarRoom, requests_mock: rm.Mocker) -> None:
    war_room.params["storage_credentials"] = {"identifier": ACCOUNT, "password": ACCOUNT_KEY}
    result = war_room.run("azure-storage-sas-create", **BLOB, expires_in="1h")
    assert not result.error
    assert "account_key" in json.dumps(result.context)
    assert not requests_mock.request_history, "signing needs no request"


def test_a_deleted_container_comes_back_without_resource_manager(data_room: WarRoom, requests_mock: rm.Mocker) -> None:
    fake = FakeContainers(requests_mock)
    result = data_room.run("azure-storage-container-restore", **ONE, container_name="logs-2")
    assert not result.error
    put = next(request for request in fake.sent if request.method == "PUT")
    assert put.headers["x-ms-deleted-container-version"] == "01D"
    assert change_of(result)["after"] == {"deleted": False, "version": "01D"}
    assert result.raw["id"] == f"{BLOB_HOST}/logs-2"


def test_an_account_that_resource_graph_does_not_show_is_tried_by_its_usual_address(
    signed_in: WarRoom, requests_mock: rm.Mocker
) -> None:
    signed_in.params.update(subscription_id="", resource_group_name="")
    signed_in.sign_in()
    FakeContainers(requests_mock)
    result = signed_in.run("azure-storage-blob-containers-list", **ONE)
    assert [item["name"] for item in result.raw] == ["logs-1", "logs-2"] * 2
    requests_mock.register_uri(rm.ANY, re.compile(re.escape(BLOB_HOST)), exc=requests.ConnectionError)
    assert "No subscription that the signed-in" in signed_in.run("azure-storage-blob-containers-list", **ONE).error


def test_a_listing_that_breaks_keeps_what_was_restored(
    blob_room: WarRoom, requests_mock: rm.Mocker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(az, "RESTORE_BATCH", 1)
    room = Versions(requests_mock, [kept("a", "10", "v"), kept("b", "10", "v")], ["<broken"])
    result = blob_room.run("azure-storage-blob-versions-restore", **RESTORE, prefix="x")
    assert "did not answer with a whole listing" in result.error
    assert [row[2] for row in room.written] == ["a"], "the rows of b may go on"
    assert restored(result)["restored"] == 1
    assert change_of(result)["changed"] is True
    dry = blob_room.run("azure-storage-blob-versions-restore", **RESTORE, prefix="x", dry_run="true")
    assert "did not answer with a whole listing" in dry.error


# Scale


def test_posture_of_thousands_reads_resource_graph_in_pages(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    pages = [[named_account(f"contoso{page}x{number}") for number in range(60)] for page in range(3)]
    answers = [{"json": {"data": page, "$skipToken": str(number)}} for number, page in enumerate(pages, 1)]
    answers[-1]["json"]["$skipToken"] = ""
    requests_mock.post(GRAPH, answers)
    result = signed_in.run("azure-storage-account-posture", checks="https-only")
    assert [request.method for request in requests_mock.request_history] == ["POST"] * 3
    assert "of 180 accounts" in result.text


def test_deep_checks_of_many_accounts_announce_their_pace(signed_in: WarRoom, requests_mock: rm.Mocker) -> None:
    posture_room(requests_mock, *(named_account(f"contoso{number}") for number in range(az.DEEP_ACCOUNTS + 1)))
    signed_in.run("azure-storage-account-posture", deep="true", checks="delete-lock,blob-soft-delete")
    assert "51 accounts; reads per account: 2" in str(signed_in.entries[0])
    assert "To continue here: start_after=" in str(signed_in.entries[1])


@pytest.mark.parametrize("name", ["auth_type", "cloud", "own_ip_addresses", "insecure", "subscription_id"])
def test_a_long_parameter_is_not_repeated_whole(name: str) -> None:
    with pytest.raises(az.UsageError) as caught:
        az.read_settings({"auth_type": "Device Code", name: "x" * 5000})
    assert len(str(caught.value)) < 500


def test_a_secret_that_no_request_could_carry_is_refused() -> None:
    with pytest.raises(az.UsageError, match="half of a surrogate pair") as caught:
        az.Secret("marker-\ud800-secret")
    assert "marker" not in str(caught.value)
