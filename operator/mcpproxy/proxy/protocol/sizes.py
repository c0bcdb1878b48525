"""The number of members or items of a JSON text, found without keeping any of them."""

import re
from typing import Final

import msgspec
from msgspec import Raw

LEAST: Final = 5
"""Bytes of the shortest member of an object, with the comma behind it."""
_COMMA, _COLON = b",:"
_OPENING: Final = {ord("{"): True, ord("["): False}
_BLANK: Final = b" \t\r\n"
_BEHIND: Final = re.compile(r"trailing characters \(byte (\d+)\)")
_any = msgspec.json.Decoder(Raw)


def exceeds(text: bytes, most: int) -> bool:
    """Whether an object or array has more than `most` members or items of any kind.

    Reads no further than it takes to know. False for any other value, and where the text is
    malformed before that, which whoever decodes it finds at the same place.
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
            at = _behind(view, at + 1)
            if at < 0 or view[at] != _COLON:
                return False
        at = _behind(view, at + 1)
        if at < 0 or view[at] != _COMMA:
            return False
    return True


def _behind(view: memoryview, begin: int) -> int:
    """Where the next token stands behind the value that begins there; -1 where none does."""
    try:
        _any.decode(view[begin:])
    except (msgspec.DecodeError, RecursionError) as error:
        # The decoder skips a value faster than any expression, and says where it stopped.
        found = _BEHIND.search(str(error))
        return -1 if found is None else begin + int(found[1]) - 1
    return -1
