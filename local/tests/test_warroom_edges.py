"""The war room where things go wrong: secrets in lines, hostile text, scripts that hang, linked context, odd polling."""

import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput
from rich.console import Console

from local.xsoar import warroom
from local.xsoar.completion import ManifestCompleter
from local.xsoar.context import merge_context
from local.xsoar.lines import SafeHistory, parse_line, parse_words
from local.xsoar.render import render
from local.xsoar.server import Refused, Server
from local.xsoar.terminal import WarRoom
from local.xsoar.warroom import PROMPT_WORDS, prompt

HEADER = "import demistomock as demisto  # noqa: F401\nfrom CommonServerPython import *  # noqa: F401\n"
GUARD = '\nif __name__ in ("__main__", "__builtin__", "builtins"):\n    main()\n'
MANIFEST = """
configuration:
- {name: url, display: Server URL, type: 0, required: true}
- {name: key, display: Key, displaypassword: Key, type: 9, hiddenusername: true}
script:
  commands:
  - name: toy-say
    description: Says.
    execution: true
    arguments:
    - {name: text, description: What to say.}
    - {name: code, description: A code., secret: true}
    - {name: level, description: How loud., defaultValue: "7"}
    - {name: kinds, description: Kinds., auto: PREDEFINED, predefined: [red, green], isArray: true}
"""
Toy = Callable[[str], Server]


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    """A server with a toy integration whose main() has the given body."""
    manifest, module = tmp_path / "Toy.yml", tmp_path / "Toy.py"
    manifest.write_text(MANIFEST)
    server = Server(tmp_path / "home", module, manifest)
    server.instances.save("main", {"url": "https://x", "key": {"identifier": "", "password": "hunter2-value"}})

    def with_body(body: str) -> Server:
        lines = "\n".join(f"    {line}" for line in body.strip().splitlines())
        module.write_text(f"{HEADER}def main():\n{lines}\n{GUARD}")
        return server

    return with_body


class Screen:
    """A war room whose output can be read."""

    def __init__(self, server: Server, *, as_json: bool = False) -> None:
        self.sink = open(os.devnull, "w")  # noqa: SIM115, PTH123 - closed by text()
        self.errors = Console(record=True, width=100, file=self.sink)
        self.console = Console(record=True, width=100, file=self.sink)
        self.room = WarRoom(server, self.console, errors=self.errors, as_json=as_json, interval=0)

    def text(self) -> str:
        found = self.console.export_text()
        self.sink.close()
        return found


def test_a_stuck_command_ends_at_its_timeout(toy: Toy) -> None:
    run = toy("import threading\nthreading.Event().wait(60)").run("main", "toy-say", timeout=0.5)
    assert "longer than 0.5 seconds" in run.error


@pytest.mark.parametrize(
    "body",
    [
        "sys.stdout.write('loose')",
        "os.write(1, b'loose')",
        "sys.__stdout__.write('loose')",
        "import subprocess\nsubprocess.run(('echo', 'loose'))",
    ],
)
def test_whatever_reaches_standard_output_is_reported(toy: Toy, body: str) -> None:
    assert toy(body).run("main", "toy-say").stray.strip() == "loose"


@pytest.mark.parametrize(
    "line",
    ["import demistomock", "import CommonServerPython as csp", "import AzureStorage", "import local.xsoar.server"],
)
def test_nothing_of_this_folder_can_be_imported(toy: Toy, line: str) -> None:
    """A server has the one source text and installed packages, nothing else."""
    assert "ModuleNotFoundError" in toy(line).run("main", "toy-say").error


def test_modules_of_the_folder_one_stands_in_are_not_imported(
    toy: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "filelock.py").write_text("raise RuntimeError('the wrong filelock')")
    monkeypatch.chdir(tmp_path)
    assert toy("return_results('fine')").run("main", "toy-say").text == "fine"


def test_a_round_gets_strings_and_defaults_as_the_first_one_does(toy: Toy) -> None:
    server = toy(
        "if demisto.args().get('text') == 'true':\n"
        "    return return_results(json.dumps(demisto.args(), sort_keys=True))\n"
        "return_results(CommandResults(scheduled_command=ScheduledCommand('toy-say', 10, {'text': True}, 60)))"
    )
    run = server.run("main", "toy-say", follow=True, interval=0)
    assert json.loads(run.text) == {"level": "7", "text": "true"}


def test_a_round_without_arguments(toy: Toy) -> None:
    server = toy(
        "context = get_integration_context()\n"
        "if context.get('n'):\n"
        "    return return_results('second')\n"
        "set_integration_context({'n': 1})\n"
        "return_results(CommandResults(scheduled_command=ScheduledCommand('toy-say', 10, None, 60)))"
    )
    assert server.run("main", "toy-say", follow=True, interval=0).text == "second"


def test_a_round_that_the_manifest_does_not_know_is_an_error_of_the_run(toy: Toy) -> None:
    """A server drops an argument that is not declared, so the next round would not be what the script asked for."""
    server = toy("return_results(CommandResults(scheduled_command=ScheduledCommand('toy-say', 10, {'txt': 'x'}, 60)))")
    run = server.run("main", "toy-say", follow=True, interval=0)
    assert "no argument txt" in run.error


def test_a_sequence_ends_with_an_error_entry(toy: Toy) -> None:
    server = toy(
        "demisto.results({'Type': 4, 'ContentsFormat': 'text', 'Contents': 'broken'})\n"
        "return_results(CommandResults(scheduled_command=ScheduledCommand('toy-say', 10, {'text': 'x'}, 60)))"
    )
    rounds: list[Any] = []
    assert server.run("main", "toy-say", follow=True, interval=0, on_round=rounds.append).error == "broken"
    assert rounds == []


def test_a_sequence_ends_at_its_timeout(toy: Toy) -> None:
    server = toy("return_results(CommandResults(scheduled_command=ScheduledCommand('toy-say', 10, {'text': 'x'}, 1)))")
    assert "timeout" in server.run("main", "toy-say", follow=True, interval=0.2).error


@pytest.mark.parametrize(
    ("first", "second", "together"),
    [
        pytest.param(
            {"A.B(val.id && val.id == obj.id)": [{"id": 1, "x": 1}, {"id": 2}]},
            {"A.B(val.id && val.id == obj.id)": {"id": 1, "y": 2}},
            {"A": {"B": [{"id": 1, "x": 1, "y": 2}, {"id": 2}]}},
            id="linked objects are enriched in their place",
        ),
        pytest.param(
            {"A.B(val.id && val.id == obj.id)": {"x": 1}},
            {"A.B(val.id && val.id == obj.id)": {"x": 2}},
            {"A": {"B": [{"x": 1}, {"x": 2}]}},
            id="objects without a key are not one",
        ),
        pytest.param(
            {"A.B(val.p.id && val.p.id == obj.p.id)": {"p": {"id": 1}, "x": 1}},
            {"A.B(val.p.id && val.p.id == obj.p.id)": {"p": {"id": 2}, "x": 2}},
            {"A": {"B": [{"p": {"id": 1}, "x": 1}, {"p": {"id": 2}, "x": 2}]}},
            id="a key within the object",
        ),
        pytest.param({"A.B": ["s"]}, {"A.B(val.id == obj.id)": {"id": 1}}, {"A": {"B": ["s", {"id": 1}]}}, id="texts"),
        pytest.param({"A.B": [{"id": 1}, {"id": 2}]}, {"A.B.C": {"n": 1}}, None, id="below a list"),
        pytest.param({"A(true)": {"t": "x", "u": 1}}, {"A(true)": {"t": ""}}, {"A": {"t": "", "u": 1}}, id="overwrite"),
    ],
)
def test_context_is_linked(first: dict[str, Any], second: dict[str, Any], together: dict[str, Any] | None) -> None:
    context: dict[str, Any] = {}
    merge_context(context, first)
    merge_context(context, second)
    assert together is None or context == together


def test_outputs_are_not_shared_with_the_context(toy: Toy) -> None:
    """Merging a second result must not reach into the entry of the first."""
    entry = {"A.B(val.id && val.id == obj.id)": [{"id": 1}]}
    context: dict[str, Any] = {}
    merge_context(context, entry)
    merge_context(context, {"A.B(val.id && val.id == obj.id)": {"id": 1, "x": 2}})
    assert entry == {"A.B(val.id && val.id == obj.id)": [{"id": 1}]}


def test_two_entries_under_one_key_are_both_in_the_context_of_a_run(toy: Toy) -> None:
    server = toy(
        "for n in (1, 2):\n    return_results(CommandResults(outputs_prefix='A.B', outputs_key_field='id', outputs={'id': n}))"
    )
    assert server.run("main", "toy-say").merged == {"A": {"B": [{"id": 1}, {"id": 2}]}}


@pytest.mark.parametrize("quote", ["code=c0de-value", 'code="c0de-value"', "code=`c0de-value`", "code=`c0de-value"])
def test_a_secret_of_a_line_is_not_in_the_history(toy: Toy, quote: str) -> None:
    server = toy("return_results('fine')")
    history = SafeHistory(server)
    session: PromptSession[str]
    with create_pipe_input() as pipe:
        pipe.send_text(f"!toy-say text=hello {quote}\nexit\n")
        session = PromptSession(input=pipe, output=DummyOutput(), history=history)
        screen = Screen(server)
        prompt(screen.room, "main", session)
    screen.text()
    path = server.home / "history"
    assert "c0de" not in path.read_text()
    assert "text=hello" in path.read_text()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_refusal_does_not_repeat_a_secret(toy: Toy) -> None:
    screen = Screen(toy("return_results('fine')"))
    assert not screen.room.run("main", '!toy-say code="c0de-value')
    assert not screen.room.run("main", "!toy-say code=c0de value-c0de")
    assert "c0de" not in screen.text() + screen.errors.export_text(clear=False)


def test_ctrl_c_stops_the_command_and_not_the_war_room(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    screen = Screen(toy(""" return_results('fine')"""))
    monkeypatch.setattr(screen.room.server, "run", interrupted)
    assert screen.room.run("main", "!toy-say") is False
    assert "Stopped" in screen.text()


def test_control_characters_of_a_blob_name_do_not_reach_the_terminal() -> None:
    console = Console(width=80, force_terminal=True, color_system=None)
    hostile = "a\x1b]0;owned\x07b\x1b[2J\x9b31m\u202e"
    with console.capture() as capture:
        console.print(render(f"### {hostile}\n|h|\n|---|\n| {hostile} |\n\n{hostile}"))
    shown = capture.get()
    assert not [char for char in "\x1b\x07\x9b\u202e" if char in shown.replace("\x1b[0m", "").replace("\x1b[1m", "")]


def test_brackets_and_backslashes_of_a_cell_are_shown_as_markdown_means_them() -> None:
    console = Console(width=80)
    with console.capture() as capture:
        console.print(render("|[h]|\n|---|\n| a[0] \\\\[b] \\[c\\] &lt;d> [/x] [red]r[/red] https\\://e |\n"))
    assert "a[0] \\[b] [c] <d> [/x] [red]r[/red] https://e" in capture.get()
    assert "[h]" in capture.get()


def test_json_has_nothing_but_json(toy: Toy) -> None:
    server = toy(
        "if demisto.args().get('text'):\n"
        "    return return_results(CommandResults(outputs={'A.B': {'c': 1}}, readable_output='done'))\n"
        "schedule = ScheduledCommand('toy-say', 10, {'text': 'x'}, 60)\n"
        "return_results(CommandResults(readable_output='please wait', scheduled_command=schedule))"
    )
    screen = Screen(server, as_json=True)
    assert screen.room.run("main", "!toy-say")
    assert "please wait" in screen.errors.export_text()
    assert json.loads(screen.text()) == {"A": {"B": {"c": 1}}}


def test_json_of_an_error_says_what_went_wrong(toy: Toy) -> None:
    screen = Screen(toy("return_error('the reason')"), as_json=True)
    assert not screen.room.run("main", "!toy-say")
    assert "the reason" in screen.errors.export_text()
    assert json.loads(screen.text()) == {"error": {"command": "toy-say", "message": "the reason"}}


def test_an_error_does_not_hide_what_came_before(toy: Toy) -> None:
    screen = Screen(toy("return_results('first part done')\nreturn_error('then it broke')"))
    assert not screen.room.run("main", "!toy-say")
    text = screen.text()
    assert "first part done" in text
    assert text.count("then it broke") == 1


def test_words_of_a_shell_are_taken_as_they_are() -> None:
    words = ("!toy-say", "text=two words", 'kinds=["red"]', "code=`x`")
    assert parse_words(words) == ("toy-say", {"text": "two words", "kinds": '["red"]', "code": "x"})
    assert parse_words(('!toy-say text="two words"',)) == ("toy-say", {"text": "two words"})


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("!c a=1 a=2", "a is given twice"),
        ('!c a="open', "a: the closing quote is missing"),
        ("!c a=`open", "a: the closing quote is missing"),
    ],
)
def test_lines_that_could_be_misread_are_refused(line: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_line(line)


@pytest.mark.parametrize(
    ("text", "offered"),
    [
        ("!toy-say text=x ", ["code=", "level=", "kinds="]),
        ("!toy-say kinds=red,g", ["green"]),
        ("!toy-say kinds=red,", ["green"]),
        ('!toy-say text="two wo', []),
        ("hel", ["help"]),
        ("instance m", ["main"]),
    ],
)
def test_completion_offers_what_fits(toy: Toy, text: str, offered: list[str]) -> None:
    found = ManifestCompleter(toy(""), words=PROMPT_WORDS).get_completions(Document(text), CompleteEvent())
    assert [completion.text for completion in found] == offered


def test_help_marks_what_changes_something_dangerous(toy: Toy) -> None:
    screen = Screen(toy(""))
    screen.room.help()
    assert "toy-say (!)" in screen.text()


def test_an_unknown_instance_is_named_and_a_defect_is_not_taken_for_it(
    toy: Toy, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = toy("return_results('fine')")
    with pytest.raises(Refused, match=r"no instance nobody\. Did you|no instance nobody\. It has: main"):
        server.run("nobody", "toy-say")
    with pytest.raises(Refused, match="no instance"):
        server.run("../nobody", "toy-say")


def test_a_file_of_this_machine_becomes_an_entry(toy: Toy, tmp_path: Path) -> None:
    (tmp_path / "sample file.bin").write_bytes(b"MZ")
    screen = Screen(toy("return_results(open(demisto.getFilePath(demisto.args()['text'])['path']).read())"))
    with create_pipe_input() as pipe:
        pipe.send_text(f"upload {tmp_path / 'sample file.bin'}\n!toy-say text=1@1\nupload {tmp_path / 'none'}\nexit\n")
        prompt(screen.room, "main", PromptSession(input=pipe, output=DummyOutput()))
    text = screen.text()
    assert "1@1" in text
    assert "MZ" in text
    assert "no file" in text


def test_a_required_field_of_the_form_is_asked_again(toy: Toy) -> None:
    answers = iter(["", "https://y", ""])
    asked: list[str] = []

    def ask(display: str, default: str, hidden: bool, choices: list[str]) -> str:
        asked.append(display)
        return next(answers)

    server = toy("")
    server.instances.fill_in("new", ask, [])
    assert asked == ["Server URL", "Server URL", "Key (or @FILE)"]
    assert server.instances.params("new")["url"] == "https://y"


def test_a_secret_of_several_lines_comes_from_a_file(toy: Toy, tmp_path: Path) -> None:
    pem = "-----BEGIN PRIVATE KEY-----\nMII\n-----END PRIVATE KEY-----\n"
    (tmp_path / "key.pem").write_text(pem)
    server = toy("")
    answers = iter(["https://y", f"@{tmp_path / 'key.pem'}"])
    server.instances.fill_in("new", lambda *_: next(answers), [])
    assert server.instances.params("new")["key"]["password"] == pem


def test_the_command_line(toy: Toy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit codes, the form and the list of instances, without a secret on the screen."""
    server = toy("return_results(demisto.args().get('text') or return_error('no text'))")
    monkeypatch.setattr(warroom, "Server", lambda _: server)
    runner = CliRunner()
    done = runner.invoke(warroom.main, ["!toy-say", "text=two words"])
    assert (done.exit_code, done.stdout.strip()) == (0, "two words")
    done = runner.invoke(warroom.main, ["!toy-say"])
    assert done.exit_code == 1
    assert "no text" in done.output
    done = runner.invoke(warroom.main, ["configure", "--instance", "second"], input="https://z\ns3cret-value\n")
    assert done.exit_code == 0, done.output
    done_list = runner.invoke(warroom.main, ["instances"])
    assert done_list.stdout.split() == ["main", "second"]
    assert "s3cret" not in done.output + done_list.output
    assert server.instances.params("second")["key"]["password"] == "s3cret-value"
    assert runner.invoke(warroom.main, ["test", "--instance", "none"]).exit_code == 1
    assert isinstance(warroom.main, click.Command)
