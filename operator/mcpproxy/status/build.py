"""What was observed → the status of the MCPProxy."""

from collections.abc import Sequence

from mcpproxy.api import defaults, names
from mcpproxy.api.agreement import is_served
from mcpproxy.api.status import BackendStatus, Condition, MCPProxyStatus
from mcpproxy.status import checks, doubts, drift, extras, progress, reasons
from mcpproxy.status.merge import catalog_hash, counted, merge, totals
from mcpproxy.status.observed import Observed
from mcpproxy.status.summary import summary
from mcpproxy.status.verdict import Verdict


def build_status(observed: Observed, before: MCPProxyStatus | None, now: str) -> MCPProxyStatus:
    """The whole status; `now` (RFC 3339) is used for conditions whose status changed alone."""
    reports = observed.reports
    wanted = [backend.name for backend in observed.spec.backends] if observed.spec else []
    merged = merge(wanted, reports, _held(observed, before))
    backends = [_noted(_with_mode(observed, backend), observed) for backend in merged]
    deployment = observed.deployment
    ready = checks.ready(observed, backends)
    verdicts = {
        reasons.ACCEPTED: checks.accepted(observed),
        reasons.AVAILABLE: progress.available(observed),
        reasons.BACKENDS_HEALTHY: checks.backends_healthy(observed, backends),
        reasons.READY: ready,
        reasons.RECONCILING: progress.reconciling(observed, before),
        reasons.STALLED: progress.stalled(observed),
        reasons.SUSPENDED: extras.suspended(observed),
        reasons.AUTOSCALED: extras.autoscaled(observed),
        reasons.MONITORED: extras.monitored(observed),
        reasons.CATALOG_DRIFT: drift.catalog_drift(observed, reports),
    }
    return MCPProxyStatus(
        observed_generation=observed.generation,
        conditions=[
            set_condition(type_, verdict, observed.generation, before, now)
            for type_, verdict in verdicts.items()
            if verdict is not None
        ],
        summary=summary(observed, verdicts, backends),
        pods=f"{deployment.ready}/{deployment.desired}" if deployment else None,
        url=_url(observed, before, ready),
        replicas=deployment.replicas if deployment else None,
        ready_replicas=deployment.ready if deployment else None,
        selector=_selector(observed.name) if deployment else None,
        session_mode=defaults.session_modes(observed.spec) if observed.spec else None,
        backends_healthy=_ratio(backends),
        backends=backends or None,
        components=totals(backends),
        backends_counted=counted(backends),
        catalog_hash=_catalog_hash(observed, before),
    )


def _noted(backend: BackendStatus, observed: Observed) -> BackendStatus:
    """A backend with what is wrong with its Service after its own message."""
    note = observed.service_notes.get(backend.name)
    if note is None or is_served(backend):
        return backend
    message = "; ".join(filter(None, (backend.message, note)))
    return backend.model_copy(update={"message": message})


def _with_mode(observed: Observed, backend: BackendStatus) -> BackendStatus:
    """A backend's status with the session mode that the spec gives it."""
    backends = observed.spec.backends if observed.spec else []
    for spec in backends:
        if observed.spec and spec.name == backend.name:
            mode, origin = defaults.session_mode(observed.spec, spec)
            update = {"session_mode": mode, "session_mode_from": origin}
            return backend.model_copy(update=update)
    return backend


def _held(observed: Observed, before: MCPProxyStatus | None) -> dict[str, BackendStatus]:
    """What was told before of backends about which a doubt is too young to be told."""
    found = {backend.name: backend for backend in (before.backends or [])} if before else {}
    wanted = [backend.name for backend in observed.spec.backends] if observed.spec else []
    return {
        name: found.get(name) or BackendStatus(name=name, state="Unknown")
        for name in wanted
        if doubts.of_backend(name) in observed.young
    }


def _catalog_hash(observed: Observed, before: MCPProxyStatus | None) -> str | None:
    if doubts.CATALOG in observed.young:
        return before.catalog_hash if before else None
    return None if doubts.unheard(observed) else catalog_hash(observed.reports)


def set_condition(
    type_: str, verdict: Verdict, generation: int, before: MCPProxyStatus | None, now: str
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


def _url(observed: Observed, before: MCPProxyStatus | None, ready: Verdict | None) -> str | None:
    serves = ready is not None and (ready.status, ready.reason) == ("True", reasons.SERVING)
    reached = serves or (before is not None and before.url is not None)
    if not reached:
        return None
    if observed.spec is None:
        return before.url if before else None
    port = defaults.service_port(observed.spec)
    return names.service_url(observed.name, observed.namespace, port)


def _selector(name: str) -> str:
    labels = names.selector_labels(name)
    return ",".join(f"{key}={labels[key]}" for key in sorted(labels))


def _ratio(backends: Sequence[BackendStatus]) -> str | None:
    if all(found.state == "Unknown" for found in backends):
        return None
    healthy = sum(1 for found in backends if found.state == "Healthy")
    return f"{healthy}/{len(backends)}"
