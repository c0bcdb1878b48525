"""A channel with one stream in each direction, whose other end is the test."""

import asyncio
import json
from typing import Any


class Pipe:
    """Messages that the proxy sends and receives."""

    send_blocks = False

    def __init__(self) -> None:
        self.sent: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._coming: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def send(self, body: bytes) -> None:
        self.sent.put_nowait(json.loads(body))

    async def receive(self) -> bytes | None:
        return await self._coming.get()

    async def close(self) -> None:
        self._coming.put_nowait(None)

    def says(self, **message: Any) -> None:
        self.writes(json.dumps({"jsonrpc": "2.0", **message}))

    def waiting(self) -> int:
        return self._coming.qsize()

    def writes(self, text: str) -> None:
        self.writes_bytes(text.encode())

    def writes_bytes(self, text: bytes) -> None:
        self._coming.put_nowait(text)
