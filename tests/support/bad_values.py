"""Wrong manifests, and the answers that they must get."""

from dataclasses import dataclass
from typing import Any

Manifest = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Bad:
    """A wrong manifest, and the words that each answer must contain to be of use."""

    wrong: str
    manifest: Manifest
    parser_says: str
    api_server_says: str | None
    """None where no schema and no CEL rule can tell: the operator answers with Accepted=False."""


def bad(wrong: str, manifest: Manifest, says: str, api_server_says: str | None = "") -> Bad:
    """A wrong manifest whose field is called the same by both, unless said otherwise."""
    return Bad(wrong, manifest, says, says if api_server_says == "" else api_server_says)


def ref(**keys: Any) -> dict[str, Any]:
    """A valueFrom; `secret` and `config_map` are names."""
    kinds = {"secret": "secretKeyRef", "config_map": "configMapKeyRef"}
    return {kinds[kind]: {"name": name, "key": "token"} for kind, name in keys.items()}
