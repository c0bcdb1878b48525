"""Parsing of the suite's results by `make conformance`, and its exit code."""

import json
from pathlib import Path

import pytest

from scripts.conformance import Verdict
from scripts.conformance_checks import load, lost, passing
from scripts.conformance_exceptions import COLUMNS, Exceptions, TableError, read
from scripts.conformance_servers import FORMS
from scripts.conformance_suite import REVISIONS

CELL = ("2026-07-28", "legacy", "one backend")


def results(folder: Path, **scenarios: list[tuple[str, str]]) -> Path:
    """A directory as the suite leaves it: by scenario, its checks and their statuses."""
    for scenario, checks in scenarios.items():
        path = folder / f"server-{scenario.replace('_', '-')}-2026-11-22T17-34-30-299Z"
        path.mkdir()
        content = [{"id": check, "status": status} for check, status in checks]
        (path / "checks.json").write_text(json.dumps(content), encoding="utf-8")
    return folder


def a_document(folder: Path, row: str) -> Path:
    """A document with a table of one row."""
    path = folder / "conformance.md"
    header = "| " + " | ".join(COLUMNS) + " |"
    path.write_text(f"# Conformance\n\n{header}\n|---|---|---|---|---|\n{row}\n", encoding="utf-8")
    return path


def test_a_check_counts_with_its_worst_status(tmp_path: Path) -> None:
    document = load(results(tmp_path, ping=[("a", "SUCCESS"), ("a", "FAILURE"), ("a", "SUCCESS")]))
    assert document == {("ping", "a"): "FAILURE"}


def test_remarks_and_scenarios_of_extensions_are_not_checks(tmp_path: Path) -> None:
    document = load(results(tmp_path, ping=[("a", "INFO")], tasks_lifecycle=[("b", "FAILURE")]))
    assert document == {}
    assert load(tmp_path, extension=True) == {("tasks-lifecycle", "b"): "FAILURE"}


def test_a_check_skipped_or_absent_behind_the_proxy_is_lost() -> None:
    direct = {("s", "kept"): "SUCCESS", ("s", "skipped"): "SUCCESS", ("s", "absent"): "SUCCESS"}
    proxied = {("s", "kept"): "SUCCESS", ("s", "skipped"): "SKIPPED"}
    assert lost(direct, proxied) == {("s", "skipped"): "SKIPPED", ("s", "absent"): "ABSENT"}


def test_a_check_that_fails_directly_is_not_lost() -> None:
    direct = {("s", "a"): "FAILURE", ("s", "b"): "WARNING"}
    assert lost(direct, {}) == {}
    assert passing(direct) == frozenset()


def test_a_lost_check_is_a_fault_unless_it_is_an_exception() -> None:
    direct = {("s", "a"): "SUCCESS", ("s", "b"): "SUCCESS"}
    verdict = Verdict()
    excepted = Exceptions({CELL[:2]: frozenset({("s", "a")})})
    verdict.judge(CELL, direct, {}, excepted)
    assert verdict.faults == ["2026-07-28, legacy, one backend: lost: s b (ABSENT)"]
    assert verdict.kept[CELL] == "0/2"


def test_an_exception_that_is_not_lost_is_a_fault() -> None:
    direct = {("s", "a"): "SUCCESS"}
    verdict = Verdict()
    verdict.judge(CELL, direct, direct, Exceptions({CELL[:2]: frozenset({("s", "a")})}))
    assert verdict.faults == ["2026-07-28, legacy, one backend: an exception no longer: s a"]


def test_an_exception_holds_for_its_pair_alone() -> None:
    direct = {("s", "a"): "SUCCESS"}
    verdict = Verdict()
    other = ("2026-07-28", "modern", "one backend")
    verdict.judge(other, direct, {}, Exceptions({CELL[:2]: frozenset({("s", "a")})}))
    assert len(verdict.faults) == 1


@pytest.mark.parametrize(
    "row",
    [
        "| 2026-07-28 | legacy | `s` | `a` | |",
        "| 2026-07-28 | legacy | `s` | a | no check is marked |",
        "| 2026-07-28 | legacy | `s` | a reason is missing |",
    ],
)
def test_a_row_without_checks_or_a_reason_is_refused(tmp_path: Path, row: str) -> None:
    with pytest.raises(TableError):
        read(a_document(tmp_path, row))


def test_a_document_without_the_table_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "conformance.md"
    path.write_text("# Conformance\n", encoding="utf-8")
    with pytest.raises(TableError):
        read(path)


def test_the_exceptions_of_the_document_are_of_judged_pairs() -> None:
    rows = read().rows
    assert rows
    assert {revision for revision, _ in rows} <= set(REVISIONS)
    assert {form for _, form in rows} <= set(FORMS)
