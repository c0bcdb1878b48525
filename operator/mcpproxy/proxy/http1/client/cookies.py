"""The cookies of one session with a backend: load balancers keep a session at one server by them.

They are kept as long as the session is, and sent in its requests alone. Their path and `Secure` are
honoured; whatever else their attributes say has no meaning for a session.
"""

import re
from collections.abc import Iterable
from typing import Final

from mcpproxy.limits.sessions import COOKIES

_TOKEN: Final = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_NEXT: Final = re.compile(rb",\s*(?=" + _TOKEN + rb"=)")
"""Lines of one name are joined with commas; the dates in attributes have some, too."""
_PAIR: Final = re.compile(_TOKEN + rb"=[\x21\x23-\x2b\x2d-\x3a\x3c-\x5b\x5d-\x7e\x22]*")


def cookies_of(set_cookie: bytes, path: str, *, secure: bool) -> bytes:
    """The value of `Cookie` after an answer with this `Set-Cookie`, for requests to this path;
    empty where it sets nothing for them."""
    found: dict[bytes, bytes] = {}
    size = 0
    for line in _NEXT.split(set_cookie):
        pair, *attributes = (part.strip() for part in line.split(b";"))
        if _PAIR.fullmatch(pair) is None or not _is_for(attributes, path, secure=secure):
            continue
        size += len(pair) + 2
        if size > COOKIES.value:
            COOKIES.record()
            break
        found[pair.partition(b"=")[0]] = pair
    return b"; ".join(found.values())


def _is_for(attributes: list[bytes], path: str, *, secure: bool) -> bool:
    given = {}
    for attribute in attributes:
        name, _, value = attribute.partition(b"=")
        given[name.strip().lower()] = value.strip()
    if b"secure" in given and not secure:
        return False
    if given.get(b"max-age", b"").startswith((b"-", b"0")):
        return False
    wanted = given.get(b"path", b"/").decode("latin-1")
    own = path.partition("?")[0]
    if not wanted.startswith("/") or wanted == own:
        return True
    return own.startswith(wanted if wanted.endswith("/") else f"{wanted}/")


def one_cookie_line(headers: Iterable[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    """The same header lines with all cookies in one of them, as RFC 6265 section 5.4 wants."""
    lines = list(headers)
    cookies = [value for name, value in lines if name.lower() == b"cookie"]
    if len(cookies) < 2:
        return lines
    others = [line for line in lines if line[0].lower() != b"cookie"]
    return [*others, (b"cookie", b"; ".join(cookies))]
