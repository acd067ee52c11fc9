"""Names that were seen: what the context and earlier commands say about accounts, containers, checks and the like."""

import difflib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

# The argument that takes what is found under a key, in any object or, as Kind.key, in one of that kind.
ARGUMENTS = {
    "account": "account_name",
    "check": "checks",
    "container": "container_name",
    "leaseId": "lease_id",
    "resourceGroup": "resource_group_name",
    "subscriptionId": "subscription_id",
    "versionId": "version_id",
    "Blob.name": "blob_name",
    "BlobContainer.name": "container_name",
    "File.EntryID": "entry_id",
    "Lock.name": "lock_name",
    "ResourceGroup.name": "resource_group_name",
    "StorageAccount.name": "account_name",
}
LASTING = ("account_name", "container_name", "resource_group_name", "subscription_id")
KEPT = 1000
LIKELY = 0.8  # how alike two names are, of which one is a slip of the other


class SeenNames:
    """Names by the argument that takes them, in the order in which they were seen.

    path: where those that last are kept from one session to the next, for its owner only.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self._names: dict[str, dict[str, None]] = {}
        if path and path.exists():
            kept = json.loads(path.read_text())
            self._names = {argument: dict.fromkeys(names) for argument, names in kept.items()}

    def keep(self) -> None:
        """Write down what a later session will want, the latest of each kind."""
        kept = {argument: self.of(argument)[-KEPT:] for argument in LASTING if self.of(argument)}
        if self.path and kept:
            self.path.touch(mode=0o600)
            self.path.write_text(json.dumps(kept))

    def learn(self, context: Any) -> None:
        """Take in what is in a context."""
        for argument, name in found_in(context):
            self._names.setdefault(argument, {})[name] = None

    def remember(self, args: Mapping[str, Any]) -> None:
        """Take in the arguments of a command that succeeded."""
        for argument in args.keys() & set(ARGUMENTS.values()):
            if isinstance(args[argument], str) and args[argument]:
                self._names.setdefault(argument, {})[args[argument]] = None

    def of(self, argument: str) -> list[str]:
        return list(self._names.get(argument, ()))

    def slip(self, argument: str, name: str) -> str:
        """The seen name that an unseen one is probably a slip of; empty if there is none."""
        known = self.of(argument)
        if name in known:
            return ""
        return next(iter(difflib.get_close_matches(name, known, n=1, cutoff=LIKELY)), "")


def found_in(value: Any, kind: str = "") -> Iterator[tuple[str, str]]:
    if isinstance(value, list):
        for item in value:
            yield from found_in(item, kind)
    elif isinstance(value, dict):
        for key, item in value.items():
            argument = ARGUMENTS.get(f"{kind}.{key}") or ARGUMENTS.get(key)
            if argument and isinstance(item, str) and item:
                yield argument, item
            else:
                yield from found_in(item, key)
