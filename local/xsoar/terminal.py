"""What the war room shows in a terminal, and what it asks: entries as they come, errors, files, names, approval."""

import contextlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.status import Status
from rich.text import Text

from . import manual
from .context import UnknownPath, lookup
from .lines import parse_words
from .names import SeenNames
from .render import COPIED, Line, addresses, harmless, linked, render, whole
from .server import Refused, Run, Server, Stopped, close, entry_text

Json = dict[str, Any]
COUNT = re.compile(r"(?P<done>\d[\d,]*) of (?P<total>\d[\d,]*)(?P<what>(?: [a-z]+){0,2})")
SIGN_IN = ("auth-start", "generate-login-url")
CHECKED_NAMES = ("account_name", "container_name")


class WarRoom:
    """Runs lines and shows what they return.

    With as_json the console takes JSON and nothing else, and what is for people goes to `errors`. approve: asked before
    a command that the server would ask about, and about names that look like slips; without it nothing is asked.
    launch: opens an address in a browser; open_sign_in: at once when a command starts a sign-in.
    """

    def __init__(
        self,
        server: Server,
        console: Console,
        *,
        errors: Console | None = None,
        as_json: bool = False,
        interval: float | None = None,
        approve: Callable[[str], bool] | None = None,
        launch: Callable[[str], Any] | None = None,
        open_sign_in: bool = False,
    ) -> None:
        self.server, self.console, self.as_json, self.interval = server, console, as_json, interval
        self.talk = errors or Console(stderr=True) if as_json else console
        self.approve, self.launch, self.open_sign_in = approve, launch, open_sign_in
        self.at_prompt = False
        self.names = SeenNames(server.home / "names.json")
        self.last_run: Run | None = None

    # Commands

    def run(self, instance: str, *words: str) -> bool:
        """Run one line, or the words of a command line, and show the outcome. Whether it succeeded."""
        command = ""
        try:
            command, args = parse_words(words)
            args = self._meant(command, args)
            if not self._approved(command, args):
                self.talk.print("Not run.")
                return False
            with self._live(command) as live:
                found = self.server.run(
                    *(instance, command, args),
                    follow=True,
                    interval=self.interval,
                    on_round=live.round,
                    on_entry=live.entry,
                    on_log=live.log,
                )
        except (Refused, ValueError) as error:
            self._refuse(command, str(error))
            return False
        except KeyboardInterrupt as stop:
            self._stopped(command, stop.run if isinstance(stop, Stopped) else Run(command))
            return False
        if not found.error:
            self.names.remember(args)
        if args.get("debug-mode", "").lower() == "true":
            found.files.append(self._write(f"{command}-debug.log", "\n".join(found.log)))
        self._finish(found)
        return not found.error

    def _approved(self, command: str, args: dict[str, str]) -> bool:
        """Whether the person agrees, who is asked where the server would ask; a dry run changes nothing."""
        asks = self.server.commands.get(command, {}).get("execution") and args.get("dry_run", "").lower() != "true"
        if not asks or not self.approve:
            return True
        return self.approve(f"{command} changes or deletes something that may be hard to get back. Run it?")

    def _meant(self, command: str, args: dict[str, str]) -> dict[str, str]:
        """The arguments, with names that were probably mistyped put right if the person says so."""
        found = dict(args)
        for argument in CHECKED_NAMES if "create" not in command else ():
            slip = self.names.slip(argument, args.get(argument, ""))
            if not slip:
                continue
            hint = f"{argument}={args[argument]} was not seen before. Did you mean {slip}?"
            if not self.approve:
                self.talk.print(Text(harmless(hint), "yellow"))
            elif self.approve(f"{hint} Use it?"):
                found[argument] = slip
        return found

    @contextlib.contextmanager
    def _live(self, command: str) -> Iterator["Live"]:
        with self.talk.status(f"{command} ...") as status:
            yield Live(self, command, status)

    # What is shown

    def say(self, shown: RenderableType) -> None:
        """Print for people; what is to be copied stays in one piece."""
        # A console joins texts that it is given, and forgets which of them must not be wrapped; not those of a group.
        self.talk.print(Group(shown), crop=False)

    def say_entry(self, entry: Json) -> None:
        text = entry_text(entry)
        if text:
            self.say(render(text))

    def _finish(self, run: Run) -> None:
        """What is left to show when the entries were shown as they came."""
        self._keep(run)
        if self.as_json:
            self._print_json(run, run.error)
        if run.error:
            self._error(run.error)
        for path in run.files:
            self.say(whole(Text(f"File saved: {path}")))
        if run.stray:
            self.say(Text("The script wrote to standard output, which breaks a server's protocol.", "red"))

    def _error(self, message: str) -> None:
        self.say(Text("Error", "bold red"))
        for line in harmless(message).splitlines():
            self.say(Line(line) if COPIED.search(line) else Text(line))

    def _refuse(self, command: str, message: str) -> None:
        if self.as_json:
            self._print_json(Run(command), message)
        self.say(Text(harmless(message), "red"))

    def _stopped(self, command: str, run: Run) -> None:
        if self.as_json:
            self._print_json(run, "Stopped.")
        done = [entry for entry in run.entries if entry.get("Type") != 4]
        before = f" It had returned {len(done)} entries by then." if done else ""
        self.say(Text(f"Stopped {command}.{before} A change that was under way may have taken effect."))
        for path in run.files:
            self.say(whole(Text(f"File saved: {path}")))
        self._keep(run)

    def _keep(self, run: Run) -> None:
        """Remember a run for the words of the prompt, and the names in it."""
        self.last_run = run
        self.names.learn(run.merged)
        self.names.keep()

    def _print_json(self, run: Run, error: str) -> None:
        """The context of a run, and under `error` what went wrong."""
        failure = {"error": {"command": run.command, "message": error}} if error else {}
        self.console.print_json(json.dumps(run.merged | failure), ensure_ascii=True)

    def offer_sign_in(self, command: str, text: str) -> bool:
        """Open the address of a sign-in, or say how to. Whether there was one."""
        found = addresses(text)
        if not found or not self.launch or not command.endswith(SIGN_IN):
            return False
        if self.open_sign_in:
            self.launch(found[0])
        elif self.at_prompt:
            self.say("`open` opens the address in your browser.")
        return True

    # Words of the prompt

    def upload(self, name: str) -> None:
        """Make a file of this machine an entry, whose id is what a command's entry_id takes."""
        path = Path(name.strip("\"'")).expanduser()
        if path.is_file():
            self.say(whole(Text(f"{path.name} is the entry {self.server.add_file(path)}")))
        else:
            self.say(whole(Text(f"There is no file {path}", "red")))

    def help(self, name: str = "") -> None:
        """All commands, or one with its arguments and an example."""
        name, commands = name.lstrip("!"), self.server.commands
        if not name:
            self.say(manual.all_commands(commands))
        elif name in commands:
            self.say(manual.one_command(name, commands[name], self.names))
        else:
            self.say(Text(f"There is no command {harmless(name)}.{close(name, commands)}", "red"))

    def open(self, number: str = "") -> None:
        """Open an address of the last result: the only one, or the one with a number of the list that is shown."""
        found = addresses(self._last_text())
        if number.isdigit() and 0 < int(number) <= len(found):
            found = [found[int(number) - 1]]
        if len(found) == 1 and self.launch:
            self.launch(found[0])
        elif found:
            self.say("The last result has these addresses; `open NUMBER` opens one.")
            for position, address in enumerate(found, 1):
                self.say(whole(Text(f"{position}  ").append_text(linked(address))))
        else:
            self.say("The last result has no address.")

    def save(self, name: str = "") -> None:
        """Keep the last result as Markdown, or with a name that ends in .json its context."""
        if not self.last_run:
            self.say("There is no result yet.")
            return
        context = json.dumps(self.last_run.merged, indent=2, ensure_ascii=False)
        text = context if name.endswith(".json") else self._last_text()
        path = self._write(name or f"{self.last_run.command}.md", text)
        self.say(whole(Text(f"File saved: {path}")))

    def _write(self, name: str, text: str) -> Path:
        """A file of the person's, which nobody else reads."""
        path = self.server.file_path(name)
        path.touch(mode=0o600)
        path.write_text(text)
        return path

    def context(self, path: str = "") -> None:
        """What is in the context, or at a path of it."""
        try:
            found = lookup(self.server.context, path) if path else self.server.context
        except UnknownPath as error:
            self.say(Text(str(error), "red"))
            return
        self.console.print_json(json.dumps(found), ensure_ascii=True)

    def last(self) -> None:
        """The last result once more."""
        self.say(render(self._last_text()) if self.last_run else "There is no result yet.")

    def _last_text(self) -> str:
        run = self.last_run
        return "\n".join(filter(None, (entry_text(entry) for entry in run.entries))) if run else ""


class Live:
    """A command that runs: its entries are shown as they come, and what it counts stands beside the spinner."""

    def __init__(self, room: WarRoom, command: str, status: Status) -> None:
        self.room, self.command, self.status = room, command, status
        self._told: set[str] = set()
        self._offered = False

    def entry(self, entry: Json) -> None:
        """Show an entry. Rounds of polling that say the same are shown once, errors at the end."""
        text, waits = entry_text(entry), bool(entry.get("PollingCommand"))
        self._count(text)
        if entry.get("Type") == 4 or entry.get("File") or (self.room.as_json and not waits):
            return
        if waits and text in self._told:
            return
        self._told.add(text)
        self.room.say_entry(entry)
        self._offered = self._offered or self.room.offer_sign_in(self.command, text)

    def round(self, run: Run) -> None:
        self.status.update(f"{self.command}: waiting for the next round ...")

    def log(self, line: str) -> None:
        self._count(line)

    def _count(self, text: str) -> None:
        """Show `12 of 40 accounts` with its percentage."""
        found = COUNT.search(text)
        if not found:
            return
        done, total = (int(found[name].replace(",", "")) for name in ("done", "total"))
        if done <= total and total:
            self.status.update(f"{self.command}: {found[0]} ({100 * done // total} %)")
