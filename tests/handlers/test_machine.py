"""What runs beside Kopf: a part that ends is told by the probes."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from mcpproxy.cluster.client import KubeCluster
from mcpproxy.cluster.election import Election
from mcpproxy.cluster.fake import FakeCluster
from mcpproxy.cluster.kinds import Kind
from mcpproxy.cluster.pods import PodReader
from mcpproxy.handlers import resync
from mcpproxy.handlers.machine import Machine, Pace
from mcpproxy.handlers.metrics import Metrics
from tests.builders import OPTIONS

ENDED = "a part of the operator came to an end; its log says why"


class Ending(Election):
    """An election that fails, or ends, at once."""

    def __init__(self, error: Exception | None) -> None:
        self._error = error

    async def run(self, lead: Callable[[], Awaitable[None]]) -> None:
        """See Election."""
        if self._error is not None:
            raise self._error


class Broken(FakeCluster):
    """A cluster that answers a list with what nobody foresaw."""

    async def heads(self, kind: Kind, namespace: str | None, selector: str) -> list[Any]:
        """See Cluster."""
        raise RuntimeError(f"no {kind.plural}")


@asynccontextmanager
async def a_machine(cluster: FakeCluster, election: Election | None) -> AsyncIterator[Machine]:
    """A machine that runs; who reads pods is not asked."""
    parts = (cast(KubeCluster, cluster), cast(PodReader, None), (), OPTIONS, Metrics())
    machine = Machine(*parts, election, Pace())
    assert machine.wrong() is None
    machine.start()
    assert machine.wrong() is None
    try:
        yield machine
    finally:
        await machine.stop()


async def an_end(machine: Machine) -> None:
    """Wait until a part has ended."""
    await asyncio.wait(machine._tasks, timeout=5, return_when=asyncio.FIRST_COMPLETED)


@pytest.mark.parametrize("error", [RuntimeError("unforeseen"), None], ids=["fails", "returns"])
async def test_an_election_that_ends_fails_the_probes_and_is_logged(
    error: Exception | None, caplog: pytest.LogCaptureFixture
) -> None:
    async with a_machine(FakeCluster(), Ending(error)) as machine:
        await an_end(machine)
        assert machine.wrong() == ENDED
    assert "the leader's work came to an end" in caplog.text
    assert ("unforeseen" in caplog.text) == (error is not None)


async def test_a_comparison_with_lists_that_ends_fails_the_probes_and_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(resync, "FIRST_LOOK", 0.0)
    async with a_machine(Broken(), None) as machine:
        await an_end(machine)
        assert machine.wrong() == ENDED
    assert "the comparison with lists came to an end" in caplog.text
    assert "no mcpproxies" in caplog.text


async def test_a_machine_that_is_stopped_logs_no_end(caplog: pytest.LogCaptureFixture) -> None:
    async with a_machine(FakeCluster(), None):
        pass
    assert "came to an end" not in caplog.text
