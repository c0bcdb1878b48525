"""The official conformance suite as a process, run against servers and clients."""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence, Set
from pathlib import Path
from typing import Final

from scripts import npm
from scripts.conformance_checks import PASSED, Checks, load, passing
from scripts.conformance_servers import DRIVER, MCPPROXY

REVISIONS: Final = ("2025-11-25", "2026-07-28")
RUN_SECONDS: Final = 900.0
"""Time limit of a run of the whole suite, because programs start slowly on a busy machine."""
SCENARIO_MS: Final = 20_000
MAX_REPEATED: Final = 3
CLIENT_SCENARIOS: Final = {
    "2025-11-25": (
        "initialize",
        "tools_call",
        "elicitation-sep1034-client-defaults",
        "sse-retry",
        "json-schema-2020-12-preservation",
    ),
    "2026-07-28": (
        "tools_call",
        "request-metadata",
        "sep-2322-client-request-state",
        "http-standard-headers",
        "http-custom-headers",
        "http-invalid-tool-headers",
        "json-schema-ref-no-deref",
        "json-schema-2020-12-preservation",
    ),
}

TASK_SCENARIOS: Final = tuple(
    f"tasks-{name}"
    for name in (
        "lifecycle",
        "capability-negotiation",
        "wire-fields",
        "request-state-removal",
        "mrtr-input",
        "request-headers",
        "dispatch-and-envelope",
        "status-notifications",
        "required-task-error",
        "mrtr-composition",
    )
)
"""Scenarios of the tasks extension, which no revision requires."""


def judge_tasks(url: str, results: Path) -> Checks:
    """Return the checks of the tasks extension against a URL."""
    checks: dict[tuple[str, str], str] = {}
    for scenario in TASK_SCENARIOS:
        chosen = ["--scenario", scenario, "--timeout", str(SCENARIO_MS)]
        run_suite(["server", "--url", url, *chosen], results / scenario, {})
        checks |= load(results / scenario, extension=True)
    return checks


def judge_server(
    url: str, revision: str, results: Path, hopeless: Set[str] = frozenset()
) -> tuple[Checks, list[str]]:
    """Return the checks of one revision against a URL, and the scenarios that passed when repeated.

    On a busy machine, scenarios with short waits fail occasionally, even without the proxy. If only
    a few scenarios fail, they are run once more, except for `hopeless` ones. The output of the
    suite is stored next to its results.
    """
    arguments = ["server", "--url", url, "--timeout", str(SCENARIO_MS)]
    run_suite([*arguments, "--requirements", revision], results / revision, {})
    checks = load(results / revision)
    failed = {scenario for (scenario, _), status in checks.items() if status != PASSED} - hopeless
    if len(failed) > MAX_REPEATED:
        return checks, []
    repeated = []
    for scenario in sorted(failed):
        again = results / f"{revision}-again" / scenario
        chosen = ["--scenario", scenario, "--spec-version", revision]
        run_suite([*arguments, *chosen], again, {})
        second = load(again)
        if second and len(passing(second)) == len(second):
            checks = {key: s for key, s in checks.items() if key[0] != scenario} | dict(second)
            repeated.append(scenario)
    return checks, repeated


def warm_up(url: str, results: Path) -> None:
    """Run the scenario with the shortest waits once, so that its programs are loaded for the real
    run."""
    arguments = ["server", "--url", url, "--scenario", "server-stateless"]
    run_suite([*arguments, "--spec-version", REVISIONS[-1]], results / "warm-up", {})


def judge_client(revision: str, scenario: str, results: Path) -> bool:
    """True if a client behind our proxy passes, which tests the messages that the proxy sends
    upstream."""
    driver = shlex.join([sys.executable, os.fspath(DRIVER)])
    proxy = f"{shlex.quote(MCPPROXY)} run {{url}} --transport http --port {{port}}"
    arguments = ["client", "--command", driver, "--scenario", scenario]
    arguments += ["--spec-version", revision, "--timeout", "40000"]
    return run_suite(arguments, results / revision / scenario, {"PROXY_CMD": proxy})


def run_suite(arguments: Sequence[str], results: Path, env: dict[str, str]) -> bool:
    """Run the suite, and return True if it succeeded; its output is stored with the results."""
    shutil.rmtree(results, ignore_errors=True)
    results.mkdir(parents=True)
    program = npm.module("@modelcontextprotocol/conformance", "dist/index.js")
    command = [os.fspath(npm.NODE), os.fspath(program), *arguments, "-o", os.fspath(results)]
    with (results / "output.txt").open("wb") as output:
        try:
            done = subprocess.run(
                command,
                env={**os.environ, **env},
                stdout=output,
                stderr=output,
                timeout=RUN_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return False
    return done.returncode == 0
