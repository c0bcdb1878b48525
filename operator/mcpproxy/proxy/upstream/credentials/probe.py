"""BackendCredentials of the checks of a backend that is called on behalf of callers.

A check has no caller, and therefore no token to exchange. It requests a token by client
credentials instead, which shows that the authorization server works and knows the proxy. Whether
the server exchanges the token of a caller, and whether the backend accepts the result, only calls
can show.
"""

import time
from collections.abc import Callable
from typing import Final

from mcpproxy.proxy.core.errors import TokenRefused, TokenUnavailable
from mcpproxy.proxy.core.exchange import BackendCredentials, ClientIdentity
from mcpproxy.proxy.upstream.credentials.access_tokens import Line
from mcpproxy.proxy.upstream.credentials.token_slot import TokenSlot

WITHOUT: Final = 600.0
"""Seconds for which checks do without a token that is not issued, or that the backend refuses."""


class ProbeCredentials:
    """The proxy's own token if it may have one, otherwise nothing."""

    by_caller = False
    latest = None

    def __init__(self, slot: TokenSlot, clock: Callable[[], float] = time.monotonic) -> None:
        self._slot = slot
        self._clock = clock
        self._serve_anyone: Callable[[], bool] = lambda: False
        self._without_until = float("-inf")

    def depend_on(self, serve_anyone: Callable[[], bool]) -> None:
        """Let checks pass although the server issues nothing, while callers have valid tokens."""
        self._serve_anyone = serve_anyone

    def of(self, client: ClientIdentity) -> BackendCredentials:
        """Return the same credentials: they belong to the proxy."""
        return self

    def header(self) -> Line | None:
        """Return the header field if a token is known."""
        return None if self._clock() < self._without_until else self._slot.header()

    async def obtain(self) -> Line | None:
        """Return the header field, or None to send none.

        Raise TokenRefused if the server does not accept the proxy as a client, and
        TokenUnavailable if it issues nothing at present.
        """
        if self._clock() < self._without_until:
            return None
        try:
            return await self._slot.obtain()
        except TokenRefused as error:
            if error.concerns_client:
                raise
            # The proxy may exchange tokens, but not have one for itself.
            self._without_until = self._clock() + WITHOUT
        except TokenUnavailable:
            if not self._serve_anyone():
                raise
        return None

    def refused(self, line: Line) -> bool:
        """Do without a token that the backend refuses, as it may accept those of callers alone."""
        self._without_until = self._clock() + WITHOUT
        return True

    async def close(self) -> None:
        """Cancel the fetch in progress."""
        await self._slot.close()
