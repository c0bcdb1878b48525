"""URI templates (RFC 6570), the URIs that may be expansions of them, and other forms of URIs."""

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from mcpproxy.limits.backends import TEMPLATE_EXPRESSIONS, TEMPLATE_LENGTH
from mcpproxy.limits.clients import URI_MATCHING
from mcpproxy.proxy.core.translation.patterns import Pattern, PatternText, TooManySteps, Wildcard
from mcpproxy.proxy.protocol.jsonrpc import INVALID_PARAMS, RpcError

_OPERATORS: Final = tuple("+#./;?&")
_EXPRESSION: Final = re.compile(r"(\{[^{}]*\})")
_COMPILED: Final = 1024
"""Number of compiled templates in the cache; each has at most TEMPLATE_LENGTH characters."""
_COMPILING: Final = 4096
"""Cost of compiling a template, in steps of matching."""
_ESCAPED: Final = re.compile(r"%(?:2[dDeE]|3[0-9]|[46][1-9a-fA-F]|[57][0-9aA]|5[fF]|7[eE])")
"""Escapes of characters that never need one (RFC 3986, section 2.3)."""
_UNSAFE: Final = re.compile(r"[\x00-\x20\x7f\\]")


class Uri:
    """URI to compare with templates within one limit of steps."""

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._text = PatternText(uri, URI_MATCHING.value)
        self.undecided = False
        """True once a template was not compared because of a limit."""
        self._given_up = False

    @property
    def steps(self) -> int:
        """Number of steps that the comparisons took so far; see `PatternText.steps`."""
        return self._text.steps

    def is_from(self, templates: Iterable[str]) -> bool:
        """Return True if the URI certainly equals a template or is an expansion of one.

        A text with braces is not a URI: completions name templates like this, and such a text never
        matches another template.
        """
        if "{" in self._uri:
            return self._uri in templates
        return any(self.expands(template) for template in templates)

    def may_be_from(self, templates: Iterable[str]) -> bool:
        """Return False if the URI is certainly not an expansion of any template."""
        return any(self.expands(template) for template in templates) or self.undecided

    def expands(self, template: str) -> bool:
        """Return True if the URI may be an expansion of the template or equals it.

        A variable without an operator never spans `/`, `?` or `#`. Other variables match any text.
        """
        if template == self._uri:
            return True
        if not self._uri.startswith(template.partition("{")[0]):
            return False
        if len(template) > TEMPLATE_LENGTH.value:
            TEMPLATE_LENGTH.record()
            self.undecided = True
        elif not self._given_up:
            return self._compare(template)
        return False

    def _compare(self, template: str) -> bool:
        try:
            self._text.spend(_COMPILING)
            pattern = _compile(template)
            if pattern is not None:
                return pattern.matches(self._text)
        except TooManySteps:
            self._given_up = True
            URI_MATCHING.record()
        self.undecided = True
        return False


@lru_cache(_COMPILED)
def _compile(template: str) -> Pattern | None:
    """Return the pattern of a template, or None if the template has too many expressions."""
    parts = _EXPRESSION.split(template)
    if len(parts) // 2 > TEMPLATE_EXPRESSIONS.value:
        TEMPLATE_EXPRESSIONS.record()
        return None
    return Pattern(_part(part) for part in parts)


def _part(part: str) -> bytes | Wildcard:
    # Only expressions begin and end with braces.
    if part[:1] == "{" and part[-1:] == "}":
        return Wildcard.ANY if part[1:2] in _OPERATORS else Wildcard.SEGMENT
    return part.encode("utf-8", "surrogatepass")


def other_forms(uri: str) -> list[str]:
    """Return the forms of a URI that differ from it as written.

    Servers of the SDKs parse URIs as browsers do (WHATWG): they resolve dot segments, remove tabs,
    and lower-case the scheme. Rules that judged the URI as written alone would be bypassed. Raise
    RpcError if it has characters that servers remove or replace.
    """
    if _UNSAFE.search(uri):
        raise RpcError(
            INVALID_PARAMS, "the URI has a space, a control character or a backslash; escape it"
        )
    plain = _ESCAPED.sub(_unescape, uri)
    forms = dict.fromkeys((_normalize(uri), plain, _normalize(plain)))
    return [form for form in forms if form not in (uri, "")]


def _unescape(escape: re.Match[str]) -> str:
    return chr(int(escape[0][1:], 16))


def _normalize(uri: str) -> str:
    """Return the form that a server of an SDK reads; empty if it would refuse the URI."""
    # Most proxies read no resources by rules, and need no memory for the parser.
    from pydantic_core import Url

    try:
        return str(Url(uri))
    except ValueError:
        return ""
