"""Blobs against Azurite, each command in a process of its own, with names, sizes and faults that break other tools."""

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from local.azure import LocalAzure
from local.xsoar.server import Run, Server

from .conftest import partly, succeed

ACCOUNT = "contosobackups"
HERE = {"account_name": ACCOUNT, "container_name": "blob-tests"}
NASTY = [
    "a b#c?d%e+f&g=h.txt",
    'quote\'s "and" more;.bin',
    "ünïcödé/日本語.txt",
    ".hidden",
    "trailing.",
    "many//slashes///here",
    "%2e%20%",
    "x" * 1000,
    "two  blanks",
    "<tag>&amp;",
]


@pytest.fixture(autouse=True)
def container(azure: LocalAzure, server: Server) -> Iterator[None]:
    key = azure.arm.keys[ACCOUNT][0]
    azure.azurite.create(ACCOUNT, key, HERE["container_name"], {})
    yield
    azure.azurite.delete(ACCOUNT, key, HERE["container_name"])


def run(server: Server, name: str, **args: str) -> Run:
    return succeed(server.run("app", f"azure-storage-{name}", {**HERE, **args}, follow=True, interval=0))


def fail(server: Server, name: str, **args: str) -> str:
    return server.run("app", f"azure-storage-{name}", {**HERE, **args}).error


def rows(found: Run, kind: str = "Blob") -> list[Any]:
    value = next(value for key, value in found.context.items() if key.startswith(f"AzureStorage.{kind}("))
    return value if isinstance(value, list) else [value]


def requests_of(azure: LocalAzure, method: str) -> list[Any]:
    return [request for request in list(azure.requests) if request.service == "blob" and request.method == method]


def big_file(folder: Path, size: int) -> Path:
    path = folder / "big.bin"
    path.write_bytes(os.urandom(size))
    return path


def test_any_legal_name_makes_the_round_trip(server: Server) -> None:
    for name in NASTY:
        run(server, "blob-put", blob_name=name, text=f"hello {name}")
    assert sorted(item["name"] for item in rows(run(server, "blob-list"))) == sorted(NASTY)
    read = run(server, "blob-get", blob_names=json.dumps(NASTY))
    assert [item["sha256"] for item in rows(read)] == [
        hashlib.sha256(f"hello {name}".encode()).hexdigest() for name in NASTY
    ]
    assert [path.read_bytes() for path in read.files] == [f"hello {name}".encode() for name in NASTY]
    assert {path.parent for path in read.files} == {server.files}
    gone = run(server, "blob-delete", blob_names=json.dumps(NASTY))
    assert all(item["deleted"] for item in rows(gone))
    assert rows(run(server, "blob-list")) == []


def test_a_large_blob_goes_up_in_blocks_and_comes_down_in_ranges(
    azure: LocalAzure, server: Server, tmp_path: Path
) -> None:
    path = big_file(tmp_path, (20 << 20) + 7)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    put = run(server, "blob-put", blob_name="big.bin", file_entry_id=server.add_file(path))
    assert rows(put)[0]["sha256"] == digest
    assert len([r for r in requests_of(azure, "PUT") if "comp=block&" in r.target]) == 6
    read = run(server, "blob-get", blob_name="big.bin")
    assert rows(read)[0]["sha256"] == digest
    assert rows(read)[0]["verified"] == "size and MD5"
    assert hashlib.sha256(read.files[0].read_bytes()).hexdigest() == digest
    pinned = [request.headers.get("If-Match") for request in requests_of(azure, "GET")]
    assert pinned[0] is None
    assert len(set(pinned[1:])) == 1
    assert pinned[1]
    part = run(server, "blob-get", blob_name="big.bin", range="8388600-8388650")
    assert part.files[0].read_bytes() == path.read_bytes()[8388600:8388651]
    assert "max_size=100" in fail(server, "blob-get", blob_name="big.bin", max_size="100")


@pytest.mark.parametrize("cut", [0, 1000, 3_000_000])
def test_a_download_that_breaks_is_resumed(azure: LocalAzure, server: Server, tmp_path: Path, cut: int) -> None:
    path = big_file(tmp_path, 10 << 20)
    run(server, "blob-put", blob_name="big.bin", file_entry_id=server.add_file(path))
    azure.faults.add(service="blob", method="GET", path="big.bin", cut=cut, times=2)
    read = run(server, "blob-get", blob_name="big.bin")
    assert azure.faults.struck == 2
    assert read.files[0].read_bytes() == path.read_bytes()


def test_a_blob_that_changes_underway_is_not_mixed(azure: LocalAzure, server: Server, tmp_path: Path) -> None:
    path = big_file(tmp_path, 9 << 20)
    run(server, "blob-put", blob_name="big.bin", file_entry_id=server.add_file(path))
    headers = {"x-ms-error-code": "ConditionNotMet"}
    azure.faults.add(service="blob", method="GET", path="big.bin", status=412, headers=headers, skip=1)
    error = fail(server, "blob-get", blob_name="big.bin")
    assert "412 ConditionNotMet" in error
    assert "has changed since" in error


def test_an_interrupted_upload_leaves_the_old_blob(azure: LocalAzure, server: Server, tmp_path: Path) -> None:
    run(server, "blob-put", blob_name="big.bin", text="the old content")
    path = big_file(tmp_path, 17 << 20)
    azure.faults.add(
        service="blob",
        method="PUT",
        path="comp=blocklist",
        status=403,
        headers={"x-ms-error-code": "AuthorizationFailure"},
    )
    error = fail(server, "blob-put", blob_name="big.bin", file_entry_id=server.add_file(path), overwrite="true")
    assert "network rules" in error
    assert run(server, "blob-get", blob_name="big.bin").files[0].read_text() == "the old content"


def test_a_blob_is_not_overwritten_by_accident(server: Server) -> None:
    run(server, "blob-put", blob_name="a.txt", text="one")
    assert "overwrite=true" in fail(server, "blob-put", blob_name="a.txt", text="two")
    run(
        server,
        "blob-put",
        blob_name="a.txt",
        text="two",
        overwrite="true",
        content_type="text/x-two",
        metadata="case=1",
        tags="t=1",
        tier="Cool",
    )
    found = rows(run(server, "blob-properties-get", blob_name="a.txt"))[0]
    assert (found["contentType"], found["metadata"], found["tier"], found["tagCount"]) == (
        "text/x-two",
        {"case": "1"},
        "Cool",
        1,
    )


def test_an_empty_blob(server: Server, tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    assert (
        rows(run(server, "blob-put", blob_name="empty", file_entry_id=server.add_file(tmp_path / "empty")))[0]["size"]
        == 0
    )
    read = run(server, "blob-get", blob_name="empty")
    assert rows(read)[0]["sha256"] == hashlib.sha256(b"").hexdigest()
    assert read.files[0].read_bytes() == b""


def test_listing_folders_filters_and_pages(server: Server) -> None:
    for name in ("in/a", "in/b", "out/c", "d"):
        run(server, "blob-put", blob_name=name, text=name, metadata="k=v")
    folders = rows(run(server, "blob-list", delimiter="/"))
    assert sorted((item["name"], item.get("isPrefix", False)) for item in folders) == [
        ("d", False),
        ("in/", True),
        ("out/", True),
    ]
    assert [item["name"] for item in rows(run(server, "blob-list", prefix="in/"))] == ["in/a", "in/b"]
    assert [
        item["name"]
        for item in rows(run(server, "blob-list", md5=hashlib.md5(b"out/c", usedforsecurity=False).hexdigest()))
    ] == ["out/c"]
    assert [item["name"] for item in rows(run(server, "blob-list", max_size="1"))] == ["d"]
    assert rows(run(server, "blob-list", modified_until="1 hours")) == []
    assert len(rows(run(server, "blob-list", modified_since="1 hours", include="metadata"))) == 4
    first = run(server, "blob-list", limit="3")
    token = first.context["AzureStorage(true)"]["BlobNextToken"]
    assert [item["name"] for item in rows(run(server, "blob-list", next_token=token))] == ["out/c"]
    assert "4 blobs, 14 bytes." in run(server, "blob-list").text


def test_properties_metadata_and_tags_keep_what_is_not_named(server: Server) -> None:
    run(server, "blob-put", blob_name="a.txt", text="x", metadata="one=1", tags="one=1")
    run(server, "blob-properties-set", blob_name="a.txt", cache_control="no-cache")
    changed = run(server, "blob-properties-set", blob_name="a.txt", content_language="de")
    found = rows(changed)[0]
    assert (found["cacheControl"], found["contentLanguage"], found["contentType"]) == ("no-cache", "de", "text/plain")
    assert found["md5"] == hashlib.md5(b"x", usedforsecurity=False).hexdigest()
    assert (
        run(server, "blob-properties-set", blob_name="a.txt", content_language="de").context["AzureStorage.Change"][
            "changed"
        ]
        is False
    )
    assert rows(run(server, "blob-metadata-set", blob_name="a.txt", metadata="two=2"))[0]["metadata"] == {
        "one": "1",
        "two": "2",
    }
    assert rows(run(server, "blob-metadata-set", blob_name="a.txt", metadata="two=2", replace="true"))[0][
        "metadata"
    ] == {"two": "2"}
    run(server, "blob-tags-set", blob_name="a.txt", tags='{"Malware Scanning scan result": "Malicious"}')
    assert rows(run(server, "blob-tags-get", blob_name="a.txt"))[0]["tags"] == {
        "one": "1",
        "Malware Scanning scan result": "Malicious",
    }
    scope = {"container_name": ""}
    found_by_tag = run(server, "blob-find", **scope, tag='{"Malware Scanning scan result": "Malicious"}')
    assert [(item["name"], item["container"]) for item in rows(found_by_tag)] == [("a.txt", "blob-tests")]
    assert rows(run(server, "blob-find", expression="\"one\"='2'")) == []


def test_snapshots_leases_and_tiers(server: Server) -> None:
    run(server, "blob-put", blob_name="a.txt", text="first")
    snapshot = rows(run(server, "blob-snapshot-create", blob_name="a.txt"))[0]["snapshot"]
    run(server, "blob-put", blob_name="a.txt", text="second", overwrite="true")
    assert run(server, "blob-get", blob_name="a.txt", snapshot=snapshot).files[0].read_text() == "first"
    assert "delete_snapshots=include" in fail(server, "blob-delete", blob_name="a.txt")
    lease = rows(run(server, "blob-lease", blob_name="a.txt", action="acquire"))[0]["leaseId"]
    assert "break the lease" in fail(server, "blob-delete", blob_name="a.txt", delete_snapshots="include")
    run(server, "blob-lease", blob_name="a.txt", action="renew", lease_id=lease)
    run(server, "blob-lease", blob_name="a.txt", action="release", lease_id=lease)
    assert rows(run(server, "blob-tier-set", blob_name="a.txt", tier="Cool"))[0]["tier"] == "Cool"
    assert (
        run(server, "blob-tier-set", blob_name="a.txt", tier="Cool").context["AzureStorage.Change"]["changed"] is False
    )
    run(server, "blob-delete", blob_name="a.txt", delete_snapshots="include")
    assert "404" in fail(server, "blob-get", blob_name="a.txt")


def test_many_are_deleted_in_batches_and_each_is_told(azure: LocalAzure, server: Server) -> None:
    for number in range(5):
        run(server, "blob-put", blob_name=f"d/{number}", text="x")
    run(server, "blob-lease", blob_name="d/2", action="acquire")
    assert "Missing required argument `blob_name`" in fail(server, "blob-delete", prefix="")
    assert "confirm=" in fail(server, "blob-delete", confirm_all="true")
    rehearsal = run(server, "blob-delete", prefix="d/", dry_run="true")
    assert [item["result"] for item in rows(rehearsal)] == ["planned"] * 5
    azure.requests.clear()
    mixed = partly(server.run("app", "azure-storage-blob-delete", {**HERE, "prefix": "d/"}))
    outcome = {item["name"]: item["result"] for item in rows(mixed)}
    assert outcome == {f"d/{n}": "412 LeaseIdMissing" if n == 2 else "deleted" for n in range(5)}
    assert len(requests_of(azure, "POST")) == 1
    run(server, "blob-lease", blob_name="d/2", action="break", break_period="0")
    assert rows(run(server, "blob-delete", confirm_all="true", confirm=HERE["container_name"]))[0]["deleted"] is True


def test_a_copy_inside_the_account_and_from_another_by_link(azure: LocalAzure, server: Server) -> None:
    run(server, "blob-put", blob_name="source", text="copy me")
    assert rows(run(server, "blob-copy", blob_name="target", source_blob_name="source"))[0]["copyStatus"] == "success"
    assert "overwrite=true" in fail(server, "blob-copy", blob_name="target", source_blob_name="source")
    link = rows(run(server, "sas-create", blob_name="source", expires_in="10m"), "Sas")[0]["url"]
    signature = link.rpartition("sig=")[2]
    copied = run(server, "blob-copy", blob_name="target-2", source_url=link)
    assert rows(copied)[0]["size"] == 7
    assert signature not in json.dumps(copied.entries) + "".join(copied.log)


@pytest.mark.parametrize("signed_by", ["user_delegation", "account_key"])
def test_a_link_allows_what_it_says_and_no_more(azure: LocalAzure, server: Server, signed_by: str) -> None:
    run(server, "blob-put", blob_name="a b#1.txt", text="shared")
    link = rows(run(server, "sas-create", blob_name="a b#1.txt", signed_by=signed_by), "Sas")[0]["url"]
    with requests.Session() as session:
        session.trust_env = False
        assert session.get(link, verify=str(azure.ca_file), timeout=10).text == "shared"
        assert session.delete(link, verify=str(azure.ca_file), timeout=10).status_code == 403
    facts = rows(succeed(server.run("app", "azure-storage-sas-inspect", {"sas": link})), "Sas")[0]
    assert facts["kind"] == ("user delegation SAS" if signed_by == "user_delegation" else "service SAS")
    assert facts["permissions"] == "read"


@pytest.mark.parametrize("credential", ["sas", "key"])
def test_an_account_key_or_sas_of_the_instance_needs_no_sign_in(
    azure: LocalAzure, server: Server, credential: str
) -> None:
    from azure.storage.blob import AccountSasPermissions, ResourceTypes, generate_account_sas

    key = azure.arm.keys[ACCOUNT][0]
    secret = key
    if credential == "sas":
        import datetime

        until = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(hours=1)
        may = AccountSasPermissions(read=True, write=True, list=True, delete=True, add=True, create=True, tag=True)
        secret = generate_account_sas(
            ACCOUNT, key, ResourceTypes(service=True, container=True, object=True), may, until
        )
    params = azure.instance("Device Code", storage_credentials={"identifier": ACCOUNT, "password": secret})
    server.instances.save("app", params)
    url = f"https://{azure.blob_host}/{ACCOUNT}/blob-tests"
    for name in ("plain", "with space#.txt"):
        succeed(server.run("app", "azure-storage-blob-put", {"blob_url": url, "blob_name": name, "text": "x"}))
    listed = succeed(server.run("app", "azure-storage-blob-list", {"blob_url": url}))
    assert len(rows(listed)) == 2
    gone = succeed(
        server.run(
            "app",
            "azure-storage-blob-delete",
            {"blob_url": url, "confirm_all": "true", "confirm": HERE["container_name"]},
        )
    )
    assert all(item["deleted"] for item in rows(gone)), gone.text
    assert secret not in json.dumps(gone.entries) + json.dumps(listed.entries)
