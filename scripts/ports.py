"""Consecutive ports, as worker processes need them."""

import contextlib
import random
import socket


def ports_in_a_row(count: int) -> int:
    """Return the first of `count` consecutive unused ports of the loopback interface.

    They are below the ephemeral ports, which the system assigns to connections.
    """
    for first in random.sample(range(20_000, 32_000, count), 100):
        with contextlib.ExitStack() as stack:
            try:
                for port in range(first, first + count):
                    probe = stack.enter_context(socket.socket())
                    probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return first
    raise OSError(f"there are no {count} free ports in a row")
