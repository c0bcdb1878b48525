"""Connection to the server that the command line names, as a client of the official SDK."""

import argparse
import asyncio
import os
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeVar

import httpx2
from mcp import Client, MCPError, StdioServerParameters
from mcp.client.streamable_http import streamable_http_client
from pydantic import ValidationError

from mcpproxy.api.manifest_errors import ManifestError
from mcpproxy.plan.credentials import TOKEN, add_credentials, redact_values, request_headers
from mcpproxy.plan.port_forward import port_forward, proxy_of
from mcpproxy.proxy.config.options import parse_seconds
from mcpproxy.proxy.config.targets import from_target, is_url
from mcpproxy.proxy.config.variables import Ask, InputPrompt
from mcpproxy.terminal.prompts import ask_of_user

Result = TypeVar("Result")
TIMEOUT: Final = 30.0
EXAMPLES: Final = "a URL, server.py, server.js, mcp.json, an MCPProxy's YAML file, or mcpproxy/NAME"


class ConnectionFailed(Exception):
    """The server can't be reached, or its reply is missing or not valid; the message names the
    server and the reason."""


@dataclass(frozen=True, slots=True)
class Target:
    """A server to connect to."""

    name: str
    """A URL, a file that `mcpproxy run` accepts, or `mcpproxy/NAME` for a proxy in the cluster."""
    namespace: str | None = None
    """Namespace of the proxy in the cluster; None for that of kubectl's context."""
    context: str | None = None
    """Context of kubectl; None for the current one."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Headers of HTTP requests."""
    timeout: float = TIMEOUT
    """Timeout in seconds for the connection."""


def add_target(parser: argparse.ArgumentParser) -> None:
    """Declare the target and the options of the connection."""
    add = parser.add_argument
    add("target", metavar="TARGET", help=f"{EXAMPLES} for a proxy in the cluster, through kubectl")
    add("-n", "--namespace", metavar="NS", help="namespace of mcpproxy/NAME")
    add("--context", metavar="NAME", help="context of kubectl for mcpproxy/NAME")
    add_credentials(parser)
    add("-o", "--output", choices=("text", "json"), default="text", help="%(default)s")
    add(
        "--timeout",
        type=parse_seconds,
        default=TIMEOUT,
        metavar="SECONDS",
        help="time limit for the connection (%(default)g)",
    )


def build_target(args: argparse.Namespace) -> Target:
    """Return the target that the arguments name. Raise ManifestError."""
    over_http = is_url(args.target) or proxy_of(args.target) is not None
    headers = request_headers(args, over_http=over_http)
    return Target(args.target, args.namespace, args.context, headers, args.timeout)


async def run_client(
    target: Target, work: Callable[[Client], Awaitable[Result]], **callbacks: Any
) -> Result:
    """Return the result of `work` with a connected client; `callbacks` are those of the client.

    Raise ConnectionFailed, ManifestError if the target is not valid, or the error of `work`.
    """
    # Errors inside of the SDK's task groups would be raised as groups of errors.
    failure: Exception | None = None
    async with AsyncExitStack() as stack:
        client = await _connect(target, stack, callbacks)
        try:
            result = await work(client)
        except ValidationError as error:
            failure = ConnectionFailed(f"{target.name}: {_describe_invalid(error)}")
        except Exception as error:
            failure = error
    if failure is not None:
        raise failure
    return result


async def _connect(target: Target, stack: AsyncExitStack, callbacks: Mapping[str, Any]) -> Client:
    server: Any
    mode: Literal["legacy", "auto"] = "auto"
    url = await _url(target, stack)
    if url is None:
        # The SDK gives up its first request after 10 seconds, in which a program may not start.
        server, mode = _program(target), "legacy"
    else:
        http = await stack.enter_async_context(_http_client(target))
        server = streamable_http_client(url, http_client=http)
    try:
        async with asyncio.timeout(target.timeout):
            return await stack.enter_async_context(Client(server, mode=mode, **callbacks))
    except TimeoutError:
        raise ConnectionFailed(
            f"{target.name}: no answer within the {target.timeout:g} s of --timeout"
        ) from None
    except ValidationError as error:
        raise ConnectionFailed(f"{target.name}: {_describe_invalid(error)}") from None
    except (MCPError, OSError, ExceptionGroup, RuntimeError, httpx2.HTTPError) as error:
        cause = redact_values(_first_cause(error), target.headers)
        raise ConnectionFailed(f"{target.name}: {cause}") from error


def _describe_invalid(error: ValidationError) -> str:
    """Return the first field of a reply that is not as MCP says, and the reason."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    path = ".".join(str(part) for part in first["loc"])
    return f"the reply is not valid MCP: {error.title}.{path}: {first['msg']}"


async def _url(target: Target, stack: AsyncExitStack) -> str | None:
    """Return the URL of the target; None if it is a file."""
    if is_url(target.name):
        return target.name
    proxy = proxy_of(target.name)
    if proxy is None:
        return None
    forwarded = port_forward(proxy, target.namespace, target.timeout, target.context)
    return await stack.enter_async_context(forwarded)


def _program(target: Target) -> StdioServerParameters:
    """Return the runtime for a file, as a program on standard streams."""
    if target.headers:
        raise ManifestError(f"-H: {target.name} does not use HTTP, so headers cannot be sent")
    # Errors of the file are reported here, not by the program.
    answers: dict[str, str] = {}
    from_target(target.name, _recording(ask_of_user(), answers))
    arguments = ["-m", "mcpproxy", "run", target.name, "--transport", "stdio"]
    arguments += ["--log-level", "error"]
    # The token is for servers over HTTP.
    env = {name: value for name, value in os.environ.items() if name != TOKEN}
    env |= answers
    return StdioServerParameters(command=sys.executable, args=arguments, env=env)


def _recording(ask: Ask | None, answers: dict[str, str]) -> Ask | None:
    """Return `ask` with its answers kept as environment variables of the program."""
    if ask is None:
        return None

    def record(prompt: InputPrompt) -> str:
        answers[prompt.variable] = ask(prompt)
        return answers[prompt.variable]

    return record


def _http_client(target: Target) -> httpx2.AsyncClient:
    # A call may take minutes, and streams may be silent for as long.
    timeout = httpx2.Timeout(target.timeout, read=None)
    return httpx2.AsyncClient(headers=dict(target.headers), timeout=timeout)


def _first_cause(error: BaseException) -> str:
    """Return the message of the first error in a group of errors, on one line."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return " ".join(str(error).split()) or type(error).__name__
