"""Each read and write of the operator fails in each way: its status tells, and all heals.

Every operation in one way by default, in all with STRESS=1, in every third with STRESS=3.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.acto.faults import ADMISSION, CODES, Operation, Way, operations, policy, quota, webhook
from tests.acto.matrix import Matrix
from tests.apiserver.operator_process import operating, starting
from tests.apiserver.server import ApiServer
from tests.apiserver.stage import Stage
from tests.apiserver.wire import Request, wired
from tests.stress.size import some

pytestmark = [pytest.mark.apiserver, pytest.mark.timeout(600)]

EVERY = operations()
FROM_THE_WATCH = {"fault-get-mcpproxies", "fault-list-configmaps", "fault-list-pods"}
"""Operations that a pass does not need while the watches are complete."""
WRITES = [operation for operation in EVERY if operation.writes]


NUMBERS = count(1)
RESTARTING = ("hang", 409, 410, 422)
"""Failures of a watch after which each try takes long; after the refusals, Kopf starts again."""
WATCH_TRIES = 5
"""Failures in a row of each watch; what waits 10 s then, waits for minutes later on."""


@pytest.fixture
def matrix(apiserver: ApiServer, tmp_path: Path) -> Iterator[Matrix]:
    """MCPProxies that are brought about, by an operator that has seen nobody delete a child."""
    with ExitStack() as stack:
        wire = stack.enter_context(wired(apiserver, tmp_path))
        operator = stack.enter_context(operating(wire.kubeconfig, log=tmp_path / "log"))
        client = stack.enter_context(apiserver.client())
        result = Matrix(client, wire, operator, EVERY, next(NUMBERS))
        result.begin()
        yield result


def rounds() -> list[dict[Operation, Way]]:
    """Return the ways in which operations fail at the same time."""
    turns = some(range(len(CODES)), range(1))
    return [
        {operation: CODES[(place + turn) % len(CODES)] for place, operation in enumerate(EVERY)}
        for turn in turns
    ]


def test_the_matrix_has_every_verb_and_kind_of_the_role() -> None:
    assert len({operation.namespace for operation in EVERY}) == len(EVERY) > 20
    assert {operation.verb for operation in EVERY} == {"get", "list", "create", "patch", "delete"}
    assert {way for cells in rounds() for way in cells.values()} == set(CODES)


@pytest.mark.parametrize("cells", rounds(), ids=lambda cells: str(next(iter(cells.values()))))
def test_a_failed_request_is_reported_and_recovers(
    matrix: Matrix, cells: dict[Operation, Way]
) -> None:
    matrix.round(cells)
    assert {operation.namespace for operation in cells} - matrix.findings.met <= FROM_THE_WATCH
    assert matrix.findings.silent == []
    assert matrix.findings.not_healed == []
    assert matrix.findings.hot == []


@pytest.mark.parametrize("way", some(CODES, (500, "cut")))
def test_failed_lists_stop_neither_passes_nor_the_operator(
    apiserver: ApiServer, namespace: str, tmp_path: Path, way: Way
) -> None:
    """Lists beside the watches, of every kind."""
    stage = Stage(apiserver, namespace)
    served = ("--namespace", namespace, "--resync-interval", "1s")
    with ExitStack() as stack:
        wire = stack.enter_context(wired(apiserver, tmp_path))
        log = tmp_path / "log"
        operator = stack.enter_context(operating(wire.kubeconfig, *served, log=log))
        stage.apply()
        stage.wait("deployment/tools", "create")
        failed = []

        def fault(request: Request) -> Way | None:
            whole = request.path.endswith(f"/namespaces/{namespace}/services")
            if request.method != "GET" or request.watches or not whole:
                return None
            failed.append(request)
            return way

        wire.fault = fault
        operator.until(lambda: bool(failed), "a list fails")
        stage.kubectl("delete", "service/tools")
        operator.until(lambda: stage.find("service/tools") is not None, "it is back")
        wire.fault = lambda request: None
        stage.kubectl("delete", "service/tools")
        operator.until(lambda: stage.find("service/tools") is not None, "it is back again")
        operator.until(lambda: operator.get("/readyz")[0] == 200, "the operator is ready")
        assert operator.errors == 0
    text = log.read_text()
    assert text.count("the list of services failed") <= 1, text


@pytest.mark.parametrize("way", some(CODES, (403, 410)))
def test_watches_that_fail_repeatedly_are_restarted_with_backoff(
    apiserver: ApiServer, namespace: str, tmp_path: Path, way: Way
) -> None:
    """Of every kind, with the lists that they begin with, in every namespace."""
    stage = Stage(apiserver, namespace)
    with ExitStack() as stack:
        wire = stack.enter_context(wired(apiserver, tmp_path))
        first = stack.enter_context(starting(wire.kubeconfig, log=tmp_path / "log"))
        first.until(lambda: first.get("/readyz")[0] == 200, "the operator is ready")
        stage.apply()
        stage.wait("service/tools", "create")
        stage.passes_settle(first)
        failed = Counter[str]()

        def fault(request: Request) -> Way | None:
            if request.method != "GET" or "kopf" not in request.agent.lower():
                return None
            failed[request.path] += 1
            return way

        wire.fault = fault
        wire.sever()
        tries = 1 if way in RESTARTING else WATCH_TRIES
        first.until(lambda: min(failed.values(), default=0) >= tries, "watches fail", 3)
        stage.kubectl("delete", "service/tools")
        wire.fault = lambda request: None
        first.until(lambda: stage.find("service/tools") is not None, "it is back")
        first.until(lambda: first.get("/readyz")[0] == 200, "the operator is ready")


@pytest.mark.parametrize("way", some(ADMISSION, ADMISSION[:1]))
def test_a_write_that_admission_refuses_is_reported_and_recovers(
    matrix: Matrix, apiserver: ApiServer, way: str
) -> None:
    objects: dict[str, Callable[[Operation], Any]] = {
        "webhook": lambda operation: [webhook(operation)],
        "policy": policy,
        "quota": lambda operation: [quota(operation)],
    }

    def admission(operation: Operation, begins: bool) -> None:
        text = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects[way](operation)})
        verb = ("apply", "--server-side") if begins else ("delete", "--wait=false")
        answer = apiserver.kubectl(*verb, "-f", "-", input=text)
        assert answer.returncode == 0, answer.stderr
        if begins and way == "quota":
            counted = ("apply", "--server-side", "--subresource=status", "-f", "-")
            assert apiserver.kubectl(*counted, input=text).returncode == 0

    creations = [write for write in WRITES if write.verb != "delete" and not write.of_status]
    refused = creations if way == "quota" else WRITES
    matrix.round(dict.fromkeys(refused, way), admission)
    assert matrix.findings.silent == []
    assert matrix.findings.not_healed == []
    assert matrix.findings.hot == []
