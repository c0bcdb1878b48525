"""A user in a browser: signs in at a provider, and is sent back to the client.

`python -m tests.peers.browser URL` also goes where the provider sends it; with `--stay`, it prints
that URL instead.
"""

import html
import re
import sys
import urllib.error
import urllib.parse
import urllib.request
from http.client import HTTPResponse
from http.cookiejar import CookieJar
from typing import Any, Final

STEPS: Final = 20
LOGIN: Final = "alice"
_FORM: Final = re.compile(r'<form[^>]*action="([^"]+)"[^>]*method="post"', re.IGNORECASE)
_INPUT: Final = re.compile(r"<input[^>]*>", re.IGNORECASE)
_ATTRIBUTE: Final = re.compile(r'(\w+)="([^"]*)"')


class SignInFailed(Exception):
    """The provider shows a page without a form, or too many pages."""


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *parts: Any) -> None:
        return None


class Browser:
    """Follows redirects, keeps cookies, and fills in forms."""

    def __init__(self) -> None:
        cookies = urllib.request.HTTPCookieProcessor(CookieJar())
        self._opener = urllib.request.build_opener(cookies, _NoRedirects())

    def sign_in(self, url: str) -> str:
        """Begin at an authorization endpoint; return the URL to which the user is sent back.

        Raise SignInFailed.
        """
        origin = urllib.parse.urlsplit(url).netloc
        data: bytes | None = None
        for _ in range(STEPS):
            status, location, page = self._load(url, data)
            if location:
                url, data = urllib.parse.urljoin(url, location), None
                if urllib.parse.urlsplit(url).netloc != origin:
                    return url
                continue
            form = _FORM.search(page)
            if form is None:
                raise SignInFailed(f"{url}: status {status}, {page[:500]}")
            url, data = urllib.parse.urljoin(url, html.unescape(form[1])), _filled_in(page)
        raise SignInFailed(f"{STEPS} pages, the last of which is {url}")

    def _load(self, url: str, data: bytes | None) -> tuple[int, str, str]:
        response: HTTPResponse | urllib.error.HTTPError
        try:
            response = self._opener.open(url, data, timeout=30)
        except urllib.error.HTTPError as problem:
            response = problem
        with response:
            location = response.headers.get("Location") or ""
            return response.status or 0, location, response.read().decode("utf-8", "replace")


def _filled_in(page: str) -> bytes:
    """Return the fields of the form in a page, filled in."""
    answers = {"login": LOGIN, "username": LOGIN, "password": "password-of-alice"}
    fields = {}
    for tag in _INPUT.findall(page):
        attributes = dict(_ATTRIBUTE.findall(tag))
        if name := attributes.get("name"):
            fields[name] = answers.get(name) or html.unescape(attributes.get("value", ""))
    return urllib.parse.urlencode(fields).encode()


def main(arguments: list[str]) -> None:
    """Sign in at the URL that is the last argument."""
    callback = Browser().sign_in(arguments[-1])
    if "--stay" in arguments:
        sys.stdout.write(callback)
    else:
        urllib.request.urlopen(callback, timeout=30).close()


if __name__ == "__main__":
    main(sys.argv[1:])
