"""The server's loop for one command, in a process of its own: `python local/xsoar/loop.py JOB.json`.

As on a server, the `demisto` object, the platform's code and the script are one source text, executed in one namespace
whose __name__ is 'builtins'. What breaks there and not in unit tests breaks here, too. The job is a JSON object
{command, params, args, script, context, folder, instance, entries, debug}; every result is a line of
folder/results.jsonl.
Standard output stays empty: on a server it is the protocol, so whoever starts this takes a word there for a defect.
"""

import json
import os
import re
import socket
import sys
import threading
import traceback
import uuid
from pathlib import Path
from typing import Any

from filelock import FileLock

HERE = Path(__file__).resolve().parent
# The server removes these lines by their text, with a comment that follows, wherever they stand.
HEADERS = re.compile(
    r"(?:import demistomock as demisto|from CommonServerPython import \*|from CommonServerUserPython import \*"
    r"|from __future__ import print_function)(?:[ \t]*#.*)?"
)
TEMPLATE = """
def print(*args):
    demisto.info(' '.join(str(arg) for arg in args))
"""


class Demisto:
    """What a script knows as `demisto`, talking to files instead of a server.

    The integration context is one file for all processes: {"version": n, "context": {...}}. What goes to the server
    passes __do, as on a server: that is what support_multithreading() puts its lock around. Two threads in it at once
    would mix up their lines there, so they get a RuntimeError here.
    """

    callingContext: dict[str, Any] = {}  # noqa: RUF012 - the platform's own name and shape

    def __init__(self, job: dict[str, Any]) -> None:
        self._job = job
        self.is_debug = bool(job.get("debug"))
        self._folder = Path(job["folder"])
        self._context_file = Path(job["context"])
        self._writing = threading.Lock()

    def params(self) -> Any:
        return self._job["params"]

    def args(self) -> Any:
        return self._job["args"]

    def command(self) -> Any:
        return self._job["command"]

    def debug(self, message: Any, *more: Any) -> None:
        self.__do({"log": "debug", "text": " ".join(map(str, (message, *more)))})

    def info(self, message: Any, *more: Any) -> None:
        self.__do({"log": "info", "text": " ".join(map(str, (message, *more)))})

    def error(self, message: Any, *more: Any) -> None:
        self.__do({"log": "error", "text": " ".join(map(str, (message, *more)))})

    def results(self, result: Any) -> None:
        for entry in result if isinstance(result, list) else [result]:
            self.__do({"entry": as_entry(entry)})

    def getFilePath(self, entry_id: str) -> dict[str, str]:
        """ValueError for an unknown id."""
        found = self._job.get("entries", {}).get(entry_id)
        if not found:
            raise ValueError(f"no file entry {entry_id}")
        return {"id": entry_id, "path": found["path"], "name": found["name"]}

    def investigation(self) -> dict[str, str]:
        return {"id": "1"}

    def uniqueFile(self) -> str:
        return str(uuid.uuid4())

    def integrationInstance(self) -> Any:
        return self._job["instance"]

    def demistoVersion(self) -> dict[str, str]:
        return {"version": "6.10.0", "buildNumber": "1"}

    def getIntegrationContext(self) -> Any:
        return self.getIntegrationContextVersioned()["context"]

    def setIntegrationContext(self, context: dict[str, Any]) -> None:
        self.setIntegrationContextVersioned(context)

    def getIntegrationContextVersioned(self, refresh: bool = True) -> dict[str, Any]:
        self._check_context_allowed()
        with self._lock():
            return self._stored()

    def setIntegrationContextVersioned(self, context: dict[str, Any], version: int = -1, sync: bool = True) -> None:
        """ValueError if the context was set by somebody else since `version`."""
        self._check_context_allowed()
        with self._lock():
            stored = self._stored()
            if version not in (-1, stored["version"]):
                raise ValueError(f"version {version} is stale, the context is at {stored['version']}")
            text = json.dumps({"version": stored["version"] + 1, "context": context})
            new = self._context_file.with_suffix(".new")
            with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
                file.write(text)
            new.replace(self._context_file)

    def _check_context_allowed(self) -> None:
        if self._job["command"] == "test-module":
            raise ValueError("the integration context is not available to the test button")

    def _lock(self) -> FileLock:
        return FileLock(f"{self._context_file}.lock", timeout=30, mode=0o600)

    def _stored(self) -> dict[str, Any]:
        if not self._context_file.exists():
            return {"version": 0, "context": {}}
        found: dict[str, Any] = json.loads(self._context_file.read_text())
        return found

    def __do(self, line: dict[str, Any]) -> None:
        text = json.dumps(line)
        if not self._writing.acquire(blocking=False):
            raise RuntimeError("two threads called the server at once: call support_multithreading() first")
        try:
            with (self._folder / "results.jsonl").open("a") as file:
                file.write(text + "\n")
        finally:
            self._writing.release()


def as_entry(result: Any) -> dict[str, Any]:
    """What the server makes of a result: an entry stays one, everything else becomes one."""
    if isinstance(result, dict) and "Contents" in result and "ContentsFormat" in result:
        return result
    if isinstance(result, dict):
        return {"Type": 1, "ContentsFormat": "json", "Contents": result}
    text = result.decode() if isinstance(result, bytes) else str(result)
    return {"Type": 1, "ContentsFormat": "text", "Contents": text}


def platform_source() -> str:
    """The platform's own code without its import of the stand-in, which is in the namespace already."""
    return HEADERS.sub("", (HERE.parent / "standins" / "CommonServerPython.py").read_text())


def run_script(job: dict[str, Any]) -> None:
    """Execute the whole source text as the server does. A failure at module level is a raw traceback entry."""
    demisto = Demisto(job)
    script = HEADERS.sub("", Path(job["script"]).read_text())
    source = "\n".join((TEMPLATE, platform_source(), script))
    namespace: dict[str, Any] = {"demisto": demisto}
    try:
        exec(compile(source, "<string>", "exec"), namespace, namespace)  # noqa: S102 - that is what a server does
    except SystemExit:
        return
    except BaseException:
        demisto.results({"Type": 4, "ContentsFormat": "text", "Contents": traceback.format_exc()})


def find_local_names() -> None:
    """From now on names below localhost are this machine (RFC 6761), which not every system's resolver knows.

    The accounts of an Azure on this machine have such names.
    """
    system = socket.getaddrinfo

    def getaddrinfo(host: Any, *args: Any, **options: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else str(host or "")
        return system("127.0.0.1" if name.lower().endswith(".localhost") else host, *args, **options)

    socket.getaddrinfo = getaddrinfo


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text())
    find_local_names()
    os.chdir(job["folder"])
    # A server has installed packages only, nothing of this folder.
    sys.path[:] = [path for path in sys.path if path not in ("", str(HERE))]
    run_script(job)


if __name__ == "__main__":
    main()
