"""The seed of a run of the tests: what they choose at random follows from it.

`SEED=N` sets it, for property tests too. Otherwise each run chooses one. Every failure names it.
"""

import os
import random
from typing import Final

VARIABLE: Final = "SEED"


def read_seed(text: str) -> int:
    """Return the seed that the variable sets; raise `ValueError` unless it is a natural number."""
    if not (text.isascii() and text.isdecimal()):
        raise ValueError(f"{VARIABLE} is {text!r}: set it to a natural number, or leave it out")
    return int(text)


IS_SET: Final = VARIABLE in os.environ
"""Not meaningful in the workers of pytest-xdist, which inherit the seed of their controller."""
SEED: Final = read_seed(
    os.environ.setdefault(VARIABLE, str(random.SystemRandom().randrange(10**6)))
)
REPEAT: Final = f"{VARIABLE}={SEED} repeats the choices of this run"
