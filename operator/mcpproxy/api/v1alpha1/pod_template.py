"""Where pods run: an overlay over the pod template. Import these models from `api.v1alpha1`."""

from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, ConfigDict, Field, model_validator

from mcpproxy.api.base import ApiModel, cel, cel_validation
from mcpproxy.api.kubernetes.affinity import Affinity
from mcpproxy.api.kubernetes.labels import LabelKey, Labels, LabelValue, MoreLabels, PodAnnotations
from mcpproxy.api.kubernetes.scalars import ObjectName

_Id = Annotated[int, Field(ge=0, le=2**31 - 1)]
_UserId = Annotated[int, Field(ge=1, le=2**31 - 1)]
_SeLinuxPart = Annotated[str, Field(max_length=253)]

_TOLERATION: Final = (
    (
        "!has(self.value) || self.value == '' || !has(self.operator) || self.operator == 'Equal'",
        "Exists has no value",
    ),
    (
        "has(self.key) || (has(self.operator) && self.operator == 'Exists')",
        "without a key, the operator must be Exists",
    ),
    (
        "!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
        "tolerationSeconds is for the effect NoExecute",
    ),
)


class Toleration(ApiModel):
    """A taint of nodes that pods put up with."""

    model_config = ConfigDict(
        json_schema_extra=cel(*(cel_validation(rule, message) for rule, message in _TOLERATION))
    )
    key: LabelKey | None = None
    """Key of the taint. Default: any, with the operator Exists."""
    operator: Literal["Exists", "Equal"] | None = None
    """Whether the taint's value counts. Default: Equal."""
    value: LabelValue | None = None
    """Value of the taint. Default: the empty one."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """Effect of the taint. Default: any."""
    toleration_seconds: Annotated[int, Field(ge=0, le=86400)] | None = None
    """How many seconds a pod stays on a node that gets the taint. Default: forever."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        exists = self.operator == "Exists"
        holds = (
            not self.value or not exists,
            self.key is not None or exists,
            self.toleration_seconds is None or self.effect == "NoExecute",
        )
        for (_, message), good in zip(_TOLERATION, holds, strict=True):
            if not good:
                raise ValueError(message)
        return self


_MIN_DOMAINS = "minDomains is for whenUnsatisfiable: DoNotSchedule"


class TopologySpreadConstraint(ApiModel):
    """How evenly pods are spread over places."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            cel_validation(
                "!has(self.minDomains) || self.whenUnsatisfiable == 'DoNotSchedule'", _MIN_DOMAINS
            )
        )
    )
    max_skew: Annotated[int, Field(ge=1, le=1000)]
    """How many pods more than another a place may have."""
    topology_key: LabelKey
    """Nodes with the same value of this label are one place."""
    when_unsatisfiable: Literal["DoNotSchedule", "ScheduleAnyway"]
    """What happens to a pod that would spread them less evenly."""
    min_domains: Annotated[int, Field(ge=1, le=1000)] | None = None
    """How many places there must be. Default: 1."""

    @model_validator(mode="after")
    def _domains_count(self) -> Self:
        if self.min_domains is not None and self.when_unsatisfiable != "DoNotSchedule":
            raise ValueError(_MIN_DOMAINS)
        return self


_SPREAD_KEYS: Final = ("topologyKey", "whenUnsatisfiable")
_BY_PLACE: Final[dict[str, Any]] = {
    "x-kubernetes-list-type": "map",
    "x-kubernetes-list-map-keys": list(_SPREAD_KEYS),
}


def _spread_once(given: list[TopologySpreadConstraint]) -> list[TopologySpreadConstraint]:
    keys = [(one.topology_key, one.when_unsatisfiable) for one in given]
    if len(set(keys)) < len(keys):
        raise ValueError(f"two entries have the same {' and '.join(_SPREAD_KEYS)}")
    return given


class SeLinuxOptions(ApiModel):
    """The SELinux label of the pods, as far as the Pod Security Standards permit to choose it."""

    level: _SeLinuxPart | None = None
    """Level. Default: chosen by the container runtime."""
    type: (
        Literal["container_t", "container_init_t", "container_kvm_t", "container_engine_t"] | None
    ) = None
    """Type: one that the Pod Security Standards permit. Default: chosen by the container
    runtime."""


class PodSecurity(ApiModel):
    """Whom the pods run as; never root, and never with more rights."""

    run_as_user: _UserId | None = None
    """User id. Default: that of the image."""
    run_as_group: _Id | None = None
    """Group id. Default: that of the image."""
    fs_group: _Id | None = None
    """Group id that owns volumes. Default: none."""
    supplemental_groups: Annotated[list[_Id], Field(max_length=32)] | None = None
    """More group ids. Default: none."""
    se_linux_options: SeLinuxOptions | None = None
    """SELinux label. Default: chosen by the container runtime."""


class PodTemplate(ApiModel):
    """Places pods. What they run is set by other fields of the spec."""

    labels: MoreLabels | None = None
    """Labels of the pods, besides the operator's own. Default: none."""
    annotations: PodAnnotations | None = None
    """Annotations of the pods; none that takes away AppArmor or seccomp. Default: none."""
    node_selector: Labels | None = None
    """Labels of the nodes that pods run on. Default: any node."""
    tolerations: Annotated[list[Toleration], Field(max_length=32)] | None = None
    """Taints of nodes that pods put up with. Default: none."""
    affinity: Affinity | None = None
    """Nodes and pods that they are drawn to, or kept away from. Default: none."""
    topology_spread_constraints: (
        Annotated[
            list[TopologySpreadConstraint],
            Field(max_length=8, json_schema_extra=_BY_PLACE),
            AfterValidator(_spread_once),
        ]
        | None
    ) = None
    """How evenly the pods are spread. Default: over nodes and zones as far as it can be."""
    priority_class_name: ObjectName | None = None
    """Which pods are worth more. Default: the cluster's own."""
    runtime_class_name: ObjectName | None = None
    """How containers are run. Default: the cluster's own."""
    scheduler_name: ObjectName | None = None
    """Who places the pods. Default: Kubernetes' own scheduler."""
    service_account_name: ObjectName | None = None
    """Service account of the pods, which get no token of it. Default: one of the MCPProxy's own."""
    security_context: PodSecurity | None = None
    """Whom the pods run as. Default: those of its fields."""
    termination_grace_period_seconds: Annotated[int, Field(ge=15, le=3600)] | None = None
    """Seconds that a pod has to end; calls have all but ten of them to come to an end.
    Default: 60, with 30 for calls."""
