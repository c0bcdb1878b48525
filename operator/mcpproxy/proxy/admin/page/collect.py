"""The data of the page, from the gateway of this process."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from mcpproxy.api.authority import join_host_port
from mcpproxy.proxy.admin.page.addresses import display_address
from mcpproxy.proxy.admin.page.components import ComponentBrowser
from mcpproxy.proxy.admin.page.data import (
    BackendView,
    ComponentPart,
    ComponentsRequest,
    Definition,
    DefinitionRequest,
    Overview,
    OverviewRequest,
    PageRequest,
)
from mcpproxy.proxy.admin.page.readiness import judge
from mcpproxy.proxy.config.options import RuntimeOptions
from mcpproxy.proxy.core.reports import InstanceReport
from mcpproxy.proxy.gateway.gateway import Gateway
from mcpproxy.proxy.upstream.backend import Backend

if TYPE_CHECKING:
    from mcpproxy.api.v1alpha1 import MCPProxy
    from mcpproxy.api.v1alpha1.backend import BackendSpec

_ANYWHERE: Final = ("0.0.0.0", "::", "")
_REQUESTS: Final = msgspec.json.Decoder(PageRequest)


class PageData:
    """Data of the page of one process."""

    def __init__(
        self,
        gateway: Gateway,
        proxy: "MCPProxy | None",
        options: RuntimeOptions,
        report: Callable[[], InstanceReport],
        not_ready: Callable[[], Awaitable[str | None]],
    ) -> None:
        """`proxy` is None if the program has built the gateway itself."""
        self._gateway = gateway
        self._proxy = proxy
        self._options = options
        self._report = report
        self._not_ready = not_ready
        specs = proxy.spec.backends if proxy is not None else ()
        self._specs: Mapping[str, BackendSpec] = {spec.name: spec for spec in specs}
        self._browser = ComponentBrowser(gateway.catalog, gateway.backends)

    async def answer(self, request: bytes) -> bytes:
        """Return the JSON of the result of a `PageRequest`, which is JSON as well."""
        return msgspec.json.encode(await self._answer(_REQUESTS.decode(request)))

    async def _answer(self, request: PageRequest) -> Overview | ComponentPart | Definition:
        if isinstance(request, ComponentsRequest):
            return await self._browser.list_part(request)
        if isinstance(request, DefinitionRequest):
            return self._browser.define(request)
        return await self._overview(request)

    async def _overview(self, request: OverviewRequest) -> Overview:
        gateway, report = self._gateway, self._report()
        in_flight = Counter(_backend_of(call) for call in gateway.running)
        backends = [
            self._backend(gateway.backends[status.name], status.to_manifest(), in_flight)
            for status in report.backends
        ]
        status, reason, message = judge(backends, await self._not_ready())
        metadata = self._proxy.metadata if self._proxy is not None else None
        recent, metrics = gateway.recent_calls, gateway.metrics
        return Overview(
            name=metadata.name if metadata else "",
            namespace=(metadata.namespace if metadata else None) or "",
            url=endpoint_url(self._proxy, self._options),
            version=report.version,
            catalog_hash=report.catalog_hash,
            config_hash=report.config_hash,
            ready=status,
            reason=reason,
            message=message,
            backends=backends,
            clashes=report.clashes,
            sessions=_value(metrics.sessions),
            streams=_value(metrics.streams),
            in_flight=len(gateway.running),
            parked=_value(metrics.parked),
            calls=None if recent is None else recent.list_calls(),
        )

    def _backend(
        self, backend: Backend, status: dict[str, Any], in_flight: Mapping[str, int]
    ) -> BackendView:
        spec, server = self._specs.get(backend.name), status.get("server") or {}
        failure = backend.watch.health.last_failure
        address = None
        if spec is not None and self._proxy is not None:
            address = display_address(self._proxy, spec)
        return BackendView(
            name=backend.name,
            state=status["state"],
            required=spec is None or not spec.optional,
            reason=status.get("reason"),
            message=status.get("message"),
            address=address,
            transport=status.get("transport"),
            revision=status.get("protocolVersion"),
            server=" ".join(filter(None, (server.get("name"), server.get("version")))) or None,
            session_mode=status.get("sessionMode"),
            components=status.get("components") or {},
            sessions=backend.sessions.upstream.count,
            in_flight=in_flight.get(backend.name, 0),
            checked_at=_wall_time(backend.watch.rounds.ended_at),
            last_failure=None if failure is None else f"{failure.reason}: {failure.message}",
        )


def endpoint_url(proxy: "MCPProxy | None", options: RuntimeOptions) -> str:
    """Return the URL at which clients reach the endpoint, as far as the process knows it."""
    if proxy is not None and proxy.spec.public_url is not None:
        return proxy.spec.public_url
    if proxy is not None and options.reachable is not None and proxy.metadata.namespace:
        return f"http://{proxy.metadata.name}.{proxy.metadata.namespace}.svc{options.path}"
    host = "localhost" if options.host in _ANYWHERE else options.host
    return f"http://{join_host_port(host, options.port)}{options.path}"


def _backend_of(call: Any) -> str:
    name: str = call.backend.name
    return name


def _value(gauge: Any) -> int:
    """Return the value of a gauge without labels."""
    (family,) = gauge.collect()
    return int(family.samples[0].value)


def _wall_time(monotonic: float | None) -> float | None:
    """Return the time of a moment on the clock of the event loop, in seconds since the epoch."""
    if monotonic is None:
        return None
    return time.time() - (asyncio.get_running_loop().time() - monotonic)
