"""The blob service behind the local ARM: Azurite, spoken to with Microsoft's own client and the account's key."""

import contextlib
import json
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .arm import ArmError, Json

# azure-storage-blob sends a newer version than Azurite knows.
VERSION = "2025-11-05"
ACCESS = {"Container": "container", "Blob": "blob", "None": None}


class Azurite:
    """The accounts of a running Azurite and their containers. `public` is the address that clients are given."""

    def __init__(self, process: "subprocess.Popen[str]", port: int, ca_file: Path) -> None:
        self.process, self.port, self.ca_file = process, port, ca_file
        self.public = ""
        # Stands around the deletion of a container: the recycle bin puts itself here.
        self.deleting: Callable[[str, str], contextlib.AbstractContextManager[None]]
        self.deleting = lambda account, name: contextlib.nullcontext()
        self._lock = threading.Lock()

    def endpoint(self, account: str) -> str:
        return f"{self.public}/{account}/"

    def accounts_changed(self, keys: dict[str, list[str]]) -> None:
        """Returns when Azurite knows the accounts and keys."""
        assert self.process.stdin and self.process.stdout  # noqa: S101 - it was started with pipes
        with self._lock:
            self.process.stdin.write(json.dumps(keys) + "\n")
            self.process.stdin.flush()
            while "accounts replaced" not in self.process.stdout.readline():
                if self.process.poll() is not None:
                    raise RuntimeError("Azurite has ended")

    def _service(self, account: str, key: str) -> Any:
        from azure.storage.blob import BlobServiceClient

        url = f"https://127.0.0.1:{self.port}/{account}"
        credential = {"account_name": account, "account_key": key}
        return BlobServiceClient(
            url, credential=credential, api_version=VERSION, connection_verify=str(self.ca_file), retry_total=0
        )

    def containers(self, account: str, key: str) -> list[Json]:
        return [self._read(item) for item in self._service(account, key).list_containers(include_metadata=True)]

    @staticmethod
    def _read(item: Any) -> Json:
        access = {value: name for name, value in ACCESS.items()}
        return {
            "name": item.name,
            "etag": f'"{str(item.etag).strip(chr(34))}"',
            "properties": {
                "publicAccess": access[item.public_access],
                "leaseStatus": str(item.lease.status).capitalize(),
                "leaseState": str(item.lease.state).capitalize(),
                "lastModifiedTime": item.last_modified.strftime("%Y-%m-%dT%H:%M:%S.0000000Z"),
                "hasImmutabilityPolicy": bool(item.has_immutability_policy),
                "hasLegalHold": bool(item.has_legal_hold),
                **({"metadata": dict(item.metadata)} if item.metadata else {}),
            },
        }

    def create(self, account: str, key: str, name: str, properties: Json) -> bool:
        """Whether it was not there before."""
        from azure.core.exceptions import ResourceExistsError

        access = ACCESS[properties.get("publicAccess", "None")]
        try:
            self._service(account, key).create_container(
                name, metadata=properties.get("metadata"), public_access=access
            )
        except ResourceExistsError:
            self.update(account, key, name, properties)
            return False
        return True

    def update(self, account: str, key: str, name: str, properties: Json) -> None:
        container = self._service(account, key).get_container_client(name)
        if "publicAccess" in properties:
            container.set_container_access_policy(
                signed_identifiers={}, public_access=ACCESS[properties["publicAccess"]]
            )
        if "metadata" in properties:
            container.set_container_metadata(properties["metadata"])

    def delete(self, account: str, key: str, name: str) -> None:
        from azure.core.exceptions import HttpResponseError

        with self.deleting(account, name):
            try:
                self._service(account, key).delete_container(name)
            except HttpResponseError as error:
                raise ArmError(error.status_code or 409, str(error.error_code), str(error.reason)) from None

    def lease(self, account: str, key: str, name: str, wanted: Json) -> Json:
        """Do to the lease of a container what ARM's body says. Returns what ARM answers; ArmError as Azurite refuses."""
        from azure.core.exceptions import HttpResponseError
        from azure.storage.blob import BlobLeaseClient

        container = self._service(account, key).get_container_client(name)
        lease = BlobLeaseClient(container, lease_id=wanted.get("leaseId"))
        try:
            if wanted["action"] == "Acquire":
                proposed = wanted.get("proposedLeaseId")
                lease = container.acquire_lease(wanted["leaseDuration"], **({"lease_id": proposed} if proposed else {}))
            elif wanted["action"] == "Renew":
                lease.renew()
            elif wanted["action"] == "Change":
                lease.change(wanted["proposedLeaseId"])
            elif wanted["action"] == "Release":
                lease.release()
            else:
                return {"leaseTimeSeconds": str(lease.break_lease(wanted.get("breakPeriod")))}
        except HttpResponseError as error:
            raise ArmError(error.status_code or 409, str(error.error_code), str(error.reason)) from None
        return {"leaseId": lease.id} if wanted["action"] != "Release" else {}
