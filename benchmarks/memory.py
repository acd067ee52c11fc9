"""Peak memory of listing many blobs and of checking many accounts, against a tenth of each.

The blobs come from the stand-in that makes them up (null.mjs), the accounts from Resource Graph's answers, made up in pages of
1,000 by requests-mock. Each is a fresh process.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import requests_mock

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "local" / "standins")]

from benchmarks.stand_in import null_service  # noqa: E402 - found on the path above

WORK = {"list": ("{:,} blobs listed", 1_000_000), "posture": ("posture of {:,} accounts, with a CSV file", 10_000)}
GOAL = 150  # MB
SAS = "sv=2025-11-05&ss=b&srt=sco&sp=rwdlac&se=2099-01-01T00:00:00Z&sig=bench"
CUSTOM = {
    "auth_type": "Device Code",
    "cloud": "Custom",
    "custom_authority_url": "https://127.0.0.1",
    "custom_resource_manager_url": "https://127.0.0.1",
    "custom_storage_suffix": "127.0.0.1",
}
PAGE = 1000


def list_blobs(url: str) -> None:
    import AzureStorage as module

    params = {
        **CUSTOM,
        "custom_storage_suffix": url.split("/")[2],
        "storage_credentials": {"identifier": "bench", "password": SAS},
    }
    module.run("azure-storage-blob-list", params, {"blob_url": f"{url}/bench/data", "all_results": "true"})


def check_accounts(count: int) -> None:
    import AzureStorage as module

    row = json.loads((ROOT / "test_data" / "arm" / "graph.json").read_text())["data"][0]
    text, name = json.dumps(row), row["name"]

    def page(request: requests_mock.request._RequestObjectProxy, context: object) -> str:
        start = int(request.json()["options"].get("$skipToken", "0"))
        rows = ",".join(text.replace(name, f"account{number:07}") for number in range(start, min(start + PAGE, count)))
        following = str(start + PAGE) if start + PAGE < count else ""
        return f'{{"data": [{rows}], "$skipToken": "{following}"}}'

    def token(auth: object, audience: str, **options: object) -> str:
        return "token"

    module.MicrosoftAuth.token = token  # type: ignore[method-assign, assignment]
    with requests_mock.Mocker() as mock:
        mock.post(f"{CUSTOM['custom_resource_manager_url']}/providers/Microsoft.ResourceGraph/resources", text=page)
        found = module.run("azure-storage-account-posture", CUSTOM, {"report": "csv"})
    assert f"of {count:,} accounts" in found[0].readable_output  # noqa: S101 - all of them, or the figure means nothing


def peak(work: str, count: int, environment: dict[str, str], url: str) -> float:
    """MB of a fresh process that does the work."""
    with tempfile.TemporaryDirectory() as folder:
        command = (sys.executable, __file__, work, str(count), url)
        done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    return float(done.stdout.split()[-1])


def main() -> None:
    for work in sys.argv[1:] or WORK:
        title, most = WORK[work]
        found = []
        for count in (most // 10, most):
            with tempfile.TemporaryDirectory() as name, null_service(Path(name), count) as (url, authority):
                found.append(peak(work, count, {**os.environ, "REQUESTS_CA_BUNDLE": authority}, url))
        tenth, whole = found
        print(
            f"{title.format(most)}: {whole:.0f} MB at the peak, {whole / GOAL:.2f} of the goal of {GOAL} MB;", end=" "
        )
        print(f"{whole / tenth:.2f} times that of a tenth ({tenth:.0f} MB)", flush=True)


if __name__ == "__main__":
    if len(sys.argv) == 4:
        list_blobs(sys.argv[3]) if sys.argv[1] == "list" else check_accounts(int(sys.argv[2]))
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    else:
        main()
