"""Negotiation of transport and era for new upstream sessions; the result is cached.

A backend that supports both eras is used in the client's era. Only a valid response to the probe
for the modern era (`server/discover`) counts as support. After anything else (401, 429, 5xx, a
broken connection, no response), `initialize` follows.
"""

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import Awaitable
from typing import Final, Literal

from mcpproxy.api.defaults import BackendSettings
from mcpproxy.backoff import Backoff
from mcpproxy.limits.sessions import INITIALIZED_TIME
from mcpproxy.proxy.core.errors import BackendError, ContinuationFailed, ProtocolError, TimedOut
from mcpproxy.proxy.core.exchange import ClientIdentity
from mcpproxy.proxy.core.session_records import SessionRecord
from mcpproxy.proxy.protocol import revisions as rev
from mcpproxy.proxy.protocol.jsonrpc import RpcError
from mcpproxy.proxy.time_limits import TimeLimit
from mcpproxy.proxy.upstream.connect.handshake import (
    EraNotSupported,
)
from mcpproxy.proxy.upstream.transports.session import OnOpened, TaskSet, UpstreamSession

Era = Literal["legacy", "modern"]
TransportName = Literal["streamable-http", "sse", "stdio"]
PROBE_AGAIN: Final = 60.0
"""Seconds until a backend is probed again after a probe that proved nothing about an era."""
PROBE_LATEST: Final = 3600.0

log = logging.getLogger("mcpproxy.backend")


class Connector(ABC):
    """Opens sessions with one backend."""

    def __init__(self) -> None:
        self.transport: TransportName | None = None
        """The transport, once it is known."""

    @abstractmethod
    async def open(self, client: ClientIdentity) -> UpstreamSession:
        """Open an upstream session for this client, ready for requests. Raises BackendError."""

    def begin_open(self, client: ClientIdentity, done: OnOpened) -> bool:
        """Open a session without a task, or return False if that requires waiting."""
        return False

    @property
    def keeps_spares(self) -> bool:
        """True if each session is opened with a spare process, which suits any client."""
        return False

    @property
    def answered_at(self) -> float:
        """Time of the loop at which the last response on an open connection was complete."""
        return float("-inf")

    @property
    def connecting(self) -> tuple[int, float]:
        """Number of connections that were opened or failed, and the seconds that it took."""
        return 0, 0.0

    def record_of(self, link: UpstreamSession) -> SessionRecord | None:
        """Return the record with which other instances continue a session; None if only this one
        can use it."""
        return None

    def can_resume(self, record: SessionRecord) -> bool:
        """True if this connector can continue the session in a record."""
        return False

    async def resume(self, record: SessionRecord, client: ClientIdentity) -> UpstreamSession:
        """Continue a session that another instance opened. Raises BackendError."""
        raise ContinuationFailed("the session ended with the instance that opened it")

    async def end(self, record: SessionRecord, client: ClientIdentity) -> None:  # noqa: B027
        """End a session that another instance opened. Never raises."""

    def forget(self) -> None:  # noqa: B027  most connectors know nothing that may become outdated
        """Discard what is known of the backend, because it may return with another era."""

    def changed(self) -> bool:
        """True if something was opened with outdated mounted values since the last call.

        Such connections and processes must not be used for new requests.
        """
        return False

    async def close(self) -> None:  # noqa: B027  most connectors have no connections of their own
        """Close connections."""


class NegotiatingConnector(Connector):
    """A connector that finds out the eras of its backend, and caches them."""

    def __init__(self, settings: BackendSettings, background: TaskSet) -> None:
        super().__init__()
        pin = settings.protocol
        self._deadline = settings.deadlines
        self._time_limit = TimeLimit(self._deadline.connect + self._deadline.initialize)
        self._initialized_limit = TimeLimit(INITIALIZED_TIME.value)
        self._background = background
        self._pinned = pin if pin in rev.ALL else None
        self._sharing = settings.session_mode == "Reused"
        self._sharing_by_principal = settings.session_mode == "PerClient"
        """Clients without sessions share upstream sessions, one for each principal."""
        self._pinned_era: Era | None = None
        if pin != "auto":
            self._pinned_era = "modern" if pin == "modern" or pin in rev.MODERN else "legacy"
        self._unsupported: set[Era] = set()
        """Eras that the backend has refused."""
        self._supported: set[Era] = set()
        """Eras in which the backend has responded."""
        self._probe_backoffs: dict[Era, Backoff] = {
            "legacy": Backoff(PROBE_AGAIN, PROBE_LATEST),
            "modern": Backoff(PROBE_AGAIN, PROBE_LATEST),
        }
        """After probes that proved nothing about an era. A probe may cost a client the entire time
        that it waits for a response."""

    def forget(self) -> None:
        self._unsupported.clear()
        self._supported.clear()
        for backoff in self._probe_backoffs.values():
            backoff.reset()

    def revision_for(self, client: ClientIdentity) -> str:
        """Return the legacy revision to offer for a client."""
        return self._pinned or rev.negotiate_revision(client.revision)

    async def open(self, client: ClientIdentity) -> UpstreamSession:
        return await self._in_time(self._open(client))

    async def _in_time(self, opening: Awaitable[UpstreamSession]) -> UpstreamSession:
        """Return the session that is being opened. Raises BackendError, also if it is late."""
        try:
            with self._time_limit():
                return await opening
        except RpcError as error:
            raise ProtocolError(f"invalid MCP response: {error}") from None
        except TimeoutError:
            raise self._late() from None

    def _late(self) -> TimedOut:
        return TimedOut(f"no session was opened within {self._deadline.initialize:g} s")

    async def _open(self, client: ClientIdentity) -> UpstreamSession:
        """Open a session in the client's era if the backend supports it, otherwise in the other
        one."""
        refusal: ProtocolError | None = None
        transient: EraNotSupported | None = None
        doubt: BackendError | None = None
        eras = self._era_order(client)
        for era in eras:
            try:
                link = await (self._legacy if era == "legacy" else self._modern)(client)
                if link is not None:
                    self._record_support(era, doubt)
                    return link
                self._unsupported.add("modern")
                refusal = refusal or ProtocolError("the backend supports no modern revision")
            except EraNotSupported as error:
                if error.transient:
                    transient = error
                else:
                    self._unsupported.add("legacy")
                refusal = error
            except BackendError as error:
                is_final = era is eras[-1] or not self._tries_other_era(era, error)
                if is_final and transient is None:
                    raise
                doubt = error
        self._unsupported.clear()
        raise transient or doubt or refusal or ProtocolError("the backend supports no MCP revision")

    def _tries_other_era(self, era: Era, error: BackendError) -> bool:
        """True if a failed probe proves nothing about the era, so that the other era is tried."""
        is_unproven = era == "modern" and era not in self._supported
        return is_unproven and error.reached

    def _record_support(self, era: Era, doubt: BackendError | None = None) -> None:
        self._supported.add(era)
        self._probe_backoffs[era].reset()
        if doubt is not None and era == "legacy":
            self._record_inconclusive_probe("modern")

    def _record_inconclusive_probe(self, era: Era) -> None:
        """Record that a probe proved nothing about an era."""
        self._probe_backoffs[era].record_failure(asyncio.get_running_loop().time())

    def _era_order(self, client: ClientIdentity) -> list[Era]:
        if self._pinned_era is not None:
            return [self._pinned_era]
        # Reused sessions prefer the era without sessions.
        modern_first = client.modern or self._sharing
        order: list[Era] = ["modern", "legacy"] if modern_first else ["legacy", "modern"]
        not_refused = [era for era in order if era not in self._unsupported]
        now = asyncio.get_running_loop().time()
        if len(not_refused) == len(order) and self._probe_backoffs[order[0]].is_waiting(now):
            not_refused.reverse()
        return not_refused or order

    @abstractmethod
    async def _legacy(self, client: ClientIdentity) -> UpstreamSession | None:
        """Open a legacy session. Raises EraNotSupported, BackendError."""

    @abstractmethod
    async def _modern(self, client: ClientIdentity) -> UpstreamSession | None:
        """Open a modern session; None if the backend does not support the era. Raises
        BackendError."""
