"""Three incidents, played command by command against the Azure on this machine: `python -m local.xsoar.walkthroughs`.

docs/incidents.md shows the same; local.build.examples writes it.
"""

import shlex
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click
from rich.console import Console

from ..azure import LocalAzure
from .render import render, without_secrets
from .server import Run, Server

LEAK, BACKUPS = "contosoweb", "contosobackups"
OWN_IP = "203.0.113.7"
ON = "delete_retention_policy_enabled=true delete_retention_policy_days=14 container_delete_retention_policy_enabled=true container_delete_retention_policy_days=14"


class Failed(Exception):
    """A command did not do what the walkthrough is there to show."""


@dataclass(frozen=True)
class Walkthrough:
    """What was there before the alert, which is not shown, and what a responder types. {url} is the blob of the alert."""

    name: str
    title: str
    blob: tuple[str, str, str]
    before: tuple[str, ...]
    lines: tuple[str, ...]


WALKTHROUGHS = (
    Walkthrough(
        "contain",
        "An alert contains a blob URL",
        (LEAK, "invoices", "2026/november.html"),
        (
            f"blob-containers-create account_name={LEAK} container_name=invoices public_access=Blob",
            f"blob-put account_name={LEAK} container_name=invoices blob_name=2026/november.html text='a fake sign-in page'",
        ),
        (
            "account-find blob_url={url}",
            f"account-activity-list account_name={LEAK} since='2 hours' limit=5",
            f"account-isolate account_name={LEAK} own_ip={OWN_IP} dry_run=true",
            f"account-isolate account_name={LEAK} own_ip={OWN_IP}",
            f"account-lock-set account_name={LEAK} level=CanNotDelete notes='case 1234'",
            f"blob-snapshot-create account_name={LEAK} container_name=invoices blob_name=2026/november.html",
            f"account-restore-settings account_name={LEAK}",
            f"account-lock-remove account_name={LEAK} lock_name=cortex-xsoar",
        ),
    ),
    Walkthrough(
        "restore",
        "A container was emptied and another one deleted",
        (BACKUPS, "payroll", "2026/october.csv"),
        (
            f"blob-service-properties-set account_name={BACKUPS} {ON}",
            f"blob-containers-create account_name={BACKUPS} container_name=payroll",
            f"blob-containers-create account_name={BACKUPS} container_name=contracts",
            f"blob-put account_name={BACKUPS} container_name=payroll blob_name=2026/october.csv text='name,amount'",
            f"blob-put account_name={BACKUPS} container_name=payroll blob_name=2026/november.csv text='name,amount'",
            f"blob-put account_name={BACKUPS} container_name=contracts blob_name=one.txt text='a contract'",
            f"blob-delete account_name={BACKUPS} container_name=payroll confirm_all=true confirm=payroll",
            f"blob-container-delete account_name={BACKUPS} container_name=contracts",
        ),
        (
            f"account-activity-list account_name={BACKUPS} operation=delete limit=5",
            f"blob-containers-list account_name={BACKUPS} include_deleted=true",
            f"container-restore account_name={BACKUPS} container_name=contracts",
            f"blob-list account_name={BACKUPS} container_name=payroll include=deleted",
            f"blob-undelete account_name={BACKUPS} container_name=payroll confirm_all=true",
            f"blob-list account_name={BACKUPS} container_name=payroll",
        ),
    ),
    Walkthrough(
        "quarantine",
        "A blob contains malware",
        (BACKUPS, "uploads", "tools/update.exe"),
        (
            f"blob-containers-create account_name={BACKUPS} container_name=uploads",
            f"blob-put account_name={BACKUPS} container_name=uploads blob_name=tools/update.exe text='not really malware'",
        ),
        (
            "blob-properties-get blob_url={url}",
            f"blob-containers-create account_name={BACKUPS} container_name=evidence",
            "blob-quarantine blob_url={url} evidence_container_name=evidence case_id=case-1234 delete_source=true",
            f"container-legal-hold-set account_name={BACKUPS} container_name=evidence tags=case1234",
            f"blob-list account_name={BACKUPS} container_name=evidence include=tags,metadata",
            f"sas-create account_name={BACKUPS} container_name=evidence blob_name=case-1234/{BACKUPS}/uploads/tools/update.exe expires_in=1h ip=198.51.100.23",
        ),
    ),
)


class Player:
    """Runs the commands of walkthroughs and hands what they answer to a console."""

    def __init__(self, azure: LocalAzure, server: Server, instance: str) -> None:
        self.azure, self.server, self.instance = azure, server, instance

    def run(self, line: str) -> Run:
        name, *words = shlex.split(line)
        args = dict(word.partition("=")[::2] for word in words)
        found = self.server.run(self.instance, f"azure-storage-{name}", args, follow=True, interval=0.2)
        if found.error or found.stray:
            raise Failed(f"{line}: {found.error or found.stray}")
        return found

    def play(self, walkthrough: Walkthrough, show: Callable[[str, Run], None]) -> None:
        account, container, blob = walkthrough.blob
        url = f"https://{self.azure.blob_host}/{account}/{container}/{blob}"
        for line in walkthrough.before:
            self.run(line)
        for line in walkthrough.lines:
            typed = line.format(url=url)
            show(typed, self.run(typed))


def showing(console: Console) -> Callable[[str, Run], None]:
    def show(line: str, found: Run) -> None:
        console.print(f"\n[bold cyan]> !azure-storage-{line}[/bold cyan]", highlight=False, soft_wrap=True)
        console.print(render(without_secrets(found.text)), crop=False)

    return show


@click.command()
def main() -> None:
    """Play the walkthroughs of docs/incidents.md."""
    console = Console()
    with tempfile.TemporaryDirectory() as folder, LocalAzure(Path(folder) / "azure") as azure:
        player = Player(azure, server_without_defaults(Path(folder) / "server", azure), "app")
        for walkthrough in WALKTHROUGHS:
            console.print(f"{walkthrough.title}\n")
            player.play(walkthrough, showing(console))


def server_without_defaults(home: Path, azure: LocalAzure) -> Server:
    """A server whose instance has no default subscription and group, so that commands have to find the accounts."""
    server = Server(home)
    server.environment = azure.environment()
    server.instances.save("app", azure.instance("Client Credentials", subscription_id="", resource_group_name=""))
    return server


if __name__ == "__main__":
    main()
