"""Limits on credentials of clients, and on the issuers that publish keys."""

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
    beyond="the least recently used token of the principal with the most is verified again when it"
    " returns",
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
    counts="tokens from one network whose signature is wrong",
    share="network",
    beyond="HTTP 429 for tokens that were not verified before",
    test="test_a_network_that_forges_tokens_is_refused_without_verification",
)
FORGING_NETWORKS: Final = Limit(
    name="forging-networks",
    value=1024,
    unit="count",
    counts="networks from which tokens with wrong signatures came lately",
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
    beyond="earlier keys stay in use, and the status says so; without any, tokens get HTTP 503",
    test="test_an_issuer_that_does_not_answer_is_given_up",
)
KEYS_REFETCH: Final = Limit(
    name="keys-refetch",
    value=30,
    unit="seconds",
    counts="time between two fetches of keys because a token names an unknown key",
    share="process",
    beyond="tokens with unknown keys get HTTP 401 without a fetch",
    test="test_unknown_keys_cause_one_fetch_in_thirty_seconds",
)
KEYS_KEPT: Final = Limit(
    name="keys-kept",
    value=86_400,
    unit="seconds",
    counts="time for which keys are used after their issuer could last be reached",
    share="process",
    beyond="the keys are forgotten, and tokens get HTTP 503",
    test="test_keys_of_an_unreachable_issuer_are_forgotten_after_a_day",
)
