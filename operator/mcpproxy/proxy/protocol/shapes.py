"""Shapes of JSON-RPC messages that official SDKs read although the schema does not have them."""

from typing import Any, Final

import msgspec
from msgspec import Raw

_NULL: Final = Raw(b"null")
_MOST: Final = 64 * 1024
"""Bytes of an error of another shape that is still understood."""
_NO_CODE: Final = -32603
"""Internal error: the code in place of one that can't be read."""


class _Error(msgspec.Struct):
    """The members that an error must have."""

    code: int
    message: str


_error: Final = msgspec.json.Decoder(_Error).decode
_any: Final = msgspec.json.Decoder().decode
_encode: Final = msgspec.json.Encoder().encode


def is_error(raw: Raw) -> bool:
    """Return whether this is an error object of JSON-RPC."""
    try:
        _error(raw)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def reshape(message: dict[str, Raw], *, of_backend: bool) -> None:
    """Change a message that has not the shape of the schema as SDKs read it.

    Members that are null count as absent (Python), and an error needs no id (2025-11-25,
    TypeScript). An error that is not an object with a code and a message becomes one, so that the
    peer is not left waiting. Of a backend, a notification may have the id null, and an error
    counts for more than a result beside it (Python).
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
    """Return the error object that stands for something else.

    What is too large to be understood stands for an error about which nothing is known.
    """
    try:
        found = _any(raw) if len(raw) <= _MOST else None
    except (msgspec.DecodeError, RecursionError):
        found = None
    content = dict(found) if isinstance(found, dict) else {"message": found}
    content["code"] = _as_code(content.get("code"))
    if not isinstance(content.get("message"), str):
        content["message"] = "an error without a message"
    return Raw(_encode(content))


def _as_code(found: Any) -> int:
    if isinstance(found, int | float | str):
        try:
            return int(found)
        except (ValueError, OverflowError):
            return _NO_CODE
    return _NO_CODE
