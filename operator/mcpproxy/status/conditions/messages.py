"""Sentences that several conditions share."""

from collections.abc import Sequence
from typing import Final

from mcpproxy.api.catalog_digests import NAMED
from mcpproxy.api.v1alpha1.status import BackendStatus
from mcpproxy.status.inputs import StatusInput

LISTED: Final = 5
"""Number of names or problems that a message lists."""


def describe_deletion(observed: StatusInput) -> str:
    """Return the sentence about a deletion, with the finalizers that delay it."""
    message = "the MCPProxy or its namespace is being deleted, including its pods"
    finalizers = ", ".join(observed.finalizers[:LISTED])
    if not finalizers:
        return message
    return f"{message}; the deletion waits for the controllers of these finalizers: {finalizers}"


def describe_pods(observed: StatusInput) -> str:
    """Return the number of pods that serve, and the problems of the others."""
    deployment, serving = observed.deployment, len(observed.serving)
    desired = deployment.desired if deployment else 0
    message = f"{serving} of {desired} pods ready"
    problems = list_problems(observed)
    if observed.outdated or observed.superseded:
        message = describe_older_pods(observed)
        problems = [*describe_pause(observed), *problems]
        if deployment is not None and deployment.failure is not None:
            problems.insert(0, deployment.failure.message)
    return ": ".join(filter(None, (message, "; ".join(problems))))


def list_problems(observed: StatusInput) -> list[str]:
    """Return the messages of the first problems of current pods."""
    return [problem.message for problem in observed.pod_problems[:LISTED]]


def list_unused_rules(unused: Sequence[str]) -> str:
    """Return the names of unused rules, or of some of them and how many more there are."""
    more = f" and {len(unused) - NAMED} more" if len(unused) > NAMED else ""
    return f"{', '.join(unused[:NAMED])}{more}"


def describe_pause(observed: StatusInput) -> list[str]:
    """Return the command that resumes a paused rollout; nothing if none is paused."""
    deployment = observed.deployment
    if deployment is None or not deployment.paused or deployment.rolled_out:
        return []
    command = f"kubectl rollout resume -n {observed.namespace} deployment/{observed.name}"
    return [f"the Deployment is paused; resume it with: {command}"]


def describe_older_pods(observed: StatusInput) -> str:
    """Return the number of pods that serve until those of the newest revision are ready."""
    serving = len(observed.serving)
    pods = "1 pod serves" if serving == 1 else f"{serving} pods serve"
    if observed.outdated:
        return f"{pods} the previous configuration until pods with the new one are ready"
    return f"{pods} from the previous pod template until pods from the new one are ready"


def describe_failure(observed: StatusInput, failure: str) -> str:
    """Return the failure of the Deployment, after older pods that serve, before pods' problems."""
    older = observed.outdated or observed.superseded
    parts = [describe_older_pods(observed) if older else "", failure, *list_problems(observed)]
    return "; ".join(filter(None, parts))


def describe_pending_changes(observed: StatusInput) -> str:
    """Return the children that a suspended MCPProxy would change."""
    more = len(observed.pending_changes) - LISTED
    listed = ", ".join(observed.pending_changes[:LISTED])
    return f"pending changes: {listed}" + (f" and {more} more" if more > 0 else "")


def describe_absent(kind: str, observed: StatusInput) -> str:
    """Return that a child of a kind does not exist, and why."""
    if observed.suspended:
        return f"the {kind} does not exist, and spec.suspend is true"
    if observed.blocked is not None:
        return f"the {kind} was not created: {observed.blocked.message}"
    if observed.rejected is not None:
        return f"the {kind} does not exist, and the spec is invalid"
    return f"the {kind} does not exist yet"


def describe_backends(backends: Sequence[BackendStatus]) -> str:
    """Return the names, states and messages of the first backends, and the number of the rest."""
    listed = [
        f"{backend.name} is {backend.state}" + (f": {backend.message}" if backend.message else "")
        for backend in backends[:LISTED]
    ]
    more = len(backends) - len(listed)
    return "; ".join(listed) + (f"; and {more} more" if more else "")
