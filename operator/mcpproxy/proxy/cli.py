"""`mcpproxy run`: run the proxy in front of MCP servers."""

import argparse
import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from mcpproxy.api import constants
from mcpproxy.api.authority import parse_authority
from mcpproxy.api.manifest import ManifestError
from mcpproxy.api.v1alpha1 import PrincipalFrom
from mcpproxy.proxy import process
from mcpproxy.proxy.config.access import add_access
from mcpproxy.proxy.config.options import DRAIN, RuntimeOptions
from mcpproxy.proxy.config.targets import ProxyConfig, from_manifest, from_target
from mcpproxy.proxy.downstream.standard_streams import NothingToServe, OutputFailed
from mcpproxy.proxy.runtime import Runtime
from mcpproxy.proxy.workers import supervisor
from mcpproxy.proxy.workers.worker_process import WorkerStartFailed

MAX_PORT: Final = 65535
WORKER_PORTS: Final = 100
"""Distance between the shared port and the first worker's separate port."""
MAX_WORKERS: Final = 64
LEVELS = ("debug", "info", "warning", "error")

log = logging.getLogger("mcpproxy.run")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `mcpproxy run`."""
    add = parser.add_argument
    add("target", nargs="?", metavar="TARGET", help="URL, server.py, server.js or mcp.json")
    add("-f", "--file", type=Path, metavar="MANIFEST", help="YAML file with an MCPProxy")
    add("--transport", choices=("http", "stdio"), help="default: stdio for TARGET, http for -f")
    add("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    add("--port", type=_port, default=8000, help="port to listen on (%(default)s)")
    add("--path", type=_path, default=constants.MCP_PATH, help="path of the endpoint (%(default)s)")
    add("--admin-host", default="127.0.0.1", help="address of the admin port (%(default)s)")
    add("--admin-port", type=_port, help="port of livez, readyz, metrics, status and a page")
    add(
        "--admin-page",
        choices=("local", "all"),
        default="local",
        help="visitors of the page at the admin port: those of the same machine or pod, or all"
        " (%(default)s)",
    )
    add_places(parser)
    add(
        "--sealing-keys",
        type=Path,
        metavar="DIR",
        help="directory with the key files current and previous; default: a random key",
    )
    _add_access(add)
    add(
        "--drain",
        type=int,
        default=DRAIN,
        metavar="SECONDS",
        help="grace period for calls in progress after SIGTERM (%(default)s)",
    )
    add(
        "--instances",
        action="append",
        default=[],
        type=_instance,
        metavar="HOST:PORT",
        help="other instances of this proxy, with the same sealing keys, that count calls for"
        " spec.limits together with this one; HOST may have the addresses of several",
    )
    _add_workers(add)
    add("--log-level", choices=LEVELS, default="info", help="%(default)s")


def _add_access(add: Callable[..., object]) -> None:
    add("--allowed-host", action="append", default=[], metavar="HOST", help="also serve this Host")
    add(
        "--allowed-origin",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="allow browser requests from this origin, such as http://localhost:6274",
    )
    add(
        "--access",
        type=Path,
        metavar="FILE",
        help="YAML file with publicUrl, authentication, authorization and audit, as in the spec of"
        " an MCPProxy, for TARGET",
    )
    add(
        "--public-url",
        metavar="URL",
        help="URL at which clients reach the proxy, for TARGET",
    )
    add(
        "--principal-from",
        type=_header,
        metavar="HEADER",
        help="header that names the user, set by an authenticating gateway in front of the proxy;"
        " the proxy refuses requests without it (default: users are distinguished by"
        " Authorization)",
    )


def add_places(parser: argparse.ArgumentParser) -> None:
    """Declare the options that replace a pod's mounted values and its name resolution."""
    add = parser.add_argument
    add(
        "--values",
        type=Path,
        default=Path(constants.VALUES_DIR),
        metavar="DIR",
        help="directory with the values for valueFrom: {secret,configmap}/NAME/KEY (%(default)s)",
    )
    add(
        "--resolve",
        action="append",
        default=[],
        type=_resolution,
        metavar="NAME=HOST:PORT",
        help="connect to HOST:PORT for the Service or host NAME",
    )


def _add_workers(add: Callable[..., object]) -> None:
    add(
        "--workers",
        type=_count,
        default=1,
        metavar="N",
        help="number of processes that share the port; each has its own sessions with the backends"
        " and its own child processes for stdio backends, including Reused ones (%(default)s)",
    )
    add(
        "--worker-ports",
        type=_port,
        metavar="FIRST",
        help="port at which other processes connect to worker 0; worker 1 uses the next port, and"
        f" so on (default: --port + {WORKER_PORTS})",
    )


def _port(text: str) -> int:
    number = int(text)
    if not 0 <= number <= MAX_PORT:
        raise argparse.ArgumentTypeError(f"{number} is not a valid port; use 0 to 65535")
    return number


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MAX_WORKERS:
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer from 1 to {MAX_WORKERS}")
    return int(text)


def _path(text: str) -> str:
    if not text.startswith("/"):
        raise argparse.ArgumentTypeError(f"{text!r} must start with /")
    return text


def _header(text: str) -> str:
    try:
        return PrincipalFrom(header=text).header
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise argparse.ArgumentTypeError(f"{text!r}: {reason}") from None


def _instance(text: str) -> tuple[str, int]:
    """Parse an argument HOST:PORT into a pair."""
    authority = parse_authority(text)
    if authority is None or authority.port is None:
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT")
    return authority.host.strip("[]"), authority.port


def _resolution(text: str) -> tuple[str, str]:
    """Parse an argument NAME=HOST:PORT into a pair."""
    name, equals, address = text.partition("=")
    host, colon, port = address.rpartition(":")
    if not (name and equals and host and colon and port.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=HOST:PORT")
    return name, address


def main(args: argparse.Namespace) -> int:
    """Run until stopped; return 0, or 2 if the configuration is invalid."""
    process.log_to_stderr(args.log_level)
    try:
        configuration = _configuration(args)
        options = _options(args)
        transport = _transport(args)
        if args.workers > 1:
            if transport == "stdio":
                raise ManifestError("--workers requires HTTP; add --transport http")
            serving = supervisor.serve(configuration, options, _worker_ports(args), args.log_level)
            asyncio.run(process.reap_children(serving))
            return 0
        runtime = Runtime(configuration, options)
        if transport == "stdio":
            return process.run(_serve_stdio(runtime))
        process.run(runtime.serve_http())
    except (WorkerStartFailed, OutputFailed) as error:
        process.report_error(f"mcpproxy run: {error}")
        return 1
    except NothingToServe as error:
        process.report_error(f"mcpproxy run: {error}. For HTTP: --transport http")
        return 2
    except (ManifestError, ValueError, OSError) as error:
        process.report_error(f"mcpproxy run: {error}")
        return 2
    except KeyboardInterrupt:
        return process.INTERRUPTED
    return 0


async def _serve_stdio(runtime: Runtime) -> int:
    """Serve until the client closes the streams, SIGTERM or SIGINT; return the exit code."""
    loop, serving = asyncio.get_running_loop(), asyncio.current_task()
    assert serving is not None
    received: list[signal.Signals] = []

    def stop(number: signal.Signals) -> None:
        if received:
            # The kernel kills the programs of backends together with this process.
            os._exit(process.INTERRUPTED)
        received.append(number)
        serving.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number)
    if sys.stdin is not None and sys.stdin.isatty():
        log.info("serving one client on this terminal; for HTTP: --transport http")
    try:
        await runtime.serve_stdio()
    except asyncio.CancelledError:
        if not received:
            raise
        return process.INTERRUPTED if received[0] == signal.SIGINT else 0
    return 0


def _worker_ports(args: argparse.Namespace) -> list[int]:
    """Return the separate port of each worker. Raise ValueError."""
    count, first = args.workers, args.worker_ports
    if first is None:
        first = args.port + WORKER_PORTS if args.port else 0
    ports = [first + number if first else 0 for number in range(count)]
    taken = {args.port: "--port", args.admin_port: "--admin-port"}
    for port in ports:
        if port and port in taken:
            raise ValueError(
                f"--worker-ports: the {count} ports from {first} include {port}, which is"
                f" {taken[port]}; choose other ports"
            )
        if port > MAX_PORT:
            raise ValueError(
                f"--worker-ports: the {count} ports from {first} exceed {MAX_PORT}; choose a lower"
                " port"
            )
    return ports


def _configuration(args: argparse.Namespace) -> ProxyConfig:
    if (args.target is None) == (args.file is None):
        raise ManifestError("exactly one of TARGET and -f MANIFEST is required")
    if not args.file:
        return add_access(from_target(args.target), args.access, args.public_url)
    if args.access is not None or args.public_url is not None:
        option = "--public-url" if args.access is None else "--access"
        raise ManifestError(f"{option}: the manifest of -f has these fields itself; set them there")
    return from_manifest(args.file)


def _transport(args: argparse.Namespace) -> str:
    return args.transport or ("http" if args.file else "stdio")


def _options(args: argparse.Namespace) -> RuntimeOptions:
    return RuntimeOptions(
        host=args.host,
        port=args.port,
        path=args.path,
        admin_host=args.admin_host,
        admin_port=args.admin_port,
        admin_page=args.admin_page,
        values=args.values,
        sealing_keys=args.sealing_keys,
        resolve=dict(args.resolve),
        allowed_hosts=tuple(args.allowed_host),
        allowed_origins=tuple(args.allowed_origin),
        principal_from=args.principal_from,
        audit_descriptor=1 if _transport(args) == "http" else 2,
        drain=args.drain,
        instances=tuple(args.instances),
        reachable=os.environ.get("POD_IP") or None,
    )
