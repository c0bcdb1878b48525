"""The definition of a limit, with a counter of the times that it was exceeded."""

from dataclasses import dataclass, field
from typing import Literal

Unit = Literal["bytes", "seconds", "bytes/s", "1/s", "count"]
Share = Literal[
    "message",
    "connection",
    "request",
    "session",
    "network",
    "principal",
    "backend",
    "instance",
    "pod",
    "proxy",
    "process",
]


@dataclass(frozen=True, slots=True)
class Limit:
    """A limit.

    Attributes:
        name: Unique among all limits, in kebab case; the label `limit` of the metric
            `mcpproxy_limit_reached_total` (operator: `mcpproxy_operator_limit_reached_total`).
        value: The largest permitted amount, in `unit`.
        unit: Unit of `value`.
        counts: A noun phrase for the measured quantity.
        share: Scope of the amount: each message, connection, session and so on has its own `value`.
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
        """Count one more time that a peer exceeded the limit."""
        self._reached[0] += 1

    @property
    def reached(self) -> int:
        """Number of times that a peer of this operating-system process has exceeded the limit."""
        return self._reached[0]
