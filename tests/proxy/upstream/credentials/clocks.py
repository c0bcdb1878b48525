"""A clock that tests advance, and tokens by it."""

from dataclasses import dataclass, field

from mcpproxy.proxy.core.errors import BackendError, TokenRefused
from mcpproxy.proxy.upstream.credentials.access_tokens import AccessToken, bearer_line


@dataclass
class Clock:
    """Monotonic seconds."""

    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@dataclass
class Source:
    """A source of numbered tokens."""

    clock: Clock
    lifetime: float = 600.0
    error: BackendError | None = None
    fetches: list[float] = field(default_factory=list)
    """Times of the fetches."""

    async def fetch(self) -> AccessToken:
        """Return the next token."""
        self.fetches.append(self.clock.now)
        if self.error is not None:
            raise self.error
        line = bearer_line(f"t{len(self.fetches)}")
        return AccessToken(line, self.clock.now, self.clock.now + self.lifetime)


def refusal() -> TokenRefused:
    """An error of an authorization server."""
    return TokenRefused("refused: access_denied").unsent()
