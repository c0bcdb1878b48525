"""Limits on backends: connections to them, their messages, lists, requests and sessions."""

from typing import Final

from mcpproxy.limits.limit import Limit

ABANDONED_REQUESTS: Final = Limit(
    name="abandoned-requests",
    value=1024,
    unit="count",
    counts="requests that clients gave up and the backend has not answered",
    share="session",
    beyond="messages that name no request reach no client of the session any more",
    test="test_beyond_the_abandoned_requests_that_are_known_nothing_is_attributed",
)
ABANDONED_FOR: Final = Limit(
    name="abandoned-for",
    value=600,
    unit="seconds",
    counts="the age of a shared session since a client gave up a request in it",
    share="session",
    beyond="new requests get a new session; the old one ends with its last request",
    test="test_a_shared_session_in_which_a_request_was_given_up_is_replaced_after_a_while",
)
UNREAD_MESSAGES: Final = Limit(
    name="unread-messages",
    value=10_000,
    unit="count",
    counts="messages of a backend that wait for the client of one request, others being served",
    share="request",
    beyond="the request ends with StalledClient and is cancelled; progress is dropped",
    test="test_a_slow_caller_delays_no_other_and_ends_when_too_much_waits",
)
UNREAD_BYTES: Final = Limit(
    name="unread-bytes",
    value=8 * 1024 * 1024,
    unit="bytes",
    counts="the same messages; a single one may be larger",
    share="request",
    beyond="the request ends with StalledClient and is cancelled; progress is dropped",
    test="test_a_slow_caller_delays_no_other_and_ends_when_too_much_waits",
)
ELICITATIONS: Final = Limit(
    name="elicitations",
    value=256,
    unit="count",
    counts="elicitations by URL during requests that have not ended",
    share="session",
    beyond="the end of the oldest one reaches a client only where the session has no other",
    test="test_beyond_the_elicitations_that_are_remembered_the_end_of_the_oldest_reaches_nobody",
)
RESUMED_STREAMS: Final = Limit(
    name="resumed-streams",
    value=100,
    unit="count",
    counts="times that the stream of an answer ends early and is gone on with",
    share="request",
    beyond="the request ends with an error",
    test="test_a_stream_that_ends_early_again_and_again_is_given_up",
)
