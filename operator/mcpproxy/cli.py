"""The command line: `mcpproxy COMMAND`.

Signals are handled before any large module is imported.
"""

import os
import signal
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from typing import Final

INTERRUPTED: Final = 130
"""Exit code after SIGINT, as in shells."""
OUTPUT_CLOSED: Final = 141
"""Exit code after the reader of standard output has gone, as in shells."""


def _stop(number: int, frame: object) -> None:
    sys.exit(0)


def _interrupt(number: int, frame: object) -> None:
    # An exception could be raised inside any module that is being imported, and print a traceback.
    os._exit(INTERRUPTED)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command. Return 0, 1 (the command failed) or 2 (the command line is invalid).

    `plan` has its own exit codes. SIGINT during startup results in 130, and a closed reader of
    standard output in 141.
    """

    def parse() -> tuple[Namespace, Callable[..., int]]:
        from mcpproxy import command_line

        return command_line.parse_command_line(argv)

    return _run(parse)


def plugin(argv: Sequence[str] | None = None) -> int:
    """Run `kubectl mcpproxy`; return its exit code, as `main` does."""

    def parse() -> tuple[Namespace, Callable[..., int]]:
        from mcpproxy.terminal.kubectl import plugin

        return plugin.parse_command_line(argv)

    return _run(parse)


def _run(parse: Callable[[], tuple[Namespace, Callable[..., int]]]) -> int:
    # The first process of a container ignores SIGTERM by default while modules are imported.
    signal.signal(signal.SIGTERM, _stop)
    on_interrupt = signal.getsignal(signal.SIGINT)
    if on_interrupt is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _interrupt)
    try:
        from mcpproxy import descriptors

        descriptors.reserve()
        args, command = parse()
        signal.signal(signal.SIGINT, on_interrupt)
        code = command(args)
        if sys.stdout is not None:
            sys.stdout.flush()
        return code
    except BrokenPipeError:
        # Python would report the failure again when it flushes standard output at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return OUTPUT_CLOSED
    except KeyboardInterrupt:
        return INTERRUPTED
    finally:
        signal.signal(signal.SIGINT, on_interrupt)
