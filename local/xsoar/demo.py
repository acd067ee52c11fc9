"""`make demo`: the integration from sign-in to the last command, against an Azure on this machine.

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

from ..azure import LocalAzure, address_and_code
from .drills import DRILLS, Failed, Player, showing
from .render import render
from .server import Run, Server

ACCOUNT, NEW_ACCOUNT, CONTAINER = "contosobackups", "contosoevidence", "case-1234"
COMMANDS = (
    "azure-storage-auth-test",
    "azure-storage-subscriptions-list",
    "azure-storage-resource-group-list tag=Owner=finance",
    "azure-storage-account-list",
    f"azure-storage-account-create-update account_name={NEW_ACCOUNT} sku=Standard_LRS kind=StorageV2 location=westeurope tags=case=1234",
    f"azure-storage-account-create-update account_name={NEW_ACCOUNT} allow_shared_key_access=false network_ruleset_default_action=Deny dry_run=true",
    f"azure-storage-account-create-update account_name={NEW_ACCOUNT} allow_shared_key_access=false network_ruleset_default_action=Deny",
    f"azure-storage-blob-service-properties-get account_name={ACCOUNT}",
    f"azure-storage-blob-service-properties-set account_name={ACCOUNT} delete_retention_policy_enabled=true delete_retention_policy_days=14 "
    "container_delete_retention_policy_enabled=true container_delete_retention_policy_days=14 versioning=true",
    f"azure-storage-blob-containers-create account_name={ACCOUNT} container_name={CONTAINER}",
    f"azure-storage-blob-containers-update account_name={ACCOUNT} container_name={CONTAINER} public_access=None",
    f"azure-storage-blob-containers-list account_name={ACCOUNT}",
    f"azure-storage-blob-container-delete account_name={ACCOUNT} container_name={CONTAINER}",
    f"azure-storage-blob-containers-list account_name={ACCOUNT} include_deleted=true",
)


class Demo:
    """Prints what a person would type and what the war room would answer."""

    def __init__(self, azure: LocalAzure, server: Server, console: Console) -> None:
        self.azure, self.server, self.console = azure, server, console

    def command(self, instance: str, line: str, *, fails: bool = False) -> Run:
        name, *words = line.split(" ")
        shown = re.sub(r"code=\S{40,}", "code=<the address the browser ended at>", line)
        self.console.print(f"\n[bold cyan]{instance}> !{shown}[/bold cyan]", highlight=False, soft_wrap=True)
        args = dict(word.partition("=")[::2] for word in words)
        run = self.server.run(instance, name, args, follow=True, interval=0.2)
        self.console.print(render(run.text or run.error), crop=False)
        if bool(run.error) is not fails or run.stray:
            raise Failed(f"{name}: {run.error or run.stray or 'it should have failed'}")
        return run

    def say(self, text: str) -> None:
        self.console.print(f"  the person in the browser {text}", style="dim", highlight=False, soft_wrap=True)

    def device_code(self) -> None:
        self.server.instances.save("device", self.azure.instance("Device Code"))
        started = self.command("device", "azure-storage-auth-start").text
        self.command("device", "azure-storage-auth-complete", fails=True)
        self.azure.person(on_step=self.say).sign_in_device(*address_and_code(started))
        self.command("device", "azure-storage-auth-complete")

    def authorization_code(self) -> None:
        self.server.instances.save("browser", self.azure.instance("Authorization Code"))
        run = self.command("browser", "azure-storage-generate-login-url")
        end = self.azure.person(on_step=self.say).sign_in_code(run.entries[0]["Contents"]["login_url"])
        self.command("browser", f"azure-storage-auth-complete code={end}")

    def run(self) -> None:
        self.console.rule("Signing in with a device code")
        self.device_code()
        self.console.rule("Signing in with an authorization code")
        self.authorization_code()
        self.console.rule("The commands")
        for line in COMMANDS:
            self.command("browser", line)
        drill = DRILLS[0]
        self.console.rule(drill.title)
        Player(self.azure, self.server, "browser").play(drill, showing(self.console))
        self.console.rule("Signing out")
        self.command("browser", "azure-storage-auth-reset")


def stop(*_: Any) -> None:
    raise KeyboardInterrupt


def main() -> None:
    signal.signal(signal.SIGTERM, stop)
    console = Console(width=None if sys.stdout.isatty() else 120)
    started = time.monotonic()
    try:
        with tempfile.TemporaryDirectory() as folder, LocalAzure(Path(folder) / "azure") as azure:
            console.print(
                f"An Azure on this machine: sign-in {azure.authority_url}, Resource Manager {azure.arm_url}",
                soft_wrap=True,
            )
            server = Server(Path(folder) / "server")
            server.environment = azure.environment()
            Demo(azure, server, console).run()
    except KeyboardInterrupt:
        sys.exit("\nStopped; nothing is left running.")
    except Failed as failure:
        sys.exit(f"\nThe demonstration failed: {failure}")
    console.print(f"\nDone in {time.monotonic() - started:.0f} s. `make warroom` gives you a prompt on the same Azure.")


if __name__ == "__main__":
    main()
