"""Signing keys of a test authorization server, with their public halves as JSON Web Keys."""

import base64
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

HASHES: Final = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}
EC_BYTES: Final = 32
"""Bytes of a coordinate of the curve P-256."""

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


def encode_segment(data: bytes) -> str:
    """Return base64url without padding, as RFC 7515 section 2 defines it."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def encode_json(value: Any) -> str:
    """Return a value as compact JSON in base64url."""
    return encode_segment(json.dumps(value, separators=(",", ":")).encode())


def _integer(value: int, size: int | None = None) -> str:
    return encode_segment(value.to_bytes(size or (value.bit_length() + 7) // 8, "big"))


@dataclass(frozen=True)
class SigningKey:
    """A private key with its identifier and its algorithm."""

    kid: str
    alg: str
    private: PrivateKey

    @classmethod
    def generate(cls, alg: str, kid: str, bits: int = 2048) -> "SigningKey":
        """Make a key for one of RS*, PS*, ES256 and EdDSA; `bits` are those of RSA."""
        if alg.startswith(("RS", "PS")):
            return cls(kid, alg, rsa.generate_private_key(65537, bits))
        if alg == "ES256":
            return cls(kid, alg, ec.generate_private_key(ec.SECP256R1()))
        return cls(kid, alg, ed25519.Ed25519PrivateKey.generate())

    def sign(self, data: bytes, alg: str = "") -> bytes:
        """Return the signature in the format of JWS, by another algorithm of the key type if given.

        Raise ValueError if the key cannot sign with it.
        """
        alg, key = alg or self.alg, self.private
        if isinstance(key, rsa.RSAPrivateKey) and alg[:2] in ("RS", "PS"):
            digest = HASHES[alg[2:]]
            if alg.startswith("RS"):
                return key.sign(data, padding.PKCS1v15(), digest)
            return key.sign(data, padding.PSS(padding.MGF1(digest), digest.digest_size), digest)
        if isinstance(key, ec.EllipticCurvePrivateKey):
            r, s = decode_dss_signature(key.sign(data, ec.ECDSA(hashes.SHA256())))
            return r.to_bytes(EC_BYTES, "big") + s.to_bytes(EC_BYTES, "big")
        if isinstance(key, ed25519.Ed25519PrivateKey):
            return key.sign(data)
        raise ValueError(f"a key for {self.alg} cannot sign with {alg}")

    def jwk(self, **changes: Any) -> dict[str, Any]:
        """Return the public key as a JSON Web Key; `changes` replace members, None removes one."""
        members = {"kid": self.kid, "alg": self.alg, "use": "sig", **self._public(), **changes}
        return {name: value for name, value in members.items() if value is not None}

    def _public(self) -> dict[str, str]:
        public = self.private.public_key()
        if isinstance(public, rsa.RSAPublicKey):
            numbers = public.public_numbers()
            return {"kty": "RSA", "n": _integer(numbers.n), "e": _integer(numbers.e)}
        if isinstance(public, ec.EllipticCurvePublicKey):
            point = public.public_numbers()
            x, y = _integer(point.x, EC_BYTES), _integer(point.y, EC_BYTES)
            return {"kty": "EC", "crv": "P-256", "x": x, "y": y}
        raw = public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        return {"kty": "OKP", "crv": "Ed25519", "x": encode_segment(raw)}

    def public_encodings(self) -> dict[str, bytes]:
        """Return the public key in the encodings that a confused server may take for a secret."""
        public = self.private.public_key()
        info = serialization.PublicFormat.SubjectPublicKeyInfo
        pem = public.public_bytes(serialization.Encoding.PEM, info)
        return {
            "PEM": pem,
            "PEM without the last newline": pem.rstrip(b"\n"),
            "DER": public.public_bytes(serialization.Encoding.DER, info),
            "JWK": json.dumps(self.jwk()).encode(),
        }


def sign_hmac(secret: bytes, data: bytes, bits: str = "256") -> bytes:
    """Return the signature of HS256, HS384 or HS512."""
    return hmac.new(secret, data, getattr(hashlib, f"sha{bits}")).digest()


def assemble(header: Mapping[str, Any], payload: Any, signature: bytes | None = None) -> str:
    """Return a compact JWS with this signature, or its signing input without one."""
    text = f"{encode_json(header)}.{encode_json(payload)}"
    return text if signature is None else f"{text}.{encode_segment(signature)}"
