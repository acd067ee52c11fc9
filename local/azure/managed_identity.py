"""Managed identities of the local Azure: an Azure machine's metadata service, and Azure Arc's agent on any machine."""

import json
import secrets
from collections.abc import Callable
from pathlib import Path

import requests

from .entra import APP_SECRET, IDENTITY_APP, TENANT, Entra
from .front import Reply, Request

PATH = "/metadata/identity/oauth2/token"
KIND = {"Content-Type": "application/json"}


def token_reply(entra: Entra, resource: str) -> Reply:
    """A token of the identity for one resource, in the form in which both services answer."""
    form = {
        "grant_type": "client_credentials",
        "client_id": IDENTITY_APP,
        "client_secret": APP_SECRET,
        "scope": f"{resource}/.default",
        "resource": resource,
    }
    headers = {"X-Forwarded-Proto": "https", "Host": entra.url.partition("://")[2]}
    with requests.Session() as session:
        session.trust_env = False
        answer = session.post(
            f"http://127.0.0.1:{entra.port}/{TENANT}/v2.0/token", data=form, headers=headers, timeout=10
        )
    found = answer.json()
    if "access_token" not in found:
        return Reply(400, KIND, json.dumps(found).encode())
    token = {
        "access_token": found["access_token"],
        "expires_in": str(found["expires_in"]),
        "resource": resource,
        "token_type": "Bearer",
    }
    return Reply(200, KIND, json.dumps(token).encode())


def bad_request(text: str) -> Reply:
    return Reply(400, KIND, json.dumps({"error": "bad_request", "error_description": text}).encode())


def metadata_service(entra: Callable[[], Entra]) -> Callable[[Request], Reply]:
    """The instance metadata service of an Azure machine, as far as its identity goes."""

    def answer(request: Request) -> Reply:
        if request.path != PATH or request.headers.get("Metadata") != "true":
            return bad_request("Required metadata header not specified")
        return token_reply(entra(), request.query["resource"])

    return answer


class ArcAgent:
    """Azure Arc's agent: who asks must show that it can read a file of the agent's, whose name the first answer tells.

    The real agent keeps its files below /var/opt/azcmagent/tokens, which is where msal looks for them.
    """

    def __init__(self, entra: Callable[[], Entra], folder: Path) -> None:
        self.entra, self.folder = entra, folder
        self._keys: set[str] = set()

    def __call__(self, request: Request) -> Reply:
        if request.path != PATH or request.headers.get("Metadata") != "true":
            return bad_request("Required metadata header not specified")
        scheme, _, key = request.headers.get("Authorization", "").partition(" ")
        if scheme != "Basic" or key not in self._keys:
            return self._challenge()
        self._keys.discard(key)
        return token_reply(self.entra(), request.query["resource"])

    def _challenge(self) -> Reply:
        """A new key, which works once."""
        key = secrets.token_hex(32)
        self._keys.add(key)
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self.folder / f"{secrets.token_hex(8)}.key"
        path.write_text(key)
        return Reply(401, {"WWW-Authenticate": f"Basic realm={path}"}, b"")
