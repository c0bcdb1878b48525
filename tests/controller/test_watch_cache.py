"""A watch is compared with what is listed."""

import pytest

from mcpproxy.api.kubernetes.objects import Object
from mcpproxy.cluster import cached_reads
from mcpproxy.cluster.resources import ProxyKey
from mcpproxy.controller.watch_cache import LAG, ObjectVersion, WatchCache
from tests.reconcile.clock import FakeClock

KEY = ProxyKey("team", "tools")
NAME = ("team", "x")
ANOTHER = ObjectVersion(6, None)


def an_object(version: int) -> Object:
    """An object as an event brings it."""
    return {"metadata": {"namespace": "team", "name": "x", "resourceVersion": str(version)}}


def compared(watched: WatchCache, listed: dict[tuple[str, str], ObjectVersion]) -> set[ProxyKey]:
    """The owners of what the watch has missed, by a list that took no time."""
    return watched.compare(listed, watched.newest)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def watched(clock: FakeClock) -> WatchCache:
    return WatchCache(clock.time)


@pytest.mark.parametrize(
    ("known", "listed"),
    [
        (1, {NAME: ObjectVersion(2, KEY)}),
        (None, {NAME: ObjectVersion(2, KEY)}),
        (1, {}),
        (9, {NAME: ObjectVersion(10, KEY)}),
    ],
    ids=["changed", "created", "deleted", "a version with more digits"],
)
def test_a_watch_that_stays_behind_the_list_is_lagging_after_a_while(
    watched: WatchCache,
    clock: FakeClock,
    known: int | None,
    listed: dict[tuple[str, str], ObjectVersion],
) -> None:
    if known:
        watched.record_event(an_object(known), KEY, deleted=False)
    assert compared(watched, listed) == {KEY}
    assert not watched.lagging
    clock.advance(LAG)
    assert compared(watched, listed) == {KEY}
    assert watched.lagging
    assert watched.behind() == LAG
    watched.record_event(an_object(11), KEY, deleted=not listed)
    assert compared(watched, {NAME: ObjectVersion(11, KEY)} if listed else {}) == set()
    assert not watched.lagging
    assert watched.behind() == 0


def test_a_watch_that_is_ahead_of_the_list_is_fine(watched: WatchCache, clock: FakeClock) -> None:
    watched.record_event(an_object(2), KEY, deleted=False)
    assert compared(watched, {NAME: ObjectVersion(1, KEY)}) == set()
    clock.advance(LAG)
    assert not watched.lagging


def test_a_busy_watch_that_makes_progress_is_not_lagging(
    watched: WatchCache, clock: FakeClock
) -> None:
    for version in range(1, 6):
        watched.record_event(an_object(version), KEY, deleted=False)
        compared(watched, {NAME: ObjectVersion(version + 1, KEY)})
        clock.advance(LAG * 0.9)
        assert not watched.lagging


@pytest.mark.parametrize("deleted", [False, True])
def test_events_in_transit_during_a_list_do_not_count_as_lag(
    watched: WatchCache, clock: FakeClock, deleted: bool
) -> None:
    watched.record_event(an_object(1), KEY, deleted=False)
    compared(watched, {} if deleted else {NAME: ObjectVersion(2, KEY)})
    watched.record_event(an_object(2), KEY, deleted=deleted)
    clock.advance(2 * LAG)
    assert watched.behind() == 0
    assert not watched.lagging


def test_an_event_that_is_older_than_a_known_one_changes_nothing(watched: WatchCache) -> None:
    watched.record_event(an_object(3), KEY, deleted=False)
    watched.record_event(an_object(2), KEY, deleted=True)
    assert compared(watched, {NAME: ObjectVersion(3, KEY)}) == set()
    assert watched.owners() == {KEY}


def test_a_deletion_that_the_watch_has_lost_is_noticed_once_it_goes_on(
    watched: WatchCache, clock: FakeClock
) -> None:
    """Kopf lists again after an error, and then reports no deletion that came before."""
    other = ("team", "y")
    gone, kept = an_object(1), an_object(2)
    kept["metadata"]["name"] = "y"
    watched.record_event(gone, KEY, deleted=False)
    watched.record_event(kept, None, deleted=False)
    assert compared(watched, {other: ObjectVersion(2, None)}) == {KEY}
    # The same version may have been on its way before the deletion.
    watched.record_event(kept, None, deleted=False)
    assert watched.knows(KEY)
    kept["metadata"]["resourceVersion"] = "4"
    watched.record_event(kept, None, deleted=False)
    assert compared(watched, {other: ObjectVersion(4, None)}) == set()
    assert not watched.knows(KEY)
    clock.advance(LAG)
    assert not watched.lagging


def test_an_object_that_arrives_while_a_list_is_read_is_not_taken_for_deleted(
    watched: WatchCache, clock: FakeClock
) -> None:
    watched.store.is_fresh = True
    since = watched.newest
    watched.record_event(an_object(5), KEY, deleted=False)
    assert watched.compare({}, since) == set()
    assert watched.store.of(KEY) == [an_object(5)]
    another = an_object(6)
    another["metadata"]["name"] = "y"
    watched.record_event(another, None, deleted=False)
    clock.advance(LAG)
    assert compared(watched, {NAME: ObjectVersion(5, KEY), ("team", "y"): ANOTHER}) == set()
    assert watched.knows(KEY)
    assert not watched.lagging
    # Of what was known before, it proves the deletion.
    assert compared(watched, {("team", "y"): ANOTHER}) == {KEY}
    assert watched.store.get(NAME) is None


def test_an_object_that_is_written_while_a_list_is_read_stays_known(watched: WatchCache) -> None:
    since = watched.newest
    watched.store.put(an_object(5), KEY)
    watched.compare({}, since)
    assert watched.knows(KEY)
    compared(watched, {})
    assert not watched.knows(KEY)


def test_an_object_that_is_deleted_while_a_list_is_read_is_not_missed(
    watched: WatchCache, clock: FakeClock
) -> None:
    watched.record_event(an_object(5), KEY, deleted=False)
    since = watched.newest
    watched.record_event(an_object(6), KEY, deleted=True)
    assert watched.compare({NAME: ObjectVersion(5, KEY)}, since) == set()
    clock.advance(2 * LAG)
    assert not watched.lagging
    # Another object of the same name is.
    assert compared(watched, {NAME: ObjectVersion(7, KEY)}) == {KEY}


def test_the_result_of_a_write_does_not_bring_back_what_was_deleted_since(
    watched: WatchCache,
) -> None:
    watched.store.is_fresh = True
    watched.record_event(an_object(6), KEY, deleted=True)
    watched.store.put(an_object(5), KEY)
    assert watched.store.of(KEY) == []
    watched.store.put(an_object(7), KEY)
    assert watched.store.of(KEY) == [an_object(7)]


def test_few_deletions_are_remembered(watched: WatchCache, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cached_reads, "MAX_DELETED", 3)
    for number in range(9):
        watched.store.delete(("team", str(number)), number)
    assert len(watched.store._deleted) == 3
    assert watched.store.was_deleted(("team", "8"), 8)


def test_a_child_that_only_a_list_has_is_known(watched: WatchCache) -> None:
    """A pass would not delete a child that the spec requests no more: the watch lost its event."""
    compared(watched, {NAME: ObjectVersion(2, KEY)})
    assert watched.knows(KEY)
    compared(watched, {})
    assert not watched.knows(KEY)


def test_a_child_that_was_just_written_is_known_before_its_event(watched: WatchCache) -> None:
    watched.store.put(an_object(2), KEY)
    assert watched.knows(KEY)
    watched.store.drop(NAME)
    assert not watched.knows(KEY)


def test_the_age_is_the_time_since_the_last_event(watched: WatchCache, clock: FakeClock) -> None:
    clock.advance(5)
    watched.record_event(an_object(1), KEY, deleted=False)
    clock.advance(3)
    assert watched.age() == 3


def test_a_watch_lacks_an_object_until_it_delivers_it(watched: WatchCache) -> None:
    listed = {NAME: ObjectVersion(2, KEY)}
    assert watched.lacks(listed)
    watched.record_event(an_object(1), KEY, deleted=False)
    assert not watched.lacks(listed)
    assert watched.owners() == {KEY}
