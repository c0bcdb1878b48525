"""Manifests that `mcpproxy run -f` and the operator accept or refuse: the API server's table."""

import json

import pytest

from mcpproxy.api import manifest
from mcpproxy.api.manifest_errors import ManifestError
from tests.support import bad_access, bad_limits, bad_manifests, bad_pods
from tests.support.bad_values import Bad
from tests.support.good_manifests import GOOD

WRONG = [*bad_manifests.ALL, *bad_pods.ALL, *bad_access.ALL, *bad_limits.ALL]


def _findings(case: Bad) -> list[str]:
    """The problems of a wrong manifest."""
    try:
        manifest.load(json.dumps(case.manifest))
    except ManifestError as error:
        return str(error).split("; ")
    return ["nothing is wrong"]


def test_each_wrong_manifest_is_refused_with_the_path_of_its_field() -> None:
    results = {case.wrong: (case.parser_says, _findings(case)) for case in WRONG}
    assert len(results) == len(WRONG), "two manifests have one name"
    unexpected = [
        f"{wrong}: {expected!r} is not in {findings}"
        for wrong, (expected, findings) in results.items()
        if not any(finding.startswith(expected) for finding in findings)
    ]
    assert not unexpected, "\n".join(unexpected)


@pytest.mark.parametrize("name", GOOD)
def test_a_valid_manifest_is_accepted_unchanged(name: str) -> None:
    proxy = manifest.load(json.dumps(GOOD[name]))
    assert proxy.spec.to_manifest() == GOOD[name]["spec"]
