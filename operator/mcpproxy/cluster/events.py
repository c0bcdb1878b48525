"""Kubernetes Events about MCPProxies, by the rules of client-go's recorder.

An Event that recurs within ten minutes increases the count of the same object. A backend that fails
and recovers repeatedly therefore leaves two objects, not one for each change. Events about
different backends are different objects, up to a limit for each MCPProxy. Events are of core/v1,
because events.k8s.io/v1 forbids the counts and times by which kubectl sorts.
"""

from collections import OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

from mcpproxy.api import constants
from mcpproxy.api.kubernetes.objects import Object
from mcpproxy.api.untrusted_text import ELLIPSIS, clean_text
from mcpproxy.cluster.resources import EVENT

EventType = Literal["Normal", "Warning"]

SAME_SERIES: Final = 600.0
"""Seconds after the last Event of a series during which another one increases its count."""
MAX_BACKEND_SERIES: Final = 64
"""Series about single backends that an MCPProxy has at a time; further backends share one series
for each reason."""
_MAX_SERIES: Final = 4096
_MAX_NOTE: Final = 1024
"""Size limit of the API server in bytes."""


_Key = tuple[str, EventType, str, str]
"""UID of the object, type, reason, and backend."""


@dataclass(slots=True)
class _EventSeries:
    name: str
    first: datetime
    last: datetime
    count: int = 0


class EventRecorder:
    """Builder of Events that remembers the recent ones."""

    def __init__(self, instance: str) -> None:
        """`instance` names this process."""
        self._instance = instance[:128]
        self._series: OrderedDict[_Key, _EventSeries] = OrderedDict()

    def event(
        self,
        regarding: Object,
        type_: EventType,
        reason: str,
        note: str,
        now: datetime,
        backend: str = "",
    ) -> Object:
        """Return the Event to apply about `regarding`: a new one, or one with a higher count.

        `backend` is the name of the backend that the Event is about.
        """
        metadata = regarding["metadata"]
        key = self._key(metadata["uid"], type_, reason, backend, now)
        series = self._of(key, metadata["name"], now)
        return {
            "apiVersion": EVENT.api_version,
            "kind": EVENT.name,
            "metadata": {"name": series.name, "namespace": metadata["namespace"]},
            "involvedObject": {
                "apiVersion": regarding["apiVersion"],
                "kind": regarding["kind"],
                "name": metadata["name"],
                "namespace": metadata["namespace"],
                "uid": metadata["uid"],
            },
            "type": type_,
            "reason": reason,
            "message": _cut(note),
            "firstTimestamp": _time(series.first),
            "lastTimestamp": _time(series.last),
            "count": series.count,
            "source": {"component": constants.FIELD_MANAGER},
            "reportingComponent": f"{constants.GROUP}/{constants.FIELD_MANAGER}",
            "reportingInstance": self._instance,
        }

    def _key(self, uid: str, type_: EventType, reason: str, backend: str, now: datetime) -> _Key:
        key = (uid, type_, reason, backend)
        if not backend or self._is_open(key, now):
            return key
        others = sum(1 for k in self._series if k[0] == uid and k[3] and self._is_open(k, now))
        return key if others < MAX_BACKEND_SERIES else (uid, type_, reason, "")

    def _is_open(self, key: _Key, now: datetime) -> bool:
        series = self._series.get(key)
        return series is not None and (now - series.last).total_seconds() < SAME_SERIES

    def _of(self, key: _Key, proxy: str, now: datetime) -> _EventSeries:
        is_open = self._is_open(key, now)
        series = self._series.pop(key, None)
        if series is None or not is_open:
            # The names are sorted by time.
            series = _EventSeries(f"{proxy}.{int(now.timestamp() * 1e6):016x}", now, now)
            while any(existing.name == series.name for existing in self._series.values()):
                series.name += "a"
        self._series[key] = series
        while len(self._series) > _MAX_SERIES:
            self._series.popitem(last=False)
        series.last, series.count = now, series.count + 1
        return series


def _time(when: datetime) -> str:
    return when.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _cut(note: str) -> str:
    text = clean_text(note, _MAX_NOTE)
    if len(text.encode()) <= _MAX_NOTE:
        return text
    room = _MAX_NOTE - len(ELLIPSIS.encode())
    return text.encode()[:room].decode(errors="ignore") + ELLIPSIS
