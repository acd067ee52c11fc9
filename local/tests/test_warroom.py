"""The war room: lines, refusals, completion, forms, files, and the loop that runs a script as a server does."""

import json
import stat
import threading
from pathlib import Path
from typing import Any

import pytest
from prompt_toolkit import PromptSession
from prompt_toolkit.completion import CompleteEvent
from prompt_toolkit.document import Document
from prompt_toolkit.input import create_pipe_input
from prompt_toolkit.output import DummyOutput
from rich.console import Console

from local.azure import LocalAzure
from local.xsoar.completion import ManifestCompleter
from local.xsoar.context import merge_context
from local.xsoar.instances import hidden_by
from local.xsoar.lines import parse_line
from local.xsoar.render import cells
from local.xsoar.server import MANIFEST, Refused, Run, Server
from local.xsoar.terminal import WarRoom
from local.xsoar.warroom import prompt

HEADER = "import demistomock as demisto  # noqa: F401\nfrom CommonServerPython import *  # noqa: F401\n"
GUARD = '\nif __name__ in ("__main__", "__builtin__", "builtins"):\n    main()\n'
TOY_MANIFEST = """
configuration:
- {name: url, display: Server URL, type: 0, required: true, defaultvalue: "https://x"}
- {name: key, display: API Key, displaypassword: API Key, type: 9, hiddenusername: true}
- {name: kind, display: Kind, type: 15, options: [A, B], defaultvalue: A}
- {name: only_b, display: Only for B, type: 0}
- {name: insecure, display: Trust any certificate (not secure), type: 8}
triggers:
- conditions: [{name: kind, operator: not_equal, value: B}]
  effects: [{name: only_b, action: {hidden: true}}]
script:
  commands:
  - name: toy-echo
    description: Echoes.
    arguments:
    - {name: text, description: What to echo., required: true}
    - {name: size, description: How loud., defaultValue: "1"}
    - {name: tags, description: Some tags., isArray: true}
    - {name: colour, description: A colour., auto: PREDEFINED, predefined: [red, green]}
    - {name: secret_round, description: Of a later round., hidden: true}
  - {name: toy-wait, description: Waits., arguments: [{name: round, description: Which round.}]}
"""


@pytest.fixture
def toy(tmp_path: Path) -> Any:
    """A server with a toy integration; `toy(body)` sets its script."""
    manifest, module = tmp_path / "Toy.yml", tmp_path / "Toy.py"
    manifest.write_text(TOY_MANIFEST)
    server = Server(tmp_path / "home", module, manifest)
    server.instances.save("main", {"key": {"identifier": "", "password": "hunter2-value"}})

    def set_script(body: str, *, header: str = HEADER, guard: str = GUARD) -> Server:
        module.write_text(header + body + guard)
        return server

    return set_script


ECHO = "def main():\n    return_results(CommandResults(readable_output=demisto.args().get('text')))\n"


@pytest.mark.parametrize(
    ("line", "command", "args"),
    [
        ("!c", "c", {}),
        ("c a=1 b=two", "c", {"a": "1", "b": "two"}),
        ('!c a="two words" b=`{"k": "v w"}` d=', "c", {"a": "two words", "b": '{"k": "v w"}', "d": ""}),
        ('!c a="say \\"hi\\"" u=https://x/?a=b&c=d', "c", {"a": 'say "hi"', "u": "https://x/?a=b&c=d"}),
    ],
)
def test_lines_are_read_as_a_server_reads_them(line: str, command: str, args: dict[str, str]) -> None:
    assert parse_line(line) == (command, args)


def test_a_line_that_is_none() -> None:
    with pytest.raises(ValueError, match="expected argument=value"):
        parse_line("!c just words")


@pytest.mark.parametrize(
    ("command", "args", "words"),
    [
        ("toy-eco", {}, "Did you mean toy-echo"),
        ("toy-echo", {}, "needs text"),
        ("toy-echo", {"text": "x", "colr": "red"}, "Did you mean colour"),
        ("toy-echo", {"text": "x", "colour": "blue"}, "not one of: red, green"),
    ],
)
def test_a_server_refuses_before_anything_runs(toy: Any, command: str, args: dict[str, str], words: str) -> None:
    server = toy("raise Exception\n")
    with pytest.raises(Refused, match=words):
        server.run("main", command, args)


def test_defaults_parameters_and_arguments_arrive_as_on_a_server(toy: Any) -> None:
    server = toy("def main():\n    return_results({'args': demisto.args(), 'params': demisto.params()})\n")
    found = server.run("main", "toy-echo", {"text": '`x` | \n"é" $(y)'}).entries[0]["Contents"]
    assert found["args"] == {"text": '`x` | \n"é" $(y)', "size": "1"}
    assert found["params"]["url"] == "https://x"
    assert found["params"]["insecure"] is False
    assert found["params"]["key"]["password"] == "hunter2-value"


@pytest.mark.parametrize(
    ("body", "header", "guard", "sign"),
    [
        (ECHO, "from __future__ import annotations\n" + HEADER, GUARD, "SyntaxError"),
        ("import sys\ndef main():\n    print('x', file=sys.stderr)\n", HEADER, GUARD, "TypeError"),
        ("raise RuntimeError('at module level')\n", HEADER, "", "RuntimeError: at module level"),
        (ECHO, "from CommonServerPython import CommandResults\n", GUARD, "ModuleNotFoundError"),
        ("import helper_of_our_own\n" + ECHO, HEADER, GUARD, "ModuleNotFoundError"),
        (
            "import typing\nclass A:\n    x: 'int'\ndef main():\n    typing.get_type_hints(A, include_extras=True)\n    __file__\n",
            HEADER,
            GUARD,
            "NameError",
        ),
    ],
)
def test_what_breaks_on_a_server_breaks_here(toy: Any, body: str, header: str, guard: str, sign: str) -> None:
    assert sign in toy(body, header=header, guard=guard).run("main", "toy-echo", {"text": "x"}).error


def test_a_guard_without_builtins_runs_nothing(toy: Any) -> None:
    run = toy(ECHO, guard='\nif __name__ == "__main__":\n    main()\n').run("main", "toy-echo", {"text": "x"})
    assert run.entries == []


def test_the_script_shares_the_platforms_names(toy: Any) -> None:
    """A name bound in the script replaces the platform's own, for the platform too."""
    body = "def format_cell(value):\n    return 'rebound'\n"
    server = toy(body + "def main():\n    return_results(tableToMarkdown('T', [{'a': 1}]))\n")
    assert "rebound" in server.run("main", "toy-echo", {"text": "x"}).text


def test_standard_output_is_reported_and_print_is_a_log(toy: Any) -> None:
    server = toy("def main():\n    print('a', 1)\n    sys.stdout.write('broken')\n    return_results('ok')\n")
    run = server.run("main", "toy-echo", {"text": "x"})
    assert run.stray == "broken"
    assert run.log == ["info: a 1"]
    assert run.text == "ok"


def test_an_array_for_an_argument_that_takes_one_value_runs_the_command_for_each(toy: Any) -> None:
    server = toy("def main():\n    return_results(json.dumps(demisto.args(), sort_keys=True))\n")
    run = server.run("main", "toy-echo", {"text": ["a", {"b": 1}], "size": ["9"], "tags": ["x", "y"]})
    assert [json.loads(entry["Contents"]) for entry in run.entries] == [
        {"size": "9", "tags": ["x", "y"], "text": "a"},
        {"tags": ["x", "y"], "text": '{"b": 1}'},
    ]


def test_arguments_read_the_context(toy: Any) -> None:
    server = toy(ECHO)
    server.context.update({"A": {"B": [{"n": "one"}, {"n": "two"}]}})
    assert server.run("main", "toy-echo", {"text": "${A.B.n}"}).text == "one\ntwo"
    assert server.run("main", "toy-echo", {"text": "first ${A.B.[0].n} of ${A.B.n}"}).text == "first one of one,two"
    with pytest.raises(Refused, match="needs text"):
        server.run("main", "toy-echo", {"text": "${A.C}"})
    with pytest.raises(Refused, match="not known here"):
        server.run("main", "toy-echo", {"text": "${A.B(val.n == 'one').n}"})


def test_an_error_entry_leaves_context(toy: Any) -> None:
    body = "    return_results(CommandResults(outputs={'A.B': 1}, readable_output='no', entry_type=4))\n"
    server = toy(f"def main():\n{body}")
    run = server.run("main", "toy-echo", {"text": "x"})
    assert run.error
    assert server.context == {"A": {"B": 1}}


@pytest.mark.parametrize("switch", ["argument", "server"])
def test_debug_mode_of_a_command(toy: Any, switch: str) -> None:
    body = (
        "    LOG('x')\n    import logging\n    logging.getLogger('lib').debug('hunter2-value %s', is_debug_mode())\n"
        "    try:\n        raise KeyError('why')\n    except KeyError:\n        return_error('failed')\n"
    )
    server = toy(f"def main():\n{body}")
    server.debug = switch == "server"
    run = server.run("main", "toy-echo", {"text": "x"} | ({"debug-mode": "true"} if switch == "argument" else {}))
    assert "info: python logging: DEBUG [lib] - <XX_REPLACED> True" in run.log
    assert "KeyError: 'why'" in run.error
    assert "debug-mode started" in run.log[0]
    server.debug = False
    run = server.run("main", "toy-echo", {"text": "x"})
    assert run.error == "failed"
    assert not [line for line in run.log if "python logging" in line]


THREADS = """
def main():
    import concurrent.futures
    support_multithreading()
    {again}
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        list(pool.map(demisto.debug, ["x" * 5000] * 200))
"""


def test_threads_call_the_server_behind_a_lock_that_is_made_once(toy: Any) -> None:
    run = toy(THREADS.format(again="")).run("main", "toy-echo", {"text": "x"})
    assert (run.error, len(run.log)) == ("", 200)
    error = toy(THREADS.format(again="support_multithreading()")).run("main", "toy-echo", {"text": "x"}).error
    assert "called twice in one command" in error


def test_calls_from_two_threads_without_the_lock_fail(toy: Any) -> None:
    body = """
def main():
    demisto._writing.acquire()  # as another thread holds it while it writes
    demisto.debug('from a second thread')
"""
    error = toy(body).run("main", "toy-echo", {"text": "x"}).error
    assert "call support_multithreading() first" in error


def test_files_are_saved_under_harmless_names(toy: Any) -> None:
    server = toy("def main():\n    return_results(fileResult('../../etc/pass wd#1', b'data'))\n")
    run = server.run("main", "toy-echo", {"text": "x"})
    assert [path.name for path in run.files] == ["pass wd_1"]
    assert run.files[0].read_bytes() == b"data"
    assert run.files[0].parent == server.files


def test_an_uploaded_file_is_found_by_its_entry_id(toy: Any, tmp_path: Path) -> None:
    server = toy("def main():\n    return_results(open(demisto.getFilePath(demisto.args()['text'])['path']).read())\n")
    (tmp_path / "evil.txt").write_text("sample")
    assert server.run("main", "toy-echo", {"text": server.add_file(tmp_path / "evil.txt")}).text == "sample"
    assert "ValueError" in server.run("main", "toy-echo", {"text": "99@1"}).error


COUNT = """
def main():
    for _ in range(5):
        while True:
            context, version = get_integration_context_with_version()
            try:
                set_integration_context({'n': context.get('n', 0) + 1}, version=version)
                break
            except ValueError:
                continue
    return_results('done')
"""


def test_no_update_of_the_context_is_lost_among_processes(toy: Any) -> None:
    server = toy(COUNT)
    runs: list[Run] = []
    threads = [threading.Thread(target=lambda: runs.append(server.run("main", "toy-wait"))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [run.text for run in runs] == ["done"] * 3
    path = server.home / "context-main.json"
    assert json.loads(path.read_text()) == {"version": 15, "context": {"n": 15}}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_test_button_has_no_context(toy: Any) -> None:
    server = toy("def main():\n    get_integration_context()\n")
    assert "not available" in server.run("main", "test-module").error


WAITING = """
def main():
    n = int(demisto.args().get('round', '0'))
    if n == 3:
        return_results(CommandResults(readable_output='arrived', outputs={'T.R(val.id == obj.id)': {'id': 1}}))
        return
    schedule = ScheduledCommand('toy-wait', 10, {'round': str(n + 1)}, 60)
    return_results(CommandResults(readable_output=f'round {n}', scheduled_command=schedule))
"""


def test_polling_is_followed_to_its_end(toy: Any) -> None:
    server = toy(WAITING)
    rounds: list[str] = []
    run = server.run("main", "toy-wait", follow=True, interval=0, on_round=lambda run: rounds.append(run.text))
    assert run.text == "arrived"
    assert rounds == ["round 0", "round 1", "round 2"]
    assert server.context == {"T": {"R": {"id": 1}}}
    assert server.run("main", "toy-wait").scheduled is not None


def test_outputs_are_merged_as_the_keys_say() -> None:
    context: dict[str, Any] = {}
    merge_context(
        context, {"A.B(val.id && val.id == obj.id)": [{"id": 1, "x": 1}, {"id": 2}], "A(true)": {"Next": "t"}}
    )
    merge_context(
        context, {"A.B(val.id && val.id == obj.id)": {"id": 1, "x": 2}, "A(true)": {"Next": ""}, "A.C": {"n": 1}}
    )
    merge_context(context, {"A.C": {"n": 2}})
    assert context == {"A": {"B": [{"id": 1, "x": 2}, {"id": 2}], "Next": "", "C": [{"n": 1}, {"n": 2}]}}


def test_the_form_asks_only_for_what_it_shows(toy: Any) -> None:
    server = toy(ECHO)
    asked: list[str] = []

    def ask(display: str, default: str, hidden: bool, choices: list[str]) -> str:
        asked.append(display)
        assert "hunter2" not in default, "a stored secret is never shown"
        return {"Kind": "B", "Only for B": "b!", "API Key (or @FILE)": ""}.get(display, default)

    triggers = server.manifest["triggers"]
    params = server.instances.fill_in("main", ask, triggers)
    assert asked == ["Server URL", "API Key (or @FILE)", "Kind", "Only for B", "Trust any certificate (not secure)"]
    assert params["key"]["password"] == "hunter2-value", "left empty, it stays"
    assert params["only_b"] == "b!"
    assert hidden_by(triggers, "only_b", {"kind": "A"})
    assert stat.S_IMODE(server.instances.path.stat().st_mode) == 0o600


def test_the_real_form_shows_the_fields_of_the_chosen_way_in(tmp_path: Path) -> None:
    server = Server(tmp_path)
    triggers = server.manifest.get("triggers") or []
    shown = {
        kind: {
            field["name"]
            for field in server.instances.configuration
            if not hidden_by(triggers, field["name"], {"auth_type": kind, "cloud": "Worldwide"})
        }
        for kind in ("Authorization Code", "Device Code", "Client Credentials", "Azure Managed Identities")
    }
    assert {"auth_code", "redirect_uri"} <= shown["Authorization Code"]
    assert not {"auth_code", "redirect_uri", "certificate", "credentials"} & shown["Device Code"]
    assert {"certificate", "credentials"} <= shown["Client Credentials"]
    assert "managed_identities_client_id" in shown["Azure Managed Identities"]
    assert "app_id" not in shown["Azure Managed Identities"]
    assert not any(name.startswith("custom_") for names in shown.values() for name in names)


def completions(server: Server, text: str) -> list[str]:
    found = ManifestCompleter(server).get_completions(Document(text), CompleteEvent())
    return [completion.text for completion in found]


def test_completion_from_the_manifest(toy: Any) -> None:
    server = toy(ECHO)
    assert completions(server, "!toy-e") == ["toy-echo"]
    assert completions(server, "!toy-echo ") == ["text=", "size=", "tags=", "colour="]
    assert completions(server, "!toy-echo text=x colour=r") == ["red"]
    assert completions(server, "help toy-w") == ["toy-wait"]


def room_of(server: Server) -> tuple[WarRoom, Console]:
    console = Console(record=True, width=200, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123 - lives as long as the test
    return WarRoom(server, console, interval=0), console


def test_the_prompt_runs_helps_and_leaves(toy: Any) -> None:
    server = toy(ECHO)
    room, console = room_of(server)
    with create_pipe_input() as pipe:
        pipe.send_text('!toy-echo text="hello room"\nhelp\nhelp toy-echo\nhelp nothing\ninstance\n!toy-eco\nexit\n')
        prompt(room, "main", PromptSession(input=pipe, output=DummyOutput()))
    console.file.close()
    text = console.export_text()
    for words in (
        "hello room",
        "Waits.",
        "What to echo.",
        "no command nothing",
        "in use: main",
        "Did you mean toy-echo",
    ):
        assert words in text
    assert "secret_round" not in text


def test_an_error_a_file_and_json(toy: Any) -> None:
    server = toy("def main():\n    return_error('hunter2-value went wrong')\n")
    room, console = room_of(server)
    assert room.run("main", "!toy-echo text=x") is False
    assert room.run("nobody", "!toy-echo text=x") is False
    toy("def main():\n    return_results(CommandResults(outputs={'A.B': {'c': 1}}, readable_output='x'))\n")
    room.as_json = True
    assert room.run("main", "!toy-echo text=x") is True
    console.file.close()
    text = console.export_text()
    assert "<XX_REPLACED> went wrong" in text
    assert "no instance nobody" in text
    assert '"c": 1' in text


def test_cells_of_a_table_are_unescaped() -> None:
    assert cells(r"| a\|b | c<br>d |  |") == ["a|b", "c\nd", ""]


def test_the_war_room_on_the_local_azure(azure: LocalAzure, server: Server) -> None:
    room, console = room_of(server)
    assert room.run("app", "!azure-storage-account-list limit=5")
    assert not room.run("app", "!azure-storage-account-list limit=many")
    console.file.close()
    text = console.export_text()
    assert "contosobackups" in text
    assert "a whole number" in text
    assert MANIFEST.exists()
