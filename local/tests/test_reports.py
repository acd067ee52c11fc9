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


def test_other_reports_use_the_same_page() -> None:
    view = az.View("Log", "Requests", {"Caller": "caller", "Bytes": "bytes"})
    section = az.html_section("203.0.113.7", view, {"requests": [{"caller": EVIL, "bytes": 7}], "others": []})
    page = Page("".join(az.html_report("Log search", {"Account": "contoso"}, [section])))
    assert page.text.count(EVIL) == 1
    assert page.count("table") == 1
    assert page.count("svg") == 0


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
