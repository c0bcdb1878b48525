"""Every limit is complete, documented and driven to its end by a test."""

import re
from pathlib import Path

from mcpproxy.limits import (
    access,
    audit,
    backends,
    clients,
    extensions,
    http,
    instances,
    pods,
    sessions,
    tokens,
)
from mcpproxy.limits.limit import Limit
from mcpproxy.limits.table import ALL
from scripts.limits import PAGE, amount, render
from tests.limits.exempt import UNBOUNDED, UNCOUNTED
from tests.limits.growth import places
from tests.limits.register import BOUNDED

ROOT = Path(__file__).parents[2]
MODULES = (
    access,
    audit,
    backends,
    clients,
    extensions,
    http,
    instances,
    pods,
    sessions,
    tokens,
)
FUNCTION = re.compile(r"^\s*(?:async )?def (\w+)\(", re.MULTILINE)
LIMIT = Limit("a-b", 3, "count", "things", "session", "refused", "test_a")


def test_names_are_unique_and_fit_a_label() -> None:
    names = [limit.name for limit in ALL]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", name) for name in names)


def _names_of_functions() -> set[str]:
    """The names of all functions of tests and of what they use."""
    return {
        name
        for folder in ("tests", "e2e", "bench")
        for path in (ROOT / folder).rglob("*.py")
        for name in FUNCTION.findall(path.read_text("utf-8"))
    }


def _source() -> str:
    """The product without the definitions of limits."""
    return "\n".join(
        path.read_text(encoding="utf-8")
        for path in (ROOT / "operator" / "mcpproxy").rglob("*.py")
        if path.parent.name != "limits"
    )


def test_a_test_drives_a_peer_beyond_each_limit() -> None:
    functions = _names_of_functions()
    missing = [f"{limit.name}: {limit.test}" for limit in ALL if limit.test not in functions]
    assert not missing, "\n".join(missing)


def test_each_limit_is_enforced_where_it_is_imported() -> None:
    source = _source()
    names = set(re.findall(r"\w+", source))
    recorded = set(re.findall(r"\b(\w+)\.record\b", source))
    wrong = []
    for limit in ALL:
        (constant,) = (
            name for module in MODULES for name, value in vars(module).items() if value is limit
        )
        if constant not in names:
            wrong.append(f"{constant} bounds nothing")
        if (constant in recorded) == (limit.name in UNCOUNTED):
            wrong.append(f"{constant}: see UNCOUNTED")
    assert not wrong, "\n".join(wrong)


def test_exceeding_a_limit_is_counted() -> None:
    before = LIMIT.reached
    LIMIT.record()
    assert LIMIT.reached == before + 1


def test_amounts_have_their_units() -> None:
    sizes = [Limit("a", 16 * 2**20, "bytes", "", "session", "", "")]
    sizes.append(Limit("a", 1500, "bytes", "", "session", "", ""))
    sizes.append(Limit("a", 2048, "bytes/s", "", "session", "", ""))
    assert [amount(size) for size in sizes] == ["16 MiB", "1,500 bytes", "2 KiB/s"]
    assert amount(LIMIT) == "3"


def test_the_documentation_has_the_limits_of_the_code() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert page == render(page), "run: make reference"


def test_every_place_that_a_peer_can_make_grow_has_a_limit_or_a_reason() -> None:
    known, there = BOUNDED.keys() | UNBOUNDED.keys(), set(places())
    assert sorted(there - known) == [], (
        "name its limit in tests/limits/register.py, or the reason in exempt.py"
    )
    assert sorted(known - there) == [], "these places are not in the source any more"
    assert not BOUNDED.keys() & UNBOUNDED.keys()


def test_every_place_names_limits_of_the_table() -> None:
    names = {limit.name for limit in ALL}
    wrong = [place for place, result in BOUNDED.items() if not names.issuperset(result.split())]
    assert wrong == []
