"""Tokens of callers: for whom each is used, how many are kept, and how often they are exchanged."""

import asyncio
from typing import Any

import pytest

from mcpproxy.limits.tokens import CALLERS, TOKENS_OF_CALLER
from mcpproxy.proxy.core.errors import NoCallerToken, TokenUnavailable
from mcpproxy.proxy.core.exchange import ClientIdentity
from mcpproxy.proxy.core.identity import PROXY, Identity
from mcpproxy.proxy.upstream.credentials.access_tokens import AccessToken, bearer_line
from mcpproxy.proxy.upstream.credentials.exchanged import ExchangedTokens
from mcpproxy.proxy.upstream.credentials.own import OwnToken
from mcpproxy.proxy.upstream.credentials.token_slot import TokenSlot
from tests.proxy.upstream.credentials.clocks import Clock, Source


class Stage:
    """Exchanges that name the subject, and what they exchanged."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.sent: list[str] = []
        own = OwnToken(TokenSlot(Source(self.clock).fetch, 60.0, self.clock))
        self.tokens = ExchangedTokens(self._exchange, own, 60.0, clock=self.clock)

    async def _exchange(self, subject: Identity) -> AccessToken:
        self.sent.append(subject.token)
        line = bearer_line(f"for-{subject.subject}-{len(self.sent)}")
        return AccessToken(line, self.clock.now, self.clock.now + 600)

    async def line(self, client: ClientIdentity) -> bytes:
        """Return the header of a request of a client."""
        result = await self.tokens.of(client).obtain()
        assert result is not None
        return result[1]


def a_client(subject: str, token: str, network: str = "n", **claims: Any) -> ClientIdentity:
    """A client with a verified token."""
    expires = claims.pop("expires", 2e9)
    every = {"sub": subject, "jti": token, "exp": expires, **claims}
    identity = Identity("jwt", "i", subject, claims=every, token=token, expires=expires)
    return ClientIdentity(
        "2026-07-28", principal=identity.principal, identity=identity, network=network
    )


async def test_callers_have_their_own_tokens_and_the_proxy_has_its_own() -> None:
    stage = Stage()
    assert await stage.line(a_client("ann", "a1")) == b"Bearer for-ann-1"
    assert await stage.line(a_client("bob", "b1")) == b"Bearer for-bob-2"
    assert await stage.line(a_client("ann", "a2")) == b"Bearer for-ann-1"
    assert await stage.line(ClientIdentity("2026-07-28", identity=PROXY)) == b"Bearer t1"
    assert stage.sent == ["a1", "b1"]


@pytest.mark.parametrize(
    "client",
    [
        ClientIdentity("2026-07-28"),
        ClientIdentity("2025-11-25", principal="p", session="s"),
        ClientIdentity("2026-07-28", principal="p", identity=Identity("apiKey", "k", "n8n")),
        ClientIdentity("2026-07-28", identity=Identity("jwt", "i", "ann", token="t")),
    ],
    ids=["anonymous", "unverified", "API key", "no principal"],
)
async def test_a_caller_without_a_verified_token_has_none(client: ClientIdentity) -> None:
    stage = Stage()
    assert stage.tokens.of(client).header() is None
    with pytest.raises(NoCallerToken, match="not a token that can be exchanged"):
        await stage.line(client)
    assert not stage.sent


async def test_the_token_that_is_valid_longest_is_exchanged_next() -> None:
    stage = Stage()
    await stage.line(a_client("ann", "a1", expires=1e9))
    stage.tokens.of(a_client("ann", "a3", expires=3e9))
    stage.tokens.of(a_client("ann", "a2", expires=2e9))
    stage.clock.now += 599
    await stage.line(a_client("ann", "a1", expires=1e9))
    assert stage.sent == ["a1", "a3"]


@pytest.mark.parametrize("claim", ["scope", "groups", "act", "tenant"])
async def test_tokens_with_other_claims_are_not_mixed(claim: str) -> None:
    stage = Stage()
    assert await stage.line(a_client("ann", "a1", **{claim: "x"})) == b"Bearer for-ann-1"
    assert await stage.line(a_client("ann", "a2", **{claim: "y"})) == b"Bearer for-ann-2"
    assert await stage.line(a_client("ann", "a3", **{claim: "x"})) == b"Bearer for-ann-1"


async def test_callers_beyond_the_limit_displace_the_idlest_of_their_network() -> None:
    stage = Stage()
    await stage.line(a_client("ann", "a", network="other"))
    for number in range(CALLERS.value + 10):
        stage.tokens.of(a_client(f"c{number}", f"t{number}"))
    assert len(stage.tokens._callers) == CALLERS.value
    assert await stage.line(a_client("ann", "b", network="other")) == b"Bearer for-ann-1"
    assert CALLERS.reached


async def test_a_caller_with_many_sets_of_claims_displaces_only_its_own_tokens(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stage = Stage()
    await stage.line(a_client("ann", "a"))
    for number in range(TOKENS_OF_CALLER.value + 5):
        stage.tokens.of(a_client("eve", f"e{number}", scope=str(number)))
    assert len(stage.tokens._callers[a_client("eve", "").principal].tokens) == 8
    assert await stage.line(a_client("ann", "a2")) == b"Bearer for-ann-1"


async def test_a_caller_with_a_new_set_of_claims_in_each_request_is_slowed_down(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stage, slept = Stage(), []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    for number in range(13):
        await stage.line(a_client("eve", f"e{number}", scope=str(number)))
    with pytest.raises(TokenUnavailable, match="issued no token"):
        await stage.line(a_client("eve", "e13", scope="13"))
    assert len(stage.sent) == 13
    assert slept == [1.0, 2.0, 3.0, 4.0, 5.0]
    assert await stage.line(a_client("ann", "a")) == b"Bearer for-ann-14"
