"""One token for many requests: when it is fetched, used, renewed and discarded."""

import asyncio

import pytest

from mcpproxy.proxy.core.errors import TokenRefused, Unauthorized
from mcpproxy.proxy.upstream.credentials.access_tokens import bearer_line
from mcpproxy.proxy.upstream.credentials.token_slot import TokenSlot
from tests.proxy.upstream.credentials.clocks import Clock, Source, refusal


def _slot(source: Source, refresh_before: float = 60.0) -> TokenSlot:
    return TokenSlot(source.fetch, refresh_before, source.clock)


async def test_requests_at_the_same_time_cause_one_fetch() -> None:
    source = Source(Clock())
    slot = _slot(source)
    lines = await asyncio.gather(*(slot.obtain() for _ in range(50)))
    assert set(lines) == {bearer_line("t1")}
    assert len(source.fetches) == 1


async def test_a_cancelled_waiter_does_not_end_the_fetch_for_others() -> None:
    source = Source(Clock())
    slot = _slot(source)
    first, second = asyncio.create_task(slot.obtain()), asyncio.create_task(slot.obtain())
    await asyncio.sleep(0)
    first.cancel()
    assert await second == bearer_line("t1")
    assert len(source.fetches) == 1


async def test_a_token_is_renewed_while_it_is_in_use() -> None:
    clock = Clock()
    source = Source(clock)
    slot = _slot(source)
    await slot.obtain()
    clock.now += 539
    assert slot.header() == bearer_line("t1")
    assert len(source.fetches) == 1
    clock.now += 2
    assert slot.header() == bearer_line("t1")
    assert await slot.obtain() == bearer_line("t1")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert slot.header() == bearer_line("t2")
    assert len(source.fetches) == 2


async def test_a_short_lived_token_is_used_for_half_its_life_at_least() -> None:
    clock = Clock()
    source = Source(clock, lifetime=40)
    slot = _slot(source)
    await slot.obtain()
    clock.now += 19
    assert slot.header() == bearer_line("t1")
    assert len(source.fetches) == 1


async def test_a_token_is_kept_until_it_expires_while_no_other_comes() -> None:
    clock = Clock()
    source = Source(clock)
    slot = _slot(source)
    await slot.obtain()
    source.error = refusal()
    while clock.now < 1000 + 594:
        clock.now += 1
        assert slot.header() == bearer_line("t1")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    # In the last minute: after 1, 2, 4, 8, 16 and 30 seconds.
    assert 5 <= len(source.fetches) - 1 <= 7
    clock.now += 2
    assert slot.header() is None
    with pytest.raises(TokenRefused, match="access_denied"):
        await slot.obtain()


async def test_after_a_failure_requests_fail_without_another_fetch() -> None:
    clock = Clock()
    source = Source(clock, error=refusal())
    slot = _slot(source)
    for _ in range(10):
        with pytest.raises(TokenRefused, match="access_denied") as caught:
            await slot.obtain()
        assert not caught.value.reached
    assert len(source.fetches) == 1
    for _ in range(1000):
        clock.now += 0.1
        with pytest.raises(TokenRefused):
            await slot.obtain()
    pauses = [
        after - before for before, after in zip(source.fetches, source.fetches[1:], strict=False)
    ]
    assert min(pauses) >= 1.0
    assert max(pauses) <= 30.2
    source.error = None
    clock.now += 30
    assert (await slot.obtain())[1].startswith(b"Bearer t")


async def test_a_refused_token_is_replaced_once() -> None:
    clock = Clock()
    source = Source(clock)
    slot = _slot(source)
    line = await slot.obtain()
    clock.now += 120
    assert slot.refused(line)
    assert await slot.obtain() == bearer_line("t2")
    # A request that was sent with the first token meanwhile.
    assert slot.refused(line)
    assert await slot.obtain() == bearer_line("t2")
    assert len(source.fetches) == 2


async def test_tokens_that_are_refused_from_the_start_are_replaced_at_growing_intervals() -> None:
    clock = Clock()
    source = Source(clock)
    slot = _slot(source)
    assert slot.refused(await slot.obtain())
    assert not slot.refused(await slot.obtain())
    assert len(source.fetches) == 2
    failed = 0
    for _ in range(600):
        clock.now += 0.1
        try:
            assert not slot.refused(await slot.obtain())
        except Unauthorized:
            failed += 1
    assert failed > 500
    assert len(source.fetches) <= 8


async def test_closing_ends_the_fetch() -> None:
    never = asyncio.Event()

    async def fetch() -> None:
        await never.wait()

    slot = TokenSlot(fetch, 60.0, Clock())  # type: ignore[arg-type]
    waiting = asyncio.create_task(slot.obtain())
    await asyncio.sleep(0)
    await slot.close()
    await asyncio.wait([waiting])
    assert waiting.cancelled()
