"""Limits on the sign-ins of a user to backends."""

from typing import Final

from mcpproxy.limits.limit import Limit

_KIB: Final = 1024

SIGN_IN_TIME: Final = Limit(
    name="sign-in-time",
    value=300,
    unit="seconds",
    counts="time in which a user must sign in to a backend",
    share="backend",
    beyond="the backend is Unauthorized with the reason SignInNeeded",
    test="test_a_sign_in_without_an_answer_is_given_up_and_not_offered_again_at_once",
)
SIGN_IN_PAUSE: Final = Limit(
    name="sign-in-pause",
    value=600,
    unit="seconds",
    counts="time between a sign-in that failed and the next one that opens a browser",
    share="backend",
    beyond="calls fail with the reason SignInNeeded",
    test="test_a_sign_in_without_an_answer_is_given_up_and_not_offered_again_at_once",
)
SIGN_IN_FILE: Final = Limit(
    name="sign-in-file",
    value=256 * _KIB,
    unit="bytes",
    counts="bytes of a file with the tokens of a sign-in",
    share="backend",
    beyond="the file is not used, and the user signs in again",
    test="test_a_file_that_others_may_have_written_is_not_used",
)
CALLBACK_HEAD: Final = Limit(
    name="callback-head",
    value=16 * _KIB,
    unit="bytes",
    counts="bytes of a request at the redirect URI of a sign-in",
    share="message",
    beyond="the connection is closed",
    test="test_requests_other_than_the_redirect_do_not_end_a_sign_in",
)
CALLBACK_TIME: Final = Limit(
    name="callback-time",
    value=10,
    unit="seconds",
    counts="time in which a request at the redirect URI of a sign-in must arrive",
    share="connection",
    beyond="the connection is closed",
    test="test_a_silent_connection_at_the_redirect_uri_is_closed",
)
CALLBACKS: Final = Limit(
    name="callbacks",
    value=8,
    unit="count",
    counts="connections at the redirect URI of a sign-in",
    share="backend",
    beyond="further connections are closed",
    test="test_requests_other_than_the_redirect_do_not_end_a_sign_in",
)
