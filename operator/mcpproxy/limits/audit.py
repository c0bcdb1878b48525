"""Limits on what callers can make the audit log and the metrics hold or write."""

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
METERED_NAMES: Final = Limit(
    name="metered-names",
    value=200,
    unit="count",
    counts="listed tools and prompts of a backend whose names are labels of metrics",
    share="backend",
    beyond="further names, and names of more than 128 characters, are counted as _OTHER",
    test="test_names_beyond_the_limit_are_counted_together",
)
