"""Which era processes are spoken to in: silence is a verdict only before one has answered."""

import asyncio
import json
from typing import Any

import pytest

from mcpproxy.api.defaults import settings
from mcpproxy.proxy.back.link import Background
from mcpproxy.proxy.back.opener import StdioOpener
from mcpproxy.proxy.core.errors import TimedOut
from mcpproxy.proxy.core.exchange import Client
from tests.builders import an_mcpproxy

MODERN = Client("2026-07-28")


class Process:
    """A channel to a server of both eras that says nothing to the methods in `deaf_to`."""

    answers_late = False

    def __init__(self, deaf_to: set[str]) -> None:
        self._deaf_to = deaf_to
        self._answers: asyncio.Queue[bytes] = asyncio.Queue()

    async def send(self, body: bytes) -> None:
        """See Channel."""
        message = json.loads(body)
        if message["method"] in self._deaf_to or "id" not in message:
            return
        result: dict[str, Any] = {"capabilities": {}, "supportedVersions": ["2026-07-28"]}
        if message["method"] == "initialize":
            result = {"capabilities": {}, "protocolVersion": "2025-11-25"}
        answer = {"jsonrpc": "2.0", "id": message["id"], "result": result}
        self._answers.put_nowait(json.dumps(answer).encode())

    async def receive(self) -> bytes:
        """See Channel."""
        return await self._answers.get()

    async def close(self) -> None:
        """See Channel."""


class Stage:
    """An opener of such processes."""

    def __init__(self) -> None:
        self.deaf_to: set[str] = set()
        timeouts = {"connect": "100ms", "initialize": "200ms"}
        backend = {"name": "b", "stdio": {"command": "x"}, "timeouts": timeouts}
        spec = an_mcpproxy(backends=[backend]).spec
        self.background = Background()
        self.opener = StdioOpener(self._spawn, settings(spec, spec.backends[0]), self.background)

    async def _spawn(self) -> Process:
        return Process(self.deaf_to)

    async def revision(self) -> str:
        """What the next process is spoken to in."""
        link = await self.opener.open(MODERN)
        await link.close()
        return link.greeting.revision


async def test_a_program_that_says_nothing_to_discover_is_spoken_to_in_the_legacy_era() -> None:
    stage = Stage()
    stage.deaf_to = {"server/discover"}
    assert await stage.revision() == "2025-11-25"


async def test_a_program_that_answered_before_is_slow_to_start_and_not_of_another_era() -> None:
    stage = Stage()
    assert await stage.revision() == "2026-07-28"
    stage.deaf_to = {"server/discover"}
    with pytest.raises(TimedOut):
        await stage.revision()
    stage.deaf_to = set()
    assert await stage.revision() == "2026-07-28"


async def test_a_program_that_failed_may_come_back_without_the_modern_era() -> None:
    stage = Stage()
    assert await stage.revision() == "2026-07-28"
    stage.opener.forget()
    stage.deaf_to = {"server/discover"}
    assert await stage.revision() == "2025-11-25"
