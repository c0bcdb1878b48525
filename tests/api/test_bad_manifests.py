"""Manifests that `mcpproxy run -f` and the operator accept or refuse: the API server's table."""

import json

import pytest

from mcpproxy.api import manifest
from mcpproxy.api.manifest_errors import ManifestError
from tests.support import bad_access, bad_limits, bad_manifests, bad_pods
from tests.support.bad_values import Bad
from tests.support.good_manifests import GOOD


@pytest.mark.parametrize(
    "case",
    [*bad_manifests.ALL, *bad_pods.ALL, *bad_access.ALL, *bad_limits.ALL],
    ids=lambda case: case.wrong,
)
def test_a_wrong_manifest_is_refused_with_the_path_of_its_field(case: Bad) -> None:
    with pytest.raises(ManifestError) as raised:
        manifest.load(json.dumps(case.manifest))
    findings = str(raised.value).split("; ")
    assert any(finding.startswith(case.parser_says) for finding in findings), findings


@pytest.mark.parametrize("name", GOOD)
def test_a_valid_manifest_is_accepted_unchanged(name: str) -> None:
    proxy = manifest.load(json.dumps(GOOD[name]))
    assert proxy.spec.to_manifest() == GOOD[name]["spec"]
