"""The children of four proxies, word for word; UPDATE_GOLDEN=1 writes them anew."""

import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from mcpproxy import desired
from mcpproxy.api import manifest
from tests.support.builders import OPTIONS, OWNER, a_backend, a_manifest
from tests.support.every_field import AUTOSCALED, EVERY_FIELD

GOLDEN = Path(__file__).parents[1] / "golden"
PROXIES = {
    "minimal": a_manifest(),
    "every-field": EVERY_FIELD,
    "autoscaled": AUTOSCALED,
    "stdio": a_manifest(
        "notes",
        replicas=1,
        backends=[
            a_backend("notes", stdio={"command": "python", "args": ["-m", "notes_server"]}),
        ],
    ),
}


def literal(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    """Texts of several lines as blocks, so that a configuration can be read in a diff."""
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


class Dumper(yaml.SafeDumper):
    """Writes YAML as a person would, and no anchors."""

    def ignore_aliases(self, _data: Any) -> bool:
        return True


Dumper.add_representer(str, literal)


@pytest.mark.parametrize("name", PROXIES)
def test_the_children_are_the_golden_ones(name: str) -> None:
    children = desired.build(manifest.parse(PROXIES[name]), OPTIONS, OWNER)
    result = yaml.dump_all(children, Dumper=Dumper, sort_keys=False, width=100)
    path = GOLDEN / f"{name}.yaml"
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(result)
    assert path.read_text() == result


def test_there_is_no_golden_file_without_a_proxy() -> None:
    assert {path.stem for path in GOLDEN.glob("*.yaml")} == PROXIES.keys()
