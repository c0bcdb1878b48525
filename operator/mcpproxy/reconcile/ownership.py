"""Telling the pods of our own Deployments from others with the same labels."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Final

from mcpproxy.api import constants
from mcpproxy.api.kubernetes.objects import Object
from mcpproxy.api.yaml_safe_json import json_text
from mcpproxy.cluster.client import Cluster
from mcpproxy.cluster.errors import ClusterError
from mcpproxy.cluster.resources import DEPLOYMENT, REPLICA_SET, ProxyKey
from mcpproxy.reconcile.object_views import mounted_config_map
from mcpproxy.reconcile.plan import controller_of
from mcpproxy.reconcile.snapshot import Snapshot

_TEMPLATE_HASH: Final = "pod-template-hash"
"""The label by which Kubernetes tells the pods of one template from those of another."""


@dataclass(frozen=True, slots=True)
class _ReplicaSet:
    """A ReplicaSet of our Deployment, as far as it matters here."""

    template: bytes
    """Digest of its pod template, without the label that Kubernetes adds."""
    config_map: str | None
    """Name of the ConfigMap that its pods mount as their configuration."""


@dataclass(frozen=True, slots=True)
class _ReplicaSets:
    """The ReplicaSets of one Deployment, as they were listed last."""

    deployment: str = ""
    """The uid of the Deployment."""
    version: str = ""
    """The resourceVersion that the Deployment had then."""
    by_uid: Mapping[str, _ReplicaSet] = field(default_factory=lambda: MappingProxyType({}))


_NONE: Final = _ReplicaSets()
_UNSETTLED: Final = "-"
"""The version where some ReplicaSets are about to go, which does not change the Deployment."""


class PodOwnership:
    """Finds the pods whose ReplicaSet is controlled by one Deployment.

    Anyone who may create pods may write any ownerReferences, so a pod can claim one of our
    ReplicaSets. Such a pod counts as that ReplicaSet's for Kubernetes too, which deletes what is
    over the number of replicas, and it is in the namespace of the MCPProxy: its author can
    mislead the status of proxies there alone. Reports of any pod are limited (`limits.pods`).
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        # Of the newest list alone.
        self._known: dict[ProxyKey, _ReplicaSets] = {}

    async def narrow(self, key: ProxyKey, world: Snapshot) -> Snapshot:
        """The world with those of its pods alone that belong to its Deployment.

        Pods of another template than the Deployment's are noted in `World.superseded`.

        ReplicaSets are listed only when a pod belongs to one that was not seen before. While they
        or the Deployment can't be read, the pods of those that were seen before are kept.
        """
        owners = [(pod, _owner(pod, REPLICA_SET.name)) for pod in world.pods]
        claimed = {owner for _, owner in owners if owner is not None}
        unread = dict(world.unread)
        try:
            known = await self._replica_sets(key, world, claimed)
        except ClusterError as error:
            unread[REPLICA_SET.name] = error
            known = self._known.get(key, _NONE)
        pods = [(pod, owner) for pod, owner in owners if owner in known.by_uid]
        newest = _newest(known, world.deployment)
        superseded = {pod["metadata"]["uid"] for pod, owner in pods if owner not in newest}
        ours = tuple(pod for pod, _ in pods)
        return replace(world, pods=ours, superseded=frozenset(superseded), unread=unread)

    async def mounted_config_maps(
        self, key: ProxyKey, deployment: Object
    ) -> tuple[frozenset[str], bool]:
        """Names of the ConfigMaps that the Deployment's ReplicaSets mount, old ones included.

        `kubectl rollout undo` can bring back any of them. The ReplicaSets are listed when the
        Deployment has changed since they were listed last. True beside the names while there are
        more ReplicaSets than the Deployment keeps: some of them are about to go.
        """
        metadata = deployment["metadata"]
        known = self._known.get(key, _NONE)
        if (known.deployment, known.version) != (metadata["uid"], _version(deployment)):
            known = self._known[key] = await self._list(key, deployment)
        mounted = frozenset(one.config_map for one in known.by_uid.values() if one.config_map)
        return mounted, known.version == _UNSETTLED

    async def _replica_sets(
        self, key: ProxyKey, world: Snapshot, claimed: set[str]
    ) -> _ReplicaSets:
        """The Deployment's ReplicaSets, as far as pods claim them."""
        known = self._known.get(key, _NONE)
        if DEPLOYMENT.name in world.unread:
            return known
        deployment = world.deployment
        uid = deployment["metadata"]["uid"] if deployment is not None else ""
        if known.deployment != uid or not claimed <= known.by_uid.keys():
            known = replace(_NONE, deployment=uid)
            if deployment is not None and claimed:
                known = await self._list(key, deployment)
            self._known[key] = known
        return known

    def forget(self, key: ProxyKey) -> None:
        """The MCPProxy is gone."""
        self._known.pop(key, None)

    async def _list(self, key: ProxyKey, deployment: Object) -> _ReplicaSets:
        labels = constants.selector_labels(key.name)
        listed = await self._cluster.list(REPLICA_SET, key.namespace, labels)
        uid = deployment["metadata"]["uid"]
        ours = {
            found["metadata"]["uid"]: _replica_set(found, key.name)
            for found in listed
            if _owner(found, DEPLOYMENT.name) == uid
        }
        excess = len(ours) > deployment["spec"].get("revisionHistoryLimit", 10) + 1
        return _ReplicaSets(uid, _UNSETTLED if excess else _version(deployment), ours)


def _replica_set(live: Object, proxy: str) -> _ReplicaSet:
    template = (live.get("spec") or {}).get("template") or {}
    return _ReplicaSet(_digest(template), mounted_config_map(template.get("spec") or {}, proxy))


def _newest(known: _ReplicaSets, deployment: Object | None) -> frozenset[str | None]:
    """The uids of the ReplicaSets whose template is the Deployment's; all without a Deployment."""
    if deployment is None or not known.by_uid:
        return frozenset(known.by_uid)
    asked = _digest(deployment["spec"]["template"])
    return frozenset(uid for uid, found in known.by_uid.items() if found.template == asked)


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


def _owner(thing: Object, kind: str) -> str | None:
    """The uid of the controller of a live object, if it is of this kind of apps/v1."""
    controller = controller_of(thing)
    if controller is None or controller["kind"] != kind:
        return None
    return str(controller["uid"]) if controller["apiVersion"] == DEPLOYMENT.api_version else None
