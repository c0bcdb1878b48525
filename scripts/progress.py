"""Progress output: one line per step, with the seconds since the start."""

import sys
import time
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Progress:
    """Printer of one line per step."""

    started: float = field(default_factory=time.monotonic)

    def step(self, text: str) -> None:
        """Print the start of a step."""
        sys.stdout.write(f"{time.monotonic() - self.started:6.1f} s  {text}\n")
        sys.stdout.flush()

    def show(self, text: str) -> None:
        """Print a result."""
        sys.stdout.write(f"\n{text.rstrip()}\n")
        sys.stdout.flush()
