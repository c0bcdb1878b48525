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
    test="test_a_backend_that_holds_back_its_response_to_initialized_is_used_all_the_same",
)
SESSION_CHECK_TIME: Final = Limit(
    name="session-check-time",
    value=5,
    unit="seconds",
    counts="time to find out whether a session that refused a request still exists",
    share="request",
    beyond="the refusal is passed on unchanged",
    test="test_a_refusal_is_forwarded_where_the_session_cannot_be_asked",
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
    test="test_a_backend_that_introduces_itself_at_too_great_a_length_is_not_used",
)
