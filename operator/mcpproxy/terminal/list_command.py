"""`mcpproxy list`: show the tools, prompts and resources that a server offers."""

import argparse
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

from mcp import Client, MCPError

from mcpproxy.api.manifest_errors import ManifestError
from mcpproxy.proxy import process
from mcpproxy.terminal.connection import (
    ConnectionFailed,
    add_target,
    build_target,
    run_client,
)
from mcpproxy.terminal.output import render_lists, report, to_json, write

KINDS: Final = ("tools", "prompts", "resources", "templates")
MAX_PAGES: Final = 1000
"""Maximum number of pages that are read of one list."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `mcpproxy list`."""
    add_target(parser)
    parser.add_argument(
        "kinds", nargs="*", metavar="KIND", help=f"{', '.join(KINDS)}; default: all"
    )


def main(args: argparse.Namespace) -> int:
    """Print the lists. Return 0, 1 if the server can't be asked, or 2 for wrong arguments."""
    process.log_to_stderr("error")
    unknown = [kind for kind in args.kinds if kind not in KINDS]
    if unknown:
        report(f"mcpproxy list: KIND: expected {', '.join(KINDS)}, found {unknown[0]!r}")
        return 2
    try:
        name, lists = process.run(_collect(args))
    except ManifestError as error:
        process.report_failure("mcpproxy list", error)
        return 2
    except (ConnectionFailed, MCPError) as error:
        report(f"mcpproxy list: {error}")
        return 1
    except KeyboardInterrupt:
        return process.INTERRUPTED
    write(to_json(lists) if args.output == "json" else render_lists(name, lists))
    return 0


async def _collect(args: argparse.Namespace) -> tuple[str, dict[str, Sequence[dict[str, Any]]]]:
    async def read(client: Client) -> tuple[str, dict[str, Sequence[dict[str, Any]]]]:
        wanted = args.kinds or KINDS
        lists = {kind: await read_list(client, kind) for kind in KINDS if kind in wanted}
        return _title(client, args.target), lists

    return await run_client(build_target(args), read)


async def read_list(client: Client, kind: str) -> Sequence[dict[str, Any]]:
    """Return all items of one kind as they were sent; none if the server doesn't offer the kind.

    Raise MCPError.
    """
    capabilities = client.server_capabilities
    capability = "resources" if kind == "templates" else kind
    if getattr(capabilities, capability, None) is None:
        return []
    read, member = _reader(client, kind)
    items: list[dict[str, Any]] = []
    cursor: str | None = None
    for _ in range(MAX_PAGES):
        page = await read(cursor=cursor)
        entries = getattr(page, member)
        items += [
            entry.model_dump(mode="json", by_alias=True, exclude_none=True) for entry in entries
        ]
        following = page.next_cursor
        if following is None or following == cursor:
            break
        cursor = following
    return items


def _reader(client: Client, kind: str) -> tuple[Callable[..., Awaitable[Any]], str]:
    return {
        "tools": (client.list_tools, "tools"),
        "prompts": (client.list_prompts, "prompts"),
        "resources": (client.list_resources, "resources"),
        "templates": (client.list_resource_templates, "resource_templates"),
    }[kind]


def _title(client: Client, target: str) -> str:
    info = client.server_info
    name = f"{info.name} {info.version}" if info is not None else "server"
    return f"{name} at {target} (MCP {client.protocol_version})"
