"""The part of the runtime that other programs build on: `library` imports nothing else of it."""

from mcpproxy.proxy.bootstrap import (
    VERSION,
    build_audited_requests,
    build_backend_context,
    build_guard,
)
from mcpproxy.proxy.config.access import with_access
from mcpproxy.proxy.config.options import RuntimeOptions
from mcpproxy.proxy.config.proxy_config import ProxyConfig
from mcpproxy.proxy.config.targets import from_backends, from_mcp_servers, from_target
from mcpproxy.proxy.core.access import AccessDenied
from mcpproxy.proxy.core.catalog.catalog import Catalog
from mcpproxy.proxy.core.catalog.component_list import ComponentList
from mcpproxy.proxy.core.errors import (
    BackendError,
    ProtocolError,
    SessionNotFound,
    TimedOut,
    Unreachable,
)
from mcpproxy.proxy.core.exchange import (
    PROGRESS,
    CallContext,
    ClientIdentity,
    NotificationHandler,
    NullContext,
    ResumableStream,
)
from mcpproxy.proxy.core.identity import ANONYMOUS, Identity
from mcpproxy.proxy.core.tokens.sealed_tokens import Sealer
from mcpproxy.proxy.core.translation.era_translation import parse_meta
from mcpproxy.proxy.core.translation.request_names import (
    COMPLETE,
    ROUTED,
    component_ref,
    unknown_component_error,
)
from mcpproxy.proxy.core.translation.uri_templates import Uri
from mcpproxy.proxy.downstream.modern.input_required import SuspendedCalls
from mcpproxy.proxy.downstream.modern.requests import server_discover
from mcpproxy.proxy.downstream.standard_streams import NothingToServe
from mcpproxy.proxy.downstream.stdio import StdioServer
from mcpproxy.proxy.gateway.access_guard import AccessGuard
from mcpproxy.proxy.gateway.audited_requests import AuditedRequests
from mcpproxy.proxy.gateway.external_decisions import ExternalDecisions
from mcpproxy.proxy.gateway.gateway import Gateway
from mcpproxy.proxy.http1 import asgi
from mcpproxy.proxy.protocol import jsonrpc, revisions
from mcpproxy.proxy.protocol.jsonrpc import INVALID_PARAMS, METHOD_NOT_FOUND, Message, RpcError
from mcpproxy.proxy.protocol.kinds import (
    BY_METHOD,
    PROMPTS,
    RESOURCES,
    TEMPLATES,
    TOOLS,
    ComponentKind,
)
from mcpproxy.proxy.protocol.revisions import LATEST_LEGACY, LATEST_MODERN, is_modern
from mcpproxy.proxy.relay import relay_request
from mcpproxy.proxy.runtime import Runtime
from mcpproxy.proxy.upstream.backend import Backend
from mcpproxy.proxy.upstream.client_features import (
    ASKED,
    DECLARED,
    EVERYTHING,
    Answer,
    FeaturePolicy,
)
from mcpproxy.proxy.upstream.connect.negotiation import Connector, NegotiatingConnector
from mcpproxy.proxy.upstream.connect.stdio_connector import StdioConnector
from mcpproxy.proxy.upstream.context import BackendContext
from mcpproxy.proxy.upstream.factory import build_connector
from mcpproxy.proxy.upstream.transports.sdk_streams import (
    Transport,
    connect,
    in_memory_streams,
    lowlevel_server,
)
from mcpproxy.proxy.upstream.transports.session import (
    OnMessage,
    ServerDescription,
    TaskSet,
    UpstreamRequest,
    UpstreamSession,
)

__all__ = [
    "ANONYMOUS",
    "ASKED",
    "BY_METHOD",
    "COMPLETE",
    "DECLARED",
    "EVERYTHING",
    "INVALID_PARAMS",
    "LATEST_LEGACY",
    "LATEST_MODERN",
    "METHOD_NOT_FOUND",
    "PROGRESS",
    "PROMPTS",
    "RESOURCES",
    "ROUTED",
    "TEMPLATES",
    "TOOLS",
    "VERSION",
    "AccessDenied",
    "AccessGuard",
    "Answer",
    "AuditedRequests",
    "Backend",
    "BackendContext",
    "BackendError",
    "CallContext",
    "Catalog",
    "ClientIdentity",
    "ComponentKind",
    "ComponentList",
    "Connector",
    "ExternalDecisions",
    "FeaturePolicy",
    "Gateway",
    "Identity",
    "Message",
    "NegotiatingConnector",
    "NothingToServe",
    "NotificationHandler",
    "NullContext",
    "OnMessage",
    "ProtocolError",
    "ProxyConfig",
    "ResumableStream",
    "RpcError",
    "Runtime",
    "RuntimeOptions",
    "Sealer",
    "ServerDescription",
    "SessionNotFound",
    "StdioConnector",
    "StdioServer",
    "SuspendedCalls",
    "TaskSet",
    "TimedOut",
    "Transport",
    "Unreachable",
    "UpstreamRequest",
    "UpstreamSession",
    "Uri",
    "asgi",
    "build_audited_requests",
    "build_backend_context",
    "build_connector",
    "build_guard",
    "component_ref",
    "connect",
    "from_backends",
    "from_mcp_servers",
    "from_target",
    "in_memory_streams",
    "is_modern",
    "jsonrpc",
    "lowlevel_server",
    "parse_meta",
    "relay_request",
    "revisions",
    "server_discover",
    "unknown_component_error",
    "with_access",
]
