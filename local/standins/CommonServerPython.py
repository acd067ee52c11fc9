"""What CommonServerPython brings to a script, as far as AzureStorage.py uses it, behaving as on a server.

On a server this text stands before the script's in one namespace; local/xsoar/loop.py puts it there, too.
"""

import base64
import http.client
import json
import logging
import os
import re
import sys
import time
import traceback
import urllib
import warnings
from datetime import datetime, timedelta, timezone
from threading import Lock
from typing import Any
from urllib.parse import quote_plus

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
    "add_sensitive_log_strs",
    "argToBoolean",
    "argToList",
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
    "is_debug_mode",
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
MASK = "<XX_REPLACED>"
EXCEPTION_COMMANDS = ("fetch-incidents", "fetch-credentials", "fetch-indicators", "long-running-execution")


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
    def __init__(
        self, message: Any, exception: Any = None, res: Any = None, error_type: Any = None, *args: Any
    ) -> None:
        self.message, self.exception, self.res, self.error_type = message, exception, res, error_type
        super().__init__(message, exception, error_type, *args)

    def __str__(self) -> str:
        return str(self.message)


def b64_encode(text: str) -> str:
    return base64.b64encode(text.encode("utf-8")).decode()


def is_debug_mode() -> bool:
    return bool(getattr(demisto, "is_debug", False))


class IntegrationLogger:
    """Masks secret parameters and what `add_replace_strs` was told, in the forms in which a log shows them.

    A parameter is secret when its own name says so: the identifier of credentials is not. `LOG(text)` keeps the text
    until `print_log`; without buffering it goes to the server's log at once.
    """

    def __init__(self) -> None:
        self.replace_strs: list[str] = []
        self.messages: list[str] = []
        self.buffering = True
        self._written = ""
        self._add_secrets_of(demisto.params())

    def _add_secrets_of(self, params: dict[str, Any]) -> None:
        for name, value in params.items():
            if isinstance(value, dict):
                self._add_secrets_of(value)
                if value.get("identifier") and value.get("password"):
                    self.add_replace_strs(b64_encode(f"{value['identifier']}:{value['password']}"))
            elif isinstance(value, str) and any(word in name.lower() for word in SECRET_WORDS):
                self.add_replace_strs(value, b64_encode(value))

    def add_replace_strs(self, *strings: Any) -> None:
        for string in filter(None, strings):
            text = self.encode(string)
            escaped = text.replace("\r", "\\r").replace("\n", "\\n").replace("\t", "\\t")
            plain = text.replace("\\r", "\r").replace("\\n", "\n").replace("\\t", "\t")
            self.replace_strs += [escaped, plain, json.dumps(text)[1:-1], quote_plus(text)]

    def encode(self, message: Any) -> str:
        text = str(message)
        for string in self.replace_strs:
            text = text.replace(string, MASK)
        return text

    def __call__(self, message: Any) -> str:
        text = self.encode(message)
        if self.buffering:
            self.messages.append(text)
        else:
            demisto.info(text)
        return text

    def print_log(self) -> None:
        if self.messages:
            demisto.info("Full Integration Log:\n" + "\n".join(self.messages))
        self.messages = []

    def write(self, text: str) -> None:
        """As a file of Python's logging and of http.client: a line is sent when it ends."""
        self._written += self.encode(text)
        if "\n" in text:
            demisto.info(self._written.removesuffix("\n"))
            self._written = ""

    def flush(self) -> None:
        """Nothing to do; Python's logging calls it."""


class DebugLogger:
    """Prints what http.client sends and receives, and everything that Python's loggers say, to the server's log.

    It masks with a logger of its own, which `LOG.add_replace_strs` does not reach. The real one also censors what
    follows words such as Authorization, depending on its version; nobody should rely on that, so this one does not.
    """

    def __init__(self) -> None:
        self.int_logger = IntegrationLogger()
        self.int_logger.buffering = False
        self._root = logging.getLogger()
        self._before = (self._root.level, self._root.handlers[:])
        handler = logging.StreamHandler(self.int_logger)
        handler.setFormatter(logging.Formatter("python logging: %(levelname)s [%(name)s] - %(message)s"))
        self._root.handlers[:] = [handler]
        self._root.setLevel(logging.DEBUG)
        http.client.HTTPConnection.debuglevel = 1
        setattr(http.client, "print", self._print)  # noqa: B010 - the module looks there before it looks at builtins
        self.int_logger(f"debug-mode started.\n#### Params: {json.dumps(demisto.params(), indent=2)}.")

    def _print(self, *words: Any) -> None:
        self.int_logger.write(" ".join(map(str, words)) + "\n")

    def stop(self) -> None:
        level, handlers = self._before
        self._root.setLevel(level)
        self._root.handlers[:] = handlers
        http.client.HTTPConnection.debuglevel = 0
        delattr(http.client, "print")


LOG = IntegrationLogger()
_requests_logger = DebugLogger() if is_debug_mode() else None


def add_sensitive_log_strs(sensitive_str: str) -> None:
    """Makes a secret known to LOG and, in debug mode, to the logger that prints requests."""
    if _requests_logger:
        _requests_logger.int_logger.add_replace_strs(sensitive_str)
    LOG.add_replace_strs(sensitive_str)


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
    if not isinstance(arg, str | bytes):
        return [arg]
    if arg[0] == "[" and arg[-1] == "]":
        try:
            return list(json.loads(arg))
        except ValueError:
            pass
    return [item.strip() for item in arg.split(separator)]  # type: ignore[arg-type] # bytes end in a TypeError


def arg_to_number(arg: Any, arg_name: str | None = None, required: bool = False) -> int | None:
    if arg is None or arg == "":
        if required:
            raise ValueError(f'Missing "{arg_name}"' if arg_name else "Missing required argument")
        return None
    bad = f'Invalid number: "{arg_name}"="{arg}"' if arg_name else f'"{arg}" is not a valid number'
    if isinstance(arg, int):
        return arg
    if not isinstance(arg, str):
        raise ValueError(bad)
    try:
        return int(arg) if arg.isdigit() else int(float(arg))
    except (ValueError, OverflowError):
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
    """Sets blanks around every run of small letters with the capital before it, and title case within it."""
    if not isinstance(text, str):
        return text
    for word in re.findall(r"[A-Z]?[a-z]+", text):
        text = text.replace(word, f" {word.title()} ")
    return " ".join(text.split())


def flatten_cell(value: Any) -> str:
    """TypeError for what is not JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return ",\n".join(item.decode() if isinstance(item, bytes) else str(item) for item in value)
    return json.dumps(value, ensure_ascii=False)


def format_cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, dict):
        return escape_cell("\n".join(f"{key}: {flatten_cell(item)}" for key, item in value.items()))
    return escape_cell(flatten_cell(value))


def escape_cell(text: str) -> str:
    for end in ("\r\n", "\r", "\n"):
        text = text.replace(end, "<br>")
    return text.replace("|", "\\|").replace("`", "\\`")


def table_rows(t: Any, headers: Any) -> tuple[list[Any], list[str]]:
    """Rows and column names of a table's input, in all the shapes that the platform takes.

    Without headers: the keys of the first row, sorted; a dictionary with one key is a column of its value's items.
    """
    if not headers and isinstance(t, dict) and len(t) == 1:
        headers, t = list(t), next(iter(t.values()))
    rows = t if isinstance(t, list) else [t]
    columns = [headers] if isinstance(headers, str) else list(headers or [])
    if not isinstance(rows[0], dict):
        if not columns:
            raise Exception("Missing headers param for tableToMarkdown. Example: headers=['Some Header']")
        rows = [{columns[0]: item} for item in rows]
    return rows, columns or sorted(rows[0])


def tableToMarkdown(
    name: str,
    t: Any,
    headers: list[str] | str | None = None,
    headerTransform: Any = None,
    removeNull: bool = False,
    metadata: str | None = None,
) -> str:
    """A Markdown table. What `headerTransform` returns is not escaped, header cells without one are."""
    text = f"### {name}\n" if name else ""
    text += f"{metadata}\n" if metadata else ""
    if not t:
        return text + "**No entries.**\n"
    rows, columns = table_rows(t, headers)
    if removeNull:
        columns = [column for column in columns if any(row.get(column) not in (None, "", [], {}) for row in rows)]
    if not columns:
        return text + "**No entries.**\n"
    text += "|" + "|".join((headerTransform or escape_cell)(column) for column in columns) + "|\n"
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
        keys = [outputs_key_field] if isinstance(outputs_key_field, str) and outputs_key_field else outputs_key_field
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
        text: Any = self.readable_output
        if not text and self.outputs is not None and self.outputs != []:
            table = isinstance(self.outputs, dict | list)
            text = tableToMarkdown("Results", self.outputs) if table else self.outputs
        raw = self.raw_response if self.raw_response is not None else self.outputs
        entry: dict[str, Any] = {
            "Type": self.entry_type or EntryType.NOTE,
            "ContentsFormat": "text" if isinstance(raw, str | bytes | int | bool) else "json",
            "Contents": raw,
            "HumanReadable": None if text == "" else text,
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
    """Objects of a list are sent one by one, its strings and dictionaries together as one list; a list within is sent
    before them, and an empty list as it is."""
    if isinstance(results, CommandResults):
        demisto.results(results.to_context())
        return
    if not isinstance(results, list) or not results:
        demisto.results(results)
        return
    rest = [result for result in results if isinstance(result, dict | str)]
    for result in results:
        if not isinstance(result, dict | str):
            return_results(result)
    if rest:
        demisto.results(rest)


def return_error(message: Any, error: Any = "", outputs: Any = None) -> None:
    """Shows an error entry and ends the script; not an Exception, so `except Exception` does not catch it.

    While an exception is being handled its traceback, with all causes, is logged, and in debug mode shown in the entry:
    what it says is masked only as far as LOG knows the strings.
    """
    text = LOG(message)
    if error:
        LOG(error)
    if sys.exc_info()[0]:
        trace = LOG(traceback.format_exc())
        text += f"\n{trace}" if is_debug_mode() else ""
    LOG.print_log()
    if demisto.command() in EXCEPTION_COMMANDS:
        raise Exception(text)
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
    """Compares part by part, as text filled up with zeros: 'x' is later than any number."""

    def parts(text: str) -> list[str]:
        found = [part.zfill(8) for part in text.split(".")]
        return found + ["0" * 8] * (4 - len(found))

    try:
        return parts(get_demisto_version()["version"]) >= parts(version)
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
    """Puts a lock around the calls to the server, which are not safe among threads without it.

    Twice in one command ends in a deadlock on a server, so it is an error here. Unit tests have no server to call.
    """
    if not hasattr(demisto, "_Demisto__do"):
        return
    if getattr(demisto, "lock", None):
        raise RuntimeError("support_multithreading() was called twice in one command, which deadlocks on a server")
    lock, unlocked = Lock(), demisto._Demisto__do

    def locked(line: dict[str, Any]) -> Any:
        with lock:
            return unlocked(line)

    demisto.lock, demisto._Demisto__do = lock, locked  # type: ignore[attr-defined]


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
