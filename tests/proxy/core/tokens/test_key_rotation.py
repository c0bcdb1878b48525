"""Sealing keys are replaced without losing a session."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from mcpproxy.proxy.core.tokens.key_rotation import SETTLE, KeyRotation
from mcpproxy.proxy.core.tokens.session_token import LIFETIME

A, B, C = b"a" * 32, b"b" * 32, b"c" * 32
SYNC = 90.0
"""Seconds within which a Secret reaches all of its pods."""


def test_a_single_key_seals_at_once() -> None:
    assert KeyRotation([A], 0.0).active_keys(0.0) == (A,)


def test_a_new_key_opens_at_once_and_seals_when_others_must_know_it() -> None:
    keyring = KeyRotation([A], 0.0)
    keyring.update([B, A], 1000.0)
    assert keyring.active_keys(1000.0) == (A, B)
    assert keyring.active_keys(1000.0 + SETTLE) == (B, A)


def test_an_instance_that_starts_during_a_key_change_seals_with_the_common_key() -> None:
    assert KeyRotation([B, A], 0.0).active_keys(1.0) == (A, B)
    assert KeyRotation([B, A], 0.0).active_keys(SETTLE) == (B, A)


def test_a_removed_key_opens_tokens_until_they_expire() -> None:
    keyring = KeyRotation([B, A], 0.0)
    keyring.update([B], 1000.0)
    assert keyring.active_keys(1000.0 + LIFETIME - 1) == (B, A)
    assert keyring.active_keys(1000.0 + LIFETIME) == (B,)


def test_a_key_that_is_readded_is_one_key() -> None:
    keyring = KeyRotation([A], 0.0)
    keyring.update([B, A], 1000.0)
    keyring.update([A], 2000.0)
    assert keyring.active_keys(3000.0) == (A, B)


@given(st.lists(st.tuples(st.floats(0, SYNC), st.floats(0, SYNC)), min_size=2, max_size=4))
def test_instances_open_what_others_seal_at_any_time_of_two_changes(
    delays: list[tuple[float, float]],
) -> None:
    changes = ((1000.0, [B, A]), (1000.0 + SETTLE + SYNC, [C, B]))
    times = sorted(
        {at + delay for at, _ in changes for pair in delays for delay in pair}
        | {at + delay + SETTLE for at, _ in changes for pair in delays for delay in pair}
    )
    keyrings = [KeyRotation([A], 0.0) for _ in delays]
    moments = [0.0, *times, times[-1] + LIFETIME / 2]
    for before, now in pairwise(moments):
        for keyring, pair in zip(keyrings, delays, strict=True):
            for (at, keys), delay in zip(changes, pair, strict=True):
                if before < at + delay <= now:
                    keyring.update(keys, now)
        used = [keyring.active_keys(now) for keyring in keyrings]
        for sealing in used:
            assert all(sealing[0] in opening for opening in used)
