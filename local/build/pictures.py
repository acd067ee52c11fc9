"""The picture of the README, from a real run against the local Azure: `python -m local.build.pictures`."""

import io
import re
import tempfile
from pathlib import Path

import click
from rich.console import Console

from ..azure import LocalAzure
from ..xsoar.render import render
from ..xsoar.server import Run
from ..xsoar.walkthroughs import WALKTHROUGHS, Player, Walkthrough, server_without_defaults
from .examples import Normalizer
from .registry import ROOT

PICTURE = ROOT / "docs" / "pictures" / "warroom.svg"
WIDTH = 118
SHOWN = ("account-isolate", "account-lock-set")  # the commands of the first walkthrough that the picture shows
# Rich names fonts on a public server and its home page; a picture needs neither.
OUTSIDE = re.compile(r"@font-face \{.*?\}\s*|<!--.*?-->\s*", re.DOTALL)


def picture(walkthrough: Walkthrough) -> str:
    """The SVG of a terminal in which a walkthrough was typed."""
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    with tempfile.TemporaryDirectory() as folder, LocalAzure(Path(folder) / "azure") as azure:
        normalize = Normalizer(azure)

        def show(line: str, found: Run) -> None:
            if line.startswith(SHOWN) and "dry_run" not in line:
                console.print(f"[bold cyan]> !azure-storage-{line}[/bold cyan]", highlight=False, soft_wrap=True)
                console.print(render(normalize(found.text)))
                console.print()

        Player(azure, server_without_defaults(Path(folder) / "server", azure), "app").play(walkthrough, show)
    return OUTSIDE.sub("", console.export_svg(title="War Room", unique_id="warroom"))


@click.command()
def main() -> None:
    """Write docs/pictures/warroom.svg."""
    text = picture(WALKTHROUGHS[0])
    PICTURE.parent.mkdir(parents=True, exist_ok=True)
    PICTURE.write_text(text)
    click.echo(f"{PICTURE.relative_to(ROOT)}: {len(text) // 1024} KB")


if __name__ == "__main__":
    main()
