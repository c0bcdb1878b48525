"""Samples of stacks: their text and their limits."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from mcpproxy.limits.audit import PROFILE_DEPTH, PROFILE_STACKS
from mcpproxy.proxy.admin import profile
from mcpproxy.proxy.admin.profile import StackSampler


@contextmanager
def _waiting(begin: Callable[[Callable[[], None]], None]) -> Iterator[int]:
    """A thread that waits at the end of a stack that `begin` makes."""
    entered, left = threading.Event(), threading.Event()

    def wait() -> None:
        entered.set()
        left.wait()

    thread = threading.Thread(target=begin, args=(wait,))
    thread.start()
    entered.wait()
    assert thread.ident is not None
    try:
        yield thread.ident
    finally:
        left.set()
        thread.join()


def _deep(wait: Callable[[], None], depth: int = 300) -> None:
    _deep(wait, depth - 1) if depth else wait()


def test_a_stack_names_files_and_functions_from_the_outermost_to_the_innermost() -> None:
    with _waiting(lambda wait: wait()) as thread:
        sampler = StackSampler(thread)
        sampler.sample()
        sampler.sample()
    ((stack, count),) = sampler.stacks.items()
    assert count == 2
    names = stack.split(";")
    assert names[0].startswith("python3.")
    own = [name for name in names if name.startswith("admin/test_profile.py:")]
    assert own[-1] == "admin/test_profile.py:_waiting.<locals>.wait"
    assert names.index(own[-1]) < len(names) - 1, "the functions that wait are within"
    assert sampler.folded() == f"{stack} 2\n"


def test_a_deep_stack_is_cut_at_its_outer_end() -> None:
    reached = PROFILE_DEPTH.reached
    with _waiting(_deep) as thread:
        sampler = StackSampler(thread)
        sampler.sample()
    ((stack, _),) = sampler.stacks.items()
    names = stack.split(";")
    assert len(names) == PROFILE_DEPTH.value
    assert names[0] == "admin/test_profile.py:_deep"
    assert PROFILE_DEPTH.reached == reached + 1


def test_stacks_beyond_the_limit_are_counted_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(profile, "PROFILE_STACKS", replace(PROFILE_STACKS, value=1))
    with _waiting(lambda wait: wait()) as thread:
        sampler = StackSampler(thread)
        sampler.sample()
        sampler.stacks["another"] = sampler.stacks.pop(next(iter(sampler.stacks)))
        sampler.sample()
        sampler.sample()
    assert sampler.stacks == {"another": 1, profile.OTHER: 2}


def test_a_profile_ends_when_it_is_stopped() -> None:
    sampler = StackSampler(threading.get_ident())
    sampler.stop()
    sampler.run(10.0)
    assert sampler.stacks.total() == 1


def test_a_profile_ends_in_time_although_samples_are_slow() -> None:
    times = iter([0.0, 0.4, 0.9, 1.3, 1.8])
    sampler = StackSampler(threading.get_ident(), lambda: next(times))
    sampler.run(1.0)
    assert sampler.stacks.total() == 3
