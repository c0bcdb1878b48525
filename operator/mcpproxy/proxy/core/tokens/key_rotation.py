"""Which sealing key is used when, while keys are replaced by others.

Instances learn of a new key one after the other (a Secret reaches its pods within about 90 s). So
a key opens as soon as it is known, but seals only once the others must know it, too; and a key that
is gone opens for as long as what it has sealed may be valid.
"""

from collections.abc import Sequence
from typing import Final

from mcpproxy.proxy.core.tokens.session_token import LIFETIME

SETTLE: Final = 180.0
"""Seconds from the time a key is seen to the time it seals, if there is one that all know."""


class KeyRotation:
    """The keys of one instance; times are in seconds of one clock."""

    def __init__(self, keys: Sequence[bytes], now: float) -> None:
        """`keys` are those to use, the current one first."""
        self._keys = tuple(keys)
        self._since = now
        self._gone: dict[bytes, float] = {}

    def found(self, keys: Sequence[bytes], now: float) -> None:
        """These are the keys now."""
        if tuple(keys) == self._keys:
            return
        self._gone |= {key: now for key in self._keys if key not in keys}
        self._keys = tuple(keys)
        self._since = now

    def in_use(self, now: float) -> tuple[bytes, ...]:
        """The key that seals, then all others that open."""
        self._gone = {key: at for key, at in self._gone.items() if now - at < LIFETIME}
        every = (*self._keys, *(key for key in self._gone if key not in self._keys))
        if len(every) > 1 and now - self._since < SETTLE:
            return every[1], every[0], *every[2:]
        return every
