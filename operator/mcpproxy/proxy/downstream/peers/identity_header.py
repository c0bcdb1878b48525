"""The identity of a caller in a header between instances.

The instance that received a request has verified the identity. Only instances that have proven the
sealing key may send the header: `PeerEndpoint` alone reads it.
"""

import json
from typing import Any, Final

from mcpproxy.proxy.core.identity import ANONYMOUS, Identity

IDENTITY: Final = b"mcpproxy-identity"
_TEXTS: Final = ("issuer", "subject", "client", "api_key", "actor", "token")
_SETS: Final = ("groups", "scopes")


def encode_identity(identity: Identity) -> bytes:
    """Return an identity as JSON in ASCII."""
    content: dict[str, Any] = {"method": identity.method}
    content |= {name: text for name in _TEXTS if (text := getattr(identity, name))}
    content |= {name: sorted(words) for name in _SETS if (words := getattr(identity, name))}
    if identity.service_account is not None:
        content["service_account"] = identity.service_account
    if identity.expires is not None:
        content["expires"] = identity.expires
    if identity.claims:
        content["claims"] = dict(identity.claims)
    return json.dumps(content, separators=(",", ":")).encode("ascii")


def decode_identity(header: bytes | None) -> Identity:
    """Return the identity in a header; anonymous without the header."""
    if header is None:
        return ANONYMOUS
    content = json.loads(header)
    account = content.get("service_account")
    return Identity(
        **{
            **content,
            **{name: frozenset(content.get(name, ())) for name in _SETS},
            "service_account": None if account is None else tuple(account),
        }
    )
