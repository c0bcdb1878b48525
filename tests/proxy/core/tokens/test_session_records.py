"""Records of upstream sessions in session ids."""

import dataclasses
import os

from hypothesis import given, settings
from hypothesis import strategies as st

from mcpproxy.limits.clients import SESSION_ID
from mcpproxy.proxy.core.exchange import ClientIdentity
from mcpproxy.proxy.core.session_records import (
    MAX_CAPABILITIES,
    SessionRecord,
    decode_records,
    encode_records,
    known_capabilities,
)
from mcpproxy.proxy.core.tokens.sealed_tokens import Sealer
from mcpproxy.proxy.core.tokens.session_token import (
    SessionToken,
    decode_session_token,
    encode_session_token,
)
from tests.support.examples import examples

NOW = 1_000_000
SEALER = Sealer([b"k" * 32], os.urandom)
VISIBLE = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=20)
NAMES = st.text(st.characters(codec="utf-8"), max_size=10)
RECORDS = st.builds(
    SessionRecord,
    VISIBLE,
    VISIBLE.map(str.encode),
    VISIBLE,
    st.binary(max_size=20),
    st.lists(NAMES, max_size=4).map(tuple),
)


def a_client(**records: SessionRecord) -> ClientIdentity:
    """A client with records of upstream sessions."""
    return ClientIdentity("2025-11-25", session="s", upstream=tuple(records.items()))


def through_a_session_id(client: ClientIdentity) -> ClientIdentity:
    """The client as another instance finds it in the session id."""
    token = encode_session_token(SEALER, SessionToken(client, NOW, "here"))
    assert len(token) <= SESSION_ID.value
    return decode_session_token(SEALER, token, client.principal, NOW).client


@given(st.dictionaries(VISIBLE, RECORDS, max_size=4))
@settings(max_examples=examples(100))
def test_a_session_id_carries_the_records_of_upstream_sessions(
    records: dict[str, SessionRecord],
) -> None:
    assert decode_records(encode_records(tuple(records.items()))) == tuple(records.items())
    client = through_a_session_id(ClientIdentity("2025-11-25", upstream=tuple(records.items())))
    assert dict(client.upstream) == records


def test_a_session_id_without_records_is_as_before() -> None:
    assert through_a_session_id(a_client()).upstream == ()


def test_the_largest_records_are_left_out_of_a_session_id_that_cannot_carry_all() -> None:
    small, large = SessionRecord("t", b"a" * 500), SessionRecord("t", b"b" * 2048)
    client = through_a_session_id(a_client(x=large, y=small, z=large))
    assert dict(client.upstream) == {"x": large, "y": small}
    huge = SessionRecord("t", b"a" * 2048, cookies=b"c" * 8000)
    assert through_a_session_id(a_client(x=huge)).upstream == ()


def test_only_a_client_with_a_session_continues_upstream_sessions() -> None:
    record = SessionRecord("t", b"id")
    client = a_client(x=record)
    assert client.record_of("x") == record
    assert client.record_of("y") is None
    assert dataclasses.replace(client, session="").record_of("x") is None


def test_a_record_names_a_bounded_number_of_capabilities() -> None:
    names = [f"c{number}" for number in range(100)]
    assert known_capabilities([*names[:3], "x" * 100]) == ("c0", "c1", "c2")
    assert len(known_capabilities(names)) == MAX_CAPABILITIES
