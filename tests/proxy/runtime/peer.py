"""A server with the SDK that asks, logs and reports in whichever era it is spoken to."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import mcp_types as t
from mcp.server import Server
from mcp.server.subscriptions import InMemorySubscriptionBus, ListenHandler, ToolsListChanged
from mcp.shared.exceptions import MCPError
from mcp_types.version import MODERN_PROTOCOL_VERSIONS

from tests.proxy.runtime.serving import Gate

Tool = Callable[[Any, Any], Awaitable[t.CallToolResult]]
PAGE = 4


class InputNeeded(Exception):
    """Ends a handler: its result is the InputRequiredResult."""


def text(*result: str, **members: Any) -> t.CallToolResult:
    """A result of text."""
    content: list[Any] = [t.TextContent(type="text", text=item) for item in result]
    return t.CallToolResult(content=content, **members)


class Peer:
    """One server, its state and the app that serves it."""

    def __init__(self, name: str = "peer", era: str = "dual") -> None:
        self.url = ""
        """URL of the server."""
        self.bus = InMemorySubscriptionBus()
        self.started = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.release = asyncio.Event()
        self.sessions: set[Any] = set()
        self.tools: dict[str, Tool] = {
            "echo": self.echo,
            "sample": self.sample,
            "elicit": self.elicit,
            "roots": self.roots,
            "noisy": self.noisy,
            "slow": self.slow,
            "link": self.link,
            "fail": self.fail,
            "whoami": self.whoami,
        }
        self.needs: dict[str, str] = {}
        """Tools that are listed only to clients that declare a capability."""
        self.descriptions: dict[str, str] = {}
        """Annotations of the tools."""
        self.server: Server[Any] = Server(
            name,
            version="1.0",
            instructions=f"About {name}.",
            on_list_tools=self.list_tools,
            on_call_tool=self.call_tool,
            on_list_resources=self.list_resources,
            on_list_resource_templates=self.list_templates,
            on_read_resource=self.read_resource,
            on_list_prompts=self.list_prompts,
            on_get_prompt=self.get_prompt,
            on_completion=self.complete,
            on_set_logging_level=self.set_level,
            on_subscriptions_listen=ListenHandler(self.bus),
        )
        self.gate = Gate(self.server.streamable_http_app(), era)

    # Lists

    async def list_tools(self, c: Any, p: Any) -> t.ListToolsResult:
        """Four tools a page."""
        self.sessions.add(c.session)
        declared = c.session.client_capabilities
        known = declared.model_dump(exclude_none=True) if declared else {}
        shown = [name for name in self.tools if self.needs.get(name, "") in {"", *known}]
        start = int(p.cursor) if p is not None and p.cursor else 0
        names = shown[start : start + PAGE]
        more = start + PAGE < len(shown)
        return t.ListToolsResult(
            tools=[
                t.Tool(
                    name=name,
                    description=self.descriptions.get(name),
                    input_schema={"type": "object"},
                )
                for name in names
            ],
            next_cursor=str(start + PAGE) if more else None,
        )

    async def list_resources(self, c: Any, p: Any) -> t.ListResourcesResult:
        """One resource of each kind of URI."""
        uris = ("file:///etc/motd", "mailto:someone@example.com")
        return t.ListResourcesResult(resources=[t.Resource(uri=uri, name="r") for uri in uris])

    async def list_templates(self, c: Any, p: Any) -> t.ListResourceTemplatesResult:
        """One template."""
        template = t.ResourceTemplate(uri_template="note://{id}", name="note")
        return t.ListResourceTemplatesResult(resource_templates=[template])

    async def list_prompts(self, c: Any, p: Any) -> t.ListPromptsResult:
        """One prompt."""
        argument = t.PromptArgument(name="who", required=True)
        return t.ListPromptsResult(prompts=[t.Prompt(name="greet", arguments=[argument])])

    # Reads

    async def read_resource(self, c: Any, p: Any) -> t.ReadResourceResult:
        """The URI itself, as text."""
        uri = str(p.uri)
        if uri.startswith("missing:"):
            raise MCPError(code=-32602, message="Resource not found", data={"uri": uri})
        return t.ReadResourceResult(contents=[t.TextResourceContents(uri=uri, text=uri)])

    async def get_prompt(self, c: Any, p: Any) -> t.GetPromptResult:
        """A greeting with a resource in it."""
        who = (p.arguments or {}).get("who", "?")
        note = t.TextResourceContents(uri="note://1", text=f"hello {who}")
        content = t.EmbeddedResource(type="resource", resource=note)
        return t.GetPromptResult(messages=[t.PromptMessage(role="user", content=content)])

    async def complete(self, c: Any, p: Any) -> t.CompleteResult:
        """Complete with the requested value and its reference."""
        of = getattr(p.ref, "name", None) or getattr(p.ref, "uri", "")
        result = t.Completion(values=[f"{of}:{p.argument.value}"], total=1, has_more=False)
        return t.CompleteResult(completion=result)

    async def set_level(self, c: Any, p: Any) -> t.EmptyResult:
        """Taken note of by the SDK."""
        return t.EmptyResult()

    # Tools

    async def call_tool(self, c: Any, p: Any) -> Any:
        if p.name not in self.tools:
            raise MCPError(code=t.INVALID_PARAMS, message=f"Unknown tool: {p.name}")
        try:
            return await self.tools[p.name](c, p)
        except InputNeeded as needed:
            return needed.args[0]

    async def answers(self, c: Any, p: Any, **requests: Any) -> dict[str, Any]:
        """The client's answers: asked for on the spot, or through an InputRequiredResult."""
        if c.protocol_version in MODERN_PROTOCOL_VERSIONS:
            value = p.input_responses or {}
            if set(requests) <= set(value):
                return dict(value)
            raise InputNeeded(t.InputRequiredResult(input_requests=requests))
        result = {}
        for key, request in requests.items():
            params, session = request.params, c.session
            if isinstance(request, t.ElicitRequest):
                result[key] = await session.elicit_form(
                    params.message, params.requested_schema, related_request_id=c.request_id
                )
            elif isinstance(request, t.CreateMessageRequest):
                result[key] = await session.create_message(
                    messages=params.messages, max_tokens=9, related_request_id=c.request_id
                )
            else:
                result[key] = await session.list_roots()
        return result

    async def echo(self, c: Any, p: Any) -> t.CallToolResult:
        """The arguments."""
        return text(json.dumps(p.arguments), structured_content=p.arguments or {})

    async def sample(self, c: Any, p: Any) -> t.CallToolResult:
        """Return the reply of the client's model."""
        prompt = t.TextContent(type="text", text=(p.arguments or {}).get("prompt", ""))
        params = t.CreateMessageRequestParams(
            messages=[t.SamplingMessage(role="user", content=prompt)], max_tokens=9
        )
        asked = await self.answers(c, p, q=t.CreateMessageRequest(params=params))
        return text(f"model: {asked['q'].content.text}")

    async def elicit(self, c: Any, p: Any) -> t.CallToolResult:
        """Return the reply of the client's user."""
        schema: Any = {"type": "object", "properties": {"name": {"type": "string"}}}
        params = t.ElicitRequestFormParams(message="Who?", requested_schema=schema)
        asked = await self.answers(c, p, q=t.ElicitRequest(params=params))
        return text(f"user: {asked['q'].content['name']}")

    async def roots(self, c: Any, p: Any) -> t.CallToolResult:
        """The client's roots."""
        asked = await self.answers(c, p, q=t.ListRootsRequest())
        return text(*(str(root.uri) for root in asked["q"].roots))

    async def noisy(self, c: Any, p: Any) -> t.CallToolResult:
        """Logs once and reports progress twice."""
        said = (p.arguments or {}).get("say", "")
        await c.session.send_log_message("warning", said, related_request_id=c.request_id)
        for done in (1, 2):
            await c.session.report_progress(done, 2, said)
        return text(said)

    async def slow(self, c: Any, p: Any) -> t.CallToolResult:
        """Ends when it is released, or cancelled."""
        self.started.set()
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return text("slow")

    async def link(self, c: Any, p: Any) -> t.CallToolResult:
        """A link to a resource."""
        return t.CallToolResult(
            content=[t.ResourceLink(type="resource_link", uri="note://7", name="n")]
        )

    async def fail(self, c: Any, p: Any) -> t.CallToolResult:
        """An error of the tool."""
        return text("it broke", is_error=True)

    async def whoami(self, c: Any, p: Any) -> t.CallToolResult:
        """Return the capabilities that the client declares."""
        result = c.session.client_capabilities
        return text(json.dumps(result.model_dump(exclude_none=True) if result else {}))

    async def grow(self, name: str, needs: str | None = None) -> None:
        """Add a tool, perhaps only for some clients, and announce it in both eras."""
        self.tools[name] = self.echo
        if needs is not None:
            self.needs[name] = needs
        await self.announce()

    async def announce(self) -> None:
        """Say in both eras that the tools changed."""
        await self.bus.publish(ToolsListChanged())
        for session in list(self.sessions):
            await session.send_tool_list_changed()
