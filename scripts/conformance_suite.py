"""The official conformance suite as a process: against a server, and against a client."""

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from scripts import npm
from scripts.conformance_checks import Checks, load
from scripts.conformance_servers import DRIVER, MCPPROXY

REVISIONS: Final = ("2025-11-25", "2026-07-28")
RUN_SECONDS: Final = 120.0
SCENARIO_MS: Final = 20_000
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


def judge_server(url: str, revision: str, results: Path) -> Checks:
    """The checks of one revision against a URL; the suite's own words go beside its results."""
    arguments = ["server", "--url", url, "--requirements", revision]
    _run([*arguments, "--timeout", str(SCENARIO_MS)], results / revision, {})
    return load(results / revision)


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
