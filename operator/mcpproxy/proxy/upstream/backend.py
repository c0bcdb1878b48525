"""One backend: its sessions, its monitor, and the settings of calls to it."""

import asyncio
import collections.abc
import functools
import logging
import ssl
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path

from mcpproxy.api.defaults import BackendSettings, HealthPolicy
from mcpproxy.api.untrusted_text import clean_text
from mcpproxy.api.v1alpha1.status import BackendStatus, ServerInfo
from mcpproxy.limits.backends import SERVER_NAME
from mcpproxy.proxy.core.catalog.catalog import Catalog
from mcpproxy.proxy.core.catalog.component_filter import NOTHING, ComponentFilter
from mcpproxy.proxy.core.catalog.extensions import TASKS_EXTENSION
from mcpproxy.proxy.core.errors import REUSE_REFUSED, BackendError, ReuseNotAllowed
from mcpproxy.proxy.core.exchange import ROOTS_CHANGED, CallContext, ClientIdentity, NullContext
from mcpproxy.proxy.core.health import HealthState
from mcpproxy.proxy.core.translation.namespacing import PrefixMapping
from mcpproxy.proxy.core.translation.task_ids import TaskIds
from mcpproxy.proxy.core.translation.uri_templates import Uri
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import Message
from mcpproxy.proxy.protocol.kinds import RESOURCES, TEMPLATES, ComponentKind
from mcpproxy.proxy.protocol.revisions import LATEST_MODERN
from mcpproxy.proxy.timers import TimerQueue
from mcpproxy.proxy.upstream.call_context import NameMappingContext
from mcpproxy.proxy.upstream.client_features import EVERYTHING, FeaturePolicy
from mcpproxy.proxy.upstream.connect.negotiation import Connector
from mcpproxy.proxy.upstream.connect.spare_processes import SpareConnector
from mcpproxy.proxy.upstream.monitor.list_cache import selections
from mcpproxy.proxy.upstream.monitor.list_variants import VariantLists
from mcpproxy.proxy.upstream.monitor.monitor import LISTS_TIME, BackendMonitor
from mcpproxy.proxy.upstream.monitor.request_pace import RequestRate
from mcpproxy.proxy.upstream.monitor.requester import Requester
from mcpproxy.proxy.upstream.mounted.tls import SKIPPED
from mcpproxy.proxy.upstream.mounted.values import MountedValues
from mcpproxy.proxy.upstream.sessions.pool import SessionPool
from mcpproxy.proxy.upstream.transports.session import TaskSet, UpstreamSession

START_TIME = 10.0
"""Seconds that the first lists wait for a backend over HTTP."""
REAP_EVERY = 2.0
"""Seconds between checks for idle sessions and for changed mounted values."""
log = logging.getLogger("mcpproxy.backend")


@dataclass(frozen=True, slots=True)
class BackendContext:
    """Dependencies that all backends of one proxy share."""

    catalog: Catalog
    policy: HealthPolicy
    values: MountedValues
    resolve: collections.abc.Mapping[str, str]
    """Name of a Service or host → `host:port` to connect to instead."""
    info: bytes
    """The proxy's introduction as a client, as JSON."""
    tls: Callable[[], ssl.SSLContext]
    directory: Path
    """Base of relative paths of stdio servers."""


class Backend:
    """One MCP server behind the proxy."""

    def __init__(
        self,
        name: str,
        settings: BackendSettings,
        opener: Callable[[TaskSet], Connector],
        context: BackendContext,
        *,
        warm_each: int = 2,
        forwarding: FeaturePolicy = EVERYTHING,
        asks: bool = False,
    ) -> None:
        """`opener` builds the connector; `warm_each` sessions are kept warm for each concurrent
        request.

        `asks` means that the backend may send server requests during a call, whatever its era.
        """
        self.name = name
        self.settings = settings
        self.names = PrefixMapping(settings.prefix, TaskIds(name))
        self._selections = selections(settings)
        self.asks = asks or forwarding.answers_itself
        self.forwarding = forwarding
        """Policy for the client features that the backend may use."""
        self._catalog = context.catalog
        self.background = TaskSet()
        """Tasks that no call waits for."""
        self._loops = TaskSet()
        self._opener = opener(self.background)
        self.sessions = SessionPool(
            self._opener.open,
            self.settings.session_mode,
            self.settings.declared_stateless,
            self.settings.deadlines.idle,
            self.background,
            warm_each,
            settings.passed,
            # Spare processes suit any client, so no sessions are opened in advance for a pool key.
            refills=not (
                isinstance(self._opener, SpareConnector) and settings.session_mode == "Isolated"
            ),
        )
        own_context = self._context_of(ClientIdentity(LATEST_MODERN, info=context.info))
        catalog = context.catalog
        pace = RequestRate()
        variants = VariantLists(name, settings, catalog, self._look, self._context_of, pace)
        policy, opener_ = context.policy, self._opener
        self.watch = BackendMonitor(
            name, settings, policy, opener_, catalog, Requester(own_context), variants, pace
        )
        self.watch.own = self.own
        self.watch.on_failure = self.sessions.on_backend_failure
        self.sessions.upstream.announced = self.watch.announced
        self.polls_tasks = TASKS_EXTENSION.name not in settings.denied
        """True if the proxy polls tasks for legacy clients."""

    @functools.cached_property
    def timers(self) -> TimerQueue:
        """Timers with the request timeout, from the backend's last message to its response."""
        return TimerQueue(asyncio.get_running_loop(), self.settings.deadlines.request)

    @property
    def is_program(self) -> bool:
        """True if the backend is a stdio server, with a process for each session."""
        return self._opener.transport == "stdio"

    def _context_of(self, client: ClientIdentity) -> CallContext:
        """Return a context for the proxy's own requests in the name of a client, which receives
        nothing."""
        return self.forwarding.caller(NullContext(client))

    def _look(self, client: ClientIdentity) -> AbstractAsyncContextManager[UpstreamSession]:
        """Provide a session for a client's lists: its own, or one as it would get."""
        return (
            self.sessions.acquire(client)
            if client.session
            else self.sessions.acquire_for_lists(client)
        )

    def own(self, client: ClientIdentity) -> bytes | None:
        """Return the variant key of a client with its own session, which may list different
        components.

        None for other clients.
        """
        if self.settings.session_mode != "PerClient" or not client.session:
            return None
        link = self.sessions.persistent_session(client)
        return _session_key(client.session) if link is not None and link.stateful else None

    def end_client(self, session: str) -> None:
        """Close the session of a client that has ended its own."""
        self.sessions.end_client(session)
        self.watch.tailored.forget(_session_key(session))

    def seen(self, client: ClientIdentity) -> bytes | None:
        """Return the variant key: what the backend sees of a client that may affect its lists.

        None if the backend sees no capabilities and no forwarded headers.
        """
        if (session := self.own(client)) is not None:
            return session
        declared = self.forwarding.seen(client.capabilities)
        header_mark = client.mark(self.settings.passed)
        return declared if header_mark is None else (declared or b"{}") + header_mark

    @property
    def tells_apart(self) -> bool:
        """True if the backend receives headers of clients, so that it can list tasks by client.

        Other backends see one client: the owner of the proxy's credentials.
        """
        return bool(self.settings.passed)

    @property
    def shows_all(self) -> bool:
        """True if clients may use every component of the backend."""
        return not self._catalog.approves and all(
            chosen.everything for chosen in self._selections.values()
        )

    def selection(self, kind: ComponentKind, name: str) -> ComponentFilter:
        """Return the filter that applies to a component, by its downstream name or URI."""
        component_filter = self._selections[kind]
        if kind is not RESOURCES:
            return component_filter
        templates = self._selections[TEMPLATES]
        if component_filter.everything and templates.everything:
            return component_filter
        # An unlisted URI may come from a template, which has its own filter.
        if name in self._catalog.names(self.name, RESOURCES):
            return component_filter
        if Uri(name).is_from(self._catalog.names(self.name, TEMPLATES)):
            return ComponentFilter(exclude=component_filter.exclude, hidden=component_filter.hidden)
        return component_filter if templates.everything else NOTHING

    def start(self) -> None:
        """Start to monitor the backend."""
        self._loops.spawn(self.watch.run())
        self._loops.spawn(self._reap())

    async def wait_for_first_check(self) -> None:
        """Wait until the first check is complete, or the backend has had time to start."""
        deadlines = self.settings.deadlines
        # `Connector.open` limits the time that a program has to start.
        is_program = self._opener.transport == "stdio"
        limit = deadlines.connect + deadlines.initialize + LISTS_TIME if is_program else START_TIME
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
            if self._opener.changed():
                log.info("backend %s: mounted values have changed", self.name)
                self.sessions.retire()
                self.watch.renew()
            self.sessions.close_idle()

    async def notify(
        self, client: ClientIdentity, message: Message, *, running_only: bool, alone: bool
    ) -> None:
        """Forward a client's notification to the sessions that serve this client. Never raises.

        `running_only` excludes sessions that outlive requests. Otherwise, if no such session is
        open and this is the only backend (`alone`), one is opened, since the notification must be
        for it.
        """
        method = jsonrpc.decode_str(message.get("method")) or ""
        if not self.forwarding.forwards(method):
            return
        seen = self.forwarding.client(client)
        links = self.sessions.running_sessions(seen)
        persistent = None if running_only else self.sessions.persistent_session(seen)
        try:
            async with asyncio.timeout(self.settings.deadlines.request):
                for link in (*links, *([] if persistent is None else [persistent])):
                    await _notify(link, message, client)
                opens = alone and not (running_only or persistent) and method != ROOTS_CHANGED
                if opens and self.sessions.is_persistent(seen):
                    async with self.sessions.acquire(seen) as link:
                        await _notify(link, message, client)
        except (BackendError, TimeoutError):
            # The next request reports the failure.
            return

    def wrap_context(
        self, standing: Callable[[ClientIdentity], CallContext]
    ) -> Callable[[ClientIdentity], CallContext]:
        """Wrap contexts so that this backend's names are mapped."""
        return lambda client: NameMappingContext(
            self.forwarding.caller(standing(client)), self.names, self.watch.announced
        )

    async def close(self) -> None:
        """Close every session and process."""
        await self._loops.close()
        await self.watch.close()
        await self.sessions.close()
        await self.background.close(grace=2.0)
        await self._opener.close()

    def status(self) -> BackendStatus:
        """Return the backend's entry in the status. A failed backend has no counts."""
        finding = self._finding()
        greeting = self.watch.greeting
        server = greeting.member("serverInfo") if greeting else None
        if greeting and not isinstance(server, dict):
            server = (greeting.member("_meta") or {}).get("io.modelcontextprotocol/serverInfo")
        session = None
        if greeting is not None:
            session = "Stateful" if self.watch.stateful else "Stateless"
        lists = self.watch.lists if self.watch.known and not self.watch.guarded else None
        return BackendStatus.model_validate(
            {
                "name": self.name,
                "state": finding.state,
                "reason": finding.reason,
                "message": self._status_message(finding),
                "protocolVersion": greeting.revision if greeting else None,
                "transport": self._opener.transport if greeting else None,
                "server": _server_info(server),
                "session": session,
                "sessionMode": self.settings.session_mode,
                "sessionModeFrom": self.settings.session_mode_from,
                "components": self._catalog.counts(self.name) if lists else None,
                "notOffered": (lists.not_offered or None) if lists else None,
            }
        )

    def _status_message(self, finding: HealthState) -> str | None:
        if not self.settings.unverified:
            return finding.message
        return "; ".join(text for text in (finding.message, SKIPPED) if text)

    def _finding(self) -> HealthState:
        finding = self.watch.finding
        refused = (
            self.settings.session_mode == "Reused"
            and self.watch.stateful
            and not self.settings.declared_stateless
        )
        if finding.state == "Healthy" and refused:
            return HealthState("Unhealthy", ReuseNotAllowed.reason, REUSE_REFUSED)
        return finding


def _session_key(session: str) -> bytes:
    return b"session " + session.encode()


async def _notify(link: UpstreamSession, message: Message, client: ClientIdentity) -> None:
    """The modern era has no notification of changed roots."""
    modern = link.greeting.modern
    if not modern or jsonrpc.decode_str(message.get("method")) != ROOTS_CHANGED:
        await link.notify(message, client)


def _server_info(info: object) -> ServerInfo | None:
    if not isinstance(info, dict) or not isinstance(info.get("name"), str):
        return None
    version = info.get("version")
    return ServerInfo(
        name=_shorten(info["name"]), version=_shorten(version) if isinstance(version, str) else None
    )


def _shorten(text: str) -> str:
    if len(text) > SERVER_NAME.value:
        SERVER_NAME.record()
    return clean_text(text, SERVER_NAME.value)
