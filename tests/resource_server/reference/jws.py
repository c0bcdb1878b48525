"""Compact JWS: parts, header, algorithm and signature."""

import base64
import json
import re
import urllib.request
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

import jwt
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from tests.resource_server.reference.rules import Rules

ALGORITHMS: Final = ("RS256", "ES256", "PS256", "EdDSA")
_TOKEN: Final = re.compile(r"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")
_LOOSE: Final = re.compile(r"([^.]+)\.([^.]+)\.([^.]*)")


class InvalidToken(Exception):
    """The token is refused; the text is for the challenge."""


@dataclass(frozen=True)
class Parts:
    """A token that was taken apart, not verified."""

    header: dict[str, Any]
    claims: Any
    signed: bytes
    signature: bytes


def _decode(segment: str) -> bytes:
    text = segment.rstrip("=").replace("+", "-").replace("/", "_")
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def split(token: str, rules: Rules) -> Parts:
    """Take a token apart. Raise InvalidToken."""
    loose = rules.breaks("base64") or rules.breaks("no-unsigned") or rules.breaks("ecdsa-zero")
    match = (_LOOSE if loose else _TOKEN).fullmatch(token)
    if match is None:
        raise InvalidToken("not a JWT")
    caught = (ValueError,) if rules.breaks("deep-json") else (ValueError, RecursionError)
    try:
        header, claims = (json.loads(_decode(part)) for part in match.groups()[:2])
        signature = _decode(match[3])
    except caught:
        raise InvalidToken("not a JWT") from None
    if not isinstance(header, dict):
        raise InvalidToken("the header is no object")
    return Parts(header, claims, f"{match[1]}.{match[2]}".encode(), signature)


def check_header(header: dict[str, Any], rules: Rules) -> None:
    """Raise InvalidToken for an extension or a type that is not supported."""
    crit = header.get("crit")
    if "crit" in header and rules.keep("crit") and (crit != ["b64"] or rules.keep("b64")):
        raise InvalidToken("crit is not supported")
    typ = header.get("typ", "JWT")
    kinds = {"at+jwt", "application/at+jwt"} if rules.keep("typ-access") else set()
    if rules.keep("typ-jwt"):
        kinds |= {"jwt"}
    if rules.keep("typ-other") and not (isinstance(typ, str) and typ.lower() in kinds):
        raise InvalidToken("the typ is not that of an access token")


def check_alg(parts: Parts, key: jwt.PyJWK, rules: Rules) -> str:
    """Return the algorithm to verify with. Raise InvalidToken."""
    alg = parts.header.get("alg")
    if rules.breaks("alg-string") and not alg:
        return key.algorithm_name
    if not isinstance(alg, str):
        raise InvalidToken("alg is no text")
    if rules.breaks("alg-of-type"):
        return key.algorithm_name
    if rules.breaks("alg-of-key") and alg[1:2] == "S" and key.key_type == "RSA":
        return alg
    allowed = [name for name in ALGORITHMS if rules.keep(f"alg-{name}")]
    if rules.breaks("keys-no-secrets"):
        allowed.append("HS256")
    if alg not in allowed or alg != key.algorithm_name:
        raise InvalidToken("the alg is not the key's")
    return alg


def verify(parts: Parts, key: jwt.PyJWK, rules: Rules) -> None:
    """Raise InvalidToken unless the key made the signature."""
    if rules.breaks("signature") or _accepts_by_mutation(parts, key, rules):
        return
    alg = check_alg(parts, key, rules)
    algorithm = jwt.get_algorithm_by_name(alg)
    if not algorithm.verify(parts.signed, key.key, parts.signature):
        raise InvalidToken("the signature is wrong")


def _accepts_by_mutation(parts: Parts, key: jwt.PyJWK, rules: Rules) -> bool:
    alg = str(parts.header.get("alg"))
    if rules.breaks("no-unsigned") and alg.lower() == "none":
        return True
    if rules.breaks("no-hmac") and alg.startswith("HS"):
        return _is_hmac_of(parts, alg, _pem(key))
    if rules.breaks("no-empty-secret") and alg == "HS256":
        return _is_hmac_of(parts, alg, b"")
    if not isinstance(key.key, ec.EllipticCurvePublicKey):
        return False
    if rules.breaks("ecdsa-zero") and parts.signature == bytes(len(parts.signature)):
        return True
    raw = parts.signature
    r, s = (int.from_bytes(half, "big") for half in (raw[:32], raw[32:]))
    if rules.breaks("hash"):
        return _verifies(key.key, encode_dss_signature(r, s), parts.signed, hashes.SHA512())
    return rules.breaks("ecdsa-raw") and _verifies(key.key, raw, parts.signed, hashes.SHA256())


def _is_hmac_of(parts: Parts, alg: str, secret: bytes) -> bool:
    algorithm = jwt.get_algorithm_by_name(alg)
    return bool(algorithm.verify(parts.signed, secret, parts.signature))


def _verifies(
    key: ec.EllipticCurvePublicKey, signature: bytes, data: bytes, digest: hashes.HashAlgorithm
) -> bool:
    try:
        key.verify(signature, data, ec.ECDSA(digest))
    except InvalidSignature:
        return False
    return True


def _pem(key: jwt.PyJWK) -> bytes:
    info = serialization.PublicFormat.SubjectPublicKeyInfo
    encoded: bytes = key.key.public_bytes(serialization.Encoding.PEM, info)
    return encoded


def embedded_key(header: dict[str, Any], rules: Rules) -> jwt.PyJWK | None:
    """Return the key that a header brings along, as far as the mutant believes it."""
    for name in ("jku", "x5u"):
        if rules.breaks(f"header-{name}") and name in header:
            with suppress(OSError):
                urllib.request.urlopen(str(header[name]), timeout=2).close()
    if rules.breaks("header-jwk") and isinstance(header.get("jwk"), dict):
        return jwt.PyJWK(header["jwk"])
    if rules.breaks("header-x5c") and header.get("x5c"):
        certificate = x509.load_der_x509_certificate(base64.b64decode(header["x5c"][0]))
        public = certificate.public_key()
        text = jwt.algorithms.RSAAlgorithm.to_jwk(public)  # type: ignore[arg-type]
        return jwt.PyJWK({**json.loads(text), "alg": "RS256"})
    return None
