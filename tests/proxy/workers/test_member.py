"""When a worker is started again."""

from mcpproxy.proxy.workers.member import LONGEST, pause


def test_the_pause_doubles_with_every_end_up_to_a_bound() -> None:
    assert [round(pause(ends), 1) for ends in (1, 2, 3, 4)] == [0.1, 0.2, 0.4, 0.8]
    assert pause(9) < LONGEST == pause(10) == pause(1_000_000)
