"""Requests, logs and progress of a backend reach the right client, in all four pairs of eras."""

import asyncio
from typing import Any

import mcp_types as t
import pytest
from mcp import Client, MCPError

from tests.proxy.runtime.peer import Peer
from tests.proxy.runtime.serving import LIVE, Proxy
from tests.proxy.runtime.waiting import soon

pytestmark = LIVE
PAIRS = [(mode, era) for mode in ("legacy", "2026-07-28") for era in ("legacy", "modern")]
pairs = pytest.mark.parametrize(("mode", "era"), PAIRS)


class User:
    """A client's side: what it answers and what it was told."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.prompts: list[str] = []
        self.asked: set[str] = set()
        """Features that the client was asked for."""
        self.logs: list[Any] = []
        self.progress: list[tuple[float, float | None, str | None]] = []

    def client(self, url: str, mode: str) -> Client:
        """A client that can do everything."""
        return Client(
            url,
            mode=mode,
            sampling_callback=self.sample,
            elicitation_callback=self.elicit,
            list_roots_callback=self.roots,
            logging_callback=self.log,
            log_level="debug",
        )

    async def sample(self, context: Any, params: Any) -> t.CreateMessageResult:
        """Answers with its own name and the prompt."""
        self.asked.add("sampling")
        self.prompts.append(params.messages[0].content.text)
        content = t.TextContent(type="text", text=f"{self.name}/{self.prompts[-1]}")
        return t.CreateMessageResult(role="assistant", model="m", content=content)

    async def elicit(self, context: Any, params: Any) -> t.ElicitResult:
        """Answers with its own name."""
        self.asked.add("elicitation")
        return t.ElicitResult(action="accept", content={"name": self.name})

    async def roots(self, context: Any) -> t.ListRootsResult:
        """One root of its own name."""
        self.asked.add("roots")
        return t.ListRootsResult(roots=[t.Root(uri=f"file:///{self.name}")])

    async def log(self, params: Any) -> None:
        """Taken note of."""
        self.logs.append(params.data)

    async def on_progress(self, progress: float, total: float | None, message: str | None) -> None:
        """Taken note of."""
        self.progress.append((progress, total, message))


def _text(result: Any) -> str:
    return str(result.content[0].text)


@pairs
async def test_sampling_elicitation_and_roots_are_answered_by_the_client(
    shared: tuple[Peer, Proxy], mode: str
) -> None:
    _, running = shared
    user = User("Bo")
    async with user.client(running.url, mode) as client:
        assert _text(await client.call_tool("p_sample", {"prompt": "hi"})) == "model: Bo/hi"
        assert _text(await client.call_tool("p_elicit", {})) == "user: Bo"
        assert _text(await client.call_tool("p_roots", {})) == "file:///Bo"


@pairs
async def test_s9_answers_of_concurrent_clients_never_mix(
    shared: tuple[Peer, Proxy], mode: str
) -> None:
    _, running = shared
    users = [User("Ann"), User("Bo")]
    async with users[0].client(running.url, mode) as a, users[1].client(running.url, mode) as b:
        calls = [
            client.call_tool("p_sample", {"prompt": f"{user.name}-{number}"})
            for user, client in zip(users, (a, b), strict=True)
            for number in range(4)
        ]
        results = [_text(answer) for answer in await asyncio.gather(*calls)]
    assert results == [f"model: {user.name}/{user.name}-{n}" for user in users for n in range(4)]
    for user in users:
        assert sorted(user.prompts) == [f"{user.name}-{n}" for n in range(4)]


@pairs
async def test_logs_and_progress_arrive_at_the_client_that_called(
    shared: tuple[Peer, Proxy], mode: str
) -> None:
    _, running = shared
    users = [User("Ann"), User("Bo")]
    async with users[0].client(running.url, mode) as a, users[1].client(running.url, mode) as b:
        if mode == "legacy":
            for client in (a, b):
                await client.set_logging_level("debug")
        await asyncio.gather(
            *(
                client.call_tool("p_noisy", {"say": user.name}, progress_callback=user.on_progress)
                for user, client in zip(users, (a, b), strict=True)
            )
        )
        await soon(lambda: all(len(u.progress) == 2 and u.logs for u in users), "logs, progress")
    for user in users:
        assert user.logs == [user.name]
        assert user.progress == [(1, 2, user.name), (2, 2, user.name)]


@pairs
async def test_s24_a_backend_sees_the_capabilities_of_the_client_and_no_more(
    shared: tuple[Peer, Proxy], mode: str
) -> None:
    _, running = shared
    async with Client(running.url, mode=mode) as plain:
        assert "sampling" not in _text(await plain.call_tool("p_whoami", {}))
    async with User("Bo").client(running.url, mode) as able:
        seen = _text(await able.call_tool("p_whoami", {}))
    assert all(name in seen for name in ("sampling", "elicitation", "roots"))


@pairs
async def test_a_client_without_the_capability_gets_an_error_and_no_other_client_is_asked(
    shared: tuple[Peer, Proxy], mode: str
) -> None:
    _, running = shared
    other = User("Bo")
    async with other.client(running.url, mode), Client(running.url, mode=mode) as plain:
        with pytest.raises((MCPError, RuntimeError)):
            _raised(await plain.call_tool("p_sample", {"prompt": "hi"}))
    assert other.prompts == []


def _raised(result: Any) -> None:
    if result.is_error:
        raise RuntimeError(_text(result))


@pairs
async def test_a_cancelled_call_is_cancelled_at_the_backend(
    shared: tuple[Peer, Proxy], mode: str
) -> None:
    server, running = shared
    async with Client(running.url, mode=mode) as client:
        call = asyncio.create_task(client.call_tool("p_slow", {}))
        async with asyncio.timeout(10):
            await server.started.wait()
            call.cancel()
            await server.cancelled.wait()
        await asyncio.gather(call, return_exceptions=True)
        assert _text(await client.call_tool("p_echo", {})) == "{}"
