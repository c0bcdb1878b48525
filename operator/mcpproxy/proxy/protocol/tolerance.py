"""JSON as peers write it, turned into JSON: what the official SDKs read, msgspec need not.

Used once the strict decoder has refused a text. The result has the same values, but for those
that JSON can't express, which become what the SDKs themselves write in their place: null for NaN
and the infinities (Python, JavaScript), U+FFFD for lone surrogates and for bytes that are not
UTF-8 (WHATWG Encoding, "UTF-8 decode"; Web IDL, USVString).
"""

import re
from typing import Final

from mcpproxy.api.untrusted_text import clean_text
from mcpproxy.limits.http import REPAIRED_PLACES, REPAIRED_TEXT

BOM: Final = b"\xef\xbb\xbf"
_MOST: Final = REPAIRED_PLACES.value
_QUOTED: Final = 60
"""Characters of a text that a reason quotes."""
_LONE: Final = re.compile(
    rb"(?<!\\)((?:\\\\)*+)\\u[dD](?:[89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F][0-9a-fA-F]{2})"
    rb"|(?<!\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD])[c-fC-F][0-9a-fA-F]{2})"
)
"""The escape of a surrogate without its other half, behind escaped backslashes."""
_TO_NOT_A_NUMBER: Final = re.compile(
    rb'(?:[^"NI\-]++|"(?:[^"\\]++|\\.)*+"|-(?!Infinity))*+', re.DOTALL
)
"""All up to a NaN or an infinity outside of strings."""
_NOT_A_NUMBER: Final = re.compile(rb"NaN|-?Infinity")


def repair_json(text: bytes, *, of_backend: bool) -> bytes | None:
    """Return the JSON that a text stands for; None where that is no other than the text itself.

    The result may still be malformed: only what SDKs accept is replaced. Bytes that are not UTF-8
    are replaced in texts of backends alone: of a client, they would make two names look the same.
    """
    found = text.removeprefix(BOM)
    if len(found) > REPAIRED_TEXT.value:
        REPAIRED_TEXT.record()
    else:
        if of_backend and not found.isascii():
            found = found.decode("utf-8", "replace").encode()
        if b"\\u" in found:
            found = _without_lone_surrogates(found)
        if b"NaN" in found or b"Infinity" in found:
            found = _only_numbers(found)
    return None if found == text else found


def quote(text: bytes) -> str:
    """The first bytes of a text of a peer, fit for a reason."""
    shown = clean_text(text[: _QUOTED * 4].decode("utf-8", "replace"), _QUOTED)
    return f"{shown!r}"


def _without_lone_surrogates(text: bytes) -> bytes:
    found, number = _LONE.subn(rb"\1\\ufffd", text, count=_MOST)
    if number == _MOST:
        REPAIRED_PLACES.record()
    return found


def _only_numbers(text: bytes) -> bytes:
    parts: list[bytes] = []
    at = 0
    for _ in range(_MOST):
        passed = _TO_NOT_A_NUMBER.match(text, at)
        assert passed is not None
        found = _NOT_A_NUMBER.match(text, passed.end())
        if found is None:
            break
        parts += (text[at : passed.end()], b"null")
        at = found.end()
    else:
        REPAIRED_PLACES.record()
    return b"".join((*parts, text[at:])) if parts else text
