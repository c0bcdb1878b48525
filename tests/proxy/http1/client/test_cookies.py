"""Cookies of a session: what is kept of them, and for which requests."""

import pytest

from mcpproxy.limits.sessions import COOKIES
from mcpproxy.proxy.http1.client.cookies import cookies_of, one_cookie_line


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (b"a=1", b"a=1"),
        (b"a=1; Expires=Wed, 21 Oct 2099 07:28:00 GMT, b=2", b"a=1; b=2"),
        (b"a=1, a=2", b"a=2"),
        (b'a="x y"', b""),
        (b"a=; HttpOnly", b"a="),
        (b"a=1; Path=/mcp", b"a=1"),
        (b"a=1; Path=/m", b""),
        (b"a=1; Path=/mcp/more", b""),
        (b"a=1; path=elsewhere", b"a=1"),
        (b"a=1; Secure", b""),
        (b"a=1; Max-Age=0", b""),
        (b"nothing", b""),
        (b"=1", b""),
        (b"a=\xff", b""),
    ],
)
def test_cookies_are_stored_by_name(value: bytes, kept: bytes) -> None:
    assert cookies_of(value, "/mcp?key=1", secure=False) == kept


def test_a_secure_cookie_is_sent_over_tls() -> None:
    assert cookies_of(b"a=1; Secure", "/mcp", secure=True) == b"a=1"


def test_cookies_beyond_the_limit_are_not_sent_back() -> None:
    before = COOKIES.reached
    value = b"x" * (COOKIES.value // 2)
    cookies = cookies_of(b"a=" + value + b", b=" + value + b", c=1", "/", secure=False)
    assert cookies == b"a=" + value
    assert COOKIES.reached == before + 1


def test_all_cookies_of_a_request_are_in_one_line() -> None:
    lines = [(b"accept", b"x"), (b"Cookie", b"own=1"), (b"x", b"y"), (b"cookie", b"node=a")]
    assert one_cookie_line(lines) == [
        (b"accept", b"x"),
        (b"x", b"y"),
        (b"cookie", b"own=1; node=a"),
    ]
    assert one_cookie_line(lines[:3]) == lines[:3]
