"""A server with several components of each kind, and what of it is to be shown."""

from typing import Any

import mcp_types as t

from tests.proxy.runtime.peer import Peer, text

RESOURCES = ("file:///pub/a", "file:///pub/off", "file:///pub/secret", "file:///etc/passwd")
TEMPLATES = ("note://{id}", "note://private/{id}", "log://{day}", "off://{id}")
PROMPTS = ("ask", "ask_admin", "off", "other")
TOOLS = ("get_a", "get_b_admin", "get_off", "set_a")

SELECTED: dict[str, Any] = {
    "tools": {
        "include": ["get_*"],
        "exclude": ["*_admin"],
        "overrides": [
            {"name": "get_a", "rename": "fetch", "title": "Fetch", "description": "Fetches."},
            {"name": "get_off", "enabled": False},
        ],
    },
    "prompts": {
        "include": ["ask*", "off"],
        "exclude": ["*_admin"],
        "overrides": [
            {"name": "ask", "rename": "inquire", "title": "Ask", "description": "Asks."},
            {"name": "off", "enabled": False},
        ],
    },
    "resources": {
        "include": ["file:///pub/*"],
        "exclude": ["*secret*"],
        "overrides": [
            {"name": "file:///pub/a", "title": "A", "description": "The first."},
            {"name": "file:///pub/off", "enabled": False},
        ],
    },
    "resourceTemplates": {
        "include": ["note://*", "off://*"],
        "exclude": ["note://private/*"],
        "overrides": [
            {"name": "note://{id}", "title": "Note", "description": "A note."},
            {"name": "off://{id}", "enabled": False},
        ],
    },
}


class Shelf(Peer):
    """Responses contain the requested name."""

    def __init__(self, name: str = "shelf", era: str = "dual") -> None:
        super().__init__(name, era)
        self.tools = dict.fromkeys(TOOLS, self.named)

    async def named(self, c: Any, p: Any) -> t.CallToolResult:
        """Its own name for the tool."""
        return text(p.name)

    async def list_prompts(self, c: Any, p: Any) -> t.ListPromptsResult:
        return t.ListPromptsResult(prompts=[t.Prompt(name=name) for name in PROMPTS])

    async def get_prompt(self, c: Any, p: Any) -> t.GetPromptResult:
        """Its own name for the prompt."""
        content = t.TextContent(type="text", text=p.name)
        return t.GetPromptResult(messages=[t.PromptMessage(role="user", content=content)])

    async def list_resources(self, c: Any, p: Any) -> t.ListResourcesResult:
        return t.ListResourcesResult(resources=[t.Resource(uri=u, name="r") for u in RESOURCES])

    async def list_templates(self, c: Any, p: Any) -> t.ListResourceTemplatesResult:
        results = [t.ResourceTemplate(uri_template=template, name="t") for template in TEMPLATES]
        return t.ListResourceTemplatesResult(resource_templates=results)
