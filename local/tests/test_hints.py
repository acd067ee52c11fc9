"""The next steps: true of each code, whole sentences, and possible with the form and the commands that there are."""

import re
from collections.abc import Iterable
from pathlib import Path

import pytest
import yaml

import AzureStorage as hints

FLOWS = (hints.AUTHORIZATION_CODE, hints.DEVICE_CODE, hints.CLIENT_CREDENTIALS, hints.MANAGED_IDENTITY)
# The labels of the form that belong to parameters which the manifest hides for some ways of signing in.
FIELD_LABELS = {
    "app_id": ("Application ID",),
    "tenant_id": ("Tenant ID",),
    "credentials": ("Client Secret", "secret"),
    "certificate": ("Certificate Thumbprint", "Certificate Private Key", "certificate"),
    "redirect_uri": ("Application redirect URI",),
    "auth_code": ("Authorization code",),
    "managed_identities_client_id": ("Azure Managed Identities Client ID",),
}
PERSONS_COMMANDS = ("!azure-storage-auth-start", "!azure-storage-auth-complete", "!azure-storage-generate-login-url")
PLANNED_COMMANDS = {
    "azure-storage-triage",
    "azure-storage-log-search",
    "azure-storage-access-list",
    "azure-storage-access-remove",
    "azure-storage-access-restore",
    "azure-storage-exposure-probe",
    "azure-storage-blob-versions-restore",
    "azure-storage-posture-fix",
    "azure-storage-account-lifecycle-get",
    "azure-storage-account-lifecycle-set",
}
# StorageErrorCode of the blob service's published interface, version 2025-01-05.
ALL_STORAGE_ERROR_CODES = """
AccountAlreadyExists AccountBeingCreated AccountIsDisabled AuthenticationFailed AuthorizationFailure
ConditionHeadersNotSupported ConditionNotMet EmptyMetadataKey InsufficientAccountPermissions InternalError
InvalidAuthenticationInfo InvalidHeaderValue InvalidHttpVerb InvalidInput InvalidMd5 InvalidMetadata
InvalidQueryParameterValue InvalidRange InvalidResourceName InvalidUri InvalidXmlDocument InvalidXmlNodeValue
Md5Mismatch MetadataTooLarge MissingContentLengthHeader MissingRequiredQueryParameter MissingRequiredHeader
MissingRequiredXmlNode MultipleConditionHeadersNotSupported OperationTimedOut OutOfRangeInput
OutOfRangeQueryParameterValue RequestBodyTooLarge ResourceTypeMismatch RequestUrlFailedToParse ResourceAlreadyExists
ResourceNotFound ServerBusy UnsupportedHeader UnsupportedXmlNode UnsupportedQueryParameter UnsupportedHttpVerb
AppendPositionConditionNotMet BlobAlreadyExists BlobImmutableDueToPolicy BlobNotFound BlobOverwritten
BlobTierInadequateForContentLength BlobUsesCustomerSpecifiedEncryption BlockCountExceedsLimit BlockListTooLong
CannotChangeToLowerTier CannotVerifyCopySource ContainerAlreadyExists ContainerBeingDeleted ContainerDisabled
ContainerNotFound ContentLengthLargerThanTierLimit CopyAcrossAccountsNotSupported CopyIdMismatch
FeatureVersionMismatch IncrementalCopyBlobMismatch IncrementalCopyOfEarlierVersionSnapshotNotAllowed
IncrementalCopySourceMustBeSnapshot InfiniteLeaseDurationRequired InvalidBlobOrBlock InvalidBlobTier InvalidBlobType
InvalidBlockId InvalidBlockList InvalidOperation InvalidPageRange InvalidSourceBlobType InvalidSourceBlobUrl
InvalidVersionForPageBlobOperation LeaseAlreadyPresent LeaseAlreadyBroken LeaseIdMismatchWithBlobOperation
LeaseIdMismatchWithContainerOperation LeaseIdMismatchWithLeaseOperation LeaseIdMissing
LeaseIsBreakingAndCannotBeAcquired LeaseIsBreakingAndCannotBeChanged LeaseIsBrokenAndCannotBeRenewed LeaseLost
LeaseNotPresentWithBlobOperation LeaseNotPresentWithContainerOperation LeaseNotPresentWithLeaseOperation
MaxBlobSizeConditionNotMet NoAuthenticationInformation NoPendingCopyOperation
OperationNotAllowedOnIncrementalCopyBlob PendingCopyOperation PreviousSnapshotCannotBeNewer PreviousSnapshotNotFound
PreviousSnapshotOperationNotSupported SequenceNumberConditionNotMet SequenceNumberIncrementTooLarge
SnapshotCountExceeded SnapshotOperationRateExceeded SnapshotsPresent SourceConditionNotMet SystemInUse
TargetConditionNotMet UnauthorizedBlobOverwrite BlobBeingRehydrated BlobArchived BlobNotArchived
AuthorizationSourceIPMismatch AuthorizationProtocolMismatch AuthorizationPermissionMismatch
AuthorizationServiceMismatch AuthorizationResourceTypeMismatch BlobAccessTierNotSupportedForAccountType
"""
STORAGE_ERROR_CODES = ALL_STORAGE_ERROR_CODES.split()
# Codes that no operation of the integration can meet.
NEVER_MET = {
    **dict.fromkeys(("AppendPositionConditionNotMet", "MaxBlobSizeConditionNotMet"), "no command appends to a blob"),
    **dict.fromkeys(
        (
            "InvalidPageRange",
            "InvalidVersionForPageBlobOperation",
            "SequenceNumberConditionNotMet",
            "SequenceNumberIncrementTooLarge",
        ),
        "no command writes pages",
    ),
    **dict.fromkeys(
        (
            "BlobOverwritten",
            "PreviousSnapshotCannotBeNewer",
            "PreviousSnapshotNotFound",
            "PreviousSnapshotOperationNotSupported",
        ),
        "no command asks for the difference of two snapshots",
    ),
    **dict.fromkeys(
        (
            "IncrementalCopyBlobMismatch",
            "IncrementalCopyOfEarlierVersionSnapshotNotAllowed",
            "IncrementalCopySourceMustBeSnapshot",
        ),
        "no command starts an incremental copy",
    ),
    **dict.fromkeys(
        ("BlobTierInadequateForContentLength", "CannotChangeToLowerTier", "ContentLengthLargerThanTierLimit"),
        "no command sets the tiers of premium page blobs",
    ),
    "AccountAlreadyExists": "accounts are created through Resource Manager",
    "CopyAcrossAccountsNotSupported": "only API versions older than any that is sent refuse such copies",
}
# Of the numbers that Microsoft's table lists, those that a sign-in here can end with.
AADSTS_NUMBERS = (
    *(16000, 16003, 28002, 50005, 50011, 50014, 50020, 50033, 50034, 50053, 50055, 50057, 50058, 50059, 50072, 50074),
    *(50076, 50078, 50079, 50087, 50088, 50089, 50097, 50105, 50126, 50128, 50129, 50131, 50132, 50133, 50134, 50144),
    *(50147, 50155, 50158, 50173, 50187, 50194, 50196, 51004, 53000, 53001, 53002, 53003, 53004, 53011, 54005, 65001),
    *(65004, 65005, 70000, 70001, 70002, 70004, 70008, 70011, 70016, 70018, 70019, 70020, 70043, 90002, 90006, 90012),
    *(90014, 90019, 90024, 90033, 90038, 90055, 90072, 90094, 90095, 90119, 90120, 90130, 500011, 500021, 500022),
    *(500212, 500213, 501481, 530003, 530032, 530035, 650052, 650056, 650057, 700005, 700011, 700016, 700022, 700025),
    *(700027, 700030, 700082, 700084, 900144, 900382, 900432, 900971, 7000112, 7000215, 7000218, 7000222, 9001023),
    9002327,
)


def steps(hint: hints.Hint) -> list[str]:
    """Every text of a hint, whatever the way of signing in."""
    return [hint] if isinstance(hint, str) else list(hint.values())


def every_step() -> Iterable[tuple[str, str]]:
    """Each next step there is, with the code that leads to it."""
    tables: tuple[dict[str, hints.Hint], ...] = (
        {**hints.OAUTH_HINTS},
        hints.OAUTH_FALLBACK_HINTS,
        {str(number): hint for number, hint in hints.AADSTS_HINTS.items()},
        {**hints.ARM_HINTS},
        {**hints.BLOB_HINTS},
        {str(status): hint for status, hint in hints.STATUS_HINTS.items()},
        {sign: step for sign, _, step in hints.NETWORK_HINTS},
    )
    for table in tables:
        yield from ((code, step) for code, hint in table.items() for step in steps(hint))
    yield from (("consent", hints.consent_hint(storage)) for storage in (True, False))


EVERY_STEP = sorted(set(every_step()))


@pytest.fixture(scope="module")
def commands() -> dict[str, set[str]]:
    """The arguments of each command."""
    return {name: set(command.arguments()) for name, command in hints.COMMANDS.items()}


@pytest.fixture(scope="module")
def hidden_fields() -> dict[str, set[str]]:
    """The parameters that the form hides for each way of signing in."""
    manifest = yaml.safe_load((Path(__file__).parents[2] / "AzureStorage.yml").read_text(encoding="utf-8"))
    return {
        trigger["conditions"][0]["value"]: {
            effect["name"] for effect in trigger["effects"] if effect["action"]["hidden"]
        }
        for trigger in manifest["triggers"]
        if trigger["conditions"][0]["name"] == "auth_type"
    }


def sign_in_steps(flow: str) -> Iterable[tuple[str, str]]:
    """The steps that a sign-in of a kind can lead to, by the code."""
    yield from ((code, hints.hint_for(hint, flow)) for code, hint in hints.OAUTH_FALLBACK_HINTS.items())
    yield from ((str(number), hints.aadsts_hint(number, flow)) for number in hints.AADSTS_HINTS)
    if flow in hints.USER_FLOWS:
        yield from (("consent", hints.consent_hint(storage)) for storage in (True, False))


@pytest.mark.parametrize(("code", "step"), EVERY_STEP)
def test_a_step_is_whole_sentences(code: str, step: str) -> None:
    assert re.match(r"[A-Z]", step), code
    assert step.endswith(".") and not step.endswith(".."), code
    assert "  " not in step and step == step.strip()
    for sentence in re.split(r"(?<=[a-z)])\. ", step):
        assert re.match(r"[A-Z!]", sentence), f"{code}: {sentence}"


@pytest.mark.parametrize(("code", "step"), EVERY_STEP)
def test_a_step_survives_the_redactor(code: str, step: str) -> None:
    assert "code=..." not in step
    assert all(value == "<the" for value in re.findall(r"\bcode=(\S+)", step)), code


def test_every_command_named_exists(commands: dict[str, set[str]]) -> None:
    named = {name for _, step in EVERY_STEP for name in re.findall(r"!(azure-[a-z-]*[a-z])", step)}
    assert named - set(commands) <= PLANNED_COMMANDS
    assert len(named) > 20


def test_every_argument_of_a_named_command_exists(commands: dict[str, set[str]]) -> None:
    """`!command name=value` names an argument that the command has; text in backquotes is an argument of some command."""
    for code, step in EVERY_STEP:
        for command, argument in re.findall(r"!(azure-[a-z-]*[a-z]) ([a-z_]+)=", step):
            assert argument in commands[command], f"{code}: {command} {argument}"
        for argument in re.findall(r"`([a-z_]+)`", step):
            known = {name for names in commands.values() for name in names}
            assert argument in known or any(name.startswith(argument) for name in known), f"{code}: {argument}"


def test_commands_are_named_with_an_exclamation_mark() -> None:
    assert not [code for code, step in EVERY_STEP if re.search(r"(?<!!)\bazure-storage-", step)]


@pytest.mark.parametrize("flow", FLOWS)
def test_no_step_names_a_field_that_the_form_hides(flow: str, hidden_fields: dict[str, set[str]]) -> None:
    labels = [label for field in hidden_fields[flow] for label in FIELD_LABELS[field]]
    assert labels
    named = {(code, label) for code, step in sign_in_steps(flow) for label in labels if label in step}
    assert not named


def test_every_hidden_field_has_its_label(hidden_fields: dict[str, set[str]]) -> None:
    assert set(hidden_fields) == set(FLOWS)
    assert {field for fields in hidden_fields.values() for field in fields} <= set(FIELD_LABELS)


@pytest.mark.parametrize("flow", [hints.CLIENT_CREDENTIALS, hints.MANAGED_IDENTITY])
def test_an_application_is_not_told_to_use_a_browser(flow: str) -> None:
    assert not [code for code, step in sign_in_steps(flow) for name in PERSONS_COMMANDS if name in step]


def test_a_login_url_is_for_authorization_code_only() -> None:
    for flow in (hints.DEVICE_CODE, hints.CLIENT_CREDENTIALS, hints.MANAGED_IDENTITY):
        assert not [code for code, step in sign_in_steps(flow) if "!azure-storage-generate-login-url" in step]
    assert "!azure-storage-generate-login-url" in hints.aadsts_hint(501481, hints.AUTHORIZATION_CODE)


def test_a_device_code_is_for_device_code_only() -> None:
    for flow in (hints.AUTHORIZATION_CODE, hints.CLIENT_CREDENTIALS, hints.MANAGED_IDENTITY):
        assert [hints.aadsts_hint(number, flow) for number in (70016, 70018, 70019, 90119, 90120, 50134)] == [""] * 6


@pytest.mark.parametrize("flow", [*FLOWS, ""])
def test_every_oauth_name_has_a_step_for_every_way_of_signing_in(flow: str) -> None:
    assert all(hints.hint_for(hint, flow) for hint in hints.OAUTH_FALLBACK_HINTS.values())
    assert not set(hints.OAUTH_HINTS) & set(hints.OAUTH_FALLBACK_HINTS)


@pytest.mark.parametrize("number", AADSTS_NUMBERS)
def test_every_number_of_a_sign_in_has_a_step(number: int) -> None:
    assert any(hints.aadsts_hint(number, flow) for flow in FLOWS)


def test_an_unknown_number_has_no_step() -> None:
    assert hints.aadsts_hint(99999, hints.DEVICE_CODE) == ""


def test_a_single_page_redirect_uri_is_to_be_registered_under_another_platform() -> None:
    step = hints.aadsts_hint(9002327, hints.AUTHORIZATION_CODE)
    assert "single-page" in step and "platform Web or Mobile and desktop applications" in step


def test_numbers_mean_what_microsoft_says() -> None:
    device, code = hints.DEVICE_CODE, hints.AUTHORIZATION_CODE
    assert hints.aadsts_hint(70001, device) == hints.aadsts_hint(700016, device)
    assert "disabled" in hints.aadsts_hint(7000112, device)
    assert "typed" in hints.aadsts_hint(70018, device)
    assert "security defaults" in hints.aadsts_hint(530035, device)
    assert "Conditional Access" in hints.aadsts_hint(53003, device)
    assert "length" in hints.aadsts_hint(50147, code)
    assert "no redirect URI" in hints.aadsts_hint(900971, code)
    assert "more than one resource" in hints.aadsts_hint(700022, device)
    assert "another cloud" in hints.aadsts_hint(90038, device)
    assert "malicious" in hints.aadsts_hint(50053, device)


def test_a_dead_grant_leads_to_a_new_sign_in() -> None:
    for number in hints.DEAD_GRANTS:
        for flow in hints.USER_FLOWS:
            assert "!azure-storage-auth-start" in hints.aadsts_hint(number, flow)


def test_nobody_is_told_to_change_the_cortex_application() -> None:
    storage = hints.consent_hint(storage=True)
    assert "self-deployed application with the delegated permission Azure Storage user_impersonation" in storage
    assert "account SAS or account key" in storage and "Resource Manager commands keep working" in storage
    assert "app registration" not in storage + hints.consent_hint(storage=False)
    assert "Azure Service Management" in hints.consent_hint(storage=False)
    assert set(hints.AADSTS_HINTS) >= hints.CONSENT_NUMBERS


def test_the_list_of_storage_error_codes_is_whole() -> None:
    assert len(STORAGE_ERROR_CODES) == len(set(STORAGE_ERROR_CODES)) == 114
    assert set(NEVER_MET) <= set(STORAGE_ERROR_CODES)
    assert not set(NEVER_MET) & set(hints.BLOB_HINTS)


@pytest.mark.parametrize("code", sorted(set(STORAGE_ERROR_CODES) - set(NEVER_MET)))
def test_every_storage_error_code_has_a_step(code: str) -> None:
    assert hints.BLOB_HINTS[code]


@pytest.mark.parametrize("kind", ["SourceIP", "Protocol", "Service", "ResourceType"])
def test_a_sas_for_something_else_is_not_a_matter_of_roles(kind: str) -> None:
    step = hints.BLOB_HINTS[f"Authorization{kind}Mismatch"]
    assert "SAS" in step
    assert "role" not in step


def test_a_missing_permission_is_the_sas_or_a_data_role() -> None:
    step = hints.BLOB_HINTS["AuthorizationPermissionMismatch"]
    assert "SAS" in step and "include=tags" in step
    assert all(f"Storage Blob Data {role}" in step for role in ("Reader", "Contributor", "Owner"))


def test_a_firewall_in_the_same_region_needs_a_subnet() -> None:
    step = hints.BLOB_HINTS["AuthorizationFailure"]
    assert all(word in step for word in ("region", "subnet", "private endpoint", "SAS"))


def test_a_customers_key_is_not_a_matter_of_permissions() -> None:
    step = hints.BLOB_HINTS["BlobUsesCustomerSpecifiedEncryption"]
    assert "key" in step and "No role or SAS helps" in step


def test_a_delegation_key_lives_seven_days() -> None:
    step = hints.BLOB_HINTS["InvalidXmlNodeValue"]
    assert "7 days" in step and "clock" in step


def test_a_status_that_can_mean_anything_has_no_step() -> None:
    assert not {400, 403, 404, 409, 412} & set(hints.STATUS_HINTS)
    assert {401, 408, 429, 500, 503} <= set(hints.STATUS_HINTS)
    assert not {"Conflict", "BadRequest", "Forbidden", "OperationNotAllowed"} & {*hints.ARM_HINTS, *hints.BLOB_HINTS}


def test_the_same_code_says_the_same_of_both_services() -> None:
    shared = set(hints.ARM_HINTS) & set(hints.BLOB_HINTS)
    differ = {code for code in shared if hints.ARM_HINTS[code] != hints.BLOB_HINTS[code]}
    assert differ == {"AuthenticationFailed", "ResourceNotFound", "OperationTimedOut", "ServerBusy"}


@pytest.mark.parametrize(("sign", "words"), [row[:2] for row in hints.NETWORK_HINTS])
def test_what_happened_on_the_network_names_the_host(sign: str, words: str) -> None:
    text = words.format(host="contoso.blob.core.windows.net")
    assert "contoso.blob.core.windows.net" in text and "{" not in text
    assert text.endswith(".") and re.match(r"[a-z]", text)


def test_a_certificate_is_found_before_tls_in_general() -> None:
    signs = [sign for sign, _, _ in hints.NETWORK_HINTS]
    assert signs.index("ProxyError") == 0
    assert signs.index("CERTIFICATE_VERIFY_FAILED") < signs.index("SSLError")
