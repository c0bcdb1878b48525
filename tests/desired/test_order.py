"""The same meaning, the same bytes: no order, no process and no neighbour shows in the children."""

import json
import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcpproxy import desired
from mcpproxy.api import constants, manifest
from mcpproxy.reconcile.plan import make_plan
from scripts.yaml_files import parse_documents
from tests.samples.test_samples import OURS, ROOT, SAMPLES
from tests.support.builders import OPTIONS, OWNER, shuffled
from tests.support.every_field import AUTOSCALED, EVERY_FIELD
from tests.support.examples import examples

IN_CLUSTER: Final = replace(OPTIONS, operator_namespace="mcpproxy-system")


def sample(name: str) -> dict[str, Any]:
    """The MCPProxy of a sample."""
    text = (SAMPLES / f"{name}.yaml").read_text(encoding="utf-8")
    result: dict[str, Any] = next(
        document
        for document in parse_documents(text)
        if document and document["kind"] == "MCPProxy"
    )
    return result


WHOLE: Final = {name: sample(name) for name in OURS}
ALL: Final = {**WHOLE, "every-field": EVERY_FIELD, "autoscaled": AUTOSCALED}


def rendered(source: dict[str, Any]) -> str:
    """All children, in bytes."""
    return json.dumps(desired.build(manifest.parse(source), IN_CLUSTER, OWNER))


@pytest.mark.parametrize("name", ALL)
@settings(deadline=None, max_examples=examples(30))
@given(by=st.randoms(use_true_random=False))
def test_the_order_of_backends_and_keys_changes_no_byte(name: str, by: random.Random) -> None:
    mixed = {**ALL[name], "spec": shuffled(ALL[name]["spec"], by)}
    assert rendered(mixed) == rendered(ALL[name])


@pytest.mark.slow
def test_two_operators_render_the_same_bytes() -> None:
    script = (
        "from tests.desired.test_order import ALL, rendered\n"
        "print(*(rendered(ALL[name]) for name in sorted(ALL)), sep='\\n')"
    )
    path = os.pathsep.join(map(str, (ROOT, ROOT / "operator")))
    texts = [
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": path},
            cwd=Path(ROOT),
            check=True,
            capture_output=True,
            text=True,
        ).stdout.splitlines()
        for seed in ("1", "2")
    ]
    assert texts[0] == texts[1] == [rendered(ALL[name]) for name in sorted(ALL)]


@settings(deadline=None)
@given(st.sets(st.integers(0, 2), min_size=1))
def test_the_process_of_a_backend_does_not_depend_on_other_backends(chosen: set[int]) -> None:
    backends = [EVERY_FIELD["spec"]["backends"][number] for number in sorted(chosen)]
    fewer = {**EVERY_FIELD, "spec": {**EVERY_FIELD["spec"], "backends": backends}}
    whole = {item["name"]: item for item in served(EVERY_FIELD)}
    assert served(fewer) == [
        whole[name] for name in sorted(backend["name"] for backend in backends)
    ]


def served(source: dict[str, Any]) -> list[dict[str, Any]]:
    """The backends as the runtime reads them."""
    children = desired.build(manifest.parse(source), OPTIONS, OWNER)
    (child,) = [item for item in children if item["kind"] == "ConfigMap"]
    backends: list[dict[str, Any]] = json.loads(child["data"][constants.CONFIG_FILE])["spec"][
        "backends"
    ]
    return backends


@settings(deadline=None)
@given(by=st.randoms(use_true_random=False), kept=st.integers(0, 8))
def test_the_order_of_observed_children_does_not_change_the_plan(
    by: random.Random, kept: int
) -> None:
    parent = {"kind": constants.KIND, "metadata": {"name": OWNER.name, "uid": OWNER.uid}}
    children = list(desired.build(manifest.parse(EVERY_FIELD), IN_CLUSTER, OWNER))
    live = [
        {**child, "metadata": {**child["metadata"], "uid": child["kind"], "managedFields": []}}
        for child in children[:kept]
    ]

    def planned(wanted: list[Any], seen: list[Any]) -> object:
        return make_plan(wanted, seen, parent, lambda want, have: False)

    expected = planned(children, live)
    assert planned(by.sample(children, len(children)), by.sample(live, len(live))) == expected
