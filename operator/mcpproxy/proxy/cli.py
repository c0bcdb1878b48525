"""`mcpproxy run` without a terminal: run the proxy in front of MCP servers."""

import argparse
import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from pydantic import ValidationError

from mcpproxy.api import constants
from mcpproxy.api.manifest_errors import ManifestError
from mcpproxy.api.v1alpha1 import MCPProxy, PrincipalFrom
from mcpproxy.proxy import process
from mcpproxy.proxy.config.access import add_access
from mcpproxy.proxy.config.options import (
    DRAIN,
    MAX_PORT,
    RuntimeOptions,
    parse_header,
    parse_name,
    parse_path,
    parse_port,
    parse_resolution,
)
from mcpproxy.proxy.config.targets import ProxyConfig, from_file, from_target
from mcpproxy.proxy.config.variables import Ask
from mcpproxy.proxy.downstream.standard_streams import NothingToServe, OutputFailed
from mcpproxy.proxy.runtime import Runtime, reachable_address
from mcpproxy.proxy.workers import supervisor
from mcpproxy.proxy.workers.worker_process import WorkerStartFailed
from mcpproxy.text_logs import is_terminal

WORKER_PORTS: Final = 100
"""Distance between the shared port and the first worker's separate port."""
MAX_WORKERS: Final = 64
LEVELS = ("debug", "info", "warning", "error")

log = logging.getLogger("mcpproxy.run")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `mcpproxy run`."""
    add = parser.add_argument
    add(
        "target",
        nargs="?",
        metavar="TARGET",
        help="URL, server.py, server.js, mcp.json or another client's configuration",
    )
    add("-f", "--file", type=Path, metavar="MANIFEST", help="YAML file with an MCPProxy")
    add(
        "-H",
        "--header",
        action="append",
        default=[],
        type=parse_header,
        metavar="'NAME: VALUE'",
        help="send this header to the server at the URL TARGET; repeatable",
    )
    add("--name", type=parse_name, help="name that clients see (default: mcpproxy)")
    _add_transport(add)
    _add_addresses(add)
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
    _add_workers(add)
    _add_log(add)


def _add_addresses(add: Callable[..., object]) -> None:
    add("--host", default="127.0.0.1", help="address to listen on (%(default)s)")
    add("--port", type=parse_port, default=8000, help="port to listen on (%(default)s)")
    add(
        "--path",
        type=parse_path,
        default=constants.MCP_PATH,
        help="path of the endpoint (%(default)s)",
    )
    add("--admin-host", default="127.0.0.1", help="address of the admin port (%(default)s)")
    add("--admin-port", type=parse_port, help="port of livez, readyz, metrics and status")


def _add_transport(add: Callable[..., object]) -> None:
    add(
        "--transport",
        choices=("http", "stdio"),
        help="default: http for -f and at a terminal, stdio for TARGET with a client at the other"
        " end of standard input",
    )


def _add_log(add: Callable[..., object]) -> None:
    add("--log-level", choices=LEVELS, default="info", help="%(default)s")
    add(
        "--log-format",
        choices=("auto", "text", "json"),
        default="auto",
        help="auto is text at a terminal and json elsewhere (%(default)s)",
    )


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
        type=parse_resolution,
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
        type=parse_port,
        metavar="FIRST",
        help="port at which other processes connect to worker 0; worker 1 uses the next port, and"
        f" so on (default: --port + {WORKER_PORTS})",
    )


def _count(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MAX_WORKERS:
        raise argparse.ArgumentTypeError(f"{text!r} is not an integer from 1 to {MAX_WORKERS}")
    return int(text)


def _header(text: str) -> str:
    try:
        return PrincipalFrom(header=text).header
    except ValidationError as error:
        reason = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise argparse.ArgumentTypeError(f"{text!r}: {reason}") from None


class RunView(Protocol):
    """Display of a running proxy for the person at the terminal."""

    def log_handler(self) -> logging.Handler:
        """Return the handler for the log while the display is open."""

    def serving(self, proxy: Runtime | supervisor.Supervisor, url: str, spec: MCPProxy) -> None:
        """Show a proxy, whose ports are open."""

    def close(self) -> None:
        """Write the rest of the log and end the display."""


def main(args: argparse.Namespace, view: RunView | None = None, ask: Ask | None = None) -> int:
    """Run until stopped; return 0, 130 after SIGINT, or 2 if the configuration is invalid.

    `ask` asks the user for the inputs of an mcpServers file.
    """
    handler = None if view is None else view.log_handler()
    process.log_to_stderr(args.log_level, log_format=args.log_format, handler=handler)
    try:
        return _run(args, view, ask)
    except EOFError:
        # The person ended the input instead of an answer.
        return process.INTERRUPTED
    except Exception as error:
        if view is not None:
            view.close()
        code = _exit_code(error)
        if code is None:
            raise
        if isinstance(error, NothingToServe):
            error = NothingToServe(f"{error}. For HTTP: --transport http")
        process.report_failure("mcpproxy run", error)
        return code
    except KeyboardInterrupt:
        return process.INTERRUPTED
    finally:
        if view is not None:
            view.close()


def _exit_code(error: Exception) -> int | None:
    """Return the exit code for an error; None if it is a fault of the program."""
    if isinstance(error, WorkerStartFailed | OutputFailed):
        return 1
    return 2 if isinstance(error, ManifestError | ValueError | OSError) else None


def _run(args: argparse.Namespace, view: RunView | None, ask: Ask | None) -> int:
    configuration = _configuration(args, ask)
    options = _options(args)
    if args.workers > 1:
        if transport_of(args) == "stdio":
            raise ManifestError("--workers requires HTTP; add --transport http")
        return _run_workers(args, configuration, options, view)
    runtime = Runtime(configuration, options)
    if transport_of(args) == "stdio":
        return process.run(_serve_stdio(runtime))

    def serving() -> None:
        if view is not None:
            view.serving(runtime, runtime.url, configuration.proxy)

    process.run(runtime.serve_http(serving))
    return process.INTERRUPTED if runtime.interrupted else 0


def _run_workers(
    args: argparse.Namespace,
    configuration: ProxyConfig,
    options: RuntimeOptions,
    view: RunView | None,
) -> int:
    def serving(workers: supervisor.Supervisor) -> None:
        if view is not None:
            address = reachable_address(options, options.port)
            url = f"http://{address}{options.path}"
            view.serving(workers, url, configuration.proxy)

    log_format = "text" if process.logs_text(args.log_format) else "json"
    ports = _worker_ports(args)
    work = supervisor.serve(configuration, options, ports, args.log_level, log_format, serving)
    interrupted = asyncio.run(process.reap_children(work))
    return process.INTERRUPTED if interrupted else 0


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
    if is_terminal(sys.stdin):
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


def _configuration(args: argparse.Namespace, ask: Ask | None) -> ProxyConfig:
    if args.target is None and args.file is None:
        raise ManifestError(
            "exactly one of TARGET and -f MANIFEST is required, such as mcpproxy run"
            " https://mcp.example.com/mcp or mcpproxy run mcp.json"
        )
    if args.target is not None and args.file is not None:
        raise ManifestError(
            f"exactly one of TARGET and -f MANIFEST is required, found {args.target} and"
            f" {args.file}; run one process for each"
        )
    if args.file is None:
        configuration = from_target(args.target, ask, args.header, args.name)
        return add_access(configuration, args.access, args.public_url)
    for option, value in (
        ("-H", args.header),
        ("--name", args.name),
        ("--access", args.access),
        ("--public-url", args.public_url),
    ):
        if value:
            raise ManifestError(
                "the manifest of -f has these fields itself; set them there", option
            )
    return from_file(args.file, ask)


def transport_of(args: argparse.Namespace) -> str:
    """Return `http` or `stdio`. A person at a terminal does not speak MCP."""
    if args.transport is not None:
        return str(args.transport)
    is_person = is_terminal(sys.stdin) and is_terminal(sys.stderr)
    return "http" if args.file or is_person else "stdio"


def _options(args: argparse.Namespace) -> RuntimeOptions:
    return RuntimeOptions(
        host=args.host,
        port=args.port,
        path=args.path,
        admin_host=args.admin_host,
        admin_port=args.admin_port,
        values=args.values,
        sealing_keys=args.sealing_keys,
        resolve=dict(args.resolve),
        allowed_hosts=tuple(args.allowed_host),
        allowed_origins=tuple(args.allowed_origin),
        principal_from=args.principal_from,
        audit_descriptor=1 if transport_of(args) == "http" else 2,
        drain=args.drain,
        reachable=os.environ.get("POD_IP") or None,
    )
