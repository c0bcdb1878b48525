"""FastMCP's proxy before one backend. Runs in FastMCP's own environment:

    python peer_fastmcp.py fresh|held|held-modern PORT URL

fresh is `create_proxy(url)` as it comes: a session with the backend for every request. held keeps
one session with the backend open for all of them, held-modern in the era without sessions.
"""

import contextlib
import sys
from collections.abc import AsyncIterator
from typing import Any

from fastmcp.server import create_proxy
from fastmcp.server.providers.proxy import (
    FastMCPProxy,
    ProxyClient,
)


def _held(client: Any) -> Any:
    @contextlib.asynccontextmanager
    async def lifespan(_: Any) -> AsyncIterator[None]:
        async with client:
            yield

    return FastMCPProxy(client_factory=lambda: client, name="peer", lifespan=lifespan)


def main() -> None:
    """Serve on 127.0.0.1 until stopped."""
    mode, port, url = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    if mode == "fresh":
        proxy = create_proxy(url, name="peer")
    else:
        options = {"mode": "2026-07-28"} if mode == "held-modern" else {}
        proxy = _held(ProxyClient(url, **options).new())
    proxy.run(
        transport="http",
        host="127.0.0.1",
        port=port,
        show_banner=False,
        log_level="WARNING",
        uvicorn_config={"access_log": False, "log_level": "warning"},
    )


if __name__ == "__main__":
    main()
