"""The path of a warm call through the runtime is short."""

from typing import Final

import pytest

from scripts.trace_call import CASES, trace_call

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
    "limited-json": 44,
    "limited-exchanged-json": 48,
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
