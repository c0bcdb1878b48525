"""Limits on messages between instances of one proxy, and between workers of one instance.

An instance here is a process that serves clients: a pod, or one of its workers.
"""

from typing import Final

from mcpproxy.limits.limit import Limit

HELLO: Final = Limit(
    name="instance-hello",
    value=4096,
    unit="bytes",
    counts="first bytes of a connection, with which an instance begins TLS",
    share="connection",
    beyond="HTTP 400, as for other bytes that are not HTTP/1.1, and the connection is closed",
    test="test_a_tls_hello_that_is_too_long_is_refused_as_a_malformed_request",
)
HANDSHAKE: Final = Limit(
    name="instance-handshake",
    value=5,
    unit="seconds",
    counts="time of a connection's TLS handshake, in which both ends prove the sealing key",
    share="connection",
    beyond="the connection is closed",
    test="test_a_stalled_handshake_ends_at_its_deadline",
)
HANDSHAKES: Final = Limit(
    name="instance-handshakes",
    value=256,
    unit="count",
    counts="accepted connections whose TLS handshake is incomplete",
    share="process",
    beyond="the new connection is closed",
    test="test_connections_beyond_the_limit_of_handshakes_are_closed",
)
CONNECT: Final = Limit(
    name="instance-connect",
    value=5,
    unit="seconds",
    counts="time to open a connection to another instance that proves the sealing key",
    share="connection",
    beyond="the instance counts as terminated until it is tried again",
    test="test_an_address_that_accepts_silently_counts_as_terminated",
)
CONNECTING: Final = Limit(
    name="instance-connecting",
    value=16,
    unit="count",
    counts="connections to another instance that are being opened",
    share="instance",
    beyond="the request waits until one of them is open or has failed",
    test="test_an_unreachable_instance_is_not_connected_to_by_every_waiting_request",
)
RETRY_FIRST: Final = Limit(
    name="instance-retry-first",
    value=5,
    unit="seconds",
    counts="time after the first failed connection for which an instance is not tried again",
    share="instance",
    beyond="requests are treated as if the instance had terminated",
    test="test_an_unreachable_instance_is_tried_again_after_growing_intervals",
)
RETRY_LAST: Final = Limit(
    name="instance-retry-last",
    value=60,
    unit="seconds",
    counts="time after repeated failures for which an instance is not tried again; it doubles up"
    " to this",
    share="instance",
    beyond="requests are treated as if the instance had terminated",
    test="test_an_unreachable_instance_is_tried_again_after_growing_intervals",
)
FORWARDED: Final = Limit(
    name="instance-requests",
    value=1024,
    unit="count",
    counts="concurrent requests and streams that another instance serves for this one",
    share="instance",
    beyond="HTTP 503",
    test="test_requests_beyond_the_share_of_an_instance_get_503",
)
KNOWN: Final = Limit(
    name="instances",
    value=256,
    unit="count",
    counts="other instances for which connections and failures are remembered",
    share="process",
    beyond="the least recently used instance is forgotten; HTTP 503 if all of them serve requests",
    test="test_the_instance_used_longest_ago_is_forgotten",
)
SILENCE: Final = Limit(
    name="instance-silence",
    value=120,
    unit="seconds",
    counts="time without a byte of a response; instances send a comment every 15 s",
    share="request",
    beyond="HTTP 504, or the response is cut off; the session continues",
    test="test_a_silent_instance_ends_the_request_and_not_the_session",
)
ANSWER: Final = Limit(
    name="instance-answer",
    value=10,
    unit="seconds",
    counts="time of an exchange about a session between instances for which no client waits",
    share="request",
    beyond="the exchange is abandoned; the session continues",
    test="test_an_instance_that_never_confirms_a_session_does_not_delay_requests",
)
ANSWER_SIZE: Final = Limit(
    name="instance-answer-size",
    value=65536,
    unit="bytes",
    counts="response body of an exchange about a session between instances",
    share="request",
    beyond="the exchange is abandoned; the session continues",
    test="test_an_oversized_session_state_of_an_instance_is_abandoned",
)
SHARED_WITH: Final = Limit(
    name="instances-of-a-session",
    value=64,
    unit="count",
    counts="instances that serve a session and receive its changes",
    share="session",
    beyond="the instance that synchronized longest ago receives no changes until it does again",
    test="test_a_session_is_shared_with_a_bounded_number_of_instances",
)
TICKETS: Final = Limit(
    name="opened-session-ids",
    value=4096,
    unit="count",
    counts="session ids whose decrypted form is cached",
    share="process",
    beyond="the cache is emptied, and ids are decrypted again",
    test="test_opened_session_ids_are_cached_in_a_bounded_number",
)
LEASE_TIME: Final = Limit(
    name="lease-time",
    value=2,
    unit="seconds",
    counts="time to get calls for spec.limits from another instance, or from the Valkey server",
    share="request",
    beyond="spec.limits.onStoreFailure applies to the call",
    test="test_a_call_waits_for_a_silent_store_for_a_bounded_time",
)
HOLD_TIME: Final = Limit(
    name="hold-time",
    value=10,
    unit="seconds",
    counts="time after its last confirmation for which an instance holds slots of inFlight; it"
    " confirms them every 3 s",
    share="instance",
    beyond="the slots are free for other instances",
    test="test_slots_of_an_instance_that_was_killed_become_free",
)
COUNTING_TASKS: Final = Limit(
    name="counting-messages",
    value=256,
    unit="count",
    counts="messages to other instances about counted calls, if no call waits for the response",
    share="process",
    beyond="the message is not sent; if the owner ends, the calls in it are unknown",
    test="test_messages_beyond_the_limit_are_not_sent",
)
WATCH_MESSAGE: Final = Limit(
    name="watch-message",
    value=65536,
    unit="bytes",
    counts="one message in which an instance tells which backends it watches",
    share="request",
    beyond="HTTP 400; this instance watches the backends itself",
    test="test_a_message_about_watches_that_is_too_large_is_refused",
)
WATCH_TASKS: Final = Limit(
    name="watch-greetings",
    value=16,
    unit="count",
    counts="senders of messages about watches that are asked to prove their address",
    share="process",
    beyond="the message is ignored; the sender is found by its name in the DNS",
    test="test_senders_that_do_not_prove_their_address_are_met_in_a_bounded_number",
)
