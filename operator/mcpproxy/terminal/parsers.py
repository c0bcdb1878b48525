"""Parsers of command lines, with suggestions for misspelled words."""

import argparse
import re
import sys
from typing import Any, NoReturn

from mcpproxy.api.manifest_errors import MAX_PROBLEM
from mcpproxy.api.untrusted_text import clean_text


class CommandParser(argparse.ArgumentParser):
    """Parser whose errors suggest the word that was probably meant."""

    wrong_call = 2

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        text = clean_text(f"{self.prog}: error: {message}{self._suggest(message)}", MAX_PROBLEM)
        self.exit(self.wrong_call, f"{text}\n")

    def _suggest(self, message: str) -> str:
        """Return the command or option that was probably meant."""
        # Commands that are spelled correctly do without pydantic.
        from mcpproxy.api.field_messages import did_you_mean

        if not re.search(r"unrecognized arguments|invalid choice", message):
            return ""
        choices = [option for action in self._actions for option in action.option_strings]
        choices += [name for action in self._actions for name in action.choices or ()]
        words = re.findall(r"[\w-]+", message.rpartition(":")[2].partition("(choose")[0])
        return next(filter(None, (did_you_mean(word, choices) for word in words)), "")


class SubcommandParser(CommandParser):
    """Parser of one command, which may have options between its arguments."""

    _is_parsing = False

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        if self._is_parsing:
            return super().parse_known_args(args, namespace)
        self._is_parsing = True
        try:
            parsed, rest = self.parse_known_intermixed_args(args, namespace)
        finally:
            self._is_parsing = False
        if rest:
            # The parent would report them with its own usage.
            self.error(f"unrecognized arguments: {' '.join(rest)}")
        return parsed, rest
