"""An OpenID provider on port 8080 that signs any claims that it is sent. Runs in a pod.

GET /token?sub=alice&groups=dev returns a token of five minutes. The issuer is the URL at which the
provider is called.
"""

import time

import jwt
import uvicorn
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from jwt.algorithms import ECAlgorithm
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

KEY = generate_private_key(SECP256R1())
KEY_ID = "one"


def issuer(request: Request) -> str:
    return str(request.base_url).rstrip("/")


async def metadata(request: Request) -> Response:
    own = issuer(request)
    return JSONResponse({"issuer": own, "jwks_uri": f"{own}/keys"})


async def keys(request: Request) -> Response:
    public = ECAlgorithm.to_jwk(KEY.public_key(), as_dict=True)
    return JSONResponse({"keys": [{**public, "kid": KEY_ID, "alg": "ES256", "use": "sig"}]})


async def token(request: Request) -> Response:
    claims = {**request.query_params, "iss": issuer(request), "exp": int(time.time()) + 300}
    return PlainTextResponse(jwt.encode(claims, KEY, "ES256", {"kid": KEY_ID}))


if __name__ == "__main__":
    routes = [
        Route("/.well-known/openid-configuration", metadata),
        Route("/keys", keys),
        Route("/token", token),
    ]
    uvicorn.run(Starlette(routes=routes), host="0.0.0.0", port=8080, log_level="warning")
