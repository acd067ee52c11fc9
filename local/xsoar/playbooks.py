"""Runs a playbook's YAML against the local server: `python -m local.xsoar.playbooks FILE --local --input Name=value`.

Tasks run one after the other, each when all that lead to it are done or out of reach. What is not known here is refused
by its name before anything runs, so that a playbook that passes means the same on a server.
"""

import contextlib
import graphlib
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import yaml
from rich.console import Console, Group
from rich.text import Text

from .context import as_text, in_text, lookup, merge_context, side_by_side
from .render import render, without_secrets
from .server import Refused, Run, Server
from .values import Unsupported, check_value, condition_holds, items, value_of
from .warroom import LOCAL_INSTANCES, local_azure

Json = dict[str, Any]
PASSING = ("start", "title", "section")
KINDS = (*PASSING, "regular", "condition", "playbook")
# Arguments of any task that the server itself takes. `using` names an instance.
SERVER_ARGUMENTS = (
    *("extend-context", "ignore-outputs", "execution-timeout", "retry-count", "retry-interval", "using-category"),
    *("raw-response", "auto-extract", "ttl", "run-on"),
)
NONE, DEFAULT, ERROR = "#none#", "#default#", "#error#"


class Failed(Exception):
    """A task ended in an error."""


@dataclass
class Step:
    """What became of a task: where it led, what its command left behind, what went wrong."""

    playbook: str
    task: str
    name: str
    kind: str
    command: str = ""
    args: Json = field(default_factory=dict)
    label: str = NONE
    run: Run | None = None
    error: str = ""


@dataclass
class Outcome:
    """A run of a playbook with those of its sub-playbooks. `failed`: the errors that nothing caught."""

    steps: list[Step] = field(default_factory=list)
    failed: list[Step] = field(default_factory=list)

    def names(self) -> list[str]:
        return [step.name for step in self.steps]


class Library:
    """Playbooks by name and by id."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._playbooks: dict[str, Json] = {}
        for path in paths:
            self.add(yaml.safe_load(path.read_text()))

    def add(self, playbook: Json) -> None:
        playbook = {**playbook, "tasks": {str(number): task for number, task in playbook["tasks"].items()}}
        self._playbooks[playbook["name"]] = self._playbooks[playbook.get("id") or playbook["name"]] = playbook

    def find(self, name: str) -> Json:
        """Unsupported for a playbook that is not there."""
        if name not in self._playbooks:
            raise Unsupported(f"The playbook {name} is not in the library.")
        return self._playbooks[name]


class Player:
    """Runs playbooks with one instance. The incident's context is the server's.

    answers: the label that a person chooses, by the name or the id of a task that asks. ask(question, labels): for
    those without. scripts: what stands in for a server's automations, by name: script(context, arguments). others: the
    same for commands that other integrations bring; a task that needs one which is not there is skipped if it says so.
    """

    def __init__(
        self,
        server: Server,
        library: Library,
        instance: str,
        *,
        answers: Mapping[str, str] | None = None,
        ask: Callable[[str, list[str]], str] | None = None,
        scripts: Mapping[str, Callable[[Json, Json], Any]] | None = None,
        others: Mapping[str, Callable[[Json, Json], Any]] | None = None,
        interval: float | None = None,
        on_step: Callable[[Step], None] = lambda step: None,
    ) -> None:
        self.server, self.library, self.instance = server, library, instance
        self.answers, self.ask, self.interval, self.on_step = answers or {}, ask, interval, on_step
        self.scripts, self.others = {**SCRIPTS, **(scripts or {})}, others or {}

    def play(self, name: str, inputs: Mapping[str, Any] | None = None) -> Outcome:
        """Run a playbook. Refused, before anything runs, for missing inputs and for what is not known here."""
        playbook = self.library.find(name)
        self.check(playbook)
        outcome = Outcome()
        self._play(playbook, dict(inputs or {}), outcome)
        return outcome

    # Before it runs

    def check(self, playbook: Json, within: tuple[str, ...] = ()) -> None:
        """Unsupported, with its name, for what a playbook or one below it uses and nobody here knows."""
        name = playbook["name"]
        if name in within:
            raise Unsupported(f"{name} runs itself.")
        order_of(playbook)
        for spec in playbook.get("inputs") or []:
            check_value(spec.get("value"), f"{name}, input {spec['key']}")
        for task in playbook["tasks"].values():
            self._check_task(task, f"{name}, task {task['id']} ({title_of(task)})")
            if task["type"] == "playbook":
                self.check(self.library.find(sub_playbook(task)), (*within, name))

    def _check_task(self, task: Json, where: str) -> None:
        if task["type"] not in KINDS:
            raise Unsupported(f"{where} is of the type {task['type']}, which is not known here.")
        loop = task.get("loop") or {}
        if loop and not loop.get("forEach"):
            raise Unsupported(f"{where} loops until a condition holds, which is not known here.")
        for name in task.get("scriptarguments") or {}:
            if name in SERVER_ARGUMENTS:
                raise Unsupported(f"{where} uses {name}, which is not known here.")
        check_value([task.get("scriptarguments"), task.get("conditions")], where)
        script = script_of(task)
        if script and script not in self.scripts:
            raise Unsupported(f"{where} runs the automation {script}, which is not known here.")
        command = command_of(task)
        if command and command not in self.server.commands and command not in self.others and not may_be_missing(task):
            raise Unsupported(f"{where} runs the command {command}, which is not known here.")

    # While it runs

    def _play(self, playbook: Json, given: Json, outcome: Outcome) -> None:
        view = {**self.server.context, "inputs": {}}
        inputs = {spec["key"]: value_of(spec.get("value"), view) for spec in playbook.get("inputs") or []} | given
        for spec in playbook.get("inputs") or []:
            if spec.get("required") and inputs.get(spec["key"]) in (None, "", []):
                raise Refused(f"{playbook['name']} needs the input {spec['key']}.")
        reached = {str(playbook.get("starttaskid", "0"))}
        for number in order_of(playbook):
            if number not in reached:
                continue
            task = playbook["tasks"][number]
            step = Step(playbook["name"], number, title_of(task), task["type"])
            outcome.steps.append(step)
            self._take(task, inputs, step, outcome)
            self.on_step(step)
            if step.label == "":
                outcome.failed.append(step)
            reached.update(map(str, (task.get("nexttasks") or {}).get(step.label, [])))

    def _take(self, task: Json, inputs: Json, step: Step, outcome: Outcome) -> None:
        """Do a task, and find where it leads: nowhere, if it failed and nothing catches that."""
        view = {**self.server.context, "inputs": inputs}
        try:
            if task["type"] == "condition":
                step.label = self._decide(task, view)
            elif task["type"] == "playbook":
                self._descend(task, view, outcome)
            elif task["type"] == "regular":
                self._act(task, view, step)
        except Failed as error:
            step.error = str(error)
            step.label = after_error(task)

    def _act(self, task: Json, view: Json, step: Step) -> None:
        step.args, script = arguments_of(task, view), script_of(task)
        if script:
            self.scripts[script](self.server.context, step.args)
            return
        step.command = command_of(task)
        if not step.command:
            return  # a task that a person does and ticks off
        if step.command not in self.server.commands:
            if step.command in self.others:
                self.others[step.command](self.server.context, step.args)
            return  # what no integration here has is skipped
        instance = as_text(step.args.pop("using", None) or self.instance)
        try:
            step.run = self.server.run(
                instance, step.command, step.args, follow=True, interval=self.interval, literal=True
            )
        except Refused as error:
            raise Failed(str(error)) from None
        if step.run.error:
            raise Failed(step.run.error)

    def _decide(self, task: Json, view: Json) -> str:
        labels = [label for label in task.get("nexttasks") or {} if label != DEFAULT]
        if script := script_of(task):
            found = as_text(self.scripts[script](view, arguments_of(task, view)))
            return found if found in labels else DEFAULT
        if task.get("conditions"):
            holding = (c["label"] for c in task["conditions"] if condition_holds(c["condition"], view))
            return next(holding, DEFAULT)
        return self._answer(task, labels, view)

    def _answer(self, task: Json, labels: list[str], view: Json) -> str:
        """What a person says. Refused if nobody answers, or with something else."""
        title = title_of(task)
        body = in_text(value_of((task.get("message") or {}).get("body"), view)) or title
        answer = self.answers.get(title) or self.answers.get(str(task["id"]))
        if answer is None and self.ask:
            answer = self.ask(body, labels)
        if answer not in labels:
            raise Refused(f"The task {title} asks: {body} It needs one of these answers: {', '.join(labels)}.")
        return answer

    def _descend(self, task: Json, view: Json, outcome: Outcome) -> None:
        """Run a sub-playbook, once for each item of its inputs if it loops."""
        playbook, given = self.library.find(sub_playbook(task)), arguments_of(task, view)
        before = len(outcome.failed)
        for inputs in each_item(given) if (task.get("loop") or {}).get("forEach") else [given]:
            if task.get("separatecontext", True):
                self._play_apart(playbook, inputs, outcome)
            else:
                self._play(playbook, inputs, outcome)
        if outcome.failed[before:]:
            errors = [step.error for step in outcome.failed[before:]]
            del outcome.failed[before:]
            raise Failed(f"{playbook['name']}: {'; '.join(errors)}")

    def _play_apart(self, playbook: Json, inputs: Json, outcome: Outcome) -> None:
        """With a context of its own, of which the playbook's outputs come into the context of whoever runs it."""
        outside: Json = self.server.context
        self.server.context = {}
        try:
            self._play(playbook, inputs, outcome)
            inside = self.server.context
        finally:
            self.server.context = outside
        for output in playbook.get("outputs") or []:
            merge_context(outside, {output["contextPath"]: lookup(inside, output["contextPath"])})


def order_of(playbook: Json) -> list[str]:
    """Task ids, each behind all that lead to it. Unsupported for a playbook that goes in circles or leads nowhere."""
    tasks: Json = playbook["tasks"]
    graph = graphlib.TopologicalSorter[str]({number: [] for number in tasks})
    edges = [(number, str(other)) for number, task in tasks.items() for other in leads_to(task)]
    for number, other in edges:
        if other not in tasks:
            raise Unsupported(f"{playbook['name']}, task {number} leads to {other}, which is not there.")
        graph.add(other, number)
    try:
        return list(graph.static_order())
    except graphlib.CycleError as error:
        raise Unsupported(f"{playbook['name']} goes in a circle: {' to '.join(error.args[1])}.") from None


def leads_to(task: Json) -> Iterator[Any]:
    for following in (task.get("nexttasks") or {}).values():
        yield from following


def title_of(task: Json) -> str:
    return str(task.get("task", {}).get("name") or task["type"])


def command_of(task: Json) -> str:
    """The command that a task runs; it is written Brand|||command."""
    about = task.get("task") or {}
    return str(about.get("script") or "").rpartition("|||")[2] if about.get("iscommand") else ""


def may_be_missing(task: Json) -> bool:
    """Whether a server skips the task where no integration has its command. One that names its brand is not meant."""
    return bool(task.get("skipunavailable")) and str(task["task"].get("script")).startswith("|||")


def script_of(task: Json) -> str:
    about = task.get("task") or {}
    return "" if about.get("iscommand") else str(about.get("scriptName") or about.get("script") or "")


def sub_playbook(task: Json) -> str:
    about = task.get("task") or {}
    return str(about.get("playbookName") or about.get("playbookId") or "")


def arguments_of(task: Json, view: Json) -> Json:
    found = {name: value_of(spec, view) for name, spec in (task.get("scriptarguments") or {}).items()}
    return {name: value for name, value in found.items() if value not in (None, "")}


def after_error(task: Json) -> str:
    """Where a task that failed leads to; empty for nowhere."""
    if not task.get("continueonerror"):
        return ""
    return ERROR if task.get("continueonerrortype") == "errorPath" else NONE


def each_item(inputs: Json) -> list[Json]:
    """Inputs for every round of a loop: lists are gone through side by side, the rest is the same in all."""
    lists = {name: value for name, value in inputs.items() if isinstance(value, list)}
    rest = {name: value for name, value in inputs.items() if name not in lists}
    return [rest | one for one in side_by_side(lists)]


# Automations that a server has and containment playbooks use


def set_value(context: Json, args: Json) -> None:
    """Set: puts a value at a key, in place of what was there, or with append=true after it."""
    path, value = as_text(args["key"]), args.get("value")
    if as_text(args.get("append", "false")).lower() == "true":
        merge_context(context, {path: value})
        return
    *parents, last = path.split(".")
    place = context
    for parent in parents:
        place = place.setdefault(parent, {})
    place[last] = value


def delete_context(context: Json, args: Json) -> None:
    for path in items(args.get("key")):
        *parents, last = as_text(path).split(".")
        place = lookup(context, ".".join(parents)) if parents else context
        if isinstance(place, dict):
            place.pop(last, None)


SCRIPTS: dict[str, Callable[[Json, Json], Any]] = {
    "Set": set_value,
    "DeleteContext": delete_context,
    "Print": lambda context, args: None,
    "IsIntegrationAvailable": lambda context, args: "yes",
}


# The command line


def pairs(words: tuple[str, ...]) -> dict[str, str]:
    return dict(word.partition("=")[::2] for word in words)


def shows(console: Console) -> Callable[[Step], None]:
    """Prints a step: its command with arguments, what came of it, and which way was taken."""

    def show(step: Step) -> None:
        if step.kind in PASSING:
            console.print(Group(Text(step.name if step.kind != "start" else "", "bold")))
            return
        words = " ".join([f"!{step.command}", *(f"{n}={without_secrets(as_text(v))}" for n, v in step.args.items())])
        way = f" -> {step.label or 'stopped'}" if step.label != NONE else ""
        console.print(Group(Text(f"{step.task}  {step.name}{way}", "cyan")))
        if step.command:
            console.print(Group(Text(f"   {words}", "dim", no_wrap=True, overflow="ignore")), crop=False)
        if step.error:
            console.print(Group(Text(step.error, "red")))
        elif step.run:
            console.print(render(without_secrets(step.run.text)), crop=False)
        elif step.kind == "regular" and not step.command and "value" in step.args:
            console.print(Group(Text(f"   {as_text(step.args['value'])}")))

    return show


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--name", default="", help="Which playbook to run; the first one by default.")
@click.option("--input", "inputs", multiple=True, help="An input of the playbook: Name=value.")
@click.option("--answer", "answers", multiple=True, help="An answer to a question: Task name=label.")
@click.option("--instance", default="local-app", help="The instance to use.")
@click.option(
    "--home", type=click.Path(path_type=Path), help="Where instances are kept; else an Azure on this machine."
)
def main(
    paths: tuple[Path, ...],
    name: str,
    inputs: tuple[str, ...],
    answers: tuple[str, ...],
    instance: str,
    home: Path | None,
) -> None:
    """Run a playbook of the files PATHS, which also hold its sub-playbooks."""
    console = Console()
    library = Library(paths)
    first = yaml.safe_load(paths[0].read_text())["name"]
    with contextlib.ExitStack() as stack:
        server = Server(home or Path(stack.enter_context(tempfile.TemporaryDirectory())))
        if instance in LOCAL_INSTANCES and home is None:
            stack.enter_context(local_azure(server))
        player = Player(server, library, instance, answers=pairs(answers), interval=0.2, on_step=shows(console))
        try:
            outcome = player.play(name or first, pairs(inputs))
        except Refused as error:
            sys.exit(str(error))
        sys.exit(1 if outcome.failed else 0)


if __name__ == "__main__":
    main()
