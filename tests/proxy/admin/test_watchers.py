"""Watchers of the admin port: bounded, with a share for each address."""

from collections.abc import AsyncIterator, Callable

from mcpproxy.limits.audit import STATUS_WATCHERS
from mcpproxy.proxy.admin.watchers import StatusWatchers


class Source:
    """A report that changes."""

    def __init__(self) -> None:
        self.watchers: set[Callable[[], None]] = set()
        self.text = b"1\n"

    def watch(self, watcher: Callable[[], None]) -> Callable[[], None]:
        """Register a watcher."""
        self.watchers.add(watcher)
        return lambda: self.watchers.discard(watcher)

    def line(self) -> bytes:
        """The report."""
        return self.text

    def change(self, text: bytes) -> None:
        """Change the report."""
        self.text = text
        for watcher in list(self.watchers):
            watcher()


async def _open(watchers: StatusWatchers, source: Source, address: str) -> AsyncIterator[bytes]:
    changes = watchers.changes(address, source.line)
    assert await anext(changes) == source.text
    return changes


async def _ends(changes: AsyncIterator[bytes]) -> bool:
    return await anext(changes, None) is None


async def test_a_watcher_gets_each_change_once() -> None:
    source = Source()
    watchers = StatusWatchers(source.watch)
    changes = await _open(watchers, source, "a")
    source.change(b"1\n")
    source.change(b"2\n")
    assert await anext(changes) == b"2\n"
    await changes.aclose()  # type: ignore[attr-defined]
    assert (len(watchers), source.watchers) == (0, set())


async def test_all_watchers_end_with_the_process() -> None:
    source = Source()
    watchers = StatusWatchers(source.watch)
    changes = await _open(watchers, source, "a")
    watchers.close()
    assert await _ends(changes)
    late = await _open(watchers, source, "a")
    assert await _ends(late)
    assert source.watchers == set()


async def test_watchers_beyond_the_limit_end_the_oldest_of_the_address_with_the_most() -> None:
    source = Source()
    watchers = StatusWatchers(source.watch)
    operator = await _open(watchers, source, "operator")
    greedy = [await _open(watchers, source, "x") for _ in range(STATUS_WATCHERS.value - 1)]
    before = STATUS_WATCHERS.reached
    greedy += [await _open(watchers, source, "x") for _ in range(3)]
    other = await _open(watchers, source, "y")
    assert STATUS_WATCHERS.reached == before + 4
    for changes in greedy[:4]:
        assert await _ends(changes)
    assert len(watchers) == STATUS_WATCHERS.value
    source.change(b"2\n")
    for changes in (operator, other, greedy[-1]):
        assert await anext(changes) == b"2\n"
    for changes in (operator, other, *greedy):
        await changes.aclose()  # type: ignore[attr-defined]
    assert source.watchers == set()
