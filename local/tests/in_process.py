"""Commands in this process, on an instance that is signed in, with an Azure whose answers a test may replace."""

import json
import os
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import demistomock as demisto
import requests
import requests_mock as rm
from urllib3.util import parse_url

import AzureStorage as az
from local.canned import PROXY

from .recorded_azure import ACCOUNT, ARM, BLOBS, GROUP, SUBSCRIPTION, RecordedArm, RecordedBlobs

NOW = 1_795_700_000.0  # the day after the recordings
MOST_REQUESTS = 400  # no command needs more against the recordings; one that sends more would never end
PARAMS = {"auth_type": "Device Code", "subscription_id": SUBSCRIPTION, "resource_group_name": GROUP}
Json = dict[str, Any]


class Answer(NamedTuple):
    """What a test can make of an answer. `error` is raised instead, as where a connection breaks."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    error: Exception | None = None


Change = Callable[[int, Any, Answer], Answer]


def unchanged(number: int, request: Any, answer: Answer) -> Answer:
    return answer


class Endless(BaseException):
    """A command sends one request after the other. No command can catch it."""


class FakeClock:
    """Time that passes only when somebody waits."""

    def __init__(self) -> None:
        self.time = NOW

    def now(self) -> float:
        return self.time

    def wait(self, seconds: float) -> None:
        self.time += seconds


class World:
    """The recorded Azure behind every address. `change` may replace each answer; `sent` holds every request."""

    def __init__(self) -> None:
        self.change: Change = unchanged
        self.reset()

    def reset(self) -> None:
        self.sent: list[Any] = []
        self._arm = RecordedArm()
        self._blobs = RecordedBlobs(self._arm)

    def __call__(self, request: Any, context: Any) -> bytes:
        self.sent.append(request)
        if len(self.sent) > MOST_REQUESTS:
            raise Endless
        answer = self.change(len(self.sent) - 1, request, self._recorded(request))
        if answer.error:
            raise answer.error
        context.status_code = answer.status
        context.headers.update(answer.headers)
        return answer.body

    def _recorded(self, request: Any) -> Answer:
        """What was recorded; a refusal for what no recording fits."""
        context = requests.models.Response()
        try:
            if request.url.startswith(ARM):
                found = self._arm.answer(request, context)
                return Answer(context.status_code, {}, b"" if found is None else json.dumps(found).encode())
            if request.url.startswith(BLOBS):
                body = self._blobs.answer(request, context)
                return Answer(context.status_code, dict(context.headers), body)
        except (LookupError, ValueError, TypeError, AttributeError, SyntaxError):
            return Answer(400, {}, b'{"error": {"code": "InvalidInput", "message": "There is no recording of this."}}')
        return Answer(404, {}, b'{"error": {"code": "ResourceNotFound", "message": "There is no such host."}}')


def sign_in(params: Mapping[str, Any], secret: str = "marker", *, endpoint: bool = False) -> None:
    """As if somebody had signed in: the context of the instance holds tokens for both resources; and the account's blob
    endpoint, if an earlier command has asked for it."""
    settings = az.read_settings(params)
    entry = {"expires_at": int(NOW) + 3600}
    tokens = {
        settings.cloud.audience: {**entry, "token": f"{secret}-arm-token"},
        az.STORAGE_AUDIENCE: {**entry, "token": f"{secret}-blob-token"},
    }
    session = {"tokens": tokens, "cache": "{}", "username": "ann@contoso.com"}
    session |= {"endpoints": {ACCOUNT: f"{BLOBS}/"}} if endpoint else {}
    document = {"version": az.SessionStore.VERSION, "sessions": {settings.identity_key: session}}
    demisto.setIntegrationContext({az.SessionStore.KEY: json.dumps(document)})


@contextmanager
def world(folder: Path) -> Iterator[World]:
    """The recorded Azure and a clock of its own, for as many commands as a test likes. Files go into the folder."""
    found, clock = World(), FakeClock()
    with (
        rm.Mocker() as mocker,
        mock.patch.object(az.Clock, "now", clock.now),
        mock.patch.object(az.Clock, "wait", clock.wait),
        mock.patch.object(demisto, "_context", {}),
        mock.patch.object(demisto, "results", json.dumps),
    ):
        mocker.register_uri(rm.ANY, rm.ANY, content=found)
        before = Path.cwd()
        os.chdir(folder)
        try:
            yield found
        finally:
            os.chdir(before)


def entries(name: str, params: Mapping[str, Any], args: Mapping[str, Any]) -> list[Json]:
    """The entries of a command, its own error among them; whatever is not an AzureStorageError is raised."""
    try:
        results = az.run(name, params, args)
    except az.AzureStorageError as error:
        return [{"Type": 4, "Contents": az.explain(error, name)}]
    found = results if isinstance(results, list) else [results]
    return [
        item if isinstance(item, dict) else {"Contents": item} if isinstance(item, str) else item.to_context()
        for item in found
    ]


def target(request: Any) -> tuple[str, str]:
    """Host and decoded path of a request as they go over the wire."""
    url = parse_url(request.url)
    return str(url.netloc), urllib.parse.unquote(url.path or "/")


def by_a_proxy(body: bytes, status: int = 200) -> Answer:
    return Answer(status, {"Via": PROXY, "Content-Type": "text/html"}, body)
