"""A war room in the terminal: `python -m local.warroom '!azure-storage-account-list limit=5'`, or a prompt without words.

Commands run as on a server (see loop.py), against the local Azure with --local, or against any cloud that an instance
names. It is what a developer, or an analyst without a server, uses.
"""

import contextlib
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.history import FileHistory
from rich.console import Console
from rich.markup import escape

from .render import render
from .server import Refused, Run, Server, close

LOCAL_INSTANCES = {
    "local": "Device Code",
    "local-code": "Authorization Code",
    "local-app": "Client Credentials",
    "local-identity": "Azure Managed Identities",
}
WORD = re.compile(r"""\s*(?P<name>[\w-]+)=(?:`(?P<tick>[^`]*)`|"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<bare>\S*))""")


def parse_line(line: str) -> tuple[str, dict[str, str]]:
    """A line as the server's own prompt takes it: !command arg=value arg="two words" arg=`{"any": "thing"}`.

    ValueError for anything else.
    """
    command, _, rest = line.strip().lstrip("!").partition(" ")
    args: dict[str, str] = {}
    while rest.strip():
        found = WORD.match(rest)
        if not found:
            raise ValueError(f"expected argument=value, found: {rest.strip()[:40]}")
        value = next((part for part in (found["tick"], found["bare"]) if part is not None), None)
        quoted = found["quoted"]
        args[found["name"]] = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else value or ""
        rest = rest[found.end() :]
    return command, args


class ManifestCompleter(Completer):
    """Completes commands, then their arguments, then the choices of an argument."""

    def __init__(self, server: Server) -> None:
        self.server = server

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterator[Completion]:
        text = document.text_before_cursor
        command, space, rest = text.lstrip("!").partition(" ")
        if not space:
            words = {name: entry["description"] for name, entry in self.server.commands.items()} | {
                "help": "what commands and arguments there are",
                "instance": "use another instance",
                "exit": "leave",
            }
            start = command
        else:
            start = rest.rsplit(" ", 1)[-1]
            words = self._argument_words(command, start)
            start = start.partition("=")[2] if "=" in start else start
        for word, meaning in words.items():
            if word.lower().startswith(start.lower()):
                yield Completion(word, -len(start), display_meta=meaning)

    def _argument_words(self, command: str, start: str) -> dict[str, str]:
        if command == "help":
            return dict.fromkeys(self.server.commands, "")
        arguments = {
            a["name"]: a for a in self.server.commands.get(command, {}).get("arguments") or [] if not a.get("hidden")
        }
        name, sign, _ = start.partition("=")
        if sign:
            return {str(choice): "" for choice in arguments.get(name, {}).get("predefined") or []}
        return {f"{name}=": argument["description"] for name, argument in arguments.items()}


class WarRoom:
    """Shows what commands return, to a terminal."""

    def __init__(
        self, server: Server, console: Console, *, as_json: bool = False, interval: float | None = None
    ) -> None:
        self.server, self.console, self.as_json, self.interval = server, console, as_json, interval

    def run(self, instance: str, line: str) -> bool:
        """Run one line and show its outcome. Whether it succeeded."""
        try:
            command, args = parse_line(line)
            with self._status(command) as follow:
                run = self.server.run(instance, command, args, follow=True, interval=self.interval, on_round=follow)
        except (Refused, ValueError) as error:
            self.console.print(f"[red]{escape(str(error))}[/red]")
            return False
        except KeyError:
            self.console.print(f"[red]There is no instance {escape(instance)}: run `warroom configure` first.[/red]")
            return False
        self.show(run)
        return not run.error

    @contextlib.contextmanager
    def _status(self, command: str) -> Iterator[Any]:
        """A spinner while a command runs; what its first round says is shown at once."""
        with self.console.status(f"{command} ...") as status:
            told: list[str] = []

            def follow(run: Run) -> None:
                if run.text and not told:
                    told.append(run.text)
                    self.console.print(render(run.text))
                status.update(f"{command}: waiting for the next round ...")

            yield follow

    def show(self, run: Run) -> None:
        if self.as_json:
            self.console.print_json(json.dumps(run.context))
        elif run.error:
            self.console.print(f"[bold red]Error[/bold red] {escape(run.error)}")
        else:
            self.console.print(render(run.text))
        for path in run.files:
            self.console.print(f"File saved: {escape(str(path))}")
        if run.stray:
            self.console.print("[red]The script wrote to standard output, which breaks a server's protocol.[/red]")

    def help(self, name: str = "") -> None:
        """All commands, or one with its arguments, from the manifest."""
        name = name.lstrip("!")
        if not name:
            lines = [f"| `!{c}` | {entry['description']} |" for c, entry in self.server.commands.items()]
            self.console.print(render("\n".join(["| Command | What it does |", "|---|---|", *lines])))
            return
        found = self.server.commands.get(name)
        if not found:
            self.console.print(
                f"[red]There is no command {escape(name)}.{escape(close(name, self.server.commands))}[/red]"
            )
            return
        rows = ["| Argument | Description | Required | Default | Choices |", "|---|---|---|---|---|"]
        for argument in found.get("arguments") or []:
            if not argument.get("hidden"):
                choices = ", ".join(map(str, argument.get("predefined") or []))
                need = "yes" if argument.get("required") else ""
                rows.append(
                    f"| {argument['name']} | {argument['description']} | {need} | {argument.get('defaultValue', '')} | {choices} |"
                )
        self.console.print(render("\n".join([f"### {name}", found["description"], "", *rows])))


def prompt(room: WarRoom, instance: str, session: "PromptSession[str]") -> None:
    """Lines from a person until `exit` or the end of input."""
    room.console.print("Commands begin with !, `help` lists them, `exit` leaves.")
    while True:
        try:
            line = session.prompt(f"{instance} > ").strip()
        except KeyboardInterrupt:
            continue
        except EOFError:
            return
        word, _, rest = line.partition(" ")
        if word in ("exit", "quit"):
            return
        if word == "help":
            room.help(rest.strip())
        elif word == "instance":
            instance = rest.strip() or instance
            room.console.print(f"Instances: {', '.join(room.server.instances.names())}; in use: {instance}")
        elif line:
            room.run(instance, line)


def ask(display: str, default: str, hidden: bool, choices: list[str]) -> str:
    kind = click.Choice(choices) if choices else None
    shown = not hidden
    return str(click.prompt(display, default=default, hide_input=hidden, show_default=shown, type=kind)).strip()


@contextlib.contextmanager
def local_azure(server: Server) -> Iterator[None]:
    """An Azure on this machine, with an instance for each way to sign in."""
    from .cloud import LocalAzure

    with tempfile.TemporaryDirectory() as folder, LocalAzure(Path(folder)) as azure:
        server.environment = azure.environment()
        for name, auth_type in LOCAL_INSTANCES.items():
            server.instances.save(name, azure.instance(auth_type))
        yield


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("words", nargs=-1)
@click.option("--instance", default="", help="The instance to use; the first one if not given.")
@click.option("--json", "as_json", is_flag=True, help="Print the context instead of the war room's text.")
@click.option("--local", "on_this_machine", is_flag=True, help="Start an Azure on this machine and use that.")
@click.option("--home", type=click.Path(path_type=Path), default=None, help="Where instances and files are kept.")
def main(words: tuple[str, ...], instance: str, as_json: bool, on_this_machine: bool, home: Path | None) -> None:
    """Run '!command arg=value ...', or one of: configure, instances, test, help [command]. Without words: a prompt."""
    console = Console(stderr=False)
    with contextlib.ExitStack() as stack:
        if on_this_machine and home is None:
            home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        place = home or Path(os.environ.get("WARROOM_HOME") or click.get_app_dir("azure-storage-warroom"))
        server = Server(place)
        if on_this_machine:
            with console.status("Starting an Azure on this machine ..."):
                stack.enter_context(local_azure(server))
        names = server.instances.names()
        chosen = instance or ("local" if on_this_machine else next(iter(names), "main"))
        room = WarRoom(server, console, as_json=as_json, interval=2 if on_this_machine else None)
        sys.exit(0 if dispatch(room, chosen, words) else 1)


def dispatch(room: WarRoom, instance: str, words: tuple[str, ...]) -> bool:
    """What the words on the command line ask for. Whether it succeeded."""
    server = room.server
    match words:
        case ():
            history = FileHistory(str(server.home / "history"))
            prompt(room, instance, PromptSession(completer=ManifestCompleter(server), history=history))
        case ("configure",):
            server.instances.fill_in(instance, ask, server.manifest.get("triggers") or [])
            room.console.print(f"Instance {instance} saved.")
        case ("instances",):
            room.console.print("\n".join(server.instances.names()) or "none yet: run `warroom configure`")
        case ("test",):
            return room.run(instance, "test-module")
        case ("help", *rest):
            room.help(" ".join(rest))
        case _:
            return room.run(instance, " ".join(words))
    return True


if __name__ == "__main__":
    main()
