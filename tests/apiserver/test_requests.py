"""The number of requests that proxies cost at a real API server."""

from contextlib import ExitStack
from functools import partial
from pathlib import Path

import pytest

from mcpproxy.cluster.resources import DEPLOYMENT, MCP_PROXY, REPLICA_SET
from tests.apiserver.operator_process import OperatorProcess, StatusServer, operating
from tests.apiserver.server import ApiServer
from tests.apiserver.test_idle import Crowd
from tests.apiserver.wire import Wire, wired

pytestmark = pytest.mark.apiserver

NAME = "proxy-00"


def reads(wire: Wire) -> list[str]:
    """The reads so far, other than those of watches."""
    return [
        request.path
        for request in wire.requests
        if request.method == "GET" and "kopf" not in request.agent.lower() and not request.watches
    ]


def has_passed(operator: OperatorProcess, passes: float) -> bool:
    """Return True if more passes have ended."""
    return operator.passes > passes


def has_told_status(wire: Wire) -> bool:
    """Return True once the operator wrote a status."""
    return any(write.endswith("/status") for write in wire.writes())


def settle(operator: OperatorProcess) -> None:
    """Wait until no pass follows another."""
    count = -1.0
    while operator.passes != count:
        count = operator.passes
        operator.wait(1)


def test_a_new_proxy_takes_seven_writes_two_reads_and_a_pass_at_rest_no_request(
    apiserver: ApiServer, namespace: str, tmp_path: Path
) -> None:
    served = ("--namespace", namespace, "--resync-interval", "10m")
    with ExitStack() as stack:
        wire = stack.enter_context(wired(apiserver, tmp_path))
        client = stack.enter_context(apiserver.client())
        operator = stack.enter_context(operating(wire.kubeconfig, *served, log=tmp_path / "log"))
        crowd = Crowd(client, namespace, operator)
        operator.until(lambda: operator.get("/readyz")[0] == 200, "it has listed all kinds")
        started = len(reads(wire))
        crowd.create(NAME, 0)
        pod = StatusServer()
        stack.callback(pod.stop)
        operator.until(partial(has_told_status, wire), "the first status")
        settle(operator)
        # How many states of the pod the operator sees depends on the machine: it sees the last one.
        wire.holds = lambda request: request.watches
        crowd.begin(NAME, pod)
        wire.holds = lambda request: False
        operator.until(lambda: crowd.is_ready(NAME), "it is Ready")
        settle(operator)
        writes = wire.writes()
        kinds = sorted(write.rpartition("/")[2] for write in writes)
        assert len(writes) <= 7, kinds
        ours = [path for path in reads(wire)[started:] if path.endswith((NAME, REPLICA_SET.plural))]
        assert sorted(ours) == sorted(
            [DEPLOYMENT.path(namespace, NAME), REPLICA_SET.path(namespace)]
        )
        before = len(reads(wire))
        for number in range(5):
            passes = operator.passes
            patch = {"metadata": {"labels": {"round": str(number)}}}
            crowd.patch(MCP_PROXY, NAME, "", patch)
            operator.until(partial(has_passed, operator, passes), "another pass")
        settle(operator)
        assert reads(wire)[before:] == []
        assert wire.writes() == writes
