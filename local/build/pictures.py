"""The pictures of README.md, from real runs against the local Azure: `python -m local.build.pictures`.

The reports are photographed in a browser that has to be installed; see local/browser.
"""

import io
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click
from playwright.sync_api import Browser
from rich.console import Console

from ..azure import LocalAzure
from ..browser import chromium, reports
from ..xsoar.loop import find_local_names
from ..xsoar.render import render
from ..xsoar.server import Run
from ..xsoar.walkthroughs import WALKTHROUGHS, Player, Walkthrough, server_without_defaults
from .examples import Normalizer
from .registry import ROOT

FOLDER = ROOT / "docs" / "pictures"
WIDTH = 118
SHOWN = ("account-isolate", "account-lock-set")  # the commands of the first walkthrough that the picture shows
# Rich names fonts on a public server and its home page; a picture needs neither.
OUTSIDE = re.compile(r"@font-face \{.*?\}\s*|<!--.*?-->\s*", re.DOTALL)


class Photo(NamedTuple):
    """The top of a report: its name, the file of the picture, and how high the window is."""

    report: str
    file: str
    height: int


PHOTOS = (Photo("posture", "posture.png", 760), Photo("log-search", "timeline.png", 700))


def war_room(walkthrough: Walkthrough, azure: LocalAzure, home: Path) -> str:
    """The SVG of a terminal in which a walkthrough was typed."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    normalize = Normalizer(azure)

    def show(line: str, found: Run) -> None:
        if line.startswith(SHOWN) and "dry_run" not in line:
            console.print(f"[bold cyan]> !azure-storage-{line}[/bold cyan]", highlight=False, soft_wrap=True)
            console.print(render(normalize(found.text)))
            console.print()

    Player(azure, server_without_defaults(home, azure), "app").play(walkthrough, show)
    return OUTSIDE.sub("", console.export_svg(title="War Room", unique_id="warroom"))


def photograph(browser: Browser, pages: dict[str, Path]) -> Iterator[tuple[str, bytes]]:
    """The file names of the photos, and what is in them."""
    for photo in PHOTOS:
        page = browser.new_page(viewport={"width": 1280, "height": photo.height})
        page.goto(pages[photo.report].as_uri())
        yield photo.file, page.screenshot()
        page.close()


def pictures() -> Iterator[tuple[str, bytes]]:
    """File names and contents. The reports show accounts as they are before the walkthrough."""
    with tempfile.TemporaryDirectory() as folder, LocalAzure(Path(folder) / "azure") as azure:
        server = server_without_defaults(Path(folder) / "reports", azure)
        pages = {kind.name: path for kind, path in reports.make(azure, server)}
        with chromium.browser() as browser:
            yield from photograph(browser, pages)
    with tempfile.TemporaryDirectory() as folder, LocalAzure(Path(folder) / "azure") as azure:
        yield "warroom.svg", war_room(WALKTHROUGHS[0], azure, Path(folder) / "server").encode()


@click.command()
def main() -> None:
    """Write docs/pictures."""
    if not chromium.find():
        raise click.ClickException(chromium.MISSING)
    find_local_names()
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, content in pictures():
        path = FOLDER / name
        path.write_bytes(content)
        click.echo(f"{path.relative_to(ROOT)}: {len(content) // 1024} KB")


if __name__ == "__main__":
    main()
