"""Choice of the sealing key while keys are rotated.

Instances learn of a new key one after the other, because a Secret reaches its pods within about 90
s. A new key therefore opens tokens at once, but seals them only after all instances must have it. A
removed key opens tokens until the last token that it sealed has expired.
"""

from collections.abc import Sequence
from typing import Final

from mcpproxy.proxy.core.tokens.session_token import LIFETIME

SETTLE: Final = 180.0
"""Seconds after which a new key seals, if an older key exists."""


class KeyRotation:
    """Sealing keys of one instance. Times are in seconds of one clock."""

    def __init__(self, keys: Sequence[bytes], now: float) -> None:
        """Start with `keys`, the current one first."""
        self._keys = tuple(keys)
        self._since = now
        self._removed: dict[bytes, float] = {}

    def update(self, keys: Sequence[bytes], now: float) -> None:
        """Replace the keys, the current one first."""
        if tuple(keys) == self._keys:
            return
        self._removed |= {key: now for key in self._keys if key not in keys}
        self._keys = tuple(keys)
        self._since = now

    def active_keys(self, now: float) -> tuple[bytes, ...]:
        """Return the sealing key, followed by all other keys that open tokens."""
        self._removed = {key: at for key, at in self._removed.items() if now - at < LIFETIME}
        keys = (*self._keys, *(key for key in self._removed if key not in self._keys))
        if len(keys) > 1 and now - self._since < SETTLE:
            return keys[1], keys[0], *keys[2:]
        return keys
