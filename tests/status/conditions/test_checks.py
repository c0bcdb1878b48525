"""The table of checks: the first check that applies decides each condition."""

import ast
from pathlib import Path
from typing import Any

import pytest

import mcpproxy.reconcile
import mcpproxy.status
from mcpproxy.status import reasons
from mcpproxy.status.conditions import CHECKS, decide_conditions
from mcpproxy.status.conditions.condition import ABSENT, ConditionValue, decide
from mcpproxy.status.inputs import ConditionReason, StatusInput
from tests.status.views import a_deployment, a_pod, a_view, observed

ALWAYS = {
    reasons.ACCEPTED,
    reasons.AVAILABLE,
    reasons.BACKENDS_HEALTHY,
    reasons.READY,
}
FIRST = ConditionValue("True", "First", "first")
SECOND = ConditionValue("False", "Second", "second")
PACKAGES = (mcpproxy.status, mcpproxy.reconcile)
SOURCES = [path for package in PACKAGES for path in Path(package.__path__[0]).rglob("*.py")]


def test_the_first_check_that_applies_decides() -> None:
    checks = (lambda _: None, lambda _: FIRST, lambda _: SECOND)
    assert decide(checks, observed()) == FIRST


def test_a_condition_comes_from_the_first_applicable_check_or_is_absent() -> None:
    assert decide((lambda _: None,), observed()) is None
    assert decide((lambda _: ABSENT, lambda _: FIRST), observed()) is None


@pytest.mark.parametrize(
    "seen",
    [
        observed(),
        observed(deployment=None),
        observed(deployment=a_deployment(0)),
        observed(spec=None, deployment=None, rejected="spec: wrong"),
        observed(a_pod("tools-1", a_view()), terminating=True),
        observed(blocked=ConditionReason(reasons.FORBIDDEN, "no"), unread=frozenset({"Pod"})),
    ],
)
def test_the_conditions_that_clients_wait_for_always_exist(seen: StatusInput) -> None:
    decided = decide_conditions(seen)
    assert decided.keys() >= ALWAYS
    assert list(decided) == [type_ for type_ in CHECKS if type_ in decided]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_no_decision_depends_on_the_text_of_a_message(path: Path) -> None:
    assert [
        ast.unparse(node) for node in ast.walk(ast.parse(path.read_text())) if reads(node)
    ] == []


def reads(node: Any) -> bool:
    """Return True for code that searches or compares the member `message` of an object."""
    if isinstance(node, ast.Compare):
        return any(is_message(side) for side in (node.left, *node.comparators))
    if isinstance(node, ast.Call):
        on_message = isinstance(node.func, ast.Attribute) and is_message(node.func.value)
        is_search = ast.unparse(node.func).split(".")[-1] in ("search", "match", "fullmatch")
        return on_message or (is_search and any(map(is_message, node.args)))
    return False


def is_message(node: ast.AST) -> bool:
    """Return True for `x.message`, also with a default as in `x.message or ""`."""
    if isinstance(node, ast.BoolOp):
        return any(map(is_message, node.values))
    return isinstance(node, ast.Attribute) and node.attr == "message"
