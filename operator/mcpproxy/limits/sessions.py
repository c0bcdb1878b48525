"""Limits on opening sessions with backends and on finding out their properties."""

from typing import Final

from mcpproxy.limits.limit import Limit

PROBE_TIME: Final = Limit(
    name="probe-time",
    value=5,
    unit="seconds",
    counts="time to the HTTP response to server/discover, if the era is unknown",
    share="session",
    beyond="the session starts with initialize",
    test="test_an_inconclusive_probe_is_followed_by_initialize",
)
PROGRAM_PROBE_TIME: Final = Limit(
    name="program-probe-time",
    value=2,
    unit="seconds",
    counts="time to a program's response to server/discover, if its era is unknown",
    share="session",
    beyond="initialize is sent as well, and the first response that names an era decides",
    test="test_a_program_that_ignores_discover_gets_initialize_in_the_same_process",
)
INITIALIZED_TIME: Final = Limit(
    name="initialized-time",
    value=2,
    unit="seconds",
    counts="time to the HTTP response to notifications/initialized",
    share="session",
    beyond="requests are sent without further waiting",
    test="test_a_backend_that_does_not_respond_to_initialized_is_used",
)
SESSION_CHECK_TIME: Final = Limit(
    name="session-check-time",
    value=5,
    unit="seconds",
    counts="time to find out whether a session that refused a request still exists",
    share="request",
    beyond="the refusal is passed on unchanged",
    test="test_a_refusal_is_forwarded_if_the_session_cannot_be_pinged",
)
OPENING_WAIT: Final = Limit(
    name="opening-wait",
    value=5,
    unit="seconds",
    counts="time that the response to initialize waits for a backend with PerClient to open the"
    " client's session",
    share="session",
    beyond="the session is opened later, and ends with its instance",
    test="test_a_backend_that_opens_a_session_slowly_delays_initialize_for_a_bounded_time",
)
COOKIES: Final = Limit(
    name="cookies",
    value=8 * 1024,
    unit="bytes",
    counts="cookies that a backend sets when a session starts",
    share="session",
    beyond="further cookies are not sent back",
    test="test_cookies_beyond_the_limit_are_not_sent_back",
)
GREETING: Final = Limit(
    name="greeting",
    value=1024 * 1024,
    unit="bytes",
    counts="bytes of the result of initialize or server/discover, whose capabilities and"
    " instructions reach all clients",
    share="session",
    beyond="the session is not opened: the error NotMCP",
    test="test_a_backend_with_an_oversized_initialize_result_is_not_used",
)
SPARE_PROGRAMS: Final = Limit(
    "spare-programs",
    4,
    "count",
    "processes of one stdio server that are started before a request needs them",
    "backend",
    "no further process is started in advance",
    "test_programs_that_wait_are_few_however_many_are_taken",
)

# Streams

EVENT_ID: Final = Limit(
    name="event-id",
    value=8 * 1024,
    unit="bytes",
    counts="bytes of the id of an event, which is sent back to resume the stream",
    share="message",
    beyond="the id is ignored: the stream cannot be resumed after this event",
    test="test_an_event_id_that_no_header_could_carry_is_ignored",
)
RESUMED_STREAMS: Final = Limit(
    name="resumed-streams",
    value=100,
    unit="count",
    counts="times that the stream of a response ends early and is resumed",
    share="request",
    beyond="the request ends with an error",
    test="test_a_stream_that_repeatedly_ends_early_is_abandoned",
)
STANDING_MESSAGES: Final = Limit(
    name="standing-messages",
    value=1000,
    unit="1/s",
    counts="messages on HTTP GET streams and on subscriptions/listen streams",
    share="backend",
    beyond="these streams are read no faster",
    test="test_an_endless_stream_of_notifications_yields_to_other_work",
)
EVENT_LINES: Final = Limit(
    name="event-lines",
    value=100_000,
    unit="1/s",
    counts="lines of event streams, beyond four for each event",
    share="backend",
    beyond="event streams of the backend are read no faster",
    test="test_lines_without_messages_are_read_at_a_limited_rate",
)
EVENT_LINES_AHEAD: Final = Limit(
    name="event-lines-ahead",
    value=20_000,
    unit="count",
    counts="lines of event streams, beyond four for each event, that are read at once after a"
    " pause",
    share="backend",
    beyond="event streams of the backend are read no faster than `event-lines`",
    test="test_lines_without_messages_are_read_at_a_limited_rate",
)
