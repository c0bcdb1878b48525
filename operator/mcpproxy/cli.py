"""The command line: `mcpproxy run | list | call | open | plan | operator | crd`.

Signals are handled before any large module is imported.
"""

import os
import signal
import sys
from collections.abc import Sequence
from typing import Final

INTERRUPTED: Final = 130
"""Exit code after SIGINT, as in shells."""


def _stop(number: int, frame: object) -> None:
    sys.exit(0)


def _interrupt(number: int, frame: object) -> None:
    # An exception could be raised inside any module that is being imported, and print a traceback.
    os._exit(INTERRUPTED)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Return 0, 1 (the command failed) or 2 (the command line is invalid).

    `plan` has its own exit codes. SIGINT during startup results in 130.
    """
    # The first process of a container ignores SIGTERM by default while modules are imported.
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
