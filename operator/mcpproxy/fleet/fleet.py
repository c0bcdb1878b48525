"""What the pods report of themselves: one stream per running pod, the newest report kept."""

import asyncio
import json
import logging
from collections.abc import Awaitable, Callable, Hashable, Iterable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from pydantic import ValidationError

from mcpproxy.api.status import PodReport
from mcpproxy.cluster.errors import ClusterError, Unavailable
from mcpproxy.cluster.pods import PodAddress, PodReader

log = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)
Sleep = Callable[[float], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Limits:
    """How long the fleet waits; seconds."""

    first_line: float = 10.0
    """Until a new stream has brought its first report."""
    silence: float = 30.0
    """Until a stream without a line is given up; pods send one every 10."""
    grace: float = 15.0
    """How long a report stays good while its stream is being opened again."""
    first_retry: float = 0.25
    last_retry: float = 5.0


@dataclass(frozen=True, slots=True)
class View:
    """What is known of one pod."""

    settled: bool
    """It was asked once, with whatever outcome."""
    report: PodReport | None


NOT_ASKED: Final = View(settled=False, report=None)


@dataclass(slots=True)
class _Stream(Generic[K]):
    key: K
    address: PodAddress
    view: View = NOT_ASKED
    heard_at: float = 0.0
    task: asyncio.Task[None] | None = field(default=None, repr=False)


class Fleet(Generic[K]):
    """Keeps streams to the pods it is told to follow and calls back when a view changes."""

    def __init__(
        self,
        reader: PodReader,
        on_change: Callable[[K], None],
        clock: Callable[[], float],
        sleep: Sleep = asyncio.sleep,
        limits: Limits | None = None,
    ) -> None:
        """`on_change` is given the key that a pod is followed under."""
        self._reader = reader
        self._on_change = on_change
        self._clock = clock
        self._sleep = sleep
        self._limits = limits or Limits()
        self._streams: dict[str, _Stream[K]] = {}

    def __len__(self) -> int:
        """Number of pods that are followed."""
        return len(self._streams)

    @property
    def heard(self) -> int:
        """Number of pods whose report is known."""
        return sum(stream.view.report is not None for stream in self._streams.values())

    def follow(self, key: K, pods: Iterable[PodAddress]) -> None:
        """Follow exactly these pods under `key`; others followed under it so far are dropped."""
        wanted = {pod.uid: pod for pod in pods}
        for uid, stream in list(self._streams.items()):
            if stream.key == key and wanted.get(uid) != stream.address:
                self._drop(uid)
        for uid, pod in wanted.items():
            if uid not in self._streams:
                stream = self._streams[uid] = _Stream(key, pod)
                stream.task = asyncio.create_task(self._run(stream), name=f"pod {pod.name}")

    def forget(self, key: K) -> None:
        """Follow no pod under `key` any more."""
        self.follow(key, ())

    def view(self, uid: str) -> View:
        """What is known of the pod with this uid."""
        stream = self._streams.get(uid)
        return stream.view if stream else NOT_ASKED

    async def close(self) -> None:
        """End all streams."""
        tasks = [stream.task for stream in self._streams.values() if stream.task]
        for uid in list(self._streams):
            self._drop(uid)
        await asyncio.gather(*tasks, return_exceptions=True)

    def _drop(self, uid: str) -> None:
        stream = self._streams.pop(uid)
        if stream.task is not None:
            stream.task.cancel()

    async def _run(self, stream: _Stream[K]) -> None:
        delay = self._limits.first_retry
        while True:
            heard_before = stream.heard_at
            try:
                await self._listen(stream)
                reason = "the pod ended the stream"
            except ClusterError as error:
                reason = str(error)
            if stream.heard_at != heard_before:
                delay = self._limits.first_retry
            log.debug("no report from pod %s: %s", stream.address.name, reason)
            if stream.view.report is None or self._is_stale(stream):
                self._set(stream, View(settled=True, report=None))
            await self._sleep(delay)
            delay = min(delay * 2, self._limits.last_retry)

    def _is_stale(self, stream: _Stream[K]) -> bool:
        return self._clock() - stream.heard_at >= self._limits.grace

    async def _listen(self, stream: _Stream[K]) -> None:
        async with aclosing(self._reader.lines(stream.address)) as lines:
            limit = self._limits.first_line
            while True:
                try:
                    async with asyncio.timeout(limit):
                        line = await anext(lines)
                except StopAsyncIteration:
                    return
                except TimeoutError as error:
                    raise Unavailable(f"silent for {limit:g} s") from error
                limit = self._limits.silence
                if line:
                    self._set(stream, View(settled=True, report=_parse(line)))
                stream.heard_at = self._clock()

    def _set(self, stream: _Stream[K], view: View) -> None:
        if view == stream.view:
            return
        stream.view = view
        self._on_change(stream.key)


def _parse(line: bytes) -> PodReport:
    try:
        found = json.loads(line)
        # A newer runtime may report fields that this operator doesn't know.
        return PodReport.model_validate(found, extra="ignore")
    except (ValueError, ValidationError) as error:
        raise Unavailable(f"not a report: {error}") from error
