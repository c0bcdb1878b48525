"""The main path: reconcile(key) = observe → validate → build → plan → apply → report.

Level-triggered: it looks at the world as it is, never at what happened, and may be called at any
time and any number of times. When nothing is to be done it writes nothing.
"""

import asyncio
import logging
import secrets
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Final

from mcpproxy.api import constants
from mcpproxy.api.kubernetes.objects import Object
from mcpproxy.cluster.client import Cluster
from mcpproxy.cluster.errors import (
    ClusterError,
    Conflict,
    Forbidden,
    NamespaceTerminating,
    NotFound,
    Unavailable,
)
from mcpproxy.cluster.managed_fields import applied_fields, intended_fields, semantically_equal
from mcpproxy.cluster.pods.reports import PodReportWatcher
from mcpproxy.cluster.resources import (
    DEPLOYMENT,
    MCP_PROXY,
    POD,
    REPLICA_SET,
    ProxyKey,
    ResourceKind,
    kind_of,
)
from mcpproxy.desired import BuildOptions, OwnerRef, ServiceTarget, build, sealing_secret
from mcpproxy.reconcile.field_conflicts import FieldConflicts
from mcpproxy.reconcile.object_views import (
    deployment_view,
    mounted_config_map,
    mounts_secret,
    pod_address,
)
from mcpproxy.reconcile.ownership import PodOwnership
from mcpproxy.reconcile.plan import WAIT, Plan, kind_and_name, list_of, make_plan, prunable
from mcpproxy.reconcile.snapshot import Snapshot, take_snapshot
from mcpproxy.reconcile.status_updates.status_write_health import StatusWriteHealth
from mcpproxy.reconcile.status_updates.status_writer import StatusWriter
from mcpproxy.status import reasons
from mcpproxy.status.inputs import ConditionReason
from mcpproxy.status.pod_problems import is_ready
from mcpproxy.status.rejections import explain_rejection

log = logging.getLogger(__name__)

SEAL_AGAIN: Final = 60.0
"""Seconds between attempts to create the sealing Secret of a proxy that is not available."""


LOOK_AGAIN: Final = 60.0
"""Seconds between looks at what no watch tells about."""


SLOW: Final = 3.0
"""Seconds that the writes of a pass may take before a status reports that they do."""
_SLOW: Final = ConditionReason(
    reasons.API_SERVER_UNAVAILABLE, "the API server has not yet answered the write of a child"
)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one pass came to."""

    world: Snapshot
    """The world as it is afterwards."""
    blocked: ConditionReason | None = None
    """Why the children could not be brought about."""
    withheld: tuple[str, ...] = ()
    """The children that would change were the proxy not suspended."""
    requeue_after: float | None = None
    """Seconds until another pass is wanted though nothing changes."""
    error: Exception | None = None
    """What ended the pass early: it is tried again."""


class Reconciler:
    """Brings the cluster to what each MCPProxy asks for, and says how far it is."""

    def __init__(
        self,
        cluster: Cluster,
        fleet: PodReportWatcher[ProxyKey],
        options: BuildOptions,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        instance: str = constants.FIELD_MANAGER,
        known: Callable[[ResourceKind, ProxyKey], bool] = lambda kind, key: True,
        reverted: Callable[[str], None] = lambda kind: None,
        writes: StatusWriteHealth | None = None,
    ) -> None:
        """`instance` names this process in Events.

        `reverted` is given the kind of each child that others keep changing. `writes` keeps which
        statuses can't be written.

        `known` says whether the watches know a child of this kind: kinds that neither they know
        nor the spec asks for are not read.
        """
        self._known = known
        self._cluster = cluster
        self._fleet = fleet
        self._options = options
        self._now = now
        self._writes = StatusWriteHealth(now) if writes is None else writes
        self._reporter = StatusWriter(cluster, fleet, now, instance, self._writes)
        self._ownership = PodOwnership(cluster)
        self._contention = FieldConflicts(now, reverted)
        self._accepted: dict[ProxyKey, dict[str, tuple[Object, Object]]] = {}
        self._sealed: dict[ProxyKey, datetime] = {}
        self._conflicts: set[ProxyKey] = set()
        """MCPProxies whose last pass has met a Conflict."""
        self._ending: dict[ProxyKey, str] = {}
        """Uids of MCPProxies of namespaces that are being deleted, as long as they exist."""

    async def reconcile(self, key: ProxyKey) -> float | None:
        """One pass over one MCPProxy; seconds until it wants another one, None if it doesn't.

        Whatever fails, the status is written first. Raises ClusterError when it could not finish;
        calling again can help.
        """
        world = await self._observe(key)
        if world is None or world.terminating:
            self._fleet.forget(key)
            self._accepted.pop(key, None)
            self._sealed.pop(key, None)
            self._reporter.forget(key)
            self._ownership.forget(key)
            self._contention.forget(key)
            self._conflicts.discard(key)
            await self._ended(key, world)
            return None
        world = await self._ownership.narrow(key, world)
        # Of pods that could not be read nothing new is known: those that are followed stay.
        if world.unread.keys().isdisjoint({POD.name, DEPLOYMENT.name, REPLICA_SET.name}):
            self._fleet.follow(key, filter(None, map(pod_address, world.pods)))
        try:
            outcome = await self._patiently(key, world)
            again = await self._reporter.report(outcome.world, outcome.blocked, outcome.withheld)
            if outcome.error is not None:
                raise outcome.error
            if outcome.blocked is None and not world.suspended:
                again = _first(again, await self._prune(key, outcome.world))
        except NamespaceTerminating:
            # Nothing can be created any more, and all that exists goes.
            self._ending[key] = world.parent["metadata"]["uid"]
            await self._ended(key, replace(world, ending=True))
            return None
        return _first(outcome.requeue_after, again)

    async def _ended(self, key: ProxyKey, world: Snapshot | None) -> None:
        """Say that an MCPProxy is being deleted, for as long as it is there."""
        if world is None:
            self._ending.pop(key, None)
            return
        try:
            await self._reporter.report(world, None)
        except (Conflict, NamespaceTerminating, NotFound):
            # It is gone, or about to be.
            return

    async def _observe(self, key: ProxyKey) -> Snapshot | None:
        try:
            world = await take_snapshot(self._cluster, key, lambda kind: self._known(kind, key))
        except ClusterError as error:
            self._writes.failed(key, error)
            raise
        if world is None:
            return None
        ending = self._ending.get(key) == world.parent["metadata"]["uid"]
        return replace(world, ending=ending)

    async def _patiently(self, key: ProxyKey, world: Snapshot) -> "Outcome":
        """Bring the children about; when that takes long, report what is known until then."""
        work = asyncio.ensure_future(self._bring_about(key, world))
        try:
            done, _ = await asyncio.wait({work}, timeout=SLOW)
            if done:
                return work.result()
            with suppress(ClusterError):
                await self._reporter.report(world, _SLOW)
            outcome = await work
            parent = await self._cluster.get(MCP_PROXY, *key)
            return replace(outcome, world=replace(outcome.world, parent=parent or world.parent))
        finally:
            work.cancel()

    async def _bring_about(self, key: ProxyKey, world: Snapshot) -> "Outcome":
        """Plan and apply, as far as the API server lets it."""
        if world.unread:
            return Outcome(world, _unread(world), error=_first_error(world))
        if world.proxy is None:
            return Outcome(world)
        try:
            planned = self._plan(key, world)
            if world.suspended:
                again = planned.requeue_after
                return Outcome(world, planned.blocked, planned.changes, again)
            world, pause = await self._apply(key, world, planned)
        except NamespaceTerminating:
            raise
        except Conflict as error:
            # What was read is outdated; what conflicts once more is refused.
            if key not in self._conflicts:
                self._conflicts.add(key)
                raise
            return Outcome(world, _refused(error), error=error)
        except ClusterError as error:
            return Outcome(world, _refused(error), error=error)
        except Exception as error:
            return Outcome(world, _broken(error), error=error)
        self._conflicts.discard(key)
        again = planned.requeue_after or _look_again(world)
        again = _first(again, pause, self._contention.until_quiet(key))
        return Outcome(world, planned.blocked or self._contention.finding(key), (), again)

    def _plan(self, key: ProxyKey, world: Snapshot) -> Plan:
        assert world.proxy is not None
        owner = OwnerRef(key.name, world.parent["metadata"]["uid"])
        children = build(world.proxy, self._options, owner, world.services)
        desired = [child for child in children if child["kind"] not in world.lacking]
        return make_plan(desired, world.children, world.parent, partial(self._in_sync, key))

    async def _apply(
        self, key: ProxyKey, world: Snapshot, planned: Plan
    ) -> tuple[Snapshot, float | None]:
        """Bring the children about; the world as it is afterwards.

        Children that others keep changing have to wait: the seconds until the next is due.
        """
        if planned.blocked is not None:
            return world, None
        await self._seal(key, world)
        children = {kind_and_name(found): found for found in world.children}
        for thing in (*planned.replace, *planned.prune):
            await self._delete(thing)
            del children[kind_and_name(thing)]
        pauses = {}
        for step in planned.apply:
            which = kind_and_name(step.manifest)
            pauses[which] = self._contention.pause(key, step.manifest)
            if pauses[which]:
                continue
            if step.hand_over is not None and step.uid is not None:
                await self._cluster.hand_over(step.hand_over, step.uid)
            stored = await self._cluster.apply(step.manifest, step.uid)
            log.info("applied %s %s of %s/%s", *kind_and_name(stored), *key)
            self._contention.applied(key, step.manifest, children.get(which))
            children[kind_and_name(stored)] = stored
            self._note(key, step.manifest, stored)
        adopted = [thing for thing in planned.adopt if not pauses[kind_and_name(thing)]]
        if adopted:
            await self._reporter.announce(world.parent, reasons.ADOPTED, _adopted(adopted))
        due = min(filter(None, pauses.values()), default=None)
        return replace(world, children=tuple(children.values())), due

    def _in_sync(self, key: ProxyKey, manifest: Object, live: Object) -> bool:
        """Whether applying `manifest` would change nothing.

        True as well when this is what the API server made of the very same manifest before:
        webhooks and conversions may change even the fields that are ours.
        """
        ours = applied_fields(live, constants.FIELD_MANAGER)
        if semantically_equal(intended_fields(manifest), ours):
            return True
        return self._accepted.get(key, {}).get(live["metadata"]["uid"]) == (manifest, ours)

    def _note(self, key: ProxyKey, manifest: Object, stored: Object) -> None:
        ours = applied_fields(stored, constants.FIELD_MANAGER)
        if not semantically_equal(intended_fields(manifest), ours):
            self._accepted.setdefault(key, {})[stored["metadata"]["uid"]] = (manifest, ours)

    async def _seal(self, key: ProxyKey, world: Snapshot) -> None:
        """Create the sealing Secret unless pods run, which proves that it exists."""
        assert world.proxy is not None
        owner = OwnerRef(key.name, world.parent["metadata"]["uid"])
        name = constants.sealing_secret_name(owner.name, owner.uid)
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

    async def _prune(self, key: ProxyKey, world: Snapshot) -> float | None:
        """Delete the ConfigMaps of earlier configurations that nothing can need any more.

        Those that a ReplicaSet of ours mounts stay, so that `kubectl rollout undo` works. Returns
        the seconds after which more of them may go though nothing changes.
        """
        deployment = world.deployment
        if deployment is None or not deployment_view(deployment).complete:
            return None
        pod_specs = [deployment["spec"]["template"]["spec"], *(pod["spec"] for pod in world.pods)]
        keep = {mounted_config_map(spec, key.name) for spec in pod_specs}
        left = prunable(world.children, filter(None, keep), world.parent)
        if not left:
            return None
        mounted, more = await self._ownership.mounted_config_maps(key, deployment)
        for thing in left:
            if thing["metadata"]["name"] not in mounted:
                await self._delete(thing)
        return WAIT if more else None

    async def _delete(self, thing: Object) -> None:
        metadata = thing["metadata"]
        place = (metadata["namespace"], metadata["name"], metadata["uid"])
        await self._cluster.delete(kind_of(thing), *place)
        log.info("deleted %s %s in %s", *kind_and_name(thing), metadata["namespace"])


def _adopted(children: Sequence[Object]) -> str:
    left = "left by an earlier MCPProxy of this name"
    return f"took over {list_of(children)}, {left}; its Secret with the sealing key can be deleted"


def _first(*waits: float | None) -> float | None:
    """The shortest of several waits; None where nothing is waited for."""
    return min((seconds for seconds in waits if seconds is not None), default=None)


def _look_again(world: Snapshot) -> float | None:
    """Seconds until what no watch tells about is read again: Services of backends, kinds."""
    if any(one == ServiceTarget() for one in world.services.values()):
        return WAIT
    return LOOK_AGAIN if world.services or world.hidden_services or world.lacking else None


def _refused(error: ClusterError) -> ConditionReason:
    if isinstance(error, Forbidden):
        return ConditionReason(reasons.FORBIDDEN, f"the operator lacks a permission: {error}")
    if isinstance(error, Unavailable):
        return ConditionReason(
            reasons.API_SERVER_UNAVAILABLE, f"an object of this proxy could not be written: {error}"
        )
    why = explain_rejection(str(error))
    return ConditionReason(
        reasons.REFUSED, f"the API server refuses an object of this proxy: {why}"
    )


def _unread(world: Snapshot) -> ConditionReason:
    """What the operator could not read, and so leaves as it is."""
    kinds = ", ".join(sorted(world.unread))
    error = _first_error(world)
    denied = isinstance(error, Forbidden)
    reason = reasons.FORBIDDEN if denied else reasons.API_SERVER_UNAVAILABLE
    why = "the operator lacks a permission" if denied else "the API server gives no answer"
    return ConditionReason(reason, f"{why} to read {kinds}; nothing is changed meanwhile: {error}")


def _first_error(world: Snapshot) -> ClusterError:
    """Return the same one of several errors, whichever came first."""
    return world.unread[min(world.unread)]


def _broken(error: Exception) -> ConditionReason:
    kind = type(error).__name__
    return ConditionReason(
        reasons.OPERATOR_FAILED, f"the operator has failed ({kind}); see its log"
    )


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
