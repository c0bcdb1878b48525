"""Durations as texts, without the validation of fields."""

import re
from typing import Final

DURATION_PATTERN: Final = r"^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$"
_PART: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)")
_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def parse_duration(duration: str) -> float:
    """Return the seconds of a duration such as `300s`, `1m30s` or `250ms`.

    Raise ValueError if the text is not a duration.
    """
    if not re.fullmatch(DURATION_PATTERN, duration):
        raise ValueError(f"{duration!r} is not a duration; use a format such as 5s, 1m30s or 250ms")
    return sum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(duration))
