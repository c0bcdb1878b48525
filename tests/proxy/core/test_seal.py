"""Sealed tokens and session ids: unreadable, unchangeable, bound to purpose and principal."""

import os
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from mcpproxy.proxy.core import sessions
from mcpproxy.proxy.core.exchange import Client
from mcpproxy.proxy.core.seal import MAX_TOKEN, BadToken, Sealer
from mcpproxy.proxy.core.sessions import CLOCK_SKEW, LIFETIME, Ticket, declared, mint, read

OLD, NEW, OTHER = (bytes([n]) * 32 for n in (1, 2, 3))
SEALER = Sealer([NEW], os.urandom)
NOW = 1_000_000
TICKET = Ticket(
    Client("2025-11-25", b'{"sampling":{}}', b'{"name":"c"}', "digest", "session-1"),
    NOW,
    "10.0.0.1:8081",
)


@given(
    st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), st.integers(-(2**60), 2**60))
)
def test_what_was_sealed_is_opened_again(content: dict[str, int]) -> None:
    assert SEALER.open("p", SEALER.seal("p", content)) == content


def test_s7_a_token_is_visible_ascii_and_says_nothing() -> None:
    token = SEALER.seal("p", {"secret": "value"})
    assert token.isascii()
    assert token.isprintable()
    assert " " not in token
    assert token != SEALER.seal("p", {"secret": "value"})


@given(st.data())
def test_s10_a_token_changed_anywhere_is_refused(data: st.DataObject) -> None:
    token = Sealer([NEW], lambda size: bytes(range(size))).seal("p", {"n": 1})
    at = data.draw(st.integers(0, len(token) - 1))
    letter = data.draw(st.sampled_from("ABCxyz019-_").filter(lambda c: c != token[at]))
    with pytest.raises(BadToken):
        SEALER.open("p", token[:at] + letter + token[at + 1 :])


@given(st.text(max_size=80))
def test_any_text_is_refused_and_breaks_nothing(text: str) -> None:
    with pytest.raises(BadToken):
        SEALER.open("p", text)


def test_a_token_of_another_purpose_is_refused() -> None:
    with pytest.raises(BadToken):
        SEALER.open("q", SEALER.seal("p", 1))


def test_a_token_of_another_key_is_refused() -> None:
    with pytest.raises(BadToken):
        SEALER.open("p", Sealer([OTHER], os.urandom).seal("p", 1))


def test_a_token_that_is_too_long_is_refused() -> None:
    with pytest.raises(BadToken):
        SEALER.open("p", SEALER.seal("p", "x" * MAX_TOKEN))


def test_after_a_rotation_both_keys_open_and_the_new_one_seals() -> None:
    rotated = Sealer([NEW, OLD], os.urandom)
    assert rotated.open("p", Sealer([OLD], os.urandom).seal("p", 1)) == 1
    assert SEALER.open("p", rotated.seal("p", 2)) == 2


def test_two_keys_with_the_same_mark_both_open() -> None:
    found: dict[str, bytes] = {}
    for number in range(1000):
        key = number.to_bytes(16, "big")
        # The mark is the first byte: a letter and a half of the token.
        mark = Sealer([key], lambda n: bytes(n)).seal("p", 1)[:2]
        other = found.setdefault(mark, key)
        if other != key:
            rotated = Sealer([key, other], os.urandom)
            assert rotated.open("p", Sealer([other], os.urandom).seal("p", 1)) == 1
            assert rotated.open("p", Sealer([key], os.urandom).seal("p", 2)) == 2
            return
    raise AssertionError("no two keys had the same mark")


@pytest.mark.parametrize("keys", [[], [b"short"], [NEW, b"short"]])
def test_keys_too_short_are_refused(keys: list[bytes]) -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        Sealer(keys, os.urandom)


@pytest.mark.parametrize("later", [0, 1, LIFETIME, -CLOCK_SKEW])
def test_a_session_id_brings_its_ticket_back(later: float) -> None:
    assert read(SEALER, mint(SEALER, TICKET), "digest", NOW + later) == TICKET


def test_a_client_without_a_name_is_read_back_without_one() -> None:
    ticket = Ticket(Client("2025-06-18"), NOW, "")
    assert read(SEALER, mint(SEALER, ticket), "", NOW) == ticket


def test_s8_a_session_id_of_another_principal_is_refused() -> None:
    for principal in ("", "other"):
        with pytest.raises(BadToken):
            read(SEALER, mint(SEALER, TICKET), principal, NOW)


@pytest.mark.parametrize("later", [LIFETIME + 1, -CLOCK_SKEW - 1])
def test_s11_a_session_id_expires(later: float) -> None:
    with pytest.raises(BadToken):
        read(SEALER, mint(SEALER, TICKET), "digest", NOW + later)


def test_a_token_of_another_kind_is_no_session_id() -> None:
    with pytest.raises(BadToken):
        read(SEALER, SEALER.seal("question", {"o": "", "n": 1}), "", NOW)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b'{ "a" : {} }', b'{"a":{}}'),
        (b"{}", b"{}"),
        (b"[]", b"{}"),
        (b"null", b"{}"),
        (None, b"{}"),
        (b"{broken", b"{}"),
    ],
)
def test_equal_capabilities_are_equal_bytes(raw: Any, expected: bytes) -> None:
    assert declared(None if raw is None else Raw(raw)) == expected


def test_the_order_of_capabilities_makes_no_difference() -> None:
    assert sessions.declared(Raw(b'{"a":{},"b":{}}')) == sessions.declared(Raw(b'{"b":{},"a":{}}'))
