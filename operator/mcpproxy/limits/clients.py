"""Limits on clients of the proxy: standard input, requests, sessions and open resources."""

from typing import Final

from mcpproxy.limits.limit import Limit

STDIO_LINE: Final = Limit(
    name="stdio-line",
    value=64 * 1024 * 1024,
    unit="bytes",
    counts="bytes of one line on standard input, without its line ending",
    share="message",
    beyond="JSON-RPC error -32600 with a null id; the rest of the line is discarded",
    test="test_a_line_beyond_the_limit_is_refused_and_the_next_one_served",
)
STDIO_MESSAGES: Final = Limit(
    name="stdio-messages",
    value=1000,
    unit="count",
    counts="client messages on standard input that are being processed",
    share="process",
    beyond="reading stops until one is done; while the client owes responses: error -32000",
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
    counts="messages in one JSON-RPC batch on standard input (revision 2025-03-26)",
    share="message",
    beyond="JSON-RPC error -32600 with a null id",
    test="test_a_batch_beyond_the_limit_is_refused",
)
HTTP_BATCH: Final = Limit(
    name="http-batch",
    value=100,
    unit="count",
    counts="messages in one JSON-RPC batch in the body of a POST (revision 2025-03-26)",
    share="message",
    beyond="HTTP 400 with JSON-RPC error -32600",
    test="test_a_batch_over_http_beyond_the_limit_is_refused",
)
BATCH_REQUESTS: Final = Limit(
    name="batch-requests",
    value=8,
    unit="count",
    counts="requests of one JSON-RPC batch that are served concurrently",
    share="request",
    beyond="further requests of the batch wait until one of these has its response",
    test="test_requests_of_a_batch_are_served_a_few_at_a_time",
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
    counts="time without a response after the end of standard input",
    share="process",
    beyond="the remaining requests are cancelled, and the proxy exits",
    test="test_a_request_that_is_never_answered_does_not_keep_the_proxy",
)
LOG_RECORDS: Final = Limit(
    name="log-records",
    value=1000,
    unit="count",
    counts="log lines that wait for standard error to be read",
    share="process",
    beyond="further lines are dropped, and their number is logged",
    test="test_an_unread_standard_error_does_not_block_the_program",
)

# Information that clients send about themselves

SEALED_TOKEN: Final = Limit(
    "sealed-token",
    16384,
    "bytes",
    "characters of a token that a client returns: session id, requestState, event id, or id of a"
    " server request",
    "message",
    "the token is treated as unknown: HTTP 404, or JSON-RPC error -32602",
    "test_a_token_over_the_limit_is_neither_made_nor_opened",
)
SESSION_ID: Final = Limit(
    "session-id",
    4096,
    "bytes",
    "characters of a session id, which contains clientInfo and capabilities",
    "session",
    "clientInfo is reduced to name, title and version; if capabilities alone are too large,"
    " initialize ends with JSON-RPC error -32602",
    "test_capabilities_that_no_session_id_can_carry_are_refused",
)
CLIENT_INFO: Final = Limit(
    "client-info",
    2048,
    "bytes",
    "bytes of clientInfo that are kept and sent to legacy backends",
    "session",
    "icons are removed first, then everything but name, title and version, which are cut",
    "test_client_information_of_any_size_is_reduced_to_its_names",
)
CLIENT_CAPABILITIES: Final = Limit(
    "client-capabilities",
    8192,
    "bytes",
    "bytes of the capabilities that a client declares",
    "request",
    "JSON-RPC error -32602",
    "test_capabilities_of_a_modern_client_are_bounded",
)

# Resources that clients leave open

RESOURCE_URI: Final = Limit(
    "subscription-uri",
    8192,
    "bytes",
    "bytes of the URI of a resource that a client subscribes to",
    "request",
    "JSON-RPC error -32602; subscriptions/listen does not acknowledge the resource",
    "test_subscriptions_are_bounded_in_number_and_size",
)
SUBSCRIPTIONS: Final = Limit(
    "subscriptions",
    256,
    "count",
    "resources to which one session, or one subscriptions/listen, is subscribed",
    "session",
    "JSON-RPC error -32000; subscriptions/listen does not acknowledge further resources",
    "test_subscriptions_are_bounded_in_number_and_size",
)
ALL_SUBSCRIPTIONS: Final = Limit(
    "subscriptions-in-all",
    8192,
    "count",
    "resources to which all clients are subscribed; the last eighth is reserved for clients with"
    " few subscriptions",
    "process",
    "JSON-RPC error -32000; subscriptions/listen does not acknowledge further resources",
    "test_a_client_with_many_subscriptions_leaves_room_for_others",
)
LIVE_SESSIONS: Final = Limit(
    "sessions-with-state",
    10_000,
    "count",
    "sessions with a log level, subscriptions, or requests at several instances, but without an"
    " open request or stream",
    "process",
    "the least recently used session of the client with the most sessions ends: HTTP 404",
    "test_beyond_the_limit_the_idlest_session_of_the_largest_holder_ends",
)
SESSION_IDLE: Final = Limit(
    "session-idle",
    1800,
    "seconds",
    "time without a request or stream for which a session keeps its subscriptions and log level",
    "session",
    "the subscriptions end, and the log level is discarded",
    "test_s11_an_unused_session_loses_its_state",
)
ENDED_SESSIONS: Final = Limit(
    "ended-sessions",
    8192,
    "count",
    "ended sessions whose unexpired ids are refused",
    "process",
    "the oldest one of the client that ended the most sessions is forgotten",
    "test_a_client_that_ends_many_sessions_does_not_revive_those_of_others",
)
STREAMS: Final = Limit(
    "streams",
    10_000,
    "count",
    "open streams that belong to no call: HTTP GET and subscriptions/listen",
    "process",
    "the oldest stream of the client with the most streams ends",
    "test_beyond_the_limit_the_oldest_stream_of_the_largest_holder_ends",
)
OUTBOX_MESSAGES: Final = Limit(
    "stream-messages",
    1000,
    "count",
    "messages that wait for a client to read its stream",
    "session",
    "the stream ends",
    "test_s11_an_unread_stream_ends",
)
OUTBOX_BYTES: Final = Limit(
    "stream-bytes",
    4 * 1024 * 1024,
    "bytes",
    "bytes of messages that wait for a client to read its stream, if more than one waits",
    "session",
    "the stream ends",
    "test_s11_an_unread_stream_ends",
)
ALL_OUTBOX_BYTES: Final = Limit(
    "stream-bytes-in-all",
    64 * 1024 * 1024,
    "bytes",
    "bytes of messages that wait for clients to read their streams",
    "process",
    "the fullest streams of the client with the most waiting bytes end, until a quarter is free",
    "test_messages_that_wait_for_all_clients_are_bounded",
)
STANDING_ANSWER: Final = Limit(
    "standing-answer",
    600,
    "seconds",
    "time that a client has to respond to a backend's request outside of any call",
    "request",
    "the backend gets an error, and a later response is dropped",
    "test_a_server_request_outside_of_any_request_ends_without_a_response",
)
STREAM_EVENTS: Final = Limit(
    "events-of-a-stream",
    4 * 1024 * 1024,
    "bytes",
    "bytes of the events of one stream that are kept for resumption",
    "request",
    "the oldest events are dropped; an earlier Last-Event-ID gets HTTP 400",
    "test_a_slow_reader_of_a_resumed_stream_gets_an_error",
)
ALL_EVENTS: Final = Limit(
    "events-of-all-streams",
    64 * 1024 * 1024,
    "bytes",
    "bytes of the events of all streams that are kept for resumption",
    "process",
    "the oldest stream of the client with the most kept bytes is emptied",
    "test_a_client_with_many_stored_events_does_not_evict_those_of_others",
)
EVENT_STREAMS: Final = Limit(
    "event-streams",
    8192,
    "count",
    "ended streams whose events are kept for resumption",
    "process",
    "the oldest stream of the client with the most streams is forgotten",
    "test_a_client_with_many_streams_does_not_lose_those_of_others",
)
EVENTS_KEPT_FOR: Final = Limit(
    "events-kept-for",
    60,
    "seconds",
    "time for which the events of a stream are kept after its end",
    "request",
    "Last-Event-ID gets HTTP 400",
    "test_s11_all_streams_together_keep_a_bounded_amount",
)
PARKED_CALLS: Final = Limit(
    "parked-calls",
    1000,
    "count",
    "calls of modern clients that wait for the client to return with the requested input",
    "process",
    "the oldest call of the client with the most calls is cancelled; its requestState gets -32602",
    "test_beyond_the_limit_the_oldest_parked_call_of_the_largest_holder_is_cancelled",
)
PARKED_FOR: Final = Limit(
    "parked-for",
    300,
    "seconds",
    "time for which a parked call waits for its client",
    "request",
    "the call is cancelled; its requestState gets -32602",
    "test_a_parked_call_expires",
)
KEPT_RESULTS: Final = Limit(
    "kept-results",
    256,
    "count",
    "large results of tools that are kept for their clients (onLarger: Link)",
    "process",
    "the least recently read result of the client with the most results is forgotten",
    "test_beyond_the_limit_the_largest_holder_loses_its_oldest_result",
)
KEPT_RESULT_BYTES: Final = Limit(
    "kept-result-bytes",
    64 * 1024 * 1024,
    "bytes",
    "bytes of all kept results; one of them may have an eighth",
    "process",
    "as for kept-results; a result that is too large to keep is an error",
    "test_beyond_the_limit_the_largest_holder_loses_its_oldest_result",
)
KEPT_RESULT_TIME: Final = Limit(
    "kept-result-time",
    600,
    "seconds",
    "time for which a large result is kept",
    "process",
    "the result is forgotten; reading it gets -32602 or, in the legacy era, -32002",
    "test_a_result_is_forgotten_after_its_time",
)
NAME_LENGTH: Final = Limit(
    name="name-length",
    value=65536,
    unit="count",
    counts="characters of the name or URI of the requested component",
    share="request",
    beyond="JSON-RPC error -32602, which names the field and the limit",
    test="test_an_overlong_name_or_uri_is_refused_with_the_name_of_its_field",
)
URI_MATCHING: Final = Limit(
    name="uri-matching",
    value=16 * 1024 * 1024,
    unit="count",
    counts="steps (bytes examined) when matching one URI against all URI templates of a backend",
    share="request",
    beyond="the URI matches none of the templates",
    test="test_matching_a_uri_stops_after_too_many_steps",
)
COUNTED_SUBJECTS: Final = Limit(
    name="counted-subjects",
    value=10_000,
    unit="count",
    counts="callers and backends whose calls spec.limits counts; each rule has an equal share",
    share="process",
    beyond="the calls of a subject that has not called lately are forgotten",
    test="test_subjects_beyond_the_limit_are_forgotten_rule_by_rule",
)
STORE_REQUESTS: Final = Limit(
    name="store-requests",
    value=1024,
    unit="count",
    counts="requests that wait for the server of spec.limits.shared.valkey",
    share="process",
    beyond="spec.limits.onStoreFailure applies to the call",
    test="test_requests_beyond_the_limit_do_not_wait_for_the_store",
)
STORE_ANSWER: Final = Limit(
    name="store-answer",
    value=4096,
    unit="bytes",
    counts="bytes of one part of a response of the server of spec.limits.shared.valkey",
    share="message",
    beyond="the connection is closed, and spec.limits.onStoreFailure applies",
    test="test_an_answer_of_the_store_beyond_the_limit_closes_the_connection",
)
