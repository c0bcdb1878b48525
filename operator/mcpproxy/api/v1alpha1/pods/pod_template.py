"""Models of `spec.podTemplate`, an overlay over the pod template. Import them from
`api.v1alpha1`."""

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
        "the operator Exists must not have a value",
    ),
    (
        "has(self.key) || (has(self.operator) && self.operator == 'Exists')",
        "without a key, the operator must be Exists",
    ),
    (
        "!has(self.tolerationSeconds) || (has(self.effect) && self.effect == 'NoExecute')",
        "tolerationSeconds requires the effect NoExecute",
    ),
)


class Toleration(ApiModel):
    """A node taint that the pods tolerate."""

    model_config = ConfigDict(
        json_schema_extra=cel(*(cel_validation(rule, message) for rule, message in _TOLERATION))
    )
    key: LabelKey | None = None
    """Key of the taint. Default: any key, which requires the operator Exists."""
    operator: Literal["Exists", "Equal"] | None = None
    """Equal compares the value of the taint; Exists ignores it. Default: Equal."""
    value: LabelValue | None = None
    """Value of the taint. Default: the empty value."""
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None
    """Effect of the taint. Default: any effect."""
    toleration_seconds: Annotated[int, Field(ge=0, le=86400)] | None = None
    """Seconds that a pod stays on a node after the taint is added. Default: forever."""

    @model_validator(mode="after")
    def _check_consistency(self) -> Self:
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


_MIN_DOMAINS = "minDomains requires whenUnsatisfiable: DoNotSchedule"


class TopologySpreadConstraint(ApiModel):
    """A constraint on how evenly pods are spread over topology domains."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            cel_validation(
                "!has(self.minDomains) || self.whenUnsatisfiable == 'DoNotSchedule'", _MIN_DOMAINS
            )
        )
    )
    max_skew: Annotated[int, Field(ge=1, le=1000)]
    """Maximum difference between the numbers of pods in two domains."""
    topology_key: LabelKey
    """Key of the node label that defines the domains; nodes with the same value form one domain."""
    when_unsatisfiable: Literal["DoNotSchedule", "ScheduleAnyway"]
    """Handling of a pod that would violate the constraint."""
    min_domains: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Minimum number of domains. Default: 1."""

    @model_validator(mode="after")
    def _check_min_domains(self) -> Self:
        if self.min_domains is not None and self.when_unsatisfiable != "DoNotSchedule":
            raise ValueError(_MIN_DOMAINS)
        return self


_SPREAD_KEYS: Final = ("topologyKey", "whenUnsatisfiable")
_BY_PLACE: Final[dict[str, Any]] = {
    "x-kubernetes-list-type": "map",
    "x-kubernetes-list-map-keys": list(_SPREAD_KEYS),
}


def _check_constraints_are_unique(
    constraints: list[TopologySpreadConstraint],
) -> list[TopologySpreadConstraint]:
    keys = [(constraint.topology_key, constraint.when_unsatisfiable) for constraint in constraints]
    if len(set(keys)) < len(keys):
        raise ValueError(
            f"two entries have the same {' and '.join(_SPREAD_KEYS)}; remove one of the two"
        )
    return constraints


class SeLinuxOptions(ApiModel):
    """SELinux label of the pods, within the limits of the Pod Security Standards."""

    level: _SeLinuxPart | None = None
    """SELinux level. Default: chosen by the container runtime."""
    type: (
        Literal["container_t", "container_init_t", "container_kvm_t", "container_engine_t"] | None
    ) = None
    """SELinux type; the Pod Security Standards permit only these. Default: chosen by the container
    runtime."""


class PodSecurity(ApiModel):
    """User and groups that the pods run as. Pods never run as root or with additional
    privileges."""

    run_as_user: _UserId | None = None
    """User ID of the processes. Default: the user of the image."""
    run_as_group: _Id | None = None
    """Primary group ID of the processes. Default: the group of the image."""
    fs_group: _Id | None = None
    """Group ID that owns volumes. Default: none."""
    supplemental_groups: Annotated[list[_Id], Field(max_length=32)] | None = None
    """Supplemental group IDs of the processes. Default: none."""
    se_linux_options: SeLinuxOptions | None = None
    """SELinux label. Default: chosen by the container runtime."""


class PodTemplate(ApiModel):
    """Metadata, scheduling and security of the pods. Other fields of the spec define their
    containers."""

    labels: MoreLabels | None = None
    """Labels of the pods, in addition to those of the operator. Default: none."""
    annotations: PodAnnotations | None = None
    """Annotations of the pods. Annotations that disable AppArmor or seccomp are rejected. Default:
    none."""
    node_selector: Labels | None = None
    """Labels that a node must have to run the pods. Default: any node."""
    tolerations: Annotated[list[Toleration], Field(max_length=32)] | None = None
    """Node taints that the pods tolerate. Default: none."""
    affinity: Affinity | None = None
    """Affinity and anti-affinity of the pods to nodes and to other pods. Default: none."""
    topology_spread_constraints: (
        Annotated[
            list[TopologySpreadConstraint],
            Field(max_length=8, json_schema_extra=_BY_PLACE),
            AfterValidator(_check_constraints_are_unique),
        ]
        | None
    ) = None
    """Spreading of the pods over topology domains. Default: evenly over nodes and zones, as far as
    possible."""
    priority_class_name: ObjectName | None = None
    """Priority class of the pods. Default: the default of the cluster."""
    runtime_class_name: ObjectName | None = None
    """Runtime class of the pods. Default: the default of the cluster."""
    scheduler_name: ObjectName | None = None
    """Scheduler that places the pods. Default: the default scheduler of Kubernetes."""
    service_account_name: ObjectName | None = None
    """Service account of the pods; its token is not mounted. Default: a service account that is
    created for the MCPProxy."""
    security_context: PodSecurity | None = None
    """User and groups that the pods run as. Default: each field's own default."""
    termination_grace_period_seconds: Annotated[int, Field(ge=15, le=3600)] | None = None
    """Time for a pod to terminate, in seconds. If set, all but ten seconds are available to
    in-flight calls. Default: 60, of which 30 are for calls."""
