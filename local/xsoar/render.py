"""The war room's Markdown in a terminal.

What a person copies, which is addresses, code and commands, is never wrapped; print with `crop=False`. Tables are
rendered here, since rich's own cut long cells: one that does not fit becomes a list of fields, row by row.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.markdown import Markdown
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

NARROW = 100  # columns; below, a table that does not fit becomes fields
LONG_ADDRESS = 60  # characters; a table that has to fold one becomes fields, too
CELL = re.compile(r"(?<!\\)\|")
# Names in Azure are chosen by strangers: what moves a cursor, sets a title or turns text around stays out of the terminal.
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")
ADDRESS = re.compile(r"https?://[^\s<>\"'`|\\\])]+")
COMMAND_LINE = re.compile(r"(?<!\w)![a-z][\w-]+ +[\w-]+=")
COPIED = re.compile(r"https?://|(?<!\w)![a-z][\w-]+")
ITEM = re.compile(r"\s*(\d+[.)]|[-*+]) ")
FENCE = re.compile(r"\s*(```|~~~)")
INLINE = re.compile(
    r"\\(?P<escaped>[\\`*_{}\[\]()#+\-.!|<>~])|`(?P<code>[^`]+)`|\*\*(?P<bold>[^*]+)\*\*"
    r"|\[(?P<label>[^\]]*)\]\((?P<target>https?://[^)\s]+)\)|(?P<address>https?://[^\s<>\"'`|\\\])]+)"
)


def harmless(text: str) -> str:
    """Text without characters that a terminal obeys."""
    return CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def without_secrets(text: str) -> str:
    """A SAS has a signature, which neither a page nor a terminal that is shown around needs."""
    return re.sub(r"sig=[^&\s|]+", "sig=...", text)


def addresses(text: str) -> list[str]:
    """The addresses in a text, each once."""
    return list(dict.fromkeys(ADDRESS.findall(harmless(text))))


def render(text: str) -> RenderableType:
    """What a console prints for an entry's text."""
    return Group(*parts(harmless(text.replace("\r\n", "\n"))))


def parts(text: str) -> Iterator[RenderableType]:
    lines, plain = text.splitlines(), list[str]()
    while lines:
        line = lines.pop(0)
        special = list(block(line, lines))
        if special and plain:
            yield Markdown("\n".join(plain), hyperlinks=False)
            plain = []
        yield from special
        if not special:
            plain.append(line)
    if plain:
        yield Markdown("\n".join(plain), hyperlinks=False)


def block(line: str, following: list[str]) -> Iterator[RenderableType]:
    """What is not left to Markdown: a table, a block of code, a line to be copied, an item of a list. Takes its lines off `following`."""
    if line.startswith("|") and following and re.fullmatch(r"[|\s:-]+", following[0]):
        following.pop(0)
        rows = []
        while following and following[0].startswith("|"):
            rows.append(cells(following.pop(0)))
        yield Rows(cells(line), rows)
    elif FENCE.match(line):
        while following and not FENCE.match(following[0]):
            yield whole(Text(following.pop(0), "cyan"))
        del following[:1]
    elif COPIED.search(line) or ITEM.match(line):
        yield Line(line)


@dataclass
class Line:
    """A line of Markdown, wrapped between words only if that breaks nothing that is copied."""

    source: str

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        text = inline(self.source)
        too_long = any(len(address) > options.max_width for address in ADDRESS.findall(self.source))
        yield whole(text) if too_long or COMMAND_LINE.search(self.source) else text


def whole(text: Text) -> Text:
    """A text that is printed in one line, however long."""
    text.no_wrap, text.overflow = True, "ignore"
    return text


def linked(address: str) -> Text:
    return Text(address, f"underline link {address}")


def inline(line: str) -> Text:
    """A line of Markdown. A link shows its address, and only an address is a link of the terminal's."""
    found, at = Text(), 0
    for match in INLINE.finditer(line):
        found.append(line[at : match.start()])
        at = match.end()
        if match["label"] is not None and match["label"] not in ("", match["target"]):
            found.append(f"{match['label']}: ")
        if address := match["target"] or match["address"]:
            found.append_text(linked(address))
        found.append(match["code"] or "", "cyan")
        found.append(match["bold"] or "", "bold")
        found.append(match["escaped"] or "")
    found.append(line[at:])
    return found


def cells(line: str) -> list[str]:
    """The cells of a table's line, with the escapes of the platform's tables undone."""
    inner = CELL.split(line.strip())[1:-1]
    return [cell.strip().replace("<br>", "\n").replace("\\|", "|").replace("\\`", "`") for cell in inner]


def cell_text(cell: str) -> Text:
    """A cell as it is, but for a link, which shows its address."""
    alone = INLINE.fullmatch(cell)
    if alone and alone["target"]:
        return linked(alone["target"])
    text = Text(cell)
    for match in ADDRESS.finditer(cell):
        text.stylize(f"link {match[0]}", match.start(), match.end())
    return text


@dataclass
class Rows:
    """A table if it fits, else a list of fields for each row, whose addresses are in one piece."""

    headers: list[str]
    rows: list[list[str]] = field(default_factory=list)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        table = self.table()
        fits = Measurement.get(console, options.update(max_width=10_000), table).maximum <= options.max_width
        narrow = options.max_width < NARROW or any(len(found) > LONG_ADDRESS for found in self._addresses())
        if fits or not narrow or not self.rows:
            yield table
        else:
            yield from self.fields()

    def _addresses(self) -> Iterator[str]:
        return (address for row in self.rows for cell in row for address in ADDRESS.findall(cell))

    def table(self) -> Table:
        found = Table(header_style="bold")
        for header in self.headers:
            found.add_column(Text(header), overflow="fold")
        for row in self.rows:
            found.add_row(*map(cell_text, row))
        return found

    def fields(self) -> Iterator[RenderableType]:
        """Name and value of what is not empty; a value that is to be copied stands on a line of its own."""
        width = max(map(len, self.headers), default=0)
        for number, row in enumerate(self.rows):
            if number:
                yield Text("-" * 20, "dim")
            for header, cell in zip(self.headers, row, strict=False):
                if COPIED.search(cell):
                    yield Text(header, "bold")
                    yield from (whole(cell_text(line)) for line in cell.splitlines())
                elif cell:
                    grid = Table.grid(padding=(0, 2))
                    grid.add_column(width=width)
                    grid.add_column(overflow="fold")
                    grid.add_row(Text(header, "bold"), cell_text(cell))
                    yield Padding(grid, 0)
