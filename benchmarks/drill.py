"""From alert to contained on the local Azure, with 80 ms added to every answer.

Prints for every command the seconds (a fresh process each, platform included), the requests, and the rounds of waiting: how
many answers had to be waited for one after the other. Two goals: the whole in less than 60 s with the evidence, and the
settings of an isolation that runs alone in place in less than 2 s.
"""

import shlex
import sys
import tempfile
import time
from collections import deque
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from local.azure import LocalAzure, Request  # noqa: E402 - found on the path above
from local.xsoar.server import Run, Server  # noqa: E402
from local.xsoar.walkthroughs import server_without_defaults  # noqa: E402

DELAY = 0.08  # seconds
ALWAYS = 1_000_000_000
ACCOUNT, CONTAINER, BLOB = "contosoweb", "invoices", "2026/november.html"
WHERE = f"account_name={ACCOUNT}"
PUBLIC = f"{WHERE} container_name={CONTAINER}"
BEFORE = (
    f"blob-containers-create {PUBLIC} public_access=Blob",
    f"blob-put {PUBLIC} blob_name={BLOB} text='a fake sign-in page'",
    f"blob-containers-create {WHERE} container_name=evidence",
)
ISOLATE = f"account-isolate {WHERE} own_ip=203.0.113.7"
LINES = (
    "triage blob_url={url}",
    ISOLATE,
    f"account-lock-set {WHERE} level=CanNotDelete notes='case 1234'",
    f"account-activity-list {WHERE} since='1 day' limit=50",
    f"blob-snapshot-create {PUBLIC} blob_name={BLOB}",
    "blob-quarantine blob_url={url} evidence_container_name=evidence case_id=case-1234",
    f"container-legal-hold-set {WHERE} container_name=evidence tags=case1234",
)


class Arrivals(deque[Request]):
    """The log of the local Azure, with the time of each request."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[float] = []

    def append(self, request: Request) -> None:
        self.times.append(time.perf_counter())
        super().append(request)


def rounds(times: list[float]) -> int:
    """Requests that left before the first of a round can have been answered belong to that round."""
    found, began = 0, float("-inf")
    for arrived in sorted(times):
        if arrived - began >= DELAY:
            found, began = found + 1, arrived
    return found


def run(server: Server, line: str) -> Run:
    name, *words = shlex.split(line)
    args = dict(word.partition("=")[::2] for word in words)
    found = server.run("app", f"azure-storage-{name}", args, follow=True, interval=0.2)
    if found.error or found.stray:
        raise SystemExit(f"{line}: {found.error or found.stray}")
    return found


def measured(server: Server, log: Arrivals, line: str) -> float:
    """Runs one command and prints what it cost. Returns the seconds until its first change was answered, or it ended."""
    log.clear()
    log.times.clear()
    started = time.perf_counter()
    run(server, line)
    seconds = time.perf_counter() - started
    print(f"{line.split()[0]:24} {seconds:6.2f} s {len(log):4} requests {rounds(log.times):4} rounds", flush=True)
    changes = [at for at, request in zip(log.times, log, strict=True) if request.method in ("PATCH", "PUT")]
    return changes[0] + DELAY - started if changes else seconds


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        azure = LocalAzure(Path(folder) / "azure")
        azure.requests = log = Arrivals()
        with azure:
            server = server_without_defaults(Path(folder) / "server", azure)
            for line in BEFORE:
                run(server, line)
            azure.faults.add(delay=DELAY, times=ALWAYS)
            url = f"https://{azure.blob_host}/{ACCOUNT}/{CONTAINER}/{BLOB}"
            started = time.perf_counter()
            for line in LINES:
                measured(server, log, line.format(url=url))
            whole = time.perf_counter() - started
            azure.faults.clear()
            run(server, f"account-restore-settings {WHERE}")
            azure.faults.add(delay=DELAY, times=ALWAYS)
            door = measured(server, log, ISOLATE.replace(ACCOUNT, "contosobackups"))
    print(f"alert to contained with the evidence: {whole:.1f} s, {whole / 60:.2f} of the goal of 60 s")
    print(f"isolate alone, until the settings are in place: {door:.2f} s, {door / 2:.2f} of the goal of 2 s")


if __name__ == "__main__":
    main()
