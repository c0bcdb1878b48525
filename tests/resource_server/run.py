"""Runs checks against a server that trusts the issuers, and makes the report."""

import fnmatch
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from tests.resource_server import checks
from tests.resource_server.check import CHECKS, Check, Failed, Outcome, Result, Severity, run_check
from tests.resource_server.http_client import NoResponse
from tests.resource_server.scenarios import PRIMED
from tests.resource_server.target import Target

TOPICS: Final = tuple(sorted(checks.__all__, key=lambda topic: topic == "key_sets"))
"""Topics in the order in which they run: waiting for key sets comes last."""


def _nothing(result: Result) -> None:
    """Show no progress."""


def run(
    target: Target, items: Iterable[Check], show: Callable[[Result], None] = _nothing
) -> list[Result]:
    """Run checks, topic by topic, and pass each result on as it comes."""
    if not target.options.main_issuer_only:
        for name in PRIMED:
            target.send(token=target.issuer(name).token())
    results = []
    for item in sorted(items, key=lambda item: TOPICS.index(item.topic)):
        results.append(run_check(item, target))
        show(results[-1])
    return results


def selected(patterns: str) -> list[Check]:
    """Return the checks whose ids match one of the patterns; all without a pattern."""
    globs = [pattern.strip() for pattern in patterns.split(",") if pattern.strip()]
    return [
        item
        for item in CHECKS.values()
        if not globs or any(fnmatch.fnmatch(item.id, glob) for glob in globs)
    ]


def await_server(target: Target, seconds: float) -> None:
    """Return when the server serves a good token. Raise Failed if it does not in time."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            target.expect_accepted(target.main.token(), "a good token")
            return
        except (Failed, NoResponse) as problem:
            if time.monotonic() > deadline:
                raise Failed(f"the server is not ready after {seconds:.0f} s: {problem}") from None
        time.sleep(0.5)


def failures(results: Iterable[Result], severity: Severity) -> list[Result]:
    """Return the failed checks of one severity."""
    return [r for r in results if r.outcome == Outcome.FAIL.value and r.severity == severity.value]


def report(results: Sequence[Result]) -> dict[str, object]:
    """Return the report for JSON."""
    counts = {o.value: sum(r.outcome == o.value for r in results) for o in Outcome}
    return {"counts": counts, "checks": [result.as_json() for result in results]}
