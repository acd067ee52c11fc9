"""A server for one person: instances, war-room context, files, and commands run as a server runs them."""

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

ROOT = Path(__file__).resolve().parent.parent
MODULE = ROOT / "AzureStorage.py"
MANIFEST = ROOT / "AzureStorage.yml"
Json = dict[str, Any]


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
        return {key: value for entry in self.entries for key, value in (entry.get("EntryContext") or {}).items()}

    @property
    def scheduled(self) -> Json | None:
        return next((entry for entry in self.entries if entry.get("PollingCommand")), None)


class Server:
    """Runs the commands of one integration. `home` holds instances, integration contexts and files of one user."""

    def __init__(self, home: Path, module: Path = MODULE, manifest: Path = MANIFEST) -> None:
        self.home, self.module = home, module
        self.manifest: Json = yaml.safe_load(manifest.read_text())
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
    ) -> Run:
        """Run a command in a fresh process. `follow`: run what it schedules until it ends, every `interval` seconds.

        Refused before anything is started when the command or its arguments are wrong.
        """
        run = self._run_once(instance, command, self.check(command, args or {}))
        deadline = None
        while follow and run.scheduled:
            if on_round:
                on_round(run)
            entry = run.scheduled
            deadline = deadline or time.monotonic() + float(entry.get("Timeout") or 600)
            if time.monotonic() > deadline:
                run.entries.append(
                    {"Type": 4, "ContentsFormat": "text", "Contents": "The command took longer than its timeout."}
                )
                return run
            threading.Event().wait(float(entry["NextRun"]) if interval is None else interval)
            run = self._run_once(instance, entry["PollingCommand"], entry["PollingArgs"])
        return run

    def _run_once(self, instance: str, command: str, args: Mapping[str, str]) -> Run:
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
            self._start(folder, job, run)
            self._read(folder, run)
        run.seconds = time.monotonic() - started
        for entry in run.entries:
            merge_context(self.context, entry.get("EntryContext") or {})
        return run

    def _start(self, folder: Path, job: Json, run: Run) -> None:
        path = folder / "job.json"
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
            json.dump(job, file)
        environment = {
            **os.environ,
            **self.environment,
            "PYTHONPATH": str(ROOT),
        }
        done = subprocess.run(  # noqa: S603 - our own loop
            (sys.executable, "-m", "local.loop", str(path)),
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            run.entries.append(
                {"Type": 4, "ContentsFormat": "text", "Contents": f"The process failed: {done.stderr[-2000:]}"}
            )

    def _read(self, folder: Path, run: Run) -> None:
        results = folder / "results.jsonl"
        for line in results.read_text().splitlines() if results.exists() else []:
            found = json.loads(line)
            if "entry" in found:
                run.entries.append(found["entry"])
                self._keep_file(folder, found["entry"], run)
            elif "log" in found:
                run.log.append(f"{found['log']}: {found['text']}")
            else:
                run.stray = found["stray"]

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


DT_KEY = re.compile(r"(?P<path>[\w.]+)(?:\((?P<condition>.*)\))?")


def merge_context(context: Json, outputs: Json) -> None:
    """Put an entry's outputs into the war room's context as the server does.

    'A.B(val.id && val.id == obj.id)' replaces the item with the same key or adds one; 'A.B(true)' merges into what is
    there; 'A.B' adds. https://xsoar.pan.dev/docs/integrations/dt
    """
    for key, value in outputs.items():
        found = DT_KEY.fullmatch(key)
        if not found or value is None:
            continue
        *parents, last = found["path"].split(".")
        place = context
        for parent in parents:
            place = place.setdefault(parent, {})
        condition = found["condition"] or ""
        if condition == "true" and isinstance(value, dict):
            place.setdefault(last, {}).update(value)
            continue
        keys = re.findall(r"val\.([\w.]+) == obj", condition)
        old = place.get(last, [])
        items = old if isinstance(old, list) else [old]
        new = value if isinstance(value, list) else [value]
        same = [tuple(item.get(name) for name in keys) for item in new if isinstance(item, dict)] if keys else []
        kept = [item for item in items if not (keys and tuple(item.get(name) for name in keys) in same)]
        merged = kept + new
        place[last] = merged[0] if len(merged) == 1 else merged
