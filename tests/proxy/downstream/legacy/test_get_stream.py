"""Streams that a client resumes, and the lifetimes of streams."""

import asyncio
import time
from typing import Any

import pytest

from mcpproxy.proxy.core.exchange import ClientIdentity
from mcpproxy.proxy.core.identity import ANONYMOUS, CLOCK_SKEW, Identity
from mcpproxy.proxy.downstream.legacy.event_store import EventStore
from mcpproxy.proxy.downstream.legacy.get_stream import resume
from mcpproxy.proxy.downstream.stream_shares import OpenStreams


class _Reply:
    """The response of a resumed stream."""

    def __init__(self) -> None:
        self.events: list[bytes] = []
        self.ended = False
        self.on_gone: Any = None

    def keep_alive(self) -> None: ...

    async def ping(self) -> None: ...

    async def event(self, message: bytes, event_id: bytes | None = None) -> None:
        self.events.append(message)

    async def end(self) -> None:
        self.ended = True


def _caller(expires: float | None) -> Identity:
    return Identity("jwt", "https://issuer", "ann", expires=expires)


async def test_a_resumed_stream_ends_when_the_token_of_its_caller_expires() -> None:
    log, reply = EventStore().open("stream", "session"), _Reply()
    log.append(b"first")
    expiring: Any = _caller(time.time() + 0.2)
    async with asyncio.timeout(10):
        await resume(log, -1, reply, expiring)  # type: ignore[arg-type]
    assert reply.events == [b"first"]
    assert reply.ended


@pytest.mark.parametrize(
    ("expires", "lifetime"),
    [
        (None, None),
        (1100.0, 100.0),
        (1000.5, 0.5),
        # A token that is only accepted because clocks may differ.
        (1000.0, CLOCK_SKEW),
        (990.0, CLOCK_SKEW - 10),
        (900.0, 0.0),
    ],
)
def test_a_stream_lasts_as_long_as_its_token_is_accepted(
    expires: float | None, lifetime: float | None
) -> None:
    assert _caller(expires).stream_lifetime(1000.0) == lifetime


async def test_streams_of_revoked_callers_end_and_those_of_others_stay() -> None:
    streams = OpenStreams(lambda: 1000.0)

    def opened(identity: Identity) -> Any:
        client = ClientIdentity("2025-11-25", principal=identity.principal, identity=identity)
        return streams.open("net", client)

    ann, bo = opened(_caller(2000.0)), opened(Identity("jwt", "https://issuer", "bo"))
    other, nobody = opened(Identity("jwt", "https://other", "ann")), opened(ANONYMOUS)
    streams.end_revoked("https://issuer", "ann")
    assert [stream.ended for stream in (ann, bo, other, nobody)] == [True, False, False, False]
    streams.end_revoked("https://issuer", None)
    assert [stream.ended for stream in (ann, bo, other, nobody)] == [True, True, False, False]
    for stream in (ann, bo, other, nobody):
        streams.close(stream)
    assert streams._identities == {}


async def test_a_stream_ends_at_the_expiration_of_its_token_and_a_closed_one_has_no_timer() -> None:
    streams, loop = OpenStreams(lambda: 1000.0), asyncio.get_running_loop()
    client = ClientIdentity("2025-11-25", identity=_caller(1000.1))
    stream = streams.open("net", client)
    async with asyncio.timeout(10):
        assert await stream.get(10) is None
    streams.close(stream)
    lasting = streams.open("net", ClientIdentity("2025-11-25", identity=_caller(5000.0)))
    _, timer = streams._identities[lasting]
    assert timer is not None
    assert timer.when() > loop.time() + 3000
    streams.close(lasting)
    assert timer.cancelled()
