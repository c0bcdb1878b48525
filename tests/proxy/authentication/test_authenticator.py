"""Results of authentication, and the number of verifications."""

import asyncio
import gc
import hashlib
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from mcpproxy.api.v1alpha1 import ApiKey
from mcpproxy.limits.access import (
    ADMISSIONS,
    ADMITTED_FOR,
    CREDENTIALS,
    FORGERIES,
    FORGING_NETWORKS,
    WAITING_FOR_KEYS,
)
from mcpproxy.proxy.authentication.admissions import AdmissionCache, ForgeryLimit
from mcpproxy.proxy.authentication.authenticator import KeysNeeded
from mcpproxy.proxy.authentication.mounted_keys import ApiKeyHashes
from mcpproxy.proxy.authentication.refusals import Challenges
from mcpproxy.proxy.authentication.tokens import parse_token
from mcpproxy.proxy.authentication.verification_keys import KeyListener, VerificationKey
from mcpproxy.proxy.core.identity import ANONYMOUS, Identity
from mcpproxy.proxy.fair_shares import RESERVED
from mcpproxy.proxy.http1.errors import HttpError
from mcpproxy.proxy.upstream.mounted.values import MountedValues
from tests.proxy.authentication.stage import METADATA, Stage, head
from tests.proxy.authentication.tokens import NOW, OTHER_RSA, Issuer, jwk, key_set

BASE = f'Bearer resource_metadata="{METADATA}", scope="mcp:tools"'
KEY = "k" * 40


def challenge(error: HttpError) -> str:
    """The challenge of an error response."""
    return dict(error.headers)[b"www-authenticate"].decode()


@pytest.fixture
def verifications(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The algorithms of the signatures that are verified."""
    seen: list[str] = []
    verifies = VerificationKey.verifies

    def counted(self: VerificationKey, token: Any) -> bool:
        seen.append(token.algorithm)
        return verifies(self, token)

    monkeypatch.setattr(VerificationKey, "verifies", counted)
    return seen


@pytest.mark.parametrize("authorization", [(), ("Basic YTpi",), ("Bearertoken",), ("",)])
async def test_without_credentials_of_a_known_scheme_the_challenge_has_no_error(
    authorization: tuple[str, ...],
) -> None:
    with pytest.raises(HttpError) as refused:
        Stage().authenticator.admit(head(*authorization), "net")
    assert refused.value.status == 401
    assert challenge(refused.value) == BASE


@pytest.mark.parametrize("authorization", ["Bearer", "Bearer ", "Bearer a b", "Bearer a,b"])
async def test_malformed_credentials_are_refused_with_the_error(authorization: str) -> None:
    with pytest.raises(HttpError) as refused:
        Stage().authenticator.admit(head(authorization), "net")
    assert refused.value.status == 401
    assert challenge(refused.value).startswith(f'{BASE}, error="invalid_token", error_descr')


async def test_two_authorization_headers_are_refused_even_if_they_are_equal() -> None:
    stage = Stage()
    bearer = f"Bearer {stage.issuer.token()}"
    with pytest.raises(HttpError) as refused:
        stage.authenticator.admit(head(bearer, bearer), "net")
    assert refused.value.status == 400
    assert 'error="invalid_request"' in challenge(refused.value)


@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "BEARER   "])
async def test_the_scheme_is_compared_without_case(scheme: str) -> None:
    stage = Stage()
    token = stage.issuer.token()
    admission = await stage.authenticator.admit_later(head(scheme + token), "net")
    assert admission.identity.subject == "ann"


async def test_in_optional_mode_no_credentials_are_anonymous_and_bad_ones_refused() -> None:
    stage = Stage(anonymous=True)
    assert stage.authenticator.admit(head(), "net").identity is ANONYMOUS
    assert ANONYMOUS.principal == ""
    for bad in ("Bearer x", "Basic YTpi", ""):
        with pytest.raises(HttpError) as refused:
            stage.authenticator.admit(head(bad), "net")
        assert refused.value.status == 401


def test_the_challenge_for_missing_scopes_names_all_of_them() -> None:
    error = Challenges(METADATA, ["a"]).insufficient_scope(["b", "a", "b"])
    assert error.status == 403
    expected = f'Bearer resource_metadata="{METADATA}", scope="a b", error="insufficient_scope"'
    assert challenge(error).startswith(expected)


def test_without_published_metadata_the_challenge_has_a_realm() -> None:
    assert challenge(Challenges(None, ()).missing()) == 'Bearer realm="mcpproxy"'


async def test_a_token_beyond_the_limit_is_refused_before_it_is_read() -> None:
    stage, before = Stage(), CREDENTIALS.reached
    status, message = await stage.refusal("a" * (CREDENTIALS.value + 1))
    assert (status, str(CREDENTIALS.value) in message) == (401, True)
    assert CREDENTIALS.reached == before + 1


async def test_a_repeated_token_is_verified_once(verifications: list[str]) -> None:
    stage = Stage()
    token = stage.issuer.token()
    first = await stage.admit(token)
    for _ in range(5):
        assert stage.authenticator.admit(head(f"Bearer {token}"), "net") is first
    assert len(verifications) == 1


async def test_requests_with_one_token_share_an_identity_that_ends_with_them() -> None:
    stage = Stage()
    admission = await stage.admit(stage.issuer.token())
    kept = admission.identity_with("token")
    assert admission.identity_with("token") is kept
    assert (kept, kept.token, admission.identity.token) == (admission.identity, "token", "")
    del kept
    gc.collect()
    assert not any(
        isinstance(holder, Identity) and holder.token == "token" for holder in gc.get_objects()
    )


async def test_a_token_is_verified_again_after_the_limit(verifications: list[str]) -> None:
    stage = Stage()
    token = stage.issuer.token()
    admission = await stage.admit(token)
    stage.now += ADMITTED_FOR.value - 1
    assert admission.is_valid(stage.now)
    stage.now += 1
    assert not admission.is_valid(stage.now)
    assert (await stage.admit(token)).is_valid(stage.now)
    assert len(verifications) == 2


async def test_an_admission_ends_with_its_token() -> None:
    stage = Stage()
    token = stage.issuer.token(exp=NOW + 20)
    admission = await stage.admit(token)
    stage.now += 79
    assert admission.is_valid(stage.now)
    stage.now += 1
    assert not admission.is_valid(stage.now)
    assert (await stage.refusal(token))[1] == "the token expired"


async def test_a_revoked_key_ends_the_admissions_of_its_tokens_at_once() -> None:
    stage = Stage(document=key_set(jwk(OTHER_RSA, "two"), jwk(Stage().issuer.key)))
    old, new = stage.issuer.token(), Issuer(now=NOW, key=OTHER_RSA, key_id="two").token()
    first, second = await stage.admit(old), await stage.admit(new)
    stage.document = key_set(jwk(OTHER_RSA, "two"))
    await stage.keys.refresh()
    assert not first.is_valid(stage.now)
    assert second.is_valid(stage.now)
    assert (await stage.refusal(old))[1] == "the key of the token is unknown"
    assert stage.revoked == [(stage.issuer.url, None)]


async def test_a_forged_token_is_not_remembered(verifications: list[str]) -> None:
    stage = Stage()
    forged = Issuer(now=NOW, key=OTHER_RSA).token()
    for _ in range(3):
        assert (await stage.refusal(forged))[1] == "the signature of the token is wrong"
    assert len(verifications) == 3


async def test_a_network_that_forges_tokens_is_refused_without_verification(
    verifications: list[str],
) -> None:
    stage, before = Stage(), FORGERIES.reached
    good = stage.issuer.token("bo")
    await stage.admit(good)
    forged = Issuer(now=NOW, key=OTHER_RSA).token()
    for _ in range(FORGERIES.value):
        assert (await stage.refusal(forged, "bad"))[0] == 401
    done = len(verifications)
    assert (await stage.refusal(forged, "bad"))[0] == 429
    assert (await stage.refusal(stage.issuer.token("new"), "bad"))[0] == 429
    assert len(verifications) == done
    assert FORGERIES.reached == before + 2
    # A known token goes on there, even if it is due for another verification.
    stage.now += ADMITTED_FOR.value
    for _ in range(FORGERIES.value + 1):
        stage.authenticator._forgeries.count("bad")
    assert (await stage.admit(good, "bad")).identity.subject == "bo"
    # Other networks are not affected.
    assert (await stage.admit(stage.issuer.token("new"))).identity.subject == "new"
    stage.now += 1
    assert (await stage.admit(stage.issuer.token("third"), "bad")).identity.subject == "third"


def test_networks_with_forged_tokens_are_evicted_by_the_time_of_the_last_one() -> None:
    limit, before = ForgeryLimit(lambda: 0.0), FORGING_NETWORKS.reached
    for network in range(FORGING_NETWORKS.value):
        limit.count(str(network))
    limit.count("0")
    limit.count("new")
    assert FORGING_NETWORKS.reached == before + 1
    assert list(limit._counts)[:1] == ["2"]
    assert list(limit._counts)[-2:] == ["0", "new"]


class _Unrevoked:
    revoked = False


def test_a_principal_with_many_tokens_displaces_only_its_own() -> None:
    cache, before = AdmissionCache(), ADMISSIONS.reached
    cache._shares.limit = 100
    cache.add(b"victim", Identity("jwt", "i", "victim"), _Unrevoked(), 0.0)
    for number in range(150):
        cache.add(b"%d" % number, Identity("jwt", "i", "hostile"), _Unrevoked(), 0.0)
    assert len(cache) == 100
    assert cache.find(b"victim") is not None
    assert cache.find(b"0") is None
    assert ADMISSIONS.reached == before + 51


@pytest.mark.slow
async def test_ten_thousand_tokens_take_less_than_twenty_mebibytes() -> None:
    stage = Stage()
    groups = [f"group-{n}" for n in range(10)]
    parsed = parse_token(stage.issuer.token(groups=groups, scope="a b c").encode())
    (issuer,) = stage.authenticator._issuers
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for number in range(ADMISSIONS.value + 1):
            payload = json.dumps({**parsed.claims, "sub": f"user-{number}"}).encode()
            item = parsed._replace(claims=json.loads(payload), payload=payload)
            digest = hashlib.sha256(str(number).encode()).digest()
            stage.authenticator._cache.add(
                digest, issuer.identify(item, NOW + 600), _Unrevoked(), NOW
            )
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(stage.authenticator._cache) == ADMISSIONS.value == 10_000
    assert after - before < 20 * 2**20


async def test_requests_beyond_the_limit_do_not_wait_for_keys() -> None:
    stage, before = Stage(gate=asyncio.Event()), WAITING_FOR_KEYS.reached
    token = stage.issuer.token()
    most = WAITING_FOR_KEYS.value - WAITING_FOR_KEYS.value // RESERVED
    waiting = [asyncio.create_task(stage.admit(token)) for _ in range(most)]
    await asyncio.sleep(0)
    assert (await stage.refusal(token))[0] == 503
    assert WAITING_FOR_KEYS.reached == before + 1
    # A sender of another network still has room.
    elsewhere = stage.authenticator.admit_later(head(f"Bearer {token}"), "another network")
    waiting.append(asyncio.create_task(elsewhere))
    await asyncio.sleep(0)
    assert stage.gate is not None
    stage.gate.set()
    assert {(await item).identity.subject for item in waiting} == {"ann"}
    assert stage.fetches == 1


async def test_a_token_whose_key_must_be_fetched_first_is_not_refused_at_once() -> None:
    stage = Stage()
    with pytest.raises(KeysNeeded):
        stage.authenticator.admit(head(f"Bearer {stage.issuer.token()}"), "net")


# API keys


def _entry(name: str) -> ApiKey:
    secret = {"secretKeyRef": {"name": "keys", "key": name}}
    return ApiKey.model_validate({"name": name, "hashFrom": secret})


class _Keys:
    """API keys in files of a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "secret" / "keys"
        self.directory.mkdir(parents=True)
        self.time = 0.0
        self.revoked: list[tuple[str, str | None]] = []
        self.changes = 0
        values = MountedValues(directory, lambda: self.time)
        listener = KeyListener(self._changed, lambda *of: self.revoked.append(of))
        self.hashes = ApiKeyHashes([_entry("n8n"), _entry("cron")], values, listener)

    def _changed(self) -> None:
        self.changes += 1

    def write(self, name: str, text: str) -> None:
        """Give an entry a hash, as the kubelet does."""
        (self.directory / name).write_text(text)
        self.time += 10
        self.hashes.refresh()


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


async def test_an_api_key_is_accepted_by_its_hash_under_the_name_of_its_entry(
    tmp_path: Path,
) -> None:
    keys = _Keys(tmp_path)
    keys.write("n8n", f"{_hash(KEY)}\n")
    keys.write("cron", f"sha256:{_hash('c' * 40).upper()}")
    stage = Stage(api_keys=keys.hashes)
    identity = await stage.identify(KEY)
    assert (identity.method, identity.api_key, identity.expires) == ("apiKey", "n8n", None)
    assert (await stage.identify("c" * 40)).api_key == "cron"
    assert identity.principal != (await stage.identify("c" * 40)).principal
    assert (await stage.refusal(_hash(KEY)))[0] == 401
    assert keys.hashes.status.message is None
    assert keys.hashes.status.keys == 2


async def test_a_replaced_api_key_ends_at_once(tmp_path: Path) -> None:
    keys = _Keys(tmp_path)
    keys.write("n8n", _hash(KEY))
    stage = Stage(api_keys=keys.hashes)
    admission = await stage.admit(KEY)
    keys.write("n8n", _hash("new" * 20))
    assert not admission.is_valid(stage.now)
    assert (await stage.refusal(KEY))[0] == 401
    renewed = await stage.admit("new" * 20)
    assert renewed.identity.principal == admission.identity.principal
    assert keys.revoked == [("mcpproxy:apiKeys", "n8n")]


@pytest.mark.parametrize("text", [KEY, "", "sha256:abc", _hash(KEY) + "0"])
async def test_the_status_names_a_secret_without_a_hash(tmp_path: Path, text: str) -> None:
    keys = _Keys(tmp_path)
    keys.write("cron", _hash("c" * 40))
    keys.write("n8n", text)
    stage = Stage(api_keys=keys.hashes)
    assert (await stage.refusal(KEY))[0] == 401
    assert (await stage.identify("c" * 40)).api_key == "cron"
    message = keys.hashes.status.message or ""
    assert message.startswith("n8n: key n8n of Secret keys has no SHA-256")
    assert keys.changes > 1


def test_the_status_names_a_missing_secret(tmp_path: Path) -> None:
    keys = _Keys(tmp_path)
    keys.hashes.refresh()
    assert keys.hashes.status.message == "n8n: Secret keys has no readable key n8n"
