"""The world that the War Room, the drills, the playbook tests and the demo share: an incident at a finance account.

Yesterday somebody used a stolen identity to open the container of invoices to everybody. A SAS for the exports leaked and
was used from outside. A blob was uploaded that is malware, and the payroll container was emptied this morning. There is
ordinary traffic around all of it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

import requests
from azure.storage.blob import (
    AccessPolicy,
    BlobSasPermissions,
    BlobServiceClient,
    ContainerSasPermissions,
    generate_blob_sas,
    generate_container_sas,
)

from .arm.accounts import add_account
from .entra import APP_SECRET, PERSON, SECRET_APP, TENANT
from .machine import GROUP, SUBSCRIPTION, LocalAzure

Json = dict[str, Any]
ACCOUNT = "contosofinance"
INVOICES, EXPORTS, UPLOADS, PAYROLL = "invoices", "exports", "uploads", "payroll"
POLICY = "partner-access"
INVOICE, EXPORT, MALWARE = "2026/november.html", "2026/ledger.csv", "tools/update.exe"
PAYSLIPS = ("2026/august.csv", "2026/september.csv", "2026/october.csv")
MALWARE_BYTES = b"MZ this is not really malware"

RESPONDER, RESPONDER_IP = PERSON, "203.0.113.7"
STOLEN, ATTACKER_IP = "j.doe@contoso.example", "198.51.100.77"
COLLECTOR_IP = "192.0.2.144"  # from where the leaked SAS was used
OFFICE_IP = "203.0.113.20"
WORKSPACE = (
    f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}/providers/Microsoft.OperationalInsights/workspaces/soc"
)
VERSION = "2025-11-05"


@dataclass(frozen=True)
class World:
    """What an alert or a finder would tell of it.

    invoice_url: the blob that the alert names. policy_sas_url: the leaked SAS, bound to a stored access policy.
    key_sas_url: a SAS that only an account key ends. malware_url: the upload. emptied_at: just before the payroll was
    deleted.
    """

    account_id: str
    invoice_url: str
    malware_url: str
    policy_sas_url: str
    key_sas_url: str
    emptied_at: str


def make(azure: LocalAzure) -> World:
    """Make it on a local Azure that does not have the account yet."""
    return Scenario(azure).make()


def briefing(world: World) -> str:
    """What a responder is told at the start, in Markdown."""
    return "\n".join(
        (
            "### Alert: anonymous access to a storage account",
            f"Defender for Storage reports reads without a credential of {world.invoice_url}",
            "",
            f"You are {RESPONDER}, and this engine reaches Azure from {RESPONDER_IP}. Start with:",
            "",
            f"`!azure-storage-triage blob_url={world.invoice_url}`",
            "",
        )
    )


class Scenario:
    """Makes the world: requests are sent to the local Azure as each of its people would send them."""

    def __init__(self, azure: LocalAzure) -> None:
        self.azure, self.arm = azure, azure.arm
        self.now = datetime.now(timezone.utc)

    def make(self) -> World:
        self.account()
        self.contents()
        self.azure.blobs.age(timedelta(days=3))
        policy_sas, key_sas = self.leak()
        self.opened()
        self.used(policy_sas, key_sas)
        self.uploaded()
        emptied_at = self.emptied()
        base = self.azure.azurite.endpoint(ACCOUNT).rstrip("/")
        return World(
            account_id=str(self.arm.accounts[ACCOUNT]["id"]),
            invoice_url=f"{base}/{INVOICES}/{INVOICE}",
            malware_url=f"{base}/{UPLOADS}/{MALWARE}",
            policy_sas_url=f"{base}/{EXPORTS}/{EXPORT}?{policy_sas}",
            key_sas_url=f"{base}/{EXPORTS}/{EXPORT}?{key_sas}",
            emptied_at=emptied_at,
        )

    # Who asks, and when

    @contextmanager
    def past(self, hours: float, caller: str = "", address: str = OFFICE_IP) -> Iterator[None]:
        """What is done inside was done so long ago: in the activity log, by the caller and from the address."""
        records, events = len(self.azure.log.records()), len(self.arm.activity)
        when = (self.now - timedelta(hours=hours)).strftime("%Y-%m-%dT%H:%M:%S.%f0Z")
        before, self.azure.client_address = self.azure.client_address, address
        try:
            yield
        finally:
            self.azure.client_address = before
        for record in self.azure.log.records()[records:]:
            record.columns["TimeGenerated"] = when
        for event in self.arm.activity[events:]:
            event.update(eventTimestamp=when, submissionTimestamp=when, caller=caller)
            event["httpRequest"]["clientIpAddress"] = address

    def manage(self, method: str, path: str, body: Json | None = None, version: str = "2025-08-01") -> None:
        """A request to Resource Manager. HTTPError if it is refused."""
        form = {
            "grant_type": "client_credentials",
            "client_id": SECRET_APP,
            "client_secret": APP_SECRET,
            "scope": f"{self.azure.arm_url}/.default",
            "resource": self.azure.arm_url,
        }
        with requests.Session() as session:
            session.trust_env, session.verify = False, str(self.azure.ca_file)
            token = session.post(f"{self.azure.authority_url}/{TENANT}/v2.0/token", data=form, timeout=20).json()
            url = f"{self.azure.arm_url}{self.arm.accounts[ACCOUNT]['id']}{path}?api-version={version}"
            headers = {"Authorization": f"Bearer {token['access_token']}"}
            session.request(method, url, json=body, headers=headers, timeout=20).raise_for_status()

    def blobs(self, credential: object = "") -> BlobServiceClient:
        """Microsoft's client, with the account key unless another credential is given; None for none."""
        key = {"account_name": ACCOUNT, "account_key": self.key} if credential == "" else credential
        return BlobServiceClient(
            self.azure.azurite.endpoint(ACCOUNT),
            credential=key,
            api_version=VERSION,
            connection_verify=str(self.azure.ca_file),
            retry_total=0,
        )

    @property
    def key(self) -> str:
        return self.arm.keys[ACCOUNT][0]

    def put(self, container: str, name: str, data: bytes) -> None:
        with self.blobs() as service:
            service.get_blob_client(container, name).upload_blob(data, overwrite=True)

    # What was there

    def account(self) -> None:
        """An account of years, whose logs go to a workspace and which keeps versions and what was deleted."""
        settings = {"allowBlobPublicAccess": False, "minimumTlsVersion": "TLS1_2"}
        add_account(self.arm, SUBSCRIPTION, GROUP, ACCOUNT, {"tags": {"owner": "finance"}, "properties": settings})
        made = (self.now - timedelta(days=800)).strftime("%Y-%m-%dT%H:%M:%S.%f0Z")
        properties = self.arm.accounts[ACCOUNT]["properties"]
        properties.update(creationTime=made, keyCreationTime={"key1": made, "key2": made})
        kept = {"enabled": True, "days": 14}
        self.arm.services[ACCOUNT].update(
            deleteRetentionPolicy=kept, containerDeleteRetentionPolicy=kept, isVersioningEnabled=True
        )
        logs = [{"category": name, "enabled": True} for name in ("StorageRead", "StorageWrite", "StorageDelete")]
        body: Json = {"properties": {"workspaceId": WORKSPACE, "logs": logs}}
        path = "/blobServices/default/providers/microsoft.insights/diagnosticSettings/soc"
        with self.past(24 * 60, "platform-team@contoso.example"):
            self.manage("PUT", path, body, "2021-05-01-preview")

    def contents(self) -> None:
        for container in (INVOICES, EXPORTS, UPLOADS, PAYROLL):
            self.azure.azurite.create(ACCOUNT, self.key, container, {})
        with self.past(72):
            self.put(INVOICES, INVOICE, b"<h1>Invoice 4711</h1>")
            self.put(INVOICES, "2026/october.html", b"<h1>Invoice 4708</h1>")
            self.put(EXPORTS, EXPORT, b"account,amount\n4000,12500.00\n")
            self.put(UPLOADS, "forms/travel.pdf", b"%PDF-1.7 a form")
            for name in PAYSLIPS:
                self.put(PAYROLL, name, b"name,amount\nAnn,4200\n")
        with self.past(30), self.blobs() as service:
            for container, name in ((INVOICES, INVOICE), (PAYROLL, PAYSLIPS[-1])):
                service.get_blob_client(container, name).download_blob().readall()

    # What happened

    def leak(self) -> tuple[str, str]:
        """A SAS of a stored access policy, and one that only the account key ends."""
        start, end = self.now - timedelta(days=30), self.now + timedelta(days=335)
        read = AccessPolicy(permission=ContainerSasPermissions(read=True, list=True), start=start, expiry=end)
        with self.past(24 * 30), self.blobs() as service:
            service.get_container_client(EXPORTS).set_container_access_policy({POLICY: read})
        policy_sas = generate_container_sas(ACCOUNT, EXPORTS, self.key, policy_id=POLICY)
        rights = {"permission": BlobSasPermissions(read=True), "expiry": end, "start": start}
        key_sas = generate_blob_sas(ACCOUNT, EXPORTS, EXPORT, account_key=self.key, **rights)
        return policy_sas, key_sas

    def opened(self) -> None:
        """Yesterday, with the stolen identity: looked at the keys, allowed anonymous access, opened the container."""
        container = f"/blobServices/default/containers/{INVOICES}"
        with self.past(26, "platform-team@contoso.example"):
            self.manage("PATCH", "", {"tags": {"owner": "finance", "reviewed": "2026-11"}})
        with self.past(23, STOLEN, ATTACKER_IP):
            self.manage("POST", "/listKeys")
            self.manage("PATCH", "", {"properties": {"allowBlobPublicAccess": True}})
            self.manage("PATCH", container, {"properties": {"publicAccess": "Blob"}})
        for hours, address in ((22.0, ATTACKER_IP), (9.0, "192.0.2.9"), (2.0, "192.0.2.31")):
            with self.past(hours, address=address), self.blobs(None) as stranger:
                stranger.get_blob_client(INVOICES, INVOICE).download_blob().readall()

    def used(self, *signatures: str) -> None:
        for hours, signature in enumerate(signatures, 6):
            with self.past(hours, address=COLLECTOR_IP), self.blobs(signature) as service:
                service.get_blob_client(EXPORTS, EXPORT).download_blob().readall()

    def uploaded(self) -> None:
        with self.past(5, address=ATTACKER_IP):
            self.put(UPLOADS, MALWARE, MALWARE_BYTES)

    def emptied(self) -> str:
        """This morning. Returns a moment at which everything was there."""
        before = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f0Z")
        with self.past(1, address=ATTACKER_IP), self.blobs() as service:
            for name in PAYSLIPS:
                service.get_blob_client(PAYROLL, name).delete_blob()
        with self.past(0.75, RESPONDER, RESPONDER_IP):
            self.manage("PATCH", "", {"tags": {"owner": "finance", "reviewed": "2026-11", "case": "4711"}})
        with self.past(0.5), self.blobs() as service:
            service.get_blob_client(INVOICES, "2026/october.html").download_blob().readall()
        return before
