"""The rules of the reference server, each of which a mutant breaks."""

from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Rules:
    """Answers which rules are in force."""

    broken: frozenset[str] = field(default_factory=frozenset)

    @classmethod
    def without(cls, names: Iterable[str]) -> "Rules":
        """Return rules of which these are broken."""
        return cls(frozenset(names))

    def keep(self, name: str) -> bool:
        """True unless the rule is broken."""
        return name not in self.broken

    def breaks(self, name: str) -> bool:
        """True if the rule is broken."""
        return name in self.broken
