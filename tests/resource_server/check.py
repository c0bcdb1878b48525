"""The registry of checks, and their results."""

import enum
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Final

from tests.resource_server.http_client import NoResponse

if TYPE_CHECKING:
    from tests.resource_server.target import Target


class Severity(enum.Enum):
    """Levels of RFC 2119."""

    MUST = "MUST"
    SHOULD = "SHOULD"


class Outcome(enum.Enum):
    """Results of a check."""

    PASS = "pass"
    FAIL = "fail"
    SKIP = "skip"


class Failed(Exception):
    """The server breaks the rule; the text says what was sent and what came back."""


class Skipped(Exception):
    """The rule does not apply to the server, or the run was not configured for it."""


@dataclass(frozen=True)
class Check:
    """One rule, and the function that tests it."""

    id: str
    topic: str
    rule: str
    source: str
    severity: Severity
    run: Callable[["Target"], None]


@dataclass(frozen=True)
class Result:
    """The result of one check."""

    id: str
    topic: str
    rule: str
    source: str
    severity: str
    outcome: str
    reason: str
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """Return the members of the report."""
        return asdict(self)


CHECKS: Final[dict[str, Check]] = {}
"""All checks by their ids, in the order of the topics."""

Run = Callable[["Target"], None]


def check(identifier: str, source: str, severity: Severity = Severity.MUST) -> Callable[[Run], Run]:
    """Register a function as a check; the first line of its docstring is the rule.

    `source` names the specification and the section on which the rule stands.
    """

    def register(function: Run) -> Run:
        if identifier in CHECKS:
            raise ValueError(f"two checks have the id {identifier}")
        rule = (function.__doc__ or "").partition("\n")[0].rstrip(".")
        topic = function.__module__.rpartition(".")[2]
        CHECKS[identifier] = Check(identifier, topic, rule, source, severity, function)
        return function

    return register


def run_check(item: Check, target: "Target") -> Result:
    """Run a check; an exception that it did not expect is a failure."""
    began = time.monotonic()
    outcome, reason = Outcome.PASS, ""
    try:
        item.run(target)
    except Skipped as why:
        outcome, reason = Outcome.SKIP, str(why)
    except (Failed, NoResponse) as why:
        outcome, reason = Outcome.FAIL, str(why)
    except (OSError, ValueError, LookupError, TypeError) as problem:
        outcome, reason = Outcome.FAIL, f"{type(problem).__name__}: {problem}"
    seconds = round(time.monotonic() - began, 3)
    facts = (item.id, item.topic, item.rule, item.source, item.severity.value)
    return Result(*facts, outcome.value, reason, seconds)
