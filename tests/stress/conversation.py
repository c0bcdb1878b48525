"""The conversation that each cell has, by the client of the Python SDK, and its outcomes."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from mcp import Client
from mcp.shared.exceptions import MCPError

LISTS: Final = ("tools", "prompts", "resources", "resourceTemplates")
MAX_PAGES: Final = 8
ERRORS: Final = (-32099, -32098)
"""Codes of the backends' own errors; others may be made by the client, too."""
_OF_ERAS: Final = ("resultType", "ttlMs", "cacheScope", "_meta")


@dataclass(frozen=True)
class Outcome:
    """The outcome of one step: a result, an error of the backend, or a failure of the client."""

    kind: str
    """`result`, `error`, `failed`, or `waiting` where nothing came in time."""
    value: Any = None


def allowed(direct: list[Outcome], through: Outcome) -> bool:
    """True if a client may get an outcome through the proxy where SDKs have these directly."""
    results = [item for item in direct if item.kind == "result"]
    if results:
        # A client may hide what is not declared, and list nothing: another one shows it.
        full = [result for result in results if result.value] or results
        return through in full
    errors = [entry for entry in direct if entry.kind == "error" and entry.value in ERRORS]
    if errors:
        return through in errors
    return through.kind != "waiting" or any(element.kind == "waiting" for element in direct)


async def outcome(step: Awaitable[Any], patience: float) -> Outcome:
    """The outcome of a step, which has to end within these seconds."""
    try:
        async with asyncio.timeout(patience):
            return Outcome("result", await step)
    except TimeoutError:
        return Outcome("waiting")
    except MCPError as error:
        return Outcome("error", error.code)
    except Exception as error:  # The client of the SDK raises what it likes.
        return Outcome("failed", f"{type(error).__name__}: {error}"[:200])


def canonical(value: Any) -> str:
    """A value as text by which items are told apart and sorted."""
    return json.dumps(value, sort_keys=True)


def _dumped(result: Any) -> Any:
    dumped = result.model_dump(mode="json", by_alias=True, exclude_none=True)
    return {name: value for name, value in dumped.items() if name not in _OF_ERAS}


async def listed(client: Client, kind: str) -> list[Any]:
    """All components of a kind, each once."""
    ask: Callable[..., Awaitable[Any]] = {
        "tools": client.list_tools,
        "prompts": client.list_prompts,
        "resources": client.list_resources,
        "resourceTemplates": client.list_resource_templates,
    }[kind]
    result: dict[str, Any] = {}
    cursor = None
    for _ in range(MAX_PAGES):
        page = await ask(cursor=cursor)
        for item in _dumped(page)[kind]:
            item.pop("_meta", None)
            result[canonical(item)] = item
        cursor = page.next_cursor
        if not cursor:
            break
    return list(result.values())


def calls(client: Client, prefix: str = "") -> dict[str, Callable[[], Awaitable[Any]]]:
    """The steps that are not lists; a prefix is the proxy's for the backend."""
    name = f"{prefix}_" if prefix else ""
    host = f"{prefix}/" if prefix else ""

    async def call(tool: str, **arguments: Any) -> Any:
        return _dumped(await client.call_tool(name + tool, arguments))

    async def prompt() -> Any:
        return _dumped(await client.get_prompt(f"{name}greet"))

    async def resource() -> Any:
        return undone(_dumped(await client.read_resource(f"x://{host}one")), prefix)

    return {
        "first call": lambda: call("echo", text="one"),
        "failing call": lambda: call("fail"),
        "prompt": prompt,
        "resource": resource,
        "second call": lambda: call("echo", text="two"),
    }


def own(items: list[Any], prefix: str) -> list[Any]:
    """The components of one backend in a list of the proxy, as the backend lists them."""
    results = []
    for item in items:
        if f"x://{prefix}/" in item.get("uri", item.get("uriTemplate", "")):
            results.append(undone(item, prefix))
        elif "uri" not in item and item["name"].startswith(f"{prefix}_"):
            results.append({**item, "name": item["name"].removeprefix(f"{prefix}_")})
    return sorted(results, key=canonical)


def undone(value: Any, prefix: str) -> Any:
    """A result without the proxy's prefix in its URIs."""
    if prefix:
        return json.loads(json.dumps(value).replace(f"x://{prefix}/", "x://"))
    return value


async def held(client: Client, patience: float) -> dict[str, Outcome]:
    """The outcomes of the steps with a backend directly, until one has none in time."""
    result: dict[str, Outcome] = {}
    steps = {kind: partial(_sorted, client, kind) for kind in LISTS} | calls(client)
    for step, call in steps.items():
        result[step] = await outcome(call(), patience)
        if result[step].kind == "waiting":
            break
    return result


async def _sorted(client: Client, kind: str) -> list[Any]:
    return sorted(await listed(client, kind), key=canonical)
