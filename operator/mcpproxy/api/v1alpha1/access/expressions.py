"""Expressions of the Common Expression Language (CEL) in the contract, checked when they are read.

The engine is imported with the first expression, because the import is slow and most MCPProxies
have none.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
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
MAX_MACROS: Final = 8
"""Maximum number of macros in an expression."""
_OPAQUE: Final = re.compile(
    r"""//[^\n]*"""
    r"""|\b(?:[rR][bB]?|[bB][rR])(?:"{3}.*?"{3}|'{3}.*?'{3}|"[^"\n]*"|'[^'\n]*')"""
    r"""|(?:\b[bB])?(?:"{3}(?:[^\\]|\\.)*?"{3}|'{3}(?:[^\\]|\\.)*?'{3}"""
    r"""|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')""",
    re.DOTALL,
)
"""Comments and texts, which do not contain code; in raw texts, a backslash escapes nothing."""
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
    code = _OPAQUE.sub(_blank, expression)
    macros = [*_MACROS.finditer(code)]
    unknown = sorted({*program.variables()} - VARIABLES - _TYPES - {macro[2] for macro in macros})
    if unknown:
        known = ", ".join(sorted(VARIABLES))
        raise ValueError(f"reads {', '.join(unknown)}; the variables are {known}")
    functions = sorted(name for name in program.functions() if _is_unknown(name))
    if functions:
        raise ValueError(f"calls {', '.join(functions)}; CEL has no such function")
    _check_macros(code, macros)
    return expression


def _blank(opaque: re.Match[str]) -> str:
    """Return as many characters: spaces for a comment, a name's for a text."""
    return (" " if opaque[0].startswith("//") else "_") * len(opaque[0])


def _check_macros(code: str, macros: Sequence[re.Match[str]]) -> None:
    """Raise ValueError if macros could take much longer than the arguments are long."""
    hidden = sorted({macro[2] for macro in macros} & (VARIABLES | _TYPES))
    if hidden:
        raise ValueError(f"has a macro with the variable {hidden[0]}, which is taken; rename it")
    if len(macros) > MAX_MACROS:
        raise ValueError(f"has {len(macros)} macros; the maximum is {MAX_MACROS}")
    if sum(macro[1] == "map" for macro in macros) > 1:
        raise ValueError(
            "has map more than once, so that its result could grow with each; use map once"
        )
    nested = next(_nested(code, macros), None)
    if nested is not None:
        raise ValueError(
            f"has {nested} inside of another macro, so that its time would grow with the square of"
            " the arguments; use one macro after the other"
        )


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
