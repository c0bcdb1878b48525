"""`mcpproxy run --workers N` as processes."""

import asyncio
import contextlib
import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
from prometheus_client.parser import text_string_to_metric_families

from mcpproxy.api.v1alpha1.status import PodReport
from scripts.ports import ports_in_a_row
from tests.proxy.runtime.serving import free_port
from tests.proxy.runtime.waiting import eventually, soon
from tests.support.builders import a_manifest

COMMAND = str(Path(sys.executable).with_name("mcpproxy"))


@dataclass
class Crew:
    """A parent process and its workers."""

    process: asyncio.subprocess.Process
    port: int
    first: int
    """The own port of worker 0."""
    admin: int
    log: Path

    @property
    def url(self) -> str:
        """The MCP endpoint that the workers share."""
        return f"http://127.0.0.1:{self.port}/mcp"

    def url_of(self, worker: int) -> str:
        """The MCP endpoint at one of them."""
        return f"http://127.0.0.1:{self.first + worker}/mcp"

    def pid(self, worker: int) -> int:
        """The process of the worker that served last under this number."""
        matches = re.findall(rf"worker {worker} is serving \(process (\d+)\)", self.log.read_text())
        return int(matches[-1])

    def serves(self, worker: int) -> bool:
        """Return True if a worker of this number has served."""
        return f"worker {worker} is serving (" in self.log.read_text()

    async def get(self, path: str) -> httpx2.Response:
        """Ask the admin port. Raises httpx2.TransportError."""
        async with httpx2.AsyncClient(timeout=20) as http:
            return await http.get(f"http://127.0.0.1:{self.admin}{path}")

    async def report(self) -> PodReport:
        """Return its report."""
        return PodReport.model_validate_json((await self.get("/status")).content)

    async def total(self, name: str, **labels: str) -> float:
        """The sum over the samples of a metric with these labels."""
        families = text_string_to_metric_families((await self.get("/metrics")).text)
        samples = (sample for family in families for sample in family.samples)
        return sum(
            sample.value
            for sample in samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    async def alive(self) -> bool:
        """True if the parent is running."""
        return await self._says_ok("/livez")

    async def ready(self) -> bool:
        """True if all workers are running."""
        return await self._says_ok("/readyz")

    async def _says_ok(self, path: str) -> bool:
        assert self.process.returncode is None, self.log.read_text()
        with contextlib.suppress(httpx2.TransportError):
            return (await self.get(path)).status_code == 200
        return False

    async def until_another(self, worker: int, before: int) -> None:
        """Wait until another process than `before` has a worker's place, and all are ready."""

        async def there() -> bool:
            return self.pid(worker) != before and await self.ready()

        await eventually(there, f"another worker {worker}")

    async def kill(self) -> None:
        """End all of it at once."""
        workers = _children(self.process.pid)
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()
        await self.process.wait()
        for pid in workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


@dataclass
class Worker:
    """One worker of a crew."""

    crew: Crew
    number: int

    @property
    def port(self) -> int:
        """Its own."""
        return self.crew.first + self.number

    @property
    def url(self) -> str:
        """The MCP endpoint at its own port."""
        return self.crew.url_of(self.number)

    @property
    def log(self) -> Path:
        """Return the path of the log of all processes."""
        return self.crew.log

    async def kill(self) -> None:
        """End it at once; another one takes its place."""
        os.kill(self.crew.pid(self.number), signal.SIGKILL)


def _children(pid: int) -> list[int]:
    try:
        tasks = list(Path(f"/proc/{pid}/task").glob("*/children"))
        return [int(child) for task in tasks for child in task.read_text().split()]
    except OSError:
        return []


@asynccontextmanager
async def crews(
    directory: Path, count: int, backends: list[dict[str, Any]], **spec: Any
) -> AsyncIterator[Crew]:
    """A proxy of these backends with so many workers, all ready; killed at the end."""
    crew = await started(directory, count, backends, **spec)
    try:
        await eventually(crew.alive, "the parent to serve its admin port")
        for worker in range(count):
            await soon(lambda worker=worker: crew.serves(worker), f"worker {worker} to serve")  # type: ignore[misc]
        await eventually(crew.ready, "all workers to be ready")
        yield crew
    finally:
        await crew.kill()


async def started(
    directory: Path,
    count: int,
    backends: list[dict[str, Any]],
    first: int | None = None,
    **spec: Any,
) -> Crew:
    """The same as soon as its process runs; `first` is the own port of worker 0."""
    manifest = directory / "mcpproxy.json"
    manifest.write_text(json.dumps(a_manifest(backends=backends, **spec)), encoding="utf-8")
    port, admin, first = free_port(), free_port(), first or ports_in_a_row(count)
    arguments = ["-f", manifest, "--port", port, "--admin-port", admin]
    arguments += ["--workers", count, "--worker-ports", first]
    log = directory / "crew.log"
    with log.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(
            COMMAND, "run", *map(str, arguments), stderr=errors
        )
    return Crew(process, port, first, admin, log)
