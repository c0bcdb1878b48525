"""A header value that is missing for a moment: nothing is begun that nobody would end."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from mcpproxy.proxy.core.errors import MissingReference
from mcpproxy.proxy.upstream.backend import Backend
from mcpproxy.proxy.upstream.transports.http_endpoint import McpHttpClient


def _lacking() -> tuple[()]:
    raise MissingReference("Secret token has no readable key value")


class Connections:
    """The connections of a backend."""

    origin = SimpleNamespace(path=b"/mcp")

    def __init__(self) -> None:
        self.taken = 0

    def take(self) -> object:
        """Return a connection, which its taker has to return."""
        self.taken += 1
        return SimpleNamespace()


SENDS: dict[str, Callable[[McpHttpClient], object]] = {
    "a message": lambda endpoint: endpoint.send(b"{}", (), lambda: None),
    "the end of a session": lambda endpoint: endpoint.begin_delete((), lambda: None),
}


@pytest.mark.parametrize("send", SENDS.values(), ids=SENDS)
def test_without_a_value_no_connection_is_taken(send: Callable[[McpHttpClient], object]) -> None:
    connections: Any = Connections()
    assert send(McpHttpClient(connections, _lacking)) is None
    assert connections.taken == 0


async def test_a_failure_does_not_end_the_task_that_closes_idle_sessions(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Ended(Exception):
        """The test is over."""

    rounds: list[int] = []

    async def sleep(seconds: float) -> None:
        rounds.append(1)
        if len(rounds) > 3:
            raise Ended

    def changed() -> bool:
        raise MissingReference("gone")

    monkeypatch.setattr("mcpproxy.proxy.upstream.backend.asyncio.sleep", sleep)
    backend: Any = object.__new__(Backend)
    backend.name, backend._connector = "b", SimpleNamespace(changed=changed)
    with pytest.raises(Ended):
        await Backend._reap(backend)
    assert "closing idle sessions failed" in caplog.text
