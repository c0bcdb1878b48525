"""Three instances without affinity, one of which is killed every few seconds."""

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest

from mcpproxy.proxy.sealing_keys import READ_EVERY
from tests.proxy.runtime.serving import LIVE, serving
from tests.proxy.runtime.waiting import soon
from tests.stress.chatter import Chatter
from tests.stress.fleet import Fleet, RoamingTalker, fleets
from tests.stress.size import size
from tests.support.seeds import SEED

SECONDS: Final = size(2, 600)
EVERY: Final = size(1, 20)
"""Seconds of calls before each kill."""
CLIENTS: Final = size(4, 64)
"""Clients of each era."""
pytestmark = [*LIVE, pytest.mark.timeout(SECONDS + 240), pytest.mark.slow]
KINDS: Final = {
    "a": ("legacy", "Isolated"),
    "b": ("modern", "Isolated"),
    "c": ("legacy", "PerClient"),
}
"""Backends: their eras and session modes."""
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
    ends = time.monotonic() + SECONDS
    while time.monotonic() < ends:
        await asyncio.sleep(EVERY)
        await fleet.kill()
    over.set()


async def _calling(talker: RoamingTalker, over: asyncio.Event) -> None:
    number = 0
    while not over.is_set():
        number += 1
        await _call(talker, "abc"[number % 3], number)
        await asyncio.sleep(0.05)


async def _call(talker: RoamingTalker, backend: str, number: int) -> None:
    owned = talker.client.era == "legacy" and KINDS[backend][1] == "PerClient"
    await talker.call(backend, number, by_owner=owned)


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


@asynccontextmanager
async def _stage(
    directory: Path,
) -> AsyncIterator[tuple[Fleet, list[RoamingTalker], dict[str, Chatter]]]:
    """Three instances before backends of each era, and clients that have begun."""
    chatters = {name: Chatter(era, name) for name, (era, _) in KINDS.items()}
    limits = httpx2.Limits(max_connections=512, max_keepalive_connections=0)
    async with AsyncExitStack() as stack:
        specs: list[dict[str, Any]] = []
        for name, chatter in chatters.items():
            base = await stack.enter_async_context(serving(chatter.backend))
            mode = {"mode": KINDS[name][1]}
            specs.append({"name": name, "url": f"{base}/mcp", "session": mode})
        http = await stack.enter_async_context(httpx2.AsyncClient(timeout=60, limits=limits))
        async with fleets(directory, 3, specs, SEED) as fleet:
            talkers = [
                RoamingTalker(fleet, http, era, f"{era}{number}")
                for number in range(CLIENTS)
                for era in ("legacy", "modern")
            ]
            for talker in talkers:
                await talker.start()
            yield fleet, talkers, chatters


async def test_only_calls_in_flight_on_a_killed_instance_fail_and_no_session_ends(
    tmp_path: Path,
) -> None:
    async with _stage(tmp_path) as (fleet, talkers, chatters), AsyncExitStack() as stack:
        sessions = {talker.who: talker.client.session for talker in talkers}
        listeners = [Listener(talker) for talker in talkers if talker.client.era == "legacy"]
        await stack.enter_async_context(_running([each.listen() for each in listeners]))
        over = asyncio.Event()
        await asyncio.gather(_killing(fleet, over), *(_calling(each, over) for each in talkers))
        for talker in talkers:
            for backend in KINDS:
                await _call(talker, backend, 0)
        _judge(talkers, fleet)
        _judge_sessions(talkers, chatters["c"])
        assert sessions == {talker.who: talker.client.session for talker in talkers}
        for listener in listeners:
            await asyncio.wait_for(listener.is_open.wait(), 10)
        before = {listener: listener.changes for listener in listeners}
        chatters["a"].change()
        await soon(
            lambda: all(each.changes > count for each, count in before.items()),
            "the change to arrive at all streams",
        )
        assert [each.refused for each in listeners if each.refused] == []


async def test_without_a_kill_no_call_fails(tmp_path: Path) -> None:
    async with _stage(tmp_path) as (fleet, talkers, chatters):
        over = asyncio.Event()
        async with _running([_end(over, SECONDS)]):
            await asyncio.gather(*(_calling(each, over) for each in talkers))
        _judge(talkers, fleet)
        _judge_sessions(talkers, chatters["c"])
        assert [loss for talker in talkers for loss in talker.lost] == []


async def _end(over: asyncio.Event, seconds: float) -> None:
    await asyncio.sleep(seconds)
    over.set()


async def test_a_rolling_update_after_a_new_sealing_key_fails_no_call(tmp_path: Path) -> None:
    async with _stage(tmp_path) as (fleet, talkers, chatters):
        over = asyncio.Event()

        async def renew() -> None:
            fleet.rotate_key()
            await asyncio.sleep(READ_EVERY + 2)
            await fleet.renew()
            over.set()

        await asyncio.gather(renew(), *(_calling(each, over) for each in talkers))
        _judge_sessions(talkers, chatters["c"])
        assert [loss for talker in talkers for loss in talker.lost] == []
        assert [talker.strange for talker in talkers if talker.strange] == []
        assert sum(talker.done for talker in talkers) > 4 * len(talkers)


def _judge(talkers: list[RoamingTalker], fleet: Fleet) -> None:
    lost = [loss for talker in talkers for loss in talker.lost]
    done = sum(talker.done for talker in talkers)
    kills = len(fleet.killed)
    sys.stdout.write(f"{done} calls of {len(talkers)} clients, {kills} kills, seed {SEED};\n")
    for loss in lost:
        sys.stdout.write(f"lost {loss.word}: {loss.error}\n")
    assert done > 4 * len(talkers)
    assert [talker.strange for talker in talkers if talker.strange] == []
    assert [loss for loss in lost if not loss.was_hit] == []
    assert [loss for loss in lost if not loss.says] == []
    # What one kill may hit is in flight: one call of each client.
    assert len(lost) <= len(fleet.killed) * len(talkers)


def _judge_sessions(talkers: list[RoamingTalker], chatter: Chatter) -> None:
    """Each legacy client had one upstream session all the time, and none was shared."""
    used: dict[str, int] = dict.fromkeys((talker.who for talker in talkers), 0)
    for principals in chatter.users.values():
        assert len(principals) == 1
        used[next(iter(principals))] += 1
    legacy = {talker.who for talker in talkers if talker.client.era == "legacy"}
    assert {who: count for who, count in used.items() if who in legacy and count != 1} == {}
    ended = {who for session in chatter.backend.deleted for who in chatter.users[session]}
    assert not legacy & ended
