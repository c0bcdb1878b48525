"""When a worker is started again."""

from mcpproxy.proxy.workers.worker_process import LONGEST, restart_delay


def test_the_pause_doubles_with_every_end_up_to_a_bound() -> None:
    assert [round(restart_delay(ends), 1) for ends in (1, 2, 3, 4)] == [0.1, 0.2, 0.4, 0.8]
    assert restart_delay(9) < LONGEST == restart_delay(10) == restart_delay(1_000_000)
