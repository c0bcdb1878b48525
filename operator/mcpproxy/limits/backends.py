"""Limits on backends: connections to them, their messages, lists, requests and sessions."""

from typing import Final

from mcpproxy.limits.limit import Limit

ABANDONED_REQUESTS: Final = Limit(
    name="abandoned-requests",
    value=1024,
    unit="count",
    counts="requests that clients abandoned and to which the backend has not responded",
    share="session",
    beyond="messages that name no request no longer reach any client of the session",
    test="test_a_session_with_too_many_abandoned_requests_attributes_no_message",
)
ABANDONED_FOR: Final = Limit(
    name="abandoned-for",
    value=600,
    unit="seconds",
    counts="time since a client abandoned a request in a shared session",
    share="session",
    beyond="new requests use a new session; the old one ends with its last request",
    test="test_a_shared_session_in_which_a_request_was_abandoned_is_replaced_after_a_while",
)
UNREAD_MESSAGES: Final = Limit(
    name="unread-messages",
    value=10_000,
    unit="count",
    counts="messages of a backend that wait for the client of one request while others are served",
    share="request",
    beyond="the request ends with StalledClient and is cancelled; progress is dropped",
    test="test_a_slow_caller_delays_no_other_and_ends_when_too_much_waits",
)
UNREAD_BYTES: Final = Limit(
    name="unread-bytes",
    value=8 * 1024 * 1024,
    unit="bytes",
    counts="bytes of messages that wait for the client of one request; a single message may be"
    " larger",
    share="request",
    beyond="the request ends with StalledClient and is cancelled; progress is dropped",
    test="test_a_slow_caller_delays_no_other_and_ends_when_too_much_waits",
)
ELICITATIONS: Final = Limit(
    name="elicitations",
    value=256,
    unit="count",
    counts="URL elicitations during requests in progress",
    share="session",
    beyond="the completion of the oldest one reaches a client only if the session has no other"
    " client",
    test="test_beyond_the_limit_the_completion_of_the_oldest_elicitation_is_dropped",
)
OWN_REQUEST_TIME: Final = Limit(
    name="own-request-time",
    value=15,
    unit="seconds",
    counts="time from a cancellation, notification or response of the proxy to its HTTP response",
    share="request",
    beyond="the connection is closed, and the message counts as lost",
    test="test_a_cancellation_that_is_never_answered_ends_with_its_connection",
)
REFUSAL_TIME: Final = Limit(
    name="refusal-time",
    value=1,
    unit="seconds",
    counts="time from the headers of an HTTP 403 or 421 response to the start of its body",
    share="request",
    beyond="the status does not quote the start of the body",
    test="test_a_refusal_whose_body_never_comes_is_reported_without_it",
)
CONNECTIONS: Final = Limit(
    name="connections",
    value=1024,
    unit="count",
    counts="busy and idle connections to a backend; the last eighth is reserved for clients with"
    " few connections",
    share="backend",
    beyond="a request that needs another connection ends with the error Overloaded",
    test="test_a_backend_that_hangs_gets_no_more_connections_than_the_limit",
)
IDLE_CONNECTIONS: Final = Limit(
    name="idle-connections",
    value=128,
    unit="count",
    counts="idle connections that are kept for later requests",
    share="backend",
    beyond="a connection is closed after its response",
    test="test_no_more_idle_connections_are_kept_than_the_limit",
)
REDIRECTS: Final = Limit(
    name="redirects",
    value=3,
    unit="count",
    counts="consecutive redirects that one request follows",
    share="request",
    beyond="the request ends with the error Unreachable",
    test="test_a_redirect_loop_ends",
)
RESPONSE_HEAD: Final = Limit(
    name="response-head",
    value=64 * 1024,
    unit="bytes",
    counts="bytes of a response outside its body as received: informational responses, status"
    " line, headers, chunk sizes, trailers",
    share="connection",
    beyond="the connection is closed, and the request ends with the error NotMCP",
    test="test_a_response_head_without_an_end_is_abandoned_at_its_limit",
)
RESPONSE_LINES: Final = Limit(
    name="response-lines",
    value=200,
    unit="count",
    counts="headers and trailers of a response",
    share="connection",
    beyond="the connection is closed, and the request ends with the error NotMCP",
    test="test_a_response_with_too_many_header_lines_is_abandoned",
)
MESSAGE: Final = Limit(
    name="message",
    value=64 * 1024 * 1024,
    unit="bytes",
    counts="bytes of one message: its JSON body, or all lines of its event with their line endings",
    share="message",
    beyond="the connection is closed, and the request ends with the error NotMCP",
    test="test_lines_without_content_count_towards_the_size_of_an_event",
)
DECODED_RATIO: Final = Limit(
    name="decoded-ratio",
    value=100,
    unit="count",
    counts="bytes of a response's decoded body for each byte received (gzip, deflate), after the"
    " first MiB; the decoded message also counts towards `message`",
    share="request",
    beyond="the connection is closed, and the request ends with the error NotMCP",
    test="test_a_decompression_bomb_is_refused",
)
BACKEND_BATCH: Final = Limit(
    name="backend-batch",
    value=100,
    unit="count",
    counts="messages in one JSON-RPC batch of a backend",
    share="message",
    beyond="the batch is refused, and requests that wait for it end with the error NotMCP",
    test="test_a_batch_of_a_backend_beyond_the_limit_ends_the_call_with_a_reason",
)
SERVER_REQUESTS: Final = Limit(
    name="server-requests",
    value=64,
    unit="count",
    counts="requests of a backend, such as sampling, that wait for a client's response",
    share="session",
    beyond="the backend gets the JSON-RPC error -32000",
    test="test_a_backend_that_requests_input_endlessly_is_refused",
)
SERVER_REQUEST_BYTES: Final = Limit(
    name="server-request-bytes",
    value=64 * 1024 * 1024,
    unit="bytes",
    counts="bytes of the backend's requests that wait for a client's response, if more than one"
    " waits",
    share="session",
    beyond="the backend gets the JSON-RPC error -32000",
    test="test_a_backend_with_too_many_simultaneous_requests_is_refused",
)
SERVER_REQUEST_TIME: Final = Limit(
    name="server-request-time",
    value=600,
    unit="seconds",
    counts="time that a backend's request outlasts the call during which it arrived",
    share="session",
    beyond="the request ends without a response",
    test="test_a_server_request_outlives_its_call_for_a_limited_time",
)
UNSENT_ANSWERS: Final = Limit(
    name="unsent-answers",
    value=64,
    unit="count",
    counts="responses to pings, and error responses, that wait to be sent to a backend in order",
    share="session",
    beyond="the newest is dropped, and the backend gets no response",
    test="test_pings_are_answered_in_order_over_one_connection",
)
RESULT_ITEMS: Final = Limit(
    name="result-items",
    value=65_536,
    unit="count",
    counts="items in a result's content, contents or messages whose URIs get a prefix",
    share="message",
    beyond="the request ends with the error NotMCP",
    test="test_a_result_of_too_many_items_is_refused_before_any_is_rewritten",
)
LIST_PAGES: Final = Limit(
    name="list-pages",
    value=1000,
    unit="count",
    counts="pages of one list",
    share="backend",
    beyond="the list ends there",
    test="test_a_list_without_an_end_is_abandoned_after_its_pages",
)
LIST_BYTES: Final = Limit(
    name="list-bytes",
    value=16 * 1024 * 1024,
    unit="bytes",
    counts="bytes of all pages of one list",
    share="backend",
    beyond="the list fails with the error NotMCP, and the previous list is still shown",
    test="test_a_list_is_abandoned_when_all_its_pages_are_too_large",
)
LIST_COMPONENTS: Final = Limit(
    name="list-components",
    value=10_000,
    unit="count",
    counts="components on all pages of one list",
    share="backend",
    beyond="the list fails with the error NotMCP, and the previous list is still shown",
    test="test_a_list_is_abandoned_when_it_has_too_many_components",
)
LIST_VARIANTS: Final = Limit(
    name="list-variants",
    value=64,
    unit="count",
    counts="kinds of clients for which a backend's lists are cached, in addition to the lists for"
    " all clients",
    share="backend",
    beyond="the lists of the kind that was fetched least recently are dropped",
    test="test_the_number_of_views_is_bounded_and_the_oldest_goes",
)
LIST_VARIANT_BYTES: Final = Limit(
    name="list-variant-bytes",
    value=64 * 1024 * 1024,
    unit="bytes",
    counts="bytes of all lists that are cached for kinds of clients",
    share="backend",
    beyond="the lists of the kind that was fetched least recently are dropped",
    test="test_lists_for_kinds_of_clients_are_dropped_when_they_are_too_large_together",
)
SERVER_NAME: Final = Limit(
    name="server-name",
    value=200,
    unit="count",
    counts="characters of the name and of the version that a backend reports, in statuses",
    share="backend",
    beyond="the rest is cut; control characters are replaced",
    test="test_the_name_that_a_backend_reports_is_truncated_and_escaped",
)
FINDING_TEXT: Final = Limit(
    name="finding-text",
    value=1024,
    unit="count",
    counts="characters of the message that explains the state of a backend",
    share="backend",
    beyond="the rest is cut; control characters are replaced",
    test="test_the_error_text_of_a_backend_is_truncated_and_escaped",
)
LOG_MESSAGE: Final = Limit(
    name="log-message",
    value=4096,
    unit="count",
    counts="characters of the message in one log line",
    share="message",
    beyond="the rest is cut; control characters are replaced",
    test="test_a_log_line_is_cut_and_cleaned",
)
PROGRAM_LINE: Final = Limit(
    name="program-line",
    value=64 * 1024 * 1024,
    unit="bytes",
    counts="bytes of one line on the standard output of a stdio server, without its line ending",
    share="message",
    beyond="the line is discarded; the request that it belongs to ends with error -32000",
    test="test_a_response_beyond_the_limit_ends_its_request_and_the_next_one_is_answered",
)
PROGRAM_INPUT: Final = Limit(
    name="program-input",
    value=30,
    unit="seconds",
    counts="time that a message waits until a stdio server reads its standard input",
    share="message",
    beyond="the message is not sent; its request ends with error -32000",
    test="test_a_message_to_a_stdio_server_that_does_not_read_times_out",
)
PROGRAM_END: Final = Limit(
    name="program-end",
    value=2,
    unit="seconds",
    counts="time that a stdio server has to exit after the end of its input, and again after"
    " SIGTERM",
    share="session",
    beyond="SIGTERM, and then SIGKILL, is sent to its process group",
    test="test_a_process_that_does_not_end_is_killed_with_all_its_children",
)
PROGRAM_ERROR_LINE: Final = Limit(
    name="program-error-line",
    value=2000,
    unit="bytes",
    counts="bytes of one line on the standard error of a stdio server",
    share="message",
    beyond="the rest of the line is discarded",
    test="test_a_flood_of_stderr_does_not_block_messages_and_is_not_buffered",
)
PROGRAM_ERROR_LINES: Final = Limit(
    name="program-error-lines",
    value=100,
    unit="1/s",
    counts="lines on the standard error of a stdio server that are logged",
    share="session",
    beyond="further lines within that second are read but not logged",
    test="test_lines_of_stderr_beyond_the_limit_are_read_and_not_logged",
)

# Sessions that clients need with one backend

UPSTREAM_SESSIONS: Final = Limit(
    "upstream-sessions",
    512,
    "count",
    "open sessions with one backend, plus up to as many that are closing; the last eighth is"
    " reserved for clients with few sessions",
    "backend",
    "the least recently used idle session of the client with the most sessions ends; if no session"
    " is idle, JSON-RPC error -32000 (Overloaded)",
    "test_beyond_the_limit_the_idlest_session_of_the_largest_holder_ends",
)
WARM_SESSIONS: Final = Limit(
    "warm-sessions",
    72,
    "count",
    "unused sessions with one backend that wait for requests",
    "backend",
    "no further session is opened in advance",
    "test_warm_sessions_are_few_however_many_requests_come",
)
CLIENT_KINDS: Final = Limit(
    "client-kinds",
    1024,
    "count",
    "kinds of clients (principal, revision, capabilities, information) for which a backend is"
    " known to keep no session, or for which sessions are kept warm",
    "backend",
    "the oldest kind of the client with the most kinds is forgotten, and determined again",
    "test_clients_with_many_list_variants_do_not_evict_those_of_others",
)
TEMPLATE_LENGTH: Final = Limit(
    name="template-length",
    value=8192,
    unit="count",
    counts="characters of one URI template, as clients see it",
    share="message",
    beyond="no URI matches the template",
    test="test_a_template_beyond_a_limit_matches_no_uri",
)
TEMPLATE_EXPRESSIONS: Final = Limit(
    name="template-expressions",
    value=256,
    unit="count",
    counts="expressions of one URI template",
    share="message",
    beyond="no URI matches the template",
    test="test_a_template_beyond_a_limit_matches_no_uri",
)
LIST_WAIT: Final = Limit(
    name="list-wait",
    value=20,
    unit="seconds",
    counts="time that a client's list request waits for the list of one backend",
    share="request",
    beyond="the response contains the backend's previous list; a later result is announced",
    test="test_a_list_waits_for_a_hung_backend_up_to_the_limit_even_without_a_cache",
)
OWN_REQUESTS: Final = Limit(
    "own-requests",
    4,
    "count",
    "consecutive list requests that a backend's notifications cause; one more is permitted every 2"
    " s",
    "backend",
    "further notifications are handled together, once a request is available",
    "test_requests_to_a_backend_that_announces_a_change_at_every_list_are_paced",
)
CALLER_LISTS: Final = Limit(
    name="caller-lists",
    value=1024,
    unit="count",
    counts="callers for whom the lists of a backend that is called on their behalf are cached",
    share="backend",
    beyond="the lists that were requested least recently are dropped",
    test="test_lists_of_many_callers_are_bounded_and_the_oldest_goes",
)
RETRY_PAUSE: Final = Limit(
    "retry-pause",
    60,
    "seconds",
    "pause before a stream of changes, or a program, that failed immediately is started again",
    "backend",
    "the pause grows no further",
    "test_the_pause_between_attempts_grows_up_to_its_limit",
)
