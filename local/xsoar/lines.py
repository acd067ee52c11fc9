"""Lines of the war room: how they are read, and how they are remembered."""

import re

from prompt_toolkit.history import FileHistory

from .server import Server

WORD = re.compile(
    r"""\s*(?P<name>[\w-]+)=(?:`(?P<tick>[^`]*)`|"(?P<quoted>(?:[^"\\]|\\.)*)"|(?P<bare>[^\s`"]\S*|))(?=\s|$)""", re.S
)


def parse_line(line: str) -> tuple[str, dict[str, str]]:
    """A line as the server's own prompt takes it: !command arg=value arg="two words" arg=`{"any": "thing"}`.

    ValueError for anything else, which names an argument but never repeats a value: that may be a secret.
    """
    command, *more = line.strip().lstrip("!").split(maxsplit=1)
    args, rest = split_arguments(more[0] if more else "")
    if rest:
        name, sign, value = rest.partition("=")
        if sign and value[:1] in ('"', "`") and re.fullmatch(r"[\w-]+", name):
            raise ValueError(f"{name}: the closing quote is missing, or something stands right behind it.")
        after = f" after {list(args)[-1]}" if args else ""
        raise ValueError(f"expected argument=value{after}; a value with blanks stands between quotes.")
    return command, args


def split_arguments(text: str) -> tuple[dict[str, str], str]:
    """The arguments at the beginning of a text, and what follows them. ValueError for one that is given twice."""
    args: dict[str, str] = {}
    while found := WORD.match(text):
        name = found["name"]
        if name in args:
            raise ValueError(f"{name} is given twice.")
        args[name] = value_of(found)
        text = text[found.end() :]
    return args, text.lstrip()


def value_of(found: "re.Match[str]") -> str:
    if found["quoted"] is not None:
        return re.sub(r"\\(.)", r"\1", found["quoted"], flags=re.DOTALL)
    return str(found["bare"] if found["tick"] is None else found["tick"])


def parse_words(words: tuple[str, ...]) -> tuple[str, dict[str, str]]:
    """A command line's words: one whole line, or a command and arguments whose quotes the shell took off already."""
    command, args = parse_line(words[0])
    for word in words[1:]:
        found = WORD.fullmatch(word)
        name, sign, value = word.partition("=")
        if not sign:
            raise ValueError(f"expected argument=value after {list(args)[-1] if args else command}.")
        if name in args:
            raise ValueError(f"{name} is given twice.")
        args[name] = value_of(found) if found else value
    return command, args


class SafeHistory(FileHistory):
    """Lines of earlier prompts, in a file of its owner, without the values of secret arguments."""

    def __init__(self, server: Server) -> None:
        path = server.home / "history"
        path.touch(mode=0o600)
        path.chmod(0o600)
        names = {
            argument["name"]
            for command in server.commands.values()
            for argument in command.get("arguments") or []
            if argument.get("secret")
        }
        self._secret = re.compile(
            r"(?<![\w-])(%s)=(?:`[^`]*`?|\"(?:[^\"\\]|\\.)*\"?|\S*)" % ("|".join(map(re.escape, names)) or "(?!)"), re.S
        )
        super().__init__(str(path))

    def store_string(self, string: str) -> None:
        super().store_string(self._secret.sub(r"\1=", string))
