"""The terminal of the war room: what is copied stays whole, what is dangerous is asked, what is long is shown at once."""

import json
import os
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput
from rich.console import Console

from local.xsoar import manual, warroom
from local.xsoar.completion import ManifestCompleter, fuzzy
from local.xsoar.names import SeenNames
from local.xsoar.render import render
from local.xsoar.server import Run, Server, Stopped
from local.xsoar.terminal import WarRoom

SCRIPT = """
import demistomock as demisto  # noqa: F401
from CommonServerPython import *  # noqa: F401
def main():
{body}
if __name__ in ("__main__", "__builtin__", "builtins"):
    main()
"""
MANIFEST = """
configuration:
- {name: url, display: Server URL, type: 0, required: true, section: Connect, additionalinfo: Where the server is.}
- {name: pages, display: Pages, type: 0, section: Collect, advanced: true, additionalinfo: How many to read.}
script:
  commands:
  - name: azure-storage-account-list
    description: Lists accounts. And more.
    arguments: [{name: text, description: Anything.}, {name: limit, description: How many., defaultValue: "5"}]
  - name: azure-storage-account-delete
    description: Deletes an account.
    execution: true
    arguments:
    - {name: account_name, description: The account., required: true}
    - {name: dry_run, description: Whether to try., auto: PREDEFINED, predefined: ["true", "false"]}
  - name: azure-storage-blob-get
    description: Reads a blob.
    arguments:
    - {name: account_name, description: The account.}
    - {name: container_name, description: The container.}
    - {name: checks, description: The checks., isArray: true}
  - {name: azure-storage-auth-start, description: Starts a sign-in.}
"""
URL = "https://contosobackups.blob.core.windows.net/invoices/" + "x" * 80 + "?sp=r&sig=abc%2Fdef%3D"
Toy = Callable[[str], Server]


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    manifest, module = tmp_path / "Toy.yml", tmp_path / "Toy.py"
    manifest.write_text(MANIFEST)
    server = Server(tmp_path / "home", module, manifest)
    server.instances.save("main", {"url": "https://x"})

    def with_body(body: str) -> Server:
        module.write_text(SCRIPT.format(body="\n".join(f"    {line}" for line in body.strip().splitlines())))
        return server

    return with_body


@pytest.fixture
def console() -> Iterator[Console]:
    with Path(os.devnull).open("w") as sink:
        yield Console(record=True, width=70, file=sink)


def printed(text: str, width: int, **options: Any) -> str:
    console = Console(width=width, **options)
    with console.capture() as capture:
        console.print(render(text), crop=False)
    return capture.get()


# Copying


@pytest.mark.parametrize(
    "text",
    [
        f"Open [{URL}]({URL})",
        f"1. Open [the login URL]({URL})\n2. Sign in",
        f"To undo this change, run:\n```\n!azure-storage-account-update note='{URL}'\n```",
        f"| Link |\n|---|\n| {URL} |",
        f"| Link | Expires |\n|---|---|\n| [{URL}]({URL}) | tomorrow |",
        f"`!azure-storage-blob-get blob_url={URL}`",
    ],
)
def test_what_is_copied_stays_in_one_piece(text: str) -> None:
    for width in (40, 80, 120):
        assert [line for line in printed(text, width).splitlines() if URL in line], width


def test_a_command_line_is_never_wrapped() -> None:
    line = "!azure-storage-account-update account_name=contosobackups " + "tags=a=b;c=d " * 20
    assert line.strip() in printed(f"Next step: run {line}", 60)


def test_a_sentence_with_a_short_command_is_wrapped_between_words() -> None:
    text = "Finish the sign-in in the browser at https://x.example/device, then run !azure-storage-auth-complete again."
    lines = printed(text, 60).splitlines()
    assert max(map(len, lines)) <= 60
    assert [line for line in lines if "https://x.example/device" in line]
    assert [line for line in lines if "!azure-storage-auth-complete" in line]


def test_only_an_address_is_a_link_of_the_terminal_and_it_leads_where_it_says() -> None:
    text = "[https://bank.example](https://evil.example/x) and [click](javascript:alert) and https://x.example/y"
    shown = printed(text, 100, force_terminal=True)
    assert "https://bank.example: " in shown
    assert [part.split("\x1b")[0] for part in shown.split(";http")[1:]] == ["s://evil.example/x", "s://x.example/y"]
    assert "javascript:alert" in shown


def test_items_of_a_list_keep_their_numbers() -> None:
    shown = printed("1. Open https://x.example\n2. Enter the code **ABCD**\n3. Run `!azure-storage-auth-complete`", 80)
    assert [line.strip() for line in shown.splitlines()] == [
        "1. Open https://x.example",
        "2. Enter the code ABCD",
        "3. Run !azure-storage-auth-complete",
    ]


# Tables

TABLE = "| Account Name | Kind | Network |\n|---|---|---|\n| contosobackups | StorageV2 | {} |\n| contosoweb | BlobStorage |  |"


def test_a_table_that_fits_is_one_everywhere() -> None:
    assert "┃ Account Name" in printed(TABLE.format("Deny"), 60)


def test_a_narrow_terminal_gets_fields_without_the_empty_ones() -> None:
    shown = printed(TABLE.format("allowed from 203.0.113.0/24, 198.51.100.0/24 and the trusted services"), 60)
    assert "┃" not in shown
    lines = [line.split() for line in shown.splitlines()]
    assert ["Account", "Name", "contosobackups"] in lines
    assert ["Kind", "BlobStorage"] in lines
    assert sum(line[:1] == ["Network"] for line in lines) == 1
    assert max(map(len, shown.splitlines())) <= 60


def test_a_wide_terminal_keeps_the_table_and_folds_cells() -> None:
    shown = printed(TABLE.format("word " * 60), 110)
    assert "┃ Account Name" in shown
    assert max(map(len, shown.splitlines())) <= 110


# Completion and names


def complete(server: Server, names: SeenNames, text: str) -> list[str]:
    completer = fuzzy(ManifestCompleter(server, names, warroom.PROMPT_WORDS))
    return [found.text for found in completer.get_completions(Document(text), CompleteEvent())]


def test_completion_is_fuzzy(toy: Toy) -> None:
    server, names = toy("pass"), SeenNames()
    assert complete(server, names, "!acclist")[0] == "azure-storage-account-list"
    assert complete(server, names, "!bget") == ["azure-storage-blob-get"]
    assert complete(server, names, "!azure-storage-account-delete accn") == ["account_name="]
    assert complete(server, names, "!azure-storage-account-delete dry_run=fs") == ["false"]
    assert "help" in complete(server, names, "hp")
    assert "help" not in complete(server, names, "!hp")


def test_names_in_context_are_offered(toy: Toy, console: Console) -> None:
    server = toy(
        "outputs = {'AzureStorage.StorageAccount(val.id && val.id == obj.id)': [{'id': '/s/1', 'name': 'contosobackups'}],\n"
        "    'AzureStorage.Posture(val.id && val.id == obj.id)': [{'id': 1, 'account': 'contosoweb', 'check': 'https-only'}],\n"
        "    'AzureStorage.BlobContainer(val.id && val.id == obj.id)': {'id': 2, 'name': 'invoices'}}\n"
        "return_results(CommandResults(outputs=outputs, readable_output='x'))"
    )
    room = WarRoom(server, console, interval=0)
    assert room.run("main", "!azure-storage-account-list")
    assert complete(server, room.names, "!azure-storage-blob-get account_name=") == ["contosobackups", "contosoweb"]
    assert complete(server, room.names, "!azure-storage-blob-get account_name=web") == ["contosoweb"]
    assert complete(server, room.names, "!azure-storage-blob-get container_name=inv") == ["invoices"]
    assert complete(server, room.names, "!azure-storage-blob-get checks=ho") == ["https-only"]


def test_names_are_known_in_the_next_session(toy: Toy, console: Console) -> None:
    server = toy(
        "return_results(CommandResults(outputs={'AzureStorage.Blob': {'account': 'contosoweb', 'name': 'secret plan'}}))"
    )
    assert WarRoom(server, console, interval=0).run("main", "!azure-storage-account-list")
    room = WarRoom(server, console)
    assert (room.names.of("account_name"), room.names.of("blob_name")) == (["contosoweb"], [])
    path = server.home / "names.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "secret plan" not in path.read_text()


def test_a_name_with_a_blank_is_completed_between_quotes(toy: Toy) -> None:
    names = SeenNames()
    names.learn({"Blob": [{"name": 'my "own" file'}]})
    names.remember({"container_name": "of an earlier line", "text": "not a name"})
    assert names.of("blob_name") == ['my "own" file']
    assert complete(toy("pass"), names, "!azure-storage-blob-get container_name=earlier") == ['"of an earlier line"']


def test_a_slip_in_a_name_is_told_at_once(toy: Toy, console: Console) -> None:
    room = WarRoom(toy("return_results(demisto.args().get('account_name'))"), console, interval=0)
    room.names.learn({"StorageAccount": {"name": "contosobackups"}})
    room.run("main", "!azure-storage-blob-get account_name=contosobackup")
    room.run("main", "!azure-storage-blob-get account_name=contosobackups")
    room.run("main", "!azure-storage-blob-get account_name=something-else")
    text = " ".join(console.export_text().split())
    assert text.count("Did you mean contosobackups?") == 1
    assert "something-else" in text


@pytest.mark.parametrize(("answer", "used"), [(True, "contosobackups"), (False, "contosobackup")])
def test_a_person_can_take_the_name_that_was_meant(toy: Toy, console: Console, answer: bool, used: str) -> None:
    server = toy("return_results('used: ' + demisto.args().get('account_name'))")
    room = WarRoom(server, console, interval=0, approve=lambda question: answer)
    room.names.learn({"StorageAccount": {"name": "contosobackups"}})
    room.run("main", "!azure-storage-blob-get account_name=contosobackup")
    assert f"used: {used}\n" in "\n".join(line.strip() + "\n" for line in console.export_text().splitlines())


# Approval


@pytest.mark.parametrize(
    ("line", "answer", "asked", "ran"),
    [
        ("!azure-storage-account-delete account_name=x", False, True, False),
        ("!azure-storage-account-delete account_name=x", True, True, True),
        ("!azure-storage-account-delete account_name=x dry_run=true", False, False, True),
        ("!azure-storage-account-list", False, False, True),
    ],
)
def test_dangerous_commands_are_asked_about(
    toy: Toy, console: Console, line: str, answer: bool, asked: bool, ran: bool
) -> None:
    questions: list[str] = []

    def approve(question: str) -> bool:
        questions.append(question)
        return answer

    room = WarRoom(toy("return_results('it ran')"), console, interval=0, approve=approve)
    assert room.run("main", line) is ran
    assert (bool(questions), "it ran" in console.export_text()) == (asked, ran)


@pytest.mark.parametrize(
    ("options", "typed", "code"), [(["--ask"], "n\n", 1), (["--ask"], "y\n", 0), (["--yes"], "", 0), ([], "", 0)]
)
def test_without_a_terminal_nothing_is_asked_unless_told(
    toy: Toy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, options: list[str], typed: str, code: int
) -> None:
    server = toy("return_results('it ran')")
    monkeypatch.setattr(warroom, "Server", lambda _: server)
    words = ["--files", str(tmp_path / "files"), *options, "!azure-storage-account-delete", "account_name=x"]
    done = CliRunner().invoke(warroom.main, words, input=typed)
    assert (done.exit_code, "it ran" in done.stdout) == (code, code == 0)


# Long work

IN_STEPS = """
import os, threading
demisto.debug('3 of 12 accounts')
return_results('first part')
while not os.path.exists({flag!r}):
    threading.Event().wait(0.01)
return_results('second part')
"""


def test_entries_are_shown_while_the_command_runs(toy: Toy, console: Console, tmp_path: Path) -> None:
    """The script goes on only when its first entry was seen."""
    flag = tmp_path / "seen"
    server = toy(IN_STEPS.format(flag=str(flag)))
    seen: list[Any] = []

    def on_entry(entry: dict[str, Any]) -> None:
        seen.append(entry["Contents"])
        flag.touch()

    run = server.run("main", "azure-storage-account-list", on_entry=on_entry, on_log=seen.append, timeout=20)
    assert seen == ["3 of 12 accounts", "first part", "second part"]
    assert run.error == ""


def test_counts_stand_beside_the_spinner(toy: Toy, console: Console, monkeypatch: pytest.MonkeyPatch) -> None:
    updates: list[str] = []
    monkeypatch.setattr("rich.status.Status.update", lambda self, text: updates.append(text))
    body = "demisto.debug('1,500 of 2,000 blobs listed')\nreturn_results('Checked 9 of 3.')\nreturn_results('ok')"
    assert WarRoom(toy(body), console, interval=0).run("main", "!azure-storage-account-list")
    assert updates == ["azure-storage-account-list: 1,500 of 2,000 blobs listed (75 %)"]


def test_ctrl_c_tells_what_was_done_and_ends_the_process(toy: Toy, console: Console, tmp_path: Path) -> None:
    server = toy(
        "return_results(fileResult('part.csv', 'a,b'))\n"
        "return_results(CommandResults(outputs={'A.B': 1}, readable_output='first part'))\n"
        "import threading\nthreading.Event().wait()"
    )
    times = iter([False, True])

    def interrupt(entry: dict[str, Any]) -> None:
        if next(times, False):
            raise KeyboardInterrupt

    with pytest.raises(Stopped) as stopped:
        server.run("main", "azure-storage-account-list", on_entry=interrupt, timeout=20)
    run = stopped.value.run
    assert (run.text, [path.name for path in run.files], server.context) == (
        "first part",
        ["part.csv"],
        {"A": {"B": 1}},
    )


def test_the_war_room_says_what_a_stopped_command_had_returned(
    toy: Toy, console: Console, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: Any, **__: Any) -> Run:
        entry = {"Type": 1, "ContentsFormat": "text", "Contents": "x", "EntryContext": {"A.B": 1}}
        raise Stopped(Run("azure-storage-account-list", [entry]))

    room = WarRoom(toy("pass"), console, interval=0)
    monkeypatch.setattr(room.server, "run", stop)
    assert not room.run("main", "!azure-storage-account-list")
    assert "It had returned 1 entries by then." in console.export_text()


# Help and words of the prompt


def test_help_is_by_noun_with_a_line_for_each_command(toy: Toy, console: Console) -> None:
    WarRoom(toy("pass"), console).help()
    lines = [line.rstrip() for line in console.export_text().splitlines()]
    assert lines[lines.index("Storage accounts") + 1].startswith("!azure-storage-account-list ")
    assert "Blobs" in lines
    assert "!azure-storage-account-delete (!)" in lines[lines.index("Storage accounts") + 2]
    assert max(map(len, lines)) <= 70
    assert not [line for line in lines if "And more." in line]


def test_help_on_a_command_has_an_example_that_can_be_run(toy: Toy) -> None:
    server, names = toy("pass"), SeenNames()
    command = server.commands["azure-storage-account-delete"]
    line = manual.example("azure-storage-account-delete", command, names)
    assert line == "!azure-storage-account-delete account_name=contosobackups dry_run=true"
    names.learn({"StorageAccount": {"name": "seenaccount"}})
    assert "account_name=seenaccount" in manual.example("azure-storage-account-delete", command, names)


def test_every_command_of_the_integration_has_a_heading_and_a_valid_example(tmp_path: Path) -> None:
    from local.xsoar.lines import parse_line

    server = Server(tmp_path)
    headings = {manual.heading(name.removeprefix("azure-storage-")) for name in server.commands}
    assert headings <= set(manual.HEADINGS.values())
    for name, command in server.commands.items():
        parsed, args = parse_line(manual.example(name, command, SeenNames()))
        server.check(parsed, args)


def test_open_save_context_and_last(toy: Toy, console: Console, tmp_path: Path) -> None:
    opened: list[str] = []
    server = toy(
        "found = demisto.args().get('text') or 'https://one.example/a'\n"
        "return_results(CommandResults(outputs={'A.B': [{'n': 1}, {'n': 2}]}, readable_output=found))"
    )
    server.files = tmp_path / "kept"
    room = WarRoom(server, console, interval=0, launch=opened.append)
    lines = [
        "open",
        "save",
        "!azure-storage-account-list",
        "open",
        "save result.json",
        "save ../../notes.md",
        "context A.B.[1].n",
        "context A..B",
        '!azure-storage-account-list text="https://two.example https://three.example"',
        "open",
        "open 2",
        "last",
        "exit",
    ]
    with create_pipe_input() as pipe:
        pipe.send_text("\n".join(lines) + "\n")
        warroom.prompt(room, "main", PromptSession(input=pipe, output=DummyOutput()))
    text = console.export_text()
    assert opened == ["https://one.example/a", "https://three.example"]
    assert json.loads((server.files / "result.json").read_text()) == {"A": {"B": [{"n": 1}, {"n": 2}]}}
    notes = next(path for path in server.files.iterdir() if path.suffix == ".md")
    assert notes.read_text() == "https://one.example/a"
    assert stat.S_IMODE(notes.stat().st_mode) == 0o600
    assert "The last result has no address." in text
    assert "There is no result yet." in text
    assert "\n2\n" in text
    assert "not known here" in text
    assert "2  https://three.example" in text
    assert text.count("https://two.example https://three.example") == 2


@pytest.mark.parametrize("at_once", [True, False])
def test_a_sign_in_can_open_the_browser(toy: Toy, console: Console, at_once: bool) -> None:
    opened: list[str] = []
    body = "return_results('Open https://login.example/device and enter ABCD, then https://other.example')"
    room = WarRoom(toy(body), console, interval=0, launch=opened.append, open_sign_in=at_once)
    room.at_prompt = True
    room.run("main", "!azure-storage-auth-start")
    room.run("main", "!azure-storage-account-list")
    assert opened == (["https://login.example/device"] if at_once else [])
    assert ("`open` opens" in console.export_text()) is not at_once


def test_files_stay_in_the_persons_folder_which_is_named_at_exit(
    toy: Toy, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    server = toy("return_results(fileResult('report.csv', 'a,b'))")
    monkeypatch.setattr(warroom, "Server", lambda _: server)
    monkeypatch.setenv("WARROOM_FILES", str(tmp_path / "mine"))
    with create_pipe_input() as pipe:
        pipe.send_text("!azure-storage-account-list\nexit\n")
        session: Any = PromptSession(input=pipe, output=DummyOutput())
        monkeypatch.setattr(warroom, "PromptSession", lambda **_: session)
        done = CliRunner().invoke(warroom.main, [])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "mine" / "report.csv").read_text() == "a,b"
    assert f"1 files are kept in {tmp_path / 'mine'}" in done.output


def test_the_log_of_debug_mode_is_kept_as_a_file(toy: Toy, console: Console) -> None:
    server = toy("demisto.debug('what went on')\nreturn_results('fine')")
    room = WarRoom(server, console, interval=0)
    assert room.run("main", "!azure-storage-account-list debug-mode=true")
    assert room.run("main", "!azure-storage-account-list")
    (log,) = server.kept
    assert (log.name, stat.S_IMODE(log.stat().st_mode)) == ("azure-storage-account-list-debug.log", 0o600)
    assert "debug: what went on" in log.read_text()
    assert f"File saved: {log}" in console.export_text()


def test_json_of_a_refusal(toy: Toy, console: Console) -> None:
    with Path(os.devnull).open("w") as sink:
        room = WarRoom(toy("pass"), console, errors=Console(file=sink), as_json=True)
        assert not room.run("main", "!azure-storage-acount-list")
    error = json.loads(console.export_text())["error"]
    assert error["command"] == "azure-storage-acount-list"
    assert "Did you mean azure-storage-account-list" in error["message"]


def test_the_form_shows_its_groups_and_help(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    server = toy("pass")
    monkeypatch.setattr(warroom, "Server", lambda _: server)
    done = CliRunner().invoke(warroom.main, ["configure", "--instance", "second"], input="https://y\n3\n")
    assert done.exit_code == 0, done.output
    order = [
        done.output.index(text)
        for text in ("Connect", "Where the server is.", "Collect, advanced", "How many to read.")
    ]
    assert order == sorted(order)
    assert server.instances.params("second")["pages"] == "3"
