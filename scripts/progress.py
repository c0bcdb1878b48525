"""Steps as they begin, each with the seconds since the start."""

import sys
import time
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Progress:
    """Prints a line for each step."""

    started: float = field(default_factory=time.monotonic)

    def step(self, text: str) -> None:
        """A step begins."""
        sys.stdout.write(f"{time.monotonic() - self.started:6.1f} s  {text}\n")
        sys.stdout.flush()

    def show(self, text: str) -> None:
        """Something to look at."""
        sys.stdout.write(f"\n{text.rstrip()}\n")
        sys.stdout.flush()
