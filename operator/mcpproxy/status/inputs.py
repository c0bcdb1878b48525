"""Input of the status: one MCPProxy, its children and its pods as plain values."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from mcpproxy.api.v1alpha1 import MCPProxySpec
from mcpproxy.api.v1alpha1.status import BackendStatus, MCPProxyStatus, PodReport
from mcpproxy.status import reasons


@dataclass(frozen=True, slots=True)
class ConditionReason:
    """A reason in CamelCase, and its message."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class RouteView:
    """The state of the HTTPRoute or Ingress, as the controllers of Gateways report it."""

    kind: str = ""
    """HTTPRoute or Ingress; empty if it does not exist."""
    problems: tuple[ConditionReason, ...] = ()
    """Reasons for which Gateways do not serve it."""
    pending: tuple[str, ...] = ()
    """Gateways that have not reported on its newest generation."""
    served_by: tuple[str, ...] = ()
    """Gateways that accepted it, or addresses of an Ingress."""
    rival: str = ""
    """Older route of the same namespace for the same host, path and Gateway."""


@dataclass(frozen=True, slots=True)
class DeploymentView:
    """The desired and the current state of a Deployment."""

    settled: bool
    """True if its controller has seen the newest spec."""
    desired: int
    replicas: int
    updated: int
    ready: int
    available: int
    paused: bool = False
    """True if a user has paused its rollouts."""
    failure: ConditionReason | None = None
    """Reason for which its controller can't continue."""
    was_available: bool = False
    """True if its newest revision was rolled out once, even if pods were added or lost since."""

    @property
    def complete(self) -> bool:
        """True if every pod is of the newest revision and available."""
        return self.settled and self.replicas == self.updated == self.available == self.desired

    @property
    def rolled_out(self) -> bool:
        """True if every pod is of the newest revision, which has been available once."""
        return self.complete or (
            self.settled and self.was_available and self.replicas == self.updated
        )


@dataclass(frozen=True, slots=True)
class PodView:
    """One pod of the Deployment."""

    name: str
    ready: bool
    current: bool
    """True if it mounts the configuration that the Deployment requests now."""
    superseded: bool = False
    """True if it was created from an earlier template of the Deployment."""
    problem: ConditionReason | None = None
    """Reason for which it is not ready, if its status has one."""
    starting: bool = False
    """True if it is not ready yet and has no problem."""
    report: PodReport | None = None
    """Its report; None if the operator has received none."""
    unread: str = ""
    """Error for which the operator can't read its report."""


@dataclass(frozen=True, slots=True)
class StatusInput:
    """One MCPProxy and everything that belongs to it."""

    name: str
    namespace: str
    generation: int
    spec: MCPProxySpec | None
    """The spec that is in effect: the newest valid one, unless the operator can't apply it; None if
    none was valid."""
    rejected: str | None = None
    """Error in the spec; None for a valid spec."""
    blocked: ConditionReason | None = None
    """Reason for which the children can't be written."""
    terminating: bool = False
    """True if the MCPProxy is being deleted."""
    finalizers: tuple[str, ...] = ()
    """Finalizers of an MCPProxy that is being deleted, sorted."""
    unread: frozenset[str] = frozenset()
    """Kinds of objects that could not be read."""
    undeclared: frozenset[str] = frozenset()
    """Fields of the status that the installed CRD lacks."""
    suspended: bool = False
    """True if the spec suspends reconciliation."""
    pending_changes: tuple[str, ...] = ()
    """Kinds and names of the children that change when the MCPProxy is resumed."""
    hidden_services: frozenset[tuple[str, str]] = frozenset()
    """Namespaces and names of Services of which the NetworkPolicy must show nothing."""
    token_keys_problem: str = ""
    """Reason for which the keys of ServiceAccount tokens could not be read."""
    missing_kinds: frozenset[str] = frozenset()
    """Kinds that the spec requests and the cluster does not have."""
    absent: frozenset[str] = frozenset()
    """Kinds of optional children that the spec requests and that do not exist."""
    deployment: DeploymentView | None = None
    autoscaler: ConditionReason | None = None
    """Reason for which the requested autoscaler can't work; None if it can."""
    route: RouteView = field(default_factory=RouteView)
    pods: tuple[PodView, ...] = ()
    service_notes: Mapping[str, str] = field(default_factory=dict)
    """Names of unreachable backends → errors of their Services."""
    debounced: frozenset[str] = frozenset()
    """Disagreements of pods that are too recent to be reported (`status.disagreement`)."""
    before: MCPProxyStatus | None = None
    """The stored status; None for a new MCPProxy."""
    backends: tuple[BackendStatus, ...] = ()
    """The backends as all pods report them, by name; filled in by `build_status`."""

    @property
    def serving(self) -> tuple[PodView, ...]:
        """Pods that serve clients, by name.

        These are the ready pods of the current configuration or, if there are none, the ready
        pods of earlier ones.
        """
        ready = sorted((pod for pod in self.pods if pod.ready), key=lambda pod: pod.name)
        return tuple(pod for pod in ready if pod.current) or tuple(ready)

    @property
    def outdated(self) -> bool:
        """True if all pods that serve run an earlier configuration."""
        return bool(self.serving) and not any(pod.current for pod in self.serving)

    @property
    def superseded(self) -> bool:
        """True if all pods that serve are of earlier templates of the Deployment."""
        return bool(self.serving) and all(pod.superseded for pod in self.serving)

    @property
    def reports(self) -> tuple[PodReport, ...]:
        """The reports of the pods that serve, as far as they were received."""
        return tuple(pod.report for pod in self.serving if pod.report is not None)

    @property
    def pod_problems(self) -> list[ConditionReason]:
        """Distinct problems of the newest pods, in an order that depends on nothing else.

        Those that never pass by themselves come first.
        """
        problems = {
            pod.problem for pod in self.pods if pod.problem and pod.current and not pod.superseded
        }

        def rank(problem: ConditionReason) -> tuple[bool, str, str]:
            return problem.reason not in reasons.HOPELESS, problem.message, problem.reason

        return sorted(problems, key=rank)
