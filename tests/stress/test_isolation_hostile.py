"""Clients that all use the same ids and tokens, at once, in every mode, era and transport.

Answers come out of order and late, calls are cancelled, and backends talk on about what is over:
every answer, progress, log message and question reaches its own client.
"""

import asyncio
import contextlib
import json
import random
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest

from tests.differential.backend import MODERN
from tests.differential.client import Client
from tests.proxy.runtime.peer import Peer
from tests.proxy.runtime.serving import LIVE, proxied, serving
from tests.proxy.runtime.waiting import soon
from tests.stress.hostile import SECRET, Director, Script
from tests.stress.hostile_peers import backends
from tests.stress.size import size
from tests.support.seeds import SEED

pytestmark = [*LIVE, pytest.mark.timeout(size(120, 900)), pytest.mark.slow]
CLIENTS = 16
CALLS = size(4, 60)
"""Calls of each client."""
META = "io.modelcontextprotocol/"
CAPABILITIES: dict[str, Any] = {"sampling": {}}


@dataclass
class Player:
    """One client. Its first call has the id 1 and the progress token 1, and so on."""

    number: int
    client: Client
    director: Director
    chance: random.Random
    leaks: list[str] = field(default_factory=list)
    right: int = 0
    cancelled: int = 0
    calls: int = 0

    async def start(self) -> "Player":
        """Begin a session, where the era has them."""
        if self.client.era == "legacy":
            await self.client.initialize(json.dumps(CAPABILITIES))
        return self

    def seen(self, data: bytes, secret: str | None = None) -> None:
        """Whatever comes is about this client; about this call, where it names one."""
        about_call = secret and (b'"progress"' in data or b'"result"' in data)
        for match in SECRET.finditer(data.decode()):
            own = match[0] == secret if about_call else match[1] == f"c{self.number}"
            if not own:
                self.leaks.append(f"c{self.number} got {data[:300]!r} in place of {secret}")

    async def listen(self) -> None:
        """Keep the stream of the session open."""
        with contextlib.suppress(httpx2.TransportError):
            async for _, data in self.client.stream():
                self.seen(data)

    async def play(self, names: list[str]) -> None:
        """Call backends, one after the other."""
        for number in range(1, CALLS + 1):
            secret = f"secret-of-c{self.number}-{number}"
            name = self.chance.choice(names)
            if self.chance.random() < 0.2:
                await self._given_up(name, number, secret)
            else:
                await self._called(name, number, secret)

    def _request(self, name: str, number: int, secret: str, **members: Any) -> dict[str, Any]:
        meta: dict[str, Any] = {"progressToken": number}
        if self.client.era == "modern":
            meta[f"{META}protocolVersion"] = MODERN
            meta[f"{META}clientCapabilities"] = CAPABILITIES
            meta[f"{META}logLevel"] = "debug"
        params = {"name": f"{name}_talk", "arguments": {"secret": secret}, "_meta": meta, **members}
        return {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}

    async def _exchanged(self, request: dict[str, Any], secret: str) -> dict[str, Any]:
        body = json.dumps(request).encode()
        result = await self.client.exchange(body, self._reply)
        for item in result:
            self.seen(item, secret)
            message = json.loads(item)
            if message.get("method") == "notifications/progress":
                assert message["params"]["progressToken"] == request["id"]
        response: dict[str, Any] = json.loads(result[-1])
        assert response["id"] == request["id"], response
        return response

    def _reply(self, asked: dict[str, Any]) -> bytes:
        """Each answer holds the secret of the question, and who gave it."""
        text = json.dumps(asked)
        self.seen(text.encode())
        match = SECRET.search(text)
        said = f"{match[0] if match else '?'} says c{self.number}"
        return json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": _said(said)}).encode()

    async def _called(self, name: str, number: int, secret: str) -> None:
        self.calls += 1
        response = await self._exchanged(self._request(name, number, secret), secret)
        while response.get("result", {}).get("resultType") == "input_required":
            result = response["result"]
            said = _said(f"{secret} says c{self.number}")
            more: dict[str, Any] = {"inputResponses": dict.fromkeys(result["inputRequests"], said)}
            if "requestState" in result:
                more["requestState"] = result["requestState"]
            retry = self._request(name, number, secret, **more)
            response = await self._exchanged(retry, secret)
        assert "result" in response, (name, response)
        assert response["result"]["content"][0]["text"] == f"{name} {secret}"
        self.right += 1

    async def _given_up(self, name: str, number: int, secret: str) -> None:
        request = self._request(name, number, secret)
        running = asyncio.create_task(self._exchanged(request, secret))
        started = asyncio.create_task(self.director.started[secret].wait())
        await asyncio.wait((running, started), return_when=asyncio.FIRST_COMPLETED)
        started.cancel()
        self.cancelled += 1
        if self.client.era == "modern":
            running.cancel()
        else:
            params = {"requestId": number, "reason": secret}
            told = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params}
            assert await self.client.tell(json.dumps(told).encode()) == 202
        with contextlib.suppress(asyncio.CancelledError):
            await running


def _said(secret: str) -> dict[str, Any]:
    content = {"type": "text", "text": secret}
    return {"role": "assistant", "model": "m", "content": content}


def _check(players: list[Player], scripts: dict[str, Script]) -> None:
    assert [leak for player in players for leak in player.leaks] == []
    assert [wrong for script in scripts.values() for wrong in script.wrong] == []
    for player in players:
        assert player.right == player.calls
    # Clients of 2026-07-28 that have one principal have one session with PerClient, too.
    shared = ("-reused", "-perclient") if players[0].client.headers else ("-reused",)
    for name, script in scripts.items():
        assert script.refused == 0 or name.endswith(shared), name


@pytest.mark.parametrize("authorization", [None, "Bearer same"])
async def test_s9_every_message_reaches_its_own_client_at_any_timing(
    authorization: str | None,
) -> None:
    async with AsyncExitStack() as stack:
        director = Director(SEED)
        stack.push_async_callback(director.close)
        specs, scripts = await stack.enter_async_context(backends(director))
        running = await stack.enter_async_context(proxied(*specs))
        limits = httpx2.Limits(max_connections=512, max_keepalive_connections=0)
        http = await stack.enter_async_context(httpx2.AsyncClient(timeout=60, limits=limits))
        headers = {"authorization": authorization} if authorization else {}
        players = []
        for number in range(CLIENTS):
            client = Client(http, running.url, ("legacy", "modern")[number % 2], headers)
            player = Player(number, client, director, random.Random(SEED + number))
            players.append(await player.start())
        listening = [asyncio.create_task(p.listen()) for p in players if p.client.session]
        # Most calls meet in sessions that they share; the other modes are among them all the same.
        names = [
            *scripts,
            *(name for name in scripts if name.endswith("-reused")),
            *(name for name in scripts if name.endswith("-reused")),
        ]
        await asyncio.gather(*(player.play(names) for player in players))
        for task in listening:
            task.cancel()
        await asyncio.gather(*listening, return_exceptions=True)
        _check(players, scripts)
        assert sum(player.cancelled for player in players)
        assert sum(script.asked for script in scripts.values())


@pytest.mark.parametrize("authorization", [None, "Bearer same"])
async def test_s9_clients_of_an_sdk_server_get_their_own_messages_in_a_shared_session(
    authorization: str | None,
) -> None:
    async with AsyncExitStack() as stack:
        peer = Peer("sdk", "legacy")
        base = await stack.enter_async_context(serving(peer.gate))
        session = {"mode": "Reused", "stateless": True}
        spec = {"name": "sdk", "url": f"{base}/mcp", "session": session}
        running = await stack.enter_async_context(proxied(spec))
        http = await stack.enter_async_context(httpx2.AsyncClient(timeout=60))
        headers = {"authorization": authorization} if authorization else {}
        clients = [Client(http, running.url, "legacy", headers) for _ in range(CLIENTS)]
        for client in clients:
            await client.initialize(json.dumps(CAPABILITIES), '{"name":"c","version":"1"}')

        async def call(who: int, client: Client, tool: str, **arguments: Any) -> list[Any]:
            params = {"name": f"sdk_{tool}", "arguments": arguments, "_meta": {"progressToken": 1}}
            request = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}

            def reply(asked: dict[str, Any]) -> bytes:
                said = asked["params"]["messages"][0]["content"]["text"]
                answer = {"jsonrpc": "2.0", "id": asked["id"], "result": _said(f"{who}/{said}")}
                return json.dumps(answer).encode()

            result = await client.exchange(json.dumps(request).encode(), reply)
            return [json.loads(item) for item in result]

        for _ in range(size(2, 20)):
            for tool, member in (("echo", "say"), ("noisy", "say"), ("sample", "prompt")):
                answers = await asyncio.gather(
                    *(call(n, c, tool, **{member: f"from {n};"}) for n, c in enumerate(clients))
                )
                for number, messages in enumerate(answers):
                    own = f"from {number};"
                    assert all(own in json.dumps(message["params"]) for message in messages[:-1])
                    assert "result" in messages[-1], messages
                    text = messages[-1]["result"]["content"][0]["text"]
                    assert own in text
                    assert tool != "sample" or text == f"model: {number}/{own}"
                    assert tool != "noisy" or len(messages) == 4
        await soon(lambda: peer.gate.count("initialize") == 2, "one session, and the watch's own")
