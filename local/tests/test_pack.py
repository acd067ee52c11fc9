"""The playbooks of the pack on the local Azure: what each leaves behind, on its way and on the ways of its failures."""

import io
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import yaml
from rich.console import Console

from local.azure import LocalAzure, scenario
from local.azure.arm import accounts
from local.azure.scenario import ACCOUNT, EXPORTS, INVOICES, MALWARE, PAYROLL, PAYSLIPS, UPLOADS, Scenario, World
from local.build import playbooks
from local.xsoar import drills, warroom
from local.xsoar.playbooks import Library, Outcome, Player
from local.xsoar.server import ROOT, Server

from .conftest import items, succeed

Json = dict[str, Any]
Play = Callable[..., Outcome]
PACKED = sorted(playbooks.PACK.glob("*Playbooks/*.yml"))
CONTAIN, UNDO, SAS = "Contain Exposed Account", "Undo Containment", "Respond to Leaked SAS"
QUARANTINE, RECOVER = "Quarantine Malicious Blob", "Recover Deleted or Encrypted Data"
OWN_IP = scenario.RESPONDER_IP
LAB_IP = "198.51.100.23"


@pytest.fixture
def world(azure: LocalAzure) -> Iterator[World]:
    yield scenario.make(azure)
    forget(azure)


def forget(azure: LocalAzure) -> None:
    """The world is gone again."""
    arm, key = azure.arm, azure.arm.keys[ACCOUNT][0]
    arm.clear()
    azure.blobs.clear()
    for name in azure.azurite.container_names(ACCOUNT):
        azure.azurite.delete(ACCOUNT, key, name)
    accounts.forget(arm, arm.accounts[ACCOUNT])
    arm.clear()


@pytest.fixture
def server(azure: LocalAzure, tmp_path: Path) -> Server:
    """A server whose instance knows neither the subscription nor the resource group of the account."""
    found = Server(tmp_path / "server")
    found.environment = azure.environment()
    found.instances.save("app", azure.instance("Client Credentials", subscription_id="", resource_group_name=""))
    return found


@pytest.fixture
def play(server: Server) -> Play:
    """Runs a playbook by the end of its name. Questions have to be answered, by their text."""

    def run(name: str, answers: dict[str, str] | None = None, others: Json | None = None, **inputs: str) -> Outcome:
        player = Player(server, Library(PACKED), "app", answers=answers, others=others, interval=0)
        return player.play(f"Azure Storage - {name}", inputs)

    return run


def properties(azure: LocalAzure) -> Json:
    found: Json = azure.arm.accounts[ACCOUNT]["properties"]
    return found


def settings(azure: LocalAzure) -> Json:
    """What an isolation changes; a setting that is not set has the value that Azure gives it."""
    found, acls = properties(azure), properties(azure).get("networkAcls") or {}
    return {
        "public": found.get("allowBlobPublicAccess"),
        "keys": found.get("allowSharedKeyAccess") is not False,
        "network": acls.get("defaultAction", "Allow"),
        "addresses": [rule["value"] for rule in acls.get("ipRules") or []],
        "locks": [lock["properties"]["level"] for lock in azure.arm.locks.values()],
    }


def status(azure: LocalAzure, url: str, address: str = "192.0.2.200") -> int:
    """What somebody elsewhere gets who opens an address."""
    with requests.Session() as session:
        session.trust_env = False
        headers = {"x-ms-version": scenario.VERSION, "x-local-client-address": address}
        return session.get(url, headers=headers, verify=str(azure.ca_file), timeout=20).status_code


def blob_names(azure: LocalAzure, container: str) -> list[str]:
    properties(azure).update(allowSharedKeyAccess=True)  # the account's own key, whatever a test has done to it
    with Scenario(azure).blobs() as service:
        return [blob.name for blob in service.get_container_client(container).list_blobs()]


def content(azure: LocalAzure, container: str, name: str) -> bytes:
    with Scenario(azure).blobs() as service:
        found: bytes = service.get_blob_client(container, name).download_blob().readall()
    return found


def changes(azure: LocalAzure) -> list[tuple[str, str]]:
    """What was sent that changes something, since the scenario was made."""
    return [
        (request.method, request.path)
        for request in list(azure.requests)
        if request.method in ("PUT", "PATCH", "DELETE", "POST") and request.service in ("arm", "blob")
    ]


def errors(outcome: Outcome) -> list[str]:
    return [step.name for step in outcome.steps if step.error]


# The files


def test_what_is_packed_is_what_the_sources_say() -> None:
    made = playbooks.files()
    assert {path: path.read_text() for path in made} == made
    packed = {path for folder in ("Playbooks", "TestPlaybooks") for path in (playbooks.PACK / folder).iterdir()}
    assert packed == set(made)


@pytest.mark.parametrize("path", PACKED, ids=lambda path: path.stem)
def test_every_command_has_a_way_out_and_an_approval_before_it(path: Path) -> None:
    """Nothing that the server would ask about is reached without a question or an input that waives it."""
    found = yaml.safe_load(path.read_text())
    manifest = yaml.safe_load((ROOT / "AzureStorage.yml").read_text())
    dangerous = {command["name"] for command in manifest["script"]["commands"] if command.get("execution")}
    harmless = {"azure-storage-sas-create", "azure-storage-blob-quarantine"}  # on request only; a copy
    for task in found["tasks"].values():
        command = str(task["task"].get("script") or "").rpartition("|||")[2]
        if command:
            assert "#error#" in task["nexttasks"], task["task"]["name"]
            assert task["continueonerrortype"] == "errorPath"
        previews = (task.get("scriptarguments") or {}).get("dry_run", {}).get("simple") == "true"
        if command in dangerous - harmless and not previews and "TestPlaybooks" not in path.parts:
            assert asked_before(found["tasks"], task["id"]), f"{task['task']['name']} is reached without approval"


def asked_before(tasks: Json, target: str) -> bool:
    """Whether every way from the start to a task leads through a question, or a check of an input that waives it."""

    def reach(number: str) -> Iterator[str]:
        task = tasks[number]
        asks = task["type"] == "condition" and not task.get("conditions")
        waives = "approval?" in task["task"]["name"]
        for label, ways in (task.get("nexttasks") or {}).items():
            if not asks and not (waives and label == "yes"):
                yield from ways

    seen, waiting = set[str](), ["0"]
    while waiting:
        number = waiting.pop()
        if number not in seen:
            seen.add(number)
            waiting += reach(number)
    return target not in seen


@pytest.mark.parametrize(
    ("task", "problem"),
    [
        ({"command": "triage"}, "has no way out when it fails"),
        ({"command": "triage", "note": "both"}, "one of title, command"),
        ({"text": "nothing"}, "one of title, command"),
    ],
)
def test_a_source_with_a_mistake_is_refused(task: Json, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        playbooks.playbook({"name": "P", "description": "P.", "tasks": {"one": task}})


def test_every_playbook_uses_only_what_a_server_knows(server: Server) -> None:
    library = Library(PACKED)
    player = Player(server, library, "app")
    for path in PACKED:
        player.check(library.find(yaml.safe_load(path.read_text())["name"]))


# Contain, and undo


def test_contain_and_undo(azure: LocalAzure, world: World, play: Play, server: Server) -> None:
    before, keys = settings(azure), list(azure.arm.keys[ACCOUNT])
    assert status(azure, world.invoice_url) == 200
    outcome = play(CONTAIN, {"Isolate the storage account?": "Yes"}, BlobURL=world.invoice_url, OwnIP=OWN_IP)
    assert (outcome.failed, errors(outcome), outcome.names()[-1]) == ([], [], "Done")
    names = outcome.names()
    assert (
        names.index("Search the storage logs")
        < names.index("Preview the isolation")
        < names.index("Isolate the account")
    )
    assert settings(azure) == {
        "public": False,
        "keys": False,
        "network": "Deny",
        "addresses": [OWN_IP],
        "locks": ["CanNotDelete"],
    }
    assert not set(keys) & set(azure.arm.keys[ACCOUNT])
    assert [status(azure, url) for url in (world.invoice_url, world.key_sas_url)] == [403, 403]
    found = server.context["AzureStorage"]
    assert {row["ip"] for row in found["Activity"]} >= {scenario.ATTACKER_IP, OWN_IP}
    assert {row["address"] for row in found["LogSummary"]} >= {scenario.ATTACKER_IP, scenario.COLLECTOR_IP}

    answers = {"Restore the settings of the storage account?": "Yes"}
    outcome = play(UNDO, answers, AccountName=ACCOUNT, CloseContainer=INVOICES)
    assert (outcome.failed, errors(outcome), outcome.names()[-1]) == ([], [], "Done")
    assert settings(azure) == before
    assert status(azure, world.invoice_url) == 404, "the container was closed first"


def test_nothing_is_changed_without_approval(azure: LocalAzure, world: World, play: Play) -> None:
    before = settings(azure)
    azure.requests.clear()
    outcome = play(CONTAIN, {"Isolate the storage account?": "No"}, AccountName=ACCOUNT, OwnIP=OWN_IP)
    assert outcome.names()[-2:] == ["Isolate the storage account?", "Done"]
    assert settings(azure) == before
    assert not [path for method, path in changes(azure) if method != "POST"]


def test_contain_goes_on_when_evidence_and_lock_fail(azure: LocalAzure, world: World, play: Play) -> None:
    """Without a question: AutoContain."""
    azure.log.unreadable.add(scenario.WORKSPACE.lower())
    azure.arm.forbidden += [("GET", ".*/eventtypes/.*"), ("PUT", ".*/locks/.*"), ("GET", ".*/roleAssignments.*")]
    outcome = play(CONTAIN, AccountName=ACCOUNT, OwnIP=OWN_IP, AutoContain="true")
    assert outcome.failed == []
    failed = {"Read the activity log", "List the role assignments", "Lock the account against deletion"}
    assert failed <= set(errors(outcome))
    assert {f"Note that this failed: {name}" for name in failed} <= set(outcome.names())
    assert settings(azure) == {"public": False, "keys": False, "network": "Deny", "addresses": [OWN_IP], "locks": []}


def test_an_isolation_that_fails_in_part_is_checked_by_hand(azure: LocalAzure, world: World, play: Play) -> None:
    azure.arm.forbidden.append(("POST", ".*/regenerateKey"))
    outcome = play(CONTAIN, AccountName=ACCOUNT, OwnIP=OWN_IP, AutoContain="true")
    assert outcome.failed == []
    assert errors(outcome) == ["Isolate the account"]
    assert outcome.names()[-2:] == ["Check the containment by hand", "Done"]
    assert settings(azure)["network"] == "Deny"


def test_an_account_that_is_not_there(azure: LocalAzure, world: World, play: Play) -> None:
    answers = {"The assessment failed. Continue without it?": "No"}
    outcome = play(CONTAIN, answers, AccountName="contosonowhere", OwnIP=OWN_IP)
    assert (outcome.failed, errors(outcome)) == ([], ["Assess the account"])
    assert outcome.names()[-1] == "Done"


def test_undo_without_a_record(azure: LocalAzure, world: World, play: Play) -> None:
    before = settings(azure)
    answers = {"The settings can't be restored. Remove the lock only?": "No"}
    outcome = play(UNDO, answers, AccountName=ACCOUNT)
    assert (outcome.failed, errors(outcome)) == ([], ["Preview the restored settings"])
    assert settings(azure) == before


def test_undo_stops_at_a_lock_above_the_account(azure: LocalAzure, world: World, play: Play) -> None:
    """A ReadOnly lock of somebody else stays, and the settings with it."""
    play(CONTAIN, AccountName=ACCOUNT, OwnIP=OWN_IP, AutoContain="true")
    azure.arm.forbidden.append(("PATCH", f".*/storageAccounts/{ACCOUNT}"))
    outcome = play(UNDO, AccountName=ACCOUNT, AutoUndo="true")
    assert outcome.failed == []
    assert errors(outcome) == ["Restore the settings"]
    assert outcome.names()[-2:] == ["Check the settings by hand", "Done"]
    assert (settings(azure)["network"], settings(azure)["locks"]) == ("Deny", [])


# A leaked SAS


def delegation_sas(server: Server) -> str:
    args = {"account_name": ACCOUNT, "container_name": EXPORTS, "blob_name": scenario.EXPORT}
    found = succeed(server.run("app", "azure-storage-sas-create", args))
    return str(items(found, "Sas")[0]["url"])


@pytest.mark.parametrize("kind", ["policy", "key", "delegation"])
def test_a_leaked_sas_is_revoked_in_the_narrowest_way(
    kind: str, azure: LocalAzure, world: World, play: Play, server: Server
) -> None:
    delegated = delegation_sas(server)
    urls = {"policy": world.policy_sas_url, "key": world.key_sas_url, "delegation": delegated}
    keys = list(azure.arm.keys[ACCOUNT])
    assert {name: status(azure, url) for name, url in urls.items()} == dict.fromkeys(urls, 200)
    questions = (
        "Revoke the stored access policy?",
        "Revoke the user delegation keys?",
        "Rotate the account key that signed the SAS?",
    )
    server.context.clear()
    outcome = play(SAS, dict.fromkeys(questions, "Yes"), SAS=urls[kind])
    assert (outcome.failed, errors(outcome), outcome.names()[-2:]) == ([], [], ["Report", "Done"])
    assert status(azure, urls[kind]) == 403
    spared = {"policy": {"key", "delegation"}, "key": {"delegation"}, "delegation": {"policy", "key"}}[kind]
    assert {name for name, url in urls.items() if status(azure, url) == 200} == spared
    assert azure.arm.keys[ACCOUNT][1] == keys[1], "the other key is not touched"
    if kind != "delegation":
        report = next(step.args["value"] for step in outcome.steps if step.name == "Report")
        assert scenario.COLLECTOR_IP in report
    signature = urllib.parse.parse_qs(urllib.parse.urlsplit(urls[kind]).query)["sig"][0]
    for text in [step.run.text for step in outcome.steps if step.run]:
        assert signature not in urllib.parse.unquote(text)


def test_a_sas_token_without_its_url(azure: LocalAzure, world: World, play: Play) -> None:
    url, _, token = world.policy_sas_url.partition("?")
    outcome = play(SAS, SAS=token, BlobURL=url, ContainerName=EXPORTS, AutoContain="true")
    assert (outcome.failed, errors(outcome), outcome.names()[-2:]) == ([], [], ["Report", "Done"])
    assert status(azure, world.policy_sas_url) == 403


def test_a_sas_that_can_not_be_revoked_in_the_narrow_way(azure: LocalAzure, world: World, play: Play) -> None:
    azure.log.unreadable.add(scenario.WORKSPACE.lower())  # nothing tells which key signed it
    azure.arm.forbidden.append(("POST", ".*/regenerateKey"))
    outcome = play(SAS, {"Which account key signed the SAS?": "key1"}, SAS=world.key_sas_url)
    assert (outcome.failed, errors(outcome)) == ([], ["Rotate key1"])
    assert outcome.names()[-2:] == ["Revoke the SAS in a wider way", "Done"]
    assert status(azure, world.key_sas_url) == 200


def test_what_is_not_a_sas(world: World, play: Play) -> None:
    outcome = play(SAS, SAS="https://contosofinance.blob.localhost/exports")
    assert (outcome.failed, errors(outcome)) == ([], ["Inspect the SAS"])
    assert outcome.names()[-2:] == ["Check the SAS", "Done"]


# Quarantine


def test_a_malicious_blob_is_quarantined(azure: LocalAzure, world: World, play: Play, server: Server) -> None:
    asked: list[Json] = []
    outcome = play(
        QUARANTINE,
        {"Remove the blobs?": "Yes"},
        {"file": lambda context, args: asked.append(args)},
        BlobURL=world.malware_url,
        CaseID="case-4711",
        LabIP=LAB_IP,
    )
    assert (outcome.failed, errors(outcome)) == ([], ["Look for the evidence container"])
    assert "Create the evidence container" in outcome.names()
    found = server.context["AzureStorage"]
    assert asked == [{"file": found["Quarantine"]["evidence"]["sha256"]}]
    assert (found["Quarantine"]["result"], found["Quarantine"]["sourceDeleted"]) == ("secured", True)
    assert MALWARE not in blob_names(azure, UPLOADS)
    evidence = found["Quarantine"]["evidence"]["name"]
    assert content(azure, "evidence", evidence) == scenario.MALWARE_BYTES
    link = found["Sas"]["url"]
    assert (status(azure, link, LAB_IP), status(azure, link)) == (200, 403)


@pytest.mark.parametrize("by", [{"Prefix": "tools/"}, {"Tag": "verdict=malware"}])
def test_blobs_are_quarantined_by_prefix_or_tag(
    by: dict[str, str], azure: LocalAzure, world: World, play: Play, server: Server
) -> None:
    args = {"blob_url": world.malware_url, "tags": "verdict=malware"}
    succeed(server.run("app", "azure-storage-blob-tags-set", args))
    where = {"AccountName": ACCOUNT, "ContainerName": UPLOADS}
    outcome = play(QUARANTINE, CaseID="case-4711", AutoContain="true", **where, **by)
    assert outcome.failed == []
    assert blob_names(azure, UPLOADS) == ["forms/travel.pdf"]
    assert len(blob_names(azure, "evidence")) == 1


def test_a_blob_that_can_not_be_removed_stays_and_is_said(
    azure: LocalAzure, world: World, play: Play, server: Server
) -> None:
    lease = {"blob_url": world.malware_url, "action": "acquire"}
    succeed(server.run("app", "azure-storage-blob-lease", lease))
    outcome = play(QUARANTINE, BlobURL=world.malware_url, CaseID="case-4711", AutoContain="true")
    assert outcome.failed == []
    assert "Remove the blobs" in errors(outcome)
    assert "Remove the blobs by hand" in outcome.names()
    assert MALWARE in blob_names(azure, UPLOADS)
    assert len(blob_names(azure, "evidence")) == 1


# Recover


@pytest.mark.parametrize("versioning", [True, False])
def test_an_emptied_container_comes_back(versioning: bool, azure: LocalAzure, world: World, play: Play) -> None:
    azure.arm.services[ACCOUNT]["isVersioningEnabled"] = versioning
    if not versioning:
        with Scenario(azure).blobs() as service:
            for name in PAYSLIPS:
                service.get_blob_client(PAYROLL, name).upload_blob(b"name,amount\nAnn,4200\n")
                service.get_blob_client(PAYROLL, name).delete_blob()
    assert blob_names(azure, PAYROLL) == []
    answers = {"Undelete the soft-deleted blobs?": "Yes", "Turn soft delete and versioning on?": "Yes"}
    outcome = play(RECOVER, answers, AccountName=ACCOUNT, ContainerName=PAYROLL)
    assert (outcome.failed, errors(outcome), outcome.names()[-1]) == ([], [], "Done")
    assert blob_names(azure, PAYROLL) == sorted(PAYSLIPS)
    kept = azure.arm.services[ACCOUNT]
    assert (kept["isVersioningEnabled"], kept["deleteRetentionPolicy"]["days"]) == (True, 30)


def test_encrypted_blobs_come_back_from_versions(azure: LocalAzure, world: World, play: Play) -> None:
    with Scenario(azure).blobs() as service:
        service.get_blob_client(INVOICES, scenario.INVOICE).upload_blob(b"\x8f encrypted", overwrite=True)
    answers = {"Restore the blobs to the point in time?": "Yes"}
    where = {"AccountName": ACCOUNT, "ContainerName": INVOICES, "RestoreTo": world.emptied_at, "RetentionDays": ""}
    outcome = play(RECOVER, answers, **where)
    assert (outcome.failed, errors(outcome), outcome.names()[-1]) == ([], [], "Done")
    assert content(azure, INVOICES, scenario.INVOICE) == b"<h1>Invoice 4711</h1>"


def test_a_deleted_container_comes_back_with_its_blobs(
    azure: LocalAzure, world: World, play: Play, server: Server
) -> None:
    args = {"account_name": ACCOUNT, "container_name": EXPORTS}
    succeed(server.run("app", "azure-storage-blob-container-delete", args))
    outcome = play(RECOVER, AccountName=ACCOUNT, ContainerName=EXPORTS, AutoRecover="true")
    assert outcome.failed == []
    assert "Restore the container" in outcome.names()
    assert blob_names(azure, EXPORTS) == [scenario.EXPORT]


def test_what_can_not_come_back_is_left_to_a_person(azure: LocalAzure, world: World, play: Play) -> None:
    """No point-in-time restore is set up, so Azure refuses it."""
    inputs = {"RestoreTo": world.emptied_at, "PointInTimeRestore": "true", "AutoRecover": "true"}
    outcome = play(RECOVER, AccountName=ACCOUNT, ContainerName=PAYROLL, **inputs)
    assert outcome.failed == []
    assert "Restore the blobs to a point in time" in errors(outcome)
    assert "Recover the data by hand" in outcome.names()
    assert blob_names(azure, PAYROLL) == []


# What a person sees of it


def test_a_drill_that_ends_in_the_hands_of_a_person_has_failed(azure: LocalAzure, world: World, server: Server) -> None:
    console = Console(record=True, file=io.StringIO(), width=120)
    drill = next(drill for drill in drills.DRILLS if drill.playbook == CONTAIN)
    azure.arm.forbidden.append(("POST", ".*/regenerateKey"))
    with pytest.raises(drills.Failed, match=r"^Contain Exposed Account: Check the containment by hand$"):
        drills.play(drill, world, server, "app", console)
    shown = console.export_text()
    assert "Isolate the account -> #error#" in shown
    assert "The isolation is not complete." in shown


def test_a_drill_shows_no_signature(azure: LocalAzure, world: World, server: Server) -> None:
    console = Console(record=True, file=io.StringIO(), width=400)
    drill = next(drill for drill in drills.DRILLS if drill.playbook == SAS)
    drills.play(drill, world, server, "app", console)
    shown = console.export_text()
    assert "partner-access" in shown
    signature = urllib.parse.urlsplit(world.policy_sas_url).query.partition("sig=")[2]
    assert signature not in shown and urllib.parse.unquote(signature) not in shown


def test_the_prompt_starts_with_the_alert_and_somebody_signed_in(
    azure: LocalAzure, server: Server, request: pytest.FixtureRequest
) -> None:
    server.instances.save("local", azure.instance("Device Code"))
    told = warroom.alert(server, azure, "local")
    request.addfinalizer(lambda: forget(azure))
    command = next(line for line in told.splitlines() if line.startswith("`!")).strip("`")
    name, _, argument = command.removeprefix("!").partition(" ")
    key, _, url = argument.partition("=")
    assert status(azure, url) == 200, "the blob of the alert is open to everybody"
    assert scenario.RESPONDER in told
    assert scenario.RESPONDER in succeed(server.run("local", "azure-storage-auth-test", {})).text
    triage = succeed(server.run("local", name, {key: url})).text
    assert scenario.STOLEN in triage and scenario.ATTACKER_IP in triage


# The test playbook


def test_the_test_playbook_passes_and_leaves_nothing(azure: LocalAzure, world: World, play: Play) -> None:
    outcome = play("Test", AccountName=ACCOUNT)
    assert (outcome.failed, errors(outcome), outcome.names()[-1]) == ([], [], "Done")
    assert "xsoar-test" not in azure.azurite.container_names(ACCOUNT)


def test_the_test_playbook_cleans_up_after_a_failure(azure: LocalAzure, world: World, play: Play) -> None:
    azure.faults.add(service="blob", method="GET", path="/xsoar-test/test.txt", status=403, times=9)
    outcome = play("Test", AccountName=ACCOUNT)
    assert outcome.names()[-2:] == ["The test failed", "Done"]
    assert "xsoar-test" not in azure.azurite.container_names(ACCOUNT)
