"""Algorithms of signatures, and the keys that may be used with them."""

from tests.resource_server.check import Severity, check
from tests.resource_server.issuer import ABSENT, sign
from tests.resource_server.keys import (
    SigningKey,
    assemble,
    encode_segment,
    sign_hmac,
)
from tests.resource_server.scenarios import SECRET
from tests.resource_server.target import Target


def _key(target: Target, alg: str) -> SigningKey:
    return next(key for key in target.main.keys if key.alg == alg)


def _control(target: Target) -> None:
    target.expect_accepted(target.main.token(), "the good token")


def _expect_alg_accepted(target: Target, alg: str) -> None:
    target.expect_accepted(target.main.token(_key(target, alg)), f"a token signed with {alg}")


@check("alg-rs256", "RFC 9068 section 4; RFC 7518 section 3.3")
def alg_rs256(target: Target) -> None:
    """A token signed with RS256 is accepted."""
    _expect_alg_accepted(target, "RS256")


@check("alg-es256", "RFC 7518 section 3.4", Severity.SHOULD)
def alg_es256(target: Target) -> None:
    """A token signed with ES256 is accepted."""
    _expect_alg_accepted(target, "ES256")


@check("alg-ps256", "RFC 7518 section 3.5", Severity.SHOULD)
def alg_ps256(target: Target) -> None:
    """A token signed with PS256 is accepted."""
    _expect_alg_accepted(target, "PS256")


@check("alg-eddsa", "RFC 8037 section 3.1", Severity.SHOULD)
def alg_eddsa(target: Target) -> None:
    """A token signed with EdDSA is accepted."""
    _expect_alg_accepted(target, "EdDSA")


@check("alg-none", "RFC 8725 section 3.2; RFC 9068 section 4")
def alg_none(target: Target) -> None:
    """An unsigned token is refused, in each spelling of `none`."""
    _control(target)
    good = target.main.token()
    tokens = {}
    for alg in ("none", "None", "NONE", "nOnE"):
        header = {"alg": alg, "typ": "at+jwt"}
        unsigned = assemble(header, target.main.claims(), b"")
        tokens[f"alg {alg}"] = unsigned
        tokens[f"alg {alg} with a kid"] = assemble(
            {**header, "kid": target.main.keys[0].kid}, target.main.claims(), b""
        )
        tokens[f"alg {alg} with a signature"] = unsigned + good.rpartition(".")[2]
    target.expect_all_refused(tokens)


@check("alg-missing", "RFC 7515 section 4.1.1")
def alg_missing(target: Target) -> None:
    """A header without a string as `alg` is refused."""
    _control(target)
    values = {"absent": ABSENT, "null": None, "a list": ["RS256"], "a number": 256, "empty": ""}
    key = target.main.keys[0]
    tokens = {
        f"alg {what}": sign(key, target.main.header(key, alg=alg), target.main.claims())
        for what, alg in values.items()
    }
    target.expect_all_refused(tokens)


@check("alg-hmac-public-key", "RFC 8725 sections 2.1 and 3.1")
def hmac_with_public_key(target: Target) -> None:
    """An HMAC with the public key as its secret is refused."""
    _control(target)
    tokens = {}
    for key in target.main.keys[:3]:
        for what, secret in key.public_encodings().items():
            for bits in ("256", "384", "512"):
                header = target.main.header(key, alg=f"HS{bits}")
                data = assemble(header, target.main.claims())
                signature = sign_hmac(secret, data.encode(), bits)
                tokens[f"HS{bits} with {key.kid} as {what}"] = f"{data}.{encode_segment(signature)}"
    target.expect_all_refused(tokens)


@check("alg-hmac-empty-secret", "RFC 8725 section 3.5")
def hmac_with_empty_secret(target: Target) -> None:
    """An HMAC with an empty secret is refused."""
    _control(target)
    data = assemble(target.main.header(target.main.keys[0], alg="HS256"), target.main.claims())
    token = f"{data}.{encode_segment(sign_hmac(b'', data.encode()))}"
    target.expect_refused(token, "HS256 with an empty secret")


@check("alg-symmetric-key-set", "RFC 8725 section 3.1; RFC 7517 section 9.3")
def symmetric_key_set(target: Target) -> None:
    """A symmetric key in the published key set is not used."""
    issuer = target.issuer("mixed")
    target.expect_accepted(issuer.token(), "the token of the other key of that set")
    header = {"alg": "HS256", "typ": "at+jwt", "kid": "secret"}
    data = assemble(header, issuer.claims())
    token = f"{data}.{encode_segment(sign_hmac(SECRET, data.encode()))}"
    target.expect_refused(token, "HS256 with a secret of the key set")


@check("alg-pinned-by-key", "RFC 8725 section 3.1; RFC 7517 section 4.4")
def pinned_by_key(target: Target) -> None:
    """A key that is published for one algorithm verifies no other."""
    _control(target)
    tokens = {}
    for alg, other in (("RS256", "PS256"), ("RS256", "RS512"), ("PS256", "RS256")):
        key = _key(target, alg)
        header = target.main.header(key, alg=other)
        data = assemble(header, target.main.claims())
        signature = key.sign(data.encode(), other)
        tokens[f"a key for {alg} with {other}"] = f"{data}.{encode_segment(signature)}"
    target.expect_all_refused(tokens)


@check("alg-pinned-by-type", "RFC 7518 section 3.1")
def pinned_by_type(target: Target) -> None:
    """A header whose `alg` does not fit the type of the key is refused."""
    _control(target)
    tokens = {}
    for alg, other in (("RS256", "ES256"), ("ES256", "RS256"), ("EdDSA", "ES256")):
        key = _key(target, alg)
        header = target.main.header(key, alg=other)
        tokens[f"a {alg} key as {other}"] = sign(key, header, target.main.claims())
    target.expect_all_refused(tokens)


@check("alg-key-without-alg", "RFC 7517 section 4.4")
def key_without_alg(target: Target) -> None:
    """A key that is published without `alg` and `use` verifies tokens, but never an HMAC."""
    issuer = target.issuer("mixed")
    key = issuer.keys[2]
    target.expect_accepted(issuer.token(key), "a token of a key without alg and use")
    data = assemble(issuer.header(key, alg="HS256"), issuer.claims())
    for what, secret in key.public_encodings().items():
        signature = encode_segment(sign_hmac(secret, data.encode()))
        target.expect_refused(f"{data}.{signature}", f"HS256 with the {what}")


@check("key-use-encryption", "RFC 7517 section 4.2")
def encryption_key(target: Target) -> None:
    """A key that is published for encryption verifies no signature."""
    issuer = target.issuer("mixed")
    target.expect_accepted(issuer.token(), "the token of the signing key of that set")
    target.expect_refused(issuer.token(issuer.keys[1]), "a token signed with a key of use enc")


@check("key-weak", "RFC 7518 section 3.3")
def weak_key(target: Target) -> None:
    """An RSA key of 1024 bits verifies no signature."""
    issuer = target.issuer("mixed")
    target.expect_accepted(issuer.token(), "the token of the sound key of that set")
    target.expect_refused(issuer.token(issuer.keys[3]), "a token signed with a key of 1024 bits")
