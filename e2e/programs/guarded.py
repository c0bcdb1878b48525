"""An MCP server on port 8080 that serves holders of verified tokens alone. Runs in a pod.

The tool `whoami` returns the subject of the token. Arguments: the required audience, and the issuer
whose tokens are accepted; without an issuer, tokens of the cluster's ServiceAccounts are accepted,
which it verifies with the keys at /openid/v1/jwks of the API server.
"""

import json
import ssl
import sys
import urllib.request
from pathlib import Path
from typing import Any

import jwt
import uvicorn
from mcp.server.mcpserver import Context, MCPServer
from mcp.server.transport_security import TransportSecuritySettings
from starlette.types import ASGIApp, Receive, Scope, Send

API = "https://kubernetes.default.svc"
MOUNTED = Path("/var/run/secrets/kubernetes.io/serviceaccount")

server = MCPServer("guarded", version="1.0.0", log_level="WARNING")


@server.tool()
def whoami(ctx: Context[None]) -> str:
    """The subject of the token, which was verified before."""
    token = dict(ctx.headers or {})["authorization"].removeprefix("Bearer ")
    return str(jwt.decode(token, options={"verify_signature": False})["sub"])


def fetched(url: str) -> Any:
    if not url.startswith(API):
        with urllib.request.urlopen(url) as answer:
            return json.load(answer)
    own = (MOUNTED / "token").read_text("ascii")
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {own}"})
    tls = ssl.create_default_context(cafile=MOUNTED / "ca.crt")
    with urllib.request.urlopen(request, context=tls) as answer:
        return json.load(answer)


class Guard:
    """Verifies the token of each request."""

    def __init__(self, app: ASGIApp, audience: str, issuer: str) -> None:
        self._app, self._audience = app, audience
        at = f"{issuer}/keys" if issuer else f"{API}/openid/v1/jwks"
        document = f"{API}/.well-known/openid-configuration"
        self._issuer = issuer or fetched(document)["issuer"]
        self._keys = {key.key_id: key for key in jwt.PyJWKSet.from_dict(fetched(at)).keys}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self._is_accepted(dict(scope["headers"])):
            head = [(b"www-authenticate", b'Bearer error="invalid_token"')]
            await send({"type": "http.response.start", "status": 401, "headers": head})
            await send({"type": "http.response.body", "body": b""})
            return
        await self._app(scope, receive, send)

    def _is_accepted(self, headers: dict[bytes, bytes]) -> bool:
        token = headers.get(b"authorization", b"").decode().removeprefix("Bearer ")
        try:
            key = self._keys[jwt.get_unverified_header(token)["kid"]]
            jwt.decode(token, key, ["RS256", "ES256"], audience=self._audience, issuer=self._issuer)
        except (jwt.PyJWTError, KeyError):
            return False
        return True


if __name__ == "__main__":
    unchecked = TransportSecuritySettings(enable_dns_rebinding_protection=False)
    app = server.streamable_http_app(transport_security=unchecked)
    guarded = Guard(app, sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else "")
    uvicorn.run(
        guarded, host="0.0.0.0", port=8080, log_level="warning", timeout_graceful_shutdown=2
    )
