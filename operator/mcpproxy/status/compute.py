"""Computation of the status of an MCPProxy from its `StatusInput`. Pure."""

from collections.abc import Sequence
from dataclasses import replace

from mcpproxy.api import constants, defaults
from mcpproxy.api.v1alpha1.status import Address, BackendStatus, Condition, MCPProxyStatus
from mcpproxy.report_aggregation import is_serving
from mcpproxy.status import disagreement, reasons
from mcpproxy.status.backends import catalog_hash, count_components, merge_backends, total_counts
from mcpproxy.status.conditions import decide_conditions
from mcpproxy.status.conditions.condition import ConditionValue
from mcpproxy.status.inputs import StatusInput
from mcpproxy.status.summary import summarize


def build_status(observed: StatusInput, before: MCPProxyStatus | None, now: str) -> MCPProxyStatus:
    """Return the whole status.

    `now`, in RFC 3339, becomes the transition time of conditions whose status differs from
    `before`.
    """
    complete = replace(observed, before=before)
    complete = replace(complete, backends=tuple(_backends(complete)))
    values = decide_conditions(complete)
    deployment = observed.deployment
    addresses = _addresses(complete, values[reasons.READY])
    return MCPProxyStatus(
        observed_generation=observed.generation,
        conditions=[
            set_condition(type_, value, observed.generation, before, now)
            for type_, value in values.items()
        ],
        summary=summarize(complete, values),
        pods=f"{deployment.ready}/{deployment.desired}" if deployment else None,
        url=addresses[0].url if addresses else _kept_url(complete),
        addresses=addresses,
        replicas=deployment.replicas if deployment else None,
        ready_replicas=deployment.ready if deployment else None,
        selector=_selector(observed.name) if deployment else None,
        session_mode=defaults.session_modes(observed.spec) if observed.spec else None,
        backends_healthy=_ratio(complete.backends),
        backends=list(complete.backends) or None,
        components=total_counts(complete.backends),
        backends_counted=count_components(complete.backends),
        catalog_hash=_catalog_hash(complete),
    )


def _backends(observed: StatusInput) -> list[BackendStatus]:
    """Return the backends of the spec as all pods report them, by name."""
    names = [backend.name for backend in observed.spec.backends] if observed.spec else []
    merged = merge_backends(names, observed.reports, _previous_values(observed))
    return [_with_note(_with_mode(observed, backend), observed) for backend in merged]


def _with_note(backend: BackendStatus, observed: StatusInput) -> BackendStatus:
    """Append the error of its Service to the message of a backend that does not serve."""
    note = observed.service_notes.get(backend.name)
    if note is None or is_serving(backend):
        return backend
    message = "; ".join(filter(None, (backend.message, note)))
    return backend.model_copy(update={"message": message})


def _with_mode(observed: StatusInput, backend: BackendStatus) -> BackendStatus:
    """Add the session mode of the spec to a backend."""
    backends = observed.spec.backends if observed.spec else []
    for spec in backends:
        if observed.spec and spec.name == backend.name:
            mode, origin = defaults.session_mode(observed.spec, spec)
            update = {"session_mode": mode, "session_mode_from": origin}
            return backend.model_copy(update=update)
    return backend


def _previous_values(observed: StatusInput) -> dict[str, BackendStatus]:
    """Return the stored backends whose disagreements are debounced."""
    before = observed.before
    stored = {backend.name: backend for backend in (before.backends or [])} if before else {}
    names = [backend.name for backend in observed.spec.backends] if observed.spec else []
    return {
        name: stored.get(name) or BackendStatus(name=name, state="Unknown")
        for name in names
        if disagreement.backend_key(name) in observed.debounced
    }


def _catalog_hash(observed: StatusInput) -> str | None:
    if disagreement.CATALOG in observed.debounced:
        return observed.before.catalog_hash if observed.before else None
    return None if disagreement.missing_reports(observed) else catalog_hash(observed.reports)


def set_condition(
    type_: str, value: ConditionValue, generation: int, before: MCPProxyStatus | None, now: str
) -> Condition:
    """Return the condition; its lastTransitionTime stays unless its status changed."""
    earlier = find_condition(before, type_)
    unchanged = earlier is not None and earlier.status == value.status
    return Condition(
        type=type_,
        status=value.status,
        observed_generation=generation,
        last_transition_time=earlier.last_transition_time if earlier and unchanged else now,
        reason=value.reason,
        message=value.message,
    )


def find_condition(status: MCPProxyStatus | None, type_: str) -> Condition | None:
    """Return the condition of one type; None if the status has none."""
    conditions = (status.conditions or []) if status else []
    return next((condition for condition in conditions if condition.type == type_), None)


def _addresses(observed: StatusInput, ready: ConditionValue) -> list[Address] | None:
    """Return the URLs once clients were served, the preferred one first; they stay when clients no
    longer are."""
    before, spec = observed.before, observed.spec
    serves = (ready.status, ready.reason) == ("True", reasons.SERVING)
    if not serves and (before is None or before.url is None):
        return None
    if spec is None:
        return before.addresses if before else None
    inner = constants.service_url(observed.name, observed.namespace, defaults.service_port(spec))
    in_cluster = Address(type="InCluster", url=inner)
    if spec.public_url is None:
        return [in_cluster]
    return [Address(type="Public", url=spec.public_url), in_cluster]


def _kept_url(observed: StatusInput) -> str | None:
    """Return the stored URL while no spec is valid; an earlier version stored no addresses."""
    return observed.before.url if observed.spec is None and observed.before else None


def _selector(name: str) -> str:
    labels = constants.selector_labels(name)
    return ",".join(f"{key}={labels[key]}" for key in sorted(labels))


def _ratio(backends: Sequence[BackendStatus]) -> str | None:
    if all(backend.state == "Unknown" for backend in backends):
        return None
    healthy = sum(1 for backend in backends if backend.state == "Healthy")
    return f"{healthy}/{len(backends)}"
