"""A small part of the Kusto query language, over rows in memory. What is not known is refused by name.

Known: where, project, extend, summarize, order by, top, take, distinct, count; comparisons, string operators, in,
has_any, between; and, or, not; + and - on numbers and times; an index into a list; the functions in FUNCTIONS and
AGGREGATES.
https://learn.microsoft.com/kusto/query/
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

from ..times import moment
from ..times import written as as_text

Row = dict[str, Any]
Value = Callable[[Row], Any]


class KqlError(Exception):
    """A query that is refused: the kind, the number and the message that Azure's engine would give."""

    def __init__(self, code: str, number: str, message: str) -> None:
        super().__init__(message)
        self.code, self.number, self.message = code, number, message

    @property
    def summary(self) -> str:
        semantic = self.code == "SemanticError"
        return "A semantic error occurred." if semantic else "A recognition error occurred in the query."


def semantic(number: str, message: str) -> KqlError:
    return KqlError("SemanticError", number, message)


@dataclass
class Table:
    """Columns with their types, and rows."""

    columns: dict[str, str]
    rows: list[Row] = field(default_factory=list)


# Words

TOKEN = re.compile(
    r"""(?P<blank>\s+|//[^\n]*)
    |(?P<text>@"(?:[^"]|"")*"|@'(?:[^']|'')*'|"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
    |(?P<span>\d+(?:\.\d+)?(?:d|h|m|s|ms)\b)
    |(?P<number>\d+(?:\.\d+)?)
    |(?P<time>datetime\([^)]*\))
    |(?P<word>(?:project|mv|make)-[a-z]+|[A-Za-z_]\w*~?)
    |(?P<sign>\.\.|==|=~|!=|!~|>=|<=|!in~|!in\b|!has\b|!contains\b|!startswith\b|!between\b|[=<>|,()+\-*/.\[\]])""",
    re.VERBOSE,
)
SPANS = {"d": "days", "h": "hours", "m": "minutes", "s": "seconds", "ms": "milliseconds"}
# Types that compare with each other; a dynamic value compares with all.
FAMILIES = {"int": "number", "long": "number", "real": "number"}


@dataclass
class Token:
    kind: str
    text: str
    at: int


def tokens_of(query: str) -> list[Token]:
    found, at = [], 0
    while at < len(query):
        match = TOKEN.match(query, at)
        if not match:
            raise unreadable(query[at : at + 20], at)
        if match.lastgroup != "blank":
            found.append(Token(str(match.lastgroup), match[0], at))
        at = match.end()
    return found


def unreadable(text: str, at: int) -> KqlError:
    return KqlError("SyntaxError", "SYN0002", f"Query could not be parsed at '{text}' on line [1,{at + 1}]")


def unquoted(text: str) -> str:
    if text.startswith("@"):
        return text[2:-1].replace(text[1] * 2, text[1])
    escapes = {"n": "\n", "t": "\t", "r": "\r"}
    return re.sub(r"\\(.)", lambda found: escapes.get(found[1], found[1]), text[1:-1])


# Values


def text_of(value: Any) -> str:
    return "" if value is None else str(value)


def has_term(text: str, term: str) -> bool:
    """Whether a text holds the term between characters that are neither letters nor digits."""
    return bool(re.search(rf"(?<![0-9A-Za-z]){re.escape(term)}(?![0-9A-Za-z])", text, re.IGNORECASE))


def check_comparable(one: "Expression", other: "Expression") -> None:
    kinds = [one.kind, other.kind]
    families = {FAMILIES.get(kind, kind) for kind in kinds}
    if len(families) > 1 and "dynamic" not in families:
        raise semantic(
            "SEM0064",
            f"Cannot compare values of types {kinds[0]} and {kinds[1]}. Try adding explicit casts",
        )


def ordered(one: Any, other: Any) -> int:
    """-1, 0 or 1; 2 where there is nothing to compare."""
    if one is None or other is None:
        return 2
    try:
        return int(one > other) - int(one < other)
    except TypeError:
        return 2


STRING_OPERATORS: dict[str, Callable[[str, str], bool]] = {
    "has": has_term,
    "contains": lambda text, part: part.lower() in text.lower(),
    "startswith": lambda text, part: text.lower().startswith(part.lower()),
    "endswith": lambda text, part: text.lower().endswith(part.lower()),
    "has_cs": lambda text, term: has_term(text, term) and term in text,
    "contains_cs": lambda text, part: part in text,
    "=~": lambda text, other: text.lower() == other.lower(),
}
NEGATED = {"!has": "has", "!contains": "contains", "!startswith": "startswith", "!~": "=~"}
COMPARISONS: dict[str, Callable[[Any, Any], bool]] = {
    "==": lambda one, other: ordered(one, other) == 0,
    "!=": lambda one, other: ordered(one, other) != 0,
    ">": lambda one, other: ordered(one, other) == 1,
    "<": lambda one, other: ordered(one, other) == -1,
    ">=": lambda one, other: ordered(one, other) in (0, 1),
    "<=": lambda one, other: ordered(one, other) in (0, -1),
}


def binned(value: Any, size: Any) -> Any:
    if isinstance(value, datetime):
        start = datetime(1, 1, 1, tzinfo=timezone.utc)
        return value - (value - start) % size
    return value - value % size


def number(value: Any, make: Callable[[Any], Any]) -> Any:
    try:
        return make(float(value)) if value not in (None, "") else None
    except (TypeError, ValueError):
        return None


# Functions: how many arguments they take, the type of what they return, and what they do with the arguments' values.
FUNCTIONS: dict[str, tuple[range, str, Callable[..., Any]]] = {
    "ago": (range(1, 2), "datetime", lambda span: datetime.now(timezone.utc) - span),
    "now": (range(1), "datetime", lambda: datetime.now(timezone.utc)),
    "tolower": (range(1, 2), "string", lambda value: text_of(value).lower()),
    "toupper": (range(1, 2), "string", lambda value: text_of(value).upper()),
    "tostring": (range(1, 2), "string", text_of),
    "toint": (range(1, 2), "int", lambda value: number(value, int)),
    "tolong": (range(1, 2), "long", lambda value: number(value, int)),
    "todouble": (range(1, 2), "real", lambda value: number(value, float)),
    "isempty": (range(1, 2), "bool", lambda value: value in (None, "")),
    "isnotempty": (range(1, 2), "bool", lambda value: value not in (None, "")),
    "isnull": (range(1, 2), "bool", lambda value: value is None),
    "isnotnull": (range(1, 2), "bool", lambda value: value is not None),
    "strcat": (range(1, 65), "string", lambda *values: "".join(map(text_of, values))),
    "bin": (range(2, 3), "datetime", binned),
    "iff": (range(3, 4), "string", lambda test, good, bad: good if test else bad),
    "split": (range(2, 3), "dynamic", lambda text, separator: text_of(text).split(separator)),
    "strlen": (range(1, 2), "long", lambda text: len(text_of(text))),
    "not": (range(1, 2), "bool", lambda value: not value),
}


def present(values: Iterable[Any]) -> list[Any]:
    return [value for value in values if value not in (None, "")]


# Aggregates: the type of the result ("" for that of the column), and what they make of the values of a group.
AGGREGATES: dict[str, tuple[str, Callable[[list[Any]], Any]]] = {
    "count": ("long", len),
    "countif": ("long", lambda values: sum(bool(value) for value in values)),
    "dcount": ("long", lambda values: len(set(present(values)))),
    "min": ("", lambda values: min(present(values), default=None)),
    "max": ("", lambda values: max(present(values), default=None)),
    "sum": ("long", lambda values: sum(present(values))),
    "avg": ("real", lambda values: sum(present(values)) / len(present(values)) if present(values) else None),
    "any": ("", lambda values: next(iter(present(values)), None)),
    "take_any": ("", lambda values: next(iter(present(values)), None)),
    "make_set": ("dynamic", lambda values: list(dict.fromkeys(present(values)))),
}


@dataclass
class Expression:
    """What is made of a row, its type, and the name that it has where none is given."""

    value: Value
    kind: str
    name: str = ""


# Reading a query


class Reader:
    """Reads tokens one after another. The columns are those of the table at this point of the query."""

    def __init__(self, query: str) -> None:
        self.tokens, self.at = tokens_of(query), 0
        self.columns: dict[str, str] = {}
        self.operator = "query"

    def peek(self) -> Token:
        return self.tokens[self.at] if self.at < len(self.tokens) else Token("end", "", -1)

    def next(self) -> Token:
        token = self.peek()
        self.at += 1
        return token

    def take(self, *texts: str) -> str:
        """The next token's text if it is one of these, else nothing."""
        token = self.peek()
        if token.kind != "text" and token.text.lower() in texts:
            self.at += 1
            return token.text.lower()
        return ""

    def need(self, *texts: str) -> str:
        found = self.take(*texts)
        if not found:
            raise unreadable(self.peek().text or "end of query", self.peek().at)
        return found

    def word(self) -> str:
        token = self.next()
        if token.kind != "word":
            raise unreadable(token.text or "end of query", token.at)
        return token.text

    def listed(self, read: Callable[[], Any]) -> list[Any]:
        found = [read()]
        while self.take(","):
            found.append(read())
        return found

    # Expressions, weakest binding first

    def expression(self) -> Expression:
        found = self.conjunction()
        while self.take("or"):
            found = self.joined(found, self.conjunction(), any)
        return found

    def conjunction(self) -> Expression:
        found = self.comparison()
        while self.take("and"):
            found = self.joined(found, self.comparison(), all)
        return found

    @staticmethod
    def joined(one: Expression, other: Expression, how: Callable[[Iterable[Any]], bool]) -> Expression:
        return Expression(lambda row: how(part.value(row) for part in (one, other)), "bool")

    def comparison(self) -> Expression:
        left = self.sum()
        token = self.peek()
        text = token.text.lower() if token.kind in ("word", "sign") else ""
        if text in COMPARISONS:
            self.at += 1
            return self.compared(left, COMPARISONS[text], self.sum())
        if text in STRING_OPERATORS or text in NEGATED:
            self.at += 1
            return self.matched(left, text, self.sum())
        if text in ("in", "in~", "!in", "!in~", "has_any"):
            self.at += 1
            return self.membership(left, text)
        if text in ("between", "!between"):
            self.at += 1
            return self.within(left, text)
        if token.kind == "word" and text not in ("and", "or", "by", "asc", "desc", "nulls", "limit"):
            raise semantic("SEM0260", f"'{self.operator}' operator: Unknown operator: '{token.text}'")
        return left

    @staticmethod
    def compared(left: Expression, test: Callable[[Any, Any], bool], right: Expression) -> Expression:
        check_comparable(left, right)
        return Expression(lambda row: test(left.value(row), right.value(row)), "bool")

    @staticmethod
    def matched(left: Expression, text: str, right: Expression) -> Expression:
        test, good = STRING_OPERATORS[NEGATED.get(text, text)], text not in NEGATED
        return Expression(lambda row: test(text_of(left.value(row)), text_of(right.value(row))) is good, "bool")

    def membership(self, left: Expression, text: str) -> Expression:
        self.need("(")
        items = self.listed(self.expression)
        self.need(")")
        for item in items:
            check_comparable(left, item)
        if text == "has_any":
            return Expression(
                lambda row: any(has_term(text_of(left.value(row)), text_of(item.value(row))) for item in items), "bool"
            )
        fold: Callable[[Any], Any] = (lambda value: text_of(value).lower()) if "~" in text else (lambda value: value)
        good = not text.startswith("!")
        return Expression(
            lambda row: (fold(left.value(row)) in [fold(item.value(row)) for item in items]) is good, "bool"
        )

    def within(self, left: Expression, text: str) -> Expression:
        self.need("(")
        low = self.sum()
        self.need("..")
        high = self.sum()
        self.need(")")
        for bound in (low, high):
            check_comparable(left, bound)
        good, at_least, at_most = not text.startswith("!"), COMPARISONS[">="], COMPARISONS["<="]

        def test(row: Row) -> bool:
            value = left.value(row)
            return (at_least(value, low.value(row)) and at_most(value, high.value(row))) is good

        return Expression(test, "bool")

    def sum(self) -> Expression:
        found = self.indexed()
        while sign := self.take("+", "-"):
            found = self.added(found, self.indexed(), 1 if sign == "+" else -1)
        return found

    @staticmethod
    def added(one: Expression, other: Expression, sign: int) -> Expression:
        return Expression(lambda row: one.value(row) + sign * other.value(row), one.kind)

    def indexed(self) -> Expression:
        """A value, or the element of it that an index in brackets names; null where there is none."""
        found = self.single()
        while self.take("["):
            place = self.next()
            if place.kind != "number":
                raise unreadable(place.text or "end of query", place.at)
            self.need("]")
            found = self.element(found, int(place.text))
        return found

    @staticmethod
    def element(whole: Expression, place: int) -> Expression:
        def value(row: Row) -> Any:
            found = whole.value(row)
            return found[place] if isinstance(found, list) and place < len(found) else None

        return Expression(value, "dynamic", whole.name)

    def single(self) -> Expression:
        token = self.next()
        if token.text == "(":
            found = self.expression()
            self.need(")")
            return found
        if token.kind in ("text", "number", "span", "time"):
            return self.literal(token)
        if token.kind == "word":
            return self.call(token) if self.peek().text == "(" else self.column(token)
        raise unreadable(token.text or "end of query", token.at)

    @staticmethod
    def literal(token: Token) -> Expression:
        if token.kind == "text":
            text = unquoted(token.text)
            return Expression(lambda row: text, "string")
        if token.kind == "number":
            amount = float(token.text) if "." in token.text else int(token.text)
            return Expression(lambda row: amount, "real" if "." in token.text else "long")
        if token.kind == "span":
            size, unit = re.fullmatch(r"([\d.]+)(\w+)", token.text).groups()  # type: ignore[union-attr] # so it was read
            span = timedelta(**{SPANS[unit]: float(size)})
            return Expression(lambda row: span, "timespan")
        try:
            time = moment(token.text[len("datetime(") : -1].strip().strip("'\""))
        except ValueError:
            raise semantic("SEM0001", f"'{token.text}' is not a valid datetime") from None
        return Expression(lambda row: time, "datetime")

    def column(self, token: Token) -> Expression:
        name = token.text
        if name in ("true", "false"):
            return Expression(lambda row: name == "true", "bool")
        if name not in self.columns:
            raise semantic(
                "SEM0100", f"'{self.operator}' operator: Failed to resolve column or scalar expression named '{name}'"
            )
        return Expression(lambda row: row[name], self.columns[name], name)

    def call(self, token: Token) -> Expression:
        name = token.text.lower()
        if name not in FUNCTIONS:
            raise semantic("SEM0260", f"'{self.operator}' operator: Unknown function: '{token.text}'")
        self.need("(")
        arguments = [] if self.peek().text == ")" else self.listed(self.expression)
        self.need(")")
        counts, kind, make = FUNCTIONS[name]
        if len(arguments) not in counts:
            raise semantic("SEM0219", f"{name}(): function expects another number of arguments")
        kind = arguments[0].kind if name == "bin" else arguments[1].kind if name == "iff" else kind
        inner = arguments[0].name if arguments else ""
        return Expression(lambda row: make(*(part.value(row) for part in arguments)), kind, inner)

    # Named expressions

    def named(self, number: int) -> tuple[str, Expression]:
        """`name = expression`, or an expression that has its own name."""
        token, following = self.peek(), self.tokens[self.at + 1 : self.at + 2]
        if token.kind == "word" and following and following[0].text == "=":
            self.at += 2
            return token.text, self.expression()
        found = self.expression()
        return found.name or f"Column{number}", found

    def all_named(self) -> list[tuple[str, Expression]]:
        count = iter(range(1, 10_000))
        found: list[tuple[str, Expression]] = self.listed(lambda: self.named(next(count)))
        return found

    def aggregate(self) -> tuple[str, "Aggregate"]:
        name, following = "", self.tokens[self.at + 1 : self.at + 2]
        if following and following[0].text == "=":
            name = self.word()
            self.need("=")
        token = self.next()
        kind = token.text.lower()
        if kind not in AGGREGATES:
            raise semantic("SEM0260", f"'summarize' operator: Unknown aggregate function: '{token.text}'")
        self.need("(")
        inner = None if self.peek().text == ")" else self.expression()
        while self.take(","):
            self.expression()  # an accuracy or a largest size, which change nothing here
        self.need(")")
        column = inner.name if inner else ""
        return name or f"{kind}_{column}", Aggregate(kind, inner)


@dataclass
class Aggregate:
    name: str
    inner: Expression | None

    def kind(self) -> str:
        return AGGREGATES[self.name][0] or (self.inner.kind if self.inner else "long")

    def of(self, rows: list[Row]) -> Any:
        return AGGREGATES[self.name][1]([self.inner.value(row) if self.inner else 1 for row in rows])


# Operators, each from a table to a table


def where(reader: Reader, table: Table) -> Table:
    test = reader.expression()
    return Table(table.columns, [row for row in table.rows if test.value(row)])


def project(reader: Reader, table: Table) -> Table:
    found = reader.all_named()
    columns = {name: expression.kind for name, expression in found}
    return Table(columns, [{name: expression.value(row) for name, expression in found} for row in table.rows])


def extend(reader: Reader, table: Table) -> Table:
    found = reader.all_named()
    columns = {**table.columns, **{name: expression.kind for name, expression in found}}
    rows = [{**row, **{name: expression.value(row) for name, expression in found}} for row in table.rows]
    return Table(columns, rows)


def summarize(reader: Reader, table: Table) -> Table:
    aggregates: list[tuple[str, Aggregate]] = [] if reader.peek().text == "by" else reader.listed(reader.aggregate)
    keys = reader.all_named() if reader.take("by") else []
    groups: dict[tuple[Any, ...], list[Row]] = {} if keys else {(): list(table.rows)}
    for row in table.rows if keys else []:
        groups.setdefault(tuple(expression.value(row) for _, expression in keys), []).append(row)
    columns = {name: expression.kind for name, expression in keys}
    columns |= {name: aggregate.kind() for name, aggregate in aggregates}
    names = [name for name, _ in keys]
    rows = [
        {**dict(zip(names, key, strict=True)), **{name: aggregate.of(members) for name, aggregate in aggregates}}
        for key, members in groups.items()
    ]
    return Table(columns, rows)


def order(reader: Reader, table: Table) -> Table:
    reader.need("by")
    return ordered_by(table, reader.listed(lambda: order_key(reader)))


def top(reader: Reader, table: Table) -> Table:
    many = row_count(reader)
    found = order(reader, table)
    return Table(found.columns, found.rows[:many])


def ordered_by(table: Table, keys: list[tuple[Expression, bool]]) -> Table:
    """The rows by the first key, then the next; what has no value comes where the smallest come."""
    rows = list(table.rows)
    for key, falls in reversed(keys):
        values = [(key.value(row), row) for row in rows]
        there = sorted((pair for pair in values if pair[0] is not None), key=lambda pair: pair[0], reverse=falls)
        missing = [pair for pair in values if pair[0] is None]
        rows = [row for _, row in (there + missing if falls else missing + there)]
    return Table(table.columns, rows)


def order_key(reader: Reader) -> tuple[Expression, bool]:
    """An expression, and whether the largest comes first, which is the usual way."""
    found = reader.expression()
    falls = reader.take("asc", "desc") != "asc"
    if reader.take("nulls"):
        reader.need("first", "last")
    return found, falls


def row_count(reader: Reader) -> int:
    token = reader.next()
    if token.kind != "number":
        raise unreadable(token.text or "end of query", token.at)
    return int(token.text)


def take(reader: Reader, table: Table) -> Table:
    return Table(table.columns, table.rows[: row_count(reader)])


def distinct(reader: Reader, table: Table) -> Table:
    found = project(reader, table)
    unique = {tuple(map(str, row.values())): row for row in reversed(found.rows)}
    return Table(found.columns, list(reversed(unique.values())))


def count(reader: Reader, table: Table) -> Table:
    return Table({"Count": "long"}, [{"Count": len(table.rows)}])


OPERATORS: dict[str, Callable[[Reader, Table], Table]] = {
    "where": where,
    "project": project,
    "extend": extend,
    "summarize": summarize,
    "order": order,
    "sort": order,
    "top": top,
    "take": take,
    "limit": take,
    "distinct": distinct,
    "count": count,
}


def run(query: str, tables: dict[str, Table]) -> Table:
    """What the query makes of the tables. KqlError for what is wrong or not known."""
    reader = Reader(query)
    name = reader.word()
    if name not in tables:
        raise semantic("SEM0100", f"Failed to resolve table or column expression named '{name}'")
    table = typed(tables[name])
    while reader.take("|"):
        reader.operator = reader.word().lower()
        if reader.operator not in OPERATORS:
            raise semantic("SEM0260", f"Unknown operator: '{reader.operator}'")
        reader.columns = table.columns
        table = OPERATORS[reader.operator](reader, table)
    if reader.peek().kind != "end":
        raise unreadable(reader.peek().text, reader.peek().at)
    return written(table)


def typed(table: Table) -> Table:
    """Times as times, so that they compare."""
    times = [name for name, kind in table.columns.items() if kind == "datetime"]
    return Table(table.columns, [{**row, **{name: moment(row[name]) for name in times}} for row in table.rows])


def written(table: Table) -> Table:
    """Values as JSON has them."""
    return Table(table.columns, [{name: plain(value) for name, value in row.items()} for row in table.rows])


def plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return as_text(value)
    return str(value) if isinstance(value, timedelta) else value
