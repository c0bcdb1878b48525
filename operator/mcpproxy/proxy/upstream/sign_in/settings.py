"""Settings of a sign-in, and the refusals of backends that lead to one.

Must not import the SDK, because every proxy imports this module.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_INSUFFICIENT: Final = re.compile(rb"\berror\s*=\s*\"?insufficient_scope\b")
_SCOPE: Final = re.compile(rb"\bscope\s*=")


@dataclass(frozen=True, slots=True)
class SignIn:
    """Sign-in of the user to one backend."""

    client_id: str = ""
    """Client that is registered with the authorization server; empty to register one."""
    client_secret: str = ""
    metadata_url: str = ""
    """URL of a document that describes the client, for servers that accept it as the client ID."""
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

    @property
    def can_be_met(self) -> bool:
        """True unless another token can't help: a 403 that is not about scopes."""
        return not self.is_step_up or _INSUFFICIENT.search(self.header) is not None

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
