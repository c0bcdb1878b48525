"""A controllable authorization server: its issuers, their metadata, key sets and tokens.

One HTTP server holds any number of issuers, each below a path of its own with its own keys and
faults, so that a check never disturbs the keys that a server cached for another check.
"""

import enum
import json
import threading
import time
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tests.resource_server.keys import SigningKey, assemble

LIFETIME_SECONDS: Final = 600
OAUTH: Final = "oauth-authorization-server"
OPENID: Final = "openid-configuration"
LARGE_BYTES: Final = 10 * 1024 * 1024
ABSENT: Final = object()
"""As the value of a claim or header parameter: leave it out."""


class Mode(enum.Enum):
    """Ways in which an issuer answers."""

    UP = "up"
    DOWN = "down"
    """Connections to all of its URLs are closed without a response."""
    SLOW = "slow"
    """The key set takes long: `IssuerServer.slow_seconds`."""
    LARGE = "large"
    """The key set has LARGE_BYTES, with the right keys at its end."""
    ENDLESS = "endless"
    """The key set goes on, a byte at a time, until the client closes the connection."""
    REDIRECT = "redirect"
    """The key set redirects to another origin."""
    GARBAGE = "garbage"
    """The key set is a page of HTML."""


def _without_absent(members: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not ABSENT}


@dataclass
class Issuer:
    """One issuer: keys, metadata, faults, and a record of the requests to it."""

    url: str
    """The issuer identifier, for example `http://127.0.0.1:9000/main`."""
    audience: str
    """The resource that its tokens are for by default."""
    scope: str = ""
    keys: list[SigningKey] = field(default_factory=list)
    published: list[Any] | None = None
    """Members of the key set, instead of the public halves of `keys`."""
    mode: Mode = Mode.UP
    delay: float = 0.0
    """Seconds that its key set takes."""
    forms: tuple[str, ...] = (OAUTH, OPENID)
    """Kinds of metadata that it serves."""
    metadata_changes: dict[str, Any] = field(default_factory=dict)
    requests: list[tuple[float, str]] = field(default_factory=list)
    """The monotonic time and the path of each request."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def jwks_url(self) -> str:
        """The URL of its key set."""
        return f"{self.url.rstrip('/')}/jwks"

    def metadata(self) -> dict[str, Any]:
        """Return the metadata of RFC 8414, with the members that OpenID Connect demands."""
        base = self.url.rstrip("/")
        return _without_absent(
            {
                "issuer": self.url,
                "authorization_endpoint": f"{base}/authorize",
                "token_endpoint": f"{base}/token",
                "jwks_uri": self.jwks_url,
                "response_types_supported": ["code"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["RS256"],
                "code_challenge_methods_supported": ["S256"],
                **self.metadata_changes,
            }
        )

    def key_set(self) -> bytes:
        """Return the key set as JSON."""
        keys = [key.jwk() for key in self.keys] if self.published is None else self.published
        return json.dumps({"keys": keys}).encode()

    def record(self, path: str) -> None:
        """Note a request."""
        with self._lock:
            self.requests.append((time.monotonic(), path))

    def key_set_requests(self, since: float = 0.0) -> int:
        """Return how often the key set was requested from a monotonic time on."""
        with self._lock:
            return sum(path.endswith("/jwks") and at >= since for at, path in self.requests)

    def claims(self, **changes: Any) -> dict[str, Any]:
        """Return the claims of a valid access token (RFC 9068), changed; ABSENT removes one."""
        now = int(time.time())
        return _without_absent(
            {
                "iss": self.url,
                "sub": "alice",
                "aud": self.audience,
                "client_id": "kit",
                "iat": now,
                "exp": now + LIFETIME_SECONDS,
                "jti": uuid.uuid4().hex,
                "scope": self.scope or ABSENT,
                **changes,
            }
        )

    def header(self, key: SigningKey, **changes: Any) -> dict[str, Any]:
        """Return the header of a valid access token, changed; ABSENT removes a parameter."""
        return _without_absent({"alg": key.alg, "typ": "at+jwt", "kid": key.kid, **changes})

    def token(
        self,
        key: SigningKey | None = None,
        header: Mapping[str, Any] | None = None,
        **claims: Any,
    ) -> str:
        """Return a token that is valid but for the given changes, signed with its first key."""
        key = key or self.keys[0]
        head = self.header(key, **(header or {}))
        return sign(key, head, self.claims(**claims))


def sign(key: SigningKey, header: Mapping[str, Any], payload: Any) -> str:
    """Return a token with a correct signature over any header and payload."""
    data = assemble(header, payload).encode()
    return assemble(header, payload, key.sign(data))


@dataclass
class Issuers:
    """All issuers of one server by their names, and the requests to any other path."""

    origin: str
    audience: str
    scope: str
    by_name: dict[str, Issuer] = field(default_factory=dict)
    strays: list[str] = field(default_factory=list)
    """Paths outside of all issuers that were requested."""

    def add(self, name: str, keys: Iterable[SigningKey], slash: str = "", **values: Any) -> Issuer:
        """Create the issuer `ORIGIN/NAME`, or `ORIGIN/NAME/` with a slash."""
        url = f"{self.origin}/{name}{slash}"
        issuer = Issuer(url, self.audience, self.scope, list(keys), **values)
        self.by_name[name] = issuer
        return issuer

    def __getitem__(self, name: str) -> Issuer:
        return self.by_name[name]

    def find(self, path: str) -> Issuer | None:
        """Return the issuer to which a path belongs, in any of the well-known forms."""
        parts = [part for part in path.split("/") if part]
        names = parts[2:] if parts[:1] == [".well-known"] else parts
        return self.by_name.get(names[0]) if names else None

    def metadata_form(self, path: str, issuer: Issuer) -> str:
        """Return the kind of metadata that a path asks for, "" if it is none of the issuer's."""
        base = issuer.url.removeprefix(self.origin)
        for form in issuer.forms:
            inserted = f"/.well-known/{OAUTH}{base.rstrip('/')}"
            appended = f"{base.rstrip('/')}/.well-known/{OPENID}"
            if path == (inserted if form == OAUTH else appended):
                return form
        return ""
