"""The protected resource metadata of the reference server."""

from email.message import Message
from typing import Any, Final
from urllib.parse import urlsplit

from tests.resource_server.reference.rules import Rules

WELL_KNOWN: Final = "/.well-known/oauth-protected-resource"


class Metadata:
    """Built from the public URL alone."""

    def __init__(self, public_url: str, issuers: tuple[str, ...], port: int, rules: Rules) -> None:
        self._public_url = public_url
        self._issuers = issuers
        self._port = port
        self._rules = rules
        parts = urlsplit(public_url)
        self._origin = f"{parts.scheme}://{parts.netloc}"
        self._path = WELL_KNOWN + parts.path.rstrip("/")

    def serves(self, path: str) -> bool:
        """True if the metadata is at this path."""
        if self._rules.breaks("metadata-other-path") and path.startswith(WELL_KNOWN):
            return True
        forms = {"metadata-path": self._path, "metadata-root": WELL_KNOWN}
        return path in [form for name, form in forms.items() if self._rules.keep(name)]

    def _apparent_origin(self, headers: Message) -> str:
        """Return the origin; a mutant believes the request."""
        names = ("X-Forwarded-Host", "Host") if self._rules.breaks("metadata-host") else ()
        for name in ("X-Absolute-Host", *names):
            if value := headers.get(name):
                return f"https://{value}"
        if self._rules.breaks("metadata-internal"):
            return f"http://127.0.0.1:{self._port}"
        return self._origin

    def url(self, headers: Message) -> str:
        """Return the URL of the metadata."""
        return self._apparent_origin(headers) + self._path

    def answer(self, path: str, method: str, headers: Message) -> tuple[int, str, Any]:
        """Return status, media type and content."""
        rules = self._rules
        if method not in ("GET", "HEAD", "OPTIONS") and rules.keep("metadata-post"):
            return 405, "", None
        if rules.breaks("metadata-token") and headers.get("Authorization"):
            return 401, "", None
        resource = self._apparent_origin(headers) + urlsplit(self._public_url).path
        content: dict[str, Any] = {
            "resource": f"{resource}/" if rules.breaks("metadata-resource") else resource,
            "authorization_servers": [
                f"{issuer}/" if rules.breaks("metadata-issuers") else issuer
                for issuer in self._issuers
            ],
            "bearer_methods_supported": ["header"],
            "scopes_supported": ["mcp"],
        }
        if rules.breaks("metadata-methods"):
            content["bearer_methods_supported"] = ["header", "query"]
        if rules.breaks("metadata-scopes"):
            content["scopes_supported"] = ["mcp", "offline_access"]
        if rules.breaks("metadata-empty"):
            content["resource_documentation"] = None
        kind = "text/plain" if rules.breaks("metadata-type") else "application/json"
        return 200, kind, content
