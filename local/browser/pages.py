"""What a person does with a report: filters it, copies a command, prints it."""

from pathlib import Path

from playwright.sync_api import Browser, Error, Page

from .layout import WIDTHS, problems, texts
from .reports import Kind

SHOWN_ROWS = (
    "() => [...document.querySelectorAll('tbody tr,li')].filter(row => !row.hidden).map(row => row.textContent)"
)
SECTIONS = "() => [...document.querySelectorAll('details.section')].filter(part => !part.hidden).map(part => part.dataset.name)"
LINKS = "() => [...document.querySelectorAll('[href],[src],[action]')].map(element => element.outerHTML.slice(0, 80))"
NO_MATCH = "no row has this text"
TIMEOUT = 10_000  # milliseconds


def filter_problems(page: Page) -> list[str]:
    """The filter shows the rows that have the text, in any case, or the severity, and all of them again."""
    found, every = list[str](), texts(page, SHOWN_ROWS)
    sections = texts(page, SECTIONS)
    word = max((page.locator("tbody td,li").nth(1).text_content() or "").lower().split(), key=len)
    page.fill("#text", word.upper())
    rows, names = texts(page, SHOWN_ROWS), texts(page, SECTIONS)
    wanted = [row for row in every if word in row.lower()]
    if not set(wanted) <= set(rows) or not all(word in " ".join([row, *names]).lower() for row in rows):
        found.append(f"the filter for {word!r} shows {len(rows)} rows, of which {len(wanted)} have it")
    page.fill("#text", NO_MATCH)
    if texts(page, SHOWN_ROWS) or texts(page, SECTIONS):
        found.append("the filter shows rows that don't match")
    page.fill("#text", "")
    if page.locator("#severity").count():
        page.select_option("#severity", "High")
        rows = texts(page, SHOWN_ROWS)
        if not rows or not all(row.startswith("High") for row in rows):
            found.append("the severity filter shows other rows")
        page.select_option("#severity", "")
    if (texts(page, SHOWN_ROWS), texts(page, SECTIONS)) != (every, sections):
        found.append("an empty filter doesn't show everything")
    return found


def copy_problems(page: Page) -> list[str]:
    """The first button puts the command before it on the clipboard."""
    if not page.locator("code").count():
        return []
    command = page.locator("code").first.text_content() or ""
    page.locator("code + button").first.click()
    page.locator("button.copied").wait_for()
    copied = str(page.evaluate("() => navigator.clipboard.readText()"))
    return (
        [] if copied == command and command.startswith("!azure-storage-") else [f"copied {copied!r}, not {command!r}"]
    )


def print_problems(page: Page, most: int, to: Path) -> list[str]:
    """How many pages of paper it takes."""
    pages = page.pdf(path=to, prefer_css_page_size=True).count(b"/Type /Page\n")
    return [] if 0 < pages <= most else [f"printed on {pages} pages, more than {most}"]


def screenshots(page: Page, name: str, folder: Path) -> None:
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        page.screenshot(path=folder / f"{name}-{width}.png", full_page=True)
    page.set_viewport_size({"width": WIDTHS[0], "height": 900})
    page.emulate_media(color_scheme="dark")
    page.screenshot(path=folder / f"{name}-dark.png")
    page.emulate_media(color_scheme="light")


def check(browser: Browser, kind: Kind, path: Path, folder: Path) -> list[str]:
    """What is wrong with a report; its pictures go to the folder."""
    context = browser.new_context(permissions=["clipboard-read", "clipboard-write"])
    context.set_default_timeout(TIMEOUT)
    page, found, asked = context.new_page(), list[str](), list[str]()
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: found.append(f"the script fails: {error}"))
    try:
        page.goto(path.as_uri())
        screenshots(page, kind.name, folder)
        found += print_problems(page, kind.pages, folder / f"{kind.name}.pdf")
        found += [*filter_problems(page), *copy_problems(page), *problems(page)]
        found += [f"it refers to something else: {text}" for text in texts(page, LINKS)]
    except Error as error:
        found.append(f"the browser fails: {error.message}")
    found += [f"it loads {url}" for url in asked if url != path.as_uri()]
    context.close()
    return found
