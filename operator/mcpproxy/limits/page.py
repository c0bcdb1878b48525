"""Limits on what visitors of the admin port and callers can make its page hold or show."""

from typing import Final

from mcpproxy.limits.limit import Limit

STATUS_WATCHERS: Final = Limit(
    name="status-watchers",
    value=64,
    unit="count",
    counts="open streams of the admin port: /status?watch and those of open pages",
    share="process",
    beyond="the oldest stream of the address with the most streams ends, and may be opened again",
    test="test_watchers_beyond_the_limit_end_the_oldest_of_the_address_with_the_most",
)
RECENT_CALLS: Final = Limit(
    name="recent-calls",
    value=200,
    unit="count",
    counts="ended calls that the page of the admin port shows",
    share="process",
    beyond="the oldest call is no longer shown",
    test="test_the_oldest_calls_make_room_for_new_ones",
)
RECENT_CALL_TEXT: Final = Limit(
    name="recent-call-text",
    value=256,
    unit="count",
    counts="characters of the method, and of the name or URI, of a call that the page shows",
    share="message",
    beyond="the rest is not kept",
    test="test_long_names_of_recent_calls_are_cut",
)
SHOWN_COMPONENT: Final = Limit(
    name="shown-component",
    value=256 * 1024,
    unit="count",
    counts="characters of the description, and of the definition, of a component on the page",
    share="message",
    beyond="the rest is not shown; its length is",
    test="test_a_definition_beyond_the_limit_is_cut_and_says_so",
)
