"""Cookies by which load balancers send the requests of one client to the same server.

The caller keeps them for as long as it needs the same server. `Path`, `Secure` and `Max-Age=0` are
respected; all other attributes are ignored.
"""

import re
from collections.abc import Iterable
from typing import Final

from mcpproxy.limits.sessions import COOKIES

_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_NEXT: Final = re.compile(rb",\s*(?=" + _TOKEN + rb"=)")
"""Boundary of two joined Set-Cookie lines; dates in attributes contain commas as well."""
_PAIR: Final = re.compile(_TOKEN + rb"=[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e\x22]*")


def cookies_of(set_cookie: bytes, path: str, *, secure: bool) -> bytes:
    """Return the value of `Cookie` for requests to `path` after a response with `set_cookie`.

    Return an empty value if the response sets no cookie for them.
    """
    cookies: dict[bytes, bytes] = {}
    size = 0
    for line in _NEXT.split(set_cookie):
        pair, *attributes = (part.strip() for part in line.split(b";"))
        if _PAIR.fullmatch(pair) is None or not _is_for(attributes, path, secure=secure):
            continue
        size += len(pair) + 2
        if size > COOKIES.value:
            COOKIES.record()
            break
        cookies[pair.partition(b"=")[0]] = pair
    return b"; ".join(cookies.values())


def _is_for(attributes: list[bytes], path: str, *, secure: bool) -> bool:
    values = {}
    for attribute in attributes:
        name, _, value = attribute.partition(b"=")
        values[name.strip().lower()] = value.strip()
    if b"secure" in values and not secure:
        return False
    if values.get(b"max-age", b"").startswith((b"-", b"0")):
        return False
    wanted = values.get(b"path", b"/").decode("latin-1")
    own = path.partition("?")[0]
    if not wanted.startswith("/") or wanted == own:
        return True
    return own.startswith(wanted if wanted.endswith("/") else f"{wanted}/")


def one_cookie_line(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """Return the header lines with all cookies in one of them (RFC 6265, section 5.4)."""
    lines = list(headers)
    cookies = [value for name, value in lines if name.lower() == b"cookie"]
    if len(cookies) < 2:
        return lines
    others = [line for line in lines if line[0].lower() != b"cookie"]
    return [*others, (b"cookie", b"; ".join(cookies))]
