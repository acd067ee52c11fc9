"""How tests speak to the blob service: Microsoft's client, and requests made by hand."""

import xml.etree.ElementTree as ET
from datetime import datetime, timedelta, timezone
from typing import Any

import requests

from local.azure import LocalAzure

from .clients import ACCOUNT, Credential

__all__ = ["ACCOUNT", "Credential"]
BOX = "blob-cases"
VERSION = "2025-11-05"
KEEP = {"enabled": True, "days": 7}


def client(azure: LocalAzure, account: str = ACCOUNT, credential: Any = None) -> Any:
    """Microsoft's client for an account, with its key unless another credential is given."""
    from azure.storage.blob import BlobServiceClient

    key = {"account_name": account, "account_key": azure.arm.keys[account][0]}
    return BlobServiceClient(
        azure.azurite.endpoint(account),
        credential=credential or key,
        api_version=VERSION,
        connection_verify=str(azure.ca_file),
        retry_total=0,
    )


def in_an_hour() -> datetime:
    return datetime.now(timezone.utc) + timedelta(hours=1)


def sas(azure: LocalAzure, permission: str, resources: str = "sco", **more: Any) -> str:
    """An account SAS."""
    from azure.storage.blob import generate_account_sas

    until = more.pop("expiry", None) or in_an_hour()
    return str(generate_account_sas(ACCOUNT, azure.arm.keys[ACCOUNT][0], resources, permission, until, **more))


def access_token(azure: LocalAzure, audience: str = "https://storage.azure.com") -> str:
    """A token of the application with a secret."""
    return str(Credential(azure).get_token(f"{audience}/.default").token)


def token(azure: LocalAzure) -> str:
    return f"Bearer {access_token(azure)}"


def send(
    azure: LocalAzure,
    method: str,
    target: str,
    auth: str = "",
    body: bytes = b"",
    account: str = ACCOUNT,
    **headers: str,
) -> requests.Response:
    """A request made by hand, with a token or a SAS or neither; underscores in names of headers stand for hyphens."""
    sent = {"x-ms-version": VERSION, **{name.replace("_", "-"): value for name, value in headers.items()}}
    if auth.startswith("Bearer"):
        sent["Authorization"] = auth
    elif auth:
        target += ("&" if "?" in target else "?") + auth
    with requests.Session() as session:
        session.trust_env = False
        url = f"{azure.azurite.endpoint(account).rstrip('/')}{target}"
        return session.request(method, url, headers=sent, data=body, verify=str(azure.ca_file), timeout=20)


def refusal(answer: requests.Response) -> tuple[int, str]:
    return answer.status_code, answer.headers.get("x-ms-error-code", "")


def names(azure: LocalAzure, container: str, query: str = "") -> list[str]:
    answer = send(azure, "GET", f"/{container}?restype=container&comp=list{query}", sas(azure, "l"))
    assert answer.status_code == 200, answer.text
    page = ET.fromstring(answer.content)  # noqa: S314 - the local Azure's
    return [row.findtext("Name") or "" for row in page.iterfind("Blobs/*")]


def setting(azure: LocalAzure, **changes: Any) -> None:
    """Changes settings of the account's blob service."""
    azure.arm.services[ACCOUNT].update(changes)


def of_account(azure: LocalAzure, **changes: Any) -> None:
    """Changes properties of the account."""
    azure.arm.accounts[ACCOUNT]["properties"].update(changes)
