"""Limits on clients of the proxy: connections, requests, sessions and what they leave open."""

from typing import Final

from mcpproxy.limits.limit import Limit

NAME_LENGTH: Final = Limit(
    name="name-length",
    value=65536,
    unit="count",
    counts="characters of the name or URI of the component that a request is for",
    share="request",
    beyond="the error -32602, which names the field and the limit",
    test="test_a_name_or_uri_beyond_the_limit_is_refused_with_an_error_that_names_the_field",
)
URI_MATCHING: Final = Limit(
    name="uri-matching",
    value=16 * 1024 * 1024,
    unit="count",
    counts="steps of comparing one URI with all URI templates of a backend (bytes looked at)",
    share="request",
    beyond="the URI is taken for an expansion of none of the templates that may be used",
    test="test_a_uri_is_not_compared_any_more_once_that_took_too_many_steps",
)
