"""Limits on clients of the HTTP server: connections, and headers and bodies of requests."""

from typing import Final

from mcpproxy.limits.limit import Limit

_KIB: Final = 1024
_MIB: Final = 1024 * 1024

DESCRIPTORS: Final = Limit(
    name="descriptors",
    value=65_536,
    unit="count",
    counts="file descriptors that the process may open, if the system permits; a quarter, and at"
    " least 64, is reserved for backends, the admin port and files",
    share="process",
    beyond="the client connections that have been without a request longest are closed; if every"
    " client is being served, a new connection is closed at once",
    test="test_clients_leave_descriptors_for_backends_and_the_admin_port",
)
REQUEST_HEAD: Final = Limit(
    name="request-head",
    value=64 * _KIB,
    unit="bytes",
    counts="bytes of the request line, of headers with their line endings, and of trailers",
    share="request",
    beyond="HTTP 431, and the connection is closed",
    test="test_the_size_of_a_head_counts_every_byte_of_its_lines",
)
REQUEST_LINES: Final = Limit(
    name="request-lines",
    value=200,
    unit="count",
    counts="headers and trailers of a request",
    share="request",
    beyond="HTTP 431, and the connection is closed",
    test="test_a_request_with_too_many_header_lines_is_refused",
)
REQUEST_TARGET: Final = Limit(
    name="request-target",
    value=8 * _KIB,
    unit="bytes",
    counts="bytes of the target in the request line",
    share="request",
    beyond="HTTP 414, and the connection is closed",
    test="test_a_request_target_that_is_too_long_is_refused",
)
UNFINISHED_HEAD: Final = Limit(
    name="unfinished-head",
    value=256 * _KIB,
    unit="bytes",
    counts="bytes since the last complete line, chunk or request",
    share="connection",
    beyond="HTTP 431, and the connection is closed",
    test="test_an_endless_line_is_refused_in_every_part_of_a_request",
)
REPAIRED_TEXT: Final = Limit(
    name="repaired-text",
    value=_MIB,
    unit="bytes",
    counts="bytes of a message in which invalid JSON that SDKs accept is replaced: NaN, lone"
    " surrogates, bytes that are not UTF-8",
    share="message",
    beyond="the message is refused as invalid JSON",
    test="test_a_message_too_large_to_be_repaired_is_refused",
)
REPAIRED_PLACES: Final = Limit(
    name="repaired-places",
    value=10_000,
    unit="count",
    counts="invalid JSON numbers and lone surrogates that are replaced in one message",
    share="message",
    beyond="the message is refused as invalid JSON",
    test="test_a_message_with_too_much_to_repair_is_refused",
)
REQUEST_BODY: Final = Limit(
    name="request-body",
    value=16 * _MIB,
    unit="bytes",
    counts="bytes of a request's body",
    share="request",
    beyond="HTTP 413, and the connection is closed",
    test="test_s4_a_body_beyond_the_limit_is_refused",
)
SMALL_BODY: Final = Limit(
    name="small-body",
    value=64 * _KIB,
    unit="bytes",
    counts="bytes up to which a body does not count towards the limits on large bodies",
    share="request",
    beyond="the whole body counts as a large one",
    test="test_large_bodies_that_are_paused_leave_room_for_small_ones",
)
SMALL_BODIES: Final = Limit(
    name="small-bodies",
    value=64 * _MIB,
    unit="bytes",
    counts="bytes of all small bodies in memory",
    share="process",
    beyond="HTTP 503 with Retry-After, and the connection is closed",
    test="test_small_bodies_have_a_separate_limit",
)
LARGE_BODIES: Final = Limit(
    name="large-bodies",
    value=256 * _MIB,
    unit="bytes",
    counts="bytes of all large bodies in memory",
    share="process",
    beyond="HTTP 503 with Retry-After, and the connection is closed",
    test="test_large_bodies_that_are_paused_leave_room_for_small_ones",
)
LARGE_BODIES_SHARE: Final = Limit(
    name="large-bodies-share",
    value=128 * _MIB,
    unit="bytes",
    counts="bytes of large bodies from one address",
    share="network",
    beyond="HTTP 503 with Retry-After, and the connection is closed",
    test="test_large_bodies_of_one_address_leave_room_for_those_of_others",
)
REQUEST_TIME: Final = Limit(
    name="request-time",
    value=60,
    unit="seconds",
    counts="time from the first byte of a request to its last",
    share="request",
    beyond="HTTP 408, and the connection is closed",
    test="test_a_request_that_comes_too_slowly_is_refused",
)
IDLE_TIME: Final = Limit(
    name="idle-time",
    value=75,
    unit="seconds",
    counts="time without a request on a connection",
    share="connection",
    beyond="the connection is closed",
    test="test_an_idle_connection_is_closed",
)
STALLED_TIME: Final = Limit(
    name="stalled-time",
    value=120,
    unit="seconds",
    counts="time in which a client reads less of a response than `taken-bytes`",
    share="connection",
    beyond="the connection is closed",
    test="test_a_client_that_reads_one_byte_at_a_time_is_disconnected",
)
TAKEN_BYTES: Final = Limit(
    name="taken-bytes",
    value=4 * _KIB,
    unit="bytes",
    counts="minimum bytes of a response that a client reads within `stalled-time`",
    share="connection",
    beyond="the connection is closed",
    test="test_a_client_that_reads_one_byte_at_a_time_is_disconnected",
)
WAITING_REQUESTS: Final = Limit(
    name="waiting-requests",
    value=8,
    unit="count",
    counts="pipelined requests: sent before the response to an earlier request was read",
    share="connection",
    beyond="further input is neither parsed nor read until one of them has its response",
    test="test_pipelined_requests_in_one_packet_are_parsed_as_they_are_served",
)
ENVELOPE_MEMBERS: Final = Limit(
    name="envelope-members",
    value=1024,
    unit="count",
    counts="fields of a JSON-RPC message, and of its params or result",
    share="message",
    beyond="JSON-RPC error -32600 or -32602; from a backend: the error NotMCP",
    test="test_a_message_of_too_many_members_is_refused_before_it_takes_room",
)
COMPARED_VALUE: Final = Limit(
    name="compared-value",
    value=256 * _KIB,
    unit="bytes",
    counts="bytes of a component, or of an argument of a resumed call, up to which comparisons"
    " ignore the order of fields and the escaping of strings",
    share="message",
    beyond="the values are equal only if their bytes are equal",
    test="test_values_too_large_to_parse_are_equal_only_if_their_bytes_are",
)
