"""Consecutive ports, as worker processes need them."""

import contextlib
import fcntl
import functools
import os
import random
import socket
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Final

_RETURNED: Final[set[int]] = set()
"""Ports that this process has been given; it may not have bound them yet."""
# A seed of tests must not make all processes try the same ports.
_CHANCE: Final = random.SystemRandom()


def ports_in_a_row(count: int) -> int:
    """Return the first of `count` consecutive unused ports of the loopback interface.

    They are below the ephemeral ports, which the system assigns to connections. No port is returned
    twice, also to other processes of the same user as long as this one runs.
    """
    for first in _CHANCE.sample(range(20_000, 32_000, count), 100):
        ports = range(first, first + count)
        if not (_RETURNED.isdisjoint(ports) and _reserve(ports)):
            continue
        with contextlib.ExitStack() as stack:
            try:
                for port in ports:
                    probe = stack.enter_context(socket.socket())
                    probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            _RETURNED.update(ports)
            return first
    raise OSError(f"there are no {count} free ports in a row")


def _reserve(ports: Iterable[int]) -> bool:
    """Lock the ports against other processes until this one ends; False if one is locked."""
    try:
        for port in ports:
            fcntl.lockf(_locks(), fcntl.LOCK_EX | fcntl.LOCK_NB, 1, port)
    except OSError:
        return False
    return True


@functools.cache
def _locks() -> int:
    """Open the file whose bytes stand for ports, until this process ends."""
    path = Path(tempfile.gettempdir()) / f"mcpproxy-ports-{os.getuid()}"
    return os.open(path, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600)
