"""`python -m local.azure`: an Azure in the foreground, until Ctrl-C."""

import contextlib
import json
import signal
import tempfile
import threading
from pathlib import Path

import click

from . import LocalAzure, Modes

SERVICES = ("entra", "arm", "blob", "imds")


@click.command()
@click.option("--home", type=click.Path(path_type=Path), help="Folder for its files; a temporary one by default.")
@click.option("--region", "regions", multiple=True, help="A region that it has; the first one is the usual one.")
@click.option("--newest-api", default="", help="The newest api-version of Resource Manager, such as 2019-06-01.")
@click.option("--no-role", is_flag=True, help="Nobody has a role in Resource Manager.")
@click.option("--throttle-after", type=int, help="Answer so many requests of Resource Manager, then 429.")
@click.option("--proxy", multiple=True, type=click.Choice(SERVICES), help="A proxy's page in place of this service.")
def main(
    home: Path | None,
    regions: tuple[str, ...],
    newest_api: str,
    no_role: bool,
    throttle_after: int | None,
    proxy: tuple[str, ...],
) -> None:
    """An Azure on this machine, with the parameters of an instance that uses it."""
    for number in (signal.SIGINT, signal.SIGTERM):  # also where it was started in the background, which ignores SIGINT
        signal.signal(number, signal.default_int_handler)
    modes = Modes(newest_api=newest_api, no_role=no_role, throttle_after=throttle_after)
    modes.regions = regions or modes.regions
    with contextlib.ExitStack() as stack:
        folder = home or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        azure = stack.enter_context(LocalAzure(folder, modes=modes))
        for service in proxy:
            azure.faults.proxy(service)
        click.echo(json.dumps({"params": azure.instance(), "environment": azure.environment()}, indent=2))
        with contextlib.suppress(KeyboardInterrupt):
            threading.Event().wait()
    click.echo("stopped")


if __name__ == "__main__":
    main()
