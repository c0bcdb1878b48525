"""MCP clients: the Python SDK's, and the TypeScript SDK's as an npm package."""

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mcp import Client, StdioServerParameters
from mcp_types import TextContent

MODES = ("legacy", "2026-07-28")
NPM = Path(__file__).parent / "npm"


@dataclass(frozen=True)
class Catalog:
    """Lists of a server."""

    tools: frozenset[str]
    prompts: frozenset[str]
    resources: frozenset[str]
    templates: frozenset[str]

    def counts(self) -> dict[str, int]:
        """The same in numbers, named as in the status."""
        return {
            "tools": len(self.tools),
            "prompts": len(self.prompts),
            "resources": len(self.resources),
            "resourceTemplates": len(self.templates),
        }


async def catalog(target: str | StdioServerParameters, mode: str = "auto") -> Catalog:
    """Return the lists of a server, by its URL or by the command that starts it."""
    async with Client(target, mode=mode) as client:
        return Catalog(
            tools=frozenset(tool.name for tool in (await client.list_tools()).tools),
            prompts=frozenset(prompt.name for prompt in (await client.list_prompts()).prompts),
            resources=frozenset(
                str(resource.uri) for resource in (await client.list_resources()).resources
            ),
            templates=frozenset(
                template.uri_template
                for template in (await client.list_resource_templates()).resource_templates
            ),
        )


async def call(client: Client, tool: str, **arguments: Any) -> Any:
    """The structured answer of a tool, or else its text; fails the test if it is an error."""
    result = await client.call_tool(tool, arguments)
    text = " ".join(part.text for part in result.content if isinstance(part, TextContent))
    assert not result.is_error, f"{tool}: {text}"
    return result.structured_content or text


def npm_install() -> None:
    """Install the TypeScript SDK's client from its lock file."""
    npm = shutil.which("npm")
    assert npm is not None, "npm is needed: the stories use the TypeScript SDK's client, too"
    if not (NPM / "node_modules" / ".package-lock.json").exists():
        command = [npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
        subprocess.run(command, cwd=NPM, check=True, capture_output=True, timeout=300)


def npm_client(url: str, mode: str) -> Any:
    """Output of e2e/npm/client.mjs: its revision, all names, a response of each backend."""
    done = subprocess.run(
        ["node", "client.mjs", url, mode], cwd=NPM, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
