"""The stub backend and the load client, one against the other: nothing is counted that is wrong."""

import asyncio
import os
from collections.abc import Callable
from typing import cast

import msgspec
import pytest

from bench import client, load, stub
from bench.figures import Figures
from bench.load import Calls, Sessions, measure
from bench.messages import TOOLS, Era, Operation
from bench.stub import Behaviour
from tests.bench.stubs import Connection, listening, served

OPERATIONS: tuple[Operation, ...] = ("echo", "large", "progress", "list", "initialize")


def a_plan(url: str, operation: Operation, era: Era = "legacy", tools: int = 10) -> Calls:
    """A short load of two connections."""
    tool = operation if operation in TOOLS else "echo"
    return Calls(url, (tool,), operation, era, 2, 0.02, 0.0, listed=tools)


async def some_calls(plan: Calls) -> Figures:
    """Measure calls; a longer load lets them end within its time on a busy machine."""
    while True:
        figures = await measure(plan)
        if figures.errors or "p50" in figures.values or plan.seconds > 5:
            return figures
        plan = msgspec.structs.replace(plan, seconds=plan.seconds * 4)


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("sessions", [False, True])
@pytest.mark.parametrize("events", [False, True])
async def test_every_method_works_with_a_legacy_backend(
    operation: Operation, sessions: bool, events: bool
) -> None:
    async with served(Behaviour("legacy", sessions, events)) as url:
        figures = await some_calls(a_plan(url, operation))
    assert (figures.errors, figures.first_error) == (0, "")
    assert figures.values["calls/s"] > 0
    assert 0 < figures.values["p50"] <= figures.values["p99"]


@pytest.mark.parametrize("operation", OPERATIONS[:4])
async def test_every_method_works_with_a_modern_backend(operation: Operation) -> None:
    async with served(Behaviour("modern", tools=30)) as url:
        figures = await some_calls(a_plan(url, operation, "modern", 30))
    assert (figures.errors, figures.first_error) == (0, "")
    assert figures.values["calls/s"] > 0


async def test_calls_are_set_against_the_time_of_a_process_that_is_named() -> None:
    async with served(Behaviour("legacy")) as url:
        plan = msgspec.structs.replace(a_plan(url, "echo"), pid=os.getpid(), seconds=0.3)
        values = (await measure(plan)).values
    # No more than all of one core.
    assert values["calls/CPU s"] > values["calls/s"] * 0.5
    assert "calls/CPU s" not in (await measure(a_plan("http://127.0.0.1:9", "echo"))).values


@pytest.mark.parametrize(("eras", "era"), [("legacy", "modern"), ("modern", "legacy")])
async def test_clients_of_the_other_era_are_refused(eras: stub.Eras, era: Era) -> None:
    async with served(Behaviour(eras)) as url:
        figures = await measure(a_plan(url, "echo", era))
    assert figures.errors > 0
    assert "HTTP 400" in figures.first_error


async def test_a_fixed_rate_is_kept() -> None:
    async with served(Behaviour()) as url:
        plan = Calls(url, ("echo",), connections=2, seconds=0.3, warmup=0.0, rate=100.0)
        figures = await measure(plan)
    assert figures.errors == 0
    assert figures.values["calls/s"] == pytest.approx(100, rel=0.2)


async def test_idle_sessions_and_streams_are_opened_and_measured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(load, "SETTLE", 0.0)
    async with served(Behaviour(sessions=True)) as url:
        figures = await measure(Sessions(url, ("echo",), os.getpid(), 50, 5))
    assert (figures.errors, figures.first_error) == (0, "")
    assert 0 < figures.values["idle MiB"] <= figures.values["all MiB"]


class SpoiltTransport:
    """Changes what is written."""

    def __init__(self, transport: asyncio.Transport, spoil: Callable[[bytes], bytes]) -> None:
        self._transport, self._spoil = transport, spoil
        self.is_closing = transport.is_closing

    def write(self, data: bytes) -> None:
        self._transport.write(self._spoil(data))


class SpoiltConnection(Connection):
    """A connection of a backend that does not say what it should; the lengths stay right."""

    def __init__(self, spoil: Callable[[bytes], bytes]) -> None:
        super().__init__(stub.Stub(Behaviour()))
        self._spoil = spoil

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        super().connection_made(cast("asyncio.Transport", SpoiltTransport(transport, self._spoil)))


@pytest.mark.parametrize(
    ("operation", "right", "wrong"),
    [
        ("echo", b'"id":1', b'"id":9'),
        ("echo", b"said in", b"said on"),
        ("echo", b'"isError":false', b'"isError":true '),
        ("echo", b'"result"', b'"Result"'),
        ("echo", b"200 OK", b"500 OK"),
        ("large", b"def0123", b"def0124"),
        ("list", b'"inputSchema"', b'"inputSchemo"'),
        ("progress", b'"progress":7,', b'"progress":6,'),
        ("progress", b'"progressToken":1,', b'"progressToken":3,'),
        ("initialize", b'"serverInfo"', b'"serverinfo"'),
    ],
)
async def test_a_wrong_reply_is_an_error(operation: Operation, right: bytes, wrong: bytes) -> None:
    def spoil(data: bytes) -> bytes:
        return data.replace(right, wrong)

    async with listening(lambda: SpoiltConnection(spoil)) as url:
        figures = await measure(a_plan(url, operation))
    assert figures.errors > 0


async def test_an_unreachable_backend_is_an_error() -> None:
    async with served(Behaviour()) as url:
        pass
    figures = await measure(a_plan(url, "echo"))
    assert figures.errors == 1


async def test_a_connection_that_ends_is_an_error() -> None:
    async with listening(lambda: Hangup(stub.Stub(Behaviour()))) as url:
        figures = await measure(a_plan(url, "echo", "modern"))
    assert figures.errors == 2


class Hangup(Connection):
    """Closes the connection at the first byte."""

    def data_received(self, data: bytes) -> None:
        self._transport.close()


@pytest.mark.parametrize(("session", "status"), [(None, 400), (b"of-another", 404)])
async def test_a_stateful_backend_refuses_calls_without_its_session(
    session: bytes | None, status: int
) -> None:
    async with served(Behaviour(sessions=True)) as url:
        requests = client.requests(url, "legacy")
        requests.session = session
        connection = await client.connect(url)
        reply = await connection.exchange(requests.operation("echo", 1, "echo"))
        await client.close(connection)
    assert reply.status == status
