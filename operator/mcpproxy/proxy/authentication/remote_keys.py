"""The keys of an issuer: fetched in the background, and once more for unknown keys."""

import asyncio
import logging
import random
import ssl
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from mcpproxy.limits.access import KEY_DOCUMENT, KEYS_FETCH, KEYS_KEPT, KEYS_REFETCH
from mcpproxy.proxy.authentication.verification_keys import (
    InvalidKeySet,
    KeyListener,
    KeySet,
    parse_key_set,
)
from mcpproxy.proxy.core.reports import KeysReport
from mcpproxy.proxy.issuers.documents import IssuerError, IssuerHttp
from mcpproxy.proxy.issuers.metadata import KEYS, discover_metadata

if TYPE_CHECKING:
    from mcpproxy.api.v1alpha1 import JwtIssuer

FRESH: Final = 40.0
"""Seconds after which keys are fetched again, so that a revoked key is refused within a minute."""
RETRY: Final = 15.0
"""Seconds after a failed fetch until the next one."""

log = logging.getLogger("mcpproxy.authentication")


class KeyDocuments:
    """Fetcher of the key set of one issuer."""

    def __init__(
        self,
        issuer: "JwtIssuer",
        tls: Callable[[], ssl.SSLContext],
        resolve: Mapping[str, str],
    ) -> None:
        """`tls` returns the context of the next connection. `resolve` maps hosts to `host:port`."""
        self._issuer = issuer
        self._http = IssuerHttp(tls, resolve, KEY_DOCUMENT.value, KEY_DOCUMENT.record)

    async def fetch_keys(self) -> bytes:
        """Return the key set. Raise IssuerError."""
        try:
            async with asyncio.timeout(KEYS_FETCH.value):
                url = self._issuer.jwks_url or await self._discover()
                return (await self._http.fetch(url)).body
        except TimeoutError:
            KEYS_FETCH.record()
            raise IssuerError(f"no answer within {KEYS_FETCH.value} s") from None

    async def _discover(self) -> str:
        """Return the URL of the key set from the issuer's metadata. Raise IssuerError."""
        return (await discover_metadata(self._issuer.issuer, self._http, KEYS)).url


class RemoteKeys(KeySet):
    """The keys of one issuer that publishes them over HTTP."""

    def __init__(
        self,
        issuer: str,
        fetch: Callable[[], Awaitable[bytes]],
        now: Callable[[], float],
        listener: KeyListener,
    ) -> None:
        """`now` returns the seconds since the epoch."""
        super().__init__(issuer, listener)
        self._fetch = fetch
        self._now = now
        self._fetched_at: float | None = None
        self._asked_at = float("-inf")
        """Time at which a token with an unknown key last caused a fetch."""
        self._problem: str | None = None
        self._fetching: asyncio.Task[None] | None = None

    @property
    def may_learn(self) -> bool:
        """True if a fetch is in progress or permitted that may bring unknown keys."""
        return self._fetching is not None or self._now() - self._asked_at >= KEYS_REFETCH.value

    @property
    def are_known(self) -> bool:
        """True if the keys were fetched and are not too old."""
        self._forget_old()
        return self._fetched_at is not None

    @property
    def status(self) -> KeysReport:
        """The state for the report of the pod; it changes only if the issuer fails or recovers."""
        since = None if self._problem is None else self._fetched_at
        return KeysReport(
            issuer=self._issuer,
            keys=len(self.keys),
            message=self._problem,
            keys_from=None if since is None else datetime.fromtimestamp(since, UTC).isoformat(),
        )

    async def learn(self) -> None:
        """Fetch the keys for a token with an unknown one, as `refresh` does."""
        if self._fetching is None:
            self._asked_at = self._now()
        await self.refresh()

    async def refresh(self) -> None:
        """Fetch the keys, or wait for the fetch in progress; errors are in `status`."""
        if self._fetching is None:
            self._fetching = asyncio.create_task(self._fetch_once())
            self._fetching.add_done_callback(self._fetched)
        # A client that disconnects must not cancel the fetch for others.
        await asyncio.shield(self._fetching)

    def _fetched(self, task: "asyncio.Task[None]") -> None:
        self._fetching = None

    async def run(self) -> None:
        """Keep the keys fresh, forever."""
        while True:
            await self.refresh()
            self._forget_old()
            # Spread, because all pods start together.
            await asyncio.sleep((RETRY if self._problem else FRESH) * random.uniform(0.9, 1.0))

    async def _fetch_once(self) -> None:
        before = self._problem, self.keys
        try:
            self.replace(parse_key_set(await self._fetch()))
        except (IssuerError, InvalidKeySet) as error:
            self._problem = str(error)
            if before[0] is None:
                log.warning("keys of %s were not read: %s", self._issuer, error)
        else:
            self._problem, self._fetched_at = None, self._now()
        if before != (self._problem, self.keys):
            self._listener.changed()

    def _forget_old(self) -> None:
        if self._fetched_at is None or self._now() - self._fetched_at <= KEYS_KEPT.value:
            return
        KEYS_KEPT.record()
        self.replace(())
        self._fetched_at = None
        self._listener.changed()

    async def close(self) -> None:
        """Cancel the fetch in progress."""
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.gather(self._fetching, return_exceptions=True)
