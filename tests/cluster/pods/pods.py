"""Pods in memory that a test lets speak, fall silent and go."""

import asyncio
from collections import defaultdict
from collections.abc import AsyncGenerator
from typing import Any

from mcpproxy.api.v1alpha1.status import BackendStatus, ComponentCounts, PodReport
from mcpproxy.cluster.errors import Unavailable
from mcpproxy.cluster.pods.status_stream import PodAddress


class FakePods:
    """A PodStatusReader: each pod sends what the test gave it; a lost one can't be reached."""

    def __init__(self) -> None:
        self.opened: list[str] = []
        self.lost: set[str] = set()
        self._last: dict[str, bytes] = {}
        self._said: defaultdict[str, asyncio.Queue[bytes | None]] = defaultdict(asyncio.Queue)

    def say(self, uid: str, report: PodReport | None) -> None:
        """Send a report, or a keep-alive."""
        line = report.model_dump_json(by_alias=True).encode() if report else b""
        self._last[uid] = line or self._last.get(uid, b"")
        self._said[uid].put_nowait(line)

    def say_bytes(self, uid: str, line: bytes) -> None:
        """Send any line."""
        self._said[uid].put_nowait(line)

    def hang_up(self, uid: str) -> None:
        """End the stream."""
        self._said[uid].put_nowait(None)

    async def lines(self, pod: PodAddress) -> AsyncGenerator[bytes]:
        """Lines that the pod sends."""
        self.opened.append(pod.uid)
        if pod.uid in self.lost:
            raise Unavailable("connection refused")
        if pod.uid in self._last and self._said[pod.uid].empty():
            yield self._last[pod.uid]
        while True:
            line = await self._said[pod.uid].get()
            if line is None:
                return
            yield line


_WHY: dict[str | None, str] = {
    "Unreachable": "connection refused",
    "TimedOut": "no answer",
    "NotMCP": "no MCP",
}


def a_report(
    config_hash: str = "h", *, tools: int = 2, reason: str | None = None, **states: Any
) -> PodReport:
    """A report: state of each backend by name; a Healthy one has so many tools.

    `reason` is that of all backends which are not Healthy.
    """
    counts = ComponentCounts(tools=tools, prompts=1)
    backends = [
        BackendStatus(name=name, state=state, components=counts)
        if state == "Healthy"
        else BackendStatus(name=name, state=state, reason=reason, message=_WHY.get(reason))
        for name, state in sorted(states.items())
    ]
    return PodReport(config_hash=config_hash, version="1", backends=backends, clashes=[])
