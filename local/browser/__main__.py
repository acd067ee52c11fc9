"""`make browser`: every report and both sign-ins in a real browser, with screenshots in dist/screenshots."""

import contextlib
import sys
import tempfile
import time
from pathlib import Path

import click

from ..azure import LocalAzure
from ..xsoar.loop import find_local_names
from ..xsoar.walkthroughs import Failed, server_without_defaults
from . import chromium, pages, reports, sign_in

ROOT = Path(__file__).resolve().parent.parent.parent
FOLDER = ROOT / "dist" / "screenshots"


def say(name: str, problems: list[str]) -> int:
    """How many problems there are, after they were told."""
    click.echo("\n  ".join([f"{name}: {'failed' if problems else 'passed'}", *problems]))
    return len(problems)


def check_all(folder: Path) -> int:
    with contextlib.ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        azure = stack.enter_context(LocalAzure(home / "azure"))
        server = server_without_defaults(home / "server", azure)
        browser = stack.enter_context(chromium.browser())
        count = 0
        for kind, path in reports.make(azure, server):
            count += say(f"report {kind.name}", pages.check(browser, kind, path, folder))
        count += say("sign-in with a device code", sign_in.device_code(browser, azure, server, folder))
        return count + say(
            "sign-in with an authorization code", sign_in.authorization_code(browser, azure, server, folder)
        )


@click.command()
def main() -> None:
    """Check every report and both sign-ins in a browser."""
    if not chromium.find():
        raise click.ClickException(chromium.MISSING)
    find_local_names()
    started = time.monotonic()
    FOLDER.mkdir(parents=True, exist_ok=True)
    try:
        count = check_all(FOLDER)
    except Failed as failure:
        raise click.ClickException(str(failure)) from None
    click.echo(f"Screenshots: {FOLDER.relative_to(ROOT)} ({time.monotonic() - started:.0f} s)")
    sys.exit(bool(count))


if __name__ == "__main__":
    main()
