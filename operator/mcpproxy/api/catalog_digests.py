"""Digests of components, and the hash over all of them."""

import hashlib
import json
from collections.abc import Mapping
from typing import Final

CatalogDigests = Mapping[str, Mapping[str, str]]
"""Digests by kind of component (tools, prompts, resources, resourceTemplates), then by name or URI.

Names and URIs are those that clients see. `component_digest` of the runtime computes the digests.
"""
NAMED: Final = 10
"""Number of components that a message or a report names."""


def approved_hash(digests: CatalogDigests) -> str:
    """Return the SHA-256 of all component digests in hexadecimal, as in `status.catalogHash`.

    The hashed text is a JSON object with sorted keys and no spaces. Kinds without components are
    omitted.
    """
    digests_by_kind = {kind: dict(by_name) for kind, by_name in digests.items() if by_name}
    text = json.dumps(digests_by_kind, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
