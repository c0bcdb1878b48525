"""Queues of a client's streams, and stored events."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from mcpproxy.limits.clients import (
    ALL_EVENTS,
    EVENT_STREAMS,
    EVENTS_KEPT_FOR,
    OUTBOX_BYTES,
    OUTBOX_MESSAGES,
    STREAM_EVENTS,
)
from mcpproxy.limits.limit import Limit
from mcpproxy.proxy.downstream.legacy.event_store import EventsEvicted, EventStore, parse_event_id
from mcpproxy.proxy.downstream.message_queue import MessageQueue


async def _all(outbox: MessageQueue) -> list[bytes]:
    outbox.end()
    results = []
    while (message := await outbox.get(1)) is not None:
        results.append(message)
    return results


async def test_a_list_change_is_queued_once_and_other_messages_each_time() -> None:
    outbox = MessageQueue()
    for _ in range(2):
        outbox.announce(b"changed")
        outbox.put(b"tick")
    assert await _all(outbox) == [b"changed", b"tick", b"tick"]


@pytest.mark.parametrize(
    ("size", "kept", "limit"),
    [(1, OUTBOX_MESSAGES.value, OUTBOX_MESSAGES), (OUTBOX_BYTES.value // 4, 4, OUTBOX_BYTES)],
)
async def test_s11_an_unread_stream_ends(size: int, kept: int, limit: Limit) -> None:
    before = limit.reached
    outbox = MessageQueue()
    for _ in range(kept):
        outbox.put(b"x" * size)
    assert not outbox.ended
    outbox.put(b"x" * size)
    assert outbox.ended
    assert limit.reached == before + 1
    assert len(await _all(outbox)) == kept


async def test_a_message_larger_than_the_bound_passes_alone() -> None:
    outbox = MessageQueue()
    outbox.put(b"x" * (OUTBOX_BYTES.value + 1))
    assert not outbox.ended


def _size(logs: EventStore) -> int:
    return logs.size


async def test_s11_all_streams_together_keep_a_bounded_amount() -> None:
    logs = EventStore()
    for number in range(3 * ALL_EVENTS.value // STREAM_EVENTS.value):
        log = logs.open(f"s{number}", "session")
        log.append(b"x" * STREAM_EVENTS.value)
        log.end(0.0)
        assert _size(logs) <= ALL_EVENTS.value
    assert logs.find("s0", "session") is None
    assert log.has(-1)
    assert logs.find(f"s{number}", "session") is log
    assert logs.find(f"s{number}", "another") is None
    logs.forget(EVENTS_KEPT_FOR.value + 1)
    assert _size(logs) == 0


async def test_a_client_with_many_stored_events_does_not_evict_those_of_others() -> None:
    logs = EventStore()
    victim = logs.open("v", "victim", ("net", "victim"))
    victim.append(b"for the victim")
    before = ALL_EVENTS.reached
    large = b"x" * (STREAM_EVENTS.value - 64)
    for number in range(3 * ALL_EVENTS.value // STREAM_EVENTS.value):
        log = logs.open(f"s{number}", "session", ("net", "hostile"))
        log.append(large)
        assert _size(logs) <= ALL_EVENTS.value
    assert victim.has(-1)
    assert ALL_EVENTS.reached > before
    # However many hold as much, the one that grows keeps its event.
    for number in range(3 * ALL_EVENTS.value // STREAM_EVENTS.value):
        own = logs.open(f"o{number}", "session", ("net", f"invented {number}"))
        own.append(large)
        assert _size(logs) <= ALL_EVENTS.value
        assert own.has(-1)


async def test_small_events_count_with_their_overhead() -> None:
    log = EventStore().open("s", "session")
    for _ in range(STREAM_EVENTS.value // 64 + 10):
        log.append(b"")
    assert not log.has(0)


async def test_a_client_with_many_streams_does_not_lose_those_of_others() -> None:
    logs = EventStore()
    victim = logs.open("v", "victim", ("net", "victim"))
    victim.append(b"for the victim")
    victim.end(0.0)
    before = EVENT_STREAMS.reached
    for number in range(EVENT_STREAMS.value + 100):
        log = logs.open(f"s{number}", "session", ("net", "hostile"))
        log.append(b"x")
        log.end(0.0)
    assert logs.find("v", "victim") is victim
    assert victim.has(-1)
    assert logs.find("s0", "session") is None
    assert len(logs._logs) == EVENT_STREAMS.value
    assert EVENT_STREAMS.reached == before + 101
    logs.forget(EVENTS_KEPT_FOR.value + 1)
    assert not logs._logs
    assert not logs._holders
    assert logs.size == 0


async def test_a_slow_reader_of_a_resumed_stream_gets_an_error() -> None:
    log = EventStore().open("s", "session")
    for number in range(3):
        log.append(b"%d" % number)
    reading = log.after(0)
    event_id, message = await anext(reading)
    assert (parse_event_id(event_id), message) == (("s", 1), b"1")
    log.append(b"x" * STREAM_EVENTS.value)
    with pytest.raises(EventsEvicted):
        await anext(reading)
    assert not log.has(0)
    assert not log.has(4)
    assert log.has(3)


async def test_appended_input_is_read_until_the_end() -> None:
    log = EventStore().open("s", "session")
    log.append(b"0")
    reading = asyncio.create_task(_read(log.after(0)))
    await asyncio.sleep(0)
    log.append(b"1")
    await asyncio.sleep(0)
    log.append(b"2")
    log.end(0.0)
    assert await asyncio.wait_for(reading, 5) == [b"1", b"2"]


async def _read(reading: AsyncIterator[tuple[bytes, bytes]]) -> list[bytes]:
    return [message async for _, message in reading]


@pytest.mark.parametrize("number", ["", "+1", "²", "1e3", "9" * 5000, "٣"])
def test_an_event_id_with_a_malformed_number_is_ignored(number: str) -> None:
    assert parse_event_id(f"stream-{number}".encode()) is None
