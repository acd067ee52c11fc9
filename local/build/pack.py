"""Validate the pack with demisto-sdk, and build what an administrator uploads: the pack, or the integration alone.

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
import zipfile
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
PACK = ROOT / "pack"
CONFIG = {
    "approved_categories.json": {"approved_list": ["Cloud Services", "IT Services"]},
    "approved_usecases.json": {"approved_list": {"common": [], "xsoar": []}},
    "approved_tags.json": {"approved_list": {"common": [], "xsoar": []}},
    "compliant_policies.json": {"policies": []},
}
MANIFEST = INTEGRATION / f"{NAME}.yml"
PLAYBOOK = Path("Packs") / NAME / "Playbooks" / "playbook-Azure_Storage_-_Undo_Containment.yml"
# Rules that are kept, and what breaks each in a copy: a validation which looks at nothing is found out.
SPOILT = (
    ("IN100", MANIFEST, "Trust any certificate (not secure)", "Trust anything"),
    ("PB103", PLAYBOOK, "starttaskid: '0'", "starttaskid: '1'"),
    ("PB109", PLAYBOOK, "    taskid: ", "    taskid: 0"),
    ("PB119", PLAYBOOK, "- key: LockName", "- key: OtherName"),
    ("PB122", PLAYBOOK, "- label: 'yes'", "- label: certainly"),
)
# What the pack that a server takes has to hold.
PACKED = ("metadata.json", "Integrations/integration-", "Playbooks/playbook-", "TestPlaybooks/playbook-")


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
    shutil.copytree(PACK, pack, dirs_exist_ok=True)
    if json.loads((pack / "pack_metadata.json").read_text())["currentVersion"] != version():
        raise ValueError("pack_metadata.json and pyproject.toml have different versions")
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
    """Break the rules of SPOILT."""
    for rule, name, good, bad in SPOILT:
        path = repository / name
        text = path.read_text()
        if good not in text:
            raise ValueError(f"{name} has nothing to break {rule} with: {good}")
        path.write_text(text.replace(good, bad))


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
    """Validate and build the pack."""
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
        missed = [rule for rule, *_ in SPOILT if f"[{rule}]" not in spoilt]
        if not code or missed:
            sys.exit(f"demisto-sdk did not notice {', '.join(missed)}, so its verdict is worth nothing:\n{spoilt}")
    click.echo("demisto-sdk validate: clean")


@main.command()
def build() -> None:
    """Write dist/AzureStorage.zip, the pack, and dist/AzureStorage.yml, the integration alone."""
    with tempfile.TemporaryDirectory() as folder:
        repository = Path(folder) / "content"
        lay_out(repository)
        made = (unify(repository, Path(folder)), zip_pack(repository, Path(folder)))
        for path in made:
            target = ROOT / "dist" / path.name
            target.parent.mkdir(exist_ok=True)
            shutil.copyfile(path, target)
            click.echo(f"{target.relative_to(ROOT)}: {target.stat().st_size // 1024} KB, ready to upload")


def unify(repository: Path, folder: Path) -> Path:
    """The integration as one YAML file in a folder: not dist itself, where a file of before would hide a failure."""
    found = folder / f"{NAME}.yml"
    words = ("--input", str(INTEGRATION), "--marketplace", "xsoar", "--output", str(found))
    code, output = sdk(repository, "prepare-content", *words)
    if code or not found.exists():
        sys.exit(output)
    check_unified(found)
    return found


def zip_pack(repository: Path, folder: Path) -> Path:
    """The whole pack as a server takes it."""
    found = folder / "zips" / "uploadable_packs" / f"{NAME}.zip"
    (folder / "zips").mkdir()
    words = ("--input", f"Packs/{NAME}", "--output", str(folder / "zips"), "--no-zip-all")
    code, output = sdk(repository, "zip-packs", *words)
    if code or not found.exists():
        sys.exit(output)
    check_zip(found)
    return found


def check_zip(path: Path) -> None:
    """ValueError for a part of the pack that is not in the zip."""
    with zipfile.ZipFile(path) as pack:
        names = pack.namelist()
    for part in PACKED:
        if not any(name.removeprefix(f"{NAME}/").startswith(part) for name in names):
            raise ValueError(f"{path.name} has no {part}; it has {', '.join(names)}")


if __name__ == "__main__":
    main()
