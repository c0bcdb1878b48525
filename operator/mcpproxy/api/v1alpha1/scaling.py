"""How many pods run, and how many must stay: import these models from `api.v1alpha1`."""

from typing import Annotated, Final, Self

from pydantic import ConfigDict, Field, model_validator

from mcpproxy.api.base import ApiModel, cel, cel_validation
from mcpproxy.api.kubernetes.quantities import UpToAnHour
from mcpproxy.api.kubernetes.scalars import IntOrPercent

TARGET_CPU: Final = 80
"""Percent of the request; for an autoscaler that is given no target."""

_MORE_THAN_MAX = "minReplicas must not be higher than maxReplicas"
_ONE_LIMIT = "needs exactly one of minAvailable and maxUnavailable"

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
    """The fewest pods. Default: 1."""
    max_replicas: Annotated[int, Field(ge=1, le=1000)]
    """The most pods."""
    target_cpu_utilization_percentage: _Utilization | None = Field(
        default=None, alias="targetCPUUtilizationPercentage"
    )
    """CPU that pods should use on average, in percent of what the runtime's container requests.
    Default: 80, or none where a target for memory is given."""
    target_memory_utilization_percentage: _Utilization | None = None
    """Memory that pods should use on average, in percent of what the runtime's container
    requests. Default: none."""
    scale_down_after: UpToAnHour | None = None
    """How long fewer pods must have been enough before some are taken away; at most 1h.
    Default: 5m."""

    @property
    def measured(self) -> dict[str, int]:
        """Resource → its target, in percent of the request."""
        targets = {
            "cpu": self.target_cpu_utilization_percentage,
            "memory": self.target_memory_utilization_percentage,
        }
        return {name: target for name, target in targets.items() if target} or {"cpu": TARGET_CPU}

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.min_replicas is not None and self.min_replicas > self.max_replicas:
            raise ValueError(_MORE_THAN_MAX)
        return self


class DisruptionBudget(ApiModel):
    """A PodDisruptionBudget: how many pods may be evicted at a time, as when nodes are drained.
    Pods that are not ready can always be evicted."""

    model_config = ConfigDict(
        json_schema_extra=cel(
            cel_validation("has(self.minAvailable) != has(self.maxUnavailable)", _ONE_LIMIT)
        )
    )
    min_available: IntOrPercent | None = None
    """Pods that must stay available, as a number or in percent. As many as there are replicas
    block every drain. Default: none, as maxUnavailable is given."""
    max_unavailable: IntOrPercent | None = None
    """Pods that may be away, as a number or in percent; 0 blocks every drain. Default: none, as
    minAvailable is given."""

    @model_validator(mode="after")
    def _one_limit(self) -> Self:
        if (self.min_available is None) == (self.max_unavailable is None):
            raise ValueError(_ONE_LIMIT)
        return self
