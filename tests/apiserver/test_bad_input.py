"""Wrong manifests at a real API server: refused by field, or taken and left to the parser."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from mcpproxy.api import constants, manifest
from mcpproxy.api.manifest_errors import ManifestError
from scripts.yaml_files import parse_documents
from tests.apiserver.server import ApiServer
from tests.support import bad_access, bad_limits, bad_manifests, bad_pods
from tests.support.bad_values import Bad
from tests.support.builders import a_backend, a_manifest
from tests.support.good_manifests import GOOD

pytestmark = pytest.mark.apiserver

SAMPLES = Path(__file__).parents[2] / "samples"
ALL = [*bad_manifests.ALL, *bad_pods.ALL, *bad_access.ALL, *bad_limits.ALL]
UNSEEN = [
    *bad_manifests.ONLY_FOR_THE_PARSER,
    *bad_pods.ONLY_FOR_THE_PARSER,
    *bad_access.ONLY_FOR_THE_PARSER,
]
REFUSED = [case for case in ALL if case.api_server_says is not None]


def placed(value: dict[str, Any], namespace: str) -> str:
    """The manifest as text, in another namespace."""
    return json.dumps({**value, "metadata": {**value["metadata"], "namespace": namespace}})


@pytest.fixture(scope="module")
def client(apiserver: ApiServer) -> Iterator[httpx2.Client]:
    """Asks as kubectl does, and faster."""
    with apiserver.client() as result:
        yield result


def test_the_table_is_as_long_as_promised() -> None:
    assert len(REFUSED) >= 30
    assert len({case.wrong for case in ALL}) == len(ALL)


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.wrong)
def test_the_api_server_refuses_it_and_names_the_field(client: httpx2.Client, case: Bad) -> None:
    answer = client.post(
        f"/apis/{constants.API_VERSION}/namespaces/default/{constants.PLURAL}?fieldValidation=Strict",
        content=placed(case.manifest, "default"),
        headers={"Content-Type": "application/json"},
    )
    assert answer.status_code in (400, 422)
    assert case.api_server_says is not None
    assert case.api_server_says in answer.json()["message"]


def test_kubectl_shows_the_field_and_the_remedy(apiserver: ApiServer, namespace: str) -> None:
    two_sources = a_backend(url="http://a/mcp", stdio={"command": "a"})
    for value, words in (
        (a_manifest(cahce={}), 'unknown field "spec.cahce"'),
        (a_manifest(backends=[two_sources]), "exactly one of url, service and stdio"),
        (a_manifest("my.tools"), "metadata.name must be a DNS label of at most 63 characters"),
    ):
        answer = apiserver.kubectl("apply", "-f", "-", input=placed(value, namespace))
        assert answer.returncode != 0
        assert words in answer.stderr


@pytest.mark.parametrize("case", UNSEEN, ids=lambda case: case.wrong)
def test_errors_beyond_the_schema_are_refused_by_the_parser(
    apiserver: ApiServer, namespace: str, case: Bad
) -> None:
    # Otherwise kubectl stores the whole manifest as an annotation, which has a maximum size.
    on_the_server = ("apply", "--server-side", "-f", "-", "-o", "json")
    answer = apiserver.kubectl(*on_the_server, input=placed(case.manifest, namespace))
    assert answer.returncode == 0, answer.stderr
    with pytest.raises(ManifestError, match=f"^{re.escape(case.parser_says)}"):
        manifest.parse(json.loads(answer.stdout))


@pytest.mark.parametrize("name", GOOD)
def test_a_valid_manifest_is_accepted_and_its_spec_is_unchanged(
    apiserver: ApiServer, namespace: str, name: str
) -> None:
    answer = apiserver.kubectl(
        "apply", "-f", "-", "-o", "json", input=placed(GOOD[name], namespace)
    )
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout)["spec"] == GOOD[name]["spec"]


def test_every_sample_is_accepted(apiserver: ApiServer, namespace: str) -> None:
    for path in sorted(SAMPLES.rglob("*.yaml")):
        for document in parse_documents(path.read_text()):
            if isinstance(document, dict) and document.get("kind") == "MCPProxy":
                answer = apiserver.kubectl("apply", "-f", "-", input=placed(document, namespace))
                assert answer.returncode == 0, f"{path.name}: {answer.stderr}"
                manifest.parse(document)


def test_a_client_that_does_not_validate_has_its_unknown_fields_pruned(
    apiserver: ApiServer, namespace: str
) -> None:
    value = {**GOOD["one backend"], "specs": {}}
    value["spec"] = {**value["spec"], "cahce": {"ttl": "5s"}}
    answer = apiserver.kubectl(
        "apply", "--validate=ignore", "-f", "-", "-o", "json", input=placed(value, namespace)
    )
    assert answer.returncode == 0, answer.stderr
    live = json.loads(answer.stdout)
    assert live["spec"] == GOOD["one backend"]["spec"]
    assert "specs" not in live
    assert manifest.parse(live).metadata.name == "tools"
