"""Many at once at the local blob service: nothing is lost, and nobody waits for ever."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from local.azure import LocalAzure

from .blob_calls import ACCOUNT, BOX, KEEP, client, refusal, send, setting, token


def test_every_write_makes_a_version(azure: LocalAzure, box: Any) -> None:
    setting(azure, isVersioningEnabled=True)
    auth = token(azure)

    def write(number: int) -> str:
        answer = send(azure, "PUT", f"/{BOX}/a", auth, str(number).encode(), x_ms_blob_type="BlockBlob")
        return answer.headers["x-ms-version-id"]

    with ThreadPoolExecutor(8) as pool:
        versions = list(pool.map(write, range(24)))
    found = {item.version_id for item in box.list_blobs(include=["versions"])}
    assert found == set(versions)
    contents = {box.get_blob_client("a", version_id=version).download_blob().readall() for version in versions}
    assert contents == {str(number).encode() for number in range(24)}


def test_of_two_who_create_a_blob_one_does(azure: LocalAzure, box: Any) -> None:
    auth = token(azure)

    def create(number: int) -> tuple[int, str]:
        name, kind = f"/{BOX}/{number // 2}", "BlockBlob"
        return refusal(send(azure, "PUT", name, auth, b"x", x_ms_blob_type=kind, If_None_Match="*"))

    with ThreadPoolExecutor(8) as pool:
        results = sorted(pool.map(create, range(20)))
    assert results == [(201, "")] * 10 + [(409, "BlobAlreadyExists")] * 10


def test_containers_deleted_from_both_sides(azure: LocalAzure, box: Any) -> None:
    setting(azure, containerDeleteRetentionPolicy=KEEP)
    service, key = client(azure), azure.arm.keys[ACCOUNT][0]
    for number in range(8):
        service.create_container(f"box-{number}").upload_blob("a", "x")

    def delete(number: int) -> None:
        if number % 2:
            service.delete_container(f"box-{number}")
        else:
            with azure.arm.lock:
                azure.azurite.delete(ACCOUNT, key, f"box-{number}")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(delete, range(8)))
    assert [item.name for item in service.list_containers()] == [BOX]
