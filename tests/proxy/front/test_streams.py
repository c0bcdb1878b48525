"""What waits for a client's streams, and what is kept of them."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from mcpproxy.proxy.front import events
from mcpproxy.proxy.front.events import MAX_KEPT, MAX_KEPT_TOTAL, EventLogs, Lost, position
from mcpproxy.proxy.front.outbox import MAX_BYTES, MAX_WAITING, Outbox


async def _all(outbox: Outbox) -> list[bytes]:
    outbox.end()
    found = []
    while (message := await outbox.get(1)) is not None:
        found.append(message)
    return found


async def test_a_change_waits_once_and_other_messages_as_often_as_they_come() -> None:
    outbox = Outbox()
    for _ in range(2):
        outbox.announce(b"changed")
        outbox.put(b"tick")
    assert await _all(outbox) == [b"changed", b"tick", b"tick"]


@pytest.mark.parametrize(("size", "kept"), [(1, MAX_WAITING), (MAX_BYTES // 4, 4)])
async def test_s11_a_stream_that_nobody_reads_ends(size: int, kept: int) -> None:
    outbox = Outbox()
    for _ in range(kept):
        outbox.put(b"x" * size)
    assert not outbox.ended
    outbox.put(b"x" * size)
    assert outbox.ended
    assert len(await _all(outbox)) == kept


async def test_a_message_larger_than_the_bound_passes_alone() -> None:
    outbox = Outbox()
    outbox.put(b"x" * (MAX_BYTES + 1))
    assert not outbox.ended


def _size(logs: EventLogs) -> int:
    return logs.size


async def test_s11_all_streams_together_keep_a_bounded_amount() -> None:
    logs = EventLogs()
    for number in range(3 * MAX_KEPT_TOTAL // MAX_KEPT):
        log = logs.open(f"s{number}", "session")
        log.append(b"x" * MAX_KEPT)
        log.end(0.0)
        assert _size(logs) <= MAX_KEPT_TOTAL
    assert logs.find("s0", "session") is None
    assert log.has(-1)
    assert logs.find(f"s{number}", "session") is log
    assert logs.find(f"s{number}", "another") is None
    logs.forget(events.KEPT_FOR + 1)
    assert _size(logs) == 0


async def test_who_reads_a_kept_stream_too_slowly_is_told_so() -> None:
    log = EventLogs().open("s", "session")
    for number in range(3):
        log.append(b"%d" % number)
    reading = log.after(0)
    event_id, message = await anext(reading)
    assert (position(event_id), message) == (("s", 1), b"1")
    log.append(b"x" * MAX_KEPT)
    with pytest.raises(Lost):
        await anext(reading)
    assert not log.has(0)
    assert not log.has(4)
    assert log.has(3)


async def test_what_is_appended_later_is_read_until_the_end() -> None:
    log = EventLogs().open("s", "session")
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
def test_an_event_id_with_another_number_is_none_of_ours(number: str) -> None:
    assert position(f"stream-{number}".encode()) is None
