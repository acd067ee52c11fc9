"""A war room in the terminal: `python -m local.xsoar.warroom '!azure-storage-account-list limit=5'`, or a prompt without words.

Commands run as on a server (see loop.py), against the local Azure with --local, or against any cloud that an instance
names. It is what a developer, or an analyst without a server, uses.
"""

import contextlib
import json
import os
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import click
from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.history import FileHistory
from rich.console import Console
from rich.markup import escape

from .render import harmless, render
from .server import Refused, Run, Server, close

LOCAL_INSTANCES = {
    "local": "Device Code",
    "local-code": "Authorization Code",
    "local-app": "Client Credentials",
    "local-identity": "Azure Managed Identities",
}
WORD = re.compile(
    r"""\s*(?P<name>[\w-]+)=(?:`(?P<tick>[^`]*)`|"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<bare>[^\s`"]\S*|))(?=\s|$)""", re.S
)
PROMPT_WORDS = {
    "help": "what commands and arguments there are",
    "instance": "use another instance",
    "upload": "make a file of this machine an entry of the war room",
    "exit": "leave",
}


def parse_line(line: str) -> tuple[str, dict[str, str]]:
    """A line as the server's own prompt takes it: !command arg=value arg="two words" arg=`{"any": "thing"}`.

    ValueError for anything else, which names an argument but never repeats a value: that may be a secret.
    """
    command, *more = line.strip().lstrip("!").split(maxsplit=1)
    args, rest = split_arguments(more[0] if more else "")
    if rest:
        name, sign, value = rest.partition("=")
        if sign and value[:1] in ('"', "`") and re.fullmatch(r"[\w-]+", name):
            raise ValueError(f"{name}: the closing quote is missing, or something stands right behind it.")
        after = f" after {list(args)[-1]}" if args else ""
        raise ValueError(f"expected argument=value{after}; a value with blanks stands between quotes.")
    return command, args


def split_arguments(text: str) -> tuple[dict[str, str], str]:
    """The arguments at the beginning of a text, and what follows them. ValueError for one that is given twice."""
    args: dict[str, str] = {}
    while found := WORD.match(text):
        name = found["name"]
        if name in args:
            raise ValueError(f"{name} is given twice.")
        args[name] = value_of(found)
        text = text[found.end() :]
    return args, text.lstrip()


def value_of(found: "re.Match[str]") -> str:
    if found["quoted"] is not None:
        return re.sub(r"\\(.)", r"\1", found["quoted"], flags=re.DOTALL)
    return str(found["bare"] if found["tick"] is None else found["tick"])


def parse_words(words: tuple[str, ...]) -> tuple[str, dict[str, str]]:
    """A command line's words: one whole line, or a command and arguments whose quotes the shell took off already."""
    command, args = parse_line(words[0])
    for word in words[1:]:
        found = WORD.fullmatch(word)
        name, sign, value = word.partition("=")
        if not sign:
            raise ValueError(f"expected argument=value after {list(args)[-1] if args else command}.")
        if name in args:
            raise ValueError(f"{name} is given twice.")
        args[name] = value_of(found) if found else value
    return command, args


class SafeHistory(FileHistory):
    """Lines of earlier prompts, in a file of its owner, without the values of secret arguments."""

    def __init__(self, server: Server) -> None:
        path = server.home / "history"
        path.touch(mode=0o600)
        path.chmod(0o600)
        names = {
            argument["name"]
            for command in server.commands.values()
            for argument in command.get("arguments") or []
            if argument.get("secret")
        }
        self._secret = re.compile(
            r"(?<![\w-])(%s)=(?:`[^`]*`?|\"(?:[^\"\\]|\\.)*\"?|\S*)" % ("|".join(map(re.escape, names)) or "(?!)"), re.S
        )
        super().__init__(str(path))

    def store_string(self, string: str) -> None:
        super().store_string(self._secret.sub(r"\1=", string))


class ManifestCompleter(Completer):
    """Completes commands, then their arguments, then the choices of an argument."""

    def __init__(self, server: Server) -> None:
        self.server = server

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        text = document.text_before_cursor
        command, space, rest = text.lstrip("!").partition(" ")
        if not space:
            words = {name: entry["description"] for name, entry in self.server.commands.items()} | PROMPT_WORDS
            start = command
        elif command in ("help", "instance"):
            words = dict.fromkeys(self.server.commands if command == "help" else self.server.instances.names(), "")
            start = rest
        else:
            words, start = self._argument_words(command, rest)
        for word, meaning in words.items():
            if word.lower().startswith(start.lower()):
                yield Completion(word, -len(start), display_meta=meaning)

    def _argument_words(self, command: str, rest: str) -> tuple[dict[str, str], str]:
        """What can stand at the end of the arguments, and how much of it is there."""
        done, _, last = rest.rpartition(" ")
        try:
            given, open_quote = split_arguments(done)
        except ValueError:
            return {}, ""
        entries = self.server.commands.get(command, {}).get("arguments") or []
        known = {entry["name"]: entry for entry in entries if not entry.get("hidden")}
        name, sign, value = last.partition("=")
        if open_quote:
            return {}, ""
        if not sign:
            return {f"{n}=": entry["description"] for n, entry in known.items() if n not in given}, last
        entry = known.get(name, {})
        *before, start = value.split(",") if entry.get("isArray") else [value]
        return {str(choice): "" for choice in entry.get("predefined") or [] if str(choice) not in before}, start


class WarRoom:
    """Shows what commands return, to a terminal."""

    def __init__(
        self,
        server: Server,
        console: Console,
        *,
        errors: Console | None = None,
        as_json: bool = False,
        interval: float | None = None,
    ) -> None:
        self.server, self.console, self.as_json, self.interval = server, console, as_json, interval
        # With as_json, the console takes JSON and nothing else.
        self.talk = errors or Console(stderr=True) if as_json else console

    def run(self, instance: str, *words: str) -> bool:
        """Run one line, or the words of a command line, and show the outcome. Whether it succeeded."""
        try:
            command, args = parse_words(words)
            with self._status(command) as follow:
                run = self.server.run(instance, command, args, follow=True, interval=self.interval, on_round=follow)
        except (Refused, ValueError) as error:
            self.talk.print(f"[red]{escape(harmless(str(error)))}[/red]")
            return False
        except KeyboardInterrupt:
            self.talk.print("Stopped.")
            return False
        self.show(run)
        return not run.error

    @contextlib.contextmanager
    def _status(self, command: str) -> Iterator[Any]:
        """A spinner while a command runs; what its first round says is shown at once."""
        with self.talk.status(f"{command} ...") as status:
            told: list[str] = []

            def follow(run: Run) -> None:
                if run.text and not told:
                    told.append(run.text)
                    self.talk.print(render(run.text))
                status.update(f"{command}: waiting for the next round ...")

            yield follow

    def show(self, run: Run) -> None:
        if self.as_json:
            self.console.print_json(json.dumps(run.merged), ensure_ascii=True)
        else:
            notes = Run(run.command, [entry for entry in run.entries if entry.get("Type") != 4])
            self.console.print(render(notes.text))
        if run.error:
            self.talk.print(f"[bold red]Error[/bold red] {escape(harmless(run.error))}")
        for path in run.files:
            self.talk.print(f"File saved: {escape(str(path))}", soft_wrap=True)
        if run.stray:
            self.talk.print("[red]The script wrote to standard output, which breaks a server's protocol.[/red]")

    def upload(self, name: str) -> None:
        """Make a file of this machine an entry, whose id is what a command's entry_id takes."""
        path = Path(name.strip("\"'")).expanduser()
        if path.is_file():
            self.console.print(f"{escape(path.name)} is the entry {self.server.add_file(path)}", soft_wrap=True)
        else:
            self.console.print(f"[red]There is no file {escape(str(path))}[/red]", soft_wrap=True)

    def help(self, name: str = "") -> None:
        """All commands, or one with its arguments, from the manifest."""
        name = name.lstrip("!")
        if not name:
            lines = [
                f"| !{name}{' (!)' if entry.get('execution') else ''} | {entry['description']} |"
                for name, entry in self.server.commands.items()
            ]
            self.console.print(render("\n".join(["| Command | What it does |", "|---|---|", *lines])))
            self.console.print("(!) changes something that may be hard to undo.")
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
        elif word == "upload":
            room.upload(rest.strip())
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
    from ..azure import LocalAzure

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
            prompt(room, instance, PromptSession(completer=ManifestCompleter(server), history=SafeHistory(server)))
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
            return room.run(instance, *words)
    return True


if __name__ == "__main__":
    main()
