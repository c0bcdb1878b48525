"""The backstop lists, and lets be reconciled what a watch has missed."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from mcpproxy.api.constants import API_VERSION
from mcpproxy.api.kubernetes.objects import Object
from mcpproxy.cluster.errors import Forbidden, NotFound, Unavailable
from mcpproxy.cluster.resources import (
    MCP_PROXY,
    POD_MONITOR,
    SERVICE,
    ProxyKey,
    ResourceKind,
    owner_key,
)
from mcpproxy.controller.kopf_watches import CHILD_SELECTOR, SELECTORS
from mcpproxy.controller.resync import EVERYTHING, FIRST_LOOK, LOOK, RELIST, Resync
from mcpproxy.controller.watch_cache import WatchCache, Watches
from mcpproxy.testing.fake_cluster import FakeCluster
from tests.reconcile.clock import FakeClock
from tests.support.builders import a_manifest


class Rounds:
    """Pauses that end at once, until there were enough long ones."""

    def __init__(self, count: int) -> None:
        self._left = count
        self.over = asyncio.Event()

    async def __call__(self, seconds: float) -> None:
        """One pause."""
        assert seconds in (FIRST_LOOK, LOOK)
        if self._left == 0:
            self.over.set()
            await asyncio.Event().wait()
        self._left -= 1


@pytest.fixture
def watches() -> Watches:
    return {kind: WatchCache(FakeClock().time) for kind in (MCP_PROXY, SERVICE)}


async def rounds(
    cluster: FakeCluster, watches: Watches, count: int, namespaces: tuple[str, ...] = ()
) -> tuple[list[str], Resync]:
    """Return the enqueued keys of this number of rounds, the first for catching up."""
    result: list[ProxyKey] = []
    sleep = Rounds(count)
    parts = (cluster, namespaces, SELECTORS, watches, result.append)
    resync = Resync(*parts, sleep=sleep)
    running = asyncio.create_task(resync.run())
    await asyncio.wait_for(sleep.over.wait(), 5)
    running.cancel()
    return sorted(key.name for key in result), resync


def put(cluster: FakeCluster, watches: Watches, manifest: Object, *, seen: bool = True) -> None:
    """Store an object, and let its watch bring it if `seen`."""
    stored = cluster.put(manifest)
    kind = MCP_PROXY if manifest["kind"] == "MCPProxy" else SERVICE
    if seen:
        watches[kind].record_event(stored, owner_key(stored), deleted=False)


def a_service(proxy: str) -> Object:
    """A child of an MCPProxy."""
    typed = {"apiVersion": API_VERSION, "kind": "MCPProxy"}
    reference = {**typed, "name": proxy, "controller": True}
    labels = dict([CHILD_SELECTOR.split("=")])
    metadata = {"namespace": "team", "name": proxy, "labels": labels}
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {**metadata, "ownerReferences": [reference]},
    }


async def test_a_child_that_is_created_while_the_children_are_listed_is_not_taken_for_deleted(
    watches: Watches,
) -> None:
    cluster = FakeCluster()
    put(cluster, watches, a_manifest("tools"))
    heads = cluster.heads
    created: list[str] = []

    async def listed(kind: ResourceKind, *args: Any) -> Any:
        items = await heads(kind, *args)
        # Before the list is complete, the watch delivers what was created after its first page.
        if kind == SERVICE and watches[SERVICE].store.is_fresh and not created:
            created.append("tools")
            put(cluster, watches, a_service("tools"))
        return items

    cluster.heads = listed  # type: ignore[method-assign,assignment]
    await rounds(cluster, watches, 2)
    assert created
    assert watches[SERVICE].store.get(("team", "tools")) is not None
    assert watches[SERVICE].behind() == 0


async def test_every_proxy_is_reconciled_periodically(watches: Watches) -> None:
    cluster = FakeCluster()
    put(cluster, watches, a_manifest("tools"))
    put(cluster, watches, a_manifest("other", "another-team"))
    assert (await rounds(cluster, watches, EVERYTHING))[0] == []
    assert (await rounds(cluster, watches, EVERYTHING + 1))[0] == ["other", "tools"]
    assert cluster.writes == []


async def test_only_the_served_namespaces_are_listed(watches: Watches) -> None:
    cluster = FakeCluster()
    put(cluster, watches, a_manifest("tools"))
    put(cluster, watches, a_manifest("other", "another-team"), seen=False)
    result, resync = await rounds(cluster, watches, EVERYTHING + 1, ("team",))
    assert result == ["tools"]
    assert resync.caught_up


async def test_the_owner_of_a_child_missed_by_a_watch_is_reconciled(watches: Watches) -> None:
    cluster = FakeCluster()
    put(cluster, watches, a_manifest("tools"))
    put(cluster, watches, a_service("tools"))
    cluster.put({**a_service("tools"), "spec": {"selector": {"evil": "yes"}}})
    assert (await rounds(cluster, watches, 2))[0] == ["tools"]


async def test_watches_have_caught_up_when_every_listed_object_was_delivered(
    watches: Watches,
) -> None:
    cluster = FakeCluster()
    put(cluster, watches, a_manifest("tools"))
    put(cluster, watches, a_service("tools"), seen=False)
    assert not (await rounds(cluster, watches, 2))[1].caught_up
    put(cluster, watches, a_service("tools"))
    assert (await rounds(cluster, watches, 1))[1].caught_up


async def test_the_initial_lists_are_read_once_while_the_watches_catch_up(
    watches: Watches,
) -> None:
    cluster = FakeCluster()
    put(cluster, watches, a_manifest("tools"))
    put(cluster, watches, a_service("tools"), seen=False)
    await rounds(cluster, watches, RELIST)
    assert cluster.reads == len(watches)


async def test_an_object_that_is_deleted_while_the_watches_catch_up_is_not_awaited(
    watches: Watches,
) -> None:
    cluster = FakeCluster()
    put(cluster, watches, a_manifest("tools"))
    put(cluster, watches, a_service("tools"), seen=False)
    sleep = Rounds(RELIST + 1)

    async def pause(seconds: float) -> None:
        if cluster.reads == len(watches):
            cluster.remove(SERVICE, "team", "tools")
        await sleep(seconds)

    resync = Resync(cluster, (), SELECTORS, watches, lambda key: None, sleep=pause)
    running = asyncio.create_task(resync.run())
    await asyncio.wait_for(sleep.over.wait(), 5)
    running.cancel()
    assert resync.caught_up


class Failing(FakeCluster):
    """A server that answers all lists, or those of one kind, with an error."""

    def __init__(self, error: Exception, kind: str = "") -> None:
        super().__init__()
        self._error, self._kind = error, kind

    async def heads(self, kind: Any, namespace: str | None, selector: str) -> Any:
        """Fail."""
        self.reads += 1
        if self._kind in ("", kind.name):
            raise self._error
        return await super().heads(kind, namespace, selector)


async def test_a_failed_list_does_not_end_the_polling(watches: Watches) -> None:
    cluster = Failing(Unavailable("no"))
    _, resync = await rounds(cluster, watches, 3)
    assert cluster.reads == 3 * len(watches)
    assert not resync.caught_up


async def test_a_kind_that_is_refused_does_not_keep_others_from_being_compared(
    watches: Watches,
) -> None:
    watches[POD_MONITOR] = WatchCache(FakeClock().time)
    cluster = Failing(Forbidden("an earlier ClusterRole lacks it"), "PodMonitor")
    put(cluster, watches, a_manifest("tools"))
    put(cluster, watches, a_service("tools"))
    # The service is deleted while its watch is being opened again.
    cluster.remove(SERVICE, "team", "tools")
    enqueued, resync = await rounds(cluster, watches, 1 + round(LOOK / FIRST_LOOK))
    assert enqueued == ["tools"]
    assert not resync.caught_up
    assert resync.settled.is_set()


async def test_a_kind_that_is_listed_again_has_caught_up(watches: Watches) -> None:
    cluster = Failing(Forbidden("an earlier ClusterRole lacks it"), "Service")
    put(cluster, watches, a_manifest("tools"))
    put(cluster, watches, a_service("tools"))
    sleep = Rounds(5)

    async def pause(seconds: float) -> None:
        if cluster.reads == 3:
            cluster._kind = "None"
        await sleep(seconds if seconds == FIRST_LOOK else LOOK)

    resync = Resync(cluster, (), SELECTORS, watches, lambda key: None, sleep=pause)
    running = asyncio.create_task(resync.run())
    await asyncio.wait_for(sleep.over.wait(), 5)
    running.cancel()
    assert resync.caught_up


async def test_a_kind_that_is_not_installed_does_not_count_as_lag(watches: Watches) -> None:
    cluster = Failing(NotFound("no such kind"), "Service")
    _, resync = await rounds(cluster, watches, 3)
    assert resync.caught_up
    assert not watches[SERVICE].lagging


async def test_a_kind_that_is_installed_or_removed_is_announced_once(watches: Watches) -> None:
    cluster, changes = FakeCluster(), list[bool]()

    async def pause(seconds: float) -> None:
        looks.pop()()
        if not looks:
            await asyncio.Event().wait()

    resync = Resync(
        cluster,
        (),
        SELECTORS,
        watches,
        lambda key: None,
        sleep=pause,
        kinds_changed=lambda: changes.append(SERVICE.name not in cluster.lacking),
    )
    over = asyncio.Event()
    unreadable = {SERVICE.name: Unavailable("no response")}
    looks: list[Callable[[], object]] = [
        over.set,
        lambda: None,
        lambda: cluster.lacking.add(SERVICE.name),
        cluster.unreadable.clear,
        lambda: cluster.unreadable.update(unreadable),
        lambda: None,
        cluster.lacking.clear,
        lambda: None,
        lambda: cluster.lacking.add(SERVICE.name),
    ]
    running = asyncio.create_task(resync.run())
    await asyncio.wait_for(over.wait(), 5)
    running.cancel()
    assert changes == [True, False]


async def waits(
    clock: FakeClock, quiet: float, longest: float
) -> tuple[Resync, asyncio.Task[None]]:
    """Begin to wait for the initial lists, of which the newest event came `quiet` seconds ago."""
    watches = {kind: WatchCache(clock.time) for kind in (MCP_PROXY, SERVICE)}
    clock.advance(quiet)
    resync = Resync(FakeCluster(), (), SELECTORS, watches, lambda key: None)
    task = asyncio.create_task(resync.wait_until_settled(60.0, longest))
    await asyncio.sleep(0)
    return resync, task


async def test_passes_wait_for_the_initial_lists_while_events_arrive() -> None:
    resync, waiting = await waits(FakeClock(), 59.0, 300.0)
    assert not waiting.done()
    resync.settled.set()
    await asyncio.wait_for(waiting, 5)


@pytest.mark.parametrize(("quiet", "longest"), [(60.0, 300.0), (0.0, 0.0)])
async def test_passes_do_not_wait_for_silent_watches_nor_without_end(
    quiet: float, longest: float
) -> None:
    resync, waiting = await waits(FakeClock(), quiet, longest)
    await asyncio.wait_for(waiting, 5)
    assert not resync.settled.is_set()
