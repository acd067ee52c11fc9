"""Every report of the integration, made by running its commands on the local Azure and its incident."""

import shlex
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import NamedTuple

from ..azure import LocalAzure, scenario
from ..azure.scenario import ACCOUNT, UPLOADS
from ..xsoar.server import Server
from ..xsoar.walkthroughs import LEAK, Failed

BEFORE = (
    f"blob-containers-create account_name={ACCOUNT} container_name=evidence",
    f"blob-put account_name={ACCOUNT} container_name={UPLOADS} blob_name='tools/a longer name with <b>tags</b> & more/readme.html' text='<h1>hello</h1>'",
)


class Kind(NamedTuple):
    """A report: its name, the command that makes it, and how many pages of A4 it may take."""

    name: str
    line: str
    pages: int


KINDS = (
    Kind("posture", f"account-posture account_name={ACCOUNT},{LEAK} report=html", 4),
    Kind("triage", "triage blob_url={url} report=html", 2),
    Kind("log-search", f"log-search account_name={ACCOUNT} since=2d report=html", 2),
    Kind(
        "custody",
        f"blob-quarantine account_name={ACCOUNT} container_name={UPLOADS} prefix=tools/ evidence_container_name=evidence case_id=case-4711 delete_source=true report=html",
        2,
    ),
)


OFFICE: dict[str, str | int] = {
    "AuthenticationType": "OAuth",
    "RequesterUpn": "ann@contoso.example",
    "CallerIpAddress": f"{scenario.OFFICE_IP}:41200",
    "UserAgentHeader": "azsdk-python-storage-blob/12.26.0 Python/3.12.11 (Linux)",
    "StatusCode": "200",
    "ResponseBodySize": 48_213,
}
ATTACKER: dict[str, str | int] = {
    "AuthenticationType": "Anonymous",
    "CallerIpAddress": f"{scenario.ATTACKER_IP}:50123",
    "UserAgentHeader": "curl/8.14.1",
    "StatusCode": "404",
}


def traffic(azure: LocalAzure) -> None:
    """Two days of requests of the office, and an hour in which the attacker guesses names."""
    now = datetime.now(timezone.utc)
    office = ((12 * step, OFFICE) for step in range(240) if step % 4 or step % 7 == 0)
    attacker = ((21 * 60 + 2 * step, ATTACKER) for step in range(60))
    for minutes, columns in (*office, *attacker):
        azure.log.record(
            AccountName=ACCOUNT,
            Category="StorageRead",
            OperationName="GetBlob",
            TimeGenerated=f"{now - timedelta(minutes=minutes):%Y-%m-%dT%H:%M:%S.%f}0Z",
            Uri=f"https://{ACCOUNT}.blob.core.windows.net:443/invoices/2026/{minutes}.html",
            **columns,
        )


def run(server: Server, line: str) -> list[Path]:
    """The files of a command."""
    name, *words = shlex.split(line)
    args = dict(word.partition("=")[::2] for word in words)
    found = server.run("app", f"azure-storage-{name}", args, follow=True, interval=0.2)
    if found.error or found.stray:
        raise Failed(f"{line}: {found.error or found.stray}")
    return found.files


def make(azure: LocalAzure, server: Server) -> Iterator[tuple[Kind, Path]]:
    """Each report with its file. The server has to have the instance app."""
    world = scenario.make(azure)
    for line in BEFORE:
        run(server, line)
    traffic(azure)
    for kind in KINDS:
        (page,) = (path for path in run(server, kind.line.format(url=world.invoice_url)) if path.suffix == ".html")
        yield kind, page
