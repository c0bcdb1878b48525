"""One backend's view of clients: the sessions that serve them, and the lists that they get."""

import asyncio
from contextlib import AbstractAsyncContextManager

from mcpproxy.api.defaults import BackendSettings
from mcpproxy.proxy.core.errors import BackendError
from mcpproxy.proxy.core.exchange import ROOTS_CHANGED, CallContext, ClientIdentity, NullContext
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import Message
from mcpproxy.proxy.upstream.client_features import FeaturePolicy
from mcpproxy.proxy.upstream.sessions.pool import SessionPool
from mcpproxy.proxy.upstream.transports.session import UpstreamSession


class ClientSessions:
    """Sessions of one backend, chosen by the client as the backend sees it."""

    def __init__(
        self, pool: SessionPool, settings: BackendSettings, features: FeaturePolicy
    ) -> None:
        self._pool = pool
        self._settings = settings
        self._features = features

    def context_of(self, client: ClientIdentity) -> CallContext:
        """Return a context for the proxy's own requests in the name of a client, which receives
        nothing."""
        return self._features.caller(NullContext(client))

    def for_lists(self, client: ClientIdentity) -> AbstractAsyncContextManager[UpstreamSession]:
        """Provide a session for a client's lists: its own, or one as it would get."""
        return (
            self._pool.acquire(client) if client.session else self._pool.acquire_for_lists(client)
        )

    def own_key(self, client: ClientIdentity) -> bytes | None:
        """Return the variant key of a client with its own session, which may list different
        components.

        None for other clients.
        """
        if self._settings.session_mode != "PerClient" or not client.session:
            return None
        link = self._pool.persistent_session(client)
        return session_key(client.session) if link is not None and link.stateful else None

    def variant_key(self, client: ClientIdentity) -> bytes | None:
        """Return the variant key: what the backend sees of a client that may affect its lists.

        None if the backend sees no capabilities, no forwarded headers and no identity.
        """
        if (session := self.own_key(client)) is not None:
            return session
        declared = self._features.seen(client.capabilities)
        header_mark = client.mark(self._settings.distinguished)
        if self._settings.for_callers and client.principal:
            header_mark = (header_mark or b"") + b"principal " + client.principal.encode()
        return declared if header_mark is None else (declared or b"{}") + header_mark

    def on_backend_failure(self) -> None:
        """Discard what is known of the backend's sessions."""
        self._pool.on_backend_failure()

    async def notify(
        self, client: ClientIdentity, message: Message, *, running_only: bool, alone: bool
    ) -> None:
        """Forward a client's notification to the sessions that serve this client. Never raises.

        `running_only` excludes sessions that outlive requests. Otherwise, if no such session is
        open and this is the only backend (`alone`), one is opened, since the notification must be
        for it.
        """
        method = jsonrpc.decode_str(message.get("method")) or ""
        if not self._features.forwards(method):
            return
        seen = self._features.client(client)
        links = self._pool.running_sessions(seen)
        persistent = None if running_only else self._pool.persistent_session(seen)
        try:
            async with asyncio.timeout(self._settings.deadlines.request):
                for link in (*links, *([] if persistent is None else [persistent])):
                    await _notify(link, message, client)
                opens = alone and not (running_only or persistent) and method != ROOTS_CHANGED
                if opens and self._pool.is_persistent(seen):
                    async with self._pool.acquire(seen) as link:
                        await _notify(link, message, client)
        except (BackendError, TimeoutError):
            # The next request reports the failure.
            return


def session_key(session: str) -> bytes:
    """Return the variant key of a client's session."""
    return b"session " + session.encode()


async def _notify(link: UpstreamSession, message: Message, client: ClientIdentity) -> None:
    """The modern era has no notification of changed roots."""
    modern = link.server.modern
    if not modern or jsonrpc.decode_str(message.get("method")) != ROOTS_CHANGED:
        await link.notify(message, client)
