"""Spare processes, and their number."""

import asyncio
import json
from typing import Any

import pytest

from mcpproxy.api.defaults import effective_settings
from mcpproxy.limits.sessions import SPARE_PROGRAMS
from mcpproxy.proxy.core.errors import ProcessFailed
from mcpproxy.proxy.core.exchange import ClientIdentity
from mcpproxy.proxy.upstream.connect import spare_processes as module
from mcpproxy.proxy.upstream.connect.spare_processes import SpareProcesses
from mcpproxy.proxy.upstream.connect.stdio_connector import StdioConnector
from mcpproxy.proxy.upstream.transports.session import TaskSet
from tests.proxy.upstream.stage import settled
from tests.support.builders import an_mcpproxy


class Program:
    """A process without any communication."""

    def __init__(self) -> None:
        self.ended = False
        self.closed = False

    async def close(self) -> None:
        self.ended = self.closed = True


class Server(Program):
    """A process that answers once it is permitted to."""

    send_blocks = False

    def __init__(self, permitted: asyncio.Event) -> None:
        super().__init__()
        self._permitted = permitted
        self._requests: asyncio.Queue[Any] = asyncio.Queue()

    async def send(self, body: bytes) -> None:
        message = json.loads(body)
        if "id" in message:
            self._requests.put_nowait(message["id"])

    async def receive(self) -> bytes:
        number = await self._requests.get()
        await self._permitted.wait()
        result = {"capabilities": {}, "supportedVersions": ["2026-07-28"]}
        return json.dumps({"jsonrpc": "2.0", "id": number, "result": result}).encode()


class PerClient:
    """Sessions of a stdio server whose processes serve one client each."""

    def __init__(self, command: str = "server") -> None:
        self.started: list[Server] = []
        self.permitted = asyncio.Event()
        backend = {"name": "b", "stdio": {"command": command}}
        spec = an_mcpproxy(backends=[backend]).spec
        settings = effective_settings(spec, spec.backends[0])
        background = TaskSet()
        spares = SpareProcesses(self._spawn, background, command, for_each_request=False)
        self._connector = StdioConnector(self._spawn, settings, background, spares=spares)

    async def _spawn(self) -> Any:
        self.started.append(Server(self.permitted))
        return self.started[-1]

    async def open(self, session: str = "") -> None:
        """Open a session for a client session, or for the monitor."""
        link = await self._connector.open(ClientIdentity("2026-07-28", session=session))
        await settled()
        await link.close()


class Stage:
    """Processes, and the spare ones among them."""

    def __init__(self) -> None:
        self.started: list[Program] = []
        self.error: Exception | None = None
        self.background = TaskSet()
        self.spares = SpareProcesses(self._spawn, self.background)

    async def _spawn(self) -> Any:
        await asyncio.sleep(0)
        if self.error is not None:
            raise self.error
        self.started.append(Program())
        return self.started[-1]

    async def taken(self) -> Any:
        """Return a process from the pool once the next ones are ready."""
        program = await self.spares.take()
        await settled()
        return program

    @property
    def living(self) -> int:
        """Processes that have not exited."""
        return sum(not program.ended for program in self.started)


async def test_a_spare_program_starts_before_it_is_needed() -> None:
    stage = Stage()
    assert await stage.taken() is stage.started[0]
    assert len(stage.started) == 2
    assert await stage.taken() is stage.started[1]


async def test_programs_that_wait_are_few_however_many_are_taken() -> None:
    stage = Stage()
    taken = [await stage.taken() for _ in range(20)]
    assert len({id(program) for program in taken}) == 20
    assert stage.living == 20 + SPARE_PROGRAMS.value


async def test_one_program_waits_once_there_is_little_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stage = Stage()
    for program in [await stage.taken() for _ in range(6)]:
        await program.close()
    stage.spares.reap()
    await settled()
    assert stage.living == SPARE_PROGRAMS.value
    monkeypatch.setattr(module, "BUSY", -1.0)
    stage.spares.reap()
    await settled()
    assert stage.living == 1


async def test_a_program_that_ended_while_it_waited_is_not_used_nor_replaced_at_once() -> None:
    stage = Stage()
    await stage.taken()
    waiting = stage.started[1]
    waiting.ended = True
    program = await stage.taken()
    assert program is stage.started[2]
    assert waiting.closed
    assert len(stage.started) == 3
    await stage.taken()
    assert len(stage.started) > 4


async def test_programs_with_earlier_values_are_ended_also_those_that_begin() -> None:
    stage = Stage()
    taking: Any = await stage.spares.take()
    first: Program = taking
    stage.spares.renew()
    await settled()
    assert [program.closed for program in stage.started] == [False, True]
    assert not first.closed
    await stage.taken()
    stage.spares.renew()
    await settled()
    assert stage.living == 2


async def test_no_program_is_left_at_the_end() -> None:
    stage = Stage()
    first = await stage.taken()
    await stage.spares.close()
    await first.close()
    assert stage.living == 0


async def test_a_program_that_cannot_be_started_fails_the_request_alone() -> None:
    stage = Stage()
    stage.error = ProcessFailed("no")
    with pytest.raises(ProcessFailed):
        await stage.taken()
    stage.error = None
    await stage.taken()
    stage.error = ProcessFailed("no")
    assert await stage.taken() is stage.started[1]
    stage.error = None
    assert await stage.taken() is stage.started[2]


async def test_the_first_clients_process_starts_together_with_the_monitors() -> None:
    stage = PerClient()
    opening = asyncio.ensure_future(stage.open())
    await settled()
    assert len(stage.started) == 2
    stage.permitted.set()
    await opening
    await stage.open("first")
    await stage.open("first")
    assert len(stage.started) == 3


async def test_with_a_second_client_the_next_clients_process_is_started_in_advance() -> None:
    stage = PerClient()
    stage.permitted.set()
    for session in ("", "first", "second"):
        await stage.open(session)
    assert len(stage.started) > 3


@pytest.mark.parametrize("command", ["npx", "/usr/local/bin/npx"])
async def test_a_program_that_may_need_installation_is_started_once_until_it_responds(
    command: str,
) -> None:
    stage = PerClient(command)
    opening = asyncio.ensure_future(stage.open())
    await settled()
    assert len(stage.started) == 1
    stage.permitted.set()
    await opening
    assert len(stage.started) == 2
