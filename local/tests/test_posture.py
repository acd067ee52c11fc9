"""The posture checks: every one of them with a good, a bad, an unset and a forbidden account, and the reports."""

import copy
import json
import re
from datetime import datetime, timezone
from typing import Any, NamedTuple

import pytest

import AzureStorage as az
from AzureStorage import NetworkError, ServiceError

Json = dict[str, Any]
SUBSCRIPTION = "0b1f6471-1bf0-4dda-aec3-cb9272f09590"
OTHER_SUBSCRIPTION = "5a3e6c1e-2222-4444-8888-0123456789ab"
TENANT = "b7f2a6c4-0c5e-4f37-9a21-6d0e8f1c3a52"
ID = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/rg-finance/providers/Microsoft.Storage/storageAccounts/contosobackups"
FOREIGN_ID = ID.replace(SUBSCRIPTION, OTHER_SUBSCRIPTION)
NOW = 1_790_000_000.0  # in September 2026
OPTIONS = az.PostureOptions(
    now=NOW,
    tenant_id=TENANT,
    key_vaults=("kv-contoso",),
    subscriptions=(SUBSCRIPTION,),
    evidence_containers=("evidence",),
)
CHECKS = {check.number: check for check in az.CHECKS}
FORBIDDEN = ServiceError("read", 403, "AuthorizationFailed", "no")
MISSING = ServiceError("read", 404, "ResourceNotFound", "no")
# Sources of which "not found" says that there is nothing.
MISSING_IS = {"defender": "unset", "lifecycle": "pass", "storage_tasks": "pass"}
RESULTS = {"pass", "fail", "unset", "unknown", "not_applicable"}


def account(changes: Json | None = None, **top: Any) -> Json:
    """A bare StorageV2 account with the properties in `changes`, by their dotted paths."""
    item: Json = {"id": ID, "name": "contosobackups", "kind": "StorageV2", "sku": {"name": "Standard_LRS"}, **top}
    put(item, "properties", {})
    for path, value in (changes or {}).items():
        put(item, f"properties.{path}", value)
    return item


def put(item: Json, path: str, value: Any) -> None:
    *parents, last = path.split(".")
    for parent in parents:
        item = item.setdefault(parent, {})
    item[last] = value


def props(changes: Json, **top: Any) -> Json:
    """An ARM object with these properties, by their dotted paths."""
    item: Json = dict(top)
    put(item, "properties", {})
    for path, value in changes.items():
        put(item, f"properties.{path}", value)
    return item


def made(days: float) -> str:
    return datetime.fromtimestamp(NOW - days * 86_400, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.1234567Z")


def endpoint(state: str, target: str = ID) -> Json:
    found = props({"privateLinkServiceConnectionState": {"status": state}, "privateEndpoint": {"id": target}})
    return {**found, "id": f"{ID}/privateEndpointConnections/pe1", "name": "pe1"}


def lock(level: str | None, scope: str = ID) -> Json:
    return props({"level": level}, id=f"{scope}/providers/Microsoft.Authorization/locks/keep", name="keep")


def container(name: str, **properties: Any) -> Json:
    return {"name": name, "properties": properties}


def logs(*categories: str) -> Json:
    return props({"workspaceId": "w", "logs": [{"category": name, "enabled": True} for name in categories]})


def lifecycle(days: float, **rule: Any) -> Json:
    actions = {"baseBlob": {"delete": {"daysAfterModificationGreaterThan": days}}}
    return props({"policy.rules": [{"name": "purge", "type": "Lifecycle", "definition": {"actions": actions}, **rule}]})


def task(subscription: str, enabled: bool = True) -> Json:
    path = f"/subscriptions/{subscription}/resourceGroups/g/providers/Microsoft.StorageActions/storageTasks/t"
    return props({"taskId": path, "enabled": enabled}, name="nightly")


KEEP = "deleteRetentionPolicy"
KEEP_BOX = "containerDeleteRetentionPolicy"
SAS = "sasPolicy"
SMB = "protocolSettings.smb"
SHARE = "shareDeleteRetentionPolicy"
SHARING = "dataCollaborationPolicyProperties"
SWITCHES = ("allowStorageConnectors", "allowBlobAccessPoints", "allowStorageDataShares", "allowCrossTenantDataSharing")
OLD = {"creationTime": "2020-01-01T00:00:00Z"}
ROTATED = {"keyCreationTime": {"key1": made(3), "key2": made(3)}}


class Row(NamedTuple):
    """What a check's source holds when good, bad and unset; for the account its properties. unset_is: why not `unset`."""

    good: Any
    bad: Any
    unset: Any
    unset_is: str = "unset"


def one(path: str, good: Any, bad: Any, unset_is: str = "unset") -> Row:
    return Row({path: good}, {path: bad}, {path: None}, unset_is)


TABLE: dict[int, Row] = {
    1: one("supportsHttpsTrafficOnly", True, False),
    2: one("minimumTlsVersion", "TLS1_2", "TLS1_1"),
    3: one("allowBlobPublicAccess", False, True),
    4: one("allowSharedKeyAccess", False, True),
    5: Row(
        {"allowSharedKeyAccessForServices": {name: {"enabled": False} for name in ("blob", "file", "table", "queue")}},
        {"allowSharedKeyAccessForServices": {"blob": {"enabled": True}}},
        {},
    ),
    6: one("publicNetworkAccess", "SecuredByPerimeter", "Enabled"),
    7: one("networkAcls.defaultAction", "Deny", "Allow"),
    8: one("networkAcls.bypass", "Logging, AzureServices", "Logging, Metrics"),
    # no list of rules lets nothing in
    9: one("networkAcls.ipRules", [{"value": "203.0.113.0/24"}], [{"value": "0.0.0.0/0"}], "pass"),
    10: Row(
        {"networkAcls.resourceAccessRules": [{"tenantId": TENANT, "resourceId": ID}]},
        {"networkAcls.resourceAccessRules": [{"tenantId": "other", "resourceId": FOREIGN_ID}]},
        {"networkAcls.resourceAccessRules": [{"tenantId": None, "resourceId": ID}]},
    ),
    11: one("privateEndpointConnections", [endpoint("Approved")], [endpoint("Pending")]),
    12: Row({"allowCrossTenantReplication": False}, {"allowCrossTenantReplication": True}, OLD),
    # Microsoft says that unset is false
    13: one("allowCrossTenantDelegationSas", False, True, "pass"),
    14: one("defaultToOAuthAuthentication", True, False),
    15: Row(
        {"keyPolicy.keyExpirationPeriodInDays": 90, **ROTATED},
        {"keyPolicy.keyExpirationPeriodInDays": 91, **ROTATED},
        {"keyPolicy.keyExpirationPeriodInDays": None, **ROTATED},
    ),
    16: Row(
        {"keyCreationTime": {"key1": made(3), "key2": made(89)}},
        {"keyCreationTime": {"key1": made(3), "key2": made(400)}},
        {"keyCreationTime": {"key1": made(3), "key2": None}},
    ),
    17: Row(
        {SAS: {"sasExpirationPeriod": "1.00:00:00", "expirationAction": "Block"}},
        {SAS: {"sasExpirationPeriod": "1.00:00:00", "expirationAction": "Log"}},
        {SAS: None},
    ),
    18: Row(
        {SAS: {"requireUserBoundUserDelegationSas": True, "requireUserBoundUserDelegationSasAction": "Block"}},
        {SAS: {"requireUserBoundUserDelegationSas": True, "requireUserBoundUserDelegationSasAction": "Log"}},
        {SAS: {"sasExpirationPeriod": "1.00:00:00", "expirationAction": "Block"}},
    ),
    19: one("allowedCopyScope", "PrivateLink", "Anywhere"),
    20: Row(
        {"isSftpEnabled": False, "isLocalUserEnabled": False},
        {"isSftpEnabled": True, "isLocalUserEnabled": False},
        {},
    ),
    # only creation turns it on
    21: one("isNfsV3Enabled", False, True, "pass"),
    22: one("encryption.requireInfrastructureEncryption", True, False),
    23: Row(
        {
            "encryption": {
                "keySource": "Microsoft.Keyvault",
                "keyvaultproperties": {"keyvaulturi": "https://KV-contoso.vault.azure.net/"},
            }
        },
        {
            "encryption": {
                "keySource": "Microsoft.Keyvault",
                "keyvaultproperties": {"keyvaulturi": "https://evil.vault.azure.net"},
            }
        },
        {"encryption": None},
    ),
    24: Row({"sku": "Standard_RAGZRS"}, {"sku": "Standard_ZRS"}, {"sku": None}),
    25: Row([lock("CanNotDelete")], [], [lock(None)]),
    26: Row([lock("ReadOnly")], [lock("CanNotDelete")], [lock(None)]),
    27: Row(
        props({KEEP: {"enabled": True, "days": 7, "allowPermanentDelete": False}}),
        props({KEEP: {"enabled": True, "days": 6}}),
        props({}),
    ),
    28: Row(props({KEEP_BOX: {"enabled": True, "days": 7}}), props({KEEP_BOX: {"enabled": False}}), props({})),
    29: Row(props({"isVersioningEnabled": True}), props({"isVersioningEnabled": False}), props({})),
    30: Row(props({"changeFeed.enabled": True}), props({"changeFeed.enabled": False}), props({})),
    31: Row(props({"restorePolicy.enabled": True}), props({"restorePolicy.enabled": False}), props({})),
    32: Row(props({"staticWebsite.enabled": False}), props({"staticWebsite.enabled": True}), props({})),
    # no rule, no origin
    33: Row(
        props({"cors.corsRules": [{"allowedOrigins": ["https://a.example"]}]}),
        props({"cors.corsRules": [{"allowedOrigins": ["https://a.example"]}, {"allowedOrigins": ["*"]}]}),
        props({}),
        "pass",
    ),
    34: Row([container("box", publicAccess="None")], [container("box", publicAccess="Blob")], [container("box")]),
    35: Row(
        [container("evidence", hasLegalHold=True)],
        [container("evidence", hasLegalHold=False)],
        [container("evidence")],
    ),
    36: Row(
        [props({"policyId": "p1", "destinationAccount": ID})],
        [props({"policyId": "p1", "destinationAccount": FOREIGN_ID})],
        [props({"policyId": "p1", "destinationAccount": None})],
    ),
    37: Row(
        [props({"source": "Microsoft.Storage", "state": "Enabled"}, name="s1")],
        [
            props(
                {"source": "Microsoft.KeyVault", "keyVaultProperties.keyUri": "https://evil.vault.azure.net/keys/k"},
                name="s1",
            )
        ],
        [props({}, name="s1")],
    ),
    38: Row(
        props({"isEnabled": True, "malwareScanning.onUpload.isEnabled": True}),
        props({"isEnabled": True, "malwareScanning.onUpload.isEnabled": False}),
        props({}),
    ),
    39: Row(
        [logs("StorageRead", "StorageWrite"), logs("StorageDelete")],
        [logs("StorageRead")],
        [props({"workspaceId": "w", "logs": None})],
    ),
    40: Row(
        props(
            {
                f"{SHARE}.enabled": True,
                f"{SHARE}.days": 7,
                f"{SMB}.versions": "SMB3.1.1;",
                f"{SMB}.channelEncryption": "AES-256-GCM;",
            }
        ),
        props(
            {
                f"{SHARE}.enabled": True,
                f"{SHARE}.days": 7,
                f"{SMB}.versions": "SMB3.0;SMB3.1.1;",
                f"{SMB}.channelEncryption": "AES-256-GCM;",
            }
        ),
        props({f"{SHARE}.enabled": True, f"{SHARE}.days": 7}),
    ),
    41: Row({SHARING: dict.fromkeys(SWITCHES, False)}, {SHARING: {SWITCHES[0]: True}}, {}),
    # no rule, nothing is deleted
    42: Row(lifecycle(8), lifecycle(1), props({}), "pass"),
    43: Row([logs("StorageRead", "StorageWrite", "StorageDelete")], [], [props({"workspaceId": "w", "logs": None})]),
    44: Row([logs("StorageRead", "StorageWrite", "StorageDelete")], [], [props({"workspaceId": "w", "logs": None})]),
    45: Row([logs("StorageRead", "StorageWrite", "StorageDelete")], [], [props({"workspaceId": "w", "logs": None})]),
    # an assignment is enabled or it is not; what it runs cannot be anywhere else
    46: Row([task(SUBSCRIPTION)], [task(OTHER_SUBSCRIPTION)], [], "pass"),
}
NUMBERS = sorted(CHECKS)


def found(number: int, data: Any, item: Json | None = None, options: Any = OPTIONS, **facts: Any) -> Json:
    """The row of one check, with the account as the newest API version returns it."""
    whole, facts = made_case(number, data, item, facts)
    return next(row for row in az.assess(whole, facts, options) if row["number"] == number)


def made_case(number: int, data: Any, item: Json | None, facts: Json) -> tuple[Json, Json]:
    """The account and the facts where a check's source holds this."""
    if CHECKS[number].source != "account":
        return item or account(), {**facts, CHECKS[number].source: data}
    changes = dict(data)
    sku = {"sku": {"name": changes.pop("sku")}} if "sku" in changes else {}
    whole = item or account(changes, **sku)
    return whole, {"account": whole, **facts}


def steps(number: int, data: Any, item: Json | None = None, **facts: Any) -> list[Any]:
    """What would be carried out to fix one check."""
    whole, facts = made_case(number, data, item, facts)
    finding = az.judged(CHECKS[number], whole, facts, OPTIONS)
    assert finding is not None
    return [on_the_account(step) for step in az.posture_fix_steps(CHECKS[number], finding)]


def on_the_account(step: Any) -> Any:
    """A step as it is carried out for the account of these tests."""
    if isinstance(step, az.Send):
        return step._replace(path=ID + step.path)
    where = az.AccountRef(SUBSCRIPTION, "rg-finance", "contosobackups").arguments
    return step._replace(arguments={**where, **step.arguments}) if isinstance(step, az.Delegate) else step


def test_table_is_whole() -> None:
    assert NUMBERS == list(range(1, 47)) == sorted(TABLE)
    assert [check.number for check in az.CHECKS] == NUMBERS
    names = [check.name for check in az.CHECKS]
    assert len(set(names)) == 46
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", name) for name in names)
    assert {check.source for check in az.CHECKS} <= {"account", *az.DEEP_SOURCES}
    assert {check.severity for check in az.CHECKS} == {"High", "Medium", "Low"}
    assert all(check.title and check.property for check in az.CHECKS)


def test_every_cis_control_of_storage_is_covered() -> None:
    one_by_one = {check.cis for check in az.CHECKS}
    wanted = {"9.1.1-9.1.3", *(f"9.2.{n}" for n in (1, 2, 3)), *(f"9.3.1.{n}" for n in (1, 2, 3)), "9.3.3.1"}
    wanted |= {f"9.3.2.{n}" for n in (1, 2, 3)} | {f"9.3.{n}" for n in range(4, 12)}
    assert wanted <= one_by_one


@pytest.mark.parametrize("number", NUMBERS)
def test_good(number: int) -> None:
    row = found(number, TABLE[number].good)
    assert row["result"] == "pass", row
    assert row["evidence"]
    assert row["fix"] == ""


@pytest.mark.parametrize("number", NUMBERS)
def test_bad(number: int) -> None:
    row = found(number, TABLE[number].bad)
    assert row["result"] == "fail", row
    assert row["evidence"]
    assert row["fix"]


@pytest.mark.parametrize("number", NUMBERS)
def test_unset(number: int) -> None:
    """Null is not false: it is shown as unset, or passes with the reason why it is safe."""
    row = found(number, TABLE[number].unset)
    assert row["result"] == TABLE[number].unset_is, row
    if row["result"] == "unset":
        assert "not set" in row["evidence"]
        assert row["fix"]
    else:
        assert re.search(r"not set|no ", row["evidence"])


@pytest.mark.parametrize("number", NUMBERS)
@pytest.mark.parametrize(
    "error", [FORBIDDEN, ServiceError("read", 500, "InternalError", ""), NetworkError("no answer")], ids=str
)
def test_failed_read_is_never_a_pass(number: int, error: Exception) -> None:
    source = CHECKS[number].source
    bare = {"id": ID, "name": "contosobackups"}
    row = next(row for row in az.assess(bare, {source: error}, OPTIONS) if row["number"] == number)
    assert row["result"] == "unknown"
    assert row["fix"]
    if error is FORBIDDEN:
        needed = az.ACCOUNT_SOURCE if source == "account" else az.DEEP_SOURCES[source]
        assert "403 AuthorizationFailed" in row["evidence"]
        assert needed.permission in row["evidence"]
        assert row["fix"] == f"!azure-storage-account-posture account_name=contosobackups checks={CHECKS[number].name}"


@pytest.mark.parametrize("number", [n for n in NUMBERS if CHECKS[n].source != "account"])
def test_a_feature_that_is_not_there(number: int) -> None:
    for error in (MISSING, ServiceError("read", 400, "FeatureNotSupportedForAccount", "")):
        row = found(number, error)
        assert row["result"] == (MISSING_IS.get(CHECKS[number].source, "not_applicable")), row
    row = found(number, ServiceError("read", 404, "ResourceGroupNotFound", ""))
    assert row["result"] == "unknown"


@pytest.mark.parametrize("number", [n for n in NUMBERS if CHECKS[n].source != "account"])
@pytest.mark.parametrize(
    ("status", "code"),
    [(400, "NoRegisteredProviderFound"), (404, "InvalidResourceType"), (404, "ParentResourceNotFound")],
)
def test_a_cloud_without_the_version_says_nothing_of_the_feature(number: int, status: int, code: str) -> None:
    row = found(number, ServiceError("read", status, code, ""))
    assert (row["result"], code in row["evidence"]) == ("unknown", True)


def test_sharing_that_the_cloud_can_not_list_is_no_pass() -> None:
    lists: Json = dict.fromkeys(az.SHARING_SOURCES, ServiceError("read", 400, "NoRegisteredProviderFound", ""))
    assert found(41, {}, **lists)["result"] == "unknown"


def test_what_the_newest_version_could_not_tell_is_unknown_with_the_reason() -> None:
    """The rest is judged by what Resource Graph returned."""
    rows = {row["number"]: row for row in az.assess(account(TABLE[4].good), {"account": FORBIDDEN}, OPTIONS)}
    assert {number for number, row in rows.items() if row["result"] == "unknown"} == {5, 13, 18, 41}
    assert "403 AuthorizationFailed" in rows[13]["evidence"]
    assert rows[4]["result"] == "pass"


def test_a_closed_network_is_known_from_resource_graph() -> None:
    item = account({"allowBlobPublicAccess": False, "networkAcls.defaultAction": "Deny"})
    facts = {"account": FORBIDDEN, "website": props({"staticWebsite.enabled": True})}
    assert next(row for row in az.assess(item, facts, OPTIONS) if row["number"] == 3)["result"] == "pass"


def test_a_source_that_was_not_asked_leaves_its_checks_out() -> None:
    rows = az.assess(account(), {}, OPTIONS)
    assert [row["number"] for row in rows] == [n for n in NUMBERS if CHECKS[n].source == "account"]
    assert [row["number"] for row in az.assess(account(), {"locks": []}, OPTIONS) if row["number"] in (25, 26)] == [
        25,
        26,
    ]


def test_an_empty_account_passes_only_what_unset_makes_safe() -> None:
    rows = az.assess(account(), {"account": account()}, OPTIONS)
    assert {row["number"] for row in rows if row["result"] == "pass"} == {9, 10, 13, 21}


def test_what_an_older_api_version_leaves_out_is_unknown_and_not_unset() -> None:
    """Resource Graph answers in a version that does not know the newest properties."""
    rows = {row["number"]: row for row in az.assess(account(), {}, OPTIONS)}
    assert {number for number, row in rows.items() if row["result"] == "unknown"} == {5, 13, 18, 41}
    assert "deep=true" in rows[5]["evidence"]
    known = account({"allowCrossTenantDelegationSas": True})
    assert next(row for row in az.assess(known, {}, OPTIONS) if row["number"] == 13)["result"] == "fail"


@pytest.mark.parametrize("value", ["false", 0, "", []])
@pytest.mark.parametrize("number", [3, 4, 12, 13, 21])
def test_what_is_like_false_is_not_false(number: int, value: Any) -> None:
    path = next(iter(TABLE[number].good))
    assert found(number, {path: value})["result"] == "fail"


@pytest.mark.parametrize(
    ("number", "item"),
    [
        *((n, {"kind": "FileStorage"}) for n in (3, 12, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 39)),
        *((40, {"kind": kind}) for kind in ("BlobStorage", "BlockBlobStorage")),
        *((n, {"changes": {"isHnsEnabled": True}}) for n in (29, 30, 31)),
        *((n, {"sku": {"name": "Premium_LRS"}}) for n in (24, 31)),
        *((n, {"changes": {"allowSharedKeyAccess": False}}) for n in (15, 16)),
        *((22, {"kind": kind}) for kind in ("Storage", "BlobStorage")),
        *((31, {"kind": kind}) for kind in ("Storage", "BlockBlobStorage")),
        *((32, {"kind": kind}) for kind in ("Storage", "BlobStorage")),
    ],
)
def test_not_applicable(number: int, item: Json) -> None:
    """Not even where the read failed: what cannot be there needs no permission."""
    for data in [TABLE[number].bad] + ([FORBIDDEN] if CHECKS[number].source != "account" else []):
        row = found(number, data, account(**item))
        assert (row["result"], row["fix"]) == ("not_applicable", "")
        assert row["evidence"]


def test_key_age_comes_from_the_account_alone() -> None:
    (both,) = steps(16, {"keyCreationTime": {"key1": made(91), "key2": made(91)}})
    assert (both.command, both.arguments["key"]) == ("account-key-rotate", "both")
    (one_key,) = steps(16, {"keyCreationTime": {"key1": made(91), "key2": made(1)}})
    assert one_key.arguments["key"] == "key1"
    assert found(16, {"keyCreationTime": {"key1": made(90.5), "key2": made(1)}})["result"] == "pass"
    assert found(16, {"keyCreationTime": {"key1": "rubbish", "key2": made(1)}})["result"] == "unset"
    assert (
        found(
            16, {"keyCreationTime": {"key1": made(40), "key2": made(1)}}, options=OPTIONS._replace(max_key_age_days=30)
        )["result"]
        == "fail"
    )
    assert found(16, {"allowSharedKeyAccess": True, **TABLE[16].bad})["result"] == "fail"


def test_a_reminder_is_set_to_the_age_that_is_asked_for() -> None:
    options = OPTIONS._replace(max_key_age_days=30)
    item = account({"keyPolicy.keyExpirationPeriodInDays": 90, **ROTATED})
    finding = az.judged(CHECKS[15], item, {"account": item}, options)
    assert finding is not None and finding.result == "fail"
    (send,) = az.posture_fix_steps(CHECKS[15], finding)
    assert isinstance(send, az.Send)
    assert send.body == {"properties": {"keyPolicy": {"keyExpirationPeriodInDays": 30}}}


def test_a_reminder_needs_keys_that_were_rotated_once() -> None:
    """Azure refuses a key policy while a key has no creation time."""
    first, second = steps(15, {"keyCreationTime": {"key1": made(3), "key2": None}})
    assert isinstance(first, az.Decide)
    assert "Rotate key2 first" in first.text
    assert second.body == {"properties": {"keyPolicy": {"keyExpirationPeriodInDays": 90}}}


def test_service_keys_follow_the_account() -> None:
    assert found(5, {"allowSharedKeyAccess": False})["result"] == "pass"
    assert found(5, {"allowSharedKeyAccess": False, **TABLE[5].bad})["result"] == "fail"


def test_cross_tenant_replication_by_age() -> None:
    assert found(12, {"creationTime": "2023-12-14T23:00:00.0000000Z"})["result"] == "unset"
    row = found(12, {"creationTime": "2023-12-16T00:00:00.1234567Z"})
    assert row["result"] == "pass"
    assert "not set (default: off)" in row["evidence"]
    assert found(12, {})["result"] == "unset"


@pytest.mark.parametrize(
    ("rules", "result"),
    [
        ({"networkAcls.ipRules": [{"value": "198.51.100.7"}]}, "pass"),
        ({"networkAcls.ipRules": [{"value": "11.0.0.0/8"}]}, "fail"),
        ({"networkAcls.ipRules": [{"value": "11.0.0.0/9"}]}, "pass"),
        ({"networkAcls.ipv6Rules": [{"value": "::/0"}]}, "fail"),
        ({"networkAcls.ipv6Rules": [{"value": "2001:db8:1::/48"}]}, "pass"),
        ({"networkAcls.ipRules": [{"value": "everybody"}]}, "unknown"),
    ],
)
def test_ip_rules(rules: Json, result: str) -> None:
    assert found(9, rules)["result"] == result


def test_ip_rules_of_both_kinds_have_both_fixes() -> None:
    rules = {"ipRules": [{"value": "0.0.0.0/1"}, {"value": "128.0.0.0/1"}]}
    keep = {"value": "2001:db8:1::/48", "action": "Allow"}
    first, second = steps(9, {"networkAcls": {**rules, "ipv6Rules": [{"value": "::/0"}, keep]}})
    assert (first.command, first.arguments["ip_rules"]) == ("account-network-rule-remove", "0.0.0.0/1,128.0.0.0/1")
    assert (second.method, second.path, second.merge) == ("PATCH", ID, True)
    assert second.body == {"properties": {"networkAcls": {"ipv6Rules": [keep]}}}


def test_what_is_ours_is_not_guessed() -> None:
    nothing = az.PostureOptions(now=NOW)
    elsewhere = {"privateEndpointConnections": [endpoint("Approved", FOREIGN_ID)]}
    assert found(11, elsewhere)["result"] == "fail"
    assert found(11, elsewhere, options=nothing)["result"] == "unknown"
    assert found(11, TABLE[11].good, options=nothing)["result"] == "pass"
    assert found(10, TABLE[10].good, options=nothing)["result"] == "unknown"
    assert found(36, TABLE[36].bad, options=nothing)["result"] == "unknown"
    assert found(36, [props({"destinationAccount": "justaname"})])["result"] == "unknown"
    assert found(37, TABLE[37].bad, options=nothing)["result"] == "unknown"
    assert found(23, TABLE[23].bad, options=nothing)["result"] == "unknown"
    assert found(23, {"encryption.keySource": "Microsoft.Storage"}, options=nothing)["result"] == "pass"
    assert found(23, {"encryption.keySource": "Microsoft.Storage"})["result"] == "fail"
    assert found(35, TABLE[35].bad, options=nothing)["result"] == "not_applicable"


def test_a_vault_is_expected_by_its_whole_name() -> None:
    for uri in ("https://kv-contoso.evil.example", "https://xkv-contoso.vault.azure.net", ""):
        data = {"encryption": {"keySource": "Microsoft.Keyvault", "keyvaultproperties": {"keyvaulturi": uri}}}
        expected = OPTIONS._replace(key_vaults=("https://kv-contoso.vault.azure.net/",))
        assert found(23, data, options=expected)["result"] == "fail", uri


def test_no_endpoint_and_a_pending_one_have_both_fixes() -> None:
    (create,) = steps(11, {"privateEndpointConnections": []})
    assert create == az.CREATE_ENDPOINT
    reject, again = steps(11, TABLE[11].bad)
    assert (reject.method, reject.path) == ("PUT", f"{ID}/privateEndpointConnections/pe1")
    assert reject.body["properties"]["privateLinkServiceConnectionState"]["status"] == "Rejected"
    assert again == create


def instance(target: str, tenant: str | None = TENANT) -> Json:
    return {"networkAcls.resourceAccessRules": [{"tenantId": tenant, "resourceId": target}]}


@pytest.mark.parametrize(
    ("rule", "result"),
    [
        (instance(f"/subscriptions/{SUBSCRIPTION}/resourceGroups/g/providers/Microsoft.Logic/workflows/w"), "pass"),
        (instance(f"/subscriptions/{SUBSCRIPTION}/resourceGroups/g/providers/Microsoft.Logic/workflows/*"), "fail"),
        (instance(FOREIGN_ID), "fail"),
        (
            instance(
                f"/subscriptions/{OTHER_SUBSCRIPTION}/providers/Microsoft.Security/datascanners/StorageDataScanner"
            ),
            "pass",
        ),
        (
            instance(
                f"/subscriptions/{SUBSCRIPTION}/providers/Microsoft.Security/datascanners/storageDataScanner", "x"
            ),
            "fail",
        ),
    ],
)
def test_resource_instances(rule: Json, result: str) -> None:
    """Azure takes instances of the own tenant only: the signs are wildcards and subscriptions nobody knows."""
    assert found(10, rule)["result"] == result


def test_a_resource_instance_of_an_unknown_subscription_is_unknown() -> None:
    row = found(10, instance(FOREIGN_ID), options=OPTIONS._replace(subscriptions=()))
    assert row["result"] == "unknown"
    assert "own_subscriptions" in row["evidence"]


def test_only_the_resource_instances_that_failed_are_removed() -> None:
    rules = [{"tenantId": TENANT, "resourceId": target} for target in (ID, FOREIGN_ID, f"{ID}/*")]
    (remove,) = steps(10, {"networkAcls.resourceAccessRules": rules})
    assert json.loads(remove.arguments["resource_ids"]) == [FOREIGN_ID, f"{ID}/*"]


def test_a_closed_endpoint_says_what_still_gets_in() -> None:
    acls = {"bypass": "Logging, AzureServices", "resourceAccessRules": [{}], "defaultAction": "Allow"}
    data = {"publicNetworkAccess": "Disabled", "networkAcls": acls}
    assert found(6, data)["evidence"].endswith("still allowed: trusted Azure services, 1 resource instances")
    assert "no effect while public network access is disabled" in found(7, data)["evidence"]
    assert "still allowed" not in found(6, {"publicNetworkAccess": "Disabled"})["evidence"]


def test_local_users() -> None:
    assert found(20, {}, local_users=[])["result"] == "pass"
    assert found(20, {}, local_users=[{"name": "bob"}])["result"] == "fail"
    assert found(20, {}, local_users=MISSING)["result"] == "pass"
    assert found(20, {}, local_users=FORBIDDEN)["result"] == "unknown"
    row = found(20, {"isSftpEnabled": True}, local_users=FORBIDDEN)
    assert row["result"] == "fail"
    (send,) = steps(20, {"isSftpEnabled": True}, local_users=FORBIDDEN)
    assert send.body == {"properties": {"isSftpEnabled": False, "isLocalUserEnabled": False}}


def test_local_users_are_enabled_unless_somebody_said_otherwise() -> None:
    row = found(20, {"isSftpEnabled": False})
    assert row["result"] == "unset"
    assert "default: enabled" in row["evidence"]


def test_locks_count_only_on_the_account_and_above() -> None:
    assert found(25, [lock("CanNotDelete", ID.rsplit("/providers", 1)[0].upper())])["result"] == "pass"
    assert found(25, [lock("CanNotDelete", f"{ID}/blobServices/default/containers/a")])["result"] == "fail"
    assert found(25, [lock("CanNotDelete", ID[:-1])])["result"] == "fail"
    assert found(25, {"value": [lock("ReadOnly")]})["result"] == "pass"


def test_permanent_delete_has_its_own_fix() -> None:
    data = props({KEEP: {"enabled": True, "days": 30, "allowPermanentDelete": True}})
    assert found(27, data)["result"] == "fail"
    (send,) = steps(27, data)
    assert (send.method, send.path) == ("PUT", f"{ID}/blobServices/default")
    assert send.body == {"properties": {KEEP: {"allowPermanentDelete": False}}}
    assert len(steps(27, props({KEEP: {"enabled": False, "allowPermanentDelete": True}}))) == 2


def test_a_fix_never_shortens_what_is_kept() -> None:
    (send,) = steps(27, TABLE[27].bad)
    assert send.body["properties"][KEEP] == {"enabled": True, "days": 14}
    (send,) = steps(31, props({"restorePolicy.enabled": False, KEEP: {"enabled": True, "days": 200}}))
    assert send.body["properties"][KEEP] == {"enabled": True, "days": 200, "allowPermanentDelete": False}
    assert send.body["properties"]["restorePolicy"] == {"enabled": True, "days": 6}


def test_website_without_the_new_property() -> None:
    assert found(32, props({}), containers=[container("$web")])["result"] == "unset"
    assert found(32, props({}), containers=[container("box")])["result"] == "pass"
    assert found(32, props({}), containers=FORBIDDEN)["result"] == "unset"


def test_anonymous_blobs_look_at_the_containers() -> None:
    row = found(3, {}, containers=[container("box", publicAccess="Blob")])
    assert row["result"] == "unset"
    assert "1 of 1 containers are public" in row["evidence"]
    assert "were not read" in found(3, {}, containers=FORBIDDEN)["evidence"]


WEBSITE = props({"staticWebsite.enabled": True})


@pytest.mark.parametrize(("number", "data"), [(3, TABLE[3].good), (34, TABLE[34].good)])
def test_a_static_website_is_public_whatever_the_account_says(number: int, data: Any) -> None:
    row = found(number, data, website=WEBSITE)
    assert row["result"] == "fail"
    assert "$web is public" in row["evidence"]
    (send,) = steps(number, data, website=WEBSITE)
    assert send.body == {"properties": {"staticWebsite": {"enabled": False}}}
    assert send.api == az.NEWEST_STORAGE_API
    assert found(number, data, website=props({}))["result"] == "pass"


@pytest.mark.parametrize("closed", [{"publicNetworkAccess": "Disabled"}, {"networkAcls.defaultAction": "Deny"}])
def test_a_closed_network_stops_a_website(closed: Json) -> None:
    assert found(3, {"allowBlobPublicAccess": False, **closed}, website=WEBSITE)["result"] == "pass"


def test_both_ways_to_anonymous_blobs_are_shut() -> None:
    anonymous, site = steps(3, TABLE[3].bad, website=WEBSITE)
    assert anonymous.body == {"properties": {"allowBlobPublicAccess": False}}
    assert site.path == f"{ID}/blobServices/default"


def test_containers() -> None:
    deleted = container("box", publicAccess="Blob", deleted=True)
    assert found(34, [deleted])["result"] == "pass"
    row = found(34, TABLE[34].bad, account({"allowBlobPublicAccess": False}))
    assert row["result"] == "fail"
    assert "overridden" in row["evidence"]
    closed = steps(34, [container(name, publicAccess="Blob") for name in "abc"])
    assert [step.arguments["container_name"] for step in closed] == ["a", "b", "c"]


def test_holds() -> None:
    policy = {"properties": {"state": "Locked"}}
    assert found(35, [container("evidence", immutabilityPolicy=policy)])["result"] == "pass"
    policy = {"properties": {"state": "Unlocked"}}
    assert found(35, [container("evidence", immutabilityPolicy=policy)])["result"] == "fail"
    assert found(35, [container("other", hasLegalHold=False)])["result"] == "not_applicable"


def test_a_policy_whose_state_the_list_does_not_tell_is_unknown() -> None:
    row = found(35, [container("evidence", hasLegalHold=False, hasImmutabilityPolicy=True)])
    assert row["result"] == "unknown"
    assert "!azure-storage-container-immutability-get container_name=evidence" in row["evidence"]


def test_evidence_in_an_account_with_sftp_has_to_move() -> None:
    """Such accounts support neither legal holds nor immutability policies."""
    (step,) = steps(35, TABLE[35].bad, account({"isSftpEnabled": True}))
    assert step == az.MOVE_EVIDENCE


def test_locks_of_the_same_name_do_not_hide_each_other() -> None:
    group = ID.rsplit("/providers", 1)[0]
    assert found(25, [lock("CanNotDelete", group), lock("Custom")])["result"] == "pass"


def test_logs() -> None:
    group = props({"workspaceId": "w", "logs": [{"categoryGroup": "allLogs", "enabled": True}]})
    assert found(39, [group])["result"] == "pass"
    group["properties"]["logs"][0]["enabled"] = False
    assert found(39, [group])["result"] == "fail"
    assert found(39, [props({"logs": [{"categoryGroup": "allLogs", "enabled": True}]})])["result"] == "fail"
    assert found(39, [])["result"] == "fail"


def test_data_sharing() -> None:
    empty: Json = {name: [] for name in az.SHARING_SOURCES}
    missing: Json = dict.fromkeys(az.SHARING_SOURCES, MISSING)
    assert found(41, {}, **empty)["result"] == "pass"
    assert found(41, {}, **missing)["result"] == "pass"
    assert found(41, {}, **{**empty, "connectors": FORBIDDEN})["result"] == "unknown"
    assert found(41, TABLE[41].good, **{**empty, "connectors": FORBIDDEN})["result"] == "unknown"
    shared = {**empty, "data_shares": [{"id": f"{ID}/dataShares/out", "name": "out"}]}
    row = found(41, TABLE[41].good, **shared)
    assert row["result"] == "fail"
    (delete,) = steps(41, TABLE[41].good, **shared)
    assert (delete.method, delete.path, delete.api) == ("DELETE", f"{ID}/dataShares/out", "2026-09-01")


def test_rows() -> None:
    row = found(4, {"allowSharedKeyAccess": True})
    assert row == {
        "id": f"{ID}#no-shared-key",
        "accountId": ID,
        "check": "no-shared-key",
        "account": "contosobackups",
        "number": 4,
        "title": CHECKS[4].title,
        "severity": "High",
        "cis": "9.3.1.3",
        "result": "fail",
        "evidence": "allowSharedKeyAccess is true",
        "fix": "!azure-storage-posture-fix account_name=contosobackups check=no-shared-key",
    }


def test_judging_changes_nothing() -> None:
    item, facts = account(TABLE[11].bad), {"containers": copy.deepcopy(TABLE[34].bad), "locks": [lock(None)]}
    before = copy.deepcopy((item, facts))
    az.assess(item, facts, OPTIONS)
    assert (item, facts) == before


@pytest.mark.parametrize("rubbish", ["text", 7, [], [1, "a", None], True])
def test_rubbish_is_survived_and_never_better_than_good(rubbish: Any) -> None:
    facts: Json = dict.fromkeys(az.DEEP_SOURCES, rubbish)
    for deep in ({"properties": rubbish}, {"properties": {"cors": {"corsRules": [{"allowedOrigins": rubbish}]}}}):
        for shape in (deep, [deep], {"value": [deep]}):
            assert len(az.assess(account(), dict.fromkeys(az.DEEP_SOURCES, shape), OPTIONS)) == 46
    item = {
        "id": ID,
        "properties": dict.fromkeys(("networkAcls", "sasPolicy", "keyCreationTime", "encryption"), rubbish),
    }
    rows = az.assess(item, facts, OPTIONS)
    assert len(rows) == 46
    assert {row["result"] for row in rows} <= RESULTS
    assert next(row for row in rows if row["number"] == 7)["result"] == "unset"
    assert len(az.assess({"id": ID, "properties": rubbish}, {}, OPTIONS)) == 23 + 2


# New checks


@pytest.mark.parametrize(
    ("policy", "result"),
    [
        (lifecycle(1, enabled=False), "pass"),
        (lifecycle(6.5), "fail"),
        (lifecycle(7), "pass"),
        (
            props({"policy.rules": [{"name": "r", "definition": {"actions": {"baseBlob": {"tierToCool": {"d": 1}}}}}]}),
            "pass",
        ),
        (
            props({"policy.rules": [{"name": "r", "definition": {"actions": {"version": {"delete": {"d": 1}}}}}]}),
            "fail",
        ),
        (MISSING, "pass"),
    ],
)
def test_lifecycle(policy: Any, result: str) -> None:
    assert found(42, policy)["result"] == result


def test_only_the_lifecycle_rules_that_delete_early_are_disabled() -> None:
    policy = lifecycle(1)
    late = {**policy["properties"]["policy"]["rules"][0], "name": "late", "definition": {}}
    policy["properties"]["policy"]["rules"].append(late)
    (send,) = steps(42, policy)
    assert (send.method, send.path) == ("PUT", f"{ID}/managementPolicies/default")
    rules = send.body["properties"]["policy"]["rules"]
    assert [(rule["name"], rule["enabled"]) for rule in rules] == [("purge", False), ("late", True)]
    assert "purge deletes after 1 days" in found(42, policy)["evidence"]


def test_storage_tasks() -> None:
    assert found(46, [task(OTHER_SUBSCRIPTION, enabled=False)])["result"] == "pass"
    assert found(46, [task(OTHER_SUBSCRIPTION)], options=az.PostureOptions(now=NOW))["result"] == "unknown"
    (send,) = steps(46, TABLE[46].bad)
    assert (send.method, send.path) == ("PATCH", f"{ID}/storageTaskAssignments/nightly")
    assert send.body == {"properties": {"enabled": False}}


def test_logs_go_where_the_service_or_another_one_logs() -> None:
    (choose,) = steps(43, [])
    assert choose == az.CHOOSE_LOG_SINK
    (send,) = steps(43, [], logs=[logs("StorageRead")])
    path = f"{ID}/queueServices/default/providers/Microsoft.Insights/diagnosticSettings/cortex-xsoar"
    assert (send.method, send.path) == ("PUT", path)
    every = [{"categoryGroup": "allLogs", "enabled": True}]
    assert send.body == {"properties": {"workspaceId": "w", "logs": every}}
    (send,) = steps(39, [{**logs("StorageRead"), "name": "soc"}])
    assert send.path.endswith("/blobServices/default/providers/Microsoft.Insights/diagnosticSettings/soc")


def test_nfs_requests_are_not_logged_and_that_is_said() -> None:
    nfs = account({"isNfsV3Enabled": True})
    assert found(39, TABLE[39].good, nfs)["evidence"].endswith("Azure does not log NFS 3.0 requests")
    assert "NFS" not in found(43, TABLE[43].good, nfs)["evidence"]


def test_the_audit_group_proves_nothing() -> None:
    """No document says that it holds reads, writes and deletes."""
    group = props({"workspaceId": "w", "logs": [{"categoryGroup": "audit", "enabled": True}]})
    assert found(39, [group])["result"] == "unknown"


# Fixes


def all_steps() -> list[tuple[az.Check, Any]]:
    """Every step of every check, bad and unset."""
    return [
        (CHECKS[number], step)
        for number in NUMBERS
        for data in (TABLE[number].bad, TABLE[number].unset)
        for step in steps(number, data)
    ]


def test_a_fix_is_one_command_of_ours() -> None:
    for number in NUMBERS:
        row = found(number, TABLE[number].bad)
        assert row["fix"] == f"!azure-storage-posture-fix account_name=contosobackups check={CHECKS[number].name}"


def test_steps_are_whole_and_inside_the_account() -> None:
    assert len(all_steps()) > 60
    for check, step in all_steps():
        assert isinstance(step, az.Send | az.Delegate | az.Decide), check.name
        if isinstance(step, az.Send):
            assert step.path == ID or step.path.startswith(f"{ID}/"), check.name
            assert step.method in ("PATCH", "PUT", "DELETE", "POST")
            assert step.api
            assert bool(step.body) == (step.method != "DELETE"), check.name
            json.dumps(step.body)
        elif isinstance(step, az.Decide):
            assert step.text.endswith(".")


def test_every_failure_can_be_fixed_or_says_what_to_decide() -> None:
    for number in NUMBERS:
        for step in steps(number, TABLE[number].bad):
            assert not (isinstance(step, az.Decide) and step.text.startswith("Check by hand")), number


def test_what_passes_needs_no_step() -> None:
    assert not any(steps(number, TABLE[number].good) for number in NUMBERS)


def test_a_failed_read_is_never_fixed_by_a_change() -> None:
    """What could not be read is not changed; a person is told what is missing."""
    for number in NUMBERS:
        source = CHECKS[number].source
        finding = az.judged(CHECKS[number], {"id": ID, "name": "contosobackups"}, {source: FORBIDDEN}, OPTIONS)
        assert finding is not None
        (step,) = az.posture_fix_steps(CHECKS[number], finding)
        assert isinstance(step, az.Decide)
        assert "Assign a role with Microsoft." in step.text


def test_the_newest_settings_are_sent_in_the_newest_version() -> None:
    for check, step in all_steps():
        if check.newest and isinstance(step, az.Send):
            assert step.api == az.NEWEST_STORAGE_API


def test_our_commands_take_their_arguments() -> None:
    """Every command is registered, has the arguments, and its own readers take the values."""
    seen = set()
    for _, step in all_steps():
        if not isinstance(step, az.Delegate):
            continue
        arguments = az.COMMANDS[f"azure-storage-{step.command}"].arguments()
        assert step.arguments.keys() >= {"account_name", "resource_group_name", "subscription_id"}
        assert step.arguments.keys() <= arguments.keys()
        for key, value in step.arguments.items():
            arguments[key].reader.read(value)
        seen.add(step.command)
    assert len(seen) >= 5


def test_defender_keeps_its_limit_and_scans_only_blobs() -> None:
    scan = "malwareScanning.onUpload"
    (send,) = steps(38, props({"isEnabled": True, scan: {"isEnabled": False, "capGBPerMonth": 200}}))
    assert send.body["properties"]["malwareScanning"] == {"onUpload": {"isEnabled": True, "capGBPerMonth": 200}}
    assert "sensitiveDataDiscovery" not in send.body["properties"]
    (send,) = steps(38, props({}))
    assert send.body["properties"]["malwareScanning"]["onUpload"]["capGBPerMonth"] == 10_000
    (send,) = steps(38, props({}), account(kind="FileStorage"))
    assert send.body == {"properties": {"isEnabled": True, "overrideSubscriptionLevelSettings": True}}


def test_names_from_azure_cannot_break_out_of_a_fix() -> None:
    policy = props({"policyId": "x/../../y?z#{account}", "destinationAccount": FOREIGN_ID})
    (delete,) = steps(36, [policy])
    assert delete.path == f"{ID}/objectReplicationPolicies/x%2F..%2F..%2Fy%3Fz%23%7Baccount%7D"
    item = account({"allowSharedKeyAccess": True})
    item["id"] = ID.replace("contosobackups", 'a" check=x')
    row = next(row for row in az.assess(item, {}, OPTIONS) if row["number"] == 4)
    assert row["fix"] == '!azure-storage-posture-fix account_name=`a" check=x` check=no-shared-key'


def test_cross_tenant_replication_goes_policies_first() -> None:
    """Azure refuses to turn it off while a policy crosses tenants."""
    policy = props({"policyId": "p1", "destinationAccount": FOREIGN_ID}, name="p1")
    first, second = steps(12, TABLE[12].bad, replication=[policy])
    assert isinstance(first, az.Decide)
    assert "p1" in first.text
    assert second.body == {"properties": {"allowCrossTenantReplication": False}}
    assert len(steps(12, TABLE[12].bad, replication=[])) == 1


@pytest.mark.parametrize(("sku", "kind"), [("Standard_ZRS", az.Decide), ("Standard_LRS", az.Send)])
def test_a_sku_that_azure_does_not_change_is_left_alone(sku: str, kind: type) -> None:
    (step,) = steps(24, {"sku": sku})
    assert isinstance(step, kind)


def test_tls_is_a_compliance_finding() -> None:
    assert "Blob Storage refuses TLS 1.0 and 1.1" in found(2, TABLE[2].bad)["evidence"]
    assert "Blob Storage refuses TLS 1.0 and 1.1" in found(2, TABLE[2].unset)["evidence"]
    assert CHECKS[2].severity != "High"


def test_trusted_services_keep_what_else_bypasses() -> None:
    (send,) = steps(8, TABLE[8].bad)
    assert send.body["properties"]["networkAcls"]["bypass"] == "Logging, Metrics, AzureServices"


def test_a_sas_policy_keeps_its_period() -> None:
    (send,) = steps(17, TABLE[17].bad)
    assert send.body["properties"]["sasPolicy"] == {"sasExpirationPeriod": "1.00:00:00", "expirationAction": "Block"}
    (send,) = steps(18, TABLE[18].bad)
    assert send.body["properties"]["sasPolicy"]["sasExpirationPeriod"] == "7.00:00:00"
    assert send.body["properties"]["sasPolicy"]["requireUserBoundUserDelegationSasAction"] == "Block"


# Results


def line(result: str, severity: str, **more: Any) -> Json:
    return {"result": result, "severity": severity, **more}


def test_counts() -> None:
    rows = [line("fail", "High"), line("fail", "Medium"), line("pass", "High"), line("not_applicable", "Low")]
    assert az.posture_counts(account(), rows) == {
        "id": ID,
        "account": "contosobackups",
        "accountId": ID,
        "subscriptionId": SUBSCRIPTION,
        "subscriptionName": None,
        "resourceGroup": "rg-finance",
        **{
            f"{result}{severity}": 0
            for result in ("fail", "unset", "unknown")
            for severity in ("High", "Medium", "Low")
        },
        "failHigh": 1,
        "failMedium": 1,
        "pass": 1,
        "notApplicable": 1,
    }


def test_the_worst_account_comes_first() -> None:
    accounts = {
        "fine": [line("pass", "High"), line("not_applicable", "Low")],
        "many": [line("fail", "Medium")] * 9,
        "vague": [line("unset", "High")],
        "dark": [line("unknown", "High")],
        "bad": [line("fail", "High")],
        "worse": [line("fail", "High"), line("fail", "Medium")],
    }
    result = az.Worst(az.account_rank, 9)
    for name, rows in accounts.items():
        result.add(az.posture_counts({"id": ID.replace("contosobackups", name)}, rows))
    assert [row["account"] for row in result.rows(10_000)] == ["worse", "bad", "vague", "dark", "many", "fine"]


def test_the_worst_rows_are_kept_and_no_more() -> None:
    result = az.Worst(az.row_rank, 3)
    for number, severity in enumerate(["Low", "High", "Medium"] * 9):
        result.add(line("fail", severity, number=number))
    kept = result.rows(10_000)
    assert [row["severity"] for row in kept] == ["High"] * 3
    assert [row["number"] for row in kept] == [1, 4, 7], "of equals the first"
    assert result.count == 27
    assert len(result.rows(len(json.dumps(kept[0])) * 2)) == 2, "no more than fits"
