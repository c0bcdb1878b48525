"""Results of a measurement."""

import msgspec


class Figures(msgspec.Struct, frozen=True):
    """Measured values by name, and errors."""

    values: dict[str, float]
    errors: int = 0
    first_error: str = ""
