"""The delay of a busy event loop is measured by a timer."""

from collections.abc import Callable

import pytest

from mcpproxy.proxy.telemetry.loop_delay import EVERY, LoopDelay


class Loop:
    """An event loop whose clock and timer a test moves."""

    def __init__(self) -> None:
        self.now = 100.0
        self.due: tuple[float, Callable[[], object]] | None = None

    def time(self) -> float:
        """Return the time."""
        return self.now

    def call_at(self, when: float, callback: Callable[[], object]) -> "Loop":
        """Keep the only timer."""
        assert self.due is None
        self.due = when, callback
        return self

    def cancel(self) -> None:
        """Forget the timer."""
        self.due = None

    def run(self, late: float) -> None:
        """Run the timer so many seconds after it was due."""
        assert self.due is not None
        when, callback = self.due
        self.due = None
        self.now = when + late
        callback()


def test_the_delays_of_an_event_loop_add_up() -> None:
    loop, delay = Loop(), LoopDelay()
    delay.start(loop)
    for late in (0.0, 0.25, 0.5):
        loop.run(late)
    assert delay.measurements == 3
    assert delay.seconds == pytest.approx(0.75)


def test_a_late_measurement_does_not_make_the_next_one_late() -> None:
    loop, delay = Loop(), LoopDelay()
    delay.start(loop)
    loop.run(3.0)
    assert loop.due is not None
    assert loop.due[0] == pytest.approx(loop.now + EVERY)


def test_no_timer_remains_after_the_end() -> None:
    loop, delay = Loop(), LoopDelay()
    delay.start(loop)
    delay.start(loop)
    delay.stop()
    assert loop.due is None
    delay.stop()
