"""`mcpproxy run`: run the proxy in front of MCP servers."""

import argparse
import asyncio
import json
import logging
import os
import sys
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

from mcpproxy.api import names
from mcpproxy.api.manifest import ManifestError
from mcpproxy.proxy.runtime import Options, Runtime
from mcpproxy.proxy.serving import DRAIN
from mcpproxy.proxy.targets import Configuration, from_manifest, from_target

LEVELS = ("debug", "info", "warning", "error")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `mcpproxy run`."""
    add = parser.add_argument
    add("target", nargs="?", metavar="TARGET", help="URL, server.py, server.js or mcp.json")
    add("-f", "--file", type=Path, metavar="MANIFEST", help="a YAML file with an MCPProxy")
    add("--transport", choices=("http", "stdio"), help="default: stdio for TARGET, http for -f")
    add("--host", default="127.0.0.1", help="address to serve on (%(default)s)")
    add("--port", type=_port, default=8000, help="port to serve on (%(default)s)")
    add("--path", type=_path, default=names.MCP_PATH, help="path of the endpoint (%(default)s)")
    add("--admin-host", default="127.0.0.1", help="address of the admin port (%(default)s)")
    add("--admin-port", type=_port, help="serve livez, readyz, metrics and status here")
    add(
        "--values",
        type=Path,
        default=Path(names.VALUES_DIR),
        metavar="DIR",
        help="where values of valueFrom lie: {secret,configmap}/NAME/KEY (%(default)s)",
    )
    add(
        "--sealing-keys",
        type=Path,
        metavar="DIR",
        help="files current and previous; default: random",
    )
    add(
        "--resolve",
        action="append",
        default=[],
        type=_resolution,
        metavar="NAME=HOST:PORT",
        help="connect to HOST:PORT for the Service (or host) NAME",
    )
    add("--allowed-host", action="append", default=[], metavar="HOST", help="serve this Host, too")
    add(
        "--drain",
        type=int,
        default=DRAIN,
        metavar="SECONDS",
        help="time that calls have to end after SIGTERM (%(default)s)",
    )
    add("--log-level", choices=LEVELS, default="info", help="%(default)s")


def _port(text: str) -> int:
    number = int(text)
    if not 0 <= number <= 65535:
        raise argparse.ArgumentTypeError(f"{number} is not a port")
    return number


def _path(text: str) -> str:
    if not text.startswith("/"):
        raise argparse.ArgumentTypeError(f"{text!r} must begin with /")
    return text


def _resolution(text: str) -> tuple[str, str]:
    name, equals, address = text.partition("=")
    host, colon, port = address.rpartition(":")
    if not (name and equals and host and colon and port.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=HOST:PORT")
    return name, address


def main(args: argparse.Namespace) -> int:
    """Run until stopped; 0, or 2 when the configuration can't be used."""
    _log_to_stderr(args.log_level)
    try:
        configuration = _configuration(args)
        runtime = Runtime(configuration, _options(args))
        transport = args.transport or ("http" if args.file else "stdio")
        serve = runtime.serve_stdio if transport == "stdio" else runtime.serve_http
        _run(serve())
    except (ManifestError, ValueError, OSError) as error:
        print(f"mcpproxy run: {error}", file=sys.stderr)  # noqa: T201
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


def _run(work: Coroutine[Any, Any, None]) -> None:
    try:
        import uvloop
    except ImportError:
        asyncio.run(work)
    else:
        uvloop.run(work)


def _configuration(args: argparse.Namespace) -> Configuration:
    if (args.target is None) == (args.file is None):
        raise ManifestError("give exactly one of TARGET and -f MANIFEST")
    return from_manifest(args.file) if args.file else from_target(args.target)


def _options(args: argparse.Namespace) -> Options:
    return Options(
        host=args.host,
        port=args.port,
        path=args.path,
        admin_host=args.admin_host,
        admin_port=args.admin_port,
        values=args.values,
        sealing_keys=args.sealing_keys,
        resolve=dict(args.resolve),
        allowed_hosts=tuple(args.allowed_host),
        drain=args.drain,
        reachable=os.environ.get("POD_IP") or None,
    )


class JsonLines(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """The record's time, level, logger and message; the kind of an exception, too."""
        created = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {
            "time": f"{created}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def _log_to_stderr(level: str) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("uvicorn").setLevel(max(logging.WARNING, logging.getLevelName(level.upper())))
