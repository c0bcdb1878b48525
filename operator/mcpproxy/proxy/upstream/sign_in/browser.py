"""The browser in which a user signs in, and the port at which it reports the result."""

import asyncio
import logging
import re
import threading
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final
from urllib.parse import parse_qs, urlsplit

from mcp.shared.auth import AuthorizationCodeResult

from mcpproxy.limits.tokens import SIGN_IN_TIME
from mcpproxy.proxy.upstream.sign_in.callback import CallbackPort

log = logging.getLogger("mcpproxy.backend")
_ERROR: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class SignInFailed(Exception):
    """The user did not sign in."""


class Browser:
    """Browser of the user, for sign-ins to one backend."""

    def __init__(self, backend: str, may_open: Callable[[str], bool]) -> None:
        """`may_open` says whether a URL of an authorization server may be opened."""
        self._backend = backend
        self._may_open = may_open
        self._port: CallbackPort | None = None
        self.was_opened = False
        """True if the user was asked in the current sign-in."""

    @contextmanager
    def waiting(self, port: CallbackPort) -> Iterator[CallbackPort]:
        """Receive the redirect at a port, which is closed at the end."""
        self._port, self.was_opened = port, False
        try:
            yield port
        finally:
            self._port = None
            port.close()

    async def open(self, url: str) -> None:
        """Ask the user to sign in at a URL. Raise SignInFailed."""
        assert self._port is not None
        if not self._may_open(url):
            raise SignInFailed("the authorization endpoint is not an https URL")
        await self._port.listen(parse_qs(urlsplit(url).query).get("state", [""])[-1])
        self.was_opened = True
        log.warning("backend %s: sign in at %s", self._backend, url)
        # A browser in the terminal occupies the thread for as long as it is open.
        threading.Thread(target=_open, args=(url,), daemon=True).start()

    async def result(self) -> AuthorizationCodeResult:
        """Wait for the redirect. Raise SignInFailed."""
        assert self._port is not None
        try:
            async with asyncio.timeout(SIGN_IN_TIME.value):
                redirect = await self._port.redirect()
        except TimeoutError:
            SIGN_IN_TIME.record()
            raise SignInFailed(f"nobody signed in within {SIGN_IN_TIME.value} s") from None
        if redirect.error:
            known = _ERROR.fullmatch(redirect.error)
            raise SignInFailed(
                f"the authorization server reports {redirect.error if known else 'an error'}"
            )
        return AuthorizationCodeResult(
            code=redirect.code, state=redirect.state, iss=redirect.issuer
        )


def _open(url: str) -> None:
    try:
        webbrowser.open(url)
    except (webbrowser.Error, OSError) as error:
        log.warning("no browser was opened: %s", error)
