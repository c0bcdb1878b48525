"""Callers with identities of the test's choice, who speak MCP by hand in either era."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest

from mcpproxy.proxy.authentication.admissions import Admission
from mcpproxy.proxy.authentication.authenticator import Authenticator
from mcpproxy.proxy.core.identity import ANONYMOUS, Identity
from mcpproxy.proxy.downstream.peers.identity_header import decode_identity, encode_identity
from mcpproxy.proxy.http1.server.request import RequestHead
from tests.proxy.runtime.raw import MODERN, Raw, last, modern, rpc

ISSUER = "https://login.example.com"
AUTHENTICATION = {"mode": "Optional", "serviceAccounts": {"audience": "tools"}}
"""Authentication without a network; `sign_in` replaces its verification."""
KEYS = {"tools": "name", "prompts": "name", "resources": "uri", "resourceTemplates": "uriTemplate"}
LISTS = {
    "tools": "tools/list",
    "prompts": "prompts/list",
    "resources": "resources/list",
    "resourceTemplates": "resources/templates/list",
}
_HEADER = b"x-caller"


class _Proof:
    revoked = False


def sign_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let requests have the identity that a header of theirs describes."""

    def admit(
        self: Authenticator, head: RequestHead, network: str, *, last: bool = False
    ) -> Admission:
        header = head.headers.get(_HEADER)
        identity = ANONYMOUS if header is None else decode_identity(header)
        return Admission(identity, float("inf"), _Proof())

    monkeypatch.setattr(Authenticator, "_admit", admit)


def token(
    subject: str = "alice",
    groups: Iterable[str] = (),
    scopes: Iterable[str] = (),
    **claims: Any,
) -> Identity:
    """The identity of a caller with a token."""
    return Identity(
        "jwt",
        issuer=ISSUER,
        subject=subject,
        groups=frozenset(groups),
        scopes=frozenset(scopes),
        claims={"sub": subject, **claims},
    )


@dataclass
class Caller:
    """A caller at one instance of a proxy."""

    raw: Raw
    era: str
    headers: dict[str, str]

    async def send(self, method: str, **params: Any) -> httpx2.Response:
        """Send a request."""
        if self.era == "legacy":
            return await self.raw.post(rpc(method, params), **self.headers)
        name = params.get("name") or params.get("uri") or params.get("taskId") or ""
        headers = {"mcp_protocol_version": MODERN, "mcp_method": method, **self.headers}
        if method in ("tools/call", "prompts/get", "resources/read") or "taskId" in params:
            headers["mcp_name"] = name
        return await self.raw.post(modern(method, **params), **headers)

    async def listed(self, kind: str) -> list[str]:
        """The names or URIs in a list."""
        result = last(await self.send(LISTS[kind]))["result"]
        return [item[KEYS[kind]] for item in result[kind]]

    async def use(self, kind: str, name: str, **arguments: Any) -> httpx2.Response:
        """Use one component."""
        match kind:
            case "tools":
                return await self.send("tools/call", name=name, arguments=arguments)
            case "prompts":
                return await self.send("prompts/get", name=name, arguments=arguments)
            case "resources":
                return await self.send("resources/read", uri=name)
        ref = {"type": "ref/resource", "uri": name}
        argument = {"name": "id", "value": ""}
        return await self.send("completion/complete", ref=ref, argument=argument)

    async def may_use(self, kind: str, name: str) -> bool:
        """True if the use of a component is not refused as that of an unknown one."""
        answer = last(await self.use(kind, name))
        error = answer.get("error", {})
        return not str(error.get("message", "")).startswith("unknown ")


async def caller(
    url: str,
    http: httpx2.AsyncClient,
    era: str,
    identity: Identity = ANONYMOUS,
    session: str | None = None,
) -> Caller:
    """A caller who has begun a session, or goes on with one, in the era that has sessions."""
    raw = Raw(url, http)
    headers = {}
    if identity is not ANONYMOUS:
        headers["x_caller"] = encode_identity(identity).decode()
    if era == "legacy":
        if session is None:
            (await raw.initialize(**headers)).raise_for_status()
        else:
            raw.session = session
    return Caller(raw, era, headers)


def rule(name: str, who: dict[str, Any], *may: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A rule."""
    return {"name": name, "who": who, "may": list(may), **more}


def same(answer: httpx2.Response, other: httpx2.Response, name: str, other_name: str) -> bool:
    """True if two answers differ in nothing but a name."""
    alike = json.dumps(last(answer)).replace(name, other_name) == json.dumps(last(other))
    return answer.status_code == other.status_code and alike
