"""Every test is in one part of the tests, the fast part needs no API server, seeds repeat runs."""

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from _pytest.mark.expression import Expression
from hypothesis.internal.conjecture import providers

from tests import conftest
from tests.conftest import pytest_collection_modifyitems
from tests.support.examples import (
    examples,
    leave_out_constants_of_the_source,
)
from tests.support.seeds import REPEAT, SEED, read_seed
from tests.support.unselected import marks_of_module, selects_no_test_with, selects_none

ROOT = Path(__file__).parents[1]
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
ELSEWHERE = ("browser", "netns", "peers")


def expression(target: str) -> Expression:
    """Return the marker expression that a make target passes as -m."""
    (name,) = re.findall(rf'^{target}:.*\n.* -m "\$\((\w+)\)"', MAKEFILE, re.MULTILINE)
    variables = dict(re.findall(r"^([A-Z]+) := (.*)$", MAKEFILE, re.MULTILINE))
    return Expression.compile(re.sub(r"\$\((\w+)\)", lambda m: variables[m[1]], variables[name]))


def is_selected(target: str, *marks: str) -> bool:
    """Return True if a target runs a test with these markers."""

    def has(name: str, /, **_: Any) -> bool:
        return name in marks

    return expression(target).evaluate(has)


@pytest.mark.parametrize("marks", [(), ("slow",), ("apiserver",), ("slow", "apiserver")])
def test_a_test_is_in_one_part_and_a_marked_one_in_the_slow_part(marks: tuple[str, ...]) -> None:
    assert is_selected("test", *marks) == (not marks)
    assert is_selected("test-slow", *marks) == bool(marks)


def test_property_tests_are_in_the_fast_part_with_a_sample_and_in_the_slow_part_with_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert is_selected("test", "hypothesis")
    assert is_selected("test-slow", "hypothesis")
    assert not is_selected("test", "hypothesis", "slow")
    (command,) = re.findall(r"^test-slow:.*\n(.*)$", MAKEFILE, re.MULTILINE)
    assert "EXAMPLES=all " in command
    monkeypatch.setenv("EXAMPLES", "all")
    assert examples(100) == 100
    monkeypatch.delenv("EXAMPLES")
    assert examples(100) == 20


def test_examples_of_the_fast_part_do_not_depend_on_the_modules_that_are_imported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(providers, "_get_local_constants", lambda: ["read from the source"])
    leave_out_constants_of_the_source()
    assert len(providers._get_local_constants()) == 0


@pytest.mark.parametrize(
    ("statement", "marks"),
    [
        ("pytest.mark.slow", {"slow"}),
        ("[*LIVE, pytest.mark.slow, pytest.mark.timeout(KILLS * (2 + 15))]", {"slow", "timeout"}),
        ("[\n    pytest.mark.peers,\n    pytest.mark.timeout(9),\n]", {"peers", "timeout"}),
        (
            'pytest.mark.parametrize("a", [pytest.param(1, marks=pytest.mark.slow)])',
            {"parametrize"},
        ),
        ("LIVE", set()),
        ("[]", set()),
    ],
)
def test_the_marks_of_a_file_are_read_from_its_source(statement: str, marks: set[str]) -> None:
    source = f"import pytest\n\npytestmark = {statement}\n\n@pytest.mark.browser\ndef f(): ...\n"
    assert marks_of_module(source) == marks
    assert marks_of_module(source.replace("pytestmark", "  pytestmark")) == set()


@pytest.mark.parametrize(
    ("expression", "marks", "none"),
    [
        ("not slow and not peers", {"slow"}, True),
        ("not slow and not peers", {"timeout"}, False),
        ("not slow and not peers", set(), False),
        ("not peers and (slow or hypothesis)", {"slow"}, False),
        ("not peers and (slow or hypothesis)", {"peers"}, True),
        ("slow", {"timeout"}, False),
        ("", {"slow"}, False),
        ("not slow(reason='x')", {"slow"}, False),
        (" and ".join(f"not m{n}" for n in range(99)), {"m0"}, False),
    ],
)
def test_a_file_is_left_out_only_if_no_marks_of_its_tests_could_select_one(
    expression: str, marks: set[str], none: bool
) -> None:
    assert selects_no_test_with(expression, frozenset(marks)) is none


def test_a_folder_is_left_out_with_the_last_of_its_files(tmp_path: Path) -> None:
    slow, other = tmp_path / "slow" / "test_a.py", tmp_path / "other" / "test_b.py"
    for file, text in ((slow, "pytestmark = pytest.mark.slow\n"), (other, "")):
        file.parent.mkdir()
        file.write_text(text)
    (tmp_path / "empty").mkdir()
    names = ("slow", "other", "empty", ".")
    assert [name for name in names if selects_none("not slow", tmp_path / name)] == ["slow"]


@pytest.mark.parametrize(
    ("asked", "ignored"),
    [("tests", True), ("tests/peers", True), ("tests/peers/test_tasks.py::test_a[1]", None)],
)
def test_a_file_that_the_command_line_names_is_never_left_out(
    asked: str, ignored: bool | None
) -> None:
    config: Any = SimpleNamespace(
        args=[asked],
        invocation_params=SimpleNamespace(dir=ROOT),
        option=SimpleNamespace(markexpr="not peers"),
    )
    file = ROOT / "tests" / "peers" / "test_tasks.py"
    assert conftest.pytest_ignore_collect(file, config) is ignored
    assert conftest.pytest_ignore_collect(ROOT / "tests", config) is None
    assert conftest.pytest_ignore_collect(Path(__file__), config) is None


@pytest.mark.parametrize("mark", ELSEWHERE)
def test_tests_that_need_more_than_this_machine_are_in_neither_part(mark: str) -> None:
    for marks in ((mark,), (mark, "slow"), (mark, "apiserver")):
        assert not is_selected("test", *marks)
        assert not is_selected("test-slow", *marks)


def collected(*fixtures: str, marker: str | None = None) -> Any:
    """A test as pytest collects it."""
    return SimpleNamespace(
        nodeid="test_x",
        fixturenames=fixtures,
        get_closest_marker=lambda name: name if name == marker else None,
    )


def test_a_test_with_an_api_server_has_to_be_marked() -> None:
    marked = collected("apiserver", "bare_apiserver", marker="apiserver")
    pytest_collection_modifyitems([marked, collected("tmp_path")])
    with pytest.raises(pytest.UsageError, match="test_x"):
        pytest_collection_modifyitems([collected("namespace", "apiserver", "bare_apiserver")])


def test_the_gate_makes_the_same_random_choices_in_each_run() -> None:
    gate = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert re.search(r"^export SEED=\d+$", gate, re.MULTILINE)


@pytest.mark.parametrize("is_set", [True, False])
def test_property_tests_follow_a_seed_that_is_set(
    monkeypatch: pytest.MonkeyPatch, is_set: bool
) -> None:
    monkeypatch.setattr(conftest, "IS_SET", is_set)
    config: Any = SimpleNamespace(option=SimpleNamespace())
    conftest.pytest_configure(config)
    assert vars(config.option) == ({"hypothesis_seed": str(SEED)} if is_set else {})


@pytest.mark.parametrize(("failed", "sections"), [(True, [("seed", REPEAT)]), (False, [])])
def test_a_failure_names_the_seed_that_repeats_its_choices(
    failed: bool, sections: list[tuple[str, str]]
) -> None:
    report: Any = SimpleNamespace(failed=failed, sections=[])
    wrapper = conftest.pytest_runtest_makereport()
    next(wrapper)
    with pytest.raises(StopIteration) as ended:
        wrapper.send(report)
    assert ended.value.value is report
    assert report.sections == sections


@pytest.mark.parametrize("text", ["", "-1", "x", "1.5"])
def test_a_seed_that_is_not_a_number_is_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match=r"^SEED is .*: set it to a natural number"):
        read_seed(text)
    assert read_seed("07") == 7
