"""Parts of audit records that recur, as JSON: callers, subjects and decisions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import msgspec

from mcpproxy.api.untrusted_text import clean_text
from mcpproxy.limits.audit import AUDITED_GROUPS, AUDITED_TEXT
from mcpproxy.proxy.core.identity import Identity
from mcpproxy.proxy.protocol import jsonrpc
from mcpproxy.proxy.protocol.jsonrpc import RpcError

LOGGER: Final = "mcpproxy.audit"
"""Value of `logger`, that distinguishes records from other lines of the pod."""


@dataclass(frozen=True, slots=True)
class Subject:
    """The component or list that a request names."""

    method: str
    name: str = ""
    """Downstream name or URI; empty for lists."""
    backend: str = ""
    """Empty if the request never reached a backend."""
    backend_name: str = ""
    """Upstream name or URI."""
    schema_digest: str = ""
    """Hexadecimal SHA-256 of the component as clients see it; empty if unknown."""
    rule: str = ""
    """Rule of spec.authorization that allows the request; empty without one."""


class RequestOutcome(NamedTuple):
    """The end of a request."""

    decision: str
    """`allowed` or `denied`."""
    outcome: str
    """`ok`, `error`, `cancelled`, or the reason of a failure."""
    seconds: float | None = None
    response_bytes: int | None = None
    network: str = ""
    """Network of the sender; empty if it is not recorded."""


def encode_caller(identity: Identity, client_info: bytes | None, revision: str) -> bytes:
    """Return the members of a record that describe the caller, as JSON without braces."""
    members: dict[str, Any] = {"principal": _principal(identity)}
    if named := _client_names(client_info):
        members["client"] = named
    if revision:
        members["protocolVersion"] = _cut(revision)
    return _inside(members)


def encode_subject(subject: Subject) -> bytes:
    """Return the members of a record that describe the request's subject, without braces."""
    members = {
        "method": subject.method,
        "name": subject.name,
        "backend": subject.backend,
        "backendName": subject.backend_name,
        "schemaDigest": subject.schema_digest,
        "rule": subject.rule,
    }
    return _inside({name: _cut(text) for name, text in members.items() if text})


def _principal(identity: Identity) -> Mapping[str, Any]:
    members: dict[str, Any] = {
        "method": identity.method,
        "issuer": identity.issuer,
        "subject": identity.subject,
        "client": identity.client,
        "actor": identity.actor,
        "apiKey": identity.api_key,
    }
    if identity.service_account is not None:
        members["serviceAccount"] = "/".join(identity.service_account)
    shown: dict[str, Any] = {name: _cut(text) for name, text in members.items() if text}
    for name, values in (("groups", identity.groups), ("scopes", identity.scopes)):
        if values:
            shown[name] = [_cut(text) for text in sorted(values)[: AUDITED_GROUPS.value]]
        if len(values) > AUDITED_GROUPS.value:
            AUDITED_GROUPS.record()
            shown["incomplete"] = True
    return shown


def _client_names(info: bytes | None) -> dict[str, str]:
    """Return the name and version in client information, which clients choose freely."""
    try:
        members = jsonrpc.decode_object(info or b"{}")
    except RpcError:
        return {}
    texts = {name: jsonrpc.decode_str(members.get(name)) for name in ("name", "version")}
    return {name: _cut(text) for name, text in texts.items() if text}


def _cut(text: str) -> str:
    return clean_text(text, AUDITED_TEXT.value)


def encode_text(text: str) -> bytes:
    """Return a text as a JSON string, cut and without control characters."""
    return msgspec.json.encode(_cut(text))


def encode_decision(decision: str, outcome: str, network: str = "") -> bytes:
    """Return the members of a record for a decision and its outcome, each after a comma.

    `network` is that of the sender; empty if it is not recorded.
    """
    text = b',"decision":"%b","outcome":%b' % (decision.encode("ascii"), encode_text(outcome))
    return b'%b,"network":%b' % (text, encode_text(network)) if network else text


def _inside(members: Mapping[str, Any]) -> bytes:
    return msgspec.json.encode(members)[1:-1]
