"""Every metric, label and value that manifests/monitoring names is what both programs serve."""

import asyncio
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp import Client

from mcpproxy.cluster.errors import ClusterError
from mcpproxy.desired import build
from mcpproxy.proxy.core.errors import BackendError
from scripts.yaml_files import parse_documents, parse_yaml
from tests.apiserver.operator_process import OperatorProcess, operating
from tests.apiserver.server import ApiServer
from tests.apiserver.stage import Stage
from tests.support import dashboards
from tests.support.builders import OPTIONS, OWNER, an_mcpproxy
from tests.support.promql import Offer, selectors, target_labels

pytestmark = pytest.mark.apiserver

ROOT = Path(__file__).parents[2]
MONITORING = ROOT / "manifests" / "monitoring"
RESULTS = frozenset({"ok", *(error.result for error in ClusterError.__subclasses__())})
"""Status codes with which a write of the operator may end."""
OUTCOMES = frozenset(
    {"", "tool_error", "cancelled", *(error.reason for error in BackendError.__subclasses__())}
)
"""Status codes with which a call may end."""
OF_OPERATOR = ("mcpproxy_operator_", "controller_runtime_", "workqueue_", "leader_", "process_")


def expressions() -> list[str]:
    """All that the rules and the dashboard ask for."""
    rules = parse_yaml((MONITORING / "rules.yaml").read_text(encoding="utf-8"))
    shown = dashboards.load()["templating"]["list"]
    variables = [item["query"] for item in shown if item["type"] == "query"]
    return [
        *(rule["expr"] for group in rules["spec"]["groups"] for rule in group["rules"]),
        *dashboards.queries(),
        *(query.removeprefix("label_values(").rpartition(",")[0] for query in variables),
    ]


def bundled(name: str) -> dict[str, Any]:
    """A PodMonitor of manifests/monitoring."""
    monitors = parse_documents((MONITORING / "podmonitors.yaml").read_text(encoding="utf-8"))
    result: dict[str, Any] = next(
        monitor for monitor in monitors if monitor["metadata"]["name"] == name
    )
    return result


def of_one_proxy() -> dict[str, Any]:
    """The PodMonitor of an MCPProxy that asks for one."""
    proxy = an_mcpproxy(monitoring={"podMonitor": {}})
    return next(item for item in build(proxy, OPTIONS, OWNER) if item["kind"] == "PodMonitor")


def asked(of_proxies: bool) -> list[str]:
    """The expressions that speak of the proxies, or of the operator."""
    return [
        expression
        for expression in expressions()
        if any(selector.name.startswith(OF_OPERATOR) for selector in selectors(expression))
        != of_proxies
    ]


def test_alerts_use_existing_metrics_of_the_operator(
    apiserver: ApiServer, namespace: str, tmp_path: Path
) -> None:
    stage = Stage(apiserver, namespace)
    args = ("--namespace", namespace, "--leader-elect", "--lease-namespace", namespace)
    with stage.pod() as pod, operating(apiserver.kubeconfig, *args, log=tmp_path / "log") as result:
        stage.become_ready(pod)
        added = target_labels(bundled("mcpproxy-operator"))
        offer = Offer.of(result.get("/metrics")[1], added, {"result": RESULTS})
    wanted = asked(of_proxies=False)
    assert len(wanted) > 12
    assert [lack for item in wanted for lack in offer.lacks(item)] == []


@contextmanager
def a_proxy() -> Iterator[tuple[str, OperatorProcess]]:
    """The runtime in front of a server of the samples, ready: its endpoint and its admin port."""
    ports = []
    for _ in range(2):
        with socket.create_server(("127.0.0.1", 0)) as server:
            ports.append(server.getsockname()[1])
    command = [
        *(sys.executable, "-c", "import sys; from mcpproxy.cli import main; sys.exit(main())"),
        *("run", str(ROOT / "samples" / "servers" / "notes.py"), "--transport", "http"),
        *("--port", str(ports[0]), "--admin-port", str(ports[1])),
    ]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL, text=True)
    proxy = OperatorProcess(process, ports[1])
    try:
        proxy.until(lambda: proxy.get("/readyz")[0] == 200, "the proxy is ready")
        yield f"http://127.0.0.1:{ports[0]}/mcp", proxy
    finally:
        process.terminate()
        process.wait(10)


async def call_a_tool(url: str) -> None:
    """Call the first tool that there is."""
    async with Client(url) as client:
        tools = (await client.list_tools()).tools
        await client.call_tool(tools[0].name, {"text": "olives"})


def test_alerts_use_existing_metrics_of_the_proxies() -> None:
    with a_proxy() as (url, proxy):
        asyncio.run(call_a_tool(url))
        text = proxy.get("/metrics")[1]
    wanted = asked(of_proxies=True)
    assert len(wanted) > 8
    for monitor in (bundled("mcpproxy-proxies"), of_one_proxy()):
        offer = Offer.of(text, target_labels(monitor), {"error_type": OUTCOMES})
        assert [lack for item in wanted for lack in offer.lacks(item)] == []
