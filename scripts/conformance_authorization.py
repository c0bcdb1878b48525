"""The authorization scenarios of the conformance suite, with the proxy as the client.

The proxy has no user who could sign in. It passes the scenarios of client credentials, and of
every other scenario the checks that do not need the authorization endpoint. `EXPECTED` names the
checks that do; a scenario that fails others, or that no longer fails these, is a fault.
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
_REGISTRATION: Final = frozenset(
    {"authorization-request", "client-registration", "resource-parameter-in-authorization"}
)
_RESOURCE: Final = frozenset({"resource-parameter-in-authorization"})
_STEP_UP: Final = frozenset({"scope-step-up-escalation", "scope-step-up-initial"})
_NOTHING: Final[frozenset[str]] = frozenset()
_BOTH: Final[dict[str, frozenset[str]]] = {
    "basic-cimd": frozenset({"cimd-client-id-used"}),
    **{f"metadata-{name}": _REGISTRATION for name in ("default", "var1", "var2", "var3")},
    "pre-registration": _NOTHING,
    **{
        name: frozenset({name})
        for name in (
            "scope-from-scopes-supported",
            "scope-from-www-authenticate",
            "scope-omitted-when-undefined",
            "scope-retry-limit",
        )
    },
    "scope-step-up": _STEP_UP,
    "token-endpoint-auth-basic": _RESOURCE,
    "token-endpoint-auth-none": _RESOURCE | {"token-endpoint-auth-method"},
    "token-endpoint-auth-post": _RESOURCE,
}
EXPECTED: Final[dict[tuple[str, str], frozenset[str]]] = {
    (EXTENSION, "client-credentials-basic"): _NOTHING,
    (EXTENSION, "client-credentials-jwt"): _NOTHING,
    (EXTENSION, "enterprise-managed-authorization"): _NOTHING,
    **{(REVISIONS[0], name): checks for name, checks in _BOTH.items()},
    **{(REVISIONS[1], name): checks for name, checks in _BOTH.items()},
    (REVISIONS[1], "scope-step-up"): _STEP_UP | {"sep-2350-scope-union-on-reauth"},
    (REVISIONS[1], "authorization-server-migration"): frozenset(
        {"sep-2352-reregister-on-as-change"}
    ),
    (REVISIONS[1], "iss-normalized"): frozenset({"sep-2468-client-no-normalization"}),
    (REVISIONS[1], "iss-not-advertised"): _NOTHING,
    (REVISIONS[1], "iss-supported"): _NOTHING,
    (REVISIONS[1], "iss-supported-missing"): frozenset({"sep-2468-client-reject-missing-iss"}),
    (REVISIONS[1], "iss-unexpected"): frozenset({"sep-2468-client-compare-iss-unadvertised"}),
    (REVISIONS[1], "iss-wrong-issuer"): frozenset({"sep-2468-client-compare-iss-supported"}),
    (REVISIONS[1], "metadata-issuer-mismatch"): _NOTHING,
    (REVISIONS[1], "offline-access-not-supported"): frozenset(
        {"sep-2207-offline-access-not-requested"}
    ),
    (REVISIONS[1], "offline-access-scope"): frozenset({"sep-2207-offline-access-requested"}),
    (REVISIONS[1], "resource-mismatch"): _NOTHING,
}
"""Revision and scenario → the checks that need a user who signs in, and therefore fail."""


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
    driver = shlex.join([sys.executable, "-m", "scripts.conformance_identity"])
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
