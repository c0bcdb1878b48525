"""Reads the token of a request, and writes the challenge of a refusal."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.message import Message
from http.cookies import SimpleCookie
from typing import Final
from urllib.parse import parse_qs, urlsplit

from tests.resource_server.reference.endpoint import SCOPES, SESSION
from tests.resource_server.reference.rules import Rules

_CREDENTIALS: Final = re.compile(r"([A-Za-z0-9]+) +([A-Za-z0-9._~+/=-]+)")
TOKEN_BYTES: Final = 16 * 1024
ANONYMOUS: Final = "\0anonymous"
"""A token that mutants take for a caller."""


class Unauthorized(Exception):
    """The request has no token, or a bad one."""

    def __init__(self, error: str = "", description: str = "", status: int = 401) -> None:
        self.error = error
        self.description = description
        self.status = status


@dataclass(frozen=True)
class Request:
    """Places from which a token may be read."""

    method: str
    path: str
    """The path as it was sent, with the query."""
    headers: Message
    body: bytes = b""

    def lower(self) -> Mapping[str, str]:
        """Return the headers by their names in lower case, the first of each name."""
        return {name.lower(): value for name, value in reversed(self.headers.items())}


def read_token(request: Request, rules: Rules) -> str:
    """Return the token. Raise Unauthorized."""
    if token := _read_by_mutation(request, rules):
        return token
    values = request.headers.get_all("Authorization") or []
    if rules.breaks("header-case"):
        values = [value for name, value in request.headers.items() if name == "Authorization"]
    if not values:
        if rules.breaks("token-required") or _is_exempt(request, rules):
            return ANONYMOUS
        raise Unauthorized
    if len(values) > 1 and rules.keep("one-header"):
        raise Unauthorized("invalid_request", "more than one Authorization header", 400)
    token = _parse(str(values[0]), rules)
    if len(token) > TOKEN_BYTES and rules.keep("token-size"):
        raise Unauthorized("invalid_token", "the token is too large")
    return token


def _parse(value: str, rules: Rules) -> str:
    if rules.breaks("control-bytes"):
        value = re.sub(r"[\x00-\x1f\x7f]", "", value)
    if rules.breaks("one-token"):
        value = " ".join(re.split(r"[ ,]+", value)[:2])
    if rules.breaks("empty-token") and value.strip().lower() in ("", "bearer", "bearer null"):
        return ANONYMOUS
    if rules.breaks("malformed") and value.endswith("."):
        raise RuntimeError("an index is out of range")
    if rules.breaks("oversized") and len(value) > 50_000:
        raise RuntimeError("the token does not fit")
    if rules.breaks("scheme"):
        return value.rpartition(" ")[2]
    match = _CREDENTIALS.fullmatch(value)
    if match is None:
        raise Unauthorized("invalid_token", "the header is not Bearer and a token")
    scheme = match[1] if rules.breaks("scheme-case") else match[1].title()
    if rules.breaks("extra-space") and "  " in value:
        raise Unauthorized("invalid_token", "more than one space")
    if scheme != "Bearer":
        raise Unauthorized
    return match[2]


def _read_by_mutation(request: Request, rules: Rules) -> str:
    query = parse_qs(urlsplit(request.path).query)
    if rules.breaks("no-query") and "access_token" in query:
        return query["access_token"][0]
    form = parse_qs(request.body.decode("latin-1"))
    if rules.breaks("no-form") and "access_token" in form:
        return form["access_token"][0]
    if rules.breaks("no-cookie") and "access_token" in (cookies := _cookies(request)):
        return cookies["access_token"].value
    if rules.breaks("no-identity-headers") and request.headers.get("X-Forwarded-User"):
        return ANONYMOUS
    return ""


def _cookies(request: Request) -> SimpleCookie:
    return SimpleCookie(str(request.headers.get("Cookie", "")).partition(";")[0])


def _is_exempt(request: Request, rules: Rules) -> bool:
    """True if a mutant forgets to ask this request for a token."""
    headers, body = request.lower(), request.body
    path = request.path.partition("?")[0]
    kind = headers.get("content-type", "")
    modern = headers.get("mcp-protocol-version") == "2026-07-28"
    exemptions = {
        "token-legacy": not modern and b'"notifications/' in body,
        "token-modern": modern and b'"tasks/' in body,
        "token-session": SESSION in headers,
        "token-get": request.method == "GET",
        "token-listen": b'"subscriptions/listen"' in body,
        "token-delete": request.method == "DELETE",
        "token-override": "x-http-method-override" in headers,
        "token-batch": body.startswith(b"["),
        "token-media-type": kind == "text/plain",
        "token-chunked": "transfer-encoding" in headers,
        "token-path": path.endswith("/"),
        "token-version": headers.get("mcp-protocol-version") == "2024-11-05",
        "token-upgrade": "upgrade" in headers,
    }
    return any(rules.breaks(name) and applies for name, applies in exemptions.items())


def challenge(
    error: str, description: str, metadata_url: str, scopes: Sequence[str], rules: Rules
) -> str:
    """Return the value of WWW-Authenticate."""
    parameters = {}
    if error and rules.keep("challenge-error"):
        parameters["error"] = error
    elif not error and rules.breaks("challenge-no-error"):
        parameters["error"] = "invalid_token"
    if description:
        parameters["error_description"] = description
    if scopes and rules.keep("challenge-scope"):
        listed = scopes[:1] if rules.breaks("scope-union") and len(scopes) > 1 else scopes
        parameters["scope"] = " ".join(listed)
    if rules.keep("challenge-metadata"):
        parameters["resource_metadata"] = metadata_url
    return "Bearer " + ", ".join(f'{name}="{value}"' for name, value in parameters.items())


def scopes_of(error: str) -> Sequence[str]:
    """Return the scopes for the challenge of an error."""
    return SCOPES if error == "insufficient_scope" else ("mcp",)
