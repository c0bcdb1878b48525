"""One token that many requests use: fetched once for all of them, and renewed before it expires."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

from mcpproxy.backoff import Backoff
from mcpproxy.proxy.core.errors import BackendError, Unauthorized
from mcpproxy.proxy.upstream.credentials.access_tokens import (
    FIRST_PAUSE,
    LONGEST_PAUSE,
    AccessToken,
    Line,
    repeated,
)

SETTLED: Final = 30.0
"""Seconds after which a token that a backend refuses was not refused from the start."""
MARGIN: Final = 5.0
"""Maximum seconds before its expiration at which a token is used no longer, because requests
travel."""


class TokenSlot:
    """The token of one identity for one backend."""

    def __init__(
        self,
        fetch: Callable[[], Awaitable[AccessToken]],
        refresh_before: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`fetch` raises BackendError. `refresh_before` is in seconds."""
        self._fetch = fetch
        self._refresh_before = refresh_before
        self._clock = clock
        self._token: AccessToken | None = None
        self._ends_at = self._renewed_from = 0.0
        """Times from which the token is used no longer, and from which it is renewed."""
        self._fetching: asyncio.Task[AccessToken | BackendError] | None = None
        self._failures = Backoff(FIRST_PAUSE, LONGEST_PAUSE)
        """After fetches that failed."""
        self._refusals = Backoff(FIRST_PAUSE, LONGEST_PAUSE)
        """After tokens that the backend refused from the start."""
        self._last: BackendError | None = None
        """The error of the last fetch, or of the backend about the last token."""

    @property
    def is_valid(self) -> bool:
        """True if a token is known that has not expired."""
        return self._token is not None and self._clock() < self._token.expires_at

    def header(self) -> Line | None:
        """Return the header field if a token is known; begin to renew the token in time.

        None if a token must be fetched first.
        """
        token, now = self._token, self._clock()
        if token is None:
            return None
        if now >= self._ends_at:
            self._token = None
            return None
        if now >= self._renewed_from and self._may_fetch(now):
            self._begin()
        return token.line

    def _use(self, token: AccessToken) -> None:
        lifetime = token.lifetime
        self._token = token
        self._ends_at = token.expires_at - min(MARGIN, lifetime / 4)
        self._renewed_from = token.expires_at - min(self._refresh_before, lifetime / 2)

    def _may_fetch(self, now: float) -> bool:
        waits = self._failures.is_waiting(now) or self._refusals.is_waiting(now)
        return self._fetching is None and not waits

    async def obtain(self) -> Line:
        """Return the header field, with a token that is fetched if necessary. Raise
        BackendError."""
        line = self.header()
        if line is not None:
            return line
        fetching = self._fetching
        if fetching is None:
            if self._last is not None and not self._may_fetch(self._clock()):
                raise repeated(self._last)
            fetching = self._begin()
        # A caller that gives up must not cancel the fetch for others.
        result = await asyncio.shield(fetching)
        if isinstance(result, BackendError):
            raise repeated(result)
        return result.line

    def _begin(self) -> "asyncio.Task[AccessToken | BackendError]":
        self._fetching = asyncio.create_task(self._fetch_once())
        return self._fetching

    async def _fetch_once(self) -> AccessToken | BackendError:
        try:
            token = await self._fetch()
        except BackendError as error:
            self._last = error
            self._failures.record_failure(self._clock())
            return error
        else:
            self._failures.reset()
            self._use(token)
            return token
        finally:
            self._fetching = None

    def refused(self, line: Line) -> bool:
        """Discard a token that the backend refused (401). Return True if another one may help.

        If tokens are refused from the start, the first of them is replaced at once, and the others
        at growing intervals.
        """
        token, now = self._token, self._clock()
        if token is None or token.line != line:
            # Another request found this out before.
            return token is not None or self._fetching is not None or self._may_fetch(now)
        self._token = None
        if now - token.obtained_at >= SETTLED:
            self._refusals.reset()
            return True
        self._last = Unauthorized("HTTP 401: the backend rejected the credentials")
        is_first = not self._refusals.failures
        self._refusals.record_failure(now)
        if is_first:
            self._begin()
        return is_first

    def discard(self, line: Line) -> None:
        """Discard a token that was not refused, but does not suffice."""
        if self._token is not None and self._token.line == line:
            self._token = None

    async def close(self) -> None:
        """Cancel the fetch in progress."""
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.gather(self._fetching, return_exceptions=True)
