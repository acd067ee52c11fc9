"""What a reader, a server and a playbook author pay for stays within limits."""

import ast
import io
import tokenize
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
MODULE = ROOT / "AzureStorage.py"
SOURCE = MODULE.read_text()
TREE = ast.parse(SOURCE)
FUNCTIONS = [node for node in ast.walk(TREE) if isinstance(node, ast.FunctionDef)]
LAYOUT = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
BLOCKS = (ast.If, ast.For, ast.While, ast.With, ast.Try)
SCOPES = (ast.FunctionDef, ast.ClassDef, ast.Lambda)


def tokens() -> int:
    """The tokens of the module without comments and layout."""
    return sum(found.type not in LAYOUT for found in tokenize.generate_tokens(io.StringIO(SOURCE).readline))


def uses_of_any() -> int:
    return sum(isinstance(node, ast.Name) and node.id == "Any" for node in ast.walk(TREE))


def length(function: ast.FunctionDef) -> int:
    return (function.end_lineno or 0) - function.lineno + 1


def nesting(node: ast.AST) -> int:
    """How many blocks stand within each other; an elif stands beside its if, and an inner function counts by itself."""
    return max((depth(child, node) for child in ast.iter_child_nodes(node)), default=0)


def depth(node: ast.AST, parent: ast.AST) -> int:
    if isinstance(node, SCOPES):
        return 0
    beside = isinstance(parent, ast.If) and isinstance(node, ast.If) and parent.orelse == [node]
    return (isinstance(node, BLOCKS) and not beside) + nesting(node)


def size(pattern: str) -> Callable[[], int]:
    """The bytes of the largest file."""
    return lambda: max(path.stat().st_size for path in ROOT.glob(pattern))


# What is measured, how, and the limit.
LIMITS: dict[str, tuple[Callable[[], int], int]] = {
    "tokens of the module": (tokens, 110_000),
    "functions of the module": (lambda: len(FUNCTIONS), 985),
    "uses of Any": (uses_of_any, 60),
    "lines of the longest function": (lambda: max(map(length, FUNCTIONS)), 40),
    "blocks within each other": (lambda: max(map(nesting, FUNCTIONS)), 3),
    "lines of the manifest": (lambda: len((ROOT / "AzureStorage.yml").read_text().splitlines()), 6_500),
    "bytes of the README": (size("README.md"), 40_000),
    "bytes of a page of the commands": (size("docs/commands/*.md"), 100_000),
}


@pytest.mark.parametrize("what", LIMITS)
def test_a_size_is_within_its_limit(what: str) -> None:
    measure, limit = LIMITS[what]
    assert measure() <= limit, what
