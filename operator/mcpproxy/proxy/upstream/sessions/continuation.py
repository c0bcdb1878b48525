"""Upstream sessions of clients that outlive the instance that opened them.

With PerClient, the session id of a client contains the record of its upstream session. If the
instance that opened it ends, the others send requests in the same upstream session.
"""

from collections.abc import Callable
from typing import Protocol
from weakref import WeakSet

from mcpproxy.proxy.core.errors import BackendError
from mcpproxy.proxy.core.exchange import CallContext, ClientIdentity
from mcpproxy.proxy.core.session_records import SessionRecord
from mcpproxy.proxy.http1.client.client import asking
from mcpproxy.proxy.protocol.jsonrpc import RpcError
from mcpproxy.proxy.upstream.client_features import FeaturePolicy
from mcpproxy.proxy.upstream.sessions.pool import SessionPool
from mcpproxy.proxy.upstream.transports.http_legacy import HttpLegacySession
from mcpproxy.proxy.upstream.transports.session import OnOpened, UpstreamSession


class Resumer(Protocol):
    """Opens and continues sessions with one backend."""

    async def open(self, client: ClientIdentity) -> UpstreamSession:
        """Open a session. Raises BackendError."""

    def begin_open(self, client: ClientIdentity, done: OnOpened) -> bool:
        """Open a session without a task, or return False if that requires waiting."""

    def record_of(self, link: UpstreamSession) -> SessionRecord | None:
        """Return the record of a session; None if only this instance can use it."""

    def can_resume(self, record: SessionRecord) -> bool:
        """True if the session in a record can be continued here."""

    async def resume(self, record: SessionRecord, client: ClientIdentity) -> UpstreamSession:
        """Continue the session in a record. Raises BackendError."""

    async def end(self, record: SessionRecord, client: ClientIdentity) -> None:
        """End the session in a record. Never raises."""


class SessionContinuation:
    """Records of the upstream sessions of one backend, and sessions of ended instances."""

    def __init__(
        self,
        backend: str,
        pool: SessionPool,
        connector: Resumer,
        features: FeaturePolicy,
        context_of: Callable[[ClientIdentity], CallContext],
    ) -> None:
        """`context_of` returns the context that receives what the backend sends outside of
        requests."""
        self._backend = backend
        self._pool = pool
        self._connector = connector
        self._features = features
        self._context_of = context_of
        self._recorded: WeakSet[UpstreamSession] = WeakSet()

    async def open(self, client: ClientIdentity) -> SessionRecord | None:
        """Open the session of a client that initializes, and return its record, if other
        instances can continue it. Raises BackendError, RpcError."""
        asking.set(client.holder)
        async with self._pool.acquire(self._features.client(client)) as link:
            record = self._connector.record_of(link)
            if record is not None and link.stateful:
                self._recorded.add(link)
            return record

    def outlives(self, link: UpstreamSession) -> bool:
        """True if a session does not end with this instance, because others can continue it."""
        return link in self._recorded or (isinstance(link, HttpLegacySession) and link.resumed)

    def can_resume(self, client: ClientIdentity) -> bool:
        """True if this instance can continue the session that another one opened."""
        record = client.record_of(self._backend)
        return record is not None and self._connector.can_resume(record)

    async def follow(self, client: ClientIdentity) -> Callable[[], None] | None:
        """Receive what the backend sends outside of requests, for a client whose stream is here.

        Return the canceller; None if nothing can be received. Never raises.
        """
        record = client.record_of(self._backend)
        if record is None or not record.id or not self._connector.can_resume(record):
            return None
        seen = self._features.client(client)
        try:
            async with self._pool.acquire(seen) as link:
                listening = self._pool.upstream.listen(link, self._context_of(seen))
        except (BackendError, RpcError):
            # The next request reports the failure.
            return None
        return lambda: self._pool.upstream.stop_listening(link, listening)

    async def end(self, client: ClientIdentity) -> None:
        """End the session that another instance opened, because its client has ended its own.

        Never raises.
        """
        record = client.record_of(self._backend)
        if record is not None:
            await self._connector.end(record, client)


async def open_or_resume(
    connector: Resumer, backend: str, client: ClientIdentity
) -> UpstreamSession:
    """Open a session for a client, or continue the one that an ended instance had opened.

    Raises BackendError.
    """
    record = client.record_of(backend)
    if record is None:
        return await connector.open(client)
    return await connector.resume(record, client)


def begin_open(connector: Resumer, backend: str, client: ClientIdentity, done: OnOpened) -> bool:
    """Open a session for a client as `open_or_resume`, but without a task; return False if that
    requires waiting."""
    return client.record_of(backend) is None and connector.begin_open(client, done)
