"""Fair shares: whose entry makes room in a full collection."""

from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mcpproxy.proxy.fair_shares import FairShares

HOLDERS = [("a", "x"), ("a", "y"), ("b", "x"), ("c", "z")]


def _expected(order: list[tuple[int, tuple[str, str]]], stays: frozenset[int]) -> set[Any]:
    """All right choices, by the definition: `order` is from the least recently used entry on."""
    if not any(key not in stays for key, _ in order):
        return {None}
    movable = [(key, holder) for key, holder in order if key not in stays]
    # Of those who have an entry that may go, whoever has most entries, at each step.
    networks = Counter(holder[0] for _, holder in order)
    most = max(networks[holder[0]] for _, holder in movable)
    first = {holder[0] for _, holder in movable if networks[holder[0]] == most}
    right = set()
    for network in first:
        people = Counter(holder for _, holder in order if holder[0] == network)
        inside = [(key, holder) for key, holder in movable if holder[0] == network]
        top = max(people[holder] for _, holder in inside)
        for person in {holder for _, holder in inside if people[holder] == top}:
            right.add(next(key for key, holder in inside if holder == person))
    return right


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["add", "touch", "discard"]),
            st.integers(0, 12),
            st.sampled_from(HOLDERS),
        ),
        max_size=60,
    ),
    st.frozensets(st.integers(0, 12)),
)
def test_the_evicted_entry_is_the_idlest_of_the_largest_holder(
    steps: list[tuple[str, int, tuple[str, str]]], stays: frozenset[int]
) -> None:
    shares: FairShares[int] = FairShares(100)
    order: list[tuple[int, tuple[str, str]]] = []
    for step, key, holder in steps:
        present = dict(order)
        if step == "add" or (step == "touch" and key in present):
            holder = holder if step == "add" else present[key]
            order = [entry for entry in order if entry[0] != key] + [(key, holder)]
            shares.add(key, holder) if step == "add" else shares.touch(key)
        elif step == "discard":
            order = [element for element in order if element[0] != key]
            shares.discard(key)
        # Twice: to choose changes nothing.
        for _ in range(2):
            assert shares.choose(lambda key: key not in stays) in _expected(order, stays)
        assert len(shares) == len(order)
        assert set(shares) == {key for key, _ in order}
        for item in HOLDERS:
            assert shares.held(item) == sum(result == item for _, result in order)
            assert shares.held(item[:1]) == sum(actual[:1] == item[:1] for _, actual in order)


def test_a_holder_of_few_loses_nothing_to_a_holder_of_many() -> None:
    shares: FairShares[str] = FairShares(10)
    shares.add("victim", ("net", "victim"))
    for number in range(1000):
        if shares.is_full:
            gone = shares.choose()
            assert gone is not None
            shares.discard(gone)
        shares.add(f"flood {number}", ("net", "hostile"))
    assert "victim" in shares
    assert shares.held(("net", "hostile")) == 9


def test_many_principals_of_one_network_hold_no_more_than_one() -> None:
    shares: FairShares[str] = FairShares(10)
    shares.add("first", ("victims", "v"))
    shares.add("second", ("victims", "v"))
    for number in range(1000):
        if shares.is_full:
            gone = shares.choose()
            assert gone is not None
            shares.discard(gone)
        shares.add(f"flood {number}", ("hostile", f"invented {number}"))
    assert {"first", "second"} <= set(shares)


def test_the_last_places_are_reserved_for_small_holders() -> None:
    shares: FairShares[int] = FairShares(160)
    for number in range(140):
        assert shares.admits(("net", "hostile"))
        shares.add(number, ("net", "hostile"))
    assert not shares.admits(("net", "hostile"))
    for number in range(140, 150):
        assert shares.admits(("net", "victim"))
        shares.add(number, ("net", "victim"))
    assert not shares.admits(("net", "victim"))
    assert shares.admits(("net", "another"))


def test_memory_of_holders_is_bounded_by_their_entries() -> None:
    shares: FairShares[int] = FairShares(10)
    for number in range(10_000):
        shares.add(0, (f"net {number}", "p"))
        shares.touch(0)
        assert shares.choose() == 0
    assert shares._root is not None
    assert len(shares._root.children) == 1
    assert len(shares._root.heaviest) < 50
