"""Header parameters that name keys, and those that must be understood."""

import base64

from tests.resource_server import certificates
from tests.resource_server.check import Failed, Severity, check
from tests.resource_server.issuer import ABSENT, sign
from tests.resource_server.issuer_server import UNTRUSTED
from tests.resource_server.keys import (
    SigningKey,
    assemble,
    encode_segment,
    sign_hmac,
)
from tests.resource_server.scenarios import SHARED_KID
from tests.resource_server.target import Target, expect_unauthorized


def _control(target: Target) -> None:
    target.expect_accepted(target.main.token(), "the good token")


@check("kid-unknown", "RFC 7515 section 4.1.4")
def unknown_kid(target: Target) -> None:
    """A token with an unknown `kid` is refused."""
    _control(target)
    key = SigningKey.generate("ES256", "nobody-knows-this-key")
    target.expect_refused(target.main.token(key), "a token with an unknown kid")


@check("kid-not-published", "RFC 7515 section 4.1.4; RFC 8725 section 3.8", Severity.SHOULD)
def unpublished_kid(target: Target) -> None:
    """A token whose `kid` names no published key is refused, although one of the keys signed it."""
    _control(target)
    tokens = {}
    for key in target.main.keys:
        header = target.main.header(key, kid=f"{key.kid}-unpublished")
        tokens[f"{key.kid} under another kid"] = sign(key, header, target.main.claims())
    target.expect_all_refused(tokens)


@check("kid-hostile", "RFC 7515 section 4.1.4; RFC 8725 section 3.10")
def hostile_kid(target: Target) -> None:
    """A `kid` that is a path, a query, very long or no string is refused without a 5xx."""
    _control(target)
    values: dict[str, object] = {
        "a path": "../../../../../../dev/null",
        "a URL": f"{target.server.issuers.origin}{UNTRUSTED}/key",
        "SQL": "x' UNION SELECT 'secret",
        "a NUL": "a\0b",
        "4 kB": "k" * 4096,
        "a number": 7,
        "a list": [target.main.keys[0].kid],
        "an object": {"kid": target.main.keys[0].kid},
        "true": True,
    }
    key = SigningKey.generate("ES256", "x")
    tokens = {}
    for what, kid in values.items():
        header = target.main.header(key, kid=kid)
        tokens[f"kid is {what}"] = sign(key, header, target.main.claims())
        data = assemble({**header, "alg": "HS256"}, target.main.claims())
        tokens[f"kid is {what}, HS256"] = f"{data}.{encode_segment(sign_hmac(b'', data.encode()))}"
    target.expect_all_refused(tokens)


@check("kid-of-other-issuer", "RFC 8725 section 3.8; RFC 9068 section 4")
def key_of_other_issuer(target: Target) -> None:
    """A key of one trusted issuer verifies no token of another, even with an equal `kid`."""
    other = target.issuer("other")
    target.expect_accepted(other.token(), "a token of the issuer other")
    own, shared = other.keys
    key = next(key for key in target.main.keys if key.kid == SHARED_KID)
    target.expect_accepted(target.main.token(key), f"the key {SHARED_KID} of the issuer main")
    target.expect_all_refused(
        {
            "main's token by other's key": target.main.token(own),
            "main's token by other's key of the same kid": target.main.token(shared),
        }
    )


def _no_stray_requests(target: Target, before: int, what: str) -> None:
    strays = target.server.issuers.strays[before:]
    if strays:
        raise Failed(f"the server requested {strays[0]} because of {what}")


def _expect_header_ignored(target: Target, name: str, value: object, attacker: SigningKey) -> None:
    """A key that the token itself names is neither fetched nor used, whoever signed the token."""
    _control(target)
    before = len(target.server.issuers.strays)
    for kid in ("attacker", target.main.keys[0].kid, ABSENT):
        token = target.main.token(attacker, {"kid": kid, name: value})
        target.expect_refused(token, f"a foreign key named by {name}")
    response = target.send(token=target.main.token(header={name: value}))
    if response.status != 200:
        expect_unauthorized(response, f"a good token with {name}")
    _no_stray_requests(target, before, name)


def _attacker() -> SigningKey:
    return SigningKey.generate("RS256", "attacker")


def _untrusted_url(target: Target) -> str:
    return f"{target.server.issuers.origin}{UNTRUSTED}/keys"


@check("header-jku", "RFC 8725 section 3.10; RFC 7515 section 4.1.2")
def header_jku(target: Target) -> None:
    """The header parameter `jku` is neither used nor fetched."""
    _expect_header_ignored(target, "jku", _untrusted_url(target), _attacker())


@check("header-x5u", "RFC 8725 section 3.10; RFC 7515 section 4.1.5")
def header_x5u(target: Target) -> None:
    """The header parameter `x5u` is neither used nor fetched."""
    _expect_header_ignored(target, "x5u", _untrusted_url(target), _attacker())


@check("header-jwk", "RFC 8725 section 3.10; RFC 7515 section 4.1.3")
def header_jwk(target: Target) -> None:
    """The header parameter `jwk` is not used."""
    attacker = _attacker()
    _expect_header_ignored(target, "jwk", attacker.jwk(), attacker)


@check("header-x5c", "RFC 8725 section 3.10; RFC 7515 section 4.1.6")
def header_x5c(target: Target) -> None:
    """The header parameter `x5c` is not used."""
    attacker = _attacker()
    certificate = base64.b64encode(certificates.self_signed(attacker)).decode()
    _expect_header_ignored(target, "x5c", [certificate], attacker)


@check("header-crit", "RFC 7515 section 4.1.11")
def header_crit(target: Target) -> None:
    """A token with a critical extension that the server does not know is refused."""
    _control(target)
    headers: dict[str, dict[str, object]] = {
        "an unknown extension": {"crit": ["urn:example:kit"], "urn:example:kit": True},
        "an extension that is absent": {"crit": ["exp"]},
        "an empty list": {"crit": []},
        "no list": {"crit": "exp"},
        "a registered parameter": {"crit": ["alg"]},
    }
    target.expect_all_refused(
        {f"crit: {what}": target.main.token(header=header) for what, header in headers.items()}
    )


@check("header-b64", "RFC 7797 section 6", Severity.SHOULD)
def header_b64(target: Target) -> None:
    """A token with an unencoded payload (`b64` false) is refused."""
    _control(target)
    token = target.main.token(header={"crit": ["b64"], "b64": False})
    target.expect_refused(token, "b64 false")
