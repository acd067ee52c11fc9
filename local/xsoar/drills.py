"""All playbooks of the pack, played on one incident on this machine, step by step: `python -m local.xsoar.drills [NAME]`."""

import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import click
from rich.console import Console
from rich.text import Text

from ..azure import LocalAzure, scenario
from ..azure.scenario import ACCOUNT, INVOICES, PAYROLL, RESPONDER_IP, World
from .loop import find_local_names
from .playbooks import Library, Player, shows
from .render import render
from .server import ROOT, Server

PLAYBOOKS = ROOT / "pack" / "Playbooks"
PREFIX = "Azure Storage - "


class Failed(Exception):
    """A playbook did not do what it is there for."""


@dataclass(frozen=True)
class Drill:
    """A playbook with its inputs, and what the responder answers when it asks."""

    playbook: str
    inputs: Callable[[World], dict[str, str]]
    answers: Mapping[str, str] = field(default_factory=dict)


DRILLS = (
    Drill(
        "Respond to Leaked SAS",
        lambda world: {"SAS": world.policy_sas_url},
        {"Revoke the stored access policy?": "Yes"},
    ),
    Drill(
        "Quarantine Malicious Blob",
        lambda world: {"BlobURL": world.malware_url, "CaseID": "case-4711", "LabIP": "198.51.100.23"},
        {"Remove the blobs?": "Yes"},
    ),
    Drill(
        "Recover Deleted or Encrypted Data",
        lambda world: {"AccountName": ACCOUNT, "ContainerName": PAYROLL, "RestoreTo": world.emptied_at},
        {"Restore the blobs to the point in time?": "Yes", "Turn soft delete and versioning on?": "Yes"},
    ),
    Drill(
        "Contain Exposed Account",
        lambda world: {"BlobURL": world.invoice_url, "OwnIP": RESPONDER_IP, "CaseID": "4711"},
        {"Isolate the storage account?": "Yes"},
    ),
    Drill(
        "Undo Containment",
        lambda world: {"AccountName": ACCOUNT, "CloseContainer": INVOICES},
        {"Restore the settings of the storage account?": "Yes"},
    ),
)


def play(drill: Drill, world: World, server: Server, instance: str, console: Console) -> None:
    """Show every step of a playbook. Failed if it ended in an error, or in the hands of a person."""
    console.rule(drill.playbook)
    show = shows(console)
    library = Library(sorted(PLAYBOOKS.glob("*.yml")))
    server.context.clear()
    player = Player(server, library, instance, answers=drill.answers, interval=0.2, on_step=show)
    outcome = player.play(f"{PREFIX}{drill.playbook}", drill.inputs(world))
    by_hand = [name for name in outcome.names() if name.endswith("by hand")]
    if outcome.failed or by_hand:
        raise Failed(f"{drill.playbook}: {'; '.join([step.error for step in outcome.failed] or by_hand)}")


def server_of(home: Path, azure: LocalAzure) -> Server:
    """A server whose instance does not know where the account is, so that commands have to find it."""
    server = Server(home)
    server.environment = azure.environment()
    server.instances.save("app", azure.instance("Client Credentials", subscription_id="", resource_group_name=""))
    return server


@click.command()
@click.argument("name", default="")
def main(name: str) -> None:
    """Play all playbooks, or the one whose name contains NAME."""
    find_local_names()
    console = Console(width=None if sys.stdout.isatty() else 120)
    chosen = [drill for drill in DRILLS if name.lower() in drill.playbook.lower()]
    if not chosen:
        raise click.ClickException(f"No playbook is called {name}: {', '.join(drill.playbook for drill in DRILLS)}")
    with tempfile.TemporaryDirectory() as folder, LocalAzure(Path(folder) / "azure") as azure:
        server = server_of(Path(folder) / "server", azure)
        world = scenario.make(azure)
        console.print(render(scenario.briefing(world)), crop=False)
        try:
            for drill in chosen:
                play(drill, world, server, "app", console)
        except Failed as failure:
            sys.exit(f"\n{failure}")
    console.print(Text(f"\n{len(chosen)} playbooks were played to their end.", "bold"))


if __name__ == "__main__":
    main()
