"""`mcpproxy run` without a terminal: run the proxy in front of MCP servers."""

import argparse
import asyncio
import logging
import os
import signal
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from mcpproxy.api.manifest_errors import ManifestError
from mcpproxy.proxy import process
from mcpproxy.proxy.config.from_arguments import start_reading, transport_of
from mcpproxy.proxy.config.options import MAX_PORT, RuntimeOptions
from mcpproxy.proxy.config.proxy_config import ProxyConfig
from mcpproxy.proxy.config.variables import Ask
from mcpproxy.proxy.downstream.standard_streams import NothingToServe, OutputFailed
from mcpproxy.proxy.run_options import WORKER_PORTS
from mcpproxy.proxy.workers.ipc import WorkerStartFailed
from mcpproxy.text_logs import is_terminal

if TYPE_CHECKING:
    from mcpproxy.api.v1alpha1 import MCPProxy
    from mcpproxy.proxy.runtime import Runtime
    from mcpproxy.proxy.workers.supervisor import Supervisor

log = logging.getLogger("mcpproxy.run")


class RunView(Protocol):
    """Display of a running proxy for the person at the terminal."""

    def log_handler(self) -> logging.Handler:
        """Return the handler for the log while the display is open."""

    def serving(self, proxy: "Runtime | Supervisor", url: str, spec: "MCPProxy") -> None:
        """Show a proxy, whose ports are open."""

    def close(self) -> None:
        """Write the rest of the log and end the display."""


def main(args: argparse.Namespace, view: RunView | None = None, ask: Ask | None = None) -> int:
    """Run until stopped; return 0, 130 after SIGINT, or 2 if the configuration is invalid.

    `ask` asks the user for the inputs of an mcpServers file.
    """
    read_configuration = start_reading(args, ask)
    handler = None if view is None else view.log_handler()
    process.log_to_stderr(args.log_level, log_format=args.log_format, handler=handler)
    try:
        return _run(args, view, read_configuration)
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


def _run(
    args: argparse.Namespace, view: RunView | None, read_configuration: Callable[[], ProxyConfig]
) -> int:
    # Both take time, and another process reads the configuration.
    from mcpproxy.proxy.runtime import Runtime

    configuration = read_configuration()
    options = _options(args)
    if args.workers > 1:
        if transport_of(args) == "stdio":
            raise ManifestError("--workers requires HTTP; add --transport http")
        return _run_workers(args, configuration, options, view)
    runtime = Runtime(configuration, options)
    if transport_of(args) == "stdio":
        return process.run(_serve_stdio(runtime))

    def serving() -> None:
        _show(view, runtime, runtime.url, configuration)

    process.run(runtime.serve_http(serving))
    return process.INTERRUPTED if runtime.interrupted else 0


def _show(
    view: RunView | None, proxy: "Runtime | Supervisor", url: str, configuration: ProxyConfig
) -> None:
    """Show a proxy whose ports are open. Without a view, the log says where it serves."""
    if view is None:
        log.info("serving at %s", url)
    else:
        view.serving(proxy, url, configuration.proxy)


def _run_workers(
    args: argparse.Namespace,
    configuration: ProxyConfig,
    options: RuntimeOptions,
    view: RunView | None,
) -> int:
    # Only a supervisor validates reports.
    from mcpproxy.proxy.runtime import reachable_address
    from mcpproxy.proxy.workers import supervisor

    def serving(workers: supervisor.Supervisor) -> None:
        address = reachable_address(options, options.port)
        _show(view, workers, f"http://{address}{options.path}", configuration)

    log_format = "text" if process.logs_text(args.log_format) else "json"
    ports = _worker_ports(args)
    work = supervisor.serve(configuration, options, ports, args.log_level, log_format, serving)
    interrupted = asyncio.run(process.reap_children(work))
    return process.INTERRUPTED if interrupted else 0


async def _serve_stdio(runtime: "Runtime") -> int:
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
        audit_descriptor=1 if transport_of(args) == "http" else 2,
        drain=args.drain,
        instances=tuple(args.instances),
        reachable=os.environ.get("POD_IP") or None,
    )
