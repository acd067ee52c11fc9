"""Run the examples of docs/commands/ and the walkthroughs of docs/incidents.md against the local Azure, and keep what they
answer: `python -m local.build.examples [--check]`.

Ids, times, addresses and ETags that differ from run to run become fixed ones, and signatures and codes are left out, so
that a second run writes the same file.
"""

import datetime
import json
import re
import shlex
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote, unquote

import click
import yaml
from azure.storage.blob import AccessPolicy

from ..azure import LocalAzure
from ..azure.arm.management_policies import LIFECYCLE
from ..azure.arm.parts import add_part
from ..azure.logs import sas_hash
from ..xsoar.server import Run, Server
from ..xsoar.walkthroughs import WALKTHROUGHS, Failed, Player, Walkthrough, server_without_defaults
from .reference import EXAMPLES, joined, shown
from .registry import ROOT

SCRIPT = Path(__file__).resolve().parent / "examples.yml"
INCIDENTS = ROOT / "docs" / "incidents.md"
MOST_LINES = 25
ACCOUNT = "contosobackups"
GUID = re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")
TIME = re.compile(r"(\d{4}-\d\d-\d\dT\d\d(:|%3A)\d\d(?:\2)\d\d)(?:\.(\d+))?")
NOON = datetime.datetime(2026, 11, 23, 12, tzinfo=datetime.timezone.utc)
FIVE_MINUTES = 300
# What differs from run to run and says nothing: a pattern, and what is written in its place.
VOLATILE = (
    (re.compile(r"0x[0-9A-F]{14,16}"), "0x8DE2801B6F0C1A2"),
    (re.compile(r"([?&](?:sig|state|nonce|code_challenge)=)[^&\s|)']+"), r"\1..."),
    (re.compile(r"(next_token=)[^`\s]{40,}"), r"\1..."),
    (re.compile(r"\b[A-Z]{4}-[A-Z]{4}\b"), "ABCD-EFGH"),
    (re.compile(r"\b[0-9A-F]{16}\b"), "01D8F2A4B6C8E0F1"),
)


class Step(NamedTuple):
    """One entry of examples.yml."""

    line: str
    shown: bool
    instance: str = "app"
    person: str = ""
    prepare: str = ""

    @property
    def command(self) -> str:
        return f"azure-storage-{self.line.split()[0]}"


def steps(text: str) -> Iterator[Step]:
    for entry in yaml.safe_load(text):
        line = entry.get("show") or entry["run"]
        yield Step(line, "show" in entry, entry.get("as", "app"), entry.get("person", ""), entry.get("prepare", ""))


class Normalizer:
    """Turns a command's output into what every run would answer."""

    def __init__(self, azure: LocalAzure) -> None:
        self.started = datetime.datetime.now(datetime.timezone.utc)  # of the step whose output it is
        sources = (path for path in (ROOT / "local" / "azure").rglob("*.py") if "node_modules" not in path.parts)
        known = "".join(path.read_text() for path in (*sources, SCRIPT))
        self.fixed = {*GUID.findall(known), *(found[1] for found in TIME.finditer(known))}
        self.guids: dict[str, str] = {}
        self.hosts: tuple[tuple[str, Callable[[re.Match[str]], str]], ...] = (
            (rf"(\w+\.(?:blob|web))\.{re.escape(azure.blob_host)}", lambda found: f"{found[1]}.core.windows.net"),
            (rf"{re.escape(azure.blob_host)}/(\w+)", lambda found: f"{found[1]}.blob.core.windows.net"),
            (re.escape(azure.authority_url), lambda found: "https://login.microsoftonline.com"),
            (re.escape(azure.arm_url), lambda found: "https://management.azure.com"),
            (quote(azure.arm_url, safe=""), lambda found: quote("https://management.azure.com", safe="")),
        )

    def __call__(self, text: str) -> str:
        for pattern, host in self.hosts:
            text = re.sub(pattern, host, text)
        for volatile, fixed in VOLATILE:
            text = volatile.sub(fixed, text)
        return TIME.sub(self._time, GUID.sub(self._guid, text))

    def _guid(self, found: re.Match[str]) -> str:
        guid = found[0]
        if guid in self.fixed:
            return guid
        return self.guids.setdefault(guid, f"{len(self.guids) + 1:08d}-0000-4000-8000-000000000000")

    def _time(self, found: re.Match[str]) -> str:
        """The time as if the step had begun at a fixed noon, to five minutes."""
        if found[1] in self.fixed:
            return found[0]
        time = datetime.datetime.fromisoformat(unquote(found[1])).replace(tzinfo=datetime.timezone.utc)
        since = (time - self.started).total_seconds()
        moved = NOON + datetime.timedelta(seconds=round(since / FIVE_MINUTES) * FIVE_MINUTES)
        fraction = f".{'0' * len(found[3])}" if found[3] else ""
        return f"{moved:%Y-%m-%dT%H:%M:%S}".replace(":", found[2]) + fraction


def add_policies(azure: LocalAzure) -> None:
    """Stored access policies, which no command makes."""
    service = azure.azurite._service(ACCOUNT, azure.arm.keys[ACCOUNT][0])
    policies = {name: AccessPolicy(permission="r") for name in ("partners", "leaked")}
    service.get_container_client("payroll").set_container_access_policy(policies)


def end_immutability(azure: LocalAzure) -> None:
    """An account without the locked policy, which excludes point-in-time restore and which nothing unlocks."""
    azure.arm.policies.clear()


def extend_restore_window(azure: LocalAzure) -> None:
    """A restore window that reaches back to before the run."""
    azure.arm.services[ACCOUNT]["restorePolicy"]["minRestoreTime"] = "2020-01-01T00:00:00.0000000Z"


def add_lifecycle_rule(azure: LocalAzure) -> None:
    """A rule that deletes early, which no command makes."""
    actions = {"baseBlob": {"delete": {"daysAfterModificationGreaterThan": 1}}}
    definition = {"actions": actions, "filters": {"blobTypes": ["blockBlob"], "prefixMatch": ["payroll/"]}}
    rules = [{"name": "expire", "type": "Lifecycle", "enabled": True, "definition": definition}]
    add_part(azure.arm, azure.arm.accounts[ACCOUNT], LIFECYCLE, "default", {"policy": {"rules": rules}})


def serve_leaked_sas(azure: LocalAzure) -> None:
    """Requests of a stranger with a SAS, in the logs."""
    for name, size in (("ListBlobs", 734), ("GetBlob", 48_213)):
        azure.log.record(
            AccountName=ACCOUNT,
            Category="StorageRead",
            OperationName=name,
            StatusCode="200",
            AuthenticationType="SAS",
            AuthenticationHash=sas_hash("key1", azure.arm.keys[ACCOUNT][0], "leaked"),
            CallerIpAddress="198.51.100.7:50123",
            Uri=f"https://{ACCOUNT}.blob.core.windows.net:443/payroll/2026/october.csv",
            ResponseBodySize=size,
            UserAgentHeader="azcopy/10.27.1",
        )


# What a step needs afterwards and no command does.
PREPARATIONS = {
    "policies": add_policies,
    "no immutability": end_immutability,
    "restore window": extend_restore_window,
    "lifecycle rule": add_lifecycle_rule,
    "leaked SAS": serve_leaked_sas,
}


def cut(text: str) -> str:
    """The first lines of an output."""
    lines = [line.rstrip() for line in text.strip().splitlines()]
    return "\n".join(lines if len(lines) <= MOST_LINES else [*lines[:MOST_LINES], "", "..."])


class Recorder:
    """Runs the steps and keeps the line and the output of those that are shown."""

    def __init__(self, azure: LocalAzure, server: Server) -> None:
        self.azure, self.server = azure, server
        self.normalize = Normalizer(azure)
        server.environment = azure.environment()
        server.instances.save("app", azure.instance("Client Credentials", resource_group_name=""))
        key = {"identifier": ACCOUNT, "password": azure.arm.keys[ACCOUNT][0]}
        server.instances.save("key", azure.instance("Client Credentials", storage_credentials=key))
        server.instances.save("device", azure.instance("Device Code"))
        server.instances.save("browser", azure.instance("Authorization Code"))

    def run(self, step: Step) -> Run:
        _, *words = shlex.split(step.line.replace("{account}", f"https://{self.azure.blob_host}/{ACCOUNT}"))
        args = dict(word.partition("=")[::2] for word in words)
        self.normalize.started = datetime.datetime.now(datetime.timezone.utc)
        found = self.server.run(step.instance, step.command, args, follow=True, interval=0.2)
        if found.error or found.stray:
            raise Failed(f"{step.line}: {found.error or found.stray}")
        if step.person == "device":
            self._sign_in(found.text)
        if step.prepare:
            PREPARATIONS[step.prepare](self.azure)
        return found

    def _sign_in(self, text: str) -> None:
        address, code = re.search(r"\((https://\S+)\)", text), re.search(r"\*\*(\S+)\*\*", text)
        if not address or not code:
            raise Failed(f"no address and code in: {text}")
        self.azure.person().sign_in_device(address[1], code[1])

    def record(self, script: Iterator[Step]) -> dict[str, dict[str, str]]:
        """The examples by command, in the order of their names."""
        examples = {}
        for step in script:
            found = self.run(step)
            if step.shown:
                line = f"!azure-storage-{step.line}".replace("{account}", f"https://{ACCOUNT}.blob.core.windows.net")
                examples[step.command] = {"line": self.normalize(line), "output": cut(self.normalize(found.text))}
        return dict(sorted(examples.items()))


def transcript(azure: LocalAzure, server: Server, walkthrough: Walkthrough) -> str:
    """What the war room shows while a walkthrough is played."""
    normalize, parts = Normalizer(azure), list[str]()

    def keep(line: str, found: Run) -> None:
        typed = normalize(f"!azure-storage-{line}")
        parts.extend(shown(typed, cut(normalize(found.text))))

    Player(azure, server, "app").play(walkthrough, keep)
    return joined(parts)


def with_transcript(page: str, name: str, text: str) -> str:
    """The page with the transcript of a walkthrough in its place."""
    begin, end = f"<!-- drill-{name}:begin -->", f"<!-- drill-{name}:end -->"
    before, rest = page.split(begin, 1)
    return f"{before}{begin}\n\n{text}\n{end}{rest.split(end, 1)[1]}"


def examples_text() -> str:
    with tempfile.TemporaryDirectory() as folder, LocalAzure(Path(folder) / "azure") as azure:
        examples = Recorder(azure, Server(Path(folder) / "server")).record(steps(SCRIPT.read_text()))
    return json.dumps(examples, indent=1, ensure_ascii=False) + "\n"


def incidents_text() -> str:
    page = INCIDENTS.read_text()
    with tempfile.TemporaryDirectory() as folder, LocalAzure(Path(folder) / "azure") as azure:
        server = server_without_defaults(Path(folder) / "server", azure)
        for walkthrough in WALKTHROUGHS:
            page = with_transcript(page, walkthrough.name, transcript(azure, server, walkthrough))
    return page


@click.command()
@click.option("--check", is_flag=True, help="Only say whether the commands still answer what the documentation shows.")
def main(check: bool) -> None:
    """Write local/build/examples.json, which `make manifest` puts into docs/commands/, and docs/incidents.md."""
    texts = {EXAMPLES: examples_text(), INCIDENTS: incidents_text()}
    different = [path for path, text in texts.items() if not path.exists() or path.read_text() != text]
    names = ", ".join(str(path.relative_to(ROOT)) for path in different)
    if check and different:
        raise click.ClickException(f"Out of date: {names}. Run `make examples`.")
    for path in different:
        path.write_text(texts[path])
    click.echo(f"Written: {names}" if names else "The examples are up to date.")


if __name__ == "__main__":
    main()
