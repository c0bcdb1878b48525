"""Examples of property tests: a sample in `make test`, all in `make test-slow`."""

import os
from typing import Final

from hypothesis.internal.conjecture import providers
from hypothesis.internal.conjecture.providers import _local_constants

SAMPLE: Final = 5
"""The sample is one example of this many."""


def is_full() -> bool:
    """Return True if property tests try all their examples."""
    return os.environ.get("EXAMPLES") == "all"


def examples(full: int) -> int:
    """Return the number of examples to try, of `full` ones."""
    return full if is_full() else max(2, full // SAMPLE)


def leave_out_constants_of_the_source() -> None:
    """Let no example contain a constant that is read from the modules imported so far.

    Each worker would read 600 modules and compare their constants with every strategy, and its
    examples would depend on which modules its tests have imported.
    """
    assert callable(providers._get_local_constants)
    providers._get_local_constants = lambda: _local_constants
