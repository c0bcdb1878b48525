"""Signed tokens in the compact form of RFC 7515, read strictly and before their verification."""

import base64
import binascii
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, Final, NamedTuple

import msgspec

from mcpproxy.api.untrusted_text import quote
from mcpproxy.proxy.authentication.refusals import CredentialsRefused

_TYPES: Final = frozenset({"jwt", "at+jwt", "application/jwt", "application/at+jwt"})
"""Values of the header `typ`; a token without it is read as JWT (RFC 7519, section 5.1)."""
_OTHER_TYPES: Final = frozenset({"id", "refresh", "offline", "logout"})
"""Values of Keycloak's claim `typ` in tokens other than access tokens."""
_OF_ID_TOKENS: Final = ("nonce", "at_hash", "c_hash")
IdTokens = frozenset[tuple[str, str]]
"""Issuers and clients whose ID tokens callers may send."""
NO_ID_TOKENS: Final[IdTokens] = frozenset()


class Token(NamedTuple):
    """A token that was read but not verified."""

    algorithm: str
    key_id: str | None
    claims: dict[str, Any]
    payload: bytes
    signed: bytes
    signature: bytes


class LazyClaims(Mapping[str, Any]):
    """Claims that are parsed when they are read, as the JSON takes a fraction of their memory."""

    __slots__ = ("_json",)

    def __init__(self, payload: bytes) -> None:
        self._json = payload

    def _parsed(self) -> dict[str, Any]:
        parsed: dict[str, Any] = msgspec.json.decode(self._json)
        return parsed

    def __getitem__(self, name: str) -> Any:
        return self._parsed()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._parsed())

    def __len__(self) -> int:
        return len(self._parsed())


def looks_signed(text: bytes) -> bool:
    """Return True if credentials have the form of a token; no API key from random bytes does."""
    return text.count(b".") == 2


def parse_token(text: bytes, id_tokens: IdTokens = NO_ID_TOKENS) -> Token:
    """Parse an access token, or one of `id_tokens`. Raise CredentialsRefused.

    Keys that the header contains or links to (jwk, jku, x5c, x5u) are never read, because a
    forger chooses them.
    """
    parts = text.split(b".")
    if len(parts) != 3:
        raise CredentialsRefused(
            "malformed", "the credentials are neither a valid token nor a known API key"
        )
    header, payload, signature = map(_decode, parts)
    head, claims = _object(header), _object(payload)
    if "crit" in head:
        raise CredentialsRefused("malformed", "the token has critical header parameters")
    algorithm, key_id = head.get("alg"), head.get("kid")
    if not isinstance(algorithm, str) or not (key_id is None or isinstance(key_id, str)):
        raise CredentialsRefused("malformed", "the header of the token is malformed")
    _check_type(head.get("typ"), claims, id_tokens)
    return Token(algorithm, key_id, claims, payload, b".".join(parts[:2]), signature)


def _check_type(kind: object, claims: dict[str, Any], id_tokens: IdTokens) -> None:
    """Refuse tokens that are evidently neither access tokens nor among `id_tokens`."""
    finding = partial(_describe_type, kind, claims.get("typ"))
    named = claims.get("typ")
    named = named.lower() if isinstance(named, str) else ""
    kind = "jwt" if kind is None else kind.lower() if isinstance(kind, str) else ""
    is_ours = is_of_client(claims, id_tokens)
    named = "" if is_ours and named == "id" else named
    if kind not in _TYPES or named in _OTHER_TYPES:
        raise CredentialsRefused("wrong_type", "the token is not an access token", finding)
    is_access_token = kind.endswith("at+jwt") or named == "bearer"
    if not is_access_token and any(name in claims for name in _OF_ID_TOKENS) and not is_ours:
        raise CredentialsRefused(
            "wrong_type", "the token is an ID token; send an access token", finding
        )


def is_of_client(claims: Mapping[str, Any], id_tokens: IdTokens) -> bool:
    """Return True if the claims of an ID token name one of these issuers, and its client alone."""
    issuer, audience = claims.get("iss"), claims.get("aud")
    if isinstance(audience, list) and len(audience) == 1:
        audience = audience[0]
    if not isinstance(issuer, str) or not isinstance(audience, str):
        return False
    return (issuer, audience) in id_tokens and claims.get("azp", audience) == audience


def _describe_type(header: object, claim: object) -> str:
    return (
        f"typ is {quote(header)} in the header and {quote(claim)} in the claims; let the client"
        " send the access_token of the issuer's response"
    )


def _decode(part: bytes) -> bytes:
    """Decode base64url without padding (RFC 7515, section 2).

    Only one text is accepted for the same bytes, so that a token has one digest.
    """
    try:
        decoded = base64.b64decode(part + b"=" * (-len(part) % 4), b"-_", validate=True)
    except (binascii.Error, ValueError):
        decoded = None
    if decoded is None or base64.urlsafe_b64encode(decoded).rstrip(b"=") != part:
        raise CredentialsRefused("malformed", "the token is not base64url")
    return decoded


def _object(text: bytes) -> dict[str, Any]:
    try:
        value = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError, ValueError):
        value = None
    if not isinstance(value, dict):
        raise CredentialsRefused("malformed", "the token is not JSON")
    return value
