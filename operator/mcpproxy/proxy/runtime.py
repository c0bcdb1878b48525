"""One running proxy: backends, gateway, endpoints and the admin port, from start to drain."""

import asyncio
import gc
import logging
import os
import secrets
import signal
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from mcpproxy.api.authority import join_host_port
from mcpproxy.api.catalog_digests import approved_hash
from mcpproxy.api.defaults import profiles_are_enabled
from mcpproxy.proxy import sealing_keys as key_files
from mcpproxy.proxy.admin.app import AdminApp
from mcpproxy.proxy.admin.readiness import check_endpoint
from mcpproxy.proxy.bootstrap import VERSION, build_gateway, build_host_policy
from mcpproxy.proxy.config.options import RuntimeOptions
from mcpproxy.proxy.config.proxy_config import ProxyConfig
from mcpproxy.proxy.core.catalog.digests import differences
from mcpproxy.proxy.core.identity import ANONYMOUS, Identity
from mcpproxy.proxy.core.reports import InstanceReport
from mcpproxy.proxy.core.tokens.sealed_tokens import Sealer
from mcpproxy.proxy.downstream.access.authenticated import READINESS, AuthenticatedEndpoint
from mcpproxy.proxy.downstream.access.principals import Principals
from mcpproxy.proxy.downstream.app import Endpoint, PeerEndpoint
from mcpproxy.proxy.downstream.host_origin import HostOriginPolicy
from mcpproxy.proxy.downstream.peers.acceptor import PeerAcceptor
from mcpproxy.proxy.downstream.peers.forwarding import UNREAD
from mcpproxy.proxy.downstream.standard_streams import standard_streams
from mcpproxy.proxy.downstream.stdio import StdioServer
from mcpproxy.proxy.gateway.gateway import Gateway
from mcpproxy.proxy.http1.server.server import HttpServer
from mcpproxy.proxy.process import INTERRUPTED
from mcpproxy.proxy.sockets import AdminServer, listen
from mcpproxy.proxy.telemetry.metrics import BackendGauges
from mcpproxy.proxy.upstream.mounted.values import MountedValues

if TYPE_CHECKING:
    from mcpproxy.proxy.admin.page.collect import PageData
    from mcpproxy.proxy.authentication.client_authentication import ClientAuthentication
log = logging.getLogger("mcpproxy.run")

LINGER_CHECK: Final = 0.05
"""Seconds between two checks for calls in flight, once the process has to stop."""
LAST_REQUESTS: Final = 1.0
"""Seconds in which clients may send a last request on a connection that they have kept; less if
the time to drain is below 20 s."""
GC_THRESHOLD: Final = 20_000
"""Threshold of the garbage collector: allocated minus freed objects."""


class Runtime:
    """Proxy that serves HTTP or one client on standard streams."""

    def __init__(
        self,
        configuration: ProxyConfig | None,
        options: RuntimeOptions,
        gateway: Gateway | None = None,
        admin_server: type[AdminServer] = AdminServer,
    ) -> None:
        """Create a runtime for a configuration, or for a gateway that its owner starts and
        closes."""
        self._configuration = configuration
        self._admin_server = admin_server
        self._options = options
        self._stopping = asyncio.Event()
        self.interrupted = False
        """True after SIGINT."""
        self._draining = False
        self._verified = False
        self._hashed: tuple[dict[str, dict[str, str]], str] = ({}, approved_hash({}))
        """Digests of components as last reported, and their hash."""
        self._port = options.port
        self._owns_gateway = gateway is None
        self._gauges = BackendGauges()
        self._authentication: ClientAuthentication | None = None
        self._front: Endpoint | None = None
        spec = None if configuration is None else configuration.proxy.spec
        profiling = spec is not None and profiles_are_enabled(spec)
        self._admin = AdminApp(self, options.admin_page, profiling=profiling)
        self._page: PageData | None = None
        self._readiness = secrets.token_urlsafe(32).encode()
        self._keys: key_files.SealingKeyWatcher | None = None
        if options.sealing_keys is not None:
            self._keys = key_files.SealingKeyWatcher(options.sealing_keys, time.monotonic)
        if gateway is None:
            assert configuration is not None
            gateway = build_gateway(configuration, options, self._sealer())
        self.gateway = gateway
        if configuration is not None and configuration.proxy.spec.authentication is not None:
            self._authentication = self._authenticating(configuration)

    def _sealer(self) -> Sealer:
        if self._keys is not None:
            return self._keys.sealer
        keys = self._options.keys
        return Sealer(keys or [key_files.new_key()], secrets.token_bytes, shared=bool(keys))

    def _start_gateway(self) -> None:
        if self._owns_gateway:
            self.gateway.start()

    async def _close_gateway(self) -> None:
        if self._owns_gateway:
            await self.gateway.close()

    def report(self) -> InstanceReport:
        """Return the report for the operator."""
        backends = self.gateway.backends
        is_complete = all(backend.watch.known for backend in backends.values())
        catalog = self.gateway.catalog
        spec = self._configuration.proxy.spec.catalog if self._configuration else None
        approved = spec.approved if spec else None
        return InstanceReport(
            config_hash=self._configuration.hash if self._configuration else "",
            version=VERSION,
            backends=[backends[name].status() for name in sorted(backends)],
            catalog_hash=self._catalog_hash() if is_complete else None,
            drift=differences(approved.digests, catalog.digests(), whole=is_complete)
            if approved
            else None,
            clashes=catalog.clashes(),
            authentication=self._authentication.statuses() if self._authentication else None,
            authorization=self.gateway.routing.authorization_report(complete=is_complete),
            limits=self.gateway.limits_report(complete=is_complete),
        )

    def _catalog_hash(self) -> str:
        """Return the hash of the catalog. Most reports are about an unchanged one."""
        digests, (known, _) = self.gateway.catalog.digests(), self._hashed
        same = digests.keys() == known.keys() and all(
            known[kind] is digests[kind] for kind in known
        )
        if not same:
            self._hashed = digests, approved_hash(digests)
        return self._hashed[1]

    def _authenticating(self, configuration: ProxyConfig) -> "ClientAuthentication":
        # The cryptography takes memory, which proxies without authentication save.
        from mcpproxy.proxy.authentication.client_authentication import ClientAuthentication
        from mcpproxy.proxy.authentication.verification_keys import KeyListener

        def end_streams(issuer: str, subject: str | None) -> None:
            if self._front is not None:
                self._front.end_revoked(issuer, subject)

        options, gateway = self._options, self.gateway
        authentication = ClientAuthentication(
            configuration.proxy,
            options.path,
            MountedValues(options.values, time.monotonic),
            options.resolve,
            KeyListener(gateway.notify_status_watchers, end_streams),
            on_refused=gateway.routing.record_failed_authentication,
        )
        gateway.metrics.count(
            "mcpproxy_authentications",
            "Authentications of clients; a token that was accepted lately is not counted again",
            ["method", "result"],
            authentication.authenticator.results,
        )
        return authentication

    def watch(self, watcher: Callable[[], None]) -> Callable[[], None]:
        """Call `watcher` when the report may have changed; return the canceller."""
        return self.gateway.watch(watcher)

    async def metrics(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return self.gateway.metrics.render() + self._gauges.render(self.report().backends)

    async def page_data(self, request: bytes) -> bytes:
        """Return the result of a `PageRequest`; both are JSON."""
        if self._page is None:
            # Most processes are never visited by a browser.
            from mcpproxy.proxy.admin.page.collect import PageData

            proxy = None if self._configuration is None else self._configuration.proxy
            self._page = PageData(self.gateway, proxy, self._options, self.report, self.not_ready)
        return await self._page.answer(request)

    async def serve_stdio(self, identity: Identity = ANONYMOUS) -> None:
        """Serve one client on standard streams of any kind until it closes them.

        `identity` is that of the client. Raise NothingToServe or OutputFailed.
        """
        self.gateway.metrics.operations.serve_on("pipe")
        with standard_streams() as (source, target):
            # Otherwise programs would be started in vain.
            await source.require_input()
            self._start_gateway()
            try:
                await StdioServer(self.gateway, target, identity).run(source)
            finally:
                await self._close_gateway()

    async def serve_http(self, serving: Callable[[], None] = lambda: None) -> None:
        """Serve HTTP until SIGTERM or SIGINT, then finish the calls in flight.

        `serving` is called once all ports are open. Raise OSError or ValueError.
        """
        options, guard = self._options, build_host_policy(self._configuration, self._options)
        sockets = self._open_ports()
        front = self._front = self._endpoint(guard)
        for_instances = HttpServer(PeerEndpoint(front, self.gateway), before_close=UNREAD)
        acceptor = PeerAcceptor(front.peers.credentials, for_instances.new_connection)
        server = HttpServer(front, acceptor)
        admin, tasks = None, list[asyncio.Task[None]]()
        if options.admin_port is not None:
            admin = self._admin_server(self._admin.app)
            listening = listen(options.admin_host, options.admin_port, option="--admin-port")
            tasks = [asyncio.create_task(admin.serve(sockets=[listening]))]
        self._prepare_process()
        key_watch = None if self._keys is None else asyncio.create_task(self._keys.run())
        self._start(front)
        await server.start(sockets)
        await for_instances.start(())
        serving()
        stopping = asyncio.create_task(self._stopping.wait())
        await asyncio.wait([stopping, *tasks], return_when=asyncio.FIRST_COMPLETED)
        # Readiness fails from here on. The admin port stays open until all calls are complete.
        self._draining = True
        front.drain()
        drain = options.drain - await self._linger(server, for_instances)
        await asyncio.gather(front.leave(), server.drain(drain), for_instances.drain(drain))
        if admin is not None:
            await self._end_admin(admin, tasks)
        if key_watch is not None:
            key_watch.cancel()
        await self._close(front)

    async def _linger(self, *servers: HttpServer) -> float:
        """Accept connections while calls are in flight, for half of the time to drain at most.

        Answers to questions of these calls come from other instances as well. Connections that
        were used lately are closed after their next response: if they were closed at once, a
        request that is on its way would be lost. Return the seconds that it took.
        """
        loop = asyncio.get_running_loop()
        began, longest = loop.time(), self._options.drain / 2
        for server in servers:
            server.linger()

        def expects_requests() -> bool:
            until = began + min(LAST_REQUESTS, self._options.drain / 20)
            return loop.time() < until and any(server.expects_requests for server in servers)

        # The end of a call sets no event, because every call would pay for it.
        while (  # noqa: ASYNC110
            self.gateway.running and loop.time() - began < longest
        ) or expects_requests():
            await asyncio.sleep(LINGER_CHECK)
        return loop.time() - began

    @asynccontextmanager
    async def serving_connections(self) -> AsyncIterator[Callable[[], asyncio.Protocol]]:
        """Serve the connections whose protocols the yielded function returns.

        This opens no ports and handles no signals. At the end, the calls in flight are finished.
        Raise ValueError.
        """
        front = self._front = self._endpoint(build_host_policy(self._configuration, self._options))
        server = HttpServer(front)
        self._start(front)
        await server.start(())
        try:
            yield server.new_connection
        finally:
            front.drain()
            await asyncio.gather(front.leave(), server.drain(self._options.drain))
            await self._close(front)

    def _start(self, front: Endpoint) -> None:
        self._start_gateway()
        if self._authentication is not None:
            self._authentication.start()
        front.start()

    async def _close(self, front: Endpoint) -> None:
        if self._authentication is not None:
            await self._authentication.close()
        front.close()
        await self._close_gateway()

    async def _end_admin(self, admin: AdminServer, serving: list[asyncio.Task[None]]) -> None:
        self._admin.close()
        admin.end()
        await asyncio.gather(*serving, return_exceptions=True)

    def _open_ports(self) -> list[socket.socket]:
        options = self._options
        sockets = [listen(options.host, options.port, shared=options.own_port is not None)]
        if options.own_port is not None:
            sockets.append(listen(options.host, options.own_port, option="--worker-ports"))
        self._port = sockets[-1].getsockname()[1]
        return sockets

    def _prepare_process(self) -> None:
        # Imported objects live as long as the process, and requests leave hardly any cycles.
        gc.freeze()
        gc.set_threshold(GC_THRESHOLD)
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGTERM, self.stop)
        loop.add_signal_handler(signal.SIGINT, self._interrupt)

    def _endpoint(self, guard: HostOriginPolicy) -> Endpoint:
        address = reachable_address(self._options, self._port)
        spec = self._configuration.proxy.spec if self._configuration else None
        public = spec.public_url if spec else None
        parts = (self.gateway, guard, address, self._options.path)
        if self._authentication is None:
            return Endpoint(*parts, Principals(self._principal_header), public)
        return AuthenticatedEndpoint(
            *parts,
            public_url=public,
            authentication=self._authentication,
            readiness=self._readiness,
        )

    @property
    def _principal_header(self) -> str | None:
        spec = self._configuration.proxy.spec if self._configuration else None
        if spec is not None and spec.principal_from is not None:
            return spec.principal_from.header
        return self._options.principal_from

    @property
    def _readiness_headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """The headers that the endpoint requires of this process."""
        if self._authentication is not None:
            return ((READINESS, self._readiness),)
        header = self._principal_header
        return () if header is None else ((header.lower().encode(), READINESS),)

    @property
    def url(self) -> str:
        """The URL at which clients reach the endpoint."""
        spec = self._configuration.proxy.spec if self._configuration else None
        if spec is not None and spec.public_url is not None:
            return spec.public_url
        return f"http://{reachable_address(self._options, self._port)}{self._options.path}"

    def _interrupt(self) -> None:
        if self.interrupted:
            # The person does not want to wait for calls in flight.
            os._exit(INTERRUPTED)
        self.interrupted = True
        log.info("stopping after the calls in flight; Ctrl-C again stops at once")
        self.stop()

    def stop(self) -> None:
        """Let `serve_http` drain and return, as after SIGTERM or SIGINT."""
        self._stopping.set()

    async def not_ready(self) -> str | None:
        """Return the reason for which clients must not connect, or None."""
        if self._draining:
            return "shutting down"
        if not self.gateway.aggregate.initial_round_done:
            return "the first check of all backends is in progress"
        if not self._verified:
            why_not = await check_endpoint(
                self._options.host, self._port, self._options.path, self._readiness_headers
            )
            if why_not is not None:
                return why_not
            self._verified = True
        return None


def reachable_address(options: RuntimeOptions, port: int) -> str:
    """Return the address at which other processes reach this one, as `host:port`."""
    return join_host_port(options.reachable_host, port)
