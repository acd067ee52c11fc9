"""A chromium that is installed on this machine, driven by playwright."""

import contextlib
import shutil
from collections.abc import Iterator

from playwright.sync_api import Browser, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome")
MISSING = f"No browser was found ({', '.join(NAMES)}). On Debian and Ubuntu: apt-get install chromium."


def find() -> str:
    """The path of a browser, or nothing."""
    return next(filter(None, map(shutil.which, NAMES)), "")


@contextlib.contextmanager
def browser() -> Iterator[Browser]:
    """A browser without a window. It runs without its sandbox, which root has no use of; it opens our own pages only."""
    with sync_playwright() as driver:
        found = driver.chromium.launch(executable_path=find(), args=["--no-sandbox"])
        try:
            yield found
        finally:
            found.close()
