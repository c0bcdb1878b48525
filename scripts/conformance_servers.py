"""The servers that the conformance suite tests: its backend, and proxies in front of it."""

import os
import secrets
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from scripts import round_robin
from scripts.demo_local import accepts, free_ports
from scripts.machine import ROOT
from scripts.ports import ports_in_a_row

REFERENCE: Final = ROOT.parent / "shared" / "reference" / "conformance"
BACKEND: Final = REFERENCE / "backend.py"
DRIVER: Final = REFERENCE / "client_driver.py"
TWICE: Final = "dual, two instances"
WORKERS: Final = "dual, two workers"
FORMS: Final = ("dual", TWICE, WORKERS, "legacy", "modern", "stdio")
"""Forms of the backend: both eras over HTTP, one of them, or standard streams.

"Two instances" are two proxies behind round robin; "two workers" share the port of one proxy.
"""
SET_UPS: Final = ("one backend", "three backends")
MCPPROXY: Final = str(Path(sys.executable).with_name("mcpproxy"))
START_UP_SECONDS: Final = 60.0
STOP_SECONDS: Final = 10.0
# One check requires header values without surrounding whitespace. Of the two HTTP parsers that
# uvicorn supports, only h11 removes it, so the backend must run without the other one.
_WITH_H11: Final = (
    "import runpy, sys; sys.modules['httptools'] = None; sys.argv = sys.argv[1:]; "
    "runpy.run_path(sys.argv[0], run_name='__main__')"
)


class NotServing(Exception):
    """A process exited, or did not serve in time."""


@contextmanager
def running(
    command: Sequence[str],
    log: Path,
    port: int,
    ready: str = "",
    patience: float = START_UP_SECONDS,
    **variables: str,
) -> Iterator[None]:
    """Run a process that listens on a port and, if `ready` is given, responds with 200 on that
    path.

    `patience` is in seconds. `variables` are added to its environment.

    Raise NotServing.
    """
    with log.open("wb") as output:
        env = {**os.environ, **variables}
        process = subprocess.Popen(command, cwd=ROOT, env=env, stdout=output, stderr=output)
        try:
            _wait(process, port, ready, log, patience)
            yield
        finally:
            process.terminate()
            try:
                process.wait(timeout=STOP_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait(
    process: subprocess.Popen[bytes], port: int, ready: str, log: Path, patience: float
) -> None:
    deadline = time.monotonic() + patience
    while not (_answers(port, ready) if ready else accepts(port)):
        if process.poll() is not None or time.monotonic() > deadline:
            output = log.read_text(encoding="utf-8", errors="replace")[-2000:]
            raise NotServing(f"nothing serves on port {port}; {log.name} ends with:\n{output}")
        time.sleep(0.1)


def _answers(port: int, path: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


@contextmanager
def backend(era: str, logs: Path) -> Iterator[str]:
    """Run the suite's backend over HTTP. Yield its URL."""
    [port] = free_ports(1)
    command = [sys.executable, "-c", _WITH_H11, str(BACKEND), "--port", str(port), "--era", era]
    with running(command, logs / "backend.log", port):
        yield f"http://127.0.0.1:{port}/mcp"


@contextmanager
def tasks_backend(logs: Path) -> Iterator[str]:
    """Run the server for the scenarios of the tasks extension. Yield its URL."""
    [port] = free_ports(1)
    command = [sys.executable, "-m", "scripts.conformance_tasks", "--port", str(port)]
    with running(command, logs / "tasks.log", port):
        yield f"http://127.0.0.1:{port}/mcp"


@contextmanager
def sample(name: str, logs: Path) -> Iterator[str]:
    """Run one of the demo servers. Yield its URL."""
    [port] = free_ports(1)
    script = ROOT / "samples" / "servers" / f"{name}.py"
    with running([sys.executable, str(script), "--port", str(port)], logs / f"{name}.log", port):
        yield f"http://127.0.0.1:{port}/mcp"


@contextmanager
def proxy(target: Sequence[str], logs: Path) -> Iterator[str]:
    """Run `mcpproxy run` with these arguments. Yield its URL when it is ready."""
    with _instance(target, logs / "proxy.log") as port:
        yield f"http://127.0.0.1:{port}/mcp"


@contextmanager
def workers(target: Sequence[str], logs: Path) -> Iterator[str]:
    """Run one instance with two worker processes. Yield its URL."""
    ports = ["--worker-ports", str(ports_in_a_row(2))]
    with proxy([*target, "--workers", "2", *ports], logs) as url:
        yield url


@contextmanager
def _instance(target: Sequence[str], log: Path) -> Iterator[int]:
    port, admin = free_ports(2)
    command = [MCPPROXY, "run", *target, "--transport", "http", "--port", str(port)]
    command += ["--admin-port", str(admin), "--log-level", "warning"]
    with running(command, log, admin, "/readyz"):
        yield port


@contextmanager
def proxies(target: Sequence[str], logs: Path) -> Iterator[str]:
    """Run two instances with one sealing key. Yield the URL of the round robin in front of them."""
    keys = logs / "sealing"
    keys.mkdir(exist_ok=True)
    (keys / "current").write_bytes(secrets.token_bytes(32))
    alike = [*target, "--sealing-keys", os.fspath(keys)]
    with ExitStack() as stack:
        both = [stack.enter_context(_instance(alike, logs / f"proxy-{n}.log")) for n in (1, 2)]
        [port] = free_ports(1)
        command = round_robin.command(logs, port, both)
        stack.enter_context(running(command, logs / "round-robin.log", port))
        yield f"http://127.0.0.1:{port}/mcp"


@contextmanager
def before_tasks(set_up: str, backend_url: str, logs: Path) -> Iterator[str]:
    """Run two instances in front of the server for tasks, alone or with other servers. Yield the
    URL."""
    logs.mkdir(parents=True, exist_ok=True)
    target = [backend_url]
    with ExitStack() as stack:
        if set_up == SET_UPS[1]:
            suite = {"name": "suite", "prefix": "", "url": backend_url}
            others = [
                {"name": name, "url": stack.enter_context(sample(name, logs))}
                for name in ("weather", "counter")
            ]
            target = manifest([suite, *others], logs)
        yield stack.enter_context(proxies(target, logs))


@dataclass(frozen=True)
class Pair:
    """A form of the backend, and the set-up of the proxy in front of it."""

    form: str
    set_up: str

    @contextmanager
    def serve(self, logs: Path) -> Iterator[str]:
        """Run the backend and the proxy. Yield the proxy's URL."""
        logs.mkdir(parents=True, exist_ok=True)
        if self.form == "stdio":
            stdio = {"command": sys.executable, "args": [str(BACKEND), "--stdio"]}
            with self._before({"stdio": stdio, **self._session()}, logs) as url:
                yield url
        else:
            era = self.form.partition(",")[0]
            with backend(era, logs) as target, self._before({"url": target}, logs) as url:
                yield url

    def _session(self) -> dict[str, Any]:
        """Return the session mode of a stdio server, so that both modes are tested.

        They are one process for each request (the default), and one process for all requests, which
        takes a tenth of the time.
        """
        if self.set_up == SET_UPS[0]:
            return {}
        return {"session": {"mode": "Reused", "stateless": True}}

    @contextmanager
    def _before(self, source: dict[str, Any], logs: Path) -> Iterator[str]:
        suite = {"name": "suite", "prefix": "", **source}
        serve = {TWICE: proxies, WORKERS: workers}.get(self.form, proxy)
        with ExitStack() as stack:
            if self.set_up == SET_UPS[1]:
                others = [
                    {"name": name, "url": stack.enter_context(sample(name, logs))}
                    for name in ("weather", "counter")
                ]
                target = manifest([suite, *others], logs)
            else:
                target = [source["url"]] if "url" in source else manifest([suite], logs)
            yield stack.enter_context(serve(target, logs))


def manifest(backends: list[dict[str, Any]], directory: Path) -> list[str]:
    """Return the arguments with which `mcpproxy run` serves these backends."""
    return manifest_of({"backends": backends}, directory)


def manifest_of(spec: dict[str, Any], directory: Path) -> list[str]:
    """Return the arguments with which `mcpproxy run` serves this spec."""
    path = directory / "mcpproxy.yaml"
    content = {
        "apiVersion": "mcpproxy.dev/v1alpha1",
        "kind": "MCPProxy",
        "metadata": {"name": "proxy"},
        "spec": spec,
    }
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return ["-f", os.fspath(path)]
