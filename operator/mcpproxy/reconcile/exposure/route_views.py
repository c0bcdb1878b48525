"""Conversion of a live HTTPRoute or Ingress to the values of the condition Exposed. Pure.

Controllers of other makers write these statuses: nothing in them is trusted to have a certain type
or length.
"""

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Final

from mcpproxy.api.kubernetes.objects import Object
from mcpproxy.api.untrusted_text import clean_text
from mcpproxy.cluster.resources import HTTP_ROUTE
from mcpproxy.limits.pods import ROUTE_MESSAGE
from mcpproxy.status import reasons
from mcpproxy.status.inputs import ConditionReason, RouteView

MAX_URLS: Final = 64
"""Number of hosts and paths of a route; one of an MCPProxy has a few."""

_REASONS: Final = {
    "Accepted": reasons.ROUTE_NOT_ACCEPTED,
    "ResolvedRefs": reasons.ROUTE_REFS_NOT_RESOLVED,
}
"""Conditions that must be True → reason if one of them is False."""

Verdict = ConditionReason | bool
"""True for a route that a Gateway serves, False while that is unknown, or the reason against it."""


def route_view(live: Object | None, others: Iterable[Object] = ()) -> RouteView:
    """Return the state of a route; `others` are the routes of its namespace, itself included."""
    if live is None:
        return RouteView()
    view = _http_route(live) if live["kind"] == HTTP_ROUTE.name else _ingress(live)
    kind, problems, pending, served = view
    return RouteView(kind, tuple(problems), tuple(pending), tuple(served), _rival(live, others))


_View = tuple[str, list[ConditionReason], list[str], list[str]]


def _http_route(live: Object) -> _View:
    """Return the verdicts of the Gateways, in the order of the route's parentRefs."""
    problems: list[ConditionReason] = []
    pending: list[str] = []
    served: list[str] = []
    entries = [*_objects(_object(live.get("status")).get("parents"))]
    for ref in _objects(live["spec"].get("parentRefs")):
        gateway = _describe(ref, live)
        verdict = _verdict(live, [entry for entry in entries if _is_about(entry, ref, live)])
        if isinstance(verdict, ConditionReason):
            problems.append(ConditionReason(verdict.reason, f"{gateway}: {verdict.message}"))
        else:
            (served if verdict else pending).append(gateway)
    return HTTP_ROUTE.name, problems, pending, served


def _verdict(live: Object, entries: list[Object]) -> Verdict:
    """Return the verdict on one parentRef, of which several controllers may have written."""
    verdicts = [_verdict_of(live, entry) for entry in entries]
    if any(verdict is True for verdict in verdicts):
        return True
    refusals = [verdict for verdict in verdicts if isinstance(verdict, ConditionReason)]
    return refusals[0] if refusals else False


def _verdict_of(live: Object, entry: Object) -> Verdict:
    newest, served = live["metadata"]["generation"], True
    by_type = {str(item.get("type")): item for item in _objects(entry.get("conditions"))}
    for type_, reason in _REASONS.items():
        condition = by_type.get(type_, {})
        if _is_stale(condition, newest) or condition.get("status") not in ("True", "False"):
            served = False
        elif condition["status"] == "False":
            cause, message = condition.get("reason"), condition.get("message")
            return ConditionReason(reason, _text(f"{cause}: {message}" if message else cause))
    return served


def _is_stale(condition: Object, newest: int) -> bool:
    seen = condition.get("observedGeneration")
    return isinstance(seen, int) and seen < newest


def _ingress(live: Object) -> _View:
    balancer = _object(_object(live.get("status")).get("loadBalancer"))
    entries = _objects(balancer.get("ingress"))
    addresses = [_text(entry.get("hostname") or entry.get("ip")) for entry in entries]
    name = live["spec"].get("ingressClassName")
    class_ = "the default IngressClass" if name is None else f"the IngressClass {name}"
    return "Ingress", [], [] if addresses else [class_], addresses


def _rival(live: Object, others: Iterable[Object]) -> str:
    """Return the name of the older route for the same URL, which Gateways prefer; "" without."""
    own = urls_of(live)
    rivals = [
        other
        for other in others
        if _age(other) < _age(live) and not own.isdisjoint(urls_of(other)) and _meet(live, other)
    ]
    return str(min(rivals, key=_age)["metadata"]["name"]) if rivals else ""


def _age(live: Object) -> tuple[str, str]:
    return live["metadata"].get("creationTimestamp", ""), live["metadata"]["name"]


def urls_of(live: Object) -> frozenset[tuple[str, str]]:
    """Return the hosts and paths of a route; of one with more than MAX_URLS, the first ones."""
    return frozenset(islice(_urls(live), MAX_URLS))


def _urls(live: Object) -> Iterator[tuple[str, str]]:
    spec = live["spec"]
    for rule in _objects(spec.get("rules")):
        for host in spec.get("hostnames") or []:
            for match in _objects(rule.get("matches")):
                yield str(host), str(_object(match.get("path")).get("value"))
        for path in _objects(_object(rule.get("http")).get("paths")):
            yield str(rule.get("host")), str(path.get("path"))


def _meet(live: Object, other: Object) -> bool:
    """Return True if the same Gateway or class serves both."""
    if live["kind"] != HTTP_ROUTE.name:
        return bool(live["spec"].get("ingressClassName") == other["spec"].get("ingressClassName"))
    return any(
        _gateway(mine, live) == _gateway(theirs, other) and _share_listener(mine, theirs)
        for mine in _objects(live["spec"].get("parentRefs"))
        for theirs in _objects(other["spec"].get("parentRefs"))
    )


def _share_listener(mine: Object, theirs: Object) -> bool:
    """Return True unless two references name different listeners; without a name, all are meant."""
    listeners = {mine.get("sectionName"), theirs.get("sectionName")}
    return None in listeners or len(listeners) == 1


def _gateway(ref: Object, route: Object) -> tuple[Any, Any]:
    return ref.get("namespace") or route["metadata"]["namespace"], ref.get("name")


def _is_about(entry: Object, ref: Object, route: Object) -> bool:
    parent = _object(entry.get("parentRef"))
    same = all(parent.get(field) == ref.get(field) for field in ("sectionName", "port"))
    return same and _gateway(parent, route) == _gateway(ref, route)


def _describe(ref: Object, route: Object) -> str:
    namespace, name = _gateway(ref, route)
    section = f", listener {ref['sectionName']}" if ref.get("sectionName") else ""
    port = f", port {ref['port']}" if ref.get("port") else ""
    return f"Gateway {namespace}/{name}{section}{port}"


def _text(value: Any) -> str:
    text = "" if value is None else str(value)
    if len(text) > ROUTE_MESSAGE.value:
        ROUTE_MESSAGE.record()
    return clean_text(text, ROUTE_MESSAGE.value)


def _object(value: Any) -> Object:
    return value if isinstance(value, dict) else {}


def _objects(value: Any) -> list[Object]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
