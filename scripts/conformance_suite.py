"""The official conformance suite as a process: against a server, and against a client."""

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
"""Seconds that a run of the whole suite may take: on a busy machine programs start slowly."""
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
"""Of the extension for tasks, which no revision requires."""


def judge_tasks(url: str, results: Path) -> Checks:
    """The checks of the extension for tasks against a URL."""
    checks: dict[tuple[str, str], str] = {}
    for scenario in TASK_SCENARIOS:
        chosen = ["--scenario", scenario, "--timeout", str(SCENARIO_MS)]
        _run(["server", "--url", url, *chosen], results / scenario, {})
        checks |= load(results / scenario, extension=True)
    return checks


def judge_server(
    url: str, revision: str, results: Path, hopeless: Set[str] = frozenset()
) -> tuple[Checks, list[str]]:
    """The checks of one revision against a URL, and the scenarios that passed at the second try.

    Scenarios with short waits fail on a busy machine now and then, directly, too: a few that fail
    are run once more, but for the hopeless ones. The suite's own words go beside its results.
    """
    arguments = ["server", "--url", url, "--timeout", str(SCENARIO_MS)]
    _run([*arguments, "--requirements", revision], results / revision, {})
    checks = load(results / revision)
    failed = {scenario for (scenario, _), status in checks.items() if status != PASSED} - hopeless
    if len(failed) > MAX_REPEATED:
        return checks, []
    repeated = []
    for scenario in sorted(failed):
        again = results / f"{revision}-again" / scenario
        chosen = ["--scenario", scenario, "--spec-version", revision]
        _run([*arguments, *chosen], again, {})
        second = load(again)
        if second and len(passing(second)) == len(second):
            checks = {key: s for key, s in checks.items() if key[0] != scenario} | dict(second)
            repeated.append(scenario)
    return checks, repeated


def warm_up(url: str, results: Path) -> None:
    """Run the scenario with the shortest waits once: what it starts is there when it counts."""
    arguments = ["server", "--url", url, "--scenario", "server-stateless"]
    _run([*arguments, "--spec-version", REVISIONS[-1]], results / "warm-up", {})


def judge_client(revision: str, scenario: str, results: Path) -> bool:
    """Whether a client that speaks through our proxy passes: what we send upstream is judged."""
    driver = shlex.join([sys.executable, os.fspath(DRIVER)])
    proxy = f"{shlex.quote(MCPPROXY)} run {{url}} --transport http --port {{port}}"
    arguments = ["client", "--command", driver, "--scenario", scenario]
    arguments += ["--spec-version", revision, "--timeout", "40000"]
    return _run(arguments, results / revision / scenario, {"PROXY_CMD": proxy})


def _run(arguments: Sequence[str], results: Path, env: dict[str, str]) -> bool:
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
