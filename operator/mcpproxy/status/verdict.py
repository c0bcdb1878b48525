"""What a check comes to."""

from dataclasses import dataclass

from mcpproxy.api.status import ConditionStatus


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one condition should say."""

    status: ConditionStatus
    reason: str
    message: str
