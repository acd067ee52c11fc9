"""AzureStorage.yml against AzureStorage.py, the pack it replaces, and what Azure answers: none of them may drift.

The commands run in this process, with the recorded answers of test_data/arm in place of Azure.
"""

import ast
import base64
import binascii
import datetime
import inspect
import json
import logging
import re
import sys
import time
import traceback
import urllib
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import demistomock as demisto
import pytest
import requests
import requests_mock as rm
import yaml
from CommonServerPython import EntryType

import AzureStorage as az
from local.build import manifest, registry, texts
from local.tests import recorded_azure
from local.tests.recorded_azure import ACCOUNT, GROUP, SNAPSHOT, SUBSCRIPTION, VERSION

ROOT = Path(__file__).resolve().parent.parent.parent
SOURCE = (ROOT / "AzureStorage.py").read_text()
TREE = ast.parse(SOURCE)
MANIFEST: dict[str, Any] = yaml.safe_load((ROOT / "AzureStorage.yml").read_text())
COMMANDS: dict[str, dict[str, Any]] = {entry["name"]: entry for entry in MANIFEST["script"]["commands"]}
PARAMETERS: dict[str, dict[str, Any]] = {entry["name"]: entry for entry in MANIFEST["configuration"]}
COMPAT: dict[str, Any] = json.loads((ROOT / "test_data/compat/azure_storage_surface.json").read_text())
COMPAT_COMMANDS = {name: entry for name, entry in COMPAT.items() if name.startswith("azure-")}

# The existing pack demands them of every update; here only creation needs them, or a command can name its own.
RELAXED_ARGUMENTS = {"sku", "kind", "location"}
RELAXED_PARAMETERS = {"subscription_id", "resource_group_name"}
# Choices that the code leaves to Azure, since regions come and go; the manifest offers today's.
CHOICES_OF_THE_MANIFEST = {("azure-storage-account-create-update", "location")}
# Declared for old playbooks, and not in any answer.
NEVER_RECORDED = {
    "AzureStorage.Subscription.count.type": "part of the page that lists subscriptions, not of a subscription",
    "AzureStorage.Subscription.count.value": "part of the page that lists subscriptions, not of a subscription",
    **dict.fromkeys(
        ("File.Name", "File.Size", "File.SHA256", "File.MD5", "File.EntryID"),
        "added by the server for every file entry",
    ),
    **dict.fromkeys(
        (f"AzureStorage.Change.steps.{key}" for key in ("step", "result", "detail")),
        "listed where a change has several steps or one failed; test_flags compares them",
    ),
    "AzureStorage.BlobContainer.properties.metadata.metadata": "one name of many that people give to metadata",
    "AzureStorage.BlobContainer.account": "only of a container that the blob service tells",
    "AzureStorage.Quarantine.unsaved": "only where the integration context could not be saved",
    **dict.fromkeys(
        ("AzureStorage.Quarantine.source.metadata", "AzureStorage.Quarantine.events.copyId"),
        "only of a copy that this run began",
    ),
}
# Objects whose names people choose: the object is declared, not what is in it.
FREE_OBJECTS = {"tags", "metadata", "replication", "userAssignedIdentities", "before", "after", "restore"}
# Lists of objects whose names people choose: a query names its columns.
FREE_LISTS = {"rows"}
TYPES = {"String", "Boolean", "Number", "Date", "Unknown"}
TEXTS = texts.load()
DESCRIBED = {output.context_path: output.type for outputs in TEXTS.objects.values() for output in outputs}


def arguments(name: str) -> dict[str, dict[str, Any]]:
    return {entry["name"]: entry for entry in COMMANDS[name].get("arguments") or []}


def outputs(name: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = COMMANDS[name].get("outputs") or []
    return found


def declared_paths(name: str) -> set[str]:
    return {entry["contextPath"] for entry in outputs(name)}


def each(names: Any) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("name", sorted(names))


# Generated files and their texts


def test_the_generated_files_are_up_to_date() -> None:
    assert manifest.stale(manifest.files()) == [], "run `make manifest`"


def test_every_command_has_a_text_an_index_line_and_a_section() -> None:
    assert texts.problems(TEXTS, registry.commands()) == []
    files = manifest.files()
    for name in COMMANDS:
        page = f"docs/commands/{TEXTS.commands[name].page}.md"
        assert f"\n## {name}\n" in files[page]
        assert f"[{name}]({TEXTS.commands[name].page}.md#{name})" in files["docs/commands/README.md"]


SUBSCRIPTIONS = "azure-storage-subscriptions-list"
OWN = TEXTS.commands[SUBSCRIPTIONS]


def test_a_command_without_a_text_is_told_in_a_sentence() -> None:
    without = TEXTS._replace(commands={name: own for name, own in TEXTS.commands.items() if name != SUBSCRIPTIONS})
    assert texts.problems(without, registry.commands()) == [
        f"{SUBSCRIPTIONS} has no description: add it under `commands` in local/build/texts/commands/<noun>.yml."
    ]


def test_an_argument_without_a_text_is_told_in_a_sentence() -> None:
    without = TEXTS._replace(arguments={key: text for key, text in TEXTS.arguments.items() if key != "all_policies"})
    (problem,) = texts.problems(without, registry.commands())
    assert problem.startswith(
        "Argument all_policies of azure-storage-container-policy-revoke has no description: add it"
    )
    assert "local/build/texts/commands/policies.yml" in problem


def test_an_object_without_a_text_is_told_in_a_sentence() -> None:
    without = TEXTS._replace(objects={key: rows for key, rows in TEXTS.objects.items() if key != "ResourceGroup"})
    assert texts.problems(without, registry.commands()) == [
        "azure-storage-resource-group-list returns ResourceGroup, which has no description: "
        "add the object to local/build/texts/objects.yml."
    ]


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (TEXTS._replace(arguments={**TEXTS.arguments, "nobody": "Text."}), "describes nobody"),
        (
            TEXTS._replace(objects={**TEXTS.objects, "Nothing": (texts.Output("Nothing", "id", "String", "The ID."),)}),
            "describes AzureStorage.Nothing.id",
        ),
        (
            TEXTS._replace(commands={**TEXTS.commands, SUBSCRIPTIONS: OWN._replace(arguments={"nobody": "Text."})}),
            "describes argument nobody",
        ),
        (
            TEXTS._replace(
                commands={**TEXTS.commands, SUBSCRIPTIONS: OWN._replace(arguments={"limit": TEXTS.arguments["limit"]})}
            ),
            "repeats the text of argument limit",
        ),
        (
            TEXTS._replace(commands={**TEXTS.commands, "azure-storage-gone": OWN._replace(name="azure-storage-gone")}),
            "describes azure-storage-gone, which AzureStorage.py does not have",
        ),
    ],
    ids=["argument", "object", "override", "repeated", "command"],
)
def test_a_text_that_nothing_uses_is_told_in_a_sentence(changed: texts.Texts, told: str) -> None:
    (problem,) = texts.problems(changed, registry.commands())
    assert problem.startswith("local/build/texts/")
    assert told in problem


def test_a_text_that_two_commands_repeat_is_told_in_a_sentence() -> None:
    names = (SUBSCRIPTIONS, "azure-storage-resource-group-list")
    own = {name: TEXTS.commands[name]._replace(arguments={"limit": "The same."}) for name in names}
    (problem,) = texts.problems(TEXTS._replace(commands={**TEXTS.commands, **own}), registry.commands())
    assert problem.startswith(f"{names[0]} and {names[1]} describe argument limit in the same words")


@each(COMMANDS)
def test_a_description_begins_with_a_verb_in_the_third_person(name: str) -> None:
    assert re.match(r"[A-Z][a-z]+s[ ,]", COMMANDS[name]["description"])


# Manifest and registry


def test_manifest_and_registry_have_the_same_commands() -> None:
    assert len(COMMANDS) == len(MANIFEST["script"]["commands"]), "a command is there twice"
    assert set(COMMANDS) == set(az.COMMANDS) - {"test-module"}


@each(COMMANDS)
def test_arguments_are_those_of_the_signature(name: str) -> None:
    assert len(arguments(name)) == len(COMMANDS[name].get("arguments") or []), "an argument is there twice"
    assert set(arguments(name)) == set(az.COMMANDS[name].arguments())


@pytest.mark.parametrize(
    ("name", "argument"), [(name, argument) for name in sorted(COMMANDS) for argument in arguments(name)]
)
def test_an_argument_is_what_the_signature_says(name: str, argument: str) -> None:
    declared, real = arguments(name)[argument], az.COMMANDS[name].arguments()[argument]
    assert declared["required"] is real.required
    default = None if real.required or real.default is None else az.as_text(real.default)
    assert declared.get("defaultValue") == default
    assert declared.get("isArray", False) is real.reader.many
    assert declared.get("secret", False) is real.reader.secret
    assert declared.get("hidden", False) is real.hidden
    assert declared.get("auto") == ("PREDEFINED" if "predefined" in declared else None)
    if (name, argument) in CHOICES_OF_THE_MANIFEST:
        assert [real.reader.read(item) for item in declared["predefined"]] == declared["predefined"]
        assert len(set(declared["predefined"])) == len(declared["predefined"])
    else:
        assert declared.get("predefined", []) == list(real.reader.choices)


@each(COMMANDS)
def test_a_form_begins_with_the_account_and_ends_with_what_is_rarely_given(name: str) -> None:
    names = [entry["name"] for entry in COMMANDS[name]["arguments"]]
    own = [argument for argument in names if argument not in (*registry.FIRST, *registry.LAST)]
    hidden = [
        argument for argument in own if arguments(name)[argument].get("hidden") or argument in az.COMMANDS[name].aliases
    ]
    first = [argument for argument in registry.FIRST if argument in names]
    last = [argument for argument in registry.LAST if argument in names]
    assert names == [*first, *(argument for argument in own if argument not in hidden), *last, *hidden]


@each(COMMANDS)
def test_other_spellings_say_so(name: str) -> None:
    spellings = {alias: f"Alternative spelling of {argument}." for alias, argument in az.COMMANDS[name].aliases.items()}
    assert {alias: arguments(name)[alias]["description"] for alias in spellings} == spellings


def change_keys() -> set[str]:
    """The paths of what a change puts into context, told by one whose only step failed."""
    step = az.Step("try", lambda: None)
    outcome = az.Outcome(step, az.FAILED, error=az.UsageError("no"))
    plan = az.Plan("id", {"a": 1}, {"a": 2}, az.LOCKS_VIEW)
    record = az.Report(plan, "name", False, None, {}, {}, [outcome], ["failed"]).record()
    return {key for key in record if key != "steps"} | {f"steps.{key}" for key in record["steps"][0]}


@each(COMMANDS)
def test_flags(name: str) -> None:
    registered = az.COMMANDS[name]
    assert COMMANDS[name].get("polling", False) is ("polling" in registered.arguments())
    assert COMMANDS[name].get("execution", False) is registered.execution
    assert ("dry_run" in registered.arguments()) is registered.changes
    assert {path for path in declared_paths(name) if path.startswith("AzureStorage.Change.")} == (
        {f"AzureStorage.Change.{key}" for key in change_keys()} if registered.changes else set()
    )


@each(COMMANDS)
def test_a_description_names_the_permissions(name: str) -> None:
    needs = az.COMMANDS[name].needs
    _, _, named = COMMANDS[name]["description"].partition(" Required permission(s): ")
    assert named == (", ".join(needs) + "." if needs else "")


def test_descriptions_are_sentences() -> None:
    texts = [MANIFEST["description"]]
    for name in COMMANDS:
        texts.append(COMMANDS[name]["description"])
        texts += [entry["description"] for entry in (*arguments(name).values(), *outputs(name))]
    texts += [entry["additionalinfo"] for entry in PARAMETERS.values() if "additionalinfo" in entry]
    assert [text for text in texts if not re.match(r"[A-Z]", text) or not text.endswith(".")] == []


@each(COMMANDS)
def test_outputs_are_well_formed(name: str) -> None:
    assert len(declared_paths(name)) == len(outputs(name)), "a path is there twice"
    assert {entry["type"] for entry in outputs(name)} <= TYPES
    assert [entry for entry in outputs(name) if not entry["description"].startswith(("The ", "Whether "))] == []


# The pack that ours replaces


@each(COMPAT_COMMANDS)
def test_a_playbook_for_the_existing_pack_still_fits(name: str) -> None:
    assert COMPAT_COMMANDS[name]["outputs"] == [
        p for p in COMPAT_COMMANDS[name]["outputs"] if p in declared_paths(name)
    ]
    for argument, old in COMPAT_COMMANDS[name]["args"].items():
        new = arguments(name)[argument]
        assert new["required"] is (old["required"] and argument not in RELAXED_ARGUMENTS), argument
        assert set(old["predefined"] or []) <= set(new.get("predefined", [])), argument
        assert new.get("isArray", False) is old["isArray"], argument
        # where there was no default, false is what leaving the argument out has always meant
        assert new.get("defaultValue") == old["default"] or (old["default"], new["defaultValue"]) == (None, "false")


@pytest.mark.parametrize("old", COMPAT["configuration"], ids=lambda entry: str(entry["name"]))
def test_an_instance_of_the_existing_pack_still_fits(old: dict[str, Any]) -> None:
    new = PARAMETERS[old["name"]]
    assert new["type"] == old["type"]
    for key, old_key in (("display", "display"), ("displaypassword", "displaypassword"), ("options", "options")):
        assert new.get(key) == old.get(old_key), key
    assert new.get("hiddenusername", False) is old.get("hiddenusername", False)
    assert new["required"] is (old["required"] and old["name"] not in RELAXED_PARAMETERS)
    assert new.get("defaultvalue") == old["default"] or (old["type"] == 8 and new["defaultvalue"] == "false")


# Instance parameters


def calls() -> Iterator[ast.Call]:
    return (node for node in ast.walk(TREE) if isinstance(node, ast.Call))


def is_params(node: ast.AST) -> bool:
    return isinstance(node, ast.Name) and node.id == "params"


def constant(node: ast.AST) -> str:
    """The text of a string, or its fixed start where the rest is put together at run time."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return constant(node.values[0])
    return constant(node.left) if isinstance(node, ast.BinOp) else ""


def parameters_read() -> Iterator[str]:
    """Names in params.get("...") and in the calls that get params and a name."""
    for call in calls():
        got = isinstance(call.func, ast.Attribute) and call.func.attr == "get" and is_params(call.func.value)
        passed = len(call.args) > 1 and is_params(call.args[0])
        name = constant(call.args[0 if got else 1]) if got or passed else ""
        if name:
            yield name


def test_every_parameter_is_read_and_every_one_read_is_a_parameter() -> None:
    assert len(PARAMETERS) == len(MANIFEST["configuration"]), "a parameter is there twice"
    platform = {"proxy"}  # handle_proxy reads it
    assert set(parameters_read()) | platform == set(PARAMETERS)


def test_messages_call_parameters_what_the_form_calls_them() -> None:
    shown = {entry.get(key) for entry in PARAMETERS.values() for key in ("display", "displaypassword")}
    for call in calls():
        name = call.func.id if isinstance(call.func, ast.Name) else ""
        if name in ("https_param", "checked_param"):
            assert constant(call.args[2]) in shown
        found = re.match(
            r"(?!Give exactly |Missing required )([A-Z][\w -]+): ",
            constant(call.args[0]) if name == "UsageError" else "",
        )
        assert not found or found[1] in shown, found


def test_the_choices_of_parameters_are_those_of_the_code() -> None:
    flows = {*az.USER_FLOWS, az.CLIENT_CREDENTIALS, az.MANAGED_IDENTITY}
    assert set(PARAMETERS["auth_type"]["options"]) == flows
    assert PARAMETERS["auth_type"]["defaultvalue"] == az.read_settings({}).auth_type
    assert PARAMETERS["app_id"]["defaultvalue"] == az.CORTEX_APP_ID
    assert PARAMETERS["cloud"]["options"] == [*az.CLOUDS, az.CUSTOM_CLOUD]
    assert PARAMETERS["cloud"]["defaultvalue"] == az.read_settings({}).cloud.name


@pytest.mark.parametrize("auth_type", PARAMETERS["auth_type"]["options"])
def test_the_form_of_an_authentication_type_shows_what_it_reads(auth_type: str) -> None:
    """Each trigger settles every field, so that switching back and forth leaves none hidden."""
    settled = effects("auth_type", auth_type)
    assert all(effects("auth_type", other).keys() == settled.keys() for other in PARAMETERS["auth_type"]["options"])
    shown = {name for name, action in settled.items() if not action["hidden"]}
    person, application = {"app_id", "tenant_id"}, {"app_id", "tenant_id", "credentials", "certificate"}
    assert (
        shown
        == {
            "Device Code": person,
            "Authorization Code": {*application, "redirect_uri", "auth_code"},
            "Client Credentials": application,
            "Azure Managed Identities": {"managed_identities_client_id"},
        }[auth_type]
    )
    assert settled["tenant_id"]["required"] is (auth_type == "Client Credentials")


def test_only_the_custom_cloud_shows_its_endpoints() -> None:
    custom = {name for name in PARAMETERS if name.startswith("custom_")}
    assert {name for name, action in effects("cloud", "Custom").items() if not action["hidden"]} == custom
    assert {name for name, action in effects("cloud", "China").items() if action["hidden"]} == custom
    assert not any(action.get("required") for action in effects("cloud", "China").values())


def effects(parameter: str, value: str) -> dict[str, dict[str, bool]]:
    """What the triggers do to fields when a parameter has a value."""
    found: dict[str, dict[str, bool]] = {}
    for trigger in MANIFEST["triggers"]:
        (condition,) = trigger["conditions"]
        assert condition["value"] in PARAMETERS[condition["name"]]["options"]
        equal = condition["value"] == value
        if condition["name"] == parameter and equal is (condition["operator"] == "equal"):
            found |= {effect["name"]: effect["action"] for effect in trigger["effects"]}
    assert found.keys() <= PARAMETERS.keys()
    return found


# What the server does to the source


def bound_names() -> Iterator[str]:
    """What executing the module binds in the namespace that it shares with the platform's own code."""
    for node in ast.walk(ast.Module([n for n in TREE.body if not isinstance(n, ast.FunctionDef | ast.ClassDef)], [])):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield from (alias.asname or alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
    yield from (node.name for node in TREE.body if isinstance(node, ast.FunctionDef | ast.ClassDef))


def test_no_name_replaces_one_of_the_platform() -> None:
    platform: dict[str, object] = {
        "base64": base64,
        "binascii": binascii,
        "datetime": datetime.datetime,
        "inspect": inspect,
        "json": json,
        "logging": logging,
        "re": re,
        "requests": requests,
        "time": time,
        "timezone": datetime.timezone,
        "traceback": traceback,
        "urllib": urllib,
        "warnings": warnings,
    }
    taken = set((ROOT / "test_data/compat/commonserver_names.txt").read_text().split())
    rebound = {name for name in set(bound_names()) & taken if getattr(az, name) is not platform.get(name)}
    assert rebound == set()


def test_imports_are_what_the_image_has() -> None:
    header = [
        SOURCE.splitlines()[node.lineno - 1] for node in TREE.body if isinstance(node, ast.Import | ast.ImportFrom)
    ]
    assert header[:2] == ["import demistomock as demisto", "from CommonServerPython import *"]
    imported = [node.module or "" for node in ast.walk(TREE) if isinstance(node, ast.ImportFrom)]
    imported += [alias.name for node in ast.walk(TREE) if isinstance(node, ast.Import) for alias in node.names]
    packages = {name.split(".")[0] for name in imported} - {"demistomock", "CommonServerPython"}
    assert packages - set(sys.stdlib_module_names) == {"requests", "msal"}
    assert "__future__" not in packages


def test_the_source_survives_the_server() -> None:
    names = {node.id for node in ast.walk(TREE) if isinstance(node, ast.Name)}
    attributes = {ast.unparse(node) for node in ast.walk(TREE) if isinstance(node, ast.Attribute)}
    assert not {"print", "exit", "quit", "__file__"} & names
    assert not {"sys.stdout", "sys.exit", "time.sleep", "inspect.getsource"} & attributes
    assert SOURCE.count("import demistomock") == SOURCE.count("from CommonServerPython") == 1
    assert "ApiModule import" not in SOURCE
    assert ast.unparse(TREE.body[-1]) == "if __name__ in ('__main__', '__builtin__', 'builtins'):\n    main()"


# Context, from recorded answers

PARAMS = {"auth_type": "Device Code", "subscription_id": SUBSCRIPTION}
ONE = {"account_name": ACCOUNT, "resource_group_name": GROUP}
EVIDENCE = {**ONE, "container_name": "evidence"}
PAYROLL = {**EVIDENCE, "blob_name": "2026/payroll.xlsx"}
PAYROLL_URL = f"https://{ACCOUNT}.blob.core.windows.net/evidence/2026/payroll.xlsx"
ROLE = "/providers/Microsoft.Authorization/roleDefinitions/2a2b9908-6ea1-4ae2-8e65-a410df84e7d1"
USER, TENANT = "0d9c8b7a-6f5e-4d3c-8b2a-190817263544", "8a6f1c5e-2d1b-4b0c-9b7e-6a9f3f0d7c11"
LEAKED = (
    "?sv=2022-11-02&sr=b&sp=r&se=2026-11-23T13:00:00Z&sig=bWFya2Vy",
    "?sv=2022-11-02&sr=c&si=partners&sig=bWFya2Vy",
    f"https://{ACCOUNT}.blob.core.windows.net/evidence/2026/payroll.xlsx?sv=2025-07-05&sr=b&sp=r&sip=203.0.113.7&spr=https"
    f"&st=2026-11-23T12:00:00Z&se=2026-11-23T13:00:00Z&skoid={USER}&sktid={TENANT}&skt=2026-11-23T12:00:00Z"
    f"&ske=2026-11-23T13:00:00Z&sks=b&skv=2025-07-05&sduoid={USER}&skdutid={TENANT}&ses=finance&sig=bWFya2Vy",
)
EXAMPLES: dict[str, list[dict[str, str]]] = {
    "azure-storage-auth-start": [{}],
    "azure-storage-generate-login-url": [{}],
    "azure-storage-auth-complete": [{}],
    "azure-storage-auth-test": [{}],
    "azure-storage-auth-reset": [{}],
    "azure-storage-subscriptions-list": [{}],
    "azure-storage-resource-group-list": [{}],
    "azure-storage-account-list": [
        {"all_results": "true"},
        {"limit": "1"},
        ONE,
        {**ONE, "account_name": "contosolegacy"},
    ],
    "azure-storage-account-create-update": [{**ONE, "allow_shared_key_access": "false"}, {**ONE, "dry_run": "true"}],
    "azure-storage-blob-service-properties-get": [ONE],
    "azure-storage-blob-service-properties-set": [{**ONE, "delete_retention_policy_days": "60"}, ONE],
    "azure-storage-blob-containers-create": [{**EVIDENCE, "container_name": "new"}, EVIDENCE],
    "azure-storage-blob-containers-update": [{**EVIDENCE, "public_access": "Blob"}, EVIDENCE],
    "azure-storage-blob-containers-list": [{**ONE, "include_deleted": "true", "all_results": "true"}, EVIDENCE],
    "azure-storage-blob-container-delete": [{**EVIDENCE, "dry_run": "true"}, EVIDENCE],
    "azure-storage-blob-list": [{**EVIDENCE, "include": "versions,deleted", "delimiter": "/"}],
    "azure-storage-blob-get": [{**PAYROLL, "range": "0-6"}],
    "azure-storage-blob-put": [
        {**PAYROLL, "text": "x", "overwrite": "true", "tags": "a=1", "metadata": "a=1", "tier": "Cool"}
    ],
    "azure-storage-blob-delete": [{**PAYROLL, "version_id": VERSION}, {**PAYROLL, "snapshot": SNAPSHOT}],
    "azure-storage-blob-undelete": [PAYROLL, {**EVIDENCE, "prefix": "2026/odd"}],
    "azure-storage-blob-properties-get": [PAYROLL, {**PAYROLL, "snapshot": SNAPSHOT}],
    "azure-storage-blob-properties-set": [{**PAYROLL, "cache_control": "private"}],
    "azure-storage-blob-metadata-set": [{**PAYROLL, "metadata": "case=1234"}],
    "azure-storage-blob-tags-get": [{**PAYROLL, "version_id": VERSION}, {**PAYROLL, "snapshot": SNAPSHOT}],
    "azure-storage-blob-tags-set": [
        {**PAYROLL, "tags": "case=5", "version_id": VERSION},
        {**PAYROLL, "tags": "case=5", "snapshot": SNAPSHOT},
    ],
    "azure-storage-blob-find": [{**ONE, "tag": "case=1234"}],
    "azure-storage-blob-snapshot-create": [PAYROLL],
    "azure-storage-blob-tier-set": [{**PAYROLL, "tier": "Cool", "snapshot": SNAPSHOT}],
    "azure-storage-blob-lease": [{**PAYROLL, "action": "break"}, {**PAYROLL, "action": "acquire"}],
    "azure-storage-blob-legal-hold-set": [{**PAYROLL, "legal_hold": "true", "snapshot": SNAPSHOT}],
    "azure-storage-blob-copy": [{**PAYROLL, "source_blob_name": "a", "overwrite": "true"}],
    "azure-storage-sas-create": [PAYROLL, {**PAYROLL, "user_object_id": USER}],
    "azure-storage-account-find": [{"account_name": f"{ACCOUNT},gone"}, {"tag": "case=4711", "limit": "1"}],
    "azure-storage-account-update": [{**ONE, "allow_shared_key_access": "false"}],
    "azure-storage-account-delete": [{**ONE, "dry_run": "true"}, {**ONE, "confirm": ACCOUNT}],
    "azure-storage-account-key-list": [{**ONE, "show_values": "true"}],
    "azure-storage-account-key-rotate": [{**ONE, "key": "both"}],
    "azure-storage-account-delegation-keys-revoke": [ONE],
    "azure-storage-account-network-rule-add": [{**ONE, "ip_rules": "198.51.100.7"}],
    "azure-storage-account-network-rule-remove": [{**ONE, "ip_rules": "198.51.100.7"}],
    "azure-storage-account-lock-list": [ONE],
    "azure-storage-account-lock-set": [ONE],
    "azure-storage-account-lock-remove": [
        {**ONE, "lock_name": "keep", "dry_run": "true"},
        {**ONE, "lock_name": "keep"},
    ],
    "azure-storage-account-isolate": [{**ONE, "own_ip": "203.0.113.7"}],
    "azure-storage-account-restore-settings": [
        {**ONE, "record": json.dumps({"account": ACCOUNT, "settings": {"allowSharedKeyAccess": True}})}
    ],
    "azure-storage-account-activity-list": [ONE, {**ONE, "limit": "1"}],
    "azure-storage-account-posture": [{"account_name": ACCOUNT, "report": "csv"}],
    "azure-storage-posture-fix": [{**ONE, "check": "minimum-tls", "dry_run": "true"}],
    "azure-storage-log-search": [ONE, {**ONE, "query": "StorageBlobLogs | take 2"}],
    "azure-storage-account-lifecycle-get": [ONE],
    "azure-storage-account-lifecycle-set": [{**ONE, "rule_name": "expire", "enabled": "false"}],
    "azure-storage-access-list": [ONE],
    "azure-storage-access-remove": [{**ONE, "assignment_id": recorded_azure.ASSIGNMENT}],
    "azure-storage-access-restore": [
        {
            **ONE,
            "assignment_id": f"{recorded_azure.ASSIGNMENTS}/{USER}",
            "role_definition_id": ROLE,
            "principal_id": USER,
        }
    ],
    "azure-storage-exposure-probe": [PAYROLL],
    "azure-storage-triage": [{"blob_url": f"{PAYROLL_URL}{LEAKED[1]}"}, {"blob_url": LEAKED[2]}],
    "azure-storage-account-logging-get": [ONE],
    "azure-storage-account-logging-set": [{**ONE, "setting_name": "to-workspace"}],
    "azure-storage-blob-versions-restore": [
        {**EVIDENCE, "time_to_restore": "1 hour", "prefix": "2026/", "dry_run": "true"}
    ],
    "azure-storage-blob-ranges-restore": [{**EVIDENCE, "time_to_restore": "1 hour"}],
    "azure-storage-container-legal-hold-set": [{**EVIDENCE, "tags": "case1234"}],
    "azure-storage-container-legal-hold-clear": [{**EVIDENCE, "tags": "case4711"}],
    "azure-storage-container-immutability-get": [EVIDENCE],
    "azure-storage-container-immutability-set": [{**EVIDENCE, "days": "60"}],
    "azure-storage-container-immutability-lock": [{**EVIDENCE, "confirm": "evidence"}],
    "azure-storage-container-immutability-delete": [EVIDENCE],
    "azure-storage-container-lease": [{**EVIDENCE, "action": "break"}, {**EVIDENCE, "action": "acquire"}],
    "azure-storage-container-policy-list": [EVIDENCE],
    "azure-storage-container-policy-revoke": [{**EVIDENCE, "policy": "leaked"}],
    "azure-storage-container-restore": [
        {**EVIDENCE, "container_name": "old-backups", "dry_run": "true"},
        {**EVIDENCE, "container_name": "old-backups"},
    ],
    "azure-storage-blob-quarantine": [
        {**PAYROLL, "evidence_container_name": "secured", "case_id": "c1", "delete_source": "true"},
        {**PAYROLL, "evidence_container_name": "secured", "case_id": "c1", "version_id": VERSION},
        {**PAYROLL, "evidence_container_name": "secured", "case_id": "c1", "snapshot": SNAPSHOT},
    ],
    "azure-storage-sas-inspect": [{"sas": sas} for sas in LEAKED],
}
Run = Callable[[str, dict[str, str]], dict[str, Any]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, requests_mock: rm.Mocker, tmp_path: Path) -> Run:
    """Runs a command for somebody who is signed in. Returns its context."""
    recorded_azure.answer(requests_mock)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(demisto, "_context", {})

    def run_command(name: str, args: dict[str, str]) -> dict[str, Any]:
        flow = "Authorization Code" if name == "azure-storage-generate-login-url" else PARAMS["auth_type"]
        params = {**PARAMS, "auth_type": flow}
        entry = {"token": "marker-arm-token", "expires_at": int(time.time()) + 3600}
        settings = az.read_settings(params)
        tokens = dict.fromkeys((settings.cloud.audience, az.STORAGE_AUDIENCE), entry)
        session = {"tokens": tokens, "cache": "{}", "username": "ann@contoso.com"}
        document = {"version": az.SessionStore.VERSION, "sessions": {settings.identity_key: session}}
        demisto.setIntegrationContext({az.SessionStore.KEY: json.dumps(document)})
        results = az.run(name, params, args)
        entries = [
            entry for entry in (results if isinstance(results, list) else [results]) if not isinstance(entry, dict)
        ]
        assert [entry.readable_output for entry in entries if entry.entry_type == EntryType.ERROR] == []
        return {key: value for entry in entries for key, value in entry.to_context()["EntryContext"].items()}

    return run_command


def leaf_paths(value: Any, path: str) -> Iterator[str]:
    """Where the values are, as a manifest writes it: lists do not count, free objects are not looked into."""
    return (found for found, _ in leaf_values(value, path))


def leaf_values(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Each value that is declared on its own, with its path; of a list each item."""
    if isinstance(value, list):
        for item in value:
            yield from leaf_values(item, path)
    elif isinstance(value, dict):
        for key, item in value.items():
            free = (key in FREE_OBJECTS and isinstance(item, dict)) or key in FREE_LISTS
            yield from [(f"{path}.{key}", item)] if free else leaf_values(item, f"{path}.{key}")
    else:
        yield path, value


def all_paths(value: Any, path: str) -> Iterator[str]:
    """Everything that a playbook can name."""
    yield path
    for key, item in value.items() if isinstance(value, dict) else ():
        yield from all_paths(item, f"{path}.{key}")
    for item in value if isinstance(value, list) else ():
        yield from all_paths(item, path)


def test_every_command_has_an_example() -> None:
    assert set(EXAMPLES) == set(COMMANDS)


@each(EXAMPLES)
def test_context_and_manifest_have_the_same_paths(name: str, run: Run) -> None:
    """A command that reads an object declares all that it returns; one that changes it, no more than that."""
    leaves: set[str] = set()
    everything: set[str] = set()
    for args in EXAMPLES[name]:
        for key, value in run(name, args).items():
            path = re.sub(r"\(.*\)$", "", key)
            leaves |= set(leaf_paths(value, path))
            everything |= set(all_paths(value, path))
    allowed = declared_paths(name) if not az.COMMANDS[name].changes else declared_paths(name) | DESCRIBED.keys()
    assert leaves - allowed == set(), "returned and not declared"
    assert declared_paths(name) - everything - NEVER_RECORDED.keys() == set(), "declared and never returned"


@each(EXAMPLES)
def test_values_have_the_declared_type(name: str, run: Run) -> None:
    for args in EXAMPLES[name]:
        for key, value in run(name, args).items():
            for path, item in leaf_values(value, re.sub(r"\(.*\)$", "", key)):
                if item is not None and item != "":
                    assert fits(item, DESCRIBED[path]), (path, item)


def fits(value: Any, kind: str) -> bool:
    if kind == "Date":
        return isinstance(value, str) and re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", value) is not None
    python: dict[str, type] = {"String": str, "Boolean": bool, "Number": int, "Unknown": object}
    return isinstance(value, python[kind]) and (kind != "Number" or not isinstance(value, bool))


# The developer guide

GUIDE = (ROOT / "docs/developing.md").read_text()


def test_the_guide_names_what_the_module_has() -> None:
    sections = re.findall(r"^\| [A-Z][\w -]+ \| .+ \| (`.+`) \|$", GUIDE, re.MULTILINE)
    names = [name.strip("`@").partition(".")[0] for cell in sections for name in cell.split(", ")]
    assert len(sections) == 16
    assert [name for name in names if not hasattr(az, name)] == []


def test_the_worked_example_of_the_guide_works(
    run: Run, requests_mock: rm.Mocker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(az, "COMMANDS", dict(az.COMMANDS))
    namespace = dict(vars(az))
    for block in re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL):
        exec(block, namespace)  # noqa: S102 - our own page
    path = f"{recorded_azure.THE_ACCOUNT}/encryptionScopes"
    scope = {"id": f"{path}/finance", "name": "finance", "properties": {"state": "Enabled"}}
    off = {**scope, "properties": {"state": "Disabled"}}
    requests_mock.get(f"{recorded_azure.ARM}{path}", json={"value": [scope]})
    requests_mock.get(f"{recorded_azure.ARM}{path}/finance", json=scope)
    patch = requests_mock.patch(f"{recorded_azure.ARM}{path}/finance", json=off)

    def outputs_of(name: str, **args: str) -> dict[str, Any]:
        found = run(f"azure-storage-account-encryption-scope-{name}", {**ONE, **args})
        return {key.partition("(")[0]: value for key, value in found.items()}

    assert outputs_of("list")["AzureStorage.EncryptionScope"] == [scope]
    assert not outputs_of("disable", scope_name="finance", dry_run="true")["AzureStorage.Change"]["changed"]
    assert not patch.called
    done = outputs_of("disable", scope_name="finance")
    assert done["AzureStorage.EncryptionScope"] == off
    assert done["AzureStorage.Change"]["after"] == {"properties": {"state": "Disabled"}}
    assert [request.json() for request in patch.request_history] == [{"properties": {"state": "Disabled"}}]


# What other integrations for Azure Storage get wrong, as far as manifest and registry can show it


@each(EXAMPLES)
def test_no_request_has_an_empty_path_segment(name: str, run: Run, requests_mock: rm.Mocker) -> None:
    for args in EXAMPLES[name]:
        run(name, args)
    paths = [urllib.parse.urlsplit(request.url).path for request in requests_mock.request_history]
    assert [path for path in paths if "//" in path] == []


def test_permissions_are_whole_and_single() -> None:
    """A missing comma in a table of permissions glues two of them together."""
    needs = {need for command in az.COMMANDS.values() for need in command.needs}
    assert [
        need for need in needs if not re.fullmatch(r"Microsoft\.[A-Z]\w+(/\w+)+/(read|write|delete|action)", need)
    ] == []
    assert {command.name for command in az.COMMANDS.values() if command.needs and not command.role} == set()


def test_no_description_was_pasted_from_another_command() -> None:
    texts = [COMMANDS[name]["description"].partition(" Required permission(s)")[0] for name in COMMANDS]
    assert len(set(texts)) == len(texts)


def test_no_function_has_a_default_that_it_could_change() -> None:
    """A dictionary as a default keeps the token of the first call for all others."""
    functions = [node for node in ast.walk(TREE) if isinstance(node, ast.FunctionDef)]
    mutable = (ast.Dict, ast.List, ast.Set, ast.DictComp, ast.ListComp, ast.SetComp)
    defaults = [(node.name, value) for node in functions for value in (*node.args.defaults, *node.args.kw_defaults)]
    assert [name for name, value in defaults if isinstance(value, mutable)] == []


def test_every_listing_can_be_continued() -> None:
    """What a log search leaves out of context is in its file; what evidence is collected of has no further page."""
    bounded = {"azure-storage-log-search", "azure-storage-blob-get", "azure-storage-blob-quarantine"}
    for name in az.COMMANDS.keys() - bounded:
        given = az.COMMANDS[name].arguments()
        assert ("limit" in given) is ("next_token" in given) is ("all_results" in given), name


def test_recorded_errors_are_read() -> None:
    """Every shape of test_data/arm/errors gives a code and words for people."""
    for path in sorted((ROOT / "test_data/arm/errors").glob("*.json")):
        name, message = az.parse_arm_error(path.read_text())
        assert name and len(message) > 20, path.name
        assert not message.startswith("{"), path.name


# The rest of the manifest


def test_the_head_of_the_manifest() -> None:
    script = MANIFEST["script"]
    assert MANIFEST["commonfields"] == {"id": MANIFEST["name"], "version": -1}
    assert (MANIFEST["name"], MANIFEST["display"]) == (COMPAT["_meta"]["integration_id"], COMPAT["_meta"]["display"])
    assert MANIFEST["category"] == COMPAT["_meta"]["category"]
    assert (script["type"], script["subtype"], script["dockerimage"]) == (
        "python",
        "python3",
        "demisto/crypto:1.0.0.11658507",
    )
    assert {entry["section"] for entry in PARAMETERS.values()} == set(MANIFEST["sectionorder"])
    assert {name for name, entry in PARAMETERS.items() if not entry.get("display")} == {"managed_identities_client_id"}
    assert {name for name, entry in PARAMETERS.items() if not entry.get("additionalinfo")} == {"insecure", "proxy"}
