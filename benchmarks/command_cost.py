"""What one war-room command costs: on top of the platform alone, and against Microsoft's own client.

Each figure is the median of fresh processes that list the storage accounts of a group of the local Azure, signed in before.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from local.azure import LocalAzure  # noqa: E402 - found on the path above
from local.azure.entra import APP_SECRET, SECRET_APP  # noqa: E402
from local.azure.machine import GROUP, SUBSCRIPTION  # noqa: E402
from local.xsoar.server import Server  # noqa: E402

ROUNDS = 15
SDK = f"""
import sys, time
from azure.core.credentials import AccessToken
from azure.mgmt.storage import StorageManagementClient
token, url, ca = sys.argv[1:]
class Credential:
    def get_token(self, *scopes, **options):
        return AccessToken(token, int(time.time()) + 3600)
client = StorageManagementClient(Credential(), {SUBSCRIPTION!r}, base_url=url, credential_scopes=[url + "/.default"],
                                 connection_verify=ca, api_version="2025-08-01")
assert [account.name for account in client.storage_accounts.list_by_resource_group({GROUP!r})]
"""


def median(run: Callable[[], object]) -> float:
    """Milliseconds."""
    times = []
    for _ in range(ROUNDS):
        started = time.perf_counter()
        run()
        times.append(1000 * (time.perf_counter() - started))
    return statistics.median(times)


def token(azure: LocalAzure) -> str:
    import requests

    form = {
        "grant_type": "client_credentials",
        "client_id": SECRET_APP,
        "client_secret": APP_SECRET,
        "scope": f"{azure.arm_url}/.default",
        "resource": azure.arm_url,
    }
    with requests.Session() as session:
        session.trust_env = False
        url = f"{azure.authority_url}/{azure.tenant_id}/v2.0/token"
        return str(session.post(url, data=form, verify=str(azure.ca_file), timeout=10).json()["access_token"])


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, LocalAzure(Path(folder) / "azure") as azure:
        idle = Path(folder) / "idle.py"
        idle.write_text("import requests\nreturn_results('ok')\n")
        ours, platform = Server(Path(folder) / "ours"), Server(Path(folder) / "platform", idle)
        for server in (ours, platform):
            server.environment = azure.environment()
            server.instances.save("app", azure.instance("Client Credentials"))

        def list_accounts() -> None:
            run = ours.run("app", "azure-storage-account-list")
            assert "contosobackups" in run.text, run.error  # noqa: S101 - a failure must not count as fast

        bearer = token(azure)
        command = (sys.executable, "-c", SDK, bearer, azure.arm_url, str(azure.ca_file))
        list_accounts()
        alone = median(lambda: platform.run("app", "azure-storage-account-list"))
        whole = median(list_accounts)
        sdk = median(lambda: subprocess.run(command, check=True, env=dict(os.environ)))
    figures = {"platform_alone_ms": alone, "with_the_command_ms": whole, "azure_mgmt_storage_ms": sdk}
    print(json.dumps({name: round(value, 1) for name, value in figures.items()}))
    print(f"on top of the platform: {whole - alone:.0f} ms")
    print(f"azure-mgmt-storage takes {sdk / whole:.2f} times as long as the whole command, platform included")


if __name__ == "__main__":
    main()
