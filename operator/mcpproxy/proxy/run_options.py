"""The options of `mcpproxy run`."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Final

from mcpproxy.api import constants
from mcpproxy.api.authority import parse_authority
from mcpproxy.proxy.config.options import (
    DRAIN,
    parse_header,
    parse_name,
    parse_path,
    parse_port,
    parse_resolution,
)

WORKER_PORTS: Final = 100
"""Distance between the shared port and the first worker's separate port."""
MAX_WORKERS: Final = 64
LEVELS: Final = ("debug", "info", "warning", "error")


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
    _add_sign_in(add)
    add(
        "--drain",
        type=int,
        default=DRAIN,
        metavar="SECONDS",
        help="grace period for calls in progress after SIGTERM (%(default)s)",
    )
    _add_instances(add)
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
    add("--admin-port", type=parse_port, help="port of livez, readyz, metrics, status and a page")
    add(
        "--admin-page",
        choices=("local", "all"),
        default="local",
        help="visitors of the page at the admin port: those of the same machine or pod, or all"
        " (%(default)s)",
    )


def _add_instances(add: Callable[..., object]) -> None:
    add(
        "--instances",
        action="append",
        default=[],
        type=_instance,
        metavar="HOST:PORT",
        help="other instances of this proxy, with the same sealing keys, that count calls for"
        " spec.limits together with this one, and share watches of backends; HOST may have the"
        " addresses of several",
    )


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


def _add_sign_in(add: Callable[..., object]) -> None:
    add(
        "--sign-in",
        choices=("auto", "all", "new", "none"),
        default="auto",
        help="servers to which the user signs in, in a browser, once they refuse a request without"
        " a token (401): all without credentials; new forgets the tokens that are stored; auto"
        " is all at a terminal, and elsewhere those with OAuth in mcp.json (%(default)s)",
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
    # Most processes do without this option, and without pydantic.
    from pydantic import ValidationError

    from mcpproxy.api.v1alpha1 import PrincipalFrom

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
