"""Options that the commands for people share."""

import argparse
import math
import re
from typing import Final

from mcpproxy.terminal.connection import Target

TIMEOUT: Final = 30.0
_HEADER: Final = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*")
EXAMPLES: Final = "a URL, server.py, server.js, mcp.json, an MCPProxy's YAML file, or mcpproxy/NAME"


def add_target(parser: argparse.ArgumentParser) -> None:
    """Declare the target and the options of the connection."""
    add = parser.add_argument
    add("target", metavar="TARGET", help=f"{EXAMPLES} for a proxy in the cluster, through kubectl")
    add("-n", "--namespace", metavar="NS", help="namespace of mcpproxy/NAME")
    add(
        "-H",
        "--header",
        action="append",
        default=[],
        type=_header,
        metavar="'NAME: VALUE'",
        help="send this header with HTTP requests; repeatable",
    )
    add("-o", "--output", choices=("text", "json"), default="text", help="%(default)s")
    add(
        "--timeout",
        type=parse_seconds,
        default=TIMEOUT,
        metavar="SECONDS",
        help="time limit for the connection (%(default)g)",
    )


def build_target(args: argparse.Namespace) -> Target:
    """Return the target that the arguments name."""
    return Target(args.target, args.namespace, dict(args.header), args.timeout)


def parse_seconds(text: str) -> float:
    """Return a positive number of seconds. Raise ArgumentTypeError."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number of seconds")
    return seconds


def _header(text: str) -> tuple[str, str]:
    match = _HEADER.fullmatch(text)
    if match is None or not match[2].isprintable():
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a header, such as 'Authorization: Bearer x'"
        )
    return match[1], match[2]
