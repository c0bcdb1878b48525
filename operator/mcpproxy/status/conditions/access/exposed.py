"""Checks of Exposed: clients outside the cluster reach the proxy at publicUrl."""

from collections.abc import Sequence
from typing import Literal

from mcpproxy.status import reasons
from mcpproxy.status.conditions.condition import ABSENT, Absence, ConditionValue
from mcpproxy.status.conditions.messages import LISTED, describe_absent
from mcpproxy.status.inputs import StatusInput

_KIND = "HTTPRoute"


def exposure_is_not_requested(observed: StatusInput) -> Literal[Absence.ABSENT] | None:
    """Apply if the spec has no `expose`."""
    return ABSENT if observed.spec is None or observed.spec.expose is None else None


def http_route_is_not_installed(observed: StatusInput) -> ConditionValue | None:
    """Apply if the cluster lacks the kind HTTPRoute."""
    if _KIND not in observed.missing_kinds:
        return None
    return ConditionValue(
        "False",
        reasons.KIND_NOT_INSTALLED,
        f"the cluster has no kind {_KIND}; install the Gateway API and an implementation of it, or"
        " replace spec.expose.parentRefs with spec.expose.ingress",
    )


def route_is_absent(observed: StatusInput) -> ConditionValue | None:
    """Apply until the route has been created."""
    if observed.route.kind:
        return None
    message = describe_absent(_requested_kind(observed), observed)
    return ConditionValue("Unknown", reasons.ROUTE_PENDING, message)


def public_url_is_taken(observed: StatusInput) -> ConditionValue | None:
    """Apply if an older route of the namespace has the same host and path."""
    route = observed.route
    if not route.rival:
        return None
    return ConditionValue(
        "False",
        reasons.PUBLIC_URL_TAKEN,
        f"{route.kind} {route.rival} is older and has the same host and path, so it gets the"
        " requests; change spec.publicUrl of one of the two",
    )


def route_is_not_accepted(observed: StatusInput) -> ConditionValue | None:
    """Apply if a Gateway refuses the route, or can't resolve its Service."""
    route = observed.route
    if not route.problems:
        return None
    served = f"; served by {_list(route.served_by)}" if route.served_by else ""
    problems = _list([problem.message for problem in route.problems])
    return ConditionValue("False", route.problems[0].reason, f"{problems}{served}")


def controller_has_not_reported(observed: StatusInput) -> ConditionValue | None:
    """Apply if a Gateway has not reported on the newest route, or an Ingress has no address."""
    route = observed.route
    if not route.pending:
        return None
    if route.kind == _KIND:
        message = (
            f"{_list(route.pending)} has not reported on the newest {route.kind}; check that the"
            " Gateway exists and that its controller runs"
        )
        return ConditionValue("Unknown", reasons.ROUTE_PENDING, message)
    message = (
        f"the controller of {_list(route.pending)} has not assigned an address to the Ingress;"
        " check that it runs and publishes addresses"
    )
    return ConditionValue("Unknown", reasons.ADDRESS_PENDING, message)


def route_is_served(observed: StatusInput) -> ConditionValue | None:
    """Apply in all other cases."""
    route = observed.route
    url = observed.spec.public_url if observed.spec else None
    if route.kind == _KIND:
        reason, cause = reasons.ROUTE_ACCEPTED, f"{_list(route.served_by)} serves {url}"
    else:
        reason = reasons.ADDRESS_ASSIGNED
        cause = f"the Ingress for {url} has the address {_list(route.served_by)}"
    return ConditionValue("True", reason, f"{cause}{_warning(observed)}")


def _warning(observed: StatusInput) -> str:
    spec = observed.spec
    if spec is None or spec.authentication is not None or spec.principal_from is not None:
        return ""
    return (
        "; without spec.authentication, everyone who reaches this URL may use the proxy: set"
        " authentication, or let the Gateway authenticate clients"
    )


def _requested_kind(observed: StatusInput) -> str:
    expose = observed.spec.expose if observed.spec else None
    return _KIND if expose is not None and expose.parent_refs is not None else "Ingress"


def _list(parts: Sequence[str]) -> str:
    return ", ".join(parts[:LISTED]) + (" and others" if len(parts) > LISTED else "")
