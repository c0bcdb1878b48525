"""Durations of operations: the convention's names, and labels that peers cannot make grow."""

import asyncio
import time
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from mcpproxy.limits.audit import METERED_NAMES
from mcpproxy.proxy.core.exchange import ClientIdentity
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import RpcError
from mcpproxy.proxy.protocol.kinds import TOOLS, ComponentKind
from mcpproxy.proxy.protocol.revisions import LATEST_MODERN
from mcpproxy.proxy.telemetry.operation_durations import (
    BOUNDS,
    KEPT_UNLISTED,
    OTHER,
    OperationDurations,
)
from mcpproxy.proxy.upstream.transports.session import UpstreamRequest

CLIENT = ClientIdentity("2025-11-25")
LABELS = (
    "mcpproxy_backend",
    "mcp_method_name",
    "gen_ai_tool_name",
    "gen_ai_prompt_name",
    "error_type",
    "mcp_protocol_version",
    "network_transport",
)


@dataclass
class Served:
    """A call, as far as labels need it."""

    request: UpstreamRequest
    backend: Any = field(
        default_factory=lambda: SimpleNamespace(
            name="b",
            is_program=False,
            watch=SimpleNamespace(server=SimpleNamespace(revision="2026-07-28")),
        )
    )
    began_at: float = field(default_factory=time.perf_counter)


class Listed:
    """Names that b lists: tools whose names begin with a prefix."""

    def __init__(self, prefix: str = "t") -> None:
        self.prefix = prefix
        self.version = 0
        self.asked = 0

    def owner(self, kind: ComponentKind, name: str) -> str | None:
        """The backend of a name."""
        self.asked += 1
        return "b" if kind is TOOLS and name.startswith(self.prefix) else None


def call(name: str = "t", method: str = "tools/call", began: float = 0.0) -> Any:
    """A call of a tool."""
    request = UpstreamRequest(Raw(b"1"), method, target=name)
    return Served(request, began_at=time.perf_counter() - began)


def samples(durations: OperationDurations, side: str) -> list[dict[str, str]]:
    """The labels of all series of one side."""
    registry = CollectorRegistry()
    registry.register(durations)
    text = generate_latest(registry).decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    family = families[f"mcp_{side}_operation_duration_seconds"]
    return [sample.labels for sample in family.samples if sample.name.endswith("_count")]


def count(durations: OperationDurations, side: str, **labels: str) -> float:
    """The number of operations with these labels."""
    registry = CollectorRegistry()
    registry.register(durations)
    return sum(
        sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name == f"mcp_{side}_operation_duration_seconds_count"
        and labels.items() <= sample.labels.items()
    )


def test_labels_are_those_of_the_convention() -> None:
    durations = OperationDurations(Listed())
    durations.end_call(call(), CLIENT, "", True)
    shared = {
        "mcp_method_name": "tools/call",
        "gen_ai_tool_name": "t",
        "gen_ai_prompt_name": "",
        "error_type": "",
        "network_transport": "tcp",
    }
    (ours,), (theirs,) = samples(durations, "client"), samples(durations, "server")
    assert ours == {**shared, "mcpproxy_backend": "b", "mcp_protocol_version": "2026-07-28"}
    assert theirs == {**shared, "mcp_protocol_version": "2025-11-25"}


@given(st.lists(st.one_of(st.sampled_from(BOUNDS), st.floats(0, 400))))
def test_buckets_are_those_of_the_librarys_histogram(durations: list[float]) -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    tally = OperationDurations(Listed())
    ours.register(tally)
    histogram = Histogram(
        "mcp_server_operation_duration_seconds",
        "Duration of the requests of clients",
        LABELS[1:],
        buckets=BOUNDS,
        registry=theirs,
    )
    for seconds in durations:
        tally.add_served("ping", "", "2025-11-25", "", seconds)
        histogram.labels("ping", "", "", "", "2025-11-25", "tcp").observe(seconds)
    assert _lines(ours) == _lines(theirs)


def _lines(registry: CollectorRegistry) -> list[str]:
    """Return the scraped metrics of clients, without the time of their creation."""
    text = generate_latest(registry).decode().splitlines()
    return sorted(line for line in text if "_created" not in line and "client" not in line)


def test_the_duration_of_a_call_is_the_time_since_its_arrival() -> None:
    durations = OperationDurations(Listed())
    error, seconds = durations.end_call(call(began=7.0), CLIENT, "", True)
    assert error == ""
    assert 7.0 <= seconds < 10.0


@pytest.mark.parametrize(
    ("response", "error"),
    [
        ("", ""),
        ({"result": Raw(b'{"content":[],"isError":false}')}, ""),
        ({"result": Raw(b'{"content":[],"isError":true}')}, "tool_error"),
        ({"result": Raw(b'{"isError" : true}')}, "tool_error"),
        ({"result": Raw(b'{"structuredContent":{"isError":true},"isError":false}')}, ""),
        ({"result": Raw(b'{"content":[{"type":"text","text":"\\"isError\\":true"}]}')}, ""),
        ({"error": Raw(b'{"code":-32602,"message":"x"}')}, "-32602"),
        ({"error": Raw(b'{"code":-31337,"message":"x"}')}, OTHER),
        ({"result": Raw(b'{"isError":true}')}, "tool_error"),
        ("Unreachable", "Unreachable"),
    ],
)
def test_the_type_of_an_error_is_its_code_or_reason(response: Any, error: str) -> None:
    durations = OperationDurations(Listed())
    assert durations.end_call(call(), CLIENT, response, False)[0] == error
    assert count(durations, "client", error_type=error) == 1
    assert count(durations, "server") == 0, "the front of the client records the request"


@pytest.mark.parametrize("hostile", ["unknown", "t" * 129, "\x00", "t\n" * 70, ""])
def test_names_that_no_backend_lists_are_counted_together(hostile: str) -> None:
    durations = OperationDurations(Listed())
    for number in range(50):
        name = f"{hostile}{number}" if not hostile.startswith("t") else hostile + str(number)
        durations.end_call(call(name), CLIENT, "", True)
        durations.add_served("tools/call", name, "2025-11-25", "", 0.1)
    assert {labels["gen_ai_tool_name"] for labels in samples(durations, "client")} == {OTHER}
    assert len(samples(durations, "server")) == 1
    assert not durations._calls


def test_a_name_is_a_label_from_the_time_at_which_a_list_shows_it() -> None:
    listed = Listed("nothing")
    durations = OperationDurations(listed)
    for _ in range(2):
        durations.end_call(call("t"), CLIENT, "", True)
    listed.prefix, listed.version = "t", 1
    durations.end_call(call("t"), CLIENT, "", True)
    assert count(durations, "client", gen_ai_tool_name=OTHER) == 2
    assert count(durations, "client", gen_ai_tool_name="t") == 1


def test_a_call_of_an_unlisted_name_looks_for_its_backend_only_after_lists_have_changed() -> None:
    listed = Listed("nothing")
    durations = OperationDurations(listed)
    durations.end_call(call("t"), CLIENT, "", True)
    asked = listed.asked
    for _ in range(3):
        durations.end_call(call("t"), CLIENT, "", True)
    assert listed.asked == asked
    listed.version += 1
    durations.end_call(call("t"), CLIENT, "", True)
    assert listed.asked > asked
    assert count(durations, "client", gen_ai_tool_name=OTHER) == 5


def test_names_that_clients_invent_are_not_remembered_without_bound() -> None:
    durations = OperationDurations(Listed("nothing"))
    for number in range(3 * KEPT_UNLISTED):
        durations.end_call(call(f"x{number}"), CLIENT, "", True)
    assert len(durations._unlisted) <= KEPT_UNLISTED


def test_methods_and_revisions_that_mcp_does_not_define_are_counted_together() -> None:
    durations = OperationDurations(Listed())
    for number in range(50):
        durations.end_call(call(method=f"vendor/{number}"), CLIENT, "", True)
        durations.add_served(f"vendor/{number}", "", f"2030-01-{number}", "", 0.1)
    methods = {labels["mcp_method_name"] for labels in samples(durations, "server")}
    assert methods == {OTHER}
    assert len(samples(durations, "client")) == 1
    assert len(samples(durations, "server")) == 2


def test_uris_do_not_become_labels() -> None:
    durations = OperationDurations(Listed())
    for number in range(50):
        durations.end_call(call(f"file:///{number}", "resources/read"), CLIENT, "", True)
    assert len(samples(durations, "client")) == len(durations._calls) == 1


def test_names_beyond_the_limit_are_counted_together() -> None:
    durations, reached = OperationDurations(Listed()), METERED_NAMES.reached
    for number in range(METERED_NAMES.value + 20):
        durations.end_call(call(f"t{number}"), CLIENT, "", True)
    names = {labels["gen_ai_tool_name"] for labels in samples(durations, "client")}
    assert len(names) == METERED_NAMES.value + 1
    assert count(durations, "client", gen_ai_tool_name=OTHER) == 20
    assert METERED_NAMES.reached > reached
    durations.end_call(call("t3"), CLIENT, "", True)
    assert count(durations, "client", gen_ai_tool_name="t3") == 2, "known names keep their series"


def _request(method: str, **params: Any) -> jsonrpc.Message:
    return jsonrpc.decode_object(jsonrpc.request(1, method, params))


def test_a_request_that_never_reached_a_backend_is_an_operation_of_the_server() -> None:
    durations = OperationDurations(Listed())
    refusal = RpcError(jsonrpc.INVALID_PARAMS, "unknown tool: x")
    with (
        pytest.raises(RpcError),
        durations.serve(_request("tools/call", name="x"), LATEST_MODERN),
    ):
        raise refusal
    (labels,) = samples(durations, "server")
    assert (labels["error_type"], labels["gen_ai_tool_name"]) == ("-32602", OTHER)
    assert samples(durations, "client") == []


@pytest.mark.parametrize(
    ("failure", "error"), [(asyncio.CancelledError(), "cancelled"), (OSError(), OTHER)]
)
def test_an_operation_that_has_no_response_has_an_error(failure: BaseException, error: str) -> None:
    durations = OperationDurations(Listed())
    with pytest.raises(type(failure)), durations.serve(_request("ping"), LATEST_MODERN):
        raise failure
    assert count(durations, "server", error_type=error, mcp_method_name="ping") == 1


def test_requests_over_standard_streams_have_their_transport() -> None:
    durations = OperationDurations(Listed())
    durations.serve_on("pipe")
    with durations.serve(_request("ping"), LATEST_MODERN) as operation:
        operation.end(b"{}")
    assert count(durations, "server", network_transport="pipe", error_type="") == 1


@pytest.mark.parametrize(
    "name", ["\x1b[31mred", "bell\x07", "line\rbreak", "\u202eleft", "a\u200bb"]
)
def test_a_name_with_control_characters_counts_as_another_name(name: str) -> None:
    durations = OperationDurations(Listed(""))
    durations.add_served("tools/call", name, "2025-11-25", "", 0.1)
    durations.add_served("tools/call", "gr\u00fc\u00df dich", "2025-11-25", "", 0.1)
    shown = {labels["gen_ai_tool_name"] for labels in samples(durations, "server")}
    assert shown == {"_OTHER", "gr\u00fc\u00df dich"}
