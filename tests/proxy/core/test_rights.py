"""Callers with other claims are others for a backend that is called on their behalf."""

from dataclasses import replace
from typing import Any

from mcpproxy.api.constants import RIGHTS
from mcpproxy.api.defaults import default_settings
from mcpproxy.proxy.core.exchange import ClientIdentity
from mcpproxy.proxy.core.identity import Identity


def _client(**claims: Any) -> ClientIdentity:
    identity = Identity("jwt", "https://issuer.example", "ann", claims=claims)
    return ClientIdentity("2025-11-25", principal=identity.principal, identity=identity)


def test_tokens_with_other_scopes_of_one_principal_share_neither_sessions_nor_lists() -> None:
    admin, read = _client(scope="admin", jti="1"), _client(scope="read", jti="2")
    assert admin.principal == read.principal
    assert admin.kind != read.kind
    assert admin.person != read.person
    names = replace(default_settings(), for_callers=True).distinguished
    assert admin.mark(names) != read.mark(names)


def test_a_renewed_token_has_the_rights_of_the_one_before() -> None:
    before, after = _client(scope="read", jti="1", exp=1), _client(scope="read", jti="2", exp=2)
    assert before.kind == after.kind
    assert before.mark(frozenset({RIGHTS})) == after.mark(frozenset({RIGHTS}))


def test_callers_without_claims_have_no_mark() -> None:
    assert _client().mark(frozenset({RIGHTS})) is None
    assert _client(exp=1).kind == _client().kind


def test_only_a_backend_that_is_called_for_callers_distinguishes_their_claims() -> None:
    settings = replace(default_settings(), passed=frozenset({b"x-team"}))
    assert settings.distinguished == {b"x-team"}
    assert replace(settings, for_callers=True).distinguished == {b"x-team", RIGHTS}
    client = replace(_client(scope="a"), headers=((b"x-team", b"blue"),))
    other = replace(_client(scope="b"), headers=((b"x-team", b"blue"),))
    assert client.mark(settings.distinguished) == other.mark(settings.distinguished)
