"""Sealed tokens: what a client carries for us, unreadable and unchangeable (AES-256-GCM).

A token is `base64url(key id (1) | nonce (12) | ciphertext and tag)`. Every purpose has its own
associated data, so that a token of one kind is never taken for another.
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
"""Bytes of a derived key."""
MIN_KEY: Final = 16
"""Bytes of a key."""


class InvalidToken(ValueError):
    """Not a token of ours, of another purpose, changed, or sealed with a key we don't have."""


class TokenTooLarge(ValueError):
    """The content does not fit into a token."""


class Sealer:
    """Seals with the first key, opens with any."""

    def __init__(self, keys: Sequence[bytes], random: Callable[[int], bytes]) -> None:
        """`keys` are at least MIN_KEY secret bytes each; `random(n)` gives n unpredictable ones."""
        self._random = random
        self._ciphers: list[tuple[int, AESGCM]] = []
        self._nonces = b""
        self.keys: tuple[bytes, ...] = ()
        """The sealing keys in use; the first one seals. Replaced as a whole by `rekey`."""
        self.rekey(keys)

    def rekey(self, keys: Sequence[bytes]) -> None:
        """Use these keys from now on."""
        if not keys or any(len(key) < MIN_KEY for key in keys):
            raise ValueError(f"a sealing key needs at least {MIN_KEY} bytes")
        self.keys = tuple(keys)
        self._ciphers = []
        self._nonces = hashlib.sha256(b"mcpproxy nonces " + keys[0]).digest()
        for key in keys:
            derived = hashlib.sha256(b"mcpproxy sealing " + key).digest()
            self._ciphers.append((hashlib.sha256(derived).digest()[0], AESGCM(derived)))

    def seal(self, purpose: str, content: Any) -> str:
        """A token of visible ASCII that carries `content` (plain JSON types).

        Raises TooLarge for a token that `open` would refuse.
        """
        return self._sealed(purpose, msgspec.json.encode(content), self._random(NONCE))

    def seal_same(self, purpose: str, content: Any) -> str:
        """The one token for this content, as long as the key is the same: an id.

        Its nonce is a keyed digest of what is sealed, so that no two contents share one. Raises
        TooLarge.
        """
        plain = msgspec.json.encode(content)
        nonce = hmac.digest(self._nonces, purpose.encode() + b"\0" + plain, "sha256")[:NONCE]
        return self._sealed(purpose, plain, nonce)

    def _sealed(self, purpose: str, plain: bytes, nonce: bytes) -> str:
        mark, cipher = self._ciphers[0]
        sealed = cipher.encrypt(nonce, plain, purpose.encode())
        token = _spelled(bytes([mark]) + nonce + sealed)
        if len(token) > SEALED_TOKEN.value:
            raise TokenTooLarge(f"a token of {len(token)} characters")
        return token

    def open(self, purpose: str, token: str) -> Any:
        """What was sealed for this purpose. Raises InvalidToken."""
        if len(token) > SEALED_TOKEN.value:
            SEALED_TOKEN.record()
            raise InvalidToken("too long")
        try:
            raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raise InvalidToken("not a token of this proxy") from None
        if _spelled(raw) != token:
            raise InvalidToken("not in the one spelling that we write")
        for mark, cipher in self._ciphers:
            if raw[:1] == bytes([mark]):
                # Two keys may have the same mark.
                with contextlib.suppress(ValueError, InvalidTag):
                    opened = cipher.decrypt(raw[1 : NONCE + 1], raw[NONCE + 1 :], purpose.encode())
                    return msgspec.json.decode(opened)
        raise InvalidToken("not a token of this proxy")


def derive_key(key: bytes, use: str) -> bytes:
    """Derive the key for another use from a sealing key (HKDF, RFC 5869)."""
    return HKDF(hashes.SHA256(), DERIVED, None, b"mcpproxy " + use.encode()).derive(key)


def _spelled(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode("ascii").rstrip("=")
