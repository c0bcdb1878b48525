"""Durations and resource quantities as the contract spells them."""

import re
from typing import Annotated, Any

from pydantic import AfterValidator, Field, WithJsonSchema

DURATION_PATTERN = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$"
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_QUANTITY = r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$"
MAX_DURATION = 24 * 3600.0


def seconds(duration: str) -> float:
    """Seconds of a duration such as `300s`, `1m30s`, `250ms`.

    Raises ValueError when the text is no duration.
    """
    if not re.fullmatch(DURATION_PATTERN, duration):
        raise ValueError(f"{duration!r} is not a duration; write one such as 5s, 1m30s or 250ms")
    return sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(duration))


def _checked(duration: str) -> str:
    if seconds(duration) > MAX_DURATION:
        raise ValueError(f"{duration!r} is longer than 24h")
    return duration


def _positive(duration: str) -> str:
    if seconds(_checked(duration)) <= 0:
        raise ValueError(f"{duration!r} must be longer than 0s")
    return duration


def _duration_schema(rule: str, message: str) -> dict[str, Any]:
    return {
        "type": "string",
        "maxLength": 32,
        "pattern": DURATION_PATTERN,
        "x-kubernetes-validations": [{"rule": rule, "message": message}],
    }


Duration = Annotated[
    str,
    AfterValidator(_checked),
    WithJsonSchema(
        _duration_schema("duration(self) <= duration('24h')", "must not be longer than 24h")
    ),
]
"""Zero or longer, at most 24 hours."""

PositiveDuration = Annotated[
    str,
    AfterValidator(_positive),
    WithJsonSchema(
        _duration_schema(
            "duration(self) > duration('0s') && duration(self) <= duration('24h')",
            "must be longer than 0s and at most 24h",
        )
    ),
]

Quantity = Annotated[
    int | str,
    Field(union_mode="left_to_right"),
    WithJsonSchema(
        {
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "pattern": _QUANTITY,
            "x-kubernetes-int-or-string": True,
        }
    ),
]
"""A Kubernetes resource quantity such as `250m` or `128Mi`."""
