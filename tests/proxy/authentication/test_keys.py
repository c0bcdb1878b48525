"""The keys of issuers: which are used, how they are fetched, and for how long they count."""

import asyncio
import base64
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from mcpproxy.limits.access import KEYS, KEYS_KEPT, KEYS_REFETCH
from mcpproxy.proxy.authentication.tokens import parse_token
from mcpproxy.proxy.authentication.verification_keys import InvalidKeySet, parse_key_set
from tests.proxy.authentication.stage import Stage
from tests.proxy.authentication.tokens import (
    ED25519,
    NOW,
    OTHER_RSA,
    P256,
    RSA,
    Issuer,
    jwk,
    key_set,
)

SECRET = {"kty": "oct", "k": base64.urlsafe_b64encode(b"s" * 32).decode(), "kid": "one"}


@pytest.mark.parametrize(
    ("entry", "algorithms"),
    [
        (jwk(RSA), {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}),
        (jwk(RSA, alg="RS256"), {"RS256"}),
        (jwk(RSA, use="sig", key_ops=["verify"]), {"RS256", "RS384", "RS512", "PS256"}),
        (jwk(P256), {"ES256"}),
        (jwk(ED25519), {"EdDSA"}),
    ],
)
def test_the_type_of_a_key_decides_its_algorithms(
    entry: dict[str, Any], algorithms: set[str]
) -> None:
    (key,) = parse_key_set(key_set(entry))
    assert algorithms <= key.algorithms
    assert not any(name.startswith("HS") or name == "none" for name in key.algorithms)


@pytest.mark.parametrize("algorithm", ["HS256", "none", "ES256", "RS384"])
def test_a_key_verifies_nothing_with_algorithms_that_are_not_its_own(algorithm: str) -> None:
    (key,) = parse_key_set(key_set(jwk(RSA, alg="RS256")))
    token = parse_token(Issuer(now=NOW).token().encode())
    assert key.verifies(token)
    assert not key.verifies(token._replace(algorithm=algorithm))


@pytest.mark.parametrize(
    "entry",
    [
        SECRET,
        jwk(RSA, use="enc"),
        jwk(RSA, key_ops=["sign"]),
        jwk(RSA, alg="HS256"),
        jwk(RSA, alg="ES256"),
        jwk(RSA, alg=7),
        jwk(RSA, kid=7),
        jwk(RSA, e="AQABAQABAQAB"),
        jwk(rsa.generate_private_key(65537, 1024)),
        jwk(ec.generate_private_key(ec.SECP256K1())),
        jwk(ed448.Ed448PrivateKey.generate()),
        jwk(P256, x="AAAA"),
        {"kty": "RSA", "n": "!", "e": "AQAB"},
        {"kty": "RSA"},
        {"kty": []},
        "key",
        None,
    ],
)
def test_keys_for_other_purposes_and_weak_ones_are_left_out(entry: Any) -> None:
    with pytest.raises(InvalidKeySet):
        parse_key_set(key_set(entry))
    assert len(parse_key_set(key_set(entry, jwk(RSA)))) == 1


def test_private_keys_are_left_out() -> None:
    private = {**jwk(RSA), "d": jwk(RSA)["n"]}
    with pytest.raises(InvalidKeySet):
        parse_key_set(key_set(private))


@pytest.mark.parametrize("document", [b"", b"[]", b'{"keys":{}}', b"<html>", b"[" * 10_000])
def test_a_document_other_than_a_key_set_is_refused(document: bytes) -> None:
    with pytest.raises(InvalidKeySet):
        parse_key_set(document)


def test_keys_beyond_the_limit_are_ignored() -> None:
    before = KEYS.reached
    entries = [jwk(P256, str(number)) for number in range(KEYS.value + 5)]
    assert len(parse_key_set(key_set(*entries))) == KEYS.value
    assert KEYS.reached == before + 1


async def test_a_token_without_a_key_id_is_tried_with_a_few_keys() -> None:
    others = [jwk(rsa.generate_private_key(65537, 2048), str(n)) for n in range(3)]
    stage = Stage(document=key_set(*others, jwk(RSA)))
    assert await stage.identify(Issuer(now=NOW, key_id=None).token())
    crowded = Stage(document=key_set(*others, jwk(OTHER_RSA), jwk(RSA)))
    assert (await crowded.refusal(Issuer(now=NOW, key_id=None).token()))[0] == 401


async def test_keys_with_the_same_id_differ_by_their_type() -> None:
    stage = Stage(document=key_set(jwk(P256), jwk(RSA)))
    assert await stage.identify(stage.issuer.token())
    assert await stage.identify(Issuer(now=NOW, key=P256, algorithm="ES256").token())


# Fetching


async def test_an_unknown_key_is_fetched_and_its_token_accepted() -> None:
    stage = Stage()
    await stage.keys.refresh()
    stage.document = key_set(jwk(RSA), jwk(OTHER_RSA, "two"))
    rotated = Issuer(now=NOW, key=OTHER_RSA, key_id="two")
    assert await stage.identify(rotated.token())
    assert stage.fetches == 2


async def test_unknown_keys_cause_one_fetch_in_thirty_seconds() -> None:
    stage = Stage()
    await stage.keys.refresh()
    for number in range(20):
        forged = Issuer(now=NOW, key=OTHER_RSA, key_id=f"key-{number}").token()
        assert (await stage.refusal(forged))[1] == "the key of the token is unknown"
    assert stage.fetches == 2
    stage.now += KEYS_REFETCH.value - 1
    await stage.keys.refresh()
    assert (await stage.refusal(forged))[0] == 401
    assert stage.fetches == 3
    stage.now += 1
    assert (await stage.refusal(forged))[0] == 401
    assert stage.fetches == 4


async def test_requests_that_need_the_same_keys_share_one_fetch() -> None:
    stage = Stage(gate=asyncio.Event())
    tasks = [asyncio.create_task(stage.admit(stage.issuer.token(f"u{n}"))) for n in range(10)]
    await asyncio.sleep(0)
    assert stage.gate is not None
    stage.gate.set()
    assert {(await task).identity.subject for task in tasks} == {f"u{n}" for n in range(10)}
    assert stage.fetches == 1


async def test_a_client_that_leaves_does_not_end_the_fetch_for_others() -> None:
    stage = Stage(gate=asyncio.Event())
    leaving = asyncio.create_task(stage.admit(stage.issuer.token()))
    staying = asyncio.create_task(stage.admit(stage.issuer.token()))
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    assert stage.gate is not None
    stage.gate.set()
    assert (await staying).identity.subject == "ann"
    assert stage.fetches == 1


async def test_without_any_keys_tokens_get_503_and_later_ones_do_not_wait() -> None:
    stage = Stage(document=None)
    assert (await stage.refusal(stage.issuer.token()))[0] == 503
    assert (await stage.refusal(stage.issuer.token()))[0] == 503
    assert stage.fetches == 1
    assert stage.result("unavailable") == 2
    status = stage.keys.status
    assert (status.keys, status.message, status.keys_from) == (0, "no connection", None)


async def test_the_known_keys_of_an_unreachable_issuer_stay_valid() -> None:
    stage = Stage()
    await stage.keys.refresh()
    before = stage.changes
    stage.document = None
    stage.now += 3600
    await stage.keys.refresh()
    await stage.keys.refresh()
    assert await stage.identify(stage.issuer.token(exp=NOW + 7200))
    assert stage.changes == before + 1
    status = stage.keys.status
    assert (status.keys, status.message) == (1, "no connection")
    assert status.keys_from == "2027-01-15T08:00:00+00:00"
    stage.document = key_set(jwk(RSA))
    await stage.keys.refresh()
    assert stage.keys.status.message is None
    assert stage.keys.status.keys_from is None
    assert stage.changes == before + 2


async def test_keys_of_an_unreachable_issuer_are_forgotten_after_a_day() -> None:
    stage, reached = Stage(), KEYS_KEPT.reached
    admission = await stage.admit(stage.issuer.token(exp=NOW + 10**6))
    stage.document = None
    stage.now += KEYS_KEPT.value
    await stage.keys.refresh()
    assert await stage.identify(stage.issuer.token(exp=NOW + 10**6))
    stage.now += 1
    assert not stage.keys.are_known
    assert not admission.is_valid(NOW)
    assert (await stage.refusal(stage.issuer.token(exp=NOW + 10**6)))[0] == 503
    assert KEYS_KEPT.reached == reached + 1


async def test_keys_that_stay_the_same_keep_their_admissions() -> None:
    stage = Stage()
    admission = await stage.admit(stage.issuer.token())
    stage.document = json.dumps({"keys": [dict(reversed(jwk(RSA).items()))]}).encode()
    await stage.keys.refresh()
    assert admission.is_valid(stage.now)
    assert stage.revoked == []


async def test_a_key_set_that_became_invalid_leaves_the_known_keys() -> None:
    stage = Stage()
    await stage.keys.refresh()
    stage.document = b"<html>"
    await stage.keys.refresh()
    assert stage.keys.status.message == "the document is not JSON"
    assert await stage.identify(stage.issuer.token())


async def test_keys_are_fetched_again_in_the_background(monkeypatch: pytest.MonkeyPatch) -> None:
    stage, waits = Stage(), []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 1:
            stage.document = None
        if len(waits) == 3:
            raise asyncio.CancelledError

    monkeypatch.setattr("mcpproxy.proxy.authentication.remote_keys.asyncio.sleep", sleep)
    with pytest.raises(asyncio.CancelledError):
        await stage.keys.run()
    assert stage.fetches == 3
    assert 36 <= waits[0] <= 40
    assert all(13.5 <= wait <= 15 for wait in waits[1:])


@pytest.mark.parametrize("member", ["d", "p", "q", "dp", "dq", "qi", "oth", "k"])
@pytest.mark.parametrize("key", [RSA, P256, ED25519])
def test_private_keys_are_left_out_without_being_read(
    key: Any, member: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library would derive the factors of a hostile one, for minutes."""
    _refuse_reading(monkeypatch)
    with pytest.raises(InvalidKeySet):
        parse_key_set(key_set(jwk(key, **{member: "AQAB"})))


@pytest.mark.parametrize("member", ["n", "e", "x", "y", "crv"])
@pytest.mark.parametrize("value", ["_" * 1400, 3, ["AQAB"], {"a": 1}])
def test_keys_with_members_beyond_any_size_are_left_out_without_being_read(
    member: str, value: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _refuse_reading(monkeypatch)
    for key in (RSA, P256, ED25519):
        with pytest.raises(InvalidKeySet):
            parse_key_set(key_set({**jwk(key), member: value}))


def _refuse_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(entry: Any) -> None:
        raise AssertionError("the library got the key")

    for algorithm in (RSAAlgorithm, ECAlgorithm, OKPAlgorithm):
        monkeypatch.setattr(algorithm, "from_jwk", read)
