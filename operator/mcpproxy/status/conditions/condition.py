"""The value of a condition, and the checks that decide it."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Final, Literal

from mcpproxy.api.v1alpha1.status import ConditionStatus
from mcpproxy.status.inputs import StatusInput


@dataclass(frozen=True, slots=True)
class ConditionValue:
    """Status, reason and message of one condition."""

    status: ConditionStatus
    reason: str
    message: str


class Absence(Enum):
    """The decision that an MCPProxy does not have a condition."""

    ABSENT = "absent"


ABSENT: Final = Absence.ABSENT

Check = Callable[[StatusInput], ConditionValue | Literal[Absence.ABSENT] | None]
"""A named fact: the condition's value if the fact holds, None if it does not."""


def decide(checks: Iterable[Check], observed: StatusInput) -> ConditionValue | None:
    """Return the value that the first check that applies gives; None for an absent condition."""
    decisions = (check(observed) for check in checks)
    decision = next((decision for decision in decisions if decision is not None), ABSENT)
    return None if decision is ABSENT else decision
