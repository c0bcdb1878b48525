"""Signatures that are wrong in one respect."""

import base64

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import (
    decode_dss_signature,
    encode_dss_signature,
)

from tests.resource_server.check import Failed, check
from tests.resource_server.keys import (
    EC_BYTES,
    SigningKey,
    assemble,
    encode_json,
    encode_segment,
)
from tests.resource_server.target import Target


def _key(target: Target, alg: str) -> SigningKey:
    return next(key for key in target.main.keys if key.alg == alg)


def _control(target: Target) -> None:
    target.expect_accepted(target.main.token(), "the good token")


@check("signature-tampered", "RFC 7515 section 5.2")
def tampered(target: Target) -> None:
    """A token whose payload, header or signature was changed is refused."""
    _control(target)
    first, second = target.main.token(), target.main.token(sub="bob")
    (head, payload, signature), (_, other, foreign) = first.split("."), second.split(".")
    half = len(signature) // 2
    renamed = encode_json(target.main.header(target.main.keys[0], extra=1))
    flipped = ("B" if signature[half] == "A" else "A").join(
        (signature[:half], signature[half + 1 :])
    )
    target.expect_all_refused(
        {
            "the payload of another token": f"{head}.{other}.{signature}",
            "the signature of another token": f"{head}.{payload}.{foreign}",
            "a changed header": f"{renamed}.{payload}.{signature}",
            "a changed byte of the signature": f"{head}.{payload}.{flipped}",
            "half of the signature": f"{head}.{payload}.{signature[:half]}",
            "no signature": f"{head}.{payload}.",
        }
    )


@check("signature-other-key", "RFC 7515 section 5.2")
def other_key(target: Target) -> None:
    """A token that another key signed under the identifier of a known one is refused."""
    _control(target)
    tokens = {}
    for key in target.main.keys:
        stranger = SigningKey.generate(key.alg, key.kid)
        tokens[f"a foreign {key.alg} key as {key.kid}"] = target.main.token(stranger)
    target.expect_all_refused(tokens)


@check("signature-ecdsa-zero", "RFC 8725 section 2.3; FIPS 186-5 section 6.4.2")
def ecdsa_zero(target: Target) -> None:
    """An ECDSA signature of zeros is refused."""
    _control(target)
    key = _key(target, "ES256")
    header, claims = target.main.header(key), target.main.claims()
    tokens = {
        f"{n} zeros": assemble(header, claims, bytes(n)) for n in (2 * EC_BYTES, 0, 1, EC_BYTES)
    }
    target.expect_all_refused(tokens)


@check("signature-ecdsa-der", "RFC 7518 section 3.4")
def ecdsa_der(target: Target) -> None:
    """An ECDSA signature in DER is refused."""
    _control(target)
    key = _key(target, "ES256")
    data = assemble(target.main.header(key), target.main.claims())
    raw = key.sign(data.encode())
    r, s = (int.from_bytes(half, "big") for half in (raw[:EC_BYTES], raw[EC_BYTES:]))
    token = f"{data}.{encode_segment(encode_dss_signature(r, s))}"
    target.expect_refused(token, "ES256 with a DER signature")


@check("signature-padding", "RFC 7515 section 2")
def padding(target: Target) -> None:
    """Segments with padding, of ordinary base64 or with spaces are refused."""
    _control(target)
    key = _key(target, "ES256")
    raw = encode_json(target.main.header(key))
    payload = encode_json(target.main.claims(pad="?>?>?>~~~"))
    padded = payload + "=" * (-len(payload) % 4 or 4)
    tokens = {}
    for what, body in (("padding", padded), ("ordinary base64", _ordinary(payload))):
        data = f"{raw}.{body}"
        tokens[what] = f"{data}.{encode_segment(key.sign(data.encode()))}"
    head, good, signature = target.main.token().split(".")
    tokens["padded signature"] = f"{head}.{good}.{signature}=="
    target.expect_all_refused(tokens)


def _ordinary(segment: str) -> str:
    data = base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
    return base64.b64encode(data).decode().rstrip("=") + "+/"


@check("signature-hash-of-es256", "FIPS 186-5 section 6.4")
def wrong_hash(target: Target) -> None:
    """An ES256 signature over another hash is refused."""
    _control(target)
    key = _key(target, "ES256")
    data = assemble(target.main.header(key), target.main.claims())
    if not isinstance(key.private, ec.EllipticCurvePrivateKey):
        raise Failed("the kit has no key for ES256")
    r, s = decode_dss_signature(key.private.sign(data.encode(), ec.ECDSA(hashes.SHA512())))
    signature = r.to_bytes(EC_BYTES, "big") + s.to_bytes(EC_BYTES, "big")
    target.expect_refused(f"{data}.{encode_segment(signature)}", "ES256 over SHA-512")
