"""Acto: for every field of the CRD good and bad mutations, and a real operator that lives on.

About 100 mutations by default, 1500 with STRESS=1.
"""

import asyncio
import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from unittest import mock

import pytest

from scripts.yaml_files import parse_documents
from tests.acto import mutations
from tests.acto.campaign import OPERATOR_NAMESPACE, Findings, campaign, is_refusal
from tests.acto.mutations import Mutation, Spec
from tests.acto.world import a_world
from tests.apiserver.operator_process import OperatorProcess, operating
from tests.apiserver.server import ApiServer
from tests.samples.test_samples import OURS, SAMPLES, fields
from tests.stress.size import WHOLE, size
from tests.support.crd import spec_schema
from tests.support.every_field import AUTOSCALED, EVERY_FIELD

pytestmark = [pytest.mark.apiserver, pytest.mark.timeout(900)]


def bases() -> dict[str, Spec]:
    """Good specs that have all fields between them."""
    result: dict[str, Any] = {
        name: next(
            document["spec"]
            for document in parse_documents((SAMPLES / f"{name}.yaml").read_text("utf-8"))
            if document and document["kind"] == "MCPProxy"
        )
        for name in OURS
    }
    return {**result, "every field": EVERY_FIELD["spec"], "autoscaled": AUTOSCALED["spec"]}


def chosen() -> list[Mutation]:
    """The mutations of this run."""
    every = mutations.mutations(spec_schema(), bases())
    return mutations.chosen(every, size(100, 1500), each=size(0, 2))


@dataclass(frozen=True, slots=True)
class Run:
    """The campaign that was."""

    findings: Findings
    operator: OperatorProcess
    errors: float
    log: str


@pytest.fixture(scope="module")
def run(apiserver: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """A campaign with an operator that runs on."""
    log = tmp_path_factory.mktemp("operator") / "log"

    async def go() -> Findings:
        async with a_world(apiserver) as world:
            return await campaign(world, bases(), chosen())

    with (
        # As in its own pod: the NetworkPolicy of a proxy names its namespace.
        mock.patch.dict(os.environ, {"POD_NAMESPACE": OPERATOR_NAMESPACE}),
        operating(apiserver.kubeconfig, log=log) as operator,
    ):
        findings = asyncio.run(go())
        print(findings.verdicts, findings.problems, f"{findings.returns} returns")  # noqa: T201
        yield Run(findings, operator, operator.errors, log.read_text())


def test_every_field_of_the_crd_is_mutated() -> None:
    every = mutations.mutations(spec_schema(), bases())
    assert set(fields(spec_schema())) - {item.field for item in every} == set()
    assert len(every) > 5000
    if WHOLE:
        assert {entry.field for entry in chosen()} == {element.field for element in every}


def test_every_mutation_is_judged(run: Run) -> None:
    assert run.findings.stuck == []
    assert sum(run.findings.verdicts.values()) == len(chosen()) >= size(100, 1500)
    assert run.findings.verdicts["refused"] > run.findings.verdicts["reflected"] > 0
    assert run.findings.verdicts["conditioned"] > 0 or not WHOLE


def test_refused_and_unusable_input_is_named(run: Run) -> None:
    assert run.findings.unnamed == []


@pytest.mark.parametrize(
    ("verb", "status", "message", "refused"),
    [
        ("replace", 422, "spec.url: Invalid value", True),
        ("apply", 400, 'strict decoding error: unknown field "spec.a"', True),
        ("apply", 500, "failed to create typed patch object (n/tools): .spec: expected map", True),
        ("replace", 500, "failed to create typed patch object (n/tools): .spec: expected", False),
        ("apply", 500, "rpc error: the evaluation of spec.url took too long", False),
        ("replace", 500, "Internal error: spec.url", False),
        ("replace", 503, "spec.url", False),
    ],
)
def test_a_failure_of_the_api_server_is_not_a_refusal(
    verb: str, status: int, message: str, refused: bool
) -> None:
    assert is_refusal(verb, status, message) == refused


def test_an_accepted_field_appears_in_the_children(run: Run) -> None:
    assert run.findings.not_reflected == []


def test_the_children_are_independent_of_earlier_specs(run: Run) -> None:
    assert run.findings.by_the_way == []


def test_a_corrected_spec_restores_the_children_and_conditions(run: Run) -> None:
    assert run.findings.returns > 0
    assert run.findings.not_back == []


def test_the_operator_neither_crashes_nor_sticks(run: Run) -> None:
    run.operator.until(lambda: run.operator.number(DEPTH) == 0, "the queue is empty")
    assert run.errors == 0
    assert '"level": "error"' not in run.log


DEPTH = 'workqueue_depth{controller="mcpproxy",name="mcpproxy"}'
