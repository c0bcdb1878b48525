"""The main path: reconcile(key) = observe → validate → build → plan → apply → report.

Level-triggered: it looks at the world as it is, never at what happened, and may be called at any
time and any number of times. When nothing is to be done it writes nothing.
"""

import logging
import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Final

from mcpproxy.api import names
from mcpproxy.cluster.client import Cluster
from mcpproxy.cluster.errors import ClusterError, Forbidden, Invalid
from mcpproxy.cluster.fields import owned, same, wanted
from mcpproxy.cluster.kinds import Object, ProxyKey, kind_of
from mcpproxy.desired import Behind, Options, Owner, build, sealing_secret
from mcpproxy.fleet.fleet import Fleet
from mcpproxy.reconcile.observe import World, observe
from mcpproxy.reconcile.ownership import PodOwnership
from mcpproxy.reconcile.plan import WAIT, Plan, identity, plan, prunable
from mcpproxy.reconcile.report import Reporter
from mcpproxy.reconcile.views import (
    address_of,
    config_map_of,
    deployment_view,
    is_ready,
    mounts_secret,
)
from mcpproxy.status import reasons
from mcpproxy.status.observed import Finding

log = logging.getLogger(__name__)

SEAL_AGAIN: Final = 60.0
"""Seconds between attempts to create the sealing Secret of a proxy that is not available."""


LOOK_AGAIN: Final = 60.0
"""Seconds between looks at what no watch tells about."""


class Reconciler:
    """Brings the cluster to what each MCPProxy asks for, and says how far it is."""

    def __init__(
        self,
        cluster: Cluster,
        fleet: Fleet[ProxyKey],
        options: Options,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        instance: str = names.FIELD_MANAGER,
    ) -> None:
        """`instance` names this process in Events."""
        self._cluster = cluster
        self._fleet = fleet
        self._options = options
        self._now = now
        self._reporter = Reporter(cluster, fleet, now, instance)
        self._ownership = PodOwnership(cluster)
        self._accepted: dict[ProxyKey, dict[str, tuple[Object, Object]]] = {}
        self._sealed: dict[ProxyKey, datetime] = {}

    async def reconcile(self, key: ProxyKey) -> float | None:
        """One pass over one MCPProxy; seconds until it wants another one, None if it doesn't.

        Raises ClusterError when it could not finish; calling again can help.
        """
        world = await observe(self._cluster, key)
        if world is None:
            self._fleet.forget(key)
            self._reporter.forget(key)
            self._ownership.forget(key)
            self._sealed.pop(key, None)
            self._accepted.pop(key, None)
            return None
        pods = await self._ownership.owned(key, world.deployment, world.pods)
        world = replace(world, pods=pods)
        self._fleet.follow(key, filter(None, map(address_of, world.pods)))
        if world.proxy is None:
            return await self._reporter.report(world, None)
        owner = Owner(key.name, world.parent["metadata"]["uid"])
        children = build(world.proxy, self._options, owner, world.services)
        desired = [child for child in children if child["kind"] not in world.lacking]
        planned = plan(desired, world.children, world.parent, partial(self._in_sync, key))
        if world.proxy.spec.suspend:
            again = await self._reporter.report(world, planned.blocked, planned.changes)
            return _first(planned.requeue_after, again)
        try:
            world = await self._apply(key, world, planned)
        except (Invalid, Forbidden) as error:
            await self._reporter.report(world, _refused(error))
            if isinstance(error, Invalid):
                return None
            raise
        again = await self._reporter.report(world, planned.blocked)
        if planned.blocked is None:
            await self._prune(world)
        return _first(planned.requeue_after or _look_again(world), again)

    async def _apply(self, key: ProxyKey, world: World, planned: Plan) -> World:
        """Bring the children about; the world as it is afterwards."""
        if planned.blocked is not None:
            return world
        await self._seal(key, world)
        children = {identity(found): found for found in world.children}
        for thing in (*planned.replace, *planned.prune):
            await self._delete(thing)
            del children[identity(thing)]
        for step in planned.apply:
            if step.hand_over is not None and step.uid is not None:
                await self._cluster.hand_over(step.hand_over, step.uid)
            stored = await self._cluster.apply(step.manifest, step.uid)
            log.info("applied %s %s of %s/%s", *identity(stored), *key)
            children[identity(stored)] = stored
            self._note(key, step.manifest, stored)
        return replace(world, children=tuple(children.values()))

    def _in_sync(self, key: ProxyKey, manifest: Object, live: Object) -> bool:
        """Whether applying `manifest` would change nothing.

        True as well when this is what the API server made of the very same manifest before:
        webhooks and conversions may change even the fields that are ours.
        """
        ours = owned(live, names.FIELD_MANAGER)
        if same(wanted(manifest), ours):
            return True
        return self._accepted.get(key, {}).get(live["metadata"]["uid"]) == (manifest, ours)

    def _note(self, key: ProxyKey, manifest: Object, stored: Object) -> None:
        ours = owned(stored, names.FIELD_MANAGER)
        if not same(wanted(manifest), ours):
            self._accepted.setdefault(key, {})[stored["metadata"]["uid"]] = (manifest, ours)

    async def _seal(self, key: ProxyKey, world: World) -> None:
        """Create the sealing Secret unless pods run, which proves that it exists."""
        assert world.proxy is not None
        owner = Owner(key.name, world.parent["metadata"]["uid"])
        name = names.sealing_secret_name(owner.name, owner.uid)
        deployment, now = world.deployment, self._now()
        if deployment is not None and _mounted(deployment, world.pods, name, now):
            return
        last = self._sealed.get(key)
        recent = last is not None and (now - last).total_seconds() < SEAL_AGAIN
        if deployment is not None and recent:
            return
        random = secrets.token_bytes(sealing_secret.KEY_BYTES)
        if await self._cluster.create(sealing_secret.build(world.proxy, owner, random)):
            log.info("created Secret %s of %s/%s", name, *key)
        self._sealed[key] = now

    async def _prune(self, world: World) -> None:
        """Delete the ConfigMaps of earlier configurations once no pod needs them any more."""
        deployment = world.deployment
        if deployment is None or not deployment_view(deployment).complete:
            return
        name = world.parent["metadata"]["name"]
        pod_specs = [deployment["spec"]["template"]["spec"], *(pod["spec"] for pod in world.pods)]
        keep = {config_map_of(spec, name) for spec in pod_specs}
        for thing in prunable(world.children, filter(None, keep), world.parent):
            await self._delete(thing)

    async def _delete(self, thing: Object) -> None:
        metadata = thing["metadata"]
        place = (metadata["namespace"], metadata["name"], metadata["uid"])
        await self._cluster.delete(kind_of(thing), *place)
        log.info("deleted %s %s in %s", *identity(thing), metadata["namespace"])


def _first(*waits: float | None) -> float | None:
    """The shortest of several waits; None where nothing is waited for."""
    return min((seconds for seconds in waits if seconds is not None), default=None)


def _look_again(world: World) -> float | None:
    """Seconds until what no watch tells about is read again: Services of backends, kinds."""
    if any(one == Behind() for one in world.services.values()):
        return WAIT
    return LOOK_AGAIN if world.services or world.lacking else None


def _refused(error: ClusterError) -> Finding:
    reason = reasons.FORBIDDEN if isinstance(error, Forbidden) else reasons.REFUSED
    return Finding(reason, f"the API server refuses a child: {error}")


def _mounted(deployment: Object, pods: Sequence[Object], secret: str, now: datetime) -> bool:
    """Whether the pods show that a Secret exists: they are to mount it, some run, and no other
    waits for long."""
    if not mounts_secret(deployment["spec"]["template"]["spec"], secret):
        return False
    view = deployment_view(deployment)
    if view.complete:
        return True
    waits = [
        pod for pod in pods if not is_ready(pod) and "deletionTimestamp" not in pod["metadata"]
    ]
    since = [datetime.fromisoformat(pod["metadata"]["creationTimestamp"]) for pod in waits]
    return view.available > 0 and all((now - at).total_seconds() < SEAL_AGAIN for at in since)
