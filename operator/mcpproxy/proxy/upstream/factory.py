"""Construction of backends and connectors from the configuration of an MCPProxy."""

import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from mcpproxy.api.defaults import BackendSettings, effective_settings
from mcpproxy.proxy.core.exchange import BackendCredentials
from mcpproxy.proxy.http1.client.client import HttpClient, Origin
from mcpproxy.proxy.upstream.backend import Backend
from mcpproxy.proxy.upstream.client_features import EVERYTHING, FeaturePolicy
from mcpproxy.proxy.upstream.connect.http_connector import HttpConnector
from mcpproxy.proxy.upstream.connect.negotiation import Connector
from mcpproxy.proxy.upstream.connect.spare_processes import SpareProcesses
from mcpproxy.proxy.upstream.connect.stdio_connector import StdioConnector
from mcpproxy.proxy.upstream.context import BackendContext
from mcpproxy.proxy.upstream.mounted.tls import SKIPPED, TlsContext
from mcpproxy.proxy.upstream.mounted.values import EnvironmentSource, HeaderSource
from mcpproxy.proxy.upstream.transports import stdio
from mcpproxy.proxy.upstream.transports.http_endpoint import McpHttpClient
from mcpproxy.proxy.upstream.transports.session import TaskSet

if TYPE_CHECKING:
    from mcpproxy.api.v1alpha1 import BackendSpec, MCPProxy, Stdio

log = logging.getLogger("mcpproxy.backend")


def build_backend(
    proxy: "MCPProxy",
    spec: "BackendSpec",
    context: BackendContext,
    make_connector: Callable[[TaskSet], Connector] | None = None,
) -> Backend:
    """Build the backend for an entry of `spec.backends`.

    `make_connector` replaces the connector that the entry describes.
    """
    settings = effective_settings(proxy.spec, spec)
    return Backend(
        spec.name,
        settings,
        make_connector
        or (lambda background: build_connector(proxy, spec, settings, context, background)),
        context,
        # A second warm process would cost more than it saves.
        warm_each=1 if spec.stdio else 2,
        forwarding=_feature_policy(settings),
    )


def _feature_policy(settings: BackendSettings) -> FeaturePolicy:
    if not (settings.withdrawn or settings.denied or settings.results):
        return EVERYTHING
    return FeaturePolicy(
        withdrawn=settings.withdrawn,
        denied=settings.denied,
        reads_results=settings.results is not None,
    )


def build_connector(
    proxy: "MCPProxy",
    spec: "BackendSpec",
    settings: BackendSettings,
    context: BackendContext,
    background: TaskSet,
) -> Connector:
    """Build the connector for an entry of `spec.backends`."""
    if spec.stdio is not None:
        return _stdio_connector(spec.name, spec.stdio, settings, context, background)
    url = spec.url or _service_url(spec, proxy.metadata.namespace or "default")
    resolve = dict(context.resolve)
    if spec.service is not None and spec.service.name in resolve:
        resolve[Origin(url).host] = resolve[spec.service.name]
    name = spec.tls.server_name if spec.tls else None
    if settings.unverified:
        log.warning("backend %s: %s", spec.name, SKIPPED)
    headers = HeaderSource(context.values, spec.headers or ())
    tls = TlsContext(spec.tls, context.values) if spec.tls else None
    client = HttpClient(
        url,
        settings.deadlines.connect,
        tls or context.tls,
        resolve,
        name,
        response_time=settings.deadlines.request,
    )
    sign_in = context.sign_in_to(spec.name, url, tls or context.tls, resolve)
    credentials: BackendCredentials | None = sign_in
    if spec.auth is not None and spec.auth.sets_authorization:
        credentials = context.credentials_for(spec, url, tls or context.tls, resolve)
    endpoint = McpHttpClient(
        client,
        headers if spec.headers else tuple,
        settings.passed,
        credentials,
        None if sign_in is None else sign_in.challenged,
    )
    changed = [headers.changed] if sign_in is None else [headers.changed, sign_in.changed]
    return HttpConnector(endpoint, settings, background, changed, *([tls.changed] if tls else ()))


def _service_url(spec: "BackendSpec", namespace: str) -> str:
    service, scheme = spec.service, "https" if spec.tls else "http"
    assert service is not None
    host = f"{service.name}.{service.namespace or namespace}.svc"
    return f"{scheme}://{host}:{service.port}{service.path or '/mcp'}"


def _stdio_connector(
    name: str,
    spec: "Stdio",
    settings: BackendSettings,
    context: BackendContext,
    background: TaskSet,
) -> StdioConnector:
    environment = EnvironmentSource(context.values, spec.env or ())

    async def spawn(purpose: str = "") -> stdio.StdioChannel:
        cwd = spec.cwd or str(context.directory)
        command = (spec.command, *(spec.args or ()))
        return await stdio.spawn(name, command, environment(), cwd, purpose)

    spares = None
    if settings.session_mode != "Reused":
        for_each_request = settings.session_mode == "Isolated"
        whom = "request" if for_each_request else "client"
        spares = SpareProcesses(
            spawn,
            background,
            spec.command,
            for_each_request=for_each_request,
            spawn_spare=partial(spawn, f" in advance, for the next {whom}"),
        )
    return StdioConnector(spawn, settings, background, environment.changed, spares)
