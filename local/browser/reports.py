"""Every report of the integration, made by running its commands on the local Azure."""

import datetime
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from ..azure import LocalAzure
from ..azure.logs import sas_hash
from ..xsoar.drills import BACKUPS, LEAK, Failed
from ..xsoar.server import Server

WORKSPACE = "/subscriptions/3d5c2b1a-7e4f-4c8d-9a6b-1f2e3d4c5b6a/resourceGroups/rg-soc/providers/Microsoft.OperationalInsights/workspaces/soc"
PAYROLL = f"account_name={BACKUPS} container_name=payroll"
UPLOADS = f"account_name={BACKUPS} container_name=uploads"
BEFORE = (
    f"account-logging-set account_name={BACKUPS} workspace_id={WORKSPACE}",
    f"blob-containers-create {PAYROLL}",
    f"blob-containers-create {UPLOADS}",
    f"blob-containers-create account_name={BACKUPS} container_name=evidence",
    f"blob-put {UPLOADS} blob_name=tools/update.exe text='not really malware'",
    f"blob-put {UPLOADS} blob_name='tools/a longer name with <b>tags</b> & more/readme.html' text='<h1>hello</h1>'",
    f"blob-containers-create account_name={LEAK} container_name=invoices public_access=Blob",
    f"blob-put account_name={LEAK} container_name=invoices blob_name=2026/november.html text='a fake sign-in page'",
    f"account-key-list account_name={LEAK}",
    f"account-lock-set account_name={LEAK} level=CanNotDelete",
)


class Kind(NamedTuple):
    """A report: its name, the command that makes it, and how many pages of A4 it may take."""

    name: str
    line: str
    pages: int


KINDS = (
    Kind("posture", "account-posture report=html", 4),
    Kind("triage", f"triage blob_url=https://{{host}}/{LEAK}/invoices/2026/november.html report=html", 2),
    Kind("log-search", f"log-search account_name={BACKUPS} since=1d report=html", 2),
    Kind(
        "custody",
        f"blob-quarantine {UPLOADS} prefix=tools/ evidence_container_name=evidence case_id=case-1234 delete_source=true report=html",
        2,
    ),
)


def record_requests(azure: LocalAzure) -> None:
    """A day of requests: a person's, and in three hours of it those of a stranger who has a SAS, some of them refused."""
    leaked = sas_hash("key1", azure.arm.keys[BACKUPS][0], "leaked")
    stranger = {"AuthenticationType": "SAS", "AuthenticationHash": leaked, "UserAgentHeader": "azcopy/10.27.1"}
    person = {"AuthenticationType": "OAuth", "RequesterUpn": "ann@contoso.example"}
    person["UserAgentHeader"] = "azsdk-python-storage-blob/12.26.0 Python/3.12.11 (Linux)"
    for step in range(140):
        attack = 40 < step < 90
        refused = attack and step % 4 == 0
        azure.log.record(
            AccountName=BACKUPS,
            Category="StorageRead",
            OperationName="ListBlobs" if step % 10 == 0 else "GetBlob",
            StatusCode="403" if refused else "200",
            CallerIpAddress="198.51.100.7:50123" if attack else "203.0.113.20:41200",
            Uri=f"https://{BACKUPS}.blob.core.windows.net:443/payroll/2026/week-{step}.csv",
            ResponseBodySize=0 if refused else 48_213 + step,
            **(stranger if attack else person),
        )
        azure.log.age(datetime.timedelta(minutes=3 if attack else 12))


def run(server: Server, line: str) -> list[Path]:
    """The files of a command."""
    name, *words = shlex.split(line)
    args = dict(word.partition("=")[::2] for word in words)
    found = server.run("app", f"azure-storage-{name}", args, follow=True, interval=0.2)
    if found.error or found.stray:
        raise Failed(f"{line}: {found.error or found.stray}")
    return found.files


def make(azure: LocalAzure, server: Server) -> Iterator[tuple[Kind, Path]]:
    """Each report with its file. The instance app has to be there."""
    for line in BEFORE:
        run(server, line)
    record_requests(azure)
    for kind in KINDS:
        (page,) = (path for path in run(server, kind.line.format(host=azure.blob_host)) if path.suffix == ".html")
        yield kind, page
