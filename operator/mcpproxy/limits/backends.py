"""Limits on backends: connections to them, their messages, lists, requests and sessions."""

from typing import Final

from mcpproxy.limits.limit import Limit

PROGRAM_LINE: Final = Limit(
    name="program-line",
    value=64 * 1024 * 1024,
    unit="bytes",
    counts="bytes of one line on the standard output of a stdio server, without its end",
    share="message",
    beyond="the line is discarded; the request that it responds to ends with error -32000",
    test="test_a_response_beyond_the_limit_ends_its_request_and_the_next_one_is_answered",
)
PROGRAM_INPUT: Final = Limit(
    name="program-input",
    value=30,
    unit="seconds",
    counts="time that a message waits until a stdio server reads its standard input",
    share="message",
    beyond="the message is not sent; its request ends with error -32000",
    test="test_a_program_that_does_not_read_holds_a_message_only_so_long",
)
PROGRAM_END: Final = Limit(
    name="program-end",
    value=2,
    unit="seconds",
    counts="time that a stdio server has to end after the end of its input, and after SIGTERM",
    share="session",
    beyond="SIGTERM, and then SIGKILL, to its process group",
    test="test_a_process_that_does_not_end_is_killed_with_all_its_children",
)
PROGRAM_ERROR_LINE: Final = Limit(
    name="program-error-line",
    value=2000,
    unit="bytes",
    counts="bytes of one line on the standard error of a stdio server",
    share="message",
    beyond="the rest of the line is discarded",
    test="test_a_flood_of_stderr_holds_nothing_up_and_is_not_kept",
)
PROGRAM_ERROR_LINES: Final = Limit(
    name="program-error-lines",
    value=100,
    unit="1/s",
    counts="lines of the standard error of a stdio server that are logged",
    share="session",
    beyond="further lines of that second are read and not logged",
    test="test_lines_of_stderr_beyond_the_limit_are_read_and_not_logged",
)
