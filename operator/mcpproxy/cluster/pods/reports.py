"""Streams of reports: one for each running pod, of which the newest report is kept."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Hashable, Iterable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from pydantic import ValidationError

from mcpproxy.api.untrusted_text import clean_text
from mcpproxy.api.v1alpha1.status import PodReport
from mcpproxy.cluster.errors import ClusterError, LimitExceeded, Unavailable
from mcpproxy.cluster.pods.rate_limits import Clock, LineCount, ReportRate
from mcpproxy.cluster.pods.retries import RetrySchedule
from mcpproxy.cluster.pods.status_stream import PodAddress, PodStatusReader
from mcpproxy.limits.pods import FIRST_REPORT, FOLLOWED_PODS, POD_SILENCE

log = logging.getLogger(__name__)

K = TypeVar("K", bound=Hashable)
_ERROR_TEXT: Final = 200
Sleep = Callable[[float], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class ReportLimits:
    """Time limits of streams, in seconds."""

    first_line: float = FIRST_REPORT.value
    """Limit for the first report of a new stream."""
    silence: float = POD_SILENCE.value
    """Limit for the next line of a stream; pods send one every 10 seconds."""
    grace: float = 15.0
    """Time for which a report stays valid while its stream is reopened."""


@dataclass(frozen=True, slots=True)
class PodReportState:
    """Report of one pod, or the error for which there is none."""

    settled: bool
    """True after the first attempt, whether it succeeded or failed."""
    report: PodReport | None
    error: str = ""
    """Error of the first failed attempt since the last report."""


NOT_ASKED: Final = PodReportState(settled=False, report=None)
NOT_REACHED: Final = PodReportState(settled=True, report=None)


@dataclass(slots=True)
class _PodStream(Generic[K]):
    key: K
    address: PodAddress
    pace: ReportRate
    """Rate that all pods under the key share."""
    lines: LineCount
    retries: RetrySchedule
    view: PodReportState = NOT_ASKED
    error: str = ""
    """Error of the last attempt."""
    reported_at: float = float("-inf")
    task: asyncio.Task[None] | None = field(default=None, repr=False)


class PodReportWatcher(Generic[K]):
    """Watcher that keeps streams to pods and calls back when a report or an error changes."""

    def __init__(
        self,
        reader: PodStatusReader,
        on_change: Callable[[K], None],
        clock: Clock,
        sleep: Sleep = asyncio.sleep,
        limits: ReportLimits | None = None,
        jitter: Callable[[], float] = lambda: 1.0,
    ) -> None:
        """`on_change` receives the key under which a pod is followed.

        `jitter` returns the factor of one pause between attempts.
        """
        self._reader = reader
        self._on_change = on_change
        self._clock = clock
        self._sleep = sleep
        self._limits = limits or ReportLimits()
        self._jitter = jitter
        self._streams: dict[str, _PodStream[K]] = {}
        self._followed: dict[K, set[str]] = {}
        """Uids of the pods that are followed, by key."""
        self._paces: dict[K, ReportRate] = {}
        self._left_out: dict[K, frozenset[str]] = {}

    def __len__(self) -> int:
        """Return the number of pods that are followed."""
        return len(self._streams)

    @property
    def reporting(self) -> int:
        """Number of pods with a report."""
        return sum(stream.view.report is not None for stream in self._streams.values())

    def follow(self, key: K, pods: Iterable[PodAddress]) -> None:
        """Follow exactly these pods under `key`, and close the streams to others."""
        wanted = self._share(key, {pod.uid: pod for pod in pods})
        for uid in list(self._followed.get(key, ())):
            if wanted.get(uid) != self._streams[uid].address:
                self._drop(uid)
        if not wanted:
            self._paces.pop(key, None)
            return
        pace = self._paces.setdefault(key, ReportRate(self._clock))
        for uid, pod in wanted.items():
            if uid not in self._streams:
                stream = self._streams[uid] = _PodStream(
                    key, pod, pace, LineCount(self._clock), RetrySchedule(self._clock)
                )
                self._followed.setdefault(key, set()).add(uid)
                stream.task = asyncio.create_task(self._run(stream), name=f"pod {pod.name}")

    def _share(self, key: K, pods: dict[str, PodAddress]) -> dict[str, PodAddress]:
        """Return the pods to follow, within the limit for one key, and note the others."""
        self._left_out.pop(key, None)
        if len(pods) <= FOLLOWED_PODS.value:
            return pods
        FOLLOWED_PODS.record()
        uids = sorted(pods, key=lambda uid: uid not in self._streams)
        self._left_out[key] = frozenset(uids[FOLLOWED_PODS.value :])
        return {uid: pods[uid] for uid in uids[: FOLLOWED_PODS.value]}

    def forget(self, key: K) -> None:
        """Close all streams under `key`."""
        self.follow(key, ())

    def view(self, uid: str) -> PodReportState:
        """Return the report or error of the pod with this uid."""
        stream = self._streams.get(uid)
        if stream is not None:
            return stream.view
        left_out = any(uid in uids for uids in self._left_out.values())
        return NOT_REACHED if left_out else NOT_ASKED

    async def close(self) -> None:
        """Close all streams."""
        tasks = [stream.task for stream in self._streams.values() if stream.task]
        for uid in list(self._streams):
            self._drop(uid)
        await asyncio.gather(*tasks, return_exceptions=True)

    def _drop(self, uid: str) -> None:
        stream = self._streams.pop(uid)
        followed = self._followed[stream.key]
        followed.discard(uid)
        if not followed:
            del self._followed[stream.key]
        if stream.task is not None:
            stream.task.cancel()

    async def _run(self, stream: _PodStream[K]) -> None:
        while True:
            delay = self._jitter() * await self._attempt(stream)
            if stream.view.report is None or self._is_stale(stream):
                self._lose(stream)
            await self._sleep(delay)

    async def _attempt(self, stream: _PodStream[K]) -> float:
        """Read until the stream ends, and return the seconds until the next attempt."""
        pod, reported_before = stream.address, stream.reported_at
        try:
            await self._listen(stream)
            reason = "the pod closed the stream"
        except LimitExceeded as error:
            stream.error = f"the pod {error}"
            self._lose(stream)
            delay = stream.retries.after_excess()
            where = (pod.namespace, pod.name)
            log.warning("pod %s/%s %s; retrying in %.0f s", *where, error, delay)
            return delay
        except ClusterError as error:
            reason = str(error)
        except Exception:
            # If a pod could end its task, its last report would stay forever.
            log.exception("reading pod %s/%s failed", pod.namespace, pod.name)
            stream.error = "unexpected error while parsing the report"
            self._lose(stream)
            return stream.retries.after_excess()
        stream.error = clean_text(reason, _ERROR_TEXT)
        log.debug("no report from pod %s: %s", pod.name, reason)
        return stream.retries.after_end(has_reported=stream.reported_at != reported_before)

    def _lose(self, stream: _PodStream[K]) -> None:
        """Drop the report; the error of the first failed attempt stays until the next report."""
        view = stream.view
        if not (view.settled and view.report is None and view.error):
            self._set(stream, PodReportState(settled=True, report=None, error=stream.error))

    def _is_stale(self, stream: _PodStream[K]) -> bool:
        return self._clock() - stream.reported_at >= self._limits.grace

    async def _listen(self, stream: _PodStream[K]) -> None:
        async with aclosing(self._reader.lines(stream.address)) as lines:
            loop, has_reported, limit = asyncio.get_running_loop(), False, self._limits.first_line
            deadline = loop.time() + limit
            while True:
                try:
                    async with asyncio.timeout_at(deadline):
                        line = await anext(lines)
                except StopAsyncIteration:
                    return
                except TimeoutError as error:
                    text = "nothing" if has_reported else "no report"
                    raise Unavailable(f"the pod sent {text} for {limit:g} s") from error
                stream.lines.add()
                if line:
                    has_reported, limit = True, self._limits.silence
                    self._set(stream, PodReportState(settled=True, report=_parse(line)))
                if has_reported:
                    deadline = loop.time() + limit
                stream.reported_at = self._clock()
                wait = stream.pace.take(line)
                # A buffered line is read without suspending, so let other tasks run first.
                await (self._sleep(wait) if wait else asyncio.sleep(0))

    def _set(self, stream: _PodStream[K], view: PodReportState) -> None:
        if view == stream.view:
            return
        stream.view = view
        self._on_change(stream.key)


def _parse(line: bytes) -> PodReport:
    try:
        # A newer runtime may report fields that this operator does not know.
        return PodReport.model_validate_json(line, extra="ignore")
    except ValidationError as error:
        # The text of the error would quote the input once for each error.
        raise Unavailable(f"not a report: {error.error_count()} errors") from error
