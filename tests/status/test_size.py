"""A status fits into its object whatever pods say, and keeps what matters most."""

import pytest

from mcpproxy.limits.pods import STATUS_SIZE
from mcpproxy.status.size import fit_into, room_beside, stored_size
from tests.status.views import a_pod, a_view, observed, status_of

NAMES = tuple(f"backend-{number}" for number in range(64))


def test_a_status_fits_whatever_pods_say() -> None:
    views = [a_view(name, state="Unhealthy", message="<" * 1024) for name in NAMES]
    status = status_of(observed(a_pod("tools-1", *views), backends=NAMES))
    before = STATUS_SIZE.reached
    whole = stored_size(status.to_manifest())
    assert whole > STATUS_SIZE.value
    reduced = fit_into(status, STATUS_SIZE.value)
    assert stored_size(reduced.to_manifest()) <= STATUS_SIZE.value
    assert STATUS_SIZE.reached == before + 1
    assert [one.name for one in reduced.backends or []] == sorted(NAMES)
    assert {one.type for one in reduced.conditions or []} == {
        one.type for one in status.conditions or []
    }


@pytest.mark.parametrize("room", [100_000, 40_000, 10_000, 0])
def test_the_smaller_the_room_the_less_is_kept_and_conditions_stay(room: int) -> None:
    views = [a_view(name, state="Unhealthy", message="why " * 256) for name in NAMES]
    status = status_of(observed(a_pod("tools-1", *views), backends=NAMES))
    reduced = fit_into(status, room)
    assert stored_size(reduced.to_manifest()) <= max(room, 32_768)
    assert {one.type for one in reduced.conditions or []} >= {"Accepted", "Ready"}


def test_a_large_spec_leaves_less_room() -> None:
    small: dict[str, object] = {"spec": {}}
    large: dict[str, object] = {"spec": {"x": "y" * 1_200_000}}
    assert room_beside(small) == STATUS_SIZE.value
    assert room_beside(large) < 120_000
