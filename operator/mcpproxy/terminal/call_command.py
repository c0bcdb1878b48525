"""`mcpproxy call`: call a tool of a server."""

import argparse
import difflib
import json
from typing import Any

from mcp import Client, MCPError, types

from mcpproxy.api.manifest_errors import ManifestError
from mcpproxy.proxy import process
from mcpproxy.terminal import questions
from mcpproxy.terminal.arguments import ArgumentError, parse_arguments
from mcpproxy.terminal.connection import (
    ConnectionFailed,
    add_target,
    build_target,
    run_client,
)
from mcpproxy.terminal.list_command import read_list
from mcpproxy.terminal.output import render_text, report, to_json, write


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options of `mcpproxy call`."""
    add_target(parser)
    add = parser.add_argument
    add("tool", metavar="TOOL", help="name of the tool")
    add(
        "arguments",
        nargs="*",
        metavar="NAME=VALUE",
        help="argument, typed by the tool's input schema; NAME:=JSON for a value of any type",
    )
    add("--json", metavar="OBJECT", help="arguments as a JSON object")


def main(args: argparse.Namespace) -> int:
    """Print the result. Return 0, 1 if the call failed, or 2 for wrong arguments."""
    process.log_to_stderr("error")
    try:
        result = process.run(_call(args))
    except (ManifestError, ArgumentError) as error:
        process.report_failure("mcpproxy call", error)
        return 2
    except (ConnectionFailed, MCPError) as error:
        report(f"mcpproxy call: {error}")
        return 1
    except KeyboardInterrupt:
        return process.INTERRUPTED
    content = result.model_dump(mode="json", by_alias=True, exclude_none=True)
    write(to_json(content) if args.output == "json" else render_result(content))
    return 1 if result.is_error else 0


async def _call(args: argparse.Namespace) -> types.CallToolResult:
    terminal = questions.Terminal(questions.terminal_of_user())

    async def call(client: Client) -> types.CallToolResult:
        schema = await _schema_of(client, args.tool)
        arguments = parse_arguments(args.arguments, args.json, schema)
        return await client.call_tool(args.tool, arguments, progress_callback=terminal.progress)

    return await run_client(
        build_target(args),
        call,
        sampling_callback=terminal.sample,
        elicitation_callback=terminal.elicit,
        logging_callback=terminal.log,
    )


async def _schema_of(client: Client, name: str) -> dict[str, Any]:
    """Return the input schema of a tool. Raise ArgumentError if the server has no such tool."""
    tools = {str(tool.get("name")): tool for tool in await read_list(client, "tools")}
    if name not in tools:
        near = difflib.get_close_matches(name, tools, 1)
        hint = f"; did you mean {near[0]}?" if near else f"; it has {len(tools)} tools"
        raise ArgumentError(f"TOOL: the server has no tool {name!r}{hint} (see mcpproxy list)")
    schema = tools[name].get("inputSchema")
    return schema if isinstance(schema, dict) else {}


def render_result(content: dict[str, Any]) -> str:
    """Return the result of a tool as text: its text blocks, and other blocks by their type."""
    blocks = [_block(block) for block in content.get("content") or ()]
    if not blocks and content.get("structuredContent") is not None:
        blocks = [json.dumps(content["structuredContent"], indent=2)]
    return "".join(f"{block}\n" for block in blocks)


def _block(block: dict[str, Any]) -> str:
    kind = block.get("type")
    if kind == "text":
        return render_text(str(block.get("text", "")))
    if kind == "resource_link":
        return render_text(f"[resource {block.get('uri')}]")
    if kind == "resource":
        resource = block.get("resource") or {}
        text = resource.get("text")
        return render_text(text if isinstance(text, str) else f"[resource {resource.get('uri')}]")
    size = len(str(block.get("data", "")))
    return render_text(f"[{kind} {block.get('mimeType', '')}, {size} characters of base64]")
