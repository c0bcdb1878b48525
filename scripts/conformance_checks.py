"""Results of the conformance suite: checks by scenario, and the checks that a proxy loses."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

Checks = Mapping[tuple[str, str], str]
"""Worst status of every (scenario, check id)."""

PASSED: Final = "SUCCESS"
ABSENT: Final = "ABSENT"
_RANKS: Final = {PASSED: 0, "WARNING": 1, "SKIPPED": 2, "FAILURE": 3}
_DIRECTORY: Final = re.compile(r"^server-(?P<scenario>.+)-\d{4}-\d\d-\d\dT[^T]+$")
_EXTENSION: Final = "tasks-"
"""Prefix of the scenarios of an extension that the suite's backend lacks."""


def load(results: Path, *, extension: bool = False) -> Checks:
    """Return the checks of one run, or of its scenarios for the tasks extension.

    Messages with the status INFO are not checks.
    """
    worst: dict[tuple[str, str], str] = {}
    for path in sorted(results.glob("server-*/checks.json")):
        match = _DIRECTORY.match(path.parent.name)
        if match is None or match["scenario"].startswith(_EXTENSION) is not extension:
            continue
        for check in json.loads(path.read_text(encoding="utf-8")):
            if check["status"] != "INFO":
                key = match["scenario"], check["id"]
                statuses = worst.get(key, PASSED), check["status"]
                worst[key] = max(statuses, key=lambda status: _RANKS[status])
    return worst


def passing(checks: Checks) -> frozenset[tuple[str, str]]:
    """Return the checks that passed."""
    return frozenset(key for key, status in checks.items() if status == PASSED)


def lost(direct: Checks, proxied: Checks) -> dict[tuple[str, str], str]:
    """Return the checks that pass directly but not through the proxy, with their status there."""
    missing = sorted(passing(direct) - passing(proxied))
    return {key: proxied.get(key, ABSENT) for key in missing}
