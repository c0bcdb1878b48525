"""Ownership of pods: the pods of the MCPProxy's Deployment among those with its labels."""

import hashlib
import logging
import sys
from collections.abc import Container, Iterable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

from mcpproxy.api import constants
from mcpproxy.api.kubernetes.objects import Object
from mcpproxy.api.yaml_safe_json import json_text
from mcpproxy.cluster.client import Cluster
from mcpproxy.cluster.errors import ClusterError
from mcpproxy.cluster.resources import DEPLOYMENT, REPLICA_SET, ProxyKey, owner_key
from mcpproxy.reconcile.object_views import mounted_config_map
from mcpproxy.reconcile.plan import controller_of
from mcpproxy.reconcile.snapshot import Snapshot

log = logging.getLogger(__name__)

_REVISION: Final = "deployment.kubernetes.io/revision"
_DIGITS: Final = 19
_TEMPLATE_HASH: Final = "pod-template-hash"
"""Label with which Kubernetes distinguishes the pods of different templates."""


@dataclass(frozen=True, slots=True)
class _ReplicaSet:
    """Relevant facts of a ReplicaSet of the Deployment."""

    template: bytes
    """Digest of its pod template without the label that Kubernetes adds."""
    config_map: str | None
    """Name of the ConfigMap that its pods mount as their configuration."""
    revision: int
    """Number that Kubernetes gives to the revisions of a Deployment, the newest the highest."""
    has_pods: bool
    """True if it should have pods."""


@dataclass(frozen=True, slots=True)
class _ReplicaSets:
    """The ReplicaSets of one Deployment when they were last listed."""

    deployment: str = ""
    """The uid of the Deployment."""
    version: str = ""
    """The resourceVersion of the Deployment at that time."""
    by_uid: Mapping[str, _ReplicaSet] = field(default_factory=lambda: MappingProxyType({}))


_NONE: Final = _ReplicaSets()
_UNSETTLED: Final = "-"
"""Version while some ReplicaSets are about to be deleted, which does not change the Deployment."""
_READ_AHEAD: Final = 16
"""ReplicaSets of one MCPProxy that are kept for its first pass. A Deployment has three."""


class PodOwnership:
    """Filter of the pods whose ReplicaSet is controlled by one Deployment.

    A user who may create pods may write any ownerReferences, so that a pod can claim one of the
    ReplicaSets. Kubernetes also counts such a pod as the ReplicaSet's, and deletes the excess. The
    pod is in the namespace of the MCPProxy, so that its author can mislead only the status of
    proxies there. Reports of any pod are limited (`limits.pods`).
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        # The result of the newest list.
        self._known: dict[ProxyKey, _ReplicaSets] = {}
        self._read_ahead: dict[ProxyKey, dict[str, tuple[str | None, _ReplicaSet]]] = {}
        """The uids and Deployments of ReplicaSets, for the first pass over each MCPProxy."""

    async def read_ahead(
        self, namespaces: Iterable[str], selector: str, keys: Container[ProxyKey]
    ) -> None:
        """Read the ReplicaSets of the MCPProxies in `keys` with one list instead of one for each.

        `namespaces` is empty for all of them. The first pass over an MCPProxy lists its ReplicaSets
        only if a pod claims another one. After an error, what was read until then is used.
        """
        try:
            for namespace in tuple(namespaces) or (None,):
                pages = self._cluster.pages(REPLICA_SET, namespace, selector)
                async with aclosing(pages):
                    async for page in pages:
                        for live in page:
                            self._keep(live, keys)
        except ClusterError as error:
            log.info("each MCPProxy's ReplicaSets are listed by themselves: %s", error)

    def _keep(self, live: Object, keys: Container[ProxyKey]) -> None:
        key = owner_key(live)
        if key is None or key not in keys:
            return
        kept = self._read_ahead.setdefault(key, {})
        if len(kept) < _READ_AHEAD:
            owner = _owner(live, DEPLOYMENT.name)
            kept[live["metadata"]["uid"]] = owner, _replica_set(live, key.name)

    async def narrow(self, key: ProxyKey, snapshot: Snapshot) -> Snapshot:
        """Return the snapshot with only the pods of its Deployment.

        Pods of another template than the Deployment's are in `Snapshot.superseded`.

        ReplicaSets are listed only if a pod belongs to an unknown one. While they or the Deployment
        can't be read, the pods of known ReplicaSets are kept.
        """
        owners = [(pod, _owner(pod, REPLICA_SET.name)) for pod in snapshot.pods]
        claimed = {owner for _, owner in owners if owner is not None}
        unread = dict(snapshot.unread)
        try:
            known = await self._replica_sets(key, snapshot, claimed)
        except ClusterError as error:
            unread[REPLICA_SET.name] = error
            known = self._known.get(key, _NONE)
        pods = [(pod, owner) for pod, owner in owners if owner in known.by_uid]
        newest = _newest(known, snapshot.deployment)
        superseded = {pod["metadata"]["uid"] for pod, owner in pods if owner not in newest}
        ours = tuple(pod for pod, _ in pods)
        return replace(snapshot, pods=ours, superseded=frozenset(superseded), unread=unread)

    async def mounted_config_maps(
        self, key: ProxyKey, deployment: Object
    ) -> tuple[frozenset[str], bool]:
        """Return the names of the ConfigMaps that the Deployment's ReplicaSets mount, including old
        ones.

        `kubectl rollout undo` can restore the revisions that the Deployment keeps. Kubernetes
        deletes the others once a rollout is complete. The ReplicaSets are listed if the Deployment
        has changed since the last list. The second value is True while more ReplicaSets exist than
        the Deployment keeps: some of them are about to be deleted.
        """
        metadata = deployment["metadata"]
        known = self._known.get(key, _NONE)
        if (known.deployment, known.version) != (metadata["uid"], _version(deployment)):
            known = self._known[key] = await self._list(key, deployment)
        by_age = sorted(known.by_uid.values(), key=lambda each: each.revision, reverse=True)
        mounted = frozenset(
            each.config_map
            for number, each in enumerate(by_age)
            if each.config_map and (number < _kept(deployment) or each.has_pods)
        )
        return mounted, known.version == _UNSETTLED

    async def _replica_sets(
        self, key: ProxyKey, snapshot: Snapshot, claimed: set[str]
    ) -> _ReplicaSets:
        """Return the Deployment's ReplicaSets; list them only if pods claim unknown ones, or if
        none of them has the Deployment's template."""
        known = self._known.get(key, _NONE)
        if DEPLOYMENT.name in snapshot.unread:
            return known
        deployment = snapshot.deployment
        uid = deployment["metadata"]["uid"] if deployment is not None else ""
        if known.deployment != uid or not claimed <= known.by_uid.keys():
            kept = self._read_ahead.pop(key, {})
            ours = {name: item for name, (owner, item) in kept.items() if owner == uid}
            known = _ReplicaSets(deployment=uid, by_uid=ours)
            if deployment is not None and not claimed <= ours.keys():
                known = await self._list(key, deployment)
            self._known[key] = known
        elif claimed and deployment is not None and _is_outdated(known, deployment):
            known = self._known[key] = await self._list(key, deployment)
        return known

    def forget(self, key: ProxyKey) -> None:
        """Forget an MCPProxy that no longer exists."""
        self._known.pop(key, None)
        self._read_ahead.pop(key, None)

    async def _list(self, key: ProxyKey, deployment: Object) -> _ReplicaSets:
        labels = constants.selector_labels(key.name)
        listed = await self._cluster.list(REPLICA_SET, key.namespace, labels)
        uid = deployment["metadata"]["uid"]
        ours = {
            replica_set["metadata"]["uid"]: _replica_set(replica_set, key.name)
            for replica_set in listed
            if _owner(replica_set, DEPLOYMENT.name) == uid
        }
        excess = len(ours) > _kept(deployment)
        return _ReplicaSets(uid, _UNSETTLED if excess else _version(deployment), ours)


def _replica_set(live: Object, proxy: str) -> _ReplicaSet:
    template = (live.get("spec") or {}).get("template") or {}
    revision = str((live["metadata"].get("annotations") or {}).get(_REVISION, ""))
    return _ReplicaSet(
        _digest(template),
        mounted_config_map(template.get("spec") or {}, proxy),
        # Without a number, it was created a moment ago.
        int(revision) if revision.isdecimal() and len(revision) < _DIGITS else sys.maxsize,
        bool((live.get("spec") or {}).get("replicas")),
    )


def _kept(deployment: Object) -> int:
    """Return the number of ReplicaSets that a Deployment keeps."""
    limit: int = deployment["spec"].get("revisionHistoryLimit", 10)
    return limit + 1


def _newest(known: _ReplicaSets, deployment: Object | None) -> frozenset[str | None]:
    """Return the uids of the ReplicaSets that have the Deployment's template; all without a
    Deployment."""
    if deployment is None or not known.by_uid:
        return frozenset(known.by_uid)
    asked = _digest(deployment["spec"]["template"])
    return frozenset(
        uid for uid, replica_set in known.by_uid.items() if replica_set.template == asked
    )


def _is_outdated(known: _ReplicaSets, deployment: Object) -> bool:
    """Return True if a ReplicaSet with the Deployment's template exists and is not known.

    A newer API server may have added defaults to the templates since the ReplicaSets were listed.
    """
    observed = (deployment.get("status") or {}).get("observedGeneration", 0)
    exists = observed >= deployment["metadata"]["generation"]
    return exists and known.version != _version(deployment) and not _newest(known, deployment)


def _digest(template: Object) -> bytes:
    metadata = template.get("metadata") or {}
    labels = {
        name: value
        for name, value in (metadata.get("labels") or {}).items()
        if name != _TEMPLATE_HASH
    }
    kept = {"annotations": metadata.get("annotations") or {}, "labels": labels}
    content = {"metadata": kept, "spec": template.get("spec") or {}}
    return hashlib.sha256(json_text(content, sort_keys=True).encode()).digest()


def _version(live: Object) -> str:
    return str(live["metadata"].get("resourceVersion", ""))


def _owner(live: Object, kind: str) -> str | None:
    """Return the uid of the controller of an object if it is of this kind of apps/v1."""
    controller = controller_of(live)
    if controller is None or controller["kind"] != kind:
        return None
    return str(controller["uid"]) if controller["apiVersion"] == DEPLOYMENT.api_version else None
