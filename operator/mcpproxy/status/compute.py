"""What was observed → the status of the MCPProxy."""

from collections.abc import Sequence

from mcpproxy.api import constants, defaults
from mcpproxy.api.v1alpha1.status import BackendStatus, Condition, MCPProxyStatus
from mcpproxy.report_aggregation import is_serving
from mcpproxy.status import disagreement, reasons
from mcpproxy.status.backends import catalog_hash, count_components, merge_backends, total_counts
from mcpproxy.status.conditions import backends as backend_conditions
from mcpproxy.status.conditions import catalog, optional, pods
from mcpproxy.status.conditions.condition import ConditionValue
from mcpproxy.status.inputs import StatusInput
from mcpproxy.status.summary import summarize


def build_status(observed: StatusInput, before: MCPProxyStatus | None, now: str) -> MCPProxyStatus:
    """The whole status; `now` (RFC 3339) is used for conditions whose status changed alone."""
    reports = observed.reports
    wanted = [backend.name for backend in observed.spec.backends] if observed.spec else []
    merged = merge_backends(wanted, reports, _held(observed, before))
    backends = [_noted(_with_mode(observed, backend), observed) for backend in merged]
    deployment = observed.deployment
    ready = backend_conditions.check_ready(observed, backends)
    verdicts = {
        reasons.ACCEPTED: backend_conditions.check_accepted(observed),
        reasons.AVAILABLE: pods.check_available(observed),
        reasons.BACKENDS_HEALTHY: backend_conditions.check_backends_healthy(observed, backends),
        reasons.READY: ready,
        reasons.RECONCILING: pods.check_reconciling(observed, before),
        reasons.STALLED: pods.check_stalled(observed),
        reasons.SUSPENDED: optional.check_suspended(observed),
        reasons.AUTOSCALED: optional.check_autoscaled(observed),
        reasons.MONITORED: optional.check_monitored(observed),
        reasons.CATALOG_DRIFT: catalog.check_catalog_drift(observed, reports),
    }
    return MCPProxyStatus(
        observed_generation=observed.generation,
        conditions=[
            set_condition(type_, verdict, observed.generation, before, now)
            for type_, verdict in verdicts.items()
            if verdict is not None
        ],
        summary=summarize(observed, verdicts, backends),
        pods=f"{deployment.ready}/{deployment.desired}" if deployment else None,
        url=_url(observed, before, ready),
        replicas=deployment.replicas if deployment else None,
        ready_replicas=deployment.ready if deployment else None,
        selector=_selector(observed.name) if deployment else None,
        session_mode=defaults.session_modes(observed.spec) if observed.spec else None,
        backends_healthy=_ratio(backends),
        backends=backends or None,
        components=total_counts(backends),
        backends_counted=count_components(backends),
        catalog_hash=_catalog_hash(observed, before),
    )


def _noted(backend: BackendStatus, observed: StatusInput) -> BackendStatus:
    """A backend with what is wrong with its Service after its own message."""
    note = observed.service_notes.get(backend.name)
    if note is None or is_serving(backend):
        return backend
    message = "; ".join(filter(None, (backend.message, note)))
    return backend.model_copy(update={"message": message})


def _with_mode(observed: StatusInput, backend: BackendStatus) -> BackendStatus:
    """A backend's status with the session mode that the spec gives it."""
    backends = observed.spec.backends if observed.spec else []
    for spec in backends:
        if observed.spec and spec.name == backend.name:
            mode, origin = defaults.session_mode(observed.spec, spec)
            update = {"session_mode": mode, "session_mode_from": origin}
            return backend.model_copy(update=update)
    return backend


def _held(observed: StatusInput, before: MCPProxyStatus | None) -> dict[str, BackendStatus]:
    """What was told before of backends about which a doubt is too young to be told."""
    found = {backend.name: backend for backend in (before.backends or [])} if before else {}
    wanted = [backend.name for backend in observed.spec.backends] if observed.spec else []
    return {
        name: found.get(name) or BackendStatus(name=name, state="Unknown")
        for name in wanted
        if disagreement.backend_key(name) in observed.young
    }


def _catalog_hash(observed: StatusInput, before: MCPProxyStatus | None) -> str | None:
    if disagreement.CATALOG in observed.young:
        return before.catalog_hash if before else None
    return None if disagreement.missing_reports(observed) else catalog_hash(observed.reports)


def set_condition(
    type_: str, verdict: ConditionValue, generation: int, before: MCPProxyStatus | None, now: str
) -> Condition:
    """The condition of this type; lastTransitionTime stays unless the status changed."""
    earlier = find_condition(before, type_)
    unchanged = earlier is not None and earlier.status == verdict.status
    return Condition(
        type=type_,
        status=verdict.status,
        observed_generation=generation,
        last_transition_time=earlier.last_transition_time if earlier and unchanged else now,
        reason=verdict.reason,
        message=verdict.message,
    )


def find_condition(status: MCPProxyStatus | None, type_: str) -> Condition | None:
    """The condition of one type; None when there is none."""
    conditions = (status.conditions or []) if status else []
    return next((found for found in conditions if found.type == type_), None)


def _url(
    observed: StatusInput, before: MCPProxyStatus | None, ready: ConditionValue | None
) -> str | None:
    serves = ready is not None and (ready.status, ready.reason) == ("True", reasons.SERVING)
    reached = serves or (before is not None and before.url is not None)
    if not reached:
        return None
    if observed.spec is None:
        return before.url if before else None
    port = defaults.service_port(observed.spec)
    return constants.service_url(observed.name, observed.namespace, port)


def _selector(name: str) -> str:
    labels = constants.selector_labels(name)
    return ",".join(f"{key}={labels[key]}" for key in sorted(labels))


def _ratio(backends: Sequence[BackendStatus]) -> str | None:
    if all(found.state == "Unknown" for found in backends):
        return None
    healthy = sum(1 for found in backends if found.state == "Healthy")
    return f"{healthy}/{len(backends)}"
