"""Snapshot of one MCPProxy and everything that belongs to it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar

from mcpproxy.api import constants
from mcpproxy.api.defaults import pods_find_each_other
from mcpproxy.api.kubernetes.objects import Object
from mcpproxy.api.manifest import load_json, parse
from mcpproxy.api.manifest_errors import ManifestError
from mcpproxy.api.v1alpha1 import MCPProxy, MCPProxySpec
from mcpproxy.cluster.client import Cluster
from mcpproxy.cluster.errors import ClusterError, Forbidden, NotFound, OperatorFault
from mcpproxy.cluster.resources import (
    AUTOSCALER,
    CONFIG_MAP,
    DEPLOYMENT,
    DISRUPTION_BUDGET,
    HTTP_ROUTE,
    INGRESS,
    MCP_PROXY,
    NETWORK_POLICY,
    NOT_BUILT_IN,
    ON_DEMAND,
    POD,
    POD_MONITOR,
    REPLICA_SET,
    SERVICE,
    SERVICE_ACCOUNT,
    ProxyKey,
    ResourceKind,
)
from mcpproxy.cluster.token_keys import TokenKeyReader
from mcpproxy.desired import (
    ServiceName,
    ServiceTarget,
    TokenKeys,
    config_map,
    network_policy,
)
from mcpproxy.reconcile.object_views import consents, mounted_config_map, service_target
from mcpproxy.reconcile.plan import is_owned

_NAMED: Final = (DEPLOYMENT, SERVICE, SERVICE_ACCOUNT)
Found = TypeVar("Found")
Known = Callable[[ResourceKind, ProxyKey], bool]
"""Function that returns True if the watches know a child of this kind."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Objects that one pass has read."""

    parent: Object
    proxy: MCPProxy | None
    """Model of the parent; None if its spec is invalid."""
    rejected: str | None
    """Error in the spec; None if it is valid."""
    children: tuple[Object, ...]
    """Live objects of child kinds with the name of a child, regardless of their owner."""
    pods: tuple[Object, ...]
    """Pods with the labels of the MCPProxy, which any user may set: see `ownership`."""
    services: Mapping[ServiceName, ServiceTarget]
    """Targets of the backends' Services, as far as they may be read and shown."""
    superseded: frozenset[str] = frozenset()
    """Uids of pods of an earlier template of the Deployment."""
    missing_kinds: frozenset[str] = frozenset()
    """Kinds that the spec requests and the cluster does not have."""
    routes: tuple[Object, ...] = ()
    """Routes of MCPProxies in the namespace, of the kind that the spec requests; none without
    `expose`."""
    unread: Mapping[str, ClusterError] = field(default_factory=dict)
    """Kinds that could not be read → error. Such objects must not be taken as absent."""
    token_keys: TokenKeys | None = None
    """The keys of ServiceAccount tokens, if the spec needs them and they are known."""
    token_keys_problem: str = ""
    """Reason for which these keys could not be read."""
    ending: bool = False
    """True if the namespace is being deleted: nothing can be created in it."""

    @property
    def terminating(self) -> bool:
        """True if the MCPProxy is being deleted, alone or with its namespace."""
        return self.ending or "deletionTimestamp" in self.parent["metadata"]

    @property
    def suspended(self) -> bool:
        """True if the spec suspends reconciliation."""
        return bool(self.proxy and self.proxy.spec.suspend)

    @property
    def knows_pods(self) -> bool:
        """True if the pods, and what owns them, could be read."""
        return self.unread.keys().isdisjoint({POD.name, DEPLOYMENT.name, REPLICA_SET.name})

    @property
    def hidden_services(self) -> frozenset[ServiceName]:
        """Services of backends whose targets the NetworkPolicy must not show."""
        if self.proxy is None or SERVICE.name in self.unread:
            return frozenset()
        return frozenset(network_policy.referenced_services(self.proxy) - self.services.keys())

    @property
    def deployment(self) -> Object | None:
        """The Deployment of the MCPProxy."""
        return self.child(DEPLOYMENT)

    def child(self, kind: ResourceKind) -> Object | None:
        """Return the MCPProxy's only child of this kind."""
        ours = (live for live in self.children if is_owned(live, self.parent))
        return next((live for live in ours if live["kind"] == kind.name), None)


class _Reads:
    """Reads of one pass. An error of one of them is noted and does not affect the others."""

    def __init__(self) -> None:
        self.failed: dict[str, ClusterError] = {}

    async def of(self, kind: ResourceKind, reading: Awaitable[Found], default: Found) -> Found:
        """Return the result of `reading`, or `default` if it fails."""
        try:
            return await reading
        except ClusterError as error:
            self.failed.setdefault(kind.name, error)
            return default


async def take_snapshot(
    cluster: Cluster,
    key: ProxyKey,
    known: Known,
    token_keys: TokenKeyReader,
    is_new: Callable[[Object], bool] = lambda parent: False,
) -> Snapshot | None:
    """Read one MCPProxy and everything that belongs to it; return None if it does not exist.

    `known` returns True for kinds of which the watches know a child: it is read even if the spec
    does not request it. Of the children of an MCPProxy that `is_new`, only the Deployment is read:
    a user who has one of this name has other objects as well, and gets none beside them. Other
    names that are taken are found when the creation of a child conflicts.

    Raise ClusterError if the MCPProxy itself can't be read. Other errors are in `Snapshot.unread`.
    """
    parent = await cluster.get(MCP_PROXY, *key)
    if parent is None:
        return None
    proxy, rejected = validate(parent)
    bare = Snapshot(parent, proxy, rejected, children=(), pods=(), services={})
    try:
        return await _complete(cluster, key, bare, known, token_keys, is_new)
    except ClusterError:
        raise
    except Exception as error:
        # A spec that nothing foresees concerns only its own MCPProxy, whose status says so.
        log.exception("%s/%s: the state was not read", *key)
        fault = OperatorFault(describe_fault(error))
        return replace(bare, unread=dict.fromkeys((DEPLOYMENT.name, SERVICE.name), fault))


async def _complete(
    cluster: Cluster,
    key: ProxyKey,
    bare: Snapshot,
    known: Known,
    token_keys: TokenKeyReader,
    is_new: Callable[[Object], bool],
) -> Snapshot:
    """Read everything that belongs to an MCPProxy."""
    parent, proxy, reads = bare.parent, bare.proxy, _Reads()
    new = proxy is not None and not proxy.spec.suspend and is_new(parent)
    kinds = (DEPLOYMENT,) if new else (*_NAMED, *_on_demand(proxy, key, known))
    children, maps, pods = await _owned(cluster, key, kinds, reads)
    services: Mapping[ServiceName, ServiceTarget] = {}
    missing_kinds = await _missing_kinds(cluster, proxy, reads)
    routes = await _routes(cluster, proxy, reads, missing_kinds)
    keys, problem = None, ""
    if proxy is not None:
        services = await reads.of(SERVICE, _services(cluster, proxy), services)
        if not new:
            children += await _children_by_name(cluster, proxy, key, maps, reads)
        if config_map.needs_token_keys(proxy):
            keys, problem = await token_keys.read()
    return replace(
        bare,
        children=tuple(children),
        pods=tuple(pods),
        services=services,
        missing_kinds=missing_kinds,
        routes=tuple(routes),
        unread=reads.failed,
        token_keys=keys,
        token_keys_problem=problem,
    )


def describe_fault(error: Exception) -> str:
    """Return the text about an exception that nothing expects."""
    name = type(error).__name__
    return f"internal error of the operator ({name}); the operator's log has details"


def _config_maps(proxy: MCPProxy) -> list[str]:
    keys = constants.cluster_keys_name(proxy.metadata.name)
    return [config_map.name(proxy), *([keys] if config_map.needs_token_keys(proxy) else [])]


def _on_demand(proxy: MCPProxy | None, key: ProxyKey, known: Known) -> list[ResourceKind]:
    """Return the optional kinds that the spec requests, or that an earlier spec requested."""
    requested = requested_kinds(proxy.spec) if proxy is not None else set()
    return [kind for kind in ON_DEMAND if kind in requested or known(kind, key)]


def requested_kinds(spec: MCPProxySpec) -> set[ResourceKind]:
    """Return the optional kinds that a spec requests."""
    fields: dict[ResourceKind, object] = {
        NETWORK_POLICY: spec.network_policy,
        AUTOSCALER: spec.autoscaling,
        DISRUPTION_BUDGET: spec.disruption_budget,
        POD_MONITOR: spec.monitoring and spec.monitoring.pod_monitor,
        HTTP_ROUTE: spec.expose and spec.expose.parent_refs,
        INGRESS: spec.expose and spec.expose.ingress,
    }
    return {kind for kind, field in fields.items() if field is not None}


async def _services(cluster: Cluster, proxy: MCPProxy) -> dict[ServiceName, ServiceTarget]:
    wanted = sorted(network_policy.referenced_services(proxy))
    own = proxy.metadata.namespace or ""
    targets = await asyncio.gather(*(_behind(cluster, own, *name) for name in wanted))
    return {
        name: target for name, target in zip(wanted, targets, strict=True) if target is not None
    }


async def _missing_kinds(cluster: Cluster, proxy: MCPProxy | None, reads: _Reads) -> frozenset[str]:
    """Return the kinds that the spec requests and that are not installed."""
    if proxy is None:
        return frozenset()
    requested = sorted(requested_kinds(proxy.spec) & set(NOT_BUILT_IN), key=lambda kind: kind.name)
    return frozenset(
        [
            kind.name
            for kind in requested
            if await reads.of(kind, _is_missing(cluster, kind, proxy), False)
        ]
    )


async def _is_missing(cluster: Cluster, kind: ResourceKind, proxy: MCPProxy) -> bool:
    """Return True if a kind can't be listed because it is not installed."""
    try:
        await cluster.list(
            kind, proxy.metadata.namespace, constants.child_labels(proxy.metadata.name)
        )
    except NotFound:
        return True
    return False


async def _routes(
    cluster: Cluster, proxy: MCPProxy | None, reads: _Reads, missing: frozenset[str]
) -> list[Object]:
    """Return the routes of all MCPProxies in the namespace, of the kind that the spec requests."""
    if proxy is None:
        return []
    labels = {constants.LABEL_MANAGED_BY: constants.FIELD_MANAGER}
    empty: list[Object] = []
    for kind in (HTTP_ROUTE, INGRESS):
        if kind in requested_kinds(proxy.spec) and kind.name not in missing:
            return await reads.of(kind, cluster.list(kind, proxy.metadata.namespace, labels), empty)
    return []


async def _behind(cluster: Cluster, own: str, namespace: str, name: str) -> ServiceTarget | None:
    """Return the target of a Service; None if it must not be shown in the namespace `own`.

    A user who may read a NetworkPolicy there may lack the permission to read Services elsewhere, or
    to learn that one exists. Without consent, the result is therefore the same as if the operator
    could not read the Service.
    """
    try:
        service = await cluster.get(SERVICE, namespace, name)
    except Forbidden:
        # The operator serves its own namespaces and sees no others.
        return None
    return service_target(service) if namespace == own or consents(service, own) else None


def validate(parent: Object) -> tuple[MCPProxy | None, str | None]:
    """Return the model of a stored object, or the error with its path and remedy."""
    name = parent["metadata"]["name"]
    if not constants.is_dns_label(name):
        return None, (
            f"metadata.name: {name!r} is not a valid name of a Service; use at most"
            f" {constants.MAX_NAME} lower-case letters, digits and dashes, starting with a letter"
        )
    try:
        return parse(parent), None
    except ManifestError as error:
        return None, str(error)


def last_applied_proxy(snapshot: Snapshot) -> MCPProxy | None:
    """Return the MCPProxy that the Deployment runs, from its ConfigMap."""
    deployment = snapshot.deployment
    if deployment is None:
        return None
    name = mounted_config_map(
        deployment["spec"]["template"]["spec"], snapshot.parent["metadata"]["name"]
    )
    for child in snapshot.children:
        if child["kind"] == CONFIG_MAP.name and child["metadata"]["name"] == name:
            try:
                return load_json(child["data"][constants.CONFIG_FILE])
            except (ManifestError, KeyError):
                return None
    return None


async def _owned(
    cluster: Cluster, key: ProxyKey, kinds: Iterable[ResourceKind], reads: _Reads
) -> tuple[list[Object], list[Object], list[Object]]:
    """Return the children of these kinds and the ConfigMaps; the ConfigMaps alone; the pods."""
    empty: list[Object] = []
    singles, maps, pods = await asyncio.gather(
        asyncio.gather(*(reads.of(kind, cluster.get(kind, *key), None) for kind in kinds)),
        reads.of(
            CONFIG_MAP,
            cluster.list(CONFIG_MAP, key.namespace, constants.child_labels(key.name)),
            empty,
        ),
        reads.of(POD, cluster.list(POD, key.namespace, constants.selector_labels(key.name)), empty),
    )
    return [single for single in singles if single is not None] + maps, maps, pods


async def _children_by_name(
    cluster: Cluster, proxy: MCPProxy, key: ProxyKey, maps: list[Object], reads: _Reads
) -> list[Object]:
    """Return the children with names of their own that the list of ConfigMaps did not include."""
    unlabelled = await _unlabelled_maps(cluster, _config_maps(proxy), key, maps, reads)
    return unlabelled + await _instances_service(cluster, proxy, key, reads)


async def _unlabelled_maps(
    cluster: Cluster, names: Iterable[str], key: ProxyKey, listed: list[Object], reads: _Reads
) -> list[Object]:
    """Return the ConfigMaps of these names that the list by labels did not include."""
    result: list[Object] = []
    empty: list[Object] = []
    for name in names:
        unlabelled = _unlabelled(cluster, CONFIG_MAP, key, name, listed)
        result += await reads.of(CONFIG_MAP, unlabelled, empty)
    return result


async def _instances_service(
    cluster: Cluster, proxy: MCPProxy, key: ProxyKey, reads: _Reads
) -> list[Object]:
    """Return the Service of the instances if the spec needs it and it exists."""
    if not pods_find_each_other(proxy.spec):
        return []
    name = constants.instances_service_name(key.name)
    live = await reads.of(SERVICE, cluster.get(SERVICE, key.namespace, name), None)
    return [] if live is None else [live]


async def _unlabelled(
    cluster: Cluster, kind: ResourceKind, key: ProxyKey, name: str, listed: list[Object]
) -> list[Object]:
    """Return the object of this name if the list by labels did not include it."""
    if any(live["metadata"]["name"] == name for live in listed):
        return []
    live = await cluster.get(kind, key.namespace, name)
    return [] if live is None else [live]
