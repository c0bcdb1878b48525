"""The identity of a caller in a header between instances.

The instance that received a request has verified the identity. Only instances that have proven the
sealing key may send the header: `PeerEndpoint` alone reads it.
"""

import base64
import json
import zlib
from typing import Any, Final

from mcpproxy.proxy.core.identity import ANONYMOUS, Identity

IDENTITY: Final = b"mcpproxy-identity"
_PLAIN: Final = 16 * 1024
"""Bytes beyond which an identity is compressed: its words and its token repeat its claims."""
_MOST: Final = 1024 * 1024
"""Bytes of an identity; a token has far fewer."""
_TEXTS: Final = ("issuer", "subject", "client", "api_key", "actor", "token")
_SETS: Final = ("groups", "scopes")


def encode_identity(identity: Identity) -> bytes:
    """Return an identity as JSON in ASCII, or compressed in base64 if it is large."""
    content: dict[str, Any] = {"method": identity.method}
    content |= {name: text for name in _TEXTS if (text := getattr(identity, name))}
    content |= {name: sorted(words) for name in _SETS if (words := getattr(identity, name))}
    if identity.service_account is not None:
        content["service_account"] = identity.service_account
    if identity.expires is not None:
        content["expires"] = identity.expires
    if identity.claims:
        content["claims"] = dict(identity.claims)
    plain = json.dumps(content, separators=(",", ":")).encode("ascii")
    if len(plain) <= _PLAIN:
        return plain
    # UTF-8 takes a third of the space of escapes.
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False)
    return base64.b64encode(zlib.compress(text.encode("utf-8", "surrogatepass")))


def decode_identity(header: bytes | None) -> Identity:
    """Return the identity in a header; anonymous without the header."""
    if header is None:
        return ANONYMOUS
    text = header
    if not header.startswith(b"{"):
        text = zlib.decompressobj().decompress(base64.b64decode(header), _MOST)
    content = json.loads(text.decode("utf-8", "surrogatepass"))
    account = content.get("service_account")
    return Identity(
        **{
            **content,
            **{name: frozenset(content.get(name, ())) for name in _SETS},
            "service_account": None if account is None else tuple(account),
        }
    )
