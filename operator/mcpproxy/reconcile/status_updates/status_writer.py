"""Writer of the status, if it changed, and of an Event for each transition."""

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Final

from pydantic import ValidationError

from mcpproxy.api import constants
from mcpproxy.api.kubernetes.objects import Object
from mcpproxy.api.v1alpha1.status import NOT_SEEN, MCPProxyStatus
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
from mcpproxy.cluster.resources import ProxyKey
from mcpproxy.reconcile.requeue import earliest
from mcpproxy.reconcile.snapshot import Snapshot
from mcpproxy.reconcile.status_updates.backend_services import explain_services
from mcpproxy.reconcile.status_updates.debounce import Debouncer
from mcpproxy.reconcile.status_updates.observation import Observer
from mcpproxy.reconcile.status_updates.rollout_progress import RolloutProgress
from mcpproxy.reconcile.status_updates.status_write_health import StatusWriteHealth
from mcpproxy.reconcile.status_updates.undeclared_fields import TRY_AGAIN, UndeclaredFields
from mcpproxy.status.compute import build_status
from mcpproxy.status.disagreement import find_disagreements, reported_disagreements
from mcpproxy.status.events import find_transitions
from mcpproxy.status.inputs import ConditionReason, StatusInput
from mcpproxy.status.pod_problems import next_deadline
from mcpproxy.status.size_limit import OBJECT, reduce_to_fit, room_beside, stored_size

log = logging.getLogger(__name__)

SERVICES_AGAIN: Final = 60.0
"""Seconds until a Service with an error is read again."""
REDUCTIONS: Final = 4
"""Attempts to write a status, each without the fields that the API server rejected before."""


class StatusWriter:
    """Writer of statuses and Events."""

    def __init__(
        self,
        cluster: Cluster,
        reports: PodReportWatcher[ProxyKey],
        now: Callable[[], datetime],
        steady: Callable[[], datetime],
        instance: str,
        writes: StatusWriteHealth,
    ) -> None:
        """`steady` as in `Reconciler`; `instance` names this process in Events."""
        self._cluster = cluster
        self._now = now
        self._steady = steady
        self._observer = Observer(reports, now)
        self._events = EventRecorder(instance)
        self._debouncer = Debouncer(steady)
        self._undeclared = UndeclaredFields()
        self._writes = writes
        self._progress = RolloutProgress(steady)
        self._room: dict[ProxyKey, tuple[int, datetime]] = {}
        """Bytes of statuses that the API server admits, and when it rejected a larger one."""

    def forget(self, key: ProxyKey) -> None:
        """Forget an MCPProxy that no longer exists."""
        self._debouncer.forget(key)
        self._progress.forget(key)
        self._room.pop(key, None)
        self._writes.unchanged(key)

    async def write(
        self,
        snapshot: Snapshot,
        blocked: ConditionReason | None,
        pending_changes: tuple[str, ...] = (),
    ) -> float | None:
        """Write the status if it changed, then an Event for each transition.

        Return the seconds after which the status changes although nothing else does. Nothing is
        written while a pod that serves is about to report, unless no status exists or the MCPProxy
        is being deleted.
        """
        parent = snapshot.parent
        key, before = _key(parent), stored_status(parent)
        observed = self._observer.observe(snapshot, blocked, pending_changes)
        can_wait = before is not None and not snapshot.terminating
        if can_wait and self._observer.awaits_report(snapshot, observed):
            return None
        observed = await self._with_service_notes(observed, snapshot)
        observed, debounced_for = self._debounced(key, observed, before, parent)
        # No watch covers the Services of backends.
        services_again = SERVICES_AGAIN if observed.service_notes else None
        deadlines = (next_deadline(pod, self._now()) for pod in snapshot.pods)
        again = earliest(debounced_for, services_again, *deadlines)
        after = self._build(observed, before, parent)
        if self._is_stored(after, parent):
            self._writes.unchanged(key)
            return again
        held = self._progress.held(key, before, after)
        if held is not None:
            return earliest(again, held)
        build = partial(self._build, observed, before, parent)
        after = await self._write_reduced(key, parent, build)
        if not snapshot.terminating:
            await self._emit_events(parent, before, after)
        return again

    async def announce(self, parent: Object, reason: str, message: str) -> None:
        """Write an Event about a change that no condition shows."""
        await self._emit(parent, "Normal", reason, message)

    async def _with_service_notes(self, observed: StatusInput, snapshot: Snapshot) -> StatusInput:
        """Add the errors of the Services of unreachable backends."""
        if snapshot.proxy is None or snapshot.terminating:
            return observed
        notes = await explain_services(self._cluster, snapshot.proxy, observed.reports)
        return replace(observed, service_notes=notes)

    def _debounced(
        self, key: ProxyKey, observed: StatusInput, before: MCPProxyStatus | None, parent: Object
    ) -> tuple[StatusInput, float | None]:
        """Add the disagreements that are too recent, and return the seconds until one is not."""
        disagreements = find_disagreements(observed)
        if disagreements and not self._debouncer.is_tracking(key):
            # An operator that takes over changes no status that is still right.
            is_right = self._is_stored(self._build(observed, before, parent), parent)
            reported = disagreements if is_right else reported_disagreements(before)
            self._debouncer.resume(key, reported)
        debounced, seconds = self._debouncer.debounce(key, disagreements)
        return replace(observed, debounced=debounced), seconds

    def _is_stored(self, status: MCPProxyStatus, parent: Object) -> bool:
        stored = applied_fields(parent, constants.FIELD_MANAGER, "status").get("status")
        return semantically_equal(self._manifest(parent, status)["status"], stored)

    def _build(
        self, observed: StatusInput, before: MCPProxyStatus | None, parent: Object
    ) -> MCPProxyStatus:
        complete = replace(observed, undeclared=self._undeclared.fields(self._steady()))
        room = min(room_beside(parent), self._admitted(_key(parent)))
        return reduce_to_fit(build_status(complete, before, self._timestamp()), room)

    def _admitted(self, key: ProxyKey) -> int:
        """Return the bytes of a status that the API server admits, as far as is known."""
        room, since = self._room.get(key, (OBJECT, self._steady()))
        if (self._steady() - since).total_seconds() < TRY_AGAIN:
            return room
        # What took the room may have been removed from the object since.
        del self._room[key]
        return OBJECT

    async def _write_reduced(
        self, key: ProxyKey, parent: Object, build: Callable[[], MCPProxyStatus]
    ) -> MCPProxyStatus:
        """Write a status without the fields that the API server rejects, and return it."""
        try:
            with self._writes.writing(key):
                status = await self._try_reductions(key, parent, build)
        except (NamespaceTerminating, NotFound):
            raise
        except ClusterError as error:
            self._writes.failed(key, error)
            raise
        self._writes.written(key)
        return status

    async def _try_reductions(
        self, key: ProxyKey, parent: Object, build: Callable[[], MCPProxyStatus]
    ) -> MCPProxyStatus:
        for _ in range(REDUCTIONS):
            status = build()
            try:
                await self._apply(parent, status)
            except FieldNotDeclared as error:
                known = str(self._undeclared)
                self._undeclared.learn(error.fields, self._steady())
                if str(self._undeclared) == known:
                    raise
                log.warning(
                    "the CRD is older than this operator; writing the status without %s",
                    self._undeclared,
                )
            except ObjectTooLarge:
                self._room[key] = stored_size(status.to_manifest()) // 2, self._steady()
                log.warning("%s/%s: the status is too large and was reduced", *key)
            else:
                return status
        status = build()
        await self._apply(parent, status)
        return status

    async def _apply(self, parent: Object, status: MCPProxyStatus) -> None:
        manifest = self._manifest(parent, status)
        await self._cluster.apply_status(manifest, parent["metadata"]["uid"])

    def _manifest(self, parent: Object, status: MCPProxyStatus) -> Object:
        metadata = parent["metadata"]
        return {
            "apiVersion": parent["apiVersion"],
            "kind": parent["kind"],
            "metadata": {"name": metadata["name"], "namespace": metadata["namespace"]},
            "status": self._undeclared.left_out(status.to_manifest(), self._steady()),
        }

    async def _emit_events(
        self, parent: Object, before: MCPProxyStatus | None, after: MCPProxyStatus
    ) -> None:
        for change in find_transitions(before, after):
            await self._emit(parent, change.type, change.reason, change.message, change.backend)

    async def _emit(
        self, parent: Object, type_: EventType, reason: str, message: str, backend: str = ""
    ) -> None:
        try:
            await self._cluster.apply(
                self._events.event(parent, type_, reason, message, self._now(), backend)
            )
        except NamespaceTerminating:
            raise
        except ClusterError as error:
            log.warning("cannot write an Event: %s: %s", reason, error)

    def _timestamp(self) -> str:
        return self._now().astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _key(parent: Object) -> ProxyKey:
    return ProxyKey(parent["metadata"]["namespace"], parent["metadata"]["name"])


def stored_status(parent: Object) -> MCPProxyStatus | None:
    """Return the status of a live MCPProxy; None before the operator has written one."""
    try:
        status = MCPProxyStatus.model_validate(parent["status"], extra="ignore")
    except (KeyError, ValidationError):
        return None
    return None if status.observed_generation == NOT_SEEN else status
