"""The authorization scenarios of the conformance suite, with the proxy as the client.

In the scenarios of the extensions, the proxy has its own credentials; in all others, its user signs
in. `EXPECTED` names the checks that fail; a scenario that fails others, or that no longer fails
these, is a fault.
"""

import json
import os
import shlex
import sys
from pathlib import Path
from typing import Final

from scripts.conformance_checks import PASSED
from scripts.conformance_suite import REVISIONS, run_suite

EXTENSION: Final = "extension"
_NOTHING: Final[frozenset[str]] = frozenset()
_BOTH: Final = (
    "basic-cimd",
    *(f"metadata-{name}" for name in ("default", "var1", "var2", "var3")),
    "pre-registration",
    "scope-from-scopes-supported",
    "scope-from-www-authenticate",
    "scope-omitted-when-undefined",
    "scope-retry-limit",
    "scope-step-up",
    "token-endpoint-auth-basic",
    "token-endpoint-auth-none",
    "token-endpoint-auth-post",
)
_MODERN: Final = (
    "authorization-server-migration",
    "iss-normalized",
    "iss-not-advertised",
    "iss-supported",
    "iss-supported-missing",
    "iss-unexpected",
    "iss-wrong-issuer",
    "metadata-issuer-mismatch",
    "offline-access-not-supported",
    "offline-access-scope",
    "resource-mismatch",
)
EXPECTED: Final[dict[tuple[str, str], frozenset[str]]] = {
    (EXTENSION, "client-credentials-basic"): _NOTHING,
    (EXTENSION, "client-credentials-jwt"): _NOTHING,
    (EXTENSION, "enterprise-managed-authorization"): _NOTHING,
    **{(revision, name): _NOTHING for revision in REVISIONS for name in _BOTH},
    **{(REVISIONS[1], name): _NOTHING for name in _MODERN},
}
"""Revision and scenario → the checks that the SDK's client, and therefore the proxy, fails."""


def failing(results: Path) -> frozenset[str] | None:
    """Return the ids of the checks that did not pass; None without any check."""
    checks = [
        check
        for path in results.rglob("checks.json")
        for check in json.loads(path.read_text(encoding="utf-8"))
    ]
    failed = frozenset(c["id"] for c in checks if c["status"] not in (PASSED, "INFO"))
    return failed if checks else None


def judge(revision: str, scenario: str, results: Path) -> str | None:
    """Run one scenario. Return the fault, or None if the result is the expected one."""
    name = "identity" if revision == EXTENSION else "sign_in"
    driver = shlex.join([sys.executable, "-m", f"scripts.conformance_{name}"])
    arguments = ["client", "--command", driver, "--scenario", f"auth/{scenario}"]
    if revision != EXTENSION:
        arguments += ["--spec-version", revision]
    place = results / revision / scenario
    run_suite([*arguments, "--timeout", "60000"], place, {"PYTHONPATH": os.pathsep.join(sys.path)})
    failed, expected = failing(place), EXPECTED[revision, scenario]
    where = f"{revision}, authorization: {scenario}"
    if failed is None:
        return f"{where}: no check ran"
    if failed != expected:
        more, fewer = sorted(failed - expected), sorted(expected - failed)
        return f"{where}: fails {', '.join(more) or 'nothing more'}; passes {', '.join(fewer)}"
    return None
