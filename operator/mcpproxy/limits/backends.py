"""Limits on backends: connections to them, their messages, lists, requests and sessions."""

from typing import Final

from mcpproxy.limits.limit import Limit

# Sessions that clients need with one backend

UPSTREAM_SESSIONS: Final = Limit(
    "upstream-sessions",
    512,
    "count",
    "sessions that are open with one backend; the last eighth is for clients with few, and as many"
    " again may be about to end",
    "backend",
    "the least recently used idle session of whichever client has most ends; without an idle"
    " one, JSON-RPC error -32000 (Overloaded)",
    "test_beyond_the_limit_the_idlest_session_of_whoever_holds_most_ends",
)
WARM_SESSIONS: Final = Limit(
    "warm-sessions",
    36,
    "count",
    "sessions of one backend that wait unused for requests",
    "backend",
    "no further session is opened in advance",
    "test_warm_sessions_are_few_however_many_requests_come",
)
CLIENT_KINDS: Final = Limit(
    "client-kinds",
    1024,
    "count",
    "kinds of clients (principal, revision, capabilities, information) for which a backend is"
    " known to keep no session, or sessions are kept warm",
    "backend",
    "the oldest kind of whichever client has most is forgotten, and found out again",
    "test_clients_of_many_kinds_do_not_make_those_of_others_forgotten",
)
