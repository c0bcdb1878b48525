"""The conversation of each cell by the client of the TypeScript SDK, where that is installed."""

import asyncio
import json
from collections.abc import Mapping
from typing import Any, Final

from scripts import npm
from tests.stress.conversation import LISTS, Outcome, canonical
from tests.stress.misbehaving_texts import OLD, STDIO
from tests.stress.misbehaviours import LEGACY, REVISIONS

INSTALLED: Final = npm.NODE.exists() and (npm.MODULES / "@modelcontextprotocol/client").exists()
_TRANSPORTS: Final = {OLD: "sse", STDIO: "stdio"}
_OF_ERAS: Final = ("resultType", "ttlMs", "cacheScope", "_meta")
_STEPS: Final[dict[str, Any]] = {
    "tools": {"method": "tools/list"},
    "prompts": {"method": "prompts/list"},
    "resources": {"method": "resources/list"},
    "resourceTemplates": {"method": "resources/templates/list"},
    "first call": {
        "method": "tools/call",
        "params": {"name": "echo", "arguments": {"text": "one"}},
    },
    "failing call": {"method": "tools/call", "params": {"name": "fail", "arguments": {}}},
    "prompt": {"method": "prompts/get", "params": {"name": "greet"}},
    "resource": {"method": "resources/read", "params": {"uri": "x://one"}},
    "second call": {
        "method": "tools/call",
        "params": {"name": "echo", "arguments": {"text": "two"}},
    },
}


def target(transport: str, era: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    """A backend as the client gets it, by its specification."""
    program = spec.get("stdio")
    command = [program["command"], *program["args"]] if program else spec["url"]
    mode = "legacy" if era == LEGACY else REVISIONS[era]
    return {"transport": _TRANSPORTS.get(transport, "http"), "target": command, "mode": mode}


async def held(
    targets: Mapping[str, dict[str, Any]], patience: float, abreast: int
) -> dict[str, dict[str, Outcome]]:
    """The outcomes of the steps, by the names of the backends."""
    value = {
        "targets": targets,
        "steps": _STEPS,
        "patience": int(patience * 1000),
        "abreast": abreast,
    }
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        str(npm.NODE), "matrix.mjs", cwd=npm.PEERS, stdin=pipe, stdout=pipe
    )
    printed, _ = await process.communicate(json.dumps(value).encode())
    document: dict[str, dict[str, Any]] = json.loads(printed)
    return {
        name: {step: _outcome(step, item) for step, item in steps.items()}
        for name, steps in document.items()
    }


def _outcome(step: str, actual: dict[str, Any]) -> Outcome:
    if "waiting" in actual:
        return Outcome("waiting")
    if "code" in actual:
        return Outcome("error", actual["code"])
    if "failed" in actual:
        return Outcome("failed", actual["failed"])
    result = actual["result"]
    if step in LISTS:
        items = [{k: v for k, v in item.items() if k != "_meta"} for item in result]
        once = {canonical(item): item for item in items}
        return Outcome("result", [once[key] for key in sorted(once)])
    kept = {name: value for name, value in result.items() if name not in _OF_ERAS}
    if "content" in kept:
        kept.setdefault("isError", False)
    return Outcome("result", kept)
