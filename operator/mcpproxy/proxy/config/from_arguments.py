"""The configuration that the command line names, read by another process.

Reading needs pydantic, the validators of all models and the parser of YAML. The process that reads
ends at once, so that the proxy has no memory for them.
"""

import argparse
import logging
import os
import pickle
import sys
import threading
import traceback
from collections.abc import Callable
from typing import NoReturn

from mcpproxy.api.manifest_errors import ManifestError
from mcpproxy.proxy.config.proxy_config import ProxyConfig
from mcpproxy.proxy.config.variables import Ask
from mcpproxy.text_logs import is_terminal


def start_reading(args: argparse.Namespace, ask: Ask | None) -> Callable[[], ProxyConfig]:
    """Start to read the configuration; return the function that waits for it.

    That function raises ManifestError, and the errors of files. `ask` asks the user for the inputs
    of an mcpServers file.
    """
    if ask is not None or threading.active_count() > 1:
        # A person answers this process, and a fork copies locks that other threads may hold.
        return lambda: _configuration(args, ask)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _send(lambda: _configuration(args, None), writing)
    os.close(writing)
    return lambda: _receive(child, reading)


def _send(read: Callable[[], ProxyConfig], writing: int) -> NoReturn:
    """Write the configuration or the error, with the records of the log, and end the process."""
    code = 1
    try:
        records = _keep_log_records()
        result: ProxyConfig | Exception
        try:
            result = read()
        except Exception as error:
            error.add_note(traceback.format_exc())
            result = error
        with open(writing, "wb") as pipe:
            pipe.write(pickle.dumps((records, result)))
        code = 0
    except Exception:
        traceback.print_exc()
    finally:
        # What the caller does after an exception is for the caller's process.
        os._exit(code)


def _keep_log_records() -> list[logging.LogRecord]:
    records: list[logging.LogRecord] = []

    class Keeper(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            # Arguments may be objects of modules that this process alone imports.
            plain = {**vars(record), "msg": record.getMessage(), "args": None}
            records.append(logging.makeLogRecord(plain))

    logging.basicConfig(level=logging.DEBUG, handlers=[Keeper()], force=True)
    return records


def _receive(child: int, reading: int) -> ProxyConfig:
    with open(reading, "rb") as pipe:
        data = pipe.read()
    _, status = os.waitpid(child, 0)
    if not data:
        code = os.waitstatus_to_exitcode(status)
        raise ChildProcessError(f"the process that reads the configuration ended with {code}")
    records, result = pickle.loads(data)
    for record in records:
        logger = logging.getLogger(record.name)
        if logger.isEnabledFor(record.levelno):
            logger.handle(record)
    if isinstance(result, Exception):
        raise result
    assert isinstance(result, ProxyConfig)
    return result


def _configuration(args: argparse.Namespace, ask: Ask | None) -> ProxyConfig:
    from mcpproxy.proxy.config.access import add_access
    from mcpproxy.proxy.config.targets import from_file, from_target

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
        configuration = add_access(configuration, args.access, args.public_url)
        return _with_sign_ins(configuration, args)
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
    return _with_sign_ins(from_file(args.file, ask), args)


def _with_sign_ins(configuration: ProxyConfig, args: argparse.Namespace) -> ProxyConfig:
    from mcpproxy.proxy.config.sign_in.choice import choose_sign_ins

    is_person = is_at_terminal()
    is_http = transport_of(args) == "http"
    return choose_sign_ins(configuration, args, is_person=is_person, is_http=is_http)


def is_at_terminal() -> bool:
    """True if a person is at the other end of standard input and reads the log."""
    return is_terminal(sys.stdin) and is_terminal(sys.stderr)


def transport_of(args: argparse.Namespace) -> str:
    """Return `http` or `stdio`. A person at a terminal does not speak MCP."""
    if args.transport is not None:
        return str(args.transport)
    return "http" if args.file or is_at_terminal() else "stdio"
