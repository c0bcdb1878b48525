"""Inputs of a configuration file, asked at the terminal.

Must import little, because every `mcpproxy run` does.
"""

import getpass
import sys
from typing import Final

from mcpproxy.api.untrusted_text import clean_text
from mcpproxy.proxy.config.variables import Ask, InputPrompt
from mcpproxy.text_logs import is_terminal

MAX_PROMPT: Final = 200


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
