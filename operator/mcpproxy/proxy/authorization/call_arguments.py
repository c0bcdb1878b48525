"""Arguments of calls as policy reads them.

A value that JSON parsers may read in different ways is refused: what policy has judged must be what
the backend gets. Otherwise a call could show one value to policy, and another one to the backend.
"""

import json
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

import msgspec
from msgspec import Raw

from mcpproxy.api.untrusted_text import quote
from mcpproxy.limits.access import CONDITION_BYTES, CONDITION_VALUES
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import INVALID_PARAMS, RpcError

_FIELD = "params.arguments"
_DIGITS = re.compile(rb"\d{309}")
"""Digits of an integer that may exceed the range of a double."""


class _RepeatedMember(Exception):
    """An object has two members of one name."""


def check_readable(raw: Raw | None, field: str = _FIELD) -> Any:
    """Return a decoded value. Raise RpcError if it can't be decoded, although parsers of other
    languages might."""
    if raw is None:
        return None
    try:
        value = jsonrpc.decode_any(raw)
    except (msgspec.DecodeError, RecursionError):
        raise unreadable(field) from None
    if _DIGITS.search(bytes(raw)) and any(_is_huge(inner) for inner in all_values(value)):
        raise unreadable(field)
    return value


def _is_huge(value: Any) -> bool:
    return isinstance(value, int) and abs(value) > sys.float_info.max


def all_values(value: Any) -> Iterator[Any]:
    """Yield a value and all values in it."""
    pending = [value]
    while pending:
        inner = pending.pop()
        yield inner
        if isinstance(inner, dict):
            pending.extend(inner.values())
        elif isinstance(inner, list):
            pending.extend(inner)


def unreadable(field: str = _FIELD) -> RpcError:
    """Return the error for a value that can't be decoded."""
    return RpcError(
        INVALID_PARAMS,
        f"{field} cannot be read: it has a number beyond the range of a double, is nested too"
        " deeply, or is malformed; send it without",
    )


def read_unambiguous(raw: Raw | None, field: str) -> Any:
    """Return a decoded value that has one meaning for all parsers. Raise RpcError."""
    value = check_readable(raw, field)
    if raw is None or b":" not in bytes(raw):
        return value
    try:
        json.loads(bytes(raw), object_pairs_hook=_refuse_repeated)
    except _RepeatedMember as error:
        raise RpcError(
            INVALID_PARAMS, f"{field} has the member {error} twice in one object; send it once"
        ) from None
    except (ValueError, RecursionError):
        raise RpcError(INVALID_PARAMS, f"{field} is malformed or nested too deeply") from None
    return value


def read_arguments(raw: Raw | None) -> dict[str, Any]:
    """Return the arguments of a call; null counts as none. Raise RpcError."""
    value = read_unambiguous(raw, _FIELD)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise RpcError(INVALID_PARAMS, f"{_FIELD} is not a JSON object; send an object")
    return value


def arguments_for_conditions(raw: Raw | None) -> dict[str, Any] | None:
    """Return the arguments of a call, or None if they are too large for a condition.

    Raise RpcError if they are ambiguous.
    """
    if raw is not None and len(bytes(raw)) > CONDITION_BYTES.value:
        CONDITION_BYTES.record()
        return None
    arguments = read_arguments(raw)
    if _exceeds(arguments, CONDITION_VALUES.value):
        CONDITION_VALUES.record()
        return None
    return arguments


def read_params(params: Mapping[str, Raw]) -> dict[str, Any]:
    """Return all params of a request besides its metadata. Raise RpcError if any is ambiguous."""
    described = {
        name: read_unambiguous(raw, f"params.{quote(name)}")
        for name, raw in params.items()
        if name not in ("_meta", "arguments")
    }
    if "arguments" in params:
        described["arguments"] = read_arguments(params["arguments"])
    return described


def _refuse_repeated(pairs: list[tuple[str, Any]]) -> None:
    if len(pairs) > 1 and len({name for name, _ in pairs}) < len(pairs):
        ((name, _),) = Counter(name for name, _ in pairs).most_common(1)
        raise _RepeatedMember(quote(name))


def _exceeds(value: Any, most: int) -> bool:
    """Return True if a value consists of more values than this."""
    return any(True for _ in islice(all_values(value), most, None))
