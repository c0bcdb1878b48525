"""The checks on a server that keeps all rules, and on one mutant for each rule."""

import ast
from pathlib import Path

import pytest

from tests.resource_server import checks
from tests.resource_server.check import CHECKS, Outcome, run_check
from tests.resource_server.run import run
from tests.resource_server.selftest.mutants import MUTANTS
from tests.resource_server.selftest.world import reference

pytestmark = pytest.mark.slow

KIT = Path(checks.__file__).parents[1]


@pytest.mark.timeout(180)
def test_a_server_that_keeps_all_rules_passes_all_checks() -> None:
    with reference() as target:
        results = run(target, CHECKS.values())
    others = {r.id: (r.outcome, r.reason) for r in results if r.outcome != Outcome.PASS.value}
    assert not others
    assert len(results) >= 60


@pytest.mark.timeout(120)
@pytest.mark.parametrize("rule", MUTANTS)
def test_a_server_that_breaks_a_rule_fails_the_checks_of_it(rule: str) -> None:
    with reference(rule) as target:
        for identifier in MUTANTS[rule]:
            result = run_check(CHECKS[identifier], target)
            assert result.outcome == Outcome.FAIL.value, f"{identifier}: {result}"
            assert result.reason


def test_each_check_has_a_mutant_that_fails_it() -> None:
    assert {name for names in MUTANTS.values() for name in names} == set(CHECKS)


def test_each_check_says_its_rule_and_the_section_on_which_it_stands() -> None:
    words = ("RFC", "MCP", "OpenID", "FIPS", "standard")
    for item in CHECKS.values():
        assert item.rule, item.id
        assert any(word in item.source for word in words), item.id


def test_the_kit_imports_nothing_of_the_server_that_it_tests() -> None:
    for path in KIT.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            for name in names:
                top = name.partition(".")[0]
                assert top != "mcpproxy", f"{path}: {name}"
                if top == "tests":
                    assert name.startswith("tests.resource_server"), f"{path}: {name}"
