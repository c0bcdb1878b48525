"""Collection of the lists of one proxy's backends, once, with the runtime's own code."""

import asyncio
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec

from mcpproxy.api.defaults import clash_policy, effective_settings, health_policy
from mcpproxy.api.v1alpha1 import BackendSpec, MCPProxy, OAuthClient
from mcpproxy.plan import saved_lists
from mcpproxy.plan.access.call_limits import build_limits
from mcpproxy.plan.access.callers import parse_caller
from mcpproxy.plan.access.permissions import build_access
from mcpproxy.plan.access.recorded_calls import read_calls
from mcpproxy.plan.access.replay import CallJudge, replay_calls
from mcpproxy.plan.document import Plan, build_document
from mcpproxy.plan.local.remedies import with_remedies
from mcpproxy.proxy.bootstrap import build_backend_context
from mcpproxy.proxy.config.options import RuntimeOptions
from mcpproxy.proxy.core.catalog.catalog import Catalog
from mcpproxy.proxy.core.catalog.component_selection import selections
from mcpproxy.proxy.core.reports import BackendReport
from mcpproxy.proxy.protocol.jsonrpc import Message
from mcpproxy.proxy.protocol.kinds import KINDS, ComponentKind
from mcpproxy.proxy.upstream.backend import Backend
from mcpproxy.proxy.upstream.context import BackendContext
from mcpproxy.proxy.upstream.factory import build_backend


@dataclass(frozen=True, slots=True)
class CollectOptions:
    """Sources of the lists. Without `offline`, the plan connects to the backends."""

    deadline: float
    """Seconds that all backends together may take."""
    offline: Path | None = None
    """Directory from which saved lists are read, without any connection."""
    save: Path | None = None
    """Directory in which the lists of usable backends are saved."""
    callers: tuple[str, ...] = ()
    """Callers whose access is shown; see `parse_caller`. Without any, all whom the rules name."""
    replay: Path | None = None
    """Audit log whose calls are decided by the rules of the manifest."""


async def build_plan(
    proxy: MCPProxy, directory: Path, options: RuntimeOptions, sources: CollectOptions
) -> Plan:
    """Return the plan of one proxy. `directory` is the base of relative paths.

    Raise OSError if the lists cannot be saved.
    """
    catalog = Catalog(serves_clashes=clash_policy(proxy.spec) == "First")
    context = build_backend_context(health_policy(proxy.spec), options, directory, catalog)
    backends = [_backend(proxy, spec, context, sources) for spec in proxy.spec.backends]
    backends.sort(key=lambda backend: backend.name)
    pages_by_backend = _record_pages(context)
    for backend in backends:
        backend.start()
    try:
        await _settle(backends, sources.deadline)
        statuses = with_remedies(
            (_status(backend, sources.deadline) for backend in backends), proxy.spec.backends
        )
        if sources.save is not None:
            for backend in backends:
                _save(sources.save, proxy, backend, pages_by_backend.get(backend.name, {}))
        known = all(b.watch.known and not b.watch.lists.failures for b in backends)
        origins = {b.name: (b.names, selections(b.settings)) for b in backends}
        plan = build_document(
            proxy.metadata,
            context.catalog,
            statuses,
            origins,
            known=known,
            approved=proxy.spec.catalog,
            on_clash=proxy.spec.names.on_clash if proxy.spec.names else None,
            failures={kind: _failures(backends, kind) for kind in KINDS},
            identities={spec.name: describe_identity(spec) for spec in proxy.spec.backends},
        )
        _add_access(plan, proxy, context.catalog, sources)
        return plan
    finally:
        await asyncio.gather(*(backend.close() for backend in backends))


def _add_access(plan: Plan, proxy: MCPProxy, catalog: Catalog, sources: CollectOptions) -> None:
    callers = [parse_caller(text, proxy.spec) for text in sources.callers]
    plan["access"] = build_access(proxy.spec, catalog, plan, callers)
    plan["limits"] = build_limits(proxy.spec.limits, plan)
    if sources.replay is not None:
        judge = CallJudge(proxy.spec, catalog)
        plan["replay"] = replay_calls(proxy.metadata.name, judge, read_calls(sources.replay))


async def _settle(backends: list[Backend], deadline: float) -> None:
    """Wait until all backends are known, but only for `deadline` seconds."""
    tasks = [asyncio.create_task(backend.watch.settled.wait()) for backend in backends]
    _, late = await asyncio.wait(tasks, timeout=deadline)
    for task in late:
        task.cancel()


def _backend(
    proxy: MCPProxy, spec: BackendSpec, context: BackendContext, sources: CollectOptions
) -> Backend:
    if sources.offline is None:
        return build_backend(proxy, spec, context)
    metadata = proxy.metadata
    path = saved_lists.path_of(sources.offline, metadata.namespace, metadata.name, spec.name)
    return build_backend(
        proxy,
        spec,
        context,
        partial(saved_lists.SavedConnector, path, effective_settings(proxy.spec, spec)),
    )


def _failures(backends: list[Backend], kind: ComponentKind) -> dict[str, str]:
    """Return the reasons for missing lists of a kind, by backend."""
    failures = ((backend.name, backend.watch.failure(kind)) for backend in backends)
    return {name: reason for name, reason in failures if reason is not None}


def _record_pages(context: BackendContext) -> dict[str, dict[str, list[Message]]]:
    """Return the pages of each list by backend, which are filled in as they arrive."""
    pages_by_backend: dict[str, dict[str, list[Message]]] = {}

    def record(backend: str, kind: ComponentKind, pages: list[Message]) -> None:
        pages_by_backend.setdefault(backend, {})[kind.member] = pages

    context.events.pages.subscribe(record)
    return pages_by_backend


def _save(
    directory: Path, proxy: MCPProxy, backend: Backend, pages_by_kind: dict[str, list[Message]]
) -> None:
    server, metadata = backend.watch.server, proxy.metadata
    if server is not None and backend.watch.known:
        path = saved_lists.path_of(directory, metadata.namespace, metadata.name, backend.name)
        saved_lists.write_saved_lists(path, backend.status(), server.result, pages_by_kind)


def _status(backend: Backend, deadline: float) -> BackendReport:
    status = backend.status()
    if status.state != "Unknown":
        return status
    message = f"no response within the {deadline:g} s of --timeout"
    return msgspec.structs.replace(status, reason="TimedOut", message=message)


def describe_identity(backend: BackendSpec) -> str:
    """Return as whom a backend is called, such as `as client mcpproxy of https://login.example`."""
    auth = backend.auth
    if auth is not None and auth.service_account is not None:
        audience = auth.service_account.audience
        return f"with a token of the pods' ServiceAccount for {audience}"
    if auth is not None and auth.client_credentials is not None:
        return f"as client {_client(auth.client_credentials)}"
    if auth is not None and auth.token_exchange is not None:
        return f"on behalf of each caller, by client {_client(auth.token_exchange)}"
    if auth is not None and auth.id_jag is not None:
        provider = _client(auth.id_jag.identity_provider)
        client = _client(auth.id_jag)
        return f"on behalf of each caller, by an ID-JAG for client {provider}, by client {client}"
    if backend.stdio is not None:
        return "as a program of the proxy"
    if backend.forwards_credentials:
        return "with the Authorization of each client"
    headers = {header.name.lower() for header in backend.headers or ()}
    return "with a configured Authorization" if "authorization" in headers else "without a token"


def _client(client: OAuthClient) -> str:
    server = client.issuer or client.token_url or "the server that the backend names"
    return f"{client.client_id} of {server}"
