"""Events count up, sort by time, and fit what the API server admits."""

from datetime import UTC, datetime, timedelta

from mcpproxy.api.kubernetes.objects import Object
from mcpproxy.cluster.events import MAX_BACKEND_SERIES, SAME_SERIES, EventRecorder

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
METADATA = {"name": "tools", "namespace": "team", "uid": "u1"}
PROXY: Object = {"apiVersion": "mcpproxy.dev/v1alpha1", "kind": "MCPProxy", "metadata": METADATA}


def test_a_repeated_event_increments_the_count_of_its_object() -> None:
    events = EventRecorder("pod-1")
    first = events.event(PROXY, "Warning", "BackendUnhealthy", "refused", BEGIN)
    later = BEGIN + timedelta(seconds=30)
    second = events.event(PROXY, "Warning", "BackendUnhealthy", "timed out", later)
    assert (first["count"], second["count"]) == (1, 2)
    assert first["metadata"]["name"] == second["metadata"]["name"]
    assert second["message"] == "timed out"
    assert second["firstTimestamp"] == "2026-01-01T00:00:00Z"
    assert second["lastTimestamp"] == "2026-01-01T00:00:30Z"


def test_a_new_series_of_events_begins_after_its_window() -> None:
    events = EventRecorder("pod-1")
    first = events.event(PROXY, "Normal", "Serving", "", BEGIN)
    second = events.event(PROXY, "Normal", "Serving", "", BEGIN + timedelta(seconds=SAME_SERIES))
    assert second["count"] == 1
    assert first["metadata"]["name"] < second["metadata"]["name"]


def test_events_of_the_same_time_have_different_names() -> None:
    events = EventRecorder("pod-1")
    made = [events.event(PROXY, "Normal", reason, "", BEGIN) for reason in ("A", "B", "C")]
    assert len({item["metadata"]["name"] for item in made}) == 3


def test_a_note_is_cut_by_its_bytes_and_never_within_a_character() -> None:
    made = EventRecorder("pod-1").event(PROXY, "Normal", "A", "ä" * 1000, BEGIN)
    assert made["message"] == "ä" * 510 + "…"


def test_each_backend_has_its_own_events() -> None:
    events = EventRecorder("pod-1")
    made = [
        events.event(PROXY, "Warning", "BackendUnhealthy", name, BEGIN, name)
        for name in ("down", "wrongpath", "down")
    ]
    names = [event["metadata"]["name"] for event in made]
    assert (names[0] != names[1], names[0] == names[2]) == (True, True)
    assert [event["count"] for event in made] == [1, 1, 2]


def test_backends_beyond_a_limit_share_the_events_of_their_proxy() -> None:
    events = EventRecorder("pod-1")
    made = [
        events.event(PROXY, "Warning", reason, "", BEGIN, f"backend-{number}")
        for reason in ("BackendUnhealthy", "BackendDegraded")
        for number in range(MAX_BACKEND_SERIES)
    ]
    assert len({event["metadata"]["name"] for event in made}) == MAX_BACKEND_SERIES + 1
    other: Object = {**PROXY, "metadata": {**METADATA, "uid": "u2"}}
    first = events.event(other, "Warning", "BackendUnhealthy", "", BEGIN, "backend-0")
    assert first["count"] == 1


def test_a_backend_has_its_own_events_once_others_are_old() -> None:
    events = EventRecorder("pod-1")
    for number in range(MAX_BACKEND_SERIES + 1):
        events.event(PROXY, "Warning", "BackendUnhealthy", "", BEGIN, f"backend-{number}")
    later = BEGIN + timedelta(seconds=SAME_SERIES)
    made = [
        events.event(PROXY, "Warning", "BackendUnhealthy", "", later, name) for name in ("a", "b")
    ]
    assert [event["count"] for event in made] == [1, 1]
