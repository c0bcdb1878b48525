"""Models of `spec.autoscaling` and `spec.disruptionBudget`. Import them from `api.v1alpha1`."""

from typing import Annotated, Final, Self

from pydantic import ConfigDict, Field, model_validator

from mcpproxy.api.base import ApiModel, cel, cel_validation
from mcpproxy.api.kubernetes.quantities import UpToAnHour
from mcpproxy.api.kubernetes.scalars import IntOrPercent

TARGET_CPU: Final = 80
"""CPU target of an autoscaler for which no target is set, in percent of the request."""

_MORE_THAN_MAX = "minReplicas must not be greater than maxReplicas"
_ONE_LIMIT = "requires exactly one of minAvailable and maxUnavailable"

_Utilization = Annotated[int, Field(ge=1, le=1000)]


class Autoscaling(ApiModel):
    """A HorizontalPodAutoscaler that sets the number of pods."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            cel_validation(
                "!has(self.minReplicas) || self.minReplicas <= self.maxReplicas", _MORE_THAN_MAX
            )
        )
    )
    min_replicas: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Minimum number of pods. Default: 1."""
    max_replicas: Annotated[int, Field(ge=1, le=1000)]
    """Maximum number of pods."""
    target_cpu_utilization_percentage: _Utilization | None = Field(
        default=None, alias="targetCPUUtilizationPercentage"
    )
    """Target for the average CPU utilization of the pods, in percent of the CPU that the runtime's
    container requests. Default: 80, or none if a target for memory is set."""
    target_memory_utilization_percentage: _Utilization | None = None
    """Target for the average memory utilization of the pods, in percent of the memory that the
    runtime's container requests. Default: none."""
    scale_down_after: UpToAnHour | None = None
    """Time for which fewer pods must be sufficient before pods are removed; at most 1h.
    Default: 5m."""

    @property
    def measured(self) -> dict[str, int]:
        """Target of each measured resource, in percent of the request."""
        targets = {
            "cpu": self.target_cpu_utilization_percentage,
            "memory": self.target_memory_utilization_percentage,
        }
        return {name: target for name, target in targets.items() if target} or {"cpu": TARGET_CPU}

    @model_validator(mode="after")
    def _check_min_and_max(self) -> Self:
        if self.min_replicas is not None and self.min_replicas > self.max_replicas:
            raise ValueError(_MORE_THAN_MAX)
        return self


class DisruptionBudget(ApiModel):
    """A PodDisruptionBudget, which limits how many pods may be evicted at a time, for example when
    nodes are drained. Pods that are not ready can always be evicted."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            cel_validation("has(self.minAvailable) != has(self.maxUnavailable)", _ONE_LIMIT)
        )
    )
    min_available: IntOrPercent | None = None
    """Pods that must stay available, as a number or in percent. A value as high as the number of
    replicas blocks every drain. Exactly one of minAvailable and maxUnavailable is required.
    Default: none."""
    max_unavailable: IntOrPercent | None = None
    """Pods that may be unavailable, as a number or in percent; 0 blocks every drain. Exactly one of
    minAvailable and maxUnavailable is required. Default: none."""

    @model_validator(mode="after")
    def _check_one_limit(self) -> Self:
        if (self.min_available is None) == (self.max_unavailable is None):
            raise ValueError(_ONE_LIMIT)
        return self
