"""One stream per pod, the newest report kept, a lost pod known to nobody."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from mcpproxy.cluster.pods.reports import PodReportWatcher, ReportLimits
from mcpproxy.cluster.pods.status_stream import PodAddress
from tests.cluster.pods.pods import FakePods, a_report
from tests.reconcile.clock import FakeClock

POD = PodAddress("team", "tools-1", "p1", "10.0.0.1")
OTHER = PodAddress("team", "tools-2", "p2", "10.0.0.2")


class Scene:
    """A fleet whose pauses a test ends."""

    def __init__(self, limits: ReportLimits | None = None) -> None:
        self.pods = FakePods()
        self.clock = FakeClock()
        self.changes: asyncio.Queue[str] = asyncio.Queue()
        self.pauses: asyncio.Queue[float] = asyncio.Queue()
        self._go_on: asyncio.Queue[None] = asyncio.Queue()
        self.fleet: PodReportWatcher[str] = PodReportWatcher(
            self.pods, self.changes.put_nowait, self.clock.time, self._sleep, limits
        )

    async def _sleep(self, seconds: float) -> None:
        self.pauses.put_nowait(seconds)
        await self._go_on.get()

    async def change(self) -> str:
        """The key whose view changed."""
        return await asyncio.wait_for(self.changes.get(), 5)

    async def pause(self) -> float:
        """Wait until a stream waits for its next attempt; how long it would."""
        return await asyncio.wait_for(self.pauses.get(), 5)

    async def next_attempt(self, seconds: float) -> None:
        """Let a stream make its next attempt, and wait until it has failed as well."""
        self.clock.advance(seconds)
        self._go_on.put_nowait(None)

    def states(self, uid: str) -> list[str]:
        """States of the backends in the newest report."""
        report = self.fleet.view(uid).report
        return [backend.state for backend in report.backends] if report else []


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    """A fleet that follows one pod."""
    result = Scene()
    result.fleet.follow("tools", [POD])
    yield result
    await result.fleet.close()


async def test_a_pod_without_a_first_attempt_is_not_settled(scene: Scene) -> None:
    assert not scene.fleet.view("p1").settled
    assert not scene.fleet.view("never seen").settled


async def test_a_report_is_stored_and_announced(scene: Scene) -> None:
    scene.pods.say("p1", a_report(weather="Healthy"))
    assert await scene.change() == "tools"
    assert scene.states("p1") == ["Healthy"]


async def test_the_newest_report_counts_and_an_equal_one_is_not_a_change(scene: Scene) -> None:
    for state in ("Healthy", "Healthy", "Unhealthy"):
        scene.pods.say("p1", a_report(weather=state))
    scene.pods.say("p1", None)
    await scene.change()
    await scene.change()
    assert scene.states("p1") == ["Unhealthy"]
    assert scene.changes.empty()


async def test_a_pod_that_cannot_be_reached_is_settled_without_a_report() -> None:
    scene = Scene()
    scene.pods.lost.add("p1")
    scene.fleet.follow("tools", [POD])
    await scene.change()
    view = scene.fleet.view("p1")
    assert (view.settled, view.report, view.error) == (True, None, "connection refused")
    await scene.fleet.close()


async def test_the_first_error_stays_while_attempts_fail_in_other_ways(scene: Scene) -> None:
    scene.pods.say("p1", a_report(weather="Healthy"))
    await scene.change()
    assert scene.fleet.view("p1").error == ""
    scene.pods.lost.add("p1")
    scene.pods.hang_up("p1")
    await scene.pause()
    await scene.next_attempt(15)
    await scene.change()
    assert scene.fleet.view("p1").error == "connection refused"
    scene.pods.lost.clear()
    await scene.pause()
    await scene.next_attempt(5)
    scene.pods.hang_up("p1")
    await scene.pause()
    assert scene.fleet.view("p1").error == "connection refused"
    assert scene.changes.empty()


async def test_a_report_is_kept_during_a_short_interruption_and_dropped_after_a_long_one(
    scene: Scene,
) -> None:
    scene.pods.say("p1", a_report(weather="Healthy"))
    await scene.change()
    scene.pods.lost.add("p1")
    scene.pods.hang_up("p1")
    await scene.pause()
    assert scene.states("p1") == ["Healthy"]
    await scene.next_attempt(5)
    await scene.pause()
    assert scene.states("p1") == ["Healthy"]
    await scene.next_attempt(10)
    assert await scene.change() == "tools"
    assert scene.states("p1") == []


async def test_a_stream_that_reconnects_in_time_keeps_the_report(scene: Scene) -> None:
    scene.pods.say("p1", a_report(weather="Healthy"))
    await scene.change()
    scene.pods.hang_up("p1")
    await scene.pause()
    await scene.next_attempt(1)
    scene.pods.hang_up("p1")
    await scene.pause()
    assert scene.pods.opened == ["p1", "p1"]
    assert scene.changes.empty()
    assert scene.states("p1") == ["Healthy"]


async def test_attempts_back_off_and_the_backoff_is_reset_after_a_line() -> None:
    scene = Scene()
    scene.pods.lost.add("p1")
    scene.fleet.follow("tools", [POD])
    pauses = [await scene.pause()]
    for _ in range(6):
        await scene.next_attempt(1)
        pauses.append(await scene.pause())
    assert pauses == [0.25, 0.5, 1.0, 2.0, 4.0, 5.0, 5.0]
    scene.pods.lost.clear()
    scene.pods.say("p1", a_report())
    scene.pods.hang_up("p1")
    await scene.next_attempt(1)
    assert await scene.pause() == 0.25
    await scene.fleet.close()


async def test_a_silent_stream_is_abandoned() -> None:
    scene = Scene(ReportLimits(first_line=0.01))
    scene.fleet.follow("tools", [POD])
    assert await scene.change() == "tools"
    assert scene.fleet.view("p1").settled
    await scene.fleet.close()


async def test_an_invalid_report_counts_as_missing(scene: Scene) -> None:
    scene.pods.say_bytes("p1", b'{"configHash": 7}')
    await scene.change()
    assert scene.fleet.view("p1").report is None
    assert await scene.pause() == 0.25


async def test_fields_of_a_newer_runtime_are_passed_over(scene: Scene) -> None:
    line = b'{"configHash": "h", "version": "9", "backends": [], "clashes": [], "mood": "good"}'
    scene.pods.say_bytes("p1", line)
    await scene.change()
    report = scene.fleet.view("p1").report
    assert report is not None
    assert report.version == "9"


async def test_watching_again_keeps_streams_and_closes_those_of_removed_pods(
    scene: Scene,
) -> None:
    scene.pods.say("p1", a_report(weather="Healthy"))
    await scene.change()
    scene.fleet.follow("tools", [POD, OTHER])
    scene.pods.say("p2", a_report(weather="Unhealthy"))
    await scene.change()
    assert scene.pods.opened == ["p1", "p2"]
    scene.fleet.follow("tools", [OTHER])
    assert len(scene.fleet) == 1
    assert not scene.fleet.view("p1").settled
    assert scene.states("p2") == ["Unhealthy"]


async def test_a_pod_is_read_at_its_new_address(scene: Scene) -> None:
    scene.pods.say("p1", a_report(weather="Healthy"))
    await scene.change()
    scene.fleet.follow("tools", [PodAddress("team", "tools-1", "p1", "10.0.0.9")])
    assert not scene.fleet.view("p1").settled


async def test_forgetting_one_key_leaves_the_others(scene: Scene) -> None:
    scene.fleet.follow("others", [OTHER])
    scene.fleet.forget("tools")
    assert len(scene.fleet) == 1
