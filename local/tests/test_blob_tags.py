"""Filters over blob index tags: what the local blob service finds, and what it refuses."""

from typing import Any

import pytest
from azure.core.exceptions import HttpResponseError

from local.azure import LocalAzure

from .blob_calls import BOX, client


@pytest.fixture(autouse=True)
def tagged(box: Any) -> None:
    box.upload_blob("a", "x", tags={"verdict": "Malicious", "Malware Scanning scan result": "Malicious", "n": "2"})
    box.upload_blob("b", "x", tags={"verdict": "clean", "n": "5"})


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ("\"verdict\" = 'Malicious'", ["a"]),
        ("verdict='clean'", ["b"]),
        ("\"Malware Scanning scan result\"='Malicious' AND \"verdict\"='Malicious'", ["a"]),
        (f"@container='{BOX}' AND \"n\" >= '2' AND \"n\" < '9'", ["a", "b"]),
        ("@container='elsewhere' AND verdict='clean'", []),
    ],
)
def test_filters_that_find(azure: LocalAzure, where: str, found: list[str]) -> None:
    assert sorted(item.name for item in client(azure).find_blobs_by_tags(where)) == found


@pytest.mark.parametrize(
    "where",
    [
        "",
        "verdict",
        'verdict="clean"',
        "verdict=clean",
        "verdict='clean' OR verdict='Malicious'",
        "NOT verdict='clean'",
        "verdict<>'clean'",
        "verdict!='clean'",
        "verdict LIKE 'c%'",
        "verdict='it''s'",
        "(verdict='clean')",
        "verdict='clean' AND",
        "Malware Scanning scan result='Malicious'",
        "@container>'a'",
        "\"verdict\"='ü'",
        "verdict='clean'; drop",
    ],
)
def test_filters_that_are_refused(azure: LocalAzure, where: str) -> None:
    with pytest.raises(HttpResponseError) as refused:
        list(client(azure).find_blobs_by_tags(where))
    assert refused.value.status_code == 400
    assert refused.value.response.headers["x-ms-error-code"] == "InvalidQueryParameterValue"


def test_a_container_cannot_be_asked_for_another(box: Any) -> None:
    assert [item.name for item in box.find_blobs_by_tags("verdict='clean'")] == ["b"]
    with pytest.raises(HttpResponseError):
        list(box.find_blobs_by_tags(f"@container='{BOX}' AND verdict='clean'"))
