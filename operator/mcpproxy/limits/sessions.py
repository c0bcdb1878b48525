"""Limits on how sessions with backends begin, and on what is found out about them."""

from typing import Final

from mcpproxy.limits.limit import Limit

PROBE_TIME: Final = Limit(
    name="probe-time",
    value=5,
    unit="seconds",
    counts="the time to the HTTP response of server/discover, where the era is not known",
    share="session",
    beyond="the session begins with initialize",
    test="test_a_probe_that_comes_to_nothing_is_followed_by_initialize",
)
PROGRAM_PROBE_TIME: Final = Limit(
    name="program-probe-time",
    value=2,
    unit="seconds",
    counts="the time to a program's response to server/discover, where its era is not known",
    share="session",
    beyond="initialize is sent, too; the first response that names an era decides",
    test="test_a_program_that_ignores_discover_gets_initialize_in_the_same_process",
)
INITIALIZED_TIME: Final = Limit(
    name="initialized-time",
    value=2,
    unit="seconds",
    counts="the time to the HTTP response of notifications/initialized",
    share="session",
    beyond="requests are sent without waiting for it any longer",
    test="test_a_backend_that_holds_back_its_response_to_initialized_is_used_all_the_same",
)
SESSION_CHECK_TIME: Final = Limit(
    name="session-check-time",
    value=5,
    unit="seconds",
    counts="the time in which a session that refused a request is asked whether it still exists",
    share="request",
    beyond="the refusal is passed on as it came",
    test="test_a_refusal_is_passed_on_where_the_session_can_not_be_asked",
)
COOKIES: Final = Limit(
    name="cookies",
    value=8 * 1024,
    unit="bytes",
    counts="cookies that a backend sets as a session begins",
    share="session",
    beyond="those beyond are not sent back",
    test="test_cookies_beyond_the_limit_are_not_sent_back",
)
GREETING: Final = Limit(
    name="greeting",
    value=1024 * 1024,
    unit="bytes",
    counts="bytes of the result of initialize or server/discover: capabilities and instructions,"
    " which all clients get",
    share="session",
    beyond="the session is not opened: the error NotMCP",
    test="test_a_backend_that_introduces_itself_at_too_great_a_length_is_not_used",
)
