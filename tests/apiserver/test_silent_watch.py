"""A watch that falls silent is noticed, of whatever kind, and what it misses is reconciled."""

from contextlib import ExitStack
from pathlib import Path

import pytest

from mcpproxy.cluster.resources import CONFIG_MAP, POD, SERVICE, ResourceKind
from mcpproxy.controller.kopf_watches import SELECTORS
from tests.apiserver.operator_process import OperatorProcess, starting
from tests.apiserver.server import ApiServer
from tests.apiserver.stage import Stage
from tests.apiserver.wire import Request, Wire, wired
from tests.support.on_demand import ASKED

pytestmark = pytest.mark.apiserver


def cut(wire: Wire, kind: ResourceKind) -> None:
    """Let no list and no watch of a kind through to Kopf; who else asks is answered."""

    def holds(request: Request) -> bool:
        return request.path.endswith(f"/{kind.plural}") and "kopf" in request.agent.lower()

    wire.holds = holds


def touch(stage: Stage, kind: ResourceKind) -> None:
    """Change an object of a kind in a way that asks for nothing."""
    names = {CONFIG_MAP: stage.config_map(), POD: "tools-1"}
    stage.kubectl("annotate", kind.plural, names.get(kind, "tools"), "touched=yes")


def probe(operator: OperatorProcess, path: str, kind: ResourceKind) -> bool:
    """Return True if a probe fails and names the kind."""
    status, text = operator.get(path)
    return status == 503 and kind.plural in text


@pytest.mark.parametrize("kind", SELECTORS, ids=lambda kind: kind.plural)
def test_a_silent_watch_fails_the_probes(
    apiserver: ApiServer, namespace: str, tmp_path: Path, kind: ResourceKind
) -> None:
    stage = Stage(apiserver, namespace)
    args = ("--namespace", namespace, "--resync-interval", "1s")
    with ExitStack() as stack:
        wire = stack.enter_context(wired(apiserver, tmp_path / "wire"))
        pod = stack.enter_context(stage.pod())
        operator = stack.enter_context(starting(wire.kubeconfig, *args, log=tmp_path / "log"))
        operator.until(lambda: operator.get("/readyz")[0] == 200, "it is ready")
        if kind in ASKED:
            stage.apply(**ASKED[kind])
            stage.wait(f"{kind.plural}/tools", "create")
        else:
            stage.become_ready(pod)
        cut(wire, kind)
        touch(stage, kind)
        operator.until(lambda: probe(operator, "/readyz", kind), "it is not ready any more")
        assert probe(operator, "/livez", kind)
        behind = f'mcpproxy_operator_watch_behind_seconds{{resource="{kind.plural}"}}'
        assert operator.number(behind) >= 1


def test_changes_missed_by_a_silent_watch_are_still_reverted(
    apiserver: ApiServer, namespace: str, tmp_path: Path
) -> None:
    stage = Stage(apiserver, namespace)
    args = ("--namespace", namespace, "--resync-interval", "1s")
    with ExitStack() as stack:
        wire = stack.enter_context(wired(apiserver, tmp_path / "wire"))
        operator = stack.enter_context(starting(wire.kubeconfig, *args, log=tmp_path / "log"))
        operator.until(lambda: operator.get("/readyz")[0] == 200, "it is ready")
        stage.apply()
        stage.wait("service/tools", "create")
        stage.passes_settle(operator)
        cut(wire, SERVICE)
        stage.kubectl("delete", "service/tools")
        operator.until(lambda: bool(stage.find("service/tools")), "the Service is back")
