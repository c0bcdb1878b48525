"""A namespace in deletion takes its proxies with it in silence."""

import json
from pathlib import Path

import pytest

from mcpproxy.cluster.resources import MCP_PROXY, SERVICE
from tests.apiserver.operator_process import operating
from tests.apiserver.server import ApiServer
from tests.apiserver.stage import Stage
from tests.apiserver.wire import wired
from tests.support.builders import a_manifest

pytestmark = pytest.mark.apiserver

COUNT = 30
REFUSED = 'mcpproxy_operator_writes_total{kind="%s",result="Ending",verb="%s"}'


def test_a_namespace_that_is_deleted_refuses_one_write_for_each_proxy_and_nothing_is_logged(
    apiserver: ApiServer, namespace: str, tmp_path: Path
) -> None:
    stage, log = Stage(apiserver, namespace), tmp_path / "log"
    proxies = [f"proxy-{number}" for number in range(COUNT)]
    served = ("--namespace", namespace)
    with (
        wired(apiserver, tmp_path) as wire,
        apiserver.client() as client,
        operating(wire.kubeconfig, *served, log=log) as operator,
    ):
        for name in proxies:
            answer = client.post(MCP_PROXY.path(namespace), json=a_manifest(name, namespace))
            assert answer.status_code == 201, answer.text

        def services() -> int:
            return len(client.get(SERVICE.path(namespace)).json()["items"])

        def ready(reason: str) -> int:
            items = client.get(MCP_PROXY.path(namespace)).json()["items"]
            conditions = [item.get("status", {}).get("conditions", []) for item in items]
            return sum(
                ("Ready", reason) in {(entry["type"], entry["reason"]) for entry in condition}
                for condition in conditions
            )

        operator.until(lambda: services() == COUNT, "all have Services", times=2)
        operator.until(lambda: ready("PodsNotReady") == COUNT, "all are reported on", times=2)
        stage.kubectl("delete", "namespace", namespace, "--wait=false")
        # The controller of namespaces, which does not run here, deletes what there is.
        assert client.delete(SERVICE.path(namespace)).is_success
        operator.until(lambda: ready("Terminating") == COUNT, "all are Terminating", times=2)
        for name in proxies:
            stage.kubectl("label", f"mcpproxy/{name}", "touched=yes")
        refused = sum(
            operator.number(REFUSED % (kind, verb))
            for kind in ("Service", "Secret", "Event", "ConfigMap", "Deployment", "ServiceAccount")
            for verb in ("apply", "create")
        )
        assert refused == COUNT
        assert client.delete(MCP_PROXY.path(namespace)).is_success
        operator.until(lambda: operator.number(DEPTH) == 0, "the queue is empty")
        assert operator.errors == 0
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line for line in lines if line["level"] in ("warning", "error")] == []


DEPTH = 'workqueue_depth{controller="mcpproxy",name="mcpproxy"}'
