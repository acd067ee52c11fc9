"""Resource Manager as an application: what it does with every request, in Azure's order.

azure-mgmt-storage and azure-mgmt-authorization drive it in the tests. https://learn.microsoft.com/rest/api/
"""

import re
import uuid
from collections.abc import Callable

from ..front import Reply, Request
from . import activity_log, locks, log_queries, metadata, roles, versions
from .answers import ArmError, answer
from .call import Call, Caller
from .paths import scope_of
from .routes import MATCHERS, Route, canonical
from .store import Arm

VERSION = re.compile(r"20\d\d-\d\d-\d\d(-preview)?")
METADATA = "/metadata/endpoints"


class ResourceManager:
    """An application for the ARM front.

    `claims_of(authorization)` returns the content of a good token, or an error message for one that is not good.
    """

    def __init__(self, arm: Arm, claims_of: Callable[[str], dict[str, object] | str]) -> None:
        self.arm, self._claims_of = arm, claims_of

    def __call__(self, request: Request) -> Reply:
        ids = {"x-ms-request-id": str(uuid.uuid4()), "x-ms-correlation-request-id": str(uuid.uuid4())}
        reply = self._answered(request, canonical(request.path), ids)
        reply.headers |= ids
        self._tell_quota(request, reply)
        return reply

    def _answered(self, request: Request, path: str, ids: dict[str, str]) -> Reply:
        if path == METADATA:
            return answer(metadata.endpoints(self.arm))
        try:
            route, call = self._read(request, path)
        except ArmError as error:
            return self._refusal(error)
        reply = self._served(route, call)
        reply.headers |= ids
        activity_log.record(self.arm, call, reply)
        return reply

    def _refusal(self, error: ArmError) -> Reply:
        reply = answer(error.body(), error.status)
        if error.status == 401:
            reply.headers["WWW-Authenticate"] = (
                f'Bearer authorization_uri="{self.arm.authority_url}", error="invalid_token", '
                f'error_description="{error.message}"'
            )
        if error.status == 429:
            reply.headers["Retry-After"] = str(self.arm.modes.retry_after)
        return reply

    def _tell_quota(self, request: Request, reply: Reply) -> None:
        if request.method in ("GET", "HEAD"):
            reply.headers["x-ms-ratelimit-remaining-subscription-reads"] = "11999"
            return
        self.arm.writes_left -= 1
        reply.headers["x-ms-ratelimit-remaining-subscription-writes"] = str(self.arm.writes_left)

    # What every request goes through, in Azure's order

    def _read(self, request: Request, path: str) -> tuple[Route, Call]:
        """The request with its route. ArmError for a bad token, no version, a path that nobody answers."""
        caller = self._caller(request.headers.get("Authorization", ""))
        self._throttle()
        check_version(request.query.get("api-version", ""))
        found = [(route, match) for route, pattern in MATCHERS if (match := pattern.fullmatch(path))]
        for route, match in found:
            if route.method == request.method:
                call = Call(request, path, match.groupdict(), route.permission, caller)
                versions.check_known(self.arm, call.version, route.versions, route.permission.split("/")[-2])
                return route, call
        if found:
            raise ArmError(405, "MethodNotAllowed", f"The method '{request.method}' is not allowed on this resource.")
        raise ArmError(404, "InvalidResourceType", f"The resource type could not be found: {path}")

    def _caller(self, authorization: str) -> Caller:
        claims = self._claims_of(authorization)
        if isinstance(claims, str):
            expired = "expired" in claims
            raise ArmError(401, "ExpiredAuthenticationToken" if expired else "InvalidAuthenticationToken", claims)
        return Caller(claims)

    def _throttle(self) -> None:
        modes = self.arm.modes
        with self.arm.lock:
            if modes.throttle_after is None:
                return
            if modes.throttle_after > 0:
                modes.throttle_after -= 1
                return
        message = f"Number of requests exceeded the limit. Please try again after '{modes.retry_after}' seconds."
        raise ArmError(429, "TooManyRequests", message)

    def _served(self, route: Route, call: Call) -> Reply:
        """The answer of the route; its errors come back as answers, so that they are logged."""
        try:
            check_permission(self.arm, call)
            locks.refuse_locked(self.arm, call)
            with self.arm.lock:
                return route.handle(self.arm, call)
        except ArmError as error:
            return self._refusal(error)
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            if not call.request.body:
                raise
            message = f"The request content was invalid and could not be deserialized: '{error!r}'."
            return self._refusal(ArmError(400, "InvalidRequestContent", message))


def check_version(version: str) -> None:
    if not version:
        message = "The api-version query parameter (?api-version=) is required for all requests."
        raise ArmError(400, "MissingApiVersionParameter", message)
    if not VERSION.fullmatch(version):
        raise ArmError(400, "InvalidApiVersionParameter", f"The api-version '{version}' is invalid.")


def has_no_role(arm: Arm, call: Call) -> bool:
    """Whether roles stand in the way of a call."""
    if arm.modes.no_role:
        return True
    return arm.modes.enforce_roles and not roles.evidence(arm, call, scope_of(call.path))


def check_permission(arm: Arm, call: Call) -> None:
    """ArmError for what the caller has no right to. What is asked of no scope is answered with what may be seen."""
    barred = any(
        call.method == verb and re.fullmatch(pattern, call.path, re.IGNORECASE) for verb, pattern in arm.forbidden
    )
    of_a_scope = "sub" in call.names or "scope" in call.names
    if not barred and not (of_a_scope and has_no_role(arm, call)):
        return
    if call.permission == log_queries.PERMISSION:
        raise log_queries.insufficient_access(call)
    raise ArmError(
        403,
        "AuthorizationFailed",
        f"The client '{call.caller.name}' with object id '{call.caller.object_id}' does not have authorization to "
        f"perform action '{call.permission}' over scope '{scope_of(call.path)}' or the scope is invalid. "
        "If access was recently granted, please refresh your credentials.",
    )
