"""Worker process: a runtime that reports to the supervisor.

python -m mcpproxy.proxy.workers.worker FD

FD is its end of the socket pair. The configuration is pickled on standard input, because sealing
keys must be neither on a command line nor in the environment. The worker exits when the supervisor
does.
"""

import asyncio
import os
import pickle
import socket
import sys
from dataclasses import dataclass
from typing import Final

import msgspec

from mcpproxy.proxy import process
from mcpproxy.proxy.config.options import RuntimeOptions
from mcpproxy.proxy.config.proxy_config import ProxyConfig
from mcpproxy.proxy.runtime import Runtime
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
"""Seconds between two heartbeats."""
CANNOT_SERVE: Final = 2
"""Exit code for failures that a restart cannot fix."""
_decoder: Final = msgspec.json.Decoder(ipc.ToWorker)


@dataclass(frozen=True, slots=True)
class WorkerConfig:
    """Configuration of a worker at its start."""

    number: int
    configuration: ProxyConfig
    options: RuntimeOptions
    level: str
    """Level of the log."""
    log_format: str = "json"
    """Format of the log, `text` or `json`."""


class Worker:
    """Runtime with a channel to the supervisor."""

    def __init__(self, config: WorkerConfig, line: WorkerChannel) -> None:
        self._runtime = Runtime(config.configuration, config.options)
        self._line = line
        self._last: Reported | None = None
        self._query_tasks: set[asyncio.Task[None]] = set()
        self._backends = self._runtime.gateway.backends
        self._runtime.gateway.events.check.subscribe(self._on_probe)

    def _on_probe(self, backend: str, good: bool) -> None:
        self._line.send(ProbeResult(backend, good))

    async def run(self) -> None:
        """Serve until SIGTERM or the exit of the supervisor. Raise OSError or ValueError."""
        self._runtime.watch(self._report)
        own = [asyncio.create_task(self._listen()), asyncio.create_task(self._send_heartbeats())]
        try:
            await self._runtime.serve_http(self._on_listening)
        finally:
            for task in own:
                task.cancel()

    def _on_listening(self) -> None:
        self._line.send(Started())
        self._report()

    def _report(self) -> None:
        report = self._runtime.report().to_json()
        message = Reported(
            msgspec.Raw(report.encode()), self._runtime.gateway.aggregate.initial_round_done
        )
        if message != self._last:
            self._last = message
            self._line.send(message)

    async def _send_heartbeats(self) -> None:
        while True:
            await asyncio.sleep(BEAT_EVERY)
            # The end of the first round alone does not notify watchers.
            self._report()
            self._line.send(Heartbeat())

    async def _listen(self) -> None:
        while (message := await self._line.receive(_decoder)) is not None:
            if isinstance(message, Query):
                task = asyncio.create_task(self._answer_query(message))
                self._query_tasks.add(task)
                task.add_done_callback(self._query_tasks.discard)
            elif message.backend in self._backends:
                self._backends[message.backend].on_peer_probe(message.good)
        self._runtime.stop()

    async def _answer_query(self, question: Query) -> None:
        if question.subject == "ready":
            value = msgspec.json.encode(await self._runtime.not_ready())
        elif question.subject == "page":
            value = await self._runtime.page_data(bytes(question.argument))
        else:
            value = msgspec.json.encode(encode_families(self._runtime.gateway.metrics.families()))
        self._line.send(QueryResult(question.number, msgspec.Raw(value)))


async def _serve(config: WorkerConfig, descriptor: int) -> None:
    line = await ipc.open_channel(socket.socket(fileno=descriptor))
    try:
        await Worker(config, line).run()
    finally:
        line.close()


def main(descriptor: int) -> int:
    """Serve until stopped; return 0, or CANNOT_SERVE if that is impossible."""
    die_with_parent(os.getppid())
    config: WorkerConfig = pickle.load(sys.stdin.buffer)
    process.log_to_stderr(config.level, config.number, config.log_format)
    try:
        process.run(_serve(config, descriptor))
    except (ValueError, OSError) as error:
        process.report_failure("mcpproxy run", error)
        return CANNOT_SERVE
    return 0


if __name__ == "__main__":
    # Pickled objects refer to this module by its name, not as __main__.
    from mcpproxy.proxy.workers import worker

    sys.exit(worker.main(int(sys.argv[1])))
