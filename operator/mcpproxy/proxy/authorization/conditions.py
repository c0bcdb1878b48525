"""Conditions in CEL: the `when` of a rule."""

import ast
import re
from collections.abc import Mapping
from typing import Any, Final

from mcpproxy.proxy.authorization.call_arguments import all_values
from mcpproxy.proxy.authorization.grants import parse_annotations

_TOKENS: Final = re.compile(
    r"""
    (?P<text> "(?:[^"\\\n]|\\.)*" | '(?:[^'\\\n]|\\.)*' )
    | (?P<name> [A-Za-z_]\w* )
    | (?P<dot> \. )
    | (?P<other> \S )
    """,
    re.ASCII | re.VERBOSE,
)
_VARIABLES: Final = ("tool", "claims")
"""Variables that are not about the arguments."""


def argument_names(expression: str) -> set[str]:
    """Return the members that an expression may select of arguments: all that it selects besides
    those of `tool` and `claims`, and its texts, which may be names of members."""
    names: set[str] = set()
    root, after_dot = "", False
    tokens = [*_TOKENS.finditer(expression)]
    # A macro such as `all(tool, …)` gives its variable any name.
    fixed = [name for name in _VARIABLES if not re.search(rf"\(\s*{name}\s*,", expression)]
    for number, token in enumerate(tokens):
        kind, text = token.lastgroup, token.group()
        if kind == "text":
            names.add(_unquote(text))
        if kind == "name" and not after_dot:
            root = text
        elif kind == "name":
            following = tokens[number + 1].group() if number + 1 < len(tokens) else ""
            if following != "(" and root not in fixed:
                names.add(text)
        elif kind != "dot":
            root = ""
        after_dot = kind == "dot"
    return names


def _unquote(text: str) -> str:
    """Return the value of a quoted text, or its characters if an escape is unknown."""
    try:
        return str(ast.literal_eval(text))
    except (SyntaxError, ValueError):
        return text[1:-1]


class CelCondition:
    """Compiled condition."""

    def __init__(self, expression: str) -> None:
        """Compile an expression, which the contract has checked."""
        import cel

        self._program = cel.compile(expression)
        self.reads_claims = re.search(r"\bclaims\b", expression) is not None
        """True if the expression may depend on the claims of the caller."""
        self._names = argument_names(expression)
        self._folded = {name.casefold() for name in self._names}

    def holds(self, arguments: Any, claims: Mapping[str, Any], tool: Mapping[str, Any]) -> bool:
        """Return True if a call meets the condition; an error in the evaluation counts as False.

        So does an argument whose name differs from one in the expression in its case only: parsers
        that ignore case, such as Go's, take it for the other.
        """
        if self._has_variant(arguments):
            return False
        variables = {"args": arguments, "claims": dict(claims), "tool": dict(tool)}
        try:
            return self._program.execute(variables) is True
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException:
            # A panic of the engine is no Exception, and must not end the proxy either.
            return False

    def _has_variant(self, arguments: Any) -> bool:
        """Return True if an object in the arguments has a member that is one of `_names` but for
        its case."""
        objects = (value for value in all_values(arguments) if isinstance(value, dict))
        members = (name for value in objects for name in value)
        return any(name not in self._names and name.casefold() in self._folded for name in members)


def describe_tool(item: bytes | None, backend: str, name: str) -> dict[str, Any]:
    """Return the variable `tool` of conditions; `item` is the tool, or None if it isn't listed."""
    annotations = {} if item is None else parse_annotations(item)
    return {"name": name, "backend": backend, "annotations": annotations}
