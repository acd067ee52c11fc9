"""The posture checks: every one of them with a good, a bad, an unset and a forbidden account, and the reports."""

import copy
import csv
import html.parser
import io
import json
import re
import shlex
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


KEEP = "deleteRetentionPolicy"
KEEP_BOX = "containerDeleteRetentionPolicy"
SAS = "sasPolicy"
SMB = "protocolSettings.smb"
SHARE = "shareDeleteRetentionPolicy"
SHARING = "dataCollaborationPolicyProperties"
SWITCHES = ("allowStorageConnectors", "allowBlobAccessPoints", "allowStorageDataShares", "allowCrossTenantDataSharing")
OLD = {"creationTime": "2020-01-01T00:00:00Z"}


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
        {"allowSharedKeyAccessForServices": {name: {"enabled": False} for name in az.KEY_SERVICES}},
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
        {"networkAcls.resourceAccessRules": [{"tenantId": None, "resourceId": FOREIGN_ID}]},
    ),
    11: one("privateEndpointConnections", [endpoint("Approved")], [endpoint("Pending")]),
    12: Row({"allowCrossTenantReplication": False}, {"allowCrossTenantReplication": True}, OLD),
    # Microsoft says that unset is false
    13: one("allowCrossTenantDelegationSas", False, True, "pass"),
    14: one("defaultToOAuthAuthentication", True, False),
    15: one("keyPolicy.keyExpirationPeriodInDays", 90, 91),
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
}
NUMBERS = sorted(CHECKS)


def found(number: int, data: Any, item: Json | None = None, options: Any = OPTIONS, **facts: Any) -> Json:
    """The row of one check."""
    check = CHECKS[number]
    if check.source != "account":
        facts[check.source] = data
        rows = az.assess(item or account(), facts, options)
    else:
        changes = dict(data)
        sku = {"sku": {"name": changes.pop("sku")}} if "sku" in changes else {}
        rows = az.assess(item or account(changes, **sku), facts, options)
    return next(row for row in rows if row["number"] == number)


def test_table_is_whole() -> None:
    assert NUMBERS == list(range(1, 42)) == sorted(TABLE)
    assert [check.number for check in az.CHECKS] == NUMBERS
    names = [check.name for check in az.CHECKS]
    assert len(set(names)) == 41
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", name) for name in names)
    assert {check.source for check in az.CHECKS} <= {"account", *az.DEEP_SOURCES}
    assert {check.severity for check in az.CHECKS} == {"High", "Medium", "Low"}
    assert all(check.fix and check.title and check.property for check in az.CHECKS)


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
        assert "unset" in row["evidence"]
        assert row["fix"]
    else:
        assert re.search(r"unset, which|no ", row["evidence"])


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
        assert row["fix"].startswith("az role assignment create")


@pytest.mark.parametrize("number", [n for n in NUMBERS if CHECKS[n].source != "account"])
def test_a_feature_that_is_not_there(number: int) -> None:
    for error in (MISSING, ServiceError("read", 400, "FeatureNotSupportedForAccount", "")):
        row = found(number, error)
        assert row["result"] == ("unset" if CHECKS[number].source == "defender" else "not_applicable"), row
    row = found(number, ServiceError("read", 404, "ResourceGroupNotFound", ""))
    assert row["result"] == "unknown"


def test_a_source_that_was_not_asked_leaves_its_checks_out() -> None:
    rows = az.assess(account(), {}, OPTIONS)
    assert [row["number"] for row in rows] == [n for n in NUMBERS if CHECKS[n].source == "account"]
    assert [row["number"] for row in az.assess(account(), {"locks": []}, OPTIONS) if row["number"] in (25, 26)] == [
        25,
        26,
    ]


def test_an_empty_account_passes_only_what_unset_makes_safe() -> None:
    passed = {row["number"] for row in az.assess(account(), {}, OPTIONS) if row["result"] == "pass"}
    assert passed == {9, 10, 13, 21}


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
    both = found(16, {"keyCreationTime": {"key1": made(91), "key2": made(91)}})
    assert both["fix"].endswith("key=both")
    assert found(16, {"keyCreationTime": {"key1": made(91), "key2": made(1)}})["fix"].endswith("key=key1")
    assert found(16, {"keyCreationTime": {"key1": made(90.5), "key2": made(1)}})["result"] == "pass"
    assert found(16, {"keyCreationTime": {"key1": "rubbish", "key2": made(1)}})["result"] == "unset"
    assert (
        found(
            16, {"keyCreationTime": {"key1": made(40), "key2": made(1)}}, options=OPTIONS._replace(max_key_age_days=30)
        )["result"]
        == "fail"
    )
    assert found(16, {"allowSharedKeyAccess": True, **TABLE[16].bad})["result"] == "fail"


def test_service_keys_follow_the_account() -> None:
    assert found(5, {"allowSharedKeyAccess": False})["result"] == "pass"
    assert found(5, {"allowSharedKeyAccess": False, **TABLE[5].bad})["result"] == "fail"


def test_cross_tenant_replication_by_age() -> None:
    assert found(12, {"creationTime": "2023-12-14T23:00:00.0000000Z"})["result"] == "unset"
    row = found(12, {"creationTime": "2023-12-16T00:00:00.1234567Z"})
    assert row["result"] == "pass"
    assert "unset, which" in row["evidence"]
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
    fix = found(
        9,
        {
            "networkAcls": {
                "ipRules": [{"value": "0.0.0.0/1"}, {"value": "128.0.0.0/1"}],
                "ipv6Rules": [{"value": "::/0"}],
            }
        },
    )["fix"]
    first, second = fix.splitlines()
    assert first.endswith("ip_rules=0.0.0.0/1,128.0.0.0/1")
    assert second.endswith("--remove properties.networkAcls.ipv6Rules 0")


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
    assert found(11, {"privateEndpointConnections": []})["fix"].startswith("az network private-endpoint create")
    fixes = found(11, TABLE[11].bad)["fix"].splitlines()
    assert [line.split(" --")[0] for line in fixes] == [
        "az storage account private-endpoint-connection reject",
        "az network private-endpoint create",
    ]


def test_local_users() -> None:
    assert found(20, {}, local_users=[])["result"] == "pass"
    assert found(20, {}, local_users=[{"name": "bob"}])["result"] == "fail"
    assert found(20, {}, local_users=MISSING)["result"] == "pass"
    assert found(20, {}, local_users=FORBIDDEN)["result"] == "unknown"
    row = found(20, {"isSftpEnabled": True}, local_users=FORBIDDEN)
    assert row["result"] == "fail"
    assert "is_sftp_enabled=false" in row["fix"]


def test_locks_count_only_on_the_account_and_above() -> None:
    assert found(25, [lock("CanNotDelete", ID.rsplit("/providers", 1)[0].upper())])["result"] == "pass"
    assert found(25, [lock("CanNotDelete", f"{ID}/blobServices/default/containers/a")])["result"] == "fail"
    assert found(25, [lock("CanNotDelete", ID[:-1])])["result"] == "fail"
    assert found(25, {"value": [lock("ReadOnly")]})["result"] == "pass"


def test_permanent_delete_has_its_own_fix() -> None:
    data = props({KEEP: {"enabled": True, "days": 30, "allowPermanentDelete": True}})
    row = found(27, data)
    assert row["result"] == "fail"
    assert row["fix"].startswith("az resource update")
    assert len(found(27, props({KEEP: {"enabled": False, "allowPermanentDelete": True}}))["fix"].splitlines()) == 2


def test_a_fix_never_shortens_what_is_kept() -> None:
    assert "delete_retention_policy_days=14" in found(27, TABLE[27].bad)["fix"]
    row = found(31, props({"restorePolicy.enabled": False, KEEP: {"enabled": True, "days": 200}}))
    assert "delete_retention_policy_days=200" in row["fix"]


def test_website_without_the_new_property() -> None:
    assert found(32, props({}), containers=[container("$web")])["result"] == "unset"
    assert found(32, props({}), containers=[container("box")])["result"] == "pass"
    assert found(32, props({}), containers=FORBIDDEN)["result"] == "unset"


def test_anonymous_blobs_look_at_the_containers() -> None:
    row = found(3, {}, containers=[container("box", publicAccess="Blob")])
    assert row["result"] == "unset"
    assert "1 of them public" in row["evidence"]
    assert "of them public" not in found(3, {}, containers=FORBIDDEN)["evidence"]


def test_containers() -> None:
    deleted = container("box", publicAccess="Blob", deleted=True)
    assert found(34, [deleted])["result"] == "pass"
    row = found(34, TABLE[34].bad, account({"allowBlobPublicAccess": False}))
    assert row["result"] == "fail"
    assert "overrides" in row["evidence"]
    assert len(found(34, [container(name, publicAccess="Blob") for name in "abc"])["fix"].splitlines()) == 3


def test_holds() -> None:
    policy = {"properties": {"state": "Locked"}}
    assert found(35, [container("evidence", immutabilityPolicy=policy)])["result"] == "pass"
    policy = {"properties": {"state": "Unlocked"}}
    assert found(35, [container("evidence", immutabilityPolicy=policy)])["result"] == "fail"
    assert found(35, [container("other", hasLegalHold=False)])["result"] == "not_applicable"


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
    assert row["fix"] == f"az resource delete --ids {ID}/dataShares/out --api-version 2026-09-01"


def test_rows() -> None:
    row = found(4, {"allowSharedKeyAccess": True})
    assert row == {
        "id": f"{ID}#no-shared-key",
        "account": "contosobackups",
        "accountId": ID,
        "subscriptionId": SUBSCRIPTION,
        "resourceGroup": "rg-finance",
        "number": 4,
        "check": "no-shared-key",
        "title": CHECKS[4].title,
        "severity": "High",
        "cis": "9.3.1.3",
        "property": "allowSharedKeyAccess",
        "result": "fail",
        "evidence": "allowSharedKeyAccess is true",
        "fix": f"!azure-storage-account-update account_name=contosobackups resource_group_name=rg-finance subscription_id={SUBSCRIPTION} allow_shared_key_access=false",
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
            assert len(az.assess(account(), dict.fromkeys(az.DEEP_SOURCES, shape), OPTIONS)) == 41
    item = {
        "id": ID,
        "properties": dict.fromkeys(("networkAcls", "sasPolicy", "keyCreationTime", "encryption"), rubbish),
    }
    rows = az.assess(item, facts, OPTIONS)
    assert len(rows) == 41
    assert {row["result"] for row in rows} <= RESULTS
    assert next(row for row in rows if row["number"] == 7)["result"] == "unset"
    assert len(az.assess({"id": ID, "properties": rubbish}, {}, OPTIONS)) == 23 + 2


# Fixes

WHERE = {"account_name", "resource_group_name", "subscription_id"}


def all_fixes() -> list[str]:
    """One line each, of every check when bad, unset and forbidden."""
    rows = [found(number, data) for number in NUMBERS for data in (TABLE[number].bad, TABLE[number].unset)]
    return [line for row in rows for line in row["fix"].splitlines()]


def test_fixes_are_filled_and_name_the_account() -> None:
    assert len(all_fixes()) > 60
    for line in all_fixes():
        assert not re.search(r"\{\w*\}", line), line
        assert line.startswith(("!azure-storage-", "az ", "Only creation sets it:")), line
        assert "contosobackups" in line
        if not line.startswith("Only"):
            assert SUBSCRIPTION in line


def test_our_fixes_parse() -> None:
    """Every command is registered, has the arguments, and its own readers take the values."""
    seen = set()
    for line in all_fixes():
        if not line.startswith("!"):
            continue
        name, *words = line[1:].split(" ")
        given = dict(word.split("=", 1) for word in words)
        arguments = az.COMMANDS[name].arguments()
        assert given.keys() >= WHERE
        assert given.keys() <= arguments.keys(), line
        seen.add(name)
        for key, value in given.items():
            if not value.startswith("<"):
                arguments[key].reader.read(value)
    assert len(seen) > 5


def test_cli_fixes_parse_as_a_shell_reads_them() -> None:
    for line in all_fixes():
        if not line.startswith("az "):
            continue
        words = shlex.split(line)
        assert all(word == "az" or word for word in words)
        if "--body" in words:
            json.loads(words[words.index("--body") + 1])


def test_names_from_azure_cannot_break_out_of_a_fix() -> None:
    group = ID.replace("rg-finance", "rg(1)")
    item = account({"dataCollaborationPolicyProperties": {SWITCHES[0]: True}})
    item["id"] = group
    row = next(row for row in az.assess(item, {}, OPTIONS) if row["number"] == 41)
    assert group in shlex.split(row["fix"])
    policy = props({"policyId": "x; rm -rf / #{account}", "destinationAccount": FOREIGN_ID})
    words = shlex.split(found(36, [policy])["fix"])
    assert words[-1] == "x; rm -rf / #{account}"
    rules = [{"tenantId": "other", "resourceId": "/subscriptions/x`a b"}]
    assert found(10, {"networkAcls.resourceAccessRules": rules})["fix"].endswith('resource_ids="/subscriptions/xa b"')


# Reports


def line(result: str, severity: str, name: str = "a", **more: Any) -> Json:
    base = {"account": name, "accountId": f"/{name}", "subscriptionId": "s", "resourceGroup": "g"}
    return {**base, "result": result, "severity": severity, **more}


def test_summary_puts_the_worst_first() -> None:
    rows = [
        line("pass", "High", "fine"),
        line("not_applicable", "Low", "fine"),
        *[line("fail", "Medium", "many")] * 9,
        line("unset", "High", "vague"),
        line("unknown", "High", "dark"),
        line("fail", "High", "bad"),
        line("fail", "High", "worse"),
        line("fail", "Medium", "worse"),
    ]
    counts = az.summary(rows)
    assert [row["account"] for row in counts] == ["worse", "bad", "vague", "dark", "many", "fine"]
    assert counts[0] == {
        **{
            key: "worse" if key == "account" else value
            for key, value in line("", "", "worse").items()
            if key not in ("result", "severity")
        },
        **{
            f"{result}{severity}": 0
            for result in ("fail", "unset", "unknown")
            for severity in ("High", "Medium", "Low")
        },
        "failHigh": 1,
        "failMedium": 1,
        "pass": 0,
        "notApplicable": 0,
    }
    assert (counts[-1]["pass"], counts[-1]["notApplicable"]) == (1, 1)
    assert az.summary([]) == []


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r"])
def test_csv_runs_no_formula(start: str) -> None:
    text = az.as_csv([line("fail", "High", f'{start}cmd|" /C calc"!A0', evidence=f"{start}1+1")])
    header, cells = csv.reader(io.StringIO(text, newline=""))
    row = dict(zip(header, cells, strict=True))
    assert row["account"] == f'\'{start}cmd|" /C calc"!A0'
    assert row["evidence"] == f"'{start}1+1"
    assert not any(cell.startswith(tuple("=+-@\t\r")) for cell in cells)


def test_csv_has_every_row_and_multiline_fixes() -> None:
    rows = az.assess(account(TABLE[11].bad), {}, OPTIONS)
    found_rows = list(csv.DictReader(io.StringIO(az.as_csv(rows), newline="")))
    assert len(found_rows) == len(rows)
    assert [row["number"] for row in found_rows] == [str(row["number"]) for row in rows]
    assert found_rows[10]["fix"] == rows[10]["fix"]


class Page(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, Json]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def test_html_is_escaped_and_needs_nothing_else() -> None:
    evil = '<script>alert("x")</script>&<img src=x onerror=1>'
    rows = [line("not_applicable", "High", evil, evidence=evil, fix=evil, number=1, title="t")]
    page = Page()
    text = az.as_html(rows, evil)
    page.feed(text)
    tags = [tag for tag, _ in page.tags]
    assert not {"script", "img", "link", "iframe", "object", "base"} & set(tags)
    assert not any({"src", "href", "onerror"} & attrs.keys() for _, attrs in page.tags)
    assert not re.search(r"url\(|@import|https?://", text)
    assert page.text.count(evil) == 6  # title, heading, account twice, evidence, fix


def test_html_is_accessible() -> None:
    page = Page()
    page.feed(az.as_html(az.assess(account(), {}, OPTIONS), "Posture"))
    tags = [tag for tag, _ in page.tags]
    assert dict(page.tags)["html"] == {"lang": "en"}
    assert tags.count("caption") == tags.count("table") == 2
    assert tags.count("main") == tags.count("h1") == 1
    assert all(attrs.get("scope") in ("col", "row") for tag, attrs in page.tags if tag == "th")
    assert "High" in page.text
    assert "unset" in page.text
