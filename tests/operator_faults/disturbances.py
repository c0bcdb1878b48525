"""Disturbances of the way between operator and API server, at random from a seed."""

import json
import random
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Final

from tests.apiserver.wire import Request, Wire

_LATEST: Final = 32


class Disturbance:
    """Disturbs some requests and events until it is told to stop."""

    def __init__(self, seed: str, share: float) -> None:
        """`share` is the part of requests and events that are disturbed."""
        self._random = random.Random(seed)
        self._share = share
        self.count = 0
        """Requests and events that were disturbed."""
        self.active = True

    def chance(self) -> bool:
        """Return True if this request or event is to be disturbed: the first one always is."""
        if not self.active or (self.count and self._random.random() >= self._share):
            return False
        self.count += 1
        return True

    def one_of(self, ways: tuple[int | str, ...]) -> int | str:
        """Return one of several ways."""
        return self._random.choice(ways)


def refuse(*ways: int | str) -> Callable[[Wire, Disturbance], None]:
    """Return a disturbance of requests: a code, "hang" or "cut" in place of the answer."""

    def install(wire: Wire, disturbance: Disturbance) -> None:
        decided: dict[int, int | str | None] = {}

        def fault(request: Request) -> int | str | None:
            if request.watches or "/leases" in request.path or not disturbance.active:
                return None
            # The wire asks again and again about a request that hangs.
            if id(request) not in decided:
                hit = disturbance.chance()
                decided[id(request)] = disturbance.one_of(ways) if hit else None
                kept.append(request)
            return decided[id(request)]

        kept: list[Request] = []
        wire.fault = fault

    return install


def answer_late(wire: Wire, disturbance: Disturbance) -> None:
    """Give reads the answer that the same read got before."""
    wire.replays = lambda request: request.method == "GET" and disturbance.chance()


def lose(wire: Wire, disturbance: Disturbance) -> None:
    """Lose events of watches."""
    wire.events = lambda request, line: [] if disturbance.chance() else [line]


def double(wire: Wire, disturbance: Disturbance) -> None:
    """Bring events of watches twice."""
    wire.events = lambda request, line: [line, line] if disturbance.chance() else [line]


def reorder(wire: Wire, disturbance: Disturbance) -> None:
    """Bring some events of a watch only after the next one."""
    held: dict[str, list[bytes]] = defaultdict(list)

    def events(request: Request, line: bytes) -> Iterator[bytes]:
        if disturbance.chance():
            held[request.path].append(line)
            return
        yield line
        yield from held.pop(request.path, [])

    wire.events = events


def replay(wire: Wire, disturbance: Disturbance) -> None:
    """Bring old events again, long after newer ones."""
    seen: dict[str, list[bytes]] = defaultdict(list)

    def events(request: Request, line: bytes) -> Iterator[bytes]:
        old = seen[request.path]
        yield line
        if old and disturbance.chance():
            yield old[0]
        seen[request.path] = [*old, line][-_LATEST:]

    wire.events = events


def expire(wire: Wire, disturbance: Disturbance) -> None:
    """End watches because their resource version was compacted; what follows is lost."""
    gone = {"kind": "Status", "status": "Failure", "reason": "Expired", "code": 410}
    error = json.dumps({"type": "ERROR", "object": gone}).encode()
    wire.events = lambda request, line: [error, None] if disturbance.chance() else [line]


def cut(wire: Wire, disturbance: Disturbance) -> None:
    """End watches in the middle of their events."""
    wire.events = lambda request, line: [line, None] if disturbance.chance() else [line]
