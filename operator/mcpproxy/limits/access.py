"""Limits on credentials of clients, the issuers that publish keys, and decisions about calls."""

from typing import Final

from mcpproxy.limits.limit import Limit

_KIB: Final = 1024

# Clients

CREDENTIALS: Final = Limit(
    name="credentials",
    value=16 * _KIB,
    unit="bytes",
    counts="bytes of the token or API key in Authorization",
    share="request",
    beyond="HTTP 401",
    test="test_a_token_beyond_the_limit_is_refused_before_it_is_read",
)
ADMISSIONS: Final = Limit(
    name="verified-tokens",
    value=10_000,
    unit="count",
    counts="verified tokens that are not verified again with each request",
    share="process",
    beyond="the least recently used token of the principal with the most tokens is verified again"
    " at its next use",
    test="test_a_principal_with_many_tokens_displaces_only_its_own",
)
ADMITTED_FOR: Final = Limit(
    name="verified-for",
    value=300,
    unit="seconds",
    counts="time for which a verified token is not verified again",
    share="request",
    beyond="the signature is verified again",
    test="test_a_token_is_verified_again_after_the_limit",
)
FORGERIES: Final = Limit(
    name="forged-signatures",
    value=200,
    unit="1/s",
    counts="tokens with a wrong signature from one network",
    share="network",
    beyond="HTTP 429 for requests with tokens that were not verified before",
    test="test_a_network_that_forges_tokens_is_refused_without_verification",
)
FORGING_NETWORKS: Final = Limit(
    name="forging-networks",
    value=1024,
    unit="count",
    counts="networks from which tokens with wrong signatures arrived recently",
    share="process",
    beyond="the network whose last wrong signature is oldest is forgotten",
    test="test_networks_with_forged_tokens_are_evicted_by_the_time_of_the_last_one",
)
WAITING_FOR_KEYS: Final = Limit(
    name="waiting-for-keys",
    value=256,
    unit="count",
    counts="requests that wait for an issuer's keys",
    share="process",
    beyond="HTTP 503",
    test="test_requests_beyond_the_limit_do_not_wait_for_keys",
)

# Issuers

KEY_DOCUMENT: Final = Limit(
    name="key-document",
    value=256 * _KIB,
    unit="bytes",
    counts="bytes of an issuer's metadata or key set",
    share="message",
    beyond="the document is not used; earlier keys stay in use",
    test="test_a_key_set_beyond_the_limit_is_not_read",
)
KEYS: Final = Limit(
    name="keys",
    value=100,
    unit="count",
    counts="keys in the key set of an issuer",
    share="message",
    beyond="further keys are ignored",
    test="test_keys_beyond_the_limit_are_ignored",
)
KEYS_FETCH: Final = Limit(
    name="keys-fetch",
    value=10,
    unit="seconds",
    counts="time in which the keys of an issuer must arrive, with the metadata that names them",
    share="request",
    beyond="earlier keys stay in use, and the status says so; without any keys, requests with"
    " tokens of the issuer get HTTP 503",
    test="test_an_issuer_that_does_not_answer_is_given_up",
)
KEYS_REFETCH: Final = Limit(
    name="keys-refetch",
    value=30,
    unit="seconds",
    counts="time between two fetches of keys because a token names an unknown key",
    share="process",
    beyond="requests with tokens of unknown keys get HTTP 401 without a fetch",
    test="test_unknown_keys_cause_one_fetch_in_thirty_seconds",
)
KEYS_KEPT: Final = Limit(
    name="keys-kept",
    value=86_400,
    unit="seconds",
    counts="time for which keys are used after their issuer could last be reached",
    share="process",
    beyond="the keys are forgotten, and requests with tokens of the issuer get HTTP 503",
    test="test_keys_of_an_unreachable_issuer_are_forgotten_after_a_day",
)

# Decisions about calls

ACCESS_CLASSES: Final = Limit(
    name="access-classes",
    value=128,
    unit="count",
    counts="sets of rules of spec.authorization that apply to some client, with their decisions",
    share="process",
    beyond="the least recently used one is dropped, and computed again for its next client",
    test="test_classes_beyond_the_limit_are_computed_again",
)
CLASS_LISTS: Final = Limit(
    name="class-lists",
    value=64 * 1024 * 1024,
    unit="bytes",
    counts="bytes of the merged lists of clients whose access spec.authorization restricts",
    share="process",
    beyond="the least recently used list is dropped, and merged again for its next client",
    test="test_lists_of_classes_beyond_the_limit_are_dropped",
)
CONDITION_BYTES: Final = Limit(
    name="condition-bytes",
    value=65536,
    unit="bytes",
    counts="bytes of the arguments of a call that is subject to a condition",
    share="message",
    beyond="the condition counts as false; without another rule, JSON-RPC error -32602",
    test="test_arguments_beyond_a_limit_meet_no_condition",
)
CONDITION_VALUES: Final = Limit(
    name="condition-values",
    value=1000,
    unit="count",
    counts="JSON values in the arguments of a call that is subject to a condition",
    share="message",
    beyond="the condition counts as false; without another rule, JSON-RPC error -32602",
    test="test_arguments_beyond_a_limit_meet_no_condition",
)
EXTERNAL_DECISIONS: Final = Limit(
    name="external-decisions",
    value=64,
    unit="count",
    counts="calls that wait for the service of spec.authorization.external",
    share="process",
    beyond="JSON-RPC error -32000, whatever onFailure says; clients with few calls keep a share",
    test="test_one_client_cannot_occupy_all_external_decisions",
)
EXTERNAL_TURNS: Final = Limit(
    name="external-turns",
    value=8,
    unit="count",
    counts="calls of one caller that the service of spec.authorization.external decides at a time",
    share="principal",
    beyond="calls wait for their turn; after spec.authorization.external.timeout they get JSON-RPC"
    " error -32602, whatever onFailure says",
    test="test_calls_that_wait_for_other_calls_of_their_caller_are_denied_whatever_on_failure_says",
)
EXTERNAL_QUESTION: Final = Limit(
    name="external-question",
    value=1024 * 1024,
    unit="bytes",
    counts="bytes of the input for the service of spec.authorization.external",
    share="message",
    beyond="JSON-RPC error -32602, whatever onFailure says",
    test="test_a_call_too_large_for_a_decision_is_denied_whatever_on_failure_says",
)
EXTERNAL_ANSWER: Final = Limit(
    name="external-answer",
    value=65536,
    unit="bytes",
    counts="bytes of a response of the service of spec.authorization.external",
    share="message",
    beyond="spec.authorization.external.onFailure decides",
    test="test_an_unreadable_response_of_the_service_counts_as_no_decision",
)
