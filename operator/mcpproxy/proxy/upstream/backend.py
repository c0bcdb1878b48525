"""One backend: its sessions, its monitor, and the settings of calls to it."""

import asyncio
import functools
import logging
from collections.abc import Callable

from mcpproxy.api.defaults import BackendSettings
from mcpproxy.proxy.core.catalog.component_selection import ComponentSelection
from mcpproxy.proxy.core.catalog.extensions import TASKS_EXTENSION
from mcpproxy.proxy.core.exchange import CallContext, ClientIdentity
from mcpproxy.proxy.core.identity import PROXY
from mcpproxy.proxy.core.reports import BackendReport
from mcpproxy.proxy.core.translation.namespacing import PrefixMapping
from mcpproxy.proxy.core.translation.task_ids import TaskIds
from mcpproxy.proxy.protocol.jsonrpc import Message
from mcpproxy.proxy.protocol.revisions import LATEST_MODERN
from mcpproxy.proxy.upstream.call_context import NameMappingContext
from mcpproxy.proxy.upstream.circuit.circuit import Circuit
from mcpproxy.proxy.upstream.client_features import EVERYTHING, FeaturePolicy
from mcpproxy.proxy.upstream.connect.negotiation import Connector
from mcpproxy.proxy.upstream.context import BackendContext
from mcpproxy.proxy.upstream.monitor.backend_status import backend_status
from mcpproxy.proxy.upstream.monitor.check_schedule import CheckSchedule
from mcpproxy.proxy.upstream.monitor.monitor import LISTS_TIME, BackendMonitor
from mcpproxy.proxy.upstream.sessions.client_sessions import ClientSessions, session_key
from mcpproxy.proxy.upstream.sessions.continuation import (
    SessionContinuation,
    begin_open,
    open_or_resume,
)
from mcpproxy.proxy.upstream.sessions.pool import SessionPool
from mcpproxy.proxy.upstream.transports.session import TaskSet

START_TIME = 10.0
"""Seconds that the first lists wait for a backend over HTTP."""
REAP_EVERY = 2.0
"""Seconds between checks for idle sessions and for changed mounted values."""
log = logging.getLogger("mcpproxy.backend")


class Backend:
    """One MCP server behind the proxy."""

    def __init__(
        self,
        name: str,
        settings: BackendSettings,
        make_connector: Callable[[TaskSet], Connector],
        context: BackendContext,
        *,
        warm_each: int = 2,
        forwarding: FeaturePolicy = EVERYTHING,
        asks: bool = False,
    ) -> None:
        """`make_connector` builds the connector. For each concurrent request, `warm_each` sessions
        are kept warm.

        `asks` means that the backend may send server requests during a call, whatever its era.
        """
        self.name = name
        self.settings = settings
        self.names = PrefixMapping(
            settings.prefix, TaskIds(name, context.sealer if context.seals_task_ids else None)
        )
        self.selection = ComponentSelection(name, settings, context.catalog)
        self.asks = asks or forwarding.answers_itself
        self.kept_results = context.kept_results
        self.forwarding = forwarding
        """Policy for the client features that the backend may use."""
        self._catalog, self._events = context.catalog, context.events
        self._session_contexts = context.session_contexts
        self.background = TaskSet()
        """Tasks that no call waits for."""
        self._loops = TaskSet()
        self._connector = make_connector(self.background)
        self.sessions = self._session_pool(warm_each)
        self.clients = ClientSessions(self.sessions, settings, forwarding)
        self.continuation = SessionContinuation(
            *(name, self.sessions, self._connector, forwarding, self._session_context_of)
        )
        own_identity = ClientIdentity(LATEST_MODERN, info=context.info, identity=PROXY)
        self.circuit = self._build_circuit(context.policy.interval)
        rounds = CheckSchedule(
            context.policy, context.probe_delay_factor, self.circuit.record_check
        )
        self.watch = BackendMonitor(
            name, settings, context, self._connector, self.clients, own_identity, rounds
        )
        self.polls_tasks = TASKS_EXTENSION.name not in settings.denied
        """True if the proxy polls tasks for legacy clients."""

    def _build_circuit(self, interval: float) -> Circuit:
        return Circuit(
            self.settings.circuit_failures,
            interval,
            lambda: asyncio.get_running_loop().time(),
            lambda: self._connector.answered_at,
            lambda at: asyncio.get_running_loop().call_at(at, self.watch.rounds.wake),
            lambda: self._events.list_change.publish(set(), ""),
        )

    def _session_pool(self, warm_each: int) -> SessionPool:
        return SessionPool(
            functools.partial(open_or_resume, self._connector, self.name),
            self.settings.session_mode,
            self.settings.declared_stateless,
            self.settings.deadlines.idle,
            self.background,
            warm_each,
            # The keys of clients have their rights anyway.
            self.settings.distinguished if self.settings.passed else frozenset(),
            on_broadcast=self._on_broadcast,
            context_of=self._session_context_of,
            # Spare processes suit any client, so no sessions are opened in advance for a pool key.
            refills=not self._connector.keeps_spares,
            begin_open=functools.partial(begin_open, self._connector, self.name),
        )

    @property
    def is_program(self) -> bool:
        """True if the backend is a stdio server, with a process for each session."""
        return self._connector.transport == "stdio"

    @property
    def opens_for_clients(self) -> bool:
        """True if the session of a client is opened when it initializes, so that other instances
        can continue it."""
        is_http = not self.is_program and self._connector.transport != "sse"
        is_usable = self.watch.health.is_usable and not self.circuit.is_open
        return self.settings.session_mode == "PerClient" and is_http and is_usable

    @property
    def tells_apart(self) -> bool:
        """True if the backend can list tasks by client, because it receives headers of clients or
        tokens on their behalf.

        Other backends see one client: the owner of the proxy's credentials.
        """
        return bool(self.settings.passed) or self.settings.for_callers

    @property
    def step_times(self) -> dict[str, tuple[int, float]]:
        """Number and seconds of the steps before a request can be sent, by step."""
        opened = self.sessions.upstream
        return {
            "connect": self._connector.connecting,
            "open_session": (opened.openings, opened.opening_seconds),
        }

    def _session_context_of(self, client: ClientIdentity) -> CallContext:
        """Return the context that receives what the backend sends outside of requests, with
        downstream names."""
        context = self.forwarding.caller(self._session_contexts.context_of(client))
        return NameMappingContext(context, self.names, self._on_broadcast)

    async def _on_broadcast(self, message: Message, client: ClientIdentity | None) -> None:
        await self.watch.announced(message, client)

    def end_client(self, session: str) -> None:
        """Close the session of a client that has ended its own."""
        self.sessions.end_client(session)
        self.watch.tailored.forget(session_key(session))

    def start(self) -> None:
        """Start to monitor the backend."""
        self._loops.spawn(self.watch.run())
        self._loops.spawn(self._reap())

    async def wait_for_first_check(self) -> None:
        """Wait until the first check is complete, or the backend has had time to start."""
        deadlines = self.settings.deadlines
        # `Connector.open` limits the time that a program has to start.
        limit = START_TIME
        if self.is_program:
            limit = deadlines.connect + deadlines.initialize + LISTS_TIME
        try:
            async with asyncio.timeout(limit):
                await self.watch.settled.wait()
        except TimeoutError:
            self.watch.rounds.hang()

    def on_peer_probe(self, good: bool) -> None:
        """Take over the result of another process's check; stdio servers run in this process
        only."""
        if not self.is_program:
            self.watch.on_peer_probe(good)

    async def _reap(self) -> None:
        while True:
            await asyncio.sleep(REAP_EVERY)
            try:
                self._reap_once()
            except Exception:
                # Sessions would otherwise never be closed again.
                log.exception("backend %s: closing idle sessions failed", self.name)

    def _reap_once(self) -> None:
        if self._connector.changed():
            log.info("backend %s: mounted values have changed", self.name)
            self.sessions.retire()
            self.watch.renew()
        self.sessions.close_idle()

    async def close(self) -> None:
        """Close every session and process."""
        await self._loops.close()
        await self.watch.close()
        await self.sessions.close(self.continuation.outlives)
        await self.background.close(grace=2.0)
        await self._connector.close()

    def status(self) -> BackendReport:
        """Return the backend's entry in the status. A failed backend has no counts."""
        return backend_status(
            self.name,
            self.settings,
            self.watch,
            self._catalog,
            self._connector.transport,
            self.circuit.finding,
        )
