"""Exposed: what Gateways and Ingress controllers say of the routes of an MCPProxy."""

import copy
from typing import Any

import pytest

from mcpproxy.api.kubernetes.objects import Object
from mcpproxy.cluster.resources import HTTP_ROUTE, INGRESS
from mcpproxy.limits.pods import ROUTE_MESSAGE
from mcpproxy.reconcile.exposure.route_views import route_view
from mcpproxy.reconcile.requeue import POLL
from tests.reconcile.stage import KEY, Stage
from tests.support.on_demand import ASKED, PUBLIC

TWO = {
    **PUBLIC,
    "expose": {
        "parentRefs": [
            {"name": "public", "namespace": "gateways", "sectionName": "https"},
            {"name": "local"},
        ]
    },
}
CONTROLLER = "example.com/controller"
ROUTE = ASKED[HTTP_ROUTE]


def about(ref: Object, accepted: str = "True", resolved: str = "True", seen: int = 1) -> Object:
    """Return a controller's status of a route at one parent."""
    conditions = [
        {
            "type": type_,
            "status": status,
            "reason": f"{type_}Is{status}",
            "message": f"{type_} is {status}",
            "observedGeneration": seen,
        }
        for type_, status in (("Accepted", accepted), ("ResolvedRefs", resolved))
    ]
    return {"parentRef": ref, "controllerName": CONTROLLER, "conditions": conditions}


async def tell(stage: Stage, *entries: Any) -> None:
    """Let controllers write the status of the HTTPRoute, and the operator see it."""
    live = stage.child(HTTP_ROUTE.name)
    stage.cluster.put({**live, "status": {"parents": list(entries)}}, "controller")
    await stage.reconcile()


LOCAL = {"name": "public"}
"""The parent of `ROUTE`, of which controllers may leave out the namespace."""


async def test_a_route_is_exposed_once_its_gateway_accepts_it_and_finds_its_service(
    stage: Stage,
) -> None:
    await stage.is_running(**ROUTE)
    assert stage.verdict("Exposed") == ("Unknown", "RoutePending")
    assert "Gateway team/public" in stage.message("Exposed")
    await tell(stage, about(LOCAL, accepted="Unknown"))
    assert stage.verdict("Exposed") == ("Unknown", "RoutePending")
    await tell(stage, about({**LOCAL, "namespace": "team"}))
    assert stage.verdict("Exposed") == ("True", "RouteAccepted")
    assert PUBLIC["publicUrl"] in stage.message("Exposed")
    await tell(stage, about(LOCAL, resolved="False"))
    assert stage.verdict("Exposed") == ("False", "RouteRefsNotResolved")
    await tell(stage, about(LOCAL, accepted="False"))
    assert stage.verdict("Exposed") == ("False", "RouteNotAccepted")
    assert "AcceptedIsFalse: Accepted is False" in stage.message("Exposed")
    assert stage.verdict("Ready") == ("True", "Serving")
    stage.user_applies(**PUBLIC)
    await stage.reconcile()
    assert stage.verdict("Exposed") is None


async def test_a_verdict_on_an_older_route_does_not_count(stage: Stage) -> None:
    await stage.is_running(**ROUTE)
    await tell(stage, about(LOCAL))
    assert stage.verdict("Exposed") == ("True", "RouteAccepted")
    live = stage.child(HTTP_ROUTE.name)
    live["metadata"]["generation"] = 2
    stage.cluster.put(live)
    for accepted in ("True", "False"):
        await tell(stage, about(LOCAL, accepted=accepted, seen=1))
        assert stage.verdict("Exposed") == ("Unknown", "RoutePending")
    await tell(stage, about(LOCAL, seen=2))
    assert stage.verdict("Exposed") == ("True", "RouteAccepted")


async def test_each_parent_must_accept_and_another_listener_does_not_stand_for_it(
    stage: Stage,
) -> None:
    await stage.is_running(**TWO)
    first, second = TWO["expose"]["parentRefs"]  # type: ignore[index]
    await tell(stage, about({**first, "sectionName": "http"}), about(second))
    assert stage.verdict("Exposed") == ("Unknown", "RoutePending")
    assert "listener https has not reported" in stage.message("Exposed")
    await tell(stage, about(first))
    assert stage.verdict("Exposed") == ("Unknown", "RoutePending")
    assert "Gateway team/local has not reported" in stage.message("Exposed")
    await tell(stage, about(first, accepted="False"), about(second))
    assert stage.verdict("Exposed") == ("False", "RouteNotAccepted")
    message = stage.message("Exposed")
    assert message.startswith("Gateway gateways/public, listener https: ")
    assert message.endswith("served by Gateway team/local")
    await tell(stage, about(first), about(second))
    assert stage.verdict("Exposed") == ("True", "RouteAccepted")


async def test_one_of_several_controllers_of_a_parent_is_enough(stage: Stage) -> None:
    await stage.is_running(**ROUTE)
    await tell(stage, about(LOCAL, accepted="False"), about(LOCAL))
    assert stage.verdict("Exposed") == ("True", "RouteAccepted")


async def test_an_exposed_proxy_without_authentication_is_logged_as_a_warning(stage: Stage) -> None:
    await stage.is_running(**ROUTE)
    await tell(stage, about(LOCAL))
    assert "without spec.authentication, everyone" in stage.message("Exposed")
    keys = {"apiKeys": [{"name": "a", "hashFrom": {"secretKeyRef": {"name": "a", "key": "b"}}}]}
    stage.user_applies(**ROUTE, authentication=keys)
    await stage.reconcile()
    assert stage.verdict("Exposed") == ("True", "RouteAccepted")
    assert "authentication" not in stage.message("Exposed")


async def test_addresses_are_the_public_url_and_that_of_the_service(stage: Stage) -> None:
    await stage.is_running(**ROUTE)
    results = [(address.type, address.url) for address in stage.status.addresses or []]
    inner = ("InCluster", "http://tools.team.svc/mcp")
    assert results == [("Public", PUBLIC["publicUrl"]), inner]
    assert stage.status.url == PUBLIC["publicUrl"]
    stage.user_applies()
    await stage.reconcile()
    assert [(item.type, item.url) for item in stage.status.addresses or []] == [inner]
    assert stage.status.url == inner[1]


async def test_a_cluster_without_the_gateway_api_is_reported_until_it_is_installed(
    stage: Stage,
) -> None:
    stage.cluster.lacking.add(HTTP_ROUTE.name)
    await stage.is_running(**ROUTE, monitoring={"podMonitor": {}})
    assert stage.verdict("Monitored") == ("True", "PodMonitorPresent")
    assert stage.verdict("Exposed") == ("False", "KindNotInstalled")
    assert "spec.expose.ingress" in stage.message("Exposed")
    assert await stage.reconcile() == POLL
    assert stage.cluster.writes == []
    stage.cluster.lacking.clear()
    await stage.reconcile()
    assert stage.verdict("Exposed") == ("Unknown", "RoutePending")
    await tell(stage, about(LOCAL))
    assert stage.verdict("Exposed") == ("True", "RouteAccepted")
    # As if the CRD were deleted: all its objects go with it.
    stage.cluster.remove(HTTP_ROUTE, *KEY)
    stage.cluster.lacking.add(HTTP_ROUTE.name)
    await stage.reconcile()
    assert stage.verdict("Exposed") == ("False", "KindNotInstalled")
    assert stage.verdict("Ready") == ("True", "Serving")


async def test_an_ingress_is_exposed_once_it_has_an_address(stage: Stage) -> None:
    await stage.is_running(**ASKED[INGRESS])
    assert stage.verdict("Exposed") == ("Unknown", "AddressPending")
    assert "IngressClass nginx" in stage.message("Exposed")
    live = stage.child(INGRESS.name)
    addresses = [{"ip": "203.0.113.7"}, {"hostname": "lb.example.com"}]
    stage.cluster.put({**live, "status": {"loadBalancer": {"ingress": addresses}}}, "controller")
    await stage.reconcile()
    assert stage.verdict("Exposed") == ("True", "AddressAssigned")
    assert "203.0.113.7, lb.example.com" in stage.message("Exposed")


async def test_parent_refs_replace_an_ingress(stage: Stage) -> None:
    await stage.is_running(**ASKED[INGRESS])
    stage.user_applies(**ROUTE)
    await stage.reconcile()
    assert (INGRESS.name, *KEY) not in stage.cluster.objects
    assert (HTTP_ROUTE.name, *KEY) in stage.cluster.objects


@pytest.mark.parametrize("kind", [HTTP_ROUTE, INGRESS], ids=lambda kind: kind.name)
async def test_the_newer_of_two_routes_for_one_url_is_not_exposed(stage: Stage, kind: Any) -> None:
    await stage.is_running(**ASKED[kind])
    older = stage.child(kind.name)
    older["metadata"] |= {
        "name": "older",
        "uid": "other",
        "creationTimestamp": "2020-01-01T00:00:00Z",
    }
    stage.cluster.put(older)
    mine = stage.child(kind.name)
    mine["metadata"]["creationTimestamp"] = "2020-01-02T00:00:00Z"
    stage.cluster.put(mine)
    assert await stage.reconcile() is None
    assert stage.verdict("Exposed") == ("False", "PublicUrlTaken")
    assert f"{kind.name} older" in stage.message("Exposed")
    assert "spec.publicUrl" in stage.message("Exposed")
    stage.cluster.remove(kind, KEY.namespace, "older")
    assert await stage.reconcile() is None
    assert stage.verdict("Exposed") in (("Unknown", "RoutePending"), ("Unknown", "AddressPending"))


def a_route(name: str, created: str, **spec: Any) -> Object:
    """An HTTPRoute for one path at one Gateway."""
    match = {"path": {"type": "Exact", "value": "/tools"}}
    content = {
        "parentRefs": [{"name": "public"}],
        "hostnames": ["mcp.example.com"],
        "rules": [{"matches": [match]}],
    }
    metadata = {"name": name, "namespace": "team", "generation": 1, "creationTimestamp": created}
    return {"kind": "HTTPRoute", "metadata": metadata, "spec": {**content, **spec}}


@pytest.mark.parametrize(
    ("spec", "rival"),
    [
        ({}, "other"),
        ({"parentRefs": [{"name": "public", "namespace": "team"}]}, "other"),
        ({"parentRefs": [{"name": "public", "sectionName": "https"}]}, "other"),
        ({"parentRefs": [{"name": "internal"}]}, ""),
        ({"hostnames": ["other.example.com"]}, ""),
        ({"rules": [{"matches": [{"path": {"value": "/other"}}]}]}, ""),
    ],
)
def test_routes_meet_at_a_gateway_a_host_and_a_path(spec: Object, rival: str) -> None:
    mine, other = a_route("mine", "2026-01-02"), a_route("other", "2026-01-01", **spec)
    assert route_view(mine, [mine, other]).rival == rival
    assert route_view(other, [mine, other]).rival == ""


def test_routes_of_different_listeners_do_not_meet() -> None:
    mine = a_route("mine", "2", parentRefs=[{"name": "public", "sectionName": "a"}])
    other = a_route("other", "1", parentRefs=[{"name": "public", "sectionName": "b"}])
    assert route_view(mine, [mine, other]).rival == ""


HOSTILE: list[Any] = [
    "text",
    {},
    [None, 1, "x", []],
    [{"parentRef": "x", "conditions": "x"}],
    [{"parentRef": LOCAL, "conditions": [None, {"type": ["x"]}, {"type": "Accepted"}]}],
    [{"parentRef": LOCAL, "conditions": [{"type": "Accepted", "status": ["True"]}]}],
    [{"parentRef": LOCAL, "conditions": [{"type": "Accepted", "status": {"a": 1}}]}],
]


@pytest.mark.parametrize("parents", HOSTILE)
async def test_a_status_with_unexpected_types_does_not_count(stage: Stage, parents: Any) -> None:
    await stage.is_running(**ROUTE)
    live = stage.child(HTTP_ROUTE.name)
    for status in ({"parents": parents}, parents):
        stage.cluster.put({**copy.deepcopy(live), "status": status}, "controller")
        await stage.reconcile()
        assert stage.verdict("Exposed") == ("Unknown", "RoutePending")


@pytest.mark.parametrize("balancer", ["x", [], {"ingress": "x"}, {"ingress": [None, "x"]}])
async def test_an_address_of_an_unexpected_type_is_none(stage: Stage, balancer: Any) -> None:
    await stage.is_running(**ASKED[INGRESS])
    live = stage.child(INGRESS.name)
    stage.cluster.put({**live, "status": {"loadBalancer": balancer}}, "controller")
    await stage.reconcile()
    assert stage.verdict("Exposed") == ("Unknown", "AddressPending")


async def test_the_text_of_a_gateway_is_cut_and_cleaned(stage: Stage) -> None:
    await stage.is_running(**ROUTE)
    entry = about(LOCAL, accepted="False")
    entry["conditions"][0] |= {"message": "\x1b[31mred\u202e\ud800" + "x" * 99_999}
    await tell(stage, entry)
    message = stage.message("Exposed")
    assert message.startswith("Gateway team/public: AcceptedIsFalse: \ufffd[31mred\ufffd\ufffdxxx")
    assert len(message) == len("Gateway team/public: ") + ROUTE_MESSAGE.value
    assert message.endswith("…")
