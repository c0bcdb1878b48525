"""Principals: what sessions, parked calls and caches are bound to."""

from dataclasses import replace

import pytest

from mcpproxy.proxy.core.exchange import ClientIdentity
from mcpproxy.proxy.core.identity import ANONYMOUS, Identity

ANN = Identity("jwt", "https://issuer", "ann", "web")


@pytest.mark.parametrize(
    "other",
    [
        replace(ANN, issuer="https://other"),
        replace(ANN, subject="bo"),
        replace(ANN, client="app"),
        replace(ANN, subject="annweb", client=""),
        replace(ANN, issuer="https://issuera", subject="nn"),
    ],
)
def test_another_issuer_subject_or_client_is_another_principal(other: Identity) -> None:
    assert other.principal != ANN.principal


def test_a_user_is_the_same_with_every_oauth_client() -> None:
    app = replace(ANN, client="app")
    assert app.user == ANN.user == replace(ANN, client="").principal
    assert replace(ANN, subject="bo").user != ANN.user
    assert ANONYMOUS.user == ""
    by_web, by_app = [
        ClientIdentity("2025-11-25", principal=who.principal, network="n", identity=who)
        for who in (ANN, app)
    ]
    assert by_web.principal != by_app.principal
    assert by_web.holder == by_app.holder == ("n", ANN.user)
    assert ClientIdentity("2025-11-25", principal="p").user == "p"


def test_a_refreshed_token_keeps_the_principal() -> None:
    refreshed = replace(ANN, expires=5.0, groups=frozenset({"dev"}), claims={"jti": "2"}, actor="a")
    assert refreshed.principal == ANN.principal


def test_nobody_is_the_principal_of_anonymous_callers() -> None:
    assert ANONYMOUS.principal == ""
    assert replace(ANN, subject="").principal != ""
