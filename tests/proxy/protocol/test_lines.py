"""Lines of limited length."""

import random
from itertools import pairwise

import pytest

from mcpproxy.proxy.protocol.lines import EDGE, LineSplitter, LineTooLong

LIMIT = 3 * EDGE


def _lines(content: bytes, cuts: list[int]) -> list[bytes | LineTooLong]:
    """The lines of a stream that comes in these pieces."""
    splitter = LineSplitter(LIMIT)
    lines: list[bytes | LineTooLong] = []
    for begin, end in pairwise([0, *cuts, len(content)]):
        splitter.feed(content[begin:end])
        while (line := splitter.next()) is not None:
            lines.append(line)
    return [*lines, splitter.rest()]


def _expected(line: bytes) -> bytes | LineTooLong:
    return line if len(line) <= LIMIT else LineTooLong(line[:EDGE], line[-EDGE:])


@pytest.mark.parametrize("seed", range(20))
def test_lines_do_not_depend_on_the_pieces_that_they_come_in(seed: int) -> None:
    chance = random.Random(seed)
    sizes = [chance.choice([0, 1, EDGE, LIMIT - 1, LIMIT, LIMIT + 1, 9 * EDGE]) for _ in range(9)]
    content = b"\n".join(chance.randbytes(size).replace(b"\n", b" ") for size in sizes)
    cuts = sorted(chance.randrange(len(content) + 1) for _ in range(chance.choice([0, 5, 200])))
    assert _lines(content, cuts) == [_expected(line) for line in content.split(b"\n")]


def test_a_line_that_is_too_long_takes_constant_memory() -> None:
    splitter = LineSplitter(LIMIT)
    held = []
    for _ in range(1000):
        splitter.feed(b"x" * EDGE)
        assert splitter.next() is None
        held.append(len(splitter._buffer) + len(splitter._tail))
    assert max(held) <= LIMIT + EDGE
    splitter.feed(b"\nnext\n")
    assert splitter.next() == LineTooLong(b"x" * EDGE, b"x" * EDGE)
    assert splitter.next() == b"next"
