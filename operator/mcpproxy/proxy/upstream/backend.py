"""One backend: how it is reached, who watches it, and how calls get to it."""

import asyncio
import collections.abc
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
from mcpproxy.proxy.core.errors import REUSE_REFUSED, BackendError, ReuseNotAllowed, Unreachable
from mcpproxy.proxy.core.exchange import ROOTS_CHANGED, CallContext, ClientIdentity, NullContext
from mcpproxy.proxy.core.health import HealthState
from mcpproxy.proxy.core.translation.namespacing import PrefixMapping
from mcpproxy.proxy.core.translation.task_ids import TaskIds
from mcpproxy.proxy.core.translation.uri_templates import Uri
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import Message
from mcpproxy.proxy.protocol.kinds import RESOURCES, TEMPLATES, ComponentKind
from mcpproxy.proxy.protocol.revisions import LATEST_MODERN
from mcpproxy.proxy.upstream.client_features import EVERYTHING, FeaturePolicy
from mcpproxy.proxy.upstream.connect.negotiation import Connector
from mcpproxy.proxy.upstream.connect.spare_processes import SpareConnector
from mcpproxy.proxy.upstream.dispatcher import Dispatcher, NameMappingContext
from mcpproxy.proxy.upstream.monitor.list_cache import selections
from mcpproxy.proxy.upstream.monitor.list_variants import VariantLists
from mcpproxy.proxy.upstream.monitor.monitor import LISTS_TIME, BackendMonitor
from mcpproxy.proxy.upstream.monitor.requester import Requester
from mcpproxy.proxy.upstream.mounted.tls import SKIPPED
from mcpproxy.proxy.upstream.mounted.values import MountedValues
from mcpproxy.proxy.upstream.request_pace import RequestRate
from mcpproxy.proxy.upstream.sessions.pool import SessionPool
from mcpproxy.proxy.upstream.transports.session import TaskSet, UpstreamRequest, UpstreamSession

START_TIME = 10.0
"""Seconds that the first lists wait for a backend over HTTP."""
REAP_EVERY = 2.0
"""Seconds between looks at what is idle, and at mounted values that something that lasts has."""
log = logging.getLogger("mcpproxy.backend")


@dataclass(frozen=True, slots=True)
class BackendContext:
    """What all backends of one proxy share."""

    catalog: Catalog
    policy: HealthPolicy
    values: MountedValues
    resolve: collections.abc.Mapping[str, str]
    """Name of a Service or host → `host:port` to connect to in its place."""
    info: bytes
    """How we introduce ourselves, as JSON."""
    tls: Callable[[], ssl.SSLContext]
    directory: Path
    """Where relative paths of stdio servers begin."""


class Backend:
    """One MCP server behind the proxy."""

    def __init__(
        self,
        name: str,
        given: BackendSettings,
        opener: Callable[[TaskSet], Connector],
        around: BackendContext,
        *,
        warm_each: int = 2,
        forwarding: FeaturePolicy = EVERYTHING,
        asks: bool = False,
    ) -> None:
        """`opener` is how sessions are opened, `warm_each` how many are kept warm a request;
        `asks` says that it may ask while it answers, whatever era it speaks."""
        self.name = name
        self.settings = given
        self.names = PrefixMapping(given.prefix, TaskIds(name))
        self._selections = selections(given)
        self.asks = asks or forwarding.answers_itself
        self._forwarding = forwarding
        self._catalog = around.catalog
        self._background = TaskSet()
        self._loops = TaskSet()
        self._opener = opener(self._background)
        self.sessions = SessionPool(
            self._opener.open,
            self.settings.session_mode,
            self.settings.declared_stateless,
            self.settings.deadlines.idle,
            self._background,
            warm_each,
            given.passed,
            # Programs that wait for any client leave nothing to keep for a kind of clients.
            refills=not isinstance(self._opener, SpareConnector),
        )
        us = self._asking(ClientIdentity(LATEST_MODERN, info=around.info))
        catalog = around.catalog
        pace = RequestRate()
        tailored = VariantLists(name, given, catalog, self._look, self._asking, pace)
        policy, opener_ = around.policy, self._opener
        self.watch = BackendMonitor(
            name, given, policy, opener_, catalog, Requester(us), tailored, pace
        )
        self.watch.own = self.own
        self.watch.on_failure = self.sessions.reset
        self.sessions.upstream.announced = self.watch.announced
        timeout = self.settings.deadlines.request
        self._calls = Dispatcher(
            self.names,
            self.sessions,
            timeout,
            self.watch.announced,
            self._background,
            polls=TASKS_EXTENSION.name not in given.denied,
        )
        passes = forwarding.passes_all
        self.begin = self._calls.begin if passes else self._begins_nothing
        """Sends a client's request at once, if that is possible; see `Calls.begin`."""
        self.whole, self.complete = self._calls.whole, self._calls.complete
        """What came of it; see `Calls.whole` and `Calls.complete`."""

    @property
    def is_program(self) -> bool:
        """Whether it is a program on standard streams: each session is a process."""
        return self._opener.transport == "stdio"

    def _asking(self, client: ClientIdentity) -> CallContext:
        """Requests of our own in the name of a client: it is not asked, and not told."""
        return self._forwarding.caller(NullContext(client))

    def _look(self, client: ClientIdentity) -> AbstractAsyncContextManager[UpstreamSession]:
        """The session in which to look at a client's lists: its own, or one as it would get."""
        return self.sessions.use(client) if client.session else self.sessions.look(client)

    def own(self, client: ClientIdentity) -> bytes | None:
        """What `seen` is of a client that has a session of its own, which may list what others
        do not; None of others."""
        if self.settings.session_mode != "PerClient" or not client.session:
            return None
        link = self.sessions.lasting(client)
        return _session(client.session) if link is not None and link.stateful else None

    def end_client(self, session: str) -> None:
        """A client ended its session."""
        self.sessions.end_client(session)
        self.watch.tailored.forget(_session(session))

    def seen(self, client: ClientIdentity) -> bytes | None:
        """What the backend sees of a client that may make a difference to its lists; None where
        it sees no more than of one that declares nothing and has no headers for it."""
        if (session := self.own(client)) is not None:
            return session
        declared = self._forwarding.seen(client.capabilities)
        own = client.mark(self.settings.passed)
        return declared if own is None else (declared or b"{}") + own

    @property
    def tells_apart(self) -> bool:
        """Whether it gets headers of clients, and so can know whose tasks it lists to whom.

        All others it takes for one: whoever has the credentials that the proxy has for it.
        """
        return bool(self.settings.passed)

    @property
    def shows_all(self) -> bool:
        """Whether clients may use all that it has."""
        return not self._catalog.approves and all(
            chosen.everything for chosen in self._selections.values()
        )

    def selection(self, kind: ComponentKind, name: str) -> ComponentFilter:
        """What decides whether clients may use a component, by its outward name or URI."""
        chosen = self._selections[kind]
        if kind is not RESOURCES:
            return chosen
        templates = self._selections[TEMPLATES]
        if chosen.everything and templates.everything:
            return chosen
        # Not every URI is listed: it may come from a template, which has a selection of its own.
        if name in self._catalog.names(self.name, RESOURCES):
            return chosen
        if Uri(name).is_from(self._catalog.names(self.name, TEMPLATES)):
            return ComponentFilter(exclude=chosen.exclude, hidden=chosen.hidden)
        return chosen if templates.everything else NOTHING

    def start(self) -> None:
        """Begin to watch the backend."""
        self._loops.spawn(self.watch.run())
        self._loops.spawn(self._reap())

    async def tried(self) -> None:
        """Wait until it has answered or failed once, or had the time to start."""
        given = self.settings.deadlines
        # A program that can't start ends, or is ended: see `Opener.open`.
        program = self._opener.transport == "stdio"
        at_most = given.connect + given.initialize + LISTS_TIME if program else START_TIME
        try:
            async with asyncio.timeout(at_most):
                await self.watch.settled.wait()
        except TimeoutError:
            self.watch.rounds.hang()

    def told(self, good: bool) -> None:
        """Another process on this machine has checked the backend; a program is our own."""
        if not self.is_program:
            self.watch.told(good)

    async def _reap(self) -> None:
        while True:
            await asyncio.sleep(REAP_EVERY)
            if self._opener.changed():
                log.info("backend %s: mounted values have changed", self.name)
                self.sessions.renew()
                self.watch.renew()
            self.sessions.reap()

    def _begins_nothing(
        self,
        outgoing: UpstreamRequest,
        client: ClientIdentity,
        done: Callable[[], None],
        levelled: bool,
    ) -> bool:
        """See `begin`: what comes back has to be understood."""
        return False

    async def call(self, outgoing: UpstreamRequest, caller: CallContext) -> Message:
        """Send a client's request. Raises BackendError."""
        try:
            if self._forwarding.passes_all:
                return await self._calls.call(outgoing, caller)
            # What comes back has to be understood.
            outgoing.sink = None
            return await self._forwarding.call(self._calls.call, outgoing, caller)
        except Unreachable:
            self.watch.look_again()
            raise

    async def notify(
        self, client: ClientIdentity, message: Message, *, running_only: bool, alone: bool
    ) -> None:
        """Pass a client's notification on to the sessions that are its own; never raises.

        `running_only` leaves out those that outlive requests; where there is none of these, one
        is opened if this backend is `alone` and so must be meant.
        """
        method = jsonrpc.decode_str(message.get("method")) or ""
        if not self._forwarding.tells(method):
            return
        seen = self._forwarding.client(client)
        links = self.sessions.running(seen)
        lasting = None if running_only else self.sessions.lasting(seen)
        try:
            async with asyncio.timeout(self.settings.deadlines.request):
                for link in (*links, *([] if lasting is None else [lasting])):
                    await _notify(link, message, client)
                opens = alone and not (running_only or lasting) and method != ROOTS_CHANGED
                if opens and self.sessions.lasts(seen):
                    async with self.sessions.use(seen) as link:
                        await _notify(link, message, client)
        except (BackendError, TimeoutError):
            # The next request will tell.
            return

    def through(
        self, standing: Callable[[ClientIdentity], CallContext]
    ) -> Callable[[ClientIdentity], CallContext]:
        """The same callers, for whom this backend's names are mapped."""
        return lambda client: NameMappingContext(
            self._forwarding.caller(standing(client)), self.names, self.watch.announced
        )

    async def close(self) -> None:
        """End every session and process."""
        await self._loops.close()
        await self.watch.close()
        await self.sessions.close()
        await self._background.close(grace=2.0)
        await self._opener.close()

    def status(self) -> BackendStatus:
        """What is known of the backend. A failed one has no counts."""
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
                "message": self._message(finding),
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

    def _message(self, finding: HealthState) -> str | None:
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


def _session(session: str) -> bytes:
    return b"session " + session.encode()


async def _notify(link: UpstreamSession, message: Message, client: ClientIdentity) -> None:
    """The modern era knows no notification of changed roots."""
    modern = link.greeting.modern
    if not modern or jsonrpc.decode_str(message.get("method")) != ROOTS_CHANGED:
        await link.notify(message, client)


def _server_info(found: object) -> ServerInfo | None:
    if not isinstance(found, dict) or not isinstance(found.get("name"), str):
        return None
    version = found.get("version")
    return ServerInfo(
        name=_cut(found["name"]), version=_cut(version) if isinstance(version, str) else None
    )


def _cut(text: str) -> str:
    if len(text) > SERVER_NAME.value:
        SERVER_NAME.record()
    return clean_text(text, SERVER_NAME.value)
