"""Number of examples of property tests: a sample in `make test`, all in `make test-slow`."""

import os
from typing import Final

SAMPLE: Final = 5
"""The sample is one example of this many."""


def examples(full: int) -> int:
    """Return the number of examples to try, of `full` ones."""
    return full if os.environ.get("EXAMPLES") == "all" else max(2, full // SAMPLE)
