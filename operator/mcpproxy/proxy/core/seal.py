"""Sealed tokens: what a client carries for us, unreadable and unchangeable (AES-256-GCM).

A token is `base64url(key id (1) | nonce (12) | ciphertext and tag)`. Every purpose has its own
associated data, so that a token of one kind is never taken for another.
"""

import base64
import binascii
import hashlib
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

NONCE: Final = 12
MAX_TOKEN: Final = 16384


class BadToken(ValueError):
    """Not a token of ours, of another purpose, changed, or sealed with a key we don't have."""


class Sealer:
    """Seals with the first key, opens with any."""

    def __init__(self, keys: Sequence[bytes], random: Callable[[int], bytes]) -> None:
        """`keys` are at least 16 bytes of secret each; `random(n)` gives n unpredictable bytes."""
        if not keys or any(len(key) < 16 for key in keys):
            raise ValueError("a sealing key needs at least 16 bytes")
        self._random = random
        self._ciphers: dict[int, AESGCM] = {}
        for key in keys:
            derived = hashlib.sha256(b"mcpproxy sealing " + key).digest()
            self._ciphers.setdefault(hashlib.sha256(derived).digest()[0], AESGCM(derived))
        self._first = next(iter(self._ciphers))

    def seal(self, purpose: str, content: Any) -> str:
        """A token of visible ASCII that carries `content` (plain JSON types)."""
        nonce = self._random(NONCE)
        sealed = self._ciphers[self._first].encrypt(
            nonce, msgspec.json.encode(content), purpose.encode()
        )
        return base64.urlsafe_b64encode(bytes([self._first]) + nonce + sealed).decode().rstrip("=")

    def open(self, purpose: str, token: str) -> Any:
        """What was sealed for this purpose. Raises BadToken."""
        if len(token) > MAX_TOKEN:
            raise BadToken("too long")
        try:
            raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
            cipher = self._ciphers[raw[0]]
            return msgspec.json.decode(
                cipher.decrypt(raw[1 : NONCE + 1], raw[NONCE + 1 :], purpose.encode())
            )
        except (binascii.Error, IndexError, KeyError, ValueError, InvalidTag):
            raise BadToken("not a token of this proxy") from None
