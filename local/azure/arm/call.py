"""A request to Resource Manager: who makes it, and what its path names."""

import json
from dataclasses import dataclass, field
from functools import cached_property

from ..front import Reply, Request
from .answers import bad_request, page
from .store import Arm, Json


@dataclass(frozen=True)
class Caller:
    """Whom a token speaks for. `claims` is the token's content, {} where there is none."""

    claims: Json = field(default_factory=dict)

    @property
    def app(self) -> str:
        return str(self.claims.get("appid") or self.claims.get("client_id") or "")

    @property
    def name(self) -> str:
        """As Azure logs it: a person's name, else the application's id."""
        return str(self.claims.get("upn") or self.app)

    @property
    def object_id(self) -> str:
        return str(self.claims.get("oid") or self.app)


@dataclass
class Call:
    """A request whose path fits a route. `path` is decoded and has its fixed words as Microsoft writes them; `names`
    are the ids in it; `permission` is what a role must hold."""

    request: Request
    path: str
    names: dict[str, str]
    permission: str
    caller: Caller

    def __getitem__(self, name: str) -> str:
        return self.names[name]

    @property
    def method(self) -> str:
        return self.request.method

    @cached_property
    def query(self) -> dict[str, str]:
        return self.request.query

    @property
    def version(self) -> str:
        return self.query.get("api-version", "")

    @cached_property
    def body(self) -> Json:
        """The object that was sent, {} for an empty body. ArmError for anything else."""
        text = self.request.body
        if not text:
            return {}
        kind = next((value for name, value in self.request.headers.items() if name.lower() == "content-type"), "")
        if "json" not in kind.lower():
            raise bad_request(f"The content media type '{kind}' is not supported.", "UnsupportedMediaType")
        try:
            found = json.loads(text)
        except ValueError as error:
            raise bad_request(
                f"The request content was invalid and could not be deserialized: '{error}'.", "InvalidRequestContent"
            ) from None
        if not isinstance(found, dict) or not isinstance(found.get("properties") or {}, dict):
            raise bad_request("The request content was invalid: it is not an object.", "InvalidRequestContent")
        return found

    @property
    def properties(self) -> Json:
        """The `properties` of the body, {} where there are none."""
        found: Json = self.body.get("properties") or {}
        return found

    def header(self, name: str) -> str:
        return next((value for key, value in self.request.headers.items() if key.lower() == name.lower()), "")

    def page(self, arm: Arm, items: list[Json], size: int | None = None) -> Reply:
        return page(arm, self.request.target, self.query, items, size)
