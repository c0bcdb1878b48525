"""The CRD on a real API server: structural, within the cost of CEL, and readable."""

import json

import pytest
from tests.apiserver.server import ApiServer

from mcpproxy.api import names

pytestmark = pytest.mark.apiserver


def test_the_crd_is_structural_and_its_names_are_accepted(apiserver: ApiServer) -> None:
    found = json.loads(apiserver.kubectl("get", "crd", names.CRD_NAME, "-o", "json").stdout)
    conditions = {one["type"]: one["status"] for one in found["status"]["conditions"]}
    assert conditions.get("NonStructuralSchema", "False") == "False"
    assert conditions["NamesAccepted"] == "True"
    assert conditions["Established"] == "True"
