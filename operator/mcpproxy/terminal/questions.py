"""Questions of a server during a call, answered by the person at the terminal."""

import asyncio
import json
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final

from mcp import types
from mcp.client.context import ClientRequestContext

from mcpproxy.terminal.arguments import ArgumentError, parse_arguments
from mcpproxy.terminal.output import render_text, report

REFUSED: Final = -1
"""JSON-RPC error code with which SDKs answer for users who refuse."""
Ask = Callable[[str], str]


class Terminal:
    """The person at the terminal, if there is one."""

    def __init__(self, ask: Ask | None) -> None:
        """`ask` returns the answer to a question; None if there is nobody to ask."""
        self._ask = ask

    async def elicit(
        self, context: ClientRequestContext, params: types.ElicitRequestParams
    ) -> types.ElicitResult | types.ErrorData:
        """Answer an elicitation: the fields of a form, or consent to open a URL."""
        self._show("the server asks", params.message)
        if self._ask is None:
            report("declined: standard input is not a terminal")
            return types.ElicitResult(action="decline")
        try:
            if isinstance(params, types.ElicitRequestURLParams):
                report(f"open {params.url}")
                return types.ElicitResult(action=await self._consent("did you open it?"))
            content = await self._fill(params.requested_schema)
        except EOFError:
            return types.ElicitResult(action="cancel")
        return types.ElicitResult(action="accept", content=content)

    async def sample(
        self, context: ClientRequestContext, params: types.CreateMessageRequestParams
    ) -> types.CreateMessageResult | types.ErrorData:
        """Let the person write what the server asks a model for."""
        for message in params.messages:
            for block in message.content_as_list:
                text = getattr(block, "text", None)
                self._show(f"the server asks a model ({message.role})", text or f"[{block.type}]")
        if self._ask is None:
            reason = "no model is available, and standard input is not a terminal"
            return types.ErrorData(code=REFUSED, message=reason)
        try:
            text = await self._answer("answer as the model: ")
        except EOFError:
            return types.ErrorData(code=REFUSED, message="the user refused")
        content = types.TextContent(type="text", text=text)
        return types.CreateMessageResult(role="assistant", content=content, model="human")

    async def log(self, params: types.LoggingMessageNotificationParams) -> None:
        """Show a log message of the server."""
        data = params.data if isinstance(params.data, str) else json.dumps(params.data)
        report(f"{params.level}: {data}")

    async def progress(self, progress: float, total: float | None, message: str | None) -> None:
        """Show the progress of a call."""
        share = f"{progress:g}" if not total else f"{progress:g} of {total:g}"
        report(f"progress: {share} {message or ''}".rstrip())

    def _show(self, title: str, text: str) -> None:
        for line in render_text(text).split("\n"):
            report(f"{title}: {line}")

    async def _answer(self, question: str) -> str:
        assert self._ask is not None
        return await asyncio.to_thread(self._ask, question)

    async def _consent(self, question: str) -> Any:
        answer = await self._answer(f"{question} [y/N] ")
        return "accept" if answer.strip().lower() in ("y", "yes") else "decline"

    async def _fill(self, schema: Mapping[str, Any]) -> dict[str, Any]:
        """Ask for each field of a form until its value fits the schema."""
        properties = schema.get("properties")
        required = schema.get("required") or []
        content: dict[str, Any] = {}
        for name, member in (properties if isinstance(properties, dict) else {}).items():
            while True:
                answer = await self._answer(_question(name, member, optional=name not in required))
                if not answer and name not in required:
                    break
                try:
                    content |= parse_arguments([f"{name}={answer}"], None, _only(name, member))
                    break
                except ArgumentError as error:
                    report(str(error))
        return content


def _only(name: str, member: Any) -> dict[str, Any]:
    return {"properties": {name: member}}


def _question(name: str, member: Any, *, optional: bool) -> str:
    facts = member if isinstance(member, dict) else {}
    title = facts.get("title") or name
    choices = facts.get("enum")
    hint = ", ".join(map(str, choices)) if isinstance(choices, list) else str(facts.get("type", ""))
    return render_text(f"{title} ({hint}{', optional' if optional else ''}): ")


def terminal_of_user() -> Ask | None:
    """Return a function that asks on standard error; None if standard input is not a terminal."""
    return _ask_on_stderr if sys.stdin is not None and sys.stdin.isatty() else None


def _ask_on_stderr(question: str) -> str:
    sys.stderr.write(question)
    sys.stderr.flush()
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line.rstrip("\n")
