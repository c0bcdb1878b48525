"""Events find the MCPProxy that they concern."""

from typing import Any

import kopf
import pytest

from mcpproxy.api import constants
from mcpproxy.api.kubernetes.objects import Object
from mcpproxy.cluster.resources import (
    DEPLOYMENT,
    INGRESS,
    MCP_PROXY,
    POD,
    ProxyKey,
    ResourceKind,
    owner_key,
)
from mcpproxy.controller.kopf_settings import kopf_settings
from mcpproxy.controller.kopf_watches import SELECTORS, register_watches, selectors
from mcpproxy.controller.watch_cache import WatchCache
from tests.reconcile.clock import FakeClock

KEY = ProxyKey("team", "tools")


def a_child(**metadata: object) -> Object:
    """A child in `team`."""
    return {"metadata": {"namespace": "team", "name": "x", **metadata}}


def owned_by(kind: str, controller: bool = True) -> dict[str, object]:
    """Metadata of a child of `tools`."""
    group = constants.API_VERSION if kind == constants.KIND else "apps/v1"
    reference = {"apiVersion": group, "kind": kind, "name": "tools", "controller": controller}
    return {"ownerReferences": [reference]}


def owned_by_name(name: object, group: str = constants.API_VERSION) -> dict[str, object]:
    """Metadata of a child of an MCPProxy of any name."""
    reference = {"apiVersion": group, "kind": "MCPProxy", "name": name, "controller": True}
    return {"ownerReferences": [reference]}


@pytest.mark.parametrize(
    ("child", "key"),
    [
        (a_child(**owned_by("MCPProxy")), KEY),
        (a_child(labels={constants.LABEL_INSTANCE: "tools"}), KEY),
        (a_child(labels={constants.LABEL_INSTANCE: "tools"}, **owned_by("ReplicaSet")), KEY),
        (a_child(labels={constants.LABEL_INSTANCE: "x"}, **owned_by("MCPProxy")), KEY),
        (a_child(**owned_by("MCPProxy", controller=False)), None),
        (a_child(), None),
        ({"kind": "MCPProxy", "metadata": {"namespace": "team", "name": "tools"}}, KEY),
    ],
)
def test_a_child_leads_to_its_mcpproxy_by_owner_or_by_label(
    child: Object, key: ProxyKey | None
) -> None:
    assert owner_key(child) == key


@pytest.mark.parametrize(
    "child",
    [
        a_child(**owned_by_name("../../victim/mcpproxies/x")),
        a_child(**owned_by_name("../../../../../../openapi/v2?n=1")),
        a_child(**owned_by_name("tools?watch=true")),
        a_child(**owned_by_name("")),
        a_child(**owned_by_name(None)),
        a_child(**owned_by_name("tools", group="other.dev/v1")),
        a_child(labels={constants.LABEL_INSTANCE: "a..b"}),
        a_child(labels={constants.LABEL_INSTANCE: "Tools"}),
    ],
)
def test_a_child_of_an_impossible_mcpproxy_leads_nowhere(child: Object) -> None:
    """Whoever may create a ConfigMap writes its owner and its labels."""
    assert owner_key(child) is None


@pytest.mark.parametrize(
    "name", ["../../victim/mcpproxies/x", "x?watch=true", "x#", "%2e%2e", ".", "..", "a/b", "a\n"]
)
def test_no_name_leads_to_another_path(name: str) -> None:
    for place in ((name, "x"), ("team", name)):
        with pytest.raises(ValueError, match="cannot be the name"):
            MCP_PROXY.path(*place)


class Watched:
    """The watch of one kind, and the MCPProxies that its events enqueue."""

    def __init__(self, kind: ResourceKind) -> None:
        registry, self.cache = kopf.OperatorRegistry(), WatchCache(FakeClock().time)
        self._enqueued: list[ProxyKey] = []
        add = lambda key, delay: self._enqueued.append(key)  # noqa: E731
        register_watches(registry, {kind: self.cache}, add)
        (handler,) = registry._watching.get_all_handlers()
        self._handle: Any = handler.fn

    async def enqueues(self, live: Object, type_: str | None = "MODIFIED") -> bool:
        """Return True if an event enqueues the MCPProxy."""
        self._enqueued.clear()
        await self._handle(body=live, type=type_)
        return self._enqueued == [KEY]


def a_version(kind: ResourceKind, number: int, **status: int) -> Object:
    """One version of a live object of `tools`."""
    metadata = {"namespace": "team", "name": "tools", "resourceVersion": str(number)}
    labels = {constants.LABEL_INSTANCE: "tools"}
    metadata |= {"generation": 1, "labels": labels}  # type: ignore[dict-item]
    return {"kind": kind.name, "metadata": metadata, "status": status}


async def test_an_event_of_an_own_write_enqueues_no_mcpproxy() -> None:
    watched = Watched(DEPLOYMENT)
    written = a_version(DEPLOYMENT, 2)
    watched.cache.store.put(written, KEY)
    assert not await watched.enqueues(written, "ADDED")
    assert await watched.enqueues(a_version(DEPLOYMENT, 3))
    assert await watched.enqueues(a_version(DEPLOYMENT, 3), "DELETED")


async def test_an_object_that_moves_to_another_mcpproxy_enqueues_both() -> None:
    watched = Watched(POD)
    assert await watched.enqueues(a_version(POD, 2))
    moved = a_version(POD, 3)
    moved["metadata"]["labels"] = {constants.LABEL_INSTANCE: "other"}
    await watched.enqueues(moved)
    assert set(watched._enqueued) == {KEY, ProxyKey("team", "other")}
    await watched.enqueues({**moved, "metadata": {**moved["metadata"], "resourceVersion": "4"}})
    assert watched._enqueued == [ProxyKey("team", "other")]


def a_route(owner: str, number: int, *, path: str = "/tools", **metadata: object) -> Object:
    """One version of the Ingress of an MCPProxy."""
    live = a_version(INGRESS, number)
    live["metadata"] |= {"name": owner, "labels": {constants.LABEL_INSTANCE: owner}, **metadata}
    rules = [{"host": "mcp.example.com", "http": {"paths": [{"path": path}]}}]
    return {**live, "spec": {"rules": rules}}


async def test_a_route_that_gains_or_loses_a_url_enqueues_all_mcpproxies_that_have_it() -> None:
    watched, other = Watched(INGRESS), ProxyKey("team", "other")
    await watched.enqueues(a_route("other", 2))
    await watched.enqueues(a_route("third", 3, path="/third"))
    await watched.enqueues(a_route("elsewhere", 4, namespace="others"))
    for type_, live, concerned in (
        ("ADDED", a_route("tools", 5), {KEY, other}),
        ("MODIFIED", a_route("tools", 6), {KEY}),
        ("MODIFIED", a_route("tools", 7, path="/other", generation=2), {KEY, other}),
        ("MODIFIED", a_route("tools", 8, generation=3), {KEY, other}),
        ("MODIFIED", {**a_route("tools", 9, generation=4), "spec": {}}, {KEY, other}),
        ("MODIFIED", a_route("tools", 10, generation=5), {KEY, other}),
        ("DELETED", a_route("tools", 11, generation=5), {KEY, other}),
        ("MODIFIED", a_route("other", 12, generation=2), {other}),
    ):
        await watched.enqueues(live, type_)
        assert set(watched._enqueued) == concerned, live["metadata"]["resourceVersion"]


async def test_a_list_enqueues_an_mcpproxy_even_after_an_own_write() -> None:
    """Versions of others, between what a pass has read and what it wrote, are not in it."""
    watched = Watched(DEPLOYMENT)
    written = a_version(DEPLOYMENT, 2)
    watched.cache.store.put(written, KEY)
    assert await watched.enqueues(written, None)


async def test_a_status_that_was_written_to_a_newer_spec_enqueues_its_mcpproxy() -> None:
    watched = Watched(MCP_PROXY)
    for number, observed, enqueues in ((2, 0, True), (3, 1, False)):
        written = a_version(MCP_PROXY, number, observedGeneration=observed)
        watched.cache.store.put(written, KEY)
        assert await watched.enqueues(written) is enqueues


def test_no_handler_is_of_a_kind_that_writes_on_users_objects() -> None:
    registry = kopf.OperatorRegistry()
    watches = {kind: WatchCache(FakeClock().time) for kind in SELECTORS}
    register_watches(registry, watches, lambda key, delay: None)
    assert registry._changing.get_all_handlers() == []
    assert registry._spawning.get_all_handlers() == []
    assert registry._indexing.get_all_handlers() == []
    assert len(registry._watching.get_all_handlers()) == len(SELECTORS)


def test_every_kind_but_our_own_is_watched_by_label() -> None:
    watched = selectors()
    assert set(watched) == {
        ("apps", "v1", "deployments"),
        *((("", "v1", plural)) for plural in ("services", "serviceaccounts", "configmaps", "pods")),
        ("networking.k8s.io", "v1", "networkpolicies"),
        ("networking.k8s.io", "v1", "ingresses"),
        ("gateway.networking.k8s.io", "v1", "httproutes"),
        ("monitoring.coreos.com", "v1", "podmonitors"),
        ("autoscaling", "v2", "horizontalpodautoscalers"),
        ("policy", "v1", "poddisruptionbudgets"),
    }
    for selector in watched.values():
        assert selector
    result = kopf_settings()
    assert not result.posting.enabled
    assert result.peering.standalone
    assert len(result.watching.label_selectors) == len(watched)
