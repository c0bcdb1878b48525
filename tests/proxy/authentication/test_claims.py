"""Claims of tokens, which are kept only where something reads them."""

from typing import Any

import pytest

from mcpproxy.api.v1alpha1 import JwtIssuer
from mcpproxy.proxy.authentication.client_authentication import reads_claims
from mcpproxy.proxy.authentication.token_rules import JwtIdentities
from mcpproxy.proxy.authentication.tokens import Token
from tests.support.bad_values import ref
from tests.support.builders import a_backend, an_mcpproxy

NOW = 1_000.0
ISSUER = "https://login.example.com"
EXCHANGE = {"issuer": ISSUER, "clientId": "mcpproxy", "clientSecretFrom": ref(secret="office")}
RULE = {"name": "r", "who": {"groups": ["dev"]}, "may": [{"tools": ["*"]}]}


@pytest.mark.parametrize("keeps_claims", [False, True])
def test_an_identity_has_claims_only_if_they_are_kept(keeps_claims: bool) -> None:
    payload = b'{"sub":"ann","groups":["dev"]}'
    token = Token("RS256", "one", {"sub": "ann", "groups": ["dev"]}, payload, b"", b"")
    identities = JwtIdentities(JwtIssuer(issuer=ISSUER), keeps_claims=keeps_claims)
    identity = identities.identify(token, NOW)
    assert identity.groups == {"dev"}
    assert bool(identity.claims) is keeps_claims


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ({}, False),
        ({"authorization": {"rules": [RULE]}}, False),
        ({"authorization": {"rules": [{**RULE, "when": "claims.level > 1"}]}}, True),
        ({"authorization": {"external": {"url": "https://decisions.example/"}}}, True),
        ({"backends": [a_backend(auth={"tokenExchange": EXCHANGE})]}, True),
    ],
)
def test_conditions_external_decisions_and_exchanges_read_claims(
    spec: dict[str, Any], expected: bool
) -> None:
    jwt = {"jwt": [{"issuer": ISSUER, "audiences": ["a"]}]}
    assert reads_claims(an_mcpproxy(authentication=jwt, **spec).spec) is expected
