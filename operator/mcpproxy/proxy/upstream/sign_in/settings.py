"""What a user configures of a sign-in, and what a backend says when it refuses a request."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_SCOPE: Final = re.compile(rb"\bscope\s*=")


@dataclass(frozen=True, slots=True)
class SignIn:
    """Sign-in of the user to one backend."""

    client_id: str = ""
    """Client that is registered with the authorization server; empty to register one."""
    client_secret: str = ""
    callback_port: int = 0
    """Port of the redirect URI; 0 for any free port."""
    scopes: tuple[str, ...] = ()
    """Scopes to request if the backend names none."""
    again: bool = False
    """True to forget the stored tokens first."""


@dataclass(frozen=True, slots=True)
class Challenge:
    """A refusal of a backend: status 401, or 403 for a token with too few scopes."""

    status: int = 401
    header: bytes = b""
    """WWW-Authenticate."""

    @property
    def is_step_up(self) -> bool:
        """True if the backend requires more scopes."""
        return self.status == 403

    def with_scopes(self, scopes: tuple[str, ...]) -> bytes:
        """Return WWW-Authenticate, with these scopes if it has none."""
        if not scopes or _SCOPE.search(self.header):
            return self.header
        wanted = f'scope="{" ".join(scopes)}"'.encode("ascii")
        return self.header + b", " + wanted if self.header else b"Bearer " + wanted


def state_directory(environment: dict[str, str]) -> Path:
    """Return the directory of the tokens of sign-ins."""
    home = environment.get("XDG_STATE_HOME", "")
    state = Path(home) if home.startswith("/") else Path.home() / ".local" / "state"
    return state / "mcpproxy" / "sign-ins"
