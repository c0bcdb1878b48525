"""Types and reasons of conditions."""

from typing import Final

ACCEPTED: Final = "Accepted"
AVAILABLE: Final = "Available"
BACKENDS_HEALTHY: Final = "BackendsHealthy"
READY: Final = "Ready"
RECONCILING: Final = "Reconciling"
STALLED: Final = "Stalled"
SUSPENDED: Final = "Suspended"
"""Type of a condition, and the reason of others while it is True."""
AUTOSCALED: Final = "Autoscaled"
MONITORED: Final = "Monitored"
CATALOG_DRIFT: Final = "CatalogDrift"
RULES_UNUSED: Final = "RulesUnused"
AUTHENTICATION_READY: Final = "AuthenticationReady"
EXPOSED: Final = "Exposed"
LIMITS_ENFORCED: Final = "LimitsEnforced"

VALID: Final = "Valid"
INVALID_SPEC: Final = "InvalidSpec"

CREATING: Final = "Creating"
ROLLING_OUT: Final = "RollingOut"
SCALING: Final = "Scaling"
PODS_READY: Final = "PodsReady"
PODS_NOT_READY: Final = "PodsNotReady"
CRASHED: Final = "ContainerCrashed"
CRASH_LOOP: Final = "CrashLoopBackOff"
CONFIG_ERROR: Final = "CreateContainerConfigError"
IMAGE_PULL: Final = "ImagePullBackOff"
UNSCHEDULABLE: Final = "Unschedulable"
NOT_MOUNTED: Final = "VolumesNotMounted"
OOM_KILLED: Final = "OOMKilled"
EVICTED: Final = "Evicted"
POD_ENDED: Final = "PodEnded"
NODE_NOT_READY: Final = "NodeNotReady"
SCALED_TO_ZERO: Final = "ScaledToZero"
DEADLINE_EXCEEDED: Final = "ProgressDeadlineExceeded"
REPLICA_FAILURE: Final = "ReplicaFailure"

ADOPTED: Final = "Adopted"
NOT_OWNED: Final = "NotOwned"
WAITING_FOR_DELETION: Final = "WaitingForDeletion"
REFUSED: Final = "RefusedByApiServer"
CONTESTED: Final = "FieldsContested"
FORBIDDEN: Final = "Forbidden"
API_SERVER_UNAVAILABLE: Final = "ApiServerUnavailable"
OPERATOR_FAILED: Final = "OperatorFailed"
TOO_LARGE: Final = "ObjectsTooLarge"
TERMINATING: Final = "Terminating"

ALL_HEALTHY: Final = "AllHealthy"
BACKENDS_UNHEALTHY: Final = "BackendsUnhealthy"
BACKENDS_RATE_LIMITED: Final = "BackendsRateLimited"
BACKENDS_DEGRADED: Final = "BackendsDegraded"
BACKENDS_UNKNOWN: Final = "BackendsUnknown"
PODS_DISAGREE: Final = "PodsDisagree"
PODS_DIFFER: Final = "PodsDiffer"
PODS_NOT_REPORTING: Final = "PodsNotReporting"
NOT_REPORTED: Final = "NotReported"

SERVING: Final = "Serving"

POD_MONITOR_PRESENT: Final = "PodMonitorPresent"
POD_MONITOR_PENDING: Final = "PodMonitorPending"
KIND_NOT_INSTALLED: Final = "KindNotInstalled"

ROUTE_PENDING: Final = "RoutePending"
ROUTE_NOT_ACCEPTED: Final = "RouteNotAccepted"
ROUTE_REFS_NOT_RESOLVED: Final = "RouteRefsNotResolved"
ROUTE_ACCEPTED: Final = "RouteAccepted"
PUBLIC_URL_TAKEN: Final = "PublicUrlTaken"
ADDRESS_PENDING: Final = "AddressPending"
ADDRESS_ASSIGNED: Final = "AddressAssigned"

SCALING_ACTIVE: Final = "ScalingActive"
SCALING_UNKNOWN: Final = "ScalingUnknown"

CATALOG_APPROVED: Final = "CatalogApproved"
CATALOG_DIFFERS: Final = "CatalogDiffers"
CATALOG_UNKNOWN: Final = "CatalogUnknown"

RULES_COVER_NOTHING: Final = "RulesCoverNothing"
RULES_COVER_COMPONENTS: Final = "RulesCoverComponents"

LIMITS_APPLY: Final = "LimitsApply"
LIMITS_COVER_NOTHING: Final = "LimitsCoverNothing"
STORE_UNREACHABLE: Final = "StoreUnreachable"

KEYS_KNOWN: Final = "KeysKnown"
KEYS_UNKNOWN: Final = "KeysUnknown"
KEYS_NOT_READ: Final = "KeysNotRead"
KEYS_UNAVAILABLE: Final = "KeysUnavailable"

HOPELESS: Final = frozenset({CONFIG_ERROR, CRASH_LOOP, IMAGE_PULL, OOM_KILLED})
"""Reasons that keep pods from serving and do not pass by themselves."""
HINDERS: Final = HOPELESS | {UNSCHEDULABLE, NOT_MOUNTED, NODE_NOT_READY}
"""Reasons that block a rollout until a human acts."""
HARMLESS: Final = frozenset(
    {REFUSED, CONTESTED, FORBIDDEN, API_SERVER_UNAVAILABLE, OPERATOR_FAILED, TOO_LARGE}
)
"""Reasons for which children can't be changed while existing ones continue to serve."""
PASSING: Final = frozenset(
    {
        API_SERVER_UNAVAILABLE,
        CREATING,
        ROLLING_OUT,
        SCALED_TO_ZERO,
        SUSPENDED,
        TERMINATING,
        WAITING_FOR_DELETION,
    }
)
"""Reasons of a False condition that are not a failure."""
ON_THE_WAY: Final = frozenset({CREATING, ROLLING_OUT, SCALING, PODS_NOT_READY, BACKENDS_UNKNOWN})
"""Reasons of a proxy that starts, with numbers of pods in their messages."""
