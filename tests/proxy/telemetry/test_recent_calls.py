"""Recent calls: few facts of each call, and never its arguments."""

from dataclasses import dataclass
from typing import Any

import msgspec
import pytest
from msgspec import Raw

from mcpproxy.limits.audit import RECENT_CALL_TEXT, RECENT_CALLS
from mcpproxy.proxy.core.exchange import ClientIdentity
from mcpproxy.proxy.telemetry.recent_calls import MAX_META, RecentCalls
from mcpproxy.proxy.upstream.transports.session import UpstreamRequest

TRACE = "0af7651916cd43dd8448eb211c80319c"
CLIENT = ClientIdentity("2026-07-28", principal="abc")


@dataclass
class Named:
    """A backend by its name."""

    name: str = "weather"


@dataclass
class Ended:
    """A call that has ended."""

    request: UpstreamRequest
    backend: Named


def _call(target: str = "forecast", **params: Any) -> Ended:
    encoded = {name: Raw(msgspec.json.encode(value)) for name, value in params.items()}
    request = UpstreamRequest(Raw(b"1"), "tools/call", encoded, target=target)
    return Ended(request, Named())


def _traced(parent: str) -> Ended:
    return _call(_meta={"traceparent": parent})


def test_a_call_is_kept_with_its_facts_and_without_its_arguments() -> None:
    calls = RecentCalls(now=lambda: 12.5)
    secret = {"password": "hunter2"}
    call = _call(arguments=secret, _meta={"vendor": "hunter2", "traceparent": f"00-{TRACE}-b-01"})
    calls.record_call(call, CLIENT, "", 0.25, 10)
    (kept,) = calls.list_calls()
    assert msgspec.to_builtins(kept) == {
        "time": 12.5,
        "principal": "abc",
        "backend": "weather",
        "method": "tools/call",
        "name": "forecast",
        "outcome": "ok",
        "seconds": 0.25,
        "traceId": TRACE,
    }
    assert "hunter2" not in repr(vars(calls))


def test_the_oldest_calls_make_room_for_new_ones() -> None:
    calls = RecentCalls()
    for number in range(RECENT_CALLS.value + 5):
        calls.record_call(_call(f"t{number}"), CLIENT, "", 0.1, None)
    names = [call.name for call in calls.list_calls()]
    assert len(names) == RECENT_CALLS.value
    assert names[0] == f"t{RECENT_CALLS.value + 4}"
    assert names[-1] == "t5"


def test_long_names_of_recent_calls_are_cut() -> None:
    calls = RecentCalls()
    call = _call("x" * 65_536)
    calls.record_call(call, CLIENT, "", 0.1, None)
    assert len(calls.list_calls()[0].name) == RECENT_CALL_TEXT.value


@pytest.mark.parametrize(
    "parent",
    [
        "",
        "00",
        f"00-{TRACE}x-b-01",
        "00-<script>alert(1)</script>xxxxx-b",
        f"0-{TRACE}-b",
        f"00-{TRACE[1:]}g-b-01",
    ],
)
def test_a_malformed_trace_of_a_client_is_not_kept(parent: str) -> None:
    calls = RecentCalls()
    calls.record_call(_traced(parent), CLIENT, "", 0.1, None)
    assert calls.list_calls()[0].trace_id == ""


def test_large_metadata_is_not_searched_for_a_trace() -> None:
    calls = RecentCalls()
    meta = {"traceparent": f"00-{TRACE}-b-01", "padding": "x" * MAX_META}
    calls.record_call(_call(_meta=meta), CLIENT, "", 0.1, None)
    assert calls.list_calls()[0].trace_id == ""


def test_the_proxys_own_trace_precedes_that_of_the_client() -> None:
    calls = RecentCalls(lambda: "f" * 32)
    calls.record_call(_traced(f"00-{TRACE}-b-01"), CLIENT, "", 0.1, None)
    assert calls.list_calls()[0].trace_id == "f" * 32
