"""PerClient sessions of clients that have no downstream session, or end theirs."""

import asyncio
from dataclasses import replace

import pytest

from mcpproxy.proxy.core.exchange import ClientIdentity
from tests.proxy.upstream.stage import ANN, Stage, settled


@pytest.mark.parametrize("era", ["2025-11-25", "2026-07-28"])
async def test_a_principal_without_sessions_gets_a_separate_session(era: str) -> None:
    stage = Stage("PerClient")
    stage.era = era
    ann = ClientIdentity("2026-07-28", b"{}", b'{"name":"app"}', "ann")
    own = await stage.used(ann)
    stage.sessions.on_backend_failure()
    assert await stage.used(replace(ann)) is own
    # A client that describes itself differently is another client to a server.
    for other in (
        replace(ann, principal="bo"),
        replace(ann, info=b'{"name":"other"}'),
        replace(ann, capabilities=b'{"roots":{}}'),
    ):
        assert await stage.used(other) is not own
    assert stage.sessions.persistent_session(ann) is own


async def test_a_separate_session_may_be_one_that_was_opened_for_a_list() -> None:
    stage = Stage("PerClient")
    async with stage.sessions.acquire_for_lists(ANN) as looked:
        pass
    assert await stage.used(replace(ANN, session="another")) is looked
    own = await stage.used(ANN)
    assert own is not looked
    assert await stage.used(ANN) is own


async def test_the_session_of_a_client_that_left_while_it_was_opened_ends() -> None:
    stage = Stage("PerClient")
    stage.gate.clear()
    using = asyncio.create_task(stage.used(ANN))
    await settled()
    stage.sessions.end_client(ANN.session)
    stage.gate.set()
    link = await using
    stage.sessions.close_idle()
    await asyncio.wait_for(link.closed.wait(), 5)
