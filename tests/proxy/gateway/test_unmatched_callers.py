"""The log names callers to whom no rule applies, such as those whose tokens have no groups."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from mcpproxy.proxy.core.exchange import ClientIdentity
from mcpproxy.proxy.core.identity import ANONYMOUS, Identity
from mcpproxy.proxy.gateway.access_guard import LOGGED, AccessGuard
from mcpproxy.proxy.protocol.kinds import TOOLS
from tests.proxy.authorization.stage import ISSUER, catalog_of, policy, rule, token


@dataclass
class Gate:
    """A guard with a clock, and the lines that it writes."""

    caplog: pytest.LogCaptureFixture
    default: str = "Deny"
    now: float = 0.0
    guard: AccessGuard = field(init=False)

    def __post_init__(self) -> None:
        self.caplog.set_level(logging.INFO)
        catalog = catalog_of(a={TOOLS: ["get"]})
        rules = policy(catalog, rule("dev", {"groups": ["dev"]}), default=self.default)
        self.guard = AccessGuard(rules, catalog, lambda: self.now)

    def enter(self, identity: Identity) -> None:
        """Let a caller come."""
        self.guard.restrict(ClientIdentity("2026-07-28", identity=identity))

    def lines(self) -> Iterator[str]:
        """The lines of the log."""
        return (record.getMessage() for record in self.caplog.records)


def test_a_caller_without_groups_is_logged_with_the_remedy(
    caplog: pytest.LogCaptureFixture,
) -> None:
    gate = Gate(caplog)
    gate.enter(token(scopes=["email"]))
    [line] = gate.lines()
    assert line.startswith(
        f'no rule applies to a caller (jwt of "{ISSUER}", groups [], scopes ["email"]); '
    )
    assert line.endswith("put the groups into the token or set claims.groups")


def test_groups_with_a_path_are_logged_as_the_token_has_them(
    caplog: pytest.LogCaptureFixture,
) -> None:
    gate = Gate(caplog)
    gate.enter(token(groups=["/dev"]))
    [line] = gate.lines()
    assert 'groups ["/dev"]' in line
    assert line.endswith("compare who of the rules")


def test_callers_to_whom_no_rule_applies_are_logged_once_in_each_interval(
    caplog: pytest.LogCaptureFixture,
) -> None:
    gate = Gate(caplog)
    for number in range(100):
        gate.enter(token(f"user-{number}"))
    assert len(list(gate.lines())) == 1
    gate.now += LOGGED
    gate.enter(token())
    assert len(list(gate.lines())) == 2


@pytest.mark.parametrize(
    ("default", "identity"),
    [("Deny", token(groups=["dev"])), ("Allow", token()), ("Deny", ANONYMOUS)],
)
def test_callers_who_may_use_something_and_anonymous_ones_are_not_logged(
    default: str, identity: Identity, caplog: pytest.LogCaptureFixture
) -> None:
    gate = Gate(caplog, default)
    gate.enter(identity)
    assert list(gate.lines()) == []
