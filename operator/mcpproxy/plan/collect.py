"""Asks the backends of one proxy, once, with the runtime's own code."""

import asyncio
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mcpproxy.api.defaults import clash_policy, effective_settings, health_policy
from mcpproxy.api.v1alpha1 import BackendSpec, MCPProxy
from mcpproxy.api.v1alpha1.status import BackendStatus
from mcpproxy.plan import saved_lists
from mcpproxy.plan.document import Plan, build_document
from mcpproxy.proxy.config.targets import ProxyConfig
from mcpproxy.proxy.core.catalog.catalog import Catalog
from mcpproxy.proxy.protocol.jsonrpc import Message
from mcpproxy.proxy.protocol.kinds import KINDS, ComponentKind
from mcpproxy.proxy.runtime import RuntimeOptions, build_backend_context
from mcpproxy.proxy.upstream.backend import Backend, BackendContext
from mcpproxy.proxy.upstream.factory import build_backend
from mcpproxy.proxy.upstream.monitor.list_cache import selections


@dataclass(frozen=True, slots=True)
class CollectOptions:
    """Where the plan learns of backends; without a directory it connects to them."""

    deadline: float
    """Seconds that all backends together have."""
    offline: Path | None = None
    """What was saved is read from here, and nothing is connected to."""
    save: Path | None = None
    """What usable backends say is kept here."""


async def build_plan(
    configuration: ProxyConfig, options: RuntimeOptions, sources: CollectOptions
) -> Plan:
    """The plan of one proxy. Raises OSError when it can't be saved."""
    proxy = configuration.proxy
    catalog = Catalog(serves_clashes=clash_policy(proxy.spec) == "First")
    around = build_backend_context(
        health_policy(proxy.spec), options, configuration.directory, catalog
    )
    backends = [_backend(proxy, spec, around, sources) for spec in proxy.spec.backends]
    backends.sort(key=lambda backend: backend.name)
    heard = {backend.name: _listening(backend) for backend in backends}
    for backend in backends:
        backend.start()
    try:
        every = [asyncio.create_task(backend.watch.settled.wait()) for backend in backends]
        _, late = await asyncio.wait(every, timeout=sources.deadline)
        for waiting in late:
            waiting.cancel()
        statuses = [_status(backend, sources.deadline) for backend in backends]
        if sources.save is not None:
            for backend in backends:
                _save(sources.save, proxy, backend, heard[backend.name])
        known = all(
            backend.watch.known and not backend.watch.lists.failures for backend in backends
        )
        origins = {b.name: (b.names, selections(b.settings)) for b in backends}
        return build_document(
            proxy.metadata,
            around.catalog,
            statuses,
            origins,
            known=known,
            approved=proxy.spec.catalog,
            on_clash=proxy.spec.names.on_clash if proxy.spec.names else None,
            failures={kind: _failures(backends, kind) for kind in KINDS},
        )
    finally:
        await asyncio.gather(*(backend.close() for backend in backends))


def _backend(
    proxy: MCPProxy, spec: BackendSpec, around: BackendContext, sources: CollectOptions
) -> Backend:
    if sources.offline is None:
        return build_backend(proxy, spec, around)
    where = proxy.metadata
    path = saved_lists.path_of(sources.offline, where.namespace, where.name, spec.name)
    return build_backend(
        proxy,
        spec,
        around,
        partial(saved_lists.SavedConnector, path, effective_settings(proxy.spec, spec)),
    )


def _failures(backends: list[Backend], kind: ComponentKind) -> dict[str, str]:
    """Why lists of a kind are missing, by backend."""
    failures = ((backend.name, backend.watch.failure(kind)) for backend in backends)
    return {name: why for name, why in failures if why is not None}


def _listening(backend: Backend) -> dict[str, list[Message]]:
    """What the backend lists, as it sent it; filled in as it comes."""
    heard: dict[str, list[Message]] = {}

    def note(kind: ComponentKind, pages: list[Message]) -> None:
        heard[kind.member] = pages

    backend.watch.lists.on_pages = note
    return heard


def _save(
    directory: Path, proxy: MCPProxy, backend: Backend, heard: dict[str, list[Message]]
) -> None:
    greeting, where = backend.watch.greeting, proxy.metadata
    if greeting is not None and backend.watch.known:
        path = saved_lists.path_of(directory, where.namespace, where.name, backend.name)
        saved_lists.write_saved_lists(path, backend.status(), greeting.result, heard)


def _status(backend: Backend, deadline: float) -> BackendStatus:
    status = backend.status()
    if status.state != "Unknown":
        return status
    message = f"it said nothing within the {deadline:g} s of --timeout"
    return status.model_copy(update={"reason": "TimedOut", "message": message})
