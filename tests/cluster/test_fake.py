"""The double in memory keeps the contract of Cluster."""

from collections.abc import Awaitable, Callable

import pytest

from mcpproxy.api.kubernetes.objects import Object
from mcpproxy.cluster.resources import kind_of
from mcpproxy.testing.fake_cluster import FakeCluster
from tests.cluster.contract import CONTRACT
from tests.cluster.sides import Change, Side


class FakeHand:
    """Others, in memory."""

    def __init__(self, cluster: FakeCluster) -> None:
        self._cluster = cluster

    async def edit(self, live: Object, change: Change) -> None:
        """Change an object as `kubectl edit` does."""
        metadata = live["metadata"]
        result = await self._cluster.get(kind_of(live), metadata["namespace"], metadata["name"])
        assert result is not None
        change(result)
        self._cluster.put(result)

    async def apply(self, manifest: Object, manager: str) -> None:
        """Server-side apply as another field manager, without force."""
        self._cluster.apply_as(manager, manifest, None, force=False)


@pytest.mark.parametrize("holds", CONTRACT, ids=lambda holds: holds.__name__)
async def test_the_double_keeps_the_contract(holds: Callable[[Side], Awaitable[None]]) -> None:
    cluster = FakeCluster()
    await holds(Side(cluster, "team", FakeHand(cluster)))
