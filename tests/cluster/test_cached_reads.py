"""Reads are answered from what the watches have brought, and never from anything older."""

import copy
import dataclasses
import secrets

import pytest

from mcpproxy.api import constants
from mcpproxy.api.kubernetes.objects import Object
from mcpproxy.cluster import cached_reads
from mcpproxy.cluster.cached_reads import CachingClient, ObjectCache
from mcpproxy.cluster.resources import POD, POD_MONITOR, SERVICE, ProxyKey, owner_key
from mcpproxy.limits.pods import STORED_OF_NAMESPACE, STORED_OF_PROXY
from mcpproxy.testing.fake_cluster import FakeCluster

KEY = ProxyKey("team", "tools")
LABELS = constants.child_labels(KEY.name)


def a_service(port: int = 80) -> Object:
    """A child as it is applied."""
    metadata = {"name": KEY.name, "namespace": KEY.namespace, "labels": LABELS}
    typed = {"apiVersion": "v1", "kind": "Service", "metadata": metadata}
    return {**typed, "spec": {"ports": [{"port": port}]}}


class Side:
    """A cluster with a store of Services, and the watch that fills it."""

    def __init__(self) -> None:
        self.cluster, self.store = FakeCluster(), ObjectCache()
        self.store.is_fresh = True
        self.cached = CachingClient(self.cluster, {SERVICE: self.store})

    async def get(self) -> Object | None:
        """The Service as the operator reads it."""
        return await self.cached.get(SERVICE, *KEY)

    def brings(self, live: Object) -> None:
        """Let the watch bring an object."""
        self.store.put(live, owner_key(live))


@pytest.fixture
def side() -> Side:
    return Side()


async def test_an_object_that_a_watch_delivered_needs_no_request(side: Side) -> None:
    live = side.cluster.put(a_service())
    side.brings(live)
    assert await side.get() == live
    assert await side.cached.list(SERVICE, KEY.namespace, LABELS) == [live]
    assert side.cluster.reads == 0


async def test_an_object_that_no_watch_delivered_is_requested(side: Side) -> None:
    assert await side.get() is None
    foreign = a_service()
    foreign["metadata"]["labels"] = {}
    side.cluster.put(foreign)
    assert await side.get() is not None
    # It lacks the labels of the watch, and those of the list.
    assert await side.cached.list(SERVICE, KEY.namespace, LABELS) == []
    assert side.cluster.reads == 2


async def test_pods_of_another_application_with_the_same_instance_are_requested(
    side: Side,
) -> None:
    store = ObjectCache()
    store.is_fresh = True
    cached = CachingClient(side.cluster, {POD: store})
    labels = {"app.kubernetes.io/name": "calendar", constants.LABEL_INSTANCE: KEY.name}
    pod = {"name": "calendar-0", "namespace": KEY.namespace, "labels": labels}
    side.cluster.put({"apiVersion": "v1", "kind": "Pod", "metadata": pod})
    assert len(await cached.list(POD, KEY.namespace, labels)) == 1
    assert await cached.list(POD, KEY.namespace, constants.selector_labels(KEY.name)) == []
    assert side.cluster.reads == 1


async def test_an_object_that_only_a_list_had_is_asked_for_until_the_watch_brings_it(
    side: Side,
) -> None:
    side.cluster.put(a_service())
    assert await side.cached.list(SERVICE, KEY.namespace, LABELS) == []
    side.store.incomplete = frozenset({KEY})
    assert len(await side.cached.list(SERVICE, KEY.namespace, LABELS)) == 1
    assert side.cluster.reads == 1


async def test_a_list_of_a_kind_that_may_not_be_installed_is_asked_for(side: Side) -> None:
    store = ObjectCache()
    store.is_fresh = True
    cached = CachingClient(side.cluster, {POD_MONITOR: store})
    assert await cached.list(POD_MONITOR, KEY.namespace, LABELS) == []
    assert side.cluster.reads == 1


async def test_a_write_is_read_at_once_and_an_older_event_changes_nothing(side: Side) -> None:
    before = side.cluster.put(a_service())
    side.brings(before)
    stored = await side.cached.apply(a_service(81), before["metadata"]["uid"])
    side.brings(before)
    result = await side.get()
    assert result is not None
    assert result["spec"] == stored["spec"] != before["spec"]
    await side.cached.delete(SERVICE, *KEY, stored["metadata"]["uid"])
    assert await side.get() is None


async def test_a_watch_that_may_be_behind_is_not_used(side: Side) -> None:
    side.brings(side.cluster.put(a_service()))
    side.cluster.remove(SERVICE, *KEY)
    side.store.is_fresh = False
    assert await side.get() is None


async def test_watch_events_older_than_a_list_are_dropped(side: Side) -> None:
    live = side.cluster.put(a_service())
    side.brings(live)
    version = int(live["metadata"]["resourceVersion"])
    side.store.drop_older({KEY: version}, version)
    assert len(side.store) == 1
    side.store.drop_older({KEY: version + 1}, version)
    assert len(side.store) == 0
    side.brings(live)
    side.store.drop_older({}, version - 1)
    assert len(side.store) == 1
    side.store.drop_older({}, version)
    assert len(side.store) == 0
    assert side.store.of(KEY) == []


async def test_objects_are_readable_after_the_first_of_their_kind_is_gone(side: Side) -> None:
    first = side.cluster.put(a_service())
    other = copy.deepcopy(first)
    other["metadata"]["name"] = "other"
    for live in (first, other):
        side.brings(live)
    side.store.drop((KEY.namespace, KEY.name))
    assert side.store.get((KEY.namespace, "other")) == other
    assert side.store.of(KEY) == [other]


async def test_a_version_that_is_stored_is_kept(side: Side) -> None:
    live = side.cluster.put(a_service())
    version = int(live["metadata"]["resourceVersion"])
    assert not side.store.has(KEY, version)
    side.brings(live)
    side.brings({**live, "spec": "the same version is not stored again"})
    assert side.store.has(KEY, version)
    assert not side.store.has(KEY, version + 1)
    assert await side.get() == live


async def test_an_object_that_is_read_is_a_copy(side: Side) -> None:
    live = side.cluster.put(a_service())
    side.brings(live)
    result = await side.get()
    assert result is not None
    kept = copy.deepcopy(result)
    result["spec"].clear()
    assert await side.get() == kept


def _of_size(size: int, name: str = KEY.name, owner: str = KEY.name) -> Object:
    """A Service of the MCPProxy `owner` whose content does not compress."""
    live = a_service()
    labels = constants.child_labels(owner)
    live["metadata"] |= {"name": name, "labels": labels, "resourceVersion": "7"}
    live["spec"]["noise"] = secrets.token_hex(size)
    return live


async def test_objects_beyond_the_share_of_an_mcpproxy_are_not_kept(side: Side) -> None:
    side.brings(_of_size(100, "small"))
    side.brings(_of_size(STORED_OF_PROXY.value, "large"))
    assert side.store.get((KEY.namespace, "small")) is not None
    assert side.store.get((KEY.namespace, "large")) is None
    assert side.store.of(KEY) is None, "what is left out has to be read"
    assert side.store.may_have(KEY)
    side.store.drop((KEY.namespace, "large"))
    assert side.store.of(KEY) is not None


async def test_objects_beyond_the_share_of_a_namespace_are_not_kept(
    side: Side, monkeypatch: pytest.MonkeyPatch
) -> None:
    smaller = dataclasses.replace(STORED_OF_NAMESPACE, value=10_000)
    monkeypatch.setattr(cached_reads, "STORED_OF_NAMESPACE", smaller)
    for number in range(5):
        side.brings(_of_size(3000, f"s{number}", f"proxy{number}"))
    kept = [side.store.get((KEY.namespace, f"s{number}")) is not None for number in range(5)]
    assert kept == [True, True, True, False, False]
    side.store.drop((KEY.namespace, "s1"))
    side.brings(_of_size(3000, "s5", "proxy5"))
    assert side.store.get((KEY.namespace, "s5")) is not None


async def test_a_list_forgets_what_was_left_out_and_is_gone(side: Side) -> None:
    before = side.store.newest
    side.brings(_of_size(STORED_OF_PROXY.value, "large"))
    side.store.drop_older({}, before)
    assert side.store.of(KEY) is None
    side.store.drop_older({}, side.store.newest)
    assert side.store.of(KEY) == []


async def test_objects_of_no_mcpproxy_are_not_kept(side: Side) -> None:
    live = _of_size(10)
    live["metadata"]["labels"] = {constants.LABEL_MANAGED_BY: constants.FIELD_MANAGER}
    side.brings(live)
    assert len(side.store) == 0
