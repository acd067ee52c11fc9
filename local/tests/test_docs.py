"""The documentation says nothing that a reader could not follow."""

import re
from pathlib import Path

import pytest

from local.build import reference, registry, texts
from local.build.examples import SCRIPT, steps

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


def test_the_readme_of_the_pack_has_every_command_and_no_link_into_the_repository() -> None:
    text = reference.platform_readme(README.read_text(), texts.load(), registry.commands())
    assert [name for name in registry.commands() if f"\n### {name}\n" not in text] == []
    assert re.findall(r"\]\((?!https://|#)", text) == []
    assert "![" not in text


def test_every_command_has_an_example() -> None:
    shown = [step.command for step in steps(SCRIPT.read_text()) if step.shown]
    assert sorted(shown) == sorted(registry.commands())
    assert len(texts.load().commands) == len(shown)


@pytest.mark.parametrize("page", PAGES)
def test_words_that_the_platforms_validation_refuses(page: str) -> None:
    text = (ROOT / page).read_text()
    assert "test-module" not in text
    assert not re.search(r"version xx", text, re.IGNORECASE)
