"""How much the tests here do: a sample in `make test`, everything in `make stress`."""

import os

FULL = os.environ.get("STRESS") == "1"


def size(sample: int, full: int) -> int:
    """The number of repetitions."""
    return full if FULL else sample
