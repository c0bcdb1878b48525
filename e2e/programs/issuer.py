"""An OpenID provider on port 8080 that signs any claims that it is sent. Runs in a pod.

GET /token?sub=alice&groups=dev returns a token of five minutes. POST /token grants the client
`proxy` a token for the resource that it names, for as many seconds as a scope such as lifetime:40
says. The issuer is the URL at which the provider is called. Its key is that in the file of the
first argument, if there is one.
"""

import base64
import sys
import time
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qsl

import jwt
import uvicorn
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    generate_private_key,
)
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from jwt.algorithms import ECAlgorithm
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

CLIENT = b"proxy:secret-of-the-proxy"
# A restart keeps a key that is mounted.
KEY: EllipticCurvePrivateKey = (
    cast(Any, load_pem_private_key(Path(sys.argv[1]).read_bytes(), None))
    if len(sys.argv) > 1
    else generate_private_key(SECP256R1())
)
KEY_ID = "one"


def issuer(request: Request) -> str:
    return str(request.base_url).rstrip("/")


async def metadata(request: Request) -> Response:
    own = issuer(request)
    return JSONResponse(
        {"issuer": own, "jwks_uri": f"{own}/keys", "token_endpoint": f"{own}/token"}
    )


async def keys(request: Request) -> Response:
    public = ECAlgorithm.to_jwk(KEY.public_key(), as_dict=True)
    return JSONResponse({"keys": [{**public, "kid": KEY_ID, "alg": "ES256", "use": "sig"}]})


async def token(request: Request) -> Response:
    claims = {**request.query_params, "iss": issuer(request), "exp": int(time.time()) + 300}
    return PlainTextResponse(jwt.encode(claims, KEY, "ES256", {"kid": KEY_ID}))


async def grant(request: Request) -> Response:
    form = dict(parse_qsl((await request.body()).decode()))
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    if scheme != "Basic" or base64.b64decode(secret) != CLIENT:
        return JSONResponse({"error": "invalid_client"}, 401)
    if form.get("grant_type") != "client_credentials" or "resource" not in form:
        return JSONResponse({"error": "invalid_request"}, 400)
    lifetime = int(form.get("scope", "lifetime:300").removeprefix("lifetime:"))
    claims = {"sub": "proxy", "aud": form["resource"], "iss": issuer(request)}
    signed = jwt.encode(
        {**claims, "exp": int(time.time()) + lifetime}, KEY, "ES256", {"kid": KEY_ID}
    )
    answer = {"access_token": signed, "token_type": "Bearer", "expires_in": lifetime}
    return JSONResponse(answer, headers={"Cache-Control": "no-store"})


if __name__ == "__main__":
    routes = [
        Route("/.well-known/openid-configuration", metadata),
        Route("/keys", keys),
        Route("/token", token, methods=["GET"]),
        Route("/token", grant, methods=["POST"]),
    ]
    uvicorn.run(Starlette(routes=routes), host="0.0.0.0", port=8080, log_level="warning")
