"""The Secret whose key seals session ids."""

from base64 import b64encode
from typing import Final

from mcpproxy.api import constants
from mcpproxy.api.v1alpha1 import MCPProxy
from mcpproxy.desired.types import Manifest, OwnerRef, metadata

KEY_BYTES: Final = 32


def build(proxy: MCPProxy, owner: OwnerRef, key: bytes) -> Manifest:
    """Return the Secret, for creation: it is never applied again and never read.

    Raise ValueError unless `key` has KEY_BYTES bytes.
    """
    if len(key) != KEY_BYTES:
        raise ValueError(f"a sealing key must have {KEY_BYTES} bytes, this one has {len(key)}")
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata(proxy, owner, constants.sealing_secret_name(owner.name, owner.uid)),
        "type": "Opaque",
        "data": {"current": b64encode(key).decode("ascii")},
    }
