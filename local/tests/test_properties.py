"""What holds for every text, address and answer, looked for with many that nobody thought of.

`make test` tries some hundreds of each, always the same; `make nightly` (HYPOTHESIS_PROFILE=nightly) others each time,
more than 100,000 in all.
"""

import json
import os
import random
import re
import urllib.parse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import demistomock as demisto
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import AzureStorage as az

from . import strange
from .in_process import PARAMS, Answer, Change, World, entries, sign_in, target, unchanged, world
from .recorded_azure import ACCOUNT, ARM, BLOBS, GROUP, SUBSCRIPTION
from .test_manifest import EXAMPLES, LEAKED

ALL_CHECKS_OFF = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
settings.register_profile(
    "test", max_examples=300, deadline=None, derandomize=True, database=None, suppress_health_check=ALL_CHECKS_OFF
)
settings.register_profile(
    "nightly", max_examples=15_000, deadline=None, print_blob=True, suppress_health_check=ALL_CHECKS_OFF
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "test"))

SEEDS = st.integers(0, 2**64)


@pytest.fixture(scope="module")
def azure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("files")) as found:
        yield found


# Arguments

READERS = {
    (reader.accepts, reader.read): (f"{command.name} {name}", argument)
    for command in az.COMMANDS.values()
    for name, argument in command.arguments().items()
    for reader in [argument.reader]
}
ID = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/{GROUP}/providers/Microsoft.Storage/storageAccounts/{ACCOUNT}"
GOOD_TEXTS = sorted(
    {value for examples in EXAMPLES.values() for args in examples for value in args.values()}
    | set(LEAKED)
    | {choice for _, argument in READERS.values() for choice in argument.reader.choices}
    | {
        ID,
        f"{BLOBS}/evidence/2026/payroll.xlsx?versionid=2026-11-20T08:15:30.1234567Z",
        f"abfss://evidence@{ACCOUNT}.dfs.core.windows.net/2026/payroll.xlsx",
        f"BlobEndpoint={BLOBS};SharedAccessSignature=sv=2022-11-02&sr=b&sp=r&sig=bWFya2Vy",
        "2026-11-23T12:00:00.1234567+01:00",
        "2 hours ago",
        "30m",
        '["a", "b"]',
        '{"case": "1234"}',
        '[{"value": "198.51.100.0/24", "action": "Allow"}]',
        f"{ID.rpartition('/providers')[0]}/providers/Microsoft.Network/virtualNetworks/v/subnets/s",
        "198.51.100.7,203.0.113.0/24",
        "box/a..box/b",
        "7.00:00:00",
        "203.0.113.0-203.0.113.9",
        "0-1023",
        "1B2M2Y8AsgTpgAmY7PhCfg==",
        "eyJuZXh0IjogImEifQ",
    }
)


INSTANCE: dict[str, Any] = {
    **PARAMS,
    "cloud": "Custom",
    "app_id": "3f2a1c0e-7d55-4a53-9a44-0d1b7f6f2b11",
    "tenant_id": "72f988bf-86f1-41af-91ab-2d7cd011db47",
    "credentials": {"identifier": "", "password": "marker-client-secret"},
    "certificate": {"identifier": "0" * 40, "password": "-----BEGIN PRIVATE KEY----- a -----END PRIVATE KEY-----"},
    "redirect_uri": "https://localhost/myapp",
    "auth_code": {"identifier": "", "password": "https://localhost/myapp?code=marker-code&state=a"},
    "storage_credentials": {"identifier": ACCOUNT, "password": f"{BLOBS}/?{LEAKED[0][1:]}"},
    "custom_authority_url": "https://login.azurestack.example",
    "custom_resource_manager_url": "https://management.azurestack.example",
    "custom_storage_suffix": "azurestack.example",
    "custom_storage_api_version": "2021-01-01",
    "custom_blob_api_version": "2019-07-07",
    "own_ip_addresses": "203.0.113.7",
    "managed_identities_client_id": {"password": "3f2a1c0e-7d55-4a53-9a44-0d1b7f6f2b11"},
    "insecure": "false",
}
FORMS = (
    "sig={}", "&sig={}&x=1", "%26sig%3D{}", '"refresh_token": "{}"', '\\"access_token\\": \\"{}\\"', "client_secret={}", "code={}",
    "Bearer {}", "SharedKey account:{}=", "AccountKey={};", "device_code: {}", "client_assertion={}", "X-IDENTITY-HEADER: {}",
)  # fmt: skip


@st.composite
def odd_texts(draw: st.DrawFn, *, good: tuple[str, ...] = tuple(GOOD_TEXTS)) -> str:
    """Any text, or a good one with mistakes."""
    if draw(st.integers(0, 3)) == 0:
        return draw(st.text(st.characters(), max_size=60))
    found = draw(st.sampled_from(good))
    return strange.text(random.Random(draw(SEEDS)), found) if draw(st.booleans()) else found


@given(text=odd_texts())
def test_an_argument_is_read_or_refused_in_a_sentence(text: str) -> None:
    """By every Reader of every argument."""
    for name, argument in READERS.values():
        try:
            az.read_argument(name.split()[1], argument, text)
        except az.UsageError as error:
            assert f"`{name.split()[1]}`" in str(error), name
            assert len(str(error)) < 2500


@given(name=st.sampled_from(sorted(EXAMPLES)), seed=SEEDS, texts=st.lists(odd_texts(), min_size=2, max_size=2))
def test_any_arguments_give_entries_or_an_error_of_ours(azure: World, name: str, seed: int, texts: list[str]) -> None:
    rng = random.Random(seed)
    args: dict[str, Any] = dict(rng.choice(EXAMPLES[name]))
    known = sorted(az.COMMANDS[name].arguments())
    for text in texts if known else []:
        argument = rng.choice((*known, *args))
        args[argument] = strange.text(rng, args[argument]) if argument in args and rng.random() < 0.3 else text
    sign_in(PARAMS)
    azure.reset()
    check_entries(entries(name, PARAMS, args))
    assert_own_hosts(azure)


def check_entries(found: list[dict[str, Any]]) -> None:
    """They can be written as JSON, which is how they get to a server, and none of them is a surprise."""
    text = json.dumps(found, default=str)
    assert "Unexpected error" not in text
    assert "marker-arm-token" not in text


OWN_HOSTS = re.compile(
    r"management\.azure\.com|login\.microsoftonline\.com|[a-z0-9]{3,24}(\.z\d+)?\.(blob|web)\.(core\.windows|storage\.azure)\.net"
)


def assert_own_hosts(azure: World) -> None:
    """Nothing was sent to a host that is not Azure's."""
    hosts = {target(request)[0] for request in azure.sent}
    assert [host for host in hosts if not OWN_HOSTS.fullmatch(host)] == []


@given(seed=SEEDS, name=st.sampled_from(sorted(INSTANCE)), text=odd_texts())
def test_any_parameters_give_settings_or_a_sentence(seed: int, name: str, text: str) -> None:
    params = {**INSTANCE, name: strange.value(random.Random(seed), INSTANCE[name]) if seed % 2 else text}
    if isinstance(INSTANCE[name], dict) and not seed % 2:
        params[name] = {"identifier": text, "password": text}
    try:
        az.read_settings(params)
    except az.UsageError as error:
        assert len(str(error)) < 2500


# Addresses

NAMES = st.from_regex(r"[a-z0-9]{3,24}", fullmatch=True)
CONTAINERS = st.from_regex(r"[a-z0-9](-?[a-z0-9]){2,30}", fullmatch=True) | st.sampled_from(["$root", "$web", "$logs"])
BLOB_NAMES = st.text(
    st.characters(exclude_categories=["Cs", "Cc"]) | st.sampled_from("/.%?#&+=;:@ ~\\'\"[]<>$ é🔒"),
    min_size=1,
    max_size=40,
) | st.sampled_from(
    ["a/../b", "..", "./a", "a//b", "/a", "a/", "%2e%2e/x", "a?sig=x", "a#b", "a b", "a+b", "100%", "a%2Fb", "~x"]
)
HOSTS = (
    "{}.blob.core.windows.net", "{}.BLOB.core.windows.net", "{}.blob.core.windows.net:443", "{}.dfs.core.windows.net",
    "{}-secondary.blob.core.windows.net", "{}.privatelink.blob.core.windows.net", "{}.blob.core.windows.net.",
)  # fmt: skip


def quoted(name: str, how: int) -> str:
    """A blob's name in an address: all that needs it quoted, everything quoted, or lower-case escapes."""
    found = urllib.parse.quote(name, safe="" if how == 1 else "/~")
    return re.sub(r"%..", lambda escape: escape[0].lower(), found) if how == 2 else found


@given(
    account=NAMES,
    container=CONTAINERS,
    blob=BLOB_NAMES,
    host=st.sampled_from(HOSTS),
    how=st.integers(0, 2),
    sas=st.booleans(),
)
def test_an_address_leads_to_exactly_what_it_names(
    azure: World, account: str, container: str, blob: str, host: str, how: int, sas: bool
) -> None:
    url = f"https://{host.format(account)}/{container}/{quoted(blob, how)}" + ("?sv=1&sig=bWFya2Vy" if sas else "")
    assert_reads(azure, {"blob_url": url}, account, container, blob)


@given(account=NAMES, container=CONTAINERS, blob=BLOB_NAMES, scheme=st.sampled_from(["abfss", "abfs", "wasbs", "wasb"]))
def test_an_address_of_hadoop_leads_to_exactly_what_it_names(
    azure: World, account: str, container: str, blob: str, scheme: str
) -> None:
    service = "dfs" if scheme.startswith("abfs") else "blob"
    url = f"{scheme}://{container}@{account}.{service}.core.windows.net/{quoted(blob, 0)}"
    assert_reads(azure, {"blob_url": url}, account, container, blob)


@given(account=NAMES, container=CONTAINERS, blob=BLOB_NAMES)
def test_names_lead_to_exactly_what_they_name(azure: World, account: str, container: str, blob: str) -> None:
    given_names = {"account_name": account, "container_name": container, "blob_name": blob}
    assert_reads(azure, given_names, account, container, blob)


def assert_reads(azure: World, args: dict[str, str], account: str, container: str, blob: str) -> None:
    """A command that reads a blob asks for this one, or sends nothing."""
    found = entries_of(azure, "azure-storage-blob-properties-get", args)
    assert found
    paths = {target(request) for request in azure.sent if request.method == "HEAD"}
    assert paths <= {(f"{account}.blob.core.windows.net", f"/{container}/{blob}")}
    assert paths or "nvalid" in str(found[0]["Contents"]), found
    assert_arm_account(azure, account)


def entries_of(azure: World, name: str, args: dict[str, Any]) -> list[dict[str, Any]]:
    sign_in(PARAMS)
    azure.reset()
    return entries(name, PARAMS, args)


def assert_arm_account(azure: World, account: str) -> None:
    """Resource Manager was asked about this account and no other."""
    for host, path in map(target, azure.sent):
        if host in ARM:
            assert path in (f"/{ID[1:].rpartition('/')[0]}/{account}", "/providers/Microsoft.ResourceGraph/resources")


ADDRESSES = (*(text for text in GOOD_TEXTS if "://" in text or text.startswith("/subscriptions/")), ACCOUNT)


@given(text=odd_texts(good=ADDRESSES))
def test_an_accepted_address_is_asked_as_it_was_read(azure: World, text: str) -> None:
    """Whatever mistakes it has: nothing is sent, or a request for what the parser found in it."""
    try:
        address = az.parse_blob_url(text)
    except ValueError:
        address = None
    entries_of(azure, "azure-storage-blob-properties-get", {"blob_url": text})
    heads = {target(request) for request in azure.sent if request.method == "HEAD"}
    wanted = {f"/{address.container}/{address.blob}"} if address else set()
    assert {path for _, path in heads} <= wanted
    assert all(address and host.split(".")[0] == address.account for host, _ in heads)
    assert_own_hosts(azure)


@given(text=odd_texts(good=ADDRESSES))
def test_an_accepted_account_is_asked_as_it_was_read(azure: World, text: str) -> None:
    assume(text.strip())
    try:
        clue = az.parse_account(text)
    except ValueError:
        clue = None
    entries_of(azure, "azure-storage-account-list", {"account_name": text})
    for host, path in map(target, azure.sent):
        assert clue and host in ARM
        found = re.fullmatch(
            r"/subscriptions/([^/]+)/resourceGroups/([^/]+)/providers/Microsoft\.Storage/storageAccounts/([^/]+)", path
        )
        assert path.endswith("/resources") or (found and found[3] == clue.name)
        assert not found or (found[1], found[2]) == (clue.subscription or SUBSCRIPTION, clue.group or GROUP)


# Answers


@given(name=st.sampled_from(sorted(EXAMPLES)), seed=SEEDS, victim=st.integers(-1, 7))
def test_any_answer_gives_entries_or_an_error_of_ours(azure: World, name: str, seed: int, victim: int) -> None:
    """One answer of the recorded Azure, or each, is replaced by one that it would never give."""
    rng = random.Random(seed)

    def change(number: int, request: Any, answer: Answer) -> Answer:
        return strange.answer(rng, answer) if victim in (-1, number) else answer

    with changed(azure, change):
        check_entries(entries_of(azure, name, rng.choice(EXAMPLES[name])))
    assert_own_hosts(azure)


@contextmanager
def changed(azure: World, change: Change) -> Iterator[None]:
    azure.change = change
    try:
        yield
    finally:
        azure.change = unchanged


WAYS = {
    "Client Credentials": {"app_id": "3f2a1c0e-7d55-4a53-9a44-0d1b7f6f2b11", "tenant_id": "72f988bf-86f1-41af-91ab-2d7cd011db47", "credentials": {"password": "marker-client-secret"}},
    "Azure Managed Identities": {},
    "Device Code": {},
}  # fmt: skip
TOKEN = {
    "token_type": "Bearer",
    "expires_in": 3600,
    "access_token": "marker-arm-token",
    "refresh_token": "marker-refresh",
    "client_info": "e30",
}
DEVICE = {
    "user_code": "ABC",
    "device_code": "marker-device",
    "verification_uri": "https://a.example",
    "expires_in": 900,
    "interval": 5,
}


@given(way=st.sampled_from(sorted(WAYS)), seed=SEEDS)
def test_any_answer_to_a_sign_in_gives_a_session_or_an_error_of_ours(azure: World, way: str, seed: int) -> None:
    """A sign-in from its start, on which every other answer is strange, and a command after it."""
    rng = random.Random(seed)
    params = {**PARAMS, "auth_type": way, **WAYS[way]}

    def change(number: int, request: Any, answer: Answer) -> Answer:
        if request.url.startswith(ARM):
            return answer
        good = Answer(200, {}, json.dumps(DEVICE if "devicecode" in request.url else TOKEN).encode())
        return strange.answer(rng, good) if rng.random() < 0.7 else good

    demisto.setIntegrationContext({})
    azure.reset()
    with changed(azure, change):
        for name in ("auth-start", "auth-complete", "subscriptions-list", "auth-test"):
            check_entries(entries(f"azure-storage-{name}", params, {}))


# Parsers of what comes from outside

PARSERS: dict[str, tuple[Callable[[str], object], tuple[type[Exception], ...]]] = {
    "ARM error": (az.parse_arm_error, ()),
    "XML": (az.parse_xml, (ValueError,)),
    "JSON object": (az.json_object, ()),
    "moment": (az.moment, ()),
    "HTTP date": (az.http_date, ()),
    "Retry-After": (lambda text: az.parse_retry_after(text, 0.0), ()),
    "pasted code": (az.read_pasted_code, (az.SignInError,)),
    "host": (az.host_of, ()),
    "whole number": (az.whole, (ValueError,)),
    "MD5": (az.md5_hex, ()),
    "resource id": (az.parse_resource_id, (ValueError,)),
    "token claims": (az.token_claims, ()),
    "file name": (az.safe_file_name, ()),
    "Markdown": (az.md, ()),
    "code": (az.code, ()),
    "KQL": (az.kql, ()),
    "OData": (az.odata, ()),
    "snippet": (az.snippet, ()),
}  # fmt: skip


@given(
    text=odd_texts(
        good=(
            *GOOD_TEXTS,
            "Tue, 24 Nov 2026 08:15:30 GMT",
            '{"error": {"code": "A", "message": "b"}}',
            "<A><B>c</B></A>",
            "https://localhost/myapp?code=abc&state=d",
            "a.e30.b",
        )
    )
)
def test_a_parser_gives_a_value_or_its_own_error(text: str) -> None:
    for parse, errors in PARSERS.values():
        try:
            parse(text)
        except errors:
            pass


@given(text=odd_texts())
def test_quoting_is_undone_by_what_reads_it(text: str) -> None:
    """Nothing in a text ends the string, the segment, the cell or the file name that it stands in."""
    assert not re.search(r"(?<!\\)(?:\\\\)*'", az.kql(text)[1:-1])
    assert az.odata(text)[1:-1].replace("''", "").count("'") == 0
    if text not in (".", "..") and not re.search("[\ud800-\udfff]", text):
        assert "/" not in az.segment(text)
        assert urllib.parse.unquote(az.segment(text)) == text
    assert not set(az.safe_file_name(text)) & set("/\\\0\n")
    assert not az.safe_file_name(text).startswith(".")
    assert "<" not in az.md(text) and "](" not in re.sub(r"\\.", "", az.md(text))


# The redactor

SIZE = 1 << 19
RUNS = (
    "a", "A", "-", "_", ".", "/", "+", "=", "%", "\\", " ", "\n", '"', "eyJ", "eyJaaaaaaaa.", "sig", "sig=", "sig%3d", "code=", "Bearer ",
    "bearer a", "sharedkey ", "-----BEGIN ", "-----BEGIN PRIVATE KEY-----", "-----END ", "client_secret", 'sig\\\\"', "sig :", "a" * 86 + "=",
)  # fmt: skip


@pytest.mark.parametrize("run", RUNS)
def test_a_secret_in_a_megabyte_is_hidden(run: str) -> None:
    """Texts that a pattern with nested repetitions would be at for hours."""
    text = az.redact(f"{run * (SIZE // len(run))} sig=marker%2Fsignature&x=1 {run * (SIZE // len(run))}")
    assert "marker" not in text
    assert "&x=1" in text or run.endswith("KEY-----")  # a key without an end hides the rest


@given(seed=SEEDS, before=st.text(max_size=20), after=st.text(max_size=20), form=st.sampled_from(FORMS))
def test_a_secret_is_hidden_wherever_it_stands(seed: int, before: str, after: str, form: str) -> None:
    az._known_secrets.clear()  # what other tests made a secret may be a word around this one
    secret = f"Mark{seed:020d}ab"
    before = re.sub(r"[\w%-]$", "", before)
    assert secret not in az.redact(f"{before} {form.format(secret)} {after}")
