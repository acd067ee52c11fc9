"""Entra ID of the local Azure: its applications, and what is Entra's own around oidc-provider, which entra.mjs runs."""

import json
import threading
import urllib.parse
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

import jwt

from .front import Pieces, Reply, Request, forward

Json = dict[str, Any]
TENANT = "8a6f1c5e-2d1b-4b0c-9b7e-6a9f3f0d7c11"
PUBLIC_APP = "55f9764e-300a-474a-a2bb-549cece85439"  # Cortex XSOAR's own
COMMAND_LINE = "04b07795-8ddb-461a-bbee-02f9e1bf7b46"  # Microsoft's own, in every tenant
OWN_PUBLIC_APP = "c0ffee03-1111-4222-8333-444455556666"
SECRET_APP = "c0ffee00-1111-4222-8333-444455556666"  # noqa: S105 - an id
CERTIFICATE_APP = "c0ffee01-1111-4222-8333-444455556666"
IDENTITY_APP = "c0ffee02-1111-4222-8333-444455556666"
NO_STORAGE_APP = "c0ffee04-1111-4222-8333-444455556666"  # nobody has consented to Azure Storage for it
APP_SECRET = "local-client-secret-value"  # noqa: S105 - a secret of nothing but this machine
REDIRECT_URI = "https://localhost/myapp"
PERSON = "ann@contoso.example"
PERSON_ID = "0d9c8b7a-6f5e-4d3c-8b2a-190817263544"
STORAGE_AUDIENCE = "https://storage.azure.com"
DEVICE_CODE = "urn:ietf:params:oauth:grant-type:device_code"
NO_CONSENT = "The user or administrator has not consented to use the application. Send an interactive authorization request for this user and resource."
# error name and text of refusals that a test can ask for by their number alone
REFUSALS = {
    50034: ("invalid_grant", "The user account does not exist in the directory."),
    50076: ("interaction_required", "Due to a configuration change, you must use multi-factor authentication."),
    50173: ("invalid_grant", "The provided grant has expired due to it being revoked, a fresh auth token is needed."),
    50196: ("invalid_grant", "The server terminated an operation because it encountered a client request loop."),
    53003: ("access_denied", "Access has been blocked by Conditional Access policies."),
    65001: ("invalid_grant", NO_CONSENT),
    70043: ("invalid_grant", "The refresh token has expired due to sign-in frequency checks by Conditional Access."),
    90002: ("invalid_request", "Tenant was not found."),
    500011: ("invalid_resource", "The resource principal was not found in the tenant."),
    700016: ("unauthorized_client", "Application was not found in the directory."),
    700082: ("invalid_grant", "The refresh token has expired due to inactivity."),
    700084: ("invalid_grant", "The refresh token was issued to a single page app, and therefore has a fixed lifetime."),
    7000112: ("unauthorized_client", "The application is disabled."),
    7000215: ("invalid_client", "Invalid client secret provided."),
    7000222: ("invalid_client", "The provided client secret keys are expired."),
    9002327: (
        "invalid_request",
        "Tokens issued for the Single-Page Application client-type may only be redeemed via cross-origin requests.",
    ),
}


@dataclass
class Refusal:
    """An answer of the token endpoint to the next `times` requests whose form has all of `fields`."""

    number: int
    error: str
    text: str
    suberror: str
    times: int
    fields: dict[str, str]

    def meets(self, form: dict[str, str]) -> bool:
        return self.times > 0 and all(value in form.get(name, "") for name, value in self.fields.items())


def refused(request: Request, error: str, number: int, text: str, suberror: str = "", status: int = 400) -> Reply:
    """A refusal in the form that Entra gives it. Its correlation id is the client's request id."""
    headers = {name.lower(): value for name, value in request.headers.items()}
    correlation, trace = headers.get("client-request-id") or str(uuid.uuid4()), str(uuid.uuid4())
    time = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M:%SZ")
    code = f"AADSTS{number}: " if number else ""
    body: Json = {
        "error": error,
        "error_description": f"{code}{text} Trace ID: {trace} Correlation ID: {correlation} Timestamp: {time}",
        "error_codes": [number] if number else [],
        "timestamp": time,
        "trace_id": trace,
        "correlation_id": correlation,
        "error_uri": f"https://login.microsoftonline.com/error?code={number}",
    }
    body |= {"suberror": suberror} if suberror else {}
    kind = {"Content-Type": "application/json; charset=utf-8", "x-ms-request-id": trace}
    return Reply(401 if error == "invalid_client" else status, kind, json.dumps(body).encode())


class Entra:
    """Answers at `url`, once `port` is where oidc-provider listens.

    single_use_refresh_tokens: as oidc-provider has it, a refresh token works once, and its second use ends the session.
    Entra revokes none by itself, which is the default. It holds for the requests that come while it is set.
    """

    def __init__(self, url: str, arm_audience: str) -> None:
        self.url, self.arm_audience, self.port = url, arm_audience, 0
        self.single_use_refresh_tokens = False
        self._refusals: list[Refusal] = []
        self._lock = threading.Lock()

    def settings(self, ttl: dict[str, int], app_key: Json) -> Json:
        """What entra.mjs is started with. app_key: the public key of the application that has a certificate."""
        return {
            "issuer": f"{self.url}/{TENANT}/v2.0",
            "prefix": f"/{TENANT}/v2.0",
            "tenant": TENANT,
            "audiences": [self.arm_audience, STORAGE_AUDIENCE],
            "clients": list(applications(app_key)),
            "person": {"oid": PERSON_ID, "name": "Ann Example"},
            "login": PERSON,
            "ttl": ttl,
        }

    # Switches

    def reset(self) -> None:
        with self._lock:
            self._refusals.clear()
        self.single_use_refresh_tokens = False

    def refuse(
        self, number: int, error: str = "", text: str = "", *, suberror: str = "", times: int = 1, **fields: str
    ) -> None:
        """Answer the next token requests with AADSTS`number`: those whose form has all of `fields` in its values.

        KeyError for a number that is not known here, unless the error's name and text are given.
        """
        known = (error, text) if error else REFUSALS[number]
        with self._lock:
            self._refusals.append(Refusal(number, *known, suberror, times, fields))

    def slow_down(self, times: int = 1) -> None:
        """Answer the next polls for a device code with slow_down."""
        text = "The device code is being polled too often."
        self.refuse(0, "slow_down", text, times=times, grant_type=DEVICE_CODE)

    # Requests

    def __call__(self, request: Request) -> Reply:
        target = request.target.replace("/organizations/", f"/{TENANT}/", 1)
        path = urllib.parse.urlsplit(target).path
        body = request.body
        if path.endswith("/v2.0/token"):
            return self._token(request, target)
        if path.endswith("/device/auth"):
            body = self._with_all_scopes(body.decode()).encode()
        elif path.endswith("/v2.0/auth"):
            base, _, query = target.partition("?")
            target = f"{base}?{self._with_all_scopes(query)}"
        reply = self._forward(request, target, body)
        return with_message(self._dressed(request, reply)) if path.endswith("/device/auth") else reply

    def _token(self, request: Request, target: str) -> Reply:
        form = dict(urllib.parse.parse_qsl(request.body.decode()))
        refusal = self._next_refusal(form)
        if refusal:
            return refused(request, refusal.error, refusal.number, refusal.text, refusal.suberror)
        if form.get("client_id") == NO_STORAGE_APP and STORAGE_AUDIENCE in form.get("scope", ""):
            return refused(request, "invalid_grant", 65001, NO_CONSENT, "consent_required")
        headers = {"X-Local-Single-Use": "1"} if self.single_use_refresh_tokens else {}
        if "scope" in form:
            form["scope"] = plain(form["scope"])
        body = urllib.parse.urlencode(form).encode()
        reply = self._dressed(request, self._forward(request, target, body, headers))
        return with_own_scopes(reply) if reply.status == 200 else reply

    def _next_refusal(self, form: dict[str, str]) -> Refusal | None:
        with self._lock:
            found = next((refusal for refusal in self._refusals if refusal.meets(form)), None)
            if found:
                found.times -= 1
            return found

    def _forward(self, request: Request, target: str, body: bytes, headers: dict[str, str] | None = None) -> Reply:
        passed = Request(request.service, request.method, target, request.headers, body)
        return forward(passed, self.port, {"X-Forwarded-Proto": "https", **(headers or {})})

    @staticmethod
    def _dressed(request: Request, reply: Reply) -> Reply:
        """A refusal of the provider's, in Entra's form."""
        if reply.status < 400:
            return reply
        found = json.loads(read_whole(reply))
        numbers = [*found.get("error_codes", []), 0]
        return refused(request, found["error"], numbers[0], found.get("error_description", ""))

    def _with_all_scopes(self, form: str) -> str:
        """A sign-in grants an application all it may have, so that one refresh token serves every resource.

        oidc-provider does not know Entra's prompt for an account, and grants offline_access only with one for consent.
        """
        fields = dict(urllib.parse.parse_qsl(form))
        if fields.get("prompt") == "select_account":
            fields["prompt"] = "consent"
        if "scope" in fields:
            every = [f"{audience}/.default" for audience in (self.arm_audience, STORAGE_AUDIENCE)]
            fields["scope"] = " ".join(dict.fromkeys([*plain(fields["scope"]).split(), *every]))
        return urllib.parse.urlencode(fields)


def plain(scopes: str) -> str:
    """Scopes as oidc-provider knows them. Entra also takes a resource with a slash at its end."""
    return scopes.replace("//.default", "/.default")


def with_own_scopes(reply: Reply) -> Reply:
    """The answer to a token request. A token is good for one resource, and its answer tells the scopes of no other."""
    found = json.loads(read_whole(reply))
    audience = jwt.decode(found["access_token"], options={"verify_signature": False})["aud"]
    scopes = str(found.get("scope", "")).split()
    own = [scope for scope in scopes if not scope.endswith("/.default") or scope == f"{audience}/.default"]
    found |= {"scope": " ".join(own)} if scopes else {}
    return replaced(reply, found)


def replaced(reply: Reply, body: Json) -> Reply:
    headers = {name: value for name, value in reply.headers.items() if name.lower() != "content-length"}
    return Reply(reply.status, headers, json.dumps(body).encode(), reply.cookies)


def with_message(reply: Reply) -> Reply:
    """The answer to the start of a device code flow, with the words that Entra has for the person. It has no complete
    address, in which the code is entered already."""
    if reply.status != 200:
        return reply
    found = json.loads(read_whole(reply))
    found.pop("verification_uri_complete", None)
    found.setdefault("interval", 5)
    found["message"] = (
        f"To sign in, use a web browser to open the page {found['verification_uri']} and enter the code "
        f"{found['user_code']} to authenticate."
    )
    return replaced(reply, found)


def read_whole(reply: Reply) -> bytes:
    if isinstance(reply.body, bytes):
        return reply.body
    try:
        return b"".join(reply.body)
    finally:
        if isinstance(reply.body, Pieces):
            reply.body.close()


def applications(app_key: Json) -> Iterable[Json]:
    """The app registrations: Cortex XSOAR's and Microsoft's own, public and confidential ones of the tenant, and a managed identity's."""
    user_grants = ["authorization_code", "refresh_token", DEVICE_CODE]
    user = {"grant_types": user_grants, "response_types": ["code"], "redirect_uris": [REDIRECT_URI]}
    app_only: Json = {"grant_types": ["client_credentials"], "response_types": [], "redirect_uris": []}
    secret = {"client_secret": APP_SECRET, "token_endpoint_auth_method": "client_secret_post"}
    for app in (PUBLIC_APP, OWN_PUBLIC_APP, NO_STORAGE_APP):
        yield {"client_id": app, "token_endpoint_auth_method": "none", **user}
    native = {**user, "application_type": "native", "redirect_uris": ["http://localhost"]}
    yield {"client_id": COMMAND_LINE, "token_endpoint_auth_method": "none", **native}
    yield {"client_id": SECRET_APP, **secret, **user, "grant_types": [*user_grants[:2], "client_credentials"]}
    yield {"client_id": IDENTITY_APP, **secret, **app_only}
    yield {
        "client_id": CERTIFICATE_APP,
        "token_endpoint_auth_method": "private_key_jwt",
        "token_endpoint_auth_signing_alg": "RS256",
        "jwks": {"keys": [{**app_key, "use": "sig"}]},
        **app_only,
    }
