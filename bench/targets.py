"""The things that are measured: how each is started before its backends."""

import asyncio
import json
import shutil
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from bench import client, messages, replies
from bench.cases import Kind, Row
from bench.processes import Processes, free_port
from bench.shares import Shares
from bench.stub import Behaviour
from bench.tokens import TokenIssuer, write_secret
from scripts.ports import ports_in_a_row

START: Final = 60.0
"""Seconds that a target may take to its first answer."""
_POLL: Final = 0.01
_PATH: Final = "/mcp"
UNREACHED: Final = (
    {"name": "calls", "per": "Principal", "calls": 1_000_000, "window": "10s"},
    {"name": "in-flight", "per": "Principal", "inFlight": 1000},
)
"""Limits that no load reaches."""
_SCRIPTS: Final = Path(sys.executable).parent
_FASTMCP: Final[Mapping[Kind, str]] = {
    "fastmcp": "fresh",
    "fastmcp-held": "held",
    "fastmcp-modern": "held-modern",
}


class CannotStart(Exception):
    """A target does not answer, or is not there; the message says which."""


@dataclass(frozen=True, slots=True)
class Target:
    """A target at work."""

    row: Row
    url: str
    process: asyncio.subprocess.Process
    seconds: float
    """From its start to its first answered call."""
    token: str = ""
    """For requests to it, if it demands one."""

    def tools(self, operation: str) -> tuple[str, ...]:
        """The names behind this target of the tool that an operation calls."""
        tool = operation if operation in messages.TOOLS else "echo"
        if self.row.target != "ours":
            return (tool,)
        return tuple(f"{_backend_name(n)}_{tool}" for n in range(self.row.backends))


class Targets:
    """Starts targets and the stub backends behind them; equal backends are shared."""

    def __init__(
        self,
        processes: Processes,
        pythons: Mapping[str, Path],
        directory: Path,
        patience: float = START,
    ) -> None:
        """`pythons` are those of the peers that are installed: fastmcp, mcp-proxy.

        A target may take `patience` seconds to its first answer.
        """
        self._patience = patience
        self._processes = processes
        self._pythons = pythons
        self._directory = directory
        self._stubs: dict[Behaviour, asyncio.Task[int]] = {}
        self._shares = Shares()
        self.issuer = TokenIssuer()
        """Issuer of the tokens that rows with access demand."""

    async def start(self, row: Row) -> Target:
        """Start the target of a row and wait for its first answer. Raises CannotStart."""
        try:
            upstream = await self._stub(row.backend)
        except TimeoutError:
            raise CannotStart("the stub backend does not listen") from None
        port = free_port()
        signed_in = row.access or row.signed_in
        if signed_in or row.identity is not None:
            await self.issuer.start()
        command = self._command(row, port, upstream)
        name = f"{row.target}-{port}"
        begun = time.perf_counter()
        pin = self._processes.tested if row.workers is None else None
        process = await self._processes.start(name, command, pin)
        url = f"http://127.0.0.1:{port}{_PATH}"
        target = Target(row, url, process, 0.0, self.issuer.token() if signed_in else "")
        try:
            await _answered(target, self._patience)
        except TimeoutError:
            log = self._processes.log(name).read_text(encoding="utf-8", errors="replace")
            raise CannotStart(f"{row.label} does not answer:\n{log[-2000:]}") from None
        seconds = time.perf_counter() - begun
        if row.share is not None:
            self._shares.limit(process.pid, row.share)
        return replace(target, seconds=seconds)

    def lacks(self, row: Row) -> bool:
        """Return True if the row needs a missing peer, or a quota that can't be set."""
        if row.share is not None and not self._shares.are_possible():
            return True
        peer = "fastmcp" if row.target in _FASTMCP else row.target
        return peer in ("fastmcp", "mcp-proxy") and peer not in self._pythons

    def forget(self) -> None:
        """All targets and backends have been stopped."""
        self._stubs.clear()
        self.issuer.close()
        self._shares.forget()

    async def _stub(self, behaviour: Behaviour) -> int:
        """The port of a backend that listens. Rows that start together share it."""
        if behaviour not in self._stubs:
            self._stubs[behaviour] = asyncio.create_task(self._started_stub(behaviour))
        return await self._stubs[behaviour]

    async def _started_stub(self, behaviour: Behaviour) -> int:
        port = free_port()
        command = stub_command(behaviour, port)
        await self._processes.start(f"stub-{port}", command, self._processes.others)
        async with asyncio.timeout(START):
            # Another process's port sets no event.
            while not await _listens(port):  # noqa: ASYNC110
                await asyncio.sleep(_POLL)
        return port

    def _command(self, row: Row, port: int, upstream: int) -> list[str]:
        url = f"http://127.0.0.1:{upstream}{_PATH}"
        if row.target == "direct":
            return stub_command(row.backend, port)
        if row.target == "nginx":
            return self._nginx(port, upstream)
        if row.target == "ours":
            return self._ours(row, port, url)
        if row.target == "mcp-proxy":
            # It has HTTP on one side only: one instance serves it, another one calls it.
            program = str(self._pythons["mcp-proxy"].parent / "mcp-proxy")
            inner = [program, "--log-level", "ERROR", "--transport", "streamablehttp", url]
            return [program, "--log-level", "ERROR", "--port", str(port), "--", *inner]
        # Beside the script, the package `operator` would hide the module of this name (-P).
        script = ["-P", str(Path(__file__).parent / "peer_fastmcp.py")]
        return [str(self._pythons["fastmcp"]), *script, _FASTMCP[row.target], str(port), url]

    def _nginx(self, port: int, upstream: int) -> list[str]:
        program = shutil.which("nginx")
        if program is None:
            raise CannotStart("nginx is not installed; the ratios are those to nginx")
        directory = self._directory / f"nginx-{port}"
        directory.mkdir(parents=True)
        config = directory / "nginx.conf"
        config.write_text(nginx_config(port, upstream), encoding="utf-8")
        return [program, "-p", f"{directory}/", "-c", str(config), "-e", "error.log"]

    def _ours(self, row: Row, port: int, url: str) -> list[str]:
        path, values = self._directory / f"mcpproxy-{port}.yaml", self._directory / "values"
        # JSON is YAML.
        path.write_text(json.dumps(manifest(row, url, self.issuer)), encoding="utf-8")
        write_secret(values)
        return [*run_command(path, port, row.workers, row.program), "--values", str(values)]


def run_command(manifest: Path, port: int, workers: int | None, program: str = "") -> list[str]:
    """The command of our own proxy; `workers` of None leaves the option out."""
    command = [
        program or str(_SCRIPTS / "mcpproxy"),
        "run",
        "-f",
        str(manifest),
        "--log-level",
        "warning",
    ]
    option = []
    if workers is not None:
        option = ["--workers", str(workers), "--worker-ports", str(ports_in_a_row(workers))]
    admin = ["--admin-port", str(free_port())]
    return [*command, "--host", "127.0.0.1", "--port", str(port), *admin, *option]


def manifest(row: Row, url: str, issuer: TokenIssuer) -> dict[str, object]:
    """The MCPProxy of a row; every backend is at this URL, and all tokens are of this issuer."""
    backends: list[dict[str, object]] = [
        {"name": _backend_name(n), "url": url} for n in range(row.backends)
    ]
    spec: dict[str, object] = {"backends": backends}
    if row.access or row.signed_in:
        spec |= issuer.access() if row.access else issuer.sign_in()
    if row.limits is not None:
        spec["limits"] = {"shared": {"mode": row.limits}, "rules": [*UNREACHED]}
    if row.session is not None:
        spec["session"] = {"mode": row.session}
    for backend in backends:
        if row.session == "Reused":
            backend["session"] = {"stateless": True}
        if row.identity is not None:
            backend["auth"] = {row.identity: issuer.client()}
    return manifest_of(spec)


def manifest_of(spec: dict[str, object]) -> dict[str, object]:
    """The MCPProxy of a spec."""
    return {
        "apiVersion": "mcpproxy.dev/v1alpha1",
        "kind": "MCPProxy",
        "metadata": {"name": "bench"},
        "spec": spec,
    }


def nginx_config(port: int, upstream: int) -> str:
    """One worker that passes everything on over connections it keeps; relative paths."""
    temporary = "".join(
        f"  {kind}_temp_path {kind};\n"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    return f"""worker_processes 1;
daemon off;
pid nginx.pid;
events {{ worker_connections 4096; }}
http {{
  access_log off;
{temporary}  client_body_buffer_size 256k;
  keepalive_requests 1000000000;
  upstream backend {{
    server 127.0.0.1:{upstream};
    keepalive 256;
    keepalive_requests 1000000000;
  }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://backend;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering off;
      proxy_request_buffering off;
    }}
  }}
}}
"""


def _backend_name(number: int) -> str:
    return f"b{number + 1}"


def stub_command(behaviour: Behaviour, port: int) -> list[str]:
    """The command of a stub backend."""
    arguments = ["--port", str(port), *behaviour.arguments()]
    return [sys.executable, "-m", "bench.stub", *arguments]


async def _listens(port: int) -> bool:
    try:
        await client.close(await client.connect(f"http://127.0.0.1:{port}"))
    except OSError:
        return False
    return True


async def _answered(target: Target, patience: float) -> None:
    """Return when a call of each of its tools has been answered. Raises TimeoutError."""
    async with asyncio.timeout(patience):
        for tool in target.tools("echo"):
            while not await _answers(target, tool):
                if target.process.returncode is not None:
                    raise TimeoutError
                await asyncio.sleep(_POLL)


async def _answers(target: Target, tool: str) -> bool:
    try:
        connection = await client.connect(target.url)
    except OSError:
        return False
    requests = client.requests(target.url, target.row.era, target.token)
    try:
        if target.row.era == "legacy":
            await client.begin(connection, requests)
        reply = await connection.exchange(requests.operation("echo", 1, tool))
        return replies.is_right("echo", 1, reply, 0)
    except replies.BadReply:
        return False
    finally:
        await client.close(connection)
