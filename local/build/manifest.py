"""Write AzureStorage.yml and the reference in docs/ from the code and its texts: `python -m local.build.manifest [--check]`.

Types, defaults, choices, isArray, execution, required and permissions come from AzureStorage.py, descriptions from
local/build/texts.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import click
import yaml

from . import reference
from .registry import ROOT, ArgumentFacts, CommandFacts, commands
from .texts import Texts, filled, load, problems

MANIFEST = "AzureStorage.yml"
WIDTH = 240  # a description of normal length stays on one line
Json = dict[str, Any]


class Inline(list[Any]):
    """A list that is written on one line."""


class Row(dict[str, Any]):
    """A dictionary that is written on one line: an output is a row of data, and there are more than a thousand."""


class Dumper(yaml.SafeDumper):
    """No anchors: the platform's tools do not read them."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


Dumper.add_representer(
    Inline, lambda dumper, data: dumper.represent_sequence("tag:yaml.org,2002:seq", data, flow_style=True)
)
Dumper.add_representer(
    Row, lambda dumper, data: dumper.represent_mapping("tag:yaml.org,2002:map", data, flow_style=True)
)


def manifest(texts: Texts) -> Json:
    """The manifest as the platform takes it."""
    integration = texts.instance["integration"]
    return {
        "commonfields": {"id": integration["id"], "version": -1},
        "name": integration["id"],
        "display": integration["display"],
        "category": integration["category"],
        "description": filled(integration["description"]),
        "provider": integration["provider"],
        "sectionorder": Inline(["Connect"]),
        "configuration": [parameter(entry) for entry in texts.instance["parameters"]],
        "triggers": list(triggers(texts.instance["shown"])),
        "script": {
            "type": "python",
            "subtype": "python3",
            "dockerimage": integration["dockerimage"],
            "script": "-",
            "feed": False,
            "isfetch": False,
            "runonce": False,
            "commands": [command_entry(texts, command) for command in commands().values()],
        },
        "fromversion": integration["fromversion"],
        "tests": Inline(["No tests"]),
    }


def parameter(entry: Mapping[str, Any]) -> Json:
    found = {**entry, "section": "Connect"}
    if "options" in found:
        found["options"] = Inline(found["options"])
    return found


def triggers(shown: Mapping[str, Mapping[str, Mapping[str, list[str]]]]) -> Iterable[Json]:
    """Each trigger settles every field that depends on a parameter, so that switching back and forth leaves none hidden."""
    for name, values in shown.items():
        fields = dict.fromkeys(field for value in values.values() for field in value["fields"])
        required = {field for value in values.values() for field in value.get("required", ())}
        for value, now in values.items():
            operator = "not_equal" if value.startswith("not ") else "equal"
            yield {
                "conditions": [{"name": name, "operator": operator, "value": value.removeprefix("not ")}],
                "effects": [effect(field, now, field in required) for field in fields],
            }


def effect(field: str, now: Mapping[str, list[str]], may_be_required: bool) -> Json:
    action = {"hidden": field not in now["fields"]}
    if may_be_required:
        action["required"] = field in now.get("required", ())
    return {"name": field, "action": Row(action)}


def command_entry(texts: Texts, command: CommandFacts) -> Json:
    flags = {"execution": command.asks_first, "polling": command.polls}
    entry: Json = {
        "name": command.name,
        "description": description(texts, command),
        **{key: True for key, value in flags.items() if value},
        "arguments": [argument_entry(texts, command, argument) for argument in command.arguments],
    }
    outputs = [
        Row(contextPath=output.context_path, type=output.type, description=output.description)
        for output in texts.outputs(command)
    ]
    return {**entry, "outputs": outputs} if outputs else entry


def description(texts: Texts, command: CommandFacts) -> str:
    text = texts.commands[command.name].description
    return f"{text} Required permission(s): {', '.join(command.permissions)}." if command.permissions else text


def argument_entry(texts: Texts, command: CommandFacts, argument: ArgumentFacts) -> Json:
    entry: Json = {
        "name": argument.name,
        "description": texts.argument(command, argument.name),
        "required": argument.required,
    }
    flags = {"isArray": argument.many, "secret": argument.secret, "hidden": argument.hidden}
    entry |= {key: True for key, value in flags.items() if value}
    if argument.default is not None:
        entry["defaultValue"] = argument.default
    choices = texts.commands[command.name].choices.get(argument.name, argument.choices)
    return {**entry, "auto": "PREDEFINED", "predefined": Inline(choices)} if choices else entry


def files() -> dict[str, str]:
    """Every generated file by its path from the root. ClickException names what has no text."""
    texts, registered = load(), commands()
    found = problems(texts, registered)
    if found:
        raise click.ClickException("\n".join(found))
    text = yaml.dump(manifest(texts), Dumper=Dumper, sort_keys=False, allow_unicode=True, width=WIDTH)
    return {MANIFEST: text, **reference.files(texts, registered)}


def stale(wanted: Mapping[str, str]) -> list[str]:
    """The generated files that differ from what they should be, and pages that nothing generates any more."""
    there = {str(path.relative_to(ROOT)) for path in (ROOT / reference.COMMANDS).glob("*.md")}
    changed = [name for name, text in wanted.items() if not (ROOT / name).exists() or (ROOT / name).read_text() != text]
    return sorted({*changed, *(there - wanted.keys())})


@click.command()
@click.option("--check", is_flag=True, help="Only say whether the generated files are up to date.")
def main(check: bool) -> None:
    """Write the manifest and the reference."""
    wanted = files()
    different = stale(wanted)
    if check and different:
        raise click.ClickException(f"Out of date: {', '.join(different)}. Run `make manifest`.")
    for name in different:
        path = ROOT / name
        if name in wanted:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(wanted[name])
        else:
            path.unlink()
        click.echo(f"{name}: written" if name in wanted else f"{name}: removed")
    if not different:
        click.echo("The generated files are up to date.")


if __name__ == "__main__":
    main()
