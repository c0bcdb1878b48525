"""Forms of a URI that servers take for the same resource.

Servers of the SDKs parse URIs as browsers do (WHATWG): they resolve dot segments, remove tabs, and
lower-case the scheme. Rules and filters would be bypassed if they judged the URI as written alone.
"""

import re
from typing import Final

from pydantic import AnyUrl, TypeAdapter, ValidationError

from mcpproxy.proxy.protocol.jsonrpc import INVALID_PARAMS, RpcError

_ESCAPED: Final = re.compile(r"%(?:2[dDeE]|3[0-9]|[46][1-9a-fA-F]|[57][0-9aA]|5[fF]|7[eE])")
"""Escapes of characters that never need one (RFC 3986, section 2.3)."""
_UNSAFE: Final = re.compile(r"[\x00-\x20\x7f\\]")
_parse: Final = TypeAdapter(AnyUrl).validate_python


def other_forms(uri: str) -> list[str]:
    """Return the forms of a URI that differ from it as written.

    Raise RpcError if it has characters that servers remove or replace.
    """
    if _UNSAFE.search(uri):
        raise RpcError(
            INVALID_PARAMS, "the URI has a space, a control character or a backslash; escape it"
        )
    plain = _ESCAPED.sub(_unescape, uri)
    forms = dict.fromkeys((_normalize(uri), plain, _normalize(plain)))
    return [form for form in forms if form not in (uri, "")]


def _unescape(escape: re.Match[str]) -> str:
    return chr(int(escape[0][1:], 16))


def _normalize(uri: str) -> str:
    """Return the form that a server of an SDK reads; empty if it would refuse the URI."""
    try:
        return str(_parse(uri))
    except (ValidationError, UnicodeEncodeError):
        return ""
