"""Limits on clients of the proxy: connections, requests, sessions and what they leave open."""

from typing import Final

from mcpproxy.limits.limit import Limit

STDIO_LINE: Final = Limit(
    name="stdio-line",
    value=64 * 1024 * 1024,
    unit="bytes",
    counts="bytes of one line on standard input, without its end",
    share="message",
    beyond="JSON-RPC error -32600 with a null id; the rest of the line is discarded",
    test="test_a_line_beyond_the_limit_is_refused_and_the_next_one_served",
)
STDIO_MESSAGES: Final = Limit(
    name="stdio-messages",
    value=1000,
    unit="count",
    counts="messages of the client on standard input that are being processed",
    share="process",
    beyond="no more is read until one is done; while the client owes answers: error -32000",
    test="test_requests_beyond_the_limit_wait_in_the_pipe",
)
STDIO_MESSAGE_BYTES: Final = Limit(
    name="stdio-message-bytes",
    value=256 * 1024 * 1024,
    unit="bytes",
    counts="bytes of the lines on standard input that are being processed",
    share="process",
    beyond="as for stdio-messages; one message may be larger while no other is processed",
    test="test_requests_beyond_the_limit_wait_in_the_pipe",
)
STDIO_BATCH: Final = Limit(
    name="stdio-batch",
    value=100,
    unit="count",
    counts="messages of one JSON-RPC batch on standard input (revision 2025-03-26)",
    share="message",
    beyond="JSON-RPC error -32600 with a null id",
    test="test_a_batch_beyond_the_limit_is_refused",
)
STDIO_STREAMS: Final = Limit(
    name="stdio-streams",
    value=64,
    unit="count",
    counts="open subscriptions/listen requests on standard input",
    share="process",
    beyond="JSON-RPC error -32000",
    test="test_streams_beyond_the_limit_are_refused",
)
STDIO_LAST_ANSWERS: Final = Limit(
    name="stdio-last-answers",
    value=60,
    unit="seconds",
    counts="time without any response once standard input has ended",
    share="process",
    beyond="the requests that are left are cancelled and the proxy ends",
    test="test_a_request_that_is_never_answered_does_not_keep_the_proxy",
)
LOG_RECORDS: Final = Limit(
    name="log-records",
    value=1000,
    unit="count",
    counts="log lines that wait for the reader of standard error",
    share="process",
    beyond="further lines are dropped, and their number is logged",
    test="test_a_standard_error_that_is_not_read_holds_nothing_up",
)
