"""Argo CD's health check, run as Argo CD does, on objects as the operator leaves them.

UPDATE_GOLDEN=1 writes the objects anew.
"""

import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from lupa.lua51 import LuaRuntime

from scripts import manifests
from tests.packaging.argocd_objects import objects, rendered
from tests.support.kstatus import kstatus

FOLDER = Path(__file__).parents[2] / "manifests" / "argocd"
SCRIPT = (FOLDER / "health.lua").read_text(encoding="utf-8")
OBJECTS = sorted((FOLDER / "testdata").iterdir())
CASES = yaml.safe_load((FOLDER / "health_test.yaml").read_text(encoding="utf-8"))["tests"]


def exported(path: str) -> dict[str, Any]:
    """One object."""
    found: dict[str, Any] = yaml.safe_load((FOLDER / path).read_text(encoding="utf-8"))
    return found


def health(found: dict[str, Any]) -> dict[str, str]:
    """What the script says; Argo CD's Lua is 5.1 as well."""
    lua = LuaRuntime(unpack_returned_tuples=True)
    # Lua has no null, and Argo CD's objects have no such fields.
    lua.globals().obj = lua.table_from(found, recursive=True)
    return dict(lua.execute(SCRIPT))


def test_the_test_objects_match_the_output_of_the_operator() -> None:
    found = objects()
    if os.environ.get("UPDATE_GOLDEN"):
        for name, one in found.items():
            (FOLDER / "testdata" / f"{name}.yaml").write_text(rendered(one), encoding="utf-8")
    assert {path.stem for path in OBJECTS} == set(found)
    for path in OBJECTS:
        assert path.read_text(encoding="utf-8") == rendered(found[path.stem]), "run: make golden"


@pytest.mark.parametrize("case", CASES, ids=lambda case: Path(case["inputPath"]).stem)
def test_the_health_of_an_object_is_as_written_down(case: dict[str, Any]) -> None:
    assert health(exported(case["inputPath"])) == case["healthStatus"]


def test_every_object_is_used_and_every_state_of_argocd_that_we_know_is_reached() -> None:
    used = {Path(case["inputPath"]).name for case in CASES}
    assert used == {path.name for path in OBJECTS}
    reached = {case["healthStatus"]["status"] for case in CASES}
    assert reached == {"Healthy", "Progressing", "Degraded", "Suspended"}


def test_a_suspended_proxy_is_suspended_before_the_operator_has_seen_it() -> None:
    found = exported("testdata/no_status.yaml")
    found["spec"]["suspend"] = True
    assert health(found)["status"] == "Suspended"


def test_a_proxy_whose_backends_are_not_known_yet_is_progressing() -> None:
    found = exported("testdata/healthy.yaml")
    for condition in found["status"]["conditions"]:
        if condition["type"] == "Ready":
            condition.update(status="Unknown", message="weather is Unknown")
    assert health(found) == {"status": "Progressing", "message": "weather is Unknown"}


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
    "not_heard": "InProgress",
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
    found = exported(f"testdata/{path.name}")
    assert kstatus(found) == TOOLS[path.stem]
    assert kstatus(found) in SAME[health(found)["status"]]


@pytest.mark.parametrize("path", OBJECTS, ids=lambda path: path.stem)
def test_abnormal_conditions_are_absent_rather_than_false(path: Path) -> None:
    found = yaml.safe_load(path.read_text(encoding="utf-8"))
    for condition in (found.get("status") or {}).get("conditions", []):
        assert condition["type"] not in ("Reconciling", "Stalled") or condition["status"] == "True"
        assert condition["observedGeneration"] == found["status"]["observedGeneration"]


def test_the_settings_for_argocd_contain_the_unchanged_script() -> None:
    text = (FOLDER / "argocd-cm.yaml").read_text(encoding="utf-8")
    assert text == manifests.argocd_settings(), "run: make manifests"
    data = yaml.safe_load(text)["data"]
    assert data["resource.customizations.health.mcpproxy.dev_MCPProxy"] == SCRIPT
