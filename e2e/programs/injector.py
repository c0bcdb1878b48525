"""A mutating webhook on port 8443 that changes what others wrote. Runs in a pod.

Every Deployment gets an annotation on itself and on its pods, every pod an annotation and a
sidecar. The certificate and its key are in /certificate.
"""

import base64
import json
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

ANNOTATION = {"injector.example.com/injected": "yes"}
SIDECAR = "injected"


def annotate(metadata: dict[str, Any]) -> None:
    metadata["annotations"] = {**metadata.get("annotations", {}), **ANNOTATION}


def inject(manifest: dict[str, Any]) -> None:
    annotate(manifest["metadata"])
    if manifest["kind"] == "Deployment":
        annotate(manifest["spec"]["template"]["metadata"])
        return
    containers = manifest["spec"]["containers"]
    if SIDECAR not in [container["name"] for container in containers]:
        command = ["python", "-c", "import signal; signal.pause()"]
        image = containers[0]["image"]
        containers.append({"name": SIDECAR, "image": image, "command": command})


async def mutate(request: Request) -> JSONResponse:
    review = await request.json()
    asked = review["request"]
    manifest = asked["object"]
    inject(manifest)
    whole = [{"op": "replace", "path": f"/{key}", "value": manifest[key]} for key in manifest]
    patch = base64.b64encode(json.dumps(whole).encode()).decode()
    answer = {"uid": asked["uid"], "allowed": True, "patchType": "JSONPatch", "patch": patch}
    return JSONResponse({**review, "response": answer, "request": None})


if __name__ == "__main__":
    uvicorn.run(
        Starlette(routes=[Route("/mutate", mutate, methods=["POST"])]),
        host="0.0.0.0",
        port=8443,
        log_level="warning",
        ssl_certfile="/certificate/tls.crt",
        ssl_keyfile="/certificate/tls.key",
    )
