"""One running proxy: backends, gateway, endpoints and the admin port, from start to drain."""

import asyncio
import functools
import gc
import secrets
import signal
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from mcpproxy.api import constants
from mcpproxy.api.authority import join_host_port
from mcpproxy.api.defaults import HealthPolicy, clash_policy, denied_extensions, health_policy
from mcpproxy.api.v1alpha1 import Audit, MCPProxySpec
from mcpproxy.api.v1alpha1 import Tracing as TracingSpec
from mcpproxy.api.v1alpha1.status import PodReport
from mcpproxy.proxy import sealing_keys as key_files
from mcpproxy.proxy.admin.app import AdminApp
from mcpproxy.proxy.admin.readiness import ANYWHERE, check_endpoint
from mcpproxy.proxy.audit.factory import build_audit_log
from mcpproxy.proxy.authorization.policy import Policy
from mcpproxy.proxy.config.targets import ProxyConfig
from mcpproxy.proxy.core.catalog.approved_catalog import ApprovedCatalog
from mcpproxy.proxy.core.catalog.catalog import Catalog
from mcpproxy.proxy.core.catalog.digests import differences
from mcpproxy.proxy.core.tokens.sealed_tokens import Sealer
from mcpproxy.proxy.downstream.access.authenticated import READINESS, AuthenticatedEndpoint
from mcpproxy.proxy.downstream.access.principals import Principals
from mcpproxy.proxy.downstream.app import Endpoint, PeerEndpoint
from mcpproxy.proxy.downstream.host_origin import LOCAL, HostOriginPolicy, service_hosts
from mcpproxy.proxy.downstream.peers.acceptor import PeerAcceptor
from mcpproxy.proxy.downstream.standard_streams import standard_streams
from mcpproxy.proxy.downstream.stdio import StdioServer
from mcpproxy.proxy.gateway.audited_requests import AuditedRequests
from mcpproxy.proxy.gateway.external_decisions import ExternalDecisions
from mcpproxy.proxy.gateway.gateway import Gateway
from mcpproxy.proxy.http1.server.server import HttpServer
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.sockets import DRAIN, AdminServer, listen
from mcpproxy.proxy.telemetry.metrics import BackendGauges
from mcpproxy.proxy.upstream.backend import BackendContext
from mcpproxy.proxy.upstream.factory import build_backend
from mcpproxy.proxy.upstream.mounted.values import MountedValues

if TYPE_CHECKING:
    from mcpproxy.proxy.authentication.client_authentication import ClientAuthentication
    from mcpproxy.proxy.telemetry.tracing import CallTracing

EXPORT_WITHIN: Final = 3.0
"""Timeout in seconds for an export of spans."""

VERSION: Final = version("mcpproxy-operator")
GC_THRESHOLD: Final = 20_000
"""Threshold of the garbage collector: allocated minus freed objects."""


@dataclass(frozen=True, slots=True)
class RuntimeOptions:
    """Addresses of a proxy and its settings from the command line."""

    host: str = "127.0.0.1"
    port: int = 8000
    path: str = constants.MCP_PATH
    admin_host: str = "127.0.0.1"
    admin_port: int | None = None
    values: Path = Path(constants.VALUES_DIR)
    sealing_keys: Path | None = None
    resolve: Mapping[str, str] = field(default_factory=dict)
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    audit_descriptor: int = 1
    """Descriptor for lines of the audit log; standard output, unless clients read it."""
    principal_from: str | None = None
    """Header that names the user; that of the manifest takes precedence."""
    drain: int = DRAIN
    """Seconds for calls in flight to complete after SIGTERM."""
    reachable: str | None = None
    """Address at which other machines reach this one; None if it is `host`."""
    own_port: int | None = None
    """Port of this process alone, if worker processes share `port`."""
    keys: tuple[bytes, ...] = ()
    """Sealing keys, if they are not in a directory."""


class Runtime:
    """Proxy that serves HTTP or one client on standard streams."""

    def __init__(
        self,
        configuration: ProxyConfig | None,
        options: RuntimeOptions,
        gateway: Gateway | None = None,
        admin_server: type[AdminServer] = AdminServer,
    ) -> None:
        """Create a runtime for a configuration, or for an existing gateway."""
        self._configuration = configuration
        self._admin_server = admin_server
        self._options = options
        self._stopping = asyncio.Event()
        self._draining = False
        self._verified = False
        self._port = options.port
        if gateway is None:
            assert configuration is not None
            gateway = _gateway(configuration, options)
        self.gateway = gateway
        self._gauges = BackendGauges()
        self._authentication: ClientAuthentication | None = None
        self._front: Endpoint | None = None
        self._readiness = secrets.token_urlsafe(32).encode()
        if configuration is not None and configuration.proxy.spec.authentication is not None:
            self._authentication = self._authenticating(configuration)
        self._keys: key_files.SealingKeyWatcher | None = None
        if options.sealing_keys is None:
            self._sealer = Sealer(options.keys or [key_files.new_key()], secrets.token_bytes)
        else:
            self._keys = key_files.SealingKeyWatcher(options.sealing_keys, time.monotonic)
            self._sealer = self._keys.sealer

    def report(self) -> PodReport:
        """Return the report for the operator."""
        backends = self.gateway.backends
        is_complete = all(backend.watch.known for backend in backends.values())
        catalog = self.gateway.catalog
        spec = self._configuration.proxy.spec.catalog if self._configuration else None
        approved = spec.approved if spec else None
        return PodReport(
            config_hash=self._configuration.hash if self._configuration else "",
            version=VERSION,
            backends=[backends[name].status() for name in sorted(backends)],
            catalog_hash=catalog.digest() if is_complete else None,
            drift=differences(approved.digests, catalog.digests(), whole=is_complete)
            if approved
            else None,
            clashes=catalog.clashes(),
            authentication=self._authentication.statuses() if self._authentication else None,
            authorization=self.gateway.authorization_report(complete=is_complete),
        )

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
            on_refused=gateway.record_failed_authentication,
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

    async def serve_stdio(self) -> None:
        """Serve one client on standard streams of any kind until it closes them.

        Raise NothingToServe or OutputFailed.
        """
        with standard_streams() as (source, target):
            self.gateway.start()
            try:
                await StdioServer(self.gateway, self._sealer, target).run(source)
            finally:
                await self.gateway.close()

    async def serve_http(self, serving: Callable[[], None] = lambda: None) -> None:
        """Serve HTTP until SIGTERM or SIGINT, then finish the calls in flight.

        `serving` is called once all ports are open. Raise OSError or ValueError.
        """
        options, guard = self._options, build_host_policy(self._configuration, self._options)
        sockets = [listen(options.host, options.port, shared=options.own_port is not None)]
        if options.own_port is not None:
            sockets.append(listen(options.host, options.own_port))
        self._port = sockets[-1].getsockname()[1]
        address = _address(options, self._port)
        front = self._front = self._endpoint(guard, address)
        for_instances = HttpServer(PeerEndpoint(front, self.gateway))
        acceptor = PeerAcceptor(front.peers.credentials, for_instances.new_connection)
        server = HttpServer(front, acceptor)
        admin = None
        tasks: list[asyncio.Task[None]] = []
        if options.admin_port is not None:
            admin = self._admin_server(AdminApp(self).app)
            listening = listen(options.admin_host, options.admin_port)
            tasks = [asyncio.create_task(admin.serve(sockets=[listening]))]
        # Imported objects live as long as the process, and requests leave hardly any cycles.
        gc.freeze()
        gc.set_threshold(GC_THRESHOLD)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        key_watch = None if self._keys is None else asyncio.create_task(self._keys.run())
        self.gateway.start()
        if self._authentication is not None:
            self._authentication.start()
        front.start()
        await server.start(sockets)
        await for_instances.start(())
        serving()
        stopping = asyncio.create_task(self._stopping.wait())
        await asyncio.wait([stopping, *tasks], return_when=asyncio.FIRST_COMPLETED)
        # Readiness fails from here on. The admin port stays open until all calls are complete.
        self._draining = True
        front.drain()
        await asyncio.gather(server.drain(options.drain), for_instances.drain(options.drain))
        if admin is not None:
            admin.end()
            await asyncio.gather(*tasks, return_exceptions=True)
        if key_watch is not None:
            key_watch.cancel()
        if self._authentication is not None:
            await self._authentication.close()
        front.close()
        await self.gateway.close()

    def _endpoint(self, guard: HostOriginPolicy, address: str) -> Endpoint:
        spec = self._configuration.proxy.spec if self._configuration else None
        public = spec.public_url if spec else None
        parts = (self.gateway, self._sealer, guard, address, self._options.path)
        public_path = None if public is None else unquote(urlsplit(public).path)
        if self._authentication is None:
            return Endpoint(*parts, Principals(self._principal_header), public_path)
        return AuthenticatedEndpoint(
            *parts,
            public_path=public_path,
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

    def stop(self) -> None:
        """Let `serve_http` drain and return, as after SIGTERM or SIGINT."""
        self._stopping.set()

    async def not_ready(self) -> str | None:
        """Return the reason for which clients must not connect, or None."""
        if self._draining:
            return "shutting down"
        if not self.gateway.initial_round_done:
            return "the first check of all backends is in progress"
        if not self._verified:
            why_not = await check_endpoint(
                self._options.host, self._port, self._options.path, self._readiness_headers
            )
            if why_not is not None:
                return why_not
            self._verified = True
        return None


def build_backend_context(
    policy: HealthPolicy, options: RuntimeOptions, directory: Path, catalog: Catalog | None = None
) -> BackendContext:
    """Return the state that the backends of one proxy share; `directory` is the base of paths."""
    return BackendContext(
        catalog=catalog or Catalog(),
        policy=policy,
        values=MountedValues(options.values, time.monotonic),
        resolve=options.resolve,
        info=jsonrpc.encode({"name": "mcpproxy", "version": VERSION}),
        tls=functools.cache(ssl.create_default_context),
        directory=directory,
    )


def _gateway(configuration: ProxyConfig, options: RuntimeOptions) -> Gateway:
    proxy = configuration.proxy
    catalog = build_catalog(proxy.spec)
    context = build_backend_context(
        health_policy(proxy.spec), options, configuration.directory, catalog
    )
    backends = [build_backend(proxy, spec, context) for spec in proxy.spec.backends]
    audit = proxy.spec.audit
    gateway = Gateway(
        proxy.metadata.name,
        VERSION,
        backends,
        catalog,
        denied_extensions(proxy.spec),
        *build_policy(proxy.spec, catalog, options.resolve),
        None if audit is None else _audited_requests(audit, proxy.metadata.name, options, catalog),
    )
    if isinstance(catalog, ApprovedCatalog):
        catalog.on_offer = gateway.notify_status_watchers
    monitoring = proxy.spec.monitoring
    if monitoring is not None and monitoring.tracing is not None:
        gateway.tracing = _tracing(monitoring.tracing, proxy.metadata.name)
    return gateway


def _audited_requests(
    spec: Audit, name: str, options: RuntimeOptions, catalog: Catalog
) -> AuditedRequests:
    log = build_audit_log(spec, name, VERSION, options.audit_descriptor)
    return AuditedRequests(log, catalog)


def build_policy(
    spec: MCPProxySpec, catalog: Catalog, resolve: Mapping[str, str]
) -> tuple[Policy | None, ExternalDecisions | None]:
    """Return the policy of a proxy and the client of its external service; None without them."""
    authorization = spec.authorization
    if authorization is None:
        return None, None
    external = authorization.external
    return Policy(authorization, catalog), None if external is None else ExternalDecisions(
        external, functools.cache(ssl.create_default_context), resolve
    )


def _tracing(spec: TracingSpec, name: str) -> "CallTracing":
    # Both imports are slow, and most proxies have tracing disabled.
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    from mcpproxy.proxy.telemetry.tracing import CallTracing

    exporter = OTLPSpanExporter(f"{spec.endpoint.rstrip('/')}/v1/traces", timeout=EXPORT_WITHIN)
    share = 100 if spec.sampling_percentage is None else spec.sampling_percentage
    return CallTracing(exporter, name, VERSION, share)


def build_catalog(proxy: MCPProxySpec) -> Catalog:
    """Return the empty catalog of a proxy."""
    spec, serves_clashes = proxy.catalog, clash_policy(proxy) == "First"
    if spec is None or spec.approved is None or spec.on_drift != "Withhold":
        return Catalog(serves_clashes=serves_clashes)
    return ApprovedCatalog(spec.approved.digests, serves_clashes=serves_clashes)


def build_host_policy(
    configuration: ProxyConfig | None, options: RuntimeOptions
) -> HostOriginPolicy:
    """Return the policy for Host and Origin headers. Raise ValueError if it allows no client."""
    hosts = options.allowed_hosts
    origins = options.allowed_origins
    if configuration is not None:
        proxy = configuration.proxy
        service_names = service_hosts(proxy.metadata.name, proxy.metadata.namespace)
        public = proxy.spec.public_url
        own = (*service_names, *((urlsplit(public).netloc,) if public else ()))
        hosts = (*own, *(proxy.spec.allowed_hosts or ()), *hosts)
        origins = (*(proxy.spec.allowed_origins or ()), *origins)
    if options.host not in ("127.0.0.1", "localhost", "::1") and not hosts:
        raise ValueError(
            f"--host {options.host} accepts connections from other machines; set --allowed-host"
            " (or spec.allowedHosts) to the host names that clients use"
        )
    return HostOriginPolicy((*LOCAL, *hosts), origins)


def _address(options: RuntimeOptions, port: int) -> str:
    """Return the address at which other processes reach this one, as `host:port`."""
    host = options.reachable or ("127.0.0.1" if options.host in ANYWHERE else options.host)
    return join_host_port(host, port)
