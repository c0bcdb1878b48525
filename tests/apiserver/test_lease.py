"""The election against a real API server, which is picky about Leases."""

from collections.abc import AsyncIterator

import pytest

from mcpproxy.cluster.client import KubeClient
from mcpproxy.cluster.errors import Conflict, Unavailable
from mcpproxy.cluster.kubeconfig import load_config
from mcpproxy.cluster.resources import CONFIG_MAP, LEASE
from mcpproxy.controller.leader_election import LeaderElectionConfig, LeaderElector, LeaseRef
from tests.apiserver.server import ApiServer
from tests.reconcile.clock import FakeClock

pytestmark = pytest.mark.apiserver

TIMING = LeaderElectionConfig(duration=10, renewal=6, retry=2)


@pytest.fixture
async def cluster(apiserver: ApiServer) -> AsyncIterator[KubeClient]:
    """The real one."""
    client = KubeClient((await load_config(str(apiserver.kubeconfig))).configuration)
    yield client
    await client.close()


async def test_a_lease_is_won_renewed_released_and_won_by_another(
    cluster: KubeClient, namespace: str
) -> None:
    clock, place = FakeClock(), LeaseRef(namespace, "operator")
    first, second = (
        LeaderElector(cluster, place, name, clock.time, clock.now, TIMING)
        for name in ("first", "second")
    )
    assert await first.attempt()
    clock.advance(2)
    assert await first.attempt()
    assert not await second.attempt()
    await first.release()
    assert await second.attempt()
    assert not await first.attempt()
    clock.advance(10)
    assert await first.attempt()
    lease = await cluster.get(LEASE, namespace, "operator")
    assert lease is not None
    assert lease["spec"]["holderIdentity"] == "first"
    assert lease["spec"]["leaseTransitions"] == 2


async def test_a_lease_that_changed_concurrently_is_not_replaced(
    cluster: KubeClient, namespace: str
) -> None:
    clock, place = FakeClock(), LeaseRef(namespace, "operator")
    await LeaderElector(cluster, place, "first", clock.time, clock.now, TIMING).attempt()
    read = await cluster.get(LEASE, namespace, "operator")
    assert read is not None
    clock.advance(1)
    await LeaderElector(cluster, place, "first", clock.time, clock.now, TIMING).attempt()
    with pytest.raises(Conflict):
        await cluster.replace({**read, "spec": {**read["spec"], "holderIdentity": "late"}})


async def test_without_the_lease_nothing_is_sent(apiserver: ApiServer, namespace: str) -> None:
    told: list[tuple[str, str, str]] = []
    access = await load_config(str(apiserver.kubeconfig))
    leads = [True]
    cluster = KubeClient(
        access.configuration,
        may_write=lambda: leads[0],
        wrote=lambda *write: told.append(write),
    )
    manifest = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "one", "namespace": namespace},
    }
    try:
        assert await cluster.create(manifest)
        stored = await cluster.apply(manifest)
        uid = stored["metadata"]["uid"]
        leads[0] = False
        writes = (
            cluster.create(manifest),
            cluster.apply(manifest),
            cluster.hand_over(manifest, uid),
            cluster.apply_status(manifest, uid),
            cluster.replace(stored),
            cluster.delete(CONFIG_MAP, namespace, "one", uid),
        )
        for write in writes:
            with pytest.raises(Unavailable, match="lead"):
                await write
        assert await cluster.get(CONFIG_MAP, namespace, "one") == stored
    finally:
        await cluster.close()
    assert told == [("ConfigMap", "create", "ok"), ("ConfigMap", "apply", "ok")]
