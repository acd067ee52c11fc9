"""What CommonServerPython brings to a script, as far as AzureStorage.py uses it, behaving as on a server.

On a server this text stands before the script's in one namespace; local/xsoar/loop.py puts it there, too.
"""

import json
import os
import sys
import time
import traceback
import urllib
import warnings
from datetime import datetime, timedelta, timezone
from threading import Lock
from typing import Any

import demistomock as demisto
import requests

__all__ = [
    "LOG",
    "CommandResults",
    "DemistoException",
    "EntryFormat",
    "EntryType",
    "Lock",
    "ScheduledCommand",
    "argToBoolean",
    "argToList",
    "add_sensitive_log_strs",
    "arg_to_number",
    "assign_params",
    "datetime",
    "demisto",
    "fileResult",
    "file_result_existing_file",
    "get_demisto_version",
    "get_integration_context",
    "get_integration_context_with_version",
    "handle_proxy",
    "is_demisto_version_ge",
    "is_versioned_context_available",
    "json",
    "os",
    "pascalToSpace",
    "remove_empty_elements",
    "requests",
    "return_error",
    "return_results",
    "set_integration_context",
    "string_to_table_header",
    "support_multithreading",
    "sys",
    "tableToMarkdown",
    "time",
    "timedelta",
    "timezone",
    "traceback",
    "urllib",
    "warnings",
]

MIN_VERSION_FOR_VERSIONED_CONTEXT = "6.0.0"
MAX_ERROR_MESSAGE_LENGTH = 50000
SECRET_WORDS = ("key", "private", "password", "secret", "token", "credentials", "service_account")
REPLACED = "<XX_REPLACED>"


class EntryType:
    NOTE = 1
    FILE = 3
    ERROR = 4
    IMAGE = 7
    ENTRY_INFO_FILE = 9
    WARNING = 11


class EntryFormat:
    HTML = "html"
    TABLE = "table"
    JSON = "json"
    TEXT = "text"
    MARKDOWN = "markdown"


class DemistoException(Exception):
    def __init__(self, message: Any, exception: Any = None, res: Any = None, *args: Any) -> None:
        self.message, self.exception, self.res = message, exception, res
        super().__init__(message, exception, *args)

    def __str__(self) -> str:
        return str(self.message)


def secret_values(params: Any, found: bool = False) -> list[str]:
    """The values of parameters whose names say that they are secret, nested ones too."""
    if isinstance(params, dict):
        return [
            value
            for name, item in params.items()
            for value in secret_values(item, found or any(word in str(name).lower() for word in SECRET_WORDS))
        ]
    return [str(params)] if found and params and not isinstance(params, bool) else []


class IntegrationLogger:
    """Masks the secrets among the parameters, and whatever it is told to."""

    def __init__(self) -> None:
        self.replace_strs: list[str] = []
        self.add_replace_strs(*secret_values(demisto.params()))

    def add_replace_strs(self, *strings: str) -> None:
        self.replace_strs += [string for string in strings if string]

    def encode(self, message: Any) -> str:
        text = str(message)
        for string in self.replace_strs:
            text = text.replace(string, REPLACED)
        return text

    def __call__(self, message: Any) -> None:
        demisto.info(self.encode(message))


LOG = IntegrationLogger()


def add_sensitive_log_strs(*values: str) -> None:
    LOG.add_replace_strs(*values)


def argToBoolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        if value.lower() in ("true", "yes"):
            return True
        if value.lower() in ("false", "no"):
            return False
        raise ValueError("Argument does not contain a valid boolean-like value")
    raise ValueError("Argument is neither a string nor a boolean")


def argToList(arg: Any, separator: str = ",") -> list[Any]:
    if not arg:
        return []
    if isinstance(arg, list):
        return arg
    if not isinstance(arg, str):
        return [arg]
    if arg.startswith("[") and arg.endswith("]"):
        try:
            return list(json.loads(arg))
        except ValueError:
            pass
    return [item.strip() for item in arg.split(separator)]


def arg_to_number(arg: Any, arg_name: str | None = None, required: bool = False) -> int | None:
    if arg is None or arg == "":
        if required:
            raise ValueError(f'Missing "{arg_name}"' if arg_name else "Missing required argument")
        return None
    bad = f'Invalid number: "{arg_name}"="{arg}"' if arg_name else f'"{arg}" is not a valid number'
    if isinstance(arg, int):
        return arg
    try:
        return int(float(arg)) if isinstance(arg, str) else int("x")
    except ValueError:
        raise ValueError(bad) from None


def remove_empty_elements(value: Any) -> Any:
    if isinstance(value, dict):
        pairs = ((key, remove_empty_elements(item)) for key, item in value.items())
        return {key: item for key, item in pairs if item is not None and item != {} and item != []}
    if isinstance(value, list):
        items = (remove_empty_elements(item) for item in value)
        return [item for item in items if item is not None and item != {} and item != []]
    return value


def assign_params(**kwargs: Any) -> dict[str, Any]:
    return {key: value for key, value in kwargs.items() if value not in (None, "", [], {}, ())}


def string_to_table_header(string: str) -> str:
    if not isinstance(string, str):
        raise TypeError(f"The key is not a string: {string}")
    return " ".join(word.capitalize() for word in string.replace("_", " ").split())


def pascalToSpace(text: str) -> str:
    import re

    if not isinstance(text, str):
        return text
    words = re.sub(r"([a-z0-9])([A-Z])|([A-Z])([A-Z][a-z])", r"\1\3 \2\4", text)
    return words[:1].upper() + words[1:]


def format_cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        text = "true" if value else "false"
    elif isinstance(value, list):
        text = ",\n".join(str(item) for item in value)
    elif isinstance(value, dict):
        text = "\n".join(f"{key}: {item}" for key, item in value.items())
    else:
        text = str(value)
    for end in ("\r\n", "\r", "\n"):
        text = text.replace(end, "<br>")
    return text.replace("|", "\\|").replace("`", "\\`")


def tableToMarkdown(
    name: str,
    t: Any,
    headers: list[str] | str | None = None,
    headerTransform: Any = None,
    removeNull: bool = False,
    metadata: str | None = None,
) -> str:
    """A Markdown table. Without headers: the keys of the first row, sorted."""
    text = f"### {name}\n" if name else ""
    text += f"{metadata}\n" if metadata else ""
    rows = [t] if isinstance(t, dict) and t else t
    if not rows:
        return text + "**No entries.**\n"
    columns = [headers] if isinstance(headers, str) else list(headers or sorted(rows[0]))
    if removeNull:
        columns = [column for column in columns if any(row.get(column) not in (None, "", [], {}) for row in rows)]
        if not columns:
            return text + "**No entries.**\n"
    shown = [headerTransform(column) if headerTransform else column for column in columns]
    text += "|" + "|".join(format_cell(column) for column in shown) + "|\n"
    text += "|" + "|".join("---" for _ in columns) + "|\n"
    return text + "".join("| " + " | ".join(format_cell(row.get(c)) for c in columns) + " |\n" for row in rows)


class ScheduledCommand:
    """Asks the server to run a command again; never sooner than in ten seconds."""

    def __init__(
        self,
        command: str,
        next_run_in_seconds: int,
        args: dict[str, Any] | None = None,
        timeout_in_seconds: int | None = None,
        items_remaining: int = 0,
    ) -> None:
        self._command, self._args, self._timeout = command, args, timeout_in_seconds
        self._next_run = max(10, next_run_in_seconds)
        self._items_remaining = items_remaining

    def to_results(self) -> dict[str, Any]:
        return assign_params(
            PollingCommand=self._command,
            NextRun=str(self._next_run),
            PollingArgs=self._args,
            Timeout=str(self._timeout) if self._timeout else None,
            PollingItemsRemaining=self._items_remaining,
        )


class CommandResults:
    def __init__(
        self,
        outputs_prefix: str | None = None,
        outputs_key_field: str | list[str] | None = None,
        outputs: Any = None,
        readable_output: str | None = None,
        raw_response: Any = None,
        tags: list[str] | None = None,
        scheduled_command: ScheduledCommand | None = None,
        entry_type: int | None = None,
        mark_as_note: bool = False,
    ) -> None:
        if outputs is not None and not isinstance(outputs, dict) and not outputs_prefix:
            raise ValueError("outputs_prefix is missing")
        if outputs_key_field is not None and not isinstance(outputs_key_field, str | list):
            raise TypeError("outputs_key_field must be of type str or list")
        keys = [outputs_key_field] if isinstance(outputs_key_field, str) else outputs_key_field
        self.outputs_prefix, self.outputs_key_field, self.outputs = outputs_prefix, keys, outputs
        self.readable_output, self.raw_response, self.tags = readable_output, raw_response, tags
        self.scheduled_command, self.entry_type, self.mark_as_note = scheduled_command, entry_type, mark_as_note

    def _entry_context(self) -> dict[str, Any]:
        if self.outputs is None or self.outputs == []:
            return {}
        if not self.outputs_prefix:
            return dict(self.outputs)
        condition = " && ".join(f"val.{key} && val.{key} == obj.{key}" for key in self.outputs_key_field or [])
        return {f"{self.outputs_prefix}({condition})" if condition else self.outputs_prefix: self.outputs}

    def to_context(self) -> dict[str, Any]:
        text = self.readable_output
        if not text and self.outputs is not None and self.outputs != []:
            text = tableToMarkdown("Results", self.outputs)
        raw = self.raw_response if self.raw_response is not None else self.outputs
        entry: dict[str, Any] = {
            "Type": self.entry_type or EntryType.NOTE,
            "ContentsFormat": "text" if isinstance(raw, str | bytes | int | bool) else "json",
            "Contents": raw,
            "HumanReadable": text or None,
            "EntryContext": self._entry_context(),
            "IndicatorTimeline": [],
            "IgnoreAutoExtract": False,
            "Note": self.mark_as_note,
            "Relationships": [],
        }
        if self.tags:
            entry["Tags"] = self.tags
        return entry | (self.scheduled_command.to_results() if self.scheduled_command else {})


def return_results(results: Any) -> None:
    """Objects of a list are sent one by one, its strings and dictionaries together as one list."""
    if isinstance(results, CommandResults):
        demisto.results(results.to_context())
        return
    if not isinstance(results, list):
        demisto.results(results)
        return
    rest = []
    for result in results:
        if isinstance(result, CommandResults):
            demisto.results(result.to_context())
        else:
            rest.append(result)
    if rest:
        demisto.results(rest)


def return_error(message: Any, error: Any = "", outputs: Any = None) -> None:
    """Shows an error entry and ends the script; not an Exception, so `except Exception` does not catch it."""
    text = LOG.encode(message)
    if len(text) > MAX_ERROR_MESSAGE_LENGTH:
        half = MAX_ERROR_MESSAGE_LENGTH // 2
        text = text[:half] + "..." + text[-half:]
    demisto.results(
        {"Type": EntryType.ERROR, "ContentsFormat": EntryFormat.TEXT, "Contents": text, "EntryContext": outputs}
    )
    sys.exit(0)


def fileResult(filename: str, data: Any, file_type: int | None = None) -> dict[str, Any]:
    """Writes the data where the server collects files, and returns the entry that points to it."""
    if isinstance(data, str):
        data = data.encode("utf-8")
    file_id = demisto.uniqueFile()
    with open(f"{demisto.investigation()['id']}_{file_id}", "wb") as file:  # noqa: PTH123 - as the platform does
        file.write(data)
    name = filename.replace("../", "")
    return {
        "Contents": "",
        "ContentsFormat": "text",
        "Type": file_type or EntryType.FILE,
        "File": name,
        "FileID": file_id,
    }


def get_demisto_version() -> dict[str, Any]:
    return dict(demisto.demistoVersion())


def is_demisto_version_ge(version: str, build_number: str = "") -> bool:
    def numbers(text: str) -> list[int]:
        parts = [int(part) for part in text.split(".")]
        return parts + [0] * (4 - len(parts))

    try:
        return numbers(get_demisto_version()["version"]) >= numbers(version)
    except (AttributeError, KeyError):
        return False
    except ValueError:
        return True


def is_versioned_context_available() -> bool:
    return is_demisto_version_ge(MIN_VERSION_FOR_VERSIONED_CONTEXT)


def get_integration_context(sync: bool = True, with_version: bool = False) -> dict[str, Any]:
    if not is_versioned_context_available():
        return dict(demisto.getIntegrationContext())
    versioned = demisto.getIntegrationContextVersioned(sync)
    return dict(versioned if with_version else versioned.get("context", {}))


def get_integration_context_with_version(sync: bool = True) -> tuple[dict[str, Any], int]:
    """The context and its version; -1 on a server too old for versions."""
    found = get_integration_context(sync, with_version=True)
    if not is_versioned_context_available():
        return found, -1
    return dict(found.get("context") or {}), int(found.get("version", -1))


def set_integration_context(context: dict[str, Any], sync: bool = True, version: int = -1) -> Any:
    """Replaces the whole context. ValueError if somebody else did since `version` was read."""
    if is_versioned_context_available():
        return demisto.setIntegrationContextVersioned(context, version, sync)
    return demisto.setIntegrationContext(context)


def handle_proxy(proxy_param_name: str = "proxy", checkbox_default_value: bool = False) -> dict[str, str]:
    """Without the proxy parameter the proxy variables are deleted, with `insecure` the CA bundle variables are."""
    params = demisto.params()
    if params.get("insecure") or params.get("unsecure"):
        for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
            os.environ.pop(name, None)
    names = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")
    if not params.get(proxy_param_name, checkbox_default_value):
        for name in names:
            os.environ.pop(name, None)
        return {}
    for name in names:
        value = os.environ.get(name, "")
        if value and not value.startswith(("http://", "https://")):
            os.environ[name] = "http://" + value
    return {
        scheme: os.environ.get(f"{scheme}_proxy") or os.environ.get(f"{scheme.upper()}_PROXY", "")
        for scheme in ("http", "https")
    }


def support_multithreading() -> None:
    """Makes demisto's calls safe among threads; the local ones always are."""


def file_result_existing_file(filename: str, saveFilename: str | None = None) -> dict[str, Any]:
    """Moves a file to where the server collects files, and returns the entry that points to it."""
    file_id = demisto.uniqueFile()
    os.rename(filename, f"{demisto.investigation()['id']}_{file_id}")  # noqa: PTH104 - as the platform does
    return {
        "Contents": "",
        "ContentsFormat": "text",
        "Type": EntryType.FILE,
        "File": saveFilename or filename,
        "FileID": file_id,
    }
