"""Claims of a token: issuer, audience, times, subject, and the kind of the token."""

import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from tests.resource_server.check import Failed, Severity, check
from tests.resource_server.issuer import ABSENT, Issuer, sign
from tests.resource_server.scenarios import UNTRUSTED
from tests.resource_server.target import Target, describe

WITHIN_SECONDS = 1
"""Distance from the limit of the clock skew at which a token is still accepted."""
BEYOND_SECONDS = 60
"""Distance from that limit at which it is refused."""


def _expect_claims_refused(target: Target, cases: Mapping[str, Mapping[str, Any]]) -> None:
    target.expect_accepted(target.main.token(), "the good token")
    target.expect_all_refused({what: target.main.token(**claims) for what, claims in cases.items()})


@check("iss-unknown", "RFC 9068 section 4; RFC 8725 section 3.8")
def unknown_issuer(target: Target) -> None:
    """A token of an issuer that is not trusted is refused, and nothing of the issuer is fetched."""
    stranger = target.server.issuers[UNTRUSTED]
    before = len(stranger.requests)
    key = target.main.keys[0]
    target.expect_accepted(target.main.token(), "the good token")
    target.expect_all_refused(
        {
            "a sound token of another issuer": stranger.token(),
            "another issuer, a trusted key": stranger.token(key),
            "a trusted issuer, another's key": target.main.token(stranger.keys[0]),
        }
    )
    if len(stranger.requests) > before:
        raise Failed(f"the server requested {stranger.requests[-1][1]} of an unknown issuer")


@check("iss-malformed", "RFC 9068 section 2.2; RFC 7519 section 4.1.1")
def malformed_issuer(target: Target) -> None:
    """A token without `iss`, or with an `iss` that is no string, is refused."""
    values = {"absent": ABSENT, "null": None, "a list": [target.main.url], "a number": 1, "": ""}
    _expect_claims_refused(target, {f"iss {what}": {"iss": v} for what, v in values.items()})


@check("iss-slash", "RFC 9068 section 4; RFC 8414 section 3.3")
def issuer_with_slash(target: Target) -> None:
    """`iss` is compared exactly: with one slash more it is another issuer."""
    url = target.main.url
    parts = urlsplit(url)
    values = [f"{url}/", f"{url}//", url.upper(), f"{url}?", f"{url}#", f" {url}", f"{url} "]
    values += [url.replace("127.0.0.1", "localhost"), f"{parts.scheme}://{parts.netloc}"]
    _expect_claims_refused(target, {f"iss {value!r}": {"iss": value} for value in values})


@check("iss-with-final-slash", "RFC 9068 section 4; RFC 8414 section 3.1")
def issuer_that_ends_with_slash(target: Target) -> None:
    """An issuer whose identifier ends with a slash works, and not without the slash."""
    issuer = target.issuer("slash")
    target.expect_accepted(issuer.token(), f"a token of {issuer.url}")
    target.expect_refused(issuer.token(iss=issuer.url.rstrip("/")), "the same without the slash")


@check("aud-wrong", "MCP authorization, Token Handling; RFC 8707 section 2")
def wrong_audience(target: Target) -> None:
    """A token for another resource is refused."""
    public = target.options.public_url
    parts = urlsplit(public)
    origin = f"{parts.scheme}://{parts.netloc}"
    values = ["https://other.example/mcp", f"{public}/more", f"{public}x", public[:-1], "*", ""]
    values += [f"{public}?a=b", f"{public}#a", f"x{public}", f"{public} ", parts.netloc]
    values += [f"{parts.scheme}://{parts.hostname}:1{parts.path}", "kit", "account"]
    values += [f"{parts.scheme}://{parts.netloc}.example{parts.path}"]
    values += [f"{parts.scheme}://kit@{parts.netloc}{parts.path}", public.replace("/", "\\")]
    values += [f"{public[:-1]}%{ord(public[-1]):02x}", f"{public}/.", f"{public}/../x"]
    if parts.path.strip("/"):
        values += [origin, f"{origin}/", f"{origin}{parts.path.upper()}"]
    _expect_claims_refused(target, {f"aud {value!r}": {"aud": value} for value in values})


@check("aud-missing", "RFC 9068 sections 2.2 and 4")
def missing_audience(target: Target) -> None:
    """A token without an audience is refused."""
    values = {"absent": ABSENT, "null": None, "an empty list": [], "a list of an empty text": [""]}
    _expect_claims_refused(target, {f"aud {what}": {"aud": v} for what, v in values.items()})


@check("aud-malformed", "RFC 7519 section 4.1.3")
def malformed_audience(target: Target) -> None:
    """An audience that is neither a string nor a list of strings is refused."""
    public = target.options.public_url
    values: dict[str, object] = {
        "an object": {public: public},
        "a number": 1,
        "true": True,
        "a list in a list": [[public]],
        "a list with an object": [{"aud": public}],
    }
    _expect_claims_refused(target, {f"aud is {what}": {"aud": v} for what, v in values.items()})


@check("aud-list", "RFC 7519 section 4.1.3")
def list_of_audiences(target: Target) -> None:
    """A list of audiences is accepted if the server is in it, and refused otherwise."""
    public = target.options.public_url
    for audiences in ([public], ["https://other.example", public], [public, "account"]):
        target.expect_accepted(target.main.token(aud=audiences), f"aud {audiences}")
    others = ["https://other.example/mcp", "account"]
    target.expect_refused(target.main.token(aud=others), f"aud {others}")


@check("aud-host-case", "MCP authorization, Canonical Server URI", Severity.SHOULD)
def audience_in_upper_case(target: Target) -> None:
    """An audience with scheme and host in upper case is accepted."""
    parts = urlsplit(target.options.public_url)
    audience = f"{parts.scheme.upper()}://{parts.netloc.upper()}{parts.path}"
    target.expect_accepted(target.main.token(aud=audience), f"aud {audience}")


@check("aud-final-slash", "MCP authorization, Canonical Server URI", Severity.SHOULD)
def audience_with_final_slash(target: Target) -> None:
    """An audience with a final slash, which some clients add, is accepted."""
    audience = target.options.public_url.rstrip("/") + "/"
    target.expect_accepted(target.main.token(aud=audience), f"aud {audience}")


@check("exp-expired", "RFC 7519 section 4.1.4; MCP authorization, Token Handling")
def expired(target: Target) -> None:
    """A token that expired longer ago than any clock skew is refused as invalid_token."""
    now = int(time.time())
    ago = int(target.options.leeway) + BEYOND_SECONDS
    _expect_claims_refused(
        target,
        {
            f"expired {ago} s ago": {"exp": now - ago, "iat": now - ago - 60},
            "expired a year ago": {"exp": now - 31_536_000, "iat": now - 31_536_060},
            "exp 0": {"exp": 0},
            "exp negative": {"exp": -1},
        },
    )


@check("exp-skew", "RFC 7519 section 4.1.4", Severity.SHOULD)
def expiry_within_skew(target: Target) -> None:
    """A token that expired within the clock skew is accepted."""
    ago = int(target.options.leeway) - WITHIN_SECONDS
    now = int(time.time())
    token = target.main.token(exp=now - ago, iat=now - ago - 60)
    target.expect_accepted(token, f"a token that expired {ago} s ago")


@check("exp-missing", "RFC 9068 section 2.2")
def missing_expiry(target: Target) -> None:
    """A token without `exp` is refused."""
    _expect_claims_refused(target, {"no exp": {"exp": ABSENT}, "exp null": {"exp": None}})


@check("exp-malformed", "RFC 7519 sections 2 and 4.1.4")
def malformed_expiry(target: Target) -> None:
    """A token whose `exp` is no number, or beyond all dates, is refused without a 5xx."""
    later = int(time.time()) + 600
    values: dict[str, object] = {
        "a list": [later],
        "true": True,
        "text": "tomorrow",
        "a date": "2099-01-01T00:00:00Z",
        "infinite": float("inf"),
        "not a number": float("nan"),
    }
    _expect_claims_refused(target, {f"exp is {what}": {"exp": v} for what, v in values.items()})
    for huge in (10**18, 10**30, 10**400, 1e300):
        response = target.send(token=target.main.token(exp=huge))
        if response.status >= 500:
            raise Failed(f"exp of {str(huge)[:8]}…: {describe(response)}")


@check("exp-fraction", "RFC 7519 section 2")
def fractional_expiry(target: Target) -> None:
    """Times with fractions of seconds are accepted."""
    now = time.time()
    token = target.main.token(exp=now + 600.5, iat=now - 0.25, nbf=now - 0.25)
    target.expect_accepted(token, "exp, iat and nbf with fractions")


@check("nbf-future", "RFC 7519 section 4.1.5")
def not_before_in_future(target: Target) -> None:
    """A token is refused before its `nbf`, and if `nbf` is no number."""
    ahead = int(target.options.leeway) + BEYOND_SECONDS
    now = int(time.time())
    _expect_claims_refused(
        target,
        {
            f"nbf in {ahead} s": {"nbf": now + ahead},
            "nbf in a year": {"nbf": now + 31_536_000},
            "nbf is text": {"nbf": "later"},
            "nbf is a list": {"nbf": [now]},
            "nbf is true": {"nbf": True},
        },
    )


@check("nbf-skew", "RFC 7519 section 4.1.5", Severity.SHOULD)
def not_before_within_skew(target: Target) -> None:
    """A token whose `nbf` is ahead by less than the clock skew is accepted."""
    ahead = int(target.options.leeway) - WITHIN_SECONDS
    token = target.main.token(nbf=int(time.time()) + ahead)
    target.expect_accepted(token, f"a token with nbf in {ahead} s")


@check("iat-future", "RFC 9068 section 2.2", Severity.SHOULD)
def issued_in_future(target: Target) -> None:
    """A token that was issued in the future, or whose `iat` is no number, is refused."""
    ahead = int(target.options.leeway) + BEYOND_SECONDS
    now = int(time.time())
    _expect_claims_refused(
        target, {f"iat in {ahead} s": {"iat": now + ahead}, "iat is text": {"iat": "now"}}
    )


@check("iat-skew", "RFC 9068 section 2.2", Severity.SHOULD)
def issued_within_skew(target: Target) -> None:
    """A token whose `iat` is ahead by less than the clock skew is accepted."""
    ahead = int(target.options.leeway) - WITHIN_SECONDS
    token = target.main.token(iat=int(time.time()) + ahead)
    target.expect_accepted(token, f"a token issued in {ahead} s")


@check("sub-missing", "RFC 9068 section 2.2")
def missing_subject(target: Target) -> None:
    """A token without a subject is refused: no session could be bound to its holder."""
    values = {"absent": ABSENT, "null": None, "empty": "", "a number": 7, "a list": ["alice"]}
    _expect_claims_refused(target, {f"sub {what}": {"sub": v} for what, v in values.items()})


@check("claims-malformed", "RFC 7519 section 7.2")
def malformed_claims(target: Target) -> None:
    """A signed payload that is no object is refused."""
    target.expect_accepted(target.main.token(), "the good token")
    key = target.main.keys[0]
    values: dict[str, object] = {"a list": [], "a text": "alice", "null": None, "a number": 1}
    tokens = {
        f"the payload is {what}": sign(key, target.main.header(key), value)
        for what, value in values.items()
    }
    target.expect_all_refused(tokens)


@check("claims-odd-types", "RFC 8725 section 3.10")
def odd_types(target: Target) -> None:
    """Optional claims of odd types cause no 5xx."""
    for value in (1, None, [1, {}], {"a": [None]}, "\0", "\ud800", "é" * 200, 1e300, True):
        token = target.main.token(
            scope=value, groups=value, client_id=value, azp=value, act=value, jti=value, cnf=value
        )
        response = target.send(token=token)
        if response.status >= 500:
            raise Failed(f"claims with the value {value!r}: {describe(response)}")
    for subject in ("\ud800", "\0", "a" * 5000, "\u202e", "a\r\nb"):
        response = target.send(token=target.main.token(sub=subject))
        if response.status >= 500:
            raise Failed(f"the subject {subject[:20]!r}: {describe(response)}")


@check("typ-access-token", "RFC 9068 section 4; RFC 7515 section 4.1.9")
def type_of_access_tokens(target: Target) -> None:
    """The `typ` at+jwt is accepted, also as application/at+jwt and in upper case."""
    for typ in ("at+jwt", "application/at+jwt", "AT+JWT"):
        target.expect_accepted(target.main.token(header={"typ": typ}), f"typ {typ}")


@check("typ-jwt", "RFC 7519 section 5.1", Severity.SHOULD)
def type_jwt(target: Target) -> None:
    """Access tokens with `typ` JWT, or without `typ`, which most issuers send, are accepted."""
    target.expect_accepted(target.main.token(header={"typ": "JWT"}), "typ JWT")
    target.expect_accepted(target.main.token(header={"typ": ABSENT}), "no typ")


@check("typ-other", "RFC 8725 section 3.11; RFC 9068 section 4")
def other_types(target: Target) -> None:
    """A token of another kind is refused by its `typ`."""
    target.expect_accepted(target.main.token(), "the good token")
    kinds = ["logout+jwt", "dpop+jwt", "secevent+jwt", "oauth-authz-req+jwt", "id+jwt", "JOSE"]
    kinds += ["token-introspection+jwt", "client-authentication+jwt", "x-at+jwt", "at+jwtx"]
    tokens = {f"typ {typ}": target.main.token(header={"typ": typ}) for typ in kinds}
    for what, value in (("a list", ["at+jwt"]), ("a number", 1)):
        tokens[f"typ is {what}"] = target.main.token(header={"typ": value})
    target.expect_all_refused(tokens)


def _id_token(issuer: Issuer, audience: object, **claims: Any) -> str:
    times = {"auth_time": int(time.time()), "nonce": "n-0S6", "at_hash": "77QmUPtjPfzWtF2AnpK9RQ"}
    changes: dict[str, Any] = {"aud": audience, "azp": "kit", "client_id": ABSENT, **times}
    return issuer.token(header={"typ": "JWT"}, **{**changes, "scope": ABSENT, **claims})


@check("id-token", "RFC 9068 section 5; OpenID Connect Core section 2")
def id_token(target: Target) -> None:
    """An ID token, whose audience is the client, is refused."""
    target.expect_accepted(target.main.token(), "the good token")
    bare = _id_token(target.main, "kit", nonce=ABSENT, at_hash=ABSENT, auth_time=ABSENT)
    target.expect_all_refused(
        {"an ID token": _id_token(target.main, "kit"), "an ID token without a nonce": bare}
    )


@check("id-token-for-resource", "RFC 8725 section 3.12", Severity.SHOULD)
def id_token_for_resource(target: Target) -> None:
    """An ID token is refused although the server is an audience of it."""
    target.expect_accepted(target.main.token(), "the good token")
    public = target.options.public_url
    target.expect_all_refused(
        {
            "an ID token with nonce and at_hash": _id_token(target.main, [public, "kit"]),
            "an ID token of Keycloak": _id_token(
                target.main, public, typ="ID", nonce=ABSENT, at_hash=ABSENT
            ),
        }
    )
