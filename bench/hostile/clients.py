"""Hostile clients of a proxy, in a process that only gets time that nobody else wants.

    python -m bench.hostile.clients --port 9300 --seconds 300 --seed 1

Each of them makes one attack after the other, chosen by the seed; each attack ends after
`_LONGEST` seconds at most. Prints how many of each kind were made, as JSON.
"""

import argparse
import asyncio
import collections
import contextlib
import json
import os
import random
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

from bench.hostile.backend import TOOLS

_LONGEST: Final = 15.0
_PLACES: Final = 24
_ACCEPT: Final = "application/json, text/event-stream"
_LEGACY: Final = "2025-11-25"
_MODERN: Final = "2026-07-28"
_META: Final = {
    "io.modelcontextprotocol/protocolVersion": _MODERN,
    "io.modelcontextprotocol/clientInfo": {"name": "hostile", "version": "1"},
    "io.modelcontextprotocol/clientCapabilities": {"sampling": {}, "elicitation": {}},
}
_BACKENDS: Final = ("evil", "cruel", "shared")
Attack = Callable[["Attacker"], Awaitable[None]]


class Attacker:
    """One connection of a hostile client, and its session if it has one."""

    def __init__(self, port: int, rng: random.Random) -> None:
        self.random = rng
        self._port = port
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._session = ""

    async def write(self, data: bytes) -> None:
        """Send bytes. Raises OSError."""
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._writer.write(data)
        await self._writer.drain()

    async def read(self, size: int = 65536) -> bytes:
        """Read what is there. Raises OSError."""
        assert self._reader is not None
        async with asyncio.timeout(2):
            return await self._reader.read(size)

    def close(self) -> None:
        """Hang up at once."""
        if self._writer is not None:
            self._writer.transport.abort()

    def head(self, length: int | None, *lines: str, method: str = "POST") -> bytes:
        """The head of a request for the endpoint."""
        result = [f"{method} /mcp HTTP/1.1", "host: localhost", f"accept: {_ACCEPT}", *lines]
        if self._session:
            result += [f"mcp-session-id: {self._session}", f"mcp-protocol-version: {_LEGACY}"]
        if length is not None:
            result += ["content-type: application/json", f"content-length: {length}"]
        return ("\r\n".join(result) + "\r\n\r\n").encode()

    def post(self, method: str, params: object, *lines: str, number: object = 1) -> bytes:
        """A request of the legacy era; many clients use the same ids."""
        message = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
        body = json.dumps(message).encode()
        return self.head(len(body), *lines) + body

    def modern(self, tool: str) -> bytes:
        """A call of the modern era."""
        params = {"name": tool, "arguments": {}, "_meta": {**_META, "progressToken": 1}}
        message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
        body = json.dumps(message).encode()
        lines = [f"mcp-protocol-version: {_MODERN}", "mcp-method: tools/call", f"mcp-name: {tool}"]
        session, self._session = self._session, ""
        head = self.head(len(body), *lines)
        self._session = session
        return head + body

    async def begin(self, **info: Any) -> None:
        """Initialize a session. Raises OSError, or KeyError where that is refused."""
        params = {
            "protocolVersion": _LEGACY,
            "capabilities": {"sampling": {}, "roots": {"listChanged": True}},
            "clientInfo": {"name": "hostile", "version": "1", **info},
        }
        await self.write(self.post("initialize", params))
        answer = await self.read()
        for line in answer.partition(b"\r\n\r\n")[0].split(b"\r\n"):
            name, _, value = line.partition(b":")
            if name.lower() == b"mcp-session-id":
                self._session = value.strip().decode()
        if not self._session:
            raise KeyError("mcp-session-id")

    def tool(self) -> str:
        """Any tool of a hostile backend, or one of a backend that clients share."""
        backend = self.random.choice(_BACKENDS)
        return f"{backend}_{'echo' if backend == 'shared' else self.random.choice(list(TOOLS))}"

    def call(self, number: object = 1) -> bytes:
        """A call of any tool."""
        params = {"name": self.tool(), "arguments": {"text": "x"}, "_meta": {"progressToken": 1}}
        return self.post("tools/call", params, number=number)


async def _calls(attacker: Attacker) -> None:
    await attacker.begin()
    for _ in range(5):
        await attacker.write(attacker.call())
        await attacker.read()


async def _modern_calls(attacker: Attacker) -> None:
    for _ in range(5):
        await attacker.write(attacker.modern(attacker.tool()))
        await attacker.read()


async def _cancelled_calls(attacker: Attacker) -> None:
    await attacker.begin()
    await attacker.write(attacker.call())
    attacker.close()


async def _slow_head(attacker: Attacker) -> None:
    for byte in attacker.head(None)[:-2]:
        await attacker.write(bytes([byte]))
        await asyncio.sleep(0.2)


async def _held_back_body(attacker: Attacker) -> None:
    size = 16 * 1024 * 1024
    await attacker.write(attacker.head(size))
    await attacker.write(b" " * (size - 1))
    await asyncio.sleep(_LONGEST)


async def _declared_body(attacker: Attacker) -> None:
    await attacker.write(attacker.head(16 * 1024 * 1024) + b"{")
    await asyncio.sleep(_LONGEST)


async def _sent_ahead(attacker: Attacker) -> None:
    await attacker.write(b"GET /x HTTP/1.1\r\n\r\n" * 50_000)
    await asyncio.sleep(_LONGEST / 2)


async def _members(attacker: Attacker) -> None:
    members = ",".join(f'"{number:x}":1' for number in range(200_000))
    body = f'{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{{members}}}}}'.encode()
    await attacker.write(attacker.head(len(body)) + body)
    await attacker.read()


async def _long_uri(attacker: Attacker) -> None:
    await attacker.begin()
    uri = attacker.random.choice(("evil", "cruel"))
    text = f"x://{uri}/" + attacker.random.choice(("a", ".", "a.", "/")) * 30_000
    await attacker.write(attacker.post("resources/read", {"uri": text}))
    await attacker.read()


async def _subscriptions(attacker: Attacker) -> None:
    await attacker.begin()
    for number in range(100):
        uri = f"file://evil/{number}." + "x" * 4000
        await attacker.write(attacker.post("resources/subscribe", {"uri": uri}, number=number))
        await attacker.read()


async def _sessions(attacker: Attacker) -> None:
    for _ in range(100):
        attacker._session = ""
        await attacker.begin(icons=[{"src": "data:," + "x" * 2000}])
        await attacker.write(attacker.post("logging/setLevel", {"level": "debug"}))
        await attacker.read()
        await attacker.write(attacker.call())
        await attacker.read()


async def _unread_stream(attacker: Attacker) -> None:
    await attacker.begin()
    await attacker.write(attacker.head(None, method="GET"))
    await asyncio.sleep(_LONGEST)


async def _unread_answers(attacker: Attacker) -> None:
    await attacker.begin()
    for number in range(200):
        await attacker.write(attacker.post("tools/list", {}, number=number))
    await asyncio.sleep(_LONGEST)


async def _many_headers(attacker: Attacker) -> None:
    await attacker.write(
        b"POST /mcp HTTP/1.1\r\nhost: localhost\r\n" + b"a:\r\n" * 60_000 + b"\r\n"
    )
    await attacker.read()


async def _idle_connections(attacker: Attacker) -> None:
    others = [Attacker(attacker._port, attacker.random) for _ in range(150)]
    try:
        for other in others:
            await other.write(b"POST /mcp HT")
        await asyncio.sleep(_LONGEST / 2)
    finally:
        for other in others:
            other.close()


async def _refused(attacker: Attacker) -> None:
    for line in ("origin: http://evil.example", "origin: null", "transfer-encoding: gzip", "x"):
        await attacker.write(attacker.post("ping", {}, line))
        with contextlib.suppress(TimeoutError):
            await attacker.read()


async def _garbage(attacker: Attacker) -> None:
    for _ in range(20):
        await attacker.write(attacker.head(5) + b"{bad\xff")
        await attacker.read()
    await attacker.write(attacker.random.randbytes(4000))


async def _foreign_tokens(attacker: Attacker) -> None:
    await attacker.begin()
    own = attacker._session
    for _ in range(20):
        at = attacker.random.randrange(len(own))
        attacker._session = own[:at] + "A" + own[at + 1 :]
        await attacker.write(attacker.call())
        await attacker.read()


async def _handed_over(attacker: Attacker) -> None:
    await attacker.write(attacker.post("ping", {}, "mcpproxy-handover: x"))
    await attacker.read()
    await attacker.write(b"\x16\x03\x01\x02\x00\x01" + attacker.random.randbytes(511))
    await attacker.read()


ATTACKS: Final[tuple[Attack, ...]] = (
    _calls, _calls, _calls, _modern_calls, _modern_calls, _cancelled_calls, _slow_head,
    _held_back_body, _declared_body, _sent_ahead, _members, _long_uri, _subscriptions, _sessions,
    _unread_stream, _unread_answers, _many_headers, _idle_connections, _refused, _garbage,
    _foreign_tokens, _handed_over,
)  # fmt: skip


async def _place(
    port: int, end: float, rng: random.Random, made: "collections.Counter[str]"
) -> None:
    chosen: list[Attack] = []
    while time.monotonic() < end:
        # Each kind comes in each round.
        chosen = chosen or rng.sample(ATTACKS, len(ATTACKS))
        attack = chosen.pop()
        attacker = Attacker(port, rng)
        made[attack.__name__.removeprefix("_")] += 1
        with contextlib.suppress(OSError, KeyError, TimeoutError):
            async with asyncio.timeout(min(_LONGEST, max(0.1, end - time.monotonic()))):
                await attack(attacker)
        attacker.close()


async def attack(port: int, seconds: float, seed: int) -> dict[str, int]:
    """Attack the proxy at a port of loopback; the number of attacks of each kind."""
    made: collections.Counter[str] = collections.Counter()
    end = time.monotonic() + seconds
    rngs = [random.Random(f"{seed}-{number}") for number in range(_PLACES)]
    await asyncio.gather(*(_place(port, end, rng, made) for rng in rngs))
    return dict(made)


def main() -> None:
    """Attack as the arguments say."""
    parser = argparse.ArgumentParser(description="hostile clients of a proxy on loopback")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--seed", type=int, required=True)
    args = parser.parse_args()
    if sys.platform == "linux":
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    print(json.dumps(asyncio.run(attack(args.port, args.seconds, args.seed))))


if __name__ == "__main__":
    main()
