"""The generated parts of README.md, from the manifest and the module: `python -m local.build.docs [--check]`.

Each part stands between <!-- NAME:begin --> and <!-- NAME:end -->.
"""

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click
import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "local" / "standins")]

import AzureStorage as module  # noqa: E402 - found on the path above, as on a server

README = ROOT / "README.md"
Json = dict[str, Any]


def table(headers: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    names = list(headers)
    lines = ["| " + " | ".join(names) + " |", "| " + " | ".join("---" for _ in names) + " |"]
    return "\n".join(lines + ["| " + " | ".join(cell(value) for value in row) + " |" for row in rows])


def cell(value: Any) -> str:
    return " ".join(str(value).split()).replace("|", "\\|")


def configuration(manifest: Json) -> str:
    """The fields of the instance form."""
    rows = []
    for field in manifest["configuration"]:
        names = [field.get("display"), field.get("displaypassword")]
        name = " / ".join(dict.fromkeys(part for part in names if part))
        rows.append((name, field.get("additionalinfo", ""), "yes" if field.get("required") else ""))
    return table(("Parameter", "Description", "Required"), rows)


def reference(manifest: Json) -> str:
    """All commands with their arguments and context."""
    return "\n\n".join(command_reference(command) for command in manifest["script"]["commands"])


def command_reference(command: Json) -> str:
    parts = [
        f"### {command['name']}",
        command["description"].strip(),
        f"#### Base Command\n\n`{command['name']}`",
        "#### Input",
    ]
    arguments = [argument for argument in command.get("arguments") or [] if not argument.get("hidden")]
    rows = [
        (argument["name"], describe(argument), "Required" if argument.get("required") else "Optional")
        for argument in arguments
    ]
    parts.append(
        table(("**Argument Name**", "**Description**", "**Required**"), rows)
        if rows
        else "There are no input arguments for this command."
    )
    parts.append("#### Context Output")
    outputs = [
        (output["contextPath"], output["type"], output["description"]) for output in command.get("outputs") or []
    ]
    parts.append(
        table(("**Path**", "**Type**", "**Description**"), outputs)
        if outputs
        else "There is no context output for this command."
    )
    return "\n\n".join(parts)


def describe(argument: Json) -> str:
    text = str(argument["description"]).strip()
    if argument.get("predefined"):
        text += f" Possible values are: {', '.join(str(choice) for choice in argument['predefined'])}."
    if argument.get("defaultValue") is not None:
        text += f" Default is {argument['defaultValue']}."
    return text


def permissions(manifest: Json) -> str:
    """What each command needs in Azure, as the module's registry has it."""
    rows = []
    for command in manifest["script"]["commands"]:
        found = module.COMMANDS[command["name"]]
        if found.needs:
            rows.append((f"`{found.name}`", ", ".join(f"`{need}`" for need in found.needs), found.role))
    return table(("Command", "Azure permission", "Built-in role that has it"), rows)


def sign_in_hints(manifest: Json) -> str:
    hints = {f"`{code}`": hint for code, hint in {**module.OAUTH_HINTS, **module.OAUTH_FALLBACK_HINTS}.items()}
    grouped: dict[str, list[str]] = {}
    for number, hint in module.AADSTS_HINTS.items():
        grouped.setdefault(hint, []).append(f"AADSTS{number}")
    rows = [*hints.items(), *((", ".join(numbers), hint) for hint, numbers in grouped.items())]
    return table(("Entra ID says", "What to do"), ((name, sentence(hint)) for name, hint in rows))


def azure_hints(manifest: Json) -> str:
    return table(
        ("Azure says", "What to do"), ((f"`{code}`", sentence(hint)) for code, hint in module.ARM_HINTS.items())
    )


def sentence(text: str) -> str:
    return text[:1].upper() + text[1:]


PARTS = {
    "configuration": configuration,
    "permissions": permissions,
    "sign-in-hints": sign_in_hints,
    "azure-hints": azure_hints,
    "commands": reference,
}


def generated(text: str) -> str:
    """The README with every generated part as it should be. KeyError for a part without its marks."""
    manifest = yaml.safe_load((ROOT / "AzureStorage.yml").read_text())
    for name, make in PARTS.items():
        begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
        if begin not in text or end not in text:
            raise KeyError(f"README.md lacks {begin} ... {end}")
        before, rest = text.split(begin, 1)
        text = f"{before}{begin}\n{make(manifest)}\n{end}{rest.split(end, 1)[1]}"
    return text


@click.command()
@click.option("--check", is_flag=True, help="Only say whether README.md is up to date.")
def main(check: bool) -> None:
    """Regenerate README.md from the manifest and the module."""
    text = README.read_text()
    wanted = generated(text)
    if check and wanted != text:
        raise click.ClickException("README.md is stale: run `make docs`.")
    README.write_text(wanted)


if __name__ == "__main__":
    main()
