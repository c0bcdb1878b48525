"""The command line: `mcpproxy run | plan | operator | crd`. Parses, then hands over.

Signals are handled before anything large is imported.
"""

import os
import signal
import sys
from collections.abc import Sequence
from typing import Final

INTERRUPTED: Final = 130
"""Exit code after SIGINT, as shells have it."""


def _stop(number: int, frame: object) -> None:
    sys.exit(0)


def _interrupt(number: int, frame: object) -> None:
    # An exception could end up anywhere in the modules that are being imported, as a traceback.
    os._exit(INTERRUPTED)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is 0, 1 (it failed) or 2 (it was called wrongly).

    `plan` has exit codes of its own. SIGINT while it starts gives 130.
    """
    # As the first process of a container nothing else would end us while modules are imported.
    signal.signal(signal.SIGTERM, _stop)
    on_interrupt = signal.getsignal(signal.SIGINT)
    if on_interrupt is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _interrupt)
    try:
        from mcpproxy import command_line, standard_descriptors

        standard_descriptors.reserve()
        args, command = command_line.parse_command_line(argv)
        signal.signal(signal.SIGINT, on_interrupt)
        return command(args)
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        signal.signal(signal.SIGINT, on_interrupt)
