"""Parts that run beside Kopf: if one ends, the probes report it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from mcpproxy.cluster.client import KubeClient
from mcpproxy.cluster.pods.status_stream import PodStatusReader
from mcpproxy.cluster.resources import ResourceKind
from mcpproxy.controller import resync
from mcpproxy.controller.leader_election import LeaderElector
from mcpproxy.controller.manager import Manager, ResyncConfig
from mcpproxy.controller.metrics import OperatorMetrics
from mcpproxy.testing.fake_cluster import FakeCluster
from tests.support.builders import OPTIONS

ENDED = "a task of the operator ended; the operator's log has the error"


class Ending(LeaderElector):
    """An election that fails, or ends, at once."""

    def __init__(self, error: Exception | None) -> None:
        self._error = error

    async def run(self, lead: Callable[[], Awaitable[None]]) -> None:
        if self._error is not None:
            raise self._error


class Broken(FakeCluster):
    """A cluster that answers a list with what nobody foresaw."""

    async def heads(self, kind: ResourceKind, namespace: str | None, selector: str) -> list[Any]:
        raise RuntimeError(f"no {kind.plural}")


@asynccontextmanager
async def a_machine(cluster: FakeCluster, election: LeaderElector | None) -> AsyncIterator[Manager]:
    """A machine that runs; who reads pods is not asked."""
    parts = (cast(KubeClient, cluster), cast(PodStatusReader, None), (), OPTIONS, OperatorMetrics())
    machine = Manager(*parts, election, ResyncConfig())
    assert machine.wrong() is None
    machine.start()
    assert machine.wrong() is None
    try:
        yield machine
    finally:
        await machine.stop()


async def an_end(machine: Manager) -> None:
    """Wait until a part has ended."""
    await asyncio.wait(machine._tasks, timeout=5, return_when=asyncio.FIRST_COMPLETED)


@pytest.mark.parametrize("error", [RuntimeError("unforeseen"), None], ids=["fails", "returns"])
async def test_an_ended_election_fails_the_probes_and_is_logged(
    error: Exception | None, caplog: pytest.LogCaptureFixture
) -> None:
    async with a_machine(FakeCluster(), Ending(error)) as machine:
        await an_end(machine)
        assert machine.wrong() == ENDED
    assert "the leader's work ended" in caplog.text
    assert ("unforeseen" in caplog.text) == (error is not None)


async def test_an_ended_comparison_with_lists_fails_the_probes_and_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(resync, "FIRST_LOOK", 0.0)
    async with a_machine(Broken(), None) as machine:
        await an_end(machine)
        assert machine.wrong() == ENDED
    assert "the resync ended" in caplog.text
    assert "no mcpproxies" in caplog.text


async def test_a_stopped_manager_does_not_log_an_unexpected_end(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with a_machine(FakeCluster(), None):
        pass
    assert "came to an end" not in caplog.text
