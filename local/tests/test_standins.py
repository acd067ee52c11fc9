"""What stands in for the platform behaves as the platform does, where the integration relies on it."""

import os
from pathlib import Path
from typing import Any

import CommonServerPython as csp
import demistomock as demisto
import pytest


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    found: list[Any] = []
    monkeypatch.setattr(demisto, "results", found.append)
    return found


@pytest.mark.parametrize(
    ("cell", "shown"),
    [
        (None, ""),
        (True, "true"),
        (0, "0"),
        ("a|b`c", "a\\|b\\`c"),
        ("a\r\nb\nc\rd", "a<br>b<br>c<br>d"),
        ([1, "x"], "1,<br>x"),
        ({"k": 1, "l": 2}, "k: 1<br>l: 2"),
        ("*_\t", "*_\t"),
    ],
)
def test_a_cell_of_a_table(cell: Any, shown: str) -> None:
    assert csp.tableToMarkdown("T", [{"h": cell}], headers=["h"]) == f"### T\n|h|\n|---|\n| {shown} |\n"


def test_tables_without_rows_headers_or_name() -> None:
    assert csp.tableToMarkdown("T", []) == "### T\n**No entries.**\n"
    assert csp.tableToMarkdown("", [{"b": 1, "a": 2}]) == "|a|b|\n|---|---|\n| 2 | 1 |\n"
    assert csp.tableToMarkdown("T", {"a": 1}, headers="a", metadata="m") == "### T\nm\n|a|\n|---|\n| 1 |\n"
    assert (
        csp.tableToMarkdown("T", [{"a": "", "b": 0}], headers=["a", "b"], removeNull=True)
        == "### T\n|b|\n|---|\n| 0 |\n"
    )
    assert "No entries" in csp.tableToMarkdown("T", [{"a": None}], removeNull=True)
    assert csp.tableToMarkdown("T", [{"a_b": 1}], headerTransform=csp.string_to_table_header).startswith("### T\n|A B|")


def test_an_entry_of_results() -> None:
    entry = csp.CommandResults(outputs_prefix="A.B", outputs_key_field=["x", "y"], outputs=[{"x": 1}]).to_context()
    assert list(entry) == [
        *(
            "Type",
            "ContentsFormat",
            "Contents",
            "HumanReadable",
            "EntryContext",
            "IndicatorTimeline",
            "IgnoreAutoExtract",
        ),
        *("Note", "Relationships"),
    ]
    assert list(entry["EntryContext"]) == ["A.B(val.x && val.x == obj.x && val.y && val.y == obj.y)"]
    assert entry["HumanReadable"].startswith("### Results")
    assert entry["Contents"] == [{"x": 1}]
    assert csp.CommandResults(outputs={"A(true)": {"b": 1}}).to_context()["EntryContext"] == {"A(true)": {"b": 1}}
    assert csp.CommandResults(outputs_prefix="A", outputs=[]).to_context()["EntryContext"] == {}
    assert csp.CommandResults(raw_response="text").to_context()["ContentsFormat"] == "text"
    assert csp.CommandResults(readable_output="").to_context()["HumanReadable"] is None
    assert csp.CommandResults(readable_output="x", tags=["t"]).to_context()["Tags"] == ["t"]
    with pytest.raises(ValueError, match="outputs_prefix"):
        csp.CommandResults(outputs=[1])
    with pytest.raises(TypeError):
        csp.CommandResults(outputs_key_field=1)  # type: ignore[arg-type]


def test_a_scheduled_command_never_runs_within_ten_seconds() -> None:
    schedule = csp.ScheduledCommand("c", 2, args={"a": "1"}, timeout_in_seconds=600)
    entry = csp.CommandResults(scheduled_command=schedule).to_context()
    assert (entry["PollingCommand"], entry["NextRun"], entry["Timeout"]) == ("c", "10", "600")
    assert entry["PollingArgs"] == {"a": "1"}


def test_results_are_sent_one_by_one_and_the_rest_together(sent: list[Any]) -> None:
    csp.return_results([csp.CommandResults(readable_output="a"), "text", {"k": 1}])
    csp.return_results("ok")
    assert sent[0]["HumanReadable"] == "a"
    assert sent[1:] == [["text", {"k": 1}], "ok"]


def test_return_error_masks_parameters_cuts_and_leaves(monkeypatch: pytest.MonkeyPatch, sent: list[Any]) -> None:
    secrets = {"credentials": {"password": "hunter2-value"}, "url": "https://x", "api_key": "k-12345"}
    monkeypatch.setattr(demisto, "params", lambda: secrets)
    monkeypatch.setattr(csp, "LOG", csp.IntegrationLogger())
    csp.LOG.add_replace_strs("token-at-run-time")
    with pytest.raises(SystemExit):
        csp.return_error(ValueError("hunter2-value k-12345 token-at-run-time https://x"))
    assert sent[0]["Type"] == 4
    assert sent[0]["Contents"] == "<XX_REPLACED> <XX_REPLACED> <XX_REPLACED> https://x"
    with pytest.raises(SystemExit):
        csp.return_error("x" * 60_000)
    assert len(sent[1]["Contents"]) == 50_003


@pytest.mark.parametrize(
    ("text", "value"), [("true", True), ("YES", True), ("False", False), ("no", False), (True, True)]
)
def test_arguments_that_are_booleans(text: Any, value: bool) -> None:
    assert csp.argToBoolean(text) is value


@pytest.mark.parametrize("text", [None, "", "1", 1, " true"])
def test_arguments_that_are_no_booleans(text: Any) -> None:
    with pytest.raises(ValueError):
        csp.argToBoolean(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (None, []),
        ("", []),
        ("a, b,,c ", ["a", "b", "", "c"]),
        ("[1,2]", [1, 2]),
        ("[1,", ["[1", ""]),
        (["x"], ["x"]),
        (7, [7]),
    ],
)
def test_arguments_that_are_lists(text: Any, value: list[Any]) -> None:
    assert csp.argToList(text) == value


@pytest.mark.parametrize(
    ("text", "value"), [(None, None), ("", None), ("5.9", 5), ("1e3", 1000), (" 7 ", 7), ("-3", -3)]
)
def test_arguments_that_are_numbers(text: Any, value: int | None) -> None:
    assert csp.arg_to_number(text) == value


def test_arguments_that_are_no_numbers() -> None:
    with pytest.raises(ValueError, match='Invalid number: "n"="x"'):
        csp.arg_to_number("x", "n")
    with pytest.raises(ValueError, match='Missing "n"'):
        csp.arg_to_number("", "n", required=True)
    with pytest.raises(ValueError):
        csp.arg_to_number(5.9)


def test_empty_elements() -> None:
    assert csp.remove_empty_elements({"a": None, "b": {"c": []}, "d": "", "e": 0, "f": [None, 1]}) == {
        "d": "",
        "e": 0,
        "f": [1],
    }
    assert csp.assign_params(a=None, b="", c=(), d=0, e=False) == {"d": 0, "e": False}
    assert csp.pascalToSpace("storageAccountURL") == "Storage Account URL"


def test_the_context_of_a_server_old_and_new(monkeypatch: pytest.MonkeyPatch) -> None:
    demisto.setIntegrationContext({"a": 1})
    assert csp.get_integration_context_with_version() == ({"a": 1}, -1)
    csp.set_integration_context({"b": 2}, version=5)
    assert demisto.getIntegrationContext() == {"b": 2}
    monkeypatch.setattr(demisto, "demistoVersion", lambda: {"version": "6.10.0"})
    monkeypatch.setattr(
        demisto, "getIntegrationContextVersioned", lambda refresh=True: {"context": {"c": 3}, "version": 7}
    )
    assert csp.get_integration_context_with_version() == ({"c": 3}, 7)
    assert csp.get_integration_context() == {"c": 3}


@pytest.mark.parametrize(
    ("version", "asked", "newer"), [("6.10.0", "6.5.0", True), ("6.5", "6.10.0", False), ("x", "5.0.0", True)]
)
def test_versions_are_compared_as_numbers(
    monkeypatch: pytest.MonkeyPatch, version: str, asked: str, newer: bool
) -> None:
    monkeypatch.setattr(demisto, "demistoVersion", lambda: {"version": version})
    assert csp.is_demisto_version_ge(asked) is newer


def test_proxy_and_certificate_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")
    for name in names:
        monkeypatch.setenv(name, "proxy.local:3128")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/ca.pem")
    monkeypatch.setattr(demisto, "params", lambda: {"proxy": True})
    assert csp.handle_proxy() == {"http": "http://proxy.local:3128", "https": "http://proxy.local:3128"}
    assert os.environ["REQUESTS_CA_BUNDLE"] == "/ca.pem"
    monkeypatch.setattr(demisto, "params", lambda: {"proxy": False, "insecure": True})
    assert csp.handle_proxy() == {}
    assert not [name for name in (*names, "REQUESTS_CA_BUNDLE") if name in os.environ]


def test_a_file_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    entry = csp.fileResult("../../notes.txt", "Zürich")
    assert (entry["Type"], entry["File"]) == (3, "notes.txt")
    assert (tmp_path / f"1_{entry['FileID']}").read_bytes() == "Zürich".encode()
    with pytest.raises(TypeError):
        csp.fileResult("x", None)


def test_the_mock_refuses_what_is_not_json() -> None:
    with pytest.raises(TypeError):
        demisto.results(object())
    assert demisto.getFilePath("1@1")["path"] == "test/test.txt"
    assert demisto.params() == {}
    assert demisto.args() == {}
    assert demisto.command() == ""
