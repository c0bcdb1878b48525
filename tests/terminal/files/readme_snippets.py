# ruff: noqa: E501
"""Configurations of five popular servers, in the forms of their READMEs, and what becomes of them."""

import json
from dataclasses import dataclass, field
from typing import Any, Final

GITHUB: Final = "https://api.githubcopilot.com/mcp/"
CONTEXT7: Final = "https://mcp.context7.com/mcp"
KEY: Final = "ctx7sk-1f0c2a9b8d7e"
TOKEN: Final = "ntn_4471123456789abcdefghij"


@dataclass(frozen=True, slots=True)
class Snippet:
    """A configuration, and a part of its only backend or of the error about it."""

    text: str
    expected: dict[str, Any] = field(default_factory=dict)
    error: str = ""
    suffix: str = ".json"
    secret: str = ""
    """Secret that a conversion leaves out."""


def _json(content: Any, **more: Any) -> Snippet:
    return Snippet(json.dumps(content, indent=2), **more)


def _input(name: str) -> dict[str, Any]:
    prompt = "GitHub Personal Access Token"
    return {"type": "promptString", "id": name, "description": prompt, "password": True}


_DOCKER: Final = [
    "run",
    "-i",
    "--rm",
    "-e",
    "GITHUB_PERSONAL_ACCESS_TOKEN",
    "ghcr.io/github/github-mcp-server",
]
_FILES: Final = ["-y", "@modelcontextprotocol/server-filesystem"]
_NPX_7: Final = ["-y", "@upstash/context7-mcp", "--api-key", KEY]
_NOTION: Final = json.dumps({"Authorization": f"Bearer {TOKEN}", "Notion-Version": "2022-06-28"})
_HEADERS: Final = {"CONTEXT7_API_KEY": KEY}
_SENT: Final = [{"name": "CONTEXT7_API_KEY", "value": KEY}]

SNIPPETS: Final[dict[str, Snippet]] = {
    "GitHub, VS Code, OAuth": _json(
        {"servers": {"github": {"type": "http", "url": GITHUB}}}, expected={"url": GITHUB}
    ),
    "GitHub, VS Code, token": _json(
        {
            "servers": {
                "github": {
                    "type": "http",
                    "url": GITHUB,
                    "headers": {"Authorization": "Bearer ${input:github_mcp_pat}"},
                }
            },
            "inputs": [_input("github_mcp_pat")],
        },
        error="set the environment variable MCPPROXY_INPUT_GITHUB_MCP_PAT",
    ),
    "GitHub, VS Code settings, Docker": _json(
        {
            "mcp": {
                "inputs": [_input("github_token")],
                "servers": {
                    "github": {
                        "command": "docker",
                        "args": _DOCKER,
                        "env": {"GITHUB_PERSONAL_ACCESS_TOKEN": "${input:github_token}"},
                    }
                },
            }
        },
        error="set the environment variable MCPPROXY_INPUT_GITHUB_TOKEN",
    ),
    "GitHub, Codex": Snippet(
        f'[mcp_servers.github]\nurl = "{GITHUB}"\nbearer_token_env_var = "GITHUB_PAT_TOKEN"\n',
        error="the environment variable GITHUB_PAT_TOKEN is not set",
        suffix=".toml",
    ),
    "Playwright, npx": _json(
        {"mcpServers": {"playwright": {"command": "npx", "args": ["@playwright/mcp@latest"]}}},
        expected={"stdio": {"command": "npx", "args": ["@playwright/mcp@latest"]}},
    ),
    "Playwright, URL": _json(
        {"mcpServers": {"playwright": {"url": "http://localhost:8931/sse"}}},
        expected={"url": "http://localhost:8931/sse"},
    ),
    "Playwright, opencode": _json(
        {
            "$schema": "https://opencode.ai/config.json",
            "mcp": {
                "playwright": {
                    "type": "local",
                    "command": ["npx", "@playwright/mcp@latest"],
                    "enabled": True,
                }
            },
        },
        expected={"stdio": {"command": "npx", "args": ["@playwright/mcp@latest"]}},
    ),
    "Context7, Cursor": _json(
        {"mcpServers": {"context7": {"url": CONTEXT7, "headers": _HEADERS}}},
        expected={"url": CONTEXT7, "headers": _SENT},
        secret=KEY,
    ),
    "Context7, Windsurf": _json(
        {"mcpServers": {"context7": {"serverUrl": CONTEXT7, "headers": _HEADERS}}},
        expected={"url": CONTEXT7, "headers": _SENT},
        secret=KEY,
    ),
    "Context7, Cline": _json(
        {
            "mcpServers": {
                "context7": {
                    "url": CONTEXT7,
                    "type": "streamableHttp",
                    "headers": {"Authorization": f"Bearer {KEY}"},
                }
            }
        },
        expected={"url": CONTEXT7, "transport": "streamable-http"},
        secret=KEY,
    ),
    "Context7, Gemini": _json(
        {
            "mcpServers": {
                "context7": {
                    "httpUrl": CONTEXT7,
                    "headers": {**_HEADERS, "Accept": "application/json, text/event-stream"},
                }
            }
        },
        expected={"url": CONTEXT7},
        secret=KEY,
    ),
    "Context7, Zed": _json(
        {"context_servers": {"Context7": {"source": "custom", "command": "npx", "args": _NPX_7}}},
        expected={"stdio": {"command": "npx", "args": _NPX_7}},
        secret=KEY,
    ),
    "Context7, older Zed": _json(
        {
            "context_servers": {
                "Context7": {"command": {"path": "npx", "args": _NPX_7}, "settings": {}}
            }
        },
        expected={"stdio": {"command": "npx", "args": _NPX_7}},
        secret=KEY,
    ),
    "Context7, opencode": _json(
        {
            "mcp": {
                "context7": {
                    "type": "remote",
                    "url": CONTEXT7,
                    "headers": _HEADERS,
                    "enabled": True,
                }
            }
        },
        expected={"url": CONTEXT7, "headers": _SENT},
        secret=KEY,
    ),
    "Context7, VS Code fragment": Snippet(
        f'"mcp": {{\n  "servers": {{\n    "context7": {{"type": "http", "url": "{CONTEXT7}", "headers": {{"CONTEXT7_API_KEY": "{KEY}"}}}}\n  }}\n}}',
        expected={"url": CONTEXT7, "headers": _SENT},
        secret=KEY,
    ),
    "Context7, Codex": Snippet(
        f'[mcp_servers.context7]\nargs = ["-y", "@upstash/context7-mcp", "--api-key", "{KEY}"]\ncommand = "npx"\nstartup_timeout_ms = 20_000\n',
        expected={
            "stdio": {"command": "npx", "args": _NPX_7},
            "timeouts": {"initialize": "20000ms"},
        },
        suffix=".toml",
        secret=KEY,
    ),
    "Context7, Codex, URL": Snippet(
        f'[mcp_servers.context7]\nurl = "{CONTEXT7}"\nhttp_headers = {{ "CONTEXT7_API_KEY" = "{KEY}" }}\n',
        expected={"url": CONTEXT7, "headers": _SENT},
        suffix=".toml",
        secret=KEY,
    ),
    "Context7, Copilot agent": _json(
        {
            "mcpServers": {
                "context7": {
                    "type": "http",
                    "url": CONTEXT7,
                    "headers": _HEADERS,
                    "tools": ["query-docs", "resolve-library-id"],
                }
            }
        },
        expected={"tools": {"include": ["query-docs", "resolve-library-id"]}},
        secret=KEY,
    ),
    "Filesystem, npx": _json(
        {"mcpServers": {"filesystem": {"command": "npx", "args": [*_FILES, "/home/me/Desktop"]}}},
        expected={"stdio": {"command": "npx", "args": [*_FILES, "/home/me/Desktop"]}},
    ),
    "Filesystem, VS Code": _json(
        {"servers": {"filesystem": {"command": "npx", "args": [*_FILES, "${workspaceFolder}"]}}},
        expected={"stdio": {"command": "npx", "args": [*_FILES, "CWD"]}},
    ),
    "Filesystem, Docker": _json(
        {
            "mcpServers": {
                "filesystem": {
                    "command": "docker",
                    "args": [
                        "run",
                        "-i",
                        "--rm",
                        "--mount",
                        "type=bind,src=/home/me,dst=/projects",
                        "mcp/filesystem",
                        "/projects",
                    ],
                }
            }
        },
        expected={
            "stdio": {
                "command": "docker",
                "args": [
                    "run",
                    "-i",
                    "--rm",
                    "--mount",
                    "type=bind,src=/home/me,dst=/projects",
                    "mcp/filesystem",
                    "/projects",
                ],
            }
        },
    ),
    "Notion, npx": _json(
        {
            "mcpServers": {
                "notionApi": {
                    "command": "npx",
                    "args": ["-y", "@notionhq/notion-mcp-server"],
                    "env": {"OPENAPI_MCP_HEADERS": _NOTION},
                }
            }
        },
        expected={
            "stdio": {
                "command": "npx",
                "args": ["-y", "@notionhq/notion-mcp-server"],
                "env": [{"name": "OPENAPI_MCP_HEADERS", "value": _NOTION}],
            }
        },
        secret=TOKEN,
    ),
}
