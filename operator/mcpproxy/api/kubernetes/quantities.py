"""Durations and resource quantities."""

import re
from decimal import Decimal
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from mcpproxy.api.kubernetes.durations import DURATION_PATTERN, parse_duration

_POWERS = (-9, -6, -3, 3, 6, 9, 12, 15, 18)
_NUMBER = r"(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)"
# An exponent of three digits exceeds any real resource and cannot overflow a Decimal.
_QUANTITY = rf"^([+-]?{_NUMBER})([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]{{1,3}}|)$"
_MAX_QUANTITY_LENGTH = 32
_FACTORS = {
    "": Decimal(1),
    **{unit: Decimal(10) ** power for unit, power in zip("numkMGTPE", _POWERS, strict=True)},
    **{f"{unit}i": Decimal(1024) ** power for power, unit in enumerate("KMGTPE", start=1)},
}
_MAX_DURATION_LENGTH = 32
MIN_POSITIVE_DURATION = 0.001
MAX_DURATION = 24 * 3600.0


def _check_at_most_a_day(duration: str) -> str:
    if parse_duration(duration) > MAX_DURATION:
        raise ValueError(f"{duration!r} is longer than the maximum of 24h")
    return duration


def _check_positive(duration: str) -> str:
    if parse_duration(_check_at_most_a_day(duration)) < MIN_POSITIVE_DURATION:
        raise ValueError(f"{duration!r} is shorter than the minimum of 1ms")
    return duration


def _check_at_most_an_hour(duration: str) -> str:
    if parse_duration(duration) > parse_duration("1h"):
        raise ValueError(f"{duration!r} is longer than the maximum of 1h")
    return duration


def _check_at_most_a_minute(duration: str) -> str:
    if parse_duration(_check_positive(duration)) > parse_duration("1m"):
        raise ValueError(f"{duration!r} is longer than 1m")
    return duration


def parse_quantity(quantity: int | str) -> Decimal:
    """Return the value of a resource quantity such as `250m` or `128Mi`.

    Raise ValueError if it is not a quantity.
    """
    text = str(quantity)
    match = re.fullmatch(_QUANTITY, text)
    if len(text) > _MAX_QUANTITY_LENGTH or not match:
        raise ValueError(f"{text!r} is not a quantity; use a format such as 250m, 2 or 128Mi")
    number, unit = match.groups()
    return Decimal(number) * (_FACTORS.get(unit) or Decimal(f"1{unit}"))


def _check_quantity(quantity: Any) -> Any:
    if isinstance(quantity, bool) or not isinstance(quantity, int | str):
        raise ValueError(
            f"{quantity!r} is not a quantity; write it as a string, for example '0.5' or 500m"
        )
    if str(quantity).startswith("-"):
        raise ValueError(f"{quantity!r} must not be negative")
    parse_quantity(quantity)
    return quantity


def _duration_schema(rule: str, message: str) -> dict[str, Any]:
    return {
        "type": "string",
        "maxLength": _MAX_DURATION_LENGTH,
        "pattern": DURATION_PATTERN,
        "x-kubernetes-validations": [{"rule": rule, "message": message}],
    }


Duration = Annotated[
    str,
    Field(max_length=_MAX_DURATION_LENGTH),
    AfterValidator(_check_at_most_a_day),
    WithJsonSchema(
        _duration_schema("duration(self) <= duration('24h')", "must not be longer than 24h")
    ),
]
"""Duration from zero to 24 hours."""

PositiveDuration = Annotated[
    str,
    Field(max_length=_MAX_DURATION_LENGTH),
    AfterValidator(_check_positive),
    WithJsonSchema(
        _duration_schema(
            "duration(self) >= duration('1ms') && duration(self) <= duration('24h')",
            "must be at least 1ms and at most 24h",
        )
    ),
]

UpToAnHour = Annotated[
    str,
    Field(max_length=_MAX_DURATION_LENGTH),
    AfterValidator(_check_at_most_an_hour),
    WithJsonSchema(
        _duration_schema("duration(self) <= duration('1h')", "must not be longer than 1h")
    ),
]
"""Duration from zero to one hour."""

UpToAMinute = Annotated[
    str,
    Field(max_length=_MAX_DURATION_LENGTH),
    AfterValidator(_check_at_most_a_minute),
    WithJsonSchema(
        _duration_schema(
            "duration(self) >= duration('1ms') && duration(self) <= duration('1m')",
            "must be at least 1ms and at most 1m",
        )
    ),
]
"""Duration from 1 ms to one minute."""

Quantity = Annotated[
    int | str,
    Field(union_mode="left_to_right"),
    BeforeValidator(_check_quantity),
    WithJsonSchema(
        {
            "anyOf": [{"type": "integer"}, {"type": "string"}],
            "pattern": _QUANTITY.replace("[+-]?", r"\+?", 1),
            "maxLength": _MAX_QUANTITY_LENGTH,
            "minimum": 0,
            "x-kubernetes-int-or-string": True,
        }
    ),
]
"""A Kubernetes resource quantity such as `250m` or `128Mi`."""
