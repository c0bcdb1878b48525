"""Repair of malformed JSON that the official SDKs accept and msgspec does not.

Used only after the strict decoder has rejected a text. The repaired text has the same values, apart
from those that JSON cannot express. These become what the SDKs write in their place: null for NaN
and the infinities (Python, JavaScript), U+FFFD for lone surrogates and for bytes that are not UTF-8
(WHATWG Encoding, "UTF-8 decode"; Web IDL, USVString).
"""

import codecs
import re
from typing import Final

import msgspec

from mcpproxy.api.untrusted_text import clean_text
from mcpproxy.limits.http import REPAIRED_PLACES, REPAIRED_TEXT

BOM: Final = b"\xef\xbb\xbf"
MALFORMED: Final = (msgspec.DecodeError, RecursionError, UnicodeDecodeError)
"""Errors of a decoder for text that is not JSON, is nested too deeply, or is not UTF-8."""
_MOST: Final = REPAIRED_PLACES.value
_QUOTED: Final = 60
"""Number of characters of a text that a reason quotes."""
_LONE: Final = re.compile(
    rb"(?<!\\)((?:\\\\)*+)\\u[dD](?:[89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F][0-9a-fA-F]{2})"
    rb"|(?<!\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD])[c-fC-F][0-9a-fA-F]{2})"
)
"""Escape of a lone surrogate after escaped backslashes."""
_TO_NOT_A_NUMBER: Final = re.compile(
    rb'(?:[^"NI\-]++|"(?:[^"\\]++|\\.)*+"|-(?!Infinity))*+', re.DOTALL
)
"""Everything up to a NaN or an infinity outside of strings."""
_NOT_A_NUMBER: Final = re.compile(rb"NaN|-?Infinity")


def repair_json(text: bytes, *, of_backend: bool) -> bytes | None:
    """Return the repaired JSON, or None if there is nothing to repair.

    The result may still be malformed: only text that SDKs accept is replaced. Bytes that are not
    UTF-8 are replaced in backends' texts only. In a client's text, replacement could make two
    different names equal.
    """
    repaired = text.removeprefix(BOM)
    if len(repaired) > REPAIRED_TEXT.value:
        REPAIRED_TEXT.record()
    else:
        if of_backend and not repaired.isascii():
            repaired = repaired.decode("utf-8", "replace").encode()
        if b"\\u" in repaired:
            repaired = _without_lone_surrogates(repaired)
        if b"NaN" in repaired or b"Infinity" in repaired:
            repaired = _only_numbers(repaired)
    return None if repaired == text else repaired


class Utf8Repair:
    """Replaces the bytes of a backend's text that are not UTF-8, as `repair_json`, but in parts."""

    def __init__(self) -> None:
        self._begun = b""
        """The bytes of a character whose end is in the next part."""

    def feed(self, part: bytes) -> bytes:
        """Return this part as UTF-8, except for the bytes of a last character that is not
        complete."""
        if not self._begun and part.isascii():
            return part
        text = self._begun + part
        try:
            size = codecs.utf_8_decode(text, "strict", False)[1]
            repaired = text[:size]
        except UnicodeDecodeError:
            replaced, size = codecs.utf_8_decode(text, "replace", False)
            repaired = replaced.encode()
        self._begun = text[size:]
        return repaired


def quote(text: bytes) -> str:
    """Return the first bytes of a peer's text, safe for a reason."""
    cleaned = clean_text(text[: _QUOTED * 4].decode("utf-8", "replace"), _QUOTED)
    return f"{cleaned!r}"


def _without_lone_surrogates(text: bytes) -> bytes:
    repaired, number = _LONE.subn(rb"\1\\ufffd", text, count=_MOST)
    if number == _MOST:
        REPAIRED_PLACES.record()
    return repaired


def _only_numbers(text: bytes) -> bytes:
    parts: list[bytes] = []
    at = 0
    for _ in range(_MOST):
        prefix = _TO_NOT_A_NUMBER.match(text, at)
        assert prefix is not None
        match = _NOT_A_NUMBER.match(text, prefix.end())
        if match is None:
            break
        parts += (text[at : prefix.end()], b"null")
        at = match.end()
    else:
        REPAIRED_PLACES.record()
    return b"".join((*parts, text[at:])) if parts else text
