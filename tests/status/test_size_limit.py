"""Whatever backends and pods say, their status can be stored."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcpproxy.api.v1alpha1.status import BackendStatus, MCPProxyStatus, PodReport
from mcpproxy.limits.pods import (
    REPORT_BACKENDS,
    REPORT_COUNT,
    REPORT_LINE,
    REPORT_MESSAGE,
    REPORT_NAME,
    REPORT_NAMES,
    REPORT_WORD,
    STATUS_SIZE,
)
from mcpproxy.status.size_limit import OBJECT, reduce_to_fit, room_beside, stored_size
from tests.status.views import a_pod, a_report, observed, status_of
from tests.support.examples import examples

NASTY = ["A", "<", '"', "\\", "\x1b[31m\n", "\x00", "\ud800", "\u202e", "𝒳", "\u2028"]
NAMES = tuple(f"backend-{number:02}" for number in range(64))


def a_nasty_report(filler: str) -> dict[str, Any]:
    """Return a pod's report in which every text is of 2 MB or more."""
    long = filler * 2_000_000
    backend = {
        "state": "Unhealthy",
        "reason": long,
        "message": long,
        "protocolVersion": long,
        "server": {"name": long, "version": long},
        "components": {"tools": 10**100, "prompts": -5},
        "notOffered": [long] * 10,
    }
    drifted = {"count": 10**100, "names": [long] * 200}
    return {
        "configHash": long,
        "version": long,
        "catalogHash": long,
        "clashes": [long] * 200,
        "backends": [{"name": name, **backend} for name in (*NAMES, "one-more")],
        "drift": {"new": drifted, "changed": drifted, "gone": drifted},
    }


@pytest.mark.parametrize("filler", NASTY, ids=ascii)
def test_texts_of_any_characters_are_cut_and_cleaned(filler: str) -> None:
    report = PodReport.model_validate(a_nasty_report(filler))
    assert len(report.backends) == REPORT_BACKENDS.value
    assert len(report.clashes) == REPORT_NAMES.value
    assert len(report.config_hash) == REPORT_WORD.value
    assert len(report.clashes[0]) == REPORT_NAME.value
    backend = report.backends[0]
    assert backend.server is not None
    assert backend.components is not None
    assert len(backend.server.name) == REPORT_NAME.value
    assert len(backend.message or "") == REPORT_MESSAGE.value
    assert (backend.components.tools, backend.components.prompts) == (REPORT_COUNT.value, 0)
    assert not set("\x1b\n\x00\ud800\u202e\u2028") & set(report.model_dump_json())


@pytest.mark.parametrize("filler", NASTY, ids=ascii)
def test_the_largest_report_fits_into_one_line(filler: str) -> None:
    report = PodReport.model_validate(a_nasty_report(filler))
    line = report.model_dump_json(by_alias=True, exclude_none=True).encode()
    assert len(line) <= REPORT_LINE.value


@pytest.mark.parametrize("filler", NASTY, ids=ascii)
def test_a_status_accepts_every_report_of_pods(filler: str) -> None:
    report = PodReport.model_validate(a_nasty_report(filler))
    before = STATUS_SIZE.reached
    seen = observed(*(a_pod(f"tools-{n}", report=report) for n in range(3)), backends=NAMES)
    status = status_of(seen)
    reduced = reduce_to_fit(status, STATUS_SIZE.value)
    assert stored_size(reduced.to_manifest()) <= STATUS_SIZE.value
    types = [
        [condition.type for condition in result.conditions or []] for result in (status, reduced)
    ]
    assert types[0] == types[1]
    assert STATUS_SIZE.reached - before == int(reduced != status)


def test_a_small_status_is_unchanged() -> None:
    status = status_of(observed(a_pod("tools-1", *a_report().backends)))
    assert reduce_to_fit(status, STATUS_SIZE.value) is status


def test_details_are_dropped_before_backends_and_conditions_never() -> None:
    views = [
        BackendStatus.model_validate(
            {"name": name, "state": "Unhealthy", "message": "<" * 768, "server": {"name": "x"}}
        )
        for name in NAMES
    ]
    status = status_of(observed(a_pod("tools-1", *views), backends=NAMES))
    size = stored_size(status.to_manifest())
    assert size > 200_000
    shorter, bare, none = (reduce_to_fit(status, room) for room in (190_000, 40_000, 1_000))
    assert {len(backend.message or "") for backend in shorter.backends or []} == {256}
    assert [actual.server for actual in shorter.backends or []] != [None] * 64
    assert {outcome.message for outcome in bare.backends or []} == {None}
    assert none.backends is None
    assert stored_size(none.to_manifest()) < 32_768
    for result in (shorter, bare, none):
        assert [condition.type for condition in result.conditions or []] == [
            item.type for item in status.conditions or []
        ]


@given(st.text(max_size=100))
@settings(max_examples=examples(50))
def test_the_size_is_never_less_than_that_of_gos_encoder(text: str) -> None:
    text = text.encode("utf-8", "replace").decode()
    status = MCPProxyStatus(url=text)
    go = json.dumps({"url": text}, ensure_ascii=False, separators=(",", ":"))
    for letter in "<>&":
        go = go.replace(letter, f"\\u{ord(letter):04x}")
    assert stored_size(status.to_manifest()) >= len(go.encode())


def test_a_large_spec_leaves_less_room() -> None:
    small = {"spec": {"a": "x"}, "status": {"b": "y" * 10_000}}
    assert room_beside(small) == STATUS_SIZE.value
    large = {"spec": {"a": "x" * (OBJECT - 50_000)}, "status": {"b": "y" * 10_000}}
    assert 49_000 < room_beside(large) < 50_000
