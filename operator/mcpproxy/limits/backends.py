"""Limits on backends: connections to them, their messages, lists, requests and sessions."""

from typing import Final

from mcpproxy.limits.limit import Limit

TEMPLATE_LENGTH: Final = Limit(
    name="template-length",
    value=8192,
    unit="count",
    counts="characters of one URI template, as clients see it",
    share="message",
    beyond="no URI is taken for an expansion of the template",
    test="test_a_template_beyond_a_limit_stands_for_no_uri",
)
TEMPLATE_EXPRESSIONS: Final = Limit(
    name="template-expressions",
    value=256,
    unit="count",
    counts="expressions of one URI template",
    share="message",
    beyond="no URI is taken for an expansion of the template",
    test="test_a_template_beyond_a_limit_stands_for_no_uri",
)
LIST_WAIT: Final = Limit(
    name="list-wait",
    value=5,
    unit="seconds",
    counts="time that a list of a client waits for the list of one backend",
    share="request",
    beyond="the list shows what the backend listed before; what comes later is announced",
    test="test_a_list_waits_for_a_hung_backend_only_so_long_even_without_a_cache",
)
