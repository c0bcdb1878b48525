"""Authentication of the proxy as a client of an authorization server: by a secret or by a key."""

import base64
import secrets
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol
from urllib.parse import quote_plus

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from mcpproxy.proxy.core.errors import MissingReference
from mcpproxy.proxy.issuers.documents import Lines
from mcpproxy.proxy.upstream.credentials.token_server import TokenServer
from mcpproxy.proxy.upstream.mounted.values import MountedValues, ValueGroup, describe_reference

if TYPE_CHECKING:
    from mcpproxy.api.v1alpha1 import OAuthClient, ValueFrom

Form = dict[str, str]
ASSERTION: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
VALID_FOR: Final = 120
"""Seconds for which an assertion is valid, so that clocks may differ a little."""
_SMALLEST_RSA: Final = 2048
_CURVES: Final = {"secp256r1": "ES256", "secp384r1": "ES384", "secp521r1": "ES512"}


class ClientProof(Protocol):
    """The authentication of the proxy as a client."""

    def prove(self, server: TokenServer) -> tuple[Lines, Form]:
        """Return the headers and the parameters of a token request. Raise MissingReference."""


class ClientSecret:
    """Authentication by a secret: client_secret_basic or, if the server has no other,
    client_secret_post."""

    def __init__(self, client_id: str, source: "ValueFrom", values: MountedValues) -> None:
        self._id = client_id
        self._values = ValueGroup(values, [source])
        self._source = source

    def prove(self, server: TokenServer) -> tuple[Lines, Form]:
        (secret,) = self._values.current()
        if not secret:
            raise MissingReference(f"{describe_reference(self._source)} is empty")
        if server.wants_secret_in_form:
            return (), {"client_id": self._id, "client_secret": secret}
        # RFC 6749, section 2.3.1: both are encoded as in a form.
        pair = f"{quote_plus(self._id)}:{quote_plus(secret)}"
        return ((b"authorization", b"Basic " + base64.b64encode(pair.encode())),), {}


class PrivateKey:
    """Authentication by an assertion that is signed with a private key (RFC 7523)."""

    def __init__(
        self,
        client: "OAuthClient",
        source: "ValueFrom",
        values: MountedValues,
        now: Callable[[], float] = time.time,
    ) -> None:
        """`now` returns the seconds since the epoch."""
        self._id = client.client_id
        self._headers: dict[str, Any] | None = {"kid": client.key_id} if client.key_id else None
        self._values = ValueGroup(values, [source])
        self._source = source
        self._now = now

    def prove(self, server: TokenServer) -> tuple[Lines, Form]:
        (pem,) = self._values.current()
        key = self._read(pem)
        now = int(self._now())
        claims = {
            "iss": self._id,
            "sub": self._id,
            "aud": server.issuer or server.token_url,
            "iat": now,
            "exp": now + VALID_FOR,
            "jti": secrets.token_urlsafe(16),
        }
        assertion = jwt.encode(claims, key, _algorithm(key, server), headers=self._headers)
        return (), {
            "client_id": self._id,
            "client_assertion_type": ASSERTION,
            "client_assertion": assertion,
        }

    def _read(self, pem: str) -> Any:
        try:
            key = load_pem_private_key(pem.encode(), None)
        except (ValueError, TypeError):
            key = None
        strong = not isinstance(key, RSAPrivateKey) or key.key_size >= _SMALLEST_RSA
        if key is None or not strong or _algorithm(key, None) is None:
            raise MissingReference(
                f"{describe_reference(self._source)} contains no unencrypted PEM private key of a"
                " supported type: RSA from 2048 bits, P-256, P-384, P-521 or Ed25519"
            )
        return key


def _algorithm(key: Any, server: TokenServer | None) -> str | None:
    """Return the algorithm for a key; None for keys of other types."""
    if isinstance(key, RSAPrivateKey):
        known = () if server is None else server.signing_algorithms
        return "PS256" if "PS256" in known and "RS256" not in known else "RS256"
    if isinstance(key, EllipticCurvePrivateKey):
        return _CURVES.get(key.curve.name)
    return "EdDSA" if isinstance(key, Ed25519PrivateKey) else None


def build_proof(client: "OAuthClient", values: MountedValues) -> ClientProof:
    """Return the authentication that a spec states."""
    if client.private_key_from is not None:
        return PrivateKey(client, client.private_key_from, values)
    assert client.client_secret_from is not None
    return ClientSecret(client.client_id, client.client_secret_from, values)
