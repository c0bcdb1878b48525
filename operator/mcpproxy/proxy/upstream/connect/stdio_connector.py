"""Sessions with stdio servers: one process each, which is probed for both eras."""

import logging
from collections import Counter
from collections.abc import Callable
from typing import Any

from mcpproxy.api.defaults import BackendSettings
from mcpproxy.limits.sessions import PROGRAM_PROBE_TIME
from mcpproxy.proxy.core.errors import BackendError, ProcessExited, Unreachable
from mcpproxy.proxy.core.exchange import INITIALIZED, ClientIdentity, NullContext
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.upstream.connect.handshake import (
    StdioHandshake,
    discover_request,
    initialize,
    read_description,
)
from mcpproxy.proxy.upstream.connect.negotiation import Era, NegotiatingConnector
from mcpproxy.proxy.upstream.connect.spare_processes import SpareProcesses
from mcpproxy.proxy.upstream.transports.multiplexed import MultiplexedSession
from mcpproxy.proxy.upstream.transports.session import TaskSet, UpstreamSession
from mcpproxy.proxy.upstream.transports.stdio import StdioChannel

log = logging.getLogger("mcpproxy.backend")


class StdioConnector(NegotiatingConnector):
    """Connector for child processes: one for each session, whose first messages decide the era."""

    def __init__(
        self,
        spawn: Any,
        settings: BackendSettings,
        background: TaskSet,
        env_changed: Callable[[], bool] = lambda: False,
        spares: SpareProcesses | None = None,
    ) -> None:
        """`spawn` is an async callable that starts a process and returns its StdioChannel.
        `env_changed` reports changed values in the environment. `spares` are processes that are
        started with `spawn` before a session needs them."""
        super().__init__(settings, background)
        self._spares = spares
        self._spawn = spawn if spares is None else spares.take
        self._env_changed = env_changed
        self._exits: Counter[Era] = Counter()
        """Processes that exited at the first message of an era, until a session was opened in
        it."""
        self.transport = "stdio"

    @property
    def keeps_spares(self) -> bool:
        return self._spares is not None and self._spares.for_each_request

    def forget(self) -> None:
        super().forget()
        self._exits.clear()

    def changed(self) -> bool:
        # Called periodically.
        changed = self._env_changed()
        if self._spares is not None and changed:
            self._spares.renew()
        elif self._spares is not None:
            self._spares.reap()
        return changed

    async def close(self) -> None:
        await super().close()
        if self._spares is not None:
            await self._spares.close()

    async def _open(self, client: ClientIdentity) -> UpstreamSession:
        if self._spares is None:
            return await self._open_in_some_era(client)
        self._spares.begin_opening(client)
        link = await self._open_in_some_era(client)
        self._spares.end_opening()
        return link

    async def _open_in_some_era(self, client: ClientIdentity) -> UpstreamSession:
        # One process is probed for both eras.
        first, *others = self._era_order(client)
        if first in self._supported or not others:
            return await super()._open(client)
        try:
            return await self._open_probed(client, modern_first=first == "modern")
        except (ProcessExited, Unreachable):
            # Some programs exit when they receive an unknown method.
            link = await (self._legacy if first == "modern" else self._modern)(client)
            if link is None:
                raise
        self._record_support(others[0])
        self._record_exit(first)
        return link

    def _record_support(self, era: Era, doubt: BackendError | None = None) -> None:
        super()._record_support(era, doubt)
        del self._exits[era]

    def _record_exit(self, era: Era) -> None:
        """Record that the first message of an era ended a process. The second time, the era is not
        supported; a single exit may have had another cause."""
        self._record_inconclusive_probe(era)
        self._exits[era] += 1
        if self._exits[era] > 1:
            self._unsupported.add(era)

    async def _legacy(self, client: ClientIdentity) -> UpstreamSession:
        link = await self._start_session()
        await initialize(link, client, self.revision_for(client), self._pinned)
        return link

    async def _start_session(self) -> MultiplexedSession:
        channel: StdioChannel = await self._spawn()
        return MultiplexedSession(channel, self._background)

    async def _modern(self, client: ClientIdentity) -> UpstreamSession | None:
        # None if the server does not know `server/discover`.
        link = await self._start_session()
        server = None
        try:
            answer = await link.request(discover_request(client), NullContext(client))
            server = read_description(answer)
        finally:
            if server is None:
                await link.close()
        if server is None:
            return None
        link.server = server
        return link

    async def _open_probed(self, client: ClientIdentity, *, modern_first: bool) -> UpstreamSession:
        """Open a session in the era that a new process supports. Raises BackendError."""
        link = await self._start_session()
        handshake = StdioHandshake(link, client, self.revision_for(client), self._pinned)
        try:
            probe_limit = min(self._deadline.initialize / 2, float(PROGRAM_PROBE_TIME.value))
            link.server = await handshake.server(probe_limit, modern_first=modern_first)
            if not link.server.modern:
                await link.notify(jsonrpc.notification_message(INITIALIZED))
        except BaseException:
            await link.close()
            raise
        finally:
            handshake.close()
        self._record_support("modern" if link.server.modern else "legacy", handshake.doubt)
        if link.server.modern is not modern_first and handshake.doubt is None:
            self._unsupported.add("modern" if modern_first else "legacy")
        return link
