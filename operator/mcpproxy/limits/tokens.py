"""Limits on tokens for backends, on the authorization servers that issue them, and on sign-ins."""

from typing import Final

from mcpproxy.limits.limit import Limit

_KIB: Final = 1024

TOKEN_RESPONSE: Final = Limit(
    name="token-response",
    value=256 * _KIB,
    unit="bytes",
    counts="bytes of a response of an authorization server, or of the metadata that names it",
    share="message",
    beyond="the response is not used, and the request counts as failed",
    test="test_a_hostile_authorization_server_fails_calls_and_nothing_else",
)
TOKEN_TIME: Final = Limit(
    name="token-time",
    value=10,
    unit="seconds",
    counts="time in which an authorization server must issue a token, with its metadata",
    share="request",
    beyond="the request counts as failed",
    test="test_an_endless_response_of_an_authorization_server_is_given_up",
)
TOKEN_SIZE: Final = Limit(
    name="token-size",
    value=16 * _KIB,
    unit="bytes",
    counts="bytes of a token for a backend",
    share="message",
    beyond="the token is not used, and the request counts as failed",
    test="test_a_hostile_authorization_server_fails_calls_and_nothing_else",
)
TOKEN_REQUESTS: Final = Limit(
    name="token-requests",
    value=8,
    unit="count",
    counts="concurrent token requests for one backend; only one while they fail",
    share="backend",
    beyond="further requests wait for their turn, within the timeout of their call",
    test="test_a_failing_authorization_server_gets_one_request_a_second_of_all_callers",
)
CALLERS: Final = Limit(
    name="exchanging-callers",
    value=4096,
    unit="count",
    counts="principals for whom tokens for one backend are kept",
    share="backend",
    beyond="the tokens of the principal that was idle longest, in the network with the most"
    " principals, are exchanged again at its next call",
    test="test_callers_beyond_the_limit_displace_the_idlest_of_their_network",
)
TOKENS_OF_CALLER: Final = Limit(
    name="tokens-of-caller",
    value=8,
    unit="count",
    counts="tokens for one backend that are kept for a principal, one for each set of claims",
    share="principal",
    beyond="the least recently used one is exchanged again when it is needed",
    test="test_a_caller_with_many_sets_of_claims_displaces_only_its_own_tokens",
)
EXCHANGES: Final = Limit(
    name="exchanges",
    value=1,
    unit="1/s",
    counts="token exchanges for a principal and one backend, after a burst of 8",
    share="principal",
    beyond="the call waits up to 5 s, then it fails",
    test="test_a_caller_with_a_new_set_of_claims_in_each_request_is_slowed_down",
)
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
