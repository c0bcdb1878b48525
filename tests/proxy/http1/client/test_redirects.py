"""Redirects are followed within one origin, and keep the method."""

import pytest

from mcpproxy.proxy.http1.errors import InvalidRedirect
from tests.proxy.http1.client.test_client import OK, Peer, client_of, get


def _redirect(location: str, status: int = 307) -> bytes:
    return b"HTTP/1.1 %d X\r\nlocation: %b\r\ncontent-length: 0\r\n\r\n" % (
        status,
        location.encode(),
    )


@pytest.mark.parametrize("status", [307, 308])
async def test_s20_a_redirect_within_the_origin_keeps_the_method_and_body(status: int) -> None:
    peer = Peer(_redirect("other?x=1", status), OK)
    async with client_of(peer) as client:
        assert await get(client) == b"ok"
    assert peer.requests[1].startswith(b"POST /other?x=1 HTTP/1.1\r\n")
    assert peer.requests[1].endswith(b"\r\n\r\nhello")


@pytest.mark.parametrize(
    "location",
    ["http://evil.example/mcp", "https://127.0.0.1/mcp", "//evil.example/", "", "http://["],
)
async def test_s20_no_redirect_leads_off_the_origin(location: str) -> None:
    peer = Peer(_redirect(location))
    async with client_of(peer) as client:
        with pytest.raises(InvalidRedirect):
            await get(client)
    assert len(peer.requests) == 1


async def test_a_redirect_loop_ends() -> None:
    async with client_of(Peer(_redirect("/mcp"))) as client:
        with pytest.raises(InvalidRedirect, match="too many redirects"):
            await get(client)


async def test_a_redirect_that_would_change_the_method_is_returned_unfollowed() -> None:
    peer = Peer(_redirect("/other", 302))
    async with client_of(peer) as client:
        response = await client.request(b"POST", [], b"x")
        assert response.status == 302
    assert len(peer.requests) == 1
