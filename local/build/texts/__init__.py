"""The descriptions of commands, arguments, outputs and instance fields, from the YAML files of this folder.

instance.yml        the integration, the fields of the instance form, and when they are shown
arguments.yml       arguments by name
objects.yml         the outputs of every object
commands/NOUN.yml   the commands of a page: description, what differs in its arguments, the objects it returns
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from ..registry import CommandFacts, checks, commands

FOLDER = Path(__file__).resolve().parent
SHOWN = "local/build/texts"
CHANGE = "Change"
OUTSIDE = {"File"}  # objects of the platform, which are not below AzureStorage
TYPES = ("Boolean", "Number", "Date", "Unknown")


class Output(NamedTuple):
    """One output: its path below its object, its type in the manifest, and its description."""

    object: str
    path: str
    type: str
    description: str

    @property
    def context_path(self) -> str:
        head = self.object if self.object in OUTSIDE else f"AzureStorage.{self.object}"
        return f"{head}.{self.path}" if self.path else head


class CommandTexts(NamedTuple):
    """A command as its page describes it. group: whose texts in arguments.yml come before the general ones.
    outputs: for each object the parts that it returns, or None for all.
    """

    name: str
    page: str
    group: str
    description: str
    arguments: Mapping[str, str]
    choices: Mapping[str, tuple[str, ...]]
    outputs: Mapping[str, tuple[str, ...] | None]

    @property
    def purpose(self) -> str:
        """The first sentence of the description."""
        first, dot, _ = self.description.partition(". ")
        return first + "." if dot else first


class Page(NamedTuple):
    name: str
    title: str
    intro: str
    commands: tuple[str, ...]


class Texts(NamedTuple):
    """All descriptions. `command`, `argument` and `outputs` give those of one command."""

    instance: Mapping[str, Any]
    arguments: Mapping[str, str]
    objects: Mapping[str, tuple[Output, ...]]
    commands: Mapping[str, CommandTexts]
    pages: tuple[Page, ...]

    def argument(self, command: CommandFacts, name: str) -> str:
        """The description of an argument. KeyError if there is none."""
        alias_of = next(argument.alias_of for argument in command.arguments if argument.name == name)
        if alias_of:
            return f"Alternative spelling of {alias_of}."
        own = self.commands[command.name]
        return own.arguments.get(name) or self.arguments[self.argument_key(own, name)]

    def argument_key(self, own: CommandTexts, name: str) -> str:
        """Where arguments.yml describes an argument of a command, if it does."""
        key = f"{own.group}.{name}"
        return key if key in self.arguments else name

    def outputs(self, command: CommandFacts) -> list[Output]:
        """The outputs of a command, those of its change included."""
        returned = dict(self.commands[command.name].outputs)
        if command.changes:
            returned[CHANGE] = None
        return [output for name, parts in returned.items() for output in selected(self.objects[name], parts)]


def selected(outputs: tuple[Output, ...], parts: tuple[str, ...] | None) -> list[Output]:
    """The outputs at or below the paths in parts; with paths that begin with a minus, all but those."""
    left_out = [part[1:] for part in parts or () if part.startswith("-")]
    if parts is None or left_out:
        return [output for output in outputs if not any(below(output.path, part) for part in left_out)]
    return [output for output in outputs if any(below(output.path, part) for part in parts)]


def below(path: str, part: str) -> bool:
    return path == part or path.startswith(f"{part}.")


class Loader(yaml.SafeLoader):
    """YAML in which the tag of a text is the type of an output: `!Date The expiry time.`"""


def typed(loader: Loader, node: yaml.ScalarNode) -> tuple[str, str]:
    return node.tag[1:], str(loader.construct_scalar(node))


for _type in TYPES:
    Loader.add_constructor(f"!{_type}", typed)


def read(path: Path) -> Any:
    return yaml.load(path.read_text(), Loader=Loader)  # noqa: S506 - a safe loader with four more tags


def load(folder: Path = FOLDER) -> Texts:
    """All texts of a folder."""
    order = {name: rank for rank, name in enumerate(commands())}
    found: dict[str, CommandTexts] = {}
    pages = []
    for path in sorted((folder / "commands").glob("*.yml")):
        content = read(path)
        found |= {name: command_texts(name, path.stem, entry) for name, entry in content["commands"].items()}
        pages.append(Page(path.stem, content["title"], content["intro"], tuple(content["commands"])))
    pages.sort(key=lambda page: min(order.get(name, len(order)) for name in page.commands))
    objects = {name: object_outputs(name, entry) for name, entry in read(folder / "objects.yml").items()}
    return Texts(read(folder / "instance.yml"), read(folder / "arguments.yml"), objects, found, tuple(pages))


def object_outputs(name: str, entry: Any) -> tuple[Output, ...]:
    """An object's outputs; an entry that is a text is an output by itself."""
    rows = entry.items() if isinstance(entry, dict) else [("", entry)]
    return tuple(Output(name, path, *(text if isinstance(text, tuple) else ("String", text))) for path, text in rows)


def command_texts(name: str, page: str, entry: Mapping[str, Any]) -> CommandTexts:
    arguments, choices = dict[str, str](), dict[str, tuple[str, ...]]()
    for argument, text in (entry.get("arguments") or {}).items():
        arguments[argument] = text["description"] if isinstance(text, dict) else text
        if isinstance(text, dict):
            choices[argument] = tuple(text["choices"])
    outputs: dict[str, tuple[str, ...] | None] = {}
    for item in entry.get("outputs") or []:
        outputs |= {key: tuple(parts) for key, parts in item.items()} if isinstance(item, dict) else {item: None}
    return CommandTexts(name, page, entry.get("group", ""), filled(entry["description"]), arguments, choices, outputs)


def filled(text: str) -> str:
    """A text with the number of posture checks in its place."""
    return text.replace("{checks}", str(len(checks())))


def problems(texts: Texts, registered: Mapping[str, CommandFacts]) -> list[str]:
    """What is described and not there, or there and not described: a sentence each that says where to add or remove it."""
    found = [
        f"{name} has no description: add it under `commands` in {SHOWN}/commands/<noun>.yml."
        for name in registered
        if name not in texts.commands
    ]
    known = {name: command for name, command in registered.items() if name in texts.commands}
    for command in known.values():
        found += missing_texts(texts, command)
    if not found:
        found += unused_texts(texts, known)
    return found


def missing_texts(texts: Texts, command: CommandFacts) -> Iterator[str]:
    own = texts.commands[command.name]
    for argument in command.arguments:
        described = argument.name in own.arguments or texts.argument_key(own, argument.name) in texts.arguments
        if not argument.alias_of and not described:
            yield (
                f"Argument {argument.name} of {command.name} has no description: add it under `arguments` of the command "
                f"in {SHOWN}/commands/{own.page}.yml, or to {SHOWN}/arguments.yml if other commands have it as well."
            )
    for name, parts in own.outputs.items():
        if name not in texts.objects:
            yield f"{command.name} returns {name}, which has no description: add the object to {SHOWN}/objects.yml."
            continue
        for part in parts or ():
            if not any(below(output.path, part.removeprefix("-")) for output in texts.objects[name]):
                yield f"{command.name} returns {name}.{part}, which is not in {SHOWN}/objects.yml."


def unused_texts(texts: Texts, known: Mapping[str, CommandFacts]) -> Iterator[str]:
    """Texts that reach no manifest."""
    used_arguments, used_outputs = set[str](), set[Output]()
    for name, own in texts.commands.items():
        if name not in known:
            yield f"{SHOWN}/commands/{own.page}.yml describes {name}, which AzureStorage.py does not have."
            continue
        names = {argument.name for argument in known[name].arguments if not argument.alias_of}
        used_arguments |= {texts.argument_key(own, argument) for argument in names - own.arguments.keys()}
        used_outputs |= set(texts.outputs(known[name]))
        for argument, text in own.arguments.items():
            if argument not in names:
                yield f"{SHOWN}/commands/{own.page}.yml describes argument {argument} of {name}, which the command does not have."
            if text == texts.arguments.get(texts.argument_key(own, argument)):
                yield f"{SHOWN}/commands/{own.page}.yml repeats the text of argument {argument} of {name}: remove it."
    yield from repeated_texts(texts)
    for argument in sorted(texts.arguments.keys() - used_arguments):
        yield f"{SHOWN}/arguments.yml describes {argument}, and no command uses the text: remove it."
    for output in (row for rows in texts.objects.values() for row in rows if row not in used_outputs):
        yield f"{SHOWN}/objects.yml describes {output.context_path}, and no command returns it: remove it."


def repeated_texts(texts: Texts) -> Iterator[str]:
    """Texts of an argument that two commands have word for word."""
    seen: dict[tuple[str, str], str] = {}
    for name, own in texts.commands.items():
        for item in own.arguments.items():
            first = seen.setdefault(item, name)
            if first != name:
                yield (
                    f"{first} and {name} describe argument {item[0]} in the same words: put the text into "
                    f"{SHOWN}/arguments.yml once, as GROUP.{item[0]}, and give both `group: GROUP`."
                )
