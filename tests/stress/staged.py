"""A proxy in front of misbehaving backends, and the comparison of its cells."""

import asyncio
import logging
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import httpx2
from mcp import Client
from mcp.client.sse import sse_client
from mcp.client.stdio import StdioServerParameters
from mcp.client.streamable_http import streamable_http_client

from tests.proxy.byhand import served
from tests.proxy.runtime.serving import Proxy, proxied
from tests.stress import typescript
from tests.stress.cells import CLIENTS, MODES, Place, excepted
from tests.stress.conversation import LISTS, Outcome, allowed, calls, held, listed, outcome, own
from tests.stress.misbehaving import PROGRAM, Backend, Backends, Programs
from tests.stress.misbehaving_texts import JSON, OLD, STDIO
from tests.stress.misbehaviours import LEGACY, table

IDLE: Final = 10.0
"""Seconds without a client, in which the proxy may send one request a second to each backend."""
DIRECTLY: Final = 2.0
"""Seconds that a client waits for a backend itself."""
THROUGH: Final = 20.0
"""Seconds that a client waits for the proxy, where the backend itself responds at once."""
ABREAST: Final = 8
"""Conversations at a time."""
GOOD: Final = "good"
"""The backend that behaves well."""
CONTROL: Final = Place(table()["none"], JSON, LEGACY, "Isolated")

Expected = dict[str, dict[str, Outcome]]
"""Outcomes by the name of an SDK and by step."""


class Stage:
    """One proxy, and the backends of some cells: each behind it, and for direct calls."""

    def __init__(self, cells: list[Place], http: httpx2.AsyncClient) -> None:
        self.cells = {f"b{number}": cell for number, cell in enumerate(cells)}
        self.backends = Backends()
        self.programs = Programs(self.backends)
        self.wrong: list[str] = []
        self._http = http
        self._limit = asyncio.Semaphore(ABREAST)

    def add(self, name: str, cell: Place) -> dict[str, Any]:
        """Add a backend; return its specification."""
        self.backends.found[name] = Backend(cell.misbehaviour, cell.transport, cell.era)
        spec: dict[str, Any] = {"name": name, "session": MODES[cell.mode]}
        if cell.transport != STDIO:
            end = "sse" if cell.transport == OLD else "mcp"
            return {**spec, "url": f"{self.base}/{name}/{end}"}
        arguments = ["-IS", "-c", PROGRAM, str(self.channel), name]
        return {**spec, "stdio": {"command": sys.executable, "args": arguments}}

    @asynccontextmanager
    async def proxied(self) -> AsyncIterator[Proxy]:
        """A proxy in front of all backends."""
        specs = [self.add(name, cell) for name, cell in {GOOD: CONTROL, **self.cells}.items()]
        health = {"interval": "10s", "timeout": "2s", "unhealthyAfter": 1}
        async with proxied(*specs, health=health) as running:
            yield running

    @asynccontextmanager
    async def served(self) -> AsyncIterator[None]:
        """Serve the backends."""
        async with served(self.backends.serve) as port, served(self.programs.serve) as channel:
            self.base, self.channel = f"http://127.0.0.1:{port}", channel
            yield

    async def directly(self, cell: Place) -> dict[str, Outcome]:
        """The outcomes without the proxy, by the client of the Python SDK."""
        spec = self._another(cell)
        target: Any
        if cell.transport == STDIO:
            target = StdioServerParameters(**spec["stdio"])
        elif cell.transport == OLD:
            target = sse_client(spec["url"])
        else:
            target = streamable_http_client(spec["url"], http_client=self._http)
        mode = "legacy" if cell.era == LEGACY else "auto"
        patience = DIRECTLY + (5 if cell.misbehaviour.life else 0)
        result: dict[str, Outcome] = {}
        async with self._limit:
            try:
                async with asyncio.timeout(30), Client(target, mode=mode) as client:
                    result = await held(client, patience)
            except Exception as error:  # No session, or one that can't be closed.
                logging.getLogger("matrix").debug("%s: %r", cell.direct, error)
        return result

    def _another(self, cell: Place) -> dict[str, Any]:
        """The specification of another backend like that of a cell, for direct calls."""
        return self.add(f"direct-{len(self.backends.found)}", cell)

    async def all_directly(self) -> dict[str, Expected]:
        """The outcomes without the proxy by the names of the backends, for each SDK."""
        once = {cell.direct: cell for cell in self.cells.values()}
        python = asyncio.gather(*map(self.directly, once.values()))
        others: dict[str, dict[str, Outcome]] = {}
        if typescript.INSTALLED:
            targets = {
                name: typescript.target(cell.transport, cell.era, self._another(cell))
                for name, cell in once.items()
            }
            others = await typescript.held(targets, DIRECTLY, ABREAST)
        first = dict(zip(once, await python, strict=True))
        return {
            name: {"Python": first[cell.direct], "TypeScript": others.get(cell.direct, {})}
            for name, cell in self.cells.items()
        }

    async def idle(self) -> None:
        """Count the requests of the proxy while it has no client."""
        before = {name: Counter(self.backends.found[name].asked) for name in self.cells}
        await asyncio.sleep(IDLE)
        for name, cell in self.cells.items():
            sent = self.backends.found[name].asked - before[name]
            if sent.total() > IDLE:
                self.wrong.append(f"{cell.cell('no')}: requests in {IDLE} s: {dict(sent)}")

    async def clients(self, url: str, expected: dict[str, Expected]) -> None:
        """Clients of both eras, one after the other."""
        for era in CLIENTS:
            mode = "legacy" if era == LEGACY else "2026-07-28"
            async with Client(url, mode=mode) as client:
                await self.compared(client, era, expected)

    async def run(self, alone: asyncio.Lock) -> None:
        """Compare all cells; clients come while they have the machine alone."""
        async with self.served():
            direct = asyncio.create_task(self.all_directly())
            async with self.proxied() as running:
                _, expected = await asyncio.gather(self.idle(), direct)
                async with alone:
                    await self.clients(running.url, expected)

    async def compared(self, client: Client, era: str, direct: dict[str, Expected]) -> None:
        """Compare what a client gets through the proxy with what it gets directly."""
        lists = {kind: await outcome(listed(client, kind), THROUGH) for kind in LISTS}
        for kind, item in lists.items():
            assert item.kind == "result", (kind, item)
            assert own(item.value, GOOD), f"{kind} of the other backend are missing"

        async def compare(name: str) -> None:
            through = {k: Outcome("result", own(entry.value, name)) for k, entry in lists.items()}
            async with self._limit:
                for step, call in calls(client, name).items():
                    through[step] = await outcome(call(), THROUGH)
                beside = await outcome(calls(client, GOOD)["first call"](), THROUGH)
            self._judge(self.cells[name].cell(era), direct[name], through, beside)

        await asyncio.gather(*map(compare, self.cells))

    def _judge(
        self,
        cell: str,
        direct: Expected,
        through: dict[str, Outcome],
        beside: Outcome,
    ) -> None:
        if beside.kind != "result" or beside.value["content"][0]["text"] != "one":
            self.wrong.append(f"{cell}: a call of the other backend: {beside}")
        for step in through:
            results = [outcomes[step] for outcomes in direct.values() if step in outcomes]
            # A list of the proxy has the components of all backends that have listed theirs.
            if not results or (step in LISTS and all(item.kind != "result" for item in results)):
                continue
            if not allowed(results, through[step]) and not excepted(cell, step):
                self.wrong.append(f"{cell}: {step}: directly {results}, by proxy {through[step]}")
