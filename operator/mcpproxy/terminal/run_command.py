"""`mcpproxy run`: run the proxy, with a view of it for the person at a terminal."""

import argparse
import getpass
import os
import sys
from typing import Final

from mcpproxy.api.untrusted_text import clean_text
from mcpproxy.proxy import cli, process
from mcpproxy.proxy.config.variables import Ask, InputPrompt
from mcpproxy.text_logs import is_terminal

add_arguments = cli.add_arguments
MAX_PROMPT: Final = 200


def main(args: argparse.Namespace) -> int:
    """Run until stopped; return the exit code of `cli.main`."""
    return cli.main(args, _view(args), ask_of_user())


def _view(args: argparse.Namespace) -> cli.RunView | None:
    """Return a view if a person reads standard error and it is not the log of a client."""
    is_watched = is_terminal(sys.stderr) and process.logs_text(args.log_format)
    if not is_watched or cli.transport_of(args) == "stdio":
        return None
    try:
        from mcpproxy.terminal.display.run_view import TerminalView
    except ModuleNotFoundError:
        return None
    # Worker processes write to the same terminal.
    return TerminalView(live=args.workers == 1 and os.environ.get("TERM") != "dumb")


def ask_of_user() -> Ask | None:
    """Return a function that asks the person at the terminal; None if there is nobody to ask."""
    if is_terminal(sys.stdin) and is_terminal(sys.stderr):
        return _ask
    return None


def _ask(prompt: InputPrompt) -> str:
    """Return the answer to a prompt, which is not echoed if it is a secret. Raise EOFError."""
    hint = f" [{', '.join(prompt.options)}]" if prompt.options else ""
    if prompt.default is not None:
        hint += f" (default: {prompt.default})"
    question = clean_text(f"{prompt.description}{hint}", MAX_PROMPT) + ": "
    while True:
        if prompt.is_secret:
            answer = getpass.getpass(question, sys.stderr)
        else:
            sys.stderr.write(question)
            sys.stderr.flush()
            line = sys.stdin.readline()
            if not line:
                raise EOFError
            answer = line.rstrip("\n")
        answer = answer or prompt.default or ""
        if answer and (not prompt.options or answer in prompt.options):
            return answer
