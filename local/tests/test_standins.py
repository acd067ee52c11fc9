"""What stands in for the platform behaves as the platform does, where the integration relies on it."""

import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import CommonServerPython as csp
import demistomock as demisto
import pytest
import requests


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
        ({"k": {"a": True}}, 'k: {"a": true}'),
        ([{"a": 1}], "{'a': 1}"),
        ("*_\t", "*_\t"),
    ],
)
def test_a_cell_of_a_table(cell: Any, shown: str) -> None:
    assert csp.tableToMarkdown("T", [{"h": cell}], headers=["h"]) == f"### T\n|h|\n|---|\n| {shown} |\n"


def test_tables_without_rows_headers_or_name() -> None:
    assert csp.tableToMarkdown("T", []) == "### T\n**No entries.**\n"
    assert csp.tableToMarkdown("", [{"b": 1, "a": 2}]) == "|a|b|\n|---|---|\n| 2 | 1 |\n"
    assert csp.tableToMarkdown("T", [{"a|b": 1}]).startswith("### T\n|a\\|b|\n")
    assert csp.tableToMarkdown("T", [{"a": 1}], headerTransform=lambda name: f"{name}|b").startswith("### T\n|a|b|\n")
    assert csp.tableToMarkdown("T", {"a": 1}, headers="a", metadata="m") == "### T\nm\n|a|\n|---|\n| 1 |\n"
    assert (
        csp.tableToMarkdown("T", [{"a": "", "b": 0}], headers=["a", "b"], removeNull=True)
        == "### T\n|b|\n|---|\n| 0 |\n"
    )
    assert "No entries" in csp.tableToMarkdown("T", [{"a": None}], removeNull=True)
    assert csp.tableToMarkdown("T", [{"a_b": 1}], headerTransform=csp.string_to_table_header).startswith("### T\n|A B|")


@pytest.mark.parametrize(
    ("value", "cells"), [("x", ["x"]), (["x", 1], ["x", "1"]), ({"b": 1}, [""]), ([{"a": 1}, {"b": 2}], ["1", ""])]
)
def test_a_dictionary_with_one_key_is_a_column(value: Any, cells: list[str]) -> None:
    assert csp.tableToMarkdown("", {"a": value}) == "|a|\n|---|\n" + "".join(f"| {cell} |\n" for cell in cells)


def test_tables_that_the_platform_cannot_make() -> None:
    with pytest.raises(IndexError):
        csp.tableToMarkdown("T", {"a": []})
    with pytest.raises(Exception, match="Missing headers"):
        csp.tableToMarkdown("T", ["x"])
    with pytest.raises(TypeError):
        csp.tableToMarkdown("T", [{"a": b"x"}])
    with pytest.raises(AttributeError):
        csp.tableToMarkdown("T", [{"a": 1}, None])
    assert csp.tableToMarkdown("", ["x", 2], headers="h") == "|h|\n|---|\n| x |\n| 2 |\n"


@pytest.mark.parametrize("value", ["x", 5, True])
def test_outputs_that_are_no_object_are_their_own_text(value: Any) -> None:
    entry = csp.CommandResults(outputs_prefix="A.B", outputs_key_field="", outputs=value).to_context()
    assert entry["HumanReadable"] == value
    assert entry["EntryContext"] == {"A.B": value}


def test_an_error_entry_can_carry_context() -> None:
    entry = csp.CommandResults(outputs={"A.B": 1}, readable_output="no", entry_type=csp.EntryType.ERROR).to_context()
    assert (entry["Type"], entry["EntryContext"]) == (4, {"A.B": 1})


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
    del sent[:]
    csp.return_results([])
    csp.return_results([["a"], "b", 7, None])
    assert sent == [[], ["a"], 7, None, ["b"]]


def test_return_error_masks_parameters_cuts_and_leaves(monkeypatch: pytest.MonkeyPatch, sent: list[Any]) -> None:
    secrets = {"credentials": {"password": "hunter2-value"}, "url": "https://x", "api_key": "k-12345"}
    monkeypatch.setattr(demisto, "params", lambda: secrets)
    monkeypatch.setattr(csp, "LOG", csp.IntegrationLogger())
    csp.LOG.add_replace_strs("token-at-run-time")
    with pytest.raises(SystemExit):
        csp.return_error(ValueError("hunter2-value k-12345 token-at-run-time https://x"))
    assert sent[0]["Type"] == 4
    assert sent[0]["Contents"] == "<XX_REPLACED> <XX_REPLACED> <XX_REPLACED> https://x"
    assert sent[0]["EntryContext"] is None
    with pytest.raises(SystemExit):
        csp.return_error("x" * 60_000)
    assert len(sent[1]["Contents"]) == 50_003


def test_forms_in_which_a_known_string_is_masked() -> None:
    log = csp.IntegrationLogger()
    log.add_replace_strs('a b/"c"\nd', "")
    for form in ('a b/"c"\nd', 'a b/"c"\\nd', 'a b/\\"c\\"\\nd', "a+b%2F%22c%22%0Ad"):
        assert log.encode(f"x {form} y") == "x <XX_REPLACED> y"
    assert log.encode("a%20b%2F%22c%22%0Ad") == "a%20b%2F%22c%22%0Ad", "quote_plus is not quote"


def test_which_parameters_are_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only texts whose own name matches: the identifier of credentials is shown, and base64 of both is not."""
    params = {
        "credentials": {"identifier": "the-user", "password": "the-password", "nested": {"api_token": "t0ken"}},
        "private_number": 123456,
        "secret_list": ["in a list"],
    }
    monkeypatch.setattr(demisto, "params", lambda: params)
    log = csp.IntegrationLogger()
    both, alone = csp.b64_encode("the-user:the-password"), csp.b64_encode("the-password")
    assert log.encode(f"the-password {both} {alone} t0ken") == " ".join(["<XX_REPLACED>"] * 4)
    assert log.encode("the-user 123456 in a list") == "the-user 123456 in a list"


@pytest.mark.parametrize("debug", [False, True])
def test_the_traceback_of_the_error_being_handled(
    monkeypatch: pytest.MonkeyPatch, sent: list[Any], debug: bool
) -> None:
    logged: list[str] = []
    monkeypatch.setattr(demisto, "info", logged.append)
    monkeypatch.setattr(demisto, "is_debug", debug)
    monkeypatch.setattr(csp, "LOG", csp.IntegrationLogger())
    csp.LOG.add_replace_strs("known-secret")
    with pytest.raises(SystemExit):
        try:
            try:
                raise KeyError("known-secret and another-secret")
            except KeyError as cause:
                raise ValueError("the second") from cause
        except ValueError:
            csp.return_error("It failed.")
    assert "KeyError: '<XX_REPLACED> and another-secret'" in logged[0]
    assert "ValueError: the second" in logged[0]
    assert ("another-secret" in sent[0]["Contents"]) is debug
    with pytest.raises(SystemExit):
        csp.return_error("Not while an exception is handled.")
    assert sent[1]["Contents"] == "Not while an exception is handled."
    assert "Traceback" not in logged[1]


def test_return_error_of_a_fetch_raises(monkeypatch: pytest.MonkeyPatch, sent: list[Any]) -> None:
    monkeypatch.setattr(demisto, "command", lambda: "fetch-incidents")
    with pytest.raises(Exception, match="the reason"):
        csp.return_error("the reason")
    assert sent == []


class Echo(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Silent."""


@pytest.fixture
def echo() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Echo)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_debug_mode_prints_requests_and_only_one_function_masks_them(
    monkeypatch: pytest.MonkeyPatch, echo: str
) -> None:
    logged: list[str] = []
    monkeypatch.setattr(demisto, "info", logged.append)
    monkeypatch.setattr(demisto, "params", lambda: {"password": "pass word/1"})
    logger = csp.DebugLogger()
    monkeypatch.setattr(csp, "_requests_logger", logger)
    monkeypatch.setattr(csp, "LOG", csp.IntegrationLogger())
    try:
        csp.add_sensitive_log_strs("told to both")
        csp.LOG.add_replace_strs("told-to-LOG-only")
        headers = {"Authorization": "Bearer told-to-LOG-only"}
        body = {"a": "told to both", "b": "pass word/1", "c": "never told"}
        with requests.Session() as session:
            session.trust_env = False
            session.post(f"{echo}/path?q=1", data=body, headers=headers, timeout=5)
    finally:
        logger.stop()
    text = "\n".join(logged)
    assert "POST /path?q=1 HTTP/1.1" in text
    assert "Authorization: Bearer told-to-LOG-only" in text
    assert "a=<XX_REPLACED>&b=<XX_REPLACED>&c=never+told" in text
    assert "reply: 'HTTP/1.0 200 OK" in text
    assert "python logging: DEBUG [urllib3.connectionpool]" in text
    assert csp.LOG.encode("told to both told-to-LOG-only") == "<XX_REPLACED> <XX_REPLACED>"
    before = len(logged)
    with requests.Session() as session:
        session.trust_env = False
        session.post(echo, data="quiet", timeout=5)
    assert len(logged) == before


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
        ((1, 2), [(1, 2)]),
    ],
)
def test_arguments_that_are_lists(text: Any, value: list[Any]) -> None:
    assert csp.argToList(text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (None, None),
        ("", None),
        ("5.9", 5),
        ("1e3", 1000),
        (" 7 ", 7),
        ("-3", -3),
        ("123456789012345678901234567890", 123456789012345678901234567890),
        (True, True),
    ],
)
def test_arguments_that_are_numbers(text: Any, value: int | None) -> None:
    assert csp.arg_to_number(text) == value


def test_arguments_that_are_no_numbers() -> None:
    with pytest.raises(ValueError, match='Invalid number: "n"="x"'):
        csp.arg_to_number("x", "n")
    with pytest.raises(ValueError, match='Missing "n"'):
        csp.arg_to_number("", "n", required=True)
    for number in (5.9, "inf", "nan", b"5"):
        with pytest.raises(ValueError, match="is not a valid number"):
            csp.arg_to_number(number)
    with pytest.raises(TypeError):
        csp.argToList(b"a,b")


def test_empty_elements() -> None:
    assert csp.remove_empty_elements({"a": None, "b": {"c": []}, "d": "", "e": 0, "f": [None, 1]}) == {
        "d": "",
        "e": 0,
        "f": [1],
    }
    assert csp.assign_params(a=None, b="", c=(), d=0, e=False) == {"d": 0, "e": False}
    assert csp.pascalToSpace("storageAccountURL") == "Storage Account URL"
    assert csp.pascalToSpace("a1B2") == "A 1B2"
    assert csp.pascalToSpace("id") == "Id"


def test_the_arguments_of_an_exception() -> None:
    error = csp.DemistoException("m", "e", "response", "type", "more")
    assert error.args == ("m", "e", "type", "more")
    assert csp.DemistoException("m").args == ("m", None, None)
    assert (str(error), error.res, error.error_type) == ("m", "response", "type")


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
    ("version", "asked", "newer"),
    [("6.10.0", "6.5.0", True), ("6.5", "6.10.0", False), ("x", "5.0.0", True), ("6.10.0", "x", False)],
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
