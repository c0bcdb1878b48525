"""Limits on the data that the operator accepts from pods and the API server."""

from typing import Final

from mcpproxy.limits.limit import Limit

_CLOSED: Final = "the stream is closed, the report is dropped, and retries are up to 300 s apart"

FOLLOWED_PODS: Final = Limit(
    name="followed-pods",
    value=1_000,
    unit="count",
    counts="pods of one MCPProxy whose reports are read; as many as spec.replicas permits",
    share="proxy",
    beyond="further pods count as unreachable",
    test="test_pods_beyond_the_share_of_a_proxy_are_not_followed",
)
POD_CONNECT: Final = Limit(
    name="pod-connect",
    value=5,
    unit="seconds",
    counts="time to open a connection to a pod",
    share="connection",
    beyond="the pod counts as unreachable; retries are up to 5 s apart",
    test="test_a_missing_pod_is_unavailable",
)
FIRST_REPORT: Final = Limit(
    name="first-report",
    value=10,
    unit="seconds",
    counts="time from the start of a connection to the first line of the response's body",
    share="connection",
    beyond="the pod counts as unreachable; retries are up to 5 s apart",
    test="test_a_silent_stream_is_abandoned",
)
POD_SILENCE: Final = Limit(
    name="pod-silence",
    value=30,
    unit="seconds",
    counts="time until the next complete line of a stream; pods send one every 10 s",
    share="connection",
    beyond="the stream is closed; the last report is used for another 15 s",
    test="test_a_stream_without_a_complete_line_is_abandoned",
)
POD_HEADERS: Final = Limit(
    name="pod-headers",
    value=64,
    unit="count",
    counts="headers of a pod's response",
    share="message",
    beyond="the pod counts as unreachable; retries are up to 5 s apart",
    test="test_a_head_without_end_is_refused",
)
POD_HEADER: Final = Limit(
    name="pod-header",
    value=4_096,
    unit="bytes",
    counts="the status line, and the name and value of one header, of a pod's response",
    share="message",
    beyond="the pod counts as unreachable; retries are up to 5 s apart",
    test="test_a_head_without_end_is_refused",
)
POD_SEGMENT: Final = Limit(
    name="pod-segment",
    value=16_384,
    unit="bytes",
    counts="receive buffer of the socket, and therefore the input of one step of the event loop",
    share="connection",
    beyond="TCP flow control slows the pod down",
    test="test_a_flood_of_input_is_processed_in_small_steps",
)
REPORT_LINE: Final = Limit(
    name="report-line",
    value=524_288,
    unit="bytes",
    counts="one line of a stream, without its line feed",
    share="message",
    beyond=_CLOSED,
    test="test_a_line_without_end_is_refused",
)
REPORT_PIECES: Final = Limit(
    name="report-pieces",
    value=1_024,
    unit="count",
    counts="HTTP chunks, or reads from the socket, in which one line arrives",
    share="message",
    beyond=_CLOSED,
    test="test_a_line_in_countless_chunks_is_refused",
)
POD_LINES: Final = Limit(
    name="pod-lines",
    value=500,
    unit="count",
    counts="lines of one pod within 10 s, including blank ones",
    share="pod",
    beyond=_CLOSED,
    test="test_the_stream_of_a_pod_that_sends_too_many_lines_is_closed_with_growing_pauses",
)
PROXY_LINES: Final = Limit(
    name="proxy-lines",
    value=100,
    unit="1/s",
    counts="lines of all pods of one MCPProxy; a burst may contain the lines of 10 s",
    share="proxy",
    beyond="the operator reads these pods no faster",
    test="test_the_pods_of_one_proxy_share_one_rate_and_others_have_their_own",
)
PROXY_BYTES: Final = Limit(
    name="proxy-bytes",
    value=1_048_576,
    unit="bytes/s",
    counts="bytes of all pods of one MCPProxy; a burst may contain the bytes of 10 s",
    share="proxy",
    beyond="the operator reads these pods no faster",
    test="test_the_pods_of_one_proxy_share_one_rate_and_others_have_their_own",
)

_CUT: Final = "the text is cut and ends with an ellipsis"

REPORT_BACKENDS: Final = Limit(
    name="report-backends",
    value=64,
    unit="count",
    counts="backends in one report; as many as spec.backends permits",
    share="message",
    beyond="further backends are omitted",
    test="test_an_oversized_report_is_truncated_and_never_refused",
)
REPORT_NAMES: Final = Limit(
    name="report-names",
    value=20,
    unit="count",
    counts="names of components in one list of a report: clashes, or one kind of drift",
    share="message",
    beyond="further names are left out",
    test="test_an_oversized_report_is_truncated_and_never_refused",
)
REPORT_KINDS: Final = Limit(
    name="report-kinds",
    value=4,
    unit="count",
    counts="kinds of components that one backend does not offer; there are four kinds",
    share="message",
    beyond="further kinds are left out",
    test="test_an_oversized_report_is_truncated_and_never_refused",
)
TOKEN_KEYS: Final = Limit(
    name="token-keys",
    value=256 * 1024,
    unit="bytes",
    counts="bytes of the keys of ServiceAccount tokens that the API server publishes",
    share="process",
    beyond="the earlier keys stay in the ConfigMap, and the status says so",
    test="test_keys_that_no_config_map_can_hold_are_not_delivered",
)
REPORT_ISSUERS: Final = Limit(
    name="report-issuers",
    value=18,
    unit="count",
    counts="issuers of tokens in one report, with the cluster and the API keys",
    share="message",
    beyond="further issuers are left out",
    test="test_an_oversized_report_is_truncated_and_never_refused",
)
REPORT_WORD: Final = Limit(
    name="report-word",
    value=64,
    unit="count",
    counts="characters of a reason, hash or revision in a report",
    share="message",
    beyond=_CUT,
    test="test_an_oversized_report_is_truncated_and_never_refused",
)
REPORT_NAME: Final = Limit(
    name="report-name",
    value=200,
    unit="count",
    counts="characters of a name or version of a server or component in a report",
    share="message",
    beyond=_CUT,
    test="test_an_oversized_report_is_truncated_and_never_refused",
)
REPORT_MESSAGE: Final = Limit(
    name="report-message",
    value=768,
    unit="count",
    counts="characters of the message about one backend",
    share="message",
    beyond=_CUT,
    test="test_an_oversized_report_is_truncated_and_never_refused",
)
REPORT_COUNT: Final = Limit(
    name="report-count",
    value=2**31 - 1,
    unit="count",
    counts="components of one kind of one backend",
    share="message",
    beyond="the largest permitted number is reported",
    test="test_an_oversized_report_is_truncated_and_never_refused",
)
ROUTE_MESSAGE: Final = Limit(
    name="route-message",
    value=512,
    unit="count",
    counts="characters of the message of one Gateway about a route, or of an address of an Ingress",
    share="message",
    beyond=_CUT,
    test="test_the_text_of_a_gateway_is_cut_and_cleaned",
)
CONDITION_MESSAGE: Final = Limit(
    name="condition-message",
    value=8_192,
    unit="count",
    counts="characters of the message of one condition",
    share="message",
    beyond=_CUT,
    test="test_the_message_of_a_condition_is_cut",
)
STATUS_SIZE: Final = Limit(
    name="status-size",
    value=262_144,
    unit="bytes",
    counts="the whole status as JSON, as the API server stores it",
    share="proxy",
    beyond="messages of backends are cut further, then servers and messages are omitted",
    test="test_a_status_accepts_every_report_of_pods",
)
REPORT_PASSES: Final = Limit(
    name="report-passes",
    value=2,
    unit="1/s",
    counts="reconciliations of one MCPProxy that its pods' reports cause; the first is immediate",
    share="proxy",
    beyond="changes wait for the next reconciliation",
    test="test_rapid_changes_share_one_pass",
)
RESPONSE_BYTES: Final = Limit(
    name="api-response",
    value=8 * 1024 * 1024,
    unit="bytes",
    counts="bytes of a response of the API server",
    share="request",
    beyond="the connection is closed; a list is read again with fewer objects in a page",
    test="test_a_page_of_large_objects_is_read_in_smaller_pages",
)
LIST_BYTES: Final = Limit(
    name="api-list",
    value=8 * 1024 * 1024,
    unit="bytes",
    counts="bytes of the objects with the labels of one MCPProxy that one list returns",
    share="proxy",
    beyond="the condition Ready of this MCPProxy says so, and its children stay as they are",
    test="test_a_list_beyond_its_limit_is_an_error_of_its_mcpproxy",
)
LISTS: Final = Limit(
    name="api-lists",
    value=4,
    unit="count",
    counts="lists that the operator reads at the same time",
    share="process",
    beyond="further lists wait for their turn",
    test="test_lists_are_read_a_few_at_a_time",
)
STORED_OF_PROXY: Final = Limit(
    name="stored-of-proxy",
    value=1024 * 1024,
    unit="bytes",
    counts="bytes, compressed, of the objects of one kind that the operator keeps of an MCPProxy",
    share="proxy",
    beyond="further objects are not kept, and passes of this MCPProxy read them",
    test="test_objects_beyond_the_share_of_an_mcpproxy_are_not_kept",
)
STORED_OF_NAMESPACE: Final = Limit(
    name="stored-of-namespace",
    value=8 * 1024 * 1024,
    unit="bytes",
    counts="bytes, compressed, of the objects of one kind that the operator keeps of a namespace",
    share="proxy",
    beyond="further objects are not kept, and passes of their MCPProxies read them",
    test="test_objects_beyond_the_share_of_a_namespace_are_not_kept",
)
HEALTH_CONNECTIONS: Final = Limit(
    name="health-connections",
    value=256,
    unit="count",
    counts="connections to the operator's port for probes and metrics",
    share="process",
    beyond="the oldest connection of the address with the most connections is closed",
    test="test_the_address_with_the_most_connections_makes_room",
)
HEALTH_SHARE: Final = Limit(
    name="health-connections-share",
    value=16,
    unit="count",
    counts="connections to this port from one address",
    share="network",
    beyond="further connections are closed",
    test="test_an_address_has_a_share_of_the_connections",
)
HEALTH_SILENCE: Final = Limit(
    name="health-silence",
    value=60,
    unit="seconds",
    counts="time of a connection to this port without a response",
    share="connection",
    beyond="the connection is closed",
    test="test_a_connection_without_a_whole_request_is_closed",
)
