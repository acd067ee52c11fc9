"""`python -m local.azure`: an Azure in the foreground, until Ctrl-C."""

import json
import tempfile
import threading
from pathlib import Path

from . import LocalAzure


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, LocalAzure(Path(folder)) as azure:
        print(json.dumps({"params": azure.instance(), "environment": azure.environment()}, indent=2))
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            print("stopped")


if __name__ == "__main__":
    main()
