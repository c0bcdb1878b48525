"""One order for what has none."""

import json
from typing import Any


def canonical(value: Any) -> Any:
    """`value` with mappings and lists in one order; only for lists whose order means nothing."""
    if isinstance(value, dict):
        return {key: canonical(value[key]) for key in sorted(value)}
    if isinstance(value, list):
        return sorted(map(canonical, value), key=json.dumps)
    return value
