"""Writer of children: carries out a plan, and prunes ConfigMaps of earlier configurations."""

import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from datetime import datetime
from typing import Final

from mcpproxy.api import constants
from mcpproxy.api.kubernetes.objects import Object
from mcpproxy.api.v1alpha1 import MCPProxy
from mcpproxy.cluster.client import Cluster
from mcpproxy.cluster.resources import DEPLOYMENT, SECRET, SERVICE, ProxyKey, kind_of
from mcpproxy.cluster.write_pace import Turns
from mcpproxy.desired import config_map
from mcpproxy.reconcile.field_conflicts import FieldConflicts
from mcpproxy.reconcile.object_views import deployment_view, mounted_config_map
from mcpproxy.reconcile.ownership import PodOwnership
from mcpproxy.reconcile.plan import WAIT, ApplyStep, Plan, kind_and_name, list_of, prunable
from mcpproxy.reconcile.requeue import earliest
from mcpproxy.reconcile.sealing_secret import SealingSecrets
from mcpproxy.reconcile.server_mutations import ServerMutations
from mcpproxy.reconcile.snapshot import Snapshot
from mcpproxy.status import reasons
from mcpproxy.status.inputs import ConditionReason

log = logging.getLogger(__name__)

UNUSED: Final = 4
"""ConfigMaps of earlier configurations that stay while a rollout is not complete."""


class ChildWriter:
    """Writer of the children of MCPProxies."""

    def __init__(
        self,
        cluster: Cluster,
        ownership: PodOwnership,
        now: Callable[[], datetime],
        steady: Callable[[], datetime],
        reverted: Callable[[str], None],
        announce: Callable[[Object, str, str], Awaitable[None]],
    ) -> None:
        """`steady` as in `Reconciler`. `reverted` receives the kind of each child that another
        manager keeps changing.

        `announce` writes an Event about an MCPProxy with a reason and a message.
        """
        self._cluster = cluster
        self._announce = announce
        self._ownership = ownership
        self._secrets = SealingSecrets(cluster, now, steady)
        self._mutations = ServerMutations()
        self._conflicts = FieldConflicts(steady, reverted)
        self._allocations = Turns()
        self._written: Counter[str] = Counter()
        self._writing: dict[ProxyKey, str] = {}

    def forget(self, key: ProxyKey) -> None:
        """Forget an MCPProxy that no longer exists."""
        self._secrets.forget(key)
        self._mutations.forget(key)
        self._conflicts.forget(key)
        self._writing.pop(key, None)

    def progress(self, key: ProxyKey) -> tuple[str, int]:
        """Return the kind that is being written for an MCPProxy, and how many were in total.

        A server that responds to other writes of this kind is busy, and will respond to this one.
        """
        kind = self._writing.get(key, "")
        return kind, self._written[kind]

    def is_in_sync(self, key: ProxyKey, manifest: Object, live: Object) -> bool:
        """Return True if applying the manifest would change nothing."""
        return self._mutations.is_in_sync(key, manifest, live)

    def retain(self, key: ProxyKey, desired: Iterable[Object], children: Iterable[Object]) -> None:
        """Forget what concerns neither the desired children nor those that exist."""
        self._conflicts.retain(key, desired)
        self._mutations.retain(key, {child["metadata"]["uid"] for child in children})

    def contested_fields(self, key: ProxyKey) -> ConditionReason | None:
        """Return the fields that another manager keeps changing; None if there are none."""
        return self._conflicts.finding(key)

    async def apply(
        self, key: ProxyKey, proxy: MCPProxy, snapshot: Snapshot, plan: Plan
    ) -> tuple[Snapshot, float | None]:
        """Delete and apply children, unless the plan is blocked.

        Return the snapshot with the children that result, and the seconds until another pass.
        """
        if plan.blocked is not None:
            return snapshot, self._conflicts.until_quiet(key)
        self._writing[key] = SECRET.name
        await self._secrets.ensure(key, proxy, snapshot)
        self._written[SECRET.name] += 1
        children = {kind_and_name(child): child for child in snapshot.children}
        for child in (*plan.replace, *plan.prune):
            await self._delete(child)
            del children[kind_and_name(child)]
        waits = {}
        for step in plan.apply:
            name = kind_and_name(step.manifest)
            waits[name] = self._conflicts.pause(key, step.manifest)
            if not waits[name]:
                stored = await self._apply_step(key, step, children.get(name))
                children[kind_and_name(stored)] = stored
        adopted = [child for child in plan.adopt if not waits[kind_and_name(child)]]
        if adopted:
            await self._announce(snapshot.parent, reasons.ADOPTED, _describe_adoption(adopted))
        due = min(filter(None, waits.values()), default=None)
        quiet = self._conflicts.until_quiet(key)
        return replace(snapshot, children=tuple(children.values())), earliest(due, quiet)

    async def prune(self, key: ProxyKey, snapshot: Snapshot) -> float | None:
        """Delete the ConfigMaps of earlier configurations, once a rollout is complete or has many.

        Those that the newest ReplicaSets of the Deployment mount stay, so that `kubectl rollout
        undo` works. Return the seconds after which more of them can be deleted.
        """
        deployment = snapshot.deployment
        if deployment is None:
            return None
        template = deployment["spec"]["template"]["spec"]
        pod_specs = [template, *(pod["spec"] for pod in snapshot.pods)]
        keep = {mounted_config_map(spec, key.name) for spec in pod_specs}
        if snapshot.proxy is None or config_map.needs_token_keys(snapshot.proxy):
            keep.add(constants.cluster_keys_name(key.name))
        unused = prunable(snapshot.children, filter(None, keep), snapshot.parent)
        complete = deployment_view(deployment).complete
        if not unused or not (complete or len(unused) > UNUSED):
            return None
        mounted, more = await self._ownership.mounted_config_maps(key, deployment)
        for child in unused:
            if child["metadata"]["name"] not in mounted:
                await self._delete(child)
        return WAIT if more and complete else None

    async def _apply_step(self, key: ProxyKey, step: ApplyStep, before: Object | None) -> Object:
        if step.hand_over is not None and step.uid is not None:
            await self._cluster.hand_over(step.hand_over, step.uid)
        kind = self._writing[key] = step.manifest["kind"]
        allocates = kind == SERVICE.name and step.uid is None
        async with self._allocations.take() if allocates else nullcontext():
            if step.uid is None:
                stored = await self._cluster.apply_new(step.manifest)
            else:
                stored = await self._cluster.apply(step.manifest, step.uid)
        self._written[kind] += 1
        if kind == DEPLOYMENT.name:
            self._secrets.note_deployment(key)
        log.info("applied %s %s of %s/%s", *kind_and_name(stored), *key)
        self._conflicts.applied(key, step.manifest, before)
        self._mutations.remember(key, step.manifest, stored)
        return stored

    async def _delete(self, child: Object) -> None:
        metadata = child["metadata"]
        identity = (metadata["namespace"], metadata["name"], metadata["uid"])
        await self._cluster.delete(kind_of(child), *identity)
        log.info("deleted %s %s in %s", *kind_and_name(child), metadata["namespace"])


def _describe_adoption(children: Sequence[Object]) -> str:
    """Return the message about children that an earlier MCPProxy left behind."""
    left = "left behind by an earlier MCPProxy of this name"
    return (
        f"adopted {list_of(children)}, {left}; the old Secret with the sealing key can be deleted"
    )
