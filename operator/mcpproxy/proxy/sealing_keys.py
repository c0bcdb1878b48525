"""Sealing keys, as they lie in a directory: the file `current`, and `previous` if there is one."""

import asyncio
import logging
import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Final

from mcpproxy.proxy.core.tokens.key_rotation import KeyRotation
from mcpproxy.proxy.core.tokens.sealed_tokens import MIN_KEY, Sealer

log = logging.getLogger("mcpproxy.keys")

LOOK_EVERY: Final = 10.0
"""Seconds between looks at the directory."""


def read_keys(directory: Path) -> list[bytes]:
    """The keys in a directory, the current one first. Raises ValueError for unusable ones."""
    found = [directory / name for name in ("current", "previous")]
    if not found[0].is_file():
        raise ValueError(f"{found[0]}: there is no sealing key")
    keys = [path.read_bytes() for path in found if path.is_file()]
    if any(len(key) < MIN_KEY for key in keys):
        raise ValueError(f"{directory}: a sealing key needs at least {MIN_KEY} bytes")
    return keys


def new_key() -> bytes:
    """A key that nobody else has."""
    return secrets.token_bytes(32)


class SealingKeyWatcher:
    """A sealer whose keys follow a directory."""

    def __init__(self, directory: Path, clock: Callable[[], float]) -> None:
        """Raises ValueError where there is no usable key."""
        self._directory = directory
        self._clock = clock
        self._keyring = KeyRotation(read_keys(directory), clock())
        self._in_use = self._keyring.in_use(clock())
        self._complaint: str | None = None
        self.sealer = Sealer(self._in_use, secrets.token_bytes)

    def look(self) -> None:
        """Use what is in the directory now; what can't be used is logged, and changes nothing."""
        try:
            self._keyring.found(read_keys(self._directory), self._clock())
            self._complaint = None
        except (OSError, ValueError) as error:
            if str(error) != self._complaint:
                log.warning("the sealing keys stay as they are: %s", error)
            self._complaint = str(error)
        in_use = self._keyring.in_use(self._clock())
        if in_use != self._in_use:
            self._in_use = in_use
            self.sealer.rekey(in_use)
            log.info("sealing keys changed: %d open, the first of them seals", len(in_use))

    async def run(self) -> None:
        """Look again and again."""
        while True:
            await asyncio.sleep(LOOK_EVERY)
            self.look()
