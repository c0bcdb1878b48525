"""The admin ports of all pods: each streams a report at its own address of the loopback device.

python -m bench.operator.pods KUBECONFIG

A line on standard input changes the state that the backends of one MCPProxy are in: `NAME STATE`.
"""

import asyncio
import json
import resource
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from bench.operator.api import Api, connected
from mcpproxy.api import constants
from mcpproxy.api.kubernetes.objects import Object
from mcpproxy.api.v1alpha1.status import BackendStatus, ComponentCounts, PodReport
from mcpproxy.cluster.resources import POD
from mcpproxy.controller.kopf_watches import POD_SELECTOR
from mcpproxy.reconcile.object_views import mounted_config_map

KEEP_ALIVE: Final = 10.0
_HEAD: Final = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nConnection: close\r\n\r\n"


class Pods:
    """All pods that have an address."""

    def __init__(self) -> None:
        self._states: dict[str, str] = {}
        self._changed: dict[str, asyncio.Event] = {}
        self._open: dict[str, asyncio.Task[None]] = {}

    def set_state(self, proxy: str, state: str) -> None:
        """Let the backends of an MCPProxy be in a state, and report it."""
        self._states[proxy] = state
        self._changed.pop(proxy, asyncio.Event()).set()

    def record(self, pod: Object, deleted: bool) -> None:
        """Listen at the address of a new pod; a pod that is deleted listens no more."""
        address = pod.get("status", {}).get("podIP")
        uid = pod["metadata"]["uid"]
        if deleted and uid in self._open:
            self._open.pop(uid).cancel()
        elif not deleted and address and uid not in self._open:
            self._open[uid] = asyncio.create_task(self._serve(pod, address))

    async def _serve(self, pod: Object, address: str) -> None:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await reader.readuntil(b"\r\n\r\n")
                await self._stream(pod, writer)
            except (OSError, asyncio.IncompleteReadError):
                pass
            finally:
                writer.close()

        server = await asyncio.start_server(answer, address, constants.PORT_ADMIN)
        async with server:
            await server.serve_forever()

    async def _stream(self, pod: Object, writer: asyncio.StreamWriter) -> None:
        proxy = pod["metadata"]["labels"][constants.LABEL_INSTANCE]
        writer.write(_HEAD)
        while True:
            changed = self._changed.setdefault(proxy, asyncio.Event())
            writer.write(report(pod, self._states.get(proxy, "Healthy")))
            await writer.drain()
            while not changed.is_set():
                try:
                    async with asyncio.timeout(KEEP_ALIVE):
                        await changed.wait()
                except TimeoutError:
                    writer.write(b"\n")
                    await writer.drain()


def report(pod: Object, state: str) -> bytes:
    """Return the report of a pod as a line."""
    proxy = pod["metadata"]["labels"][constants.LABEL_INSTANCE]
    mounted = mounted_config_map(pod["spec"], proxy) or ""
    counts = ComponentCounts(tools=5, prompts=1, resources=2)
    backend = {"name": "weather", "state": state, "components": counts}
    if state != "Healthy":
        backend |= {"components": None, "message": "connection refused"}
    made = PodReport(
        # A report is about the ConfigMap whose name ends in its hash.
        config_hash=mounted.rpartition("-")[2],
        version="1",
        clashes=[],
        backends=[BackendStatus.model_validate(backend)],
    )
    return json.dumps(made.to_manifest()).encode() + b"\n"


async def main(kubeconfig: str) -> None:
    """Answer for all pods until standard input ends."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limits[1], limits[1]))
    pods, loop = Pods(), asyncio.get_running_loop()
    async with AsyncExitStack() as stack:
        api: Api = await stack.enter_async_context(connected(kubeconfig))
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        watch = tasks.create_task(api.watch(POD, POD_SELECTOR, pods.record))
        reader = asyncio.StreamReader()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := await reader.readline():
            pods.set_state(*line.decode().split())
        watch.cancel()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]).read_text()))
