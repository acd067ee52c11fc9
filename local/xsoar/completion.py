"""Completion at the prompt: commands, their arguments, the choices of an argument, and names that were seen."""

import re
from collections.abc import Iterable, Mapping

from prompt_toolkit.completion import CompleteEvent, Completer, Completion, FuzzyCompleter
from prompt_toolkit.document import Document

from .lines import split_arguments
from .names import SeenNames
from .server import Server

# What is typed of a word, so that its letters may stand anywhere in it: not the ! of a command or the = of an argument.
TYPED = r"^[\w.-]*"


def fuzzy(completer: Completer) -> Completer:
    return FuzzyCompleter(completer, pattern=TYPED)


class ManifestCompleter(Completer):
    """Completes what begins as the typed word does; see fuzzy() for what holds its letters.

    words: what the prompt itself knows, by meaning.
    """

    def __init__(self, server: Server, names: SeenNames | None = None, words: Mapping[str, str] | None = None) -> None:
        self.server, self.names, self.words = server, names or SeenNames(), words or {}

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        text = document.text_before_cursor
        command, space, rest = text.lstrip("!").partition(" ")
        if not space:
            known = {name: entry["description"] for name, entry in self.server.commands.items()}
            words, start = known | (dict(self.words) if not text.startswith("!") else {}), command
        elif command in ("help", "instance"):
            words = dict.fromkeys(self.server.commands if command == "help" else self.server.instances.names(), "")
            start = rest
        else:
            words, start = self._argument_words(command, rest)
        for word, meaning in words.items():
            if word.lower().startswith(start.lower()):
                yield Completion(quoted(word), -len(start), display=word, display_meta=meaning)

    def _argument_words(self, command: str, rest: str) -> tuple[dict[str, str], str]:
        """What can stand at the end of the arguments, and how much of it is there."""
        done, _, last = rest.rpartition(" ")
        try:
            given, open_quote = split_arguments(done)
        except ValueError:
            return {}, ""
        entries = self.server.commands.get(command, {}).get("arguments") or []
        known = {entry["name"]: entry for entry in entries if not entry.get("hidden")}
        name, sign, value = last.partition("=")
        if open_quote:
            return {}, ""
        if not sign:
            return {f"{n}=": entry["description"] for n, entry in known.items() if n not in given}, last
        entry = known.get(name, {})
        *before, start = value.split(",") if entry.get("isArray") else [value]
        choices = [str(choice) for choice in entry.get("predefined") or self.names.of(name)]
        return {choice: "" for choice in choices if choice not in before}, start


def quoted(word: str) -> str:
    """A value as a line takes it."""
    if not re.search(r"[\s`\"]", word):
        return word
    return '"' + re.sub(r'(["\\])', r"\\\1", word) + '"'
