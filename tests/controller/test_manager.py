"""Parts that run beside Kopf: if one ends, the probes report it."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from mcpproxy.cluster.client import KubeClient
from mcpproxy.cluster.errors import Unavailable
from mcpproxy.cluster.pods.status_stream import PodStatusReader
from mcpproxy.cluster.resources import REPLICA_SET, ResourceKind
from mcpproxy.controller import manager, resync
from mcpproxy.controller.kopf_watches import SELECTORS
from mcpproxy.controller.leader_election import LeaderElector
from mcpproxy.controller.manager import LeaderTasks, Manager, ResyncConfig
from mcpproxy.controller.metrics import OperatorMetrics
from mcpproxy.controller.watch_cache import WatchCache
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


class Silent(FakeCluster):
    """A cluster that never ends a list."""

    async def pages(
        self, kind: ResourceKind, namespace: str | None, selector: str
    ) -> AsyncGenerator[Any]:
        await asyncio.Event().wait()
        yield []


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


async def test_passes_begin_although_the_replica_sets_could_not_be_read_ahead(
    caplog: pytest.LogCaptureFixture,
) -> None:
    cluster = FakeCluster()
    cluster.unreadable[REPLICA_SET.name] = Unavailable("no response")
    watches = {kind: WatchCache(lambda: 0.0) for kind in SELECTORS}
    reader = cast(PodStatusReader, None)
    term = LeaderTasks(cluster, reader, OPTIONS, OperatorMetrics(), watches, lambda: False)
    with caplog.at_level("INFO"):
        await term.read_ahead((), "", set())
    assert "ReplicaSets are listed by themselves: no response" in caplog.text


async def test_passes_do_not_wait_long_for_replica_sets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(manager, "READ_AHEAD", 0.01)
    watches = {kind: WatchCache(lambda: 0.0) for kind in SELECTORS}
    reader = cast(PodStatusReader, None)
    parts = (Silent(), reader, OPTIONS, OperatorMetrics(), watches, lambda: False)
    async with asyncio.timeout(5):
        await LeaderTasks(*parts).read_ahead((), "", set())
