"""Sealed tokens and session ids: unreadable, unchangeable, bound to purpose and principal."""

import os
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from mcpproxy.limits.clients import CLIENT_CAPABILITIES, CLIENT_INFO, SEALED_TOKEN, SESSION_ID
from mcpproxy.proxy.core.client_info import SMALLEST, bound_client_info
from mcpproxy.proxy.core.exchange import ClientIdentity
from mcpproxy.proxy.core.tokens import session_token
from mcpproxy.proxy.core.tokens.sealed_tokens import InvalidToken, Sealer, TokenTooLarge
from mcpproxy.proxy.core.tokens.session_token import (
    CLOCK_SKEW,
    LIFETIME,
    SessionToken,
    canonical_capabilities,
    decode_session_token,
    encode_session_token,
)
from mcpproxy.proxy.protocol.jsonrpc import RpcError

OLD, NEW, OTHER = (bytes([n]) * 32 for n in (1, 2, 3))
SEALER = Sealer([NEW], os.urandom)
NOW = 1_000_000
TICKET = SessionToken(
    ClientIdentity("2025-11-25", b'{"sampling":{}}', b'{"name":"c"}', "digest", "session-1"),
    NOW,
    "10.0.0.1:8081",
)


@given(
    st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), st.integers(-(2**60), 2**60))
)
def test_a_sealed_value_can_be_opened(content: dict[str, int]) -> None:
    assert SEALER.open("p", SEALER.seal("p", content)) == content


def test_s7_a_token_is_visible_ascii_and_reveals_nothing() -> None:
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
    with pytest.raises(InvalidToken):
        SEALER.open("p", token[:at] + letter + token[at + 1 :])


@given(st.text(max_size=80))
def test_any_text_is_refused_and_breaks_nothing(text: str) -> None:
    with pytest.raises(InvalidToken):
        SEALER.open("p", text)


def test_a_token_of_another_purpose_is_refused() -> None:
    with pytest.raises(InvalidToken):
        SEALER.open("q", SEALER.seal("p", 1))


def test_a_token_of_another_key_is_refused() -> None:
    with pytest.raises(InvalidToken):
        SEALER.open("p", Sealer([OTHER], os.urandom).seal("p", 1))


def test_a_token_over_the_limit_is_neither_made_nor_opened() -> None:
    with pytest.raises(TokenTooLarge):
        SEALER.seal("p", "x" * SEALED_TOKEN.value)
    before = SEALED_TOKEN.reached
    with pytest.raises(InvalidToken):
        SEALER.open("p", "A" * (SEALED_TOKEN.value + 1))
    assert SEALED_TOKEN.reached == before + 1


@given(st.integers(0, 2 * SEALED_TOKEN.value))
def test_every_sealed_token_can_be_opened(size: int) -> None:
    try:
        token = SEALER.seal("p", "x" * size)
    except TokenTooLarge:
        assert size > SEALED_TOKEN.value // 2
    else:
        assert SEALER.open("p", token) == "x" * size


def test_after_a_rotation_both_keys_open_and_the_new_one_seals() -> None:
    rotated = Sealer([NEW, OLD], os.urandom)
    assert rotated.open("p", Sealer([OLD], os.urandom).seal("p", 1)) == 1
    assert SEALER.open("p", rotated.seal("p", 2)) == 2


def test_two_keys_with_the_same_mark_both_open() -> None:
    result: dict[str, bytes] = {}
    for number in range(1000):
        key = number.to_bytes(16, "big")
        # The mark is the first byte: a letter and a half of the token.
        mark = Sealer([key], lambda n: bytes(n)).seal("p", 1)[:2]
        other = result.setdefault(mark, key)
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
def test_a_session_id_decodes_to_its_session_token(later: float) -> None:
    assert (
        decode_session_token(SEALER, encode_session_token(SEALER, TICKET), "digest", NOW + later)
        == TICKET
    )


def test_a_client_without_a_name_is_read_back_without_one() -> None:
    issued = SessionToken(ClientIdentity("2025-06-18"), NOW, "")
    assert decode_session_token(SEALER, encode_session_token(SEALER, issued), "", NOW) == issued


def test_s8_a_session_id_of_another_principal_is_refused() -> None:
    for principal in ("", "other"):
        with pytest.raises(InvalidToken):
            decode_session_token(SEALER, encode_session_token(SEALER, TICKET), principal, NOW)


@pytest.mark.parametrize("later", [LIFETIME + 1, -CLOCK_SKEW - 1])
def test_s11_a_session_id_expires(later: float) -> None:
    with pytest.raises(InvalidToken):
        decode_session_token(SEALER, encode_session_token(SEALER, TICKET), "digest", NOW + later)


def test_a_token_of_another_kind_is_not_a_session_id() -> None:
    with pytest.raises(InvalidToken):
        decode_session_token(SEALER, SEALER.seal("question", {"o": "", "n": 1}), "", NOW)


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
    assert canonical_capabilities(None if raw is None else Raw(raw)) == expected


def test_the_order_of_capabilities_makes_no_difference() -> None:
    assert session_token.canonical_capabilities(
        Raw(b'{"a":{},"b":{}}')
    ) == session_token.canonical_capabilities(Raw(b'{"b":{},"a":{}}'))


def test_oversized_capabilities_are_refused_before_they_are_parsed() -> None:
    deep = b'{"a":' * 300 + b'"%b"' % (b"x" * CLIENT_CAPABILITIES.value) + b"}" * 300
    with pytest.raises(RpcError, match="the maximum is 8192"):
        canonical_capabilities(Raw(deep))


JSON_OBJECTS = st.dictionaries(
    st.sampled_from(["name", "title", "version", "icons", "description", "websiteUrl", "x", "\\"]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=3000)
    | st.just("\x00" * 20_000)
    | st.lists(st.just({"src": "data:image/png;base64," + "A" * 1000}), max_size=30),
    max_size=6,
)


@given(JSON_OBJECTS, st.integers(0, 6000), st.text(alphabet="01x.:#", max_size=100))
def test_every_issued_session_id_is_short_and_accepted(
    info: dict[str, Any], size: int, owner: str
) -> None:
    capabilities = msgspec.json.encode({"experimental": {"a": "b" * size}})
    about = msgspec.json.encode(info)
    client = ClientIdentity(
        "2025-11-25", capabilities, about, "d" * 32, "s" * 22, network="127.0.0.1"
    )
    try:
        token = encode_session_token(SEALER, SessionToken(client, NOW, owner))
    except RpcError:
        assert size > 2000
        return
    assert len(token) <= SESSION_ID.value
    result = decode_session_token(SEALER, token, "d" * 32, NOW)
    assert result.client.capabilities == capabilities
    assert result.client.network == "127.0.0.1"
    if len(about) <= CLIENT_INFO.value and len(about) + size < 2000:
        assert result.client.info == about


@given(JSON_OBJECTS | st.integers() | st.text() | st.lists(st.text(max_size=3000)))
def test_client_information_of_any_size_is_reduced_to_its_names(info: Any) -> None:
    about = msgspec.json.encode(info)
    for limit in (SMALLEST, CLIENT_INFO.value):
        reduced = bound_client_info(about, limit)
        if len(about) <= limit:
            assert reduced == about
            continue
        names = {"name", "title", "version"} & set(info) if isinstance(info, dict) else set()
        named = {name for name in names if isinstance(info[name], str)}
        assert (reduced is not None) or not named
        if reduced is not None:
            assert len(reduced) <= limit
            shown = msgspec.json.decode(reduced)
            assert "icons" not in shown
            assert all(info[name].startswith(shown[name]) for name in named)


def test_capabilities_that_no_session_id_can_carry_are_refused() -> None:
    before = SESSION_ID.reached
    client = ClientIdentity("2025-11-25", b'{"experimental":"%b"}' % (b"x" * SESSION_ID.value))
    with pytest.raises(RpcError, match=r"params\.capabilities"):
        encode_session_token(SEALER, SessionToken(client, NOW, ""))
    assert SESSION_ID.reached == before + 1


def test_s7_a_longer_token_is_not_a_session_id() -> None:
    content = {"v": "2025-11-25", "c": "x" * 4000, "i": None, "p": "", "n": "", "t": NOW, "o": ""}
    with pytest.raises(InvalidToken):
        decode_session_token(SEALER, SEALER.seal("session", content), "", NOW)
