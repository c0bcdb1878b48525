"""MCPProxy v1alpha1: the models of the spec and the status. Import the spec's models from here."""

from mcpproxy.api.v1alpha1.access.authorization import (
    Authorization,
    AuthorizationRule,
    Callers,
    ExternalDecision,
    Grant,
    ToolAnnotations,
)
from mcpproxy.api.v1alpha1.access.backend_auth import (
    BackendAuth,
    ClientCredentials,
    IdentityProvider,
    IdJag,
    OAuthClient,
    ServiceAccountToken,
    TokenClient,
    TokenExchange,
)
from mcpproxy.api.v1alpha1.access.limits import (
    LimitRule,
    Limits,
    Results,
    SharedLimits,
    ValkeyServer,
)
from mcpproxy.api.v1alpha1.audit import Audit
from mcpproxy.api.v1alpha1.authentication import (
    ApiKey,
    Authentication,
    JwtIssuer,
    ResourceMetadata,
    ServiceAccountTokens,
    TokenClaims,
)
from mcpproxy.api.v1alpha1.backend import (
    BackendNames,
    BackendSession,
    BackendSpec,
    Cache,
    CircuitBreaker,
    Protocol,
    ServiceRef,
    Session,
    SessionMode,
    Stdio,
    Timeouts,
    Transport,
)
from mcpproxy.api.v1alpha1.catalog import ApprovedComponents, CatalogSpec
from mcpproxy.api.v1alpha1.component_filters import ComponentNames, OnClash
from mcpproxy.api.v1alpha1.exposure.routes import Expose, IngressSpec, ParentRef, ServiceSpec
from mcpproxy.api.v1alpha1.extensions import Extensions
from mcpproxy.api.v1alpha1.monitoring import Monitoring, PodMonitor, Tracing
from mcpproxy.api.v1alpha1.pods.network_policy import NetworkPolicySpec
from mcpproxy.api.v1alpha1.pods.pod_template import PodTemplate
from mcpproxy.api.v1alpha1.pods.scaling import Autoscaling, DisruptionBudget
from mcpproxy.api.v1alpha1.references import EnvVar, Header, KeyRef, PrincipalFrom, ValueFrom
from mcpproxy.api.v1alpha1.spec import (
    NAME_MESSAGE,
    Health,
    LocalObjectReference,
    MCPProxy,
    MCPProxySpec,
    ObjectMeta,
    Resources,
)
from mcpproxy.api.v1alpha1.tls import Tls

__all__ = [
    "NAME_MESSAGE",
    "ApiKey",
    "ApprovedComponents",
    "Audit",
    "Authentication",
    "Authorization",
    "AuthorizationRule",
    "Autoscaling",
    "BackendAuth",
    "BackendNames",
    "BackendSession",
    "BackendSpec",
    "Cache",
    "Callers",
    "CatalogSpec",
    "CircuitBreaker",
    "ClientCredentials",
    "ComponentNames",
    "DisruptionBudget",
    "EnvVar",
    "Expose",
    "Extensions",
    "ExternalDecision",
    "Grant",
    "Header",
    "Health",
    "IdJag",
    "IdentityProvider",
    "IngressSpec",
    "JwtIssuer",
    "KeyRef",
    "LimitRule",
    "Limits",
    "LocalObjectReference",
    "MCPProxy",
    "MCPProxySpec",
    "Monitoring",
    "NetworkPolicySpec",
    "OAuthClient",
    "ObjectMeta",
    "OnClash",
    "ParentRef",
    "PodMonitor",
    "PodTemplate",
    "PrincipalFrom",
    "Protocol",
    "ResourceMetadata",
    "Resources",
    "Results",
    "ServiceAccountToken",
    "ServiceAccountTokens",
    "ServiceRef",
    "ServiceSpec",
    "Session",
    "SessionMode",
    "SharedLimits",
    "Stdio",
    "Timeouts",
    "Tls",
    "TokenClaims",
    "TokenClient",
    "TokenExchange",
    "ToolAnnotations",
    "Tracing",
    "Transport",
    "ValkeyServer",
    "ValueFrom",
]
