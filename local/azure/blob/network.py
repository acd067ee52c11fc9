"""The firewall of an account. https://learn.microsoft.com/azure/storage/common/storage-network-security"""

import ipaddress
from typing import Any

from .call import Refusal


def check_network(properties: dict[str, Any], client: str) -> None:
    """Refusal for a caller whose address the account's network rules do not let in."""
    rules = properties.get("networkAcls") or {}
    closed = properties.get("publicNetworkAccess") in ("Disabled", "SecuredByPerimeter")
    if not closed and rules.get("defaultAction", "Allow") != "Deny":
        return
    allowed = [*(rules.get("ipRules") or []), *(rules.get("ipv6Rules") or [])]
    if closed or not any(covers(str(rule.get("value", "")), client) for rule in allowed):
        raise Refusal(403, "AuthorizationFailure", "This request is not authorized to perform this operation.")


def covers(rule: str, client: str) -> bool:
    """Whether a rule, which is an address, a network or a range of addresses, has the address."""
    first, dash, last = rule.partition("-")
    try:
        address = ipaddress.ip_address(client)
        if not dash:
            return address in ipaddress.ip_network(rule, strict=False)
        return int(ipaddress.ip_address(first)) <= int(address) <= int(ipaddress.ip_address(last))
    except ValueError:
        return False
