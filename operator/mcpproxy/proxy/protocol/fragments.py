"""Envelopes of messages that can be read only in part."""

import re
from typing import Final, NamedTuple

from msgspec import Raw

_EDGE: Final = 1024
"""Number of bytes to examine at each end of a text."""
_MARKS: Final = b"\xef\xbb\xbf\xff\xfe \t\r\n[\0"
"""Byte order marks, whitespace and the bracket of a batch of one message."""
_ID: Final = rb'"id"\s*:\s*(\d{1,18}|"[^"\\]{0,256}")\s*'
_BEGIN: Final = rb'\{\s*(?:"jsonrpc"\s*:\s*"2\.0"\s*,\s*)?'
_ID_FIRST: Final = re.compile(_BEGIN + _ID + rb"[,}]")
_ID_LAST: Final = re.compile(rb"[,{]\s*" + _ID + rb"\}\s*\Z")
_ID_BEHIND_METHOD: Final = re.compile(
    _BEGIN + rb'"method"\s*:\s*"[^"\\]{0,256}"\s*,\s*' + _ID + rb"[,}]"
)
_METHOD: Final = re.compile(rb'\{\s*(?:"(?:jsonrpc|id)"\s*:\s*[^\s,{}\[\]]+\s*,\s*){0,2}"method"')
_MEMBER: Final = re.compile(rb'"(?:result|error)"\s*:')
_VERSION: Final = re.compile(rb'"jsonrpc"\s*:')


class Fragment(NamedTuple):
    """Recognizable part of the envelope of a message."""

    id: Raw | None
    has_method: bool
    """True for a request or a notification."""
    is_response: bool
    """True if the message is meant as a response."""


def parse_fragment(head: bytes, tail: bytes | None = None) -> Fragment:
    """Return the envelope that the two ends of a message show, also of UTF-16 text."""
    tail = head[-_EDGE:] if tail is None else tail
    head, tail = (end.replace(b"\0", b"") for end in (head[:_EDGE].lstrip(_MARKS), tail))
    head = head.lstrip()
    match = _ID_FIRST.match(head) or _ID_BEHIND_METHOD.match(head) or _ID_LAST.search(tail)
    has_method = _METHOD.match(head) is not None
    ends = (head, tail)
    is_response = not has_method and all(
        any(pattern.search(end) for end in ends) for pattern in (_VERSION, _MEMBER)
    )
    return Fragment(None if match is None else Raw(match[1]), has_method, is_response)
