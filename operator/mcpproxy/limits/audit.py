"""Limits on what callers can make the audit log, the metrics and the admin port's page hold."""

from typing import Final

from mcpproxy.limits.limit import Limit

AUDITED_TEXT: Final = Limit(
    name="audited-text",
    value=512,
    unit="count",
    counts="characters of a name, URI or subject in an audit record",
    share="message",
    beyond="the text is cut and ends with an ellipsis",
    test="test_names_of_callers_are_cut_and_cleaned",
)
AUDITED_GROUPS: Final = Limit(
    name="audited-groups",
    value=100,
    unit="count",
    counts="groups, and scopes, of a caller in an audit record",
    share="message",
    beyond="the others are omitted, and the record says that it is incomplete",
    test="test_groups_beyond_the_limit_are_omitted",
)
AUDITED_ARGUMENTS: Final = Limit(
    name="audited-arguments",
    value=64 * 1024,
    unit="bytes",
    counts="bytes of the arguments that an audit record contains (spec.audit.arguments: Full)",
    share="message",
    beyond="the record has the digest and the size of the arguments instead",
    test="test_arguments_beyond_the_limit_are_recorded_by_their_digest",
)
AUDIT_BACKLOG: Final = Limit(
    name="audit-backlog",
    value=4 * 1024 * 1024,
    unit="bytes",
    counts="bytes of audit records that are not yet written",
    share="process",
    beyond="records are dropped and counted, or calls are refused (spec.audit.onFull)",
    test="test_records_beyond_the_backlog_are_dropped_and_counted",
)
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
    test="test_a_definition_beyond_the_limit_is_cut_with_a_note",
)
METERED_NAMES: Final = Limit(
    name="metered-names",
    value=200,
    unit="count",
    counts="listed tools and prompts of a backend whose names are labels of metrics",
    share="backend",
    beyond="further names, and names of more than 128 characters, are counted as _OTHER",
    test="test_names_beyond_the_limit_are_counted_together",
)
PROFILE_TIME: Final = Limit(
    name="profile-time",
    value=10,
    unit="seconds",
    counts="duration of one profile at the admin port; one is taken at a time",
    share="process",
    beyond="HTTP 400; HTTP 429 while a profile is being taken",
    test="test_a_profile_takes_ten_seconds_at_most_and_there_is_one_at_a_time",
)
PROFILE_STACKS: Final = Limit(
    name="profile-stacks",
    value=10_000,
    unit="count",
    counts="different stacks in one profile",
    share="process",
    beyond="further ones are counted together as (other)",
    test="test_stacks_beyond_the_limit_are_counted_together",
)
PROFILE_DEPTH: Final = Limit(
    name="profile-depth",
    value=128,
    unit="count",
    counts="functions of one stack in a profile",
    share="process",
    beyond="the outermost functions are left out",
    test="test_a_deep_stack_is_cut_at_its_outer_end",
)
COLLECTOR_ANSWER: Final = Limit(
    name="collector-answer",
    value=64 * 1024,
    unit="bytes",
    counts="bytes of a response of an OpenTelemetry collector",
    share="message",
    beyond="the rest is not read, and the connection is closed; the status of the response counts",
    test="test_the_response_of_a_collector_is_read_up_to_its_limit",
)
