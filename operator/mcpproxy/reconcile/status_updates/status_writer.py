"""Saying how far an MCPProxy is: its status, written when it changed, and Events."""

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from pydantic import ValidationError

from mcpproxy.api import constants
from mcpproxy.api.kubernetes.objects import Object
from mcpproxy.api.v1alpha1 import MCPProxySpec
from mcpproxy.api.v1alpha1.status import NOT_SEEN, MCPProxyStatus, PodReport
from mcpproxy.cluster.client import Cluster
from mcpproxy.cluster.errors import (
    ClusterError,
    FieldNotDeclared,
    NamespaceTerminating,
    NotFound,
    ObjectTooLarge,
)
from mcpproxy.cluster.events import EventRecorder, EventType
from mcpproxy.cluster.managed_fields import applied_fields, semantically_equal
from mcpproxy.cluster.pods.reports import PodReportWatcher
from mcpproxy.cluster.resources import AUTOSCALER, ProxyKey
from mcpproxy.desired import config_map
from mcpproxy.reconcile.object_views import (
    autoscaler_view,
    deployment_view,
    mounted_config_map,
    pod_address,
)
from mcpproxy.reconcile.snapshot import Snapshot, last_applied_proxy
from mcpproxy.reconcile.status_updates.backend_services import explain_services
from mcpproxy.reconcile.status_updates.debounce import Debouncer
from mcpproxy.reconcile.status_updates.rollout_progress import RolloutProgress
from mcpproxy.reconcile.status_updates.status_write_health import StatusWriteHealth
from mcpproxy.reconcile.status_updates.undeclared_fields import UndeclaredFields
from mcpproxy.status.compute import build_status
from mcpproxy.status.disagreement import find_disagreements, reported_disagreements
from mcpproxy.status.events import find_transitions
from mcpproxy.status.inputs import ConditionReason, PodView, StatusInput
from mcpproxy.status.pod_problems import is_ready, is_starting, next_deadline, pod_problem
from mcpproxy.status.size_limit import OBJECT, reduce_to_fit, room_beside, stored_size

log = logging.getLogger(__name__)

SERVICES_AGAIN: Final = 60.0
"""Seconds until a Service with which something is wrong is read again."""
REDUCTIONS: Final = 4
"""Attempts to write a status without what the API server refuses of it."""


class StatusWriter:
    """Writes statuses and Events."""

    def __init__(
        self,
        cluster: Cluster,
        fleet: PodReportWatcher[ProxyKey],
        now: Callable[[], datetime],
        instance: str,
        writes: StatusWriteHealth,
    ) -> None:
        self._cluster = cluster
        self._fleet = fleet
        self._now = now
        self._events = EventRecorder(instance)
        self._patience = Debouncer(now)
        self._undeclared = UndeclaredFields()
        self._writes = writes
        self._progress = RolloutProgress(now)
        self._room: dict[ProxyKey, int] = {}

    def forget(self, key: ProxyKey) -> None:
        """The MCPProxy is gone."""
        self._patience.forget(key)
        self._progress.forget(key)
        self._room.pop(key, None)
        self._writes.unchanged(key)

    async def report(
        self,
        world: Snapshot,
        blocked: ConditionReason | None,
        withheld: tuple[str, ...] = (),
    ) -> float | None:
        """Write the status if it changed, then an Event for each transition.

        Returns the seconds after which there is more to tell though nothing changes.

        `withheld` names the children that would change were the proxy not suspended.

        While a serving pod was not heard yet, nothing is written about a spec that was reported
        on before: the pod is about to say whether anything changed at all.
        """
        parent = world.parent
        before = _status_of(parent)
        pods = tuple(self._pod(pod, world) for pod in world.pods)
        waiting = any(
            view.ready and view.current and self._is_asked(pod)
            for view, pod in zip(pods, world.pods, strict=True)
        )
        if waiting and before is not None and not world.terminating:
            return None
        observed = replace(self._observed(world, blocked, pods), withheld=withheld)
        observed = await self._with_services(observed, world)
        key = ProxyKey(observed.namespace, observed.name)
        young, until_told = self._patience.young(
            key, find_disagreements(observed), reported_disagreements(before)
        )
        # No watch tells of the Services of others.
        services = [SERVICES_AGAIN] if observed.service_notes else []
        waits = [until_told, *services, *(next_deadline(pod, self._now()) for pod in world.pods)]
        again = min((wait for wait in waits if wait is not None), default=None)
        seen = replace(observed, young=young)
        after = self._status(seen, before, parent)
        ours = applied_fields(parent, constants.FIELD_MANAGER, "status").get("status")
        if semantically_equal(self._status_manifest(parent, after)["status"], ours):
            self._writes.unchanged(key)
            return again
        held = self._progress.held(key, before, after)
        if held is not None:
            return held if again is None else min(again, held)
        try:
            with self._writes.writing(key):
                after = await self._write(key, parent, lambda: self._status(seen, before, parent))
        except (NamespaceTerminating, NotFound):
            raise
        except ClusterError as error:
            self._writes.failed(key, error)
            raise
        self._writes.written(key)
        if not world.terminating:
            await self._tell(parent, before, after)
        return again

    async def _with_services(self, observed: StatusInput, world: Snapshot) -> StatusInput:
        """What is known of the Services of backends that are not reached, beside the rest."""
        if world.proxy is None or world.terminating:
            return observed
        notes = await explain_services(self._cluster, world.proxy, observed.reports)
        return replace(observed, service_notes=notes)

    async def _write(
        self, key: ProxyKey, parent: Object, build: Callable[[], MCPProxyStatus]
    ) -> MCPProxyStatus:
        """Write a status, without the fields that the API server refuses."""
        for _ in range(REDUCTIONS):
            status = build()
            try:
                await self._apply(parent, status)
            except FieldNotDeclared as error:
                known = str(self._undeclared)
                self._undeclared.learn(error.fields, self._now())
                if str(self._undeclared) == known:
                    raise
                log.warning("the CRD is older than this operator; left out: %s", self._undeclared)
            except ObjectTooLarge:
                self._room[key] = stored_size(status.to_manifest()) // 2
                log.warning("%s/%s: the status is too large and is reduced", *key)
            else:
                return status
        status = build()
        await self._apply(parent, status)
        return status

    def _status(
        self, observed: StatusInput, before: MCPProxyStatus | None, parent: Object
    ) -> MCPProxyStatus:
        seen = replace(observed, undeclared=self._undeclared.fields(self._now()))
        room = min(room_beside(parent), self._room.get(_key(parent), OBJECT))
        return reduce_to_fit(build_status(seen, before, self._seconds()), room)

    async def _apply(self, parent: Object, status: MCPProxyStatus) -> None:
        manifest = self._status_manifest(parent, status)
        await self._cluster.apply_status(manifest, parent["metadata"]["uid"])

    def _status_manifest(self, parent: Object, status: MCPProxyStatus) -> Object:
        metadata = parent["metadata"]
        return {
            "apiVersion": parent["apiVersion"],
            "kind": parent["kind"],
            "metadata": {"name": metadata["name"], "namespace": metadata["namespace"]},
            "status": self._undeclared.left_out(status.to_manifest(), self._now()),
        }

    def _observed(
        self, world: Snapshot, blocked: ConditionReason | None, pods: tuple[PodView, ...]
    ) -> StatusInput:
        metadata, deployment = world.parent["metadata"], world.deployment
        return StatusInput(
            name=metadata["name"],
            namespace=metadata["namespace"],
            generation=metadata["generation"],
            spec=_served(world),
            suspended=world.suspended,
            lacking=world.lacking,
            hidden_services=world.hidden_services,
            rejected=world.rejected,
            terminating=world.terminating,
            finalizers=tuple(sorted(metadata.get("finalizers") or [])),
            unread=frozenset(world.unread),
            blocked=blocked,
            deployment=deployment_view(deployment) if deployment else None,
            autoscaler=autoscaler_view(world.child(AUTOSCALER) or {}),
            pods=pods,
        )

    def _pod(self, pod: Object, world: Snapshot) -> PodView:
        metadata = pod["metadata"]
        mounted = mounted_config_map(pod["spec"], world.parent["metadata"]["name"])
        view = self._fleet.view(metadata["uid"])
        report = view.report
        return PodView(
            name=metadata["name"],
            ready=is_ready(pod),
            current=mounted is not None and mounted == _configuration(world),
            superseded=metadata["uid"] in world.superseded,
            problem=pod_problem(pod, self._now()),
            starting=is_starting(pod, self._now()),
            report=report if report and mounted and _runs(report, mounted) else None,
            unread=view.error,
        )

    def _is_asked(self, pod: Object) -> bool:
        return pod_address(pod) is not None and not self._fleet.view(pod["metadata"]["uid"]).settled

    async def _tell(
        self, parent: Object, before: MCPProxyStatus | None, after: MCPProxyStatus
    ) -> None:
        for change in find_transitions(before, after):
            await self._record(parent, change.type, change.reason, change.message)

    async def announce(self, parent: Object, reason: str, message: str) -> None:
        """Create an Event of something that no condition says."""
        await self._record(parent, "Normal", reason, message)

    async def _record(self, parent: Object, type_: EventType, reason: str, message: str) -> None:
        try:
            await self._cluster.apply(
                self._events.event(parent, type_, reason, message, self._now())
            )
        except NamespaceTerminating:
            raise
        except ClusterError as error:
            log.warning("an Event was lost: %s: %s", reason, error)

    def _seconds(self) -> str:
        return self._now().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _key(parent: Object) -> ProxyKey:
    return ProxyKey(parent["metadata"]["namespace"], parent["metadata"]["name"])


def _served(world: Snapshot) -> MCPProxySpec | None:
    """The spec that the pods should serve; None when there never was one."""
    if world.proxy is not None and not world.suspended:
        return world.proxy.spec
    running = last_applied_proxy(world)
    if running is None or world.proxy is None:
        return running.spec if running else None
    kept = {"backends": running.spec.backends, "session": running.spec.session}
    return world.proxy.spec.model_copy(update=kept)


def _configuration(world: Snapshot) -> str | None:
    """Name of the ConfigMap that pods should mount."""
    if world.proxy is not None and not world.suspended:
        return config_map.name(world.proxy)
    deployment = world.deployment
    if deployment is None:
        return None
    return mounted_config_map(
        deployment["spec"]["template"]["spec"], world.parent["metadata"]["name"]
    )


def _runs(report: PodReport, configuration: str) -> bool:
    """Whether a report speaks of this configuration: the ConfigMap's name ends in its hash."""
    return report.config_hash.startswith(configuration.rpartition("-")[2])


def _status_of(parent: Object) -> MCPProxyStatus | None:
    try:
        found = MCPProxyStatus.model_validate(parent["status"], extra="ignore")
    except (KeyError, ValidationError):
        return None
    return None if found.observed_generation == NOT_SEEN else found
