"""No secret is in an entry, the context, an error, polling arguments or a log, whatever way of signing in and failure.

Each secret is a marker with characters that change their form in URLs and JSON; it is looked for in every form. The
failures echo what was sent, as a proxy for diagnosis does.
"""

import base64
import json
import urllib.parse
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import demistomock as demisto
import pytest
import requests
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

import AzureStorage as az
from local.azure import LocalAzure
from local.xsoar.server import Server

from .conftest import sign_in_device
from .in_process import PARAMS, Answer, World, by_a_proxy, entries, world
from .recorded_azure import ACCOUNT, ARM, BLOBS, recorded
from .test_manifest import EXAMPLES, TENANT, USER

APP = {"app_id": USER, "tenant_id": TENANT}
SECRET = "marker+client/secret~1=="
CODE = "0.marker-authorization/code+1"
SIGNATURE = "marker+sas/signature0123456789abcdefghijklm="
KEYS = [str(key["value"]) for key in recorded("keys")["keys"]]
QUERY = f"sv=2022-11-02&sr=b&sp=r&se=2026-11-29T13:00:00Z&sig={urllib.parse.quote(SIGNATURE, safe='')}"
TOKENS = {
    "access_token": "marker.access+token/1",
    "refresh_token": "marker.refresh+token/1",
    "device_code": "marker-device+code/1",
}
TOKEN = {**TOKENS, "token_type": "Bearer", "expires_in": "3600", "client_info": "eyJ1aWQiOiJ1IiwidXRpZCI6InQifQ"}
DEVICE = {
    "device_code": TOKENS["device_code"],
    "user_code": "ABC",
    "verification_uri": "https://a.example",
    "expires_in": 900,
    "interval": 5,
}
PEM = (
    rsa.generate_private_key(65537, 2048)
    .private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    .decode()
)
MARKERS = [SECRET, CODE, SIGNATURE, *KEYS, *TOKENS.values(), *PEM.splitlines()[1:-1]]
CREDENTIAL = {"identifier": "", "password": SECRET}
WAYS: dict[str, dict[str, Any]] = {
    "device code": {"auth_type": "Device Code"},
    "login URL": {"auth_type": "Authorization Code", **APP, "credentials": CREDENTIAL},
    "code of the instance": {"auth_type": "Authorization Code", **APP, "auth_code": {"password": CODE}},
    "client secret": {"auth_type": "Client Credentials", **APP, "credentials": CREDENTIAL},
    "certificate": {
        "auth_type": "Client Credentials",
        **APP,
        "certificate": {"identifier": "0" * 40, "password": PEM},
    },
    "managed identity": {"auth_type": "Azure Managed Identities"},
    "account key": {"storage_credentials": {"identifier": ACCOUNT, "password": KEYS[0]}},
    "account SAS": {"storage_credentials": {"identifier": ACCOUNT, "password": f"{BLOBS}/?{QUERY}"}},
}
# Commands whose purpose is to hand out a secret: they show it in an entry, and never in a log.
HAND_OUT = ("azure-storage-account-key-list", "azure-storage-sas-create")


def echo(request: Any) -> str:
    """All that was sent, the body first, since messages are cut; on one line."""
    body = request.body.decode(errors="replace") if isinstance(request.body, bytes) else str(request.body or "")
    return f"{body} {dict(request.headers)} {request.method} {request.url}".replace("\n", " ")


FAILURES: dict[str, Callable[[Any, Answer], Answer]] = {
    "none": lambda request, good: good,
    "refused": lambda request, good: Answer(
        403, {}, json.dumps({"error": {"code": "Echo", "message": echo(request)}}).encode()
    ),
    "refused by Entra": lambda request, good: Answer(
        400, {}, json.dumps({"error": "invalid_grant", "error_description": echo(request)}).encode()
    ),
    "proxy page": lambda request, good: by_a_proxy(f"<html>{echo(request)}</html>".encode()),
    "reset": lambda request, good: good._replace(error=requests.ConnectionError(echo(request))),
    "server error": lambda request, good: Answer(500, {}, echo(request).encode()),
    "malformed": lambda request, good: Answer(200, {}, b'{"error": ' + echo(request).encode() + good.body[:200]),
}


def forms(secret: str) -> set[str]:
    return {
        secret,
        urllib.parse.quote(secret, safe=""),
        urllib.parse.quote_plus(secret),
        urllib.parse.quote(urllib.parse.quote(secret, safe=""), safe=""),
        base64.b64encode(secret.encode()).decode(),
        json.dumps(secret)[1:-1],
    }


def leaked(text: str, secrets: list[str]) -> list[str]:
    return [form for secret in secrets for form in forms(secret) if form in text]


@pytest.fixture
def azure_of_records(tmp_path: Any) -> Iterator[World]:
    with world(tmp_path) as found:
        yield found


@pytest.mark.parametrize("failure", sorted(FAILURES))
@pytest.mark.parametrize("way", sorted(WAYS))
def test_no_command_leaks(azure_of_records: World, way: str, failure: str) -> None:
    params, log = {**PARAMS, **WAYS[way]}, list[str]()

    def change(number: int, request: Any, answer: Answer) -> Answer:
        sign_in = not request.url.startswith((ARM, BLOBS))
        good = Answer(200, {}, json.dumps(DEVICE if "devicecode" in request.url else TOKEN).encode())
        fails = failure == "refused by Entra" if sign_in else failure != "refused by Entra"
        good = good if sign_in else answer
        return FAILURES[failure](request, good) if fails or (sign_in and number % 2) else good

    def keep(*words: Any) -> None:
        log.append(" ".join(map(str, words)))

    azure_of_records.change = change
    with (
        mock.patch.object(demisto, "debug", keep),
        mock.patch.object(demisto, "info", keep),
        mock.patch.object(demisto, "error", keep),
    ):
        for name in ("azure-storage-auth-start", "azure-storage-auth-complete", *sorted(EXAMPLES)):
            for args in EXAMPLES[name]:
                azure_of_records.sent.clear()
                found = json.dumps(entries(name, params, with_secrets(name, args)), default=str)
                hidden = [marker for marker in MARKERS if name not in HAND_OUT or marker not in KEYS]
                assert leaked(found, hidden) == [], (name, found[:1500])
                verifier = verifiers()
                assert leaked("\n".join(log), [*MARKERS, *verifier]) == [], name
                assert leaked(found, verifier) == [], name


def with_secrets(name: str, args: dict[str, str]) -> dict[str, str]:
    """The arguments with a secret in each that may hold one."""
    known = az.COMMANDS[name].arguments()
    more = {
        "code": f"https://localhost/myapp?code={urllib.parse.quote(CODE, safe='')}",
        "sas": f"{BLOBS}/evidence/a?{QUERY}",
    }
    found = {**args, **{key: value for key, value in more.items() if key in known}}
    if "blob_url" in known and "blob_name" in args:
        found["blob_url"] = f"{BLOBS}/evidence/{args['blob_name']}?{QUERY}"
    if "source_url" in known:
        found = {key: value for key, value in found.items() if not key.startswith("source_")}
        found["source_url"] = f"https://contosoweb.blob.core.windows.net/evidence/a?{QUERY}"
    return found


def verifiers() -> list[str]:
    """The PKCE verifier of the login that waits, from the context."""
    document = az.json_object(str(demisto.getIntegrationContext().get(az.SessionStore.KEY)))
    found = [az.at_path(session, "login.code_verifier") for session in document.get("sessions", {}).values()]
    return [str(verifier) for verifier in found if verifier]


@pytest.mark.parametrize("instance", ["device", "app", "certificate", "identity"])
def test_the_platforms_debug_log_has_no_secret(azure: LocalAzure, server: Server, instance: str) -> None:
    """It prints what http.client sends and receives; the tokens and keys are those that the local Azure really gave."""
    if instance == "device":
        sign_in_device(azure, server)
    shown = []
    for name, args in (
        ("auth-test", {}),
        ("account-list", {}),
        ("account-key-list", {"account_name": ACCOUNT}),
        ("blob-list", {"account_name": ACCOUNT, "container_name": "evidence"}),
        ("sas-inspect", {"sas": f"{BLOBS}/evidence/a?{QUERY}"}),
    ):
        run = server.run(instance, f"azure-storage-{name}", {**args, "debug-mode": "true"})
        shown.append(json.dumps(run.entries) + "".join(run.log))
    stored = (server.home / f"context-{instance}.json").read_text()
    tokens = [
        str(entry["token"])
        for session in json.loads(json.loads(stored)["context"][az.SessionStore.KEY])["sessions"].values()
        for entry in session.get("tokens", {}).values()
    ]
    assert len(tokens) >= 1
    text = "\n".join(shown)
    assert "GET /subscriptions" in text
    assert leaked(text, [*tokens, *azure.arm.keys[ACCOUNT], SIGNATURE]) == []
