"""A server for one person: instances, war-room context, files, and commands run as a server runs them."""

import copy
import difflib
import json
import os
import re
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

from .instances import Instances

ROOT = Path(__file__).resolve().parent.parent.parent
MODULE = ROOT / "AzureStorage.py"
MANIFEST = ROOT / "AzureStorage.yml"
LOOP = ROOT / "local" / "xsoar" / "loop.py"
Json = dict[str, Any]
COMMAND_TIMEOUT = 300.0  # seconds; a server stops a command after five minutes, too


class Refused(Exception):
    """The server does not start a command: its name or arguments are wrong."""


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
        shown = (entry.get("HumanReadable") or self._contents(entry) for entry in self.entries if not entry.get("File"))
        return "\n".join(text for text in shown if text)

    @staticmethod
    def _contents(entry: Json) -> str:
        if entry.get("PollingCommand") or entry.get("Contents") is None:
            return ""
        contents = entry["Contents"]
        return contents if isinstance(contents, str) else json.dumps(contents, indent=2)

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

    def fail(self, message: str) -> None:
        self.entries.append({"Type": 4, "ContentsFormat": "text", "Contents": message})


class Server:
    """Runs the commands of one integration. `home` holds instances, integration contexts and files of one user."""

    def __init__(self, home: Path, module: Path = MODULE, manifest: Path = MANIFEST) -> None:
        self.home, self.module = home, module
        # The C loader, which PyYAML's wheels have, reads a manifest of this length seven times as fast.
        self.manifest: Json = yaml.load(manifest.read_text(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # noqa: S506
        self.instances = Instances(home / "instances.json", self.manifest["configuration"])
        self.files = home / "files"
        self.uploads: dict[str, Json] = {}
        self.context: Json = {}
        self.environment: dict[str, str] = {}
        home.mkdir(parents=True, exist_ok=True, mode=0o700)

    @property
    def commands(self) -> dict[str, Json]:
        return {command["name"]: command for command in self.manifest["script"]["commands"]}

    def add_file(self, path: Path) -> str:
        """The entry id under which a script finds a file that was dropped into the war room."""
        entry_id = f"{len(self.uploads) + 1}@1"
        self.uploads[entry_id] = {"path": str(path.resolve()), "name": path.name}
        return entry_id

    def check(self, command: str, args: Mapping[str, str]) -> dict[str, str]:
        """The arguments with the manifest's defaults. Refused for what a server refuses, in words that help."""
        if command == "test-module":
            return {}
        if command not in self.commands:
            raise Refused(f"There is no command {command}.{close(command, self.commands)}")
        known = {argument["name"]: argument for argument in self.commands[command].get("arguments") or []}
        for name in args:
            if name not in known:
                raise Refused(f"{command} has no argument {name}.{close(name, known)}")
        missing = [name for name, argument in known.items() if argument.get("required") and not args.get(name)]
        if missing:
            raise Refused(f"{command} needs {', '.join(missing)}.")
        for name, value in args.items():
            self._check_choice(known[name], value)
        defaults = {name: str(a["defaultValue"]) for name, a in known.items() if a.get("defaultValue") is not None}
        return {**defaults, **args}

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
        args: Mapping[str, str] | None = None,
        *,
        follow: bool = False,
        interval: float | None = None,
        on_round: Callable[[Run], None] | None = None,
        timeout: float = COMMAND_TIMEOUT,
    ) -> Run:
        """Run a command in a fresh process. `follow`: run what it schedules until it ends, every `interval` seconds.

        Refused before anything is started when the instance, the command or its arguments are wrong. A process that
        takes longer than `timeout` seconds is stopped, and the run ends in an error.
        """
        names = self.instances.names()
        if instance not in names:
            raise Refused(f"There is no instance {instance}.{close(instance, dict.fromkeys(names))}")
        run = self._run_once(instance, command, self.check(command, args or {}), timeout)
        deadline = None
        while follow and run.scheduled and not run.error:
            if on_round:
                on_round(run)
            entry = run.scheduled
            deadline = deadline or time.monotonic() + float(entry.get("Timeout") or 600)
            if time.monotonic() > deadline:
                run.fail("The command took longer than its timeout.")
                return run
            threading.Event().wait(float(entry["NextRun"]) if interval is None else interval)
            run = self._next_round(instance, run, timeout)
        return run

    def _next_round(self, instance: str, run: Run, timeout: float) -> Run:
        """What a run scheduled: a command like any other, with strings for arguments and the manifest's defaults.

        An argument that the manifest does not declare would be dropped by a server; here it ends the run.
        """
        entry = run.scheduled or {}
        args = {name: as_text(value) for name, value in (entry.get("PollingArgs") or {}).items()}
        try:
            return self._run_once(instance, entry["PollingCommand"], self.check(entry["PollingCommand"], args), timeout)
        except Refused as error:
            run.fail(f"The next round cannot be run: {error}")
            return run

    def _run_once(self, instance: str, command: str, args: Mapping[str, str], timeout: float) -> Run:
        run = Run(command)
        started = time.monotonic()
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            job = {
                "command": command,
                "params": self.instances.params(instance),
                "args": dict(args),
                "script": str(self.module.resolve()),
                "context": str((self.home / f"context-{instance}.json").resolve()),
                "folder": str(folder),
                "instance": instance,
                "entries": self.uploads,
            }
            self._start(folder, job, run, timeout)
            self._read(folder, run)
        run.seconds = time.monotonic() - started
        for entry in run.entries:
            merge_context(self.context, entry.get("EntryContext") or {})
        return run

    def _start(self, folder: Path, job: Json, run: Run, timeout: float) -> None:
        """Run the loop on a job. It gets no PYTHONPATH and not our folder, since a server has installed packages only."""
        path = folder / "job.json"
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
            json.dump(job, file)
        environment = {**os.environ, **self.environment}
        environment.pop("PYTHONPATH", None)
        try:
            done = subprocess.run(  # noqa: S603 - our own loop
                (sys.executable, str(LOOP), str(path)),
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired:
            run.fail(f"The command took longer than {timeout:g} seconds and was stopped.")
            return
        run.stray = done.stdout
        if done.returncode:
            run.fail(f"The process failed: {done.stderr[-2000:]}")

    def _read(self, folder: Path, run: Run) -> None:
        results = folder / "results.jsonl"
        for line in results.read_text().splitlines() if results.exists() else []:
            found = json.loads(line)
            if "entry" in found:
                run.entries.append(found["entry"])
                self._keep_file(folder, found["entry"], run)
            else:
                run.log.append(f"{found['log']}: {found['text']}")

    def _keep_file(self, folder: Path, entry: Json, run: Run) -> None:
        """A file that a command returned, saved under a name that leads nowhere else."""
        if not entry.get("File") or not entry.get("FileID"):
            return
        source = next(folder.glob(f"*_{entry['FileID']}"))
        self.files.mkdir(exist_ok=True, mode=0o700)
        name = re.sub(r"[^\w.() -]", "_", Path(entry["File"]).name).lstrip(".") or "file"
        target = self.files / name
        while target.exists():
            target = self.files / f"{uuid.uuid4().hex[:6]}-{name}"
        source.replace(target)
        run.files.append(target)


def close(word: str, known: Mapping[str, Any]) -> str:
    """A hint at what was probably meant."""
    found = difflib.get_close_matches(word, known, n=3, cutoff=0.5)
    return f" Did you mean {' or '.join(found)}?" if found else f" It has: {', '.join(sorted(known)) or 'none'}."


def as_text(value: Any) -> str:
    """An argument as a server hands it to a script."""
    return value if isinstance(value, str) else json.dumps(value)


DT_KEY = re.compile(r"(?P<path>[^()]+)(?:\((?P<condition>.*)\))?")


def merge_context(context: Json, outputs: Json) -> None:
    """Put an entry's outputs into the war room's context as the server does.

    'A.B(val.id && val.id == obj.id)' enriches the item with the same id in its place, or adds one; 'A.B(true)' merges
    into what is there; 'A.B' adds. https://xsoar.pan.dev/docs/integrations/dt
    """
    for key, value in outputs.items():
        found = DT_KEY.fullmatch(key)
        if not found or value is None:
            continue
        *parents, last = found["path"].split(".")
        place = context
        for parent in parents:
            place = inner(place, parent)
        condition = found["condition"] or ""
        old, new = place.get(last, []), copy.deepcopy(value)
        if condition == "true":
            place[last] = {**old, **new} if isinstance(old, dict) and isinstance(new, dict) else new
            continue
        items = linked(old, new, re.findall(r"val\.([\w.]+) == obj", condition))
        place[last] = items[0] if len(items) == 1 else items


def inner(place: Json, name: str) -> Json:
    """The object below a name, made if need be; below a list, a new item of it."""
    below, made = place.get(name), Json()
    if isinstance(below, dict):
        return below
    if isinstance(below, list):
        below.append(made)
    else:
        place[name] = made
    return made


def linked(old: Any, new: Any, keys: list[str]) -> list[Any]:
    """Old items, each enriched by the new one that has all the same keys, and the new ones that match none."""
    items = list(old) if isinstance(old, list) else [old]
    for item in new if isinstance(new, list) else [new]:
        same = next((other for other in items if keys and identity(other, keys) == identity(item, keys)), None)
        if isinstance(same, dict) and None not in identity(item, keys):
            same.update(item)
        else:
            items.append(item)
    return items


def identity(item: Any, keys: list[str]) -> list[Any]:
    """The values under the keys, each a path; None for one that is missing or empty."""
    values = []
    for key in keys:
        value = item
        for name in key.split("."):
            value = value.get(name) if isinstance(value, dict) else None
        values.append(value or None)
    return values
