"""Accepted tokens, and their subjects."""

import json
from typing import Any

import pytest

from mcpproxy.proxy.authentication.refusals import CredentialsRefused
from mcpproxy.proxy.authentication.resource_metadata import canonical_url
from mcpproxy.proxy.authentication.token_rules import ServiceAccountIdentities
from mcpproxy.proxy.authentication.tokens import Token
from tests.proxy.authentication.stage import Stage
from tests.proxy.authentication.tokens import (
    ABSENT,
    ED25519,
    ISSUER,
    NOW,
    OTHER_RSA,
    P256,
    PUBLIC_URL,
    RSA,
    Issuer,
    encode,
    jwk,
    key_set,
)


async def test_a_valid_token_is_accepted_with_its_issuer_and_subject() -> None:
    stage = Stage()
    identity = await stage.identify(stage.issuer.token("ann"))
    assert (identity.method, identity.subject) == ("jwt", "ann")
    assert identity.issuer == stage.issuer.url
    assert identity.expires == NOW + 600
    assert identity.claims["aud"] == PUBLIC_URL
    assert stage.result("accepted") == 1


@pytest.mark.parametrize(
    ("claims", "result", "words"),
    [
        ({"iss": "https://login.example.com/realms/agents/"}, "unknown_issuer", "issuer"),
        ({"iss": "HTTPS://login.example.com/realms/agents"}, "unknown_issuer", "issuer"),
        ({"iss": ABSENT}, "unknown_issuer", "issuer"),
        ({"aud": "https://other.example.com/tools"}, "wrong_audience", "this resource"),
        ({"aud": "https://mcp.example.com/tools/more"}, "wrong_audience", "this resource"),
        ({"aud": ["https://other.example.com", 7, None]}, "wrong_audience", "this resource"),
        ({"aud": {PUBLIC_URL: 1}}, "wrong_audience", "this resource"),
        ({"aud": ABSENT}, "wrong_audience", "this resource"),
        ({"exp": ABSENT}, "malformed", "exp"),
        ({"exp": "1900000000"}, "malformed", "exp"),
        ({"exp": True}, "malformed", "exp"),
        ({"exp": NOW - 60}, "expired", "expired"),
        ({"nbf": NOW + 61}, "not_yet_valid", "not valid yet"),
        ({"iat": NOW + 61}, "not_yet_valid", "not valid yet"),
        ({"nbf": 10**400}, "not_yet_valid", "not valid yet"),
        ({"iat": 10**400}, "not_yet_valid", "not valid yet"),
        ({"exp": -(10**400)}, "expired", "expired"),
        ({"nbf": "soon"}, "malformed", "nbf"),
        ({"iat": None}, "malformed", "iat"),
        ({"sub": ABSENT}, "malformed", "subject"),
        ({"sub": ""}, "malformed", "subject"),
        ({"sub": 7}, "malformed", "subject"),
        ({"nonce": "n"}, "wrong_type", "ID token"),
        ({"at_hash": "h"}, "wrong_type", "ID token"),
        ({"c_hash": "h"}, "wrong_type", "ID token"),
        ({"typ": "ID"}, "wrong_type", "access token"),
        ({"typ": "Refresh"}, "wrong_type", "access token"),
    ],
)
async def test_a_token_that_breaks_a_rule_for_claims_is_refused(
    claims: dict[str, Any], result: str, words: str
) -> None:
    stage = Stage()
    status, message = await stage.refusal(stage.issuer.token(**claims))
    assert status == 401
    assert words in message
    assert stage.result(result) == 1


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": ["other", PUBLIC_URL]},
        {"aud": "HTTPS://MCP.Example.com:443/tools/"},
        {"exp": NOW - 59},
        {"exp": 10**400},
        {"nbf": NOW + 60, "iat": NOW + 60},
        {"iat": ABSENT},
        {"iat": -(10**400), "nbf": -(10**400)},
        {"nonce": "n", "typ": "Bearer"},
    ],
)
async def test_a_token_at_the_edge_of_the_rules_is_accepted(claims: dict[str, Any]) -> None:
    stage = Stage()
    assert (await stage.identify(stage.issuer.token(**claims))).subject == "ann"


async def test_named_audiences_are_compared_exactly_and_replace_the_public_url() -> None:
    stage = Stage(audiences=("tools", "https://api.example.com"))
    assert await stage.identify(stage.issuer.token(aud="tools"))
    for other in (PUBLIC_URL, "Tools", "https://api.example.com/"):
        assert (await stage.refusal(stage.issuer.token(aud=other)))[0] == 401


@pytest.mark.parametrize(
    ("header", "result"),
    [
        ({"typ": "id+jwt"}, "wrong_type"),
        ({"typ": "logout+jwt"}, "wrong_type"),
        ({"typ": 7}, "wrong_type"),
        ({"crit": ["exp"]}, "malformed"),
        ({"crit": []}, "malformed"),
        ({"kid": 7}, "malformed"),
        ({"alg": 7}, "malformed"),
        ({"alg": "none"}, "unknown_key"),
        ({"alg": "RS512"}, "bad_signature"),
        ({"alg": "ES256"}, "unknown_key"),
        ({"kid": "two"}, "unknown_key"),
    ],
)
async def test_a_token_that_breaks_a_rule_for_headers_is_refused(
    header: dict[str, Any], result: str
) -> None:
    stage = Stage()
    assert (await stage.refusal(stage.issuer.token(header=header)))[0] == 401
    assert stage.result(result) == 1


@pytest.mark.parametrize("kind", ["at+jwt", "AT+JWT", "application/at+jwt", "JWT", ABSENT])
async def test_access_tokens_of_all_types_are_accepted(kind: Any) -> None:
    stage = Stage()
    assert await stage.identify(stage.issuer.token(header={"typ": kind}))


async def test_a_token_of_the_access_type_may_have_a_nonce() -> None:
    stage = Stage()
    assert await stage.identify(stage.issuer.token(header={"typ": "at+jwt"}, nonce="n"))


OF_ID_TOKENS: tuple[dict[str, Any], ...] = (
    {"nonce": "n"},
    {"at_hash": "h"},
    {"c_hash": "h"},
    {"typ": "ID"},
    {"azp": "portal"},
)


@pytest.mark.parametrize("audience", ["portal", ["portal"]])
async def test_id_tokens_that_are_exchanged_are_accepted(audience: Any) -> None:
    stage = Stage(audiences=("portal",), id_tokens=frozenset({(ISSUER, "portal")}))
    for claims in OF_ID_TOKENS:
        assert await stage.identify(stage.issuer.token(aud=audience, **claims))


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "other"},
        {"aud": ["portal", "other"]},
        {"aud": []},
        {"azp": "other"},
        {"azp": None},
        {"iss": "https://elsewhere.example.com"},
        {"typ": "Refresh"},
        {"typ": "Logout"},
    ],
)
async def test_id_tokens_of_others_are_refused_where_some_are_exchanged(
    claims: dict[str, Any],
) -> None:
    stage = Stage(audiences=("portal", "other"), id_tokens=frozenset({(ISSUER, "portal")}))
    token = stage.issuer.token(**{"aud": "portal", "nonce": "n", **claims})
    assert (await stage.refusal(token))[0] == 401
    assert stage.result("wrong_type") == 1


async def test_a_token_without_a_signature_is_refused() -> None:
    stage = Stage()
    signed = stage.issuer.token(header={"alg": "none"})
    assert (await stage.refusal(signed.rpartition(".")[0] + "."))[0] == 401


async def test_a_public_key_is_never_used_as_an_hmac_secret() -> None:
    import hashlib
    import hmac

    from cryptography.hazmat.primitives import serialization as forms

    stage = Stage()
    public = RSA.public_key()
    secrets = [
        public.public_bytes(forms.Encoding.PEM, forms.PublicFormat.SubjectPublicKeyInfo),
        json.dumps(jwk(RSA)).encode(),
    ]
    for secret in secrets:
        signed = stage.issuer.token(header={"alg": "HS256"}).rpartition(".")[0]
        mac = hmac.new(secret, signed.encode(), hashlib.sha256).digest()
        assert (await stage.refusal(f"{signed}.{encode(mac)}"))[0] == 401
    assert stage.result("accepted") == 0


@pytest.mark.parametrize("name", ["jwk", "jku", "x5u", "x5c"])
async def test_a_key_in_the_header_of_a_token_is_ignored(name: str) -> None:
    stage = Stage()
    own = {"jwk": jwk(OTHER_RSA), "jku": "https://evil.example", "x5u": "https://evil.example"}
    header = {name: own.get(name, ["AAAA"])}
    forged = Issuer(now=NOW, key=OTHER_RSA).token(header=header)
    assert (await stage.refusal(forged))[1] == "the signature of the token is wrong"
    assert await stage.identify(stage.issuer.token(header=header))
    assert stage.fetches == 1


@pytest.mark.parametrize(
    "text",
    [
        "a.b",
        "a.b.c",
        "a.b.c.d.e",
        "..",
        "!!!.b.c",
        f"{encode(b'[]')}.{encode(b'{}')}.c",
        f"{encode(b'{')}.{encode(b'{}')}.c",
        f"{encode(b'{' * 5000)}.{encode(b'{}')}.c",
        f"{encode(b'[' * 5000)}.{encode(b'{}')}.c",
        f"{encode(b'{}')}.{encode(bytes([255]))}.c",
    ],
)
async def test_text_other_than_a_token_is_refused(text: str) -> None:
    stage = Stage()
    assert (await stage.refusal(text))[0] == 401
    assert stage.result("malformed") == 1
    assert stage.fetches == 0


async def test_a_token_has_one_encoding() -> None:
    stage = Stage(document=key_set(jwk(ED25519)))
    token = Issuer(now=NOW, key=ED25519, algorithm="EdDSA").token()
    assert await stage.identify(token)
    head, payload, signature = token.split(".")
    # 64 bytes take 86 characters, of which the last has four bits without a meaning.
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    other = letters[letters.index(signature[-1]) + 1]
    for spelling in (
        f"{head}.{payload}.{signature}==",
        f"{head}.{payload}.{signature[:-1]}{other}",
        f"{head}.{payload}.{signature.replace('-', '+').replace('_', '/')}==",
        f"{head}=.{payload}.{signature}",
        f"{head}.{payload}.{signature}\n",
    ):
        assert (await stage.refusal(spelling))[0] == 401


@pytest.mark.parametrize(
    ("key", "algorithm"), [(P256, "ES256"), (ED25519, "EdDSA"), (RSA, "PS256"), (RSA, "RS384")]
)
async def test_tokens_of_all_key_types_are_verified(key: Any, algorithm: str) -> None:
    stage = Stage(document=key_set(jwk(key)))
    issuer = Issuer(now=NOW, key=key, algorithm=algorithm)
    assert await stage.identify(issuer.token())
    head, payload, signature = issuer.token("eve").split(".")
    forged = f"{head}.{encode(b'{}')[:-1]}{payload}.{signature}"
    assert (await stage.refusal(forged))[0] == 401
    swapped = ".".join([*issuer.token("eve").split(".")[:2], issuer.token("bo").split(".")[2]])
    assert (await stage.refusal(swapped))[1] == "the signature of the token is wrong"


async def test_claims_may_have_other_names_and_lie_in_objects() -> None:
    names = {"subject": "email", "groups": "realm.roles", "client": "azp", "scopes": "perms"}
    stage = Stage(claims=names)
    identity = await stage.identify(
        stage.issuer.token(
            email="ann@example.com",
            realm={"roles": ["dev", 7, "ops"]},
            azp="web",
            perms=["read write", "admin"],
            act={"sub": "agent"},
        )
    )
    assert identity.subject == "ann@example.com"
    assert identity.groups == {"dev", "ops"}
    assert (identity.client, identity.actor) == ("web", "agent")
    assert identity.scopes == {"read", "write", "admin"}


async def test_without_names_the_usual_claims_count() -> None:
    stage = Stage()
    token = stage.issuer.token(groups="dev", scope="a b", azp="web")
    identity = await stage.identify(token)
    assert (identity.groups, identity.scopes) == (frozenset({"dev"}), frozenset({"a", "b"}))
    assert identity.client == ""
    other = await stage.identify(stage.issuer.token(scp=["c"]))
    assert other.scopes == {"c"}


async def test_a_claim_whose_name_has_dots_precedes_nested_ones() -> None:
    stage = Stage(claims={"groups": "a.b"})
    both: dict[str, Any] = {"a.b": ["flat"], "a": {"b": ["deep"]}}
    identity = await stage.identify(stage.issuer.token(**both))
    assert identity.groups == {"flat"}


async def test_a_principal_is_that_of_issuer_subject_and_client() -> None:
    stage = Stage(claims={"client": "azp"})
    issuer = stage.issuer

    async def principal(**claims: Any) -> str:
        return (await stage.identify(issuer.token(**claims))).principal

    first = await principal(azp="web", jti="1")
    assert await principal(azp="web", jti="2", exp=NOW + 900, groups=["x"]) == first
    assert await principal(azp="app", jti="1") != first
    assert await principal(subject="bo", azp="web") != first
    assert await principal(subject="annweb") != await principal(subject="ann", azp="web")


def _token_of_the_cluster(subject: object) -> Token:
    return Token("RS256", "one", {"sub": subject}, b"{}", b"", b"")


def test_a_token_of_the_cluster_names_a_service_account() -> None:
    token = _token_of_the_cluster("system:serviceaccount:agents:reader")
    identity = ServiceAccountIdentities.identify(token, NOW)
    assert (identity.method, identity.service_account) == ("serviceAccount", ("agents", "reader"))
    assert identity.subject == "system:serviceaccount:agents:reader"


@pytest.mark.parametrize(
    "subject",
    [
        "system:node:worker",
        "agents:reader",
        "system:serviceaccount:agents",
        "system:serviceaccount::reader",
        "system:serviceaccount:agents:",
        "system:serviceaccount:agents:reader:more",
        "",
        7,
    ],
)
def test_other_subjects_of_the_cluster_are_refused(subject: object) -> None:
    with pytest.raises(CredentialsRefused):
        ServiceAccountIdentities.identify(_token_of_the_cluster(subject), NOW)


@pytest.mark.parametrize(
    ("url", "canonical"),
    [
        ("HTTPS://Mcp.Example.com/Tools", "https://mcp.example.com/Tools"),
        ("https://mcp.example.com:443/", "https://mcp.example.com"),
        ("http://a:80/b/", "http://a/b"),
        ("https://a:8443/b?c=d", "https://a:8443/b?c=d"),
        ("https://[::1]:443/x", "https://[::1]/x"),
        ("https://u@a/b", "https://u@a/b"),
        ("https://a:99999/b", "https://a:99999/b"),
        ("tools", "tools"),
    ],
)
def test_urls_of_resources_have_one_form(url: str, canonical: str) -> None:
    assert canonical_url(url) == canonical
