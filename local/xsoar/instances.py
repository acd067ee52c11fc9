"""The instances of the integration: their parameters, as the form of a server fills them in, in a private file."""

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

Json = dict[str, Any]
CHECKBOX, CREDENTIALS = 8, 9
# ask(display, default, hidden, choices) -> what the person typed
Ask = Callable[[str, str, bool, list[str]], str]


class Instances:
    """Instances by name. The file is readable by its owner only, since it holds secrets."""

    def __init__(self, path: Path, configuration: list[Json]) -> None:
        self.path, self.configuration = path, configuration

    def names(self) -> list[str]:
        return sorted(self._load())

    def params(self, name: str) -> Json:
        """What demisto.params() returns: defaults filled in, checkboxes as booleans. KeyError for an unknown name."""
        stored = self._load()[name]
        params = {field["name"]: self._default(field) for field in self.configuration}
        return params | stored

    @staticmethod
    def _default(field: Json) -> Any:
        if field["type"] == CHECKBOX:
            return str(field.get("defaultvalue", "")).lower() == "true"
        if field["type"] == CREDENTIALS:
            return {"identifier": "", "password": "", "credentials": {}}
        return field.get("defaultvalue") or ""

    def save(self, name: str, params: Json) -> None:
        """ValueError for a name that cannot be part of a file's name."""
        if not re.fullmatch(r"\w[\w .-]*", name):
            raise ValueError(f"an instance's name has letters, digits, blanks, dots and dashes: {name!r}")
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        new = self.path.with_suffix(".new")
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump({**self._load(), name: params}, file, indent=2)
        new.replace(self.path)

    def _load(self) -> dict[str, Json]:
        if not self.path.exists():
            return {}
        found: dict[str, Json] = json.loads(self.path.read_text())
        return found

    def fill_in(
        self, name: str, ask: Ask, triggers: list[Json], describe: Callable[[Json], None] = lambda field: None
    ) -> Json:
        """Ask for every field that the form would show, in its order; a field left empty keeps what it had.

        describe: is told of each field before it is asked for.
        """
        try:
            params = self.params(name)
        except KeyError:
            params = {field["name"]: self._default(field) for field in self.configuration}
        for field in self.configuration:
            if field.get("hidden") is True or hidden_by(triggers, field["name"], params):
                continue
            needed = effect(triggers, field["name"], params, "required", bool(field.get("required")))
            old = params[field["name"]]
            describe(field)
            params[field["name"]] = self._ask_field(field, old, ask)
            while needed and not filled(params[field["name"]]):
                params[field["name"]] = self._ask_field(field, old, ask)
        self.save(name, params)
        return params

    def _ask_field(self, field: Json, old: Any, ask: Ask) -> Any:
        display = field.get("display") or field.get("displaypassword") or field["name"]
        if field["type"] == CHECKBOX:
            return ask(display, "true" if old else "false", False, ["true", "false"]) == "true"
        if field["type"] != CREDENTIALS:
            return ask(display, str(old), False, [str(option) for option in field.get("options") or []])
        known = old if isinstance(old, dict) else {}
        user = known.get("identifier", "")
        if not field.get("hiddenusername"):
            user = ask(display, user, False, [])
        secret = ask(f"{field.get('displaypassword') or f'{display} password'} (or @FILE)", "", True, [])
        return {"identifier": user, "password": from_file(secret) or known.get("password", ""), "credentials": {}}


def from_file(secret: str) -> str:
    """A secret, or for @FILE what the file holds: a private key has several lines, which no hidden prompt takes."""
    path = Path(secret[1:]).expanduser()
    return path.read_text() if secret.startswith("@") and path.is_file() else secret


def filled(value: Any) -> bool:
    return (
        bool(value.get("identifier") or value.get("password")) if isinstance(value, dict) else value not in ("", None)
    )


def hidden_by(triggers: list[Json], name: str, params: Json) -> bool:
    """Whether the form hides a field, given what the others hold."""
    return effect(triggers, name, params, "hidden", False)


def effect(triggers: list[Json], name: str, params: Json, action: str, default: bool) -> bool:
    """What the triggers make of a field, given what the others hold; the last one whose conditions hold decides.

    https://xsoar.pan.dev/docs/integrations/dynamic-ui-fields
    """
    found = default
    for trigger in triggers:
        if all(holds(condition, params) for condition in trigger["conditions"]):
            for change in trigger.get("effects", []):
                if change["name"] == name:
                    found = bool(change.get("action", {}).get(action, found))
    return found


def holds(condition: Json, params: Json) -> bool:
    value = params.get(condition["name"])
    tests = {
        "exists": bool(value),
        "not_exists": not value,
        "equal": str(value) == str(condition.get("value")),
        "not_equal": str(value) != str(condition.get("value")),
    }
    return tests[condition["operator"]]
