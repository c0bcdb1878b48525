"""Sizes of the tests here: a sample in `make test-all`, everything in `make stress`.

STRESS=1 asks for everything, STRESS=3 for a third of it.
"""

import os
from collections.abc import Sequence
from typing import Final, TypeVar

T = TypeVar("T")

PART: Final = int(os.environ.get("STRESS", "0"))
FULL: Final = PART > 0
"""More is asked for than a sample."""
WHOLE: Final = PART == 1


def size(sample: int, full: int) -> int:
    """The number of repetitions."""
    return max(sample, full // PART) if FULL else sample


def some(every: Sequence[T], sample: Sequence[T]) -> Sequence[T]:
    """The cases to run: all, every third of them for instance, or a sample."""
    return every[::PART] if FULL else sample
