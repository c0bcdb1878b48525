"""One worker process: a runtime that reports to its parent.

python -m mcpproxy.proxy.workers.worker FD

FD is its end of the socket pair; what to serve comes pickled on the standard input, since sealing
keys belong neither on a command line nor into an environment. It ends when the parent does.
"""

import asyncio
import functools
import os
import pickle
import socket
import sys
from dataclasses import dataclass
from typing import Final

import msgspec

from mcpproxy.proxy import process
from mcpproxy.proxy.config.targets import ProxyConfig
from mcpproxy.proxy.runtime import Runtime, RuntimeOptions
from mcpproxy.proxy.upstream.processes.child_processes import die_with_parent
from mcpproxy.proxy.workers import ipc
from mcpproxy.proxy.workers.ipc import (
    Heartbeat,
    ProbeResult,
    Query,
    QueryResult,
    Reported,
    Started,
    WorkerChannel,
)
from mcpproxy.proxy.workers.metrics_merge import encode_families

BEAT_EVERY: Final = 5.0
"""Seconds between two signs of life."""
PATIENCE: Final = 0.2
"""How much longer a worker waits for the check of the one before it, in intervals."""
CANNOT_SERVE: Final = 2
"""Exit code for what starting again can't help."""
_decoder: Final = msgspec.json.Decoder(ipc.ToWorker)


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """What a worker is given at its start."""

    number: int
    configuration: ProxyConfig
    options: RuntimeOptions
    level: str
    """Of its log."""


class Worker:
    """A runtime and its line to the parent."""

    def __init__(self, setup: WorkerConfig, line: WorkerChannel) -> None:
        self._runtime = Runtime(setup.configuration, setup.options)
        self._line = line
        self._last: Reported | None = None
        self._answering: set[asyncio.Task[None]] = set()
        self._backends = self._runtime.gateway.backends
        for backend in self._backends.values():
            # What one worker has checked the others need not: the first one is the first to look.
            backend.watch.rounds.patience = 1.0 + PATIENCE * setup.number
            backend.watch.on_checked = functools.partial(self._checked, backend.name)

    def _checked(self, backend: str, good: bool) -> None:
        self._line.send(ProbeResult(backend, good))

    async def run(self) -> None:
        """Serve until SIGTERM or the parent's end. Raises OSError, ValueError."""
        self._runtime.watch(self._report)
        own = [asyncio.create_task(self._listen()), asyncio.create_task(self._beat())]
        try:
            await self._runtime.serve_http(self._begun)
        finally:
            for task in own:
                task.cancel()

    def _begun(self) -> None:
        self._line.send(Started())
        self._report()

    def _report(self) -> None:
        report = self._runtime.report().model_dump_json(by_alias=True, exclude_none=True)
        found = Reported(msgspec.Raw(report.encode()), self._runtime.gateway.round_ended)
        if found != self._last:
            self._last = found
            self._line.send(found)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(BEAT_EVERY)
            # The end of the first round alone changes nothing that is watched.
            self._report()
            self._line.send(Heartbeat())

    async def _listen(self) -> None:
        while (message := await self._line.receive(_decoder)) is not None:
            if isinstance(message, Query):
                task = asyncio.create_task(self._answer(message))
                self._answering.add(task)
                task.add_done_callback(self._answering.discard)
            elif message.backend in self._backends:
                self._backends[message.backend].on_peer_probe(message.good)
        self._runtime.stop()

    async def _answer(self, question: Query) -> None:
        value: object
        if question.subject == "ready":
            value = await self._runtime.not_ready()
        else:
            value = encode_families(self._runtime.gateway.metrics.families())
        self._line.send(QueryResult(question.number, msgspec.Raw(msgspec.json.encode(value))))


async def _serve(setup: WorkerConfig, descriptor: int) -> None:
    line = await ipc.opened(socket.socket(fileno=descriptor))
    try:
        await Worker(setup, line).run()
    finally:
        line.close()


def main(descriptor: int) -> int:
    """Serve until stopped; 0, or 2 when that can't be."""
    die_with_parent(os.getppid())
    setup: WorkerConfig = pickle.load(sys.stdin.buffer)
    process.log_to_stderr(setup.level, setup.number)
    try:
        process.run(_serve(setup, descriptor))
    except (ValueError, OSError) as error:
        process.report_error(f"mcpproxy run: {error}")
        return CANNOT_SERVE
    return 0


if __name__ == "__main__":
    # What is unpickled names this module, not __main__.
    from mcpproxy.proxy.workers import worker

    sys.exit(worker.main(int(sys.argv[1])))
