"""Three instances without affinity, one of which is killed every few seconds."""

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest

from tests.proxy.runtime.serving import LIVE, serving
from tests.proxy.runtime.waiting import soon
from tests.stress.chatter import Chatter
from tests.stress.fleet import Fleet, RoamingTalker, fleets
from tests.stress.size import size

KILLS: Final = size(2, 30)
EVERY: Final = size(1, 20)
"""Seconds of calls before each kill."""
CLIENTS: Final = size(4, 64)
"""Clients of each era."""
pytestmark = [*LIVE, pytest.mark.timeout(KILLS * (EVERY + 15) + 120), pytest.mark.slow]
SEED: Final = 20261129
log = logging.getLogger("loss")
CHANGED: Final = "notifications/tools/list_changed"


@asynccontextmanager
async def _running(work: list[Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    """Run this until the end."""
    tasks = [asyncio.create_task(coroutine) for coroutine in work]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _killing(fleet: Fleet, over: asyncio.Event) -> None:
    for _ in range(KILLS):
        await asyncio.sleep(EVERY)
        await fleet.kill()
    over.set()


async def _calling(talker: RoamingTalker, over: asyncio.Event) -> None:
    number = 0
    while not over.is_set():
        number += 1
        await talker.call("ab"[number % 2], number)
        await asyncio.sleep(0.05)


class Listener:
    """Holds a stream of changes of a session open, at whichever instance."""

    def __init__(self, talker: RoamingTalker) -> None:
        self.client = talker.client
        self.opened = 0
        self.refused: list[bytes] = []
        self.changes = 0
        self.is_open = asyncio.Event()

    async def listen(self) -> None:
        """Open the stream again whenever it ends."""
        while True:
            with contextlib.suppress(httpx2.TransportError):
                async for kind, data in self.client.stream():
                    if kind is None:
                        self._began(data)
                    else:
                        self.changes += json.loads(data).get("method") == CHANGED
            self.is_open.clear()
            await asyncio.sleep(0.05)

    def _began(self, status: bytes) -> None:
        if status == b"200":
            self.opened += 1
            self.is_open.set()
        else:
            self.refused.append(status)


async def test_only_calls_in_flight_on_a_killed_instance_fail_and_no_session_ends(
    tmp_path: Path,
) -> None:
    chatters = {"a": Chatter("legacy", "a"), "b": Chatter("modern", "b")}
    async with (
        serving(chatters["a"].backend) as first,
        serving(chatters["b"].backend) as second,
        httpx2.AsyncClient(
            timeout=60, limits=httpx2.Limits(max_connections=512, max_keepalive_connections=0)
        ) as http,
    ):
        specs: list[dict[str, Any]] = [
            {"name": name, "url": f"{base}/mcp", "session": {"mode": "Isolated"}}
            for name, base in (("a", first), ("b", second))
        ]
        async with fleets(tmp_path, 3, specs, SEED) as fleet, AsyncExitStack() as stack:
            talkers = [
                RoamingTalker(fleet, http, era, f"{era}{number}")
                for number in range(CLIENTS)
                for era in ("legacy", "modern")
            ]
            for talker in talkers:
                await talker.start()
            sessions = {talker.who: talker.client.session for talker in talkers}
            listeners = [Listener(talker) for talker in talkers if talker.client.era == "legacy"]
            await stack.enter_async_context(_running([listener.listen() for listener in listeners]))
            over = asyncio.Event()
            await asyncio.gather(
                _killing(fleet, over), *(_calling(talker, over) for talker in talkers)
            )
            for talker in talkers:
                await talker.call("a", 0)
                await talker.call("b", 0)
            _judge(talkers, fleet)
            assert sessions == {talker.who: talker.client.session for talker in talkers}
            for listener in listeners:
                await asyncio.wait_for(listener.is_open.wait(), 10)
            before = [listener.changes for listener in listeners]
            chatters["a"].change()
            await soon(
                lambda: all(
                    listener.changes > count
                    for listener, count in zip(listeners, before, strict=True)
                ),
                "the change to arrive at all streams",
            )
            assert [listener.refused for listener in listeners if listener.refused] == []


def _judge(talkers: list[RoamingTalker], fleet: Fleet) -> None:
    lost = [loss for talker in talkers for loss in talker.lost]
    done = sum(talker.done for talker in talkers)
    log.info("%s calls, %s kills, seed %s, lost: %s", done, len(fleet.killed), SEED, lost)
    assert done > 4 * len(talkers)
    assert [talker.strange for talker in talkers if talker.strange] == []
    assert [loss for loss in lost if not loss.was_hit] == []
    assert [loss for loss in lost if not loss.says] == []
    # What one kill may hit is in flight: one call of each client.
    assert len(lost) <= len(fleet.killed) * len(talkers)
