"""The values that the settings of a storage account take."""

import ipaddress
import re

from .answers import bad_values, chosen
from .store import Arm, Json

SAS_PERIOD = re.compile(r"\d+\.\d\d:\d\d:\d\d")
CHOICES: dict[str, tuple[str, ...]] = {
    "minimumTlsVersion": ("TLS1_0", "TLS1_1", "TLS1_2", "TLS1_3"),
    "publicNetworkAccess": ("Enabled", "Disabled", "SecuredByPerimeter"),
    "allowedCopyScope": ("PrivateLink", "AAD"),
    "accessTier": ("Hot", "Cool", "Cold", "Premium"),
}
ACL_CHOICES: dict[str, tuple[str, ...]] = {
    "defaultAction": ("Allow", "Deny"),
    "bypass": ("None", "Logging", "Metrics", "AzureServices"),
}
PRIVATE = [ipaddress.IPv4Network(block) for block in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")]


def check(arm: Arm, properties: Json) -> None:
    """ArmError for a value that no account takes; words are then as Azure writes them."""
    wrong = []
    for name in [name for name in CHOICES if properties.get(name) is not None]:
        wrong += [] if chosen(properties[name], CHOICES[name]) else [name]
        properties[name] = chosen(properties[name], CHOICES[name])
    acls = properties.get("networkAcls")
    if isinstance(acls, dict):
        wrong += [f"networkAcls.{problem}" for problem in acl_problems(arm, acls)]
    wrong += secret_policy_problems(properties)
    if wrong:
        raise bad_values(*wrong)


def secret_policy_problems(properties: Json) -> list[str]:
    """What is wrong with the policies for SAS and keys, each of which is given whole or not at all."""
    found = []
    if sas := properties.get("sasPolicy"):
        found += [] if SAS_PERIOD.fullmatch(str(sas.get("sasExpirationPeriod"))) else ["sasPolicy.sasExpirationPeriod"]
        found += [] if chosen(sas.get("expirationAction"), ("Log", "Block")) else ["sasPolicy.expirationAction"]
    if keys_expire := properties.get("keyPolicy"):
        days = keys_expire.get("keyExpirationPeriodInDays")
        found += [] if isinstance(days, int) and days >= 0 else ["keyPolicy.keyExpirationPeriodInDays"]
    return found


def acl_problems(arm: Arm, acls: Json) -> list[str]:
    found = []
    for name, known in ACL_CHOICES.items():
        words = str(acls.get(name) or known[0]).replace(" ", "").split(",")
        found += [] if all(chosen(word, known) for word in words) else [name]
    for name, version in (("ipRules", 4), ("ipv6Rules", 6)):
        bad = [rule for rule in acls.get(name) or [] if not good_address(str(rule.get("value")), version)]
        found += [name] if bad else []
    tenants = {str(rule.get("tenantId")).lower() for rule in acls.get("resourceAccessRules") or []}
    return found + (["resourceAccessRules"] if tenants - {arm.tenant.lower()} else [])


def good_address(text: str, version: int) -> bool:
    """Whether an address rule takes it: a public address, or a network that is no smaller than a /30."""
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    private = isinstance(network, ipaddress.IPv4Network) and any(network.subnet_of(block) for block in PRIVATE)
    tiny = "/" in text and version == 4 and network.prefixlen > 30
    return network.version == version and not private and not tiny
