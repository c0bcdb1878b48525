"""Telling the pods of our own Deployments from others with the same labels."""

from dataclasses import replace
from typing import Final

from mcpproxy.api import names
from mcpproxy.cluster.client import Cluster
from mcpproxy.cluster.errors import ClusterError
from mcpproxy.cluster.kinds import DEPLOYMENT, REPLICA_SET, Object, ProxyKey
from mcpproxy.reconcile.observe import World
from mcpproxy.reconcile.plan import controller_of

_NONE: Final[tuple[str, frozenset[str]]] = ("", frozenset())


class PodOwnership:
    """Finds the pods whose ReplicaSet is controlled by one Deployment.

    Anyone who may create pods may write any ownerReferences, so a pod can claim one of our
    ReplicaSets. Such a pod counts as that ReplicaSet's for Kubernetes too, which deletes what is
    over the number of replicas, and it is in the namespace of the MCPProxy: its author can
    mislead the status of proxies there alone. Reports of any pod are limited (`limits.pods`).
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        # The uids of ReplicaSets by the uid of their Deployment: of the newest list alone.
        self._known: dict[ProxyKey, tuple[str, frozenset[str]]] = {}

    async def narrow(self, key: ProxyKey, world: World) -> World:
        """The world with those of its pods alone that belong to its Deployment.

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
            known = self._known.get(key, _NONE)[1]
        pods = tuple(pod for pod, owner in owners if owner in known)
        return replace(world, pods=pods, unread=unread)

    async def _replica_sets(self, key: ProxyKey, world: World, claimed: set[str]) -> frozenset[str]:
        """The uids of the Deployment's ReplicaSets, as far as pods claim them."""
        known_uid, known = self._known.get(key, _NONE)
        if DEPLOYMENT.name in world.unread:
            return known
        uid = world.deployment["metadata"]["uid"] if world.deployment is not None else ""
        if known_uid != uid or not claimed <= known:
            known = await self._list(key, uid) if claimed and uid else _NONE[1]
            self._known[key] = (uid, known)
        return known

    def forget(self, key: ProxyKey) -> None:
        """The MCPProxy is gone."""
        self._known.pop(key, None)

    async def _list(self, key: ProxyKey, deployment: str) -> frozenset[str]:
        labels = names.selector_labels(key.name)
        listed = await self._cluster.list(REPLICA_SET, key.namespace, labels)
        return frozenset(
            found["metadata"]["uid"]
            for found in listed
            if _owner(found, DEPLOYMENT.name) == deployment
        )


def _owner(thing: Object, kind: str) -> str | None:
    """The uid of the controller of a live object, if it is of this kind of apps/v1."""
    controller = controller_of(thing)
    if controller is None or controller["kind"] != kind:
        return None
    return str(controller["uid"]) if controller["apiVersion"] == DEPLOYMENT.api_version else None
