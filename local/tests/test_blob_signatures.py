"""Keys, tokens and shared access signatures at the local blob service, each checked as the real service does."""

import re
import urllib.parse
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from typing import Any

import jwt
import pytest
import requests
from azure.core.exceptions import HttpResponseError
from azure.storage.blob import BlobClient, generate_account_sas, generate_blob_sas, generate_container_sas

from local.azure import LocalAzure
from local.azure.arm import roles
from local.azure.blob.signing import signature, string_to_sign

from .blob_calls import (
    ACCOUNT,
    BOX,
    VERSION,
    Credential,
    access_token,
    client,
    in_an_hour,
    of_account,
    refusal,
    sas,
    send,
    token,
)

NOW = datetime.now(timezone.utc)


@pytest.fixture(autouse=True)
def blob(box: Any) -> Any:
    found = box.get_blob_client("a")
    found.upload_blob("content")
    return found


def service_sas(azure: LocalAzure, permission: str = "r", **more: Any) -> str:
    options = {"expiry": in_an_hour(), **more}
    key = azure.arm.keys[ACCOUNT][0]
    return str(generate_blob_sas(ACCOUNT, BOX, "a", account_key=key, permission=permission, **options))


def read(azure: LocalAzure, auth: str) -> tuple[int, str]:
    return refusal(send(azure, "GET", f"/{BOX}/a", auth))


def detail(answer: requests.Response) -> str:
    found = re.search(r"<AuthenticationErrorDetail>(.*?)</AuthenticationErrorDetail>", answer.text, re.DOTALL)
    return found[1] if found else ""


# Keys and tokens


def test_both_keys_work_until_they_are_changed(azure: LocalAzure) -> None:
    for key in azure.arm.keys[ACCOUNT]:
        credential = {"account_name": ACCOUNT, "account_key": key}
        assert client(azure, credential=credential).get_blob_client(BOX, "a").download_blob().readall() == b"content"
    other = {"account_name": ACCOUNT, "account_key": azure.arm.keys["contosoweb"][0]}
    with pytest.raises(HttpResponseError) as refused:
        client(azure, credential=other).get_blob_client(BOX, "a").download_blob()
    assert (refused.value.status_code, refused.value.error_code) == (403, "AuthenticationFailed")


@pytest.mark.parametrize(("minutes", "status"), [(0, 200), (14, 200), (16, 403), (-16, 403)])
def test_a_signature_is_good_for_a_quarter_of_an_hour(azure: LocalAzure, minutes: int, status: int) -> None:
    when = datetime.now(timezone.utc) - timedelta(minutes=minutes)
    headers = {"x-ms-date": format_datetime(when, usegmt=True), "x-ms-version": VERSION}
    text = string_to_sign("GET", ACCOUNT, f"/{BOX}/a", "", headers)
    signed = f"SharedKey {ACCOUNT}:{signature(azure.arm.keys[ACCOUNT][0], text)}"
    answer = send(azure, "GET", f"/{BOX}/a", x_ms_date=headers["x-ms-date"], Authorization=signed)
    assert answer.status_code == status
    assert ("too old" in detail(answer)) == (status == 403)


def lite(
    azure: LocalAzure, method: str, target: str, text: str, body: bytes = b"", **headers: str
) -> requests.Response:
    """A request that Shared Key Lite signs. text: the string to sign, with DATE for the time."""
    date = format_datetime(datetime.now(timezone.utc), usegmt=True)
    signed = signature(azure.arm.keys[ACCOUNT][1], text.replace("DATE", date))
    return send(
        azure, method, target, x_ms_date=date, Authorization=f"SharedKeyLite {ACCOUNT}:{signed}", body=body, **headers
    )


def test_shared_key_lite(azure: LocalAzure) -> None:
    """It covers a few headers only, and of the query `comp` alone."""
    own = f"x-ms-date:DATE\nx-ms-version:{VERSION}\n"
    path = f"/{ACCOUNT}/{BOX}"
    assert refusal(lite(azure, "GET", f"/{BOX}/a", f"GET\n\n\n\n{own}{path}/a")) == (200, "")
    listing = lite(azure, "GET", f"/{BOX}?restype=container&comp=list", f"GET\n\n\n\n{own}{path}?comp=list")
    assert "<Name>a</Name>" in listing.text
    kind = f"x-ms-blob-type:BlockBlob\nx-ms-date:DATE\nx-ms-meta-k:v\nx-ms-version:{VERSION}\n"
    put = f"PUT\n\ntext/plain\n\n{kind}{path}/b"
    headers = {"x_ms_blob_type": "BlockBlob", "x_ms_meta_k": "v"}
    assert lite(azure, "PUT", f"/{BOX}/b", put, b"new", Content_Type="text/plain", **headers).status_code == 201
    columns = azure.log.records()[-1].columns
    assert (columns["AuthenticationType"], columns["AuthenticationHash"][:5]) == ("AccountKey", "key2(")
    other = lite(azure, "PUT", f"/{BOX}/b", put, b"new", Content_Type="text/html", **headers)
    assert refusal(other) == (403, "AuthenticationFailed")
    full = lite(azure, "GET", f"/{BOX}/a", "GET\n\n\n\n\n\n\n\n\n\n\n\n" + f"{own}{path}/a")
    assert refusal(full) == (403, "AuthenticationFailed"), "the longer string is that of Shared Key"
    of_account(azure, allowSharedKeyAccess=False)
    assert refusal(lite(azure, "GET", f"/{BOX}/a", f"GET\n\n\n\n{own}{path}/a")) == (
        403,
        "KeyBasedAuthenticationNotPermitted",
    )


def test_a_token_is_good_only_if_entra_issued_it_for_storage(azure: LocalAzure) -> None:
    time = int(NOW.timestamp())
    claims = {"iss": "https://sts.windows.net/t/", "aud": "https://storage.azure.com", "iat": time, "nbf": time}
    forged = jwt.encode(claims | {"exp": time + 600}, "k" * 32, algorithm="HS256")
    assert read(azure, token(azure)) == (200, "")
    for wrong in (forged, access_token(azure, azure.arm_url), "no-token"):
        assert read(azure, f"Bearer {wrong}") == (401, "InvalidAuthenticationInfo")


def test_a_token_reads_and_sets_the_acl_of_a_container(azure: LocalAzure) -> None:
    target = f"/{BOX}?restype=container&comp=acl"
    xml = b"<SignedIdentifiers><SignedIdentifier><Id>p</Id><AccessPolicy><Permission>r</Permission></AccessPolicy></SignedIdentifier></SignedIdentifiers>"
    assert send(azure, "PUT", target, token(azure), xml).status_code == 200
    answer = send(azure, "GET", target, token(azure))
    assert "<Id>p</Id>" in answer.text
    assert refusal(send(azure, "GET", target, sas(azure, "rwdlac"))) == (403, "AuthorizationFailure")


def test_roles_decide_what_a_token_may_where_they_are_enforced(azure: LocalAzure) -> None:
    oid = jwt.decode(access_token(azure), options={"verify_signature": False}).get("oid", "")
    azure.modes.enforce_roles = True
    assert read(azure, token(azure)) == (403, "AuthorizationPermissionMismatch")
    assignment = roles.assign(azure.arm, azure.arm.accounts[ACCOUNT]["id"], "Storage Blob Data Contributor", oid)
    try:
        assert read(azure, token(azure)) == (200, "")
        (told,) = azure.log.records()[-1].columns["AuthorizationDetails"]
        assert (told["roleAssignmentId"], told["principals"][0]["id"]) == (assignment["id"], oid)
        answer = send(azure, "PUT", f"/{BOX}/a?comp=tags", token(azure), b"<Tags><TagSet/></Tags>")
        assert refusal(answer) == (403, "AuthorizationPermissionMismatch")
    finally:
        azure.arm.assignments.pop(assignment["id"].lower())


def test_shared_key_off_stops_keys_and_what_they_signed(azure: LocalAzure, blob: Any) -> None:
    of_account(azure, allowSharedKeyAccess=False)
    for auth in (sas(azure, "r"), service_sas(azure)):
        assert read(azure, auth) == (403, "KeyBasedAuthenticationNotPermitted")
    with pytest.raises(HttpResponseError) as refused:
        blob.download_blob()
    assert refused.value.error_code == "KeyBasedAuthenticationNotPermitted"
    assert read(azure, token(azure)) == (200, "")


# Account SAS


@pytest.mark.parametrize(
    ("auth", "code"),
    [
        ({"permission": "w"}, "AuthorizationPermissionMismatch"),
        ({"permission": "r", "resources": "sc"}, "AuthorizationResourceTypeMismatch"),
        ({"permission": "r", "services": "q"}, "AuthorizationServiceMismatch"),
        ({"permission": "r", "ip": "198.51.100.1-198.51.100.9"}, "AuthorizationSourceIPMismatch"),
        ({"permission": "r", "protocol": "http"}, "AuthorizationProtocolMismatch"),
        ({"permission": "r", "expiry": NOW - timedelta(minutes=1)}, "AuthenticationFailed"),
        ({"permission": "r", "start": NOW + timedelta(hours=1)}, "AuthenticationFailed"),
    ],
)
def test_what_an_account_sas_does_not_reach(azure: LocalAzure, auth: dict[str, Any], code: str) -> None:
    assert read(azure, sas(azure, **auth)) == (403, code)


def test_an_account_sas_for_the_callers_address(azure: LocalAzure) -> None:
    limited = sas(azure, "r", ip="198.51.100.1-198.51.100.9")
    azure.client_address = "198.51.100.7"
    assert read(azure, limited) == (200, "")


def test_a_forged_or_broken_sas(azure: LocalAzure) -> None:
    good = sas(azure, "r")
    changed = good.replace("sp=r", "sp=rwdl")
    for wrong in (
        changed,
        good[: good.rindex("sig=")] + "sig=AAAA",
        good.replace("se=", "se=x"),
        good.replace("sv=", "xv="),
    ):
        answer = send(azure, "GET", f"/{BOX}/a", wrong)
        assert refusal(answer) == (403, "AuthenticationFailed")
        assert detail(answer)
    assert "Signature did not match" in detail(send(azure, "GET", f"/{BOX}/a", changed))
    late = sas(azure, "r", expiry=NOW - timedelta(minutes=1))
    assert "not valid in the specified time frame" in detail(send(azure, "GET", f"/{BOX}/a", late))


@pytest.mark.parametrize("form", ["%Y-%m-%d", "%Y-%m-%dT%H:%MZ", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%M:%S.%f0Z"])
def test_every_form_of_a_time(azure: LocalAzure, form: str) -> None:
    until = (NOW + timedelta(days=2)).strftime(form)
    assert read(azure, sas(azure, "r", expiry=until)) == (200, "")
    assert read(azure, service_sas(azure, expiry=until)) == (200, "")


def test_a_sas_that_may_only_create(azure: LocalAzure) -> None:
    may = sas(azure, "c")
    assert send(azure, "PUT", f"/{BOX}/new", may, b"x", x_ms_blob_type="BlockBlob").status_code == 201
    answer = send(azure, "PUT", f"/{BOX}/new", may, b"y", x_ms_blob_type="BlockBlob")
    assert refusal(answer) == (403, "UnauthorizedBlobOverwrite")


def test_tags_need_a_letter_of_their_own(azure: LocalAzure) -> None:
    listing = f"/{BOX}?restype=container&comp=list&include=tags"
    assert refusal(send(azure, "GET", listing, sas(azure, "l"))) == (403, "AuthorizationPermissionMismatch")
    assert send(azure, "GET", listing, sas(azure, "lt")).status_code == 200
    target, kind = f"/{BOX}/b", "BlockBlob"
    without = send(azure, "PUT", target, sas(azure, "w"), b"x", x_ms_blob_type=kind, x_ms_tags="k=v")
    assert refusal(without) == (403, "AuthorizationPermissionMismatch")
    assert send(azure, "PUT", target, sas(azure, "wt"), b"x", x_ms_blob_type=kind, x_ms_tags="k=v").status_code == 201


def test_a_delegation_sas_for_one_user(azure: LocalAzure) -> None:
    me = str(jwt.decode(access_token(azure), options={"verify_signature": False}).get("oid"))
    key = delegation_key(azure, NOW - timedelta(minutes=5), in_an_hour())
    options: dict[str, Any] = {"user_delegation_key": key, "permission": "r", "expiry": in_an_hour()}
    for user, status in ((me, 200), ("11111111-2222-4333-8444-555555555555", 403)):
        signed = generate_blob_sas(ACCOUNT, BOX, "a", user_delegation_oid=user, **options)
        answer = send(azure, "GET", f"/{BOX}/a?{signed}", token(azure))
        assert answer.status_code == status
        assert send(azure, "GET", f"/{BOX}/a", signed).status_code == 403
    of_account(
        azure, sasPolicy={"requireUserBoundUserDelegationSas": True, "requireUserBoundUserDelegationSasAction": "Block"}
    )
    assert read(azure, generate_blob_sas(ACCOUNT, BOX, "a", **options)) == (403, "AuthenticationFailed")


# Service SAS


def test_a_service_sas_reaches_its_own_resource(azure: LocalAzure) -> None:
    key = azure.arm.keys[ACCOUNT][1]
    assert read(azure, service_sas(azure)) == (200, "")
    assert refusal(send(azure, "GET", f"/{BOX}/b", service_sas(azure))) == (403, "AuthenticationFailed")
    assert refusal(send(azure, "GET", f"/{BOX}/a", service_sas(azure, "w"))) == (403, "AuthorizationPermissionMismatch")
    listing = f"/{BOX}?restype=container&comp=list"
    of_box = generate_container_sas(ACCOUNT, BOX, account_key=key, permission="rl", expiry=in_an_hour())
    assert send(azure, "GET", listing, of_box).status_code == 200
    assert read(azure, of_box) == (200, "")
    assert refusal(send(azure, "GET", f"/{BOX}?restype=container", of_box)) == (403, "AuthorizationFailure")
    assert send(azure, "GET", listing, service_sas(azure)).status_code == 403
    assert send(azure, "GET", "/?comp=list", of_box).status_code == 403


def test_a_service_sas_changes_the_headers_of_the_answer(azure: LocalAzure) -> None:
    signed = service_sas(azure, content_type="text/x-signed", content_disposition="attachment")
    answer = send(azure, "GET", f"/{BOX}/a", signed)
    assert (answer.headers["Content-Type"], answer.headers["Content-Disposition"]) == ("text/x-signed", "attachment")


def test_a_stored_policy_gives_and_takes(azure: LocalAzure, box: Any) -> None:
    from azure.storage.blob import AccessPolicy

    policy = AccessPolicy(permission="r", expiry=in_an_hour())
    box.set_container_access_policy(signed_identifiers={"p": policy})
    key = azure.arm.keys[ACCOUNT][0]
    signed = generate_blob_sas(ACCOUNT, BOX, "a", account_key=key, policy_id="p")
    assert read(azure, signed) == (200, "")
    twice = generate_blob_sas(ACCOUNT, BOX, "a", account_key=key, policy_id="p", permission="r")
    assert read(azure, twice) == (403, "AuthenticationFailed")
    box.set_container_access_policy(signed_identifiers={"p": AccessPolicy(permission="w", expiry=in_an_hour())})
    assert read(azure, signed) == (403, "AuthorizationPermissionMismatch")
    box.set_container_access_policy(signed_identifiers={})
    assert read(azure, signed) == (403, "AuthenticationFailed")


def test_the_accounts_limit_to_the_life_of_a_sas(azure: LocalAzure) -> None:
    of_account(azure, sasPolicy={"sasExpirationPeriod": "0.02:00:00", "expirationAction": "Block"})
    start = NOW - timedelta(minutes=1)
    assert read(azure, sas(azure, "r")) == (403, "AuthenticationFailed")
    assert read(azure, sas(azure, "r", start=start)) == (200, "")
    long = sas(azure, "r", start=start, expiry=NOW + timedelta(days=1))
    assert read(azure, long) == (403, "AuthenticationFailed")
    of_account(azure, sasPolicy={"sasExpirationPeriod": "0.02:00:00", "expirationAction": "Log"})
    assert read(azure, long) == (200, "")


# Delegation keys


def delegation_key(azure: LocalAzure, start: datetime, expiry: datetime) -> Any:
    return client(azure, credential=Credential(azure)).get_user_delegation_key(start, expiry)


def test_a_delegation_key_signs_until_keys_are_revoked(azure: LocalAzure) -> None:
    key = delegation_key(azure, NOW - timedelta(minutes=5), in_an_hour())
    signed = generate_blob_sas(ACCOUNT, BOX, "a", user_delegation_key=key, permission="r", expiry=in_an_hour())
    of_account(azure, allowSharedKeyAccess=False)
    assert read(azure, signed) == (200, "")
    azure.arm.revoked.setdefault(ACCOUNT, []).append(f"{datetime.now(timezone.utc):%Y-%m-%dT%H:%M:%S.%f}0Z")
    assert read(azure, signed) == (403, "AuthenticationFailed")
    newer = delegation_key(azure, NOW - timedelta(minutes=4), in_an_hour())
    again = generate_blob_sas(ACCOUNT, BOX, "a", user_delegation_key=newer, permission="r", expiry=in_an_hour())
    assert read(azure, again) == (200, "")


@pytest.mark.parametrize(
    ("start", "expiry"),
    [
        (timedelta(0), timedelta(days=7, minutes=1)),
        (timedelta(0), timedelta(days=8)),
        (timedelta(minutes=1), timedelta(hours=1)),
        (timedelta(days=-2), timedelta(days=-1)),
    ],
)
def test_times_that_a_delegation_key_cannot_have(azure: LocalAzure, start: timedelta, expiry: timedelta) -> None:
    now = datetime.now(timezone.utc)
    with pytest.raises(HttpResponseError) as refused:
        delegation_key(azure, now + start, now + expiry)
    assert (refused.value.status_code, refused.value.error_code) == (400, "InvalidXmlNodeValue")


def test_a_delegation_key_of_seven_days(azure: LocalAzure) -> None:
    now = datetime.now(timezone.utc) - timedelta(seconds=2)
    assert delegation_key(azure, now, now + timedelta(days=7)).value


def test_a_key_cannot_ask_for_a_delegation_key(azure: LocalAzure) -> None:
    answer = send(azure, "POST", "/?restype=service&comp=userdelegationkey", sas(azure, "rwdlac"), b"<KeyInfo/>")
    assert refusal(answer) == (403, "AuthorizationFailure")


def test_a_sas_for_a_snapshot_and_a_version(azure: LocalAzure, blob: Any) -> None:
    key = azure.arm.keys[ACCOUNT][0]
    taken = blob.create_snapshot()["snapshot"]
    signed = generate_blob_sas(ACCOUNT, BOX, "a", account_key=key, permission="r", expiry=in_an_hour(), snapshot=taken)
    assert refusal(send(azure, "GET", f"/{BOX}/a?snapshot={taken}", signed)) == (200, "")
    assert read(azure, signed) == (403, "AuthenticationFailed")
    azure.arm.services[ACCOUNT]["isVersioningEnabled"] = True
    version = blob.upload_blob("new", overwrite=True)["version_id"]
    signed = generate_blob_sas(
        ACCOUNT, BOX, "a", account_key=key, permission="r", expiry=in_an_hour(), version_id=version
    )
    assert refusal(send(azure, "GET", f"/{BOX}/a?versionid={urllib.parse.quote(version)}", signed)) == (200, "")
    assert read(azure, signed) == (403, "AuthenticationFailed")


def test_containers_by_sas_key_and_token(azure: LocalAzure) -> None:
    may = generate_account_sas(ACCOUNT, azure.arm.keys[ACCOUNT][0], "sc", "rwdlc", in_an_hour())
    for number, credential in enumerate((may, None, Credential(azure))):
        service = client(azure, credential=credential)
        name = f"by-way-{number}"
        service.create_container(name)
        assert name in [item.name for item in service.list_containers()]
        service.delete_container(name)
        assert name not in [item.name for item in service.list_containers()]


def test_microsofts_client_reads_an_address_with_a_sas(azure: LocalAzure) -> None:
    url = f"https://{azure.blob_host}/{ACCOUNT}/{BOX}/a?{service_sas(azure)}"
    blob = BlobClient.from_blob_url(url, connection_verify=str(azure.ca_file), retry_total=0)
    assert blob.download_blob().readall() == b"content"
