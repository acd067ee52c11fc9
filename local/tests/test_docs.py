"""The documentation says nothing that a reader could not follow."""

import datetime
import json
import re
import secrets
import uuid
from pathlib import Path

import pytest

from local.azure import LocalAzure
from local.build import reference, registry, texts
from local.build.examples import INCIDENTS, SCRIPT, Normalizer, steps

ROOT = registry.ROOT
README = ROOT / "README.md"
PAGES = sorted(
    str(path.relative_to(ROOT))
    for path in (README, ROOT / "AzureStorage_description.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md"))
)


def headings(text: str) -> set[str]:
    """The anchors that a host makes of the headings of a page."""
    lines = (
        line.lstrip("# ") for line in re.sub(r"```.*?```", "", text, flags=re.DOTALL).splitlines() if line[:1] == "#"
    )
    return {
        re.sub(r"[^\w -]", "", re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", line).lower()).replace(" ", "-")
        for line in lines
    }


def written_by_us(text: str) -> str:
    """A page without the output of commands, which are quoted."""
    return "\n".join(line for line in text.splitlines() if not line.startswith(">"))


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page: str) -> None:
    text = written_by_us((ROOT / page).read_text())
    for target in re.findall(r"\]\((?!https://)([^)]+)\)", text):
        path, _, anchor = target.partition("#")
        aim = (ROOT / page).parent / path if path else ROOT / page
        assert aim.exists(), target
        assert not anchor or anchor in headings(aim.read_text()), target


@pytest.mark.parametrize("page", PAGES)
def test_every_command_that_a_page_tells_to_run_exists(page: str) -> None:
    named = set(re.findall(r"!(azure-storage-[a-z-]+)", written_by_us((ROOT / page).read_text())))
    assert {name.rstrip("-") for name in named} <= registry.commands().keys()


def test_every_page_of_the_documentation_is_reached_from_the_readme() -> None:
    reached, waiting = set[Path](), [README]
    while waiting:
        page = waiting.pop()
        reached.add(page)
        links = re.findall(r"\]\(([^)#:]+\.md)", page.read_text())
        waiting += {(page.parent / link).resolve() for link in links} - reached
    assert {path for path in (ROOT / "docs").rglob("*.md") if path not in reached} == set()


def test_every_make_target_that_the_pages_name_exists() -> None:
    targets = set(re.findall(r"^([a-z0-9]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in (README, ROOT / "docs" / "developing.md"):
        assert set(re.findall(r"(?:`|^)make ([a-z0-9]+)", page.read_text(), re.MULTILINE)) <= targets


def test_the_readme_names_every_role_of_the_commands() -> None:
    text = README.read_text()
    roles = {role for command in registry.commands().values() for role in command.role.split(" with ") if role}
    assert {role for role in roles if role not in text} == set()


def test_the_readme_names_every_command_that_asks_for_typed_confirmation() -> None:
    (line,) = (line for line in README.read_text().splitlines() if line.startswith("- **Typed confirmation**"))
    asking = {name for name, command in registry.commands().items() if command.confirms}
    assert asking <= set(re.findall(r"`(azure-storage-[a-z-]+)`", line))


def test_authorization_code_comes_first_and_is_recommended() -> None:
    """In the order of the vendor's guide: in the README, in the help of the form, and in the form."""
    for page in ("README.md", "AzureStorage_description.md"):
        flows = re.findall(r"^### (Authorization Code|Device Code)(.*)$", (ROOT / page).read_text(), re.MULTILINE)
        assert [name for name, _ in flows] == ["Authorization Code", "Device Code"], page
        assert "(recommended)" in flows[0][1]
    form = {field["name"]: field for field in texts.load().instance["parameters"]}
    assert "Authorization Code (recommended)" in form["auth_type"]["additionalinfo"]
    assert "advanced" not in form["redirect_uri"]


def test_the_readme_of_the_pack_has_every_command_and_no_link_into_the_repository() -> None:
    text = reference.platform_readme(README.read_text(), texts.load(), registry.commands())
    assert [name for name in registry.commands() if f"\n### {name}\n" not in text] == []
    assert re.findall(r"\]\((?!https://|#)", text) == []
    assert "![" not in text


def test_every_command_has_an_example() -> None:
    shown = {step.command: step for step in steps(SCRIPT.read_text()) if step.shown}
    kept = json.loads(reference.EXAMPLES.read_text())
    assert list(kept) == sorted(shown) == sorted(registry.commands())
    for name, example in kept.items():
        typed = f"!azure-storage-{shown[name].line}".replace(
            "{account}", "https://contosobackups.blob.core.windows.net"
        )
        assert re.sub(r"sig=[^&']*", "sig=...", typed) == example["line"], "run `make examples`"


def test_documented_output_names_no_machine_and_no_secret() -> None:
    for page in (reference.EXAMPLES, INCIDENTS):
        text = page.read_text()
        assert not re.search(r"127\.0\.0\.1|localhost:\d", text)
        assert set(re.findall(r"[?&]sig=([^&\s|'\"\\\\]+)", text)) == {"..."}


def test_two_runs_document_the_same(machine: LocalAzure) -> None:
    """What differs between two runs, by id, time, ETag, port or signature, is written alike."""

    def run(seconds: int) -> str:
        normalize = Normalizer(machine)
        at = normalize.started + datetime.timedelta(seconds=seconds)
        first, second = uuid.uuid4(), uuid.uuid4()
        return normalize(
            f"{first} {second} {first} {at:%Y-%m-%dT%H:%M:%S}.{secrets.randbelow(9) + 1}234567Z "
            f"{at + datetime.timedelta(hours=1):%Y-%m-%dT%H%%3A%M%%3A%SZ} 0x{secrets.token_hex(7).upper()} "
            f"https://{machine.blob_host}/contosoweb/a?sv=2022-11-02&sig={secrets.token_urlsafe()} {machine.subscription_id}"
        )

    assert run(1) == run(20)
    assert run(1) == (
        "00000001-0000-4000-8000-000000000000 00000002-0000-4000-8000-000000000000 00000001-0000-4000-8000-000000000000 "
        "2026-11-23T12:00:00.0000000Z 2026-11-23T13%3A00%3A00Z 0x8DE2801B6F0C1A2 "
        f"https://contosoweb.blob.core.windows.net/a?sv=2022-11-02&sig=... {machine.subscription_id}"
    )


@pytest.mark.parametrize("page", PAGES)
def test_words_that_the_platforms_validation_refuses(page: str) -> None:
    text = (ROOT / page).read_text()
    assert "test-module" not in text
    assert not re.search(r"version xx", text, re.IGNORECASE)


@pytest.mark.parametrize("page", PAGES)
def test_every_host_is_one_that_azure_could_have(page: str) -> None:
    hosts = re.findall(r"[\w.<>-]+\.core\.windows\.net", (ROOT / page).read_text())
    service = re.compile(r"[a-z0-9<>.-]{3,24}?\.(?:z\d+\.)?(?:blob|dfs|web|file|queue|table)\.core\.windows\.net")
    assert [host for host in hosts if not service.fullmatch(host) or host.count(".blob.") > 1] == []
