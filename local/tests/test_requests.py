"""How many requests every command sends on a sign-in that is warm, to an Azure that answers everything.

More of them are slower and use up the limits of a subscription: a change of a number here has to have a reason.
"""

from collections.abc import Iterator

import pytest

from .in_process import World, entries, sign_in, world
from .recorded_azure import SUBSCRIPTION
from .test_manifest import EXAMPLES

# For each example of a command in test_manifest, in their order. 1 is a question; a change is what it replaces, the change
# itself, and, where Azure's answer does not tell what came of it, what is there afterwards.
TABLE = {
    "azure-storage-access-list": [4],
    "azure-storage-access-remove": [7],
    "azure-storage-access-restore": [3],
    "azure-storage-account-activity-list": [2, 2],
    "azure-storage-account-create-update": [2, 1],
    "azure-storage-account-delegation-keys-revoke": [2],
    "azure-storage-account-delete": [1, 3],
    "azure-storage-account-find": [1, 1],
    "azure-storage-account-isolate": [6],
    "azure-storage-account-key-list": [2],
    "azure-storage-account-key-rotate": [4],
    "azure-storage-account-lifecycle-get": [1],
    "azure-storage-account-lifecycle-set": [2],
    "azure-storage-account-list": [2, 1, 1, 1],
    "azure-storage-account-lock-list": [1],
    "azure-storage-account-lock-remove": [1, 3],
    "azure-storage-account-lock-set": [2],
    "azure-storage-account-logging-get": [1],
    "azure-storage-account-logging-set": [2],
    "azure-storage-account-network-rule-add": [2],
    "azure-storage-account-network-rule-remove": [1],
    "azure-storage-account-posture": [21],
    "azure-storage-account-restore-settings": [1],
    "azure-storage-account-update": [2],
    "azure-storage-auth-complete": [0],
    "azure-storage-auth-reset": [0],
    "azure-storage-auth-start": [1],
    "azure-storage-auth-test": [1],
    "azure-storage-blob-container-delete": [1, 2],
    "azure-storage-blob-containers-create": [2, 1],
    "azure-storage-blob-containers-list": [2, 1],
    "azure-storage-blob-containers-update": [3, 1],
    "azure-storage-blob-copy": [4],
    "azure-storage-blob-delete": [1, 1],
    "azure-storage-blob-find": [1],
    "azure-storage-blob-get": [1],
    "azure-storage-blob-lease": [3, 3],
    "azure-storage-blob-legal-hold-set": [3],
    "azure-storage-blob-list": [1],
    "azure-storage-blob-metadata-set": [3],
    "azure-storage-blob-properties-get": [1, 1],
    "azure-storage-blob-properties-set": [3],
    "azure-storage-blob-put": [2],
    "azure-storage-blob-quarantine": [9, 8, 8],
    "azure-storage-blob-ranges-restore": [5],
    "azure-storage-blob-service-properties-get": [1],
    "azure-storage-blob-service-properties-set": [2, 1],
    "azure-storage-blob-snapshot-create": [2],
    "azure-storage-blob-tags-get": [1, 1],
    "azure-storage-blob-tags-set": [3, 3],
    "azure-storage-blob-tier-set": [3],
    "azure-storage-blob-undelete": [2, 5],
    "azure-storage-blob-versions-restore": [3],
    "azure-storage-container-immutability-delete": [3],
    "azure-storage-container-immutability-get": [1],
    "azure-storage-container-immutability-lock": [3],
    "azure-storage-container-immutability-set": [3],
    "azure-storage-container-lease": [3, 3],
    "azure-storage-container-legal-hold-clear": [3],
    "azure-storage-container-legal-hold-set": [3],
    "azure-storage-container-policy-list": [1],
    "azure-storage-container-policy-revoke": [3],
    "azure-storage-container-restore": [3, 5],
    "azure-storage-exposure-probe": [6],
    "azure-storage-generate-login-url": [0],
    "azure-storage-log-search": [2, 2],
    "azure-storage-posture-fix": [1],
    "azure-storage-resource-group-list": [1],
    "azure-storage-sas-create": [2, 2],
    "azure-storage-sas-inspect": [0, 0, 0],
    "azure-storage-subscriptions-list": [1],
    "azure-storage-triage": [13, 13],
}


@pytest.fixture(scope="module")
def azure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world(tmp_path_factory.mktemp("files")) as found:
        yield found


def test_every_command_is_in_the_table() -> None:
    assert TABLE.keys() == EXAMPLES.keys()


@pytest.mark.parametrize("name", sorted(EXAMPLES))
def test_requests(azure: World, name: str) -> None:
    """The first run of an instance also asks once for the account's blob endpoint, which it then remembers."""
    flow = "Authorization Code" if name == "azure-storage-generate-login-url" else "Device Code"
    params = {"auth_type": flow, "subscription_id": SUBSCRIPTION}
    counts = []
    for args in EXAMPLES[name]:
        sign_in(params, endpoint=True)
        azure.reset()
        entries(name, params, args)
        counts.append(len(azure.sent))
    assert counts == TABLE[name]
