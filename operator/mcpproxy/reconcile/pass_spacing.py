"""Time between passes that pods ask for by changes of their reports."""

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from mcpproxy.limits.pods import REPORT_PASSES

K = TypeVar("K", bound=Hashable)


class PassSpacing(Generic[K]):
    """Delays changes so that one key causes few passes, the first of them at once."""

    def __init__(self, clock: Callable[[], float], add_after: Callable[[K, float], None]) -> None:
        """`add_after` lets a key be worked on after so many seconds."""
        self._clock = clock
        self._add_after = add_after
        self._due: dict[K, float] = {}

    def changed(self, key: K) -> None:
        """A report under the key has changed."""
        now = self._clock()
        due = self._due.get(key)
        if due is not None and due > now:
            REPORT_PASSES.record()
            return
        spacing = 1 / REPORT_PASSES.value
        # Keys that rest are forgotten, and the key's own place is kept while it is busy.
        self._due = {one: at for one, at in self._due.items() if at + spacing > now}
        due = self._due.get(key)
        self._due[key] = now if due is None else due + spacing
        self._add_after(key, self._due[key] - now)
