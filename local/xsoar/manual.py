"""Help from the manifest: all commands by noun, and one with its arguments and an example."""

from collections.abc import Iterator
from posixpath import commonpath
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from .completion import quoted
from .names import SeenNames
from .render import whole

Json = dict[str, Any]
# Which heading a command stands under, by the longest beginning of its name that is here; others by their first word.
HEADINGS = {
    "auth": "Sign-in",
    "generate": "Sign-in",
    "subscriptions": "Subscriptions and resource groups",
    "resource-group": "Subscriptions and resource groups",
    "account": "Storage accounts",
    "account-network": "Network rules and locks",
    "account-lock": "Network rules and locks",
    "account-isolate": "Containment",
    "account-restore": "Containment",
    "account-posture": "Posture",
    "posture": "Posture",
    "triage": "Triage and access",
    "exposure": "Triage and access",
    "access": "Triage and access",
    "account-lifecycle": "Lifecycle",
    "account-activity": "Logs",
    "account-logging": "Logs",
    "log": "Logs",
    "account-key": "Keys, SAS and delegation keys",
    "account-delegation": "Keys, SAS and delegation keys",
    "sas": "Keys, SAS and delegation keys",
    "blob-service": "Blob service",
    "blob-ranges": "Restore",
    "blob-versions": "Restore",
    "blob-containers": "Containers",
    "blob-container": "Containers",
    "container": "Containers",
    "blob": "Blobs",
    "blob-quarantine": "Containment",
}
SAMPLES = {
    "account_name": "contosobackups",
    "container_name": "invoices",
    "blob_name": "2026/november.html",
    "evidence_container_name": "evidence",
    "blob_url": "https://contosobackups.blob.core.windows.net/invoices/2026/november.html",
    "own_ip": "203.0.113.7",
    "limit": "10",
}


def all_commands(commands: dict[str, Json]) -> RenderableType:
    """Every command in one line, under the heading of its noun."""
    groups: dict[str, list[str]] = {}
    same = commonpath([name.replace("-", "/") for name in commands]) if len(commands) > 1 else ""
    for name in commands:
        groups.setdefault(heading(name[len(same) :].lstrip("-")), []).append(name)
    width = max(map(len, commands), default=0) + len("! (!)")
    found: list[RenderableType] = []
    for title, names in groups.items():
        found += [Text(title, "bold"), *(one_line(name, commands[name], width) for name in names), Text("")]
    return Group(*found, Text("(!) asks before it runs. `help COMMAND` shows arguments and an example."))


def one_line(name: str, command: Json, width: int) -> Text:
    """A command and the beginning of what it does, cut where the line ends."""
    mark = " (!)" if command.get("execution") else ""
    line = Text(no_wrap=True, overflow="ellipsis")
    line.append(f"!{name}{mark}".ljust(width), "cyan")
    return line.append(f" {first_sentence(command['description'])}")


def heading(name: str) -> str:
    parts = name.split("-")
    beginnings = ("-".join(parts[:count]) for count in range(len(parts), 0, -1))
    return next((HEADINGS[start] for start in beginnings if start in HEADINGS), parts[0].capitalize())


def first_sentence(text: str) -> str:
    sentence, end, _ = " ".join(text.split()).partition(". ")
    return sentence + end.strip()


def one_command(name: str, command: Json, names: SeenNames) -> RenderableType:
    """A command, what it takes, and a line to begin with."""
    asks = [Text("Asks before it runs.", "bold")] if command.get("execution") else []
    line = whole(Text(example(name, command, names), "cyan"))
    about = [Text(name, "bold"), Text(" ".join(command["description"].split())), *asks, Text("\nExample:"), line]
    arguments = [part for argument in shown(command) for part in one_argument(argument)]
    return Group(*about, *([Text("\nArguments:"), *arguments] if arguments else []))


def one_argument(argument: Json) -> Iterator[RenderableType]:
    """An argument's name with what it takes, and below what it is."""
    choices = ", ".join(map(str, argument.get("predefined") or []))
    facts = [
        "required" if argument.get("required") else "",
        f"default {argument['defaultValue']}" if argument.get("defaultValue") is not None else "",
        f"one of {choices}" if choices else "",
        "a list" if argument.get("isArray") else "",
    ]
    told = "; ".join(filter(None, facts))
    yield Text.assemble("  ", (argument["name"], "cyan"), (f"  ({told})" if told else "", "dim"))
    yield Padding(Text(" ".join(argument["description"].split())), (0, 0, 0, 6))


def shown(command: Json) -> Iterator[Json]:
    """The arguments that a person gives."""
    return (argument for argument in command.get("arguments") or [] if not argument.get("hidden"))


def example(name: str, command: Json, names: SeenNames) -> str:
    """A line with what the command needs, and what most people give."""
    arguments = {argument["name"]: argument for argument in shown(command)}
    needed = [n for n, argument in arguments.items() if argument.get("required")]
    usual = [n for n in ("account_name", "container_name", "blob_name", "own_ip") if n in arguments]
    words = [f"{n}={quoted(sample(arguments[n], names))}" for n in dict.fromkeys([*needed, *usual])]
    dry = ["dry_run=true"] if "dry_run" in arguments and command.get("execution") else []
    return " ".join([f"!{name}", *words, *dry])


def sample(argument: Json, names: SeenNames) -> str:
    """A value for an example: one that was seen, one of the choices, or one that looks right."""
    name = argument["name"]
    choices = [str(choice) for choice in argument.get("predefined") or []]
    return next(iter([*names.of(name), *choices]), "") or SAMPLES.get(name, "...")
