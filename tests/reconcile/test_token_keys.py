"""The keys of ServiceAccount tokens: read from the API server, delivered in a ConfigMap."""

import json
from typing import Any

import pytest

from mcpproxy.cluster.errors import Forbidden, Unavailable
from mcpproxy.cluster.token_keys import FRESH, KEY_SET, METADATA
from mcpproxy.limits.pods import TOKEN_KEYS
from mcpproxy.reconcile.requeue import POLL
from tests.reconcile.stage import KEY, Stage

ACCEPTED: dict[str, Any] = {"authentication": {"serviceAccounts": {"audience": "a"}}}
NAME = ("ConfigMap", KEY.namespace, f"{KEY.name}-service-account-keys")
ONE, TWO = {"kid": "1", "kty": "RSA"}, {"kty": "RSA", "kid": "2"}


def publish(stage: Stage, *keys: dict[str, str], issuer: str = "https://kubernetes") -> None:
    """Publish keys at the API server."""
    stage.cluster.documents = {METADATA: {"issuer": issuer}, KEY_SET: {"keys": list(keys)}}


def delivered(stage: Stage) -> dict[str, str] | None:
    """Return the keys in the ConfigMap."""
    result = stage.cluster.objects.get(NAME)
    return None if result is None else result["data"]


def message(stage: Stage) -> str:
    """The message of the condition."""
    conditions = stage.child("MCPProxy")["status"]["conditions"]
    return next(str(c["message"]) for c in conditions if c["type"] == "AuthenticationReady")


async def test_the_keys_are_delivered_only_while_the_field_is_set(stage: Stage) -> None:
    publish(stage, ONE)
    await stage.is_running(**ACCEPTED)
    assert delivered(stage) == {
        "issuer": "https://kubernetes",
        "jwks": json.dumps({"keys": [ONE]}).replace('{"keys": [', '{"keys":['),
    }
    stage.cluster.writes.clear()
    await stage.reconcile()
    assert stage.cluster.writes == []
    await stage.is_running()
    await stage.reconcile()
    assert delivered(stage) is None


async def test_rotated_keys_are_delivered_without_a_rollout(stage: Stage) -> None:
    publish(stage, ONE)
    await stage.is_running(**ACCEPTED)
    stage.cluster.writes.clear()
    publish(stage, TWO, ONE)
    stage.clock.advance(FRESH)
    assert await stage.reconcile() == POLL
    assert stage.cluster.writes == ["apply ConfigMap"]
    assert [key["kid"] for key in json.loads((delivered(stage) or {})["jwks"])["keys"]] == [
        "1",
        "2",
    ]


async def test_another_order_of_the_same_keys_changes_nothing(stage: Stage) -> None:
    publish(stage, ONE, TWO)
    await stage.is_running(**ACCEPTED)
    stage.cluster.writes.clear()
    publish(stage, dict(reversed(TWO.items())), ONE)
    stage.clock.advance(FRESH)
    await stage.reconcile()
    assert stage.cluster.writes == []


async def test_the_keys_are_read_at_most_every_thirty_seconds_and_only_if_needed(
    stage: Stage,
) -> None:
    publish(stage, ONE)
    await stage.is_running()
    before = stage.cluster.reads
    await stage.reconcile()
    without = stage.cluster.reads - before
    await stage.is_running(**ACCEPTED)
    before = stage.cluster.reads
    await stage.reconcile()
    # Neither are the keys read again, nor more than their ConfigMap, which the list includes.
    assert stage.cluster.reads - before == without


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (Forbidden("no"), "system:service-account-issuer-discovery"),
        (Unavailable("no answer"), "no answer"),
    ],
)
async def test_earlier_keys_stay_if_new_ones_cannot_be_read_and_the_status_has_the_cause(
    stage: Stage, error: Exception, words: str
) -> None:
    publish(stage, ONE)
    await stage.is_running(**ACCEPTED)
    before = delivered(stage)
    stage.cluster.unreadable[KEY_SET] = error  # type: ignore[assignment]
    stage.clock.advance(FRESH)
    await stage.reconcile()
    await stage.reconcile()
    assert delivered(stage) == before
    assert words in message(stage)


@pytest.mark.parametrize(
    ("metadata", "keys"),
    [
        ({}, {"keys": [ONE]}),
        ({"issuer": ""}, {"keys": [ONE]}),
        ({"issuer": "i"}, {"keys": []}),
        ({"issuer": "i"}, {}),
        ({"issuer": "i"}, []),
        ([], {"keys": [ONE]}),
    ],
)
async def test_malformed_documents_are_not_delivered(
    stage: Stage, metadata: Any, keys: Any
) -> None:
    stage.cluster.documents = {METADATA: metadata, KEY_SET: keys}
    await stage.is_running(**ACCEPTED)
    assert delivered(stage) is None
    assert "can't be read" in message(stage)


async def test_keys_that_no_config_map_can_hold_are_not_delivered(stage: Stage) -> None:
    before = TOKEN_KEYS.reached
    publish(stage, {"kid": "x" * TOKEN_KEYS.value})
    await stage.is_running(**ACCEPTED)
    assert delivered(stage) is None
    assert TOKEN_KEYS.reached == before + 1
