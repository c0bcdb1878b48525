"""Options, host checks and HTTP serving that the demo servers share."""

import argparse
import os

import uvicorn
from mcp.server.transport_security import TransportSecuritySettings
from starlette.types import ASGIApp

DRAIN_SECONDS = 2


def arguments(default_port: int) -> argparse.Namespace:
    """Parse the command line: host and port."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=default_port)
    return parser.parse_args()


def security(service: str) -> TransportSecuritySettings:
    """Return host checks that accept localhost and the names of the Service, with any port.

    The namespace is the value of POD_NAMESPACE, which the Deployment sets.
    """
    namespace = os.environ.get("POD_NAMESPACE", "default")
    qualified = f"{service}.{namespace}"
    hosts = ["localhost", "127.0.0.1", "[::1]"]
    hosts += [service, qualified, f"{qualified}.svc", f"{qualified}.svc.cluster.local"]
    return TransportSecuritySettings(
        allowed_hosts=[form for host in hosts for form in (host, f"{host}:*")]
    )


def serve(app: ASGIApp, args: argparse.Namespace) -> None:
    """Serve until SIGTERM or SIGINT. Open streams have DRAIN_SECONDS to end."""
    uvicorn.run(
        app,
        host=args.host,
        port=args.port,
        log_level="warning",
        timeout_graceful_shutdown=DRAIN_SECONDS,
    )
