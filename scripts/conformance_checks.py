"""What the conformance suite has found: checks by scenario, and the ones that a proxy loses."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

Checks = Mapping[tuple[str, str], str]
"""The worst status of every (scenario, id of a check)."""

PASSED: Final = "SUCCESS"
ABSENT: Final = "ABSENT"
_RANKS: Final = {PASSED: 0, "WARNING": 1, "SKIPPED": 2, "FAILURE": 3}
_DIRECTORY: Final = re.compile(r"^server-(?P<scenario>.+)-\d{4}-\d\d-\d\dT[^T]+$")
_EXTENSION: Final = "tasks-"
"""Scenarios of an extension that the suite's backend does not have."""


def load(results: Path, *, extension: bool = False) -> Checks:
    """The checks of one run, or of its scenarios of the extension for tasks; what is only told
    (INFO) is no check."""
    worst: dict[tuple[str, str], str] = {}
    for path in sorted(results.glob("server-*/checks.json")):
        named = _DIRECTORY.match(path.parent.name)
        if named is None or named["scenario"].startswith(_EXTENSION) is not extension:
            continue
        for check in json.loads(path.read_text(encoding="utf-8")):
            if check["status"] != "INFO":
                key = named["scenario"], check["id"]
                statuses = worst.get(key, PASSED), check["status"]
                worst[key] = max(statuses, key=lambda status: _RANKS[status])
    return worst


def passing(checks: Checks) -> frozenset[tuple[str, str]]:
    """The checks that passed."""
    return frozenset(key for key, status in checks.items() if status == PASSED)


def lost(direct: Checks, proxied: Checks) -> dict[tuple[str, str], str]:
    """What passes directly and not through the proxy, with its status there."""
    missing = sorted(passing(direct) - passing(proxied))
    return {key: proxied.get(key, ABSENT) for key in missing}
