"""A war room in the terminal: `python -m local.xsoar.warroom '!azure-storage-account-list limit=5'`, or a prompt without words.

Commands run as on a server (see loop.py), against the local Azure with --local, or against any cloud that an instance
names. It is what a developer, or an analyst without a server, uses.
"""

import contextlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click
from prompt_toolkit import PromptSession
from rich.console import Console
from rich.text import Text

from .completion import ManifestCompleter, fuzzy
from .configure import configure
from .lines import SafeHistory
from .loop import find_local_names
from .render import render, whole
from .server import Server
from .terminal import WarRoom

if TYPE_CHECKING:
    from ..azure import LocalAzure

LOCAL_INSTANCES = {
    "local": "Device Code",
    "local-code": "Authorization Code",
    "local-app": "Client Credentials",
    "local-identity": "Azure Managed Identities",
}
PROMPT_WORDS = {
    "help": "all commands, or one with its arguments and an example",
    "instance": "use another instance",
    "upload": "make a file of this machine an entry of the war room",
    "open": "open an address of the last result in the browser",
    "save": "keep the last result as a file",
    "context": "what the commands have found, or a path of it",
    "last": "the last result once more",
    "exit": "leave",
}


def prompt(room: WarRoom, instance: str, session: "PromptSession[str]") -> None:
    """Lines from a person until `exit` or the end of input."""
    room.at_prompt = True
    room.say("Commands begin with !, `help` lists them, Tab completes them, `exit` leaves.")
    words: dict[str, Callable[[str], None]] = {
        "help": room.help,
        "upload": room.upload,
        "open": room.open,
        "save": room.save,
        "context": room.context,
        "last": lambda rest: room.last(),
    }
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
        if word == "instance":
            instance = rest.strip() or instance
            room.say(f"Instances: {', '.join(room.server.instances.names())}; in use: {instance}")
        elif word in words:
            words[word](rest.strip())
        elif line:
            room.run(instance, line)


@contextlib.contextmanager
def local_azure(server: Server) -> "Iterator[LocalAzure]":
    """An Azure on this machine, with an instance for each way to sign in."""
    from ..azure import LocalAzure

    with tempfile.TemporaryDirectory() as folder, LocalAzure(Path(folder)) as azure:
        server.environment = azure.environment()
        for name, auth_type in LOCAL_INSTANCES.items():
            server.instances.save(name, azure.instance(auth_type, own_ip_addresses=azure.client_address))
        yield azure


def alert(server: Server, azure: "LocalAzure", instance: str) -> str:
    """Makes the incident, signs a person in to the instance, and returns what the person is told, in Markdown."""
    from ..azure import scenario
    from .sign_in import sign_in_device

    find_local_names()
    world = scenario.make(azure)
    if server.instances.params(instance)["auth_type"] == "Device Code":
        sign_in_device(azure, server, instance)
    return scenario.briefing(world)


def approval(choice: bool | None) -> Callable[[str], bool] | None:
    """How a person is asked before a command that may do harm: --ask always, --yes never, else only at a terminal."""
    ask = sys.stdin.isatty() and sys.stdout.isatty() if choice is None else choice
    return (lambda question: click.confirm(question, err=True)) if ask else None


@click.command(context_settings={"ignore_unknown_options": True})
@click.option("--instance", default="", help="The instance to use; the first one by default.")
@click.option("--local", "on_this_machine", is_flag=True, help="With an Azure on this machine.")
@click.option("--json", "as_json", is_flag=True, help="Print the context, or the error, as JSON instead of tables.")
@click.option(
    *("--ask/--yes", "ask"),
    default=None,
    help="Whether to ask before commands that may do harm; by default only at a terminal.",
)
@click.option("--open", "open_sign_in", is_flag=True, help="Open the address of a sign-in in the browser.")
@click.option("--home", type=click.Path(path_type=Path), help="Where instances and their contexts are kept.")
@click.option("--files", type=click.Path(path_type=Path), help="Where files of commands are kept. Env: WARROOM_FILES.")
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
def main(
    instance: str,
    on_this_machine: bool,
    as_json: bool,
    ask: bool | None,
    open_sign_in: bool,
    home: Path | None,
    files: Path | None,
    words: tuple[str, ...],
) -> None:
    """WORDS: a command of the integration, configure, instances, test, help [command]. Without words: a prompt."""
    console = Console(stderr=False)
    own = Path(click.get_app_dir("azure-storage-warroom"))
    with contextlib.ExitStack() as stack:
        if on_this_machine and home is None:
            home = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        server = Server(home or Path(os.environ.get("WARROOM_HOME") or own))
        server.files = files or Path(os.environ.get("WARROOM_FILES") or own / "files")
        begin = ""
        if on_this_machine:
            with Console(stderr=True).status("Starting an Azure on this machine ..."):
                azure = stack.enter_context(local_azure(server))
                begin = "" if words else alert(server, azure, instance or "local")
        names = server.instances.names()
        chosen = instance or ("local" if on_this_machine else next(iter(names), "main"))
        room = WarRoom(
            *(server, console),
            as_json=as_json,
            interval=2 if on_this_machine else None,
            approve=approval(ask),
            launch=click.launch,
            open_sign_in=open_sign_in,
        )
        if begin:
            room.say(render(begin))
        sys.exit(0 if dispatch(room, chosen, words) else 1)


def dispatch(room: WarRoom, instance: str, words: tuple[str, ...]) -> bool:
    """What the words on the command line ask for. Whether it succeeded."""
    server = room.server
    match words:
        case ():
            completer = fuzzy(ManifestCompleter(server, room.names, PROMPT_WORDS))
            prompt(room, instance, PromptSession(completer=completer, history=SafeHistory(server)))
            if server.kept:
                room.say(whole(Text(f"{len(server.kept)} files are kept in {server.files}")))
        case ("configure",):
            configure(server, room.console, instance)
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
