"""Validate the integration with demisto-sdk, and build the unified YAML that an administrator uploads.

`python -m local.build.pack validate|build`. demisto-sdk only works inside a content repository, and passes anything elsewhere,
so a small one is laid out in a temporary folder: https://xsoar.pan.dev/docs/integrations/package-dir
"""

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import click
import yaml

from . import reference, registry, texts

ROOT = registry.ROOT
SDK = ROOT / ".venv-sdk" / "bin" / "demisto-sdk"
NAME = "AzureStorage"
INTEGRATION = Path("Packs") / NAME / "Integrations" / NAME
FILES = (
    "AzureStorage.py",
    "AzureStorage.yml",
    "AzureStorage_test.py",
    "AzureStorage_description.md",
    "AzureStorage_image.png",
)
DESCRIPTION = "Respond to incidents in Azure Storage: find, isolate and restore storage accounts, preserve evidence, and check the security posture."
PACK_README = """Finds, isolates, restores and manages Azure Storage accounts, containers and blobs, and checks their security posture.

Run `make pack` to build the file that a server takes, and read README.md of the integration for how to sign in.
"""
METADATA = {
    "name": "Azure Storage for Incident Response",
    "description": DESCRIPTION,
    "support": "community",
    "author": "The authors of Azure Storage for Cortex XSOAR",
    "url": "",
    "email": "",
    "categories": ["Cloud Services"],
    "tags": [],
    "useCases": [],
    "keywords": ["Azure", "Storage", "Blob"],
    "marketplaces": ["xsoar"],
    "githubUser": [],
}
CONFIG = {
    "approved_categories.json": {"approved_list": ["Cloud Services", "IT Services"]},
    "approved_usecases.json": {"approved_list": {"common": [], "xsoar": []}},
    "approved_tags.json": {"approved_list": {"common": [], "xsoar": []}},
    "compliant_policies.json": {"policies": []},
}
# A rule that this module keeps and the validation must therefore find broken in a spoilt copy.
SPOILT_RULE = "IN100"


def lay_out(repository: Path) -> None:
    """A content repository with this integration as its only pack, committed and with a remote named origin."""
    integration = repository / INTEGRATION
    integration.mkdir(parents=True)
    for name in FILES:
        shutil.copy(ROOT / name, integration / name)
    readme = reference.platform_readme((ROOT / "README.md").read_text(), texts.load(), registry.commands())
    (integration / "README.md").write_text(readme)
    shutil.copytree(ROOT / "test_data", integration / "test_data")
    pack = repository / "Packs" / NAME
    (pack / "pack_metadata.json").write_text(json.dumps({**METADATA, "currentVersion": version()}, indent=4))
    (pack / "README.md").write_text(PACK_README)
    for name in (".pack-ignore", ".secrets-ignore"):
        (pack / name).write_text("")
    config = repository / "Config"
    config.mkdir()
    for name, content in CONFIG.items():
        (config / name).write_text(json.dumps(content))
    (repository / "Tests").mkdir()
    (repository / "Tests" / "conf.json").write_text('{"tests": [], "skipped_tests": {}, "skipped_integrations": {}}')
    commit(repository)


def version() -> str:
    """The version in pyproject.toml. A pattern will do: Python 3.10 has no TOML reader."""
    found = re.search(r'^version = "(\d+\.\d+\.\d+)"$', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    if not found:
        raise ValueError("pyproject.toml has no version of three numbers")
    return found[1]


def commit(repository: Path) -> None:
    """Commit everything, without the hooks and the signing that this user's git may ask for."""
    settings = ("user.name=local", "user.email=local@localhost", "commit.gpgsign=false", f"core.hooksPath={os.devnull}")
    who = [word for setting in settings for word in ("-c", setting)]
    origin = repository.with_suffix(".git")
    for command in (
        ("git", "init", "--quiet", "--initial-branch=master"),
        ("git", "add", "--all"),
        ("git", *who, "commit", "--quiet", "--message=integration"),
        ("git", "clone", "--quiet", "--bare", str(repository), str(origin)),
        ("git", "remote", "add", "origin", str(origin)),
        ("git", "fetch", "--quiet", "origin"),
    ):
        subprocess.run(command, cwd=repository, check=True, stdout=subprocess.DEVNULL)  # noqa: S603 - our own words


def sdk(repository: Path, *words: str) -> tuple[int, str]:
    """Run demisto-sdk in a content repository. Returns its exit code and all that it printed."""
    environment = {
        **os.environ,
        "DEMISTO_SDK_IGNORE_CONTENT_WARNING": "1",
        "DEMISTO_SDK_LOG_NO_COLORS": "1",
        "DEMISTO_SDK_CONTENT_PATH": str(repository),
        "DEMISTO_SDK_LOG_FILE_PATH": str(repository.parent),  # otherwise below the user's home
        "CI": "1",
    }
    environment.pop("DEMISTO_SDK_OFFLINE_ENV", None)  # with it, validate refuses to run
    command = (str(SDK), *words)
    done = subprocess.run(command, cwd=repository, env=environment, capture_output=True, text=True, check=False)  # noqa: S603
    return done.returncode, done.stdout + done.stderr


def run_validate(repository: Path) -> tuple[int, str]:
    config = str(ROOT / "local" / "build" / "offline.toml")
    return sdk(repository, "validate", "--input", f"Packs/{NAME}", "--config-path", config, "--ignore-support-level")


def spoil(repository: Path) -> None:
    """Break one rule, so that a validation which looks at nothing is found out."""
    manifest = repository / INTEGRATION / f"{NAME}.yml"
    text = manifest.read_text()
    changed = text.replace("Trust any certificate (not secure)", "Trust anything")
    assert changed != text  # noqa: S101 - the parameter is there, or the probe is worthless
    manifest.write_text(changed)


def check_unified(path: Path) -> None:
    """What a server needs of the unified YAML, looked at without the SDK. ValueError names what is missing."""
    unified = yaml.safe_load(path.read_text())
    script = unified["script"]["script"]
    compile(script, "<unified>", "exec")
    for text, present in (
        ("import demistomock", False),
        ("from CommonServerPython import", False),
        ("register_module_line", True),
        ('if __name__ in ("__main__", "__builtin__", "builtins")', True),
    ):
        if (text in script) is not present:
            raise ValueError(f"{'missing' if present else 'still there'} in the unified script: {text}")
    for key in ("image", "detaileddescription"):
        if not unified.get(key):
            raise ValueError(f"the unified YAML has no {key}")


@click.group()
def main() -> None:
    """Validate and pack the integration."""
    if not SDK.exists():
        raise click.ClickException("demisto-sdk is not installed: run `make sdk`.")


@main.command()
def validate() -> None:
    """Every rule of demisto-sdk that works without a network; local/build/offline.toml lists them."""
    with tempfile.TemporaryDirectory() as folder:
        repository = Path(folder) / "content"
        lay_out(repository)
        code, output = run_validate(repository)
        if code:
            sys.exit(output)
        spoil(repository)
        code, spoilt = run_validate(repository)
        if not code or SPOILT_RULE not in spoilt:
            sys.exit(f"demisto-sdk did not notice a broken rule, so its verdict is worth nothing:\n{spoilt}")
    click.echo("demisto-sdk validate: clean")


@main.command()
def build() -> None:
    """Write dist/AzureStorage.yml."""
    target = ROOT / "dist" / f"{NAME}.yml"
    with tempfile.TemporaryDirectory() as folder:
        repository = Path(folder) / "content"
        lay_out(repository)
        unified = Path(folder) / target.name  # not the target itself: that of an earlier run would hide a failure
        words = ("--input", str(INTEGRATION), "--marketplace", "xsoar", "--output", str(unified))
        code, output = sdk(repository, "prepare-content", *words)
        if code or not unified.exists():
            sys.exit(output)
        check_unified(unified)
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(unified, target)
    click.echo(f"{target.relative_to(ROOT)}: {target.stat().st_size // 1024} KB, ready to upload")


if __name__ == "__main__":
    main()
