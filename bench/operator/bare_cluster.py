"""A cluster without machines for one measurement, and the processes that are measured."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from scripts.machine import KIND_UP, ROOT

BARE: Final = KIND_UP.parent.parent / "kind-addons" / "bare-cluster"
_TICKS: Final = os.sysconf("SC_CLK_TCK")
_KIB: Final = 1024
_START: Final = 300.0
"""Seconds that the operator may take to start."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """A running cluster."""

    kubeconfig: Path
    apiserver: int
    """The process id of the API server."""


@dataclass(frozen=True, slots=True)
class OperatorUnderTest:
    """A running operator."""

    process: subprocess.Popen[bytes]
    port: int

    def is_ready(self) -> bool:
        """Return True if the probe of readiness succeeds."""
        try:
            with urllib.request.urlopen(self._url("/readyz"), timeout=10):
                return True
        except OSError:
            return False

    def metrics(self) -> dict[str, float]:
        """Return all metrics, by their names with labels."""
        with urllib.request.urlopen(self._url("/metrics"), timeout=10) as answer:
            lines = answer.read().decode().splitlines()
        pairs = (line.rpartition(" ") for line in lines if not line.startswith("#"))
        return {name: float(value) for name, _, value in pairs}

    def _url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"


def missing() -> str | None:
    """Return what this machine lacks for the measurement; None if it lacks nothing."""
    if not BARE.exists():
        return f"{BARE}: starts an API server without machines"
    if shutil.which("openssl") is None:
        return "openssl: makes the keys of the API server"
    return None


@contextmanager
def bare_cluster(directory: Path) -> Iterator[Cluster]:
    """Start a cluster whose data and logs are in `directory`; it ends with the block."""
    subprocess.run([BARE, "start", directory, "10"], check=True, stdout=subprocess.DEVNULL)
    try:
        apiserver = int((directory / "kube-apiserver.pid").read_text())
        yield Cluster(directory / "kubeconfig", apiserver)
    finally:
        subprocess.run([BARE, "stop", directory], check=True)


@contextmanager
def operating(cluster: Cluster, log: Path) -> Iterator[tuple[OperatorUnderTest, float]]:
    """Run the operator as it is installed; yield it once it is ready, with the seconds it took."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [
        *(sys.executable, "-c", "import sys; from mcpproxy.cli import main; sys.exit(main())"),
        *("operator", "--kubeconfig", str(cluster.kubeconfig)),
        *("--image", "mcpproxy-runtime:1", "--pod-access", "direct", "--health-port", str(port)),
        *("--leader-elect", "--lease-namespace", "default"),
    ]
    began = time.monotonic()
    with log.open("ab") as stream:
        process = subprocess.Popen(command, cwd=ROOT, stdout=stream, stderr=stream)
    operator = OperatorUnderTest(process, port)
    try:
        wait_until(operator.is_ready, "the operator is ready", _START)
        yield operator, time.monotonic() - began
    except TimeoutError as error:
        raise TimeoutError(f"{error}; its log ends with {log.read_text()[-1000:]}") from None
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def wait_until(is_so: Callable[[], bool], what: str, seconds: float) -> None:
    """Wait for something. Raise TimeoutError if it does not become so."""
    end = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {seconds:g} s")
        time.sleep(0.05)


def cpu_seconds(pid: int) -> float:
    """Return the seconds for which a process has computed."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def resident(pid: int, *, peak: bool = False) -> float:
    """Return the resident memory of a process in MiB, or the most that it has had."""
    name = "VmHWM:" if peak else "VmRSS:"
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) / _KIB
    raise ValueError(f"process {pid} tells no {name}")
