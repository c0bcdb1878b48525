"""URIs and the URI templates (RFC 6570) that they may be expansions of."""

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from mcpproxy.limits.backends import TEMPLATE_EXPRESSIONS, TEMPLATE_LENGTH
from mcpproxy.limits.clients import URI_MATCHING
from mcpproxy.proxy.core.translation.patterns import Pattern, PatternText, TooManySteps, Wildcard

_OPERATORS: Final = tuple("+#./;?&")
_EXPRESSION: Final = re.compile(r"(\{[^{}]*\})")
_COMPILED: Final = 1024
"""Templates that are kept ready for matching; at most TEMPLATE_LENGTH characters each."""
_COMPILING: Final = 4096
"""Steps for making a template ready, in the time that they would take."""


class Uri:
    """A URI that is compared with templates, all of them within one number of steps."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._text = PatternText(uri, URI_MATCHING.value)
        self.undecided = False
        """True once a template was not compared: that would have exceeded a limit."""
        self._given_up = False

    @property
    def steps(self) -> int:
        """Work that the comparisons took so far, in bytes of the URI that were looked at."""
        return self._text.steps

    def is_from(self, templates: Iterable[str]) -> bool:
        """True if the URI is certainly an expansion of a template, or one of the templates.

        A text with braces is no URI: completions name templates so, and another template never
        stands for one of them.
        """
        if "{" in self._uri:
            return self._uri in templates
        return any(self.expands(template) for template in templates)

    def may_be_from(self, templates: Iterable[str]) -> bool:
        """True unless the URI is certainly not an expansion of any template."""
        return any(self.expands(template) for template in templates) or self.undecided

    def expands(self, template: str) -> bool:
        """True if a template may have made the URI, or is equal to it.

        A variable without an operator never spans a `/`, `?` or `#`; others are read generously.
        """
        if template == self._uri:
            return True
        if not self._uri.startswith(template.partition("{")[0]):
            return False
        if len(template) > TEMPLATE_LENGTH.value:
            TEMPLATE_LENGTH.record()
            self.undecided = True
        elif not self._given_up:
            return self._compared(template)
        return False

    def _compared(self, template: str) -> bool:
        try:
            self._text.spend(_COMPILING)
            pattern = _compiled(template)
            if pattern is not None:
                return pattern.matches(self._text)
        except TooManySteps:
            self._given_up = True
            URI_MATCHING.record()
        self.undecided = True
        return False


@lru_cache(_COMPILED)
def _compiled(template: str) -> Pattern | None:
    """The pattern of a template; None if the template has too many expressions."""
    parts = _EXPRESSION.split(template)
    if len(parts) // 2 > TEMPLATE_EXPRESSIONS.value:
        TEMPLATE_EXPRESSIONS.record()
        return None
    return Pattern(_part(part) for part in parts)


def _part(part: str) -> bytes | Wildcard:
    # Only expressions have both braces at their ends.
    if part[:1] == "{" and part[-1:] == "}":
        return Wildcard.ANY if part[1:2] in _OPERATORS else Wildcard.SEGMENT
    return part.encode("utf-8", "surrogatepass")
