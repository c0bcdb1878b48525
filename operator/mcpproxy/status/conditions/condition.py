"""What a check comes to."""

from dataclasses import dataclass

from mcpproxy.api.v1alpha1.status import ConditionStatus


@dataclass(frozen=True, slots=True)
class ConditionValue:
    """What one condition should say."""

    status: ConditionStatus
    reason: str
    message: str
