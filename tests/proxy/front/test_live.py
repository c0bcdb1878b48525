"""What is remembered of sessions that have ended."""

import os

import pytest

from mcpproxy.proxy.core.seal import Sealer
from mcpproxy.proxy.front import live as module
from mcpproxy.proxy.front.live import LiveSessions


def _sessions() -> LiveSessions:
    return LiveSessions(Sealer([b"k" * 16], os.urandom), "here", 1800.0)


async def test_an_ended_session_is_remembered_as_long_as_its_id_could_be_valid() -> None:
    sessions = _sessions()
    await sessions.end("one", 0.0)
    await sessions.end("two", 50.0)
    await sessions.reap(100.0, 60.0)
    assert not sessions.has_ended("one")
    assert sessions.has_ended("two")


async def test_of_sessions_that_ended_the_latest_are_remembered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MAX_ENDED", 3)
    sessions = _sessions()
    for number, session in enumerate(("a", "b", "c", "a", "d")):
        await sessions.end(session, float(number))
    assert [one for one in "abcd" if sessions.has_ended(one)] == ["a", "c", "d"]
