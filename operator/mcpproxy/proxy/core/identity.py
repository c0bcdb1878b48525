"""The verified identity of a caller."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal


@dataclass(frozen=True, slots=True)
class Identity:
    """The verified identity of a caller."""

    method: Literal["jwt", "serviceAccount", "apiKey", "anonymous"]
    issuer: str = ""
    subject: str = ""
    client: str = ""
    groups: frozenset[str] = frozenset()
    scopes: frozenset[str] = frozenset()
    service_account: tuple[str, str] | None = None
    api_key: str = ""
    actor: str = ""
    expires: float | None = None
    claims: Mapping[str, Any] = field(default_factory=dict, compare=False)


ANONYMOUS: Final = Identity("anonymous")
