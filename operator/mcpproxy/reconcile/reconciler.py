"""The main path of the operator: snapshot → validate → build → plan → apply → write status.

A pass depends only on the current state, never on the event that caused it. It may run at any
time, any number of times, and writes nothing if nothing differs.
"""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial

from mcpproxy.api import constants
from mcpproxy.api.kubernetes.objects import Object
from mcpproxy.api.v1alpha1 import MCPProxy
from mcpproxy.cluster.client import Cluster
from mcpproxy.cluster.errors import ClusterError, NamespaceTerminating
from mcpproxy.cluster.pods.reports import PodReportWatcher
from mcpproxy.cluster.resources import MCP_PROXY, ProxyKey, ResourceKind
from mcpproxy.cluster.token_keys import TokenKeyReader
from mcpproxy.desired import BuildOptions, OwnerRef, build
from mcpproxy.reconcile.children import ChildWriter
from mcpproxy.reconcile.deletion import Deletions, Memories
from mcpproxy.reconcile.failures import Failures, Outcome, describe_unread, first_error
from mcpproxy.reconcile.object_views import pod_address
from mcpproxy.reconcile.ownership import PodOwnership
from mcpproxy.reconcile.plan import Plan, make_plan
from mcpproxy.reconcile.requeue import earliest, poll_interval
from mcpproxy.reconcile.snapshot import Snapshot, take_snapshot
from mcpproxy.reconcile.status_updates.status_write_health import (
    SLOW_WRITE,
    StatusWriteHealth,
    await_writes,
)
from mcpproxy.reconcile.status_updates.status_writer import StatusWriter, stored_status


class Reconciler:
    """Reconciler of MCPProxies: it applies their children and writes their statuses."""

    def __init__(
        self,
        cluster: Cluster,
        fleet: PodReportWatcher[ProxyKey],
        options: BuildOptions,
        steady: Callable[[], datetime],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        instance: str = constants.FIELD_MANAGER,
        known: Callable[[ResourceKind, ProxyKey], bool] = lambda kind, key: True,
        childless: Callable[[ProxyKey], bool] = lambda key: False,
        reverted: Callable[[str], None] = lambda kind: None,
        writes: StatusWriteHealth | None = None,
    ) -> None:
        """`steady` is a clock that is never set. `instance` names this process in Events.

        `known` returns True if the watches know a child of this kind: kinds that neither they know
        nor the spec requests are not read. `childless` returns True if the watches are complete and
        know no child of an MCPProxy. `reverted` receives the kind of each child that another
        manager keeps changing. `writes` records which statuses can't be written.
        """
        self._cluster = cluster
        self._reports = fleet
        self._options = options
        self._known = known
        self._childless = childless
        self._writes = StatusWriteHealth(steady) if writes is None else writes
        self._status = StatusWriter(cluster, fleet, now, steady, instance, self._writes)
        self.ownership = PodOwnership(cluster)
        self._token_keys = TokenKeyReader(cluster, steady)
        announce = self._status.announce
        self._children = ChildWriter(cluster, self.ownership, now, steady, reverted, announce)
        self._failures = Failures()
        self._deletions = Deletions(self._status)
        self._memory = Memories(fleet, self._status, self.ownership, self._children, self._failures)

    async def reconcile(self, key: ProxyKey) -> float | None:
        """Make one pass over one MCPProxy.

        Return the seconds until another pass is due, or None. Raise ClusterError, after the status
        is written, if the pass could not finish and a retry can help.
        """
        snapshot = await self._take_snapshot(key)
        if snapshot is None or snapshot.terminating:
            self._memory.forget(key)
            await self._deletions.report(key, snapshot)
            return None
        self._memory.note(key, snapshot.parent["metadata"]["uid"])
        snapshot = await self.ownership.narrow(key, snapshot)
        self._watch_reports(key, snapshot)
        try:
            outcome = await self._reconcile_children(key, snapshot)
            requeue = await self._write_status(outcome)
            if outcome.error is not None:
                raise outcome.error
            if outcome.blocked is None and not snapshot.suspended:
                requeue = earliest(requeue, await self._children.prune(key, outcome.snapshot))
        except NamespaceTerminating:
            await self._deletions.begin(key, snapshot)
            return None
        return earliest(outcome.requeue_after, requeue)

    async def _take_snapshot(self, key: ProxyKey) -> Snapshot | None:
        """Read and validate the MCPProxy, and read everything that belongs to it."""
        try:
            is_new = partial(self._is_new, key)
            snapshot = await take_snapshot(
                self._cluster, key, self._known, self._token_keys, is_new
            )
        except ClusterError as error:
            self._writes.failed(key, error)
            raise
        return None if snapshot is None else self._deletions.note(key, snapshot)

    def _is_new(self, key: ProxyKey, parent: Object) -> bool:
        """Return True if no pass has come to the children of an MCPProxy yet, as far as is known.

        If that is wrong, the creation of a child conflicts, and the next pass reads all of them.
        """
        has_status = stored_status(parent) is not None
        return not has_status and not self._failures.has(key) and self._childless(key)

    async def _reconcile_children(self, key: ProxyKey, snapshot: Snapshot) -> Outcome:
        """Build, plan and apply the children; report it if the API server is slow."""
        progress = partial(self._children.progress, key)
        report = partial(self._status.write, snapshot, SLOW_WRITE)
        outcome, slow = await await_writes(self._plan_and_apply(key, snapshot), progress, report)
        if not slow:
            return outcome
        parent = await self._cluster.get(MCP_PROXY, *key) or snapshot.parent
        return replace(outcome, snapshot=replace(outcome.snapshot, parent=parent))

    async def _plan_and_apply(self, key: ProxyKey, snapshot: Snapshot) -> Outcome:
        """Return the outcome, with a reason if the children could not be written."""
        if snapshot.unread:
            return Outcome(snapshot, describe_unread(snapshot), error=first_error(snapshot))
        if snapshot.proxy is None:
            return Outcome(snapshot)
        try:
            plan = self._plan(key, snapshot.proxy, snapshot)
            if snapshot.suspended:
                return Outcome(snapshot, plan.blocked, plan.changes, plan.requeue_after)
            applied, retry = await self._children.apply(key, snapshot.proxy, snapshot, plan)
        except NamespaceTerminating:
            raise
        except Exception as error:
            return Outcome(snapshot, self._failures.describe(key, error), error=error)
        self._failures.forget(key)
        blocked = plan.blocked or self._children.contested_fields(key)
        requeue = earliest(plan.requeue_after or poll_interval(applied), retry)
        return Outcome(applied, blocked, requeue_after=requeue)

    def _plan(self, key: ProxyKey, proxy: MCPProxy, snapshot: Snapshot) -> Plan:
        owner = OwnerRef(key.name, snapshot.parent["metadata"]["uid"])
        children = build(proxy, self._options, owner, snapshot.services, snapshot.token_keys)
        desired = [child for child in children if child["kind"] not in snapshot.missing_kinds]
        self._children.retain(key, desired, snapshot.children)
        in_sync = partial(self._children.is_in_sync, key)
        return make_plan(desired, snapshot.children, snapshot.parent, in_sync)

    async def _write_status(self, outcome: Outcome) -> float | None:
        return await self._status.write(outcome.snapshot, outcome.blocked, outcome.pending_changes)

    def _watch_reports(self, key: ProxyKey, snapshot: Snapshot) -> None:
        if snapshot.knows_pods:
            self._reports.follow(key, filter(None, map(pod_address, snapshot.pods)))
