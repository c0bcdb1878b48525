"""Principals: what sessions, parked calls and caches are bound to."""

from dataclasses import replace

import pytest

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


def test_a_refreshed_token_keeps_the_principal() -> None:
    refreshed = replace(ANN, expires=5.0, groups=frozenset({"dev"}), claims={"jti": "2"}, actor="a")
    assert refreshed.principal == ANN.principal


def test_nobody_is_the_principal_of_anonymous_callers() -> None:
    assert ANONYMOUS.principal == ""
    assert replace(ANN, subject="").principal != ""
