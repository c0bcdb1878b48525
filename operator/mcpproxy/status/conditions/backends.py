"""Pure checks: what was observed → the verdict of each condition."""

from collections.abc import Mapping, Sequence
from typing import Final

from mcpproxy.api import constants
from mcpproxy.api.v1alpha1 import MCPProxySpec
from mcpproxy.api.v1alpha1.status import BackendState, BackendStatus
from mcpproxy.report_aggregation import is_serving
from mcpproxy.status import disagreement, reasons
from mcpproxy.status.conditions.condition import ConditionValue
from mcpproxy.status.conditions.pods import check_available, check_deletion, summarize_problems
from mcpproxy.status.inputs import StatusInput

_NAMED = 5


def check_accepted(observed: StatusInput) -> ConditionValue:
    """Whether the spec can be built."""
    if observed.rejected is None:
        notes = f"{_unverified(observed.spec)}{_hidden(observed)}{_older_crd(observed)}"
        return ConditionValue("True", reasons.VALID, f"the spec is valid{notes}")
    kept = "; the pods go on with the last valid spec" if observed.deployment else ""
    return ConditionValue("False", reasons.INVALID_SPEC, f"{observed.rejected}{kept}")


def check_backends_healthy(
    observed: StatusInput, backends: Sequence[BackendStatus]
) -> ConditionValue:
    """Whether every backend is Healthy, optional ones too."""
    if not observed.serving:
        return ConditionValue(
            "Unknown", reasons.BACKENDS_UNKNOWN, "no pod is ready, so no backend is checked"
        )
    verdict = _backends_healthy(observed, backends)
    said = [verdict.message, *disagreement.disagreement_notes(observed)]
    return ConditionValue(verdict.status, verdict.reason, "; ".join(said))


def _backends_healthy(observed: StatusInput, backends: Sequence[BackendStatus]) -> ConditionValue:
    bad = _failed(backends)
    if bad:
        return ConditionValue("False", reasons.BACKENDS_UNHEALTHY, _name(bad))
    for state, reason in _IN_TROUBLE.items():
        found = [backend for backend in backends if backend.state == state]
        if found:
            return ConditionValue("False", reason, _name(found))
    unknown = [found for found in backends if found.state == "Unknown"]
    if unknown:
        return ConditionValue("Unknown", reasons.BACKENDS_UNKNOWN, _name(unknown))
    healthy = f"{len(backends)} of {len(backends)} healthy"
    if disagreement.missing_reports(observed):
        return ConditionValue("Unknown", reasons.PODS_NOT_HEARD, healthy)
    differing = [found for found in backends if found.reason == reasons.PODS_DIFFER]
    if differing or disagreement.disagreement_notes(observed):
        named = _name(differing)
        message = f"{healthy}; {named}" if named else healthy
        return ConditionValue("True", reasons.PODS_DIFFER, message)
    return ConditionValue("True", reasons.ALL_HEALTHY, healthy)


def check_ready(observed: StatusInput, backends: Sequence[BackendStatus]) -> ConditionValue:
    """Whether agents are served as the spec says.

    True as well where it asks for no pods: nothing is missing, and whoever waits for it goes on.
    """
    if observed.terminating:
        return ConditionValue("False", reasons.TERMINATING, check_deletion(observed))
    if observed.rejected is not None:
        return ConditionValue("False", reasons.INVALID_SPEC, observed.rejected)
    blocked = observed.blocked
    if blocked is not None and not (observed.serving and blocked.reason in reasons.HARMLESS):
        status = check_available(observed).status
        return ConditionValue(
            "False" if status == "True" else status, blocked.reason, blocked.message
        )
    pods = check_available(observed)
    if pods.reason == reasons.SCALED_TO_ZERO:
        return ConditionValue("True", pods.reason, pods.message)
    if pods.status != "True":
        return pods
    required = _required(observed.spec)
    if observed.outdated:
        # Of a backend that only the new configuration has nothing can be known yet.
        required &= {view.name for report in observed.reports for view in report.backends}
    bad = [found for found in _failed(backends) if found.name in required]
    if bad:
        return ConditionValue("False", reasons.BACKENDS_UNHEALTHY, _name(bad))
    unknown = [found for found in backends if found.name in required and found.state == "Unknown"]
    if unknown:
        said = filter(None, (_name(unknown), disagreement.unread_pods(observed)))
        return ConditionValue("Unknown", reasons.BACKENDS_UNKNOWN, "; ".join(said))
    message = _serving(observed, backends)
    if 2 * disagreement.missing_reports(observed) > len(observed.serving):
        return ConditionValue("Unknown", reasons.PODS_NOT_HEARD, message)
    return ConditionValue("True", reasons.SERVING, message)


def _unverified(spec: MCPProxySpec | None) -> str:
    """A word on backends whose certificates are not checked: who reviews the status has to know."""
    found = [
        backend.name
        for backend in (spec.backends if spec else ())
        if backend.tls is not None and backend.tls.insecure_skip_verify
    ]
    whose = ", ".join(found[:_NAMED]) + (" and others" if len(found) > _NAMED else "")
    return f"; tls.insecureSkipVerify: any certificate is taken of {whose}" if found else ""


def _older_crd(observed: StatusInput) -> str:
    fields = ", ".join(sorted(observed.undeclared))
    note = "; the installed CRD is older than the operator and lacks {}: apply the newer CRD"
    return note.format(fields) if fields else ""


def _hidden(observed: StatusInput) -> str:
    """Where the NetworkPolicy lets a whole namespace through, and the remedy.

    The sentence is the same whether or not such a Service exists.
    """
    found = sorted(f"{namespace}/{name}" for namespace, name in observed.hidden_services)
    if not found:
        return ""
    named = ", ".join(found[:_NAMED]) + (" and others" if len(found) > _NAMED else "")
    return (
        f"; networkPolicy: all pods of the namespaces of {named} can be reached, as the pods behind"
        f" a Service are shown in another namespace only if it has the annotation"
        f" {constants.ANNOTATION_ALLOW_FROM}: {observed.namespace}"
    )


_IN_TROUBLE: Final[Mapping[BackendState, str]] = {
    "RateLimited": reasons.BACKENDS_RATE_LIMITED,
    "Degraded": reasons.BACKENDS_DEGRADED,
}
"""States of backends that are served all the same, the worst first."""


def _failed(backends: Sequence[BackendStatus]) -> list[BackendStatus]:
    return [found for found in backends if not (found.state == "Unknown" or is_serving(found))]


def _required(spec: MCPProxySpec | None) -> set[str]:
    return {backend.name for backend in spec.backends if not backend.optional} if spec else set()


def _name(backends: Sequence[BackendStatus]) -> str:
    named = [
        f"{found.name} is {found.state}" + (f": {found.message}" if found.message else "")
        for found in backends[:_NAMED]
    ]
    more = len(backends) - len(named)
    return "; ".join(named) + (f"; and {more} more" if more else "")


def _optional(observed: StatusInput, backends: Sequence[BackendStatus]) -> str:
    """See `_name`, of backends without which the proxy is ready."""
    required = _required(observed.spec)
    named = [
        found
        if found.name in required
        else found.model_copy(update={"name": f"{found.name} (optional)"})
        for found in backends
    ]
    return _name(named)


def _serving(observed: StatusInput, backends: Sequence[BackendStatus]) -> str:
    works = sum(map(is_serving, backends))
    clashes = sorted(
        {name for pod in observed.serving if pod.report for name in pod.report.clashes}
    )
    said = [f"{works} of {len(backends)} backends are served"]
    troubled = [found for found in backends if found.state in _IN_TROUBLE]
    troubled += _failed(backends)
    if troubled:
        said.append(_optional(observed, troubled))
    said += disagreement.disagreement_notes(observed)
    deployment = observed.deployment
    if deployment is not None and (
        observed.outdated or observed.superseded or len(observed.serving) < deployment.desired
    ):
        said.append(summarize_problems(observed))
    if observed.blocked is not None:
        said.append(observed.blocked.message)
    if clashes:
        named = ", ".join(clashes[:_NAMED])
        more = f" and {len(clashes) - _NAMED} more" if len(clashes) > _NAMED else ""
        said.append(f"two backends claim {named}{more}: give one of them another prefix")
    return "; ".join(said)
