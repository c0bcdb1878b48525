"""`mcpproxy run`: run the proxy, with a view of it for the person at a terminal."""

import argparse
import os
import sys

from mcpproxy.proxy import cli, process, run_options
from mcpproxy.proxy.config.from_arguments import transport_of
from mcpproxy.terminal.prompts import ask_of_user
from mcpproxy.text_logs import is_terminal

add_arguments = run_options.add_arguments


def main(args: argparse.Namespace) -> int:
    """Run until stopped; return the exit code of `cli.main`."""
    return cli.main(args, _view(args), ask_of_user())


def _view(args: argparse.Namespace) -> cli.RunView | None:
    """Return a view if a person reads standard error and it is not the log of a client."""
    is_watched = is_terminal(sys.stderr) and process.logs_text(args.log_format)
    if not is_watched or transport_of(args) == "stdio":
        return None
    try:
        from mcpproxy.terminal.display.run_view import TerminalView
    except ModuleNotFoundError:
        return None
    # Worker processes write to the same terminal.
    return TerminalView(live=args.workers == 1 and os.environ.get("TERM") != "dumb")
