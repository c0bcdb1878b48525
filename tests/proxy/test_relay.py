"""The path of a warm call through the runtime is short."""

import gc
from types import SimpleNamespace
from typing import Any, Final

import pytest
from msgspec import Raw

from mcpproxy.proxy.call_limits.call_limits import CallLimits
from mcpproxy.proxy.call_limits.window_table import LocalStore
from mcpproxy.proxy.protocol.jsonrpc import RequestEnvelope
from mcpproxy.proxy.relay import Call
from scripts.trace_call import CASES, trace_call
from tests.proxy.call_limits.crowd import Clock, a_client, a_rule, call_limits

MAX_DEPTH: Final = 8
MAX_FILES: Final = 14
TRIES: Final = 3
MOST: Final = {
    "json": 36,
    "json-with-page": 37,
    "events": 59,
    "modern-json": 39,
    "per-client-json": 41,
    "reused-json": 42,
    "reused-events": 65,
    "isolated-json": 47,
    "legacy-to-modern": 45,
    "modern-to-legacy": 44,
    "access-json": 40,
    "access-modern-json": 44,
    "limited-json": 39,
    "limited-exchanged-json": 42,
}
"""Functions of the runtime that run during one call. The numbers may fall, not rise."""


async def test_a_warm_call_passes_few_files_on_a_flat_stack() -> None:
    trace = await trace_call(CASES["json"])
    assert trace.calls[0][2].endswith(".data_received"), "the request arrives"
    assert trace.depth <= MAX_DEPTH
    assert len(trace.files) <= MAX_FILES, trace.files
    assert "proxy/relay.py" in trace.files


@pytest.mark.parametrize("case", MOST)
async def test_a_warm_call_runs_few_functions(case: str) -> None:
    # Between the request and the response, the runtime may also start a session in advance.
    traces = [await trace_call(CASES[case])]
    while len(traces[-1].calls) > MOST[case] and len(traces) < TRIES:
        traces.append(await trace_call(CASES[case]))
    assert len(traces[-1].calls) <= MOST[case], "\n".join(name for _, _, name in traces[-1].calls)


class _Responder:
    """Has no task in which a call could run, as if each was cancelled before its first step."""

    def run_in_task(self, call: Call) -> None:
        pass

    def respond(self, body: bytes, answer: object) -> None:
        raise AssertionError


def _start(limits: CallLimits, try_acquire: Any) -> Call:
    """Start a call to a backend whose sessions are leased by `try_acquire`."""
    backend = SimpleNamespace(
        name="p",
        sessions=SimpleNamespace(try_acquire=try_acquire),
        forwarding=SimpleNamespace(passes_all=True),
    )
    gateway = SimpleNamespace(limits=limits, tracing=None, running=set())
    route = SimpleNamespace(backend=backend, properties=None, own=None, name="p_echo", rule="")
    message = RequestEnvelope("2.0", Raw(b"1"), "tools/call", {"name": Raw(b'"p_echo"')})
    parts: Any = (gateway, message, a_client(), _Responder(), route)
    return Call.start(*parts)


def _of_one_call() -> CallLimits:
    clock = Clock()
    return call_limits(LocalStore(clock), clock, a_rule(inFlight=1))


def test_a_call_whose_task_never_runs_is_not_in_flight() -> None:
    limits = _of_one_call()
    call = _start(limits, lambda client, stateless_only: None)
    assert list(limits.running.values()) == [1]
    del call
    gc.collect()
    assert not limits.running


def test_a_call_that_fails_before_it_is_sent_is_not_in_flight() -> None:
    limits = _of_one_call()

    def fail(client: object, stateless_only: object) -> None:
        assert list(limits.running.values()) == [1]
        raise RuntimeError("no sessions")

    with pytest.raises(RuntimeError, match="no sessions") as caught:
        _start(limits, fail)
    del caught
    gc.collect()
    assert not limits.running
