"""Both interactive sign-ins, with a person's clicks in the pages of the local Entra."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, Route

from ..azure import LocalAzure
from ..azure.entra import PERSON, REDIRECT_URI
from ..xsoar.server import Run, Server
from ..xsoar.sign_in import address_and_code
from ..xsoar.walkthroughs import Failed
from .layout import WIDTHS

MOST_STEPS = 6
TIMEOUT = 10_000  # milliseconds


def done(run: Run) -> Run:
    if run.error or run.stray:
        raise Failed(f"{run.command}: {run.error or run.stray}")
    return run


@contextmanager
def local_page(browser: Browser, azure: LocalAzure) -> Iterator[Page]:
    """A page that trusts the certificate of the local Entra and loads nothing from elsewhere: its pages name a font."""
    context = browser.new_context(ignore_https_errors=True)
    context.set_default_timeout(TIMEOUT)

    def answer(route: Route) -> None:
        if route.request.url.startswith(azure.authority_url):
            route.continue_()
        else:
            route.abort()

    context.route("**/*", answer)
    try:
        yield context.new_page()
    finally:
        context.close()


def click_through(page: Page, ended: Callable[[], bool], name: str, folder: Path) -> list[str]:
    """Sign in and consent, until it has ended. Returns what is wrong on the way."""
    found = list[str]()
    for step in range(MOST_STEPS):
        page.wait_for_load_state()
        if ended():
            return found
        for width in reversed(WIDTHS):
            page.set_viewport_size({"width": width, "height": 900})
            wide = int(page.evaluate("() => document.documentElement.scrollWidth"))
            found += [f"{page.url} is {wide} wide at {width}"] if wide > width else []
        page.screenshot(path=folder / f"{name}-{step}.png")
        if page.locator("input[name=login]").count():
            page.fill("input[name=login]", PERSON)
            page.fill("input[name=password]", "any")
        with page.expect_event("framenavigated"):
            page.locator("button[type=submit]").first.click()
    return [*found, f"{name}: not signed in after {MOST_STEPS} pages"]


def device_code(browser: Browser, azure: LocalAzure, server: Server, folder: Path) -> list[str]:
    server.instances.save("device", azure.instance("Device Code"))
    address, code = address_and_code(done(server.run("device", "azure-storage-auth-start")))
    with local_page(browser, azure) as page:
        page.goto(address)
        page.fill("input[name=user_code]", code)
        found = click_through(page, lambda: "Success" in page.inner_text("body"), "device-code", folder)
        page.screenshot(path=folder / "device-code-end.png")
    done(server.run("device", "azure-storage-auth-complete"))
    done(server.run("device", "azure-storage-auth-test"))
    return found


def authorization_code(browser: Browser, azure: LocalAzure, server: Server, folder: Path) -> list[str]:
    """The redirect URI leads nowhere, as on a person's machine: what counts is the address that the browser asks for."""
    server.instances.save("browser", azure.instance("Authorization Code"))
    run = done(server.run("browser", "azure-storage-generate-login-url"))
    addresses = list[str]()
    with local_page(browser, azure) as page:
        page.on("request", lambda request: addresses.append(request.url))
        page.goto(run.entries[0]["Contents"]["login_url"])
        found = click_through(page, lambda: addresses[-1].startswith(REDIRECT_URI), "authorization-code", folder)
    done(server.run("browser", "azure-storage-auth-complete", {"code": addresses[-1]}))
    done(server.run("browser", "azure-storage-auth-test"))
    return found
