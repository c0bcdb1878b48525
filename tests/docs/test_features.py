"""docs/features.md: what is said to be there is shown by a test that .ci/run runs."""

import re
from functools import cache
from pathlib import Path

from tests.support.unselected import STATEMENT

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "features.md").read_text(encoding="utf-8")
_ROW = re.compile(r"^\| (\d+) \| [^|]+ \| ([YP–]) \| ([^|]*)\|$", re.MULTILINE)
_TEST = re.compile(r"`(test_\w+)`( \(long\))?")
_DEF = re.compile(r"^((?:@.*\n(?:[ )\]].*\n)*)*)(?:async )?def (test_\w+)", re.MULTILINE)
_MARK = re.compile(r"\.(\w+)")
_TARGET = re.compile(r"`make ([a-z0-9-]+)`")


@cache
def targets() -> frozenset[str]:
    """The make targets that .ci/run runs."""
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    matches = re.findall(
        r"^(?!\s*#).*?\b(?:make|run_tests) ([a-z][a-z0-9-]*)", script, re.MULTILINE
    )
    known = re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    return frozenset(matches) & frozenset(known)


def _tests(file: Path) -> dict[str, set[str]]:
    """The tests of a file, each with its markers."""
    text = file.read_text(encoding="utf-8")
    of_all = " ".join(STATEMENT.findall(text))
    return {
        name: set(_MARK.findall(f"{of_all} {decorators}"))
        for decorators, name in _DEF.findall(text)
    }


@cache
def collected() -> dict[str, set[str]]:
    """Every test that .ci/run collects, with its markers."""
    places = {"tests": {"test", "test-slow"}, "e2e": {"e2e"}}
    result: dict[str, set[str]] = {}
    for place, needed in places.items():
        assert needed <= targets()
        for file in sorted((ROOT / place).glob("**/test_*.py")):
            result |= _tests(file)
    return result


def rows() -> list[tuple[int, str, str]]:
    """Number, whether it is there, and what shows it."""
    return [(int(number), there, shown) for number, there, shown in _ROW.findall(TEXT)]


def test_all_features_have_a_row() -> None:
    assert [number for number, _, _ in rows()] == list(range(1, 95))


def test_every_proof_is_a_test_or_a_target_that_ci_runs() -> None:
    named = dict(_TEST.findall(TEXT))
    assert len(named) > 50
    assert named.keys() - collected().keys() == set()
    assert set(_TARGET.findall(TEXT)) - targets() == set()


def test_long_tests_are_marked_and_no_others() -> None:
    named = {name: bool(mark) for name, mark in _TEST.findall(TEXT)}
    assert named == {name: "long" in collected()[name] for name in named}


def test_a_supported_feature_names_a_test_or_target_that_ci_always_runs() -> None:
    unshown = [
        number
        for number, there, shown in rows()
        if there == "Y"
        and not [name for name, mark in _TEST.findall(shown) if not mark]
        and not targets() & set(_TARGET.findall(shown))
    ]
    assert unshown == []


def test_markers_and_targets_have_their_positions() -> None:
    assert (
        "long"
        in collected()["test_sessions_cross_from_pods_of_the_earlier_version_to_those_of_this_one"]
    )
    assert "apiserver" in collected()["test_alerts_use_existing_metrics_of_the_proxies"]
    assert {"test", "test-slow", "e2e", "check", "bench-quick", "conformance"} <= targets()
    assert "demo" not in targets()
