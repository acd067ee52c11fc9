"""`make demo`: an incident from the alert to the undo, against an Azure on this machine.

The person's part in the browser is done by script; every step is printed. Nothing is left behind.
"""

import re
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from ..azure import LocalAzure, scenario
from ..azure.scenario import ACCOUNT, STOLEN
from .drills import DRILLS, Failed, play
from .loop import find_local_names
from .render import render, without_secrets
from .server import Run, Server

# What the responder types between the alert and the first playbook. {url} is the blob of the alert.
COMMANDS = (
    "azure-storage-auth-test",
    "azure-storage-triage blob_url={url}",
    f"azure-storage-account-activity-list account_name={ACCOUNT} since=7d caller={STOLEN}",
    f"azure-storage-log-search account_name={ACCOUNT} since=7d hunt=anonymous",
)
PLAYED = ("Contain Exposed Account", "Undo Containment")


class Demo:
    """Prints what a person would type and what the war room would answer."""

    def __init__(self, azure: LocalAzure, server: Server, console: Console) -> None:
        self.azure, self.server, self.console = azure, server, console

    def command(self, line: str) -> Run:
        name, *words = line.split(" ")
        shown = re.sub(r"code=\S{40,}", "code=<the address the browser ended at>", line)
        self.console.print(f"\n[bold cyan]> !{shown}[/bold cyan]", highlight=False, soft_wrap=True)
        args = dict(word.partition("=")[::2] for word in words)
        run = self.server.run("responder", name, args, follow=True, interval=0.2)
        self.console.print(render(without_secrets(run.text or run.error)), crop=False)
        if run.error or run.stray:
            raise Failed(f"{name}: {run.error or run.stray}")
        return run

    def say(self, text: str) -> None:
        self.console.print(f"  the person in the browser {text}", style="dim", highlight=False, soft_wrap=True)

    def sign_in(self) -> None:
        """With an authorization code, as the responder does it."""
        params = self.azure.instance("Authorization Code", own_ip_addresses=scenario.RESPONDER_IP)
        self.server.instances.save("responder", {**params, "subscription_id": "", "resource_group_name": ""})
        run = self.command("azure-storage-generate-login-url")
        end = self.azure.person(on_step=self.say).sign_in_code(run.entries[0]["Contents"]["login_url"])
        self.command(f"azure-storage-auth-complete code={end}")

    def run(self) -> None:
        world = scenario.make(self.azure)
        self.console.print(render(scenario.briefing(world)), crop=False)
        self.console.rule("Signing in")
        self.sign_in()
        self.console.rule("The first minutes")
        for line in COMMANDS:
            self.command(line.format(url=world.invoice_url))
        for drill in DRILLS:
            if drill.playbook in PLAYED:
                play(drill, world, self.server, "responder", self.console)
        self.console.rule("Signing out")
        self.command("azure-storage-auth-reset")


def stop(*_: Any) -> None:
    raise KeyboardInterrupt


def main() -> None:
    signal.signal(signal.SIGTERM, stop)
    find_local_names()
    console = Console(width=None if sys.stdout.isatty() else 120)
    started = time.monotonic()
    try:
        with tempfile.TemporaryDirectory() as folder, LocalAzure(Path(folder) / "azure") as azure:
            server = Server(Path(folder) / "server")
            server.environment = azure.environment()
            Demo(azure, server, console).run()
    except KeyboardInterrupt:
        sys.exit("\nStopped; nothing is left running.")
    except Failed as failure:
        sys.exit(f"\nThe demonstration failed: {failure}")
    console.print(
        f"\nDone in {time.monotonic() - started:.0f} s. `make warroom` gives you a prompt in the same incident."
    )


if __name__ == "__main__":
    main()
