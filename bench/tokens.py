"""An issuer of tokens for the benchmark, and the access that proxies grant to them.

Its keys are served by the benchmark itself; a proxy fetches them once at its start, and every 40
seconds afterwards. So are the tokens for backends, which a proxy fetches once.
"""

import asyncio
import base64
import json
import time
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from bench.processes import free_port

PUBLIC_URL: Final = "https://bench.example.com/mcp"
CLASSES: Final = 50
"""Number of groups with rules of their own."""
LIFETIME: Final = 3600
"""Seconds for which a token is valid."""
_SECRET: Final = ("client", "secret")
"""Secret and key of the proxy as a client of the issuer."""


class TokenIssuer:
    """Signs tokens, and serves the key with which they are verified."""

    def __init__(self) -> None:
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self._port = free_port()
        self._server: asyncio.Server | None = None
        self._turn = asyncio.Lock()
        self.url = f"http://127.0.0.1:{self._port}"

    async def start(self) -> None:
        """Serve the key, unless it is served already."""
        # Targets start together.
        async with self._turn:
            if self._server is None:
                self._server = await asyncio.start_server(self._answer, "127.0.0.1", self._port)

    def close(self) -> None:
        """Serve the key no longer."""
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        content: dict[str, Any] = {"keys": [self._public_key()]}
        status = b"200 OK"
        if head.startswith(b"post /token "):
            length = int(head.partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0])
            content = self._grant(parse_qs((await reader.readexactly(length)).decode("ascii")))
            status = b"400 Bad Request" if "error" in content else status
        body = json.dumps(content).encode()
        fields = b"content-type: application/json\r\nconnection: close\r\n"
        head = b"HTTP/1.1 %b\r\n%bcontent-length: %d\r\n\r\n" % (status, fields, len(body))
        writer.write(head + body)
        await writer.drain()
        writer.close()

    def _grant(self, form: dict[str, list[str]]) -> dict[str, Any]:
        """The response to a request for a token with which a backend is called."""
        grant = form.get("grant_type", [""])[0]
        if grant != "client_credentials" and "subject_token" not in form:
            return {"error": "unsupported_grant_type"}
        kind = "urn:ietf:params:oauth:token-type:access_token"
        token = {"access_token": self.token(), "token_type": "Bearer", "expires_in": LIFETIME}
        return {**token, "issued_token_type": kind}

    def _public_key(self) -> dict[str, str]:
        numbers = self._key.public_key().public_numbers()
        return {
            "kty": "RSA",
            "kid": "bench",
            "use": "sig",
            "alg": "RS256",
            "n": _encode(numbers.n.to_bytes(256, "big")),
            "e": _encode(numbers.e.to_bytes(3, "big")),
        }

    def token(self, number: int = 0) -> str:
        """A token of the caller with this number, who is in the first of the groups."""
        now = int(time.time())
        claims = {
            "iss": self.url,
            "aud": PUBLIC_URL,
            "sub": f"caller-{number}",
            "groups": ["class-0", "everyone"],
            "iat": now,
            "exp": now + LIFETIME,
        }
        head = {"alg": "RS256", "typ": "at+jwt", "kid": "bench"}
        parts = (_encode(json.dumps(part).encode()) for part in (head, claims))
        signed = ".".join(parts)
        signature = self._key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{signed}.{_encode(signature)}"

    def sign_in(self) -> dict[str, Any]:
        """The fields of a spec that demand these tokens."""
        issuer = {"issuer": self.url, "jwksUrl": f"{self.url}/keys", "insecureHttp": True}
        return {"publicUrl": PUBLIC_URL, "authentication": {"jwt": [issuer]}}

    def access(self) -> dict[str, Any]:
        """The fields of a spec that demand these tokens, with rules and an audit log."""
        rules = [_rule(number) for number in range(CLASSES)]
        return {**self.sign_in(), "authorization": {"rules": rules}, "audit": {}}

    def client(self) -> dict[str, Any]:
        """The fields of a client that fetches tokens for a backend."""
        name, key = _SECRET
        return {
            "tokenUrl": f"{self.url}/token",
            "insecureHttp": True,
            "clientId": "bench",
            "clientSecretFrom": {"secretKeyRef": {"name": name, "key": key}},
        }


def write_secret(values: Path) -> None:
    """Write the secret of the proxy into the directory of mounted values."""
    path = values.joinpath("secret", *_SECRET)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("secret-of-the-benchmark", encoding="ascii")


def _rule(number: int) -> dict[str, Any]:
    """The rule of one group; the first one sees everything."""
    tools = ["*"] if number == 0 else [f"*{number}", f"*_t{number}_*"]
    return {
        "name": f"class-{number}",
        "who": {"groups": [f"class-{number}"]},
        "may": [{"backends": ["*"], "tools": tools}],
    }


def _encode(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
