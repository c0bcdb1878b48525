"""Patterns with wildcards, matched without backtracking, so that no input makes a match slow.

One integer holds all positions of the text that the pattern has reached; bit p means that the first
p bytes match. Each part of the pattern maps it to the next integer with a few operations on whole
integers. The cost is at most (bytes of the pattern) x (bytes of the text) / (bits of a digit).
"""

from collections.abc import Iterable, Iterator
from enum import Enum
from functools import cache
from itertools import groupby
from typing import Final


class Wildcard(Enum):
    """Part of a pattern that matches varying text."""

    ONE = 1
    """Exactly one character."""
    SEGMENT = 2
    """Any text without `/`, `?` and `#`."""
    ANY = 3
    """Any text."""


Part = bytes | Wildcard

_STOPS: Final = b"/?#"
_DIGIT: Final = 32
"""Bytes of a text whose bits one step of integer arithmetic covers, approximately."""
_EACH: Final = 128
"""Fixed cost of an operation in steps; it dominates for short texts."""


class TooManySteps(Exception):
    """Matching a text would take more steps than allowed."""


class PatternText:
    """Text to match with patterns; all patterns share its derived data."""

    def __init__(self, text: str, max_steps: int | None = None) -> None:
        """Create a text. `max_steps` limits the work of all patterns together; see `steps`."""
        self.data = text.encode("utf-8", "surrogatepass")
        self.size = len(self.data)
        self.all = (1 << (self.size + 1)) - 1
        self.steps = 0
        """Work so far: bytes examined one by one, and digits of integers."""
        self._max_steps = max_steps
        self._places: dict[bytes, int] = {}

    def spend(self, steps: int) -> None:
        """Count work before it is done. Raise TooManySteps."""
        self.steps += steps + _EACH
        if self._max_steps is not None and self.steps > self._max_steps:
            raise TooManySteps

    def operate(self, operations: int) -> None:
        """Count operations on integers with a bit for each byte. Raise TooManySteps."""
        self.spend(operations * (self.size // _DIGIT + 1))

    def places(self, wanted: bytes) -> int:
        """Return the positions of all bytes in `wanted`, as bits."""
        bits = self._places.get(wanted)
        if bits is None:
            self.spend(2 * self.size)
            digits = self.data[::-1].translate(_binary(wanted))
            bits = self._places[wanted] = int(digits, 2) if digits else 0
        return bits


@cache  # Single bytes and two sets of bytes: at most 258 tables.
def _binary(wanted: bytes) -> bytes:
    return bytes(b"01"[byte in wanted] for byte in range(256))


class Pattern:
    """Sequence of bytes and wildcards."""

    def __init__(self, sequence: Iterable[Part]) -> None:
        parts = list(_normalized(sequence))
        self._fixed = all(isinstance(part, bytes) for part in parts)
        self._head = _pop_literal(parts, 0)
        self._tail = _pop_literal(parts, -1)
        self._middle = parts

    def matches(self, text: PatternText) -> bool:
        """Return True if the pattern matches the whole text. Raise TooManySteps."""
        head, tail, data = self._head, self._tail, text.data
        text.spend(len(head) + len(tail))
        if self._fixed:
            return data == head
        end = text.size - len(tail)
        if len(head) > end or not (data.startswith(head) and data.endswith(tail)):
            return False
        reached = 1 << len(head)
        for index, part in enumerate(self._middle):
            if isinstance(part, Wildcard):
                reached = _match_wildcard(part, reached, text)
            elif self._floats(index):
                reached = _find_literal(part, reached, text)
            else:
                reached = _match_literal(part, reached, text)
            if not reached:
                return False
        return bool(reached >> end & 1)

    def _floats(self, index: int) -> bool:
        """Return True for bytes between two ANY wildcards, for which the first match is sufficient.

        A later match leaves less of the text for the rest of the pattern.
        """
        neighbors = self._middle[index - 1 : index + 2 : 2]
        return index > 0 and neighbors == [Wildcard.ANY, Wildcard.ANY]


def _pop_literal(parts: list[Part], end: int) -> bytes:
    """Remove the bytes at one end of a pattern from its parts, and return them."""
    if parts and isinstance(parts[end], bytes):
        literal = parts.pop(end)
        assert isinstance(literal, bytes)
        return literal
    return b""


def _normalized(sequence: Iterable[Part]) -> Iterator[Part]:
    """Join adjacent bytes, and drop redundant adjacent wildcards."""
    for kind, run in groupby(sequence, _kind):
        if kind is bytes:
            literal = b"".join(part for part in run if isinstance(part, bytes))
            if literal:
                yield literal
        elif kind is Wildcard.ONE:
            yield from (Wildcard.ONE for _ in run)
        else:
            yield Wildcard.ANY if Wildcard.ANY in run else Wildcard.SEGMENT


def _kind(part: Part) -> object:
    if isinstance(part, bytes):
        return bytes
    return Wildcard.ONE if part is Wildcard.ONE else Wildcard


def _match_wildcard(wildcard: Wildcard, reached: int, text: PatternText) -> int:
    """Return the positions after a wildcard."""
    text.operate(8)
    if wildcard is Wildcard.ANY:
        return text.all & -(reached & -reached)
    if wildcard is Wildcard.SEGMENT:
        inside = (text.all >> 1) & ~text.places(_STOPS)
        return _extend(reached, inside)
    # A character is one byte followed by its continuation bytes.
    continuing = text.places(_CONTINUING)
    return _extend((reached << 1) & text.all, continuing) & ~continuing


def _extend(reached: int, inside: int) -> int:
    """Return all positions that runs of `inside` reach; an addition carries through a run."""
    return reached | (((reached & inside) + inside) ^ inside)


def _find_literal(literal: bytes, reached: int, text: PatternText) -> int:
    start = (reached & -reached).bit_length() - 1
    text.spend(text.size - start)
    place = text.data.find(literal, start)
    return 0 if place < 0 else 1 << (place + len(literal))


def _match_literal(literal: bytes, reached: int, text: PatternText) -> int:
    for byte in literal:
        text.operate(2)
        reached = (reached & text.places(bytes((byte,)))) << 1
        if not reached:
            break
    return reached


_CONTINUING: Final = bytes(range(0x80, 0xC0))
"""UTF-8 continuation bytes."""
