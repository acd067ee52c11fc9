"""The rules for requests from other origins: what a preflight is answered, and what an answer tells a browser.

https://learn.microsoft.com/rest/api/storageservices/preflight-blob-request and
https://learn.microsoft.com/rest/api/storageservices/cross-origin-resource-sharing--cors--support-for-the-azure-storage-services

The first rule that fits counts. As in Azure, rules permit nothing: they only let a browser show what was permitted.
"""

import re

from ..arm import Json
from ..front import Reply
from .call import Call, Refusal, done
from .desk import Desk

NO_RULE = "CORS not enabled or no matching rule found for this request."


def preflight(desk: Desk, call: Call) -> Reply:
    """The answer to OPTIONS. It is nobody's permission that counts, and the resource need not exist."""
    origin, method = call.header("origin"), call.header("access-control-request-method")
    if not origin or not method:
        raise Refusal(400, "InvalidHeaderValue", "A required CORS header is not present.")
    wanted = call.header("access-control-request-headers")
    names = [name.strip() for name in wanted.split(",") if name.strip()]
    rule = rule_for(desk, call, method)
    while rule and not all(covers(rule["allowedHeaders"], name) for name in names):
        rule = rule_for(desk, call, method, rule)
    if not rule:
        raise Refusal(403, "CorsPreflightFailure", NO_RULE)
    reply = done(
        200,
        Access_Control_Allow_Origin=allowed_origin(rule, origin),
        Access_Control_Allow_Methods=method,
        Access_Control_Max_Age=str(rule["maxAgeInSeconds"]),
        Access_Control_Allow_Credentials="true",
    )
    if names:
        reply.headers["Access-Control-Allow-Headers"] = wanted
    return reply


def add_headers(desk: Desk, call: Call, reply: Reply) -> None:
    """What the answer to an actual request tells. A request that no rule fits is served without."""
    rules, origin = desk.accounts.cors_rules(call.place.account), call.header("origin")
    rule = rule_for(desk, call, call.method) if origin else None
    if rule:
        reply.headers["Access-Control-Allow-Origin"] = allowed_origin(rule, origin)
        if rule["exposedHeaders"]:
            shown = [name for name in reply.headers if covers(rule["exposedHeaders"], name)]
            reply.headers["Access-Control-Expose-Headers"] = ",".join(shown)
        if "*" not in rule["allowedOrigins"]:
            reply.headers["Access-Control-Allow-Credentials"] = "true"
    if rules and call.method in ("GET", "HEAD") and not (rule and "*" in rule["allowedOrigins"]):
        reply.headers["Vary"] = "Origin"


def rule_for(desk: Desk, call: Call, method: str, after: Json | None = None) -> Json | None:
    """The first rule, or the first after another one, for the origin and the method."""
    rules = desk.accounts.cors_rules(call.place.account)
    rest = rules[rules.index(after) + 1 :] if after else rules
    fits = (rule for rule in rest if method in rule["allowedMethods"] and is_origin(rule, call.header("origin")))
    return next(fits, None)


def is_origin(rule: Json, origin: str) -> bool:
    """Origins are compared with their case; an asterisk stands for all, or in an address for a subdomain."""
    patterns = (re.escape(known).replace(r"\*", "[^/]+") for known in rule["allowedOrigins"])
    return "*" in rule["allowedOrigins"] or any(re.fullmatch(pattern, origin) for pattern in patterns)


def allowed_origin(rule: Json, origin: str) -> str:
    return "*" if "*" in rule["allowedOrigins"] else origin


def covers(known: list[str], name: str) -> bool:
    """Whether a list of headers has the name, itself or by a prefix that ends with an asterisk."""
    low = name.lower()
    return any(low.startswith(one[:-1].lower()) if one.endswith("*") else low == one.lower() for one in known)
