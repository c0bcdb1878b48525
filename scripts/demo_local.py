"""The demo without a cluster: the runtime serves samples/demo.yaml on this machine."""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mcpproxy.api import defaults, manifest
from scripts import demo_calls
from scripts.machine import ROOT
from scripts.progress import Progress

LOGS = ROOT / ".demo"
START_UP_SECONDS = 45.0
SAMPLE = ROOT / "samples" / "demo.yaml"
COLUMNS = ("NAME", "READY", "BACKENDS", "TOOLS", "PROMPTS", "RESOURCES", "SESSION", "AGE")


class NotStarted(Exception):
    """A process of the demo exited, or did not serve in time."""


@dataclass(frozen=True)
class LocalDemo:
    """The demo as processes of this machine, which end with the demo."""

    progress: Progress

    def run(self) -> None:
        """Run the whole demo, from starting the servers to the results of the calls.

        Raise NotStarted.
        """
        LOGS.mkdir(exist_ok=True)
        weather, counter, front, admin = free_ports(4)
        with ExitStack() as stack:
            self.progress.step("starting the weather and counter servers")
            for name, port in (("weather", weather), ("counter", counter)):
                process = stack.enter_context(_server(name, port))
                _wait(process, partial(accepts, port), name)
            self.progress.step("starting mcpproxy run -f samples/demo.yaml")
            started = time.monotonic()
            runtime = stack.enter_context(_runtime(weather, counter, front, admin))
            _wait(runtime, partial(_settled, admin), "runtime")
            report = json.loads(_get(admin, "/status") or "{}")
            self.progress.show(_table(report, time.monotonic() - started))
            self.progress.show(demo_calls.answers(f"http://127.0.0.1:{front}/mcp"))

    def clean(self) -> None:
        """Delete the logs."""
        if LOGS.exists():
            for log in LOGS.iterdir():
                log.unlink()
            LOGS.rmdir()


def free_ports(count: int) -> list[int]:
    """Return unused ports of the loopback interface."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for listener in sockets:
            listener.bind(("127.0.0.1", 0))
        return [listener.getsockname()[1] for listener in sockets]


def _server(name: str, port: int) -> Any:
    script = ROOT / "samples" / "servers" / f"{name}.py"
    return _process(name, [sys.executable, str(script), "--port", str(port)])


def _runtime(weather: int, counter: int, front: int, admin: int) -> Any:
    command = [str(Path(sys.executable).with_name("mcpproxy")), "run", "-f", str(SAMPLE)]
    command += ["--resolve", f"weather=127.0.0.1:{weather}"]
    command += ["--resolve", f"counter=127.0.0.1:{counter}"]
    command += ["--transport", "http", "--host", "127.0.0.1", "--port", str(front)]
    command += ["--admin-host", "127.0.0.1", "--admin-port", str(admin)]
    return _process("runtime", command)


@contextmanager
def _process(name: str, command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    # samples/demo.yaml starts `python`, which must be the one with the SDK.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    with (LOGS / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, "PATH": path}, stdout=log, stderr=log
        )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait(process: subprocess.Popen[bytes], serves: Callable[[], bool], name: str) -> None:
    deadline = time.monotonic() + START_UP_SECONDS
    while not serves():
        if process.poll() is not None or time.monotonic() > deadline:
            log = LOGS / f"{name}.log"
            output = log.read_text(encoding="utf-8", errors="replace")[-2000:]
            raise NotStarted(f"{name} does not serve; {log.relative_to(ROOT)} ends with:\n{output}")
        time.sleep(0.1)


def accepts(port: int) -> bool:
    """True if a process listens on a port of the loopback interface."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _settled(port: int) -> bool:
    """True if the runtime is ready and knows the state of every backend."""
    if _get(port, "/readyz") is None:
        return False
    backends = json.loads(_get(port, "/status") or "{}").get("backends", [])
    return all(backend["state"] != "Unknown" for backend in backends)


def _get(port: int, path: str) -> bytes | None:
    """Return the body of a 200 response, or None for any other response or none."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as response:
            body: bytes = response.read()
            return body
    except (urllib.error.URLError, OSError):
        return None


def _table(report: dict[str, Any], seconds: float) -> str:
    """Return the columns of `kubectl get mcpproxies`, from the runtime's own report."""
    proxy = manifest.load(SAMPLE.read_text(encoding="utf-8"))
    backends = report["backends"]
    healthy = sum(backend["state"] == "Healthy" for backend in backends)
    counts = [backend.get("components") or {} for backend in backends]
    totals = [
        str(sum(count.get(kind) or 0 for count in counts))
        for kind in ("tools", "prompts", "resources")
    ]
    row = (proxy.metadata.name, "True", f"{healthy}/{len(backends)}", *totals)
    row = (*row, defaults.session_modes(proxy.spec), f"{seconds:.0f}s")
    widths = [max(len(head), len(cell)) for head, cell in zip(COLUMNS, row, strict=True)]
    return "\n".join(
        "   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in (COLUMNS, row)
    )
