"""Transfers and listings of blobs against azure-storage-blob, on a server that costs nothing.

`python benchmarks/blobs.py [WORK ...]`. The peer runs twice: alone, and followed by what this integration does besides,
SHA-256 and MD5 over the same bytes. Each figure is the median of fresh processes, the three ways in turn, without imports.
The server throws uploads away and serves zeros, so that what is measured is the client.
"""

import hashlib
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.stand_in import null_service  # noqa: E402 - found on the path above

LISTED, SMALL, ROUNDS = 100_000, 1000, 5
SAS = "sv=2025-11-05&ss=b&srt=sco&sp=rwdlac&se=2099-01-01T00:00:00Z&sig=bench"
WORK = {
    "upload": "256 MiB up",
    "download": "256 MiB down, MD5 held by the service",
    "download-plain": "256 MiB down, no MD5 held",
    "upload-small": f"{SMALL:,} x 4 KiB up",
    "download-small": f"{SMALL:,} x 4 KiB down",
    "list": f"{LISTED:,} blobs listed with a filter",
}
BIG = {"download": "big-md5", "download-plain": "big"}
WAYS = ("ours", "sdk", "sdk-and-hashes")


Times = tuple[float, float]  # seconds, and seconds of the processor


def now() -> Times:
    return time.perf_counter(), time.process_time()


def since(started: Times) -> Times:
    return time.perf_counter() - started[0], time.process_time() - started[1]


def ours(url: str, work: str) -> Times:
    sys.path.insert(0, str(ROOT / "local" / "standins"))
    import demistomock as demisto

    import AzureStorage as module

    params = {
        "auth_type": "Device Code",
        "cloud": "Custom",
        "custom_authority_url": "https://127.0.0.1",
        "custom_resource_manager_url": "https://127.0.0.1",
        "custom_storage_suffix": url.split("/")[2],
        "storage_credentials": {"identifier": "bench", "password": SAS},
    }

    def entry_file(entry_id: str) -> dict[str, str]:
        return {"path": os.environ["BENCH_FILE"], "name": f"small-new-{entry_id}"}

    demisto.getFilePath = entry_file
    names = json.dumps([f"small-{number}" for number in range(SMALL)])
    commands: dict[str, tuple[str, dict[str, str]]] = {
        "upload": ("put", {"blob_name": "new", "file_entry_id": "1"}),
        "upload-small": ("put", {"file_entry_ids": ",".join(map(str, range(SMALL)))}),
        "download-small": ("get", {"blob_names": names}),
        "list": ("list", {"min_size": str(LISTED - 10), "all_results": "true"}),
        **{name: ("get", {"blob_name": blob}) for name, blob in BIG.items()},
    }
    name, args = commands[work]
    started = now()
    result = module.run(f"azure-storage-blob-{name}", params, {"blob_url": f"{url}/bench/data", **args})
    times = since(started)
    assert work != "list" or len(result.raw_response) == 10  # noqa: S101 - a wrong answer must not count as fast
    return times


def sdk(url: str, work: str, hashes: bool) -> Times:
    from azure.storage.blob import BlobServiceClient

    started = now()
    client = BlobServiceClient(
        f"{url}/bench", credential=SAS, api_version="2025-11-05", connection_verify=os.environ["REQUESTS_CA_BUNDLE"]
    )
    container = client.get_container_client("data")
    source = Path(os.environ["BENCH_FILE"])

    def read(number: int) -> None:
        data = container.download_blob(f"small-{number}").readall()
        Path(f"small-{number}").write_bytes(data)
        if hashes:
            digest([data])

    def write(number: int) -> None:
        data = source.read_bytes()
        if hashes:
            digest([data])
        container.upload_blob(f"small-new-{number}", data, overwrite=True)

    if work == "upload":
        with source.open("rb") as file:
            container.upload_blob("new", file, max_concurrency=4, overwrite=True)
    elif work in BIG:
        source = Path("big")
        with source.open("wb") as target:
            container.download_blob(BIG[work], max_concurrency=4).readinto(target)
    elif work == "list":
        found = [blob for blob in container.list_blobs() if blob.size >= LISTED - 10]
        assert len(found) == 10  # noqa: S101
    else:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(read if work == "download-small" else write, range(SMALL)))
    if hashes and "small" not in work:
        with source.open("rb") as file:
            digest(iter(lambda: file.read(4 << 20), b""))
    return since(started)


def digest(pieces: Iterable[bytes]) -> None:
    digests = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    for piece in pieces:
        for each in digests:
            each.update(piece)


def worker(way: str, url: str, work: str) -> None:
    seconds, busy = ours(url, work) if way == "ours" else sdk(url, work, way == "sdk-and-hashes")
    print(seconds, busy, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def measure(way: str, url: str, work: str, environment: dict[str, str]) -> tuple[float, ...]:
    """Seconds of the work in a fresh process, those of the processor, and the process's peak memory in MB."""
    with tempfile.TemporaryDirectory() as folder:
        command = (sys.executable, __file__, way, url, work)
        done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    return tuple(map(float, done.stdout.split()[-3:]))


def report(work: str, url: str, environment: dict[str, str]) -> None:
    ways, times = (WAYS[:2], 2) if work == "list" else (WAYS, ROUNDS)  # the peer lists for half a minute
    rounds = [{way: measure(way, url, work, environment) for way in ways} for _ in range(times)]
    found = {way: [statistics.median(one[way][part] for one in rounds) for part in range(3)] for way in ways}
    mine, peer, whole = (found[way] for way in (*ways, ways[-1])[:3])
    words = f"{WORK[work]}: {peer[0] / mine[0]:.2f} times as fast as azure-storage-blob"
    if len(ways) > 2:
        words += f", {whole[0] / mine[0]:.2f} times with SHA-256 and MD5 on its side"
    words += f"; by processor time {peer[1] / mine[1]:.2f}" + (
        f" and {whole[1] / mine[1]:.2f}" if len(ways) > 2 else ""
    )
    figures = (f"{way} {one[0]:.2f} s, {one[1]:.2f} s busy, {one[2]:.0f} MB" for way, one in found.items())
    print(f"{words} ({'; '.join(figures)})", flush=True)


def main() -> None:
    with tempfile.TemporaryDirectory() as name, null_service(Path(name), LISTED) as (url, authority):
        big, small = Path(name) / "big.bin", Path(name) / "small.bin"
        big.write_bytes(bytes(256 << 20))
        small.write_bytes(bytes(4096))
        for work in sys.argv[1:] or WORK:
            source = small if work == "upload-small" else big
            report(work, url, {**os.environ, "REQUESTS_CA_BUNDLE": authority, "BENCH_FILE": str(source)})


if __name__ == "__main__":
    if len(sys.argv) == 4:
        worker(*sys.argv[1:])
    else:
        main()
