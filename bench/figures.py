"""What a measurement found."""

import msgspec


class Figures(msgspec.Struct, frozen=True):
    """What was measured, by name; and what went wrong."""

    values: dict[str, float]
    errors: int = 0
    first_error: str = ""
