"""What a command shows to be typed again has to be read by the war room as the same values."""

import itertools
import json

import pytest

import AzureStorage
from local.xsoar.lines import parse_line

PIECES = ("a", " ", '"', "`", "\\", "=", "'", "{", "[", "\n", "\u00e9", "$x", "|", "")
NASTY = sorted({"".join(parts) for parts in itertools.product(PIECES, repeat=3)})


def test_every_value_comes_back_as_it_was() -> None:
    wrong = [
        text
        for text in NASTY
        if parse_line(f"!x a={AzureStorage.war_room_quote(text)} b=1")[1] != {"a": text, "b": "1"}
    ]
    assert not wrong


@pytest.mark.parametrize(
    "value",
    [
        "plain",
        "two words",
        {"owner": 'it\'s "x" `y` \\'},
        ["a b", "c,d"],
        True,
        7,
        "https://x/?a=1&b=2",
        "{",
        "[1",
        "a\\",
    ],
)
def test_a_command_line_comes_back_as_its_arguments(value: object) -> None:
    line = AzureStorage.command_line("blob-delete", {"account_name": "contoso"}, {"blob_name": value})
    wanted = value if isinstance(value, str) else json.dumps(value)
    assert parse_line(line) == ("azure-storage-blob-delete", {"account_name": "contoso", "blob_name": wanted})
