"""`mcpproxy open`: open the page of a proxy, or of the operator, in a browser."""

import argparse
import asyncio
import webbrowser
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import urlsplit

import httpx2

from mcpproxy.api import constants
from mcpproxy.api.manifest_errors import ManifestError
from mcpproxy.plan.port_forward import forward, proxy_of
from mcpproxy.proxy import process
from mcpproxy.proxy.config.options import parse_seconds
from mcpproxy.terminal.connection import TIMEOUT, ConnectionFailed
from mcpproxy.terminal.output import report, write

OPERATOR: Final = "operator"
"""TARGET for the page of the operator."""
OPERATOR_NAMESPACE: Final = "mcpproxy-system"
_PORTS: Final = {"proxy": "admin", OPERATOR: "health"}
"""Names of the ports of pods that have a page."""
MAX_SHOWN: Final = 200
"""Characters of an error response that are shown."""
_MAX_PORT: Final = 65535
_EXPECTED: Final = (
    "expected mcpproxy/NAME, operator, or the address of --admin-port, such as 127.0.0.1:9090"
)
Wait = Callable[[], Awaitable[None]]
"""Function that returns when the page can no longer be reached."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `mcpproxy open`."""
    add = parser.add_argument
    add(
        "target",
        metavar="TARGET",
        help="mcpproxy/NAME for a proxy in the cluster and operator for the operator, both through"
        " kubectl; or the address of a proxy's --admin-port, such as 127.0.0.1:9090",
    )
    add(
        "-n",
        "--namespace",
        metavar="NS",
        help=f"namespace of the proxy, or of the operator (default: {OPERATOR_NAMESPACE})",
    )
    add("--no-browser", action="store_true", help="print the URL, and open no browser")
    add(
        "--timeout",
        type=parse_seconds,
        default=TIMEOUT,
        metavar="SECONDS",
        help="time limit for the connection (%(default)g)",
    )


def main(args: argparse.Namespace) -> int:
    """Open the page; keep a forwarded port until SIGINT.

    Return 0, 1 if there is no page, or 2 for wrong arguments.
    """
    process.log_to_stderr("error")
    try:
        process.run(_show(args))
    except ManifestError as error:
        report(f"mcpproxy open: {error}")
        return 2
    except ConnectionFailed as error:
        report(f"mcpproxy open: {error}")
        return 1
    except KeyboardInterrupt:
        # The usual end, because the page needs the forwarded port for as long as it is open.
        return 0
    return 0


async def _show(args: argparse.Namespace) -> None:
    async with _page(args.target, args.namespace, args.timeout) as (url, wait):
        await _check(url, args.target, args.timeout)
        write(f"{url}\n")
        if not args.no_browser:
            await asyncio.to_thread(webbrowser.open, url)
        if wait is not None:
            report("the port is forwarded until Ctrl-C")
            await wait()
            raise ConnectionFailed(f"{args.target}: kubectl port-forward has ended")


@asynccontextmanager
async def _page(
    target: str, namespace: str | None, timeout: float
) -> AsyncIterator[tuple[str, Wait | None]]:
    """Yield the URL of a page, and a function that waits for the end of a forwarded port."""
    proxy = proxy_of(target)
    if proxy is None and target != OPERATOR:
        yield page_url(target), None
        return
    resource, port = f"deployment/{proxy}", _PORTS["proxy"]
    if proxy is None:
        resource, port = f"deployment/{constants.OPERATOR}", _PORTS[OPERATOR]
        namespace = namespace or OPERATOR_NAMESPACE
    async with forward(resource, port, target, namespace, timeout) as forwarding:
        yield f"http://{forwarding.address}/", forwarding.wait_for_end


def page_url(target: str) -> str:
    """Return the URL of the page at an address: a URL, HOST:PORT, or a port of this machine.

    Raise ManifestError.
    """
    text = target if "://" in target else f"http://{target}"
    if target.isdecimal():
        text = f"http://127.0.0.1:{target}"
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        raise ManifestError(f"TARGET: {_EXPECTED}; found {target!r}") from None
    if parts.scheme != "http" or not parts.hostname or not port or port > _MAX_PORT:
        raise ManifestError(f"TARGET: {_EXPECTED}; found {target!r}")
    return f"http://{parts.netloc}/"


async def _check(url: str, target: str, timeout: float) -> None:
    """Raise ConnectionFailed if there is no page at the URL."""
    try:
        async with httpx2.AsyncClient(timeout=timeout, trust_env=False) as http:
            response = await http.get(url)
    except httpx2.HTTPError as error:
        raise ConnectionFailed(f"{target}: {url}: {error or type(error).__name__}") from error
    media_type = response.headers.get("content-type", "")
    if response.status_code == 200 and media_type.startswith("text/html"):
        return
    why = response.text.strip()[:MAX_SHOWN] if media_type.startswith("text/plain") else ""
    reason = f"HTTP {response.status_code}{f': {why}' if why else ''}"
    raise ConnectionFailed(
        f"{target}: {url} has no page ({reason}); use the address of --admin-port"
    )
