"""Reading manifests, and the manifest that the pods mount."""

import copy
import json
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcpproxy.api import manifest
from mcpproxy.api.manifest_errors import ManifestError
from tests.support.builders import a_backend, a_manifest, an_mcpproxy, shuffled

A_FILE = """
apiVersion: mcpproxy.dev/v1alpha1
kind: MCPProxy
metadata: {name: tools}
spec: {backends: [{name: weather, url: "https://weather.example.com/mcp"}]}
"""


def error_of(text: str) -> str:
    with pytest.raises(ManifestError) as raised:
        manifest.load(text)
    return str(raised.value)


def test_the_one_mcpproxy_of_a_file_is_found_among_other_kinds() -> None:
    text = f"kind: Secret\n---\n{A_FILE}\n---\n# empty\n"
    assert manifest.load(text).metadata.name == "tools"


def test_a_file_with_no_mcpproxy_or_two_of_them_is_refused() -> None:
    assert error_of("kind: Secret") == "kind: expected a document of kind MCPProxy, found Secret"
    assert "expected one document of kind MCPProxy, found 2" in error_of(f"{A_FILE}---{A_FILE}")


def test_invalid_yaml_is_refused_with_its_position() -> None:
    assert "line 1" in error_of("a: [")


def test_a_duplicate_key_is_refused_as_by_kubectl() -> None:
    assert "duplicate key 'spec'" in error_of(f"{A_FILE}\nspec: {{}}\n")


def test_anchors_and_merge_keys_are_understood() -> None:
    merged = """
spec:
  backends:
    - &first {name: a, url: "http://a/mcp", timeouts: {connect: 1s}}
    - {<<: *first, name: b}
"""
    text = A_FILE[: A_FILE.index("spec:")] + merged
    first, second = manifest.load(text).spec.backends
    assert (second.name, second.url, second.timeouts) == ("b", first.url, first.timeouts)


def test_an_unquoted_protocol_revision_is_not_read_as_a_date() -> None:
    text = A_FILE.replace("name: weather,", "name: weather, protocol: 2025-11-25,")
    assert manifest.load(text).spec.backends[0].protocol == "2025-11-25"


def test_every_finding_is_explained_by_its_path() -> None:
    wrong = a_manifest(
        backends=[a_backend("a", timeouts={"connect": "soon"}), {"name": "b"}],
        replicas="2",
        cahce={},
    )
    with pytest.raises(ManifestError) as raised:
        manifest.parse(wrong)
    findings = str(raised.value).split("; ")
    starts = ("spec.backends[0].timeouts.connect:", "spec.backends[1]:", "spec.replicas:")
    for start in (*starts, "spec.cahce: unknown field"):
        assert any(finding.startswith(start) for finding in findings), (start, findings)


def test_python_names_of_fields_are_not_accepted() -> None:
    with pytest.raises(ManifestError, match=r"^spec\.image_pull_policy: unknown field"):
        manifest.parse(a_manifest(image_pull_policy="Always"))


def test_a_document_that_is_not_a_mapping_is_refused() -> None:
    with pytest.raises(ManifestError, match="expected a mapping"):
        manifest.parse(["spec"])


def test_a_live_object_with_status_and_managed_fields_is_read() -> None:
    live = {**a_manifest(), "status": {"anything": 1}}
    live["metadata"]["managedFields"] = []
    assert manifest.parse(live).metadata.name == "tools"


def test_the_runtimes_manifest_is_a_manifest_that_means_the_same() -> None:
    proxy = an_mcpproxy(cache={"ttl": "60s"}, session={"mode": "PerClient"})
    assert manifest.load(manifest.runtime_manifest(proxy)) == proxy


@settings(deadline=None)
@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=8))
def test_every_character_of_a_value_reaches_the_runtime(text: str) -> None:
    program = {"command": "serve", "args": [text, "\x7f\x85\u2028\ufeff\uffff\U0001f600"]}
    proxy = an_mcpproxy(backends=[a_backend(stdio=program)])
    assert manifest.load(manifest.runtime_manifest(proxy)) == proxy


def test_the_runtimes_manifest_has_nothing_that_only_concerns_its_pods() -> None:
    plain = manifest.runtime_manifest(an_mcpproxy())
    dressed = an_mcpproxy(
        replicas=3, image="other:1", service={"port": 8000}, resources={"limits": {"cpu": 1}}
    )
    assert manifest.runtime_manifest(dressed) == plain
    assert json.loads(plain)["spec"].keys() == {"backends"}


def a_full_spec() -> dict[str, Any]:
    names = ("c", "a", "b")
    headers = [{"name": f"X-{name}", "value": name} for name in names]
    env = [{"name": f"V_{name}", "value": name} for name in names]
    return {
        "backends": [
            a_backend("web", headers=headers),
            a_backend("notes", stdio={"command": "n", "args": ["b", "a"], "env": env}),
            a_backend("other"),
        ],
        "cache": {"ttl": "1s"},
        "allowedHosts": ["b.example.com", "a.example.com"],
        "allowedOrigins": ["https://b.example.com", "https://a.example.com"],
    }


@given(st.randoms(use_true_random=False))
def test_the_order_of_the_source_never_shows(by: random.Random) -> None:
    spec = a_full_spec()
    expected = manifest.runtime_manifest(an_mcpproxy(**spec))
    assert manifest.runtime_manifest(an_mcpproxy(**shuffled(copy.deepcopy(spec), by))) == expected


def test_the_order_of_arguments_means_something() -> None:
    spec = a_full_spec()
    before = manifest.runtime_manifest(an_mcpproxy(**spec))
    spec["backends"][1]["stdio"]["args"].reverse()
    after = manifest.runtime_manifest(an_mcpproxy(**spec))
    assert manifest.config_hash(before) != manifest.config_hash(after)
