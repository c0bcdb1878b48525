"""What was seen in one pass, as plain values: all that the status is made from."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from mcpproxy.api.v1alpha1 import MCPProxySpec
from mcpproxy.api.v1alpha1.status import PodReport


@dataclass(frozen=True, slots=True)
class ConditionReason:
    """A reason in one CamelCase word, and the sentence that goes with it."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class DeploymentView:
    """A Deployment: what it should be, and how far it is."""

    settled: bool
    """Its controller has seen the newest spec."""
    desired: int
    replicas: int
    updated: int
    ready: int
    available: int
    paused: bool = False
    """Its controller rolls nothing out, as somebody has asked for."""
    failure: ConditionReason | None = None
    """Why its controller can't go on."""
    was_available: bool = False
    """Its newest revision was rolled out once; pods may have been added or lost since."""

    @property
    def complete(self) -> bool:
        """Every pod is of the newest revision and available, and no other is left."""
        return self.settled and self.replicas == self.updated == self.available == self.desired

    @property
    def rolled_out(self) -> bool:
        """No pod of another revision is left, and the newest one has been available once."""
        return self.complete or (
            self.settled and self.was_available and self.replicas == self.updated
        )


@dataclass(frozen=True, slots=True)
class PodView:
    """One pod of the Deployment."""

    name: str
    ready: bool
    current: bool
    """It mounts the configuration that the Deployment asks for now."""
    superseded: bool = False
    """It was made from an earlier template of the Deployment."""
    problem: ConditionReason | None = None
    """Why it is not ready, where its status says so."""
    starting: bool = False
    """It is not ready yet, and nothing says that it won't be."""
    report: PodReport | None = None
    """What it says of itself; None when it can't be reached."""
    unread: str = ""
    """Why the operator can't read what it says of itself."""


@dataclass(frozen=True, slots=True)
class StatusInput:
    """One MCPProxy and everything that belongs to it."""

    name: str
    namespace: str
    generation: int
    spec: MCPProxySpec | None
    """What the pods should serve: the spec, or the last valid one; None when there never was."""
    rejected: str | None = None
    """What is wrong with the spec."""
    blocked: ConditionReason | None = None
    """Why the children can't be brought about."""
    terminating: bool = False
    """The MCPProxy is being deleted."""
    finalizers: tuple[str, ...] = ()
    """Finalizers of an MCPProxy that is being deleted, sorted."""
    unread: frozenset[str] = frozenset()
    """Kinds of objects that could not be read."""
    undeclared: frozenset[str] = frozenset()
    """Fields of the status that the installed CRD lacks."""
    suspended: bool = False
    """Everything is to be left as it is."""
    withheld: tuple[str, ...] = ()
    """The children that would change then, in words."""
    hidden_services: frozenset[tuple[str, str]] = frozenset()
    """Namespaces and names of Services of which the NetworkPolicy shows nothing."""
    lacking: frozenset[str] = frozenset()
    """Kinds that the spec asks for and the cluster doesn't have."""
    deployment: DeploymentView | None = None
    autoscaler: ConditionReason | None = None
    """Why the autoscaler that the spec asks for can't work; None when it can."""
    pods: tuple[PodView, ...] = ()
    service_notes: Mapping[str, str] = field(default_factory=dict)
    """Names of backends that are not reached → what is wrong with their Services."""
    young: frozenset[str] = frozenset()
    """Doubts that began a moment ago and are not told yet: see `status.doubts`."""

    @property
    def serving(self) -> tuple[PodView, ...]:
        """Pods that serve agents, by name.

        Those are the ready pods of the current configuration or, while there are none, the ready
        pods of earlier ones.
        """
        ready = sorted((pod for pod in self.pods if pod.ready), key=lambda pod: pod.name)
        return tuple(pod for pod in ready if pod.current) or tuple(ready)

    @property
    def outdated(self) -> bool:
        """Whether agents are served by pods of an earlier configuration alone."""
        return bool(self.serving) and not any(pod.current for pod in self.serving)

    @property
    def superseded(self) -> bool:
        """Whether agents are served by pods of earlier templates of the Deployment alone."""
        return bool(self.serving) and all(pod.superseded for pod in self.serving)

    @property
    def reports(self) -> tuple[PodReport, ...]:
        """What those of them say that were heard."""
        return tuple(pod.report for pod in self.serving if pod.report is not None)
