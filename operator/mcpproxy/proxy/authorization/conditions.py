"""Conditions in CEL: the `when` of a rule."""

from collections.abc import Mapping
from typing import Any

from msgspec import Raw

from mcpproxy.limits.clients import CONDITION_BYTES, CONDITION_VALUES
from mcpproxy.proxy.protocol import jsonrpc


class CelCondition:
    """Compiled condition."""

    def __init__(self, expression: str) -> None:
        """Compile an expression, which the contract has checked."""
        import cel

        self._program = cel.compile(expression)

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
