"""Conditions in CEL: the `when` of a rule."""

import re
from collections.abc import Mapping
from typing import Any

from msgspec import Raw

from mcpproxy.limits.clients import CONDITION_BYTES, CONDITION_VALUES
from mcpproxy.proxy.authorization.grants import parse_annotations
from mcpproxy.proxy.protocol import jsonrpc


class CelCondition:
    """Compiled condition."""

    def __init__(self, expression: str) -> None:
        """Compile an expression, which the contract has checked."""
        import cel

        self._program = cel.compile(expression)
        self.reads_claims = re.search(r"\bclaims\b", expression) is not None
        """True if the expression may depend on the claims of the caller."""

    def holds(self, arguments: Any, claims: Mapping[str, Any], tool: Mapping[str, Any]) -> bool:
        """Return True if a call meets the condition; an error in the evaluation counts as False."""
        variables = {"args": arguments, "claims": dict(claims), "tool": dict(tool)}
        try:
            return self._program.execute(variables) is True
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException:
            # A panic of the engine is no Exception, and must not end the proxy either.
            return False


def describe_tool(item: bytes | None, backend: str, name: str) -> dict[str, Any]:
    """Return the variable `tool` of conditions; `item` is the tool, or None if it isn't listed."""
    annotations = {} if item is None else parse_annotations(item)
    return {"name": name, "backend": backend, "annotations": annotations}


def arguments_for_conditions(raw: Raw | None) -> dict[str, Any] | None:
    """Return the arguments of a call, or None if they are too large for a condition."""
    if raw is None:
        return {}
    if len(bytes(raw)) > CONDITION_BYTES.value:
        CONDITION_BYTES.record()
        return None
    arguments = jsonrpc.decode(raw)
    if not isinstance(arguments, dict):
        return {}
    if _exceeds(arguments, CONDITION_VALUES.value):
        CONDITION_VALUES.record()
        return None
    return arguments


def _exceeds(value: Any, most: int) -> bool:
    """Return True if a value consists of more values than this."""
    pending, count = [value], 0
    while pending:
        inner = pending.pop()
        count += 1
        if count + len(pending) > most:
            return True
        if isinstance(inner, dict):
            pending.extend(inner.values())
        elif isinstance(inner, list):
            pending.extend(inner)
    return False
