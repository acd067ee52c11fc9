"""A server for one person: instances, war-room context, files, and commands run as a server runs them."""

import difflib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from .context import UnknownPath, as_text, merge_context, resolve, side_by_side
from .instances import Instances

ROOT = Path(__file__).resolve().parent.parent.parent
MODULE = ROOT / "AzureStorage.py"
MANIFEST = ROOT / "AzureStorage.yml"
LOOP = ROOT / "local" / "xsoar" / "loop.py"
Json = dict[str, Any]
LOOK_EVERY = 0.1  # seconds, for entries of a command that still runs
COMMAND_TIMEOUT = 300.0  # seconds; a server stops a command after five minutes, too


OnEntry = Callable[[Json], None]
OnLog = Callable[[str], None]


class Refused(Exception):
    """The server does not start a command: its name or arguments are wrong."""


class Stopped(KeyboardInterrupt):
    """Ctrl-C while a command ran; `run` is what it had done by then."""

    def __init__(self, run: "Run") -> None:
        super().__init__()
        self.run = run


@dataclass
class Run:
    """What a command left behind: its entries, files saved, log, and what it asked to be run next."""

    command: str
    entries: list[Json] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    stray: str = ""
    seconds: float = 0.0

    @property
    def error(self) -> str:
        return next((str(entry["Contents"]) for entry in self.entries if entry.get("Type") == 4), "")

    @property
    def text(self) -> str:
        """What the war room shows."""
        return "\n".join(filter(None, map(entry_text, self.entries)))

    @property
    def context(self) -> Json:
        """The outputs under the keys that the script gave them."""
        return {key: value for entry in self.entries for key, value in (entry.get("EntryContext") or {}).items()}

    @property
    def merged(self) -> Json:
        """The context as an empty incident has it after this command."""
        found: Json = {}
        for entry in self.entries:
            merge_context(found, entry.get("EntryContext") or {})
        return found

    @property
    def scheduled(self) -> Json | None:
        return next((entry for entry in self.entries if entry.get("PollingCommand")), None)

    def add(self, other: "Run") -> None:
        """What another run left behind, after what this one did."""
        self.entries += other.entries
        self.files += other.files
        self.log += other.log
        self.stray += other.stray
        self.seconds += other.seconds

    def fail(self, message: str) -> None:
        self.entries.append({"Type": 4, "ContentsFormat": "text", "Contents": message})


def entry_text(entry: Json) -> str:
    """What the war room shows of an entry."""
    if entry.get("File"):
        return ""
    if entry.get("HumanReadable"):
        return as_text(entry["HumanReadable"])
    contents = entry.get("Contents")
    if entry.get("PollingCommand") or contents is None:
        return ""
    return contents if isinstance(contents, str) else json.dumps(contents, indent=2)


@dataclass(frozen=True)
class Call:
    """How a command is run: with which instance, how long at most, with a debug log or not, and who hears its entries."""

    instance: str
    timeout: float = COMMAND_TIMEOUT
    debug: bool = False
    on_entry: OnEntry | None = None
    on_log: OnLog | None = None


class Results:
    """The lines that the loop writes, read while it writes them."""

    def __init__(self, path: Path, run: Run, call: Call) -> None:
        self.path, self.run, self.call, self._read = path, run, call, 0

    def wait_for(self, process: "subprocess.Popen[str]", timeout: float) -> tuple[str, str]:
        """Output and errors of the process at its end. TimeoutExpired if it takes too long."""
        deadline = time.monotonic() + timeout
        while True:
            left = deadline - time.monotonic()
            try:
                return process.communicate(timeout=min(left, LOOK_EVERY) if self.call.on_entry else left)
            except subprocess.TimeoutExpired:
                if time.monotonic() >= deadline:
                    raise
                self.read()

    def read(self) -> None:
        """Take in the lines that are complete."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self._read)
            lines = file.read().splitlines(keepends=True)
        for line in lines:
            if line.endswith(b"\n"):
                self._read += len(line)
                self._take(json.loads(line))

    def _take(self, line: Json) -> None:
        if "entry" not in line:
            self.run.log.append(f"{line['log']}: {line['text']}")
            if self.call.on_log:
                self.call.on_log(line["text"])
            return
        self.run.entries.append(line["entry"])
        if self.call.on_entry:
            self.call.on_entry(line["entry"])


class Server:
    """Runs the commands of one integration. `home` holds instances, integration contexts and files of one user."""

    def __init__(self, home: Path, module: Path = MODULE, manifest: Path = MANIFEST) -> None:
        self.home, self.module = home, module
        # The C loader, which PyYAML's wheels have, reads a manifest of this length seven times as fast.
        self.manifest: Json = yaml.load(manifest.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506
        self.instances = Instances(home / "instances.json", self.manifest["configuration"])
        self.files = home / "files"
        self.kept: list[Path] = []
        self.uploads: dict[str, Json] = {}
        self.context: Json = {}
        self.environment: dict[str, str] = {}
        self.debug = False  # debug mode for every command, as an instance's log level sets it
        home.mkdir(parents=True, exist_ok=True, mode=0o700)

    @property
    def commands(self) -> dict[str, Json]:
        return {command["name"]: command for command in self.manifest["script"]["commands"]}

    def add_file(self, path: Path) -> str:
        """The entry id under which a script finds a file that was dropped into the war room."""
        entry_id = f"{len(self.uploads) + 1}@1"
        self.uploads[entry_id] = {"path": str(path.resolve()), "name": path.name}
        return entry_id

    def check(self, command: str, args: Mapping[str, Any]) -> Json:
        """The arguments with the manifest's defaults. Refused for what a server refuses, in words that help."""
        if command == "test-module":
            return {}
        known = self.arguments(command)
        for name in args:
            if name not in known:
                raise Refused(f"{command} has no argument {name}.{close(name, known)}")
        missing = [name for name, argument in known.items() if argument.get("required") and not args.get(name)]
        if missing:
            raise Refused(f"{command} needs {', '.join(missing)}.")
        for name, value in args.items():
            for item in value if isinstance(value, list) else [value]:
                self._check_choice(known[name], as_text(item))
        defaults = {name: str(a["defaultValue"]) for name, a in known.items() if a.get("defaultValue") is not None}
        return {**defaults, **args}

    def arguments(self, command: str) -> dict[str, Json]:
        """What the manifest says of a command's arguments. Refused for a command that it does not have."""
        if command not in self.commands:
            raise Refused(f"There is no command {command}.{close(command, self.commands)}")
        return {argument["name"]: argument for argument in self.commands[command].get("arguments") or []}

    @staticmethod
    def _check_choice(argument: Json, value: str) -> None:
        choices = [str(choice) for choice in argument.get("predefined") or []]
        if not choices or argument.get("auto") != "PREDEFINED" or not value:
            return
        values = [part.strip() for part in value.split(",")] if argument.get("isArray") else [value]
        wrong = [part for part in values if part not in choices and part.lower() not in map(str.lower, choices)]
        if wrong:
            raise Refused(f"{argument['name']}={wrong[0]!r} is not one of: {', '.join(choices)}.")

    def run(
        self,
        instance: str,
        command: str,
        args: Mapping[str, Any] | None = None,
        *,
        follow: bool = False,
        interval: float | None = None,
        on_round: Callable[[Run], None] | None = None,
        on_entry: OnEntry | None = None,
        on_log: OnLog | None = None,
        timeout: float = COMMAND_TIMEOUT,
        literal: bool = False,
    ) -> Run:
        """Run a command in a fresh process. `follow`: run what it schedules until it ends, every `interval` seconds.

        As on a server, `${Path}` in an argument is read from the context (not if `literal`), debug-mode=true turns the
        debug log on, and a list for an argument that is not isArray runs the command once for each item.

        Refused before anything is started when the instance, the command or its arguments are wrong. A process that
        takes longer than `timeout` seconds is stopped, and the run ends in an error. Ctrl-C raises Stopped.
        """
        names = self.instances.names()
        if instance not in names:
            raise Refused(f"There is no instance {instance}.{close(instance, dict.fromkeys(names))}")
        given = dict(args or {})
        debug = str(given.pop("debug-mode", "")).lower() == "true" or self.debug
        call = Call(instance, timeout, debug, on_entry, on_log)
        try:
            read = given if literal else {name: resolve(value, self.context) for name, value in given.items()}
            checked = self.check(command, read)
        except UnknownPath as error:
            raise Refused(str(error)) from None
        whole = Run(command)
        for one in self._each(command, checked):
            whole.add(
                self._run_rounds(call, command, one, interval, on_round) if follow else self._once(call, command, one)
            )
        return whole

    def _each(self, command: str, args: Json) -> list[dict[str, Any]]:
        """The arguments of every run: lists of arguments that are not isArray are gone through side by side."""
        arrays = (
            set() if command == "test-module" else {n for n, a in self.arguments(command).items() if a.get("isArray")}
        )
        loops = {n: value for n, value in args.items() if isinstance(value, list) and value and n not in arrays}
        fixed = {
            name: value if isinstance(value, list) else as_text(value)
            for name, value in args.items()
            if name not in loops and value not in (None, [])
        }
        return [fixed | {name: as_text(item) for name, item in one.items()} for one in side_by_side(loops)]

    def _run_rounds(
        self, call: "Call", command: str, args: Json, interval: float | None, on_round: Callable[[Run], None] | None
    ) -> Run:
        run = self._once(call, command, args)
        deadline = None
        while run.scheduled and not run.error:
            if on_round:
                on_round(run)
            entry = run.scheduled
            deadline = deadline or time.monotonic() + float(entry.get("Timeout") or 600)
            if time.monotonic() > deadline:
                run.fail("The command took longer than its timeout.")
                return run
            try:
                threading.Event().wait(float(entry["NextRun"]) if interval is None else interval)
            except KeyboardInterrupt:
                raise Stopped(run) from None
            run = self._next_round(call, run)
        return run

    def _next_round(self, call: "Call", run: Run) -> Run:
        """What a run scheduled: a command like any other, with strings for arguments and the manifest's defaults.

        An argument that the manifest does not declare would be dropped by a server; here it ends the run.
        """
        entry = run.scheduled or {}
        args = {name: as_text(value) for name, value in (entry.get("PollingArgs") or {}).items()}
        try:
            return self._once(call, entry["PollingCommand"], self.check(entry["PollingCommand"], args))
        except Refused as error:
            run.fail(f"The next round cannot be run: {error}")
            return run

    def _once(self, call: "Call", command: str, args: Json) -> Run:
        run = Run(command)
        started = time.monotonic()
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            job = {
                "command": command,
                "params": self.instances.params(call.instance),
                "args": args,
                "script": str(self.module.resolve()),
                "context": str((self.home / f"context-{call.instance}.json").resolve()),
                "folder": str(folder),
                "instance": call.instance,
                "entries": self.uploads,
                "debug": call.debug,
            }
            results = Results(folder / "results.jsonl", run, call)
            try:
                self._start(folder, job, results, call.timeout)
            except KeyboardInterrupt:
                raise Stopped(run) from None
            finally:
                results.read()
                for entry in run.entries:
                    self._keep_file(folder, entry, run)
                    merge_context(self.context, entry.get("EntryContext") or {})
        run.seconds = time.monotonic() - started
        return run

    def _start(self, folder: Path, job: Json, results: "Results", timeout: float) -> None:
        """Run the loop on a job. It gets no PYTHONPATH and not our folder, since a server has installed packages only."""
        path, run = folder / "job.json", results.run
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
            json.dump(job, file)
        environment = {**os.environ, **self.environment}
        environment.pop("PYTHONPATH", None)
        process = subprocess.Popen(  # noqa: S603 - our own loop
            (sys.executable, str(LOOP), str(path)),
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,  # Ctrl-C is for us, who then stop it
        )
        try:
            run.stray, errors = results.wait_for(process, timeout)
        except subprocess.TimeoutExpired:
            run.fail(f"The command took longer than {timeout:g} seconds and was stopped.")
            return
        finally:
            process.kill()
            process.communicate()
        if process.returncode:
            run.fail(f"The process failed: {errors[-2000:]}")

    def _keep_file(self, folder: Path, entry: Json, run: Run) -> None:
        """A file that a command returned, saved under a name that leads nowhere else."""
        if not entry.get("File") or not entry.get("FileID"):
            return
        target = self.file_path(Path(entry["File"]).name)
        shutil.move(next(folder.glob(f"*_{entry['FileID']}")), target)
        run.files.append(target)

    def file_path(self, name: str) -> Path:
        """A path for a new file of the user's, whose name leads nowhere else and replaces nothing."""
        self.files.mkdir(parents=True, exist_ok=True, mode=0o700)
        safe = re.sub(r"[^\w.() -]", "_", name).lstrip(".") or "file"
        target = self.files / safe
        while target.exists():
            target = self.files / f"{uuid.uuid4().hex[:6]}-{safe}"
        self.kept.append(target)
        return target


def close(word: str, known: Mapping[str, Any]) -> str:
    """A hint at what was probably meant."""
    found = difflib.get_close_matches(word, known, n=3, cutoff=0.5)
    return f" Did you mean {' or '.join(found)}?" if found else f" It has: {', '.join(sorted(known)) or 'none'}."
