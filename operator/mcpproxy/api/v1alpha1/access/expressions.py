"""Expressions of the Common Expression Language (CEL) in the contract, checked when they are read.

The engine is imported with the first expression, because the import is slow and most MCPProxies
have none.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Final

VARIABLES: Final = frozenset({"args", "claims", "tool"})
"""Variables of `when`."""
MAX_EXPRESSION: Final = 1024
"""Maximum number of characters of an expression."""

_FUNCTIONS: Final = frozenset(
    {
        "bytes",
        "contains",
        "double",
        "duration",
        "dyn",
        "endsWith",
        "getDate",
        "getDayOfMonth",
        "getDayOfWeek",
        "getDayOfYear",
        "getFullYear",
        "getHours",
        "getMilliseconds",
        "getMinutes",
        "getMonth",
        "getSeconds",
        "int",
        "matches",
        "size",
        "startsWith",
        "string",
        "timestamp",
        "type",
        "uint",
    }
)
"""Functions of the engine, besides macros and operators."""
_TYPES: Final = frozenset(
    {
        "bool",
        "bytes",
        "double",
        "duration",
        "int",
        "list",
        "map",
        "null_type",
        "string",
        "timestamp",
        "type",
        "uint",
    }
)
"""Types, which the engine counts as variables."""
_MACROS: Final = re.compile(
    r"\.\s*(all|exists|exists_one|existsOne|map|filter)\s*\(\s*([A-Za-z_][A-Za-z0-9_]*)?"
)
"""Macros over lists and maps, with the variables that they define."""
_TEXTS: Final = re.compile(
    r"""[rRbB]{0,2}("{3}(?:[^\\]|\\.)*?"{3}|'{3}(?:[^\\]|\\.)*?'{3}"""
    r"""|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')""",
    re.DOTALL,
)
_POSITION: Final = re.compile(r"<input>:(\d+):(\d+): (?:Syntax error: )?([^\n]*)")
_MAX_SHOWN: Final = 200


def check_expression(expression: str) -> str:
    """Return the expression unchanged.

    Raise ValueError, with the position if the engine reports one, if it can't be compiled, reads
    unknown variables, calls unknown functions, or could take much longer than its arguments are
    long.
    """
    import cel

    try:
        program = cel.compile(expression)
    except ValueError as error:
        raise ValueError(f"is no CEL expression: {_describe(str(error))}") from None
    code = _TEXTS.sub(lambda text: "_" * len(text[0]), expression)
    macros = [*_MACROS.finditer(code)]
    unknown = sorted({*program.variables()} - VARIABLES - _TYPES - {macro[2] for macro in macros})
    if unknown:
        known = ", ".join(sorted(VARIABLES))
        raise ValueError(f"reads {', '.join(unknown)}; the variables are {known}")
    functions = sorted(name for name in program.functions() if _is_unknown(name))
    if functions:
        raise ValueError(f"calls {', '.join(functions)}; CEL has no such function")
    nested = next(_nested(code, macros), None)
    if nested is not None:
        raise ValueError(
            f"has {nested} inside of another macro, so that its time would grow with the square of"
            " the arguments; use one macro after the other"
        )
    return expression


def _is_unknown(function: str) -> bool:
    """Return True for a function that the engine lacks; operators have names with symbols."""
    return function.isidentifier() and not (function.startswith("_") or function in _FUNCTIONS)


def _describe(error: str) -> str:
    match = _POSITION.search(error)
    if match is None:
        return error[:_MAX_SHOWN]
    return f"line {match[1]}, column {match[2]}: {match[3][:_MAX_SHOWN]}"


def _nested(code: str, macros: Iterable[re.Match[str]]) -> Iterator[str]:
    """Yield the macros that are inside of the parentheses of another one."""
    ends: list[int] = []
    for macro in macros:
        if any(end > macro.start() for end in ends):
            yield macro[1]
        ends.append(_end_of_parentheses(code, macro.start(1)))


def _end_of_parentheses(code: str, start: int) -> int:
    """Return the end of the first pair of parentheses after `start`."""
    depth = 0
    for index in range(code.index("(", start), len(code)):
        depth += {"(": 1, ")": -1}.get(code[index], 0)
        if depth == 0:
            return index
    return len(code)
