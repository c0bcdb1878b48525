"""Limits on backends that use MCP extensions."""

from typing import Final

from mcpproxy.limits.limit import Limit

TASK_ID: Final = Limit(
    name="task-id",
    value=1024,
    unit="count",
    counts="characters of the id that a backend gives a task, if clients get sealed ids",
    share="message",
    beyond="the call ends with JSON-RPC error -32000; data.reason is NotMCP",
    test="test_a_task_id_beyond_the_limit_ends_the_call",
)
TASK_POLL: Final = Limit(
    name="task-poll",
    value=1,
    unit="seconds",
    counts="minimum time between two requests for the state of a task that a legacy client waits"
    " for",
    share="request",
    beyond="a backend that requests more frequent polling is polled at this interval",
    test="test_a_backend_that_requests_more_frequent_polling_does_not_get_it",
)
EXTENSION_LIST_WAIT: Final = Limit(
    name="extension-list-wait",
    value=10,
    unit="seconds",
    counts="time that a list of skills or tasks waits for one backend",
    share="request",
    beyond="the backend's entries are missing; if all backends fail, JSON-RPC error -32000",
    test="test_a_hanging_backend_delays_a_list_of_skills_up_to_the_limit",
)
EXTENSION_PAGE_BYTES: Final = Limit(
    name="extension-page-bytes",
    value=16 * 1024 * 1024,
    unit="bytes",
    counts="bytes of one page of a backend's list of skills or tasks",
    share="message",
    beyond="the backend's entries are missing; if all backends fail, JSON-RPC error -32000",
    test="test_a_page_of_skills_beyond_a_limit_is_left_out",
)
EXTENSION_PAGE_ITEMS: Final = Limit(
    name="extension-page-items",
    value=10_000,
    unit="count",
    counts="skills or tasks on one page of a backend's list",
    share="message",
    beyond="the backend's entries are missing; if all backends fail, JSON-RPC error -32000",
    test="test_a_page_of_skills_beyond_a_limit_is_left_out",
)
