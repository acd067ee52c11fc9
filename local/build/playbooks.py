"""Write the playbooks of pack/ and their READMEs: `python -m local.build.playbooks [--check]`.

A playbook is described in a file of playbook_sources, without what follows from the rest of it: ids, positions, empty fields.
tasks are in their order, by a key of their own. Each does one thing:

  title: TEXT                          a heading
  command: NAME                        a command of the integration (azure-storage- is added) with its arguments in `with`
  other: NAME                          a command that other integrations may bring; skipped where none does
  ask: TEXT                            a person answers; `answers` says which answer leads where
  check: TEXT                          `if` has comparisons that must all hold; `then` and `else` say where it leads
  manual: TEXT                         a person does it
  note: TEXT                           prints a text

next: where it leads; the task below by default, and `done` at the end. fails: where it leads when it fails, or a text that
is printed before the work goes on. name: the title, where it is not the text. A value is a text, or a mapping with
`root`, `where` (comparisons), `get` and `apply` (transformers). A comparison is [path, operator, text]. What stands in
`shared` is for references within the file.
"""

import json
import sys
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import yaml

from .registry import ROOT
from .texts import Output, load

Json = dict[str, Any]
FOLDER = Path(__file__).resolve().parent / "playbook_sources"
PACK = ROOT / "pack"
BRAND = "Azure Storage"
PREFIX = "azure-storage-"
KINDS = ("title", "command", "other", "ask", "check", "manual", "note")
TYPES = {"title": "title", "ask": "condition", "check": "condition"}
REQUIRED = {True: "Required", False: "Optional"}
AUTOMATIONS = ("SetIfEmpty",)  # transformers that are automations, of the pack Filters And Transformers
TEXT_OPERATORS = ("isEqualString", "isNotEqualString", "containsGeneral", "startWith", "in")
COLUMN, ROW, LEFT = 440, 190, 450
NOTHING_SPECIAL: Json = {
    "timertriggers": [],
    "ignoreworker": False,
    "skipunavailable": False,
    "quietmode": 0,
    "isoversize": False,
    "isautoswitchedtoquietmode": False,
}


@dataclass
class Task:
    """A task on its way: what the source says, and where it leads, keys by label."""

    key: str
    spec: Json
    ways: dict[str, list[str]] = field(default_factory=dict)

    @property
    def kind(self) -> str:
        found = [kind for kind in KINDS if kind in self.spec]
        if len(found) != 1:
            raise ValueError(f"task {self.key}: one of {', '.join(KINDS)} is needed")
        return found[0]

    @property
    def name(self) -> str:
        return str(self.spec.get("name") or self.spec[self.kind])


def tasks_of(source: Json) -> list[Task]:
    """The tasks with the start, the end, and the notes that are printed on the way of a failure."""
    names = [*source["tasks"], "done"]
    found = [Task("start", {"title": ""}, {"#none#": [names[0]]})]
    for (key, spec), following in zip(source["tasks"].items(), names[1:], strict=True):
        task = Task(key, spec)
        task.ways = ways_of(task, following)
        found += [task, *failing(task, names)]
    return [*found, Task("done", {"title": "Done"})]


def ways_of(task: Task, following: str) -> dict[str, list[str]]:
    """Where a task that succeeds leads."""
    spec = task.spec
    if task.kind == "ask":
        return {answer: [way] for answer, way in spec["answers"].items()}
    if task.kind == "check":
        return {"yes": [spec["then"]], "#default#": [spec["else"]]}
    return {"#none#": [spec.get("next", following)]}


def failing(task: Task, names: list[str]) -> list[Task]:
    """Gives a task its way out, and returns the note that this needs. ValueError for a command that has none."""
    fails = task.spec.get("fails")
    if fails in names:
        task.ways["#error#"] = [fails]
        return []
    if fails:
        name = f"Note that this failed: {task.name}"
        note = Task(f"{task.key}-failed", {"note": fails, "name": name}, {"#none#": task.ways["#none#"]})
        task.ways["#error#"] = [note.key]
        return [note]
    if task.kind in ("command", "other"):
        raise ValueError(f"task {task.key} has no way out when it fails")
    return []


# Values


def value(spec: Any) -> Json:
    """A value as playbooks have it."""
    if not isinstance(spec, dict):
        return {"simple": str(spec)}
    found: Json = {"root": spec["root"]}
    if "where" in spec:
        found["filters"] = [[comparison(test)] for test in spec["where"]]
    if "get" in spec:
        found["accessor"] = spec["get"]
    if "apply" in spec:
        found["transformers"] = [transformer(each) for each in spec["apply"]]
    return {"complex": found}


def transformer(spec: Any) -> Json:
    """A name, or a name with its arguments."""
    name, args = next(iter(spec.items())) if isinstance(spec, dict) else (spec, {})
    found: Json = {"operator": name}
    if args:
        found["args"] = {key: operand(text) for key, text in args.items()}
    return found


def operand(text: Any) -> Json:
    """One side of a comparison or an argument: a path, or a text."""
    found: Json = {"value": {"simple": str(text)}}
    return found | ({"iscontext": True} if str(text).startswith(("inputs.", "AzureStorage.")) else {})


def comparison(spec: list[Any]) -> Json:
    left, operator, *right = spec
    found: Json = {"operator": operator, "left": {"value": value(left), "iscontext": True}}
    if right:
        found["right"] = operand(right[0])
    return found | ({"ignorecase": True} if operator in TEXT_OPERATORS else {})


# The playbook


def playbook(source: Json) -> Json:
    """A playbook as the platform takes it."""
    tasks = tasks_of(source)
    numbers = {task.key: str(number) for number, task in enumerate(tasks)}
    places = positions(tasks)
    shown = {
        number: described(source, task, numbers, places[task.key])
        for task, number in zip(tasks, numbers.values(), strict=True)
    }
    paper = {"linkLabelsPosition": {}, "paper": {"dimensions": dimensions(list(places.values()))}}
    return {
        "id": source["name"],
        "version": -1,
        "name": source["name"],
        "description": source["description"].strip(),
        "starttaskid": "0",
        "tasks": shown,
        "view": json.dumps(paper, indent=2),
        "inputs": [given(key, spec or {}) for key, spec in (source.get("inputs") or {}).items()],
        "outputs": [
            {"contextPath": row.context_path, "description": row.description, "type": row.type}
            for row in outputs(source)
        ],
        "tests": ["No tests"] if source.get("test") else [TEST_NAME],
        "fromversion": load().instance["integration"]["fromversion"],
    }


TEST_NAME = "Azure Storage - Test"


def given(key: str, spec: Json) -> Json:
    return {
        "key": key,
        "value": {"simple": str(spec["value"])} if "value" in spec else {},
        "required": bool(spec.get("required")),
        "description": spec["text"],
        "playbookInputQuery": None,
    }


def outputs(source: Json) -> Iterator[Output]:
    """The rows of the objects that a playbook returns."""
    texts = load()
    for name in source.get("outputs") or []:
        kind, _, path = name.partition(".")
        yield next(row for row in texts.objects[kind] if row.path == path)


def described(source: Json, task: Task, numbers: dict[str, str], place: tuple[int, int]) -> Json:
    number, spec, kind = numbers[task.key], task.spec, task.kind
    task_id = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{source['name']}/{task.key}"))
    shape = "start" if task.key == "start" else TYPES.get(kind, "regular")
    found: Json = {"id": number, "taskid": task_id, "type": shape, "task": inner(task, task_id, shape)}
    if task.ways:
        found["nexttasks"] = {label: [numbers[way] for way in ways] for label, ways in task.ways.items()}
    if args := spec.get("with"):
        found["scriptarguments"] = {name: value(text) for name, text in args.items()}
    if kind == "note":
        found["scriptarguments"] = {"value": {"simple": spec["note"]}}
    if kind == "check":
        found["conditions"] = [{"label": "yes", "condition": [[comparison(test)] for test in spec["if"]]}]
    if "#error#" in task.ways:
        found |= {"continueonerror": True, "continueonerrortype": "errorPath"}
    found |= {"separatecontext": False, "note": False, **NOTHING_SPECIAL}
    found["skipunavailable"] = kind == "other"
    found["view"] = json.dumps({"position": {"x": place[0], "y": place[1]}}, indent=2)
    return found


def inner(task: Task, task_id: str, shape: str) -> Json:
    spec, kind = task.spec, task.kind
    found: Json = {
        "id": task_id,
        "version": -1,
        "name": task.name,
        "description": str(spec.get("text", "")),
        "type": shape,
        "iscommand": False,
        "brand": "",
    }
    match kind:
        case "command":
            found |= {"script": f"{BRAND}|||{PREFIX}{spec[kind]}", "iscommand": True, "brand": BRAND}
        case "other":
            found |= {"script": f"|||{spec[kind]}", "iscommand": True}
        case "note":
            found |= {"scriptName": "Print"}
    return found


def positions(tasks: list[Task]) -> dict[str, tuple[int, int]]:
    """A row for each step away from the start; the tasks of a row stand side by side."""
    depths: dict[str, int] = {}
    for task in tasks:  # a task stands behind those that lead to it
        depth = depths.setdefault(task.key, 0)
        for way in (key for ways in task.ways.values() for key in ways):
            depths[way] = max(depths.get(way, 0), depth + 1)
    taken: dict[int, int] = {}
    found: dict[str, tuple[int, int]] = {}
    for task in tasks:
        row = depths[task.key]
        column = taken[row] = taken.get(row, -1) + 1
        found[task.key] = (LEFT + COLUMN * column, 50 + ROW * row)
    return found


def dimensions(places: list[tuple[int, int]]) -> Json:
    xs, ys = zip(*places, strict=True)
    return {"height": max(ys) - min(ys) + 100, "width": max(xs) - min(xs) + 380, "x": min(xs), "y": min(ys)}


# Files


class Dumper(yaml.SafeDumper):
    """No anchors, and texts of several lines as blocks, as the platform writes them."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None),
)


def as_yaml(found: Json) -> str:
    return yaml.dump(found, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=240)


def readme(source: Json, found: Json) -> str:
    """The README in the form that demisto-sdk gives it."""
    tasks = source["tasks"].values()
    own = {f"{PREFIX}{task['command']}" for task in tasks if "command" in task}
    scripts = ["Print"] if any(task.kind == "note" for task in tasks_of(source)) else []
    scripts += [name for name in AUTOMATIONS if f"operator: {name}\n" in as_yaml(found)]
    uses = {
        "sub-playbooks": [],
        "integrations": [BRAND] if own else [],
        "scripts": scripts,
        "commands": sorted(own | {task["other"] for task in tasks if "other" in task}),
    }
    inputs = [
        (row["key"], row["description"], row["value"].get("simple", ""), REQUIRED[row["required"]])
        for row in found["inputs"]
    ]
    outputs = [(row["contextPath"], row["description"], row["type"].lower()) for row in found["outputs"]]
    lines = [found["description"], "", "## Dependencies", ""]
    lines += ["This playbook uses the following sub-playbooks, integrations, and scripts.", ""]
    for kind, names in uses.items():
        listed = [f"* {name}" for name in names] or [f"This playbook does not use any {kind}."]
        lines += [f"### {kind.capitalize()}", "", *listed, ""]
    lines += ["## Playbook Inputs", "", "---", ""]
    lines += table("inputs", ("Name", "Description", "Default Value", "Required"), inputs)
    lines += ["", "## Playbook Outputs", "", "---", "", *table("outputs", ("Path", "Description", "Type"), outputs)]
    return "\n".join(lines) + "\n"


def table(what: str, headers: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    if not rows:
        return [f"There are no {what} for this playbook."]
    first = [[f"**{header}**" for header in headers], ["---"] * len(headers)]
    return [f"| {' | '.join(row)} |" for row in [*first, *rows]]


def files() -> dict[Path, str]:
    """What is in pack/, by its path."""
    found: dict[Path, str] = {}
    for path in sorted(FOLDER.glob("*.yml")):
        source = yaml.safe_load(path.read_text())
        made = playbook(source)
        folder = PACK / ("TestPlaybooks" if source.get("test") else "Playbooks")
        stem = f"playbook-{source['name'].replace(' - ', '_-_').replace(' ', '_')}"
        found[folder / f"{stem}.yml"] = as_yaml(made)
        if not source.get("test"):
            found[folder / f"{stem}_README.md"] = readme(source, made)
    return found


@click.command()
@click.option("--check", is_flag=True, help="Write nothing; fail if a file is not what its source says.")
def main(check: bool) -> None:
    """Write the playbooks of pack/."""
    made = files()
    there = {path for folder in ("Playbooks", "TestPlaybooks") for path in (PACK / folder).glob("*")}
    stale = [path for path, text in made.items() if not path.exists() or path.read_text() != text]
    if check:
        sys.exit(
            "\n".join(f"{path.relative_to(ROOT)} is not what its source says: run `make playbooks`" for path in stale)
            or 0
        )
    for path in there - set(made):
        path.unlink()
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(made[path])
        click.echo(f"{path.relative_to(ROOT)}: written")


if __name__ == "__main__":
    main()
