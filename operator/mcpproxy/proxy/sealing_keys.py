"""Sealing keys in a directory: the file `current` and, optionally, `previous`."""

import asyncio
import logging
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Final

from mcpproxy.proxy.core.tokens.key_rotation import KeyRotation
from mcpproxy.proxy.core.tokens.sealed_tokens import MIN_KEY, Sealer

log = logging.getLogger("mcpproxy.keys")

READ_EVERY: Final = 10.0
"""Seconds between two reads of the directory."""


def read_keys(directory: Path) -> list[bytes]:
    """Return the keys in a directory, the current one first. Raise ValueError if unusable."""
    files = [directory / name for name in ("current", "previous")]
    if not files[0].is_file():
        raise ValueError(f"{files[0]}: the sealing key is missing")
    keys = [path.read_bytes() for path in files if path.is_file()]
    if any(len(key) < MIN_KEY for key in keys):
        raise ValueError(f"{directory}: a sealing key requires at least {MIN_KEY} bytes")
    return keys


def new_key() -> bytes:
    """Return a random key."""
    return secrets.token_bytes(32)


class SealingKeyWatcher:
    """Sealer whose keys follow a directory."""

    def __init__(self, directory: Path, clock: Callable[[], float]) -> None:
        """Read the keys. Raise ValueError without a usable key."""
        self._directory = directory
        self._clock = clock
        self._keyring = KeyRotation(read_keys(directory), clock())
        self._in_use = self._keyring.active_keys(clock())
        self._last_error: str | None = None
        self.sealer = Sealer(self._in_use, secrets.token_bytes, shared=True)

    def reload(self) -> None:
        """Read the directory; unusable keys are logged and change nothing."""
        try:
            self._keyring.update(read_keys(self._directory), self._clock())
            self._last_error = None
        except (OSError, ValueError) as error:
            if str(error) != self._last_error:
                log.warning("kept the previous sealing keys: %s", error)
            self._last_error = str(error)
        in_use = self._keyring.active_keys(self._clock())
        if in_use != self._in_use:
            self._in_use = in_use
            self.sealer.rekey(in_use)
            log.info(
                "loaded new sealing keys: %d keys open tokens, the first one seals them",
                len(in_use),
            )

    async def run(self) -> None:
        """Read the directory at intervals, forever."""
        while True:
            await asyncio.sleep(READ_EVERY)
            self.reload()
