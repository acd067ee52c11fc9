"""Reports: pages and CSV files that are safe to open and need nothing else."""

import csv
import html.parser
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest

import AzureStorage as az
from local.azure import LocalAzure
from local.browser.reports import KINDS, make
from local.xsoar.walkthroughs import server_without_defaults

Json = dict[str, Any]
ID = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Storage/storageAccounts/"
EVIL = '<script>alert("x")</script>&<img src=x onerror=1>'
OPTIONS = az.PostureOptions(now=1_790_000_000.0)


class Page(html.parser.HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, Json]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)


def account(name: str, **properties: Any) -> Json:
    return {"id": ID + name, "name": name, "kind": "StorageV2", "properties": properties}


def write(folder: Path, monkeypatch: pytest.MonkeyPatch, kind: str, *accounts: Json) -> str:
    """The text of the file about the accounts; nothing else is left in the folder."""
    monkeypatch.chdir(folder)
    report = az.PostureFile(kind)
    result = az.PostureResult(include_passed=False, file=report)
    for item in accounts:
        result.add(item, az.assess(item, {"account": item}, OPTIONS))
    entry: Any = result.entries([], {"Scope": EVIL})[1]
    report.close()
    (path,) = folder.iterdir()
    assert entry["File"] == f"azure-storage-posture.{kind}"
    return path.read_bytes().decode()


def test_csv_has_every_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    accounts = account("first"), account("second", allowSharedKeyAccess=True)
    rows = list(csv.DictReader(io.StringIO(write(tmp_path, monkeypatch, "csv", *accounts), newline="")))
    expected = [row for item in accounts for row in az.assess(item, {"account": item}, OPTIONS)]
    assert [row["id"] for row in rows] == [row["id"] for row in expected], "passes too"
    assert [row["fix"] for row in rows] == [row["fix"] for row in expected]


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_csv_runs_no_formula(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: str) -> None:
    evil = f'{start}cmd|" -C calc"!A0'
    text = write(tmp_path, monkeypatch, "csv", account(evil))
    header, *lines = csv.reader(io.StringIO(text, newline=""))
    names = {dict(zip(header, line, strict=True))["account"] for line in lines}
    assert names == {f"'{evil}"}
    assert not any(cell.startswith(tuple("=+-@\t\r")) for line in lines for cell in line)


def test_html_is_escaped_and_needs_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = write(tmp_path, monkeypatch, "html", account(EVIL.replace("/", "_"), minimumTlsVersion=EVIL))
    page = Page(text)
    tags = {tag for tag, _ in page.tags}
    assert not {"img", "link", "iframe", "object", "base"} & tags
    assert page.count("script") == 1, "the filter, and nothing else"
    assert not any({"src", "href", "onerror"} & attrs.keys() for _, attrs in page.tags)
    assert not re.search(r"url\(|@import|https?://", text)
    assert f"minimumTlsVersion is {EVIL}" in page.text
    assert page.text.count(EVIL) == 2, "evidence and scope"


def test_html_is_accessible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = Page(write(tmp_path, monkeypatch, "html", account("first")))
    assert dict(page.tags)["html"] == {"lang": "en"}
    assert page.count("caption") == page.count("table") == 2
    assert page.count("main") == page.count("h1") == 1
    assert all(attrs.get("scope") == "col" for tag, attrs in page.tags if tag == "th")
    assert all(attrs.get("aria-label") for tag, attrs in page.tags if tag == "svg")
    assert {"High", "not set (default: allowed)"} <= set(re.split(r"[\n<>]", page.text)) or "High" in page.text


def sections(text: str) -> list[str]:
    return re.findall(r'data-name="([^"]*)"', text)


def test_html_puts_the_worst_account_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    good: Json = {"supportsHttpsTrafficOnly": True, "allowSharedKeyAccess": False}
    text = write(tmp_path, monkeypatch, "html", account("good", **good), account("bad", allowSharedKeyAccess=True))
    assert sections(text) == ["bad", "good"]


def test_html_folds_passes_away_and_shows_the_worst_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = write(tmp_path, monkeypatch, "html", account("first", allowSharedKeyAccess=True))
    shown, folded = text.split("passed</summary>")
    severities = re.findall(r'<tr data-severity="(\w+)"', shown)
    assert severities == sorted(severities, key=az.SEVERITIES.index)
    assert "Shared Key access is disabled" in shown
    assert "NFS 3.0 is disabled" in folded


def test_a_report_says_what_it_is_about(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = write(tmp_path, monkeypatch, "html", account("first"), account("second"))
    assert "<dt>Accounts</dt><dd>2</dd>" in text
    assert "<dt>High severity</dt>" in text
    assert "<dt>Scope</dt>" in text


def test_a_failure_leaves_no_file_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    report = az.PostureFile("html")
    report.add(az.posture_counts(account("a"), []), [])
    report.close()
    assert not list(tmp_path.iterdir())


VIEW = az.View("Log", "Requests", {"Caller": "caller", "Bytes": "bytes", "Key": "key"})


def test_other_reports_use_the_same_page() -> None:
    table = az.html_table(VIEW, [{"caller": EVIL, "bytes": 7_654_321}], "requests")
    section = az.html_section("203.0.113.7", table, az.html_table(VIEW, [], "others", folded=True))
    text = "".join(az.html_report("Log search", {"Account": "contoso"}, [section]))
    page = Page(text)
    assert page.text.count(EVIL) == 1
    assert page.count("table") == 1
    assert page.count("svg") == page.count("select") == 0
    assert "7,654,321" in page.text
    assert [attrs.get("data-label") for tag, attrs in page.tags if tag == "td"] == ["Caller", "Bytes"], "none is empty"


def test_a_row_that_needs_no_attention_is_folded_away() -> None:
    text = az.html_section("contoso", az.html_table(VIEW, [{"caller": "ann"}], "passed", folded=True))
    page = Page(text)
    assert [attrs.get("open") for tag, attrs in page.tags if tag == "details"] == ["open", None]
    assert "1 passed" in page.text


def test_only_long_words_of_a_cell_are_broken() -> None:
    classes = [Page(az.html_cell("SHA-256", "a" * length)).tags[0][1].get("class") for length in (24, 25)]
    assert classes == [None, "long"]


@pytest.mark.parametrize(
    "text", [EVIL, "&lt;", "[a](https://b.example)", "www.example", "a\\b", "ftp://c.example", "&copy", "&copy;"]
)
def test_a_line_of_the_war_room_is_as_it_was(text: str) -> None:
    page = Page(az.html_line(f"**Anonymous: open.** {az.md(text)} {az.code('!a b=`c`')}"))
    assert page.text == f"Anonymous: open. {text} !a b=`c`"
    assert page.tags == [("b", {"class": "high"}), ("code", {})]


def test_a_timeline_has_as_many_bars_whatever_it_counts() -> None:
    timeline = az.Timeline(0, 960)
    for second in range(-10, 1000):
        timeline.add(second, "Failed" if second % 2 else "Succeeded")
    timeline.add(None, "Failed")
    text = timeline.html()
    page = Page(text)
    bars = [attrs for tag, attrs in page.tags if tag == "rect"]
    assert len(bars) == 2 * az.Timeline.BARS
    assert {attrs["class"] for attrs in bars} == {"failed", "succeeded"}
    assert sum(int(attrs["height"]) for attrs in bars) == 1010
    assert "505 failed, 505 succeeded" in page.text
    assert "1970-01-01T00:16:00Z" in page.text


def test_a_timeline_of_nothing_or_of_one_moment() -> None:
    timeline = az.Timeline(5, 5)
    timeline.add(None, "Done")
    assert timeline.html() == ""
    timeline.add(5, EVIL)
    page = Page(timeline.html())
    assert page.count("rect") == 1
    assert not {"script", "img"} & {tag for tag, _ in page.tags}


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The text of every report of the local Azure."""
    folder = tmp_path_factory.mktemp("reports")
    with LocalAzure(folder / "azure") as azure:
        server = server_without_defaults(folder / "server", azure)
        return {kind.name: path.read_text() for kind, path in make(azure, server)}


@pytest.mark.parametrize("name", [kind.name for kind in KINDS])
def test_every_report_needs_nothing_else_and_says_what_it_is_about(pages: dict[str, str], name: str) -> None:
    page = Page(pages[name])
    assert page.count("script") == page.count("h1") == page.count("form") == 1
    assert not any({"src", "href", "onerror"} & attrs.keys() for _, attrs in page.tags)
    assert not re.search(r"url\(|@import", pages[name])
    for fact in ("Date", "Scope", "Requested by"):
        assert f"<dt>{fact}</dt><dd>" in pages[name]
    assert sections(pages[name])
    assert not re.search(r"sig=(?!\.\.\.)\w", pages[name])


def test_a_custody_report_shows_names_as_they_are(pages: dict[str, str]) -> None:
    page = Page(pages["custody"])
    assert "tools/a longer name with <b>tags</b> & more/readme.html" in page.text
    assert page.count("b") == 0
    assert "source deleted" in page.text


def test_a_log_report_counts_and_folds_the_requests(pages: dict[str, str]) -> None:
    shown, folded = pages["log-search"].split("newest requests</summary>")
    assert "ann@contoso.example" in Page(shown).text
    assert "/2026/12.html" not in shown
    assert "/2026/12.html" in folded
    assert re.search(r"<dt>Callers</dt><dd>\d", shown)


def test_a_triage_report_ends_with_commands_to_copy(pages: dict[str, str]) -> None:
    page = Page(pages["triage"])
    assert '<b class="high">Anonymous: open.</b>' in pages["triage"]
    assert page.count("ol") == 1
    assert page.count("code") == page.text.count("!azure-storage-") >= 5


def test_context_is_cut_by_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(az, "FINDINGS_SIZE", 3000)
    result = az.PostureResult(include_passed=True, file=None)
    item = account("first")
    result.add(item, az.assess(item, {"account": item}, OPTIONS))
    entry: Any = result.entries([], {})[0]
    rows = next(value for key, value in entry.outputs.items() if "Posture(" in key)
    assert 0 < len(json.dumps(rows)) < 3200
    assert "Context was cut to" in entry.readable_output
    assert "report=csv" in entry.readable_output
