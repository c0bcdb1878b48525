"""The encoder of records: the same bytes as the slower functions that define them."""

import hashlib
import json
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from mcpproxy.proxy.audit.record import encode_decision, encode_text
from mcpproxy.proxy.audit.record_encoder import Entry, RecordEncoder
from mcpproxy.proxy.audit.redaction import Redaction
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import RpcError

DESCRIPTION = b'","logger":"mcpproxy.audit","event":"call"'
ALLOWED = encode_decision("allowed", "ok")

_TEXT = st.text(max_size=20)
_NUMBERS = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
_VALUES = st.recursive(
    st.none() | st.booleans() | _NUMBERS | _TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_TEXT, inner, max_size=4),
    max_leaves=20,
)
_ARGUMENTS = st.dictionaries(_TEXT, _VALUES, max_size=5)


def _encode(*entries: Entry) -> list[bytes]:
    return RecordEncoder("Digest", Redaction([])).encode(entries)


def _entry(
    at: float = 0.0,
    seconds: float | None = None,
    size: int | None = None,
    arguments: bytes | None = None,
    trace: str = "",
) -> Entry:
    raw = None if arguments is None else Raw(arguments)
    return at, DESCRIPTION, ALLOWED, seconds, size, raw, trace


def _reference_digest(arguments: bytes) -> str:
    try:
        return hashlib.sha256(jsonrpc.canonicalize(arguments)).hexdigest()
    except RpcError:
        return hashlib.sha256(arguments).hexdigest()


@given(_ARGUMENTS, st.booleans(), st.sampled_from([None, 1, "\t"]))
def test_digests_of_arguments_are_those_of_their_canonical_json(
    arguments: dict[str, object], ascii_only: bool, indent: int | str | None
) -> None:
    raw = json.dumps(arguments, ensure_ascii=ascii_only, indent=indent).encode(
        "utf-8", "surrogatepass"
    )
    [record] = _encode(_entry(arguments=raw))
    members = json.loads(record)
    assert members["argumentsDigest"] == _reference_digest(raw)
    assert members["argumentsBytes"] == len(raw)


@given(
    st.lists(
        st.tuples(
            st.floats(0, 4e9),
            st.none() | st.floats(0, 1e5),
            st.none() | st.integers(0, 10**9),
            st.none() | st.binary(min_size=1, max_size=2000),
            st.text(max_size=60),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_a_record_shows_the_duration_size_and_arguments_of_its_entry(
    values: Sequence[tuple[float, float | None, int | None, bytes | None, str]],
) -> None:
    records = _encode(*(_entry(*value) for value in values))
    assert len(records) == len(values)
    for record, (at, seconds, size, arguments, trace) in zip(records, values, strict=True):
        assert b"\n" not in record
        members = json.loads(record)
        assert members["time"][-5:] == f".{int(at * 1000) % 1000:03}Z"[-5:]
        assert ("durationMs" in members) is (seconds is not None)
        if seconds is not None:
            assert abs(members["durationMs"] - seconds * 1000) < 0.0006
        assert members.get("responseBytes") == size
        assert members.get("argumentsBytes") == (None if arguments is None else len(arguments))
        if arguments is not None:
            assert members["argumentsDigest"] == _reference_digest(arguments)
        assert members.get("traceparent", "") == (json.loads(encode_text(trace)) if trace else "")
        assert members["decision"] == "allowed"


def test_durations_have_three_decimals_whatever_their_length() -> None:
    seconds = (0.0, 0.000_000_4, 0.000_000_6, 0.009, 0.999_999_6, 1.0, 12.3456789)
    records = _encode(*(_entry(seconds=value) for value in seconds))
    shown = [record.partition(b'"durationMs":')[2].rstrip(b"}") for record in records]
    assert shown == [b"%.3f" % (value * 1000) for value in seconds]
