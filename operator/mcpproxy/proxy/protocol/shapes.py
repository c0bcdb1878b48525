"""Invalid JSON-RPC messages that official SDKs accept, and their valid form."""

from typing import Any, Final

import msgspec
from msgspec import Raw

from mcpproxy.proxy.protocol.tolerance import MALFORMED

_NULL: Final = Raw(b"null")
_FIELDS: Final = frozenset({"jsonrpc", "id", "method", "params", "result", "error"})
_MOST: Final = 64 * 1024
"""Maximum size of a malformed error that is parsed, in bytes."""
_NO_CODE: Final = -32603
"""Internal error, in place of an unreadable code."""


class _Error(msgspec.Struct):
    """Required fields of an error."""

    code: int
    message: str


_error: Final = msgspec.json.Decoder(_Error).decode
_any: Final = msgspec.json.Decoder().decode
_encode: Final = msgspec.json.Encoder().encode


def has_case_variant(message: dict[str, Raw]) -> bool:
    """Return True if a field is one of JSON-RPC but for its case.

    A peer whose parser ignores case, such as Go's, would take it for that one.
    """
    return any(name not in _FIELDS and name.casefold() in _FIELDS for name in message)


def unescape_version(message: dict[str, Raw]) -> None:
    """Write a version without escapes, which other decoders of the same message ignore."""
    try:
        version = _any(message.get("jsonrpc", _NULL))
    except MALFORMED:
        return
    if version == "2.0":
        message["jsonrpc"] = Raw(b'"2.0"')


def is_error(raw: Raw) -> bool:
    """Return True if this is an error object of JSON-RPC."""
    try:
        _error(raw)
    except MALFORMED:
        return False
    return True


def reshape(message: dict[str, Raw], *, of_backend: bool) -> None:
    """Change a malformed message to what SDKs make of it.

    Null fields count as absent (Python), and an error needs no id (2025-11-25, TypeScript). An
    error that is not an object with a code and a message becomes one, so that the peer does not
    wait for a response forever. In backends' messages, a notification may have the id null, and an
    error takes precedence over a result (Python).
    """
    if "method" in message:
        if message.get("params") == _NULL:
            del message["params"]
        if of_backend and message.get("id") == _NULL:
            del message["id"]
    elif "error" in message:
        _reshape_error(message, of_backend=of_backend)


def _reshape_error(message: dict[str, Raw], *, of_backend: bool) -> None:
    error, result = message["error"], message.get("result")
    has_result = result is not None and result != _NULL
    if error == _NULL or (has_result and of_backend and not is_error(error)):
        del message["error"]
        return
    message.setdefault("id", _NULL)
    if of_backend or not has_result:
        message.pop("result", None)
    if not is_error(error):
        message["error"] = _as_error(error)


def _as_error(raw: Raw) -> Raw:
    """Return the error object that represents a malformed error.

    An error that is too large to be parsed becomes one without details.
    """
    try:
        decoded = _any(raw) if len(raw) <= _MOST else None
    except MALFORMED:
        decoded = None
    content = dict(decoded) if isinstance(decoded, dict) else {"message": decoded}
    content["code"] = _as_code(content.get("code"))
    if not isinstance(content.get("message"), str):
        content["message"] = "an error without a message"
    return Raw(_encode(content))


def _as_code(code: Any) -> int:
    if isinstance(code, int | float | str):
        try:
            return int(code)
        except (ValueError, OverflowError):
            return _NO_CODE
    return _NO_CODE
