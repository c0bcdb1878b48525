"""Consecutive ports, as worker processes need them."""

import contextlib
import random
import socket
from typing import Final

_RETURNED: Final[set[int]] = set()
"""Ports that this process has been given; it may not have bound them yet."""


def ports_in_a_row(count: int) -> int:
    """Return the first of `count` consecutive unused ports of the loopback interface.

    They are below the ephemeral ports, which the system assigns to connections. No port is returned
    twice.
    """
    for first in random.sample(range(20_000, 32_000, count), 100):
        ports = range(first, first + count)
        if not _RETURNED.isdisjoint(ports):
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
