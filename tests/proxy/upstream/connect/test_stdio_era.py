"""The era of stdio servers: silence decides only until a process has responded."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from mcpproxy.api.defaults import effective_settings
from mcpproxy.proxy.core.errors import BackendError, ProcessFailed, ProtocolError, TimedOut
from mcpproxy.proxy.core.exchange import ClientIdentity
from mcpproxy.proxy.protocol.revisions import META_VERSION
from mcpproxy.proxy.upstream.connect.negotiation import PROBE_AGAIN, PROBE_LATEST
from mcpproxy.proxy.upstream.connect.stdio_connector import StdioConnector
from mcpproxy.proxy.upstream.transports.session import TaskSet
from tests.support.builders import an_mcpproxy

MODERN = ClientIdentity("2026-07-28")
LEGACY = ClientIdentity("2025-11-25")
DISCOVER, INITIALIZE = "server/discover", "initialize"
UNSUPPORTED = {"code": -32022, "message": "no", "data": {"supported": ["2026-07-28"]}}
TRANSIENT = {"code": -32603, "message": "the database is not ready"}


class Process:
    """A channel to a server of both eras, with exceptions that a test sets."""

    send_blocks = False

    def __init__(self, stage: "Stage") -> None:
        self.sent: list[str] = []
        """Methods of the messages that the server received."""
        self.begins_legacy = False
        """True if the server received an `initialize` without the `_meta` of modern requests."""
        self._stage = stage
        self._answers: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def send(self, body: bytes) -> None:
        message = json.loads(body)
        method = message["method"]
        self.sent.append(method)
        if method == self._stage.started_by:
            self._stage.started.set()
        if method == INITIALIZE and META_VERSION not in json.dumps(message):
            self.begins_legacy = True
        if method in self._stage.ends_at:
            self._answers.put_nowait(None)
        elif "id" in message and method not in self._stage.deaf_to:
            answer = {"jsonrpc": "2.0", "id": message["id"], **self._answer(method)}
            self._answers.put_nowait(json.dumps(answer).encode())

    def _answer(self, method: str) -> dict[str, Any]:
        if method in self._stage.refuses:
            return {"error": self._stage.refuses[method]}
        if method == INITIALIZE:
            return {"result": {"capabilities": {}, "protocolVersion": "2025-11-25"}}
        return {"result": {"capabilities": {}, "supportedVersions": ["2026-07-28"]}}

    async def receive(self) -> bytes:
        await self._stage.started.wait()
        answer = await self._answers.get()
        if answer is None:
            raise ProcessFailed("the process has exited with status 1")
        return answer

    async def close(self) -> None: ...


class Stage:
    """A connector of such processes."""

    def __init__(self) -> None:
        self.deaf_to: set[str] = set()
        self.ends_at: set[str] = set()
        self.refuses: dict[str, Any] = {}
        self.started = asyncio.Event()
        """Set while processes respond; earlier messages are queued."""
        self.started.set()
        self.started_by = ""
        self.processes: list[Process] = []
        timeouts = {"connect": "100ms", "initialize": "200ms"}
        backend = {"name": "b", "stdio": {"command": "x"}, "timeouts": timeouts}
        spec = an_mcpproxy(backends=[backend]).spec
        self.background = TaskSet()
        self.connector = StdioConnector(
            self._spawn, effective_settings(spec, spec.backends[0]), self.background
        )

    async def _spawn(self) -> Process:
        self.processes.append(Process(self))
        return self.processes[-1]

    async def revision(self, client: ClientIdentity = MODERN) -> str:
        """Return the revision of a new session."""
        link = await self.connector.open(client)
        await link.close()
        return link.server.revision


async def test_a_stdio_server_that_ignores_discover_is_used_in_the_legacy_era() -> None:
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
    stage.connector.forget()
    stage.deaf_to = {"server/discover"}
    assert await stage.revision() == "2025-11-25"


async def test_a_program_that_ignores_discover_gets_initialize_in_the_same_process() -> None:
    stage = Stage()
    stage.deaf_to = {DISCOVER}
    assert await stage.revision() == "2025-11-25"
    (process,) = stage.processes
    assert process.sent == [DISCOVER, INITIALIZE, "notifications/initialized"]


async def test_a_program_that_refuses_discover_gets_initialize_in_the_same_process() -> None:
    stage = Stage()
    stage.refuses = {DISCOVER: {"code": -32601, "message": "no"}}
    for _ in range(2):
        assert await stage.revision() == "2025-11-25"
    first, second = stage.processes
    assert first.sent == [DISCOVER, INITIALIZE, "notifications/initialized"]
    assert second.sent == [INITIALIZE, "notifications/initialized"]


async def test_a_program_that_ends_at_the_probe_is_probed_only_once() -> None:
    stage = Stage()
    stage.ends_at = {DISCOVER}
    for _ in range(2):
        assert await stage.revision() == "2025-11-25"
    assert [process.sent[0] for process in stage.processes] == [DISCOVER, INITIALIZE, INITIALIZE]


async def test_a_program_of_both_eras_that_ended_at_one_probe_is_modern_again_soon(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stage = Stage()
    stage.ends_at = {DISCOVER}
    assert await stage.revision() == "2025-11-25"
    stage.ends_at = set()
    monkeypatch.setattr(asyncio.get_running_loop(), "time", _later(PROBE_AGAIN))
    assert await stage.revision() == "2026-07-28"


async def test_two_probes_at_most_end_a_program(monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage()
    stage.ends_at = {DISCOVER}
    for wait in (0.0, PROBE_AGAIN, 2 * PROBE_LATEST, 2 * PROBE_LATEST):
        monkeypatch.setattr(asyncio.get_running_loop(), "time", _later(wait))
        assert await stage.revision() == "2025-11-25"
    first = [process.sent[0] for process in stage.processes]
    assert first.count(DISCOVER) == 2
    assert first.count(INITIALIZE) == 4


async def test_a_modern_program_that_ends_at_initialize_serves_legacy_clients() -> None:
    stage = Stage()
    stage.ends_at = {INITIALIZE}
    for _ in range(2):
        assert await stage.revision(LEGACY) == "2026-07-28"
    assert [process.sent[0] for process in stage.processes] == [INITIALIZE, DISCOVER, DISCOVER]


async def test_a_program_of_both_eras_that_ended_at_one_initialize_is_legacy_again_soon(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stage = Stage()
    stage.ends_at = {INITIALIZE}
    assert await stage.revision(LEGACY) == "2026-07-28"
    stage.ends_at = set()
    monkeypatch.setattr(asyncio.get_running_loop(), "time", _later(PROBE_AGAIN))
    assert await stage.revision(LEGACY) == "2025-11-25"


async def test_a_stdio_server_that_exits_after_refusing_initialize_reports_the_error() -> None:
    stage = Stage()
    stage.refuses, stage.ends_at = {INITIALIZE: TRANSIENT}, {DISCOVER}
    with pytest.raises(ProtocolError, match="-32603"):
        await stage.revision(LEGACY)


async def test_a_stdio_server_that_exits_on_every_request_is_an_error() -> None:
    stage = Stage()
    stage.ends_at = {DISCOVER, INITIALIZE}
    with pytest.raises(BackendError, match="status 1"):
        await stage.revision()


async def test_a_legacy_program_that_is_slow_to_start_is_started_once() -> None:
    stage = Stage()
    stage.refuses = {DISCOVER: {"code": -32601, "message": "no"}}
    stage.started.clear()
    stage.started_by = INITIALIZE
    assert await stage.revision() == "2025-11-25"
    assert len(stage.processes) == 1


async def test_a_slow_modern_stdio_server_is_used_in_its_era() -> None:
    stage = Stage()
    stage.refuses = {INITIALIZE: UNSUPPORTED}
    stage.started.clear()
    stage.started_by = INITIALIZE
    assert await stage.revision() == "2026-07-28"
    (process,) = stage.processes
    assert process.sent == [DISCOVER, INITIALIZE]


async def test_a_legacy_client_costs_a_modern_program_no_second_process() -> None:
    stage = Stage()
    stage.refuses = {INITIALIZE: UNSUPPORTED}
    assert await stage.revision(LEGACY) == "2026-07-28"
    (process,) = stage.processes
    assert process.sent == [INITIALIZE, DISCOVER]


async def test_a_slow_modern_stdio_server_gets_no_initialize() -> None:
    # As servers of the TypeScript SDK do, unless the request has the `_meta` of modern ones.
    stage = Stage()
    stage.started.clear()
    stage.started_by = INITIALIZE
    assert await stage.revision() == "2026-07-28"
    (process,) = stage.processes
    assert process.sent == [DISCOVER, INITIALIZE]
    assert not process.begins_legacy


async def test_a_program_that_was_silent_at_the_probe_is_probed_again_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stage = Stage()
    stage.deaf_to = {DISCOVER}
    assert await stage.revision() == "2025-11-25"
    stage.deaf_to = set()
    assert await stage.revision() == "2025-11-25"
    monkeypatch.setattr(asyncio.get_running_loop(), "time", _later(PROBE_AGAIN))
    assert await stage.revision() == "2026-07-28"


@pytest.mark.parametrize("client", [LEGACY, MODERN])
async def test_an_error_of_initialize_that_proves_no_era_is_reported_and_not_cached(
    client: ClientIdentity,
) -> None:
    stage = Stage()
    stage.refuses = {INITIALIZE: TRANSIENT, DISCOVER: {"code": -32601, "message": "no"}}
    with pytest.raises(ProtocolError, match="-32603: the database is not ready"):
        await stage.revision(client)
    stage.refuses = {}
    assert await stage.revision(client) == client.revision


async def test_after_a_transient_error_of_initialize_the_next_client_has_its_own_era() -> None:
    stage = Stage()
    stage.refuses = {INITIALIZE: TRANSIENT}
    assert await stage.revision(LEGACY) == "2026-07-28"
    stage.refuses = {}
    assert await stage.revision(LEGACY) == "2025-11-25"


async def test_a_program_with_a_transient_error_at_the_probe_is_probed_again_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stage = Stage()
    stage.refuses = {DISCOVER: TRANSIENT}
    assert await stage.revision() == "2025-11-25"
    stage.refuses = {}
    monkeypatch.setattr(asyncio.get_running_loop(), "time", _later(PROBE_AGAIN))
    assert await stage.revision() == "2026-07-28"


def _later(seconds: float) -> Callable[[], float]:
    """The clock of the running loop, advanced by `seconds`."""
    now = asyncio.get_running_loop().time
    return lambda: now() + seconds
