"""What a client may ask of a cloud before anybody has signed in: the addresses of its services."""

import urllib.parse

from .store import Arm, Json


def endpoints(arm: Arm) -> Json:
    """As `az cloud register` reads it."""
    storage = urllib.parse.urlsplit(arm.blobs.endpoint("any")).netloc.removeprefix("any.blob.")
    return {
        "name": "AzureLocal",
        "portal": arm.url,
        "resourceManager": arm.url,
        "graph": arm.authority_url,
        "graphAudience": arm.authority_url,
        "microsoftGraphResourceId": f"{arm.url}/graph",  # nobody answers there, but the command line wants an address
        "media": arm.url,
        "authentication": {
            "loginEndpoint": arm.authority_url,
            "audiences": [arm.url],
            "tenant": arm.tenant,
            "identityProvider": "AAD",
        },
        "suffixes": {"storage": storage, "keyVaultDns": "vault.invalid", "sqlServerHostname": "sql.invalid"},
    }
