"""Values in a playbook: simple and complex ones, with filters and transformers. What is not known is refused by name.

https://xsoar.pan.dev/docs/playbooks/playbooks-filters-transformers, as far as playbooks for containment use it.
"""

import re
from collections.abc import Callable, Iterator
from typing import Any

from .context import REFERENCE, UnknownPath, as_text, in_text, lookup, resolve
from .server import Refused

Json = dict[str, Any]


class Unsupported(Refused):
    """A playbook uses something that is not known here."""


def items(value: Any) -> list[Any]:
    if value is None:
        return []
    return value if isinstance(value, list) else [value]


def empty(value: Any) -> bool:
    return value in (None, "", [], {})


def is_text(value: Any, text: str) -> bool:
    return as_text(value).lower() == text


# Operators: left, right -> bool. Those on texts and numbers hold when they hold for any item of a list on the left.


def on_texts(test: Callable[[str, str], bool]) -> Callable[[Any, Any], bool]:
    return lambda left, right: any(test(as_text(item), in_text(right)) for item in items(left))


def on_numbers(test: Callable[[float, float], bool]) -> Callable[[Any, Any], bool]:
    def compare(left: Any, right: Any) -> bool:
        try:
            return any(test(float(item), float(right)) for item in items(left))
        except (TypeError, ValueError):
            return False

    return compare


def opposite(test: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    return lambda left, right: not test(left, right)


equal_texts = on_texts(lambda left, right: left == right)
equal_numbers = on_numbers(lambda left, right: left == right)
contains_text = on_texts(lambda left, right: right in left)
one_of = on_texts(lambda left, right: left in [part.strip() for part in right.split(",")])


def contains(left: Any, right: Any) -> bool:
    """A list has an item, or a text has a part."""
    if isinstance(left, list):
        return equal_texts(left, right)
    return contains_text(left, right)


OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "isEqualString": equal_texts,
    "isNotEqualString": opposite(equal_texts),
    "isEqualNumber": equal_numbers,
    "isNotEqualNumber": opposite(equal_numbers),
    "greaterThan": on_numbers(lambda left, right: left > right),
    "greaterThanOrEqual": on_numbers(lambda left, right: left >= right),
    "lessThan": on_numbers(lambda left, right: left < right),
    "lessThanOrEqual": on_numbers(lambda left, right: left <= right),
    "containsString": contains_text,
    "notContainsString": opposite(contains_text),
    "containsGeneral": contains,
    "notContainsGeneral": opposite(contains),
    "startWith": on_texts(str.startswith),
    "notStartWith": opposite(on_texts(str.startswith)),
    "endWith": on_texts(str.endswith),
    "match": on_texts(lambda left, right: re.search(right, left) is not None),
    "in": one_of,
    "notIn": opposite(one_of),
    "isExists": lambda left, right: left is not None,
    "isNotExists": lambda left, right: left is None,
    "isEmpty": lambda left, right: empty(left),
    "isNotEmpty": lambda left, right: not empty(left),
    "isTrue": lambda left, right: is_text(left, "true"),
    "isFalse": lambda left, right: is_text(left, "false"),
}


# Transformers: value, arguments -> value


def at_index(value: Any, args: Json) -> Any:
    found, index = items(value), int(args.get("index") or 0)
    return found[index] if -len(found) <= index < len(found) else None


def unique(value: Any, args: Json) -> list[Any]:
    found: list[Any] = []
    for item in items(value):
        if item not in found:
            found.append(item)
    return found


def split(value: Any, args: Json) -> list[str]:
    return [part.strip() for part in as_text(value).split(as_text(args.get("delimiter") or ","))]


def of_each(change: Callable[[str, Json], str]) -> Callable[[Any, Json], Any]:
    def transform(value: Any, args: Json) -> Any:
        if isinstance(value, list):
            return [change(as_text(item), args) for item in value]
        return None if value is None else change(as_text(value), args)

    return transform


TRANSFORMERS: dict[str, Callable[[Any, Json], Any]] = {
    "uniq": unique,
    "first": lambda value, args: at_index(value, {"index": 0}),
    "FirstArrayElement": lambda value, args: at_index(value, {"index": 0}),
    "LastArrayElement": lambda value, args: at_index(value, {"index": -1}),
    "atIndex": at_index,
    "append": lambda value, args: [*items(value), *items(args.get("item"))],
    "count": lambda value, args: len(items(value)),
    "join": lambda value, args: as_text(args.get("separator") or ",").join(map(as_text, items(value))),
    "splitAndTrim": split,
    "concat": of_each(lambda text, args: f"{in_text(args.get('prefix'))}{text}{in_text(args.get('suffix'))}"),
    "toLowerCase": of_each(lambda text, args: text.lower()),
    "toUpperCase": of_each(lambda text, args: text.upper()),
    "SetIfEmpty": lambda value, args: args.get("defaultValue") if empty(value) else value,
}


def value_of(spec: Any, context: Json) -> Any:
    """A value as playbooks write one: {simple: text}, {complex: {...}}, or nothing."""
    if not spec:
        return None
    if "complex" in spec:
        return complex_value(spec["complex"], context)
    return resolve(spec.get("simple"), context)


def operand(side: Json | None, context: Json) -> Any:
    """One side of a comparison. With iscontext, a simple value is a path."""
    side = side or {}
    spec = side.get("value") or {}
    simple = spec.get("simple")
    if side.get("iscontext") and isinstance(simple, str) and not simple.startswith("${"):
        return lookup(context, simple)
    return value_of(spec, context)


def compared(left: Any, right: Any, comparison: Json) -> bool:
    if comparison.get("ignorecase"):
        left, right = lowered(left), lowered(right)
    return OPERATORS[comparison["operator"]](left, right)


def lowered(value: Any) -> Any:
    if isinstance(value, list):
        return [lowered(item) for item in value]
    return value.lower() if isinstance(value, str) else value


def holds(groups: list[list[Json]], test: Callable[[Json], bool]) -> bool:
    """Comparisons of one group are alternatives; all groups have to hold."""
    return all(any(map(test, group)) for group in groups)


def condition_holds(groups: list[list[Json]], context: Json) -> bool:
    return holds(groups, lambda c: compared(operand(c.get("left"), context), operand(c.get("right"), context), c))


def complex_value(spec: Json, context: Json) -> Any:
    """What is at the root, filtered item by item; then the accessor within; then the transformers."""
    root = spec.get("root") or ""
    value = resolve(root, context) if root.startswith("${") else lookup(context, root)
    if filters := spec.get("filters"):
        value = [item for item in items(value) if passes(item, root, filters, context)]
        value = value[0] if len(value) == 1 else value or None
    if spec.get("accessor"):
        value = lookup(value, spec["accessor"])
    for transformer in spec.get("transformers") or []:
        args = {name: operand(side, context) for name, side in (transformer.get("args") or {}).items()}
        value = TRANSFORMERS[transformer["operator"]](value, args)
    return value


def passes(item: Any, root: str, filters: list[list[Json]], context: Json) -> bool:
    def test(comparison: Json) -> bool:
        path = str(((comparison.get("left") or {}).get("value") or {}).get("simple") or "")
        if path == root:
            left = item
        elif path.startswith(f"{root}."):
            left = lookup(item, path[len(root) + 1 :])
        else:
            left = operand(comparison.get("left"), context)
        return compared(left, operand(comparison.get("right"), context), comparison)

    return holds(filters, test)


def check_value(spec: Any, where: str) -> None:
    """Unsupported for an operator, a transformer or a path that is not known, anywhere in a value or a condition."""
    for found in objects_in(spec):
        name = found.get("operator")
        known, kind = (OPERATORS, "operator") if "left" in found else (TRANSFORMERS, "transformer")
        if name is not None and name not in known:
            raise Unsupported(f"{where} uses the {kind} {name}, which is not known here.")
        for path in paths_in(found):
            try:
                lookup({}, path)
            except UnknownPath as error:
                raise Unsupported(f"{where}: {error}") from None


def objects_in(value: Any) -> Iterator[Json]:
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    for item in value if isinstance(value, list) else []:
        yield from objects_in(item)


def paths_in(found: Json) -> Iterator[str]:
    """The paths that one object of a value reads."""
    texts = [found.get("simple"), found.get("root")]
    for text in texts:
        yield from REFERENCE.findall(text) if isinstance(text, str) else ()
    bare = [found.get("root"), found.get("accessor")]
    if found.get("iscontext"):
        bare.append((found.get("value") or {}).get("simple"))
    yield from (path for path in bare if isinstance(path, str) and path and "${" not in path)
