"""Delivery of audit records: slow readers, lost readers, and several writers of one pipe."""

import asyncio
import fcntl
import json
import multiprocessing
import os
import struct
import threading
from collections.abc import Sequence

import pytest

from mcpproxy.proxy.audit.collector import build_delivery
from mcpproxy.proxy.audit.record_queue import RecordQueue
from mcpproxy.proxy.audit.standard_output import LineDelivery
from tests.support.collector import Collector

LONG = 3 * os.sysconf("SC_PAGE_SIZE")


def as_it_is(records: Sequence[bytes]) -> list[bytes]:
    """Encode records that are encoded already."""
    return [*records]


def put(queue: RecordQueue[bytes], record: bytes) -> None:
    """Queue a record that needs no encoding."""
    queue.put(record, len(record))


async def test_records_reach_the_descriptor_in_their_order() -> None:
    source, target = os.pipe()
    queue = RecordQueue(LineDelivery(target), as_it_is)
    for number in range(100):
        put(queue, b"%d" % number)
    await queue.close()
    os.close(target)
    assert [int(line) for line in _read_all(source).splitlines()] == list(range(100))


async def test_one_thread_delivers_all_batches_and_ends_with_the_queue() -> None:
    threads: list[threading.Thread] = []
    loop, delivered = asyncio.get_running_loop(), asyncio.Event()

    def deliver(records: Sequence[bytes]) -> None:
        threads.append(threading.current_thread())
        loop.call_soon_threadsafe(delivered.set)

    queue = RecordQueue(deliver, as_it_is, pause=0)
    for number in range(3):
        put(queue, b"%d" % number)
        await delivered.wait()
        delivered.clear()
    await queue.close()
    assert len({*threads}) == 1
    await asyncio.to_thread(threads[0].join, 10)
    assert not threads[0].is_alive()


async def test_records_beyond_the_backlog_are_dropped_and_counted() -> None:
    """The reader of the pipe does not read, and the event loop goes on."""
    source, target = os.pipe()
    queue = RecordQueue(LineDelivery(target), as_it_is, capacity=1_000_000, pause=0)
    record = b"x" * 10_000
    for _ in range(300):
        put(queue, record)
        await asyncio.sleep(0)
    assert queue.is_full
    assert queue.dropped >= 150
    received = asyncio.create_task(asyncio.to_thread(_read_all, source))
    await queue.close()
    os.close(target)
    lines = (await received).splitlines()
    assert len(lines) + queue.dropped == 300
    assert {*lines} == {record}


async def test_records_are_counted_as_dropped_if_the_reader_is_gone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    source, target = os.pipe()
    os.close(source)
    queue = RecordQueue(LineDelivery(target), as_it_is, pause=0)
    for _ in range(3):
        put(queue, b"x")
        await queue.close()
    os.close(target)
    assert queue.dropped == 3
    assert len(caplog.records) == 1, "the loss is logged once"


async def test_a_reader_that_never_reads_does_not_keep_the_process_from_ending() -> None:
    stop = threading.Event()

    def deliver(records: Sequence[bytes]) -> None:
        stop.wait()

    queue = RecordQueue(deliver, as_it_is, pause=0, closing=0.01)
    put(queue, b"x")
    await queue.close()
    stop.set()


async def test_records_on_a_non_blocking_pipe_are_written_whole() -> None:
    source, target = os.pipe()
    os.set_blocking(target, False)
    size = fcntl.fcntl(target, fcntl.F_GETPIPE_SZ)
    queue = RecordQueue(LineDelivery(target), as_it_is, pause=0)
    put(queue, b"x" * (2 * size))
    received = asyncio.create_task(asyncio.to_thread(_read_all, source))
    await queue.close()
    os.close(target)
    assert await received == b"x" * (2 * size) + b"\n"


def test_a_terminal_that_another_process_has_locked_gets_the_records() -> None:
    source, target = os.openpty()
    other = os.open(os.ttyname(target), os.O_RDONLY | os.O_NOCTTY)
    lock = struct.pack("hhqqi4x", fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0)
    fcntl.fcntl(other, fcntl.F_OFD_SETLK, lock)
    writer = threading.Thread(target=LineDelivery(target), args=([b"x"],), daemon=True)
    writer.start()
    writer.join(2)
    waits = writer.is_alive()
    os.close(other)
    writer.join()
    assert os.read(source, 100) == b"x\r\n"
    for descriptor in (source, target):
        os.close(descriptor)
    assert not waits


def test_long_records_of_several_processes_do_not_mix() -> None:
    source, target = os.pipe()
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_write_many, args=(target, letter)) for letter in b"abc"]
    for writer in writers:
        writer.start()
    os.close(target)
    lines = _read_all(source).splitlines()
    for writer in writers:
        writer.join()
    assert len(lines) == 150
    assert all(len(line) == LONG and len({*line}) == 1 for line in lines)


def _write_many(target: int, letter: int) -> None:
    deliver = LineDelivery(target)
    for _ in range(50):
        deliver([bytes([letter]) * LONG])
    os._exit(0)


def _read_all(source: int) -> bytes:
    with open(source, "rb") as pipe:
        return pipe.read()


async def test_a_collector_gets_each_record_with_its_members() -> None:
    with Collector() as collector:
        queue = RecordQueue(build_delivery(collector.url, "tools", "1.0", {}), as_it_is, pause=0)
        members = {
            "time": "2023-11-14T22:13:20.250Z",
            "event": "call",
            "method": "tools/call",
            "outcome": "ok",
            "decision": "denied",
            "principal": {"subject": "alice"},
        }
        put(queue, json.dumps(members).encode())
        await queue.close()
    assert queue.dropped == 0
    [request] = collector.requests
    [resource] = request.resource_logs
    [record] = resource.scope_logs[0].log_records
    assert record.time_unix_nano == 1_700_000_000_250_000_000
    assert record.severity_text == "WARN"
    body = {item.key: item.value for item in record.body.kvlist_value.values}
    assert body["principal"].kvlist_value.values[0].value.string_value == "alice"
    assert record.event_name == "mcpproxy.audit.call"
    names = {item.key: item.value.string_value for item in resource.resource.attributes}
    assert names["mcpproxy.name"] == "tools"


async def test_records_that_a_collector_refuses_are_counted_as_dropped() -> None:
    with Collector(status=400) as collector:
        queue = RecordQueue(build_delivery(collector.url, "tools", "1.0", {}), as_it_is, pause=0)
        put(queue, b'{"time":"2023-11-14T22:13:20.250Z","event":"call"}')
        await queue.close()
    assert queue.dropped == 1
