"""What the server gives a script as `demisto`, when there is no server.

Unit tests patch what they need; under local/xsoar/loop.py the same names talk to the local server.
"""

import json
import logging
import uuid
from typing import Any

callingContext: dict[str, Any] = {}  # the platform's own spelling
is_debug = False
_context: dict[str, Any] = {}


def params() -> dict[str, Any]:
    return {}


def args() -> dict[str, Any]:
    return {}


def command() -> str:
    return ""


def debug(message: Any, *more: Any) -> None:
    logging.getLogger("demisto").debug(message, *more)


def info(message: Any, *more: Any) -> None:
    logging.getLogger("demisto").info(message, *more)


def error(message: Any, *more: Any) -> None:
    logging.getLogger("demisto").error(message, *more)


def results(result: Any) -> None:
    """TypeError for what is not JSON, as on a server."""
    logging.getLogger("demisto").info(json.dumps(result))


def getFilePath(entry_id: str) -> dict[str, str]:
    return {"id": entry_id, "path": "test/test.txt", "name": "test.txt"}


def investigation() -> dict[str, str]:
    return {"id": "1"}


def uniqueFile() -> str:
    return str(uuid.uuid4())


def integrationInstance() -> str:
    return ""


def demistoVersion() -> dict[str, str]:
    return {"version": "5.5.0", "buildNumber": "12345"}


def getIntegrationContext() -> dict[str, Any]:
    return _context


def setIntegrationContext(context: dict[str, Any]) -> None:
    """Replaces everything."""
    global _context
    _context = context


def getIntegrationContextVersioned(refresh: bool = True) -> dict[str, Any]:
    return getIntegrationContext()


def setIntegrationContextVersioned(context: dict[str, Any], version: int = -1, sync: bool = True) -> None:
    setIntegrationContext(context)
