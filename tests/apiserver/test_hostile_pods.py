"""One operator beside hostile pods: they hurt nobody, whoever's labels they have."""

import json
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mcpproxy.api import constants
from mcpproxy.cluster.resources import DEPLOYMENT
from tests.apiserver.operator_process import operating
from tests.apiserver.server import ApiServer
from tests.apiserver.stage import Stage

pytestmark = [pytest.mark.apiserver, pytest.mark.timeout(180)]

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\n\r\n"
HOSTILE = 3


class Flood:
    """The admin port of all pods at an address of its own; sends blank lines without end."""

    def __init__(self) -> None:
        self._listener = self._listen()
        self.address = str(self._listener.getsockname()[0])
        self.connections = 0
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    @staticmethod
    def _listen() -> socket.socket:
        while True:
            address = ".".join(["127", *(str(1 + item % 250) for item in os.urandom(3))])
            try:
                return socket.create_server((address, constants.PORT_ADMIN))
            except OSError:
                continue

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(connection)
            thread = threading.Thread(target=self._flood, args=(connection,))
            self._threads.append(thread)
            thread.start()

    @staticmethod
    def _flood(connection: socket.socket) -> None:
        with connection:
            try:
                connection.recv(4096)
                connection.sendall(HEAD)
                while True:
                    connection.sendall(b"\n" * 65536)
            except OSError:
                return

    def stop(self) -> None:
        """Close everything."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._threads[0].join()
        for connection in self._open:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue
        for thread in self._threads[1:]:
            thread.join()


@contextmanager
def flood() -> Iterator[Flood]:
    """Pods of one address that send without end."""
    result = Flood()
    try:
        yield result
    finally:
        result.stop()


@contextmanager
def neighbour(apiserver: ApiServer, stage: Stage) -> Iterator[Stage]:
    """Another tenant's namespace."""
    name = f"{stage.namespace}-b"
    apiserver.kubectl("create", "namespace", name)
    try:
        yield Stage(apiserver, name)
    finally:
        apiserver.kubectl("delete", "namespace", name, "--wait=false")


def put_pods(stage: Stage, address: str, owner: dict[str, Any] | None) -> None:
    """Create running pods with the labels of `tools` and, if it is given, this owner."""
    labels = constants.selector_labels("tools")
    references = {} if owner is None else {"ownerReferences": [owner]}
    for number in range(HOSTILE):
        name = f"hostile-{number}"
        manifest = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": labels, **references},
            "spec": {
                "containers": [{"name": "c", "image": "x"}],
                "serviceAccountName": "tools",
                "automountServiceAccountToken": False,
            },
        }
        stage.kubectl("create", "-f", "-", input=json.dumps(manifest))
        stage.patch_status(f"pod/{name}", phase="Running", podIP=address, podIPs=[{"ip": address}])


def test_pods_with_our_labels_alone_are_never_connected_to(
    apiserver: ApiServer, namespace: str, tmp_path: Path
) -> None:
    stage = Stage(apiserver, namespace)
    with flood() as hostile, stage.pod() as pod:
        served = (apiserver.kubeconfig, "--namespace", namespace)
        with operating(*served, log=tmp_path / "log") as operator:
            stage.become_ready(pod)
            put_pods(stage, hostile.address, None)
            stage.passes_settle(operator)
            assert operator.followed == 1
            assert hostile.connections == 0


def test_pods_that_claim_our_replica_set_delay_no_other_tenant(
    apiserver: ApiServer, namespace: str, tmp_path: Path
) -> None:
    stage = Stage(apiserver, namespace)
    with neighbour(apiserver, stage) as other, flood() as hostile, other.pod() as pod:
        served = ("--namespace", namespace, "--namespace", other.namespace)
        with operating(apiserver.kubeconfig, *served, log=tmp_path / "log") as operator:
            stage.apply()
            stage.wait("deployment/tools", "create")
            owner = stage.replica_set(stage.get("deployment/tools"))
            put_pods(stage, hostile.address, owner)
            operator.until(lambda: hostile.connections >= HOSTILE, "the hostile pods are asked")
            other.become_ready(pod)
            assert operator.get("/livez")[0] == 200
            text = operator.get("/metrics")[1]
            assert 'mcpproxy_operator_limit_reached_total{limit="pod-lines"}' in text
            lines = operator.number('mcpproxy_operator_limit_reached_total{limit="pod-lines"}')
            assert lines >= 1
            assert other.find(f"{DEPLOYMENT.plural}/tools") is not None
