"""The token of a user who signs in, as the credentials of a backend.

A backend gets requests without a token until it refuses one (401), so that nobody signs in to a
server that needs none.
"""

import asyncio
import ssl
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Final

from mcpproxy.proxy.core.errors import SignInNeeded
from mcpproxy.proxy.core.exchange import BackendCredentials, ClientIdentity
from mcpproxy.proxy.upstream.credentials.access_tokens import AccessToken, Line
from mcpproxy.proxy.upstream.credentials.token_slot import TokenSlot
from mcpproxy.proxy.upstream.sign_in.settings import Challenge, SignIn
from mcpproxy.proxy.upstream.sign_in.store import SignInFile

if TYPE_CHECKING:
    from mcpproxy.proxy.upstream.sign_in.flow import SignInFlow

GRACE: Final = 3.0
"""Seconds for which a request waits for a sign-in; a browser with a session needs no more."""
REFRESH_BEFORE: Final = 60.0
_WAITING: Final = "the backend waits for a sign-in; open the URL in the log of mcpproxy"


class SignInCredentials:
    """Token of the user of this proxy, for one backend."""

    by_caller = False
    latest = None

    def __init__(
        self,
        name: str,
        url: str,
        settings: SignIn,
        file: SignInFile,
        tls: Callable[[], ssl.SSLContext],
        resolve: Mapping[str, str],
    ) -> None:
        """`url` is that of the backend."""

        def build() -> "SignInFlow":
            # The SDK takes memory and most of a second, which a proxy without sign-in saves.
            from mcpproxy.proxy.upstream.sign_in.flow import SignInFlow
            from mcpproxy.proxy.upstream.sign_in.requests import NamedServers

            return SignInFlow(name, url, settings, file, NamedServers(url, tls, resolve))

        self._build = build
        self._flow: SignInFlow | None = None
        self._slot = TokenSlot(self._fetch, REFRESH_BEFORE)
        if settings.again:
            file.delete()
        self._is_needed = bool(file.read())
        """True once the backend has refused a request without a token."""
        self._challenge: Challenge | None = None
        self._latest: Challenge | None = None
        """The challenge to which the current token is the response."""
        self._refused = False
        self._told = self._news = False

    def of(self, client: ClientIdentity) -> BackendCredentials:
        """Return the same credentials for every client: the proxy has one user."""
        return self

    def header(self) -> Line | None:
        """Return the header field if a token is known."""
        return self._slot.header() if self._is_needed else None

    async def obtain(self) -> Line | None:
        """Return the header field, or None while the backend needs none. Raise BackendError."""
        if not self._is_needed:
            return None
        line = self._slot.header()
        if line is not None:
            return line
        try:
            async with asyncio.timeout(GRACE):
                return await self._slot.obtain()
        except TimeoutError:
            self._told = True
            raise SignInNeeded(_WAITING).unsent() from None

    def challenged(self, status: int, header: bytes, line: Line | None) -> bool:
        """Read a refusal of the backend. Return True if another token may help."""
        challenge = Challenge(status, header)
        if challenge.is_step_up:
            # A token that was issued for this very challenge does not become better.
            if line is None or not challenge.can_be_met or challenge == self._latest:
                return False
            self._challenge = challenge
            self._slot.discard(line)
            return True
        self._is_needed = True
        if self._challenge is None:
            self._challenge = challenge
        if line is None:
            return True
        self._refused = True
        return self._slot.refused(line)

    def refused(self, line: Line) -> bool:
        """Discard a token that the backend refused."""
        return self.challenged(401, b"", line)

    def changed(self) -> bool:
        """Return True once after a sign-in for which requests did not wait."""
        news, self._news = self._news, False
        return news

    async def _fetch(self) -> AccessToken:
        if self._flow is None:
            self._flow = await asyncio.to_thread(self._build)
        challenge, refused = self._challenge, self._refused
        self._refused = False
        token = await self._flow.obtain(challenge, refused=refused)
        if challenge is not None:
            self._latest = challenge
        if self._challenge is challenge:
            self._challenge = None
        self._news, self._told = self._told, False
        return token

    async def close(self) -> None:
        """End the sign-in in progress."""
        await self._slot.close()
