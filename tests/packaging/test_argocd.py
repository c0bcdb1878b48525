"""Argo CD's health check, run as Argo CD does, on objects as the operator leaves them.

UPDATE_GOLDEN=1 writes the objects anew.
"""

import os
from pathlib import Path
from typing import Any

import pytest
from lupa.lua51 import LuaRuntime

from scripts import manifests
from scripts.yaml_files import parse_yaml
from tests.packaging.argocd_objects import objects, rendered
from tests.support.kstatus import kstatus

FOLDER = Path(__file__).parents[2] / "manifests" / "argocd"
SCRIPT = (FOLDER / "health.lua").read_text(encoding="utf-8")
OBJECTS = sorted((FOLDER / "testdata").iterdir())
CASES = parse_yaml((FOLDER / "health_test.yaml").read_text(encoding="utf-8"))["tests"]


def exported(path: str) -> dict[str, Any]:
    """One object."""
    document: dict[str, Any] = parse_yaml((FOLDER / path).read_text(encoding="utf-8"))
    return document


def health(result: dict[str, Any]) -> dict[str, str]:
    """Return the health by the script; Argo CD's Lua is 5.1 as well."""
    lua = LuaRuntime(unpack_returned_tuples=True)
    # Lua has no null, and Argo CD's objects have no such fields.
    lua.globals().obj = lua.table_from(result, recursive=True)
    return dict(lua.execute(SCRIPT))


def test_the_test_objects_match_the_output_of_the_operator() -> None:
    result = objects()
    if os.environ.get("UPDATE_GOLDEN"):
        for name, item in result.items():
            (FOLDER / "testdata" / f"{name}.yaml").write_text(rendered(item), encoding="utf-8")
    assert {path.stem for path in OBJECTS} == set(result)
    for path in OBJECTS:
        assert path.read_text(encoding="utf-8") == rendered(result[path.stem]), "run: make golden"


@pytest.mark.parametrize("case", CASES, ids=lambda case: Path(case["inputPath"]).stem)
def test_the_health_of_an_object_is_as_written_down(case: dict[str, Any]) -> None:
    assert health(exported(case["inputPath"])) == case["healthStatus"]


def test_every_object_is_used_and_every_state_of_argocd_that_we_know_is_reached() -> None:
    used = {Path(case["inputPath"]).name for case in CASES}
    assert used == {path.name for path in OBJECTS}
    reached = {case["healthStatus"]["status"] for case in CASES}
    assert reached == {"Healthy", "Progressing", "Degraded", "Suspended"}


def test_a_suspended_proxy_is_suspended_before_the_operator_has_seen_it() -> None:
    result = exported("testdata/no_status.yaml")
    result["spec"]["suspend"] = True
    assert health(result)["status"] == "Suspended"


def test_a_proxy_whose_backends_are_not_known_yet_is_progressing() -> None:
    result = exported("testdata/healthy.yaml")
    for condition in result["status"]["conditions"]:
        if condition["type"] == "Ready":
            condition.update(status="Unknown", message="weather is Unknown")
    assert health(result) == {"status": "Progressing", "message": "weather is Unknown"}


TOOLS = {
    "no_status": "InProgress",
    "older_generation": "InProgress",
    "progressing": "InProgress",
    "scaling": "InProgress",
    "adding_pods": "Current",
    "healthy": "Current",
    "some_pods": "Current",
    "rate_limited": "Current",
    "catalogs_differ": "Current",
    "not_reporting": "InProgress",
    "scaled_to_zero": "Current",
    "suspended": "Current",
    "degraded_backend": "InProgress",
    "degraded_most_pods": "InProgress",
    "degraded_spec": "Failed",
    "degraded_crashes": "Failed",
    "degraded_rollout": "Failed",
}
SAME = {
    "Healthy": {"Current"},
    "Suspended": {"Current"},
    "Progressing": {"InProgress"},
    # A backend may come back by itself: tools that wait go on, and Argo CD shows it.
    "Degraded": {"Failed", "InProgress"},
}


@pytest.mark.parametrize("path", OBJECTS, ids=lambda path: path.stem)
def test_generic_tools_compute_the_same_status(path: Path) -> None:
    result = exported(f"testdata/{path.name}")
    assert kstatus(result) == TOOLS[path.stem]
    assert kstatus(result) in SAME[health(result)["status"]]


@pytest.mark.parametrize("path", OBJECTS, ids=lambda path: path.stem)
def test_abnormal_conditions_are_absent_rather_than_false(path: Path) -> None:
    document = parse_yaml(path.read_text(encoding="utf-8"))
    for condition in (document.get("status") or {}).get("conditions", []):
        assert condition["type"] not in ("Reconciling", "Stalled") or condition["status"] == "True"
        assert condition["observedGeneration"] == document["status"]["observedGeneration"]


def test_the_settings_for_argocd_contain_the_unchanged_script() -> None:
    text = (FOLDER / "argocd-cm.yaml").read_text(encoding="utf-8")
    assert text == manifests.argocd_settings(), "run: make manifests"
    data = parse_yaml(text)["data"]
    assert data["resource.customizations.health.mcpproxy.dev_MCPProxy"] == SCRIPT
