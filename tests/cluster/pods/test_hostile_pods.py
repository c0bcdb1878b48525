"""The operator's reader and fleet against pods that send what no runtime sends."""

import asyncio
import gzip
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack

import pytest
from aiohttp.client_proto import ResponseHandler
from kubernetes.aio.client.configuration import Configuration

from mcpproxy.cluster.errors import ClusterError, LimitExceeded, Unavailable
from mcpproxy.cluster.pods.reports import PodReportWatcher, ReportLimits
from mcpproxy.cluster.pods.status_stream import HttpPodStatusReader, PodAddress
from mcpproxy.limits.pods import (
    FIRST_REPORT,
    FOLLOWED_PODS,
    POD_LINES,
    POD_SEGMENT,
    POD_SILENCE,
    REPORT_LINE,
    REPORT_PIECES,
)
from tests.cluster.pods.hostile import (
    CHUNKED,
    HEAD,
    PLAIN,
    Talk,
    hostile_pod,
    lines_of,
    reading,
    repeating,
    saying,
)
from tests.cluster.pods.pods import FakePods, a_report
from tests.cluster.pods.test_reports import POD, Scene
from tests.reconcile.clock import FakeClock

BLANK = repeating(PLAIN, b"\n" * 65536)


async def refused_by(talk: Talk) -> ClusterError:
    """The error that reading a pod ends with."""
    async with asyncio.timeout(20), hostile_pod(talk) as pod:
        with pytest.raises(ClusterError) as raised:
            await lines_of(pod)
    return raised.value


async def test_a_line_without_end_is_refused() -> None:
    before = REPORT_LINE.reached
    error = await refused_by(repeating(PLAIN, b"x" * 65536))
    assert isinstance(error, LimitExceeded)
    assert REPORT_LINE.reached == before + 1


async def test_a_line_that_ends_too_late_is_refused() -> None:
    error = await refused_by(saying(PLAIN, b"x" * (REPORT_LINE.value + 1) + b"\n"))
    assert isinstance(error, LimitExceeded)


async def test_a_line_of_the_largest_size_is_taken() -> None:
    line = b"x" * REPORT_LINE.value
    async with hostile_pod(saying(PLAIN, line + b"\n")) as pod, reading() as reader:
        assert await anext(reader.lines(pod.address())) == line


async def test_a_line_in_countless_chunks_is_refused() -> None:
    before = REPORT_PIECES.reached
    error = await refused_by(repeating(CHUNKED, b"1\r\nx\r\n" * 4096))
    assert isinstance(error, LimitExceeded)
    assert REPORT_PIECES.reached == before + 1


async def test_a_keep_alive_in_a_separate_chunk_is_not_part_of_the_next_line() -> None:
    said = CHUNKED + b"1\r\n\n\r\n" * (REPORT_PIECES.value + 10) + b"0\r\n\r\n"
    async with hostile_pod(saying(said)) as pod:
        assert len(await lines_of(pod)) == REPORT_PIECES.value + 10


@pytest.mark.parametrize(
    "field",
    [b"X-Filler: 1\r\n", b"X-Filler: " + b"x" * 4096, b"HTTP/1.1 103 Early Hints\r\n\r\n"],
    ids=["fields", "one field", "interim responses"],
)
async def test_a_head_without_end_is_refused(field: bytes) -> None:
    start = b"" if field.startswith(b"HTTP") else HEAD
    scene = Scene(ReportLimits(first_line=0.2))
    scene.fleet.follow("tools", [])
    async with hostile_pod(repeating(start, field)) as pod, reading() as reader:
        fleet = PodReportWatcher(
            reader, scene.changes.put_nowait, scene.clock.time, limits=ReportLimits(0.2)
        )
        fleet.follow("tools", [pod.address()])
        await scene.change()
        assert fleet.view("p1").settled
        assert fleet.view("p1").report is None
        await fleet.close()


async def test_a_compressed_response_is_refused_unread() -> None:
    bomb = gzip.compress(b"\n" * 10_000_000)
    head = HEAD + b"Content-Encoding: gzip\r\n\r\n"
    assert "Content-Encoding" in str(await refused_by(saying(head, bomb)))


async def test_a_response_that_is_not_a_stream_of_lines_is_refused() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n"
    assert "application/x-ndjson" in str(await refused_by(saying(head, b"<html>\n")))


@pytest.mark.parametrize("access", ["direct", "apiserver"])
async def test_a_redirect_is_not_followed(access: str) -> None:
    async with hostile_pod(saying(PLAIN, b"{}\n")) as other:
        there = f"http://127.0.0.1:{other.port}/api/v1/secrets"
        head = f"HTTP/1.1 302 Found\r\nLocation: {there}\r\nContent-Length: 0\r\n\r\n"
        async with hostile_pod(saying(head.encode())) as pod:
            configuration = Configuration()
            configuration.host = f"http://127.0.0.1:{pod.port}"
            reader = HttpPodStatusReader(configuration, access)  # type: ignore[arg-type]
            with pytest.raises(Unavailable, match="302"):
                await anext(reader.lines(pod.address()))
            await reader.close()
        assert len(pod.requests) == 1
        assert other.requests == []


@pytest.mark.parametrize("body", [b"[" * 4096, b'{"message":"a","details":[1]}', b"\x1b[31m\n"])
async def test_the_text_of_an_error_is_cleaned_whatever_it_is(body: bytes) -> None:
    head = b"HTTP/1.1 500 Oops\r\nContent-Length: %d\r\n\r\n" % len(body)
    error = await refused_by(saying(head + body))
    assert isinstance(error, Unavailable)
    assert str(error).isprintable() or "\ufffd" in str(error)
    assert "\x1b" not in str(error)


async def test_a_flood_of_input_is_processed_in_small_steps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    steps: list[int] = []
    receive = ResponseHandler.data_received

    def noting(self: ResponseHandler, data: bytes) -> None:
        steps.append(len(data))
        receive(self, data)

    monkeypatch.setattr(ResponseHandler, "data_received", noting)
    await refused_by(repeating(PLAIN, b"x" * 1_000_000))
    # The kernel gives the buffer twice its size, half of it for its own bookkeeping.
    assert max(steps) <= 2 * POD_SEGMENT.value


class Counting:
    """A PodStatusReader that counts the lines that are read in one turn of the event loop."""

    def __init__(self, reader: HttpPodStatusReader) -> None:
        self._reader = reader
        self.in_this_turn = 0
        self.lines = 0
        self.most = 0

    async def lines_of(self, pod: PodAddress) -> AsyncGenerator[bytes]:
        async for line in self._reader.lines(pod):
            self.lines += 1
            self.in_this_turn += 1
            self.most = max(self.most, self.in_this_turn)
            yield line

    def turn(self) -> None:
        """Another task has its turn."""
        self.in_this_turn = 0


class _Reader:
    def __init__(self, counting: Counting) -> None:
        self.lines = counting.lines_of


async def test_other_tasks_run_between_any_two_lines_of_a_pod() -> None:
    async with AsyncExitStack() as stack:
        pods = [await stack.enter_async_context(hostile_pod(BLANK)) for _ in range(3)]
        counting = Counting(await stack.enter_async_context(reading()))
        changes: asyncio.Queue[str] = asyncio.Queue()
        fleet = PodReportWatcher(_Reader(counting), changes.put_nowait, FakeClock().time)
        for number, pod in enumerate(pods):
            fleet.follow(f"tools-{number}", [pod.address(f"p{number}")])
        async with asyncio.timeout(60):
            while changes.qsize() < len(pods):
                counting.turn()
                await asyncio.sleep(0)
        await fleet.close()
    assert counting.lines > len(pods) * POD_LINES.value
    assert counting.most <= len(pods), "each pod has one line a turn at most"


async def test_the_stream_of_a_pod_that_sends_too_many_lines_is_closed_with_growing_pauses(
    caplog: pytest.LogCaptureFixture,
) -> None:
    before = POD_LINES.reached
    async with hostile_pod(BLANK) as pod, reading() as reader:
        scene = Scene()
        scene.pods = FakePods()
        fleet = PodReportWatcher(reader, scene.changes.put_nowait, scene.clock.time, scene._sleep)
        fleet.follow("tools", [pod.address()])
        pauses = [await scene.pause()]
        for _ in range(9):
            await scene.next_attempt(pauses[-1])
            pauses.append(await scene.pause())
        await fleet.close()
    assert pauses == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300]
    assert POD_LINES.reached == before + len(pauses)
    assert "team/tools-p1 sends more than 500 lines in 10 s" in caplog.text


async def test_a_report_of_a_pod_that_exceeds_a_limit_is_dropped() -> None:
    scene = Scene()
    scene.fleet.follow("tools", [POD])
    scene.pods.say("p1", a_report(weather="Healthy"))
    await scene.change()
    for _ in range(POD_LINES.value):
        scene.pods.say("p1", None)
    await scene.change()
    assert scene.fleet.view("p1").settled
    assert scene.fleet.view("p1").report is None
    await scene.fleet.close()


async def test_the_pods_of_one_proxy_share_one_rate_and_others_have_their_own() -> None:
    scene = Scene()
    many = [PodAddress("team", f"tools-{n}", f"p{n}", "10.0.0.1") for n in range(3)]
    scene.fleet.follow("tools", many)
    for pod in many:
        for _ in range(400):
            scene.pods.say(pod.uid, None)
    assert 0 < await scene.pause() < 1
    other = PodAddress("team", "other-1", "o1", "10.0.0.2")
    scene.fleet.follow("other", [other])
    scene.pods.say("o1", a_report(weather="Healthy"))
    while await scene.change() != "other":
        pass
    assert scene.states("o1") == ["Healthy"]
    await scene.fleet.close()


async def test_pods_beyond_the_share_of_a_proxy_are_not_followed() -> None:
    scene = Scene()
    before = FOLLOWED_PODS.reached
    more = FOLLOWED_PODS.value + 2
    many = [PodAddress("team", f"tools-{n}", f"p{n}", "10.0.0.1") for n in range(more)]
    scene.fleet.follow("tools", many[:1])
    scene.fleet.follow("tools", reversed(many))
    assert len(scene.fleet) == FOLLOWED_PODS.value
    assert FOLLOWED_PODS.reached == before + 1
    assert not scene.fleet.view("p0").settled, "those that were followed before stay"
    assert scene.fleet.view("p1").settled, "nobody waits for what is not asked"
    await scene.fleet.close()


@pytest.mark.parametrize("line", [b"[" * 100_000, b'{"clashes": [' + b"1," * 90_000 + b"1]}"])
async def test_no_line_ends_the_task_of_its_stream(line: bytes) -> None:
    scene = Scene()
    scene.fleet.follow("tools", [POD])
    scene.pods.say_bytes("p1", line)
    await scene.change()
    await scene.pause()
    scene.pods.say("p1", a_report(weather="Healthy"))
    await scene.next_attempt(1)
    await scene.change()
    assert scene.states("p1") == ["Healthy"]
    await scene.fleet.close()


async def test_a_stream_that_fails_unexpectedly_is_reopened(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene()

    async def broken(pod: PodAddress) -> AsyncGenerator[bytes]:
        raise RuntimeError("never seen")
        yield b""

    lines = scene.pods.lines
    monkeypatch.setattr(scene.pods, "lines", broken)
    scene.fleet.follow("tools", [POD])
    await scene.pause()
    monkeypatch.setattr(scene.pods, "lines", lines)
    scene.pods.say("p1", a_report(weather="Healthy"))
    await scene.next_attempt(1)
    while not scene.states("p1"):
        await scene.change()
    assert "reading pod team/tools-1 failed" in caplog.text
    await scene.fleet.close()


async def test_a_stream_without_a_complete_line_is_abandoned() -> None:
    assert ReportLimits() == ReportLimits(FIRST_REPORT.value, POD_SILENCE.value)
    scene = Scene(ReportLimits(silence=0.01))
    async with hostile_pod(saying(PLAIN, b"\n", b"{")) as pod, reading() as reader:
        fleet = PodReportWatcher(
            reader,
            scene.changes.put_nowait,
            scene.clock.time,
            scene._sleep,
            ReportLimits(first_line=0.01, silence=0.01),
        )
        fleet.follow("tools", [pod.address()])
        assert await scene.pause() == 0.25
        assert fleet.view("p1").settled
        await fleet.close()


async def test_a_pod_that_ends_its_stream_after_each_line_gets_few_attempts() -> None:
    scene = Scene()
    scene.fleet.follow("tools", [POD])
    pauses = []
    for _ in range(8):
        scene.pods.say("p1", a_report(weather="Healthy"))
        scene.pods.hang_up("p1")
        pauses.append(await scene.pause())
        await scene.next_attempt(1)
    assert pauses == [0.25, 0.5, 1, 2, 4, 5, 5, 5]
    await scene.fleet.close()
