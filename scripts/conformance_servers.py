"""What the conformance suite is pointed at: its backend, and proxies in front of it."""

import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from scripts.demo_local import accepts, free_ports
from scripts.machine import ROOT

REFERENCE: Final = ROOT.parent / "shared" / "reference" / "conformance"
BACKEND: Final = REFERENCE / "backend.py"
DRIVER: Final = REFERENCE / "client_driver.py"
FORMS: Final = ("dual", "legacy", "modern", "stdio")
"""The backend's: both eras over HTTP, one of them, or standard streams."""
SET_UPS: Final = ("one backend", "three backends")
MCPPROXY: Final = str(Path(sys.executable).with_name("mcpproxy"))
START_UP_SECONDS: Final = 60.0
STOP_SECONDS: Final = 10.0
# One check wants header values without the blanks around them. Of the two HTTP parsers that
# uvicorn may have, only h11 takes these off, so the backend has to run without the other one.
_WITH_H11: Final = (
    "import runpy, sys; sys.modules['httptools'] = None; sys.argv = sys.argv[1:]; "
    "runpy.run_path(sys.argv[0], run_name='__main__')"
)


class NotServing(Exception):
    """A process ended, or did not serve in time."""


@contextmanager
def running(
    command: Sequence[str], log: Path, port: int, ready: str = "", **variables: str
) -> Iterator[None]:
    """A process that listens on a port and, where that is given, answers 200 on a path.

    `variables` are added to its environment.

    Raises NotServing.
    """
    with log.open("wb") as output:
        env = {**os.environ, **variables}
        process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=output, stderr=output)
        try:
            _wait(process, port, ready, log)
            yield
        finally:
            process.terminate()
            try:
                process.wait(timeout=STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait(process: subprocess.Popen[bytes], port: int, ready: str, log: Path) -> None:
    deadline = time.monotonic() + START_UP_SECONDS
    while not (_answers(port, ready) if ready else accepts(port)):
        if process.poll() is not None or time.monotonic() > deadline:
            said = log.read_text(encoding="utf-8", errors="replace")[-2000:]
            raise NotServing(f"nothing serves on port {port}; {log.name} ends with:\n{said}")
        time.sleep(0.1)


def _answers(port: int, path: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


@contextmanager
def backend(era: str, logs: Path) -> Iterator[str]:
    """The suite's backend over HTTP; gives its URL."""
    [port] = free_ports(1)
    command = [sys.executable, "-c", _WITH_H11, str(BACKEND), "--port", str(port), "--era", era]
    with running(command, logs / "backend.log", port):
        yield f"http://127.0.0.1:{port}/mcp"


@contextmanager
def sample(name: str, logs: Path) -> Iterator[str]:
    """One of the demo servers; gives its URL."""
    [port] = free_ports(1)
    script = ROOT / "samples" / "servers" / f"{name}.py"
    with running([sys.executable, str(script), "--port", str(port)], logs / f"{name}.log", port):
        yield f"http://127.0.0.1:{port}/mcp"


@contextmanager
def proxy(target: Sequence[str], logs: Path) -> Iterator[str]:
    """`mcpproxy run` with these arguments; gives its URL when it is ready."""
    port, admin = free_ports(2)
    command = [MCPPROXY, "run", *target, "--transport", "http", "--port", str(port)]
    command += ["--admin-port", str(admin), "--log-level", "warning"]
    with running(command, logs / "proxy.log", admin, "/readyz"):
        yield f"http://127.0.0.1:{port}/mcp"


@dataclass(frozen=True)
class Pair:
    """A form of the backend and what stands beside it behind the proxy."""

    form: str
    set_up: str

    @contextmanager
    def serve(self, logs: Path) -> Iterator[str]:
        """Everything that belongs to it; gives the proxy's URL."""
        logs.mkdir(parents=True, exist_ok=True)
        if self.form == "stdio":
            stdio = {"command": sys.executable, "args": [str(BACKEND), "--stdio"]}
            # The suite waits 0.5 to 1.5 s for some answers: too short to start a process for each.
            session = {"mode": "Reused", "stateless": True}
            with self._before({"stdio": stdio, "session": session}, logs) as url:
                yield url
        else:
            with backend(self.form, logs) as target, self._before({"url": target}, logs) as url:
                yield url

    @contextmanager
    def _before(self, source: dict[str, Any], logs: Path) -> Iterator[str]:
        suite = {"name": "suite", "prefix": "", **source}
        if self.set_up == SET_UPS[1]:
            with sample("weather", logs) as weather, sample("counter", logs) as counter:
                others = [{"name": "weather", "url": weather}, {"name": "counter", "url": counter}]
                with proxy(manifest([suite, *others], logs), logs) as url:
                    yield url
        else:
            alone = [source["url"]] if "url" in source else manifest([suite], logs)
            with proxy(alone, logs) as url:
                yield url


def manifest(backends: list[dict[str, Any]], directory: Path) -> list[str]:
    """The arguments that have `mcpproxy run` serve these backends."""
    path = directory / "mcpproxy.yaml"
    content = {
        "apiVersion": "mcpproxy.dev/v1alpha1",
        "kind": "MCPProxy",
        "metadata": {"name": "proxy"},
        "spec": {"backends": backends},
    }
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return ["-f", os.fspath(path)]
