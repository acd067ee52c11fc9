"""The documentation is in step with the manifest and the module, and says nothing that a reader could not follow."""

import re

import pytest
import yaml

from local.build.docs import README, ROOT, generated

PAGES = ("README.md", "AzureStorage_description.md", "CHANGELOG.md")


def test_the_generated_parts_are_up_to_date() -> None:
    text = README.read_text()
    assert generated(text) == text, "run `make docs`"


def test_every_command_is_described_and_every_link_leads_somewhere() -> None:
    text = README.read_text()
    commands = yaml.safe_load((ROOT / "AzureStorage.yml").read_text())["script"]["commands"]
    assert not [command["name"] for command in commands if f"### {command['name']}\n" not in text]
    for target in re.findall(r"\]\((?!https://)([^)]+)\)", text):
        path, _, anchor = target.partition("#")
        assert not path or (ROOT / path).exists(), target
        headings = {
            re.sub(r"[^\w -]", "", line.lstrip("# ").lower()).replace(" ", "-")
            for line in text.splitlines()
            if line.startswith("#")
        }
        assert not anchor or anchor in headings, target


def test_every_command_that_the_pages_tell_to_run_exists() -> None:
    commands = {
        command["name"] for command in yaml.safe_load((ROOT / "AzureStorage.yml").read_text())["script"]["commands"]
    }
    for page in PAGES:
        named = set(re.findall(r"!(azure-storage-[a-z-]+)", (ROOT / page).read_text()))
        assert not {name.rstrip("-") for name in named} - commands, page


def test_every_make_target_that_the_readme_names_exists() -> None:
    targets = set(re.findall(r"^([a-z0-9]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"`make ([a-z0-9]+)", README.read_text())) <= targets


@pytest.mark.parametrize("page", PAGES)
def test_words_that_the_platforms_validation_refuses(page: str) -> None:
    text = (ROOT / page).read_text()
    assert "test-module" not in text
    assert not re.search(r"version xx", text, re.IGNORECASE)
