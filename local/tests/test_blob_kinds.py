"""Operations that do not fit the type of a blob, and copies, refused by the local blob service as by the real one."""

from typing import Any

import pytest
from azure.core import MatchConditions
from azure.core.exceptions import HttpResponseError

from local.azure import LocalAzure

from .blob_calls import ACCOUNT, BOX, client, refusal, sas, send, token

OTHER = "contosoweb"


@pytest.fixture
def kinds(box: Any) -> Any:
    """A blob of each type, named after it."""
    box.upload_blob("block", b"block")
    box.upload_blob("page", b"\1" * 512, blob_type="PageBlob")
    append = box.get_blob_client("append")
    append.create_append_blob()
    append.append_block(b"append")
    return box


def code_of(act: Any, *args: Any, **options: Any) -> tuple[int, str]:
    with pytest.raises(HttpResponseError) as refused:
        act(*args, **options)
    return int(refused.value.status_code or 0), str(refused.value.response.headers["x-ms-error-code"])


@pytest.mark.parametrize("name", ["append", "page"])
def test_only_block_blobs_have_tiers_and_blocks(kinds: Any, name: str) -> None:
    blob = kinds.get_blob_client(name)
    assert code_of(blob.set_standard_blob_tier, "Cool") == (409, "InvalidBlobType")
    assert code_of(blob.stage_block, "MQ==", b"x") == (409, "InvalidBlobType")
    blob.set_blob_tags({"fine": "yes"})
    assert blob.get_blob_tags() == {"fine": "yes"}


def test_appending_and_pages_need_their_type(kinds: Any) -> None:
    for name in ("block", "page"):
        assert code_of(kinds.get_blob_client(name).append_block, b"x") == (409, "InvalidBlobType")
    for name in ("block", "append"):
        blob = kinds.get_blob_client(name)
        assert code_of(blob.upload_page, b"\0" * 512, offset=0, length=512) == (409, "InvalidBlobType")


def test_a_tier_that_does_not_exist(azure: LocalAzure, kinds: Any) -> None:
    answer = send(azure, "PUT", f"/{BOX}/block?comp=tier", token(azure), x_ms_access_tier="Lukewarm")
    assert refusal(answer) == (400, "InvalidHeaderValue")


def test_a_synchronous_copy_takes_block_blobs_only(kinds: Any) -> None:
    target = kinds.get_blob_client("copy")
    for name in ("append", "page"):
        source = kinds.get_blob_client(name).url
        assert code_of(target.start_copy_from_url, source, requires_sync=True) == (409, "InvalidBlobType")
        kinds.get_blob_client(f"{name}-copy").start_copy_from_url(source)
    target.start_copy_from_url(kinds.get_blob_client("block").url, requires_sync=True)
    assert target.download_blob().readall() == b"block"
    assert kinds.get_blob_client("append-copy").get_blob_properties().blob_type == "AppendBlob"
    assert kinds.get_blob_client("page-copy").download_blob().readall() == b"\1" * 512


def test_conditions_of_a_copy(azure: LocalAzure, kinds: Any) -> None:
    source, target = kinds.get_blob_client("block"), kinds.get_blob_client("copy")
    changed = {"source_etag": '"0x0"', "source_match_condition": MatchConditions.IfNotModified}
    assert code_of(target.start_copy_from_url, source.url, **changed)[0] == 412
    target.start_copy_from_url(source.url)
    answer = send(azure, "PUT", f"/{BOX}/copy", token(azure), x_ms_copy_source=source.url, If_None_Match="*")
    assert refusal(answer) == (409, "BlobAlreadyExists")
    gone = kinds.get_blob_client("none")
    assert code_of(target.start_copy_from_url, gone.url) == (404, "BlobNotFound")


def test_a_source_in_another_account_has_to_be_readable(azure: LocalAzure, kinds: Any) -> None:
    azure.azurite.create(OTHER, azure.arm.keys[OTHER][0], "copies", {})
    try:
        target = client(azure, OTHER).get_blob_client("copies", "a")
        source = kinds.get_blob_client("block").url
        assert code_of(target.start_copy_from_url, source)[1] == "CannotVerifyCopySource"
        assert code_of(target.start_copy_from_url, f"{source}?{sas(azure, 'w')}") == (403, "CannotVerifyCopySource")
        target.start_copy_from_url(f"{source}?{sas(azure, 'r')}")
        assert target.download_blob().readall() == b"block"
        assert "sig=" not in str(target.get_blob_properties().copy.source)
        by_token = client(azure, OTHER).get_blob_client("copies", "b")
        answer = send(
            azure,
            "PUT",
            "/copies/c",
            token(azure),
            account=OTHER,
            x_ms_copy_source=source,
            x_ms_copy_source_authorization=token(azure),
        )
        assert refusal(answer) == (400, "InvalidHeaderValue")
        by_token.start_copy_from_url(source, source_authorization=token(azure), requires_sync=True)
        assert by_token.download_blob().readall() == b"block"
        by_token.upload_blob_from_url(f"{source}?{sas(azure, 'r')}", overwrite=True)
        assert by_token.download_blob().readall() == b"block"
    finally:
        azure.azurite.delete(OTHER, azure.arm.keys[OTHER][0], "copies")


def test_a_blob_that_is_encrypted_with_a_key_of_the_callers(azure: LocalAzure, box: Any) -> None:
    import base64
    import hashlib

    from azure.storage.blob import CustomerProvidedEncryptionKey

    raw = b"k" * 32
    digest = base64.b64encode(hashlib.sha256(raw).digest()).decode()
    cpk = CustomerProvidedEncryptionKey(base64.b64encode(raw).decode(), digest)
    box.upload_blob("a", "secret", cpk=cpk)
    assert code_of(box.download_blob, "a") == (409, "BlobUsesCustomerSpecifiedEncryption")
    assert box.download_blob("a", cpk=cpk).readall() == b"secret"
    box.get_blob_client("a").set_blob_metadata({"k": "v"}, cpk=cpk)
    assert code_of(box.download_blob, "a") == (409, "BlobUsesCustomerSpecifiedEncryption")
    listing = send(azure, "GET", f"/{BOX}?restype=container&comp=list", token(azure)).text
    assert f"<CustomerProvidedKeySha256>{digest}</CustomerProvidedKeySha256>" in listing
    assert ACCOUNT in listing
