"""The port at which the browser reports the result of a sign-in."""

import asyncio

import pytest

from mcpproxy.proxy.upstream.sign_in import callback
from mcpproxy.proxy.upstream.sign_in.callback import CallbackPort, Redirect
from tests.proxy.upstream.sign_in.signing import visit

STATE = "s" * 32


async def test_requests_other_than_the_redirect_do_not_end_a_sign_in() -> None:
    port = CallbackPort(0)
    await port.listen(STATE)
    uri = port.uri
    waiting = asyncio.create_task(port.redirect())
    try:
        others = {
            f"{uri}?code=x&state=other": None,
            f"{uri}?code=x": None,
            f"{uri}?state={STATE}": None,
            f"{uri}?state={STATE}&state={STATE}&code=x": None,
            f"http://127.0.0.1:{port.port}/?code=x&state={STATE}": None,
            f"{uri}?state={STATE}&code=rebound": "evil.example",
        }
        for url, host in others.items():
            assert (await visit(url, host)).startswith(b"HTTP/1.1 400 ")
        long = await visit(f"{uri}?state={STATE}&code={'x' * 20_000}")
        assert long == b""
        assert not waiting.done()
        good = await visit(f"{uri}?state={STATE}&code=c&iss=https%3A%2F%2Fi.example")
        assert good.startswith(b"HTTP/1.1 200 ")
        assert await waiting == Redirect(STATE, "c", "https://i.example")
    finally:
        port.close()


async def test_a_silent_connection_at_the_redirect_uri_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Short:
        value = 0.05
        records = 0

        @classmethod
        def record(cls) -> None:
            cls.records += 1

    monkeypatch.setattr(callback, "CALLBACK_TIME", Short)
    port = CallbackPort(0)
    await port.listen(STATE)
    reader, writer = await asyncio.open_connection("127.0.0.1", port.port)
    try:
        assert await reader.read() == b""
        assert Short.records == 1
    finally:
        writer.close()
        port.close()


async def test_connections_beyond_the_limit_are_closed() -> None:
    port = CallbackPort(0)
    await port.listen(STATE)
    opened = [await asyncio.open_connection("127.0.0.1", port.port) for _ in range(8)]
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port.port)
        opened.append((reader, writer))
        assert await reader.read() == b""
    finally:
        for _, writer in opened:
            writer.close()
        port.close()
