"""The war room's Markdown in a terminal. Tables are rendered here, since rich's own cut long cells instead of wrapping."""

import re
from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.markdown import Markdown
from rich.table import Table
from rich.text import Text

CELL = re.compile(r"(?<!\\)\|")
# Names in Azure are chosen by strangers: what moves a cursor, sets a title or turns text around stays out of the terminal.
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def harmless(text: str) -> str:
    """Text without characters that a terminal obeys."""
    return CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def render(text: str) -> RenderableType:
    """What a console prints for an entry's text."""
    return Group(*parts(harmless(text.replace("\r\n", "\n"))))


def parts(text: str) -> Iterator[RenderableType]:
    lines, plain = text.splitlines(), list[str]()
    while lines:
        line = lines.pop(0)
        if line.startswith("|") and lines and re.fullmatch(r"[|\s:-]+", lines[0]):
            if plain:
                yield Markdown("\n".join(plain), hyperlinks=False)
                plain = []
            lines.pop(0)
            rows = []
            while lines and lines[0].startswith("|"):
                rows.append(cells(lines.pop(0)))
            yield table(cells(line), rows)
        else:
            plain.append(line)
    if plain:
        yield Markdown("\n".join(plain), hyperlinks=False)


def cells(line: str) -> list[str]:
    """The cells of a table's line, with the escapes of the platform's tables undone."""
    inner = CELL.split(line.strip())[1:-1]
    return [cell.strip().replace("<br>", "\n").replace("\\|", "|").replace("\\`", "`") for cell in inner]


def table(headers: list[str], rows: list[list[str]]) -> Table:
    found = Table(header_style="bold")
    for header in headers:
        found.add_column(Text(header), overflow="fold")
    for row in rows:
        found.add_row(*map(Text, row))
    return found
