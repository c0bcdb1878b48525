"""Sessions with a stateful backend: who shares one, and who never does."""

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from mcp import Client, MCPError
from mcp.client.streamable_http import streamable_http_client

from tests.proxy.runtime.counting import Counter
from tests.proxy.runtime.serving import LIVE, serving
from tests.proxy.runtime.waiting import soon

pytestmark = LIVE


@pytest_asyncio.fixture(loop_scope="session")
async def counter(stack: AsyncExitStack) -> tuple[Counter, str]:
    """A counter and its URL."""
    result = Counter()
    base = await stack.enter_async_context(serving(result.gate))
    return result, f"{base}/mcp"


async def _count(client: Client) -> Any:
    result = await client.call_tool("c_increment", {})
    assert result.structured_content is not None
    return result.structured_content["result"]


@pytest.mark.parametrize("mode", ["legacy", "2026-07-28"])
async def test_s9_isolated_requests_never_share_a_session(
    counter: tuple[Counter, str], proxy: Any, mode: str
) -> None:
    server, url = counter
    running = await proxy({"name": "c", "url": url})
    async with Client(running.url, mode=mode) as a, Client(running.url, mode=mode) as b:
        calls = [_count(client) for client in (a, b) for _ in range(15)]
        assert await asyncio.gather(*calls) == [1] * 30
        assert [await _count(a) for _ in range(3)] == [1, 1, 1]
    assert len(server.counts) == 33


async def test_isolated_sessions_are_ended_after_use(
    counter: tuple[Counter, str], proxy: Any
) -> None:
    server, url = counter
    running = await proxy({"name": "c", "url": url})
    async with Client(running.url, mode="legacy") as client:
        for _ in range(5):
            await _count(client)
        await soon(lambda: server.deleted >= 5, "used sessions to be deleted")


async def test_s9_a_client_keeps_one_session_that_no_other_client_uses(
    counter: tuple[Counter, str], proxy: Any
) -> None:
    server, url = counter
    running = await proxy({"name": "c", "url": url, "session": {"mode": "PerClient"}})
    async with Client(running.url, mode="legacy") as a, Client(running.url, mode="legacy") as b:
        first, second = await asyncio.gather(
            asyncio.gather(*(_count(a) for _ in range(20))),
            asyncio.gather(*(_count(b) for _ in range(20))),
        )
    assert sorted(first) == sorted(second) == list(range(1, 21))
    assert len(server.counts) == 2


async def test_s9_a_principal_without_sessions_keeps_its_own_session(
    counter: tuple[Counter, str], proxy: Any
) -> None:
    server, url = counter
    running = await proxy({"name": "c", "url": url, "session": {"mode": "PerClient"}})

    async def counts(principal: str, calls: int) -> list[int]:
        headers = {"Authorization": f"Bearer {principal}"}
        async with httpx2.AsyncClient(headers=headers) as http:
            transport = streamable_http_client(running.url, http_client=http)
            # Two clients with the same ids of requests at the same time.
            async with (
                Client(transport, mode="2026-07-28") as item,
                Client(
                    streamable_http_client(running.url, http_client=http), mode="2026-07-28"
                ) as two,
            ):
                both = (_count(client) for _ in range(calls) for client in (item, two))
                return sorted(await asyncio.gather(*both))

    result = await asyncio.gather(counts("ann", 10), counts("bo", 10))
    assert list(result) == [list(range(1, 21))] * 2
    assert len(server.counts) == 2


async def test_the_session_of_a_client_ends_with_it(
    counter: tuple[Counter, str], proxy: Any
) -> None:
    server, url = counter
    running = await proxy({"name": "c", "url": url, "session": {"mode": "PerClient"}})
    async with Client(running.url, mode="legacy") as client:
        assert await _count(client) == 1
    (session,) = server.counts
    await soon(
        lambda: any(
            r.method == "DELETE" and r.headers["mcp-session-id"] == session
            for r in server.gate.seen
        ),
        "the session to be deleted",
    )


async def test_the_mode_of_all_is_that_of_the_spec(
    counter: tuple[Counter, str], proxy: Any
) -> None:
    _, url = counter
    own = {"name": "own", "url": url, "session": {"mode": "Isolated"}}
    running = await proxy({"name": "c", "url": url}, own, session={"mode": "PerClient"})
    async with Client(running.url, mode="legacy") as client:
        assert [await _count(client) for _ in range(2)] == [1, 2]
        for _ in range(2):
            answer = await client.call_tool("own_increment", {})
            assert answer.structured_content == {"result": 1}


async def test_modern_clients_have_no_session_that_could_be_kept(
    counter: tuple[Counter, str], proxy: Any
) -> None:
    _, url = counter
    running = await proxy({"name": "c", "url": url, "session": {"mode": "PerClient"}})
    async with Client(running.url, mode="2026-07-28") as client:
        assert [await _count(client) for _ in range(3)] == [1, 1, 1]


async def test_reuse_is_refused_for_a_backend_that_keeps_sessions(
    counter: tuple[Counter, str], proxy: Any
) -> None:
    _, url = counter
    running = await proxy({"name": "c", "url": url, "session": {"mode": "Reused"}})
    (backend,) = (await running.report()).backends
    assert (backend.state, backend.reason) == ("Unhealthy", "StatefulBackend")
    assert backend.session == "Stateful"
    async with Client(running.url, mode="legacy") as client:
        assert [tool.name for tool in (await client.list_tools()).tools] == ["c_increment"]
        with pytest.raises(MCPError, match="requires sessions"):
            await _count(client)


async def test_a_declared_stateless_backend_is_reused(
    counter: tuple[Counter, str], proxy: Any
) -> None:
    server, url = counter
    session = {"mode": "Reused", "stateless": True}
    running = await proxy({"name": "c", "url": url, "session": session})
    async with Client(running.url, mode="legacy") as a, Client(running.url, mode="legacy") as b:
        assert [await _count(a), await _count(b)] == [1, 2]
    assert len(server.counts) == 1


async def test_s8_two_principals_never_share_a_session_even_when_reused(
    counter: tuple[Counter, str], proxy: Any, stack: AsyncExitStack
) -> None:
    server, url = counter
    session = {"mode": "Reused", "stateless": True}
    running = await proxy({"name": "c", "url": url, "session": session})
    for token in ("one", "two"):
        http = httpx2.AsyncClient(headers={"Authorization": f"Bearer {token}"})
        await stack.enter_async_context(http)
        transport = streamable_http_client(running.url, http_client=http)
        async with Client(transport, mode="legacy") as client:
            assert await _count(client) == 1
    assert len(server.counts) == 2


async def test_a_session_that_the_backend_forgot_is_opened_again_once(
    counter: tuple[Counter, str], proxy: Any
) -> None:
    server, url = counter
    running = await proxy({"name": "c", "url": url, "session": {"mode": "PerClient"}})
    async with Client(running.url, mode="legacy") as client:
        assert await _count(client) == 1
        (session,) = server.counts
        async with httpx2.AsyncClient() as http:
            await http.delete(url, headers={"mcp-session-id": session})
        assert await _count(client) == 1
        assert len(server.counts) == 2
