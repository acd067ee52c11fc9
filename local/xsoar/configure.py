"""The form of an instance in a terminal: its groups, its help texts, and a question for every field."""

from typing import Any

import click
from rich.console import Console
from rich.text import Text

from .server import Server

Json = dict[str, Any]


def ask(display: str, default: str, hidden: bool, choices: list[str]) -> str:
    kind = click.Choice(choices) if choices else None
    shown = not hidden
    return str(click.prompt(display, default=default, hide_input=hidden, show_default=shown, type=kind)).strip()


class Form:
    """What is printed above the question for a field."""

    def __init__(self, console: Console) -> None:
        self.console, self._group = console, ""

    def describe(self, field: Json) -> None:
        group = f"{field.get('section') or 'General'}{', advanced' if field.get('advanced') else ''}"
        if group != self._group:
            self._group = group
            self.console.rule(Text(group, "bold"), align="left")
        if text := " ".join(str(field.get("additionalinfo") or "").split()):
            self.console.print(Text(text, "dim"))


def configure(server: Server, console: Console, instance: str) -> None:
    """Ask for every field of an instance and save it."""
    triggers = server.manifest.get("triggers") or []
    server.instances.fill_in(instance, ask, triggers, Form(console).describe)
    console.print(f"Instance {instance} saved. Run `test` to check it.", markup=False)
