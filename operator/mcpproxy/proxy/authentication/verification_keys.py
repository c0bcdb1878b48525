"""Public keys that verify tokens, from JSON Web Key Sets (RFC 7517).

The type of a key decides the algorithms for which it may be used, never the token alone: a public
key must not pass as the secret of an HMAC.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final, Protocol

import msgspec
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm, get_default_algorithms
from jwt.exceptions import PyJWTError

from mcpproxy.limits.access import KEYS
from mcpproxy.proxy.authentication.tokens import Token
from mcpproxy.proxy.core.reports import KeysReport

_RSA: Final = frozenset({"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"})
_CURVES: Final = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}
_SMALLEST: Final = 2048
_LARGEST: Final = 8192
"""Bits of an RSA key; the verification with larger ones would take too long."""
_LARGEST_EXPONENT: Final = 1 << 32
_PUBLIC: Final = ("kty", "n", "e", "crv", "x", "y")
_PRIVATE: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
"""Members of private and symmetric keys, which no key set should have (RFC 7518, section 6)."""
_LONGEST: Final = _LARGEST // 6 + 4
"""Characters of a member: base64 of the largest modulus, with a leading zero."""
MOST_TRIED: Final = 4
"""Keys that are tried for a token without a key id."""
ALGORITHMS: Final = _RSA | frozenset(_CURVES.values()) | {"EdDSA"}
_VERIFIERS: Final = {name: get_default_algorithms()[name] for name in sorted(ALGORITHMS)}


class InvalidKeySet(Exception):
    """A document that is not a key set, or that has no key for signatures."""


class VerificationKey:
    """A public key."""

    __slots__ = ("_key", "algorithms", "key_id", "revoked", "source")

    def __init__(
        self, key: object, key_id: str | None, algorithms: frozenset[str], source: bytes
    ) -> None:
        """`source` is the JSON from which the key was read, without insignificant differences."""
        self._key = key
        self.key_id = key_id
        self.algorithms = algorithms
        self.source = source
        self.revoked = False
        """True once the issuer no longer publishes the key."""

    def revoke(self) -> None:
        """Let nothing that was verified with it count any longer."""
        self.revoked = True

    def verifies(self, token: Token) -> bool:
        """Return True if this key has signed the token."""
        if token.algorithm not in self.algorithms:
            return False
        return _VERIFIERS[token.algorithm].verify(token.signed, self._key, token.signature)


@dataclass(frozen=True, slots=True)
class KeyListener:
    """Callbacks for changes of keys."""

    changed: Callable[[], None]
    """Called when the state that the pod reports has changed."""
    revoked: Callable[[str, str | None], None]
    """Called with the issuer whose credentials may count no longer, and the subject if they were
    those of one."""


class KeySet:
    """The keys of one issuer."""

    def __init__(self, issuer: str, listener: KeyListener) -> None:
        """`issuer` is that of the identities."""
        self._issuer = issuer
        self._listener = listener
        self.keys: tuple[VerificationKey, ...] = ()

    def replace(self, keys: Iterable[VerificationKey]) -> None:
        """Take over newly read keys; keys that are no longer among them are revoked."""
        known = {key.source: key for key in self.keys}
        self.keys = tuple(known.pop(key.source, key) for key in keys)
        for key in known.values():
            key.revoke()
        if known:
            self._listener.revoked(self._issuer, None)

    def candidates(self, token: Token) -> list[VerificationKey]:
        """Return the keys that may have signed a token."""
        suitable = [key for key in self.keys if token.algorithm in key.algorithms]
        if token.key_id is not None:
            suitable = [key for key in suitable if key.key_id == token.key_id]
        return suitable[:MOST_TRIED]


class KeySource(Protocol):
    """The keys of one issuer, and where they come from."""

    @property
    def status(self) -> KeysReport:
        """The state of the keys, for the report of the pod."""

    @property
    def are_known(self) -> bool:
        """True if there are keys."""

    @property
    def may_learn(self) -> bool:
        """True if waiting for `learn` may bring keys that are unknown now."""

    async def learn(self) -> None:
        """Read the keys again."""

    def candidates(self, token: Token) -> list[VerificationKey]:
        """Return the keys that may have signed a token."""


def parse_key_set(document: bytes) -> list[VerificationKey]:
    """Parse a key set. Raise InvalidKeySet.

    Keys for other purposes, and keys that are malformed or too weak, are left out.
    """
    try:
        content = msgspec.json.decode(document)
    except (msgspec.DecodeError, RecursionError):
        raise InvalidKeySet("the document is not JSON") from None
    entries = content.get("keys") if isinstance(content, dict) else None
    if not isinstance(entries, list):
        raise InvalidKeySet("the document has no list of keys")
    if len(entries) > KEYS.value:
        KEYS.record()
        entries = entries[: KEYS.value]
    keys = [key for key in map(_parse_key, entries) if key is not None]
    if not keys:
        raise InvalidKeySet("the document has no key for signatures")
    return list({key.source: key for key in keys}.values())


def _parse_key(entry: Any) -> VerificationKey | None:
    if not isinstance(entry, dict) or entry.get("use", "sig") != "sig":
        return None
    operations, key_id = entry.get("key_ops"), entry.get("kid")
    if isinstance(operations, list) and "verify" not in operations:
        return None
    if not (key_id is None or isinstance(key_id, str)):
        return None
    try:
        key, algorithms = _read_key(entry)
    except (PyJWTError, ValueError, TypeError, KeyError, AttributeError, OverflowError):
        return None
    if "alg" in entry:
        algorithms &= {entry["alg"]} if isinstance(entry["alg"], str) else frozenset()
    if not algorithms:
        return None
    return VerificationKey(key, key_id, algorithms, msgspec.json.encode(entry, order="sorted"))


def _read_key(entry: dict[str, Any]) -> tuple[object, frozenset[str]]:
    """Return the public key and its algorithms; none for keys of other types and for weak ones.

    The library gets public members of a bounded size alone: it would derive the factors of a
    private key, which takes minutes for hostile values.
    """
    nothing: frozenset[str] = frozenset()
    kind = entry.get("kty")
    if not _PRIVATE.isdisjoint(entry):
        return None, nothing
    entry = {name: entry[name] for name in _PUBLIC if name in entry}
    if any(not isinstance(text, str) or len(text) > _LONGEST for text in entry.values()):
        return None, nothing
    if kind == "RSA":
        key = RSAAlgorithm.from_jwk(entry)
        strong = isinstance(key, RSAPublicKey) and _SMALLEST <= key.key_size <= _LARGEST
        return key, _RSA if strong and _has_small_exponent(key) else nothing
    if kind == "EC":
        curve = ECAlgorithm.from_jwk(entry)
        if isinstance(curve, EllipticCurvePublicKey):
            return curve, frozenset(filter(None, [_CURVES.get(curve.curve.name)]))
    elif kind == "OKP":
        edwards = OKPAlgorithm.from_jwk(entry)
        return edwards, frozenset({"EdDSA"}) if isinstance(edwards, Ed25519PublicKey) else nothing
    return None, nothing


def _has_small_exponent(key: object) -> bool:
    return isinstance(key, RSAPublicKey) and key.public_numbers().e <= _LARGEST_EXPONENT
