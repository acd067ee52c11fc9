"""What a command pays before it begins: compiling and executing the module, against an earlier commit in the same process.

`python benchmarks/start.py [COMMIT]`. The server compiles the text anew for each command. What the module imports is
imported before. Processor time, so that other work on the machine does not count.
"""

import statistics
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parent.parent
ROUNDS = 15
EARLIER = "1f0a2cb"
sys.path[:0] = [str(ROOT), str(ROOT / "local" / "standins")]


def milliseconds(text: str) -> tuple[float, float]:
    """To compile and to execute."""
    module = ModuleType("measured")
    sys.modules["measured"] = module  # dataclasses look their module up
    started = time.process_time()
    code = compile(text, "AzureStorage.py", "exec")
    compiled = time.process_time()
    exec(code, vars(module))  # noqa: S102 - the module itself
    return 1000 * (compiled - started), 1000 * (time.process_time() - compiled)


def main() -> None:
    commit = sys.argv[1] if len(sys.argv) > 1 else EARLIER
    command = ("git", "-C", str(ROOT), "show", f"{commit}:AzureStorage.py")
    texts = {
        "now": (ROOT / "AzureStorage.py").read_text(),
        commit: subprocess.run(command, check=True, capture_output=True, text=True).stdout,
    }
    for text in texts.values():  # what a first time costs besides: imports and caches
        milliseconds(text)
    rounds = [{name: milliseconds(text) for name, text in texts.items()} for _ in range(ROUNDS)]
    found = {name: [statistics.median(one[name][part] for one in rounds) for part in (0, 1)] for name in texts}
    for name, (compiling, executing) in found.items():
        print(f"{name}: compile {compiling:.0f} ms, execute {executing:.0f} ms, {len(texts[name]) / 1000:.0f} KB")
    print(f"start: {sum(found['now']) / sum(found[commit]):.2f} times as long as at {commit}")


if __name__ == "__main__":
    main()
