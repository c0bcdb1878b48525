"""Decides about calls on port 8080, as the Open Policy Agent would. Runs in a pod.

Calls about Oslo and about no city are allowed. The decision about Rome takes longer than anyone
waits.
"""

import asyncio

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

SECONDS = 20


async def decide(request: Request) -> Response:
    question = (await request.json())["input"]
    city = question["params"].get("arguments", {}).get("city")
    if city == "Rome":
        await asyncio.sleep(SECONDS)
    return JSONResponse({"result": {"allow": city in (None, "Oslo")}})


if __name__ == "__main__":
    app = Starlette(routes=[Route("/decide", decide, methods=["POST"])])
    uvicorn.run(app, host="0.0.0.0", port=8080, log_level="warning")
