"""The context of an incident: how outputs are put into it, and how `${Path}` reads it."""

import copy
import json
import re
from typing import Any

Json = dict[str, Any]
REFERENCE = re.compile(r"\$\{([^{}]+)\}")
STEP = re.compile(r"(?P<name>[^.\[\]()]+)?(?P<indexes>(?:\[\d+\])*)")


class UnknownPath(ValueError):
    """A path in a form that is not understood here."""


def as_text(value: Any) -> str:
    """A value as a server hands it to a script that takes text."""
    return value if isinstance(value, str) else json.dumps(value)


def lookup(context: Any, path: str) -> Any:
    """The value at A.B[0].C, each step of which reaches into every item of a list; None where there is nothing."""
    value = context
    for step in path.strip().split("."):
        found = STEP.fullmatch(step)
        if not found or not step:
            raise UnknownPath(f"the path {path} is in a form that is not known here: {step}")
        if found["name"]:
            value = below(value, found["name"])
        for index in map(int, re.findall(r"\d+", found["indexes"])):
            items = value if isinstance(value, list) else [value]
            value = items[index] if index < len(items) else None
    return value


def below(value: Any, name: str) -> Any:
    if isinstance(value, dict):
        return value.get(name)
    if not isinstance(value, list):
        return None
    found = [item for item in (below(item, name) for item in value) if item is not None]
    flat = [part for item in found for part in (item if isinstance(item, list) else [item])]
    return flat or None


def resolve(value: Any, context: Json) -> Any:
    """A value whose references are replaced: `${Path}` alone by what is there, within a text by its text."""
    if isinstance(value, list):
        return [resolve(item, context) for item in value]
    if not isinstance(value, str):
        return value
    alone = REFERENCE.fullmatch(value)
    if alone:
        return lookup(context, alone[1])
    return REFERENCE.sub(lambda found: in_text(lookup(context, found[1])), value)


def side_by_side(lists: dict[str, list[Any]]) -> list[Json]:
    """Rounds of a loop over several lists: their first items, their second ones, and so on; one round without lists."""
    rounds = max(map(len, lists.values()), default=1)
    return [{name: items[turn] for name, items in lists.items() if turn < len(items)} for turn in range(rounds)]


def in_text(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(map(as_text, value))
    return "" if value is None else as_text(value)


DT_KEY = re.compile(r"(?P<path>[^()]+)(?:\((?P<condition>.*)\))?")


def merge_context(context: Json, outputs: Json) -> None:
    """Put an entry's outputs into the war room's context as the server does.

    'A.B(val.id && val.id == obj.id)' enriches the item with the same id in its place, or adds one; 'A.B(true)' merges
    into what is there; 'A.B' adds. https://xsoar.pan.dev/docs/integrations/dt
    """
    for key, value in outputs.items():
        found = DT_KEY.fullmatch(key)
        if not found or value is None:
            continue
        *parents, last = found["path"].split(".")
        place = context
        for parent in parents:
            place = inner(place, parent)
        condition = found["condition"] or ""
        old, new = place.get(last, []), copy.deepcopy(value)
        if condition == "true":
            place[last] = {**old, **new} if isinstance(old, dict) and isinstance(new, dict) else new
            continue
        items = linked(old, new, re.findall(r"val\.([\w.]+) == obj", condition))
        place[last] = items[0] if len(items) == 1 else items


def inner(place: Json, name: str) -> Json:
    """The object below a name, made if need be; below a list, a new item of it."""
    below, made = place.get(name), Json()
    if isinstance(below, dict):
        return below
    if isinstance(below, list):
        below.append(made)
    else:
        place[name] = made
    return made


def linked(old: Any, new: Any, keys: list[str]) -> list[Any]:
    """Old items, each enriched by the new one that has all the same keys, and the new ones that match none."""
    items = list(old) if isinstance(old, list) else [old]
    for item in new if isinstance(new, list) else [new]:
        same = next((other for other in items if keys and identity(other, keys) == identity(item, keys)), None)
        if isinstance(same, dict) and None not in identity(item, keys):
            same.update(item)
        else:
            items.append(item)
    return items


def identity(item: Any, keys: list[str]) -> list[Any]:
    """The values under the keys, each a path; None for one that is missing or empty."""
    values = []
    for key in keys:
        value = item
        for name in key.split("."):
            value = value.get(name) if isinstance(value, dict) else None
        values.append(value or None)
    return values
