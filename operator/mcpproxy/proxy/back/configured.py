"""The backends that an MCPProxy describes, and how each is reached."""

import logging
from collections.abc import Callable

from mcpproxy.api.defaults import BackendSettings, settings
from mcpproxy.api.v1alpha1 import Backend as BackendSpec
from mcpproxy.api.v1alpha1 import MCPProxy, Stdio
from mcpproxy.proxy.back import stdio
from mcpproxy.proxy.back.backend import Backend, Surroundings
from mcpproxy.proxy.back.client import HttpClient, Origin
from mcpproxy.proxy.back.endpoint import Endpoint
from mcpproxy.proxy.back.forwarding import EVERYTHING, Forwarding
from mcpproxy.proxy.back.link import Background
from mcpproxy.proxy.back.opener import HttpOpener, Opener, StdioOpener
from mcpproxy.proxy.back.spares import SpareOpener
from mcpproxy.proxy.back.tls import SKIPPED, TlsContext
from mcpproxy.proxy.back.values import Environment, Headers

log = logging.getLogger("mcpproxy.backend")


def configured(
    proxy: MCPProxy,
    spec: BackendSpec,
    around: Surroundings,
    opener: Callable[[Background], Opener] | None = None,
) -> Backend:
    """The backend that an MCPProxy's entry describes, or one that is reached by this opener."""
    given = settings(proxy.spec, spec)
    return Backend(
        spec.name,
        given,
        opener or (lambda background: opener_of(proxy, spec, given, around, background)),
        around,
        # A process costs more than it saves to have two of.
        warm_each=1 if spec.stdio else 2,
        forwarding=Forwarding(withdrawn=given.withdrawn, denied=given.denied)
        if given.withdrawn or given.denied
        else EVERYTHING,
    )


def opener_of(
    proxy: MCPProxy,
    spec: BackendSpec,
    given: BackendSettings,
    around: Surroundings,
    background: Background,
) -> Opener:
    """How sessions are opened with the backend that an MCPProxy's entry describes."""
    if spec.stdio is not None:
        return _stdio_opener(spec.name, spec.stdio, given, around, background)
    url = spec.url or _service_url(spec, proxy.metadata.namespace or "default")
    resolve = dict(around.resolve)
    if spec.service is not None and spec.service.name in resolve:
        resolve[Origin(url).host] = resolve[spec.service.name]
    name = spec.tls.server_name if spec.tls else None
    if given.unverified:
        log.warning("backend %s: %s", spec.name, SKIPPED)
    headers = Headers(around.values, spec.headers or ())
    tls = TlsContext(spec.tls, around.values) if spec.tls else None
    client = HttpClient(url, given.deadlines.connect, tls or around.tls, resolve, name)
    endpoint = Endpoint(client, headers if spec.headers else tuple, given.passed)
    changed = (headers.changed, tls.changed) if tls else (headers.changed,)
    return HttpOpener(endpoint, given, background, *changed)


def _service_url(spec: BackendSpec, namespace: str) -> str:
    service, scheme = spec.service, "https" if spec.tls else "http"
    assert service is not None
    host = f"{service.name}.{service.namespace or namespace}.svc"
    return f"{scheme}://{host}:{service.port}{service.path or '/mcp'}"


def _stdio_opener(
    name: str,
    spec: Stdio,
    given: BackendSettings,
    around: Surroundings,
    background: Background,
) -> StdioOpener:
    environment = Environment(around.values, spec.env or ())

    async def spawn() -> stdio.StdioChannel:
        cwd = spec.cwd or str(around.directory)
        return await stdio.spawn(name, (spec.command, *(spec.args or ())), environment(), cwd)

    if given.session_mode == "Isolated":
        # Each request gets a fresh process.
        return SpareOpener(spawn, given, background, environment.changed)
    return StdioOpener(spawn, given, background, environment.changed)
