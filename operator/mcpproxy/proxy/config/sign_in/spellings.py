"""The spellings of OAuth in mcpServers files, which differ by client.

"auth": "oauth"                                              FastMCP
"auth": {"CLIENT_ID": …, "CLIENT_SECRET": …, "scopes": […]}  Cursor
"oauth": {"clientId": …, "callbackPort": …, "scopes": …}     Claude Code
"oauth": {"enabled": true, "clientSecret": …}                Gemini CLI
"""

import logging
from collections.abc import Callable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from mcpproxy.api.field_messages import did_you_mean
from mcpproxy.api.manifest_errors import ManifestError
from mcpproxy.proxy.upstream.sign_in.settings import SignIn

log = logging.getLogger("mcpproxy.config")
OAUTH: Final = "oauth"
_NAMES: Final = {
    "CLIENT_ID": "client_id",
    "clientId": "client_id",
    "client_id": "client_id",
    "CLIENT_SECRET": "client_secret",
    "clientSecret": "client_secret",
    "client_secret": "client_secret",
    "callbackPort": "callback_port",
    "callback_port": "callback_port",
    "clientMetadataUrl": "metadata_url",
    "scopes": "scopes",
    "scope": "scopes",
    "enabled": "enabled",
}
_LARGEST_PORT: Final = 65535


def sign_in_of(
    server: Mapping[str, Any], where: str, expand: Callable[[str, str], str]
) -> SignIn | None:
    """Return the sign-in that a server requests; None without one. Raise ManifestError.

    `where` is the path of the server in the file. `expand` replaces variables in a member.
    """
    for member in ("auth", OAUTH):
        value = server.get(member)
        if (value == OAUTH and member != OAUTH) or (value is True and member == OAUTH):
            return SignIn()
        if member == OAUTH and not (value is None or isinstance(value, Mapping | bool)):
            raise ManifestError("expected an object, true or false", f"{where}.{member}")
        if isinstance(value, Mapping):
            return _parse(value, f"{where}.{member}", member, expand)
    return None


def _parse(
    value: Mapping[str, Any], where: str, member: str, expand: Callable[[str, str], str]
) -> SignIn | None:
    fields: dict[str, Any] = {}
    for name, content in value.items():
        field = _NAMES.get(name)
        if field is None:
            hint = did_you_mean(name, sorted(_NAMES)).replace("; ", ", ")
            log.warning("%s: ignored: %s%s", where, name, hint)
        elif content is not None:
            fields[field] = _PARSERS[field](content, f"{where}.{name}", f"{member}.{name}", expand)
    if value and not fields:
        return None
    return SignIn(**fields) if fields.pop("enabled", True) else None


def _text(content: Any, where: str, member: str, expand: Callable[[str, str], str]) -> str:
    if not isinstance(content, str) or not content:
        raise ManifestError("expected a string that is not empty", where)
    text = expand(content, member)
    if not text.isascii() or not text.isprintable():
        raise ManifestError("expected printable ASCII characters", where)
    return text


def _metadata_url(content: Any, where: str, member: str, expand: Callable[[str, str], str]) -> str:
    url = _text(content, where, member, expand)
    try:
        parts = urlsplit(url)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme != "https" or not parts.hostname or parts.path in ("", "/"):
        raise ManifestError(f"expected an https URL with a path, found {url!r}", where)
    return url


def _port(content: Any, where: str, *_: object) -> int:
    if isinstance(content, bool) or not isinstance(content, int):
        raise ManifestError(f"expected a port, found {content!r}", where)
    if not 1 <= content <= _LARGEST_PORT:
        raise ManifestError(f"expected a port from 1 to {_LARGEST_PORT}, found {content}", where)
    return content


def _scopes(
    content: Any, where: str, member: str, expand: Callable[[str, str], str]
) -> tuple[str, ...]:
    words = content.split() if isinstance(content, str) else content
    if not isinstance(words, list):
        raise ManifestError("expected a list of scopes", where)
    scopes = tuple(_text(word, where, member, expand) for word in words)
    if any(set(scope) & set(' "\\') for scope in scopes):
        raise ManifestError('a scope has no space, " and \\', where)
    return scopes


def _flag(content: Any, where: str, *_: object) -> bool:
    if not isinstance(content, bool):
        raise ManifestError(f"expected true or false, found {content!r}", where)
    return content


_PARSERS: Final[dict[str, Callable[..., Any]]] = {
    "client_id": _text,
    "client_secret": _text,
    "metadata_url": _metadata_url,
    "callback_port": _port,
    "scopes": _scopes,
    "enabled": _flag,
}
