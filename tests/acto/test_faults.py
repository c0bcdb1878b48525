"""Each read and write of the operator fails in each way: its status tells, and all heals.

Every operation in one way by default, in all with STRESS=1.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.acto.faults import ADMISSION, CODES, Operation, Way, operations, policy, webhook
from tests.acto.matrix import Matrix
from tests.apiserver.operator_process import operating
from tests.apiserver.server import ApiServer
from tests.apiserver.wire import wired
from tests.stress.size import FULL

pytestmark = [pytest.mark.apiserver, pytest.mark.timeout(600)]

EVERY = operations()
WRITES = [operation for operation in EVERY if operation.writes]


@pytest.fixture(scope="module")
def matrix(apiserver: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Matrix]:
    """MCPProxies that are brought about, and an operator for all tests."""
    directory = tmp_path_factory.mktemp("faults")
    with ExitStack() as stack:
        wire = stack.enter_context(wired(apiserver, directory))
        operator = stack.enter_context(operating(wire.kubeconfig, log=directory / "log"))
        client = stack.enter_context(apiserver.client())
        found = Matrix(client, wire, operator, EVERY)
        found.begin()
        yield found


def rounds() -> list[dict[Operation, Way]]:
    """Return the ways in which operations fail at the same time."""
    count = len(CODES) if FULL else 1
    return [
        {operation: CODES[(place + turn) % len(CODES)] for place, operation in enumerate(EVERY)}
        for turn in range(count)
    ]


def test_the_matrix_has_every_verb_and_kind_of_the_role() -> None:
    assert len({operation.namespace for operation in EVERY}) == len(EVERY) > 25
    assert {operation.verb for operation in EVERY} == {"get", "list", "create", "patch", "delete"}
    assert {way for cells in rounds() for way in cells.values()} == set(CODES)


@pytest.mark.parametrize("cells", rounds(), ids=lambda cells: str(next(iter(cells.values()))))
def test_a_request_that_fails_is_told_and_heals(
    matrix: Matrix, cells: dict[Operation, Way]
) -> None:
    matrix.round(cells)
    assert matrix.findings.silent == []
    assert matrix.findings.not_healed == []
    assert matrix.findings.hot == []


@pytest.mark.parametrize("way", ADMISSION if FULL else ADMISSION[:1])
def test_a_write_that_admission_refuses_is_told_and_heals(
    matrix: Matrix, apiserver: ApiServer, way: str
) -> None:
    objects: dict[str, Callable[[Operation], Any]] = {
        "webhook": lambda operation: [webhook(operation)],
        "policy": policy,
    }

    def admission(operation: Operation, begins: bool) -> None:
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects[way](operation)})
        verb = ("apply", "--server-side") if begins else ("delete", "--wait=false")
        answer = apiserver.kubectl(*verb, "-f", "-", input=text)
        assert answer.returncode == 0, answer.stderr

    matrix.round(dict.fromkeys(WRITES, way), admission)
    assert matrix.findings.silent == []
    assert matrix.findings.not_healed == []
    assert matrix.findings.hot == []
