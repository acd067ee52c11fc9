"""Who asks, and whether the request is permitted: by key, token, SAS, or without signing in.

https://learn.microsoft.com/azure/storage/common/authorize-data-access
"""

import base64
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from email.utils import parsedate_to_datetime
from typing import Any

from .accounts import Accounts
from .call import OLDEST_TOKEN, Call, Refusal
from .delegation import DelegationKeys
from .operations import Operation, also_needed
from .sas import (
    ACCOUNT,
    DELEGATION,
    SERVICE,
    Malformed,
    Sas,
    StoredPolicy,
    check_form,
    check_reach,
    check_signature,
    check_time,
    life,
)
from .signing import equal, lite_string_to_sign, signature, string_to_sign

Json = dict[str, Any]
# By which string an account's key has signed.
SCHEMES: dict[str, Callable[..., str]] = {"SharedKey": string_to_sign, "SharedKeyLite": lite_string_to_sign}
OLDEST_REQUEST = timedelta(minutes=15)
DENIED = "This request is not authorized to perform this operation."
MALFORMED = "Authentication information is not given in the correct format. Check the value of Authorization header."
UNSIGNED = (
    "Server failed to authenticate the request. Make sure the value of Authorization header is formed correctly "
    "including the signature."
)


@dataclass(frozen=True)
class Caller:
    """Who asks. kind, hash, authorization: as StorageBlobLogs tells how somebody signed in and what let them do it."""

    kind: str
    hash: str = ""
    permissions: str = ""
    claims: Json = field(default_factory=dict)
    sas: Sas | None = None
    authorization: list[Json] = field(default_factory=list)


ANONYMOUS = Caller("Anonymous")


@dataclass
class Authorizer:
    """Decides on requests.

    claims: the claims of a token for Azure Storage, or None if it is not good. access: the public access level and the
    stored policies of a container, or None without such a container.
    """

    accounts: Accounts
    keys: DelegationKeys
    claims: Callable[[str], Json | None]
    access: Callable[[str, str], tuple[str, dict[str, StoredPolicy]] | None]

    def __call__(self, call: Call, operation: Operation) -> Caller:
        """Refusal unless the caller may. Whether a SAS may only create, and not overwrite, is looked at later."""
        given = call.header("authorization")
        if "sig" in call.query and call.query.get("sduoid"):
            return self._sas(call, operation)
        if given.lower().startswith("bearer "):
            return self._token(call, operation, given.partition(" ")[2].strip())
        scheme, _, signed = given.partition(" ")
        if scheme in SCHEMES:
            return self._key(call, SCHEMES[scheme], signed)
        if given:
            raise Refusal(400, "InvalidAuthenticationInfo", MALFORMED)
        if "sig" in call.query:
            return self._sas(call, operation)
        return self._anonymous(call, operation)

    # A token

    def _token(self, call: Call, operation: Operation, token: str) -> Caller:
        if call.version < OLDEST_TOKEN:
            raise unauthenticated("Authentication scheme Bearer is not supported in this version.", 403)
        claims = self.claims(token)
        if claims is None:
            raise unauthenticated("Signature validation failed. The token is not valid for Azure Storage.", 401)
        account, container, _ = call.place
        principal = str(claims.get("oid") or "")
        actions = [operation.data_action, *(action for _, action in also_needed(call, operation))]
        if not all(self.accounts.permits(account, container, principal, action) for action in actions):
            raise permission_mismatch()
        granted = self.accounts.granted(account, container, principal, operation.data_action)
        return Caller("OAuth", sha256(token.encode()), claims=claims, authorization=granted)

    # A key

    def _key(self, call: Call, write: Callable[..., str], given: str) -> Caller:
        """write: what makes the string to sign of the request."""
        account, _, signed = given.partition(":")
        if account != call.place.account:
            raise unauthenticated("The account of the signature is not the account of the request.", 403)
        check_date(call)
        query = call.request.target.partition("?")[2]
        text = write(call.method, account, call.wire, query, call.headers)
        for number, key in enumerate(self.accounts.keys(account), 1):
            if equal(signature(key, text), signed):
                self._check_keys_allowed(account)
                return Caller("AccountKey", key_hash(f"key{number}", key))
        shown = text.replace("\n", "\\n")
        raise unauthenticated(
            f"The MAC signature found in the HTTP request '{signed}' is not the same as any computed signature. "
            f"Server used following string to sign: '{shown}'.",
            403,
        )

    def _check_keys_allowed(self, account: str) -> None:
        properties = self.accounts.properties(account)
        of_blobs = (properties.get("allowSharedKeyAccessForServices") or {}).get("blob") or {}
        if properties.get("allowSharedKeyAccess") is False or of_blobs.get("enabled") is False:
            text = "Key based authentication is not permitted on this storage account."
            raise Refusal(403, "KeyBasedAuthenticationNotPermitted", text)

    # A SAS

    def _sas(self, call: Call, operation: Operation) -> Caller:
        account = call.place.account
        try:
            sas, signer = self._signed(call)
        except Malformed as problem:
            raise unauthenticated(str(problem), 403) from None
        if sas.kind != DELEGATION:
            self._check_keys_allowed(account)
        self._check_policy(call, sas)
        self._check_user(call, sas)
        check_reach(call, sas)
        self._check_permitted(call, operation, sas)
        kind = "DelegationSas" if sas.kind == DELEGATION else "SAS"
        return Caller(kind, f"{signer},SasSignature({sha256(sas['sig'].encode())})", sas.permissions, sas=sas)

    def _signed(self, call: Call) -> tuple[Sas, str]:
        """The SAS of a request, and the hash of the key that signed it. Malformed if it is not well formed, not signed by us, or not valid at this time."""
        account = call.place.account
        sas = Sas(call.query)
        if sas.kind == SERVICE and sas["si"]:
            found = self.access(account, call.place.container)
            if not found or sas["si"] not in found[1]:
                raise Malformed("The stored access policy that is signed does not exist.")
            sas = replace(sas, policy=found[1][sas["si"]])
        check_form(sas)
        keys = {f"key{number}": key for number, key in enumerate(self.accounts.keys(account), 1)}
        if sas.kind == DELEGATION:
            revoked = self.accounts.keys_revoked(account)
            keys = {"user-delegation": self.keys.key_of(account, sas, call.time, revoked)}
        signer = check_signature(call, sas, keys)
        check_time(sas, call.time)
        return sas, key_hash(signer, keys[signer])

    def _check_policy(self, call: Call, sas: Sas) -> None:
        """The account's own limit to how long a SAS may live."""
        policy = self.accounts.properties(call.place.account).get("sasPolicy") or {}
        if policy.get("expirationAction") != "Block":
            return
        if not sas.start or life(sas, call.time).total_seconds() > seconds(str(policy.get("sasExpirationPeriod", ""))):
            raise unauthenticated("The SAS does not comply with the SAS expiration policy of the account.", 403)

    def _check_user(self, call: Call, sas: Sas) -> None:
        """A delegation SAS may be for one user, who then has to show a token as well."""
        policy = self.accounts.properties(call.place.account).get("sasPolicy") or {}
        has_to_be = policy.get("requireUserBoundUserDelegationSasAction") == "Block"
        if sas.kind != DELEGATION or not (sas["sduoid"] or has_to_be):
            return
        claims = self.claims(call.header("authorization").partition(" ")[2]) or {}
        if not sas["sduoid"] or str(claims.get("oid") or claims.get("sub")) != sas["sduoid"]:
            raise unauthenticated("The signature is for another user, or for none where one is required.", 403)

    @staticmethod
    def _check_permitted(call: Call, operation: Operation, sas: Sas) -> None:
        if call.level == "account" and sas.kind != ACCOUNT:
            raise Refusal(403, "AuthorizationFailure", DENIED)
        if not operation.letters:
            raise Refusal(403, "AuthorizationFailure", DENIED)
        whole_box = call.level == "container" and sas.kind != ACCOUNT
        if whole_box and (sas.resource != "container" or operation.name not in ("ListBlobs", "FindBlobsByTags")):
            raise Refusal(403, "AuthorizationFailure", DENIED)
        letters = operation.letters + ("d" if operation.name.startswith("Break") else "")
        groups = [letters, *(letter for letter, _ in also_needed(call, operation))]
        if not all(set(group) & set(sas.permissions) for group in groups):
            raise permission_mismatch()

    # Nobody

    def _anonymous(self, call: Call, operation: Operation) -> Caller:
        account, container, _ = call.place
        if not operation.anonymous:
            raise Refusal(401, "NoAuthenticationInformation", UNSIGNED)
        if not self.accounts.permits_public(account):
            text = "Public access is not permitted on this storage account."
            raise Refusal(409, "PublicAccessNotPermitted", text)
        found = self.access(account, container)
        level = found[0] if found else ""
        if level != "container" and level != operation.anonymous:
            raise Refusal(404, "ResourceNotFound", "The specified resource does not exist.")
        return ANONYMOUS


def check_date(call: Call) -> None:
    """Refusal for a request that was signed a while ago, which may be somebody else's that is sent again."""
    text = call.header("x-ms-date") or call.header("date")
    try:
        age = abs(call.time - parsedate_to_datetime(text))
    except (ValueError, TypeError):
        raise unauthenticated("Request date header is missing or not valid.", 403) from None
    if age > OLDEST_REQUEST:
        raise unauthenticated(f"Request date header too old: '{text}'", 403)


def permission_mismatch() -> Refusal:
    text = "This request is not authorized to perform this operation using this permission."
    return Refusal(403, "AuthorizationPermissionMismatch", text)


def unauthenticated(detail: str, status: int) -> Refusal:
    code = "InvalidAuthenticationInfo" if status == 401 else "AuthenticationFailed"
    return Refusal(status, code, UNSIGNED, AuthenticationErrorDetail=detail)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest().upper()


def key_hash(name: str, key: str) -> str:
    """What StorageBlobLogs tells of the key that was used."""
    return f"{name}({sha256(base64.b64decode(key))})"


def seconds(period: str) -> float:
    """The length of a period that is written as days.hours:minutes:seconds."""
    found = re.fullmatch(r"(?:(\d+)\.)?(\d+):(\d+):(\d+)", period)
    if not found:
        return float("inf")
    days, hours, minutes, rest = (int(part or 0) for part in found.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + rest)
