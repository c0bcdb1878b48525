"""Names of the metrics and labels in the dashboard's queries.

A metric that is renamed is renamed here, and in manifests/monitoring/rules.yaml.
"""

from typing import Final

CALLS: Final = "mcp_client_operation_duration_seconds_count"
CALL_SECONDS: Final = "mcp_client_operation_duration_seconds_bucket"
CALL_BACKEND: Final = "mcpproxy_backend"
METHOD: Final = "mcp_method_name"
OUTCOME: Final = "error_type"
SUCCESS: Final = ""
NOT_FAILED: Final = "|cancelled|StalledClient|tool_error"
"""Outcomes of calls that are no failure of the backend, as in the alert MCPProxyCallsFail."""
REQUESTS: Final = "mcp_server_operation_duration_seconds_count"
TOOL: Final = "gen_ai_tool_name"

BACKEND: Final = "backend"
STATE: Final = "mcpproxy_backend_state"
COMPONENTS: Final = "mcpproxy_components"
LIST_REQUESTS: Final = "mcpproxy_list_requests_total"
LIST_METHOD: Final = "method"
ISOLATED_REQUESTS: Final = "mcpproxy_isolated_requests_total"
BACKEND_SESSIONS: Final = "mcpproxy_backend_sessions"
CLIENT_SESSIONS: Final = "mcpproxy_client_sessions"
CLIENT_STREAMS: Final = "mcpproxy_client_streams"
IN_FLIGHT: Final = "mcpproxy_calls_in_flight"
PARKED: Final = "mcpproxy_calls_parked"
LIMIT_REACHED: Final = "mcpproxy_limit_reached_total"

LEADER: Final = "leader_election_master_status"
QUEUE: Final = "workqueue_depth"
QUEUE_SECONDS: Final = "workqueue_queue_duration_seconds_bucket"
RECONCILIATIONS: Final = "controller_runtime_reconcile_total"
RECONCILE_SECONDS: Final = "controller_runtime_reconcile_time_seconds_bucket"
BUILD: Final = "mcpproxy_operator_build_info"
WRITES: Final = "mcpproxy_operator_writes_total"
POD_STREAMS: Final = "mcpproxy_operator_pod_streams"
WATCH_AGE: Final = "mcpproxy_operator_watch_age_seconds"
WATCH_BEHIND: Final = "mcpproxy_operator_watch_behind_seconds"
UNWRITTEN: Final = "mcpproxy_operator_statuses_unwritten"
MEMORY: Final = "process_resident_memory_bytes"
CPU: Final = "process_cpu_seconds_total"
