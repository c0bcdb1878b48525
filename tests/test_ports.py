"""Ports for programs that tests start."""

import subprocess
import sys

import pytest

from scripts import ports

HOLDER = "from scripts.ports import ports_in_a_row; print(ports_in_a_row(1), flush=True); input()"


class _Chance:
    """Proposes some ports in their order."""

    def __init__(self, *firsts: int) -> None:
        self._firsts = list(firsts)

    def sample(self, _ports: object, _count: int) -> list[int]:
        return self._firsts


def test_a_port_that_another_process_has_been_given_is_not_given_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    free = ports.ports_in_a_row(1)
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        # The other process has not bound it.
        theirs = int(other.stdout.readline())
        monkeypatch.setattr(ports, "_RETURNED", set[int]())
        monkeypatch.setattr(ports, "_CHANCE", _Chance(theirs, free))
        assert ports.ports_in_a_row(1) == free
        other.communicate(b"\n")
    monkeypatch.setattr(ports, "_RETURNED", set[int]())
    assert ports.ports_in_a_row(1) == theirs
