"""The operator as a process, and pods that a test plays."""

import errno
import json
import random
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from mcpproxy.api import constants
from mcpproxy.api.v1alpha1.status import PodReport
from mcpproxy.controller.kopf_settings import STOP_SECONDS
from mcpproxy.proxy.admin.watchers import KEEP_ALIVE

IMAGE = "mcpproxy-runtime:1"
_ATTEMPTS = 400


@dataclass(frozen=True, slots=True)
class OperatorProcess:
    """A running operator."""

    process: subprocess.Popen[str]
    port: int

    def get(self, path: str) -> tuple[int, str]:
        """Status and text of one of its endpoints; 0 while nothing listens."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=5) as result:
                return result.status, result.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def number(self, metric: str) -> float:
        """The value of one metric, labels included in its name."""
        for line in self.get("/metrics")[1].splitlines():
            name, _, value = line.rpartition(" ")
            if name == metric:
                return float(value)
        return 0.0

    @property
    def passes(self) -> float:
        """Number of completed passes."""
        return self.number('controller_runtime_reconcile_time_seconds_count{controller="mcpproxy"}')

    @property
    def errors(self) -> float:
        """Number of failed passes."""
        return self.number('controller_runtime_reconcile_errors_total{controller="mcpproxy"}')

    @property
    def followed(self) -> float:
        """Number of watched pods."""
        return self.number('mcpproxy_operator_pod_streams{state="followed"}')

    @property
    def leads(self) -> bool:
        """Return True if the operator reports that it is the leader."""
        return self.number('leader_election_master_status{name="mcpproxy-operator"}') == 1

    def wait(self, seconds: float = 0.05) -> None:
        """Let it work a little; fails if it ends."""
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return
        raise AssertionError(f"the operator ended with {self.process.returncode}")

    def wait_or_end(self, seconds: float = 0.05) -> None:
        """Let it work a little, or end."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(seconds)

    def until(self, is_so: Callable[[], bool], what: str, times: int = 1) -> None:
        """Wait for something, 20 seconds at the most, or several times that."""
        for _ in range(_ATTEMPTS * times):
            if is_so():
                return
            self.wait()
        raise AssertionError(f"in vain: {what}")


@contextmanager
def starting(kubeconfig: Path, *args: str, log: Path) -> Iterator[OperatorProcess]:
    """Start the operator; its process is gone when the block ends."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    command = [
        *(sys.executable, "-c", "import sys; from mcpproxy.cli import main; sys.exit(main())"),
        *("operator", "--kubeconfig", str(kubeconfig), "--image", IMAGE),
        *("--pod-access", "direct", "--health-port", str(port), *args),
    ]
    with log.open("a") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=stream, text=True)
        try:
            yield OperatorProcess(process, port)
        finally:
            process.kill()
            process.wait()


@contextmanager
def operating(kubeconfig: Path, *args: str, log: Path) -> Iterator[OperatorProcess]:
    """Run the operator until the block ends; then it must stop by itself in time."""
    with starting(kubeconfig, *args, log=log) as operator:
        operator.until(lambda: operator.get("/readyz")[0] == 200, "the operator is ready")
        yield operator
        operator.process.terminate()
        assert operator.process.wait(STOP_SECONDS) == 0


def _on_loopback(handler: type[BaseHTTPRequestHandler]) -> ThreadingHTTPServer:
    """The port of all pods, at an address that no other test has."""
    while True:
        address = ".".join(["127", *(str(random.randint(1, 250)) for _ in range(3))])
        try:
            return ThreadingHTTPServer((address, constants.PORT_ADMIN), handler)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise


class StatusServer:
    """The admin port of a pod, at an address of its own: streams its newest report at
    /status?watch."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._line = b""
        self._stopped = False
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.stream(self)

            def log_message(self, *_: object) -> None:
                return

        self._server = _on_loopback(Handler)
        self.address = str(self._server.server_address[0])
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def say(self, report: PodReport) -> None:
        """Send this report to all who listen, now and later."""
        with self._changed:
            self._line = json.dumps(report.to_manifest()).encode() + b"\n"
            self._changed.notify_all()

    def stream(self, request: BaseHTTPRequestHandler) -> None:
        """Answer one request."""
        request.send_response(200)
        request.end_headers()
        sent = b""
        while (line := self._next(sent)) is not None:
            try:
                # A pod that has nothing new to say shows that it is there.
                request.wfile.write(line if line != sent else b"\n")
            except OSError:
                return
            sent = line

    def _next(self, sent: bytes) -> bytes | None:
        with self._changed:
            self._changed.wait_for(lambda: self._stopped or self._line != sent, KEEP_ALIVE)
            return None if self._stopped else self._line

    def stop(self) -> None:
        """End all streams."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
