"""Limits on the event streams of backends."""

from typing import Final

from mcpproxy.limits.limit import Limit

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
    test="test_a_stream_that_ends_early_again_and_again_is_abandoned",
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
