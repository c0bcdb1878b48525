"""Patterns with wildcards, matched without backtracking: neither side can make a match slow.

All positions of the text that the pattern reaches so far are one integer, bit p for "the first p
bytes match"; every piece of the pattern maps it to the next one with a few operations on whole
integers. The cost is at most (bytes of the pattern) x (bytes of the text) / (bits of a digit).
"""

from collections.abc import Iterable, Iterator
from enum import Enum
from functools import cache
from itertools import groupby
from typing import Final


class Wildcard(Enum):
    """A part of a pattern that stands for text which the pattern does not give."""

    ONE = 1
    """Exactly one character."""
    SEGMENT = 2
    """Any text without `/`, `?` and `#`."""
    ANY = 3
    """Any text."""


Part = bytes | Wildcard

_STOPS: Final = b"/?#"
_DIGIT: Final = 32
"""Bytes of a text whose bits one step of integer arithmetic covers, in round figures."""
_EACH: Final = 128
"""Steps of the shortest operation, in which the interpreter's own work outweighs the rest."""


class TooManySteps(Exception):
    """Matching a text has taken more steps than it may."""


class PatternText:
    """A text that is matched with patterns; what is derived from it serves all of them."""

    def __init__(self, text: str, max_steps: int | None = None) -> None:
        """`max_steps` limits the work for all patterns together; see `steps`."""
        self.data = text.encode("utf-8", "surrogatepass")
        self.size = len(self.data)
        self.all = (1 << (self.size + 1)) - 1
        self.steps = 0
        """Work so far: bytes that were looked at one by one, and digits of integers."""
        self._max_steps = max_steps
        self._places: dict[bytes, int] = {}

    def spend(self, steps: int) -> None:
        """Count work before it is done. Raises TooManySteps."""
        self.steps += steps + _EACH
        if self._max_steps is not None and self.steps > self._max_steps:
            raise TooManySteps

    def operate(self, operations: int) -> None:
        """Count operations on integers with a bit for each byte. Raises TooManySteps."""
        self.spend(operations * (self.size // _DIGIT + 1))

    def places(self, wanted: bytes) -> int:
        """The positions of all bytes that are among the wanted ones, as bits."""
        known = self._places.get(wanted)
        if known is None:
            self.spend(2 * self.size)
            digits = self.data[::-1].translate(_binary(wanted))
            known = self._places[wanted] = int(digits, 2) if digits else 0
        return known


@cache  # Single bytes, and two sets of them: at most 258 tables.
def _binary(wanted: bytes) -> bytes:
    return bytes(b"01"[byte in wanted] for byte in range(256))


class Pattern:
    """A sequence of bytes and wildcards."""

    def __init__(self, sequence: Iterable[Part]) -> None:
        parts = list(_merged(sequence))
        self._fixed = all(isinstance(part, bytes) for part in parts)
        self._head = _taken(parts, 0)
        self._tail = _taken(parts, -1)
        self._middle = parts

    def matches(self, text: PatternText) -> bool:
        """True if the pattern describes the whole text. Raises TooManySteps."""
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
                reached = _passed(part, reached, text)
            elif self._floats(index):
                reached = _found(part, reached, text)
            else:
                reached = _spelled(part, reached, text)
            if not reached:
                return False
        return bool(reached >> end & 1)

    def _floats(self, index: int) -> bool:
        """True for bytes between two wildcards for any text: their first place is as good as all.

        A later place leaves less of the text for the rest of the pattern.
        """
        around = self._middle[index - 1 : index + 2 : 2]
        return index > 0 and around == [Wildcard.ANY, Wildcard.ANY]


def _taken(parts: list[Part], end: int) -> bytes:
    """The bytes at one end of a pattern, which are not among its parts afterwards."""
    if parts and isinstance(parts[end], bytes):
        literal = parts.pop(end)
        assert isinstance(literal, bytes)
        return literal
    return b""


def _merged(sequence: Iterable[Part]) -> Iterator[Part]:
    """Bytes in one piece, and of wildcards side by side those that make a difference."""
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


def _passed(wildcard: Wildcard, reached: int, text: PatternText) -> int:
    """The positions behind a wildcard."""
    text.operate(8)
    if wildcard is Wildcard.ANY:
        return text.all & -(reached & -reached)
    if wildcard is Wildcard.SEGMENT:
        inside = (text.all >> 1) & ~text.places(_STOPS)
        return _carried(reached, inside)
    # One character has one byte and those that continue it.
    continuing = text.places(_CONTINUING)
    return _carried((reached << 1) & text.all, continuing) & ~continuing


def _carried(reached: int, inside: int) -> int:
    """The positions from which runs of `inside` lead on: an addition carries through each run."""
    return reached | (((reached & inside) + inside) ^ inside)


def _found(literal: bytes, reached: int, text: PatternText) -> int:
    start = (reached & -reached).bit_length() - 1
    text.spend(text.size - start)
    place = text.data.find(literal, start)
    return 0 if place < 0 else 1 << (place + len(literal))


def _spelled(literal: bytes, reached: int, text: PatternText) -> int:
    for byte in literal:
        text.operate(2)
        reached = (reached & text.places(bytes((byte,)))) << 1
        if not reached:
            break
    return reached


_CONTINUING: Final = bytes(range(0x80, 0xC0))
"""Bytes of UTF-8 that go on with a character."""
