"""Sign-in against a real OpenID provider, each command in a process of its own as on a server."""

import json
import re
import threading
from pathlib import Path

import pytest

from AzureStorage import TURN_PATIENCE
from local.azure import LocalAzure
from local.azure.entra import APP_SECRET, SECRET_APP
from local.xsoar.server import MODULE, Run, Server

from .conftest import address_and_code, sign_in_device, succeed


def session(server: Server, instance: str) -> dict[str, object]:
    """The stored session of an instance, whatever its fingerprint."""
    stored = json.loads((server.home / f"context-{instance}.json").read_text())["context"]
    found: dict[str, object] = next(iter(json.loads(stored["azure_storage_sign_in"])["sessions"].values()), {})
    return found


def forms(azure: LocalAzure) -> list[str]:
    """The bodies of what went to the token endpoint."""
    return [r.body.decode() for r in list(azure.requests) if r.service == "entra" and r.path.endswith("/token")]


def forget_access_tokens(server: Server, instance: str) -> None:
    """As if all access tokens had ended: what is left is the refresh token."""
    path = server.home / f"context-{instance}.json"
    stored = json.loads(path.read_text())
    document = json.loads(stored["context"]["azure_storage_sign_in"])
    for found in document["sessions"].values():
        found["tokens"] = {}
    stored["context"]["azure_storage_sign_in"] = json.dumps(document)
    path.write_text(json.dumps(stored))


def test_device_code_too_early_then_done(azure: LocalAzure, server: Server) -> None:
    started = succeed(server.run("device", "azure-storage-auth-start"))
    early = server.run("device", "azure-storage-auth-complete")
    assert "is not finished" in early.error
    assert "azure-storage-auth-complete again" in early.error
    azure.person().sign_in_device(*address_and_code(started))
    assert "ann@contoso.example" in succeed(server.run("device", "azure-storage-auth-complete")).text
    text = succeed(server.run("device", "azure-storage-auth-test")).text
    assert "| Azure Resource Manager | true |" in text
    assert "| Azure Storage | true |" in text
    assert azure.tenant_id in text


def test_device_code_without_a_tenant_uses_organizations(azure: LocalAzure, server: Server) -> None:
    server.instances.save("device", azure.instance("Device Code", tenant_id=""))
    sign_in_device(azure, server)
    succeed(server.run("device", "azure-storage-subscriptions-list"))
    asked = [r.path for r in list(azure.requests) if r.path.endswith("openid-configuration")]
    assert set(asked) == {"/organizations/v2.0/.well-known/openid-configuration"}


def test_device_code_declined(azure: LocalAzure, server: Server) -> None:
    started = succeed(server.run("device", "azure-storage-auth-start"))
    azure.person().sign_in_device(*address_and_code(started), deny=True)
    error = server.run("device", "azure-storage-auth-complete").error
    assert "declined" in error
    assert "azure-storage-auth-start" in error
    assert "No sign-in is waiting" in server.run("device", "azure-storage-auth-complete").error


def test_a_redeemed_device_code_is_never_replayed(azure: LocalAzure, server: Server) -> None:
    sign_in_device(azure, server)
    sent = len(forms(azure))
    succeed(server.run("device", "azure-storage-auth-complete"))
    assert len(forms(azure)) == sent
    forget_access_tokens(server, "device")
    succeed(server.run("device", "azure-storage-subscriptions-list"))


def test_polling_ends_when_the_person_has_signed_in(azure: LocalAzure, server: Server) -> None:
    rounds: list[Run] = []

    def on_round(run: Run) -> None:
        rounds.append(run)
        if len(rounds) == 2:
            azure.person().sign_in_device(*address_and_code(rounds[0]))

    run = server.run(
        "device", "azure-storage-auth-start", {"polling": "true"}, follow=True, interval=0, on_round=on_round
    )
    assert "ann@contoso.example" in succeed(run).text
    assert len(rounds) == 2


@pytest.mark.parametrize("whole", [True, False])
def test_authorization_code_pasted(azure: LocalAzure, server: Server, whole: bool) -> None:
    url = succeed(server.run("browser", "azure-storage-generate-login-url")).entries[0]["Contents"]["login_url"]
    end = azure.person().sign_in_code(url)
    code = end if whole else re.findall(r"[?&]code=([^&]+)", end)[0]
    succeed(server.run("browser", "azure-storage-auth-complete", {"code": code}))
    assert "| Azure Storage | true |" in succeed(server.run("browser", "azure-storage-auth-test")).text
    assert "code_verifier=" in forms(azure)[0]


def test_authorization_code_with_a_secret_and_from_the_instance(azure: LocalAzure, server: Server) -> None:
    secret = {"identifier": "", "password": APP_SECRET}
    params = azure.instance("Authorization Code", app_id=SECRET_APP, credentials=secret)
    server.instances.save("browser", params)
    url = succeed(server.run("browser", "azure-storage-auth-start")).entries[0]["Contents"]["login_url"]
    end = azure.person().sign_in_code(url)
    server.instances.save("browser", {**params, "auth_code": {"identifier": "", "password": end}})
    succeed(server.run("browser", "azure-storage-subscriptions-list"))
    succeed(server.run("browser", "azure-storage-subscriptions-list"))
    assert "client_secret=" in forms(azure)[0]
    assert len(forms(azure)) == 1


def test_a_reused_code_and_a_foreign_state_are_refused(azure: LocalAzure, server: Server) -> None:
    url = succeed(server.run("browser", "azure-storage-generate-login-url")).entries[0]["Contents"]["login_url"]
    end = azure.person().sign_in_code(url)
    wrong = re.sub(r"state=[^&]+", "state=other", end)
    assert "state mismatch" in server.run("browser", "azure-storage-auth-complete", {"code": wrong}).error
    succeed(server.run("browser", "azure-storage-auth-complete", {"code": end}))
    assert "used before" in server.run("browser", "azure-storage-auth-complete", {"code": end}).error
    forget_access_tokens(server, "browser")
    succeed(server.run("browser", "azure-storage-subscriptions-list"))


def test_a_code_that_the_service_does_not_know(azure: LocalAzure, server: Server) -> None:
    succeed(server.run("browser", "azure-storage-generate-login-url"))
    error = server.run("browser", "azure-storage-auth-complete", {"code": "no-such-code-was-ever-issued"}).error
    assert "invalid_grant" in error
    assert "generate-login-url" in error
    assert "no-such-code" not in error


def test_a_sign_in_declined_in_the_browser(azure: LocalAzure, server: Server) -> None:
    url = succeed(server.run("browser", "azure-storage-generate-login-url")).entries[0]["Contents"]["login_url"]
    end = azure.person().sign_in_code(url, deny=True)
    assert "declined" in server.run("browser", "azure-storage-auth-complete", {"code": end}).error


@pytest.mark.parametrize("instance", ["app", "certificate", "identity"])
def test_unattended_ways_in(azure: LocalAzure, server: Server, instance: str) -> None:
    assert succeed(server.run(instance, "test-module")).text == "ok"
    text = succeed(server.run(instance, "azure-storage-auth-test")).text
    assert "| Azure Resource Manager | true |" in text
    assert "| Azure Storage | true |" in text


@pytest.mark.parametrize(("instance", "command"), [("device", "auth-start"), ("browser", "generate-login-url")])
def test_the_button_names_the_command_to_run(server: Server, instance: str, command: str) -> None:
    assert f"!azure-storage-{command}" in server.run(instance, "test-module").error


def test_a_rotated_refresh_token_is_kept(azure: LocalAzure, server: Server) -> None:
    sign_in_device(azure, server)
    for _ in range(3):
        before = session(server, "device")["cache"]
        forget_access_tokens(server, "device")
        succeed(server.run("device", "azure-storage-subscriptions-list"))
        assert session(server, "device")["cache"] != before


@pytest.mark.parametrize("single_use", [True, False])
def test_commands_at_once_refresh_once_and_lose_no_token(azure: LocalAzure, server: Server, single_use: bool) -> None:
    """Where a refresh token works once, a second refresh with the same one would revoke the whole sign-in."""
    azure.entra.single_use_refresh_tokens = single_use
    sign_in_device(azure, server)
    forget_access_tokens(server, "device")
    sent = len(forms(azure))
    runs: list[Run] = []
    threads = [
        threading.Thread(target=lambda: runs.append(server.run("device", "azure-storage-subscriptions-list")))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [run.error for run in runs] == [""] * 8
    assert len(forms(azure)) == sent + 1
    forget_access_tokens(server, "device")
    succeed(server.run("device", "azure-storage-subscriptions-list"))


# What a script does before main(): waiting takes no time and is told, and a signal that nothing can catch ends the process
# before or after a request or a save.
KILLED = """
def stop_at(point):
    places = itertools.count(1)
    def step():
        if next(places) == point:
            os.kill(os.getpid(), 9)
    def watched(real):
        def call(*args, **options):
            step()
            result = real(*args, **options)
            step()
            return result
        return call
    SessionStore._save = watched(SessionStore._save)
    Network.exchange = watched(Network.exchange)
    Clock.wait = staticmethod(lambda seconds: demisto.info(f"waited {{seconds}}"))

stop_at({point})
"""
ENTRY = 'if __name__ in ("__main__"'


def killed_at(folder: Path, point: int) -> Path:
    """The module as a script whose process ends at one point; at none for 0."""
    source = MODULE.read_text()
    assert source.count(ENTRY) == 1
    path = folder / "killed.py"
    path.write_text(source.replace(ENTRY, KILLED.format(point=point) + ENTRY))
    return path


def waited(run: Run) -> float:
    return sum(float(line.rpartition(" ")[2]) for line in run.log if line.startswith("info: waited "))


@pytest.mark.parametrize("single_use", [False, True])
def test_a_command_killed_at_any_point_of_a_refresh_holds_nobody_up(
    azure: LocalAzure, server: Server, tmp_path: Path, single_use: bool
) -> None:
    """The next one signs in within seconds. A sign-in is lost only if the service has ended it: where a refresh token
    works once, and the process died between the answer and the save."""
    azure.entra.single_use_refresh_tokens = single_use
    sign_in_device(azure, server)
    lost = []
    for point in range(1, 40):
        forget_access_tokens(server, "device")
        server.module = killed_at(tmp_path, point)
        killed = server.run("device", "azure-storage-subscriptions-list")
        server.module = killed_at(tmp_path, 0)
        after = server.run("device", "azure-storage-subscriptions-list")
        assert waited(after) <= TURN_PATIENCE + 1, point
        if not killed.error:
            break
        assert "The process failed" in killed.error
        if after.error:
            assert "invalid_grant" in after.error and "azure-storage-auth-start" in after.error
            lost.append(point)
            sign_in_device(azure, server)
    assert point > 8
    assert len(lost) == (2 if single_use else 0)


def test_a_revoked_grant_says_to_sign_in_again(azure: LocalAzure, server: Server) -> None:
    azure.entra.single_use_refresh_tokens = True
    sign_in_device(azure, server)
    revoke_by_replay(azure, server)
    error = server.run("device", "azure-storage-subscriptions-list").error
    assert "invalid_grant" in error
    assert "azure-storage-auth-start" in error
    assert "This instance isn't signed in" in server.run("device", "azure-storage-subscriptions-list").error
    sign_in_device(azure, server)
    succeed(server.run("device", "azure-storage-subscriptions-list"))


def revoke_by_replay(azure: LocalAzure, server: Server) -> None:
    """Use a rotated refresh token again, which makes the provider revoke the grant."""
    import requests

    forget_access_tokens(server, "device")
    succeed(server.run("device", "azure-storage-subscriptions-list"))
    used = forms(azure)[-1]
    url = f"{azure.authority_url}/{azure.tenant_id}/v2.0/token"
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    with requests.Session() as client:
        client.trust_env = False
        answer = client.post(url, data=used, headers=headers, verify=str(azure.ca_file), timeout=10)
    assert answer.json()["error"] == "invalid_grant"
    forget_access_tokens(server, "device")


def test_a_changed_client_never_uses_the_old_session(azure: LocalAzure, server: Server) -> None:
    sign_in_device(azure, server)
    server.instances.save("device", azure.instance("Device Code", app_id="11111111-2222-4333-8444-555555555555"))
    assert "This instance isn't signed in" in server.run("device", "azure-storage-subscriptions-list").error
    assert "AADSTS700016" in server.run("device", "azure-storage-auth-start").error
    server.instances.save("device", azure.instance("Device Code"))
    succeed(server.run("device", "azure-storage-subscriptions-list"))


def test_a_corrupt_context_is_set_aside(azure: LocalAzure, server: Server) -> None:
    path = server.home / "context-device.json"
    path.write_text(json.dumps({"version": 4, "context": {"azure_storage_sign_in": "{broken", "other": "kept"}}))
    assert "set aside" in server.run("device", "azure-storage-subscriptions-list").error
    sign_in_device(azure, server)
    succeed(server.run("device", "azure-storage-subscriptions-list"))
    assert json.loads(path.read_text())["context"]["other"] == "kept"


def test_reset_forgets_the_sign_in(azure: LocalAzure, server: Server) -> None:
    sign_in_device(azure, server)
    succeed(server.run("device", "azure-storage-auth-reset"))
    assert "This instance isn't signed in" in server.run("device", "azure-storage-auth-test").error


def test_an_expired_device_code(tmp_path: Path) -> None:
    """On an Entra whose device codes live for one second; the person is slower."""
    with LocalAzure(tmp_path / "azure", device=1) as azure:
        server = Server(tmp_path / "server")
        server.environment = azure.environment()
        server.instances.save("device", azure.instance("Device Code"))
        succeed(server.run("device", "azure-storage-auth-start"))
        run = server.run("device", "azure-storage-auth-complete")
        while "is not finished" in run.error:
            run = server.run("device", "azure-storage-auth-complete")
        assert "expired" in run.error
        assert "azure-storage-auth-start" in run.error


def test_an_access_token_that_arm_refuses_is_refreshed(azure: LocalAzure, server: Server) -> None:
    sign_in_device(azure, server)
    azure.faults.add(
        service="arm",
        path="/subscriptions",
        status=401,
        body='{"error":{"code":"ExpiredAuthenticationToken","message":"x"}}',
    )
    sent = len(forms(azure))
    succeed(server.run("device", "azure-storage-subscriptions-list"))
    assert len(forms(azure)) == sent + 1


def test_no_secret_is_left_in_what_people_see(azure: LocalAzure, server: Server) -> None:
    """Tokens that really were issued, looked for in every entry and log line of every command."""
    sign_in_device(azure, server)
    shown = []
    for name in ("auth-test", "subscriptions-list", "account-list", "resource-group-list", "auth-start"):
        run = server.run("device", f"azure-storage-{name}")
        shown.append(json.dumps(run.entries) + "".join(run.log))
    secrets = re.findall(r"eyJ[\w-]+\.[\w-]+\.[\w-]+", json.dumps(session(server, "device")))
    secrets += re.findall(r'\\"secret\\": \\"([\w-]+)\\"', json.dumps(session(server, "device")))
    assert len(secrets) >= 2
    assert not [secret for secret in secrets if secret in "".join(shown)]
