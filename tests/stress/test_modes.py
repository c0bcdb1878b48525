"""Session modes of a process of its own, seen by a backend that counts its sessions."""

import asyncio
import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.proxy.runtime.serving import LIVE, serving
from tests.stress.chatter import Chatter, Talker
from tests.stress.instances import Instance, instances
from tests.stress.size import size

pytestmark = [*LIVE, pytest.mark.timeout(120), pytest.mark.slow]
CALLS = size(100, 1000)


async def _served(
    stack: AsyncExitStack, directory: Path, era: str = "legacy", **session: Any
) -> tuple[Chatter, Instance, httpx2.AsyncClient]:
    chatter = Chatter(era, "a")
    base = await stack.enter_async_context(serving(chatter.backend))
    spec = {"name": "a", "url": f"{base}/mcp", "session": session}
    (proxy,) = await stack.enter_async_context(instances(directory, 1, [spec]))
    return chatter, proxy, await stack.enter_async_context(httpx2.AsyncClient(timeout=30))


async def _quiet(talker: Talker) -> dict[str, Any]:
    response, _ = await talker.send(talker.request("a_talk", "q", arguments={"quiet": True}))
    result: dict[str, Any] = response
    return result


async def test_isolated_gives_each_call_a_fresh_session(
    tmp_path: Path,
) -> None:
    async with AsyncExitStack() as stack:
        chatter, proxy, http = await _served(stack, tmp_path, mode="Isolated")
        talker = await Talker(http, proxy.url, "legacy", "x").start()
        for _ in range(20):
            assert "result" in await _quiet(talker)
        assert list(chatter.calls.values()) == [1] * 20


async def test_per_client_keeps_one_session_for_a_clients_life(
    tmp_path: Path,
) -> None:
    async with AsyncExitStack() as stack:
        chatter, proxy, http = await _served(stack, tmp_path, mode="PerClient")
        talkers = [await Talker(http, proxy.url, "legacy", who).start() for who in ("x", "y")]
        for _ in range(20):
            await asyncio.gather(*(_quiet(talker) for talker in talkers))
        assert list(chatter.calls.values()) == [20, 20]


async def test_reuse_of_a_stateful_backend_is_refused_with_the_reason(
    tmp_path: Path,
) -> None:
    async with AsyncExitStack() as stack:
        chatter, proxy, http = await _served(stack, tmp_path, mode="Reused")
        talker = await Talker(http, proxy.url, "legacy", "x").start()
        error = (await _quiet(talker))["error"]
        assert error["data"]["reason"] == "StatefulBackend"
        assert "session.stateless" in error["message"]
        assert not chatter.calls
        (seen,) = (await http.get(f"http://127.0.0.1:{proxy.admin}/status")).json()["backends"]
        assert (seen["state"], seen["reason"]) == ("Unhealthy", "StatefulBackend")
        assert seen["session"] == "Stateful"


async def test_a_backend_declared_stateless_gets_one_session_for_all_calls_in_a_row(
    tmp_path: Path,
) -> None:
    async with AsyncExitStack() as stack:
        chatter, proxy, http = await _served(stack, tmp_path, mode="Reused", stateless=True)
        talker = await Talker(http, proxy.url, "legacy", "x").start()
        for _ in range(CALLS):
            assert "result" in await _quiet(talker)
        assert list(chatter.calls.values()) == [CALLS]
        watched = [
            greeting.message["params"]["clientInfo"]["name"]
            for greeting in chatter.backend.greetings
        ]
        assert sorted(watched) == ["c", "mcpproxy"], json.dumps(watched)


async def test_s9_two_principals_never_share_a_session_nor_a_private_result(
    tmp_path: Path,
) -> None:
    async with AsyncExitStack() as stack:
        chatter, proxy, http = await _served(stack, tmp_path, mode="Reused", stateless=True)
        talkers = [await Talker(http, proxy.url, "legacy", who).start() for who in ("x", "y")]
        for _ in range(10):
            await asyncio.gather(*(_quiet(talker) for talker in talkers))
        assert sorted(map(sorted, chatter.users.values())) == [["x"], ["y"]]


async def test_s9_a_private_result_is_requested_again_for_each_principal(
    tmp_path: Path,
) -> None:
    async with AsyncExitStack() as stack:
        chatter, proxy, http = await _served(stack, tmp_path, "modern", mode="Isolated")
        for who in ("x", "y", "x"):
            talker = Talker(http, proxy.url, "modern", who)
            assert "result" in await _quiet(talker)
            request = talker.request("a_talk", "q")
            listed, _ = await talker.send({**request, "method": "tools/list"})
            assert listed["result"]["cacheScope"] == "private"
        assert chatter.calls[""] == 3
        assert chatter.users[""] == {"x", "y"}
