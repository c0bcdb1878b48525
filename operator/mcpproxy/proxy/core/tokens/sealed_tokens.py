"""Sealed tokens: proxy state that clients carry but cannot read or change (AES-256-GCM).

A token is `base64url(key id (1) | nonce (12) | ciphertext and tag)`. Every purpose has separate
associated data, so that a token of one purpose is invalid for all others.
"""

import base64
import binascii
import contextlib
import hashlib
import hmac
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from mcpproxy.limits.clients import SEALED_TOKEN

NONCE: Final = 12
DERIVED: Final = 32
"""Size of a derived key, in bytes."""
MIN_KEY: Final = 16
"""Minimum size of a sealing key, in bytes."""


class InvalidToken(ValueError):
    """The token is malformed, was changed, has another purpose, or its key is unknown."""


class TokenTooLarge(ValueError):
    """The content does not fit into a token."""


class Sealer:
    """Seal tokens with the first key; open tokens of every key."""

    def __init__(
        self, keys: Sequence[bytes], random: Callable[[int], bytes], *, shared: bool = False
    ) -> None:
        """Create a sealer.

        `keys` are secrets of at least MIN_KEY bytes each. `random(n)` returns n unpredictable
        bytes. `shared` means that other processes have the keys.
        """
        self.shared: Final = shared
        self._random = random
        self._ciphers: list[tuple[int, AESGCM]] = []
        self._nonces = b""
        self.keys: tuple[bytes, ...] = ()
        """Keys in use; the first one seals. Only `rekey` replaces them."""
        self.rekey(keys)

    def rekey(self, keys: Sequence[bytes]) -> None:
        """Replace the keys. Raise ValueError if one is too short."""
        if not keys or any(len(key) < MIN_KEY for key in keys):
            raise ValueError(f"a sealing key requires at least {MIN_KEY} bytes")
        self.keys = tuple(keys)
        self._ciphers = []
        self._nonces = hashlib.sha256(b"mcpproxy nonces " + keys[0]).digest()
        for key in keys:
            derived = hashlib.sha256(b"mcpproxy sealing " + key).digest()
            self._ciphers.append((hashlib.sha256(derived).digest()[0], AESGCM(derived)))

    def seal(self, purpose: str, content: Any) -> str:
        """Return a token of visible ASCII that carries `content` (plain JSON types).

        Raise TokenTooLarge if `open` would reject the token.
        """
        return self._encrypt(purpose, msgspec.json.encode(content), self._random(NONCE))

    def seal_same(self, purpose: str, content: Any) -> str:
        """Return the token for this content, which is always the same under one key.

        The nonce is a keyed digest of the content, so that no two contents share one. Raise
        TokenTooLarge if `open` would reject the token.
        """
        plain = msgspec.json.encode(content)
        nonce = hmac.digest(self._nonces, purpose.encode() + b"\0" + plain, "sha256")[:NONCE]
        return self._encrypt(purpose, plain, nonce)

    def _encrypt(self, purpose: str, plain: bytes, nonce: bytes) -> str:
        mark, cipher = self._ciphers[0]
        sealed = cipher.encrypt(nonce, plain, purpose.encode())
        token = _base64url(bytes([mark]) + nonce + sealed)
        if len(token) > SEALED_TOKEN.value:
            raise TokenTooLarge(f"the token would have {len(token)} characters")
        return token

    def open(self, purpose: str, token: str) -> Any:
        """Return the content that was sealed for this purpose. Raise InvalidToken."""
        if len(token) > SEALED_TOKEN.value:
            SEALED_TOKEN.record()
            raise InvalidToken("too long")
        try:
            raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raise InvalidToken("not a token of this proxy") from None
        if _base64url(raw) != token:
            raise InvalidToken("not in canonical form")
        for mark, cipher in self._ciphers:
            if raw[:1] == bytes([mark]):
                # Two keys may have the same key id.
                with contextlib.suppress(ValueError, InvalidTag):
                    opened = cipher.decrypt(raw[1 : NONCE + 1], raw[NONCE + 1 :], purpose.encode())
                    return msgspec.json.decode(opened)
        raise InvalidToken("not a token of this proxy")


def derive_key(key: bytes, use: str) -> bytes:
    """Derive a key for another use from a sealing key (HKDF, RFC 5869)."""
    return HKDF(hashes.SHA256(), DERIVED, None, b"mcpproxy " + use.encode()).derive(key)


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode("ascii").rstrip("=")
