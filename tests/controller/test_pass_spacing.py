"""Changes of reports cause passes at a limited rate for each MCPProxy."""

from mcpproxy.controller.work_queue import PassSpacing, WorkQueue
from mcpproxy.limits.pods import REPORT_PASSES
from tests.reconcile.clock import FakeClock

INTERVAL = 1 / REPORT_PASSES.value


class Scene:
    """A clock, and what was asked for."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.passes: list[tuple[str, float]] = []
        self.spacing: PassSpacing[str] = PassSpacing(self.clock.time, self._add_after)

    def _add_after(self, key: str, delay: float) -> None:
        """Ask for a pass, unless one is due earlier, as the queue does."""
        now = self.clock.time()
        due = [at for asked, at in self.passes if asked == key and at > now]
        if not due or due[-1] > now + delay + 1e-9:
            self.passes.append((key, now + delay))

    def changes(self, key: str, times: int, every: float) -> None:
        """Let reports change again and again."""
        for _ in range(times):
            self.spacing.changed(key)
            self.clock.advance(every)


def test_rapid_changes_share_one_pass() -> None:
    scene = Scene()
    begin = scene.clock.time()
    before = REPORT_PASSES.reached
    scene.changes("tools", times=1000, every=INTERVAL / 100)
    assert len(scene.passes) <= 1 + 10
    assert REPORT_PASSES.reached > before
    last = scene.passes[-1][1]
    assert last >= scene.clock.time() - INTERVAL / 100, "the last change is followed by a pass"
    assert last <= begin + 11 * INTERVAL, "no pass comes later for the number of changes"


def test_the_first_change_after_a_rest_has_its_pass_at_once() -> None:
    scene = Scene()
    for _ in range(3):
        scene.spacing.changed("tools")
        assert scene.passes[-1] == ("tools", scene.clock.time())
        scene.clock.advance(2 * INTERVAL)


async def test_a_change_after_a_pass_for_another_reason_has_its_pass() -> None:
    """An event brought the pass forward that a report was waiting for, and then another came."""
    clock = FakeClock()
    queue: WorkQueue[str] = WorkQueue(clock)
    spacing: PassSpacing[str] = PassSpacing(clock.time, queue.add_after)
    spacing.changed("tools")
    clock.advance(0)
    assert await queue.get() == "tools"
    queue.done("tools")
    queue.add_after("tools", INTERVAL / 4)
    spacing.changed("tools")
    clock.advance(INTERVAL / 2)
    assert await queue.get() == "tools"
    queue.done("tools")
    spacing.changed("tools")
    clock.advance(INTERVAL)
    assert len(queue) == 1


def test_a_busy_proxy_delays_no_other() -> None:
    scene = Scene()
    scene.changes("busy", times=100, every=0)
    scene.spacing.changed("other")
    assert scene.passes[-1] == ("other", scene.clock.time())


def test_proxies_at_rest_are_not_remembered() -> None:
    scene = Scene()
    for number in range(1000):
        scene.changes(f"tools-{number}", times=1, every=1)
    assert len(scene.spacing._due) == 1
