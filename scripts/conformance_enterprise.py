"""The caller of the conformance suite's scenario for enterprise-managed authorization.

The suite passes an ID token of its identity provider to the client, but that provider publishes no
keys, and its private key stays in the suite. The proxy accepts only verified tokens, so this module
computes the public key from the token's signature (SEC 1, section 4.1.6) and publishes it.
"""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, Final

Point = tuple[int, int] | None
"""A point of the curve; None is the neutral element."""
_P: Final = 2**256 - 2**224 + 2**192 + 2**96 - 1
_B: Final = 0x5AC635D8AA3A93E7B3EBBD55769886BC651D06B0CC53B0F63BCE3C3E27D2604B
_N: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_G: Final = (
    0x6B17D1F2E12C4247F8BCE6E563A440F277037D812DEB33A0F4A13945D898C296,
    0x4FE342E2FE1A7F9B8EE7EB4A7C0F9E162BCE33576B315ECECBB6406837BF51F5,
)


def recover_key(token: str) -> dict[str, str]:
    """Return a public key on P-256 (JWK) that verifies the ES256 signature of a token."""
    signed, _, signature = token.rpartition(".")
    raw = base64.urlsafe_b64decode(signature + "=" * (-len(signature) % 4))
    r, s = int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big")
    digest = int.from_bytes(hashlib.sha256(signed.encode("ascii")).digest(), "big")
    square = (pow(r, 3, _P) - 3 * r + _B) % _P
    point = (r, pow(square, (_P + 1) // 4, _P))
    inverse = pow(r, -1, _N)
    key = _add(_multiply(s * inverse % _N, point), _multiply(-digest * inverse % _N, _G))
    if key is None or point[1] ** 2 % _P != square:
        raise ValueError("the signature belongs to no key on P-256")
    return {"kty": "EC", "crv": "P-256", "alg": "ES256", "x": _text(key[0]), "y": _text(key[1])}


def _add(left: Point, right: Point) -> Point:
    if left is None or right is None:
        return left or right
    if left[0] == right[0]:
        if (left[1] + right[1]) % _P == 0:
            return None
        slope = (3 * left[0] ** 2 - 3) * pow(2 * left[1], -1, _P)
    else:
        slope = (right[1] - left[1]) * pow(right[0] - left[0], -1, _P)
    x = (slope**2 - left[0] - right[0]) % _P
    return x, (slope * (left[0] - x) - left[1]) % _P


def _multiply(factor: int, point: Point) -> Point:
    result: Point = None
    while factor:
        if factor & 1:
            result = _add(result, point)
        point, factor = _add(point, point), factor >> 1
    return result


def _text(number: int) -> str:
    return base64.urlsafe_b64encode(number.to_bytes(32, "big")).rstrip(b"=").decode("ascii")


@contextmanager
def publishing(key: dict[str, str]) -> Iterator[str]:
    """Serve a key set, and yield its URL."""
    body = json.dumps({"keys": [key]}).encode()

    class Keys(BaseHTTPRequestHandler):
        """The key set."""

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with HTTPServer(("127.0.0.1", 0), Keys) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/keys"
        finally:
            server.shutdown()
            thread.join()


def spec_of(
    context: dict[str, Any], client: dict[str, Any], keys: str, values: Path
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the authentication of callers, and `auth` of the backend with its `client`.

    The suite's identity provider does not authenticate its client, so any secret will do.
    """
    secret = values / "secret" / "provider" / "secret"
    secret.parent.mkdir(parents=True)
    secret.write_text("unchecked", encoding="utf-8")
    issuer, audience = context["idp_issuer"], context["idp_client_id"]
    accepted = {"issuer": issuer, "audiences": [audience], "jwksUrl": keys, "insecureHttp": True}
    provider = {
        "issuer": issuer,
        "insecureHttp": True,
        "clientId": audience,
        "clientSecretFrom": {"secretKeyRef": {"name": "provider", "key": "secret"}},
        "subjectTokenType": "IdToken",
    }
    return {"jwt": [accepted]}, {"idJag": {**client, "identityProvider": provider}}
