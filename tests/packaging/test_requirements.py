"""The locked requirements of each place of use."""

import json
import re
import tomllib
from pathlib import Path

import pytest

from scripts import pip_peers, sbom

ROOT = Path(__file__).parents[2]
FILES = ("build", "controller", "dev", "node", "runtime", "uv")
PEERS = tuple(f"peers-{name}" for name in pip_peers.ENVIRONMENTS)
NAME = re.compile(r"^([a-z0-9][a-z0-9.-]*)==(\S+)", re.MULTILINE)


def text(name: str) -> str:
    return (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")


def locked(name: str) -> dict[str, str]:
    """The version of each package of a file."""
    return dict(NAME.findall(text(name)))


def test_the_runtime_has_neither_kopf_nor_a_kubernetes_client() -> None:
    assert {"kopf", "kubernetes", "aiohttp"}.isdisjoint(locked("runtime"))


def test_the_operator_has_nothing_that_only_the_runtime_needs() -> None:
    assert {"mcp", "mcp-types", "uvloop", "httptools", "starlette"}.isdisjoint(locked("controller"))


@pytest.mark.parametrize("name", FILES + PEERS)
def test_every_package_is_locked_with_hashes_and_no_file_names_an_index(name: str) -> None:
    content = text(name)
    entries = re.split(r"^(?=\S)", content, flags=re.MULTILINE)[1:]
    assert entries
    assert [entry for entry in entries if "--hash=sha256:" not in entry] == []
    assert "://" not in content


@pytest.mark.parametrize("name", ["build", "controller", "runtime"])
def test_images_use_the_versions_that_the_tests_use(name: str) -> None:
    tested = locked("dev")
    assert {package: tested.get(package) for package in locked(name)} == locked(name)


@pytest.mark.parametrize("name", sbom.PLACES)
def test_the_bill_of_materials_has_every_package_with_its_hashes(name: str) -> None:
    bill = sbom.bill([sbom.requirements(name)], name="image", version="1")
    components = bill["components"]
    assert bill["dependencies"][0]["dependsOn"] == sorted(
        component["bom-ref"] for component in components
    )
    assert {item["name"]: item["version"] for item in components} == locked(name)
    listed = [
        result["content"]
        for entry in components
        for reference in entry["externalReferences"]
        for result in reference["hashes"]
    ]
    assert listed == re.findall(r"sha256:([0-9a-f]{64})", text(name))


def test_every_npm_package_is_locked_with_a_hash_and_no_address() -> None:
    lock = json.loads((ROOT / "peers" / "package-lock.json").read_text(encoding="utf-8"))
    packages = {path: item for path, item in lock["packages"].items() if path}
    assert packages
    assert [path for path, entry in packages.items() if not entry.get("integrity")] == []
    assert [path for path, element in packages.items() if "resolved" in element] == []


def test_the_clients_of_other_makers_are_of_both_majors_of_the_sdk() -> None:
    majors = [locked(name)["mcp"].partition(".")[0] for name in PEERS]
    assert majors == ["1", "2"]


def test_every_direct_dependency_is_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    direct = {
        "runtime": project["dependencies"] + project["optional-dependencies"]["runtime"],
        "controller": project["dependencies"] + project["optional-dependencies"]["controller"],
    }
    for name, requirements in direct.items():
        names = {re.split(r"[<>=;\[ ]", requirement)[0] for requirement in requirements}
        assert names <= set(locked(name))
