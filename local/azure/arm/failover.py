"""Geo-redundant accounts: where their second copy is, and how they fail over to it.

https://learn.microsoft.com/azure/storage/common/storage-disaster-recovery-guidance

Not modelled: writes that are lost after the last synchronisation, reading from the secondary endpoint, and the features
of an account that exclude a failover. The code for an account without a second copy is a guess.
"""

import uuid
from datetime import datetime, timedelta, timezone

from ..front import Reply
from ..times import now, written
from . import accounts
from .answers import ArmError, bad_values, empty
from .call import Call
from .store import Arm, Json, Operation

PAIRS = {
    "westeurope": "northeurope",
    "northeurope": "westeurope",
    "eastus": "westus",
    "westus": "eastus",
    "eastus2": "centralus",
    "centralus": "eastus2",
    "westus2": "westcentralus",
    "westcentralus": "westus2",
    "uksouth": "ukwest",
    "ukwest": "uksouth",
    "germanywestcentral": "germanynorth",
    "germanynorth": "germanywestcentral",
    "chinanorth3": "chinaeast3",
    "chinaeast2": "chinanorth2",
}
LAG = timedelta(minutes=5)


def is_geo(account: Json) -> bool:
    return "G" in account["sku"]["name"].removeprefix("Standard_")


def tell_secondary(arm: Arm, account: Json) -> None:
    """What the properties tell of the second copy, which there is or is not any more."""
    properties = account["properties"]
    for name in ("secondaryLocation", "statusOfSecondary", "secondaryEndpoints"):
        properties.pop(name, None)
    if not is_geo(account):
        return
    properties["secondaryLocation"] = PAIRS.get(properties["primaryLocation"], properties["primaryLocation"])
    properties["statusOfSecondary"] = "available"
    if account["sku"]["name"].startswith("Standard_RA"):
        properties["secondaryEndpoints"] = {"blob": arm.blobs.endpoint(f"{account['name']}-secondary")}


def stats(account: Json) -> Json:
    """What $expand=geoReplicationStats adds."""
    if not is_geo(account):
        return {}
    can = account["properties"].get("failoverInProgress") is not True
    found = {
        "status": "Live",
        "lastSyncTime": written(datetime.now(timezone.utc) - LAG),
        "canFailover": can,
        "canPlannedFailover": can,
        "postFailoverRedundancy": "Standard_LRS",
        "postPlannedFailoverRedundancy": planned_redundancy(account),
    }
    return {"geoReplicationStats": found}


def planned_redundancy(account: Json) -> str:
    """After a planned failover, the copies in zones are in the other region, where there were none."""
    return str(account["sku"]["name"]).replace("GZRS", "GRS")


def start(arm: Arm, call: Call) -> Reply:
    account = accounts.of(arm, call)
    kind = call.query.get("failoverType", "")
    if kind.lower() not in ("", "planned"):
        raise bad_values("failoverType")
    if not is_geo(account) or account["properties"].get("failoverInProgress"):
        message = f"A failover of the storage account {account['name']} is not possible in its current state."
        raise ArmError(409, "FailoverNotPossible", message)
    account["properties"]["failoverInProgress"] = True
    operation = str(uuid.uuid4())
    arm.operations[operation] = Operation(arm.polls, account, lambda: finish(arm, account, planned=bool(kind)))
    return empty(202, Location=accounts.operation_url(arm, account, operation, call.version), **{"Retry-After": "1"})


def finish(arm: Arm, account: Json, *, planned: bool) -> None:
    """The regions have changed places. The location of the resource does not change, and restores begin anew."""
    properties = account["properties"]
    properties.pop("failoverInProgress")
    properties |= {"primaryLocation": properties["secondaryLocation"], "lastGeoFailoverTime": now()}
    sku = planned_redundancy(account) if planned else "Standard_LRS"
    account["sku"] = {"name": sku, "tier": "Standard"}
    tell_secondary(arm, account)
    policy = arm.services[account["name"]].get("restorePolicy") or {}
    if policy.get("minRestoreTime"):
        policy["minRestoreTime"] = now()
