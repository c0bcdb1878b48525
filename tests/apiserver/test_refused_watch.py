"""Lists and watches that the API server refuses for a while end neither Kopf nor the operator."""

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from mcpproxy.cluster.resources import SERVICE
from tests.apiserver.operator_process import OperatorProcess, starting
from tests.apiserver.server import ApiServer
from tests.apiserver.stage import Stage
from tests.apiserver.wire import Request, Wire, wired

pytestmark = [pytest.mark.apiserver, pytest.mark.timeout(180)]

REFUSED = 3
"""Requests that are refused before the API server answers again."""


@contextmanager
def watching(stage: Stage, directory: Path) -> Iterator[tuple[Wire, OperatorProcess]]:
    """An operator that has created the children of an MCPProxy and has nothing more to do."""
    with ExitStack() as stack:
        wire = stack.enter_context(wired(stage.apiserver, directory / "wire"))
        args = ("--namespace", stage.namespace, "--leader-elect")
        lease = ("--lease-namespace", stage.namespace)
        log = directory / "log"
        operator = stack.enter_context(starting(wire.kubeconfig, *args, *lease, log=log))
        operator.until(lambda: operator.get("/readyz")[0] == 200, "it is ready")
        stage.apply()
        stage.wait("deployment/tools", "create")
        stage.passes_settle(operator)
        yield wire, operator


def of_kopf(request: Request, *, watches: bool) -> bool:
    """Return True for a list or watch of Services by Kopf."""
    ours = request.path.endswith(f"/{SERVICE.plural}") and "kopf" in request.agent.lower()
    return ours and request.watches == watches


def is_watched(stage: Stage, operator: OperatorProcess) -> None:
    """Wait until a change that only a watch can tell of so soon is reverted."""
    operator.until(lambda: operator.get("/readyz")[0] == 200, "it is ready again", 3)
    stage.kubectl("delete", "service/tools")
    stage.wait("service/tools", "create")


@pytest.mark.parametrize("code", [401, 404, 405, 410], ids=str)
def test_a_list_that_is_refused_for_a_while_begins_again(
    apiserver: ApiServer, namespace: str, tmp_path: Path, code: int
) -> None:
    stage, refused = Stage(apiserver, namespace), list[Request]()
    with watching(stage, tmp_path) as (wire, operator):

        def fault(request: Request) -> int | None:
            if len(refused) < REFUSED and of_kopf(request, watches=False):
                refused.append(request)
                return code
            return None

        gone = {"kind": "Status", "status": "Failure", "reason": "Expired", "code": 410}
        line = json.dumps({"type": "ERROR", "object": gone}).encode()
        wire.events = lambda request, event: [line if of_kopf(request, watches=True) else event]
        wire.fault = fault
        stage.kubectl("annotate", "service/tools", "touched=yes")
        operator.until(lambda: bool(refused), "the watch has ended")
        wire.events = None
        operator.until(lambda: len(refused) == REFUSED, "the list was refused")
        is_watched(stage, operator)
    assert "starting again" not in (tmp_path / "log").read_text()


@pytest.mark.parametrize("code", [401, 404, 405], ids=str)
def test_a_watch_that_is_refused_for_a_while_continues(
    apiserver: ApiServer, namespace: str, tmp_path: Path, code: int
) -> None:
    stage, refused = Stage(apiserver, namespace), list[Request]()
    with watching(stage, tmp_path) as (wire, operator):

        def fault(request: Request) -> int | None:
            if len(refused) < REFUSED and of_kopf(request, watches=True):
                refused.append(request)
                return code
            return None

        wire.fault = fault
        wire.sever()
        operator.until(lambda: len(refused) == REFUSED, "the watch was refused")
        is_watched(stage, operator)
    assert "starting again" not in (tmp_path / "log").read_text()


@pytest.mark.parametrize("event", [b'{"type":"ERROR","object":{"code":500}}', b'{"type":"MODIF'])
def test_a_watch_that_ends_with_an_error_does_not_end_the_operator(
    apiserver: ApiServer, namespace: str, tmp_path: Path, event: bytes
) -> None:
    stage, sent = Stage(apiserver, namespace), list[bytes]()
    with watching(stage, tmp_path) as (wire, operator):

        def events(request: Request, line: bytes) -> list[bytes | None]:
            if sent or not of_kopf(request, watches=True):
                return [line]
            sent.append(event)
            return [event, None]

        wire.events = events
        stage.kubectl("annotate", "service/tools", "touched=yes")
        operator.until(lambda: bool(sent), "the watch has failed")
        log = tmp_path / "log"
        operator.until(lambda: "starting again" in log.read_text(), "it starts again", 2)
        is_watched(stage, operator)
