"""The issuers of a run: one that is sound, and one for each fault of an authorization server."""

import functools
from typing import Final

from tests.resource_server.issuer import OAUTH, OPENID, Mode
from tests.resource_server.issuer_server import IssuerServer
from tests.resource_server.keys import SigningKey, encode_segment

SHARED_KID: Final = "shared"
SECRET: Final = b"a secret that the issuer published by mistake: 32 bytes or more"
PRIMED: Final = ("rotating", "removing", "warm")
"""Issuers whose tokens are sent at the beginning, so that their key sets are old later."""
UNTRUSTED: Final = "untrusted"
"""The one issuer that the server must not be configured to trust."""


def _key(kid: str, alg: str = "ES256") -> SigningKey:
    return (
        _rsa_key(kid, alg) if alg[1:2] == "S" and alg[0] in "RP" else SigningKey.generate(alg, kid)
    )


@functools.cache
def _rsa_key(kid: str, alg: str) -> SigningKey:
    """Return a key that is made once, because that takes long."""
    return SigningKey.generate(alg, kid)


def create(server: IssuerServer) -> None:
    """Add all issuers to the server.

    They are few, because servers limit the number of issuers that they trust.
    """
    issuers = server.issuers
    algorithms = ("RS256", "ES256", "PS256", "EdDSA")
    issuers.add("main", [*(_key(alg.lower(), alg) for alg in algorithms), _key(SHARED_KID)])
    issuers.add("other", [_key("other"), _key(SHARED_KID)], forms=(OPENID,))
    issuers.add("slash", [_key("slash")], slash="/")
    issuers.add("flooded", [_key("flooded-1")], forms=(OAUTH,))
    for name in (*PRIMED, "concurrent"):
        issuers.add(name, [_key(f"{name}-1")])
    issuers.add("cold", [_key("cold")], mode=Mode.DOWN)
    for mode in (Mode.LARGE, Mode.SLOW, Mode.ENDLESS, Mode.REDIRECT, Mode.GARBAGE):
        issuers.add(mode.value, [_key(mode.value)], mode=mode)
    mislabeled = issuers.add("mislabeled", [_key("mislabeled")])
    mislabeled.metadata_changes["issuer"] = issuers["main"].url
    _add_mixed(server)
    issuers.add(UNTRUSTED, [_key(UNTRUSTED)])


def _add_mixed(server: IssuerServer) -> None:
    keys = [_key("mixed"), _key("encryption-only"), _key("bare", "RS256")]
    keys.append(SigningKey.generate("RS256", "weak", bits=1024))
    mixed = server.issuers.add("mixed", keys)
    mixed.published = [
        17,
        {"kty": "quantum", "kid": "mixed-1", "alg": "QS512"},
        {"kty": "RSA", "kid": "mixed-2", "n": "!!", "e": "AQAB"},
        {"kty": "EC", "kid": "mixed-3", "crv": "P-256", "x": "AA", "y": "AA"},
        {"kty": "oct", "kid": "secret", "k": encode_segment(SECRET), "alg": "HS256"},
        keys[1].jwk(use="enc"),
        keys[2].jwk(alg=None, use=None),
        keys[3].jwk(),
        keys[0].jwk(),
    ]


def trusted(server: IssuerServer) -> list[str]:
    """Return the identifiers of the issuers that the server has to trust."""
    return [issuer.url for name, issuer in server.issuers.by_name.items() if name != UNTRUSTED]
