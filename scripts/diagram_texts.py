"""The diagrams of docs/diagrams.md: participants, messages and notes, from top to bottom."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Participant:
    """A lane of a diagram."""

    name: str
    about: str


@dataclass(frozen=True)
class Message:
    """An arrow between two participants, or from one to itself."""

    source: str
    target: str
    text: str
    back: bool = False
    """True for a response."""


@dataclass(frozen=True)
class Note:
    """A text over one participant or several neighbors."""

    over: Sequence[str]
    text: str


@dataclass(frozen=True)
class Diagram:
    """A sequence, which `text` describes for people who do not see it."""

    title: str
    text: str
    participants: Sequence[Participant]
    steps: Sequence[Message | Note]


CALL: Final = Diagram(
    "How a call travels",
    "A client's tools/call passes the checks of the endpoint, the rules of the gateway and the"
    " limits, goes to the backend in a leased session, and comes back with the client's id and"
    " names.",
    [
        Participant("Client", "agent or IDE"),
        Participant("Endpoint", "downstream/"),
        Participant("Gateway", "gateway/"),
        Participant("Call", "relay.py"),
        Participant("Session", "upstream/"),
        Participant("Backend", "MCP server"),
    ],
    [
        Message("Client", "Endpoint", "tools/call weather_get"),
        Message("Endpoint", "Endpoint", "Host, Origin, caller, era"),
        Message("Endpoint", "Call", "start"),
        Message("Call", "Gateway", "route"),
        Message("Gateway", "Gateway", "rules, backend, own name"),
        Message("Gateway", "Call", "backend, name get", back=True),
        Message("Call", "Call", "limits"),
        Message("Call", "Session", "lease a session, send"),
        Message("Session", "Session", "era, id, credentials"),
        Message("Session", "Backend", "tools/call get"),
        Message("Backend", "Session", "result", back=True),
        Message("Session", "Call", "response", back=True),
        Message("Call", "Call", "id, names, URIs, era; release"),
        Message("Call", "Endpoint", "body", back=True),
        Message("Endpoint", "Client", "result, other bytes unchanged", back=True),
        Note(["Call"], "metrics, trace, audit: when the call ends"),
    ],
)
RECONCILIATION: Final = Diagram(
    "How a change is reconciled",
    "Argo CD or kubectl writes an MCPProxy. The operator's watch queues its name, the reconciler"
    " compares the rendered children with the live ones, applies the difference, reads the reports"
    " of the pods and writes the status.",
    [
        Participant("Git", "Argo CD, kubectl"),
        Participant("API server", "Kubernetes"),
        Participant("Operator", "watch, queue"),
        Participant("Reconciler", "one key at a time"),
        Participant("Pods", "the runtime"),
        Participant("Backends", "MCP servers"),
    ],
    [
        Message("Git", "API server", "apply the MCPProxy"),
        Message("API server", "Operator", "watch event"),
        Message("Operator", "Reconciler", "key, once in the queue"),
        Message("Reconciler", "Reconciler", "snapshot, validate, build, plan"),
        Message("Reconciler", "API server", "apply changed children"),
        Message("API server", "Pods", "kubelet starts pods, mounts values"),
        Message("Pods", "Backends", "MCP handshake, lists, checks"),
        Message("Backends", "Pods", "state, components", back=True),
        Message("Operator", "Pods", "one stream of reports from each ready pod"),
        Message("Pods", "Operator", "state of each backend, digest", back=True),
        Message("Operator", "Reconciler", "key again"),
        Message("Reconciler", "API server", "status, if it differs"),
        Message("API server", "Git", "Ready, reason, counts", back=True),
        Note(["Operator", "Reconciler"], "every step may be repeated; a crash loses nothing"),
    ],
)
SESSION: Final = Diagram(
    "How a session moves between pods",
    "A client initializes at pod 1 and gets a sealed session id. Pod 2 can open it and serves"
    " requests without state itself. A request for state in pod 1 is forwarded there after pod 1"
    " has proven its identity. When pod 1 ends, that state is lost, and the client initializes"
    " again.",
    [
        Participant("Client", "one session"),
        Participant("Service", "any pod"),
        Participant("Pod 1", "owner of the state"),
        Participant("Pod 2", "same sealing key"),
        Participant("Backend", "MCP server"),
    ],
    [
        Message("Client", "Service", "initialize"),
        Message("Service", "Pod 1", "initialize"),
        Message("Pod 1", "Client", "Mcp-Session-Id: sealed, names pod 1", back=True),
        Message("Client", "Service", "tools/call, session id"),
        Message("Service", "Pod 2", "tools/call, session id"),
        Message("Pod 2", "Pod 2", "unseal the id"),
        Note(["Pod 2"], "no state in another pod: pod 2 serves it"),
        Message("Pod 2", "Pod 1", "state in pod 1: forward by TLS"),
        Message("Pod 1", "Backend", "tools/call in the client's session"),
        Message("Backend", "Pod 1", "result", back=True),
        Message("Pod 1", "Pod 2", "result", back=True),
        Message("Pod 2", "Client", "result", back=True),
        Note(["Pod 1"], "pod 1 ends"),
        Message("Client", "Service", "tools/call, session id"),
        Message("Service", "Pod 2", "tools/call, session id"),
        Message("Pod 2", "Client", "404 if state was in pod 1: initialize again", back=True),
    ],
)
IDENTITY: Final = Diagram(
    "How identity comes in and goes out",
    "A client gets a token for the proxy from the provider. The proxy verifies it with the"
    " provider's keys, applies rules, and calls the backend with a static header, its own token, or"
    " a token that it exchanges for the caller. The caller's token goes to no backend by default.",
    [
        Participant("Client", "a person's agent"),
        Participant("Provider", "OpenID"),
        Participant("Proxy", "authentication"),
        Participant("Rules", "authorization"),
        Participant("Issuer", "for the backend"),
        Participant("Backend", "MCP server"),
    ],
    [
        Message("Client", "Proxy", "request without a token"),
        Message("Proxy", "Client", "401, address of the metadata", back=True),
        Message("Client", "Proxy", "GET protected-resource metadata"),
        Message("Proxy", "Client", "resource, authorization servers", back=True),
        Message("Client", "Provider", "sign in for that resource"),
        Message("Provider", "Client", "access token", back=True),
        Message("Client", "Proxy", "tools/call, Bearer token"),
        Message("Proxy", "Proxy", "issuer, audience, signature, time"),
        Message("Proxy", "Rules", "principal, groups, scopes"),
        Message("Rules", "Proxy", "may use, or unknown tool", back=True),
        Note(["Issuer"], "only if auth is set"),
        Message("Proxy", "Issuer", "client credentials, or exchange"),
        Message("Issuer", "Proxy", "token for the backend", back=True),
        Message("Proxy", "Backend", "tools/call: header or token"),
        Message("Backend", "Proxy", "result", back=True),
        Message("Proxy", "Client", "result", back=True),
    ],
)
DIAGRAMS: Final = {
    "call": CALL,
    "reconciliation": RECONCILIATION,
    "session": SESSION,
    "identity": IDENTITY,
}
