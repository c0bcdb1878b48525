"""Number of fields or items of a JSON text, counted without storing them."""

import re
from typing import Final

import msgspec
from msgspec import Raw

LEAST: Final = 5
"""Size in bytes of the shortest field of an object, with the comma after it."""
_COMMA, _COLON = b",:"
_OPENING: Final = {ord("{"): True, ord("["): False}
_BLANK: Final = b" \t\r\n"
_AFTER_VALUE: Final = re.compile(r"trailing characters \(byte (\d+)\)")
_any = msgspec.json.Decoder(Raw)


def exceeds(text: bytes, most: int) -> bool:
    """Return True if an object or array has more than `most` fields or items of any kind.

    Reading stops as soon as the answer is certain. The result is False for any other value, and for
    text that is malformed before that point; the decoder reports the error at the same position.
    """
    if text.count(b",") < most:
        return False
    view = memoryview(text)
    at = len(text) - len(text.lstrip(_BLANK))
    keyed = _OPENING.get(view[at]) if at < len(view) else None
    if keyed is None:
        return False
    if most < 1:
        return view[at + 1 :].tobytes().lstrip(_BLANK)[:1] not in (b"", b"]", b"}")
    for _ in range(most):
        if keyed:
            at = _after_value(view, at + 1)
            if at < 0 or view[at] != _COLON:
                return False
        at = _after_value(view, at + 1)
        if at < 0 or view[at] != _COMMA:
            return False
    return True


def _after_value(view: memoryview, begin: int) -> int:
    """Return the position of the token after the value that begins at `begin`, or -1."""
    try:
        _any.decode(view[begin:])
    except (msgspec.DecodeError, RecursionError) as error:
        # The decoder skips a value faster than any regular expression, and its error has the
        # position.
        position = _AFTER_VALUE.search(str(error))
        return -1 if position is None else begin + int(position[1]) - 1
    return -1
