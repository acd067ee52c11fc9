"""Playbooks on this machine: order, conditions, values, errors, sub-playbooks, and refusals by name."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from local.azure import LocalAzure
from local.xsoar import playbooks
from local.xsoar.playbooks import Library, Outcome, Player, Step
from local.xsoar.server import Refused, Server
from local.xsoar.values import TRANSFORMERS, Unsupported, condition_holds, value_of

Json = dict[str, Any]
SCRIPT = """
import demistomock as demisto  # noqa: F401
from CommonServerPython import *  # noqa: F401
def main():
    args = demisto.args()
    if demisto.command() == 'toy-find':
        found = [{'id': n, 'name': name, 'kind': kind} for n, (name, kind) in enumerate((('a', 'x'), ('b', 'y'), ('c', 'y')))]
        return return_results(CommandResults(outputs_prefix='Toy.Account', outputs_key_field='id', outputs=found))
    if demisto.command() == 'toy-wait' and int(args.get('round', 0)) < 2:
        later = ScheduledCommand('toy-wait', 10, {'round': int(args.get('round', 0)) + 1}, 60)
        return return_results(CommandResults(readable_output='waiting', scheduled_command=later))
    if args.get('name') == 'bad':
        return return_error('bad is refused')
    return_results(CommandResults(outputs_prefix='Toy.Done', outputs=args, readable_output='done'))
if __name__ in ("__main__", "__builtin__", "builtins"):
    main()
"""
MANIFEST = """
configuration: []
script:
  commands:
  - {name: toy-find, description: Finds., arguments: []}
  - {name: toy-wait, description: Waits., arguments: [{name: round, description: Which.}]}
  - name: toy-do
    description: Does.
    arguments: [{name: name, description: What.}, {name: names, description: Which., isArray: true}, {name: note, description: A note.}]
"""


@pytest.fixture
def server(tmp_path: Path) -> Server:
    manifest, module = tmp_path / "Toy.yml", tmp_path / "Toy.py"
    manifest.write_text(MANIFEST)
    module.write_text(SCRIPT)
    found = Server(tmp_path / "home", module, manifest)
    found.instances.save("main", {})
    found.instances.save("other", {})
    return found


def task(number: str, kind: str, following: Json | None = None, **more: Any) -> Json:
    about = {"name": more.pop("name", f"{kind} {number}"), **more.pop("task", {})}
    paths = {label: [to] if isinstance(to, str) else to for label, to in (following or {}).items()}
    return {"id": number, "type": kind, "task": about, "nexttasks": paths, **more}


def command(number: str, name: str, following: Json | None = None, **more: Any) -> Json:
    args = {key: spec if isinstance(spec, dict) else {"simple": spec} for key, spec in more.pop("args", {}).items()}
    about = {"script": f"Toy|||{name}", "iscommand": True}
    return task(number, "regular", following, name=name, task=about, scriptarguments=args, **more)


def script(number: str, name: str, following: Json | None = None, **args: Any) -> Json:
    specs = {key: {"simple": value} for key, value in args.items()}
    return task(number, "regular", following, name=name, task={"scriptName": name}, scriptarguments=specs)


def playbook(*tasks: Json, name: str = "P", **more: Any) -> Json:
    start = task("0", "start", {"#none#": ["1"]})
    text = yaml.safe_dump(
        {"id": name, "name": name, "starttaskid": "0", "tasks": {t["id"]: t for t in (start, *tasks)}, **more},
        sort_keys=False,
    )
    found: Json = yaml.safe_load(text)
    return found


def library(*found: Json) -> Library:
    result = Library([])
    for one in found:
        result.add(one)
    return result


def play(server: Server, *found: Json, inputs: Json | None = None, **options: Any) -> Outcome:
    return Player(server, library(*found), "main", interval=0, **options).play(found[0]["name"], inputs)


def left(path: str) -> Json:
    return {"value": {"simple": path}, "iscontext": True}


def compare(operator: str, path: str, right: str = "", **more: Any) -> Json:
    return {"operator": operator, "left": left(path), "right": {"value": {"simple": right}}, **more}


def test_tasks_run_in_order_and_a_join_waits_for_all_that_lead_to_it(server: Server) -> None:
    shown: list[str] = []
    outcome = play(
        server,
        playbook(
            task("1", "title", {"#none#": ["2", "3"]}, name="Section"),
            command("2", "toy-do", {"#none#": "4"}, args={"name": "first"}),
            command("3", "toy-wait", {"#none#": "4"}),
            task("4", "regular", {"#none#": "5"}, name="A person does this"),
            command("5", "toy-do", args={"note": "names: ${Toy.Done.name}"}),
        ),
        on_step=lambda step: shown.append(step.task),
    )
    assert outcome.failed == []
    assert (shown[0], shown[1], set(shown[2:4]), shown[4:]) == ("0", "1", {"2", "3"}, ["4", "5"])
    done = server.context["Toy"]["Done"]
    assert (len(done), {"name": "first"} in done, {"round": "2"} in done) == (3, True, True)
    assert done[-1] == {"note": "names: first"}


def test_an_array_runs_a_command_for_each_item_unless_the_argument_is_one(server: Server) -> None:
    names = {"complex": {"root": "Toy.Account", "accessor": "name"}}
    play(
        server,
        playbook(
            command("1", "toy-find", {"#none#": "2"}),
            command("2", "toy-do", {"#none#": "3"}, args={"name": names}),
            command("3", "toy-do", args={"names": names}),
        ),
    )
    assert server.context["Toy"]["Done"] == [{"name": "a"}, {"name": "b"}, {"name": "c"}, {"names": ["a", "b", "c"]}]


@pytest.mark.parametrize(("kind", "taken"), [("y", "many"), ("x", "one"), ("z", "else")])
def test_a_condition_takes_the_first_label_that_holds(server: Server, kind: str, taken: str) -> None:
    of_kind = {"root": "Toy.Account", "filters": [[compare("isEqualString", "Toy.Account.kind", "${inputs.Kind}")]]}
    counted = {"complex": {**of_kind, "transformers": [{"operator": "count"}]}}
    conditions = [
        {
            "label": "many",
            "condition": [
                [{"operator": "greaterThan", "left": {"value": counted}, "right": {"value": {"simple": "1"}}}]
            ],
        },
        {
            "label": "one",
            "condition": [
                [{"operator": "isEqualNumber", "left": {"value": counted}, "right": {"value": {"simple": "1"}}}]
            ],
        },
    ]
    outcome = play(
        server,
        playbook(
            command("1", "toy-find", {"#none#": "2"}),
            task("2", "condition", {"many": "3", "one": "4", "#default#": "5"}, conditions=conditions),
            *(task(number, "title", name=name) for number, name in (("3", "many"), ("4", "one"), ("5", "else"))),
            inputs=[{"key": "Kind", "value": {}, "required": True}],
        ),
        inputs={"Kind": kind},
    )
    assert outcome.names()[-1] == taken
    assert outcome.steps[2].label == (taken if taken != "else" else "#default#")


ASKING = task(
    "1", "condition", {"Yes": "2", "No": "3"}, name="Contain?", message={"body": {"simple": "Contain ${inputs.A}?"}}
)


@pytest.mark.parametrize("answers", [{"Contain?": "No"}, {"1": "No"}])
def test_a_question_is_answered(server: Server, answers: dict[str, str]) -> None:
    found = playbook(ASKING, task("2", "title", name="contained"), task("3", "title", name="left alone"))
    assert play(server, found, answers=answers).names()[-1] == "left alone"
    asked: list[Any] = []

    def ask(question: str, labels: list[str]) -> str:
        asked.append((question, labels))
        return "Yes"

    assert play(server, found, ask=ask, inputs={"A": "x"}).names()[-1] == "contained"
    assert asked == [("Contain x?", ["Yes", "No"])]


def test_a_question_that_nobody_answers_is_told(server: Server) -> None:
    found = playbook(ASKING, task("2", "title"), task("3", "title"))
    for answers in ({}, {"Contain?": "Maybe"}):
        with pytest.raises(Refused, match=r"Contain\? asks: Contain \? It needs one of these answers: Yes, No"):
            play(server, found, answers=answers)


@pytest.mark.parametrize(
    ("more", "names", "failed"),
    [
        ({}, ["toy-do"], True),
        ({"continueonerror": True}, ["toy-do", "went on"], False),
        ({"continueonerror": True, "continueonerrortype": ""}, ["toy-do", "went on"], False),
        ({"continueonerror": True, "continueonerrortype": "errorPath"}, ["toy-do", "caught"], False),
    ],
)
def test_the_ways_out_of_an_error(server: Server, more: Json, names: list[str], failed: bool) -> None:
    outcome = play(
        server,
        playbook(
            command("1", "toy-do", {"#none#": "2", "#error#": "3"}, args={"name": "bad"}, **more),
            task("2", "title", name="went on"),
            task("3", "title", name="caught"),
        ),
    )
    assert outcome.names()[1:] == names
    assert [step.error for step in outcome.failed] == (["bad is refused"] if failed else [])
    assert outcome.steps[1].error == "bad is refused"


def test_arguments_that_a_server_refuses_are_an_error_of_the_task(server: Server) -> None:
    outcome = play(server, playbook(command("1", "toy-do", args={"nme": "x"})))
    assert "no argument nme" in outcome.failed[0].error


SUB = {
    "name": "Sub",
    "inputs": [{"key": "Name", "value": {"simple": "default"}, "required": True}, {"key": "Note", "value": {}}],
    "outputs": [{"contextPath": "Toy.Done"}],
}


def sub(**more: Any) -> Json:
    specs = {"Name": {"simple": "${inputs.Names}"}, "Note": {"simple": "of ${Toy.Account.name}"}}
    return task("2", "playbook", {"#none#": "3"}, task={"playbookName": "Sub"}, scriptarguments=specs, **more)


def doing(**more: Any) -> Json:
    done = command("1", "toy-do", {"#none#": "2"}, args={"name": "${inputs.Name}", "note": "${inputs.Note}"})
    private = script("2", "Set", key="Private", value="${Toy.Done.name} ${Toy.Account.name}")
    return playbook(done, private, **{**SUB, **more})


def test_a_sub_playbook_has_inputs_outputs_and_a_context_of_its_own(server: Server) -> None:
    main = playbook(command("1", "toy-find", {"#none#": "2"}), sub(), task("3", "title", name="end"))
    outcome = play(server, main, doing(), inputs={"Names": "n"})
    assert outcome.names()[-1] == "end"
    assert server.context["Toy"]["Done"] == {"name": "n", "note": "of a,b,c"}
    assert "Private" not in server.context
    shared = playbook(sub(separatecontext=False), name="P2")
    shared["tasks"]["0"]["nexttasks"] = {"#none#": ["2"]}
    shared["tasks"]["2"]["nexttasks"] = {}
    play(server, shared, doing(), inputs={"Names": "m"})
    assert server.context["Private"] == "n,m a,b,c"


def test_a_sub_playbook_loops_over_its_inputs(server: Server) -> None:
    main = playbook(sub(loop={"forEach": True}), task("3", "title"))
    main["tasks"]["0"]["nexttasks"] = {"#none#": ["2"]}
    play(server, main, doing(), inputs={"Names": ["k", "l"]})
    assert [done["name"] for done in server.context["Toy"]["Done"]] == ["k", "l"]


def test_the_error_of_a_sub_playbook_is_its_tasks(server: Server) -> None:
    main = playbook(
        sub(continueonerror=True, continueonerrortype="errorPath"),
        task("3", "title"),
        task("4", "title", name="caught"),
    )
    main["tasks"]["0"]["nexttasks"] = {"#none#": ["2"]}
    main["tasks"]["2"]["nexttasks"]["#error#"] = ["4"]
    outcome = play(server, main, doing(), inputs={"Names": "bad"})
    assert (outcome.names()[-1], outcome.failed) == ("caught", [])
    assert next(step for step in outcome.steps if step.task == "2").error == "Sub: bad is refused"


def test_required_inputs_and_defaults(server: Server) -> None:
    with pytest.raises(Refused, match="Sub needs the input Name"):
        play(server, doing(), inputs={"Name": ""})
    play(server, doing())
    assert server.context["Private"].startswith("default")


def test_set_delete_and_another_instance(server: Server) -> None:
    play(
        server,
        playbook(
            script("1", "Set", {"#none#": "2"}, key="A.B", value="one"),
            script("2", "Set", {"#none#": "3"}, key="A.B", value="two", append="true"),
            script("3", "Set", {"#none#": "4"}, key="C", value="x"),
            script("4", "DeleteContext", {"#none#": "5"}, key="C"),
            command("5", "toy-do", args={"using": "other", "note": "${A.B}"}),
        ),
    )
    assert server.context["A"] == {"B": ["one", "two"]}
    assert "C" not in server.context


def test_a_value_from_a_stranger_is_not_read_as_a_reference(server: Server) -> None:
    server.context["Secret"] = "not to be sent"
    play(server, playbook(command("1", "toy-do", args={"note": "${inputs.Name}"})), inputs={"Name": "${Secret}"})
    assert server.context["Toy"]["Done"] == {"note": "${Secret}"}


# Values

CONTEXT = {
    "A": {"L": ["x", "y", "x"], "N": 5, "E": "", "T": True, "O": [{"k": "p", "v": 1}, {"k": "q", "v": 2}, {"k": "P"}]},
    "inputs": {"W": "q"},
}


@pytest.mark.parametrize(
    ("transformers", "value"),
    [
        ([], ["x", "y", "x"]),
        ([("uniq", {})], ["x", "y"]),
        ([("first", {})], "x"),
        ([("FirstArrayElement", {})], "x"),
        ([("uniq", {}), ("LastArrayElement", {})], "y"),
        ([("atIndex", {"index": "1"})], "y"),
        ([("atIndex", {"index": "7"})], None),
        ([("append", {"item": "z"}), ("join", {"separator": "; "})], "x; y; x; z"),
        ([("count", {})], 3),
        ([("concat", {"prefix": "<", "suffix": ">"}), ("uniq", {}), ("toUpperCase", {})], ["<X>", "<Y>"]),
        ([("join", {}), ("splitAndTrim", {"delimiter": ","}), ("atIndex", {"index": "-1"})], "x"),
        ([("atIndex", {"index": "9"}), ("SetIfEmpty", {"defaultValue": "none"})], "none"),
    ],
)
def test_transformers(transformers: list[tuple[str, dict[str, str]]], value: Any) -> None:
    specs = [
        {"operator": name, "args": {key: {"value": {"simple": text}} for key, text in args.items()}}
        for name, args in transformers
    ]
    assert value_of({"complex": {"root": "A", "accessor": "L", "transformers": specs}}, CONTEXT) == value


def test_an_argument_of_a_transformer_reads_the_context() -> None:
    item = {"value": {"simple": "inputs.W"}, "iscontext": True}
    spec = {"complex": {"root": "${A.L}", "transformers": [{"operator": "append", "args": {"item": item}}]}}
    assert value_of(spec, CONTEXT) == ["x", "y", "x", "q"]


@pytest.mark.parametrize(
    ("groups", "value"),
    [
        ([[compare("isEqualString", "A.O.k", "p")]], "p"),
        ([[compare("isEqualString", "A.O.k", "p", ignorecase=True)]], ["p", "P"]),
        ([[compare("isEqualString", "A.O.k", "p"), compare("isEqualString", "A.O.k", "q")]], ["p", "q"]),
        ([[compare("isExists", "A.O.v")], [compare("isNotEqualString", "A.O.k", "p")]], "q"),
        ([[{"operator": "isEqualString", "left": left("A.O.k"), "right": left("inputs.W")}]], "q"),
        ([[compare("isEqualString", "A.O.k", "none")]], None),
    ],
)
def test_filters(groups: list[list[Json]], value: Any) -> None:
    assert value_of({"complex": {"root": "A.O", "filters": groups, "accessor": "k"}}, CONTEXT) == value


@pytest.mark.parametrize(
    ("operator", "path", "right", "holds"),
    [
        ("isEqualString", "A.L", "y", True),
        ("isEqualString", "A.E", "y", False),
        ("isEqualString", "A.T", "true", True),
        ("isNotEqualString", "A.N", "5", False),
        ("isNotEmpty", "A.L", "", True),
        ("isNotEmpty", "A.E", "", False),
        ("isEmpty", "A.none.at.all", "", True),
        ("isTrue", "A.T", "", True),
        ("isTrue", "A.N", "", False),
        ("isFalse", "A.none", "", False),
        ("isExists", "A.E", "", True),
        ("isExists", "A.none", "", False),
        ("isNotExists", "A.none", "", True),
        ("containsGeneral", "A.L", "y", True),
        ("containsGeneral", "A.L", "yy", False),
        ("containsString", "A.L", "x", True),
        ("notContainsGeneral", "A.L", "z", True),
        ("greaterThan", "A.N", "4.5", True),
        ("lessThanOrEqual", "A.N", "4", False),
        ("greaterThan", "A.E", "4", False),
        ("startWith", "inputs.W", "q", True),
        ("endWith", "inputs.W", "r", False),
        ("match", "A.N", r"^\d$", True),
        ("in", "inputs.W", "p, q", True),
        ("notIn", "inputs.W", "p, q", False),
    ],
)
def test_operators(operator: str, path: str, right: str, holds: bool) -> None:
    assert condition_holds([[compare(operator, path, right)]], CONTEXT) is holds


# Refusals


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (task("1", "collection"), "type collection"),
        (task("1", "condition", conditions=[{"label": "x", "condition": [[compare("isBefore", "A.B")]]}]), "isBefore"),
        (
            command("1", "toy-do", args={"name": {"complex": {"root": "A", "transformers": [{"operator": "Cut"}]}}}),
            "Cut",
        ),
        (command("1", "toy-do", args={"name": "${A(val.x == 1).y}"}), "form that is not known here"),
        (command("1", "toy-do", args={"extend-context": "A=B"}), "extend-context"),
        (command("1", "other-command"), "other-command"),
        (script("1", "SomeAutomation"), "SomeAutomation"),
        (task("1", "playbook", task={"playbookName": "Nowhere"}), "Nowhere"),
        (task("1", "playbook", task={"playbookName": "P"}), "P runs itself"),
        (task("1", "playbook", task={"playbookName": "P"}, loop={"exitCondition": "x"}), "loops until"),
        (task("1", "title", {"#none#": "0"}), "in a circle"),
        (task("1", "title", {"#none#": "8"}), "leads to 8"),
    ],
)
def test_what_is_not_known_is_refused_by_name_before_anything_runs(server: Server, one: Json, words: str) -> None:
    steps: list[Step] = []
    with pytest.raises(Unsupported, match=words):
        play(server, playbook(one), on_step=steps.append)
    assert steps == []


def test_every_transformer_stands_an_empty_value() -> None:
    for name, transform in TRANSFORMERS.items():
        assert transform(None, {}) in (None, [], "", 0, ["null"]), name


def test_an_automation_can_be_brought_along(server: Server) -> None:
    rate: Callable[[Json, Json], Any] = lambda context, args: context["inputs"]["Score"]  # noqa: E731
    asks = task("1", "condition", {"high": "2", "#default#": "3"}, task={"scriptName": "Rate"})
    found = playbook(asks, task("2", "title", name="act"), task("3", "title", name="wait"))
    assert play(server, found, scripts={"Rate": rate}, inputs={"Score": "high"}).names()[-1] == "act"
    assert play(server, found, scripts={"Rate": rate}, inputs={"Score": "low"}).names()[-1] == "wait"


# With the integration


def reputation(script: str, *, skip: bool = True) -> Json:
    return task(
        "1",
        "regular",
        {"#none#": "2"},
        name="Reputation",
        task={"script": script, "iscommand": True},
        scriptarguments={"file": {"simple": "${inputs.Hash}"}},
        skipunavailable=skip,
    )


def test_a_command_that_no_integration_has_is_skipped_if_the_task_says_so(server: Server) -> None:
    found = playbook(reputation("|||file"), task("2", "title", name="went on"))
    outcome = play(server, found, inputs={"Hash": "ab12"})
    assert (outcome.failed, outcome.names()[-1], server.context) == ([], "went on", {})
    for refused in (reputation("|||file", skip=False), reputation("Toy|||toy-typo")):
        with pytest.raises(Unsupported, match="runs the command"):
            play(server, playbook(refused, task("2", "title")))


def test_something_stands_in_for_the_command_of_another_integration(server: Server) -> None:
    def file(context: Json, args: Json) -> None:
        context["DBotScore"] = {"Indicator": args["file"], "Score": 3}

    found = playbook(reputation("|||file"), task("2", "title"))
    play(server, found, inputs={"Hash": "ab12"}, others={"file": file})
    assert server.context["DBotScore"] == {"Indicator": "ab12", "Score": 3}


TRIAGE = """
id: Triage
name: Triage
starttaskid: "0"
inputs:
- {key: AccountName, value: {}, required: true}
tasks:
  "0": {id: "0", type: start, task: {name: ""}, nexttasks: {"#none#": ["1"]}}
  "1":
    id: "1"
    type: regular
    task: {name: Find the account, script: "Azure Storage|||azure-storage-account-find", iscommand: true}
    scriptarguments: {account_name: {simple: "${inputs.AccountName}"}}
    nexttasks: {"#none#": ["2"], "#error#": ["4"]}
    continueonerror: true
    continueonerrortype: errorPath
  "2":
    id: "2"
    type: condition
    task: {name: "Open to everybody?"}
    conditions:
    - label: "yes"
      condition:
      - - {operator: isTrue, left: {value: {simple: AzureStorage.StorageAccount.properties.allowBlobPublicAccess}, iscontext: true}}
    nexttasks: {"yes": ["3"]}
  "3":
    id: "3"
    type: regular
    task: {name: Show what isolation would do, script: "|||azure-storage-account-isolate", iscommand: true}
    scriptarguments:
      account_name: {complex: {root: AzureStorage.StorageAccount, accessor: name, transformers: [{operator: FirstArrayElement}]}}
      own_ip: {simple: 203.0.113.7}
      dry_run: {simple: "true"}
  "4": {id: "4", type: title, task: {name: Not found}}
"""


def test_a_playbook_drives_the_integration(azure: LocalAzure, tmp_path: Path) -> None:
    server = Server(tmp_path / "server")
    server.environment = azure.environment()
    server.instances.save("app", azure.instance("Client Credentials"))
    player = Player(server, library(yaml.safe_load(TRIAGE)), "app", interval=0)
    outcome = player.play("Triage", {"AccountName": "contosoweb"})
    assert outcome.names()[-1] == "Show what isolation would do"
    assert outcome.steps[-1].run is not None
    assert outcome.steps[-1].args["account_name"] == "contosoweb"
    assert "planned" in outcome.steps[-1].run.text


def test_the_command_line_says_what_is_missing(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(playbooks, "Server", lambda home: server)
    path = tmp_path / "p.yml"
    path.write_text(
        yaml.safe_dump(
            playbook(ASKING, command("2", "toy-do", args={"name": "${inputs.A}"}), task("3", "title")), sort_keys=False
        )
    )
    words = [str(path), "--home", str(tmp_path), "--instance", "main", "--input", "A=bad"]
    done = CliRunner().invoke(playbooks.main, words)
    assert (done.exit_code, "needs one of these answers: Yes, No" in done.output) == (1, True)
    done = CliRunner().invoke(playbooks.main, [*words, "--answer", "Contain?=Yes"])
    assert (done.exit_code, "bad is refused" in done.output) == (1, True)
    done = CliRunner().invoke(playbooks.main, [*words, "--answer", "Contain?=No"])
    assert done.exit_code == 0
