"""Answers of Resource Manager: bodies, pages, errors."""

import json
from typing import Any

from ..front import Reply
from .store import Arm, Json


class ArmError(Exception):
    """An answer that is an error; `inner` is the innererror that some services put into it."""

    def __init__(self, status: int, code: str, message: str, inner: Json | None = None) -> None:
        super().__init__(message)
        self.status, self.code, self.message, self.inner = status, code, message, inner

    def body(self) -> Json:
        inner = {"innererror": self.inner} if self.inner else {}
        return {"error": {"code": self.code, "message": self.message, **inner}}


def answer(body: Any, status: int = 200, **headers: str) -> Reply:
    text = json.dumps(body).encode()
    return Reply(status, {"Content-Type": "application/json; charset=utf-8", **headers}, text)


def empty(status: int, **headers: str) -> Reply:
    return Reply(status, {"Content-Type": "text/plain; charset=utf-8", **headers})


def bad_request(message: str, code: str = "BadRequest") -> ArmError:
    return ArmError(400, code, message)


def bad_values(*names: str) -> ArmError:
    return bad_request(
        f"Values for request parameters are invalid: {', '.join(names)}.", "InvalidValuesForRequestParameters"
    )


def chosen(value: object, known: tuple[str, ...]) -> str:
    """The word of a list that was meant, as Azure writes it: it takes them in any case. "" where it is none of them."""
    return next((word for word in known if word.lower() == str(value).lower()), "")


def not_supported(feature: str) -> ArmError:
    """The refusal of what an account's kind does not have."""
    return ArmError(409, "FeatureNotSupportedForAccount", f"{feature} is not supported for the account.")


def conflict(feature: str) -> ArmError:
    """The refusal of what excludes a feature that is on."""
    message = f"Conflicting feature '{feature}' is enabled. Please disable it and retry."
    return ArmError(409, "ConflictFeatureEnabled", message)


def page(arm: Arm, target: str, query: dict[str, str], items: list[Json], size: int | None = None) -> Reply:
    """Part of a collection; the link to the rest carries a $skipToken, as ARM's does."""
    token = query.get("$skipToken") or "0"
    if not token.isdigit():
        raise bad_request("The $skipToken is not valid.", "InvalidSkipToken")
    start = int(token)
    end = start + min(size or arm.page_size, arm.page_size)
    body: Json = {"value": items[start:end]}
    if end < len(items):
        path, _, parts = target.partition("?")
        kept = "&".join(part for part in parts.split("&") if "skiptoken" not in part.lower())
        body["nextLink"] = f"{arm.url}{path}?{kept}&$skipToken={end}"
    return answer(body)
