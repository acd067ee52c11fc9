"""The person at the browser, done by script: what somebody would click in the sign-in pages of the local Entra."""

import re
import urllib.parse
from collections.abc import Callable
from pathlib import Path

import requests


class Person:
    """Signs in as `name`; every step is told to `on_step`."""

    def __init__(self, ca_file: Path, name: str, on_step: Callable[[str], None] = lambda step: None) -> None:
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.verify = str(ca_file)
        self.name, self.on_step = name, on_step

    def sign_in_device(self, verification_uri: str, user_code: str, *, deny: bool = False) -> None:
        """Open the address, enter the code, sign in and consent (or refuse)."""
        self.on_step(f"opens {verification_uri}")
        page = self.session.get(verification_uri, params={"user_code": user_code}, timeout=10)
        self.on_step(f"enters the code {user_code}")
        page = self._submit(page)
        page = self._submit(page, abort="yes") if deny else self._submit(page, confirm="yes")
        if deny:
            self.on_step("declines")
            return
        self._finish(page)

    def sign_in_code(self, login_url: str, *, deny: bool = False) -> str:
        """Open the login URL, sign in and consent. Returns the address that the browser ends at."""
        self.on_step(f"opens {urllib.parse.urlsplit(login_url)._replace(query='...').geturl()}")
        page = self._follow(self.session.get(login_url, timeout=10, allow_redirects=False))
        if deny:
            self.on_step("declines")
            link = re.search(r'href="([^"]+/abort)"', page.text)
            assert link, page.text  # noqa: S101 - the page has it, or the script is of no use
            return self._end(
                self._follow(
                    self.session.get(urllib.parse.urljoin(page.url, link[1]), allow_redirects=False, timeout=10)
                )
            )
        return self._end(self._finish(page))

    def _finish(self, page: requests.Response) -> requests.Response:
        while "<form" in page.text and "[ Success ]" not in page.text:
            if 'name="login"' in page.text:
                self.on_step(f"signs in as {self.name}")
                page = self._submit(page, login=self.name, password="any")  # noqa: S106 - the pages take any
            elif "consent" in page.text.lower():
                self.on_step("consents")
                page = self._submit(page)
            else:
                break
        return page

    def _submit(self, page: requests.Response, **fields: str) -> requests.Response:
        form = re.search(r'<form[^>]*action="([^"]*)"', page.text)
        assert form, f"no form at {page.url}: {page.text[:500]}"  # noqa: S101 - the page has it, or the script is of no use
        hidden = dict(re.findall(r'<input type="hidden" name="([^"]+)" value="([^"]*)"', page.text))
        url = urllib.parse.urljoin(page.url, form[1].replace("&amp;", "&"))
        return self._follow(self.session.post(url, data=hidden | fields, timeout=10, allow_redirects=False))

    def _follow(self, page: requests.Response) -> requests.Response:
        """Follow redirects as long as they stay at the sign-in service."""
        while page.is_redirect:
            url = urllib.parse.urljoin(page.url, page.headers["Location"])
            if urllib.parse.urlsplit(url).netloc != urllib.parse.urlsplit(page.url).netloc:
                return page
            page = self.session.get(url, timeout=10, allow_redirects=False)
        return page

    def _end(self, page: requests.Response) -> str:
        address = page.headers.get("Location", "")
        assert address, f"the browser did not leave {page.url}: {page.text[:300]}"  # noqa: S101
        self.on_step(f"ends at {address.partition('?')[0]}")
        return address
