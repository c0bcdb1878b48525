"""Redaction of members of arguments."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

REDACTED: Final = "[redacted]"
"""Value that replaces a redacted one."""
_ONE: Final = "*"
_ANY: Final = "**"
_States = frozenset[tuple[int, int]]
"""Positions in the patterns: the number of a pattern and the number of its next key."""


class Redaction:
    """Paths of the members whose values are replaced.

    A path consists of keys joined with dots. `*` stands for one key or index of an array, and `**`
    for any number of them, including none. Case does not matter.
    """

    def __init__(self, paths: Iterable[str]) -> None:
        self._paths: Sequence[tuple[str, ...]] = [
            tuple(path.casefold().split(".")) for path in paths
        ]
        self._start = self._closure((number, 0) for number in range(len(self._paths)))

    def apply(self, arguments: Any) -> Any:
        """Return a copy of a JSON value without the values at the paths.

        The time is proportional to the size of the value times that of the paths.
        """
        return self._copy(arguments, self._start) if self._paths else arguments

    def _copy(self, value: Any, states: _States) -> Any:
        if not states:
            return value
        if isinstance(value, dict):
            return {key: self._member(item, key, states) for key, item in value.items()}
        if isinstance(value, list):
            return [self._member(item, "", states) for item in value]
        return value

    def _member(self, value: Any, key: str, states: _States) -> Any:
        following = self._advance(states, key.casefold())
        if any(place == len(self._paths[number]) for number, place in following):
            return REDACTED
        return self._copy(value, following)

    def _advance(self, states: _States, key: str) -> _States:
        moved = []
        for number, place in states:
            expected = self._paths[number][place]
            if expected == _ANY:
                moved.append((number, place))
            elif expected in (_ONE, key):
                moved.append((number, place + 1))
        return self._closure(moved)

    def _closure(self, states: Iterable[tuple[int, int]]) -> _States:
        """Add the positions after every `**`, which may stand for no key."""
        reached: set[tuple[int, int]] = set()
        for number, first in states:
            place, path = first, self._paths[number]
            reached.add((number, place))
            while place < len(path) and path[place] == _ANY:
                place += 1
                reached.add((number, place))
        return frozenset(reached)
