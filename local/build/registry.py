"""All that the build reads of AzureStorage.py: its commands, checks and hints, as plain data.

The one module of local/build that knows how the integration names these things. No other imports AzureStorage.
"""

import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "local" / "standins")]

import AzureStorage as module  # noqa: E402 - found on the path above, as on a server

# A form begins with what a command works on and ends with what is rarely given.
FIRST = ("account_name", "container_name", "blob_name", "blob_names", "blob_url")
LAST = (
    *("resource_group_name", "subscription_id", "limit", "all_results", "next_token"),
    *("dry_run", "polling", "interval_in_seconds", "timeout_in_seconds"),
)


class ArgumentFacts(NamedTuple):
    """An argument as the code has it. alias_of: the argument of which this is another spelling."""

    name: str
    required: bool
    default: str | None
    choices: tuple[str, ...]
    many: bool
    secret: bool
    hidden: bool
    alias_of: str


class CommandFacts(NamedTuple):
    """A command as the code has it."""

    name: str
    permissions: tuple[str, ...]
    role: str
    arguments: tuple[ArgumentFacts, ...]
    asks_first: bool
    polls: bool
    changes: bool
    confirms: bool


class CheckFacts(NamedTuple):
    """A posture check."""

    number: int
    name: str
    title: str
    severity: str
    cis: str
    property: str


def commands() -> dict[str, CommandFacts]:
    """Every command that the manifest lists, in the order of the module."""
    return {name: command_facts(command) for name, command in module.COMMANDS.items() if name.startswith("azure-")}


def command_facts(command: "module.Command") -> CommandFacts:
    found = command.arguments().items()
    facts = (argument_facts(name, argument, command.aliases.get(name, "")) for name, argument in found)
    arguments = tuple(sorted(facts, key=place))
    return CommandFacts(
        command.name,
        tuple(command.needs),
        command.role,
        arguments,
        command.execution,
        command.polling is not None,
        command.changes,
        command.confirm,
    )


def place(argument: ArgumentFacts) -> tuple[bool, int]:
    """Where an argument stands in a form; those of equal places keep their order."""
    if argument.name in FIRST:
        return False, FIRST.index(argument.name) - len(FIRST)
    rank = LAST.index(argument.name) + 1 if argument.name in LAST else 0
    return bool(argument.alias_of or argument.hidden), rank


def argument_facts(name: str, argument: "module.Argument", alias_of: str) -> ArgumentFacts:
    return ArgumentFacts(
        name,
        argument.required,
        None if argument.required or argument.default is None else module.as_text(argument.default),
        tuple(argument.reader.choices),
        argument.reader.many,
        argument.reader.secret,
        argument.hidden,
        alias_of,
    )


def checks() -> tuple[CheckFacts, ...]:
    return tuple(
        CheckFacts(check.number, check.name, check.title, check.severity, check.cis, check.property)
        for check in module.CHECKS
    )


def hints() -> dict[str, Mapping[str, str]]:
    """The tables of advice by error code, under the heading that documentation gives them."""
    by_text: dict[str, list[str]] = {}
    for number, hint in module.AADSTS_HINTS.items():
        by_text.setdefault(advice(hint), []).append(f"AADSTS{number}")
    entra = {", ".join(numbers): hint for hint, numbers in by_text.items()}
    named = {name: advice(hint) for name, hint in module.OAUTH_FALLBACK_HINTS.items()}
    return {
        "Sign-in (Microsoft Entra ID)": {**module.OAUTH_HINTS, **named, **entra},
        "Azure Resource Manager": module.ARM_HINTS,
        "Blob service": module.BLOB_HINTS,
        "By HTTP status, when the code is not listed above": numbers_as_text(module.STATUS_HINTS.items()),
    }


def advice(hint: "module.Hint") -> str:
    """A hint as one text; one that depends on the Authentication Type names each type that it is for."""
    if isinstance(hint, str):
        return hint
    by_text: dict[str, list[str]] = {}
    for flow, text in hint.items():
        by_text.setdefault(text, []).append(flow or "other types")
    if len(by_text) == 1:
        return next(iter(by_text))
    return " ".join(f"{' and '.join(flows)}: {text}" for text, flows in by_text.items())


def numbers_as_text(rows: Iterable[tuple[int, str]]) -> dict[str, str]:
    return {str(number): hint for number, hint in rows}
