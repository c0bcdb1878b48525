"""An issuer of tokens for tests: keys of all types, tokens with any header and claims."""

import base64
import json
import time
from dataclasses import dataclass, field
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

ISSUER = "https://login.example.com/realms/agents"
PUBLIC_URL = "https://mcp.example.com/tools"
NOW = 1_800_000_000.0
RSA = rsa.generate_private_key(65537, 2048)
OTHER_RSA = rsa.generate_private_key(65537, 2048)
P256 = ec.generate_private_key(ec.SECP256R1())
ED25519 = ed25519.Ed25519PrivateKey.generate()
ABSENT = object()
"""Value of a claim or header parameter that a token does not have."""


def encode(value: bytes) -> str:
    """Text in base64url."""
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode()


def jwk(key: Any, key_id: str | None = "one", **more: Any) -> dict[str, Any]:
    """The public key as a JSON Web Key."""
    public = key.public_key()
    if isinstance(key, rsa.RSAPrivateKey):
        content = RSAAlgorithm.to_jwk(public, as_dict=True)
    elif isinstance(key, ec.EllipticCurvePrivateKey):
        content = ECAlgorithm.to_jwk(public, as_dict=True)
    else:
        content = OKPAlgorithm.to_jwk(public, as_dict=True)
    content.pop("key_ops", None)
    return {**content, **({} if key_id is None else {"kid": key_id}), **more}


def key_set(*keys: dict[str, Any]) -> bytes:
    """A key set."""
    return json.dumps({"keys": keys}).encode()


@dataclass
class Issuer:
    """An issuer of tokens."""

    url: str = ISSUER
    audience: Any = PUBLIC_URL
    key: Any = RSA
    key_id: str | None = "one"
    algorithm: str = "RS256"
    claims: dict[str, Any] = field(default_factory=dict)
    now: float | None = None
    """Time at which tokens are issued, by default the present."""

    def token(
        self, subject: Any = "ann", header: dict[str, Any] | None = None, **claims: Any
    ) -> str:
        """A signed token; claims that are ABSENT are left out."""
        now = time.time() if self.now is None else self.now
        content = {
            "iss": self.url,
            "aud": self.audience,
            "sub": subject,
            "iat": int(now),
            "exp": int(now) + 600,
            **self.claims,
            **claims,
        }
        present = {name: value for name, value in content.items() if value is not ABSENT}
        head = {"alg": self.algorithm, "typ": "JWT", "kid": self.key_id, **(header or {})}
        head = {name: value for name, value in head.items() if value not in (ABSENT, None)}
        signed = f"{encode(json.dumps(head).encode())}.{encode(json.dumps(present).encode())}"
        algorithm = jwt.algorithms.get_default_algorithms()[self.algorithm]
        return f"{signed}.{encode(algorithm.sign(signed.encode(), self.key))}"
