"""Choice of the exclusive sessions that get a standalone stream."""

import math
from types import SimpleNamespace
from typing import Any

import pytest

from mcpproxy.proxy.core.exchange import ClientIdentity
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.upstream.sessions.lifecycle import QUIET_AFTER, SAMPLE_EVERY, StreamSampling
from mcpproxy.proxy.upstream.transports.event_stream import StandaloneActivity
from mcpproxy.proxy.upstream.transports.http_legacy import HttpLegacySession
from mcpproxy.proxy.upstream.transports.session import ServerDescription, TaskSet
from tests.proxy.upstream.stage import FakeLink


def _session(declared: dict[str, Any], activity: StandaloneActivity) -> HttpLegacySession:
    endpoint: Any = SimpleNamespace(standalone=activity)
    server = ServerDescription("2025-11-25", {"capabilities": jsonrpc.encode_raw(declared)})
    return HttpLegacySession(endpoint, server, b"s", TaskSet())


QUIET = ClientIdentity("2025-11-25", b"{}")
ASKABLE = ClientIdentity("2025-11-25", b'{"elicitation":{}}')
PLAIN = {"tools": {"listChanged": True}, "resources": {"subscribe": True}}


@pytest.mark.parametrize(
    ("client", "declared", "last_message_at", "streams"),
    [
        (QUIET, PLAIN, -math.inf, 1),
        (QUIET, {}, -math.inf, 1),
        (ASKABLE, PLAIN, -math.inf, 10),
        (QUIET, {**PLAIN, "logging": {}}, -math.inf, 10),
        (QUIET, {**PLAIN, "experimental": {"x": {}}}, -math.inf, 10),
        (QUIET, PLAIN, 1.0, 10),
        (QUIET, PLAIN, 100.0 - QUIET_AFTER, 1),
    ],
    ids=["quiet", "bare", "askable", "logging", "experimental", "message", "message-long-ago"],
)
def test_a_session_has_a_stream_if_messages_may_come_on_it(
    client: ClientIdentity, declared: dict[str, Any], last_message_at: float, streams: int
) -> None:
    sampling, activity = StreamSampling(), StandaloneActivity()
    activity.record_message(last_message_at)
    chosen = [sampling.chooses(_session(declared, activity), client, 100.0) for _ in range(10)]
    assert chosen.count(True) == streams
    assert sampling.chooses(_session(declared, activity), client, 100.0 + SAMPLE_EVERY)


def test_a_backend_without_streams_is_asked_for_one_once_a_second() -> None:
    sampling, activity = StreamSampling(), StandaloneActivity()
    activity.record_opening(405)
    session = _session({"logging": {}}, activity)
    chosen = [sampling.chooses(session, ASKABLE, tick / 10) for tick in range(30)]
    assert chosen.count(True) == 3
    activity.record_opening(200)
    assert sampling.chooses(session, ASKABLE, 3.0)


def test_sessions_of_other_transports_always_receive_messages() -> None:
    sampling = StreamSampling()
    assert all(sampling.chooses(FakeLink(QUIET), QUIET, 1.0) for _ in range(10))
