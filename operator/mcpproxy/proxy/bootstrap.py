"""Construction of a proxy's parts from its configuration."""

import asyncio
import functools
import hashlib
import secrets
import ssl
import time
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from mcpproxy.api.constants import LOOPBACK_HOSTS, PORT_HTTP, instances_service_name
from mcpproxy.api.defaults import HealthPolicy, clash_policy, denied_extensions, health_policy
from mcpproxy.proxy.config.options import RuntimeOptions
from mcpproxy.proxy.config.proxy_config import ProxyConfig
from mcpproxy.proxy.core.catalog.approval import ApprovalFilter
from mcpproxy.proxy.core.catalog.catalog import Catalog
from mcpproxy.proxy.core.tokens.sealed_tokens import Sealer
from mcpproxy.proxy.downstream.host_origin import LOCAL, HostOriginPolicy, service_hosts
from mcpproxy.proxy.gateway.gateway import Gateway
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.upstream.backend import Backend
from mcpproxy.proxy.upstream.context import BackendContext, BackendEvents
from mcpproxy.proxy.upstream.factory import build_backend
from mcpproxy.proxy.upstream.mounted.values import MountedValues
from mcpproxy.proxy.upstream.sign_in.settings import SignIn

if TYPE_CHECKING:
    from mcpproxy.api.v1alpha1 import Audit, Authorization, MCPProxy, MCPProxySpec
    from mcpproxy.api.v1alpha1 import Tracing as TracingSpec
    from mcpproxy.proxy.call_limits.call_limits import CallLimits
    from mcpproxy.proxy.gateway.access_guard import AccessGuard
    from mcpproxy.proxy.gateway.audited_requests import AuditedRequests
    from mcpproxy.proxy.gateway.external_decisions import ExternalDecisions
    from mcpproxy.proxy.gateway.gateway import ShareWatches
    from mcpproxy.proxy.instances.members import InstanceLink
    from mcpproxy.proxy.instances.watch_sharing import WatchSharing
    from mcpproxy.proxy.results.kept_results import KeptResults
    from mcpproxy.proxy.telemetry.recent_calls import RecentCalls
    from mcpproxy.proxy.telemetry.tracing import CallTracing

VERSION: Final = version("mcpproxy-operator")
# Functions import the modules of features that most proxies do not configure, to save memory.


def build_backend_context(
    policy: HealthPolicy,
    options: RuntimeOptions,
    directory: Path,
    catalog: Catalog | None = None,
    *,
    sealer: Sealer | None = None,
    events: BackendEvents | None = None,
    kept_results: "KeptResults | None" = None,
    seals_task_ids: bool = False,
    sign_ins: Mapping[str, SignIn] | None = None,
) -> BackendContext:
    """Return the state that the backends of one proxy share.

    `directory` is the base of paths. `seals_task_ids` is necessary with several backends, and if
    principals are known, because a task belongs to its principal. Without a sealer, tokens are
    valid in this process only.
    """
    return BackendContext(
        catalog=catalog or Catalog(),
        policy=policy,
        values=MountedValues(options.values, time.monotonic),
        resolve=options.resolve,
        info=jsonrpc.encode({"name": "mcpproxy", "version": VERSION}),
        tls=functools.cache(ssl.create_default_context),
        directory=directory,
        sealer=sealer or Sealer([secrets.token_bytes(32)], secrets.token_bytes),
        kept_results=kept_results,
        seals_task_ids=seals_task_ids,
        probe_delay_factor=options.probe_delay_factor,
        events=events or BackendEvents(),
        sign_ins=sign_ins or {},
    )


def build_gateway(configuration: ProxyConfig, options: RuntimeOptions, sealer: Sealer) -> Gateway:
    """Return the gateway of a proxy, with all its backends, which are not started."""
    proxy, events = configuration.proxy, BackendEvents()
    context = build_backend_context(
        health_policy(proxy.spec),
        options,
        configuration.directory,
        _build_catalog(proxy.spec, events),
        sealer=sealer,
        events=events,
        kept_results=_build_kept_results(proxy.spec, sealer),
        seals_task_ids=len(proxy.spec.backends) > 1 or _knows_users(proxy.spec, options),
        sign_ins=configuration.sign_ins,
    )
    monitoring = proxy.spec.monitoring
    spec = None if monitoring is None else monitoring.tracing
    tracing = None if spec is None else _build_tracing(spec, proxy.metadata.name, options.resolve)
    return Gateway(
        proxy.metadata.name,
        VERSION,
        [build_backend(proxy, spec, context) for spec in proxy.spec.backends],
        context,
        denied_extensions(proxy.spec),
        tracing,
        *build_guard(proxy.spec.authorization, context.catalog, options.resolve),
        build_audited_requests(proxy.spec.audit, proxy.metadata.name, options, context.catalog),
        recent_calls=_recent_calls(options, tracing),
        limits=_build_limits(proxy, context.values, options),
        share_watches=_watch_sharing(configuration, options),
    )


def _knows_users(spec: "MCPProxySpec", options: RuntimeOptions) -> bool:
    """Return True if principals are those of users, to whom tasks belong."""
    parts = (spec.authorization, spec.authentication, spec.principal_from, options.principal_from)
    return any(part is not None for part in parts)


def _recent_calls(options: RuntimeOptions, tracing: "CallTracing | None") -> "RecentCalls | None":
    if options.admin_port is None and not options.keeps_calls:
        return None
    from mcpproxy.proxy.telemetry.recent_calls import RecentCalls

    return RecentCalls(None if tracing is None else tracing.trace_id)


def build_audited_requests(
    spec: "Audit | None", name: str, options: RuntimeOptions, catalog: Catalog
) -> "AuditedRequests | None":
    """Return the audit log of the proxy `name`; None without one."""
    if spec is None:
        return None
    from mcpproxy.proxy.audit.factory import build_audit_log
    from mcpproxy.proxy.gateway.audited_requests import AuditedRequests

    log = build_audit_log(spec, name, VERSION, options.audit_descriptor, options.resolve)
    return AuditedRequests(log, catalog)


def build_guard(
    authorization: "Authorization | None", catalog: Catalog, resolve: Mapping[str, str]
) -> "tuple[AccessGuard | None, ExternalDecisions | None]":
    """Return the guard of a proxy and the client of its external service; None without them."""
    if authorization is None:
        return None, None
    from mcpproxy.proxy.authorization.policy import Policy
    from mcpproxy.proxy.gateway.access_guard import AccessGuard

    guard, external = AccessGuard(Policy(authorization, catalog), catalog), authorization.external
    if external is None:
        return guard, None
    from mcpproxy.proxy.gateway.external_decisions import ExternalDecisions

    tls = functools.cache(ssl.create_default_context)
    return guard, ExternalDecisions(external, tls, resolve)


def _build_kept_results(spec: "MCPProxySpec", sealer: Sealer) -> "KeptResults | None":
    results = [backend.results for backend in spec.backends]
    if not any(limit is not None and limit.on_larger == "Link" for limit in results):
        return None
    from mcpproxy.proxy.results.kept_results import KeptResults

    return KeptResults(sealer)


def _build_limits(
    proxy: "MCPProxy", values: MountedValues, options: RuntimeOptions
) -> "CallLimits | None":
    if proxy.spec.limits is None:
        return None
    from mcpproxy.proxy.call_limits.call_limits import build_call_limits

    return build_call_limits(proxy, proxy.spec.limits, values, options.instances)


def _watch_sharing(configuration: ProxyConfig, options: RuntimeOptions) -> "ShareWatches | None":
    """Return the function that divides the watches of backends among instances; None without
    other instances."""
    names, proxy = instance_names(configuration, options), configuration.proxy
    if not names or all(backend.stdio is not None for backend in proxy.spec.backends):
        return None
    group = hashlib.sha256(f"{VERSION} {configuration.hash}".encode()).hexdigest()

    def share(link: "InstanceLink", backends: Mapping[str, Backend]) -> "WatchSharing":
        from mcpproxy.proxy.instances.watch_sharing import WatchSharing

        shares = {name: each.watch.share for name, each in backends.items() if not each.is_program}
        return WatchSharing(link, names, group, shares, asyncio.get_running_loop().time)

    return share


def instance_names(
    configuration: ProxyConfig, options: RuntimeOptions
) -> tuple[tuple[str, int], ...]:
    """Return hosts and ports of all instances: by default those of the Service of the pods."""
    if options.instances or options.reachable is None or options.own_port is not None:
        return options.instances
    metadata = configuration.proxy.metadata
    name = instances_service_name(metadata.name)
    if metadata.namespace is not None:
        name = f"{name}.{metadata.namespace}.svc"
    return ((name, PORT_HTTP),)


def _build_tracing(spec: "TracingSpec", name: str, resolve: Mapping[str, str]) -> "CallTracing":
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    from mcpproxy.proxy.telemetry.collector_session import EXPORT_WITHIN, CollectorSession
    from mcpproxy.proxy.telemetry.tracing import CallTracing

    url, session = f"{spec.endpoint.rstrip('/')}/v1/traces", CollectorSession(resolve)
    exporter = OTLPSpanExporter(url, timeout=EXPORT_WITHIN, session=session)
    share = 100 if spec.sampling_percentage is None else spec.sampling_percentage
    return CallTracing(exporter, name, VERSION, share)


def _build_catalog(proxy: "MCPProxySpec", events: BackendEvents) -> Catalog:
    spec, serves_clashes = proxy.catalog, clash_policy(proxy) == "First"
    if spec is None or spec.approved is None or spec.on_drift != "Withhold":
        return Catalog(serves_clashes=serves_clashes)
    return Catalog(
        serves_clashes=serves_clashes,
        catalog_filter=ApprovalFilter(spec.approved.digests),
        on_offer=lambda: events.list_change.publish(set(), ""),
    )


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
    if options.host not in LOOPBACK_HOSTS and not hosts:
        raise ValueError(
            f"--host {options.host} accepts connections from other machines; set --allowed-host"
            " (or spec.allowedHosts) to the host names that clients use, such as"
            " --allowed-host localhost"
        )
    return HostOriginPolicy((*LOCAL, *hosts), origins)
