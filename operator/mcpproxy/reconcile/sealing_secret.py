"""Creation of the Secret with the sealing key, which the operator can't read."""

import logging
import secrets
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final

from mcpproxy.api import constants
from mcpproxy.api.kubernetes.objects import Object
from mcpproxy.api.v1alpha1 import MCPProxy
from mcpproxy.cluster.client import Cluster
from mcpproxy.cluster.resources import ProxyKey
from mcpproxy.desired import OwnerRef, sealing_secret
from mcpproxy.reconcile.object_views import deployment_view, mounts_secret
from mcpproxy.reconcile.snapshot import Snapshot
from mcpproxy.status.pod_problems import is_ready

log = logging.getLogger(__name__)

RETRY: Final = 60.0
"""Seconds between attempts to create the Secret of an MCPProxy whose pods don't start."""


class SealingSecrets:
    """Creator of sealing Secrets, and the times of the last attempts."""

    def __init__(
        self, cluster: Cluster, now: Callable[[], datetime], steady: Callable[[], datetime]
    ) -> None:
        """`steady` as in `Reconciler`."""
        self._cluster = cluster
        self._now = now
        self._steady = steady
        self._attempts: dict[ProxyKey, datetime] = {}
        self._undeployed: set[ProxyKey] = set()
        """MCPProxies whose Secret exists, and whose Deployment has not existed since."""

    def forget(self, key: ProxyKey) -> None:
        """Forget an MCPProxy that no longer exists."""
        self._attempts.pop(key, None)
        self._undeployed.discard(key)

    def note_deployment(self, key: ProxyKey) -> None:
        """Note that the Deployment of an MCPProxy was applied; no pass may see it afterwards."""
        self._undeployed.discard(key)

    async def ensure(self, key: ProxyKey, proxy: MCPProxy, snapshot: Snapshot) -> None:
        """Create the Secret unless the pods prove that it exists."""
        owner = OwnerRef(key.name, snapshot.parent["metadata"]["uid"])
        name = constants.sealing_secret_name(owner.name, owner.uid)
        deployment, now = snapshot.deployment, self._steady()
        if deployment is not None:
            self._undeployed.discard(key)
            if _is_mounted(deployment, snapshot.pods, name, self._now()):
                return
        last = self._attempts.get(key)
        recent = last is not None and (now - last).total_seconds() < RETRY
        if recent and (deployment is not None or key in self._undeployed):
            return
        random = secrets.token_bytes(sealing_secret.KEY_BYTES)
        if await self._cluster.create(sealing_secret.build(proxy, owner, random)):
            log.info("created Secret %s of %s/%s", name, *key)
        self._attempts[key] = now
        if deployment is None:
            self._undeployed.add(key)


def _is_mounted(deployment: Object, pods: Sequence[Object], secret: str, now: datetime) -> bool:
    """Return True if running pods mount the Secret and no other pod has waited for long."""
    if not mounts_secret(deployment["spec"]["template"]["spec"], secret):
        return False
    view = deployment_view(deployment)
    if view.complete:
        return True
    waiting = [
        pod for pod in pods if not is_ready(pod) and "deletionTimestamp" not in pod["metadata"]
    ]
    created = [datetime.fromisoformat(pod["metadata"]["creationTimestamp"]) for pod in waiting]
    return view.available > 0 and all((now - at).total_seconds() < RETRY for at in created)
