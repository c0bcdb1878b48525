"""The definition of a limit, and the count of the times that it was reached."""

from dataclasses import dataclass, field
from typing import Literal

Unit = Literal["bytes", "seconds", "bytes/s", "1/s", "count"]
Share = Literal[
    "message",
    "connection",
    "request",
    "session",
    "principal",
    "backend",
    "instance",
    "pod",
    "process",
]


@dataclass(frozen=True, slots=True)
class Limit:
    """One limit.

    Attributes:
        name: Unique among all limits, in kebab case; the label `limit` of the metric
            `mcpproxy_limit_reached_total` (operator: `mcpproxy_operator_limit_reached_total`).
        value: The largest permitted amount, in `unit`.
        unit: Unit of `value`.
        counts: A noun phrase that says exactly what is counted.
        share: Scope of the amount: each one of these has `value` to itself.
        beyond: The response to a peer that exceeds the limit.
        test: Name of the test that drives a peer beyond the limit.
    """

    name: str
    value: int
    unit: Unit
    counts: str
    share: Share
    beyond: str
    test: str
    _reached: list[int] = field(default_factory=lambda: [0], repr=False, compare=False)

    def record(self) -> None:
        """Count that a peer has exceeded the limit once."""
        self._reached[0] += 1

    @property
    def reached(self) -> int:
        """How often a peer of this operating-system process has exceeded the limit."""
        return self._reached[0]
